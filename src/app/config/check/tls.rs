//! What a listener says of TLS: keys that need each other, and the files that they name.
//!
//! Files are read here so that what is wrong with one is told with the line that names it. The server reads them once
//! more when it starts, and then whenever they change.

use super::super::draft::Section;
use super::super::forms;
use super::super::keys::{CertificateDraft, ListenerDraft, TlsDraft, VerifyDraft};
use super::super::model::{CertificateFiles, ClientCertificates, Server, TicketSettings, TlsSettings};
use super::super::report::Report;
use crate::control::certificates::{self, Fault, Place};
use std::path::{Path, PathBuf};

type Listener = Section<ListenerDraft>;

/// Notes keys that are missing beside others, or too many.
pub(super) fn check_tls(section: &Listener, report: &mut Report<'_>) {
    if !section.gives("tls") || section.refused.iter().any(|key| key == "tls") {
        return;
    }
    let singles = ["certificate", "key", "ocsp"].map(|key| format!("tls.{key}"));
    let several = section.gives("tls.certificates");
    for key in singles.iter().filter(|key| several && section.gives(key)) {
        report.note_key(section, key, "stands beside `certificates` — write it into the first of these".into());
    }
    if several {
        check_items(section, report);
    } else {
        check_pair(section, "tls", report);
    }
    check_client(section, report);
}

/// A certificate and its key, below `place`.
fn check_pair(section: &Listener, place: &str, report: &mut Report<'_>) {
    for (key, form) in [("certificate", "a certificate in PEM"), ("key", "its private key in PEM")] {
        let key = format!("{place}.{key}");
        if !section.gives(&key) {
            let words = format!("is missing — write a file with {form}");
            report.note(section.place(place), &format!("{}.{key}", section.label), words);
        }
    }
}

fn check_items(section: &Listener, report: &mut Report<'_>) {
    for index in 0..section.value.tls.certificates.len() {
        let item = item(index);
        if !section.refused.contains(&item) {
            check_pair(section, &item, report);
        }
    }
}

fn item(index: usize) -> String {
    format!("tls.certificates[{}]", index + 1)
}

fn check_client(section: &Listener, report: &mut Report<'_>) {
    let place = |key: &str| format!("tls.client.{key}");
    if section.refuses("tls.client") {
        return;
    }
    if section.value.tls.verify == VerifyDraft::Off {
        for key in ["ca", "crl"].map(place).iter().filter(|key| section.gives(key)) {
            let words = "is read for nobody while `verify` is \"off\" — write \"required\" there, or leave it out";
            report.note_key(section, key, words.into());
        }
    } else if !section.gives(&place("ca")) {
        let words = "is missing — write a file with the certificates of those who issue clients theirs";
        report.note(section.place(&place("verify")), &format!("{}.{}", section.label, place("ca")), words.into());
    }
}

/// The settings of a draft, and what is wrong with their files; `None` where nothing is said of TLS, or where a part is
/// missing, which has been noted.
pub(super) fn settings(section: &Listener, base: &Path, report: &mut Report<'_>) -> Option<TlsSettings> {
    let settings = section.gives("tls").then(|| joined(&section.value.tls, base))??;
    if !section.refuses("tls") {
        let faults = certificates::inspect(&settings).err().unwrap_or_default();
        faults.iter().for_each(|fault| note(fault, section, base, report));
    }
    Some(settings)
}

fn note(fault: &Fault, section: &Listener, base: &Path, report: &mut Report<'_>) {
    let several = section.gives("tls.certificates");
    let of_pair = |index, key| if several { format!("{}.{key}", item(index)) } else { format!("tls.{key}") };
    let key = match fault.place {
        Place::Certificate(index) => of_pair(index, "certificate"),
        Place::Key(index) => of_pair(index, "key"),
        Place::Ocsp(index) => of_pair(index, "ocsp"),
        Place::Ca => "tls.client.ca".into(),
        Place::Crl => "tls.client.crl".into(),
        Place::TicketKeys => "tls.tickets.keys".into(),
    };
    let written = fault.file.strip_prefix(base).unwrap_or(&fault.file);
    report.note_key(section, &key, format!("{} {}", forms::quote(&written.to_string_lossy()), fault.words));
}

/// With the paths as they are from here.
fn joined(draft: &TlsDraft, base: &Path) -> Option<TlsSettings> {
    let single = std::slice::from_ref(&draft.single);
    let certificates = if draft.certificates.is_empty() { single } else { &draft.certificates };
    let certificates: Option<Vec<_>> = certificates.iter().map(|it| files(it, base)).collect();
    let keys = draft.keys.as_ref().map(|file| base.join(file));
    Some(TlsSettings {
        certificates: certificates?,
        min_version: draft.min_version,
        clients: clients(draft, base)?,
        tickets: TicketSettings { rotate: draft.rotate, keys },
    })
}

/// Notes what is missing or wrong at the TLS of the admin address, and puts the paths as they are from here.
pub(super) fn check_admin_tls(section: &mut Section<Server>, base: &Path, report: &mut Report<'_>) {
    if !section.gives("admin_tls") || section.refuses("admin_tls") {
        return;
    }
    if section.value.admin.is_none() {
        let words = "is for the admin address, and `admin` is \"off\" — write an address there, or leave it out";
        report.note_key(section, "admin_tls", words.into());
    }
    let needs_ca = section.gives("admin_tls.crl").then_some(("ca", "the certificates of the authorities"));
    let pair = [("certificate", "a certificate in PEM"), ("key", "its private key in PEM")];
    let missing = |(key, _): &(&str, &str)| !section.gives(&format!("admin_tls.{key}"));
    let missing: Vec<_> = pair.into_iter().chain(needs_ca).filter(missing).collect();
    for (key, form) in &missing {
        let place = format!("{}.admin_tls.{key}", section.label);
        report.note(section.place("admin_tls"), &place, format!("is missing — write a file with {form}"));
    }
    if missing.is_empty() {
        read_admin(section, base, report);
    }
}

fn read_admin(section: &mut Section<Server>, base: &Path, report: &mut Report<'_>) {
    let Some(tls) = &mut section.value.admin_tls else { return };
    for file in tls.files_mut() {
        *file = base.join(&*file);
    }
    for fault in certificates::inspect(tls).err().unwrap_or_default() {
        let key = match fault.place {
            Place::Key(_) => "admin_tls.key",
            Place::Ca => "admin_tls.ca",
            Place::Crl => "admin_tls.crl",
            Place::Certificate(_) | Place::Ocsp(_) | Place::TicketKeys => "admin_tls.certificate",
        };
        let written = fault.file.strip_prefix(base).unwrap_or(&fault.file);
        report.note_key(section, key, format!("{} {}", forms::quote(&written.to_string_lossy()), fault.words));
    }
}

fn files(draft: &CertificateDraft, base: &Path) -> Option<CertificateFiles> {
    let join = |file: &PathBuf| base.join(file);
    Some(CertificateFiles {
        certificate: draft.certificate.as_ref().map(join)?,
        key: draft.key.as_ref().map(join)?,
        ocsp: draft.ocsp.as_ref().map(join),
        names: draft.names.clone(),
    })
}

fn clients(draft: &TlsDraft, base: &Path) -> Option<ClientCertificates> {
    let optional = match draft.verify {
        VerifyDraft::Off => return Some(ClientCertificates::Off),
        VerifyDraft::Optional => true,
        VerifyDraft::Required => false,
    };
    let join = |file: &PathBuf| base.join(file);
    Some(ClientCertificates::Verified { optional, ca: draft.ca.as_ref().map(join)?, crl: draft.crl.as_ref().map(join) })
}

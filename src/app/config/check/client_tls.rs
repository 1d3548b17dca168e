//! What feeds and routes say of TLS towards servers: keys that need each other, and the files that they name.

use super::super::draft::Section;
use super::super::forms;
use super::super::keys::ClientTlsDraft;
use super::super::model::{CertificateFiles, ClientFiles};
use super::super::report::Report;
use crate::control::certificates::{Fault, Place, inspect_client};
use std::path::{Path, PathBuf};

/// A certificate needs its key. `table` is the name of the key that holds both.
pub(super) fn check_pair<T>(section: &Section<T>, table: &str, report: &mut Report<'_>) {
    for (key, other) in [("certificate", "key"), ("key", "certificate")].map(|(a, b)| (format!("{table}.{a}"), b)) {
        let missing = format!("{table}.{other}");
        if section.gives(&key) && !section.gives(&missing) {
            let words = format!("stands without `{other}` — write both, or neither");
            report.note_key(section, &key, words);
        }
    }
}

/// The files that are named in the key called `table`, joined to the folder of the configuration, and what is wrong
/// with them.
pub(super) fn files<T>(
    (draft, table): (&ClientTlsDraft, &str),
    section: &Section<T>,
    base: &Path,
    report: &mut Report<'_>,
) -> ClientFiles {
    let ClientTlsDraft { ca, certificate, key } = draft;
    let join = |file: &PathBuf| base.join(file);
    let pair = certificate.as_ref().map(join).zip(key.as_ref().map(join));
    let identity = pair.map(|(certificate, key)| CertificateFiles { certificate, key, ..CertificateFiles::default() });
    let files = ClientFiles { ca: ca.as_ref().map(join), identity };
    for fault in inspect_client(&files) {
        note_file(&fault, table, section, base, report);
    }
    files
}

fn note_file<T>(fault: &Fault, table: &str, section: &Section<T>, base: &Path, report: &mut Report<'_>) {
    let key = match fault.place {
        Place::Ca => "ca",
        Place::Key(_) => "key",
        _ => "certificate",
    };
    let written = fault.file.strip_prefix(base).unwrap_or(&fault.file);
    let words = format!("{} {}", forms::quote(&written.to_string_lossy()), fault.words);
    report.note_key(section, &format!("{table}.{key}"), words);
}

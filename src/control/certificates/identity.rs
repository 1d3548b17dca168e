//! A certificate with its key: read from PEM, held against each other and against the clock.

use super::contents::{Contents, Fingerprint};
use super::fault::{Fault, Place, date};
use super::settings::CertificateFiles;
use crate::mesh::x509::CertificateFacts;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use std::path::Path;
use std::sync::Arc;

/// Against what files are held that are read.
#[derive(Default)]
pub(super) struct Moment {
    /// Seconds since 1970.
    pub(super) now: i64,
    /// The certificates that are in use. One that has expired since is no reason to refuse what else is new.
    pub(super) shown: Vec<CertificateDer<'static>>,
    /// The rules for clients that are in use, likewise.
    pub(super) rules: Option<Fingerprint>,
}

/// A certificate that can be shown.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// What the handshake needs of it.
    pub(super) certified: Arc<CertifiedKey>,
    /// The names for which it is shown, lower-cased.
    pub(super) names: Vec<String>,
    /// What the certificate and those behind it say, in their order.
    pub(super) chain: Vec<CertificateFacts>,
}

impl Identity {
    /// What the certificate itself says.
    pub(super) fn facts(&self) -> &CertificateFacts {
        &self.chain[0]
    }

    /// Reads the files of the certificate at `index`.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(super) fn read(
        files: &CertificateFiles,
        index: usize,
        contents: &Contents,
        provider: &CryptoProvider,
        moment: &Moment,
    ) -> Result<Identity, Vec<Fault>> {
        let chain = chain(files, index, contents, moment);
        let key = key(files, index, contents);
        let ocsp = files.ocsp.as_deref().map(|file| ocsp(file, index, contents)).transpose();
        let (chain, key, ocsp) = match (chain, key, ocsp) {
            (Ok(chain), Ok(key), Ok(ocsp)) => (chain, key, ocsp),
            (chain, key, ocsp) => return Err([chain.err(), key.err(), ocsp.err()].into_iter().flatten().collect()),
        };
        let (ders, facts): (Vec<_>, Vec<_>) = chain.into_iter().unzip();
        let certified =
            CertifiedKey::from_der(ders, key, provider).map_err(|error| vec![misfit(files, index, &error)])?;
        Ok(Identity {
            certified: Arc::new(CertifiedKey { ocsp, ..certified }),
            names: names(files, &facts),
            chain: facts,
        })
    }
}

/// Those that are written, or those that stand in the certificate.
fn names(files: &CertificateFiles, chain: &[CertificateFacts]) -> Vec<String> {
    if files.names.is_empty() { chain[0].dns_names.clone() } else { files.names.clone() }
}

type Link = (CertificateDer<'static>, CertificateFacts);

/// One certificate at least, and it holds now or is in use.
fn chain(files: &CertificateFiles, index: usize, contents: &Contents, moment: &Moment) -> Result<Vec<Link>, Fault> {
    let (place, file) = (Place::Certificate(index), &files.certificate);
    let fault = |words: String| Fault { place, file: file.clone(), words };
    let ders = certificates(contents.of(place, file)?).map_err(fault)?;
    let mut links = Vec::new();
    for der in ders {
        let facts = CertificateFacts::of(&der);
        let number = links.len() + 1;
        let words = || format!("has a certificate that cannot be read, number {number} — write certificates in PEM");
        links.push((der, facts.ok_or_else(|| fault(words()))?));
    }
    let new = links.first().filter(|(der, _)| !moment.shown.contains(der));
    let untimely = new.and_then(|(_, facts)| untimely(facts, moment.now));
    untimely.map_or(Ok(links), |words| Err(fault(words)))
}

/// The certificates of a PEM file.
///
/// # Errors
/// There is none, or the file is damaged.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("has no certificate in PEM — it begins with BEGIN CERTIFICATE".into()),
        Ok(found) => Ok(found),
        Err(error) => Err(damaged(&error)),
    }
}

/// The words for a file that is no PEM.
pub(super) fn damaged(error: &pem::Error) -> String {
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is cut",
        pem::Error::Base64Decode(_) => "a section is no base64",
        _ => "a section cannot be read",
    };
    format!("is damaged: {what} — write it again")
}

fn untimely(facts: &CertificateFacts, now: i64) -> Option<String> {
    if facts.ends <= now {
        return Some(format!("has expired on {} — renew it", date(facts.ends)));
    }
    (facts.begins > now).then(|| format!("holds from {} on — wait until then, or set the clock", date(facts.begins)))
}

fn key(files: &CertificateFiles, index: usize, contents: &Contents) -> Result<PrivateKeyDer<'static>, Fault> {
    let place = Place::Key(index);
    let pem = contents.of(place, &files.key)?;
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let words = match error {
            _ if is_encrypted(pem) => {
                "has a key with a passphrase — take it off: openssl pkey -in FILE -out FILE".into()
            }
            pem::Error::NoItemsFound => "has no private key in PEM — it begins with BEGIN PRIVATE KEY".into(),
            error => damaged(&error),
        };
        Fault { place, file: files.key.clone(), words }
    })
}

fn is_encrypted(pem: &[u8]) -> bool {
    let marks: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
    marks.iter().any(|mark| memchr::memmem::find(pem, mark).is_some())
}

/// Why a key and a certificate that are whole cannot be used together.
fn misfit(files: &CertificateFiles, index: usize, error: &Error) -> Fault {
    let certificate = files.certificate.file_name().unwrap_or_default().to_string_lossy();
    let words = match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            format!("is not the key of the first certificate in {certificate} — write the two that belong together")
        }
        Error::InvalidCertificate(_) => {
            let words = format!("cannot be used ({error}) — write a certificate for servers, of version 3");
            return Fault { place: Place::Certificate(index), file: files.certificate.clone(), words };
        }
        _ => "has a key of a kind that is not known here — write one of RSA (2048 to 8192 bits), P-256, P-384 or \
              Ed25519"
            .into(),
    };
    Fault { place: Place::Key(index), file: files.key.clone(), words }
}

/// An OCSP response is sent as it is: only its outermost form is looked at (RFC 6960 section 4.2.1, a DER sequence).
fn ocsp(file: &Path, index: usize, contents: &Contents) -> Result<Vec<u8>, Fault> {
    let place = Place::Ocsp(index);
    let bytes = contents.of(place, file)?;
    let words = "is no OCSP response in DER — write what `openssl ocsp -respout` has written";
    let fault = || Fault { place, file: file.to_owned(), words: words.into() };
    sequence_len(bytes).filter(|len| *len == bytes.len()).map(|_| bytes.to_vec()).ok_or_else(fault)
}

/// The length of the DER sequence that begins here, its head included.
fn sequence_len(der: &[u8]) -> Option<usize> {
    let (&[0x30, first], rest) = der.split_first_chunk::<2>()? else { return None };
    let count = usize::from(first & 0x7f);
    match first {
        0..=0x7f => Some(2 + usize::from(first)),
        0x81..=0x83 => {
            let len = rest.get(..count)?.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
            Some(2 + count + len)
        }
        _ => None,
    }
}

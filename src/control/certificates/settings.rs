//! What an operator wrote about TLS on a listener: plain data.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// TLS on one `[[listener]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// One at least, 64 at most; the first is the default.
    pub certificates: Vec<CertificateFiles>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// What is asked of clients.
    pub clients: ClientCertificates,
    /// How sessions are resumed.
    pub tickets: TicketSettings,
}

/// The files of a certificate, in PEM, and for whom it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// An OCSP response in DER; `None`: nothing is stapled.
    pub ocsp: Option<PathBuf>,
    /// Lower-cased names, `*.` in front for one label, for which it is shown; empty: those that stand in it.
    pub names: Vec<String>,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2 (RFC 5246), with authenticated ciphers and ephemeral keys only.
    #[default]
    V12,
    /// TLS 1.3 (RFC 8446).
    V13,
}

/// What is asked of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// No certificate.
    Off,
    /// A certificate of one of these authorities.
    Verified {
        /// Who has none is let in as well.
        optional: bool,
        /// Certificates of authorities, in PEM.
        ca: PathBuf,
        /// Lists of revoked certificates, in PEM; `None`: none is revoked.
        crl: Option<PathBuf>,
    },
}

/// How sessions are resumed (RFC 8446 section 2.2, RFC 5077).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketSettings {
    /// How long a key seals tickets; it opens them for as long again.
    pub rotate: Duration,
    /// A file of secrets that several machines share; `None`: keys are random and this process's own.
    pub keys: Option<PathBuf>,
}

impl TlsSettings {
    /// All files that are read.
    pub fn files(&self) -> Vec<&Path> {
        let certificates = self.certificates.iter().flat_map(CertificateFiles::files);
        certificates.chain(self.clients.files()).chain(self.tickets.keys.as_deref()).collect()
    }
}

impl TlsSettings {
    /// All of them, to be changed: a file that is named twice stands twice.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let certificates = self
            .certificates
            .iter_mut()
            .flat_map(|it| [&mut it.certificate, &mut it.key].into_iter().chain(&mut it.ocsp));
        let clients = match &mut self.clients {
            ClientCertificates::Off => (None, None),
            ClientCertificates::Verified { ca, crl, .. } => (Some(ca), crl.as_mut()),
        };
        certificates.chain(clients.0).chain(clients.1).chain(&mut self.tickets.keys)
    }
}

impl CertificateFiles {
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.certificate, &self.key].into_iter().chain(&self.ocsp).map(PathBuf::as_path)
    }
}

impl ClientCertificates {
    fn files(&self) -> impl Iterator<Item = &Path> {
        let (ca, crl) = match self {
            ClientCertificates::Off => (None, None),
            ClientCertificates::Verified { ca, crl, .. } => (Some(ca), crl.as_ref()),
        };
        ca.into_iter().chain(crl).map(PathBuf::as_path)
    }
}

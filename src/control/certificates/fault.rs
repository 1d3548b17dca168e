//! What is wrong with the files of a listener's TLS, in words for the operator.

pub(super) use crate::mesh::x509::date;
use std::fmt;
use std::path::PathBuf;

/// Which of the files a fault is about. Certificates are told by their place in the configuration, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The certificate and its chain.
    Certificate(usize),
    /// Its private key.
    Key(usize),
    /// The OCSP response for it.
    Ocsp(usize),
    /// The authorities of clients.
    Ca,
    /// Their revocation lists.
    Crl,
    /// The secrets of tickets.
    TicketKeys,
}

/// One thing wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which file of the listener it is.
    pub place: Place,
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, a dash, and what to do: to be read behind the name of the file.
    pub words: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.file.display(), self.words)
    }
}

/// All faults in one line.
pub(super) fn line(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

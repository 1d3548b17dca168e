//! What is wrong with the files of a listener's TLS, in words for the operator.

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

/// A moment, in seconds since 1970, in words.
pub(super) fn date(seconds: i64) -> String {
    let since = std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    // The year 9999 is the last that both a certificate and this form can say.
    let last = std::time::Duration::from_secs(253_402_300_799);
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + since.min(last))
}

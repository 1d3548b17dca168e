//! Why TLS towards a server has failed, in words that say whose fault it is.

use super::fault::date;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

/// The words for an error of TLS, wherever in the chain of causes it stands; `None`: there is none in it.
pub(in crate::control) fn why(error: &(dyn StdError + 'static)) -> Option<String> {
    find(error).map(words)
}

/// What an error has wrapped: an `io::Error` does not tell that as its source, nor does one that is shared.
fn inner<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e (dyn StdError + 'static)> {
    if let Some(shared) = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
        return Some(shared.as_ref());
    }
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

fn find<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Error> {
    std::iter::successors(Some(error), |it| inner(*it)).find_map(|it| it.downcast_ref())
}

fn words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::AlertReceived(alert) => refused(*alert),
        Error::InvalidMessage(_) => "the broker does not speak TLS there — write the port of its TLS listener".into(),
        Error::PeerIncompatible(error) => {
            format!("TLS: the broker speaks no version or cipher that edgehold speaks ({error:?}) — update the broker")
        }
        error => format!("TLS: {error}"),
    }
}

/// What is wrong with the certificate that the broker shows.
fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "TLS: the broker's certificate is of an authority that is not known here — \
                                            write the file of that authority as `tls.ca`"
            .into(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("TLS: the broker's certificate has expired on {} — renew it at the broker", day(*not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "TLS: the broker's certificate holds from {} on — wait until then, or set the clocks",
            day(*not_before)
        ),
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "TLS: the broker's certificate is not for {} but for {} — write that name in `source`, or renew it at the \
             broker",
            expected.to_str(),
            if presented.is_empty() { "no name".into() } else { presented.join(", ") }
        ),
        error => format!("TLS: the broker's certificate cannot be verified ({error}) — renew it at the broker"),
    }
}

fn day(time: UnixTime) -> String {
    date(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// What the broker says is wrong with us (RFC 8446 section 6.2). One that asks for a certificate says it in many ways
/// where there is none: OpenSSL by `certificate_required` or `handshake_failure`, Go by `bad_certificate`.
fn refused(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired | Alert::BadCertificate | Alert::HandshakeFailure | Alert::NoCertificate => format!(
            "TLS: the broker ends the handshake ({alert:?}) — where it asks for a certificate, write `tls.certificate` \
             and `tls.key`"
        ),
        Alert::UnknownCA
        | Alert::CertificateExpired
        | Alert::CertificateRevoked
        | Alert::CertificateUnknown
        | Alert::UnsupportedCertificate
        | Alert::AccessDenied => {
            format!(
                "TLS: the broker refuses the certificate of `tls.certificate` ({alert:?}) — write one that it knows"
            )
        }
        alert => format!("TLS: the broker ends the connection ({alert:?}) — its log may say why"),
    }
}

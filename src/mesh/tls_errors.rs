//! Why TLS towards a server has failed, in words that say whose fault it is.

use super::x509::date;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

/// How a server is called, and its settings.
pub struct Server {
    noun: &'static str,
    /// The key that holds the files.
    key: &'static str,
    /// Where the name is written for which its certificate must be.
    name: &'static str,
}

/// Where a feed comes from.
pub const BROKER: Server = Server { noun: "broker", key: "tls", name: "`source`," };

/// Where a proxy route leads.
pub const UPSTREAM: Server =
    Server { noun: "upstream", key: "upstream_tls", name: "`upstream`, or as `upstream_tls.server_name`," };

/// The words for an error of a handshake, or of the connection behind it.
pub fn words(error: &Error, server: &Server) -> String {
    let noun = server.noun;
    match error {
        Error::InvalidCertificate(error) => certificate(error, server),
        Error::AlertReceived(alert) => refused(*alert, server),
        Error::InvalidMessage(_) => {
            format!("the {noun} does not speak TLS there — write the port of its TLS listener")
        }
        Error::PeerIncompatible(error) => {
            format!("TLS: the {noun} speaks no version or cipher that edgehold speaks ({error:?}) — update the {noun}")
        }
        error => format!("TLS: {error}"),
    }
}

/// What is wrong with the certificate that the server shows.
fn certificate(error: &CertificateError, Server { noun, key, name }: &Server) -> String {
    match error {
        CertificateError::UnknownIssuer => format!(
            "TLS: the {noun}'s certificate is of an authority that is not known here — write the file of that \
             authority as `{key}.ca`"
        ),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("TLS: the {noun}'s certificate has expired on {} — renew it at the {noun}", day(*not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "TLS: the {noun}'s certificate holds from {} on — wait until then, or set the clocks",
            day(*not_before)
        ),
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "TLS: the {noun}'s certificate is not for {} but for {} — write that name in {name} or renew it at the \
             {noun}",
            expected.to_str(),
            if presented.is_empty() { "no name".into() } else { bare(presented).join(", ") }
        ),
        error => format!("TLS: the {noun}'s certificate cannot be verified ({error}) — renew it at the {noun}"),
    }
}

/// The names as they stand in the certificate; the library writes `DnsName("a.example")` and `IpAddress(192.0.2.7)`.
fn bare(names: &[String]) -> Vec<&str> {
    let bare = |name: &str| name.split_once('(').map_or(0, |(kind, _)| kind.len());
    names.iter().map(|name| name[bare(name)..].trim_matches(['(', ')', '"'])).collect()
}

fn day(time: UnixTime) -> String {
    date(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// What the server says is wrong with us (RFC 8446 section 6.2). One that asks for a certificate says it in many ways
/// where there is none: OpenSSL by `certificate_required` or `handshake_failure`, Go by `bad_certificate`.
fn refused(alert: AlertDescription, Server { noun, key, .. }: &Server) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired | Alert::BadCertificate | Alert::HandshakeFailure | Alert::NoCertificate => format!(
            "TLS: the {noun} ends the handshake ({alert:?}) — where it asks for a certificate, write \
             `{key}.certificate` and `{key}.key`"
        ),
        Alert::UnknownCA
        | Alert::CertificateExpired
        | Alert::CertificateRevoked
        | Alert::CertificateUnknown
        | Alert::UnsupportedCertificate
        | Alert::AccessDenied => {
            format!(
                "TLS: the {noun} refuses the certificate of `{key}.certificate` ({alert:?}) — write one that it knows"
            )
        }
        alert => format!("TLS: the {noun} ends the connection ({alert:?}) — its log may say why"),
    }
}

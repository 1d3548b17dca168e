//! What a certificate says of itself (RFC 5280): whom it names, and how long it holds. Nothing is verified here.

mod client;

pub use client::{AlternativeName, ClientCertificate, NAMES_BYTES};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

/// A moment, in seconds since 1970, in words.
pub fn date(seconds: i64) -> String {
    let since = std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    // The year 9999 is the last that both a certificate and this form can say.
    let last = std::time::Duration::from_secs(253_402_300_799);
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + since.min(last))
}

/// What is read of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its subject as one line, `CN=edge, O=Example`; empty where it has none.
    pub subject: String,
    /// The names of its subject alternative name extension that are DNS names, lower-cased.
    pub dns_names: Vec<String>,
    /// The other names there that are text: e-mail addresses and URIs.
    pub other_names: Vec<String>,
    /// When it begins to hold, in seconds since 1970.
    pub begins: i64,
    /// When it ceases to hold, in seconds since 1970.
    pub ends: i64,
    /// Its subject and its issuer in DER, by which a chain is held together.
    links: (Vec<u8>, Vec<u8>),
}

impl CertificateFacts {
    /// Of a certificate in DER; `None`: it is none.
    pub fn of(der: &[u8]) -> Option<CertificateFacts> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        let names = alternative_names(&certificate).unwrap_or_default();
        let dns_name = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        };
        let other_name = |name: &GeneralName<'_>| match name {
            GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some((*name).to_owned()),
            _ => None,
        };
        rest.is_empty().then(|| CertificateFacts {
            subject: certificate.subject().to_string(),
            dns_names: names.iter().filter_map(dns_name).collect(),
            other_names: names.iter().filter_map(other_name).collect(),
            begins: certificate.validity().not_before.timestamp(),
            ends: certificate.validity().not_after.timestamp(),
            links: (certificate.subject().as_raw().into(), certificate.issuer().as_raw().into()),
        })
    }

    /// Whether it says that it was issued by the one that `issuer` tells of.
    pub fn names_as_issuer(&self, issuer: &CertificateFacts) -> bool {
        self.links.1 == issuer.links.0
    }
}

/// Empty where there are none; `None`: they cannot be read.
fn alternative_names<'c>(certificate: &'c X509Certificate<'_>) -> Option<&'c [GeneralName<'c>]> {
    let extension = certificate.subject_alternative_name().ok()?;
    Some(extension.map_or(&[], |it| it.value.general_names.as_slice()))
}

/// When a revocation list in DER is to be replaced, in seconds since 1970; `None`: it is no list, or does not say.
pub fn next_update(der: &[u8]) -> Option<i64> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    list.next_update().map(|time| time.timestamp())
}

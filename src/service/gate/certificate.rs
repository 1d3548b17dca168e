//! Identities out of the certificates that clients have shown.

use super::plan::{CertificateName, CertificatePlan};
use crate::mesh::identity::{Identity, WORD_BYTES};
use crate::mesh::x509::{AlternativeName, ClientCertificate};

/// Whom a certificate names as the route asks; `None`: nobody.
pub(super) fn identity_of(certificate: &ClientCertificate, plan: &CertificatePlan) -> Option<Identity> {
    let name = name(certificate, plan.name)?;
    let fits = !name.is_empty() && name.len() <= WORD_BYTES;
    fits.then(|| Identity { name: name.into(), roles: plan.roles.clone(), claims: Box::default(), expires: None })
}

fn name(certificate: &ClientCertificate, wanted: CertificateName) -> Option<&str> {
    let mut names = certificate.names.iter();
    match wanted {
        CertificateName::Subject => Some(&certificate.subject),
        CertificateName::CommonName => common_name(&certificate.subject),
        CertificateName::Dns => {
            names.find_map(|it| if let AlternativeName::Dns(name) = it { Some(&**name) } else { None })
        }
        CertificateName::Email => {
            names.find_map(|it| if let AlternativeName::Email(name) = it { Some(&**name) } else { None })
        }
        CertificateName::Uri => {
            names.find_map(|it| if let AlternativeName::Uri(name) = it { Some(&**name) } else { None })
        }
    }
}

/// The value of the first CN of a subject (RFC 4514), if nothing in it is escaped.
fn common_name(subject: &str) -> Option<&str> {
    let mut parts = subject.split(',');
    parts.find_map(|part| part.strip_prefix("CN=")).filter(|name| !name.contains(['\\', '+', '"']))
}

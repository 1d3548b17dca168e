//! Identities out of the certificates that clients have shown.

use super::plan::{CertificateName, CertificatePlan};
use crate::mesh::x509::{AlternativeName, ClientCertificate};
use crate::mesh::{Identity, WORD_BYTES};

/// Whom a certificate names, as the route has it; `None`: nobody, or nobody that can be told from others for certain.
///
/// Where something of the certificate was left out ([`ClientCertificate::is_whole`]) its first name of a kind may be
/// another than the first that is known: then none of its alternative names counts.
pub(super) fn identity_of(certificate: &ClientCertificate, plan: &CertificatePlan) -> Option<Identity> {
    let name = match plan.name {
        CertificateName::Subject => Some(&*certificate.subject),
        CertificateName::CommonName => return made(&common_name(&certificate.subject)?, plan),
        CertificateName::Dns | CertificateName::Email | CertificateName::Uri if !certificate.is_whole => None,
        CertificateName::Dns | CertificateName::Email | CertificateName::Uri => {
            certificate.names.iter().find_map(|name| of_kind(name, plan.name))
        }
    };
    made(name?, plan)
}

fn made(name: &str, plan: &CertificatePlan) -> Option<Identity> {
    let fits = (1..=WORD_BYTES).contains(&name.len()) && !name.contains(char::is_control);
    fits.then(|| Identity { name: name.into(), roles: plan.roles.clone(), claims: [].into(), expires: None })
}

fn of_kind(name: &AlternativeName, kind: CertificateName) -> Option<&str> {
    match (name, kind) {
        (AlternativeName::Dns(name), CertificateName::Dns)
        | (AlternativeName::Email(name), CertificateName::Email)
        | (AlternativeName::Uri(name), CertificateName::Uri) => Some(name),
        _ => None,
    }
}

/// The common name of a subject in the form of RFC 4514, without its escapes; `None`: it has none, or several, of which
/// nobody can say which is meant.
fn common_name(subject: &str) -> Option<String> {
    let mut found = attributes(subject).into_iter().filter_map(|it| it.strip_prefix("CN="));
    let name = found.next()?;
    if found.next().is_some() { None } else { unescaped(name) }
}

/// The parts between commas and plus signs that are not escaped.
fn attributes(subject: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, byte) in subject.bytes().enumerate() {
        if !escaped && (byte == b',' || byte == b'+') {
            parts.push(&subject[start..at]);
            start = at + 1;
        }
        escaped = !escaped && byte == b'\\';
    }
    parts.push(&subject[start..]);
    parts
}

/// A value without its escapes (RFC 4514 section 2.4): a backslash with two hex digits is a byte, with anything else
/// that itself.
fn unescaped(value: &str) -> Option<String> {
    if value.starts_with('#') {
        return None;
    }
    let (mut bytes, mut rest) = (Vec::new(), value.as_bytes());
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (byte, left) = escape(rest)?;
        bytes.push(byte);
        rest = left;
    }
    String::from_utf8(bytes).ok()
}

fn escape(behind: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|it| it as u8);
    match behind {
        [high, low, rest @ ..] if digit(*high).is_some() && digit(*low).is_some() => {
            Some((digit(*high)? << 4 | digit(*low)?, rest))
        }
        [itself, rest @ ..] => Some((*itself, rest)),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(subject: &str, names: &[AlternativeName], is_whole: bool) -> ClientCertificate {
        ClientCertificate { subject: subject.into(), names: names.into(), is_whole }
    }

    fn named(name: CertificateName, certificate: &ClientCertificate) -> Option<String> {
        let plan = CertificatePlan { name, roles: ["agent".into()].into() };
        let identity = identity_of(certificate, &plan)?;
        assert_eq!(identity.roles, plan.roles);
        assert_eq!((identity.expires, identity.claims.len()), (None, 0));
        Some(identity.name.into())
    }

    #[test]
    fn each_part_of_a_certificate_can_be_the_name() {
        let names = [
            AlternativeName::Ip([127, 0, 0, 1].into()),
            AlternativeName::Dns("a.example".into()),
            AlternativeName::Dns("b.example".into()),
            AlternativeName::Uri("spiffe://example/a".into()),
            AlternativeName::Email("a@example".into()),
        ];
        let whole = certificate("CN=agent 7,O=Example", &names, true);
        let expected = [
            (CertificateName::Subject, "CN=agent 7,O=Example"),
            (CertificateName::CommonName, "agent 7"),
            (CertificateName::Dns, "a.example"),
            (CertificateName::Email, "a@example"),
            (CertificateName::Uri, "spiffe://example/a"),
        ];
        for (kind, name) in expected {
            assert_eq!(named(kind, &whole).as_deref(), Some(name), "{kind:?}");
            assert_eq!(named(kind, &certificate("", &[], true)), None, "{kind:?}");
        }
    }

    /// What was left out may have stood first.
    #[test]
    fn a_certificate_that_is_not_whole_has_no_first_name() {
        let part = certificate("CN=a", &[AlternativeName::Dns("b.example".into())], false);
        assert_eq!(named(CertificateName::Dns, &part), None);
        assert_eq!(named(CertificateName::CommonName, &part).as_deref(), Some("a"));
    }

    #[test]
    fn a_common_name_cannot_be_smuggled_in() {
        let common = |subject| named(CertificateName::CommonName, &certificate(subject, &[], true));
        assert_eq!(common(r"O=x\,CN=admin,CN=eve").as_deref(), Some("eve"));
        assert_eq!(common(r"O=x\+CN=admin"), None);
        assert_eq!(common(r"CN=a\, b\2C c").as_deref(), Some("a, b, c"));
        assert_eq!(common(r"O=x+CN=eve,C=y").as_deref(), Some("eve"));
        for subject in ["CN=eve,CN=admin", "CN=eve+CN=admin", "OCN=a", "cn=a", "CN=", "CN=#0403", r"CN=a\", r"CN=a\00b"]
        {
            assert_eq!(common(subject), None, "{subject}");
        }
        assert_eq!(named(CertificateName::Subject, &certificate(&"a".repeat(256), &[], true)), None);
    }
}

//! Whom the certificate of a client names: what services and the log are told of a client that has shown one.
//!
//! Nothing is verified here, that was done in the handshake. What is kept is small, since it stays for as long as the
//! connection, and can be written into a log as it is.

use super::alternative_names;
use std::fmt::{self, Display, Formatter, Write};
use std::net::IpAddr;
use x509_parser::asn1_rs::{Oid, ToDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Bytes that are kept of the names of one certificate: its subject goes first, then its alternative names as they
/// come. What does not fit is left out ([`ClientCertificate::is_whole`]).
pub const NAMES_BYTES: usize = 4096;

/// What is kept of a client's certificate: it was verified, and the client has proved that it has the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its subject, `CN=agent 7,O=Example` (RFC 4514, the most specific part first). Control characters are escaped.
    /// Empty where it has none, or one of more than [`NAMES_BYTES`].
    pub subject: Box<str>,
    /// Its subject alternative names (RFC 5280 section 4.2.1.6) of the kinds that are known here, in its order.
    pub names: Box<[AlternativeName]>,
    /// Nothing was left out that is one of these, however long or odd it is.
    pub is_whole: bool,
}

/// A subject alternative name. Text is printable ASCII: what is not is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlternativeName {
    /// A DNS name, lower-cased.
    Dns(Box<str>),
    /// An e-mail address.
    Email(Box<str>),
    /// A URI, as SPIFFE has them.
    Uri(Box<str>),
    /// An IP address.
    Ip(IpAddr),
}

impl ClientCertificate {
    /// Of a certificate in DER; `None`: it cannot be read.
    pub fn of(der: &[u8]) -> Option<ClientCertificate> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut room = NAMES_BYTES;
        let subject = subject(certificate.subject()).filter(|it| has_room(&mut room, it.len()));
        let mut is_whole = subject.is_some();
        let mut names = Vec::new();
        let all = alternative_names(&certificate);
        is_whole &= all.is_some();
        for name in all.unwrap_or_default() {
            match AlternativeName::of(name) {
                Kind::Known(name) if has_room(&mut room, name.bytes()) => names.push(name),
                Kind::Known(_) | Kind::Odd => is_whole = false,
                Kind::Other => {}
            }
        }
        let subject = subject.unwrap_or_default().into_boxed_str();
        Some(ClientCertificate { subject, names: names.into(), is_whole })
    }
}

impl ClientCertificate {
    /// The common name of its subject. `None`: it has none, or something in the subject is escaped, where what looks
    /// like a common name may be a part of another attribute.
    pub fn common_name(&self) -> Option<&str> {
        let subject = &*self.subject;
        let rest = subject.strip_prefix("CN=").or_else(|| subject.split_once(",CN=").map(|(_, rest)| rest))?;
        let name = rest.split([',', '+']).next()?;
        (!name.is_empty() && !subject.contains('\\')).then_some(name)
    }
}

/// Takes so many bytes of what is left, where there are as many.
fn has_room(left: &mut usize, bytes: usize) -> bool {
    let rest = left.checked_sub(bytes);
    *left = rest.unwrap_or(*left);
    rest.is_some()
}

/// What becomes of a name.
enum Kind {
    Known(AlternativeName),
    /// Of a kind that is known, but it is not what such a name should be.
    Odd,
    /// Of a kind that is not kept.
    Other,
}

impl AlternativeName {
    fn of(name: &GeneralName<'_>) -> Kind {
        let text = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| Box::from(text));
        let name = match name {
            GeneralName::DNSName(name) => text(&name.to_ascii_lowercase()).map(AlternativeName::Dns),
            GeneralName::RFC822Name(name) => text(name).map(AlternativeName::Email),
            GeneralName::URI(name) => text(name).map(AlternativeName::Uri),
            GeneralName::IPAddress(octets) => ip(octets).map(AlternativeName::Ip),
            GeneralName::Invalid(..) => None,
            _ => return Kind::Other,
        };
        name.map_or(Kind::Odd, Kind::Known)
    }

    /// What it takes of memory.
    fn bytes(&self) -> usize {
        let text = match self {
            AlternativeName::Dns(text) | AlternativeName::Email(text) | AlternativeName::Uri(text) => text.len(),
            AlternativeName::Ip(_) => 0,
        };
        size_of::<AlternativeName>() + text
    }
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.ok().or_else(|| <[u8; 16]>::try_from(octets).map(IpAddr::from).ok())
}

/// The prefix of OpenSSL's configuration files and a colon, then the name.
impl Display for AlternativeName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            AlternativeName::Dns(name) => write!(f, "DNS:{name}"),
            AlternativeName::Email(name) => write!(f, "email:{name}"),
            AlternativeName::Uri(name) => write!(f, "URI:{name}"),
            AlternativeName::Ip(address) => write!(f, "IP:{address}"),
        }
    }
}

// ---- the subject as RFC 4514 writes it ----

/// Attributes that have a name, by the bytes of their object identifiers: those of RFC 4514 section 3 and some that are
/// usual in certificates (RFC 4519; RFC 2985 section 5.2.1).
const ATTRIBUTES: [(&[u8], &str); 15] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 42], "GN"),
    (&[0x55, 4, 46], "dnQualifier"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
];

/// `None`: it is longer than what is kept, or cannot be written.
fn subject(name: &X509Name<'_>) -> Option<String> {
    let mut parts: Vec<_> = name.iter_rdn().collect();
    parts.reverse();
    let mut line = String::new();
    for part in parts {
        for (number, attribute) in part.iter().enumerate() {
            let between = if number > 0 { "+" } else { "," };
            line += if line.is_empty() { "" } else { between };
            append(&mut line, attribute)?;
        }
    }
    Some(line)
}

fn append(line: &mut String, attribute: &AttributeTypeAndValue<'_>) -> Option<()> {
    let known = short_name(attribute.attr_type());
    let text = attribute.as_str().ok().filter(|_| known.is_some());
    write!(line, "{}=", known.map_or_else(|| attribute.attr_type().to_id_string(), Into::into)).ok()?;
    if let Some(text) = text {
        escape(line, text)?;
    } else {
        // Section 2.4: what has no text is a number sign and its encoding.
        line.push('#');
        let der = attribute.attr_value().to_der_vec().ok()?;
        der.iter().try_for_each(|byte| write!(line, "{byte:02X}").ok())?;
    }
    (line.len() <= NAMES_BYTES).then_some(())
}

fn short_name(oid: &Oid<'_>) -> Option<&'static str> {
    ATTRIBUTES.iter().find(|(bytes, _)| *bytes == oid.as_bytes()).map(|(_, name)| *name)
}

/// Section 2.4. Control characters may be escaped and are, so that a name cannot break a line of a log.
fn escape(line: &mut String, text: &str) -> Option<()> {
    let last = text.chars().count().saturating_sub(1);
    for (at, char) in text.chars().enumerate() {
        let is_outer = char == ' ' && (at == 0 || at == last) || char == '#' && at == 0;
        match char {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => write!(line, "\\{char}").ok()?,
            _ if is_outer => write!(line, "\\{char}").ok()?,
            _ if char.is_control() => {
                let mut bytes = [0; 4];
                char.encode_utf8(&mut bytes).bytes().try_for_each(|byte| write!(line, "\\{byte:02X}").ok())?;
            }
            _ => line.push(char),
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

    fn of(subject: DistinguishedName, names: Vec<SanType>) -> ClientCertificate {
        let mut params = CertificateParams::default();
        (params.distinguished_name, params.subject_alt_names) = (subject, names);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientCertificate::of(made.der()).unwrap()
    }

    #[test]
    fn a_common_name_is_taken_as_it_is_or_not_at_all() {
        for (subject, expected) in [
            ("CN=agent 7,O=Example", Some("agent 7")),
            ("O=Example,CN=agent 7", Some("agent 7")),
            ("CN=a+UID=b,O=c", Some("a")),
            ("O=Example", None),
            ("CN=,O=x", None),
            ("CN=a\\,b", None),
            ("O=x\\,CN=admin", None),
            ("", None),
        ] {
            let certificate = ClientCertificate { subject: subject.into(), names: [].into(), is_whole: true };
            assert_eq!(certificate.common_name(), expected, "{subject}");
        }
    }

    fn named(parts: impl IntoIterator<Item = (DnType, DnValue)>) -> String {
        let mut name = DistinguishedName::new();
        parts.into_iter().for_each(|(kind, value)| name.push(kind, value));
        of(name, Vec::new()).subject.into()
    }

    fn utf8(text: &str) -> DnValue {
        DnValue::Utf8String(text.into())
    }

    #[test]
    fn a_subject_is_written_as_rfc_4514_has_it() {
        let custom = DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 1466, 0]);
        let parts = [(DnType::OrganizationName, utf8("Ödland, \"AG\"")), (DnType::CommonName, utf8("agent 7"))];
        assert_eq!(named(parts), "CN=agent 7,O=Ödland\\, \\\"AG\\\"");
        assert_eq!(named([(DnType::CommonName, utf8(" #a+b=c# "))]), "CN=\\ #a\\+b=c#\\ ");
        assert_eq!(named([(DnType::CommonName, utf8("#1"))]), "CN=\\#1");
        assert_eq!(named([(DnType::CommonName, utf8("a\nb\0\u{85}"))]), "CN=a\\0Ab\\00\\C2\\85");
        assert_eq!(named([(custom, utf8("Hi"))]), "1.3.6.1.4.1.1466.0=#0C024869");
        assert_eq!(named([]), "");
    }

    #[test]
    fn names_of_each_kind_are_kept_and_odd_ones_are_not() {
        let text = |text: &str| text.try_into().unwrap();
        let names = vec![
            SanType::DnsName(text("Agent.Example")),
            SanType::Rfc822Name(text("a@b.example")),
            SanType::URI(text("spiffe://example/agent")),
            SanType::IpAddress("192.0.2.7".parse().unwrap()),
            SanType::IpAddress("2001:db8::1".parse().unwrap()),
        ];
        let kept = of(DistinguishedName::new(), names);
        let words: Vec<_> = kept.names.iter().map(ToString::to_string).collect();
        let expected =
            ["DNS:agent.example", "email:a@b.example", "URI:spiffe://example/agent", "IP:192.0.2.7", "IP:2001:db8::1"];
        assert_eq!((words, kept.is_whole), (expected.map(String::from).to_vec(), true));
        let odd = of(DistinguishedName::new(), vec![SanType::URI(text("two\nlines")), SanType::DnsName(text("b"))]);
        assert_eq!((&*odd.names, odd.is_whole), (&[AlternativeName::Dns("b".into())][..], false));
    }

    #[test]
    fn what_is_longer_than_is_kept_is_left_out() {
        let long = "x".repeat(NAMES_BYTES);
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, utf8(&long));
        let names = (0..1000).map(|n| SanType::DnsName(format!("{n}.example").try_into().unwrap())).collect();
        let kept = of(name, names);
        let bytes: usize = kept.names.iter().map(AlternativeName::bytes).sum();
        assert!(kept.subject.is_empty() && !kept.is_whole);
        assert!((NAMES_BYTES - 50..=NAMES_BYTES).contains(&bytes), "{bytes}");
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        assert_eq!(ClientCertificate::of(b"no certificate"), None);
        assert_eq!(ClientCertificate::of(&[]), None);
    }
}

//! What an operator wrote about `auth` on a route: plain data.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How the clients of a route say who they are; one at least of the five.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    /// By a name and a password (RFC 7617).
    pub basic: Option<BasicSettings>,
    /// By a JSON Web Token (RFC 7519).
    pub jwt: Option<JwtSettings>,
    /// By what another server says of the request.
    pub forward: Option<ForwardSettings>,
    /// By what the broker of the route says of a name and a password.
    pub broker: Option<BrokerAuthSettings>,
    /// By the certificate of their TLS.
    pub client_certificate: Option<CertificateSettings>,
    /// How long a client may wait for the verdict.
    pub timeout: Duration,
    /// The close code of a WebSocket whose token has ended.
    pub expired_code: u16,
}

/// Names and passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicSettings {
    /// The file of users.
    pub users: PathBuf,
    /// What a browser shows when it asks for them.
    pub realm: String,
    /// How long a right password is remembered.
    pub remember: Duration,
}

/// Tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSettings {
    /// Where the keys are.
    pub keys: KeySource,
    /// Certificates of the authorities that are believed when keys are fetched; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// How often keys of a URL are fetched.
    pub refresh: Duration,
    /// Algorithms that are taken; empty: all that a key is for.
    pub algorithms: Vec<Algorithm>,
    /// Who may have issued a token; empty: anybody who has a key.
    pub issuer: Vec<String>,
    /// For whom a token may be; empty: for anybody.
    pub audience: Vec<String>,
    /// How far the clocks of others may be from this one.
    pub leeway: Duration,
    /// How long a verdict is remembered, at most.
    pub remember: Duration,
    /// A token without `exp` is good for as long as its connection.
    pub allow_without_expiry: bool,
    /// The claim that is the name; parts behind dots are members of objects, as with the next two.
    pub name_claim: String,
    /// The claim that has the roles: a list of strings, or a string of words between spaces.
    pub roles_claim: String,
    /// Claims that are kept.
    pub claims: Vec<String>,
    /// Where a token is looked for.
    pub from: TokenPlaces,
    /// The longest token.
    pub token_bytes: u32,
}

/// Where keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In a file: PEM, JWK, JWKS or a secret.
    File(PathBuf),
    /// A JWKS (RFC 7517) by HTTP.
    Url(HttpUrl),
}

/// Where a token is looked for, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenPlaces {
    /// `Authorization: Bearer`.
    pub header: bool,
    /// The cookie of this name.
    pub cookie: Option<String>,
    /// The query parameter of this name.
    pub query: Option<String>,
    /// The WebSocket subprotocol that begins so.
    pub subprotocol: Option<String>,
}

/// Another server that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardSettings {
    /// What is asked.
    pub url: HttpUrl,
    /// Certificates of the authorities that are believed; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// Fields of the request that are handed on, in lower case.
    pub fields: Vec<String>,
    /// Of these, and of `method`, `target`, `path`, `host`, `address`: what a verdict that is remembered depends on.
    pub keys: Vec<String>,
    /// How long a good verdict is remembered; zero: it is not.
    pub remember: Duration,
    /// How long a bad one is.
    pub refused_remember: Duration,
    /// Requests at one time, at most.
    pub parallel: u32,
    /// How long one may take.
    pub timeout: Duration,
    /// Who cannot be asked about is let in.
    pub open: bool,
    /// The field of the response that has the name.
    pub name_field: String,
    /// The field of the response that has the roles, between commas or spaces; empty: there are none.
    pub roles_field: String,
    /// Fields of the response that are kept as claims, in lower case.
    pub claims_fields: Vec<String>,
}

/// The broker of the route that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerAuthSettings {
    /// How long it is remembered that somebody is let in; zero: it is not.
    pub remember: Duration,
    /// How long it is remembered that somebody is not.
    pub refused_remember: Duration,
    /// Sessions with the broker at one time, at most.
    pub parallel: u32,
    /// Wrong credentials of one address in a minute, at most; zero: as many as come.
    pub wrong_per_minute: u32,
}

/// Identities out of certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSettings {
    /// What is the name.
    pub name: CertificateName,
    /// The roles of all who come by one.
    pub roles: Vec<String>,
}

/// Which part of a certificate is the client's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateName {
    /// The subject as a whole.
    #[default]
    Subject,
    /// The common name of the subject.
    CommonName,
    /// The first DNS name of its alternative names.
    Dns,
    /// The first e-mail address.
    Email,
    /// The first URI.
    Uri,
}

/// How much is asked at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthLimits {
    /// Threads that verify passwords.
    pub password_threads: u32,
    /// Passwords that may wait for them.
    pub password_queue: u32,
    /// Threads that verify signatures.
    pub token_threads: u32,
    /// Tokens that may wait for them.
    pub token_queue: u32,
}

/// An algorithm of a signature (RFC 7518 section 3.1, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Algorithm(pub(super) jsonwebtoken::Algorithm);

/// The algorithms that are known, with their names.
pub(super) const ALGORITHMS: [(&str, jsonwebtoken::Algorithm); 12] = [
    ("HS256", jsonwebtoken::Algorithm::HS256),
    ("HS384", jsonwebtoken::Algorithm::HS384),
    ("HS512", jsonwebtoken::Algorithm::HS512),
    ("RS256", jsonwebtoken::Algorithm::RS256),
    ("RS384", jsonwebtoken::Algorithm::RS384),
    ("RS512", jsonwebtoken::Algorithm::RS512),
    ("PS256", jsonwebtoken::Algorithm::PS256),
    ("PS384", jsonwebtoken::Algorithm::PS384),
    ("PS512", jsonwebtoken::Algorithm::PS512),
    ("ES256", jsonwebtoken::Algorithm::ES256),
    ("ES384", jsonwebtoken::Algorithm::ES384),
    ("EdDSA", jsonwebtoken::Algorithm::EdDSA),
];

impl Algorithm {
    /// Of this name; `None`: it is not known, as `none` is not.
    pub fn of(name: &str) -> Option<Algorithm> {
        ALGORITHMS.iter().find(|(its, _)| *its == name).map(|(_, algorithm)| Algorithm(*algorithm))
    }

    /// The names of all.
    pub fn names() -> Vec<&'static str> {
        ALGORITHMS.iter().map(|(name, _)| *name).collect()
    }
}

/// The address of something that is asked by HTTP, taken apart. Displayed as it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpUrl {
    /// By TLS.
    pub secure: bool,
    /// The name or the address (IPv6 without brackets), in lower case.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path with its query.
    pub target: String,
}

impl HttpUrl {
    /// Of an absolute `http` or `https` URL without a user or a fragment; `None`: it is none.
    pub fn of(text: &str) -> Option<HttpUrl> {
        let url = url::Url::parse(text).ok()?;
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        let host = url.host_str().filter(|_| plain)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let target = url[url::Position::BeforePath..].to_owned();
        Some(HttpUrl { secure, host, port: url.port_or_known_default()?, target })
    }

    /// What stands in the Host field (RFC 9110 section 7.2).
    pub fn authority(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let usual = if self.secure { 443 } else { 80 };
        let port = if self.port == usual { String::new() } else { format!(":{}", self.port) };
        format!("{open}{}{close}{port}", self.host)
    }

    /// It leads to this machine only.
    pub fn is_loopback(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>().ok();
        address.map_or(self.host == "localhost", |it| it.is_loopback())
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_shown_again() {
        for (text, shown) in [
            ("https://ID.example/jwks", "https://id.example/jwks"),
            ("http://[::1]:8080", "http://[::1]:8080/"),
            ("https://id.example:443/a?b=c", "https://id.example/a?b=c"),
        ] {
            assert_eq!(HttpUrl::of(text).unwrap().to_string(), shown);
        }
        for text in ["ftp://a/", "/jwks", "https://u:p@a/", "https://a/#b", "https://", "data:x"] {
            assert_eq!(HttpUrl::of(text), None, "{text}");
        }
        assert!(HttpUrl::of("http://127.0.0.2/").unwrap().is_loopback());
        assert!(!HttpUrl::of("http://127.0.0.1.example/").unwrap().is_loopback());
    }
}

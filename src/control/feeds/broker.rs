//! The URL of a broker, with a user and a password in it that must not be seen in logs, metrics or answers.
//!
//! It is displayed without them, and without its query. [`Broker::parts`] gives them to those who connect.

use percent_encoding::percent_decode_str;
use std::fmt;
use url::{Host, Url};

/// A broker's URL, as it was configured.
#[derive(Clone, PartialEq, Eq)]
pub struct Broker(String);

impl Broker {
    /// From the text of the configuration.
    pub fn new(url: impl Into<String>) -> Broker {
        Broker(url.into())
    }

    /// Whether the scheme asks for TLS: `tls`, `rediss` or `mqtts`.
    pub fn is_tls(&self) -> bool {
        ["tls://", "rediss://", "mqtts://"].iter().any(|scheme| self.0.starts_with(scheme))
    }

    /// The parts of the URL; `port` is the one where it names none.
    ///
    /// # Errors
    /// It is not a URL, or names no host: in words that do not quote it.
    pub(super) fn parts(&self, port: u16) -> Result<Parts, String> {
        let url = Url::parse(&self.0).map_err(|error| format!("the URL is not understood: {error}"))?;
        let host = host(&url).ok_or("the URL names no host")?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        Ok(Parts {
            host,
            port: url.port().unwrap_or(port),
            user: Some(url.username()).filter(|it| !it.is_empty()).map(decoded),
            password: url.password().map(decoded),
            path: decoded(url.path().trim_matches('/')),
            query: url.query_pairs().map(|(name, value)| (name.into(), value.into())).collect(),
        })
    }
}

/// The host as resolvers take it: an IPv6 address without brackets; `None`: there is none.
fn host(url: &Url) -> Option<String> {
    match url.host()? {
        Host::Domain(name) => Some(name.to_owned()).filter(|it| !it.is_empty()),
        Host::Ipv4(address) => Some(address.to_string()),
        Host::Ipv6(address) => Some(address.to_string()),
    }
}

/// The parts of a URL, decoded.
pub(super) struct Parts {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// Without slashes at its ends.
    pub(super) path: String,
    query: Vec<(String, String)>,
}

impl Parts {
    /// The first value of this name in the query.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// Host and port as a URL has them (RFC 3986 section 3.2): an IPv6 address in brackets.
    pub(super) fn authority(&self) -> String {
        let Parts { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.split("://").next().filter(|it| it.len() < self.0.len()).unwrap_or("broker");
        let Ok(url) = Url::parse(&self.0) else { return write!(f, "{scheme}://…") };
        write!(f, "{scheme}://{}", url.host_str().unwrap_or("…"))?;
        url.port().map_or(Ok(()), |port| write!(f, ":{port}"))?;
        write!(f, "{}", url.path().trim_end_matches('/'))
    }
}

/// A derived one would show the password.
impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broker({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for (url, shown) in [
            ("nats://me:p%40ss@b.example:4222", "nats://b.example:4222"),
            ("redis://:secret@[::1]:6379/2?x=secret", "redis://[::1]:6379/2"),
            ("nats://token-secret@b", "nats://b"),
            ("mqtt://u:se cret@/", "mqtt://…"),
            ("secret", "broker://…"),
        ] {
            let broker = Broker::new(url);
            assert_eq!(broker.to_string(), shown);
            assert!(!format!("{broker:?}").contains("secret"));
        }
    }

    #[test]
    fn parts_are_decoded() {
        let parts = Broker::new("redis://me:p%40ss@[::1]/2?client_id=a%20b").parts(6379).unwrap();
        assert_eq!((parts.host.as_str(), parts.port, parts.path.as_str()), ("::1", 6379, "2"));
        assert_eq!((parts.user.as_deref(), parts.password.as_deref()), (Some("me"), Some("p@ss")));
        assert_eq!((parts.value("client_id"), parts.authority().as_str()), (Some("a b"), "[::1]:6379"));
        assert!(Broker::new("secret").parts(1).is_err_and(|words| !words.contains("secret")));
    }
}

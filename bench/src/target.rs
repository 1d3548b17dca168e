//! Where the server is, and how its clients open.

use crate::failure::{Failure, mistaken};
use crate::tls::{Flags, Secure};
use std::net::{SocketAddr, ToSocketAddrs};

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// WebSocket frames after an HTTP upgrade (RFC 6455).
    WebSocket,
    /// A response that does not end: an event stream, or lines.
    Stream,
    /// Plain bytes over TCP, no opening.
    Bytes,
}

/// A URL, taken apart and resolved.
#[derive(Clone, Debug)]
pub struct Target {
    /// As it was written.
    pub url: String,
    /// By its scheme.
    pub speech: Speech,
    /// Where to connect to, in turn.
    pub addresses: Vec<SocketAddr>,
    /// For the Host field.
    pub host: String,
    /// For the request line.
    pub path: String,
    /// How TLS is spoken, where it is.
    pub tls: Option<Secure>,
}

const FORMS: &str =
    "write ws://HOST:PORT/PATH, http://HOST:PORT/PATH or tcp://HOST:PORT; with TLS wss://, https:// or tls://";

impl Target {
    /// Reads a URL and looks its host up.
    ///
    /// # Errors
    /// It is none of the known forms, or the name is unknown, or TLS cannot be spoken as `flags` say.
    pub fn read(url: &str, flags: &Flags) -> Result<Target, Failure> {
        let (speech, secured, rest) = scheme(url)?;
        let at = rest.find('/').unwrap_or(rest.len());
        let (host, path) = rest.split_at(at);
        let path = if path.is_empty() { "/" } else { path };
        if host.is_empty() || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return mistaken(format!("--url {url}: {FORMS}"));
        }
        let address = resolve(url, &with_port(host, if secured { 443 } else { 80 }))?;
        let tls = secured.then(|| Secure::new(flags, url, host_alone(host), speech != Speech::Bytes)).transpose()?;
        Ok(Target { url: url.into(), speech, addresses: vec![address], host: host.into(), path: path.into(), tls })
    }

    /// The port of the server.
    pub fn port(&self) -> u16 {
        self.addresses[0].port()
    }

    /// Whether the server is on this machine, as its address says.
    pub fn is_loopback(&self) -> bool {
        self.addresses.iter().all(|it| it.ip().is_loopback())
    }
}

/// What is spoken, whether over TLS, and what stands behind the scheme.
fn scheme(url: &str) -> Result<(Speech, bool, &str), Failure> {
    match url.split_once("://") {
        Some((scheme @ ("ws" | "wss"), rest)) => Ok((Speech::WebSocket, scheme == "wss", rest)),
        Some((scheme @ ("http" | "https"), rest)) => Ok((Speech::Stream, scheme == "https", rest)),
        Some((scheme @ ("tcp" | "tls"), rest)) => Ok((Speech::Bytes, scheme == "tls", rest)),
        _ => mistaken(format!("{url} is no URL; {FORMS}")),
    }
}

fn has_port(host: &str) -> bool {
    let port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    port && !host.ends_with(']')
}

fn with_port(host: &str, port: u16) -> String {
    if has_port(host) { host.into() } else { format!("{host}:{port}") }
}

/// The host as a certificate names it.
fn host_alone(host: &str) -> &str {
    let name = if has_port(host) { host.rsplit_once(':').map_or(host, |(name, _)| name) } else { host };
    name.trim_start_matches('[').trim_end_matches(']')
}

fn resolve(url: &str, host: &str) -> Result<SocketAddr, Failure> {
    match host.to_socket_addrs().map(|mut all| all.next()) {
        Ok(Some(address)) => Ok(address),
        Ok(None) => mistaken(format!("{url}: {host} has no address")),
        Err(error) => mistaken(format!("{url}: {host}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let read = |url: &str| Target::read(url, &Flags { insecure: true, ..Flags::default() });
        let target = read("ws://127.0.0.1:8080/echo?a=b").expect("a URL");
        assert_eq!((target.speech, target.path.as_str(), target.port()), (Speech::WebSocket, "/echo?a=b", 8080));
        let target = read("http://[::1]").expect("a URL");
        assert_eq!((target.speech, target.path.as_str(), target.port()), (Speech::Stream, "/", 80));
        let target = read("wss://[::1]/").expect("a URL");
        assert_eq!((target.speech, target.port(), target.tls.is_some()), (Speech::WebSocket, 443, true));
        assert_eq!(host_alone("[::1]:8443"), "::1");
        assert!(
            ["wss:///", "127.0.0.1:80", "ws://", "ws:///x", "tcp://127.0.0.1:99999"]
                .iter()
                .all(|url| read(url).is_err())
        );
    }
}

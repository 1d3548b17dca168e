//! Where the server is, and how its clients open.

use crate::failure::{Failure, mistaken};
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
}

const FORMS: &str = "write ws://HOST:PORT/PATH, http://HOST:PORT/PATH or tcp://HOST:PORT";

impl Target {
    /// Reads a URL and looks its host up.
    ///
    /// # Errors
    /// It is none of the known forms, or the name is unknown.
    pub fn read(url: &str) -> Result<Target, Failure> {
        let (speech, rest) = scheme(url)?;
        let at = rest.find('/').unwrap_or(rest.len());
        let (host, path) = rest.split_at(at);
        let path = if path.is_empty() { "/" } else { path };
        if host.is_empty() || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return mistaken(format!("--url {url}: {FORMS}"));
        }
        let address = resolve(url, &with_port(host))?;
        Ok(Target { url: url.into(), speech, addresses: vec![address], host: host.into(), path: path.into() })
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

fn scheme(url: &str) -> Result<(Speech, &str), Failure> {
    match url.split_once("://") {
        Some(("ws", rest)) => Ok((Speech::WebSocket, rest)),
        Some(("http", rest)) => Ok((Speech::Stream, rest)),
        Some(("tcp", rest)) => Ok((Speech::Bytes, rest)),
        Some(("wss" | "https", _)) => {
            mistaken(format!("{url}: this tool speaks no TLS; measure behind it, over ws://"))
        }
        _ => mistaken(format!("{url} is no URL; {FORMS}")),
    }
}

fn with_port(host: &str) -> String {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    if has_port && !host.ends_with(']') { host.into() } else { format!("{host}:80") }
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
        let target = Target::read("ws://127.0.0.1:8080/echo?a=b").expect("a URL");
        assert_eq!((target.speech, target.path.as_str(), target.port()), (Speech::WebSocket, "/echo?a=b", 8080));
        let target = Target::read("http://[::1]").expect("a URL");
        assert_eq!((target.speech, target.path.as_str(), target.port()), (Speech::Stream, "/", 80));
        assert!(
            ["wss://127.0.0.1/", "127.0.0.1:80", "ws://", "ws:///x", "tcp://127.0.0.1:99999"]
                .iter()
                .all(|url| Target::read(url).is_err())
        );
    }
}

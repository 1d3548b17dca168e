//! Who may ask the admin address for what.
//!
//! It knows no password, so that a web page must not be able to use it in the browser of somebody who reaches it: not
//! by requests of its own origin, and not by a name of its own that it lets lead here (DNS rebinding). `/v1/...` is for
//! those who ask by a name of this address; health, readiness, metrics and the page at `/` are for everybody.

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Who may ask the admin address for what, and how much of it.
#[derive(Clone, Debug)]
pub struct AdminRules {
    /// Origins whose pages may use it from a browser.
    pub allow_origin: Vec<String>,
    /// Names by which it may be asked, in lower case, beside addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Connections at one time, at most.
    pub connections: usize,
    /// How long a head, a body or the taking of an answer may take.
    pub timeout: Duration,
    /// Bytes of request bodies at one time, at most.
    pub body_bytes: usize,
    /// Channels of a page of `/v1/channels`, at most.
    pub page_channels: usize,
}

/// Marks a request on a connection beyond `admin_connections`.
#[derive(Clone, Copy)]
pub(super) struct Spare;

/// The answer to a request that is refused; `None`: it is not.
pub(super) fn refusal(rules: &AdminRules, request: &Request) -> Option<Response> {
    let (headers, path) = (request.headers(), request.uri().path());
    let host = request.uri().authority().map(Authority::as_str).or_else(|| headers.get(header::HOST).map(text));
    if !is_chunked_only(headers) {
        return Some(refused(StatusCode::NOT_IMPLEMENTED, "of transfer codings only chunked is taken"));
    }
    if request.extensions().get::<Spare>().is_some() && !is_for_balancers(path) {
        let words = "too many connections to this address (admin_connections)";
        let retry = [(header::RETRY_AFTER, "1"), (header::CONNECTION, "close")];
        return Some((StatusCode::SERVICE_UNAVAILABLE, retry, format!("{words}\n")).into_response());
    }
    if !path.starts_with("/v1/") {
        return None;
    }
    if host.is_some_and(|host| !is_named(rules, host)) {
        return Some(refused(StatusCode::FORBIDDEN, "the Host is none of this address's names (admin_hosts)"));
    }
    let origin = headers.get(header::ORIGIN)?;
    let foreign = !allows(rules, origin) && !host.is_some_and(|host| is_own(host, origin));
    foreign.then(|| refused(StatusCode::FORBIDDEN, "pages of this origin may not use this (admin_allow_origin)"))
}

fn refused(status: StatusCode, words: &str) -> Response {
    (status, [(header::CONNECTION, "close")], format!("{words}\n")).into_response()
}

/// The value of a field; `?`, which is no name, for one that is not ASCII.
fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("?")
}

fn is_for_balancers(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/metrics")
}

/// RFC 9112 section 6.1: what other codings have made of the content would have to be decoded.
fn is_chunked_only(headers: &HeaderMap) -> bool {
    headers.get_all(header::TRANSFER_ENCODING).iter().all(|it| it.as_bytes().eq_ignore_ascii_case(b"chunked"))
        && headers.get_all(header::TRANSFER_ENCODING).iter().count() <= 1
}

/// Whether pages of this origin may use the address.
pub(super) fn allows(rules: &AdminRules, origin: &HeaderValue) -> bool {
    rules.allow_origin.iter().any(|it| it.as_bytes() == origin.as_bytes())
}

/// Whether the page comes from this very address.
fn is_own(host: &str, origin: &HeaderValue) -> bool {
    let origin = origin.to_str().unwrap_or_default();
    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")).is_some_and(|it| it == host)
}

/// Whether the address may be asked by this name: nobody but its owner can make an address or `localhost` lead here.
fn is_named(rules: &AdminRules, host: &str) -> bool {
    let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
    let bare = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    match bare {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name == "localhost" || name.parse::<IpAddr>().is_ok() || rules.hosts.contains(&name),
    }
}

fn without_port(host: &str) -> &str {
    let port = host.rfind(':').filter(|&at| host[at + 1..].bytes().all(|it| it.is_ascii_digit()));
    port.map_or(host, |at| &host[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn status(target: &str, fields: &[(&str, &str)]) -> u16 {
        let rules = AdminRules {
            allow_origin: vec!["https://good.example".into()],
            hosts: vec!["edge.example".into()],
            connections: 1,
            timeout: Duration::ZERO,
            body_bytes: 0,
            page_channels: 1,
        };
        let mut request = Request::builder().uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        refusal(&rules, &request).map_or(200, |it| it.status().as_u16())
    }

    #[test]
    fn only_its_own_names_lead_to_what_is_behind_v1() {
        for host in ["127.0.0.1:9180", "127.0.0.1", "[::1]:9180", "LOCALHOST:1", "edge.example.:9180", "Edge.Example"] {
            assert_eq!(status("/v1/status", &[("Host", host)]), 200, "{host}");
        }
        for host in ["evil.example", "evil.example:9180", "", "127.0.0.1.evil.example", "[::1].evil.example", "[a]"] {
            assert_eq!(status("/v1/status", &[("Host", host)]), 403, "{host}");
            assert_eq!(status("/healthz", &[("Host", host)]), 200, "{host}");
            assert_eq!(status("/metrics", &[("Host", host)]), 200, "{host}");
        }
        let absolute = "http://evil.example/v1/status";
        assert_eq!(status(absolute, &[("Host", "127.0.0.1")]), 403);
    }

    #[test]
    fn pages_of_other_origins_are_kept_out() {
        let asked = |origin| status("/v1/channels", &[("Host", "127.0.0.1:9180"), ("Origin", origin)]);
        let origins = ["https://good.example", "http://127.0.0.1:9180", "https://bad.example", "null"];
        assert_eq!(origins.map(asked), [200, 200, 403, 403]);
        assert_eq!(status("/metrics", &[("Origin", "https://bad.example")]), 200);
    }

    #[test]
    fn no_coding_stands_before_chunked() {
        let asked = |coding| status("/v1/publish", &[("Transfer-Encoding", coding)]);
        assert_eq!(["chunked", "Chunked", "gzip, chunked", "gzip"].map(asked), [200, 200, 501, 501]);
        let lines = [("Transfer-Encoding", "gzip"), ("Transfer-Encoding", "chunked")];
        assert_eq!(status("/v1/publish", &lines), 501);
    }
}

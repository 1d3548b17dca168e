//! The WebSocket opening handshake (RFC 6455 section 4). A server calls [`wanted`], [`check`], [`choose`] and
//! [`answer`]; a client [`request`] and [`confirm`].
//!
//! The server's end works on a head that [`crate::http1::read`] has read. The client's end is as small as a load
//! generator and the tests need.

use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use crate::deflate::{self, Preferences};
use crate::http1::{Body, Head, Refusal, ResponseHead, Version, push_field};
use crate::status::Status;
use httparse::Header;

/// RFC 6455 section 1.3: appended to the key before it is hashed.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The length of a key in base64, in bytes, padding included.
const KEY_LEN: usize = 24;

/// The two unused bits in the last character of a key may be anything: some clients draw the characters at random
/// instead of the bytes, and the decoded bytes are never used.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// A client's opening handshake that is valid; see [`check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The value of Sec-WebSocket-Accept, in ASCII.
    pub accept: [u8; 28],
    /// The parameters of permessage-deflate (RFC 7692) for the client's first acceptable offer, with context takeover
    /// where the offer allows it; `None`: no such offer.
    pub deflate: Option<deflate::Parameters>,
}

/// Whether the request asks for WebSocket: it is a GET (RFC 6455 section 4.1), in HTTP/1.1, and Upgrade has
/// `websocket`. With another method the field is ignored, as a server may; in HTTP/1.0 it must be (RFC 9110 section
/// 7.8).
pub fn wanted(head: &Head<'_, '_>) -> bool {
    head.method == "GET" && head.version == Version::Http11 && head.has_token("Upgrade", "websocket")
}

/// Checks a client's opening handshake (RFC 6455 section 4.2.1).
///
/// # Errors
/// The first [`Refusal`] in this order: method, version, Upgrade, Connection, Sec-WebSocket-Version, content,
/// Sec-WebSocket-Key. A response with status 405 must have `Allow: GET`, one with 426 `Upgrade: websocket`,
/// `Connection: Upgrade` and `Sec-WebSocket-Version: 13` (RFC 9110 sections 15.5.6 and 15.5.22, RFC 6455 section 4.4).
pub fn check(head: &Head<'_, '_>) -> Result<Opening, Refusal> {
    let demands = [
        (head.method == "GET", Refusal::OpeningMethod),
        (head.version == Version::Http11, Refusal::OpeningHttp10),
        (head.has_token("Upgrade", "websocket"), Refusal::NoUpgrade),
        (head.has_token("Connection", "upgrade"), Refusal::NoConnectionUpgrade),
        (head.all("Sec-WebSocket-Version").eq([b"13"]), Refusal::OtherWebSocketVersion),
        (matches!(head.body, Body::None | Body::Length(0)), Refusal::OpeningBody),
    ];
    match demands.iter().find(|(met, _)| !met) {
        Some((_, refusal)) => Err(*refusal),
        None => key(head).map(|key| Opening {
            accept: accept_key(key),
            deflate: deflate::negotiate(head, Preferences { context_takeover: true }),
        }),
    }
}

/// The value of Sec-WebSocket-Key: one line (11.3.1), 16 bytes in base64 (4.1).
fn key<'b>(head: &Head<'_, 'b>) -> Result<&'b [u8], Refusal> {
    let mut keys = head.all("Sec-WebSocket-Key");
    match (keys.next(), keys.next()) {
        (None, _) => Err(Refusal::NoKey),
        (Some(_), Some(_)) => Err(Refusal::TwoKeys),
        (Some(key), None) if is_key(key) => Ok(key),
        (Some(_), None) => Err(Refusal::BadKey),
    }
}

fn is_key(key: &[u8]) -> bool {
    // The decoder estimates its output by blocks of three bytes, so it demands room for 18.
    key.len() == KEY_LEN && BASE64.decode_slice(key, &mut [0; 18]) == Ok(16)
}

/// The value of Sec-WebSocket-Accept for that of Sec-WebSocket-Key (4.2.2, item 5.4), both in base64.
pub fn accept_key(key: &[u8]) -> [u8; 28] {
    let mut hash = sha1_smol::Sha1::from(key);
    hash.update(GUID);
    let mut accept = [0; 28];
    // 20 bytes always make 28 characters, so this cannot fail.
    let written = BASE64.encode_slice(hash.digest().bytes(), &mut accept);
    debug_assert_eq!(written, Ok(accept.len()));
    accept
}

/// The subprotocol to be used: the first in the client's list, which is in its order of preference (4.1), that
/// `supported` has; the order of `supported` does not matter. `None`: none is common to both, and the response must not
/// name one (4.2.2). Names are compared exactly (11.5). Of the list the first
/// [`MAX_ELEMENTS`](crate::http1::MAX_ELEMENTS) are looked at.
pub fn choose<'s>(head: &Head<'_, '_>, supported: &'s [String]) -> Option<&'s str> {
    head.list("Sec-WebSocket-Protocol")
        .find_map(|offer| supported.iter().find(|name| *name == offer))
        .map(String::as_str)
}

/// Whether the client names any subprotocol.
pub fn offers(head: &Head<'_, '_>) -> bool {
    head.list("Sec-WebSocket-Protocol").next().is_some()
}

/// Appends the server's response, a head with status 101 (4.2.2, item 5). `protocol` must be one that the client has
/// named ([`choose`]). `deflate` must be `opening.deflate`, or that without context takeover in one or both directions,
/// or `None`.
pub fn answer(out: &mut Vec<u8>, opening: &Opening, protocol: Option<&str>, deflate: Option<deflate::Parameters>) {
    let mut head = ResponseHead::begin(out, Status::SWITCHING_PROTOCOLS)
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Accept", str::from_utf8(&opening.accept).unwrap_or(""));
    if let Some(name) = protocol {
        head = head.header("Sec-WebSocket-Protocol", name);
    }
    if let Some(agreed) = deflate {
        head = head.header("Sec-WebSocket-Extensions", agreed.text().as_str());
    }
    head.end();
}

/// A client's key as the value of Sec-WebSocket-Key.
fn encode_key(key: [u8; 16]) -> [u8; KEY_LEN] {
    let mut encoded = [0; KEY_LEN];
    let written = BASE64.encode_slice(key, &mut encoded);
    debug_assert_eq!(written, Ok(encoded.len()));
    encoded
}

/// What a client's opening handshake offers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offer<'o> {
    /// Subprotocols in the order of preference; each is a token.
    pub protocols: &'o [&'o str],
    /// permessage-deflate (RFC 7692) with these preferences; `None`: not offered.
    pub deflate: Option<Preferences>,
}

/// Appends a client's opening handshake, a whole request head (4.1). `host` is the value of Host; `path` begins with
/// `/` and may have a query; `key` must be random and new for each connection.
///
/// # Panics
/// With debug assertions, where `path` is not visible ASCII or does not begin with `/`, or a text has a line break.
pub fn request(out: &mut Vec<u8>, host: &str, path: &str, key: [u8; 16], offer: Offer<'_>) {
    debug_assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()));
    out.extend_from_slice(b"GET ");
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    push_field(out, "Host", host);
    push_field(out, "Upgrade", "websocket");
    push_field(out, "Connection", "Upgrade");
    push_field(out, "Sec-WebSocket-Version", "13");
    push_field(out, "Sec-WebSocket-Key", str::from_utf8(&encode_key(key)).unwrap_or(""));
    for protocol in offer.protocols {
        push_field(out, "Sec-WebSocket-Protocol", protocol);
    }
    if let Some(preferences) = offer.deflate {
        push_field(out, "Sec-WebSocket-Extensions", deflate::offer(preferences));
    }
    out.extend_from_slice(b"\r\n");
}

/// A server's response that establishes the connection; see [`confirm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed<'b> {
    /// The length of the response head in bytes; frames begin there.
    pub len: usize,
    /// The subprotocol that the server has chosen, one of those offered.
    pub protocol: Option<&'b str>,
    /// The agreed parameters of permessage-deflate; `None`: it is not used.
    pub deflate: Option<deflate::Parameters>,
}

/// Why a server's response does not establish the connection (4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unconfirmed {
    /// The bytes are not an HTTP/1 response head of at most 64 fields.
    NotHttp,
    /// Another status code than 101.
    Status(u16),
    /// Upgrade, Connection or Sec-WebSocket-Accept is missing or has another value than the RFC demands.
    NotWebSocket,
    /// A subprotocol or an extension that was not offered, or with parameters that the offer does not allow.
    NotOffered,
}

/// Reads the server's response to [`request`] with the same `key` and `offer` (4.1). `Ok(None)`: the head is not whole;
/// the same bytes are to be presented again with more behind them.
///
/// # Errors
/// [`Unconfirmed`]; the client must then fail the connection.
pub fn confirm<'b>(response: &'b [u8], key: [u8; 16], offer: Offer<'_>) -> Result<Option<Confirmed<'b>>, Unconfirmed> {
    let mut store = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut store);
    let len = match head.parse(response) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Unconfirmed::NotHttp),
    };
    match head.code {
        Some(101) => {}
        code => return Err(Unconfirmed::Status(code.unwrap_or(0))),
    }
    let value =
        |name: &str| head.headers.iter().find(|line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value);
    let is = |name: &str, wanted: &[u8]| value(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted));
    let accepted = value("Sec-WebSocket-Accept") == Some(&accept_key(&encode_key(key)));
    if !(is("Upgrade", b"websocket") && is("Connection", b"upgrade") && accepted) {
        return Err(Unconfirmed::NotWebSocket);
    }
    let protocol = value("Sec-WebSocket-Protocol").map(|name| str::from_utf8(name).unwrap_or(""));
    if protocol.is_some_and(|name| !offer.protocols.contains(&name)) {
        return Err(Unconfirmed::NotOffered);
    }
    let deflate = confirm_deflate(head.headers, offer.deflate)?;
    Ok(Some(Confirmed { len, protocol, deflate }))
}

/// At most one Sec-WebSocket-Extensions, and in it what the offer allows.
fn confirm_deflate(
    headers: &[Header<'_>],
    offered: Option<Preferences>,
) -> Result<Option<deflate::Parameters>, Unconfirmed> {
    let mut lines = headers.iter().filter(|line| line.name.eq_ignore_ascii_case("Sec-WebSocket-Extensions"));
    match (lines.next(), lines.next(), offered) {
        (None, _, _) => Ok(None),
        (Some(line), None, Some(preferences)) => {
            deflate::confirm(line.value, preferences).map(Some).ok_or(Unconfirmed::NotOffered)
        }
        _ => Err(Unconfirmed::NotOffered),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{HeadLimits, MAX_HEADERS, read};
    use alloc::format;
    use httparse::EMPTY_HEADER;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &[u8; 28] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn with<T>(request: &[u8], look: impl Fn(&Head<'_, '_>) -> T) -> T {
        let mut store = [EMPTY_HEADER; MAX_HEADERS];
        let limits = HeadLimits { head_bytes: 4096, head_count: 64, target_bytes: 1024 };
        look(&read(request, &limits, &mut store).unwrap().unwrap())
    }

    const GOOD: [(&str, &str); 5] = [
        ("Host", "a"),
        ("Upgrade", "h2c, WebSocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", KEY),
    ];

    /// The good opening with this line of it changed (or left out, if empty), behind this request line.
    fn changed(line: &str, name: &str, value: &str) -> Result<Opening, Refusal> {
        let mut request = format!("{line}\r\n");
        for (n, v) in GOOD.iter().filter(|(n, _)| *n != name) {
            request += &format!("{n}: {v}\r\n");
        }
        if !value.is_empty() {
            request += &format!("{name}: {value}\r\n");
        }
        with(format!("{request}\r\n").as_bytes(), check)
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        assert_eq!(accept_key(KEY.as_bytes()), *ACCEPT);
        assert_eq!(changed("GET /chat HTTP/1.1", "X", "y"), Ok(Opening { accept: *ACCEPT, deflate: None }));
    }

    #[test]
    fn each_demand_has_its_own_refusal() {
        let get = "GET / HTTP/1.1";
        for (line, name, value, wanted) in [
            ("POST / HTTP/1.1", "X", "y", Refusal::OpeningMethod),
            ("GET / HTTP/1.0", "X", "y", Refusal::OpeningHttp10),
            (get, "Upgrade", "", Refusal::NoUpgrade),
            (get, "Upgrade", "websockets", Refusal::NoUpgrade),
            (get, "Connection", "", Refusal::NoConnectionUpgrade),
            (get, "Connection", "keep-alive", Refusal::NoConnectionUpgrade),
            (get, "Sec-WebSocket-Version", "", Refusal::OtherWebSocketVersion),
            (get, "Sec-WebSocket-Version", "8", Refusal::OtherWebSocketVersion),
            (get, "Sec-WebSocket-Version", "13, 8", Refusal::OtherWebSocketVersion),
            (get, "Sec-WebSocket-Key", "", Refusal::NoKey),
            (get, "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ", Refusal::BadKey),
            (get, "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZWU=", Refusal::BadKey),
            (get, "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZWVl", Refusal::BadKey),
            (get, "Sec-WebSocket-Key", "!GhlIHNhbXBsZSBub25jZQ==", Refusal::BadKey),
            (get, "Sec-WebSocket-Key", &format!("{KEY}\r\nSec-WebSocket-Key: {KEY}"), Refusal::TwoKeys),
            (get, "Content-Length", "1", Refusal::OpeningBody),
            (get, "Transfer-Encoding", "chunked", Refusal::OpeningBody),
        ] {
            assert_eq!(changed(line, name, value), Err(wanted), "{line} {name}: {value}");
        }
        assert!(changed(get, "Content-Length", "0").is_ok());
        assert!(changed(get, "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZR==").is_ok());
    }

    #[test]
    fn an_upgrade_is_wanted_by_get_from_http_1_1_on() {
        let wants = |method: &str, version: &str, to: &str| {
            with(format!("{method} / HTTP/{version}\r\nHost: a\r\nUpgrade: {to}\r\n\r\n").as_bytes(), wanted)
        };
        assert!(wants("GET", "1.1", "WEBSOCKET"));
        assert!(!wants("GET", "1.0", "websocket") && !wants("GET", "1.1", "h2c"));
        assert!(!wants("HEAD", "1.1", "websocket"));
    }

    #[test]
    fn the_client_prefers_and_names_are_exact() {
        let supported = ["a".into(), "b".into()];
        let chosen = |offer: &str| {
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{offer}\r\n");
            with(request.as_bytes(), |head| (offers(head), choose(head, &supported)))
        };
        assert_eq!(chosen("Sec-WebSocket-Protocol: x, b, a\r\n"), (true, Some("b")));
        assert_eq!(chosen("Sec-WebSocket-Protocol: x\r\nSec-WebSocket-Protocol: a\r\n"), (true, Some("a")));
        assert_eq!(chosen("Sec-WebSocket-Protocol: A\r\n"), (true, None));
        assert_eq!(chosen("Sec-WebSocket-Protocol: ,\r\n"), (false, None));
        assert_eq!(chosen(""), (false, None));
    }

    /// The server's response to `request(key, offered)` where it supports `supported`.
    fn answered(key: [u8; 16], offered: Offer<'_>, supported: &[String]) -> Vec<u8> {
        let mut asked = Vec::new();
        request(&mut asked, "h:1", "/p?q", key, offered);
        with(&asked, |head| {
            let mut out = Vec::new();
            let agreed = deflate::negotiate(head, Preferences { context_takeover: false });
            let opening = check(head).unwrap();
            assert_eq!(opening.deflate.is_some(), agreed.is_some());
            answer(&mut out, &opening, choose(head, supported), agreed);
            out
        })
    }

    #[test]
    fn both_sides_agree() {
        let (key, supported) = ([7; 16], ["v1".into()]);
        for deflate in [None, Some(Preferences { context_takeover: false })] {
            let offered = Offer { protocols: &["v2", "v1"], deflate };
            let response = answered(key, offered, &supported);
            let agreed = deflate.map(|_| deflate::Parameters::PLAIN);
            let confirmed = Confirmed { len: response.len(), protocol: Some("v1"), deflate: agreed };
            assert_eq!(confirm(&response, key, offered), Ok(Some(confirmed)));
            for cut in 0..response.len() {
                assert_eq!(confirm(&response[..cut], key, offered), Ok(None));
            }
        }
    }

    #[test]
    fn the_client_checks() {
        let nothing = Offer::default();
        let (a, b) = (Offer { protocols: &["a"], ..nothing }, Offer { protocols: &["b"], ..nothing });
        let response = answered([7; 16], a, &["a".into()]);
        assert_eq!(confirm(&response, [8; 16], a), Err(Unconfirmed::NotWebSocket));
        assert_eq!(confirm(&response, [7; 16], b), Err(Unconfirmed::NotOffered));
        assert_eq!(confirm(b"HTTP/1.1 403 Forbidden\r\n\r\n", [7; 16], nothing), Err(Unconfirmed::Status(403)));
        assert_eq!(confirm(b"\x00", [7; 16], nothing), Err(Unconfirmed::NotHttp));
        let deflate = Offer { deflate: Some(Preferences { context_takeover: false }), ..nothing };
        let response = answered([7; 16], deflate, &[]);
        assert_eq!(confirm(&response, [7; 16], nothing), Err(Unconfirmed::NotOffered));
    }
}

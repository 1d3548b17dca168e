//! Request heads and bodies: cutting changes nothing, and nothing panics.

mod laws;

use edgehold_wire::http1::{Body, HeadLimits};
use proptest::prelude::*;

fn limits() -> impl Strategy<Value = HeadLimits> {
    let tight = (0..300_usize, 0..6_usize, 0..40_usize);
    let wide = Just((4096, 64, 1024));
    prop_oneof![wide, tight].prop_map(|(head_bytes, head_count, target_bytes)| HeadLimits {
        head_bytes,
        head_count,
        target_bytes,
    })
}

/// Pieces of requests, good and bad; strung together they come near every branch of the reader.
const SCRAPS: [&str; 36] = [
    "GET ",
    "OPTIONS ",
    "CONNECT ",
    "PRI ",
    "/",
    "*",
    "/a?b=c",
    "http://h:1/p",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    " HTTP/2.0\r\n",
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    ",",
    "Host: a\r\n",
    "Host: a:b\r\n",
    "Host:\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 5, 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "Expect: x\r\n",
    "Upgrade: websocket\r\n",
    "A: b\r\n",
    "A : b\r\n",
    " folded\r\n",
    "A: \u{e9}\r\n",
    "\0",
    "\u{7f}",
    "aaaaaaaaaaaaaaaaaaaa",
];

/// One of [`SCRAPS`], or a few bytes of any kind.
fn scrap() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(SCRAPS.to_vec());
    prop_oneof![
        8 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ]
}

/// A good request line and Host, so that the field lines are reached.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec![
        &b""[..],
        b"\r\n",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"POST /p?q HTTP/1.0\r\n",
    ]);
    let end = prop::sample::select(vec![&b""[..], b"\r\n", b"\r\n\r\n", b"\r\nmore"]);
    (start, prop::collection::vec(scrap(), 0..8), end)
        .prop_map(|(start, scraps, end)| [start, &scraps.concat(), end].concat())
}

fn chunked() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "1\r\nx\r\n",
        "a\r\n0123456789\r\n",
        "0\r\n",
        "\r\n",
        "0\r\n\r\n",
        "5",
        "00",
        "f",
        "ffffffffffffffff",
        " ",
        ";",
        ";a=b\r\n",
        "A: b\r\n",
        "A:\r\n",
        "\r",
        "\n",
        "GET",
        "\0",
    ]);
    prop::collection::vec(known, 0..12).prop_map(|parts| parts.concat().into_bytes())
}

fn bodies() -> impl Strategy<Value = Body> {
    prop_oneof![Just(Body::None), (0..40_u64).prop_map(Body::Length), Just(Body::Chunked)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn heads_read_the_same_however_cut(bytes in request(), limits in limits()) {
        laws::head(&bytes, &limits);
    }

    #[test]
    fn garbage_heads_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), limits in limits()) {
        laws::head(&bytes, &limits);
    }

    #[test]
    fn bodies_read_the_same_however_cut(
        bytes in chunked(), body in bodies(), cuts in prop::collection::vec(0..9_u8, 1..9)
    ) {
        laws::body(&bytes, &body, &cuts);
    }

    #[test]
    fn openings_are_answered_with_their_own_key(
        scraps in prop::collection::vec(opening_line(), 0..9), limits in limits()
    ) {
        let request = ["GET / HTTP/1.1\r\nHost: a\r\n", &scraps.concat(), "\r\n"].concat();
        laws::head(request.as_bytes(), &limits);
        laws::opening(request.as_bytes(), &limits, &["a".into(), "b".into()]);
    }
}

fn opening_line() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\n",
        "Sec-WebSocket-Version: 13\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Sec-WebSocket-Key: x\r\n",
        "Sec-WebSocket-Protocol: b, a\r\n",
        "Sec-WebSocket-Version: 8\r\n",
        "Content-Length: 1\r\n",
    ])
}

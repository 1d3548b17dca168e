//! Where a client comes from: PROXY headers, and what proxies say of a request.

mod laws;

use edgehold_wire::forwarded::Field;
use edgehold_wire::proxy_protocol::Addresses;
use proptest::prelude::*;
use std::net::SocketAddr;

/// Parts of headers of both versions, good and bad.
const SCRAPS: [&[u8]; 24] = [
    b"PROXY ",
    b"TCP4 ",
    b"TCP6 ",
    b"UNKNOWN",
    b"192.0.2.1 ",
    b"198.51.100.2 ",
    b"2001:db8::1 ",
    b"::1 ",
    b"56324 ",
    b"443",
    b"01",
    b"\r\n",
    b"\n",
    b" ",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x21\x11\0\x0c",
    b"\x21\x21\0\x24",
    b"\x20\0\0\0",
    b"\x21\x11\x10\x01",
    b"\x21\x12\0\x0c",
    b"\x21\x11\0\x13",
    b"\xc0\0\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb",
    b"\x03\0\x04\x01\x02\x03\x04",
    b"\x04\0\x01\0",
];

fn scraps() -> impl Strategy<Value = Vec<u8>> {
    let scrap = prop_oneof![
        9 => prop::sample::select(SCRAPS.to_vec()).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(scrap, 0..9).prop_map(|scraps| scraps.concat())
}

/// A line of version 1 as it should be, with some byte of it changed or none.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let addresses = (any::<[u8; 4]>(), any::<[u8; 16]>(), any::<bool>(), any::<u16>(), any::<u16>());
    (addresses, prop::option::weighted(0.5, (0..60_usize, any::<u8>()))).prop_map(
        |((v4, v6, is_v4, one, two), change)| {
            let (v4, v6) = (std::net::Ipv4Addr::from(v4), std::net::Ipv6Addr::from(v6));
            let addresses = if is_v4 { format!("TCP4 {v4} {v4}") } else { format!("TCP6 {v6} {v6}") };
            let mut line = format!("PROXY {addresses} {one} {two}\r\nGET /").into_bytes();
            if let Some((at, byte)) = change {
                let at = at % line.len();
                line[at] = byte;
            }
            line
        },
    )
}

/// Parts of Forwarded and X-Forwarded-For.
const FIELD_SCRAPS: [&str; 26] = [
    "for=",
    "For=",
    "by=",
    "host=",
    ";",
    ",",
    ", ",
    " ",
    "\t",
    "\"",
    "\\",
    "=",
    "_hidden",
    "unknown",
    "10.0.0.1",
    "10.0.0.2:80",
    "192.0.2.1",
    "192.0.2.2:9",
    "2001:db8::1",
    "[2001:db8::1]",
    "[2001:db8::2]:7",
    "0a00::1",
    "::ffff:10.0.0.3",
    ":",
    "\"[2001:db8::3]:_x\"",
    "\u{e9}",
];

fn field_line() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(FIELD_SCRAPS.to_vec()), 0..14).prop_map(|it| it.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_proxy_header_is_the_same_however_it_is_cut(bytes in prop_oneof![scraps(), line()]) {
        laws::proxy_header(&bytes);
    }

    #[test]
    fn a_proxy_header_comes_back_from_the_writer(
        (source, destination) in any::<(SocketAddr, SocketAddr)>(),
        tlvs in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..1100)), 0..6),
    ) {
        laws::proxy_round_trip(Addresses { source, destination }, &tlvs);
    }

    #[test]
    fn nobody_is_believed_whom_nobody_trusted_has_told(lines in prop::collection::vec(field_line(), 0..4)) {
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        laws::forwarded(Field::XForwardedFor, &lines, 10);
        laws::forwarded(Field::Forwarded, &lines, 10);
    }
}

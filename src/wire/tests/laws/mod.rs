//! The laws of this package as functions that panic when one is broken. Property tests and fuzz targets hand them
//! their bytes, so both check the same. `cuts` are the lengths of the pieces in which the bytes arrive, over and over.
#![allow(dead_code, reason = "every test binary asks for some of the laws")]

pub(crate) mod stomp;

use edgehold_wire::deflate::{self, Deflater, Inflater, Parameters, Preferences, Window};
use edgehold_wire::forwarded::{self, Field};
use edgehold_wire::http1::{self, Body, BodyEvent, BodyReader, Head, HeadLimits, MAX_HEADERS, Refusal};
use edgehold_wire::mask::{self, Kind};
use edgehold_wire::mqtt::{self, Read};
use edgehold_wire::proxy_protocol::{self, Addresses, Header, MAX_V1, MAX_V2, Version, Writer};
use edgehold_wire::utf8::{self, Tail};
use edgehold_wire::ws::{Fault, FrameEvent, MAX_LEFT, Parser, ParserConfig};
use edgehold_wire::{EMPTY_HEADER, upgrade};
use std::net::{IpAddr, SocketAddr};

/// Splits `bytes` into pieces of `cuts` bytes each, over and over; some may be empty. With no cuts, or all of them
/// zero, there is one piece.
pub(crate) fn pieces<'b>(mut bytes: &'b [u8], cuts: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
    let goes_on = cuts.iter().any(|&cut| cut > 0);
    let mut cuts = cuts.iter().cycle();
    core::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let len = cuts.next().filter(|_| goes_on).map_or(bytes.len(), |&cut| usize::from(cut));
        let (piece, rest) = bytes.split_at(len.min(bytes.len()));
        bytes = rest;
        Some(piece)
    })
}

fn read<T>(bytes: &[u8], limits: &HeadLimits, look: impl Fn(&Head<'_, '_>) -> T) -> Result<Option<T>, Refusal> {
    let mut store = [EMPTY_HEADER; MAX_HEADERS];
    Ok(http1::read(bytes, limits, &mut store)?.map(|head| look(&head)))
}

/// On every prefix the result is "not whole yet" or the result on the whole.
pub(crate) fn head(bytes: &[u8], limits: &HeadLimits) {
    let answer = |len| read(&bytes[..len], limits, |head| format!("{head:?} {:?}", head.expects_continue()));
    let whole = answer(bytes.len());
    for len in 0..bytes.len() {
        let prefix = answer(len);
        assert!(prefix == Ok(None) || prefix == whole, "at {len}: {prefix:?}, whole: {whole:?}");
    }
}

/// What a body reader has returned: the content, the number of bytes taken, and whether it has ended.
type Content = (Vec<u8>, usize, Result<bool, Refusal>);

fn content(bytes: &[u8], body: &Body, cuts: &[u8]) -> Content {
    let (mut reader, mut content, mut taken) = (BodyReader::new(body), Vec::new(), 0);
    for piece in pieces(bytes, cuts) {
        let mut input = piece;
        loop {
            match reader.next(&mut input) {
                Ok(BodyEvent::Piece([])) => panic!("an empty piece of content"),
                Ok(BodyEvent::Piece(piece)) => content.extend_from_slice(piece),
                Ok(BodyEvent::More) => break assert!(input.is_empty()),
                Ok(BodyEvent::End) => {
                    return (content, taken + piece.len() - input.len(), Ok(true));
                }
                Err(refusal) => return (content, taken + piece.len() - input.len(), Err(refusal)),
            }
        }
        taken += piece.len();
    }
    (content, taken, Ok(reader.is_done()))
}

/// The same content, the same end, the same refusal at the same byte, however it is cut.
pub(crate) fn body(bytes: &[u8], body: &Body, cuts: &[u8]) {
    assert_eq!(content(bytes, body, cuts), content(bytes, body, &[]));
}

/// A valid opening is answered with the accept key of its own key, and with a subprotocol that both ends have.
pub(crate) fn opening(bytes: &[u8], limits: &HeadLimits, supported: &[String]) {
    let judge = |head: &Head<'_, '_>| {
        if let Some(name) = upgrade::choose(head, supported) {
            assert!(upgrade::offers(head) && head.list("Sec-WebSocket-Protocol").any(|offer| offer == name));
        }
        let Ok(opening) = upgrade::check(head) else {
            return;
        };
        assert!(upgrade::wanted(head) && head.body.is_empty());
        assert_eq!(opening.accept, upgrade::accept_key(head.get("sec-websocket-key").unwrap()));
        let mut out = Vec::new();
        let agreed = deflate::negotiate(head, Preferences { context_takeover: bytes.len().is_multiple_of(2) });
        upgrade::answer(&mut out, &opening, upgrade::choose(head, supported), agreed);
        assert!(out.starts_with(b"HTTP/1.1 101 ") && out.ends_with(b"\r\n\r\n"));
    };
    let _ = read(bytes, limits, judge);
}

/// What a server agrees to when these are the lines of Sec-WebSocket-Extensions.
pub(crate) fn agreed(lines: &[&[u8]], preferences: Preferences) -> Option<Parameters> {
    let mut request = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    for line in lines {
        request.extend([b"Sec-WebSocket-Extensions: ", *line, b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    let limits = HeadLimits { head_bytes: 8192, head_count: 64, target_bytes: 64 };
    read(&request, &limits, |head| deflate::negotiate(head, preferences)).ok()??
}

/// What is agreed on is within what was wished for and is what the client's side reads, which reads anything else
/// without panic.
pub(crate) fn negotiation(line: &[u8], preferences: Preferences) {
    let _ = deflate::confirm(line, preferences);
    let Some(agreed) = agreed(&[line], preferences) else { return };
    assert!((9..=15).contains(&agreed.server_bits) && (8..=15).contains(&agreed.client_bits));
    assert!(preferences.context_takeover || !agreed.server_takeover && !agreed.client_takeover);
    let all = Preferences { context_takeover: true };
    let confirmed = deflate::confirm(agreed.text().as_str().as_bytes(), all);
    assert_eq!(confirmed, (agreed.client_bits >= 9).then_some(agreed));
}

/// An inflater that was used, even for something broken, reads as a new one does, and never beyond the limit; what it
/// reads comes back from the deflater's form of it.
pub(crate) fn inflate(bytes: &[u8], before: &[u8], limit: u64) {
    let (mut used, mut out) = (Inflater::default(), Vec::new());
    let _ = used.message(before, None, limit, &mut out);
    for takeover in [false, true] {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        let window = || {
            let mut window = Window::new(9);
            Deflater::default().message(before, Some(&mut window), 9, &mut Vec::new());
            window
        };
        let (mut here, mut there) = (takeover.then(window), takeover.then(window));
        let read = used.message(bytes, here.as_mut(), limit, &mut one);
        assert_eq!(Inflater::default().message(bytes, there.as_mut(), limit, &mut two), read);
        assert!(one == two && one.len() as u64 <= limit && (read.is_ok() || one.is_empty()));
        if read.is_ok() {
            let (mut again, mut plain) = (Vec::new(), Vec::new());
            Deflater::default().message(&one, None, 15, &mut again);
            assert_eq!(used.message(&again, None, limit, &mut plain), Ok(()));
            assert!(plain == one);
        }
    }
}

/// What a peer has sent, pieces put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Message(bool, Vec<u8>),
    /// As it came, deflated.
    Deflated(bool, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// What a parser has returned: whole messages and control frames, what has come of a message that has not ended, and
/// the fault.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) items: Vec<Incoming>,
    pub(crate) begun: Option<(bool, bool, Vec<u8>)>,
    pub(crate) fault: Option<Fault>,
}

impl Received {
    fn take(&mut self, event: &FrameEvent<'_>) {
        match *event {
            FrameEvent::Data { text, deflated, first, last, payload } => {
                self.data((text, deflated), (first, last), payload);
            }
            FrameEvent::Empty => {}
            FrameEvent::Ping(payload) => self.items.push(Incoming::Ping(payload.into())),
            FrameEvent::Pong(payload) => self.items.push(Incoming::Pong(payload.into())),
            FrameEvent::Close(close) => {
                self.items.push(Incoming::Close(close.map(|(code, reason)| (code.0, reason.into()))));
            }
        }
    }

    fn data(&mut self, (text, deflated): (bool, bool), (first, last): (bool, bool), payload: &[u8]) {
        assert_eq!(first, self.begun.is_none(), "first is set once, at the beginning");
        assert!(last || !payload.is_empty(), "an empty piece without effect");
        let (was_text, was_deflated, message) = self.begun.get_or_insert((text, deflated, Vec::new()));
        assert_eq!((text, deflated), (*was_text, *was_deflated));
        message.extend_from_slice(payload);
        assert!(!text || deflated || utf8::whole(message).is_ok(), "text that is not UTF-8 was given out");
        if let (true, Some((text, deflated, message))) = (last, self.begun.take_if(|_| last)) {
            assert!(!text || deflated || core::str::from_utf8(&message).is_ok());
            self.items.push(if deflated {
                Incoming::Deflated(text, message)
            } else {
                Incoming::Message(text, message)
            });
        }
    }
}

/// Presents `bytes` in pieces as a shard does: what is left goes in front of the next piece.
pub(crate) fn receive(bytes: &[u8], config: &ParserConfig, cuts: &[u8]) -> Received {
    let (mut parser, mut received, mut left) = (Parser::new(), Received::default(), Vec::new());
    for piece in pieces(bytes, cuts) {
        left.extend_from_slice(piece);
        let mut input = &mut left[..];
        loop {
            match parser.next(&mut input, config) {
                Ok(Some(event)) => received.take(&event),
                Ok(None) => break,
                Err(fault) => {
                    received.fault = Some(fault);
                    return received;
                }
            }
        }
        assert!(input.len() <= MAX_LEFT, "{} bytes left", input.len());
        left = input.to_vec();
        assert!(parser.in_message() || received.begun.is_none());
    }
    received
}

/// Presents `bytes` in pieces as a shard does that may have had enough behind any event: what is left then, however
/// much it is, goes in front of the next piece, elsewhere in memory. `stops`: behind which events, over and over.
pub(crate) fn receive_with_stops(bytes: &[u8], config: &ParserConfig, cuts: &[u8], stops: &[bool]) -> Received {
    let (mut parser, mut received, mut left) = (Parser::new(), Received::default(), Vec::new());
    let mut stops = stops.iter().cycle().copied();
    // What is left behind the last piece is presented again until nothing more is returned.
    let mut pieces = pieces(bytes, cuts).chain(std::iter::repeat(&[][..]));
    let (mut came, mut silent) = (0, false);
    while came < bytes.len() || !silent {
        let piece = pieces.next().unwrap_or_default();
        came += piece.len();
        left.extend_from_slice(piece);
        let (mut input, mut here) = (&mut left[..], parser);
        silent = loop {
            match here.next(&mut input, config) {
                Ok(Some(event)) => received.take(&event),
                Ok(None) => break true,
                Err(fault) => {
                    received.fault = Some(fault);
                    return received;
                }
            }
            if stops.next().unwrap_or(false) {
                break false;
            }
        };
        (left, parser) = (input.to_vec(), here);
    }
    received
}

/// The same events and the same fault, however it is cut, and wherever the reader stops between two of them. Where a
/// fault ends it, the piece it is in is not given out, so how much has come of the broken message depends on the cuts;
/// all else does not.
pub(crate) fn frames(bytes: &[u8], config: &ParserConfig, cuts: &[u8]) {
    let stops: Vec<bool> = cuts.iter().map(|cut| cut & 1 == 1).collect();
    let stopped =
        |cuts| [receive_with_stops(bytes, config, cuts, &stops), receive_with_stops(bytes, config, cuts, &[true])];
    let received = [[receive(bytes, config, &[]), receive(bytes, config, cuts)], stopped(&[]), stopped(cuts)];
    let [whole, others @ ..] = received.as_flattened() else { return };
    for other in others {
        assert_eq!((&whole.items, whole.fault), (&other.items, other.fault));
        assert!(whole.fault.is_some() || whole.begun == other.begun);
    }
}

/// Whether some text begins with these bytes; the definition by the standard library.
fn possible(bytes: &[u8]) -> bool {
    core::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true)
}

/// Refused exactly when the first impossible byte has come, however it is cut.
pub(crate) fn text(bytes: &[u8], cuts: &[u8]) {
    let (mut tail, mut fed) = (Tail::new(), 0);
    for piece in pieces(bytes, cuts) {
        fed += piece.len();
        let so_far = &bytes[..fed];
        assert_eq!(tail.feed(piece).is_ok(), possible(so_far), "{so_far:x?}");
        if !possible(so_far) {
            return assert!(utf8::whole(so_far).is_err());
        }
        assert_eq!(tail.is_whole(), core::str::from_utf8(so_far).is_ok());
        let whole = utf8::whole(so_far).unwrap();
        assert!(fed - whole <= 3 && core::str::from_utf8(&so_far[..whole]).is_ok());
    }
}

/// Every kind does what the definition demands (RFC 6455 section 5.3), at any offset and in any pieces.
pub(crate) fn masked(bytes: &[u8], key: [u8; 4], cuts: &[u8]) {
    let wanted: Vec<u8> = bytes.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    for kind in Kind::ALL {
        let mut room = bytes.to_vec();
        assert_eq!(mask::apply_with(kind, &mut room, key), kind.is_available());
        assert!(room == if kind.is_available() { &wanted[..] } else { bytes }, "{kind:?}");
    }
    mask::choose();
    let (mut room, mut at) = (bytes.to_vec(), 0);
    for piece in pieces(bytes, cuts) {
        mask::apply(&mut room[at..at + piece.len()], mask::rotate(key, at));
        at += piece.len();
    }
    assert!(room == wanted);
}

/// On every prefix the result is "more is needed" or the result on the whole, and never is more needed than the bounds
/// allow; what was read comes back from the writer.
pub(crate) fn proxy_header(bytes: &[u8]) {
    let whole = proxy_protocol::read(bytes);
    for len in 0..bytes.len() {
        let prefix = proxy_protocol::read(&bytes[..len]);
        assert!(prefix == Ok(None) || prefix == whole, "at {len}: {prefix:?}, whole: {whole:?}");
    }
    match whole {
        Ok(None) => assert!(bytes.len() < if bytes.starts_with(b"PROXY ") { MAX_V1 } else { MAX_V2 }),
        Ok(Some(header)) => {
            assert!(header.len <= if header.version == Version::V1 { MAX_V1 } else { MAX_V2 });
            header.addresses.into_iter().for_each(|addresses| proxy_round_trip(addresses, &[]));
        }
        Err(_) => {}
    }
}

/// What is written is read as it was meant, whatever stands behind it.
pub(crate) fn proxy_round_trip(addresses: Addresses, tlvs: &[(u8, Vec<u8>)]) {
    let mut out = Vec::new();
    let mut writer = Writer::begin(&mut out, Some(addresses));
    for (kind, value) in tlvs.iter().filter(|(kind, _)| *kind != proxy_protocol::kind::CRC32C) {
        writer.tlv(*kind, value);
    }
    writer.end();
    let canonical = |it: SocketAddr| SocketAddr::new(it.ip().to_canonical(), it.port());
    let both = |it: Addresses| [canonical(it.source), canonical(it.destination)];
    let len = out.len();
    out.extend(b"GET");
    let Header { version, len: read, addresses: found } = proxy_protocol::read(&out).unwrap().unwrap();
    assert_eq!((version, read, found.map(both)), (Version::V2, len, Some(both(addresses))));
}

/// Whoever is found is told by the field lines, and everybody told behind him is trusted: an address that nobody who is
/// trusted has told is never the answer. `trusted` is the first byte of addresses that are. Where lines are joined into
/// one, as any proxy may do, the answer is the same; in Forwarded the quotes of two lines may become one.
pub(crate) fn forwarded(field: Field, lines: &[&[u8]], trusted: u8) {
    let is_trusted = |ip: IpAddr| match ip {
        IpAddr::V4(it) => it.octets()[0] == trusted,
        IpAddr::V6(it) => it.octets()[0] == trusted,
    };
    let client = |lines: &[&[u8]]| {
        let header = |value| edgehold_wire::Header { name: field.name(), value };
        let headers: Vec<_> = lines.iter().map(|it| header(*it)).collect();
        forwarded::client(&headers, field, is_trusted)
    };
    let found = client(lines);
    for len in 0..=lines.len() {
        let last = client(&lines[len..]);
        // Whoever is not trusted ends the walk: lines in front of him change nothing.
        if last.is_some_and(|it| !is_trusted(it.ip())) {
            assert_eq!(last, found);
        }
    }
    if field == Field::XForwardedFor {
        assert_eq!(client(&[&lines.join(&b", "[..])]), found, "joined");
    }
}

/// Every way to read packets: what a server and a client of each version take, and a first packet.
pub(crate) const MQTT: [(Option<mqtt::Version>, mqtt::Role); 7] = [
    (None, mqtt::Role::Server),
    (Some(mqtt::Version::V31), mqtt::Role::Server),
    (Some(mqtt::Version::V311), mqtt::Role::Server),
    (Some(mqtt::Version::V5), mqtt::Role::Server),
    (Some(mqtt::Version::V31), mqtt::Role::Client),
    (Some(mqtt::Version::V311), mqtt::Role::Client),
    (Some(mqtt::Version::V5), mqtt::Role::Client),
];

/// On every prefix the result is "more is needed", and more than there is, or the result on the whole. What is read is
/// written and read again as the same.
pub(crate) fn mqtt(bytes: &[u8], packet_bytes: u32) {
    let limits = mqtt::Limits { packet_bytes };
    for (version, role) in MQTT {
        let whole = mqtt::read(bytes, &limits, version, role);
        for len in 0..bytes.len() {
            match mqtt::read(&bytes[..len], &limits, version, role) {
                Ok(Read::More { least }) => assert!(least > len && least <= packet_bytes.max(6) as usize),
                prefix => assert_eq!(prefix, whole, "at {len}"),
            }
        }
        if let Ok(Read::Packet { packet, used }) = whole {
            assert!(used <= bytes.len() && used <= packet_bytes as usize);
            mqtt_again(&packet, version, role);
        }
    }
}

/// A packet is what is read of it when it is written.
pub(crate) fn mqtt_again(packet: &mqtt::Packet<'_>, version: Option<mqtt::Version>, role: mqtt::Role) {
    let mut out = b"x".to_vec();
    mqtt::write(&mut out, version.unwrap_or(mqtt::Version::V5), packet);
    let again = mqtt::read(&out[1..], &mqtt::Limits { packet_bytes: u32::MAX }, version, role);
    assert_eq!(again, Ok(Read::Packet { packet: *packet, used: out.len() - 1 }), "{packet:?}");
}

//! The laws of TLS as functions that panic when one is broken; property tests and fuzz targets hand them their bytes.
//! `cuts` are the lengths of the pieces in which bytes arrive, over and over.
#![allow(dead_code, reason = "a fuzz target asks for some of the laws")]

use crate::forger::{DATA, HANDSHAKE, UPDATE, forged};
use crate::peers::{Peer, give, pair, say, sent_by};
use edgehold_wire::tls::{Alert, Handshake, Opened, Reason, Suite, Version};
use rustls::{Connection, ServerConfig};

/// Pieces of `bytes`, of these lengths.
fn pieces<'b>(mut bytes: &'b [u8], cuts: &[u8]) -> Vec<&'b [u8]> {
    let lens: Vec<usize> = cuts.iter().map(|&cut| usize::from(cut)).filter(|&cut| cut > 0).collect();
    let mut lens = lens.iter().cycle();
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(lens.next().map_or(bytes.len(), |&len| len.min(bytes.len())));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// Bytes of somebody who has no key: no data comes of them, and the fault is the same however they are cut.
pub(crate) fn garbage(suite: Suite, bytes: &[u8], cuts: &[u8]) {
    let (mut whole, mut cut) = (pair(suite, 0).1, pair(suite, 0).1);
    let verdict = whole.receive(bytes);
    let cut_verdict = pieces(bytes, cuts).into_iter().try_for_each(|piece| cut.receive(piece));
    assert_eq!(verdict, cut_verdict);
    assert!(whole.plain.is_empty() && cut.plain.is_empty() && !whole.closed);
    let opened = whole.parked().wake_read().open(&mut bytes.to_vec()).map(|opened| opened == Opened::Nothing);
    assert_ne!(opened, Ok(false), "a forgery is never opened");
}

/// Authentic records of any content: `program` has a content type, a length and so many bytes, for each. What was sent
/// as data arrives, up to the first fault or the end; however the records are cut.
pub(crate) fn authentic(suite: Suite, mut program: &[u8], cuts: &[u8]) {
    let (mut forger, mut server) = forged(suite);
    let mut expected = Vec::new();
    while let Some((&[content, len], rest)) = program.split_first_chunk() {
        let (plain, rest) = rest.split_at(usize::from(len).min(rest.len()));
        program = rest;
        let record = forger.content(content, plain);
        let inner = [plain, &[content]].concat();
        let (content, plain) = meant(suite, &inner);
        let is_closed = server.parked().lend().is_read_closed();
        if pieces(&record, cuts).into_iter().try_for_each(|piece| server.receive(piece)).is_err() {
            break;
        }
        if content == DATA && !is_closed {
            expected.extend_from_slice(plain);
        }
        // Cut messages are not followed: the forger would have to know where they end.
        let changes_key = suite.version == Version::Tls13 && content == HANDSHAKE && !plain.is_empty();
        match changes_key {
            true if plain == UPDATE && !is_closed => forger.advance(),
            true => break,
            false => {}
        }
    }
    assert!(server.plain == expected);
}

/// The content type at the end of the plaintext, and the content before it. In TLS 1.3 zeros behind the type are
/// padding (RFC 8446 section 5.4), so that a type of zero is none.
fn meant(suite: Suite, inner: &[u8]) -> (u8, &[u8]) {
    let padded = suite.version == Version::Tls13;
    let end = if padded { inner.iter().rposition(|&byte| byte != 0).unwrap_or(0) } else { inner.len() - 1 };
    (inner[end], &inner[..end])
}

/// What a listener makes of the first bytes of a client: the same, however they are cut.
pub(crate) fn hello(config: &ServerConfig, bytes: &[u8], cuts: &[u8]) {
    let verdict = |pieces: &[&[u8]]| -> Option<(Reason, Option<Alert>)> {
        let (mut handshake, mut out) = (Handshake::new(config).unwrap(), Vec::new());
        for piece in pieces {
            match handshake.feed(piece, &mut out) {
                Ok(established) => assert!(established.is_none(), "nobody finishes without a key"),
                Err(failure) => return Some((failure.reason, failure.alert)),
            }
        }
        None
    };
    assert_eq!(verdict(&[bytes]), verdict(&pieces(bytes, cuts)));
}

/// A client whose bytes are changed on their way: `changes` has, for each change, two bytes of where and one of how.
/// Where the handshake comes to its end all the same, both ends understand each other.
pub(crate) fn disturbed(config: &ServerConfig, mut stock: Connection, changes: &[u8], cuts: &[u8]) {
    let (mut handshake, mut out, mut sent) = (Handshake::new(config).unwrap(), Vec::new(), 0);
    for _ in 0..4 {
        let mut flight = sent_by(&mut stock);
        for change in changes.chunks_exact(3) {
            let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % 2048;
            if let Some(byte) = at.checked_sub(sent).and_then(|at| flight.get_mut(at)) {
                *byte ^= change[2];
            }
        }
        sent += flight.len();
        for piece in pieces(&flight, cuts) {
            match handshake.feed(piece, &mut out) {
                Err(_) => return,
                Ok(Some(established)) => return agree(Peer::new(established.parked), &out, stock),
                Ok(None) => {}
            }
        }
        if give(&mut stock, &std::mem::take(&mut out)).is_err() {
            return;
        }
    }
}

fn agree(mut peer: Peer, out: &[u8], mut stock: Connection) {
    give(&mut stock, out).unwrap();
    peer.receive(&say(&mut stock, b"understood")).unwrap();
    assert_eq!(peer.plain, b"understood");
}

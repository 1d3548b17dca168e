//! Both ends of the record layer are ours here: limits, floods, and records that rustls would not send, which are
//! forged with ring alone.

use crate::forger::{ALERT, DATA, Forger, HANDSHAKE, UPDATE, forged};
use crate::laws;
use crate::peers::{Peer, pair, suites};
use edgehold_wire::tls::{
    Aead, Alert, Fault, HEADER, Idle, LARGE, MAX_CONTROL, MAX_FRUITLESS, MAX_PLAINTEXT, MAX_RECORD, Opened, Parked,
    Plain, RENEGOTIATION_WEIGHT, ReadHalf, Refused, SMALL, Suite, Version, WARNING_WEIGHT, WriteHalf, data_offset,
    overhead, record_len, sealed_len,
};
use proptest::prelude::*;

const CLIENT_HELLO: [u8; 6] = [1, 0, 0, 2, 3, 3];

const SUITE_13: Suite = Suite::tls13(Aead::Aes128Gcm);
const SUITE_12: Suite = Suite::tls12(Aead::Aes128Gcm);

fn taken(peer: &mut Peer) -> Vec<u8> {
    std::mem::take(&mut peer.plain)
}

/// What the server makes of one record of a client's.
fn verdict(suite: Suite, forge: impl FnOnce(&mut Forger) -> Vec<u8>) -> Result<(), Fault> {
    let (mut forger, mut server) = forged(suite);
    let record = forge(&mut forger);
    server.receive(&record)
}

#[test]
fn a_parked_connection_is_small() {
    assert_eq!((size_of::<Idle<SMALL>>(), size_of::<Idle<LARGE>>()), (88, 120));
    // An empty place of a slab is no larger.
    assert_eq!((size_of::<Option<Idle<SMALL>>>(), size_of::<Option<Idle<LARGE>>>()), (88, 120));
    assert_eq!(size_of::<Parked>(), 120);
    for suite in suites() {
        let is_small = matches!(pair(suite, 0).0.parked(), Parked::Small(_));
        assert_eq!(is_small, suite.aead == Aead::Aes128Gcm || suite == Suite::tls13(Aead::ChaCha20Poly1305));
    }
}

#[test]
fn the_forger_forges_what_is_accepted() {
    for suite in suites() {
        let (mut forger, mut server) = forged(suite);
        for _ in 0..3 {
            server.receive(&forger.content(DATA, b"data")).unwrap();
            assert_eq!(taken(&mut server), b"data");
        }
    }
}

#[test]
fn data_lies_where_it_was_decrypted() {
    for suite in suites() {
        let (mut forger, mut server) = forged(suite);
        let mut record = forger.content(DATA, b"data");
        assert_eq!(server.parked().wake_read().open(&mut record), Ok(Opened::Data(&mut b"data".to_vec())));
        assert_eq!(&record[data_offset(suite)..][..4], b"data");
    }
}

#[test]
fn tls_1_3_changes_its_key_before_it_has_served_too_long() {
    for suite in suites().into_iter().filter(|suite| suite.version == Version::Tls13) {
        let (mut client, mut server) = pair(suite, (1 << 23) - 2);
        let mut lengths = Vec::new();
        for turn in 0..5_u8 {
            client.send(&[&[turn]]);
            let bytes = client.taken();
            lengths.push(bytes.len());
            server.receive(&bytes).unwrap();
        }
        assert_eq!(lengths, [23, 23, 23 + 27, 23, 23]);
        assert_eq!(server.plain, [0, 1, 2, 3, 4]);
        assert!(server.out.is_empty(), "no answer is asked for");
        server.send(&[b"and back"]);
        client.receive(&server.taken()).unwrap();
        assert_eq!(client.plain, b"and back");
    }
}

#[test]
fn tls_1_3_changes_its_key_in_the_midst_of_a_message() {
    let (mut client, mut server) = pair(SUITE_13, (1 << 23) - 2);
    let message = vec![7; 4 * MAX_PLAINTEXT];
    client.send(&[&message]);
    server.receive(&client.taken()).unwrap();
    assert!(server.plain == message);
}

#[test]
fn tls_1_2_seals_no_data_beyond_its_limit() {
    for aead in [Aead::Aes128Gcm, Aead::Aes256Gcm] {
        let (mut client, mut server) = pair(Suite::tls12(aead), (1 << 24) - 65);
        let mut out = vec![0; 3 * MAX_RECORD];
        let message = vec![7; 2 * MAX_PLAINTEXT];
        let parts = [&message[..]];
        let mut plain = Plain::new(&parts);
        let len = client.parked().wake_write().seal(&mut plain, &mut out).unwrap();
        assert_eq!((len, plain.len()), (MAX_PLAINTEXT + 29, MAX_PLAINTEXT));
        server.receive(&out[..len]).unwrap();
        assert_eq!(client.parked().wake_write().seal(&mut plain, &mut out), Err(Refused::Exhausted));
        let len = client.parked().wake_write().close_notify(&mut out);
        server.receive(&out[..len]).unwrap();
        assert!(server.closed);
    }
}

#[test]
fn nothing_follows_the_last_record() {
    for suite in suites() {
        let (mut client, mut server) = pair(suite, 0);
        let mut out = [0; 100];
        let mut half = client.parked().wake_write();
        assert_eq!(half.close_notify(&mut out[..20]), 0, "there is no room, and nothing has happened");
        let len = half.fail(Alert::DECODE_ERROR, &mut out);
        assert_eq!(half.close_notify(&mut out[len..]), 0);
        assert_eq!(half.update_key(&mut out[len..]), 0);
        assert_eq!(half.seal(&mut Plain::new(&[b"x"]), &mut out[len..]), Err(Refused::Closed));
        assert!(client.parked().lend().is_write_closed());
        assert_eq!(server.receive(&out[..len]), Err(Fault::Alert(Alert::DECODE_ERROR)));
        assert_eq!(Fault::Alert(Alert::DECODE_ERROR).alert(), None);
    }
}

#[test]
fn what_comes_behind_the_end_is_ignored() {
    let (mut client, mut server) = pair(SUITE_13, 0);
    let mut out = [0; 100];
    let len = client.parked().wake_write().close_notify(&mut out);
    server.receive(&out[..len]).unwrap();
    server.receive(&[&[DATA, 3, 3, 0, 20][..], &[0; 20]].concat()).unwrap();
    assert!(server.closed && server.plain.is_empty());
}

/// Nothing is written back: a half counts its records where the state lies, and has nothing to drop.
#[test]
fn a_half_counts_its_records_where_the_state_lies() {
    assert!(!std::mem::needs_drop::<WriteHalf<'_>>() && !std::mem::needs_drop::<ReadHalf<'_>>());
    let (mut client, mut server) = pair(SUITE_13, 0);
    let mut out = [0; 100];
    let first = client.parked().wake_write().seal(&mut Plain::new(&[b"first"]), &mut out).unwrap();
    let second = client.parked().wake_write().seal(&mut Plain::new(&[b"second"]), &mut out[first..]).unwrap();
    server.receive(&out[..first + second]).unwrap();
    assert_eq!(server.plain, b"firstsecond");
}

#[test]
fn a_record_of_which_a_bit_has_changed_is_refused() {
    for suite in suites() {
        let record = Forger::new(suite).content(DATA, b"payload");
        for bit in 0..record.len() * 8 {
            let mut server = pair(suite, 0).1;
            let mut changed = record.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let opened = server.parked().wake_read().open(&mut changed);
            assert!(opened.is_err(), "bit {bit} of {suite:?}: {opened:?}");
            assert!(bit / 8 < HEADER || opened == Err(Fault::Mac));
            // After a fault, what is still received is ignored, though it be authentic.
            assert_eq!(server.parked().wake_read().open(&mut record.clone()), Ok(Opened::Nothing));
            assert!(server.parked().lend().is_read_closed());
        }
    }
}

#[test]
fn a_record_that_is_repeated_or_missing_is_refused() {
    for suite in suites() {
        let (mut forger, mut server) = forged(suite);
        let (first, _, third) = (forger.content(DATA, b"1"), forger.content(DATA, b"2"), forger.content(DATA, b"3"));
        server.receive(&first).unwrap();
        let again = pair(suite, 0).1.receive(&third);
        assert_eq!((server.receive(&first), again), (Err(Fault::Mac), Err(Fault::Mac)));
    }
}

#[test]
fn headers_are_checked_as_they_come() {
    use Version::{Tls12, Tls13};
    for version in [Tls12, Tls13] {
        assert_eq!(record_len(&[], version), Ok(None));
        assert_eq!(record_len(&[DATA, 3, 3, 1], version), Ok(None));
        assert_eq!(record_len(&[DATA, 3, 3, 1, 2], version), Ok(Some(5 + 258)));
        assert_eq!(record_len(&[DATA, 2], version), Err(Fault::Version));
        assert_eq!(record_len(&[20], version), Err(Fault::RecordType));
        assert_eq!(record_len(b"G", version), Err(Fault::RecordType));
    }
    assert_eq!(record_len(&[DATA, 3, 3, 0x41, 0], Tls13), Ok(Some(MAX_PLAINTEXT + 256 + 5)));
    assert_eq!(record_len(&[DATA, 3, 3, 0x41, 1], Tls13), Err(Fault::Oversized));
    assert_eq!(record_len(&[DATA, 3, 3, 0x48, 0], Tls12), Ok(Some(MAX_RECORD)));
    assert_eq!(record_len(&[DATA, 3, 3, 0x48, 1], Tls12), Err(Fault::Oversized));
    assert_eq!(record_len(&[HANDSHAKE, 3, 3, 0, 1], Tls12), Ok(Some(6)));
    assert_eq!(record_len(&[HANDSHAKE], Tls13), Err(Fault::RecordType));
}

#[test]
fn records_without_room_for_a_tag_are_refused() {
    for suite in suites() {
        let least = overhead(suite) - HEADER;
        for len in 0..least {
            let record = [&[DATA, 3, 3, 0, len as u8][..], &vec![0; len]].concat();
            let fault = pair(suite, 0).1.receive(&record).unwrap_err();
            assert!([Fault::Truncated, Fault::Mac].contains(&fault), "{len}: {fault:?}");
            assert_eq!(fault.alert(), Some(Alert::BAD_RECORD_MAC));
        }
        let mut short = Forger::new(suite).content(DATA, b"data");
        let (end, mut server) = (short.len() - 1, pair(suite, 0).1);
        assert_eq!(server.parked().wake_read().open(&mut short[..end]), Err(Fault::Truncated));
    }
}

#[test]
fn plaintext_is_as_long_as_it_may_be() {
    for suite in suites() {
        let (mut forger, mut server) = forged(suite);
        server.receive(&forger.content(DATA, &vec![1; MAX_PLAINTEXT])).unwrap();
        assert_eq!(server.plain.len(), MAX_PLAINTEXT);
        assert_eq!(server.receive(&forger.content(DATA, &vec![1; MAX_PLAINTEXT + 1])), Err(Fault::LongPlaintext));
        assert_eq!(Fault::LongPlaintext.alert(), Some(Alert::RECORD_OVERFLOW));
    }
    let padded = |zeros: usize| [&[1, DATA][..], &vec![0; zeros]].concat();
    verdict(SUITE_13, |forger| forger.record(DATA, &padded(MAX_PLAINTEXT - 1))).unwrap();
    let long = verdict(SUITE_13, |forger| forger.record(DATA, &padded(MAX_PLAINTEXT)));
    assert_eq!(long, Err(Fault::LongPlaintext));
}

#[test]
fn padding_is_taken_off() {
    let (mut forger, mut server) = forged(SUITE_13);
    server.receive(&forger.record(DATA, b"zeros\0\0\x17\0\0\0\0")).unwrap();
    assert_eq!(taken(&mut server), b"zeros\0\0");
    assert_eq!(server.receive(&forger.record(DATA, &[0; 40])), Err(Fault::NoContentType));
    assert_eq!(verdict(SUITE_13, |forger| forger.record(DATA, &[])), Err(Fault::NoContentType));
    assert_eq!(verdict(SUITE_13, |forger| forger.content(20, &[1])), Err(Fault::RecordType));
    assert_eq!(verdict(SUITE_13, |forger| forger.content(24, &[1])), Err(Fault::RecordType));
}

#[test]
fn empty_messages_are_refused() {
    for suite in suites() {
        for content in [ALERT, HANDSHAKE] {
            assert_eq!(verdict(suite, |forger| forger.content(content, &[])), Err(Fault::Empty));
        }
    }
}

#[test]
fn alerts_are_two_bytes_with_a_level() {
    for suite in suites() {
        let is_13 = suite.version == Version::Tls13;
        let says = |alert: &[u8]| verdict(suite, |forger| forger.content(ALERT, alert));
        assert_eq!(says(&[1]), Err(Fault::Length));
        assert_eq!(says(&[1, 0, 1, 0]), Err(Fault::Length));
        assert_eq!(says(&[3, 0]), Err(Fault::Value));
        assert_eq!(says(&[1, 0]), Ok(()));
        assert_eq!(says(&[2, 0]), Ok(()));
        assert_eq!(says(&[2, 80]), Err(Fault::Alert(Alert::INTERNAL_ERROR)));
        assert_eq!(says(&[1, 80]), if is_13 { Err(Fault::Alert(Alert::INTERNAL_ERROR)) } else { Ok(()) });
        assert_eq!(says(&[1, 90]), Ok(()));
    }
}

/// How many of `record` a server takes, and the fault that ends it.
fn flood(suite: Suite, mut record: impl FnMut(&mut Forger) -> Vec<u8>) -> (u8, Fault) {
    let (mut forger, mut server) = forged(suite);
    // With data in between it could go on for ever.
    for _ in 0..=MAX_FRUITLESS {
        let record = record(&mut forger);
        server.receive(&record).unwrap();
        server.receive(&forger.content(DATA, b"data")).unwrap();
    }
    for taken in 0..=MAX_FRUITLESS {
        let record = record(&mut forger);
        if let Err(fault) = server.receive(&record) {
            return (taken, fault);
        }
    }
    panic!("a flood has no end")
}

#[test]
fn floods_are_ended() {
    for suite in suites() {
        let empty = flood(suite, |forger| forger.content(DATA, &[]));
        assert_eq!(empty, (MAX_FRUITLESS, Fault::TooManyEmpty));
        let warnings = flood(suite, |forger| forger.content(ALERT, &[1, 90]));
        assert_eq!(warnings, (MAX_FRUITLESS / WARNING_WEIGHT, Fault::TooManyWarnings));
    }
    assert_eq!(flood(SUITE_13, Forger::update), (MAX_FRUITLESS, Fault::TooManyUpdates));
    let hellos = flood(SUITE_12, |forger| forger.content(HANDSHAKE, &CLIENT_HELLO));
    assert_eq!(hellos, (MAX_FRUITLESS / RENEGOTIATION_WEIGHT, Fault::TooManyRenegotiations));
}

#[test]
fn floods_of_several_kinds_weigh_together() {
    let (mut forger, mut server) = forged(SUITE_13);
    for _ in 0..3 {
        server.receive(&forger.content(ALERT, &[1, 90])).unwrap();
    }
    for _ in 0..8 {
        server.receive(&forger.update()).unwrap();
    }
    assert_eq!(server.receive(&forger.content(DATA, &[])), Err(Fault::TooManyEmpty));
}

#[test]
fn renegotiation_is_refused_by_a_warning() {
    let (mut forger, mut server) = forged(SUITE_12);
    let mut client = pair(SUITE_12, 0).0;
    server.receive(&forger.content(HANDSHAKE, &CLIENT_HELLO)).unwrap();
    assert_eq!(server.out.len(), 31);
    client.receive(&server.taken()).unwrap();
    assert_eq!(client.warnings, [Alert::NO_RENEGOTIATION]);
    server.receive(&forger.content(DATA, b"goes on")).unwrap();
    assert_eq!(server.plain, b"goes on");
}

#[test]
fn a_server_that_wants_to_renegotiate_is_told_no() {
    // The client's keys are those of the forger, so it is the server here that they are read with.
    let hello_request = [0, 0, 0, 0];
    assert_eq!(verdict(SUITE_12, |forger| forger.content(HANDSHAKE, &hello_request)), Err(Fault::Message));
    let (mut client, mut server) = pair(SUITE_12, 0);
    let forger = Forger { secret: (0..28_u8).map(|n| n.wrapping_mul(7) ^ 2).collect(), ..Forger::new(SUITE_12) };
    let mut forger = forger;
    client.receive(&forger.content(HANDSHAKE, &hello_request)).unwrap();
    server.receive(&client.taken()).unwrap();
    assert_eq!(server.warnings, [Alert::NO_RENEGOTIATION]);
}

#[test]
fn messages_that_may_not_come_are_refused() {
    let says = |suite, message: &[u8]| verdict(suite, |forger| forger.content(HANDSHAKE, message));
    for (message, fault) in [
        (&[1][..], Fault::Message),
        (&[4], Fault::Message),
        (&[13], Fault::Message),
        (&[24, 0, 0, 2], Fault::Length),
        (&[24, 0, 0, 0], Fault::Length),
        (&[24, 1, 0, 1], Fault::Length),
        (&[24, 0, 0, 1, 2], Fault::Value),
        (&[24, 0, 0, 1, 0, 24], Fault::Unaligned),
    ] {
        assert_eq!(says(SUITE_13, message), Err(fault), "{message:?}");
    }
    assert_eq!(says(SUITE_12, &UPDATE), Err(Fault::Message));
    assert_eq!(says(SUITE_12, &[1, 0, 0, 0]), Err(Fault::Length));
    assert_eq!(says(SUITE_12, &[20]), Err(Fault::Message));
}

#[test]
fn a_message_in_fragments_is_read_by_a_connection_that_is_parked_in_between() {
    for cuts in 0..16_u32 {
        let (mut forger, mut server) = forged(SUITE_13);
        let mut start = 0;
        for end in 1..=UPDATE.len() {
            if end == UPDATE.len() || cuts & (1 << (end - 1)) != 0 {
                server.receive(&forger.content(HANDSHAKE, &UPDATE[start..end])).unwrap();
                start = end;
            }
        }
        forger.advance();
        server.receive(&forger.content(DATA, b"data")).unwrap();
        assert_eq!(server.plain, b"data");
    }
}

#[test]
fn nothing_comes_between_the_fragments_of_a_message() {
    for (content, plain) in [(DATA, &b"data"[..]), (DATA, b""), (ALERT, &[1, 0])] {
        let (mut forger, mut server) = forged(SUITE_13);
        server.receive(&forger.content(HANDSHAKE, &UPDATE[..3])).unwrap();
        assert_eq!(server.receive(&forger.content(content, plain)), Err(Fault::Interleaved));
    }
}

#[test]
fn tickets_are_skipped_by_a_client_however_they_are_cut() {
    let ticket = [&[4, 0, 1, 0][..], &[9; 256]].concat();
    let two = [&ticket[..], &ticket].concat();
    for size in [1, 2, 3, 5, 100, 255, 256, 257, 259, 260, 261, 519, 520] {
        let mut client = pair(SUITE_13, 0).0;
        let secret = (0..32_u8).map(|n| n.wrapping_mul(7) ^ 2).collect();
        let mut forger = Forger { secret, ..Forger::new(SUITE_13) };
        let mut verdict = Ok(());
        for piece in two.chunks(size) {
            verdict = verdict.and_then(|()| client.receive(&forger.content(HANDSHAKE, piece)));
        }
        if two.len().div_ceil(size) > usize::from(MAX_FRUITLESS) {
            assert_eq!(verdict, Err(Fault::TooManyUpdates), "a flood of fragments");
            continue;
        }
        verdict.unwrap();
        client.receive(&forger.content(DATA, b"data")).unwrap();
        assert_eq!(client.plain, b"data");
    }
}

#[test]
fn tickets_have_a_length_that_they_can_have() {
    for (header, verdict) in [
        ([4, 0, 0, 0], Err(Fault::Length)),
        ([4, 0, 0, 1], Ok(())),
        ([4, 2, 1, 9], Ok(())),
        ([4, 2, 1, 10], Err(Fault::Length)),
    ] {
        let mut client = pair(SUITE_13, 0).0;
        let secret = (0..32_u8).map(|n| n.wrapping_mul(7) ^ 2).collect();
        let mut forger = Forger { secret, ..Forger::new(SUITE_13) };
        assert_eq!(client.receive(&forger.content(HANDSHAKE, &header)), verdict, "{header:?}");
    }
}

/// Seals into rooms of these sizes, over and over, and drops those where nothing fits.
fn seal_in(peer: &mut Peer, parts: &[&[u8]], rooms: &[usize]) -> Vec<u8> {
    let mut plain = Plain::new(parts);
    let mut sent = Vec::new();
    let mut rooms = rooms.iter().chain([&MAX_CONTROL]).cycle();
    while !plain.is_empty() {
        let mut out = vec![0; *rooms.next().unwrap()];
        let len = peer.parked().wake_write().seal(&mut plain, &mut out).unwrap();
        assert!(out[len..].iter().all(|&byte| byte == 0), "nothing is written behind the end");
        sent.extend_from_slice(&out[..len]);
    }
    sent
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_in_whatever_rooms_is_opened(
        which in 0..6_usize,
        lens in prop::collection::vec(prop_oneof![0..50_usize, 0..40_000_usize], 0..6),
        rooms in prop::collection::vec(prop_oneof![0..80_usize, 0..20_000_usize], 1..8),
        near_limit: bool,
    ) {
        let suite = suites()[which];
        let near_limit = near_limit && suite.version == Version::Tls13;
        let (mut client, mut server) = pair(suite, if near_limit { (1 << 23) - 3 } else { 0 });
        let parts: Vec<Vec<u8>> = lens.iter().map(|&len| (0..len).map(|n| (n * 7 + len) as u8).collect()).collect();
        let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let sent = seal_in(&mut client, &slices, &rooms);
        server.receive(&sent).unwrap();
        prop_assert!(server.plain == parts.concat());
    }

    #[test]
    fn sealed_len_says_what_seal_writes(which in 0..6_usize, len in 0..100_000_usize, sent in 0..6_u64) {
        let suite = suites()[which];
        let near = if suite.version == Version::Tls13 { (1 << 23) - sent } else { sent };
        let mut client = pair(suite, near).0;
        // The peer asserts it.
        client.send(&[&vec![1; len]]);
        prop_assert!(client.out.len() - sealed_len(suite, len) <= 27);
    }

    #[test]
    fn bytes_of_whatever_kind_are_the_same_however_they_are_cut(
        which in 0..6_usize,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        headed: bool,
        cuts in prop::collection::vec(0..20_u8, 0..4),
    ) {
        let header = [&[DATA, 3, 3][..], &(bytes.len() as u16).to_be_bytes()].concat();
        let bytes = if headed { [&header[..], &bytes].concat() } else { bytes };
        laws::garbage(suites()[which], &bytes, &cuts);
    }

    #[test]
    fn authentic_records_hold_what_was_put_in(
        which in 0..6_usize,
        mut program in prop::collection::vec(prop_oneof![0..30_u8, any::<u8>()], 0..300),
        is_update: bool,
        cuts in prop::collection::vec(0..20_u8, 0..4),
    ) {
        if is_update {
            program.splice(0..0, [HANDSHAKE, 5].into_iter().chain(UPDATE));
        }
        laws::authentic(suites()[which], &program, &cuts);
    }

    #[test]
    fn a_header_says_the_same_however_it_is_cut(
        bytes in prop::collection::vec(prop_oneof![Just(3_u8), 20..24_u8, any::<u8>()], 0..8),
    ) {
        for version in [Version::Tls12, Version::Tls13] {
            let whole = record_len(&bytes, version);
            for len in 0..bytes.len() {
                let prefix = record_len(&bytes[..len], version);
                prop_assert!(prefix == Ok(None) || prefix == whole);
            }
        }
    }
}

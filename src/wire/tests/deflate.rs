//! Deflated messages: what one end deflates the other inflates, with windows and without, against another
//! implementation (flate2); the examples of RFC 7692; what is refused; and what is agreed on.

mod laws;

use edgehold_wire::deflate::{Deflater, InflateFault, Inflater, Parameters, Preferences, Window, confirm, offer};
use edgehold_wire::http1::MAX_ELEMENTS;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use laws::agreed;
use proptest::prelude::*;

const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The other implementation of one direction of a connection, its context kept or not.
struct Other {
    deflate: Compress,
    inflate: Decompress,
    takeover: bool,
}

impl Other {
    fn new(takeover: bool) -> Other {
        Other { deflate: Compress::new(Compression::new(6), false), inflate: Decompress::new(false), takeover }
    }

    fn deflate(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len() + message.len() / 8 + 1000);
        self.deflate.compress_vec(message, &mut out, FlushCompress::Sync).unwrap();
        assert!(out.ends_with(&TAIL));
        out.truncate(out.len() - TAIL.len());
        if !self.takeover {
            self.deflate.reset();
        }
        out
    }

    /// As a peer sends it that lets zlib finish its stream: the last block has BFINAL set.
    fn finish(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len() + message.len() / 8 + 1000);
        self.deflate.compress_vec(message, &mut out, FlushCompress::Finish).unwrap();
        self.deflate.reset();
        out
    }

    fn inflate(&mut self, compressed: &[u8], len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 64);
        self.inflate.decompress_vec(&[compressed, &TAIL].concat(), &mut out, FlushDecompress::Sync).unwrap();
        if !self.takeover {
            self.inflate.reset(false);
        }
        out
    }
}

/// Text with much to refer back to, or bytes with nothing.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "{\"symbol\":\"EURUSD\",",
        "\"bid\":1.08,",
        "\"ask\":1.09}",
        "0",
        "lorem ipsum ",
        "\u{e9}",
    ]);
    let text = prop::collection::vec(words, 0..400).prop_map(|words| words.concat().into_bytes());
    let noise = prop::collection::vec(any::<u8>(), 0..3000);
    let long = (any::<u8>(), 30_000..80_000_usize).prop_map(|(byte, len)| vec![byte; len]);
    prop_oneof![6 => text, 2 => noise, 1 => long]
}

fn inflated(compressed: &[u8], window: Option<&mut Window>, limit: u64) -> Result<Vec<u8>, InflateFault> {
    let mut out = b"before".to_vec();
    let read = Inflater::default().message(compressed, window, limit, &mut out);
    assert!(out.starts_with(b"before") && (read.is_ok() || out.len() == 6));
    read.map(|()| out.split_off(6))
}

/// A window that has seen this.
fn filled(message: &[u8]) -> Window {
    let mut window = Window::new(15);
    Deflater::default().message(message, Some(&mut window), 15, &mut Vec::new());
    window
}

fn deflated(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Deflater::default().message(message, None, 15, &mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_other_implementation_understands(
        messages in prop::collection::vec(message(), 1..6), bits in 9..=15_u8, takeover: bool,
    ) {
        let (mut deflater, mut other) = (Deflater::default(), Other::new(takeover));
        let mut window = takeover.then(|| Window::new(bits));
        for message in &messages {
            let mut out = Vec::new();
            deflater.message(message, window.as_mut(), bits, &mut out);
            prop_assert_eq!(&other.inflate(&out, message.len()), message);
        }
    }

    #[test]
    fn the_other_implementation_is_understood(messages in prop::collection::vec(message(), 1..6), takeover: bool) {
        let (mut inflater, mut other) = (Inflater::default(), Other::new(takeover));
        let mut window = takeover.then(|| Window::new(15));
        for message in &messages {
            let (compressed, mut out) = (other.deflate(message), Vec::new());
            // The tightest limit that lets the message through.
            let read = inflater.message(&compressed, window.as_mut(), message.len() as u64, &mut out);
            prop_assert_eq!(read, Ok(()));
            prop_assert_eq!(&out, message);
        }
    }

    #[test]
    fn streams_that_zlib_has_finished_are_messages(
        messages in prop::collection::vec((prop::collection::vec(message(), 1..5), any::<bool>()), 1..4),
        takeover: bool,
    ) {
        let (mut inflater, mut other) = (Inflater::default(), Other::new(false));
        let mut window = takeover.then(|| Window::new(15));
        for (parts, padded) in &messages {
            // Each part is a stream; behind the last the RFC (7.2.3.4) wants a byte that zlib does not write.
            let mut compressed: Vec<u8> = parts.iter().flat_map(|part| other.finish(part)).collect();
            compressed.extend(padded.then_some(0));
            let (plain, mut out) = (parts.concat(), Vec::new());
            let read = inflater.message(&compressed, window.as_mut(), plain.len() as u64, &mut out);
            prop_assert_eq!(read, Ok(()));
            prop_assert_eq!(&out, &plain);
            // What comes next may refer to it, as to any other.
            let (mut next, mut again) = (Vec::new(), Vec::new());
            Deflater::default().message(&plain, window.is_some().then(|| filled(&plain)).as_mut(), 15, &mut next);
            let read = inflater.message(&next, window.as_mut(), plain.len() as u64, &mut again);
            prop_assert_eq!(read, Ok(()));
            prop_assert_eq!(&again, &plain);
        }
    }

    #[test]
    fn the_work_of_a_message_has_a_bound(
        bytes in prop::collection::vec(any::<u8>(), 0..200), message in message(), limit in 0..100_000_u64,
        ends in 0..400_usize,
    ) {
        let many = [0x03, 0x00].repeat(ends);
        let streams = Other::new(false).finish(&message).repeat(ends / 10 + 1);
        for compressed in [bytes, deflated(&message), many, streams] {
            let mut inflater = Inflater::default();
            let _ = inflater.message(&compressed, Some(&mut filled(&noise().repeat(20))), limit, &mut Vec::new());
            let bound = 3 * (compressed.len() as u64 + limit) + (64 << 10);
            prop_assert!(inflater.work() <= bound, "{} for {} bytes and {limit}", inflater.work(), compressed.len());
            prop_assert!(inflater.work() >= 2 << 10, "the window is laid before it");
        }
    }

    #[test]
    fn a_small_window_suffices_for_both_ends(messages in prop::collection::vec(message(), 1..6), bits in 9..=15_u8) {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
        let (mut there, mut here) = (Window::new(bits), Window::new(bits));
        for message in &messages {
            let (mut compressed, mut out) = (Vec::new(), Vec::new());
            // A message that does not become shorter is sent as it is, and is then part of neither window.
            if deflater.shorter(message, Some(&mut there), bits, &mut compressed) {
                prop_assert!(compressed.len() < message.len());
                prop_assert_eq!(inflater.message(&compressed, Some(&mut here), u64::MAX, &mut out), Ok(()));
                prop_assert_eq!(&out, message);
            } else {
                prop_assert!(compressed.is_empty());
            }
        }
    }

    #[test]
    fn a_message_one_byte_above_the_limit_is_refused(message in message()) {
        prop_assume!(!message.is_empty());
        let compressed = deflated(&message);
        let limit = message.len() as u64;
        prop_assert_eq!(inflated(&compressed, None, limit), Ok(message));
        prop_assert_eq!(inflated(&compressed, None, limit - 1), Err(InflateFault::TooBig));
    }

    #[test]
    fn anything_is_read_the_same_by_a_used_inflater(
        bytes in prop::collection::vec(any::<u8>(), 0..200), before in message(), limit in 0..5000_u64,
    ) {
        laws::inflate(&bytes, &before, limit);
    }

    #[test]
    fn offers_are_read_without_panic_and_answers_are_confirmed(
        line in "(permessage-deflate)?([;, ]{0,2}(client_max_window_bits|server_max_window_bits|\
                 client_no_context_takeover|server_no_context_takeover|x|permessage-deflate)\
                 (=\"?(8|9|10|15|16|07|\\\\1)\"?)?){0,5}",
        takeover: bool,
    ) {
        laws::negotiation(line.as_bytes(), Preferences { context_takeover: takeover });
    }
}

/// RFC 7692 section 7.2.3, byte by byte.
#[test]
fn the_examples_of_the_rfc_are_understood() {
    let hello: &[u8] = b"Hello";
    // 7.2.3.1, and the same in the other direction.
    let one_block = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(inflated(&one_block, None, 5).unwrap(), hello);
    assert_eq!(deflated(hello), one_block);
    // 7.2.3.2: the second message shares the window of the first.
    let mut window = Window::new(15);
    assert_eq!(inflated(&one_block, Some(&mut window), 5).unwrap(), hello);
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    assert_eq!(inflated(&again, Some(&mut window), 5).unwrap(), hello);
    assert_eq!(inflated(&again, None, 5), Err(InflateFault::Corrupt));
    // 7.2.3.3: a block that is not compressed.
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    assert_eq!(inflated(&stored, None, 5).unwrap(), hello);
    // 7.2.3.4: a block with BFINAL.
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    assert_eq!(inflated(&last, None, 5).unwrap(), hello);
    // The same as zlib writes it, without the byte behind it.
    assert_eq!(inflated(&last[..7], None, 5).unwrap(), hello);
    assert_eq!(inflated(&last[..7], None, 4), Err(InflateFault::TooBig));
    // 7.2.3.5: two blocks.
    let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(inflated(&two, None, 5).unwrap(), hello);
    // 7.2.3.6: nothing at all.
    assert_eq!(inflated(&[0x00], None, 0).unwrap(), b"");
    assert_eq!(deflated(b""), [0x00]);
}

#[test]
fn a_message_goes_on_behind_a_last_block_and_may_refer_over_it() {
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    // "Hello", the end of a stream, and then five bytes from five bytes back.
    let refers = [&last[..], &[0x02, 0x13, 0x00, 0x00]].concat();
    assert_eq!(inflated(&refers, None, 10).unwrap(), b"HelloHello");
    let mut window = Window::new(15);
    assert_eq!(inflated(&[&last[..], &[0]].concat(), Some(&mut window), 5).unwrap(), b"Hello");
    assert_eq!(inflated(&refers[last.len()..], Some(&mut window), 5).unwrap(), b"Hello");
}

#[test]
fn streams_that_end_for_nothing_are_not_followed_for_long() {
    // Each of these two bytes is a whole stream without content.
    let bytes = [0x03, 0x00].repeat(500_000);
    assert_eq!(inflated(&bytes, None, u64::MAX), Err(InflateFault::Corrupt));
    let few = [&[0x03, 0x00].repeat(4)[..], &[0x00]].concat();
    assert_eq!(inflated(&few, None, 0).unwrap(), b"");
    assert_eq!(inflated(&[0x03, 0x00].repeat(5), None, 0).unwrap(), b"");
    assert_eq!(inflated(&[0x03, 0x00].repeat(6), None, 0), Err(InflateFault::Corrupt));
}

/// Bytes in which a compressor finds nothing.
fn noise() -> Vec<u8> {
    (0..2000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ ((n * n) >> 7) as u8).collect()
}

#[test]
fn a_message_that_is_cut_is_refused() {
    let text: String =
        (0..40).map(|n| format!("{{\"symbol\":\"EURUSD\",\"bid\":1.{:04},\"seq\":{n}}},", n * 7919 % 9973)).collect();
    for message in [text.as_bytes(), &noise(), &[0; 5000], b"a"] {
        let compressed = deflated(message);
        for cut in 0..compressed.len() {
            // The first byte of a stored block is a message: the empty one.
            if compressed[..cut] == [0x00] {
                continue;
            }
            let read = inflated(&compressed[..cut], None, u64::MAX);
            assert_eq!(read, Err(InflateFault::Corrupt), "{cut} of {}", compressed.len());
        }
    }
}

#[test]
fn a_finished_stream_that_is_cut_is_refused() {
    let text: String = (0..40).map(|n| format!("{{\"bid\":1.{:04},\"seq\":{n}}},", n * 7919 % 9973)).collect();
    for message in [text.as_bytes(), &noise(), &[0; 5000], b"a", b"Hello"] {
        let compressed = Other::new(false).finish(message);
        assert_eq!(inflated(&compressed, None, u64::MAX).unwrap(), message);
        for cut in 0..compressed.len() {
            let read = inflated(&compressed[..cut], None, u64::MAX);
            assert_eq!(read, Err(InflateFault::Corrupt), "{cut} of {}", compressed.len());
        }
    }
}

#[test]
fn what_is_no_message_is_refused() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    for bytes in [
        &b""[..],                                          // section 7.2.3.6 wants one byte
        &hello[..6],                                       // cut
        &[&hello[..], &TAIL].concat(),                     // the tail was not taken away
        &[&hello[..], b"garbage"].concat(),                // something behind the last block
        &[0x07],                                           // a reserved kind of block
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07],             // BFINAL, cut
        &[0x00, 0x05, 0x00, 0xfa, 0xfe, 1, 2, 3, 4, 5, 0], // a stored length that does not agree
        &[0x02, 0x13, 0x00, 0x00],                         // five bytes from before the beginning
    ] {
        assert_eq!(inflated(bytes, None, 1000), Err(InflateFault::Corrupt), "{bytes:x?}");
    }
}

#[test]
fn a_bomb_is_refused_and_takes_no_more_room_than_the_limit() {
    let bomb = deflated(&vec![0; 10 << 20]);
    assert!(bomb.len() < 64 << 10, "{} bytes", bomb.len());
    for limit in [0, 1, 1000, 64 << 10, 1 << 20] {
        let mut out = Vec::new();
        let mut inflater = Inflater::default();
        assert_eq!(inflater.message(&bomb, None, limit, &mut out), Err(InflateFault::TooBig));
        assert!(out.capacity() as u64 <= limit, "{} bytes of room", out.capacity());
        // It is found out with the first byte beyond.
        assert!(inflater.work() <= bomb.len() as u64 + limit + 1, "{} bytes of work", inflater.work());
    }
}

#[test]
fn what_does_not_become_shorter_is_left_alone() {
    let mut out = b"kept".to_vec();
    let mut window = Window::new(15);
    for message in [&b""[..], b"a", b"Hello", &noise()] {
        assert!(!Deflater::default().shorter(message, Some(&mut window), 15, &mut out), "{} bytes", message.len());
    }
    assert_eq!(out, b"kept");
    // The window has not taken them in: this is what a fresh one gives.
    Deflater::default().message(b"Hello", Some(&mut window), 15, &mut out);
    assert_eq!(out[4..], deflated(b"Hello"));
}

const NO: Preferences = Preferences { context_takeover: false };
const YES: Preferences = Preferences { context_takeover: true };

#[test]
fn by_default_no_connection_keeps_a_window() {
    let wanted = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    // What browsers, command line tools and other servers' clients send.
    for line in [
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=\"15\"; server_max_window_bits = 15",
        ", ,permessage-deflate ;\tclient_max_window_bits ,",
    ] {
        let agreed = agreed(&[line.as_bytes()], NO).expect(line);
        assert_eq!((agreed, agreed.text().as_str()), (Parameters::PLAIN, wanted), "{line}");
    }
}

#[test]
fn smaller_windows_and_takeover_as_far_as_the_client_goes_along() {
    for (line, server_bits, client_bits, server_takeover, client_takeover, text) in [
        ("permessage-deflate", 15, 15, true, true, ""),
        ("permessage-deflate; server_no_context_takeover", 15, 15, false, true, "; server_no_context_takeover"),
        ("permessage-deflate; client_no_context_takeover", 15, 15, true, false, "; client_no_context_takeover"),
        ("permessage-deflate; server_max_window_bits=9", 9, 15, true, true, "; server_max_window_bits=9"),
        ("permessage-deflate; client_max_window_bits=8", 15, 8, true, true, "; client_max_window_bits=8"),
        ("permessage-deflate; client_max_window_bits", 15, 15, true, true, ""),
        (
            "permessage-deflate; server_max_window_bits=\"1\\0\"; client_max_window_bits=\"14\"",
            10,
            14,
            true,
            true,
            "; server_max_window_bits=10; client_max_window_bits=14",
        ),
    ] {
        let wanted = Parameters { server_bits, client_bits, server_takeover, client_takeover };
        let agreed = agreed(&[line.as_bytes()], YES).expect(line);
        assert_eq!((agreed, agreed.text().as_str()), (wanted, &*format!("permessage-deflate{text}")), "{line}");
    }
}

#[test]
fn an_offer_that_is_not_right_is_declined() {
    for line in [
        "",
        "permessage-bzip2",
        "permessage-deflate2",
        "permessage-deflate; x",
        "permessage-deflate; x=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=\"\"",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=+10",
        "permessage-deflate; server_max_window_bits=100",
        "permessage-deflate; client_max_window_bits=\"\"",
        "permessage-deflate; client_max_window_bits=\"10, permessage-deflate, 11\"",
        "permessage-deflate; client_max_window_bits=\"10",
        "permessage-deflate; client_max_window_bits=\"10\\",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate;",
        "permessage-deflate client_max_window_bits",
        "permessage-deflate=1",
        "\"permessage-deflate\"",
        "; permessage-deflate",
        "permessage-deflate; \u{e9}",
    ] {
        assert_eq!(agreed(&[line.as_bytes()], NO), None, "{line}");
    }
}

#[test]
fn the_first_offer_that_can_be_met_is_taken() {
    let bits = |lines: &[&str]| {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        agreed(&lines, NO).map(|agreed| agreed.server_bits)
    };
    let (ten, eleven) =
        ("permessage-deflate; server_max_window_bits=10", "permessage-deflate; server_max_window_bits=11");
    assert_eq!(bits(&[&format!("{ten}, {eleven}")]), Some(10));
    assert_eq!(bits(&[ten, eleven]), Some(10));
    assert_eq!(bits(&[&format!("permessage-deflate; x=\"a, b; c\", {eleven}")]), Some(11));
    assert_eq!(bits(&["permessage-deflate; server_max_window_bits=8", "foo; bar=1, baz", eleven]), Some(11));
    assert_eq!(bits(&["=broken", ten]), Some(10));
    let others = |count: usize| "x; a=1, ".repeat(count) + ten;
    assert_eq!(bits(&[&others(MAX_ELEMENTS - 1)]), Some(10));
    assert_eq!(bits(&[&others(MAX_ELEMENTS)]), None);
    assert_eq!(bits(&[]), None);
}

#[test]
fn a_client_takes_what_it_offered() {
    let takeover = Parameters { server_takeover: true, client_takeover: true, ..Parameters::PLAIN };
    assert_eq!(confirm(b"permessage-deflate", YES), Some(takeover));
    assert_eq!(confirm(b"permessage-deflate; server_no_context_takeover", NO), Some(Parameters::PLAIN));
    let smaller = Parameters { client_bits: 10, ..takeover };
    assert_eq!(confirm(b"permessage-deflate; client_max_window_bits=10", YES), Some(smaller));
    for (answer, preferences) in [
        (&b"permessage-deflate"[..], NO),
        (b"permessage-deflate; client_max_window_bits=10; server_no_context_takeover", NO),
        (b"permessage-deflate; client_max_window_bits", YES),
        (b"permessage-deflate; client_max_window_bits=8", YES),
        (b"permessage-deflate, permessage-deflate", YES),
        (b"permessage-deflate, x", YES),
        (b"permessage-deflate \"", YES),
        (b"x", YES),
        (b"", YES),
    ] {
        assert_eq!(confirm(answer, preferences), None, "{}", String::from_utf8_lossy(answer));
    }
    for preferences in [NO, YES] {
        assert!(agreed(&[offer(preferences).as_bytes()], preferences).is_some());
    }
}

/// A reader that has no more than the window that was agreed on: it is given so little room at a time that it must
/// look everything else up there.
#[test]
fn nothing_refers_back_further_than_the_window() {
    let message = noise().repeat(40);
    for bits in 9..=15 {
        let (mut compressed, mut plain) = (Vec::new(), Vec::<u8>::new());
        Deflater::default().message(&message, None, bits, &mut compressed);
        compressed.extend(TAIL);
        let mut reader = zlib_rs::Inflate::new(false, bits);
        while plain.len() < message.len() {
            let (at, before, mut room) = (reader.total_in() as usize, reader.total_out(), [0; 100]);
            reader.decompress(&compressed[at..], &mut room, zlib_rs::InflateFlush::NoFlush).unwrap();
            plain.extend(&room[..(reader.total_out() - before) as usize]);
        }
        assert!(plain == message, "{bits} bits");
        // The noise comes again after 2000 bytes: from 12 bits on there is much to refer to.
        assert_eq!(compressed.len() < message.len() / 2, bits >= 12, "{bits} bits: {} bytes", compressed.len());
    }
}

/// The messages of one sequence of a generator (xorshift64): random ones, of few letters, with runs, and mixed.
fn generated(state: &mut u64) -> Vec<u8> {
    let mut roll = || {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    };
    let (len, kind, letters) = ((roll() % 21_000) as usize, roll() % 4, 1 + roll() % 256);
    let mut message = Vec::with_capacity(len);
    while message.len() < len {
        match kind {
            0 => message.push(roll() as u8),
            1 => message.push((roll() % letters) as u8),
            2 => {
                let (run, byte) = (roll() % 300, roll() as u8);
                message.extend((0..run).map(|_| byte));
                (0..roll() % 400).for_each(|_| message.push(roll() as u8));
            }
            _ => {
                let noise = roll() % 3 == 0;
                (0..roll() % 2000)
                    .for_each(|_| message.push(if noise { roll() as u8 } else { b'a' + (roll() % 4) as u8 }));
            }
        }
    }
    message.truncate(len);
    message
}

/// A compressor that has given up some messages deflates the next: zlib-rs 0.6.8 panicked at the sixteenth of these.
#[test]
fn who_has_given_up_a_message_deflates_the_next() {
    let (mut state, mut deflater, mut inflater) = (0xeb45_7388_377f_1789, Deflater::default(), Inflater::default());
    for _ in 0..200 {
        let message = generated(&mut state);
        let (mut small, mut plain) = (Vec::new(), Vec::new());
        if deflater.shorter(&message, None, 15, &mut small) {
            inflater.message(&small, None, 1 << 20, &mut plain).unwrap();
            assert!(plain == message && small.len() < message.len());
        }
    }
}

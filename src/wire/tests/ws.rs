//! Frames: what one end encodes the other receives, however it is cut; garbage fails the same way wherever it is cut.

mod laws;

use edgehold_wire::mask;
use edgehold_wire::ws::{CloseCode, Opcode, ParserConfig, Role, close_body, head};
use laws::{Incoming, Received, receive, receive_with_stops};
use proptest::prelude::*;

/// A message to be sent in fragments that end at the given places, with pings between them.
#[derive(Clone, Debug)]
struct Message {
    text: bool,
    deflated: bool,
    content: Vec<u8>,
    ends: Vec<prop::sample::Index>,
    pings: Vec<Vec<u8>>,
}

fn content(text: bool) -> BoxedStrategy<Vec<u8>> {
    let lengths = prop_oneof![4 => 0..20_usize, 2 => 120..135_usize, 1 => 60_000..70_000_usize];
    if text {
        lengths
            .prop_flat_map(|len| prop::collection::vec(any::<char>(), 0..len.min(300) + 1))
            .prop_map(|chars| chars.into_iter().collect::<String>().into_bytes())
            .boxed()
    } else {
        lengths.prop_flat_map(|len| prop::collection::vec(any::<u8>(), len)).boxed()
    }
}

fn message() -> impl Strategy<Value = Message> {
    let ends = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    let pings = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..=125), 0..3);
    any::<(bool, bool)>()
        .prop_flat_map(move |(text, deflated)| {
            // What is deflated is not looked into, so here it may be anything.
            (Just(text), Just(deflated), content(text && !deflated), ends.clone(), pings.clone())
        })
        .prop_map(|(text, deflated, content, ends, pings)| Message { text, deflated, content, ends, pings })
}

/// Encodes frames as one side and notes what the other must receive.
struct Sender {
    role: Role,
    key: [u8; 4],
    wire: Vec<u8>,
    expected: Received,
}

impl Sender {
    /// Sends to a reader of this role.
    fn to(role: Role) -> Sender {
        Sender { role, key: [0x37, 0xfa, 0x21, 0x3d], wire: Vec::new(), expected: Received::default() }
    }

    fn frame(&mut self, opcode: Opcode, fin: bool, payload: &[u8]) {
        self.frame_of(false, opcode, fin, payload);
    }

    fn frame_of(&mut self, deflated: bool, opcode: Opcode, fin: bool, payload: &[u8]) {
        let key = (self.role == Role::Server).then_some(self.key);
        let head = head(opcode, fin, payload.len() as u64, key);
        self.wire.extend_from_slice(if deflated { head.deflated() } else { head }.as_bytes());
        let at = self.wire.len();
        self.wire.extend_from_slice(payload);
        mask::apply(&mut self.wire[at..], key.unwrap_or_default());
        // Every frame has a key of its own (5.3).
        self.key = self.key.map(|byte| byte.wrapping_mul(29).wrapping_add(7));
    }

    fn ping(&mut self, payload: &[u8]) {
        self.frame(Opcode::Ping, true, payload);
        self.expected.items.push(Incoming::Ping(payload.into()));
    }

    fn message(&mut self, message: &Message) {
        let mut ends: Vec<usize> = message.ends.iter().map(|end| end.index(message.content.len() + 1)).collect();
        ends.sort_unstable();
        let mut opcode = if message.text { Opcode::Text } else { Opcode::Binary };
        let mut deflated = message.deflated;
        let (mut at, mut pings) = (0, message.pings.iter());
        for end in ends {
            self.frame_of(deflated, opcode, false, &message.content[at..end]);
            (deflated, opcode, at) = (false, Opcode::Continuation, end);
            pings.next().into_iter().for_each(|ping| self.ping(ping));
        }
        self.frame_of(deflated, opcode, true, &message.content[at..]);
        let kind = if message.deflated { Incoming::Deflated } else { Incoming::Message };
        self.expected.items.push(kind(message.text, message.content.clone()));
    }

    fn close(&mut self, code: u16, reason: &str) {
        let body = close_body(CloseCode(code), reason);
        self.frame(Opcode::Close, true, body.as_bytes());
        let kept = String::from_utf8(body.as_bytes()[2..].to_vec()).unwrap();
        assert!(reason.starts_with(&kept));
        self.expected.items.push(Incoming::Close(Some((code, kept))));
    }
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

/// Few cuts are small ones: a long message byte by byte would take its square in copies of what is left.
fn cuts() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 1..12)
}

/// Bytes that look like frames more often than chance would have it.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let first =
        prop::sample::select(vec![0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a, 0x09, 0xc1, 0x41, 0x83_u8]);
    let second = prop_oneof![4 => 0..10_u8, 1 => Just(126), 1 => Just(127), 1 => 100..=125_u8];
    let frame =
        (prop_oneof![9 => first, 1 => any::<u8>()], second, any::<bool>(), prop::collection::vec(any::<u8>(), 0..14))
            .prop_map(|(first, second, masked, rest)| {
                let second = second | if masked { 0x80 } else { 0 };
                [&[first, second][..], &rest].concat()
            });
    prop::collection::vec(frame, 0..8).prop_map(|frames| frames.concat())
}

/// Frames that are all right, but what they carry may be anything, and the bytes may stop anywhere.
fn near_frames(role: Role) -> impl Strategy<Value = Vec<u8>> {
    let opcodes = prop::sample::select(vec![
        Opcode::Text,
        Opcode::Binary,
        Opcode::Continuation,
        Opcode::Close,
        Opcode::Ping,
        Opcode::Pong,
    ]);
    let bytes = prop::sample::select(vec![
        b"\xce".to_vec(),
        b"\xba".to_vec(),
        b"\xf0\x9f".to_vec(),
        b"\x98\x80".to_vec(),
        b"ab".to_vec(),
        b"\x03\xe8".to_vec(),
    ]);
    let payload = prop::collection::vec(bytes, 0..5).prop_map(|parts| parts.concat());
    prop::collection::vec((opcodes, any::<bool>(), payload), 0..8).prop_map(move |frames| {
        let mut sender = Sender::to(role);
        frames.iter().for_each(|(opcode, fin, payload)| sender.frame(*opcode, *fin || opcode.is_control(), payload));
        sender.wire
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_received(
        messages in prop::collection::vec(message(), 0..4),
        role in role(),
        cuts in cuts(),
        code in prop::sample::select(vec![1000, 1001, 1014, 3000, 4999_u16]),
        reason in ".{0,200}",
    ) {
        let mut sender = Sender::to(role);
        messages.iter().for_each(|message| sender.message(message));
        sender.close(code, &reason);
        // The tightest limit that lets every message through.
        let message_bytes = messages.iter().map(|message| message.content.len() as u64).max().unwrap_or(0);
        let config = ParserConfig { role, message_bytes, deflate: true };
        prop_assert_eq!(&receive(&sender.wire, &config, &cuts), &sender.expected);
        prop_assert_eq!(&receive(&sender.wire, &config, &[]), &sender.expected);
        prop_assert_eq!(&receive_with_stops(&sender.wire, &config, &cuts, &[true]), &sender.expected);
        prop_assert_eq!(&receive_with_stops(&sender.wire, &config, &[], &[true, false]), &sender.expected);
    }

    #[test]
    fn garbage_fails_the_same_wherever_cut(
        bytes in garbage(), role in role(), limit in 0..40_u64, cuts in cuts(), deflate: bool,
    ) {
        laws::frames(&bytes, &ParserConfig { role, message_bytes: limit, deflate }, &cuts);
        laws::frames(&bytes, &ParserConfig { role, message_bytes: limit, deflate }, &[1]);
    }

    #[test]
    fn near_frames_fail_the_same_wherever_cut(
        (role, bytes) in role().prop_flat_map(|role| (Just(role), near_frames(role))),
        limit in 4..40_u64,
        cuts in cuts(),
        deflate: bool,
    ) {
        laws::frames(&bytes, &ParserConfig { role, message_bytes: limit, deflate }, &cuts);
        laws::frames(&bytes, &ParserConfig { role, message_bytes: limit, deflate }, &[1]);
    }
}

/// The heads of RFC 6455 section 5.7, byte for byte.
#[test]
fn the_examples_of_the_rfc_are_read() {
    let client = ParserConfig { role: Role::Client, message_bytes: 1 << 20, deflate: true };
    let server = ParserConfig { role: Role::Server, message_bytes: 1 << 20, deflate: true };
    let hello = [Incoming::Message(true, b"Hello".to_vec())];
    let single = b"\x81\x05Hello";
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    let fragmented = b"\x01\x03Hel\x80\x02lo";
    assert_eq!(receive(single, &client, &[1]).items, hello);
    assert_eq!(receive(masked, &server, &[1]).items, hello);
    assert_eq!(receive(fragmented, &client, &[1]).items, hello);
    assert_eq!(receive(b"\x89\x05Hello", &client, &[1]).items, [Incoming::Ping(b"Hello".to_vec())]);
    assert_eq!(head(Opcode::Binary, true, 256, None).as_bytes(), b"\x82\x7e\x01\x00");
    assert_eq!(head(Opcode::Binary, true, 65_536, None).as_bytes(), b"\x82\x7f\0\0\0\0\0\x01\0\0");
}

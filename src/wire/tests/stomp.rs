//! STOMP frames: what is written is read, and what is nearly a frame is refused the same way, however it is cut.

mod laws;

use edgehold_wire::stomp::{self, Command, Limits, Version};
use laws::stomp::{frames, stream};
use proptest::prelude::*;

const WIDE: Limits = Limits { frame_bytes: 1 << 20, header_bytes: 1 << 16, header_count: 100 };

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(&Version::ALL[..])
}

/// Pieces of frames, strung together.
fn near_frames() -> impl Strategy<Value = Vec<u8>> {
    let scraps = prop::sample::select(vec![
        &b"SEND\n"[..],
        b"MESSAGE\r\n",
        b"SUBSCRIBE\n",
        b"CONNECT\n",
        b"CONNECTED\n",
        b"STOMP\n",
        b"accept-version:1.0,1.2\n",
        b"version:1.1\n",
        b"destination:/topic/a\n",
        b"a: b \r\n",
        b"\\c\\n:\\\\\\r\n",
        b"a\\t:b\n",
        b"content-length:3\n",
        b"content-length: 40\n",
        b"content-length:x\n",
        b" content-length:1\n",
        b"no colon\n",
        b":no name\n",
        b"\xff:x\n",
        b"\n",
        b"\r\n",
        b"\r",
        b"\0",
        b"abc",
        b"\0\n",
        b"\xc3\xa9",
    ]);
    prop::collection::vec(scraps, 0..14).prop_map(|scraps| scraps.concat())
}

fn header() -> impl Strategy<Value = (String, String)> {
    ("[a-z\\\\:\n\r é-]{0,6}[a-z]", "[ -~\n\r\\\\:é€😀]{0,12}")
}

type Written = (Command, Vec<(String, String)>, Vec<u8>);

fn frame() -> impl Strategy<Value = Written> {
    let command = prop::sample::select(Command::ALL);
    let body =
        prop_oneof![prop::collection::vec(any::<u8>(), 0..9), Just(vec![0; 3]), prop::collection::vec(1..9_u8, 300)];
    (command, prop::collection::vec(header(), 0..5), body).prop_map(|(command, headers, body)| {
        // A name of CONNECT has no way to hold what these say of versions.
        let headers = if command.has_body() {
            headers
        } else {
            headers.into_iter().chain([("version".into(), "1".into()), ("accept-version".into(), "1".into())]).collect()
        };
        (command, headers, if command.has_body() { body } else { Vec::new() })
    })
}

/// What a reader of this version hears of a header.
fn heard(text: &str, command: Command, version: Version, name: bool) -> String {
    let plain = matches!(command, Command::Connect | Command::Connected);
    match version {
        _ if command == Command::Stomp || !plain && version == Version::V12 => text.into(),
        Version::V11 if !plain => text.replace('\r', " "),
        _ => {
            let text = text.replace(['\r', '\n'], " ");
            let text = if name { text.replace(':', " ") } else { text };
            if plain { text } else { text.trim_ascii().into() }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn near_frames_are_the_same_wherever_cut(
        bytes in near_frames(),
        version in version(),
        (frame_bytes, header_bytes, header_count) in (0..90_usize, 0..50_usize, 0..5_usize),
        cuts in prop::collection::vec(0..30_u8, 1..6),
    ) {
        frames(&bytes, &WIDE, version, &cuts);
        frames(&bytes, &Limits { frame_bytes, header_bytes, header_count }, version, &cuts);
    }

    #[test]
    fn any_bytes_are_the_same_wherever_cut(bytes in prop::collection::vec(any::<u8>(), 0..200), version in version()) {
        frames(&bytes, &WIDE, version, &[3, 1]);
    }

    #[test]
    fn what_is_written_is_read(
        all in prop::collection::vec((frame(), "[\n]{0,2}"), 1..4),
        version in version(),
        cuts in prop::collection::vec(any::<u8>(), 0..5),
    ) {
        let mut bytes = Vec::new();
        for ((command, headers, body), beats) in &all {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            stomp::write(&mut bytes, version, *command, &headers, body);
            bytes.extend_from_slice(beats.as_bytes());
        }
        let (read, fault) = stream(&bytes, &WIDE, version, &cuts);
        prop_assert_eq!((read.len(), fault), (all.len(), None));
        for ((command, wanted, content), (its, headers, body, _)) in all.into_iter().map(|it| it.0).zip(read) {
            let by = |text: &str, name: bool| heard(text, command, version, name);
            let heard = |(name, value): (String, String)| (by(&name, true), by(&value, false));
            let headers: Vec<_> = headers.into_iter().filter(|(name, _)| name != "content-length").collect();
            prop_assert_eq!((its, headers, body), (command, wanted.into_iter().map(heard).collect(), content));
        }
    }
}

//! What a feed brings: cut into messages and read, it is refused with a reason or keeps the rules of a message, however
//! the bytes are cut.
#![no_main]

#[allow(dead_code, reason = "the target makes no letters of it")]
#[path = "../../../src/mesh/message.rs"]
mod message;

/// The part of the mesh that reading needs.
mod mesh {
    pub use crate::message::{FeedNumber, NewMessage};
}

#[allow(dead_code, reason = "the target renders no metrics")]
#[path = "../../../src/control/feeds/framing.rs"]
mod framing;

#[allow(dead_code, reason = "the target renders no metrics")]
#[path = "../../../src/control/feeds/decoder.rs"]
mod decoder;

mod input;

use decoder::{Format, InvalidText, Reason, Rules, Said, WORD_BYTES};
use framing::{Cutter, Framing};
use libfuzzer_sys::fuzz_target;
use mesh::NewMessage;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let choice = input::byte(&mut data);
    let cuts = input::cuts(&mut data);
    let framing = if choice & 1 == 0 { Framing::Lines } else { Framing::Length };
    let rules = Rules {
        feed: 1,
        channel: (choice & 2 == 0).then(|| "fixed".into()),
        format: if choice & 4 == 0 { Format::Json } else { Format::Raw },
        text: choice & 8 == 0,
        invalid_text: if choice & 16 == 0 { InvalidText::Drop } else { InvalidText::Binary },
        message_bytes: 100,
    };
    let longest = usize::from(choice >> 5) * 20;
    let whole = messages(framing, longest, data, &[]);
    assert_eq!(messages(framing, longest, data, cuts), whole);
    for message in whole.iter().flatten() {
        assert!(message.len() <= longest);
        law(&rules, message);
    }
    law(&rules, data);
});

fn messages(framing: Framing, longest: usize, mut data: &[u8], cuts: &[u8]) -> Vec<Result<Vec<u8>, Reason>> {
    let mut cutter = Cutter::new(framing, longest);
    let mut all = Vec::new();
    for cut in cuts.iter().map(|cut| usize::from(*cut)).chain([usize::MAX]) {
        let (piece, rest) = data.split_at(cut.min(data.len()));
        cutter.push(piece);
        all.extend(std::iter::from_fn(|| cutter.cut()));
        data = rest;
    }
    all.extend(cutter.rest());
    all
}

fn law(rules: &Rules, raw: &[u8]) {
    let Ok(draft) = rules.read(raw, Said { channel: Some("said"), id: Some("7"), ..Said::default() }) else {
        return;
    };
    let NewMessage { channel, id, event, key, text, payload, .. } = draft;
    assert!(decoder::is_channel(&channel) && payload.len() <= rules.message_bytes);
    assert!(!text || rules.text && std::str::from_utf8(&payload).is_ok());
    for word in [id, event, key].into_iter().flatten() {
        assert!(!word.is_empty() && word.len() <= WORD_BYTES && !word.contains(['\r', '\n', '\0']));
    }
}

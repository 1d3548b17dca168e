//! What a feed brings: cut into messages and read, it is refused with a reason or keeps the rules of a message, however
//! the bytes are cut.
#![no_main]

#[allow(dead_code, reason = "the target makes no letters of it")]
#[path = "../../../src/mesh/message.rs"]
mod message;

/// The part of the mesh that reading needs.
mod mesh {
    pub use crate::message::{FeedNumber, NewMessage, PlainFrame};
}

#[allow(dead_code, reason = "the target renders no metrics")]
#[path = "../../../src/control/feeds/framing.rs"]
mod framing;

#[allow(dead_code, reason = "the target renders no metrics")]
#[path = "../../../src/control/feeds/decoder.rs"]
mod decoder;

mod input;

use framing::{Cutter, Framing};
use libfuzzer_sys::fuzz_target;
use mesh::NewMessage;
use decoder::{Decoder, DecoderSettings, Format, InvalidText, Metadata, Reason, WORD_BYTES};

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let choice = input::byte(&mut data);
    let cuts = input::cuts(&mut data);
    let framing = if choice & 1 == 0 {
        Framing::Lines
    } else {
        Framing::Length
    };
    let settings = DecoderSettings {
        format: if choice & 4 == 0 {
            Format::Json
        } else {
            Format::Raw
        },
        text: choice & 8 == 0,
        invalid_text: if choice & 16 == 0 {
            InvalidText::Drop
        } else {
            InvalidText::Binary
        },
        message_bytes: 100,
    };
    let decoder = Decoder {
        feed: 1,
        channel: (choice & 2 == 0).then(|| "fixed".into()),
        settings,
    };
    let longest = usize::from(choice >> 5) * 20;
    let whole = messages(framing, longest, data, &[]);
    assert_eq!(messages(framing, longest, data, cuts), whole);
    for message in whole.iter().flatten() {
        assert!(message.len() <= longest);
        law(&decoder, message);
    }
    law(&decoder, data);
});

fn messages(
    framing: Framing,
    longest: usize,
    mut data: &[u8],
    cuts: &[u8],
) -> Vec<Result<Vec<u8>, Reason>> {
    let mut cutter = Cutter::new(framing, longest);
    let mut all = Vec::new();
    for cut in cuts.iter().map(|cut| usize::from(*cut)).chain([usize::MAX]) {
        let (piece, rest) = data.split_at(cut.min(data.len()));
        cutter.buffer().extend_from_slice(piece);
        while let Some(cut) = cutter.cut() {
            all.push(cut.map(Into::into));
        }
        data = rest;
    }
    all.extend(cutter.rest().map(|cut| cut.map(Into::into)));
    all
}

fn law(decoder: &Decoder, raw: &[u8]) {
    let metadata = Metadata {
        channel: Some("topic"),
        id: Some("7"),
        ..Metadata::default()
    };
    let Ok(message) = decoder.decode(raw, metadata) else {
        return;
    };
    let NewMessage {
        channel,
        id,
        event,
        key,
        payload,
        ..
    } = message;
    let settings = decoder.settings;
    assert!(decoder::is_channel(&channel) && payload.payload().len() <= settings.message_bytes);
    assert!(
        !payload.is_text() || settings.text && std::str::from_utf8(payload.payload()).is_ok()
    );
    for word in [id, event, key].into_iter().flatten() {
        assert!(!word.is_empty() && word.len() <= WORD_BYTES && !word.contains(['\r', '\n', '\0']));
    }
}

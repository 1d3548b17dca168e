//! What clients say, made once and sent from where it lies.
//!
//! A client's message number `k` is form `(slot + k) % FORMS`, so that an answer that went to another client, or came
//! in another order, is seen. Frames are masked once, with one key each: a server cannot tell, and the tool's own cost
//! stays out of the figures.

use crate::target::Speech;
use edgehold_wire::{mask, ws};

/// How many different messages there are.
pub const FORMS: usize = 16;

/// Messages of one size.
pub struct Words {
    forms: Vec<Form>,
}

struct Form {
    frame: Box<[u8]>,
    payload: Box<[u8]>,
}

impl Words {
    /// Messages of `size` bytes for this kind of server.
    pub fn new(speech: Speech, size: usize) -> Words {
        Words { forms: (0..FORMS).map(|number| Form::new(speech, payload(number, size))).collect() }
    }

    /// One text, the same for all.
    pub fn text(speech: Speech, text: &str) -> Words {
        let payload = text.as_bytes();
        let frame = match speech {
            Speech::WebSocket => framed(ws::Opcode::Text, payload, 0),
            _ => payload.into(),
        };
        Words { forms: vec![Form { frame, payload: payload.into() }] }
    }

    /// What goes out as message `number` of client `slot`.
    pub fn frame(&self, slot: u32, number: u32) -> &[u8] {
        &self.form(slot, number).frame
    }

    /// What must come back for it.
    pub fn payload(&self, slot: u32, number: u32) -> &[u8] {
        &self.form(slot, number).payload
    }

    fn form(&self, slot: u32, number: u32) -> &Form {
        &self.forms[slot.wrapping_add(number) as usize % self.forms.len()]
    }
}

impl Form {
    fn new(speech: Speech, payload: Box<[u8]>) -> Form {
        let frame = match speech {
            Speech::WebSocket => framed(ws::Opcode::Binary, &payload, payload.first().copied().unwrap_or(0)),
            _ => payload.clone(),
        };
        Form { frame, payload }
    }
}

/// Printable, and another one for each number, from the first byte on.
fn payload(number: usize, size: usize) -> Box<[u8]> {
    (0..size).map(|at| b'a' + ((number + at / 7) % FORMS) as u8).collect()
}

/// A client's frame with a key of its own.
pub fn framed(opcode: ws::Opcode, payload: &[u8], salt: u8) -> Box<[u8]> {
    let key = [0x5a ^ salt, 0xc3, 0x96, 0x3c];
    let mut frame = ws::head(opcode, true, payload.len() as u64, Some(key)).as_bytes().to_vec();
    let begin = frame.len();
    frame.extend_from_slice(payload);
    mask::apply(&mut frame[begin..], key);
    frame.into()
}

/// Marks of published messages: `EB#0000000042#`, the rest is filled up.
pub mod marks {
    /// What each mark begins with.
    pub const BEGIN: &[u8] = b"EB#";
    /// Bytes of a mark.
    pub const LEN: usize = 14;

    /// Message `number`, `size` bytes long but no shorter than its mark.
    pub fn message(number: u32, size: usize) -> String {
        format!("EB#{number:010}#{:.<1$}", "", size.saturating_sub(LEN))
    }

    /// The number in a mark.
    pub fn number(mark: &[u8]) -> Option<u32> {
        let digits = mark.get(BEGIN.len()..LEN - 1).filter(|_| mark.get(LEN - 1) == Some(&b'#'))?;
        str::from_utf8(digits).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_say_different_things() {
        for size in [1, 7, 64] {
            let words = Words::new(Speech::Bytes, size);
            assert!((0..15).all(|number| words.frame(3, number) != words.frame(3, number + 1)));
            assert_eq!(words.payload(3, 5), words.payload(4, 4));
        }
    }

    #[test]
    fn a_mark_keeps_its_number() {
        assert_eq!(marks::message(42, 64).len(), 64);
        assert_eq!(marks::message(42, 1).len(), marks::LEN);
        assert_eq!(marks::number(marks::message(42, 20).as_bytes()), Some(42));
        assert_eq!(marks::number(b"EB#00000000x2#"), None);
        assert_eq!(marks::number(b"EB#000"), None);
    }
}

//! How a fuzz target reads its input: a few bytes that choose cuts and settings, then the bytes to read.
#![allow(dead_code, reason = "a target that tries every cut chooses none")]

/// Splits off one byte, or gives zero at the end.
pub fn byte(data: &mut &[u8]) -> u8 {
    let Some((&byte, rest)) = data.split_first() else {
        return 0;
    };
    *data = rest;
    byte
}

/// Splits off up to seven numbers that say how many bytes come in each piece.
pub fn cuts<'d>(data: &mut &'d [u8]) -> &'d [u8] {
    let len = usize::from(byte(data) % 8).min(data.len());
    let (cuts, rest) = data.split_at(len);
    *data = rest;
    cuts
}

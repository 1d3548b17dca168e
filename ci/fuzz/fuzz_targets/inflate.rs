//! A deflated message: a used inflater reads as a new one does, never beyond the limit, and what it reads survives the
//! way through the deflater.
#![no_main]

#[path = "../../../src/wire/tests/laws/mod.rs"]
mod laws;

mod input;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let limit = u64::from(input::byte(&mut data)) * 256;
    let before = usize::from(input::byte(&mut data)).min(data.len());
    let (before, bytes) = data.split_at(before);
    laws::inflate(bytes, before, limit);
});

//! Text in pieces: refused exactly at the first byte that the standard library, too, holds impossible.
#![no_main]

#[path = "../../../src/wire/tests/laws/mod.rs"]
mod laws;

mod input;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let cuts = input::cuts(&mut data);
    laws::text(data, cuts);
    laws::text(data, &[1]);
});

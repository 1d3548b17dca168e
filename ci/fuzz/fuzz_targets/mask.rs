//! Masks: every kind that this processor has does what the definition says, whole and in pieces, at any alignment.
#![no_main]

#[path = "../../../src/wire/tests/laws/mod.rs"]
mod laws;

mod input;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let key = core::array::from_fn(|_| input::byte(&mut data));
    let cuts = input::cuts(&mut data);
    laws::masked(data, key, cuts);
});

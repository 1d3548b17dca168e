//! Frames for either role: the same events and the same fault, whole, cut as the input says, and byte by byte.
#![no_main]

#[path = "../../../src/wire/tests/laws/mod.rs"]
mod laws;

mod input;

use edgehold_wire::ws::{ParserConfig, Role};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let choice = input::byte(&mut data);
    let role = if choice & 1 == 0 { Role::Server } else { Role::Client };
    let config = ParserConfig { role, message_bytes: u64::from(input::byte(&mut data)) * 8, deflate: choice & 2 != 0 };
    let cuts = input::cuts(&mut data);
    laws::frames(data, &config, cuts);
    laws::frames(data, &config, &[1]);
});

//! Forwarded and X-Forwarded-For, a field line for each line: nobody is believed whom nobody trusted has told.
#![no_main]

#[path = "../../../src/wire/tests/laws/mod.rs"]
mod laws;

mod input;

use edgehold_wire::forwarded::Field;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let trusted = input::byte(&mut data);
    let lines: Vec<&[u8]> = data.split(|&byte| byte == b'\n').collect();
    laws::forwarded(Field::XForwardedFor, &lines, trusted);
    laws::forwarded(Field::Forwarded, &lines, trusted);
});

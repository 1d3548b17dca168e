//! Content with a length or in chunks: the same content, end and refusal, whole and cut.
#![no_main]

#[path = "../../../src/wire/tests/laws/mod.rs"]
mod laws;

mod input;

use edgehold_wire::http1::Body;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let length = u64::from(input::byte(&mut data));
    let cuts = input::cuts(&mut data);
    laws::body(data, &Body::Chunked, cuts);
    laws::body(data, &Body::Length(length), cuts);
});

//! A request head: every prefix gives "not yet" or the answer on the whole, under wide and tight limits.
#![no_main]

#[path = "../../../src/wire/tests/laws/mod.rs"]
mod laws;

mod input;

use edgehold_wire::http1::HeadLimits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let tight = usize::from(input::byte(&mut data));
    laws::head(data, &HeadLimits { head_bytes: 8192, head_count: 64, target_bytes: 512 });
    laws::head(data, &HeadLimits { head_bytes: 20 + tight, head_count: tight % 8, target_bytes: tight % 32 });
});

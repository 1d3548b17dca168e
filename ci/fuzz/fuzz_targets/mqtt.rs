//! Packets of MQTT, of every version and either end: every prefix gives "more is needed" or the answer on the whole,
//! and what is read is written and read again as the same. The first byte is the limit, in steps of four bytes.
#![no_main]

#[path = "../../../src/wire/tests/laws/mod.rs"]
mod laws;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((&limit, bytes)) = data.split_first() {
        laws::mqtt(bytes, u32::from(limit) * 4);
    }
});

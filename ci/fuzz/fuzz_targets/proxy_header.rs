//! A PROXY header of either version: every prefix gives "more is needed" or the answer on the whole.
#![no_main]

#[path = "../../../src/wire/tests/laws/mod.rs"]
mod laws;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| laws::proxy_header(data));

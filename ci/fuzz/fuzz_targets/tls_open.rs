//! TLS records opened: bytes of somebody without a key, and authentic records of any content.
#![no_main]

#[path = "../../../src/wire/tests/tls/forger.rs"]
mod forger;
#[path = "../../../src/wire/tests/tls/laws.rs"]
mod laws;
#[path = "../../../src/wire/tests/tls/peers.rs"]
mod peers;

mod input;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let choice = input::byte(&mut data);
    let suite = peers::suites()[usize::from(choice >> 1) % 6];
    let cuts = input::cuts(&mut data);
    if choice & 1 == 0 {
        laws::garbage(suite, data, cuts);
    } else {
        laws::authentic(suite, data, cuts);
    }
});

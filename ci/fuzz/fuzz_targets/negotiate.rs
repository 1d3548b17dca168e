//! Sec-WebSocket-Extensions: what is agreed on is within the preferences and is what the client's side reads.
#![no_main]

#[path = "../../../src/wire/tests/laws/mod.rs"]
mod laws;

use edgehold_wire::deflate::Preferences;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for takeover in [false, true] {
        laws::negotiation(data, Preferences { context_takeover: takeover });
    }
});

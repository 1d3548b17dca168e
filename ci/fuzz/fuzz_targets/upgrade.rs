//! The WebSocket opening behind a good request line: what is accepted is answered rightly; the client's side reads
//! anything without panic.
#![no_main]

#[path = "../../../src/wire/tests/laws/mod.rs"]
mod laws;

use edgehold_wire::deflate::Preferences;
use edgehold_wire::http1::HeadLimits;
use edgehold_wire::upgrade::{self, Offer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = HeadLimits { head_bytes: 8192, head_count: 64, target_bytes: 512 };
    let request = [b"GET / HTTP/1.1\r\nHost: a\r\n", data].concat();
    laws::opening(&request, &limits, &["mqtt".into(), "v1".into()]);
    laws::head(&request, &limits);
    let response = [b"HTTP/1.1 101 Switching Protocols\r\n", data].concat();
    for response in [data, &response] {
        let offer = Offer { protocols: &["mqtt"], deflate: Some(Preferences { context_takeover: true }) };
        if let Ok(Some(confirmed)) = upgrade::confirm(response, *b"the sample nonce", offer) {
            assert!(confirmed.len <= response.len() && confirmed.protocol.is_none_or(|name| name == "mqtt"));
        }
    }
});

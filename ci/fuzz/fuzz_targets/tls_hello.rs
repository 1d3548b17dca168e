//! The server's side of TLS handshakes: hellos of any bytes, and clients whose bytes are changed on their way. Tickets
//! are not encrypted here, so that what is in them is read too.
#![no_main]

#[path = "../../../src/wire/tests/tls/forger.rs"]
mod forger;
#[path = "../../../src/wire/tests/tls/laws.rs"]
mod laws;
#[path = "../../../src/wire/tests/tls/peers.rs"]
mod peers;

mod input;

use libfuzzer_sys::fuzz_target;
use rustls::ServerConfig;
use rustls::server::ProducesTickets;
use std::sync::{Arc, LazyLock};

/// Tickets in clear text.
#[derive(Debug)]
struct Plain;

impl ProducesTickets for Plain {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        1000
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        Some(plain.to_vec())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        Some(cipher.to_vec())
    }
}

static SERVER: LazyLock<ServerConfig> = LazyLock::new(|| {
    let mut config = peers::server_config(&peers::suites());
    config.ticketer = Arc::new(Plain);
    config
});

/// One client for each suite; it resumes when it can.
static CLIENTS: LazyLock<[Arc<rustls::ClientConfig>; 6]> =
    LazyLock::new(|| peers::suites().map(|suite| Arc::new(peers::client_config(&[suite]))));

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let choice = input::byte(&mut data);
    let cuts = input::cuts(&mut data);
    if choice & 1 == 0 {
        laws::hello(&SERVER, data, cuts);
    } else {
        let client = &CLIENTS[usize::from(choice >> 1) % 6];
        laws::disturbed(&SERVER, peers::stock_client(client), data, cuts);
    }
});

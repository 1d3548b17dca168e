//! Clients that are killed in the middle of a handshake, at moments chosen from a seed: after some bytes of a flight,
//! by FIN and by RST; in full handshakes and resumed ones, of TLS 1.3 and 1.2. `EDGEHOLD_SEED` chooses others.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use socket2::SockRef;

use crate::crowd::tls_client::{Issued, TLS12, TLS13, offers, without_tickets};
use crate::crowd::{BINARY, frame, request};
use crate::peer::{names, patience, raise_file_limit, scaled, wait_for};
use crate::secured::{Dice, Guest, Innocents, Secured, expect_end};

const INNOCENTS: usize = 50;
/// Flights of a client: its hello; what ends its handshake, and its request; a message.
const FLIGHTS: usize = 3;
const SEED: u64 = 11;

/// When and how a client is killed.
#[derive(Clone, Copy, Debug)]
struct Kill {
    flight: usize,
    /// Of the flight, in thousandths of its bytes.
    part: usize,
    reset: bool,
}

impl Kill {
    fn new(dice: &mut Dice) -> Kill {
        Kill { flight: dice.below(FLIGHTS), part: dice.below(1001), reset: dice.below(2) == 0 }
    }
}

/// Shakes hands as far as that. Whether a session was resumed, where that is known by then.
fn killed(secured: &Secured, config: &Arc<ClientConfig>, kill: Kill) -> bool {
    let mut guest = Guest::new(secured.server.address, config);
    guest.tls.seal(&request(secured.server.address, "/echo"));
    let mut flight = guest.tls.outgoing();
    for _ in 0..kill.flight {
        guest.stream.write_all(&flight).expect("the server listens");
        flight = guest.next_flight();
    }
    if flight.is_empty() {
        guest.tls.seal(&frame(BINARY, &[7; 500], 1));
        flight = guest.tls.outgoing();
    }
    guest.stream.write_all(&flight[..flight.len() * kill.part / 1000]).expect("the server listens");
    if kill.reset {
        SockRef::from(&guest.stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    } else {
        guest.stream.shutdown(std::net::Shutdown::Write).expect("FIN");
        expect_end(&mut guest.stream);
    }
    guest.tls.is_resumed()
}

#[test]
fn clients_killed_in_mid_handshake() {
    let _alone = crate::alone();
    raise_file_limit();
    let seed = std::env::var("EDGEHOLD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let mut dice = Dice(seed);
    let issued = Issued::new();
    let secured = Secured::start(&issued, 2, 1_000, "10s");
    let offer = [&TLS13, &TLS12].map(|version| offers(version, None, &[&issued]));
    let innocents = Innocents::start(&secured, offer.each_ref().map(without_tickets).to_vec(), INNOCENTS);
    let mut resumed = [0; 2];
    for number in 0..scaled(800, 20_000) {
        let version = number % 2;
        let config = without_tickets(&offer[version]);
        let returns = dice.below(2) == 0;
        if returns {
            Guest::open(secured.server.address, &config).leave();
        }
        let kill = Kill::new(&mut dice);
        let is_resumed = killed(&secured, &config, kill);
        assert!(!is_resumed || returns, "seed {seed}, {number}: {kill:?}");
        resumed[version] += usize::from(is_resumed);
    }
    println!("of those killed, {resumed:?} had resumed a session of TLS 1.3 and 1.2");
    assert!(resumed.iter().all(|&count| count > 20), "{resumed:?} resumed sessions");
    innocents.go_on(2);
    wait_for("nothing of them stays but memory for what innocents say", patience(10), || {
        secured.left(INNOCENTS as u64)[..2] == [0; 2]
    });
    innocents.finish();
    wait_for("nothing of anybody stays", patience(10), || secured.left(0) == [0; 4]);
    assert_eq!(secured.sum(names::CLOSES), secured.sum(names::ACCEPTS), "each end is counted");
    let by_cause = ["gone", "reset"].map(|cause| secured.closes(cause));
    assert_eq!(by_cause.iter().sum::<u64>(), secured.sum(names::CLOSES), "by FIN and by RST: {by_cause:?}");
}

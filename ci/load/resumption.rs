//! Five thousand clients who come back at once with their tickets, to two shards that share what opens these.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::crowd::tls_client::{Issued, TLS13, offers, without_tickets};
use crate::crowd::{Crowd, Stage};
use crate::peer::{names, patience, raise_file_limit, scaled, wait_for};
use crate::secured::Secured;

/// Of a hundred who come back, so many resume.
const RESUMED_MIN: usize = 95;

/// All come, as many at once as `pending_max`, and each has one message echoed. How many have resumed a session.
fn come(secured: &Secured, tickets: &[Arc<ClientConfig>], pending_max: usize) -> usize {
    let mut crowd = Crowd::over_tls(tickets.to_vec());
    crowd.pending_max = pending_max;
    let all: Vec<usize> = crowd.join(tickets.len(), &secured.invitation(), patience(90)).collect();
    assert_eq!(crowd.count(Stage::Open), all.len(), "all are let in");
    crowd.echo_each(&all, 64, patience(60));
    all.iter().filter(|&&index| crowd.client(index).is_resumed()).count()
}

#[test]
fn a_storm_of_clients_with_tickets() {
    let _alone = crate::alone();
    let count = scaled(5_000, 9_000);
    assert!(raise_file_limit() >= count as u64 + 200, "ulimit -n");
    let issued = Issued::new();
    let secured = Secured::start(&issued, 2, count, "60s");
    let offer = offers(&TLS13, None, &[&issued]);
    let tickets: Vec<_> = (0..count).map(|_| without_tickets(&offer)).collect();
    assert_eq!(come(&secured, &tickets, 256), 0, "nobody has a ticket yet");
    wait_for("all have gone", patience(30), || secured.server.connections() == 0);
    let resumed = come(&secured, &tickets, count);
    println!("{resumed} of {count} have resumed their session");
    assert!(resumed * 100 >= count * RESUMED_MIN, "{resumed} of {count} have resumed their session");
    assert_eq!(secured.handshakes("resumed"), resumed as u64);
    assert_eq!(secured.handshakes("full"), (2 * count - resumed) as u64);
    wait_for("nothing of them stays", patience(30), || secured.left(0) == [0; 4]);
    assert_eq!(secured.sum(names::TLS_FAILURES), 0);
}

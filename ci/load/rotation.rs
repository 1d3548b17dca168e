//! Certificates that change under a thousand live connections: none of them ends, and no message is lost.

use crate::crowd::tls_client::{Issued, TLS12, TLS13, offers, without_tickets};
use crate::peer::{names, patience, raise_file_limit, wait_for};
use crate::secured::{Guest, Innocents, Secured};

const CROWD: usize = 1_000;

fn reloads(secured: &Secured, result: &str) -> u64 {
    secured.server.metrics().sum(names::TLS_RELOADS, &[("listener", "public"), ("result", result)])
}

/// Replaces certificate and key.
fn put(secured: &Secured, issued: &Issued) {
    let [certificate, key] = issued.pem();
    secured.replace("edge.key", &key);
    secured.replace("edge.pem", &certificate);
}

/// Good, bad, and good again, several times; half of the crowd speaks TLS 1.2. A new client is shown what is in force.
#[test]
fn rotation_under_a_thousand_connections() {
    let _alone = crate::alone();
    raise_file_limit();
    let issued = [(); 3].map(|()| Issued::new());
    let all: Vec<&Issued> = issued.iter().collect();
    let secured = Secured::start(&issued[0], 2, CROWD, "10s");
    let offer = [&TLS13, &TLS12].map(|version| offers(version, None, &all));
    let innocents = Innocents::start(&secured, offer.each_ref().map(without_tickets).to_vec(), CROWD);
    innocents.go_on(1);
    let mut guests = 0;
    let mut shown = |now: &Issued| {
        for offer in &offer {
            // Without a ticket, since who resumes a session is shown no certificate.
            let guest = Guest::open(secured.server.address, &without_tickets(offer));
            assert!(guest.tls.certificate() == Some(&now.certificate), "the certificate in force");
            guest.leave();
            guests += 1;
        }
    };
    shown(&issued[0]);
    for turn in 1..=4 {
        let (now, before) = (&issued[turn % 3], &issued[(turn - 1) % 3]);
        secured.replace("edge.pem", "no certificate");
        wait_for("the bad file is refused", patience(20), || reloads(&secured, "failed") == turn as u64);
        shown(before);
        innocents.go_on(1);
        put(&secured, now);
        wait_for("the new one is taken", patience(20), || reloads(&secured, "ok") == turn as u64);
        shown(now);
        innocents.go_on(1);
    }
    let rounds = innocents.rounds();
    let crowd = innocents.finish();
    println!("{CROWD} clients echoed {rounds} times each and more");
    assert!(crowd.clients().iter().all(|client| !client.reset && client.close_code.is_none()));
    wait_for("the guests have gone", patience(10), || secured.server.connections() == CROWD as u64);
    let (closes, made) = (secured.sum(names::CLOSES), secured.sum(names::TLS_HANDSHAKES));
    assert_eq!((closes, made), (guests, CROWD as u64 + guests));
}

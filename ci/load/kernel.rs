//! What must hold on every kernel the server supports, in one pass that an emulated machine can run too.
//!
//! 2 000 connections, most to the echo, the others through to a TCP back end: served, parked, promoted,
//! parked again, let go. `ci/kernels/run` runs this test on the oldest kernel and on a long-term one.

use crate::crowd::{Crowd, Habit, Invitation, Stage};
use crate::peer::{Server, names, patience, wait_for};

const ECHOES: usize = 1500;
const PROXIED: usize = 500;

const CONFIG: &str = r#"
[server]
shards = 2
slots_per_shard = 4000
admin = "{admin}"
park_after = "1s"
shutdown_grace = "60s"
[[listener]]
name = "public"
address = "{address}"
[limits]
head_timeout = "60s"
close_timeout = "60s"
[[route]]
path = "/echo"
service = "echo"
[[route]]
path = "/tcp"
service = "proxy"
upstream = "tcp://{upstream}"
connect_timeout = "60s"
"#;

#[test]
fn kernel() {
    let _alone = crate::alone();
    crate::peer::raise_file_limit();
    let upstream = crate::back_end::start();
    let mut server = Server::start(&CONFIG.replace("{upstream}", &upstream.to_string()));
    let mut crowd = Crowd::new();
    let echoes = invite(&mut crowd, &server, ECHOES, "/echo");
    let proxied = invite(&mut crowd, &server, PROXIED, "/tcp");

    talk(&mut crowd, &echoes, &proxied, 100);
    wait_parked(&server);
    // One message is no reason to leave the poll; a second soon after it is.
    talk(&mut crowd, &echoes, &proxied, 3000);
    talk(&mut crowd, &echoes, &proxied, 3000);
    wait_for("all were promoted", patience(10), || {
        let promotions = server.metrics().sum(names::PROMOTIONS, &[]);
        promotions >= (ECHOES + PROXIED) as u64
    });
    wait_parked(&server);

    server.terminate();
    crowd.until("all are let go", patience(20), |crowd| crowd.count(Stage::Ended) == ECHOES + PROXIED);
    let codes = crowd.clients().iter().map(|client| client.close_code);
    assert_eq!(codes.filter(|&code| code == Some(1001)).count(), 2000);
    assert_eq!(server.wait_end(patience(20)).code(), Some(0));
}

fn invite(crowd: &mut Crowd, server: &Server, count: usize, path: &'static str) -> Vec<usize> {
    let whom = Invitation { address: server.address, path, habit: Habit::Polite };
    let joined = crowd.join(count, &whom, patience(20));
    let open = |&index: &usize| crowd.client(index).stage() == Stage::Open;
    assert_eq!(joined.clone().filter(open).count(), count, "{path}");
    joined.collect()
}

/// One message each. An echo comes back as one message; a stream may be cut anew on its way.
fn talk(crowd: &mut Crowd, echoes: &[usize], proxied: &[usize], size: usize) {
    assert_eq!(crowd.echo_each(echoes, size, patience(20)), ECHOES);
    assert!(crowd.echo_each(proxied, size, patience(20)) >= PROXIED);
}

fn wait_parked(server: &Server) {
    wait_for("all clients are parked", patience(20), || server.parked() == (ECHOES + PROXIED) as u64);
}

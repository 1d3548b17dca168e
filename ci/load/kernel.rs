//! What must hold on every kernel the server supports, in one pass that an emulated machine can run too.
//!
//! 2 000 connections, most to the echo, the others through to a TCP back end: served, parked, promoted,
//! parked again, let go. `ci/kernels/run` runs this test on the oldest kernel and on a long-term one.

use crate::crowd::{Crowd, Habit, Invitation, Stage};
use crate::peer::{Server, names, patience, wait_for};

const ECHOES: usize = 1500;
const PROXIED: usize = 500;

/// Clients that talk at a time where it matters that they talk twice within `park_after`, however slow the
/// machine: all of them together may take longer.
const GROUP: usize = 50;

const CONFIG: &str = r#"
[server]
shards = 2
slots_per_shard = 4000
admin = "{admin}"
park_after = "{park_after}s"
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
    let mut server = Server::start(&config(&upstream.to_string()));
    let mut crowd = Crowd::new();
    let echoes = invite(&mut crowd, &server, ECHOES, "/echo");
    let proxied = invite(&mut crowd, &server, PROXIED, "/tcp");

    talk(&mut crowd, &echoes, &proxied, 100);
    wait_parked(&server);
    promote(&mut crowd, &server, &echoes, &proxied);
    wait_parked(&server);

    server.terminate();
    crowd.until("all are let go", patience(20), |crowd| crowd.count(Stage::Ended) == ECHOES + PROXIED);
    let codes = crowd.clients().iter().map(|client| client.close_code);
    assert_eq!(codes.filter(|&code| code == Some(1001)).count(), 2000);
    assert_eq!(server.wait_end(patience(20)).code(), Some(0));
}

fn config(upstream: &str) -> String {
    let park_after = patience(1).as_secs().to_string();
    CONFIG.replace("{upstream}", upstream).replace("{park_after}", &park_after)
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
    assert_eq!(crowd.echo_each(echoes, size, patience(20)), echoes.len());
    assert!(crowd.echo_each(proxied, size, patience(20)) >= proxied.len());
}

/// One message is no reason to leave the poll; a second soon after it is. Behind a proxied client its connection
/// to the back end leaves the poll too: what it sends and what comes back are two.
fn promote(crowd: &mut Crowd, server: &Server, echoes: &[usize], proxied: &[usize]) {
    let groups = echoes.chunks(GROUP).map(|group| (group, &[][..]));
    let groups = groups.chain(proxied.chunks(GROUP).map(|group| (&[][..], group)));
    for (echoes, proxied) in groups {
        let before = server.metrics().sum(names::PROMOTIONS, &[]);
        talk(crowd, echoes, proxied, 3000);
        talk(crowd, echoes, proxied, 3000);
        let due = (echoes.len() + 2 * proxied.len()) as u64;
        wait_for("all of a group were promoted", patience(10), || {
            server.metrics().sum(names::PROMOTIONS, &[]) >= before + due
        });
    }
}

/// The clients, and the connections to the back end.
fn wait_parked(server: &Server) {
    wait_for("all clients are parked", patience(20), || server.parked() == (ECHOES + PROXIED) as u64);
    wait_for("all connections are parked", patience(20), || {
        let metrics = server.metrics();
        let parked = metrics.sum(names::PARKS, &[]) - metrics.sum(names::PROMOTIONS, &[]);
        parked == (ECHOES + 2 * PROXIED) as u64
    });
}

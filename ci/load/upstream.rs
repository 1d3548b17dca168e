//! A route's only upstream goes and comes back: clients are told so while it is away, and served as soon as it is back.

use std::net::SocketAddr;
use std::net::TcpListener;
use std::thread;

use crate::by_hand::{Caller, listen_to};
use crate::peer::{Server, free_port, patience, wait_for};

const CONFIG: &str = r#"
[server]
shards = 2
slots_per_shard = 1000
admin = "{admin}"
[[listener]]
name = "public"
address = "{address}"
[[route]]
path = "/away"
service = "proxy"
upstream = "tcp://{upstream}"
"#;

/// Refused calls after which an upstream used to be left alone for sixteen seconds by every shard.
const FAILURES: u64 = 24;

/// Clients that come when it is back; both shards have some.
const CLIENTS: usize = 200;

#[test]
fn the_only_upstream_is_called_as_soon_as_it_is_back() {
    let _together = crate::together();
    let upstream = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = Server::start(&CONFIG.replace("{upstream}", &upstream.to_string()));
    wait_for("both shards have called in vain, again and again", patience(20), || {
        let status = ask(&server);
        assert_eq!(status, 503);
        figure(&server, "edgehold_upstream_failures_total") >= FAILURES
    });
    assert_eq!(figure(&server, "edgehold_upstream_up"), 0);
    serve(upstream);
    // Each shard calls at most once in a quarter of a second while it does not answer.
    wait_for("one is served", patience(1), || ask(&server) == 101);
    let refused = (0..CLIENTS).filter(|_| ask(&server) != 101).count();
    assert_eq!(refused, 0, "of {CLIENTS}, one having been served");
    assert_eq!(figure(&server, "edgehold_upstream_up"), 1);
    let log = server.log();
    let lines = ["the upstream does not answer", "the upstream answers again"].map(|it| log.matches(it).count());
    assert_eq!(lines, [1, 1], "one line when it goes, one when it comes: {log}");
}

fn ask(server: &Server) -> u16 {
    let mut caller = Caller::new(server.address);
    caller.say(&caller.opening("/away"));
    caller.status()
}

fn figure(server: &Server, name: &str) -> u64 {
    server.metrics().sum(name, &[])
}

/// Takes everybody from now on, to the end of the test program.
fn serve(at: SocketAddr) {
    let door = TcpListener::bind(at).expect("the port is still free");
    thread::spawn(move || {
        while let Ok((caller, _)) = door.accept() {
            thread::spawn(move || listen_to(caller.into()));
        }
    });
}

//! The way out: SIGTERM says 1001 to everyone and lets them answer; a second SIGTERM does not wait for them. Other
//! signals are no way out.

use rustix::process::Signal;

use crate::crowd::{Crowd, Habit, Invitation, Stage};
use crate::peer::{Server, patience, wait_for};

const CONFIG: &str = r#"
[server]
shards = 2
slots_per_shard = 3000
admin = "{admin}"
shutdown_grace = "20s"
[[listener]]
name = "public"
address = "{address}"
[limits]
close_timeout = "20s"
[[route]]
path = "/echo"
service = "echo"
"#;

fn guests(server: &Server, count: usize, habit: Habit) -> Crowd {
    let mut crowd = Crowd::new();
    let guest = Invitation { address: server.address, path: "/echo", habit };
    crowd.join(count, &guest, patience(20));
    assert_eq!(crowd.count(Stage::Open), count);
    crowd
}

/// Everyone who answers is let go, and the server leaves when the last has gone.
#[test]
fn drain() {
    let _alone = crate::alone();
    let mut server = Server::start(CONFIG);
    let mut crowd = guests(&server, 2000, Habit::Polite);
    server.terminate();
    crowd.until("all are let go", patience(20), |crowd| crowd.count(Stage::Ended) == 2000);
    let told = |code| crowd.clients().iter().filter(move |c| c.close_code == code);
    assert_eq!(told(Some(1001)).count(), 2000);
    assert!(crowd.clients().iter().all(|client| !client.reset));
    let status = server.wait_end(patience(20));
    assert_eq!(status.code(), Some(0));
}

/// Clients that never answer hold the server, until it is told a second time.
#[test]
fn drain_at_once() {
    let _alone = crate::alone();
    let mut server = Server::start(CONFIG);
    let mut crowd = guests(&server, 100, Habit::Mute);
    server.terminate();
    crowd.until("all are told", patience(10), |crowd| {
        let mut all = crowd.clients().iter();
        all.all(|client| client.close_code == Some(1001))
    });
    assert_eq!(server.ended(), None, "it waits for their answers");
    server.terminate();
    // Far below close_timeout and shutdown_grace, so it cannot be one of these that ran out.
    server.wait_end(patience(3));
}

/// What logrotate, a closing terminal or a habit send kills no client.
#[test]
fn other_signals_are_heard_and_harmless() {
    let _together = crate::together();
    let mut server = Server::start(CONFIG);
    let crowd = guests(&server, 10, Habit::Polite);
    for (signal, words) in [(Signal::HUP, "SIGHUP: reload"), (Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2")] {
        server.signal(signal);
        wait_for("a line in the log", patience(10), || server.ended().is_some() || server.log().contains(words));
        assert_eq!(server.ended(), None, "{words}");
    }
    assert_eq!(server.connections(), crowd.count(Stage::Open) as u64);
    drop(crowd);
    server.terminate();
    assert_eq!(server.wait_end(patience(20)).code(), Some(0));
}

//! A shard without a free slot: it refuses in good order, and serves again once slots are free.

use std::time::Duration;

use crate::crowd::{Crowd, Habit, Invitation, Stage};
use crate::peer::{Server, names, patience, wait_for};

const SLOTS: usize = 100;
const CALLERS: usize = 300;
const LEAVERS: usize = 50;

const CONFIG: &str = r#"
[server]
shards = 1
slots_per_shard = 100
admin = "{admin}"
[[listener]]
name = "public"
address = "{address}"
[[route]]
path = "/echo"
service = "echo"
"#;

#[test]
fn full_shard() {
    let _alone = crate::alone();
    let limit = patience(10);
    let server = Server::start(CONFIG);
    let mut crowd = Crowd::new();
    let guest = Invitation { address: server.address, path: "/echo", habit: Habit::Polite };

    crowd.join(CALLERS, &guest, limit);
    crowd.until("the refused are let go", limit, |crowd| crowd.count(Stage::Refused) == 0);
    assert_eq!(crowd.count(Stage::Open), SLOTS);
    assert_eq!(crowd.count(Stage::Ended), CALLERS - SLOTS);
    check_refusals(&crowd);
    wait_for("the refusals are counted", limit, || {
        server.metrics().sum(names::REFUSALS, &[("reason", "full")]) == (CALLERS - SLOTS) as u64
    });
    // Each of them under one reason, and no more of them than were turned away.
    assert_eq!(server.metrics().sum(names::REFUSALS, &[]), (CALLERS - SLOTS) as u64);

    leave(&mut crowd, limit);
    wait_for("the slots are free", limit, || server.connections() == (SLOTS - LEAVERS) as u64);
    let new = crowd.join(LEAVERS, &guest, limit);
    assert_eq!(crowd.count(Stage::Open), SLOTS);
    let new: Vec<usize> = new.collect();
    assert_eq!(crowd.echo_each(&new, 100, limit), LEAVERS);
}

/// Each refusal is a whole 503 with the length it announces, and then the end of the stream.
fn check_refusals(crowd: &Crowd) {
    for client in crowd.clients().iter().filter(|c| c.status != 101) {
        let text = String::from_utf8_lossy(&client.refusal);
        assert_eq!((client.status, client.reset), (503, false), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let head = head.to_ascii_lowercase();
        let announced = head.split("content-length:").nth(1);
        let announced = announced.and_then(|rest| rest.split_whitespace().next());
        assert_eq!(announced, Some(body.len().to_string().as_str()), "{text}");
    }
}

/// The first clients that are open take leave; returns when their connections are over.
fn leave(crowd: &mut Crowd, limit: Duration) {
    let open = |&index: &usize| crowd.client(index).stage() == Stage::Open;
    let leavers: Vec<usize> = (0..CALLERS).filter(open).take(LEAVERS).collect();
    for &index in &leavers {
        crowd.close(index, 1000);
    }
    crowd.until("the Close is answered and the stream ended", limit, |crowd| {
        let mut all = leavers.iter().map(|&index| crowd.client(index));
        all.all(|c| c.stage() == Stage::Ended && c.close_code == Some(1000))
    });
}

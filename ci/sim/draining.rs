//! A listener's health path while the server stops.

use crate::stage::{HEALTH, KIND, Stage, settings};
use edgehold::engine::script::{FarEnd, Temper};
use edgehold::mesh::ToShard;
use edgehold::shard::service::ShardSettings;

/// More connections than a shard drains in one turn: it reads what the last of them ask before it comes to them.
const CLIENTS: usize = 1100;

/// What each client has received.
fn read(stage: &mut Stage, clients: &mut [(FarEnd, String)]) {
    for (client, received) in clients {
        let bytes = stage.shard.ring().read(*client, usize::MAX);
        received.push_str(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn health_is_503_while_the_server_stops() {
    let mut stage = Stage::new(
        1,
        Temper { completions: 10_000, ..KIND },
        &ShardSettings { slots: 2048, turn_events: 4096, ..settings() },
    );
    let request = format!("GET {HEALTH} HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| (stage.asked(request.as_bytes()), String::new())).collect();
    let ready = stage.until(2000, |stage| {
        read(stage, &mut clients);
        clients.iter().all(|(_, received)| received.starts_with("HTTP/1.1 200 ") && received.ends_with("ready\n"))
    });
    assert!(ready, "not every client was told that the server is ready");
    for (client, received) in &mut clients {
        received.clear();
        stage.shard.ring().say(*client, request.as_bytes());
    }
    stage.letters.post(ToShard::Drain).expect("room for a letter");
    (0..500).for_each(|_| stage.turn());
    read(&mut stage, &mut clients);
    let answered = clients.iter().filter(|(_, received)| !received.is_empty());
    let answered =
        answered.inspect(|(_, it)| assert!(it.starts_with("HTTP/1.1 503 ") && it.contains("stopping"), "{it}"));
    assert!((1..CLIENTS).contains(&answered.count()), "no client was answered, or all were");
}

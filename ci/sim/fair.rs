//! Fairness: while a broadcast never ends, an echo waits for a turn or two, whatever stood in the queue before.

use crate::stage::{KIND, PLAIN, Stage, settings};
use edgehold::engine::script::FarEnd;
use edgehold::shard::service::ShardSettings;

const SUBSCRIBERS: usize = 100;
/// Few, so that a backlog is many turns long.
const TURN_EVENTS: u32 = 8;

/// A turn in which one more message has come from the feed.
fn turn(stage: &mut Stage, listeners: &[FarEnd]) {
    stage.publish(b"tick");
    stage.turn();
    for &listener in listeners {
        stage.shard.ring().read(listener, usize::MAX);
    }
}

/// Turns until the echo of a frame has come.
fn echo(stage: &mut Stage, client: FarEnd, listeners: &[FarEnd]) -> usize {
    stage.shard.ring().say(client, b"\x82\x82\0\0\0\0hi");
    let mut heard = Vec::new();
    let waited = (1..1000).find(|_| {
        turn(stage, listeners);
        heard.extend(stage.shard.ring().read(client, usize::MAX));
        heard == b"\x82\x02hi"
    });
    waited.expect("the echo comes")
}

#[test]
fn an_echo_waits_for_a_turn_or_two_while_a_broadcast_goes_on() {
    let mut stage = Stage::new(1, KIND, &ShardSettings { turn_events: TURN_EVENTS, ..settings() });
    let client = stage.opened("/echo", PLAIN);
    let listeners: Vec<FarEnd> = (0..SUBSCRIBERS).map(|_| stage.opened("/feed/a", PLAIN)).collect();
    // All of them come at once, and the feed speaks all the while: the queue is full before the first is served.
    for _ in 0..200 {
        turn(&mut stage, &listeners);
    }
    let opening = stage.shard.ring().read(client, usize::MAX);
    let said = String::from_utf8_lossy(&opening);
    assert!(opening.starts_with(b"HTTP/1.1 101"), "{said:?}: {:?}", stage.counters());
    let mut waited: Vec<usize> = (0..21).map(|_| echo(&mut stage, client, &listeners)).collect();
    waited.sort_unstable();
    // The scripted kernel cuts frames, so that some need several turns; behind the queue each would need a dozen.
    assert!(waited[10] <= 4, "turns waited: {waited:?}");
}

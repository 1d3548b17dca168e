//! Messages that never reached a shard: every subscriber that they concern is sent a notice of a gap, whatever the
//! policy for slow clients, and nobody else.

use crate::stage::{KIND, Stage, settings};
use edgehold::engine::script::FarEnd;
use edgehold::mesh::{FeedNumber, Message, Missed, NewMessage, PlainFrame, ToShard};
use std::sync::Arc;

fn stage() -> Stage {
    Stage::new(1, KIND, &settings())
}

fn publish(stage: &mut Stage, sequence: u64) {
    let payload = PlainFrame::text(&format!("said {sequence}"));
    let draft = NewMessage { channel: "a".into(), payload, ..NewMessage::default() };
    let message = Arc::new(Message::new(draft, 1, sequence));
    stage.letters.post(ToShard::Publish(Arc::from([message]))).expect("the shard reads its letters");
}

fn miss(stage: &mut Stage, feed: Option<FeedNumber>, channel: Option<&str>, sequence: u64) {
    let missed = Missed { feed, channel: channel.map(Into::into), sequence };
    stage.letters.post(ToShard::Missed(Box::new(missed))).expect("the shard reads its letters");
}

fn turns(stage: &mut Stage) {
    (0..60).for_each(|_| stage.turn());
}

fn request(stage: &mut Stage, target: &str, fields: &str) -> FarEnd {
    let end = stage.asked(format!("GET {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes());
    turns(stage);
    end
}

/// All that it was sent since.
fn received(stage: &mut Stage, end: FarEnd) -> String {
    let mut received = Vec::new();
    for _ in 0..20 {
        received.extend(stage.shard.ring().read(end, usize::MAX));
        turns(stage);
    }
    String::from_utf8_lossy(&received).into_owned()
}

const SOCKET: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const EVENTS: &str = "Accept: text/event-stream\r\n";

#[test]
fn every_subscriber_is_sent_a_notice_and_goes_on() {
    let mut stage = stage();
    let ends = [
        request(&mut stage, "/feed/a", SOCKET),
        request(&mut stage, "/feed/a", EVENTS),
        request(&mut stage, "/feed/b", SOCKET),
    ];
    let _opened = ends.map(|end| received(&mut stage, end));
    // A shard that was late finds all of it in its box at once.
    publish(&mut stage, 1);
    miss(&mut stage, None, None, 5);
    publish(&mut stage, 6);
    turns(&mut stage);
    let gap =
        |channel: &str, next: &str| format!("{{\"gap\":{{\"after\":null,\"channel\":\"{channel}\",\"next\":{next}}}}}");
    let [socket, events, other] = ends.map(|end| received(&mut stage, end));
    let told = gap("a", "\"00000001-6\"");
    assert!(socket.contains(&told) && socket.ends_with("\u{6}said 6") && !socket.contains("said 1"), "{socket:?}");
    let event = format!("event: gap\ndata: {told}\n\n");
    let both = [event.as_str(), "id: 00000001-6\ndata: said 6\n\n"].map(|it| events.find(it));
    assert!(both[0].is_some() && both[0] < both[1], "{events:?}");
    assert!(other.contains(&gap("b", "null")), "{other:?}");
    let counters = stage.counters();
    assert_eq!((counters.gaps_told, counters.slow_closed), (3, 0));
}

#[test]
fn those_whom_it_does_not_concern_are_sent_nothing() {
    let mut stage = stage();
    let ends = [request(&mut stage, "/feed/a", SOCKET), request(&mut stage, "/feed/b*", SOCKET)];
    let _opened = ends.map(|end| received(&mut stage, end));
    miss(&mut stage, Some(1), None, 1);
    miss(&mut stage, Some(0), Some("c"), 2);
    turns(&mut stage);
    assert_eq!(ends.map(|end| received(&mut stage, end)), ["", ""]);
    miss(&mut stage, Some(0), Some("bc"), 3);
    turns(&mut stage);
    let [nothing, gap] = ends.map(|end| received(&mut stage, end));
    assert!(nothing.is_empty() && gap.contains("{\"gap\":{"), "{nothing:?} {gap:?}");
}

#[test]
fn a_poll_that_waited_leads_to_the_gap_not_past_it() {
    let mut stage = stage();
    publish(&mut stage, 1);
    turns(&mut stage);
    let poll = request(&mut stage, "/feed/a?after=00000001-1", "");
    miss(&mut stage, None, None, 5);
    turns(&mut stage);
    let answer = received(&mut stage, poll);
    assert!(answer.starts_with("HTTP/1.1 204") && answer.contains("Last-Event-ID: 00000001-4\r\n"), "{answer:?}");
    let poll = request(&mut stage, "/feed/a?after=00000001-4", "");
    let answer = received(&mut stage, poll);
    assert!(answer.starts_with("HTTP/1.1 410") && answer.contains("Last-Event-ID: 00000001-5\r\n"), "{answer:?}");
}

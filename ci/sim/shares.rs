//! What clients may have of a route: connections of all and of each, messages and bytes by time; beside innocents.

use crate::stage::{KIND, PLAIN, Stage, limits, settings};
use edgehold::engine::script::FarEnd;
use edgehold::mesh::{Cause, Rate, Refused, Tallies};
use edgehold::shard::service::{Admission, RouteLimits, ShardSettings, Share, Shares};
use edgehold_wire::ws::{self, Opcode};
use std::sync::Arc;
use std::time::{Duration, Instant};

const EACH: Share = Share { connections: None, messages: None, bytes: None, closes: false };

fn stage(shares: Shares) -> Stage {
    let limits = vec![RouteLimits { shares, ..limits() }];
    let settings = ShardSettings { limits, ..settings() };
    let admission = Admission { tallies: Arc::new(Tallies::new(1024)), begun: Instant::now(), addresses: Vec::new() };
    Stage::new(3, KIND, &settings).with_admission(admission).at_pace(Duration::from_millis(5))
}

/// A client of an address asks for a WebSocket; the status.
fn comes(stage: &mut Stage, address: [u8; 4]) -> (FarEnd, String) {
    let mut head = Vec::new();
    edgehold_wire::upgrade::request(&mut head, "h", "/echo", *b"a key of sixteen", PLAIN);
    let end = stage.shard.ring().arrive_from(0, address.into());
    stage.shard.ring().say(end, &head);
    let mut heard = Vec::new();
    assert!(stage.until(500, |it| {
        heard.extend(it.shard.ring().read(end, usize::MAX));
        heard.windows(4).any(|four| four == b"\r\n\r\n")
    }));
    (end, String::from_utf8_lossy(&heard).into_owned())
}

fn opened(stage: &mut Stage, address: [u8; 4]) -> FarEnd {
    let (end, head) = comes(stage, address);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    end
}

const ONE: [u8; 4] = [192, 0, 2, 1];
const OTHER: [u8; 4] = [192, 0, 2, 2];

/// Messages of so many bytes.
fn say(stage: &mut Stage, end: FarEnd, count: usize, len: usize) {
    let (key, mut bytes) = ([1, 2, 3, 4], Vec::new());
    for _ in 0..count {
        let head = ws::head(Opcode::Binary, true, len as u64, Some(key));
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend((0..len).map(|place| key[place % 4]));
    }
    stage.shard.ring().say(end, &bytes);
}

/// Bytes that have come in so much time of the play.
fn heard(stage: &mut Stage, end: FarEnd, time: Duration) -> usize {
    let mut heard = 0;
    for _ in 0..time.as_millis() / 5 {
        stage.turn();
        heard += stage.shard.ring().read(end, usize::MAX).len();
    }
    heard
}

fn counted(stage: &mut Stage) -> u64 {
    let counters = stage.counters();
    counters.tallies_entered - counters.tallies_left
}

#[test]
fn a_route_and_each_of_its_clients_have_so_many_connections() {
    let each = Some(Share { connections: Some(2), ..EACH });
    let mut stage = stage(Shares { connections: Some(3), each });
    let first = [opened(&mut stage, ONE), opened(&mut stage, ONE)];
    let (_, refused) = comes(&mut stage, ONE);
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("Retry-After: "), "{refused}");
    opened(&mut stage, OTHER);
    let (_, refused) = comes(&mut stage, OTHER);
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("Retry-After: "), "{refused}");
    let counters = stage.counters();
    let by_reason = [Refused::IdentityConnections, Refused::RouteConnections].map(|it| counters.refusals[it as usize]);
    assert_eq!(by_reason, [1, 1]);
    stage.shard.ring().break_off(first[0]);
    (0..20).for_each(|_| stage.turn());
    opened(&mut stage, OTHER);
    assert_eq!(counted(&mut stage), 3, "the route and two clients");
}

/// A request is counted until it is answered: over one connection many may follow each other.
#[test]
fn what_is_answered_is_counted_no_more() {
    let each = Some(Share { connections: Some(1), ..EACH });
    let mut stage = stage(Shares { connections: Some(1), each });
    let end = stage.shard.ring().arrive_from(0, ONE.into());
    for _ in 0..5 {
        stage.shard.ring().say(end, b"GET /feed/a?poll HTTP/1.1\r\nHost: h\r\n\r\n");
        (0..50).for_each(|_| stage.turn());
        stage.shard.ring().read(end, usize::MAX);
    }
    stage.shard.ring().break_off(end);
    (0..50).for_each(|_| stage.turn());
    assert_eq!(counted(&mut stage), 0);
    opened(&mut stage, OTHER);
}

/// One who says more than it may is read no faster than that, and loses nothing; an innocent is served at once.
#[test]
fn who_sends_too_fast_is_held_back_to_its_rate() {
    let messages = Some(Rate { rate: 10, burst: 10 });
    let mut stage = stage(Shares { connections: None, each: Some(Share { messages, ..EACH }) });
    let (greedy, innocent) = (opened(&mut stage, ONE), opened(&mut stage, OTHER));
    for _ in 0..200 {
        say(&mut stage, greedy, 1, 8);
        stage.turn();
    }
    say(&mut stage, innocent, 1, 8);
    assert_eq!(heard(&mut stage, innocent, Duration::from_millis(100)), 10, "its echo");
    let early = heard(&mut stage, greedy, Duration::from_secs(3)) / 10;
    assert!((20..=80).contains(&early), "a burst, what four seconds bring, and what came with it: {early}");
    let rest = heard(&mut stage, greedy, Duration::from_secs(20)) / 10;
    assert_eq!(early + rest, 200, "nothing is lost");
    let counters = stage.counters();
    assert!(counters.rate_held >= 5 && counters.rate_closed == 0, "{} times", counters.rate_held);
    say(&mut stage, greedy, 1, 8);
    assert_eq!(heard(&mut stage, greedy, Duration::from_secs(2)), 10, "it goes on");
}

/// Two connections of one client share its bytes.
#[test]
fn connections_of_one_client_share_its_rate() {
    let bytes = Some(Rate { rate: 1000, burst: 4000 });
    let mut stage = stage(Shares { connections: None, each: Some(Share { bytes, ..EACH }) });
    let ends = [opened(&mut stage, ONE), opened(&mut stage, ONE)];
    for _ in 0..20 {
        ends.iter().for_each(|end| say(&mut stage, *end, 1, 494));
        stage.turn();
    }
    let first = ends.map(|end| heard(&mut stage, end, Duration::from_secs(1)));
    assert!(first.iter().sum::<usize>() < 16_000, "a burst, and what came with it: {first:?}");
    let rest = ends.map(|end| heard(&mut stage, end, Duration::from_secs(40)));
    assert_eq!(first.iter().chain(&rest).sum::<usize>(), 40 * 498, "20 kB of the two take 16 s, and nothing is lost");
}

#[test]
fn who_sends_too_fast_is_closed_where_that_is_said() {
    let messages = Some(Rate { rate: 10, burst: 10 });
    let mut stage = stage(Shares { connections: None, each: Some(Share { messages, closes: true, ..EACH }) });
    let (greedy, innocent) = (opened(&mut stage, ONE), opened(&mut stage, OTHER));
    say(&mut stage, greedy, 50, 8);
    let mut heard = Vec::new();
    assert!(stage.until(500, |it| {
        heard.extend(it.shard.ring().read(greedy, usize::MAX));
        let close: &[u8] = &1008_u16.to_be_bytes();
        heard.windows(2).any(|two| two == close)
    }));
    stage.shard.ring().end(greedy);
    (0..50).for_each(|_| stage.turn());
    let counters = stage.counters();
    assert_eq!((counters.closes[Cause::Rate as usize], counters.rate_closed), (1, 1));
    say(&mut stage, innocent, 5, 8);
    assert_eq!(self::heard(&mut stage, innocent, Duration::from_secs(1)), 50);
}

/// The end of one who is held back is seen all the same.
#[test]
fn who_leaves_while_it_is_held_back_is_gone() {
    let messages = Some(Rate { rate: 1, burst: 1 });
    let mut stage = stage(Shares { connections: None, each: Some(Share { messages, ..EACH }) });
    let greedy = opened(&mut stage, ONE);
    say(&mut stage, greedy, 100, 8);
    (0..100).for_each(|_| stage.turn());
    stage.shard.ring().break_off(greedy);
    let gone = stage.until(40_000, |it| it.counters().used == 0);
    assert!(gone && counted(&mut stage) == 0);
}

//! Limits by address: attackers beside innocents. On scripted rings counts are exact, on one shard and over two.

use crate::stage::{KIND, PLAIN, Stage, settings};
use edgehold::engine::script::{Dice, FarEnd, Script, Temper};
use edgehold::mesh::{Cause, Counters, Listed, Lists, Most, Network, Networks, Rate, Refused, Tallies};
use edgehold::shard::service::{AddressLimits, Admission, ShardSettings};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ATTACKER: &str = "198.51.100.66";
const INNOCENT: &str = "192.0.2.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn networks(all: &[&str]) -> Networks {
    all.iter().map(|it| it.parse::<Network>().unwrap()).collect()
}

/// For one listener.
fn limits(most: Most) -> AddressLimits {
    AddressLimits {
        ipv4_prefix: 32,
        ipv6_prefix: 64,
        most,
        lists: Arc::new(Lists::default()),
        scope: 0,
        dry_run: false,
    }
}

fn admission(limits: AddressLimits) -> Admission {
    Admission { tallies: Arc::new(Tallies::new(1024)), begun: Instant::now(), addresses: vec![Some(limits)] }
}

fn stage(limits: AddressLimits) -> Stage {
    Stage::new(7, KIND, &settings()).with_admission(admission(limits))
}

fn most(connections: u32) -> Most {
    Most { connections, ..Most::ALL }
}

/// So many come at once, and are accepted or refused.
fn arrive(stage: &mut Stage, address: &str, count: usize) -> Vec<FarEnd> {
    let ends: Vec<_> = (0..count).map(|_| stage.shard.ring().arrive_from(0, ip(address))).collect();
    let before = stage.counters().accepts[0];
    assert!(stage.until(1000, |it| it.counters().accepts[0] == before + count as u64));
    (0..20).for_each(|_| stage.turn());
    ends
}

/// Of these, who was closed. Nobody was told anything.
fn closed(stage: &mut Stage, ends: &[FarEnd]) -> usize {
    let ring = stage.shard.ring();
    let is_closed = |ring: &mut Script, end| ring.is_ended(end) || ring.is_broken(end);
    let closed: Vec<_> = ends.iter().copied().filter(|end| is_closed(ring, *end)).collect();
    assert!(closed.iter().all(|end| ring.read(*end, usize::MAX).is_empty()), "nothing is sent to who is refused");
    closed.len()
}

/// A client asks for a WebSocket and hears its echo.
fn is_served(stage: &mut Stage, end: FarEnd) -> bool {
    let mut head = Vec::new();
    edgehold_wire::upgrade::request(&mut head, "h", "/echo", *b"a key of sixteen", PLAIN);
    stage.shard.ring().say(end, &head);
    let mut heard = Vec::new();
    stage.until(200, |it| {
        heard.extend(it.shard.ring().read(end, usize::MAX));
        heard.starts_with(b"HTTP/1.1 101") && heard.ends_with(b"\r\n\r\n")
    })
}

fn refused(stage: &mut Stage, reason: Refused) -> u64 {
    stage.counters().refusals[reason as usize]
}

fn counted(counters: &Counters) -> u64 {
    counters.tallies_entered - counters.tallies_left
}

fn leave(stage: &mut Stage, ends: &[FarEnd]) {
    ends.iter().for_each(|end| stage.shard.ring().end(*end));
    let is_gone = |ring: &mut Script, end| {
        ring.read(end, usize::MAX);
        ring.is_ended(end)
    };
    assert!(stage.until(1000, |it| ends.iter().all(|end| is_gone(it.shard.ring(), *end))));
    (0..20).for_each(|_| stage.turn());
}

#[test]
fn who_is_above_the_limit_is_closed_without_a_word_and_innocents_are_served() {
    let mut stage = stage(limits(most(3)));
    let first = arrive(&mut stage, INNOCENT, 1);
    let attackers = arrive(&mut stage, ATTACKER, 100);
    let second = arrive(&mut stage, INNOCENT, 1);
    assert_eq!(closed(&mut stage, &attackers), 97);
    assert!(is_served(&mut stage, first[0]) && is_served(&mut stage, second[0]));
    let counters = stage.counters();
    assert_eq!(counters.refusals[Refused::AddressConnections as usize], 97);
    assert_eq!((counters.closes[Cause::Admission as usize], counters.used, counted(&counters)), (97, 5, 2));
    leave(&mut stage, &attackers);
    assert_eq!((stage.counters().used, counted(&stage.counters())), (2, 1));
    let again = arrive(&mut stage, ATTACKER, 4);
    assert_eq!(closed(&mut stage, &again), 1, "all that they were counted under was undone, once");
}

#[test]
fn a_prefix_is_one_client_and_its_neighbour_another() {
    let mut stage = stage(limits(most(2)));
    let (one, same) = (arrive(&mut stage, "2001:db8::1", 2), arrive(&mut stage, "2001:db8:0:0:ffff::9", 1));
    let other = arrive(&mut stage, "2001:db8:0:1::1", 1);
    let mapped = [arrive(&mut stage, INNOCENT, 1), arrive(&mut stage, "::ffff:192.0.2.1", 2)].concat();
    let ends = [one, same, other, mapped];
    assert_eq!(ends.map(|it| closed(&mut stage, &it)), [0, 1, 0, 1]);
}

/// Who says nothing, or nothing that is a request, stays a stranger; who was served is none.
#[test]
fn strangers_are_counted_until_a_request_has_passed() {
    let mut stage = stage(limits(Most { guests: 2, ..Most::ALL }));
    let known = arrive(&mut stage, ATTACKER, 2);
    assert!(known.iter().all(|end| is_served(&mut stage, *end)));
    let strangers = arrive(&mut stage, ATTACKER, 10);
    assert_eq!((closed(&mut stage, &strangers), refused(&mut stage, Refused::AddressUnauthenticated)), (8, 8));
    let speaker = strangers.iter().copied().find(|end| closed(&mut stage, &[*end]) == 0).unwrap();
    stage.shard.ring().say(speaker, b"GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n");
    let told = stage.until(200, |it| it.shard.ring().read(speaker, usize::MAX).starts_with(b"HTTP/1.1 404"));
    assert!(told, "it is answered");
    let more = arrive(&mut stage, ATTACKER, 3);
    assert_eq!(closed(&mut stage, &more), 3, "no route has let it pass");
    leave(&mut stage, &strangers);
    let more = arrive(&mut stage, ATTACKER, 3);
    assert_eq!(closed(&mut stage, &more), 1);
}

#[test]
fn a_rate_is_kept_over_time() {
    let rate = Rate { rate: 10, burst: 5 };
    let mut stage = stage(limits(Most { connects: Some(rate), ..Most::ALL })).at_pace(Duration::from_millis(1));
    let mut ends = Vec::new();
    for _ in 0..3000 {
        ends.push(stage.shard.ring().arrive_from(0, ip(ATTACKER)));
        stage.turn();
    }
    (0..50).for_each(|_| stage.turn());
    let counters = stage.counters();
    let admitted = counters.accepts[0] - counters.refusals[Refused::AddressRate as usize];
    assert_eq!(ends.len() - closed(&mut stage, &ends), admitted as usize);
    assert!((34..=36).contains(&admitted), "5 at once and 10 a second, for 3 s: {admitted}");
    assert_eq!(counters.used, admitted);
}

#[test]
fn a_dry_run_refuses_nobody_and_counts_who_would_be() {
    let lists = Arc::new(Lists::new(Listed { allow: None, deny: networks(&[INNOCENT]) }));
    let mut stage = stage(AddressLimits { lists, dry_run: true, ..limits(most(3)) });
    let attackers = arrive(&mut stage, ATTACKER, 10);
    let denied = arrive(&mut stage, INNOCENT, 1);
    assert_eq!(closed(&mut stage, &attackers) + closed(&mut stage, &denied), 0);
    assert!(is_served(&mut stage, denied[0]));
    let counters = stage.counters();
    let spared = |reason: Refused| counters.refusals_spared[reason as usize];
    assert_eq!([spared(Refused::AddressConnections), spared(Refused::Network)], [7, 1]);
    assert_eq!((counters.refusals.iter().sum::<u64>(), counted(&counters)), (0, 2));
    leave(&mut stage, &attackers);
    assert_eq!(counted(&stage.counters()), 1, "those who were spared are counted, and undone");
}

/// A list that is exchanged holds for those who come from then on.
#[test]
fn lists_may_be_exchanged_and_who_is_inside_stays() {
    let lists = Arc::new(Lists::default());
    let mut stage = stage(AddressLimits { lists: lists.clone(), ..limits(Most::ALL) });
    let inside = arrive(&mut stage, "198.51.100.1", 2);
    lists.replace(Listed { allow: None, deny: networks(&["198.51.100.0/24"]) });
    let denied = arrive(&mut stage, "198.51.100.2", 3);
    assert_eq!([closed(&mut stage, &inside), closed(&mut stage, &denied)], [0, 3]);
    assert_eq!(refused(&mut stage, Refused::Network), 3);
    lists.replace(Listed { allow: Some(networks(&["192.0.2.0/24"])), deny: Networks::default() });
    let (allowed, others) = (arrive(&mut stage, INNOCENT, 1), arrive(&mut stage, "203.0.113.1", 1));
    assert_eq!([closed(&mut stage, &allowed), closed(&mut stage, &others)], [0, 1]);
    assert!(is_served(&mut stage, inside[0]) && is_served(&mut stage, allowed[0]));
}

/// Attackers above their limit take no slot: where those inside have taken all of them a client is told 503 as ever,
/// and an attacker nothing.
#[test]
fn a_full_shard_tells_clients_and_not_attackers() {
    let settings = ShardSettings { slots: 4, ..settings() };
    let mut stage = Stage::new(7, KIND, &settings).with_admission(admission(limits(most(2))));
    let inside = [arrive(&mut stage, ATTACKER, 2), arrive(&mut stage, INNOCENT, 2)].concat();
    let late = arrive(&mut stage, "192.0.2.2", 1);
    let heard = stage.shard.ring().read(late[0], usize::MAX);
    assert!(heard.starts_with(b"HTTP/1.1 503"), "{heard:?}");
    let attackers = arrive(&mut stage, ATTACKER, 50);
    assert_eq!([closed(&mut stage, &attackers), closed(&mut stage, &inside)], [50, 0]);
    assert_eq!((stage.counters().used, refused(&mut stage, Refused::Full)), (4, 1));
}

/// Two shards that share a table share the limit.
#[test]
fn a_limit_holds_over_all_shards() {
    let shared = admission(limits(most(10)));
    let mut stages = [1, 2].map(|seed| Stage::new(seed, KIND, &settings()).with_admission(shared.clone()));
    let [one, two] = &mut stages;
    let (first, second) = (arrive(one, ATTACKER, 7), arrive(two, ATTACKER, 7));
    assert_eq!([closed(one, &first), closed(two, &second)], [0, 4]);
    leave(one, &first);
    let third = arrive(two, ATTACKER, 20);
    assert_eq!(closed(two, &third), 13, "what one shard gives up another may take");
}

/// Whatever the kernel does and in whatever order clients come, speak, break off and leave: nobody is above the limit,
/// and when all have gone nothing is counted any more.
#[test]
fn nothing_stays_counted_whatever_happens() {
    for seed in 1..=seeds() {
        play(seed);
    }
}

fn seeds() -> u64 {
    std::env::var("EDGEHOLD_SEEDS").ok().and_then(|it| it.parse().ok()).unwrap_or(60)
}

fn play(seed: u64) {
    const ADDRESSES: [&str; 4] = [ATTACKER, INNOCENT, "2001:db8::1", "2001:db8::2"];
    let mut dice = Dice::new(seed);
    let temper = Temper { delay: 30, end_multishot: 10, reset: 200, accept_error: 5, completions: 20, ..KIND };
    let dry_run = dice.chance(20);
    let limited = AddressLimits { dry_run, ..limits(Most { connections: 3, guests: 2, connects: None }) };
    let shared = admission(limited);
    let settings = ShardSettings { slots: 8, ..settings() };
    let mut stage = Stage::new(seed, temper, &settings).with_admission(shared.clone());
    let mut ends = Vec::new();
    for _ in 0..200 {
        match dice.below(4) {
            0 => ends.push(stage.shard.ring().arrive_from(0, ip(ADDRESSES[dice.below(4)]))),
            1 if !ends.is_empty() => {
                let end = ends[dice.below(ends.len())];
                match dice.below(3) {
                    0 => stage.shard.ring().end(end),
                    1 => stage.shard.ring().break_off(end),
                    _ => stage.shard.ring().say(end, b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n"),
                }
            }
            _ => stage.turn(),
        }
        let counters = stage.counters();
        assert!(dry_run || counters.used <= 9, "seed {seed}: three for each of three prefixes");
    }
    ends.iter().for_each(|end| stage.shard.ring().break_off(*end));
    let gone = stage.until(2000, |it| it.counters().used == 0);
    assert!(gone, "seed {seed}");
    (0..200).for_each(|_| stage.turn());
    assert_eq!(counted(&stage.counters()), 0, "seed {seed}");
    assert_eq!(stage.counters().tallies_uncounted, 0);
}

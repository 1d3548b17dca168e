//! A whole shard under a scripted kernel: many seeds, many far ends, one judge.
//!
//! Each seed plays clients (echo, proxy, HTTP; kind, rude, silent) and upstreams against a real `Shard` with the
//! real services on the scripted ring, and holds what everyone received against a model. What is allowed to be
//! lost is what a broken connection loses, and nothing else. At the end the shard is stopped, and must have let
//! go of everything.
//!
//! `EDGEHOLD_SEED=n` plays one seed again and tells its story; `EDGEHOLD_SEEDS=n` plays so many.

mod addresses;
mod admission;
mod broadcast;
mod crowd;
mod deflated;
mod draining;
mod exchange;
mod fair;
mod far_ends;
mod faults;
mod files;
mod gate;
mod hostile;
mod letters;
mod line;
mod lookups;
mod missed;
mod mqtt;
mod play;
mod requests;
mod shares;
mod stage;
mod stomp;
mod tls;
#[path = "../load/tls_client.rs"]
mod tls_client;
mod upstreams;

use play::{Play, Verdict};
use std::time::{SystemTime, UNIX_EPOCH};

/// Seeds of an ordinary run.
const SEEDS: u64 = 250;
/// Seeds that each run chooses by the clock. Their numbers are printed.
const NEW_SEEDS: u64 = 50;

#[test]
fn everyone_hears_what_was_meant_for_them() {
    if let Some(seed) = number("EDGEHOLD_SEED") {
        return judge(seed, Play::new(seed, true).run());
    }
    play_all(SEEDS, NEW_SEEDS, |seed| Play::new(seed, false).run());
}

/// Of plays over TLS, an ordinary run and by the clock: see `line.rs`.
const SEEDS_OVER_TLS: u64 = 100;
const NEW_SEEDS_OVER_TLS: u64 = 20;

#[test]
fn everyone_hears_what_was_meant_for_them_over_tls() {
    if let Some(seed) = number("EDGEHOLD_SEED") {
        return judge(seed, Play::over_tls(seed, true).run());
    }
    play_all(SEEDS_OVER_TLS, NEW_SEEDS_OVER_TLS, |seed| Play::over_tls(seed, false).run());
}

/// Of plays of the broadcast service: each is short, and what only a rare order of events brings about needs many.
const LISTENER_SEEDS: u64 = 2000;
/// As [`NEW_SEEDS`].
const NEW_LISTENER_SEEDS: u64 = 60;

/// Feeds, channels and subscribers: see `broadcast/mod.rs`.
#[test]
fn every_listener_hears_its_channels() {
    if let Some(seed) = number("EDGEHOLD_SEED") {
        return judge(seed, broadcast::Play::new(seed, true).run());
    }
    play_all(LISTENER_SEEDS, NEW_LISTENER_SEEDS, |seed| broadcast::Play::new(seed, false).run());
}

/// As [`SEEDS_OVER_TLS`].
const LISTENER_SEEDS_OVER_TLS: u64 = 300;

#[test]
fn every_listener_hears_its_channels_over_tls() {
    if let Some(seed) = number("EDGEHOLD_SEED") {
        return judge(seed, broadcast::Play::over_tls(seed, true).run());
    }
    play_all(LISTENER_SEEDS_OVER_TLS, NEW_SEEDS_OVER_TLS, |seed| broadcast::Play::over_tls(seed, false).run());
}

/// Shards that write to each other: see `letters.rs`.
#[test]
fn every_letter_between_shards_arrives_once_and_in_order() {
    if let Some(seed) = number("EDGEHOLD_SEED") {
        return judge(seed, letters::verdict(seed));
    }
    play_all(SEEDS, NEW_SEEDS, letters::verdict);
}

/// Answers about who clients are that come late, never or twice: see `gate.rs`.
#[test]
fn everyone_hears_what_its_token_is_worth() {
    if let Some(seed) = number("EDGEHOLD_SEED") {
        return judge(seed, gate::verdict(seed));
    }
    play_all(SEEDS, NEW_SEEDS, gate::verdict);
}

/// Plays so many seeds, always the same, or as many as the environment says; and so many that nobody has played before.
fn play_all(usual: u64, new: u64, play: impl Fn(u64) -> Verdict + std::panic::RefUnwindSafe) {
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_nanos() as u64 >> 8;
    println!("seeds {fresh} to {} are new", fresh + new - 1);
    let mut steps = 0;
    for seed in (0..number("EDGEHOLD_SEEDS").unwrap_or(usual)).chain(fresh..fresh + new) {
        let verdict = std::panic::catch_unwind(|| play(seed))
            .unwrap_or_else(|_| panic!("seed {seed}: a promise was broken; play it again with EDGEHOLD_SEED={seed}"));
        steps += verdict.steps;
        judge(seed, verdict);
    }
    println!("{steps} turns");
}

/// A subscriber that ignores what it was sent is one that the shard has failed, for all that the model can see.
#[test]
fn a_forgotten_message_is_found() {
    let found = (0..60).filter(|&seed| broadcast::Play::forgetful(seed).run().fault.is_some()).count();
    assert!(found >= 35, "only {found} of 60 were found");
}

/// The judge must be able to find a fault: a far end that forges one byte is caught.
#[test]
fn a_forged_byte_is_found() {
    let found = (0..50).filter(|&seed| Play::forged(seed).run().fault.is_some()).count();
    assert!(found >= 25, "only {found} of 50 forgeries were found");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|it| it.parse().unwrap_or_else(|_| panic!("{name} should be a number")))
}

fn judge(seed: u64, verdict: Verdict) {
    if let Some(fault) = verdict.fault {
        panic!("seed {seed}: {fault}; play it again with EDGEHOLD_SEED={seed}");
    }
}

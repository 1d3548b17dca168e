//! Cores: CPU seconds per second, by cause.
//!
//! A message has a price of its own, which falls with the rate of its kind at a shard, and one for each byte that is
//! carried. Between two rates that were measured the work is that of the line between them; below the first and above
//! the last a message costs what it does there. Kinds of messages that share a shard each pay the price of their own
//! rate, which is rather too much. Below the small size a message costs what a small one does.

use serde::Serialize;

use super::load::Load;
use crate::app::coefficients::{self as costs, Coefficient, LARGE_BYTES, Point, SMALL_BYTES};

/// One cause of work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// What the work is.
    pub what: &'static str,
    /// How often it is done in a second.
    pub per_second: f64,
    /// Cores that do nothing else.
    pub cores: f64,
    /// The names of the coefficients that were used.
    pub coefficients: Vec<&'static str>,
}

/// All work. The total is the sum of the parts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cpu {
    /// The causes, those of nothing left out.
    pub parts: Vec<Part>,
    /// All of it.
    pub cores: f64,
    /// CPU seconds of one published message, to all its receivers: divided by the cores that share
    /// the work, the time until the last of them has it.
    pub publish_seconds: f64,
}

impl Cpu {
    /// The work of a load that so many shards share evenly.
    pub fn of(load: &Load, shards: u64) -> Cpu {
        let shards = shards as f64;
        let mut parts =
            vec![answered(load, shards), proxied(load, shards), delivered(load, shards), pings(load, shards)];
        parts.extend([connects(load), tls_handshakes(load), tls_records(load)]);
        parts.retain(|part| part.cores > 0.0);
        let cores = parts.iter().map(|part| part.cores).sum();
        Cpu { parts, cores, publish_seconds: publish_seconds(load) }
    }
}

/// Work of so many CPU seconds each time; `costs` are what these seconds were made of.
fn part(what: &'static str, per_second: f64, each: f64, costs: &[Coefficient]) -> Part {
    let coefficients = costs.iter().map(|cost| cost.name).collect();
    Part { what, per_second, cores: per_second * each, coefficients }
}

/// CPU seconds of one: seconds per million are microseconds, and so are milliseconds per thousand.
fn seconds(cost: &Coefficient) -> f64 {
    cost.value / 1e6
}

/// What one of so many in a second costs, and the coefficients that say so.
#[derive(Clone)]
struct Price {
    seconds: f64,
    from: Vec<Coefficient>,
}

impl Price {
    /// On one shard.
    fn at(curve: &[Point], per_second: f64) -> Price {
        let one = |point: &Point| Price { seconds: seconds(&point.cost), from: vec![point.cost] };
        let (first, last) = (&curve[0], &curve[curve.len() - 1]);
        let between = curve.windows(2).find(|two| (two[0].per_second..two[1].per_second).contains(&per_second));
        match between {
            Some([below, above]) => Price::between(below, above, per_second),
            _ if per_second < first.per_second => one(first),
            _ => one(last),
        }
    }

    fn between(below: &Point, above: &Point, per_second: f64) -> Price {
        let share = (per_second - below.per_second) / (above.per_second - below.per_second);
        let cores = below.cores() + share * (above.cores() - below.cores());
        Price { seconds: cores / per_second, from: vec![below.cost, above.cost] }
    }

    /// And so many bytes beyond a small message, carried so many times.
    fn with_bytes(mut self, bytes: u64, times: f64) -> Price {
        self.seconds += bytes_seconds(bytes, times);
        let used = |cost: &Coefficient| self.from.iter().any(|one| one.name == cost.name);
        let more = [costs::ECHO[6].cost, costs::ECHO_LARGE].into_iter().filter(|cost| !used(cost));
        let more: Vec<Coefficient> = more.filter(|_| bytes > SMALL_BYTES).collect();
        self.from.extend(more);
        self
    }

    fn part(self, what: &'static str, per_second: f64) -> Part {
        part(what, per_second, self.seconds, &self.from)
    }
}

/// CPU seconds of a byte that is carried one way: the runs carry each byte both ways.
fn byte_seconds(small: &Coefficient, large: &Coefficient) -> f64 {
    (seconds(large) - seconds(small)) / (2 * (LARGE_BYTES - SMALL_BYTES)) as f64
}

/// Bytes beyond those of a small message.
fn beyond_small(bytes: u64) -> f64 {
    bytes.saturating_sub(SMALL_BYTES) as f64
}

/// CPU seconds of the bytes of one message beyond a small one, carried so many times.
fn bytes_seconds(bytes: u64, times: f64) -> f64 {
    times * beyond_small(bytes) * byte_seconds(&costs::ECHO[6].cost, &costs::ECHO_LARGE)
}

/// What a message that is answered costs; a ping and its pong are one, too, and make the others cheaper.
fn echo(load: &Load, shards: f64) -> Price {
    Price::at(&costs::ECHO, (load.answered_rate() + load.ping_rate) / shards)
}

fn answered(load: &Load, shards: f64) -> Part {
    echo(load, shards).with_bytes(load.message_bytes, 2.0).part("messages answered here", load.answered_rate())
}

fn pings(load: &Load, shards: f64) -> Part {
    echo(load, shards).part("pings of idle connections", load.ping_rate)
}

/// From the client, to the upstream, and both ways back.
fn proxied(load: &Load, shards: f64) -> Part {
    let rate = load.proxied_rate();
    let price = Price::at(&costs::PROXY, rate / shards).with_bytes(load.message_bytes, 4.0);
    price.part("messages to upstreams and back", rate)
}

fn delivered(load: &Load, shards: f64) -> Part {
    let rate = load.delivery_rate();
    let price = Price::at(&costs::DELIVERY, rate / shards).with_bytes(load.publish_bytes, 1.0);
    price.part("deliveries of published messages", rate)
}

/// A message that stands alone is sent to each by itself, at the price of a rate at which messages do not gather.
fn publish_seconds(load: &Load) -> f64 {
    let delivery =
        Price::at(&costs::DELIVERY, costs::DELIVERY[2].per_second).with_bytes(load.publish_bytes, 1.0).seconds;
    let sealing = load.tls_share * pair_seconds(load.publish_bytes) / 2.0;
    load.subscribers as f64 * (delivery + sealing)
}

/// A connection to an upstream is counted as one more.
fn connects(load: &Load) -> Part {
    let cost = costs::HANDSHAKE;
    let rate = load.connect_rate * (1.0 + load.proxied_share);
    part("new connections", rate, seconds(&cost), &[cost])
}

fn tls_handshakes(load: &Load) -> Part {
    let cost = costs::TLS_HANDSHAKE;
    part("TLS handshakes", load.connect_rate * load.tls_share, seconds(&cost), &[cost])
}

/// CPU seconds to open a record of so many bytes and to seal another.
fn pair_seconds(bytes: u64) -> f64 {
    let (small, large) = (&costs::TLS_SMALL, &costs::TLS_LARGE);
    seconds(small) + 2.0 * beyond_small(bytes) * byte_seconds(small, large)
}

/// Towards clients only. A delivery is sealed and nothing is opened for it: half of the price.
fn tls_records(load: &Load) -> Part {
    let work = load.message_rate * pair_seconds(load.message_bytes)
        + load.ping_rate * pair_seconds(0)
        + load.delivery_rate() * pair_seconds(load.publish_bytes) / 2.0;
    let rate = load.tls_share * (2.0 * (load.message_rate + load.ping_rate) + load.delivery_rate());
    let coefficients = vec![costs::TLS_SMALL.name, costs::TLS_LARGE.name];
    Part { what: "TLS records", per_second: rate, cores: load.tls_share * work, coefficients }
}

/// Cores, or seconds of them, to two digits behind the point, rounded up so that little is never nothing.
pub(super) fn hundredths(number: f64) -> String {
    format!("{:.2}", (number * 100.0 - 1e-9).ceil().max(0.0) / 100.0)
}

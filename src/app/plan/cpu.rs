//! Cores: CPU seconds per second, by cause.
//!
//! A message has a price of its own and one for each byte that is carried; both follow from a run with small and
//! one with large messages. Below the small size a message costs what a small one does.

use serde::Serialize;

use super::load::Load;
use crate::app::coefficients::{self as costs, Coefficient, LARGE_BYTES, SMALL_BYTES};

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
    /// The work of a load.
    pub fn of(load: &Load) -> Cpu {
        let mut parts = vec![answered(load), proxied(load), delivered(load), pings(load), connects(load)];
        parts.extend([tls_handshakes(load), tls_records(load)]);
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
    times * beyond_small(bytes) * byte_seconds(&costs::ECHO_SMALL, &costs::ECHO_LARGE)
}

fn answered(load: &Load) -> Part {
    let each = seconds(&costs::ECHO_SMALL) + bytes_seconds(load.message_bytes, 2.0);
    let used = with_bytes(costs::ECHO_SMALL, load.message_bytes);
    part("messages answered here", load.answered_rate(), each, &used)
}

/// From the client, to the upstream, and both ways back.
fn proxied(load: &Load) -> Part {
    let each = seconds(&costs::PROXY_SMALL) + bytes_seconds(load.message_bytes, 4.0);
    let used = with_bytes(costs::PROXY_SMALL, load.message_bytes);
    part("messages to upstreams and back", load.proxied_rate(), each, &used)
}

fn delivery_seconds(bytes: u64) -> f64 {
    seconds(&costs::DELIVERY_SMALL) + bytes_seconds(bytes, 1.0)
}

fn publish_seconds(load: &Load) -> f64 {
    let sealing = load.tls_share * pair_seconds(load.publish_bytes) / 2.0;
    load.subscribers as f64 * (delivery_seconds(load.publish_bytes) + sealing)
}

fn delivered(load: &Load) -> Part {
    let each = delivery_seconds(load.publish_bytes);
    let used = with_bytes(costs::DELIVERY_SMALL, load.publish_bytes);
    part("deliveries of published messages", load.delivery_rate(), each, &used)
}

/// The coefficients of a message: its own, and where it is larger than a small one those of its bytes.
fn with_bytes(own: Coefficient, bytes: u64) -> Vec<Coefficient> {
    let larger = bytes > SMALL_BYTES;
    let mut used = vec![own];
    used.extend([costs::ECHO_SMALL, costs::ECHO_LARGE].into_iter().filter(|cost| larger && cost.name != own.name));
    used
}

/// A ping and its pong are a small message and its answer.
fn pings(load: &Load) -> Part {
    let cost = costs::ECHO_SMALL;
    part("pings of idle connections", load.ping_rate, seconds(&cost), &[cost])
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

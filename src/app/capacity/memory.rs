//! Memory: what lasts as long as the connections, and what comes and goes with the traffic.

use serde::Serialize;

use super::brokers;
use super::load::Load;
use crate::app::coefficients::{self as costs, Coefficient, whole};
use crate::app::config::Config;
use crate::app::derive::Mailboxes;
use crate::app::memory::buffers_bytes;

/// Whose memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Of the server process.
    User,
    /// Of the kernel.
    Kernel,
    /// Of the server process, for TLS sessions.
    Tls,
    /// Of either, while data is under way.
    Transient,
}

impl Kind {
    /// All kinds, in the order of a report.
    pub const ALL: [Kind; 4] = [Kind::User, Kind::Kernel, Kind::Tls, Kind::Transient];

    /// Its name in a report.
    pub fn word(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Kernel => "kernel",
            Kind::Tls => "TLS",
            Kind::Transient => "transient",
        }
    }
}

/// One cause of memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// Whose memory it is.
    pub kind: Kind,
    /// What it is for.
    pub what: &'static str,
    /// How many of them.
    pub count: u64,
    /// What all of them take.
    pub bytes: u64,
    /// The names of the coefficients that were used.
    pub coefficients: Vec<&'static str>,
}

/// All memory. The total is the sum of the kinds, and each kind the sum of its parts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// The causes, those of nothing left out.
    pub parts: Vec<Part>,
    /// Of the server process, without TLS sessions.
    pub user_bytes: u64,
    /// Of the kernel.
    pub kernel_bytes: u64,
    /// Of TLS sessions.
    pub tls_bytes: u64,
    /// While data is under way.
    pub transient_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

impl Memory {
    /// The memory of a load on a server with this configuration and so many shards.
    pub fn of(load: &Load, config: &Config, shards: u64) -> Memory {
        let mut parts = vec![
            times(Kind::User, "program", 1, &costs::PROGRAM),
            times(Kind::User, "shards", shards, &costs::SHARD),
            buffers(config, shards),
            mailboxes(shards),
            kept(load),
            handshakes(load, config, shards),
            brokers(config, shards),
        ];
        parts.extend(lasting(load));
        parts.extend(transient(load));
        parts.retain(|part| part.bytes > 0);
        let sum = |kind| parts.iter().filter(|part| part.kind == kind).map(|part| part.bytes).sum();
        let [user_bytes, kernel_bytes, tls_bytes, transient_bytes] = Kind::ALL.map(sum);
        let total_bytes = user_bytes + kernel_bytes + tls_bytes + transient_bytes;
        Memory { parts, user_bytes, kernel_bytes, tls_bytes, transient_bytes, total_bytes }
    }

    /// The sum of one kind.
    pub fn sum(&self, kind: Kind) -> u64 {
        match kind {
            Kind::User => self.user_bytes,
            Kind::Kernel => self.kernel_bytes,
            Kind::Tls => self.tls_bytes,
            Kind::Transient => self.transient_bytes,
        }
    }
}

/// So many times one coefficient.
fn times(kind: Kind, what: &'static str, count: u64, cost: &Coefficient) -> Part {
    Part { kind, what, count, bytes: count * cost.whole(), coefficients: vec![cost.name] }
}

fn lasting(load: &Load) -> Vec<Part> {
    let (clients, upstreams, slots) = (load.connections, load.proxied_connections, load.slots());
    vec![
        times(Kind::User, "connections", slots, &costs::USER_CONNECTION),
        times(Kind::User, "subscribers among them", load.subscribers, &costs::SUBSCRIBER),
        times(Kind::Kernel, "TCP connections of clients", clients, &costs::KERNEL_CONNECTION),
        times(Kind::Kernel, "TCP connections to upstreams", upstreams, &costs::KERNEL_CONNECTION),
        times(Kind::Kernel, "polls of parked connections", slots, &costs::PARKED_POLL),
        times(Kind::Tls, "TLS sessions", load.tls_connections, &costs::TLS_CONNECTION),
    ]
}

fn buffers(config: &Config, shards: u64) -> Part {
    let count = shards * u64::from(config.server.recv_buffers);
    let bytes = buffers_bytes(config, shards);
    Part { kind: Kind::User, what: "receive buffers", count, bytes, coefficients: Vec::new() }
}

/// One for each ordered pair of shards; those with the control thread are part of a shard.
fn mailboxes(shards: u64) -> Part {
    let bytes = Mailboxes::of(shards as usize).between_shards_bytes(shards as usize);
    let count = shards * shards.saturating_sub(1);
    Part { kind: Kind::User, what: "mailboxes between shards", count, bytes, coefficients: Vec::new() }
}

/// All that handshakes may hold at one time, as in a flood of them.
fn handshakes(load: &Load, config: &Config, shards: u64) -> Part {
    let count = if load.tls_connections > 0 { shards } else { 0 };
    let bytes = count * config.server.tls_handshake_bytes;
    Part { kind: Kind::Tls, what: "TLS handshakes under way", count, bytes, coefficients: Vec::new() }
}

/// All that clients of brokers may have shards keep at one time, as in an attack.
fn brokers(config: &Config, shards: u64) -> Part {
    let (count, bytes) = brokers::kept(config, shards);
    let what = "frames not whole, unconfirmed and retained messages of brokers, at most";
    Part { kind: Kind::Transient, what, count, bytes, coefficients: Vec::new() }
}

/// Payload and what stands beside it, and the same again in each form.
fn kept(load: &Load) -> Part {
    let (own, form) = (costs::KEPT_MESSAGE, costs::KEPT_FORM);
    let bytes = load.kept_bytes * (1 + load.forms) + load.kept_messages * (own.whole() + load.forms * form.whole());
    let what = "kept messages of all channels";
    Part { kind: Kind::User, what, count: load.kept_messages, bytes, coefficients: vec![own.name, form.name] }
}

fn transient(load: &Load) -> Vec<Part> {
    vec![
        awake(load),
        keys(load),
        in_flight("pings not acknowledged", load.pings_in_flight(), 0),
        in_flight("messages not acknowledged", load.messages_in_flight(), load.message_bytes),
        in_flight("deliveries not acknowledged", load.deliveries_in_flight(), load.publish_bytes),
        slow(load),
    ]
}

/// What an armed receive takes beyond the poll that was counted.
fn awake(load: &Load) -> Part {
    let count = load.awake();
    let more = costs::ARMED_RECEIVE.whole() - costs::PARKED_POLL.whole();
    let coefficients = vec![costs::ARMED_RECEIVE.name, costs::PARKED_POLL.name];
    let what = "receives of connections that are not parked";
    Part { kind: Kind::Transient, what, count, bytes: count * more, coefficients }
}

/// Keys that stay expanded, beyond the state that was counted.
fn keys(load: &Load) -> Part {
    let count = whole((load.awake() as f64 * load.tls_share).ceil()).min(load.tls_connections);
    let more = costs::TLS_AWAKE.whole() - costs::TLS_CONNECTION.whole();
    let coefficients = vec![costs::TLS_AWAKE.name, costs::TLS_CONNECTION.name];
    Part {
        kind: Kind::Tls,
        what: "TLS keys of connections that are not parked",
        count,
        bytes: count * more,
        coefficients,
    }
}

/// The kernel keeps what was sent until it is acknowledged.
fn in_flight(what: &'static str, count: u64, payload: u64) -> Part {
    let cost = &costs::UNACKNOWLEDGED_MESSAGE;
    let bytes = count.saturating_mul(cost.whole() + payload.saturating_sub(costs::SMALL_BYTES));
    Part { kind: Kind::Transient, what, count, bytes, coefficients: vec![cost.name] }
}

fn slow(load: &Load) -> Part {
    let count = load.slow_connections;
    let bytes = count * (load.pending_bytes + load.unsent_bytes);
    Part { kind: Kind::Transient, what: "clients that do not read", count, bytes, coefficients: Vec::new() }
}

//! What a shard is built with, in its own units: derived once, from the configuration, by `app`.

use edgehold_wire::http1;
use std::time::Duration;

/// The limits of a route, in the shard's units.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Of request heads.
    pub head: http1::Limits,
    /// Of a message from a client, in bytes.
    pub message_bytes: u64,
    /// Ticks until a head must be whole.
    pub head_ticks: u32,
    /// Ticks of silence after which a connection is given up.
    pub idle_ticks: u32,
    /// Ticks that a goodbye may take.
    pub close_ticks: u32,
    /// Bytes queued above which the other side is held back.
    pub max_pending: usize,
}

/// What a shard is built with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which shard.
    pub shard: usize,
    /// Connections that it may hold.
    pub slots: u32,
    /// Slots beyond that, for clients that are told 503.
    pub spare_slots: u32,
    /// Accepts in flight, by listener.
    pub accepts_in_flight: u32,
    /// Listeners.
    pub listeners: usize,
    /// Upstreams in the configuration.
    pub upstreams: usize,
    /// Limits by number; the first hold until a route is known.
    pub limits: Vec<Limits>,
    /// Most bytes of outbox chunks.
    pub outbox_bytes: u64,
    /// Completions handled in one turn.
    pub turn_events: u32,
    /// Quiet time after which a connection is parked.
    pub park_after: Duration,
}

//! What a shard is built with, in its own units: derived once, from the configuration, by `app`.

use edgehold_wire::http1;
use std::time::Duration;

/// The limits of a route, in the shard's units.
#[derive(Clone, Debug)]
pub struct RouteLimits {
    /// Of request heads.
    pub head: http1::HeadLimits,
    /// Of a message from a client, in bytes.
    pub message_bytes: u64,
    /// Ticks until a head must be whole.
    pub head_ticks: u32,
    /// Ticks of silence after which a connection is given up.
    pub idle_ticks: u32,
    /// Ticks without a send after which a stream is to be sent something (keep-alive).
    pub keep_alive_ticks: u32,
    /// Ticks that a closing handshake may take.
    pub close_ticks: u32,
    /// Bytes queued above which the other side is held back.
    pub max_pending: usize,
    /// Bytes that a connection may hold, wherever they lie: queue, drafts, pieces of messages, what is not read yet.
    /// What is put on top of less than that may pass it once.
    pub connection_bytes: usize,
    /// Of permessage-deflate.
    pub deflate: Deflate,
}

/// How far messages are deflated (RFC 7692).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deflate {
    /// Where a client offers it.
    pub on: bool,
    /// A context is kept from message to message where the client goes along and there is a window left.
    pub takeover: bool,
    /// Shorter messages go out as they are.
    pub min_bytes: usize,
}

/// What a shard is built with.
#[derive(Clone, Debug)]
pub struct ShardSettings {
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
    /// RouteLimits by number; the first hold until a route is known.
    pub limits: Vec<RouteLimits>,
    /// Most bytes of outbox chunks.
    pub outbox_bytes: u64,
    /// Most bytes of deflate windows.
    pub deflate_window_bytes: u64,
    /// Completions handled in one turn.
    pub turn_events: u32,
    /// Quiet time after which a connection is parked.
    pub park_after: Duration,
}

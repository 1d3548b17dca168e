//! What a shard is built with, in its own units: derived once, from the configuration, by `app`.

use super::addresses::AddressRules;
use super::shares::Shares;
use crate::mesh::{ListenerTls, Numbered};
use edgehold_wire::http1;
use edgehold_wire::ws::CloseCode;
use std::ops::Index;
use std::time::Duration;

/// The limits of a route, in the shard's units.
#[derive(Clone, Debug)]
pub struct RouteLimits {
    /// Of request heads.
    pub head: http1::HeadLimits,
    /// Of a message from a client, in bytes.
    pub message_bytes: u64,
    /// What its clients may have of it.
    pub shares: Shares,
    /// Ticks until a head must be whole.
    pub head_ticks: u32,
    /// Ticks of silence after which a connection is given up.
    pub idle_ticks: u32,
    /// Ticks that a client may wait until it is known who it is.
    pub auth_ticks: u32,
    /// The close code of a WebSocket whose client's credentials have ended.
    pub expired_code: CloseCode,
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
    /// How it is found out where clients are, by listener; those behind the end believe nothing they are told.
    pub addresses: Vec<AddressRules>,
    /// The listeners at which no HTTP is spoken: what clients send goes to a service from the first byte on. Those
    /// behind the end speak HTTP.
    pub bare: Vec<bool>,
    /// TLS by listener; those behind the end, and `None`, speak clear text.
    pub tls: Vec<Option<ListenerTls>>,
    /// Upstreams that are counted from the start.
    pub upstreams: usize,
    /// Limits by number; the first hold until a route is known. They may be exchanged ([`Generation`]).
    pub limits: Vec<RouteLimits>,
    /// Most bytes of outbox chunks.
    pub outbox_bytes: u64,
    /// Most bytes of deflate windows.
    pub deflate_window_bytes: u64,
    /// Most bytes that TLS handshakes under way may hold.
    pub tls_handshake_bytes: u64,
    /// How long a TLS handshake may take, from the accept.
    pub tls_handshake_timeout: Duration,
    /// Completions handled in one turn.
    pub turn_events: u32,
    /// Quiet time after which a connection is parked.
    pub park_after: Duration,
}

/// What is exchanged of a shard's settings while it runs. Sizes that memory was allocated by are not.
#[derive(Clone, Debug)]
pub struct Generation<S> {
    /// How often settings were exchanged before.
    pub number: u32,
    /// Limits by number, the first always there; `None`: of a route that is gone.
    pub limits: Vec<Option<RouteLimits>>,
    /// What the services have.
    pub services: S,
}

/// Limits by number, and how many connections go by them.
pub(super) struct LimitsTable {
    limits: Numbered<RouteLimits>,
    /// By number; of number 0, which is always there, none are counted.
    holders: Vec<u32>,
}

impl LimitsTable {
    /// Those of the first generation.
    pub(super) fn new(limits: &[RouteLimits]) -> LimitsTable {
        LimitsTable { limits: limits.iter().cloned().collect(), holders: vec![0; limits.len()] }
    }

    /// Connections keep the number they go by. The limits of routes that are gone hold on for those who have them.
    pub(super) fn exchange(&mut self, next: &[Option<RouteLimits>]) {
        self.limits.replace(next.iter().cloned());
        self.holders.resize(self.limits.len(), 0);
    }

    /// A connection went by limits `from` and goes by limits `to` now. Number 0 stands for none as well.
    pub(super) fn pass(&mut self, from: u16, to: u16) {
        if from != 0 {
            self.holders[usize::from(from)] -= 1;
        }
        if to != 0 {
            self.holders[usize::from(to)] += 1;
        }
    }

    /// Connections under limits of routes that are gone.
    pub(super) fn held(&self) -> usize {
        self.limits.older().map(|(number, _)| self.holders[number] as usize).sum()
    }
}

impl Index<u16> for LimitsTable {
    type Output = RouteLimits;

    fn index(&self, number: u16) -> &RouteLimits {
        &self.limits[usize::from(number)]
    }
}

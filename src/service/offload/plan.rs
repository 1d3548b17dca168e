//! What a route of `stomp` or `mqtt` says, in the shard's units.

use super::{Bounds, Pattern, Rule};
use crate::mesh::{FeedNumber, Secret};
use crate::service::fanout::{FeedSettings, RouteTerms, Slow};
use crate::service::upstreams::Places;
use std::sync::Arc;

/// Ticks for which it may take to say who a client is: more than `auth.timeout` can be, by which there is an answer.
pub const ASKED_TICKS: u32 = 4 * 70;

/// What one of the two services is told of the configuration.
#[derive(Clone, Debug, Default)]
pub struct OffloadSettings {
    /// Its routes by their numbers; `None`: of one that is gone.
    pub plans: Vec<Option<Arc<OffloadPlan>>>,
    /// The feeds of its brokers by their numbers; `None`: of one that is gone, or of another service.
    pub feeds: Vec<Option<FeedSettings>>,
    /// Where brokers are.
    pub places: Places,
    /// Of this run of the server; never exchanged.
    pub epoch: u32,
}

/// A route that stands in front of a broker.
#[derive(Clone, Debug)]
pub struct OffloadPlan {
    /// Its number among the routes of its service: the fan-out knows its clients' terms by it.
    pub number: u16,
    /// The number of its limits: sessions with the broker go by them, too.
    pub limits: u16,
    /// The number of the broker's feed: what is published on shared topics comes under it.
    pub feed: FeedNumber,
    /// Numbers of the broker's addresses.
    pub upstreams: Vec<u32>,
    /// How long an address may take to answer, in ticks.
    pub connect_ticks: u32,
    /// Sessions of a shard over which clients share publishes and queues; at least one.
    pub connections: u32,
    /// As whom the edge itself logs in.
    pub credentials: BrokerCredentials,
    /// Clients must say in CONNECT who they are, if nothing in their request has.
    pub auth: bool,
    /// Destinations, or topic filters, of which all clients share one subscription.
    pub share: Vec<Pattern>,
    /// Those that are never shared nor multiplexed: a client has a session of its own for them.
    pub private: Vec<Pattern>,
    /// Who may do what: what some rule allows. Without any rule everybody may do all.
    pub rules: Vec<Rule>,
    /// Who subscribes is sent the last message of the destination first.
    pub snapshot: bool,
    /// Clients are told where messages of shared topics were lost.
    pub tell_gaps: bool,
    /// When a subscriber is too slow, and what becomes of it.
    pub slow: Slow,
    /// Subscriptions of one client, at most.
    pub subscriptions_max: u32,
    /// Bytes of a frame or packet of a client, at most.
    pub frame_bytes: usize,
    /// Bytes of the headers of a frame, at most.
    pub header_bytes: usize,
    /// Headers of a frame, at most.
    pub header_count: usize,
    /// Messages of one queue subscription that a client has not acknowledged, at most.
    pub prefetch: u32,
    /// Bytes of publishes that the broker has not confirmed, of all clients of a session, at most.
    pub unconfirmed_bytes: usize,
    /// What becomes of publishes while there is no session.
    pub while_down: WhileDown,
    /// What becomes of clients that may have missed messages of QoS 1 and 2.
    pub missed: Missed,
    /// How many of them are ended in a second.
    pub missed_rate: u32,
    /// The shortest interval of heart-beats that is agreed to, in milliseconds.
    pub heart_beat_millis: u32,
    /// The longest silence of a client, in milliseconds: MQTT's server keep alive; 0: as the client says.
    pub keep_alive_millis: u32,
    /// Private sessions log in as the client has, with what it has shown; else as the edge does.
    pub private_as_client: bool,
    /// What identifiers of the edge's own sessions begin with, in MQTT: no client may have one.
    pub client_id: Box<str>,
    /// Which clients of MQTT have a session of their own.
    pub private_when: PrivateWhen,
    /// Clients that each shard may give a session of their own, at most.
    pub private_max: u32,
    /// By which header, or user property, the broker is told who has published something.
    pub stamp: Option<Box<str>>,
    /// Limits.
    pub bounds: Bounds,
}

/// As whom the edge logs in at a broker.
#[derive(Clone, Debug, Default)]
pub struct BrokerCredentials {
    /// The user; `None`: nobody.
    pub user: Option<Box<str>>,
    /// The password.
    pub password: Option<Secret>,
    /// STOMP's `host`: a virtual host.
    pub host: Box<str>,
}

/// What becomes of publishes while there is no session with the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhileDown {
    /// They wait, as far as `unconfirmed_bytes` goes; who has more to say is not read meanwhile.
    #[default]
    Queue,
    /// They are refused.
    Refuse,
}

/// Which clients of MQTT have a session of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrivateWhen {
    /// Those that cannot be shared.
    #[default]
    Needed,
    /// All.
    Always,
    /// None: what cannot be shared is refused, and sessions end with their connections.
    Never,
}

/// What becomes of clients of MQTT that may have missed messages which they were to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// They are told, and their connections are ended.
    #[default]
    Close,
    /// Nothing: they never learn.
    Stay,
}

impl OffloadPlan {
    /// What the fan-out is to know of the route.
    pub fn terms(&self) -> RouteTerms {
        RouteTerms { feeds: vec![self.feed], snapshot: self.snapshot, slow: self.slow }
    }
}

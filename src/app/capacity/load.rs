//! The load in numbers: shares have become counts, and what the configuration adds is filled in.

use serde::Serialize;

use super::arguments::Arguments;
use crate::app::coefficients::whole;
use crate::app::config::{Config, Limits, Replay};

/// What the server is to carry at its peak. Rates are per second, times in seconds, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Load {
    /// Clients connected at once.
    pub connections: u64,
    /// Of those, clients that use TLS.
    pub tls_connections: u64,
    /// Of those, clients with an upstream connection each.
    pub proxied_connections: u64,
    /// Of those, clients that do not read.
    pub slow_connections: u64,
    /// The share of traffic that is encrypted, 0 to 1.
    pub tls_share: f64,
    /// The share of clients, and of their messages, that goes to upstreams, 0 to 1.
    pub proxied_share: f64,
    /// Messages from clients.
    pub message_rate: f64,
    /// Payload of such a message, and of its answer.
    pub message_bytes: u64,
    /// Messages that are published.
    pub publish_rate: f64,
    /// Receivers of each.
    pub subscribers: u64,
    /// Payload of such a message.
    pub publish_bytes: u64,
    /// Messages that are kept for clients that come back.
    pub kept_messages: u64,
    /// Their payload, the largest that the configuration or the load allows.
    pub kept_bytes: u64,
    /// Forms (WebSocket, event stream, lines, …) in which each of them is kept.
    pub forms: u64,
    /// New clients, at the peak.
    pub connect_rate: f64,
    /// From a sending to its acknowledgement.
    pub round_trip_seconds: f64,
    /// Pings, as if no client said anything of itself: one after half of the shortest `idle_timeout`.
    pub ping_rate: f64,
    /// Quiet time after which a connection is parked.
    pub park_after_seconds: f64,
    /// What a client that does not read has pending: the largest `max_pending`.
    pub pending_bytes: u64,
    /// And what the kernel has taken for it beside that.
    pub unsent_bytes: u64,
}

impl Load {
    /// The load of the arguments on a server with this configuration.
    ///
    /// # Errors
    /// One line for the operator where two arguments contradict each other.
    pub fn of(arguments: &Arguments, config: &Config) -> Result<Load, String> {
        let connections = arguments.connections;
        let part = |share| clients(connections, share);
        let (kept_messages, kept_bytes) = kept(arguments, config);
        Ok(Load {
            connections,
            tls_connections: part(arguments.tls_share),
            proxied_connections: part(arguments.proxied_share),
            slow_connections: part(arguments.slow_share),
            tls_share: arguments.tls_share,
            proxied_share: arguments.proxied_share,
            message_rate: arguments.rate,
            message_bytes: arguments.size,
            publish_rate: arguments.fanout_rate,
            subscribers: subscribers(arguments)?,
            publish_bytes: arguments.fanout_size,
            kept_messages,
            kept_bytes,
            forms: arguments.forms,
            connect_rate: connect_rate(arguments),
            round_trip_seconds: arguments.round_trip,
            ping_rate: connections as f64 / ping_seconds(config),
            park_after_seconds: config.server.park_after.as_secs_f64(),
            pending_bytes: pending_bytes(config),
            unsent_bytes: unsent_bytes(config),
        })
    }

    /// Slots that are taken: a proxied client takes two.
    pub fn slots(&self) -> u64 {
        self.connections + self.proxied_connections
    }

    /// Messages that go to an upstream and come back from it.
    pub fn proxied_rate(&self) -> f64 {
        self.message_rate * self.proxied_share
    }

    /// Messages that are answered here.
    pub fn answered_rate(&self) -> f64 {
        self.message_rate - self.proxied_rate()
    }

    /// Published messages times their receivers.
    pub fn delivery_rate(&self) -> f64 {
        self.publish_rate * self.subscribers as f64
    }

    /// Published messages that are under way to their receivers at once: at least one to each, as all
    /// leave before the first acknowledgement has come.
    pub fn deliveries_in_flight(&self) -> u64 {
        if self.publish_rate == 0.0 {
            return 0;
        }
        let each = (self.publish_rate * self.round_trip_seconds).max(1.0);
        whole((self.subscribers as f64 * each).ceil())
    }

    /// Messages, to clients and to upstreams, that are under way at once.
    pub fn messages_in_flight(&self) -> u64 {
        whole(((self.message_rate + self.proxied_rate()) * self.round_trip_seconds).ceil())
    }

    /// Pings that are under way at once.
    pub fn pings_in_flight(&self) -> u64 {
        whole((self.ping_rate * self.round_trip_seconds).ceil())
    }

    /// Connections whose receive is armed because they have said something of late, a pong or
    /// a message: as many as there were such words, if no two came from one.
    pub fn awake(&self) -> u64 {
        let clients = self.message_rate + self.ping_rate + self.connect_rate;
        let words = (clients + self.proxied_rate()) * self.park_after_seconds;
        whole(words.ceil()).min(self.slots())
    }
}

/// A share of so many, rounded up; a millionth of a client is a rounding of the share.
fn clients(connections: u64, share: f64) -> u64 {
    whole((connections as f64 * share - 1e-6).ceil())
}

fn subscribers(arguments: &Arguments) -> Result<u64, String> {
    let connections = arguments.connections;
    match arguments.subscribers {
        Some(_) if arguments.fanout_rate == 0.0 => {
            Err("--subscribers without --fanout-rate: nothing is published — add --fanout-rate PER_SECOND".into())
        }
        Some(more) if more > connections => {
            Err(format!("--subscribers {more} is more than --connections {connections} — write {connections} or fewer"))
        }
        Some(some) => Ok(some),
        None if arguments.fanout_rate == 0.0 => Ok(0),
        None => Ok(connections),
    }
}

/// Messages that all channels keep, and their bytes, as their feed's `replay` allows: at most so many, as old and as
/// large together, and no more than are published. Without a file it is the demo's feed.
fn kept(arguments: &Arguments, config: &Config) -> (u64, u64) {
    let size = arguments.fanout_size.max(1);
    let of = |replay: &Replay| {
        let published = arguments.fanout_rate * replay.age.as_secs_f64();
        let each = u64::from(replay.messages).min(replay.bytes / size);
        whole(((each * arguments.channels) as f64).min(published).ceil())
    };
    let most = config.feeds.iter().map(|feed| of(&feed.replay)).max().unwrap_or(0);
    (most, most * arguments.fanout_size)
}

fn connect_rate(arguments: &Arguments) -> f64 {
    let storm = arguments.reconnect_time.map_or(0.0, |time| arguments.connections as f64 / time);
    storm.max(arguments.connect_rate)
}

/// The limits of all routes, and those of a connection that has none yet.
fn limits(config: &Config) -> impl Iterator<Item = &Limits> {
    config.routes.iter().map(|route| &route.limits).chain([&config.limits])
}

fn ping_seconds(config: &Config) -> f64 {
    let shortest = limits(config).map(|limits| limits.idle_timeout.as_secs_f64()).fold(f64::INFINITY, f64::min);
    shortest / 2.0
}

/// Without a limit of ours the kernel's holds, the last number of net.ipv4.tcp_wmem: 4 MiB by default, tcp(7).
fn unsent_bytes(config: &Config) -> u64 {
    match config.server.unsent_bytes {
        0 => 4 << 20,
        bytes => bytes.into(),
    }
}

fn pending_bytes(config: &Config) -> u64 {
    limits(config).map(|limits| limits.max_pending.into()).max().unwrap_or(0)
}

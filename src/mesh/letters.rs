//! The letters themselves.

use super::{Counters, FeedNumber, Message};
use std::net::SocketAddr;
use std::sync::Arc;

/// Which shard, counted from zero.
pub type ShardNumber = usize;

/// What the control thread tells a shard.
#[derive(Debug)]
pub enum ToShard {
    /// Send a [`Report`].
    Report,
    /// Take no new clients, and bid those that are here farewell.
    Drain,
    /// End now, with whatever is still open.
    Leave,
    /// Upstream `upstream` is at these addresses now. None: the name does not resolve.
    Addresses {
        /// Number of the upstream, in the order of the configuration.
        upstream: u32,
        /// What the name resolves to.
        addresses: Arc<[SocketAddr]>,
    },
    /// Feeds have said this, in the order of their sequence. Every shard hears all of it.
    Publish(Arc<[Arc<Message>]>),
    /// Something that this shard would have heard is lost: those who listen to it are to be told. In its place among
    /// the letters of [`ToShard::Publish`].
    Missed(Box<Missed>),
    /// Send [`SubscriberCounts`].
    SubscriberCounts(Box<SubscribersQuery>),
}

/// A box is made for as many letters as it may hold: what is large stands behind a pointer.
const _: () = assert!(size_of::<ToShard>() <= 24 && size_of::<ToControl>() <= 16);

/// Which channels are asked for.
#[derive(Clone, Debug)]
pub struct SubscribersQuery {
    /// Which question this is: comes back in the answer.
    pub question: u64,
    /// The channels.
    pub wanted: Wanted,
}

/// Channels that anybody hears, or that are kept.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Those of this name, of whatever feed.
    One(Arc<str>),
    /// The first `most` of all, in the order of [`ChannelKey`].
    Page {
        /// Only what comes behind this.
        after: Option<ChannelKey>,
        /// How many, at most.
        most: usize,
    },
}

/// What a channel is known by, and in which order channels stand: its name, then its feed.
pub type ChannelKey = (Box<str>, FeedNumber);

impl ToShard {
    /// What it is counted for when a shard reads it: each message of a feed as one.
    pub fn weight(&self) -> u64 {
        if let ToShard::Publish(messages) = self { messages.len() as u64 } else { 1 }
    }
}

/// What is lost on the way to a shard's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Messages of this feed; `None`: of any.
    pub feed: Option<FeedNumber>,
    /// Messages of this channel; `None`: of any.
    pub channel: Option<Arc<str>>,
    /// They would have stood at this sequence or before it.
    pub sequence: u64,
}

/// What a shard tells the control thread.
#[derive(Debug)]
pub enum ToControl {
    /// How the shard is.
    Report(Box<Report>),
    /// Who listens to what.
    SubscriberCounts(Box<SubscriberCounts>),
}

/// The channels of a shard at one moment.
#[derive(Clone, Debug)]
pub struct SubscriberCounts {
    /// Whose.
    pub shard: ShardNumber,
    /// What was asked.
    pub question: u64,
    /// The channels, in no order; prefixes end with `*`.
    pub channels: Vec<ChannelState>,
}

/// A channel of a feed in one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelState {
    /// The feed.
    pub feed: FeedNumber,
    /// The channel, or a prefix with `*` at its end.
    pub channel: Box<str>,
    /// Clients that hear it.
    pub subscribers: u32,
    /// Messages kept for those that come back.
    pub kept: u32,
    /// Bytes that they cost, about.
    pub kept_bytes: u64,
}

/// A shard's counters at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whose.
    pub shard: ShardNumber,
    /// The counters.
    pub counters: Counters,
}

//! The letters themselves.

use super::{Answer, Counters, FeedNumber, Message, Question, ServiceKind};
use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

/// Number of a shard, from zero.
pub type ShardNumber = usize;

/// A letter to a shard, from the control thread where it does not say otherwise.
#[derive(Debug)]
pub enum ToShard {
    /// Send a [`Report`].
    Report,
    /// Accept no more clients, and close the connections of those that are there (a WebSocket with 1001, RFC 6455
    /// section 7.4.1).
    Drain,
    /// End at once; connections that are still open are cut.
    Leave,
    /// Settings take the place of those that are in force. They are of the type that the shard's services have for
    /// them, which stands on a higher floor.
    Exchange(Arc<dyn Any + Send + Sync>),
    /// From now on upstream `upstream` has these addresses; none: its name does not resolve.
    Addresses {
        /// Number of the upstream.
        upstream: u32,
        /// What the name resolves to.
        addresses: Arc<[SocketAddr]>,
    },
    /// Messages of feeds, in the order of their sequence. Every shard gets all of them.
    Publish(Arc<[Arc<Message>]>),
    /// Messages of feeds that do not come: their subscribers are to be told of a gap. It stands where they would have
    /// stood among the letters of [`ToShard::Publish`].
    Missed(Box<Missed>),
    /// Send [`SubscriberCounts`] of these channels.
    SubscriberCounts(Box<SubscribersQuery>),
    /// The answer to a [`Question`].
    Answer(Box<Answer>),
    /// What has become of a topic of a broker.
    Topic(Box<TopicNews>),
    /// A letter of another shard (`Desk::post_to_shard`).
    Shard {
        /// The shard that posted it.
        from: ShardNumber,
        /// What it posted.
        letter: ShardLetter,
    },
}

/// A letter from one shard to another. A pointer, since each ordered pair of shards has memory for as many of them as
/// its mailbox may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLetter(pub Box<ShardNote>);

/// The content of a [`ShardLetter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardNote {
    /// The service that posted it, and that gets it.
    pub service: ServiceKind,
    /// What it is about; its meaning is the service's.
    pub key: u64,
    /// Its payload; the format is the service's.
    pub bytes: Vec<u8>,
}

impl ShardLetter {
    /// A letter from a service to the same service of another shard.
    pub fn new(service: ServiceKind, key: u64, bytes: Vec<u8>) -> ShardLetter {
        ShardLetter(Box::new(ShardNote { service, key, bytes }))
    }
}

/// A mailbox has memory for as many letters as it may hold: what is large stands behind a pointer.
const _: () = assert!(size_of::<ToShard>() <= 24 && size_of::<ToControl>() <= 16 && size_of::<ShardLetter>() <= 8);

/// Asks a shard for its subscribers by channel.
#[derive(Clone, Debug)]
pub struct SubscribersQuery {
    /// Number of the question, repeated in the answer.
    pub question: u64,
    /// Which channels.
    pub wanted: Wanted,
}

/// Which of the channels that have subscribers or kept messages.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Those of this name, of every feed.
    One(Arc<str>),
    /// The first `most` of all, in the order of [`ChannelKey`].
    Page {
        /// Only channels behind this one.
        after: Option<ChannelKey>,
        /// How many at most.
        most: usize,
    },
}

/// Identifies a channel, and orders channels: by name, then by feed.
pub type ChannelKey = (Box<str>, FeedNumber);

impl ToShard {
    /// As how many letters it counts in the budget of a turn: one for each message of a feed.
    pub fn weight(&self) -> u64 {
        if let ToShard::Publish(messages) = self { messages.len() as u64 } else { 1 }
    }
}

/// Messages of feeds that do not reach a shard's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Messages of this feed; `None`: of every feed.
    pub feed: Option<FeedNumber>,
    /// Messages of this channel; `None`: of every channel.
    pub channel: Option<Arc<str>>,
    /// Their sequence would have been this or lower.
    pub sequence: u64,
}

/// A letter from a shard to the control thread.
#[derive(Debug)]
pub enum ToControl {
    /// The answer to [`ToShard::Report`].
    Report(Box<Report>),
    /// The answer to [`ToShard::SubscriberCounts`].
    SubscriberCounts(Box<SubscriberCounts>),
    /// Whose credentials these are; to be answered by [`ToShard::Answer`].
    Question(Box<Question>),
    /// Of a topic of a broker this shard has subscribers now, or none any more.
    Topic(Box<TopicRequest>),
}

/// What a shard wants of a topic of a broker. For all shards together the broker sees one subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRequest {
    /// The shard.
    pub shard: ShardNumber,
    /// The number of the broker's feed.
    pub feed: FeedNumber,
    /// A STOMP destination or an MQTT topic filter, as clients have written it.
    pub topic: Arc<str>,
    /// It has subscribers; each such request is answered by [`ToShard::Topic`]. One that is said again asks for what
    /// the broker has kept of the topic once more. `false`: it has none any more.
    pub is_wanted: bool,
}

/// What has become of a topic of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNews {
    /// The number of the broker's feed.
    pub feed: FeedNumber,
    /// The topic.
    pub topic: Arc<str>,
    /// What is known of it.
    pub state: TopicState,
    /// The sequence of what was published last before: these news hold for a shard that has had it.
    pub after: u64,
}

/// What is known of a topic of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicState {
    /// The broker has confirmed the subscription: what is published from now on comes.
    Subscribed(Granted),
    /// The broker has refused it: a reason code of MQTT version 5, and its words.
    Refused(u8, Box<str>),
    /// The subscription has ended, after nobody had wanted it for a while: of what was kept of its messages nothing is
    /// known to be the last any more.
    Ended,
}

/// What a broker has confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// The quality of service (0 to 2, MQTT version 5 section 4.3; STOMP: 1).
    pub quality: u8,
    /// Whatever the broker keeps of the topic was published with sequences beyond this one; zero: it was not asked.
    pub kept_since: u64,
    /// The broker tells when what it keeps changes. Where it does not (MQTT 3.1.1) it is asked for each subscriber.
    pub is_followed: bool,
}

/// The channels of a shard at one moment.
#[derive(Clone, Debug)]
pub struct SubscriberCounts {
    /// The shard.
    pub shard: ShardNumber,
    /// [`SubscribersQuery::question`].
    pub question: u64,
    /// The channels, in no order; a prefix ends with `*`.
    pub channels: Vec<ChannelState>,
}

/// A channel of a feed in one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelState {
    /// The feed.
    pub feed: FeedNumber,
    /// The channel, or a prefix with `*` at its end.
    pub channel: Box<str>,
    /// Clients that are subscribed to it.
    pub subscribers: u32,
    /// Messages kept for clients that come back (`replay`, `last_values`).
    pub kept: u32,
    /// Bytes of these messages, about ([`Message::cost`]).
    pub kept_bytes: u64,
}

/// A shard's counters at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// The shard.
    pub shard: ShardNumber,
    /// The generation of settings that is in force: how often they were exchanged.
    pub generation: u32,
    /// How many things are held that this generation has not: connections under limits of routes that are gone, feeds
    /// that have subscribers, upstreams with connections. At zero, for all shards, their numbers may be given anew.
    pub held: usize,
    /// Its counters.
    pub counters: Counters,
}

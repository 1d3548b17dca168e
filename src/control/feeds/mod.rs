//! Feeds: where messages come from. A file per kind of source, and what they share:
//!
//! | file | what |
//! |---|---|
//! | `feed` | passing on, counting, coming back |
//! | `decoder`, `framing` | bytes into messages |
//! | `publisher` | messages into one line, and to the shards |
//! | `stats` | what the admin address shows of a feed |
//! | `broker`, `backoff`, `stream` | a broker's URL, waits, byte streams |
//!
//! A feed never gives up, never spins, and never holds more than one message that it could not pass on: what comes
//! faster than the shards read waits at its source.

mod backoff;
mod broker;
pub mod decoder;
mod demo;
mod feed;
mod framing;
mod listen;
mod mqtt;
mod nats;
mod publisher;
mod redis;
mod stats;
mod stream;
mod tcp;
mod udp;

pub use broker::Broker;
pub use decoder::{Format, InvalidText, Reason};
pub use feed::Feed;
pub use framing::Framing;
pub use stats::{FeedState, Stats};

pub use publisher::{Backlogs, Patience};
pub(super) use publisher::{Letter, PublishQueue, Publisher, Stopping, Verdict, publisher};

use crate::mesh::FeedNumber;
use decoder::Rules;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// One `[[feed]]`, as the control thread needs it.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// A metric label.
    pub name: String,
    /// Where messages come from.
    pub source: Source,
    /// The channel of all its messages; for [`Source::Http`] those that may be published to, with `*` at the end for
    /// all that begin so. `None`: from the message.
    pub channel: Option<String>,
    /// What is asked of a broker: subjects, channels, patterns, streams, topic filters. Empty: the channel.
    pub topics: Vec<String>,
    /// Where a stream of a broker is begun.
    pub start: Start,
    /// How a byte stream is cut into messages.
    pub framing: Framing,
    /// How a message is read.
    pub format: Format,
    /// Payloads are text; else binary.
    pub text: bool,
    /// What becomes of a text message that is not UTF-8.
    pub invalid_text: InvalidText,
    /// The longest payload.
    pub message_bytes: usize,
}

/// Where the messages of a feed come from. Displayed without a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Datagrams to this address; a multicast address is joined.
    Udp(SocketAddr),
    /// A byte stream: edgehold connects.
    Tcp {
        /// The name or the address.
        host: String,
        /// The port.
        port: u16,
    },
    /// Byte streams: edgehold listens.
    TcpListen(SocketAddr),
    /// Byte streams: edgehold listens on a unix socket.
    Unix(PathBuf),
    /// Subjects of a NATS server.
    Nats(Broker),
    /// A JetStream stream of a NATS server.
    JetStream(Broker, String),
    /// Channels of a Redis server.
    RedisChannels(Broker),
    /// Streams of a Redis server.
    RedisStreams(Broker),
    /// Topics of an MQTT broker.
    Mqtt(Broker),
    /// Requests to the admin address.
    Http,
    /// The built-in demo.
    Demo,
}

/// Where a stream of a broker is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what comes from now on.
    New,
    /// With the oldest that the broker has.
    First,
    /// With this sequence.
    Sequence(u64),
}

impl SourceSettings {
    fn rules(&self, feed: FeedNumber) -> Rules {
        // The channel of an http feed is a rule for those that publish, not an answer.
        let channel = self.channel.clone().filter(|_| self.source != Source::Http);
        Rules {
            feed,
            channel,
            format: self.format,
            text: self.text,
            invalid_text: self.invalid_text,
            message_bytes: self.message_bytes,
        }
    }

    /// What is asked of the broker.
    fn topics(&self) -> Vec<String> {
        if self.topics.is_empty() { self.channel.iter().cloned().collect() } else { self.topics.clone() }
    }

    /// Whether an http feed takes messages for this channel.
    pub(super) fn allows(&self, channel: &str) -> bool {
        match self.channel.as_deref() {
            None => true,
            Some(rule) => rule.strip_suffix('*').map_or(rule == channel, |begin| channel.starts_with(begin)),
        }
    }

    /// Whether a library of its own resolves its host's name, on a thread of the blocking pool.
    pub(super) fn resolves(&self) -> bool {
        matches!(self.source, Source::Nats(_) | Source::JetStream(..) | Source::Mqtt(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Udp(address) => write!(f, "udp://{address}"),
            Source::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Source::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Source::TcpListen(address) => write!(f, "tcp-listen://{address}"),
            Source::Unix(path) => write!(f, "unix://{}", path.display()),
            Source::Nats(broker) | Source::JetStream(broker, _) | Source::Mqtt(broker) => write!(f, "{broker}"),
            Source::RedisChannels(broker) | Source::RedisStreams(broker) => write!(f, "{broker}"),
            Source::Http => f.write_str("http"),
            Source::Demo => f.write_str("demo"),
        }
    }
}

/// Starts all feeds; their numbers are their places.
pub(super) fn start(all: Vec<SourceSettings>, publisher: &Publisher) -> Arc<[Arc<Feed>]> {
    let numbered = (0..).zip(all);
    let feeds = numbered.map(|(number, settings)| Arc::new(Feed::new(number, settings, publisher.clone())));
    let feeds: Arc<[Arc<Feed>]> = feeds.collect();
    feeds.iter().cloned().for_each(begin);
    feeds
}

fn begin(feed: Arc<Feed>) {
    match feed.settings.source.clone() {
        Source::Udp(address) => spawn(feed, udp::Udp(address)),
        Source::Tcp { host, port } => spawn(feed, tcp::Tcp { host, port }),
        Source::TcpListen(address) => spawn(feed, listen::Listen::Tcp(address)),
        Source::Unix(path) => spawn(feed, listen::Listen::Unix(path)),
        Source::Nats(broker) => spawn(feed, nats::Subjects(broker)),
        Source::JetStream(broker, stream) => spawn(feed, nats::Stream::new(broker, stream)),
        Source::RedisChannels(broker) => spawn(feed, redis::Channels(broker)),
        Source::RedisStreams(broker) => spawn(feed, redis::Streams::new(broker)),
        Source::Mqtt(broker) => spawn(feed, mqtt::Mqtt::new(broker)),
        // Requests come by the admin address.
        Source::Http => feed.up(),
        Source::Demo => spawn(feed, demo::Demo::default()),
    }
}

/// FNV-1a: the standard library's hash may change from one version to the next.
fn stable_hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn spawn(feed: Arc<Feed>, session: impl feed::Session + 'static) {
    tokio::spawn(feed::keep(feed, session));
}

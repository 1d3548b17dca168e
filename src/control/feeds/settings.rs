//! What a feed is configured to be: its source, and how its messages are framed, decoded and addressed.

use super::broker::Broker;
use super::decoder::{Decoder, DecoderSettings};
use super::framing::Framing;
use crate::control::certificates::ClientFiles;
use crate::mesh::FeedNumber;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// One `[[feed]]`, as the control thread needs it.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// The feed's name: a metric label.
    pub name: String,
    /// Where messages come from.
    pub source: Source,
    /// Whom a broker that is spoken to by TLS must be vouched for by, and what it is shown; `None`: clear text.
    pub tls: Option<ClientFiles>,
    /// The channel of all its messages; for [`Source::Http`] the channels that may be published to, with `*` at the end
    /// for all that begin so. `None`: from the message.
    pub channel: Option<String>,
    /// What is asked of a broker: subjects, channels, patterns, streams, topic filters. Empty: the channel.
    pub topics: Vec<String>,
    /// Where a stream of a broker is begun.
    pub start: Start,
    /// How a byte stream is cut into messages.
    pub framing: Framing,
    /// How a message is decoded.
    pub decoder: DecoderSettings,
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
    /// With what is published from now on.
    New,
    /// With the oldest message that the broker has.
    First,
    /// With this sequence.
    Sequence(u64),
}

impl Source {
    /// Whether its URL asks for TLS.
    pub fn is_tls(&self) -> bool {
        match self {
            Source::Nats(broker)
            | Source::JetStream(broker, _)
            | Source::Mqtt(broker)
            | Source::RedisChannels(broker)
            | Source::RedisStreams(broker) => broker.is_tls(),
            _ => false,
        }
    }
}

impl SourceSettings {
    /// The decoder of the feed of this number.
    pub(super) fn decoder(&self, feed: FeedNumber) -> Decoder {
        // The channel of an http feed is a rule for those that publish, not the channel of its messages.
        let channel = self.channel.clone().filter(|_| self.source != Source::Http);
        Decoder { feed, channel, settings: self.decoder }
    }

    /// What is asked of the broker.
    pub(super) fn topics(&self) -> Vec<String> {
        if self.topics.is_empty() { self.channel.iter().cloned().collect() } else { self.topics.clone() }
    }

    /// Whether an http feed may be published to on this channel.
    pub(in crate::control) fn allows(&self, channel: &str) -> bool {
        match self.channel.as_deref() {
            None => true,
            Some(rule) => rule.strip_suffix('*').map_or(rule == channel, |prefix| channel.starts_with(prefix)),
        }
    }

    /// Whether it needs a thread of the blocking pool: a library of its own resolves its host's name there, or the
    /// files of TLS are read there.
    pub(in crate::control) fn blocks(&self) -> bool {
        self.tls.is_some() || matches!(self.source, Source::Nats(_) | Source::JetStream(..) | Source::Mqtt(_))
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
            Source::Nats(broker)
            | Source::JetStream(broker, _)
            | Source::Mqtt(broker)
            | Source::RedisChannels(broker)
            | Source::RedisStreams(broker) => write!(f, "{broker}"),
            Source::Http => f.write_str("http"),
            Source::Demo => f.write_str("demo"),
        }
    }
}

//! Feeds: where messages come from.
//!
//! | room, from top to bottom | what |
//! |---|---|
//! | `mod` | starts the feeds |
//! | `sources` | a file or folder for each kind of source |
//! | `session` | connecting again and again |
//! | `feed` | what every feed does: decode, publish, count |
//! | `settings` | what a feed is configured to be |
//! | `decoder`, `framing` | bytes to messages |
//! | `stats` | what the admin address shows of a feed |
//! | `broker`, `hash` | a broker's URL, a stable hash |
//!
//! A feed reconnects for ever, with growing waits, and never holds more than one message that it could not publish:
//! what comes faster than the shards read waits at its source.

mod broker;
pub mod decoder;
mod feed;
mod framing;
mod hash;
mod session;
mod settings;
mod sources;
mod stats;

pub use broker::Broker;
pub use decoder::{DecoderSettings, Format, InvalidText, Reason};
pub use feed::Feed;
pub use framing::Framing;
pub use settings::{Source, SourceSettings, Start};
pub use stats::{FeedState, Stats};

use super::publishing::Publisher;
use session::Session;
use sources::{demo, listen, mqtt, nats, redis, tcp, udp};
use std::sync::Arc;

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
        Source::JetStream(broker, stream) => spawn(feed, nats::JetStream::new(broker, stream)),
        Source::RedisChannels(broker) => spawn(feed, redis::Channels(broker)),
        Source::RedisStreams(broker) => spawn(feed, redis::Streams::new(broker)),
        Source::Mqtt(broker) => spawn(feed, mqtt::Mqtt::new(broker)),
        // Its messages come by the admin address.
        Source::Http => feed.up(),
        Source::Demo => spawn(feed, demo::Demo::default()),
    }
}

fn spawn(feed: Arc<Feed>, session: impl Session + 'static) {
    tokio::spawn(session::keep(feed, session));
}

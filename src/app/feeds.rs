//! Feeds, from what was written to what the control thread works with.

use super::config::{self, Config};
use crate::control::PublishLimits;
use crate::control::feeds::{Broker, DecoderSettings, Format, Framing, InvalidText, Source, SourceSettings, Start};

/// All feeds, in the order of the configuration: their places are their numbers.
pub(super) fn settings(config: &Config) -> Vec<SourceSettings> {
    config.feeds.iter().map(feed).collect()
}

/// How far shards may be behind what feeds publish.
pub(super) fn publish_limits(config: &Config) -> PublishLimits {
    PublishLimits {
        backlog_bytes: usize::try_from(config.server.publish_backlog_bytes).unwrap_or(usize::MAX),
        patience: config.server.publish_patience,
    }
}

fn feed(written: &config::Feed) -> SourceSettings {
    SourceSettings {
        name: written.name.clone(),
        source: source(written),
        channel: written.channel.clone(),
        topics: written.topics.clone(),
        start: match written.start {
            config::Start::New => Start::New,
            config::Start::First => Start::First,
            config::Start::Sequence(first) => Start::Sequence(first),
        },
        framing: match written.framing {
            config::Framing::Lines => Framing::Lines,
            config::Framing::Length => Framing::Length,
        },
        decoder: decoder(written),
    }
}

fn decoder(written: &config::Feed) -> DecoderSettings {
    DecoderSettings {
        format: match written.format {
            config::FeedFormat::Raw => Format::Raw,
            config::FeedFormat::Json => Format::Json,
        },
        text: written.text,
        invalid_text: match written.invalid_text {
            config::InvalidText::Drop => InvalidText::Drop,
            config::InvalidText::Binary => InvalidText::Binary,
        },
        message_bytes: usize::try_from(written.message_bytes).unwrap_or(usize::MAX),
    }
}

fn source(written: &config::Feed) -> Source {
    match &written.source {
        config::Source::Udp(address) => Source::Udp(*address),
        config::Source::Tcp { host, port } => Source::Tcp { host: host.clone(), port: *port },
        config::Source::TcpListen(address) => Source::TcpListen(*address),
        config::Source::Unix(path) => Source::Unix(path.clone()),
        config::Source::Nats(url) => match &written.stream {
            Some(stream) => Source::JetStream(Broker::new(url), stream.clone()),
            None => Source::Nats(Broker::new(url)),
        },
        config::Source::Redis(url) if written.redis_streams => Source::RedisStreams(Broker::new(url)),
        config::Source::Redis(url) => Source::RedisChannels(Broker::new(url)),
        config::Source::Mqtt(url) => Source::Mqtt(Broker::new(url)),
        config::Source::Http => Source::Http,
        config::Source::Demo => Source::Demo,
    }
}

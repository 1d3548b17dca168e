//! Feeds, from what was written to what the control thread works with.

use super::config::{self, Config};
use crate::control::PublishLimits;
use crate::control::feeds::{DecoderSettings, SourceSettings};

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
        source: written.source.clone(),
        tls: written.tls.clone(),
        channel: written.channel.clone(),
        topics: written.topics.clone(),
        start: written.start,
        framing: written.framing,
        decoder: decoder(written),
    }
}

fn decoder(written: &config::Feed) -> DecoderSettings {
    DecoderSettings {
        format: written.format,
        text: written.text,
        invalid_text: written.invalid_text,
        message_bytes: usize::try_from(written.message_bytes).unwrap_or(usize::MAX),
    }
}

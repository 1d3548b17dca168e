//! What the configuration says of feeds and of a route's subscribers, in the shard's units.

use crate::mesh::FeedNumber;

/// What holds for the subscribers of a route.
#[derive(Clone, Debug)]
pub struct RouteTerms {
    /// The feeds whose channels they may subscribe to.
    pub feeds: Vec<FeedNumber>,
    /// Who subscribes without an id begins with the last value of each key.
    pub snapshot: bool,
    /// Limits and policy for laggards.
    pub slow: Slow,
}

/// When a subscriber is too slow, and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    /// What is done.
    pub policy: Policy,
    /// Bytes that may wait for it.
    pub max_pending: u64,
    /// Ticks that the oldest of its messages may wait.
    pub max_age_ticks: u32,
}

/// What is done with a subscriber whose backlog is above a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The oldest messages are left out.
    DropOldest,
    /// Of each key only the last message is sent.
    Conflate,
    /// It is closed (WebSocket: 1013).
    Close,
    /// The backlog is left out and a notice of a gap sent.
    Gap,
}

/// What is kept of a channel.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Messages kept for replay.
    pub messages: u32,
    /// Bytes kept for replay.
    pub bytes: u64,
    /// Ticks for which they are kept.
    pub age_ticks: u32,
    /// Bytes to be sent that are kept for laggards.
    pub backlog: u64,
    /// Whether the last value of each key is kept.
    pub values: bool,
    /// How many last values.
    pub values_max: u32,
    /// Bytes of last values that are not kept for replay as well.
    pub value_bytes: u64,
    /// Ticks for which those are kept.
    pub value_age_ticks: u32,
}

/// What the names of a feed's logs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Channels, and prefixes that end with `*`.
    Prefixes,
    /// What a name is is the source's business: it covers nothing but itself.
    Exact,
    /// None: the feed is another service's, and its messages concern nobody here.
    Foreign,
    /// Topic filters of MQTT (version 5, section 4.7), with `+` and `#`; messages have topic names.
    Filters,
}

impl Naming {
    /// What such a name covers.
    pub fn covers(self, name: &str) -> Covers {
        match self {
            Naming::Prefixes if name.ends_with('*') => Covers::Prefix,
            Naming::Filters if name.contains(['+', '#']) => Covers::Filter,
            _ => Covers::Itself,
        }
    }
}

/// What the name of a log covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covers {
    /// One channel.
    Itself,
    /// All channels that begin so.
    Prefix,
    /// All topics that match.
    Filter,
}

/// A feed.
#[derive(Clone, Debug)]
pub struct FeedSettings {
    /// What the names of its logs are.
    pub naming: Naming,
    /// Its only channel, or a prefix of all its channels; `None`: it may have any.
    pub channel: Option<String>,
    /// What is kept of each of its channels.
    pub keep: Keep,
    /// Channels that may have logs for what is kept of them.
    pub channels_max: usize,
    /// Ticks for which the log of a prefix is kept without subscribers.
    pub linger_ticks: u32,
    /// How many of those are kept.
    pub idle_prefixes_max: usize,
}

impl Keep {
    /// Nothing is kept.
    pub const NOTHING: Keep = Keep {
        messages: 0,
        bytes: 0,
        age_ticks: 0,
        backlog: 0,
        values: false,
        values_max: 65_536,
        value_bytes: 16 << 20,
        value_age_ticks: u32::MAX,
    };
}

impl FeedSettings {
    /// A feed with the limits that hold where the configuration names none.
    pub fn new(channel: Option<String>, keep: Keep) -> FeedSettings {
        FeedSettings {
            naming: Naming::Prefixes,
            channel,
            keep,
            channels_max: 1 << 20,
            linger_ticks: 120,
            idle_prefixes_max: 1024,
        }
    }

    /// In place of a feed of another service, so that numbers are dense.
    pub fn foreign() -> FeedSettings {
        FeedSettings { naming: Naming::Foreign, ..FeedSettings::new(None, Keep::NOTHING) }
    }

    /// Whether it may have messages of this channel, or of one that this prefix covers.
    pub fn may_carry(&self, channel: &str) -> bool {
        let Some(own) = &self.channel else { return true };
        matches(own, channel) || channel.strip_suffix('*').is_some_and(|prefix| own.starts_with(prefix))
    }
}

/// Whether a pattern (a channel, or a prefix with `*` at its end) covers a channel or a prefix.
pub fn matches(pattern: &str, channel: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => channel.starts_with(prefix),
        None => pattern == channel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_carries_its_channel_and_the_prefixes_of_it() {
        let feed = FeedSettings::new(Some("news.*".into()), Keep::NOTHING);
        let may = ["news.a", "news.*", "ne*", "news", "old"].map(|it| feed.may_carry(it));
        assert_eq!(may, [true, true, true, false, false]);
        assert!(FeedSettings::new(None, Keep::NOTHING).may_carry("x"));
    }
}

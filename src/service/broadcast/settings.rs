//! What broadcast routes and feeds say, in the shard's units.

use crate::mesh::{Body, FeedNumber, Form, Frame};

/// What a broadcast route says.
#[derive(Clone, Debug)]
pub struct BroadcastPlan {
    /// Its feeds.
    pub feeds: Vec<FeedNumber>,
    /// What follows the route's path is the channel.
    pub channel_in_path: bool,
    /// Channels that may be taken, `*` at the end for prefixes; empty: all.
    pub channels: Vec<String>,
    /// WebSocket clients may subscribe by messages.
    pub subscribe: bool,
    /// Subscriptions of one client.
    pub subscriptions_max: u32,
    /// Subscriptions that a client may begin and end by messages in a second.
    pub changes_max: u32,
    /// Bytes of a message of a client.
    pub order_bytes: usize,
    /// Last values come first.
    pub snapshot: bool,
    /// What clients get of a message.
    pub body: Body,
    /// Ticks that a long poll waits.
    pub poll_ticks: u32,
    /// A long poll that asks for what is gone is told 410.
    pub poll_gone: bool,
    /// What an `EventSource` is told to wait, in milliseconds.
    pub retry_millis: u64,
    /// Origins that may read; `*` for all.
    pub allow_origin: Vec<String>,
    /// Pages of those origins that are named may send cookies along.
    pub allow_credentials: bool,
    /// The event by which a gap is told on event streams.
    pub gap_event: String,
    /// What becomes of clients that lag.
    pub slow: Slow,
}

/// What becomes of a client that does not take what it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    /// What is done.
    pub policy: Policy,
    /// Bytes that may wait.
    pub max_pending: u64,
    /// Ticks that the oldest may wait.
    pub max_age_ticks: u32,
}

/// What is done with a client whose backlog is above its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The oldest messages are left out.
    DropOldest,
    /// Of each key only the last value is sent.
    Conflate,
    /// It is closed (1013).
    Close,
    /// The backlog is left out and the client told.
    Gap,
}

/// What is kept of a channel, in the shard's units.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Messages kept for replay.
    pub messages: u32,
    /// Bytes kept for replay.
    pub bytes: u64,
    /// Ticks that they are kept for.
    pub age_ticks: u32,
    /// Bytes to be sent, kept for clients that lag.
    pub backlog: u64,
    /// The last value of each key is kept.
    pub values: bool,
    /// So many of them, for each channel.
    pub values_max: u32,
    /// Bytes of those that are kept for nothing else.
    pub value_bytes: u64,
    /// Ticks that they are kept for.
    pub value_age_ticks: u32,
}

/// A feed, as a shard needs it.
#[derive(Clone, Debug)]
pub struct FeedSettings {
    /// Its only channel, if it has one.
    pub channel: Option<String>,
    /// What is kept of its channels.
    pub keep: Keep,
    /// Channels that may have rows for what is kept of them.
    pub channels_max: usize,
    /// Ticks for which a prefix stays that nobody listens to any more.
    pub linger_ticks: u32,
    /// Prefixes that stay so.
    pub idle_prefixes_max: usize,
}

impl Keep {
    /// Nothing is kept, for nobody.
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
    /// A feed that keeps so much of its channels, and has the limits that hold where none are written.
    pub fn new(channel: Option<String>, keep: Keep) -> FeedSettings {
        FeedSettings { channel, keep, channels_max: 1 << 20, linger_ticks: 120, idle_prefixes_max: 1024 }
    }

    /// Whether messages for this channel, or for something that begins so, may come from it.
    pub fn may_carry(&self, channel: &str) -> bool {
        let Some(own) = &self.channel else { return true };
        matches(own, channel) || channel.strip_suffix('*').is_some_and(|prefix| own.starts_with(prefix))
    }
}

impl BroadcastPlan {
    /// Whether a client may take this channel or prefix.
    pub fn allows(&self, channel: &str) -> bool {
        self.channels.is_empty() || self.channels.iter().any(|pattern| matches(pattern, channel))
    }

    /// How messages are laid out.
    pub fn form(&self, frame: Frame) -> Form {
        Form { body: self.body, frame }
    }
}

/// Whether a pattern (`*` at its end: all that begins so) covers a channel or a prefix.
pub fn matches(pattern: &str, channel: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => channel.starts_with(prefix),
        None => pattern == channel,
    }
}

/// Whether a text can be asked for: 1 to 255 bytes without control characters, `*` nowhere but at the end.
pub fn is_channel(text: &str) -> bool {
    let star = text.find('*').is_none_or(|at| at + 1 == text.len());
    (1..=255).contains(&text.len()) && star && !text.chars().any(char::is_control)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A route as it is when nothing is written.
    pub fn settings() -> BroadcastPlan {
        BroadcastPlan {
            feeds: vec![0],
            channel_in_path: true,
            channels: Vec::new(),
            subscribe: true,
            subscriptions_max: 64,
            changes_max: 256,
            order_bytes: 64 << 10,
            snapshot: false,
            body: Body::Plain,
            poll_ticks: 100,
            poll_gone: true,
            retry_millis: 3000,
            allow_origin: Vec::new(),
            allow_credentials: false,
            gap_event: "gap".into(),
            slow: Slow { policy: Policy::Close, max_pending: 1 << 18, max_age_ticks: 40 },
        }
    }

    #[test]
    fn patterns_cover_what_begins_so() {
        let settings = BroadcastPlan { channels: vec!["a".into(), "b.*".into()], ..settings() };
        let allowed = ["a", "ab", "b.", "b.c", "b.c*", "b*", "*"].map(|it| settings.allows(it));
        assert_eq!(allowed, [true, false, true, true, true, false, false]);
    }

    #[test]
    fn a_feed_carries_its_channel_and_the_prefixes_of_it() {
        let feed = FeedSettings::new(Some("news.*".into()), Keep::NOTHING);
        let may = ["news.a", "news.*", "ne*", "news", "old"].map(|it| feed.may_carry(it));
        assert_eq!(may, [true, true, true, false, false]);
        assert!(FeedSettings::new(None, Keep::NOTHING).may_carry("x"));
    }

    #[test]
    fn what_can_be_asked_for() {
        let texts = ["a", "a*", "*", "a*b", "", "a\nb", "ü"].map(is_channel);
        assert_eq!(texts, [true, true, true, false, false, false, true]);
    }
}

//! What the configuration says of broadcast routes, in the shard's units.

use crate::mesh::{Body, FeedNumber, Form, Frame};
use crate::service::fanout::{FeedSettings, RouteTerms, Slow, matches};

/// What the broadcast service is told of the configuration.
#[derive(Clone, Debug, Default)]
pub struct BroadcastSettings {
    /// Its routes by their numbers; `None`: of one that is gone.
    pub plans: Vec<Option<BroadcastPlan>>,
    /// Feeds by their numbers; `None`: of one that is gone.
    pub feeds: Vec<Option<FeedSettings>>,
    /// Of this run of the server, part of each id; never exchanged.
    pub epoch: u32,
}

/// A broadcast route.
#[derive(Clone, Debug)]
pub struct BroadcastPlan {
    /// Its feeds.
    pub feeds: Vec<FeedNumber>,
    /// What follows the route's path is a channel.
    pub channel_in_path: bool,
    /// Channels that clients may subscribe to, prefixes with `*` at the end; empty: all.
    pub channels: Vec<String>,
    /// Roles that some channels need.
    pub roles: Box<[ChannelRoles]>,
    /// Whether WebSocket clients may subscribe by commands.
    pub subscribe: bool,
    /// Subscriptions of one client, at most.
    pub subscriptions_max: u32,
    /// Subscriptions that a client may begin and end by commands in a second.
    pub changes_max: u32,
    /// Bytes of a command, at most.
    pub order_bytes: usize,
    /// Whether a client without an id is sent the last value of each key first.
    pub snapshot: bool,
    /// What of a message is sent over WebSocket and event streams.
    pub body: Body,
    /// Ticks for which a long poll waits.
    pub poll_ticks: u32,
    /// Whether a long poll behind a gap is answered 410; else 200, with the gaps in its body.
    pub poll_gone: bool,
    /// Milliseconds that an `EventSource` is told to wait before it reconnects.
    pub retry_millis: u64,
    /// The name of the event that is the notice of a gap on event streams.
    pub gap_event: String,
    /// Limits and policy for slow clients.
    pub slow: Slow,
}

/// Channels that need a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRoles {
    /// Channels, prefixes with `*` at the end.
    pub channels: Box<[Box<str>]>,
    /// The roles of which a client must have one.
    pub roles: Box<[Box<str>]>,
}

impl BroadcastPlan {
    /// Whether all clients may subscribe to this channel or prefix.
    pub fn allows(&self, channel: &str) -> bool {
        self.channels.is_empty() || self.channels.iter().any(|pattern| matches(pattern, channel))
    }

    /// The form of messages in a frame.
    pub fn form(&self, frame: Frame) -> Form {
        Form { body: self.body, frame }
    }

    /// What the fan-out is to know of the route.
    pub fn terms(&self) -> RouteTerms {
        RouteTerms { feeds: self.feeds.clone(), snapshot: self.snapshot, slow: self.slow }
    }
}

/// Whether clients can ask for a channel or prefix of this name: 1 to 255 bytes without control characters, `*` nowhere
/// but at the end.
pub fn is_channel(text: &str) -> bool {
    let star = text.find('*').is_none_or(|at| at + 1 == text.len());
    (1..=255).contains(&text.len()) && star && !text.chars().any(char::is_control)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Policy;
    use super::*;

    /// A route as it is when nothing is written.
    pub fn settings() -> BroadcastPlan {
        BroadcastPlan {
            feeds: vec![0],
            channel_in_path: true,
            channels: Vec::new(),
            roles: Box::default(),
            subscribe: true,
            subscriptions_max: 64,
            changes_max: 256,
            order_bytes: 64 << 10,
            snapshot: false,
            body: Body::Plain,
            poll_ticks: 100,
            poll_gone: true,
            retry_millis: 3000,
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
    fn what_can_be_asked_for() {
        let texts = ["a", "a*", "*", "a*b", "", "a\nb", "ü"].map(is_channel);
        assert_eq!(texts, [true, true, true, false, false, false, true]);
    }
}

//! Channels and patterns of Redis. What is published while nobody listens is lost: Redis keeps none of it.

use super::super::broker::Broker;
use super::super::decoder::Said;
use super::super::feed::{Fault, Feed, Session};
use super::{Line, bytes, items};
use redis::Value;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// A quiet server is asked this often whether it is there.
const PING: Duration = Duration::from_secs(15);

/// Listens to channels.
pub(crate) struct Channels(pub(crate) Broker);

impl Session for Channels {
    async fn run(&mut self, feed: &Feed) -> Fault {
        let Err(fault) = self.listen(feed).await;
        fault
    }
}

impl Channels {
    async fn listen(&self, feed: &Feed) -> Result<Infallible, Fault> {
        let mut line = Line::open(&self.0).await?;
        let topics = feed.settings.topics();
        let (patterns, channels): (Vec<_>, Vec<_>) = topics.iter().cloned().partition(|it| is_pattern(it));
        let mut awaited = patterns.len() + channels.len();
        for (command, topics) in [("SUBSCRIBE", channels), ("PSUBSCRIBE", patterns)] {
            if !topics.is_empty() {
                line.say(redis::cmd(command).arg(topics)).await?;
            }
        }
        let mut beat = interval(PING);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut quiet = 0;
        loop {
            tokio::select! {
                heard = line.hear() => {
                    quiet = 0;
                    let subscribed = take(feed, &topics, &heard?).await == Heard::Subscribed;
                    awaited = awaited.saturating_sub(usize::from(subscribed));
                    if awaited == 0 {
                        feed.up();
                    }
                }
                _ = beat.tick() => {
                    if quiet == 2 {
                        return Err("the server does not answer".into());
                    }
                    quiet += 1;
                    line.say(&redis::cmd("PING")).await?;
                }
            }
        }
    }
}

/// What an answer was.
#[derive(PartialEq)]
enum Heard {
    Subscribed,
    Other,
}

async fn take(feed: &Feed, topics: &[String], value: &Value) -> Heard {
    let (topic, channel, payload) = match items(value) {
        [kind, channel, payload] if bytes(kind) == b"message" => (channel, channel, payload),
        [kind, pattern, channel, payload] if bytes(kind) == b"pmessage" => (pattern, channel, payload),
        [kind, ..] if bytes(kind).ends_with(b"subscribe") => return Heard::Subscribed,
        _ => return Heard::Other,
    };
    if !is_first(topics, bytes(topic), bytes(channel)) {
        return Heard::Other;
    }
    let channel = String::from_utf8_lossy(bytes(channel));
    feed.take(bytes(payload), Said { channel: Some(&channel), ..Said::default() }).await;
    Heard::Other
}

/// Whether this is the first of the topics that match a channel: Redis sends a message for each of them.
fn is_first(topics: &[String], topic: &[u8], channel: &[u8]) -> bool {
    let first = topics.iter().map(String::as_bytes).find(|it| *it == topic || matches(it, channel));
    first.is_none_or(|first| first == topic)
}

/// Whether a topic matches a channel: itself, or as Redis' patterns do.
fn matches(topic: &[u8], channel: &[u8]) -> bool {
    match (topic, channel) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=channel.len()).any(|at| matches(rest, &channel[at..])),
        ([b'?', rest @ ..], [_, channel @ ..]) => matches(rest, channel),
        ([b'[', class @ ..], [byte, channel @ ..]) => {
            let (is_in, rest) = class_has(class, *byte);
            is_in && matches(rest, channel)
        }
        ([b'\\', plain, rest @ ..], [byte, channel @ ..]) | ([plain, rest @ ..], [byte, channel @ ..]) => {
            plain == byte && matches(rest, channel)
        }
        _ => false,
    }
}

/// Whether a byte is in the class that begins here, and what stands behind it.
fn class_has(class: &[u8], byte: u8) -> (bool, &[u8]) {
    let (not, mut class) = class.strip_prefix(b"^").map_or((false, class), |class| (true, class));
    let mut is_in = false;
    loop {
        class = match class {
            [] => return (is_in != not, class),
            [b']', rest @ ..] => return (is_in != not, rest),
            [b'\\', plain, rest @ ..] => {
                is_in |= *plain == byte;
                rest
            }
            [from, b'-', to, rest @ ..] => {
                is_in |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest
            }
            [plain, rest @ ..] => {
                is_in |= *plain == byte;
                rest
            }
        };
    }
}

/// A channel whose name has such characters is written with backslashes before them, as Redis' patterns have it.
fn is_pattern(topic: &str) -> bool {
    topic.contains(['*', '?', '[', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_redis_has_them() {
        for (topic, channel, expected) in [
            ("fx.eur", "fx.eur", true),
            ("fx.*", "fx.eur", true),
            ("*", "", true),
            ("*.eur", "fx.eur.x", false),
            ("f?", "fx", true),
            ("f?", "f", false),
            ("f[a-cx]", "fx", true),
            ("f[^x]", "fx", false),
            ("f[^x]", "fy", true),
            ("f[\\]]", "f]", true),
            ("f\\*", "f*", true),
            ("f\\*", "fx", false),
            ("a*b*c", "axxbyyc", true),
        ] {
            assert_eq!(matches(topic.as_bytes(), channel.as_bytes()), expected, "{topic} {channel}");
        }
    }

    #[test]
    fn a_message_of_several_topics_is_taken_once() {
        let topics = ["fx.*".to_owned(), "fx.eur".into(), "*.eur".into()];
        let taken = |topic: &str, channel: &str| is_first(&topics, topic.as_bytes(), channel.as_bytes());
        assert_eq!(topics.each_ref().map(|it| taken(it, "fx.eur")), [true, false, false]);
        assert!(taken("*.eur", "x.eur") && taken("fx.*", "fx.usd"));
    }
}

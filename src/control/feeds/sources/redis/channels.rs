//! Channels and patterns of Redis. What is published while there is no connection is lost: Redis keeps none of it.

use super::connection::{Connection, bytes, items};
use crate::control::feeds::broker::Broker;
use crate::control::feeds::decoder::Metadata;
use crate::control::feeds::feed::Feed;
use crate::control::feeds::session::{Fault, Session, ticker};
use redis::Value;
use std::convert::Infallible;
use std::time::Duration;

/// Time from one PING to the next.
const PING: Duration = Duration::from_secs(15);

/// Subscribes to channels and patterns.
pub(in crate::control::feeds) struct Channels(pub(in crate::control::feeds) Broker);

impl Session for Channels {
    async fn run(&mut self, feed: &Feed) -> Result<Infallible, Fault> {
        let mut connection = Connection::open(feed, &self.0).await?;
        let topics = feed.settings.topics();
        subscribe(&mut connection, &topics).await?;
        let mut awaited = topics.len();
        let mut ticker = ticker(PING);
        // PINGs since something was received.
        let mut unanswered = 0;
        loop {
            tokio::select! {
                answer = connection.receive() => {
                    unanswered = 0;
                    let subscribed = receive(feed, &topics, &answer??).await == Received::Subscription;
                    awaited = awaited.saturating_sub(usize::from(subscribed));
                    if awaited == 0 {
                        feed.up();
                    }
                }
                _ = ticker.tick() => {
                    if unanswered == 2 {
                        return Err("the server does not answer".into());
                    }
                    unanswered += 1;
                    connection.send(&redis::cmd("PING")).await?;
                }
            }
        }
    }
}

/// # Errors
/// The connection is lost.
async fn subscribe(connection: &mut Connection, topics: &[String]) -> Result<(), Fault> {
    let (patterns, channels): (Vec<&String>, Vec<_>) = topics.iter().partition(|it| is_pattern(it));
    for (command, topics) in [("SUBSCRIBE", channels), ("PSUBSCRIBE", patterns)] {
        if !topics.is_empty() {
            connection.send(redis::cmd(command).arg(topics)).await?;
        }
    }
    Ok(())
}

/// What was received.
#[derive(PartialEq)]
enum Received {
    /// The answer to a subscription.
    Subscription,
    /// A message, or the answer to a PING.
    Other,
}

/// Publishes what was received, where it is a message.
async fn receive(feed: &Feed, topics: &[String], value: &Value) -> Received {
    let (topic, channel, payload) = match items(value) {
        [kind, channel, payload] if bytes(kind) == b"message" => (channel, channel, payload),
        [kind, pattern, channel, payload] if bytes(kind) == b"pmessage" => (pattern, channel, payload),
        [kind, ..] if bytes(kind).ends_with(b"subscribe") => return Received::Subscription,
        _ => return Received::Other,
    };
    if is_first(topics, bytes(topic), bytes(channel)) {
        let channel = String::from_utf8_lossy(bytes(channel));
        let metadata = Metadata { channel: Some(&channel), ..Metadata::default() };
        feed.receive(bytes(payload), metadata).await;
    }
    Received::Other
}

/// Whether this is the first of the topics that match a channel: Redis sends a message once for each of them.
fn is_first(topics: &[String], topic: &[u8], channel: &[u8]) -> bool {
    let first = topics.iter().map(String::as_bytes).find(|it| *it == topic || matches(it, channel));
    first.is_none_or(|first| first == topic)
}

/// Whether a topic, read as a pattern of Redis, matches a channel.
fn matches(topic: &[u8], channel: &[u8]) -> bool {
    match (topic, channel) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=channel.len()).any(|at| matches(rest, &channel[at..])),
        ([b'?', rest @ ..], [_, channel @ ..]) => matches(rest, channel),
        ([b'[', class @ ..], [byte, channel @ ..]) => {
            let (is_in, rest) = class_has(class, *byte);
            is_in && matches(rest, channel)
        }
        ([b'\\', plain, rest @ ..] | [plain, rest @ ..], [byte, channel @ ..]) => {
            plain == byte && matches(rest, channel)
        }
        _ => false,
    }
}

/// Whether a byte is in the character class that begins here, and what stands behind the class.
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

/// Whether a topic is a pattern. A channel whose name has such characters is written as one, with backslashes before
/// them.
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

//! Channels and patterns of Redis. What is published while nobody listens is lost: Redis keeps none of it.

use super::super::broker::Broker;
use super::super::feed::{Fault, Feed, Session};
use super::super::reading::Said;
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
        let (patterns, channels): (Vec<_>, Vec<_>) = feed.settings.topics().into_iter().partition(|it| is_pattern(it));
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
                    let subscribed = take(feed, &heard?).await == Heard::Subscribed;
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

async fn take(feed: &Feed, value: &Value) -> Heard {
    let (channel, payload) = match items(value) {
        [kind, channel, payload] if bytes(kind) == b"message" => (channel, payload),
        [kind, _, channel, payload] if bytes(kind) == b"pmessage" => (channel, payload),
        [kind, ..] if bytes(kind).ends_with(b"subscribe") => return Heard::Subscribed,
        _ => return Heard::Other,
    };
    let channel = String::from_utf8_lossy(bytes(channel));
    feed.take(bytes(payload), Said { channel: Some(&channel), ..Said::default() }).await;
    Heard::Other
}

/// A channel whose name has such characters is written with backslashes before them, as Redis' patterns have it.
fn is_pattern(topic: &str) -> bool {
    topic.contains(['*', '?', '[', '\\'])
}

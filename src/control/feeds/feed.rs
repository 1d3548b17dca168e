//! What every feed does, whatever its source: pass messages on, count, and come back by itself.

use super::SourceSettings;
use super::backoff::Backoff;
use super::decoder::{Format, Reason, Rules, Said};
use super::publisher::{Publisher, Stopping};
use super::stats::Stats;
use crate::mesh::{FeedNumber, Message, NewMessage};
use std::sync::Arc;
use std::time::Duration;

/// One that was up for so long has found its feet: the next wait is a short one again.
const STEADY: Duration = Duration::from_secs(5);

/// Why a session has ended, in words for the operator.
pub(super) type Fault = String;

/// A feed at work.
pub struct Feed {
    /// How it was configured.
    pub settings: SourceSettings,
    /// How it is.
    pub stats: Stats,
    pub(in crate::control) rules: Rules,
    publisher: Publisher,
}

/// A source that is reached anew each time that it was lost. What must outlast a session (the last id that was seen) is
/// in the value itself.
pub(super) trait Session: Send {
    /// Connects, passes on what comes, and ends when the source is lost.
    fn run(&mut self, feed: &Feed) -> impl Future<Output = Fault> + Send;
}

impl Feed {
    pub(super) fn new(number: FeedNumber, settings: SourceSettings, publisher: Publisher) -> Feed {
        let rules = settings.rules(number);
        Feed { settings, stats: Stats::default(), rules, publisher }
    }

    /// Passes a message on, or counts why not. Waits while the shards are behind.
    pub(super) async fn take(&self, raw: &[u8], said: Said<'_>) {
        match self.rules.read(raw, said) {
            // A server that is stopping needs no more messages.
            Ok(draft) => drop(self.hand_over(draft).await),
            Err(reason) => self.refuse(reason),
        }
    }

    /// Passes a message on that was read already.
    pub(in crate::control) async fn hand_over(&self, draft: NewMessage) -> Result<Arc<Message>, Stopping> {
        let bytes = draft.payload.len();
        let message = self.publisher.publish(draft).await?;
        self.stats.passed_on(bytes);
        Ok(message)
    }

    /// The source has lost messages before they were read, of one channel of its own or of any: how many, where that is
    /// known, and why. Those who listen are told a gap, in its place among the messages.
    pub(super) async fn lost(&self, channel: Option<&str>, count: Option<u64>, why: &str) {
        let name = &self.settings.name;
        tracing::warn!(feed = name, count, channel, "the source has lost messages: {why}; clients are told a gap");
        self.stats.lost_some(count.unwrap_or(1));
        let channel = self.channel_of(channel);
        // A server that is stopping tells nobody any more.
        let _ = self.publisher.miss(self.rules.feed, channel).await;
    }

    /// Where messages of a source's own channel go, if that can be said.
    fn channel_of<'s>(&'s self, channel: Option<&'s str>) -> Option<&'s str> {
        match (&self.rules.channel, self.settings.format) {
            (Some(fixed), _) => Some(fixed),
            (None, Format::Raw) => channel,
            (None, Format::Json) => None,
        }
    }

    /// Counts; the first of each reason is told.
    pub(in crate::control) fn refuse(&self, reason: Reason) {
        if self.stats.refused_one(reason) {
            tracing::warn!(
                feed = self.settings.name,
                reason = reason.word(),
                "{}; more are only counted",
                reason.words()
            );
        }
    }

    /// The source is there.
    pub(super) fn up(&self) {
        if self.stats.up() {
            tracing::info!(feed = self.settings.name, source = %self.settings.source, "the feed is up");
        }
    }

    fn down(&self, why: &str) {
        match self.stats.down(why) {
            true => tracing::warn!(feed = self.settings.name, source = %self.settings.source, why, "the feed is down"),
            false => tracing::debug!(feed = self.settings.name, why, "the feed is still down"),
        }
    }
}

/// Keeps a feed at its source for as long as the server runs.
pub(super) async fn keep(feed: Arc<Feed>, mut session: impl Session) {
    let mut backoff = Backoff::new();
    loop {
        let why = session.run(&feed).await;
        if feed.stats.up_for().is_some_and(|it| it >= STEADY) {
            backoff.reset();
        }
        feed.down(&why);
        tokio::time::sleep(backoff.wait()).await;
    }
}

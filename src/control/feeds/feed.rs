//! What every feed does, whatever its source: decode messages, publish them, and count.

use super::decoder::{Decoder, Format, Metadata, Reason};
use super::session::Fault;
use super::settings::SourceSettings;
use super::stats::Stats;
use crate::control::certificates::ClientTls;
use crate::control::publishing::{Publisher, Stopping};
use crate::mesh::{FeedNumber, Message, NewMessage};
use std::sync::Arc;

/// A feed at work.
pub struct Feed {
    /// How it is configured.
    pub settings: SourceSettings,
    /// Its state and its counters.
    pub stats: Stats,
    pub(in crate::control) decoder: Decoder,
    publisher: Publisher,
}

impl Feed {
    pub(super) fn new(number: FeedNumber, settings: SourceSettings, publisher: Publisher) -> Feed {
        let decoder = settings.decoder(number);
        Feed { settings, stats: Stats::default(), decoder, publisher }
    }

    /// TLS for one connection to the broker, its files read anew; `None`: clear text.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub(super) async fn tls(&self) -> Result<Option<ClientTls>, Fault> {
        match &self.settings.tls {
            Some(files) => ClientTls::load(files).await.map(Some),
            None => Ok(None),
        }
    }

    /// Decodes a message of the source and publishes it, or counts why not. Waits while the shards are behind.
    pub(super) async fn receive(&self, raw: &[u8], metadata: Metadata<'_>) {
        match self.decoder.decode(raw, metadata) {
            Ok(message) => drop(self.publish(message).await),
            Err(reason) => self.refuse(reason),
        }
    }

    /// Publishes a message that is decoded already. Waits while the shards are behind.
    ///
    /// # Errors
    /// The server is stopping: it needs no more messages.
    pub(in crate::control) async fn publish(&self, message: NewMessage) -> Result<Arc<Message>, Stopping> {
        let message = self.publisher.publish(message).await?;
        self.stats.published(message.payload().len());
        Ok(message)
    }

    /// The source has lost messages before they were read, of one of its own channels or of any: how many, where that
    /// is known, and why. Clients of the channel are told a gap, in its place among the messages.
    pub(super) async fn lost(&self, channel: Option<&str>, count: Option<u64>, why: &str) {
        let name = &self.settings.name;
        tracing::warn!(feed = name, count, channel, "the source has lost messages: {why}; clients are told a gap");
        self.stats.add_lost(count.unwrap_or(1));
        let channel = self.channel_of(channel);
        // A server that is stopping tells its clients of no more gaps.
        let _ = self.publisher.publish_loss(self.decoder.feed, channel).await;
    }

    /// The channel to which messages of a source's own channel go; `None`: any, as each message names its own.
    fn channel_of<'s>(&'s self, channel: Option<&'s str>) -> Option<&'s str> {
        match (&self.decoder.channel, self.settings.decoder.format) {
            (Some(fixed), _) => Some(fixed),
            (None, Format::Raw) => channel,
            (None, Format::Json) => None,
        }
    }

    /// Counts a message that is not published; logs the first of each reason.
    pub(in crate::control) fn refuse(&self, reason: Reason) {
        if self.stats.refuse(reason) {
            tracing::warn!(
                feed = self.settings.name,
                reason = reason.word(),
                "{}; more are only counted",
                reason.words()
            );
        }
    }

    /// Notes that the source is connected, or listened for.
    pub(super) fn up(&self) {
        if self.stats.up() {
            tracing::info!(feed = self.settings.name, source = %self.settings.source, "the feed is up");
        }
    }

    /// Notes that the source is lost, or could not be connected to.
    pub(super) fn down(&self, why: &str) {
        if self.stats.down(why) {
            tracing::warn!(feed = self.settings.name, source = %self.settings.source, why, "the feed is down");
        } else {
            tracing::debug!(feed = self.settings.name, why, "the feed is still down");
        }
    }
}

//! From feeds to shards: one queue in which every message has its place.
//!
//! [`Publisher`] is the end of the feeds: it gives a message its sequence and appends it to the queue, both under one
//! lock, so that the order of the queue is that of the sequences. [`PublishQueue`] is the dispatcher's end: what is
//! ready goes to all shards in one letter. [`credit`] bounds what lies between them, and [`Backlogs`] shows it.
//!
//! Where the credit is used up, publishing waits, and so do the feeds' sources: memory stays bounded however slow the
//! shards are. But where only some shards are behind, the others wait no longer than `publish_patience`: a shard that
//! has not read by then what others have read is *left behind*. It gets nothing more until it has read what is in its
//! mailbox, and then a [`Missed`](crate::mesh::Missed) with the sequence up to which it missed something, so that its
//! clients are told a gap. One shard at least is never left behind: where all are slow, the feeds wait.

mod backlogs;
mod credit;
mod publisher;
mod queue;

pub use backlogs::{Backlogs, ShardBacklog};
pub(super) use credit::Stopping;
pub(super) use publisher::Publisher;
pub(super) use queue::{Action, Letter, PublishQueue};

use credit::Credit;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How far shards may be behind.
#[derive(Clone, Copy, Debug)]
pub struct PublishLimits {
    /// `publish_backlog_bytes`: the credit, in bytes of messages that some shard has still to read.
    pub backlog_bytes: usize,
    /// `publish_patience`: how long publishing waits for a shard that has not read what another has.
    pub patience: Duration,
}

/// Both ends, for that many shards. Sequences begin at one.
pub(super) fn channel(epoch: u32, shards: usize, limits: PublishLimits) -> (Publisher, PublishQueue) {
    let (sender, receiver) = mpsc::channel(queue::ENTRIES);
    let credit = Credit::new(limits.backlog_bytes);
    let backlogs = Arc::new(Backlogs::new(credit.clone(), shards));
    let publisher = Publisher::new(sender, credit.clone(), epoch, backlogs.clone());
    (publisher, PublishQueue::new(receiver, credit, limits.patience, backlogs))
}

#[cfg(test)]
mod tests;

//! The dispatcher's end of the publish queue: letters for the shards, and how far each shard has read them.

use super::backlogs::Backlogs;
use super::credit::Credit;
use crate::mesh::{Message, Missed, ShardNumber, ToShard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Messages of one letter, at most.
pub(super) const LETTER: usize = 256;

/// Entries that may wait to become letters.
pub(super) const ENTRIES: usize = 4 * LETTER;

/// What all shards receive in one order.
#[derive(Clone, Debug)]
pub(crate) enum Letter {
    /// Messages.
    Messages(Arc<[Arc<Message>]>),
    /// A feed has lost messages.
    Missed(Missed),
}

/// An entry of the queue.
pub(super) enum Entry {
    Message(Arc<Message>),
    Missed(Missed),
}

/// Gives letters, and gives back the credit of those that were read.
pub(crate) struct PublishQueue {
    queue: mpsc::Receiver<Entry>,
    credit: Credit,
    /// Entries that were taken from the queue and are in no letter yet.
    gathered: VecDeque<Entry>,
    /// The sequence of the last entry that went into a letter.
    sequence: u64,
    /// Costs of the last letters: those whose credit was not given back yet.
    unread: VecDeque<usize>,
    shards: Vec<Progress>,
    /// Publishing has waited for credit, and less than a quarter of it has come back since.
    pressed: bool,
    /// `publish_patience`.
    patience: Duration,
    backlogs: Arc<Backlogs>,
}

/// How far a shard has read.
#[derive(Default)]
struct Progress {
    /// Costs of the letters that it has still to read.
    unread: VecDeque<usize>,
    /// Their sum.
    bytes: usize,
    /// Since when publishing waits for this shard and not for another.
    awaited_since: Option<Instant>,
    /// It gets no letters until it has read those that it has.
    left_behind: bool,
    /// It was not given some letter.
    has_missed: bool,
}

/// What the dispatcher is to do about a shard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is left behind: discard its letters that are not in its mailbox yet, and say how many those were
    /// ([`PublishQueue::discarded`]).
    Discard,
    /// It has caught up, and has missed this: send it.
    SendMissed(Missed),
}

impl PublishQueue {
    pub(super) fn new(
        queue: mpsc::Receiver<Entry>,
        credit: Credit,
        patience: Duration,
        backlogs: Arc<Backlogs>,
    ) -> PublishQueue {
        PublishQueue {
            queue,
            credit,
            gathered: VecDeque::new(),
            sequence: 0,
            unread: VecDeque::new(),
            shards: backlogs.by_shard().map(|_| Progress::default()).collect(),
            pressed: false,
            patience,
            backlogs,
        }
    }

    /// Waits for an entry; a letter of all that are ready. Cancellation-safe: no entry is lost.
    pub(crate) async fn letter(&mut self) -> Letter {
        if self.gathered.is_empty() {
            let mut entries = Vec::with_capacity(LETTER);
            if self.queue.recv_many(&mut entries, LETTER).await == 0 {
                // Every publisher is gone: nothing will be published any more.
                std::future::pending::<()>().await;
            }
            self.gathered = entries.into();
        }
        let (letter, cost) = self.gather();
        self.unread.push_back(cost);
        self.shards.iter_mut().for_each(|it| it.receives(cost));
        letter
    }

    /// The messages up to the next loss, or one loss; and what they cost.
    fn gather(&mut self) -> (Letter, usize) {
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = self.gathered.pop_front() {
            match entry {
                Entry::Message(message) => {
                    self.sequence = message.sequence;
                    bytes += self.credit.cost(message.payload().len());
                    messages.push(message);
                }
                Entry::Missed(missed) if messages.is_empty() => {
                    self.sequence = missed.sequence;
                    return (Letter::Missed(missed), self.credit.cost(0));
                }
                missed @ Entry::Missed(_) => {
                    self.gathered.push_front(missed);
                    break;
                }
            }
        }
        (Letter::Messages(messages.into()), bytes)
    }

    /// Whether this shard gets the last letter.
    pub(crate) fn is_for(&self, shard: ShardNumber) -> bool {
        !self.shards[shard].left_behind
    }

    /// Notes how many letters each shard has still to read, gives back the credit of those that are read, and says what
    /// to do about shards that are behind, or were.
    pub(crate) fn update(
        &mut self,
        now: Instant,
        unread: impl IntoIterator<Item = usize>,
    ) -> Vec<(ShardNumber, Action)> {
        self.shards.iter_mut().zip(unread).for_each(|(shard, unread)| shard.has_still(unread));
        self.give_back();
        self.note_pressure();
        let mut actions = Vec::new();
        for shard in 0..self.shards.len() {
            actions.extend(self.judge(shard, now).map(|action| (shard, action)));
        }
        self.give_back();
        self.show();
        actions
    }

    /// That many letters of this shard were discarded, the last ones that it was given.
    pub(crate) fn discarded(&mut self, shard: ShardNumber, letters: usize) {
        let progress = &mut self.shards[shard];
        progress.has_missed |= letters > 0;
        progress.unread.truncate(progress.unread.len() - letters);
        progress.bytes = progress.unread.iter().sum();
    }

    /// Whether some shard has a letter still to read.
    pub(crate) fn is_behind(&self) -> bool {
        !self.unread.is_empty() || self.shards.iter().any(|it| !it.unread.is_empty() || it.left_behind)
    }

    /// Gives back the credit of letters that all shards but those left behind have read.
    fn give_back(&mut self) {
        let awaited = self.shards.iter().filter(|it| !it.left_behind);
        let unread = awaited.map(|it| it.unread.len()).max().unwrap_or(0);
        let read = self.unread.len().saturating_sub(unread);
        self.credit.give_back(self.unread.drain(..read).sum());
    }

    /// A publisher that waits takes all credit that comes back, bit by bit: where none is left one waits, and only
    /// where a quarter of it is left none has waited for a while.
    fn note_pressure(&mut self) {
        let available = self.credit.available();
        self.pressed = available == 0 || self.pressed && available < self.credit.limit() / 4;
    }

    fn judge(&mut self, shard: ShardNumber, now: Instant) -> Option<Action> {
        let is_awaited = self.pressed && self.is_awaited(shard);
        let progress = &mut self.shards[shard];
        if progress.left_behind {
            return progress.unread.is_empty().then(|| self.catch_up(shard)).flatten();
        }
        let since = *progress.awaited_since.get_or_insert(now);
        progress.awaited_since = is_awaited.then_some(since);
        let too_long = is_awaited && now.duration_since(since) >= self.patience;
        too_long.then(|| self.leave_behind(shard))
    }

    /// Whether the oldest unread letter is unread by this shard, and read by another that is not left behind.
    fn is_awaited(&self, shard: ShardNumber) -> bool {
        let oldest = self.unread.len();
        let holds = |progress: &Progress| progress.unread.len() >= oldest;
        let others = self.shards.iter().filter(|it| !it.left_behind);
        oldest > 0 && holds(&self.shards[shard]) && others.into_iter().any(|it| !holds(it))
    }

    fn leave_behind(&mut self, shard: ShardNumber) -> Action {
        let progress = &mut self.shards[shard];
        (progress.left_behind, progress.awaited_since) = (true, None);
        self.backlogs.count_left_behind(shard);
        tracing::warn!(
            shard,
            bytes = progress.bytes,
            "a shard does not read what feeds say: they go on without it, its clients will be told a gap"
        );
        Action::Discard
    }

    fn catch_up(&mut self, shard: ShardNumber) -> Option<Action> {
        let progress = &mut self.shards[shard];
        progress.left_behind = false;
        tracing::warn!(shard, "the shard reads again what feeds say");
        let missed = Missed { feed: None, channel: None, sequence: self.sequence };
        std::mem::take(&mut progress.has_missed).then_some(Action::SendMissed(missed))
    }

    fn show(&self) {
        for (shard, progress) in self.shards.iter().enumerate() {
            self.backlogs.set(shard, progress.bytes, progress.left_behind);
        }
    }
}

impl Progress {
    fn receives(&mut self, cost: usize) {
        if self.left_behind {
            self.has_missed = true;
        } else {
            self.unread.push_back(cost);
            self.bytes += cost;
        }
    }

    fn has_still(&mut self, unread: usize) {
        let read = self.unread.len().saturating_sub(unread);
        self.bytes -= self.unread.drain(..read).sum::<usize>();
    }
}

impl Letter {
    /// The letter for one shard.
    pub(crate) fn to_shard(&self) -> ToShard {
        match self {
            Letter::Messages(messages) => ToShard::Publish(messages.clone()),
            Letter::Missed(missed) => ToShard::Missed(Box::new(missed.clone())),
        }
    }
}

//! From feeds to shards: one line in which every message has its place.
//!
//! [`Publisher`] is what feeds hold: it gives a draft its sequence and puts it into the queue, both under one lock,
//! so that the order of the queue is that of the sequences. [`Outlet`] is the switchboard's end: what is ready goes
//! to all shards in one letter.
//!
//! What was taken from feeds and not yet read by every shard costs a part of [`BUDGET`]. Where that is used up,
//! publishing waits, and so do the feeds: memory stays bounded however slow a shard is. A letter is read when all
//! shards have dropped it, which they do in the turn in which they take it out of their box.

use crate::mesh::{Draft, Message};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{Semaphore, mpsc};

/// Messages of one letter, at most.
const LETTER: usize = 256;

/// Messages that may wait for a letter.
const QUEUE: usize = 4 * LETTER;

/// Bytes of all messages that some shard has still to read.
const BUDGET: usize = 32 << 20;

/// What a message is held to cost beside its payload.
const AROUND: usize = 256;

/// Messages of one letter.
pub(crate) type Letter = Arc<[Arc<Message>]>;

/// The switchboard has gone: the server is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopping;

/// Takes drafts.
#[derive(Clone)]
pub(crate) struct Publisher {
    queue: mpsc::Sender<Arc<Message>>,
    budget: Arc<Semaphore>,
    last: Arc<Mutex<u64>>,
    epoch: u32,
}

/// Gives letters.
pub(crate) struct Outlet {
    queue: mpsc::Receiver<Arc<Message>>,
    budget: Arc<Semaphore>,
    gathered: Vec<Arc<Message>>,
    unread: VecDeque<(Weak<[Arc<Message>]>, usize)>,
}

/// Both ends. Sequences begin at one.
pub(crate) fn publisher(epoch: u32) -> (Publisher, Outlet) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let budget = Arc::new(Semaphore::new(BUDGET));
    let publisher = Publisher { queue: sender, budget: budget.clone(), last: Arc::default(), epoch };
    (publisher, Outlet { queue: receiver, budget, gathered: Vec::new(), unread: VecDeque::new() })
}

impl Publisher {
    /// Gives the draft its place. Waits while the shards are behind.
    ///
    /// # Errors
    /// The server is stopping.
    pub(crate) async fn publish(&self, draft: Draft) -> Result<Arc<Message>, Stopping> {
        let cost = cost(draft.payload.len());
        let room = self.budget.acquire_many(cost as u32).await.map_err(|_| Stopping)?;
        let place = self.queue.reserve().await.map_err(|_| Stopping)?;
        // The outlet gives it back.
        room.forget();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        let message = Arc::new(Message::new(draft, self.epoch, *last));
        place.send(message.clone());
        Ok(message)
    }

    /// Bytes that some shard has still to read, about.
    pub(crate) fn unread_bytes(&self) -> u64 {
        (BUDGET - self.budget.available_permits()) as u64
    }
}

impl Outlet {
    /// What is ready, one message at least. May be dropped while it waits: nothing is lost.
    pub(crate) async fn letter(&mut self) -> Letter {
        if self.queue.recv_many(&mut self.gathered, LETTER).await == 0 {
            // No feed will ever say anything again.
            std::future::pending::<()>().await;
        }
        let letter: Letter = self.gathered.drain(..).collect();
        self.unread.push_back((Arc::downgrade(&letter), letter.iter().map(|it| cost(it.payload().len())).sum()));
        letter
    }

    /// Gives room for the letters that all shards have read since.
    pub(crate) fn reckon(&mut self) {
        while self.unread.front().is_some_and(|(letter, _)| letter.strong_count() == 0) {
            let cost = self.unread.pop_front().map_or(0, |(_, cost)| cost);
            self.budget.add_permits(cost);
        }
    }

    /// Whether some shard has not read some letter yet.
    pub(crate) fn is_behind(&self) -> bool {
        !self.unread.is_empty()
    }
}

/// One that is larger than all of it takes all of it.
fn cost(payload: usize) -> usize {
    payload.saturating_add(AROUND).min(BUDGET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(20);

    fn draft(payload: usize) -> Draft {
        Draft { channel: "c".into(), payload: vec![0; payload], ..Draft::default() }
    }

    #[tokio::test]
    async fn letters_hold_what_is_ready_in_order() {
        let (publisher, mut outlet) = publisher(7);
        for sequence in 1..=300 {
            let message = publisher.publish(draft(1)).await.unwrap();
            assert_eq!((message.epoch, message.sequence), (7, sequence));
        }
        let letters = [outlet.letter().await, outlet.letter().await];
        assert_eq!(letters.each_ref().map(|it| it.len()), [LETTER, 300 - LETTER]);
        let sequences: Vec<u64> = letters.iter().flat_map(|it| it.iter().map(|it| it.sequence)).collect();
        assert!(sequences.into_iter().eq(1..=300));
    }

    #[tokio::test]
    async fn publishing_waits_until_letters_are_read() {
        let (publisher, mut outlet) = publisher(1);
        let quarter = BUDGET / 4 - AROUND;
        for _ in 0..4 {
            publisher.publish(draft(quarter)).await.unwrap();
        }
        assert!(timeout(SOON, publisher.publish(draft(1))).await.is_err());
        let letter = outlet.letter().await;
        outlet.reckon();
        assert!(outlet.is_behind() && publisher.unread_bytes() == BUDGET as u64);
        assert!(timeout(SOON, publisher.publish(draft(1))).await.is_err());
        drop(letter);
        outlet.reckon();
        assert!(!outlet.is_behind() && publisher.unread_bytes() == 0);
        assert_eq!(publisher.publish(draft(1)).await.unwrap().sequence, 5);
    }

    #[tokio::test]
    async fn a_message_above_the_budget_goes_alone() {
        let (publisher, mut outlet) = publisher(1);
        publisher.publish(draft(BUDGET + 1)).await.unwrap();
        assert!(timeout(SOON, publisher.publish(draft(1))).await.is_err());
        drop(outlet.letter().await);
        outlet.reckon();
        assert_eq!(publisher.publish(draft(1)).await.unwrap().sequence, 2);
    }

    #[tokio::test]
    async fn many_at_once_keep_their_order() {
        let (publisher, mut outlet) = publisher(1);
        for _ in 0..50 {
            let publisher = publisher.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    publisher.publish(draft(3)).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
        }
        let mut next = 1;
        while next <= 5000 {
            for message in outlet.letter().await.iter() {
                assert_eq!(message.sequence, next);
                next += 1;
            }
            outlet.reckon();
        }
    }

    #[tokio::test]
    async fn nobody_publishes_to_a_server_that_has_gone() {
        let (publisher, outlet) = publisher(1);
        drop(outlet);
        assert_eq!(publisher.publish(draft(1)).await.err(), Some(Stopping));
    }
}

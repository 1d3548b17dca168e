//! The letters to one shard: those in its box, and those for which the box has no room yet.
//!
//! Messages of feeds are counted until the shard has taken them, since they are what may pile up; a shard that takes
//! none for too long loses those that are not in its box yet (`feeds/publisher.rs` decides that).

use super::Line;
use crate::mesh::{ToControl, ToShard};
use std::collections::VecDeque;

/// The line to a shard, and what waits for it.
pub(super) struct Post {
    line: Line,
    unposted: VecDeque<ToShard>,
    /// Letters that were ever put into the box.
    posted: u64,
    /// The numbers of those with messages that are still in it.
    messages: VecDeque<u64>,
    /// Those with messages that are not in it yet.
    waiting: usize,
}

impl Post {
    pub(super) fn new(line: Line) -> Post {
        Post { line, unposted: VecDeque::new(), posted: 0, messages: VecDeque::new(), waiting: 0 }
    }

    /// Behind all others; goes as soon as there is room. What may wait has a bound: of reports and of questions one, of
    /// the addresses of each upstream the last, of files what the dispatcher lets through, of messages what their
    /// publisher does.
    pub(super) fn send(&mut self, letter: ToShard) {
        if let ToShard::Addresses { upstream: new, .. } = &letter {
            let is_old = |it: &ToShard| matches!(it, ToShard::Addresses { upstream, .. } if upstream == new);
            self.unposted.retain(|it| !is_old(it));
        }
        self.waiting += usize::from(is_counted(&letter));
        self.unposted.push_back(letter);
        self.retry();
    }

    /// In order; what finds no room waits for the next time.
    pub(super) fn retry(&mut self) {
        while let Some(letter) = self.unposted.pop_front() {
            let counted = is_counted(&letter);
            if let Err(letter) = self.line.to.post(letter) {
                return self.unposted.push_front(letter);
            }
            self.posted += 1;
            if counted {
                self.waiting -= 1;
                self.messages.push_back(self.posted);
            }
        }
    }

    /// The next letter from the shard.
    pub(super) fn take(&mut self) -> Option<ToControl> {
        self.line.from.take()
    }

    /// Letters from the shard wait.
    pub(super) fn has_letters(&self) -> bool {
        !self.line.from.is_empty()
    }

    /// The shard has ended.
    pub(super) fn is_abandoned(&self) -> bool {
        self.line.from.is_abandoned()
    }

    /// Letters that the shard has not taken yet.
    pub(super) fn len(&self) -> usize {
        self.line.to.waiting() + self.unposted.len()
    }

    /// Whether letters wait for room.
    pub(super) fn is_full(&self) -> bool {
        !self.unposted.is_empty()
    }

    /// Letters with messages that the shard has not taken yet.
    pub(super) fn unread(&mut self) -> usize {
        let taken = self.posted - self.line.to.waiting() as u64;
        while self.messages.front().is_some_and(|number| *number <= taken) {
            self.messages.pop_front();
        }
        self.messages.len() + self.waiting
    }

    /// Gives up the messages that are not in the box yet; says how many letters that were.
    pub(super) fn give_up(&mut self) -> usize {
        self.unposted.retain(|letter| !is_counted(letter));
        std::mem::take(&mut self.waiting)
    }
}

/// What all shards hear in one order. What is missed of all feeds is told to one shard alone.
fn is_counted(letter: &ToShard) -> bool {
    match letter {
        ToShard::Publish(_) => true,
        ToShard::Missed(missed) => missed.feed.is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Waker, mailbox};
    use std::sync::Arc;

    #[test]
    fn messages_are_counted_until_they_are_taken() {
        let waker = || Arc::new(Waker::new().unwrap());
        let ((to, mut letters), (_shard, from)) = (mailbox(64, waker()), mailbox(64, waker()));
        let mut post = Post::new(Line { to, from });
        while !post.is_full() {
            post.send(ToShard::Report);
            post.send(ToShard::Publish(Arc::from([])));
        }
        let unread = post.unread();
        assert!(matches!(letters.take(), Some(ToShard::Report)));
        assert_eq!(post.unread(), unread);
        assert!(matches!(letters.take(), Some(ToShard::Publish(_))));
        assert_eq!(post.unread(), unread - 1);
        post.retry();
        post.send(ToShard::Publish(Arc::from([])));
        post.send(ToShard::Publish(Arc::from([])));
        post.send(ToShard::Drain);
        let given_up = post.give_up();
        assert!(given_up > 0 && post.unread() == unread + 1 - given_up, "{given_up} {unread}");
        while letters.take().is_some() {}
        post.retry();
        assert!(matches!(letters.take(), Some(ToShard::Drain)));
        assert_eq!(post.unread(), 0);
    }
}

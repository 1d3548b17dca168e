//! The link to one shard: its two mailboxes, and the letters for which its mailbox has no room yet.
//!
//! Letters with messages of feeds are counted until the shard has taken them, since they are what may pile up. A shard
//! that takes none for too long loses those that are not in its mailbox yet; `publishing` decides that.

use crate::mesh::{Receiver, Sender, ToControl, ToShard};
use std::collections::VecDeque;

/// The mailboxes between the control thread and one shard.
pub struct Line {
    /// Letters to it.
    pub to: Sender<ToShard>,
    /// Letters from it. Abandoned when the shard has ended.
    pub from: Receiver<ToControl>,
}

/// A shard's mailboxes, and what waits for room in its own.
pub(super) struct ShardLink {
    line: Line,
    unposted: VecDeque<ToShard>,
    /// Letters that were put into the mailbox so far.
    posted: u64,
    /// Of those with messages, the ones that are still in it: which letter each was, counted as in `posted`.
    unread: VecDeque<u64>,
    /// Letters with messages in `unposted`.
    unposted_messages: usize,
}

impl ShardLink {
    pub(super) fn new(line: Line) -> ShardLink {
        ShardLink { line, unposted: VecDeque::new(), posted: 0, unread: VecDeque::new(), unposted_messages: 0 }
    }

    /// Sends the letter behind all others, as soon as there is room. What may wait has a bound: of reports and of
    /// queries one, of the addresses of each upstream the last, of answers what the shard has asked, of files what the
    /// dispatcher lets through, of messages what the publish queue does.
    pub(super) fn send(&mut self, letter: ToShard) {
        if let ToShard::Addresses { upstream: new, .. } = &letter {
            let is_old = |it: &ToShard| matches!(it, ToShard::Addresses { upstream, .. } if upstream == new);
            self.unposted.retain(|it| !is_old(it));
        }
        self.unposted_messages += usize::from(is_counted(&letter));
        self.unposted.push_back(letter);
        self.flush();
    }

    /// Moves waiting letters into the mailbox, in order, until it has no room.
    pub(super) fn flush(&mut self) {
        while let Some(letter) = self.unposted.pop_front() {
            let counted = is_counted(&letter);
            if let Err(letter) = self.line.to.post(letter) {
                return self.unposted.push_front(letter);
            }
            self.posted += 1;
            if counted {
                self.unposted_messages -= 1;
                self.unread.push_back(self.posted);
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

    /// Whether the shard has ended.
    pub(super) fn is_abandoned(&self) -> bool {
        self.line.from.is_abandoned()
    }

    /// Whether letters wait for room.
    pub(super) fn is_full(&self) -> bool {
        !self.unposted.is_empty()
    }

    /// Letters with messages that the shard has not taken yet.
    pub(super) fn unread_messages(&mut self) -> usize {
        let taken = self.posted - self.line.to.waiting() as u64;
        while self.unread.front().is_some_and(|number| *number <= taken) {
            self.unread.pop_front();
        }
        self.unread.len() + self.unposted_messages
    }

    /// Discards the letters with messages that are not in the mailbox yet; says how many those were.
    pub(super) fn discard_messages(&mut self) -> usize {
        self.unposted.retain(|letter| !is_counted(letter));
        std::mem::take(&mut self.unposted_messages)
    }
}

/// Whether all shards receive it, in one order. A [`ToShard::Missed`] of all feeds is for one shard alone.
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
        let mut link = ShardLink::new(Line { to, from });
        while !link.is_full() {
            link.send(ToShard::Report);
            link.send(ToShard::Publish(Arc::from([])));
        }
        let unread = link.unread_messages();
        assert!(matches!(letters.take(), Some(ToShard::Report)));
        assert_eq!(link.unread_messages(), unread);
        assert!(matches!(letters.take(), Some(ToShard::Publish(_))));
        assert_eq!(link.unread_messages(), unread - 1);
        link.flush();
        link.send(ToShard::Publish(Arc::from([])));
        link.send(ToShard::Publish(Arc::from([])));
        link.send(ToShard::Drain);
        let discarded = link.discard_messages();
        assert!(discarded > 0 && link.unread_messages() == unread + 1 - discarded, "{discarded} {unread}");
        while letters.take().is_some() {}
        link.flush();
        assert!(matches!(letters.take(), Some(ToShard::Drain)));
        assert_eq!(link.unread_messages(), 0);
    }
}

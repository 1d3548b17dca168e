//! Letters: all that shards and the control thread say to each other.
//!
//! A letter is plain data. Each pair has one bounded box a direction (a single-producer ring); whoever posts
//! rings the receiver's waker, an eventfd. A full box is an answer, not a wait: the letter comes back, and
//! the sender decides.

mod counters;
mod health;
mod letters;
mod message;
mod services;
mod waker;

pub use counters::{Cause, Counters, Refused, Stage, UpstreamCounters};
pub use health::{Health, is_up};
pub use letters::{
    ChannelKey, ChannelState, Missed, Report, ShardNumber, SubscriberCounts, SubscribersQuery, ToControl, ToShard,
    Wanted,
};
pub use message::{Body, FeedNumber, Form, Frame, Message, NewMessage, PlainFrame, epoch_of, id, sequence_of};
pub use services::ServiceKind;
pub(crate) use services::services;
pub use waker::Waker;

use std::sync::Arc;

/// Letters that may wait in one box.
const BOX: usize = 1024;

/// The writing end of a box, with the receiver's waker.
pub struct Sender<L> {
    // Dropped in this order: the receiver must find the box abandoned when the last ring wakes it.
    letters: rtrb::Producer<L>,
    waker: LastRing,
}

/// Rings once more when the sender goes: nothing more will come.
struct LastRing(Arc<Waker>);

impl Drop for LastRing {
    fn drop(&mut self) {
        self.0.ring();
    }
}

/// The reading end of a box.
pub struct Receiver<L> {
    letters: rtrb::Consumer<L>,
}

/// A box whose reader listens for `waker`.
pub fn mailbox<L>(waker: Arc<Waker>) -> (Sender<L>, Receiver<L>) {
    let (producer, consumer) = rtrb::RingBuffer::new(BOX);
    (Sender { letters: producer, waker: LastRing(waker) }, Receiver { letters: consumer })
}

impl<L> Sender<L> {
    /// Posts the letter and rings.
    ///
    /// # Errors
    /// The box is full: the letter comes back.
    pub fn post(&mut self, letter: L) -> Result<(), L> {
        self.letters.push(letter).map_err(|rtrb::PushError::Full(letter)| letter)?;
        self.waker.0.ring();
        Ok(())
    }

    /// Letters that the receiver has still to take.
    pub fn waiting(&self) -> usize {
        BOX - self.letters.slots()
    }
}

impl<L> Receiver<L> {
    /// The next letter, if one has come.
    pub fn take(&mut self) -> Option<L> {
        self.letters.pop().ok()
    }

    /// Whether no letter waits.
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Whether no letter waits and none can come: the sender is gone.
    pub fn is_abandoned(&self) -> bool {
        self.letters.is_abandoned() && self.letters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_arrive_in_order_and_a_full_box_answers() {
        let (mut sender, mut receiver) = mailbox(Arc::new(Waker::new().unwrap()));
        let posted = (0..).take_while(|&n| sender.post(n).is_ok()).count();
        assert_eq!(posted, BOX);
        assert_eq!((sender.post(7), sender.waiting()), (Err(7), BOX));
        assert!((0..posted).all(|n| receiver.take() == Some(n)));
        assert!(receiver.is_empty() && sender.waiting() == 0);
        sender.post(8).unwrap();
        assert_eq!(receiver.take(), Some(8));
    }
}

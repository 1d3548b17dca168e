//! A mailbox: a bounded queue of letters from one thread to another (single producer, single consumer, no locks).
//!
//! A full mailbox is an answer, not a wait: the letter comes back, and the sender decides. Each mailbox has its own
//! capacity (`src/app/derive.rs` names all of them); its memory is allocated when it is made.

use super::Waker;
use std::sync::Arc;

/// The writing end of a mailbox, with the waker of its reader.
pub struct Sender<L> {
    // Dropped in this order: the reader must find the mailbox abandoned when the last signal wakes it.
    letters: rtrb::Producer<L>,
    waker: SignalOnDrop,
}

/// Nothing more will come, and the reader may be asleep.
struct SignalOnDrop(Arc<Waker>);

impl Drop for SignalOnDrop {
    fn drop(&mut self) {
        self.0.signal();
    }
}

/// The reading end of a mailbox.
pub struct Receiver<L> {
    letters: rtrb::Consumer<L>,
}

/// A mailbox for `capacity` letters, whose reader sleeps by `waker`.
pub fn mailbox<L>(capacity: usize, waker: Arc<Waker>) -> (Sender<L>, Receiver<L>) {
    let (producer, consumer) = rtrb::RingBuffer::new(capacity);
    (Sender { letters: producer, waker: SignalOnDrop(waker) }, Receiver { letters: consumer })
}

/// The bytes of such a mailbox, without what its letters point to.
pub const fn mailbox_bytes<L>(capacity: usize) -> usize {
    size_of::<rtrb::RingBuffer<L>>() + size_of::<Sender<L>>() + size_of::<Receiver<L>>() + capacity * size_of::<L>()
}

impl<L> Sender<L> {
    /// Puts the letter behind all others and wakes the reader if it sleeps.
    ///
    /// # Errors
    /// The mailbox is full: the letter comes back.
    pub fn post(&mut self, letter: L) -> Result<(), L> {
        self.push(letter)?;
        self.waker().wake();
        Ok(())
    }

    /// As [`Sender::post`], but the caller has still to wake the reader.
    pub(super) fn push(&mut self, letter: L) -> Result<(), L> {
        self.letters.push(letter).map_err(|rtrb::PushError::Full(letter)| letter)
    }

    /// The reader's waker.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker.0
    }

    /// Letters that the reader has not taken yet.
    pub fn waiting(&self) -> usize {
        self.letters.buffer().capacity() - self.letters.slots()
    }
}

impl<L> Receiver<L> {
    /// Takes the oldest letter, if there is one.
    pub fn take(&mut self) -> Option<L> {
        self.letters.pop().ok()
    }

    /// Whether no letter waits.
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Whether no letter waits and none can come, because the sender was dropped.
    pub fn is_abandoned(&self) -> bool {
        // In this order: what was posted before the end is seen once the end is.
        self.letters.is_abandoned() && self.letters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waker() -> Arc<Waker> {
        Arc::new(Waker::new().unwrap())
    }

    #[test]
    fn letters_arrive_in_order_and_a_full_mailbox_answers() {
        for capacity in [1, 2, 7, 1024] {
            let (mut sender, mut receiver) = mailbox(capacity, waker());
            let posted = (0..=capacity).take_while(|&n| sender.post(n).is_ok()).count();
            assert_eq!(posted, capacity);
            assert_eq!((sender.post(7), sender.waiting()), (Err(7), capacity));
            assert!((0..posted).all(|n| receiver.take() == Some(n)));
            assert!(receiver.is_empty() && sender.waiting() == 0);
            sender.post(8).unwrap();
            assert_eq!(receiver.take(), Some(8));
        }
    }

    #[test]
    fn only_a_sleeping_reader_is_woken_and_only_once_a_sleep() {
        let waker = waker();
        let (mut sender, mut receiver) = mailbox(64, waker.clone());
        for _ in 0..3 {
            let asleep = waker.fall_asleep();
            (0..64).for_each(|n| sender.post(n).unwrap());
            drop(asleep);
            while receiver.take().is_some() {}
            sender.post(64).unwrap();
            receiver.take();
            assert_eq!(waker.clear(), 1);
        }
    }

    #[test]
    fn a_reader_that_is_awake_costs_no_write_and_its_senders_end_is_signalled() {
        let waker = waker();
        let (mut sender, mut receiver) = mailbox(64, waker.clone());
        for n in 0..10_000 {
            sender.post(n).unwrap();
            assert_eq!(receiver.take(), Some(n));
        }
        assert_eq!(waker.clear(), 0);
        drop(sender);
        assert_eq!(waker.clear(), 1);
        assert!(receiver.is_abandoned());
    }
}

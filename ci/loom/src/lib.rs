//! No wake-up is lost: src/mesh/waker.rs itself, with loom's atomics in place of the standard library's. And no key has
//! two entries in src/mesh/tallies.rs, likewise.
//!
//! A mailbox is played by the number of letters that its writer has posted, stored and loaded as `rtrb` stores and
//! loads the tail of its ring. loom runs a play in every order of its steps and with every value that the memory model
//! lets a load see; where there are several writers or letters, in every order with at most [`PREEMPTIONS`] forced
//! changes of threads. A reader that waits for ever ends a play as "Model exceeded maximum number of branches".

pub use loom::sync::atomic;

#[path = "../../../src/mesh/waker.rs"]
pub mod waker;

#[path = "../../../src/mesh/tallies.rs"]
pub mod tallies;

/// What src/mesh/zeroed.rs does, for atomics that are more than their bits.
mod zeroed {
    use super::atomic::AtomicU64;

    pub fn zeroed(len: usize) -> Box<[AtomicU64]> {
        (0..len).map(|_| AtomicU64::new(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::tallies::{Entry, Most, Tallies};
    use crate::waker::Waker;
    use loom::model::Builder;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    /// Times that a thread is stopped where it could go on, in one play.
    const PREEMPTIONS: usize = 3;

    /// So many writers post so many letters each, and the reader takes all of them, waiting for the eventfd as a shard
    /// and the control thread do.
    fn play(writers: usize, letters: usize) {
        let mailboxes: Vec<_> = (0..writers).map(|_| Arc::new(AtomicUsize::new(0))).collect();
        let waker = Arc::new(Waker::new().expect("an eventfd"));
        for posted in &mailboxes {
            let (waker, posted) = (waker.clone(), posted.clone());
            thread::spawn(move || post(&waker, &posted, letters));
        }
        let posted = || mailboxes.iter().map(|it| it.load(Ordering::Acquire)).sum::<usize>();
        let mut taken = 0;
        while taken < writers * letters {
            let asleep = waker.fall_asleep();
            if posted() == taken {
                wait(&waker);
            }
            drop(asleep);
            taken = posted();
        }
    }

    fn wait(waker: &Waker) {
        while waker.clear() == 0 {
            thread::yield_now();
        }
    }

    fn post(waker: &Waker, posted: &AtomicUsize, letters: usize) {
        for letter in 1..=letters {
            posted.store(letter, Ordering::Release);
            waker.wake();
        }
    }

    /// Where all orders would take minutes.
    fn bounded() -> Builder {
        let mut model = Builder::new();
        model.preemption_bound = Some(PREEMPTIONS);
        model
    }

    /// Two who come at once under a key that is new never have two entries: of a limit of one the second is too much,
    /// or is not counted, since the other was in its way each time.
    #[test]
    fn of_two_who_come_at_once_one_at_most_is_counted() {
        let mut model = bounded();
        model.max_branches = 20_000;
        // Each search is some forty loads: more changes of threads than that take hours.
        model.preemption_bound = Some(1);
        model.check(|| {
            let tallies = Arc::new(Tallies::new(1));
            let other = tallies.clone();
            let thread = thread::spawn(move || comes(&other));
            let both = [comes(&tallies), thread.join().expect("it ends")];
            assert_ne!(both, [true; 2], "two entries of one key");
        });
    }

    /// Whether it is counted, under a limit of one.
    fn comes(tallies: &Tallies) -> bool {
        let most = Most { connections: 1, ..Most::ALL };
        let entry = Entry { key: tallies.key(7), most: &most, guest: false, forced: false };
        tallies.enter(&entry, 0).place.is_some()
    }

    #[test]
    fn one_letter_is_never_slept_through() {
        Builder::new().check(|| play(1, 1));
    }

    #[test]
    fn the_second_letter_of_a_writer_wakes_as_well() {
        bounded().check(|| play(1, 2));
    }

    #[test]
    fn two_writers_do_not_rely_on_each_other() {
        bounded().check(|| play(2, 1));
    }
}

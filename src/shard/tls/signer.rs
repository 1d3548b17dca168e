//! A thread beside the shard for what takes long: the steps of handshakes at listeners with an RSA key, of which a
//! signature takes up to 3 ms.
//!
//! A handshake goes to it with what has come, and comes back with what is to be sent. Few are away at one time: who has
//! left meanwhile is not signed for, since those that wait do so with the shard (`under_way.rs`).

use crate::mesh::{Receiver, Sender, Waker, mailbox};
use crate::shard::slab::Handle;
use edgehold_wire::tls::{Established, Failure, Handshake};
use std::io;
use std::sync::{Arc, mpsc};

/// Handshakes that are away at one time: one is signed for while the next ones wait.
const AT_ONCE: usize = 4;

/// How much less than a shard the thread is worth to the scheduler, in steps of nice(2).
const NICE: i32 = 10;

/// What the thread's stack has, in bytes.
const STACK: usize = 256 << 10;

/// What has come of a handshake.
pub(super) type Fed = Result<Option<Established>, Failure>;

/// A handshake on its way to the thread.
struct Step {
    who: Handle,
    number: u32,
    handshake: Box<Handshake>,
    kept: Vec<u8>,
}

/// A handshake on its way back.
pub struct Taken {
    pub(super) who: Handle,
    /// Its number among those under way.
    pub(super) number: u32,
    pub(super) handshake: Box<Handshake>,
    pub(super) fed: Fed,
    /// What is to be sent.
    pub(super) flight: Vec<u8>,
}

impl Taken {
    /// The slot for which it was made.
    pub fn slot(&self) -> u32 {
        self.who.slot
    }
}

/// The shard's end. The thread ends when it is dropped.
pub struct Signer {
    steps: mpsc::SyncSender<Step>,
    taken: Receiver<Taken>,
    away: usize,
}

impl Signer {
    /// Starts the thread of a shard that sleeps by this waker. It may run on any core that the caller may.
    ///
    /// # Errors
    /// As pthread_create(3).
    pub fn start(shard: usize, waker: Arc<Waker>) -> io::Result<Signer> {
        let (steps, to_make) = mpsc::sync_channel(AT_ONCE);
        let (done, taken) = mailbox(AT_ONCE, waker);
        let thread = std::thread::Builder::new().name(format!("signer-{shard}")).stack_size(STACK);
        thread.spawn(move || run(&to_make, done))?;
        Ok(Signer { steps, taken, away: 0 })
    }

    /// It takes another one.
    pub(super) fn has_room(&self) -> bool {
        self.away < AT_ONCE
    }

    /// The thread has ended, by a fault of ours; nothing comes back any more.
    pub(super) fn has_failed(&self) -> bool {
        self.taken.is_abandoned()
    }

    /// Hands a step over; there is room.
    pub(super) fn hand_over(&mut self, who: Handle, number: u32, handshake: Box<Handshake>, kept: Vec<u8>) {
        if self.steps.try_send(Step { who, number, handshake, kept }).is_ok() {
            self.away += 1;
        }
    }

    /// What has come back.
    pub(super) fn take(&mut self) -> Option<Taken> {
        let taken = self.taken.take()?;
        self.away -= 1;
        Some(taken)
    }

    /// Something has come back.
    pub(super) fn has_taken(&self) -> bool {
        !self.taken.is_empty()
    }
}

fn run(steps: &mpsc::Receiver<Step>, mut done: Sender<Taken>) {
    // Where it is refused the thread is worth as much as a shard.
    let _ = rustix::process::nice(NICE);
    for Step { who, number, mut handshake, kept } in steps {
        let mut flight = Vec::new();
        let fed = handshake.feed(&kept, &mut flight);
        // There is room for all that can be away.
        let _ = done.post(Taken { who, number, handshake, fed, flight });
    }
}

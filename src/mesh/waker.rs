//! How a thread that waits is woken for a letter: an eventfd, which is written only while its reader sleeps.
//!
//! The reader announces that it is about to sleep ([`Waker::fall_asleep`]), looks into its mailboxes once more, and
//! waits for the eventfd only if they are empty. A writer puts its letter into the mailbox, and then looks at the
//! announcement ([`Waker::wake`]). Each side has a SeqCst fence between its store and its load (as in Dekker's
//! algorithm), so at least one of them sees what the other has stored: the reader the letter, or the writer the
//! announcement. The first writer that sees it takes it back, so a sleep costs one write(2), however many write.
//! ci/loom runs this file in every order.

use super::atomic::{AtomicBool, Ordering, fence};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::OwnedFd;

/// Wakes one reader; any thread may call [`Waker::wake`].
#[derive(Debug)]
pub struct Waker {
    eventfd: OwnedFd,
    /// The reader sleeps, or is about to, and nobody has woken it yet.
    asleep: AtomicBool,
}

impl Waker {
    /// A waker whose reader is awake. Its eventfd never blocks (EFD_NONBLOCK).
    ///
    /// # Errors
    /// As eventfd(2): no descriptor or no memory free.
    pub fn new() -> io::Result<Waker> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker { eventfd, asleep: AtomicBool::new(false) })
    }

    /// For the writer, after its letter is in the mailbox: writes the eventfd if the reader sleeps and nobody has
    /// written it for this sleep.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        // The load keeps the line shared among writers while the reader is awake. What the letter needs for its own
        // order, its mailbox has.
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.signal();
        }
    }

    /// Writes the eventfd, whether the reader sleeps or not.
    pub fn signal(&self) {
        // EAGAIN, the only error of an eventfd that is open: its counter is at its maximum, so it is readable already.
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }

    /// For the reader, before its last look into its mailboxes: from here on, whoever writes a letter wakes it. It is
    /// awake again when the value is dropped.
    pub fn fall_asleep(&self) -> Asleep<'_> {
        self.asleep.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        Asleep { waker: self }
    }

    /// Reads the eventfd, so that it is readable again only after the next write: how often it was written since the
    /// last time.
    pub fn clear(&self) -> u64 {
        let mut written = [0; 8];
        match rustix::io::read(&self.eventfd, &mut written) {
            Ok(_) => u64::from_ne_bytes(written),
            // EAGAIN: not at all.
            Err(_) => 0,
        }
    }

    /// A second descriptor of the eventfd, for the poller of the reader: readable from a write to [`Waker::clear`].
    ///
    /// # Errors
    /// As dup(2): no descriptor free.
    pub fn reader(&self) -> io::Result<OwnedFd> {
        self.eventfd.try_clone()
    }
}

/// The reader sleeps, or is about to.
#[must_use]
#[derive(Debug)]
pub struct Asleep<'w> {
    waker: &'w Waker,
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        // A writer that comes before this is seen writes an eventfd nobody waits for: the next wait ends at once.
        self.waker.asleep.swap(false, Ordering::Relaxed);
    }
}

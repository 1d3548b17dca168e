//! The waker of a shard, or of the control thread: an eventfd. Any thread may ring it; one reader polls for it, a shard
//! in its ring.

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// An eventfd.
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    /// A waker whose reader polls for it (reads that never block).
    ///
    /// # Errors
    /// No descriptor free.
    pub fn new() -> io::Result<Waker> {
        Ok(Waker(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Wakes the reader, now or when it next listens. Rings add up to one.
    pub fn ring(&self) {
        // A counter at its maximum (EAGAIN) is a waker that rings already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Takes the rings that have come, so that the next read waits for the next one.
    pub fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }

    /// A second descriptor of the same waker, for a reader that wants to own one.
    ///
    /// # Errors
    /// No descriptor free.
    pub fn reader(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

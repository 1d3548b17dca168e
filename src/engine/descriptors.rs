//! Where the sockets of a ring's slots are kept.
//!
//! Direct descriptors, in a table of the ring's own, cost least: no reference is counted for each request. But before
//! Linux 6.13 a file that leaves this table is let go in its turn only, behind every file that left before it and every
//! request on any slot that was in flight by then (`struct io_rsrc_node` in io_uring/rsrc.c; axboe/liburing#1192). One
//! idle client, whose receive or poll is in flight for hours, keeps all sockets that are closed meanwhile: their peers
//! hear neither FIN nor RST, and their memory stays. There the sockets are the process's own descriptors, which close
//! at once and count against its RLIMIT_NOFILE.

use super::probe;
use io_uring::types::{DestinationSlot, Fd, Fixed};
use io_uring::{IoUring, opcode, squeue};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

/// The first kernel that lets a closed direct descriptor go whatever else is in flight.
pub const DIRECT_SINCE: (u32, u32) = (6, 13);

/// The sockets of the slots, by slot.
pub enum Descriptors {
    /// In the ring's table: the slot is the descriptor.
    Direct,
    /// In the process's table.
    Plain(Box<[Option<OwnedFd>]>),
}

impl Descriptors {
    /// Room for `count` sockets, of the kind that suits this kernel.
    ///
    /// # Errors
    /// For direct ones: `count` is above RLIMIT_NOFILE or 1 048 576 (EMFILE), or there is no memory.
    pub fn new(ring: &IoUring, count: u32) -> io::Result<Descriptors> {
        if probe::version() >= DIRECT_SINCE { Descriptors::direct(ring, count) } else { Ok(Descriptors::plain(count)) }
    }

    /// As [`Descriptors::new`], direct ones.
    ///
    /// # Errors
    /// As there.
    pub fn direct(ring: &IoUring, count: u32) -> io::Result<Descriptors> {
        ring.submitter().register_files_sparse(count)?;
        Ok(Descriptors::Direct)
    }

    /// As [`Descriptors::new`], plain ones.
    pub fn plain(count: u32) -> Descriptors {
        Descriptors::Plain((0..count).map(|_| None).collect())
    }

    /// Puts a socket into a slot.
    ///
    /// # Errors
    /// There is no such slot.
    pub fn put(&mut self, ring: &IoUring, slot: u32, socket: OwnedFd) -> io::Result<()> {
        match self {
            Descriptors::Direct => ring.submitter().register_files_update(slot, &[socket.as_raw_fd()]).map(drop),
            Descriptors::Plain(sockets) => {
                let place = sockets.get_mut(slot as usize);
                *place.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))? = Some(socket);
                Ok(())
            }
        }
    }

    /// How a request names the socket of a slot: the number and the entry's flags. In an empty slot the request
    /// completes with EBADF.
    pub fn of(&self, slot: u32) -> (Fd, squeue::Flags) {
        match self {
            Descriptors::Direct => (Fd(slot.cast_signed()), squeue::Flags::FIXED_FILE),
            Descriptors::Plain(sockets) => {
                let socket = sockets.get(slot as usize).and_then(Option::as_ref);
                (Fd(socket.map_or(-1, AsRawFd::as_raw_fd)), squeue::Flags::empty())
            }
        }
    }

    /// An accept that brings its client into a slot, once [`Descriptors::accepted`] was told of its completion.
    pub fn accept(&self, slot: u32, accept: opcode::Accept) -> opcode::Accept {
        match self {
            Descriptors::Direct => accept.file_index(DestinationSlot::try_from_slot_target(slot).ok()),
            Descriptors::Plain(_) => accept.flags(libc::SOCK_CLOEXEC),
        }
    }

    /// The accept into a slot has succeeded with this result.
    pub fn accepted(&mut self, slot: u32, result: u32) {
        if let Descriptors::Plain(sockets) = self {
            // SAFETY: the kernel has just opened this descriptor for an accept of ours, whose completion is read once.
            sockets[slot as usize] = Some(unsafe { OwnedFd::from_raw_fd(result.cast_signed()) });
        }
    }

    /// A request that closes the socket of a slot. The slot is empty from now on, or, where it is direct, from the
    /// completion on.
    pub fn close(&mut self, slot: u32) -> squeue::Entry {
        match self {
            Descriptors::Direct => opcode::Close::new(Fixed(slot)).build(),
            Descriptors::Plain(sockets) => {
                let socket = sockets.get_mut(slot as usize).and_then(Option::take);
                opcode::Close::new(Fd(socket.map_or(-1, IntoRawFd::into_raw_fd))).build()
            }
        }
    }
}

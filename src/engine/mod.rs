//! What a shard asks of the kernel, and what the kernel answers, by io_uring; no protocol and no connection.
//!
//! [`Ring`] is the interface between a shard and the kernel. [`uring::Uring`] implements it by io_uring, and
//! `script::Script` by a simulation from a seed, for tests. An implementation reports what the kernel did and decides
//! nothing.

pub mod buffers;
pub mod claim;
pub mod descriptors;
pub mod files;
pub mod finding;
pub mod mapping;
pub mod privilege;
pub mod probe;
#[cfg(any(test, feature = "script"))]
pub mod script;
pub mod sockets;
pub mod uring;

pub use buffers::Lent;
pub use files::{FileId, FileKind, FileRequest, FileStat, Opening};
use std::ffi::CString;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// An operation of the ring; part of every [`Tag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Operation {
    /// Accept one client of a listener into a slot (IORING_OP_ACCEPT).
    Accept = 1,
    /// Connect to an upstream (IORING_OP_CONNECT).
    Connect,
    /// Receive into provided buffers: all that comes until it is cancelled or ends (multishot IORING_OP_RECV), or the
    /// next buffer of it.
    Recv,
    /// Receive what is there already, one buffer of it (MSG_DONTWAIT).
    RecvOnce,
    /// Report when there is something to receive, or the peer has sent FIN (multishot IORING_OP_POLL_ADD,
    /// edge-triggered).
    Poll,
    /// Send bytes (IORING_OP_SEND, IORING_OP_SENDMSG).
    Send,
    /// Send FIN (IORING_OP_SHUTDOWN, SHUT_WR).
    Shutdown,
    /// Close the slot's descriptor (IORING_OP_CLOSE).
    Close,
    /// End an operation in flight (IORING_OP_ASYNC_CANCEL).
    Cancel,
    /// The shard's clock (IORING_OP_TIMEOUT).
    Tick,
    /// Poll the eventfd of the shard's waker. Of [`uring::Uring`] alone, and never handed to the shard.
    Waker,
    /// Something about a file: the tag's slot is not a connection's, but the caller's own number.
    File,
}

impl Operation {
    const ALL: [Operation; 12] = [
        Operation::Accept,
        Operation::Connect,
        Operation::Recv,
        Operation::RecvOnce,
        Operation::Poll,
        Operation::Send,
        Operation::Shutdown,
        Operation::Close,
        Operation::Cancel,
        Operation::Tick,
        Operation::Waker,
        Operation::File,
    ];

    fn from_number(number: u8) -> Option<Operation> {
        Operation::ALL.get(usize::from(number).wrapping_sub(1)).copied()
    }
}

/// Identifies one operation of one connection: slot (32 bits), generation (24 bits), operation (8 bits). It is the
/// `user_data` of the submission and of its completions.
///
/// A slot is also the index of the direct descriptor in the ring's table, so no map leads from one to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(u64);

impl Tag {
    /// Of `generation`, the lower 24 bits.
    pub fn new(slot: u32, generation: u32, operation: Operation) -> Tag {
        Tag(u64::from(operation as u8) << 56 | u64::from(generation & 0x00ff_ffff) << 32 | u64::from(slot))
    }

    /// The connection's slot, and the index of its direct descriptor.
    pub fn slot(self) -> u32 {
        self.0 as u32
    }

    /// The slot's generation when the operation was submitted.
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & 0x00ff_ffff
    }

    /// The operation; `None`: [`Tag::from_raw`] was given a number that is no tag.
    pub fn operation(self) -> Option<Operation> {
        Operation::from_number((self.0 >> 56) as u8)
    }

    /// The tag of another operation of the same connection.
    #[must_use]
    pub fn of(self, operation: Operation) -> Tag {
        Tag::new(self.slot(), self.generation(), operation)
    }

    /// As `user_data`.
    pub fn to_raw(self) -> u64 {
        self.0
    }

    /// From `user_data`.
    pub fn from_raw(raw: u64) -> Tag {
        Tag(raw)
    }
}

/// A completion: a result of an operation.
#[derive(Debug)]
pub struct Completion {
    /// The operation and its connection.
    pub tag: Tag,
    /// Bytes received or sent, poll events, or zero; or else the errno.
    pub result: Result<u32, i32>,
    /// The operation stays in flight: more completions of this tag will come (IORING_CQE_F_MORE).
    pub more: bool,
    /// The provided buffer that was used, with the bytes received into it. It may come with an error as well (Linux
    /// 6.1).
    pub buffer: Option<Lent>,
    /// The socket had more to receive at that moment (IORING_CQE_F_SOCK_NONEMPTY).
    pub nonempty: bool,
}

/// The address of an upstream or a listener. Displayed as the configuration writes it: `127.0.0.1:80`,
/// `unix:/run/x.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A unix stream socket, by its path.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Bytes to send, or room for those to read. They are the caller's, who must not move, change or free them until the
/// operation has completed.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// The first byte.
    pub start: *const u8,
    /// Number of bytes.
    pub len: usize,
}

/// Pieces of one send, at most.
pub const GATHER: usize = 16;

/// Counters of a ring.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingCounts {
    /// Completions for which the completion queue had no room at once.
    pub cq_overflow: u64,
    /// io_uring_enter(2) calls.
    pub enters: u64,
    /// Submission entries taken by the kernel.
    pub submitted: u64,
    /// Completions of the poll of the waker's eventfd.
    pub wakes: u64,
}

/// What a shard asks of the kernel.
///
/// Operations are queued; [`Ring::turn`] submits them and lets completions come; [`Ring::next`] takes these one by one.
/// Each operation but [`Ring::cancel`] has at least one completion with its tag, the last of them without `more`.
/// Descriptors are direct: the tag's slot is the index in the ring's table, filled by `accept` and `connect`, emptied
/// by `close`. Slots must be below the size of the table.
pub trait Ring {
    /// Accepts the next client of listener number `listener` into the tag's slot. Without effect, and without a
    /// completion, after [`Ring::close_listeners`].
    fn accept(&mut self, tag: Tag, listener: usize);
    /// The address of the client that this accept brought; `None` on a unix listener, for an accept that has not
    /// completed or has failed, and at the second call.
    fn peer(&mut self, tag: Tag) -> Option<SocketAddr>;
    /// Opens a socket, puts it into the tag's slot, and connects it.
    ///
    /// # Errors
    /// The socket could not be made, given its options, or put into the slot; nothing is queued then.
    fn connect(&mut self, tag: Tag, to: &Address) -> io::Result<()>;
    /// Receives all that comes (multishot), until it is cancelled, the peer has sent FIN, or no provided buffer is free
    /// (ENOBUFS). What is there at one moment may take all provided buffers.
    fn recv(&mut self, tag: Tag);
    /// Receives one buffer, waiting for it. It has the tag of a [`Ring::recv`], and is in flight in its place.
    fn recv_next(&mut self, tag: Tag);
    /// Receives one buffer of what is there now; EAGAIN if that is nothing.
    fn recv_once(&mut self, tag: Tag);
    /// Completes whenever something comes, or the peer sends FIN (multishot poll, edge-triggered).
    fn poll(&mut self, tag: Tag);
    /// Sends the pieces in order, at most [`GATHER`] of them, waiting for room in the socket. The result is the number
    /// of bytes that the socket took, which may be less than all.
    ///
    /// # Safety
    /// The bytes must stay where they are, unchanged, until the completion of this tag, or until [`Ring::end`] has
    /// returned `true`.
    unsafe fn send(&mut self, tag: Tag, pieces: &[Piece]);
    /// As [`Ring::send`], but does not wait: what the socket has no room for is not sent; EAGAIN if that is all.
    ///
    /// # Safety
    /// As for [`Ring::send`].
    unsafe fn send_now(&mut self, tag: Tag, pieces: &[Piece]);
    /// Ends operation `tag`, which then completes (with ECANCELED unless it has a result). Has no completion of its
    /// own; without effect where the operation has just completed.
    fn cancel(&mut self, tag: Tag);
    /// Sends FIN behind what was sent.
    fn shutdown(&mut self, tag: Tag);
    /// Closes the slot's descriptor.
    fn close(&mut self, tag: Tag);
    /// Does what is asked about a file if nothing has to be waited for; else `None`, and nothing was done. Meant for
    /// file systems of this machine: others may have to be asked though a name is known.
    ///
    /// # Safety
    /// The files of the request are open, and a folder that a name begins at is. The pieces of a read are the caller's
    /// to be written to.
    unsafe fn file_at_once(&mut self, request: &FileRequest<'_>) -> Option<Result<u32, i32>>;
    /// What is asked about a file, on a thread that may wait for a disk. The tag has operation [`Operation::File`].
    ///
    /// # Safety
    /// As for [`Ring::file_at_once`]; all of it until the completion of this tag.
    unsafe fn file(&mut self, tag: Tag, request: &FileRequest<'_>);
    /// What the kernel knows of an open file, without asking anybody.
    ///
    /// # Errors
    /// The errno.
    ///
    /// # Safety
    /// The file is open.
    unsafe fn file_stat(&mut self, file: FileId) -> Result<FileStat, i32>;
    /// What an open file is called seen from an open folder; `None` where it does not lie below it.
    fn file_name(&mut self, file: FileId, folder: FileId) -> Option<CString>;
    /// One completion of [`Operation::Tick`] after this time.
    fn tick(&mut self, after: Duration);
    /// Submits what is queued, and lets the kernel complete what is ready. Does not wait.
    ///
    /// # Errors
    /// io_uring_enter(2) failed for a reason that does not pass: the shard cannot go on.
    fn turn(&mut self) -> io::Result<()>;
    /// The next completion; `None`: there is none until the next turn.
    fn next(&mut self) -> Option<Completion>;
    /// Number of provided buffers: as many receives can complete in one turn.
    fn buffers(&self) -> usize;
    /// Cancels all operations and waits for the completions of sends, two seconds at most. `true`: the kernel reads
    /// none of the memory of a send any more. `false`: it may, so that memory must stay for as long as the process
    /// lives.
    fn end(&mut self) -> bool;
    /// Closes the listeners; the accepts in flight complete with an error.
    fn close_listeners(&mut self);
    /// The ring's own counters.
    fn counts(&self) -> RingCounts;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An eventfd for rings in tests.
    pub(super) fn waker() -> std::os::fd::OwnedFd {
        rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("an eventfd")
    }

    #[test]
    fn a_tag_keeps_its_parts() {
        for operation in Operation::ALL {
            let tag = Tag::new(u32::MAX - 3, 0x0100_0007, operation);
            assert_eq!((tag.slot(), tag.generation(), tag.operation()), (u32::MAX - 3, 7, Some(operation)));
            assert_eq!(Tag::from_raw(tag.to_raw()), tag);
        }
        assert_eq!(Tag::from_raw(0).operation(), None);
    }
}

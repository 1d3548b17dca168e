//! The kernel, and no meaning: what a shard asks of its io_uring, and what the ring answers.
//!
//! `Ring` is the whole language between a shard and the kernel. It is spoken by [`uring::Uring`] (the real
//! ring) and by `script::Script` (the same language played from a seed, for tests). The engine says what the
//! kernel did and decides nothing: it knows no protocol and no connection.

pub mod buffers;
pub mod claim;
pub mod descriptors;
pub mod files;
pub mod mapping;
pub mod probe;
#[cfg(any(test, feature = "script"))]
pub mod script;
pub mod sockets;
pub mod uring;

pub use buffers::Lent;
pub use files::{FileId, FileKind, FileRequest, FileStat, Opening};
use std::ffi::CString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What is asked of the kernel; part of every [`Tag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Operation {
    /// One client from a listener, into a slot.
    Accept = 1,
    /// A connection to an upstream.
    Connect,
    /// Everything that comes, into provided buffers, until it is cancelled or ends (multishot).
    Recv,
    /// What has come already, once, without waiting.
    RecvOnce,
    /// A word whenever something comes (multishot, edge-triggered).
    Poll,
    /// Bytes to the peer.
    Send,
    /// FIN to the peer.
    Shutdown,
    /// The slot's descriptor is given back.
    Close,
    /// An armed operation is to end.
    Cancel,
    /// The shard's clock.
    Tick,
    /// Another thread has rung the ring's waker. Known to the real ring only.
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

/// Names one operation of one connection: slot (32 bits), generation (24 bits), operation (8 bits).
///
/// A slot is also the number of the direct descriptor, so that one number leads from a completion to the
/// connection and from the connection to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(u64);

impl Tag {
    /// `generation` is taken modulo 2²⁴.
    pub fn new(slot: u32, generation: u32, operation: Operation) -> Tag {
        Tag(u64::from(operation as u8) << 56 | u64::from(generation & 0x00ff_ffff) << 32 | u64::from(slot))
    }

    /// The connection's slot, and its direct descriptor.
    pub fn slot(self) -> u32 {
        self.0 as u32
    }

    /// The slot's generation when the operation was asked for.
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & 0x00ff_ffff
    }

    /// What was asked. `None` for a number that no shard ever sent.
    pub fn operation(self) -> Option<Operation> {
        Operation::from_number((self.0 >> 56) as u8)
    }

    /// The same connection, another operation.
    pub fn of(self, operation: Operation) -> Tag {
        Tag::new(self.slot(), self.generation(), operation)
    }

    /// As the kernel carries it (`user_data`).
    pub fn to_raw(self) -> u64 {
        self.0
    }

    /// From the kernel's `user_data`.
    pub fn from_raw(raw: u64) -> Tag {
        Tag(raw)
    }
}

/// What the kernel did.
#[derive(Debug)]
pub struct Completion {
    /// Which operation of which connection.
    pub tag: Tag,
    /// Bytes, events or zero; or the errno.
    pub result: Result<u32, i32>,
    /// The operation stays armed: more completions of this tag will come.
    pub more: bool,
    /// The provided buffer that was used, with the bytes that came in it. It may come with an error, and with none: it
    /// is the kernel's again when it is dropped, whatever it came with.
    pub buffer: Option<Lent>,
    /// The socket had more to read when this was said (IORING_CQE_F_SOCK_NONEMPTY).
    pub nonempty: bool,
}

/// Where a back end, or a listener, is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A unix stream socket in the file system.
    Unix(PathBuf),
}

/// Bytes to send, or room for those to read. They belong to the caller, who keeps them in place until the operation
/// completes.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// The first byte.
    pub start: *const u8,
    /// How many.
    pub len: usize,
}

/// At most this many pieces go into one send.
pub const GATHER: usize = 16;

/// Counters of the ring itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingCounts {
    /// Completions for which the completion queue had no room at once.
    pub cq_overflow: u64,
    /// io_uring_enter(2) calls.
    pub enters: u64,
    /// Submission entries taken by the kernel.
    pub submitted: u64,
}

/// What a shard may ask of the kernel.
///
/// Requests are queued; [`Ring::turn`] hands them over and lets completions come; [`Ring::next`] takes them
/// one by one. Each request but [`Ring::cancel`] is answered by at least one completion that bears its tag,
/// the last of them without `more`. Descriptors are direct: the slot in the tag is the index in the ring's
/// table, filled by `accept` and `connect`, emptied by `close`.
pub trait Ring {
    /// Waits for one client of listener number `listener` and puts it into the tag's slot.
    fn accept(&mut self, tag: Tag, listener: usize);
    /// The address of the client that this accept brought; `None` on a unix listener, for an accept that has not
    /// completed, and when it is asked for again.
    fn peer(&mut self, tag: Tag) -> Option<SocketAddr>;
    /// Opens a socket in the tag's slot and connects it.
    ///
    /// # Errors
    /// The socket could not even be made; nothing is queued then, and the slot is empty.
    fn connect(&mut self, tag: Tag, to: &Address) -> io::Result<()>;
    /// Everything that comes (multishot recv). One wake may bring as many bytes as there are provided buffers.
    fn recv(&mut self, tag: Tag);
    /// What comes next, one buffer of it (a recv that waits and ends with its first completion). Bears the tag of
    /// [`Ring::recv`], and takes its place.
    fn recv_next(&mut self, tag: Tag);
    /// What is there now; EAGAIN if that is nothing.
    fn recv_once(&mut self, tag: Tag);
    /// A word when something comes (multishot poll).
    fn poll(&mut self, tag: Tag);
    /// Sends the pieces in order, at most [`GATHER`] of them; may send less than all of it.
    ///
    /// # Safety
    /// The bytes must stay where they are, unchanged, until the completion of this tag.
    unsafe fn send(&mut self, tag: Tag, pieces: &[Piece]);
    /// As [`Ring::send`], but does not wait: what the socket has no room for is not sent (EAGAIN, if that is all).
    ///
    /// # Safety
    /// As for [`Ring::send`].
    unsafe fn send_now(&mut self, tag: Tag, pieces: &[Piece]);
    /// Ends the armed operation `tag`, which then completes (ECANCELED if nothing else). Has no completion
    /// of its own; without effect when the operation has just ended by itself.
    fn cancel(&mut self, tag: Tag);
    /// Sends FIN after what was sent.
    fn shutdown(&mut self, tag: Tag);
    /// Gives the slot's descriptor back.
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
    /// One completion of operation `Tick` after this time.
    fn tick(&mut self, after: Duration);
    /// Hands over what was asked, lets the kernel do what it has ready.
    ///
    /// # Errors
    /// The ring itself failed: the shard cannot go on.
    fn turn(&mut self) -> io::Result<()>;
    /// The next completion.
    fn next(&mut self) -> Option<Completion>;
    /// Provided buffers that there are: so many receives can be answered in one turn.
    fn buffers(&self) -> usize;
    /// Ends everything that is in flight and waits, within a bound, until the kernel has let go of it. `false`: it has
    /// not, and what sends point to must stay where it is for as long as the process lives.
    fn end(&mut self) -> bool;
    /// Clients are no longer waited for; the accepts in flight complete with an error.
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

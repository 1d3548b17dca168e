//! The real ring: one io_uring per shard, used by that shard's thread only.
//!
//! Set up with SINGLE_ISSUER and DEFER_TASKRUN: the kernel does its share of the work only inside
//! [`Ring::turn`], so that a shard is never interrupted in the middle of a message. Everything that a
//! submission points to is copied by the kernel when it takes the entry (IORING_FEAT_SUBMIT_STABLE), but for
//! the bytes to send or to read, which the caller keeps, and an accept's address, which is kept here.

use super::buffers::{self, Buffers, Memory};
use super::descriptors::Descriptors;
use super::{
    Address, Completion, FileId, FileRequest, FileStat, GATHER, Operation, Piece, Ring, RingCounts, Tag, files, sockets,
};
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use socket2::{SockAddr, SockAddrStorage, Socket};
use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

const ENTER_GETEVENTS: u32 = 1;

/// How long the kernel may take to let go of sends and reads when the ring ends.
const END: Duration = Duration::from_secs(2);

/// Something to read, or the peer has ended its side.
const POLL_EVENTS: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;

/// How large a ring is.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Entries of the direct-descriptor table: at most RLIMIT_NOFILE and 1 048 576.
    pub table: u32,
    /// Provided buffers, a power of two.
    pub buffers: u16,
    /// Bytes of each of them.
    pub buffer_bytes: u32,
    /// Bytes that the kernel takes for an upstream beyond those in flight; 0: as it likes.
    pub unsent_bytes: u32,
    /// How long an upstream may be silent before the kernel gives it up; zero: as it likes.
    pub silence: Duration,
    /// Requests about files that may wait for a disk at one time.
    pub files: u32,
}

impl Setup {
    /// Submission entries between two turns; more of them cost one enter more, nothing else.
    const SUBMISSIONS: u32 = 1024;
    /// Completions that wait for the shard; several times the submissions, since multishots answer often.
    const COMPLETIONS: u32 = 4 * Setup::SUBMISSIONS;
    /// Worker threads for what cannot be done inline (shutdown is handed to one): bounded and unbounded work. What is
    /// asked about files is bounded work: each that waits has a thread of its own, and shutdowns have one besides.
    fn workers(&self) -> [u32; 2] {
        [1 + self.files, 2]
    }
}

/// One io_uring and all that the kernel may read or write on its behalf.
///
/// The order of the fields is the order of their end: the ring first, then what it used.
pub struct Uring {
    ring: IoUring,
    descriptors: Descriptors,
    buffers: Buffers,
    listeners: Vec<Socket>,
    unsent_bytes: u32,
    silence: Duration,
    #[allow(clippy::vec_box, reason = "the kernel writes to these addresses while the vector grows")]
    waiting: Vec<Box<Waiting>>,
    until_submitted: Scratch,
    /// Entries for which the submission queue had no room. They go in at the next turn, in order, and what they point
    /// to stays in `until_submitted`: nothing is submitted between two turns, in the middle of building an entry.
    overflow: VecDeque<squeue::Entry>,
    /// An eventfd that other threads write to end a [`Uring::wait`].
    waker: OwnedFd,
    /// The errno with which the waker's poll has failed.
    waker_error: Option<i32>,
    /// Sends, and requests about files in flight: the kernel may read or write what they point to.
    lent: u32,
    /// Where the kernel puts what it was asked to find out anew ([`FileRequest::Refresh`]). Nobody reads it: once it is
    /// known, the kernel is asked what it knows.
    refreshed: Box<MaybeUninit<libc::statx>>,
    counts: RingCounts,
}

/// An accept in flight, and the place where the kernel writes the client's address.
struct Waiting {
    /// Whose it is; `None`: it can be used for the next.
    tag: Option<Tag>,
    /// The accept has completed: the kernel writes no more.
    done: bool,
    storage: SockAddrStorage,
    len: libc::socklen_t,
}

/// What queued submissions point to until the kernel has taken them.
#[allow(clippy::vec_box, reason = "submissions point into these while the vectors grow")]
#[derive(Default)]
struct Scratch {
    gathers: Vec<Box<Gather>>,
    gathers_used: usize,
    addresses: Vec<Box<SockAddr>>,
    timespec: Box<Timespec>,
}

struct Gather {
    head: libc::msghdr,
    pieces: [libc::iovec; GATHER],
}

impl Uring {
    /// Builds the ring on the calling thread, which must be the shard's own. A write to `waker`, an eventfd, ends its
    /// [`Uring::wait`].
    ///
    /// # Errors
    /// What the kernel refuses; `probe.rs` puts words to it.
    pub fn new(setup: Setup, waker: OwnedFd, listeners: Vec<Socket>) -> io::Result<Uring> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(Setup::COMPLETIONS)
            .build(Setup::SUBMISSIONS)?;
        let descriptors = Descriptors::new(&ring, setup.table)?;
        ring.submitter().register_iowq_max_workers(&mut setup.workers())?;
        // SAFETY: `Uring` drops its ring before its buffers: that is the order of its fields.
        let buffers = unsafe { Buffers::lend_to(&ring, setup.buffers, setup.buffer_bytes)? };
        let (waiting, until_submitted, counts) = Default::default();
        let overflow = VecDeque::new();
        let Setup { unsent_bytes, silence, .. } = setup;
        let mut uring = Uring {
            ring,
            descriptors,
            buffers,
            listeners,
            unsent_bytes,
            silence,
            waiting,
            until_submitted,
            overflow,
            waker,
            waker_error: None,
            lent: 0,
            refreshed: Box::new(MaybeUninit::uninit()),
            counts,
        };
        uring.poll_waker();
        Ok(uring)
    }

    /// A multishot poll is edge-triggered and each write of an eventfd is an edge, so the eventfd is never read.
    fn poll_waker(&mut self) {
        let entry = opcode::PollAdd::new(Fd(self.waker.as_raw_fd()), libc::POLLIN as u32).multi(true).build();
        self.push(&entry.user_data(Tag::new(0, 0, Operation::Waker).to_raw()));
    }

    /// Submits what is queued and waits until there is a completion or the waker's eventfd is written, and, where a
    /// time is given, so long at most.
    ///
    /// # Errors
    /// As [`Ring::turn`].
    pub fn wait(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        self.buffers.offer_free();
        if !self.overflow.is_empty() || !self.ring.completion().is_empty() {
            return self.submit();
        }
        self.check_waker()?;
        self.counts.enters += 1;
        let waited = match at_most.map(Timespec::from) {
            None => self.ring.submitter().submit_and_wait(1),
            Some(time) => self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time)),
        };
        if self.ring.submission().is_empty() {
            self.until_submitted.reset();
        }
        match waited {
            Ok(taken) => self.counts.submitted += taken as u64,
            Err(error) if error.raw_os_error() != Some(libc::ETIME) && !is_passing(&error) => return Err(error),
            Err(_) => {}
        }
        Ok(())
    }

    /// The waker's poll has completed: somebody wrote the eventfd, or the poll has failed.
    fn woken(&mut self, completion: &Completion) {
        match completion.result {
            Ok(_) => self.counts.wakes += 1,
            Err(errno) => self.waker_error = Some(errno),
        }
        if completion.result.is_ok() && !completion.more {
            self.poll_waker();
        }
    }

    /// No letter would end a wait once the waker's poll has failed.
    fn check_waker(&self) -> io::Result<()> {
        self.waker_error.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    /// Connects a socket of the caller's making, from then on the tag's slot. As [`Ring::connect`], for those who
    /// choose options and source address themselves.
    ///
    /// # Errors
    /// The table has no such slot; nothing is queued then.
    pub fn connect_socket(&mut self, tag: Tag, socket: Socket, to: SockAddr) -> io::Result<()> {
        self.descriptors.put(&self.ring, tag.slot(), socket.into())?;
        let address = Box::new(to);
        let (start, len) = (address.as_ptr().cast(), address.len());
        self.until_submitted.addresses.push(address);
        self.push_on_socket(tag, |fd| opcode::Connect::new(fd, start, len).build());
        Ok(())
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: what the entry points to lives until it is submitted (`until_submitted`), until it completes
        // (`waiting`, provided buffers), or is the caller's promise (`send`).
        if !self.overflow.is_empty() || unsafe { self.ring.submission().push(entry) }.is_err() {
            self.overflow.push_back(entry.clone());
        }
    }

    /// A request for the socket of the tag's slot.
    fn push_on_socket(&mut self, tag: Tag, request: impl FnOnce(Fd) -> squeue::Entry) {
        let (fd, flags) = self.descriptors.of(tag.slot());
        self.push(&request(fd).flags(flags).user_data(tag.to_raw()));
    }

    /// Submits everything that is queued, as long as the kernel takes it, and runs deferred work.
    fn submit(&mut self) -> io::Result<()> {
        loop {
            self.queue_overflow();
            let taken = self.enter()?;
            if self.ring.submission().is_empty() && self.overflow.is_empty() {
                self.until_submitted.reset();
                return Ok(());
            }
            if taken == 0 {
                return Ok(());
            }
        }
    }

    fn queue_overflow(&mut self) {
        while let Some(entry) = self.overflow.front() {
            // SAFETY: as in `push`.
            if unsafe { self.ring.submission().push(entry) }.is_err() {
                return;
            }
            self.overflow.pop_front();
        }
    }

    /// One io_uring_enter; the number of entries taken.
    fn enter(&mut self) -> io::Result<usize> {
        let queued = self.ring.submission().len() as u32;
        // SAFETY: no argument struct is passed.
        let taken = unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, ENTER_GETEVENTS, None) };
        self.counts.enters += 1;
        match taken {
            Ok(taken) => {
                self.counts.submitted += taken as u64;
                Ok(taken)
            }
            Err(error) if is_passing(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn place_for_address(&mut self, slot: u32) -> &mut Waiting {
        // One that is in flight is the kernel's, whatever slot it is for.
        let free = |it: &Waiting| it.tag.is_none_or(|tag| it.done && tag.slot() == slot);
        let place = self.waiting.iter().position(|it| free(it)).unwrap_or_else(|| {
            let storage = SockAddrStorage::zeroed();
            self.waiting.push(Box::new(Waiting { tag: None, done: false, storage, len: 0 }));
            self.waiting.len() - 1
        });
        &mut self.waiting[place]
    }

    /// The client is in its slot. The kernel writes no more of this accept's address; a failed one has none.
    fn accept_done(&mut self, completion: &mut Completion) {
        if let Ok(result) = &mut completion.result {
            self.descriptors.accepted(completion.tag.slot(), std::mem::take(result));
        }
        let place = self.waiting.iter_mut().find(|it| it.tag == Some(completion.tag));
        let Some(place) = place else { return };
        place.done = true;
        place.tag = place.tag.filter(|_| completion.result.is_ok());
    }
}

/// The kernel is short of something for a moment, or a signal came: the next turn tries again.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

impl Scratch {
    fn reset(&mut self) {
        self.gathers_used = 0;
        self.addresses.clear();
    }

    /// As an array of `iovec`, as many as there are pieces.
    fn places(&mut self, pieces: &[Piece]) -> *const libc::iovec {
        self.gather(pieces);
        self.gathers[self.gathers_used - 1].pieces.as_ptr()
    }

    fn gather(&mut self, pieces: &[Piece]) -> *const libc::msghdr {
        if self.gathers_used == self.gathers.len() {
            self.gathers.push(Gather::empty());
        }
        self.gathers_used += 1;
        self.gathers[self.gathers_used - 1].fill(pieces)
    }
}

impl Gather {
    fn empty() -> Box<Gather> {
        let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: msghdr is plain numbers and pointers, for which zero is valid.
        Box::new(Gather { head: unsafe { std::mem::zeroed() }, pieces: [nothing; GATHER] })
    }

    fn fill(&mut self, pieces: &[Piece]) -> *const libc::msghdr {
        for (place, piece) in self.pieces.iter_mut().zip(pieces) {
            *place = libc::iovec { iov_base: piece.start.cast_mut().cast(), iov_len: piece.len };
        }
        self.head.msg_iov = self.pieces.as_mut_ptr();
        self.head.msg_iovlen = pieces.len().min(GATHER);
        &raw const self.head
    }
}

impl Uring {
    /// One buffer of what comes.
    fn push_recv(&mut self, tag: Tag, flags: i32) {
        let size = self.buffers.memory().size();
        self.push_on_socket(tag, |fd| {
            let recv = opcode::Recv::new(fd, std::ptr::null_mut(), size).flags(flags).buf_group(buffers::GROUP);
            recv.build().flags(squeue::Flags::BUFFER_SELECT)
        });
    }

    fn cancel_all(&mut self) {
        let all = CancelBuilder::any().all();
        let entry = opcode::AsyncCancel2::new(all).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(&entry.user_data(Tag::new(0, 0, Operation::Cancel).to_raw()));
    }

    fn push_send(&mut self, tag: Tag, pieces: &[Piece], flags: i32) {
        self.lent += 1;
        match pieces {
            [one] => {
                self.push_on_socket(tag, |fd| opcode::Send::new(fd, one.start, one.len as u32).flags(flags).build());
            }
            many => {
                let head = self.until_submitted.gather(many);
                self.push_on_socket(tag, |fd| opcode::SendMsg::new(fd, head).flags(flags.cast_unsigned()).build());
            }
        }
    }
}

impl Ring for Uring {
    fn accept(&mut self, tag: Tag, listener: usize) {
        let Some(fd) = self.listeners.get(listener).map(|it| Fd(it.as_raw_fd())) else { return };
        let place = self.place_for_address(tag.slot());
        (place.tag, place.done) = (Some(tag), false);
        place.len = place.storage.size_of();
        let (address, len) = (&raw mut place.storage, &raw mut place.len);
        let accept = self.descriptors.accept(tag.slot(), opcode::Accept::new(fd, address.cast(), len));
        self.push(&accept.build().user_data(tag.to_raw()));
    }

    fn peer(&mut self, tag: Tag) -> Option<SocketAddr> {
        let place = self.waiting.iter_mut().find(|it| it.done && it.tag == Some(tag))?;
        place.tag = None;
        let storage = std::mem::replace(&mut place.storage, SockAddrStorage::zeroed());
        // SAFETY: the kernel has filled the first `len` bytes of the storage: the accept has completed (`done`).
        unsafe { SockAddr::new(storage, place.len) }.as_socket()
    }

    fn connect(&mut self, tag: Tag, to: &Address) -> io::Result<()> {
        let (socket, address) = sockets::for_connect(to, self.unsent_bytes, self.silence)?;
        self.connect_socket(tag, socket, address)
    }

    fn recv(&mut self, tag: Tag) {
        self.push_on_socket(tag, |fd| opcode::RecvMulti::new(fd, buffers::GROUP).build());
    }

    fn recv_next(&mut self, tag: Tag) {
        self.push_recv(tag, 0);
    }

    fn recv_once(&mut self, tag: Tag) {
        self.push_recv(tag, libc::MSG_DONTWAIT);
    }

    fn poll(&mut self, tag: Tag) {
        self.push_on_socket(tag, |fd| opcode::PollAdd::new(fd, POLL_EVENTS).multi(true).build());
    }

    unsafe fn send(&mut self, tag: Tag, pieces: &[Piece]) {
        self.push_send(tag, pieces, libc::MSG_NOSIGNAL);
    }

    unsafe fn send_now(&mut self, tag: Tag, pieces: &[Piece]) {
        self.push_send(tag, pieces, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT);
    }

    fn cancel(&mut self, tag: Tag) {
        let entry = opcode::AsyncCancel::new(tag.to_raw()).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(&entry.user_data(tag.of(Operation::Cancel).to_raw()));
    }

    fn shutdown(&mut self, tag: Tag) {
        self.push_on_socket(tag, |fd| opcode::Shutdown::new(fd, libc::SHUT_WR).build());
    }

    fn close(&mut self, tag: Tag) {
        let entry = self.descriptors.close(tag.slot());
        self.push(&entry.user_data(tag.to_raw()));
    }

    unsafe fn file_at_once(&mut self, request: &FileRequest<'_>) -> Option<Result<u32, i32>> {
        // SAFETY: the caller's promise is the same.
        unsafe { files::at_once(request) }
    }

    unsafe fn file(&mut self, tag: Tag, request: &FileRequest<'_>) {
        self.lent += 1;
        let entry = match *request {
            FileRequest::Open { from, name, opening } => {
                opcode::OpenAt2::new(Fd(from.map_or(libc::AT_FDCWD, |it| it.0)), name.as_ptr(), opening.open_how())
                    .build()
            }
            FileRequest::Refresh(file) => {
                opcode::Statx::new(Fd(file.0), c"".as_ptr(), self.refreshed.as_mut_ptr().cast())
                    .flags(libc::AT_EMPTY_PATH)
                    .mask(libc::STATX_BASIC_STATS)
                    .build()
            }
            FileRequest::Read { file, at, into } => {
                let places = self.until_submitted.places(into);
                opcode::Readv::new(Fd(file.0), places, into.len().min(GATHER) as u32).offset(at).build()
            }
            FileRequest::Close(file) => opcode::Close::new(Fd(file.0)).build(),
        };
        // Without ASYNC a read of a file that was opened with O_NONBLOCK answers EAGAIN on some file systems, and what
        // is tried inline first may wait all the same where another machine or a daemon has to be asked.
        self.push(&entry.flags(squeue::Flags::ASYNC).user_data(tag.to_raw()));
    }

    unsafe fn file_stat(&mut self, file: FileId) -> Result<FileStat, i32> {
        // SAFETY: the caller's promise is the same.
        unsafe { files::stat(file) }
    }

    fn file_name(&mut self, file: FileId, folder: FileId) -> Option<CString> {
        files::name_below(file, folder)
    }

    fn tick(&mut self, after: Duration) {
        *self.until_submitted.timespec = after.into();
        let entry = opcode::Timeout::new(&raw const *self.until_submitted.timespec).build();
        self.push(&entry.user_data(Tag::new(0, 0, Operation::Tick).to_raw()));
    }

    fn turn(&mut self) -> io::Result<()> {
        self.buffers.offer_free();
        let (nothing_queued, work_waits, overflow) = {
            let queue = self.ring.submission();
            (queue.is_empty() && self.overflow.is_empty(), queue.taskrun(), queue.cq_overflow())
        };
        self.counts.cq_overflow += u64::from(overflow);
        if nothing_queued && !work_waits && !overflow { Ok(()) } else { self.submit() }
    }

    fn next(&mut self) -> Option<Completion> {
        loop {
            let mut completion = from_kernel(&self.ring.completion().next()?, self.buffers.memory());
            match completion.tag.operation() {
                Some(Operation::Send | Operation::File) => self.lent -= 1,
                Some(Operation::Accept) => self.accept_done(&mut completion),
                _ => {}
            }
            if completion.tag.operation() != Some(Operation::Waker) {
                return Some(completion);
            }
            self.woken(&completion);
        }
    }

    fn buffers(&self) -> usize {
        self.buffers.count()
    }

    fn end(&mut self) -> bool {
        let begun = Instant::now();
        self.cancel_all();
        while self.lent > 0 && begun.elapsed() < END {
            if self.submit().is_err() {
                return false;
            }
            while self.next().is_some() {}
            std::thread::yield_now();
        }
        self.lent == 0
    }

    fn close_listeners(&mut self) {
        let in_flight: Vec<Tag> = self.waiting.iter().filter_map(|it| it.tag).collect();
        in_flight.into_iter().for_each(|tag| self.cancel(tag));
        self.listeners.clear();
    }

    fn counts(&self) -> RingCounts {
        self.counts
    }
}

fn from_kernel(entry: &cqueue::Entry, memory: &Rc<Memory>) -> Completion {
    let (result, flags) = (u32::try_from(entry.result()).map_err(|_| -entry.result()), entry.flags());
    let buffer = cqueue::buffer_select(flags);
    Completion {
        tag: Tag::from_raw(entry.user_data()),
        result,
        more: cqueue::more(flags),
        buffer: buffer.map(|id| memory.take(id, result.unwrap_or(0) as usize)),
        nonempty: cqueue::sock_nonempty(flags),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener as Far, TcpStream};

    const SETUP: Setup =
        Setup { table: 16, buffers: 2, buffer_bytes: 512, unsent_bytes: 0, silence: Duration::ZERO, files: 4 };

    fn ring() -> Uring {
        Uring::new(SETUP, crate::engine::tests::waker(), Vec::new()).expect("a ring")
    }

    /// Fills the submission queue to the brim with what does nothing.
    fn fill(ring: &mut Uring) {
        (0..Setup::SUBMISSIONS).for_each(|_| ring.cancel(Tag::new(15, 9, Operation::Recv)));
    }

    fn turn_until(ring: &mut Uring, wanted: usize) {
        let (mut seen, begun) = (0, std::time::Instant::now());
        while seen < wanted {
            assert!(begun.elapsed() < Duration::from_secs(10), "{seen} of {wanted} completions");
            ring.turn().expect("a turn");
            while let Some(completion) = ring.next() {
                seen += usize::from(completion.tag.operation() != Some(Operation::Cancel));
            }
        }
    }

    /// Written before the wait, in it, and again: no write is lost, and none is needed twice.
    #[test]
    fn the_waker_ends_a_wait() {
        let waker = crate::engine::tests::waker();
        let other = waker.try_clone().expect("a descriptor");
        let mut ring = Uring::new(SETUP, waker, Vec::new()).expect("a ring");
        let write = move || rustix::io::write(&other, &1u64.to_ne_bytes()).expect("a write of the eventfd");
        for _ in 0..3 {
            write();
            ring.wait(None).expect("a wait that the waker ends");
            assert!(ring.next().is_none(), "the waker's completions are not handed to the shard");
        }
        let begun = std::time::Instant::now();
        ring.wait(Some(Duration::from_millis(30))).expect("a wait that ends by itself");
        assert!(begun.elapsed() >= Duration::from_millis(30), "nobody wrote the eventfd");
        let sleeper = rustix::thread::gettid().as_raw_nonzero();
        let later = std::thread::spawn(move || {
            let stat = || std::fs::read_to_string(format!("/proc/self/task/{sleeper}/stat")).expect("its state");
            while !stat().contains(") S ") {
                std::thread::yield_now();
            }
            write()
        });
        ring.wait(None).expect("a wait that the waker ends");
        later.join().expect("the writer");
    }

    /// A connection of slot 0 to `far`, both ends with small buffers.
    fn connected(ring: &mut Uring, far: &Far) -> (Socket, TcpStream) {
        socket2::SockRef::from(far).set_recv_buffer_size(16 << 10).expect("a size");
        let to = Address::Tcp(far.local_addr().expect("an address"));
        let (socket, address) = sockets::for_connect(&to, 0, Duration::ZERO).expect("a socket");
        socket.set_send_buffer_size(16 << 10).expect("a size");
        let same = socket.try_clone().expect("a descriptor");
        ring.connect_socket(Tag::new(0, 1, Operation::Connect), socket, address).expect("a slot");
        turn_until(ring, 1);
        (same, far.accept().expect("a connection").0)
    }

    /// Completions that have come, those of cancels left out.
    fn completions(ring: &mut Uring) -> usize {
        ring.turn().expect("a turn");
        std::iter::from_fn(|| ring.next()).filter(|it| it.tag.operation() != Some(Operation::Cancel)).count()
    }

    /// Sends the bytes from slot 0 until the kernel has taken a send that it cannot go on with.
    fn send_until_it_waits(ring: &mut Uring, socket: &Socket, bytes: &[u8]) {
        let (front, back) = bytes.split_at(bytes.len() / 2);
        let pieces = [front, back].map(|it| Piece { start: it.as_ptr(), len: it.len() });
        for _ in 0..1000 {
            while socket.send_with_flags(bytes, libc::MSG_DONTWAIT).is_ok() {}
            // SAFETY: the caller keeps the bytes as they are until the send has completed, or `end` has returned
            // `true`.
            unsafe { ring.send(Tag::new(0, 1, Operation::Send), &pieces) };
            if completions(ring) + completions(ring) == 0 {
                return;
            }
        }
        panic!("a socket that nobody reads takes whatever is sent");
    }

    #[test]
    fn the_end_lets_go_of_a_send_that_waits() {
        let (mut ring, far) = (ring(), Far::bind("127.0.0.1:0").expect("a listener"));
        let (socket, mut far) = connected(&mut ring, &far);
        ring.recv(Tag::new(0, 1, Operation::Recv));
        let mut bytes = vec![b'a'; 1 << 20];
        send_until_it_waits(&mut ring, &socket, &bytes);
        assert_eq!(ring.lent, 1);
        let begun = Instant::now();
        assert!(ring.end() && begun.elapsed() < END);
        assert_eq!(ring.lent, 0);
        // The memory is ours again: nothing of this may be sent, however much room there is from now on.
        bytes.fill(b'b');
        far.set_nonblocking(true).expect("a flag");
        let mut came = Vec::new();
        for _ in 0..100 {
            let _ = far.read_to_end(&mut came);
            assert_eq!(completions(&mut ring), 0);
        }
        far.write_all(b"nobody receives this").expect("room in a socket");
        assert_eq!(completions(&mut ring), 0, "the receive has ended as well");
        socket.shutdown(std::net::Shutdown::Write).expect("a connection");
        far.set_nonblocking(false).expect("a flag");
        far.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
        far.read_to_end(&mut came).expect("all that was sent, and the end");
        assert!(!came.is_empty() && came.iter().all(|byte| *byte == b'a'));
    }

    #[test]
    fn the_end_does_not_wait_for_what_has_no_memory_of_the_callers() {
        let (mut ring, far) = (ring(), Far::bind("127.0.0.1:0").expect("a listener"));
        assert!(ring.end(), "nothing is in flight");
        let _ends = connected(&mut ring, &far);
        ring.recv(Tag::new(0, 1, Operation::Recv));
        assert_eq!(completions(&mut ring), 0);
        assert!(ring.end());
    }

    /// A ring with one listener, and its address.
    fn listening() -> (Uring, SocketAddr) {
        let options = sockets::Options { backlog: 8, ..Default::default() };
        let listener = sockets::listen(&Address::Tcp(([127, 0, 0, 1], 0).into()), options).expect("a listener");
        let address = listener.local_addr().ok().and_then(|it| it.as_socket()).expect("its address");
        (Uring::new(SETUP, crate::engine::tests::waker(), vec![listener]).expect("a ring"), address)
    }

    /// A client in a slot, which it has by an accept.
    fn client(ring: &mut Uring, address: SocketAddr, slot: u32) -> TcpStream {
        ring.accept(Tag::new(slot, 1, Operation::Accept), 0);
        let client = TcpStream::connect(address).expect("a listener");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("a read timeout");
        turn_until(ring, 1);
        client
    }

    /// Whoever is closed hears it while others are waited for since before, whether his slot came by an accept or by a
    /// connect; the slot can be used again.
    fn closed_beside_the_idle((mut ring, address): (Uring, SocketAddr)) {
        let _idle = client(&mut ring, address, 0);
        ring.poll(Tag::new(0, 1, Operation::Poll));
        let far = Far::bind("127.0.0.1:0").expect("a listener");
        for _ in 0..3 {
            let came = client(&mut ring, address, 1);
            let to = Address::Tcp(far.local_addr().expect("an address"));
            ring.connect(Tag::new(2, 1, Operation::Connect), &to).expect("a socket");
            turn_until(&mut ring, 1);
            let called = far.accept().expect("the call").0;
            called.set_read_timeout(Some(Duration::from_secs(10))).expect("a read timeout");
            for (slot, mut peer) in [(1, came), (2, called)] {
                ring.close(Tag::new(slot, 1, Operation::Close));
                turn_until(&mut ring, 1);
                assert_eq!(peer.read(&mut [0]).expect("FIN in time"), 0);
            }
        }
    }

    #[test]
    fn who_is_closed_hears_it_though_others_are_idle() {
        closed_beside_the_idle(listening());
    }

    /// As on kernels that let direct descriptors go late.
    #[test]
    fn plain_descriptors_do_as_direct_ones() {
        let (mut ring, address) = listening();
        ring.descriptors = Descriptors::plain(SETUP.table);
        closed_beside_the_idle((ring, address));
    }

    /// A full queue must not let one entry's message or address become another's.
    #[test]
    fn what_an_entry_points_to_outlives_a_full_queue() {
        let mut ring = ring();
        let fars = [0, 1].map(|_| Far::bind("127.0.0.1:0").expect("a listener"));
        fill(&mut ring);
        for (slot, far) in (0..).zip(&fars) {
            let to = Address::Tcp(far.local_addr().expect("an address"));
            ring.connect(Tag::new(slot, 1, Operation::Connect), &to).expect("a socket");
        }
        turn_until(&mut ring, 2);
        let mut ends = fars.map(|far| far.accept().expect("one connection each").0);
        let words = [*b"for the first end ", *b"for the second end"];
        fill(&mut ring);
        for (slot, said) in (0..).zip(&words) {
            let (front, back) = said.split_at(5);
            let pieces = [front, back].map(|it| Piece { start: it.as_ptr(), len: it.len() });
            // SAFETY: `words` lives to the end of the test.
            unsafe { ring.send(Tag::new(slot, 1, Operation::Send), &pieces) };
        }
        turn_until(&mut ring, 2);
        for (end, said) in ends.iter_mut().zip(&words) {
            let mut heard = [0; 18];
            end.read_exact(&mut heard).expect("eighteen bytes");
            assert_eq!(&heard, said);
        }
    }
}

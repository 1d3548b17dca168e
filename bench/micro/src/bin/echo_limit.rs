//! The limit for an echo: TCP over a bare io_uring, without WebSocket, slab, services or limits.
//!
//! One thread, one ring (SINGLE_ISSUER, DEFER_TASKRUN), direct descriptors. Multishot accept and multishot recv; what
//! recv wrote into a provided buffer is sent from that very buffer, which goes back to the kernel when the send has
//! ended. Nothing is copied and nothing is allocated per message. Per connection one send is in flight; what comes
//! meanwhile waits in order, as a list of buffer numbers, and the next send gathers it. So what remains is the kernel's
//! TCP, one entry submitted and two completions taken per message.
//!
//! It is a yardstick and no server: a peer that sends and never reads may take all buffers, and everyone waits.

use clap::Parser;
use edgehold_micro::pin;
use edgehold_micro::provided::Provided;
use io_uring::types::{Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// Echoes TCP on one core, as fast as the kernel lets it.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    address: SocketAddr,
    /// The core to run on.
    #[arg(long)]
    core: Option<usize>,
    /// Receive buffers, a power of two up to 32768.
    #[arg(long, default_value_t = 1024, value_parser = buffer_count)]
    buffers: u16,
    /// Bytes of one receive buffer.
    #[arg(long, default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    buffer_bytes: u32,
    /// Connections at once, at most the limit of open files; the kernel cuts off those beyond.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    connections: u32,
}

fn buffer_count(text: &str) -> Result<u16, String> {
    let count = text.parse().map_err(|_| "not a number".to_owned())?;
    let fits = u16::is_power_of_two(count) && count <= 1 << 15;
    if fits { Ok(count) } else { Err("not a power of two up to 32768".to_owned()) }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    arguments.core.map_or(Ok(()), pin)?;
    let signals = signals()?;
    let listener = listen(arguments.address)?;
    let address = listener.local_addr()?.as_socket().ok_or("the listener has no address")?;
    let mut echo = Echo::new(&arguments, listener, &signals)?;
    println!("listening on {address}");
    Ok(echo.run()?)
}

/// Readable after SIGTERM or SIGINT.
fn signals() -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    for signal in [libc::SIGTERM, libc::SIGINT] {
        signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
    }
    Ok(ours)
}

/// Accepted sockets inherit TCP_NODELAY from the listener.
fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket)
}

// ---- what a completion belongs to ----

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
enum Operation {
    Signal,
    Accept,
    Recv,
    Send,
    Close,
}

impl Operation {
    /// Names a completion: the operation above the slot.
    const fn on(self, slot: u32) -> u64 {
        (self as u64) << 32 | slot as u64
    }

    const fn of(user_data: u64) -> (Operation, u32) {
        let operation = match user_data >> 32 {
            0 => Operation::Signal,
            1 => Operation::Accept,
            2 => Operation::Recv,
            3 => Operation::Send,
            _ => Operation::Close,
        };
        (operation, user_data as u32)
    }
}

// ---- provided buffers ----

/// No buffer; a ring has at most 32 768.
const NONE: u16 = u16::MAX;

/// The buffers, and what each that is out holds: how many bytes, and which buffer follows it on its connection.
struct Buffers {
    provided: Provided,
    /// How many the kernel has.
    lent: u16,
    filled: Vec<u32>,
    next: Vec<u16>,
}

impl Buffers {
    fn lend_to(ring: &IoUring, count: u16, bytes_each: u32) -> io::Result<Buffers> {
        let many = usize::from(count);
        // SAFETY: `Echo` declares the ring before the buffers, so it is gone before them.
        let provided = unsafe { Provided::lend_to(ring, count, bytes_each)? };
        Ok(Buffers { provided, lent: count, filled: vec![0; many], next: vec![NONE; many] })
    }

    fn filled(&self, id: u16) -> u32 {
        self.filled[usize::from(id)]
    }

    fn piece(&self, id: u16) -> libc::iovec {
        let start = self.provided.memory(id).as_ptr();
        libc::iovec { iov_base: start.cast_mut().cast(), iov_len: self.filled(id) as usize }
    }

    /// The kernel has filled a buffer and handed it over.
    fn take(&mut self, id: u16, filled: u32) {
        self.lent -= 1;
        self.filled[usize::from(id)] = filled;
        self.next[usize::from(id)] = NONE;
    }

    fn give_back(&mut self, id: u16) {
        self.provided.give_back(id);
        self.lent += 1;
    }
}

// ---- connections ----

/// One connection. Its descriptor is closed when nothing is in flight on it, so no completion ever comes late.
#[derive(Clone, Copy)]
struct Connection {
    /// The buffer to send, or being sent; then the list goes on by `Buffers::next`.
    first: u16,
    last: u16,
    /// What has been sent of `first`.
    sent: u32,
    /// A send is in flight or due at the end of the turn. The list is not empty then.
    sending: bool,
    /// No recv is armed and none will be.
    ended: bool,
    /// A send failed: nothing can be echoed any more.
    deaf: bool,
}

impl Connection {
    const NEW: Connection = Connection { first: NONE, last: NONE, sent: 0, sending: false, ended: false, deaf: false };

    fn append(&mut self, id: u16, buffers: &mut Buffers) {
        if self.first == NONE {
            self.first = id;
        } else {
            buffers.next[usize::from(self.last)] = id;
        }
        self.last = id;
    }

    /// `len` bytes have been sent: gives back the buffers that are through.
    fn advance(&mut self, len: u32, buffers: &mut Buffers) {
        self.sent += len;
        while self.first != NONE && self.sent >= buffers.filled(self.first) {
            self.sent -= buffers.filled(self.first);
            self.drop_first(buffers);
        }
    }

    fn drop_first(&mut self, buffers: &mut Buffers) {
        let id = self.first;
        self.first = buffers.next[usize::from(id)];
        buffers.give_back(id);
    }

    fn drop_all(&mut self, buffers: &mut Buffers) {
        while self.first != NONE {
            self.drop_first(buffers);
        }
    }
}

/// At most so many buffers go out in one send.
const GATHERED: usize = 8;

/// What one send in flight points to.
#[derive(Clone, Copy)]
struct Gather {
    pieces: [libc::iovec; GATHERED],
    head: libc::msghdr,
}

impl Gather {
    fn new() -> Gather {
        let piece = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: a msghdr is pointers and numbers, all of which may be zero.
        Gather { pieces: [piece; GATHERED], head: unsafe { std::mem::zeroed() } }
    }

    /// Collects what waits on `connection`; gives the number of pieces.
    fn collect(&mut self, connection: &Connection, buffers: &Buffers) -> usize {
        let (mut id, mut count) = (connection.first, 0);
        while id != NONE && count < GATHERED {
            self.pieces[count] = buffers.piece(id);
            id = buffers.next[usize::from(id)];
            count += 1;
        }
        let first = &mut self.pieces[0];
        first.iov_base = first.iov_base.wrapping_byte_add(connection.sent as usize);
        first.iov_len -= connection.sent as usize;
        count
    }

    fn entry(&mut self, slot: u32, count: usize) -> squeue::Entry {
        let [first, ..] = self.pieces;
        if count == 1 {
            let send = opcode::Send::new(Fixed(slot), first.iov_base.cast(), first.iov_len as u32);
            return send.flags(SEND_FLAGS).build();
        }
        self.head.msg_iov = self.pieces.as_mut_ptr();
        self.head.msg_iovlen = count;
        opcode::SendMsg::new(Fixed(slot), &raw const self.head).flags(SEND_FLAGS.cast_unsigned()).build()
    }
}

/// MSG_WAITALL: the kernel goes on after a short write by itself.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

// ---- the loop ----

/// The server. The ring is the first field, so it is gone before the memory that the kernel writes to.
struct Echo {
    ring: IoUring,
    buffers: Buffers,
    /// By descriptor in the ring's table.
    connections: Vec<Connection>,
    /// One for each connection, never moved.
    gathers: Vec<Gather>,
    /// Connections whose next send is due at the end of this turn, when all that has come is on their lists.
    due: Vec<u32>,
    /// Those whose recv found no buffer, the longest waiting first.
    starved: VecDeque<u32>,
    listener: Socket,
}

/// Why the loop ends.
struct Stop;

impl Echo {
    fn new(arguments: &Arguments, listener: Socket, signals: &UnixStream) -> io::Result<Echo> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(16_384)
            .build(4096)?;
        ring.submitter().register_files_sparse(arguments.connections)?;
        let buffers = Buffers::lend_to(&ring, arguments.buffers, arguments.buffer_bytes)?;
        let connections = vec![Connection::NEW; arguments.connections as usize];
        let gathers = vec![Gather::new(); connections.len()];
        let due = Vec::with_capacity(connections.len());
        let starved = VecDeque::with_capacity(connections.len());
        let mut echo = Echo { ring, buffers, connections, gathers, due, starved, listener };
        let signal = opcode::PollAdd::new(Fd(signals.as_raw_fd()), libc::POLLIN as u32).build();
        echo.push(&signal.user_data(Operation::Signal.on(0)))?;
        echo.accept()?;
        Ok(echo)
    }

    /// Until a signal comes.
    fn run(&mut self) -> io::Result<()> {
        let mut completions: Vec<cqueue::Entry> = Vec::with_capacity(16_384);
        loop {
            self.wait()?;
            completions.extend(self.ring.completion());
            for completion in completions.drain(..) {
                if self.completed(&completion)?.is_some() {
                    return Ok(());
                }
            }
            self.send()?;
            self.feed()?;
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Err(e) if !matches!(e.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => Err(e),
            _ => Ok(()),
        }
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: an entry points at most to provided buffers and to its connection's `Gather`; both stay where they
        // are until the ring is gone, and neither changes while the send is in flight.
        if unsafe { self.ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        self.ring.submit()?;
        // SAFETY: as above.
        unsafe { self.ring.submission().push(entry) }.map_err(io::Error::other)
    }

    fn completed(&mut self, completion: &cqueue::Entry) -> io::Result<Option<Stop>> {
        let (operation, slot) = Operation::of(completion.user_data());
        match operation {
            Operation::Signal => return Ok(Some(Stop)),
            Operation::Accept => self.accepted(completion)?,
            Operation::Recv => self.received(slot, completion)?,
            Operation::Send => self.sent(slot, completion.result())?,
            // Only a failure is reported, and then the slot stays taken.
            Operation::Close => return Err(io::Error::from_raw_os_error(-completion.result())),
        }
        Ok(None)
    }

    fn accept(&mut self) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd())).allocate_file_index(true).build();
        self.push(&accept.user_data(Operation::Accept.on(0)))
    }

    fn accepted(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        if let Ok(slot) = u32::try_from(completion.result()) {
            self.connections[slot as usize] = Connection::NEW;
            self.recv(slot)?;
        }
        // Where the table is full the kernel has accepted and dropped the connection, so this does not spin.
        if cqueue::more(completion.flags()) { Ok(()) } else { self.accept() }
    }

    fn recv(&mut self, slot: u32) -> io::Result<()> {
        self.push(&opcode::RecvMulti::new(Fixed(slot), 0).build().user_data(Operation::Recv.on(slot)))
    }

    fn received(&mut self, slot: u32, completion: &cqueue::Entry) -> io::Result<()> {
        let filled = completion.result();
        if filled == -libc::ENOBUFS {
            debug_assert!(cqueue::buffer_select(completion.flags()).is_none(), "no buffer, and yet one");
            self.starved.push_back(slot);
            return Ok(());
        }
        if let (1.., Some(id)) = (filled, cqueue::buffer_select(completion.flags())) {
            self.queue(slot, id, filled.cast_unsigned());
            return if cqueue::more(completion.flags()) { Ok(()) } else { self.recv(slot) };
        }
        // Linux 6.1 names a buffer with an end or an error, too: kept, it would be missing for good.
        cqueue::buffer_select(completion.flags()).into_iter().for_each(|id| self.buffers.provided.give_back(id));
        if filled == -libc::EAGAIN {
            return self.recv(slot);
        }
        self.connections[slot as usize].ended = true;
        self.close_if_done(slot)
    }

    fn queue(&mut self, slot: u32, id: u16, filled: u32) {
        self.buffers.take(id, filled);
        let connection = &mut self.connections[slot as usize];
        if connection.deaf {
            return self.buffers.give_back(id);
        }
        connection.append(id, &mut self.buffers);
        if !std::mem::replace(&mut connection.sending, true) {
            self.due.push(slot);
        }
    }

    /// Everything that is due.
    fn send(&mut self) -> io::Result<()> {
        for at in 0..self.due.len() {
            let slot = self.due[at];
            let gather = &mut self.gathers[slot as usize];
            let count = gather.collect(&self.connections[slot as usize], &self.buffers);
            let entry = gather.entry(slot, count);
            self.push(&entry.user_data(Operation::Send.on(slot)))?;
        }
        self.due.clear();
        Ok(())
    }

    fn sent(&mut self, slot: u32, result: i32) -> io::Result<()> {
        let connection = &mut self.connections[slot as usize];
        if let Ok(len) = u32::try_from(result) {
            connection.advance(len, &mut self.buffers);
        } else {
            connection.deaf = true;
            connection.drop_all(&mut self.buffers);
        }
        connection.sending = connection.first != NONE;
        if connection.sending {
            self.due.push(slot);
            return Ok(());
        }
        self.close_if_done(slot)
    }

    fn close_if_done(&mut self, slot: u32) -> io::Result<()> {
        let connection = &self.connections[slot as usize];
        if !connection.ended || connection.sending {
            return Ok(());
        }
        let close = opcode::Close::new(Fixed(slot)).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(&close.user_data(Operation::Close.on(slot)))
    }

    /// Arms as many of the starved as there are buffers.
    fn feed(&mut self) -> io::Result<()> {
        for _ in 0..self.starved.len().min(usize::from(self.buffers.lent)) {
            if let Some(slot) = self.starved.pop_front() {
                self.recv(slot)?;
            }
        }
        Ok(())
    }
}

//! The limit for a fan-out: one small message to many TCP sockets over a bare io_uring, as cheaply as it can.
//!
//! The sender is one thread with one ring (SINGLE_ISSUER, DEFER_TASKRUN): sends on direct descriptors, all from the
//! same bytes, submitted in batches, and no completion unless one fails. The sink is a second thread on another core
//! with a ring of its own: multishot recv into provided buffers, and it checks every byte. Both ends of a connection
//! move into the table of their ring, a few at a time, so open files limit each end and not both together.
//!
//! A send that the kernel cannot take at once is an error here: the sender never runs more than [`AHEAD`] rounds ahead
//! of the sink, so what it measures is sending and not waiting for room.
//!
//! With `--memory` the sink leaves a round in its sockets until the memory has been counted, then takes it.

use clap::Parser;
use edgehold_micro::provided::Provided;
use edgehold_micro::{Content, pin, processor_ns};
use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use socket2::SockRef;
use std::error::Error;
use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Sends one message to many sockets, again and again.
#[derive(Parser)]
struct Arguments {
    /// Connected sockets, at most the limit of open files less some hundred.
    #[arg(long, default_value_t = 9000, value_parser = clap::value_parser!(u32).range(1..=28_000))]
    subscribers: u32,
    /// Bytes of the message.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    bytes: u32,
    /// How often each subscriber gets the message.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rounds: u32,
    /// The sender's core.
    #[arg(long)]
    core: usize,
    /// The sink's core.
    #[arg(long)]
    sink_core: usize,
    /// Rounds per second; without it the next begins as soon as the sink has kept up.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// Counts the kernel's memory for messages that lie undelivered, instead of time.
    #[arg(long, conflicts_with = "rate")]
    memory: bool,
}

impl Arguments {
    /// Bytes of one round, all subscribers together.
    fn round_bytes(&self) -> u64 {
        u64::from(self.subscribers) * u64::from(self.bytes)
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::parse();
    pin(arguments.core)?;
    let sink = Audience::start(&arguments)?;
    let fan = Fan::new(&arguments)?;
    connect(&arguments, &fan, &sink)?;
    print("subscribers", f64::from(arguments.subscribers), "sockets");
    print("bytes", f64::from(arguments.bytes), "bytes");
    let complete = if arguments.memory { memory(&arguments, fan, &sink)? } else { deliver(&arguments, fan, &sink)? };
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(name: &str, value: f64, unit: &str) {
    // Counts are whole; the rest is measured, and three places are more than it is worth.
    let places = if value.fract() == 0.0 { 0 } else { 3 };
    println!("{name} {value:.places$} {unit}");
}

// ---- connections ----

/// So many connections are open as plain descriptors at once, both ends.
const PLAIN: u32 = 256;

fn connect(arguments: &Arguments, fan: &Fan, sink: &Audience) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    for first in (0..arguments.subscribers).step_by(PLAIN as usize) {
        let count = PLAIN.min(arguments.subscribers - first);
        let pairs: Vec<_> = (0..count).map(|_| pair(&listener)).collect::<io::Result<_>>()?;
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        adopt(&fan.ring, first, &ours)?;
        sink.obeys(Order::Adopt(first, theirs))?;
    }
    Ok(())
}

/// The sender's end and the sink's.
fn pair(listener: &TcpListener) -> io::Result<(TcpStream, TcpStream)> {
    let theirs = TcpStream::connect(listener.local_addr()?)?;
    // They end by a reset, so that no run leaves sockets in TIME_WAIT to the next one's memory.
    SockRef::from(&theirs).set_linger(Some(Duration::ZERO))?;
    let (ours, _) = listener.accept()?;
    ours.set_nodelay(true)?;
    Ok((ours, theirs))
}

/// Into the ring's table, from slot `first` on. The table keeps them open when the plain descriptors are closed.
fn adopt(ring: &IoUring, first: u32, streams: &[TcpStream]) -> io::Result<()> {
    let plain: Vec<_> = streams.iter().map(AsRawFd::as_raw_fd).collect();
    let taken = ring.submitter().register_files_update(first, &plain)?;
    if taken == plain.len() { Ok(()) } else { Err(io::Error::other("the table did not take all sockets")) }
}

/// A ring with a table for all subscribers.
fn ring(entries: u32, subscribers: u32) -> io::Result<IoUring> {
    let ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(32_768)
        .build(entries)?;
    ring.submitter().register_files_sparse(subscribers)?;
    Ok(ring)
}

// ---- the sender ----

/// Sends submitted at once: few calls, and their entries stay in the nearest cache.
const BATCH: u32 = 256;

/// The sender. The ring is the first field, so it is gone before the message that it reads.
struct Fan {
    ring: IoUring,
    message: Vec<u8>,
    subscribers: u32,
}

impl Fan {
    fn new(arguments: &Arguments) -> io::Result<Fan> {
        let message = Content::Binary.payload(arguments.bytes as usize);
        Ok(Fan { ring: ring(BATCH, arguments.subscribers)?, message, subscribers: arguments.subscribers })
    }

    /// The message to everyone. When this returns, the kernel has taken all of it.
    fn round(&mut self) -> io::Result<()> {
        for first in (0..self.subscribers).step_by(BATCH as usize) {
            self.batch(first, BATCH.min(self.subscribers - first))?;
        }
        Ok(())
    }

    fn batch(&mut self, first: u32, count: u32) -> io::Result<()> {
        let mut queue = self.ring.submission();
        for slot in first..first + count {
            let send = opcode::Send::new(Fixed(slot), self.message.as_ptr(), self.message.len() as u32);
            let entry = send.flags(SEND_FLAGS).build().flags(squeue::Flags::SKIP_SUCCESS);
            // SAFETY: the entry points to the message, which never changes and outlives the ring.
            unsafe { queue.push(&entry) }.map_err(io::Error::other)?;
        }
        drop(queue);
        self.ring.submit()?;
        // Sends that do not wait have ended within the call, and only failures are told.
        self.ring.completion().next().map_or(Ok(()), |completion| Err(failure(completion.result())))
    }
}

/// MSG_WAITALL makes a short send a failure, which is told.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_WAITALL;

fn failure(result: i32) -> io::Error {
    if result < 0 { io::Error::from_raw_os_error(-result) } else { io::Error::other("a message was cut short") }
}

// ---- the sink, seen from the sender ----

/// What the sink is told to do.
enum Order {
    /// Take these sockets, from this slot on.
    Adopt(u32, Vec<TcpStream>),
    /// Arm recv on all sockets, for good.
    Arm,
    /// Take what comes until so many bytes have come in all.
    Read(u64),
    /// Take what lies in the sockets, until so many bytes have come in all, and leave none armed.
    Drain(u64),
}

/// The sink's thread.
struct Audience {
    orders: Sender<Order>,
    /// For each order in turn: the processor time it took, in nanoseconds.
    answers: Receiver<io::Result<i64>>,
    /// Bytes that have come, or [`FAILED`].
    received: Arc<AtomicU64>,
}

/// Stands for the bytes received when the sink has ended; the answer says why.
const FAILED: u64 = u64::MAX;

/// Nothing here takes as long without anything having gone wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the sender looks whether the sink has kept up.
const GLANCE: Duration = Duration::from_micros(100);

impl Audience {
    fn start(arguments: &Arguments) -> io::Result<Audience> {
        let ((orders, ordered), (answer, answers)) = (channel(), channel());
        let received = Arc::new(AtomicU64::new(0));
        let (core, progress) = (arguments.sink_core, Arc::clone(&received));
        // The ring must be made by the thread that uses it.
        let plan = Plan { subscribers: arguments.subscribers, bytes: arguments.bytes, core };
        thread::Builder::new().name("sink".to_owned()).spawn(move || {
            if let Err(error) = Sink::run(&plan, &ordered, &answer, &progress) {
                progress.store(FAILED, Ordering::Release);
                // Nobody to tell: the sender has ended as well.
                let _ = answer.send(Err(error));
            }
        })?;
        Ok(Audience { orders, answers, received })
    }

    fn order(&self, order: Order) -> io::Result<()> {
        // Where the sink has gone, the answer says why.
        if self.orders.send(order).is_err() { self.answer().map(drop) } else { Ok(()) }
    }

    fn answer(&self) -> io::Result<i64> {
        self.answers.recv().map_err(io::Error::other)?
    }

    /// Waits until the order has been carried out.
    fn obeys(&self, order: Order) -> io::Result<()> {
        self.order(order)?;
        self.answer().map(drop)
    }

    /// Waits until so many bytes have come; false where nothing more comes.
    fn has(&self, bytes: u64) -> io::Result<bool> {
        let (mut last, mut deadline) = (0, Instant::now() + PATIENCE);
        loop {
            let received = self.received.load(Ordering::Acquire);
            if received == FAILED {
                return self.answer().map(|_| false);
            }
            if received >= bytes || Instant::now() > deadline {
                return Ok(received >= bytes);
            }
            if received > last {
                (last, deadline) = (received, Instant::now() + PATIENCE);
            }
            thread::sleep(GLANCE);
        }
    }
}

// ---- the sink ----

/// What the sink's thread begins with.
struct Plan {
    subscribers: u32,
    bytes: u32,
    core: usize,
}

/// Receive buffers; together they stay in the second-level cache.
const BUFFERS: u16 = 1024;
const BUFFER_BYTES: u32 = 512;

/// The sink sleeps until so many completions have come, or [`NAP`] has passed: waking it costs the sender time.
const GATHERED: usize = 256;
const NAP: Timespec = Timespec::new().nsec(1_000_000);

/// The sink. The ring is the first field, so it is gone before the memory that the kernel writes to.
struct Sink<'a> {
    ring: IoUring,
    buffers: Provided,
    /// The message so often that whatever one buffer holds is found in it.
    expected: Vec<u8>,
    bytes: u64,
    /// Bytes that have come, by descriptor in the ring's table.
    heard: Vec<u64>,
    /// The same, all together.
    total: u64,
    progress: &'a AtomicU64,
    /// Those to arm again, when the buffers of this turn have been given back.
    again: Vec<u32>,
    /// Recv stays armed.
    multishot: bool,
}

impl Sink<'_> {
    fn run(
        plan: &Plan,
        orders: &Receiver<Order>,
        answer: &Sender<io::Result<i64>>,
        progress: &AtomicU64,
    ) -> io::Result<()> {
        pin(plan.core)?;
        let mut sink = Sink::new(plan, progress)?;
        for order in orders {
            let start = processor_ns();
            sink.obey(order)?;
            // Nobody to tell: the sender has ended.
            let _ = answer.send(Ok(processor_ns() - start));
        }
        Ok(())
    }

    fn new<'a>(plan: &Plan, progress: &'a AtomicU64) -> io::Result<Sink<'a>> {
        let ring = ring(4096, plan.subscribers)?;
        // SAFETY: the ring is declared before the buffers, so it is gone before them.
        let buffers = unsafe { Provided::lend_to(&ring, BUFFERS, BUFFER_BYTES)? };
        let message = Content::Binary.payload(plan.bytes as usize);
        let expected = message.repeat((BUFFER_BYTES / plan.bytes + 2) as usize);
        let heard = vec![0; plan.subscribers as usize];
        let (bytes, again) = (u64::from(plan.bytes), Vec::with_capacity(heard.len()));
        Ok(Sink { ring, buffers, expected, bytes, heard, total: 0, progress, again, multishot: false })
    }

    fn obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Adopt(first, streams) => adopt(&self.ring, first, &streams),
            Order::Arm => {
                self.multishot = true;
                self.arm_all()
            }
            Order::Read(total) => self.read(total),
            Order::Drain(total) => {
                self.arm_all()?;
                self.read(total)
            }
        }
    }

    fn arm_all(&mut self) -> io::Result<()> {
        (0..self.heard.len() as u32).try_for_each(|slot| self.arm(slot))?;
        self.ring.submit().map(drop)
    }

    fn arm(&mut self, slot: u32) -> io::Result<()> {
        let once = opcode::Recv::new(Fixed(slot), std::ptr::null_mut(), 0);
        let entry = if self.multishot {
            opcode::RecvMulti::new(Fixed(slot), 0).build()
        } else {
            once.buf_group(0).build().flags(squeue::Flags::BUFFER_SELECT)
        };
        let entry = entry.user_data(u64::from(slot));
        // SAFETY: the entry points to provided buffers alone, which outlive the ring.
        if unsafe { self.ring.submission().push(&entry) }.is_ok() {
            return Ok(());
        }
        self.ring.submit()?;
        // SAFETY: as above.
        unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)
    }

    /// Until so many bytes have come in all.
    fn read(&mut self, total: u64) -> io::Result<()> {
        let mut completions: Vec<cqueue::Entry> = Vec::with_capacity(32_768);
        while self.total < total {
            self.wait()?;
            completions.extend(self.ring.completion());
            for completion in completions.drain(..) {
                self.received(&completion)?;
            }
            self.progress.store(self.total, Ordering::Release);
            self.arm_again()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        let nap = SubmitArgs::new().timespec(&NAP);
        match self.ring.submitter().submit_with_args(GATHERED, &nap) {
            Err(e) if !matches!(e.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => Err(e),
            _ => Ok(()),
        }
    }

    fn received(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let slot = completion.user_data() as u32;
        match (completion.result(), cqueue::buffer_select(completion.flags())) {
            (len @ 1.., Some(id)) => self.hear(slot, id, len.cast_unsigned() as usize)?,
            (code, _) if code == -libc::ENOBUFS => {}
            (0.., _) => return Err(io::ErrorKind::UnexpectedEof.into()),
            (code, _) => return Err(io::Error::from_raw_os_error(-code)),
        }
        let whole = self.heard[slot as usize].is_multiple_of(self.bytes) && completion.result() > 0;
        if !cqueue::more(completion.flags()) && (self.multishot || !whole) {
            self.again.push(slot);
        }
        Ok(())
    }

    /// Compares what has come with what must come.
    fn hear(&mut self, slot: u32, id: u16, len: usize) -> io::Result<()> {
        let heard = &mut self.heard[slot as usize];
        let at = (*heard % self.bytes) as usize;
        if self.buffers.memory(id)[..len] != self.expected[at..at + len] {
            return Err(io::Error::other("other bytes came than were sent"));
        }
        *heard += len as u64;
        self.total += len as u64;
        self.buffers.give_back(id);
        Ok(())
    }

    fn arm_again(&mut self) -> io::Result<()> {
        while let Some(slot) = self.again.pop() {
            self.arm(slot)?;
        }
        Ok(())
    }
}

// ---- time ----

/// The sender is at most so many rounds ahead of the sink.
const AHEAD: u32 = 4;

/// What the sending of all rounds took, without the waiting between them.
#[derive(Default)]
struct Spent {
    rounds: u32,
    processor_ns: i64,
    wall: Duration,
}

/// Whether all came.
fn deliver(arguments: &Arguments, mut fan: Fan, sink: &Audience) -> io::Result<bool> {
    let total = arguments.round_bytes() * u64::from(arguments.rounds);
    sink.obeys(Order::Arm)?;
    sink.order(Order::Read(total))?;
    let (start, mut spent) = (Instant::now(), Spent::default());
    for round in 0..arguments.rounds {
        pace(start, round, arguments.rate);
        if !sink.has(u64::from((round + 1).saturating_sub(AHEAD)) * arguments.round_bytes())? {
            break;
        }
        spent.add(&mut fan)?;
    }
    let complete = sink.has(total)?;
    let wall = start.elapsed();
    print("rate", arguments.rate.map_or(0.0, f64::from), "rounds/s");
    count(arguments, sink, spent.rounds);
    if complete {
        spent.print(arguments, wall, sink.answer()?);
    }
    Ok(complete)
}

/// Sleeps until the round is due.
fn pace(start: Instant, round: u32, rate: Option<u32>) {
    let due = rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) * round / rate);
    thread::sleep(due.saturating_sub(start.elapsed()));
}

/// Prints how much came of so many rounds.
fn count(arguments: &Arguments, sink: &Audience, rounds: u32) {
    let sent = u64::from(rounds) * u64::from(arguments.subscribers);
    let received = sink.received.load(Ordering::Acquire) / u64::from(arguments.bytes);
    print("sent", sent as f64, "messages");
    print("received", received as f64, "messages");
}

impl Spent {
    /// One round.
    fn add(&mut self, fan: &mut Fan) -> io::Result<()> {
        let (start, processor) = (Instant::now(), processor_ns());
        fan.round()?;
        self.rounds += 1;
        self.processor_ns += processor_ns() - processor;
        self.wall += start.elapsed();
        Ok(())
    }

    fn print(&self, arguments: &Arguments, wall: Duration, sink_ns: i64) {
        let messages = f64::from(self.rounds) * f64::from(arguments.subscribers);
        print("sender_processor", self.processor_ns as f64 / 1e3 / messages, "us/delivery");
        print("sender_wall", self.wall.as_secs_f64() * 1e6 / messages, "us/delivery");
        print("sink_processor", sink_ns as f64 / 1e3 / messages, "us/delivery");
        print("deliveries", messages / wall.as_secs_f64(), "deliveries/s");
    }
}

// ---- memory ----

/// The kernel's memory.
#[derive(Clone, Copy)]
struct Kernel {
    slab_bytes: i64,
    tcp_pages: i64,
}

impl Kernel {
    fn read() -> io::Result<Kernel> {
        // Brings the counts of each processor together, which otherwise happens once a second. Only root may; without
        // it the figure is less exact by some hundred pages.
        let _ = fs::read("/proc/sys/vm/stat_refresh");
        let slab_bytes = number_behind("/proc/meminfo", "Slab:", "")? * 1024;
        Ok(Kernel { slab_bytes, tcp_pages: number_behind("/proc/net/sockstat", "TCP:", "mem")? })
    }

    /// When it no longer changes: what was freed, or acknowledged late, is through. A machine that does something else
    /// may never come to rest; then it is the last of [`READINGS`], and the range over the rounds shows it.
    fn settled() -> io::Result<Kernel> {
        let mut last = Kernel::read()?;
        for _ in 0..READINGS {
            thread::sleep(SETTLING);
            let now = Kernel::read()?;
            if (now.slab_bytes - last.slab_bytes).abs() <= NOISE_BYTES && now.tcp_pages == last.tcp_pages {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }
}

/// So often the memory is read at most, until it has come to rest.
const READINGS: u32 = 20;

/// Longer than an acknowledgement is held back (40 ms).
const SETTLING: Duration = Duration::from_millis(100);

/// What a machine at rest allocates and frees meanwhile.
const NOISE_BYTES: i64 = 64 << 10;

/// The number after `name`, on the line that begins with `line`.
fn number_behind(path: &str, line: &str, name: &str) -> io::Result<i64> {
    let text = fs::read_to_string(path)?;
    let rest = text.lines().find_map(|each| each.strip_prefix(line));
    let words = rest.and_then(|rest| rest.split_once(name)).map(|(_, behind)| behind);
    let number = words.and_then(|words| words.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("no {line} {name} in {path}")))
}

/// Whether all came.
fn memory(arguments: &Arguments, mut fan: Fan, sink: &Audience) -> io::Result<bool> {
    let (mut slab, mut pages) = (Vec::new(), Vec::new());
    let mut complete = true;
    for round in 1..=arguments.rounds {
        let before = Kernel::settled()?;
        fan.round()?;
        let after = Kernel::settled()?;
        let each = f64::from(arguments.subscribers);
        slab.push((after.slab_bytes - before.slab_bytes) as f64 / each);
        pages.push((after.tcp_pages - before.tcp_pages) as f64 / each);
        let total = arguments.round_bytes() * u64::from(round);
        sink.order(Order::Drain(total))?;
        complete = sink.has(total)?;
        if !complete {
            break;
        }
        sink.answer()?;
    }
    count(arguments, sink, slab.len() as u32);
    summary("slab", &mut slab, "bytes/message");
    summary("tcp_memory", &mut pages, "pages/socket");
    Ok(complete)
}

/// The median of the rounds, the least and the most.
fn summary(name: &str, values: &mut [f64], unit: &str) {
    values.sort_by(f64::total_cmp);
    print(name, values[values.len() / 2], unit);
    print(&format!("{name}_least"), values[0], unit);
    print(&format!("{name}_most"), values[values.len() - 1], unit);
}

//! The crowd of clients: workers, each a thread with a ring, and the crew that leads them.
//!
//! - `client`, `table`: clients without their ring: what comes in is read, what is due is written down
//! - `secured`: TLS between the table and the ring
//! - `worker`: the thread: a ring, and what the kernel is asked for
//! - `pace`, `words`, `findings`: when, what, and what came of it
//!
//! A [`Crew`] gives orders, waits for conditions and holds the clock; it is what the modes speak to.

pub mod client;
pub mod findings;
pub mod pace;
pub mod secured;
pub mod table;
pub mod words;
pub mod worker;

use crate::failure::{Failure, failed};
use crate::interrupt;
use crate::progress::Progress;
use crate::result::{Connect, Load};
use crate::target::{Speech, Target};
use crate::watch::{self, Server};
use findings::{Counters, Findings, latency};
use pace::{Clock, Pace, nanos};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use table::{Opening, Stretch};
use words::Words;
pub use worker::Return;
use worker::{Make, Order, Route, Worker};

/// How often conditions are looked at.
const LOOK: Duration = Duration::from_millis(5);
/// A crowd that has not grown for so long will not grow.
const STALLED: Duration = Duration::from_secs(15);
/// How long answers that are still under way are waited for when a stretch is over.
const DRAIN: Duration = Duration::from_secs(5);
/// From an order to the time it is for.
const AHEAD: Duration = Duration::from_millis(40);
/// Connects and handshakes under way at a time, over all workers: less than a usual backlog.
const WINDOW: u32 = 1024;
/// Provided buffers of all workers together, in bytes.
const BUFFER_MEMORY: usize = 16 << 20;
/// Stack of a worker's thread.
const STACK: usize = 256 << 10;

/// A crowd to be made.
pub struct Plan<'a> {
    /// What its threads are called, before their number.
    pub name: &'static str,
    /// The server.
    pub target: &'a Target,
    /// The request that opens a client.
    pub opening: Opening,
    /// Clients in all.
    pub connections: u64,
    /// Workers at least.
    pub threads: usize,
    /// Entries of one ring's table at most.
    pub table: u64,
    /// Cores for the workers, in turn.
    pub cores: &'a [usize],
    /// Source addresses, in turn.
    pub from: &'a [IpAddr],
    /// Bytes of the largest message.
    pub message: usize,
    /// Clients listen by poll (idle), not by recv (busy).
    pub by_poll: bool,
    /// Clients listen at all.
    pub listens: bool,
    /// The process whose CPU is watched.
    pub server: Option<Server>,
}

/// Leads the workers.
pub struct Crew {
    hands: Vec<Hand>,
    clock: Clock,
    server: Option<Server>,
    speech: Speech,
    /// Clients that were asked to join.
    asked: u64,
    /// Cores that the workers have between them.
    cores: usize,
    /// Ends that the server brought about, by cause, since the beginning.
    pub lost: BTreeMap<String, u64>,
    /// The busiest stretch of the busiest worker, 1 being a core.
    pub cpu_share: f64,
    /// The latest hand-over of a message; microseconds.
    pub late_us: f64,
}

struct Hand {
    orders: mpsc::Sender<Order>,
    counters: Arc<Counters>,
    _thread: JoinHandle<()>,
}

/// CPU of the server and of each worker, at one moment.
struct Spent {
    at: Instant,
    server: Option<f64>,
    workers: Vec<f64>,
}

/// What a stretch of work took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// How long it was.
    pub seconds: f64,
    /// CPU of the server, seconds.
    pub server_cpu: Option<f64>,
    /// CPU of the busiest worker, 1 being a core.
    pub client_share: f64,
}

impl Took {
    /// The server's CPU for each of so many, in microseconds.
    pub fn cpu_us_each(&self, count: u64) -> Option<f64> {
        self.server_cpu.filter(|_| count > 0).map(|it| it * 1e6 / count as f64)
    }
}

impl Crew {
    /// Starts the workers.
    ///
    /// # Errors
    /// The kernel refuses a thread or a ring.
    pub fn start(plan: &Plan<'_>) -> Result<Crew, Failure> {
        let clock = Clock::start();
        let workers = (plan.threads.max(1) as u64).max(plan.connections.div_ceil(plan.table)) as u32;
        let hands = (0..workers).map(|number| hand(plan, number, workers, clock)).collect::<Result<_, _>>()?;
        let lost = BTreeMap::new();
        let speech = plan.target.speech;
        let cores = match plan.cores.len() {
            0 => thread::available_parallelism().map_or(1, std::num::NonZero::get),
            given => given,
        };
        Ok(Crew { hands, clock, server: plan.server, speech, asked: 0, cores, lost, cpu_share: 0.0, late_us: 0.0 })
    }

    /// Threads.
    pub fn workers(&self) -> usize {
        self.hands.len()
    }

    /// Clients that stand.
    pub fn open(&self) -> u64 {
        self.sum(|it| &it.open)
    }

    /// Clients that stand and read. Who reads no more does not see either that the server ends.
    pub fn readers(&self) -> u64 {
        self.open().saturating_sub(self.sum(|it| &it.deaf))
    }

    fn sum(&self, which: fn(&Counters) -> &AtomicU64) -> u64 {
        self.hands.iter().map(|hand| which(&hand.counters).load(Ordering::Relaxed)).sum()
    }

    /// Published messages and echoes received since the beginning.
    pub fn received(&self) -> u64 {
        self.sum(|it| &it.received)
    }

    fn order(&self, make: impl Fn(u64, &Hand) -> Order) {
        for (number, hand) in (0..).zip(&self.hands) {
            // A worker that has gone has failed, and is missed by what it does not report.
            let _ = hand.orders.send(make(number, hand));
        }
    }

    fn pace(&self, worker: u64, start: u64, per_second: f64) -> Pace {
        Pace { start, per_second, worker, workers: self.hands.len() as u64 }
    }

    /// What all have found since they were last asked.
    pub fn tell(&mut self) -> Findings {
        let (to, from) = mpsc::channel();
        self.order(|_, _| Order::Tell(to.clone()));
        drop(to);
        let mut all = Findings::default();
        from.iter().for_each(|one| all.merge(&one));
        all.lost.iter().for_each(|(words, count)| *self.lost.entry(words.clone()).or_default() += count);
        self.late_us = self.late_us.max(all.behind as f64 / 1e3);
        all
    }

    fn spent(&self) -> Spent {
        let thread = |hand: &Hand| watch::own_thread(hand.counters.thread.load(Ordering::Acquire));
        Spent {
            at: Instant::now(),
            server: self.server.map(Server::cpu),
            workers: self.hands.iter().map(thread).collect(),
        }
    }

    fn since(&mut self, then: &Spent) -> Took {
        let now = self.spent();
        let seconds = (now.at - then.at).as_secs_f64();
        let used: Vec<f64> = now.workers.iter().zip(&then.workers).map(|(now, then)| (now - then) / seconds).collect();
        // Workers that share a core are busy together.
        let share = used.iter().copied().fold(used.iter().sum::<f64>() / self.cores as f64, f64::max);
        self.cpu_share = self.cpu_share.max(share);
        let server_cpu = now.server.zip(then.server).map(|(now, then)| now - then);
        Took { seconds, server_cpu, client_share: share }
    }

    /// Looks until `done`, or until it is interrupted or `patience` is over. Whether it was done.
    pub fn until(&self, patience: Duration, mut done: impl FnMut(&Crew) -> bool) -> bool {
        let begun = Instant::now();
        while !done(self) {
            if interrupt::asked() || begun.elapsed() > patience {
                return done(self);
            }
            thread::sleep(LOOK);
        }
        true
    }

    /// `count` more clients connect, so many per second, or as fast as it goes.
    pub fn join(&mut self, count: u64, rate: Option<f64>) -> Connect {
        let (joined, failures) = (self.sum(|it| &it.joined), self.sum(|it| &it.failed));
        let progress = Progress::new("connecting", count);
        let before = self.spent();
        let start = self.clock.now() + nanos(AHEAD);
        let window = (WINDOW / self.hands.len() as u32).max(8);
        self.order(|worker, _| Order::Join {
            count: self.part(worker, count),
            pace: rate.map(|rate| self.pace(worker, start, rate)),
            window,
        });
        self.asked += count;
        let settled = |crew: &Crew| crew.sum(|it| &it.joined) - joined + crew.sum(|it| &it.failed) - failures;
        self.while_growing(count, &progress, settled);
        let took = self.since(&before);
        self.give_up(count, settled);
        let found = self.tell();
        let connect = connected(&found, count, self.sum(|it| &it.joined) - joined);
        let connect = with_rates(connect, took);
        Connect { tls: found.handshakes(took.server_cpu), ..connect }
    }

    /// A worker's part of so many, dealt one after the other.
    fn share(&self, worker: u64, count: u64) -> u32 {
        let workers = self.hands.len() as u64;
        (count / workers + u64::from(worker < count % workers)) as u32
    }

    /// A worker's part of those who join now: with those who were asked before it never has more than its slots.
    fn part(&self, worker: u64, count: u64) -> u32 {
        self.share(worker, self.asked + count) - self.share(worker, self.asked)
    }

    /// Waits while the number still grows towards `count`.
    fn while_growing(&self, count: u64, progress: &Progress, grown: impl Fn(&Crew) -> u64) {
        let (mut last, mut since) = (0, Instant::now());
        self.until(Duration::MAX, |crew| {
            let now = grown(crew);
            progress.at(now);
            if now != last {
                (last, since) = (now, Instant::now());
            }
            now >= count || since.elapsed() > STALLED
        });
    }

    fn give_up(&self, count: u64, settled: impl Fn(&Crew) -> u64) {
        if settled(self) < count {
            self.order(|_, _| Order::GiveUp);
        }
    }

    /// `count` of the clients say `words` and hear them again for a time: when the rate says, or one after the other.
    ///
    /// # Errors
    /// Answers of the stretch before are still under way, or nobody stands.
    pub fn talk(
        &mut self,
        name: &str,
        count: u64,
        size: usize,
        rate: Option<f64>,
        span: Duration,
    ) -> Result<Load, Failure> {
        if self.open() == 0 {
            return failed(self.loss("no client stands"));
        }
        let words = Arc::new(Words::new(self.speech, size));
        let (start, end) = self.soon(span);
        let (due, received) = (self.sum(|it| &it.due), self.received());
        let asked = count.min(self.open());
        self.order(|worker, _| {
            let pace = rate.map(|rate| self.pace(worker, start, rate));
            let stretch = Stretch { words: words.clone(), start, end, pace };
            Order::Talk { stretch, count: self.share(worker, asked) as usize }
        });
        let progress = Progress::new(name, span.as_millis() as u64);
        self.sleep_until(start, None);
        let before = self.spent();
        self.sleep_until(end, Some(&progress));
        let took = self.since(&before);
        self.stop();
        self.drain(due, received);
        let found = self.tell();
        Ok(Load { size, rate, ..load(name, asked, took, &found) })
    }

    fn soon(&self, span: Duration) -> (u64, u64) {
        let start = self.clock.now() + nanos(AHEAD);
        (start, start + nanos(span))
    }

    fn sleep_until(&self, time: u64, progress: Option<&Progress>) {
        let begun = self.clock.now();
        self.until(Duration::MAX, |crew| {
            let now = crew.clock.now();
            if let Some(progress) = progress {
                progress.at(now.saturating_sub(begun) / 1_000_000);
            }
            now >= time || crew.open() == 0
        });
    }

    /// The stretch is over; returns when all workers have seen that.
    fn stop(&self) {
        let (done, all) = mpsc::channel();
        self.order(|_, _| Order::Stop(done.clone()));
        drop(done);
        all.iter().for_each(drop);
    }

    /// Waits for the answers of those who still stand.
    fn drain(&self, due: u64, received: u64) {
        self.until(DRAIN, |crew| crew.open() == 0 || crew.received() - received >= crew.sum(|it| &it.due) - due);
    }

    /// Each client pings once, spread over the time that the rate gives.
    pub fn ping(&mut self, rate: f64) -> Load {
        let (due, received, open) = (self.sum(|it| &it.due), self.received(), self.open());
        let start = self.clock.now() + nanos(AHEAD);
        let before = self.spent();
        self.order(|worker, _| Order::Ping(self.pace(worker, start, rate)));
        let progress = Progress::new("pinging", open);
        self.while_growing(open, &progress, |crew| crew.received() - received);
        let took = self.since(&before);
        self.stop();
        self.drain(due, received);
        let found = self.tell();
        Load { rate: Some(rate), ..load("ping", open, took, &found) }
    }

    /// Each client says this once.
    pub fn say(&self, text: &str) {
        let words = Arc::new(Words::text(self.speech, text));
        let sent = self.sum(|it| &it.sent);
        let open = self.open();
        self.order(|_, _| Order::Say(words.clone()));
        self.until(DRAIN, |crew| crew.sum(|it| &it.sent) - sent >= open);
    }

    /// Published messages count from now on; the first is due at the returned time, on the crew's clock.
    pub fn listen(&self, per_second: f64) -> (Clock, u64) {
        let start = self.clock.now() + 5 * nanos(AHEAD);
        self.order(|worker, _| Order::Listen(self.pace(worker, start, per_second)));
        (self.clock, start)
    }

    /// Clients that were made not to listen begin to.
    pub fn hear(&self) {
        self.order(|_, _| Order::Hear);
    }

    /// So many of a hundred read no more.
    pub fn deafen(&self, percent: u8) {
        self.order(|_, _| Order::Deafen(percent));
    }

    /// All are cut now, and come back.
    pub fn cut(&self, back: Return) {
        self.order(|_, _| Order::Cut(back));
    }

    /// Those that are not back have failed.
    pub fn end_returns(&self) {
        self.order(|_, _| Order::GiveUp);
    }

    /// Runs `work` and measures what it takes.
    pub fn measured<T>(&mut self, work: impl FnOnce(&mut Crew) -> T) -> (T, Took) {
        let before = self.spent();
        let result = work(self);
        (result, self.since(&before))
    }

    /// These words, and why clients were lost.
    pub fn loss(&self, words: &str) -> String {
        let causes: Vec<String> = self.lost.iter().map(|(cause, count)| format!("{count} {cause}")).collect();
        if causes.is_empty() { words.into() } else { format!("{words}: {}", causes.join(", ")) }
    }
}

fn hand(plan: &Plan<'_>, number: u32, workers: u32, clock: Clock) -> Result<Hand, Failure> {
    let slots = plan.connections.div_ceil(u64::from(workers)) as u32;
    let buffer_bytes = (plan.message + 16).next_power_of_two().clamp(4 << 10, 64 << 10);
    let buffers = (BUFFER_MEMORY / workers as usize / buffer_bytes).next_power_of_two().clamp(16, 2048) as u16;
    let make = Make {
        number,
        workers,
        slots,
        buffers,
        buffer_bytes: buffer_bytes as u32,
        by_poll: plan.by_poll,
        listens: plan.listens,
        opening: plan.opening.clone(),
        route: Route { from: plan.from.into(), to: plan.target.addresses.as_slice().into() },
    };
    let counters = Arc::new(Counters::default());
    let (orders, inbox) = mpsc::channel();
    let (ready, made) = mpsc::channel();
    let core = (!plan.cores.is_empty()).then(|| plan.cores[number as usize % plan.cores.len()]);
    let theirs = counters.clone();
    let thread = thread::Builder::new().name(format!("{}-{number}", plan.name)).stack_size(STACK);
    let thread = thread.spawn(move || work(make, clock, theirs, inbox, core, &ready));
    let thread = thread.or_else(|error| failed(format!("a thread: {error}")))?;
    match made.recv() {
        Ok(Ok(())) => Ok(Hand { orders, counters, _thread: thread }),
        Ok(Err(error)) => failed(format!("a ring with {slots} slots: {error}")),
        Err(_) => failed("a thread ended before it began"),
    }
}

/// The body of a worker's thread.
fn work(
    make: Make,
    clock: Clock,
    counters: Arc<Counters>,
    orders: mpsc::Receiver<Order>,
    core: Option<usize>,
    ready: &mpsc::Sender<io::Result<()>>,
) {
    if let Some(id) = core {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    let worker = match Worker::new(make, clock, counters, orders) {
        Ok(worker) => worker,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let _ = ready.send(Ok(()));
    if let Err(error) = worker.run() {
        eprintln!("edgehold-bench: a ring failed: {error}");
    }
}

fn connected(found: &Findings, asked: u64, connected: u64) -> Connect {
    let mut failed = found.failed.clone();
    let unknown = asked.saturating_sub(connected + failed.values().sum::<u64>());
    if unknown > 0 {
        failed.insert("not begun".into(), unknown);
    }
    Connect { asked, connected, failed, latency: latency(&found.connects), ..Connect::default() }
}

fn with_rates(mut connect: Connect, took: Took) -> Connect {
    connect.seconds = (took.seconds - AHEAD.as_secs_f64()).max(1e-3);
    connect.per_second = connect.connected as f64 / connect.seconds;
    (connect.server_cpu_seconds, connect.client_cpu_share) = (took.server_cpu, took.client_share);
    connect.server_cpu_ms_per_thousand = took.cpu_us_each(connect.connected);
    connect
}

fn load(name: &str, connections: u64, took: Took, found: &Findings) -> Load {
    Load {
        name: name.into(),
        connections,
        seconds: took.seconds,
        sent: found.sent,
        received: found.received,
        missing: found.due.saturating_sub(found.received + found.late),
        changed: found.changed,
        per_second: found.received as f64 / took.seconds,
        server_cpu_seconds: took.server_cpu,
        server_cpu_us_per_message: took.cpu_us_each(found.received),
        client_cpu_share: took.client_share,
        latency: latency(&found.latency),
        ..Load::default()
    }
}

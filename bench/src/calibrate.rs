//! What the tool's own end of a connection costs the kernel.
//!
//! On one machine the slab shows both ends of a connection together. So a crowd is held before the run that has nothing
//! behind it but a listener of the tool's own. All ends are bare at first: direct descriptors, and nothing armed on
//! them, so that one end costs half of the pair. Then the clients begin to listen as they will in the run, and what the
//! slab grows by is what listening costs. It is one crowd, because a second would live in what the first has left.

use crate::crowd::{Crew, Plan};
use crate::failure::{Failure, failed};
use crate::interrupt;
use crate::session::{Session, opening};
use crate::target::{Speech, Target};
use crate::watch;
use edgehold::engine::uring::{Setup, Uring};
use edgehold::engine::{Address, Operation, Ring, Tag, sockets};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Pairs of a calibration, where one ring may hold so many: enough for what else the machine does not to matter much.
const PAIRS: u64 = 12_000;
/// Accepts in flight.
const ACCEPTS: u32 = 64;
/// A slab that moves less than this between two looks stands still.
const STILL_BYTES: f64 = 65_536.0;
/// How long the kernel may take to give back, or to count, what it holds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kernel memory of the ends of a connection; bytes.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// An end with a direct descriptor and nothing else.
    pub bare: f64,
    /// The tool's own end while it waits.
    pub own: f64,
}

/// Measures both; `None` where it was interrupted, or there is no room for two counts.
///
/// # Errors
/// The calibration's own listener or crowd failed.
pub fn calibrate(session: &Session<'_>) -> Result<Option<Ends>, Failure> {
    let pairs = PAIRS.min(session.ground.table.saturating_sub(u64::from(ACCEPTS)));
    let floor = Floor::open(pairs as u32).or_else(|error| failed(format!("calibration: {error}")))?;
    let mut crew = bare_crowd(session, floor.address, pairs)?;
    let slab = || watch::reading(0, None).slab_bytes as f64;
    let few = crew.join(pairs / 5, None).connected;
    floor.wait_for(&crew, few)?;
    let before = steady(slab);
    let all = few + crew.join(pairs - pairs / 5, None).connected;
    floor.wait_for(&crew, all)?;
    let bare = steady(slab);
    crew.hear();
    let listening = steady(slab);
    let more = (all - few) as f64;
    if all == few || interrupt::asked() {
        return Ok(None);
    }
    let end = (bare - before) / more / 2.0;
    Ok(Some(Ends { bare: end, own: end + (listening - bare) / all as f64 }))
}

/// A crew whose clients stand and do not listen.
fn bare_crowd(session: &Session<'_>, address: SocketAddr, pairs: u64) -> Result<Crew, Failure> {
    let target = Target {
        url: format!("tcp://{address}"),
        speech: Speech::Bytes,
        addresses: vec![address],
        host: String::new(),
        path: String::new(),
        tls: None,
    };
    Crew::start(&Plan {
        name: "calibration",
        target: &target,
        opening: opening(&target, &[], false, None),
        connections: pairs,
        threads: 1,
        table: session.ground.table,
        cores: &[],
        from: &[],
        message: 64,
        by_poll: true,
        listens: false,
        server: None,
    })
}

/// The value when it has stopped moving.
fn steady(read: impl Fn() -> f64) -> f64 {
    let begun = Instant::now();
    let mut last = read();
    loop {
        thread::sleep(Duration::from_millis(200));
        let now = read();
        if (now - last).abs() < STILL_BYTES || begun.elapsed() > PATIENCE {
            return now;
        }
        last = now;
    }
}

/// A listener that accepts and does nothing else.
struct Floor {
    address: SocketAddr,
    accepted: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Floor {
    fn open(pairs: u32) -> io::Result<Floor> {
        let any = Address::Tcp((Ipv4Addr::LOCALHOST, 0).into());
        let listener = sockets::listen(&any, sockets::Options { backlog: 4096, ..Default::default() })?;
        let address = listener.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let (accepted, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (accepted.clone(), over.clone());
        let thread = thread::spawn(move || {
            if let Err(error) = accept_all(listener, pairs, &count, &end) {
                eprintln!("edgehold-bench: calibration: {error}");
            }
        });
        Ok(Floor { address, accepted, over, thread: Some(thread) })
    }

    fn wait_for(&self, crew: &Crew, count: u64) -> Result<(), Failure> {
        match crew.until(PATIENCE, |_| self.accepted.load(Ordering::Relaxed) >= count) {
            true => Ok(()),
            false if interrupt::asked() => Ok(()),
            false => failed("calibration: the tool's own listener did not take all connections"),
        }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept_all(listener: socket2::Socket, pairs: u32, accepted: &AtomicU64, over: &AtomicBool) -> io::Result<()> {
    let waker = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
    let setup = Setup {
        table: pairs + ACCEPTS,
        buffers: 2,
        buffer_bytes: 4096,
        unsent_bytes: 0,
        silence: Duration::ZERO,
        files: 0,
    };
    let mut ring = Uring::new(setup, waker, vec![listener])?;
    (0..ACCEPTS).for_each(|slot| ring.accept(Tag::new(slot, 0, Operation::Accept), 0));
    let mut next = ACCEPTS;
    while !over.load(Ordering::Relaxed) {
        ring.wait(Some(Duration::from_millis(20)))?;
        while let Some(done) = ring.next() {
            if done.result.is_ok() {
                accepted.fetch_add(1, Ordering::Relaxed);
            }
            if next < pairs + ACCEPTS {
                let _ = ring.peer(done.tag);
                ring.accept(Tag::new(next, 0, Operation::Accept), 0);
                next += 1;
            }
        }
    }
    Ok(())
}

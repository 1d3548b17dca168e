//! What the tool's own end of a connection costs the kernel.
//!
//! On one machine the slab shows both ends of a connection together. So two crowds are held before the run that have
//! nothing behind them but a listener of the tool's own, whose ends are bare: accepted into direct descriptors, and
//! nothing armed on them. In the first the clients' ends are bare too, so that one end costs half of the pair; in the
//! second they listen as they will in the run. The difference is what listening costs.

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
    let Some(bare) = pair(session, false)? else { return Ok(None) };
    let ends = |listening: f64| Ends { bare: bare / 2.0, own: bare / 2.0 + (listening - bare).max(0.0) };
    Ok(pair(session, true)?.map(ends))
}

/// Slab of a pair.
fn pair(session: &Session<'_>, listens: bool) -> Result<Option<f64>, Failure> {
    let pairs = PAIRS.min(session.ground.table.saturating_sub(u64::from(ACCEPTS)));
    let floor = Floor::open(pairs as u32).or_else(|error| failed(format!("calibration: {error}")))?;
    let target = Target {
        url: format!("tcp://{}", floor.address),
        speech: Speech::Bytes,
        addresses: vec![floor.address],
        host: String::new(),
        path: String::new(),
    };
    let mut crew = Crew::start(&Plan {
        target: &target,
        opening: opening(&target, &[]),
        connections: pairs,
        threads: 1,
        table: session.ground.table,
        cores: &[],
        from: &[],
        message: 64,
        by_poll: true,
        listens,
        server: None,
    })?;
    let slab = || watch::reading(0, None).slab_bytes;
    let few = crew.join(pairs / 5, None).connected;
    floor.wait_for(&crew, few)?;
    let before = steady(slab);
    let all = few + crew.join(pairs - pairs / 5, None).connected;
    floor.wait_for(&crew, all)?;
    let after = steady(slab);
    let more = (all - few) as f64;
    Ok((more > 0.0 && !interrupt::asked()).then(|| (after as f64 - before as f64) / more))
}

/// The value when it has stopped moving.
fn steady(read: impl Fn() -> u64) -> u64 {
    let begun = Instant::now();
    let mut last = read();
    loop {
        thread::sleep(Duration::from_millis(200));
        let now = read();
        if now.abs_diff(last) < 64 << 10 || begun.elapsed() > PATIENCE {
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
        let listener = sockets::listen(&any, sockets::Options { backlog: 4096, unsent_bytes: 0 })?;
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
    let bell = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
    let setup = Setup { table: pairs + ACCEPTS, buffers: 2, buffer_bytes: 4096, unsent_bytes: 0 };
    let mut ring = Uring::new(setup, bell, vec![listener])?;
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

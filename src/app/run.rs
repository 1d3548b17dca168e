//! From a configuration to a running server, and to its end.
//!
//! Everything that can be refused is refused here, before the first client: what the machine lacks, what the
//! kernel lacks, addresses that cannot be had.

use super::addresses::{Bound, silence};
use super::admission::Admitting;
use super::config::{self, Config};
use super::derive::{Derived, MEMLOCK_MIN, Machine, Mailboxes, memlock_bytes};
use super::failure::Failure;
use super::generation::Generation;
use super::shard_settings::{self, Common, UpstreamTable};
use super::{derive, log, privileges, tls};
use crate::control::certificates::Kept;
use crate::control::stats::{Count, Counts};
use crate::control::{self, Admin, AdminRules, Ending, Line, metrics};
use crate::engine::finding::Finding;
use crate::engine::probe::Kernel;
use crate::engine::uring::{Setup, Uring};
use crate::mesh::{self, ListenerTls, Peers, Receiver, Sender, ToControl, ToShard, Waker};
use crate::service::{self, Services, files};
use crate::shard::service::{Admission, ShardSettings};
use crate::shard::{Shard, Signer, pump};
use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement};
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::Socket;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Memory that glommio sets aside for its own I/O, of which a shard does none.
const GLOMMIO_IO_MEMORY: usize = 64 << 10;

/// Entries of each of glommio's own rings.
const GLOMMIO_RING_DEPTH: usize = 64;

/// When glommio asks a task to let others run. The shard has the executor for itself and a budget of its own; a timer
/// that fires early can put the executor to sleep over work that waits (docs/decisions/ring.md).
const GLOMMIO_PREEMPT: Duration = Duration::from_secs(60);

/// How long the threads of shards may take to end, once nobody needs them any more.
const JOIN: Duration = Duration::from_secs(2);

/// The thread of a shard.
type Thread = ExecutorJoinHandle<io::Result<()>>;

/// Serves until told to stop. `Forced`: told twice, shards are still running.
///
/// # Errors
/// What stood in the way, with what to change.
pub fn serve(config: &Config) -> Result<Ending, Failure> {
    let dropped = log::start(&config.server);
    let ended = serve_until_told(config, dropped);
    log::flush();
    ended
}

fn serve_until_told(config: &Config, log_dropped: Count) -> Result<Ending, Failure> {
    raise_nofile();
    let machine = Machine::read();
    let derived = derive::derive(config, &machine).map_err(Failure::Machine)?;
    refuse_kernel(&Kernel::look())?;
    edgehold_wire::mask::choose();
    let generation = Generation::first(Arc::new(config.clone()));
    let (tls, mut bound) = take_and_give_up(&generation, derived.shards)?;
    let control_waker = Arc::new(Waker::new().map_err(Failure::Control)?);
    let epoch = super::broadcast::epoch();
    let upstreams = shard_settings::upstream_table(&generation, &Vec::new(), &tls.by_upstream);
    let (lines, posts) = posts(derived.shards, &derived.mailboxes, &control_waker).map_err(Failure::Control)?;
    let admission = Admitting::new(config, &derived)?;
    let held = derive::open_files(config, &machine, &derived);
    let common = Common { epoch, counts: counts(held, log_dropped, &admission) };
    let services = shard_settings::services(&generation, &common, &upstreams);
    let mut shards = Vec::new();
    for (shard, post) in posts.into_iter().enumerate().rev() {
        let sockets = bound.sockets.pop().unwrap_or_default();
        let settings = shard_settings::at_start(&generation, &derived, (shard, &tls.by_listener));
        let memlock = memlock_bytes(config, &machine);
        let failure = |error| Failure::Shard { shard, error, memlock };
        let signer = signer(&settings, &post).map_err(failure)?;
        let (services, setup) = (services.clone(), setup(config, &derived));
        let admission = admission.shared.clone();
        let start = Start { settings, services, setup, sockets, post, signer, admission };
        shards.push(start.spawn().map_err(failure)?);
    }
    announce(config, &derived, &tls.by_listener);
    let settings = control_settings(&generation, (bound.admin.take(), tls.kept), common, &upstreams);
    let ending = control::run(settings, lines, &control_waker).map_err(Failure::Control)?;
    drop(bound);
    finish(ending, shards)
}

/// Reads and binds everything, and gives up what was needed for that.
///
/// # Errors
/// What cannot be read or bound, or what could not be done later.
fn take_and_give_up(generation: &Generation, shards: usize) -> Result<(tls::Loaded, Bound), Failure> {
    let config = &*generation.config;
    let account = privileges::account(&config.server)?;
    let tls = tls::load(generation)?;
    let bound = Bound::all(config, shards)?;
    privileges::give_up(config, account.as_ref())?;
    if account.is_some() {
        // The rings that follow are another user's.
        refuse_kernel(&Kernel::look())?;
    }
    Ok((tls, bound))
}

/// What others than the control thread count in.
fn counts(files_held_limit: u64, log_dropped: Count, admission: &Admitting) -> Counts {
    let (lists, tallies_limit) = (admission.lists.clone(), admission.shared.tallies.capacity());
    Counts { files_held_limit, log_dropped, lists, tallies_limit, ..Counts::default() }
}

/// The last words of a process that could not serve, which wait a second at most to be read.
pub fn complain(failure: &Failure) {
    log::complain(&format!("edgehold: {failure}"));
}

/// What was tried of the kernel, as the user that the server will be, for doctor, which reads the rest by itself.
pub fn kernel_trials(config: &Config) -> Vec<Finding> {
    privileges::trial(config, || Kernel::look().trials())
}

fn refuse_kernel(kernel: &Kernel) -> Result<(), Failure> {
    let refusals = kernel.refusals();
    if refusals.is_empty() { Ok(()) } else { Err(Failure::Kernel(refusals)) }
}

/// A ring's table is held against the soft limit; the hard one is what the operator meant.
fn raise_nofile() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "RLIMIT_NOFILE stays as it is");
    }
}

fn announce(config: &Config, derived: &Derived, tls: &[Option<ListenerTls>]) {
    for (listener, tls) in config.listeners.iter().zip(tls) {
        let (name, protocol) = (&listener.name, listener.protocol.word());
        tracing::info!(listener = name, address = %listener.address, protocol, tls = tls.is_some(), "listening");
    }
    if let Some(admin) = config.server.admin {
        tracing::info!(address = %admin, tls = config.server.admin_tls.is_some(), "admin");
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        shards = derived.shards,
        slots_per_shard = derived.slots_per_shard,
        mask = ?edgehold_wire::mask::kind(),
        "serving"
    );
}

/// Joins the shards, which have ended or were told to. One that does not end in [`JOIN`] is not waited for.
fn finish(ending: Ending, shards: Vec<Thread>) -> Result<Ending, Failure> {
    if ending == Ending::Forced {
        return Ok(ending);
    }
    let well = join(shards);
    if ending == Ending::ShardLost || !well { Err(Failure::ShardLost) } else { Ok(ending) }
}

/// Whether none of the shards has failed.
fn join(shards: Vec<Thread>) -> bool {
    let (count, until) = (shards.len(), Instant::now() + JOIN);
    let (joined, joins) = mpsc::channel();
    for shard in shards {
        let joined = joined.clone();
        std::thread::spawn(move || joined.send(shard.join()));
    }
    let ended = (0..count).map_while(|_| joins.recv_timeout(until.saturating_duration_since(Instant::now())).ok());
    let ended: Vec<_> = ended.collect();
    if ended.len() < count {
        tracing::warn!(shards = count - ended.len(), "threads of shards have not ended: the server ends without");
    }
    let ill = ended.into_iter().filter(|end| !has_ended_well(end)).count();
    ill == 0
}

fn has_ended_well(end: &Result<io::Result<()>, GlommioError<()>>) -> bool {
    match end {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => tracing::error!(%error, "a shard has failed"),
        Err(error) => tracing::error!(%error, "a shard's executor has failed"),
    }
    false
}

// ---- shards ----

/// A shard's ends of its mailboxes.
struct ShardPost {
    waker: Arc<Waker>,
    letters: Receiver<ToShard>,
    to_control: Sender<ToControl>,
    peers: Peers,
}

/// The mailboxes between so many shards and the control thread, and between each two shards: the control thread's ends
/// and the shards' ends, by shard.
fn posts(shards: usize, capacities: &Mailboxes, control_waker: &Arc<Waker>) -> io::Result<(Vec<Line>, Vec<ShardPost>)> {
    let wakers = (0..shards).map(|_| Waker::new().map(Arc::new)).collect::<io::Result<Vec<_>>>()?;
    let peers = mesh::peers(capacities.between_shards, &wakers);
    let post = |(waker, peers): (Arc<Waker>, Peers)| {
        let (to, letters) = mesh::mailbox(capacities.to_shard, waker.clone());
        let (to_control, from) = mesh::mailbox(capacities.to_control, control_waker.clone());
        (Line { to, from }, ShardPost { waker, letters, to_control, peers })
    };
    Ok(wakers.into_iter().zip(peers).map(post).unzip())
}

/// Where a listener has TLS: its certificate may be one of RSA, now or when its files have changed.
fn signer(settings: &ShardSettings, post: &ShardPost) -> io::Result<Option<Signer>> {
    let has_tls = settings.tls.iter().any(Option::is_some);
    has_tls.then(|| Signer::start(settings.shard, post.waker.clone())).transpose()
}

/// All that a shard's thread takes with it.
struct Start {
    settings: ShardSettings,
    services: service::Settings,
    setup: Setup,
    sockets: Vec<Socket>,
    post: ShardPost,
    signer: Option<Signer>,
    admission: Admission,
}

impl Start {
    /// Starts the thread and waits until the shard stands, or says why not.
    fn spawn(self) -> io::Result<Thread> {
        let shard = self.settings.shard;
        let (standing, stands) = mpsc::channel();
        let handle = LocalExecutorBuilder::new(placement(shard))
            .name(&format!("shard-{shard}"))
            .io_memory(GLOMMIO_IO_MEMORY)
            .ring_depth(GLOMMIO_RING_DEPTH)
            .preempt_timer(GLOMMIO_PREEMPT)
            .spawn(move || self.run(standing))?;
        if let Ok(stands) = stands.recv() {
            return stands.map(|()| handle);
        }
        // The executor has failed before it ran anything: its thread knows why.
        let error = handle.join().map_or_else(io::Error::from, |_| io::Error::other("its thread has ended"));
        Err(executor_error(error, getrlimit(Resource::Memlock).current))
    }

    async fn run(self, standing: mpsc::Sender<io::Result<()>>) -> io::Result<()> {
        let ring = self.post.waker.reader().and_then(|waker| Uring::new(self.setup, waker, self.sockets));
        let ring = match ring {
            Ok(ring) => ring,
            Err(error) => {
                let _ = standing.send(Err(error));
                return Ok(());
            }
        };
        let _ = standing.send(Ok(()));
        let services = Services::new(&self.services);
        let ShardPost { waker, letters, to_control, peers } = self.post;
        let shard = Shard::new(ring, services, &self.settings, letters, to_control);
        let shard = shard.with_peers(peers).with_signer(self.signer).with_admission(self.admission);
        pump::run(shard, &waker).await
    }
}

/// Where RLIMIT_MEMLOCK is below what the executor looks for before it makes a ring, its error has no errno: it is
/// ENOMEM all the same.
fn executor_error(error: io::Error, limit: Option<u64>) -> io::Error {
    match limit {
        Some(limit) if limit < MEMLOCK_MIN => io::Error::from_raw_os_error(libc::ENOMEM),
        _ => error,
    }
}

/// The core that a shard is pinned to; more shards than cores share them.
fn placement(shard: usize) -> Placement {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    match cores.len() {
        0 => Placement::Unbound,
        count => Placement::Fixed(cores[shard % count].id),
    }
}

// ---- from what was written to what it means ----

fn setup(config: &Config, derived: &Derived) -> Setup {
    Setup {
        table: derived.table_entries,
        buffers: config.server.recv_buffers,
        buffer_bytes: config.server.recv_buffer_bytes,
        unsent_bytes: config.server.unsent_bytes,
        silence: silence(config, |service| matches!(service, config::Service::Proxy { .. })),
        files: if serves_files(config) { files::AT_A_TIME as u32 } else { 0 },
    }
}

fn serves_files(config: &Config) -> bool {
    config.routes.iter().any(|it| matches!(it.service, config::Service::Files { .. }))
}

fn control_settings(
    generation: &Generation,
    (admin, tls): (Option<TcpListener>, Kept),
    common: Common,
    table: &UpstreamTable,
) -> control::ControlSettings {
    let config = &*generation.config;
    let upstreams: Vec<&config::Upstream> = generation.by_upstream(|it| it).into_iter().flatten().collect();
    let named = |(number, it): (u32, &&config::Upstream)| match it {
        config::Upstream::Tcp { host, port, .. } if host.parse::<IpAddr>().is_err() => {
            Some((number, host.clone(), *port))
        }
        config::Upstream::Tcp { .. } | config::Upstream::Unix(_) => None,
    };
    control::ControlSettings {
        admin: admin.map(|listener| Admin {
            listener,
            tls: super::tls::of_admin(&tls.listeners),
            rules: admin_rules(config),
        }),
        counts: common.counts,
        names: (0..).zip(&upstreams).filter_map(named).collect(),
        resolve_ttl: config.server.resolve_ttl,
        grace: config.server.shutdown_grace,
        labels: labels(generation, table.clone()),
        brokers: super::offload::brokers(generation, table),
        feeds: super::feeds::settings(config),
        publish_limits: super::feeds::publish_limits(config),
        tls,
        auth: super::gate::auth_by_number(generation),
        auth_limits: config.server.auth_limits,
        epoch: common.epoch,
    }
}

fn labels(generation: &Generation, table: UpstreamTable) -> metrics::Labels {
    metrics::Labels {
        listeners: generation.config.listeners.iter().map(|it| it.name.clone()).collect(),
        upstreams: generation.by_upstream(|it| generation.upstream_name(it)).into_iter().flatten().collect(),
        health: table.iter().flatten().map(|it| it.health.clone()).collect(),
        upstream_tls: table.into_iter().flatten().map(|it| it.tls).collect(),
    }
}

fn admin_rules(config: &Config) -> AdminRules {
    AdminRules {
        allow_origin: config.server.admin_allow_origin.clone(),
        hosts: config.server.admin_hosts.clone(),
        connections: config.server.admin_connections as usize,
        timeout: config.server.admin_timeout,
        body_bytes: usize::try_from(config.server.admin_body_bytes).unwrap_or(usize::MAX),
        page_channels: config.server.admin_page_channels as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Ring;
    use crate::mesh::Report;
    use futures_util::FutureExt;

    #[test]
    fn an_executor_that_finds_the_limit_too_low_is_short_of_memory() {
        let errno = |limit| executor_error(io::Error::from_raw_os_error(libc::EMFILE), limit).raw_os_error();
        assert_eq!(errno(Some(MEMLOCK_MIN - 1)), Some(libc::ENOMEM));
        assert_eq!([errno(Some(MEMLOCK_MIN)), errno(None)], [Some(libc::EMFILE); 2]);
    }

    /// Letters to a shard in [`a_letter_wakes_a_shard_that_sleeps`]; each is answered before the next is posted.
    const LETTERS: u64 = 10_000;

    /// Waits for the shard's next report.
    fn report(line: &mut Line) -> Box<Report> {
        let begun = Instant::now();
        loop {
            match line.from.take() {
                Some(ToControl::Report(report)) => return report,
                _ => assert!(begun.elapsed() < Duration::from_secs(10), "a letter has not woken the shard"),
            }
            std::thread::yield_now();
        }
    }

    /// A shard with no listener, and its waker.
    fn idle_shard(post: ShardPost) -> io::Result<(Shard<Uring, Services>, Arc<Waker>)> {
        let setup =
            Setup { table: 16, buffers: 2, buffer_bytes: 512, files: 0, unsent_bytes: 0, silence: Duration::ZERO };
        let ring = Uring::new(setup, post.waker.reader()?, Vec::new())?;
        let services = Services::new(&service::Settings::default());
        let settings = ShardSettings {
            shard: 0,
            slots: 8,
            spare_slots: 1,
            accepts_in_flight: 0,
            listeners: 0,
            bare: Vec::new(),
            addresses: Vec::new(),
            tls: Vec::new(),
            upstreams: 0,
            limits: Vec::new(),
            outbox_bytes: 1 << 20,
            deflate_window_bytes: 0,
            tls_handshake_bytes: 0,
            tls_handshake_timeout: Duration::ZERO,
            turn_events: 64,
            park_after: Duration::ZERO,
        };
        Ok((Shard::new(ring, services, &settings, post.letters, post.to_control), post.waker))
    }

    /// Runs it on this thread until it is told to drain. It waits in its ring, never in its executor.
    fn run_idle_shard(post: ShardPost) -> io::Result<()> {
        let (shard, waker) = idle_shard(post)?;
        pump::run(shard, &waker).now_or_never().expect("nothing is awaited")
    }

    /// A letter that comes behind a turn, when nobody has to write the eventfd yet, is seen before the shard waits.
    #[test]
    fn a_shard_does_not_sleep_on_a_letter() {
        let (mut lines, mut posts) = posts(1, &Mailboxes::of(1), &Arc::new(Waker::new().unwrap())).unwrap();
        let (mut shard, waker) = idle_shard(posts.remove(0)).expect("a ring");
        lines[0].to.post(ToShard::Report).expect("room for a letter");
        let enters = shard.ring().counts().enters;
        pump::sleep(&mut shard, &waker).expect("a ring");
        assert_eq!((shard.ring().counts().enters, waker.clear()), (enters, 0), "it has waited");
    }

    /// Each letter comes at about the moment at which the shard, which has answered the one before, falls asleep in its
    /// ring.
    #[test]
    fn a_letter_wakes_a_shard_that_sleeps() {
        let control_waker = Arc::new(Waker::new().unwrap());
        let (mut lines, mut posts) = posts(1, &Mailboxes::of(1), &control_waker).unwrap();
        let (mut line, post) = (lines.remove(0), posts.remove(0));
        let thread = std::thread::spawn(move || run_idle_shard(post));
        let mut wakes = 0;
        for letter in 0..LETTERS {
            line.to.post(ToShard::Report).expect("room for a letter");
            wakes = report(&mut line).counters.wakes;
            (0..letter % 211).for_each(|_| std::hint::spin_loop());
        }
        assert!((1..=LETTERS).contains(&wakes), "{wakes} wakes for {LETTERS} letters");
        assert_eq!(control_waker.clear(), 0, "the control thread never slept");
        line.to.post(ToShard::Drain).expect("room for a letter");
        thread.join().expect("the shard's thread").expect("its ring");
    }

    /// A shard's thread that ends so gives its letter box up, by which the control thread knows.
    fn thread(end: fn() -> io::Result<()>) -> (Thread, Receiver<()>) {
        let (sender, receiver) = mesh::mailbox::<()>(1, Arc::new(Waker::new().unwrap()));
        let task = move || async move {
            let _mine = sender;
            end()
        };
        (LocalExecutorBuilder::default().io_memory(GLOMMIO_IO_MEMORY).spawn(task).unwrap(), receiver)
    }

    #[test]
    fn a_thread_that_panics_has_ended_and_not_well() {
        for (end, expected) in [(|| Ok(())) as fn() -> _, || panic!("a shard's mistake")].into_iter().zip([true, false])
        {
            let (thread, receiver) = thread(end);
            assert_eq!(join(vec![thread]), expected);
            assert!(receiver.is_abandoned());
        }
        assert!(!join(vec![thread(|| Ok(())).0, thread(|| Err(io::Error::other("its ring"))).0]));
    }

    #[test]
    fn a_thread_that_does_not_end_is_not_waited_for() {
        let (held, holds) = mpsc::channel::<()>();
        let stuck = LocalExecutorBuilder::default().io_memory(GLOMMIO_IO_MEMORY).spawn(move || async move {
            let _ = holds.recv();
            Ok(())
        });
        let begun = Instant::now();
        assert!(join(vec![stuck.unwrap()]));
        assert!(begun.elapsed() >= JOIN && begun.elapsed() < 3 * JOIN);
        drop(held);
    }
}

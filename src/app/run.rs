//! From a configuration to a running server, and to its end.
//!
//! Everything that can be refused is refused here, before the first client: what the machine lacks, what the
//! kernel lacks, addresses that cannot be had.

use super::addresses::{Bound, silence};
use super::config::{self, Config, Frames};
use super::derive::{Derived, MEMLOCK_MIN, Machine, Shortfall, memlock_bytes, raise_memlock};
use super::doctor::KernelRow;
use super::{derive, log};
use crate::control::stats::{Count, Counts};
use crate::control::{self, Admin, AdminRules, Ending, Line, metrics};
use crate::engine::files::local_device;
use crate::engine::probe::{Finding, Kernel};
use crate::engine::uring::{Setup, Uring};
use crate::mesh::{self, Health, Receiver, Sender, ToControl, ToShard, Waker};
use crate::service::files::FilesSettings;
use crate::service::proxy::{self, Backoff, Place, Places};
use crate::service::{Route, Routes, Services, Target, broadcast, echo, files};
use crate::shard::clock::ticks;
use crate::shard::service::{Deflate, RouteLimits, ShardSettings};
use crate::shard::{Shard, pump};
use edgehold_wire::http1;
use edgehold_wire::ws::CloseCode;
use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement};
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::Socket;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Memory that glommio sets aside for its own I/O, of which a shard does none.
const GLOMMIO_IO_MEMORY: usize = 64 << 10;

/// Entries of each of glommio's own rings.
const GLOMMIO_RING_DEPTH: usize = 64;

/// When glommio asks a task to let others run. The shard has the executor for itself and a budget of its own; a timer
/// that fires early can put the executor to sleep over work that waits (docs/decisions/ring.md).
const GLOMMIO_PREEMPT: Duration = Duration::from_secs(60);

/// The kernel takes at most 32 buffers for a multishot receive before it lets others go first (io_uring/net.c,
/// MULTISHOT_MAX_RETRY), of 64 KiB at most.
const WAKE_BYTES: usize = 32 * (64 << 10);

/// How long the threads of shards may take to end, once nobody needs them any more.
const JOIN: Duration = Duration::from_secs(2);

/// The thread of a shard.
type Thread = ExecutorJoinHandle<io::Result<()>>;

/// Why the server could not serve, in words for the operator.
#[derive(Debug)]
pub enum Failure {
    /// The machine is too small for the configuration.
    Machine(Vec<Shortfall>),
    /// The kernel lacks something.
    Kernel(Vec<Finding>),
    /// An address cannot be listened on.
    Listen {
        /// The listener's name, or `admin`.
        name: String,
        /// The address.
        address: String,
        /// What the kernel said.
        error: io::Error,
        /// What to change; may be empty.
        remedy: String,
    },
    /// A shard could not be started.
    Shard {
        /// Which.
        shard: usize,
        /// Why.
        error: io::Error,
        /// RLIMIT_MEMLOCK with which all shards start, in bytes.
        memlock: u64,
    },
    /// The control thread has failed.
    Control(io::Error),
    /// A shard ended while the server was at work.
    ShardLost,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Machine(shortfalls) => shortfalls
                .iter()
                .try_for_each(|it| writeln!(f, "{} is {}, should be {}: {}", it.what, it.is, it.should, it.command)),
            Failure::Kernel(findings) => findings
                .iter()
                .try_for_each(|it| writeln!(f, "{}: {} (should be: {}): {}", it.what, it.is, it.should, it.remedy)),
            Failure::Listen { name, address, error, remedy } => {
                let colon = if remedy.is_empty() { "" } else { ": " };
                writeln!(f, "listener {name}: {address}: {error}{colon}{remedy}")
            }
            Failure::Shard { shard, error, memlock } => {
                writeln!(f, "shard {shard}: no io_uring: {error}{}", memory_remedy(error, *memlock))
            }
            Failure::Control(error) => writeln!(f, "control thread: {error}"),
            Failure::ShardLost => writeln!(f, "a shard has ended; the log says why"),
        }
    }
}

fn memory_remedy(error: &io::Error, memlock: u64) -> String {
    match error.kind() {
        io::ErrorKind::OutOfMemory => format!(": raise RLIMIT_MEMLOCK, or free memory; {}", raise_memlock(memlock)),
        _ => String::new(),
    }
}

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
    let mut bound = Bound::all(config, derived.shards)?;
    let control_waker = Arc::new(Waker::new().map_err(Failure::Control)?);
    let epoch = super::broadcast::epoch();
    let health: Arc<[Health]> = upstreams(config).iter().map(|it| Health::new(it.to_string())).collect();
    let held = derive::open_files(config, &machine, &derived);
    let counts = Counts { files_held_limit: held, log_dropped, ..Counts::default() };
    let files = files_settings(config, &counts);
    let mut lines = Vec::new();
    let mut shards = Vec::new();
    for shard in (0..derived.shards).rev() {
        let post = Post::new(&control_waker).map_err(Failure::Control)?;
        lines.push(post.line);
        let sockets = bound.sockets.pop().unwrap_or_default();
        let start = Start::new((config, &derived), (shard, epoch), health.clone(), sockets, post.shard, files.clone());
        let memlock = memlock_bytes(config, &machine);
        shards.push(start.spawn().map_err(|error| Failure::Shard { shard, error, memlock })?);
    }
    lines.reverse();
    announce(config, &derived);
    let settings = control_settings(config, bound.admin.take(), epoch, (health, counts));
    let ending = control::run(settings, lines, &control_waker).map_err(Failure::Control)?;
    drop(bound);
    finish(ending, shards)
}

/// The last words of a process that could not serve, which wait a second at most to be read.
pub fn complain(failure: &Failure) {
    log::complain(&format!("edgehold: {failure}"));
}

/// What was tried of the kernel, as rows for doctor, which reads the rest by itself.
pub fn kernel_rows() -> Vec<KernelRow> {
    let row = |it: Finding| {
        let fails = it.is_refusal();
        KernelRow { what: it.what, is: it.is, should: it.should, fails, command: it.remedy }
    };
    Kernel::look().trials().into_iter().map(row).collect()
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

fn announce(config: &Config, derived: &Derived) {
    for listener in &config.listeners {
        tracing::info!(listener = listener.name, address = %listener.address, "listening");
    }
    if let Some(admin) = config.server.admin {
        tracing::info!(address = %admin, "admin");
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

/// The boxes between one shard and the control thread.
struct Post {
    line: Line,
    shard: ShardPost,
}

/// The shard's ends of them.
struct ShardPost {
    waker: Arc<Waker>,
    letters: Receiver<ToShard>,
    to_control: Sender<ToControl>,
}

impl Post {
    fn new(control_waker: &Arc<Waker>) -> io::Result<Post> {
        let waker = Arc::new(Waker::new()?);
        let (to, letters) = mesh::mailbox(waker.clone());
        let (to_control, from) = mesh::mailbox(control_waker.clone());
        Ok(Post { line: Line { to, from }, shard: ShardPost { waker, letters, to_control } })
    }
}

/// All that a shard's thread takes with it.
struct Start {
    settings: ShardSettings,
    setup: Setup,
    routes: Arc<Routes>,
    places: Places,
    broadcast: (Arc<[broadcast::BroadcastPlan]>, Vec<broadcast::FeedSettings>, u32),
    files: FilesSettings,
    health: Vec<Option<String>>,
    sockets: Vec<Socket>,
    post: ShardPost,
}

impl Start {
    fn new(
        (config, derived): (&Config, &Derived),
        (shard, epoch): (usize, u32),
        health: Arc<[Health]>,
        sockets: Vec<Socket>,
        post: ShardPost,
        files: FilesSettings,
    ) -> Start {
        let upstreams = upstreams(config);
        Start {
            settings: settings(config, derived, shard, upstreams.len()),
            setup: Setup {
                table: derived.table_entries,
                buffers: config.server.recv_buffers,
                buffer_bytes: config.server.recv_buffer_bytes,
                unsent_bytes: config.server.unsent_bytes,
                silence: silence(config, |service| matches!(service, config::Service::Proxy { .. })),
                files: if serves_files(config) { files::AT_A_TIME as u32 } else { 0 },
            },
            routes: routes(config, &upstreams),
            places: places(config, health),
            broadcast: (super::broadcast::settings(config), super::broadcast::feeds(config), epoch),
            files,
            health: config.listeners.iter().map(|it| it.health.clone()).collect(),
            sockets,
            post,
        }
    }

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
        match stands.recv() {
            Ok(stands) => stands.map(|()| handle),
            // The executor has failed before it ran anything: its thread knows why.
            Err(_) => {
                let error = handle.join().map_or_else(io::Error::from, |_| io::Error::other("its thread has ended"));
                Err(executor_error(error, getrlimit(Resource::Memlock).current))
            }
        }
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
        let (settings, feeds, epoch) = self.broadcast;
        let broadcast = broadcast::Broadcast::new(settings, &feeds, epoch);
        let services =
            Services::new(self.routes, self.places, broadcast).with_files(self.files).with_health(self.health);
        let shard = Shard::new(ring, services, &self.settings, self.post.letters, self.post.to_control);
        pump::run(shard).await
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

fn settings(config: &Config, derived: &Derived, shard: usize, upstreams: usize) -> ShardSettings {
    let unknown = limits(&config.limits, u32::MAX / 4, Deflate::default());
    let routes = config.routes.iter().map(|it| limits(&it.limits, keep_alive_ticks(&it.service), deflate(&it.deflate)));
    ShardSettings {
        shard,
        slots: derived.slots_per_shard,
        spare_slots: derived.spare_slots,
        accepts_in_flight: u32::from(config.server.accepts_in_flight),
        listeners: config.listeners.len(),
        upstreams,
        limits: std::iter::once(unknown).chain(routes).collect(),
        outbox_bytes: derived.outbox_bytes,
        deflate_window_bytes: config.server.deflate_window_bytes,
        turn_events: config.server.turn_events,
        park_after: config.server.park_after,
    }
}

fn serves_files(config: &Config) -> bool {
    config.routes.iter().any(|it| matches!(it.service, config::Service::Files { .. }))
}

/// The files of all shards are counted together.
fn files_settings(config: &Config, counts: &Counts) -> FilesSettings {
    FilesSettings {
        queue: config.server.file_queue as usize,
        wait: config.server.file_wait,
        held_most: counts.files_held_limit,
        held: counts.files_held.0.clone(),
    }
}

/// Only streams of broadcast routes are kept alive.
fn keep_alive_ticks(service: &config::Service) -> u32 {
    match service {
        config::Service::Broadcast(route) => ticks(route.keep_alive),
        _ => u32::MAX / 4,
    }
}

fn deflate(deflate: &config::Deflate) -> Deflate {
    Deflate { on: deflate.on, takeover: deflate.takeover, min_bytes: deflate.min_bytes as usize }
}

fn limits(limits: &config::Limits, keep_alive_ticks: u32, deflate: Deflate) -> RouteLimits {
    let head_bytes = limits.head_bytes as usize;
    RouteLimits {
        head: http1::HeadLimits {
            head_bytes,
            head_count: usize::from(limits.head_count),
            target_bytes: head_bytes / 2,
        },
        message_bytes: limits.message_bytes,
        head_ticks: ticks(limits.head_timeout),
        idle_ticks: ticks(limits.idle_timeout),
        keep_alive_ticks,
        close_ticks: ticks(limits.close_timeout),
        max_pending: limits.max_pending as usize,
        connection_bytes: connection_bytes(limits),
        deflate,
    }
}

/// Where it is not written: a message on its way out and the next one on its way in, what waits on both sides, and what
/// one wake of a receive may bring at most.
fn connection_bytes(limits: &config::Limits) -> usize {
    match limits.connection_bytes {
        0 => 2 * (limits.message_bytes as usize + limits.max_pending as usize) + WAKE_BYTES,
        bytes => bytes as usize,
    }
}

/// The routes; limits number 0 are those for all, number n + 1 those of route n.
fn routes(config: &Config, upstreams: &[&config::Upstream]) -> Arc<Routes> {
    let numbered = (1..).zip(&config.routes);
    let route = |(limits, route): (u16, &config::Route)| Route {
        path: route.path.clone(),
        below: route.below(),
        host: route.host.clone(),
        limits,
        target: target(config, &route.service, upstreams),
    };
    Arc::new(numbered.map(route).collect())
}

fn target(config: &Config, service: &config::Service, all: &[&config::Upstream]) -> Target {
    match service {
        config::Service::Echo { subprotocols } => Target::Echo(echo::EchoPlan { subprotocols: subprotocols.clone() }),
        config::Service::Page => Target::Page(()),
        config::Service::Broadcast(route) => Target::Broadcast(super::broadcast::number(config, route)),
        config::Service::Files { root, cache_control, charset } => {
            let (root, cache_control, charset) = (root.clone(), cache_control.clone(), charset.clone());
            let device = local_device(&root);
            Target::Files(files::FilesPlan { site: Arc::new(files::Site { root, device, cache_control, charset }) })
        }
        config::Service::Proxy { upstreams, frames, subprotocols, connect_timeout, end_code } => {
            let number = |it: &config::Upstream| all.iter().position(|one| *one == it).unwrap_or_default() as u32;
            Target::Proxy(Arc::new(proxy::ProxyPlan {
                upstreams: upstreams.iter().map(number).collect(),
                frames: match frames {
                    Frames::Binary => proxy::Frames::Binary,
                    Frames::Text => proxy::Frames::Text,
                    Frames::Lines => proxy::Frames::Lines,
                },
                subprotocols: subprotocols.clone(),
                connect_ticks: ticks(*connect_timeout),
                end_code: CloseCode(*end_code),
            }))
        }
    }
}

/// Every upstream once, in the order of the configuration: their places are their numbers.
fn upstreams(config: &Config) -> Vec<&config::Upstream> {
    let mut all: Vec<&config::Upstream> = Vec::new();
    for route in &config.routes {
        if let config::Service::Proxy { upstreams, .. } = &route.service {
            upstreams.iter().for_each(|it| {
                if !all.contains(&it) {
                    all.push(it)
                }
            });
        }
    }
    all
}

fn places(config: &Config, health: Arc<[Health]>) -> Places {
    let places = upstreams(config).into_iter().map(place).collect();
    let server = &config.server;
    Places { places, health, backoff: Backoff { first: server.upstream_backoff, max: server.upstream_backoff_max } }
}

fn place(upstream: &config::Upstream) -> Place {
    match upstream {
        config::Upstream::Tcp { host, port } => match host.parse() {
            Ok(address) => Place::Known(SocketAddr::new(address, *port)),
            Err(_) => Place::Named,
        },
        config::Upstream::Unix(path) => Place::Unix(PathBuf::from(path)),
    }
}

fn control_settings(
    config: &Config,
    admin: Option<TcpListener>,
    epoch: u32,
    (health, counts): (Arc<[Health]>, Counts),
) -> control::ControlSettings {
    let upstreams = upstreams(config);
    let named = |(number, it): (u32, &&config::Upstream)| match it {
        config::Upstream::Tcp { host, port } if host.parse::<IpAddr>().is_err() => Some((number, host.clone(), *port)),
        config::Upstream::Tcp { .. } | config::Upstream::Unix(_) => None,
    };
    control::ControlSettings {
        admin: admin.map(|listener| Admin { listener, rules: admin_rules(config) }),
        counts,
        names: (0..).zip(&upstreams).filter_map(named).collect(),
        resolve_ttl: config.server.resolve_ttl,
        grace: config.server.shutdown_grace,
        labels: metrics::Labels {
            listeners: config.listeners.iter().map(|it| it.name.clone()).collect(),
            upstreams: upstreams.iter().map(ToString::to_string).collect(),
            health,
        },
        feeds: super::feeds::settings(config),
        publish_limits: super::feeds::publish_limits(config),
        epoch,
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

    fn words(errno: i32) -> String {
        let error = io::Error::from_raw_os_error(errno);
        Failure::Shard { shard: 3, error, memlock: 1448 << 10 }.to_string()
    }

    #[test]
    fn a_shard_short_of_memory_names_the_limit_and_its_command() {
        let expected = "shard 3: no io_uring: Cannot allocate memory (os error 12): raise RLIMIT_MEMLOCK, or free \
                        memory; as root: ulimit -l 1448 (under systemd: LimitMEMLOCK=1448K)\n";
        assert_eq!(words(libc::ENOMEM), expected);
        assert_eq!(words(libc::EMFILE), "shard 3: no io_uring: Too many open files (os error 24)\n");
    }
    #[test]
    fn an_executor_that_finds_the_limit_too_low_is_short_of_memory() {
        let errno = |limit| executor_error(io::Error::from_raw_os_error(libc::EMFILE), limit).raw_os_error();
        assert_eq!(errno(Some(MEMLOCK_MIN - 1)), Some(libc::ENOMEM));
        assert_eq!([errno(Some(MEMLOCK_MIN)), errno(None)], [Some(libc::EMFILE); 2]);
    }

    /// A shard's thread that ends so gives its letter box up, by which the control thread knows.
    fn thread(end: fn() -> io::Result<()>) -> (Thread, Receiver<()>) {
        let (sender, receiver) = mesh::mailbox::<()>(Arc::new(Waker::new().unwrap()));
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

//! 15 000 idle and 1 000 busy clients together, with 100 that never read and 100 that drip.
//!
//! Method: the plain clients live in a [`Crowd`] on a thread of their own, the busy ones on a runtime on this
//! thread; one server with two shards serves all. During the busy time the crowd's thread also feeds the
//! drippers their byte a second and samples the server's memory and metrics. Idle clients have a route of
//! their own with a short `idle_timeout`, so that each of them is pinged in that time and must live on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use crate::busy::{Account, Busy, HEAVY_EVERY, LARGE_BYTES, SMALL_BYTES, WINDOW};
use crate::crowd::{BINARY, Crowd, Habit, Invitation, Stage, frame};
use crate::peer::{Server, names, patience, raise_file_limit, wait_for};

const IDLE: usize = 15_000;
const BUSY: usize = 1_000;
const DEAF: usize = 100;
const DRIP: usize = 100;
const ALL: usize = IDLE + BUSY + DEAF + DRIP;
/// Idle clients asked for one echo at the end.
const SAMPLE: usize = 1_000;
/// How long the busy ones talk.
const BUSY_TIME: Duration = Duration::from_secs(20);
/// Message size of those that never read.
const DEAF_BYTES: usize = 4 * 1024;
/// Payload of the one frame of a dripper: more bytes than it has seconds.
const DRIP_BYTES: usize = 100;

// Either shard could take all of them: how the kernel spreads connections is not what this test is about.
const CONFIG: &str = r#"
[server]
shards = 2
slots_per_shard = 18000
admin = "{admin}"
park_after = "2s"
shutdown_grace = "15s"
[[listener]]
name = "public"
address = "{address}"
[limits]
message_bytes = "1MiB"
idle_timeout = "120s"
max_pending = "64KiB"
close_timeout = "3s"
[[route]]
path = "/idle"
service = "echo"
idle_timeout = "20s"
[[route]]
path = "/echo"
service = "echo"
"#;

/// The resident memory the server may gain, in bytes, from ready and empty to all clients served.
fn growth_bound() -> u64 {
    const KIB: usize = 1024;
    // The receive buffers (2 shards, 256 of 4 KiB by default) are touched for the first time under load.
    let buffers = 2 * 256 * 4 * KIB;
    // A slot and what stands beside it: the figure that ci/memory holds the server to.
    let slots = ALL * 512;
    // max_pending, then what was on its way when reading paused: a receive buffer of the kernel (128 KiB at
    // first), the client's send buffer (twice what it asked for), and the message being put together.
    let deaf = DEAF * (64 * KIB + 128 * KIB + 2 * 16 * KIB + DEAF_BYTES);
    // A frame in pieces is kept until it is whole, in at most a page.
    let drip = DRIP * 4 * KIB;
    // All a busy client has in flight, held twice: in the message being put together and in the outbox.
    let small = 2 * WINDOW * SMALL_BYTES.end();
    let busy = BUSY * small + BUSY / HEAVY_EVERY * 2 * LARGE_BYTES;
    // Code and tables touched for the first time, stacks, the two completion queues, the allocator's own.
    let once = 8 * KIB * KIB;
    (buffers + slots + deaf + drip + busy + once) as u64
}

/// The clients of this test, by the range of their number in the crowd.
struct Scene {
    server: Server,
    crowd: Crowd,
    idle: Vec<usize>,
    deaf: Vec<usize>,
    drip: Vec<usize>,
    /// Bytes of its frame that each dripper has sent.
    dripped: usize,
    /// Resident bytes of the server when it was ready and empty, and the most that was seen.
    rss_empty: u64,
    rss_most: u64,
    parked_most: u64,
}

#[test]
fn many() {
    let _alone = crate::alone();
    let needed = ALL as u64 + 100;
    assert!(raise_file_limit() >= needed, "ulimit -n must allow {needed}");
    let start = Instant::now();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");

    let mut scene = Scene::open();
    println!("{} clients joined in {:?}", scene.crowd.clients().len(), start.elapsed());
    let busy = scene.live_while(|address| runtime.block_on(busy_time(address)));
    let account = total(&busy);
    report(&account);

    scene.check_idle();
    scene.check_drip();
    scene.check_deaf();
    scene.check_metrics(&account);
    scene.check_memory();

    scene.server.terminate();
    let codes = scene.live_while(|_| runtime.block_on(all_closed(busy)));
    assert!(codes.iter().all(|&code| code == 1001), "{codes:?}");
    scene.check_end();
    println!("many: {:?} in all", start.elapsed());
}

impl Scene {
    /// Everybody but the busy ones is open; those that never read have begun to send.
    fn open() -> Scene {
        let server = Server::start(CONFIG);
        let rss_empty = server.memory().rss;
        let mut crowd = Crowd::new();
        let mut join = |count, path, habit| {
            let address = server.address;
            let whom = Invitation { address, path, habit };
            crowd.join(count, &whom, patience(30)).collect()
        };
        let idle = join(IDLE, "/idle", Habit::Polite);
        let deaf: Vec<usize> = join(DEAF, "/echo", Habit::Deaf);
        let drip = join(DRIP, "/echo", Habit::Polite);
        assert_eq!(crowd.count(Stage::Open), IDLE + DEAF + DRIP);
        for &index in &deaf {
            crowd.flood(index, DEAF_BYTES);
        }
        Scene { server, crowd, idle, deaf, drip, dripped: 0, rss_empty, rss_most: 0, parked_most: 0 }
    }

    /// Keeps the crowd alive on a thread of its own for as long as `work` takes on this one.
    fn live_while<T>(&mut self, work: impl FnOnce(std::net::SocketAddr) -> T) -> T {
        let done = AtomicBool::new(false);
        let address = self.server.address;
        thread::scope(|scope| {
            scope.spawn(|| self.live_until(&done));
            let stop = SetOnDrop(&done);
            let result = work(address);
            drop(stop);
            result
        })
    }

    fn live_until(&mut self, done: &AtomicBool) {
        let mut tick = Instant::now();
        while !done.load(Ordering::Relaxed) {
            self.crowd.turn(Duration::from_millis(50));
            if tick.elapsed() >= Duration::from_secs(1) {
                tick = Instant::now();
                self.second();
            }
        }
    }

    /// Once a second: a byte from each dripper, a look at the server.
    fn second(&mut self) {
        if self.server.ended().is_some() || self.crowd.count(Stage::Ended) > 0 {
            return;
        }
        if self.dripped < DRIP_BYTES {
            self.drip(self.dripped..self.dripped + 1);
        }
        self.rss_most = self.rss_most.max(self.server.memory().rss);
        // Once it drains, the server may shut its admin address before it ends: no metrics then is no fault.
        let reply = self.server.get("/metrics").ok();
        if let Some(reply) = reply.filter(|reply| reply.status == 200) {
            let metrics = crate::peer::Metrics::parse(&reply.body);
            let parked = metrics.sum(names::CONNECTIONS, &[("state", names::PARKED)]);
            self.parked_most = self.parked_most.max(parked);
        }
    }

    /// Sends the bytes `range` of each dripper's frame.
    fn drip(&mut self, range: std::ops::Range<usize>) {
        for &index in &self.drip {
            let bytes = drip_frame(index);
            let end = range.end.min(bytes.len());
            self.crowd.send_raw(index, &bytes[range.start..end]);
        }
        self.dripped = range.end;
    }

    /// None was closed, each was pinged and lived on, all were parked at once, and a sample still echoes.
    fn check_idle(&mut self) {
        let idle = &self.idle;
        self.crowd.until("every idle client was pinged", patience(30), |crowd| {
            idle.iter().all(|&index| crowd.client(index).pings > 0)
        });
        assert_eq!(self.crowd.count(Stage::Open), IDLE + DEAF + DRIP);
        let sample: Vec<usize> = idle.iter().copied().step_by(IDLE / SAMPLE).collect();
        let echoes = self.crowd.echo_each(&sample, 500, patience(10));
        assert_eq!(echoes, SAMPLE);
        let parked = self.parked_most;
        assert!(parked >= IDLE as u64, "at most {parked} were parked");
    }

    /// The rest of the frame that came byte by byte makes it whole.
    fn check_drip(&mut self) {
        assert!(self.dripped >= 15, "only {} bytes dripped", self.dripped);
        self.drip(self.dripped..usize::MAX);
        let drip = &self.drip;
        self.crowd.until("the drippers are answered", patience(10), |crowd| {
            let mut all = drip.iter();
            all.all(|&index| crowd.client(index).messages == [drip_payload(index)])
        });
    }

    /// The server has stopped reading those who do not read, and closed none of them.
    fn check_deaf(&mut self) {
        let deaf = &self.deaf;
        self.crowd.until("they are made to wait", patience(10), |crowd| {
            deaf.iter().all(|&index| crowd.client(index).is_stuck())
        });
    }

    /// What the server counted is what the clients know.
    fn check_metrics(&self, account: &Account) {
        let known = account.messages + (SAMPLE + DRIP) as u64;
        // The shards report from time to time: what was sent last may not be in the next scrape.
        wait_for("all known messages are counted", patience(5), || self.server.messages("out") >= known);
        let metrics = self.server.metrics();
        let open = metrics.sum(names::CONNECTIONS, &[("listener", "public")]);
        assert_eq!(open, ALL as u64, "connections");
        assert_eq!(metrics.sum(names::REFUSALS, &[]), 0, "refusals");
        assert_eq!(metrics.sum(names::CLOSES, &[]), 0, "nobody has left yet");

        let flooded: u64 = self.crowd.clients().iter().map(|c| c.flooded).sum();
        let messages = |way| metrics.sum(names::MESSAGES, &[("direction", way)]);
        let (received, sent) = (messages("in"), messages("out"));
        println!("messages: {known} known, at most {flooded} from the deaf; server: {received} in, {sent} out");
        assert!((known..=known + flooded).contains(&received), "in: {received}");
        assert!((known..=received).contains(&sent), "out: {sent}");
    }

    fn check_memory(&self) {
        let (grown, bound) = (self.rss_most.saturating_sub(self.rss_empty), growth_bound());
        println!(
            "server RSS: {} KiB empty, {} KiB at most, grown by {} of {} KiB",
            self.rss_empty >> 10,
            self.rss_most >> 10,
            grown >> 10,
            bound >> 10
        );
        assert!(grown <= bound, "grown by {grown}, bound {bound}");
    }

    /// Everyone who reads was told 1001, and the server has left in good order.
    fn check_end(&mut self) {
        let readers = IDLE + DRIP;
        let told = |crowd: &mut Crowd| {
            let codes = crowd.clients().iter().map(|client| client.close_code);
            codes.filter(|&code| code == Some(1001)).count() == readers
        };
        self.crowd.until("all readers are told 1001", patience(15), told);
        let mut ended = None;
        self.crowd.until("the server has ended", patience(20), |_| {
            ended = self.server.ended();
            ended.is_some()
        });
        assert_eq!(ended.and_then(|status| status.code()), Some(0));
    }
}

/// Ends the crowd's loop even when the work beside it panics: the scope would wait for it for ever.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn drip_payload(index: usize) -> Vec<u8> {
    (0..DRIP_BYTES).map(|at| (index + at) as u8).collect()
}

fn drip_frame(index: usize) -> Vec<u8> {
    frame(BINARY, &drip_payload(index), index as u32)
}

/// Connects the busy clients and lets them talk; returns them still open.
async fn busy_time(address: std::net::SocketAddr) -> Vec<Busy> {
    let mut open = Vec::with_capacity(BUSY);
    for index in 0..BUSY {
        open.push(Busy::connect(index, address, "/echo").await);
    }
    let end = Instant::now() + BUSY_TIME;
    gather(open.into_iter().map(|busy| busy.talk(end))).await
}

async fn all_closed(busy: Vec<Busy>) -> Vec<u16> {
    gather(busy.into_iter().map(Busy::closed)).await
}

/// Runs all of `tasks` at once; panics if one of them does.
async fn gather<T: 'static>(tasks: impl Iterator<Item = impl Future<Output = T> + 'static>) -> Vec<T> {
    let here = LocalSet::new();
    let running: Vec<_> = tasks.map(|task| here.spawn_local(task)).collect();
    let all = async {
        let mut results = Vec::with_capacity(running.len());
        for task in running {
            results.push(task.await.expect("no client has panicked"));
        }
        results
    };
    here.run_until(all).await
}

fn total(busy: &[Busy]) -> Account {
    let mut total = Account::new();
    for one in busy {
        total.add(one.account());
    }
    total
}

fn report(account: &Account) {
    let rate = account.messages / BUSY_TIME.as_secs();
    let mebibytes = account.bytes >> 20;
    println!("busy: {} messages ({rate} a second), {mebibytes} MiB each way", account.messages);
    let at = |quantile| account.latency.value_at_quantile(quantile);
    let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
    let max = account.latency.max();
    println!("latency in us: p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}");
}

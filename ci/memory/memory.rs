//! What an idle connection costs the server in user space.
//!
//! Method: the server holds 2 000 connections, then 12 000; each has carried one message and is parked. The
//! cost of one is the slope between the two readings of its resident memory. A first crowd of 2 000 comes and
//! goes before the first reading, so that what grows once (buffers, tables, code) is not counted. At the end
//! 10 000 leave and 10 000 others come: that must cost nothing, or something leaks. A second test measures the kernel's
//! share, a third what a client costs that listens to a channel.

#[path = "../load/crowd.rs"]
mod crowd;
#[path = "../load/peer.rs"]
mod peer;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crowd::{Crowd, Habit, Invitation, Stage};
use peer::{Memory, Server, kilobytes, patience, raise_file_limit};

const FEW: usize = 2_000;
const MORE: usize = 10_000;
/// The most an idle connection may cost, in bytes of RSS.
const BYTES_MAX: i64 = 200;
/// What a parked connection costs the kernel at least: an idle TCP connection (3 870 bytes), an armed multishot poll
/// (256) and a direct descriptor (40). Five in a hundred more is the most.
const KERNEL_BYTES_MAX: f64 = 1.05 * (3870.0 + 256.0 + 40.0);
/// The most that a client may cost beyond that which listens to a channel, in bytes of RSS.
const SUBSCRIBER_BYTES_MAX: f64 = 64.0;
/// Connections of which the kernel's share is measured.
const KERNEL_CROWD: &str = "15000";
/// The most a connection that took the slot of another may add: nothing, but for the grain of pages.
const LEAK_BYTES_MAX: i64 = 64;
/// The one message each connection has carried before it is idle.
const MESSAGE_BYTES: usize = 512;

const CONFIG: &str = r#"
[server]
shards = 2
slots_per_shard = 16000
admin = "{admin}"
park_after = "1s"
[[listener]]
name = "public"
address = "{address}"
[[route]]
path = "/echo"
service = "echo"
[[feed]]
name = "bench"
source = "http"
[[route]]
path = "/feed/{channel}"
service = "broadcast"
feeds = ["bench"]
"#;

/// Memory is read by one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// One reading, all in bytes.
#[derive(Clone, Copy)]
struct Reading {
    server: Memory,
    /// SUnreclaim of the whole machine: both ends of every connection, and whatever else runs.
    slab: u64,
}

#[test]
fn idle_connection() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let needed = (FEW + MORE + 100) as u64;
    assert!(raise_file_limit() >= needed, "ulimit -n must allow {needed}");
    let server = Server::start(CONFIG);
    let mut crowd = Crowd::new();

    join(&mut crowd, &server, FEW);
    leave(&mut crowd, &server, FEW);
    join(&mut crowd, &server, FEW);
    let few = parked(&mut crowd, &server, FEW);
    join(&mut crowd, &server, MORE);
    let all = parked(&mut crowd, &server, FEW + MORE);
    leave(&mut crowd, &server, MORE);
    join(&mut crowd, &server, MORE);
    let again = parked(&mut crowd, &server, FEW + MORE);

    let slab = slope(few.slab, all.slab);
    println!("kernel slab, both ends: {slab} bytes per connection (for information)");
    let pss = slope(few.server.pss, all.server.pss);
    let rss = slope(few.server.rss, all.server.rss);
    println!("idle connection: {rss} bytes of RSS, {pss} of PSS; limit {BYTES_MAX}");
    let leak = slope(all.server.rss, again.server.rss);
    println!("connection in a used slot: {leak} bytes of RSS; limit {LEAK_BYTES_MAX}");
    assert!(rss <= BYTES_MAX, "an idle connection costs {rss} bytes");
    assert!(leak <= LEAK_BYTES_MAX, "a used slot costs {leak} bytes");
}

/// The kernel's share: edgehold-bench reads the slab at three counts and takes off its own end, which it has
/// calibrated.
#[test]
fn kernel_memory_of_a_parked_connection() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let measured = measure("/echo");
    let (kernel, user) = (measured["kernel_server_bytes"].as_f64(), measured["user_rss_bytes"].as_f64());
    let (kernel, user) = (kernel.expect("a figure"), user.expect("a figure"));
    println!("parked connection: {kernel:.0} bytes of the kernel's memory; limit {KERNEL_BYTES_MAX:.0}");
    assert!(kernel <= KERNEL_BYTES_MAX, "a parked connection costs the kernel {kernel:.0} bytes");
    assert!(user <= BYTES_MAX as f64, "and {user:.0} bytes of user memory");
}

/// What listening costs beyond being there.
#[test]
fn subscriber() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let user = |path: &str| measure(path)["user_rss_bytes"].as_f64().expect("a figure");
    let (idle, listening) = (user("/echo"), user("/feed/bench"));
    println!("idle connection: {idle:.0} bytes, one that listens {listening:.0}; limit {SUBSCRIBER_BYTES_MAX} more");
    assert!(listening - idle <= SUBSCRIBER_BYTES_MAX, "a subscriber costs {:.0} bytes more", listening - idle);
}

/// The memory of connections to a path, as edgehold-bench measures it.
fn measure(path: &str) -> serde_json::Value {
    let server = Server::start(CONFIG);
    let json = tempfile::NamedTempFile::new().expect("a file");
    let (url, admin) = (format!("ws://{}{path}", server.address), format!("http://{}", server.admin));
    let mut command = Command::new(bench());
    command.args(["idle", "--connections", KERNEL_CROWD, "--rate", "10000", "--hold", "1s"]);
    command.args(["--url", &url, "--admin", &admin, "--server-pid", &server.pid().to_string(), "--json"]);
    let ended = command.arg(json.path()).status().expect("edgehold-bench runs");
    assert!(ended.success(), "edgehold-bench idle: {ended}");
    let text = fs::read_to_string(json.path()).expect("its result");
    let outcome: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    outcome["memory"].clone()
}

/// Beside the server, where `cargo build --release --workspace` puts it.
fn bench() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_edgehold")).with_file_name("edgehold-bench");
    assert!(path.exists(), "{} is missing: cargo build --release --workspace", path.display());
    path
}

/// `count` clients join, and each has one message echoed.
fn join(crowd: &mut Crowd, server: &Server, count: usize) {
    let whom = Invitation { address: server.address, path: "/echo", habit: Habit::Polite };
    let joined: Vec<usize> = crowd.join(count, &whom, patience(30)).collect();
    let open = |&&index: &&usize| crowd.client(index).stage() == Stage::Open;
    assert_eq!(joined.iter().filter(open).count(), count);
    let echoes = crowd.echo_each(&joined, MESSAGE_BYTES, patience(30));
    assert_eq!(echoes, count);
}

/// The `count` clients that joined last leave; returns when the server has let go of them.
fn leave(crowd: &mut Crowd, server: &Server, count: usize) {
    let stay = crowd.count(Stage::Open) - count;
    let all = crowd.clients().len();
    for index in all - count..all {
        crowd.close(index, 1000);
    }
    crowd.until("the leavers are let go", patience(30), |crowd| {
        crowd.count(Stage::Closing) == 0 && server.connections() == stay as u64
    });
}

/// Waits until `count` connections are parked, and reads.
fn parked(crowd: &mut Crowd, server: &Server, count: usize) -> Reading {
    crowd.until("all are parked", patience(30), |_| server.parked() == count as u64);
    let reading = Reading { server: server.memory(), slab: unreclaimable_slab() };
    let Memory { rss, pss } = reading.server;
    println!("{count} parked: RSS {} KiB, PSS {} KiB", rss >> 10, pss >> 10);
    reading
}

fn unreclaimable_slab() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    kilobytes(&text, "SUnreclaim:")
}

/// Bytes for each of `MORE` connections.
fn slope(before: u64, after: u64) -> i64 {
    (after as i64 - before as i64) / MORE as i64
}

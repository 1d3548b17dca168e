//! What an idle connection costs the server in user space.
//!
//! Method: the server holds 2 000 connections, then 12 000; each has carried one message and is parked. The
//! cost of one is the slope between the two readings of its resident memory. A first crowd of 2 000 comes and
//! goes before the first reading, so that what grows once (buffers, tables, code) is not counted. They come a
//! hundred at a time, so that what is under way at once, and the memory that it takes for a moment, is the same for few
//! and for many, on however busy a machine. At the end 10 000 leave and 10 000 others come: that must cost nothing, or
//! something leaks. Further tests measure the kernel's share, what a client costs that listens to a channel, and what
//! one costs that came over TLS, idle or not.

#[path = "../load/crowd.rs"]
mod crowd;
#[path = "../load/peer.rs"]
mod peer;

use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};

use crowd::tls_client::{Issued, TLS13, offers, without_tickets};
use crowd::{Crowd, Habit, Invitation, Stage};
use tempfile::TempDir;

use peer::{Memory, Server, patience, raise_file_limit};

const FEW: usize = 2_000;
const MORE: usize = 10_000;
/// The most an idle connection may cost, in bytes of RSS.
const BYTES_MAX: i64 = 200;
/// What a parked connection costs the kernel at least: an idle TCP connection (3 870 bytes), an armed multishot poll
/// (256) and a direct descriptor (40). Five in a hundred more is the most.
const KERNEL_BYTES_MAX: f64 = 1.05 * (3870.0 + 256.0 + 40.0);
/// The most that an idle connection over TLS 1.3 with AES-128 may cost, in bytes of RSS.
const TLS_BYTES_MAX: f64 = 256.0;
/// The same with AES-256, whose state is 32 bytes larger.
const TLS_LARGE_BYTES_MAX: i64 = 320;
/// What a connection over TLS may cost beyond the same in clear text while it is not parked: its keys stay expanded,
/// 1.2 kB in one piece. 1 293 to 1 556 bytes were seen, by the holes that handshakes had left in the heap.
const TLS_AWAKE_BYTES_MAX: i64 = 1800;
/// The most that a client may cost beyond that which listens to a channel, in bytes of RSS.
const SUBSCRIBER_BYTES_MAX: f64 = 64.0;
/// The most that an idle client of a broker may cost, in bytes of RSS.
const BROKER_BYTES_MAX: f64 = 256.0;
/// Connections of which the kernel's share is measured.
const KERNEL_CROWD: [&str; 4] = ["--connections", "15000", "--rate", "10000"];
/// Connections over TLS, of which more are measured, and which come no faster than handshakes are made: those that wait
/// take the heap's memory, and leave it in pieces.
const TLS_CROWD: [&str; 7] = ["--connections", "24000", "--rate", "2000", "--insecure", "--tls-version", "1.3"];
/// The most a connection that took the slot of another may add: nothing, but for the grain of pages.
const LEAK_BYTES_MAX: i64 = 64;
/// Clients that join and speak at a time.
const LOT: usize = 100;
/// Clients over TLS that come at a time. Keys that stay expanded take the heap's memory and leave it in pieces, and so
/// do the handshakes of those who come together: ten thousand at once leave it 3 MB larger, which is no client's.
const TOGETHER: usize = 1_000;
/// The kernel's memory is that of all processes. What they do moves a figure by chance, what the server does comes
/// again: a figure holds when a second measurement agrees with it, to so many bytes of the kernel's and of user memory.
const AGREE: [f64; 2] = [100.0, 6.0];
/// Measurements of which two must agree.
const MEASUREMENTS: usize = 6;
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

/// A route in front of a broker.
const BROKER: &str = r#"
[[route]]
path = "/mqtt"
service = "mqtt"
upstream = "tcp://127.0.0.1:{port}"
"#;

/// Where clients connect, in clear text and over TLS.
const PLAIN: &str = "address = \"{address}\"";
const SECURED: &str = "address = \"{address}\"\ntls = { certificate = \"{folder}/a.pem\", key = \"{folder}/a.key\" }";

/// Memory is read by one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn idle_connection() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let needed = (FEW + MORE + 100) as u64;
    assert!(raise_file_limit() >= needed, "ulimit -n must allow {needed}");
    let (rss, leak) = cost_of(Crowd::new(), CONFIG, Server::parked, MORE);
    println!("idle connection: {rss} bytes of RSS; limit {BYTES_MAX}");
    println!("connection in a used slot: {leak} bytes of RSS; limit {LEAK_BYTES_MAX}");
    assert!(rss <= BYTES_MAX, "an idle connection costs {rss} bytes");
    assert!(leak <= LEAK_BYTES_MAX, "a used slot costs {leak} bytes");
}

/// What a connection costs, and one more in a used slot, in bytes of RSS, when as many are ready as there are; no more
/// than `unready_max` are not at a time.
fn cost_of(mut crowd: Crowd, config: &str, ready: impl Fn(&Server) -> u64, unready_max: usize) -> (i64, i64) {
    let server = Server::start(config);
    let come = |crowd: &mut Crowd, count: usize| {
        let mut memory = None;
        for done in (0..count).step_by(unready_max) {
            join(crowd, &server, unready_max.min(count - done));
            memory = Some(settled(crowd, &server, &ready));
        }
        memory.expect("some have come")
    };
    come(&mut crowd, FEW);
    leave(&mut crowd, &server, FEW);
    let few = come(&mut crowd, FEW);
    let all = come(&mut crowd, MORE);
    leave(&mut crowd, &server, MORE);
    let again = come(&mut crowd, MORE);
    (slope(few.rss, all.rss), slope(all.rss, again.rss))
}

/// The kernel's share: edgehold-bench reads the slab at three counts and takes off its own end, which it has
/// calibrated.
#[test]
fn kernel_memory_of_a_parked_connection() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let [kernel, user] = agreed("/echo");
    println!("parked connection: {kernel:.0} bytes of the kernel's memory; limit {KERNEL_BYTES_MAX:.0}");
    assert!(kernel <= KERNEL_BYTES_MAX, "a parked connection costs the kernel {kernel:.0} bytes");
    assert!(user <= BYTES_MAX as f64, "and {user:.0} bytes of user memory");
}

/// What listening costs beyond being there.
#[test]
fn subscriber() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let user = |path| agreed_of(path, || measure(path), &[1])[1];
    let (idle, listening) = (user("/echo"), user("/feed/bench"));
    println!("idle connection: {idle:.0} bytes, one that listens {listening:.0}; limit {SUBSCRIBER_BYTES_MAX} more");
    assert!(listening - idle <= SUBSCRIBER_BYTES_MAX, "a subscriber costs {:.0} bytes more", listening - idle);
}

/// What a client of a broker costs that is subscribed to one of a hundred topics and hears nothing. They come so slowly
/// that whoever has just come, and is looked at for its CONNECT, is about as many at each count.
#[test]
fn subscriber_of_a_broker() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (broker, port) = mosquitto();
    let config = format!("{CONFIG}{}", BROKER.replace("{port}", &port.to_string()));
    let flags = ["--protocol", "mqtt", "--topics", "100", "--connections", "12000", "--rate", "800"];
    let user = agreed_of("/mqtt", || figures(&measured(&config, "ws", "/mqtt", &flags)), &[1])[1];
    drop(broker);
    println!("idle connection of a subscriber of a broker: {user:.0} bytes of RSS; limit {BROKER_BYTES_MAX}");
    assert!(user <= BROKER_BYTES_MAX, "a broker's idle client costs {user:.0} bytes");
}

/// A broker, and where it listens; `ci/install real` installs it.
fn mosquitto() -> (Killed, u16) {
    let port = peer::free_port();
    // Debian has it where only root looks.
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let broker = Command::new("mosquitto").args(["-p", &port.to_string()]).env("PATH", path).spawn();
    let broker = Killed(broker.unwrap_or_else(|error| panic!("mosquitto: {error}; ci/install real installs it")));
    peer::wait_for("Mosquitto listens", patience(20), || TcpStream::connect(("127.0.0.1", port)).is_ok());
    (broker, port)
}

/// A process that ends with its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The state of the record layer beside the slot, and nothing of the handshake; the first of three counts takes what
/// handshakes need while they are made.
#[test]
fn idle_connection_over_tls() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = certified();
    let over_tls = || {
        let outcome = measured(&secured(folder.path()), "wss", "/echo", &TLS_CROWD);
        let shook = &outcome["connect"]["tls"];
        assert_eq!(shook["cipher_suite"], "TLS13_AES_128_GCM_SHA256");
        println!("full handshakes per second of the server's CPU: {}", shook["full_per_server_cpu_second"]);
        figures(&outcome)
    };
    let [kernel, user] = agreed_of("wss", over_tls, &[1]);
    println!("idle connection over TLS: {user:.0} bytes of RSS, {kernel:.0} of the kernel's; limit {TLS_BYTES_MAX}");
    assert!(user <= TLS_BYTES_MAX, "an idle connection over TLS costs {user:.0} bytes");
}

/// Clients that offer AES-256 only. They are few at a time, as in clear text, so that handshakes under way are the same
/// for few and for many.
#[test]
fn idle_connection_over_tls_with_aes_256() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let needed = (FEW + MORE + 100) as u64;
    assert!(raise_file_limit() >= needed, "ulimit -n must allow {needed}");
    let (issued, folder) = (Issued::new(), tempfile::tempdir().expect("a temporary folder"));
    put(folder.path(), &issued.pem());
    let offer = without_tickets(&offers(&TLS13, Some("TLS13_AES_256_GCM_SHA384"), &[&issued]));
    let crowd = || Crowd::over_tls(vec![offer.clone()]);
    let (rss, leak) = cost_of(crowd(), &secured(folder.path()), Server::parked, TOGETHER);
    println!("idle connection over TLS with AES-256: {rss} bytes of RSS; limit {TLS_LARGE_BYTES_MAX}");
    println!("connection in a used slot: {leak} bytes of RSS; limit {LEAK_BYTES_MAX}");
    assert!(rss <= TLS_LARGE_BYTES_MAX, "an idle connection over TLS with AES-256 costs {rss} bytes");
    assert!(leak <= LEAK_BYTES_MAX, "a used slot costs {leak} bytes");
    let never = |config: &str| config.replace("park_after = \"1s\"", "park_after = \"1h\"");
    let awake = cost_of(crowd(), &never(&secured(folder.path())), Server::connections, TOGETHER).0;
    let clear = cost_of(Crowd::new(), &never(CONFIG), Server::connections, MORE).0;
    println!("not parked: {awake} bytes of RSS over TLS, {clear} in clear text; limit {TLS_AWAKE_BYTES_MAX} more");
    assert!(awake - clear <= TLS_AWAKE_BYTES_MAX, "keys that stay expanded cost {} bytes", awake - clear);
}

/// A folder with a certificate that is its own authority, and its key (P-256).
fn certified() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).expect("a certificate");
    put(folder.path(), &[made.cert.pem(), made.signing_key.serialize_pem()]);
    folder
}

/// Certificate and key as files.
fn put(folder: &Path, [certificate, key]: &[String; 2]) {
    let path = folder.join("a.key");
    fs::write(folder.join("a.pem"), certificate).expect("a file");
    fs::write(&path, key).expect("a file");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("a mode");
}

/// The configuration with what lies in this folder.
fn secured(folder: &Path) -> String {
    CONFIG.replace(PLAIN, &SECURED.replace("{folder}", &folder.display().to_string()))
}

/// What a connection to a path costs, the kernel's and user memory: the first two measurements that agree, and the
/// smaller figures of them, since what is under way for others is never less than nothing.
fn agreed(path: &str) -> [f64; 2] {
    agreed_of(path, || measure(path), &[0, 1])
}

/// The same, and only figures in these places need to agree.
fn agreed_of(path: &str, measure: impl Fn() -> [f64; 2], places: &[usize]) -> [f64; 2] {
    let mut seen: Vec<[f64; 2]> = Vec::new();
    for _ in 0..MEASUREMENTS {
        let now = measure();
        let agrees = |then: &&[f64; 2]| places.iter().all(|&at| (then[at] - now[at]).abs() <= AGREE[at]);
        if let Some(then) = seen.iter().find(agrees) {
            return [0, 1].map(|at| now[at].min(then[at]));
        }
        seen.push(now);
    }
    panic!("{path}: no two measurements agree, the machine is too busy to measure on: {seen:?}");
}

/// The memory of connections to a path, as edgehold-bench measures it: the kernel's and the server's own.
fn measure(path: &str) -> [f64; 2] {
    figures(&measured(CONFIG, "ws", path, &KERNEL_CROWD))
}

fn figures(outcome: &serde_json::Value) -> [f64; 2] {
    ["kernel_server_bytes", "user_rss_bytes"].map(|key| outcome["memory"][key].as_f64().expect("a figure"))
}

/// What edgehold-bench finds of a crowd at a path of a server with this configuration.
fn measured(config: &str, scheme: &str, path: &str, flags: &[&str]) -> serde_json::Value {
    let server = Server::start(config);
    let json = tempfile::NamedTempFile::new().expect("a file");
    let (url, admin) = (format!("{scheme}://{}{path}", server.address), format!("http://{}", server.admin));
    let mut command = Command::new(bench());
    command.args(["idle", "--hold", "1s"]).args(flags);
    command.args(["--url", &url, "--admin", &admin, "--server-pid", &server.pid().to_string(), "--json"]);
    let ended = command.arg(json.path()).status().expect("edgehold-bench runs");
    assert!(ended.success(), "edgehold-bench idle: {ended}");
    let text = fs::read_to_string(json.path()).expect("its result");
    serde_json::from_str(&text).expect("JSON")
}

/// Beside the server, where `cargo build --release --workspace` puts it.
fn bench() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_edgehold")).with_file_name("edgehold-bench");
    assert!(path.exists(), "{} is missing: cargo build --release --workspace", path.display());
    path
}

/// `count` clients join, some at a time, and each has one message echoed.
fn join(crowd: &mut Crowd, server: &Server, count: usize) {
    (0..count).step_by(LOT).for_each(|done| join_lot(crowd, server, LOT.min(count - done)));
}

fn join_lot(crowd: &mut Crowd, server: &Server, count: usize) {
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

/// Waits until all connections are ready, and reads.
fn settled(crowd: &mut Crowd, server: &Server, ready: impl Fn(&Server) -> u64) -> Memory {
    let count = crowd.count(Stage::Open);
    crowd.until("all are ready", patience(30), |_| ready(server) == count as u64);
    let memory = server.memory();
    println!("{count} ready: RSS {} KiB, PSS {} KiB", memory.rss >> 10, memory.pss >> 10);
    memory
}

/// Bytes for each of `MORE` connections.
fn slope(before: u64, after: u64) -> i64 {
    (after.cast_signed() - before.cast_signed()) / MORE.cast_signed() as i64
}

//! The server under test, as a process: start it, ask it, stop it.
//!
//! Method: the server binary runs as a child with a configuration written to a temporary folder, on ports
//! that no other test has ([`ports`]). Nothing here waits for a time to pass: every wait polls a condition until it
//! holds or a deadline has gone by ([`wait_for`]). A child is ended through its own handle only, never by name.
//!
//! Test programs of other folders use this file too (`#[path = "../load/peer.rs"] mod peer;`).
#![allow(dead_code, unused_imports, reason = "each test program uses the part it needs")]

#[path = "ports.rs"]
mod ports;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tempfile::TempDir;

pub(crate) use ports::free_port;

/// The metrics these tests read; no other line of the tests spells one.
pub(crate) mod names {
    /// Gauge, labels `listener`, `service`, `state`: connections that hold a slot.
    pub(crate) const CONNECTIONS: &str = "edgehold_connections";
    /// Counter, label `direction` (`in`, `out`): whole WebSocket data messages.
    pub(crate) const MESSAGES: &str = "edgehold_messages_total";
    /// Counter, label `reason` (`full`: no slot was free): requests and clients refused.
    pub(crate) const REFUSALS: &str = "edgehold_refusals_total";
    /// Counter, label `cause`: client connections that have ended.
    pub(crate) const CLOSES: &str = "edgehold_closes_total";
    /// Counter: connections of either side that were put on a multishot poll.
    pub(crate) const PARKS: &str = "edgehold_parks_total";
    /// Counter: parked connections that went back to a multishot recv.
    pub(crate) const PROMOTIONS: &str = "edgehold_promotions_total";
    /// Gauge, label `shard`: slots taken, by clients and by upstreams.
    pub(crate) const SLOTS_USED: &str = "edgehold_slots_used";
    /// Gauge, label `upstream`: connections to it, being called or open.
    pub(crate) const UPSTREAM_CONNECTIONS: &str = "edgehold_upstream_connections";
    /// Counter: times that a peer was held back because the other side took nothing.
    pub(crate) const HELD_BACK: &str = "edgehold_held_back_total";
    /// Counter, labels `peer` (`client`, `upstream`), `direction`: bytes carried.
    pub(crate) const BYTES: &str = "edgehold_bytes_total";
    /// Gauge: memory of outbox chunks in use.
    pub(crate) const OUTBOX: &str = "edgehold_outbox_bytes";
    /// Gauge: bytes queued and not yet taken by the kernel.
    pub(crate) const PENDING: &str = "edgehold_pending_bytes";
    /// Counter, label `listener`: clients accepted.
    pub(crate) const ACCEPTS: &str = "edgehold_accepts_total";
    /// Counter, label `kind` (`full`, `resumed`): TLS handshakes that were completed.
    pub(crate) const TLS_HANDSHAKES: &str = "edgehold_tls_handshakes_total";
    /// Counter, label `reason`: TLS handshakes that have failed.
    pub(crate) const TLS_FAILURES: &str = "edgehold_tls_handshake_failures_total";
    /// Gauge: TLS handshakes that have begun.
    pub(crate) const TLS_UNDER_WAY: &str = "edgehold_tls_handshakes_under_way";
    /// Gauge: TLS connections whose keys stay expanded.
    pub(crate) const TLS_AWAKE: &str = "edgehold_tls_awake";
    /// Counter, labels `listener`, `result` (`ok`, `failed`): times that files of `tls` had changed.
    pub(crate) const TLS_RELOADS: &str = "edgehold_tls_reloads_total";
    /// The value of `state` of a connection that waits on a multishot poll only.
    pub(crate) const PARKED: &str = "parked";
}

/// `seconds`, times the whole number in `EDGEHOLD_PATIENCE` (an emulated machine is slower; default 1).
pub(crate) fn patience(seconds: u64) -> Duration {
    let factor = std::env::var("EDGEHOLD_PATIENCE").ok();
    let factor = factor.and_then(|text| text.parse().ok()).unwrap_or(1);
    Duration::from_secs(seconds * factor)
}

/// The first number, or the second where everything is to be tried in full.
pub(crate) fn scaled(small: usize, full: usize) -> usize {
    if std::env::var_os("EDGEHOLD_HOSTILE").is_some_and(|it| it == "full") { full } else { small }
}

/// Polls `condition` until it holds. Panics, naming `what`, when it does not within `limit`.
#[track_caller]
pub(crate) fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Lets this process open as many files as its hard limit allows, and returns that number.
pub(crate) fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may rise to the hard one");
    limit.maximum.unwrap_or(u64::MAX)
}

/// The server binary: `EDGEHOLD`, else the one cargo built for this test, else the release build of the checkout.
pub(crate) fn binary() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_edgehold").map(PathBuf::from);
    let given = std::env::var_os("EDGEHOLD").map(PathBuf::from);
    given.or(built).unwrap_or_else(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        root.join("target/release/edgehold")
    })
}

/// A command that would serve `config` (a whole TOML text), written into `folder`; all it says goes to the
/// file `log` there. Not yet started, so that a test may add to it.
pub(crate) fn serve_command(folder: &Path, config: &str) -> Command {
    let file = folder.join("edgehold.toml");
    fs::write(&file, config).expect("a configuration file");
    let log = File::create(folder.join("log")).expect("a log file");
    let mut command = Command::new(binary());
    command.arg("serve").arg("--config").arg(file);
    command.stdin(Stdio::null());
    command.stdout(log.try_clone().expect("the same file"));
    command.stderr(log);
    command
}

/// What the server at `folder` has said so far.
pub(crate) fn log_of(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// A running server. Dropping it kills the child, and shows its log if the test is failing.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// Where `/readyz`, `/metrics` and `/v1/...` answer.
    pub(crate) admin: SocketAddr,
}

/// Resident memory of a process in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Pages the process has mapped and that are in memory.
    pub(crate) rss: u64,
    /// The same, shared pages divided by the number of their users.
    pub(crate) pss: u64,
}

impl Server {
    /// Starts a server and waits until it is ready. In `config`, `{address}` and `{admin}` stand for two free
    /// addresses. Panics with the server's log when it ends, or is not ready in 20 s.
    pub(crate) fn start(config: &str) -> Server {
        Server::start_with(config, |_| {}, |_| {})
    }

    /// The same; `prepare` adds to the command, and `begun` is told the process id before the server is ready.
    pub(crate) fn start_with(config: &str, prepare: impl FnOnce(&mut Command), begun: impl FnOnce(u32)) -> Server {
        let [address, admin] = [free_port(), free_port()].map(local);
        let config = config.replace("{address}", &address.to_string()).replace("{admin}", &admin.to_string());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = serve_command(folder.path(), &config);
        prepare(&mut command);
        let child = command.spawn();
        drop(command);
        let mut server = Server {
            child: child.unwrap_or_else(|error| panic!("{}: {error}", binary().display())),
            folder,
            address,
            admin,
        };
        begun(server.pid());
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&mut self) {
        wait_for("GET /readyz is 200", patience(20), || {
            let ended = self.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "the server ended: {ended:?}");
            self.get("/readyz").is_ok_and(|reply| reply.status == 200)
        });
    }

    /// The process id of the server.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the server has logged so far.
    pub(crate) fn log(&self) -> String {
        log_of(self.folder.path())
    }

    /// GET on the admin address.
    pub(crate) fn get(&self, path: &str) -> io::Result<Reply> {
        get(self.admin, path)
    }

    /// The metrics as they stand now.
    pub(crate) fn metrics(&self) -> Metrics {
        let reply = self.get("/metrics").expect("GET /metrics");
        assert_eq!(reply.status, 200, "GET /metrics: {}", reply.body);
        Metrics::parse(&reply.body)
    }

    /// Connections of the listener `public` that are parked.
    pub(crate) fn parked(&self) -> u64 {
        let labels = [("listener", "public"), ("state", names::PARKED)];
        self.metrics().sum(names::CONNECTIONS, &labels)
    }

    /// Connections of the listener `public`, in whatever state.
    pub(crate) fn connections(&self) -> u64 {
        let labels = [("listener", "public")];
        self.metrics().sum(names::CONNECTIONS, &labels)
    }

    /// Whole messages that went `way` (`in` or `out`) so far.
    pub(crate) fn messages(&self, way: &str) -> u64 {
        self.metrics().sum(names::MESSAGES, &[("direction", way)])
    }

    /// Resident memory now, from `/proc/<pid>/smaps_rollup`.
    pub(crate) fn memory(&self) -> Memory {
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        let text = fs::read_to_string(path).expect("smaps_rollup of our own child");
        Memory { rss: kilobytes(&text, "Rss:"), pss: kilobytes(&text, "Pss:") }
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("our own child takes a signal");
    }

    /// The exit status, if the server has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// Waits until the server has ended. Panics when it has not within `limit`.
    pub(crate) fn wait_end(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        wait_for("the server has ended", limit, || {
            status = self.ended();
            status.is_some()
        });
        status.expect("the condition held")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a child that has ended, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of the server ---\n{}", self.log());
        }
    }
}

/// An address of 127.0.0.1.
fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The figure after `key` in a file of the form `Key:   123 kB`, in bytes; 0 when there is none.
pub(crate) fn kilobytes(text: &str, key: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(key));
    let number = rest.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// An HTTP response, whole.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status code.
    pub(crate) status: u16,
    /// The content as text.
    pub(crate) body: String,
}

/// One GET request on a connection of its own; fails after 5 s (times patience) of silence.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience(5)))?;
    // HTTP/1.0: the answer then ends with the connection and is never chunked.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    reply(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, text))
}

fn reply(text: &str) -> Option<Reply> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply { status, body: body.to_owned() })
}

/// One scrape: samples in the Prometheus text format.
pub(crate) struct Metrics {
    samples: Vec<Sample>,
}

struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Reads the text format; panics at a line that is neither a comment nor a sample.
    pub(crate) fn parse(text: &str) -> Metrics {
        let lines = text.lines().map(str::trim);
        let samples = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let parse = |line| Sample::parse(line).unwrap_or_else(|| panic!("no sample: {line}"));
        Metrics { samples: samples.map(parse).collect() }
    }

    /// The sum of all samples called `name` that carry all of `labels`. Panics when none has that name, so
    /// that a renamed metric is not taken for a count of 0.
    #[expect(clippy::cast_sign_loss, reason = "what is summed up are counters and gauges, which are not negative")]
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        assert!(self.has(name), "no metric {name}");
        let chosen = self.samples.iter().filter(|s| s.is(name, labels));
        chosen.map(|sample| sample.value).sum::<f64>() as u64
    }

    /// Whether there is a sample of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == name)
    }
}

impl Sample {
    /// `name{label="value",...} 12.5`; a timestamp after the value is ignored.
    fn parse(line: &str) -> Option<Sample> {
        let end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(inside) => labels(inside)?,
            None => (Vec::new(), rest),
        };
        Some(Sample { name: name.to_owned(), labels, value: rest.split_whitespace().next()?.parse().ok()? })
    }

    fn is(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        let carries = |(key, value): &(&str, &str)| {
            let mut own = self.labels.iter();
            own.any(|(k, v)| k == key && v == value)
        };
        self.name == name && labels.iter().all(carries)
    }
}

/// Labels up to and with the closing brace, and what follows it.
fn labels(mut text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut found = Vec::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((found, rest));
        }
        let (key, rest) = text.split_once("=\"")?;
        let (value, rest) = quoted(rest)?;
        found.push((key.to_owned(), value));
        text = rest;
    }
}

/// A label value up to and with its closing quote, escapes (`\\`, `\"`, `\n`) resolved, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[test]
fn metrics_are_read() {
    let text = "# TYPE a gauge\na 1\na_b{x=\"1\",y=\"a \\\"q\\\" }\"} 2.5e1 7\na_b{x=\"2\"} 4\n";
    let metrics = Metrics::parse(text);
    assert_eq!(metrics.sum("a_b", &[]), 29);
    assert_eq!(metrics.sum("a_b", &[("y", "a \"q\" }")]), 25);
    assert_eq!((metrics.sum("a", &[]), metrics.has("b")), (1, false));
}

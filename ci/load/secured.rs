//! A server with a listener that speaks TLS, and clients of it: one at a time over blocking sockets, or two hundred who
//! echo at a steady rate and say how long each echo took.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustls::ClientConfig;
use tempfile::TempDir;

use crate::crowd::tls_client::{Issued, TlsClient};
use crate::crowd::{Crowd, Habit, Invitation, Stage, request};
use crate::peer::{Server, names, patience};

/// `{shards}`, `{slots}`, `{handshake_timeout}` and `{folder}` are to be replaced.
const CONFIG: &str = r#"
[server]
shards = {shards}
slots_per_shard = {slots}
admin = "{admin}"
log = "info"
park_after = "1s"
tls_handshake_timeout = "{handshake_timeout}"
[limits]
head_timeout = "{handshake_timeout}"
addresses = {addresses}
[[listener]]
name = "public"
address = "{address}"
tls = { certificate = "{folder}/edge.pem", key = "{folder}/edge.key" }
[[route]]
path = "/echo"
service = "echo"
"#;

/// A server and the files that it was started with.
pub(crate) struct Secured {
    pub(crate) server: Server,
    folder: TempDir,
}

impl Secured {
    /// With this certificate, so many shards, so many slots in each, and this much time for a handshake and again for
    /// a request.
    pub(crate) fn start(issued: &Issued, shards: usize, slots: usize, timeout: &str) -> Secured {
        Secured::start_limited(issued, (shards, slots), timeout, "{ dry_run = false }")
    }

    /// The same, with these `addresses`.
    pub(crate) fn start_limited(
        issued: &Issued,
        (shards, slots): (usize, usize),
        timeout: &str,
        addresses: &str,
    ) -> Secured {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [certificate, key] = issued.pem();
        put(folder.path(), "edge.pem", &certificate);
        put(folder.path(), "edge.key", &key);
        let path = folder.path().display().to_string();
        let config = CONFIG.replace("{folder}", &path).replace("{handshake_timeout}", timeout);
        let config = config.replace("{addresses}", addresses);
        let config = config.replace("{shards}", &shards.to_string()).replace("{slots}", &slots.to_string());
        let server = Server::start(&config);
        Secured { server, folder }
    }

    /// Replaces a file by rename, as tools do that care.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        put(self.folder.path(), name, text);
    }

    /// How to open an echo.
    pub(crate) fn invitation(&self) -> Invitation {
        Invitation { address: self.server.address, path: "/echo", habit: Habit::Polite }
    }

    /// A gauge or a counter over all labels.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        self.server.metrics().sum(name, &[])
    }

    /// Client connections that have ended for this reason.
    pub(crate) fn closes(&self, cause: &str) -> u64 {
        self.server.metrics().sum(names::CLOSES, &[("cause", cause)])
    }

    /// Handshakes that were completed, with a signature (`full`) or with a ticket (`resumed`).
    pub(crate) fn handshakes(&self, kind: &str) -> u64 {
        self.server.metrics().sum(names::TLS_HANDSHAKES, &[("kind", kind)])
    }

    /// What stays behind connections that have gone beside `innocents` who are there: slots beyond theirs, handshakes,
    /// bytes that are queued, memory of queues.
    pub(crate) fn left(&self, innocents: u64) -> [u64; 4] {
        let metrics = self.server.metrics();
        let [slots, under_way, pending, outbox] =
            [names::SLOTS_USED, names::TLS_UNDER_WAY, names::PENDING, names::OUTBOX].map(|name| metrics.sum(name, &[]));
        [slots - innocents.min(slots), under_way, pending, outbox]
    }
}

fn put(folder: &Path, name: &str, text: &str) {
    let next = folder.join("next");
    fs::write(&next, text).expect("a file");
    fs::set_permissions(&next, Permissions::from_mode(0o600)).expect("a mode");
    fs::rename(next, folder.join(name)).expect("the file");
}

// ---- one at a time ----

/// A client over a blocking socket.
pub(crate) struct Guest {
    pub(crate) stream: TcpStream,
    pub(crate) tls: TlsClient,
}

impl Guest {
    /// Connects; nothing of TLS is said yet.
    pub(crate) fn new(address: SocketAddr, config: &Arc<ClientConfig>) -> Guest {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_read_timeout(Some(patience(10))).expect("a read timeout");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Guest { stream, tls: TlsClient::new(config) }
    }

    /// A WebSocket that was opened: the handshake is over, and its tickets have come.
    #[track_caller]
    pub(crate) fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> Guest {
        let mut guest = Guest::new(address, config);
        guest.tls.seal(&request(address, "/echo"));
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            guest.say();
            heard.extend(guest.hear());
        }
        assert!(heard.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&heard));
        guest
    }

    /// Sends what there is to send.
    fn say(&mut self) {
        let records = self.tls.outgoing();
        self.stream.write_all(&records).expect("the server listens");
    }

    fn hear(&mut self) -> Vec<u8> {
        let mut bytes = [0; 16 << 10];
        let len = self.stream.read(&mut bytes).expect("bytes");
        assert!(len > 0, "the end instead of records");
        self.tls.open(&bytes[..len]).expect("records of TLS")
    }

    /// Hears the server until there is something to say to it, or the handshake is over.
    #[track_caller]
    pub(crate) fn next_flight(&mut self) -> Vec<u8> {
        loop {
            let flight = self.tls.outgoing();
            if !flight.is_empty() || !self.tls.is_handshaking() {
                return flight;
            }
            self.hear();
        }
    }

    /// Says close_notify and FIN, and waits for the server's.
    pub(crate) fn leave(mut self) {
        self.tls.close();
        self.say();
        self.stream.shutdown(std::net::Shutdown::Write).expect("FIN");
        expect_end(&mut self.stream);
    }
}

/// Reads until FIN or RST. Panics when neither comes in ten seconds (times patience).
#[track_caller]
pub(crate) fn expect_end(stream: &mut TcpStream) {
    let mut waste = [0; 16 << 10];
    loop {
        match stream.read(&mut waste) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the server does not end it"),
            Err(_) => return,
        }
    }
}

// ---- innocents ----

/// Between two messages of one of them.
const PACE: Duration = Duration::from_millis(200);
/// Bytes of a message.
const WORDS: usize = 64;

/// So many clients who echo on a thread of their own; each echo must be the message, and nobody may be closed.
pub(crate) struct Innocents {
    over: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    thread: JoinHandle<Crowd>,
    delays: Arc<std::sync::Mutex<Histogram<u64>>>,
}

impl Innocents {
    /// All are open when this returns.
    pub(crate) fn start(secured: &Secured, offers: Vec<Arc<ClientConfig>>, count: usize) -> Innocents {
        let mut crowd = Crowd::over_tls(offers);
        // No more of an address at once than may be who have not said anything yet.
        crowd.pending_max = 64;
        let all = crowd.join(count, &secured.invitation(), patience(60));
        assert!(all.into_iter().all(|index| crowd.client(index).stage() == Stage::Open), "all are let in");
        let (over, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let delays = Arc::new(std::sync::Mutex::new(Histogram::new(3).expect("three digits")));
        let (end, round, record) = (over.clone(), rounds.clone(), delays.clone());
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                one_round(&mut crowd, count, &record);
                round.fetch_add(1, Ordering::Relaxed);
            }
            crowd
        });
        Innocents { over, rounds, thread, delays }
    }

    /// How many rounds have gone by in which each has echoed.
    pub(crate) fn rounds(&self) -> usize {
        assert!(!self.thread.is_finished(), "an innocent was closed, or sent something else");
        self.rounds.load(Ordering::Relaxed)
    }

    /// Waits for so many rounds more.
    #[track_caller]
    pub(crate) fn go_on(&self, rounds: usize) {
        let first = self.rounds() + rounds;
        crate::peer::wait_for("innocents echo", patience(60), || self.rounds() >= first);
    }

    /// The 99th percentile of the echoes since it was asked last, or since the beginning.
    pub(crate) fn p99(&self) -> Duration {
        let mut delays = self.delays.lock().expect("the thread goes on");
        let p99 = Duration::from_nanos(delays.value_at_quantile(0.99));
        delays.reset();
        p99
    }

    /// All have echoed to the last, and none was closed.
    #[track_caller]
    pub(crate) fn finish(self) -> Crowd {
        self.go_on(2);
        self.over.store(true, Ordering::Relaxed);
        let crowd = self.thread.join().expect("no innocent is closed");
        assert_eq!(crowd.count(Stage::Open), crowd.clients().len());
        crowd
    }
}

/// Each says one message, spread over [`PACE`], and all have it back at the end.
fn one_round(crowd: &mut Crowd, count: usize, delays: &std::sync::Mutex<Histogram<u64>>) {
    let begun = Instant::now();
    let mut said: Vec<Instant> = Vec::with_capacity(count);
    let mut waiting: Vec<usize> = Vec::new();
    while said.len() < count || !waiting.is_empty() {
        let due = begun + PACE * said.len() as u32 / count as u32;
        if said.len() < count && due <= Instant::now() {
            crowd.send(said.len(), &words(said.len()));
            waiting.push(said.len());
            said.push(Instant::now());
        }
        crowd.turn(due.saturating_duration_since(Instant::now()).min(PACE / count as u32));
        waiting.retain(|&index| !is_back(crowd, index, said[index], delays));
        assert!(begun.elapsed() < patience(20), "{} of {count} echoes are not back", waiting.len());
    }
}

fn words(index: usize) -> Vec<u8> {
    vec![index as u8; WORDS]
}

fn is_back(crowd: &mut Crowd, index: usize, said: Instant, delays: &std::sync::Mutex<Histogram<u64>>) -> bool {
    assert_eq!(crowd.client(index).stage(), Stage::Open, "innocent {index}");
    if crowd.client(index).messages.is_empty() {
        return false;
    }
    assert_eq!(crowd.take_messages(index), [words(index)], "innocent {index}");
    let nanos = said.elapsed().as_nanos() as u64;
    delays.lock().expect("a number is read").record(nanos).expect("any number");
    true
}

/// SplitMix64: the same numbers from the same seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// The next number.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ mixed >> 29
    }

    /// One of so many.
    pub(crate) fn below(&mut self, sides: usize) -> usize {
        (self.roll() >> 16) as usize % sides
    }
}

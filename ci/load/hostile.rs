//! Clients that want to harm, beside innocents who must not feel it.
//!
//! Method: each attack runs against a server of its own with one shard, so that attackers and innocents share all there
//! is. Innocents ([`Innocents`]) echo eight bytes all the time, each echo within [`BOUND`], and an innocent listener
//! ([`Listener`]) hears a message twenty times a second. None of them may be closed, kept waiting or left out, whatever
//! becomes of the attackers: a server may cut these. Small on every check; `EDGEHOLD_HOSTILE=full` (`ci/check --deep`)
//! makes the attacks as large as they were when they succeeded.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use flate2::{Compress, Compression, FlushCompress};
use socket2::SockRef;

use crate::by_hand::{Caller, open_door};
use crate::crowd::{BINARY, PING, TEXT, frame, request};
use crate::peer::{Server, names, patience, raise_file_limit, scaled, wait_for};

/// The longest that an innocent waits for an echo (times patience): attacks kept them waiting for 3.7 s and for ever.
const BOUND: Duration = Duration::from_millis(1500);
/// What a receive buffer holds, and so what makes one full to the last byte.
const RECV_BUFFER_BYTES: usize = 20 << 10;
const MIB: usize = 1 << 20;
/// How long an attack goes on that has no end of its own.
const ATTACK: Duration = Duration::from_secs(3);
/// Between two messages to the innocent listener: twenty a second.
const PACE: Duration = Duration::from_millis(50);
const OUTBOX_BYTES: u64 = 64 << 20;

const CONFIG: &str = r#"
[server]
shards = 1
slots_per_shard = 2500
admin = "{admin}"
log = "warn"
park_after = "1s"
outbox_bytes = "64MiB"
[[listener]]
name = "public"
address = "{address}"
[limits]
message_bytes = "2MiB"
[[feed]]
name = "http"
source = "http"
replay = { messages = 200, age = "10m", bytes = "16MiB" }
[[route]]
path = "/echo"
service = "echo"
[[route]]
path = "/feed/{channel}"
service = "broadcast"
feeds = ["http"]
poll_timeout = "60s"
[[route]]
path = "/all"
service = "broadcast"
feeds = ["http"]
subscribe = true
"#;

// ---- the innocent ----

/// Clients that echo, one after the other, on a thread of their own.
struct Innocents {
    over: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<Duration>,
}

impl Innocents {
    /// So many, all open; each has heard an echo.
    fn start(server: &Server, count: usize) -> Innocents {
        let mut callers: Vec<Caller> = (0..count).map(|_| Caller::new(server.address).open("/echo")).collect();
        callers.iter_mut().for_each(|caller| _ = echo(caller));
        let (over, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (end, round) = (over.clone(), rounds.clone());
        let thread = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !end.load(Ordering::Relaxed) {
                longest = callers.iter_mut().map(echo).fold(longest, Duration::max);
                round.fetch_add(1, Ordering::Relaxed);
            }
            longest
        });
        Innocents { over, rounds, thread }
    }

    /// Two more rounds, and then all have waited no longer than they may.
    #[track_caller]
    fn finish(self) {
        let now = self.rounds.load(Ordering::Relaxed);
        wait_for("innocents go on", patience(30), || {
            self.thread.is_finished() || self.rounds.load(Ordering::Relaxed) >= now + 2
        });
        self.over.store(true, Ordering::Relaxed);
        let longest = self.thread.join().expect("no innocent is closed");
        println!("the longest echo of an innocent took {longest:?}");
        assert!(longest <= BOUND * patience(1).as_secs() as u32, "an innocent waited for {longest:?}");
    }
}

/// How long eight bytes took there and back.
fn echo(caller: &mut Caller) -> Duration {
    let begun = Instant::now();
    caller.say(&frame(BINARY, b"innocent", 7));
    assert_eq!(caller.frame(), (BINARY, b"innocent".to_vec()));
    begun.elapsed()
}

/// A new client is let in and heard.
#[track_caller]
fn welcomed(server: &Server) {
    echo(&mut Caller::new(server.address).open("/echo"));
}

/// Hears each of the messages that are published meanwhile, in order and in time.
struct Listener {
    over: mpsc::Sender<()>,
    voice: JoinHandle<usize>,
    ear: JoinHandle<usize>,
}

impl Listener {
    fn start(server: &Server) -> Listener {
        let mut caller = Caller::new(server.address).open("/feed/innocent");
        let ((over, end), admin) = (mpsc::channel(), server.admin);
        let voice = thread::spawn(move || {
            let mut number = 0;
            while end.recv_timeout(PACE) == Err(mpsc::RecvTimeoutError::Timeout) {
                publish(admin, "innocent", number.to_string().as_bytes());
                number += 1;
            }
            publish(admin, "innocent", b"last");
            number
        });
        let ear = thread::spawn(move || {
            for number in 0.. {
                let (opcode, words) = caller.frame();
                let words = String::from_utf8_lossy(&words).into_owned();
                if words == "last" {
                    return number;
                }
                assert_eq!((opcode, words), (TEXT, number.to_string()));
            }
            0
        });
        Listener { over, voice, ear }
    }

    #[track_caller]
    fn finish(self) {
        self.over.send(()).expect("who publishes");
        let said = self.voice.join().expect("all is published");
        assert_eq!(self.ear.join().expect("all is heard, in order"), said);
        assert!(said > 0);
    }
}

/// One message on a channel.
fn publish(admin: SocketAddr, channel: &str, message: &[u8]) {
    post(admin, &format!("/v1/publish/{channel}"), "text/x-message", message);
}

fn post(admin: SocketAddr, path: &str, kind: &str, body: &[u8]) {
    let mut stream = TcpStream::connect(admin).expect("the admin address");
    stream.set_read_timeout(Some(patience(30))).expect("a read timeout");
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {admin}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).expect("it listens");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("an answer in time");
    assert!(reply.starts_with("HTTP/1.1 20"), "{reply}");
}

// ---- the attackers ----

/// Says as much of it as is taken; an attacker may be held back, and cut.
fn attack(caller: &Caller, bytes: &[u8]) {
    let mut mouth = caller.mouth();
    mouth.set_write_timeout(Some(Duration::from_millis(500))).expect("a write timeout");
    let _ = mouth.write_all(bytes);
}

/// Says it again and again from a thread, and throws away what comes, until the time is over or it is cut.
fn flood(mut caller: Caller, bytes: Vec<u8>, until: Instant) -> [JoinHandle<()>; 2] {
    let (mut mouth, mut ear) = (caller.mouth(), caller.mouth());
    caller.swallow();
    let speaker = thread::spawn(move || {
        mouth.set_write_timeout(Some(Duration::from_millis(500))).expect("a write timeout");
        while Instant::now() < until && mouth.write_all(&bytes).is_ok() {}
        let _ = mouth.shutdown(std::net::Shutdown::Both);
    });
    let listener = thread::spawn(move || {
        let mut waste = vec![0; 64 << 10];
        while ear.read(&mut waste).is_ok_and(|len| len > 0) {}
    });
    [speaker, listener]
}

/// Goes with RST instead of FIN.
fn reset(caller: Caller) {
    SockRef::from(&caller.mouth()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    drop(caller);
}

/// A message of so many zeros, as few bytes as they can be deflated to.
fn bomb(zeros: usize) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(64 << 10);
    let mut compress = Compress::new(Compression::best(), false);
    compress.compress_vec(&vec![0; zeros], &mut deflated, FlushCompress::Sync).expect("room for all of it");
    // RFC 7692 section 7.2.1: the four bytes of the empty block at its end are left away.
    deflated.truncate(deflated.len() - 4);
    let mut bytes = frame(BINARY, &deflated, 9);
    bytes[0] |= 0x40;
    bytes
}

/// A WebSocket with permessage-deflate.
fn deflating(server: &Server, path: &str) -> Caller {
    let mut caller = Caller::new(server.address);
    let head = String::from_utf8(request(server.address, path)).expect("ASCII");
    let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n\r\n";
    caller.say(head.replace("\r\n\r\n", offer).as_bytes());
    assert_eq!(caller.status(), 101);
    caller
}

fn gauge(server: &Server, name: &str) -> u64 {
    server.metrics().sum(name, &[])
}

// ---- buffers and slots come back ----

/// More parked clients than there are buffers fill one each to the last byte, again and again: the shard goes on, as
/// each buffer comes back, also where the kernel names one with EAGAIN (Linux 6.1).
#[test]
fn full_buffers_come_back() {
    let _alone = crate::alone();
    let server = Server::start(CONFIG);
    let whole = frame(BINARY, &vec![b'x'; RECV_BUFFER_BYTES - 8], 3);
    assert_eq!(whole.len(), RECV_BUFFER_BYTES);
    let mut callers: Vec<Caller> = (0..140).map(|_| Caller::new(server.address).open("/echo")).collect();
    for _ in 0..scaled(2, 10) {
        wait_for("all are parked", patience(15), || server.parked() == 140);
        callers.iter_mut().for_each(|caller| caller.say(&whole));
        for caller in &mut callers {
            assert_eq!(caller.frame().1.len(), RECV_BUFFER_BYTES - 8);
        }
        welcomed(&server);
    }
}

/// Clients of silent streams and of polls that wait send more than is read of them, and go by FIN and by RST.
#[test]
fn slots_of_silent_streams_come_back() {
    let _alone = crate::alone();
    let server = Server::start(CONFIG);
    let innocents = Innocents::start(&server, 5);
    let count = scaled(100, 300);
    for path in ["/feed/silent?transport=raw", "/feed/silent?transport=lines", "/feed/silent?after="] {
        let callers: Vec<Caller> = (0..count).map(|_| Caller::new(server.address)).collect();
        let get = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        callers.iter().for_each(|caller| attack(caller, get.as_bytes()));
        wait_for("all have their stream", patience(10), || gauge(&server, names::SLOTS_USED) >= count as u64);
        callers.iter().for_each(|caller| attack(caller, &vec![b'x'; RECV_BUFFER_BYTES]));
        for (number, caller) in callers.into_iter().enumerate() {
            if number % 2 == 0 { reset(caller) } else { drop(caller) }
        }
        wait_for("all slots are free again", patience(20), || gauge(&server, names::SLOTS_USED) == 5);
    }
    innocents.finish();
}

// ---- memory is charged to whoever holds it ----

/// Messages that never end fill no pool for others.
#[test]
fn unfinished_messages_are_charged_to_their_clients() {
    let _alone = crate::alone();
    let server = Server::start(CONFIG);
    let innocents = Innocents::start(&server, 50);
    let mut begun = frame(BINARY, &vec![b'x'; 2 * MIB - 100], 5);
    begun.truncate(MIB);
    let attackers: Vec<Caller> = (0..scaled(80, 200)).map(|_| Caller::new(server.address).open("/echo")).collect();
    for attacker in &attackers {
        attack(attacker, &begun);
        welcomed(&server);
    }
    innocents.finish();
    welcomed(&server);
    drop(attackers);
    wait_for("the pool is empty again", patience(10), || gauge(&server, names::OUTBOX) < MIB as u64);
}

/// Bombs for an upstream that does not read are held back like any other bytes.
#[test]
fn bombs_for_an_upstream_that_does_not_read() {
    let _alone = crate::alone();
    let door = open_door();
    let upstream = door.local_addr().expect("a bound address");
    let route = format!("[[route]]\npath = \"/p\"\nservice = \"proxy\"\nupstream = \"tcp://{upstream}\"\n");
    let server = Server::start(&[CONFIG, &route].concat());
    let innocents = Innocents::start(&server, 10);
    let before = server.memory().rss;
    let attacker = deflating(&server, "/p");
    let (_silent, _) = door.accept().expect("the server calls");
    let bombs = bomb(MIB).repeat(scaled(100, 400));
    println!("{} bytes of bombs", bombs.len());
    attack(&attacker, &bombs);
    innocents.finish();
    let (outbox, rss) = (gauge(&server, names::OUTBOX), server.memory().rss);
    // One message that is inflated already, and max_pending, with as much again for what is under way.
    assert!(outbox <= 6 * MIB as u64, "{outbox} bytes of outbox for one client");
    assert!(rss <= before + (24 << 20), "{before} bytes of RSS became {rss}");
}

/// What clients say behind a request that waits for its answer is in the pool, which is bounded, or not read at all.
#[test]
fn bytes_behind_a_request_that_waits() {
    let _alone = crate::alone();
    raise_file_limit();
    let server = Server::start(CONFIG);
    let innocents = Innocents::start(&server, 5);
    let (before, count) = (server.memory().rss, scaled(250, 1_000));
    let poll = "GET /feed/silent?after= HTTP/1.1\r\nHost: a\r\n\r\n";
    let more = [poll.as_bytes(), &poll.as_bytes().repeat(MIB / poll.len())].concat();
    let mut attackers = Vec::new();
    for _ in 0..count {
        let attacker = Caller::new(server.address);
        // The kernel's buffers take what the server does not.
        SockRef::from(&attacker.mouth()).set_send_buffer_size(2 * MIB).expect("SO_SNDBUF");
        // They leave by a reset: a FIN waits in the client's kernel behind what the closed window does not take.
        SockRef::from(&attacker.mouth()).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
        attack(&attacker, &more);
        attackers.push(attacker);
    }
    innocents.finish();
    let rss = server.memory().rss;
    let limit = before + OUTBOX_BYTES + count as u64 * (64 << 10);
    println!("{count} clients: RSS from {before} to {rss}, limit {limit}");
    assert!(rss <= limit, "{before} bytes of RSS became {rss}");
    drop(attackers);
    wait_for("their slots are free again", patience(20), || gauge(&server, names::SLOTS_USED) == 0);
}

// ---- work is charged to whoever causes it ----

/// Two clients take and leave a prefix over many channels with kept messages, as fast as they can.
#[test]
fn storms_of_subscriptions_to_a_prefix() {
    let _alone = crate::alone();
    let server = Server::start(CONFIG);
    let (channels, kept) = (scaled(200, 1_000), scaled(50, 200));
    for channel in 0..channels {
        let line = format!("{{\"channel\":\"many.{channel}\",\"data\":\"kept\"}}\n");
        post(server.admin, "/v1/publish", "application/x-ndjson", line.repeat(kept).as_bytes());
    }
    let (innocents, listener) = (Innocents::start(&server, 10), Listener::start(&server));
    let orders = [&br#"{"subscribe":["many.*"]}"#[..], br#"{"unsubscribe":["many.*"]}"#];
    let storm = orders.map(|order| frame(TEXT, order, 11)).concat().repeat(20);
    during(ATTACK, |until| {
        (0..2).map(|_| flood(Caller::new(server.address).open("/all"), storm.clone(), until)).collect()
    });
    listener.finish();
    innocents.finish();
}

/// Two clients ping at full speed.
#[test]
fn storms_of_pings() {
    let _alone = crate::alone();
    let server = Server::start(CONFIG);
    let (innocents, listener) = (Innocents::start(&server, 10), Listener::start(&server));
    let pings = frame(PING, &[b'p'; 100], 13).repeat(512);
    during(ATTACK, |until| {
        (0..2).map(|_| flood(Caller::new(server.address).open("/echo"), pings.clone(), until)).collect()
    });
    listener.finish();
    innocents.finish();
}

/// Ten clients have messages inflated that are a thousand times as large as what they send.
#[test]
fn storms_of_bombs() {
    let _alone = crate::alone();
    let server = Server::start(CONFIG);
    let (innocents, listener) = (Innocents::start(&server, 10), Listener::start(&server));
    let bombs = bomb(MIB).repeat(16);
    during(ATTACK, |until| (0..10).map(|_| flood(deflating(&server, "/echo"), bombs.clone(), until)).collect());
    listener.finish();
    innocents.finish();
}

/// Attacks for a time; returns when all attackers have gone.
fn during(span: Duration, attack: impl FnOnce(Instant) -> Vec<[JoinHandle<()>; 2]>) {
    let attackers = attack(Instant::now() + span * scaled(1, 4) as u32);
    attackers.into_iter().flatten().for_each(|thread| thread.join().expect("an attacker only speaks and listens"));
}

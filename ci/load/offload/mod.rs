//! Clients of brokers that want to harm, beside innocents who must not feel it.
//!
//! Method: as in [`crate::hostile`], with one shard. Behind it is a broker that is played by this process
//! ([`broker`]), so that what reaches it can be counted. An innocent publishes numbered messages and waits for each
//! receipt (STOMP) or PUBACK (MQTT), and another hears them: all of them, in order, each within [`BOUND`]. Every
//! attack is one of a table, with the reason by which `edgehold_offload_refused_total` counts what it is refused.

mod broker;
mod mqtt;
mod stomp;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::by_hand::Caller;
use crate::crowd::CLOSE;
use crate::peer::{Server, free_port, names, patience, wait_for};

/// The longest that an innocent waits for a confirmation (times patience). Where a broker ends the session that it goes
/// over, that is made again first.
const BOUND: Duration = Duration::from_secs(3);
/// Between two messages of the innocent.
const PACE: Duration = Duration::from_millis(50);
/// What each shard keeps of cut frames, wills and aliases here.
const HELD_BYTES: u64 = 8 << 20;
/// What the server may take beyond what it had when only innocents were there: what clients have it keep, twice since
/// buffers grow by doubling; the outbox; and unconfirmed bytes of its sessions.
const MORE_BYTES: u64 = 2 * HELD_BYTES + (64 << 20) + (16 << 20);

/// A server with one route of a service, a listener with HTTP, and one without.
struct Edge {
    server: Server,
    /// Without HTTP.
    bare: SocketAddr,
    service: &'static str,
}

impl Edge {
    fn start(service: &'static str, upstream: SocketAddr) -> Edge {
        let bare = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = format!(
            r#"
[server]
shards = 1
slots_per_shard = 2500
admin = "{{admin}}"
log = "error"
outbox_bytes = "64MiB"
[[listener]]
name = "public"
address = "{{address}}"
[[listener]]
name = "bare"
address = "{bare}"
protocol = "{service}"
[limits]
message_bytes = "1MiB"
[[route]]
path = "/broker"
service = "{service}"
upstream = "tcp://{upstream}"
held_bytes = "{}MiB"
topics_max = 500
"#,
            HELD_BYTES >> 20
        );
        Edge { server: Server::start(&config), bare, service }
    }

    /// A client without HTTP that has not said anything.
    fn line(&self) -> Line {
        let stream = TcpStream::connect(self.bare).expect("the server accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(patience(20))).expect("a read timeout");
        Line { stream, came: Vec::new() }
    }

    /// What its clients were refused for a reason.
    fn refused(&self, reason: &str) -> u64 {
        let labels = [("service", self.service), ("reason", reason)];
        self.server.metrics().sum("edgehold_offload_refused_total", &labels)
    }

    /// Attacks, and waits until at least so many refusals are counted for the reason.
    #[track_caller]
    fn suffers(&self, what: &str, (reason, least): (&str, u64), attack: impl FnOnce()) {
        let (before, begun) = (self.refused(reason), Instant::now());
        attack();
        wait_for(&format!("{what}: {least} refusals for {reason}"), patience(20), || {
            self.refused(reason) >= before + least
        });
        let rss = self.server.memory().rss >> 20;
        println!("{what}: {} refused for {reason}, {:?}, {rss} MiB", self.refused(reason) - before, begun.elapsed());
    }

    /// Clients that break what WebSocket is: an unmasked frame, a reserved opcode, a long ping, a lost continuation.
    fn suffers_broken_framing(&self) {
        let broken: [&[u8]; 4] = [b"\x82\x03abc", b"\x83\x80\0\0\0\0", b"\x89\xfe\x01\0\0\0\0\0", b"\x80\x80\0\0\0\0"];
        for bytes in broken {
            let mut caller = Caller::new(self.server.address).open("/broker");
            caller.say(bytes);
            let (opcode, words) = caller.frame();
            assert_eq!((opcode, &words[..2]), (CLOSE, &1002_u16.to_be_bytes()[..]), "{bytes:x?}");
        }
    }

    /// All but so many clients have gone, and nothing is kept of them.
    fn is_empty_but_for(&self, count: u64) {
        let bare = || self.server.metrics().sum(names::CONNECTIONS, &[("listener", "bare")]);
        wait_for("the attackers have gone", patience(20), || bare() == count);
        let held = || self.server.metrics().sum("edgehold_offload_held_bytes", &[]);
        wait_for("nothing is held any more", patience(10), || held() == 0);
    }
}

/// One end of a connection.
struct Line {
    stream: TcpStream,
    came: Vec<u8>,
}

impl Line {
    fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server listens");
    }

    /// Says as much of it as is taken: an attacker may be held back, and cut.
    fn attack(&mut self, bytes: &[u8]) {
        self.stream.set_write_timeout(Some(Duration::from_millis(300))).expect("a write timeout");
        let _ = self.stream.write_all(bytes);
    }

    /// Takes what comes. `false`: it has ended.
    fn hear(&mut self) -> bool {
        let mut chunk = [0; 16 << 10];
        let len = self.stream.read(&mut chunk).unwrap_or(0);
        self.came.extend_from_slice(&chunk[..len]);
        len > 0
    }

    /// Byte by byte.
    fn dribble(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.stream.write_all(&[*byte]).is_err() {
                return;
            }
        }
    }

    /// Goes with RST.
    fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }
}

/// One who publishes and one who listens.
struct Innocents {
    over: mpsc::Sender<()>,
    voice: JoinHandle<(usize, Duration)>,
    ear: JoinHandle<usize>,
}

impl Innocents {
    /// `publish` returns when the message is confirmed; `hear` waits for the next one.
    fn start(
        mut publish: impl FnMut(&str) + Send + 'static,
        mut hear: impl FnMut() -> String + Send + 'static,
    ) -> Innocents {
        let (over, end) = mpsc::channel();
        let voice = thread::spawn(move || {
            let (mut number, mut longest) = (0, Duration::ZERO);
            while end.recv_timeout(PACE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let begun = Instant::now();
                publish(&number.to_string());
                longest = longest.max(begun.elapsed());
                number += 1;
            }
            publish("last");
            (number, longest)
        });
        let ear = thread::spawn(move || {
            let mut heard = 0;
            loop {
                let words = hear();
                if words == "last" {
                    return heard;
                }
                // What was said again after a session was lost may come twice.
                let number: usize = words.parse().expect("a number");
                assert!(number <= heard, "{number} comes behind {heard}: one is missing");
                heard = heard.max(number + 1);
            }
        });
        Innocents { over, voice, ear }
    }

    #[track_caller]
    fn finish(self) {
        self.over.send(()).expect("who publishes");
        let (said, longest) = self.voice.join().expect("the innocent is not closed");
        println!("the longest confirmation of {said} took {longest:?}");
        assert_eq!(self.ear.join().expect("nor is who listens"), said);
        assert!(said > 0 && longest <= BOUND * patience(1).as_secs() as u32, "the innocent waited for {longest:?}");
    }
}

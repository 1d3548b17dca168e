//! Attacks over STOMP.

use std::thread;

use edgehold_wire::stomp::{self, Command, Limits, Read, Version};

use super::broker::{Broker, NOPE};
use super::{Edge, HELD_BYTES, Innocents, Line, MORE_BYTES};
use crate::peer::{patience, scaled, wait_for};

const LIMITS: Limits = Limits { frame_bytes: 4 << 20, header_bytes: 64 << 10, header_count: 64 };
const MIB: usize = 1 << 20;

/// A frame as it came: command, the header that was asked for, body.
type Heard = (Command, String, Vec<u8>);

impl Line {
    fn tell(&mut self, command: Command, headers: &[(&str, &str)], body: &[u8]) {
        let frame = written(command, headers, body);
        self.say(&frame);
    }

    /// The next frame.
    #[track_caller]
    fn frame(&mut self, header: &str) -> Heard {
        loop {
            let (heard, used) = match stomp::read(&self.came, &LIMITS, Version::V12).expect("STOMP") {
                Read::Frame { frame, used } => {
                    let value = frame.get(header).unwrap_or_default().into_owned();
                    (Some((frame.command, value, frame.body.to_vec())), used)
                }
                Read::Beat { used } => (None, used),
                Read::More { .. } => {
                    assert!(self.hear(), "the end instead of a frame");
                    continue;
                }
            };
            self.came.drain(..used);
            if let Some(heard) = heard {
                return heard;
            }
        }
    }

    /// The message of the ERROR that comes.
    #[track_caller]
    fn error(&mut self) -> String {
        loop {
            match self.frame("message") {
                (Command::Error, words, _) => return words,
                (Command::Receipt | Command::Message, ..) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn written(command: Command, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    stomp::write(&mut out, Version::V12, command, headers, body);
    out
}

/// A client that is connected.
#[track_caller]
fn client(edge: &Edge) -> Line {
    let mut line = edge.line();
    line.tell(Command::Connect, &[("accept-version", "1.2"), ("host", "/")], b"");
    assert_eq!(line.frame("version").0, Command::Connected);
    line
}

/// Subscribes, and waits for the receipt.
#[track_caller]
fn subscribed(edge: &Edge, destination: &str) -> Line {
    let mut line = client(edge);
    let headers = [("id", "1"), ("destination", destination), ("ack", "auto"), ("receipt", "s")];
    line.tell(Command::Subscribe, &headers, b"");
    assert_eq!(line.frame("receipt-id").0, Command::Receipt);
    line
}

fn innocents(edge: &Edge, destination: &'static str) -> Innocents {
    let (mut listener, mut publisher) = (subscribed(edge, destination), client(edge));
    let publish = move |words: &str| {
        publisher.tell(Command::Send, &[("destination", destination), ("receipt", words)], words.as_bytes());
        assert_eq!(publisher.frame("receipt-id"), (Command::Receipt, words.into(), Vec::new()));
    };
    let hear = move || {
        let (command, _, body) = listener.frame("destination");
        assert_eq!(command, Command::Message);
        String::from_utf8(body).expect("words")
    };
    Innocents::start(publish, hear)
}

#[test]
fn nobody_else_suffers() {
    let _alone = crate::alone();
    let broker = Broker::stomp();
    let edge = Edge::start("stomp", broker.address);
    let of_topic = innocents(&edge, "/topic/innocent");
    let of_queue = innocents(&edge, "/queue/innocent");
    let before = edge.server.memory().rss;
    bad_frames(&edge);
    dribblers(&edge);
    unfinished_frames(&edge);
    floods_of_subscriptions(&edge);
    what_does_not_exist(&edge);
    readers_of_nothing(&edge, &broker);
    what_brokers_end_sessions_for(&edge, &broker);
    comers_and_goers(&edge);
    edge.suffers_broken_framing();
    let rss = edge.server.memory().rss;
    assert!(rss <= before + MORE_BYTES, "{before} bytes became {rss}");
    edge.is_empty_but_for(4);
    of_topic.finish();
    of_queue.finish();
}

/// Each is told what is wrong, and counted.
fn bad_frames(edge: &Edge) {
    for (bytes, reason, words) in [
        (&b"NONSENSE\n\n\0"[..], "frame", "no command"),
        (b"SEND\ndestination\n\n\0", "frame", "colon"),
        (b"SEND\na:\\t\n\n\0", "frame", "escape"),
        (b"SEND\na:\xff\n\n\0", "frame", "UTF-8"),
        (b"SEND\ndestination:/queue/a\ncontent-length:x\n\n\0", "frame", "content-length"),
        (b"SEND\ndestination:/queue/a\ncontent-length:1\n\nab\0", "frame", "NUL"),
        (b"SUBSCRIBE\nid:1\n\0", "frame", ""),
        (b"SEND\ncontent-length:99999999\n\n", "limit", "larger"),
        (b"CONNECT\naccept-version:1.2\n\n\0", "frame", "already"),
        (b"MESSAGE\n\n\0", "frame", "does not send"),
    ] {
        edge.suffers(&format!("{:?}", String::from_utf8_lossy(bytes)), (reason, 1), || {
            let mut line = client(edge);
            line.say(bytes);
            let told = line.error();
            assert!(told.contains(words), "{told}");
            assert!(!line.hear(), "the connection is ended");
        });
    }
    edge.suffers("SEND before CONNECT", ("frame", 1), || {
        let mut line = edge.line();
        line.tell(Command::Send, &[("destination", "/queue/a")], b"");
        line.error();
    });
    edge.suffers("headers without an end", ("limit", 1), || {
        let mut line = client(edge);
        line.attack(&[b"SEND\n", &b"a:b\n".repeat(1 << 16)[..]].concat());
        line.error();
    });
}

/// A large frame without content-length, byte by byte.
fn dribblers(edge: &Edge) {
    let count = scaled(4, 20);
    let bytes = [&b"SEND\ndestination:/queue/nobody\nreceipt:r\n\n"[..], &vec![b'x'; scaled(20_000, 200_000)]].concat();
    thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                let mut line = client(edge);
                line.dribble(&bytes);
                line.say(b"\0");
                assert_eq!(line.frame("receipt-id"), (Command::Receipt, "r".into(), Vec::new()));
            });
        }
    });
}

/// More cut frames than are kept: those go that have the most, and a small one that is cut does not.
fn unfinished_frames(edge: &Edge) {
    let mut small = client(edge);
    small.say(b"SEND\ndestination:/queue/nobody\nreceipt:small\n\nhalf of");
    let large = [b"SEND\ndestination:/queue/nobody\n\n", &vec![b'x'; MIB - 100][..]].concat();
    let mut lines = Vec::new();
    edge.suffers("frames that are never whole", ("limit", 4), || {
        for _ in 0..2 * HELD_BYTES as usize / MIB {
            let mut line = client(edge);
            line.attack(&large);
            lines.push(line);
        }
    });
    small.say(b" a word\0");
    assert_eq!(small.frame("receipt-id"), (Command::Receipt, "small".into(), Vec::new()));
}

/// More than a client may have; more topics than the edge may have.
fn floods_of_subscriptions(edge: &Edge) {
    edge.suffers("names without end", ("limit", 1), || {
        let mut line = client(edge);
        let destination = format!("/topic/{}", "x".repeat(2000));
        line.tell(Command::Subscribe, &[("id", "1"), ("destination", &destination)], b"");
        line.error();
    });
    let subscribe = |line: &mut Line, topic: &str| {
        line.attack(&written(Command::Subscribe, &[("id", topic), ("destination", topic)], b""));
    };
    edge.suffers("a client subscribes to all there is", ("limit", 1), || {
        let mut line = client(edge);
        (0..200).for_each(|number| subscribe(&mut line, &format!("/topic/many{number}")));
        line.error();
    });
    edge.suffers("many clients do", ("broker", 1), || {
        let mut lines: Vec<Line> = (0..12).map(|_| client(edge)).collect();
        for (at, line) in lines.iter_mut().enumerate() {
            (0..60).for_each(|number| subscribe(line, &format!("/topic/more{at}.{number}")));
        }
        lines.iter_mut().last().expect("a line").error();
    });
}

fn what_does_not_exist(edge: &Edge) {
    for frame in [
        &b"ACK\nid:q99\n\n\0"[..],
        b"NACK\nid:nothing\n\n\0",
        b"UNSUBSCRIBE\nid:9\n\n\0",
        b"COMMIT\ntransaction:t\n\n\0",
        b"ABORT\ntransaction:t\n\n\0",
        b"SEND\ndestination:/queue/a\ntransaction:t\n\n\0",
    ] {
        edge.suffers(&format!("{:?}", String::from_utf8_lossy(frame)), ("frame", 1), || {
            let mut line = client(edge);
            line.say(frame);
            line.error();
        });
    }
    edge.suffers("transactions that are only begun", ("limit", 1), || {
        let mut line = client(edge);
        (0..20).for_each(|number| line.attack(format!("BEGIN\ntransaction:t{number}\n\n\0").as_bytes()));
        line.error();
    });
}

/// One takes nothing of its queue, others nothing of their receipts: the former has no more than `prefetch`, the latter
/// are not read.
fn readers_of_nothing(edge: &Edge, broker: &Broker) {
    let (_deaf, mut voice) = (subscribed(edge, "/queue/deaf"), client(edge));
    let count = scaled(300, 2000);
    for number in 0..count {
        let receipt = number.to_string();
        voice.tell(Command::Send, &[("destination", "/queue/deaf"), ("receipt", &receipt)], &[b'x'; 4096]);
        assert_eq!(voice.frame("receipt-id").1, receipt);
    }
    let most = broker.most_unacknowledged();
    assert!((1..=32).contains(&most), "{most} messages are with a client that does not read");
    let flood = written(Command::Send, &[("destination", "/queue/nobody"), ("receipt", &"r".repeat(500))], b"x");
    let mut deaf: Vec<Line> = (0..4).map(|_| client(edge)).collect();
    deaf.iter_mut().for_each(|line| line.attack(&flood.repeat(scaled(20_000, 50_000))));
}

/// A destination that is tried first ends no session of others; in a transaction it does, and not again soon.
fn what_brokers_end_sessions_for(edge: &Edge, broker: &Broker) {
    for _ in 0..scaled(3, 20) {
        edge.suffers("a destination that does not exist", ("broker", 1), || {
            let mut line = client(edge);
            line.tell(Command::Send, &[("destination", NOPE), ("receipt", "r")], b"");
            assert!(line.error().contains("no such exchange"));
        });
    }
    let calls = broker.calls();
    let attempts = scaled(6, 30);
    for _ in 0..attempts {
        let mut line = client(edge);
        line.attack(&written(Command::Begin, &[("transaction", "t")], b""));
        line.attack(&written(Command::Send, &[("destination", NOPE), ("transaction", "t")], b""));
        line.error();
    }
    wait_for("the session that was ended is made again", patience(10), || broker.calls() > calls);
    let sessions = broker.calls() - calls;
    println!("{attempts} transactions have ended {sessions} sessions");
    assert!(sessions < 4, "{sessions} sessions were ended by transactions");
}

fn comers_and_goers(edge: &Edge) {
    for number in 0..scaled(100, 1000) {
        let mut line = client(edge);
        line.attack(&written(Command::Subscribe, &[("id", "1"), ("destination", "/topic/loop")], b""));
        if number % 2 == 0 { line.reset() } else { drop(line) }
    }
    wait_for("innocents are left", patience(20), || edge.server.metrics().sum("edgehold_connections", &[]) >= 4);
}

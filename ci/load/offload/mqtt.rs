//! Attacks over MQTT 5.

use std::thread;

use edgehold_wire::mqtt::{
    self, Ack, AckKind, Connect, Limits, Options, Packet, Properties, Property, Publish, QoS, Read, Role, Version, Will,
};

use super::broker::{Broker, HOLD};
use super::{Edge, HELD_BYTES, Innocents, Line, MORE_BYTES};
use crate::by_hand::Caller;
use crate::crowd::{TEXT, frame};
use crate::peer::{patience, scaled, wait_for};

const LIMITS: Limits = Limits { packet_bytes: 4 << 20 };
const MIB: usize = 1 << 20;
const INNOCENT: &str = "innocent/a/b/c";

impl Line {
    /// The next packet.
    #[track_caller]
    fn packet<T>(&mut self, take: impl Fn(&Packet<'_>) -> T) -> T {
        loop {
            if let Read::Packet { packet, used } =
                mqtt::read(&self.came, &LIMITS, Some(Version::V5), Role::Client).expect("MQTT")
            {
                let taken = take(&packet);
                self.came.drain(..used);
                return taken;
            }
            assert!(self.hear(), "the end instead of a packet");
        }
    }

    /// The reason of the DISCONNECT that comes.
    #[track_caller]
    fn reason(&mut self) -> u8 {
        loop {
            let reason = self.packet(|packet| match packet {
                Packet::Disconnect(it) => Some(it.reason),
                _ => None,
            });
            if let Some(reason) = reason {
                return reason;
            }
        }
    }

    fn subscribe(&mut self, id: u16, filters: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        let filters = filters.iter().map(|it| (*it, Options::default()));
        mqtt::write_subscribe(&mut out, Version::V5, id, Properties::default(), filters);
        self.say(&out);
        loop {
            let codes = self.packet(|packet| match packet {
                Packet::SubAck(it) => Some(it.codes.to_vec()),
                _ => None,
            });
            if let Some(codes) = codes {
                return codes;
            }
        }
    }
}

fn connecting(id: &str, will: Option<Will<'_>>) -> Vec<u8> {
    let (version, properties, mut out) = (Version::V5, Properties::default(), Vec::new());
    let connect = Connect {
        version,
        clean_start: true,
        keep_alive: 0,
        client_id: id,
        will,
        user: None,
        password: None,
        properties,
    };
    mqtt::write_connect(&mut out, &connect);
    out
}

fn publishing((topic, payload): (&str, &[u8]), packet_id: Option<u16>, properties: &[u8]) -> Vec<u8> {
    let qos = if packet_id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    let properties = Properties::written(properties);
    let mut out = Vec::new();
    let publish = Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload };
    mqtt::write_publish(&mut out, Version::V5, &publish);
    out
}

fn alias(number: u16) -> Vec<u8> {
    let mut raw = Vec::new();
    Property::TopicAlias(number).write(&mut raw);
    raw
}

/// A client that is in.
#[track_caller]
fn client(edge: &Edge) -> Line {
    client_with(edge, None)
}

#[track_caller]
fn client_with(edge: &Edge, will: Option<Will<'_>>) -> Line {
    let mut line = edge.line();
    line.say(&connecting("", will));
    assert!(line.packet(|packet| matches!(packet, Packet::ConnAck(it) if it.reason == 0)));
    line
}

fn innocents(edge: &Edge) -> Innocents {
    let (mut listener, mut publisher) = (client(edge), client(edge));
    assert_eq!(listener.subscribe(1, &["innocent/#"]), [0]);
    let mut id = 0;
    let publish = move |words: &str| {
        id = if id == u16::MAX { 1 } else { id + 1 };
        publisher.say(&publishing((INNOCENT, words.as_bytes()), Some(id), b""));
        assert!(
            publisher.packet(|packet| matches!(packet, Packet::PubAck(it) if it.packet_id == id && it.reason == 0))
        );
    };
    let hear = move || {
        listener.packet(|packet| match packet {
            Packet::Publish(it) => String::from_utf8_lossy(it.payload).into_owned(),
            other => panic!("{other:?}"),
        })
    };
    Innocents::start(publish, hear)
}

#[test]
fn nobody_else_suffers() {
    let _alone = crate::alone();
    let broker = Broker::mqtt();
    let edge = Edge::start("mqtt", broker.address);
    let innocents = innocents(&edge);
    let before = edge.server.memory().rss;
    bad_packets(&edge);
    dribblers(&edge);
    unfinished_packets(&edge);
    floods_of_filters(&edge);
    identifiers(&edge);
    readers_of_nothing(&edge);
    aliases(&edge);
    wills(&edge, &broker);
    edge.suffers_broken_framing();
    let rss = edge.server.memory().rss;
    assert!(rss <= before + MORE_BYTES, "{before} bytes became {rss}");
    edge.is_empty_but_for(2);
    innocents.finish();
}

fn bad_packets(edge: &Edge) {
    for (bytes, counted, reason) in [
        (&b"\x36\x05\0\x01a\0\x01"[..], "frame", 0x81),
        (b"\x30\xff\xff\xff\xff\x7f", "frame", 0x81),
        (b"\x30\x80\x80\x80\x08", "limit", 0x95),
        (b"\x10\0", "frame", 0x82),
        (b"\x80\x06\0\x01\0\0\x01a", "frame", 0x81),
        (b"\x30\x04\0\x01#\0", "frame", 0x90),
        (b"\x30\x04\0\x01\xff\0", "frame", 0x81),
        (b"\xf0\0", "frame", 0x82),
    ] {
        edge.suffers(&format!("{bytes:x?}"), (counted, 1), || {
            let mut line = client(edge);
            line.say(bytes);
            assert_eq!(line.reason(), reason, "{bytes:x?}");
            assert!(!line.hear(), "the connection is ended");
        });
    }
    for first in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x10\x0d\0\x04MQTX\x05\x02\0\0\0\0\x01a", b"\x30\x04\0\x01a\0"] {
        edge.suffers(&format!("{first:x?} in place of CONNECT"), ("frame", 1), || {
            let mut line = edge.line();
            line.say(first);
            while line.hear() {}
        });
    }
    edge.suffers("text in place of bytes", ("frame", 1), || {
        let mut caller = Caller::new(edge.server.address).open("/broker");
        caller.say(&frame(TEXT, b"hello", 5));
        assert_eq!(caller.frame().1[..2], 1003_u16.to_be_bytes());
    });
}

fn dribblers(edge: &Edge) {
    let (count, payload) = (scaled(4, 20), vec![b'x'; scaled(20_000, 200_000)]);
    let bytes = publishing(("nobody", &payload), Some(1), b"");
    thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                let mut line = client(edge);
                line.dribble(&bytes);
                assert!(line.packet(|packet| matches!(packet, Packet::PubAck(it) if it.reason == 0)));
            });
        }
    });
}

/// More cut packets than are kept: those go that have the most, and a small one that is cut does not.
fn unfinished_packets(edge: &Edge) {
    let small_bytes = publishing(("nobody", b"half of a word"), Some(1), b"");
    let mut small = client(edge);
    small.say(&small_bytes[..10]);
    let large = publishing(("nobody", &vec![b'x'; MIB - 100]), Some(1), b"");
    let mut lines = Vec::new();
    edge.suffers("packets that are never whole", ("limit", 4), || {
        for _ in 0..2 * HELD_BYTES as usize / MIB {
            let mut line = client(edge);
            line.attack(&large[..large.len() - 1]);
            lines.push(line);
        }
    });
    small.say(&small_bytes[10..]);
    assert!(small.packet(|packet| matches!(packet, Packet::PubAck(it) if it.reason == 0)));
}

/// Wildcards on every level; more filters than a client, and than the edge may have.
fn floods_of_filters(edge: &Edge) {
    let mut wild = Vec::new();
    for number in 0..64 {
        let levels = ["+", "innocent", "#"];
        let at = |place: u32| levels[number / 3_usize.pow(place) % 2];
        wild.push(format!("{}/{}/{}/#", at(0), at(1), at(2)));
    }
    let mut wild: Vec<&str> = wild.iter().map(String::as_str).chain(["+/+/+/#", "+/#", "#"]).collect();
    wild.sort_unstable();
    wild.dedup();
    let mut watchers: Vec<Line> = (0..scaled(4, 20)).map(|_| client(edge)).collect();
    for watcher in &mut watchers {
        assert!(watcher.subscribe(1, &wild).iter().all(|code| *code == 0));
    }
    let many: Vec<String> = (0..200).map(|number| format!("many/{number}/+/#")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    edge.suffers("a client subscribes to all there is", ("limit", 100), || {
        let codes = client(edge).subscribe(1, &many);
        assert!(codes[..64].iter().all(|code| *code == 0) && codes[64..].iter().all(|code| *code == 0x97));
    });
    edge.suffers("many clients do", ("broker", 1), || {
        let mut lines: Vec<Line> = (0..12).map(|_| client(edge)).collect();
        for (at, line) in lines.iter_mut().enumerate() {
            let more: Vec<String> = (0..60).map(|number| format!("more/{at}/{number}")).collect();
            line.subscribe(1, &more.iter().map(String::as_str).collect::<Vec<_>>());
        }
    });
}

/// Acknowledgements of what there is not, identifiers that are in use, more than the receive maximum.
fn identifiers(edge: &Edge) {
    let (mut line, mut out) = (client(edge), Vec::new());
    for kind in [AckKind::PubAck, AckKind::PubComp, AckKind::PubRel] {
        mqtt::write_ack(
            &mut out,
            Version::V5,
            kind,
            &Ack { packet_id: 9, reason: 0, properties: Properties::default() },
        );
    }
    line.say(&out);
    assert_eq!(line.packet(|packet| if let Packet::PubComp(it) = packet { it.reason } else { 0 }), 0x92);
    let held = |id| publishing((&format!("{HOLD}a"), b"x"), Some(id), b"");
    edge.suffers("an identifier that is in use", ("frame", 1), || {
        let mut line = client(edge);
        line.say(&held(7).repeat(2));
        assert_eq!(line.reason(), 0x82);
    });
    let surely = |mut packet: Vec<u8>| {
        packet[0] = 0x34;
        packet
    };
    edge.suffers("more than the receive maximum", ("limit", 1), || {
        let mut line = client(edge);
        (1..=257).for_each(|id| line.attack(&surely(held(id))));
        assert_eq!(line.reason(), 0x93);
    });
}

/// Nobody reads what it is answered, nor the messages of the innocent.
fn readers_of_nothing(edge: &Edge) {
    let ping = [0xc0, 0].repeat(scaled(200_000, 1_000_000));
    let flood: Vec<u8> = (1..=u16::MAX).flat_map(|id| publishing(("nobody", b"x"), Some(id), b"")).collect();
    let mut lines: Vec<Line> = (0..4).map(|_| client(edge)).collect();
    for (at, line) in lines.iter_mut().enumerate() {
        line.attack(if at % 2 == 0 { &ping } else { &flood });
    }
}

fn aliases(edge: &Edge) {
    for (bytes, reason) in [
        (publishing(("a", b""), None, &alias(17)), 0x94),
        (publishing(("a", b""), None, &alias(0)), 0x94),
        (publishing(("", b""), None, &alias(1)), 0x82),
    ] {
        edge.suffers(&format!("an alias: {bytes:x?}"), ("frame", 1), || {
            let mut line = client(edge);
            line.say(&bytes);
            assert_eq!(line.reason(), reason);
        });
    }
    let mut lines = Vec::new();
    edge.suffers("aliases of long topics", ("limit", 2), || {
        for number in 0..2 * HELD_BYTES as usize / (16 * 60_000) {
            let mut line = client(edge);
            let topic = format!("{number}{}", "t".repeat(60_000));
            (1..=16).for_each(|it| line.attack(&publishing((&topic, b""), None, &alias(it))));
            lines.push(line);
        }
    });
}

/// Clients with wills come and are lost, again and again: each will is published, once.
fn wills(edge: &Edge, broker: &Broker) {
    let count = scaled(100, 1000);
    for _ in 0..count {
        let (qos, properties) = (QoS::AtLeastOnce, Properties::default());
        let will = Will { topic: "wills", payload: b"gone", qos, retain: false, properties };
        client_with(edge, Some(will)).reset();
    }
    wait_for("all wills are published", patience(20), || broker.published("wills") == count);
}

//! Where clients are: PROXY headers in front of everything, and what trusted proxies tell of a request.
//!
//! The far ends of the scripted kernel are at 127.0.0.1. The service tells each client where it is said to be.

use crate::line::{Line, Lines};
use crate::stage::{KIND, settings};
use edgehold::engine::script::{Dice, FarEnd, Script, Temper};
use edgehold::mesh::{Cause, Counters, Network, Networks, Refused, ServiceKind, ToShard, Waker, mailbox};
use edgehold::mesh::{Receiver, Sender, ToControl};
use edgehold::shard::Shard;
use edgehold::shard::clock::Now;
use edgehold::shard::service::{AddressRules, Desk, Event, ProxyProtocol, Services, ShardSettings, Verdict};
use edgehold::shard::slab::Handle;
use edgehold_wire::forwarded::Field;
use edgehold_wire::http1::Head;
use edgehold_wire::proxy_protocol::{Addresses, Fault, Writer, kind};
use edgehold_wire::status::Status;
use std::sync::Arc;
use std::time::Duration;

const TURNS: usize = 4000;
const HEADER_TICKS: u32 = 20;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.2 56324 443\r\n";

/// Tells each client its address, that of its socket, and where it has come to.
struct Teller;

impl Services for Teller {
    type Settings = ();

    fn request(&mut self, desk: &mut Desk<'_>, who: Handle, _: &Head<'_, '_>) -> Verdict {
        desk.route(who, ServiceKind::Page, 0);
        let destination = desk.destination(who).map_or("nowhere".into(), |it| it.to_string());
        let words = format!("{} by {} to {destination}", desk.peer(who), desk.socket_peer(who).ip());
        desk.answer(who, Status::OK, &[], words.as_bytes());
        Verdict::Served
    }

    fn event(&mut self, _: &mut Desk<'_>, _: Handle, _: u32, _: Event<'_>) {}

    fn exchange(&mut self, _: &mut Desk<'_>, (): &()) {}

    fn held(&self) -> usize {
        0
    }

    fn letter(&mut self, _: &mut Desk<'_>, _: ToShard) {}

    fn poll(&mut self, _: &mut Desk<'_>, _: u32) -> u32 {
        0
    }
}

struct Stage {
    shard: Shard<Script, Teller>,
    now: Duration,
    letters: Sender<ToShard>,
    // Nobody reads them, but the box must be there.
    _to_control: Receiver<ToControl>,
}

fn networks(text: &str) -> Networks {
    std::iter::once(text.parse::<Network>().expect("a network")).collect()
}

/// Headers and fields are believed of those networks.
fn rules(proxy_protocol: ProxyProtocol, from: &str, trusted: Option<(&str, Field)>) -> AddressRules {
    AddressRules {
        proxy_protocol,
        from: networks(from),
        header_ticks: HEADER_TICKS,
        trusted_proxies: trusted.map_or_else(Networks::default, |(trusted, _)| networks(trusted)),
        field: trusted.map_or_else(Field::default, |(_, field)| field),
        address: Some(([203, 0, 113, 1], 80).into()),
    }
}

fn required() -> AddressRules {
    rules(ProxyProtocol::Required, "127.0.0.0/8", None)
}

impl Stage {
    fn new(seed: u64, temper: Temper, rules: AddressRules, lines: &Lines) -> Stage {
        let waker = || Arc::new(Waker::new().expect("an eventfd"));
        let (letters, inbox) = mailbox(16, waker());
        let (to_control, from_shard) = mailbox(16, waker());
        let settings = ShardSettings { addresses: vec![rules], tls: lines.listeners(), ..settings() };
        let shard = Shard::new(Script::new(seed, temper), Teller, &settings, inbox, to_control);
        Stage { shard, now: Duration::ZERO, letters, _to_control: from_shard }
    }

    fn kind(rules: AddressRules) -> Stage {
        Stage::new(1, KIND, rules, &Lines::clear())
    }

    fn turn(&mut self, pace: Duration) {
        self.now += pace;
        self.shard.ring().set_time(self.now);
        self.shard.turn(Now { since_start: self.now, unix: 0 }).expect("the scripted ring never fails");
    }

    fn counters(&mut self) -> Counters {
        self.shard.report().counters
    }

    /// A client that says this; what it hears in answer, as far as it comes.
    fn asked(&mut self, bytes: &[u8]) -> (FarEnd, String) {
        let end = self.shard.ring().arrive(0);
        (end, self.asks(end, bytes))
    }

    fn asks(&mut self, end: FarEnd, bytes: &[u8]) -> String {
        self.shard.ring().say(end, bytes);
        let mut heard = Vec::new();
        for _ in 0..60 {
            self.turn(Duration::from_millis(1));
            heard.extend(self.shard.ring().read(end, usize::MAX));
        }
        String::from_utf8_lossy(&heard).into_owned()
    }
}

/// The body of a response that has come whole.
fn body(heard: &str) -> Option<&str> {
    let (head, body) = heard.split_once("\r\n\r\n")?;
    let len: usize = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok())?;
    (body.len() == len).then_some(body)
}

/// A header of version 2, with TLVs of any length and a checksum.
fn v2(dice: &mut Dice) -> Vec<u8> {
    let addresses = Addresses {
        source: "[2001:db8::7]:56324".parse().expect("an address"),
        destination: "[2001:db8::2]:443".parse().expect("an address"),
    };
    let mut out = Vec::new();
    let mut writer = Writer::begin(&mut out, Some(addresses));
    for _ in 0..dice.below(4) {
        writer.tlv(kind::NOOP, &vec![0; dice.below(600)]);
    }
    writer.end();
    out
}

/// Says a header, piece by piece, and behind it, over TLS or not, a request. What was answered.
fn carried(stage: &mut Stage, lines: &Lines, dice: &mut Dice, header: &[u8]) -> String {
    let end = stage.shard.ring().arrive(0);
    let mut line: Line = lines.connect(end, dice);
    let (mut header, mut heard) = (header, Vec::new());
    let mut asks = true;
    for _ in 0..TURNS {
        stage.turn(Duration::from_micros(100));
        if header.is_empty() {
            if std::mem::take(&mut asks) {
                line.say(stage.shard.ring(), REQUEST);
            }
            line.step(stage.shard.ring(), dice);
        } else if dice.chance(60) {
            let (piece, rest) = header.split_at(1 + dice.below(header.len().min(40)));
            stage.shard.ring().say(end, piece);
            header = rest;
        }
        heard.extend(line.read(stage.shard.ring(), usize::MAX));
        if let Some(body) = body(&String::from_utf8_lossy(&heard)) {
            return body.into();
        }
    }
    panic!("no answer: {:?}", stage.counters());
}

/// However the kernel and the proxy cut it, and whatever is spoken behind it.
#[test]
fn a_header_says_where_a_client_is_however_it_is_cut() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed ^ 0x9_0f);
        let lines = if seed % 2 == 0 { Lines::clear() } else { Lines::over_tls() };
        let temper = Temper {
            delay: [0, 20][dice.below(2)],
            end_multishot: [0, 10][dice.below(2)],
            buffers: ([4, 256][dice.below(2)], [64, 256, 4096][dice.below(3)]),
            ..KIND
        };
        let mut stage = Stage::new(seed, temper, required(), &lines);
        let (header, expected) = if dice.chance(50) {
            (V1.to_vec(), "192.0.2.7:56324 by 127.0.0.1 to 198.51.100.2:443")
        } else {
            (v2(&mut dice), "[2001:db8::7]:56324 by 127.0.0.1 to [2001:db8::2]:443")
        };
        let version = usize::from(header != V1);
        assert_eq!(carried(&mut stage, &lines, &mut dice, &header), expected, "seed {seed}");
        let counters = stage.counters();
        let mut taken = [0, 0];
        taken[version] = 1;
        assert_eq!((counters.proxy_headers, counters.refusals.iter().sum::<u64>()), (taken, 0), "seed {seed}");
    }
}

/// Header, request and the next request in one piece; each byte is counted once.
#[test]
fn what_is_behind_a_header_goes_on() {
    for cut in [0, 1, 20, V1.len(), V1.len() + 9] {
        let mut stage = Stage::kind(required());
        let all = [V1, REQUEST, REQUEST].concat();
        let (end, first) = stage.asked(&all[..cut]);
        let heard = first + &stage.asks(end, &all[cut..]);
        assert_eq!(heard.matches("192.0.2.7:56324 by 127.0.0.1 to 198.51.100.2:443").count(), 2, "{heard}");
        assert_eq!(stage.counters().bytes_in, all.len() as u64, "cut at {cut}");
    }
}

/// A proxy's own connections, and those of clients without an internet address, keep the address of the socket.
#[test]
fn a_header_may_name_nobody() {
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let unspecified = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0";
    for header in [&local[..], unspecified, b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n"] {
        let mut stage = Stage::kind(required());
        let (_, heard) = stage.asked(&[header, REQUEST].concat());
        let told = body(&heard).expect("an answer");
        assert!(told.starts_with("127.0.0.1:") && told.ends_with(" by 127.0.0.1 to 203.0.113.1:80"), "{told}");
        assert_eq!(stage.counters().proxy_headers.iter().sum::<u64>(), 1);
    }
}

/// Of a stranger no header is read: it is a request that is none, or the end.
#[test]
fn a_stranger_does_not_choose_its_address() {
    let mut stage = Stage::kind(rules(ProxyProtocol::Optional, "10.0.0.0/8", None));
    let (_, heard) = stage.asked(&[V1, REQUEST].concat());
    assert!(heard.starts_with("HTTP/1.1 400 "), "{heard}");
    let (_, heard) = stage.asked(REQUEST);
    assert!(body(&heard).is_some_and(|it| it.starts_with("127.0.0.1:")), "{heard}");
    let mut stage = Stage::kind(rules(ProxyProtocol::Required, "10.0.0.0/8", None));
    let (end, heard) = stage.asked(&[V1, REQUEST].concat());
    assert_eq!((heard.as_str(), stage.shard.ring().is_ended(end)), ("", true));
    let counters = stage.counters();
    assert_eq!((counters.proxy_strangers, counters.refusals[Refused::ProxyHeader as usize]), (1, 1));
    assert_eq!((counters.closes[Cause::ProxyHeader as usize], counters.used), (1, 0));
}

/// Where it is optional, a proxy's connection may begin with anything else, which is not lost.
#[test]
fn a_header_may_be_missing_where_it_is_optional() {
    // The second begins as a header of version 2 does, the third as one of version 1.
    for request in [REQUEST, b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", b"PROPFIND / HTTP/1.1\r\nHost: h\r\n\r\n"] {
        for cut in 0..request.len() {
            let mut stage = Stage::kind(rules(ProxyProtocol::Optional, "127.0.0.0/8", None));
            let (end, first) = stage.asked(&request[..cut]);
            let heard = first + &stage.asks(end, &request[cut..]);
            assert!(body(&heard).is_some_and(|it| it.starts_with("127.0.0.1:")), "{heard}");
            assert_eq!((stage.counters().bytes_in, stage.counters().outbox_bytes), (request.len() as u64, 0));
        }
    }
    let mut stage = Stage::kind(rules(ProxyProtocol::Optional, "127.0.0.0/8", None));
    let (_, heard) = stage.asked(&[V1, REQUEST].concat());
    assert!(heard.contains("192.0.2.7:56324 by"), "{heard}");
}

#[test]
fn what_is_no_header_is_cut_and_counted() {
    for (bytes, fault) in [
        (REQUEST, Fault::Absent),
        (b"\x16\x03\x01", Fault::Absent),
        (b"PROXY TCP4 192.0.2.7 198.51.100.2 56324\r\n", Fault::Line),
        (&[&b"PROXY "[..], &[b' '; 107]].concat(), Fault::LongLine),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c", Fault::Datagram),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x10\0", Fault::Long),
    ] {
        let mut stage = Stage::kind(required());
        let (end, heard) = stage.asked(bytes);
        assert_eq!((heard.as_str(), stage.shard.ring().is_ended(end)), ("", true), "{fault:?}");
        let counters = stage.counters();
        assert_eq!(counters.proxy_faults.iter().sum::<u64>(), 1);
        assert_eq!((counters.proxy_faults[fault as usize], counters.closes[Cause::ProxyHeader as usize]), (1, 1));
        assert_eq!((counters.refusals[Refused::ProxyHeader as usize], counters.used, counters.outbox_bytes), (1, 0, 0));
    }
}

/// From the accept on, whatever comes in between.
#[test]
fn a_slow_header_is_cut_in_time() {
    for (first, drip) in [(&b""[..], false), (V1, false), (V1, true)] {
        let mut stage = Stage::kind(required());
        let end = stage.shard.ring().arrive(0);
        let mut left = first[..first.len().saturating_sub(1)].iter();
        if !drip {
            stage.shard.ring().say(end, left.as_slice());
        }
        let mut ticks = 0;
        while !stage.shard.ring().is_ended(end) {
            ticks += 1;
            assert!(ticks <= HEADER_TICKS + 2, "{:?}", stage.counters());
            left.next().filter(|_| drip).into_iter().for_each(|&byte| stage.shard.ring().say(end, &[byte]));
            (0..10).for_each(|_| stage.turn(Duration::from_millis(25)));
        }
        assert!(ticks >= HEADER_TICKS, "after {ticks} ticks");
        let counters = stage.counters();
        assert_eq!((counters.closes[Cause::ProxyTimeout as usize], counters.used, counters.outbox_bytes), (1, 0, 0));
    }
}

/// Who leaves before its header is whole, or is there when the server stops, leaves nothing behind.
#[test]
fn who_leaves_in_a_header_leaves_nothing() {
    for (cause, leave) in [
        (Cause::Gone, (|stage: &mut Stage, end| stage.shard.ring().end(end)) as fn(&mut Stage, FarEnd)),
        (Cause::Reset, |stage, end| stage.shard.ring().break_off(end)),
        (Cause::Drained, |stage, _| stage.letters.post(ToShard::Drain).expect("room")),
    ] {
        let mut stage = Stage::kind(required());
        let (end, _) = stage.asked(&V1[..9]);
        leave(&mut stage, end);
        (0..60).for_each(|_| stage.turn(Duration::from_millis(1)));
        let counters = stage.counters();
        assert_eq!((counters.closes[cause as usize], counters.used, counters.outbox_bytes), (1, 0, 0), "{cause:?}");
    }
}

fn request(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes()
}

/// Several clients by one connection of a trusted proxy: each request has its own, and one that names none is the
/// proxy's.
#[test]
fn each_request_of_a_trusted_proxy_has_its_own_client() {
    let trusted = Some(("127.0.0.0/8", Field::XForwardedFor));
    let mut stage = Stage::kind(rules(ProxyProtocol::Off, "127.0.0.0/8", trusted));
    let (end, _) = stage.asked(b"");
    let mut told = |fields: &str| {
        let heard = stage.asks(end, &request(fields));
        body(&heard).expect("an answer").to_owned()
    };
    let itself = told("");
    assert!(itself.starts_with("127.0.0.1:") && itself.ends_with(" by 127.0.0.1 to 203.0.113.1:80"), "{itself}");
    for _ in 0..2 {
        assert!(told("X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n").starts_with("192.0.2.1:0 by 127.0.0.1 "));
        assert!(told("X-Forwarded-For: [2001:db8::1]:7, 127.0.0.9\r\n").starts_with("[2001:db8::1]:7 by 127.0.0.1 "));
        assert_eq!(told("X-Forwarded-For: unknown\r\n"), itself);
        // The other field is as the client has sent it.
        assert_eq!(told("Forwarded: for=6.6.6.6\r\n"), itself);
    }
    assert_eq!(stage.counters().forwarded_clients, 4);
}

#[test]
fn forwarded_is_read_where_the_listener_says_so() {
    let trusted = Some(("127.0.0.0/8", Field::Forwarded));
    let mut stage = Stage::kind(rules(ProxyProtocol::Off, "127.0.0.0/8", trusted));
    let fields = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6, for=\"[2001:db8::1]:7\"\r\n";
    let (_, heard) = stage.asked(&request(fields));
    assert!(heard.contains("[2001:db8::1]:7 by 127.0.0.1 "), "{heard}");
}

/// Whoever a PROXY header names is who must be trusted: not the balancer that has sent it.
#[test]
fn fields_are_believed_of_whom_the_header_names() {
    let fields = request("X-Forwarded-For: 6.6.6.6\r\n");
    for (trusted, expected) in [("127.0.0.0/8", "192.0.2.7:56324"), ("192.0.2.0/24", "6.6.6.6:0")] {
        let trusted = Some((trusted, Field::XForwardedFor));
        let mut stage = Stage::kind(rules(ProxyProtocol::Required, "127.0.0.0/8", trusted));
        let (end, heard) = stage.asked(&[V1, &fields].concat());
        let expected = format!("{expected} by 127.0.0.1 to 198.51.100.2:443");
        assert_eq!(body(&heard), Some(expected.as_str()));
        let heard = stage.asks(end, REQUEST);
        assert_eq!(body(&heard), Some("192.0.2.7:56324 by 127.0.0.1 to 198.51.100.2:443"));
    }
    // Nobody is trusted.
    let mut stage = Stage::kind(required());
    let (_, heard) = stage.asked(&[V1, &fields].concat());
    assert!(heard.contains("192.0.2.7:56324 by"), "{heard}");
    assert_eq!(stage.counters().forwarded_clients, 0);
}

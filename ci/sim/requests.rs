//! Request bodies and verdicts that come later, under a scripted kernel.
//!
//! The services of this play are one: it wants the body of every POST and sends it back as the response, and for some
//! requests it has no verdict at first. Clients send requests behind each other, with bodies of a length or in chunks,
//! cut anywhere; some wait for 100 before they send the body; some leave. Every request that was sent whole is answered
//! once, in its order, with its own body.

use edgehold::engine::script::{Dice, FarEnd, Script, Temper};
use edgehold::mesh::{Receiver, Sender, ServiceKind, ToControl, ToShard, Waker, mailbox};
use edgehold::shard::Shard;
use edgehold::shard::clock::Now;
use edgehold::shard::service::{Desk, Event, RouteLimits, Services, ShardSettings, Verdict};
use edgehold::shard::slab::Handle;
use edgehold_wire::http1::{Body, Head};
use edgehold_wire::status::Status;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Seeds of an ordinary run.
const SEEDS: u64 = 150;
/// Turns in which everything must be over.
const TURNS: usize = 60_000;

/// Sends the body of every POST back, when it has decided to.
#[derive(Default)]
struct Copier {
    dice: Option<Dice>,
    /// What has been received of the bodies that are under way.
    bodies: HashMap<u32, (Handle, Vec<u8>)>,
    tokens: u32,
    /// Requests without a verdict, each with the turns that it will take.
    waiting: Vec<(Handle, u32, usize)>,
    /// Connections whose request, which comes again, has its verdict.
    decided: Vec<Handle>,
    /// Connections that are not read for a while.
    paused: Vec<(Handle, usize)>,
    /// Waits, and ends that were told while a verdict was due.
    waits: u64,
    left: u64,
}

impl Copier {
    fn chance(&mut self, percent: usize) -> bool {
        self.dice.as_mut().is_some_and(|dice| dice.chance(percent))
    }

    fn below(&mut self, n: usize) -> usize {
        self.dice.as_mut().map_or(0, |dice| dice.below(n))
    }

    fn has_verdict(&mut self, who: Handle) -> bool {
        let place = self.decided.iter().position(|it| *it == who);
        place.map(|place| self.decided.swap_remove(place)).is_some()
    }

    fn finish(&mut self, desk: &mut Desk<'_>, token: u32) {
        let Some((who, body)) = self.bodies.remove(&token) else { return };
        desk.release(who);
        desk.answer(who, Status::OK, &[], &body);
    }
}

impl Services for Copier {
    type Settings = ();

    fn exchange(&mut self, _: &mut Desk<'_>, (): &()) {}

    fn held(&self) -> usize {
        0
    }

    fn request(&mut self, desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>) -> Verdict {
        desk.route(who, ServiceKind::Echo, 0);
        self.tokens += 1;
        let token = self.tokens;
        if !self.has_verdict(who) && self.chance(40) {
            self.waits += 1;
            // Long enough to be parked, at times.
            let most = [20, 20, 600][self.below(3)];
            let turns = self.below(most);
            self.waiting.push((who, token, turns));
            return Verdict::Wait(token);
        }
        if head.body == Body::None {
            desk.answer(who, Status::OK, &[], head.path.as_bytes());
            return Verdict::Served;
        }
        desk.take(who, token);
        self.bodies.insert(token, (who, Vec::new()));
        if !desk.want_body(who) {
            self.finish(desk, token);
        }
        Verdict::Served
    }

    fn event(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, event: Event<'_>) {
        match event {
            Event::Body(piece) => {
                self.bodies.get_mut(&token).expect("a body that was asked for").1.extend_from_slice(piece);
                if self.chance(20) {
                    let turns = self.below(30);
                    desk.pause(who);
                    self.paused.push((who, turns));
                }
            }
            Event::BodyEnd => self.finish(desk, token),
            Event::Closed(_) => {
                self.bodies.remove(&token);
                let before = self.waiting.len();
                self.waiting.retain(|it| it.1 != token);
                self.left += (before - self.waiting.len()) as u64;
            }
            Event::Drain => desk.refuse_last(who, Status::SERVICE_UNAVAILABLE, "the server is stopping"),
            _ => {}
        }
    }

    fn letter(&mut self, _desk: &mut Desk<'_>, _letter: ToShard) {}

    fn poll(&mut self, desk: &mut Desk<'_>, _budget: u32) -> u32 {
        self.waiting.iter_mut().for_each(|it| it.2 = it.2.saturating_sub(1));
        self.paused.iter_mut().for_each(|it| it.1 = it.1.saturating_sub(1));
        for (who, _, _) in self.waiting.extract_if(.., |it| it.2 == 0) {
            self.decided.push(who);
            desk.decide(who);
        }
        for (who, _) in self.paused.extract_if(.., |it| it.1 == 0) {
            desk.resume(who);
        }
        0
    }
}

/// A client and what it has to send.
struct Client {
    end: FarEnd,
    /// Pieces of requests; `true`: not before another 100 has come.
    outgoing: VecDeque<(bool, Vec<u8>)>,
    expected: Vec<Vec<u8>>,
    received: Vec<u8>,
    asked: usize,
    leaves: Option<usize>,
    gone: bool,
}

impl Client {
    fn new(dice: &mut Dice, end: FarEnd) -> Client {
        let leaves = dice.chance(25).then(|| dice.below(200));
        let (outgoing, expected, received) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut client = Client { end, outgoing, expected, received, asked: 0, leaves, gone: false };
        (0..=dice.below(5)).for_each(|_| client.add_request(dice));
        client
    }

    fn add_request(&mut self, dice: &mut Dice) {
        if dice.chance(30) {
            let path = format!("/{}", dice.below(1000));
            self.outgoing.push_back((false, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into()));
            return self.expected.push(path.into());
        }
        let len = [0, 1, 100, 5000, 60_000][dice.below(5)];
        let body: Vec<u8> = (0..len).map(|at: u32| (at * 7 + len) as u8).collect();
        let (chunked, expects) = (dice.chance(50), len > 0 && dice.chance(30));
        let framing = if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {len}") };
        let expect = if expects { "Expect: 100-continue\r\n" } else { "" };
        self.outgoing.push_back((false, format!("POST / HTTP/1.1\r\nHost: a\r\n{expect}{framing}\r\n\r\n").into()));
        self.outgoing.push_back((expects, if chunked { in_chunks(dice, &body) } else { body.clone() }));
        self.expected.push(body);
    }

    fn step(&mut self, dice: &mut Dice, ring: &mut Script) {
        self.received.extend(ring.read(self.end, 1 + dice.below(5000)));
        if self.leaves.take_if(|left| *left == 0).is_some() && !self.gone {
            self.gone = true;
            if dice.chance(50) { ring.break_off(self.end) } else { ring.end(self.end) }
        }
        self.leaves = self.leaves.map(|left| left.saturating_sub(1));
        if !self.gone {
            self.send(dice, ring);
        }
    }

    fn send(&mut self, dice: &mut Dice, ring: &mut Script) {
        let continues = self.received.windows(CONTINUE.len()).filter(|it| *it == CONTINUE).count();
        let Some((expects, piece)) = self.outgoing.front_mut() else { return };
        if *expects && continues <= self.asked || dice.chance(30) {
            return;
        }
        let len = (1 + dice.below(4000)).min(piece.len());
        ring.say(self.end, &piece.drain(..len).collect::<Vec<u8>>());
        if piece.is_empty() {
            self.asked += usize::from(*expects);
            self.outgoing.pop_front();
        }
    }

    /// What has come, held against what is due: all of it, or a beginning of it from one who has left.
    fn judge(&self) {
        let mut rest: &[u8] = &self.received;
        for expected in &self.expected {
            while let Some(behind) = rest.strip_prefix(CONTINUE) {
                rest = behind;
            }
            if self.gone && rest.len() < expected.len() + 200 {
                return;
            }
            let end = rest.windows(4).position(|it| it == b"\r\n\r\n").expect("a response for each request") + 4;
            let head = String::from_utf8_lossy(&rest[..end]);
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            assert_eq!(&rest[end..end + expected.len()], expected, "the body that was sent");
            rest = &rest[end + expected.len()..];
        }
        assert!(rest.is_empty() || self.gone, "{:?}", String::from_utf8_lossy(rest));
    }

    fn is_done(&self) -> bool {
        self.gone || self.outgoing.is_empty() && self.has_all()
    }

    /// As many responses have come as requests were sent, the last of them whole.
    fn has_all(&self) -> bool {
        let mut rest: &[u8] = &self.received;
        self.expected.iter().all(|expected| {
            while let Some(behind) = rest.strip_prefix(CONTINUE) {
                rest = behind;
            }
            let Some(end) = rest.windows(4).position(|it| it == b"\r\n\r\n") else { return false };
            rest = rest.get(end + 4 + expected.len()..).unwrap_or_default();
            self.received.len() >= end + 4 + expected.len() && !(rest.is_empty() && self.is_cut(expected))
        })
    }

    /// What was received does not end with this body.
    fn is_cut(&self, body: &[u8]) -> bool {
        !self.received.ends_with(body)
    }
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fn in_chunks(dice: &mut Dice, body: &[u8]) -> Vec<u8> {
    let mut chunks = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((1 + dice.below(3000)).min(rest.len()));
        chunks.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunks.extend_from_slice(piece);
        chunks.extend_from_slice(b"\r\n");
        rest = behind;
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    chunks
}

struct Play {
    shard: Shard<Script, Copier>,
    clients: Vec<Client>,
    dice: Dice,
    now: Duration,
    _letters: Sender<ToShard>,
    _to_control: Receiver<ToControl>,
}

impl Play {
    fn new(seed: u64) -> Play {
        let mut dice = Dice::new(seed);
        let temper = Temper {
            delay: [0, 10, 50][dice.below(3)],
            end_multishot: 0,
            reset: 0,
            accept_error: [0, 20][dice.below(2)],
            buffers: ([1, 2, 16][dice.below(3)], [64, 256, 4096][dice.below(3)]),
            buffer_with_error: [0, 50][dice.below(2)],
            completions: [4, 1000][dice.below(2)],
            window: [300, 5000, 1 << 20][dice.below(3)],
        };
        let waker = || Arc::new(Waker::new().expect("an eventfd"));
        let (letters, inbox) = mailbox(1024, waker());
        let (to_control, from_shard) = mailbox(1024, waker());
        let copier = Copier { dice: Some(Dice::new(seed ^ 0x5eed)), ..Copier::default() };
        let shard = Shard::new(Script::new(seed, temper), copier, &settings(&mut dice), inbox, to_control);
        let mut play =
            Play { shard, clients: vec![], dice, now: Duration::ZERO, _letters: letters, _to_control: from_shard };
        for _ in 0..=play.dice.below(6) {
            let end = play.shard.ring().arrive(0);
            play.clients.push(Client::new(&mut play.dice, end));
        }
        play
    }

    fn turn(&mut self) {
        self.now += Duration::from_millis(self.dice.below(8) as u64);
        self.shard.ring().set_time(self.now);
        self.clients.iter_mut().for_each(|client| client.step(&mut self.dice, self.shard.ring()));
        self.shard.turn(Now { since_start: self.now, unix: 0 }).expect("the scripted ring never fails");
    }

    fn run(mut self) -> (u64, u64) {
        let done = (0..TURNS).any(|_| {
            self.turn();
            self.clients.iter().all(Client::is_done)
        });
        assert!(done, "not all is answered: {:?}", self.shard.report().counters);
        self.clients.iter().for_each(Client::judge);
        self.clients.iter().for_each(|client| self.shard.ring().break_off(client.end));
        let over = (0..TURNS).any(|_| {
            self.turn();
            self.shard.report().counters.used == 0
        });
        assert!(over, "slots are left: {:?}", self.shard.report().counters);
        assert_eq!(self.shard.report().counters.outbox_bytes, 0);
        let copier = self.shard.services();
        assert!(copier.bodies.is_empty() && copier.waiting.is_empty(), "nobody is remembered who has left");
        (copier.waits, copier.left)
    }
}

fn settings(dice: &mut Dice) -> ShardSettings {
    let limits = RouteLimits { max_pending: [256, 1 << 20][dice.below(2)], ..super::stage::limits() };
    let park_after = Duration::from_millis([250, 1_000_000][dice.below(2)]);
    ShardSettings {
        turn_events: [4, 16, 256][dice.below(3)],
        limits: vec![limits],
        park_after,
        ..super::stage::settings()
    }
}

#[test]
fn every_request_is_answered_with_its_body_whenever_the_verdict_comes() {
    let seeds = match super::number("EDGEHOLD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..super::number("EDGEHOLD_SEEDS").unwrap_or(SEEDS),
    };
    let (mut waits, mut left) = (0, 0);
    for seed in seeds.clone() {
        let played = std::panic::catch_unwind(|| Play::new(seed).run());
        let (more_waits, more_left) = played.unwrap_or_else(|_| panic!("play it again with EDGEHOLD_SEED={seed}"));
        (waits, left) = (waits + more_waits, left + more_left);
    }
    assert!(seeds.count() < 100 || waits > 100 && left > 0, "{waits} waits, {left} left meanwhile");
}

/// Nobody decides: the client is told 504 within `idle_timeout`.
#[test]
fn a_verdict_that_does_not_come_is_a_504() {
    struct Never;
    impl Services for Never {
        type Settings = ();

        fn exchange(&mut self, _: &mut Desk<'_>, (): &()) {}

        fn held(&self) -> usize {
            0
        }

        fn request(&mut self, desk: &mut Desk<'_>, who: Handle, _head: &Head<'_, '_>) -> Verdict {
            desk.route(who, ServiceKind::Echo, 0);
            Verdict::Wait(7)
        }
        fn event(&mut self, _desk: &mut Desk<'_>, _who: Handle, token: u32, event: Event<'_>) {
            assert!(token == 7 && matches!(event, Event::Closed(_)));
        }
        fn letter(&mut self, _desk: &mut Desk<'_>, _letter: ToShard) {}
        fn poll(&mut self, _desk: &mut Desk<'_>, _budget: u32) -> u32 {
            0
        }
    }
    let waker = || Arc::new(Waker::new().expect("an eventfd"));
    let (_letters, inbox) = mailbox(1024, waker());
    let (to_control, _from_shard) = mailbox(1024, waker());
    let limits = RouteLimits { idle_ticks: 40, ..super::stage::limits() };
    let settings = ShardSettings { limits: vec![limits], ..super::stage::settings() };
    let mut shard = Shard::new(Script::new(1, super::stage::KIND), Never, &settings, inbox, to_control);
    let end = shard.ring().arrive(0);
    shard.ring().say(end, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /behind HTTP/1.1\r\n");
    let mut received = Vec::new();
    for turn in 0..4000u64 {
        let since_start = Duration::from_millis(10 * turn);
        shard.ring().set_time(since_start);
        shard.turn(Now { since_start, unix: 0 }).expect("the scripted ring never fails");
        received.extend(shard.ring().read(end, usize::MAX));
        assert!(received.is_empty() || since_start > Duration::from_secs(9), "too early");
    }
    assert!(received.starts_with(b"HTTP/1.1 504"), "{:?}", String::from_utf8_lossy(&received));
    shard.ring().break_off(end);
}

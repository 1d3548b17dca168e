//! Nobody pays for another (law 14): hostile clients beside innocents.
//!
//! First each kind of attack by itself, then plays from a seed in which all kinds come and go beside innocents. What is
//! held: an innocent is never closed, and never waits longer than so many turns, whoever else does whatever; and what
//! the hostile hold comes back.

use crate::stage::{KIND, PLAIN, Stage, limits, settings};
use edgehold::engine::script::{Dice, FarEnd, Temper};
use edgehold::mesh::{Cause, Counters, Network, Refused};
use edgehold::shard::service::{AddressRules, ProxyProtocol, RouteLimits, ShardSettings};
use edgehold_wire::deflate::{Deflater, MAX_WINDOW_BITS, Preferences};
use edgehold_wire::upgrade::Offer;
use edgehold_wire::ws::{self, Opcode};
use std::time::Duration;

/// Turns that an innocent may wait for a frame of a few bytes. The scripted kernel cuts it into pieces, each of which
/// takes a turn or two.
const PATIENCE: usize = 400;

const POLL: &[u8] = b"GET /feed/a?transport=poll&after= HTTP/1.1\r\nHost: h\r\n\r\n";
const RAW: &[u8] = b"GET /feed/a?transport=raw HTTP/1.1\r\nHost: h\r\n\r\n";
const DEFLATE: Offer<'static> = Offer { deflate: Some(Preferences { context_takeover: false }), protocols: &[] };

/// A client's frame, masked with zeros.
fn frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    [ws::head(opcode, fin, payload.len() as u64, Some([0; 4])).as_bytes(), payload].concat()
}

/// A megabyte of zeros as a deflated message.
fn bomb() -> Vec<u8> {
    bomb_of(1 << 20)
}

fn bomb_of(bytes: usize) -> Vec<u8> {
    let mut small = Vec::new();
    Deflater::default().message(&vec![0; bytes], None, MAX_WINDOW_BITS, &mut small);
    let mut frame = frame(Opcode::Binary, true, &small);
    frame[0] |= 0x40;
    frame
}

/// An innocent: says eight bytes, wants them back, and says the next.
struct Innocent {
    end: FarEnd,
    heard: Vec<u8>,
    expected: Vec<u8>,
    waits: usize,
    longest: usize,
    echoes: u64,
}

impl Innocent {
    fn new(stage: &mut Stage) -> Innocent {
        let end = stage.speaks("/echo", PLAIN);
        let mut innocent = Innocent { end, heard: Vec::new(), expected: Vec::new(), waits: 0, longest: 0, echoes: 0 };
        innocent.say(stage);
        innocent
    }

    fn say(&mut self, stage: &mut Stage) {
        self.echoes += 1;
        let payload = self.echoes.to_be_bytes();
        stage.shard.ring().say(self.end, &frame(Opcode::Binary, true, &payload));
        self.expected = [&[0x82, 8][..], &payload].concat();
        (self.waits, self.heard) = (0, Vec::new());
    }

    fn step(&mut self, stage: &mut Stage) {
        self.waits += 1;
        self.longest = self.longest.max(self.waits);
        self.heard.extend(stage.shard.ring().read(self.end, usize::MAX));
        assert!(self.expected.starts_with(&self.heard), "an innocent hears {:?}", self.heard);
        assert!(!stage.shard.ring().is_broken(self.end), "an innocent was cut off: {:?}", stage.counters());
        assert!(self.waits <= PATIENCE, "an innocent waits for {} turns: {:?}", self.waits, stage.counters());
        if self.heard == self.expected {
            self.say(stage);
        }
    }
}

/// So many turns, with what the hostile do before each.
fn beside(stage: &mut Stage, innocents: &mut [Innocent], turns: usize, mut hostile: impl FnMut(&mut Stage)) {
    for _ in 0..turns {
        hostile(stage);
        stage.turn();
        innocents.iter_mut().for_each(|it| it.step(stage));
    }
    assert!(innocents.iter().all(|it| it.echoes > 3), "nothing was echoed");
}

fn innocents(stage: &mut Stage, count: usize) -> Vec<Innocent> {
    (0..count).map(|_| Innocent::new(stage)).collect()
}

fn closed(counters: &Counters, cause: Cause) -> u64 {
    counters.closes[cause as usize]
}

// ---- A: buffers and slots come back ----

/// Linux 6.1: parked clients whose messages fill a buffer exactly are read again, for an EAGAIN that takes a buffer.
#[test]
fn a_buffer_that_comes_with_an_error_comes_back() {
    let temper = Temper { buffers: (8, 4096), buffer_with_error: 100, ..KIND };
    let settings = ShardSettings { park_after: Duration::from_millis(250), ..settings() };
    let mut stage = Stage::new(1, temper, &settings).at_pace(Duration::from_millis(20));
    let mut innocents = innocents(&mut stage, 2);
    let clients: Vec<FarEnd> = (0..64).map(|_| stage.speaks("/echo", PLAIN)).collect();
    beside(&mut stage, &mut innocents, 100, |_| {});
    assert!(stage.counters().parks >= 64);
    let message = frame(Opcode::Binary, true, &[7; 4096 - 8]);
    assert_eq!(message.len(), 4096);
    for &client in &clients {
        stage.shard.ring().say(client, &message);
    }
    beside(&mut stage, &mut innocents, 300, |_| {});
    for client in clients {
        assert_eq!(stage.shard.ring().read(client, usize::MAX).len(), 4 + 4088, "each echo comes");
    }
}

/// A receive that found no buffer is armed again when there may be one: not by everyone in every turn.
#[test]
fn those_who_find_no_buffer_take_turns() {
    let mut stage = Stage::new(2, Temper { buffers: (2, 64), ..KIND }, &settings());
    let clients: Vec<FarEnd> = (0..100).map(|_| stage.speaks("/echo", PLAIN)).collect();
    let message = frame(Opcode::Binary, true, &[7; 1000]);
    for &client in &clients {
        stage.shard.ring().say(client, &message);
    }
    let before = stage.counters();
    let mut heard = vec![0; clients.len()];
    let done = stage.until(5000, |stage| {
        for (heard, &client) in heard.iter_mut().zip(&clients) {
            *heard += stage.shard.ring().read(client, usize::MAX).len();
        }
        heard.iter().all(|&len| len == 1004)
    });
    assert!(done, "{heard:?}");
    let after = stage.counters();
    let (turns, failed) = (after.turns - before.turns, after.no_buffers - before.no_buffers);
    assert!(failed <= 100 + 2 * turns, "{failed} receives found no buffer in {turns} turns");
}

/// A stream of a silent channel, whose client says more than is kept and goes: its slot comes back.
#[test]
fn who_is_held_back_is_still_heard_to_leave() {
    for (request, rudely) in [(RAW, false), (RAW, true), (POLL, false), (POLL, true)] {
        let mut stage = Stage::new(3, KIND, &settings()).at_pace(Duration::from_millis(20));
        let clients: Vec<FarEnd> = (0..30).map(|_| stage.asked(request)).collect();
        assert!(stage.until(100, |stage| stage.counters().subscriptions == 30));
        for &client in &clients {
            stage.shard.ring().say(client, &vec![b'x'; 100 << 10]);
        }
        assert!(stage.until(200, |stage| stage.counters().held_back >= 30), "{:?}", stage.counters());
        for &client in &clients {
            if rudely { stage.shard.ring().break_off(client) } else { stage.shard.ring().end(client) }
        }
        assert!(stage.until(200, |stage| stage.counters().used == 0), "{rudely}: {:?}", stage.counters());
        assert_eq!(stage.counters().outbox_bytes, 0);
    }
}

/// Slow, broken and endless PROXY headers, and none at all, beside clients that need to send none.
#[test]
fn bad_proxy_headers_are_cut_beside_innocents() {
    let from = std::iter::once("127.0.0.0/8".parse::<Network>().expect("a network")).collect();
    let rules =
        AddressRules { proxy_protocol: ProxyProtocol::Optional, from, header_ticks: 20, ..AddressRules::default() };
    let settings = ShardSettings { addresses: vec![rules], ..settings() };
    let mut stage = Stage::new(8, KIND, &settings).at_pace(Duration::from_millis(20));
    let mut innocents = innocents(&mut stage, 5);
    let words: [&[u8]; 4] = [b"PROXY TCP4 ", b"PROXY TCP5 \r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x0f\0", b""];
    let (mut turns, mut slow) = (words.iter().cycle(), Vec::new());
    beside(&mut stage, &mut innocents, 1200, |stage| {
        slow.extend(turns.next().map(|words| stage.asked(words)));
        slow.retain(|&end| goes_on(stage, end));
        slow.iter().step_by(3).for_each(|&end| stage.shard.ring().say(end, b" "));
    });
    let waited = stage.counters();
    assert!(waited.outbox_bytes < 2 << 20, "{waited:?}");
    let left = stage.until(1000, |stage| {
        slow.retain(|&end| goes_on(stage, end));
        stage.counters().used == 5
    });
    let counters = stage.counters();
    assert!(left, "{counters:?}");
    let (late, bad) = (closed(&counters, Cause::ProxyTimeout), closed(&counters, Cause::ProxyHeader));
    assert!(late > 300 && bad > 300, "{late} late, {bad} bad: {counters:?}");
    // Of those that say nothing, some were sent a byte that begins no header: they are at a request head.
    assert_eq!(counters.refusals[Refused::ProxyHeader as usize], bad);
}

/// Whoever is sent away leaves.
fn goes_on(stage: &mut Stage, end: FarEnd) -> bool {
    stage.shard.ring().read(end, usize::MAX);
    let is_over = stage.shard.ring().is_ended(end);
    if is_over {
        stage.shard.ring().end(end);
    }
    !is_over
}

// ---- B: memory is charged to whoever holds it ----

/// Unfinished messages beyond all memory: those who sent them give way, and nobody else.
#[test]
fn who_holds_most_gives_way() {
    let settings = ShardSettings { outbox_bytes: 8 << 20, ..settings() };
    let mut stage = Stage::new(4, KIND, &settings);
    let mut innocents = innocents(&mut stage, 10);
    let hostile: Vec<FarEnd> = (0..24).map(|_| stage.speaks("/echo", PLAIN)).collect();
    let begun = frame(Opcode::Binary, false, &[7; 1000]);
    let more = frame(Opcode::Continuation, false, &[7; 8000]);
    for &client in &hostile {
        stage.shard.ring().say(client, &begun);
    }
    beside(&mut stage, &mut innocents, 1500, |stage| {
        for &client in &hostile {
            if stage.shard.ring().unread(client) == 0 && !stage.shard.ring().is_ended(client) {
                stage.shard.ring().say(client, &more);
            }
        }
    });
    let counters = stage.counters();
    assert!(counters.evictions > 0 && counters.evictions <= 24, "{counters:?}");
    let newcomer = stage.speaks("/echo", PLAIN);
    assert!(!stage.shard.ring().is_broken(newcomer), "who comes now is welcome");
}

/// What is behind an unanswered request stays with the kernel, but for a buffer or two.
#[test]
fn little_is_kept_behind_an_unanswered_request() {
    let mut stage = Stage::new(5, KIND, &settings());
    let clients: Vec<FarEnd> = (0..50).map(|_| stage.asked(&[POLL, &vec![b'x'; 1 << 20]].concat())).collect();
    assert!(stage.until(300, |stage| stage.counters().subscriptions == 50 && stage.counters().held_back >= 50));
    (0..100).for_each(|_| stage.turn());
    let held = stage.counters().outbox_bytes;
    assert!(held <= 50 * (48 << 10), "{held} bytes are held for 50 clients");
    assert!(clients.iter().all(|&client| stage.shard.ring().unread(client) > 900 << 10));
}

/// A message that becomes a hundred times as much goes to an upstream that takes nothing: the next is not read.
#[test]
fn parsing_stops_when_the_other_side_is_full() {
    let small = RouteLimits { max_pending: 64 << 10, ..limits() };
    let mut stage = Stage::new(6, KIND, &ShardSettings { limits: vec![small], ..settings() });
    let client = stage.opened("/proxy", DEFLATE);
    assert!(stage.until(100, |stage| {
        let call = stage.shard.ring().next_call();
        call.is_some_and(|call| stage.shard.ring().answer(&call, true).is_some())
    }));
    assert!(stage.until(100, |stage| stage.shard.ring().read(client, usize::MAX).ends_with(b"\r\n\r\n")));
    let bombs = bomb().repeat(100);
    stage.shard.ring().say(client, &bombs);
    (0..200).for_each(|_| stage.turn());
    let counters = stage.counters();
    // The window of the upstream takes a megabyte, the queue another one.
    assert!(counters.outbox_bytes <= 3 << 20, "{} bytes are held: {counters:?}", counters.outbox_bytes);
    assert_eq!(counters.closes.iter().sum::<u64>(), 0, "nobody is closed");
}

// ---- C: work is charged to whoever causes it ----

/// Pings at full speed leave time for a feed.
#[test]
fn a_broadcast_has_its_share_of_a_busy_shard() {
    let mut stage = Stage::new(7, KIND, &settings());
    let hostile: Vec<FarEnd> = (0..40).map(|_| stage.speaks("/echo", PLAIN)).collect();
    let reader = stage.speaks("/feed/a", PLAIN);
    let pings = frame(Opcode::Ping, true, b"").repeat(600);
    let mut heard = Vec::new();
    for said in 0..50u8 {
        stage.publish(&[b'0' + said]);
        let came = stage.until(PATIENCE, |stage| {
            for &client in &hostile {
                stage.shard.ring().read(client, usize::MAX);
                if stage.shard.ring().unread(client) < 3000 {
                    stage.shard.ring().say(client, &pings);
                }
            }
            heard.extend(stage.shard.ring().read(reader, usize::MAX));
            heard.len() == 3 * (usize::from(said) + 1)
        });
        assert!(came, "message {said} has not come: {:?}", stage.counters());
    }
}

/// Deflate bombs: a turn inflates no more than a few messages, and an echo beside them does not wait.
#[test]
fn a_turn_counts_what_it_inflates() {
    let mut stage = Stage::new(8, KIND, &settings());
    let mut innocents = innocents(&mut stage, 3);
    let hostile: Vec<FarEnd> = (0..10).map(|_| stage.speaks("/feed/a", DEFLATE)).collect();
    let bombs = bomb().repeat(10);
    let (mut before, mut most) = (0, 0);
    beside(&mut stage, &mut innocents, 400, |stage| {
        for &client in &hostile {
            stage.shard.ring().read(client, usize::MAX);
            if stage.shard.ring().unread(client) < bombs.len() && !stage.shard.ring().is_ended(client) {
                stage.shard.ring().say(client, &bombs);
            }
        }
        let inflated = stage.counters().deflate_saved_in;
        most = most.max(inflated - before);
        before = inflated;
    });
    assert!(before > 10 << 20, "{before} bytes were inflated");
    // Four bombs make a turn: each is charged to the turn as a quarter, and what is beyond that to its client.
    assert!(most <= 6 << 20, "{most} bytes were inflated in one turn");
}

/// A bomb above the limit is refused, and what it has cost until then is charged all the same.
#[test]
fn a_turn_counts_what_it_refuses() {
    const BOMBS: u64 = 40;
    let mut stage = Stage::new(9, KIND, &settings());
    let hostile: Vec<FarEnd> = (0..BOMBS).map(|_| stage.speaks("/feed/a", DEFLATE)).collect();
    let bomb = bomb_of((1 << 20) + 1);
    hostile.iter().for_each(|&client| stage.shard.ring().say(client, &bomb));
    let (mut before, mut most) = (0, 0);
    let all = stage.until(PATIENCE, |stage| {
        let refused = stage.counters().inflate_refusals;
        most = most.max(refused - before);
        before = refused;
        refused == BOMBS
    });
    assert!(all, "{before} are refused");
    assert!(most <= 6, "{most} bombs in one turn");
}

// ---- all of it ----

/// What a hostile client does, again and again.
#[derive(Clone, Copy, Debug)]
enum Trick {
    /// Pieces of a message that never ends.
    Unfinished,
    /// Pings, as many as are taken.
    Pings,
    /// Messages whose echo is not read.
    NeverReads,
    /// Deflate bombs.
    Bombs,
    /// Bytes behind a request that is not answered.
    Behind,
    /// Orders that cannot be carried out.
    Orders,
    /// What no protocol knows.
    Junk,
}

const TRICKS: [Trick; 7] =
    [Trick::Unfinished, Trick::Pings, Trick::NeverReads, Trick::Bombs, Trick::Behind, Trick::Orders, Trick::Junk];

struct Hostile {
    end: FarEnd,
    trick: Trick,
    /// Turns until it resets its connection, or sends FIN.
    leaves: usize,
    opened: bool,
}

impl Hostile {
    fn new(stage: &mut Stage, dice: &mut Dice) -> Hostile {
        let trick = TRICKS[dice.below(TRICKS.len())];
        let end = match trick {
            Trick::Behind => stage.asked([RAW, POLL][dice.below(2)]),
            Trick::Bombs => stage.opened("/echo", DEFLATE),
            Trick::Orders => stage.opened("/feed/a", PLAIN),
            _ => stage.opened("/echo", PLAIN),
        };
        Hostile { end, trick, leaves: 1 + dice.below(400), opened: false }
    }

    fn words(&self, dice: &mut Dice, bomb: &[u8]) -> Vec<u8> {
        match self.trick {
            Trick::Unfinished if !self.opened => frame(Opcode::Binary, false, &[1; 100]),
            Trick::Unfinished => frame(Opcode::Continuation, false, &vec![1; dice.below(20_000)]),
            Trick::Pings => frame(Opcode::Ping, true, b"x").repeat(1 + dice.below(500)),
            Trick::NeverReads => frame(Opcode::Binary, true, &vec![2; dice.below(20_000)]),
            Trick::Bombs => bomb.repeat(1 + dice.below(4)),
            Trick::Behind => vec![b'x'; 1 + dice.below(40_000)],
            Trick::Orders => frame(Opcode::Text, true, br#"{"subscribe":["","","*","a","b","c"]}"#).repeat(20),
            Trick::Junk => (0..dice.below(2000)).map(|_| dice.roll() as u8).collect(),
        }
    }

    /// `false`: it has gone.
    fn step(&mut self, stage: &mut Stage, dice: &mut Dice, bomb: &[u8]) -> bool {
        self.leaves -= 1;
        if self.leaves == 0 || stage.shard.ring().is_ended(self.end) {
            // Behind a FIN it may go on reading: what it does not take is lost with idle_timeout only.
            if dice.chance(50) {
                stage.shard.ring().break_off(self.end);
            } else {
                stage.shard.ring().end(self.end);
            }
            return false;
        }
        if !matches!(self.trick, Trick::NeverReads) {
            stage.shard.ring().read(self.end, usize::MAX);
        }
        if stage.shard.ring().unread(self.end) < 20_000 {
            let words = self.words(dice, bomb);
            self.opened = true;
            stage.shard.ring().say(self.end, &words);
        }
        true
    }
}

fn play(seed: u64, bomb: &[u8]) -> usize {
    let mut dice = Dice::new(seed);
    let temper = Temper {
        buffers: ([32, 128][dice.below(2)], [256, 4096][dice.below(2)]),
        buffer_with_error: [0, 100][dice.below(2)],
        window: [5000, 1 << 20][dice.below(2)],
        ..KIND
    };
    let limits = RouteLimits { max_pending: 64 << 10, connection_bytes: [1 << 20, 8 << 20][dice.below(2)], ..limits() };
    let settings = ShardSettings {
        outbox_bytes: [2 << 20, 16 << 20][dice.below(2)],
        park_after: Duration::from_millis([250, 10_000][dice.below(2)]),
        limits: vec![limits],
        ..settings()
    };
    let mut stage = Stage::new(seed, temper, &settings).at_pace(Duration::from_millis([1, 20][dice.below(2)]));
    let mut innocents = innocents(&mut stage, 5);
    let (mut hostile, mut ends) = (Vec::new(), Vec::new());
    beside(&mut stage, &mut innocents, 600, |stage| {
        if hostile.len() < 30 && dice.chance(30) {
            let one = Hostile::new(stage, &mut dice);
            ends.push(one.end);
            hostile.push(one);
        }
        hostile.retain_mut(|it: &mut Hostile| it.step(stage, &mut dice, bomb));
    });
    ends.into_iter().for_each(|end| stage.shard.ring().break_off(end));
    let left = |stage: &mut Stage| stage.counters().used == 5 && stage.counters().outbox_bytes < 64 << 10;
    let went = stage.until(2000, |stage| {
        innocents.iter_mut().for_each(|it| it.step(stage));
        left(stage)
    });
    assert!(went, "the hostile have gone and left this: {:?}", stage.counters());
    assert_eq!((stage.counters().faults, closed(&stage.counters(), Cause::Fault)), (0, 0));
    innocents.iter().map(|it| it.longest).max().unwrap_or(0)
}

/// Seeds of an ordinary run.
const SEEDS: u64 = 40;

#[test]
fn innocents_are_served_whatever_others_do() {
    let bomb = bomb();
    let seeds =
        crate::number("EDGEHOLD_SEED").map_or(0..crate::number("EDGEHOLD_SEEDS").unwrap_or(SEEDS), |it| it..it + 1);
    let mut longest = 0;
    for seed in seeds {
        let played = std::panic::catch_unwind(|| play(seed, &bomb));
        longest = longest.max(played.unwrap_or_else(|_| panic!("play it again with EDGEHOLD_SEED={seed}")));
    }
    println!("no innocent waited longer than {longest} turns");
}

//! The exchange of settings while a shard runs: from configurations as they are written, through the numbers that stay
//! (`app/generation.rs`), to the clients who were there before and those who come afterwards.
//!
//! [`Exchanges`] lets other plays exchange their settings for the same ones at any moment, which must change nothing.

use crate::stage::{KIND, PLAIN, Stage, settings};
use edgehold::app::config;
use edgehold::app::generation::Generation;
use edgehold::app::shard_settings::{self, Common, UpstreamTable};
use edgehold::control::stats::Counts;
use edgehold::engine::script::{Call, Dice, FarEnd};
use edgehold::mesh::{Report, Sender, ToShard};
use edgehold::service::Settings;
use edgehold::shard::service::{self as shard, ShardSettings};
use edgehold_wire::ws::{self, Opcode};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

/// Turns in which the scripted kernel brings a few bytes there and back.
const TURNS: usize = 400;

/// Exchanges of settings for the same ones, now and then.
pub struct Exchanges {
    dice: Dice,
    next: shard::Generation<Settings>,
    /// In a thousand steps; in some plays none.
    often: usize,
}

impl Exchanges {
    pub fn new(seed: u64, settings: &ShardSettings, services: Settings) -> Exchanges {
        // Dice of its own, so that a seed plays what it has always played otherwise.
        let mut dice = Dice::new(seed ^ 0x5e77_1965);
        let often = [0, 2, 30][dice.below(3)];
        let limits = settings.limits.iter().cloned().map(Some).collect();
        Exchanges { dice, next: shard::Generation { number: 0, limits, services }, often }
    }

    pub fn step(&mut self, to_shard: &mut Sender<ToShard>) {
        if self.dice.below(1000) < self.often {
            self.next.number += 1;
            to_shard.post(ToShard::Exchange(Arc::new(self.next.clone()))).expect("room for a letter");
        }
    }
}

/// A shard, and the generation of settings that is in force.
struct Reloaded {
    stage: Stage,
    generation: Generation,
    upstreams: UpstreamTable,
    common: Common,
}

const LISTENER: &str = "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n";

fn written(routes: &str) -> Arc<config::Config> {
    Arc::new(config::read(&format!("{LISTENER}{routes}"), "x", Path::new("")).expect("a configuration"))
}

impl Reloaded {
    fn new(routes: &str) -> Reloaded {
        let generation = Generation::first(written(routes));
        let upstreams = shard_settings::upstream_table(&generation, &Vec::new(), &HashMap::new());
        let common = Common { epoch: 1, counts: Counts::default() };
        let first = shard_settings::exchange(&generation, &common, &upstreams);
        let limits = first.limits.into_iter().flatten().collect();
        let settings = ShardSettings { limits, upstreams: first.services.proxy.upstreams.len(), ..settings() };
        Reloaded { stage: Stage::of(&first.services, 1, KIND, &settings), generation, upstreams, common }
    }

    /// Another configuration is in force when the next turn has read its letter.
    fn reload(&mut self, routes: &str) {
        self.generation = self.generation.next(written(routes));
        self.upstreams = shard_settings::upstream_table(&self.generation, &self.upstreams, &HashMap::new());
        let next = shard_settings::exchange(&self.generation, &self.common, &self.upstreams);
        self.stage.letters.post(ToShard::Exchange(Arc::new(next))).expect("room for a letter");
    }

    /// Nothing of an older generation is held: its numbers may be given anew.
    fn forget_older(&mut self) {
        assert_eq!(self.held(), 0);
        self.generation.forget_older();
    }

    fn report(&mut self) -> Report {
        self.stage.shard.report()
    }

    fn held(&mut self) -> usize {
        self.report().held
    }

    /// The status of the response to a request.
    fn status(&mut self, path: &str) -> String {
        let end = self.stage.asked(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes());
        let mut received = Vec::new();
        let answered = self.stage.until(TURNS, |stage| {
            received.extend(stage.shard.ring().read(end, usize::MAX));
            received.windows(4).any(|it| it == b"\r\n\r\n")
        });
        assert!(answered, "no response for {path}");
        String::from_utf8_lossy(&received[9..12]).into()
    }

    fn send(&mut self, client: FarEnd, text: &str) {
        let head = ws::head(Opcode::Text, true, text.len() as u64, Some([0; 4]));
        self.stage.shard.ring().say(client, &[head.as_bytes(), text.as_bytes()].concat());
    }

    /// The payloads of the frames that a client is sent, behind the head of its 101 if that comes first, until one ends
    /// so.
    fn receive(&mut self, client: FarEnd, end: &str) -> Vec<String> {
        let (mut bytes, mut texts) = (Vec::new(), Vec::new());
        let came = self.stage.until(TURNS, |stage| {
            bytes.extend(stage.shard.ring().read(client, usize::MAX));
            texts = frames(behind_head(&bytes));
            texts.last().is_some_and(|it| it.ends_with(end))
        });
        assert!(came, "{end:?} has not come, but {texts:?}");
        texts
    }

    /// What a client sends comes back.
    fn echoes(&mut self, client: FarEnd, text: &str) {
        self.send(client, text);
        assert_eq!(self.receive(client, text), [text]);
    }

    fn leave(&mut self, client: FarEnd) {
        self.stage.shard.ring().break_off(client);
        (0..TURNS).for_each(|_| self.stage.turn());
    }

    /// A message that is too long is answered by a Close frame (1009, RFC 6455 section 7.4.1).
    fn refuses(&mut self, client: FarEnd, text: &str) {
        self.send(client, text);
        let mut bytes = Vec::new();
        let refused = self.stage.until(TURNS, |stage| {
            bytes.extend(stage.shard.ring().read(client, usize::MAX));
            matches!(bytes[..], [0x88, _, 3, 0xf1, ..])
        });
        assert!(refused, "{bytes:?}");
    }
}

/// What comes behind a response head; of a head that is not whole, nothing.
fn behind_head(bytes: &[u8]) -> &[u8] {
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n");
    if bytes.starts_with(b"HTTP/1.1 101") { end.map_or(&[], |end| &bytes[end + 4..]) } else { bytes }
}

/// The payloads of whole frames of a server, of up to 65535 bytes each.
fn frames(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let [_, short, rest @ ..] = bytes {
        let (len, from) = match (short, rest) {
            (126, [high, low, ..]) => (usize::from(u16::from_be_bytes([*high, *low])), 4),
            _ => (usize::from(*short), 2),
        };
        let Some(payload) = bytes.get(from..from + len) else { break };
        texts.push(String::from_utf8_lossy(payload).into());
        bytes = &bytes[from + len..];
    }
    texts
}

fn echo(path: &str, message_bytes: u32) -> String {
    format!("[[route]]\npath = \"{path}\"\nservice = \"echo\"\nmessage_bytes = \"{message_bytes}\"\n")
}

fn proxy(path: &str, port: u16) -> String {
    format!("[[route]]\npath = \"{path}\"\nservice = \"proxy\"\nupstream = \"tcp://127.0.0.1:{port}\"\n")
}

fn feed(name: &str) -> String {
    format!("[[feed]]\nname = \"{name}\"\nsource = \"http\"\nreplay = {{ messages = 100 }}\n")
}

fn broadcast(path: &str, feeds: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\nservice = \"broadcast\"\nfeeds = [{feeds}]\n")
}

#[test]
fn a_route_that_is_gone_serves_those_who_are_there() {
    let mut it = Reloaded::new(&(echo("/stays", 1000) + &echo("/goes", 150)));
    let [stays, goes] = ["/stays", "/goes"].map(|path| it.stage.speaks(path, PLAIN));
    it.reload(&(echo("/comes", 125) + &echo("/stays", 200)));
    assert_eq!([it.status("/goes"), it.status("/comes"), it.status("/stays")], ["404", "426", "426"]);
    let report = it.report();
    assert_eq!((report.generation, report.held), (1, 1));

    // Who was there before stays under the limits of its route; those of a route that stays are its new ones.
    it.echoes(goes, &"x".repeat(150));
    it.echoes(stays, &"x".repeat(200));
    it.refuses(stays, &"x".repeat(201));
    let comes = it.stage.speaks("/comes", PLAIN);
    it.echoes(comes, &"x".repeat(125));
    it.echoes(goes, "still here");

    // Its number is free when it has left, and not before.
    it.leave(goes);
    it.forget_older();
    it.reload(&(echo("/late", 130) + &echo("/stays", 200) + &echo("/comes", 125)));
    let late = it.stage.speaks("/late", PLAIN);
    it.echoes(late, &"x".repeat(130));
    it.refuses(late, &"x".repeat(131));
    it.echoes(comes, "across two");
    assert_eq!((it.report().generation, it.held()), (2, 0));
}

#[test]
fn a_feed_that_stays_goes_on_without_a_gap_and_one_that_is_gone_is_silent() {
    let both = broadcast("/both", "\"f\", \"g\"");
    let mut it = Reloaded::new(&(feed("f") + &feed("g") + &both + &broadcast("/old", "\"g\"")));
    let clients = ["/both?channel=a", "/old?channel=a"].map(|path| it.stage.speaks(path, PLAIN));
    it.stage.publish_to(0, b"f1");
    it.stage.publish_to(1, b"g1");
    assert_eq!(it.receive(clients[0], "g1"), ["f1", "g1"]);
    assert_eq!(it.receive(clients[1], "g1"), ["g1"]);

    let kept = it.report().counters.replay_bytes;
    it.reload(&(feed("new") + &feed("f") + &broadcast("/both", "\"f\", \"new\"")));
    it.stage.turn();
    assert_eq!(it.report().counters.replay_bytes, kept / 2, "nothing is kept of the feed that is gone");

    // The next letters are of the feeds' old numbers, and of that of the new feed.
    it.stage.publish_to(1, b"g2: nobody's");
    it.stage.publish_to(0, b"f2");
    it.stage.publish_to(2, b"n1");
    it.stage.publish_to(0, b"f3");
    assert_eq!(it.receive(clients[0], "f3"), ["f2", "f3"], "its subscriptions were to the feeds of before");
    assert!(it.stage.shard.ring().read(clients[1], usize::MAX).is_empty());
    assert_eq!(it.held(), 2, "the old route's client, and the old feed that it subscribes to");

    // A client that resumes misses nothing of what stayed; one that comes is sent both.
    let resumed = it.stage.opened("/both?channel=a&after=00000001-1", PLAIN);
    let texts = it.receive(resumed, "f3");
    assert!(texts[0].contains("\"gap\""), "of what the new feed had before it began here nothing is known: {texts:?}");
    assert_eq!(texts[1..], ["f2", "n1", "f3"]);
    it.leave(clients[1]);
    it.forget_older();
    it.reload(&(feed("newer") + &feed("f") + &broadcast("/both", "\"f\", \"newer\"")));
    let late = it.stage.speaks("/both?channel=a", PLAIN);
    // The number that `g` had.
    it.stage.publish_to(1, b"from newer");
    it.stage.publish_to(0, b"f4");
    assert_eq!(it.receive(late, "f4"), ["from newer", "f4"]);
    assert_eq!(it.receive(clients[0], "f4"), ["f4"]);
}

#[test]
fn an_upstream_that_is_gone_keeps_its_connections_and_gets_no_more() {
    let mut it = Reloaded::new(&(proxy("/p", 7) + &proxy("/q", 8)));
    let opening = it.stage.opened("/p", PLAIN);
    let mut calls = Vec::new();
    assert!(it.stage.until(TURNS, |stage| {
        calls.extend(stage.shard.ring().next_call());
        !calls.is_empty()
    }));
    let upstream = it.stage.shard.ring().answer(&calls.remove(0), true).expect("it still calls");
    let mut head = Vec::new();
    assert!(it.stage.until(TURNS, |stage| {
        head.extend(stage.shard.ring().read(opening, usize::MAX));
        head.ends_with(b"\r\n\r\n")
    }));

    // Another calls the upstream that goes, and has not been answered yet.
    let calling = it.stage.opened("/p", PLAIN);
    assert!(it.stage.until(TURNS, |stage| {
        calls.extend(stage.shard.ring().next_call());
        !calls.is_empty()
    }));
    it.reload(&(proxy("/p", 9) + &proxy("/q", 8)));
    it.stage.turn();
    assert_eq!(it.held(), 1, "the upstream with a connection and a call");
    assert!(it.stage.shard.ring().answer(&calls.remove(0), false).is_none());
    let mut refusal = Vec::new();
    assert!(it.stage.until(TURNS, |stage| {
        refusal.extend(stage.shard.ring().read(calling, usize::MAX));
        refusal.starts_with(b"HTTP/1.1 503 ")
    }));
    assert!(it.stage.shard.ring().next_call().is_none(), "nobody calls an upstream that is gone");

    // Who is connected goes on, and whoever comes is connected to the new one.
    it.stage.shard.ring().say(upstream, b"hello");
    assert_eq!(it.receive(opening, "hello"), ["hello"]);
    it.stage.opened("/p", PLAIN);
    assert!(it.stage.until(TURNS, |stage| {
        calls.extend(stage.shard.ring().next_call());
        !calls.is_empty()
    }));
    let counted: Vec<u32> = it.report().counters.upstreams.iter().map(|it| it.connections as u32).collect();
    assert_eq!(counted, [1, 0, 1]);
    it.stage.shard.ring().end(upstream);
    it.leave(opening);
    it.forget_older();
}

/// Who was told of two upstreams, and is still calling the first, does not call the second when that is gone.
#[test]
fn nobody_is_led_to_an_upstream_that_is_gone() {
    let two = "[[route]]\npath = \"/p\"\nservice = \"proxy\"\n\
               upstream = [\"tcp://127.0.0.1:7\", \"tcp://127.0.0.1:8\"]\n";
    for gone in [false, true] {
        let mut it = Reloaded::new(two);
        it.stage.opened("/p", PLAIN);
        let first = next_call(&mut it).expect("a call");
        it.reload(&if gone { proxy("/p", 9) } else { two.into() });
        it.stage.turn();
        assert!(it.stage.shard.ring().answer(&first, false).is_none());
        assert_eq!(next_call(&mut it).is_none(), gone);
    }
}

fn next_call(it: &mut Reloaded) -> Option<Call> {
    let mut calls = Vec::new();
    it.stage.until(TURNS, |stage| {
        calls.extend(stage.shard.ring().next_call());
        !calls.is_empty()
    });
    calls.pop()
}

/// Paths that a configuration of a play may have, each a route with a limit of its own by number and generation.
const PATHS: usize = 6;

/// Configurations at random, one after the other, while clients come, speak and go: whoever is connected is served,
/// whoever comes finds the routes of the latest configuration, and numbers are given anew as soon as they may.
#[test]
fn however_settings_follow_each_other_clients_are_served() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed ^ 0xe8c4);
        let mut paths = some_paths(&mut dice);
        let mut it = Reloaded::new(&routes(&paths));
        let mut clients: Vec<FarEnd> = Vec::new();
        for step in 0..40 {
            match dice.below(5) {
                0 => {
                    paths = some_paths(&mut dice);
                    it.reload(&routes(&paths));
                }
                1 if !clients.is_empty() => {
                    let client = clients.swap_remove(dice.below(clients.len()));
                    it.leave(client);
                }
                2 if it.held() == 0 => it.forget_older(),
                _ => {
                    let path = dice.below(PATHS);
                    if paths.contains(&path) {
                        clients.push(it.stage.speaks(&format!("/{path}"), PLAIN));
                    } else {
                        assert_eq!(it.status(&format!("/{path}")), "404", "seed {seed}, step {step}");
                    }
                }
            }
            for client in clients.clone() {
                it.echoes(client, &format!("{seed} {step}"));
            }
        }
        clients.into_iter().for_each(|client| it.leave(client));
        assert_eq!(it.held(), 0, "seed {seed}");
    }
}

fn some_paths(dice: &mut Dice) -> BTreeSet<usize> {
    let one = dice.below(PATHS);
    (0..PATHS).filter(|path| *path == one || dice.chance(50)).collect()
}

fn routes(paths: &BTreeSet<usize>) -> String {
    paths.iter().map(|path| echo(&format!("/{path}"), 1000)).collect()
}

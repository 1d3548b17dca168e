//! The gate of a shard under a scripted kernel: answers about credentials that come late, never or twice.
//!
//! Clients open WebSockets with tokens whose names say what they are worth; some leave before that is known. Several
//! show the same one. Each hears what its token is worth and nothing else, within the time that the route has for it,
//! and is sent away when what it has shown ends.

use crate::play::Verdict;
use crate::stage::{KIND, Stage, limits, services, settings};
use edgehold::engine::script::{Dice, FarEnd, Temper};
use edgehold::mesh::{Answer, Credentials, Denial, Denied, Identity, Question, ToControl, ToShard};
use edgehold::service::gate::{AuthPlan, GatePlan, TokenPlan};
use edgehold::service::proxy::{self, Frames};
use edgehold::service::{Route, Settings, Target, echo};
use edgehold::shard::service::{RouteLimits, ShardSettings};
use edgehold_wire::ws::CloseCode;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Time that passes in a turn.
const PACE: Duration = Duration::from_millis(50);
/// The second since 1970 in which a play begins.
pub const BEGIN: u64 = 1_000_000;
/// Seconds that the route has for a verdict.
const PATIENCE: u64 = 10;
const CLIENTS: usize = 60;
/// Turns in which everything must be over.
const TURNS: usize = 4000;
/// A close code of the application (RFC 6455 section 7.4.2).
const EXPIRED: CloseCode = CloseCode(4001);

/// What a token is worth, by the beginning of its name.
const KINDS: [&str; 7] = ["good", "poor", "bad", "past", "none", "mute", ""];

struct Client {
    end: FarEnd,
    token: String,
    begun: u64,
    heard: Vec<u8>,
    /// It has left, or all is heard.
    over: bool,
}

/// A letter on its way.
struct Due {
    turn: usize,
    answer: Answer,
}

struct Play {
    stage: Stage,
    dice: Dice,
    clients: Vec<Client>,
    due: Vec<Due>,
    /// When a good token ends, by its name.
    ends: HashMap<String, u64>,
    turn: usize,
    asked: u64,
}

pub fn verdict(seed: u64) -> Verdict {
    let mut play = Play::new(seed);
    let fault = play.run().err();
    Verdict { fault, steps: play.turn as u64 }
}

fn with_gate() -> Settings {
    let token = TokenPlan { header: false, cookie: None, query: Some("t".into()), subprotocol: None, token_bytes: 64 };
    let auth =
        AuthPlan { late: false, certificate: None, token: Some(token), basic: None, forward: None, broker: false };
    let gate = Arc::new(GatePlan { auth: Some(auth), roles: Box::new(["member".into()]), ..GatePlan::default() });
    let route = |path: &str, target| Route {
        path: path.into(),
        below: false,
        host: None,
        limits: 1,
        gate: gate.clone(),
        target,
    };
    let through = proxy::ProxyPlan {
        upstreams: vec![0],
        frames: Frames::Binary,
        subprotocols: vec![],
        connect_ticks: 10_000,
        end_code: CloseCode::SERVICE_RESTART,
        proxy_protocol: None,
    };
    let routes =
        [route("/in", Target::Echo(echo::EchoPlan::default())), route("/through", Target::Proxy(Arc::new(through)))];
    Settings { routes: Arc::new(routes.into_iter().collect()), ..services() }
}

fn opening(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

impl Play {
    fn new(seed: u64) -> Play {
        let of_route = RouteLimits { auth_ticks: PATIENCE as u32 * 4, expired_code: EXPIRED, ..limits() };
        let settings = ShardSettings { limits: vec![limits(), of_route], ..settings() };
        let stage = Stage::of(&with_gate(), seed, Temper { delay: 3, ..KIND }, &settings).at_pace(PACE);
        let (dice, turn, asked) = (Dice::new(seed), 0, 0);
        Play { stage, dice, clients: Vec::new(), due: Vec::new(), ends: HashMap::new(), turn, asked }
    }

    fn run(&mut self) -> Result<(), String> {
        while self.turn < TURNS {
            self.turn += 1;
            if self.clients.len() < CLIENTS && self.dice.chance(20) {
                self.arrive();
            }
            self.stage.turn();
            self.answer();
            for number in 0..self.clients.len() {
                self.look(number)?;
            }
            if self.clients.len() == CLIENTS && self.clients.iter().all(|client| client.over) {
                return self.at_the_end();
            }
        }
        let waits: Vec<&str> = self.clients.iter().filter(|it| !it.over).map(|it| it.token.as_str()).collect();
        Err(format!("not over after {TURNS} turns: {waits:?}"))
    }

    fn now(&self) -> u64 {
        BEGIN + (PACE * self.turn as u32).as_secs()
    }

    fn arrive(&mut self) {
        let kind = KINDS[self.dice.below(KINDS.len())];
        let token = if kind.is_empty() { String::new() } else { format!("{kind}-{}", self.dice.below(6)) };
        let query = if token.is_empty() { String::new() } else { format!("?t={token}") };
        let end = self.stage.asked(opening(&format!("/in{query}")).as_bytes());
        self.clients.push(Client { end, token, begun: self.now(), heard: Vec::new(), over: false });
    }

    /// The control thread: an answer to each question, now, later or never, and a second one that says otherwise.
    fn answer(&mut self) {
        while let Some(letter) = self.stage.to_control.take() {
            let ToControl::Question(question) = letter else { continue };
            self.asked += 1;
            if let Some(answer) = self.judge(&question) {
                let turn = self.turn + self.dice.below(60);
                let (question, keep) = (answer.question, 5);
                self.due.push(Due { turn, answer });
                let verdict = Err(Denial::new(Denied::Signature));
                self.due.push(Due { turn: turn + 1, answer: Answer { question, verdict, keep } });
            }
        }
        let turn = self.turn;
        for due in self.due.extract_if(.., |due| due.turn <= turn).collect::<Vec<_>>() {
            self.stage.letters.post(ToShard::Answer(Box::new(due.answer))).expect("the shard reads its letters");
        }
    }

    fn judge(&mut self, question: &Question) -> Option<Answer> {
        let Credentials::Token(token) = &question.credentials else { return None };
        let token = token.reveal();
        let (now, lasts) = (self.now(), 5 + self.dice.below(60) as u64);
        let end = *self.ends.entry(token.to_owned()).or_insert(now + lasts);
        let member = |name: &str| if name == "poor" { Box::default() } else { Box::new(["member".into()]) as Box<[_]> };
        let identity = |name: &str, end| {
            let (roles, claims) = (member(name), Box::default());
            Ok(Arc::new(Identity { name: token.into(), roles, claims, expires: Some(end) }))
        };
        let verdict = match token.split('-').next()? {
            "mute" => return None,
            "bad" => Err(Denial::new(Denied::Signature)),
            "none" => Err(Denial::new(Denied::Unavailable)),
            "past" => identity("past", BEGIN - 1),
            name => identity(name, end),
        };
        Some(Answer { question: question.number, verdict, keep: self.dice.below(4) as u32 })
    }

    fn look(&mut self, number: usize) -> Result<(), String> {
        let (now, leaves) = (self.now(), self.dice.chance(1));
        let client = &mut self.clients[number];
        if client.over {
            return Ok(());
        }
        let ring = self.stage.shard.ring();
        client.heard.extend(ring.read(client.end, usize::MAX));
        if leaves {
            client.over = true;
            ring.break_off(client.end);
            return Ok(());
        }
        let waited = now - client.begun;
        let Some(len) = client.heard.windows(4).position(|it| it == b"\r\n\r\n") else {
            return if waited > PATIENCE + 2 { Err(format!("{} waits for {waited} s", client.token)) } else { Ok(()) };
        };
        let status: u16 = String::from_utf8_lossy(&client.heard[9..12]).parse().unwrap_or(0);
        let end = self.ends.get(&client.token).copied();
        let fault = |what: &str| Err(format!("{}: {what} ({status})", client.token));
        let late = waited + 1 >= PATIENCE;
        match (client.token.split('-').next().unwrap_or(""), status) {
            ("good", 101) => {}
            // Its token has ended meanwhile.
            ("good", 401) if end.is_some_and(|end| now >= end) => client.over = true,
            ("poor", 403 | 401) | ("bad" | "past" | "", 401) | ("none", 503) => client.over = true,
            ("mute", 503) if late => client.over = true,
            _ => return fault("hears what it is not worth"),
        }
        if client.over {
            ring.end(client.end);
            return Ok(());
        }
        match (&client.heard[len + 4..], end) {
            ([], Some(end)) if now > end + 1 => fault("is still there behind the end of its token"),
            // A frame may be cut anywhere.
            ([] | [0x88] | [0x88, _] | [0x88, _, _], _) => Ok(()),
            ([0x88, _, high, low, ..], Some(end)) => {
                client.over = true;
                ring.end(client.end);
                let code = u16::from_be_bytes([*high, *low]);
                if code == EXPIRED.0 && now >= end { Ok(()) } else { fault("is closed before its time") }
            }
            _ => fault("hears more than a Close frame"),
        }
    }

    /// Nothing is left behind.
    fn at_the_end(&mut self) -> Result<(), String> {
        let left = !self.stage.until(1000, |stage| stage.shard.report().counters.used == 0);
        let counters = self.stage.counters();
        let answered: u64 = counters.auth_denied.iter().sum::<u64>() + counters.auth_admitted;
        if left || counters.identified > 0 {
            return Err(format!("{} slots taken, {} identified", counters.used, counters.identified));
        }
        if counters.auth_asked != self.asked || answered == 0 || counters.faults > 0 {
            return Err(format!("{} asked, {} heard, {answered} answered", counters.auth_asked, self.asked));
        }
        Ok(())
    }
}

/// A token that ends while the upstream is still called ends the WebSocket as soon as there is one.
#[test]
fn a_token_that_ends_before_the_upstream_answers_ends_what_it_has_opened() {
    let mut play = Play::new(1);
    let end = play.stage.asked(opening("/through?t=good-1").as_bytes());
    let (mut asked, mut call) = (None, None);
    for _ in 0..200 {
        play.stage.turn();
        if let Some(ToControl::Question(question)) = play.stage.to_control.take() {
            asked = Some(question.number);
            let (roles, claims) = (Box::new(["member".into()]) as Box<[_]>, Box::default());
            let identity = Identity { name: "ann".into(), roles, claims, expires: Some(BEGIN + 3) };
            let answer = Answer { question: question.number, verdict: Ok(Arc::new(identity)), keep: 5 };
            play.stage.letters.post(ToShard::Answer(Box::new(answer))).expect("the shard reads its letters");
        }
        call = call.or_else(|| play.stage.shard.ring().next_call());
    }
    let call = call.expect("the upstream is called, within the ten seconds of these turns");
    assert!(asked.is_some() && play.stage.shard.ring().answer(&call, true).is_some());
    let mut heard = Vec::new();
    let closed = play.stage.until(100, |stage| {
        heard.extend(stage.shard.ring().read(end, usize::MAX));
        heard.ends_with(b"ended")
    });
    let said = String::from_utf8_lossy(&heard);
    assert!(
        closed && said.starts_with("HTTP/1.1 101") && heard.windows(2).any(|it| it == EXPIRED.0.to_be_bytes()),
        "{said}"
    );
    assert_eq!(play.stage.counters().auth_expired, 1);
}

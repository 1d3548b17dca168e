//! A subscriber: it connects, reads at its own pace, disconnects, and resumes with an id.

use super::feeds::{self, EPOCH, History, OWN_IDS};
use super::model::{Model, Start, Upto};
use super::reader::{Incoming, Reader, Transport};
use super::request::{self, Request};
use super::setup::Setup;
use crate::line::{Line, Lines};
use edgehold::engine::script::{Dice, FarEnd, Script};
use edgehold::mesh;
use edgehold::service::broadcast::Policy;
use edgehold_wire::deflate::Preferences;
use edgehold_wire::upgrade::Offer;
use edgehold_wire::ws::{self, CloseCode, Opcode};
use std::collections::VecDeque;

/// How a subscriber reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// All that is there.
    Fast,
    /// As fast, but for times when it reads nothing.
    Stalls,
    /// A few bytes at a time.
    Slow,
}

/// What a subscriber sees of the play.
pub struct World<'w> {
    pub ring: &'w mut Script,
    pub dice: &'w mut Dice,
    pub setup: &'w Setup,
    pub history: &'w History,
    pub lines: &'w Lines,
    /// Everybody reads and nobody leaves.
    pub rest: bool,
    /// Nobody connects again.
    pub no_more_connections: bool,
    /// Connections break by themselves.
    pub breaks: bool,
    /// What is received is printed.
    pub verbose: bool,
    /// The shard drains.
    pub stopping: bool,
}

pub struct Subscriber {
    route: usize,
    patterns: Vec<String>,
    transport: Transport,
    http10: bool,
    offer: Offer<'static>,
    origin: bool,
    pace: Pace,
    connections: usize,
    away: usize,
    /// The id of the last message that it received.
    last: Option<String>,
    /// Polls in a row that were answered 410.
    gone: usize,
    /// It ignores a message now and then: the model must find it.
    forgets: bool,
    connection: Option<Connection>,
    /// Connections that were left without a word ([`Line::is_cut`]).
    pub cuts: usize,
}

/// One connection.
struct Connection {
    end: FarEnd,
    line: Line,
    reader: Reader,
    model: Model,
    outgoing: Vec<u8>,
    /// Answers that are due to a command, each with what is done when it comes.
    due: VecDeque<Due>,
    stall: usize,
    leave: usize,
    /// It has sent a Close frame, or was sent one.
    leaving: bool,
    /// It broke the connection off itself.
    broke: bool,
}

enum Due {
    Error(Option<String>),
    Unsubscribed(Vec<String>),
    Subscribed(Vec<String>, Option<String>),
}

impl Subscriber {
    pub fn new(dice: &mut Dice, setup: &Setup, forgets: bool) -> Subscriber {
        let route = dice.below(setup.routes.len());
        let transports = [
            Transport::Socket,
            Transport::Socket,
            Transport::Events,
            Transport::Lines,
            Transport::Raw,
            Transport::Poll,
        ];
        let deflate =
            [None, Some(false), Some(true)][dice.below(3)].map(|takeover| Preferences { context_takeover: takeover });
        let transport = transports[dice.below(transports.len())];
        let mut patterns = request::patterns(dice, setup, route);
        let may_wait =
            transport == Transport::Socket && setup.routes[route].subscribe && !setup.routes[route].channel_in_path;
        if may_wait && dice.chance(30) {
            patterns.clear();
        }
        patterns.truncate(setup.routes[route].subscriptions_max as usize);
        Subscriber {
            route,
            patterns,
            transport,
            http10: !matches!(transport, Transport::Socket | Transport::Poll) && dice.chance(30),
            offer: Offer { deflate, protocols: &[] },
            origin: transport == Transport::Poll && dice.chance(50),
            pace: [Pace::Fast, Pace::Fast, Pace::Stalls, Pace::Slow][dice.below(4)],
            connections: 1 + dice.below(4),
            away: dice.below(300),
            last: None,
            gone: 0,
            forgets,
            connection: None,
            cuts: 0,
        }
    }

    /// One step: read, say, go on. Says whether anything came.
    ///
    /// # Errors
    /// What came was wrong.
    pub fn step(&mut self, world: &mut World<'_>) -> Result<bool, String> {
        let Some(mut connection) = self.connection.take() else {
            self.wait(world);
            return Ok(false);
        };
        let came = self.read(&mut connection, world).map_err(|fault| self.name(&connection, &fault))?;
        connection.model.look(world.history);
        connection.send(world);
        if world.ring.is_ended(connection.end) {
            self.end(connection, world)?;
            return Ok(true);
        }
        self.go_on(&mut connection, world);
        self.connection = Some(connection);
        Ok(came)
    }

    fn name(&self, connection: &Connection, fault: &str) -> String {
        let Subscriber { route, transport, pace, http10, .. } = self;
        let stalled = connection.model.stalled;
        let patterns = connection.model.patterns();
        let end = connection.end;
        format!(
            "{transport:?} {end} at route {route}, {patterns:?} ({pace:?}, stalled {stalled}, 1.0 {http10}): {fault}"
        )
    }

    // ---- connecting ----

    fn wait(&mut self, world: &mut World<'_>) {
        if world.no_more_connections || world.stopping {
            self.connections = 0;
        }
        if self.connections == 0 || world.rest {
            return;
        }
        self.away = self.away.saturating_sub(1);
        if self.away == 0 {
            self.connections -= 1;
            let end = world.ring.arrive(0);
            let last = self.id_to_give(world);
            self.connect(end, last, world);
        }
    }

    /// Mostly that of the last message that it received.
    fn id_to_give(&mut self, world: &mut World<'_>) -> Option<String> {
        let last = self.last.clone()?;
        let dice = &mut *world.dice;
        match dice.below(12) {
            0 => None,
            1 => Some("garbage".into()),
            2 => Some(format!("0000abcd-{}", dice.below(100))),
            3 => Some(feeds::id(dice.below(world.history.len() as usize + 1) as u64)),
            4 => Some(feeds::id(world.history.len() + [1, 20, 1_000_000][dice.below(3)])),
            _ => Some(last),
        }
    }

    fn connect(&mut self, end: FarEnd, last: Option<String>, world: &mut World<'_>) {
        let mut outgoing = Vec::new();
        let Subscriber { route, transport, http10, offer, origin, .. } = *self;
        let (dice, setup) = (&mut *world.dice, world.setup);
        let asks = Request { route, transport, patterns: &self.patterns, last: last.as_deref(), http10, offer, origin };
        asks.write(dice, setup, &mut outgoing);
        let mut reader = Reader::new(transport, http10, offer);
        reader.origin = origin && Setup::is_shared(route);
        let start = start(last.as_deref(), setup, route, world.history);
        let mut model = Model::new(setup, route, transport, last);
        for pattern in &self.patterns {
            model.subscribe(setup, pattern, start, (world.history.len(), u64::MAX), None);
        }
        model.stalled = self.pace == Pace::Slow;
        let leave = 200 + dice.below(1500);
        let due = VecDeque::new();
        let line = world.lines.connect(end, world.dice);
        self.connection =
            Some(Connection { end, line, reader, model, outgoing, due, stall: 0, leave, leaving: false, broke: false });
    }

    // ---- receiving ----

    fn read(&mut self, connection: &mut Connection, world: &mut World<'_>) -> Result<bool, String> {
        if connection.stall > 0 && !world.rest && !world.stopping {
            connection.stall -= 1;
            return Ok(false);
        }
        let most = match self.pace {
            Pace::Slow if !world.rest && !world.stopping => world.dice.below(100),
            _ => 1 << 20,
        };
        let bytes = connection.line.read(world.ring, most);
        let words = connection.reader.receive(&bytes)?;
        for word in words {
            if world.verbose {
                println!("{:?} {}: {word:?}", self.transport, connection.end);
            }
            if self.forgets && matches!(word, Incoming::Message(_)) && world.dice.chance(3) {
                continue;
            }
            self.receive(connection, word, world)?;
        }
        Ok(!bytes.is_empty())
    }

    fn receive(&mut self, connection: &mut Connection, word: Incoming, world: &mut World<'_>) -> Result<(), String> {
        let (setup, history) = (world.setup, world.history);
        match word {
            Incoming::Opened { gap } => connection.model.opened(history, gap),
            Incoming::Message(received) => {
                let Some(sequence) = history.recognise(&received)? else { return connection.model.empty() };
                self.last = Some(history.get(sequence).id.clone());
                connection.model.message(history, sequence)
            }
            Incoming::Gap { channel, after, next } => {
                connection.model.gap(setup, history, (&channel, after.as_deref(), next.as_deref()))
            }
            Incoming::Answered { status, last } => self.answered(connection, status, last, world),
            word => connection.command_answered(word, world),
        }
    }

    /// A poll's answer is judged by itself, and the next poll goes on from its id.
    fn answered(
        &mut self,
        connection: &mut Connection,
        status: u16,
        last: String,
        world: &mut World<'_>,
    ) -> Result<(), String> {
        let history = world.history;
        let upto = mesh::sequence_of(&last, EPOCH).or(history.sequence_of(&last)).ok_or(format!("no id: {last}"))?;
        connection.model.opened(history, false)?;
        if let Some(missing) = connection.model.missing(history, Upto::Sequence(upto)).filter(|_| status != 410) {
            return Err(format!("{status}, last {last}: {}", connection.model.story(history, missing)));
        }
        if connection.model.last.is_some_and(|newest| newest > upto) {
            return Err(format!("{last} is older than the last message"));
        }
        self.gone = if status == 410 && self.last.as_ref() == Some(&last) { self.gone + 1 } else { 0 };
        if self.gone > 3 {
            return Err(format!("410 again and again for its own id {last}"));
        }
        self.last = Some(last.clone());
        if connection.leaving || world.stopping {
            return Ok(());
        }
        let (end, stalled) = (connection.end, connection.model.stalled);
        let leave = connection.leave;
        self.connect(end, Some(last), world);
        if let Some(mut next) = self.connection.take() {
            (next.leave, next.model.stalled) = (leave, stalled);
            next.reader.go_on_from(&mut connection.reader);
            std::mem::swap(&mut next.line, &mut connection.line);
            *connection = next;
        }
        Ok(())
    }

    // ---- going on ----

    fn go_on(&mut self, connection: &mut Connection, world: &mut World<'_>) {
        if connection.leaving || connection.broke || world.rest || world.stopping {
            return;
        }
        if self.pace == Pace::Stalls && connection.stall == 0 && world.dice.chance(2) {
            connection.stall = 100 + world.dice.below(900);
            connection.model.stalled = true;
        }
        let may_command =
            self.transport == Transport::Socket && connection.reader.is_open() && connection.outgoing.is_empty();
        if may_command && connection.due.is_empty() && world.dice.chance(4) {
            connection.command(self.last.clone(), world);
        }
        connection.leave = connection.leave.saturating_sub(1);
        if connection.leave == 0 && connection.due.is_empty() && connection.outgoing.is_empty() {
            connection.disconnect(world);
        }
    }

    /// Everybody leaves.
    pub fn dismiss(&mut self) {
        self.connections = 0;
        if let Some(connection) = &mut self.connection {
            connection.leave = connection.leave.min(1);
        }
    }

    // ---- the end of a connection ----

    fn end(&mut self, mut connection: Connection, world: &mut World<'_>) -> Result<(), String> {
        self.away = 1 + world.dice.below(400);
        connection.line.end(world.ring);
        self.cuts += usize::from(connection.line.is_cut());
        let broken = world.ring.is_broken(connection.end);
        let own =
            connection.broke || connection.leaving && connection.reader.close_code.is_none_or(|code| code == 1000);
        let fault = match () {
            () if own || world.breaks && broken => None,
            () if world.stopping => self.drained(&connection, broken),
            () => self.closed(&connection, world.history, broken),
        };
        let story =
            connection.model.missing(world.history, Upto::Received).filter(|_| self.transport != Transport::Poll);
        let story = story.map(|missing| connection.model.story(world.history, missing));
        let kept = if connection.reader.close_code.is_none() { None } else { Some(connection.reader.left_over()) };
        let rest = kept.filter(|&left| left > 0).map(|left| format!("{left} bytes left over"));
        fault.or(story).or(rest).map_or(Ok(()), |fault| Err(self.name(&connection, &fault)))
    }

    /// Streams end with their last chunk, sockets with a Close.
    fn drained(&self, connection: &Connection, broken: bool) -> Option<String> {
        let kind = match self.transport {
            Transport::Socket => connection.reader.close_code == Some(1001),
            Transport::Poll => true,
            _ => connection.reader.ended || self.http10,
        };
        // A poll that was in flight when the shard began to drain is not answered.
        let opened = connection.reader.is_open() && self.transport != Transport::Poll;
        let cut = opened && (!kind || broken || connection.reader.left_over() > 0);
        (cut && !connection.model.stalled).then(|| {
            let left = connection.reader.left_over();
            format!("a drained with {:?}, broken {broken}, {left} bytes left over", connection.reader.close_code)
        })
    }

    /// Only a subscriber that has stalled may be closed.
    fn closed(&self, connection: &Connection, history: &History, broken: bool) -> Option<String> {
        let code = connection.reader.close_code;
        let policy = connection.model.policy() == Policy::Close && connection.model.may_be_slow(history);
        let kind = match self.transport {
            Transport::Socket => code == Some(1013),
            _ => !connection.reader.ended,
        };
        (!policy || !kind).then(|| format!("it was sent away: {code:?}, broken {broken}"))
    }

    // ---- what the play asks ----

    pub fn is_here(&self) -> bool {
        self.connection.is_some()
    }

    /// It never stalled, as far as can be seen.
    pub fn keeps_up(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| !connection.model.stalled)
    }

    /// What is due to one who keeps up: bytes, and the tick of the oldest.
    pub fn behind(&mut self, history: &History) -> (u64, Option<u32>) {
        match &mut self.connection {
            Some(connection) if !connection.model.stalled => connection.model.behind(history),
            _ => (0, None),
        }
    }

    /// Whether everything has come that was due to it; one who stalls is asked only at rest.
    pub fn has_all(&mut self, history: &History) -> bool {
        let Some(connection) = &mut self.connection else { return true };
        connection.leaving
            || connection.broke
            || connection.model.missing(history, Upto::Now).is_none() && connection.due.is_empty()
    }

    pub fn settled(&mut self, history: &History) {
        if let Some(connection) = &mut self.connection {
            connection.model.settled(history);
        }
    }

    /// What is still due, for whoever looks into a play that is stuck.
    pub fn story(&mut self, history: &History) -> Option<String> {
        let connection = self.connection.as_mut()?;
        let due = connection.due.len();
        let missing = connection
            .model
            .missing(history, Upto::Now)
            .map(|it| connection.model.story(history, it))
            .unwrap_or_default();
        let (leaving, left) = (connection.leaving, connection.reader.left_over());
        let fault = format!("{missing}; {due} answers due, leaving {leaving}, {left} bytes not read to their end");
        let connection = self.connection.as_ref()?;
        Some(self.name(connection, &fault))
    }
}

impl Connection {
    fn send(&mut self, world: &mut World<'_>) {
        for _ in 0..std::mem::take(&mut self.reader.pings) {
            self.frame(Opcode::Pong, b"");
        }
        if self.reader.close_code.is_some() && !self.leaving {
            self.leaving = true;
            let code = CloseCode(self.reader.close_code.unwrap_or(1000));
            self.frame(Opcode::Close, ws::close_body(code, "").as_bytes());
        }
        if !self.outgoing.is_empty() && !self.broke && world.dice.chance(70) {
            let len = 1 + world.dice.below(self.outgoing.len());
            let piece: Vec<u8> = self.outgoing.drain(..len).collect();
            self.line.say(world.ring, &piece);
        }
        self.line.step(world.ring, world.dice);
    }

    fn disconnect(&mut self, world: &mut World<'_>) {
        self.leaving = true;
        match world.dice.below(4) {
            0 => {
                self.broke = true;
                self.line.break_off(world.ring);
            }
            1 | 2 if self.reader.transport == Transport::Socket && self.reader.is_open() => {
                self.frame(Opcode::Close, ws::close_body(CloseCode::NORMAL, "bye").as_bytes());
            }
            _ => {
                self.broke = true;
                self.line.end(world.ring);
            }
        }
    }

    fn frame(&mut self, opcode: Opcode, payload: &[u8]) {
        let key = [3, 5, 8, self.outgoing.len() as u8];
        self.outgoing.extend_from_slice(ws::head(opcode, true, payload.len() as u64, Some(key)).as_bytes());
        let from = self.outgoing.len();
        self.outgoing.extend_from_slice(payload);
        edgehold_wire::mask::apply(&mut self.outgoing[from..], key);
    }

    // ---- commands ----

    /// Sends a command, and works out the answers to it.
    fn command(&mut self, last: Option<String>, world: &mut World<'_>) {
        let (dice, setup) = (&mut *world.dice, world.setup);
        if dice.chance(10) || !setup.routes[self.model.route].subscribe {
            self.due.push_back(Due::Error(None));
            return self.send_command("nonsense", dice);
        }
        let unsubscribe: Vec<String> = (0..dice.below(2)).map(|_| request::pattern(dice)).collect();
        let mut subscribe: Vec<String> = (0..=dice.below(2)).map(|_| request::pattern(dice)).collect();
        if dice.chance(10) {
            subscribe.push("a\u{1}".into());
        }
        let after = match dice.below(4) {
            0 => last,
            1 => Some("garbage".to_string()),
            _ => None,
        };
        let mut command = serde_json::json!({"subscribe": subscribe, "unsubscribe": unsubscribe});
        if let Some(after) = &after {
            command["after"] = after.as_str().into();
        }
        self.work_out(setup, subscribe, &unsubscribe, after);
        self.send_command(&command.to_string(), dice);
    }

    fn send_command(&mut self, text: &str, dice: &mut Dice) {
        let text = text.as_bytes();
        let small = self.reader.deflated.as_mut().filter(|_| dice.chance(50)).map(|it| it.deflate(text));
        let key = [9, 1, 1, self.outgoing.len() as u8];
        let body = small.as_deref().unwrap_or(text);
        let head = ws::head(Opcode::Text, true, body.len() as u64, Some(key));
        self.outgoing.extend_from_slice(if small.is_some() { head.deflated() } else { head }.as_bytes());
        let from = self.outgoing.len();
        self.outgoing.extend_from_slice(body);
        edgehold_wire::mask::apply(&mut self.outgoing[from..], key);
    }

    fn work_out(&mut self, setup: &Setup, subscribe: Vec<String>, unsubscribe: &[String], after: Option<String>) {
        let route = self.model.route;
        let mut held = self.model.patterns();
        let mut done = Vec::new();
        for pattern in unsubscribe {
            match held.iter().position(|it| it == pattern) {
                Some(at) => done.push(held.remove(at)),
                None => self.due.push_back(Due::Error(Some(pattern.clone()))),
            }
        }
        if !done.is_empty() {
            self.due.push_back(Due::Unsubscribed(done));
        }
        let places = |held: &[String]| held.iter().map(|it| setup.feeds_of(route, it).count()).sum::<usize>();
        let mut done = Vec::new();
        for pattern in subscribe {
            let full = places(&held) >= setup.routes[route].subscriptions_max as usize;
            if held.contains(&pattern) || full || !request::is_allowed(setup, route, &pattern) {
                self.due.push_back(Due::Error(Some(pattern)));
            } else {
                held.push(pattern.clone());
                done.push(pattern);
            }
        }
        if !done.is_empty() {
            self.due.push_back(Due::Subscribed(done, after));
        }
    }

    /// An answer to a command has come.
    fn command_answered(&mut self, word: Incoming, world: &mut World<'_>) -> Result<(), String> {
        let (setup, history) = (world.setup, world.history);
        match (word, self.due.pop_front()) {
            (Incoming::Refused(channel), Some(Due::Error(due))) if channel == due => Ok(()),
            (Incoming::Unsubscribed(channels), Some(Due::Unsubscribed(due))) if channels == due => {
                due.iter().for_each(|pattern| self.model.unsubscribe(pattern));
                Ok(())
            }
            (Incoming::Subscribed { channels, after }, Some(Due::Subscribed(due, given))) if channels == due => {
                let at = mesh::sequence_of(&after, EPOCH).ok_or(format!("subscribed behind {after}"))?;
                let start = start(given.as_deref(), setup, self.model.route, history);
                self.model.give(given);
                let known = Some(history.len());
                due.iter().for_each(|pattern| self.model.subscribe(setup, pattern, start, (at, at), known));
                Ok(())
            }
            (word, _) => Err(format!("{word:?} was not the answer that was due")),
        }
    }
}

/// What an id means to a route.
fn start(last: Option<&str>, setup: &Setup, route: usize, history: &History) -> Start {
    let Some(last) = last else { return Start::Live };
    let own = setup.routes[route].feeds.contains(&OWN_IDS).then(|| history.sequence_of(last)).flatten();
    match mesh::sequence_of(last, EPOCH) {
        // The shard may not have been sent it yet.
        Some(sequence) if sequence <= history.len() + 100_000 => Start::Behind(sequence),
        None if own.is_some() => own.map_or(Start::Unknown, Start::Own),
        _ => Start::Unknown,
    }
}

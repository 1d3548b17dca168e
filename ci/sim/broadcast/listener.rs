//! A listener: one who comes, reads at its own pace, leaves, and comes back with an id.

use super::feeds::{self, EPOCH, History, OWN_IDS};
use super::house::House;
use super::judge::{Ear, Start, Upto};
use super::reader::{Reader, Way, Word};
use super::request::{self, Request};
use edgehold::engine::script::{Dice, FarEnd, Script};
use edgehold::mesh;
use edgehold::service::broadcast::Policy;
use edgehold_wire::deflate::Preferences;
use edgehold_wire::upgrade::Offer;
use edgehold_wire::ws::{self, CloseCode, Opcode};
use std::collections::VecDeque;

/// How a listener reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// All that is there.
    Fast,
    /// As fast, but for times when it reads nothing.
    Stalls,
    /// A few bytes at a time.
    Slow,
}

/// What a listener sees of the play.
pub struct World<'w> {
    pub ring: &'w mut Script,
    pub dice: &'w mut Dice,
    pub house: &'w House,
    pub history: &'w History,
    /// Everybody reads and nobody leaves.
    pub rest: bool,
    /// Nobody comes again.
    pub last_orders: bool,
    /// Connections break by themselves.
    pub breaks: bool,
    /// What is heard is printed.
    pub tell: bool,
    /// The shard was told to stop.
    pub stopping: bool,
}

pub struct Listener {
    route: usize,
    patterns: Vec<String>,
    way: Way,
    http10: bool,
    offer: Offer<'static>,
    origin: bool,
    pace: Pace,
    visits: usize,
    away: usize,
    /// The last id that it heard.
    last: Option<String>,
    /// Polls in a row that were told that it is gone.
    gone: usize,
    /// It forgets a message now and then: the judge must find it.
    forgets: bool,
    visit: Option<Visit>,
}

/// One connection.
struct Visit {
    end: FarEnd,
    reader: Reader,
    ear: Ear,
    outgoing: Vec<u8>,
    /// Answers that are due to an order, each with what is done when it comes.
    due: VecDeque<Due>,
    stall: usize,
    leave: usize,
    /// It has said goodbye, or was told so.
    leaving: bool,
    /// It broke the connection off itself.
    broke: bool,
}

enum Due {
    Error(Option<String>),
    Unsubscribed(Vec<String>),
    Subscribed(Vec<String>, Option<String>),
}

impl Listener {
    pub fn new(dice: &mut Dice, house: &House, forgets: bool) -> Listener {
        let route = dice.below(house.routes.len());
        let ways = [Way::Socket, Way::Socket, Way::Events, Way::Lines, Way::Raw, Way::Poll];
        let deflate =
            [None, Some(false), Some(true)][dice.below(3)].map(|takeover| Preferences { context_takeover: takeover });
        let way = ways[dice.below(ways.len())];
        let mut patterns = request::patterns(dice, house, route);
        let may_wait = way == Way::Socket && house.routes[route].subscribe && !house.routes[route].channel_in_path;
        if may_wait && dice.chance(30) {
            patterns.clear();
        }
        patterns.truncate(house.routes[route].subscriptions_max as usize);
        Listener {
            route,
            patterns,
            way,
            http10: !matches!(way, Way::Socket | Way::Poll) && dice.chance(30),
            offer: Offer { deflate, protocols: &[] },
            origin: way == Way::Poll && dice.chance(50),
            pace: [Pace::Fast, Pace::Fast, Pace::Stalls, Pace::Slow][dice.below(4)],
            visits: 1 + dice.below(4),
            away: dice.below(300),
            last: None,
            gone: 0,
            forgets,
            visit: None,
        }
    }

    /// One step: read, say, go on. Says whether anything came.
    ///
    /// # Errors
    /// What came was wrong.
    pub fn step(&mut self, world: &mut World<'_>) -> Result<bool, String> {
        let Some(mut visit) = self.visit.take() else {
            self.stay_away(world);
            return Ok(false);
        };
        let came = self.read(&mut visit, world).map_err(|fault| self.name(&visit, &fault))?;
        visit.ear.look(world.history);
        visit.speak(world);
        if world.ring.is_ended(visit.end) {
            self.end(visit, world)?;
            return Ok(true);
        }
        self.go_on(&mut visit, world);
        self.visit = Some(visit);
        Ok(came)
    }

    fn name(&self, visit: &Visit, fault: &str) -> String {
        let Listener { route, way, pace, http10, .. } = self;
        let stalled = visit.ear.stalled;
        let patterns = visit.ear.patterns();
        let end = visit.end;
        format!("{way:?} {end} at route {route}, {patterns:?} ({pace:?}, stalled {stalled}, 1.0 {http10}): {fault}")
    }

    // ---- coming ----

    fn stay_away(&mut self, world: &mut World<'_>) {
        if world.last_orders || world.stopping {
            self.visits = 0;
        }
        if self.visits == 0 || world.rest {
            return;
        }
        self.away = self.away.saturating_sub(1);
        if self.away == 0 {
            self.visits -= 1;
            let end = world.ring.arrive(0);
            let last = self.id_to_give(world);
            self.come(end, last, world);
        }
    }

    /// The last that it heard, mostly.
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

    fn come(&mut self, end: FarEnd, last: Option<String>, world: &mut World<'_>) {
        let mut outgoing = Vec::new();
        let Listener { route, way, http10, offer, origin, .. } = *self;
        let (dice, house) = (&mut *world.dice, world.house);
        let asks = Request { route, way, patterns: &self.patterns, last: last.as_deref(), http10, offer, origin };
        asks.write(dice, house, &mut outgoing);
        let mut reader = Reader::new(way, http10, offer);
        reader.origin = origin && !house.routes[route].allow_origin.is_empty();
        let mut ear = Ear::new(house, route, way, last.clone());
        let start = start(last.as_deref(), house, route, world.history);
        for pattern in &self.patterns {
            ear.subscribe(house, pattern, start, (world.history.len(), u64::MAX), None);
        }
        ear.stalled = self.pace == Pace::Slow;
        let leave = 200 + dice.below(1500);
        let due = VecDeque::new();
        self.visit = Some(Visit { end, reader, ear, outgoing, due, stall: 0, leave, leaving: false, broke: false });
    }

    // ---- hearing ----

    fn read(&mut self, visit: &mut Visit, world: &mut World<'_>) -> Result<bool, String> {
        if visit.stall > 0 && !world.rest && !world.stopping {
            visit.stall -= 1;
            return Ok(false);
        }
        let most = match self.pace {
            Pace::Slow if !world.rest && !world.stopping => world.dice.below(100),
            _ => 1 << 20,
        };
        let bytes = world.ring.read(visit.end, most);
        let words = visit.reader.hear(&bytes)?;
        for word in words {
            if world.tell {
                println!("{:?} {}: {word:?}", self.way, visit.end);
            }
            if self.forgets && matches!(word, Word::Message(_)) && world.dice.chance(3) {
                continue;
            }
            self.hear(visit, word, world)?;
        }
        Ok(!bytes.is_empty())
    }

    fn hear(&mut self, visit: &mut Visit, word: Word, world: &mut World<'_>) -> Result<(), String> {
        let (house, history) = (world.house, world.history);
        match word {
            Word::Opened { gap } => visit.ear.opened(history, gap),
            Word::Message(heard) => {
                let Some(sequence) = history.recognise(&heard)? else { return visit.ear.empty() };
                self.last = Some(history.get(sequence).id.clone());
                visit.ear.message(history, sequence)
            }
            Word::Gap { channel, after, next } => {
                visit.ear.gap(house, history, (&channel, after.as_deref(), next.as_deref()))
            }
            Word::Answered { status, last } => self.answered(visit, status, last, world),
            word => visit.ordered(word, world),
        }
    }

    /// A poll's answer is judged by itself, and the next poll goes on from its id.
    fn answered(&mut self, visit: &mut Visit, status: u16, last: String, world: &mut World<'_>) -> Result<(), String> {
        let history = world.history;
        let upto = mesh::sequence_of(&last, EPOCH).or(history.sequence_of(&last)).ok_or(format!("no id: {last}"))?;
        visit.ear.opened(history, false)?;
        if let Some(missing) = visit.ear.missing(history, Upto::Sequence(upto)).filter(|_| status != 410) {
            return Err(format!("{status}, last {last}: {}", visit.ear.story(history, missing)));
        }
        if visit.ear.last.is_some_and(|newest| newest > upto) {
            return Err(format!("{last} is older than the last message"));
        }
        self.gone = if status == 410 && self.last.as_ref() == Some(&last) { self.gone + 1 } else { 0 };
        if self.gone > 3 {
            return Err(format!("410 again and again for its own id {last}"));
        }
        self.last = Some(last.clone());
        if visit.leaving || world.stopping {
            return Ok(());
        }
        let (end, stalled) = (visit.end, visit.ear.stalled);
        let leave = visit.leave;
        self.come(end, Some(last), world);
        if let Some(mut next) = self.visit.take() {
            (next.leave, next.ear.stalled) = (leave, stalled);
            next.reader.go_on_from(&mut visit.reader);
            *visit = next;
        }
        Ok(())
    }

    // ---- going on ----

    fn go_on(&mut self, visit: &mut Visit, world: &mut World<'_>) {
        if visit.leaving || visit.broke || world.rest || world.stopping {
            return;
        }
        if self.pace == Pace::Stalls && visit.stall == 0 && world.dice.chance(2) {
            visit.stall = 100 + world.dice.below(900);
            visit.ear.stalled = true;
        }
        let orders = self.way == Way::Socket && visit.reader.is_open() && visit.outgoing.is_empty();
        if orders && visit.due.is_empty() && world.dice.chance(4) {
            visit.order(self.last.clone(), world);
        }
        visit.leave = visit.leave.saturating_sub(1);
        if visit.leave == 0 && visit.due.is_empty() && visit.outgoing.is_empty() {
            visit.take_leave(world);
        }
    }

    /// Everybody leaves.
    pub fn dismiss(&mut self) {
        self.visits = 0;
        if let Some(visit) = &mut self.visit {
            visit.leave = visit.leave.min(1);
        }
    }

    // ---- the end of a connection ----

    fn end(&mut self, mut visit: Visit, world: &mut World<'_>) -> Result<(), String> {
        self.away = 1 + world.dice.below(400);
        world.ring.end(visit.end);
        let broken = world.ring.is_broken(visit.end);
        let own = visit.broke || visit.leaving && visit.reader.close_code.is_none_or(|code| code == 1000);
        let fault = match () {
            () if own || world.breaks && broken => None,
            () if world.stopping => self.farewell(&visit, broken),
            () => self.sent_away(&visit, world.history, broken),
        };
        let story = visit.ear.missing(world.history, Upto::Heard).filter(|_| self.way != Way::Poll);
        let story = story.map(|missing| visit.ear.story(world.history, missing));
        let kept = if visit.reader.close_code.is_none() { None } else { Some(visit.reader.left_over()) };
        let rest = kept.filter(|&left| left > 0).map(|left| format!("{left} bytes left over"));
        fault.or(story).or(rest).map_or(Ok(()), |fault| Err(self.name(&visit, &fault)))
    }

    /// Streams end with their last chunk, sockets with a Close.
    fn farewell(&self, visit: &Visit, broken: bool) -> Option<String> {
        let kind = match self.way {
            Way::Socket => visit.reader.close_code == Some(1001),
            Way::Poll => true,
            _ => visit.reader.ended || self.http10,
        };
        // A poll that was on its way when the shard stopped is not answered.
        let opened = visit.reader.is_open() && self.way != Way::Poll;
        let cut = opened && (!kind || broken || visit.reader.left_over() > 0);
        (cut && !visit.ear.stalled).then(|| {
            let left = visit.reader.left_over();
            format!("a farewell with {:?}, broken {broken}, {left} bytes left over", visit.reader.close_code)
        })
    }

    /// Only those who have stalled are sent away.
    fn sent_away(&self, visit: &Visit, history: &History, broken: bool) -> Option<String> {
        let code = visit.reader.close_code;
        let policy = visit.ear.policy() == Policy::Close && visit.ear.may_be_slow(history);
        let kind = match self.way {
            Way::Socket => code == Some(1013),
            _ => !visit.reader.ended,
        };
        (!policy || !kind).then(|| format!("it was sent away: {code:?}, broken {broken}"))
    }

    // ---- what the play asks ----

    pub fn is_here(&self) -> bool {
        self.visit.is_some()
    }

    /// It never stalled, as far as can be seen.
    pub fn keeps_up(&self) -> bool {
        self.visit.as_ref().is_none_or(|visit| !visit.ear.stalled)
    }

    /// What is due to one who keeps up: bytes, and the tick of the oldest.
    pub fn behind(&mut self, history: &History) -> (u64, Option<u32>) {
        match &mut self.visit {
            Some(visit) if !visit.ear.stalled => visit.ear.behind(history),
            _ => (0, None),
        }
    }

    /// Whether everything has come that was due to it; one who stalls is asked only at rest.
    pub fn has_all(&mut self, history: &History) -> bool {
        let Some(visit) = &mut self.visit else { return true };
        visit.leaving || visit.broke || visit.ear.missing(history, Upto::Now).is_none() && visit.due.is_empty()
    }

    pub fn settled(&mut self, history: &History) {
        if let Some(visit) = &mut self.visit {
            visit.ear.settled(history);
        }
    }

    /// What is still due, for whoever looks into a play that is stuck.
    pub fn story(&mut self, history: &History) -> Option<String> {
        let visit = self.visit.as_mut()?;
        let due = visit.due.len();
        let missing = visit.ear.missing(history, Upto::Now).map(|it| visit.ear.story(history, it)).unwrap_or_default();
        let (leaving, left) = (visit.leaving, visit.reader.left_over());
        let fault = format!("{missing}; {due} answers due, leaving {leaving}, {left} bytes not read to their end");
        let visit = self.visit.as_ref()?;
        Some(self.name(visit, &fault))
    }
}

impl Visit {
    fn speak(&mut self, world: &mut World<'_>) {
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
            world.ring.say(self.end, &piece);
        }
    }

    fn take_leave(&mut self, world: &mut World<'_>) {
        self.leaving = true;
        match world.dice.below(4) {
            0 => {
                self.broke = true;
                world.ring.break_off(self.end);
            }
            1 | 2 if self.reader.way == Way::Socket && self.reader.is_open() => {
                self.frame(Opcode::Close, ws::close_body(CloseCode::NORMAL, "bye").as_bytes());
            }
            _ => {
                self.broke = true;
                world.ring.end(self.end);
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

    // ---- orders ----

    /// Says an order, and works out the answers to it.
    fn order(&mut self, last: Option<String>, world: &mut World<'_>) {
        let (dice, house) = (&mut *world.dice, world.house);
        if dice.chance(10) || !house.routes[self.ear.route].subscribe {
            self.due.push_back(Due::Error(None));
            return self.say_order("nonsense", dice);
        }
        let unsubscribe: Vec<String> = (0..dice.below(2)).map(|_| request::pattern(dice)).collect();
        let mut subscribe: Vec<String> = (0..1 + dice.below(2)).map(|_| request::pattern(dice)).collect();
        if dice.chance(10) {
            subscribe.push("a\u{1}".into());
        }
        let after = match dice.below(4) {
            0 => last,
            1 => Some("garbage".to_string()),
            _ => None,
        };
        let mut order = serde_json::json!({"subscribe": subscribe, "unsubscribe": unsubscribe});
        if let Some(after) = &after {
            order["after"] = after.as_str().into();
        }
        self.work_out(house, subscribe, &unsubscribe, after);
        self.say_order(&order.to_string(), dice);
    }

    fn say_order(&mut self, order: &str, dice: &mut Dice) {
        let text = order.as_bytes();
        let small = self.reader.deflated.as_mut().filter(|_| dice.chance(50)).map(|it| it.deflate(text));
        let key = [9, 1, 1, self.outgoing.len() as u8];
        let body = small.as_deref().unwrap_or(text);
        let head = ws::head(Opcode::Text, true, body.len() as u64, Some(key));
        self.outgoing.extend_from_slice(if small.is_some() { head.deflated() } else { head }.as_bytes());
        let from = self.outgoing.len();
        self.outgoing.extend_from_slice(body);
        edgehold_wire::mask::apply(&mut self.outgoing[from..], key);
    }

    fn work_out(&mut self, house: &House, subscribe: Vec<String>, unsubscribe: &[String], after: Option<String>) {
        let route = self.ear.route;
        let mut held = self.ear.patterns();
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
        let places = |held: &[String]| held.iter().map(|it| house.feeds_of(route, it).count()).sum::<usize>();
        let mut done = Vec::new();
        for pattern in subscribe {
            let full = places(&held) >= house.routes[route].subscriptions_max as usize;
            if held.contains(&pattern) || full || !request::is_allowed(house, route, &pattern) {
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

    /// An answer to an order has come.
    fn ordered(&mut self, word: Word, world: &mut World<'_>) -> Result<(), String> {
        let (house, history) = (world.house, world.history);
        match (word, self.due.pop_front()) {
            (Word::Refused(channel), Some(Due::Error(due))) if channel == due => Ok(()),
            (Word::Unsubscribed(channels), Some(Due::Unsubscribed(due))) if channels == due => {
                due.iter().for_each(|pattern| self.ear.unsubscribe(pattern));
                Ok(())
            }
            (Word::Subscribed { channels, after }, Some(Due::Subscribed(due, given))) if channels == due => {
                let at = mesh::sequence_of(&after, EPOCH).ok_or(format!("subscribed behind {after}"))?;
                let start = start(given.as_deref(), house, self.ear.route, history);
                self.ear.give(given);
                let known = Some(history.len());
                due.iter().for_each(|pattern| self.ear.subscribe(house, pattern, start, (at, at), known));
                Ok(())
            }
            (word, _) => Err(format!("{word:?} was not the answer that was due")),
        }
    }
}

/// What an id means to a route.
fn start(last: Option<&str>, house: &House, route: usize, history: &History) -> Start {
    let Some(last) = last else { return Start::Live };
    let own = house.routes[route].feeds.contains(&OWN_IDS).then(|| history.sequence_of(last)).flatten();
    match mesh::sequence_of(last, EPOCH) {
        // The shard may still have to hear of it.
        Some(sequence) if sequence <= history.len() + 100_000 => Start::Behind(sequence),
        None if own.is_some() => own.map_or(Start::Unknown, Start::Own),
        _ => Start::Unknown,
    }
}

//! The clients of one worker, without their ring: what comes in is read here, and what is due is written down.
//!
//! Nothing here asks anything of the kernel. `worker.rs` carries bytes in, and afterwards holds what each touched
//! client wants against what the kernel holds of it.

use super::client::{Client, Outgoing, Stage, State, Turn, held};
use super::findings::{Counters, Findings, cause, note};
use super::pace::Pace;
use super::words::{Words, framed, marks};
use crate::broker::{Dialect, Heard};
use crate::target::Speech;
use crate::tls::Secure;
use edgehold_wire::deflate::{Inflater, Preferences};
use edgehold_wire::{upgrade, ws};
use memchr::memmem::Finder;
use std::collections::HashMap;
use std::sync::Arc;

/// The longest message that a client takes.
const MESSAGE_BYTES: u64 = 64 << 20;
/// A response head above this is none.
const HEAD_BYTES: usize = 64 << 10;

/// How a client opens.
#[derive(Clone)]
pub struct Opening {
    /// What is spoken.
    pub speech: Speech,
    /// The request; empty where the connection is enough.
    pub request: Arc<[u8]>,
    /// The key in it.
    pub key: [u8; 16],
    /// permessage-deflate is offered.
    pub deflate: bool,
    /// What is in front of the request, where it is TLS.
    pub tls: Option<Secure>,
    /// What is said behind it, where there is a broker.
    pub dialect: Option<Arc<Dialect>>,
}

impl Opening {
    /// What the request offers besides WebSocket itself.
    pub fn offer(&self) -> upgrade::Offer<'static> {
        offer(self.deflate, self.dialect.as_deref())
    }
}

/// What a client offers besides WebSocket itself.
pub fn offer(deflate: bool, dialect: Option<&Dialect>) -> upgrade::Offer<'static> {
    let protocols = dialect.map_or(&[][..], Dialect::subprotocols);
    upgrade::Offer { protocols, deflate: deflate.then_some(Preferences { context_takeover: false }) }
}

/// A measured stretch.
#[derive(Clone)]
pub struct Stretch {
    /// What is said.
    pub words: Arc<Words>,
    /// When it begins.
    pub start: u64,
    /// When nothing more becomes due, and nothing more counts as received in time.
    pub end: u64,
    /// When messages are due; without it each client's next is due when the last is back.
    pub pace: Option<Pace>,
}

/// What incoming messages are.
pub enum Hearing {
    /// None are expected; they are let go.
    Nothing,
    /// Echoes of what the stretch says.
    Echoes(Stretch),
    /// Published messages, the first of them due at the pace's start.
    Published(Pace),
}

/// All clients of a worker.
pub struct Table {
    /// By slot.
    pub clients: Vec<Client>,
    /// Those that take part in the stretch, in the order in which messages fall due.
    pub members: Vec<u32>,
    /// What is measured at present.
    pub hearing: Hearing,
    /// What was found since it was last handed over.
    pub findings: Findings,
    /// For those who watch.
    pub counters: Arc<Counters>,
    /// Connects and handshakes that are under way.
    pub pending: u32,
    /// Clients that something happened to.
    pub touched: Vec<u32>,
    /// Control frames to be sent, and what is said to a broker.
    pub replies: HashMap<u32, Vec<u8>>,
    /// How many workers there are, and which of them this is: clients are dealt to them one after the other.
    pub dealt: (u32, u32),
    opening: Opening,
    /// Cut heads, frames and marks, and a broker's.
    spill: HashMap<u32, Vec<u8>>,
    /// Pieces of deflated messages.
    gathered: HashMap<u32, Vec<u8>>,
    inflater: Inflater,
    mark: Finder<'static>,
}

/// Why a client has to go.
type Gone = String;

impl Table {
    /// `slots` clients, none begun.
    pub fn new(slots: u32, opening: Opening, counters: Arc<Counters>) -> Table {
        Table {
            clients: vec![Client::new(); slots as usize],
            members: Vec::new(),
            hearing: Hearing::Nothing,
            findings: Findings::default(),
            counters,
            pending: 0,
            touched: Vec::new(),
            replies: HashMap::new(),
            dealt: (1, 0),
            opening,
            spill: HashMap::new(),
            gathered: HashMap::new(),
            inflater: Inflater::default(),
            mark: Finder::new(marks::BEGIN),
        }
    }

    /// Something happened to it: the worker is to look.
    pub fn touch(&mut self, slot: u32) {
        self.touched.push(slot);
    }

    fn client(&mut self, slot: u32) -> &mut Client {
        &mut self.clients[slot as usize]
    }

    /// The TCP connection stands, and TLS on it.
    pub fn connected(&mut self, slot: u32, now: u64) {
        let client = self.client(slot);
        (client.state, client.outgoing) = (State::Opening, Outgoing::Opening);
        if self.opening.speech == Speech::Bytes {
            self.client(slot).outgoing = Outgoing::Nothing;
            self.carried(slot, now);
        }
        self.touch(slot);
    }

    /// What carries messages stands: so does the client, unless there is a broker to log in at.
    fn carried(&mut self, slot: u32, now: u64) {
        match self.opening.dialect.clone() {
            None => self.opened(slot, now),
            Some(dialect) => self.log_in(slot, &dialect),
        }
    }

    fn opened(&mut self, slot: u32, now: u64) {
        let client = self.client(slot);
        client.state = State::Open;
        client.failures = 0;
        let took = now.saturating_sub(client.asked);
        self.pending = self.pending.saturating_sub(1);
        note(&mut self.findings.connects, took);
        Counters::add(&self.counters.open, 1);
        Counters::add(&self.counters.joined, 1);
    }

    /// It ends, for this cause. What the kernel holds of it is the worker's to take back.
    pub fn lose(&mut self, slot: u32, words: &str) {
        let state = self.clients[slot as usize].state;
        match state {
            State::Away | State::Leaving => return,
            State::Open => {
                cause(&mut self.findings.lost, words);
                Counters::less(&self.counters.open);
            }
            State::Connecting | State::Securing | State::Opening => {
                cause(&mut self.findings.failed, words);
                Counters::add(&self.counters.failed, 1);
                self.pending = self.pending.saturating_sub(1);
                let client = self.client(slot);
                client.failures = client.failures.saturating_add(1);
            }
        }
        self.forget(slot);
    }

    /// It is cut by the tool itself: no failure of the server's.
    pub fn cut(&mut self, slot: u32) {
        Counters::less(&self.counters.open);
        self.forget(slot);
    }

    fn forget(&mut self, slot: u32) {
        self.client(slot).state = State::Leaving;
        self.spill.remove(&slot);
        self.spill.remove(&(slot | MARKS));
        self.touch(slot);
    }

    /// Bytes from the server. They are unmasked or compared in place.
    pub fn hear(&mut self, slot: u32, bytes: &mut [u8], now: u64) {
        let heard = match self.spilled(slot) {
            None => self.take(slot, bytes, now),
            Some(mut cut) => {
                cut.extend_from_slice(bytes);
                self.take(slot, &mut cut, now)
            }
        };
        if let Err(words) = heard {
            self.lose(slot, &words);
        }
        self.touch(slot);
    }

    /// Reads what it can; keeps what is cut.
    fn take(&mut self, slot: u32, bytes: &mut [u8], now: u64) -> Result<(), Gone> {
        let mut rest = bytes;
        let client = &self.clients[slot as usize];
        if client.state == State::Opening && client.stage == Stage::Outside {
            let Some(len) = self.answer(rest)? else {
                return self.keep(slot, rest);
            };
            self.carried(slot, now);
            rest = &mut rest[len..];
        }
        match (self.clients[slot as usize].state, self.opening.speech) {
            (State::Open | State::Opening, Speech::WebSocket) => self.frames(slot, rest, now),
            (State::Open | State::Opening, _) => self.payload(slot, rest, now),
            _ => Ok(()),
        }
    }

    fn spilled(&mut self, key: u32) -> Option<Vec<u8>> {
        if self.spill.is_empty() { None } else { self.spill.remove(&key) }
    }

    fn keep(&mut self, slot: u32, rest: &[u8]) -> Result<(), Gone> {
        if rest.len() > HEAD_BYTES {
            return Err("an endless answer".into());
        }
        if !rest.is_empty() {
            self.spill.insert(slot, rest.to_vec());
        }
        Ok(())
    }

    /// The length of the answer's head, if it is the right one.
    fn answer(&self, bytes: &[u8]) -> Result<Option<usize>, Gone> {
        match self.opening.speech {
            Speech::WebSocket => match upgrade::confirm(bytes, self.opening.key, self.opening.offer()) {
                Ok(confirmed) => Ok(confirmed.map(|it| it.len)),
                Err(upgrade::Unconfirmed::Status(status)) => Err(format!("answered {status}")),
                Err(_) => Err("answered, but not as a WebSocket server".into()),
            },
            _ => stream_answer(bytes),
        }
    }

    fn frames(&mut self, slot: u32, bytes: &mut [u8], now: u64) -> Result<(), Gone> {
        let config =
            ws::ParserConfig { role: ws::Role::Client, message_bytes: MESSAGE_BYTES, deflate: self.opening.deflate };
        let mut parser = self.clients[slot as usize].parser;
        let mut rest = bytes;
        loop {
            match parser.next(&mut rest, &config) {
                Ok(Some(ws::FrameEvent::Data { deflated: true, last, payload, .. })) => {
                    self.deflated(slot, payload, last, now)?;
                }
                Ok(Some(ws::FrameEvent::Data { payload, .. })) => self.payload(slot, payload, now)?,
                Ok(Some(ws::FrameEvent::Ping(payload))) => self.reply(slot, ws::Opcode::Pong, payload),
                Ok(Some(ws::FrameEvent::Pong(_))) => self.pong(slot, now),
                Ok(Some(ws::FrameEvent::Empty)) => {}
                Ok(Some(ws::FrameEvent::Close(Some((code, _))))) => {
                    return Err(format!("closed by the server, {}", code.0));
                }
                Ok(Some(ws::FrameEvent::Close(None))) => return Err("closed by the server".into()),
                Ok(None) => break,
                Err(fault) => return Err(format!("server broke RFC 6455: {}", fault.words())),
            }
        }
        self.clients[slot as usize].parser = parser;
        self.keep(slot, rest)
    }

    /// A deflated message is inflated when it is whole.
    fn deflated(&mut self, slot: u32, piece: &[u8], last: bool, now: u64) -> Result<(), Gone> {
        let mut whole = self.gathered.remove(&slot).unwrap_or_default();
        whole.extend_from_slice(piece);
        if !last {
            self.gathered.insert(slot, whole);
            return Ok(());
        }
        let mut message = Vec::new();
        let inflated = self.inflater.message(&whole, None, MESSAGE_BYTES, &mut message);
        inflated.map_err(|fault| format!("server broke RFC 7692: {fault:?}"))?;
        self.payload(slot, &message, now)
    }

    fn reply(&mut self, slot: u32, opcode: ws::Opcode, payload: &[u8]) {
        self.replies.entry(slot).or_default().extend_from_slice(&framed(opcode, payload, 0));
    }

    fn pong(&mut self, slot: u32, now: u64) {
        let client = self.client(slot);
        if client.is(held::PINGED) {
            client.unset(held::PINGED);
            let took = now.saturating_sub(client.asked);
            self.received(took, true);
        }
    }

    fn received(&mut self, took: u64, in_time: bool) {
        note(&mut self.findings.latency, took);
        self.findings.received += u64::from(in_time);
        self.findings.late += u64::from(!in_time);
        Counters::add(&self.counters.received, 1);
    }

    /// Bytes of messages, without frames.
    fn payload(&mut self, slot: u32, bytes: &[u8], now: u64) -> Result<(), Gone> {
        if let Some(dialect) = self.opening.dialect.clone() {
            return self.brokered(slot, bytes, now, &dialect);
        }
        match self.hearing {
            Hearing::Nothing => {}
            Hearing::Echoes(_) => self.echo(slot, bytes, now),
            Hearing::Published(pace) => self.published(slot, bytes, now, &pace),
        }
        Ok(())
    }

    /// Holds what came against what was said, byte by byte; a message is as long as what was said.
    fn echo(&mut self, slot: u32, mut bytes: &[u8], now: u64) {
        let Hearing::Echoes(stretch) = &self.hearing else { return };
        let (words, end, open_loop) = (stretch.words.clone(), stretch.end, stretch.pace);
        while !bytes.is_empty() {
            let client = &mut self.clients[slot as usize];
            let expected = words.payload(slot, client.back);
            let len = bytes.len().min(expected.len() - client.got as usize);
            let (piece, rest) = bytes.split_at(len);
            let from = client.got as usize;
            client.changed |= client.back >= client.due || piece != &expected[from..from + len];
            client.got += len as u32;
            bytes = rest;
            if client.got as usize == expected.len() {
                self.echoed(slot, now, end, open_loop);
            }
        }
    }

    fn echoed(&mut self, slot: u32, now: u64, end: u64, open_loop: Option<Pace>) {
        let client = &mut self.clients[slot as usize];
        self.findings.changed += u64::from(client.changed);
        let number = client.back;
        (client.got, client.changed, client.back) = (0, false, number + 1);
        let intended = match open_loop {
            Some(pace) => pace.time(self.index(slot, number)),
            None => self.clients[slot as usize].asked,
        };
        self.received(now.saturating_sub(intended), now < end);
        if open_loop.is_none() && now < end {
            let client = &mut self.clients[slot as usize];
            client.asked = now;
            client.due += 1;
            self.count_due();
        }
    }

    /// Which of the stretch's messages this client's message `number` is.
    fn index(&self, slot: u32, number: u32) -> u64 {
        u64::from(number) * self.members.len() as u64 + u64::from(self.clients[slot as usize].place)
    }

    /// Looks for marks; one that is cut is kept in front of what comes next.
    fn published(&mut self, slot: u32, bytes: &[u8], now: u64, pace: &Pace) {
        let key = slot | MARKS;
        match self.spilled(key) {
            None => self.scan(slot, bytes, now, pace),
            Some(mut cut) => {
                cut.extend_from_slice(bytes);
                self.scan(slot, &cut, now, pace);
            }
        }
    }

    fn scan(&mut self, slot: u32, bytes: &[u8], now: u64, pace: &Pace) {
        let mut at = 0;
        while let Some(found) = self.mark.find(&bytes[at..]) {
            at += found;
            let Some(mark) = bytes.get(at..at + marks::LEN) else {
                break;
            };
            if let Some(number) = marks::number(mark) {
                self.receipt(slot, number, now, pace);
            }
            at += marks::BEGIN.len();
        }
        let begin = cut_mark(&bytes[at..]).map(|found| at + found);
        if let Some(begin) = begin {
            self.spill.insert(slot | MARKS, bytes[begin..].to_vec());
        }
    }

    fn receipt(&mut self, slot: u32, number: u32, now: u64, pace: &Pace) {
        let client = &mut self.clients[slot as usize];
        if number < client.back {
            self.findings.doubled += 1;
            return;
        }
        client.back = number + 1;
        self.note_receipt(number, now, pace);
    }

    fn note_receipt(&mut self, number: u32, now: u64, pace: &Pace) {
        let receipts = &mut self.findings.receipts;
        if receipts.len() <= number as usize {
            receipts.resize(number as usize + 1, (0, 0));
        }
        let receipt = &mut receipts[number as usize];
        *receipt = (receipt.0 + 1, receipt.1.max(now));
        let intended = pace.start + (f64::from(number) / pace.per_second * 1e9) as u64;
        self.received(now.saturating_sub(intended), true);
    }

    // ---- with a broker ----

    fn log_in(&mut self, slot: u32, dialect: &Dialect) {
        self.client(slot).stage = Stage::LogsIn;
        let name = format!("edgehold-bench-{}-{}", std::process::id(), self.place(slot));
        self.say(slot, dialect, &dialect.connect(&name));
    }

    /// Its place among the clients of all workers.
    fn place(&self, slot: u32) -> u32 {
        slot * self.dealt.0 + self.dealt.1
    }

    fn say(&mut self, slot: u32, dialect: &Dialect, bytes: &[u8]) {
        let replies = self.replies.entry(slot).or_default();
        match self.opening.speech {
            Speech::WebSocket => replies.extend_from_slice(&framed(dialect.opcode(), bytes, 0)),
            _ => replies.extend_from_slice(bytes),
        }
    }

    /// Reads the frames or packets that are whole; one that is cut is kept in front of what comes next.
    fn brokered(&mut self, slot: u32, bytes: &[u8], now: u64, dialect: &Dialect) -> Result<(), Gone> {
        let key = slot | MARKS;
        match self.spilled(key) {
            None => self.packets(slot, bytes, now, dialect),
            Some(mut cut) => {
                cut.extend_from_slice(bytes);
                self.packets(slot, &cut, now, dialect)
            }
        }
    }

    fn packets(&mut self, slot: u32, bytes: &[u8], now: u64, dialect: &Dialect) -> Result<(), Gone> {
        let mut rest = bytes;
        while let Some((heard, used)) = dialect.hear(rest)? {
            rest = &rest[used..];
            self.told(slot, heard, now, dialect)?;
        }
        if !rest.is_empty() {
            self.spill.insert(slot | MARKS, rest.to_vec());
        }
        Ok(())
    }

    fn told(&mut self, slot: u32, heard: Heard<'_>, now: u64, dialect: &Dialect) -> Result<(), Gone> {
        match (heard, self.clients[slot as usize].stage) {
            (Heard::Nothing, _) => {}
            (Heard::Welcome, Stage::LogsIn) => {
                self.client(slot).stage = Stage::Subscribes;
                let topic = self.place(slot) % dialect.topics;
                self.say(slot, dialect, &dialect.subscribe(topic));
            }
            (Heard::Done, Stage::Subscribes) => {
                self.client(slot).stage = Stage::Subscribed;
                self.opened(slot, now);
            }
            (Heard::Message { body, id }, Stage::Subscribes | Stage::Subscribed) => {
                id.into_iter().for_each(|id| self.say(slot, dialect, &Dialect::acknowledgement(id)));
                self.delivered(slot, body, now, dialect);
            }
            (other, stage) => return Err(format!("the broker says {other:?} to one who is {stage:?}")),
        }
        Ok(())
    }

    /// A message must be one of the client's own topic, whole, and in its place.
    fn delivered(&mut self, slot: u32, body: &[u8], now: u64, dialect: &Dialect) {
        let Hearing::Published(pace) = self.hearing else { return };
        let topic = self.place(slot) % dialect.topics;
        let number = body.get(..marks::LEN).and_then(marks::number).filter(|number| number % dialect.topics == topic);
        let Some(number) = number.filter(|_| body.len() == dialect.size.max(marks::LEN)) else {
            self.findings.changed += 1;
            return;
        };
        match self.client(slot).take(number / dialect.topics) {
            Turn::Again => return self.findings.doubled += 1,
            Turn::Late => self.findings.disordered += 1,
            Turn::Next => {}
        }
        self.note_receipt(number, now, &pace);
    }

    // ---- stretches ----

    /// A new stretch with the first `count` of those who stand.
    pub fn begin(&mut self, stretch: Stretch, count: usize) {
        self.members = self.standing().take(count).collect();
        self.clients.iter_mut().for_each(|client| client.begin_stretch(None));
        (0..).zip(&self.members).for_each(|(place, &slot)| self.clients[slot as usize].begin_stretch(Some(place)));
        self.hearing = Hearing::Echoes(stretch);
    }

    fn standing(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.clients).filter(|(_, client)| client.state == State::Open).map(|(slot, _)| slot)
    }

    /// Published messages are heard from now on, numbered from zero.
    pub fn listen(&mut self, pace: Pace) {
        self.clients.iter_mut().for_each(|client| client.begin_stretch(None));
        self.members = self.standing().collect();
        self.hearing = Hearing::Published(pace);
    }

    /// One more message of this client is due.
    pub fn fall_due(&mut self, slot: u32, now: u64) {
        let client = self.client(slot);
        client.due += 1;
        client.asked = now;
        if !client.is(held::DEAF) {
            self.count_due();
        }
        self.touch(slot);
    }

    /// One more answer is waited for.
    pub fn count_due(&mut self) {
        self.findings.due += 1;
        Counters::add(&self.counters.due, 1);
    }

    /// Nothing more falls due, and what comes now comes late.
    pub fn stop(&mut self, now: u64) {
        if let Hearing::Echoes(stretch) = &mut self.hearing {
            stretch.end = stretch.end.min(now);
        }
    }
}

/// Spilled marks and spilled frames of one client must not meet.
const MARKS: u32 = 1 << 31;

/// Where a mark begins that is cut at the end of these bytes.
fn cut_mark(bytes: &[u8]) -> Option<usize> {
    let from = bytes.len().saturating_sub(marks::LEN - 1);
    (from..bytes.len()).find(|&at| {
        let rest = &bytes[at..];
        let len = rest.len().min(marks::BEGIN.len());
        rest[..len] == marks::BEGIN[..len]
    })
}

/// A response that goes on: its head must say 200.
fn stream_answer(bytes: &[u8]) -> Result<Option<usize>, Gone> {
    let mut store = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut store);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if head.code == Some(200) => Ok(Some(len)),
        Ok(httparse::Status::Complete(_)) => Err(format!("answered {}", head.code.unwrap_or(0))),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err("answered, but not in HTTP".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Protocol, tests::dialect};
    use edgehold_wire::stomp;

    fn table(speech: Speech) -> Table {
        let opening = Opening { speech, request: Arc::new([]), key: [7; 16], deflate: false, tls: None, dialect: None };
        let mut table = Table::new(4, opening, Arc::default());
        (0..4).for_each(|slot| table.clients[slot].state = State::Open);
        table
    }

    fn stretch(speech: Speech, pace: Option<Pace>) -> Stretch {
        Stretch { words: Arc::new(Words::new(speech, 20)), start: 0, end: 1_000_000, pace }
    }

    /// What a server sends for message `number` of client `slot`.
    fn echoed(words: &Words, slot: u32, number: u32) -> Vec<u8> {
        let payload = words.payload(slot, number);
        let mut bytes = ws::head(ws::Opcode::Binary, true, payload.len() as u64, None).as_bytes().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn echoes_count_however_they_are_cut() {
        for cut in 1..40 {
            let mut table = table(Speech::WebSocket);
            let stretch = stretch(Speech::WebSocket, None);
            let words = stretch.words.clone();
            table.begin(stretch, 2);
            table.fall_due(1, 5);
            let mut all = echoed(&words, 1, 0);
            table.clients[1].due = 3;
            all.extend(echoed(&words, 1, 1));
            all.extend(echoed(&words, 1, 2));
            all.chunks_mut(cut).for_each(|piece| table.hear(1, piece, 100));
            assert_eq!((table.findings.received, table.findings.changed), (3, 0), "cut at {cut}");
        }
    }

    #[test]
    fn anothers_echo_is_seen_as_changed() {
        let mut table = table(Speech::Bytes);
        let stretch = stretch(Speech::Bytes, None);
        let words = stretch.words.clone();
        table.begin(stretch, 4);
        table.fall_due(2, 0);
        table.hear(2, &mut words.payload(1, 0).to_vec(), 1);
        assert_eq!((table.findings.received, table.findings.changed), (1, 1));
    }

    #[test]
    fn an_echo_nobody_asked_for_is_seen_as_changed() {
        let mut table = table(Speech::Bytes);
        let stretch = stretch(Speech::Bytes, None);
        let words = stretch.words.clone();
        table.begin(stretch, 4);
        table.hear(0, &mut words.payload(0, 0).to_vec(), 1);
        assert_eq!(table.findings.changed, 1);
    }

    #[test]
    fn latency_counts_from_the_intended_time() {
        let mut table = table(Speech::Bytes);
        let pace = Pace { start: 100, per_second: 1e6, worker: 0, workers: 1 };
        let stretch = stretch(Speech::Bytes, Some(pace));
        let words = stretch.words.clone();
        table.begin(stretch, 2);
        table.fall_due(0, 50_000);
        table.hear(0, &mut words.payload(0, 0).to_vec(), 60_100);
        assert_eq!(table.findings.latency.max(), 60_031, "60 000 ns to three digits");
    }

    #[test]
    fn marks_are_found_however_they_are_cut() {
        let text: String = (0..5).map(|number| format!("data: {}\n\n", marks::message(number, 30))).collect();
        let pace = Pace { start: 0, per_second: 10.0, worker: 0, workers: 1 };
        for cut in 1..60 {
            let mut table = table(Speech::Stream);
            table.listen(pace);
            let mut bytes = text.clone().into_bytes();
            bytes.chunks_mut(cut).for_each(|piece| table.hear(3, piece, 1_000_000_000));
            assert_eq!((table.findings.received, table.findings.doubled), (5, 0), "cut at {cut}");
            table.hear(3, &mut marks::message(4, 30).into_bytes(), 1_000_000_000);
            assert_eq!((table.findings.received, table.findings.doubled), (5, 1), "cut at {cut}");
        }
    }

    /// What a broker says to a client of topic 2 of 3: messages 0 to 2 of its topic, the first of them twice and the
    /// last before the one in the middle, and one of another topic.
    fn brokers_words() -> (Vec<u8>, Vec<u8>) {
        let message = |number| {
            let mut frame = Vec::new();
            let body = marks::message(number, 20);
            stomp::write(&mut frame, stomp::Version::V12, stomp::Command::Message, &[], body.as_bytes());
            frame
        };
        let opening = b"CONNECTED\nversion:1.2\n\n\0\nRECEIPT\nreceipt-id:subscribed\n\n\0".to_vec();
        (opening, [2, 2, 8, 5, 4].map(message).concat())
    }

    #[test]
    fn a_client_of_a_broker_counts_its_topics_messages_however_they_are_cut() {
        let pace = Pace { start: 0, per_second: 30.0, worker: 0, workers: 1 };
        for cut in 1..60 {
            let mut table = table(Speech::Bytes);
            table.opening.dialect = Some(Arc::new(dialect(Protocol::Stomp)));
            let (mut opening, mut messages) = brokers_words();
            table.connected(2, 0);
            opening.chunks_mut(cut).for_each(|piece| table.hear(2, piece, 1));
            let said = String::from_utf8_lossy(&table.replies[&2]).into_owned();
            assert!(said.contains("passcode:b:c") && said.contains("destination:/topic/2\n"), "{said}");
            assert_eq!((table.clients[2].state, table.clients[2].stage), (State::Open, Stage::Subscribed));
            table.listen(pace);
            messages.chunks_mut(cut).for_each(|piece| table.hear(2, piece, 1_000_000_000));
            let Findings { received, doubled, disordered, changed, .. } = table.findings;
            assert_eq!((received, doubled, disordered, changed), (3, 1, 1, 1), "cut at {cut}");
        }
    }

    #[test]
    fn a_client_that_the_broker_refuses_has_failed() {
        let mut table = table(Speech::Bytes);
        table.opening.dialect = Some(Arc::new(dialect(Protocol::Mqtt)));
        table.connected(0, 0);
        table.hear(0, &mut [0x20, 2, 0, 5], 1);
        assert_eq!(table.findings.failed["the broker refuses the login (5)"], 1);
        assert_eq!(table.clients[0].state, State::Leaving);
    }

    #[test]
    fn an_answer_that_is_none_has_a_cause() {
        let mut table = table(Speech::WebSocket);
        table.clients[0].state = State::Opening;
        table.hear(0, &mut b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), 1);
        table.clients[1].state = State::Opening;
        table.hear(1, &mut b"220 mail ready\r\n\r\n".to_vec(), 1);
        let causes: Vec<&str> = table.findings.failed.keys().map(String::as_str).collect();
        assert_eq!(causes, ["answered 404", "answered, but not as a WebSocket server"]);
    }
}

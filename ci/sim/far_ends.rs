//! The far ends: what clients and upstreams say, and what they expect to hear.

use crate::deflated::Deflated;
use crate::line::Line;
use edgehold::engine::script::{Dice, FarEnd, Script};
use edgehold_wire::deflate::Preferences;
use edgehold_wire::upgrade::{self, Offer};
use edgehold_wire::ws::{self, CloseCode, FrameEvent, Opcode, Parser, ParserConfig, Role};
use std::collections::VecDeque;

const KEY: [u8; 16] = *b"a key of sixteen";

/// What a client is out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Says messages to `/echo` and wants them back.
    Echo,
    /// Says messages to `/proxy`, where an upstream sends back every byte.
    Proxy,
    /// Asks for the page, several times in one go.
    Http,
}

/// How a client takes its leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    /// A Close frame, and waits.
    Kindly,
    /// FIN in the middle of things.
    Abruptly,
    /// A reset.
    Rudely,
    /// Never, until the server stops.
    Not,
}

/// A client and its model.
pub struct Client {
    pub end: FarEnd,
    line: Line,
    pub aim: Aim,
    leave: Leave,
    stage: Stage,
    offer: Offer<'static>,
    deflated: Option<Deflated>,
    /// Bytes that are to be said.
    outgoing: Vec<u8>,
    /// What should come back: messages for echo, bytes for proxy, a count for HTTP.
    expected: Vec<(bool, Vec<u8>)>,
    expected_responses: usize,
    /// Of the requests that are not answered: whether each was a HEAD.
    asked: VecDeque<bool>,
    heard: Vec<(bool, Vec<u8>)>,
    responses: usize,
    incoming: Vec<u8>,
    parser: Parser,
    partial: Vec<u8>,
    pub close_code: Option<u16>,
    opened: bool,
    refused: bool,
    wants: usize,
}

/// Bytes of all these messages.
fn len(messages: &[(bool, Vec<u8>)]) -> usize {
    messages.iter().map(|it| it.1.len()).sum()
}

fn preferences(takeover: bool) -> Preferences {
    Preferences { context_takeover: takeover }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Talking,
    Leaving,
    Gone,
}

/// A client is finished when nothing more is to be expected of it.
impl Client {
    pub fn new(end: FarEnd, line: Line, dice: &mut Dice) -> Client {
        let aim = [Aim::Echo, Aim::Proxy, Aim::Http][dice.below(3)];
        let leave = match dice.below(10) {
            0 => Leave::Abruptly,
            1 => Leave::Rudely,
            2 => Leave::Not,
            _ => Leave::Kindly,
        };
        let mut client = Client {
            end,
            line,
            aim,
            leave,
            stage: Stage::Opening,
            offer: Offer { deflate: [None, Some(false), Some(true)][dice.below(3)].map(preferences), protocols: &[] },
            deflated: None,
            outgoing: Vec::new(),
            expected: Vec::new(),
            expected_responses: 0,
            asked: VecDeque::new(),
            heard: Vec::new(),
            responses: 0,
            incoming: Vec::new(),
            parser: Parser::new(),
            partial: Vec::new(),
            close_code: None,
            opened: false,
            refused: false,
            wants: 1 + dice.below(8),
        };
        client.begin(dice);
        client
    }

    fn begin(&mut self, dice: &mut Dice) {
        match self.aim {
            Aim::Echo => upgrade::request(&mut self.outgoing, "sim", "/echo", KEY, self.offer),
            Aim::Proxy => upgrade::request(&mut self.outgoing, "sim", "/proxy", KEY, self.offer),
            Aim::Http => self.ask(dice),
        }
        if self.aim == Aim::Http {
            self.stage = Stage::Talking;
        } else if dice.chance(20) {
            // Frames right behind the opening are not asked for, and must not be lost, however many there are.
            (0..=dice.below(4)).for_each(|_| self.message(dice));
        }
    }

    fn ask(&mut self, dice: &mut Dice) {
        for _ in 0..self.wants {
            let kind = dice.below(4);
            self.asked.push_back(kind == 1);
            let request: &[u8] = match kind {
                0 => b"GET / HTTP/1.1\r\nHost: sim\r\n\r\n",
                1 => b"HEAD / HTTP/1.1\r\nHost: sim\r\n\r\n",
                2 => b"POST / HTTP/1.1\r\nHost: sim\r\nContent-Length: 5\r\n\r\nhello",
                _ => b"POST /none HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            };
            self.outgoing.extend_from_slice(request);
        }
        self.expected_responses = self.wants;
        self.wants = 0;
    }

    /// One step: say a piece, hear a piece, or go on to the next thing.
    pub fn step(&mut self, ring: &mut Script, dice: &mut Dice) {
        if self.stage == Stage::Gone {
            return;
        }
        self.line.step(ring, dice);
        let most = 1 + dice.below(3000);
        if dice.chance(70) {
            let bytes = self.line.read(ring, most);
            self.hear(&bytes);
            self.refused |= self.line.is_turned_away();
        }
        if ring.is_ended(self.end) {
            self.stage = Stage::Gone;
            self.line.end(ring);
        } else if self.refused && self.stage != Stage::Leaving {
            self.stage = Stage::Leaving;
            self.line.end(ring);
        } else if !self.outgoing.is_empty() && dice.chance(60) {
            let len = 1 + dice.below(self.outgoing.len().min(5000));
            let piece: Vec<u8> = self.outgoing.drain(..len).collect();
            self.line.say(ring, &piece);
        } else if !self.line.is_flushed() {
            self.cut_short(ring, dice, 2);
        } else if self.outgoing.is_empty() {
            self.go_on(ring, dice);
        }
    }

    fn go_on(&mut self, ring: &mut Script, dice: &mut Dice) {
        match self.stage {
            Stage::Talking if self.wants > 0 => {
                self.wants -= 1;
                self.message(dice);
            }
            Stage::Talking if self.is_satisfied() && dice.chance(30) => self.take_leave(ring),
            _ => {}
        }
        self.cut_short(ring, dice, 3);
    }

    /// It may go in the middle of things, be it in a handshake.
    fn cut_short(&mut self, ring: &mut Script, dice: &mut Dice, percent: usize) {
        let cut_short = matches!(self.leave, Leave::Abruptly | Leave::Rudely) && dice.chance(percent);
        if cut_short && self.stage != Stage::Leaving {
            self.take_leave(ring);
        }
    }

    fn take_leave(&mut self, ring: &mut Script) {
        self.stage = Stage::Leaving;
        match (self.leave, self.aim) {
            (Leave::Rudely, _) => self.line.break_off(ring),
            (Leave::Abruptly, _) if self.opened => {
                // Words and the end in one: whoever stops reading at the words never hears of the end.
                self.frame(Opcode::Ping, true, b"gone");
                let last = std::mem::take(&mut self.outgoing);
                self.line.say(ring, &last);
                self.line.end(ring);
            }
            (Leave::Abruptly, _) | (Leave::Kindly, Aim::Http) => self.line.end(ring),
            (Leave::Kindly, _) => self.frame(Opcode::Close, true, ws::close_body(CloseCode::NORMAL, "bye").as_bytes()),
            (Leave::Not, _) => self.stage = Stage::Talking,
        }
    }

    /// A whole message, in as many frames as it pleases, with a ping between them now and then.
    fn message(&mut self, dice: &mut Dice) {
        let len = [0, 1, 125, 126, 200, 3000, 20_000][dice.below(7)];
        let text = dice.chance(50);
        let payload: Vec<u8> =
            (0..len).map(|i: u32| if text { b'a' + (i % 26) as u8 } else { dice.roll() as u8 }).collect();
        let deflated = self.deflated.as_mut().filter(|_| dice.chance(70)).map(|it| it.deflate(&payload));
        let mut rest: &[u8] = deflated.as_deref().unwrap_or(&payload);
        let mut first = deflated.is_some();
        let mut opcode = if text { Opcode::Text } else { Opcode::Binary };
        while dice.chance(40) {
            let (piece, later) = rest.split_at(dice.below(rest.len() + 1));
            self.frame_of(first, opcode, false, piece);
            (first, opcode, rest) = (false, Opcode::Continuation, later);
            if dice.chance(30) {
                self.frame(Opcode::Ping, true, b"are you there");
            }
        }
        self.frame_of(first, opcode, true, rest);
        self.expected.push((text, payload));
    }

    fn frame(&mut self, opcode: Opcode, fin: bool, payload: &[u8]) {
        self.frame_of(false, opcode, fin, payload);
    }

    fn frame_of(&mut self, deflated: bool, opcode: Opcode, fin: bool, payload: &[u8]) {
        let key = [7, 77, 177, self.outgoing.len() as u8];
        let head = ws::head(opcode, fin, payload.len() as u64, Some(key));
        self.outgoing.extend_from_slice(if deflated { head.deflated() } else { head }.as_bytes());
        let from = self.outgoing.len();
        self.outgoing.extend_from_slice(payload);
        edgehold_wire::mask::apply(&mut self.outgoing[from..], key);
    }

    // ---- hearing ----

    fn hear(&mut self, bytes: &[u8]) {
        self.incoming.extend_from_slice(bytes);
        if self.aim == Aim::Http {
            return self.hear_responses();
        }
        if !self.opened {
            self.hear_opening();
        }
        if self.opened {
            self.hear_frames();
        }
    }

    fn hear_opening(&mut self) {
        match upgrade::confirm(&self.incoming, KEY, self.offer) {
            Ok(Some(confirmed)) => {
                let len = confirmed.len;
                self.deflated = confirmed.deflate.map(Deflated::new);
                self.incoming.drain(..len);
                self.opened = true;
                if self.stage == Stage::Opening {
                    self.stage = Stage::Talking;
                }
            }
            Ok(None) => {}
            Err(_) => self.refused = true,
        }
    }

    fn hear_frames(&mut self) {
        let mut bytes = std::mem::take(&mut self.incoming);
        let mut rest = &mut bytes[..];
        let config = ParserConfig { role: Role::Client, message_bytes: u64::MAX, deflate: self.deflated.is_some() };
        let (mut close, mut pings) = (None, 0);
        loop {
            match self.parser.next(&mut rest, &config).expect("the shard sends what RFC 6455 allows") {
                Some(FrameEvent::Data { text, deflated, last, payload, .. }) => {
                    assert!(self.close_code.is_none(), "data behind Close");
                    self.partial.extend_from_slice(payload);
                    if last {
                        let message = std::mem::take(&mut self.partial);
                        let plain = self.deflated.as_mut().filter(|_| deflated).map(|it| it.inflate(&message));
                        self.heard.push((text, plain.unwrap_or(message)));
                    }
                }
                Some(FrameEvent::Close(body)) => {
                    close = Some(body.map_or(1005, |(code, _)| code.0));
                    self.close_code = close;
                }
                Some(FrameEvent::Ping(_)) => pings += 1,
                Some(FrameEvent::Pong(_) | FrameEvent::Empty) => {}
                None => break,
            }
        }
        self.incoming = rest.to_vec();
        if pings > 0 && self.stage == Stage::Talking {
            self.frame(Opcode::Pong, true, b"");
        }
        if let Some(code) = close
            && self.stage == Stage::Talking
        {
            // An answer is due, behind what is being said; the rest that was planned is not said any more.
            self.stage = Stage::Leaving;
            self.wants = 0;
            self.frame(Opcode::Close, true, ws::close_body(CloseCode(code), "").as_bytes());
        }
    }

    /// Counts responses by their heads and lengths.
    fn hear_responses(&mut self) {
        while let Some(at) = find(&self.incoming, b"\r\n\r\n") {
            let head = String::from_utf8(self.incoming[..at].to_vec()).expect("heads are text");
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let length: usize = length.expect("responses have a length").parse().expect("a number");
            // A shard without a free slot answers before it is asked.
            self.refused |= head.starts_with("HTTP/1.1 503");
            let headless = !self.refused && self.asked.front() == Some(&true);
            let whole = at + 4 + if headless { 0 } else { length };
            if self.incoming.len() < whole {
                return;
            }
            self.incoming.drain(..whole);
            self.asked.pop_front();
            self.responses += 1;
        }
    }

    // ---- judging ----

    /// Everything that was asked for has come.
    fn is_satisfied(&self) -> bool {
        let all = len(&self.expected) == len(&self.heard);
        self.wants == 0 && self.outgoing.is_empty() && all && self.responses >= self.expected_responses
    }

    /// It will do nothing more by itself.
    pub fn is_finished(&self) -> bool {
        let waits_for_nothing = self.leave == Leave::Not && self.is_satisfied();
        self.stage == Stage::Gone || waits_for_nothing
    }

    /// Where it stands, for whoever looks into a play that is stuck.
    pub fn story(&self) -> String {
        let (said, heard) = (len(&self.expected), len(&self.heard));
        format!(
            "{:?} client {} ({:?}, {:?}): said {said} bytes, heard {heard}; {} to say, {} wishes; responses {} of {}; \
             close {:?}",
            self.aim,
            self.end,
            self.leave,
            self.stage,
            self.outgoing.len(),
            self.wants,
            self.responses,
            self.expected_responses,
            self.close_code
        )
    }

    /// What it heard is what it said, or, where something broke, the beginning of it.
    pub fn fault(&self, ring: &Script) -> Option<String> {
        let order = match self.aim {
            Aim::Echo => self.expected.starts_with(&self.heard),
            Aim::Proxy => bytes(&self.expected).starts_with(&bytes(&self.heard)),
            Aim::Http => self.responses <= self.expected_responses,
        };
        let (whole, kind) = (self.is_satisfied(), self.leave == Leave::Kindly);
        let name = format!("{:?} client {} ({:?}, {:?})", self.aim, self.end, self.leave, self.close_code);
        if !order {
            return Some(format!(
                "{name} heard what was not said: {} of {} bytes",
                bytes(&self.heard).len(),
                bytes(&self.expected).len()
            ));
        }
        let ends_well = self.close_code == Some(1000) || self.aim == Aim::Http && !self.refused;
        if kind && !ring.is_broken(self.end) && ends_well && !whole {
            let heard = (self.heard.len(), self.responses);
            return Some(format!(
                "{name} lost something: {heard:?} of {:?}",
                (self.expected.len(), self.expected_responses)
            ));
        }
        None
    }

    /// See [`Line::is_cut`].
    pub fn is_cut(&self) -> bool {
        self.line.is_cut()
    }
}

/// An upstream that sends back what it hears, byte by byte, and ends when the other side has.
pub struct Upstream {
    pub end: FarEnd,
    pending: Vec<u8>,
    forge: bool,
    done: bool,
}

impl Upstream {
    pub fn new(end: FarEnd, forge: bool) -> Upstream {
        Upstream { end, pending: Vec::new(), forge, done: false }
    }

    pub fn step(&mut self, ring: &mut Script, dice: &mut Dice) {
        let most = 1 + dice.below(4000);
        let mut bytes = ring.read(self.end, most);
        if self.forge && !bytes.is_empty() && dice.chance(30) {
            bytes[0] ^= 1;
        }
        self.pending.extend(bytes);
        let len = self.pending.len().min(1 + dice.below(4000));
        let said: Vec<u8> = self.pending.drain(..len).collect();
        ring.say(self.end, &said);
        if ring.is_ended(self.end) && self.pending.is_empty() && !self.done {
            self.done = true;
            ring.end(self.end);
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The messages behind each other.
fn bytes(messages: &[(bool, Vec<u8>)]) -> Vec<u8> {
    messages.iter().flat_map(|it| it.1.iter().copied()).collect()
}

//! A client as the service knows it: what an idle one needs in a few words, and the rest in a box that few have.

use super::session::SessionId;
use crate::mesh::{Cause, OffloadKind, OffloadRefused, Secret};
use crate::service::offload::Holds;
use crate::shard::service::{Backpressure, Desk};
use crate::shard::slab::Handle;
use edgehold_wire::stomp::{Command, Until, Version};
use edgehold_wire::ws::{CloseCode, Opcode};
use std::collections::VecDeque;

/// What carries a client's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket messages, each with a frame, several, or a part of one.
    WebSocket,
    /// The connection itself.
    Bare,
}

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not sent CONNECT.
    Silent,
    /// It has, and it is asked who it is.
    Asked,
    /// It has been sent CONNECTED.
    Connected,
    /// It was sent its last frame; nothing it says is heard.
    Ended,
}

/// Names a client for as long as it is there: its token may be another's later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its token.
    pub token: u32,
    /// Counts the clients that have had it.
    pub generation: u32,
}

impl Owner {
    /// As one word.
    pub fn to_word(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.token)
    }

    /// From one word.
    pub fn of_word(word: u64) -> Owner {
        Owner { token: word as u32, generation: (word >> 32) as u32 }
    }
}

/// A client.
pub struct Client {
    /// Counts the clients that have had this token.
    pub generation: u32,
    /// The number of its route.
    pub route: u16,
    /// What carries its frames.
    pub transport: Transport,
    /// How far it has come.
    pub stage: Stage,
    /// What is spoken.
    pub version: Version,
    /// Ticks in which it is to be sent something, if only a heart-beat; zero: none.
    pub beat_out: u16,
    /// Ticks in which it has promised to send something; zero: none.
    pub beat_in: u16,
    /// The tick in which it last said something.
    pub heard: u32,
    /// The tick in which it was last sent something.
    pub spoke: u32,
    /// What idle clients do not have.
    pub busy: Option<Box<Busy>>,
}

const _: () = assert!(size_of::<Client>() <= 32, "an idle client must fit 256 bytes, all told");

/// What a client is told by ERROR.
#[derive(Clone, Copy, Debug)]
pub struct Told<'t> {
    /// How it is counted.
    pub why: OffloadRefused,
    /// In a few words.
    pub message: &'t str,
    /// The receipt that it will not get.
    pub receipt: Option<&'t str>,
    /// In more words.
    pub body: &'t [u8],
}

impl<'t> Told<'t> {
    /// In these words.
    pub fn new(why: OffloadRefused, message: &'t str) -> Told<'t> {
        Told { why, message, receipt: None, body: b"" }
    }
}

/// What few clients have, most of them for a moment.
#[derive(Default)]
pub struct Busy {
    /// A frame that was cut.
    pub rest: Vec<u8>,
    /// Bytes that it needs at least before it is looked at again.
    pub least: usize,
    /// What must come, too.
    pub until: Until,
    /// Why it is not read.
    pub holds: Holds,
    /// CONNECT, while it is asked who the client is: heart-beats it can and wants.
    pub asked: Option<(u32, u32)>,
    /// What it has logged in with, where private sessions do so, too.
    pub login: Option<(Box<str>, Secret)>,
    /// Shared subscriptions that the broker has not confirmed: destination and receipt.
    pub unconfirmed: Vec<(Box<str>, Option<Box<str>>)>,
    /// Its queue subscriptions.
    pub queues: Vec<Queue>,
    /// Its transactions: its own name, the session, and the name there.
    pub transactions: Vec<(Box<str>, SessionId, u64)>,
    /// Counts the messages that it is to acknowledge.
    pub delivered: u64,
    /// Its own session.
    pub private: Option<SessionId>,
    /// Frames of its own that the broker has not confirmed and that have a receipt.
    pub receipts: u32,
    /// The receipt of its DISCONNECT, which waits for those.
    pub leaving: Option<Box<str>>,
}

/// A queue subscription of a client.
pub struct Queue {
    /// The client's id.
    pub id: Box<str>,
    /// The session that has it.
    pub session: SessionId,
    /// Its number there.
    pub number: u32,
    /// What the client acknowledges.
    pub ack: Ack,
    /// What it has been sent and has not acknowledged.
    pub pending: VecDeque<Pending>,
}

/// What a subscription's client acknowledges (STOMP 1.2, SUBSCRIBE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Nothing.
    Auto,
    /// All messages up to one.
    Client,
    /// Each by itself.
    Individual,
}

/// A message that a client has not acknowledged.
pub struct Pending {
    /// The session that it came by.
    pub session: SessionId,
    /// Its place among all that the client was sent.
    pub number: u64,
    /// Its `message-id`.
    pub message_id: Box<str>,
    /// What the broker wants it acknowledged by.
    pub ack: Box<str>,
    /// The number of the transaction in which it was acknowledged; zero: of none.
    pub transaction: u64,
}

impl Busy {
    /// With the last ones of so many bytes of a cut frame it is worth another look.
    pub fn is_met(&self, len: usize, new: &[u8]) -> bool {
        len >= self.least && self.until.is_met(len, new)
    }

    /// Nothing in it is of use any more.
    pub fn is_idle(&self) -> bool {
        self.rest.is_empty()
            && self.holds.is_empty()
            && self.asked.is_none()
            && self.login.is_none()
            && self.unconfirmed.is_empty()
            && self.queues.is_empty()
            && self.transactions.is_empty()
            && self.private.is_none()
            && self.receipts == 0
            && self.leaving.is_none()
    }
}

impl Client {
    /// In place of none.
    pub fn none() -> Client {
        Client {
            generation: 0,
            route: 0,
            transport: Transport::WebSocket,
            stage: Stage::Ended,
            version: Version::V10,
            beat_out: 0,
            beat_in: 0,
            heard: 0,
            spoke: 0,
            busy: None,
        }
    }

    /// What idle clients do not have.
    pub fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    /// Forgets what is of no use any more.
    pub fn tidy(&mut self) {
        self.busy.take_if(|busy| busy.is_idle());
    }

    /// Sends it a frame.
    pub fn send(&mut self, desk: &mut Desk<'_>, who: Handle, frame: &[u8]) -> Backpressure {
        self.spoke = desk.now();
        let room = self.queue(desk, who, frame);
        // Who does not take its receipts asks for no more.
        if room == Backpressure::Full {
            self.busy().holds.insert(Holds::OUTPUT);
            desk.pause(who);
        }
        room
    }

    fn queue(&mut self, desk: &mut Desk<'_>, who: Handle, frame: &[u8]) -> Backpressure {
        match self.transport {
            Transport::WebSocket => {
                let text = std::str::from_utf8(frame).is_ok();
                desk.send(who, if text { Opcode::Text } else { Opcode::Binary }, frame)
            }
            Transport::Bare => {
                desk.counters().messages_out[crate::mesh::ServiceKind::Stomp as usize] += 1;
                desk.write(who, frame)
            }
        }
    }

    /// This is no reason any more not to read it.
    pub fn release(&mut self, desk: &mut Desk<'_>, who: Handle, hold: Holds) {
        let Some(busy) = self.busy.as_mut() else { return };
        let was_held = !busy.holds.is_empty();
        busy.holds.remove(hold);
        if was_held && busy.holds.is_empty() {
            desk.resume(who);
        }
    }

    /// Sends it a frame that is made for it.
    pub fn tell(&mut self, desk: &mut Desk<'_>, who: Handle, command: Command, headers: &[(&str, &str)], body: &[u8]) {
        let mut frame = Vec::with_capacity(128 + body.len());
        edgehold_wire::stomp::write(&mut frame, self.version, command, headers, body);
        self.send(desk, who, &frame);
    }

    /// Sends it RECEIPT, if it wants one.
    pub fn confirm(&mut self, desk: &mut Desk<'_>, who: Handle, receipt: Option<&str>) {
        if let Some(receipt) = receipt {
            self.tell(desk, who, Command::Receipt, &[("receipt-id", receipt)], b"");
        }
    }

    /// Sends it ERROR, which is the last frame (STOMP 1.2, ERROR), and ends its connection.
    pub fn fail(&mut self, desk: &mut Desk<'_>, who: Handle, told: &Told<'_>) {
        if self.stage == Stage::Ended {
            return;
        }
        let Told { why, message, receipt, body } = *told;
        desk.counters().offload_refused[OffloadKind::Stomp as usize][why as usize] += 1;
        let mut headers = vec![("message", message), ("content-type", "text/plain")];
        headers.extend(receipt.map(|receipt| ("receipt-id", receipt)));
        if self.stage == Stage::Silent {
            headers.push(("version", "1.0,1.1,1.2"));
        }
        self.tell(desk, who, Command::Error, &headers, body);
        let is_later = why == OffloadRefused::Unavailable;
        let code = if is_later { CloseCode::TRY_AGAIN_LATER } else { CloseCode::POLICY_VIOLATION };
        self.end(desk, who, code, message, Cause::Protocol);
    }

    /// Ends its connection behind what it was sent.
    pub fn end(&mut self, desk: &mut Desk<'_>, who: Handle, code: CloseCode, reason: &str, cause: Cause) {
        self.stage = Stage::Ended;
        match self.transport {
            Transport::WebSocket => desk.close_because(who, code, short(reason), cause),
            Transport::Bare => desk.finish(who, cause),
        }
    }
}

/// RFC 6455 section 5.5: a reason has 123 bytes at most.
fn short(reason: &str) -> &str {
    let end = (0..=reason.len().min(123)).rev().find(|at| reason.is_char_boundary(*at));
    &reason[..end.unwrap_or(0)]
}

//! A client as the service knows it: what an idle one needs in a few words, and the rest in a box that few have.

use super::session::SessionId;
use crate::mesh::{Cause, Message, OffloadKind, OffloadRefused, ServiceKind};
use crate::service::offload::Holds;
use crate::shard::service::{Backpressure, Desk};
use crate::shard::slab::Handle;
use edgehold_wire::mqtt::{self, Ack, AckKind, ConnAck, Disconnect, Fault, Properties, Property, QoS, Version};
use edgehold_wire::ws::{CloseCode, Opcode};
use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::Arc;

/// Bytes of an alias beside its topic, and of a kept message that a client is owed: it is everybody's, its place in the
/// list is the client's.
const ALIAS_BYTES: usize = size_of::<Box<str>>();
const KEPT_BYTES: usize = size_of::<(Arc<Message>, u32)>();

/// What carries a client's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Binary WebSocket messages, each with a packet, several, or a part of one (MQTT 5, section 6).
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
    /// It is to have a session of its own, and the broker has not let it in.
    Calling,
    /// As above; meanwhile it says more about who it is (MQTT 5, 4.12).
    Proving,
    /// It has been sent CONNACK, and is in.
    Connected,
    /// As above; it is to have a session of its own, and the broker has not let it in.
    Moving,
    /// It is in, and has a session of its own with the broker.
    Carried,
    /// It was sent its last packet; nothing it says is heard.
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
    /// Stands for its client identifier; zero: it has said none yet.
    pub name: u64,
    /// What idle clients do not have.
    pub busy: Option<Box<Busy>>,
    /// Counts the clients that have had this token.
    pub generation: u32,
    /// The tick in which it last said something.
    pub heard: u32,
    /// The number of its route.
    pub route: u16,
    /// Seconds; zero: none.
    pub keep_alive: u16,
    /// What carries its packets.
    pub transport: Transport,
    /// How far it has come.
    pub stage: Stage,
    /// What is spoken.
    pub version: Version,
    /// The broker has begun a packet over its own session that is not whole: nothing may be put in between.
    pub is_mid: bool,
}

const _: () = assert!(size_of::<Client>() <= 32, "an idle client must fit 256 bytes, all told");

/// What few clients have, most of them for a moment; a will and aliases for longer.
#[derive(Default)]
pub struct Busy {
    /// A packet that was cut.
    pub rest: Vec<u8>,
    /// Bytes that it needs at least before it is looked at again.
    pub least: usize,
    /// CONNECT, while it is asked who the client is.
    pub asked: Option<Asked>,
    /// CONNECT, for as long as it may be said to the broker.
    pub connect: Option<super::private::Kept>,
    /// Its own session with the broker.
    pub private: Option<SessionId>,
    /// Bytes of what waits for that.
    pub held: usize,
    /// What is published when it is lost.
    pub will: Option<Will>,
    /// The topics of its aliases, from 1 on.
    pub aliases: Vec<Box<str>>,
    /// What was sent to it and is not acknowledged.
    pub outbound: VecDeque<Outbound>,
    /// What it has published and the broker, or it, has not acknowledged.
    pub inbound: Vec<Inbound>,
    /// SUBSCRIBE packets that are not answered.
    pub unanswered: Vec<Unanswered>,
    /// Kept messages that it is to be sent yet, and the tags of the subscriptions that they are for.
    pub kept: VecDeque<(Arc<Message>, u32)>,
    /// The groups that it is a member of.
    pub groups: Vec<(SessionId, Box<str>)>,
    /// Bytes of a packet that it takes, where it has said so (MQTT 5, 3.1.2.11.4).
    pub packet_max: Option<NonZero<u32>>,
    /// Messages of QoS 1 and 2 that may be under way to it, where it takes fewer than the route has.
    pub window: Option<NonZero<u16>>,
    /// The packet identifier that was given last.
    pub last_id: u16,
    /// The window was full when there was something for it.
    pub is_blocked: bool,
    /// Why it is not read.
    pub holds: Holds,
}

/// What CONNECT has said, until it is answered.
pub struct Asked {
    /// The client identifier.
    pub id: Box<str>,
    /// The server has chosen it.
    pub is_assigned: bool,
    /// The server's keep alive, where it is not the client's.
    pub keep_alive: Option<u16>,
    /// The client wants a session that lasts; this one does not.
    pub wants_session: bool,
    /// Whether it is to have a session of its own with the broker.
    pub wish: super::private::Wish,
    /// It shows who it is step by step (MQTT 5, 4.12).
    pub proves: bool,
}

/// A will (MQTT 5, 3.1.2.5).
pub struct Will {
    /// Where it is published.
    pub topic: Box<str>,
    /// Its properties, in MQTT 5.
    pub properties: Box<[u8]>,
    /// What is published.
    pub payload: Box<[u8]>,
    /// How surely.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
}

/// A message that a client has not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Its packet identifier.
    pub id: u16,
    /// What the client is to send next.
    pub awaits: AckKind,
    /// The message of a group that it is, by its number there; zero: of none.
    pub lot: u64,
}

/// A message of QoS 1 or 2 of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The client's packet identifier.
    pub id: u16,
    /// How surely.
    pub qos: QoS,
    /// The broker has it: of QoS 2 the client's PUBREL is waited for.
    pub is_received: bool,
}

/// A SUBSCRIBE that waits for the broker.
pub struct Unanswered {
    /// Its packet identifier.
    pub id: u16,
    /// What is to be answered, as far as it is known.
    pub codes: Vec<Option<u8>>,
    /// The filters that are not known yet: their places, and what is to be sent when they are.
    pub waits: Vec<Waiting>,
}

/// A filter of a SUBSCRIBE that waits for the broker.
pub struct Waiting {
    /// Its place.
    pub place: usize,
    /// The filter.
    pub filter: Box<str>,
    /// The subscription's tag.
    pub tag: u32,
    /// It is to be sent what is kept,
    pub wants_kept: bool,
    /// but for what has come live since this sequence.
    pub since: u64,
}

impl Busy {
    /// Nothing in it is of use any more.
    fn is_idle(&self) -> bool {
        self.rest.is_empty()
            && self.asked.is_none()
            && self.connect.is_none()
            && self.private.is_none()
            && self.will.is_none()
            && self.aliases.is_empty()
            && self.outbound.is_empty()
            && self.inbound.is_empty()
            && self.unanswered.is_empty()
            && self.kept.is_empty()
            && self.groups.is_empty()
            && self.packet_max.is_none()
            && self.window.is_none()
            && !self.is_blocked
            && self.holds.is_empty()
    }

    /// Bytes that it has a server keep.
    pub fn bytes(&self) -> usize {
        let will = self.will.as_ref().map_or(0, |it| it.topic.len() + it.properties.len() + it.payload.len());
        let aliases = self.aliases.iter().map(|topic| ALIAS_BYTES + topic.len()).sum::<usize>();
        let connect = self.connect.as_ref().map_or(0, super::private::Kept::len);
        self.rest.capacity() + connect + self.held + will + aliases + self.kept.len() * KEPT_BYTES
    }
}

impl Busy {
    /// What it has a server keep is of no use any more, but for its will.
    pub fn let_go(&mut self) {
        (self.rest, self.aliases, self.kept) = (Vec::new(), Vec::new(), VecDeque::new());
        self.connect = None;
    }
}

impl Client {
    /// In place of none.
    pub fn none() -> Client {
        Client {
            name: 0,
            busy: None,
            generation: 0,
            heard: 0,
            route: 0,
            keep_alive: 0,
            transport: Transport::WebSocket,
            stage: Stage::Ended,
            version: Version::V311,
            is_mid: false,
        }
    }

    /// What is spoken, once CONNECT has said it.
    pub fn spoken(&self) -> Option<Version> {
        (self.stage != Stage::Silent).then_some(self.version)
    }

    /// Bytes that it has a server keep.
    pub fn held(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.bytes())
    }

    /// What idle clients do not have.
    pub fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    /// Forgets what is of no use any more.
    pub fn tidy(&mut self) {
        self.busy.take_if(|busy| busy.is_idle());
    }

    /// It is not read, for this reason.
    pub fn hold(&mut self, desk: &mut Desk<'_>, who: Handle, hold: Holds) {
        self.busy().holds.insert(hold);
        desk.pause(who);
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

    /// Sends it a packet.
    pub fn send(&mut self, desk: &mut Desk<'_>, who: Handle, packet: &[u8]) -> Backpressure {
        let room = self.queue(desk, who, packet);
        // Who does not take its answers asks for no more.
        if room == Backpressure::Full {
            self.busy().holds.insert(Holds::OUTPUT);
            desk.pause(who);
        }
        room
    }

    fn queue(&mut self, desk: &mut Desk<'_>, who: Handle, packet: &[u8]) -> Backpressure {
        match self.transport {
            Transport::WebSocket => desk.send(who, Opcode::Binary, packet),
            Transport::Bare => {
                desk.counters().messages_out[ServiceKind::Mqtt as usize] += 1;
                desk.write(who, packet)
            }
        }
    }

    /// Sends it PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub fn acknowledge(&mut self, desk: &mut Desk<'_>, who: Handle, kind: AckKind, packet_id: u16, reason: u8) {
        let mut out = Vec::with_capacity(8);
        let ack = Ack { packet_id, reason, properties: Properties::default() };
        mqtt::write_ack(&mut out, self.version, kind, &ack);
        self.send(desk, who, &out);
    }

    // ---- outbound messages ----

    /// Messages of QoS 1 and 2 may be sent to it: no more than `most`, or than it takes, are under way.
    pub fn has_window(&self, most: u16) -> bool {
        let Some(busy) = &self.busy else { return true };
        busy.outbound.len() < usize::from(busy.window.map_or(most, NonZero::get))
    }

    /// A packet of so many bytes may be sent to it.
    pub fn takes(&self, bytes: usize) -> bool {
        let most = self.busy.as_ref().and_then(|busy| busy.packet_max);
        most.is_none_or(|most| bytes <= most.get() as usize)
    }

    /// The packet identifier of a message that is sent to it now (MQTT 5, 2.2.1: one that is not in use).
    pub fn next_id(&mut self, qos: QoS, lot: u64) -> u16 {
        let busy = self.busy();
        loop {
            busy.last_id = busy.last_id.checked_add(1).unwrap_or(1);
            let id = busy.last_id;
            if busy.outbound.iter().all(|it| it.id != id) {
                let awaits = if qos == QoS::AtLeastOnce { AckKind::PubAck } else { AckKind::PubRec };
                busy.outbound.push_back(Outbound { id, awaits, lot });
                return id;
            }
        }
    }

    // ---- the end ----

    /// Refuses its CONNECT (3.2.2.2): in MQTT 5 with the reason and words, before with a return code.
    pub fn refuse(&mut self, desk: &mut Desk<'_>, who: Handle, (reason, code): (u8, u8), words: &str) {
        let (mut raw, mut out) = (Vec::new(), Vec::new());
        count(desk, counted(reason));
        Property::Reason(words).write(&mut raw);
        let reason = if self.version == Version::V5 { reason } else { code };
        let properties = Properties::written(&raw);
        mqtt::write_connack(&mut out, self.version, &ConnAck { session_present: false, reason, properties });
        self.send(desk, who, &out);
        let is_later = matches!(reason, 0x88 | 3);
        let close = if is_later { CloseCode::TRY_AGAIN_LATER } else { CloseCode::POLICY_VIOLATION };
        self.end(desk, who, close, words, Cause::Protocol);
    }

    /// Sends it DISCONNECT, where its version has that from a server, and ends its connection.
    pub fn disconnect(&mut self, desk: &mut Desk<'_>, who: Handle, reason: u8, words: &str, cause: Cause) {
        if self.stage == Stage::Ended {
            return;
        }
        if matches!(cause, Cause::Protocol | Cause::IdleTimeout | Cause::Overload) {
            count(desk, counted(reason));
        }
        let is_in = matches!(self.stage, Stage::Connected | Stage::Moving | Stage::Carried);
        if self.version == Version::V5 && is_in && !self.is_mid {
            let (mut raw, mut out) = (Vec::new(), Vec::new());
            Property::Reason(words).write(&mut raw);
            let disconnect = Disconnect { reason, properties: Properties::written(&raw) };
            mqtt::write_disconnect(&mut out, self.version, &disconnect);
            self.send(desk, who, &out);
        }
        let code = match cause {
            Cause::Drained => CloseCode::GOING_AWAY,
            Cause::Stalled | Cause::Missed => CloseCode::TRY_AGAIN_LATER,
            Cause::UpstreamLost => CloseCode::INTERNAL_ERROR,
            _ => CloseCode::POLICY_VIOLATION,
        };
        self.end(desk, who, code, words, cause);
    }

    /// It has sent what it must not.
    pub fn fail(&mut self, desk: &mut Desk<'_>, who: Handle, fault: Fault) {
        if self.stage != Stage::Silent {
            return self.disconnect(desk, who, fault.reason(), fault.words(), Cause::Protocol);
        }
        // What it speaks is not known; of these faults every version has an answer in its own form.
        if let Some(code) = fault.refusal() {
            self.version = if fault == Fault::ProtocolLevel { Version::V311 } else { self.version };
            return self.refuse(desk, who, (fault.reason(), code), fault.words());
        }
        count(desk, counted(fault.reason()));
        self.end(desk, who, CloseCode::PROTOCOL_ERROR, fault.words(), Cause::Protocol);
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

/// How a reason code that a client is told is counted (MQTT 5, 2.4).
pub fn counted(reason: u8) -> OffloadRefused {
    match reason {
        0x87 => OffloadRefused::Forbidden,
        0x93 | 0x95 | 0x97 => OffloadRefused::Limit,
        0x86 | 0x8c => OffloadRefused::Credentials,
        0x88 => OffloadRefused::Unavailable,
        0x8d => OffloadRefused::Silent,
        0x83 | 0x9e | 0xa1 => OffloadRefused::Unsupported,
        _ => OffloadRefused::Frame,
    }
}

/// A client is refused something.
pub fn count(desk: &mut Desk<'_>, why: OffloadRefused) {
    desk.counters().offload_refused[OffloadKind::Mqtt as usize][why as usize] += 1;
}

/// RFC 6455 section 5.5: a reason has 123 bytes at most; these are ASCII.
fn short(reason: &str) -> &str {
    reason.get(..123).unwrap_or(reason)
}

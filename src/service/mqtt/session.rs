//! A session of this shard with a broker: what many clients publish.
//!
//! ```text
//! outgoing: │ sent, not acknowledged (packet identifiers) │ not sent yet │
//!           0                                            sent          len
//! ```
//!
//! What a client publishes stands in `outgoing` in the order in which it came. What is of QoS 1 or 2 stays there until
//! the broker has acknowledged it; what is of QoS 0 goes when it is sent. A session that is lost is resumed (MQTT 5,
//! 4.4), and where the broker has forgotten it, all that was not acknowledged is published once more.

use super::client::Owner;
use crate::service::offload::{Attempts, OffloadPlan};
pub use crate::service::offload::{SessionId, Stage, Submitted};
use crate::service::upstreams::Call;
use crate::shard::service::{Backpressure, Desk};
use crate::shard::slab::Handle;
use edgehold_wire::mqtt::{
    self, Ack, AckKind, Disconnect, Limits, Packet, Properties, Property, QoS, Read, Role, Version,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// Messages of QoS 1 and 2 that are under way to a broker, at most, whatever it says that it can.
const WINDOW: u16 = 8192;

/// A session with a broker.
pub struct Session {
    /// The route that it is for.
    pub plan: Arc<OffloadPlan>,
    /// Which of the sessions of its route.
    pub place: usize,
    /// How far it has come.
    pub stage: Stage,
    /// What is spoken.
    pub version: Version,
    /// So many times in a row the broker did not answer CONNECT.
    pub unanswered: u32,
    /// The broker has let it in before: what it may remember is wanted.
    pub is_known: bool,
    /// When it is looked at, and tried again.
    pub attempts: Attempts,
    /// The tick by which the broker has let it in, or it is given up.
    pub answers_by: u32,
    /// The search for an address.
    pub call: Call,
    /// Its connection.
    pub handle: Option<Handle>,
    /// A packet that was cut.
    pub rest: Vec<u8>,
    /// Bytes that it needs at least.
    pub least: usize,
    /// What the broker has not acknowledged, or was not sent yet.
    pub outgoing: VecDeque<Outgoing>,
    /// So many of them were sent.
    pub sent: usize,
    /// Bytes of them.
    pub outgoing_bytes: usize,
    /// Messages that the broker takes at once.
    pub window: u16,
    /// Bytes of a packet that it takes.
    pub packet_max: u32,
    /// Clients that are not read until there is room.
    pub paused: Vec<Owner>,
    /// Ticks in which the broker is to be sent something; zero: no promise.
    pub keep_alive: u32,
    /// The tick in which it was last sent something.
    pub spoke: u32,
    /// The tick in which it has last said something.
    pub heard: u32,
    /// Groups of clients, and what the broker has sent for them.
    pub groups: super::groups::Groups,
    ids: Identifiers,
}

/// A message for the broker.
pub struct Outgoing {
    /// Who has published it; `None`: the edge, a will.
    pub owner: Option<Owner>,
    /// The client's packet identifier.
    pub client_id: u16,
    /// How surely.
    pub qos: QoS,
    /// The broker's packet identifier; zero: it was not sent.
    pub id: u16,
    /// Where that stands in the packet.
    pub id_at: usize,
    /// Of QoS 2: the broker has it, and the packet is PUBREL.
    pub is_released: bool,
    /// The packet.
    pub packet: Box<[u8]>,
}

impl Outgoing {
    /// As another version has it. 3.1.1 has no properties.
    fn rewrite(&mut self, was: Version, version: Version) {
        let limits = Limits { packet_bytes: u32::MAX };
        let read = mqtt::read(&self.packet, &limits, Some(was), Role::Server);
        let Ok(Read::Packet { packet: Packet::Publish(publish), .. }) = read else { return };
        let owner = (self.owner, self.client_id);
        let written = super::publish::outgoing(version, &publish, owner, (None, &mut Vec::new()));
        (self.packet, self.id_at) = (written.packet, written.id_at);
    }
}

/// Packet identifiers, a bit for each that is in use.
struct Identifiers {
    bits: Box<[u64]>,
    last: u16,
}

impl Identifiers {
    fn new() -> Identifiers {
        Identifiers { bits: vec![0; 1024].into(), last: 0 }
    }

    /// One that is not in use; there are more of them than may be in use.
    fn take(&mut self) -> u16 {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            let (word, bit) = (usize::from(self.last / 64), 1 << (self.last % 64));
            if self.bits[word] & bit == 0 {
                self.bits[word] |= bit;
                return self.last;
            }
        }
    }

    fn give(&mut self, id: u16) {
        self.bits[usize::from(id / 64)] &= !(1 << (id % 64));
    }
}

impl Session {
    /// One that is to be made now.
    pub fn new(plan: Arc<OffloadPlan>, place: usize) -> Session {
        Session {
            plan,
            place,
            stage: Stage::Down(0),
            version: Version::V5,
            unanswered: 0,
            is_known: false,
            attempts: Attempts::default(),
            answers_by: 0,
            call: Call::default(),
            handle: None,
            rest: Vec::new(),
            least: 0,
            outgoing: VecDeque::new(),
            sent: 0,
            outgoing_bytes: 0,
            window: WINDOW,
            packet_max: u32::MAX,
            paused: Vec::new(),
            keep_alive: 0,
            spoke: 0,
            heard: 0,
            groups: super::groups::Groups::default(),
            ids: Identifiers::new(),
        }
    }

    /// It has something to do.
    pub fn is_needed(&self) -> bool {
        !self.outgoing.is_empty() || !self.groups.is_empty()
    }

    /// An identifier for a packet that the broker answers.
    pub fn take_id(&mut self) -> u16 {
        self.ids.take()
    }

    /// It has.
    pub fn give_id(&mut self, id: u16) {
        self.ids.give(id);
    }

    /// The broker answers.
    pub fn is_up(&self) -> bool {
        self.stage == Stage::Up
    }

    /// What the broker takes at once.
    pub fn set_window(&mut self, most: u16) {
        self.window = most.min(WINDOW);
    }

    /// CONNECT was not answered. Brokers of 3.1.1 that hang up at MQTT 5 say no more than that; one that is going down
    /// does so as well, but seldom twice in a row.
    pub fn is_not_answered(&mut self) {
        self.unanswered += 1;
        if self.unanswered.is_multiple_of(2) {
            self.speak(if self.version == Version::V5 { Version::V311 } else { Version::V5 });
        }
    }

    /// Another version is spoken from now on: in that is written what was not acknowledged.
    pub fn speak(&mut self, version: Version) {
        let was = std::mem::replace(&mut self.version, version);
        for it in self.outgoing.iter_mut().filter(|it| was != version && !it.is_released) {
            it.rewrite(was, version);
        }
        self.outgoing_bytes = self.outgoing.iter().map(|it| it.packet.len()).sum();
    }

    /// Sends bytes, if it is up; lost where it is not.
    pub fn write(&mut self, desk: &mut Desk<'_>, packet: &[u8]) -> Submitted {
        let Some(handle) = self.handle.filter(|_| self.is_up()) else { return Submitted::Taken };
        self.spoke = desk.now();
        if desk.write(handle, packet) == Backpressure::Full { Submitted::Full } else { Submitted::Taken }
    }

    /// Sends a message, or keeps it until it can be sent; keeps it until it is acknowledged.
    pub fn submit(&mut self, desk: &mut Desk<'_>, outgoing: Outgoing) -> Submitted {
        let is_next = self.is_up() && self.sent == self.outgoing.len();
        if is_next && outgoing.qos == QoS::AtMostOnce {
            return self.write(desk, &outgoing.packet);
        }
        self.outgoing_bytes += outgoing.packet.len();
        self.outgoing.push_back(outgoing);
        let written = self.pump(desk);
        if self.outgoing_bytes > self.plan.unconfirmed_bytes { Submitted::Full } else { written }
    }

    /// Sends what was not sent yet, as far as the broker takes it.
    pub fn pump(&mut self, desk: &mut Desk<'_>) -> Submitted {
        let mut written = Submitted::Taken;
        while self.is_up() && self.sent < self.outgoing.len() && self.sent < usize::from(self.window) {
            let it = &mut self.outgoing[self.sent];
            if it.qos == QoS::AtMostOnce {
                if let Some(it) = self.take(self.sent) {
                    written = self.write(desk, &it.packet);
                }
                continue;
            }
            it.id = self.ids.take();
            it.packet[it.id_at..it.id_at + 2].copy_from_slice(&it.id.to_be_bytes());
            let packet = std::mem::take(&mut it.packet);
            written = self.write(desk, &packet);
            self.outgoing[self.sent].packet = packet;
            self.sent += 1;
        }
        written
    }

    fn take(&mut self, place: usize) -> Option<Outgoing> {
        let outgoing = self.outgoing.remove(place)?;
        self.outgoing_bytes -= outgoing.packet.len();
        Some(outgoing)
    }

    fn place_of(&self, id: u16) -> Option<usize> {
        self.outgoing.iter().take(self.sent).position(|it| it.id == id)
    }

    /// The broker has this message, and is done with it: PUBACK, PUBCOMP, or a PUBREC that refuses it.
    pub fn done(&mut self, id: u16) -> Option<Outgoing> {
        let place = self.place_of(id)?;
        self.sent -= 1;
        self.ids.give(id);
        self.take(place)
    }

    /// The broker has this message of QoS 2: PUBREC. It is told that it may forget the identifier. Who has published
    /// it, and by which identifier; nobody where that was told before.
    pub fn received(&mut self, desk: &mut Desk<'_>, id: u16) -> Option<(Owner, u16)> {
        let mut packet = Vec::with_capacity(4);
        let ack = |reason| Ack { packet_id: id, reason, properties: Properties::default() };
        let Some(place) = self.place_of(id) else {
            // It has come late; who does not answer it keeps the identifier with the broker for ever (4.3.3).
            mqtt::write_ack(&mut packet, self.version, AckKind::PubRel, &ack(0x92));
            self.write(desk, &packet);
            return None;
        };
        mqtt::write_ack(&mut packet, self.version, AckKind::PubRel, &ack(0));
        self.write(desk, &packet);
        let it = &mut self.outgoing[place];
        self.outgoing_bytes = self.outgoing_bytes - it.packet.len() + packet.len();
        it.packet = packet.into();
        let was = std::mem::replace(&mut it.is_released, true);
        it.owner.filter(|_| !was).map(|owner| (owner, it.client_id))
    }

    /// The broker has let the edge in. `resumed`: it remembers what it was sent before.
    pub fn resume(&mut self, desk: &mut Desk<'_>, resumed: bool) {
        if !resumed {
            self.forget();
        }
        let mut packets = Vec::new();
        for it in self.outgoing.iter_mut().take(self.sent) {
            // DUP, of a PUBLISH (3.3.1.1).
            it.packet[0] |= if it.is_released { 0 } else { 8 };
            packets.extend_from_slice(&it.packet);
        }
        if !packets.is_empty() {
            self.write(desk, &packets);
        }
        self.pump(desk);
    }

    /// The broker remembers nothing: what it had is its own, what it may not have had is to be published again.
    fn forget(&mut self) {
        self.outgoing.retain(|it| !it.is_released);
        self.outgoing.iter_mut().for_each(|it| it.id = 0);
        self.outgoing_bytes = self.outgoing.iter().map(|it| it.packet.len()).sum();
        (self.sent, self.ids) = (0, Identifiers::new());
    }

    /// It ends for good: the broker may forget it (MQTT 5, 3.14.2.2.2).
    pub fn leave(&mut self, desk: &mut Desk<'_>) {
        let (mut raw, mut packet) = (Vec::new(), Vec::new());
        if self.version == Version::V5 {
            Property::SessionExpiry(0).write(&mut raw);
        }
        let disconnect = Disconnect { reason: 0, properties: Properties::written(&raw) };
        mqtt::write_disconnect(&mut packet, self.version, &disconnect);
        self.write(desk, &packet);
        self.stage = Stage::Down(u32::MAX);
    }

    /// Takes those who are not read, if there is room again.
    pub fn take_paused(&mut self, desk: &Desk<'_>) -> Vec<Owner> {
        let has_room = self.outgoing_bytes <= self.plan.unconfirmed_bytes / 2
            && self.handle.is_none_or(|handle| desk.backpressure_of(handle) != Backpressure::Full);
        if has_room { std::mem::take(&mut self.paused) } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_written_anew_for_a_broker_that_speaks_another_version() {
        let mut raw = Vec::new();
        Property::User("a", "b").write(&mut raw);
        for (qos, packet_id) in [(QoS::AtMostOnce, None), (QoS::ExactlyOnce, Some(9))] {
            let (topic, payload, properties) = ("a/b", &b"x"[..], Properties::written(&raw));
            let publish = mqtt::Publish { dup: false, qos, retain: true, topic, packet_id, properties, payload };
            let mut it = super::super::publish::outgoing(Version::V5, &publish, (None, 9), (None, &mut Vec::new()));
            it.rewrite(Version::V5, Version::V311);
            if packet_id.is_some() {
                it.packet[it.id_at..it.id_at + 2].copy_from_slice(&77_u16.to_be_bytes());
            }
            let limits = Limits { packet_bytes: 100 };
            let Ok(Read::Packet { packet: Packet::Publish(read), used }) =
                mqtt::read(&it.packet, &limits, Some(Version::V311), Role::Server)
            else {
                panic!("no PUBLISH: {:?}", it.packet);
            };
            assert_eq!((read.packet_id, read.topic, read.payload), (packet_id.map(|_| 77), topic, payload));
            assert!(read.retain && used == it.packet.len());
        }
    }

    #[test]
    fn an_identifier_is_given_once_until_it_is_given_back() {
        let mut ids = Identifiers::new();
        let first: Vec<u16> = (0..3).map(|_| ids.take()).collect();
        assert_eq!(first, [1, 2, 3]);
        ids.last = u16::MAX;
        assert_eq!(ids.take(), 4, "zero is none, and three are in use");
        ids.give(2);
        ids.last = 0;
        assert_eq!(ids.take(), 2);
    }
}

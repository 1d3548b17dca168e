//! Packets of a client that has a session of its own, there and back.
//!
//! What the client says is read, and handed on as it came: what it may not do is answered here. What the broker says
//! is handed on in whatever pieces it comes; it is followed only so far that it is known where packets end, since an
//! answer of the edge may not stand within another packet.
//!
//! Each side is not read while the other takes nothing.

use super::Mqtt;
use super::client::{Stage, count, counted};
use super::private::{Private, Window};
use super::publish::{Refused, stamped};
use crate::mesh::{Cause, OffloadKind};
use crate::service::offload::{Holds, SessionId, Stage as Reached, Stamp, may};
use crate::shard::service::{Backpressure, Desk};
use crate::shard::slab::Handle;
use edgehold_wire::mqtt::{
    self, Ack, AckKind, Fault, Packet, Properties, Property, Publish, QoS, SubAck, Subscribe, Version, topic,
};
use edgehold_wire::ws::CloseCode;

/// Bytes of answers that may wait for the end of a packet of the broker. Who has more of them does not read, and goes
/// on saying what it may not.
const BETWEEN: usize = 16 << 10;

/// A packet of a client as it came, and where it came from.
pub struct Said<'p> {
    /// The client's connection.
    pub who: Handle,
    /// The client.
    pub token: u32,
    /// What it says.
    pub packet: &'p Packet<'p>,
    /// As it came.
    pub raw: &'p [u8],
}

impl Mqtt {
    // ---- from the client ----

    /// A packet of a client that has a session of its own.
    pub(super) fn carry_up(&mut self, desk: &mut Desk<'_>, said: &Said<'_>) {
        let client = &mut self.peers.clients[said.token as usize];
        let Some(id) = client.private() else { return };
        match said.packet {
            Packet::Auth(_) => self.hand_on(desk, id, said),
            Packet::Disconnect(_) => {
                client.end(desk, said.who, CloseCode::NORMAL, "", Cause::Closed);
                (client.busy().private, client.busy().held) = (None, 0);
                self.hand_on(desk, id, said);
                self.leave_private(desk, id);
            }
            // Until it is let in it says nothing else (4.12).
            _ if client.stage == Stage::Proving => client.fail(desk, said.who, Fault::Direction),
            Packet::Publish(publish) => self.carry_publish(desk, id, said, publish),
            Packet::Subscribe(subscribe) => self.carry_subscribe(desk, id, said, subscribe),
            _ => self.hand_on(desk, id, said),
        }
    }

    fn hand_on(&mut self, desk: &mut Desk<'_>, id: SessionId, said: &Said<'_>) {
        let written = self.privates.get_mut(id).map(|it| it.say(desk, [said.raw, b""]));
        self.hold_if(desk, said, written == Some(Backpressure::Full));
    }

    /// Its client is not read while the broker takes nothing.
    fn hold_if(&mut self, desk: &mut Desk<'_>, said: &Said<'_>, is_full: bool) {
        if is_full {
            self.peers.clients[said.token as usize].hold(desk, said.who, Holds::SESSION);
        }
    }

    fn carry_publish(&mut self, desk: &mut Desk<'_>, id: SessionId, said: &Said<'_>, publish: &Publish<'_>) {
        let alias = match self.note_alias(said.token, publish) {
            Ok(alias) => alias,
            Err(Refused(reason, words)) => {
                let client = &mut self.peers.clients[said.token as usize];
                return client.disconnect(desk, said.who, reason, words, Cause::Protocol);
            }
        };
        let client = &self.peers.clients[said.token as usize];
        let known = alias.zip(client.busy.as_ref()).and_then(|(alias, busy)| busy.aliases.get(alias));
        let publish = Publish { topic: known.map_or(publish.topic, |topic| topic), ..*publish };
        let Some(it) = self.privates.get_mut(id) else { return };
        let identity = desk.identity(said.who).map(|it| &**it);
        if !may(&it.plan.rules, publish.topic, identity, true) {
            return self.refuse_carried(desk, id, said, 0x87);
        }
        let stamp = it.plan.stamp_of(identity).filter(|_| client.version == Version::V5);
        // Aliases are between the client and the edge.
        let parts = if alias.is_some() || stamp.is_some() {
            [rewritten(&mut self.peers.head, &mut self.peers.raw, &publish, stamp), publish.payload]
        } else {
            [said.raw, b""]
        };
        if parts[0].len() + parts[1].len() > it.packet_max as usize {
            self.refuse_carried(desk, id, said, 0x97);
        } else if publish.qos == QoS::AtMostOnce || it.window.enters() {
            let written = it.say(desk, parts);
            desk.counters().offload_published[OffloadKind::Mqtt as usize] += 1;
            self.hold_if(desk, said, written == Backpressure::Full);
        } else {
            let packet = parts.concat();
            self.hold(desk, id, said, packet);
        }
    }

    /// In MQTT 5 a message of QoS 1 or 2 is answered with the reason; before, there is no answer but the end. A message
    /// of QoS 0 is left out.
    fn refuse_carried(&mut self, desk: &mut Desk<'_>, id: SessionId, said: &Said<'_>, reason: u8) {
        let Packet::Publish(Publish { packet_id, qos, .. }) = *said.packet else { return };
        let client = &mut self.peers.clients[said.token as usize];
        if packet_id.is_none() || client.version == Version::V5 {
            count(desk, counted(reason));
        }
        let Some(packet_id) = packet_id else { return };
        if client.version != Version::V5 {
            return client.disconnect(desk, said.who, reason, "you may not publish this", Cause::Protocol);
        }
        let kind = if qos == QoS::AtLeastOnce { AckKind::PubAck } else { AckKind::PubRec };
        let mut out = Vec::with_capacity(8);
        let ack = Ack { packet_id, reason, properties: Properties::default() };
        mqtt::write_ack(&mut out, Version::V5, kind, &ack);
        self.put_between(desk, id, said, &out);
    }

    /// A SUBSCRIBE with a filter that is not allowed is not handed on: none of its filters is subscribed to.
    fn carry_subscribe(&mut self, desk: &mut Desk<'_>, id: SessionId, said: &Said<'_>, subscribe: &Subscribe<'_>) {
        let plan = self.plan_of(said.token);
        let identity = desk.identity(said.who).map(|it| &**it);
        let bare = |filter| topic::shared(filter).map_or(filter, |(_, bare)| bare);
        let is_allowed = |filter| may(&plan.rules, bare(filter), identity, false);
        if subscribe.filters.iter().all(|(filter, _)| is_allowed(filter)) {
            return self.hand_on(desk, id, said);
        }
        let code = |filter| if is_allowed(filter) { 0x80 } else { 0x87 };
        let codes: Vec<u8> = subscribe.filters.iter().map(|(filter, _)| code(filter)).collect();
        count(desk, counted(0x87));
        let version = self.peers.clients[said.token as usize].version;
        let mut out = Vec::with_capacity(codes.len() + 8);
        let suback = SubAck { packet_id: subscribe.packet_id, properties: Properties::default(), codes: &codes };
        mqtt::write_suback(&mut out, version, &suback);
        self.put_between(desk, id, said, &out);
    }

    /// A packet of the edge: now, or behind the packet of the broker that has begun.
    fn put_between(&mut self, desk: &mut Desk<'_>, id: SessionId, said: &Said<'_>, packet: &[u8]) {
        let client = &mut self.peers.clients[said.token as usize];
        let Some(it) = self.privates.get_mut(id) else { return };
        if !client.is_mid {
            client.send(desk, said.who, packet);
            return;
        }
        it.between.extend_from_slice(packet);
        if it.between.len() > BETWEEN {
            let words = "too much that you may not do, and you do not read the answers";
            client.end(desk, said.who, CloseCode::POLICY_VIOLATION, words, Cause::Stalled);
        }
    }

    // ---- a window that the client does not know ----

    fn hold(&mut self, desk: &mut Desk<'_>, id: SessionId, said: &Said<'_>, packet: Vec<u8>) {
        let Some(it) = self.privates.get_mut(id) else { return };
        let (window, most, at_once) = (&mut it.window, it.plan.unconfirmed_bytes, it.plan.bounds.receive_max);
        let client = &mut self.peers.clients[said.token as usize];
        if window.held.len() + usize::from(window.under_way) >= usize::from(at_once) {
            let words = "more messages than the receive maximum";
            return client.disconnect(desk, said.who, 0x93, words, Cause::Protocol);
        }
        let busy = client.busy();
        if busy.held + packet.len() > most {
            let words = "more than `unconfirmed_bytes` that the broker does not take";
            return client.disconnect(desk, said.who, 0x97, words, Cause::Overload);
        }
        busy.held += packet.len();
        window.held.push_back(packet.into());
    }

    /// So many messages are not under way any more.
    fn open_window(&mut self, desk: &mut Desk<'_>, id: SessionId, (who, token): (Handle, u32), ended: u16) {
        let Some(it) = self.privates.get_mut(id) else { return };
        it.window.under_way = it.window.under_way.saturating_sub(ended);
        let client = &mut self.peers.clients[token as usize];
        let before = client.held();
        while let Some(packet) = it.window.next() {
            client.busy().held -= packet.len();
            if it.say(desk, [&packet, b""]) == Backpressure::Full {
                client.hold(desk, who, Holds::SESSION);
            }
        }
        self.count_held(desk, token, before);
    }

    // ---- from the broker ----

    /// Bytes of the broker, which has let the client in.
    pub(super) fn carry_down(&mut self, desk: &mut Desk<'_>, id: SessionId, bytes: &[u8]) {
        let Some(it) = self.privates.get_mut(id).filter(|it| it.reached == Reached::Up) else { return };
        let Some(owner) = it.owner else { return };
        let Some(who) = self.fanout.client(owner.token).map(|it| it.who) else { return };
        let client = &mut self.peers.clients[owner.token as usize];
        let followed = it.follow(desk, bytes);
        let Ok(Followed { used, boundary, ended, is_over }) = followed else {
            return self.break_off(desk, id, "the broker does not speak MQTT");
        };
        let between = if boundary > 0 { std::mem::take(&mut it.between) } else { Vec::new() };
        let behind = if between.is_empty() { 0 } else { boundary };
        let mut written = Backpressure::Ready;
        for part in [&bytes[..behind], &between, &bytes[behind..used]] {
            if !part.is_empty() {
                written = client.send(desk, who, part);
            }
        }
        client.is_mid = !it.scan.is_between();
        if let (Backpressure::Full, Some(handle)) = (written, it.handle) {
            desk.pause(handle);
        }
        if is_over {
            // The broker has said why.
            client.end(desk, who, CloseCode::NORMAL, "the broker has ended your session", Cause::UpstreamEnded);
        } else if ended > 0 {
            self.open_window(desk, id, (who, owner.token), ended);
        }
    }

    /// The broker takes more again.
    pub(super) fn read_on(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let owner = self.privates.get_mut(id).and_then(|it| it.owner);
        if let Some((who, client)) = owner.and_then(|owner| self.owned(owner)) {
            client.release(desk, who, Holds::SESSION);
        }
    }

    /// The client takes more again.
    pub(super) fn hear_on(&mut self, desk: &mut Desk<'_>, token: u32) {
        let id = self.client(token).and_then(|client| client.private());
        if let Some(handle) = id.and_then(|id| self.privates.get_mut(id)).and_then(|it| it.handle) {
            desk.resume(handle);
        }
    }
}

/// What bytes of a broker are.
#[derive(Default)]
struct Followed {
    /// So many of them are to be handed on.
    used: usize,
    /// So many bytes lead to the end of the last packet that ends in them.
    boundary: usize,
    /// Messages of the client that are not under way any more.
    ended: u16,
    /// The broker has said DISCONNECT.
    is_over: bool,
}

impl Window {
    /// A message may go, if it may.
    fn enters(&mut self) -> bool {
        let Some(most) = self.most else { return true };
        let enters = self.held.is_empty() && self.under_way < most;
        self.under_way += u16::from(enters);
        enters
    }

    /// The next message that waits and may go.
    fn next(&mut self) -> Option<Box<[u8]>> {
        if self.most.is_some_and(|most| self.under_way >= most) {
            return None;
        }
        let packet = self.held.pop_front()?;
        self.under_way += 1;
        Some(packet)
    }
}

impl Private {
    /// To the broker.
    fn say(&self, desk: &mut Desk<'_>, parts: [&[u8]; 2]) -> Backpressure {
        let is_there = matches!(self.reached, Reached::Greeting | Reached::Up);
        let Some(handle) = self.handle.filter(|_| is_there) else { return Backpressure::Gone };
        let mut written = desk.write(handle, parts[0]);
        if !parts[1].is_empty() {
            written = desk.write(handle, parts[1]);
        }
        written
    }

    fn follow(&mut self, desk: &mut Desk<'_>, bytes: &[u8]) -> Result<Followed, Fault> {
        let mut followed = Followed::default();
        while followed.used < bytes.len() && !followed.is_over {
            let (used, seen) = self.scan.step(&bytes[followed.used..])?;
            followed.used += used;
            let Some(seen) = seen else { break };
            desk.charge(1);
            followed.boundary = followed.used;
            followed.ended = followed.ended.saturating_add(u16::from(seen.ends_publish()));
            followed.is_over = seen.is_disconnect();
        }
        Ok(followed)
    }
}

/// The head of a message without its alias, and with what is said of who has published it.
fn rewritten<'h>(
    head: &'h mut Vec<u8>,
    raw: &mut Vec<u8>,
    publish: &Publish<'_>,
    stamp: Option<Stamp<'_>>,
) -> &'h [u8] {
    head.clear();
    raw.clear();
    let kept = publish.properties.iter().filter(|it| !matches!(it, Property::TopicAlias(_)));
    stamped(raw, kept, stamp);
    mqtt::write_publish_head(head, Version::V5, &Publish { properties: Properties::written(raw), ..*publish });
    head
}

//! What clients say of messages: PUBLISH, and the acknowledgements of both directions (MQTT 5, 3.3 to 3.7, 4.3).

use super::Mqtt;
use super::client::{Inbound, Owner, Stage, count, counted};
use super::session::{Outgoing, Stage as SessionStage};
use crate::mesh::{Cause, OffloadKind, OffloadRefused};
use crate::service::offload::{Holds, Stamp, WhileDown, may};
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::mqtt::{self, AckKind, Fault, Packet, Properties, Property, Publish, QoS, Version};

/// What is said where nothing can be published.
const AWAY: &str = "the broker does not answer";

/// Why a message is not taken.
pub(super) struct Refused(pub(super) u8, pub(super) &'static str);

impl Mqtt {
    /// A packet of a client.
    pub(super) fn packet(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, packet: &Packet<'_>) {
        match packet {
            Packet::Connect(it) => self.connect(desk, who, token, it),
            Packet::Publish(it) => self.publish_from(desk, who, token, it),
            Packet::PubAck(it) => self.acknowledged(desk, who, token, (it.packet_id, AckKind::PubAck), it.reason),
            Packet::PubRec(it) => self.acknowledged(desk, who, token, (it.packet_id, AckKind::PubRec), it.reason),
            Packet::PubComp(it) => self.acknowledged(desk, who, token, (it.packet_id, AckKind::PubComp), 0),
            Packet::PubRel(it) => self.release_received(desk, who, token, it.packet_id),
            Packet::Subscribe(it) => self.subscribe(desk, who, token, it),
            Packet::Unsubscribe(it) => self.unsubscribe(desk, who, token, it),
            Packet::PingReq => {
                let mut pong = Vec::with_capacity(2);
                mqtt::write_pong(&mut pong);
                self.peers.clients[token as usize].send(desk, who, &pong);
            }
            Packet::Disconnect(it) => self.leave(desk, who, token, it),
            _ => self.peers.clients[token as usize].fail(desk, who, Fault::Direction),
        }
    }

    // ---- from clients ----

    fn publish_from(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, publish: &Publish<'_>) {
        let topic = match self.topic_of(token, publish) {
            Ok(topic) => topic,
            Err(Refused(reason, words)) => {
                return self.peers.clients[token as usize].disconnect(desk, who, reason, words, Cause::Protocol);
            }
        };
        let publish = Publish { topic: topic.as_deref().unwrap_or(publish.topic), ..*publish };
        if !self.enter_inbound(desk, who, token, &publish) {
            return;
        }
        if let Err(refused) = self.relay(desk, who, token, &publish) {
            self.refuse_publish(desk, who, token, &publish, &refused);
        }
    }

    /// The topic that an alias stands for; `None`: it has none, or one that it says itself (3.3.2.3.4).
    fn topic_of(&mut self, token: u32, publish: &Publish<'_>) -> Result<Option<Box<str>>, Refused> {
        let alias = self.note_alias(token, publish)?.filter(|_| publish.topic.is_empty());
        Ok(alias.map(|alias| self.peers.clients[token as usize].busy().aliases[alias].clone()))
    }

    /// The place of the topic that an alias stands for, which it may have been given just now; `None`: there is no
    /// alias.
    pub(super) fn note_alias(&mut self, token: u32, publish: &Publish<'_>) -> Result<Option<usize>, Refused> {
        let alias = publish.properties.iter().find_map(|it| match it {
            Property::TopicAlias(alias) => Some(usize::from(alias)),
            _ => None,
        });
        let Some(alias) = alias else { return Ok(None) };
        if alias > usize::from(self.plan_of(token).bounds.topic_aliases_max) {
            return Err(Refused(0x94, "topic alias above the maximum"));
        }
        let aliases = &mut self.peers.clients[token as usize].busy().aliases;
        if publish.topic.is_empty() {
            let known = aliases.get(alias - 1).filter(|topic| !topic.is_empty());
            let refused = Refused(0x82, "topic alias that was not given a topic");
            return known.map(|_| Some(alias - 1)).ok_or(refused);
        }
        if aliases.len() < alias {
            aliases.resize(alias, Box::default());
        }
        aliases[alias - 1] = publish.topic.into();
        Ok(Some(alias - 1))
    }

    /// Counts a message of QoS 1 or 2. `false`: it is not to be published, and was answered if it had to be.
    fn enter_inbound(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, publish: &Publish<'_>) -> bool {
        let Some(id) = publish.packet_id else { return true };
        let most = self.plan_of(token).bounds.receive_max;
        let client = &mut self.peers.clients[token as usize];
        let is_v5 = client.version == Version::V5;
        let inbound = &mut client.busy().inbound;
        if let Some(known) = inbound.iter().find(|it| it.id == id).copied() {
            // Sent once more: it is not published twice (4.3.3, MQTT-4.3.3-10).
            if known.is_received {
                client.acknowledge(desk, who, AckKind::PubRec, id, 0);
            } else if !publish.dup && is_v5 {
                client.disconnect(desk, who, 0x82, "packet identifier in use", Cause::Protocol);
            }
            return false;
        }
        let alike = inbound.iter().filter(|it| it.qos == publish.qos).count();
        let is_full = alike >= usize::from(most);
        if is_full && is_v5 && publish.qos == QoS::ExactlyOnce {
            client.disconnect(desk, who, 0x93, "more messages of QoS 2 than the receive maximum", Cause::Protocol);
            return false;
        }
        inbound.push(Inbound { id, qos: publish.qos, is_received: false });
        // Libraries publish with QoS 1 as fast as they can, whatever the maximum; for its acknowledgements the broker
        // need not hear more of a client, as it needs PUBREL for QoS 2.
        if is_full && publish.qos == QoS::AtLeastOnce {
            client.hold(desk, who, Holds::WINDOW);
        }
        true
    }

    /// Hands a message to the session with the broker.
    fn relay(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, publish: &Publish<'_>) -> Result<(), Refused> {
        let plan = self.plan_of(token);
        if !may(&plan.rules, publish.topic, desk.identity(who).map(|it| &**it), true) {
            return Err(Refused(0x87, "you may not publish to this topic"));
        }
        let id = self.session_of(&plan, token);
        let owner = self.owner(token);
        let Some(session) = self.sessions.get_mut(id) else { return Err(Refused(0x83, "no session")) };
        let is_down = matches!(session.stage, SessionStage::Down(_)) && session.attempts.has_failed();
        if is_down && plan.while_down == WhileDown::Refuse {
            return Err(Refused(0x97, AWAY));
        }
        let stamp = plan.stamp_of(desk.identity(who).map(|it| &**it));
        let owned = (Some(owner), publish.packet_id.unwrap_or(0));
        let outgoing = outgoing(session.version, publish, owned, (stamp, &mut self.properties));
        if outgoing.packet.len() > session.packet_max as usize {
            return Err(Refused(0x97, "the broker takes no message as long as this"));
        }
        self.submit(desk, id, outgoing);
        desk.counters().offload_published[OffloadKind::Mqtt as usize] += 1;
        Ok(())
    }

    /// In MQTT 5 a message of QoS 1 or 2 is answered with the reason. Before, there is no answer but the end, lest the
    /// client believe that it was published. A message of QoS 0 is left out.
    fn refuse_publish(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, publish: &Publish<'_>, why: &Refused) {
        let client = &mut self.peers.clients[token as usize];
        let is_told_by_its_end = publish.packet_id.is_some() && client.version != Version::V5;
        if why.1 == AWAY {
            count(desk, OffloadRefused::BrokerDown);
        } else if !is_told_by_its_end {
            count(desk, counted(why.0));
        }
        let Some(id) = publish.packet_id else { return };
        client.busy().inbound.retain(|it| it.id != id);
        if client.version != Version::V5 {
            let cause = if why.1 == AWAY { Cause::UpstreamLost } else { Cause::Protocol };
            return client.disconnect(desk, who, why.0, why.1, cause);
        }
        let kind = if publish.qos == QoS::AtLeastOnce { AckKind::PubAck } else { AckKind::PubRec };
        client.acknowledge(desk, who, kind, id, why.0);
    }

    /// PUBREL: the client knows that its message of QoS 2 was received.
    fn release_received(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, id: u16) {
        let client = &mut self.peers.clients[token as usize];
        let inbound = &mut client.busy().inbound;
        let place = inbound.iter().position(|it| it.id == id && it.is_received);
        let reason = if place.is_some() { 0 } else { 0x92 };
        if let Some(place) = place {
            inbound.swap_remove(place);
        }
        client.acknowledge(desk, who, AckKind::PubComp, id, reason);
    }

    // ---- to clients ----

    /// The client has acknowledged a message.
    fn acknowledged(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, (id, kind): (u16, AckKind), reason: u8) {
        let client = &mut self.peers.clients[token as usize];
        let busy = client.busy();
        let mut lot = 0;
        let place = busy.outbound.iter().position(|it| it.id == id && it.awaits == kind);
        match (place, kind) {
            (Some(place), AckKind::PubRec) if reason < 0x80 => {
                busy.outbound[place].awaits = AckKind::PubComp;
                return client.acknowledge(desk, who, AckKind::PubRel, id, 0);
            }
            // In MQTT 5 it is told that there is no such message (3.6.2.1); PUBREL ends what it began.
            (None, AckKind::PubRec) => return client.acknowledge(desk, who, AckKind::PubRel, id, 0x92),
            (Some(place), _) => lot = busy.outbound.remove(place).map_or(0, |it| it.lot),
            (None, _) => {}
        }
        let was_blocked = std::mem::take(&mut busy.is_blocked);
        let has_kept = !busy.kept.is_empty();
        if has_kept {
            self.send_kept(desk, who, token);
        }
        if lot > 0 {
            self.lot_done(desk, token, lot);
        }
        if was_blocked {
            self.fanout.offer_rest(token);
        }
    }

    /// The client takes more again.
    pub(super) fn writable(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32) {
        let Some(client) = self.client(token) else { return };
        client.release(desk, who, Holds::OUTPUT);
        self.hear_on(desk, token);
        if self.client(token).is_some_and(|client| client.stage == Stage::Connected && client.busy.is_some()) {
            self.send_kept(desk, who, token);
            self.give_to(desk, token);
        }
    }
}

/// A message as a session says it. `stamp`: what is said of who has published it; `kept` has room for that, and what is
/// in it does not matter.
pub(super) fn outgoing(
    version: Version,
    publish: &Publish<'_>,
    (owner, client_id): (Option<Owner>, u16),
    (stamp, kept): (Option<Stamp<'_>>, &mut Vec<u8>),
) -> Outgoing {
    let is_alias = |it: &Property<'_>| matches!(it, Property::TopicAlias(_));
    let mut properties = publish.properties;
    if stamp.is_some() || properties.iter().any(|it| is_alias(&it)) {
        kept.clear();
        stamped(kept, properties.iter().filter(|it| !is_alias(it)), stamp);
        properties = Properties::written(kept);
    }
    let packet_id = (publish.qos != QoS::AtMostOnce).then_some(1);
    let mut packet = Vec::with_capacity(publish.topic.len() + publish.payload.len() + properties.raw().len() + 16);
    mqtt::write_publish(&mut packet, version, &Publish { dup: false, packet_id, properties, ..*publish });
    let length = packet.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let id_at = 1 + length + 2 + publish.topic.len();
    Outgoing { owner, client_id, qos: publish.qos, id: 0, id_at, is_released: false, packet: packet.into() }
}

/// Properties with what is said of who has published something, in place of what the client says under that name.
pub(super) fn stamped<'p>(out: &mut Vec<u8>, properties: impl Iterator<Item = Property<'p>>, stamp: Option<Stamp<'_>>) {
    let is_replaced =
        |it: &Property<'_>| matches!(it, Property::User(name, _) if stamp.is_some_and(|s| s.replaces(name)));
    properties.filter(|it| !is_replaced(it)).for_each(|it| it.write(out));
    if let Some((name, value)) = stamp.and_then(|it| Some((it.name, it.value?))) {
        Property::User(name, value).write(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgehold_wire::mqtt::{Limits, Read, Role};

    #[test]
    fn a_session_says_a_message_without_its_alias_and_by_its_own_identifier() {
        let mut raw = Vec::new();
        Property::TopicAlias(3).write(&mut raw);
        Property::User("a", "b").write(&mut raw);
        for len in [0, 100, 200, 20_000] {
            let payload = vec![7; len];
            let (qos, properties) = (QoS::AtLeastOnce, Properties::written(&raw));
            let publish = Publish {
                dup: true,
                qos,
                retain: true,
                topic: "a/b",
                packet_id: Some(9),
                properties,
                payload: &payload,
            };
            let mut it = outgoing(Version::V5, &publish, (None, 9), (None, &mut vec![1; 9]));
            it.packet[it.id_at..it.id_at + 2].copy_from_slice(&77_u16.to_be_bytes());
            let limits = Limits { packet_bytes: u32::MAX };
            let Ok(Read::Packet { packet: Packet::Publish(read), used }) =
                mqtt::read(&it.packet, &limits, Some(Version::V5), Role::Server)
            else {
                panic!("a message of {len}");
            };
            assert_eq!((read.packet_id, read.topic, read.payload, read.dup), (Some(77), "a/b", &payload[..], false));
            assert!(read.properties.iter().eq([Property::User("a", "b")]) && used == it.packet.len());
        }
    }
    #[test]
    fn who_a_client_is_says_the_edge_and_nobody_else() {
        let mut raw = Vec::new();
        let forged = [Property::User("x-user", "root"), Property::User("X-USER", "root"), Property::User("x", "y")];
        forged.iter().for_each(|it| it.write(&mut raw));
        let said = |version, stamp| {
            let (qos, properties) = (QoS::AtMostOnce, Properties::written(&raw));
            let (topic, payload) = ("a", &b""[..]);
            let publish = Publish { dup: false, qos, retain: false, topic, packet_id: None, properties, payload };
            let packet = outgoing(version, &publish, (None, 0), (stamp, &mut Vec::new())).packet;
            let limits = Limits { packet_bytes: u32::MAX };
            let Ok(Read::Packet { packet: Packet::Publish(read), .. }) =
                mqtt::read(&packet, &limits, Some(version), Role::Server)
            else {
                panic!("{packet:?}");
            };
            read.properties.iter().map(|it| format!("{it:?}")).collect::<Vec<_>>()
        };
        let stamp = |value| Some(Stamp { name: "x-user", value });
        assert_eq!(said(Version::V5, stamp(Some("ann"))), ["User(\"x\", \"y\")", "User(\"x-user\", \"ann\")"]);
        assert_eq!(said(Version::V5, stamp(None)), ["User(\"x\", \"y\")"]);
        assert_eq!(said(Version::V5, None).len(), 3);
        assert!(said(Version::V311, stamp(Some("ann"))).is_empty());
    }
}

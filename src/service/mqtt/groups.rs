//! `$share`: groups of clients, each message of which is for one of them (MQTT 5, 4.8.2).
//!
//! A group of a shard is one member at the broker, over a session that carries nothing else: the broker gives it its
//! part of the messages, and the shard gives each of them, a *lot*, to one of its own members that has room. A lot of
//! QoS 1 is acknowledged to the broker when its member has acknowledged it; when that one leaves, another is given it.
//! The group is subscribed to with QoS 1, which is the most that is granted.
//!
//! Where the last member leaves and lots are left over, nobody here can take them: the session is ended, and a new one
//! begun, so that the broker gives them to others.

use super::Mqtt;
use super::client::{Owner, Stage};
use super::deliver::Tag;
use super::session::{Session, SessionId};
use super::subscribe::Outcome;
use crate::mesh::Cause;
use crate::service::offload::OffloadPlan;
use crate::shard::service::{Backpressure, Desk};
use edgehold_wire::mqtt::{self, Ack, AckKind, Options, Properties, Property, Publish, QoS, SubAck, Version, topic};
use slab::Slab;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Messages of QoS 1 that the broker may send for all groups of a session, before they are acknowledged.
pub const WINDOW: u16 = 4096;

/// Messages of QoS 0 that wait for a member of a group to have room; beyond, the oldest is left out.
const WAITING: usize = 1024;

/// The groups of a session.
#[derive(Default)]
pub struct Groups {
    all: Slab<Group>,
    /// What was given to nobody yet or is not acknowledged, by numbers in the order in which it came.
    lots: BTreeMap<u64, Lot>,
    last: u64,
    /// UNSUBSCRIBE packets that are not answered.
    ending: Vec<u16>,
}

/// A group that clients of this shard are members of.
struct Group {
    filter: Box<str>,
    members: Vec<(Owner, Tag)>,
    /// Whose turn it is.
    next: usize,
    /// The packet identifier of a SUBSCRIBE that is not answered; zero: none is.
    asked: u16,
    /// What the broker has granted.
    granted: Option<u8>,
    /// Lots that nobody has been given.
    waiting: VecDeque<u64>,
}

/// A message for one member.
struct Lot {
    group: usize,
    /// The broker's packet identifier, of QoS 1.
    id: Option<u16>,
    owner: Option<Owner>,
    topic: Box<str>,
    properties: Box<[u8]>,
    payload: Box<[u8]>,
}

impl Groups {
    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn find(&self, filter: &str) -> Option<usize> {
        self.all.iter().find(|it| *it.1.filter == *filter).map(|it| it.0)
    }

    /// The group that a message is for: as the broker says, else the first whose filter matches.
    fn group_of(&self, publish: &Publish<'_>) -> Option<usize> {
        let told = publish.properties.iter().find_map(|it| match it {
            Property::SubscriptionId(number) => Some(number as usize - 1),
            _ => None,
        });
        let matches =
            |group: &Group| topic::shared(&group.filter).is_some_and(|it| topic::matches(it.1, publish.topic));
        told.or_else(|| self.all.iter().find(|it| matches(it.1)).map(|it| it.0))
            .filter(|number| self.all.contains(*number))
    }

    /// A message has come. `false`: it has come before, and is not acknowledged yet.
    fn enter(&mut self, group: usize, publish: &Publish<'_>) -> bool {
        if publish.dup && self.lots.values().any(|it| it.id == publish.packet_id) {
            return false;
        }
        let mut raw = Vec::new();
        let own = |it: &Property<'_>| matches!(it, Property::TopicAlias(_) | Property::SubscriptionId(_));
        publish.properties.iter().filter(|it| !own(it)).for_each(|it| it.write(&mut raw));
        self.last += 1;
        let (topic, payload) = (publish.topic.into(), publish.payload.into());
        let lot = Lot { group, id: publish.packet_id, owner: None, topic, properties: raw.into(), payload };
        self.lots.insert(self.last, lot);
        let waiting = &mut self.all[group].waiting;
        waiting.push_back(self.last);
        if waiting.len() > WAITING
            && let Some(place) = waiting.iter().position(|it| self.lots.get(it).is_some_and(|it| it.id.is_none()))
        {
            waiting.remove(place).and_then(|number| self.lots.remove(&number));
        }
        true
    }

    /// What a member has had is for others again. Whether lots are left that nobody can be given.
    fn leave(&mut self, number: usize, owner: Owner) -> bool {
        let group = &mut self.all[number];
        group.members.retain(|it| it.0 != owner);
        let of_it = |lot: &Lot| lot.group == number && lot.owner == Some(owner);
        let back: Vec<u64> = self.lots.iter().filter(|it| of_it(it.1)).map(|it| *it.0).collect();
        for lot in back.into_iter().rev() {
            group.waiting.push_front(lot);
            if let Some(lot) = self.lots.get_mut(&lot) {
                lot.owner = None;
            }
        }
        group.members.is_empty() && group.waiting.iter().any(|it| self.lots.get(it).is_some_and(|it| it.id.is_some()))
    }

    fn remove(&mut self, number: usize) {
        self.all.remove(number);
        self.lots.retain(|_, lot| lot.group != number);
    }
}

impl Session {
    /// The broker has let the edge in: what it does not remember is subscribed to again.
    pub fn join_again(&mut self, desk: &mut Desk<'_>, resumed: bool) {
        if !resumed {
            self.groups.lots.clear();
            self.groups.all.iter_mut().for_each(|it| it.1.waiting.clear());
            self.groups.ending.clear();
        }
        let numbers: Vec<usize> = self.groups.all.iter().map(|it| it.0).collect();
        for number in numbers {
            if !resumed || self.groups.all[number].granted.is_none() {
                self.join(desk, number);
            }
        }
    }

    fn join(&mut self, desk: &mut Desk<'_>, number: usize) {
        if !self.is_up() {
            return;
        }
        let (id, mut raw, mut out) = (self.take_id(), Vec::new(), Vec::new());
        Property::SubscriptionId(number as u32 + 1).write(&mut raw);
        let group = &mut self.groups.all[number];
        group.asked = id;
        let filters = [(&*group.filter, Options { qos: QoS::AtLeastOnce, ..Options::default() })];
        mqtt::write_subscribe(&mut out, self.version, id, Properties::written(&raw), filters.into_iter());
        self.write(desk, &out);
    }

    fn confirm_lot(&mut self, desk: &mut Desk<'_>, id: u16) {
        let mut out = Vec::with_capacity(4);
        let ack = Ack { packet_id: id, reason: 0, properties: Properties::default() };
        mqtt::write_ack(&mut out, self.version, AckKind::PubAck, &ack);
        self.write(desk, &out);
    }
}

impl Mqtt {
    // ---- members ----

    /// A client is a member from now on, with this tag.
    pub(super) fn join_group(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        plan: &Arc<OffloadPlan>,
        (filter, tag): (&str, Tag),
    ) -> Outcome {
        let owner = self.owner(token);
        let is_member = self.group_session(token, filter).is_some();
        if !is_member && self.subscriptions(token) >= plan.subscriptions_max {
            return Outcome::Known(0x97, false);
        }
        let id = self.session_at(plan, plan.connections.max(1) as usize);
        let Some(session) = self.sessions.get_mut(id) else { return Outcome::Known(0x80, false) };
        let number = session.groups.find(filter).unwrap_or_else(|| {
            let (members, waiting) = (Vec::new(), VecDeque::new());
            let group = Group { filter: filter.into(), members, next: 0, asked: 0, granted: None, waiting };
            session.groups.all.insert(group)
        });
        let group = &mut session.groups.all[number];
        group.members.retain(|it| it.0 != owner);
        group.members.push((owner, tag));
        let (granted, is_first) = (group.granted, group.members.len() == 1);
        if is_first && granted.is_none() {
            session.join(desk, number);
        }
        if !is_member {
            self.peers.clients[token as usize].busy().groups.push((id, filter.into()));
        }
        self.wake(desk, id);
        self.give(desk, id, number);
        granted.map_or(Outcome::Waits(false), |qos| Outcome::Known(qos.min(tag.qos().level()), false))
    }

    fn group_session(&self, token: u32, filter: &str) -> Option<SessionId> {
        let groups = &self.peers.clients[token as usize].busy.as_ref()?.groups;
        groups.iter().find(|it| *it.1 == *filter).map(|it| it.0)
    }

    /// A client is a member no more. `false`: it was none.
    pub(super) fn leave_group(&mut self, desk: &mut Desk<'_>, token: u32, filter: &str) -> bool {
        let Some(id) = self.group_session(token, filter) else { return false };
        let owner = self.owner(token);
        self.peers.clients[token as usize].busy().groups.retain(|it| *it.1 != *filter);
        self.member_left(desk, id, owner, filter);
        true
    }

    /// The client has left.
    pub(super) fn leave_groups(&mut self, desk: &mut Desk<'_>, token: u32) {
        let owner = self.owner(token);
        let groups = self.peers.clients[token as usize].busy.as_mut().map(|busy| std::mem::take(&mut busy.groups));
        for (id, filter) in groups.into_iter().flatten() {
            self.member_left(desk, id, owner, &filter);
        }
    }

    fn member_left(&mut self, desk: &mut Desk<'_>, id: SessionId, owner: Owner, filter: &str) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(number) = session.groups.find(filter) else { return };
        let is_stuck = session.groups.leave(number, owner);
        if !session.groups.all[number].members.is_empty() {
            return self.give(desk, id, number);
        }
        session.groups.remove(number);
        if is_stuck {
            // The broker is to forget the session: then it gives away what was not acknowledged.
            session.is_known = false;
            if let Some(handle) = session.handle {
                desk.cut(handle, Cause::UpstreamEnded);
            }
        } else if session.is_up() {
            let (packet_id, mut out) = (session.take_id(), Vec::new());
            session.groups.ending.push(packet_id);
            let names = [filter].into_iter();
            mqtt::write_unsubscribe(&mut out, session.version, packet_id, Properties::default(), names);
            session.write(desk, &out);
        }
    }

    // ---- what the broker says ----

    /// SUBACK: who has waited for it is told.
    pub(super) fn group_granted(&mut self, desk: &mut Desk<'_>, id: SessionId, suback: &SubAck<'_>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.give_id(suback.packet_id);
        let asked = |it: &(usize, &Group)| it.1.asked == suback.packet_id;
        let Some(number) = session.groups.all.iter().find(asked).map(|it| it.0) else { return };
        let code = suback.codes.first().copied().unwrap_or(0x80);
        let group = &mut session.groups.all[number];
        (group.asked, group.granted) = (0, Some(code).filter(|code| *code < 0x80));
        let (filter, members) = (group.filter.clone(), group.members.clone());
        if code >= 0x80 {
            session.groups.remove(number);
        }
        for (owner, _) in members {
            let Some((who, client)) = self.owned(owner) else { continue };
            client.take_waiting(&filter, |tag| if code < 0x80 { code.min(tag.qos().level()) } else { code });
            if code >= 0x80 {
                client.busy().groups.retain(|it| it.1 != filter);
            }
            self.answer(desk, who, owner.token);
        }
    }

    /// UNSUBACK.
    pub(super) fn group_ended(&mut self, id: SessionId, packet_id: u16) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.groups.ending.contains(&packet_id) {
            session.groups.ending.retain(|it| *it != packet_id);
            session.give_id(packet_id);
        }
    }

    /// A message for one of the members of a group.
    pub(super) fn lot(&mut self, desk: &mut Desk<'_>, id: SessionId, publish: &Publish<'_>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if publish.qos == QoS::ExactlyOnce || publish.topic.is_empty() {
            return self.distrust(desk, id, "it has sent a message in a way that it was not asked for");
        }
        match session.groups.group_of(publish) {
            Some(number) => {
                if session.groups.enter(number, publish) {
                    self.give(desk, id, number);
                }
            }
            // The group has ended meanwhile.
            None => publish.packet_id.into_iter().for_each(|packet_id| session.confirm_lot(desk, packet_id)),
        }
    }

    // ---- giving ----

    /// Gives what waits for members of a group to those who have room.
    fn give(&mut self, desk: &mut Desk<'_>, id: SessionId, number: usize) {
        loop {
            let Some(session) = self.sessions.get_mut(id) else { return };
            let Some(group) = session.groups.all.get(number) else { return };
            let Some(&lot) = group.waiting.front() else { return };
            let (count, next) = (group.members.len(), group.next);
            let Some(at) = (next..next + count).find(|at| self.has_room(desk, id, (number, at % count))) else {
                return;
            };
            let Some(session) = self.sessions.get_mut(id) else { return };
            let group = &mut session.groups.all[number];
            (group.next, _) = ((at + 1) % count, group.waiting.pop_front());
            let member = group.members[at % count];
            self.give_lot(desk, id, lot, member);
        }
    }

    /// Whether a member of a group may be given a lot: no more than `prefetch` are with one client.
    fn has_room(&mut self, desk: &Desk<'_>, id: SessionId, (number, at): (usize, usize)) -> bool {
        let Some(session) = self.sessions.get_mut(id) else { return false };
        let (prefetch, most) = (session.plan.prefetch.max(1) as usize, session.plan.bounds.in_flight_max);
        let Some(owner) = session.groups.all.get(number).and_then(|it| it.members.get(at)).map(|it| it.0) else {
            return false;
        };
        let Some((who, client)) = self.owned(owner) else { return false };
        let lots = |busy: &super::client::Busy| busy.outbound.iter().filter(|it| it.lot > 0).count();
        client.stage == Stage::Connected
            && client.has_window(most)
            && client.busy.as_deref().map_or(0, lots) < prefetch
            && desk.backpressure_of(who) == Backpressure::Ready
    }

    fn give_lot(&mut self, desk: &mut Desk<'_>, id: SessionId, lot: u64, (owner, tag): (Owner, Tag)) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(mut it) = session.groups.lots.remove(&lot) else { return };
        let qos = if it.id.is_some() { tag.qos().min(QoS::AtLeastOnce) } else { QoS::AtMostOnce };
        if qos == QoS::AtMostOnce {
            it.id.into_iter().for_each(|id| session.confirm_lot(desk, id));
        }
        let Some((who, client)) = self.owned(owner) else { return };
        let mut raw = tag.properties(client.version);
        raw.extend_from_slice(if client.version == Version::V5 { &it.properties } else { &[] });
        let packet_id = (qos != QoS::AtMostOnce).then(|| client.next_id(qos, lot));
        let (topic, payload, properties) = (&*it.topic, &*it.payload, Properties::written(&raw));
        let publish = Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload };
        let mut out = Vec::with_capacity(topic.len() + payload.len() + raw.len() + 16);
        mqtt::write_publish(&mut out, client.version, &publish);
        client.send(desk, who, &out);
        if qos != QoS::AtMostOnce
            && let Some(session) = self.sessions.get_mut(id)
        {
            it.owner = Some(owner);
            session.groups.lots.insert(lot, it);
        }
    }

    /// A member has acknowledged a lot.
    pub(super) fn lot_done(&mut self, desk: &mut Desk<'_>, token: u32, lot: u64) {
        let owner = self.owner(token);
        let first = self.peers.clients[token as usize].busy.as_ref().and_then(|busy| busy.groups.first());
        // Who has left the group has left its lots, too.
        let Some(id) = first.map(|it| it.0) else { return };
        let Some(session) = self.sessions.get_mut(id) else { return };
        // One of a session that was lost is another's by now.
        if session.groups.lots.get(&lot).is_some_and(|it| it.owner == Some(owner))
            && let Some(Lot { id: Some(packet_id), group, .. }) = session.groups.lots.remove(&lot)
        {
            session.confirm_lot(desk, packet_id);
            self.give(desk, id, group);
        }
    }

    /// A client has room again.
    pub(super) fn give_to(&mut self, desk: &mut Desk<'_>, token: u32) {
        let groups = self.peers.clients[token as usize].busy.as_ref().map(|busy| busy.groups.clone());
        for (id, filter) in groups.into_iter().flatten() {
            let number = self.sessions.get_mut(id).and_then(|session| session.groups.find(&filter));
            number.into_iter().for_each(|number| self.give(desk, id, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_member_has_had_is_for_others_again_in_its_order() {
        let mut groups = Groups::default();
        let (one, other) = (Owner { token: 1, generation: 0 }, Owner { token: 2, generation: 0 });
        let tag = Tag(1 << 28);
        let members = vec![(one, tag), (other, tag)];
        let waiting = VecDeque::new();
        let group = Group { filter: "$share/g/a/+".into(), members, next: 0, asked: 0, granted: Some(1), waiting };
        groups.all.insert(group);
        let publish = |id, dup| Publish {
            dup,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "a/b",
            packet_id: Some(id),
            properties: Properties::default(),
            payload: b"x",
        };
        assert_eq!(groups.group_of(&publish(1, false)), Some(0));
        assert!((1..4).all(|id| groups.enter(0, &publish(id, false))) && !groups.enter(0, &publish(2, true)));
        for lot in 1..3 {
            groups.all[0].waiting.pop_front();
            groups.lots.get_mut(&lot).unwrap().owner = Some(one);
        }
        assert!(!groups.leave(0, one));
        assert_eq!(groups.all[0].waiting, [1, 2, 3]);
        assert!(groups.leave(0, other), "nobody is left to take them");
    }
}

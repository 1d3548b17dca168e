//! Sessions with brokers: made, lost and made again; what brokers say over them.

use super::client::Owner;
use super::client::count;
use super::session::{Outgoing, Session, SessionId, Stage, Submitted};
use super::{Beat, Mqtt, SESSION};
use crate::mesh::{Cause, OffloadKind, OffloadRefused, ServiceKind};
use crate::service::offload::{Callee, Holds, OffloadPlan};
use crate::shard::service::{Desk, Event};
use crate::shard::slab::Handle;
use edgehold_wire::mqtt::{self, AckKind, ConnAck, Connect, Packet, Properties, Property, QoS, Version};
use std::sync::Arc;

/// Seconds within which the broker hears something, or is asked whether it is there (3.1.2.10).
const KEEP_ALIVE: u16 = 30;

/// Seconds for which the broker is to remember a session that is lost (3.1.2.11.2).
const EXPIRY: u32 = 300;

/// Ticks of a second.
const SECOND: u32 = 4;

impl Mqtt {
    // ---- which ----

    /// The session of a client: always the same, so that what it says stays in order.
    pub(super) fn session_of(&mut self, plan: &Arc<OffloadPlan>, token: u32) -> SessionId {
        self.session_at(plan, (token % plan.connections.max(1)) as usize)
    }

    /// That of a place; behind those of clients is the one for groups.
    pub(super) fn session_at(&mut self, plan: &Arc<OffloadPlan>, place: usize) -> SessionId {
        let known = self.shared.get(&(plan.number, place)).copied();
        if let Some(id) = known.filter(|id| self.sessions.get_mut(*id).is_some()) {
            return id;
        }
        let id = self.sessions.insert(Session::new(plan.clone(), place));
        self.shared.insert((plan.number, place), id);
        id
    }

    /// Hands a message to a session; its client is held back where the session has no room for more.
    pub(super) fn submit(&mut self, desk: &mut Desk<'_>, id: SessionId, outgoing: Outgoing) {
        let owner = outgoing.owner;
        let Some(session) = self.sessions.get_mut(id) else { return };
        let submitted = session.submit(desk, outgoing);
        self.wake(desk, id);
        if let Some(owner) = owner.filter(|_| submitted == Submitted::Full) {
            self.hold_back(desk, id, owner);
        }
    }

    fn hold_back(&mut self, desk: &mut Desk<'_>, id: SessionId, owner: Owner) {
        let who = self.fanout.client(owner.token).map(|it| it.who);
        if let (Some(session), Some(who)) = (self.sessions.get_mut(id), who)
            && !session.paused.contains(&owner)
        {
            session.paused.push(owner);
            desk.counters().offload_held_back[OffloadKind::Mqtt as usize] += 1;
            self.peers.clients[owner.token as usize].busy().holds.insert(Holds::SESSION);
            desk.pause(who);
        }
    }

    /// Who was held back is read again, if there is room.
    fn release(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.pump(desk);
        for owner in session.take_paused(desk) {
            if let Some((who, client)) = self.owned(owner) {
                client.release(desk, who, Holds::SESSION);
            }
        }
    }

    // ---- up and down ----

    /// There is something for it: it is made, if it is not there and its time has come.
    pub(super) fn wake(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let now = desk.now();
        let Some(session) = self.sessions.get_mut(id) else { return };
        let is_wanted = self.present > 0 || !desk.is_draining();
        if matches!(session.stage, Stage::Down(at) if now >= at && is_wanted) {
            self.dial(desk, id);
        }
    }

    fn dial(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let now = desk.now();
        let Some(session) = self.sessions.get_mut(id) else { return };
        // Whatever is in force by now, for what comes of it.
        let plan = self.peers.plans[usize::from(session.plan.number)].clone();
        session.plan = plan.clone();
        let to = Callee {
            upstreams: &plan.upstreams,
            connect_ticks: plan.connect_ticks,
            limits: plan.limits,
            service: ServiceKind::Mqtt,
        };
        // What many clients need is there however many others have come.
        session.call.spare = true;
        match self.callers.call(desk, &mut session.call, &to, id.number | SESSION) {
            Ok(handle) => {
                (session.handle, session.stage) = (Some(handle), Stage::Dialing);
                session.answers_by = now + 2 * plan.connect_ticks.max(1);
                self.look_in(now, 2 * plan.connect_ticks.max(1), id);
            }
            Err(_) => self.wait(now, id),
        }
    }

    /// It is tried again later, and later with each failure; not all shards at once.
    fn wait(&mut self, now: u32, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let ticks = session.attempts.lost(now, id.generation);
        session.stage = Stage::Down(now + ticks);
        self.look_in(now, ticks, id);
    }

    /// It is to be looked at in so many ticks.
    fn look_in(&mut self, now: u32, ticks: u32, id: SessionId) {
        let session = self.sessions.get_mut(id);
        if let Some(ticks) = session.and_then(|session| session.attempts.look_in(now, ticks)) {
            self.beats.set(now, ticks, Beat::Session(id));
        }
    }

    /// Keep alive of a session, and its next attempt.
    pub(super) fn look_at_session(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let now = desk.now();
        let Some(session) = self.sessions.get_mut(id) else { return };
        if !session.attempts.is_due(now) {
            return;
        }
        match session.stage {
            Stage::Down(_) if !session.is_needed() => {}
            Stage::Down(at) if now < at => self.look_in(now, at - now, id),
            Stage::Down(_) => self.wake(desk, id),
            Stage::Dialing | Stage::Greeting if now < session.answers_by => {
                let ticks = session.answers_by - now;
                self.look_in(now, ticks, id);
            }
            Stage::Dialing | Stage::Greeting => self.distrust(desk, id, "it does not answer CONNECT"),
            // It has promised nothing.
            Stage::Up if session.keep_alive == 0 => {}
            Stage::Up if now.saturating_sub(session.heard) > 2 * session.keep_alive => {
                self.distrust(desk, id, "it has stopped answering");
            }
            Stage::Up => {
                if now.saturating_sub(session.heard.min(session.spoke)) >= session.keep_alive / 2 {
                    let mut ping = Vec::with_capacity(2);
                    mqtt::write_ping(&mut ping);
                    session.write(desk, &ping);
                }
                let ticks = session.keep_alive / 2;
                self.look_in(now, ticks, id);
            }
        }
    }

    /// The server stops, and nobody is left whom they serve: what is not acknowledged of clients that have left has its
    /// time, as their connections had.
    pub(super) fn end_sessions(&mut self, desk: &mut Desk<'_>) {
        for id in self.sessions.all() {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            if session.is_up() && !session.outgoing.is_empty() {
                continue;
            }
            session.leave(desk);
            match session.handle {
                Some(handle) => desk.end(handle),
                None => drop(self.sessions.remove(id)),
            }
        }
    }

    /// The broker breaks its protocol, or says nothing: the session ends.
    pub(super) fn distrust(&mut self, desk: &mut Desk<'_>, id: SessionId, words: &str) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        tracing::warn!(shard = desk.shard(), "a session with an MQTT broker is ended: {words}");
        if let Some(handle) = session.handle {
            desk.cut(handle, Cause::UpstreamLost);
        }
    }

    /// The connection is there: CONNECT.
    fn greet(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let (epoch, shard) = (self.epoch, desk.shard());
        let Some(session) = self.sessions.get_mut(id) else { return };
        let plan = session.plan.clone();
        let is_v5 = session.version == Version::V5;
        let (mut raw, mut packet) = (Vec::new(), Vec::new());
        Property::SessionExpiry(EXPIRY).write(&mut raw);
        Property::ReceiveMaximum(super::groups::WINDOW).write(&mut raw);
        let name = format!("edgehold-{epoch:08x}-{}-{shard}-{}", plan.number, session.place);
        let connect = Connect {
            version: session.version,
            clean_start: !is_v5 || !session.is_known,
            keep_alive: KEEP_ALIVE,
            client_id: &name,
            will: None,
            user: plan.credentials.user.as_deref(),
            password: plan.credentials.password.as_ref().map(|it| it.reveal().as_bytes()),
            properties: Properties::written(if is_v5 { &raw } else { &[] }),
        };
        mqtt::write_connect(&mut packet, &connect);
        session.stage = Stage::Greeting;
        if let Some(handle) = session.handle {
            desk.write(handle, &packet);
        }
    }

    /// Its connection is gone.
    fn session_closed(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let now = desk.now();
        let Some(session) = self.sessions.get_mut(id) else { return };
        self.callers.closed(desk, &mut session.call);
        (session.handle, session.rest, session.least) = (None, Vec::new(), 0);
        if session.stage == Stage::Greeting {
            session.is_not_answered();
        }
        session.stage = Stage::Down(now);
        if session.is_needed() {
            self.wait(now, id);
        }
    }

    // ---- what brokers say ----

    /// Something has happened to a session's connection.
    pub(super) fn session_event(&mut self, desk: &mut Desk<'_>, who: Handle, id: SessionId, event: &Event<'_>) {
        if self.sessions.get_mut(id).is_none_or(|session| session.handle != Some(who)) {
            return;
        }
        match *event {
            Event::Connected => self.greet(desk, id),
            Event::Bytes(bytes) => self.broker_says(desk, id, bytes),
            Event::Writable => self.release(desk, id),
            Event::Fin => desk.end(who),
            Event::Closed(_) => self.session_closed(desk, id),
            _ => {}
        }
    }

    /// A packet of a broker.
    pub(super) fn broker_packet(&mut self, desk: &mut Desk<'_>, id: SessionId, packet: &Packet<'_>) {
        match packet {
            Packet::ConnAck(connack) => self.let_in(desk, id, connack),
            Packet::PubAck(ack) => self.confirmed(desk, id, (ack.packet_id, ack.reason), AckKind::PubAck),
            Packet::PubRec(ack) if ack.reason >= 0x80 => {
                self.confirmed(desk, id, (ack.packet_id, ack.reason), AckKind::PubRec);
            }
            Packet::PubRec(ack) => {
                let told = self.sessions.get_mut(id).and_then(|session| session.received(desk, ack.packet_id));
                told.into_iter().for_each(|to| self.settle(desk, to, AckKind::PubRec, ack.reason));
            }
            Packet::PubComp(ack) => {
                self.sessions.get_mut(id).and_then(|session| session.done(ack.packet_id));
                self.release(desk, id);
            }
            Packet::Disconnect(it) => self.distrust(desk, id, reason_words(it.properties)),
            Packet::PingResp => {}
            Packet::Publish(it) => self.lot(desk, id, it),
            Packet::SubAck(it) => self.group_granted(desk, id, it),
            Packet::UnsubAck(it) => self.group_ended(id, it.packet_id),
            _ => self.distrust(desk, id, "it has sent a packet that it was not asked for"),
        }
    }

    fn let_in(&mut self, desk: &mut Desk<'_>, id: SessionId, connack: &ConnAck<'_>) {
        let now = desk.now();
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.stage != Stage::Greeting {
            return self.distrust(desk, id, "it has sent CONNACK twice");
        }
        session.unanswered = 0;
        if connack.reason != 0 {
            if matches!(connack.reason, 0x01 | 0x84) && session.version == Version::V5 {
                session.speak(Version::V311);
            }
            return self.distrust(desk, id, reason_words(connack.properties));
        }
        take_terms(session, connack.properties);
        (session.stage, session.spoke, session.heard) = (Stage::Up, now, now);
        session.attempts.succeeded();
        session.is_known = true;
        self.callers.answered(&mut session.call);
        session.resume(desk, connack.session_present);
        session.join_again(desk, connack.session_present);
        if session.keep_alive > 0 {
            let ticks = session.keep_alive / 2;
            self.look_in(now, ticks, id);
        }
        self.release(desk, id);
    }

    fn confirmed(&mut self, desk: &mut Desk<'_>, id: SessionId, (packet_id, reason): (u16, u8), kind: AckKind) {
        let done = self.sessions.get_mut(id).and_then(|session| session.done(packet_id));
        if let Some(Outgoing { owner: Some(owner), client_id, .. }) = done {
            self.settle(desk, (owner, client_id), kind, reason);
        }
        self.release(desk, id);
    }

    /// The broker has acknowledged a message of a client: so it is told.
    fn settle(&mut self, desk: &mut Desk<'_>, (owner, client_id): (Owner, u16), kind: AckKind, reason: u8) {
        if reason >= 0x80 {
            count(desk, OffloadRefused::Broker);
        }
        let Some((who, client)) = self.owned(owner) else { return };
        let inbound = &mut client.busy().inbound;
        if let Some(place) = inbound.iter().position(|it| it.id == client_id) {
            if kind == AckKind::PubRec && reason < 0x80 {
                inbound[place].is_received = true;
            } else {
                inbound.swap_remove(place);
            }
        }
        client.acknowledge(desk, who, kind, client_id, reason);
        if client.busy().holds.contains(Holds::WINDOW) {
            self.hear_more(desk, who, owner);
        }
        self.peers.clients[owner.token as usize].tidy();
    }

    /// One that has published more than may be under way is read again when half of that is left.
    fn hear_more(&mut self, desk: &mut Desk<'_>, who: Handle, owner: Owner) {
        let most = usize::from(self.plan_of(owner.token).bounds.receive_max);
        let client = &mut self.peers.clients[owner.token as usize];
        let left = client.busy().inbound.iter().filter(|it| it.qos == QoS::AtLeastOnce).count();
        if left <= most / 2 {
            client.release(desk, who, Holds::WINDOW);
        }
    }
}

fn reason_words(properties: Properties<'_>) -> &str {
    let words = properties.iter().find_map(|it| if let Property::Reason(words) = it { Some(words) } else { None });
    words.unwrap_or("the broker refuses it")
}

/// What the broker takes, as CONNACK says.
fn take_terms(session: &mut Session, properties: Properties<'_>) {
    let mut keep_alive = KEEP_ALIVE;
    session.set_window(u16::MAX);
    for property in properties.iter() {
        match property {
            Property::ReceiveMaximum(most) => session.set_window(most),
            Property::MaximumPacketSize(most) => session.packet_max = most,
            Property::ServerKeepAlive(seconds) => keep_alive = seconds,
            _ => {}
        }
    }
    session.keep_alive = u32::from(keep_alive) * SECOND;
}

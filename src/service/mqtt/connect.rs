//! How a client begins and ends: CONNECT, who it is, keep alive, its will (MQTT 5, 3.1, 3.14 and 4.13).

use super::client::{Asked, Client, Owner, Stage, Transport, Will, count};
use super::private::{self, Kept, LATER_TICKS, Wish};
use super::publish::{outgoing, stamped};
use super::{Beat, Mqtt, SESSION};
use crate::mesh::{Body, Cause, Credentials, Denied, Form, Frame, OffloadRefused, Secret};
use crate::service::fanout::Traits;
use crate::service::offload::{ASKED_TICKS, OffloadPlan, Stamp, may};
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::mqtt::{self, ConnAck, Connect, Disconnect, Properties, Property, Publish, Version};
use edgehold_wire::ws::CloseCode;
use std::hash::BuildHasher;
use std::num::NonZero;
use std::sync::Arc;

/// Ticks in which CONNECT must come.
const SILENT_TICKS: u32 = 40;

/// Ticks of one and a half seconds, as often as keep alive has seconds (3.1.2.10).
const KEEP_ALIVE_TICKS: u32 = 6;

/// CONNACK in version 5 and before (3.2.2.2): bad user name or password.
const WORTHLESS: (u8, u8) = (0x86, 4);

/// CONNACK in version 5 and before: the server is not available.
const NOT_NOW: (u8, u8) = (0x88, 3);

impl Mqtt {
    /// A client has come; its token.
    pub(super) fn welcome(
        &mut self,
        desk: &mut Desk<'_>,
        who: Handle,
        plan: &Arc<OffloadPlan>,
        transport: Transport,
    ) -> u32 {
        let frame = if transport == Transport::Bare { Frame::Piece } else { Frame::WebSocket };
        let form = Form { body: Body::Plain, frame };
        let token = self.fanout.add_client(desk, who, plan.number, form, Traits::empty());
        debug_assert!(token & SESSION == 0, "fewer clients than a shard may have");
        self.present += 1;
        if self.peers.clients.capacity() == 0 {
            self.peers.clients.reserve(desk.slots() as usize);
            self.names.reserve(desk.slots());
        }
        while self.peers.clients.len() <= token as usize {
            self.peers.clients.push(Client::none());
        }
        let client = &mut self.peers.clients[token as usize];
        let generation = client.generation.wrapping_add(1);
        *client = Client { generation, route: plan.number, transport, heard: desk.now(), ..Client::none() };
        client.stage = Stage::Silent;
        let owner = self.owner(token);
        self.beats.set(desk.now(), SILENT_TICKS, Beat::Client(owner));
        token
    }

    /// CONNECT, the first packet.
    pub(super) fn connect(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, connect: &Connect<'_>) {
        let plan = self.plan_of(token);
        let asked = self.take_terms(token, &plan, connect, desk.shard());
        let client = &mut self.peers.clients[token as usize];
        client.version = connect.version;
        if asked.proves && asked.wish == Wish::Never {
            return client.refuse(desk, who, (0x8c, 5), "no authentication method is known here");
        }
        client.busy().will = connect.will.as_ref().map(Will::of);
        client.busy().connect = Kept::of(&plan, connect, &asked, client.keep_alive);
        client.busy().asked = Some(asked);
        if !plan.auth || desk.identity(who).is_some() {
            return self.connected(desk, who, token);
        }
        // A password that is no text is nobody's here.
        let Ok(password) = str::from_utf8(connect.password.unwrap_or_default()) else {
            client.busy().will = None;
            return client.refuse(desk, who, WORTHLESS, "these credentials are worth nothing here");
        };
        client.stage = Stage::Asked;
        desk.pause(who);
        let user = connect.user.unwrap_or_default().into();
        desk.present(who, Credentials::Basic { user, password: Secret::new(password) });
    }

    /// What CONNECT says of the connection, and what is to be said of it.
    fn take_terms(&mut self, token: u32, plan: &OffloadPlan, connect: &Connect<'_>, shard: usize) -> Asked {
        let epoch = self.epoch;
        let client = &mut self.peers.clients[token as usize];
        let most = (plan.keep_alive_millis / 1000).min(u32::from(u16::MAX)) as u16;
        let is_longer = most > 0 && (connect.keep_alive == 0 || connect.keep_alive > most);
        let keep_alive = (is_longer && connect.version == Version::V5).then_some(most);
        client.keep_alive = keep_alive.unwrap_or(connect.keep_alive);
        let mut expiry = 0;
        for property in connect.properties.iter() {
            match property {
                Property::ReceiveMaximum(most) if most < plan.bounds.in_flight_max => {
                    client.busy().window = NonZero::new(most);
                }
                Property::MaximumPacketSize(most) => client.busy().packet_max = NonZero::new(most),
                Property::SessionExpiry(seconds) => expiry = seconds,
                _ => {}
            }
        }
        let is_assigned = connect.client_id.is_empty();
        let count = (shard as u64) << 32 | u64::from(token);
        let id = if is_assigned { private::assigned(epoch, count) } else { connect.client_id.into() };
        let proves = connect.properties.iter().any(|it| private::is_method(&it));
        let wish = Wish::of(plan, connect);
        Asked { id: id.into(), is_assigned, keep_alive, wants_session: expiry > 0, wish, proves }
    }

    /// What the client has shown was taken, or why not.
    pub(super) fn authenticated(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, said: Result<(), Denied>) {
        let Some(client) = self.client(token).filter(|client| client.stage == Stage::Asked) else { return };
        desk.resume(who);
        let before = client.busy().bytes();
        match said {
            Ok(()) => self.connected(desk, who, token),
            Err(why) => {
                client.busy().will = None;
                let (code, words) = if why.is_no_verdict() {
                    (NOT_NOW, "nobody can say now who you are; try again")
                } else {
                    (WORTHLESS, "these credentials are worth nothing here")
                };
                client.refuse(desk, who, code, words);
            }
        }
        self.count_held(desk, token, before);
        // A client need not wait for CONNACK (3.1.4).
        self.receive(desk, who, token, b"");
    }

    fn connected(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32) {
        let plan = self.plan_of(token);
        let client = &mut self.peers.clients[token as usize];
        let will = client.busy().will.as_ref();
        let identity = desk.identity(who).map(|it| &**it);
        let may_not = will.is_some_and(|it| !may(&plan.rules, &it.topic, identity, true));
        if may_not {
            client.busy().will = None;
            return client.refuse(desk, who, (0x87, 5), "you may not publish your will there");
        }
        let Some(asked) = client.busy().asked.take() else { return };
        if let Some(asked) = self.privately(desk, who, token, asked) {
            self.let_client_in(desk, who, token, &asked);
        }
    }

    /// CONNACK of a client that is shared.
    fn let_client_in(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, asked: &Asked) {
        let plan = self.plan_of(token);
        let identity = desk.identity(who).map(|it| &**it);
        let client = &mut self.peers.clients[token as usize];
        if let (Some(stamp), Some(will)) = (plan.stamp_of(identity), &mut client.busy().will) {
            will.stamp(stamp);
        }
        (client.stage, client.busy().least) = (Stage::Connected, 0);
        self.take_over(desk, who, token, &asked.id);
        let client = &mut self.peers.clients[token as usize];
        let mut raw = Vec::new();
        if client.version == Version::V5 {
            welcome_properties(&mut raw, asked, &plan);
        }
        let mut out = Vec::with_capacity(64);
        let connack = ConnAck { session_present: false, reason: 0, properties: Properties::written(&raw) };
        mqtt::write_connack(&mut out, client.version, &connack);
        client.send(desk, who, &out);
        let ticks = u32::from(client.keep_alive) * KEEP_ALIVE_TICKS;
        let is_to_settle = client.busy().connect.is_some();
        client.tidy();
        desk.follow(who);
        let owner = self.owner(token);
        if is_to_settle {
            self.beats.set(desk.now(), LATER_TICKS, Beat::Settle(owner));
        }
        if ticks > 0 {
            self.beats.set(desk.now(), ticks + 1, Beat::Client(owner));
        }
    }

    /// Another client of this name, of the same user on the same route, is ended (3.1.4, MQTT-3.1.4-3).
    pub(super) fn take_over(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, id: &str) {
        let user = desk.identity(who).map(|it| it.name.clone());
        let name = self.hasher.hash_one((self.peers.clients[token as usize].route, user, id)).max(1);
        self.peers.clients[token as usize].name = name;
        let before = self.names.insert(&self.peers.clients, token).map(|other| self.owner(other));
        if let Some((who, other)) = before.and_then(|other| self.owned(other)) {
            other.disconnect(desk, who, 0x8e, "another connection has taken this session over", Cause::Closed);
        }
    }

    // ---- keep alive ----

    /// Looks at those whose time has come.
    pub(super) fn keep_beats(&mut self, desk: &mut Desk<'_>) {
        for beat in self.beats.due(desk.now()) {
            match beat {
                Beat::Client(owner) => self.look(desk, owner),
                Beat::Session(id) => self.look_at_session(desk, id),
                Beat::Private(id) => self.look_at_private(desk, id),
                Beat::Settle(owner) => self.settle_down(desk, owner),
            }
        }
    }

    fn look(&mut self, desk: &mut Desk<'_>, owner: Owner) {
        let now = desk.now();
        // Of one that is not read it is not known what it has said.
        let Some((who, client)) = self.owned(owner) else { return };
        if client.busy.as_ref().is_some_and(|busy| !busy.holds.is_empty()) {
            client.heard = now;
        }
        let silence = now.saturating_sub(client.heard);
        let patience = match client.stage {
            Stage::Silent => SILENT_TICKS,
            Stage::Asked => ASKED_TICKS,
            Stage::Connected | Stage::Moving if client.keep_alive > 0 => {
                u32::from(client.keep_alive) * KEEP_ALIVE_TICKS
            }
            _ => return,
        };
        if silence >= patience {
            if client.stage == Stage::Connected {
                return client.disconnect(desk, who, 0x8d, "nothing was heard within keep alive", Cause::IdleTimeout);
            }
            let (why, words) = match client.stage {
                Stage::Asked => (OffloadRefused::Unavailable, "nobody has said who you are"),
                _ => (OffloadRefused::Silent, "no CONNECT has come"),
            };
            count(desk, why);
            return client.end(desk, who, CloseCode::POLICY_VIOLATION, words, Cause::HeadTimeout);
        }
        self.beats.set(now, patience - silence + 1, Beat::Client(owner));
    }

    // ---- ends ----

    /// DISCONNECT: its will is forgotten, unless it wants it published (3.14.2.1).
    pub(super) fn leave(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, disconnect: &Disconnect<'_>) {
        let Some(client) = self.client(token) else { return };
        if disconnect.reason != 0x04 {
            client.busy().will = None;
        }
        client.end(desk, who, CloseCode::NORMAL, "", Cause::Closed);
    }

    /// The server stops, or the client's credentials have ended.
    pub(super) fn drain(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32) {
        let Some(client) = self.client(token).filter(|client| client.stage != Stage::Ended) else { return };
        client.disconnect(desk, who, 0x8b, "the connection is ended by the server", Cause::Drained);
    }

    /// It is too slow; its subscriptions in the fan-out have ended.
    pub(super) fn close_slow(&mut self, desk: &mut Desk<'_>, token: u32) {
        let Some(who) = self.fanout.client(token).map(|it| it.who) else { return };
        let Some(client) = self.client(token).filter(|client| client.stage != Stage::Ended) else { return };
        client.disconnect(desk, who, 0x97, "slow: a backlog above max_pending or max_age", Cause::Stalled);
    }

    /// Its connection is gone: its will is published, what it has begun is ended.
    pub(super) fn closed(&mut self, desk: &mut Desk<'_>, token: u32) {
        if self.fanout.client(token).is_none() {
            return;
        }
        self.leave_topics(desk, token);
        self.leave_groups(desk, token);
        self.names.remove(&self.peers.clients, token);
        let client = &mut self.peers.clients[token as usize];
        let was_in = client.name != 0;
        client.stage = Stage::Ended;
        let busy = client.busy.take();
        let private = busy.as_ref().and_then(|busy| busy.private);
        let route = client.route;
        self.held.change(route, busy.as_ref().map_or(0, |busy| busy.bytes()), 0);
        if let Some(will) = busy.and_then(|busy| busy.will).filter(|_| was_in) {
            self.publish_will(desk, token, &will);
        }
        private.into_iter().for_each(|id| self.leave_private(desk, id));
        self.fanout.remove_client(desk, token);
        self.present -= 1;
    }

    fn publish_will(&mut self, desk: &mut Desk<'_>, token: u32, will: &Will) {
        let publish = Publish {
            dup: false,
            qos: will.qos,
            retain: will.retain,
            topic: &will.topic,
            packet_id: None,
            properties: Properties::written(&will.properties),
            payload: &will.payload,
        };
        let plan = self.plan_of(token);
        let id = self.session_of(&plan, token);
        if let Some(session) = self.sessions.get_mut(id) {
            // It was stamped when its client was let in.
            let outgoing = outgoing(session.version, &publish, (None, 0), (None, &mut self.properties));
            self.submit(desk, id, outgoing);
        }
    }
}

impl Will {
    fn of(will: &mqtt::Will<'_>) -> Will {
        let mut raw = Vec::new();
        // The delay is between the client and its server (3.1.3.2.2); a session that ends with its connection has none.
        let kept = will.properties.iter().filter(|it| !matches!(it, Property::WillDelay(_)));
        kept.for_each(|it| it.write(&mut raw));
        Will {
            topic: will.topic.into(),
            properties: raw.into(),
            payload: will.payload.into(),
            qos: will.qos,
            retain: will.retain,
        }
    }

    /// Says in it whose it is.
    fn stamp(&mut self, stamp: Stamp<'_>) {
        let mut raw = Vec::with_capacity(self.properties.len() + 256);
        stamped(&mut raw, Properties::written(&self.properties).iter(), Some(stamp));
        self.properties = raw.into();
    }
}

fn welcome_properties(raw: &mut Vec<u8>, asked: &Asked, plan: &OffloadPlan) {
    Property::ReceiveMaximum(plan.bounds.receive_max).write(raw);
    Property::MaximumPacketSize(plan.frame_bytes.min(u32::MAX as usize) as u32).write(raw);
    Property::TopicAliasMaximum(plan.bounds.topic_aliases_max).write(raw);
    if asked.is_assigned {
        Property::AssignedClientId(&asked.id).write(raw);
    }
    if let Some(seconds) = asked.keep_alive {
        Property::ServerKeepAlive(seconds).write(raw);
    }
    if asked.wants_session {
        Property::SessionExpiry(0).write(raw);
    }
}

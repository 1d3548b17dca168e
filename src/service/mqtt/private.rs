//! Clients that cannot be shared: each has a session of its own with the broker, which `carry.rs` carries.
//!
//! ```text
//!   CONNECT that wants state,          CONNACK of the broker
//!   or enhanced authentication ──▶ Calling, Proving ──▶ Carried
//!   clean CONNECT ──▶ Connected ──▶ Moving ──────────────┘
//!                                   SUBSCRIBE, the first thing that it does, to what is not shared
//! ```
//!
//! The client's CONNECT is kept until it is known what the client is; nothing of it is kept of one that is shared. A
//! session that cannot be made, or is lost, ends its client: what it is about is at the broker. Only a client that was
//! let in already stays what it was where it cannot be moved.

use super::client::{Asked, Client, Owner, Stage, count};
use super::publish::stamped;
use super::{Beat, Mqtt, PRIVATE, SESSION};
use crate::mesh::{Cause, Identity, OffloadRefused, ServiceKind};
use crate::service::offload::{Callee, Holds, OffloadPlan, PrivateWhen, SessionId, Stage as Reached, any};
use crate::service::upstreams::Call;
use crate::shard::service::{Desk, Event};
use crate::shard::slab::Handle;
use edgehold_wire::mqtt::{
    self, ConnAck, Connect, Limits, Packet, Properties, Property, Read, Role, Scan, Subscribe, Version, topic,
};
use edgehold_wire::ws::CloseCode;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// Ticks for which a client may become private by its first SUBSCRIBE.
pub const LATER_TICKS: u32 = 20;

/// Ticks that a broker may take to answer CONNECT, at least.
const ANSWER_TICKS: u32 = 40;

/// Bytes of a packet of a broker before it has let the client in, at most.
const GREETING: Limits = Limits { packet_bytes: 64 << 10 };

/// What client identifiers of the edge begin with, at the broker; no client's own may.
const OURS: &str = "edgehold";

/// Whether a client is to have a session of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It never has.
    Never,
    /// Its first packets are to tell.
    Later,
    /// It takes up a session that it may have had, and wants none that lasts: one of its own, if there is room. That
    /// there is no session is an answer, too.
    Rather,
    /// It has.
    Now,
}

/// A CONNECT that may be said to the broker, as long as it is not known whether it is. There may be a password in it.
#[derive(Default)]
pub struct Kept(Vec<u8>);

/// A client's session with the broker.
pub struct Private {
    /// Whose; `None`: it has left.
    pub owner: Option<Owner>,
    /// The route that it is for.
    pub plan: Arc<OffloadPlan>,
    /// How far it has come.
    pub reached: Reached,
    /// Its connection.
    pub handle: Option<Handle>,
    call: Call,
    /// The tick by which the broker has let it in, or it is given up.
    answers_by: u32,
    /// What the broker is told first, until it was.
    connect: Kept,
    /// What CONNACK is to say; `None`: the client has had one.
    asked: Option<Asked>,
    /// By enhanced authentication, step by step (4.12).
    proves: bool,
    /// A packet that was cut, before the broker has let it in.
    rest: Vec<u8>,
    /// Where packets of the broker end.
    pub scan: Scan,
    /// Packets of the edge, which wait for the end of the broker's.
    pub between: Vec<u8>,
    /// Bytes of a packet that the broker takes.
    pub packet_max: u32,
    /// What may be under way.
    pub window: Window,
}

/// Messages of QoS 1 and 2 towards a broker that takes fewer of them at once than the client was told.
#[derive(Default)]
pub struct Window {
    /// So many; `None`: the client knows.
    pub most: Option<u16>,
    /// So many are under way.
    pub under_way: u16,
    /// What waits.
    pub held: VecDeque<Box<[u8]>>,
}

/// Why a client has no session: reason code of CONNACK, return code of 3.x, and words.
pub type Refusal = ((u8, u8), &'static str);

const NOBODY: Refusal = ((0x88, 3), "the broker does not answer");
const TOO_MANY: Refusal = ((0x97, 3), "as many clients as may have a session of their own with the broker");
const NO_NAME: Refusal = ((0x85, 2), "a client identifier that is too long, or the edge's own");

impl Kept {
    /// Of a client that may have a session of its own.
    pub fn of(plan: &OffloadPlan, connect: &Connect<'_>, asked: &Asked, keep_alive: u16) -> Option<Kept> {
        if asked.wish == Wish::Never {
            return None;
        }
        let (user, password) = if plan.private_as_client { (connect.user, connect.password) } else { (None, None) };
        let mut packet = Vec::new();
        mqtt::write_connect(&mut packet, &Connect { client_id: &asked.id, keep_alive, user, password, ..*connect });
        Some(Kept(packet))
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// As the broker is told it. `None`: no client may have this identifier there.
    fn exchanged(&self, plan: &OffloadPlan, client: Option<&Identity>) -> Option<Kept> {
        let limits = Limits { packet_bytes: u32::MAX };
        let Ok(Read::Packet { packet: Packet::Connect(connect), .. }) =
            mqtt::read(&self.0, &limits, None, Role::Server)
        else {
            return None;
        };
        let (client_id, mut raw) = (identifier(plan, client, connect.client_id)?, Vec::new());
        let mut exchanged = Connect { client_id: &client_id, ..connect };
        if let (Some(will), Some(stamp)) = (&mut exchanged.will, plan.stamp_of(client)) {
            stamped(&mut raw, will.properties.iter(), Some(stamp));
            will.properties = Properties::written(&raw);
        }
        if !plan.private_as_client {
            exchanged.user = plan.credentials.user.as_deref();
            exchanged.password = plan.credentials.password.as_ref().map(|it| it.reveal().as_bytes());
        }
        let mut packet = Vec::new();
        mqtt::write_connect(&mut packet, &exchanged);
        Some(Kept(packet))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

impl Wish {
    /// As CONNECT and its route say.
    pub fn of(plan: &OffloadPlan, connect: &Connect<'_>) -> Wish {
        let has = |is_it: fn(&Property<'_>) -> bool| connect.properties.iter().any(|it| is_it(&it));
        let lasts = has(|it| matches!(it, Property::SessionExpiry(seconds) if *seconds > 0));
        match plan.private_when {
            PrivateWhen::Never => Wish::Never,
            PrivateWhen::Needed if lasts || has(is_method) => Wish::Now,
            PrivateWhen::Needed if connect.clean_start => Wish::Later,
            PrivateWhen::Needed if connect.version == Version::V5 => Wish::Rather,
            PrivateWhen::Always | PrivateWhen::Needed => Wish::Now,
        }
    }
}

/// An authentication method (3.1.2.11.9).
pub fn is_method(property: &Property<'_>) -> bool {
    matches!(property, Property::AuthMethod(_))
}

/// An identifier for a client that says none: nobody can guess it, since who says it later is its user.
pub fn assigned(epoch: u32, count: u64) -> String {
    let random = || RandomState::new().hash_one((epoch, count));
    format!("auto-{:016x}{:016x}", random(), random())
}

/// The identifier of a client at the broker. All private clients log in as the edge, and a broker gives a session to
/// whoever says its identifier: so that of a user has the user in it, and no other's can be read as that.
fn identifier(plan: &OffloadPlan, client: Option<&Identity>, id: &str) -> Option<String> {
    let identifier = match client.filter(|_| !plan.private_as_client) {
        Some(client) => format!("{OURS}:{}:{}:{id}", client.name.len(), client.name),
        None if id.starts_with(OURS) || id.starts_with(&*plan.client_id) => return None,
        None => id.into(),
    };
    Some(identifier).filter(|it| u16::try_from(it.len()).is_ok())
}

impl Mqtt {
    // ---- who has one ----

    /// A client that CONNECT makes private is called for. `Some`: it is shared, and is to be answered.
    pub(super) fn privately(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, asked: Asked) -> Option<Asked> {
        let is_full = self.private >= self.plan_of(token).private_max as usize;
        let client = &mut self.peers.clients[token as usize];
        match asked.wish {
            Wish::Never | Wish::Later => return Some(asked),
            Wish::Rather if is_full => {
                client.busy().connect = None;
                return Some(asked);
            }
            Wish::Rather | Wish::Now => {}
        }
        client.stage = if asked.proves { Stage::Proving } else { Stage::Calling };
        // The broker has it.
        (client.busy().will, client.busy().least) = (None, 0);
        if client.stage == Stage::Calling {
            client.hold(desk, who, Holds::CALL);
        }
        if let Err(refusal) = self.call_privately(desk, token, Some(asked)) {
            let client = &mut self.peers.clients[token as usize];
            client.refuse(desk, who, refusal.0, refusal.1);
        }
        None
    }

    /// The first thing that a clean client does but ask for a sign of life. `true`: it moves to a session of its own,
    /// where its packet is said.
    pub(super) fn moves(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, packet: &Packet<'_>) -> bool {
        let client = &self.peers.clients[token as usize];
        let may = client.busy.as_ref().is_some_and(|busy| busy.connect.is_some()) && client.stage == Stage::Connected;
        if !may || *packet == Packet::PingReq {
            return false;
        }
        let is_own = matches!(packet, Packet::Subscribe(it) if self.is_own(desk, who, token, it));
        let moves = is_own && self.call_privately(desk, token, None).is_ok();
        let client = &mut self.peers.clients[token as usize];
        client.busy().connect = None;
        if moves {
            (client.stage, client.busy().least) = (Stage::Moving, 0);
            client.hold(desk, who, Holds::CALL);
        }
        moves
    }

    /// Whether a SUBSCRIBE is about something that is not shared.
    fn is_own(&self, desk: &Desk<'_>, who: Handle, token: u32, packet: &Subscribe<'_>) -> bool {
        let plan = self.plan_of(token);
        let client = desk.identity(who).map(|it| &**it);
        packet.filters.iter().any(|(filter, options)| {
            let is_group = topic::shared(filter).is_some();
            let is_shared = any(&plan.share, filter, client) && !any(&plan.private, filter, client);
            options.no_local || !is_group && !is_shared
        })
    }

    /// It is known what a client is, or it has had its time to say it.
    pub(super) fn settle_down(&mut self, desk: &mut Desk<'_>, owner: Owner) {
        let Some((_, client)) = self.owned(owner) else { return };
        let before = client.held();
        if client.busy.as_mut().and_then(|busy| busy.connect.take()).is_some() {
            client.tidy();
            self.count_held(desk, owner.token, before);
        }
    }

    // ---- the call ----

    fn call_privately(&mut self, desk: &mut Desk<'_>, token: u32, asked: Option<Asked>) -> Result<(), Refusal> {
        let plan = self.plan_of(token);
        if self.private >= plan.private_max as usize {
            return Err(TOO_MANY);
        }
        let owner = self.owner(token);
        let who = self.fanout.client(token).map(|it| it.who).ok_or(NOBODY)?;
        let client = &mut self.peers.clients[token as usize];
        let kept = client.busy().connect.take().ok_or(NOBODY)?;
        let connect = kept.exchanged(&plan, desk.identity(who).map(|it| &**it)).ok_or(NO_NAME)?;
        let id = self.privates.insert(Private::new(owner, plan, connect, asked));
        self.private += 1;
        if self.dial_privately(desk, id).is_err() {
            self.forget_private(id);
            return Err(NOBODY);
        }
        self.peers.clients[token as usize].busy().private = Some(id);
        Ok(())
    }

    fn dial_privately(&mut self, desk: &mut Desk<'_>, id: SessionId) -> Result<(), ()> {
        let now = desk.now();
        let Some(it) = self.privates.get_mut(id) else { return Err(()) };
        let plan = it.plan.clone();
        let to = Callee {
            upstreams: &plan.upstreams,
            connect_ticks: plan.connect_ticks,
            limits: plan.limits,
            service: ServiceKind::Mqtt,
        };
        let called = self.callers.call(desk, &mut it.call, &to, id.number | SESSION | PRIVATE);
        it.handle = Some(called.map_err(|_| ())?);
        let ticks = ANSWER_TICKS.max(2 * plan.connect_ticks);
        (it.reached, it.answers_by) = (Reached::Dialing, now + ticks);
        self.beats.set(now, ticks, Beat::Private(id));
        Ok(())
    }

    /// Something has happened to a session's connection.
    pub(super) fn private_event(&mut self, desk: &mut Desk<'_>, who: Handle, id: SessionId, event: &Event<'_>) {
        let Some(it) = self.privates.get_mut(id).filter(|it| it.handle == Some(who)) else { return };
        match *event {
            Event::Connected => it.greet(desk, who),
            Event::Bytes(bytes) if it.reached == Reached::Greeting => self.greeted(desk, id, bytes),
            Event::Bytes(bytes) => self.carry_down(desk, id, bytes),
            Event::Writable => self.read_on(desk, id),
            Event::Fin => {
                desk.end(who);
                self.private_lost(desk, id, "the broker has ended your session");
            }
            Event::Closed(_) => self.private_closed(desk, id),
            _ => {}
        }
    }

    /// A broker that takes the connection and does not answer is a broker that fails, unless it waits for its client.
    pub(super) fn look_at_private(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let now = desk.now();
        let Some(it) = self.privates.get_mut(id) else { return };
        if it.reached == Reached::Up || it.owner.is_none() || now < it.answers_by {
            return;
        }
        it.call.answered = it.proves;
        let handle = it.handle;
        self.private_lost(desk, id, NOBODY.1);
        if let Some(handle) = handle {
            desk.cut(handle, Cause::UpstreamLost);
        }
    }

    // ---- CONNACK ----

    /// What the broker says before it has let the client in.
    fn greeted(&mut self, desk: &mut Desk<'_>, id: SessionId, bytes: &[u8]) {
        let Some(it) = self.privates.get_mut(id) else { return };
        let Some(owner) = it.owner else { return };
        let mut rest = std::mem::take(&mut it.rest);
        rest.extend_from_slice(bytes);
        let version = self.peers.clients[owner.token as usize].version;
        match mqtt::read(&rest, &GREETING, Some(version), Role::Client) {
            Ok(Read::More { .. }) => it.rest = rest,
            Ok(Read::Packet { packet: Packet::ConnAck(connack), used }) => {
                self.answered_privately(desk, id, &connack, &rest[..used]);
                self.carry_down(desk, id, &rest[used..]);
            }
            Ok(Read::Packet { packet: Packet::Auth(_), used }) if it.proves => {
                if let Some((who, client)) = self.owned(owner) {
                    client.send(desk, who, &rest[..used]);
                }
                self.greeted(desk, id, &rest[used..]);
            }
            _ => self.break_off(desk, id, "the broker does not answer CONNECT as your version of MQTT says"),
        }
    }

    fn answered_privately(&mut self, desk: &mut Desk<'_>, id: SessionId, connack: &ConnAck<'_>, raw: &[u8]) {
        let Some(it) = self.privates.get_mut(id) else { return };
        let (Some(owner), is_early) = (it.owner, it.asked.is_some()) else { return };
        if connack.reason != 0 {
            if let Some((who, client)) = self.owned(owner).filter(|_| is_early) {
                count(desk, OffloadRefused::Broker);
                client.send(desk, who, raw);
                client.end(desk, who, CloseCode::POLICY_VIOLATION, "the broker refuses it", Cause::Protocol);
            }
            return self.break_off(desk, id, "the broker refuses it");
        }
        self.callers.answered(&mut it.call);
        it.reached = Reached::Up;
        it.take_terms(connack);
        match it.asked.take() {
            Some(asked) => self.let_in_privately(desk, owner, &asked, connack, raw),
            None => self.moved_over(desk, owner),
        }
        let Some((who, client)) = self.owned(owner) else { return };
        client.stage = Stage::Carried;
        client.release(desk, who, Holds::CALL);
        // What it has said behind CONNECT.
        self.receive(desk, who, owner.token, b"");
    }

    /// The client is told what the broker has said, but for what the edge has to say itself.
    fn let_in_privately(
        &mut self,
        desk: &mut Desk<'_>,
        owner: Owner,
        asked: &Asked,
        connack: &ConnAck<'_>,
        raw: &[u8],
    ) {
        let plan = self.plan_of(owner.token);
        let Some((who, _)) = self.owned(owner) else { return };
        self.take_over(desk, who, owner.token, &asked.id);
        let client = &mut self.peers.clients[owner.token as usize];
        if client.version != Version::V5 {
            client.send(desk, who, raw);
            return;
        }
        let (mut properties, mut out) = (Vec::new(), Vec::new());
        own_terms(&mut properties, asked, &plan, connack.properties);
        let properties = Properties::written(&properties);
        mqtt::write_connack(&mut out, client.version, &ConnAck { properties, ..*connack });
        client.send(desk, who, &out);
    }

    /// The broker has the will of a client that was let in before.
    fn moved_over(&mut self, desk: &mut Desk<'_>, owner: Owner) {
        let Some((_, client)) = self.owned(owner) else { return };
        let before = client.held();
        client.busy().will = None;
        self.count_held(desk, owner.token, before);
    }

    // ---- ends ----

    /// The broker has said something wrong, or no.
    pub(super) fn break_off(&mut self, desk: &mut Desk<'_>, id: SessionId, words: &str) {
        let handle = self.privates.get_mut(id).and_then(|it| it.handle);
        self.private_lost(desk, id, words);
        if let Some(handle) = handle {
            desk.resume(handle);
            desk.end(handle);
        }
    }

    /// The broker has no session for a client any more, or has none: it is told. One that was to be moved stays.
    fn private_lost(&mut self, desk: &mut Desk<'_>, id: SessionId, words: &str) {
        let Some(it) = self.privates.get_mut(id) else { return };
        it.window = Window::default();
        let Some(owner) = it.owner.take() else { return };
        let Some((who, client)) = self.owned(owner) else { return };
        let before = client.held();
        (client.busy().private, client.busy().held) = (None, 0);
        self.count_held(desk, owner.token, before);
        let client = &mut self.peers.clients[owner.token as usize];
        match client.stage {
            Stage::Calling | Stage::Proving => client.refuse(desk, who, (0x88, 3), words),
            Stage::Moving => {
                client.stage = Stage::Connected;
                client.release(desk, who, Holds::CALL);
                self.receive(desk, who, owner.token, b"");
            }
            // "Server busy": of the codes of a DISCONNECT the nearest one (3.14.2.1).
            _ => {
                count(desk, OffloadRefused::BrokerDown);
                client.disconnect(desk, who, 0x89, words, Cause::UpstreamLost);
            }
        }
    }

    fn private_closed(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let Some(it) = self.privates.get_mut(id) else { return };
        self.callers.closed(desk, &mut it.call);
        it.handle = None;
        let is_next = it.reached == Reached::Dialing && it.owner.is_some();
        if is_next && self.dial_privately(desk, id).is_ok() {
            return;
        }
        self.private_lost(desk, id, NOBODY.1);
        self.forget_private(id);
    }

    /// Its client has left: the broker publishes its will, unless it was told that the client has ended.
    pub(super) fn leave_private(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let Some(it) = self.privates.get_mut(id) else { return };
        (it.owner, it.window) = (None, Window::default());
        // That its client does not wait says nothing of the broker.
        it.call.answered |= it.reached == Reached::Dialing;
        match it.handle {
            Some(handle) => {
                desk.resume(handle);
                desk.end(handle);
            }
            None => self.forget_private(id),
        }
    }

    fn forget_private(&mut self, id: SessionId) {
        self.private -= usize::from(self.privates.remove(id).is_some());
    }
}

impl Private {
    fn new(owner: Owner, plan: Arc<OffloadPlan>, connect: Kept, asked: Option<Asked>) -> Private {
        Private {
            owner: Some(owner),
            plan,
            reached: Reached::Dialing,
            handle: None,
            call: Call::default(),
            answers_by: 0,
            connect,
            proves: asked.as_ref().is_some_and(|it| it.proves),
            asked,
            rest: Vec::new(),
            scan: Scan::default(),
            between: Vec::new(),
            packet_max: u32::MAX,
            window: Window::default(),
        }
    }

    /// The connection is there. Of what becomes of it from here on the client may be the cause, so that it says nothing
    /// of the broker.
    fn greet(&mut self, desk: &mut Desk<'_>, who: Handle) {
        (self.reached, self.call.answered) = (Reached::Greeting, true);
        desk.write(who, &std::mem::take(&mut self.connect).0);
    }

    /// What the broker takes, and the client was not told.
    fn take_terms(&mut self, connack: &ConnAck<'_>) {
        let is_late = self.asked.is_none();
        for property in connack.properties.iter() {
            match property {
                Property::MaximumPacketSize(most) => self.packet_max = most,
                Property::ReceiveMaximum(most) if is_late && most < self.plan.bounds.receive_max => {
                    self.window.most = Some(most);
                }
                _ => {}
            }
        }
    }
}

impl Client {
    /// Its session with the broker.
    pub fn private(&self) -> Option<SessionId> {
        self.busy.as_ref().and_then(|busy| busy.private)
    }
}

/// The properties of CONNACK: aliases are the edge's, which reads what the client says, and so is the length of a
/// packet, where the broker takes longer ones.
fn own_terms(raw: &mut Vec<u8>, asked: &Asked, plan: &OffloadPlan, theirs: Properties<'_>) {
    let (mut packet_max, mut keep_alive) = (plan.frame_bytes.min(u32::MAX as usize) as u32, asked.keep_alive);
    for property in theirs.iter() {
        match property {
            Property::TopicAliasMaximum(_) | Property::AssignedClientId(_) => {}
            Property::MaximumPacketSize(most) => packet_max = packet_max.min(most),
            Property::ServerKeepAlive(seconds) => keep_alive = Some(seconds),
            other => other.write(raw),
        }
    }
    Property::MaximumPacketSize(packet_max).write(raw);
    Property::TopicAliasMaximum(plan.bounds.topic_aliases_max).write(raw);
    keep_alive.into_iter().for_each(|seconds| Property::ServerKeepAlive(seconds).write(raw));
    if asked.is_assigned {
        Property::AssignedClientId(&asked.id).write(raw);
    }
}

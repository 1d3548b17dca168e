//! Which session carries what, and sessions that are made, lost and made again.
//!
//! An ERROR of a broker ends the session that has caused it, and with it what all its clients have. So a destination of
//! which the broker has not confirmed anything yet is sent to on the *trial* session first, with a receipt; a queue is
//! subscribed to over a shared session only where that cannot fail (`/queue/NAME`), else over a private one. While
//! something for a destination is under way on the trial, all for it goes there: a client's messages stay in order.

use super::client::{Busy, Owner, Told};
use super::session::{Lane, Outgoing, Purpose, Session, SessionId, Stage};
use super::{Beat, SESSION, Stomp};
use crate::mesh::{Cause, OffloadRefused, ServiceKind};
use crate::service::offload::{Callee, Holds, OffloadPlan, WhileDown, any};
use crate::shard::service::Desk;
use edgehold_wire::stomp::{self, Command, Version};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Destinations of a route that are remembered as proven; beyond, all are forgotten.
const PROVEN: usize = 65_536;

/// Where no client may have one more.
pub const TOO_MANY: &str = "too many clients have a session of their own";

/// What is known of destinations, by route.
#[derive(Default)]
pub struct Trials(HashMap<u16, Tried>);

/// What is known of the destinations of a route.
#[derive(Default)]
struct Tried {
    proven: HashSet<Box<str>>,
    /// How much is under way on the trial session for each.
    trying: HashMap<Box<str>, u32>,
}

/// Where something goes.
pub struct Route {
    /// The session.
    pub session: SessionId,
    /// It is a trial.
    pub trial: bool,
}

/// All sessions of their own that clients may have are taken.
pub struct TooMany;

impl Trials {
    fn needs(&self, route: u16, destination: &str) -> bool {
        let its = self.0.get(&route);
        its.is_none_or(|it| it.trying.contains_key(destination) || !it.proven.contains(destination))
    }

    pub(super) fn begin(&mut self, route: u16, destination: Box<str>) {
        *self.0.entry(route).or_default().trying.entry(destination).or_default() += 1;
    }

    fn end(&mut self, route: u16, destination: Box<str>, proven: bool) {
        let its = self.0.entry(route).or_default();
        if let Some(count) = its.trying.get_mut(&destination) {
            *count -= 1;
            if *count == 0 {
                its.trying.remove(&destination);
            }
        }
        if proven {
            if its.proven.len() >= PROVEN {
                its.proven.clear();
            }
            its.proven.insert(destination);
        }
    }
}

impl Session {
    /// The broker answers.
    pub fn is_up(&self) -> bool {
        self.stage == Stage::Up
    }

    /// Nothing more is taken for it, while the broker does not answer.
    pub(super) fn refuses(&self) -> bool {
        let is_away = matches!(self.stage, Stage::Down(_)) && self.attempts.has_failed();
        is_away && self.plan.while_down == WhileDown::Refuse && !self.is_private()
    }

    /// Whether the broker must confirm a frame for which its client wants no receipt: a trial is over when the broker
    /// has said something, and what waits for the broker, or may be what it ends sessions for, is known by its receipt.
    pub(super) fn must_confirm(&self, now: u32, command: Command, purpose: &Purpose) -> bool {
        let is_trial = matches!(purpose, Purpose::Send(Some(_)) | Purpose::Subscribe(_));
        is_trial || self.is_wary(now) || command == Command::Send && !self.is_up()
    }

    /// It has something to do.
    fn is_needed(&self) -> bool {
        self.is_private() || !self.subscriptions.is_empty() || !self.outgoing.is_empty()
    }
}

impl Stomp {
    // ---- which ----

    /// The shared session of a client: always the same, so that what it says stays in order.
    pub(super) fn shared_session(&mut self, plan: &Arc<OffloadPlan>, token: u32) -> SessionId {
        self.session_at(plan, (token % plan.connections.max(1)) as usize, Lane::Shared)
    }

    fn session_at(&mut self, plan: &Arc<OffloadPlan>, place: usize, lane: Lane) -> SessionId {
        let known = self.shared.get(&(plan.number, place)).copied();
        if let Some(id) = known.filter(|id| self.sessions.get_mut(*id).is_some()) {
            return id;
        }
        let id = self.sessions.insert(Session::new(plan.clone(), lane));
        self.shared.insert((plan.number, place), id);
        id
    }

    /// The session that carries a SEND.
    pub(super) fn route_of_send(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        plan: &Arc<OffloadPlan>,
        destination: &str,
        wants_reply: bool,
    ) -> Result<Route, TooMany> {
        let client = self.fanout.client(token).and_then(|it| desk.identity(it.who)).map(|it| &**it);
        if wants_reply || any(&plan.private, destination, client) {
            return self.private_session(desk, token, plan).map(|session| Route { session, trial: false });
        }
        if !self.trials.needs(plan.number, destination) {
            return Ok(Route { session: self.shared_session(plan, token), trial: false });
        }
        let place = plan.connections.max(1) as usize;
        Ok(Route { session: self.session_at(plan, place, Lane::Trial), trial: true })
    }

    /// Whether a destination in a transaction may be what the broker ends the session for: it knows nothing of it, and
    /// has ended the session within the last minute. A transaction cannot be tried elsewhere: that once in a minute.
    pub(super) fn is_risky(&mut self, now: u32, id: SessionId, destination: &str) -> bool {
        let Some(session) = self.sessions.get_mut(id) else { return false };
        let number = session.plan.number;
        session.lane == Lane::Shared && session.is_wary(now) && self.trials.needs(number, destination)
    }

    /// The client's own session, which is made when it is first needed.
    pub(super) fn private_session(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        plan: &Arc<OffloadPlan>,
    ) -> Result<SessionId, TooMany> {
        let owner = self.owner(token);
        let busy = self.peers.clients[token as usize].busy();
        if let Some(id) = busy.private {
            return Ok(id);
        }
        if self.private >= plan.private_max as usize {
            return Err(TooMany);
        }
        let mut session = Session::new(plan.clone(), Lane::Private(owner));
        session.login.clone_from(&busy.login);
        let id = self.sessions.insert(session);
        self.private += 1;
        self.peers.clients[token as usize].busy().private = Some(id);
        self.wake(desk, id);
        Ok(id)
    }

    // ---- up and down ----

    /// There is something for it: it is made, if it is not there and its time has come.
    pub(super) fn wake(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let (now, may_begin) = (desk.now(), self.may_begin(id));
        let Some(session) = self.sessions.get_mut(id) else { return };
        match session.stage {
            Stage::Down(at) if now >= at && may_begin && (self.present > 0 || !desk.is_draining()) => {
                self.dial(desk, id);
            }
            _ => {}
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
            service: ServiceKind::Stomp,
        };
        // What many clients need is there however many others have come.
        session.call.spare = !session.is_private();
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
    pub(super) fn look_in(&mut self, now: u32, ticks: u32, id: SessionId) {
        let session = self.sessions.get_mut(id);
        if let Some(ticks) = session.and_then(|session| session.attempts.look_in(now, ticks)) {
            self.beats.set(now, ticks, Beat::Session(id));
        }
    }

    /// Heart-beats of a session, and its next attempt.
    pub(super) fn look_at_session(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let (now, may_begin) = (desk.now(), self.may_begin(id));
        let Some(session) = self.sessions.get_mut(id) else { return };
        if !session.attempts.is_due(now) {
            return;
        }
        let (out, inn) = session.beats;
        match session.stage {
            Stage::Down(_) if !session.is_needed() => {}
            Stage::Down(_) if !may_begin => self.look_in(now, 1, id),
            Stage::Down(at) if now < at => self.look_in(now, at - now, id),
            Stage::Down(_) => self.wake(desk, id),
            Stage::Dialing | Stage::Greeting if now < session.answers_by => {
                let ticks = session.answers_by - now;
                self.look_in(now, ticks, id);
            }
            Stage::Dialing | Stage::Greeting => self.distrust(desk, id, "it does not answer CONNECT"),
            Stage::Up if session.retires.is_some() => self.look_at_retired(desk, id),
            Stage::Up if session.tainted => self.retire(desk, id),
            Stage::Up if inn > 0 && now.saturating_sub(session.heard) > 2 * inn + 4 => {
                self.distrust(desk, id, "its heart-beats have stopped");
            }
            Stage::Up => {
                if out > 0 && now.saturating_sub(session.spoke) >= out {
                    session.write(desk, b"\n");
                }
                let next = [out, inn].into_iter().filter(|it| *it > 0).min();
                if let Some(ticks) = next {
                    self.look_in(now, ticks, id);
                }
            }
        }
    }

    /// The broker breaks its protocol, or says nothing: the session ends.
    pub(super) fn distrust(&mut self, desk: &mut Desk<'_>, id: SessionId, words: &str) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        tracing::warn!(shard = desk.shard(), "a session with a STOMP broker is ended: {words}");
        if let Some(handle) = session.handle {
            desk.cut(handle, Cause::UpstreamLost);
        }
    }

    /// The connection is there: CONNECT.
    pub(super) fn greet(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let (plan, login) = (session.plan.clone(), session.login.clone());
        let beats = format!("{0},{0}", plan.heart_beat_millis);
        let user = login.as_ref().map(|it| &it.0).or(plan.credentials.user.as_ref());
        let password = login.as_ref().map(|it| &it.1).or(plan.credentials.password.as_ref());
        let mut headers = vec![("accept-version", "1.2"), ("heart-beat", &beats), ("host", &plan.credentials.host)];
        headers.extend(user.map(|user| ("login", &**user)));
        headers.extend(password.map(|password| ("passcode", password.reveal())));
        let mut frame = Vec::new();
        stomp::write(&mut frame, Version::V12, Command::Connect, &headers, b"");
        session.stage = Stage::Greeting;
        if let Some(handle) = session.handle {
            desk.write(handle, &frame);
        }
    }

    /// Its connection is gone.
    pub(super) fn session_closed(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let now = desk.now();
        let Some(session) = self.sessions.get_mut(id) else { return };
        self.callers.closed(desk, &mut session.call);
        (session.handle, session.rest, session.least) = (None, Vec::new(), 0);
        session.stage = Stage::Down(now);
        let (lane, bound) = (session.lane, session.take_bound());
        if let Lane::Private(owner) = lane {
            return self.private_lost(desk, id, owner);
        }
        session.unacknowledged = 0;
        session.leaving.clear();
        session.transactions = 0;
        let is_retired = session.retires.is_some();
        self.forget_pending(id);
        self.end_bound(desk, id, bound);
        if is_retired {
            return self.retired(desk, id);
        }
        if self.sessions.get_mut(id).is_some_and(|session| session.is_needed()) {
            self.wait(now, id);
        }
    }

    fn private_lost(&mut self, desk: &mut Desk<'_>, id: SessionId, owner: Owner) {
        self.sessions.remove(id);
        self.private -= 1;
        if let Some((who, client)) = self.owned(owner) {
            client.busy().private = None;
            client.fail(desk, who, &Told::new(OffloadRefused::BrokerDown, "your session with the broker has ended"));
        }
    }

    /// The broker will redeliver what was not acknowledged. A look at every client, for each session that is lost.
    pub(super) fn forget_pending(&mut self, id: SessionId) {
        let busy = self.peers.clients.iter_mut().filter_map(|client| client.busy.as_mut());
        for queue in busy.flat_map(|busy| busy.queues.iter_mut()) {
            queue.pending.retain(|it| it.session != id);
        }
    }

    /// Whoever was in a transaction is told that it is lost, and closed; what else is bound to the session is over.
    fn end_bound(&mut self, desk: &mut Desk<'_>, id: SessionId, bound: Vec<Outgoing>) {
        let in_transaction = |busy: &Busy| busy.transactions.iter().any(|it| it.1 == id);
        let clients = self.peers.clients.iter().enumerate();
        let begun = clients.filter(|(_, it)| it.busy.as_deref().is_some_and(in_transaction));
        let begun: Vec<Owner> =
            begun.map(|(token, it)| Owner { token: token as u32, generation: it.generation }).collect();
        for owner in begun.into_iter().chain(bound.into_iter().map(|it| it.owner)) {
            if let Some((who, client)) = self.owned(owner) {
                client.busy().transactions.retain(|it| it.1 != id);
                let words = "the broker has gone, and your transaction with it";
                client.fail(desk, who, &Told::new(OffloadRefused::BrokerDown, words));
            }
        }
    }

    /// What a client that has left had of sessions: its transactions and subscriptions are ended, its messages given
    /// back, those as well that it has acknowledged in a transaction.
    pub(super) fn give_up(&mut self, desk: &mut Desk<'_>, busy: Busy) {
        for (_, id, number) in busy.transactions {
            if let Some(session) = self.sessions.get_mut(id) {
                session.transactions = session.transactions.saturating_sub(1);
                session.tell(desk, Command::Abort, &[("transaction", &format!("x{number}"))]);
            }
        }
        for mut queue in busy.queues {
            queue.pending.iter_mut().for_each(|it| it.transaction = 0);
            self.leave_queue(desk, queue);
        }
        if let Some(id) = busy.private {
            self.end_private(desk, id);
        }
    }

    fn end_private(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.tell(desk, Command::Disconnect, &[]);
        let handle = session.handle;
        if let Some(handle) = handle {
            desk.end(handle);
        } else {
            self.sessions.remove(id);
            self.private -= 1;
        }
    }

    /// The server stops, and nobody is left whom they serve: what is unconfirmed of clients that have left has its
    /// time, as their connections had.
    pub(super) fn end_sessions(&mut self, desk: &mut Desk<'_>) {
        for id in self.sessions.all() {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            if !session.outgoing.is_empty() && session.is_up() {
                continue;
            }
            session.tell(desk, Command::Disconnect, &[]);
            session.stage = Stage::Down(u32::MAX);
            let handle = session.handle;
            if let Some(handle) = handle {
                desk.end(handle);
            } else if let Some(session) = self.sessions.remove(id) {
                self.private -= usize::from(session.is_private());
            }
        }
    }

    // ---- what is confirmed ----

    /// The broker has confirmed something of a client, or has refused it.
    pub(super) fn settle(
        &mut self,
        desk: &mut Desk<'_>,
        route: u16,
        outgoing: Outgoing,
        refused: Option<(&str, &[u8])>,
    ) {
        if let Purpose::Send(Some(destination)) = outgoing.purpose {
            self.trials.end(route, destination, refused.is_none());
        }
        let Some((who, client)) = self.owned(outgoing.owner) else { return };
        let receipt = outgoing.receipt.as_deref();
        if receipt.is_some() {
            let busy = client.busy();
            busy.receipts = busy.receipts.saturating_sub(1);
        }
        match refused {
            None => client.confirm(desk, who, receipt),
            Some((message, body)) => {
                client.fail(desk, who, &Told { why: OffloadRefused::Broker, message, receipt, body });
            }
        }
        client.tidy();
        self.leave_if_done(desk, outgoing.owner.token);
    }

    /// Who was held back is read again, if there is room.
    pub(super) fn release(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.pump(desk);
        for owner in session.take_paused(desk) {
            if let Some((who, client)) = self.owned(owner) {
                client.release(desk, who, Holds::SESSION);
            }
        }
    }
}

/// Why a header would make a broker end the session of all; `None`: it does not.
pub(super) fn harm(name: &str, value: &str) -> Option<&'static str> {
    let is_number = || !value.is_empty() && value.len() < 16 && value.bytes().all(|byte| byte.is_ascii_digit());
    match name {
        "expiration" | "expires" | "timestamp" if !is_number() => Some("this header takes milliseconds"),
        "priority" if !is_number() || value.len() > 1 => Some("priority takes a digit"),
        "persistent" if !matches!(value, "true" | "false") => Some("persistent takes true or false"),
        "user-id" => Some("user-id is not a client's to say"),
        _ => None,
    }
}

//! What brokers say over the sessions of this shard.

use super::Stomp;
use super::client::{Ack, Pending, Told};
use super::commands::write_as;
use super::give_back::TakesBack;
use super::session::{Lane, Outgoing, Purpose, SessionId, Stage};
use crate::mesh::OffloadRefused;
use crate::service::offload::Holds;
use crate::shard::clock::TICK;
use crate::shard::service::{Backpressure, Desk, Event};
use crate::shard::slab::Handle;
use edgehold_wire::stomp::{self, Command, Frame, HeartBeat};

impl Stomp {
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

    /// A frame of a broker.
    pub(super) fn broker_frame(&mut self, desk: &mut Desk<'_>, id: SessionId, frame: &Frame<'_>) {
        match frame.command {
            Command::Connected => self.let_in(desk, id, frame),
            Command::Receipt => self.receipt(desk, id, frame),
            Command::Message => self.message(desk, id, frame),
            Command::Error => self.broker_refuses(desk, id, frame),
            _ => self.distrust(desk, id, "it has sent a frame that is a client's"),
        }
    }

    fn let_in(&mut self, desk: &mut Desk<'_>, id: SessionId, frame: &Frame<'_>) {
        let now = desk.now();
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.stage != Stage::Greeting {
            return self.distrust(desk, id, "it has sent CONNECTED twice");
        }
        session.takes_back = TakesBack::of(&frame.get("server").unwrap_or_default());
        let beats = frame.get("heart-beat").and_then(|text| HeartBeat::parse(&text));
        let own = session.plan.heart_beat_millis;
        let ticks = |theirs: u32| if own == 0 || theirs == 0 { 0 } else { theirs.max(own) / TICK.as_millis() as u32 };
        session.beats = beats.map_or((0, 0), |it| (ticks(it.wants), ticks(it.can)));
        (session.stage, session.spoke, session.heard) = (Stage::Up, now, now);
        session.attempts.succeeded();
        self.callers.answered(&mut session.call);
        session.resume(desk);
        self.look_in(now, 1, id);
        self.release(desk, id);
    }

    fn receipt(&mut self, desk: &mut Desk<'_>, id: SessionId, frame: &Frame<'_>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let number = frame.get("receipt-id").and_then(|it| it.parse().ok()).unwrap_or(0);
        let route = session.plan.number;
        match session.confirmed(number) {
            Some(Outgoing { purpose: Purpose::Leave(number), .. }) => self.give_back(desk, id, number),
            Some(outgoing) => self.settle(desk, route, outgoing, None),
            None => {}
        }
        self.release(desk, id);
    }

    /// ERROR is the last frame of a session, but not of all brokers. Whose frame it is about is told; the others' are
    /// said again. One that names nothing is about what was under way, if that was one frame, and is sought else; where
    /// nothing waits to be confirmed, it is about a subscription that has ended.
    fn broker_refuses(&mut self, desk: &mut Desk<'_>, id: SessionId, frame: &Frame<'_>) {
        let message = frame.get("message").unwrap_or_default();
        let Some(session) = self.sessions.get_mut(id) else { return };
        let (lane, stage, route) = (session.lane, session.stage, session.plan.number);
        let named = frame.get("receipt-id").and_then(|it| it.parse().ok()).and_then(|it| session.confirmed(it));
        let culprit = named.or_else(|| (stage == Stage::Up).then(|| session.suspect(desk.now()))?);
        // Of a trial that is what it is for.
        if lane == Lane::Shared {
            tracing::warn!(shard = desk.shard(), "a STOMP broker has ended a session: {message}");
        }
        if let Lane::Private(owner) = lane
            && let Some((who, client)) = self.owned(owner)
        {
            let receipt = culprit.as_ref().and_then(|it| it.receipt.as_deref());
            let why = OffloadRefused::Broker;
            client.fail(desk, who, &Told { why, message: &message, receipt, body: frame.body });
        } else if let Some(culprit) = culprit {
            self.settle(desk, route, culprit, Some((&message, frame.body)));
        }
        let Some(session) = self.sessions.get_mut(id) else { return };
        if lane == Lane::Shared && stage == Stage::Up && session.outgoing.is_empty() {
            return self.taint(desk, id);
        }
        if let Some(handle) = session.handle {
            desk.end(handle);
        }
    }

    // ---- messages of queues ----

    fn message(&mut self, desk: &mut Desk<'_>, id: SessionId, frame: &Frame<'_>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let name = frame.get("subscription").unwrap_or_default();
        let number = name.strip_prefix('q').and_then(|it| it.parse::<u32>().ok());
        let its = number.and_then(|number| session.subscriptions.get(&number));
        match (its.map(|it| it.owner), session.lane, number) {
            (Some(owner), _, Some(number)) => {
                desk.counters().offload_queue_messages += 1;
                session.unacknowledged += 1;
                session.subscriptions.get_mut(&number).into_iter().for_each(|it| it.delivered = Some(desk.now()));
                self.deliver(desk, id, frame, (owner, number));
            }
            // A reply to a temporary queue: nobody has subscribed to it.
            (None, Lane::Private(owner), _) => {
                let Some((who, client)) = self.owned(owner) else { return };
                let headers: Vec<_> = frame.headers.iter().filter(|it| it.0 != "content-length").collect();
                let headers: Vec<(&str, &str)> = headers.iter().map(|it| (&*it.0, &*it.1)).collect();
                client.tell(desk, who, Command::Message, &headers, frame.body);
            }
            // Who has had this subscription has left.
            (.., Some(number)) if session.leaving.contains_key(&number) => {
                let ack = frame.get("ack").unwrap_or_default().as_ref().into();
                session.leaving.entry(number).or_default().push(ack);
            }
            _ => self.taint(desk, id),
        }
    }

    fn deliver(&mut self, desk: &mut Desk<'_>, id: SessionId, frame: &Frame<'_>, (owner, number): (super::Owner, u32)) {
        let Some((who, client)) = self.owned(owner) else { return };
        let version = client.version;
        let busy = client.busy();
        busy.delivered += 1;
        let delivered = busy.delivered;
        let Some(queue) = busy.queues.iter_mut().find(|it| it.session == id && it.number == number) else { return };
        let (ack, own_ack) = (frame.get("ack").unwrap_or_default(), format!("q{delivered}"));
        let is_own = |name: &str| matches!(name, "subscription" | "ack" | "content-length" | "receipt" | "transaction");
        let kept: Vec<_> = frame.headers.iter().filter(|it| !is_own(&it.0)).collect();
        let mut headers: Vec<(&str, &str)> = vec![("subscription", &queue.id)];
        if queue.ack != Ack::Auto && version == stomp::Version::V12 {
            headers.push(("ack", &own_ack));
        }
        headers.extend(kept.iter().map(|it| (&*it.0, &*it.1)));
        let mut out = Vec::with_capacity(frame.body.len() + 256);
        write_as(&mut out, frame, (version, &headers));
        let message_id = frame.get("message-id").unwrap_or_default().as_ref().into();
        let ack = ack.as_ref().into();
        queue.pending.push_back(Pending { session: id, number: delivered, message_id, ack, transaction: 0 });
        let is_auto = queue.ack == Ack::Auto;
        let room = client.send(desk, who, &out);
        if is_auto && room == Backpressure::Ready {
            self.acknowledge_sent(desk, owner);
        }
    }

    /// Of subscriptions whose client acknowledges nothing, what it was sent is acknowledged, when it has taken it.
    pub(super) fn acknowledge_sent(&mut self, desk: &mut Desk<'_>, owner: super::Owner) {
        let Some((_, client)) = self.owned(owner) else { return };
        let mut acks = Vec::new();
        for queue in client.busy().queues.iter_mut().filter(|it| it.ack == Ack::Auto) {
            acks.extend(queue.pending.drain(..).map(|it| (it.session, it.ack)));
        }
        for (id, ack) in acks {
            if let Some(session) = self.sessions.get_mut(id) {
                session.unacknowledged = session.unacknowledged.saturating_sub(1);
                session.acknowledge(desk, owner, Command::Ack, &[("id", &ack)]);
            }
        }
    }

    /// A client takes more again.
    pub(super) fn writable(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32) {
        let Some(client) = self.client(token) else { return };
        client.release(desk, who, Holds::OUTPUT);
        if client.busy.is_some() {
            let owner = self.owner(token);
            self.acknowledge_sent(desk, owner);
        }
    }
}

//! SUBSCRIBE, UNSUBSCRIBE, ACK and NACK.
//!
//! A shared destination is a cursor in the fan-out; what its client acknowledges of it concerns nobody. Any other is a
//! subscription of its own at the broker, over a shared session where that cannot fail, else over a private one; there
//! each message is acknowledged by itself, whatever the client has asked for: so `prefetch` holds for each.

use super::Stomp;
use super::client::{Ack, Owner, Pending, Queue, Told};
use super::deliver::{ACKNOWLEDGES, NAMELESS};
use super::session::{Outgoing, Purpose, SessionId, Subscription};
use crate::mesh::{OffloadRefused, TopicNews, TopicState};
use crate::service::offload::{OffloadPlan, Wanted, any, may};
use crate::shard::service::Desk;
use edgehold_wire::stomp::{self, Command, Frame, Version};
use std::collections::VecDeque;

const TOO_MANY: &str = "you have as many subscriptions as a client may have";

/// Headers of SUBSCRIBE that do not change what is subscribed to.
const PLAIN: [&str; 6] = ["id", "destination", "ack", "receipt", "content-length", "content-type"];

impl Stomp {
    pub(super) fn subscribe(&mut self, desk: &mut Desk<'_>, token: u32, frame: &Frame<'_>) {
        let plan = self.plan_of(token);
        let destination = frame.get("destination").unwrap_or_default();
        let (named, ack) = (frame.get("id"), ack_mode(frame.get("ack").as_deref()).unwrap_or(Ack::Auto));
        let id = named.as_deref().unwrap_or(&destination);
        if let Err((why, message)) = self.check_subscription(desk, token, (id, &destination), frame) {
            return self.refuse_as(desk, token, (why, message), frame);
        }
        let is_plain = frame.headers.iter().all(|(name, _)| PLAIN.contains(&&*name));
        let client = self.fanout.client(token).and_then(|it| desk.identity(it.who)).map(|it| &**it);
        let is_private = any(&plan.private, &destination, client);
        if is_plain && !is_private && any(&plan.share, &destination, client) {
            let nameless = if named.is_none() { NAMELESS } else { 0 };
            return self.share(desk, token, &plan, (id, &destination), (ack, nameless), frame);
        }
        let own = is_private || !is_plain || !is_safe(&destination);
        let session =
            if own { self.private_session(desk, token, &plan) } else { Ok(self.shared_session(&plan, token)) };
        match session {
            Ok(session) => self.consume(desk, token, session, (id, ack), frame),
            Err(_) => self.refuse_as(desk, token, (OffloadRefused::Limit, super::relay::TOO_MANY), frame),
        }
    }

    /// Whether a client may have a subscription.
    ///
    /// # Errors
    /// It may not, or the frame is no SUBSCRIBE: how that is counted, and words for the client.
    fn check_subscription(
        &self,
        desk: &Desk<'_>,
        token: u32,
        (id, destination): (&str, &str),
        frame: &Frame<'_>,
    ) -> Result<(), (OffloadRefused, &'static str)> {
        let plan = self.plan_of(token);
        let client = self.fanout.client(token).and_then(|it| desk.identity(it.who)).map(|it| &**it);
        let is_old = self.peers.clients[token as usize].version == Version::V10;
        let wrong = |words| Err((OffloadRefused::Frame, words));
        if destination.is_empty() {
            wrong("SUBSCRIBE needs a destination")
        } else if frame.get("id").is_none() && !is_old {
            wrong("SUBSCRIBE needs an id")
        } else if ack_mode(frame.get("ack").as_deref()).is_none() {
            wrong("ack is auto, client or client-individual")
        } else if !may(&plan.rules, destination, client, false) {
            Err((OffloadRefused::Forbidden, "you may not subscribe to this destination"))
        } else if self.has_subscription(token, id) {
            wrong("you have a subscription of this id")
        } else if self.subscriptions(token) >= plan.subscriptions_max as usize {
            Err((OffloadRefused::Limit, TOO_MANY))
        } else {
            Ok(())
        }
    }

    /// Shares the subscription of the whole edge.
    fn share(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        plan: &OffloadPlan,
        (id, destination): (&str, &str),
        (ack, nameless): (Ack, u32),
        frame: &Frame<'_>,
    ) {
        let acknowledges = if ack == Ack::Auto { 0 } else { ACKNOWLEDGES };
        let tag = self.peers.ids.enter(id) | acknowledges | nameless;
        self.fanout.subscribe_tagged(desk, token, destination, tag);
        if ack != Ack::Auto
            && let Some(client) = self.fanout.client_mut(token)
        {
            client.traits.insert(crate::service::fanout::Traits::RELIABLE);
        }
        let waiter = Some(self.owner(token).to_word());
        let receipt = frame.get("receipt");
        match self.topics.want(desk, (plan.feed, destination), waiter) {
            Wanted::Confirmed(_) => self.confirm(desk, token, receipt.as_deref()),
            Wanted::Waits => {
                let waits = (destination.into(), receipt.map(|it| it.as_ref().into()));
                self.peers.clients[token as usize].busy().unconfirmed.push(waits);
            }
        }
    }

    /// Subscribes to a destination for one client.
    fn consume(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        session: SessionId,
        (id, ack): (&str, Ack),
        frame: &Frame<'_>,
    ) {
        let owner = self.owner(token);
        let Some(its) = self.sessions.get_mut(session) else { return };
        its.last_subscription += 1;
        let number = its.last_subscription;
        let bytes = subscribe_frame(frame, number, 0, its.plan.prefetch);
        its.subscriptions.insert(number, Subscription { owner, delivered: None, frame: bytes.into() });
        let queue = Queue { id: id.into(), session, number, ack, pending: VecDeque::new() };
        let receipt: Option<Box<str>> = frame.get("receipt").map(|it| it.as_ref().into());
        let receipts = u32::from(receipt.is_some());
        let receipt_number = its.next_receipt();
        let first = subscribe_frame(frame, number, receipt_number, its.plan.prefetch);
        let purpose = Purpose::Subscribe(number);
        let frame = first.into();
        its.submit(desk, Outgoing { number: receipt_number, owner, receipt, purpose, frame, is_suspected: false });
        let busy = self.peers.clients[token as usize].busy();
        busy.queues.push(queue);
        busy.receipts += receipts;
        self.wake(desk, session);
    }

    // ---- what there is ----

    fn has_subscription(&self, token: u32, id: &str) -> bool {
        let number = self.peers.ids.find(id);
        let shared =
            number.is_some_and(|id| self.fanout.tagged(token).any(|it| it.1 & !(ACKNOWLEDGES | NAMELESS) == id));
        let busy = self.peers.clients[token as usize].busy.as_ref();
        shared || busy.is_some_and(|busy| busy.queues.iter().any(|it| *it.id == *id))
    }

    fn subscriptions(&self, token: u32) -> usize {
        let shared = self.fanout.client(token).map_or(0, |it| it.count as usize);
        shared + self.peers.clients[token as usize].busy.as_ref().map_or(0, |busy| busy.queues.len())
    }

    /// The news of a topic: who waits for them is told.
    pub(super) fn heed(&mut self, desk: &mut Desk<'_>, news: &TopicNews) {
        if news.state == TopicState::Ended {
            self.fanout.forget(news.feed, &news.topic);
        }
        for word in self.topics.news(news) {
            let owner = Owner::of_word(word);
            let Some((who, client)) = self.owned(owner) else { continue };
            let Some(busy) = client.busy.as_mut() else { continue };
            let Some(at) = busy.unconfirmed.iter().position(|it| *it.0 == *news.topic) else { continue };
            let (_, receipt) = busy.unconfirmed.remove(at);
            match &news.state {
                TopicState::Refused(_, message) => {
                    let (why, receipt) = (OffloadRefused::Broker, receipt.as_deref());
                    client.fail(desk, who, &Told { why, message, receipt, body: b"" });
                }
                _ => client.confirm(desk, who, receipt.as_deref()),
            }
            client.tidy();
        }
    }

    // ---- ends ----

    pub(super) fn unsubscribe(&mut self, desk: &mut Desk<'_>, token: u32, frame: &Frame<'_>) {
        let id = frame.get("id").or_else(|| frame.get("destination")).unwrap_or_default();
        let number = self.peers.ids.find(&id);
        let is_it = |tag: u32| Some(tag & !(ACKNOWLEDGES | NAMELESS)) == number;
        let shared = self.fanout.tagged(token).find(|it| is_it(it.1)).map(|it| (it.0, it.1, String::from(it.2)));
        if let Some((subscription, tag, destination)) = shared {
            self.fanout.unsubscribe(desk, subscription);
            self.leave_topic(desk, token, tag, &destination);
            return self.confirm(desk, token, frame.get("receipt").as_deref());
        }
        let busy = self.peers.clients[token as usize].busy();
        let Some(at) = busy.queues.iter().position(|it| *it.id == *id) else {
            return self.refuse(desk, token, "there is no subscription of this id", frame);
        };
        let queue = busy.queues.remove(at);
        self.give_up(desk, super::client::Busy { queues: vec![queue], ..Default::default() });
        self.confirm(desk, token, frame.get("receipt").as_deref());
    }

    fn leave_topic(&mut self, desk: &mut Desk<'_>, token: u32, tag: u32, destination: &str) {
        let feed = self.plan_of(token).feed;
        self.topics.leave(desk, (feed, destination));
        self.peers.ids.leave(tag & !(ACKNOWLEDGES | NAMELESS));
    }

    /// The client has left.
    pub(super) fn leave_topics(&mut self, desk: &mut Desk<'_>, token: u32) {
        let all: Vec<(u32, String)> = self.fanout.tagged(token).map(|it| (it.1, it.2.into())).collect();
        all.into_iter().for_each(|(tag, destination)| self.leave_topic(desk, token, tag, &destination));
    }

    // ---- ACK and NACK ----

    pub(super) fn acknowledge(&mut self, desk: &mut Desk<'_>, token: u32, frame: &Frame<'_>) {
        let transaction = match self.transaction_of(token, frame) {
            Ok(transaction) => transaction.map_or(0, |it| it.1),
            Err(words) => return self.refuse(desk, token, words, frame),
        };
        let client = &mut self.peers.clients[token as usize];
        let is_new = client.version == Version::V12;
        let Some(name) = frame.get(if is_new { "id" } else { "message-id" }) else {
            return self.refuse(desk, token, "this frame does not name a message", frame);
        };
        if is_new && !was_given(&name, client.busy().delivered) {
            return self.refuse(desk, token, "you were sent no message of this id", frame);
        }
        let client = &mut self.peers.clients[token as usize];
        let found = take_acknowledged(client.busy().queues.iter_mut(), &name, (is_new, transaction));
        client.tidy();
        let owner = self.owner(token);
        let name = format!("x{transaction}");
        // Of a shared topic the broker knows nothing; what is of a session that was lost will come again.
        for (id, ack) in found {
            let Some(session) = self.sessions.get_mut(id) else { continue };
            let mut headers = vec![("id", &*ack)];
            headers.extend((transaction > 0).then_some(("transaction", &*name)));
            session.acknowledge(desk, owner, frame.command, &headers);
            session.unacknowledged = session.unacknowledged.saturating_sub(u32::from(transaction == 0));
        }
        self.confirm(desk, token, frame.get("receipt").as_deref());
    }

    /// A transaction of the client has ended: what was acknowledged in it is so from now on, or is not.
    pub(super) fn settle_transaction(&mut self, token: u32, (id, number): (SessionId, u64), is_committed: bool) {
        let busy = self.peers.clients[token as usize].busy();
        let mut acknowledged = 0;
        for queue in &mut busy.queues {
            let before = queue.pending.len();
            queue.pending.retain(|it| !is_committed || it.transaction != number);
            acknowledged += (before - queue.pending.len()) as u32;
            let open = queue.pending.iter_mut().filter(|it| it.transaction == number);
            open.for_each(|it| it.transaction = 0);
        }
        let session = self.sessions.get_mut(id).into_iter();
        session.for_each(|it| it.unacknowledged = it.unacknowledged.saturating_sub(acknowledged));
    }
}

/// Whether an id may be one that a client was given: `tN` for a message of a shared destination, `qN` for one of its
/// own.
fn was_given(name: &str, delivered: u64) -> bool {
    let number = |prefix: char| name.strip_prefix(prefix).and_then(|it| it.parse::<u64>().ok());
    number('t').is_some() || number('q').is_some_and(|number| (1..=delivered).contains(&number))
}

/// Finds the message that a client names, and with `client` all before it, among what is pending; of what session each
/// is, and what the broker wants it acknowledged by. Outside of transactions they are not pending any more; in one they
/// are until it is committed, lest they be lost to all where it is not. What is acknowledged in an open one is not
/// again.
fn take_acknowledged<'q>(
    queues: impl Iterator<Item = &'q mut Queue>,
    name: &str,
    (by_number, transaction): (bool, u64),
) -> Vec<(SessionId, Box<str>)> {
    let number = name.strip_prefix('q').and_then(|it| it.parse::<u64>().ok());
    let is_it = |it: &Pending| if by_number { Some(it.number) == number } else { *it.message_id == *name };
    for queue in queues {
        let Some(at) = queue.pending.iter().position(is_it) else { continue };
        let from = if queue.ack == Ack::Client { 0 } else { at };
        let (mut found, mut open) = (Vec::new(), VecDeque::new());
        for mut pending in queue.pending.drain(from..=at) {
            if pending.transaction == 0 {
                found.push((pending.session, pending.ack.clone()));
                pending.transaction = transaction;
            }
            open.extend((pending.transaction > 0).then_some(pending));
        }
        let behind = queue.pending.split_off(from);
        queue.pending.extend(open.into_iter().chain(behind));
        return found;
    }
    Vec::new()
}

fn ack_mode(text: Option<&str>) -> Option<Ack> {
    match text {
        None | Some("auto") => Some(Ack::Auto),
        Some("client") => Some(Ack::Client),
        Some("client-individual") => Some(Ack::Individual),
        Some(_) => None,
    }
}

/// A queue that brokers make where it is missing: subscribing to it does not end a session.
fn is_safe(destination: &str) -> bool {
    let name = destination.strip_prefix("/queue/");
    name.is_some_and(|name| !name.is_empty() && !name.contains(['/', '?', '*', '>', ',']))
}

/// A client's SUBSCRIBE as a session says it.
fn subscribe_frame(frame: &Frame<'_>, number: u32, receipt: u64, prefetch: u32) -> Vec<u8> {
    let own = |name: &str| matches!(name, "id" | "ack" | "receipt" | "prefetch-count" | "content-length");
    let kept: Vec<_> = frame.headers.iter().filter(|(name, _)| !own(name)).collect();
    let (id, receipt, prefetch) = (format!("q{number}"), receipt.to_string(), prefetch.to_string());
    let mut headers: Vec<(&str, &str)> = vec![
        ("id", &id),
        ("ack", "client-individual"),
        ("prefetch-count", &prefetch),
        ("activemq.prefetchSize", &prefetch),
    ];
    if receipt != "0" {
        headers.push(("receipt", &receipt));
    }
    headers.extend(kept.iter().map(|(name, value)| (&**name, &**value)));
    let mut out = Vec::with_capacity(256);
    stomp::write(&mut out, Version::V12, Command::Subscribe, &headers, b"");
    out
}

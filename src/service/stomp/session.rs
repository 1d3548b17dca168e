//! A session of this shard with a broker: what many clients publish and take from queues, or what one client has for
//! itself.
//!
//! Whatever the broker is to confirm stands in `outgoing` until its receipt has come, in the order in which it was
//! said. A session that is lost is made again: queue subscriptions first, then what is in `outgoing`. What was in a
//! transaction went with the session that was lost.

use super::client::Owner;
use super::give_back::TakesBack;
use crate::service::offload::{Attempts, OffloadPlan};
pub use crate::service::offload::{SessionId, Stage, Submitted};
use crate::service::upstreams::Call;
use crate::shard::service::{Backpressure, Desk};
use crate::shard::slab::Handle;
use edgehold_wire::stomp::{self, Command, Until, Version};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Ticks for which all that is published is to be confirmed, after a broker has ended the session.
const WARY_TICKS: u32 = 240;

/// Whom a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Many clients.
    Shared,
    /// Many clients, for destinations that the broker has not confirmed anything of yet: an ERROR ends the session, and
    /// must not end what others have.
    Trial,
    /// One client.
    Private(Owner),
}

/// A session with a broker.
pub struct Session {
    /// The route that it is for.
    pub plan: Arc<OffloadPlan>,
    /// Whom it is for.
    pub lane: Lane,
    /// How far it has come.
    pub stage: Stage,
    /// When it is looked at, and tried again.
    pub attempts: Attempts,
    /// The tick by which the broker has let it in, or it is given up.
    pub answers_by: u32,
    /// The search for an address.
    pub call: Call,
    /// Its connection.
    pub handle: Option<Handle>,
    /// As whom it logs in; `None`: as the edge.
    pub login: Option<(Box<str>, crate::mesh::Secret)>,
    /// A frame that was cut.
    pub rest: Vec<u8>,
    /// Bytes that it needs at least.
    pub least: usize,
    /// What must come, too.
    pub until: Until,
    /// Queue subscriptions by their numbers. A number is used once: what was on its way to one that has ended is nobody
    /// else's.
    pub subscriptions: BTreeMap<u32, Subscription>,
    /// The last number of a subscription.
    pub last_subscription: u32,
    /// What the broker has not confirmed, or was not sent yet.
    pub outgoing: VecDeque<Outgoing>,
    /// So many of it were said.
    pub sent: usize,
    /// So many may be said and not confirmed: fewer, while one of them is sought for which the broker ends the session.
    pub window: usize,
    /// Until this tick whatever is published is to be confirmed, so that it is known for what the broker ends the
    /// session.
    pub wary_until: u32,
    /// Bytes of `outgoing`.
    pub outgoing_bytes: usize,
    /// The last number that a receipt was asked for by.
    pub receipts: u64,
    /// How the broker takes messages back.
    pub takes_back: TakesBack,
    /// Subscriptions that end, by their numbers: what is to be given back of each.
    pub leaving: BTreeMap<u32, Vec<Box<str>>>,
    /// Messages that its clients have taken and not acknowledged.
    pub unacknowledged: u32,
    /// Transactions of its clients that are open.
    pub transactions: u32,
    /// What was taken by a client that has left is to be given back.
    pub tainted: bool,
    /// It is retired: the tick until which its clients may still acknowledge.
    pub retires: Option<u32>,
    /// The session that takes its place.
    pub successor: Option<SessionId>,
    /// The session whose place it takes, as long as that has something to be confirmed.
    pub after: Option<SessionId>,
    /// Clients that are not read until there is room.
    pub paused: Vec<Owner>,
    /// Ticks in which the broker is to be sent something, and in which it sends something; zero: no promise.
    pub beats: (u32, u32),
    /// The ticks in which it was last sent something, and has last said something.
    pub spoke: u32,
    /// As above.
    pub heard: u32,
}

/// A queue subscription of a client, as the broker knows it.
pub struct Subscription {
    /// Whose.
    pub owner: Owner,
    /// The tick of its last delivery.
    pub delivered: Option<u32>,
    /// Its SUBSCRIBE frame.
    pub frame: Box<[u8]>,
}

/// What is the broker's to confirm.
pub struct Outgoing {
    /// The number of its receipt; zero: it has none, and is here because it was not sent yet.
    pub number: u64,
    /// Who has said it.
    pub owner: Owner,
    /// The client's receipt for it.
    pub receipt: Option<Box<str>>,
    /// What it is.
    pub purpose: Purpose,
    /// The frame.
    pub frame: Box<[u8]>,
    /// The broker has ended a session when this was alone under way, and may have done so for something else.
    pub is_suspected: bool,
}

impl Outgoing {
    /// What is kept of it.
    pub fn bytes(&self) -> usize {
        self.frame.len() + self.receipt.as_ref().map_or(0, |receipt| receipt.len())
    }
}

/// What is to be confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A message, outside of transactions; at a trial, its destination.
    Send(Option<Box<str>>),
    /// The subscription of this number, which is made again by itself.
    Subscribe(u32),
    /// The end of the subscription of this number.
    Leave(u32),
    /// Nothing but that all before it has been read.
    Barrier,
    /// What means nothing to another session: of a transaction, or about a subscription.
    Bound,
    /// An acknowledgement, which means nothing to another session either; but there its message comes again, and nobody
    /// has lost anything.
    Acknowledgement,
}

impl Session {
    /// One that is to be made now.
    pub fn new(plan: Arc<OffloadPlan>, lane: Lane) -> Session {
        Session {
            plan,
            lane,
            stage: Stage::Down(0),
            attempts: Attempts::default(),
            answers_by: 0,
            call: Call::default(),
            handle: None,
            login: None,
            rest: Vec::new(),
            least: 0,
            until: Until::Any,
            subscriptions: BTreeMap::new(),
            last_subscription: 0,
            outgoing: VecDeque::new(),
            sent: 0,
            window: usize::MAX,
            wary_until: 0,
            outgoing_bytes: 0,
            receipts: 0,
            takes_back: TakesBack::WithTheSession,
            leaving: BTreeMap::new(),
            unacknowledged: 0,
            transactions: 0,
            tainted: false,
            retires: None,
            successor: None,
            after: None,
            paused: Vec::new(),
            beats: (0, 0),
            spoke: 0,
            heard: 0,
        }
    }

    /// It serves one client.
    pub fn is_private(&self) -> bool {
        matches!(self.lane, Lane::Private(_))
    }

    /// The number of the next receipt.
    pub fn next_receipt(&mut self) -> u64 {
        self.receipts += 1;
        self.receipts
    }

    /// Sends a frame that nobody has to confirm and that means nothing to a later session; lost where there is none.
    pub fn write(&mut self, desk: &mut Desk<'_>, frame: &[u8]) -> Submitted {
        let Some(handle) = self.handle.filter(|_| self.stage == Stage::Up) else { return Submitted::Taken };
        self.spoke = desk.now();
        if desk.write(handle, frame) == Backpressure::Full { Submitted::Full } else { Submitted::Taken }
    }

    /// As [`Session::write`], of a frame that is made for it.
    pub fn tell(&mut self, desk: &mut Desk<'_>, command: Command, headers: &[(&str, &str)]) -> Submitted {
        let mut frame = Vec::with_capacity(128);
        stomp::write(&mut frame, Version::V12, command, headers, b"");
        self.write(desk, &frame)
    }

    /// Sends it, or keeps it until it can be sent; keeps it until it is confirmed.
    pub fn submit(&mut self, desk: &mut Desk<'_>, outgoing: Outgoing) -> Submitted {
        self.outgoing_bytes += outgoing.bytes();
        self.outgoing.push_back(outgoing);
        let written = self.pump(desk);
        let is_full = self.outgoing_bytes > self.plan.unconfirmed_bytes;
        if is_full { Submitted::Full } else { written }
    }

    /// Sends a frame that has no receipt, where nothing is in front of it. `None`: it is to be submitted.
    pub fn pass(&mut self, desk: &mut Desk<'_>, number: u64, frame: &[u8]) -> Option<Submitted> {
        let is_next = self.is_up() && self.sent == self.outgoing.len() && self.sent < self.window;
        let has_room = self.outgoing_bytes <= self.plan.unconfirmed_bytes;
        (number == 0 && is_next && has_room).then(|| self.write(desk, frame))
    }

    /// Says what was not said yet, as far as the window goes.
    pub fn pump(&mut self, desk: &mut Desk<'_>) -> Submitted {
        let mut written = Submitted::Taken;
        while self.is_up() && self.sent < self.outgoing.len().min(self.window) {
            let frame = std::mem::take(&mut self.outgoing[self.sent].frame);
            written = self.write(desk, &frame);
            self.outgoing[self.sent].frame = frame;
            if self.outgoing[self.sent].number > 0 {
                self.sent += 1;
            } else {
                self.take(self.sent);
            }
        }
        written
    }

    fn take(&mut self, place: usize) -> Option<Outgoing> {
        let outgoing = self.outgoing.remove(place)?;
        self.outgoing_bytes -= outgoing.bytes();
        Some(outgoing)
    }

    /// Takes what the broker has confirmed, or has refused by its number. The window opens as what is in it is
    /// confirmed.
    pub fn confirmed(&mut self, number: u64) -> Option<Outgoing> {
        let place = self.outgoing.iter().take(self.sent).position(|it| it.number == number)?;
        self.sent -= 1;
        let outgoing = self.take(place);
        if self.sent == 0 {
            self.window = if self.outgoing.is_empty() { usize::MAX } else { self.window.saturating_mul(2) };
        }
        outgoing
    }

    /// The broker ends the session for something that it does not name: what that must be, if it is known. Else the
    /// window closes, and it is sought: of what is said one at a time, the broker ends the session for one.
    pub fn suspect(&mut self, now: u32) -> Option<Outgoing> {
        // Of a trial all is to be confirmed, always.
        let is_exact = self.is_wary(now) || self.lane == Lane::Trial;
        self.wary_until = now + WARY_TICKS;
        if is_exact && self.sent == 1 {
            // A broker may have lost patience with somebody who does not acknowledge: for that nothing is under way.
            let was_suspected = std::mem::replace(&mut self.outgoing[0].is_suspected, true);
            if was_suspected || self.unacknowledged == 0 {
                return self.confirmed(self.outgoing[0].number);
            }
        }
        if self.sent > 0 {
            self.window = 1;
        }
        None
    }

    /// Whether what is published now must be confirmed, whether its client has asked for that or not.
    pub fn is_wary(&self, now: u32) -> bool {
        now < self.wary_until
    }

    /// ACK or NACK. Where the broker has ended the session lately it is to be confirmed, so that a frame that is said
    /// at the same time is not taken for what the broker ends the session for.
    pub fn acknowledge(&mut self, desk: &mut Desk<'_>, owner: Owner, command: Command, headers: &[(&str, &str)]) {
        if !self.is_wary(desk.now()) || !self.is_up() {
            self.tell(desk, command, headers);
            return;
        }
        let number = self.next_receipt();
        let text = number.to_string();
        let headers: Vec<_> = headers.iter().copied().chain([("receipt", text.as_str())]).collect();
        let mut frame = Vec::with_capacity(128);
        stomp::write(&mut frame, Version::V12, command, &headers, b"");
        let (purpose, frame) = (Purpose::Acknowledgement, frame.into());
        self.submit(desk, Outgoing { number, owner, receipt: None, purpose, frame, is_suspected: false });
    }

    /// Takes those who are not read, if there is room again.
    pub fn take_paused(&mut self, desk: &Desk<'_>) -> Vec<Owner> {
        let has_room = self.outgoing_bytes <= self.plan.unconfirmed_bytes / 2
            && self.handle.is_none_or(|handle| desk.backpressure_of(handle) != Backpressure::Full);
        if has_room { std::mem::take(&mut self.paused) } else { Vec::new() }
    }

    /// The session is there again: subscriptions that it had, then all that was not confirmed, in its order.
    pub fn resume(&mut self, desk: &mut Desk<'_>) {
        let mut frames: Vec<u8> = Vec::new();
        let subscriptions = &self.subscriptions;
        // Whoever has wanted it may have left since.
        let is_over = |it: &Outgoing| matches!(it.purpose, Purpose::Subscribe(at) if !subscriptions.contains_key(&at));
        self.outgoing.retain(|it| !is_over(it));
        let is_new = |number: u32| self.outgoing.iter().any(|it| it.purpose == Purpose::Subscribe(number));
        let known = self.subscriptions.iter().filter(|it| !is_new(*it.0));
        known.for_each(|it| frames.extend_from_slice(&it.1.frame));
        self.write(desk, &frames);
        self.outgoing_bytes = self.outgoing.iter().map(Outgoing::bytes).sum();
        self.pump(desk);
    }

    /// The session was lost: takes out what cannot be said again, and returns that of it that somebody is to be told
    /// of.
    pub fn take_bound(&mut self) -> Vec<Outgoing> {
        let is_said_again = |it: &Outgoing| matches!(it.purpose, Purpose::Send(_) | Purpose::Subscribe(_));
        let all = std::mem::take(&mut self.outgoing).into_iter();
        let (kept, mut bound): (Vec<Outgoing>, Vec<Outgoing>) = all.partition(is_said_again);
        bound.retain(|it| it.purpose != Purpose::Acknowledgement);
        (self.outgoing, self.sent) = (kept.into(), 0);
        self.outgoing_bytes = self.outgoing.iter().map(Outgoing::bytes).sum();
        bound
    }
}

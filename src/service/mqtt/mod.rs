//! MQTT 3.1, 3.1.1 and 5: many clients, a handful of sessions with a broker.
//!
//! | file | what |
//! |---|---|
//! | `mod` | what the shard's events become |
//! | `receive` | bytes to packets, on both sides |
//! | `connect` | CONNECT, who a client is, keep alive, wills, ends |
//! | `publish` | PUBLISH and acknowledgements of clients |
//! | `subscribe` | SUBSCRIBE, UNSUBSCRIBE |
//! | `relay` | sessions made again, and what brokers say |
//! | `deliver` | messages of shared filters |
//! | `groups` | `$share`: messages of which each is for one of several clients |
//! | `kept` | retained messages |
//! | `private`, `carry` | clients that have a session of their own |
//! | `missed` | clients that may have missed something |
//! | `client`, `session`, `names` | what is remembered |
//!
//! A client's token is that of the fan-out; that of a session's connection has its highest bit set, and the next one
//! where it is one client's own.

mod carry;
mod client;
mod connect;
mod deliver;
mod groups;
mod kept;
mod missed;
mod names;
mod private;
mod publish;
mod receive;
mod relay;
mod session;
mod subscribe;

use super::fanout::{Due, Fanout};
use super::offload::{Beats, Callers, Held, OffloadPlan, OffloadSettings, Sessions, Topics};
use super::{Admits, Request, Service};
use crate::mesh::{Cause, Message, Missed, OffloadKind, OffloadRefused, ServiceKind, ToShard, TopicNews};
use crate::shard::service::{Batch, Desk, Event, Verdict};
use crate::shard::slab::Handle;
use client::{Client, Owner, Transport};
use deliver::Peers;
use edgehold_wire::upgrade;
use edgehold_wire::ws::CloseCode;
use kept::Kept;
use missed::Untold;
use names::Names;
use private::Private;
use session::{Session, SessionId};
use std::collections::{HashMap, VecDeque};
use std::hash::RandomState;
use std::rc::Rc;
use std::sync::Arc;

/// The subprotocols of clients that have one (MQTT 5, section 6; the older name is that of 3.1).
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// In the token of a connection: it is a session's.
const SESSION: u32 = 1 << 31;

/// The session is one client's own.
const PRIVATE: u32 = 1 << 30;

/// Who is to be looked at.
enum Beat {
    Client(Owner),
    Session(SessionId),
    /// A session of one client, which the broker has not let in.
    Private(SessionId),
    /// A client that may be private, until now.
    Settle(Owner),
}

/// The service `mqtt` of one shard.
pub struct Mqtt {
    fanout: Fanout,
    peers: Peers,
    topics: Topics,
    callers: Callers,
    sessions: Sessions<Session>,
    /// The sessions by route and place.
    shared: HashMap<(u16, usize), SessionId>,
    /// Those of one client each, and how many.
    privates: Sessions<Private>,
    private: usize,
    kept: Kept,
    /// The sequence of what came last, of any feed.
    seen: u64,
    /// The sequence of what a feed's messages were lost by last.
    lost: HashMap<u16, u64>,
    /// News that have come before what was published in front of them.
    early: VecDeque<TopicNews>,
    untold: Untold,
    /// Clients by their identifiers, as this shard's hash of them.
    names: Names,
    hasher: RandomState,
    beats: Beats<Beat>,
    subprotocols: Rc<[String]>,
    /// Clients that are there.
    present: usize,
    /// Bytes of cut packets, wills and aliases of all clients.
    held: Held,
    /// Room for the properties of one packet.
    properties: Vec<u8>,
    epoch: u32,
}

impl Service for Mqtt {
    type Plan = Arc<OffloadPlan>;
    type Settings = OffloadSettings;

    const ADMITS: Admits = Admits::Opening;

    fn new(settings: &OffloadSettings) -> Mqtt {
        let plans = || settings.plans.iter().flatten();
        let peers = Peers { clients: Vec::new(), plans: plans().cloned().collect(), head: Vec::new(), raw: Vec::new() };
        Mqtt {
            fanout: Fanout::new(plans().map(|plan| plan.terms()), &settings.feeds, settings.epoch),
            peers,
            topics: Topics::default(),
            callers: Callers::new(&settings.places),
            sessions: Sessions::default(),
            shared: HashMap::new(),
            privates: Sessions::default(),
            private: 0,
            kept: Kept::default(),
            seen: 0,
            lost: HashMap::new(),
            early: VecDeque::new(),
            untold: Untold::default(),
            names: Names::default(),
            hasher: RandomState::new(),
            beats: Beats::new(),
            subprotocols: SUBPROTOCOLS.map(String::from).into(),
            present: 0,
            held: Held::default(),
            properties: Vec::new(),
            epoch: settings.epoch,
        }
    }

    fn exchange(&mut self, desk: &mut Desk<'_>, settings: &OffloadSettings) {
        let terms: Vec<_> = settings.plans.iter().map(|plan| plan.as_ref().map(|it| it.terms())).collect();
        self.peers.plans.replace(settings.plans.iter().cloned());
        self.fanout.exchange(desk, &terms, &settings.feeds);
        self.callers.exchange(desk, &settings.places);
    }

    fn held(&self) -> usize {
        self.fanout.held()
    }

    fn request(&mut self, desk: &mut Desk<'_>, request: &Request<'_, '_>, plan: &Arc<OffloadPlan>) -> Verdict {
        let Ok(mut opening) = upgrade::check(request.head) else { return Verdict::Served };
        // What is shared is shared as it is.
        opening.deflate = None;
        let subprotocols = self.subprotocols.clone();
        let protocol = request.protocol(&subprotocols);
        let token = self.welcome(desk, request.who, plan, Transport::WebSocket);
        desk.take(request.who, token);
        desk.prepare_upgrade(request.who, &opening, protocol);
        desk.upgrade(request.who);
        Verdict::Served
    }

    fn begin(&mut self, desk: &mut Desk<'_>, who: Handle, plan: &Arc<OffloadPlan>, _limits: u16) {
        let token = self.welcome(desk, who, plan, Transport::Bare);
        desk.take(who, token);
    }

    fn event(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, event: Event<'_>) {
        if token & SESSION == 0 {
            return self.client_event(desk, who, token, event);
        }
        let number = token & !(SESSION | PRIVATE);
        if token & PRIVATE != 0 {
            let id = self.privates.at(number);
            id.into_iter().for_each(|id| self.private_event(desk, who, id, &event));
        } else if let Some(id) = self.sessions.at(number) {
            self.session_event(desk, who, id, &event);
        }
    }

    fn letter(&mut self, desk: &mut Desk<'_>, letter: ToShard) -> Option<ToShard> {
        match letter {
            ToShard::Topic(news) if self.is_ours(news.feed) => self.take_news(desk, *news),
            other => return Some(other),
        }
        None
    }

    fn poll(&mut self, desk: &mut Desk<'_>, budget: u32) -> u32 {
        self.topics.poll(desk);
        self.keep_beats(desk);
        self.tell_missed(desk);
        if desk.is_draining() && self.present == 0 {
            self.end_sessions(desk);
        }
        let done = self.fanout.turn(desk, budget);
        self.do_due(desk);
        self.gauge(desk);
        done
    }
}

impl Mqtt {
    /// Messages were published, in the order of their sequences.
    pub(super) fn publish(&mut self, desk: &mut Desk<'_>, messages: &[Arc<Message>]) {
        for message in messages {
            if !self.is_ours(message.feed) || self.note_retained(desk, message) {
                self.fanout.publish(desk, std::slice::from_ref(message));
            }
            self.seen = message.sequence;
        }
        self.heed_news(desk);
    }

    /// Messages were lost on the way to this shard.
    pub(super) fn missed(&mut self, desk: &mut Desk<'_>, missed: &Missed) {
        self.fanout.record_loss(desk, missed);
        self.note_missed(desk, missed);
        self.topics.doubt(desk, missed.feed);
        for feed in self.feeds().filter(|feed| missed.feed.is_none_or(|it| it == *feed)).collect::<Vec<_>>() {
            self.lost.insert(feed, missed.sequence);
        }
        self.seen = self.seen.max(missed.sequence);
        self.heed_news(desk);
    }

    /// A name leads elsewhere now.
    pub(super) fn moved(&mut self, upstream: u32, addresses: &[std::net::SocketAddr]) {
        self.callers.moved(upstream, addresses);
    }

    fn gauge(&self, desk: &mut Desk<'_>) {
        let (up, bytes) = self
            .sessions
            .iter()
            .fold((0, 0), |(up, bytes), it| (up + u64::from(it.is_up()), bytes + it.outgoing_bytes as u64));
        let (counters, it) = (desk.counters(), OffloadKind::Mqtt as usize);
        (counters.offload_sessions[it], counters.offload_unconfirmed_bytes[it]) = (up, bytes);
        counters.offload_held_bytes[it] = self.held.all();
        counters.offload_private[it] = self.private as u64;
        counters.offload_retained_bytes = self.kept.bytes();
    }

    fn feeds(&self) -> impl Iterator<Item = u16> {
        (0..self.peers.plans.len()).map(|number| self.peers.plans[number].feed)
    }

    fn is_ours(&self, feed: u16) -> bool {
        self.feeds().any(|it| it == feed)
    }

    fn client_event(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, event: Event<'_>) {
        match event {
            Event::Fill(batch) => self.fill(desk, token, batch),
            // "MQTT Control Packets MUST be sent in WebSocket binary data frames" (MQTT-6.0.0-1).
            Event::Message { text: true, .. } => {
                client::count(desk, OffloadRefused::Frame);
                desk.close(who, CloseCode::UNSUPPORTED_DATA, "MQTT is binary");
            }
            Event::Message { payload, .. } => self.receive(desk, who, token, payload),
            Event::Bytes(bytes) => {
                desk.counters().messages_in[ServiceKind::Mqtt as usize] += 1;
                self.receive(desk, who, token, bytes);
            }
            Event::Writable => self.writable(desk, who, token),
            Event::Authenticated(said) => self.authenticated(desk, who, token, said),
            Event::Close(code) => desk.close(who, code.unwrap_or(CloseCode::NORMAL), ""),
            Event::Fin => desk.finish(who, Cause::Closed),
            Event::Drain => self.drain(desk, who, token),
            Event::Closed(_) => self.closed(desk, token),
            _ => {}
        }
    }

    fn fill(&mut self, desk: &mut Desk<'_>, token: u32, batch: &mut Batch) {
        self.fanout.more(desk, token, batch, &mut self.peers);
        desk.counters().messages_out[ServiceKind::Mqtt as usize] += batch.count() as u64;
        self.do_due(desk);
    }

    fn do_due(&mut self, desk: &mut Desk<'_>) {
        for due in self.fanout.take_due() {
            if let Due::Close(token) = due {
                self.close_slow(desk, token);
            }
        }
    }

    fn client(&mut self, token: u32) -> Option<&mut Client> {
        self.peers.clients.get_mut(token as usize)
    }

    /// The client of this name, if it is there, and its connection.
    fn owned(&mut self, owner: Owner) -> Option<(Handle, &mut Client)> {
        let who = self.fanout.client(owner.token)?.who;
        let client = self.peers.clients.get_mut(owner.token as usize)?;
        (client.generation == owner.generation).then_some((who, client))
    }

    fn owner(&self, token: u32) -> Owner {
        Owner { token, generation: self.peers.clients[token as usize].generation }
    }

    fn plan_of(&self, token: u32) -> Arc<OffloadPlan> {
        self.peers.plans[usize::from(self.peers.clients[token as usize].route)].clone()
    }
}

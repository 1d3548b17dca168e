//! STOMP 1.0, 1.1 and 1.2: many clients, a handful of sessions with a broker.
//!
//! | file | what |
//! |---|---|
//! | `mod` | what the shard's events become |
//! | `receive` | bytes to frames, on both sides |
//! | `connect` | CONNECT, who a client is, heart-beats, ends |
//! | `commands` | what else clients say |
//! | `subscribe` | SUBSCRIBE, UNSUBSCRIBE, ACK, NACK |
//! | `relay` | which session carries what, and sessions made again |
//! | `give_back`, `retire` | messages of clients that have left are given back |
//! | `broker` | what brokers say |
//! | `deliver` | messages of shared topics |
//! | `client`, `session`, `ids` | what is remembered |
//!
//! A client's token is that of the fan-out; that of a session's connection has its highest bit set.

mod broker;
mod client;
mod commands;
mod connect;
mod deliver;
mod give_back;
mod ids;
mod receive;
mod relay;
mod retire;
mod session;
mod subscribe;

use super::fanout::{Due, Fanout};
use super::offload::{Beats, Callers, Held, OffloadPlan, OffloadSettings, Sessions, Topics};
use super::{Admits, Request, Service};
use crate::mesh::{Cause, Message, Missed, Numbered, OffloadKind, ToShard};
use crate::shard::service::{Desk, Event, Verdict};
use crate::shard::slab::Handle;
use client::{Client, Owner, Transport};
use deliver::Peers;
use edgehold_wire::upgrade;
use edgehold_wire::ws::CloseCode;
use ids::Ids;
use session::{Session, SessionId};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// The subprotocols of clients that have one, the best first (STOMP over WebSocket).
const SUBPROTOCOLS: [&str; 3] = ["v12.stomp", "v11.stomp", "v10.stomp"];

/// In the token of a connection: it is a session's.
const SESSION: u32 = 1 << 31;

/// Who is to be looked at for its heart-beats.
enum Beat {
    Client(Owner),
    Session(SessionId),
}

/// The service `stomp` of one shard.
pub struct Stomp {
    fanout: Fanout,
    peers: Peers,
    topics: Topics,
    callers: Callers,
    sessions: Sessions<Session>,
    /// The shared sessions by route and place; behind them that of trials.
    shared: HashMap<(u16, usize), SessionId>,
    trials: relay::Trials,
    beats: Beats<Beat>,
    subprotocols: Rc<[String]>,
    /// Clients that are there.
    present: usize,
    /// Bytes of cut frames of all clients.
    held: Held,
    private: usize,
    /// The tick in which the gauges of sessions were last counted.
    gauged: u32,
    /// Scratch: a client's frame as a session says it.
    said: Vec<u8>,
}

impl Service for Stomp {
    type Plan = Arc<OffloadPlan>;
    type Settings = OffloadSettings;

    const ADMITS: Admits = Admits::Opening;

    fn new(settings: &OffloadSettings) -> Stomp {
        let plans = || settings.plans.iter().flatten();
        let peers = Peers {
            clients: Vec::new(),
            ids: Ids::default(),
            plans: plans().cloned().collect::<Numbered<_>>(),
            head: Vec::new(),
            framed: Vec::new(),
        };
        Stomp {
            fanout: Fanout::new(plans().map(|plan| plan.terms()), &settings.feeds, settings.epoch),
            peers,
            topics: Topics::default(),
            callers: Callers::new(&settings.places),
            sessions: Sessions::default(),
            shared: HashMap::new(),
            trials: relay::Trials::default(),
            beats: Beats::new(),
            subprotocols: SUBPROTOCOLS.map(String::from).into(),
            present: 0,
            held: Held::default(),
            private: 0,
            gauged: 0,
            said: Vec::new(),
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
        if let Some(id) = self.sessions.at(token & !SESSION) {
            self.session_event(desk, who, id, &event);
        }
    }

    fn letter(&mut self, desk: &mut Desk<'_>, letter: ToShard) -> Option<ToShard> {
        match letter {
            ToShard::Topic(news) if self.is_ours(news.feed) => self.heed(desk, &news),
            other => return Some(other),
        }
        None
    }

    fn poll(&mut self, desk: &mut Desk<'_>, budget: u32) -> u32 {
        self.topics.poll(desk);
        self.keep_beats(desk);
        if desk.is_draining() && self.present == 0 {
            self.end_sessions(desk);
        }
        let done = self.fanout.turn(desk, budget);
        self.do_due(desk);
        self.gauge(desk);
        done
    }
}

impl Stomp {
    /// Messages were published, in the order of their sequences.
    pub(super) fn publish(&mut self, desk: &mut Desk<'_>, messages: &[Arc<Message>]) {
        self.fanout.publish(desk, messages);
    }

    /// Messages were lost on the way to this shard.
    pub(super) fn missed(&mut self, desk: &mut Desk<'_>, missed: &Missed) {
        self.fanout.record_loss(desk, missed);
    }

    /// A name leads elsewhere now.
    pub(super) fn moved(&mut self, upstream: u32, addresses: &[std::net::SocketAddr]) {
        self.callers.moved(upstream, addresses);
    }

    /// Once in a tick: a look at every session.
    fn gauge(&mut self, desk: &mut Desk<'_>) {
        if std::mem::replace(&mut self.gauged, desk.now()) == desk.now() {
            return;
        }
        let (up, bytes) = self
            .sessions
            .iter()
            .fold((0, 0), |(up, bytes), it| (up + u64::from(it.is_up()), bytes + it.outgoing_bytes as u64));
        let (counters, it) = (desk.counters(), OffloadKind::Stomp as usize);
        (counters.offload_sessions[it], counters.offload_unconfirmed_bytes[it]) = (up, bytes);
        counters.offload_private[it] = self.private as u64;
        counters.offload_held_bytes[it] = self.held.all();
    }

    fn is_ours(&self, feed: u16) -> bool {
        (0..self.peers.plans.len()).any(|number| self.peers.plans[number].feed == feed)
    }

    fn client_event(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, event: Event<'_>) {
        match event {
            Event::Fill(batch) => self.fill(desk, token, batch),
            Event::Message { payload, .. } => self.receive(desk, who, token, payload),
            Event::Bytes(bytes) => {
                desk.counters().messages_in[crate::mesh::ServiceKind::Stomp as usize] += 1;
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

    fn fill(&mut self, desk: &mut Desk<'_>, token: u32, batch: &mut crate::shard::service::Batch) {
        self.fanout.more(desk, token, batch, &mut self.peers);
        desk.counters().messages_out[crate::mesh::ServiceKind::Stomp as usize] += batch.count() as u64;
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

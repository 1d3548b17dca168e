//! Broadcast: a feed's messages to every client that subscribes, over WebSocket, event streams, HTTP streams and long
//! polls.
//!
//! Two layers: below, `service/fanout` has the channel logs, the subscribers and their cursors, and knows no transport.
//! Here is what depends on the transport: requests (`requests.rs`, `cors.rs`) and how each transport begins
//! (`open.rs`), commands of WebSocket clients (`commands.rs`), long polls (`polls.rs`), and how messages, notices and
//! ends are sent (`transport.rs`, `protocol.rs`). This file is the front: what the shard's events become.

mod commands;
mod open;
mod patterns;
mod polls;
mod protocol;
mod requests;
mod routes;
mod service;
mod settings;
mod template;
mod transport;

use super::fanout::{Due, Fanout};
pub use super::fanout::{FeedSettings, Keep, Naming, Policy, Slow};
use crate::mesh::{Message, Missed, ServiceKind, SubscriberCounts, SubscribersQuery, ToControl};
use crate::shard::service::{Batch, Desk};
use crate::shard::slab::Handle;
use routes::{Route, Routes};
pub use settings::{BroadcastPlan, BroadcastSettings, ChannelRoles};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
pub use template::Template;
use transport::keep_alive;

/// The broadcast service of one shard.
///
/// A client's token is that of the fan-out. It is the service's from the answer to its request until
/// [`closed`](Broadcast::closed), a long poll until its answer.
pub struct Broadcast {
    fanout: Fanout,
    routes: Routes,
    polls: polls::Polls,
    /// Fragments of commands, by the tokens of their clients.
    fragments: HashMap<u32, Vec<u8>>,
}

impl Broadcast {
    fn begin(settings: &BroadcastSettings) -> Broadcast {
        let plans = || settings.plans.iter().flatten();
        let (terms, feeds) = (plans().map(BroadcastPlan::terms), &settings.feeds);
        Broadcast {
            fanout: Fanout::new(terms, feeds, settings.epoch),
            polls: polls::Polls::default(),
            routes: plans().map(Route::new).collect(),
            fragments: HashMap::new(),
        }
    }

    fn take_settings(&mut self, desk: &mut Desk<'_>, settings: &BroadcastSettings) {
        let terms: Vec<_> = settings.plans.iter().map(|plan| plan.as_ref().map(BroadcastPlan::terms)).collect();
        self.routes.replace(settings.plans.iter().map(|plan| plan.as_ref().map(Route::new)));
        self.fanout.exchange(desk, &terms, &settings.feeds);
    }

    /// The route of this number, also one that is gone and still has clients.
    fn route(&self, number: u16) -> &Rc<Route> {
        &self.routes[usize::from(number)]
    }

    // ---- letters ----

    /// Messages were published, in the order of their sequences.
    pub fn publish(&mut self, desk: &mut Desk<'_>, messages: &[Arc<Message>]) {
        self.fanout.publish(desk, messages);
    }

    /// Messages were lost on the way to this shard.
    pub fn missed(&mut self, desk: &mut Desk<'_>, missed: &Missed) {
        self.fanout.record_loss(desk, missed);
    }

    /// Answers how many subscribers the channels have that the query asks for.
    pub fn count_subscribers(&self, desk: &mut Desk<'_>, query: &SubscribersQuery) {
        let channels = self.fanout.channels(desk, query);
        let counts = SubscriberCounts { shard: desk.shard(), question: query.question, channels };
        desk.post(ToControl::SubscriberCounts(Box::new(counts)));
    }

    // ---- events of connections ----

    /// Nothing is queued for a client: fills a batch with what comes next.
    pub fn more(&mut self, desk: &mut Desk<'_>, token: u32, batch: &mut Batch) {
        self.fanout.more(desk, token, batch, &mut self.routes);
        desk.counters().messages_out[ServiceKind::Broadcast as usize] += batch.count() as u64;
        self.do_due(desk);
    }

    /// A stream was sent nothing for `keep_alive`.
    pub fn quiet(&mut self, desk: &mut Desk<'_>, token: u32) {
        if let Some(client) = self.fanout.client(token) {
            keep_alive(desk, client);
        }
    }

    /// The connection is gone.
    pub fn closed(&mut self, desk: &mut Desk<'_>, token: u32) {
        if self.fanout.remove_client(desk, token) {
            self.fragments.remove(&token);
        }
    }

    /// The server stops: the client is sent the end that its transport has for it.
    pub fn drain(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32) {
        self.end(desk, who, token);
    }

    // ---- the turn ----

    /// Goes on with deliveries, at most `budget` of them, and with long polls whose time is over; returns how many
    /// deliveries were made. Zero: there is nothing to go on with.
    pub fn turn(&mut self, desk: &mut Desk<'_>, budget: u32) -> u32 {
        self.end_polls(desk);
        let done = self.fanout.turn(desk, budget);
        self.do_due(desk);
        done
    }

    fn do_due(&mut self, desk: &mut Desk<'_>) {
        for due in self.fanout.take_due() {
            match due {
                Due::Pull(token) => self.answer_poll(desk, token, &[]),
                Due::Close(token) => self.close_slow(desk, token),
            }
        }
    }
}

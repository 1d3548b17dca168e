//! Fan-out: messages of feeds, published once, to every subscriber of their channels. Knows no transport.
//!
//! ```text
//! publish ─▶ channel log ──delivery pass──▶ Desk::offer ··· the shard asks ··▶ Fanout::more ─▶ Batch
//!            log.rs        delivery.rs                                         fill.rs
//! ```
//!
//! A letter brings messages from the control thread; each is appended to the *channel log* of its channel and to those
//! of the prefixes that cover it. A *subscriber* has a *cursor* in each log that it is subscribed to (`subscribers.rs`)
//! and no queue. A *delivery pass* over the subscribers of a log offers the shard those that are behind; when the shard
//! can send to one, it asks for all that was appended until then, in the order of sequence. So a slow subscriber costs
//! its cursor, and messages that come faster than they can be sent one by one go out together.
//!
//! *Laggards* are subscribers that were found behind. How far one may be is its route's limit; what becomes of it
//! beyond that is the route's policy (`slow.rs`), and what it loses it is sent a notice of (`gaps.rs`).
//!
//! The layer above is a [`Protocol`], called for what depends on the transport while a batch is filled; what is for it
//! to do besides is handed out as [`Due`]. Nothing here calls up in any other way.

mod cursor;
mod delivery;
mod exchange;
mod feed;
mod fill;
mod filters;
mod gaps;
mod ids;
mod listing;
mod log;
mod pull;
mod settings;
mod slow;
mod subscribe;
mod subscribers;
mod values;

use crate::mesh::{self, ChannelState, Message, Missed, Numbered, SubscribersQuery};
use crate::shard::service::{Batch, Desk, Payload};
use feed::Feed;
pub(super) use filters::Filters;
pub use gaps::Gap;
use log::ChannelLog;
use settings::Covers;
pub use settings::{FeedSettings, Keep, Naming, Policy, RouteTerms, Slow, matches};
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use subscribers::Subscribers;
pub use subscribers::{Client, Traits};

/// What the fan-out asks of the layer above, by the client's transport.
pub trait Protocol {
    /// A message that several subscriptions of a client have is sent once, with the tags of all of them; else once for
    /// each.
    const MERGES: bool;
    /// Adds a message for a client to a batch that has room. `false`: it may have it only later; who says so offers it
    /// again when it may ([`Fanout::offer_rest`]).
    fn push(&mut self, desk: &mut Desk<'_>, client: &Client, delivery: &Delivery<'_>, batch: &mut Batch) -> bool;
    /// Queues a notice of a gap for a client, in front of the batch that is being filled.
    fn send_gap(&mut self, desk: &mut Desk<'_>, client: &Client, gap: &Gap);
}

/// A message for a client.
pub struct Delivery<'m> {
    /// The client's token.
    pub token: u32,
    /// The tags of those of its subscriptions that have it; at least one.
    pub tags: &'m [u32],
    /// The message.
    pub payload: &'m Payload,
    /// The tick in which it came to this shard.
    pub tick: u32,
}

impl Delivery<'_> {
    /// It is new: others are sent it in these moments, and what is encoded of it is worth being kept.
    pub fn is_new(&self, now: u32) -> bool {
        now.saturating_sub(self.tick) <= log::FORM_TICKS
    }
}

/// What the layer above is to do for a client, by its token. A client may have been removed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// There are messages for a client that pulls ([`Traits::PULLS`]). May be handed out more than once.
    Pull(u32),
    /// The client is too slow, and its route's policy is to close it. Its subscriptions have ended.
    Close(u32),
}

/// The channel logs of a shard and their subscribers.
///
/// [`publish`](Fanout::publish) and [`record_loss`](Fanout::record_loss) bring what is new;
/// [`add_client`](Fanout::add_client), [`subscribe`](Fanout::subscribe), [`unsubscribe`](Fanout::unsubscribe) and
/// [`remove_client`](Fanout::remove_client) say who is to be sent it; [`turn`](Fanout::turn) runs delivery passes;
/// [`more`](Fanout::more) fills a batch. After the last two, [`take_due`](Fanout::take_due) is to be asked.
pub struct Fanout {
    routes: Numbered<RouteTerms>,
    feeds: Numbered<Feed>,
    epoch: u32,
    /// The sequence of the last message that this shard was sent, of whatever channel.
    sequence: u64,
    logs: Slab<ChannelLog>,
    subscribers: Subscribers,
    /// Logs with a delivery pass to go on with.
    passes: VecDeque<u32>,
    /// Logs to be trimmed: their pass has ended, or their laggards were visited.
    finished: Vec<u32>,
    /// Logs with laggards.
    lagging: BTreeSet<u32>,
    /// Subscriptions to be delivered to in a later turn: a pass may have missed them, or found a batch in flight.
    redeliver: VecDeque<u32>,
    /// What the layer above is to do.
    due: Vec<Due>,
    /// The ids with which clients resumed, as long as they are owed a notice of a gap behind it.
    resumed_from: HashMap<u32, Box<str>>,
    /// Scratch: the subscriptions of one client, or the logs of one message.
    numbers: Vec<u32>,
    /// Scratch: the subscriptions of one client that have the same message, and their tags.
    same: (Vec<u32>, Vec<u32>),
    /// Scratch: the next message of each subscription of one client.
    heads: BinaryHeap<Reverse<(u64, u32)>>,
    /// Bytes of all messages that the logs keep.
    kept_bytes: u64,
    /// The tick in which laggards were last visited.
    ticked: u32,
    /// Where the sweep over all logs goes on.
    swept: usize,
    /// What the gauges have of it: subscriptions, logs, kept bytes.
    shown: [u64; 3],
}

impl Fanout {
    /// The first routes and feeds by their numbers (`None`: a feed of another service), without subscribers. `epoch`:
    /// of this run of the server.
    pub fn new<'f>(
        routes: impl IntoIterator<Item = RouteTerms>,
        feeds: impl IntoIterator<Item = &'f Option<FeedSettings>>,
        epoch: u32,
    ) -> Fanout {
        Fanout {
            routes: routes.into_iter().collect(),
            feeds: feeds.into_iter().map(|it| Feed::new(&it.clone().unwrap_or_else(FeedSettings::foreign))).collect(),
            epoch,
            sequence: 0,
            logs: Slab::new(),
            subscribers: Subscribers::new(),
            passes: VecDeque::new(),
            finished: Vec::new(),
            lagging: BTreeSet::new(),
            redeliver: VecDeque::new(),
            due: Vec::new(),
            resumed_from: HashMap::new(),
            numbers: Vec::new(),
            same: Default::default(),
            heads: BinaryHeap::new(),
            kept_bytes: 0,
            ticked: 0,
            swept: 0,
            shown: [0; 3],
        }
    }

    // ---- what is new ----

    /// Appends messages to the logs of their channels and of the prefixes that cover these, and begins delivery passes.
    pub fn publish(&mut self, desk: &mut Desk<'_>, messages: &[Arc<Message>]) {
        messages.iter().for_each(|message| self.append(desk, message));
        self.gauge(desk);
    }

    /// Records messages that never reached this shard: subscribers that are not beyond them are owed a notice of a gap,
    /// and delivery passes begin as for a message.
    pub fn record_loss(&mut self, desk: &mut Desk<'_>, missed: &Missed) {
        self.sequence = self.sequence.max(missed.sequence);
        for feed in 0..self.feeds.len() {
            if missed.feed.is_none_or(|it| usize::from(it) == feed) {
                self.record_loss_of(desk, feed, missed);
            }
        }
        self.gauge(desk);
    }

    /// A letter that concerns many logs costs its turn as much.
    fn record_loss_of(&mut self, desk: &mut Desk<'_>, feed: usize, missed: &Missed) {
        let Some(its) = self.feeds.current_mut(feed) else { return };
        its.record_loss(missed.sequence);
        let logs = self.feeds[feed].logs(missed.channel.as_deref());
        desk.charge(logs.len());
        for number in logs {
            self.keeping(number, |log, feed| log.record_loss(missed.sequence, &mut feed.ids));
            self.begin_pass(number);
        }
    }

    fn append(&mut self, desk: &mut Desk<'_>, message: &Arc<Message>) {
        self.sequence = message.sequence;
        let payload = log::payload(message);
        let feed = usize::from(message.feed);
        // What was published while the feed was going is for nobody, nor is what another service's feed has.
        if self.feeds.current(feed).is_none_or(|it| it.settings.naming == Naming::Foreign) {
            return;
        }
        match self.log_for_message(desk, feed, &message.channel) {
            Some(log) => self.push(log, &payload, desk.now()),
            None => self.feeds[feed].skip(&message.channel, message.sequence),
        }
        let mut logs = std::mem::take(&mut self.numbers);
        logs.clear();
        self.feeds[feed].covering(&message.channel, &mut logs);
        logs.iter().for_each(|&log| self.push(log, &payload, desk.now()));
        self.numbers = logs;
    }

    fn push(&mut self, number: u32, payload: &Payload, now: u32) {
        self.keeping(number, |log, feed| log.push(payload, now, &feed.settings.keep, &mut feed.ids));
        self.begin_pass(number);
    }

    /// Changes what a log keeps, and the count of kept bytes with it.
    fn keeping<T>(&mut self, number: u32, change: impl FnOnce(&mut ChannelLog, &mut Feed) -> T) -> T {
        let log = &mut self.logs[number as usize];
        let before = log.bytes();
        let done = change(log, &mut self.feeds[usize::from(log.feed)]);
        self.kept_bytes = self.kept_bytes - before + log.bytes();
        done
    }

    // ---- logs ----

    /// The log of the channel of a message; `None`: it has no subscriber and nothing of it is kept.
    fn log_for_message(&mut self, desk: &mut Desk<'_>, feed: usize, channel: &str) -> Option<u32> {
        let it = &mut self.feeds[feed];
        if let Some(log) = it.find(channel) {
            return Some(log);
        }
        if !it.keeps() {
            return None;
        }
        if !it.has_room() {
            desk.counters().channels_refused += 1;
            return None;
        }
        let watermark = it.take_low_watermark(channel);
        let log = ChannelLog::new(feed as u16, (channel, Covers::Itself), watermark, &it.settings.keep);
        Some(self.enter(log))
    }

    /// The log of a channel or prefix to which a client subscribes. That of a prefix begins with what is published
    /// next.
    fn log_for_subscriber(&mut self, feed: u16, channel: &str) -> u32 {
        let it = &mut self.feeds[usize::from(feed)];
        if let Some(log) = it.find(channel) {
            return log;
        }
        let covers = it.settings.naming.covers(channel);
        let is_one = covers == Covers::Itself;
        let low_watermark = if is_one { it.take_low_watermark(channel) } else { self.sequence };
        let log = ChannelLog::new(feed, (channel, covers), low_watermark, &it.settings.keep);
        self.enter(log)
    }

    fn enter(&mut self, log: ChannelLog) -> u32 {
        let entry = self.logs.vacant_entry();
        let number = entry.key() as u32;
        self.feeds[usize::from(log.feed)].enter(&log, number);
        entry.insert(log);
        number
    }

    /// Keeps the log of a prefix without subscribers for a while: its channels are likely to be asked for again.
    fn linger(&mut self, desk: &Desk<'_>, number: u32) {
        let log = &mut self.logs[number as usize];
        let feed = &mut self.feeds[usize::from(log.feed)];
        log.linger_until = desk.now() + feed.settings.linger_ticks;
        if let Some((other, until)) = feed.linger(number, log.linger_until) {
            self.expire(other, until);
        }
    }

    /// Drops the logs of prefixes that have lingered long enough.
    fn expire_prefixes(&mut self, now: u32) {
        for feed in 0..self.feeds.len() {
            while let Some((log, until)) = self.feeds[feed].expired(now) {
                self.expire(log, until);
            }
        }
    }

    /// Drops the log of a prefix, unless it has had subscribers since it was to linger until this tick.
    fn expire(&mut self, number: u32, until: u32) {
        let lingers = |log: &ChannelLog| log.is_prefix() && log.subscribers.is_empty() && log.linger_until == until;
        if self.logs.get(number as usize).is_some_and(lingers) {
            self.drop_log(number);
        }
    }

    /// Drops the log of a channel if it has no subscriber and keeps nothing, or its feed is gone.
    fn drop_if_unused(&mut self, number: u32) {
        let is_gone = |log: &ChannelLog| self.feeds.current(usize::from(log.feed)).is_none();
        let unused = |log: &ChannelLog| log.is_unused() || log.subscribers.is_empty() && is_gone(log);
        let may_go = |log: &ChannelLog| !log.is_prefix() && !log.pass.active && unused(log);
        if self.logs.get(number as usize).is_some_and(may_go) {
            self.drop_log(number);
        }
    }

    fn drop_log(&mut self, number: u32) {
        let log = self.logs.remove(number as usize);
        self.lagging.remove(&number);
        self.kept_bytes -= log.bytes();
        self.feeds[usize::from(log.feed)].leave(&log);
    }

    /// What a channel was is of the past, and what comes of it later begins anew: nobody is sent its last value. It has
    /// no subscribers; one that has is left as it is.
    pub fn forget(&mut self, feed: u16, channel: &str) {
        let found = self.feeds.current(usize::from(feed)).and_then(|it| it.find(channel));
        let is_over = |log: &ChannelLog| log.subscribers.is_empty() && !log.is_prefix() && !log.pass.active;
        if let Some(number) = found.filter(|number| is_over(&self.logs[*number as usize])) {
            self.drop_log(number);
        }
    }

    // ---- what is known ----

    /// What is to be done for clients since this was asked last.
    pub fn take_due(&mut self) -> Vec<Due> {
        std::mem::take(&mut self.due)
    }

    /// The id of the last message that was published, on whatever channel.
    pub fn last_id(&self) -> String {
        mesh::id(self.epoch, self.sequence)
    }

    /// The feeds of a route that may carry a channel or prefix.
    fn feeds_of<'s>(&'s self, route: u16, channel: &'s str) -> impl Iterator<Item = u16> + 's {
        let feeds = self.routes[usize::from(route)].feeds.iter().copied();
        feeds.filter(move |&feed| self.feeds[usize::from(feed)].settings.may_carry(channel))
    }

    /// How many feeds of a route may carry a channel or prefix: as many subscriptions as it costs.
    pub fn carriers(&self, route: u16, channel: &str) -> usize {
        self.feeds_of(route, channel).count()
    }

    /// The channels of a route's feeds, where each has but one (or a prefix).
    pub fn own_channels(&self, route: u16) -> Option<Vec<String>> {
        let own = |feed: &u16| self.feeds[usize::from(*feed)].settings.channel.clone();
        self.routes[usize::from(route)].feeds.iter().map(own).collect()
    }

    /// The channels that a query asks for: a look at each log of the shard.
    pub fn channels(&self, desk: &mut Desk<'_>, query: &SubscribersQuery) -> Vec<ChannelState> {
        desk.charge(self.logs.len());
        listing::listing(self.logs.iter().map(|(_, log)| log), query)
    }

    /// Several services have a fan-out; the gauges are the sums of them all.
    fn gauge(&mut self, desk: &mut Desk<'_>) {
        let now = [u64::from(self.subscribers.count()), self.logs.len() as u64, self.kept_bytes];
        let before = std::mem::replace(&mut self.shown, now);
        let counters = desk.counters();
        let gauges = [&mut counters.subscriptions, &mut counters.channels, &mut counters.replay_bytes];
        for (gauge, (now, before)) in gauges.into_iter().zip(now.into_iter().zip(before)) {
            *gauge = *gauge + now - before;
        }
    }
}

//! Broadcast: what a feed says once, every client hears that listens, by whatever transport it came.
//!
//! A letter brings messages from the control thread; each is appended to the *log* of its channel and of the prefixes
//! that cover it (`channel_log.rs`). `subscribers.rs` holds the clients and their cursors in logs. A message is never
//! handed to a client: a *delivery pass* (`delivery.rs`) goes over the subscribers of a log and offers the shard those
//! that are behind, and when the shard can send, it asks ([`Broadcast::more`]) and gets all that has come until then,
//! in the order of sequence. So a slow client costs nothing but its cursor, and what cannot be sent one by one is
//! gathered.
//!
//! `requests.rs` reads what a client asks for, `words.rs` what else is said between both sides, `streams.rs` is how a
//! client comes in and how it is spoken to, by transport.

mod channel_log;
mod commands;
mod delivery;
mod feed;
mod gaps;
mod ids;
mod listing;
mod polls;
mod requests;
mod settings;
mod streams;
mod subscribers;
mod values;
mod words;

use crate::mesh::{self, Message, Missed, SubscriberCounts, SubscribersQuery, ToControl};
use crate::shard::door::{Batch, Desk, Payload};
use channel_log::{Below, ChannelLog, Cursor, Next};
use feed::Feed;
use settings::matches;
pub use settings::{BroadcastPlan, FeedSettings, Keep, Policy, Slow};
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use subscribers::{NONE, Subscribers, Traits};

/// How far an id of this run may be ahead of what the shard has heard: as many messages as may be on their way to it.
/// The publisher counts at least 256 bytes for each, and holds back what is above 32 MiB.
const AHEAD: u64 = (32 << 20) / 256;

/// The broadcast service of one shard.
pub struct Broadcast {
    settings: Arc<[BroadcastPlan]>,
    feeds: Vec<Feed>,
    epoch: u32,
    /// The sequence of the last message that came.
    heard: u64,
    logs: Slab<ChannelLog>,
    subscribers: Subscribers,
    /// Rows with a round under way.
    active: VecDeque<u32>,
    /// Rows whose round has ended.
    finished: Vec<u32>,
    /// Rows with somebody behind.
    lagging: BTreeSet<u32>,
    /// Subscriptions that are to be visited again: a round may have passed them by, or has found them in flight.
    redeliver: VecDeque<u32>,
    /// Kept to be used again.
    numbers: Vec<u32>,
    /// Kept to be used again: the next message of each subscription of one client.
    heads: BinaryHeap<Reverse<(u64, u32)>>,
    /// Polls that wait, by route: those of one route wait equally long.
    polls: Vec<VecDeque<polls::Poll>>,
    /// Fields of the answers to polls from pages of other origins.
    origins: HashMap<u32, Vec<(&'static str, String)>>,
    /// The ids that clients came back with, as long as a gap behind them is to be told.
    returns: HashMap<u32, Box<str>>,
    /// What clients have begun to say and not finished.
    partial: HashMap<u32, Vec<u8>>,
    /// Bytes of all messages that rows keep.
    kept_bytes: u64,
    ticked: u32,
    /// Where the sweep over rows goes on.
    swept: usize,
}

/// Where a client wants to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// With what comes.
    Live,
    /// Behind this sequence.
    Behind(u64),
    /// With all that is kept: it has heard something, of which nothing is known here.
    Kept,
}

impl Broadcast {
    /// Routes and feeds by their numbers; the epoch of this run of the server.
    pub fn new(settings: Arc<[BroadcastPlan]>, feeds: &[FeedSettings], epoch: u32) -> Broadcast {
        Broadcast {
            polls: settings.iter().map(|_| VecDeque::new()).collect(),
            settings,
            feeds: feeds.iter().map(Feed::new).collect(),
            epoch,
            heard: 0,
            logs: Slab::new(),
            subscribers: Subscribers::new(),
            active: VecDeque::new(),
            finished: Vec::new(),
            lagging: BTreeSet::new(),
            redeliver: VecDeque::new(),
            numbers: Vec::new(),
            heads: BinaryHeap::new(),
            origins: HashMap::new(),
            returns: HashMap::new(),
            partial: HashMap::new(),
            kept_bytes: 0,
            ticked: 0,
            swept: 0,
        }
    }

    // ---- what feeds say ----

    /// Messages have come.
    pub fn publish(&mut self, desk: &mut Desk, messages: &[Arc<Message>]) {
        messages.iter().for_each(|message| self.take_in(desk, message));
        self.gauge(desk);
    }

    /// Messages that will not come: whoever would have heard them is told so, in a round like that of a message.
    pub fn missed(&mut self, desk: &mut Desk, missed: &Missed) {
        self.heard = self.heard.max(missed.sequence);
        for (number, feed) in (0..).zip(&mut self.feeds) {
            if missed.feed.is_none_or(|it| it == number) {
                feed.misses(missed.sequence);
            }
        }
        let concerned = |log: &ChannelLog| {
            missed.feed.is_none_or(|it| it == log.feed)
                && missed.channel.as_deref().is_none_or(|it| settings::matches(&log.name, it))
        };
        let logs: Vec<u32> = self.logs.iter().filter(|(_, log)| concerned(log)).map(|(it, _)| it as u32).collect();
        for number in logs {
            let log = &mut self.logs[number as usize];
            log.miss(missed.sequence, &mut self.feeds[usize::from(log.feed)].ids);
            self.begin_pass(number);
        }
        self.gauge(desk);
    }

    fn take_in(&mut self, desk: &mut Desk, message: &Arc<Message>) {
        self.heard = message.sequence;
        let payload = channel_log::payload(message);
        let feed = usize::from(message.feed);
        match self.log_for(desk, feed, &message.channel) {
            Some(log) => self.push(log, &payload, desk.now()),
            None => self.feeds[feed].passes(&message.channel, message.sequence),
        }
        let mut logs = std::mem::take(&mut self.numbers);
        logs.clear();
        logs.extend(self.feeds[feed].covering(&message.channel));
        logs.iter().for_each(|&log| self.push(log, &payload, desk.now()));
        self.numbers = logs;
    }

    /// The row of the channel a message is for; `None`: nobody listens and nothing is kept.
    fn log_for(&mut self, desk: &mut Desk, feed: usize, channel: &str) -> Option<u32> {
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
        let log = ChannelLog::new(feed as u16, channel, it.arrives(channel), &it.settings.keep);
        Some(self.enter(log))
    }

    fn enter(&mut self, log: ChannelLog) -> u32 {
        let entry = self.logs.vacant_entry();
        let number = entry.key() as u32;
        self.feeds[usize::from(log.feed)].enter(&log, number);
        entry.insert(log);
        number
    }

    fn push(&mut self, number: u32, payload: &Payload, now: u32) {
        self.keeping(number, |log, feed| log.push(payload, now, &feed.settings.keep, &mut feed.ids));
        self.begin_pass(number);
    }

    /// Does something to a row that changes what it keeps.
    fn keeping<T>(&mut self, number: u32, change: impl FnOnce(&mut ChannelLog, &mut Feed) -> T) -> T {
        let log = &mut self.logs[number as usize];
        let before = log.bytes();
        let done = change(log, &mut self.feeds[usize::from(log.feed)]);
        self.kept_bytes = self.kept_bytes - before + log.bytes();
        done
    }

    // ---- what a client is sent ----

    /// What comes next for a client, in the order of sequence.
    pub fn more(&mut self, desk: &mut Desk, token: u32, batch: &mut Batch) {
        let Some(client) = self.subscribers.clients.get_mut(token as usize) else { return };
        batch.limit(self.settings[usize::from(client.route)].slow.max_pending / 2);
        if client.traits.contains(Traits::POLLS) || client.count == 0 {
            return;
        }
        // Nothing is on its way to it: it has taken all that it was given.
        let waited = std::mem::replace(&mut client.waits, NONE) != NONE;
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers.clear();
        numbers.extend(self.subscribers.of(token));
        let ready = self.settle_lost(desk, &numbers, waited) && self.tell_gaps(desk, token, &numbers);
        match numbers[..] {
            _ if !ready => {}
            [only] => while batch.has_room() && self.step(desk, token, only, batch) {},
            _ => self.merge(desk, token, &numbers, batch),
        }
        self.numbers = numbers;
        if !batch.has_room() || !ready {
            self.note_rest(token);
        }
        desk.counters().messages_out[mesh::ServiceKind::Broadcast as usize] += batch.count() as u64;
    }

    /// The next message of a subscription; `false`: there is none for now.
    fn step(&mut self, desk: &mut Desk, token: u32, number: u32, batch: &mut Batch) -> bool {
        let subscription = self.subscribers.get(number);
        let Some(client) = self.subscribers.clients.get_mut(token as usize) else { return false };
        match self.logs[subscription.log as usize].ahead(subscription.cursor) {
            Next::Message(payload, cursor, tick) => {
                match desk.now().saturating_sub(tick) <= channel_log::FRESH {
                    true => {
                        batch.push(payload, streams::form_of(desk, client, payload), |it, out| desk.deflate(it, out))
                    }
                    false => batch.push_old(payload, client.form),
                }
                self.subscribers.set(number, cursor);
                true
            }
            Next::Nothing(cursor) => {
                client.traits.remove(Traits::REPLAYS);
                self.subscribers.set(number, cursor);
                false
            }
            Next::Lost => false,
        }
    }

    /// What is still to come for a client behind a full batch, or a gap, is offered in a later turn, like all else.
    fn note_rest(&mut self, token: u32) {
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers.clear();
        numbers.extend(self.subscribers.of(token));
        // Who has caught up is conflated no more, though the batch had no room to find out.
        numbers.retain(|&number| {
            let behind = self.is_behind(number);
            if !behind {
                self.skip(number);
            }
            behind
        });
        numbers.iter().for_each(|&number| self.lags(number));
        // A visit is to the client, whichever of its subscriptions leads there.
        self.redeliver.extend(numbers.first());
        self.numbers = numbers;
    }

    fn is_behind(&self, number: u32) -> bool {
        let subscription = self.subscribers.get(number);
        self.logs[subscription.log as usize].is_behind(subscription.cursor)
    }

    /// The next messages of all subscriptions of a client; one that several of them have is sent once.
    fn merge(&mut self, desk: &mut Desk, token: u32, numbers: &[u32], batch: &mut Batch) {
        let mut heads = std::mem::take(&mut self.heads);
        heads.clear();
        heads.extend(numbers.iter().filter_map(|&number| Some(Reverse((self.peek(number)?, number)))));
        let mut sent = 0;
        while let Some(&Reverse((sequence, number))) = heads.peek() {
            match sequence == sent {
                true => self.skip(number),
                false if !batch.has_room() => break,
                false => drop(self.step(desk, token, number, batch)),
            }
            sent = sequence;
            heads.pop();
            heads.extend(self.peek(number).map(|next| Reverse((next, number))));
        }
        if heads.is_empty() {
            numbers.iter().for_each(|&number| self.skip(number));
            self.subscribers.clients[token as usize].traits.remove(Traits::REPLAYS);
        }
        self.heads = heads;
    }

    /// The sequence of a subscription's next message.
    fn peek(&self, number: u32) -> Option<u64> {
        let subscription = self.subscribers.get(number);
        match self.logs[subscription.log as usize].ahead(subscription.cursor) {
            Next::Message(payload, ..) => Some(payload.sequence),
            Next::Nothing(_) | Next::Lost => None,
        }
    }

    fn is_lost(&self, number: u32) -> bool {
        let subscription = self.subscribers.get(number);
        matches!(self.logs[subscription.log as usize].ahead(subscription.cursor), Next::Lost)
    }

    /// Takes the next message of these subscriptions, without sending it.
    fn take_next(&mut self, numbers: &[u32]) -> Option<Payload> {
        // Where something is lost, the poll that follows is told so: this one must not lead past it.
        if numbers.iter().any(|&number| self.is_lost(number)) {
            return None;
        }
        let first = numbers.iter().filter_map(|&number| self.peek(number)).min()?;
        let mut found = None;
        for &number in numbers {
            let subscription = self.subscribers.get(number);
            let next = self.logs[subscription.log as usize].ahead(subscription.cursor);
            if let Next::Message(payload, cursor, _) = next
                && payload.sequence == first
            {
                found = Some(payload.clone());
                self.subscribers.set(number, cursor);
            }
        }
        found
    }

    /// The id from which a client that has heard all up to its places would go on.
    fn last_seen(&self, token: u32) -> String {
        let before = |number: u32| {
            let subscription = self.subscribers.get(number);
            self.logs[subscription.log as usize].sequence_before(subscription.cursor)
        };
        let sequence = self.subscribers.of(token).filter_map(before).min();
        // Who came with an id that this shard has still to hear of has heard more than the shard.
        let heard = self.subscribers.of(token).map(|number| self.subscribers.get(number).cursor.heard()).max();
        mesh::id(self.epoch, sequence.unwrap_or(self.heard.max(heard.unwrap_or(0))))
    }

    /// Goes on without sending.
    fn skip(&mut self, number: u32) {
        let subscription = self.subscribers.get(number);
        if let Next::Message(_, cursor, _) | Next::Nothing(cursor) =
            self.logs[subscription.log as usize].ahead(subscription.cursor)
        {
            self.subscribers.set(number, cursor);
        }
    }

    // ---- who listens ----

    /// The row of a channel or prefix that a client asks for. A prefix begins with what comes.
    fn log_of(&mut self, feed: u16, channel: &str) -> u32 {
        let it = &mut self.feeds[usize::from(feed)];
        if let Some(log) = it.find(channel) {
            return log;
        }
        let gone = if channel.ends_with('*') { self.heard } else { it.arrives(channel) };
        let log = ChannelLog::new(feed, channel, gone, &it.settings.keep);
        self.enter(log)
    }

    /// The feeds of a client's route that may have a channel.
    fn feeds_of<'s>(&'s self, token: u32, channel: &'s str) -> impl Iterator<Item = u16> + 's {
        let route = usize::from(self.subscribers.clients[token as usize].route);
        let feeds = self.settings[route].feeds.iter().copied();
        feeds.filter(move |&feed| self.feeds[usize::from(feed)].settings.may_carry(channel))
    }

    /// Subscribes a client to channels of all feeds of its route that may have them, from behind an id for all of them.
    /// The channels of which something is gone; how many rows and messages were looked at for it.
    fn subscribe(
        &mut self,
        desk: &mut Desk,
        token: u32,
        channels: &[String],
        last: Option<&str>,
    ) -> (Vec<String>, u64) {
        let logs: Vec<Vec<u32>> = channels.iter().map(|channel| self.logs_of(token, channel)).collect();
        let (start, known_lost) = self.start(token, channels, last, &logs);
        let (mut lost_of, mut steps) = (Vec::new(), 0);
        for (channel, logs) in channels.iter().zip(logs) {
            let mut told = false;
            for log in logs {
                let (cursor, lost, looked) = self.place(desk, token, log, start);
                // One notice for a channel, from whichever feeds it comes.
                let owes = (lost || known_lost) && !told;
                self.listen(token, log, if owes { cursor.owing(true) } else { cursor });
                (told, steps) = (told || owes, steps + looked);
            }
            lost_of.extend(Some(channel.clone()).filter(|_| told));
        }
        if start != Start::Live {
            self.subscribers.clients[token as usize].traits.insert(Traits::REPLAYS);
        }
        if let Some(last) = last.filter(|_| !lost_of.is_empty()) {
            self.returns.insert(token, last.into());
        }
        desk.counters().prefix_steps += steps;
        self.gauge(desk);
        (lost_of, steps)
    }

    fn logs_of(&mut self, token: u32, channel: &str) -> Vec<u32> {
        let feeds: Vec<u16> = self.feeds_of(token, channel).collect();
        feeds.into_iter().map(|feed| self.log_of(feed, channel)).collect()
    }

    fn listen(&mut self, token: u32, number: u32, cursor: Cursor) {
        // The answer to a poll tells of gaps by itself.
        let polls = self.subscribers.clients[token as usize].traits.contains(Traits::POLLS);
        let cursor = if polls { cursor.told() } else { cursor };
        self.subscribers.add(token, number, &mut self.logs[number as usize], cursor);
        if self.logs[number as usize].is_behind(cursor) {
            self.lags(self.subscribers.clients[token as usize].first);
        }
    }

    /// Where to begin in a row, whether something is gone, and how many rows and messages were looked at.
    fn place(&mut self, desk: &Desk, token: u32, number: u32, start: Start) -> (Cursor, bool, u64) {
        let snapshot = self.settings[usize::from(self.subscribers.clients[token as usize].route)].snapshot;
        let sequence = match start {
            Start::Live if snapshot => {
                return (Cursor::conflating(0), false, self.fetch(number, |log, below, _| log.fetch_values(below)));
            }
            Start::Live => return (Cursor::at(self.heard), false, 0),
            Start::Kept => 0,
            Start::Behind(sequence) => sequence,
        };
        let steps = self.fetch(number, |log, below, feed| {
            let gone = feed.gone_below(log.name.trim_end_matches('*'));
            log.fetch(sequence, gone, below, desk.now(), &feed.settings.keep)
        });
        match self.logs[number as usize].behind(sequence) {
            Ok(cursor) => (cursor, false, steps),
            Err(cursor) => (cursor, true, steps),
        }
    }

    /// Lets a prefix fetch what it lacks from the rows of the channels that it covers.
    fn fetch(&mut self, number: u32, fetch: impl FnOnce(&mut ChannelLog, Below<'_>, &Feed) -> u64) -> u64 {
        if !self.logs[number as usize].is_prefix() {
            return 0;
        }
        let empty = ChannelLog::new(0, "", 0, &Keep::NOTHING);
        let mut log = std::mem::replace(&mut self.logs[number as usize], empty);
        let (feed, name) = (&self.feeds[usize::from(log.feed)], log.name.clone());
        let below = || feed.covered(name.trim_end_matches('*')).map(|log| &self.logs[log as usize]).collect();
        let steps = fetch(&mut log, &below, feed);
        self.logs[number as usize] = log;
        steps
    }

    /// Where to begin for a client that says what it has heard, and whether something is already known to be lost.
    fn start(&self, token: u32, asked: &[String], last: Option<&str>, logs: &[Vec<u32>]) -> (Start, bool) {
        let Some(last) = last else { return (Start::Live, false) };
        let route = usize::from(self.subscribers.clients[token as usize].route);
        let holds = |name: &str| {
            self.subscribers.of(token).any(|it| matches(&self.logs[self.subscribers.get(it).log as usize].name, name))
        };
        let is_heard = |name: &str| asked.iter().any(|asked| matches(asked, name)) || holds(name);
        // Whichever channel it was heard by, it says what was heard of all.
        let feeds = self.settings[route].feeds.iter().map(|&feed| &self.feeds[usize::from(feed)]);
        let own = || feeds.filter_map(|feed| feed.ids.earliest(last, is_heard)).min();
        match mesh::sequence_of(last, self.epoch).filter(|&it| it <= self.heard + AHEAD).or_else(own) {
            Some(sequence) => (Start::Behind(sequence), false),
            None if self.is_from_before(last, logs) => (Start::Kept, true),
            None => (Start::Live, true),
        }
    }

    /// An id that may have been true: of a former run of the server, or the feed's own and no longer kept.
    fn is_from_before(&self, last: &str, logs: &[Vec<u32>]) -> bool {
        let other_epoch = last.split_once('-').is_some_and(|(epoch, sequence)| {
            mesh::epoch_of(epoch).is_some_and(|it| it != self.epoch) && sequence.parse::<u64>().is_ok()
        });
        other_epoch || logs.iter().flatten().any(|&log| self.logs[log as usize].has_own_ids())
    }

    fn leave(&mut self, desk: &mut Desk, number: u32) {
        let place = self.subscribers.get(number).log;
        let log = &mut self.logs[place as usize];
        let moved = self.subscribers.remove(number, log);
        if log.is_prefix() && log.subscribers.is_empty() {
            self.rest(desk, place);
        }
        if let Some(moved) = moved {
            self.offer_again(moved);
        }
        self.forget_idle(place);
        self.gauge(desk);
    }

    /// A prefix that somebody has used lately stays for a while: it is likely to be asked for again.
    fn rest(&mut self, desk: &Desk, number: u32) {
        let log = &mut self.logs[number as usize];
        let feed = &mut self.feeds[usize::from(log.feed)];
        log.rests_until = desk.now() + feed.settings.linger_ticks;
        if let Some((other, until)) = feed.rests(number, log.rests_until) {
            self.expire(other, until);
        }
    }

    /// Prefixes that have stayed long enough are given up.
    fn expire_prefixes(&mut self, now: u32) {
        for feed in 0..self.feeds.len() {
            while let Some((log, until)) = self.feeds[feed].expired(now) {
                self.expire(log, until);
            }
        }
    }

    /// Gives a prefix up, unless somebody has come to it since.
    fn expire(&mut self, number: u32, until: u32) {
        let rests = |log: &ChannelLog| log.is_prefix() && log.subscribers.is_empty() && log.rests_until == until;
        if self.logs.get(number as usize).is_some_and(rests) {
            self.give_up(number);
        }
    }

    /// A channel of which nothing is kept and that nobody listens to is given up.
    fn forget_idle(&mut self, number: u32) {
        let idle = |log: &ChannelLog| !log.is_prefix() && log.is_idle() && !log.pass.active;
        if self.logs.get(number as usize).is_some_and(idle) {
            self.give_up(number);
        }
    }

    fn give_up(&mut self, number: u32) {
        let log = self.logs.remove(number as usize);
        self.lagging.remove(&number);
        self.kept_bytes -= log.bytes();
        self.feeds[usize::from(log.feed)].leave(&log);
    }

    /// A client is gone.
    pub fn closed(&mut self, desk: &mut Desk, token: u32) {
        if !self.subscribers.clients.contains(token as usize) {
            return;
        }
        let numbers: Vec<u32> = self.subscribers.of(token).collect();
        numbers.into_iter().for_each(|number| self.leave(desk, number));
        self.subscribers.clients.remove(token as usize);
        self.partial.remove(&token);
        self.origins.remove(&token);
        self.returns.remove(&token);
    }

    // ---- what is seen from outside ----

    fn gauge(&self, desk: &mut Desk) {
        let counters = desk.counters();
        counters.subscriptions = u64::from(self.subscribers.count());
        counters.channels = self.logs.len() as u64;
        counters.replay_bytes = self.kept_bytes;
    }

    /// Who listens to what.
    pub fn count_subscribers(&self, desk: &mut Desk, ask: &SubscribersQuery) {
        let channels = listing::listing(self.logs.iter().map(|(_, log)| log), ask);
        let listeners = SubscriberCounts { shard: desk.shard(), question: ask.question, channels };
        desk.post(ToControl::SubscriberCounts(Box::new(listeners)));
    }
}

//! Broadcast: what a feed says once, every client hears that listens, by whatever transport it came.
//!
//! A letter brings messages from the control thread; each goes into the *rows* (`rows.rs`) of its channel and of the
//! prefixes that cover it. Who listens is on the *roll* (`roll.rs`): clients, and their places in rows. A message is
//! never handed to a client: a *round* (`rounds.rs`) goes over those who listen and offers the shard those for which
//! there is something, and when the shard can send, it asks ([`Broadcast::more`]) and gets all that has come until
//! then, in the order of sequence. So a client that is slow costs nothing but its place, and what cannot be sent one by
//! one is gathered.
//!
//! `requests.rs` reads what a client asks for, `words.rs` what else is said between both sides, `streams.rs` is how a
//! client comes in and how it is spoken to, by transport.

mod requests;
mod roll;
mod rounds;
mod rows;
mod settings;
mod streams;
mod words;

use crate::mesh::{self, ChannelState, Listeners, Message, Missed, ToControl};
use crate::shard::door::{Batch, Desk, Payload};
use crate::shard::slab::Handle;
use roll::{Roll, Traits};
use rows::{Cursor, Next, Row};
pub use settings::{FeedSettings, Keep, Policy, Settings, Slow};
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use words::Gap;

/// Channels of one feed that a shard keeps messages of.
const CHANNELS: usize = 1 << 20;

/// The broadcast service of one shard.
pub struct Broadcast {
    settings: Arc<[Settings]>,
    feeds: Vec<Feed>,
    epoch: u32,
    /// The sequence of the last message that came.
    heard: u64,
    rows: Slab<Row>,
    roll: Roll,
    /// Rows with a round under way.
    active: VecDeque<u32>,
    /// Rows whose round has ended.
    finished: Vec<u32>,
    /// Rows with somebody behind.
    lagging: BTreeSet<u32>,
    /// Subscriptions that are to be visited again: a round may have passed them by, or has found them in flight.
    revisit: VecDeque<u32>,
    /// Kept to be used again.
    numbers: Vec<u32>,
    polls: VecDeque<Poll>,
    /// Fields of the answers to polls from pages of other origins.
    origins: HashMap<u32, Vec<(&'static str, String)>>,
    /// What clients have begun to say and not finished.
    partial: HashMap<u32, Vec<u8>>,
    ticked: u32,
    /// Where the sweep over rows goes on.
    swept: usize,
}

/// A feed, and the rows of its channels.
struct Feed {
    settings: FeedSettings,
    rows: HashMap<Box<str>, u32>,
    /// The lengths of the prefixes that somebody listens to, without the `*`, and how many have each. In order, so that
    /// a simulated shard does the same each time.
    prefixes: BTreeMap<usize, u32>,
    /// Messages up to this sequence may have gone by without a row.
    gone: u64,
}

/// A long poll that waits.
struct Poll {
    until: u32,
    client: u32,
    who: Handle,
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
    pub fn new(settings: Arc<[Settings]>, feeds: &[FeedSettings], epoch: u32) -> Broadcast {
        let feed = |settings: &FeedSettings| Feed {
            settings: settings.clone(),
            rows: HashMap::new(),
            prefixes: BTreeMap::new(),
            gone: 0,
        };
        Broadcast {
            settings,
            feeds: feeds.iter().map(feed).collect(),
            epoch,
            heard: 0,
            rows: Slab::new(),
            roll: Roll::new(),
            active: VecDeque::new(),
            finished: Vec::new(),
            lagging: BTreeSet::new(),
            revisit: VecDeque::new(),
            numbers: Vec::new(),
            polls: VecDeque::new(),
            origins: HashMap::new(),
            partial: HashMap::new(),
            ticked: 0,
            swept: 0,
        }
    }

    // ---- what feeds say ----

    /// Messages have come.
    pub fn publish(&mut self, desk: &mut Desk, messages: &[Arc<Message>]) {
        messages.iter().for_each(|message| self.take_in(desk.now(), message));
        self.gauge(desk);
    }

    /// Messages that will not come: whoever would have heard them is told so, in a round like that of a message.
    pub fn missed(&mut self, desk: &mut Desk, missed: &Missed) {
        self.heard = self.heard.max(missed.sequence);
        for (number, feed) in (0..).zip(&mut self.feeds) {
            if missed.feed.is_none_or(|it| it == number) {
                feed.gone = missed.sequence;
            }
        }
        let concerned = |row: &Row| {
            missed.feed.is_none_or(|it| it == row.feed)
                && missed.channel.as_deref().is_none_or(|it| settings::matches(&row.name, it))
        };
        let rows: Vec<u32> = self.rows.iter().filter(|(_, row)| concerned(row)).map(|(it, _)| it as u32).collect();
        for number in rows {
            let row = &mut self.rows[number as usize];
            row.miss(missed.sequence, &self.feeds[usize::from(row.feed)].settings.keep);
            self.begin_round(number);
        }
        self.gauge(desk);
    }

    fn take_in(&mut self, now: u32, message: &Arc<Message>) {
        self.heard = message.sequence;
        let payload = rows::payload(message);
        let feed = usize::from(message.feed);
        match self.row_for(feed, &message.channel) {
            Some(row) => self.push(row, &payload, now),
            None => self.feeds[feed].gone = message.sequence,
        }
        if !self.feeds[feed].prefixes.is_empty() {
            let rows: Vec<u32> = self.prefixes_of(feed, &message.channel).collect();
            rows.into_iter().for_each(|row| self.push(row, &payload, now));
        }
    }

    /// The row of the channel a message is for; `None`: nobody listens and nothing is kept.
    fn row_for(&mut self, feed: usize, channel: &str) -> Option<u32> {
        let Feed { settings, rows, gone, .. } = &self.feeds[feed];
        if let Some(&row) = rows.get(channel) {
            return Some(row);
        }
        let keeps = settings.keep.messages > 0 || settings.keep.values;
        let row = (keeps && rows.len() < CHANNELS).then(|| Row::new(feed as u16, channel, *gone))?;
        Some(self.enter(row))
    }

    /// The rows of the prefixes that cover a channel.
    fn prefixes_of(&self, feed: usize, channel: &str) -> impl Iterator<Item = u32> {
        let Feed { rows, prefixes, .. } = &self.feeds[feed];
        let covering = prefixes.keys().filter_map(|&len| channel.get(..len));
        covering.filter_map(|prefix| rows.get(format!("{prefix}*").as_str()).copied())
    }

    fn enter(&mut self, row: Row) -> u32 {
        let (feed, name) = (usize::from(row.feed), row.name.clone());
        if row.is_prefix() {
            *self.feeds[feed].prefixes.entry(name.len() - 1).or_default() += 1;
        }
        let number = self.rows.insert(row) as u32;
        self.feeds[feed].rows.insert(name, number);
        number
    }

    fn push(&mut self, number: u32, payload: &Payload, now: u32) {
        let row = &mut self.rows[number as usize];
        let keep = &self.feeds[usize::from(row.feed)].settings.keep;
        row.push(payload, now, keep);
        self.begin_round(number);
    }

    // ---- what a client is sent ----

    /// What comes next for a client, in the order of sequence.
    pub fn more(&mut self, desk: &mut Desk, token: u32, batch: &mut Batch) {
        let Some(client) = self.roll.clients.get(token as usize) else { return };
        let (first, count) = (client.first, client.count);
        batch.limit(self.settings[usize::from(client.route)].slow.max_pending / 2);
        if client.traits.contains(Traits::POLLS) {
            return;
        }
        match count {
            0 => return,
            1 => while batch.has_room() && self.step(desk, token, first, batch) {},
            _ => self.merge_all(desk, token, batch),
        }
        if !batch.has_room() {
            self.note_rest(token);
        }
        desk.tally().messages_out[mesh::ServiceKind::Broadcast as usize] += batch.count() as u64;
    }

    /// The next message of a subscription; `false`: there is none for now.
    fn step(&mut self, desk: &mut Desk, token: u32, number: u32, batch: &mut Batch) -> bool {
        let subscription = self.roll.get(number);
        let Some(client) = self.roll.clients.get_mut(token as usize) else { return false };
        match self.rows[subscription.row as usize].ahead(subscription.cursor) {
            Next::Message(payload, cursor) => {
                batch.push(payload, streams::form_of(desk, client, payload), |body, out| desk.deflate(body, out));
                self.roll.set(number, cursor);
                true
            }
            Next::Nothing(cursor) => {
                client.traits.remove(Traits::REPLAYS);
                self.roll.set(number, cursor);
                false
            }
            Next::Lost => {
                self.too_slow(desk, number);
                false
            }
        }
    }

    /// What is still to come for a client behind a full batch, or a gap, is offered in a later turn, like all else.
    fn note_rest(&mut self, token: u32) {
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers.clear();
        numbers.extend(self.roll.of(token));
        for &number in &numbers {
            let subscription = self.roll.get(number);
            if subscription.cursor.place() < self.rows[subscription.row as usize].end() {
                self.offer_again(number);
            }
        }
        self.numbers = numbers;
    }

    fn merge_all(&mut self, desk: &mut Desk, token: u32, batch: &mut Batch) {
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers.clear();
        numbers.extend(self.roll.of(token));
        while batch.has_room() && self.merge(desk, token, &numbers, batch) {}
        self.numbers = numbers;
    }

    /// The next message of all subscriptions of a client; one that several of them have is sent once.
    fn merge(&mut self, desk: &mut Desk, token: u32, numbers: &[u32], batch: &mut Batch) -> bool {
        let mut best: Option<(u64, u32)> = None;
        for &number in numbers {
            match self.peek(number) {
                Ok(Some(sequence)) if best.is_none_or(|(first, _)| sequence < first) => best = Some((sequence, number)),
                Ok(_) => {}
                Err(()) => {
                    self.too_slow(desk, number);
                    return false;
                }
            }
        }
        match best {
            Some((first, number)) => {
                // Only what is sent now: of a later one the client may give up the subscription that would send it.
                for &other in numbers.iter().filter(|&&other| other != number) {
                    if self.peek(other) == Ok(Some(first)) {
                        self.pass(other);
                    }
                }
                self.step(desk, token, number, batch)
            }
            None => {
                numbers.iter().for_each(|&number| self.pass(number));
                self.roll.clients[token as usize].traits.remove(Traits::REPLAYS);
                false
            }
        }
    }

    /// The sequence of a subscription's next message. `Err`: it is lost.
    fn peek(&self, number: u32) -> Result<Option<u64>, ()> {
        let subscription = self.roll.get(number);
        match self.rows[subscription.row as usize].ahead(subscription.cursor) {
            Next::Message(payload, _) => Ok(Some(payload.sequence)),
            Next::Nothing(_) => Ok(None),
            Next::Lost => Err(()),
        }
    }

    /// Takes the next message of these subscriptions, without sending it.
    fn take_next(&mut self, numbers: &[u32]) -> Option<Payload> {
        // Where something is lost, the poll that follows is told so: this one must not lead past it.
        let next = |first: Option<u64>, &number: &u32| self.peek(number).map(|it| it.into_iter().chain(first).min());
        let first = numbers.iter().try_fold(None, next).unwrap_or(None)?;
        let mut found = None;
        for &number in numbers {
            let subscription = self.roll.get(number);
            let Next::Message(payload, cursor) = self.rows[subscription.row as usize].ahead(subscription.cursor) else {
                continue;
            };
            if payload.sequence == first {
                found = Some(payload.clone());
                self.roll.set(number, cursor);
            }
        }
        found
    }

    /// The id from which a client that has heard all up to its places would go on.
    fn last_seen(&self, token: u32) -> String {
        let before = |number: u32| {
            let subscription = self.roll.get(number);
            self.rows[subscription.row as usize].sequence_before(subscription.cursor)
        };
        let sequence = self.roll.of(token).filter_map(before).min();
        mesh::id(self.epoch, sequence.unwrap_or(self.heard))
    }

    /// Goes on without sending.
    fn pass(&mut self, number: u32) {
        let subscription = self.roll.get(number);
        if let Next::Message(_, cursor) | Next::Nothing(cursor) =
            self.rows[subscription.row as usize].ahead(subscription.cursor)
        {
            self.roll.set(number, cursor);
        }
    }

    // ---- who listens ----

    /// The row of a channel or prefix that a client asks for.
    fn row_of(&mut self, desk: &Desk, feed: u16, channel: &str) -> u32 {
        let Feed { settings, rows, gone, .. } = &self.feeds[usize::from(feed)];
        if let Some(&row) = rows.get(channel) {
            return row;
        }
        let row = match channel.strip_suffix('*') {
            Some(prefix) => {
                let below = rows.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, &row)| row);
                let channels = below.map(|row| &self.rows[row as usize]).filter(|row| !row.is_prefix());
                let mut row = Row::merged(feed, channel, *gone, channels, &settings.keep);
                row.trim(desk.now(), false, &settings.keep);
                row
            }
            None => Row::new(feed, channel, *gone),
        };
        self.enter(row)
    }

    /// Subscribes a client to a channel of all feeds of its route that may have it.
    fn subscribe(&mut self, desk: &mut Desk, token: u32, channel: &str, last: Option<&str>) -> Option<Gap> {
        let route = usize::from(self.roll.clients[token as usize].route);
        let (feeds, snapshot) = (self.settings[route].feeds.clone(), self.settings[route].snapshot);
        let carries = |feed: &u16| self.feeds[usize::from(*feed)].settings.may_carry(channel);
        let feeds: Vec<u16> = feeds.into_iter().filter(carries).collect();
        let rows: Vec<u32> = feeds.into_iter().map(|feed| self.row_of(desk, feed, channel)).collect();
        let (start, mut lost) = self.start(last, &rows);
        for number in rows {
            let row = &mut self.rows[number as usize];
            let cursor = match start {
                Start::Live if snapshot => Cursor::conflating(0),
                Start::Live => Cursor::at(row.end()),
                Start::Kept => row.behind(0).unwrap_or_else(|oldest| oldest),
                Start::Behind(sequence) => row.behind(sequence).unwrap_or_else(|oldest| {
                    lost = true;
                    oldest
                }),
            };
            let behind = cursor.place() < row.end();
            self.roll.add(token, number, row, cursor);
            if behind {
                self.lags(self.roll.clients[token as usize].first);
            }
        }
        if start != Start::Live {
            self.roll.clients[token as usize].traits.insert(Traits::REPLAYS);
        }
        self.gauge(desk);
        lost.then(|| self.gap(token, channel, last))
    }

    /// Where to begin for a client that says what it has heard, and whether something is already known to be lost.
    fn start(&self, last: Option<&str>, rows: &[u32]) -> (Start, bool) {
        let Some(last) = last else { return (Start::Live, false) };
        let own = || rows.iter().find_map(|&row| self.rows[row as usize].sequence_of(last));
        match mesh::sequence_of(last, self.epoch).filter(|&sequence| sequence <= self.heard).or_else(own) {
            Some(sequence) => (Start::Behind(sequence), false),
            None if self.is_from_before(last, rows) => (Start::Kept, true),
            None => (Start::Live, true),
        }
    }

    /// An id that may have been true: of a former run of the server, or the feed's own and no longer kept.
    fn is_from_before(&self, last: &str, rows: &[u32]) -> bool {
        let other_epoch = last.split_once('-').is_some_and(|(epoch, sequence)| {
            mesh::epoch_of(epoch).is_some_and(|it| it != self.epoch) && sequence.parse::<u64>().is_ok()
        });
        other_epoch || rows.iter().any(|&row| self.rows[row as usize].has_own_ids())
    }

    /// What a client is told that has lost something of a channel.
    fn gap(&self, token: u32, channel: &str, after: Option<&str>) -> Gap {
        let named = |number: &u32| &*self.rows[self.roll.get(*number).row as usize].name == channel;
        let next = |number: u32| {
            let subscription = self.roll.get(number);
            match self.rows[subscription.row as usize].ahead(subscription.cursor) {
                Next::Message(payload, _) => Some((payload.sequence, payload.id())),
                Next::Nothing(_) | Next::Lost => None,
            }
        };
        let next = self.roll.of(token).filter(named).filter_map(next).min();
        Gap { channel: channel.into(), after: after.map(Into::into), next: next.map(|(_, id)| id) }
    }

    /// Ends all subscriptions of a client to a channel; says whether there were any.
    fn unsubscribe(&mut self, desk: &mut Desk, token: u32, channel: &str) -> bool {
        let named = |number: &u32| &*self.rows[self.roll.get(*number).row as usize].name == channel;
        let numbers: Vec<u32> = self.roll.of(token).filter(named).collect();
        numbers.iter().for_each(|&number| self.leave(desk, number));
        !numbers.is_empty()
    }

    fn leave(&mut self, desk: &mut Desk, number: u32) {
        let place = self.roll.get(number).row;
        let row = &mut self.rows[place as usize];
        let moved = self.roll.remove(number, row);
        if let Some(moved) = moved {
            self.offer_again(moved);
        }
        self.forget_idle(place);
        self.gauge(desk);
    }

    /// A row that keeps nothing and that nobody listens to is given up.
    fn forget_idle(&mut self, number: u32) {
        let Some(row) = self.rows.get(number as usize) else { return };
        if !row.is_idle() || row.round.active {
            return;
        }
        let row = self.rows.remove(number as usize);
        self.lagging.remove(&number);
        let feed = &mut self.feeds[usize::from(row.feed)];
        feed.rows.remove(&row.name);
        if row.is_prefix() {
            let len = row.name.len() - 1;
            feed.prefixes.entry(len).and_modify(|count| *count -= 1);
            feed.prefixes.retain(|_, count| *count > 0);
        } else {
            feed.gone = feed.gone.max(row.gone());
        }
    }

    /// A client is gone.
    pub fn closed(&mut self, desk: &mut Desk, token: u32) {
        if !self.roll.clients.contains(token as usize) {
            return;
        }
        let numbers: Vec<u32> = self.roll.of(token).collect();
        numbers.into_iter().for_each(|number| self.leave(desk, number));
        self.roll.clients.remove(token as usize);
        self.partial.remove(&token);
        self.origins.remove(&token);
    }

    // ---- what is seen from outside ----

    fn gauge(&self, desk: &mut Desk) {
        let tally = desk.tally();
        tally.subscriptions = u64::from(self.roll.count());
        tally.channels = self.rows.len() as u64;
    }

    /// Who listens to what.
    pub fn count_listeners(&self, desk: &mut Desk, question: u64, channel: Option<&str>) {
        let wanted = |row: &&Row| channel.is_none_or(|channel| *row.name == *channel);
        let state = |row: &Row| ChannelState {
            feed: row.feed,
            channel: row.name.clone(),
            subscribers: row.subscribers.len() as u32,
            kept: row.kept() as u32,
            kept_bytes: row.kept_bytes(),
        };
        let channels = self.rows.iter().map(|(_, row)| row).filter(wanted).map(state).collect();
        let listeners = Listeners { shard: desk.shard(), question, channels };
        desk.post(ToControl::Listeners(Box::new(listeners)));
    }
}

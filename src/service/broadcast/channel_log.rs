//! Rows: what a channel has said, in order, for those that hear it now and those that come back.
//!
//! A row belongs to a channel of a feed, or to a prefix (`news.*`), which is a row of its own with the messages of all
//! channels that begin so. Its messages stand in the order of their sequence. Whoever listens has a [`Cursor`] and
//! nothing else: the sequence up to which it has heard what there is, or has given it up.
//!
//! A message leaves a row when it is beyond the feed's replay and nobody who lags may still want it. Where last values
//! are asked for, the last message of each key stays behind (`values.rs`).
//!
//! A prefix begins empty, with what is said from then on. What its channels keep of earlier days is fetched when
//! somebody comes back for it ([`ChannelLog::fetch`]), from the newest on, no more than that client is sent.

use super::ids::Ids;
use super::settings::Keep;
use super::values::Values;
use crate::mesh::Message;
use crate::shard::door::Payload;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// A listener's place in a row: it has heard, or given up, all up to a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(u64);

/// Set: messages that a later one of the same key supersedes are passed over.
const CONFLATES: u64 = 1 << 63;
/// Set: the client is to be told that something is gone that it was too slow for, or that came too late for it.
const MISSED: u64 = 1 << 62;
/// Set: the client is to be told that something is gone behind the id that it came back with.
const BACK: u64 = 1 << 61;

impl Cursor {
    /// Behind this sequence.
    pub fn at(sequence: u64) -> Cursor {
        Cursor(sequence)
    }

    /// Behind this sequence, wanting only the last value of each key until it has caught up.
    pub fn conflating(sequence: u64) -> Cursor {
        Cursor(sequence | CONFLATES)
    }

    /// All up to this sequence was heard.
    pub fn heard(self) -> u64 {
        self.0 & !(CONFLATES | MISSED | BACK)
    }

    /// Superseded messages are passed over.
    pub fn conflates(self) -> bool {
        self.0 & CONFLATES != 0
    }

    /// A gap is to be told before anything else is sent.
    pub fn owes_gap(self) -> bool {
        self.0 & (MISSED | BACK) != 0
    }

    /// The gap lies behind the id that the client came back with.
    pub fn owes_return(self) -> bool {
        self.0 & BACK != 0
    }

    /// Behind another sequence; what is owed stays owed.
    pub fn moved(self, sequence: u64) -> Cursor {
        Cursor(self.0 & (MISSED | BACK) | sequence)
    }

    /// At the same place, wanting only the last value of each key; what is owed stays owed.
    pub fn conflated(self) -> Cursor {
        Cursor(self.0 | CONFLATES)
    }

    /// A gap is to be told. `back`: behind the client's id.
    pub fn owing(self, back: bool) -> Cursor {
        Cursor(self.0 | if back { BACK } else { MISSED })
    }

    /// The gap was told.
    pub fn told(self) -> Cursor {
        Cursor(self.0 & !(MISSED | BACK))
    }
}

/// A message in its row.
struct Item {
    payload: Payload,
    /// The message's, so that a search need not look at messages.
    sequence: u64,
    /// Cost of all messages of the row before this one, from [`SUMS`] on.
    sum: u64,
    /// Bytes that all messages before this one have to send, from [`SUMS`] on.
    sent: u64,
    /// The tick in which it came.
    tick: u32,
}

impl Item {
    /// Bytes that the messages between this one and the row's end have to send.
    fn behind(&self, sent: u64) -> u64 {
        sent - self.sent - self.payload.frame_len()
    }
}

/// Where sums begin: older messages may be put in front of a row.
const SUMS: u64 = 1 << 62;

/// Ticks for which the forms of a message are kept: those who hear it as it comes share them.
pub const FRESH: u32 = 8;

/// A channel of a feed, or a prefix.
pub struct ChannelLog {
    /// The feed.
    pub feed: u16,
    /// The channel, or the prefix with its `*`.
    pub name: Rc<str>,
    /// Those who listen, by the numbers of their subscriptions.
    pub subscribers: Vec<u32>,
    /// Those of them that were found behind.
    pub laggards: Vec<u32>,
    /// The round: who is next, and how many are still to be visited.
    pub pass: Pass,
    /// Of a prefix that nobody listens to: the tick until which it stays.
    pub rests_until: u32,
    items: VecDeque<Item>,
    /// The last message's sequence, kept or not.
    last: u64,
    sum: u64,
    sent: u64,
    values: Option<Box<Values>>,
    /// Messages up to this sequence may be gone, or are still to be fetched.
    gone: u64,
    /// There is nothing more to be fetched.
    whole: bool,
    /// So many items, from the front, have let go of their forms.
    stale: usize,
    /// Up to this sequence something never came.
    missed: u64,
}

/// A round over the subscribers of a row, which a new message begins anew where it stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// Who is next.
    pub position: u32,
    /// Visits left.
    pub remaining: u32,
    /// On the list of rows with a round under way.
    pub active: bool,
}

/// Finds the rows of the channels that a prefix covers, for whoever needs them.
pub type Below<'r> = &'r dyn Fn() -> Vec<&'r ChannelLog>;

/// What comes next for a listener.
pub enum Next<'r> {
    /// This message, which came in this tick; the cursor behind it.
    Message(&'r Payload, Cursor, u32),
    /// Nothing; the cursor at the row's end.
    Nothing(Cursor),
    /// What was next has left the row.
    Lost,
}

impl ChannelLog {
    /// An empty row. Messages up to the sequence `gone` may have been missed; of a prefix, they may be fetched.
    pub fn new(feed: u16, name: &str, gone: u64, keep: &Keep) -> ChannelLog {
        ChannelLog {
            feed,
            name: name.into(),
            subscribers: Vec::new(),
            laggards: Vec::new(),
            pass: Pass::default(),
            rests_until: 0,
            items: VecDeque::new(),
            last: 0,
            sum: SUMS,
            sent: SUMS,
            values: keep.values.then(Box::default),
            gone,
            whole: !name.ends_with('*'),
            stale: 0,
            missed: 0,
        }
    }

    /// Whether this is a prefix.
    pub fn is_prefix(&self) -> bool {
        self.name.ends_with('*')
    }

    /// Nobody listens, and of a channel nothing is kept.
    pub fn is_idle(&self) -> bool {
        self.subscribers.is_empty() && (self.is_prefix() || self.kept() == 0)
    }

    /// The sequence of the last message, kept or not; zero: there was none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Somebody at this cursor has not heard all there is, or is to be told something.
    pub fn is_behind(&self, cursor: Cursor) -> bool {
        cursor.owes_gap() || cursor.heard() < self.last
    }

    /// Messages kept.
    pub fn kept(&self) -> usize {
        self.items.len() + self.values.as_ref().map_or(0, |values| values.alone())
    }

    /// Bytes that those kept for replay cost, about.
    pub fn kept_bytes(&self) -> u64 {
        self.items.front().map_or(0, |item| self.sum - item.sum)
    }

    /// Bytes that all of its messages cost, about; of a prefix none, since its channels have them.
    pub fn bytes(&self) -> u64 {
        let values = self.values.as_ref().map_or(0, |values| values.alone_bytes());
        if self.is_prefix() { 0 } else { self.kept_bytes() + values }
    }

    /// Messages up to this sequence may be gone.
    pub fn gone(&self) -> u64 {
        self.gone
    }

    // ---- what comes and goes ----

    /// The next message of the channel.
    pub fn push(&mut self, payload: &Payload, tick: u32, keep: &Keep, ids: &mut Ids) {
        if !self.is_prefix() {
            ids.enter(payload, &self.name);
        }
        if let Some(values) = &mut self.values {
            let old = values.supersede(payload, tick, self.name.ends_with('*'));
            self.forget(old, ids);
        }
        let (sum, sent) = (self.sum, self.sent);
        self.items.push_back(Item { payload: payload.clone(), sequence: payload.sequence, sum, sent, tick });
        self.sum += payload.cost();
        self.sent += payload.frame_len();
        self.last = payload.sequence;
        // A round that does not come to its end does not keep more than who lags may want.
        self.trim_to_backlog(tick, keep, ids);
    }

    fn trim_to_backlog(&mut self, now: u32, keep: &Keep, ids: &mut Ids) {
        let lagging = !self.subscribers.is_empty();
        while self.items.front().is_some_and(|front| self.is_due(front, now, lagging, keep)) {
            self.pop(ids);
        }
    }

    /// Messages up to this sequence never came, and what came before them goes: whoever goes on behind has lost
    /// something. A client that is at last values only is not told.
    pub fn miss(&mut self, sequence: u64, ids: &mut Ids) {
        while !self.items.is_empty() {
            self.pop(ids);
        }
        (self.gone, self.last) = (self.gone.max(sequence), self.last.max(sequence));
        (self.missed, self.whole) = (sequence, true);
    }

    /// Somebody at this cursor would have heard something that never came: not its fault, whatever it has taken.
    pub fn never_came(&self, cursor: Cursor) -> bool {
        cursor.heard() < self.missed
    }

    /// Lets go of what nobody may want any more. `lagging`: somebody is behind.
    pub fn trim(&mut self, now: u32, lagging: bool, keep: &Keep, ids: &mut Ids) {
        while self.items.front().is_some_and(|front| self.is_due(front, now, lagging, keep)) {
            self.pop(ids);
        }
        let old = |values: &mut Box<Values>| values.trim(now, keep, self.name.ends_with('*'));
        let old = self.values.as_mut().map(old).unwrap_or_default();
        old.into_iter().for_each(|payload| self.forget(Some(payload), ids));
        self.let_forms_go(now);
    }

    fn pop(&mut self, ids: &mut Ids) {
        let Some(Item { payload, sequence, .. }) = self.items.pop_front() else { return };
        (self.gone, self.whole) = (sequence, true);
        self.stale = self.stale.saturating_sub(1);
        let stays = self.values.as_mut().is_some_and(|values| values.outlives(sequence));
        self.forget(Some(payload).filter(|_| !stays), ids);
    }

    /// The message is not in this row any more.
    fn forget(&self, payload: Option<Payload>, ids: &mut Ids) {
        if let Some(payload) = payload.filter(|_| !self.is_prefix()) {
            ids.leave(&payload);
        }
    }

    /// Of messages that are not new any more, the forms go.
    fn let_forms_go(&mut self, now: u32) {
        while let Some(item) = self.items.get_mut(self.stale).filter(|item| now.saturating_sub(item.tick) > FRESH) {
            if let Some(bare) = item.payload.without_forms() {
                item.payload = payload(&Arc::new(bare));
                if let Some(values) = &mut self.values {
                    values.replace(&item.payload);
                }
            }
            self.stale += 1;
        }
    }

    fn is_due(&self, front: &Item, now: u32, lagging: bool, keep: &Keep) -> bool {
        let bytes = self.sum - front.sum;
        let replayed = self.items.len() <= keep.messages as usize
            && bytes <= keep.bytes
            && now.saturating_sub(front.tick) <= keep.age_ticks;
        // Its next message may be as large as it likes.
        !(replayed || lagging && front.behind(self.sent) <= keep.backlog)
    }

    // ---- what a prefix fetches ----

    /// Puts in front of a prefix what its channels have of the time behind `sequence`, from the newest on, as much as
    /// the feed keeps for replay. `gone`: messages up to this are gone that are in none of the rows. Says how many rows
    /// and messages were looked at.
    pub fn fetch(&mut self, sequence: u64, gone: u64, logs: Below<'_>, now: u32, keep: &Keep) -> u64 {
        if self.whole || sequence >= self.gone {
            return 0;
        }
        let logs = logs();
        // Older than what is gone of one of them: with it there would be more than one gap.
        let floor = logs.iter().map(|log| log.gone).max().unwrap_or(0).max(gone).min(self.gone).max(sequence);
        let last = |log: &ChannelLog| log.items.partition_point(|item| item.sequence <= self.gone);
        let heads = logs.iter().enumerate().filter_map(|(number, log)| log.head(number, last(log)));
        let mut heads: BinaryHeap<(u64, usize, usize)> = heads.collect();
        let mut steps = logs.len() as u64;
        self.gone = loop {
            let Some(&(newest, number, behind)) = heads.peek().filter(|head| head.0 > floor) else { break floor };
            let item = &logs[number].items[behind - 1];
            if !self.takes_in_front(item, now, keep) {
                self.whole = true;
                break newest;
            }
            self.put_in_front(item);
            steps += 1;
            heads.pop();
            heads.extend(logs[number].head(number, behind - 1));
        };
        self.whole |= floor > sequence;
        steps
    }

    /// The last of the first `behind` items, for a merge.
    fn head(&self, number: usize, behind: usize) -> Option<(u64, usize, usize)> {
        Some((self.items.get(behind.checked_sub(1)?)?.sequence, number, behind))
    }

    fn takes_in_front(&self, item: &Item, now: u32, keep: &Keep) -> bool {
        self.items.len() < keep.messages as usize
            && self.kept_bytes() + item.payload.cost() <= keep.bytes
            && now.saturating_sub(item.tick) <= keep.age_ticks
    }

    fn put_in_front(&mut self, item: &Item) {
        let Item { payload, sequence, tick, .. } = item;
        let (sum, sent) = self.items.front().map_or((self.sum, self.sent), |front| (front.sum, front.sent));
        let (sum, sent) = (sum - payload.cost(), sent - payload.frame_len());
        if let Some(values) = &mut self.values {
            values.put_below(payload, *tick);
            values.is_kept(*sequence);
        }
        self.items.push_front(Item { payload: payload.clone(), sequence: *sequence, sum, sent, tick: *tick });
        self.last = self.last.max(*sequence);
        self.stale += usize::from(self.stale > 0);
    }

    /// Gives a prefix the last values of its channels, once. Says how many rows and messages were looked at.
    pub fn fetch_values(&mut self, logs: Below<'_>) -> u64 {
        let Some(values) = self.values.as_mut().filter(|values| !values.whole) else { return 0 };
        let logs = logs();
        let mut steps = logs.len() as u64;
        for (payload, tick) in logs.iter().filter_map(|log| log.values.as_ref()).flat_map(|values| values.all()) {
            steps += 1;
            self.last = self.last.max(payload.sequence);
            values.put_below(payload, tick);
        }
        values.whole = true;
        steps
    }

    // ---- what listeners hear ----

    /// The first item that somebody has not heard. Nearly everybody waits for the last one.
    fn index(&self, heard: u64) -> usize {
        let before = |at: usize| at.checked_sub(1).is_none_or(|at| self.items[at].sequence <= heard);
        match self.items.len() {
            len if before(len) => len,
            len if before(len - 1) => len - 1,
            _ => self.items.partition_point(|item| item.sequence <= heard),
        }
    }

    /// The message at a cursor.
    pub fn ahead(&self, cursor: Cursor) -> Next<'_> {
        let heard = cursor.heard();
        if cursor.conflates() {
            return self.next_value(heard);
        }
        if heard >= self.last {
            return Next::Nothing(cursor);
        }
        match self.items.get(self.index(heard)) {
            Some(item) if heard >= self.gone => Next::Message(&item.payload, Cursor::at(item.sequence), item.tick),
            _ => Next::Lost,
        }
    }

    /// The next value that nothing has superseded.
    fn next_value(&self, heard: u64) -> Next<'_> {
        match self.values.as_ref().and_then(|values| values.behind(heard)) {
            Some((payload, tick)) => Next::Message(payload, Cursor::conflating(payload.sequence), tick),
            None => Next::Nothing(Cursor::at(self.last.max(self.gone).max(heard))),
        }
    }

    /// Behind the message of this sequence. `Err`: messages between are gone; the cursor is at the oldest there is.
    pub fn behind(&self, sequence: u64) -> Result<Cursor, Cursor> {
        if sequence < self.gone { Err(Cursor::at(self.gone)) } else { Ok(Cursor::at(sequence)) }
    }

    /// What somebody has heard who wants the message at the cursor next; `None`: all that there is.
    pub fn sequence_before(&self, cursor: Cursor) -> Option<u64> {
        match self.ahead(cursor) {
            Next::Message(payload, ..) => Some(payload.sequence - 1),
            Next::Nothing(_) => None,
            Next::Lost => Some(self.gone.saturating_sub(1)),
        }
    }

    /// Whether messages here have ids of the feed's own.
    pub fn has_own_ids(&self) -> bool {
        self.items.back().is_some_and(|item| item.payload.own_id.is_some())
    }

    /// How far a listener is behind: bytes that wait behind its next message, which may be as large as it likes, and
    /// ticks that this has waited.
    pub fn lag(&self, cursor: Cursor, now: u32) -> (u64, u32) {
        match self.items.get(self.index(cursor.heard())) {
            Some(item) => (item.behind(self.sent), now.saturating_sub(item.tick)),
            None => (0, 0),
        }
    }

    /// The first place from which a listener is no more than so far behind; in front of the last message at most.
    pub fn within(&self, bytes: u64, ticks: u32, now: u32) -> u64 {
        let too_far = |item: &Item| self.sent - item.sent > bytes || now.saturating_sub(item.tick) > ticks;
        let ahead = self.items.partition_point(too_far).min(self.items.len().saturating_sub(1));
        self.items.get(ahead).map_or(self.last, |item| item.sequence - 1)
    }

    /// Messages of the row between two places, those not counted that are gone.
    pub fn between(&self, from: u64, to: u64) -> u64 {
        (self.index(to) - self.index(from.min(to))) as u64
    }
}

/// What a letter brought, as this shard counts it.
pub fn payload(message: &Arc<Message>) -> Payload {
    Rc::new(message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Body, Form, Frame, NewMessage, PlainFrame};

    const KEEP: Keep = Keep { messages: 3, bytes: 1 << 20, age_ticks: 100, ..Keep::NOTHING };

    fn message(sequence: u64, key: &str) -> Payload {
        let key = Some(key.to_owned()).filter(|key| !key.is_empty());
        let plain = PlainFrame::binary(&[b'x'; 100]);
        let new = NewMessage { channel: "a".into(), key, payload: plain, ..NewMessage::default() };
        payload(&Arc::new(Message::new(new, 7, sequence)))
    }

    fn say(log: &mut ChannelLog, sequence: u64, key: &str, keep: &Keep) {
        log.push(&message(sequence, key), 0, keep, &mut Ids::default());
    }

    fn trim(log: &mut ChannelLog, now: u32, lagging: bool, keep: &Keep) {
        log.trim(now, lagging, keep, &mut Ids::default());
    }

    /// With somebody who listens.
    fn log(keys: &[&str], keep: &Keep) -> ChannelLog {
        let mut log = ChannelLog::new(0, "a", 0, keep);
        log.subscribers.push(0);
        keys.iter().zip(1..).for_each(|(key, sequence)| say(&mut log, sequence * 10, key, keep));
        log
    }

    fn heard(log: &ChannelLog, mut cursor: Cursor) -> Vec<u64> {
        let mut heard = Vec::new();
        while let Next::Message(payload, next, _) = log.ahead(cursor) {
            heard.push(payload.sequence);
            cursor = next;
        }
        assert!(matches!(log.ahead(cursor), Next::Nothing(_)));
        heard
    }

    #[test]
    fn what_is_beyond_the_replay_goes_unless_somebody_lags() {
        let keep = Keep { backlog: 1 << 20, ..KEEP };
        let mut log = log(&["", "", "", "", ""], &keep);
        trim(&mut log, 0, true, &keep);
        assert_eq!((log.kept(), log.gone()), (5, 0));
        trim(&mut log, 0, false, &keep);
        assert_eq!((log.kept(), log.gone()), (3, 20));
        assert!(matches!(log.ahead(Cursor::at(10)), Next::Lost));
        trim(&mut log, 101, false, &keep);
        assert_eq!((log.kept(), log.gone()), (0, 50));
        log.subscribers.clear();
        assert!(log.is_idle());
    }

    #[test]
    fn the_backlog_has_its_own_limit_beyond_the_next_message() {
        let (len, cost) = (message(1, "").frame_len(), message(1, "").cost());
        let keep = Keep { messages: 0, backlog: 2 * len, ..KEEP };
        let mut log = log(&["", "", "", "", ""], &keep);
        assert_eq!((log.kept(), log.kept_bytes()), (3, 3 * cost), "no round was needed for it");
        assert_eq!(log.lag(Cursor::at(20), 5), (2 * len, 5));
        assert_eq!(log.lag(Cursor::at(50), 5), (0, 0));
        assert_eq!([0, len, 9 * len].map(|bytes| log.within(bytes, 9, 0)), [49, 49, 29]);
        assert_eq!(log.between(20, 49), 2);
        trim(&mut log, 0, true, &Keep { backlog: 0, ..keep });
        assert_eq!(log.kept(), 1, "a message that is larger than the backlog still goes to those who wait for it");
    }

    #[test]
    fn who_comes_back_goes_on_behind_what_it_has_heard() {
        let mut log = log(&["", "", "", "", ""], &KEEP);
        trim(&mut log, 0, false, &KEEP);
        assert_eq!(heard(&log, log.behind(30).unwrap()), [40, 50]);
        assert_eq!(heard(&log, log.behind(35).unwrap()), [40, 50]);
        assert_eq!(heard(&log, log.behind(20).unwrap()), [30, 40, 50]);
        assert_eq!(heard(&log, log.behind(19).unwrap_err()), [30, 40, 50]);
        assert!(heard(&log, log.behind(99).unwrap()).is_empty());
        assert_eq!(log.sequence_before(log.behind(30).unwrap()), Some(39));
    }

    #[test]
    fn of_each_key_the_last_value_stays() {
        let keep = Keep { messages: 1, values: true, backlog: 1 << 20, ..KEEP };
        let mut log = log(&["k", "l", "k", "", "m", ""], &keep);
        assert_eq!(heard(&log, Cursor::conflating(0)), [20, 30, 50, 60]);
        trim(&mut log, 0, false, &keep);
        assert_eq!((log.kept(), log.bytes()), (4, 4 * message(1, "").cost() + 3));
        assert_eq!(heard(&log, Cursor::conflating(0)), [20, 30, 50, 60]);
        assert_eq!(heard(&log, Cursor::conflating(20)), [30, 50, 60]);
        say(&mut log, 70, "l", &keep);
        say(&mut log, 80, "m", &keep);
        assert_eq!(heard(&log, Cursor::conflating(0)), [30, 60, 70, 80]);
        assert_eq!(heard(&log, Cursor::at(60)), [70, 80]);
    }

    #[test]
    fn last_values_have_limits_of_their_own() {
        let keep = Keep { messages: 1, values: true, values_max: 2, ..KEEP };
        let mut log = log(&["a", "b", "c"], &keep);
        trim(&mut log, 0, false, &keep);
        assert_eq!(heard(&log, Cursor::conflating(0)), [20, 30]);
        let keep = Keep { values_max: 9, value_age_ticks: 50, ..keep };
        trim(&mut log, 51, false, &keep);
        assert_eq!(heard(&log, Cursor::conflating(0)), [30], "what replay keeps is there in any case");
        say(&mut log, 40, "d", &keep);
        trim(&mut log, 0, false, &Keep { value_bytes: 0, ..keep });
        assert_eq!((heard(&log, Cursor::conflating(0)), log.kept()), (vec![40], 1));
    }

    fn channels(keep: &Keep) -> (ChannelLog, ChannelLog) {
        let (mut one, mut other) = (ChannelLog::new(0, "a", 5, keep), ChannelLog::new(0, "b", 3, keep));
        [10, 40].into_iter().for_each(|sequence| say(&mut one, sequence, "", keep));
        [20, 30].into_iter().for_each(|sequence| say(&mut other, sequence, "k", keep));
        (one, other)
    }

    #[test]
    fn a_prefix_fetches_what_its_channels_have_in_order() {
        let keep = Keep { values: true, messages: 9, ..KEEP };
        let (one, other) = channels(&keep);
        let below = || vec![&one, &other];
        let mut all = ChannelLog::new(0, "*", 45, &keep);
        say(&mut all, 50, "new", &keep);
        assert_eq!((all.fetch(30, 1, &below, 0, &keep), all.gone()), (3, 30), "two rows and a message");
        assert_eq!(heard(&all, all.behind(30).unwrap()), [40, 50]);
        assert_eq!((all.fetch(35, 1, &below, 0, &keep), all.fetch(0, 1, &below, 0, &keep)), (0, 5));
        assert_eq!(heard(&all, all.behind(2).unwrap_err()), [10, 20, 30, 40, 50]);
        assert_eq!((all.gone(), all.kept(), all.bytes()), (5, 5, 0));
        assert_eq!(all.fetch(0, 1, &below, 0, &keep), 0, "there is nothing older");
        assert_eq!(heard(&all, Cursor::conflating(0)), [30, 40, 50]);
    }

    #[test]
    fn a_prefix_fetches_no_more_than_the_feed_keeps() {
        let keep = Keep { messages: 2, ..KEEP };
        let (one, other) = channels(&keep);
        let below = || vec![&one, &other];
        let mut all = ChannelLog::new(0, "*", 45, &keep);
        assert_eq!((all.fetch(0, 1, &below, 0, &keep), all.gone()), (4, 20));
        assert_eq!(heard(&all, all.behind(0).unwrap_err()), [30, 40]);
    }

    #[test]
    fn a_prefix_fetches_last_values_once() {
        let keep = Keep { values: true, ..KEEP };
        let (one, other) = channels(&keep);
        let below = || vec![&one, &other];
        let mut all = ChannelLog::new(0, "*", 45, &keep);
        assert_eq!((all.fetch_values(&below), all.fetch_values(&below)), (4, 0));
        assert_eq!((heard(&all, Cursor::conflating(0)), all.last()), (vec![30, 40], 40));
    }

    #[test]
    fn forms_go_when_a_message_is_only_kept_for_replay() {
        let keep = Keep { messages: 9, values: true, ..KEEP };
        let mut log = log(&["", ""], &keep);
        let form = Form { body: Body::Json, frame: Frame::Piece };
        let first = |log: &ChannelLog| match log.ahead(Cursor::at(0)) {
            Next::Message(payload, ..) => payload.clone(),
            _ => unreachable!("there are two messages"),
        };
        let new = first(&log);
        new.form(form, |_, _| {});
        trim(&mut log, FRESH, false, &keep);
        assert!(Rc::ptr_eq(&first(&log), &new));
        trim(&mut log, FRESH + 1, false, &keep);
        let old = first(&log);
        assert!(old.without_forms().is_none() && old.payload() == new.payload());
        assert_eq!((old.form_once(form), old.without_forms().is_none()), (new.form_once(form), true));
        assert_eq!(Rc::strong_count(&new), 1, "nobody else holds the forms");
    }
}

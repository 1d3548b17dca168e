//! Channel logs: the messages of a channel in the order of their sequences, for its subscribers and for clients that
//! resume.
//!
//! A log belongs to a channel of a feed, or to a prefix (`news.*`): the log of a prefix holds the messages of all
//! channels that begin so. A subscriber has a [`Cursor`] in it and nothing else.
//!
//! A message is evicted when it is beyond the feed's replay limits and no laggard may still read it. Where last values
//! are configured, the last message of each key is kept on (`values.rs`).
//!
//! The log of a prefix begins empty and takes what is published from then on. Older messages are copied from the logs
//! of its channels when a client resumes ([`ChannelLog::backfill`]): newest first, no more than that client is sent.

use super::cursor::Cursor;
use super::ids::Ids;
use super::settings::{Covers, Keep};
use super::values::Values;
use crate::mesh::Message;
use crate::shard::service::Payload;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// A message in its log.
struct Item {
    payload: Payload,
    /// The message's, so that a search need not follow the pointer.
    sequence: u64,
    /// Cost in bytes of all messages of the log before this one, counted from [`SUMS`].
    sum: u64,
    /// Bytes to be sent of all messages before this one, counted from [`SUMS`].
    sent: u64,
    /// The tick in which it was appended.
    tick: u32,
}

impl Item {
    /// Bytes to be sent of the messages between this one and the end of the log, where the log's sum is `sent`.
    fn behind(&self, sent: u64) -> u64 {
        sent - self.sent - self.payload.frame_len()
    }
}

/// Where sums begin, so that older messages can be prepended.
const SUMS: u64 = 1 << 62;

/// Ticks for which a message keeps its encoded forms: the subscribers that are sent it as it is published share them.
pub const FORM_TICKS: u32 = 8;

/// The log of a channel of a feed, or of a prefix.
pub struct ChannelLog {
    /// The number of the feed.
    pub feed: u16,
    /// The channel, the prefix with its `*`, or the topic filter.
    pub name: Rc<str>,
    covers: Covers,
    /// The numbers of its subscriptions.
    pub subscribers: Vec<u32>,
    /// Subscriptions that were found behind in or since the last tick; may hold one more than once, or one that ended.
    pub laggards: Vec<u32>,
    /// The delivery pass over `subscribers`.
    pub pass: Pass,
    /// Of a prefix without subscribers: the tick until which it is kept.
    pub linger_until: u32,
    items: VecDeque<Item>,
    /// The last message's sequence, whether it is still kept or not; zero: there was none.
    last: u64,
    /// Cost in bytes of all messages that were ever appended, from [`SUMS`].
    sum: u64,
    /// Bytes to be sent of all messages that were ever appended, from [`SUMS`].
    sent: u64,
    values: Option<Box<Values>>,
    /// Messages up to this sequence may be missing: evicted, never received, or, of a prefix, not backfilled yet.
    low_watermark: u64,
    /// There is nothing left to backfill.
    backfilled: bool,
    /// So many items, from the front, have dropped their forms.
    without_forms: usize,
    /// Up to this sequence some messages never reached this shard.
    lost_until: u64,
}

/// A delivery pass over the subscribers of a log. A new message makes the pass go around once more from where it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// Index of the next subscriber.
    pub position: u32,
    /// Deliveries left.
    pub remaining: u32,
    /// The log stands in the queue of passes.
    pub active: bool,
    /// So many of the deliveries left are the first since messages were lost.
    pub after_loss: u32,
}

/// Gives the logs of the channels that a prefix covers; called only when they are needed.
pub type Covered<'r> = &'r dyn Fn() -> Vec<&'r ChannelLog>;

/// What a log has at a cursor.
pub enum Read<'r> {
    /// This message, which was appended in this tick; the cursor behind it.
    Message(&'r Payload, Cursor, u32),
    /// Nothing: the cursor at the end of the log.
    End(Cursor),
    /// The messages behind the cursor were evicted, or never came.
    Lost,
}

impl ChannelLog {
    /// An empty log. Messages up to the sequence `low_watermark` may be missing; those of a prefix can be backfilled.
    pub fn new(feed: u16, (name, covers): (&str, Covers), low_watermark: u64, keep: &Keep) -> ChannelLog {
        ChannelLog {
            feed,
            name: name.into(),
            covers,
            subscribers: Vec::new(),
            laggards: Vec::new(),
            pass: Pass::default(),
            linger_until: 0,
            items: VecDeque::new(),
            last: 0,
            sum: SUMS,
            sent: SUMS,
            values: keep.values.then(Box::default),
            low_watermark,
            backfilled: covers != Covers::Prefix,
            without_forms: 0,
            lost_until: 0,
        }
    }

    /// Whether this is the log of a prefix or a filter: it has messages of several channels.
    pub fn is_prefix(&self) -> bool {
        self.covers != Covers::Itself
    }

    /// What its name covers.
    pub fn covers(&self) -> Covers {
        self.covers
    }

    /// Whether it has no subscriber and, being a channel's, keeps nothing.
    pub fn is_unused(&self) -> bool {
        self.subscribers.is_empty() && (self.is_prefix() || self.kept() == 0)
    }

    /// The sequence of the last message, whether it is still kept or not; zero: there was none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether a subscriber at this cursor is to be sent something: a message, or a notice of a gap.
    pub fn is_behind(&self, cursor: Cursor) -> bool {
        cursor.owes_gap() || cursor.sequence() < self.last
    }

    /// Messages kept, last values included.
    pub fn kept(&self) -> usize {
        self.items.len() + self.values.as_ref().map_or(0, |values| values.alone())
    }

    /// Bytes that the messages cost that are kept for replay, about.
    pub fn kept_bytes(&self) -> u64 {
        self.items.front().map_or(0, |item| self.sum - item.sum)
    }

    /// Bytes that all kept messages cost, about; zero for a prefix, whose messages the logs of its channels count.
    pub fn bytes(&self) -> u64 {
        let values = self.values.as_ref().map_or(0, |values| values.alone_bytes());
        if self.covers == Covers::Prefix { 0 } else { self.kept_bytes() + values }
    }

    /// Messages up to this sequence may be missing.
    pub fn low_watermark(&self) -> u64 {
        self.low_watermark
    }

    /// The subscription that the pass delivers to next, and whether that is the first time since messages were lost.
    /// The list must not be empty.
    pub fn next_of_pass(&mut self) -> (u32, bool) {
        let count = self.subscribers.len() as u32;
        // Subscriptions may have ended since: behind a shorter list the pass is at its front again.
        let at = if self.pass.position < count { self.pass.position } else { self.pass.position % count };
        self.pass.position = if at + 1 < count { at + 1 } else { 0 };
        self.pass.remaining -= 1;
        let after_loss = self.pass.after_loss > 0;
        self.pass.after_loss -= u32::from(after_loss);
        (self.subscribers[at as usize], after_loss)
    }

    // ---- appending and evicting ----

    /// Appends the next message, which came in this tick, and evicts what is beyond the limits of replay and backlog.
    pub fn push(&mut self, payload: &Payload, tick: u32, keep: &Keep, ids: &mut Ids) {
        if !self.is_prefix() {
            ids.enter(payload, &self.name);
        }
        if let Some(values) = &mut self.values {
            let old = values.supersede(payload, tick, self.covers != Covers::Itself);
            self.forget(old, ids);
        }
        let (sum, sent) = (self.sum, self.sent);
        self.items.push_back(Item { payload: payload.clone(), sequence: payload.sequence, sum, sent, tick });
        self.sum += payload.cost();
        self.sent += payload.frame_len();
        self.last = payload.sequence;
        // A pass that never ends must not keep more than laggards may read.
        self.evict_while_due(tick, !self.subscribers.is_empty(), keep, ids);
    }

    fn evict_while_due(&mut self, now: u32, lagging: bool, keep: &Keep, ids: &mut Ids) {
        while self.items.front().is_some_and(|front| self.is_due(front, now, lagging, keep)) {
            self.evict(ids);
        }
    }

    /// Messages up to this sequence never reached this shard. Everything before them is evicted, so that every cursor
    /// below the sequence reads [`Read::Lost`]; a conflating cursor goes on among the last values, and is to be marked
    /// by the delivery pass that follows.
    pub fn record_loss(&mut self, sequence: u64, ids: &mut Ids) {
        while !self.items.is_empty() {
            self.evict(ids);
        }
        (self.low_watermark, self.last) = (self.low_watermark.max(sequence), self.last.max(sequence));
        (self.lost_until, self.backfilled) = (sequence, true);
        self.pass.after_loss = self.subscribers.len() as u32;
    }

    /// Whether a subscriber at this cursor loses messages that never reached this shard, which is not its fault.
    pub fn never_received(&self, cursor: Cursor) -> bool {
        cursor.sequence() < self.lost_until
    }

    /// Evicts what is beyond the limits, last values too, and drops the forms of messages that are not new.
    /// `lagging`: somebody may still read what is within the backlog.
    pub fn trim(&mut self, now: u32, lagging: bool, keep: &Keep, ids: &mut Ids) {
        self.evict_while_due(now, lagging, keep, ids);
        let prefix = self.is_prefix();
        let old = |values: &mut Box<Values>| values.trim(now, keep, prefix);
        let old = self.values.as_mut().map(old).unwrap_or_default();
        old.into_iter().for_each(|payload| self.forget(Some(payload), ids));
        self.drop_forms(now);
    }

    fn evict(&mut self, ids: &mut Ids) {
        let Some(Item { payload, sequence, .. }) = self.items.pop_front() else { return };
        (self.low_watermark, self.backfilled) = (sequence, true);
        self.without_forms = self.without_forms.saturating_sub(1);
        let stays = self.values.as_mut().is_some_and(|values| values.outlives(sequence));
        self.forget(Some(payload).filter(|_| !stays), ids);
    }

    /// The message is not kept in this log any more, neither for replay nor as a last value.
    fn forget(&self, payload: Option<Payload>, ids: &mut Ids) {
        if let Some(payload) = payload.filter(|_| !self.is_prefix()) {
            ids.leave(&payload);
        }
    }

    /// Replaces messages older than [`FORM_TICKS`] by copies without forms, which share the payload.
    fn drop_forms(&mut self, now: u32) {
        let old = |item: &&mut Item| now.saturating_sub(item.tick) > FORM_TICKS;
        while let Some(item) = self.items.get_mut(self.without_forms).filter(old) {
            if let Some(bare) = item.payload.without_forms() {
                item.payload = payload(&Arc::new(bare));
                if let Some(values) = &mut self.values {
                    values.replace(&item.payload);
                }
            }
            self.without_forms += 1;
        }
    }

    /// Whether the first message is beyond the replay limits and, with laggards, beyond the backlog behind it. The
    /// message that a laggard reads next is not counted: it may be larger than the backlog.
    fn is_due(&self, front: &Item, now: u32, lagging: bool, keep: &Keep) -> bool {
        let bytes = self.sum - front.sum;
        let replayed = self.items.len() <= keep.messages as usize
            && bytes <= keep.bytes
            && now.saturating_sub(front.tick) <= keep.age_ticks;
        !(replayed || lagging && front.behind(self.sent) <= keep.backlog)
    }

    /// Keeps last values from now on, where it does not yet: those of the messages that it has are known at once.
    pub fn keep_values(&mut self) {
        if self.values.is_some() {
            return;
        }
        let (mut values, prefix) = (Box::<Values>::default(), self.is_prefix());
        self.items.iter().for_each(|item| drop(values.supersede(&item.payload, item.tick, prefix)));
        self.values = Some(values);
    }

    // ---- backfilling a prefix ----

    /// Prepends to the log of a prefix what the logs of its channels have behind `sequence`, newest first, as much as
    /// the feed keeps for replay. `gone`: messages up to this sequence may be missing that were in logs given up since.
    /// Returns how many logs and messages were looked at.
    pub fn backfill(&mut self, sequence: u64, gone: u64, logs: Covered<'_>, now: u32, keep: &Keep) -> u64 {
        if self.backfilled || sequence >= self.low_watermark {
            return 0;
        }
        let logs = logs();
        // Below the low watermark of any of them there would be more than one gap.
        let floor = logs.iter().map(|log| log.low_watermark).max().unwrap_or(0);
        let floor = floor.max(gone).min(self.low_watermark).max(sequence);
        let upto = self.low_watermark;
        let last = |log: &ChannelLog| log.items.partition_point(|item| item.sequence <= upto);
        let heads = logs.iter().enumerate().filter_map(|(number, log)| log.head(number, last(log)));
        let mut heads: BinaryHeap<(u64, usize, usize)> = heads.collect();
        let mut steps = logs.len() as u64;
        self.low_watermark = loop {
            let Some(&(newest, number, behind)) = heads.peek().filter(|head| head.0 > floor) else { break floor };
            let item = &logs[number].items[behind - 1];
            if !self.may_prepend(item, now, keep) {
                self.backfilled = true;
                break newest;
            }
            self.prepend(item);
            steps += 1;
            heads.pop();
            heads.extend(logs[number].head(number, behind - 1));
        };
        self.backfilled |= floor > sequence;
        steps
    }

    /// The last of the first `behind` items, for a merge: its sequence, the number of the log, and `behind`.
    fn head(&self, number: usize, behind: usize) -> Option<(u64, usize, usize)> {
        Some((self.items.get(behind.checked_sub(1)?)?.sequence, number, behind))
    }

    fn may_prepend(&self, item: &Item, now: u32, keep: &Keep) -> bool {
        self.items.len() < keep.messages as usize
            && self.kept_bytes() + item.payload.cost() <= keep.bytes
            && now.saturating_sub(item.tick) <= keep.age_ticks
    }

    fn prepend(&mut self, item: &Item) {
        let Item { payload, sequence, tick, .. } = item;
        let (sum, sent) = self.items.front().map_or((self.sum, self.sent), |front| (front.sum, front.sent));
        let (sum, sent) = (sum - payload.cost(), sent - payload.frame_len());
        if let Some(values) = &mut self.values {
            values.put_below(payload, *tick);
            values.is_kept(*sequence);
        }
        self.items.push_front(Item { payload: payload.clone(), sequence: *sequence, sum, sent, tick: *tick });
        self.last = self.last.max(*sequence);
        self.without_forms += usize::from(self.without_forms > 0);
    }

    /// Copies the last values of its channels into the log of a prefix, the first time that it is called. Returns how
    /// many logs and messages were looked at.
    pub fn backfill_values(&mut self, logs: Covered<'_>) -> u64 {
        let Some(values) = self.values.as_mut().filter(|values| !values.backfilled) else { return 0 };
        let logs = logs();
        let mut steps = logs.len() as u64;
        for (payload, tick) in logs.iter().filter_map(|log| log.values.as_ref()).flat_map(|values| values.all()) {
            steps += 1;
            self.last = self.last.max(payload.sequence);
            values.put_below(payload, tick);
        }
        values.backfilled = true;
        steps
    }

    // ---- reading ----

    /// Index of the first item above a sequence. Most cursors are at the end or one before it: these are tried first.
    fn index(&self, sequence: u64) -> usize {
        let is_before = |at: usize| at.checked_sub(1).is_none_or(|at| self.items[at].sequence <= sequence);
        match self.items.len() {
            len if is_before(len) => len,
            len if is_before(len - 1) => len - 1,
            _ => self.items.partition_point(|item| item.sequence <= sequence),
        }
    }

    /// The message at a cursor.
    pub fn read(&self, cursor: Cursor) -> Read<'_> {
        let sequence = cursor.sequence();
        if cursor.conflates() {
            return self.read_value(sequence);
        }
        if sequence >= self.last {
            return Read::End(cursor);
        }
        match self.items.get(self.index(sequence)) {
            Some(item) if sequence >= self.low_watermark => {
                Read::Message(&item.payload, Cursor::at(item.sequence), item.tick)
            }
            _ => Read::Lost,
        }
    }

    /// All messages behind a cursor that has no flag set, each with the tick in which it was appended; `None`: the
    /// cursor has one, or something behind it is lost.
    pub fn read_all(&self, cursor: Cursor) -> Option<impl Iterator<Item = (&Payload, u32)>> {
        let sequence = cursor.sequence();
        let at = self.index(sequence);
        let is_whole = sequence >= self.last || sequence >= self.low_watermark && at < self.items.len();
        let rest = (cursor.is_plain() && is_whole).then(|| self.items.range(at..))?;
        Some(rest.map(|item| (&item.payload, item.tick)))
    }

    /// The next message that none supersedes.
    fn read_value(&self, sequence: u64) -> Read<'_> {
        match self.values.as_ref().and_then(|values| values.behind(sequence)) {
            Some((payload, tick)) => Read::Message(payload, Cursor::conflating(payload.sequence), tick),
            None => Read::End(Cursor::at(self.last.max(self.low_watermark).max(sequence))),
        }
    }

    /// The cursor behind the message of this sequence. `Err`: messages behind it may be missing; the cursor is at the
    /// oldest that is kept.
    pub fn seek(&self, sequence: u64) -> Result<Cursor, Cursor> {
        if sequence < self.low_watermark { Err(Cursor::at(self.low_watermark)) } else { Ok(Cursor::at(sequence)) }
    }

    /// The sequence right before the message at the cursor; `None`: the cursor is at the end.
    pub fn sequence_before(&self, cursor: Cursor) -> Option<u64> {
        match self.read(cursor) {
            Read::Message(payload, ..) => Some(payload.sequence - 1),
            Read::End(_) => None,
            Read::Lost => Some(self.low_watermark.saturating_sub(1)),
        }
    }

    /// Whether the messages have ids of the feed's own.
    pub fn has_own_ids(&self) -> bool {
        self.items.back().is_some_and(|item| item.payload.own_id.is_some())
    }

    /// How far a subscriber lags: bytes behind its next message, which is not counted, and ticks since that one was
    /// appended.
    pub fn lag(&self, cursor: Cursor, now: u32) -> (u64, u32) {
        match self.items.get(self.index(cursor.sequence())) {
            Some(item) => (item.behind(self.sent), now.saturating_sub(item.tick)),
            None => (0, 0),
        }
    }

    /// The lowest sequence behind which a subscriber lags by no more than `bytes` and `ticks`; below the last message
    /// in any case.
    pub fn lagging_by(&self, bytes: u64, ticks: u32, now: u32) -> u64 {
        let too_far = |item: &Item| self.sent - item.sent > bytes || now.saturating_sub(item.tick) > ticks;
        let first = self.items.partition_point(too_far).min(self.items.len().saturating_sub(1));
        self.items.get(first).map_or(self.last, |item| item.sequence - 1)
    }

    /// Kept messages with a sequence above `from` and up to `to`.
    pub fn count_between(&self, from: u64, to: u64) -> u64 {
        (self.index(to) - self.index(from.min(to))) as u64
    }
}

/// A message, counted by this shard alone.
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
        let draft =
            NewMessage { channel: "a".into(), key, payload: PlainFrame::binary(&[b'x'; 100]), ..NewMessage::default() };
        payload(&Arc::new(Message::new(draft, 7, sequence)))
    }

    fn push(log: &mut ChannelLog, sequence: u64, key: &str, keep: &Keep) {
        log.push(&message(sequence, key), 0, keep, &mut Ids::default());
    }

    fn trim(log: &mut ChannelLog, now: u32, lagging: bool, keep: &Keep) {
        log.trim(now, lagging, keep, &mut Ids::default());
    }

    /// With a subscriber.
    fn log(keys: &[&str], keep: &Keep) -> ChannelLog {
        let mut log = ChannelLog::new(0, ("a", Covers::Itself), 0, keep);
        log.subscribers.push(0);
        keys.iter().zip(1..).for_each(|(key, sequence)| push(&mut log, sequence * 10, key, keep));
        log
    }

    fn received(log: &ChannelLog, mut cursor: Cursor) -> Vec<u64> {
        let mut received = Vec::new();
        while let Read::Message(payload, next, _) = log.read(cursor) {
            received.push(payload.sequence);
            cursor = next;
        }
        assert!(matches!(log.read(cursor), Read::End(_)));
        received
    }

    #[test]
    fn last_values_that_are_kept_from_now_on_are_those_of_what_is_there() {
        let mut log = log(&["a", "b", "a"], &KEEP);
        log.keep_values();
        let values = |log: &ChannelLog| -> Vec<u64> {
            log.values.iter().flat_map(|values| values.all()).map(|(payload, _)| payload.sequence).collect()
        };
        assert_eq!(values(&log), [20, 30]);
        // Once more changes nothing: what was evicted meanwhile is kept alone.
        push(&mut log, 40, "c", &KEEP);
        log.keep_values();
        assert_eq!(values(&log), [20, 30, 40]);
    }

    #[test]
    fn what_is_beyond_the_replay_is_evicted_unless_somebody_lags() {
        let keep = Keep { backlog: 1 << 20, ..KEEP };
        let mut log = log(&["", "", "", "", ""], &keep);
        trim(&mut log, 0, true, &keep);
        assert_eq!((log.kept(), log.low_watermark()), (5, 0));
        trim(&mut log, 0, false, &keep);
        assert_eq!((log.kept(), log.low_watermark()), (3, 20));
        assert!(matches!(log.read(Cursor::at(10)), Read::Lost));
        trim(&mut log, 101, false, &keep);
        assert_eq!((log.kept(), log.low_watermark()), (0, 50));
        log.subscribers.clear();
        assert!(log.is_unused());
    }

    #[test]
    fn the_backlog_has_its_own_limit_beyond_the_next_message() {
        let (len, cost) = (message(1, "").frame_len(), message(1, "").cost());
        let keep = Keep { messages: 0, backlog: 2 * len, ..KEEP };
        let mut log = log(&["", "", "", "", ""], &keep);
        assert_eq!((log.kept(), log.kept_bytes()), (3, 3 * cost), "no delivery pass was needed for it");
        assert_eq!(log.lag(Cursor::at(20), 5), (2 * len, 5));
        assert_eq!(log.lag(Cursor::at(50), 5), (0, 0));
        assert_eq!([0, len, 9 * len].map(|bytes| log.lagging_by(bytes, 9, 0)), [49, 49, 29]);
        assert_eq!(log.count_between(20, 49), 2);
        trim(&mut log, 0, true, &Keep { backlog: 0, ..keep });
        assert_eq!(log.kept(), 1, "a message that is larger than the backlog still goes to a laggard");
    }

    #[test]
    fn who_resumes_goes_on_behind_its_last_sequence() {
        let mut log = log(&["", "", "", "", ""], &KEEP);
        trim(&mut log, 0, false, &KEEP);
        assert_eq!(received(&log, log.seek(30).unwrap()), [40, 50]);
        assert_eq!(received(&log, log.seek(35).unwrap()), [40, 50]);
        assert_eq!(received(&log, log.seek(20).unwrap()), [30, 40, 50]);
        assert_eq!(received(&log, log.seek(19).unwrap_err()), [30, 40, 50]);
        assert!(received(&log, log.seek(99).unwrap()).is_empty());
        assert_eq!(log.sequence_before(log.seek(30).unwrap()), Some(39));
    }

    #[test]
    fn all_is_read_at_once_as_it_is_one_by_one() {
        let mut log = log(&["", "", "", "", ""], &KEEP);
        trim(&mut log, 0, false, &KEEP);
        let at_once = |log: &ChannelLog, cursor| {
            log.read_all(cursor).map(|all| all.map(|(payload, _)| payload.sequence).collect::<Vec<_>>())
        };
        for sequence in 0..60 {
            let cursor = Cursor::at(sequence);
            let one_by_one = (!matches!(log.read(cursor), Read::Lost)).then(|| received(&log, cursor));
            assert_eq!(at_once(&log, cursor), one_by_one, "from {sequence}");
        }
        assert_eq!(at_once(&log, Cursor::at(30).owing(true)), None, "a notice is owed first");
        assert_eq!(at_once(&log, Cursor::conflating(30)), None);
        log.record_loss(70, &mut Ids::default());
        assert_eq!([69, 70].map(|it| at_once(&log, Cursor::at(it))), [None, Some(vec![])]);
    }

    #[test]
    fn a_pass_goes_around_a_list_that_became_shorter() {
        let mut log = log(&[""], &KEEP);
        log.subscribers = vec![7, 8, 9];
        (log.pass.position, log.pass.remaining, log.pass.after_loss) = (2, 4, 1);
        log.subscribers.truncate(2);
        assert_eq!([0; 4].map(|_| log.next_of_pass()), [(7, true), (8, false), (7, false), (8, false)]);
        assert_eq!((log.pass.position, log.pass.remaining), (0, 0));
    }

    #[test]
    fn of_each_key_the_last_value_stays() {
        let keep = Keep { messages: 1, values: true, backlog: 1 << 20, ..KEEP };
        let mut log = log(&["k", "l", "k", "", "m", ""], &keep);
        assert_eq!(received(&log, Cursor::conflating(0)), [20, 30, 50, 60]);
        trim(&mut log, 0, false, &keep);
        assert_eq!((log.kept(), log.bytes()), (4, 4 * message(1, "").cost() + 3));
        assert_eq!(received(&log, Cursor::conflating(0)), [20, 30, 50, 60]);
        assert_eq!(received(&log, Cursor::conflating(20)), [30, 50, 60]);
        push(&mut log, 70, "l", &keep);
        push(&mut log, 80, "m", &keep);
        assert_eq!(received(&log, Cursor::conflating(0)), [30, 60, 70, 80]);
        assert_eq!(received(&log, Cursor::at(60)), [70, 80]);
    }

    #[test]
    fn last_values_have_limits_of_their_own() {
        let keep = Keep { messages: 1, values: true, values_max: 2, ..KEEP };
        let mut log = log(&["a", "b", "c"], &keep);
        trim(&mut log, 0, false, &keep);
        assert_eq!(received(&log, Cursor::conflating(0)), [20, 30]);
        let keep = Keep { values_max: 9, value_age_ticks: 50, ..keep };
        trim(&mut log, 51, false, &keep);
        assert_eq!(received(&log, Cursor::conflating(0)), [30], "what replay keeps is there in any case");
        push(&mut log, 40, "d", &keep);
        trim(&mut log, 0, false, &Keep { value_bytes: 0, ..keep });
        assert_eq!((received(&log, Cursor::conflating(0)), log.kept()), (vec![40], 1));
    }

    fn channels(keep: &Keep) -> (ChannelLog, ChannelLog) {
        let (mut one, mut other) =
            (ChannelLog::new(0, ("a", Covers::Itself), 5, keep), ChannelLog::new(0, ("b", Covers::Itself), 3, keep));
        [10, 40].into_iter().for_each(|sequence| push(&mut one, sequence, "", keep));
        [20, 30].into_iter().for_each(|sequence| push(&mut other, sequence, "k", keep));
        (one, other)
    }

    #[test]
    fn a_prefix_is_backfilled_what_its_channels_have_in_order() {
        let keep = Keep { values: true, messages: 9, ..KEEP };
        let (one, other) = channels(&keep);
        let below = || vec![&one, &other];
        let mut all = ChannelLog::new(0, ("*", Covers::Prefix), 45, &keep);
        push(&mut all, 50, "new", &keep);
        assert_eq!((all.backfill(30, 1, &below, 0, &keep), all.low_watermark()), (3, 30), "two logs and a message");
        assert_eq!(received(&all, all.seek(30).unwrap()), [40, 50]);
        assert_eq!((all.backfill(35, 1, &below, 0, &keep), all.backfill(0, 1, &below, 0, &keep)), (0, 5));
        assert_eq!(received(&all, all.seek(2).unwrap_err()), [10, 20, 30, 40, 50]);
        assert_eq!((all.low_watermark(), all.kept(), all.bytes()), (5, 5, 0));
        assert_eq!(all.backfill(0, 1, &below, 0, &keep), 0, "there is nothing older");
        assert_eq!(received(&all, Cursor::conflating(0)), [30, 40, 50]);
    }

    #[test]
    fn a_prefix_is_backfilled_no_more_than_the_feed_keeps() {
        let keep = Keep { messages: 2, ..KEEP };
        let (one, other) = channels(&keep);
        let below = || vec![&one, &other];
        let mut all = ChannelLog::new(0, ("*", Covers::Prefix), 45, &keep);
        assert_eq!((all.backfill(0, 1, &below, 0, &keep), all.low_watermark()), (4, 20));
        assert_eq!(received(&all, all.seek(0).unwrap_err()), [30, 40]);
    }

    #[test]
    fn a_prefix_is_backfilled_last_values_once() {
        let keep = Keep { values: true, ..KEEP };
        let (one, other) = channels(&keep);
        let below = || vec![&one, &other];
        let mut all = ChannelLog::new(0, ("*", Covers::Prefix), 45, &keep);
        assert_eq!((all.backfill_values(&below), all.backfill_values(&below)), (4, 0));
        assert_eq!((received(&all, Cursor::conflating(0)), all.last()), (vec![30, 40], 40));
    }

    #[test]
    fn forms_go_when_a_message_is_only_kept_for_replay() {
        let keep = Keep { messages: 9, values: true, ..KEEP };
        let mut log = log(&["", ""], &keep);
        let form = Form { body: Body::Json, frame: Frame::Piece };
        let first = |log: &ChannelLog| match log.read(Cursor::at(0)) {
            Read::Message(payload, ..) => payload.clone(),
            _ => unreachable!("there are two messages"),
        };
        let new = first(&log);
        new.form(form, |_, _| {});
        trim(&mut log, FORM_TICKS, false, &keep);
        assert!(Rc::ptr_eq(&first(&log), &new));
        trim(&mut log, FORM_TICKS + 1, false, &keep);
        let old = first(&log);
        assert!(old.without_forms().is_none() && old.payload() == new.payload());
        assert_eq!((old.form_once(form), old.without_forms().is_none()), (new.form_once(form), true));
        assert_eq!(Rc::strong_count(&new), 1, "nobody else holds the forms");
    }
}

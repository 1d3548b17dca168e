//! Rows: what a channel has said, in order, for those that hear it now and those that come back.
//!
//! A row belongs to a channel of a feed, or to a prefix (`news.*`), which is a row of its own with the messages of all
//! channels that begin so. Its messages stand in the order of their sequence and are named by their place, counted from
//! the row's beginning; whoever listens has a place of its own ([`Cursor`]) and nothing else.
//!
//! A message leaves a row when it is beyond the feed's replay and nobody who lags may still want it. Where last values
//! are asked for, the last message of each key stays behind ([`Row::values`]).

use super::settings::Keep;
use crate::mesh::Message;
use crate::shard::door::Payload;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// A listener's place in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(u64);

/// Set: messages that a later one of the same key supersedes are passed over.
const CONFLATES: u64 = 1 << 63;

impl Cursor {
    /// At this place.
    pub fn at(place: u64) -> Cursor {
        Cursor(place)
    }

    /// At this place, wanting only the last value of each key until it has caught up.
    pub fn conflating(place: u64) -> Cursor {
        Cursor(place | CONFLATES)
    }

    /// The place of the next message.
    pub fn place(self) -> u64 {
        self.0 & !CONFLATES
    }

    /// Superseded messages are passed over.
    pub fn conflates(self) -> bool {
        self.0 & CONFLATES != 0
    }

    fn moved(self, place: u64) -> Cursor {
        Cursor(place | self.0 & CONFLATES)
    }
}

/// A message in its row.
struct Item {
    payload: Payload,
    /// Cost of all messages of the row before this one.
    sum: u64,
    /// Bytes that all messages before this one have to send.
    sent: u64,
    /// The tick in which it came.
    tick: u32,
    superseded: bool,
}

/// A channel of a feed, or a prefix.
pub struct Row {
    /// The feed.
    pub feed: u16,
    /// The channel, or the prefix with its `*`.
    pub name: Box<str>,
    /// Those who listen, by the numbers of their subscriptions.
    pub subscribers: Vec<u32>,
    /// Those of them that were found behind.
    pub laggards: Vec<u32>,
    /// The round: who is next, and how many are still to be visited.
    pub round: Round,
    items: VecDeque<Item>,
    first: u64,
    sum: u64,
    sent: u64,
    /// Last values whose messages have left the row, by their places.
    values: BTreeMap<u64, Payload>,
    latest: HashMap<Box<str>, u64>,
    /// Messages up to this sequence may be gone.
    gone: u64,
    /// Before this place something never came.
    missed: u64,
}

/// A round over the subscribers of a row, which a new message begins anew where it stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// Who is next.
    pub position: u32,
    /// Visits left.
    pub remaining: u32,
    /// On the list of rows with a round under way.
    pub active: bool,
}

/// What comes next for a listener.
pub enum Next<'r> {
    /// This message; the cursor behind it.
    Message(&'r Payload, Cursor),
    /// Nothing; the cursor at the row's end.
    Nothing(Cursor),
    /// What was next has left the row.
    Lost,
}

/// The most keys of which a row keeps the last value.
const KEYS: usize = 65_536;

impl Row {
    /// An empty row. Messages up to the sequence `gone` may have been missed.
    pub fn new(feed: u16, name: &str, gone: u64) -> Row {
        Row {
            feed,
            name: name.into(),
            subscribers: Vec::new(),
            laggards: Vec::new(),
            round: Round::default(),
            items: VecDeque::new(),
            first: 0,
            sum: 0,
            sent: 0,
            values: BTreeMap::new(),
            latest: HashMap::new(),
            gone,
            missed: 0,
        }
    }

    /// A prefix that was asked for: what the rows below it have, in order.
    pub fn merged<'r>(feed: u16, name: &str, gone: u64, rows: impl Iterator<Item = &'r Row>, keep: &Keep) -> Row {
        let mut all = Row::new(feed, name, gone);
        let mut items: Vec<(&Payload, u32)> = Vec::new();
        for row in rows {
            all.gone = all.gone.max(row.gone);
            items.extend(row.values.values().map(|payload| (payload, 0)));
            items.extend(row.items.iter().map(|item| (&item.payload, item.tick)));
        }
        items.sort_by_key(|(payload, _)| payload.sequence);
        items.into_iter().for_each(|(payload, tick)| all.push(payload, tick, keep));
        all
    }

    /// Whether this is a prefix.
    pub fn is_prefix(&self) -> bool {
        self.name.ends_with('*')
    }

    /// Nothing is kept and nobody listens.
    pub fn is_idle(&self) -> bool {
        self.subscribers.is_empty() && (self.is_prefix() || self.items.is_empty() && self.values.is_empty())
    }

    /// The place behind the last message.
    pub fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// Messages kept.
    pub fn kept(&self) -> usize {
        self.items.len() + self.values.len()
    }

    /// Bytes that they cost, about.
    pub fn kept_bytes(&self) -> u64 {
        self.items.front().map_or(0, |item| self.sum - item.sum)
    }

    /// Messages up to this sequence may be gone.
    pub fn gone(&self) -> u64 {
        self.gone
    }

    /// The next message of the channel.
    pub fn push(&mut self, payload: &Payload, tick: u32, keep: &Keep) {
        if keep.values {
            self.supersede(self.key_of(payload));
        }
        let (sum, sent) = (self.sum, self.sent);
        self.items.push_back(Item { payload: payload.clone(), sum, sent, tick, superseded: false });
        self.sum += payload.cost();
        self.sent += payload.frame_len();
    }

    /// The message that comes now is the last value of this key: the one before it is not any more.
    fn supersede(&mut self, key: Box<str>) {
        match self.latest.insert(key, self.end()) {
            Some(before) if before >= self.first => self.items[(before - self.first) as usize].superseded = true,
            Some(before) => drop(self.values.remove(&before)),
            None => {}
        }
    }

    /// Messages up to this sequence never came: whoever has not heard all that came before them finds its next message
    /// lost, and so does everybody else, since a place is left for them. A client that is at last values only is not
    /// told.
    pub fn miss(&mut self, sequence: u64, keep: &Keep) {
        while let Some(item) = self.items.pop_front() {
            self.let_go(item, keep);
        }
        self.first += 1;
        (self.missed, self.gone) = (self.first, self.gone.max(sequence));
    }

    /// Where to go on for somebody at this cursor who would have heard something that never came.
    pub fn behind_missed(&self, cursor: Cursor) -> Option<Cursor> {
        (cursor.place() < self.missed).then(|| Cursor::at(self.first.max(self.missed)))
    }

    /// Lets go of what nobody may want any more. `lagging`: somebody is behind.
    pub fn trim(&mut self, now: u32, lagging: bool, keep: &Keep) {
        while self.items.front().is_some_and(|front| self.is_due(front, now, lagging, keep)) {
            let Some(item) = self.items.pop_front() else { break };
            self.let_go(item, keep);
        }
        while self.values.len() > KEYS {
            let Some((_, payload)) = self.values.pop_first() else { break };
            self.latest.remove(&self.key_of(&payload));
        }
    }

    fn let_go(&mut self, item: Item, keep: &Keep) {
        // A prefix may have begun with messages older than what was gone already of another channel.
        self.gone = self.gone.max(item.payload.sequence);
        if keep.values && !item.superseded {
            self.values.insert(self.first, item.payload);
        }
        self.first += 1;
    }

    /// A message without a key is the last value of its channel.
    fn key_of(&self, payload: &Payload) -> Box<str> {
        let key = payload.key.as_deref().unwrap_or("");
        if self.is_prefix() { format!("{}\0{key}", payload.channel).into() } else { key.into() }
    }

    fn is_due(&self, front: &Item, now: u32, lagging: bool, keep: &Keep) -> bool {
        let bytes = self.sum - front.sum;
        let replayed = self.items.len() <= keep.messages as usize
            && bytes <= keep.bytes
            && now.saturating_sub(front.tick) <= keep.age_ticks;
        !(replayed || lagging && self.sent - front.sent <= keep.backlog)
    }

    /// The message at a cursor.
    pub fn ahead(&self, cursor: Cursor) -> Next<'_> {
        if cursor.conflates() {
            return self.next_value(cursor.place());
        }
        let place = cursor.place();
        if place >= self.end() {
            Next::Nothing(cursor)
        } else if place < self.first {
            Next::Lost
        } else {
            Next::Message(&self.items[(place - self.first) as usize].payload, cursor.moved(place + 1))
        }
    }

    /// The next value that nothing has superseded.
    fn next_value(&self, place: u64) -> Next<'_> {
        if let Some((&at, payload)) = self.values.range(place..).next() {
            return Next::Message(payload, Cursor::conflating(at + 1));
        }
        let from = place.max(self.first);
        let skip = (from - self.first) as usize;
        match self.items.iter().skip(skip).position(|item| !item.superseded) {
            Some(more) => {
                let (at, payload) = (self.first + (skip + more) as u64, &self.items[skip + more].payload);
                Next::Message(payload, Cursor::conflating(at + 1))
            }
            None => Next::Nothing(Cursor::at(self.end())),
        }
    }

    /// Behind the message of this sequence. `Err`: messages between are gone; the cursor is at the oldest there is.
    pub fn behind(&self, sequence: u64) -> Result<Cursor, Cursor> {
        // A prefix has older messages than that, of some of its channels: with them there would be more than one gap.
        let from = sequence.max(self.gone);
        let ahead = self.items.partition_point(|item| item.payload.sequence <= from);
        let cursor = Cursor::at(self.first + ahead as u64);
        if sequence < self.gone { Err(cursor) } else { Ok(cursor) }
    }

    /// What somebody has heard who wants the message at the cursor next; `None`: all that there is.
    pub fn sequence_before(&self, cursor: Cursor) -> Option<u64> {
        match self.ahead(cursor) {
            Next::Message(payload, _) => Some(payload.sequence - 1),
            Next::Nothing(_) => None,
            Next::Lost => Some(self.gone.saturating_sub(1)),
        }
    }

    /// The sequence of the message that the feed knows by this id.
    pub fn sequence_of(&self, own_id: &str) -> Option<u64> {
        let has = |payload: &&Payload| payload.own_id.as_deref() == Some(own_id);
        let items = self.items.iter().rev().map(|item| &item.payload);
        // The last value may be the last message that a client has heard.
        items.chain(self.values.values().rev()).find(has).map(|payload| payload.sequence)
    }

    /// Whether messages here have ids of the feed's own.
    pub fn has_own_ids(&self) -> bool {
        self.items.back().is_some_and(|item| item.payload.own_id.is_some())
    }

    /// How far a listener is behind: bytes that wait behind its next message, which may be as large as it likes, and
    /// ticks that this has waited.
    pub fn lag(&self, cursor: Cursor, now: u32) -> (u64, u32) {
        let place = cursor.place().max(self.first);
        match self.items.get((place - self.first) as usize) {
            Some(item) => (self.sent - item.sent - item.payload.frame_len(), now.saturating_sub(item.tick)),
            None => (0, 0),
        }
    }

    /// The first place from which a listener is no more than so far behind; the last message's at most.
    pub fn within(&self, bytes: u64, ticks: u32, now: u32) -> u64 {
        let too_far = |item: &Item| self.sent - item.sent > bytes || now.saturating_sub(item.tick) > ticks;
        let ahead = self.items.partition_point(too_far).min(self.items.len().saturating_sub(1));
        self.first + ahead as u64
    }
}

/// What a letter brought, as this shard counts it.
pub fn payload(message: &Arc<Message>) -> Payload {
    Rc::new(message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Draft;

    const KEEP: Keep = Keep { messages: 3, bytes: 1 << 20, age_ticks: 100, backlog: 0, values: false };

    fn message(sequence: u64, key: &str) -> Payload {
        let key = Some(key.to_owned()).filter(|key| !key.is_empty());
        let draft = Draft { channel: "a".into(), key, payload: vec![b'x'; 100], ..Draft::default() };
        payload(&Arc::new(Message::new(draft, 7, sequence)))
    }

    fn row(keys: &[&str], keep: &Keep) -> Row {
        let mut row = Row::new(0, "a", 0);
        keys.iter().zip(1..).for_each(|(key, sequence)| row.push(&message(sequence * 10, key), 0, keep));
        row
    }

    fn heard(row: &Row, mut cursor: Cursor) -> Vec<u64> {
        let mut heard = Vec::new();
        while let Next::Message(payload, next) = row.ahead(cursor) {
            heard.push(payload.sequence);
            cursor = next;
        }
        assert!(matches!(row.ahead(cursor), Next::Nothing(end) if end == Cursor::at(row.end())));
        heard
    }

    #[test]
    fn what_is_beyond_the_replay_goes_unless_somebody_lags() {
        let keep = Keep { backlog: 1 << 20, ..KEEP };
        let mut row = row(&["", "", "", "", ""], &keep);
        row.trim(0, true, &keep);
        assert_eq!((row.kept(), row.gone()), (5, 0));
        row.trim(0, false, &keep);
        assert_eq!((row.kept(), row.gone()), (3, 20));
        assert!(matches!(row.ahead(Cursor::at(1)), Next::Lost));
        row.trim(101, false, &keep);
        assert_eq!((row.kept(), row.gone()), (0, 50));
        assert!(row.is_idle());
    }

    #[test]
    fn the_backlog_has_its_own_limit() {
        let (len, cost) = (message(1, "").frame_len(), message(1, "").cost());
        let keep = Keep { messages: 0, backlog: 2 * len, ..KEEP };
        let mut row = row(&["", "", "", ""], &keep);
        row.trim(0, true, &keep);
        assert_eq!((row.kept(), row.kept_bytes()), (2, 2 * cost));
        assert_eq!(row.lag(Cursor::at(2), 5), (len, 5));
        assert_eq!(row.lag(Cursor::at(4), 5), (0, 0));
        assert_eq!([0, len, 9 * len].map(|bytes| row.within(bytes, 9, 0)), [3, 3, 2]);
    }

    #[test]
    fn who_comes_back_goes_on_behind_what_it_has_heard() {
        let mut row = row(&["", "", "", "", ""], &KEEP);
        row.trim(0, false, &KEEP);
        assert_eq!(heard(&row, row.behind(30).unwrap()), [40, 50]);
        assert_eq!(heard(&row, row.behind(35).unwrap()), [40, 50]);
        assert_eq!(heard(&row, row.behind(20).unwrap()), [30, 40, 50]);
        assert_eq!(heard(&row, row.behind(19).unwrap_err()), [30, 40, 50]);
        assert!(heard(&row, row.behind(99).unwrap()).is_empty());
        assert_eq!(row.sequence_before(row.behind(30).unwrap()), Some(39));
    }

    #[test]
    fn of_each_key_the_last_value_stays() {
        let keep = Keep { messages: 1, values: true, ..KEEP };
        let mut row = row(&["k", "l", "k", "", "m", ""], &keep);
        assert_eq!(heard(&row, Cursor::conflating(0)), [20, 30, 50, 60]);
        row.trim(0, false, &keep);
        assert_eq!(row.kept(), 4);
        assert_eq!(heard(&row, Cursor::conflating(0)), [20, 30, 50, 60]);
        assert_eq!(heard(&row, Cursor::conflating(2)), [30, 50, 60]);
        row.push(&message(70, "l"), 0, &keep);
        row.push(&message(80, "m"), 0, &keep);
        assert_eq!(heard(&row, Cursor::conflating(0)), [30, 60, 70, 80]);
        assert_eq!(heard(&row, Cursor::at(6)), [70, 80]);
    }

    #[test]
    fn what_never_came_is_lost_to_everybody_once() {
        let keep = Keep { values: true, ..KEEP };
        let mut row = row(&["k", "l"], &keep);
        row.miss(30, &keep);
        assert!([0, 1, 2].iter().all(|&place| matches!(row.ahead(Cursor::at(place)), Next::Lost)));
        let behind = row.behind_missed(Cursor::at(2)).unwrap();
        assert_eq!((behind.place(), row.behind_missed(behind)), (row.end(), None));
        row.push(&message(40, "l"), 0, &keep);
        assert_eq!((heard(&row, behind), heard(&row, Cursor::conflating(0))), (vec![40], vec![10, 40]));
        assert_eq!((row.behind(29).is_err(), row.behind(30).is_ok(), row.gone()), (true, true, 30));
    }

    #[test]
    fn a_prefix_has_what_its_channels_have_in_order() {
        let keep = Keep { values: true, ..KEEP };
        let (mut one, mut other) = (Row::new(0, "a", 5), Row::new(0, "b", 3));
        [10, 40].into_iter().for_each(|sequence| one.push(&message(sequence, ""), 2, &keep));
        [20, 30].into_iter().for_each(|sequence| other.push(&message(sequence, "k"), 3, &keep));
        let all = Row::merged(0, "*", 1, [&one, &other].into_iter(), &keep);
        assert_eq!((heard(&all, Cursor::at(0)), all.gone()), (vec![10, 20, 30, 40], 5));
        assert_eq!(heard(&all, Cursor::conflating(0)), [30, 40]);
        assert!(all.is_prefix() && all.is_idle());
    }
}

//! A feed as a shard sees it: which rows its channels and prefixes have, and what is remembered of those without one.

use super::FeedSettings;
use super::channel_log::ChannelLog;
use super::ids::Ids;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

/// Channels that are remembered when their rows are given up. Of others only the latest sequence is known, for all of
/// them, and who comes back to one is told that something may be gone.
const DEPARTED: usize = 16_384;

/// A feed, and the rows of its channels.
pub struct Feed {
    pub settings: FeedSettings,
    /// The ids of its source.
    pub ids: Ids,
    channels: HashMap<Rc<str>, u32>,
    /// The same in the order of their names, for prefixes.
    names: BTreeMap<Rc<str>, u32>,
    /// Without their `*`.
    prefixes: HashMap<Rc<str>, u32>,
    /// The lengths of the prefixes, and how many have each. In order, so that a simulated shard does the same each
    /// time.
    lengths: BTreeMap<usize, u32>,
    departed: BTreeMap<Rc<str>, u64>,
    departures: VecDeque<Rc<str>>,
    /// Messages up to this sequence may have gone by without a row.
    gone: u64,
    /// Prefixes that nobody listens to, and the ticks until which they stay.
    idle: VecDeque<(u32, u32)>,
}

impl Feed {
    /// Without rows.
    pub fn new(settings: &FeedSettings) -> Feed {
        Feed {
            settings: settings.clone(),
            ids: Ids::default(),
            channels: HashMap::new(),
            names: BTreeMap::new(),
            prefixes: HashMap::new(),
            lengths: BTreeMap::new(),
            departed: BTreeMap::new(),
            departures: VecDeque::new(),
            gone: 0,
            idle: VecDeque::new(),
        }
    }

    /// The row of a channel or a prefix.
    pub fn find(&self, name: &str) -> Option<u32> {
        match name.strip_suffix('*') {
            Some(prefix) => self.prefixes.get(prefix).copied(),
            None => self.channels.get(name).copied(),
        }
    }

    /// Another channel may have a row for what is kept of it.
    pub fn has_room(&self) -> bool {
        self.channels.len() < self.settings.channels_max
    }

    /// Something is kept of channels that nobody listens to.
    pub fn keeps(&self) -> bool {
        self.settings.keep.messages > 0 || self.settings.keep.values
    }

    /// The rows of the prefixes that cover a channel.
    pub fn covering(&self, channel: &str) -> impl Iterator<Item = u32> {
        let prefixes = self.lengths.keys().filter_map(move |&len| channel.get(..len));
        prefixes.filter_map(|prefix| self.prefixes.get(prefix).copied())
    }

    /// The rows of the channels that a prefix covers.
    pub fn covered<'f>(&'f self, prefix: &'f str) -> impl Iterator<Item = u32> + 'f {
        below(&self.names, prefix).map(|(_, &log)| log)
    }

    /// Messages up to this sequence may be gone that a prefix covers and that are in no row.
    pub fn gone_below(&self, prefix: &str) -> u64 {
        below(&self.departed, prefix).map(|(_, &gone)| gone).max().unwrap_or(0).max(self.gone)
    }

    /// A channel's row begins: messages up to which sequence may be gone.
    pub fn arrives(&mut self, channel: &str) -> u64 {
        self.departed.remove(channel).unwrap_or(self.gone)
    }

    /// Messages up to this sequence never came; for which channels is not asked again.
    pub fn misses(&mut self, sequence: u64) {
        self.departed.clear();
        self.gone = sequence;
    }

    /// A message has gone by without a row.
    pub fn passes(&mut self, channel: &str, sequence: u64) {
        match self.departed.get_mut(channel) {
            Some(gone) => *gone = sequence,
            None => self.gone = sequence,
        }
    }

    /// A row is there.
    pub fn enter(&mut self, log: &ChannelLog, number: u32) {
        match log.name.strip_suffix('*') {
            Some(prefix) => {
                *self.lengths.entry(prefix.len()).or_default() += 1;
                self.prefixes.insert(prefix.into(), number);
            }
            None => {
                self.names.insert(log.name.clone(), number);
                self.channels.insert(log.name.clone(), number);
            }
        }
    }

    /// A row is given up.
    pub fn leave(&mut self, log: &ChannelLog) {
        let Some(prefix) = log.name.strip_suffix('*') else { return self.depart(log) };
        self.prefixes.remove(prefix);
        self.lengths.entry(prefix.len()).and_modify(|count| *count -= 1);
        self.lengths.retain(|_, count| *count > 0);
    }

    fn depart(&mut self, log: &ChannelLog) {
        self.channels.remove(&log.name);
        self.names.remove(&log.name);
        self.departed.insert(log.name.clone(), log.gone());
        self.departures.push_back(log.name.clone());
        if self.departures.len() > DEPARTED {
            let oldest = self.departures.pop_front().and_then(|oldest| self.departed.remove(&oldest));
            self.gone = self.gone.max(oldest.unwrap_or(0));
        }
    }

    /// Nobody listens to a prefix any more: it stays for a while. `Some`: another one must go for it.
    pub fn rests(&mut self, number: u32, until: u32) -> Option<(u32, u32)> {
        self.idle.push_back((number, until));
        let full = self.idle.len() > self.settings.idle_prefixes_max;
        full.then(|| self.idle.pop_front()).flatten()
    }

    /// A prefix that has stayed long enough, with the tick until which it was to.
    pub fn expired(&mut self, now: u32) -> Option<(u32, u32)> {
        self.idle.front().filter(|(_, until)| *until <= now)?;
        self.idle.pop_front()
    }
}

/// Those whose names begin so.
fn below<'m, V>(names: &'m BTreeMap<Rc<str>, V>, prefix: &'m str) -> impl Iterator<Item = (&'m Rc<str>, &'m V)> {
    let from = (std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded);
    names.range::<str, _>(from).take_while(move |(name, _)| name.starts_with(prefix))
}

//! A feed as a shard sees it: which logs its channels and prefixes have, and what is remembered of channels without
//! one.

use super::FeedSettings;
use super::filters::Filters;
use super::ids::Ids;
use super::log::ChannelLog;
use super::settings::Covers;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

/// Channels of which the low watermark is remembered when their logs are dropped. For all others together one is known,
/// and whoever resumes on one below it is sent a notice of a gap.
const DROPPED: usize = 16_384;

/// A feed, and the numbers of the logs of its channels.
pub struct Feed {
    /// What is kept of its channels.
    pub settings: FeedSettings,
    /// The ids that its source gives.
    pub ids: Ids,
    channels: HashMap<Rc<str>, u32>,
    /// The same by name in order, for prefixes.
    names: BTreeMap<Rc<str>, u32>,
    /// By names without their `*`.
    prefixes: HashMap<Rc<str>, u32>,
    /// The lengths of the prefixes, and how many have each; ordered, so that a simulated shard is deterministic.
    lengths: BTreeMap<usize, u32>,
    filters: Filters,
    /// The low watermarks of channels whose logs were dropped, and their names in that order.
    dropped: BTreeMap<Rc<str>, u64>,
    dropped_order: VecDeque<Rc<str>>,
    /// Of every other channel without a log, messages up to this sequence may be missing.
    low_watermark: u64,
    /// The logs of prefixes without subscribers, and the ticks until which each is kept.
    lingering: VecDeque<(u32, u32)>,
}

impl Feed {
    /// A feed without logs.
    pub fn new(settings: &FeedSettings) -> Feed {
        Feed {
            settings: settings.clone(),
            ids: Ids::default(),
            channels: HashMap::new(),
            names: BTreeMap::new(),
            prefixes: HashMap::new(),
            lengths: BTreeMap::new(),
            filters: Filters::default(),
            dropped: BTreeMap::new(),
            dropped_order: VecDeque::new(),
            low_watermark: 0,
            lingering: VecDeque::new(),
        }
    }

    /// A feed that begins while the server runs: of what was before this sequence nothing is known.
    pub fn begun(settings: &FeedSettings, sequence: u64) -> Feed {
        Feed { low_watermark: sequence, ..Feed::new(settings) }
    }

    /// Whether it has logs.
    pub fn has_logs(&self) -> bool {
        !(self.channels.is_empty() && self.prefixes.is_empty() && self.filters.is_empty())
    }

    /// The log of a channel, a prefix or a filter.
    pub fn find(&self, name: &str) -> Option<u32> {
        match self.settings.naming.covers(name) {
            Covers::Prefix => self.prefixes.get(name.trim_end_matches('*')).copied(),
            Covers::Filter => self.filters.find(name),
            Covers::Itself => self.channels.get(name).copied(),
        }
    }

    /// Whether another channel may have a log for what is kept of it.
    pub fn has_room(&self) -> bool {
        self.channels.len() < self.settings.channels_max
    }

    /// Whether messages are kept of channels without subscribers.
    pub fn keeps(&self) -> bool {
        self.settings.keep.messages > 0 || self.settings.keep.values
    }

    /// Appends the logs of the prefixes and filters that cover a channel.
    pub fn covering(&self, channel: &str, logs: &mut Vec<u32>) {
        let prefixes = self.lengths.keys().filter_map(|&len| channel.get(..len));
        logs.extend(prefixes.filter_map(|prefix| self.prefixes.get(prefix).copied()));
        self.filters.matching(channel, logs);
    }

    /// All logs that take messages of a channel, its own and those of prefixes; `None`: of any channel. Each once.
    pub fn logs(&self, channel: Option<&str>) -> Vec<u32> {
        let mut logs = Vec::new();
        match channel {
            Some(channel) => {
                logs.extend(self.find(channel));
                self.covering(channel, &mut logs);
            }
            None => logs.extend(self.names.values().chain(self.prefixes.values()).copied().chain(self.filters.all())),
        }
        // Prefixes are hashed: without an order a simulated shard would not do the same each time.
        logs.sort_unstable();
        logs.dedup();
        logs
    }

    /// The logs of the channels that a prefix (without its `*`) covers.
    pub fn covered<'f>(&'f self, prefix: &'f str) -> impl Iterator<Item = u32> + 'f {
        below(&self.names, prefix).map(|(_, &log)| log)
    }

    /// The low watermark of what a prefix (without its `*`) covers and has no log.
    pub fn low_watermark_below(&self, prefix: &str) -> u64 {
        below(&self.dropped, prefix).map(|(_, &watermark)| watermark).max().unwrap_or(0).max(self.low_watermark)
    }

    /// The low watermark with which the log of a channel begins.
    pub fn take_low_watermark(&mut self, channel: &str) -> u64 {
        self.dropped.remove(channel).unwrap_or(self.low_watermark)
    }

    /// Messages up to this sequence never reached this shard; of which channels is not known.
    pub fn record_loss(&mut self, sequence: u64) {
        self.dropped.clear();
        self.low_watermark = sequence;
    }

    /// A message was published on a channel without a log.
    pub fn skip(&mut self, channel: &str, sequence: u64) {
        match self.dropped.get_mut(channel) {
            Some(watermark) => *watermark = sequence,
            None => self.low_watermark = sequence,
        }
    }

    /// Enters the number of a new log.
    pub fn enter(&mut self, log: &ChannelLog, number: u32) {
        match log.covers() {
            Covers::Prefix => {
                let prefix = log.name.trim_end_matches('*');
                *self.lengths.entry(prefix.len()).or_default() += 1;
                self.prefixes.insert(prefix.into(), number);
            }
            Covers::Filter => self.filters.insert(&log.name, number),
            Covers::Itself => {
                self.names.insert(log.name.clone(), number);
                self.channels.insert(log.name.clone(), number);
            }
        }
    }

    /// Removes the number of a log that is dropped.
    pub fn leave(&mut self, log: &ChannelLog) {
        match log.covers() {
            Covers::Prefix => self.leave_prefix(log.name.trim_end_matches('*')),
            Covers::Filter => self.filters.remove(&log.name),
            Covers::Itself => self.leave_channel(log),
        }
    }

    fn leave_prefix(&mut self, prefix: &str) {
        self.prefixes.remove(prefix);
        self.lengths.entry(prefix.len()).and_modify(|count| *count -= 1);
        self.lengths.retain(|_, count| *count > 0);
    }

    fn leave_channel(&mut self, log: &ChannelLog) {
        self.channels.remove(&log.name);
        self.names.remove(&log.name);
        self.dropped.insert(log.name.clone(), log.low_watermark());
        self.dropped_order.push_back(log.name.clone());
        if self.dropped_order.len() > DROPPED {
            let oldest = self.dropped_order.pop_front().and_then(|oldest| self.dropped.remove(&oldest));
            self.low_watermark = self.low_watermark.max(oldest.unwrap_or(0));
        }
    }

    /// Keeps the log of a prefix without subscribers until a tick. Returns another one and its tick, which is to be
    /// dropped for it.
    pub fn linger(&mut self, number: u32, until: u32) -> Option<(u32, u32)> {
        self.lingering.push_back((number, until));
        let full = self.lingering.len() > self.settings.idle_prefixes_max;
        full.then(|| self.lingering.pop_front()).flatten()
    }

    /// Takes the log of a prefix that was kept for long enough, and the tick until which it was to be.
    pub fn expired(&mut self, now: u32) -> Option<(u32, u32)> {
        self.lingering.front().filter(|(_, until)| *until <= now)?;
        self.lingering.pop_front()
    }
}

/// The entries whose names begin so.
fn below<'m, V>(names: &'m BTreeMap<Rc<str>, V>, prefix: &'m str) -> impl Iterator<Item = (&'m Rc<str>, &'m V)> {
    let from = (std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded);
    names.range::<str, _>(from).take_while(move |(name, _)| name.starts_with(prefix))
}

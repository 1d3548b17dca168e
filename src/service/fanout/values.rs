//! Last values: the last message of each key of a log, ordered by sequence, so that the next one is found without a
//! look at the messages that it supersedes.
//!
//! A value is in the log, too, until the log evicts it; from then on it is kept *alone*, for snapshots and for
//! subscribers whose backlog is conflated, as long as the limits of the feed's `last_values` allow.

use super::settings::Keep;
use crate::mesh::Message;
use crate::shard::service::Payload;
use std::collections::{BTreeMap, HashMap};

/// The last values of a log.
#[derive(Default)]
pub struct Values {
    by_sequence: BTreeMap<u64, Value>,
    /// The sequence of the last value of each key.
    by_key: HashMap<Box<str>, u64>,
    alone: usize,
    alone_bytes: u64,
    /// Of a prefix: the values of before it began were copied from the logs of its channels.
    pub backfilled: bool,
}

struct Value {
    payload: Payload,
    tick: u32,
    /// The log has evicted it: it is kept here alone.
    alone: bool,
}

impl Values {
    /// Makes a new message the last value of its key. Returns what it supersedes, if that was kept alone. `prefix`:
    /// keys are told apart by channel.
    pub fn supersede(&mut self, payload: &Payload, tick: u32, prefix: bool) -> Option<Payload> {
        let before = self.by_key.insert(key(payload, prefix), payload.sequence);
        self.by_sequence.insert(payload.sequence, Value { payload: payload.clone(), tick, alone: false });
        self.take(before?)
    }

    /// Takes a value out; returns it if it was kept alone.
    fn take(&mut self, sequence: u64) -> Option<Payload> {
        let value = self.by_sequence.remove(&sequence)?;
        if value.alone {
            self.alone -= 1;
            self.alone_bytes -= value.payload.cost();
        }
        Some(value.payload).filter(|_| value.alone)
    }

    /// The log evicts a message. Returns whether it is a last value, which is kept alone from now on.
    pub fn outlives(&mut self, sequence: u64) -> bool {
        let Some(value) = self.by_sequence.get_mut(&sequence) else { return false };
        if let Some(bare) = value.payload.without_forms() {
            value.payload = super::log::payload(&bare.into());
        }
        value.alone = true;
        self.alone += 1;
        self.alone_bytes += value.payload.cost();
        true
    }

    /// The log keeps the message for replay (again): it is not counted as alone.
    pub fn is_kept(&mut self, sequence: u64) {
        if let Some(value) = self.by_sequence.get_mut(&sequence).filter(|value| value.alone) {
            value.alone = false;
            self.alone -= 1;
            self.alone_bytes -= value.payload.cost();
        }
    }

    /// Copies an older message into a prefix; it is the last value of its key if none is known.
    pub fn put_below(&mut self, payload: &Payload, tick: u32) {
        let sequence = payload.sequence;
        let latest = self.by_key.entry(key(payload, true)).or_insert(sequence);
        if *latest != sequence || self.by_sequence.contains_key(&sequence) {
            return;
        }
        self.by_sequence.insert(sequence, Value { payload: payload.clone(), tick, alone: true });
        self.alone += 1;
        self.alone_bytes += payload.cost();
    }

    /// Exchanges a message for a copy of it.
    pub fn replace(&mut self, payload: &Payload) {
        if let Some(value) = self.by_sequence.get_mut(&payload.sequence) {
            value.payload = payload.clone();
        }
    }

    /// Drops values beyond the limits of age, number and bytes, oldest first. Returns those that were kept alone.
    pub fn trim(&mut self, now: u32, keep: &Keep, prefix: bool) -> Vec<Payload> {
        let mut gone = Vec::new();
        while let Some(first) = self.by_sequence.first_entry() {
            let old = first.get().alone && now.saturating_sub(first.get().tick) > keep.value_age_ticks;
            let sequence = *first.key();
            if !old && self.by_sequence.len() <= keep.values_max as usize && self.alone_bytes <= keep.value_bytes {
                break;
            }
            if let Some(value) = self.by_sequence.get(&sequence) {
                self.by_key.remove(&key(&value.payload, prefix));
            }
            gone.extend(self.take(sequence));
        }
        gone
    }

    /// The first value behind a sequence, and the tick in which it was published.
    pub fn behind(&self, sequence: u64) -> Option<(&Payload, u32)> {
        self.by_sequence.range(sequence + 1..).next().map(|(_, value)| (&value.payload, value.tick))
    }

    /// All values, in order of sequence.
    pub fn all(&self) -> impl Iterator<Item = (&Payload, u32)> {
        self.by_sequence.values().map(|value| (&value.payload, value.tick))
    }

    /// How many values are kept alone.
    pub fn alone(&self) -> usize {
        self.alone
    }

    /// Bytes that those cost, about.
    pub fn alone_bytes(&self) -> u64 {
        self.alone_bytes
    }
}

/// What a message is the last value of: its key, the empty one where it has none, in its channel.
fn key(message: &Message, prefix: bool) -> Box<str> {
    let key = message.key.as_deref().unwrap_or("");
    if prefix { format!("{}\0{key}", message.channel).into() } else { key.into() }
}

//! Last values: of each key of a row the last message, by sequence, so that the next one is found without a look at all
//! that it supersedes.
//!
//! A value is in its row, too, until the row lets go of it; from then on it is kept *alone*, for snapshots and for
//! those whose backlog is conflated, as long as the feed's `last_values` allow.

use super::settings::Keep;
use crate::mesh::Message;
use crate::shard::service::Payload;
use std::collections::{BTreeMap, HashMap};

/// The last values of a row.
#[derive(Default)]
pub struct Values {
    live: BTreeMap<u64, Value>,
    latest: HashMap<Box<str>, u64>,
    alone: usize,
    alone_bytes: u64,
    /// Of a prefix: those of earlier days are here.
    pub whole: bool,
}

struct Value {
    payload: Payload,
    tick: u32,
    /// The row does not keep it for another reason.
    alone: bool,
}

impl Values {
    /// The message that comes now is the last value of its key. What it supersedes, if that was kept for nothing else.
    pub fn supersede(&mut self, payload: &Payload, tick: u32, prefix: bool) -> Option<Payload> {
        let before = self.latest.insert(key(payload, prefix), payload.sequence);
        self.live.insert(payload.sequence, Value { payload: payload.clone(), tick, alone: false });
        self.take(before?)
    }

    /// Takes a value out; says which, if nothing else keeps it.
    fn take(&mut self, sequence: u64) -> Option<Payload> {
        let value = self.live.remove(&sequence)?;
        if value.alone {
            self.alone -= 1;
            self.alone_bytes -= value.payload.cost();
        }
        Some(value.payload).filter(|_| value.alone)
    }

    /// The row lets go of a message. Whether it is a last value, which is kept alone from now on.
    pub fn outlives(&mut self, sequence: u64) -> bool {
        let Some(value) = self.live.get_mut(&sequence) else { return false };
        if let Some(bare) = value.payload.without_forms() {
            value.payload = super::channel_log::payload(&bare.into());
        }
        value.alone = true;
        self.alone += 1;
        self.alone_bytes += value.payload.cost();
        true
    }

    /// The row keeps the message for another reason.
    pub fn is_kept(&mut self, sequence: u64) {
        if let Some(value) = self.live.get_mut(&sequence).filter(|value| value.alone) {
            value.alone = false;
            self.alone -= 1;
            self.alone_bytes -= value.payload.cost();
        }
    }

    /// An older message of a prefix, which is the last value of its key if none is known.
    pub fn put_below(&mut self, payload: &Payload, tick: u32) {
        let sequence = payload.sequence;
        let latest = self.latest.entry(key(payload, true)).or_insert(sequence);
        if *latest != sequence || self.live.contains_key(&sequence) {
            return;
        }
        self.live.insert(sequence, Value { payload: payload.clone(), tick, alone: true });
        self.alone += 1;
        self.alone_bytes += payload.cost();
    }

    /// Another copy of a message.
    pub fn replace(&mut self, payload: &Payload) {
        if let Some(value) = self.live.get_mut(&payload.sequence) {
            value.payload = payload.clone();
        }
    }

    /// Lets go of what is too old, too much or too many; what was kept for nothing else.
    pub fn trim(&mut self, now: u32, keep: &Keep, prefix: bool) -> Vec<Payload> {
        let mut gone = Vec::new();
        while let Some(first) = self.live.first_entry() {
            let old = first.get().alone && now.saturating_sub(first.get().tick) > keep.value_age_ticks;
            let sequence = *first.key();
            if !old && self.live.len() <= keep.values_max as usize && self.alone_bytes <= keep.value_bytes {
                break;
            }
            if let Some(value) = self.live.get(&sequence) {
                self.latest.remove(&key(&value.payload, prefix));
            }
            gone.extend(self.take(sequence));
        }
        gone
    }

    /// The first value behind a sequence, and the tick in which it came.
    pub fn behind(&self, sequence: u64) -> Option<(&Payload, u32)> {
        self.live.range(sequence + 1..).next().map(|(_, value)| (&value.payload, value.tick))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (&Payload, u32)> {
        self.live.values().map(|value| (&value.payload, value.tick))
    }

    /// Values that are kept for nothing else.
    pub fn alone(&self) -> usize {
        self.alone
    }

    /// Bytes that those cost, about.
    pub fn alone_bytes(&self) -> u64 {
        self.alone_bytes
    }
}

/// A message without a key is the last value of its channel.
fn key(message: &Message, prefix: bool) -> Box<str> {
    let key = message.key.as_deref().unwrap_or("");
    if prefix { format!("{}\0{key}", message.channel).into() } else { key.into() }
}

//! What the admin address shows of the way from feeds to shards: gauges and counters, written by the publish queue.

use super::credit::Credit;
use crate::mesh::ShardNumber;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// How far the shards are behind what was published.
pub struct Backlogs {
    credit: Credit,
    shards: Box<[Gauges]>,
}

/// The same of one shard.
#[derive(Default)]
struct Gauges {
    bytes: AtomicU64,
    left_behind: AtomicBool,
    times: AtomicU64,
}

/// One shard's backlog at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardBacklog {
    /// Bytes of messages, about, that it has still to read.
    pub bytes: u64,
    /// It is left behind.
    pub left_behind: bool,
    /// How often it was left behind so far.
    pub times: u64,
}

impl Backlogs {
    pub(super) fn new(credit: Credit, shards: usize) -> Backlogs {
        Backlogs { credit, shards: (0..shards).map(|_| Gauges::default()).collect() }
    }

    /// Bytes of messages, about, that some shard has still to read; those that are left behind are not counted.
    pub fn unread_bytes(&self) -> u64 {
        self.limit_bytes() - self.credit.available() as u64
    }

    /// The most that they may be (`publish_backlog_bytes`).
    pub fn limit_bytes(&self) -> u64 {
        self.credit.limit() as u64
    }

    /// The backlog of each shard, by its number.
    pub fn by_shard(&self) -> impl Iterator<Item = ShardBacklog> {
        self.shards.iter().map(|it| ShardBacklog {
            bytes: it.bytes.load(Relaxed),
            left_behind: it.left_behind.load(Relaxed),
            times: it.times.load(Relaxed),
        })
    }

    /// Sets a shard's gauges.
    pub(super) fn set(&self, shard: ShardNumber, bytes: usize, left_behind: bool) {
        self.shards[shard].bytes.store(bytes as u64, Relaxed);
        self.shards[shard].left_behind.store(left_behind, Relaxed);
    }

    /// Counts that a shard was left behind.
    pub(super) fn count_left_behind(&self, shard: ShardNumber) {
        self.shards[shard].times.fetch_add(1, Relaxed);
    }
}

//! What the control thread counts of itself, and what the log counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters and gauges of the control thread. Each is counted in at one place, and read by anybody.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Files that are held open between two parts.
    pub files_held: Count,
    /// The most that may be.
    pub files_held_limit: u64,
    /// Wishes for files that wait for a thread.
    pub files_queued: Count,
    /// Wishes that found too many before them, or waited too long.
    pub files_refused: Count,
    /// Open connections to the admin address.
    pub admin_connections: Count,
    /// Connections and requests to it that found no place.
    pub admin_refused: Count,
    /// Lines of the log that nobody took.
    pub log_dropped: Count,
}

/// One of them.
#[derive(Clone, Debug, Default)]
pub struct Count(pub Arc<AtomicU64>);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// So many now.
    pub fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, for as long as the value lives.
    pub fn hold(&self) -> Held {
        self.add();
        Held(self.clone())
    }
}

/// One that is counted until it is dropped.
pub struct Held(Count);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

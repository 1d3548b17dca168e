//! The counters and gauges of the control thread, and that of the log.

use super::auth::AuthStats;
use super::brokers::BrokerStats;
use super::certificates::TlsState;
use super::lists::KeptLists;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Each is written at one place, and read at any. Shared between threads: a clone is the same counter.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Gauge: files that are held open between two parts.
    pub files_held: Count,
    /// Gauge: the most that may be (`open_files`).
    pub files_held_limit: u64,
    /// Gauge: open connections to the admin address.
    pub admin_connections: Count,
    /// Connections to it that found all places taken.
    pub admin_refused: Count,
    /// Connections to the admin address whose TLS handshake has failed.
    pub admin_tls_failures: Count,
    /// Lines of the log that were dropped because the queue was full.
    pub log_dropped: Count,
    /// The lists of networks of all tables `addresses` that have some.
    pub lists: Arc<[Arc<KeptLists>]>,
    /// The capacity of the table of tallies, in entries.
    pub tallies_limit: u64,
    /// The TLS of listeners that have one.
    pub tls: Arc<[Arc<TlsState>]>,
    /// Questions about clients.
    pub auth: Arc<AuthStats>,
    /// Brokers whose topics are shared.
    pub brokers: Arc<[Arc<BrokerStats>]>,
}

/// A counter or a gauge.
#[derive(Clone, Debug, Default)]
pub struct Count(pub Arc<AtomicU64>);

impl Count {
    /// Adds one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds so many.
    pub fn add_many(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds one, for as long as the returned value lives.
    pub fn hold(&self) -> Held {
        self.add();
        Held(self.clone())
    }
}

/// One that a gauge counts until this is dropped.
pub struct Held(Count);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

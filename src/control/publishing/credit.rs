//! Credit: the bytes that may be published and not yet be read by every shard (`publish_backlog_bytes`).
//!
//! This is flow control by credit. A message takes its cost before it gets its sequence, and waits, in turn, while
//! there is too little. The publish queue returns the cost of a letter when the last of the shards that are waited for
//! has read it. What is taken is therefore what lies in the queue, in letters under way and in mailboxes, and bounds
//! all of it.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that a message is held to cost beside its payload.
pub(super) const OVERHEAD: usize = 256;

/// The dispatcher is gone: the server is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopping;

/// The credit of all publishers together.
#[derive(Clone)]
pub(super) struct Credit {
    /// A permit for each byte.
    bytes: Arc<Semaphore>,
    limit: usize,
}

impl Credit {
    /// Credit of `limit` bytes, none of them taken.
    pub(super) fn new(limit: usize) -> Credit {
        Credit { bytes: Arc::new(Semaphore::new(limit)), limit }
    }

    /// What a message costs whose payload has so many bytes. One that would cost more than there is costs all of it,
    /// and so goes alone.
    pub(super) fn cost(&self, payload: usize) -> usize {
        payload.saturating_add(OVERHEAD).min(self.limit)
    }

    /// Waits until there is credit of `cost` bytes, and takes it. It returns when the permit is dropped; a permit that
    /// is forgotten is returned by [`Credit::give_back`].
    ///
    /// # Errors
    /// The server is stopping.
    pub(super) async fn take(&self, cost: usize) -> Result<OwnedSemaphorePermit, Stopping> {
        let permits = u32::try_from(cost).unwrap_or(u32::MAX);
        self.bytes.clone().acquire_many_owned(permits).await.map_err(|_| Stopping)
    }

    /// Returns credit whose permits were forgotten.
    pub(super) fn give_back(&self, bytes: usize) {
        self.bytes.add_permits(bytes);
    }

    /// All of it, in bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that nobody has taken.
    pub(super) fn available(&self) -> usize {
        self.bytes.available_permits()
    }
}

//! What the other tasks of the control thread ask of the dispatcher.

use super::reports::Reports;
use super::subscriber_queries::Reply;
use crate::mesh::Wanted;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Commands that may wait for the dispatcher; who sends one more waits.
pub(super) const QUEUE: usize = 256;

/// The addresses of an upstream, shared by the letters to all shards.
pub(super) type Addresses = Arc<[SocketAddr]>;

/// A command to the dispatcher.
pub(super) enum Command {
    /// Ask every shard for a report, and reply with the last of each.
    Reports(oneshot::Sender<Reports>),
    /// Ask every shard for the subscribers of these channels, and reply with the answer of each.
    SubscriberCounts(Wanted, Reply),
    /// Tell all shards the addresses of the upstream of this number.
    Addresses(u32, Addresses),
    /// Stop the server; a second one ends it at once.
    Stop,
}

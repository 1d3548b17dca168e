//! The TLS of a listener as it is at this moment: made by the control thread from the files of an operator, taken by
//! shards at each handshake.
//!
//! It is shared memory and not a letter: a certificate that was replaced must not be shown any more, however full the
//! mailbox of a shard is. To take it is one atomic load and a count, without a lock; a connection that has begun its
//! handshake keeps what it took.

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use std::sync::Arc;

/// The configuration of a listener's TLS, which may be replaced at any time. A clone is the same one.
#[derive(Clone, Debug)]
pub struct ListenerTls(Arc<ArcSwap<ServerConfig>>);

impl ListenerTls {
    /// With this configuration to begin with.
    pub fn new(config: Arc<ServerConfig>) -> ListenerTls {
        ListenerTls(Arc::new(ArcSwap::new(config)))
    }

    /// What a handshake that begins now is to use.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }

    /// Replaces it for handshakes that begin from now on.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        self.0.store(config);
    }
}

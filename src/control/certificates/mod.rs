//! TLS by files: that of listeners, what their files say, and what becomes of it when they change; that towards
//! brokers and upstreams.
//!
//! From top to bottom, each importing only what stands below it:
//!
//! | file | what |
//! |---|---|
//! | `keeper` | the task: when to look, when to rotate |
//! | `watch` | inotify over the folders in which names stand |
//! | `listener` | one listener: a reading is taken, or the one before stays |
//! | `state`, `advice` | what the admin address tells; what the operator should know |
//! | `upstream` | one upstream of proxy routes: as with a listener |
//! | `client`, `why` | TLS towards a server, and why it has failed |
//! | `server` | all files of a reading as one `rustls::ServerConfig` |
//! | `names`, `clients`, `tickets` | which certificate is shown; who is let in; sessions that are resumed |
//! | `identity` | a certificate with its key |
//! | `contents`, `fault`, `settings` | files read whole; what is wrong with one; what was written |
//!
//! Handshakes themselves are the shards': they take the configuration as it is when they begin
//! ([`ListenerTls`](crate::mesh::ListenerTls)).

mod advice;
mod client;
mod clients;
mod contents;
mod fault;
mod identity;
mod keeper;
mod listener;
mod names;
mod server;
mod settings;
mod state;
mod tickets;
mod upstream;
mod watch;
mod why;

pub use advice::Advice;
pub use client::{ClientFiles, ClientTls, inspect_client};
pub use fault::{Fault, Place};
pub use keeper::Kept;
pub(super) use keeper::keep;
pub use listener::{Inspection, TlsListener, inspect};
pub use settings::{CertificateFiles, ClientCertificates, MinVersion, TicketSettings, TlsSettings};
pub use state::{Shown, Standing, TlsState};
pub use upstream::{TlsUpstream, UpstreamTlsSettings};
pub use watch::folders_on_the_way;
pub(super) use why::{why, why_upstream};

use rustls::{KeyLog, KeyLogFile, NoKeyLog};
use std::sync::Arc;

/// The variable that names a file for the secrets of sessions (NSS key log format).
const KEY_LOG: &str = "SSLKEYLOGFILE";

/// Where the secrets of sessions are written: where `wanted`, to the file that the environment names, with a warning,
/// else nowhere.
pub fn key_log(wanted: bool) -> Arc<dyn KeyLog> {
    match std::env::var_os(KEY_LOG).filter(|file| wanted && !file.is_empty()) {
        Some(file) => {
            let file = file.display();
            tracing::warn!("{KEY_LOG}: the secrets of all TLS sessions are written to {file}: who reads it reads all");
            Arc::new(KeyLogFile::new())
        }
        None => Arc::new(NoKeyLog {}),
    }
}

#[cfg(test)]
mod tests;

//! Signals: which of them end the server, and which it merely hears.
//!
//! SIGHUP, SIGUSR1 and SIGUSR2 kill whoever has no handler for them, and are sent by tools that mean no harm (a closing
//! terminal, logrotate, a reload by habit): each is answered by a line in the log.

use super::dispatcher::Ask;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// The signals that are heard; as soon as it stands, none of them kills.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    hangup: Signal,
    user: [Signal; 2],
}

impl Signals {
    /// # Errors
    /// The kernel takes no handler.
    pub(super) fn new() -> io::Result<Signals> {
        let user = [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?];
        let [term, int] = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
        Ok(Signals { term, int, hangup: signal(SignalKind::hangup())?, user })
    }

    /// SIGTERM or SIGINT ask for an orderly end, a second one for any.
    pub(super) async fn heed(mut self, asks: mpsc::Sender<Ask>) {
        let [user1, user2] = &mut self.user;
        loop {
            let unheeded = tokio::select! {
                _ = self.term.recv() => None,
                _ = self.int.recv() => None,
                _ = self.hangup.recv() => Some("SIGHUP: reload is not supported yet; nothing changed"),
                _ = user1.recv() => Some("SIGUSR1 means nothing to this server; nothing changed"),
                _ = user2.recv() => Some("SIGUSR2 means nothing to this server; nothing changed"),
            };
            match unheeded {
                Some(words) => tracing::warn!("{words}"),
                None => drop(asks.send(Ask::Stop).await),
            }
        }
    }
}

//! Signals: which of them stop the server, which has it read files again, and which are only logged.
//!
//! SIGHUP, SIGUSR1 and SIGUSR2 kill whoever has no handler for them, and are sent by tools that mean no harm (a closing
//! terminal, logrotate, a reload by habit): each is answered by a line in the log.

use super::commands::Command;
use std::io;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};

/// Who reads files again: which ones, and how it is told.
pub(super) type Reader = (&'static str, Arc<Notify>);

/// The signals that are handled; as soon as it exists, none of them kills the process.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
    hangup: Signal,
    user: [Signal; 2],
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// The kernel refuses a handler (sigaction).
    pub(super) fn new() -> io::Result<Signals> {
        let user = [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?];
        let [term, int] = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
        Ok(Signals { term, int, hangup: signal(SignalKind::hangup())?, user })
    }

    /// Sends [`Command::Stop`] for each SIGTERM and SIGINT: the first asks for an orderly end, a second one for any.
    /// Notifies all who read files again for each SIGHUP.
    pub(super) async fn forward(mut self, commands: mpsc::Sender<Command>, readers: Vec<Reader>) {
        let [user1, user2] = &mut self.user;
        loop {
            let ignored = tokio::select! {
                _ = self.term.recv() => None,
                _ = self.int.recv() => None,
                _ = self.hangup.recv() => Some(hang_up(&readers)),
                _ = user1.recv() => Some("SIGUSR1 means nothing to this server; nothing changed".into()),
                _ = user2.recv() => Some("SIGUSR2 means nothing to this server; nothing changed".into()),
            };
            match ignored {
                Some(words) => tracing::warn!("{words}"),
                None => drop(commands.send(Command::Stop).await),
            }
        }
    }
}

/// The words for the log.
fn hang_up(readers: &[Reader]) -> String {
    readers.iter().for_each(|(_, orders)| orders.notify_one());
    match readers.iter().map(|(files, _)| *files).collect::<Vec<_>>().join(" and of ") {
        none if none.is_empty() => "SIGHUP: reload is not supported yet; nothing changed".into(),
        files => {
            format!("SIGHUP: the files of {files} are read again; reload of the configuration is not supported yet")
        }
    }
}

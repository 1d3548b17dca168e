//! A connection with its heart-beats.

use super::connection::Connection;
use std::io;
use std::time::Duration;
use tokio::time::Instant;

/// A session's connection.
pub(super) struct Link {
    /// It.
    pub(super) connection: Connection,
    beats: Beats,
    heard: Instant,
    spoke: Instant,
    /// Heart-beats that were sent so far.
    sent: u64,
}

/// What was agreed on about silence; zero: nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beats {
    /// What says that this end is there.
    pub(super) beat: &'static [u8],
    /// How often it is sent.
    pub(super) every: Duration,
    /// For how long the broker may say nothing.
    pub(super) silence: Duration,
}

impl Link {
    pub(super) fn new(connection: Connection, beats: Beats) -> Link {
        let now = Instant::now();
        Link { connection, beats, heard: now, spoke: now, sent: 0 }
    }

    /// Writes what is to go and waits for what comes: whichever is first; says whether something has come.
    /// Cancellation-safe.
    ///
    /// # Errors
    /// The connection is lost, or the broker has ended it.
    pub(super) async fn go_on(&mut self) -> io::Result<bool> {
        let has_come = self.connection.go_on().await?;
        if has_come {
            self.heard = Instant::now();
        }
        Ok(has_come)
    }

    /// Sends a heart-beat where one is due.
    pub(super) fn beat(&mut self, now: Instant) {
        let every = self.beats.every;
        if !every.is_zero() && now.duration_since(self.spoke) >= every {
            self.ping();
            self.spoke = now;
        }
    }

    /// Sends a heart-beat, and says the how manieth it is: in MQTT so many PINGRESPs say that it is answered.
    pub(super) fn ping(&mut self) -> u64 {
        self.connection.unsent.extend_from_slice(self.beats.beat);
        self.sent += 1;
        self.sent
    }

    /// # Errors
    /// The broker was silent for too long.
    pub(super) fn check_silence(&self, now: Instant) -> io::Result<()> {
        let silence = self.beats.silence;
        if !silence.is_zero() && now.duration_since(self.heard) > silence {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the broker is silent: its heart-beats have stopped"));
        }
        Ok(())
    }

    /// The broker was not listened to: it has not been silent.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.heard = now;
    }
}

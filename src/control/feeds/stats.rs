//! The state and the counters of a feed, written by its task and read by the admin address.

use super::decoder::Reason;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a feed is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedState {
    /// It was neither up nor down yet.
    Starting,
    /// Connected, or listening: messages come when there are any.
    Up,
    /// Not connected; it will try again.
    Down,
}

impl FeedState {
    /// The value of `state` in `/v1/status`.
    pub fn word(self) -> &'static str {
        match self {
            FeedState::Starting => "starting",
            FeedState::Up => "up",
            FeedState::Down => "down",
        }
    }
}

/// The state of a feed, and what changes with it.
#[derive(Debug)]
struct Standing {
    state: FeedState,
    since: SystemTime,
    has_been_up: bool,
    last_error: Option<String>,
}

/// The state and the counters of one feed.
#[derive(Debug)]
pub struct Stats {
    standing: Mutex<Standing>,
    messages: AtomicU64,
    bytes: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
    reconnects: AtomicU64,
    lost: AtomicU64,
}

impl Default for Stats {
    fn default() -> Stats {
        let standing =
            Standing { state: FeedState::Starting, since: SystemTime::now(), has_been_up: false, last_error: None };
        Stats {
            standing: Mutex::new(standing),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            refused: Default::default(),
            reconnects: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }
}

impl Stats {
    /// Notes that the feed is up; says whether it was not before. Counts a reconnect where it was up earlier.
    pub(super) fn up(&self) -> bool {
        let mut standing = self.standing();
        let again = standing.has_been_up;
        let new = standing.enter(FeedState::Up);
        standing.has_been_up = true;
        if new && again {
            self.reconnects.fetch_add(1, Relaxed);
        }
        new
    }

    /// Notes that the feed is down, and why; says whether it was not before.
    pub(super) fn down(&self, why: &str) -> bool {
        let mut standing = self.standing();
        standing.last_error = Some(why.to_owned());
        standing.enter(FeedState::Down)
    }

    /// Counts a message of so many bytes that was published.
    pub(super) fn published(&self, bytes: usize) {
        self.messages.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts a message that is not published; says whether it is the first for this reason.
    pub(super) fn refuse(&self, reason: Reason) -> bool {
        self.refused[reason as usize].fetch_add(1, Relaxed) == 0
    }

    /// Counts messages that the source has lost.
    pub(super) fn add_lost(&self, count: u64) {
        self.lost.fetch_add(count, Relaxed);
    }

    /// What the feed is doing.
    pub fn state(&self) -> FeedState {
        self.standing().state
    }

    /// How long the feed has been up; `None`: it is not.
    pub(super) fn up_for(&self) -> Option<Duration> {
        let standing = self.standing();
        (standing.state == FeedState::Up).then(|| standing.since.elapsed().unwrap_or_default())
    }

    /// When the state began, in seconds since 1970.
    pub fn since(&self) -> u64 {
        self.standing().since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// Why the feed was last down, without secrets; `None`: it never was.
    pub fn last_error(&self) -> Option<String> {
        self.standing().last_error.clone()
    }

    /// Messages that were published.
    pub fn messages(&self) -> u64 {
        self.messages.load(Relaxed)
    }

    /// Bytes of their payloads.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Messages that were not published for this reason.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused[reason as usize].load(Relaxed)
    }

    /// Messages that the source has lost before they were read; where their number is not known, one for each time.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Times that the feed was up again after it had been down.
    pub fn reconnects(&self) -> u64 {
        self.reconnects.load(Relaxed)
    }

    fn standing(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Standing {
    /// Says whether the state is a new one.
    fn enter(&mut self, state: FeedState) -> bool {
        let new = self.state != state;
        if new {
            (self.state, self.since) = (state, SystemTime::now());
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coming_up_again_is_counted_once() {
        let stats = Stats::default();
        assert_eq!(stats.state(), FeedState::Starting);
        assert!(stats.down("refused") && !stats.down("refused again"));
        assert!(stats.up() && !stats.up());
        assert_eq!(stats.reconnects(), 0);
        assert!(stats.down("gone") && stats.up());
        assert_eq!((stats.reconnects(), stats.last_error().as_deref()), (1, Some("gone")));
        assert!(stats.up_for().is_some());
    }
}

//! Sessions with a source: from connecting to it until it is lost, again and again.

use super::feed::Feed;
use crate::control::backoff::Backoff;
use crate::control::certificates;
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// After a session that was up for so long the next wait is a first one again.
const STEADY: Duration = Duration::from_secs(5);

/// Why a session has ended, in words for the operator.
pub(super) type Fault = String;

/// A source that is connected to anew each time that it was lost. What must outlast a session (the last id that was
/// received) is in the value itself.
pub(super) trait Session: Send {
    /// Connects, and publishes what comes, until the source is lost.
    ///
    /// # Errors
    /// Always: why the source could not be connected to, or was lost.
    fn run(&mut self, feed: &Feed) -> impl Future<Output = Result<Infallible, Fault>> + Send;
}

/// Keeps a feed at its source for as long as the server runs.
pub(super) async fn keep(feed: Arc<Feed>, mut session: impl Session) {
    let mut backoff = Backoff::new();
    loop {
        let Err(fault) = session.run(&feed).await;
        if feed.stats.up_for().is_some_and(|it| it >= STEADY) {
            backoff.reset();
        }
        feed.down(&fault);
        tokio::time::sleep(backoff.wait()).await;
    }
}

/// An error in its own words, or in ours where TLS is the cause.
pub(super) fn fault(error: impl Error + 'static) -> Fault {
    certificates::why(&error).unwrap_or_else(|| error.to_string())
}

/// Ticks at once and then every `period`; after a late tick the next one is a whole period later.
pub(super) fn ticker(period: Duration) -> Interval {
    let mut ticker = interval(period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

/// What a stream of a broker has lost before it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Entries were dropped: so many, where that is known.
    Dropped(Option<u64>),
    /// The stream was deleted, or another one is there under its name: how many entries that has cost is not known.
    Recreated,
}

impl Loss {
    /// How many entries were lost, where that is known.
    pub(super) fn count(self) -> Option<u64> {
        if let Loss::Dropped(count) = self { count } else { None }
    }
}

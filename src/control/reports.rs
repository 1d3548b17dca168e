//! The last report of each shard, and the requests that wait for new ones.
//!
//! A shard has one question open at a time, however many requests wait: its answer is for all of them. The last report
//! of a shard that is late is kept until it sends a new one: its counters would else be missing from the sums, and a
//! sum that falls looks like a server that was restarted.

use crate::mesh::{Report, ShardNumber};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long a shard may take to answer; one that takes longer counts as not up.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of all shards.
pub(super) struct Reports {
    /// By shard.
    pub(super) shards: Vec<Seen>,
    /// The server is stopping.
    pub(super) stopping: bool,
}

/// What is known of a shard.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its last report; `None`: there was none yet.
    pub report: Option<Arc<Report>>,
    /// The age of that report, where the shard has not answered in time; `None`: it has.
    pub late: Option<Duration>,
}

/// A request that waits for reports.
struct Waiting {
    answered: Vec<bool>,
    reply: oneshot::Sender<Reports>,
    until: Instant,
}

/// Collects the reports of all shards.
pub(super) struct ReportCollector {
    last: Vec<(Option<Arc<Report>>, Instant)>,
    /// Shards that have been asked and have not answered yet.
    asked: Vec<bool>,
    waiting: Vec<Waiting>,
}

impl ReportCollector {
    pub(super) fn new(shards: usize) -> ReportCollector {
        ReportCollector { last: vec![(None, Instant::now()); shards], asked: vec![false; shards], waiting: Vec::new() }
    }

    /// Notes a request; the shards that are to be asked for it.
    pub(super) fn request(&mut self, reply: oneshot::Sender<Reports>) -> Vec<ShardNumber> {
        let answered = vec![false; self.last.len()];
        self.waiting.push(Waiting { answered, reply, until: Instant::now() + PATIENCE });
        (0..self.asked.len()).filter(|&shard| !std::mem::replace(&mut self.asked[shard], true)).collect()
    }

    /// Notes a shard's report.
    pub(super) fn received(&mut self, report: Report) {
        let shard = report.shard;
        self.asked[shard] = false;
        self.last[shard] = (Some(Arc::new(report)), Instant::now());
        self.waiting.iter_mut().for_each(|it| it.answered[shard] = true);
    }

    /// When the first request has waited long enough.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.waiting.iter().map(|it| it.until).min()
    }

    /// Replies to the requests that have all reports, or have waited long enough.
    pub(super) fn reply(&mut self, now: Instant, stopping: bool) {
        let done = |it: &mut Waiting| it.until <= now || it.answered.iter().all(|&it| it);
        for waiting in self.waiting.extract_if(.., done) {
            let seen = |((report, at), answered): (&(Option<Arc<Report>>, Instant), &bool)| Seen {
                report: report.clone(),
                late: (!answered).then(|| now.duration_since(*at)),
            };
            let shards = self.last.iter().zip(&waiting.answered).map(seen).collect();
            // Whoever has asked may be gone.
            let _ = waiting.reply.send(Reports { shards, stopping });
        }
    }
}

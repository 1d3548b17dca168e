//! How the shards are: the last report of each, and who waits for new ones.
//!
//! A shard is asked once, however many want to know. What one says that is late is kept until it says something new:
//! its counters would else be missing from the sums, and a sum that falls looks like a server that began anew.

use crate::mesh::{Report, ShardNumber};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long a shard may take to answer; one that does not is not well.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of all shards.
pub(super) struct Reports {
    pub(super) shards: Vec<Seen>,
    pub(super) stopping: bool,
}

/// What is known of a shard.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The last that it has said.
    pub report: Option<Arc<Report>>,
    /// How long ago that was, where it has not answered in time.
    pub late: Option<Duration>,
}

/// Someone who waits for reports.
struct Waiting {
    answered: Vec<bool>,
    reply: oneshot::Sender<Reports>,
    until: Instant,
}

pub(super) struct Roll {
    last: Vec<(Option<Arc<Report>>, Instant)>,
    /// Shards that have been asked and have not answered yet.
    asked: Vec<bool>,
    waiting: Vec<Waiting>,
}

impl Roll {
    pub(super) fn new(shards: usize) -> Roll {
        Roll { last: vec![(None, Instant::now()); shards], asked: vec![false; shards], waiting: Vec::new() }
    }

    /// Someone wants to know. Which shards are to be asked.
    pub(super) fn want(&mut self, reply: oneshot::Sender<Reports>) -> Vec<ShardNumber> {
        let answered = vec![false; self.last.len()];
        self.waiting.push(Waiting { answered, reply, until: Instant::now() + PATIENCE });
        (0..self.asked.len()).filter(|&shard| !std::mem::replace(&mut self.asked[shard], true)).collect()
    }

    pub(super) fn heard(&mut self, report: Report) {
        let shard = report.shard;
        self.asked[shard] = false;
        self.last[shard] = (Some(Arc::new(report)), Instant::now());
        self.waiting.iter_mut().for_each(|it| it.answered[shard] = true);
    }

    /// When the first of those who wait has waited enough.
    pub(super) fn until(&self) -> Option<Instant> {
        self.waiting.iter().map(|it| it.until).min()
    }

    /// Tells those who have all reports, or have waited long enough.
    pub(super) fn answer(&mut self, now: Instant, stopping: bool) {
        let done = |it: &mut Waiting| it.until <= now || it.answered.iter().all(|&it| it);
        for waiting in self.waiting.extract_if(.., done) {
            let seen = |((report, at), answered): (&(Option<Arc<Report>>, Instant), &bool)| Seen {
                report: report.clone(),
                late: (!answered).then(|| now.duration_since(*at)),
            };
            let shards = self.last.iter().zip(&waiting.answered).map(seen).collect();
            let _ = waiting.reply.send(Reports { shards, stopping });
        }
    }
}

//! A question on its way to its answer: it is answered exactly once, whatever becomes of whoever has it.

use super::fair::Taken;
use super::stats::{AuthStats, Kind};
use crate::mesh::{Answer, Denial, Denied, Identity, ShardNumber};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

/// Answers on their way to the dispatcher. There are as many as questions that wait or are under way, which have a
/// bound.
pub(in crate::control) type Answers = UnboundedSender<(ShardNumber, Box<Answer>)>;

/// A question that has no answer yet. Dropped without one it is answered [`Denied::Unavailable`].
pub(super) struct Asked {
    pub(super) shard: ShardNumber,
    pub(super) number: u32,
    pub(super) kind: Kind,
    begun: Instant,
    /// How long the client may wait for it.
    pub(super) timeout: Duration,
    answers: Answers,
    stats: Arc<AuthStats>,
    is_answered: bool,
    /// Its part of what one client may ask.
    pub(super) taken: Option<Taken>,
}

impl Asked {
    pub(super) fn new(
        (shard, number): (ShardNumber, u32),
        kind: Kind,
        timeout: Duration,
        (answers, stats): (Answers, Arc<AuthStats>),
    ) -> Asked {
        stats.ask(kind);
        Asked { shard, number, kind, begun: Instant::now(), timeout, answers, stats, is_answered: false, taken: None }
    }

    /// The time of the client is over.
    pub(super) fn is_late(&self) -> bool {
        self.begun.elapsed() >= self.timeout
    }

    /// When it is.
    pub(super) fn deadline(&self) -> Instant {
        self.begun + self.timeout
    }

    /// `keep` is how long the verdict may be remembered; whole seconds of it are.
    pub(super) fn answer(mut self, verdict: Result<Identity, Denial>, keep: Duration) {
        self.send(verdict, keep);
    }

    /// For this reason nobody is let in; it is not remembered.
    pub(super) fn deny(self, why: Denied) {
        self.answer(Err(Denial::new(why)), Duration::ZERO);
    }

    fn send(&mut self, verdict: Result<Identity, Denial>, keep: Duration) {
        self.is_answered = true;
        self.stats.answer(self.kind, verdict.as_ref().err().map(|it| it.why), self.begun.elapsed());
        let keep = u32::try_from(keep.as_secs()).unwrap_or(u32::MAX);
        let answer = Answer { question: self.number, verdict: verdict.map(Arc::new), keep };
        // The dispatcher has gone: the server ends.
        let _ = self.answers.send((self.shard, Box::new(answer)));
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.is_answered {
            self.send(Err(Denial::new(Denied::Unavailable)), Duration::ZERO);
        }
    }
}

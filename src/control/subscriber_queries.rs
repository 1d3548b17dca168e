//! The open questions for the subscribers of channels, and the answers of each shard.
//!
//! Unlike reports, each question has its own answer. A shard that has not answered the last question is not asked the
//! next one, so that questions do not pile up in the mailbox of one that is late; meanwhile it counts as late.

use super::reports::PATIENCE;
use crate::mesh::{ShardNumber, SubscriberCounts, SubscribersQuery, Wanted};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Where the answers of all shards go: `None` for a shard that has not answered in time.
pub(super) type Reply = oneshot::Sender<Vec<Option<SubscriberCounts>>>;

/// A question that waits for answers.
struct Waiting {
    question: u64,
    answers: Vec<Option<SubscriberCounts>>,
    reply: Reply,
    until: Instant,
}

/// Collects the answers of all shards.
pub(super) struct SubscriberQueries {
    waiting: Vec<Waiting>,
    /// Questions so far; the number of the last one.
    questions: u64,
    /// Shards that have not answered the last question that they were asked.
    asked: Vec<bool>,
}

impl SubscriberQueries {
    pub(super) fn new(shards: usize) -> SubscriberQueries {
        SubscriberQueries { waiting: Vec::new(), questions: 0, asked: vec![false; shards] }
    }

    /// Notes a question; the query, and the shards that are to be sent it.
    pub(super) fn request(&mut self, wanted: Wanted, reply: Reply) -> (SubscribersQuery, Vec<ShardNumber>) {
        self.questions += 1;
        let question = self.questions;
        let answers = vec![None; self.asked.len()];
        self.waiting.push(Waiting { question, answers, reply, until: Instant::now() + PATIENCE });
        let free = (0..self.asked.len()).filter(|&shard| !std::mem::replace(&mut self.asked[shard], true));
        (SubscribersQuery { question, wanted }, free.collect())
    }

    /// Notes a shard's answer. One that comes too late is to a question that nobody waits for any more.
    pub(super) fn received(&mut self, answer: SubscriberCounts) {
        let shard = answer.shard;
        self.asked[shard] = false;
        if let Some(waiting) = self.waiting.iter_mut().find(|it| it.question == answer.question) {
            waiting.answers[shard] = Some(answer);
        }
    }

    /// When the first question has waited long enough.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.waiting.iter().map(|it| it.until).min()
    }

    /// Replies to the questions that have all answers, or have waited long enough.
    pub(super) fn reply(&mut self, now: Instant) {
        let done = |it: &mut Waiting| it.until <= now || it.answers.iter().all(Option::is_some);
        for waiting in self.waiting.extract_if(.., done) {
            // Whoever has asked may be gone.
            let _ = waiting.reply.send(waiting.answers);
        }
    }
}

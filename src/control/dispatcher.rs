//! The dispatcher: the one task that holds the links to the shards, through which all letters pass.

use super::auth::Verifiers;
use super::brokers::{self, Brokers};
use super::commands::Command;
use super::publishing::{Action, Letter, PublishQueue};
use super::reports::{ReportCollector, Reports};
use super::shard_link::{Line, ShardLink};
use super::shutdown::{Ending, Shutdown, Step};
use super::subscriber_queries::{Reply, SubscriberQueries};
use crate::mesh::{Answer, Denial, Denied, Question, ShardNumber, ToControl, ToShard, Waker, Wanted};
use std::io;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

/// When a letter for which a mailbox had no room is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// How long the dispatcher sleeps where nothing is to be done at a known time.
const IDLE: Duration = Duration::from_secs(3600);

/// Everything that is known of the shards, by their numbers.
pub(super) struct Dispatcher {
    links: Vec<ShardLink>,
    reports: ReportCollector,
    subscribers: SubscriberQueries,
    publish_queue: PublishQueue,
    shutdown: Shutdown,
    verifiers: Option<Verifiers>,
    answers: UnboundedReceiver<Addressed>,
    brokers: Option<Brokers>,
    news: UnboundedReceiver<brokers::Addressed>,
}

/// An answer to a question of this shard.
type Addressed = (ShardNumber, Box<Answer>);

impl Dispatcher {
    pub(super) fn new(lines: Vec<Line>, publish_queue: PublishQueue) -> Dispatcher {
        Dispatcher {
            reports: ReportCollector::new(lines.len()),
            subscribers: SubscriberQueries::new(lines.len()),
            links: lines.into_iter().map(ShardLink::new).collect(),
            publish_queue,
            shutdown: Shutdown::default(),
            verifiers: None,
            // Nobody sends anything.
            answers: mpsc::unbounded_channel().1,
            brokers: None,
            news: mpsc::unbounded_channel().1,
        }
    }

    /// With those who answer the shards' questions, and their answers.
    pub(super) fn with_verifiers(self, verifiers: Verifiers, answers: UnboundedReceiver<Addressed>) -> Dispatcher {
        Dispatcher { verifiers: Some(verifiers), answers, ..self }
    }

    /// With sessions with brokers, and what they tell.
    pub(super) fn with_brokers(self, brokers: Brokers, news: UnboundedReceiver<brokers::Addressed>) -> Dispatcher {
        Dispatcher { brokers: Some(brokers), news, ..self }
    }

    /// Runs until the server has stopped. `waker` is that of the mailboxes from the shards, `commands` come from other
    /// tasks; clients have `grace` to leave when the server stops.
    ///
    /// # Errors
    /// The waker's descriptor cannot be polled (epoll).
    pub(super) async fn run(
        &mut self,
        waker: &Waker,
        mut commands: mpsc::Receiver<Command>,
        grace: Duration,
    ) -> io::Result<Ending> {
        // SAFETY: the descriptor is ours alone, and closed only with the AsyncFd that owns it.
        let woken = unsafe { AsyncFd::register_with_interest(waker.reader()?, Interest::READABLE) }?;
        loop {
            let wake_at = self.wake_at();
            let asleep = waker.fall_asleep();
            let has_letters = self.links.iter().any(ShardLink::has_letters);
            tokio::select! {
                ready = woken.readable() => {
                    ready?.clear_ready();
                    waker.clear();
                }
                // Other tasks run in between, however many letters come.
                () = yield_now(), if has_letters => {}
                Some(command) = commands.recv() => match command {
                    Command::Stop if self.shutdown.has_begun() => return Ok(Ending::Forced),
                    command => self.execute(command, grace),
                },
                letter = self.publish_queue.letter() => self.publish(&letter),
                Some(answer) = self.answers.recv() => self.hand_on(answer),
                Some(news) = self.news.recv() => self.spread(news),
                () = sleep_until(wake_at) => {}
            }
            drop(asleep);
            if let Some(ending) = self.advance() {
                return Ok(ending);
            }
        }
    }

    /// All that may go on after something has happened. `Some`: the server has stopped.
    fn advance(&mut self) -> Option<Ending> {
        self.read_letters();
        while let Ok(answer) = self.answers.try_recv() {
            self.hand_on(answer);
        }
        while let Ok(news) = self.news.try_recv() {
            self.spread(news);
        }
        self.reply();
        let ending = self.advance_shutdown();
        self.links.iter_mut().for_each(ShardLink::flush);
        self.update_publishing();
        ending
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let is_behind = self.publish_queue.is_behind() || self.links.iter().any(ShardLink::is_full);
        let retry = is_behind.then_some(now + RETRY);
        [retry, self.reports.wake_at(), self.subscribers.wake_at(), self.shutdown.wake_at()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + IDLE)
    }

    // ---- commands ----

    fn execute(&mut self, command: Command, grace: Duration) {
        match command {
            Command::Reports(reply) => self.request_reports(reply),
            Command::SubscriberCounts(wanted, reply) => self.request_subscribers(wanted, reply),
            Command::Addresses(upstream, addresses) => {
                self.send_all(|| ToShard::Addresses { upstream, addresses: addresses.clone() });
            }
            Command::Stop => {
                tracing::info!(?grace, "stopping: no new clients, those that are here are bidden farewell");
                self.shutdown.stop(grace);
                self.send_all(|| ToShard::Drain);
            }
        }
    }

    fn request_reports(&mut self, reply: oneshot::Sender<Reports>) {
        for shard in self.reports.request(reply) {
            self.links[shard].send(ToShard::Report);
        }
    }

    fn request_subscribers(&mut self, wanted: Wanted, reply: Reply) {
        let (query, shards) = self.subscribers.request(wanted, reply);
        for shard in shards {
            self.links[shard].send(ToShard::SubscriberCounts(Box::new(query.clone())));
        }
    }

    /// Replies to the requests that have all answers, or have waited long enough.
    fn reply(&mut self) {
        let now = Instant::now();
        self.reports.reply(now, self.shutdown.has_begun());
        self.subscribers.reply(now);
    }

    // ---- letters ----

    fn read_letters(&mut self) {
        for shard in 0..self.links.len() {
            while let Some(letter) = self.links[shard].take() {
                match letter {
                    ToControl::Report(report) => self.reports.received(*report),
                    ToControl::SubscriberCounts(counts) => self.subscribers.received(*counts),
                    ToControl::Question(question) => self.ask(shard, *question),
                    ToControl::Topic(request) => {
                        self.brokers.iter().for_each(|brokers| brokers.want((*request).clone()));
                    }
                }
            }
        }
    }

    fn ask(&mut self, shard: ShardNumber, question: Question) {
        if let Some(verifiers) = &self.verifiers {
            return verifiers.ask(shard, question);
        }
        let verdict = Err(Denial::new(Denied::Unavailable));
        self.hand_on((shard, Box::new(Answer { question: question.number, verdict, keep: 0 })));
    }

    /// What has become of a topic, to the shard that it concerns, or to all.
    fn spread(&mut self, (shard, news): brokers::Addressed) {
        match shard {
            Some(shard) => self.links[shard].send(ToShard::Topic(Box::new(news))),
            None => self.send_all(|| ToShard::Topic(Box::new(news.clone()))),
        }
    }

    fn hand_on(&mut self, (shard, answer): Addressed) {
        self.links[shard].send(ToShard::Answer(answer));
    }

    fn send_all(&mut self, letter: impl Fn() -> ToShard) {
        self.links.iter_mut().for_each(|link| link.send(letter()));
    }

    // ---- publishing ----

    /// Sends the letter to all shards but those that are left behind.
    fn publish(&mut self, letter: &Letter) {
        for (shard, link) in self.links.iter_mut().enumerate() {
            if self.publish_queue.is_for(shard) {
                link.send(letter.to_shard());
            }
        }
    }

    /// Tells the publish queue how far the shards have read, and does what it says of those that are behind.
    fn update_publishing(&mut self) {
        let unread = self.links.iter_mut().map(ShardLink::unread_messages);
        for (shard, action) in self.publish_queue.update(Instant::now(), unread) {
            match action {
                Action::Discard => self.publish_queue.discarded(shard, self.links[shard].discard_messages()),
                Action::SendMissed(missed) => self.links[shard].send(ToShard::Missed(Box::new(missed))),
            }
        }
    }

    // ---- shutdown ----

    /// Takes the next step of the shutdown, once it has begun; `Some` when the server has stopped.
    fn advance_shutdown(&mut self) -> Option<Ending> {
        let ended: Vec<bool> = self.links.iter().map(ShardLink::is_abandoned).collect();
        match self.shutdown.step(&ended) {
            Step::Wait => {}
            Step::Lost(shard) => {
                tracing::error!(shard, "a shard has ended by itself: the others bid farewell, and the server ends");
                self.send_all(|| ToShard::Drain);
                return self.advance_shutdown();
            }
            Step::CutOff => {
                tracing::warn!("the time to leave is over: the rest is cut off");
                self.send_all(|| ToShard::Leave);
            }
            Step::Over(ending) => {
                let left = ended.iter().filter(|ended| !**ended).count();
                if left > 0 {
                    tracing::error!(shards = left, "shards that were told to leave have not: the server ends without");
                }
                return Some(ending);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::publishing::{self, PublishLimits};
    use super::*;
    use crate::mesh::{Counters, Report, Sender, mailbox};
    use std::sync::Arc;

    /// Letters in [`a_letter_wakes_the_control_thread_that_sleeps`]; each is taken before the next is posted.
    const LETTERS: usize = 10_000;

    /// A shard that says how it is all the time, without being asked: nothing but the letter itself wakes the reader.
    fn report_often(mut to_control: Sender<ToControl>) {
        for letter in 0..LETTERS {
            let report = Report { shard: 0, generation: 0, held: 0, counters: Counters::default() };
            to_control.post(ToControl::Report(Box::new(report))).expect("room for a letter");
            let begun = std::time::Instant::now();
            while to_control.waiting() > 0 {
                assert!(begun.elapsed() < Duration::from_secs(10), "letter {letter} has not woken the control thread");
                std::thread::yield_now();
            }
            (0..letter % 211).for_each(|_| std::hint::spin_loop());
        }
    }

    /// Each letter comes at about the moment at which the control thread, which has taken the one before, falls asleep.
    #[tokio::test]
    async fn a_letter_wakes_the_control_thread_that_sleeps() {
        let waker = Arc::new(Waker::new().unwrap());
        let (to, _letters) = mailbox(64, Arc::new(Waker::new().unwrap()));
        let (to_control, from) = mailbox(1, waker.clone());
        let (_asks, asked) = mpsc::channel(1);
        let limits = PublishLimits { backlog_bytes: 1 << 20, patience: Duration::from_secs(1) };
        let (_publisher, publish_queue) = publishing::channel(1, 1, limits);
        let mut dispatcher = Dispatcher::new(vec![Line { to, from }], publish_queue);
        let shard = std::thread::spawn(move || report_often(to_control));
        let ending = dispatcher.run(&waker, asked, Duration::ZERO).await.unwrap();
        shard.join().expect("each letter has woken the control thread");
        assert_eq!(ending, Ending::ShardLost, "its mailbox was abandoned");
    }
}

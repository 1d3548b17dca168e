//! Where all letters pass: the one task that holds the lines to the shards.

use super::end::{End, Step};
use super::feeds::{Letter, Outlet, Verdict};
use super::post::Post;
use super::{Addresses, Ending, Line, files};
use crate::mesh::{Bell, FileAsk, Listeners, Report, ShardNumber, ToControl, ToShard};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// How long a shard may take to answer; one that does not is not well.
const PATIENCE: Duration = Duration::from_secs(1);

/// When a letter for which there was no room is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// What other tasks of the control thread want.
pub(super) enum Ask {
    /// A report of every shard.
    Reports(oneshot::Sender<Reports>),
    /// Who listens to this channel, or to any, in every shard.
    Listeners(Option<Arc<str>>, oneshot::Sender<Vec<Option<Listeners>>>),
    /// All shards are to know these addresses.
    Addresses(u32, Addresses),
    /// A letter for one shard.
    Letter(ShardNumber, ToShard),
    /// The server is to stop.
    Stop,
}

/// The reports of all shards; `None` for one that has not answered in time.
pub(super) struct Reports {
    pub(super) shards: Vec<Option<Report>>,
    pub(super) stopping: bool,
}

/// Someone who waits for reports.
struct Waiting {
    reports: Vec<Option<Report>>,
    reply: oneshot::Sender<Reports>,
    until: Instant,
}

/// Someone who waits to hear who listens.
struct Listening {
    question: u64,
    shards: Vec<Option<Listeners>>,
    reply: oneshot::Sender<Vec<Option<Listeners>>>,
    until: Instant,
}

pub(super) struct Switchboard {
    posts: Vec<Post>,
    waiting: Vec<Waiting>,
    listening: Vec<Listening>,
    questions: u64,
    outlet: Outlet,
    asks: mpsc::UnboundedSender<Ask>,
    end: End,
}

impl Switchboard {
    pub(super) fn new(lines: Vec<Line>, asks: mpsc::UnboundedSender<Ask>, outlet: Outlet) -> Switchboard {
        Switchboard {
            posts: lines.into_iter().map(Post::new).collect(),
            waiting: Vec::new(),
            listening: Vec::new(),
            questions: 0,
            outlet,
            asks,
            end: End::default(),
        }
    }

    pub(super) async fn run(
        &mut self,
        bell: &Bell,
        mut asked: mpsc::UnboundedReceiver<Ask>,
        grace: Duration,
    ) -> io::Result<Ending> {
        // SAFETY: the descriptor is ours alone, and closed only with the AsyncFd that owns it.
        let ear = unsafe { AsyncFd::register_with_interest(bell.reader()?, Interest::READABLE) }?;
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                rung = ear.readable() => {
                    rung?.clear_ready();
                    bell.hush();
                }
                Some(ask) = asked.recv() => match ask {
                    Ask::Stop if self.end.is_near() => return Ok(Ending::Forced),
                    ask => self.asked(ask, grace),
                },
                letter = self.outlet.letter() => self.publish(&letter),
                () = sleep_until(wake_at) => {}
            }
            self.read_letters();
            self.answer_the_patient();
            if let Some(ending) = self.end() {
                return Ok(ending);
            }
            self.posts.iter_mut().for_each(Post::retry);
            self.reckon();
        }
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let is_behind = self.outlet.is_behind() || self.posts.iter().any(Post::is_full);
        let retry = is_behind.then_some(now + RETRY);
        let reports = self.waiting.iter().map(|it| it.until).min();
        let listening = self.listening.iter().map(|it| it.until).min();
        [retry, reports, listening, self.end.wake_at()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + Duration::from_secs(3600))
    }

    fn asked(&mut self, ask: Ask, grace: Duration) {
        match ask {
            Ask::Reports(reply) => self.want_reports(reply),
            Ask::Listeners(channel, reply) => self.want_listeners(channel, reply),
            Ask::Addresses(upstream, addresses) => {
                self.post_all(|| ToShard::Addresses { upstream, addresses: addresses.clone() });
            }
            Ask::Letter(shard, letter) => self.posts[shard].send(letter),
            Ask::Stop => {
                tracing::info!(?grace, "stopping: no new clients, those that are here are bidden farewell");
                self.end.stop(grace);
                self.post_all(|| ToShard::Quiesce);
            }
        }
    }

    fn want_reports(&mut self, reply: oneshot::Sender<Reports>) {
        let reports = vec![None; self.posts.len()];
        self.waiting.push(Waiting { reports, reply, until: Instant::now() + PATIENCE });
        self.post_all(|| ToShard::Report);
    }

    fn want_listeners(&mut self, channel: Option<Arc<str>>, reply: oneshot::Sender<Vec<Option<Listeners>>>) {
        self.questions += 1;
        let question = self.questions;
        let shards = vec![None; self.posts.len()];
        self.listening.push(Listening { question, shards, reply, until: Instant::now() + PATIENCE });
        self.post_all(|| ToShard::Listeners { question, channel: channel.clone() });
    }

    fn read_letters(&mut self) {
        for shard in 0..self.posts.len() {
            while let Some(letter) = self.posts[shard].take() {
                match letter {
                    ToControl::Report(report) => self.reported(&report),
                    ToControl::File(ask) => self.read_file(ask),
                    ToControl::Listeners(listeners) => self.listened(*listeners),
                }
            }
        }
    }

    fn reported(&mut self, report: &Report) {
        for waiting in &mut self.waiting {
            waiting.reports[report.shard].get_or_insert_with(|| report.clone());
        }
    }

    /// An answer that comes too late is to a question that nobody asks any more.
    fn listened(&mut self, listeners: Listeners) {
        if let Some(listening) = self.listening.iter_mut().find(|it| it.question == listeners.question) {
            let shard = listeners.shard;
            listening.shards[shard] = Some(listeners);
        }
    }

    fn read_file(&self, ask: Box<FileAsk>) {
        let asks = self.asks.clone();
        tokio::task::spawn_blocking(move || {
            let (shard, answer) = files::answer(*ask);
            let _ = asks.send(Ask::Letter(shard, ToShard::File(answer)));
        });
    }

    /// Those who have all reports, or have waited long enough.
    fn answer_the_patient(&mut self) {
        let (now, stopping) = (Instant::now(), self.end.is_near());
        let done = |it: &mut Waiting| it.until <= now || it.reports.iter().all(Option::is_some);
        for waiting in self.waiting.extract_if(.., done) {
            let _ = waiting.reply.send(Reports { shards: waiting.reports, stopping });
        }
        let done = |it: &mut Listening| it.until <= now || it.shards.iter().all(Option::is_some);
        for listening in self.listening.extract_if(.., done) {
            let _ = listening.reply.send(listening.shards);
        }
    }

    fn post_all(&mut self, letter: impl Fn() -> ToShard) {
        self.posts.iter_mut().for_each(|post| post.send(letter()));
    }

    /// To all but those that are left behind.
    fn publish(&mut self, letter: &Letter) {
        for (shard, post) in self.posts.iter_mut().enumerate() {
            if self.outlet.is_for(shard) {
                post.send(letter.to_shard());
            }
        }
    }

    /// How far the shards have read what feeds say, and what becomes of those that are behind.
    fn reckon(&mut self) {
        let unread = self.posts.iter_mut().map(Post::unread);
        for (shard, verdict) in self.outlet.reckon(Instant::now(), unread) {
            match verdict {
                Verdict::GiveUp => self.outlet.given_up(shard, self.posts[shard].give_up()),
                Verdict::Tell(missed) => self.posts[shard].send(ToShard::Missed(missed)),
            }
        }
    }

    /// The next step to the end, once it has begun.
    fn end(&mut self) -> Option<Ending> {
        let gone: Vec<bool> = self.posts.iter().map(Post::is_abandoned).collect();
        match self.end.step(&gone) {
            Step::Wait => {}
            Step::Lost(shard) => {
                tracing::error!(shard, "a shard has ended by itself: the others bid farewell, and the server ends");
                self.post_all(|| ToShard::Quiesce);
                return self.end();
            }
            Step::CutOff => {
                tracing::warn!("the time to leave is over: the rest is cut off");
                self.post_all(|| ToShard::Leave);
            }
            Step::Over(ending) => {
                let left = gone.iter().filter(|gone| !**gone).count();
                if left > 0 {
                    tracing::error!(shards = left, "shards that were told to leave have not: the server ends without");
                }
                return Some(ending);
            }
        }
        None
    }
}

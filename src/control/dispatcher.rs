//! Where all letters pass: the one task that holds the lines to the shards.

use super::end::{End, Step};
use super::feeds::{Letter, PublishQueue, Verdict};
use super::post::Post;
use super::readers::{Answer, Done, Readers};
use super::reports::{PATIENCE, Reports, Roll};
use super::{Addresses, Ending, Line};
use crate::mesh::{SubscriberCounts, SubscribersQuery, ToControl, ToShard, Waker, Wanted};
use std::io;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

/// When a letter for which there was no room is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// When it is looked who has waited too long for a file.
const LOOK: Duration = Duration::from_millis(100);

/// Letters that a shard has not read, above which it gets no files: each may carry 64 KiB.
const UNREAD: usize = 16;

/// What other tasks may ask for before they have to wait.
pub(super) const ASKS: usize = 256;

/// What other tasks of the control thread want.
pub(super) enum Ask {
    /// A report of every shard.
    Reports(oneshot::Sender<Reports>),
    /// Who listens to these channels, in every shard.
    SubscriberCounts(Wanted, oneshot::Sender<Vec<Option<SubscriberCounts>>>),
    /// All shards are to know these addresses.
    Addresses(u32, Addresses),
    /// The server is to stop.
    Stop,
}

/// Someone who waits to hear who listens.
struct Listening {
    question: u64,
    shards: Vec<Option<SubscriberCounts>>,
    reply: oneshot::Sender<Vec<Option<SubscriberCounts>>>,
    until: Instant,
}

pub(super) struct Dispatcher {
    posts: Vec<Post>,
    roll: Roll,
    readers: Readers,
    listening: Vec<Listening>,
    questions: u64,
    /// Shards that have not answered the last question about listeners.
    questioned: Vec<bool>,
    publish_queue: PublishQueue,
    end: End,
}

impl Dispatcher {
    pub(super) fn new(lines: Vec<Line>, readers: Readers, publish_queue: PublishQueue) -> Dispatcher {
        Dispatcher {
            roll: Roll::new(lines.len()),
            questioned: vec![false; lines.len()],
            posts: lines.into_iter().map(Post::new).collect(),
            readers,
            listening: Vec::new(),
            questions: 0,
            publish_queue,
            end: End::default(),
        }
    }

    pub(super) async fn run(
        &mut self,
        waker: &Waker,
        mut asked: mpsc::Receiver<Ask>,
        mut read: mpsc::Receiver<Done>,
        grace: Duration,
    ) -> io::Result<Ending> {
        // SAFETY: the descriptor is ours alone, and closed only with the AsyncFd that owns it.
        let eventfd = unsafe { AsyncFd::register_with_interest(waker.reader()?, Interest::READABLE) }?;
        loop {
            let wake_at = self.wake_at();
            let asleep = waker.fall_asleep();
            let has_letters = self.posts.iter().any(Post::has_letters);
            tokio::select! {
                woken = eventfd.readable() => {
                    woken?.clear_ready();
                    waker.clear();
                }
                // Other tasks run in between, however many letters come.
                () = yield_now(), if has_letters => {}
                Some(ask) = asked.recv() => match ask {
                    Ask::Stop if self.end.is_near() => return Ok(Ending::Forced),
                    ask => self.asked(ask, grace),
                },
                Some(done) = read.recv() => self.files_read(done, &mut read),
                letter = self.publish_queue.letter() => self.publish(&letter),
                () = sleep_until(wake_at) => {}
            }
            drop(asleep);
            self.read_letters();
            self.read_files();
            self.answer_the_patient();
            if let Some(ending) = self.end() {
                return Ok(ending);
            }
            self.posts.iter_mut().for_each(Post::retry);
            self.credit();
        }
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let is_behind = self.publish_queue.is_behind() || self.posts.iter().any(Post::is_full);
        let retry = is_behind.then_some(now + RETRY);
        let files = (self.readers.waiting() > 0).then_some(now + if self.lacks_room() { RETRY } else { LOOK });
        let listening = self.listening.iter().map(|it| it.until).min();
        [retry, files, self.roll.until(), listening, self.end.wake_at()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + Duration::from_secs(3600))
    }

    fn asked(&mut self, ask: Ask, grace: Duration) {
        match ask {
            Ask::Reports(reply) => self.want_reports(reply),
            Ask::SubscriberCounts(wanted, reply) => self.want_subscribers(&wanted, reply),
            Ask::Addresses(upstream, addresses) => {
                self.post_all(|| ToShard::Addresses { upstream, addresses: addresses.clone() });
            }
            Ask::Stop => {
                tracing::info!(?grace, "stopping: no new clients, those that are here are bidden farewell");
                self.end.stop(grace);
                self.post_all(|| ToShard::Drain);
            }
        }
    }

    fn want_reports(&mut self, reply: oneshot::Sender<Reports>) {
        for shard in self.roll.want(reply) {
            self.posts[shard].send(ToShard::Report);
        }
    }

    fn want_subscribers(&mut self, wanted: &Wanted, reply: oneshot::Sender<Vec<Option<SubscriberCounts>>>) {
        self.questions += 1;
        let question = self.questions;
        let shards = vec![None; self.posts.len()];
        self.listening.push(Listening { question, shards, reply, until: Instant::now() + PATIENCE });
        for (shard, post) in self.posts.iter_mut().enumerate() {
            // One that still looks for the last answer would find the questions in a heap.
            if !std::mem::replace(&mut self.questioned[shard], true) {
                post.send(ToShard::SubscriberCounts(Box::new(SubscribersQuery { question, wanted: wanted.clone() })));
            }
        }
    }

    fn read_letters(&mut self) {
        for shard in 0..self.posts.len() {
            while let Some(letter) = self.posts[shard].take() {
                match letter {
                    ToControl::Report(report) => self.roll.heard(*report),
                    ToControl::File(ask) => self.answer_file(|readers| readers.ask(ask)),
                    ToControl::SubscriberCounts(listeners) => self.listened(*listeners),
                }
            }
        }
    }

    /// An answer that comes too late is to a question that nobody asks any more.
    fn listened(&mut self, listeners: SubscriberCounts) {
        self.questioned[listeners.shard] = false;
        if let Some(listening) = self.listening.iter_mut().find(|it| it.question == listeners.question) {
            let shard = listeners.shard;
            listening.shards[shard] = Some(listeners);
        }
    }

    // ---- files ----

    fn answer_file(&mut self, done: impl FnOnce(&mut Readers) -> Option<Answer>) {
        if let Some((shard, answer)) = done(&mut self.readers) {
            self.posts[shard].send(ToShard::File(answer));
        }
    }

    fn files_read(&mut self, done: Done, more: &mut mpsc::Receiver<Done>) {
        self.answer_file(|readers| readers.done(done));
        while let Ok(done) = more.try_recv() {
            self.answer_file(|readers| readers.done(done));
        }
    }

    fn read_files(&mut self) {
        for (shard, answer) in self.readers.expired(Instant::now()) {
            self.posts[shard].send(ToShard::File(answer));
        }
        let unread = self.unread();
        self.readers.start(|shard, under_way| unread[shard] + under_way < UNREAD);
    }

    /// Letters that each shard has still to read.
    fn unread(&self) -> Vec<usize> {
        self.posts.iter().map(Post::len).collect()
    }

    fn lacks_room(&self) -> bool {
        self.unread().into_iter().any(|it| it >= UNREAD)
    }

    // ---- those who wait ----

    /// Those who have all answers, or have waited long enough.
    fn answer_the_patient(&mut self) {
        let now = Instant::now();
        self.roll.answer(now, self.end.is_near());
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
            if self.publish_queue.is_for(shard) {
                post.send(letter.to_shard());
            }
        }
    }

    /// How far the shards have read what feeds say, and what becomes of those that are behind.
    fn credit(&mut self) {
        let unread = self.posts.iter_mut().map(Post::unread);
        for (shard, verdict) in self.publish_queue.credit(Instant::now(), unread) {
            match verdict {
                Verdict::GiveUp => self.publish_queue.given_up(shard, self.posts[shard].give_up()),
                Verdict::Tell(missed) => self.posts[shard].send(ToShard::Missed(Box::new(missed))),
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
                self.post_all(|| ToShard::Drain);
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

#[cfg(test)]
mod tests {
    use super::super::feeds::{self, Patience};
    use super::super::readers::ReaderSettings;
    use super::super::stats::Counts;
    use super::*;
    use crate::mesh::{Counters, Report, Sender, mailbox};
    use std::sync::Arc;

    /// Letters in [`a_letter_wakes_the_control_thread_that_sleeps`]; each is taken before the next is posted.
    const LETTERS: usize = 10_000;

    /// A shard that says how it is all the time, without being asked: nothing but the letter itself wakes the reader.
    fn report_often(mut to_control: Sender<ToControl>) {
        for letter in 0..LETTERS {
            let report = Report { shard: 0, counters: Counters::default() };
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
        let (_asks, asked) = mpsc::channel(ASKS);
        let patience = Patience { backlog_bytes: 1 << 20, time: Duration::from_secs(1) };
        let (_publisher, publish_queue) = feeds::publisher(1, 1, patience);
        let settings = ReaderSettings { held: 1, queue: 1, wait: Duration::from_secs(1) };
        let (readers, read) = Readers::new(1, settings, &Counts::default());
        let mut dispatcher = Dispatcher::new(vec![Line { to, from }], readers, publish_queue);
        let shard = std::thread::spawn(move || report_often(to_control));
        let ending = dispatcher.run(&waker, asked, read, Duration::ZERO).await.unwrap();
        shard.join().expect("each letter has woken the control thread");
        assert_eq!(ending, Ending::ShardLost, "its mailbox was abandoned");
    }
}

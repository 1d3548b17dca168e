//! Who reads files: threads for each folder, so that a disk that hangs holds nobody but those who ask for what lies on
//! it.
//!
//! A wish waits in the queue of its folder and shard until a thread of the folder is free and the shard has read what
//! came before. The wishes of shards go in turn, those of one shard in their order. A client that comes when
//! `queue` wishes wait at its folder is told so; a download is not, as there are no more of them than clients.

use super::files::{self, Holding};
use super::stats::{Count, Counts};
use crate::mesh::{FileAnswer, FileAsk, FilePart, ShardNumber};
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Threads that read below one folder.
const THREADS: usize = 4;

/// Threads that read files, at most: so many folders may hang before others do.
pub(super) const THREADS_MOST: usize = 16 * THREADS;

/// What the readers are told at start.
#[derive(Clone, Debug)]
pub struct ReaderSettings {
    /// Files that are held open between two parts, at most.
    pub held: u64,
    /// Wishes that may wait at one folder.
    pub queue: usize,
    /// How long they may.
    pub wait: Duration,
}

/// A wish that has been granted: whose, below which folder, and the answer, where there is one.
pub(super) struct Done {
    shard: ShardNumber,
    root: PathBuf,
    answer: Option<Box<FileAnswer>>,
}

/// An answer on its way to a shard.
pub(super) type Answer = (ShardNumber, Box<FileAnswer>);

pub(super) struct Readers {
    roots: HashMap<PathBuf, Root>,
    /// Jobs under way for each shard.
    under_way: Vec<usize>,
    settings: ReaderSettings,
    holding: Holding,
    queued: Count,
    refused: Count,
    done: mpsc::Sender<Done>,
}

/// A folder.
struct Root {
    running: usize,
    queues: Vec<VecDeque<Waiting>>,
    /// The shard whose turn it is.
    next: ShardNumber,
}

struct Waiting {
    until: Instant,
    ask: Box<FileAsk>,
}

impl Readers {
    /// For so many shards. What is done comes out of the receiver, and goes back in by [`Readers::done`].
    pub(super) fn new(shards: usize, settings: ReaderSettings, counts: &Counts) -> (Readers, mpsc::Receiver<Done>) {
        // As many as threads: who is done never waits.
        let (done, dones) = mpsc::channel(THREADS_MOST);
        let readers = Readers {
            roots: HashMap::new(),
            under_way: vec![0; shards],
            holding: Holding { count: counts.files_held.0.clone(), most: settings.held },
            settings,
            queued: counts.files_queued.clone(),
            refused: counts.files_refused.clone(),
            done,
        };
        (readers, dones)
    }

    /// A shard wishes something. The answer comes at once where too many wait already.
    pub(super) fn ask(&mut self, ask: Box<FileAsk>) -> Option<Answer> {
        let shards = self.under_way.len();
        let until = Instant::now() + self.settings.wait;
        let root = self.roots.entry(ask.part.site().root.clone()).or_insert_with(|| Root::new(shards));
        if matches!(ask.part, FilePart::Open { .. }) && root.waiting() >= self.settings.queue {
            self.refused.add();
            return Some((ask.shard, Box::new(files::busy(&ask))));
        }
        root.queues[ask.shard].push_back(Waiting { until, ask });
        None
    }

    /// Gives threads to wishes of those shards that have room for an answer.
    pub(super) fn start(&mut self, has_room: impl Fn(ShardNumber, usize) -> bool) {
        for root in self.roots.values_mut() {
            while root.running < THREADS && self.under_way.iter().sum::<usize>() < THREADS_MOST {
                let Some(ask) = root.take_next(|shard| has_room(shard, self.under_way[shard])) else { break };
                root.running += 1;
                self.under_way[ask.shard] += 1;
                work(ask, self.holding.clone(), self.done.clone());
            }
        }
        self.queued.set(self.waiting());
    }

    /// A thread is free again.
    pub(super) fn done(&mut self, done: Done) -> Option<Answer> {
        self.under_way[done.shard] -= 1;
        if let Some(root) = self.roots.get_mut(&done.root) {
            root.running -= 1;
        }
        done.answer.map(|answer| (done.shard, answer))
    }

    /// What those are told who have waited too long.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<Answer> {
        let queues = self.roots.values_mut().flat_map(|root| &mut root.queues);
        let answers: Vec<Answer> = queues.flat_map(|queue| expired(queue, now)).collect();
        answers.iter().for_each(|_| self.refused.add());
        answers
    }

    /// Wishes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.roots.values().map(Root::waiting).sum()
    }
}

impl Root {
    fn new(shards: usize) -> Root {
        Root { running: 0, queues: (0..shards).map(|_| VecDeque::new()).collect(), next: 0 }
    }

    fn waiting(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    /// The next wish, the shards taking turns.
    fn take_next(&mut self, has_room: impl Fn(ShardNumber) -> bool) -> Option<Box<FileAsk>> {
        let shards = self.queues.len();
        let in_turn = (0..shards).map(|it| (self.next + it) % shards);
        let shard = in_turn.into_iter().find(|&shard| !self.queues[shard].is_empty() && has_room(shard))?;
        self.next = (shard + 1) % shards;
        self.queues[shard].pop_front().map(|it| it.ask)
    }
}

/// Those who have waited too long are told so. What they hold open stays in the queue, to be closed by a thread:
/// closing may wait for the disk too, and is never too late.
fn expired(queue: &mut VecDeque<Waiting>, now: Instant) -> Vec<Answer> {
    let (mut answers, mut closing) = (Vec::new(), Vec::new());
    let is_late = |queue: &VecDeque<Waiting>| queue.front().is_some_and(|it| it.until <= now);
    while let Some(Waiting { until, mut ask }) = is_late(queue).then(|| queue.pop_front()).flatten() {
        if !matches!(ask.part, FilePart::Close(_)) {
            answers.push((ask.shard, Box::new(files::busy(&ask))));
        }
        if let FilePart::Next(rest) | FilePart::Close(rest) = ask.part {
            ask.part = FilePart::Close(rest);
            closing.push(Waiting { until, ask });
        }
    }
    closing.into_iter().rev().for_each(|it| queue.push_front(it));
    answers
}

/// Does it on a thread that may wait for the disk. Whatever happens there, the thread is given back.
fn work(ask: Box<FileAsk>, holding: Holding, done: mpsc::Sender<Done>) {
    tokio::task::spawn_blocking(move || {
        let (shard, asker, root) = (ask.shard, ask.asker, ask.part.site().root.clone());
        let answer = catch_unwind(AssertUnwindSafe(|| files::answer(*ask, &holding)));
        let answer = answer.unwrap_or_else(|_| Some(files::failed(asker))).map(Box::new);
        let _ = done.blocking_send(Done { shard, root, answer });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Conditions, Site};
    use std::sync::Arc;

    const WAIT: Duration = Duration::from_secs(10);

    fn readers(queue: usize) -> (Readers, mpsc::Receiver<Done>) {
        Readers::new(2, ReaderSettings { held: 0, queue, wait: WAIT }, &Counts::default())
    }

    fn ask(root: &std::path::Path, shard: ShardNumber, asker: u64) -> Box<FileAsk> {
        let site = Arc::new(Site { root: root.into(), ..Site::default() });
        let (path, location, conditions) = ("f".into(), "/".into(), Conditions::default());
        Box::new(FileAsk { shard, asker, part: FilePart::Open { site, path, location, head_only: false, conditions } })
    }

    fn status(answer: &Answer) -> u16 {
        answer.1.head.as_ref().unwrap().status.code()
    }

    /// A folder whose file is never read: as the thread waits to be let through.
    #[tokio::test]
    async fn a_folder_that_hangs_holds_no_other_and_has_a_queue_with_an_end() {
        let (hung, well) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(well.path().join("f"), b"x").unwrap();
        let (mut readers, mut dones) = readers(3);
        // All threads of the first folder are taken.
        readers.roots.insert(hung.path().into(), Root { running: THREADS, ..Root::new(2) });
        let refused = (0..5).filter_map(|asker| readers.ask(ask(hung.path(), 0, asker))).collect::<Vec<_>>();
        assert_eq!(refused.iter().map(status).collect::<Vec<_>>(), [503, 503]);
        assert!(readers.ask(ask(well.path(), 1, 7)).is_none());
        readers.start(|_, _| true);
        let done = tokio::time::timeout(WAIT, dones.recv()).await.unwrap().unwrap();
        let answer = readers.done(done).unwrap();
        assert_eq!((answer.0, answer.1.asker, status(&answer)), (1, 7, 200));
        assert_eq!(readers.waiting(), 3);
        let late = readers.expired(Instant::now() + WAIT);
        assert_eq!((late.len(), late.iter().all(|it| status(it) == 503), readers.waiting()), (3, true, 0));
        assert_eq!(readers.refused.get(), 5);
    }

    #[tokio::test]
    async fn a_shard_that_does_not_read_holds_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (mut readers, mut dones) = readers(100);
        for asker in 0..20 {
            assert!(readers.ask(ask(folder.path(), 0, asker)).is_none());
        }
        assert!(readers.ask(ask(folder.path(), 1, 99)).is_none());
        readers.start(|shard, _| shard == 1);
        let done = tokio::time::timeout(WAIT, dones.recv()).await.unwrap().unwrap();
        assert_eq!(readers.done(done).unwrap().1.asker, 99);
        assert_eq!((readers.waiting(), readers.under_way.clone()), (20, vec![0, 0]));
    }
}

//! Threads for what takes long: hashes of passwords, signatures of tokens. Each of the two has its own, so that wrong
//! passwords as fast as they come hold up nobody's token.

use super::stats::{AuthStats, Kind};
use crate::control::stats::Held;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

/// How much less than a shard a thread is worth to the scheduler, in steps of nice(2).
const NICE: i32 = 10;

/// What a thread's stack has, in bytes.
const STACK: usize = 512 << 10;

type Work = Box<dyn FnOnce() + Send>;

/// What waits for a thread, counted while it does.
type Waiting = (Held, Work);

/// Threads and the queue in front of them.
pub(super) struct Pool {
    kind: Kind,
    queue: mpsc::SyncSender<Waiting>,
    most: u64,
    stats: Arc<AuthStats>,
}

impl Pool {
    /// So many threads, for which so many questions may wait. They end when it is dropped.
    ///
    /// # Errors
    /// As pthread_create(3).
    pub(super) fn start(kind: Kind, threads: u32, most: u32, stats: &Arc<AuthStats>) -> io::Result<Pool> {
        let (queue, waiting) = mpsc::sync_channel(most as usize);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..threads {
            let (waiting, stats) = (waiting.clone(), stats.clone());
            let thread = std::thread::Builder::new().name(format!("auth-{}-{number}", kind.word())).stack_size(STACK);
            thread.spawn(move || run(&waiting, kind, &stats))?;
        }
        Ok(Pool { kind, queue, most: u64::from(most), stats: stats.clone() })
    }

    /// So many may wait.
    pub(super) fn most(&self) -> u64 {
        self.most
    }

    /// One more may wait. The caller is the only one that hands work over.
    pub(super) fn has_room(&self) -> bool {
        self.stats.waiting(self.kind) < self.most
    }

    /// Has it done when its turn comes; drops it where there is no room.
    pub(super) fn hand_over(&self, work: impl FnOnce() + Send + 'static) {
        let _ = self.queue.try_send((self.stats.wait(self.kind), Box::new(work)));
    }
}

fn run(waiting: &Mutex<mpsc::Receiver<Waiting>>, kind: Kind, stats: &AuthStats) {
    // Where it is refused the thread is worth as much as a shard.
    let _ = rustix::process::nice(NICE);
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((wait, work)) = next else { return };
        drop(wait);
        let _under_way = stats.work(kind);
        // What is dropped on the way out answers its question.
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            tracing::error!(
                kind = kind.word(),
                "auth: a fault of edgehold itself; the question is answered unavailable"
            );
        }
    }
}

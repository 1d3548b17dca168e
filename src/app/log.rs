//! Structured logs to standard error, as the configuration says.
//!
//! Whoever logs never waits: a line goes into a queue of `log_queue` bytes, and a thread of its own writes the queue
//! out. Where standard error is read too slowly, or not at all, lines are dropped and counted, and the log says so as
//! soon as it can.

use super::config::{Level, LogFormat, Server};
use crate::control::stats::Count;
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{self, IsTerminal, Write};
use std::mem;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How long the end of the process waits for the last lines to be taken.
const FLUSH: Duration = Duration::from_secs(1);

/// The queue of this process.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Starts logging, and tells where lost lines are counted. Call it once.
pub(super) fn start(server: &Server) -> Count {
    let level = match server.log {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let dropped = Count::default();
    let queue = QUEUE.get_or_init(|| Queue::start(server.log_queue, &dropped, io::stderr()));
    // What libraries find worth saying is not what an operator is to read, unless something is wrong.
    let ours = Targets::new().with_target("edgehold", level).with_default(level.min(LevelFilter::WARN));
    // Its errors come to the feed, which tells them with its name; here they would be told without.
    let ours = ours.with_target("async_nats", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().with_writer(queue.clone()).with_target(false);
    let subscriber = tracing_subscriber::registry().with(ours);
    // A second start (tests in one process) keeps the first.
    let _ = match server.log_format {
        LogFormat::Json => subscriber.with(lines.json()).try_init(),
        LogFormat::Text => subscriber.with(lines.with_ansi(io::stderr().is_terminal())).try_init(),
    };
    // The standard hook writes to standard error itself, and would wait for its reader.
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a thread has failed")));
    queue.dropped.clone()
}

/// Waits until all lines are written, or nobody takes them.
pub(super) fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(FLUSH);
    }
}

/// Has the thread that writes the log do something between two lines, once: what a thread must do for itself. Where
/// standard error is not read, it is done when it is.
pub(super) fn on_its_thread(errand: impl FnOnce() + Send + 'static) {
    if let Some(queue) = QUEUE.get() {
        queue.state().errand = Some(Box::new(errand));
        queue.shared.changed.notify_all();
    }
}

/// The last words of a process that fails. Where the log has begun they go its way, so that they wait for nobody.
pub(super) fn complain(words: &str) {
    match QUEUE.get() {
        Some(queue) => queue.put(words.as_bytes()),
        None => eprint!("{words}"),
    }
    flush();
}

/// Lines that wait for the writing thread.
#[derive(Clone)]
struct Queue {
    shared: Arc<Shared>,
    dropped: Count,
}

/// What those who log and the writing thread share.
struct Shared {
    state: Mutex<LogState>,
    /// Something has come, or everything has gone.
    changed: Condvar,
    /// Bytes that `lines` may have.
    limit: usize,
}

#[derive(Default)]
struct LogState {
    /// What is to be written next, line behind line.
    lines: Vec<u8>,
    /// Lines dropped since the log last said so.
    dropped: u64,
    /// The thread has lines that are not written yet.
    writing: bool,
    /// What the thread is to do before it waits again.
    errand: Option<Box<dyn FnOnce() + Send>>,
}

impl Queue {
    /// With a thread that writes to `out`.
    fn start(limit: u64, dropped: &Count, out: impl Write + AsFd + Send + 'static) -> Queue {
        let shared = Shared { state: Mutex::default(), changed: Condvar::new(), limit: limit as usize };
        let queue = Queue { shared: Arc::new(shared), dropped: dropped.clone() };
        let writing = queue.clone();
        let thread = thread::Builder::new().name("log".into());
        if let Err(error) = thread.spawn(move || writing.write_out(out)) {
            eprintln!("edgehold: no thread for the log: {error}");
        }
        queue
    }

    fn state(&self) -> MutexGuard<'_, LogState> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits for anything but another line that is being copied.
    fn put(&self, line: &[u8]) {
        let mut state = self.state();
        if state.lines.len() + line.len() > self.shared.limit {
            state.dropped += 1;
            self.dropped.add();
            return;
        }
        state.lines.extend_from_slice(line);
        self.shared.changed.notify_all();
    }

    fn write_out(&self, mut out: impl Write + AsFd) {
        let mut lines = Vec::new();
        loop {
            let lost = self.take(&mut lines);
            write_all(&mut out, &lines);
            lines.clear();
            if lost > 0 {
                tracing::warn!(lines = lost, "log lines were dropped: standard error was not read (log_queue)");
            }
        }
    }

    /// Waits for lines and takes all of them; how many were dropped behind them.
    fn take(&self, lines: &mut Vec<u8>) -> u64 {
        let mut state = self.state();
        state.writing = false;
        self.shared.changed.notify_all();
        while state.lines.is_empty() {
            if let Some(errand) = state.errand.take() {
                drop(state);
                errand();
                state = self.state();
                continue;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        mem::swap(&mut state.lines, lines);
        mem::take(&mut state.dropped)
    }

    fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.state();
        while state.writing || !state.lines.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Writes all of it; another process that shares standard error may have made it non-blocking. What cannot be written
/// is dropped.
fn write_all(out: &mut (impl Write + AsFd), mut lines: &[u8]) {
    while !lines.is_empty() {
        match out.write(lines) {
            Ok(0) => return,
            Ok(count) => lines = &lines[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(&*out, PollFlags::OUT)], None);
            }
            Err(_) => return,
        }
    }
}

impl<'q> MakeWriter<'q> for Queue {
    type Writer = LineWriter<'q>;

    fn make_writer(&'q self) -> LineWriter<'q> {
        LineWriter(self)
    }
}

/// Puts a line into the queue: the formatter hands each over in one write.
struct LineWriter<'q>(&'q Queue);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    fn pipe() -> (File, File) {
        let (reader, writer) = io::pipe().unwrap();
        (File::from(std::os::fd::OwnedFd::from(reader)), File::from(std::os::fd::OwnedFd::from(writer)))
    }

    #[test]
    fn who_logs_does_not_wait_for_the_reader() {
        let (mut reader, writer) = pipe();
        let queue = Queue::start(4096, &Count::default(), writer);
        // More than the pipe and the queue hold together.
        let line = [b'x'; 1024];
        (0..500).for_each(|_| queue.put(&line));
        assert!(queue.dropped.get() > 300, "{}", queue.dropped.get());
        queue.flush(Duration::from_millis(1));
        let kept = 500 - queue.dropped.get() as usize;
        let mut read = vec![0; kept * line.len()];
        reader.read_exact(&mut read).unwrap();
        queue.flush(Duration::from_secs(60));
        assert!(queue.state().lines.is_empty());
    }
}

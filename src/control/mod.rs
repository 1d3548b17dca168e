//! The few slow things, on one thread with a tokio current-thread runtime: the admin address, feeds, names, files,
//! signals. It meets the shards by letters only.

mod admin;
mod bodies;
mod channels;
mod dispatcher;
mod doorkeeper;
mod end;
pub mod feeds;
mod files;
pub mod metrics;
mod names;
mod post;
mod publish;
pub mod readers;
mod reports;
mod signals;
pub mod stats;

use crate::mesh::{Receiver, Sender, ToControl, ToShard, Waker};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Threads for libraries that resolve names by themselves, at most.
const LIBRARY_THREADS: usize = 8;

/// How long tasks that wait for a disk or a resolver may hold up the end.
const LINGER: Duration = Duration::from_millis(500);

/// A shard, as the control thread knows it.
pub struct Line {
    /// Letters to it.
    pub to: Sender<ToShard>,
    /// Letters from it. Ends when the shard ends.
    pub from: Receiver<ToControl>,
}

/// What the control thread is built with.
pub struct ControlSettings {
    /// Where the admin API answers; `None`: nowhere.
    pub admin: Option<Admin>,
    /// How files are read.
    pub files: readers::ReaderSettings,
    /// Counters that others count in too.
    pub counts: stats::Counts,
    /// Upstreams that have a name: number, host, port.
    pub names: Vec<(u32, String, u16)>,
    /// How long the addresses of a name are used.
    pub resolve_ttl: Duration,
    /// How long clients may take to leave when the server stops.
    pub grace: Duration,
    /// Names for the labels of metrics.
    pub labels: metrics::Labels,
    /// Where messages come from, in the order of the configuration.
    pub feeds: Vec<feeds::SourceSettings>,
    /// How far shards may be behind what these say.
    pub patience: feeds::Patience,
    /// Which run of the server counts the messages: the shards have the same.
    pub epoch: u32,
}

/// The admin address.
pub struct Admin {
    /// Bound already, and never waits.
    pub listener: TcpListener,
    /// Who may ask for what.
    pub rules: AdminRules,
}

/// Who may ask the admin address for what, and how much of it.
#[derive(Clone, Debug)]
pub struct AdminRules {
    /// Origins that may use it from a browser.
    pub allow_origin: Vec<String>,
    /// Names by which it may be asked, in lower case, beside addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Connections at one time.
    pub connections: usize,
    /// How long a head, a body or the taking of an answer may take.
    pub timeout: Duration,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Told to stop, and all shards have left.
    Stopped,
    /// Told twice, or shards did not leave when they were told to: they are still at work.
    Forced,
    /// A shard ended that was not told to. The others were told to leave, and may still be at work.
    ShardLost,
}

/// Runs until the server has stopped. Call it on a thread of its own, with the shards running.
///
/// # Errors
/// No runtime, no signals, no waker: nothing that an operator could have written differently.
pub fn run(settings: ControlSettings, lines: Vec<Line>, waker: &Waker) -> io::Result<Ending> {
    let resolving = settings.feeds.iter().filter(|it| it.resolves()).count().min(LIBRARY_THREADS);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(readers::THREADS_MOST + names::AT_ONCE + resolving)
        .build()?;
    let ending = runtime.block_on(serve(settings, lines, waker));
    runtime.shutdown_timeout(LINGER);
    ending
}

async fn serve(settings: ControlSettings, lines: Vec<Line>, waker: &Waker) -> io::Result<Ending> {
    let (asks, asked) = mpsc::channel(dispatcher::ASKS);
    let shards = lines.len();
    let (publisher, publish_queue) = feeds::publisher(settings.epoch, shards, settings.patience);
    let feeds = feeds::start(settings.feeds, &publisher);
    let (readers, read) = readers::Readers::new(shards, settings.files, &settings.counts);
    if let Some(Admin { listener, rules }) = settings.admin {
        let state = admin::AdminState::new(asks.clone(), (settings.labels, settings.counts), rules, (feeds, publisher));
        tokio::spawn(admin::serve(listener, state));
    }
    for name in settings.names {
        tokio::spawn(names::keep(name, settings.resolve_ttl, asks.clone()));
    }
    tokio::spawn(signals::Signals::new()?.heed(asks));
    let mut dispatcher = dispatcher::Dispatcher::new(lines, readers, publish_queue);
    let ending = dispatcher.run(waker, asked, read, settings.grace).await?;
    tracing::info!(shards, ending = ?ending, "stopped");
    Ok(ending)
}

/// Addresses of an upstream, for every shard.
type Addresses = Arc<[SocketAddr]>;

#[cfg(test)]
mod tests;

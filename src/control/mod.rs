//! The few slow things, on one thread with a tokio current-thread runtime: the admin address, feeds, names, files,
//! signals. It meets the shards by letters only.

mod admin;
mod channels;
pub mod feeds;
mod files;
pub mod metrics;
mod names;
mod publish;
mod switchboard;

use crate::mesh::{Bell, Receiver, Sender, ToControl, ToShard};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Threads that read files, whatever the resolver does.
const FILE_THREADS: usize = 4;

/// Threads for libraries that resolve names by themselves, at most.
const LIBRARY_THREADS: usize = 8;

/// A shard, as the control thread knows it.
pub struct Line {
    /// Letters to it.
    pub to: Sender<ToShard>,
    /// Letters from it. Ends when the shard ends.
    pub from: Receiver<ToControl>,
}

/// What the control thread is built with.
pub struct Settings {
    /// Where the admin API answers, already bound; `None`: nowhere.
    pub admin: Option<TcpListener>,
    /// Origins that may read it from a browser.
    pub allow_origin: Vec<String>,
    /// Upstreams that have a name: number, host, port.
    pub names: Vec<(u32, String, u16)>,
    /// How long the addresses of a name are used.
    pub resolve_ttl: Duration,
    /// How long clients may take to leave when the server stops.
    pub grace: Duration,
    /// Names for the labels of metrics.
    pub labels: metrics::Labels,
    /// Where messages come from, in the order of the configuration.
    pub feeds: Vec<feeds::Settings>,
    /// Which run of the server counts the messages: the shards have the same.
    pub epoch: u32,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Told to stop, and all shards have left.
    Stopped,
    /// Told twice: the shards are still at work.
    Forced,
    /// A shard ended that was not told to.
    ShardLost,
}

/// Runs until the server has stopped. Call it on a thread of its own, with the shards running.
///
/// # Errors
/// No runtime, no signals, no bell: nothing that an operator could have written differently.
pub fn run(settings: Settings, lines: Vec<Line>, bell: &Bell) -> io::Result<Ending> {
    let resolving = settings.feeds.iter().filter(|it| it.resolves()).count().min(LIBRARY_THREADS);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(FILE_THREADS + names::AT_ONCE + resolving)
        .build()?
        .block_on(serve(settings, lines, bell))
}

async fn serve(settings: Settings, lines: Vec<Line>, bell: &Bell) -> io::Result<Ending> {
    let (asks, asked) = mpsc::unbounded_channel();
    let shards = lines.len();
    let (publisher, outlet) = feeds::publisher(settings.epoch);
    let feeds = feeds::start(settings.feeds, &publisher);
    if let Some(listener) = settings.admin {
        let labels = settings.labels;
        let state = admin::State::new(asks.clone(), labels, settings.allow_origin, feeds, publisher);
        tokio::spawn(admin::serve(listener, state));
    }
    for name in settings.names {
        tokio::spawn(names::keep(name, settings.resolve_ttl, asks.clone()));
    }
    tokio::spawn(stop_on_signals(asks.clone()));
    let mut switchboard = switchboard::Switchboard::new(lines, asks, outlet);
    let ending = switchboard.run(bell, asked, settings.grace).await?;
    tracing::info!(shards, ending = ?ending, "stopped");
    Ok(ending)
}

/// The first signal asks for an orderly end, the second for any.
async fn stop_on_signals(asks: mpsc::UnboundedSender<switchboard::Ask>) -> io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    loop {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        let _ = asks.send(switchboard::Ask::Stop);
    }
}

/// Addresses of an upstream, for every shard.
type Addresses = Arc<[SocketAddr]>;

#[cfg(test)]
mod tests;

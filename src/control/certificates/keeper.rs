//! The task that keeps the TLS of all listeners, and that towards upstreams: it looks at files that may have changed,
//! and rotates ticket keys.

use super::listener::{Look, Reading, TlsListener, now};
use super::upstream::{ClientReading, TlsUpstream};
use super::watch::Watch;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// How often files are read without a reason: inotify does not tell what other machines do to a file system of the
/// network.
const LOOK: Duration = Duration::from_secs(3600);

/// How often what is to be said of files that do not change is said again.
const REMIND: Duration = Duration::from_secs(24 * 3600);

/// Why files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// They may have changed.
    Change,
    /// The operator says so (SIGHUP).
    Order,
}

/// All whose files are kept.
#[derive(Default)]
pub struct Kept {
    /// At listeners, and the admin address.
    pub listeners: Vec<TlsListener>,
    /// Towards upstreams.
    pub upstreams: Vec<TlsUpstream>,
}

impl Kept {
    /// There is no TLS but that of feeds.
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty() && self.upstreams.is_empty()
    }

    fn files(&self) -> Vec<PathBuf> {
        let listeners = self.listeners.iter().flat_map(TlsListener::files);
        listeners.chain(self.upstreams.iter().flat_map(TlsUpstream::files)).collect()
    }
}

/// Keeps them until the runtime ends. `orders` is notified for each SIGHUP.
pub(in crate::control) async fn keep(mut kept: Kept, orders: Arc<Notify>) {
    for listener in &kept.listeners {
        tokio::spawn(rotate(listener.keys.clone(), listener.state.clone()));
    }
    let files = kept.files();
    let (mut reason, mut reminded) = (Reason::Change, Instant::now());
    loop {
        // Before they are looked at: what changes from here on is told.
        let watch = watch(&files);
        let remind = reminded.elapsed() >= REMIND;
        reminded = if remind { Instant::now() } else { reminded };
        for listener in &mut kept.listeners {
            look(listener, reason, remind).await;
        }
        for upstream in &mut kept.upstreams {
            look_at_upstream(upstream).await;
        }
        reason = wait(watch.as_ref(), &orders).await;
    }
}

fn watch(files: &[PathBuf]) -> Option<Watch> {
    let watch = Watch::over(files);
    watch.map_err(|error| tracing::warn!(%error, "TLS: files are not watched; send SIGHUP when they have changed")).ok()
}

async fn look(listener: &mut TlsListener, reason: Reason, remind: bool) {
    let (settings, moment) = (listener.settings(), listener.moment());
    // The disk may be slow, and the thread has other work.
    let Ok(reading) = tokio::task::spawn_blocking(move || Reading::of(&settings, &moment)).await else { return };
    if remind {
        listener.remind(&reading);
    }
    if listener.take(reading) == Look::Unchanged && reason == Reason::Order {
        tracing::info!(listener = listener.state.listener, "TLS: the files were read again and have not changed");
    }
}

async fn look_at_upstream(upstream: &mut TlsUpstream) {
    let settings = upstream.settings();
    let reading = tokio::task::spawn_blocking(move || ClientReading::of(&settings)).await;
    if let Ok(reading) = reading {
        upstream.take(reading);
    }
}

async fn wait(watch: Option<&Watch>, orders: &Notify) -> Reason {
    let changed = async {
        match watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = orders.notified() => Reason::Order,
        told = changed => failed(told).await,
        () = sleep(LOOK) => Reason::Change,
    }
}

/// A watch that fails is made anew, but not at once.
async fn failed(told: io::Result<()>) -> Reason {
    if let Err(error) = told {
        tracing::warn!(%error, "TLS: the watch over files has failed");
        sleep(Duration::from_secs(10)).await;
    }
    Reason::Change
}

async fn rotate(keys: Arc<super::tickets::TicketKeys>, state: Arc<super::state::TlsState>) {
    loop {
        sleep(keys.until_next(now())).await;
        if keys.rotate(now()) {
            state.rotations.add();
            tracing::debug!(listener = state.listener, "TLS: the keys of tickets were rotated");
        }
    }
}

//! Upstream names: resolved at start, and again when what is known has grown old.

use super::Addresses;
use super::dispatcher::Ask;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::time::sleep;

/// A name that does not resolve is tried again sooner than one that does.
const RETRY: Duration = Duration::from_secs(2);

/// Lookups at one time. A resolver that does not answer holds a blocking thread for seconds.
pub(super) const AT_ONCE: usize = 2;

static LOOKUPS: Semaphore = Semaphore::const_new(AT_ONCE);

/// Keeps the shards told where `name` (upstream's number, host, port) leads. What was known stays in use
/// while the name does not resolve.
pub(super) async fn keep((upstream, host, port): (u32, String, u16), ttl: Duration, asks: Sender<Ask>) {
    let mut known: Addresses = Addresses::from([]);
    let mut fails = false;
    loop {
        let wait = match look_up(&host, port).await {
            Ok(found) => {
                fails = false;
                // In an order of our own: resolvers turn the list from answer to answer.
                let found: Addresses = found.collect::<BTreeSet<_>>().into_iter().collect();
                if found != known {
                    tracing::info!(host, port, addresses = ?found, "upstream resolved");
                    known = found;
                    let _ = asks.send(Ask::Addresses(upstream, known.clone())).await;
                }
                ttl
            }
            Err(error) => {
                // Once, not at every try.
                if !std::mem::replace(&mut fails, true) {
                    tracing::warn!(host, port, %error, "the upstream's name does not resolve");
                }
                RETRY.min(ttl)
            }
        };
        sleep(wait).await;
    }
}

/// The addresses of a host.
pub(super) async fn look_up(host: &str, port: u16) -> io::Result<impl Iterator<Item = SocketAddr>> {
    let _turn = LOOKUPS.acquire().await;
    tokio::net::lookup_host((host, port)).await
}

//! Upstream names: resolved at start, and again when what is known has grown old.

use super::commands::{Addresses, Command};
use super::resolver;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::time::sleep;

/// When a name that does not resolve is tried again, where `ttl` is not shorter.
const RETRY: Duration = Duration::from_secs(2);

/// Resolves the name of an upstream (its number, host and port) every `ttl`, and tells the shards when its addresses
/// have changed. Addresses that are known stay in use while the name does not resolve.
pub(super) async fn keep((upstream, host, port): (u32, String, u16), ttl: Duration, commands: Sender<Command>) {
    let mut known: Addresses = Addresses::from([]);
    let mut fails = false;
    loop {
        let wait = match resolver::look_up(&host, port).await {
            Ok(found) => {
                fails = false;
                // Sorted: resolvers rotate the list from answer to answer.
                let found: Addresses = found.collect::<BTreeSet<_>>().into_iter().collect();
                if found != known {
                    tracing::info!(host, port, addresses = ?found, "upstream resolved");
                    known = found;
                    let _ = commands.send(Command::Addresses(upstream, known.clone())).await;
                }
                ttl
            }
            Err(error) => {
                // Logged once, not at every attempt.
                if !std::mem::replace(&mut fails, true) {
                    tracing::warn!(host, port, %error, "the upstream's name does not resolve");
                }
                RETRY.min(ttl)
            }
        };
        sleep(wait).await;
    }
}

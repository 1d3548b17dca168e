//! Upstream names: resolved at start, and again when what is known has grown old.

use super::Addresses;
use super::switchboard::Ask;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::sleep;

/// A name that does not resolve is tried again sooner than one that does.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps the shards told where `name` (upstream's number, host, port) leads. What was known stays in use
/// while the name does not resolve.
pub(super) async fn keep((upstream, host, port): (u32, String, u16), ttl: Duration, asks: UnboundedSender<Ask>) {
    let mut known: Addresses = Addresses::from([]);
    loop {
        let wait = match tokio::net::lookup_host((host.as_str(), port)).await {
            Ok(found) => {
                let found: Addresses = found.collect();
                if found != known {
                    tracing::info!(host, port, addresses = ?found, "upstream resolved");
                    known = found;
                    let _ = asks.send(Ask::Addresses(upstream, known.clone()));
                }
                ttl
            }
            Err(error) => {
                tracing::warn!(host, port, %error, "the upstream's name does not resolve");
                RETRY.min(ttl)
            }
        };
        sleep(wait).await;
    }
}

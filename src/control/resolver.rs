//! Names to addresses, by the system's resolver (getaddrinfo).
//!
//! tokio calls it on a thread of its blocking pool, and a resolver that does not answer holds that thread for seconds:
//! so only a few look-ups run at one time, and others wait.

use std::io;
use std::net::SocketAddr;
use tokio::sync::Semaphore;

/// Look-ups at one time, at most.
pub(super) const AT_ONCE: usize = 2;

static LOOK_UPS: Semaphore = Semaphore::const_new(AT_ONCE);

/// The addresses of a host, in the resolver's order; the host may be an address itself.
///
/// # Errors
/// The name does not resolve.
pub(super) async fn look_up(host: &str, port: u16) -> io::Result<impl Iterator<Item = SocketAddr>> {
    let _permit = LOOK_UPS.acquire().await;
    tokio::net::lookup_host((host, port)).await
}

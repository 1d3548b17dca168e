//! What connections, buffers and messages take of memory: the sums that derived limits, `doctor` and `plan` share.
//!
//! Bytes are of the kernel's memory and the server's together, after the coefficients of `coefficients.rs`.

use super::coefficients as costs;
use super::config::Config;

/// What so many idle connections take, the kernel's and the server's memory together.
pub fn connections_bytes(connections: u64) -> u64 {
    connections.saturating_mul(costs::CONNECTION_BYTES)
}

/// What is left of the memory for connections: a quarter stays free for messages on their
/// way and for everything else that runs on the machine.
pub fn connections_share(available: u64) -> u64 {
    available / 4 * 3
}

/// Connections of one of so many shards, if memory alone bounds them.
pub fn connections_room(available: u64, shards: u64) -> u64 {
    connections_share(available) / shards / costs::CONNECTION_BYTES
}

/// The receive buffers of so many shards.
pub fn buffers_bytes(config: &Config, shards: u64) -> u64 {
    let server = &config.server;
    shards * u64::from(server.recv_buffers) * u64::from(server.recv_buffer_bytes)
}

/// Pages that net.ipv4.tcp_mem is charged for a message to each of so many at once.
pub fn message_pages(receivers: u64, bytes: u64, page_bytes: u64) -> u64 {
    let more = bytes.saturating_sub(costs::SMALL_BYTES).div_ceil(page_bytes);
    receivers.saturating_mul(costs::whole(costs::UNACKNOWLEDGED_PAGES.value.ceil()) + more)
}

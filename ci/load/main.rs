//! The server as a whole, over real sockets: many clients, bad clients, a full house, the way out.
//!
//! Each test starts a server process of its own ([`peer`]) and meets it with plain clients by the thousand
//! ([`crowd`]) and with an independent WebSocket library ([`busy`]). They run one after another, as two of
//! them together would fill the table of open files and spoil each other's figures.

mod back_end;
mod busy;
mod crowd;
mod drain;
mod full_shard;
mod kernel;
mod many;
mod peer;
mod refusal;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by a test for as long as it runs. A test that failed while holding it must not fail the others.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

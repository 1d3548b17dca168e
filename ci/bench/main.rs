//! edgehold-bench from outside: every mode small against the real server, and its sums held against the server's own.
//!
//! Each story starts a server process ([`stage`]), lets the tool loose on it ([`tool`]) and reads the JSON that it
//! wrote. What the tool counted must be what `/metrics` counted, to the message; times and rates are only asked to be
//! plausible, as other programs run on the machine too. Where the server has no such service yet, a small back end of
//! the test's own stands for it ([`back_ends`]).
//!
//! - [`figures`]: idle, echo, storm, slow, proxy; [`many`]: fanout; [`offloaded`]: offload
//! - [`secured`]: echo, fanout and storm over TLS
//! - [`mistakes`]: what is refused; [`ends`]: servers that die and people who press Ctrl-C
//! - [`page`]: the report, seen in a browser; [`sums`]: what `edgehold plan` says, measured

mod back_ends;
mod ends;
mod figures;
mod many;
mod mistakes;
mod offloaded;
mod page;
#[path = "../load/peer.rs"]
mod peer;
mod secured;
mod stage;
mod sums;
mod tool;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A test that failed while holding it must not fail the others.
static TURN: Mutex<()> = Mutex::new(());

/// Held by each test that measures, for as long as it runs: two at a time would measure each other.
fn alone() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The server as a whole, over real sockets: many clients, bad clients, a full house, the way out.
//!
//! Each test starts a server process of its own ([`peer`]) and meets it with plain clients by the thousand
//! ([`crowd`]), one by one ([`by_hand`]), with clients that want to harm ([`hostile`], of brokers: [`offload`]), and
//! with an independent WebSocket library ([`busy`]); with all of these over TLS ([`secured`]). The crowded ones run
//! one after another, as two of them together would fill the table of open files and spoil each other's figures; those
//! of a few clients run beside each other.

mod addresses;
mod admission;
mod back_end;
mod behind;
mod broken_off;
mod busy;
mod by_hand;
mod certificates;
mod crowd;
mod drain;
mod files;
mod floods;
mod full_shard;
mod hostile;
mod kernel;
mod lost_shard;
mod many;
mod offload;
mod peer;
mod readme;
mod refusal;
mod resumption;
mod rotation;
mod secured;
mod unkind;
mod unread_log;
mod upstream;
mod vanished;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A test that failed while holding it must not fail the others.
static TURN: RwLock<()> = RwLock::new(());

/// Held by a crowded test for as long as it runs.
fn alone() -> RwLockWriteGuard<'static, ()> {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}

/// Held by a test that needs little, and minds no other such test.
fn together() -> RwLockReadGuard<'static, ()> {
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}

//! The shard as a guest inside a glommio executor: a turn with a budget, then sleep on its own ring.
//!
//! glommio owns the thread and its pinning; the shard owns its ring, and sleeps in it: one system call hands over what
//! is queued and waits for what comes. Letters ring a waker that the ring listens to as well. The executor has nothing
//! else to run, so nobody waits for it meanwhile; docs/decisions/ring.md tells what sleeping in glommio cost.

use super::clock::Now;
use super::service::Services;
use super::{Shard, Turn};
use crate::engine::uring::Uring;
use std::io;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Runs the shard until it is done.
///
/// # Errors
/// The ring failed.
pub async fn run<S: Services>(mut shard: Shard<Uring, S>) -> io::Result<()> {
    let begun = Instant::now();
    while !shard.is_done() {
        // The turn may have taken the waker's completion after it had read its letters. A letter that comes after this
        // look rings for the wait.
        if shard.turn(now(begun))? == Turn::Idle && !shard.has_letters() {
            shard.ring().wait(None)?;
        }
    }
    Ok(())
}

fn now(begun: Instant) -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    Now { since_start: begun.elapsed(), unix }
}

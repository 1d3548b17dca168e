//! Drives a shard inside a glommio executor: turns while there is something to do, and sleep while there is not.
//!
//! glommio owns the thread and its pinning; the shard owns its ring, and sleeps in it: one io_uring_enter(2) submits
//! what is queued and waits for a completion. The ring polls the eventfd of the shard's waker as well, so a letter ends
//! the wait. Nothing else runs in the executor; docs/decisions/ring.md says what sleeping in glommio cost.

use super::clock::Now;
use super::service::Services;
use super::{Shard, Turn};
use crate::engine::uring::Uring;
use crate::mesh::Waker;
use std::io;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Runs the shard until it is done. `waker` is that of its mailboxes, whose eventfd its ring polls.
///
/// # Errors
/// The ring failed ([`Shard::turn`], [`Uring::wait`]).
#[expect(clippy::unused_async, reason = "what an executor runs is a future")]
pub async fn run<S: Services>(mut shard: Shard<Uring, S>, waker: &Waker) -> io::Result<()> {
    let begun = shard.begun();
    while !shard.is_done() {
        if shard.turn(now(begun))? == Turn::Idle {
            sleep(&mut shard, waker)?;
        }
    }
    Ok(())
}

/// Waits for a completion or a letter. A letter that came after the turn had looked for letters, and before the shard
/// counts as asleep, has written no eventfd: that is what the mailboxes are looked at again for.
///
/// # Errors
/// As [`Uring::wait`].
pub fn sleep<S: Services>(shard: &mut Shard<Uring, S>, waker: &Waker) -> io::Result<()> {
    let _asleep = waker.fall_asleep();
    if shard.has_letters() { Ok(()) } else { shard.ring().wait(None) }
}

fn now(begun: Instant) -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    Now { since_start: begun.elapsed(), unix }
}

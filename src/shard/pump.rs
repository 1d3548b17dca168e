//! The shard as a guest inside a glommio executor: a turn with a budget, then sleep on the bell.
//!
//! glommio owns the thread, its pinning and its sleep; the shard owns its ring. They meet in one eventfd: the
//! kernel rings it for completions, other threads ring it for letters, and glommio reads it like a file. While
//! the shard is awake the kernel does not ring; before it sleeps it looks once more.

use super::clock::Now;
use super::door::Service;
use super::{Shard, Turn};
use crate::engine::uring::Uring;
use crate::mesh::Bell;
use glommio::io::BufferedFile;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a shard may sleep through its own work if the executor forgets it.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Runs the shard until it is done.
///
/// # Errors
/// The ring failed, or the bell.
pub async fn run<S: Service>(mut shard: Shard<Uring, S>, bell: &Bell) -> io::Result<()> {
    let ear = listen_to(bell)?;
    glommio::spawn_local(heartbeat()).detach();
    let begun = Instant::now();
    while !shard.is_done() {
        if shard.turn(now(begun))? == Turn::Idle && falls_asleep(&mut shard, begun)? {
            ear.read_at(0, 8).await.map_err(io::Error::from)?;
            shard.ring().knocking(false);
        }
        glommio::yield_if_needed().await;
    }
    ear.close().await.map_err(io::Error::from)
}

/// glommio 0.9 goes to sleep over runnable tasks when its preemption timer has fired before it ran any of them, as
/// happens to a process that is kept off the CPU. A timer of our own ends that sleep.
async fn heartbeat() {
    loop {
        glommio::timer::sleep(HEARTBEAT).await;
    }
}

/// With the bell on, one more look: what came before the bell was on has not rung it.
fn falls_asleep<S: Service>(shard: &mut Shard<Uring, S>, begun: Instant) -> io::Result<bool> {
    shard.ring().knocking(true);
    let idle = shard.turn(now(begun))? == Turn::Idle;
    let asleep = idle && !shard.ring().has_more() && !shard.has_letters() && !shard.is_done();
    if !asleep {
        shard.ring().knocking(false);
    }
    Ok(asleep)
}

/// A descriptor of its own for glommio, which closes what it is given.
fn listen_to(bell: &Bell) -> io::Result<BufferedFile> {
    let fd = bell.reader()?.into_raw_fd();
    // SAFETY: the descriptor is open and nobody else's.
    Ok(unsafe { BufferedFile::from_raw_fd(fd) })
}

fn now(begun: Instant) -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    Now { since_start: begun.elapsed(), unix }
}

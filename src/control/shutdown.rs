//! The shutdown: what began it, how long clients have, and when shards are no longer waited for.
//!
//! A stop is orderly: clients have `shutdown_grace`. A lost shard stops the others, too, since what is left is half a
//! server that the outside takes for a whole one; their clients have [`LOST_GRACE`]. Either way the process ends.

use crate::mesh::ShardNumber;
use std::time::Duration;
use tokio::time::Instant;

/// How long clients may take to leave when a shard was lost.
const LOST_GRACE: Duration = Duration::from_secs(2);

/// How long shards may take to end that were sent [`ToShard::Leave`](crate::mesh::ToShard::Leave).
const LEAVE: Duration = Duration::from_secs(1);

/// How the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was told to stop, and all shards have ended.
    Stopped,
    /// It was told to stop twice, or shards have not ended in time: they are still at work.
    Forced,
    /// A shard has ended by itself. The others were told to end, and may still be at work.
    ShardLost,
}

/// The state of the shutdown.
#[derive(Default)]
pub(super) struct Shutdown {
    /// When the time of the clients is over; `None`: no shutdown has begun.
    deadline: Option<Instant>,
    /// The clients' time is over: shards were told to leave.
    cut_off: bool,
    /// A shard has ended by itself.
    lost: bool,
}

/// What the dispatcher is to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Wait,
    /// This shard has ended by itself: drain the others.
    Lost(ShardNumber),
    /// The clients' time is over: tell the shards to leave.
    CutOff,
    /// End the process.
    Over(Ending),
}

impl Shutdown {
    /// Begins it: clients have `grace`.
    pub(super) fn stop(&mut self, grace: Duration) {
        self.deadline = Some(Instant::now() + grace);
    }

    /// Whether it has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.deadline.is_some()
    }

    /// When [`Shutdown::step`] is to be called again, at the latest.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.deadline.map(|deadline| if self.cut_off { deadline + LEAVE } else { deadline })
    }

    /// The next step, from the time and from which shards have ended, by their numbers. Each step but [`Step::Wait`]
    /// and [`Step::Over`] comes once.
    pub(super) fn step(&mut self, ended: &[bool]) -> Step {
        let late = self.wake_at().is_some_and(|at| at <= Instant::now());
        match ended.iter().position(|it| *it) {
            Some(shard) if !self.has_begun() => {
                (self.deadline, self.lost) = (Some(Instant::now() + LOST_GRACE), true);
                Step::Lost(shard)
            }
            Some(_) if ended.iter().all(|it| *it) => Step::Over(self.ending(Ending::Stopped)),
            _ if late && self.cut_off => Step::Over(self.ending(Ending::Forced)),
            _ if late => {
                self.cut_off = true;
                Step::CutOff
            }
            _ => Step::Wait,
        }
    }

    fn ending(&self, otherwise: Ending) -> Ending {
        if self.lost { Ending::ShardLost } else { otherwise }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits until that much time has passed.
    async fn advance(time: Duration) {
        tokio::time::sleep_until(Instant::now() + time).await;
    }

    fn block_on(story: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(story);
    }

    #[test]
    fn a_lost_shard_ends_the_others_within_three_seconds() {
        block_on(async {
            let mut shutdown = Shutdown::default();
            assert_eq!(shutdown.step(&[false, false]), Step::Wait);
            assert_eq!(shutdown.step(&[false, true]), Step::Lost(1));
            assert_eq!(shutdown.step(&[false, true]), Step::Wait);
            let last = shutdown.wake_at().unwrap() + LEAVE;
            assert!(last.duration_since(Instant::now()) <= Duration::from_secs(3));
            advance(LOST_GRACE).await;
            assert_eq!(shutdown.step(&[false, true]), Step::CutOff);
            assert_eq!(shutdown.step(&[false, true]), Step::Wait);
            advance(LEAVE).await;
            assert_eq!(shutdown.step(&[false, true]), Step::Over(Ending::ShardLost));
        });
    }

    #[test]
    fn nobody_else_being_there_it_is_over_at_once() {
        let mut shutdown = Shutdown::default();
        assert_eq!(shutdown.step(&[true]), Step::Lost(0));
        assert_eq!(shutdown.step(&[true]), Step::Over(Ending::ShardLost));
    }

    #[test]
    fn a_shard_that_does_not_leave_is_not_waited_for() {
        block_on(async {
            let mut shutdown = Shutdown::default();
            shutdown.stop(Duration::ZERO);
            assert_eq!(shutdown.step(&[true, false]), Step::CutOff);
            advance(LEAVE).await;
            assert_eq!(shutdown.step(&[true, false]), Step::Over(Ending::Forced));
            assert_eq!(shutdown.step(&[true, true]), Step::Over(Ending::Stopped));
        });
    }
}

//! The way out: who asked for it, how long clients may take, and when nobody is waited for any longer.
//!
//! A stop is orderly: clients have `shutdown_grace`. A lost shard stops the others, too, since what is left is half a
//! server that the outside takes for a whole one; their clients have [`LOST_GRACE`]. Either way the process ends.

use super::Ending;
use std::time::Duration;
use tokio::time::Instant;

/// How long clients may take to leave when a shard was lost.
const LOST_GRACE: Duration = Duration::from_secs(2);

/// How long shards may take to end that were told to leave.
const LEAVE: Duration = Duration::from_secs(1);

/// How far the end has come.
#[derive(Default)]
pub(super) struct End {
    /// Until when clients may take their leave; `None`: nobody is to leave.
    until: Option<Instant>,
    cut_off: bool,
    lost: bool,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Wait,
    /// A shard is gone that nobody told to go: the others are to bid farewell.
    Lost(usize),
    /// The time is over: the shards are to leave.
    CutOff,
    /// It is over.
    Over(Ending),
}

impl End {
    /// Told to stop: clients have `grace`.
    pub(super) fn stop(&mut self, grace: Duration) {
        self.until = Some(Instant::now() + grace);
    }

    pub(super) fn is_near(&self) -> bool {
        self.until.is_some()
    }

    /// When to look again at the latest.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.until.map(|until| if self.cut_off { until + LEAVE } else { until })
    }

    /// What follows from the time and from which shards are `gone`, by their numbers.
    pub(super) fn step(&mut self, gone: &[bool]) -> Step {
        let late = self.wake_at().is_some_and(|at| at <= Instant::now());
        match gone.iter().position(|gone| *gone) {
            Some(shard) if !self.is_near() => {
                (self.until, self.lost) = (Some(Instant::now() + LOST_GRACE), true);
                Step::Lost(shard)
            }
            Some(_) if gone.iter().all(|gone| *gone) => Step::Over(self.ending(Ending::Stopped)),
            _ if late && self.cut_off => Step::Over(self.ending(Ending::Forced)),
            _ if late => {
                self.cut_off = true;
                Step::CutOff
            }
            _ => Step::Wait,
        }
    }

    fn ending(&self, else_this: Ending) -> Ending {
        if self.lost { Ending::ShardLost } else { else_this }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock stands still but where it is moved.
    async fn pass(time: Duration) {
        tokio::time::sleep_until(Instant::now() + time).await;
    }

    fn in_no_time(story: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(story);
    }

    #[test]
    fn a_lost_shard_ends_the_others_within_three_seconds() {
        in_no_time(async {
            let mut end = End::default();
            assert_eq!(end.step(&[false, false]), Step::Wait);
            assert_eq!(end.step(&[false, true]), Step::Lost(1));
            assert_eq!(end.step(&[false, true]), Step::Wait);
            let last = end.wake_at().unwrap() + LEAVE;
            assert!(last.duration_since(Instant::now()) <= Duration::from_secs(3));
            pass(LOST_GRACE).await;
            assert_eq!(end.step(&[false, true]), Step::CutOff);
            assert_eq!(end.step(&[false, true]), Step::Wait);
            pass(LEAVE).await;
            assert_eq!(end.step(&[false, true]), Step::Over(Ending::ShardLost));
        });
    }

    #[test]
    fn nobody_else_being_there_it_is_over_at_once() {
        let mut end = End::default();
        assert_eq!(end.step(&[true]), Step::Lost(0));
        assert_eq!(end.step(&[true]), Step::Over(Ending::ShardLost));
    }

    #[test]
    fn a_shard_that_does_not_leave_is_not_waited_for() {
        in_no_time(async {
            let mut end = End::default();
            end.stop(Duration::ZERO);
            assert_eq!(end.step(&[true, false]), Step::CutOff);
            pass(LEAVE).await;
            assert_eq!(end.step(&[true, false]), Step::Over(Ending::Forced));
            assert_eq!(end.step(&[true, true]), Step::Over(Ending::Stopped));
        });
    }
}

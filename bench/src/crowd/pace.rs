//! When things are due: an open loop whose times follow from a start and a rate, and from nothing that happened since.

use std::time::{Duration, Instant};

/// Nanoseconds since the tool began: one clock for all threads.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Begins now.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// The time.
    pub fn now(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// A time span on that clock.
pub fn nanos(span: Duration) -> u64 {
    span.as_nanos() as u64
}

/// One worker's share of an even stream of events.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The time of the first event of all.
    pub start: u64,
    /// Events per second of all workers together.
    pub per_second: f64,
    /// Which of them this is.
    pub worker: u64,
    /// How many they are.
    pub workers: u64,
}

impl Pace {
    /// When this worker's event `index` is due.
    pub fn time(&self, index: u64) -> u64 {
        self.start + ((index * self.workers + self.worker) as f64 / self.per_second * 1e9) as u64
    }

    /// How many of this worker's events are due before `end`.
    pub fn count_before(&self, end: u64) -> u64 {
        let all = (end.saturating_sub(self.start) as f64 / 1e9 * self.per_second).ceil() as u64;
        (all + self.workers - 1 - self.worker) / self.workers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_one_stream() {
        let pace = |worker| Pace { start: 1000, per_second: 4.0, worker, workers: 2 };
        let times: Vec<u64> = (0..3).flat_map(|index| [pace(0).time(index), pace(1).time(index)]).collect();
        let quarter = 250_000_000;
        assert_eq!(times, (0..6).map(|index| 1000 + index * quarter).collect::<Vec<_>>());
        assert_eq!((0..2).map(|worker| pace(worker).count_before(1000 + 5 * quarter)).collect::<Vec<_>>(), [3, 2]);
    }
}

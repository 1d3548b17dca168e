//! How long to wait before connecting again: exponential backoff with full jitter, so that many servers do not
//! come back to a broker in one moment.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The bound of the first wait.
const FIRST: Duration = Duration::from_millis(250);

/// The bound of any wait.
const LONGEST: Duration = Duration::from_secs(30);

/// The waits of one feed, or of one broker.
#[derive(Debug)]
pub(super) struct Backoff {
    /// The bound of the next wait.
    bound: Duration,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { bound: FIRST }
    }

    /// Makes the next wait a first one.
    pub(super) fn reset(&mut self) {
        self.bound = FIRST;
    }

    /// The next wait: a random time up to a bound, which doubles with each wait up to [`LONGEST`].
    pub(super) fn wait(&mut self) -> Duration {
        let bound = self.bound;
        self.bound = LONGEST.min(bound * 2);
        bound.mul_f64(f64::from(random()) / f64::from(u32::MAX))
    }
}

/// A random number, from the seed that the standard library gets of the kernel.
fn random() -> u32 {
    (RandomState::new().hash_one(std::time::SystemTime::now()) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::new();
        for bound in [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            assert!(backoff.wait() <= Duration::from_millis(bound));
        }
        backoff.reset();
        assert!(backoff.wait() <= FIRST);
    }

    #[test]
    fn waits_differ() {
        let waits: std::collections::BTreeSet<_> = (0..100).map(|_| Backoff::new().wait()).collect();
        assert!(waits.len() > 90, "{}", waits.len());
    }
}

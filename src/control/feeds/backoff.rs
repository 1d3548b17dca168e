//! How long a feed waits before it tries again: twice as long each time, and of that a random part, so that many
//! servers do not come back to a broker in one moment.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The longest first wait.
const FIRST: Duration = Duration::from_millis(250);

/// The longest wait of all.
const LONGEST: Duration = Duration::from_secs(30);

/// The waits of one feed.
#[derive(Debug)]
pub(super) struct Backoff {
    longest: Duration,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { longest: FIRST }
    }

    /// It went well: the next wait is a first one.
    pub(super) fn reset(&mut self) {
        self.longest = FIRST;
    }

    /// The next wait: anything up to a bound that doubles ("full jitter").
    pub(super) fn wait(&mut self) -> Duration {
        let longest = self.longest;
        self.longest = LONGEST.min(longest * 2);
        longest.mul_f64(random() as f64 / u64::MAX as f64)
    }
}

/// A random number, from the seed that the standard library asks of the kernel.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(std::time::SystemTime::now())
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

//! How fast subscriptions are made: a broker that comes back is not asked for all of them at once.

use std::time::Duration;
use tokio::time::Instant;

/// What may come at once, after a while without any: so much of a second's.
const BURST: f64 = 0.05;

/// A rate, as a bucket of tokens. One may always go first.
pub(super) struct Pace {
    rate: f64,
    allowance: f64,
    at: Instant,
}

impl Pace {
    /// So many in a second.
    pub(super) fn new(rate: u32, now: Instant) -> Pace {
        Pace { rate: f64::from(rate.max(1)), allowance: 1.0, at: now }
    }

    /// Whether one may go now: then it has.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let more = now.duration_since(self.at).as_secs_f64() * self.rate;
        self.allowance = (self.allowance + more).min((self.rate * BURST).max(1.0));
        self.at = now;
        let may = self.allowance >= 1.0;
        self.allowance -= f64::from(u8::from(may));
        may
    }

    /// How long until one may go.
    pub(super) fn wait(&self) -> Duration {
        Duration::from_secs_f64((1.0 - self.allowance).max(0.0) / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_go_than_the_rate_allows() {
        let (begun, millis) = (Instant::now(), Duration::from_millis);
        let mut pace = Pace::new(100, begun);
        let mut went = |from: u64, to: u64| (from..to).filter(|at| pace.take(begun + millis(*at))).count();
        assert_eq!(went(0, 1000), 100);
        // After a rest, a few at once.
        assert!((100..=106).contains(&went(60_000, 61_000)));
        assert!(!pace.take(begun + millis(61_000)) && pace.wait() <= millis(10));
        assert!(Pace::new(1, begun).take(begun), "the first one need not wait");
    }
}

//! A trouble that many clients meet is told when it begins and when it is over, never once for each of them.

use super::clock::TICK;
use std::time::Duration;

/// A trouble that was not met for so long is over.
const QUIET: u32 = (Duration::from_secs(10).as_millis() / TICK.as_millis()) as u32;

/// Whether a trouble lasts, and how often it was met.
#[derive(Debug, Default)]
pub struct Trouble {
    /// The tick in which it was last met.
    last: Option<u32>,
    times: u64,
}

impl Trouble {
    /// It is met. `true`: it begins.
    pub fn meet(&mut self, now: u32) -> bool {
        self.times += 1;
        self.last.replace(now).is_none()
    }

    /// Looks whether it is over; how often it was met then.
    pub fn over(&mut self, now: u32) -> Option<u64> {
        self.last.take_if(|last| now.saturating_sub(*last) >= QUIET)?;
        Some(std::mem::take(&mut self.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_once_and_is_over_once() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.over(9), None);
        assert_eq!([1, 2, QUIET].map(|now| trouble.meet(now)), [true, false, false]);
        assert_eq!([QUIET + 1, 2 * QUIET, 3 * QUIET].map(|now| trouble.over(now)), [None, Some(3), None]);
        assert!(trouble.meet(4 * QUIET));
    }
}

//! When a session with a broker is looked at next, and how long it waits after it was lost.

/// Ticks between two attempts to reach a broker, at most.
const BACKOFF_TICKS: u32 = 64;

/// Ticks after which it is looked at, at most: the wheel of beats reaches so far.
const LOOK_TICKS: u32 = 1000;

/// Of one session. It stands on the wheel of beats as often as it was put there; only the entry that is due counts, so
/// that a session that is lost and made again is not looked at more and more often.
#[derive(Debug, Default)]
pub struct Attempts {
    /// How often it was lost in a row.
    lost: u32,
    /// The tick in which it is looked at.
    due: Option<u32>,
}

impl Attempts {
    /// It is to be looked at in so many ticks, or sooner. In how many it is to be put on the wheel; `None`: it stands
    /// there already.
    pub fn look_in(&mut self, now: u32, ticks: u32) -> Option<u32> {
        let ticks = ticks.clamp(1, LOOK_TICKS);
        if self.due.is_some_and(|due| due > now && due <= now + ticks) {
            return None;
        }
        self.due = Some(now + ticks);
        Some(ticks)
    }

    /// Whether an entry of the wheel is the one that counts; whoever looks says when it is to be looked at again.
    pub fn is_due(&mut self, now: u32) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }

    /// It is lost: in how many ticks it is tried again, more with each time. `salt`: not all shards at once.
    pub fn lost(&mut self, now: u32, salt: u32) -> u32 {
        let most = (2 << self.lost.min(5)).min(BACKOFF_TICKS);
        self.lost += 1;
        let spread = (salt ^ now.rotate_left(7)).wrapping_mul(0x9e37_79b9) >> 16;
        most / 2 + spread % (most / 2 + 1)
    }

    /// The broker has let it in.
    pub fn succeeded(&mut self) {
        self.lost = 0;
    }

    /// The last attempt has failed.
    pub fn has_failed(&self) -> bool {
        self.lost > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_counts_and_a_sooner_one_goes_before() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.look_in(10, 20), Some(20));
        assert_eq!(attempts.look_in(11, 30), None, "it is looked at sooner than that");
        assert_eq!(attempts.look_in(12, 3), Some(3));
        assert!(!attempts.is_due(14) && attempts.is_due(15));
        assert!(!attempts.is_due(15), "once");
        assert_eq!(attempts.look_in(15, 40), Some(40));
        assert!(!attempts.is_due(30), "the entry that was put there first");
        assert!(attempts.is_due(55));
        assert_eq!(attempts.look_in(60, u32::MAX), Some(LOOK_TICKS));
    }

    #[test]
    fn it_waits_longer_with_each_failure() {
        let mut attempts = Attempts::default();
        let waits: Vec<u32> = (0..8).map(|salt| attempts.lost(100, salt)).collect();
        let most = [2, 4, 8, 16, 32, 64, 64, 64];
        assert!(waits.iter().zip(most).all(|(wait, most)| (most / 2..=most).contains(wait)), "{waits:?}");
        attempts.succeeded();
        assert!(!attempts.has_failed() && attempts.lost(100, 0) <= 2 && attempts.has_failed());
    }
}

//! Time, read once per turn, and one deadline byte per slot.
//!
//! The shard counts time in ticks of a quarter of a second. A slot's byte says in which of the next 254 ticks
//! the connection is to be looked at; the look finds out what is due, if anything, and sets the byte again.
//! So a busy connection costs nothing here, and an idle one a byte, swept once a tick by memchr.

use std::time::Duration;

/// The length of a tick, and the accuracy of every timeout.
pub const TICK: Duration = Duration::from_millis(250);

/// Bytes run through 1..=CYCLE; zero means no deadline.
const CYCLE: u32 = 255;

/// The furthest tick that a byte can name.
const HORIZON: u32 = CYCLE - 1;

/// What a turn is told about the time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Since the server began, for all shards alike; never goes back.
    pub since_start: Duration,
    /// Seconds since 1970, for the Date field.
    pub unix: u64,
}

/// A duration in ticks, rounded up, at least one.
pub fn ticks(duration: Duration) -> u32 {
    let ticks = duration.as_nanos().div_ceil(TICK.as_nanos());
    u32::try_from(ticks).unwrap_or(u32::MAX / 2).clamp(1, u32::MAX / 2)
}

/// The shard's time and its deadlines.
pub struct Clock {
    now: u32,
    nanos: u64,
    swept: u32,
    due: Vec<u8>,
    unix: u64,
    date: String,
}

impl Clock {
    /// Reserves address space for `capacity` deadlines.
    pub fn new(capacity: u32) -> Clock {
        Clock {
            now: 0,
            nanos: 0,
            swept: 0,
            due: Vec::with_capacity(capacity as usize),
            unix: u64::MAX,
            date: String::new(),
        }
    }

    /// The time for this turn.
    pub fn set(&mut self, now: Now) {
        self.now = (now.since_start.as_nanos() / TICK.as_nanos()) as u32;
        self.nanos = now.since_start.as_nanos() as u64;
        if now.unix != self.unix {
            self.unix = now.unix;
            let time = std::time::UNIX_EPOCH + Duration::from_secs(now.unix);
            self.date = httpdate::fmt_http_date(time);
        }
    }

    /// The tick in which this turn runs.
    pub fn now(&self) -> u32 {
        self.now
    }

    /// Nanoseconds since the server began, of this turn: the clock that shards share.
    pub fn nanos(&self) -> u64 {
        self.nanos
    }

    /// Seconds since 1970, of this turn.
    pub fn unix(&self) -> u64 {
        self.unix
    }

    /// The tick in which a second of 1970's count begins; the present one, where that is over.
    pub fn tick_of(&self, unix: u64) -> u32 {
        let seconds = unix.saturating_sub(self.unix);
        let ticks = seconds.saturating_mul(1000 / TICK.as_millis() as u64);
        self.now.saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// The Date field's value.
    pub fn date(&self) -> &str {
        &self.date
    }

    /// The slot is to be looked at in tick `at`, or somewhat before when that is far.
    pub fn set_timer(&mut self, slot: u32, at: u32) {
        if self.due.len() <= slot as usize {
            self.due.resize(slot as usize + 1, 0);
        }
        let at = at.clamp(self.swept + 1, self.swept + HORIZON);
        self.due[slot as usize] = byte(at);
    }

    /// The slot has no deadline any more.
    pub fn forget(&mut self, slot: u32) {
        if let Some(due) = self.due.get_mut(slot as usize) {
            *due = 0;
        }
    }

    /// Puts the slots whose tick has come into `out`; each is then without a deadline.
    pub fn sweep(&mut self, out: &mut Vec<u32>) {
        while self.swept < self.now {
            self.swept += 1;
            let wanted = byte(self.swept);
            let from = out.len();
            out.extend(memchr::memchr_iter(wanted, &self.due).map(|slot| slot as u32));
            out[from..].iter().for_each(|&slot| self.due[slot as usize] = 0);
        }
    }
}

fn byte(tick: u32) -> u8 {
    (tick % CYCLE) as u8 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tick: u32) -> Now {
        Now { since_start: TICK * tick, unix: 784_111_777 }
    }

    #[test]
    fn a_deadline_is_found_in_its_tick_and_not_before() {
        for wanted in [1, 2, 253, 254] {
            let mut clock = Clock::new(4);
            clock.set(at(0));
            clock.set_timer(3, wanted);
            let mut found = Vec::new();
            clock.set(at(wanted - 1));
            clock.sweep(&mut found);
            assert!(found.is_empty());
            clock.set(at(wanted));
            clock.sweep(&mut found);
            assert_eq!(found, [3]);
            clock.set(at(wanted + 300));
            clock.sweep(&mut found);
            assert_eq!(found, [3], "found once");
        }
    }

    #[test]
    fn a_far_deadline_is_looked_at_early_and_a_past_one_next() {
        let mut clock = Clock::new(2);
        clock.set(at(10));
        clock.sweep(&mut Vec::new());
        clock.set_timer(0, 100_000);
        clock.set_timer(1, 3);
        let mut found = Vec::new();
        clock.set(at(11));
        clock.sweep(&mut found);
        assert_eq!(found, [1]);
        clock.set(at(10 + HORIZON));
        clock.sweep(&mut found);
        assert_eq!(found, [1, 0]);
    }

    #[test]
    fn durations_are_rounded_up() {
        assert_eq!(
            [ticks(Duration::ZERO), ticks(TICK), ticks(TICK * 3 / 2), ticks(Duration::MAX)],
            [1, 1, 2, u32::MAX / 2]
        );
    }

    #[test]
    fn the_date_is_the_one_of_rfc_9110() {
        let mut clock = Clock::new(0);
        clock.set(at(0));
        assert_eq!(clock.date(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}

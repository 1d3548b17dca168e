//! What a turn may cost, and what it has cost so far.
//!
//! A turn counts work, not completions: a completion that brings a deflate bomb costs what is inflated. The unit is a
//! thousandth of a completion, so that a budget of `turn_events` completions holds for everything. Each kind of work
//! has a floor in each turn, whatever the others have used: letters, completions, what was left over, what services
//! have begun.
//!
//! A connection that has sent more than its share of a turn is read on later: those that send little go first. And what
//! it costs at a time beyond a floor is a debt of its own ([`Work::excuse`]): the turn is not charged for it, so that
//! others are served in it, and the connection is not read again before so many turns have passed as it has used up.

/// Handling a completion.
pub const COMPLETION: u64 = 1000;

/// Parsing a frame or a request, and what its service does with it.
pub const FRAME: u64 = 200;

/// Taking a letter, or a message out of one.
pub const LETTER: u64 = 300;

/// Looking at a record of a service, where it has many and a letter concerns them all.
pub const RECORD: u64 = 100;

/// Looking at a connection whose deadline has come: it may be pinged, or parked.
pub const LOOK: u64 = COMPLETION;

/// Ending a connection whose deadline has come: what it is told, and its close.
pub const END: u64 = 8 * COMPLETION;

/// Bytes that are copied or masked for one unit.
const COPIED: u64 = 32;

/// The work of one turn.
#[derive(Debug)]
pub struct Work {
    most: u64,
    done: u64,
}

impl Work {
    /// Turns of so many completions.
    pub fn new(turn_events: u32) -> Work {
        Work { most: u64::from(turn_events) * COMPLETION, done: 0 }
    }

    /// Another turn begins.
    pub fn begin(&mut self) {
        self.done = 0;
    }

    /// Charges the turn.
    pub fn add(&mut self, units: u64) {
        self.done += units;
    }

    /// Charges bytes that were read as they came.
    pub fn add_copied(&mut self, bytes: usize) {
        self.done += bytes as u64 / COPIED;
    }

    /// Charges bytes that were inflated or deflated: a unit each.
    pub fn add_deflated(&mut self, bytes: usize) {
        self.done += bytes as u64;
    }

    /// Takes out of the turn what one connection has cost since `before` beyond the floor: its debt, in units.
    pub fn excuse(&mut self, before: u64) -> u64 {
        let debt = (self.done - before).saturating_sub(self.floor());
        self.done -= debt;
        debt
    }

    /// Whether more may be done of a kind that has begun at `begun`: the turn is not over, or the kind has not had its
    /// floor.
    pub fn has_room_since(&self, begun: u64) -> bool {
        !self.is_over() || self.done < begun + self.floor()
    }

    /// What is done since `before` is a connection's share of a turn: a sixteenth.
    pub fn has_had_share(&self, before: u64) -> bool {
        self.done - before >= self.most / 16
    }

    /// What is left of a debt after a turn.
    pub fn pay(&self, debt: u64) -> u64 {
        debt.saturating_sub(self.most)
    }

    /// Units so far.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// The turn's budget is used up.
    pub fn is_over(&self) -> bool {
        self.done >= self.most
    }

    /// A quarter of a turn: the floor of each kind of work.
    pub fn floor(&self) -> u64 {
        self.most / 4
    }

    /// Steps of the size of a completion that are left, at least the floor's.
    pub fn steps_left(&self) -> u32 {
        (self.most.saturating_sub(self.done).max(self.floor()) / COMPLETION).max(1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_a_share_is_a_debt() {
        let mut work = Work::new(100);
        work.add(COMPLETION * 10);
        let before = work.done();
        work.add(COMPLETION * 225);
        assert!(work.has_had_share(before) && work.is_over());
        let debt = work.excuse(before);
        assert_eq!((debt, work.done()), (200 * COMPLETION, 35 * COMPLETION));
        assert_eq!([debt, work.pay(debt)].map(|it| work.pay(it)), [100 * COMPLETION, 0]);
    }

    #[test]
    fn what_is_over_leaves_the_floor() {
        let mut work = Work::new(100);
        work.add(COMPLETION * 40);
        assert_eq!((work.steps_left(), work.is_over()), (60, false));
        work.add_deflated(1 << 20);
        assert_eq!((work.steps_left(), work.is_over()), (25, true));
        work.begin();
        work.add_copied(64 << 10);
        assert_eq!((work.done(), work.steps_left()), (2048, 97));
        assert_eq!(Work::new(1).steps_left(), 1);
    }
}

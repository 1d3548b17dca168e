//! What all shards know of an upstream together: whether it answers.
//!
//! The one thing that is shared and no letter: a shard looks at it when a client is to be carried there, and must not
//! miss what another shard has found out because a box was full. Whoever finds the change says it in the log, so that
//! it is said once.

use std::sync::atomic::{AtomicU32, Ordering};

/// An upstream's health.
#[derive(Debug, Default)]
pub struct Health {
    name: String,
    /// How often it has changed: even while it answers (or was never called), odd while it does not.
    turns: AtomicU32,
}

impl Health {
    /// Of the upstream that the configuration writes so.
    pub fn new(name: String) -> Health {
        Health { name, turns: AtomicU32::new(0) }
    }

    /// How often it has changed so far. A shard that remembers the number sees whether it has since.
    pub fn turns(&self) -> u32 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Whether it answers, as far as anybody knows.
    pub fn is_up(&self) -> bool {
        is_up(self.turns())
    }

    /// It has answered.
    pub fn answered(&self) {
        if self.turn(false) {
            tracing::info!(upstream = self.name, "the upstream answers again");
        }
    }

    /// None of its addresses has answered.
    pub fn failed(&self) {
        if self.turn(true) {
            tracing::warn!(upstream = self.name, "the upstream does not answer: clients go to others, or are told 503");
        }
    }

    /// Whether it was `up` and is not any more.
    fn turn(&self, up: bool) -> bool {
        let turns = self.turns();
        let next = turns.wrapping_add(1);
        let change = || self.turns.compare_exchange(turns, next, Ordering::Relaxed, Ordering::Relaxed);
        is_up(turns) == up && change().is_ok()
    }
}

/// Whether that many changes leave it well.
pub fn is_up(turns: u32) -> bool {
    turns.is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_who_see_the_same_one_changes_it() {
        let health = Health::new("tcp://b:1".into());
        for (fails, turns) in [(false, 0), (true, 1), (true, 1), (false, 2), (false, 2), (true, 3)] {
            if fails {
                health.failed()
            } else {
                health.answered()
            }
            assert_eq!((health.turns(), health.is_up()), (turns, !fails));
        }
    }
}

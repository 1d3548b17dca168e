//! Whether upstreams answer: state that all shards share, in an atomic instead of letters.
//!
//! A shard reads it when it chooses an upstream for a client, and must not miss what another shard has found out
//! because a mailbox was full. The thread whose change takes effect logs it, so each change is logged once.

use std::sync::atomic::{AtomicU32, Ordering};

/// Whether one upstream answers.
#[derive(Debug, Default)]
pub struct Health {
    name: String,
    /// Changes so far: even while it answers or was never connected to, odd while it does not answer.
    turns: AtomicU32,
}

impl Health {
    /// An upstream that answers, as far as is known. `name` is how the configuration writes it, for the log.
    pub fn new(name: String) -> Health {
        Health { name, turns: AtomicU32::new(0) }
    }

    /// Changes so far. A shard that remembers the number can tell whether there was one since.
    pub fn turns(&self) -> u32 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Whether it answers, by the last attempt of any shard.
    pub fn is_up(&self) -> bool {
        is_up(self.turns())
    }

    /// A connection to it was established.
    pub fn answered(&self) {
        if self.turn(false) {
            tracing::info!(upstream = self.name, "the upstream answers again");
        }
    }

    /// A connection to none of its addresses could be established.
    pub fn failed(&self) {
        if self.turn(true) {
            tracing::warn!(upstream = self.name, "the upstream does not answer: clients go to others, or are told 503");
        }
    }

    /// Changes it from `up` to the opposite; whether this call did. `false`: it was that already, or another thread was
    /// first.
    fn turn(&self, up: bool) -> bool {
        let turns = self.turns();
        let next = turns.wrapping_add(1);
        let change = || self.turns.compare_exchange(turns, next, Ordering::Relaxed, Ordering::Relaxed);
        is_up(turns) == up && change().is_ok()
    }
}

/// Whether an upstream answers after so many changes.
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

//! What all shards know together of an upstream: whether it answers.
//!
//! It is shared memory and not a letter: a shard reads it when it chooses an upstream for a client, and must not miss
//! what another shard has found out because a mailbox was full. The shard whose compare-and-swap makes the change
//! writes the line in the log, so that there is one line for all shards.

use std::sync::atomic::{AtomicU32, Ordering};

/// An upstream's health. It is up at first: nobody has tried to connect to it.
#[derive(Debug, Default)]
pub struct Health {
    name: String,
    /// Changes from up to down and back so far, modulo 2^32: even while it is up, odd while it is down.
    changes: AtomicU32,
}

impl Health {
    /// Of the upstream that the configuration calls `name`.
    pub fn new(name: String) -> Health {
        Health { name, changes: AtomicU32::new(0) }
    }

    /// How often it has changed so far. A shard that remembers the number sees whether it has changed since.
    pub fn changes(&self) -> u32 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Whether it is up, as far as any shard knows.
    pub fn is_up(&self) -> bool {
        is_up(self.changes())
    }

    /// A connection to it was established.
    pub fn answered(&self) {
        if self.change(false) {
            tracing::info!(upstream = self.name, "the upstream answers again");
        }
    }

    /// Connections to all of its addresses have failed.
    pub fn failed(&self) {
        if self.change(true) {
            tracing::warn!(upstream = self.name, "the upstream does not answer: clients go to others, or are told 503");
        }
    }

    /// Changes it if it is `up` (or down); says whether it was this call that has changed it.
    fn change(&self, up: bool) -> bool {
        let changes = self.changes();
        let next = changes.wrapping_add(1);
        let swap = || self.changes.compare_exchange(changes, next, Ordering::Relaxed, Ordering::Relaxed);
        is_up(changes) == up && swap().is_ok()
    }
}

/// Whether an upstream is up after that many changes.
pub fn is_up(changes: u32) -> bool {
    changes.is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_who_see_the_same_one_changes_it() {
        let health = Health::new("tcp://b:1".into());
        for (fails, changes) in [(false, 0), (true, 1), (true, 1), (false, 2), (false, 2), (true, 3)] {
            if fails {
                health.failed();
            } else {
                health.answered();
            }
            assert_eq!((health.changes(), health.is_up()), (changes, !fails));
        }
    }
}

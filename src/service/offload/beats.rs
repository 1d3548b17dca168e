//! Heart-beats: whoever is to be looked at in a tick stands in a wheel, so that a tick costs what is due in it.

use std::collections::VecDeque;

/// Ticks for which the wheel reaches; who is due later is looked at on the way.
const REACH: usize = 1024;

/// What is to be looked at, by ticks.
pub struct Beats<T> {
    wheel: VecDeque<Vec<T>>,
    /// The tick of the first entry.
    tick: u32,
}

impl<T> Default for Beats<T> {
    fn default() -> Beats<T> {
        Beats::new()
    }
}

impl<T> Beats<T> {
    /// Nothing.
    pub fn new() -> Beats<T> {
        Beats { wheel: VecDeque::new(), tick: 0 }
    }

    /// It is to be looked at in so many ticks: one at least.
    pub fn set(&mut self, now: u32, ticks: u32, what: T) {
        if self.wheel.is_empty() {
            self.tick = now;
        }
        // What is due of this tick may have been taken already.
        let at = (now.saturating_add(ticks.max(1)).saturating_sub(self.tick) as usize).min(REACH);
        while self.wheel.len() <= at {
            self.wheel.push_back(Vec::new());
        }
        self.wheel[at].push(what);
    }

    /// What is due by now, in the order of ticks.
    pub fn due(&mut self, now: u32) -> Vec<T> {
        let mut due = Vec::new();
        while self.tick <= now {
            let Some(entries) = self.wheel.pop_front() else { break };
            due.extend(entries);
            self.tick += 1;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_due_in_its_tick() {
        let mut beats = Beats::new();
        beats.set(10, 4, 'a');
        beats.set(10, 0, 'b');
        assert_eq!((beats.due(10), beats.due(11), beats.due(13)), (vec![], vec!['b'], vec![]));
        beats.set(13, 1, 'c');
        assert_eq!((beats.due(14), beats.due(90)), (vec!['a', 'c'], vec![]));
        beats.set(90, 100_000, 'd');
        assert_eq!(beats.due(90 + 1024), ['d']);
    }
}

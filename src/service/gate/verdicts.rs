//! What was said of credentials, remembered for a while under a keyed hash of them.
//!
//! As many are remembered as the configuration says, those that let somebody in apart from those that do not: wrong
//! tokens, however many come, take nothing from those that are known. What was remembered first is forgotten first.

use super::credentials::Fingerprint;
use crate::mesh::identity::{Denial, Identity};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// What was said.
pub(super) type Said = Result<Arc<Identity>, Denial>;

/// All that a shard remembers.
pub(super) struct Verdicts {
    good: Memory<Arc<Identity>>,
    bad: Memory<Denial>,
}

impl Verdicts {
    /// With room for so many of either kind.
    pub(super) fn new(most: usize) -> Verdicts {
        Verdicts { good: Memory::new(most), bad: Memory::new(most) }
    }

    /// What was said of credentials, if that still holds in this tick.
    pub(super) fn get(&self, of: Fingerprint, now: u32) -> Option<Said> {
        let good = self.good.get(of, now).cloned().map(Ok);
        good.or_else(|| self.bad.get(of, now).cloned().map(Err))
    }

    /// Remembers what was said until a tick.
    pub(super) fn put(&mut self, of: Fingerprint, said: Said, until: u32) {
        match said {
            Ok(identity) => self.good.put(of, identity, until),
            Err(denial) => {
                self.good.values.remove(&of);
                self.bad.put(of, denial, until);
            }
        }
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.good.values.len() + self.bad.values.len()
    }
}

/// Values by fingerprint, the oldest of which gives way.
struct Memory<T> {
    values: HashMap<Fingerprint, (T, u32), BuildHasherDefault<AsItIs>>,
    /// In the order in which they came; one that was forgotten before may still stand here.
    order: VecDeque<Fingerprint>,
    most: usize,
}

impl<T> Memory<T> {
    fn new(most: usize) -> Memory<T> {
        Memory { values: HashMap::default(), order: VecDeque::new(), most }
    }

    fn get(&self, of: Fingerprint, now: u32) -> Option<&T> {
        self.values.get(&of).filter(|(_, until)| now < *until).map(|(value, _)| value)
    }

    fn put(&mut self, of: Fingerprint, value: T, until: u32) {
        match self.values.entry(of) {
            Entry::Occupied(mut entry) => {
                entry.insert((value, until));
            }
            Entry::Vacant(entry) => {
                entry.insert((value, until));
                self.order.push_back(of);
            }
        }
        while self.order.len() > self.most {
            let oldest = self.order.pop_front();
            oldest.map(|it| self.values.remove(&it));
        }
    }
}

/// A fingerprint is a hash already, under a key that nobody knows.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u128(&mut self, it: u128) {
        self.0 = it as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::identity::Denied;

    fn identity(name: &str) -> Arc<Identity> {
        let (roles, claims) = (Box::default(), Box::default());
        Arc::new(Identity { name: name.into(), roles, claims, expires: None })
    }

    #[test]
    fn a_verdict_holds_until_its_tick() {
        let mut verdicts = Verdicts::new(4);
        verdicts.put(7, Ok(identity("a")), 10);
        assert_eq!(verdicts.get(7, 9), Some(Ok(identity("a"))));
        assert_eq!(verdicts.get(7, 10), None);
        assert_eq!(verdicts.get(8, 9), None);
    }

    #[test]
    fn the_last_word_counts() {
        let mut verdicts = Verdicts::new(4);
        let denial = Denial::new(Denied::Password);
        verdicts.put(7, Ok(identity("a")), 10);
        verdicts.put(7, Err(denial.clone()), 10);
        assert_eq!(verdicts.get(7, 1), Some(Err(denial)));
        verdicts.put(7, Ok(identity("b")), 10);
        assert_eq!(verdicts.get(7, 1), Some(Ok(identity("b"))));
    }

    #[test]
    fn wrong_ones_take_nothing_from_those_that_are_known() {
        let mut verdicts = Verdicts::new(4);
        (0..4).for_each(|of| verdicts.put(of, Ok(identity("a")), 10));
        (100..200).for_each(|of| verdicts.put(of, Err(Denial::new(Denied::Signature)), 10));
        assert!((0..4).all(|of| verdicts.get(of, 1).is_some()));
        assert_eq!(verdicts.len(), 8);
        verdicts.put(4, Ok(identity("b")), 10);
        assert_eq!(verdicts.get(0, 1), None, "the oldest gives way");
    }
}

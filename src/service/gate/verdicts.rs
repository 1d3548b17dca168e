//! What was said of credentials, remembered for a while under a keyed hash of them.
//!
//! As many are remembered as the configuration says, those that let somebody in apart from those that do not: wrong
//! tokens, however many come, take nothing from those that are known. What was remembered first is forgotten first.

use crate::mesh::identity::{Denial, Identity};
use crate::mesh::{Fingerprint, Memory};
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
        let good = self.good.get(of, now).map(|it| Ok(it.0.clone()));
        good.or_else(|| self.bad.get(of, now).map(|it| Err(it.0.clone())))
    }

    /// Remembers what was said until a tick.
    pub(super) fn put(&mut self, of: Fingerprint, said: Said, until: u32) {
        match said {
            Ok(identity) => self.good.put(of, identity, until),
            Err(denial) => {
                self.good.remove(of);
                self.bad.put(of, denial, until);
            }
        }
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.good.len() + self.bad.len()
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

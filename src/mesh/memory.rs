//! What was said of something, remembered for a while under a keyed hash of it. What was remembered first is forgotten
//! first.

use siphasher::sip128::SipHasher24;
use std::collections::hash_map::{Entry, RandomState};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

/// What stands for something that is not to be kept itself: a keyed hash of 128 bits.
pub type Fingerprint = u128;

/// What makes fingerprints, under a new key that nobody knows. Copies have the same key.
pub fn keyed_hasher() -> SipHasher24 {
    let word = || RandomState::new().hash_one(0);
    SipHasher24::new_with_keys(word(), word())
}

/// Values by fingerprint, so many at most.
pub struct Memory<T> {
    values: HashMap<Fingerprint, (T, u32), BuildHasherDefault<AsItIs>>,
    /// In the order in which they came; one that was forgotten before may still stand here.
    order: VecDeque<Fingerprint>,
    most: usize,
}

impl<T> Memory<T> {
    /// With room for so many.
    pub fn new(most: usize) -> Memory<T> {
        Memory { values: HashMap::default(), order: VecDeque::new(), most }
    }

    /// What is remembered at this time, by whatever clock, and until when.
    pub fn get(&self, of: Fingerprint, now: u32) -> Option<(&T, u32)> {
        self.values.get(&of).filter(|(_, until)| now < *until).map(|(value, until)| (value, *until))
    }

    /// Remembers something until then.
    pub fn put(&mut self, of: Fingerprint, value: T, until: u32) {
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

    /// Forgets one.
    pub fn remove(&mut self, of: Fingerprint) {
        self.values.remove(&of);
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Nothing is.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
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

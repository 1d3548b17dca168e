//! Who clients are, by slot: a pointer to what all connections share that have shown the same, and the tick in which
//! that ends. Where nobody is asked who he is, nothing of this is ever touched.

use crate::mesh::Identity;
use std::sync::Arc;

/// No end.
const NEVER: u32 = u32::MAX;

/// All of a shard.
#[derive(Default)]
pub(super) struct Identities {
    known: Vec<Option<Arc<Identity>>>,
    ends: Vec<u32>,
    count: u64,
}

impl Identities {
    /// Reserves address space for so many slots: 12 bytes each, when they are used.
    pub(super) fn new(capacity: u32) -> Identities {
        let capacity = capacity as usize;
        Identities { known: Vec::with_capacity(capacity), ends: Vec::with_capacity(capacity), count: 0 }
    }

    /// Who is in a slot, and the tick in which that ends.
    pub(super) fn set(&mut self, slot: u32, identity: Option<Arc<Identity>>, end: Option<u32>) {
        let slot = slot as usize;
        if slot >= self.known.len() {
            if identity.is_none() {
                return;
            }
            self.known.resize(slot + 1, None);
            self.ends.resize(slot + 1, NEVER);
        }
        self.count += u64::from(identity.is_some());
        self.count -= u64::from(self.known[slot].is_some());
        self.known[slot] = identity;
        self.ends[slot] = end.unwrap_or(NEVER);
    }

    /// Who is in a slot.
    pub(super) fn get(&self, slot: u32) -> Option<&Arc<Identity>> {
        self.known.get(slot as usize)?.as_ref()
    }

    /// The tick in which who is in a slot is not known any more.
    pub(super) fn end(&self, slot: u32) -> u32 {
        self.ends.get(slot as usize).copied().unwrap_or(NEVER)
    }

    /// The end of what is in a slot has been seen to.
    pub(super) fn forget_end(&mut self, slot: u32) {
        if let Some(end) = self.ends.get_mut(slot as usize) {
            *end = NEVER;
        }
    }

    /// How many are known.
    pub(super) fn len(&self) -> u64 {
        self.count
    }
}

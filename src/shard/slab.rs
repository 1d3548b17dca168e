//! The slots: one fixed-size record each, its memory reserved at start and touched when first used.
//!
//! A slot given back is the next one taken, so that the slots in use stay together and warm. Its generation
//! is counted up when it is given back: whoever still names the old one names nobody.

use super::conn::{Conn, State};
use std::ops::{Index, IndexMut};

const NONE: u32 = u32::MAX;

/// A connection as others may name it: the name dies with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    /// Its place in the slab and in the ring's table.
    pub slot: u32,
    /// Which use of that place.
    pub generation: u32,
}

impl Handle {
    /// The name of the connection that is in this slot.
    pub fn of(slot: u32, conn: &Conn) -> Handle {
        Handle { slot, generation: conn.generation }
    }

    /// As one number, for letters.
    pub fn to_raw(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// From such a number.
    pub fn from_raw(raw: u64) -> Handle {
        Handle { slot: raw as u32, generation: (raw >> 32) as u32 }
    }
}

/// All slots of a shard.
pub struct Slab {
    conns: Vec<Conn>,
    capacity: u32,
    free: u32,
    taken: u32,
}

impl Slab {
    /// Reserves address space for `capacity` slots.
    pub fn new(capacity: u32) -> Slab {
        Slab { conns: Vec::with_capacity(capacity as usize), capacity, free: NONE, taken: 0 }
    }

    /// A free slot, or `None` where all are taken.
    pub fn take(&mut self) -> Option<u32> {
        let slot = if self.free == NONE { self.open()? } else { self.reuse() };
        self.taken += 1;
        Some(slot)
    }

    /// Gives a slot back. The kernel must hold nothing of it.
    pub fn give_back(&mut self, slot: u32) {
        let generation = self[slot].generation.wrapping_add(1) & 0x00ff_ffff;
        self[slot] = Conn { token: self.free, ..Conn::free(generation) };
        self.free = slot;
        self.taken -= 1;
    }

    /// Slots that are taken.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// Slots that were ever taken: all others have never been touched.
    pub fn touched(&self) -> u32 {
        self.conns.len() as u32
    }

    /// The name of what is in the slot now.
    pub fn handle(&self, slot: u32) -> Handle {
        Handle { slot, generation: self[slot].generation }
    }

    /// The connection, if it is still the one that was named.
    pub fn get(&self, who: Handle) -> Option<&Conn> {
        count();
        let conn = self.conns.get(who.slot as usize)?;
        (conn.generation == who.generation && conn.state != State::Free).then_some(conn)
    }

    /// As [`Slab::get`], to be changed.
    pub fn get_mut(&mut self, who: Handle) -> Option<&mut Conn> {
        count();
        let conn = self.conns.get_mut(who.slot as usize)?;
        (conn.generation == who.generation && conn.state != State::Free).then_some(conn)
    }

    fn reuse(&mut self) -> u32 {
        let slot = self.free;
        self.free = std::mem::take(&mut self[slot].token);
        slot
    }

    fn open(&mut self) -> Option<u32> {
        let slot = self.touched();
        (slot < self.capacity).then(|| {
            self.conns.push(Conn::free(0));
            slot
        })
    }
}

impl Index<u32> for Slab {
    type Output = Conn;

    fn index(&self, slot: u32) -> &Conn {
        count();
        &self.conns[slot as usize]
    }
}

impl IndexMut<u32> for Slab {
    fn index_mut(&mut self, slot: u32) -> &mut Conn {
        count();
        &mut self.conns[slot as usize]
    }
}

/// Counts a look-up, in builds for tests.
fn count() {
    #[cfg(feature = "script")]
    LOOKUPS.with(|lookups| lookups.set(lookups.get() + 1));
}

#[cfg(feature = "script")]
thread_local! {
    static LOOKUPS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// How often a slot was looked up on this thread, by its number or by its name: what a path costs that looks its
/// connection up again in each function instead of handing it on.
#[cfg(feature = "script")]
pub fn lookups() -> u32 {
    LOOKUPS.with(std::cell::Cell::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slot_given_back_is_the_next_taken_under_a_new_name() {
        let mut slab = Slab::new(2);
        let (first, second) = (slab.take().unwrap(), slab.take().unwrap());
        assert_eq!(slab.take(), None);
        slab[first].state = State::Open;
        let old = slab.handle(first);
        assert!(slab.get(old).is_some());
        slab.give_back(first);
        assert!(slab.get(old).is_none());
        assert_eq!(slab.take(), Some(first));
        slab[first].state = State::Open;
        assert!(slab.get(old).is_none() && slab.get(slab.handle(first)).is_some());
        assert_eq!((slab.taken(), slab.touched(), second), (2, 2, 1));
    }
}

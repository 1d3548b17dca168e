//! Provided buffers: the shard's own memory, lent to the kernel as a ring (IORING_REGISTER_PBUF_RING, Linux 5.19), into
//! which every recv writes.
//!
//! A buffer is in one of two places: with the kernel, or in the shard's hands as a [`Lent`]. A completion that names a
//! buffer brings a `Lent`, whatever else it says (on Linux 6.1 a receive that ends in EAGAIN has used one up too), and
//! the buffer is free again when that is dropped: nobody can give one back twice, and forgetting one takes intent. The
//! kernel gets what is free at the next turn of the ring.

use super::mapping::Mapping;
use io_uring::{IoUring, types::BufRingEntry};
use std::cell::RefCell;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

/// The one buffer group of a shard.
pub const GROUP: u16 = 0;

/// Equal buffers in one mapping, and where each of them is.
pub struct Memory {
    mapping: Mapping,
    count: u16,
    size: u32,
    places: RefCell<Places>,
}

/// Where the buffers are.
struct Places {
    /// By number: in the shard's hands, or free and not offered to the kernel yet.
    here: Box<[bool]>,
    /// Free, and not offered to the kernel yet.
    free: Vec<u16>,
}

impl Memory {
    /// Maps `count` buffers of `size` bytes, all of them free. Pages are touched when they are first written.
    ///
    /// # Errors
    /// No memory.
    pub fn new(count: u16, size: u32) -> io::Result<Rc<Memory>> {
        let mapping = Mapping::new(usize::from(count) * size as usize)?;
        let places = Places { here: vec![true; count.into()].into(), free: (0..count).collect() };
        Ok(Rc::new(Memory { mapping, count, size, places: RefCell::new(places) }))
    }

    /// Bytes of one buffer.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The number of a free buffer, which is the kernel's from now on.
    pub fn offer(&self) -> Option<u16> {
        let mut places = self.places.borrow_mut();
        let id = places.free.pop()?;
        places.here[usize::from(id)] = false;
        Some(id)
    }

    /// The kernel has handed over this buffer, `len` bytes of it written.
    ///
    /// # Panics
    /// The buffer was not the kernel's, or is not so large: what the kernel says cannot be trusted any more.
    pub fn take(self: &Rc<Memory>, id: u16, len: usize) -> Lent {
        assert!(id < self.count && len <= self.size as usize, "the kernel named a buffer that is not ours");
        let here = &mut self.places.borrow_mut().here[usize::from(id)];
        assert!(!std::mem::replace(here, true), "the kernel handed a buffer over twice");
        Lent { memory: self.clone(), id, len }
    }

    /// Free buffers that were not offered to the kernel yet.
    pub fn free(&self) -> usize {
        self.places.borrow().free.len()
    }

    fn address(&self, id: u16) -> NonNull<u8> {
        self.mapping.at(usize::from(id) * self.size as usize)
    }
}

/// A buffer that the kernel has filled, as the bytes that it wrote. Free again when it is dropped.
#[must_use]
pub struct Lent {
    memory: Rc<Memory>,
    id: u16,
    len: usize,
}

impl Lent {
    /// The buffer is full: there may be more behind it.
    pub fn is_full(&self) -> bool {
        self.len == self.memory.size as usize
    }
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: within the mapping by `take`; a buffer is taken once until it is dropped, and the kernel does not
        // write into what it has handed over.
        unsafe { std::slice::from_raw_parts(self.memory.address(self.id).as_ptr(), self.len) }
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` keeps a second view away.
        unsafe { std::slice::from_raw_parts_mut(self.memory.address(self.id).as_ptr(), self.len) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.memory.places.borrow_mut().free.push(self.id);
    }
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lent").field("id", &self.id).field("len", &self.len).finish()
    }
}

/// Whether this kernel takes a ring of buffers.
///
/// # Errors
/// What it says else.
pub fn try_lending(ring: &IoUring) -> io::Result<()> {
    // SAFETY: what the ring was lent is taken back from it before it goes.
    let lent = unsafe { Buffers::lend_to(ring, 1, 4096)? };
    let freed = ring.submitter().unregister_buf_ring(GROUP);
    drop(lent);
    freed
}

/// The ring of buffers as the kernel reads it.
pub struct Buffers {
    entries: Mapping,
    memory: Rc<Memory>,
    tail: u16,
}

impl Buffers {
    /// Maps `count` (a power of two, at most 32 768) buffers of `size` bytes and lends them all.
    ///
    /// # Errors
    /// No memory, or a kernel without provided buffer rings.
    ///
    /// # Safety
    /// What is returned must be dropped after the ring: until then the kernel writes into it.
    pub unsafe fn lend_to(ring: &IoUring, count: u16, size: u32) -> io::Result<Buffers> {
        let memory = Memory::new(count, size)?;
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let start = entries.start();
        let mut buffers = Buffers { entries, memory, tail: 0 };
        // SAFETY: the entries are mapped, page-aligned, large enough for `count`, and outlive the ring by this
        // function's own condition.
        unsafe { ring.submitter().register_buf_ring_with_flags(start.as_ptr() as u64, count, GROUP, 0)? };
        buffers.offer_free();
        Ok(buffers)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.memory.count.into()
    }

    /// The buffers themselves.
    pub fn memory(&self) -> &Rc<Memory> {
        &self.memory
    }

    /// Lends the kernel whatever is free.
    pub fn offer_free(&mut self) {
        let before = self.tail;
        while let Some(id) = self.memory.offer() {
            let place = usize::from(self.tail & (self.memory.count - 1));
            // SAFETY: `place` is below `count`; entries at and after the tail belong to us until the tail moves.
            let entry = unsafe { self.entries.start().cast::<BufRingEntry>().add(place).as_mut() };
            entry.set_addr(self.memory.address(id).as_ptr() as u64);
            entry.set_len(self.memory.size);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
        }
        if self.tail != before {
            self.publish();
        }
    }

    /// Release: the kernel must see the entries before it sees the tail.
    fn publish(&self) {
        // SAFETY: the tail's place in the mapped ring; the kernel reads it as an aligned u16 with acquire.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.start().as_ptr().cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_free_again_when_it_is_dropped_and_not_before() {
        let memory = Memory::new(2, 16).unwrap();
        let ids: Vec<u16> = std::iter::from_fn(|| memory.offer()).collect();
        assert_eq!((ids.len(), memory.free()), (2, 0));
        let mut lent = memory.take(ids[0], 3);
        lent.copy_from_slice(b"abc");
        assert_eq!((&*lent, lent.is_full(), memory.offer()), (&b"abc"[..], false, None));
        drop(lent);
        assert_eq!((memory.offer(), memory.offer()), (Some(ids[0]), None));
    }

    #[test]
    #[should_panic(expected = "twice")]
    fn a_buffer_cannot_be_taken_twice() {
        let memory = Memory::new(1, 16).unwrap();
        let id = memory.offer().unwrap();
        let _one = memory.take(id, 1);
        let _other = memory.take(id, 1);
    }

    #[test]
    fn what_is_lent_outlives_whoever_lent_it() {
        let memory = Memory::new(1, 16).unwrap();
        let id = memory.offer().unwrap();
        let mut lent = memory.take(id, 16);
        drop(memory);
        lent.fill(7);
        assert!(lent.is_full() && lent.iter().all(|&byte| byte == 7));
    }
}

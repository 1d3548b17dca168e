//! Provided buffers: memory of the shard that the kernel receives into, offered to it in a ring of its own
//! (IORING_REGISTER_PBUF_RING, Linux 5.19).
//!
//! A buffer is either offered to the kernel, or held by the shard as a [`Lent`], or free. A completion that names a
//! buffer yields a `Lent`, whatever its result (on Linux 6.1 a receive that ends in EAGAIN has used up a buffer, too).
//! Dropping the `Lent` frees the buffer, so it cannot be freed twice. Free buffers are offered to the kernel at the
//! next turn of the ring.

use super::mapping::Mapping;
use io_uring::{IoUring, types::BufRingEntry};
use std::cell::RefCell;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

/// The buffer group; a shard has one.
pub const GROUP: u16 = 0;

/// Buffers of one size in one mapping, and the state of each.
pub struct Memory {
    mapping: Mapping,
    count: u16,
    size: u32,
    places: RefCell<Places>,
}

/// The state of each buffer.
struct Places {
    /// By number: held by the shard, or free; else offered to the kernel.
    here: Box<[bool]>,
    /// Numbers of those that are free.
    free: Vec<u16>,
}

impl Memory {
    /// Maps `count` buffers of `size` bytes each, neither of them zero. All are free; pages are backed by memory when
    /// the kernel first writes them.
    ///
    /// # Errors
    /// As [`Mapping::new`].
    pub fn new(count: u16, size: u32) -> io::Result<Rc<Memory>> {
        let mapping = Mapping::new(usize::from(count) * size as usize)?;
        let places = Places { here: vec![true; count.into()].into(), free: (0..count).collect() };
        Ok(Rc::new(Memory { mapping, count, size, places: RefCell::new(places) }))
    }

    /// Bytes of one buffer.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Takes a free buffer to offer it to the kernel: its number, or `None` if no buffer is free.
    pub fn offer(&self) -> Option<u16> {
        let mut places = self.places.borrow_mut();
        let id = places.free.pop()?;
        places.here[usize::from(id)] = false;
        Some(id)
    }

    /// Buffer number `id`, of which the kernel has written `len` bytes, as a completion says.
    ///
    /// # Panics
    /// The buffer was not offered to the kernel, or is shorter: what completions say cannot be relied upon any more.
    pub fn take(self: &Rc<Memory>, id: u16, len: usize) -> Lent {
        assert!(id < self.count && len <= self.size as usize, "the kernel named a buffer that is not ours");
        let here = &mut self.places.borrow_mut().here[usize::from(id)];
        assert!(!std::mem::replace(here, true), "the kernel handed a buffer over twice");
        Lent { memory: self.clone(), id, len }
    }

    /// Number of free buffers.
    pub fn free(&self) -> usize {
        self.places.borrow().free.len()
    }

    fn address(&self, id: u16) -> NonNull<u8> {
        self.mapping.at(usize::from(id) * self.size as usize)
    }
}

/// The bytes that the kernel has received into a buffer. Dropping it frees the buffer.
#[must_use]
pub struct Lent {
    memory: Rc<Memory>,
    id: u16,
    len: usize,
}

impl Lent {
    /// Whether all of the buffer was written: the socket may have more.
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
        f.debug_struct("Lent").field("id", &self.id).field("len", &self.len).finish_non_exhaustive()
    }
}

/// Tries whether this kernel has provided buffer rings, with one buffer that is taken back at once.
///
/// # Errors
/// As [`Buffers::lend_to`]; EINVAL before Linux 5.19.
pub fn try_lending(ring: &IoUring) -> io::Result<()> {
    // SAFETY: what the ring was lent is taken back from it before it goes.
    let lent = unsafe { Buffers::lend_to(ring, 1, 4096)? };
    let freed = ring.submitter().unregister_buf_ring(GROUP);
    drop(lent);
    freed
}

/// The ring of offered buffers (struct io_uring_buf_ring), of which the kernel reads the entries and the tail.
pub struct Buffers {
    entries: Mapping,
    memory: Rc<Memory>,
    tail: u16,
}

impl Buffers {
    /// Maps `count` buffers (a power of two, at most 32 768) of `size` bytes each, registers the ring, and offers them
    /// all.
    ///
    /// # Errors
    /// No memory, or the kernel refuses the registration (EINVAL: it has no provided buffer rings).
    ///
    /// # Safety
    /// What is returned must be dropped after the ring: until then the kernel writes into its memory.
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

    /// Number of buffers.
    pub fn count(&self) -> usize {
        self.memory.count.into()
    }

    /// The buffers themselves.
    pub fn memory(&self) -> &Rc<Memory> {
        &self.memory
    }

    /// Offers all free buffers to the kernel.
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

    /// Stores the tail (release: the kernel, which loads it with acquire, then sees the entries before it).
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

//! Provided buffers: the shard's own memory, lent to the kernel as a ring (IORING_REGISTER_PBUF_RING, Linux
//! 5.19), into which every recv writes. A buffer is out while the kernel may write or the shard still reads;
//! it goes back by [`Buffers::give_back`].

use io_uring::{IoUring, types::BufRingEntry};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// The one buffer group of a shard.
pub const GROUP: u16 = 0;

/// A ring of equal buffers.
pub struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    size: u32,
    tail: u16,
}

impl Buffers {
    /// Maps `count` (a power of two, at most 32 768) buffers of `size` bytes and lends them all. Pages are
    /// touched when the kernel first writes into them.
    ///
    /// # Errors
    /// No memory, or a kernel without provided buffer rings.
    pub fn lend_to(ring: &IoUring, count: u16, size: u32) -> io::Result<Buffers> {
        let entries = map(usize::from(count) * size_of::<BufRingEntry>())?.cast();
        let memory = map(usize::from(count) * size as usize)?;
        let mut buffers = Buffers { entries, memory, count, size, tail: 0 };
        // SAFETY: the entries are mapped, page-aligned, large enough for `count`, and live as long as `self`,
        // which uring.rs drops after the ring.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, count, GROUP, 0)? };
        (0..count).for_each(|id| buffers.give_back(id));
        Ok(buffers)
    }

    /// Bytes of one buffer.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The first `len` bytes of a buffer that the kernel has filled and not been given back.
    pub fn lent(&mut self, id: u16, len: usize) -> &mut [u8] {
        assert!(id < self.count && len <= self.size as usize, "the kernel named a buffer that is not ours");
        // SAFETY: within the mapping by the assertion; the kernel does not write into a buffer that it has
        // handed over, and `&mut self` keeps a second view away.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().add(self.offset(id)), len) }
    }

    /// Lends the buffer to the kernel again.
    pub fn give_back(&mut self, id: u16) {
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place` is below `count`; entries at and after the tail belong to us until the tail moves.
        let entry = unsafe { self.entries.add(place).as_mut() };
        entry.set_addr(self.memory.as_ptr() as u64 + self.offset(id) as u64);
        entry.set_len(self.size);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        self.publish();
    }

    fn offset(&self, id: u16) -> usize {
        usize::from(id) * self.size as usize
    }

    /// Release: the kernel must see the entry before it sees the tail.
    fn publish(&self) {
        // SAFETY: the tail's place in the mapped ring; the kernel reads it as an aligned u16 with acquire.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        let entries = usize::from(self.count) * size_of::<BufRingEntry>();
        let memory = usize::from(self.count) * self.size as usize;
        // SAFETY: both were mapped with these lengths in `lend_to`, and the ring that used them is gone.
        unsafe {
            libc::munmap(self.entries.as_ptr().cast(), entries);
            libc::munmap(self.memory.as_ptr().cast(), memory);
        }
    }
}

fn map(len: usize) -> io::Result<NonNull<u8>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing of ours.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(NonNull::new(start.cast()).expect("mmap gave null"))
    }
}

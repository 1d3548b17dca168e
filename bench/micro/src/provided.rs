//! Receive buffers that the kernel takes from a ring of provided buffers, and gives back filled.
//!
//! Group 0, all of one size, in one mapping. The kernel names a filled buffer in a completion; who has read it calls
//! [`Provided::give_back`]. There is no count of what is lent: who needs it keeps it.

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use memmap2::MmapMut;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// The buffers of a ring, as group 0.
pub struct Provided {
    entries: MmapMut,
    memory: MmapMut,
    bytes_each: u32,
    count: u16,
    tail: u16,
}

impl Provided {
    /// Registers `count` buffers (a power of two up to 32 768) of `bytes_each` bytes and lends them all.
    ///
    /// # Errors
    /// As mmap(2) and io_uring_register(2).
    ///
    /// # Safety
    /// The buffers must live longer than `ring`: the kernel reads and writes them as long as it has them.
    pub unsafe fn lend_to(ring: &IoUring, count: u16, bytes_each: u32) -> io::Result<Provided> {
        let mut entries = MmapMut::map_anon(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = MmapMut::map_anon(usize::from(count) * bytes_each as usize)?;
        let at = entries.as_mut_ptr() as u64;
        // SAFETY: the mapping is page-aligned, has room for `count` entries and, as the caller promised, is unmapped
        // only after the ring is gone.
        unsafe { ring.submitter().register_buf_ring_with_flags(at, count, 0, 0)? };
        let mut buffers = Provided { entries, memory, bytes_each, count, tail: 0 };
        (0..count).for_each(|id| buffers.give_back(id));
        Ok(buffers)
    }

    /// A buffer's memory, all of it. It holds something that stays only between its completion and its giving back.
    pub fn memory(&self, id: u16) -> &[u8] {
        let bytes_each = self.bytes_each as usize;
        &self.memory[usize::from(id) * bytes_each..][..bytes_each]
    }

    /// Lends a buffer again, which a completion named.
    #[expect(clippy::cast_ptr_alignment, reason = "the mapping is page-aligned")]
    pub fn give_back(&mut self, id: u16) {
        let (start, len) = (self.memory(id).as_ptr() as u64, self.bytes_each);
        let entries = self.entries.as_mut_ptr().cast::<BufRingEntry>();
        // SAFETY: the place is below `count`, for which the mapping has room; the kernel reads no entry at or behind
        // the tail.
        let entry = unsafe { &mut *entries.add(usize::from(self.tail & (self.count - 1))) };
        entry.set_addr(start);
        entry.set_len(len);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail's place in the mapped ring, an aligned u16 that the kernel only reads.
        let tail = unsafe { &*BufRingEntry::tail(entries).cast::<AtomicU16>() };
        // Release: the kernel must see the entry before the tail.
        tail.store(self.tail, Ordering::Release);
    }
}

//! Anonymous mappings (mmap(2)): page-aligned memory, zero and without pages until it is written, unmapped when
//! dropped.

use std::io;
use std::ptr::NonNull;

/// A private anonymous mapping.
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes, not zero.
    ///
    /// # Errors
    /// As mmap(2): ENOMEM, or EINVAL where `len` is zero.
    pub fn new(len: usize) -> io::Result<Mapping> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing of ours.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, kind, -1, 0) };
        // Address 0 is mapped only where it is asked for.
        let start = NonNull::new(start.cast()).filter(|_| start != libc::MAP_FAILED);
        Ok(Mapping { start: start.ok_or_else(io::Error::last_os_error)?, len })
    }

    /// The first byte. Valid until the mapping is dropped.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The byte at offset `place`, which may be just behind the last.
    ///
    /// # Panics
    /// The mapping is shorter than `place`.
    pub fn at(&self, place: usize) -> NonNull<u8> {
        assert!(place <= self.len, "a byte beyond its mapping");
        // SAFETY: within the mapping or just behind it by the assertion.
        unsafe { self.start.add(place) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped with this length in `new`; whoever took its address keeps the mapping for as long.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

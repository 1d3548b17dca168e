//! Anonymous memory straight from the kernel: backed when it is first written, gone when it is dropped.

use std::io;
use std::ptr::NonNull;

/// A mapping of this process alone.
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes, which is not zero; all of them are zero until they are written.
    ///
    /// # Errors
    /// No memory, or no room in the address space.
    pub fn new(len: usize) -> io::Result<Mapping> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing of ours.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { start: NonNull::new(start.cast()).expect("mmap gave null"), len })
    }

    /// The first byte. Valid for as long as the mapping is there.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The byte at this place, which may be the one behind the last.
    ///
    /// # Panics
    /// The mapping is not so long.
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

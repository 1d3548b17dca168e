//! Memory of atomics that is zero, and costs nothing where nobody has written.

use super::atomic::AtomicU64;

/// So many zeros. Many of them come as fresh pages of the kernel's (calloc), which are not there before they are
/// written.
pub fn zeroed(len: usize) -> Box<[AtomicU64]> {
    let plain = Box::into_raw(vec![0_u64; len].into_boxed_slice());
    // SAFETY: an `AtomicU64` has the size and the bits of a `u64` and, on every target with 64-bit pointers, its
    // alignment; nobody else has the allocation.
    unsafe { Box::from_raw(plain as *mut [AtomicU64]) }
}

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the alignment of AtomicU64 is not that of u64 everywhere else");

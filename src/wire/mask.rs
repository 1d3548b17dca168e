//! Masking and unmasking (RFC 6455 section 5.3): byte `i` becomes its XOR with `key[i % 4]`.
//!
//! Below [`SMALL`] bytes, as nearly every frame from a browser, eight bytes at a time, inlined. Above, the widest
//! vectors that this processor has, chosen once by [`choose`]; before that call the portable code is used, with the
//! same result. Every step is a multiple of four bytes, so the key need not be rotated between steps. A frame's payload
//! begins at any address. From 2 KiB on the bytes up to the next cache line are masked first: steps that cross no cache
//! line are a third faster on cached payloads of 4 KiB and more (bench/micro); below 2 KiB that costs more than it
//! gains.

use core::sync::atomic::{AtomicU8, Ordering};

/// Bytes from which on vectors are used.
pub const SMALL: usize = 64;

/// Bytes from which on aligning first is faster.
const LONG: usize = 2048;
/// Bytes of a cache line, and of the widest step.
const LINE: usize = 64;

/// An implementation of masking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Eight bytes at a time, any processor.
    Portable = 0,
    /// 16 bytes at a time, x86-64.
    Sse2 = 1,
    /// 32 bytes at a time, x86-64.
    Avx2 = 2,
    /// 64 bytes at a time, x86-64 with AVX-512 F and BW.
    Avx512 = 3,
    /// 16 bytes at a time, aarch64.
    Neon = 4,
}

impl Kind {
    /// Every kind; of those that one processor has, the widest is last.
    pub const ALL: [Kind; 5] = [Kind::Portable, Kind::Sse2, Kind::Avx2, Kind::Avx512, Kind::Neon];

    /// Whether this processor has the instructions for it.
    pub fn is_available(self) -> bool {
        match self {
            Kind::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Kind::Sse2 => true,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => avx2_there::get(),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => avx512_there::get(),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => true,
            #[allow(unreachable_patterns, reason = "on one processor's build some kind is always foreign")]
            _ => false,
        }
    }
}

#[cfg(target_arch = "x86_64")]
cpufeatures::new!(avx2_there, "avx2");
#[cfg(target_arch = "x86_64")]
cpufeatures::new!(avx512_there, "avx512f", "avx512bw");

/// The `Kind` that [`apply`] uses, as a number. Written only by [`choose`], with kinds that the processor has.
static CHOSEN: AtomicU8 = AtomicU8::new(Kind::Portable as u8);

/// Chooses the widest kind that this processor has, for the whole process, and returns it. To be called once at start;
/// [`apply`] is correct before and meanwhile.
pub fn choose() -> Kind {
    let widest = Kind::ALL.into_iter().rfind(|kind| kind.is_available()).unwrap_or(Kind::Portable);
    // Relaxed: the number stands for itself and orders nothing else.
    CHOSEN.store(widest as u8, Ordering::Relaxed);
    widest
}

/// The kind that [`apply`] uses: the one that was chosen, else [`Kind::Portable`].
#[inline]
pub fn kind() -> Kind {
    match CHOSEN.load(Ordering::Relaxed) {
        1 => Kind::Sse2,
        2 => Kind::Avx2,
        3 => Kind::Avx512,
        4 => Kind::Neon,
        _ => Kind::Portable,
    }
}

/// Masks or unmasks `bytes` in place, the first of them with `key[0]`.
#[inline]
pub fn apply(bytes: &mut [u8], key: [u8; 4]) {
    match bytes.len() {
        0..SMALL => portable(bytes, key),
        // SAFETY: `kind` is what `choose` stored, and `choose` stores only what the processor has.
        SMALL..LONG => unsafe { dispatch(kind(), bytes, key) },
        _ => long(bytes, key),
    }
}

/// Masks the bytes up to the next cache line first, so that no step crosses one.
fn long(bytes: &mut [u8], key: [u8; 4]) {
    let lead = bytes.as_ptr().align_offset(LINE).min(bytes.len());
    let (front, rest) = bytes.split_at_mut(lead);
    portable(front, key);
    // SAFETY: as in `apply`.
    unsafe { dispatch(kind(), rest, rotate(key, lead)) }
}

/// The key for the bytes behind the first `n` of a payload.
#[inline]
pub const fn rotate(key: [u8; 4], n: usize) -> [u8; 4] {
    u32::from_le_bytes(key).rotate_right(8 * (n % 4) as u32).to_le_bytes()
}

/// Masks with this kind, whatever the length; for tests and measurements.
///
/// `false`: this processor does not have it, and `bytes` are unchanged.
pub fn apply_with(kind: Kind, bytes: &mut [u8], key: [u8; 4]) -> bool {
    let there = kind.is_available();
    if there {
        // SAFETY: the processor has it, as just asked.
        unsafe { dispatch(kind, bytes, key) }
    }
    there
}

/// # Safety
/// The processor must have `kind`.
unsafe fn dispatch(kind: Kind, bytes: &mut [u8], key: [u8; 4]) {
    match kind {
        #[cfg(target_arch = "x86_64")]
        Kind::Sse2 => x86::sse2(bytes, key),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        Kind::Avx2 => unsafe { x86::avx2(bytes, key) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise.
        Kind::Avx512 => unsafe { x86::avx512(bytes, key) },
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => arm::neon(bytes, key),
        _ => portable(bytes, key),
    }
}

/// Eight bytes at a time, then the rest byte by byte.
#[inline]
fn portable(bytes: &mut [u8], key: [u8; 4]) {
    let wide = u64::from(u32::from_ne_bytes(key)) * 0x1_0000_0001;
    let (eights, rest) = bytes.as_chunks_mut::<8>();
    for eight in eights {
        *eight = (u64::from_ne_bytes(*eight) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::cast_ptr_alignment, reason = "the loads and stores used allow any alignment")]
#[allow(clippy::wildcard_imports, reason = "intrinsics and their types, with names of their own kind")]
mod x86 {
    use core::arch::x86_64::*;

    /// SSE2 belongs to every x86-64 processor, so this one is safe to call anywhere.
    pub(super) fn sse2(bytes: &mut [u8], key: [u8; 4]) {
        let (blocks, rest) = bytes.as_chunks_mut::<16>();
        // SAFETY: the intrinsic touches no memory, and SSE2 is there.
        let wide = unsafe { _mm_set1_epi32(i32::from_ne_bytes(key)) };
        for block in blocks {
            let at = block.as_mut_ptr().cast::<__m128i>();
            // SAFETY: `at` points to the 16 bytes of `block`, borrowed mutably; both accesses allow any alignment.
            unsafe { _mm_storeu_si128(at, _mm_xor_si128(_mm_loadu_si128(at), wide)) };
        }
        super::portable(rest, key);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(bytes: &mut [u8], key: [u8; 4]) {
        let (blocks, rest) = bytes.as_chunks_mut::<32>();
        let wide = _mm256_set1_epi32(i32::from_ne_bytes(key));
        for block in blocks {
            let at = block.as_mut_ptr().cast::<__m256i>();
            // SAFETY: `at` points to the 32 bytes of `block`, borrowed mutably; both accesses allow any alignment.
            unsafe { _mm256_storeu_si256(at, _mm256_xor_si256(_mm256_loadu_si256(at), wide)) };
        }
        super::portable(rest, key);
    }

    /// The rest is one load and one store under a byte mask, which needs BW.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn avx512(bytes: &mut [u8], key: [u8; 4]) {
        let (blocks, rest) = bytes.as_chunks_mut::<64>();
        let wide = _mm512_set1_epi32(i32::from_ne_bytes(key));
        for block in blocks {
            let at = block.as_mut_ptr().cast::<__m512i>();
            // SAFETY: `at` points to the 64 bytes of `block`, borrowed mutably; both accesses allow any alignment.
            unsafe { _mm512_storeu_si512(at, _mm512_xor_si512(_mm512_loadu_si512(at), wide)) };
        }
        let there = (1u64 << rest.len()) - 1;
        let at = rest.as_mut_ptr().cast::<i8>();
        // SAFETY: `rest` has fewer than 64 bytes and `there` one bit for each; bytes without a bit are not touched.
        unsafe { _mm512_mask_storeu_epi8(at, there, _mm512_xor_si512(_mm512_maskz_loadu_epi8(there, at), wide)) };
    }
}

#[cfg(target_arch = "aarch64")]
#[allow(clippy::wildcard_imports, reason = "intrinsics and their types, with names of their own kind")]
mod arm {
    use core::arch::aarch64::*;

    /// NEON belongs to every aarch64 Linux, so this one is safe to call anywhere.
    pub(super) fn neon(bytes: &mut [u8], key: [u8; 4]) {
        let (blocks, rest) = bytes.as_chunks_mut::<16>();
        // SAFETY: the intrinsics touch no memory, and NEON is there.
        let wide = unsafe { vreinterpretq_u8_u32(vdupq_n_u32(u32::from_ne_bytes(key))) };
        for block in blocks {
            let at = block.as_mut_ptr();
            // SAFETY: `at` points to the 16 bytes of `block`, borrowed mutably; both accesses allow any alignment.
            unsafe { vst1q_u8(at, veorq_u8(vld1q_u8(at), wide)) };
        }
        super::portable(rest, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    const KEYS: [[u8; 4]; 4] = [[0; 4], [1, 2, 3, 4], [0xff, 0, 0x80, 0x7f], [0xde, 0xad, 0xbe, 0xef]];

    fn naive(bytes: &mut [u8], key: [u8; 4]) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte ^= key[i % 4];
        }
    }

    /// Masks `len` bytes that begin `at` bytes behind a 64-byte border; what lies around them must stay.
    fn agrees(kind: Kind, at: usize, len: usize, key: [u8; 4], room: &mut [u8], wanted: &mut [u8]) {
        let at = room.as_ptr().align_offset(64) + at;
        naive(&mut wanted[at..at + len], key);
        assert!(apply_with(kind, &mut room[at..at + len], key));
        assert!(room == wanted, "{kind:?} at {at} length {len} key {key:x?}");
    }

    #[test]
    fn every_kind_agrees_with_the_definition() {
        let mut room: Vec<u8> = (0..1024 + 256).map(|i: u32| (i * 7 + i / 256) as u8).collect();
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_available()) {
            let mut wanted = room.clone();
            for at in 0..64 {
                for len in 0..=1024 {
                    KEYS.iter().for_each(|&key| agrees(kind, at, len, key, &mut room, &mut wanted));
                }
            }
        }
    }

    #[test]
    fn large_ones_too() {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_available()) {
            for len in [4096, 65_535, 65_536, 1_000_003] {
                let mut room = vec![0x5a; len + 128];
                let mut wanted = room.clone();
                agrees(kind, 3, len, KEYS[3], &mut room, &mut wanted);
            }
        }
    }

    #[test]
    fn long_ones_are_aligned_and_stay_the_same() {
        choose();
        for at in 0..64 {
            for len in (LONG - 2..LONG + 3).chain([3 * LONG + at]) {
                let mut room = vec![0x5a; len + 128];
                let mut wanted = room.clone();
                let at = room.as_ptr().align_offset(64) + at;
                naive(&mut wanted[at..at + len], KEYS[3]);
                apply(&mut room[at..at + len], KEYS[3]);
                assert!(room == wanted, "at {at} length {len}");
            }
        }
    }

    #[test]
    fn a_foreign_kind_is_refused_and_touches_nothing() {
        let foreign = Kind::ALL.into_iter().filter(|kind| !kind.is_available()).collect::<Vec<_>>();
        // NEON and SSE2 never meet on one processor, so there is always one.
        assert!(!foreign.is_empty());
        for kind in foreign {
            let mut bytes = [1; 100];
            assert!(!apply_with(kind, &mut bytes, KEYS[1]));
            assert_eq!(bytes, [1; 100]);
        }
    }

    #[test]
    fn the_chosen_one_is_used_and_the_key_turns() {
        assert!(choose().is_available());
        assert_eq!(kind(), choose());
        for cut in 0..300 {
            let mut whole: Vec<u8> = (0..300).map(|i: u32| i as u8).collect();
            let mut pieces = whole.clone();
            apply(&mut whole, KEYS[3]);
            let (front, back) = pieces.split_at_mut(cut);
            apply(front, KEYS[3]);
            apply(back, rotate(KEYS[3], cut));
            assert_eq!(whole, pieces, "cut at {cut}");
        }
    }
}

//! The context of one direction where it is taken over from message to message (RFC 7692 section 7.1.1).

use alloc::boxed::Box;

/// The size of a window where none was negotiated, as an exponent of two: 32 KiB (RFC 7692 section 7.1.2).
pub const MAX_WINDOW_BITS: u8 = 15;

/// What a message may refer back to: the last plain bytes of the messages that were sent deflated in one direction of a
/// connection.
///
/// Its memory is allocated once, in full, and never grows.
pub struct Window {
    bytes: Box<[u8]>,
    len: usize,
}

impl Window {
    /// An empty window of 2^`bits` bytes.
    ///
    /// # Panics
    /// With debug assertions, where `bits` is not 8 to 15.
    pub fn new(bits: u8) -> Window {
        debug_assert!((8..=MAX_WINDOW_BITS).contains(&bits));
        Window { bytes: alloc::vec![0; Window::size(bits)].into_boxed_slice(), len: 0 }
    }

    /// The memory of a window of `bits`, in bytes.
    pub const fn size(bits: u8) -> usize {
        1 << bits
    }

    /// Makes it empty, to be used for another connection.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// What it holds, oldest byte first.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Adds a message; the oldest bytes make room.
    #[allow(clippy::indexing_slicing, reason = "what is kept and what is new are made to fit in together")]
    pub(super) fn push(&mut self, message: &[u8]) {
        let size = self.bytes.len();
        let new = last(message, size);
        let kept = self.len.min(size - new.len());
        self.bytes.copy_within(self.len - kept..self.len, 0);
        self.bytes[kept..kept + new.len()].copy_from_slice(new);
        self.len = kept + new.len();
    }
}

/// The last `most` bytes, or all where there are fewer.
pub(super) fn last(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(most)..).unwrap_or(bytes)
}

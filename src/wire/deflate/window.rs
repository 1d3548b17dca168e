//! Context that is taken over from message to message: the plain bytes a message may refer back to.

use alloc::boxed::Box;

/// The window that is meant where nothing else is said: 32 KiB (RFC 7692 section 7.1.2).
pub const MAX_WINDOW_BITS: u8 = 15;

/// What a message may refer back to: the last plain bytes of one direction of a connection, deflated messages only.
///
/// Its memory is taken once and never grows.
pub struct Window {
    bytes: Box<[u8]>,
    len: usize,
}

impl Window {
    /// An empty window of 2^`bits` bytes; `bits` from 8 to 15.
    pub fn new(bits: u8) -> Window {
        debug_assert!((8..=MAX_WINDOW_BITS).contains(&bits));
        Window { bytes: alloc::vec![0; Window::size(bits)].into_boxed_slice(), len: 0 }
    }

    /// The memory of a window, in bytes.
    pub const fn size(bits: u8) -> usize {
        1 << bits
    }

    /// Empty again, for another connection.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Takes a message in; the oldest bytes make room.
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

/// The last `most` bytes.
pub(super) fn last(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(most)..).unwrap_or(bytes)
}

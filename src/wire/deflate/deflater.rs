//! Messages into their deflated form (RFC 7692 section 7.2.1).

use alloc::vec::Vec;
use core::mem::MaybeUninit;

use zlib_rs::{Deflate, DeflateFlush};

use super::{FIRST_ROOM, MAX_WINDOW_BITS, TAIL, Window};

/// The smallest window that messages are deflated for. RFC 7692 knows 8 too, but the compressor begins at 9.
pub const MIN_DEFLATE_BITS: u8 = 9;

/// Fast, with a Huffman code of its own for each message. Level 1 has none and leaves a third more bytes of a short
/// JSON text; from level 3 on the time grows faster than the gain.
const LEVEL: i32 = 2;

/// Deflates messages, for all connections of a thread. Holds one compressor for each window size that was used.
#[derive(Default)]
pub struct Deflater {
    streams: [Option<Deflate>; (MAX_WINDOW_BITS - MIN_DEFLATE_BITS + 1) as usize],
}

impl Deflater {
    /// Writes the payload of one message behind what is in `out` (RFC 7692 section 7.2.1).
    ///
    /// `bits`, 9 to 15, bounds how far back it refers. With a `window` it may refer to the messages before, and the
    /// window takes this one in. The result may be longer than `payload`, by a few bytes for each 16 KiB.
    pub fn message(&mut self, payload: &[u8], window: Option<&mut Window>, bits: u8, out: &mut Vec<u8>) {
        // What is empty would be another message: whoever says this loses the client, in every build.
        assert!(self.run(payload, window, bits, usize::MAX, out), "the compressor's state is not whole");
    }

    /// As [`Deflater::message`], but gives up where the result is not shorter than `payload`. `false`: nothing
    /// was written, and the window is as it was, since a message that goes out plain is not part of it.
    pub fn shorter(&mut self, payload: &[u8], window: Option<&mut Window>, bits: u8, out: &mut Vec<u8>) -> bool {
        !payload.is_empty() && self.run(payload, window, bits, payload.len() - 1, out)
    }

    /// Writes at most `most` bytes, or nothing.
    fn run(&mut self, payload: &[u8], window: Option<&mut Window>, bits: u8, most: usize, out: &mut Vec<u8>) -> bool {
        let (at, bits) = (out.len(), bits.clamp(MIN_DEFLATE_BITS, MAX_WINDOW_BITS));
        let place = self.stream(bits);
        // Taken out: one in which anything goes wrong is not used again.
        let mut stream = place.take().unwrap_or_else(|| Deflate::new(LEVEL, false, bits));
        stream.reset();
        if let Some(window) = window.as_deref().filter(|window| !window.bytes().is_empty()) {
            let primed = stream.set_dictionary(window.bytes());
            debug_assert!(primed.is_ok(), "a raw stream takes a dictionary before its first byte");
        }
        let flushed = flush(&mut stream, payload, out);
        if flushed {
            *place = Some(stream);
        }
        if !flushed || out.len() > at.saturating_add(most).saturating_add(TAIL.len()) {
            out.truncate(at);
            return false;
        }
        debug_assert!(out.ends_with(&TAIL) && out.len() >= at + TAIL.len());
        out.truncate(out.len() - TAIL.len());
        if let Some(window) = window {
            window.push(payload);
        }
        true
    }

    #[allow(clippy::indexing_slicing, reason = "there is a place for each of the sizes between the two")]
    fn stream(&mut self, bits: u8) -> &mut Option<Deflate> {
        &mut self.streams[usize::from(bits - MIN_DEFLATE_BITS)]
    }
}

/// Deflates `payload` with a sync flush behind it, and always to its end. `false`: the compressor has failed.
fn flush(stream: &mut Deflate, payload: &[u8], out: &mut Vec<u8>) -> bool {
    let mut used = 0;
    loop {
        let room = room(out, bound(payload.len() - used));
        let (room_len, before) = (room.len(), (stream.total_in(), stream.total_out()));
        let status = stream.compress_uninit(payload.get(used..).unwrap_or_default(), room, DeflateFlush::SyncFlush);
        debug_assert!(status.is_ok(), "the compressor's state is whole");
        let written = (stream.total_out() - before.1) as usize;
        used += (stream.total_in() - before.0) as usize;
        // SAFETY: the compressor has written so many bytes of the room behind the vector's end.
        unsafe { out.set_len(out.len() + written) };
        if status.is_err() {
            return false;
        }
        // Room that is left over says that the flush is complete.
        if used == payload.len() && written < room_len {
            return true;
        }
    }
}

/// More than so many bytes become when they are deflated and flushed: a literal takes nine bits at most, a block and
/// the flush a few bytes. A stream whose flush was not brought to its end must not be used again, not even when it has
/// been reset: with zlib-rs 0.6.8 a later block may then not fit into what is pending, and it panics
/// (`zng_tr_stored_block`).
fn bound(len: usize) -> usize {
    len + len / 8 + len / 1000 + FIRST_ROOM
}

/// So many bytes behind the vector's end.
#[allow(clippy::indexing_slicing, reason = "so much was reserved")]
fn room(out: &mut Vec<u8>, len: usize) -> &mut [MaybeUninit<u8>] {
    out.reserve(len);
    &mut out.spare_capacity_mut()[..len]
}

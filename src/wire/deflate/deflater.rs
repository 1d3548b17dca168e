//! Messages to be sent, into their deflated form (RFC 7692 section 7.2.1).

use alloc::vec::Vec;
use core::mem::MaybeUninit;

use zlib_rs::{Deflate, DeflateFlush};

use super::{FIRST_ROOM, MAX_WINDOW_BITS, TAIL, Window};

/// The smallest window that messages can be deflated for, as an exponent of two. RFC 7692 has 8 too, which the
/// compressor cannot do.
pub const MIN_DEFLATE_BITS: u8 = 9;

/// The compression level. 2 is fast and makes a Huffman code for each message; 1 makes none and leaves a third more
/// bytes of a short JSON text; from 3 on the time grows faster than the gain.
const LEVEL: i32 = 2;

/// Deflates messages, for all connections of a thread. Holds one compressor for each window size that has been used,
/// allocated at its first use.
#[derive(Default)]
pub struct Deflater {
    streams: [Option<Deflate>; (MAX_WINDOW_BITS - MIN_DEFLATE_BITS + 1) as usize],
}

impl Deflater {
    /// Appends the deflated form of one message to `out` (RFC 7692 section 7.2.1).
    ///
    /// `payload` is the whole message. `bits`, 9 to 15, is the agreed window: no reference goes back further than
    /// 2^`bits` bytes. With a `window` it may refer to the messages before, and this one is added to the window. The
    /// result may be longer than `payload`, by a few bytes for each 16 KiB.
    ///
    /// # Panics
    /// Where the compressor fails, which it never does on input: that is a fault in it, and the connection is lost.
    pub fn message(&mut self, payload: &[u8], window: Option<&mut Window>, bits: u8, out: &mut Vec<u8>) {
        // Nothing written would be another message, so the client must not receive it, in any build.
        assert!(self.run(payload, window, bits, usize::MAX, out), "the compressor's state is not whole");
    }

    /// As [`Deflater::message`], but only where the result is shorter than `payload`. `false`: `out` and the window are
    /// as they were; the message is to be sent as it is, and a message that is not deflated is no part of the context.
    #[must_use = "where it is false the message is to be sent as it is"]
    pub fn shorter(&mut self, payload: &[u8], window: Option<&mut Window>, bits: u8, out: &mut Vec<u8>) -> bool {
        !payload.is_empty() && self.run(payload, window, bits, payload.len() - 1, out)
    }

    /// Appends at most `most` bytes and returns `true`, or nothing and `false`.
    fn run(&mut self, payload: &[u8], window: Option<&mut Window>, bits: u8, most: usize, out: &mut Vec<u8>) -> bool {
        let (at, bits) = (out.len(), bits.clamp(MIN_DEFLATE_BITS, MAX_WINDOW_BITS));
        let place = self.stream(bits);
        // Taken out, so that a compressor that fails or panics is not used again.
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

    /// The place of the compressor for windows of this size.
    #[allow(clippy::indexing_slicing, reason = "there is a place for each of the sizes between the two")]
    fn stream(&mut self, bits: u8) -> &mut Option<Deflate> {
        &mut self.streams[usize::from(bits - MIN_DEFLATE_BITS)]
    }
}

/// Appends the deflated form of `payload` with a sync flush behind it, always to the flush's end. `false`: the
/// compressor has failed.
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
        // The flush is complete where the compressor has left room unused.
        if used == payload.len() && written < room_len {
            return true;
        }
    }
}

/// More bytes than `len` bytes can become when they are deflated and flushed: a literal takes nine bits at most, a
/// block and the flush a few bytes. With so much room a flush ends in one call. A stream whose flush has not been
/// brought to its end must not be used again, not even after a reset: in zlib-rs 0.6.8 a later block may then not fit
/// into the pending buffer, which panics (`zng_tr_stored_block`).
fn bound(len: usize) -> usize {
    len + len / 8 + len / 1000 + FIRST_ROOM
}

/// The `len` bytes behind the vector's end, reserved.
#[allow(clippy::indexing_slicing, reason = "so much was reserved")]
fn room(out: &mut Vec<u8>, len: usize) -> &mut [MaybeUninit<u8>] {
    out.reserve(len);
    &mut out.spare_capacity_mut()[..len]
}

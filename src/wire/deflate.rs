//! permessage-deflate (RFC 7692): what two ends agree on, and messages in and out of their deflated form.
//!
//! A connection holds no compressor. There is one [`Deflater`] and one [`Inflater`] for all connections of a thread,
//! reset before every message. Where a direction of a connection takes its context over from message to message, the
//! connection has a [`Window`] of that direction: the plain bytes that a message may refer back to. It is laid before
//! the message as a dictionary, which for raw deflate means the same as having gone on with the old stream.
//!
//! `offers` reads and writes Sec-WebSocket-Extensions.

mod offers;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::MaybeUninit;

use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush, Status};

pub use offers::{Agreed, AgreedText, Wishes, confirm, negotiate, offer};

/// The window that is meant where nothing else is said: 32 KiB (RFC 7692 section 7.1.2).
pub const MAX_WINDOW_BITS: u8 = 15;

/// The smallest window that messages are deflated for. RFC 7692 knows 8 too, but the compressor begins at 9.
pub const MIN_DEFLATE_BITS: u8 = 9;

/// What every message ends with, and what is not sent (RFC 7692 section 7.2.1): the end of an empty stored block.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// An empty last block: a stream that stands between two blocks ends with it, and one that does not ends otherwise.
const LAST_BLOCK: [u8; 2] = [0x03, 0x00];

/// Fast, with a Huffman code of its own for each message. Level 1 has none and leaves a third more bytes of a short
/// JSON text; from level 3 on the time grows faster than the gain.
const LEVEL: i32 = 2;

/// Streams that may end within one message for nothing; see [`Reading::restart`].
const FREE_RESTARTS: u64 = 4;

/// What each further end of a stream must have brought, in bytes of the message: an eighth of the most that is then
/// laid before the next stream.
const RESTART_BYTES: u64 = 4096;

/// Bytes laid before a message for which one byte of work is counted.
const LAID: u64 = 16;

/// The least room that is made for a message, in bytes.
const FIRST_ROOM: usize = 1024;

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

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Takes a message in; the oldest bytes make room.
    #[allow(clippy::indexing_slicing, reason = "what is kept and what is new are made to fit in together")]
    fn push(&mut self, message: &[u8]) {
        let size = self.bytes.len();
        let new = last(message, size);
        let kept = self.len.min(size - new.len());
        self.bytes.copy_within(self.len - kept..self.len, 0);
        self.bytes[kept..kept + new.len()].copy_from_slice(new);
        self.len = kept + new.len();
    }
}

/// The last `most` bytes.
fn last(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(most)..).unwrap_or(bytes)
}

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
        if let Some(window) = window.as_deref().filter(|window| window.len > 0) {
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

/// Why a deflated message is refused; the peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateFault {
    /// The message is longer than the limit.
    TooBig,
    /// The bytes are no deflated message (RFC 1951, RFC 7692 section 7.2.2).
    Corrupt,
}

/// Inflates messages, for all connections of a thread.
#[derive(Default)]
pub struct Inflater {
    stream: Option<Inflate>,
    work: u64,
}

impl Inflater {
    /// Writes what a whole message says behind what is in `out` (RFC 7692 section 7.2.2).
    ///
    /// `compressed` is the payload of all its frames. It may have blocks that call themselves the last (section
    /// 7.2.3.4), and may end with such a block: the RFC wants one more byte there, which who lets zlib finish its
    /// stream does not send. It may refer to the messages in `window`, which takes it in. Never makes more room in
    /// `out` than `limit` bytes for the message.
    ///
    /// # Errors
    /// [`InflateFault::TooBig`] with the first byte beyond `limit`; [`InflateFault::Corrupt`] where the bytes are
    /// malformed or stop within a block. `out` is then as it was, and the window must not be used again.
    pub fn message(
        &mut self,
        compressed: &[u8],
        window: Option<&mut Window>,
        limit: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), InflateFault> {
        let start = out.len();
        // Taken out, as the compressor's: what panics is not used again.
        let mut stream = self.stream.take().unwrap_or_else(|| Inflate::new(false, MAX_WINDOW_BITS));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(start);
        let mut reading =
            Reading { stream: &mut stream, window: window.as_deref(), out, start, limit, restarts: 0, work: 0 };
        let read = reading.message(compressed);
        self.work = reading.work;
        self.stream = Some(stream);
        match (read, window) {
            (Ok(()), Some(window)) => window.push(out.get(start..).unwrap_or_default()),
            (Ok(()), None) => {}
            (Err(_), _) => out.truncate(start),
        }
        read
    }

    /// What the last message has cost, whether it was refused or not: bytes read and written, and a sixteenth of those
    /// laid before it to be referred to, which are only copied. At most three for each byte of the message and of
    /// `limit`, and 64 KiB.
    pub const fn work(&self) -> u64 {
        self.work
    }
}

/// One message that is being inflated.
struct Reading<'a> {
    stream: &'a mut Inflate,
    window: Option<&'a Window>,
    out: &'a mut Vec<u8>,
    /// Where in `out` the message begins.
    start: usize,
    /// How long `out` may become.
    limit: usize,
    restarts: u64,
    /// See [`Inflater::work`].
    work: u64,
}

/// Where the bytes that were fed came to their end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Behind the last block of a stream.
    Ended,
    /// Anywhere else.
    Open,
}

impl Reading<'_> {
    fn message(&mut self, compressed: &[u8]) -> Result<(), InflateFault> {
        self.begin()?;
        if self.feed(compressed)? == Rest::Ended {
            return Ok(());
        }
        let said = self.out.len();
        // The tail is the end of an empty block that is not the last.
        let open = self.feed(&TAIL)? == Rest::Open;
        let silent = self.out.len() == said;
        if open && silent { self.is_between_blocks() } else { Err(InflateFault::Corrupt) }
    }

    /// A fresh stream that knows what came before: the window, and what this message has said so far.
    fn begin(&mut self) -> Result<(), InflateFault> {
        self.stream.reset(false);
        let said = self.out.get(self.start..).unwrap_or_default();
        let said = last(said, Window::size(MAX_WINDOW_BITS));
        let window = self.window.map(Window::bytes).filter(|_| said.len() < Window::size(MAX_WINDOW_BITS));
        for known in [window.unwrap_or_default(), said] {
            if !known.is_empty() {
                self.work += known.len() as u64 / LAID;
                self.stream.set_dictionary(known).map_err(|_| InflateFault::Corrupt)?;
            }
        }
        Ok(())
    }

    fn feed(&mut self, mut input: &[u8]) -> Result<Rest, InflateFault> {
        loop {
            let (used, written, room, status) = self.step(input)?;
            input = input.get(used..).ok_or(InflateFault::Corrupt)?;
            match status {
                Status::StreamEnd if input.is_empty() => return Ok(Rest::Ended),
                Status::StreamEnd => self.restart()?,
                // Room that is left over says that there is nothing more in this input.
                Status::Ok | Status::BufError if written < room && input.is_empty() => return Ok(Rest::Open),
                Status::Ok | Status::BufError if used + written == 0 => return Err(InflateFault::Corrupt),
                Status::Ok | Status::BufError => {}
            }
        }
    }

    /// One call of the library: bytes used, bytes written, the room that there was, and how it went.
    fn step(&mut self, input: &[u8]) -> Result<(usize, usize, usize, Status), InflateFault> {
        let (len, left) = (self.out.len(), self.limit.saturating_sub(self.out.len()));
        let before = (self.stream.total_in(), self.stream.total_out());
        let mut beyond = [MaybeUninit::uninit()];
        let room = if left == 0 {
            &mut beyond[..]
        } else {
            // Doubled by hand: a vector that grows by itself may take twice the limit.
            let wanted = (self.out.capacity() - len).max(len - self.start).max(FIRST_ROOM).min(left);
            self.out.reserve_exact(wanted);
            self.out.spare_capacity_mut().get_mut(..wanted).ok_or(InflateFault::Corrupt)?
        };
        let room_len = room.len();
        let status = self.stream.decompress_uninit(input, room, InflateFlush::NoFlush);
        let used = (self.stream.total_in() - before.0) as usize;
        let written = (self.stream.total_out() - before.1) as usize;
        self.work += (used + written) as u64;
        if left == 0 && written > 0 {
            return Err(InflateFault::TooBig);
        }
        if written > room_len {
            return Err(InflateFault::Corrupt);
        }
        // SAFETY: the library has written so many bytes of the room behind the vector's end, and they are no more than
        // that has.
        unsafe { self.out.set_len(len + written) };
        status.map(|status| (used, written, room_len, status)).map_err(|_| InflateFault::Corrupt)
    }

    /// A block called itself the last (RFC 7692 section 7.2.3.4), and the message goes on with another stream. To begin
    /// one costs far more than the two bytes that ask for it, so a message must have brought something for each.
    fn restart(&mut self) -> Result<(), InflateFault> {
        self.restarts += 1;
        let said = (self.out.len() - self.start) as u64;
        if self.restarts > FREE_RESTARTS + said / RESTART_BYTES {
            return Err(InflateFault::Corrupt);
        }
        self.begin()
    }

    /// A message must not stop within a block: what the tail was taken for would be lost or wrong. Asked by one more
    /// block; within a compressed block it may by chance be taken for the right end, but hardly ever is.
    fn is_between_blocks(&mut self) -> Result<(), InflateFault> {
        let before = (self.stream.total_in(), self.stream.total_out());
        let mut beyond = [0];
        let status = self.stream.decompress(&LAST_BLOCK, &mut beyond, InflateFlush::NoFlush);
        let used = self.stream.total_in() - before.0;
        let silent = self.stream.total_out() == before.1;
        let ended = status == Ok(Status::StreamEnd) && used == LAST_BLOCK.len() as u64;
        if ended && silent { Ok(()) } else { Err(InflateFault::Corrupt) }
    }
}

//! Received messages, out of their deflated form (RFC 7692 section 7.2.2).

use alloc::vec::Vec;
use core::mem::MaybeUninit;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::window::last;
use super::{FIRST_ROOM, MAX_WINDOW_BITS, TAIL, Window};

/// An empty block that is the last of its stream (RFC 1951 section 3.2.6): exactly a stream that stands between two
/// blocks ends with it.
const LAST_BLOCK: [u8; 2] = [0x03, 0x00];

/// How often a stream may end within one message whatever the message has brought; see [`Inflating::restart`].
const FREE_RESTARTS: u64 = 4;

/// Bytes of message that must have been written for each further end of a stream: an eighth of the longest dictionary
/// that is then set for the next stream.
const RESTART_BYTES: u64 = 4096;

/// Bytes of dictionary that count as one byte of work.
const PRIMED: u64 = 16;

/// Why a deflated message is refused; the peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateFault {
    /// The message is longer than the limit.
    TooBig,
    /// The bytes are not a deflated message (RFC 1951, RFC 7692 section 7.2.2).
    Corrupt,
}

/// Inflates messages, for all connections of a thread. Holds one decompressor, allocated at its first use.
#[derive(Default)]
pub struct Inflater {
    stream: Option<Inflate>,
    work: u64,
}

impl Inflater {
    /// Appends the plain form of a whole message to `out` (RFC 7692 section 7.2.2).
    ///
    /// `compressed` is the payload of all its frames. It may have blocks with BFINAL set (section 7.2.3.4), and may end
    /// behind such a block: the RFC demands one more byte there, which peers that let zlib finish the stream do not
    /// send. It may refer to the messages in `window`, to which its plain form is added. Reserves no more in `out` than
    /// `limit` bytes for the message.
    ///
    /// # Errors
    /// [`InflateFault::TooBig`] where the message has more than `limit` bytes; [`InflateFault::Corrupt`] where the
    /// bytes are malformed or end within a block. `out` is then as it was, and the window must not be used again.
    pub fn message(
        &mut self,
        compressed: &[u8],
        window: Option<&mut Window>,
        limit: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), InflateFault> {
        let start = out.len();
        // Taken out, so that a decompressor that panics is not used again.
        let mut stream = self.stream.take().unwrap_or_else(|| Inflate::new(false, MAX_WINDOW_BITS));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(start);
        let mut reading =
            Inflating { stream: &mut stream, window: window.as_deref(), out, start, limit, restarts: 0, work: 0 };
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

    /// The work of the last message, whether it was refused or not, in bytes: those read and written, and a sixteenth
    /// of those set as dictionaries, which are only copied. At most three for each byte of the message and of `limit`,
    /// and 64 KiB.
    pub const fn work(&self) -> u64 {
        self.work
    }
}

/// One message that is being inflated.
struct Inflating<'a> {
    stream: &'a mut Inflate,
    window: Option<&'a Window>,
    out: &'a mut Vec<u8>,
    /// The length that `out` had before the message.
    start: usize,
    /// The length that `out` may reach.
    limit: usize,
    /// How often a stream has ended with bytes behind its end.
    restarts: u64,
    /// See [`Inflater::work`].
    work: u64,
}

/// Where the stream stands when all its input has been used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamState {
    /// Behind its last block.
    Ended,
    /// Anywhere else: more input is expected.
    Open,
}

impl Inflating<'_> {
    fn message(&mut self, compressed: &[u8]) -> Result<(), InflateFault> {
        self.begin()?;
        if self.feed(compressed)? == StreamState::Ended {
            return Ok(());
        }
        let before = self.out.len();
        // The tail ends an empty stored block that is not the last, so the stream must stay open and write nothing.
        let open = self.feed(&TAIL)? == StreamState::Open;
        let nothing_more = self.out.len() == before;
        if open && nothing_more { self.is_between_blocks() } else { Err(InflateFault::Corrupt) }
    }

    /// Begins a stream whose dictionary is the window and what this message has written so far.
    fn begin(&mut self) -> Result<(), InflateFault> {
        self.stream.reset(false);
        let written = self.out.get(self.start..).unwrap_or_default();
        let written = last(written, Window::size(MAX_WINDOW_BITS));
        let window = self.window.map(Window::bytes).filter(|_| written.len() < Window::size(MAX_WINDOW_BITS));
        for dictionary in [window.unwrap_or_default(), written] {
            if !dictionary.is_empty() {
                self.work += dictionary.len() as u64 / PRIMED;
                self.stream.set_dictionary(dictionary).map_err(|_| InflateFault::Corrupt)?;
            }
        }
        Ok(())
    }

    /// Inflates all of `input`.
    fn feed(&mut self, mut input: &[u8]) -> Result<StreamState, InflateFault> {
        loop {
            let (used, written, room, status) = self.step(input)?;
            input = input.get(used..).ok_or(InflateFault::Corrupt)?;
            match status {
                Status::StreamEnd if input.is_empty() => return Ok(StreamState::Ended),
                Status::StreamEnd => self.restart()?,
                // Room that is left unused means that this input gives nothing more.
                Status::Ok | Status::BufError if written < room && input.is_empty() => return Ok(StreamState::Open),
                Status::Ok | Status::BufError if used + written == 0 => return Err(InflateFault::Corrupt),
                Status::Ok | Status::BufError => {}
            }
        }
    }

    /// One call of the library: bytes used, bytes written, the room that there was, and the status.
    fn step(&mut self, input: &[u8]) -> Result<(usize, usize, usize, Status), InflateFault> {
        let (len, left) = (self.out.len(), self.limit.saturating_sub(self.out.len()));
        let before = (self.stream.total_in(), self.stream.total_out());
        let mut beyond = [MaybeUninit::uninit()];
        let room = if left == 0 {
            &mut beyond[..]
        } else {
            // Doubled here: a vector that grows by itself may allocate twice the limit.
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

    /// Behind a block with BFINAL set (RFC 7692 section 7.2.3.4) the message goes on with another stream. To begin one
    /// costs far more than the two bytes of an empty last block, so a message must have written something for each.
    fn restart(&mut self) -> Result<(), InflateFault> {
        self.restarts += 1;
        let written = (self.out.len() - self.start) as u64;
        if self.restarts > FREE_RESTARTS + written / RESTART_BYTES {
            return Err(InflateFault::Corrupt);
        }
        self.begin()
    }

    /// Whether the message ended between two blocks, as it must: within a block the tail would have been read as data.
    /// Found out by [`LAST_BLOCK`]. Within a compressed block its bits may by chance end the stream too, which is rare
    /// and passes.
    fn is_between_blocks(&mut self) -> Result<(), InflateFault> {
        let before = (self.stream.total_in(), self.stream.total_out());
        let mut beyond = [0];
        let status = self.stream.decompress(&LAST_BLOCK, &mut beyond, InflateFlush::NoFlush);
        let used = self.stream.total_in() - before.0;
        let nothing_more = self.stream.total_out() == before.1;
        let ended = status == Ok(Status::StreamEnd) && used == LAST_BLOCK.len() as u64;
        if ended && nothing_more { Ok(()) } else { Err(InflateFault::Corrupt) }
    }
}

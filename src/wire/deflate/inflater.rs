//! Messages out of their deflated form (RFC 7692 section 7.2.2).

use alloc::vec::Vec;
use core::mem::MaybeUninit;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::window::last;
use super::{FIRST_ROOM, MAX_WINDOW_BITS, TAIL, Window};

/// An empty last block: a stream that stands between two blocks ends with it, and one that does not ends otherwise.
const LAST_BLOCK: [u8; 2] = [0x03, 0x00];

/// Streams that may end within one message for nothing; see [`Reading::restart`].
const FREE_RESTARTS: u64 = 4;

/// What each further end of a stream must have brought, in bytes of the message: an eighth of the most that is then
/// laid before the next stream.
const RESTART_BYTES: u64 = 4096;

/// Bytes laid before a message for which one byte of work is counted.
const LAID: u64 = 16;

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

//! What the measurements share: the sizes, the payloads, streams of frames that never end, buffers for a ring, a core
//! to run on and its clock.
//!
//! Everything is the same in every run: fixed keys, fixed contents.

pub mod provided;

use edgehold_wire::{mask, ws};
use rustix::time::{ClockId, clock_gettime};
use std::io::{self, Read, Write};

/// The payload sizes, in bytes: from a short chat line to the largest message one expects.
pub const SIZES: [usize; 9] = [16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];

/// The masking key of every frame.
pub const KEY: [u8; 4] = [0x9d, 0x37, 0xe5, 0x42];

/// A stream of frames is repeated after so many bytes of payload (or after one frame, if that is longer): enough to
/// make a batch worth its timing, little enough to stay in the second-level cache.
pub const BATCH_BYTES: usize = 64 << 10;

/// Puts the calling thread on one core.
///
/// # Errors
/// There is no such core, or it is not allowed.
pub fn pin(id: usize) -> io::Result<()> {
    // The set of cores has no room for more, and core_affinity does not look.
    let pinned = id < libc::CPU_SETSIZE as usize && core_affinity::set_for_current(core_affinity::CoreId { id });
    if pinned { Ok(()) } else { Err(io::Error::other(format!("cannot run on core {id}"))) }
}

/// Processor time of the calling thread in nanoseconds, user and system together.
pub fn processor_ns() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// What the payloads hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Every byte value.
    Binary,
    /// Text of one byte per character.
    Ascii,
    /// Text with characters of one to four bytes, mostly of one.
    Mixed,
}

impl Content {
    /// `len` bytes of it; text ends with a whole character.
    pub fn payload(self, len: usize) -> Vec<u8> {
        match self {
            Content::Binary => (0..len).map(|i| (i * 7 + i / 256) as u8).collect(),
            Content::Ascii => repeat(r#"{"type":"message","user":"zoe","text":"see you at five"} "#, len),
            Content::Mixed => repeat(r#"{"type":"message","user":"Zoë","text":"um fünf, 東京 🙂"} "#, len),
        }
    }
}

/// The text again and again, cut to `len` bytes; where a character does not fit, spaces stand.
fn repeat(text: &str, len: usize) -> Vec<u8> {
    let mut all = text.repeat(len / text.len() + 1);
    let end = (0..=len).rev().find(|&at| all.is_char_boundary(at)).unwrap_or(0);
    all.truncate(end);
    let mut bytes = all.into_bytes();
    bytes.resize(len, b' ');
    bytes
}

/// Equal frames one after the other, each a whole message, as a client sends them (or without a mask).
#[derive(Clone, Debug)]
pub struct Batch {
    /// As on the wire.
    pub bytes: Vec<u8>,
    /// The number of frames.
    pub frames: usize,
}

impl Batch {
    /// Frames with `size` bytes of payload each.
    pub fn new(content: Content, size: usize, key: Option<[u8; 4]>) -> Batch {
        let opcode = if content == Content::Binary { ws::Opcode::Binary } else { ws::Opcode::Text };
        let mut frame = ws::head(opcode, true, size as u64, key).as_bytes().to_vec();
        let at = frame.len();
        frame.extend(content.payload(size));
        mask::apply(&mut frame[at..], key.unwrap_or_default());
        let frames = (BATCH_BYTES / size).max(1);
        Batch { bytes: frame.repeat(frames), frames }
    }

    /// Bytes of payload, all frames together.
    pub fn payload_bytes(&self, size: usize) -> usize {
        self.frames * size
    }
}

/// A stream that gives the same bytes over and over, as many at once as are asked for; nothing is ever written to it.
#[derive(Clone, Debug)]
pub struct Endless {
    bytes: Vec<u8>,
    at: usize,
}

impl Endless {
    /// Begins at the front of `bytes`.
    ///
    /// # Panics
    /// `bytes` is empty.
    pub fn new(bytes: Vec<u8>) -> Endless {
        assert!(!bytes.is_empty(), "nothing to repeat");
        Endless { bytes, at: 0 }
    }

    /// After how many bytes it repeats.
    pub fn period(&self) -> usize {
        self.bytes.len()
    }

    /// The next piece, up to the end of the bytes and up to `len` long.
    pub fn next(&mut self, len: usize) -> &[u8] {
        let start = self.at;
        let end = self.bytes.len().min(start + len);
        self.at = if end == self.bytes.len() { 0 } else { end };
        &self.bytes[start..end]
    }
}

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let piece = self.next(into.len());
        into[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

impl Write for Endless {
    /// Always an error: pings and faults, which are answered, do not occur in these streams.
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_length_and_text_is_text() {
        for len in SIZES.into_iter().chain(0..200) {
            for content in [Content::Binary, Content::Ascii, Content::Mixed] {
                assert_eq!(content.payload(len).len(), len);
            }
            assert!(Content::Ascii.payload(len).is_ascii());
            assert!(str::from_utf8(&Content::Mixed.payload(len)).is_ok());
        }
        assert!(!Content::Mixed.payload(200).is_ascii());
    }

    #[test]
    fn a_batch_parses_to_its_payloads() {
        let config = ws::ParserConfig { role: ws::Role::Server, message_bytes: 1 << 20, deflate: false };
        for size in SIZES {
            let mut batch = Batch::new(Content::Mixed, size, Some(KEY));
            let (mut parser, mut input, mut frames) = (ws::Parser::new(), &mut batch.bytes[..], 0);
            while let Some(event) = parser.next(&mut input, &config).unwrap() {
                let payload = &Content::Mixed.payload(size)[..];
                assert_eq!(
                    event,
                    ws::FrameEvent::Data { text: true, deflated: false, first: true, last: true, payload }
                );
                frames += 1;
            }
            assert_eq!((frames, input.len()), (batch.frames, 0));
        }
    }

    #[test]
    fn an_endless_stream_repeats() {
        let mut stream = Endless::new(b"abcde".to_vec());
        let mut bytes = [0; 12];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"abcdeabcdeab");
        assert!(stream.write_all(b"x").is_err());
    }
}

//! Content: that of a request is read in pieces as it comes, chunks of a response are written.

use alloc::vec::Vec;

use super::fields::{is_text, is_token};
use super::{Body, Refusal};

/// The most bytes of chunk extensions in one body, leading zeros of chunk sizes included (RFC 9112 section 7.1.1 asks
/// for such a limit).
pub const MAX_EXTENSION_BYTES: u32 = 4096;

/// The most bytes of names and values in the trailer section of one body (RFC 9112 section 7.1.2).
pub const MAX_TRAILER_BYTES: u32 = 8192;

/// Reads the content of one request in pieces as it comes. Trailer fields and chunk extensions are checked and dropped.
///
/// Call [`next`](BodyReader::next) until it gives `More` or `End`. The content's size has no limit here: the caller
/// counts the bytes of the pieces. Holds no content, allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct BodyReader {
    state: BodyState,
    /// Bytes of content of this chunk or body that have not come yet; while a chunk size is read, the size so far.
    left: u64,
    /// Bytes of chunk extensions so far, in all chunks; at most [`MAX_EXTENSION_BYTES`].
    extension: u32,
    /// Bytes of trailer fields so far; at most [`MAX_TRAILER_BYTES`].
    trailer: u32,
}

/// Named by what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyState {
    /// `left` bytes of a body that has a length.
    Content,
    /// The first digit of a chunk size.
    Size,
    /// More digits, or what ends them.
    SizeMore,
    /// White space after the size: only an extension may follow (RFC 9112 section 7.1.1).
    ExtensionBegin,
    /// The rest of an extension.
    Extension,
    /// The LF after a chunk size.
    SizeEnd,
    /// `left` bytes of a chunk.
    Chunk,
    /// The CR after a chunk.
    ChunkCr,
    /// The LF after a chunk.
    ChunkEnd,
    /// A trailer line or the CR of the last line.
    Trailer,
    /// More of a trailer's name.
    TrailerName,
    /// The rest of a trailer line.
    TrailerValue,
    /// The LF after a trailer line.
    TrailerEnd,
    /// The last LF.
    LastEnd,
    /// Nothing.
    Done,
}

/// What [`BodyReader::next`] found at the front of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEvent<'b> {
    /// The next piece of content, never empty: all that is there of this chunk or body.
    Piece(&'b [u8]),
    /// The input is used up and the content has not ended.
    More,
    /// The content has ended; what is left in the input belongs to the next request. Returned again by every later
    /// call.
    End,
}

impl BodyReader {
    /// A reader that stands at the first byte behind the head.
    pub fn new(body: &Body) -> Self {
        let (state, left) = match *body {
            Body::None | Body::Length(0) => (BodyState::Done, 0),
            Body::Length(length) => (BodyState::Content, length),
            Body::Chunked => (BodyState::Size, 0),
        };
        BodyReader { state, left, extension: 0, trailer: 0 }
    }

    /// Takes the next piece, or the end, off the front of `input`, together with the framing before it.
    ///
    /// # Errors
    /// [`Refusal::BadChunk`], [`Refusal::BigChunk`], [`Refusal::LongExtension`] or [`Refusal::LongTrailer`], at the
    /// same byte however the content is cut. The reader must not be used again; nothing behind can be read.
    pub fn next<'b>(&mut self, input: &mut &'b [u8]) -> Result<BodyEvent<'b>, Refusal> {
        loop {
            if self.state == BodyState::Done {
                return Ok(BodyEvent::End);
            }
            let Some((&byte, rest)) = input.split_first() else {
                return Ok(BodyEvent::More);
            };
            if matches!(self.state, BodyState::Content | BodyState::Chunk) {
                return Ok(BodyEvent::Piece(self.piece(input)));
            }
            self.state = self.step(byte)?;
            *input = rest;
        }
    }

    /// Whether the last byte of the content and its framing has been read.
    pub fn is_done(&self) -> bool {
        self.state == BodyState::Done
    }

    /// What is there of the current chunk or body.
    fn piece<'b>(&mut self, input: &mut &'b [u8]) -> &'b [u8] {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        let (piece, rest) = input.split_at_checked(len).unwrap_or_default();
        *input = rest;
        self.left = self.left.saturating_sub(len as u64);
        if self.left == 0 {
            self.state = if self.state == BodyState::Content { BodyState::Done } else { BodyState::ChunkCr };
        }
        piece
    }

    /// The state behind one byte of framing, that is, of anything but content (RFC 9112 sections 7.1, 7.1.1 and 7.1.2).
    fn step(&mut self, byte: u8) -> Result<BodyState, Refusal> {
        Ok(match (self.state, byte) {
            (BodyState::Size | BodyState::SizeMore, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte)?,
            (BodyState::SizeMore | BodyState::Extension, b'\r') => BodyState::SizeEnd,
            (BodyState::SizeMore | BodyState::ExtensionBegin, b' ' | b'\t') => {
                self.extension(BodyState::ExtensionBegin)?
            }
            (BodyState::SizeMore | BodyState::ExtensionBegin, b';') => self.extension(BodyState::Extension)?,
            (BodyState::Extension, _) if is_text(byte) => self.extension(BodyState::Extension)?,
            (BodyState::SizeEnd, b'\n') if self.left == 0 => BodyState::Trailer,
            (BodyState::SizeEnd, b'\n') => BodyState::Chunk,
            (BodyState::ChunkCr, b'\r') => BodyState::ChunkEnd,
            (BodyState::ChunkEnd, b'\n') => BodyState::Size,
            (BodyState::Trailer, b'\r') => BodyState::LastEnd,
            (BodyState::Trailer | BodyState::TrailerName, _) if is_token(byte) => {
                self.trailer(BodyState::TrailerName)?
            }
            (BodyState::TrailerName, b':') => self.trailer(BodyState::TrailerValue)?,
            (BodyState::TrailerValue, b'\r') => BodyState::TrailerEnd,
            (BodyState::TrailerValue, _) if is_text(byte) => self.trailer(BodyState::TrailerValue)?,
            (BodyState::TrailerEnd, b'\n') => BodyState::Trailer,
            (BodyState::LastEnd, b'\n') => BodyState::Done,
            _ => return Err(Refusal::BadChunk),
        })
    }

    /// A digit of a chunk size. RFC 9112 section 7.1: recipients must anticipate large sizes and prevent overflow.
    fn digit(&mut self, byte: u8) -> Result<BodyState, Refusal> {
        let digit = char::from(byte).to_digit(16).unwrap_or(0);
        // A chunk begins with `left` at zero, since the one before has been used up.
        self.left = self.left.checked_mul(16).ok_or(Refusal::BigChunk)? | u64::from(digit);
        // Leading zeros never overflow the size, so they are counted as extension to bound them.
        if self.left == 0 { self.extension(BodyState::SizeMore) } else { Ok(BodyState::SizeMore) }
    }

    /// Counts one byte of a chunk extension and goes on with `then`.
    fn extension(&mut self, then: BodyState) -> Result<BodyState, Refusal> {
        self.extension += 1;
        if self.extension > MAX_EXTENSION_BYTES { Err(Refusal::LongExtension) } else { Ok(then) }
    }

    /// Counts one byte of a trailer field and goes on with `then`.
    fn trailer(&mut self, then: BodyState) -> Result<BodyState, Refusal> {
        self.trailer += 1;
        if self.trailer > MAX_TRAILER_BYTES { Err(Refusal::LongTrailer) } else { Ok(then) }
    }
}

/// The last chunk, which ends a chunked body without trailer fields (RFC 9112 section 7.1).
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// `data` as one chunk (RFC 9112 section 7.1): its size in hexadecimal, CR LF, the data, CR LF. Empty for empty `data`,
/// since a chunk of size 0 would end the body.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    use core::fmt::Write as _;
    let mut size = alloc::string::String::new();
    let _ = write!(size, "{:x}\r\n", data.len());
    if data.is_empty() { Vec::new() } else { [size.as_bytes(), data, b"\r\n"].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use core::str;

    /// All content and the number of bytes behind its end (`usize::MAX`: it has not ended), or the refusal.
    fn content(bytes: &[u8], body: Body) -> Result<(String, usize), Refusal> {
        let (mut reader, mut input, mut content) = (BodyReader::new(&body), bytes, String::new());
        loop {
            match reader.next(&mut input)? {
                BodyEvent::Piece(piece) => content.push_str(str::from_utf8(piece).unwrap()),
                BodyEvent::More => return Ok((content, usize::MAX)),
                BodyEvent::End => return Ok((content, input.len())),
            }
        }
    }

    #[test]
    fn bodies_end_where_they_say() {
        assert_eq!(content(b"xy", Body::None), Ok((String::new(), 2)));
        assert_eq!(content(b"xy", Body::Length(0)), Ok((String::new(), 2)));
        assert_eq!(content(b"xyz", Body::Length(2)), Ok(("xy".into(), 1)));
        assert_eq!(content(b"xyz", Body::Length(4)), Ok(("xyz".into(), usize::MAX)));
        let chunks = b"5 ;a=\"b\"\r\nhello\r\n00A\r\n0123456789\r\n0;x\r\nT-r: v\r\nu:\r\n\r\nGET";
        assert_eq!(content(chunks, Body::Chunked), Ok(("hello0123456789".into(), 3)));
    }

    #[test]
    fn chunks_are_strict() {
        for bytes in [
            &b"\r\n"[..],
            b"g\r\n",
            b"-1\r\n",
            b"5\n",
            b"5 \r\n",
            b"5;\n",
            b"5;\0",
            b"5\rx",
            b"0x5\r\n",
            b" 5\r\n",
            b"1\r\nab",
            b"1\r\na\n",
            b"1\r\na\rb",
            b"0\r\n\n",
            b"0\r\n x",
            b"0\r\n:",
            b"0\r\na\r",
            b"0\r\na:\n",
            b"0\r\na: \r\r",
        ] {
            assert_eq!(content(bytes, Body::Chunked), Err(Refusal::BadChunk), "{bytes:?}");
        }
        assert_eq!(content(b"10000000000000000\r\n", Body::Chunked), Err(Refusal::BigChunk));
        assert_eq!(content(b"ffffffffffffffff\r\nx", Body::Chunked), Ok(("x".into(), usize::MAX)));
    }

    #[test]
    fn what_surrounds_the_content_has_a_limit() {
        let extension = format!("1;{}", "a".repeat(MAX_EXTENSION_BYTES as usize));
        assert_eq!(content(extension.as_bytes(), Body::Chunked), Err(Refusal::LongExtension));
        let zeros = "0".repeat(MAX_EXTENSION_BYTES as usize + 1);
        assert_eq!(content(zeros.as_bytes(), Body::Chunked), Err(Refusal::LongExtension));
        let many = "1;aaaaaaaaa\r\nx\r\n".repeat(MAX_EXTENSION_BYTES as usize / 10 + 1);
        assert_eq!(content(many.as_bytes(), Body::Chunked), Err(Refusal::LongExtension));
        let trailer = format!("0\r\na:{}", "b".repeat(MAX_TRAILER_BYTES as usize));
        assert_eq!(content(trailer.as_bytes(), Body::Chunked), Err(Refusal::LongTrailer));
    }
}

//! Framing: a byte stream cut into messages. However the bytes come, the same messages come out.
//!
//! Bytes are received straight into the cutter's buffer, and a message is lent from there: it is not copied. The buffer
//! holds at most one message and what was received last. A message that is too long is refused once, and its bytes are
//! discarded as they come.

use super::decoder::Reason;
use std::ops::Range;

/// How a byte stream is cut into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Each is a line; CR before LF is dropped.
    Lines,
    /// Each stands behind its length in four bytes, most significant first.
    Length,
}

/// Bytes of a length.
const LENGTH: usize = 4;

/// Cuts one stream: append to [`Cutter::buffer`] what was received, then call [`Cutter::cut`] until it gives nothing
/// more; at the end of the stream [`Cutter::rest`].
#[derive(Debug)]
pub struct Cutter {
    framing: Framing,
    longest: usize,
    received: Vec<u8>,
    /// Where the next message begins in `received`.
    at: usize,
    /// Bytes behind `at` that have no line end.
    searched: usize,
    discarding: Discarding,
}

/// What is discarded, because it belongs to a message that was too long.
#[derive(Debug, PartialEq)]
enum Discarding {
    /// Nothing.
    Nothing,
    /// All up to the next line end.
    Line,
    /// So many bytes.
    Bytes(usize),
}

/// A message, or why it is refused.
type Cut<T> = Option<Result<T, Reason>>;

impl Cutter {
    /// A cutter for messages of `longest` bytes at most.
    pub fn new(framing: Framing, longest: usize) -> Cutter {
        Cutter { framing, longest, received: Vec::new(), at: 0, searched: 0, discarding: Discarding::Nothing }
    }

    /// Where received bytes are to be appended.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.received
    }

    /// The next message, or why it is refused; `None`: more bytes are needed.
    pub fn cut(&mut self) -> Cut<&[u8]> {
        let cut = match self.framing {
            Framing::Lines => self.line(),
            Framing::Length => self.counted(),
        };
        if cut.is_none() {
            self.received.drain(..std::mem::take(&mut self.at));
        }
        cut.map(|cut| cut.map(|range| &self.received[range]))
    }

    /// The last line, when the stream has ended in it. A message cut off behind its length is none.
    pub fn rest(&mut self) -> Cut<&[u8]> {
        let range = self.at..self.received.len();
        let is_line = self.framing == Framing::Lines && self.discarding == Discarding::Nothing && !range.is_empty();
        self.at = self.received.len();
        is_line.then(|| self.checked(range).map(|range| &self.received[range]))
    }

    fn line(&mut self) -> Cut<Range<usize>> {
        loop {
            let from = self.at + self.searched;
            let Some(end) = memchr::memchr(b'\n', &self.received[from..]).map(|end| from + end) else {
                return self.unended();
            };
            let line = self.checked(self.at..end);
            self.at = end + 1;
            self.searched = 0;
            if std::mem::replace(&mut self.discarding, Discarding::Nothing) == Discarding::Nothing {
                return Some(line);
            }
        }
    }

    /// What was received has no line end. The byte behind the longest line may still be a CR.
    fn unended(&mut self) -> Cut<Range<usize>> {
        self.searched = self.received.len() - self.at;
        let discarding = self.discarding == Discarding::Line;
        if !discarding && self.searched <= self.longest.saturating_add(1) {
            return None;
        }
        self.at = self.received.len();
        self.searched = 0;
        self.discarding = Discarding::Line;
        (!discarding).then_some(Err(Reason::Oversized))
    }

    fn counted(&mut self) -> Cut<Range<usize>> {
        if let Discarding::Bytes(left) = self.discarding {
            let here = left.min(self.received.len() - self.at);
            self.at += here;
            self.discarding = if left > here { Discarding::Bytes(left - here) } else { Discarding::Nothing };
        }
        let (length, rest) = self.received[self.at..].split_first_chunk::<LENGTH>()?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.longest {
            self.at += LENGTH;
            self.discarding = Discarding::Bytes(length);
            return Some(Err(Reason::Oversized));
        }
        rest.get(..length)?;
        let begin = self.at + LENGTH;
        self.at = begin + length;
        Some(Ok(begin..self.at))
    }

    /// The line without its CR.
    ///
    /// # Errors
    /// [`Reason::Oversized`].
    fn checked(&self, line: Range<usize>) -> Result<Range<usize>, Reason> {
        let has_cr = self.received[line.clone()].ends_with(b"\r");
        let line = line.start..line.end - usize::from(has_cr);
        if line.len() > self.longest { Err(Reason::Oversized) } else { Ok(line) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type All = Vec<Result<Vec<u8>, Reason>>;

    fn cut(framing: Framing, pieces: &[&[u8]]) -> All {
        let mut cutter = Cutter::new(framing, 8);
        let mut all = Vec::new();
        for piece in pieces {
            cutter.buffer().extend_from_slice(piece);
            while let Some(cut) = cutter.cut() {
                all.push(cut.map(Into::into));
            }
        }
        all.extend(cutter.rest().map(|cut| cut.map(Into::into)));
        all
    }

    #[expect(clippy::unnecessary_wraps, reason = "one of what `cut` gives")]
    fn message(text: &str) -> Result<Vec<u8>, Reason> {
        Ok(text.into())
    }

    #[test]
    fn lines_end_with_lf_or_both_or_the_stream() {
        let all = cut(Framing::Lines, &[b"a\r\n\nb\rc\n12345678\r\n123456789\nrest\r"]);
        let expected =
            [message("a"), message(""), message("b\rc"), message("12345678"), Err(Reason::Oversized), message("rest")];
        assert_eq!(all, expected);
    }

    #[test]
    fn a_long_line_is_refused_once_however_long() {
        let long = [b'x'; 100];
        let all = cut(Framing::Lines, &[&long, &long, b"\nnext\n", &long]);
        assert_eq!(all, [Err(Reason::Oversized), message("next"), Err(Reason::Oversized)]);
    }

    #[test]
    fn counted_messages_follow_their_length() {
        let all = cut(Framing::Length, &[b"\0\0\0\x02hi\0\0\0\0\0\0\0\x09123456789\0\0\0\x01!\0\0\0\x05cut"]);
        assert_eq!(all, [message("hi"), message(""), Err(Reason::Oversized), message("!")]);
    }

    #[test]
    fn little_is_kept_of_what_is_too_long() {
        for (framing, head) in [(Framing::Lines, &b""[..]), (Framing::Length, &[0xff; 4])] {
            let mut cutter = Cutter::new(framing, 8);
            cutter.buffer().extend_from_slice(head);
            for _ in 0..1000 {
                cutter.buffer().extend_from_slice(&[b'x'; 1000]);
                while cutter.cut().is_some() {}
            }
            assert!(cutter.received.is_empty() && cutter.received.capacity() < 10_000, "{framing:?}");
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(0u8), 1u8..12, any::<u8>()],
                0..200,
            ),
            step in 1usize..20,
            lines: bool,
        ) {
            let framing = if lines { Framing::Lines } else { Framing::Length };
            let pieces: Vec<&[u8]> = bytes.chunks(step).collect();
            prop_assert_eq!(cut(framing, &pieces), cut(framing, &[&bytes]));
        }
    }
}

//! How a byte stream is cut into messages. However the bytes come, the same messages come out.
//!
//! What is kept is at most one message and what was pushed last. A message that is too long is refused once and then
//! passed over without being kept.

use super::decoder::Reason;

/// How a byte stream is cut into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A line each; CR before LF is dropped.
    Lines,
    /// Each behind its length in four bytes, most significant first.
    Length,
}

/// Bytes of a length.
const LENGTH: usize = 4;

/// Cuts one stream: [`Cutter::push`] what came, then [`Cutter::cut`] until it gives nothing more; at the end of the
/// stream [`Cutter::rest`].
#[derive(Debug)]
pub struct Cutter {
    framing: Framing,
    longest: usize,
    kept: Vec<u8>,
    /// Where the next message begins in `kept`.
    at: usize,
    /// Bytes behind `at` in which no line ends.
    searched: usize,
    skipping: Skipping,
}

/// What is passed over, because it belongs to a message that was too long.
#[derive(Debug, PartialEq)]
enum Skipping {
    Nothing,
    Line,
    Bytes(usize),
}

impl Cutter {
    /// A cutter for messages of `longest` bytes at most.
    pub fn new(framing: Framing, longest: usize) -> Cutter {
        Cutter { framing, longest, kept: Vec::new(), at: 0, searched: 0, skipping: Skipping::Nothing }
    }

    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    /// The next message, or why it is refused; `None`: more bytes are needed.
    pub fn cut(&mut self) -> Option<Result<Vec<u8>, Reason>> {
        let cut = match self.framing {
            Framing::Lines => self.line(),
            Framing::Length => self.counted(),
        };
        if cut.is_none() {
            self.kept.drain(..std::mem::take(&mut self.at));
        }
        cut
    }

    /// The last line, when the stream has ended in it. A message cut off behind its length is none.
    pub fn rest(&mut self) -> Option<Result<Vec<u8>, Reason>> {
        let rest = std::mem::take(&mut self.kept);
        let is_line = self.framing == Framing::Lines && self.skipping == Skipping::Nothing && !rest.is_empty();
        is_line.then(|| self.checked(without_cr(&rest)))
    }

    fn line(&mut self) -> Option<Result<Vec<u8>, Reason>> {
        loop {
            let rest = &self.kept[self.at..];
            let Some(end) = memchr::memchr(b'\n', &rest[self.searched..]).map(|end| self.searched + end) else {
                return self.unended();
            };
            let line = self.checked(without_cr(&rest[..end]));
            self.at += end + 1;
            self.searched = 0;
            if std::mem::replace(&mut self.skipping, Skipping::Nothing) == Skipping::Nothing {
                return Some(line);
            }
        }
    }

    /// No line ends in what is kept. One byte beyond the longest may still be a CR.
    fn unended(&mut self) -> Option<Result<Vec<u8>, Reason>> {
        self.searched = self.kept.len() - self.at;
        let skipping = self.skipping == Skipping::Line;
        if !skipping && self.searched <= self.longest.saturating_add(1) {
            return None;
        }
        self.at = self.kept.len();
        self.searched = 0;
        self.skipping = Skipping::Line;
        (!skipping).then_some(Err(Reason::Oversized))
    }

    fn counted(&mut self) -> Option<Result<Vec<u8>, Reason>> {
        if let Skipping::Bytes(left) = self.skipping {
            let here = left.min(self.kept.len() - self.at);
            self.at += here;
            self.skipping = if left > here { Skipping::Bytes(left - here) } else { Skipping::Nothing };
        }
        let (length, rest) = self.kept[self.at..].split_first_chunk::<LENGTH>()?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.longest {
            self.at += LENGTH;
            self.skipping = Skipping::Bytes(length);
            return Some(Err(Reason::Oversized));
        }
        let message = rest.get(..length)?.to_vec();
        self.at += LENGTH + length;
        Some(Ok(message))
    }

    fn checked(&self, line: &[u8]) -> Result<Vec<u8>, Reason> {
        if line.len() > self.longest { Err(Reason::Oversized) } else { Ok(line.to_vec()) }
    }
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Cut = Vec<Result<Vec<u8>, Reason>>;

    fn cut(framing: Framing, pieces: &[&[u8]]) -> Cut {
        let mut cutter = Cutter::new(framing, 8);
        let mut all = Vec::new();
        for piece in pieces {
            cutter.push(piece);
            all.extend(std::iter::from_fn(|| cutter.cut()));
        }
        all.extend(cutter.rest());
        all
    }

    fn said(text: &str) -> Result<Vec<u8>, Reason> {
        Ok(text.into())
    }

    #[test]
    fn lines_end_with_lf_or_both_or_the_stream() {
        let all = cut(Framing::Lines, &[b"a\r\n\nb\rc\n12345678\r\n123456789\nrest\r"]);
        let expected = [said("a"), said(""), said("b\rc"), said("12345678"), Err(Reason::Oversized), said("rest")];
        assert_eq!(all, expected);
    }

    #[test]
    fn a_long_line_is_refused_once_however_long() {
        let long = [b'x'; 100];
        let all = cut(Framing::Lines, &[&long, &long, b"\nnext\n", &long]);
        assert_eq!(all, [Err(Reason::Oversized), said("next"), Err(Reason::Oversized)]);
    }

    #[test]
    fn counted_messages_follow_their_length() {
        let all = cut(Framing::Length, &[b"\0\0\0\x02hi\0\0\0\0\0\0\0\x09123456789\0\0\0\x01!\0\0\0\x05cut"]);
        assert_eq!(all, [said("hi"), said(""), Err(Reason::Oversized), said("!")]);
    }

    #[test]
    fn little_is_kept_of_what_is_too_long() {
        for (framing, head) in [(Framing::Lines, &b""[..]), (Framing::Length, &[0xff; 4])] {
            let mut cutter = Cutter::new(framing, 8);
            cutter.push(head);
            for _ in 0..1000 {
                cutter.push(&[b'x'; 1000]);
                while cutter.cut().is_some() {}
            }
            assert!(cutter.kept.is_empty() && cutter.kept.capacity() < 10_000, "{framing:?}");
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

//! Frames out of bytes.
//!
//! A frame is looked at line by line up to its empty line, then as a whole; so what is refused is refused by what
//! stands before it, and never for what comes later. Every limit is a place that must not be passed: the first one
//! passed is the one that is told.

use super::headers::{Frame, Headers};
use super::{Command, Fault, Version};
use memchr::{memchr, memchr2};

/// What a frame may be, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a frame, from its command to its NUL.
    pub frame_bytes: usize,
    /// Bytes of its header lines with their ends, together.
    pub header_bytes: usize,
    /// Header lines.
    pub header_count: usize,
}

/// What bytes begin with.
#[derive(Clone, Copy, Debug)]
pub enum Read<'b> {
    /// A whole frame.
    Frame {
        /// It.
        frame: Frame<'b>,
        /// The bytes that it takes, with the line ends in front of it and its NUL.
        used: usize,
    },
    /// Line ends, with nothing behind them or with a frame that is not whole: heart-beats, or what may follow a frame.
    Beat {
        /// So many bytes of them, at least one.
        used: usize,
    },
    /// A frame that is not whole, or no byte.
    More {
        /// The bytes that must be there, these included, before it is worth another look: where `content-length` tells,
        /// the whole frame.
        least: usize,
        /// What must be among those that come, too.
        until: Until,
    },
}

/// What must come before a frame that is not whole is worth another look: so what comes byte by byte costs as much as
/// what comes at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// Any byte: how many there must be is known.
    #[default]
    Any,
    /// The end of a header line, a NUL that does not belong there, or so many bytes in all.
    Line(usize),
    /// NUL, or so many bytes in all.
    Nul(usize),
}

impl Until {
    /// Whether it has come, with the last ones of so many bytes.
    #[must_use]
    pub fn is_met(self, len: usize, new: &[u8]) -> bool {
        match self {
            Until::Any => true,
            Until::Line(most) => len >= most || memchr2(b'\n', 0, new).is_some(),
            Until::Nul(most) => len >= most || memchr(0, new).is_some(),
        }
    }
}

/// Bytes of the longest command, with its line end.
const COMMAND_BYTES: usize = "UNSUBSCRIBE\r\n".len();

/// What these bytes begin with. `version` is the one that was agreed on; before that it is that of the highest the peer
/// may speak, or any: see [the module](super) for the commands that do not ask for it.
///
/// # Errors
/// They begin with nothing that STOMP has, or with more than the limits allow: said as soon as it is known.
pub fn read<'b>(bytes: &'b [u8], limits: &Limits, version: Version) -> Result<Read<'b>, Fault> {
    let beats = line_ends(bytes);
    let rest = bytes.get(beats..).unwrap_or_default();
    match whole(rest, limits, version)? {
        Ok((frame, used)) => Ok(Read::Frame { frame, used: beats + used }),
        Err(_) if beats > 0 => Ok(Read::Beat { used: beats }),
        Err((least, until)) => Ok(Read::More { least, until }),
    }
}

/// The bytes of the line ends in front.
fn line_ends(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(end) = line_end(bytes.get(at..).unwrap_or_default()) {
        at += end;
    }
    at
}

/// The length of the line end in front, if there is one.
fn line_end(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\n', ..] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => None,
    }
}

/// A frame and its length, or what must be there.
type Whole<'b> = Result<(Frame<'b>, usize), (usize, Until)>;

fn whole<'b>(bytes: &'b [u8], limits: &Limits, version: Version) -> Result<Whole<'b>, Fault> {
    let more = |until| Ok(Err((bytes.len() + 1, until)));
    let Some((command, from)) = command(bytes)? else { return more(Until::Any) };
    let (most, fault) = head_limit(from, limits);
    let Some(head) = head(bytes, (from, most, fault), limits.header_count)? else { return more(Until::Line(most)) };
    let (headers, length) = Headers::check(head.lines, command, version)?;
    let body = Body { from: head.end, length, is_one: command.has_body(), is_passed_over: headers.is_of_10() };
    Ok(match body.end(bytes, limits.frame_bytes)? {
        Err(more) => Err(more),
        Ok(end) => {
            let body = if command.has_body() { bytes.get(body.from..end) } else { None };
            Ok((Frame { command, headers, body: body.unwrap_or_default() }, end + 1))
        }
    })
}

/// The command, and where the header lines begin; `Ok(None)`: its line has not ended.
fn command(bytes: &[u8]) -> Result<Option<(Command, usize)>, Fault> {
    let front = bytes.get(..COMMAND_BYTES).unwrap_or(bytes);
    let Some(end) = memchr(b'\n', front) else {
        let may_be_one =
            front.len() < COMMAND_BYTES && front.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'\r');
        return if may_be_one { Ok(None) } else { Err(Fault::Command) };
    };
    let word = front.get(..end).unwrap_or_default();
    let word = word.strip_suffix(b"\r").unwrap_or(word);
    Ok(Some((Command::parse(word).ok_or(Fault::Command)?, end + 1)))
}

/// The header lines, and where the body begins.
struct Head<'b> {
    lines: &'b [u8],
    end: usize,
}

/// Where header lines that begin here must have ended, and what is wrong if they have not.
fn head_limit(from: usize, limits: &Limits) -> (usize, Fault) {
    match from.saturating_add(limits.header_bytes) {
        limit if limit < limits.frame_bytes => (limit, Fault::HeadersTooLarge),
        _ => (limits.frame_bytes, Fault::TooLarge),
    }
}

/// `Ok(None)`: the empty line has not come yet.
fn head(bytes: &[u8], (from, limit, fault): (usize, usize, Fault), most: usize) -> Result<Option<Head<'_>>, Fault> {
    let (mut at, mut count) = (from, 0);
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        if let Some(end) = line_end(rest) {
            return Ok(Some(Head { lines: bytes.get(from..at).unwrap_or_default(), end: at + end }));
        }
        let room = limit.saturating_sub(at);
        let Some(end) = header_end(rest.get(..room).unwrap_or(rest))? else {
            // What may still become the empty line is no header.
            return if rest.len() >= room.max(1) && rest != b"\r" { Err(fault) } else { Ok(None) };
        };
        (at, count) = (at + end + 1, count + 1);
        if count > most {
            return Err(Fault::TooManyHeaders);
        }
    }
}

/// Where the line ends; `Ok(None)`: not here. NUL is in no header: where it stands in one, the empty line is missing.
fn header_end(line: &[u8]) -> Result<Option<usize>, Fault> {
    match memchr2(b'\n', 0, line) {
        Some(end) if line.get(end) == Some(&0) => Err(Fault::Header),
        end => Ok(end),
    }
}

/// What is known of a body before its end is.
struct Body {
    from: usize,
    /// What `content-length` says.
    length: Option<usize>,
    /// The frame may have one.
    is_one: bool,
    /// It may have one all the same, of which nothing is said to anybody: "ignored" (STOMP 1.0, SUBSCRIBE).
    is_passed_over: bool,
}

impl Body {
    /// Where the NUL behind it is, or what must be there to tell.
    fn end(&self, bytes: &[u8], limit: usize) -> Result<Result<usize, (usize, Until)>, Fault> {
        if !self.is_one && !self.is_passed_over {
            return self.none(bytes, limit);
        }
        let Some(length) = self.length else { return self.search(bytes, limit) };
        let end = self.from.checked_add(length).filter(|end| *end < limit).ok_or(Fault::TooLarge)?;
        match bytes.get(end) {
            None => Ok(Err((end + 1, Until::Any))),
            Some(0) => Ok(Ok(end)),
            Some(_) => Err(Fault::Terminator),
        }
    }

    /// Without `content-length` it ends at the first NUL.
    fn search(&self, bytes: &[u8], limit: usize) -> Result<Result<usize, (usize, Until)>, Fault> {
        let within = bytes.get(self.from..bytes.len().min(limit)).unwrap_or_default();
        match memchr(0, within) {
            Some(at) => Ok(Ok(self.from + at)),
            None if bytes.len() >= limit => Err(Fault::TooLarge),
            None => Ok(Err((bytes.len() + 1, Until::Nul(limit)))),
        }
    }

    fn none(&self, bytes: &[u8], limit: usize) -> Result<Result<usize, (usize, Until)>, Fault> {
        match bytes.get(self.from) {
            _ if self.length.is_some_and(|length| length > 0) => Err(Fault::Body),
            _ if self.from >= limit => Err(Fault::TooLarge),
            None => Ok(Err((self.from + 1, Until::Any))),
            Some(0) => Ok(Ok(self.from)),
            Some(_) => Err(Fault::Body),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    const LIMITS: Limits = Limits { frame_bytes: 100, header_bytes: 60, header_count: 4 };

    fn one(bytes: &[u8], version: Version) -> Result<(Frame<'_>, usize), Fault> {
        match read(bytes, &LIMITS, version)? {
            Read::Frame { frame, used } => Ok((frame, used)),
            other => panic!("{other:?}"),
        }
    }

    fn fault(bytes: &[u8]) -> Fault {
        one(bytes, Version::V12).unwrap_err()
    }

    fn least(bytes: &[u8]) -> usize {
        match read(bytes, &LIMITS, Version::V12) {
            Ok(Read::More { least, .. }) => least,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_frame_is_read_and_what_is_behind_it_stays() {
        let (frame, used) = one(b"\n\r\nSEND\r\ndestination:/q\\ca\nx:1\nx:2\n\r\nhi\0more", Version::V12).unwrap();
        assert_eq!((frame.command, frame.body, used), (Command::Send, &b"hi"[..], 40));
        assert_eq!((frame.get("destination").as_deref(), frame.get("x").as_deref()), (Some("/q:a"), Some("1")));
        assert_eq!(frame.headers.iter().count(), 3);
        assert_eq!(one(b"DISCONNECT\n\n\0", Version::V12).unwrap().1, 13);
    }

    #[test]
    fn the_length_of_a_body_goes_before_its_nul() {
        let (frame, used) = one(b"SEND\ncontent-length:3\n\n\0\n\0\0x", Version::V11).unwrap();
        assert_eq!((frame.body, used), (&b"\0\n\0"[..], 27));
        assert_eq!(one(b"SEND\ncontent-length:0\n\n\0", Version::V12).unwrap().0.body, b"");
        assert_eq!(fault(b"SEND\ncontent-length:1\n\nab\0"), Fault::Terminator);
        assert_eq!(one(b"SEND\n\na\0b\0", Version::V12).unwrap().0.body, b"a");
    }

    #[test]
    fn what_is_cut_says_how_much_is_missing() {
        assert_eq!(least(b"SEND\ncontent-length:50\n\nabc"), 75);
        assert_eq!([least(b""), least(b"\r"), least(b"SE"), least(b"SEND\na:b"), least(b"SEND\n\r")], [1, 2, 3, 9, 7]);
        assert_eq!([least(b"SEND\n\nabc"), least(b"ACK\nid:1\n\n")], [10, 11]);
    }

    #[test]
    fn line_ends_are_beats_even_in_front_of_a_frame_that_is_cut() {
        for (bytes, used) in
            [(&b"\n"[..], 1), (b"\n\r\n", 3), (b"\n\nSE", 2), (b"\n\r", 1), (b"\nSEND\ncontent-length:9\n\n", 1)]
        {
            assert!(
                matches!(read(bytes, &LIMITS, Version::V12), Ok(Read::Beat { used: it }) if it == used),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn each_fault_is_found() {
        for (bytes, wanted) in [
            (&b"GET / HTTP/1.1\r\n"[..], Fault::Command),
            (b"send\n", Fault::Command),
            (b"ALONGWORDTHATISNONE", Fault::Command),
            (b"\rSEND\n\n\0", Fault::Command),
            (b"SEND\nno colon\n\n\0", Fault::Header),
            (b"SEND\n:empty\n\n\0", Fault::Header),
            (b"SEND\n \t:empty\n\n\0", Fault::Header),
            (b"SUBSCRIBE\nid:1\n\0", Fault::Header),
            (b"SUBSCRIBE\nid:1\0", Fault::Header),
            (b"SEND\na:\\t\n\n\0", Fault::Escape),
            (b"SEND\na:\xff\n\n\0", Fault::Utf8),
            (b"SEND\ncontent-length:x\n\n\0", Fault::ContentLength),
            (b"SUBSCRIBE\nid:1\n\nbody\0", Fault::Body),
            (b"SUBSCRIBE\ncontent-length:4\n\n", Fault::Body),
            (b"SEND\ncontent-length:77\n\n", Fault::TooLarge),
            (b"SEND\na:1\na:2\na:3\na:4\na:5\n", Fault::TooManyHeaders),
        ] {
            assert_eq!(fault(bytes), wanted, "{bytes:?}");
        }
    }

    #[test]
    fn in_10_a_body_where_there_is_none_is_passed_over() {
        let bytes = b"SUBSCRIBE\nid:1\n\nbody\0";
        assert_eq!(fault(bytes), Fault::Body);
        let (frame, used) = one(bytes, Version::V10).unwrap();
        assert_eq!((frame.body, used), (&b""[..], bytes.len()));
        assert_eq!(one(b"CONNECT\nlogin: a\n\n\n\0", Version::V12).unwrap().1, 20);
        assert_eq!(fault(b"CONNECT\naccept-version:1.0,1.1\n\n\n\0"), Fault::Body);
    }

    /// A frame with header lines of this many bytes, and a body that fills it up to so many in all.
    fn sized(header_bytes: usize, frame_bytes: usize) -> Vec<u8> {
        let mut frame = [&b"SEND\na:"[..], &vec![b'x'; header_bytes - 3], b"\n\n"].concat();
        frame.resize(frame_bytes - 1, b'y');
        frame.push(0);
        frame
    }

    #[test]
    fn limits_are_kept_to_the_byte() {
        assert!(one(&sized(60, 100), Version::V12).is_ok());
        assert_eq!(fault(&sized(61, 100)), Fault::HeadersTooLarge);
        assert_eq!(fault(&sized(60, 101)), Fault::TooLarge);
        let small = Limits { frame_bytes: 60, ..LIMITS };
        assert!(read(&sized(53, 60), &small, Version::V12).is_ok());
        assert_eq!(read(&sized(54, 61), &small, Version::V12).unwrap_err(), Fault::TooLarge);
        assert!(one(b"SEND\na:1\na:2\na:3\na:4\n\n\0", Version::V12).is_ok());
        assert_eq!([least(b"SEND\ncontent-length:75\n\n"), LIMITS.frame_bytes], [100; 2]);
        assert_eq!(fault(b"SEND\ncontent-length:76\n\n"), Fault::TooLarge);
    }

    /// Not a byte later than needed.
    #[test]
    fn what_passes_a_limit_is_refused_before_it_is_whole() {
        let prefix = |frame: &[u8], len: usize| {
            read(&frame[..len], &LIMITS, Version::V12).map(|it| matches!(it, Read::More { .. }))
        };
        let frame = sized(80, 100);
        assert_eq!([prefix(&frame, 64), prefix(&frame, 65)], [Ok(true), Err(Fault::HeadersTooLarge)]);
        let frame = sized(10, 120);
        assert_eq!([prefix(&frame, 99), prefix(&frame, 100)], [Ok(true), Err(Fault::TooLarge)]);
    }

    /// Looked at when there is something to be seen, and not for each byte: that all the same is found as soon as
    /// without, the laws of `tests` prove.
    #[test]
    fn what_comes_byte_by_byte_is_looked_at_seldom() {
        let until = |bytes: &[u8]| match read(bytes, &LIMITS, Version::V12) {
            Ok(Read::More { until, .. }) => until,
            other => panic!("{other:?}"),
        };
        assert_eq!([until(b"SEN"), until(b"ACK\nid:1\n\n")], [Until::Any; 2]);
        assert_eq!([until(b"SEND\na:b"), until(b"SEND\na:b\nc:")], [Until::Line(65); 2]);
        assert_eq!([until(b"SEND\na:b\n\nc"), until(b"SEND\n\n")], [Until::Nul(100); 2]);
        let met = |until: Until, len, new: &[u8]| until.is_met(len, new);
        assert!(!met(Until::Line(65), 9, b"x") && met(Until::Line(65), 9, b"x\n") && met(Until::Line(65), 65, b"x"));
        assert!(!met(Until::Nul(99), 9, b"\n") && met(Until::Nul(99), 9, b"x\0") && met(Until::Nul(99), 99, b"x"));
    }
}

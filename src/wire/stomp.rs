//! STOMP 1.0, 1.1 and 1.2: frames, as both ends read and write them.
//!
//! A frame is its command, header lines, an empty line, a body and NUL (STOMP 1.2, STOMP Frames). Which escapes a
//! header may have depends on the version; CONNECT and CONNECTED have none in any. Of a header that comes more than once
//! the first counts. A frame is read when it is whole; until then [`Read::More`] says how much of it must be there.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use memchr::{memchr, memchr2};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// STOMP 1.0: no escapes.
    V10,
    /// STOMP 1.1: `\n`, `\c` and `\\`.
    V11,
    /// STOMP 1.2: `\r` as well; a line may end with CR LF.
    V12,
}

impl Version {
    /// As headers have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V10 => "1.0",
            Version::V11 => "1.1",
            Version::V12 => "1.2",
        }
    }

    /// From a header; `None`: another one.
    pub fn parse(text: &str) -> Option<Version> {
        [Version::V10, Version::V11, Version::V12].into_iter().find(|it| it.as_str() == text.trim())
    }

    /// The highest version of a client's `accept-version` that is spoken here; 1.0 where it has sent none. `None`: none.
    pub fn choose(accept_version: Option<&str>) -> Option<Version> {
        let Some(list) = accept_version else { return Some(Version::V10) };
        list.split(',').filter_map(Version::parse).max()
    }
}

macro_rules! commands {
    ($($name:ident $word:literal)*) => {
        /// What a frame is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Command { $(#[doc = $word] $name,)* }

        impl Command {
            /// As it is written.
            pub fn as_str(self) -> &'static str {
                match self { $(Command::$name => $word,)* }
            }

            fn parse(word: &[u8]) -> Option<Command> {
                $(if word == $word.as_bytes() { return Some(Command::$name); })*
                None
            }
        }
    };
}

commands! {
    Connect "CONNECT" Stomp "STOMP" Send "SEND" Subscribe "SUBSCRIBE" Unsubscribe "UNSUBSCRIBE" Begin "BEGIN"
    Commit "COMMIT" Abort "ABORT" Ack "ACK" Nack "NACK" Disconnect "DISCONNECT" Connected "CONNECTED"
    Message "MESSAGE" Receipt "RECEIPT" Error "ERROR"
}

impl Command {
    /// Frames of this command may have a body (STOMP 1.2, Body).
    pub fn has_body(self) -> bool {
        matches!(self, Command::Send | Command::Message | Command::Error)
    }

    /// The version whose escapes its headers have: CONNECT and CONNECTED have none, for the sake of 1.0.
    fn escapes(self, version: Version) -> Version {
        if matches!(self, Command::Connect | Command::Connected) { Version::V10 } else { version }
    }
}

/// What a frame may be, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a frame, its NUL included.
    pub frame_bytes: usize,
    /// Bytes of its header lines, together.
    pub header_bytes: usize,
    /// Header lines.
    pub header_count: usize,
}

/// What bytes begin with.
#[derive(Clone, Copy, Debug)]
pub enum Read<'b> {
    /// A frame.
    Frame {
        /// It.
        frame: Frame<'b>,
        /// Bytes that it takes, with the line ends in front of it and its NUL.
        used: usize,
    },
    /// Nothing but line ends: heart-beats.
    Beat {
        /// So many bytes of them.
        used: usize,
    },
    /// A frame that is not whole.
    More {
        /// Bytes that must be there before it is worth another look: all of them, where its length is known.
        least: usize,
    },
}

/// A frame, where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'b> {
    /// What it is.
    pub command: Command,
    /// Its headers.
    pub headers: Headers<'b>,
    /// Its body.
    pub body: &'b [u8],
}

/// The header lines of a frame, checked.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'b> {
    text: &'b str,
    version: Version,
}

/// What is wrong with a frame; nothing behind it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A word that is no command.
    Command,
    /// A header line without a colon, or without a name.
    Header,
    /// An escape that the version does not have.
    Escape,
    /// Text that is not UTF-8.
    Utf8,
    /// A `content-length` that is no number.
    ContentLength,
    /// No NUL where `content-length` says that the body ends.
    Terminator,
    /// A body where there may be none.
    Body,
    /// A frame above the limit.
    TooLarge,
    /// Header lines above the limit.
    HeadersTooLarge,
    /// More header lines than the limit.
    TooManyHeaders,
}

impl Fault {
    /// For whoever has sent the frame.
    pub fn words(self) -> &'static str {
        match self {
            Fault::Command => "this is no command of STOMP",
            Fault::Header => "a header line needs a name and a colon",
            Fault::Escape => "a header has an escape that this version does not have",
            Fault::Utf8 => "headers are UTF-8",
            Fault::ContentLength => "content-length is not a number of bytes",
            Fault::Terminator => "there is no NUL behind the body",
            Fault::Body => "this frame has no body",
            Fault::TooLarge => "the frame is larger than it may be",
            Fault::HeadersTooLarge => "the headers are larger than they may be",
            Fault::TooManyHeaders => "there are more headers than there may be",
        }
    }
}

/// Bytes of the longest command, with a line end.
const COMMAND_BYTES: usize = "UNSUBSCRIBE\r\n".len();

/// What these bytes begin with. `version`: the one that was agreed on; before that, any.
///
/// # Errors
/// They begin with nothing that STOMP has, or with more than the limits allow: said as soon as it is known.
pub fn read<'b>(bytes: &'b [u8], limits: &Limits, version: Version) -> Result<Read<'b>, Fault> {
    let skipped = bytes.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
    let rest = bytes.get(skipped..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(Read::Beat { used: skipped });
    }
    let more = |least: usize| Ok(Read::More { least: skipped + least });
    let Some((word, at)) = line(rest, 0) else {
        let known = rest.len() < COMMAND_BYTES && !rest.contains(&0);
        return if known { more(rest.len() + 1) } else { Err(Fault::Command) };
    };
    let command = Command::parse(word).ok_or(Fault::Command)?;
    let Some(head) = head(rest, at, limits)? else {
        return if rest.len() >= limits.frame_bytes { Err(Fault::TooLarge) } else { more(rest.len() + 1) };
    };
    let headers = headers(head.text, command.escapes(version))?;
    let length = headers.get("content-length").map(|text| number(&text).ok_or(Fault::ContentLength)).transpose()?;
    let Some(end) = body_end(rest, head.end, length, limits)? else {
        return more(length.map_or(rest.len() + 1, |length| head.end + length + 1));
    };
    let body = rest.get(head.end..end).unwrap_or_default();
    if !body.is_empty() && !command.has_body() {
        return Err(Fault::Body);
    }
    Ok(Read::Frame { frame: Frame { command, headers, body }, used: skipped + end + 1 })
}

/// The line that begins at `from`, without its end, and where the next begins; `None`: it has no end yet.
fn line(bytes: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(from..)?;
    let end = memchr(b'\n', rest)?;
    let text = rest.get(..end)?;
    Some((text.strip_suffix(b"\r").unwrap_or(text), from + end + 1))
}

/// The header lines, and where the body begins.
struct Head<'b> {
    text: &'b [u8],
    end: usize,
}

/// `Ok(None)`: the empty line has not come yet.
fn head<'b>(bytes: &'b [u8], from: usize, limits: &Limits) -> Result<Option<Head<'b>>, Fault> {
    let (mut at, mut count) = (from, 0);
    loop {
        let next = line(bytes, at);
        let end = next.map_or(bytes.len(), |(_, next)| next);
        if end - from > limits.header_bytes + 2 {
            return Err(Fault::HeadersTooLarge);
        }
        let Some((text, next)) = next else { return Ok(None) };
        if text.is_empty() {
            return Ok(Some(Head { text: bytes.get(from..at).unwrap_or_default(), end: next }));
        }
        (at, count) = (next, count + 1);
        if count > limits.header_count {
            return Err(Fault::TooManyHeaders);
        }
    }
}

/// Where the NUL behind the body is; `Ok(None)`: it has not come yet.
fn body_end(bytes: &[u8], from: usize, length: Option<usize>, limits: &Limits) -> Result<Option<usize>, Fault> {
    let end = match length {
        Some(length) => Some(from.saturating_add(length)),
        None => memchr(0, bytes.get(from..).unwrap_or_default()).map(|at| from + at),
    };
    match end {
        _ if end.unwrap_or(bytes.len()) >= limits.frame_bytes => Err(Fault::TooLarge),
        None => Ok(None),
        Some(end) => match bytes.get(end) {
            None => Ok(None),
            Some(0) => Ok(Some(end)),
            Some(_) => Err(Fault::Terminator),
        },
    }
}

fn number(text: &str) -> Option<usize> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

fn headers(text: &[u8], version: Version) -> Result<Headers<'_>, Fault> {
    let text = core::str::from_utf8(text).map_err(|_| Fault::Utf8)?;
    for line in lines(text) {
        match line.find(':') {
            None | Some(0) => return Err(Fault::Header),
            Some(_) if version == Version::V10 => {}
            Some(_) => check_escapes(line, version)?,
        }
    }
    Ok(Headers { text, version })
}

fn check_escapes(line: &str, version: Version) -> Result<(), Fault> {
    let mut rest = line;
    while let Some((_, behind)) = rest.split_once('\\') {
        let mut chars = behind.chars();
        match chars.next() {
            Some('n' | 'c' | '\\') => {}
            Some('r') if version == Version::V12 => {}
            _ => return Err(Fault::Escape),
        }
        rest = chars.as_str();
    }
    Ok(())
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_terminator('\n').map(|line| line.strip_suffix('\r').unwrap_or(line))
}

impl<'b> Frame<'b> {
    /// The first header of this name.
    pub fn get(&self, name: &str) -> Option<Cow<'b, str>> {
        self.headers.get(name)
    }
}

impl<'b> Headers<'b> {
    /// The lines as they came, each with its end.
    pub fn raw(&self) -> &'b str {
        self.text
    }

    /// Names and values in their order, those that come again, too.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'b, str>, Cow<'b, str>)> + use<'b> {
        let version = self.version;
        lines(self.text).filter_map(move |line| {
            let (name, value) = line.split_once(':')?;
            // Of 1.0 it is known that some write a space behind the colon.
            let value = if version == Version::V10 { value.trim() } else { value };
            Some((unescaped(name, version), unescaped(value, version)))
        })
    }

    /// The first header of this name.
    pub fn get(&self, name: &str) -> Option<Cow<'b, str>> {
        self.iter().find(|(its, _)| its == name).map(|(_, value)| value)
    }
}

fn unescaped(text: &str, version: Version) -> Cow<'_, str> {
    if version == Version::V10 || !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('c') => out.push(':'),
                other => out.extend(other),
            },
            char => out.push(char),
        }
    }
    Cow::Owned(out)
}

/// Appends a frame. `content-length` is added where the frame may have a body, and has one or is none of 1.0; the caller
/// has none among the headers. What a version cannot say in a header (line ends in 1.0, CR in 1.1) becomes a space.
pub fn write(out: &mut Vec<u8>, version: Version, command: Command, headers: &[(&str, &str)], body: &[u8]) {
    out.extend_from_slice(command.as_str().as_bytes());
    out.push(b'\n');
    for (name, value) in headers {
        escape(out, version, command, name);
        out.push(b':');
        escape(out, version, command, value);
        out.push(b'\n');
    }
    if command.has_body() && !body.is_empty() {
        out.extend_from_slice(b"content-length:");
        push_number(out, body.len());
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(body);
    out.push(0);
}

fn push_number(out: &mut Vec<u8>, number: usize) {
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        if let Some(place) = digits.get_mut(at) {
            *place = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Appends a header's name or value as this version writes it in frames of this command.
pub fn escape(out: &mut Vec<u8>, version: Version, command: Command, text: &str) {
    let version = command.escapes(version);
    let bytes = text.as_bytes();
    if memchr2(b'\n', b'\r', bytes).is_none() && (version == Version::V10 || memchr2(b':', b'\\', bytes).is_none()) {
        return out.extend_from_slice(bytes);
    }
    for &byte in bytes {
        match (byte, version) {
            (b'\n' | b'\r', Version::V10) | (b'\r', Version::V11) => out.push(b' '),
            (_, Version::V10) => out.push(byte),
            (b'\n', _) => out.extend_from_slice(b"\\n"),
            (b'\r', _) => out.extend_from_slice(b"\\r"),
            (b':', _) => out.extend_from_slice(b"\\c"),
            (b'\\', _) => out.extend_from_slice(b"\\\\"),
            _ => out.push(byte),
        }
    }
}

/// What one side says of heart-beats (STOMP 1.2, Heart-beating), in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeartBeat {
    /// The shortest interval in which it can send; zero: it cannot.
    pub can: u32,
    /// The interval in which it wants to receive; zero: it does not.
    pub wants: u32,
}

impl HeartBeat {
    /// From a header; `None`: it is none.
    pub fn parse(text: &str) -> Option<HeartBeat> {
        let (can, wants) = text.split_once(',')?;
        Some(HeartBeat { can: can.trim().parse().ok()?, wants: wants.trim().parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const LIMITS: Limits = Limits { frame_bytes: 100, header_bytes: 60, header_count: 4 };

    fn one(bytes: &[u8], version: Version) -> Result<(Frame<'_>, usize), Fault> {
        match read(bytes, &LIMITS, version)? {
            Read::Frame { frame, used } => Ok((frame, used)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_frame_is_read_and_what_is_behind_it_stays() {
        let (frame, used) = one(b"\n\nSEND\r\ndestination:/q\\ca\nx:1\nx:2\n\nhi\0more", Version::V12).unwrap();
        assert_eq!((frame.command, frame.body, used), (Command::Send, &b"hi"[..], 38));
        assert_eq!((frame.get("destination").as_deref(), frame.get("x").as_deref()), (Some("/q:a"), Some("1")));
        assert_eq!(frame.headers.iter().count(), 3);
        let (frame, _) = one(b"SEND\ncontent-length:3\n\n\0\n\0\0", Version::V11).unwrap();
        assert_eq!(frame.body, b"\0\n\0");
        let (frame, _) = one(b"SEND\na: \\x \n\n\0", Version::V10).unwrap();
        assert_eq!(frame.get("a").as_deref(), Some("\\x"));
    }

    #[test]
    fn what_is_cut_says_how_much_is_missing() {
        let least = |bytes: &[u8]| match read(bytes, &LIMITS, Version::V12) {
            Ok(Read::More { least }) => least,
            other => panic!("{other:?}"),
        };
        assert_eq!(least(b"SEND\ncontent-length:50\n\nabc"), 75);
        assert_eq!([least(b"SE"), least(b"SEND\na:b"), least(b"SEND\n\nabc")], [3, 9, 10]);
        assert!(matches!(read(b"\n\r\n", &LIMITS, Version::V12), Ok(Read::Beat { used: 3 })));
    }

    #[test]
    fn each_fault_is_found() {
        for (bytes, fault) in [
            (&b"GET / HTTP/1.1\r\n"[..], Fault::Command),
            (b"A LONG WORD THAT IS NONE", Fault::Command),
            (b"SEND\nno colon\n\n\0", Fault::Header),
            (b"SEND\n:empty\n\n\0", Fault::Header),
            (b"SEND\na:\\t\n\n\0", Fault::Escape),
            (b"SEND\na:\xff\n\n\0", Fault::Utf8),
            (b"SEND\ncontent-length:x\n\n\0", Fault::ContentLength),
            (b"SEND\ncontent-length:1\n\nab\0", Fault::Terminator),
            (b"SUBSCRIBE\nid:1\n\nbody\0", Fault::Body),
            (b"SEND\ncontent-length:1000\n\n", Fault::TooLarge),
            (b"SEND\na:1\na:2\na:3\na:4\na:5\n\n\0", Fault::TooManyHeaders),
        ] {
            assert_eq!(one(bytes, Version::V12).unwrap_err(), fault, "{bytes:?}");
        }
        let long = [&b"SEND\na:"[..], &[b'x'; 80]].concat();
        assert_eq!(read(&long, &LIMITS, Version::V12).unwrap_err(), Fault::HeadersTooLarge);
        assert_eq!(one(b"SEND\na:\\r\n\n\0", Version::V11).unwrap_err(), Fault::Escape);
    }

    #[test]
    fn what_is_written_is_read() {
        for version in [Version::V11, Version::V12] {
            let mut out = vec![];
            write(&mut out, version, Command::Message, &[("a:b", "c\\d\ne"), ("f", "")], b"x\0y");
            let limits = Limits { frame_bytes: 1000, header_bytes: 1000, header_count: 9 };
            let Ok(Read::Frame { frame, used }) = read(&out, &limits, version) else { panic!() };
            assert_eq!((frame.get("a:b").as_deref(), frame.get("f").as_deref()), (Some("c\\d\ne"), Some("")));
            assert_eq!((frame.body, used), (&b"x\0y"[..], out.len()));
        }
        let mut out = vec![];
        write(&mut out, Version::V12, Command::Connected, &[("session", "a:b")], b"");
        assert_eq!(out, b"CONNECTED\nsession:a:b\n\n\0");
    }

    #[test]
    fn versions_and_heart_beats_are_agreed_on() {
        assert_eq!(Version::choose(Some("1.0,1.2, 1.1,2.0")), Some(Version::V12));
        assert_eq!([Version::choose(None), Version::choose(Some("2.0"))], [Some(Version::V10), None]);
        assert_eq!(HeartBeat::parse("1000, 0"), Some(HeartBeat { can: 1000, wants: 0 }));
        assert_eq!([HeartBeat::parse("1"), HeartBeat::parse("-1,0")], [None, None]);
    }
}

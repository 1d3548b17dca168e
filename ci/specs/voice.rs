//! What can be said, both ways round: an act as the bytes that say it, and bytes held against the act that was
//! expected.
//!
//! What may vary in an answer is left open here and nowhere else: the date, the words of a refusal's content and of a
//! close frame, field lines that the script does not name. `Connection` is never left open: it must be as the script
//! says, absent if the script says nothing.

use std::time::Duration;

use crate::deflated::{self, Reader};
use crate::words::{Part, Variables, resolve};

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    /// The client or the upstream.
    Peer,
    /// edgehold.
    Edge,
}

/// An act of a story.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// These bytes.
    Bytes(Vec<Part>),
    /// A whole HTTP response.
    Response(Response),
    /// Exactly this frame.
    Frame(Frame),
    /// A close frame with this code and any reason.
    Close(u16),
    /// Whole messages, in whatever number, that make up this payload.
    Stream { text: bool, payload: Vec<u8> },
    /// A whole message in one deflated frame that says this.
    Deflated { text: bool, payload: Vec<u8> },
    /// A text message whose payload has variables; masked by a client.
    Says { key: Option<[u8; 4]>, parts: Vec<Part> },
    /// Whole messages of this payload, as many as come and no more than so many.
    Repeated { most: usize, text: bool, payload: Vec<u8> },
    /// Whole chunks (RFC 9112 section 7.1), in whatever number, that make up this.
    Chunks(Vec<Part>),
    /// A feed says this.
    Published(Saying),
    /// So many listen.
    Listeners(u32),
    /// edgehold calls the upstream.
    Connects,
    /// Nothing for at least so long since the last flight was begun.
    Waits(Duration),
    /// FIN.
    End,
    /// RST.
    Reset,
}

/// What a feed says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Saying {
    /// What is added to the playing's channel.
    pub(crate) suffix: String,
    /// The variable that holds the id.
    pub(crate) variable: String,
    /// What a query says of the message.
    pub(crate) about: Vec<String>,
    /// Not text.
    pub(crate) binary: bool,
    /// How often.
    pub(crate) times: u32,
    /// The payload.
    pub(crate) payload: Vec<u8>,
}

/// What a script says of a response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    /// It answers a HEAD: no content follows.
    pub(crate) to_head: bool,
    /// Its content has no length, and is told by what follows in the script.
    pub(crate) streams: bool,
    /// Field lines that must be there.
    pub(crate) fields: Vec<(String, Vec<Part>)>,
    /// Field lines that must not.
    pub(crate) absent: Vec<String>,
    /// The content; anything where nothing is said.
    pub(crate) body: Option<Vec<Part>>,
}

/// A frame, well-formed or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    /// Four bits.
    pub(crate) opcode: u8,
    /// FIN is not set.
    pub(crate) more: bool,
    /// The three reserved bits in place.
    pub(crate) reserved: u8,
    /// The masking key.
    pub(crate) key: Option<[u8; 4]>,
    /// The form of the length.
    pub(crate) length: Length,
    /// The length that the head says, where it is not the payload's.
    pub(crate) claims: Option<u64>,
    /// The payload, before masking.
    pub(crate) payload: Vec<u8>,
}

/// The form of a frame's length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Length {
    /// As RFC 6455 section 5.2 wants it.
    #[default]
    Shortest,
    /// 126 and two bytes.
    Bits16,
    /// 127 and eight bytes.
    Bits64,
}

/// What was heard, held against what was expected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Right so far; more must come.
    More,
    /// Right, in so many bytes; and what every other playing must hear too.
    Whole(usize, Vec<u8>),
    /// Something else, and what is wrong with it.
    Wrong(String),
}

/// The variable that stands for any id in a message of the server.
pub(crate) const ANY: &str = "any";

// What stands in the place of a length that takes 16 or 64 bits, RFC 6455 section 5.2.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

const DATE: &str = "Fri, 20 Nov 2026 11:58:35 GMT";

/// A value for a variable that the server would set.
pub(crate) fn sample(name: &str) -> &'static str {
    if name == "etag" { "\"5f5e100-0-6\"" } else { DATE }
}

/// The bytes of an act. Where it leaves something open, an example. `Err`: a variable without a value.
pub(crate) fn say(act: &Act, by: Party, variables: &Variables) -> Result<Vec<u8>, String> {
    match act {
        Act::Bytes(parts) => resolve(parts, variables),
        Act::Response(response) => response.say(variables),
        Act::Frame(frame) => Ok(frame.say()),
        Act::Close(code) => Ok(Frame { opcode: 8, payload: code.to_be_bytes().to_vec(), ..Frame::default() }.say()),
        Act::Stream { text, payload } => {
            let opcode = if *text { 1 } else { 2 };
            Ok(Frame { opcode, payload: payload.clone(), ..Frame::default() }.say())
        }
        Act::Deflated { text, payload } => {
            let opcode = if *text { 1 } else { 2 };
            let payload = deflated::deflate(payload);
            Ok(Frame { opcode, reserved: 0x40, payload, ..Frame::default() }.say())
        }
        Act::Says { key, parts } => {
            Ok(Frame { opcode: 1, key: *key, payload: resolve(parts, variables)?, ..Frame::default() }.say())
        }
        Act::Repeated { most, text, payload } => {
            let opcode = if *text { 1 } else { 2 };
            Ok(Frame { opcode, payload: payload.clone(), ..Frame::default() }.say().repeat(*most))
        }
        Act::Chunks(parts) => {
            let content = resolve(parts, variables)?;
            Ok([format!("{:x}\r\n", content.len()).as_bytes(), &content, b"\r\n"].concat())
        }
        Act::Published(_) | Act::Listeners(_) | Act::Connects | Act::Waits(_) | Act::End | Act::Reset => {
            Err(format!("{by:?} cannot say {act:?}"))
        }
    }
}

/// Holds `came` against the act that is expected next. Variables of field lines take the value that is heard first.
pub(crate) fn hear(act: &Act, by: Party, came: &[u8], variables: &mut Variables) -> Heard {
    match act {
        Act::Response(response) => response.hear(came, variables),
        Act::Close(code) => hear_close(*code, came),
        Act::Stream { text, payload } => hear_stream(*text, payload, came),
        Act::Deflated { text, payload } => hear_deflated(*text, payload, came),
        Act::Says { key: None, parts } => hear_message(parts, came, variables),
        Act::Repeated { most, text, payload } => hear_repeated(*most, *text, payload, came),
        Act::Chunks(parts) => match resolve(parts, variables) {
            Ok(expected) => hear_chunks(&expected, came),
            Err(name) => Heard::Wrong(format!("the variable {name} has no value")),
        },
        _ => match say(act, by, variables) {
            Ok(bytes) => hear_bytes(&bytes, came),
            Err(problem) => Heard::Wrong(format!("nothing can be expected: {problem}")),
        },
    }
}

/// A text message of the server. Its head is no part of the transcript: it has the length of what differs from one
/// playing to the next.
fn hear_message(parts: &[Part], came: &[u8], variables: &Variables) -> Heard {
    if came.first().is_some_and(|first| *first != 0x81) {
        return Heard::Wrong("no text message".into());
    }
    let Some((len, head)) = server_length(came) else { return Heard::More };
    let Some(payload) = came.get(head..head + len) else { return Heard::More };
    if reads_as(parts, payload, variables) {
        Heard::Whole(head + len, resolve(parts, variables).unwrap_or_default())
    } else {
        Heard::Wrong(format!("it says {:?}", String::from_utf8_lossy(payload)))
    }
}

/// Whether a payload is this; `\(any)` in it is any id.
fn reads_as(parts: &[Part], payload: &[u8], variables: &Variables) -> bool {
    let mut rest = payload;
    for part in parts {
        let after = match part {
            Part::Variable(name) if name == ANY => {
                let is_id = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
                Some(&rest[rest.iter().take_while(|byte| is_id(byte)).count()..]).filter(|it| it.len() < rest.len())
            }
            Part::Variable(name) => variables.get(name).and_then(|value| rest.strip_prefix(&value[..])),
            Part::Bytes(bytes) => rest.strip_prefix(&bytes[..]),
        };
        let Some(after) = after else { return false };
        rest = after;
    }
    rest.is_empty()
}

fn hear_bytes(expected: &[u8], came: &[u8]) -> Heard {
    let common = expected.iter().zip(came).take_while(|(a, b)| a == b).count();
    match (common == expected.len(), common == came.len()) {
        (true, _) => Heard::Whole(common, expected.to_vec()),
        (false, true) => Heard::More,
        (false, false) => Heard::Wrong(format!("byte {common} differs")),
    }
}

// ---- responses ----

impl Response {
    fn say(&self, variables: &Variables) -> Result<Vec<u8>, String> {
        let mut said = status_line(self.status);
        if self.status != 101 {
            said += &format!("Date: {DATE}\r\n");
        }
        for (name, value) in &self.fields {
            said += &format!("{name}: {}\r\n", String::from_utf8_lossy(&resolve(value, variables)?));
        }
        let content = match &self.body {
            Some(body) => resolve(body, variables)?,
            None => b"x".repeat(self.stated_length(variables)),
        };
        if self.may_have_length() && !self.streams && !self.names("Content-Length") {
            said += &format!("Content-Length: {}\r\n", content.len());
        }
        let content = if self.to_head { Vec::new() } else { content };
        Ok([said.as_bytes(), b"\r\n", &content].concat())
    }

    /// What the script says of Content-Length; 0 if nothing.
    fn stated_length(&self, variables: &Variables) -> usize {
        let value = self.fields.iter().find(|(name, _)| name == "Content-Length").map(|(_, value)| value);
        let digits = value.and_then(|value| String::from_utf8(resolve(value, variables).ok()?).ok());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    fn names(&self, name: &str) -> bool {
        let is = |it: &str| it.eq_ignore_ascii_case(name);
        self.fields.iter().any(|(it, _)| is(it)) || self.absent.iter().any(|it| is(it))
    }

    /// RFC 9110 section 8.6.
    fn may_have_length(&self) -> bool {
        !matches!(self.status, 101 | 204 | 304)
    }

    fn hear(&self, came: &[u8], variables: &mut Variables) -> Heard {
        let line = status_line(self.status);
        if let Heard::Wrong(_) = hear_bytes(line.as_bytes(), came) {
            return Heard::Wrong(format!("the status line is not {:?}", line.trim_end()));
        }
        let Some(len) = came.windows(4).position(|it| it == b"\r\n\r\n") else { return Heard::More };
        let Ok(head) = std::str::from_utf8(&came[..len + 2]) else { return Heard::Wrong("no text".into()) };
        match self.hear_head(head, variables) {
            Err(problem) => Heard::Wrong(problem),
            Ok(length) => self.hear_body(came, len + 4, length, variables),
        }
    }

    /// The length of the content that follows.
    fn hear_head(&self, head: &str, variables: &mut Variables) -> Result<usize, String> {
        let fields = field_lines(head)?;
        for (name, value) in &self.fields {
            expect_field(name, value, value_of(&fields, name).as_deref(), variables)?;
        }
        let connection_is_open = !self.names("Connection");
        let absent = self.absent.iter().map(String::as_str).chain(connection_is_open.then_some("Connection"));
        for name in absent {
            if let Some(value) = value_of(&fields, name) {
                return Err(format!("there is {name}: {value}"));
            }
        }
        self.expect_date(&fields)?;
        self.length(&fields)
    }

    /// RFC 9110 section 6.6.1.
    fn expect_date(&self, fields: &[(&str, &str)]) -> Result<(), String> {
        match value_of(fields, "Date") {
            None if self.status == 101 => Ok(()),
            Some(date) if httpdate::parse_http_date(&date).is_ok() && date.len() == DATE.len() => Ok(()),
            date => Err(format!("the date is {date:?}")),
        }
    }

    fn length(&self, fields: &[(&str, &str)]) -> Result<usize, String> {
        let length = value_of(fields, "Content-Length");
        match (self.may_have_length() && !self.streams, length) {
            (false, None) => Ok(0),
            (false, Some(_)) => Err(format!("a {} has no Content-Length", self.status)),
            (true, None) => Err("there is no Content-Length".into()),
            (true, Some(_)) if self.to_head => Ok(0),
            (true, Some(length)) => length.parse().map_err(|_| format!("Content-Length is {length}")),
        }
    }

    fn hear_body(&self, came: &[u8], from: usize, length: usize, variables: &Variables) -> Heard {
        let Some(content) = came.get(from..from + length) else { return Heard::More };
        let expected = self.body.as_ref().filter(|_| !self.to_head).map(|body| resolve(body, variables));
        match expected {
            Some(Err(name)) => Heard::Wrong(format!("the variable {name} has no value")),
            Some(Ok(expected)) if expected != content => Heard::Wrong("the content is another".into()),
            _ => Heard::Whole(from + length, without_date(&came[..from + length])),
        }
    }
}

fn status_line(status: u16) -> String {
    format!("HTTP/1.1 {status} {}\r\n", phrase(status))
}

fn field_lines(head: &str) -> Result<Vec<(&str, &str)>, String> {
    let lines = head.split("\r\n").skip(1).filter(|line| !line.is_empty());
    lines.map(|line| line.split_once(": ").ok_or_else(|| format!("no field line: {line:?}"))).collect()
}

/// The lines of this name, joined as RFC 9110 section 5.3 allows.
fn value_of(fields: &[(&str, &str)], name: &str) -> Option<String> {
    let values: Vec<&str> = fields.iter().filter(|it| it.0.eq_ignore_ascii_case(name)).map(|it| it.1).collect();
    if values.is_empty() { None } else { Some(values.join(", ")) }
}

fn expect_field(name: &str, value: &[Part], came: Option<&str>, variables: &mut Variables) -> Result<(), String> {
    let Some(came) = came else { return Err(format!("there is no {name}")) };
    if let [Part::Variable(variable)] = value {
        variables.entry(variable.clone()).or_insert_with(|| came.into());
    }
    let expected = resolve(value, variables).map_err(|variable| format!("the variable {variable} has no value"))?;
    let differs = || format!("{name} is {came:?}, not {:?}", String::from_utf8_lossy(&expected));
    if expected == came.as_bytes() { Ok(()) } else { Err(differs()) }
}

/// The same bytes with the digits and letters of `Date` blotted out: only they may differ between two playings.
fn without_date(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(at) = bytes.windows(8).position(|it| it == b"\r\nDate: ") {
        bytes[at + 8..at + 8 + DATE.len()].fill(b'*');
    }
    bytes
}

/// The phrases of RFC 9110 section 15 and RFC 6585.
fn phrase(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "(a status that voice.rs does not know)",
    }
}

// ---- frames ----

impl Frame {
    /// Its bytes.
    pub(crate) fn say(&self) -> Vec<u8> {
        let fin = if self.more { 0 } else { 0x80 };
        let masked = if self.key.is_some() { 0x80 } else { 0 };
        let len = self.claims.unwrap_or(self.payload.len() as u64);
        let mut said = vec![fin | self.reserved | self.opcode];
        match (self.length, len) {
            (Length::Shortest, 0..=125) => said.push(masked | len as u8),
            (Length::Shortest, 126..=0xffff) | (Length::Bits16, _) => {
                said.push(masked | LENGTH_16);
                said.extend((len as u16).to_be_bytes());
            }
            _ => {
                said.push(masked | LENGTH_64);
                said.extend(len.to_be_bytes());
            }
        }
        said.extend(self.key.iter().flatten());
        let key = self.key.unwrap_or_default();
        said.extend(self.payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        said
    }
}

fn hear_close(code: u16, came: &[u8]) -> Heard {
    match came {
        [] | [0x88] => Heard::More,
        [0x88, len @ 2..=125, body @ ..] => match body.get(..usize::from(*len)) {
            None => Heard::More,
            Some(body) if body[..2] != code.to_be_bytes() => {
                Heard::Wrong(format!("the code is {}", u16::from_be_bytes([body[0], body[1]])))
            }
            Some(body) if std::str::from_utf8(&body[2..]).is_err() => Heard::Wrong("the reason is not UTF-8".into()),
            Some(body) => Heard::Whole(2 + body.len(), came[..2 + body.len()].to_vec()),
        },
        _ => Heard::Wrong(format!("no close frame with the code {code}")),
    }
}

/// Unmasked frames of one kind, each a whole message and not empty.
fn hear_stream(text: bool, expected: &[u8], came: &[u8]) -> Heard {
    let (mut used, mut payload) = (0, Vec::new());
    while payload.len() < expected.len() {
        let rest = &came[used..];
        let opcode = if text { 0x81 } else { 0x82 };
        if rest.first().is_some_and(|first| *first != opcode) {
            return Heard::Wrong(format!("no such frame behind {} bytes of the stream", payload.len()));
        }
        let Some((len, head)) = server_length(rest) else { return Heard::More };
        let Some(piece) = rest.get(head..head + len) else { return Heard::More };
        payload.extend_from_slice(piece);
        used += head + len;
        let is_good = !piece.is_empty() && expected.starts_with(&payload);
        let is_good = is_good && (!text || std::str::from_utf8(piece).is_ok());
        if !is_good {
            return Heard::Wrong(format!("the stream differs: {:?}", String::from_utf8_lossy(&payload)));
        }
    }
    Heard::Whole(used, payload)
}

/// An unmasked frame with RSV1 (RFC 7692 section 6), shorter than what it says.
fn hear_deflated(text: bool, expected: &[u8], came: &[u8]) -> Heard {
    let first = if text { 0xc1 } else { 0xc2 };
    if came.first().is_some_and(|it| *it != first) {
        return Heard::Wrong("no such deflated frame".into());
    }
    let Some((len, head)) = server_length(came) else { return Heard::More };
    let Some(payload) = came.get(head..head + len) else { return Heard::More };
    let said = Reader::new(false).read(payload, expected.len() as u64);
    match said {
        Ok(said) if said == expected && len < said.len() => Heard::Whole(head + len, said),
        Ok(said) => Heard::Wrong(format!("it says {:?} in {len} bytes", String::from_utf8_lossy(&said))),
        Err(code) => Heard::Wrong(format!("it deserves {code}")),
    }
}

/// Frames that say this, until another comes. What is heard of them is no part of the transcript: their number is left
/// open.
fn hear_repeated(most: usize, text: bool, payload: &[u8], came: &[u8]) -> Heard {
    let one = Frame { opcode: if text { 1 } else { 2 }, payload: payload.into(), ..Frame::default() }.say();
    let count = came.chunks(one.len()).take_while(|it| *it == one).count();
    let rest = &came[count * one.len()..];
    match one.starts_with(rest) {
        _ if count > most => Heard::Wrong(format!("{count} of them")),
        true if count < most || !rest.is_empty() => Heard::More,
        _ => Heard::Whole(count * one.len(), Vec::new()),
    }
}

fn hear_chunks(expected: &[u8], came: &[u8]) -> Heard {
    let (mut used, mut content) = (0, Vec::new());
    while content.len() < expected.len() {
        let rest = &came[used..];
        let Some(at) = rest.windows(2).position(|it| it == b"\r\n") else { return Heard::More };
        let size = std::str::from_utf8(&rest[..at]).ok().and_then(|it| usize::from_str_radix(it, 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { return Heard::Wrong("no chunk size".into()) };
        let Some(chunk) = rest.get(at + 2..at + 4 + size) else { return Heard::More };
        content.extend_from_slice(&chunk[..size]);
        used += at + 4 + size;
        if !expected.starts_with(&content) || !chunk.ends_with(b"\r\n") {
            return Heard::Wrong(format!("the chunks differ: {:?}", String::from_utf8_lossy(&content)));
        }
    }
    Heard::Whole(used, content)
}

/// The length of a server's frame and of its head; `None` while cut. A mask bit makes it endless, hence wrong.
fn server_length(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.get(1)? {
        126 => Some((u16::from_be_bytes(*bytes.get(2..4)?.first_chunk()?).into(), 4)),
        127 => Some((u64::from_be_bytes(*bytes.get(2..10)?.first_chunk()?) as usize, 10)),
        len => Some((len.into(), 2)),
    }
}

#[test]
fn what_is_said_is_what_is_heard() {
    let mut variables = Variables::new();
    let response = Response { status: 404, body: Some(vec![Part::Bytes(b"no".to_vec())]), ..Response::default() };
    let stream = Act::Stream { text: true, payload: b"a".repeat(70_000) };
    let deflated = Act::Deflated { text: true, payload: b"a".repeat(70_000) };
    let parts = vec![Part::Bytes(b"a".repeat(300)), Part::Variable("id".into())];
    variables.insert("id".into(), b"0-1".to_vec());
    let (chunks, says) = (Act::Chunks(parts.clone()), Act::Says { key: None, parts });
    let repeated = Act::Repeated { most: 3, text: false, payload: b"a".repeat(70) };
    for act in [Act::Response(response), Act::Close(1002), stream, deflated, chunks, says, repeated] {
        let said = say(&act, Party::Edge, &variables).expect("an act without variables");
        for cut in 0..said.len() {
            assert_eq!(hear(&act, Party::Edge, &said[..cut], &mut variables), Heard::More, "{act:?} cut at {cut}");
        }
        assert!(matches!(hear(&act, Party::Edge, &said, &mut variables), Heard::Whole(used, _) if used == said.len()));
    }
}

#[test]
fn something_else_is_noticed() {
    let hears = |act: &Act, came: &[u8]| hear(act, Party::Edge, came, &mut Variables::new());
    let response = |fields: &[(&str, &str)]| {
        let part = |value: &str| vec![Part::Bytes(value.into())];
        let fields = fields.iter().map(|(name, value)| (name.to_string(), part(value))).collect();
        Act::Response(Response { status: 200, fields, absent: vec!["Age".into()], ..Response::default() })
    };
    let good = format!("HTTP/1.1 200 OK\r\nDate: {DATE}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let closes = response(&[("Connection", "close")]);
    assert!(matches!(hears(&closes, good.as_bytes()), Heard::Whole(..)));
    let other = [
        good.replace("200 OK", "201 Created"),
        good.replace("close", "keep-alive"),
        good.replace("Date", "Data"),
        good.replace("2026", "26"),
        good.replace("Content-Length: 0\r\n", ""),
        good.replace("\r\n\r\n", "\r\nAge: 1\r\n\r\n"),
    ];
    for other in &other {
        assert!(matches!(hears(&closes, other.as_bytes()), Heard::Wrong(_)), "{other}");
    }
    // The rule for Connection: not named, not there.
    assert!(matches!(hears(&response(&[]), good.as_bytes()), Heard::Wrong(_)));
    assert!(matches!(hears(&Act::Close(1000), &[0x88, 2, 3, 0xe9]), Heard::Wrong(_)));
    assert!(matches!(hears(&Act::Close(1000), &[0x88, 0]), Heard::Wrong(_)));
    let stream = Act::Stream { text: true, payload: "aé".into() };
    for other in [&b"\x82\x01a"[..], b"\x81\x01b", b"\x81\x02a\xc3", b"\x81\x00"] {
        assert!(matches!(hears(&stream, other), Heard::Wrong(_)), "{other:?}");
    }
}

#[test]
fn another_feed_is_noticed() {
    let hears = |act: &Act, came: &[u8]| hear(act, Party::Edge, came, &mut Variables::new());
    let chunks = Act::Chunks(vec![Part::Bytes(b"ab".to_vec())]);
    assert!(matches!(hears(&chunks, b"1\r\na\r\n1\r\nb\r\n"), Heard::Whole(12, _)));
    for other in [&b"1\r\nb\r\n"[..], b"0\r\n\r\n", b"x\r\n", b"3\r\nabc\r\n", b"2\r\nabcd"] {
        assert!(matches!(hears(&chunks, other), Heard::Wrong(_)), "{other:?}");
    }
    let any = Act::Says { key: None, parts: vec![Part::Variable(ANY.into()), Part::Bytes(b"!".to_vec())] };
    assert!(matches!(hears(&any, b"\x81\x05a0-7!"), Heard::Whole(7, _)));
    for other in [&b"\x81\x01!"[..], b"\x81\x03a!!", b"\x82\x02a!"] {
        assert!(matches!(hears(&any, other), Heard::Wrong(_)), "{other:?}");
    }
    let twice = Act::Repeated { most: 2, text: true, payload: b"a".to_vec() };
    assert_eq!(hears(&twice, b"\x81\x01a\x81\x01b"), Heard::Whole(3, Vec::new()));
    assert!(matches!(hears(&twice, b"\x81\x01a\x81\x01a\x81\x01a"), Heard::Wrong(_)));
}

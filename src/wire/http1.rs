//! HTTP/1.1 messages (RFC 9112): request heads and bodies are read, response heads are written.
//!
//! A head is read in two steps. First a scan from the front (`scan`), one byte position after the other: line ends,
//! the request line and the limits. It refuses as early as its byte is there, so a TLS ClientHello or an endless
//! target is not waited for. When the scan has seen the blank line, httparse takes the field lines apart and the few
//! fields that decide about framing and routing are judged (`judge`). The second step only ever runs on a whole head,
//! which is what makes the answer independent of where the bytes were cut.
//!
//! Strict where leniency lets two readers of the same bytes disagree (request smuggling): RFC 9112 allows a bare LF as
//! line end and equal repeated Content-Length; here both are refused.

use alloc::vec::Vec;
use core::str;

use httparse::Header;
use memchr::memchr;

use crate::status::Status;

/// The most field lines a head may have, whatever the configuration says; the size of the caller's scratch.
pub const MAX_HEADERS: usize = 256;
/// No registered method comes near; a longer one is not implemented (RFC 9112 section 3).
pub const MAX_METHOD: usize = 32;
/// How many empty lines may stand before the request line (RFC 9112 section 2.2).
pub const MAX_LEADING_LINES: usize = 4;
/// The most bytes of chunk extensions in one body (RFC 9112 section 7.1.1 asks for such a limit).
pub const MAX_EXTENSION_BYTES: u32 = 4096;
/// The most bytes of trailer section in one body.
pub const MAX_TRAILER_BYTES: u32 = 8192;

/// How many elements of one list are looked at, empty ones too: RFC 9110 section 5.6.1.2 asks not to let them be used
/// against the server, and a head has room for thousands, each of which is held against something.
pub const MAX_ELEMENTS: usize = 64;

/// The limits of a request head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head, empty lines before and after included.
    pub head_bytes: usize,
    /// Field lines; at most [`MAX_HEADERS`].
    pub head_count: usize,
    /// Bytes of the request target.
    pub target_bytes: usize,
}

/// The version of a request. A later minor version is taken as 1.1 (RFC 9110 section 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How the content after the head is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Neither field: there is none.
    None,
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
}

impl Body {
    /// Whether no byte of content follows the head.
    pub const fn is_empty(&self) -> bool {
        matches!(self, Body::None | Body::Length(0))
    }
}

/// A whole request head. Everything in it lies in the caller's bytes.
#[derive(Clone, Debug)]
pub struct Head<'h, 'b> {
    /// The method, case-sensitive.
    pub method: &'b str,
    /// The request target as it was sent; visible ASCII without `#`.
    pub target: &'b str,
    /// The path of the target, not decoded; `/...`, or `*` for OPTIONS.
    pub path: &'b str,
    /// What follows the first `?` of the target.
    pub query: Option<&'b str>,
    /// The version.
    pub version: Version,
    /// The field lines in their order, values without the white space around them.
    pub headers: &'h [Header<'b>],
    /// The length of the head in bytes; content begins there.
    pub len: usize,
    /// How the content is delimited.
    pub body: Body,
    /// Whether another request may follow on this connection (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// The authority asked for, with its port: of an absolute target, else of Host (RFC 9112 section 3.2.2).
    pub host: Option<&'b str>,
}

impl<'b> Head<'_, 'b> {
    /// The value of the first line of this name, in any case.
    pub fn get(&self, name: &str) -> Option<&'b [u8]> {
        values(self.headers, name).next()
    }

    /// The values of all lines of this name, in any case, in their order.
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'b [u8]> + 's {
        values(self.headers, name)
    }

    /// The elements of a comma list over all lines of this name (RFC 9110 section 5.6.1): without the white space
    /// around them, empty ones left out; of the first [`MAX_ELEMENTS`]. Not for lists whose elements may be quoted
    /// strings. A line that is not UTF-8 counts as empty.
    pub fn list<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'b str> + 's {
        list(self.headers, name)
    }

    /// How much a media type, `type/subtype`, is wanted by Accept (RFC 9110 section 12.5.1): in thousandths, the most
    /// of all that name it, in any case, whatever their parameters. 0: it is not named, or is refused (`q=0`).
    /// Wildcards name nothing, so that who takes anything can be given what is usual. Of all that is named the first
    /// [`MAX_ELEMENTS`] are looked at.
    pub fn quality(&self, media_type: &str) -> u16 {
        let lines = values(self.headers, "Accept").filter_map(|line| str::from_utf8(line).ok());
        let elements = lines.flat_map(|line| unquoted(line, ','));
        let ranges = elements.take(MAX_ELEMENTS).filter_map(|element| quality_of(element, media_type));
        ranges.max().unwrap_or(0)
    }

    /// Whether the comma list of this name has this token, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        list(self.headers, name).any(|element| element.eq_ignore_ascii_case(token))
    }

    /// Whether the client waits for [`CONTINUE`] before it sends the content (RFC 9110 section 10.1.1): `Expect:
    /// 100-continue`, in any case, in a request that has content. In HTTP/1.0 the field is ignored, as the RFC demands.
    ///
    /// A client need not wait for long, and may send the content before anything has come; who has received the first
    /// byte of it may leave [`CONTINUE`] out. A final status instead of it refuses the content: the client then sends
    /// either the content all the same or nothing more, so the connection ends behind the answer.
    ///
    /// # Errors
    /// [`Refusal::UnknownExpectation`] where the field has any other expectation, with content or without.
    pub fn expects_continue(&self) -> Result<bool, Refusal> {
        if self.version == Version::Http10 {
            return Ok(false);
        }
        let mut expected = false;
        for line in values(self.headers, "Expect") {
            // Every expectation with a value is unknown, so a comma in a quoted string changes nothing.
            let line = str::from_utf8(line).map_err(|_| Refusal::UnknownExpectation)?;
            for expectation in line.split(',').map(|it| it.trim_matches([' ', '\t'])).filter(|it| !it.is_empty()) {
                if !expectation.eq_ignore_ascii_case("100-continue") {
                    return Err(Refusal::UnknownExpectation);
                }
                expected = true;
            }
        }
        Ok(expected && !self.body.is_empty())
    }
}

fn values<'s, 'b>(headers: &'s [Header<'b>], name: &'s str) -> impl Iterator<Item = &'b [u8]> + 's {
    headers.iter().filter(move |line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value)
}

fn list<'s, 'b>(headers: &'s [Header<'b>], name: &'s str) -> impl Iterator<Item = &'b str> + 's {
    values(headers, name).flat_map(elements).take(MAX_ELEMENTS).filter(|element| !element.is_empty())
}

/// The elements of one line, empty ones included.
fn elements(value: &[u8]) -> impl Iterator<Item = &str> {
    str::from_utf8(value).unwrap_or("").split(',').map(|element| element.trim_matches([' ', '\t']))
}

/// The parts of a text between separators that do not stand in a quoted string (RFC 9110 section 5.6.4).
fn unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |it| {
        let ends = !quoted && it == separator;
        quoted ^= it == '"' && !escaped;
        escaped = quoted && it == '\\' && !escaped;
        ends
    })
}

/// The weight of a media range, where it names this type.
fn quality_of(range: &str, media_type: &str) -> Option<u16> {
    let mut parts = unquoted(range, ';').map(|part| part.trim_matches([' ', '\t']));
    let is_it = parts.next().is_some_and(|named| named.eq_ignore_ascii_case(media_type));
    let weight =
        |part: &str| part.split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case("q")).map(|it| weight(it.1));
    is_it.then(|| parts.find_map(weight).unwrap_or(1000))
}

/// A weight in thousandths (RFC 9110 section 12.4.2). One that is malformed, or has more than three digits behind the
/// point, says no more than that the type is taken.
fn weight(value: &str) -> u16 {
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    let digits = part.bytes().all(|byte| byte.is_ascii_digit()) && part.len() <= 3;
    match (whole, digits) {
        ("0", true) => {
            (0..3).fold(0, |so_far, at| so_far * 10 + part.as_bytes().get(at).map_or(0, |byte| u16::from(byte - b'0')))
        }
        _ => 1000,
    }
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident $status:ident $words:literal,)+) => {
        /// Why a request is refused. Always the client's fault, except where the words say "not supported".
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Refusal {
            $(
                $(#[$doc])*
                #[doc = concat!($words, ".")]
                $name,
            )+
        }

        impl Refusal {
            /// Every refusal, for tables in tests and documents.
            pub const ALL: &'static [Refusal] = &[$(Refusal::$name),+];

            /// The status of the answer.
            pub const fn status(&self) -> Status {
                match self {
                    $(Refusal::$name => Status::$status,)+
                }
            }

            /// What is wrong, for the log and for the content of the answer.
            pub const fn words(&self) -> &'static str {
                match self {
                    $(Refusal::$name => $words,)+
                }
            }
        }
    };
}

refusals! {
    /// RFC 9112 section 3.
    BadMethod BAD_REQUEST "the request line does not begin with a method",
    /// RFC 9112 section 3.
    LongMethod NOT_IMPLEMENTED "the method is not supported",
    /// RFC 9112 section 3.2.
    BadTarget BAD_REQUEST "the request target is malformed",
    /// RFC 9112 section 3.
    LongTarget URI_TOO_LONG "the request target is longer than the limit",
    /// RFC 9112 section 2.3.
    BadVersion BAD_REQUEST "the request line does not end with an HTTP version",
    /// RFC 9110 section 15.6.6.
    OtherVersion HTTP_VERSION_NOT_SUPPORTED "the HTTP version is not supported, only 1.1 and 1.0 are",
    /// RFC 9110 section 9.3.6.
    Connect NOT_IMPLEMENTED "CONNECT is not supported",
    /// RFC 9112 section 2.2.
    BadLineEnd BAD_REQUEST "a line of the request head does not end with CR LF",
    /// RFC 9112 section 5.2.
    FoldedLine BAD_REQUEST "a header field is folded over several lines",
    /// RFC 9112 section 5.1.
    BadHeaderName BAD_REQUEST "a header field name is malformed or followed by white space",
    /// RFC 9110 section 5.5.
    BadHeaderValue BAD_REQUEST "a header field value has a control character",
    /// RFC 6585 section 5.
    LongHead REQUEST_HEADER_FIELDS_TOO_LARGE "the request head is longer than the limit",
    /// RFC 6585 section 5.
    ManyHeaders REQUEST_HEADER_FIELDS_TOO_LARGE "the request head has more header fields than the limit",
    /// RFC 9112 section 3.2.
    NoHost BAD_REQUEST "the Host header field is missing",
    /// RFC 9112 section 3.2.
    TwoHosts BAD_REQUEST "there is more than one Host header field",
    /// RFC 9112 section 3.2.
    BadHost BAD_REQUEST "the host is malformed",
    /// RFC 9112 section 6.3.
    BadLength BAD_REQUEST "Content-Length is not one decimal number",
    /// RFC 9112 section 6.3.
    TwoLengths BAD_REQUEST "there is more than one Content-Length header field",
    /// RFC 9112 section 6.1.
    LengthAndCoding BAD_REQUEST "there are both Content-Length and Transfer-Encoding",
    /// RFC 9112 section 6.1.
    CodingInHttp10 BAD_REQUEST "there is a Transfer-Encoding in an HTTP/1.0 request",
    /// RFC 9112 section 6.1.
    UnknownCoding NOT_IMPLEMENTED "the transfer coding is not supported, only chunked is",
    /// RFC 9112 section 6.3.
    BadCoding BAD_REQUEST "chunked is not the last transfer coding, or is there twice",
    /// RFC 9112 section 7.1.
    BadChunk BAD_REQUEST "the chunked content is malformed",
    /// RFC 9112 section 7.1.
    BigChunk BAD_REQUEST "a chunk size does not fit into 64 bits",
    /// RFC 9112 section 7.1.1.
    LongExtension BAD_REQUEST "the chunk extensions are longer than the limit",
    /// RFC 9112 section 7.1.2.
    LongTrailer REQUEST_HEADER_FIELDS_TOO_LARGE "the trailer section is longer than the limit",
    /// RFC 9110 section 10.1.1.
    UnknownExpectation EXPECTATION_FAILED "the expectation is not supported, only 100-continue is",
    /// RFC 6455 section 4.2.1.
    OpeningMethod METHOD_NOT_ALLOWED "the WebSocket opening must be a GET request",
    /// RFC 6455 section 4.2.1.
    OpeningHttp10 BAD_REQUEST "the WebSocket opening needs HTTP/1.1",
    /// RFC 6455 section 4.2.1.
    NoUpgrade UPGRADE_REQUIRED "this resource speaks WebSocket and the Upgrade header field does not ask for it",
    /// RFC 6455 section 4.2.1.
    NoConnectionUpgrade BAD_REQUEST "the Connection header field of the WebSocket opening lacks upgrade",
    /// RFC 6455 section 4.4.
    OtherWebSocketVersion UPGRADE_REQUIRED "Sec-WebSocket-Version is not 13",
    /// RFC 6455 section 4.2.1.
    NoKey BAD_REQUEST "the Sec-WebSocket-Key header field is missing",
    /// RFC 6455 section 11.3.1.
    TwoKeys BAD_REQUEST "there is more than one Sec-WebSocket-Key header field",
    /// RFC 6455 section 4.2.1.
    BadKey BAD_REQUEST "Sec-WebSocket-Key is not 16 bytes in base64",
    /// RFC 6455 section 4.1.
    OpeningBody BAD_REQUEST "the WebSocket opening has content",
}

/// Reads the request head at the front of `bytes`.
///
/// `Ok(None)`: it is not whole yet. The answer on a prefix is `Ok(None)` or the answer on the whole. `store` is the
/// caller's scratch, `[EMPTY_HEADER; MAX_HEADERS]`; a shorter one lowers `limits.head_count`.
pub fn read<'h, 'b>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    store: &'h mut [Header<'b>],
) -> Result<Option<Head<'h, 'b>>, Refusal> {
    // What lies beyond the limit is never looked at, so passing it comes at the same place however bytes are cut.
    let seen = bytes.get(..limits.head_bytes).unwrap_or(bytes);
    let count = limits.head_count.min(store.len());
    match scan(seen, count, limits.target_bytes)? {
        Some(lines) => judge(lines, store).map(Some),
        None if bytes.len() > limits.head_bytes => Err(Refusal::LongHead),
        None => Ok(None),
    }
}

/// A head whose lines are whole and counted, and whose request line is taken apart.
struct Lines<'b> {
    request: RequestLine<'b>,
    /// The field lines with the blank line that ends them.
    fields: &'b [u8],
    len: usize,
}

/// RFC 9112 section 2.2: empty lines, the request line, field lines, an empty line; CR LF at the end of each.
fn scan(seen: &[u8], count: usize, target_bytes: usize) -> Result<Option<Lines<'_>>, Refusal> {
    let Some(lines) = leading_lines(seen)? else {
        return Ok(None);
    };
    let Some((request, lines)) = request_line(lines, target_bytes)? else {
        return Ok(None);
    };
    let Some((fields, rest)) = field_lines(lines, count)? else {
        return Ok(None);
    };
    Ok(Some(Lines { request, fields, len: seen.len() - rest.len() }))
}

/// RFC 9112 section 2.2: a server should ignore at least one empty line before the request line. What stands behind
/// them, or `None` while that is open.
fn leading_lines(mut lines: &[u8]) -> Result<Option<&[u8]>, Refusal> {
    for _ in 0..MAX_LEADING_LINES {
        match lines {
            [b'\r', b'\n', rest @ ..] => lines = rest,
            [] | [b'\r'] => return Ok(None),
            [b'\r' | b'\n', ..] => return Err(Refusal::BadLineEnd),
            _ => break,
        }
    }
    Ok(Some(lines))
}

struct RequestLine<'b> {
    method: &'b str,
    target: &'b str,
    version: Version,
}

/// `method SP request-target SP HTTP-version CRLF` (RFC 9112 section 3), single spaces, refused at the first byte that
/// cannot be. With what stands behind the line; `None` while it is cut.
fn request_line(line: &[u8], target_bytes: usize) -> Result<Option<(RequestLine<'_>, &[u8])>, Refusal> {
    let Some((method, rest)) = word(line, is_token, MAX_METHOD, Refusal::BadMethod, Refusal::LongMethod)? else {
        return Ok(None);
    };
    let Some((target, rest)) = word(rest, is_target, target_bytes, Refusal::BadTarget, Refusal::LongTarget)? else {
        return Ok(None);
    };
    let Some((version, rest)) = version(rest)? else {
        return Ok(None);
    };
    if method == "CONNECT" {
        // The authority form (RFC 9112 section 3.2.3) comes with CONNECT alone; RFC 9110 section 9.1 asks for 501
        // where a method is not implemented.
        return Err(Refusal::Connect);
    }
    Ok(Some((RequestLine { method, target, version }, rest)))
}

/// The bytes up to the next space: at least one, at most `limit`, all `allowed`; and what stands behind the space.
/// `None` while it is not there.
fn word(
    bytes: &[u8],
    allowed: impl Fn(u8) -> bool,
    limit: usize,
    bad: Refusal,
    long: Refusal,
) -> Result<Option<(&str, &[u8])>, Refusal> {
    let len = run(bytes.get(..=limit).unwrap_or(bytes), allowed);
    if len > limit {
        return Err(long);
    }
    let (word, rest) = bytes.split_at_checked(len).ok_or(bad)?;
    match rest {
        [] => Ok(None),
        [b' ', rest @ ..] if len > 0 => str::from_utf8(word).map(|word| Some((word, rest))).map_err(|_| bad),
        _ => Err(bad),
    }
}

/// How many bytes at the front are all `allowed`. A long target is read again with each packet while its head is cut,
/// so this goes over many bytes at once.
fn run(bytes: &[u8], allowed: impl Fn(u8) -> bool) -> usize {
    let whole = |chunk: &&[u8; 32]| chunk.iter().fold(true, |so_far, &byte| so_far & allowed(byte));
    let front = 32 * bytes.as_chunks().0.iter().take_while(whole).count();
    front + bytes.iter().skip(front).take_while(|&&byte| allowed(byte)).count()
}

/// A token character (RFC 9110 section 5.6.2).
pub(crate) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// What may stand in a target: RFC 3986 and the characters that clients send unescaped all the same. No fragment: a
/// target has none (RFC 9112 section 3.2), and readers differ on what to do with it.
const fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// `HTTP/` DIGIT `.` DIGIT CR LF (RFC 9112 section 2.3), refused at the first byte that cannot be; and what stands
/// behind it.
fn version(line: &[u8]) -> Result<Option<(Version, &[u8])>, Refusal> {
    let mut rest = line;
    let mut minor = b'0';
    for wanted in b"HTTP/1.x\r\n" {
        let Some((&byte, behind)) = rest.split_first() else {
            return Ok(None);
        };
        match (wanted, byte) {
            (b'x', b'0'..=b'9') => minor = byte,
            (b'x', _) => return Err(Refusal::BadVersion),
            _ if byte == *wanted => {}
            (b'1', b'0'..=b'9') => return Err(Refusal::OtherVersion),
            (b'\r' | b'\n', _) => return Err(Refusal::BadLineEnd),
            _ => return Err(Refusal::BadVersion),
        }
        rest = behind;
    }
    Ok(Some((if minor == b'0' { Version::Http10 } else { Version::Http11 }, rest)))
}

/// The front of some bytes, and what stands behind it.
type Split<'b> = (&'b [u8], &'b [u8]);

/// Walks the field lines up to the blank line; these with it, and what stands behind it, or `None` while it is not
/// there. What is inside a line is httparse's to judge.
fn field_lines(fields: &[u8], count: usize) -> Result<Option<Split<'_>>, Refusal> {
    let mut rest = fields;
    let mut lines = 0;
    while let Some(&first) = rest.first() {
        match first {
            b' ' | b'\t' => return Err(Refusal::FoldedLine),
            b'\r' => {}
            _ if lines == count => return Err(Refusal::ManyHeaders),
            _ => lines += 1,
        }
        let Some((line, behind)) = memchr(b'\n', rest).and_then(|end| rest.split_at_checked(end)) else {
            return Ok(None);
        };
        check_line_end(line)?;
        rest = behind.strip_prefix(b"\n").ok_or(Refusal::BadLineEnd)?;
        if line.len() == 1 {
            return Ok(fields.split_at_checked(fields.len() - rest.len()));
        }
    }
    Ok(None)
}

/// `line` is what stands before an LF: one CR, at its end.
fn check_line_end(line: &[u8]) -> Result<(), Refusal> {
    match memchr(b'\r', line) {
        Some(at) if at + 1 == line.len() => Ok(()),
        _ => Err(Refusal::BadLineEnd),
    }
}

/// What a whole head says, or what is wrong with it.
fn judge<'h, 'b>(lines: Lines<'b>, store: &'h mut [Header<'b>]) -> Result<Head<'h, 'b>, Refusal> {
    let RequestLine { method, target, version } = lines.request;
    let headers = fields(lines.fields, store)?;
    let form = Form::of(method, target)?;
    let host = host(headers, version)?;
    Ok(Head {
        method,
        target,
        path: form.path,
        query: form.query,
        version,
        headers,
        len: lines.len,
        body: body(headers, version)?,
        keep_alive: keep_alive(headers, version),
        host: form.authority.or(host),
    })
}

/// Takes the field lines apart.
fn fields<'h, 'b>(bytes: &'b [u8], store: &'h mut [Header<'b>]) -> Result<&'h [Header<'b>], Refusal> {
    match httparse::parse_headers(bytes, store) {
        Ok(httparse::Status::Complete((_, headers))) => Ok(headers),
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::ManyHeaders),
        Err(httparse::Error::HeaderValue) => Err(Refusal::BadHeaderValue),
        // The scan has seen the blank line, so "partial" can only mean a line without a colon.
        Ok(httparse::Status::Partial) | Err(_) => Err(Refusal::BadHeaderName),
    }
}

/// A target taken apart (RFC 9112 section 3.2).
struct Form<'b> {
    authority: Option<&'b str>,
    path: &'b str,
    query: Option<&'b str>,
}

impl<'b> Form<'b> {
    fn of(method: &str, target: &'b str) -> Result<Form<'b>, Refusal> {
        match target {
            // 3.2.4: the asterisk is for OPTIONS alone.
            "*" if method == "OPTIONS" => Ok(Form { authority: None, path: "*", query: None }),
            _ if target.starts_with('/') => Ok(Form::origin(None, target)),
            _ => Form::absolute(method, target),
        }
    }

    fn origin(authority: Option<&'b str>, target: &'b str) -> Form<'b> {
        match target.split_once('?') {
            Some((path, query)) => Form { authority, path, query: Some(query) },
            None => Form { authority, path: target, query: None },
        }
    }

    /// 3.2.2: a server must take the absolute form from anyone, though clients send it only to proxies.
    fn absolute(method: &str, target: &'b str) -> Result<Form<'b>, Refusal> {
        let (scheme, rest) = target.split_once("://").ok_or(Refusal::BadTarget)?;
        if !["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(Refusal::BadTarget);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).ok_or(Refusal::BadTarget)?;
        // RFC 9110 section 4.2.4: user information in a target is an error; is_host refuses its `@`.
        if !is_host(authority) {
            return Err(Refusal::BadHost);
        }
        let mut form = Form::origin(Some(authority), rest);
        if form.path.is_empty() {
            // 3.2.4: without path and query, OPTIONS means the server as a whole.
            form.path = if method == "OPTIONS" && form.query.is_none() { "*" } else { "/" };
        }
        Ok(form)
    }
}

/// RFC 9112 section 3.2: exactly one valid Host in HTTP/1.1, at most one in HTTP/1.0.
fn host<'b>(headers: &[Header<'b>], version: Version) -> Result<Option<&'b str>, Refusal> {
    let mut hosts = values(headers, "Host");
    let Some(host) = hosts.next() else {
        return if version == Version::Http10 { Ok(None) } else { Err(Refusal::NoHost) };
    };
    if hosts.next().is_some() {
        return Err(Refusal::TwoHosts);
    }
    let host = str::from_utf8(host).map_err(|_| Refusal::BadHost)?;
    if is_host(host) { Ok(Some(host)) } else { Err(Refusal::BadHost) }
}

/// `uri-host [ ":" port ]` with a host that is not empty (RFC 9110 sections 4.2.1 and 7.2, RFC 3986 section 3.2).
fn is_host(authority: &str) -> bool {
    let (name, port) = match authority.strip_prefix('[') {
        Some(literal) => match literal.split_once(']') {
            Some((literal, port)) if is_ip_literal(literal) => (literal, port),
            _ => return false,
        },
        None => authority.split_at_checked(authority.find(':').unwrap_or(authority.len())).unwrap_or_default(),
    };
    !name.is_empty() && (authority.starts_with('[') || is_reg_name(name.as_bytes())) && is_port(port)
}

/// An IPv6 address by its characters; what it means is for those who connect.
fn is_ip_literal(literal: &str) -> bool {
    literal.contains(':') && literal.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
}

/// RFC 3986 section 3.2.2: unreserved, sub-delims, percent with two digits.
fn is_reg_name(mut name: &[u8]) -> bool {
    loop {
        name = match name {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if is_reg_name_byte(*byte) => rest,
            _ => return false,
        }
    }
}

fn is_reg_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

/// Nothing, or a colon and a number of 16 bits; the digits may be missing.
fn is_port(port: &str) -> bool {
    match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => digits.is_empty() || is_port_number(digits),
    }
}

fn is_port_number(digits: &str) -> bool {
    digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
}

/// RFC 9112 section 6.3, without its leniencies.
fn body(headers: &[Header<'_>], version: Version) -> Result<Body, Refusal> {
    let length = content_length(headers)?;
    let chunked = transfer_coding(headers)?;
    match (length, chunked) {
        (None, false) => Ok(Body::None),
        (Some(length), false) => Ok(Body::Length(length)),
        (Some(_), true) => Err(Refusal::LengthAndCoding),
        (None, true) if version == Version::Http10 => Err(Refusal::CodingInHttp10),
        (None, true) => Ok(Body::Chunked),
    }
}

/// RFC 9112 section 6.3 allows a repeated equal value; we do not, since no client has a reason to send it.
fn content_length(headers: &[Header<'_>]) -> Result<Option<u64>, Refusal> {
    let mut lengths = values(headers, "Content-Length");
    let Some(length) = lengths.next() else {
        return Ok(None);
    };
    match lengths.next() {
        None => decimal(length).map(Some).ok_or(Refusal::BadLength),
        Some(_) => Err(Refusal::TwoLengths),
    }
}

/// `1*DIGIT` that fits into 64 bits; no sign, no list.
fn decimal(digits: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(digits).ok()?;
    if digits.starts_with('+') { None } else { digits.parse().ok() }
}

/// Whether the content is chunked. RFC 9112 section 6.1: chunked last and once; 501 for a coding not understood.
fn transfer_coding(headers: &[Header<'_>]) -> Result<bool, Refusal> {
    let mut chunked = false;
    for coding in values(headers, "Transfer-Encoding").flat_map(elements) {
        if chunked || coding.is_empty() {
            return Err(Refusal::BadCoding);
        }
        if !coding.eq_ignore_ascii_case("chunked") {
            return Err(Refusal::UnknownCoding);
        }
        chunked = true;
    }
    Ok(chunked)
}

/// RFC 9112 section 9.3: close wins; 1.1 keeps unless told otherwise, 1.0 only when told so.
fn keep_alive(headers: &[Header<'_>], version: Version) -> bool {
    let says = |token: &str| list(headers, "Connection").any(|element| element.eq_ignore_ascii_case(token));
    !says("close") && (version == Version::Http11 || says("keep-alive"))
}

/// Reads the content of a request, piece by piece as it comes.
///
/// Call [`next`](BodyReader::next) until `More` or `End`. After an `Err` the reader must not be used again. The
/// content's size has no limit here; the caller counts what it is given.
#[derive(Clone, Copy, Debug)]
pub struct BodyReader {
    state: BodyState,
    /// Content of this chunk or body that has not come yet; while the size is read, the size so far.
    left: u64,
    /// Bytes of chunk extensions and of trailers so far; one body can have each only up to its limit.
    extension: u32,
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

/// What [`BodyReader::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEvent<'b> {
    /// The next piece of content; never empty.
    Piece(&'b [u8]),
    /// The input is used up and the content goes on.
    More,
    /// The content has ended; what is left in the input belongs to the next request. Said again on every call.
    End,
}

impl BodyReader {
    /// At the first byte after the head.
    pub fn new(body: &Body) -> Self {
        let (state, left) = match *body {
            Body::None | Body::Length(0) => (BodyState::Done, 0),
            Body::Length(length) => (BodyState::Content, length),
            Body::Chunked => (BodyState::Size, 0),
        };
        BodyReader { state, left, extension: 0, trailer: 0 }
    }

    /// Takes the next piece, or the end, from the front of `input` and shortens it.
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

    /// Whether the content has ended.
    pub fn is_done(&self) -> bool {
        self.state == BodyState::Done
    }

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

    /// One byte of what lies around the content of the chunks (RFC 9112 sections 7.1, 7.1.1 and 7.1.2).
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

    /// RFC 9112 section 7.1: recipients must anticipate large sizes and prevent overflow.
    fn digit(&mut self, byte: u8) -> Result<BodyState, Refusal> {
        let digit = char::from(byte).to_digit(16).unwrap_or(0);
        // A chunk begins with `left` at zero, since the one before has been used up.
        self.left = self.left.checked_mul(16).ok_or(Refusal::BigChunk)? | u64::from(digit);
        // Leading zeros never overflow; counted as extension they still end.
        if self.left == 0 { self.extension(BodyState::SizeMore) } else { Ok(BodyState::SizeMore) }
    }

    fn extension(&mut self, then: BodyState) -> Result<BodyState, Refusal> {
        self.extension += 1;
        if self.extension > MAX_EXTENSION_BYTES { Err(Refusal::LongExtension) } else { Ok(then) }
    }

    fn trailer(&mut self, then: BodyState) -> Result<BodyState, Refusal> {
        self.trailer += 1;
        if self.trailer > MAX_TRAILER_BYTES { Err(Refusal::LongTrailer) } else { Ok(then) }
    }
}

/// What may stand in a field value or a quoted string (RFC 9110 section 5.5): no control character but the tab.
const fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

/// The chunk that ends a body (RFC 9112 section 7.1).
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The bytes as one chunk of a body (RFC 9112 section 7.1). An empty chunk would end the body: nothing is written.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    use core::fmt::Write as _;
    let mut size = alloc::string::String::new();
    let _ = write!(size, "{:x}\r\n", data.len());
    if data.is_empty() { Vec::new() } else { [size.as_bytes(), data, b"\r\n"].concat() }
}

/// The interim response that asks a client for the content of its request (RFC 9110 section 15.2.1), whole: a status
/// line without fields. Only for a client that waits for it ([`Head::expects_continue`]), before its final response.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Writes a response head to the end of a `Vec` that the caller reuses.
///
/// `ResponseHead::begin(out, Status::OK).header("Content-Type", "text/html").number("Content-Length", n).end()`
#[derive(Debug)]
#[must_use = "the head is not whole before end()"]
pub struct ResponseHead<'v> {
    out: &'v mut Vec<u8>,
}

impl<'v> ResponseHead<'v> {
    /// The status line (RFC 9112 section 4).
    pub fn begin(out: &'v mut Vec<u8>, status: Status) -> ResponseHead<'v> {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_number(out, u64::from(status.code()));
        out.push(b' ');
        out.extend_from_slice(status.reason().as_bytes());
        out.extend_from_slice(b"\r\n");
        ResponseHead { out }
    }

    /// A field line. CR, LF and NUL are a mistake of ours in `name` or `value` and are left out, so that no foreign
    /// text can begin a line of its own.
    pub fn header(self, name: &str, value: &str) -> Self {
        push_field(self.out, name, value);
        self
    }

    /// A field line with a number.
    pub fn number(self, name: &str, value: u64) -> Self {
        push_text(self.out, name);
        self.out.extend_from_slice(b": ");
        push_number(self.out, value);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// The blank line.
    pub fn end(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

pub(crate) fn push_field(out: &mut Vec<u8>, name: &str, value: &str) {
    push_text(out, name);
    out.extend_from_slice(b": ");
    push_text(out, value);
    out.extend_from_slice(b"\r\n");
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    let breaks = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
    debug_assert!(!text.as_bytes().iter().any(breaks), "line break in a header field");
    text.as_bytes().split(breaks).for_each(|part| out.extend_from_slice(part));
}

#[allow(clippy::indexing_slicing, reason = "a number of 64 bits has at most 20 digits")]
fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use httparse::EMPTY_HEADER;

    const LIMITS: HeadLimits = HeadLimits { head_bytes: 4096, head_count: 8, target_bytes: 64 };

    /// A whole head, or the refusal that every reader of these bytes must see.
    fn refusal(bytes: impl AsRef<[u8]>) -> Option<Refusal> {
        read(bytes.as_ref(), &LIMITS, &mut [EMPTY_HEADER; MAX_HEADERS]).err()
    }

    /// What is wrong with these field lines under HTTP/1.1 and a good Host.
    fn fields_refusal(fields: &str) -> Option<Refusal> {
        refusal(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    /// What `look` sees in the head of this request.
    fn with<T>(request: &str, look: impl Fn(&Head<'_, '_>) -> T) -> T {
        let mut store = [EMPTY_HEADER; MAX_HEADERS];
        let head = read(request.as_bytes(), &LIMITS, &mut store).unwrap().unwrap();
        look(&head)
    }

    fn body_of(fields: &str) -> Body {
        with(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), |head| head.body)
    }

    fn target_parts(line: &str) -> (String, Option<String>, Option<String>) {
        with(&format!("{line} HTTP/1.1\r\nHost: h:1\r\n\r\n"), |head| {
            (head.path.into(), head.query.map(Into::into), head.host.map(Into::into))
        })
    }

    #[test]
    fn a_head_is_taken_apart() {
        let request = "\r\nGET /a/b?c=d?e HTTP/1.1\r\nHost: [::1]:80\r\nX-Y:  one , ,\ttwo\t\r\nx-y: three\r\n\r\nrest";
        with(request, |head| {
            assert_eq!((head.method, head.path, head.query), ("GET", "/a/b", Some("c=d?e")));
            assert_eq!((head.version, head.body, head.keep_alive), (Version::Http11, Body::None, true));
            assert_eq!(&request[head.len..], "rest");
            assert_eq!(head.host, Some("[::1]:80"));
            assert_eq!(head.get("X-y"), Some(&b"one , ,\ttwo"[..]));
            assert_eq!(head.all("x-Y").count(), 2);
            assert!(head.list("X-Y").eq(["one", "two", "three"]));
            assert_eq!(head.get("x"), None);
        });
    }

    #[test]
    fn of_a_list_with_thousands_of_elements_the_first_are_looked_at() {
        let listed = |before: &str, count: usize, last: &str| {
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}{last}\r\n\r\n", before.repeat(count));
            with(&request, |head| (head.list("X").count(), head.has_token("X", "last")))
        };
        assert_eq!(listed("x,", MAX_ELEMENTS - 1, "last"), (MAX_ELEMENTS, true));
        assert_eq!(listed("x,", MAX_ELEMENTS, "last"), (MAX_ELEMENTS, false));
        assert_eq!(listed(" ,", MAX_ELEMENTS - 1, "last"), (1, true));
        assert_eq!(listed(" ,", MAX_ELEMENTS, "last"), (0, false));
        assert_eq!(listed("x\r\nX: ", LIMITS.head_count - 2, "last"), (LIMITS.head_count - 1, true));
    }

    #[test]
    fn a_media_type_is_as_good_as_the_best_line_that_names_it() {
        let quality = |lines: &str| with(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"), |h| h.quality("text/x"));
        for (accept, wanted) in [
            ("text/x", 1000),
            ("TEXT/X", 1000),
            ("text/x;q=0", 0),
            ("text/x;q=0.000", 0),
            ("text/x ; Q=0.5", 500),
            ("text/x;q=0.001", 1),
            ("text/x;q=0.25;a=b", 250),
            ("text/x;charset=utf-8;q=0.7", 700),
            ("text/x;q=1.000", 1000),
            ("a/b, text/x;q=0.9 ,c/d", 900),
            ("text/x;q=0, text/x;q=0.3", 300),
            ("text/x;v=\"a, b;q=0\";q=0.2", 200),
            ("a/b;v=\"x\\\", text/x\"", 0),
            ("a/b;v=\", text/x", 0),
            // A weight that is none.
            ("text/x;q=", 1000),
            ("text/x;q=no", 1000),
            ("text/x;q=0.0000", 1000),
            ("text/x;q=-1", 1000),
            ("*/*", 0),
            ("text/*", 0),
            ("text/xy, a/text/x", 0),
            ("", 0),
            (";q=1", 0),
        ] {
            assert_eq!(quality(&format!("Accept: {accept}\r\n")), wanted, "{accept}");
        }
        assert_eq!(quality("Accept: text/x;q=0.1\r\naccept: text/x;q=0.2\r\n"), 200);
        assert_eq!(quality("Accept: text/x;q=\u{e9}\r\n"), 1000);
        assert_eq!(quality(""), 0);
        let behind = |others: usize| quality(&format!("Accept: {}text/x\r\n", "a/b,".repeat(others)));
        assert_eq!((behind(MAX_ELEMENTS - 1), behind(MAX_ELEMENTS)), (1000, 0));
    }

    #[test]
    fn targets_have_four_forms() {
        let some = |text: &str| Some(String::from(text));
        assert_eq!(target_parts("GET /?"), ("/".into(), some(""), some("h:1")));
        assert_eq!(target_parts("GET HTTP://x:2/a?b"), ("/a".into(), some("b"), some("x:2")));
        assert_eq!(target_parts("GET ws://x?b"), ("/".into(), some("b"), some("x")));
        assert_eq!(target_parts("OPTIONS http://x"), ("*".into(), None, some("x")));
        assert_eq!(target_parts("OPTIONS *"), ("*".into(), None, some("h:1")));
        for line in ["GET *", "GET a", "GET ftp://x/", "GET /a#b", "GET  /", "GET /\u{e9}", "GET"] {
            assert_eq!(refusal(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n")), Some(Refusal::BadTarget), "{line}");
        }
        assert_eq!(refusal("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"), Some(Refusal::Connect));
        assert_eq!(refusal("GET http://u@x/ HTTP/1.1\r\nHost: a\r\n\r\n"), Some(Refusal::BadHost));
    }

    #[test]
    fn what_is_no_request_is_refused_before_its_end() {
        for (prefix, wanted) in [
            (&b"\x16"[..], Refusal::BadMethod),
            (b"PRI * HTTP/2", Refusal::OtherVersion),
            (b"GET / HTTP/0", Refusal::OtherVersion),
            (b"GET / HTTP/10", Refusal::BadVersion),
            (b"GET / HTTP/1.x", Refusal::BadVersion),
            (b"GET / HTTP/x", Refusal::BadVersion),
            (b"GET / HTTP/1.1\r\r", Refusal::BadLineEnd),
            (b"GET / h", Refusal::BadVersion),
            (b"GET / HTTP/1.1\n", Refusal::BadLineEnd),
            (b"GET / HTTP/1.1 ", Refusal::BadLineEnd),
            (b" ", Refusal::BadMethod),
            (b"\n", Refusal::BadLineEnd),
            (b"\r\r", Refusal::BadLineEnd),
            (b"\r\n\r\n\r\n\r\n\r", Refusal::BadMethod),
        ] {
            assert_eq!(refusal(prefix), Some(wanted), "{prefix:?}");
            assert_eq!(refusal(&prefix[..prefix.len() - 1]), None, "{prefix:?}");
        }
    }

    #[test]
    fn limits_are_refused_as_soon_as_they_are_passed() {
        let target = format!("GET /{}", "a".repeat(LIMITS.target_bytes));
        assert_eq!(refusal(&target), Some(Refusal::LongTarget));
        assert_eq!(refusal(&target[..target.len() - 1]), None);
        assert_eq!(refusal("M".repeat(MAX_METHOD + 1)), Some(Refusal::LongMethod));
        let many = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(LIMITS.head_count));
        assert_eq!(refusal(&many), None);
        assert_eq!(refusal(format!("{many}a")), Some(Refusal::ManyHeaders));
        let long = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(LIMITS.head_bytes));
        assert_eq!(refusal(&long[..LIMITS.head_bytes]), None);
        assert_eq!(refusal(&long[..=LIMITS.head_bytes]), Some(Refusal::LongHead));
    }

    #[test]
    fn a_head_may_have_exactly_the_limit() {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nmore";
        let limits = |head_bytes| HeadLimits { head_bytes, ..LIMITS };
        let len = request.len() - 4;
        assert_eq!(read(request, &limits(len), &mut [EMPTY_HEADER; 9]).unwrap().unwrap().len, len);
        assert_eq!(read(request, &limits(len - 1), &mut [EMPTY_HEADER; 9]).unwrap_err(), Refusal::LongHead);
        assert_eq!(read(request, &limits(len), &mut []).unwrap_err(), Refusal::ManyHeaders);
    }

    #[test]
    fn field_lines_are_strict() {
        for (fields, wanted) in [
            ("A: b\n", Refusal::BadLineEnd),
            ("A: b\rc\r\n", Refusal::BadLineEnd),
            ("A: b\r\n c\r\n", Refusal::FoldedLine),
            ("A: b\r\n\tc\r\n", Refusal::FoldedLine),
            ("A : b\r\n", Refusal::BadHeaderName),
            (": b\r\n", Refusal::BadHeaderName),
            ("A\r\n", Refusal::BadHeaderName),
            ("\u{e9}: b\r\n", Refusal::BadHeaderName),
            ("A: b\0c\r\n", Refusal::BadHeaderValue),
            ("A: b\x7f\r\n", Refusal::BadHeaderValue),
            ("A: \x0b\r\n", Refusal::BadHeaderValue),
        ] {
            assert_eq!(fields_refusal(fields), Some(wanted), "{fields:?}");
        }
        assert_eq!(fields_refusal("A:\r\nB: \u{e9}\r\nC:d\r\n"), None);
    }

    #[test]
    fn framing_is_strict() {
        for value in ["", "5, 5", "+5", "-1", "0x5", "5 5", "5,", "18446744073709551616", "\u{661}"] {
            let fields = format!("Content-Length: {value}\r\n");
            assert_eq!(fields_refusal(&fields), Some(Refusal::BadLength), "{value:?}");
        }
        for (fields, wanted) in [
            ("Content-Length: 5\r\ncontent-length: 5\r\n", Refusal::TwoLengths),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Refusal::LengthAndCoding),
            ("Transfer-Encoding: gzip, chunked\r\n", Refusal::UnknownCoding),
            ("Transfer-Encoding: identity\r\n", Refusal::UnknownCoding),
            ("Transfer-Encoding: chunked;a=b\r\n", Refusal::UnknownCoding),
            ("Transfer-Encoding: chunked, gzip\r\n", Refusal::BadCoding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Refusal::BadCoding),
            ("Transfer-Encoding:\r\n", Refusal::BadCoding),
            ("Transfer-Encoding: chunked,\r\n", Refusal::BadCoding),
        ] {
            assert_eq!(fields_refusal(fields), Some(wanted), "{fields:?}");
        }
        assert_eq!(refusal("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Some(Refusal::CodingInHttp10));
        assert_eq!(body_of("Content-Length: 18446744073709551615\r\n"), Body::Length(u64::MAX));
        assert_eq!(body_of("Content-Length: 007\r\n"), Body::Length(7));
        assert_eq!(body_of("Transfer-Encoding: Chunked\r\n"), Body::Chunked);
    }

    #[test]
    fn hosts_are_strict() {
        let judged = |host: &str| refusal(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        for host in ["a", "a.b:1", "[::1]", "[::ffff:1.2.3.4]:65535", "1.2.3.4", "a:", "a_b~%41"] {
            assert_eq!(judged(host), None, "{host}");
        }
        for host in
            ["", ":1", "a b", "a/b", "u@a", "a:b", "a:65536", "a:+1", "[::1", "[a]", "[::1]a", "a%4", "\u{e9}", "a:1:2"]
        {
            assert_eq!(judged(host), Some(Refusal::BadHost), "{host}");
        }
        assert_eq!(refusal("GET / HTTP/1.1\r\n\r\n"), Some(Refusal::NoHost));
        assert_eq!(refusal("GET / HTTP/1.0\r\n\r\n"), None);
        assert_eq!(refusal("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"), Some(Refusal::TwoHosts));
    }

    #[test]
    fn close_wins_and_1_0_must_ask() {
        let keeps = |version: &str, connection: &str| {
            with(&format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n\r\n"), |h| h.keep_alive)
        };
        assert!(keeps("1.1", "x") && keeps("1.2", "") && keeps("1.0", "x, Keep-Alive"));
        assert!(!keeps("1.0", "") && !keeps("1.1", "keep-alive, CLOSE") && !keeps("1.0", "close, keep-alive"));
    }

    #[test]
    fn a_client_with_content_may_wait_to_be_asked_for_it() {
        let expects = |version: &str, fields: &str| {
            let request = format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
            with(&request, |head| head.expects_continue())
        };
        let (yes, no, unknown) = (Ok(true), Ok(false), Err(Refusal::UnknownExpectation));
        for (fields, wanted) in [
            ("", no),
            ("Content-Length: 1\r\n", no),
            ("Content-Length: 1\r\nExpect: 100-continue\r\n", yes),
            ("Transfer-Encoding: chunked\r\nexpect:\t100-Continue \r\n", yes),
            // Without content there is nothing to wait for.
            ("Expect: 100-continue\r\n", no),
            ("Content-Length: 0\r\nExpect: 100-continue\r\n", no),
            // A list, over several lines, with empty elements.
            ("Content-Length: 1\r\nExpect: , 100-continue ,\r\nExpect: 100-CONTINUE\r\n", yes),
            ("Content-Length: 1\r\nExpect: ,\r\nExpect:\r\n", no),
            ("Content-Length: 1\r\nExpect: 100-continue\r\nExpect: x\r\n", unknown),
            ("Content-Length: 1\r\nExpect: x, 100-continue\r\n", unknown),
            ("Content-Length: 1\r\nExpect: x=\"a, 100-continue\"\r\n", unknown),
            ("Content-Length: 1\r\nExpect: 100-continue;q=1\r\n", unknown),
            ("Content-Length: 1\r\nExpect: 100-continue=1\r\n", unknown),
            ("Content-Length: 1\r\nExpect: 100 continue\r\n", unknown),
            ("Content-Length: 1\r\nExpect: 100-continue\u{e9}\r\n", unknown),
            ("Expect: x\r\n", unknown),
        ] {
            assert_eq!(expects("1.1", fields), wanted, "{fields:?}");
            if !fields.contains("Transfer-Encoding") {
                assert_eq!(expects("1.0", fields), no, "{fields:?}");
            }
        }
        let not_text = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: \xff\r\n\r\n";
        let mut store = [EMPTY_HEADER; MAX_HEADERS];
        assert_eq!(read(not_text, &LIMITS, &mut store).unwrap().unwrap().expects_continue(), unknown);
        // More elements than a list is read for elsewhere hide nothing.
        let far = format!("Content-Length: 1\r\nExpect: {}x\r\n", "100-continue,".repeat(MAX_ELEMENTS));
        assert_eq!(expects("1.1", &far), unknown);
        assert_eq!(Refusal::UnknownExpectation.status(), Status::EXPECTATION_FAILED);
    }

    /// All content, what is left behind the end, or the refusal.
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
        assert_eq!(content(b"xy", Body::None), Ok(("".into(), 2)));
        assert_eq!(content(b"xy", Body::Length(0)), Ok(("".into(), 2)));
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

    #[test]
    fn response_heads_are_written() {
        let mut out = Vec::from(b"before");
        ResponseHead::begin(&mut out, Status::NOT_FOUND).header("A", "b c").number("N", 0).number("M", u64::MAX).end();
        assert_eq!(out, b"beforeHTTP/1.1 404 Not Found\r\nA: b c\r\nN: 0\r\nM: 18446744073709551615\r\n\r\n");
    }

    #[test]
    fn the_interim_response_is_what_would_be_written() {
        let mut out = Vec::new();
        ResponseHead::begin(&mut out, Status::CONTINUE).end();
        assert_eq!(out, CONTINUE);
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "line break"))]
    fn no_value_begins_a_line() {
        let mut out = Vec::new();
        ResponseHead::begin(&mut out, Status::OK).header("A", "b\r\nC: d").end();
        assert_eq!(out, b"HTTP/1.1 200 OK\r\nA: bC: d\r\n\r\n");
    }
}

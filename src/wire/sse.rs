//! Event streams: what an `EventSource` reads (WHATWG HTML, section 9.2 "Server-sent events").
//!
//! A stream is UTF-8 text of lines. An event is a few fields, a line each, and an empty line; a comment is a line that
//! begins with a colon. What would break a line cannot stand in an id or an event name, and is left out by [`event`].

use alloc::vec::Vec;

/// The media type of the response.
pub const MEDIA_TYPE: &str = "text/event-stream";

/// A comment: keeps proxies and the client's network from thinking that nobody is there.
pub const COMMENT: &[u8] = b":\n\n";

/// Writes one event. `data` may have several lines, ended by CR, LF or both; the client joins them with LF.
pub fn event(out: &mut Vec<u8>, id: &str, name: Option<&str>, data: &[u8]) {
    field(out, b"id", id.as_bytes());
    if let Some(name) = name {
        field(out, b"event", name.as_bytes());
    }
    let mut rest = data;
    while let Some((one, behind)) = memchr::memchr2(b'\r', b'\n', rest).and_then(|end| rest.split_at_checked(end)) {
        line(out, b"data", one);
        rest = match behind {
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
            [] => behind,
        };
    }
    line(out, b"data", rest);
    out.push(b'\n');
}

/// Tells the client how long to wait before it comes again, in milliseconds.
pub fn retry(out: &mut Vec<u8>, millis: u64) {
    use core::fmt::Write as _;
    let mut digits = alloc::string::String::new();
    let _ = write!(digits, "{millis}");
    line(out, b"retry", digits.as_bytes());
    out.push(b'\n');
}

/// Whether a text can be an id: an empty one would clear the client's last id, NUL makes clients ignore it.
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && is_word(text.as_bytes())
}

fn is_word(text: &[u8]) -> bool {
    !text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if !value.is_empty() && is_word(value) {
        line(out, name, value);
    }
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.push(b'\n');
}

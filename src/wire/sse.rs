//! Event streams, as an `EventSource` reads them (WHATWG HTML, section 9.2 "Server-sent events").
//!
//! A stream is UTF-8 text of lines. An event is a few fields, a line each, and an empty line; a comment is a line that
//! begins with a colon. All functions append whole lines.

use alloc::vec::Vec;

/// The media type of the response (section 9.2.5).
pub const MEDIA_TYPE: &str = "text/event-stream";

/// A comment without text. Sent from time to time, it keeps proxies from closing the connection as idle (section
/// 9.2.7); clients ignore it.
pub const COMMENT: &[u8] = b":\n\n";

/// Appends one event. `data` is UTF-8; it may have several lines, separated by CR, LF or both, which the client joins
/// with LF. `name` is the event's type; `None`: `message`.
///
/// The fields `id` and `event` are left out where their value is empty or has CR, LF or NUL.
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

/// Appends a field that sets the client's reconnection time, in milliseconds.
pub fn retry(out: &mut Vec<u8>, millis: u64) {
    use core::fmt::Write as _;
    let mut digits = alloc::string::String::new();
    let _ = write!(digits, "{millis}");
    line(out, b"retry", digits.as_bytes());
    out.push(b'\n');
}

/// Whether a text can be an event's id: not empty, since that would clear the client's last id; no NUL, which makes
/// clients ignore the field; no CR or LF.
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && is_word(text.as_bytes())
}

/// Whether a text can be the value of a field.
fn is_word(text: &[u8]) -> bool {
    !text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

/// A field, where its value is not empty and fits on a line.
fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if !value.is_empty() && is_word(value) {
        line(out, name, value);
    }
}

/// `name: value LF`.
fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.push(b'\n');
}

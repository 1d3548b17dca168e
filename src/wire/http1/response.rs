//! Response heads (RFC 9112 sections 4 and 5), written behind what a buffer already has.

use alloc::vec::Vec;

use crate::status::Status;

/// The interim response 100 (RFC 9110 section 15.2.1), whole: the status line and the blank line. Sent once, before the
/// final response, to a client that waits for it ([`Head::expects_continue`](super::Head::expects_continue)); never in
/// HTTP/1.0.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Writes a response head to the end of a `Vec` that the caller reuses: [`begin`](ResponseHead::begin), field lines in
/// the order in which they are to stand, [`end`](ResponseHead::end).
///
/// `ResponseHead::begin(out, Status::OK).header("Content-Type", "text/html").number("Content-Length", n).end()`
#[derive(Debug)]
#[must_use = "the head is not whole before end()"]
pub struct ResponseHead<'v> {
    out: &'v mut Vec<u8>,
}

impl<'v> ResponseHead<'v> {
    /// The status line (RFC 9112 section 4), always of HTTP/1.1 (RFC 9110 section 2.5).
    pub fn begin(out: &'v mut Vec<u8>, status: Status) -> ResponseHead<'v> {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_number(out, u64::from(status.code()));
        out.push(b' ');
        out.extend_from_slice(status.reason().as_bytes());
        out.extend_from_slice(b"\r\n");
        ResponseHead { out }
    }

    /// A field line. CR, LF and NUL are left out of `name` and `value`, so that no foreign text can begin a line of its
    /// own (response splitting).
    ///
    /// # Panics
    /// With debug assertions, where there is one of these: the caller is to have checked its text.
    pub fn header(self, name: &str, value: &str) -> Self {
        push_field(self.out, name, value);
        self
    }

    /// A field line with a number, in decimal.
    pub fn number(self, name: &str, value: u64) -> Self {
        push_text(self.out, name);
        self.out.extend_from_slice(b": ");
        push_number(self.out, value);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Whole field lines, each written by [`push_field`].
    pub fn lines(self, lines: &[u8]) -> Self {
        self.out.extend_from_slice(lines);
        self
    }

    /// The blank line that ends the head.
    pub fn end(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Appends a field line, `name: value CR LF`, without what would end it; see [`ResponseHead::header`].
pub fn push_field(out: &mut Vec<u8>, name: &str, value: &str) {
    push_text(out, name);
    out.extend_from_slice(b": ");
    push_text(out, value);
    out.extend_from_slice(b"\r\n");
}

/// The text without CR, LF and NUL.
fn push_text(out: &mut Vec<u8>, text: &str) {
    let breaks = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
    debug_assert!(!text.as_bytes().iter().any(breaks), "line break in a header field");
    text.as_bytes().split(breaks).for_each(|part| out.extend_from_slice(part));
}

/// The number in decimal.
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

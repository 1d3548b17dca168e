//! The first step of reading a head: its lines from the front, one byte position after the other. It refuses at the
//! first byte that no request can have there.

use core::str;

use memchr::memchr;

use super::fields::is_token;
use super::{Refusal, Version};

/// The most bytes of a method; a longer one is answered with 501 (RFC 9112 section 3). No registered method comes near.
pub const MAX_METHOD: usize = 32;

/// How many empty lines may stand before the request line (RFC 9112 section 2.2).
pub const MAX_LEADING_LINES: usize = 4;

/// A head whose lines are whole and counted, and whose request line is taken apart. What is within the field lines has
/// not been looked at.
#[derive(Clone, Copy)]
pub(super) struct Lines<'b> {
    pub(super) request: RequestLine<'b>,
    /// The field lines with the blank line that ends them.
    pub(super) fields: &'b [u8],
    pub(super) len: usize,
}

/// RFC 9112 section 2.2: empty lines, the request line, field lines, an empty line; CR LF at the end of each. `seen`
/// has at most as many bytes as a head may have; `count` bounds the field lines, `target_bytes` the target. `None`:
/// cut.
pub(super) fn scan(seen: &[u8], count: usize, target_bytes: usize) -> Result<Option<Lines<'_>>, Refusal> {
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

/// RFC 9112 section 2.2: a server should ignore at least one empty line before the request line. Returns what stands
/// behind them; `None` while the next byte may still be one of theirs.
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

/// A request line taken apart; the target only by its characters.
#[derive(Clone, Copy)]
pub(super) struct RequestLine<'b> {
    pub(super) method: &'b str,
    pub(super) target: &'b str,
    pub(super) version: Version,
}

/// `method SP request-target SP HTTP-version CRLF` (RFC 9112 section 3) with single spaces. Returns the line and what
/// stands behind it; `None` while it is cut.
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

/// The bytes up to the next space: at least one, at most `limit` (else `long`), all `allowed` (else `bad`); and what
/// stands behind the space. `None` while the space has not come.
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

/// How many bytes at the front are all `allowed`. While a head is cut its target is read again with each packet, so
/// this takes 32 bytes at a time, which the compiler makes into vector instructions.
fn run(bytes: &[u8], allowed: impl Fn(u8) -> bool) -> usize {
    let whole = |chunk: &&[u8; 32]| chunk.iter().fold(true, |so_far, &byte| so_far & allowed(byte));
    let front = 32 * bytes.as_chunks().0.iter().take_while(whole).count();
    front + bytes.iter().skip(front).take_while(|&&byte| allowed(byte)).count()
}

/// What a target may have: the characters of RFC 3986 and those that clients send unescaped all the same. Not `#`: a
/// target has no fragment (RFC 9112 section 3.2), and readers differ on what to do with one.
const fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// `HTTP/` DIGIT `.` DIGIT CR LF (RFC 9112 section 2.3), and what stands behind it; `None` while it is cut.
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

/// The front of some bytes, and the rest of them.
type Split<'b> = (&'b [u8], &'b [u8]);

/// The field lines with the blank line that ends them, and what stands behind it; `None` while that line has not come.
/// Counts lines and checks their ends; their syntax is checked by httparse when the head is whole.
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

/// `line` is what stands before an LF: it must have one CR, at its end (RFC 9112 section 2.2).
fn check_line_end(line: &[u8]) -> Result<(), Refusal> {
    match memchr(b'\r', line) {
        Some(at) if at + 1 == line.len() => Ok(()),
        _ => Err(Refusal::BadLineEnd),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{LIMITS, refusal};
    use super::*;
    use alloc::format;

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
}

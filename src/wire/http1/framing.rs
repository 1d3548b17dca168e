//! Whether content follows a head, and how it is delimited (RFC 9112 section 6).

use core::str;

use httparse::Header;

use super::fields::{elements, values};
use super::{Refusal, Version};

/// How the content behind a request head is delimited (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Neither Content-Length nor Transfer-Encoding: there is no content.
    None,
    /// Content-Length: so many bytes.
    Length(u64),
    /// Transfer-Encoding: chunked (RFC 9112 section 7.1); the length is known at its end.
    Chunked,
}

impl Body {
    /// Whether no byte of content follows the head.
    pub const fn is_empty(&self) -> bool {
        matches!(self, Body::None | Body::Length(0))
    }
}

/// RFC 9112 section 6.3, without what it allows a server to repair: both fields at once are refused.
pub(super) fn body(headers: &[Header<'_>], version: Version) -> Result<Body, Refusal> {
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

/// The one Content-Length. RFC 9112 section 6.3 allows equal repeated values; here they are refused, since readers
/// differ on them and no client has a reason to send them.
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

/// Whether the content is chunked (RFC 9112 section 6.1): `chunked` must be the last coding and be there once; another
/// coding is answered with 501.
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

#[cfg(test)]
mod tests {
    use super::super::sample::{fields_refusal, refusal, with};
    use super::*;
    use alloc::format;

    fn body_of(fields: &str) -> Body {
        with(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), |head| head.body)
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
}

//! Request heads (RFC 9112 sections 3 and 5): from whole lines to a [`Head`].

use core::str;

use httparse::Header;

use super::fields::{self, list, values};
use super::framing;
use super::scan::{Lines, RequestLine, scan};
use super::target::{Form, host};
use super::{Body, Refusal};

/// The most field lines a head may have, whatever the configuration allows: the length of `store` in [`read`].
pub const MAX_HEADERS: usize = 256;

/// The limits of a request head. Each refuses: with 431, `target_bytes` with 414.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head, empty lines before and after included.
    pub head_bytes: usize,
    /// Field lines; more than [`MAX_HEADERS`] mean as many.
    pub head_count: usize,
    /// Bytes of the request target.
    pub target_bytes: usize,
}

/// The version of a request (RFC 9112 section 2.3). A later minor version is taken as 1.1 (RFC 9110 section 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// A whole request head, valid as far as its fields promise below. Its texts lie in the bytes that were read (`'b`),
/// its list of fields in the caller's scratch (`'h`).
///
/// Field names are compared without regard to case, here and in all methods.
#[derive(Clone, Debug)]
pub struct Head<'h, 'b> {
    /// The method (RFC 9110 section 9.1): a token of at most [`MAX_METHOD`](super::MAX_METHOD) bytes, case-sensitive,
    /// never `CONNECT`.
    pub method: &'b str,
    /// The request target as it was sent (RFC 9112 section 3.2); visible ASCII without `#`.
    pub target: &'b str,
    /// The path of the target, percent-encoding as it was sent: begins with `/`, or is `*` (only for OPTIONS).
    pub path: &'b str,
    /// What follows the first `?` of the target, undecoded; may be empty.
    pub query: Option<&'b str>,
    /// The version; only 1.0 and 1.1 are read.
    pub version: Version,
    /// The field lines in their order; names are tokens, values have no white space around them and no control
    /// characters but tabs, and may be other than UTF-8.
    pub headers: &'h [Header<'b>],
    /// The length of the head in bytes, empty lines before it included; content or the next request begins there.
    pub len: usize,
    /// How the content is delimited (RFC 9112 section 6.3).
    pub body: Body,
    /// Whether the client lets another request follow on this connection (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// The authority asked for, with its port if there is one: of an absolute target, else of Host (RFC 9112 section
    /// 3.2.2). `None` only in HTTP/1.0.
    pub host: Option<&'b str>,
}

impl<'b> Head<'_, 'b> {
    /// The value of the first line of this name; `None` where there is no such line.
    pub fn get(&self, name: &str) -> Option<&'b [u8]> {
        values(self.headers, name).next()
    }

    /// The values of all lines of this name, in their order.
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'b [u8]> + 's {
        values(self.headers, name)
    }

    /// The elements of a comma list over all lines of this name (RFC 9110 section 5.6.1), without the white space
    /// around them: the first [`MAX_ELEMENTS`](super::MAX_ELEMENTS), of which empty ones are then left out. A line that
    /// is not UTF-8 counts as one empty element. Not for lists whose elements may be quoted strings: a comma within
    /// quotes separates too.
    pub fn list<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'b str> + 's {
        list(self.headers, name)
    }

    /// The weight that Accept gives a media type, `type/subtype` (RFC 9110 section 12.5.1), in thousandths: the
    /// greatest of all media ranges that name it, compared without regard to case and to parameters other than `q`. 0:
    /// no range names it, or each does with `q=0`. Wildcards (`*/*`, `text/*`) name nothing, so that a client that
    /// takes anything can be sent what is usual. Of all ranges the first [`MAX_ELEMENTS`](super::MAX_ELEMENTS) are
    /// looked at.
    pub fn quality(&self, media_type: &str) -> u16 {
        fields::quality(self.headers, media_type)
    }

    /// Whether the [`list`](Head::list) of this name has this token, compared without regard to case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        list(self.headers, name).any(|element| element.eq_ignore_ascii_case(token))
    }

    /// Whether the client waits for [`CONTINUE`](super::CONTINUE) before it sends the content (RFC 9110 section
    /// 10.1.1): `Expect: 100-continue`, in any case, in a request that has content. In HTTP/1.0 the field is ignored,
    /// as the RFC demands.
    ///
    /// The client may send its content without having received anything; a server that has received some of it may
    /// leave [`CONTINUE`](super::CONTINUE) out. Clients differ on whether they send the content or their next request
    /// behind a final response in its stead, so the connection must be closed behind that response.
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

/// Reads the request head at the front of `bytes`, which begin where the request before it ended.
///
/// `Ok(None)`: the head is not whole; the same bytes are to be presented again with more behind them. The result for a
/// prefix of a head is `Ok(None)` or the result for the whole. `store` is scratch, `[EMPTY_HEADER; MAX_HEADERS]`; a
/// shorter one lowers `limits.head_count`. Takes time in proportion to the bytes of the head, and allocates nothing.
///
/// # Errors
/// While the head is not whole, the first [`Refusal`] in the order of its bytes; on a whole head then the first of the
/// syntax of fields, the target, Host, and what delimits the content. Nothing behind a refused head can be read.
pub fn read<'h, 'b>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    store: &'h mut [Header<'b>],
) -> Result<Option<Head<'h, 'b>>, Refusal> {
    // What lies beyond the limit is not looked at, so that it is passed at the same byte however the bytes are cut.
    let seen = bytes.get(..limits.head_bytes).unwrap_or(bytes);
    let count = limits.head_count.min(store.len());
    match scan(seen, count, limits.target_bytes)? {
        Some(lines) => interpret(lines, store).map(Some),
        None if bytes.len() > limits.head_bytes => Err(Refusal::LongHead),
        None => Ok(None),
    }
}

/// The second step: fields, target, host and framing of a head whose lines are whole.
fn interpret<'h, 'b>(lines: Lines<'b>, store: &'h mut [Header<'b>]) -> Result<Head<'h, 'b>, Refusal> {
    let RequestLine { method, target, version } = lines.request;
    let headers = field_lines(lines.fields, store)?;
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
        body: framing::body(headers, version)?,
        keep_alive: keep_alive(headers, version),
        host: form.authority.or(host),
    })
}

/// `name: value` of each line (RFC 9112 section 5), by httparse.
fn field_lines<'h, 'b>(bytes: &'b [u8], store: &'h mut [Header<'b>]) -> Result<&'h [Header<'b>], Refusal> {
    match httparse::parse_headers(bytes, store) {
        Ok(httparse::Status::Complete((_, headers))) => Ok(headers),
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::ManyHeaders),
        Err(httparse::Error::HeaderValue) => Err(Refusal::BadHeaderValue),
        // The scan has seen the blank line, so "partial" can only mean a line without a colon.
        Ok(httparse::Status::Partial) | Err(_) => Err(Refusal::BadHeaderName),
    }
}

/// RFC 9112 section 9.3: `close` goes before `keep-alive`; without either, HTTP/1.1 persists and HTTP/1.0 does not.
fn keep_alive(headers: &[Header<'_>], version: Version) -> bool {
    let has = |option: &str| list(headers, "Connection").any(|element| element.eq_ignore_ascii_case(option));
    !has("close") && (version == Version::Http11 || has("keep-alive"))
}

#[cfg(test)]
mod tests {
    use super::super::MAX_ELEMENTS;
    use super::super::sample::{LIMITS, fields_refusal, with};
    use super::*;
    use crate::status::Status;
    use alloc::format;
    use httparse::EMPTY_HEADER;

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
    fn close_wins_and_1_0_must_ask() {
        let keeps = |version: &str, connection: &str| {
            with(&format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n\r\n"), |h| h.keep_alive)
        };
        assert!(keeps("1.1", "x") && keeps("1.2", "") && keeps("1.0", "x, Keep-Alive"));
        assert!(!keeps("1.0", "") && !keeps("1.1", "keep-alive, CLOSE") && !keeps("1.0", "close, keep-alive"));
    }

    /// What is read from these field lines in a request of this version.
    #[expect(clippy::redundant_closure_for_method_calls, reason = "not general over a head's lifetimes")]
    fn expects(version: &str, fields: &str) -> Result<bool, Refusal> {
        with(&format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n"), |head| head.expects_continue())
    }

    #[test]
    fn a_client_with_content_may_wait_to_be_asked_for_it() {
        for (fields, wanted) in [
            ("", false),
            ("Content-Length: 1\r\n", false),
            ("Content-Length: 1\r\nExpect: 100-continue\r\n", true),
            ("Transfer-Encoding: chunked\r\nexpect:\t100-Continue \r\n", true),
            // Without content there is nothing to wait for.
            ("Expect: 100-continue\r\n", false),
            ("Content-Length: 0\r\nExpect: 100-continue\r\n", false),
            // A list, over several lines, with empty elements.
            ("Content-Length: 1\r\nExpect: , 100-continue ,\r\nExpect: 100-CONTINUE\r\n", true),
            ("Content-Length: 1\r\nExpect: ,\r\nExpect:\r\n", false),
        ] {
            assert_eq!(expects("1.1", fields), Ok(wanted), "{fields:?}");
        }
        assert_eq!(expects("1.0", "Content-Length: 1\r\nExpect: 100-continue\r\n"), Ok(false));
    }

    #[test]
    fn an_unknown_expectation_is_refused() {
        // More elements than a list is read for elsewhere hide nothing.
        let far = "100-continue,".repeat(MAX_ELEMENTS) + "x";
        for expectation in [
            "x",
            "100-continue\r\nExpect: x",
            "x, 100-continue",
            "x=\"a, 100-continue\"",
            "100-continue;q=1",
            "100-continue=1",
            "100 continue",
            "100-continue\u{e9}",
            &far,
        ] {
            let fields = format!("Expect: {expectation}\r\n");
            let with_content = format!("Content-Length: 1\r\n{fields}");
            assert_eq!(expects("1.1", &fields), Err(Refusal::UnknownExpectation), "{fields:?}");
            assert_eq!(expects("1.1", &with_content), Err(Refusal::UnknownExpectation), "{fields:?}");
            assert_eq!(expects("1.0", &with_content), Ok(false), "{fields:?}");
        }
        let not_text = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: \xff\r\n\r\n";
        let mut store = [EMPTY_HEADER; MAX_HEADERS];
        let head = read(not_text, &LIMITS, &mut store).unwrap().unwrap();
        assert_eq!(head.expects_continue(), Err(Refusal::UnknownExpectation));
        assert_eq!(Refusal::UnknownExpectation.status(), Status::EXPECTATION_FAILED);
    }
}

//! HTTP/1.1 messages (RFC 9112): request heads and content are read, response heads and chunks are written.
//!
//! A head is read in two steps. `scan` goes over the bytes from the front, one position after the other: line ends, the
//! request line, the limits. It refuses at the first byte that no request can have there, so neither a TLS
//! `ClientHello` nor an endless target is buffered to its end. When it has found the blank line, httparse takes the
//! field lines apart and `interpret` checks the few fields that decide about framing and routing. The second step runs
//! on whole heads only, which makes the result independent of where the bytes were cut.
//!
//! Strict where leniency lets two readers of the same bytes disagree (request smuggling, RFC 9112 section 11.2): the
//! RFC allows a bare LF as line end and equal repeated Content-Length; here both are refused.
//!
//! | file | what is in it |
//! |---|---|
//! | `request` | the head as a whole: [`read`], [`Head`] and its look-ups of fields |
//! | `scan` | the first step: line ends, the request line, limits |
//! | `target` | request targets and hosts |
//! | `fields` | field values: lists, tokens, weights |
//! | `framing` | whether content follows and how it is delimited |
//! | `body` | content, read piece by piece; chunks, written |
//! | `response` | response heads, written |
//! | `refusal` | why a request is refused: one table of names, statuses and words |

mod body;
mod fields;
mod framing;
mod refusal;
mod request;
mod response;
mod scan;
mod target;

pub use body::{BodyEvent, BodyReader, LAST_CHUNK, MAX_EXTENSION_BYTES, MAX_TRAILER_BYTES, chunk};
pub use fields::MAX_ELEMENTS;
pub use framing::Body;
pub use refusal::Refusal;
pub use request::{Head, HeadLimits, MAX_HEADERS, Version, read};
pub use response::{CONTINUE, ResponseHead, push_field};
pub use scan::{MAX_LEADING_LINES, MAX_METHOD};

pub(crate) use fields::is_token;

/// What the tests of several files read heads with.
#[cfg(test)]
mod sample {
    use super::{Head, HeadLimits, MAX_HEADERS, Refusal, read};
    use alloc::format;
    use httparse::EMPTY_HEADER;

    pub(super) const LIMITS: HeadLimits = HeadLimits { head_bytes: 4096, head_count: 8, target_bytes: 64 };

    /// The refusal of these bytes; `None` where a head is read or is not whole.
    pub(super) fn refusal(bytes: impl AsRef<[u8]>) -> Option<Refusal> {
        read(bytes.as_ref(), &LIMITS, &mut [EMPTY_HEADER; MAX_HEADERS]).err()
    }

    /// The refusal of these field lines in an HTTP/1.1 request with a good Host.
    pub(super) fn fields_refusal(fields: &str) -> Option<Refusal> {
        refusal(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    /// What `look` returns for the head of this request, which must be whole and good.
    pub(super) fn with<T>(request: &str, look: impl Fn(&Head<'_, '_>) -> T) -> T {
        let mut store = [EMPTY_HEADER; MAX_HEADERS];
        let head = read(request.as_bytes(), &LIMITS, &mut store).unwrap().unwrap();
        look(&head)
    }
}

//! Why a request is refused: one table of names, statuses and words.

use crate::status::Status;

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident $status:ident $words:literal,)+) => {
        /// Why a request is refused: it breaks the named section, or passes a limit, or asks for what the words call
        /// not supported.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Refusal {
            $(
                $(#[$doc])*
                #[doc = concat!($words, ".")]
                $name,
            )+
        }

        impl Refusal {
            /// Every refusal, in the order of the table.
            pub const ALL: &'static [Refusal] = &[$(Refusal::$name),+];

            /// The status code of the response that refuses the request.
            pub const fn status(&self) -> Status {
                match self {
                    $(Refusal::$name => Status::$status,)+
                }
            }

            /// What is wrong: one line in lower case without a period, for the log and for the content of the response.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_an_error_status_and_one_line_of_words_of_its_own() {
        for (at, refusal) in Refusal::ALL.iter().enumerate() {
            let words = refusal.words();
            assert!(refusal.status().code() >= 400, "{refusal:?}");
            assert!(!words.is_empty() && words.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{words}");
            assert!(Refusal::ALL.iter().skip(at + 1).all(|other| other.words() != words), "{words}");
        }
    }
}

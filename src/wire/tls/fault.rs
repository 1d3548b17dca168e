//! What a peer can do wrong after the handshake, with the alert that answers it and a word for a counter.

use super::Alert;

/// What the peer did wrong. The connection must be failed: [`Fault::alert`] is sent, nothing else after it, and what is
/// still received is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A record of a content type that may not come now, or of none that there is (RFC 8446 section 5).
    RecordType,
    /// A record header with a version that is not TLS (RFC 8446 section 5.1).
    Version,
    /// A record above 2^14 + 256 bytes (RFC 8446 section 5.2), in TLS 1.2 2^14 + 2048 (RFC 5246 section 6.2.3).
    Oversized,
    /// A record too short to hold its authentication tag.
    Truncated,
    /// A record that does not decrypt (RFC 8446 section 5.2).
    Mac,
    /// Plaintext above 2^14 bytes (RFC 8446 section 5.4).
    LongPlaintext,
    /// Plaintext of padding only (RFC 8446 section 5.4).
    NoContentType,
    /// A handshake record or alert without content (RFC 8446 section 5.1).
    Empty,
    /// A record of another type between the fragments of a handshake message (RFC 8446 section 5.1).
    Interleaved,
    /// A handshake message that may not come after the handshake (RFC 8446 section 4).
    Message,
    /// A handshake message behind a KeyUpdate in the same record (RFC 8446 section 5.1).
    Unaligned,
    /// A handshake message or alert of a length that it cannot have.
    Length,
    /// A KeyUpdate whose value is neither 0 nor 1 (RFC 8446 section 4.6.3), or an alert of no level that there is.
    Value,
    /// More KeyUpdates or tickets without data between them than [`MAX_FRUITLESS`](super::MAX_FRUITLESS) allows.
    TooManyUpdates,
    /// Likewise, records without content.
    TooManyEmpty,
    /// Likewise, warnings.
    TooManyWarnings,
    /// Likewise, attempts to renegotiate.
    TooManyRenegotiations,
    /// 2^64 records under one key.
    Sequence,
    /// The peer has failed the connection, with this alert; it is not answered.
    Alert(Alert),
}

impl Fault {
    /// The alert to be sent, of level fatal; `None` where the peer has failed the connection itself.
    pub const fn alert(self) -> Option<Alert> {
        Some(match self {
            Fault::Version => Alert::PROTOCOL_VERSION,
            Fault::Oversized | Fault::LongPlaintext => Alert::RECORD_OVERFLOW,
            Fault::Truncated | Fault::Mac => Alert::BAD_RECORD_MAC,
            Fault::Length => Alert::DECODE_ERROR,
            Fault::Value => Alert::ILLEGAL_PARAMETER,
            Fault::Alert(_) => return None,
            _ => Alert::UNEXPECTED_MESSAGE,
        })
    }

    /// The fault as one word, for a log or the label of a counter.
    pub const fn word(self) -> &'static str {
        match self {
            Fault::RecordType => "record_type",
            Fault::Version => "record_version",
            Fault::Oversized => "record_oversized",
            Fault::Truncated => "record_truncated",
            Fault::Mac => "record_mac",
            Fault::LongPlaintext => "plaintext_oversized",
            Fault::NoContentType => "no_content_type",
            Fault::Empty => "empty_message",
            Fault::Interleaved => "interleaved",
            Fault::Message => "handshake_message",
            Fault::Unaligned => "unaligned",
            Fault::Length => "message_length",
            Fault::Value => "message_value",
            Fault::TooManyUpdates => "key_updates",
            Fault::TooManyEmpty => "empty_records",
            Fault::TooManyWarnings => "warnings",
            Fault::TooManyRenegotiations => "renegotiations",
            Fault::Sequence => "sequence",
            Fault::Alert(_) => "alert_received",
        }
    }
}

//! Close frames (RFC 6455 sections 5.5.1 and 7.4): their codes, and their bodies in both directions.

use super::{Fault, MAX_CONTROL};

/// The status code of a close frame (RFC 6455 section 7.4 and IANA's WebSocket Close Code Number Registry), or one of
/// those that only an API reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The purpose of the connection has been fulfilled.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// The server stops, or the browser has left the page.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// The peer has broken the protocol.
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    /// A type of data that this end does not accept.
    pub const UNSUPPORTED_DATA: CloseCode = CloseCode(1003);
    /// Never sent: the close frame received had no code.
    pub const NO_STATUS_RECEIVED: CloseCode = CloseCode(1005);
    /// Never sent: the connection ended without a close frame.
    pub const ABNORMAL_CLOSURE: CloseCode = CloseCode(1006);
    /// Data not consistent with the type of its message, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: CloseCode = CloseCode(1007);
    /// The message breaks a rule of this end, which the reason names.
    pub const POLICY_VIOLATION: CloseCode = CloseCode(1008);
    /// The message is longer than this end accepts.
    pub const MESSAGE_TOO_BIG: CloseCode = CloseCode(1009);
    /// This end has met an unexpected condition.
    pub const INTERNAL_ERROR: CloseCode = CloseCode(1011);
    /// The server restarts; the client may connect again.
    pub const SERVICE_RESTART: CloseCode = CloseCode(1012);
    /// The server is overloaded; the client may connect again later.
    pub const TRY_AGAIN_LATER: CloseCode = CloseCode(1013);
    /// The server, as a gateway, has received an invalid response from its upstream.
    pub const BAD_GATEWAY: CloseCode = CloseCode(1014);

    /// Whether a close frame may carry it: the registered codes up to 1014 without 1004 to 1006 (and 1015), which are
    /// reserved, and 3000 to 4999 (RFC 6455 sections 7.4.1 and 7.4.2).
    pub const fn allowed_on_wire(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// Reads the body of a close frame (RFC 6455 section 5.5.1): empty, or a code of two bytes, most significant first, and
/// a reason in UTF-8. A body of one byte has been refused with the frame's head.
///
/// # Errors
/// [`Fault::CloseCode`], [`Fault::CloseReason`].
pub(super) fn close(body: &[u8]) -> Result<Option<(CloseCode, &str)>, Fault> {
    let Some((code, reason)) = body.split_first_chunk() else {
        return Ok(None);
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    if !code.allowed_on_wire() {
        return Err(Fault::CloseCode);
    }
    let reason = core::str::from_utf8(reason).map_err(|_| Fault::CloseReason)?;
    Ok(Some((code, reason)))
}

/// The body of a close frame to send; see [`close_body`]. At most [`MAX_CONTROL`] bytes.
#[derive(Clone, Copy, Debug)]
pub struct CloseBody {
    bytes: [u8; MAX_CONTROL],
    len: u8,
}

impl CloseBody {
    /// Code and reason as they are sent, not masked.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// Writes the body of a close frame (RFC 6455 section 5.5.1). A reason of more than [`MAX_CONTROL`] - 2 bytes is cut in
/// front of the character that does not fit.
///
/// A `code` that may not be sent ([`CloseCode::allowed_on_wire`]) is a mistake of ours, and is sent as 1011.
///
/// # Panics
/// With debug assertions, on such a code.
#[allow(clippy::indexing_slicing, reason = "the reason was cut to what fits in")]
pub fn close_body(code: CloseCode, reason: &str) -> CloseBody {
    debug_assert!(code.allowed_on_wire());
    let code = if code.allowed_on_wire() { code } else { CloseCode::INTERNAL_ERROR };
    let reason = cut(reason, MAX_CONTROL - 2).as_bytes();
    let mut body = CloseBody { bytes: [0; MAX_CONTROL], len: 2 + reason.len() as u8 };
    body.bytes[..2].copy_from_slice(&code.0.to_be_bytes());
    body.bytes[2..2 + reason.len()].copy_from_slice(reason);
    body
}

/// The longest front of `text` that has at most `len` bytes and cuts no character.
fn cut(text: &str, len: usize) -> &str {
    (0..=len.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = String::from("a") + &"é".repeat(100);
        let body = close_body(CloseCode::NORMAL, &reason);
        assert_eq!(body.as_bytes().len(), MAX_CONTROL);
        assert_eq!(close(body.as_bytes()), Ok(Some((CloseCode::NORMAL, &reason[..123]))));
        assert_eq!(close_body(CloseCode::NORMAL, &reason[1..]).as_bytes().len(), MAX_CONTROL - 1);
        assert_eq!(close_body(CloseCode(4000), "").as_bytes(), [0x0f, 0xa0]);
    }
}

//! What a peer can do wrong, with the close code that answers it.

use super::CloseCode;

/// What the peer did wrong, by the section of RFC 6455 that it breaks. The connection must be failed (RFC 6455 section
/// 7.1.7) with a close frame of [`Fault::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A reserved bit without an extension that gives it a meaning (5.2), or where it has none (RFC 7692 section 6).
    ReservedBits,
    /// A reserved opcode (5.2).
    ReservedOpcode,
    /// A control frame without FIN (5.5).
    FragmentedControl,
    /// A control frame above 125 bytes (5.5).
    LongControl,
    /// A continuation while no message is under way (5.4).
    StrayContinuation,
    /// A new message inside another (5.4).
    InterleavedMessage,
    /// A client's frame without a mask (5.1).
    Unmasked,
    /// A server's frame with a mask (5.1).
    Masked,
    /// A length in more bytes than it needs (5.2).
    LengthNotMinimal,
    /// A 64-bit length with its top bit set (5.2).
    LengthTopBit,
    /// A close frame with half a code (5.5.1).
    CloseLength,
    /// A close code that must not be sent (7.4).
    CloseCode,
    /// A close reason that is not UTF-8 (5.5.1).
    CloseReason,
    /// A text message that is not UTF-8 (8.1).
    Text,
    /// A message longer than this end takes (RFC 6455 section 10.4).
    TooBig,
    /// A deflated message that cannot be inflated (RFC 7692 section 7.2.2).
    Corrupt,
}

impl Fault {
    /// The status code of the close frame that fails the connection: 1002, 1007 or 1009 (RFC 6455 section 7.4.1).
    pub const fn code(self) -> CloseCode {
        match self {
            // RFC 7692 names no code; 1007 is for data that is not consistent with the type of its message.
            Fault::CloseReason | Fault::Text | Fault::Corrupt => CloseCode::INVALID_PAYLOAD,
            Fault::TooBig => CloseCode::MESSAGE_TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// The fault in words, for a log and for the reason of the close frame: ASCII, at most
    /// [`MAX_CONTROL`](super::MAX_CONTROL) - 2 bytes.
    pub const fn words(self) -> &'static str {
        match self {
            Fault::ReservedBits => "reserved bit set without an extension",
            Fault::ReservedOpcode => "reserved opcode",
            Fault::FragmentedControl => "fragmented control frame",
            Fault::LongControl => "control frame above 125 bytes",
            Fault::StrayContinuation => "continuation without a message",
            Fault::InterleavedMessage => "new message inside another",
            Fault::Unmasked => "client frame without mask",
            Fault::Masked => "server frame with mask",
            Fault::LengthNotMinimal => "frame length not in its shortest form",
            Fault::LengthTopBit => "frame length with top bit set",
            Fault::CloseLength => "close frame with half a code",
            Fault::CloseCode => "close code that must not be sent",
            Fault::CloseReason => "close reason is not UTF-8",
            Fault::Text => "text message is not UTF-8",
            Fault::TooBig => "message above the limit",
            Fault::Corrupt => "deflated message is corrupt",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::MAX_CONTROL;
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn every_fault_has_a_code_that_may_be_sent_and_words_that_fit() {
        use Fault::*;
        let all: Vec<Fault> = vec![
            ReservedBits,
            ReservedOpcode,
            FragmentedControl,
            LongControl,
            StrayContinuation,
            InterleavedMessage,
            Unmasked,
            Masked,
            LengthNotMinimal,
            LengthTopBit,
            CloseLength,
            CloseCode,
            CloseReason,
            Text,
            TooBig,
            Corrupt,
        ];
        for fault in all {
            assert!(fault.code().allowed_on_wire());
            assert!((1..=MAX_CONTROL - 2).contains(&fault.words().len()));
        }
    }
}

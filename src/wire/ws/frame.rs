//! Frame heads (RFC 6455 section 5.2): what the bits mean, and heads written in their shortest form.

/// The longest payload of a control frame, in bytes (RFC 6455 section 5.5).
pub const MAX_CONTROL: usize = 125;
/// The longest head of a frame without a mask, as a server sends it, in bytes.
pub const MAX_SERVER_HEAD: usize = 10;
/// The longest head of a frame with a mask, as a client sends it, in bytes.
pub const MAX_CLIENT_HEAD: usize = 14;

pub(super) const FIN: u8 = 0x80;
pub(super) const RSV: u8 = 0x70;
/// The first reserved bit: the message is deflated (RFC 7692 section 6).
pub(super) const RSV1: u8 = 0x40;
pub(super) const MASKED: u8 = 0x80;
pub(super) const LEN_16: u8 = 126;
pub(super) const LEN_64: u8 = 127;

/// Which end of the connection reads. RFC 6455 section 5.1: a client masks every frame, a server none; the other end
/// checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Received frames must be masked.
    Server,
    /// Received frames must not be masked.
    Client,
}

/// The opcode of a frame (RFC 6455 section 5.2); the other ten numbers are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further frame of the message that has begun.
    Continuation = 0x0,
    /// The first frame of a text message.
    Text = 0x1,
    /// The first frame of a binary message.
    Binary = 0x2,
    /// The closing handshake (5.5.1).
    Close = 0x8,
    /// To be answered with a pong of the same payload (5.5.2).
    Ping = 0x9,
    /// The answer to a ping, or unsolicited (5.5.3).
    Pong = 0xa,
}

impl Opcode {
    /// Of the low four bits of a frame's first byte; `None` where they are reserved.
    pub(super) const fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return None,
        })
    }

    /// Close, ping and pong (5.5): never fragmented, at most [`MAX_CONTROL`] bytes of payload, allowed between the
    /// frames of a message.
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// The head of one frame to send; see [`head`]. At most [`MAX_CLIENT_HEAD`] bytes.
#[derive(Clone, Copy, Debug)]
pub struct FrameHead {
    bytes: [u8; MAX_CLIENT_HEAD],
    len: u8,
}

#[allow(clippy::indexing_slicing, reason = "the longest head that there is fits in")]
impl FrameHead {
    /// The bytes to be sent in front of the payload.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The same head with RSV1 set: the message is deflated (RFC 7692 section 6).
    ///
    /// # Panics
    /// With debug assertions, where this is not the first frame of a text or binary message.
    #[must_use]
    pub fn deflated(mut self) -> FrameHead {
        debug_assert!(matches!(self.bytes[0] & 0x0f, 0x1 | 0x2));
        self.bytes[0] |= RSV1;
        self
    }

    /// Adds bytes; all that are ever added fit in together.
    fn push(&mut self, bytes: &[u8]) {
        let at = usize::from(self.len);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }
}

/// Writes a frame head, its length in the shortest form (RFC 6455 section 5.2).
///
/// `fin`: this is the last frame of its message. `payload_len` in bytes. `mask` is `None` on a server's side and a
/// fresh, unpredictable key on a client's (5.3); the caller masks the payload with it
/// ([`mask::apply`](crate::mask::apply)).
///
/// # Panics
/// With debug assertions, where `payload_len` is 2^63 or more, or a control frame has more than [`MAX_CONTROL`] bytes
/// or no
/// `fin`.
#[inline]
pub fn head(opcode: Opcode, fin: bool, payload_len: u64, mask: Option<[u8; 4]>) -> FrameHead {
    debug_assert!(payload_len >> 63 == 0);
    debug_assert!(!opcode.is_control() || fin && payload_len <= MAX_CONTROL as u64);
    let mut head = FrameHead { bytes: [0; MAX_CLIENT_HEAD], len: 0 };
    let masked = if mask.is_some() { MASKED } else { 0 };
    head.push(&[opcode as u8 | if fin { FIN } else { 0 }]);
    match payload_len {
        0..=125 => head.push(&[masked | payload_len as u8]),
        126..=0xffff => {
            head.push(&[masked | LEN_16]);
            head.push(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            head.push(&[masked | LEN_64]);
            head.push(&payload_len.to_be_bytes());
        }
    }
    if let Some(key) = mask {
        head.push(&key);
    }
    head
}

/// Writes the head of an unfragmented, unmasked message with a deflated payload of `payload_len` bytes: RSV1 is set
/// (RFC 7692 section 6). `opcode` is text or binary.
#[inline]
pub fn deflated_head(opcode: Opcode, payload_len: u64) -> FrameHead {
    head(opcode, true, payload_len, None).deflated()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_their_shortest_form() {
        for (len, size) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10), (1 << 40, 10)] {
            assert_eq!(head(Opcode::Binary, true, len, None).as_bytes().len(), size);
            assert_eq!(head(Opcode::Binary, false, len, Some([0; 4])).as_bytes().len(), size + 4);
        }
    }
}

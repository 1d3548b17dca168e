//! WebSocket frames (RFC 6455), parsed where they lie and written in their shortest form.
//!
//! [`Parser::next`] is called in a loop on the bytes at hand until it says `None`; what is then left (a cut header or
//! a cut control frame) goes in front of the next bytes. A data frame is never waited for: its payload comes out in
//! pieces as it lies there, unmasked in place, its text checked. The parser itself carries only counts, the key and
//! three bytes of a cut character.
//!
//! Every check is made as soon as its own byte is there and in the order of the bytes, so a fault does not depend on
//! where the bytes were cut.

use crate::mask;
use crate::utf8::{Invalid, Tail};

/// The longest payload of a control frame (RFC 6455 section 5.5).
pub const MAX_CONTROL: usize = 125;
/// The longest head of a frame without a mask, as a server sends it.
pub const MAX_SERVER_HEAD: usize = 10;
/// The longest head of a frame with a mask, as a client sends it.
pub const MAX_CLIENT_HEAD: usize = 14;
/// The most that [`Parser::next`] leaves to be presented again: one byte less than a whole masked control frame.
pub const MAX_LEFT: usize = 2 + 4 + MAX_CONTROL - 1;

const FIN: u8 = 0x80;
const RSV: u8 = 0x70;
/// The first reserved bit: the message is deflated (RFC 7692 section 6).
const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;
const LEN_16: u8 = 126;
const LEN_64: u8 = 127;

/// Which end reads. RFC 6455 section 5.1: a client masks every frame, a server none; the other end checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Frames that come in must be masked.
    Server,
    /// Frames that come in must not be masked.
    Client,
}

/// What one listener or route demands of the frames that come in.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Which end reads.
    pub role: Role,
    /// The longest message, in bytes of payload over all its frames.
    pub message_bytes: u64,
    /// permessage-deflate was agreed on: the first frame of a data message may say that the message is deflated
    /// (RFC 7692 section 6). `message_bytes` then bounds what goes over the wire.
    pub deflate: bool,
}

/// The meaning of a frame (RFC 6455 section 5.2); the other ten numbers are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// Goes on with the message that is under way.
    Continuation = 0x0,
    /// Begins a text message.
    Text = 0x1,
    /// Begins a binary message.
    Binary = 0x2,
    /// Ends the connection.
    Close = 0x8,
    /// Asks for a pong with the same payload.
    Ping = 0x9,
    /// Answers a ping, or comes unasked.
    Pong = 0xa,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Opcode> {
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

    /// Close, ping and pong: short, whole, and free to come between the frames of a message.
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// Why a connection ends (RFC 6455 section 7.4 and the registry that grew from it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The purpose is fulfilled.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// The server goes down, or the page was left.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    /// A kind of data that this end cannot take.
    pub const UNSUPPORTED_DATA: CloseCode = CloseCode(1003);
    /// Never on the wire: the close frame had no code.
    pub const NO_STATUS_RECEIVED: CloseCode = CloseCode(1005);
    /// Never on the wire: there was no close frame.
    pub const ABNORMAL_CLOSURE: CloseCode = CloseCode(1006);
    /// Text that is not UTF-8.
    pub const INVALID_PAYLOAD: CloseCode = CloseCode(1007);
    /// A rule of this server, told in the reason.
    pub const POLICY_VIOLATION: CloseCode = CloseCode(1008);
    /// The message is longer than this end takes.
    pub const MESSAGE_TOO_BIG: CloseCode = CloseCode(1009);
    /// Something unexpected on this end.
    pub const INTERNAL_ERROR: CloseCode = CloseCode(1011);
    /// The server restarts; come again.
    pub const SERVICE_RESTART: CloseCode = CloseCode(1012);
    /// The server is overloaded; come again later.
    pub const TRY_AGAIN_LATER: CloseCode = CloseCode(1013);
    /// The upstream gave no good answer.
    pub const BAD_GATEWAY: CloseCode = CloseCode(1014);

    /// Whether a close frame may carry it: the registered codes up to 1014 without the three that only name what did
    /// not happen (1004 to 1006, and 1015), and 3000 to 4999 (RFC 6455 sections 7.4.1 and 7.4.2).
    pub const fn allowed_on_wire(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// What the peer did wrong. The peer is at fault in every line; the connection must be failed with [`Fault::code`].
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
    /// A message above the limit.
    TooBig,
    /// A deflated message that cannot be inflated (RFC 7692 section 7.2.2).
    Corrupt,
}

impl Fault {
    /// The code of the close frame that answers the fault.
    pub const fn code(self) -> CloseCode {
        match self {
            // RFC 7692 names no code; this is what RFC 6455 section 7.4.1 has for data that is not of its type.
            Fault::CloseReason | Fault::Text | Fault::Corrupt => CloseCode::INVALID_PAYLOAD,
            Fault::TooBig => CloseCode::MESSAGE_TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// The fault in words, fit for a log and for the reason of the close frame.
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

/// What [`Parser::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// A piece of a message. Pieces of one message come in order; control frames may come between them.
    Data {
        /// The message is text; all of it so far is UTF-8, though a character may be cut at the end of this piece.
        /// What a deflated message says is not looked into.
        text: bool,
        /// The message is deflated: its pieces together are what `deflate::Inflater` takes.
        deflated: bool,
        /// The message begins with this piece.
        first: bool,
        /// The message ends with this piece.
        last: bool,
        /// The bytes, unmasked. Empty only where `last` is true.
        payload: &'b [u8],
    },
    /// An empty frame that does not end its message (5.4 allows it). It says nothing, and is told so that whoever
    /// counts work can count it: a call takes one frame at most.
    Empty,
    /// A ping; answer with a pong of the same payload (5.5.2).
    Ping(&'b [u8]),
    /// A pong (5.5.3).
    Pong(&'b [u8]),
    /// A close frame with its code and reason, or without a body (5.5.1). Nothing that follows it has a meaning (1.4).
    Close(Option<(CloseCode, &'b str)>),
}

/// The state of one direction of one connection between two reads.
///
/// Call [`next`](Parser::next) until it gives `None`, then once more when more bytes are there. After an `Err` the
/// parser must not be used again: what follows a fault has no frame boundary.
#[derive(Clone, Copy, Debug)]
pub struct Parser {
    /// Payload of the current data frame that has not come yet. Above zero exactly while inside a data frame.
    left: u64,
    /// Payload of the current message by the heads of its frames, the current one included.
    message: u64,
    /// The key, turned to the next byte of the current frame; zero in frames without a mask.
    key: [u8; 4],
    /// The cut character of the current text message.
    tail: Tail,
    /// A message is under way: its first head has come, its last byte has not.
    in_message: bool,
    /// The current message is text.
    text: bool,
    /// The current message is deflated.
    deflated: bool,
    /// The current frame is the last of its message.
    fin: bool,
    /// No piece of the current message has been given out.
    fresh: bool,
}

const _: () = assert!(size_of::<Parser>() <= 32);

impl Default for Parser {
    fn default() -> Self {
        Parser::new()
    }
}

/// A whole frame head.
struct Incoming {
    opcode: Opcode,
    fin: bool,
    deflated: bool,
    payload: u64,
    key: [u8; 4],
    /// Of the head itself, in bytes.
    len: usize,
}

impl Parser {
    /// At the first byte after the opening.
    pub const fn new() -> Parser {
        Parser {
            left: 0,
            message: 0,
            key: [0; 4],
            tail: Tail::new(),
            in_message: false,
            text: false,
            deflated: false,
            fin: false,
            fresh: false,
        }
    }

    /// Takes the next event from the front of `input` and shortens it.
    ///
    /// `Ok(None)`: there is nothing more to take. What is left in `input`, at most [`MAX_LEFT`] bytes of a cut header
    /// or a cut control frame, must be presented again, unmodified, in front of the next bytes.
    #[inline]
    pub fn next<'b>(&mut self, input: &mut &'b mut [u8], rules: &Rules) -> Result<Option<Event<'b>>, Fault> {
        if self.left == 0 {
            let Some(head) = self.head(input, rules)? else {
                return Ok(None);
            };
            if head.opcode.is_control() {
                return control(&head, input);
            }
            take(input, head.len);
            self.begin(&head);
            // An empty frame says something only when it ends its message.
            if head.payload == 0 {
                return if head.fin { self.piece(input) } else { Ok(Some(Event::Empty)) };
            }
        }
        if input.is_empty() { Ok(None) } else { self.piece(input) }
    }

    /// Whether a message has begun and not ended, or a frame of it is cut: an end of stream here is not clean.
    pub const fn in_message(&self) -> bool {
        self.in_message
    }

    /// Reads the frame head at the front of `bytes`, or `None` while it is cut. Checks in the order of the bytes.
    #[inline]
    fn head(&self, bytes: &[u8], rules: &Rules) -> Result<Option<Incoming>, Fault> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let opcode = self.opcode(first, rules)?;
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        check_second(opcode, second, rules.role)?;
        let Some((payload, at)) = payload_len(bytes, second & !MASKED)? else {
            return Ok(None);
        };
        if !opcode.is_control() {
            self.check_size(opcode, payload, rules)?;
        }
        let (key, len) = match (rules.role, bytes.get(at..).and_then(|rest| rest.first_chunk())) {
            (Role::Client, _) => ([0; 4], at),
            (Role::Server, Some(key)) => (*key, at + key.len()),
            (Role::Server, None) => return Ok(None),
        };
        Ok(Some(Incoming { opcode, fin: first & FIN != 0, deflated: first & RSV1 != 0, payload, key, len }))
    }

    /// The first byte: reserved bits and opcodes (5.2), whole control frames (5.5), the order of fragments (5.4).
    #[inline]
    fn opcode(&self, first: u8, rules: &Rules) -> Result<Opcode, Fault> {
        if first & RSV != 0 && !may_be_deflated(first, rules) {
            return Err(Fault::ReservedBits);
        }
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(Fault::ReservedOpcode)?;
        match opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong if first & FIN == 0 => Err(Fault::FragmentedControl),
            Opcode::Continuation if !self.in_message => Err(Fault::StrayContinuation),
            Opcode::Text | Opcode::Binary if self.in_message => Err(Fault::InterleavedMessage),
            _ => Ok(opcode),
        }
    }

    /// The limit is held by the heads alone, before any payload has come.
    #[inline]
    fn check_size(&self, opcode: Opcode, payload: u64, rules: &Rules) -> Result<(), Fault> {
        let so_far = if opcode == Opcode::Continuation { self.message } else { 0 };
        // A length has 63 bits, but a limit may have 64 and the sum may not fit.
        match so_far.checked_add(payload) {
            Some(size) if size <= rules.message_bytes => Ok(()),
            _ => Err(Fault::TooBig),
        }
    }

    /// Enters a data frame.
    #[inline]
    fn begin(&mut self, head: &Incoming) {
        if head.opcode != Opcode::Continuation {
            self.in_message = true;
            self.fresh = true;
            self.message = 0;
            self.text = head.opcode == Opcode::Text;
            self.deflated = head.deflated;
        }
        self.message = self.message.saturating_add(head.payload);
        self.left = head.payload;
        self.key = head.key;
        self.fin = head.fin;
    }

    /// Takes what is there of the current data frame.
    #[inline]
    fn piece<'b>(&mut self, input: &mut &'b mut [u8]) -> Result<Option<Event<'b>>, Fault> {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        let payload = take(input, len);
        self.unmask(payload);
        self.left = self.left.saturating_sub(len as u64);
        let last = self.fin && self.left == 0;
        self.check_text(payload, last)?;
        self.in_message = !last;
        let first = core::mem::replace(&mut self.fresh, false);
        Ok(Some(Event::Data { text: self.text, deflated: self.deflated, first, last, payload }))
    }

    #[inline]
    fn unmask(&mut self, payload: &mut [u8]) {
        // Zero is what a frame without a mask has; a masked one with this key needs no work either.
        if self.key != [0; 4] {
            mask::apply(payload, self.key);
            self.key = mask::rotate(self.key, payload.len());
        }
    }

    /// RFC 6455 section 8.1. The end of the message must not cut a character.
    #[inline]
    fn check_text(&mut self, payload: &[u8], last: bool) -> Result<(), Fault> {
        if !self.text || self.deflated {
            return Ok(());
        }
        self.tail.feed(payload).map_err(|Invalid| Fault::Text)?;
        if last && !self.tail.is_whole() { Err(Fault::Text) } else { Ok(()) }
    }
}

/// RFC 7692 section 6: the bit is for the first frame of a data message.
fn may_be_deflated(first: u8, rules: &Rules) -> bool {
    rules.deflate && first & RSV == RSV1 && matches!(first & 0x0f, 0x1 | 0x2)
}

/// The second byte: the mask bit (5.1) and what a control frame's length may be (5.5, 5.5.1).
#[inline]
fn check_second(opcode: Opcode, second: u8, role: Role) -> Result<(), Fault> {
    match (role, second & MASKED != 0) {
        (Role::Server, false) => return Err(Fault::Unmasked),
        (Role::Client, true) => return Err(Fault::Masked),
        _ => {}
    }
    let len = second & !MASKED;
    match opcode {
        Opcode::Close | Opcode::Ping | Opcode::Pong if usize::from(len) > MAX_CONTROL => Err(Fault::LongControl),
        Opcode::Close if len == 1 => Err(Fault::CloseLength),
        _ => Ok(()),
    }
}

/// The payload's length and where it ends in the head, or `None` while it is cut (5.2: shortest form, 63 bits).
#[inline]
fn payload_len(bytes: &[u8], short: u8) -> Result<Option<(u64, usize)>, Fault> {
    let (len, at, least) = match short {
        LEN_16 => {
            let Some(len) = bytes.get(2..4).and_then(|len| len.first_chunk()) else {
                return Ok(None);
            };
            (u64::from(u16::from_be_bytes(*len)), 4, u64::from(LEN_16))
        }
        LEN_64 => {
            if bytes.get(2).is_some_and(|top| top & 0x80 != 0) {
                return Err(Fault::LengthTopBit);
            }
            let Some(len) = bytes.get(2..10).and_then(|len| len.first_chunk()) else {
                return Ok(None);
            };
            (u64::from_be_bytes(*len), 10, 1 << 16)
        }
        _ => (u64::from(short), 2, 0),
    };
    if len < least { Err(Fault::LengthNotMinimal) } else { Ok(Some((len, at))) }
}

/// Takes a control frame when all of it is there; otherwise leaves `input` as it came.
fn control<'b>(head: &Incoming, input: &mut &'b mut [u8]) -> Result<Option<Event<'b>>, Fault> {
    let len = head.payload as usize;
    if input.len() < head.len + len {
        return Ok(None);
    }
    take(input, head.len);
    let payload = take(input, len);
    mask::apply(payload, head.key);
    match head.opcode {
        Opcode::Ping => Ok(Some(Event::Ping(payload))),
        Opcode::Pong => Ok(Some(Event::Pong(payload))),
        _ => close(payload).map(|close| Some(Event::Close(close))),
    }
}

/// RFC 6455 section 5.5.1: no body, or a code of two bytes and a reason in UTF-8.
fn close(body: &[u8]) -> Result<Option<(CloseCode, &str)>, Fault> {
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

/// Splits `len` bytes off the front; callers have looked that they are there.
#[inline]
fn take<'b>(input: &mut &'b mut [u8], len: usize) -> &'b mut [u8] {
    let (front, rest) = core::mem::take(input).split_at_mut_checked(len).unwrap_or_default();
    *input = rest;
    front
}

/// The head of one frame to send.
#[derive(Clone, Copy, Debug)]
pub struct FrameHead {
    bytes: [u8; MAX_CLIENT_HEAD],
    len: u8,
}

#[allow(clippy::indexing_slicing, reason = "the longest head that there is fits in")]
impl FrameHead {
    /// The bytes that go in front of the payload.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Says that the message is deflated (RFC 7692 section 6). For the first frame of a data message.
    #[must_use]
    pub fn deflated(mut self) -> FrameHead {
        debug_assert!(matches!(self.bytes[0] & 0x0f, 0x1 | 0x2));
        self.bytes[0] |= RSV1;
        self
    }

    fn push(&mut self, bytes: &[u8]) {
        let at = usize::from(self.len);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }
}

/// Writes a frame head; the length takes the shortest form (RFC 6455 section 5.2).
///
/// `mask` is `None` on a server's side and a fresh key on a client's; the caller masks the payload
/// ([`mask::apply`]). `payload_len` must stay below 2^63, and at or below 125 in a control frame.
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

/// Writes the head of a whole message whose payload was deflated (RFC 7692 section 6): RSV1 is set.
#[inline]
pub fn deflated_head(opcode: Opcode, payload_len: u64) -> FrameHead {
    head(opcode, true, payload_len, None).deflated()
}

/// The body of a close frame to send, at most [`MAX_CONTROL`] bytes.
#[derive(Clone, Copy, Debug)]
pub struct CloseBody {
    bytes: [u8; MAX_CONTROL],
    len: u8,
}

impl CloseBody {
    /// Code and reason as they go on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// Writes a close frame's body. A reason that is too long is cut in front of the character that does not fit.
///
/// `code` must be one that is allowed on the wire; another one is sent as 1011, since it is our own mistake.
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
    use alloc::vec;
    use alloc::vec::Vec;

    const SERVER: Rules = Rules { role: Role::Server, message_bytes: 1 << 20, deflate: false };
    const CLIENT: Rules = Rules { role: Role::Client, message_bytes: 1 << 20, deflate: false };

    /// The fault of the last byte: all before it must be fine on its own.
    fn fault(rules: &Rules, bytes: &[u8]) -> Fault {
        let (first, all) = (run(rules, &bytes[..bytes.len() - 1]), run(rules, bytes));
        assert_eq!(first, Ok(()), "{bytes:x?} fails too early");
        all.expect_err("no fault")
    }

    fn run(rules: &Rules, bytes: &[u8]) -> Result<(), Fault> {
        let mut bytes = bytes.to_vec();
        let (mut parser, mut input) = (Parser::new(), &mut bytes[..]);
        while parser.next(&mut input, rules)?.is_some() {}
        Ok(())
    }

    #[test]
    fn heads_fail_at_the_byte_that_is_wrong() {
        for (bytes, wanted) in [
            (&[0xc1][..], Fault::ReservedBits),
            (&[0x91], Fault::ReservedBits),
            (&[0x83], Fault::ReservedOpcode),
            (&[0x8f], Fault::ReservedOpcode),
            (&[0x09], Fault::FragmentedControl),
            (&[0x80], Fault::StrayContinuation),
            (&[0x01, 0x00, 0x81], Fault::InterleavedMessage),
            (&[0x81, 0x80], Fault::Masked),
            (&[0x89, 0x7e], Fault::LongControl),
            (&[0x88, 0x01], Fault::CloseLength),
            (&[0x82, 0x7e, 0x00, 0x7d], Fault::LengthNotMinimal),
            (&[0x82, 0x7f, 0x80], Fault::LengthTopBit),
            (&[0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Fault::LengthNotMinimal),
            (&[0x82, 0x7f, 0, 0, 0, 0, 0, 0x10, 0, 1], Fault::TooBig),
        ] {
            assert_eq!(fault(&CLIENT, bytes), wanted, "{bytes:x?}");
        }
        assert_eq!(fault(&SERVER, &[0x81, 0x01]), Fault::Unmasked);
    }

    #[test]
    fn the_first_frame_of_a_data_message_alone_says_that_it_is_deflated() {
        let rules = Rules { deflate: true, ..CLIENT };
        for bytes in [&[0xc9][..], &[0xc8], &[0xca], &[0xc0], &[0x41, 0, 0xc0], &[0x01, 0, 0xc0], &[0xd1], &[0xa2]] {
            assert_eq!(fault(&rules, bytes), Fault::ReservedBits, "{bytes:x?}");
        }
        assert_eq!(fault(&rules, &[0x41, 0, 0xc1]), Fault::InterleavedMessage);
        assert_eq!(fault(&CLIENT, &[0xc2]), Fault::ReservedBits);
        assert_eq!(head(Opcode::Binary, false, 3, None).deflated().as_bytes(), [0x42, 3]);
        assert_eq!(deflated_head(Opcode::Text, 3).as_bytes(), [0xc1, 3]);
    }

    #[test]
    fn all_pieces_of_a_deflated_message_say_so_and_are_not_read_as_text() {
        let rules = Rules { deflate: true, ..CLIENT };
        let mut bytes = [0x41, 1, 0xff, 0x89, 0, 0x80, 1, 0xfe, 0x81, 1, b'a'];
        let (mut parser, mut input) = (Parser::new(), &mut bytes[..]);
        let mut next = || parser.next(&mut input, &rules).unwrap();
        let data = |deflated, first, last, payload| Event::Data { text: true, deflated, first, last, payload };
        assert_eq!(next(), Some(data(true, true, false, b"\xff")));
        assert_eq!(next(), Some(Event::Ping(b"")));
        assert_eq!(next(), Some(data(true, false, true, b"\xfe")));
        assert_eq!(next(), Some(data(false, true, true, b"a")));
    }

    #[test]
    fn the_limit_counts_all_frames_of_a_message() {
        let rules = Rules { message_bytes: 5, ..CLIENT };
        let whole = [0x02, 3, 0, 0, 0, 0x80, 2, 0, 0];
        let one_more = [0x02, 3, 0, 0, 0, 0x80, 3];
        assert_eq!(fault(&rules, &one_more), Fault::TooBig);
        // The count begins again with every message, whether the one before had one frame or two.
        assert_eq!(run(&rules, &[&whole[..], &[0x82, 5, 0, 0, 0, 0, 0], &whole].concat()), Ok(()));
        assert_eq!(fault(&rules, &[&whole[..], &one_more].concat()), Fault::TooBig);
        let endless = Rules { message_bytes: u64::MAX, ..CLIENT };
        assert_eq!(run(&endless, &[0x82, 0x7f, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0]), Ok(()));
    }

    #[test]
    fn close_bodies_are_checked() {
        let close = |body: &[u8]| [&[0x88, body.len() as u8], body].concat();
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535_u16] {
            assert_eq!(fault(&CLIENT, &close(&code.to_be_bytes())), Fault::CloseCode, "{code}");
        }
        for code in [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 4999_u16] {
            assert_eq!(run(&CLIENT, &close(&code.to_be_bytes())), Ok(()), "{code}");
        }
        assert_eq!(fault(&CLIENT, &close(&[3, 232, 0xff])), Fault::CloseReason);
        assert_eq!(run(&CLIENT, &close(&[])), Ok(()));
    }

    #[test]
    fn text_fails_at_the_first_impossible_byte() {
        // The frame goes on, the message goes on, and the last byte is already wrong.
        assert_eq!(fault(&CLIENT, &[0x01, 20, b'a', 0xce, 0xba, 0xf4, 0x90]), Fault::Text);
        // A character over two frames, broken by the second.
        assert_eq!(fault(&CLIENT, &[0x01, 1, 0xe1, 0x00, 9, 0x41]), Fault::Text);
        // The end of the message cuts a character.
        assert_eq!(fault(&CLIENT, &[0x81, 1, 0xc3]), Fault::Text);
        assert_eq!(fault(&CLIENT, &[0x01, 1, 0xc3, 0x80, 0]), Fault::Text);
        // Binary messages may have anything.
        assert_eq!(run(&CLIENT, &[0x82, 1, 0xc3]), Ok(()));
    }

    #[test]
    fn a_message_comes_in_pieces_with_control_frames_between() {
        let mut bytes = vec![0x01, 0, 0x00, 2, b'a', b'b', 0x89, 1, b'p', 0x00, 0, 0x80, 0, 0x82, 0];
        let (mut parser, mut input) = (Parser::new(), &mut bytes[..]);
        let data = |text, first, last, payload| Event::Data { text, deflated: false, first, last, payload };
        let mut next = || parser.next(&mut input, &CLIENT).unwrap();
        assert_eq!(next(), Some(Event::Empty));
        assert_eq!(next(), Some(data(true, true, false, b"ab")));
        assert_eq!(next(), Some(Event::Ping(b"p")));
        assert_eq!(next(), Some(Event::Empty));
        assert_eq!(next(), Some(data(true, false, true, b"")));
        assert_eq!(next(), Some(data(false, true, true, b"")));
        assert_eq!(next(), None);
        assert!(!parser.in_message());
    }

    #[test]
    fn a_call_takes_one_frame_at_most() {
        let frames = [&[0x02, 0][..], &[0x00, 0].repeat(1000), &[0x00, 1, b'a'], &[0x89, 0].repeat(1000), &[0x80, 0]];
        let mut bytes = frames.concat();
        let (mut parser, mut input) = (Parser::new(), &mut bytes[..]);
        let mut left = input.len();
        let mut calls = 0;
        while parser.next(&mut input, &CLIENT).unwrap().is_some() {
            assert!(left - input.len() <= 3, "{} bytes by one call", left - input.len());
            (left, calls) = (input.len(), calls + 1);
        }
        assert_eq!((left, calls), (0, 2003));
    }

    #[test]
    fn a_payload_is_not_waited_for_and_a_control_frame_is() {
        let mut bytes = [0x81, 0x83, 1, 2, 3, 4, b'a' ^ 1];
        let (mut parser, mut input) = (Parser::new(), &mut bytes[..]);
        let piece = Event::Data { text: true, deflated: false, first: true, last: false, payload: b"a" };
        assert_eq!(parser.next(&mut input, &SERVER), Ok(Some(piece)));
        assert!(input.is_empty() && parser.in_message());
        let mut bytes = [b'b' ^ 2, b'c' ^ 3, 0x8a, 0x81, 9, 9, 9, 9];
        let mut input = &mut bytes[..];
        let piece = Event::Data { text: true, deflated: false, first: false, last: true, payload: b"bc" };
        assert_eq!(parser.next(&mut input, &SERVER), Ok(Some(piece)));
        assert_eq!(parser.next(&mut input, &SERVER), Ok(None));
        assert_eq!(input, [0x8a, 0x81, 9, 9, 9, 9]);
    }

    #[test]
    fn what_is_left_has_a_bound() {
        let mut whole = head(Opcode::Ping, true, MAX_CONTROL as u64, Some([1; 4])).as_bytes().to_vec();
        whole.resize(whole.len() + MAX_CONTROL, 0);
        let mut input = &mut whole[..MAX_LEFT];
        assert_eq!(Parser::new().next(&mut input, &SERVER), Ok(None));
        assert_eq!(input.len(), MAX_LEFT);
        assert!(matches!(Parser::new().next(&mut &mut whole[..], &SERVER), Ok(Some(Event::Ping(p))) if p.len() == 125));
        assert_eq!(whole.len(), MAX_LEFT + 1);
    }

    #[test]
    fn lengths_take_their_shortest_form() {
        for (len, size) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10), (1 << 40, 10)] {
            assert_eq!(head(Opcode::Binary, true, len, None).as_bytes().len(), size);
            assert_eq!(head(Opcode::Binary, false, len, Some([0; 4])).as_bytes().len(), size + 4);
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = String::from("a") + &"é".repeat(100);
        let body = close_body(CloseCode::NORMAL, &reason);
        assert_eq!(body.as_bytes().len(), MAX_CONTROL);
        assert_eq!(close(body.as_bytes()), Ok(Some((CloseCode::NORMAL, &reason[..123]))));
        assert_eq!(close_body(CloseCode::NORMAL, &reason[1..]).as_bytes().len(), MAX_CONTROL - 1);
        assert_eq!(close_body(CloseCode(4000), "").as_bytes(), [0x0f, 0xa0]);
    }

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

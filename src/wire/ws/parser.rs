//! Received frames are read in place: the state between two reads, and the checks in the order of the bytes.

use super::close::close;
use super::frame::{FIN, LEN_16, LEN_64, MASKED, RSV, RSV1};
use super::{CloseCode, Fault, MAX_CONTROL, Opcode, Role};
use crate::mask;
use crate::utf8::{Invalid, Tail};

/// The most bytes that [`Parser::next`] leaves to be presented again: one less than the longest masked control frame.
pub const MAX_LEFT: usize = 2 + 4 + MAX_CONTROL - 1;

/// What received frames must keep to; the same for all frames of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ParserConfig {
    /// Which end this is: decides about masks.
    pub role: Role,
    /// The longest message, in bytes of payload over all its frames.
    pub message_bytes: u64,
    /// permessage-deflate was agreed on: the first frame of a data message may have RSV1 set (RFC 7692 section 6). Of a
    /// deflated message `message_bytes` bounds the deflated payload.
    pub deflate: bool,
}

/// What [`Parser::next`] found at the front of its input.
#[derive(Debug, PartialEq, Eq)]
pub enum FrameEvent<'b> {
    /// A piece of a message. Pieces of one message come in order; control frames may come between them.
    Data {
        /// The message is text. Unless deflated, all of it so far has been checked to be UTF-8; a character may be cut
        /// at the end of this piece, but not at the end of the message.
        text: bool,
        /// The message is deflated: its pieces together are what
        /// [`Inflater::message`](crate::deflate::Inflater::message) takes.
        deflated: bool,
        /// The message begins with this piece.
        first: bool,
        /// The message ends with this piece.
        last: bool,
        /// The payload that is there of the current frame, unmasked. Empty only where `last` is true.
        payload: &'b [u8],
    },
    /// An empty frame that does not end its message (5.4 allows it). It has no effect; it is returned so that a call
    /// takes one frame at most, and the caller can count work.
    Empty,
    /// A ping and its payload, to be answered with a pong of the same payload (5.5.2).
    Ping(&'b [u8]),
    /// A pong and its payload (5.5.3).
    Pong(&'b [u8]),
    /// A close frame with its code and reason; `None`: without a body (5.5.1). What follows it is to be discarded
    /// (1.4).
    Close(Option<(CloseCode, &'b str)>),
}

/// The state of the receiving direction of one connection between two reads.
///
/// Call [`next`](Parser::next) until it returns `None`, then again when more bytes have come. After an `Err` the parser
/// must not be used again: behind a fault no frame boundary is known.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "facts of the message and of the frame that vary on their own")]
pub struct Parser {
    /// Bytes of payload of the current data frame that have not come yet. Above zero exactly while inside a data frame.
    left: u64,
    /// Bytes of payload of the current message by the heads of its frames so far, the current one included.
    message: u64,
    /// The masking key, rotated so that its first byte is for the next byte of the current frame; zero in frames
    /// without a mask.
    key: [u8; 4],
    /// The cut character at the end of what has come of the current text message.
    tail: Tail,
    /// The first frame head of a message has come, and its last byte has not.
    in_message: bool,
    /// The current message is text.
    text: bool,
    /// The current message is deflated.
    deflated: bool,
    /// The current frame is the last of its message.
    fin: bool,
    /// No piece of the current message has been returned.
    fresh: bool,
}

const _: () = assert!(size_of::<Parser>() <= 32);

impl Default for Parser {
    fn default() -> Self {
        Parser::new()
    }
}

/// A whole frame head, checked.
struct Incoming {
    opcode: Opcode,
    fin: bool,
    deflated: bool,
    payload: u64,
    key: [u8; 4],
    /// Bytes of the head itself.
    len: usize,
}

impl Parser {
    /// A parser that stands at the first byte behind the opening handshake.
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

    /// Takes the next event off the front of `input`; unmasks its payload in place.
    ///
    /// `Ok(None)`: there is nothing more to take. What is left in `input`, at most [`MAX_LEFT`] bytes of a cut head or
    /// a cut control frame, is unmodified and must be presented again in front of the next bytes.
    ///
    /// # Errors
    /// The first [`Fault`] in the order of the bytes, never [`Fault::Corrupt`]; a piece of text with a fault in it is
    /// not returned. `input` has then no meaning any more.
    #[inline]
    pub fn next<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        config: &ParserConfig,
    ) -> Result<Option<FrameEvent<'b>>, Fault> {
        if self.left == 0 {
            let Some(head) = self.head(input, config)? else {
                return Ok(None);
            };
            if head.opcode.is_control() {
                return control(&head, input);
            }
            take(input, head.len);
            self.begin(&head);
            // An empty frame has an effect only where it ends its message.
            if head.payload == 0 {
                return if head.fin { self.piece(input) } else { Ok(Some(FrameEvent::Empty)) };
            }
        }
        if input.is_empty() { Ok(None) } else { self.piece(input) }
    }

    /// Whether a message has begun and not ended. A cut frame head is not counted: it was left in the input.
    pub const fn in_message(&self) -> bool {
        self.in_message
    }

    /// Reads the frame head at the front of `bytes` and checks it in the order of the bytes; `None` while it is cut.
    #[inline]
    fn head(&self, bytes: &[u8], config: &ParserConfig) -> Result<Option<Incoming>, Fault> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let opcode = self.opcode(first, config)?;
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        check_second(opcode, second, config.role)?;
        let Some((payload, at)) = payload_len(bytes, second & !MASKED)? else {
            return Ok(None);
        };
        if !opcode.is_control() {
            self.check_size(opcode, payload, config)?;
        }
        let (key, len) = match (config.role, bytes.get(at..).and_then(|rest| rest.first_chunk())) {
            (Role::Client, _) => ([0; 4], at),
            (Role::Server, Some(key)) => (*key, at + key.len()),
            (Role::Server, None) => return Ok(None),
        };
        Ok(Some(Incoming { opcode, fin: first & FIN != 0, deflated: first & RSV1 != 0, payload, key, len }))
    }

    /// The first byte: reserved bits and opcodes (5.2), whole control frames (5.5), the order of fragments (5.4).
    #[inline]
    fn opcode(&self, first: u8, config: &ParserConfig) -> Result<Opcode, Fault> {
        if first & RSV != 0 && !may_be_deflated(first, config) {
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

    /// The length of a message is checked by the heads of its frames, before their payload has come.
    #[inline]
    fn check_size(&self, opcode: Opcode, payload: u64, config: &ParserConfig) -> Result<(), Fault> {
        let so_far = if opcode == Opcode::Continuation { self.message } else { 0 };
        // A length has 63 bits, but the limit may have 64, so the sum of two lengths may not fit.
        match so_far.checked_add(payload) {
            Some(size) if size <= config.message_bytes => Ok(()),
            _ => Err(Fault::TooBig),
        }
    }

    /// Begins a data frame whose head has been taken off.
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

    /// Takes what is there of the current data frame's payload.
    #[inline]
    fn piece<'b>(&mut self, input: &mut &'b mut [u8]) -> Result<Option<FrameEvent<'b>>, Fault> {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        let payload = take(input, len);
        self.unmask(payload);
        self.left = self.left.saturating_sub(len as u64);
        let last = self.fin && self.left == 0;
        self.check_text(payload, last)?;
        self.in_message = !last;
        let first = core::mem::replace(&mut self.fresh, false);
        Ok(Some(FrameEvent::Data { text: self.text, deflated: self.deflated, first, last, payload }))
    }

    /// Unmasks the next bytes of the current frame.
    #[inline]
    fn unmask(&mut self, payload: &mut [u8]) {
        // The key of a frame without a mask is zero; where a masked one has this key, nothing changes either.
        if self.key != [0; 4] {
            mask::apply(payload, self.key);
            self.key = mask::rotate(self.key, payload.len());
        }
    }

    /// RFC 6455 sections 5.6 and 8.1: text is UTF-8, and the end of the message must not cut a character. `last`: the
    /// message ends with this piece.
    #[inline]
    fn check_text(&mut self, payload: &[u8], last: bool) -> Result<(), Fault> {
        if !self.text || self.deflated {
            return Ok(());
        }
        self.tail.feed(payload).map_err(|Invalid| Fault::Text)?;
        if last && !self.tail.is_whole() { Err(Fault::Text) } else { Ok(()) }
    }
}

/// RFC 7692 section 6: RSV1, and no other reserved bit, on the first frame of a data message.
fn may_be_deflated(first: u8, config: &ParserConfig) -> bool {
    config.deflate && first & RSV == RSV1 && matches!(first & 0x0f, 0x1 | 0x2)
}

/// The second byte: the mask bit (5.1), and the length of a control frame (5.5, 5.5.1).
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

/// The payload's length in bytes, and how many bytes of the head come before the masking key; `None` while it is cut
/// (5.2: shortest form, 63 bits). `short` is the length in the second byte.
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

/// Takes a control frame off the front when all of it is there; otherwise leaves `input` as it is.
fn control<'b>(head: &Incoming, input: &mut &'b mut [u8]) -> Result<Option<FrameEvent<'b>>, Fault> {
    let len = head.payload as usize;
    if input.len() < head.len + len {
        return Ok(None);
    }
    take(input, head.len);
    let payload = take(input, len);
    mask::apply(payload, head.key);
    match head.opcode {
        Opcode::Ping => Ok(Some(FrameEvent::Ping(payload))),
        Opcode::Pong => Ok(Some(FrameEvent::Pong(payload))),
        _ => close(payload).map(|close| Some(FrameEvent::Close(close))),
    }
}

/// Takes `len` bytes off the front; the callers have checked that they are there.
#[inline]
fn take<'b>(input: &mut &'b mut [u8], len: usize) -> &'b mut [u8] {
    let (front, rest) = core::mem::take(input).split_at_mut_checked(len).unwrap_or_default();
    *input = rest;
    front
}

#[cfg(test)]
mod tests {
    use super::super::{deflated_head, head};
    use super::*;
    use alloc::vec;

    const SERVER: ParserConfig = ParserConfig { role: Role::Server, message_bytes: 1 << 20, deflate: false };
    const CLIENT: ParserConfig = ParserConfig { role: Role::Client, message_bytes: 1 << 20, deflate: false };

    /// The fault at the last byte; the bytes before it must have none.
    fn fault(config: &ParserConfig, bytes: &[u8]) -> Fault {
        let (first, all) = (run(config, &bytes[..bytes.len() - 1]), run(config, bytes));
        assert_eq!(first, Ok(()), "{bytes:x?} fails too early");
        all.expect_err("no fault")
    }

    fn run(config: &ParserConfig, bytes: &[u8]) -> Result<(), Fault> {
        let mut bytes = bytes.to_vec();
        let (mut parser, mut input) = (Parser::new(), &mut bytes[..]);
        while parser.next(&mut input, config)?.is_some() {}
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
        let config = ParserConfig { deflate: true, ..CLIENT };
        for bytes in [&[0xc9][..], &[0xc8], &[0xca], &[0xc0], &[0x41, 0, 0xc0], &[0x01, 0, 0xc0], &[0xd1], &[0xa2]] {
            assert_eq!(fault(&config, bytes), Fault::ReservedBits, "{bytes:x?}");
        }
        assert_eq!(fault(&config, &[0x41, 0, 0xc1]), Fault::InterleavedMessage);
        assert_eq!(fault(&CLIENT, &[0xc2]), Fault::ReservedBits);
        assert_eq!(head(Opcode::Binary, false, 3, None).deflated().as_bytes(), [0x42, 3]);
        assert_eq!(deflated_head(Opcode::Text, 3).as_bytes(), [0xc1, 3]);
    }

    #[test]
    fn all_pieces_of_a_deflated_message_say_so_and_are_not_read_as_text() {
        let config = ParserConfig { deflate: true, ..CLIENT };
        let mut bytes = [0x41, 1, 0xff, 0x89, 0, 0x80, 1, 0xfe, 0x81, 1, b'a'];
        let (mut parser, mut input) = (Parser::new(), &mut bytes[..]);
        let mut next = || parser.next(&mut input, &config).unwrap();
        let data = |deflated, first, last, payload| FrameEvent::Data { text: true, deflated, first, last, payload };
        assert_eq!(next(), Some(data(true, true, false, b"\xff")));
        assert_eq!(next(), Some(FrameEvent::Ping(b"")));
        assert_eq!(next(), Some(data(true, false, true, b"\xfe")));
        assert_eq!(next(), Some(data(false, true, true, b"a")));
    }

    #[test]
    fn the_limit_counts_all_frames_of_a_message() {
        let config = ParserConfig { message_bytes: 5, ..CLIENT };
        let whole = [0x02, 3, 0, 0, 0, 0x80, 2, 0, 0];
        let one_more = [0x02, 3, 0, 0, 0, 0x80, 3];
        assert_eq!(fault(&config, &one_more), Fault::TooBig);
        // The count begins again with every message, whether the one before had one frame or two.
        assert_eq!(run(&config, &[&whole[..], &[0x82, 5, 0, 0, 0, 0, 0], &whole].concat()), Ok(()));
        assert_eq!(fault(&config, &[&whole[..], &one_more].concat()), Fault::TooBig);
        let endless = ParserConfig { message_bytes: u64::MAX, ..CLIENT };
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
        let data = |text, first, last, payload| FrameEvent::Data { text, deflated: false, first, last, payload };
        let mut next = || parser.next(&mut input, &CLIENT).unwrap();
        assert_eq!(next(), Some(FrameEvent::Empty));
        assert_eq!(next(), Some(data(true, true, false, b"ab")));
        assert_eq!(next(), Some(FrameEvent::Ping(b"p")));
        assert_eq!(next(), Some(FrameEvent::Empty));
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
        let piece = FrameEvent::Data { text: true, deflated: false, first: true, last: false, payload: b"a" };
        assert_eq!(parser.next(&mut input, &SERVER), Ok(Some(piece)));
        assert!(input.is_empty() && parser.in_message());
        let mut bytes = [b'b' ^ 2, b'c' ^ 3, 0x8a, 0x81, 9, 9, 9, 9];
        let mut input = &mut bytes[..];
        let piece = FrameEvent::Data { text: true, deflated: false, first: false, last: true, payload: b"bc" };
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
        assert!(
            matches!(Parser::new().next(&mut &mut whole[..], &SERVER), Ok(Some(FrameEvent::Ping(p))) if p.len() == 125)
        );
        assert_eq!(whole.len(), MAX_LEFT + 1);
    }
}

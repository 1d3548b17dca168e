//! Sec-WebSocket-Extensions (RFC 6455 section 9.1) as far as permessage-deflate needs it (RFC 7692 sections 5 and 7.1).
//!
//! A line is read from the front by a small lexer that knows tokens and quoted strings, so a comma within quotes is no
//! end of an offer. An offer of permessage-deflate with a parameter that is unknown, doubled or invalid is declined,
//! and so is any other extension: by silence, the next offer is looked at. A malformed line says nothing from its fault
//! on.

use super::{MAX_WINDOW_BITS, MIN_DEFLATE_BITS};
use crate::http1::{Head, MAX_ELEMENTS, is_token};

const NAME: &str = "permessage-deflate";
const SERVER_NO_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_BITS: &str = "server_max_window_bits";
const CLIENT_BITS: &str = "client_max_window_bits";

/// What this end would like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// Messages may refer to the messages before them, which costs a window in each direction of each connection.
    pub takeover: bool,
}

/// What was agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The window of the server's messages, 9 to 15 (RFC 7692 section 7.1.2.1).
    pub server_bits: u8,
    /// The window of the client's messages, 8 to 15 (RFC 7692 section 7.1.2.2).
    pub client_bits: u8,
    /// The server's messages may refer to those before them (RFC 7692 section 7.1.1.1).
    pub server_takeover: bool,
    /// The client's messages may refer to those before them (RFC 7692 section 7.1.1.2).
    pub client_takeover: bool,
}

const _: () = assert!(size_of::<Agreed>() <= 4);

impl Agreed {
    /// No window is kept, and none is smaller than usual: what most connections have.
    pub const PLAIN: Agreed = Agreed {
        server_bits: MAX_WINDOW_BITS,
        client_bits: MAX_WINDOW_BITS,
        server_takeover: false,
        client_takeover: false,
    };

    /// The value of the server's Sec-WebSocket-Extensions.
    pub fn text(&self) -> AgreedText {
        let mut text = AgreedText { bytes: [0; LONGEST], len: 0 };
        text.push(NAME);
        for (agreed, name) in [(!self.server_takeover, SERVER_NO_TAKEOVER), (!self.client_takeover, CLIENT_NO_TAKEOVER)]
        {
            if agreed {
                text.push("; ");
                text.push(name);
            }
        }
        for (bits, name) in [(self.server_bits, SERVER_BITS), (self.client_bits, CLIENT_BITS)] {
            if bits < MAX_WINDOW_BITS {
                text.push("; ");
                text.push(name);
                text.push(NUMBERS.get(usize::from(bits - LEAST_BITS)).copied().unwrap_or_default());
            }
        }
        text
    }
}

const LEAST_BITS: u8 = 8;
const NUMBERS: [&str; 7] = ["=8", "=9", "=10", "=11", "=12", "=13", "=14"];
const LONGEST: usize = NAME.len()
    + (2 + SERVER_NO_TAKEOVER.len())
    + (2 + CLIENT_NO_TAKEOVER.len())
    + (2 + SERVER_BITS.len() + 3)
    + (2 + CLIENT_BITS.len() + 3);

/// A header value; see [`Agreed::text`].
#[derive(Clone, Copy, Debug)]
pub struct AgreedText {
    bytes: [u8; LONGEST],
    len: u8,
}

impl AgreedText {
    /// The value in ASCII.
    pub fn as_str(&self) -> &str {
        // Only whole strings were pushed, so this cannot fail.
        self.bytes.get(..usize::from(self.len)).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
    }

    #[allow(clippy::indexing_slicing, reason = "LONGEST is the sum of all parts that there can be")]
    fn push(&mut self, part: &str) {
        let at = usize::from(self.len);
        self.bytes[at..at + part.len()].copy_from_slice(part.as_bytes());
        self.len += part.len() as u8;
    }
}

/// The server's side: the first offer that can be met, over all lines in their order, of the first [`MAX_ELEMENTS`].
/// `None`: no deflate.
///
/// Without `wishes.takeover` both ends are told to keep no context (section 7.1.1 allows it whatever was offered).
pub fn negotiate(head: &Head<'_, '_>, wishes: Wishes) -> Option<Agreed> {
    let offers = head.all("Sec-WebSocket-Extensions").flat_map(Extensions).take(MAX_ELEMENTS);
    offers.flatten().find_map(|offer| accept(offer, wishes))
}

fn accept(offer: Parameters, wishes: Wishes) -> Option<Agreed> {
    let server_bits = offer.server_bits.unwrap_or(MAX_WINDOW_BITS);
    let client_bits = offer.client_bits.flatten().unwrap_or(MAX_WINDOW_BITS);
    let agreed = Agreed {
        server_bits,
        client_bits,
        server_takeover: wishes.takeover && !offer.server_no_takeover,
        client_takeover: wishes.takeover && !offer.client_no_takeover,
    };
    (server_bits >= MIN_DEFLATE_BITS).then_some(agreed)
}

/// The client's side: what it offers.
pub const fn offer(wishes: Wishes) -> &'static str {
    if wishes.takeover {
        "permessage-deflate; client_max_window_bits"
    } else {
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    }
}

/// The client's side: what the server made of [`offer`] with the same wishes. `None`: it says what it must not (RFC
/// 7692 section 5.1: the client then fails the connection).
pub fn confirm(value: &[u8], wishes: Wishes) -> Option<Agreed> {
    let mut extensions = Extensions(value);
    let said = extensions.next()??;
    let client_bits = match said.client_bits {
        None => MAX_WINDOW_BITS,
        // Only an answer to what was offered, and with a value.
        Some(bits) => bits.filter(|_| wishes.takeover)?,
    };
    let alone = extensions.next().is_none() && extensions.0.is_empty();
    let kept = wishes.takeover || said.server_no_takeover;
    let agreed = Agreed {
        server_bits: said.server_bits.unwrap_or(MAX_WINDOW_BITS),
        client_bits,
        server_takeover: !said.server_no_takeover,
        client_takeover: wishes.takeover && !said.client_no_takeover,
    };
    (alone && kept && client_bits >= MIN_DEFLATE_BITS).then_some(agreed)
}

/// The parameters of one permessage-deflate (RFC 7692 section 7.1).
#[derive(Clone, Copy, Default)]
struct Parameters {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_bits: Option<u8>,
    /// With a value or without.
    client_bits: Option<Option<u8>>,
}

impl Parameters {
    /// Takes one parameter in; `None`: it is unknown, doubled, or its value is not what it must be.
    fn take(&mut self, name: &[u8], value: Option<Value>) -> Option<()> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match value {
            None if is(SERVER_NO_TAKEOVER) => set(&mut self.server_no_takeover),
            None if is(CLIENT_NO_TAKEOVER) => set(&mut self.client_no_takeover),
            None if is(CLIENT_BITS) => once(&mut self.client_bits, None),
            Some(value) if is(SERVER_BITS) => once(&mut self.server_bits, value.window_bits()?),
            Some(value) if is(CLIENT_BITS) => once(&mut self.client_bits, Some(value.window_bits()?)),
            _ => None,
        }
    }
}

fn set(flag: &mut bool) -> Option<()> {
    (!core::mem::replace(flag, true)).then_some(())
}

fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// The front of a parameter's value; no valid one has a third character.
#[derive(Clone, Copy, Default)]
struct Value {
    front: [u8; 3],
    len: usize,
}

impl Value {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.front.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    /// 8 to 15, decimal, without leading zeros (RFC 7692 section 7.1.2).
    fn window_bits(&self) -> Option<u8> {
        match self.front.get(..self.len)? {
            [digit @ b'8'..=b'9'] => Some(digit - b'0'),
            [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
            _ => None,
        }
    }
}

/// The extensions of one line, in their order. `Some(None)`: another extension, or one whose parameters are not right.
/// What is left after the end is empty, or begins with the fault.
struct Extensions<'b>(&'b [u8]);

impl Iterator for Extensions<'_> {
    type Item = Option<Parameters>;

    fn next(&mut self) -> Option<Option<Parameters>> {
        // RFC 9110 section 5.6.1: empty elements of a list are passed over.
        while self.eat(b',') {}
        let name = self.token()?;
        let known = name.eq_ignore_ascii_case(NAME.as_bytes());
        let mut parameters = known.then(Parameters::default);
        while self.eat(b';') {
            let name = self.token()?;
            let value = if self.eat(b'=') { Some(self.value()?) } else { None };
            parameters = parameters.and_then(|mut so_far| so_far.take(name, value).map(|()| so_far));
        }
        let ended = matches!(self.0, [] | [b',', ..]);
        ended.then_some(parameters)
    }
}

impl<'b> Extensions<'b> {
    fn skip_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// Takes this byte and the white space around it, if it comes next.
    fn eat(&mut self, byte: u8) -> bool {
        self.skip_space();
        let behind = self.0.strip_prefix(&[byte]);
        if let Some(rest) = behind {
            self.0 = rest;
            self.skip_space();
        }
        behind.is_some()
    }

    /// RFC 9110 section 5.6.2.
    fn token(&mut self) -> Option<&'b [u8]> {
        let len = self.0.iter().take_while(|&&byte| is_token(byte)).count();
        let (token, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        self.skip_space();
        (len > 0).then_some(token)
    }

    /// A token, or a quoted string that holds one (RFC 6455 section 9.1).
    fn value(&mut self) -> Option<Value> {
        let mut value = Value::default();
        if !self.eat_quote() {
            self.token()?.iter().for_each(|&byte| value.push(byte));
            return Some(value);
        }
        loop {
            match *self.0 {
                [b'"', ref rest @ ..] => {
                    self.0 = rest;
                    self.skip_space();
                    return Some(value);
                }
                [] | [b'\\'] => return None,
                [b'\\', byte, ref rest @ ..] | [byte, ref rest @ ..] => {
                    value.push(byte);
                    self.0 = rest;
                }
            }
        }
    }

    fn eat_quote(&mut self) -> bool {
        let behind = self.0.strip_prefix(b"\"");
        self.0 = behind.unwrap_or(self.0);
        behind.is_some()
    }
}

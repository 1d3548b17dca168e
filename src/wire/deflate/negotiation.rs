//! Sec-WebSocket-Extensions (RFC 6455 section 9.1) as far as permessage-deflate needs it (RFC 7692 sections 5 and 7.1).
//!
//! A line is read from the front by a small lexer of tokens and quoted strings, so a comma within quotes does not end
//! an offer. An offer of permessage-deflate with a parameter that is unknown, doubled or invalid is declined, and so is
//! any other extension: it is left out of the response, and the next offer is looked at. What follows a syntax error in
//! a line is ignored.

use super::{MAX_WINDOW_BITS, MIN_DEFLATE_BITS};
use crate::http1::{Head, MAX_ELEMENTS, is_token};

const NAME: &str = "permessage-deflate";
const SERVER_NO_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_BITS: &str = "server_max_window_bits";
const CLIENT_BITS: &str = "client_max_window_bits";

/// What this end brings to the negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preferences {
    /// Context takeover (RFC 7692 section 7.1.1): messages may refer to those before them, which costs each end a
    /// window for each direction. `false`: in neither direction.
    pub context_takeover: bool,
}

/// The agreed parameters of permessage-deflate (RFC 7692 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The LZ77 window of the server's messages is at most 2^`server_bits` bytes; 9 to 15 (RFC 7692 section 7.1.2.1).
    pub server_bits: u8,
    /// The LZ77 window of the client's messages is at most 2^`client_bits` bytes; 8 to 15 (RFC 7692 section 7.1.2.2).
    pub client_bits: u8,
    /// The server's messages may refer to those before them (RFC 7692 section 7.1.1.1).
    pub server_takeover: bool,
    /// The client's messages may refer to those before them (RFC 7692 section 7.1.1.2).
    pub client_takeover: bool,
}

const _: () = assert!(size_of::<Parameters>() <= 4);

impl Parameters {
    /// No context takeover, windows of the default size: what most connections agree on.
    pub const PLAIN: Parameters = Parameters {
        server_bits: MAX_WINDOW_BITS,
        client_bits: MAX_WINDOW_BITS,
        server_takeover: false,
        client_takeover: false,
    };

    /// The value of Sec-WebSocket-Extensions in the server's response: one element, with the parameters that differ
    /// from their defaults.
    pub fn text(&self) -> ParametersText {
        let mut text = ParametersText { bytes: [0; LONGEST], len: 0 };
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

/// The value of a field; see [`Parameters::text`].
#[derive(Clone, Copy, Debug)]
pub struct ParametersText {
    bytes: [u8; LONGEST],
    len: u8,
}

impl ParametersText {
    /// The value, in ASCII.
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

/// The server's side: accepts the first offer that it can, over all lines of the request in their order; of all
/// extensions offered the first [`MAX_ELEMENTS`] are looked at. `None`: no permessage-deflate.
///
/// Without `preferences.context_takeover` it is excluded in both directions, which RFC 7692 section 7.1.1 allows
/// whatever was offered. A window of 8 bits for the server's messages cannot be accepted ([`MIN_DEFLATE_BITS`]).
pub fn negotiate(head: &Head<'_, '_>, preferences: Preferences) -> Option<Parameters> {
    let offers = head.all("Sec-WebSocket-Extensions").flat_map(Extensions).take(MAX_ELEMENTS);
    offers.flatten().find_map(|offer| accept(offer, preferences))
}

/// The parameters that meet an offer; `None` where this end cannot.
fn accept(offer: ExtensionParameters, preferences: Preferences) -> Option<Parameters> {
    let server_bits = offer.server_bits.unwrap_or(MAX_WINDOW_BITS);
    let client_bits = match offer.client_bits {
        Some(ClientBits::AtMost(bits)) => bits,
        Some(ClientBits::Any) | None => MAX_WINDOW_BITS,
    };
    let agreed = Parameters {
        server_bits,
        client_bits,
        server_takeover: preferences.context_takeover && !offer.server_no_takeover,
        client_takeover: preferences.context_takeover && !offer.client_no_takeover,
    };
    (server_bits >= MIN_DEFLATE_BITS).then_some(agreed)
}

/// The client's side: the value of Sec-WebSocket-Extensions in its request, one offer.
pub const fn offer(preferences: Preferences) -> &'static str {
    if preferences.context_takeover {
        "permessage-deflate; client_max_window_bits"
    } else {
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    }
}

/// The client's side: reads the server's response (the value of Sec-WebSocket-Extensions) to [`offer`] with the same
/// `preferences`. `None`: the response is malformed, or has another extension, or a parameter that the offer does not
/// allow; the client must then fail the connection (RFC 7692 section 5.1).
pub fn confirm(value: &[u8], preferences: Preferences) -> Option<Parameters> {
    let mut extensions = Extensions(value);
    let accepted = extensions.next()??;
    let client_bits = match accepted.client_bits {
        None => MAX_WINDOW_BITS,
        // Only where the client has offered it, and with a value (RFC 7692 section 7.1.2.2).
        Some(ClientBits::AtMost(bits)) if preferences.context_takeover => bits,
        Some(_) => return None,
    };
    let alone = extensions.next().is_none() && extensions.0.is_empty();
    let kept = preferences.context_takeover || accepted.server_no_takeover;
    let agreed = Parameters {
        server_bits: accepted.server_bits.unwrap_or(MAX_WINDOW_BITS),
        client_bits,
        server_takeover: !accepted.server_no_takeover,
        client_takeover: preferences.context_takeover && !accepted.client_no_takeover,
    };
    (alone && kept && client_bits >= MIN_DEFLATE_BITS).then_some(agreed)
}

/// The parameters of one element `permessage-deflate` as they were sent (RFC 7692 section 7.1).
#[derive(Clone, Copy, Default)]
struct ExtensionParameters {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_bits: Option<u8>,
    client_bits: Option<ClientBits>,
}

/// The value of `client_max_window_bits` (RFC 7692 section 7.1.2.2).
#[derive(Clone, Copy)]
enum ClientBits {
    /// None, as an offer may have it: the client can use a smaller window where the server demands it.
    Any,
    /// The client uses at most this one.
    AtMost(u8),
}

impl ExtensionParameters {
    /// Adds one parameter; `None`: it is unknown, doubled, or its value is invalid.
    fn take(&mut self, name: &[u8], value: Option<Value>) -> Option<()> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match value {
            None if is(SERVER_NO_TAKEOVER) => set(&mut self.server_no_takeover),
            None if is(CLIENT_NO_TAKEOVER) => set(&mut self.client_no_takeover),
            None if is(CLIENT_BITS) => once(&mut self.client_bits, ClientBits::Any),
            Some(value) if is(SERVER_BITS) => once(&mut self.server_bits, value.window_bits()?),
            Some(value) if is(CLIENT_BITS) => once(&mut self.client_bits, ClientBits::AtMost(value.window_bits()?)),
            _ => None,
        }
    }
}

/// Sets a flag; `None` where it was set.
fn set(flag: &mut bool) -> Option<()> {
    (!core::mem::replace(flag, true)).then_some(())
}

/// Fills a place; `None` where it was full.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// The first three characters of a parameter's value: no valid one has a third, so more need not be kept.
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

/// The extensions of one line, in their order. An item of `None`: another extension, or one with an invalid parameter.
/// What is left after the last item is empty, or begins with the syntax error.
struct Extensions<'b>(&'b [u8]);

impl Iterator for Extensions<'_> {
    type Item = Option<ExtensionParameters>;

    fn next(&mut self) -> Option<Option<ExtensionParameters>> {
        // RFC 9110 section 5.6.1: empty elements of a list are ignored.
        while self.eat(b',') {}
        let name = self.token()?;
        let known = name.eq_ignore_ascii_case(NAME.as_bytes());
        let mut parameters = known.then(ExtensionParameters::default);
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

    /// Takes a token (RFC 9110 section 5.6.2) and the white space behind it.
    fn token(&mut self) -> Option<&'b [u8]> {
        let len = self.0.iter().take_while(|&&byte| is_token(byte)).count();
        let (token, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        self.skip_space();
        (len > 0).then_some(token)
    }

    /// Takes a token, or a quoted string that holds one (RFC 6455 section 9.1).
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

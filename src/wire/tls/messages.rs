//! Handshake messages that come after the handshake, in whatever fragments (RFC 8446 sections 4.6 and 5.1).
//!
//! No message is kept: of a cut one at most three bytes are needed to go on, so that a connection can be parked at any
//! record's end.

use super::parked::Role;
use super::{Fault, Version};

const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Bytes of the longest ticket message: its fields at their longest (RFC 8446 section 4.6.1).
const MAX_TICKET: u32 = 4 + 4 + 256 + 2 + 0xffff + 2 + 0xfffe;

/// A message that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The peer changes the key that it sends with, and asks this end to do the same or does not (4.6.3).
    KeyUpdate { requested: bool },
    /// A ticket, of which nothing is kept.
    Ticket,
    /// TLS 1.2: the peer wants another handshake.
    Renegotiation,
}

/// What is awaited next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// The first byte of a message.
    #[default]
    Type,
    /// The second byte; `hold` has the first.
    Length1,
    /// The third.
    Length2,
    /// The fourth.
    Length3,
    /// The value of a KeyUpdate.
    UpdateValue,
    /// The rest of a ticket: `hold` is how many bytes.
    Ticket,
    /// Likewise, of a ClientHello.
    ClientHello,
}

/// A message that has not come whole: 4 bytes.
#[derive(Debug, Default)]
pub(super) struct Partial {
    stage: Stage,
    hold: [u8; 3],
}

/// Which messages may come.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    pub(super) role: Role,
    pub(super) version: Version,
}

impl Expected {
    fn allows(self, kind: u8) -> bool {
        match (self.version, self.role) {
            (Version::Tls13, Role::Server) => kind == KEY_UPDATE,
            (Version::Tls13, Role::Client) => kind == KEY_UPDATE || kind == NEW_SESSION_TICKET,
            (Version::Tls12, Role::Server) => kind == CLIENT_HELLO,
            (Version::Tls12, Role::Client) => kind == HELLO_REQUEST,
        }
    }
}

impl Partial {
    /// No message has begun.
    pub(super) fn is_none(&self) -> bool {
        self.stage == Stage::Type
    }

    /// Reads on to the end of a message and takes what was read off the front of `bytes`; `None` when they end before.
    pub(super) fn next(&mut self, bytes: &mut &[u8], expected: Expected) -> Result<Option<Message>, Fault> {
        while let Some((&first, rest)) = bytes.split_first() {
            let done = match self.stage {
                Stage::Ticket | Stage::ClientHello => self.skip(bytes),
                _ => {
                    *bytes = rest;
                    self.byte(first, expected)?
                }
            };
            if done.is_some() {
                return Ok(done);
            }
        }
        Ok(None)
    }

    fn byte(&mut self, byte: u8, expected: Expected) -> Result<Option<Message>, Fault> {
        let [kind, high, middle] = self.hold;
        match self.stage {
            Stage::Type if !expected.allows(byte) => return Err(Fault::Message),
            Stage::Type => (self.stage, self.hold) = (Stage::Length1, [byte, 0, 0]),
            Stage::Length1 => (self.stage, self.hold) = (Stage::Length2, [kind, byte, 0]),
            Stage::Length2 => (self.stage, self.hold) = (Stage::Length3, [kind, high, byte]),
            Stage::Length3 => return self.begin(kind, u32::from_be_bytes([0, high, middle, byte])),
            Stage::UpdateValue if byte > 1 => return Err(Fault::Value),
            Stage::UpdateValue => return Ok(Some(self.end(Message::KeyUpdate { requested: byte == 1 }))),
            Stage::Ticket | Stage::ClientHello => {}
        }
        Ok(None)
    }

    /// The header is whole.
    fn begin(&mut self, kind: u8, len: u32) -> Result<Option<Message>, Fault> {
        let stage = match (kind, len) {
            (KEY_UPDATE, 1) => Stage::UpdateValue,
            (NEW_SESSION_TICKET, 1..=MAX_TICKET) => Stage::Ticket,
            (CLIENT_HELLO, 1..) => Stage::ClientHello,
            (HELLO_REQUEST, 0) => return Ok(Some(self.end(Message::Renegotiation))),
            _ => return Err(Fault::Length),
        };
        let [_, high, middle, low] = len.to_be_bytes();
        *self = Partial { stage, hold: [high, middle, low] };
        Ok(None)
    }

    fn skip(&mut self, bytes: &mut &[u8]) -> Option<Message> {
        let [high, middle, low] = self.hold;
        let wanted = u32::from_be_bytes([0, high, middle, low]);
        let (_, rest) = bytes.split_at(bytes.len().min(wanted as usize));
        let left = wanted - (bytes.len() - rest.len()) as u32;
        *bytes = rest;
        if left == 0 {
            let whole = if self.stage == Stage::Ticket { Message::Ticket } else { Message::Renegotiation };
            return Some(self.end(whole));
        }
        let [_, high, middle, low] = left.to_be_bytes();
        self.hold = [high, middle, low];
        None
    }

    fn end(&mut self, message: Message) -> Message {
        *self = Partial::default();
        message
    }
}

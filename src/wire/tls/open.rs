//! Records opened: decrypted in place, then read for what they mean.

use super::alert::{FATAL, WARNING};
use super::keys::{Key, advance};
use super::messages::Message;
use super::parked::{Flags, Line, RENEGOTIATION_WEIGHT, WARNING_WEIGHT};
use super::record::{Content, HEADER, Header, MAX_PLAINTEXT, additional_data};
use super::{Alert, Fault, Version};
use ring::aead::{Aad, Nonce};

/// What a record was.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<'r> {
    /// Application data, at least one byte, where it lay in the record.
    Data(&'r mut [u8]),
    /// Nothing for the application: a KeyUpdate, a ticket, a record without content, or one that came after the peer's
    /// close_notify. There may be an answer to send now ([`WriteHalf::answer`](super::WriteHalf::answer)).
    Nothing,
    /// The peer sends no more (RFC 8446 section 6.1). This end may go on, and says close_notify when it is done.
    CloseNotify,
    /// A warning; the connection goes on. TLS 1.3 has user_canceled only.
    Warning(Alert),
}

/// The state of the direction that is read, with its key.
pub(super) struct Opener<'x> {
    pub(super) line: &'x mut Line,
    pub(super) secret: &'x mut [u8],
    pub(super) key: &'x mut Key,
}

impl Opener<'_> {
    /// See [`ReadHalf::open`](super::ReadHalf::open).
    pub(super) fn open<'r>(&mut self, record: &'r mut [u8]) -> Result<Opened<'r>, Fault> {
        if self.line.flags.has(Flags::READ_CLOSED) {
            return Ok(Opened::Nothing);
        }
        let opened = self.decrypt(record).and_then(|(content, plain)| self.read(content, plain));
        if matches!(opened, Ok(Opened::CloseNotify) | Err(_)) {
            self.line.flags.set(Flags::READ_CLOSED);
        }
        opened
    }

    fn decrypt<'r>(&mut self, record: &'r mut [u8]) -> Result<(Content, &'r mut [u8]), Fault> {
        let header = Header::of_whole(record, self.line.suite.version)?;
        let decrypted = match self.line.suite.version {
            Version::Tls13 => self.decrypt_13(record),
            Version::Tls12 => self.decrypt_12(header.content, record),
        }?;
        self.line.count_read()?;
        if decrypted.1.len() > MAX_PLAINTEXT { Err(Fault::LongPlaintext) } else { Ok(decrypted) }
    }

    /// RFC 8446 section 5.2: the additional data is the header; the content type is the last byte that is not zero.
    /// Padding counts: with it and the type a plaintext has 2^14 + 1 bytes at most (5.4).
    fn decrypt_13<'r>(&mut self, record: &'r mut [u8]) -> Result<(Content, &'r mut [u8]), Fault> {
        let nonce = self.key.nonce(self.line.read_sequence());
        let (header, sealed) = record.split_first_chunk_mut::<HEADER>().ok_or(Fault::Truncated)?;
        let plain = decrypt(self.key, nonce, Aad::from(*header), sealed)?;
        if plain.len() > MAX_PLAINTEXT + 1 {
            return Err(Fault::LongPlaintext);
        }
        let end = plain.iter().rposition(|&byte| byte != 0).ok_or(Fault::NoContentType)?;
        let (content, padded) = plain.split_at_mut(end);
        let kind = padded.first().and_then(|&byte| Content::from_byte(byte));
        Ok((kind.ok_or(Fault::RecordType)?, content))
    }

    /// RFC 5246 section 6.2.3.3.
    fn decrypt_12<'r>(&mut self, kind: Content, record: &'r mut [u8]) -> Result<(Content, &'r mut [u8]), Fault> {
        let (explicit_len, sequence) = (self.line.suite.explicit_len(), self.line.read_sequence());
        let (header, body) = record.split_first_chunk_mut::<HEADER>().ok_or(Fault::Truncated)?;
        let &mut [_, major, minor, ..] = header;
        let (explicit, sealed) = body.split_at_mut_checked(explicit_len).ok_or(Fault::Truncated)?;
        let nonce = if explicit_len == 0 { self.key.nonce(sequence) } else { self.key.explicit_nonce(explicit) };
        let plain = sealed.len().checked_sub(super::keys::TAG).ok_or(Fault::Truncated)?;
        let data = additional_data(sequence, kind as u8, [major, minor], plain);
        Ok((kind, decrypt(self.key, nonce, Aad::from(data), sealed)?))
    }

    fn read<'r>(&mut self, content: Content, plain: &'r mut [u8]) -> Result<Opened<'r>, Fault> {
        if content != Content::Handshake && !self.line.partial.is_none() {
            return Err(Fault::Interleaved);
        }
        match content {
            Content::ApplicationData if plain.is_empty() => self.line.weigh(1, Fault::TooManyEmpty)?,
            Content::ApplicationData => {
                self.line.forgive();
                return Ok(Opened::Data(plain));
            }
            _ if plain.is_empty() => return Err(Fault::Empty),
            Content::Alert => return self.alert(plain),
            Content::Handshake => self.handshake(plain)?,
        }
        Ok(Opened::Nothing)
    }

    /// RFC 8446 section 6: an alert is never cut. Its level is ignored in 1.3, where all but two descriptions are
    /// fatal.
    fn alert<'r>(&mut self, plain: &[u8]) -> Result<Opened<'r>, Fault> {
        let &[level, description] = plain else { return Err(Fault::Length) };
        let alert = Alert(description);
        let is_warning = match self.line.suite.version {
            Version::Tls13 => alert == Alert::USER_CANCELED,
            Version::Tls12 => level == WARNING,
        };
        match alert {
            _ if !(WARNING..=FATAL).contains(&level) => Err(Fault::Value),
            Alert::CLOSE_NOTIFY => Ok(Opened::CloseNotify),
            _ if !is_warning => Err(Fault::Alert(alert)),
            _ => self.line.weigh(WARNING_WEIGHT, Fault::TooManyWarnings).map(|()| Opened::Warning(alert)),
        }
    }

    /// Reads the messages, or pieces of messages, of one record. Each record weighs at least 1, and so does each
    /// message.
    fn handshake(&mut self, plain: &[u8]) -> Result<(), Fault> {
        let mut rest = plain;
        while !rest.is_empty() {
            let message = self.line.partial.next(&mut rest, self.line.expected())?;
            self.line.weigh(1, Fault::TooManyUpdates)?;
            match message {
                Some(Message::KeyUpdate { requested }) => self.key_update(requested, rest)?,
                Some(Message::Renegotiation) => self.renegotiation()?,
                Some(Message::Ticket) | None => {}
            }
        }
        Ok(())
    }

    /// RFC 8446 sections 4.6.3 and 5.1: a key changes at the end of a record.
    fn key_update(&mut self, requested: bool, rest: &[u8]) -> Result<(), Fault> {
        if !rest.is_empty() {
            return Err(Fault::Unaligned);
        }
        advance(self.line.suite, self.secret);
        *self.key = Key::new(self.line.suite, self.secret);
        self.line.restart_read();
        if requested {
            self.line.flags.set(Flags::UPDATE_OWED);
        }
        Ok(())
    }

    /// RFC 5246 sections 7.4.1.1 and 7.2.2: it is refused by a warning, and the connection goes on.
    fn renegotiation(&mut self) -> Result<(), Fault> {
        self.line.weigh(RENEGOTIATION_WEIGHT - 1, Fault::TooManyRenegotiations)?;
        self.line.flags.set(Flags::NO_RENEGOTIATION_OWED);
        Ok(())
    }
}

fn decrypt<'s, A: AsRef<[u8]>>(
    key: &Key,
    nonce: [u8; 12],
    data: Aad<A>,
    sealed: &'s mut [u8],
) -> Result<&'s mut [u8], Fault> {
    if sealed.len() < super::keys::TAG {
        return Err(Fault::Truncated);
    }
    key.aead.open_in_place(Nonce::assume_unique_for_key(nonce), data, sealed).map_err(|_| Fault::Mac)
}

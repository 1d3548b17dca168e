//! Records sealed: plaintext gathered from several places straight into the send buffer and encrypted there.

use super::alert::{FATAL, WARNING};
use super::keys::{Key, TAG, advance};
use super::parked::{Flags, Line, owes};
use super::record::{Content, HEADER, MAX_PLAINTEXT, additional_data, header, overhead, sealed_len};
use super::{Alert, Version};
use ring::aead::{Aad, Nonce};

/// Bytes that any alert or KeyUpdate takes as a record, at most.
pub const MAX_CONTROL: usize = 2 * (HEADER + TAG);

/// A KeyUpdate that asks for none in return (RFC 8446 section 4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// No application data can be sealed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many records have been sealed as one key of TLS 1.2 allows: the connection is to be closed, with
    /// close_notify.
    Exhausted,
    /// close_notify or a fatal alert has been sealed.
    Closed,
}

/// Plaintext in several places, and how far it has been sealed.
#[derive(Clone, Debug)]
pub struct Plain<'p> {
    parts: &'p [&'p [u8]],
    /// Bytes of the first of `parts` that have been taken.
    taken: usize,
    /// Bytes left in all.
    left: usize,
}

impl<'p> Plain<'p> {
    /// All of these bytes, in this order.
    pub fn new(parts: &'p [&'p [u8]]) -> Plain<'p> {
        Plain { parts, taken: 0, left: parts.iter().map(|part| part.len()).sum() }
    }

    /// Bytes that are still to be sealed.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Everything has been sealed.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Fills `out`, which is no longer than what is left.
    fn take(&mut self, mut out: &mut [u8]) {
        self.left -= out.len();
        while let (false, Some((first, rest))) = (out.is_empty(), self.parts.split_first()) {
            let from = first.get(self.taken..).unwrap_or_default();
            let len = from.len().min(out.len());
            let (to, further) = out.split_at_mut(len);
            to.copy_from_slice(from.split_at(len).0);
            out = further;
            self.taken += len;
            if self.taken == first.len() {
                (self.parts, self.taken) = (rest, 0);
            }
        }
    }
}

/// The state of the direction that is written, with its key.
pub(super) struct Sealer<'x> {
    pub(super) line: &'x mut Line,
    pub(super) secret: &'x mut [u8],
    pub(super) key: &'x mut Key,
}

impl Sealer<'_> {
    /// See [`WriteHalf::seal`](super::WriteHalf::seal).
    pub(super) fn seal(&mut self, plain: &mut Plain<'_>, out: &mut [u8]) -> Result<usize, Refused> {
        if self.line.flags.has(Flags::WRITE_CLOSED) {
            return Err(Refused::Closed);
        }
        let mut written = 0;
        while !plain.is_empty() {
            let sealed = match self.step(plain, out.get_mut(written..).unwrap_or_default()) {
                Err(refused) if written == 0 => return Err(refused),
                sealed => sealed.unwrap_or(0),
            };
            written += sealed;
            if sealed == 0 {
                break;
            }
        }
        Ok(written)
    }

    /// One record: what is owed, a new key where the old one has served long enough, or data. 0 where `out` has no
    /// room for it.
    fn step(&mut self, plain: &mut Plain<'_>, out: &mut [u8]) -> Result<usize, Refused> {
        if owes(self.line) {
            return Ok(self.answer_one(out));
        }
        if self.line.write_sequence() >= self.line.suite.records_per_key() {
            return match self.line.suite.version {
                Version::Tls13 => Ok(self.update_key(out)),
                Version::Tls12 => Err(Refused::Exhausted),
            };
        }
        let room = out.len().saturating_sub(overhead(self.line.suite));
        let len = room.min(MAX_PLAINTEXT).min(plain.len());
        Ok(if len == 0 { 0 } else { self.record(Content::ApplicationData, len, out, |to| plain.take(to)) })
    }

    /// See [`WriteHalf::answer`](super::WriteHalf::answer).
    pub(super) fn answer(&mut self, out: &mut [u8]) -> usize {
        let mut written = 0;
        while owes(self.line) {
            match self.answer_one(out.get_mut(written..).unwrap_or_default()) {
                0 => break,
                sealed => written += sealed,
            }
        }
        written
    }

    fn answer_one(&mut self, out: &mut [u8]) -> usize {
        if self.line.flags.has(Flags::UPDATE_OWED) {
            return self.update_key(out);
        }
        let sealed = self.control(Content::Alert, &[WARNING, Alert::NO_RENEGOTIATION.0], out);
        if sealed > 0 {
            self.line.flags.clear(Flags::NO_RENEGOTIATION_OWED);
        }
        sealed
    }

    /// RFC 8446 section 4.6.3: the KeyUpdate is the last record under the old key. It also answers every one that the
    /// peer has asked for so far.
    pub(super) fn update_key(&mut self, out: &mut [u8]) -> usize {
        if self.line.suite.version == Version::Tls12 || self.line.flags.has(Flags::WRITE_CLOSED) {
            return 0;
        }
        let sealed = self.control(Content::Handshake, &KEY_UPDATE, out);
        if sealed > 0 {
            advance(self.line.suite, self.secret);
            *self.key = Key::new(self.line.suite, self.secret);
            self.line.restart_write();
            self.line.flags.clear(Flags::UPDATE_OWED);
        }
        sealed
    }

    /// Seals the last record of this direction.
    pub(super) fn close(&mut self, alert: Alert, out: &mut [u8]) -> usize {
        let level = if alert == Alert::CLOSE_NOTIFY { WARNING } else { FATAL };
        if self.line.flags.has(Flags::WRITE_CLOSED) {
            return 0;
        }
        let sealed = self.control(Content::Alert, &[level, alert.0], out);
        if sealed > 0 {
            self.line.flags.set(Flags::WRITE_CLOSED);
        }
        sealed
    }

    fn control(&mut self, content: Content, message: &[u8], out: &mut [u8]) -> usize {
        self.record(content, message.len(), out, |to| to.copy_from_slice(message))
    }

    /// Seals one record of `len` bytes, which `fill` writes where they are encrypted. Returns its length, or 0 where
    /// `out` has no room for it; then nothing has changed.
    fn record(&mut self, content: Content, len: usize, out: &mut [u8], fill: impl FnOnce(&mut [u8])) -> usize {
        let whole = len + overhead(self.line.suite);
        let Some(record) = out.get_mut(..whole) else { return 0 };
        // The state counts the record before it is sealed: no second one can have its number.
        let sequence = self.line.take_write_sequence();
        match self.line.suite.version {
            Version::Tls13 => self.record_13(content, len, sequence, record, fill),
            Version::Tls12 => self.record_12(content, len, sequence, record, fill),
        }
        whole
    }

    /// RFC 8446 section 5.2.
    fn record_13(&self, content: Content, len: usize, sequence: u64, out: &mut [u8], fill: impl FnOnce(&mut [u8])) {
        let (head, body) = out.split_at_mut(HEADER);
        let header = header(Content::ApplicationData as u8, body.len());
        head.copy_from_slice(&header);
        let (inner, tag) = body.split_at_mut(len + 1);
        let (plain, kind) = inner.split_at_mut(len);
        fill(plain);
        kind.fill(content as u8);
        encrypt(self.key, self.key.nonce(sequence), Aad::from(header), inner, tag);
    }

    /// RFC 5246 section 6.2.3.3. The explicit nonce is never one that was used before: it is the IV's end xor the
    /// sequence number (RFC 5288 section 3 leaves the choice to the sender), as rustls has done from the first record
    /// on.
    fn record_12(&self, content: Content, len: usize, sequence: u64, out: &mut [u8], fill: impl FnOnce(&mut [u8])) {
        let nonce = self.key.nonce(sequence);
        let (head, body) = out.split_at_mut(HEADER);
        head.copy_from_slice(&header(content as u8, body.len()));
        let (explicit, sealed) = body.split_at_mut(self.line.suite.explicit_len());
        let (_, nonce_end) = nonce.split_at(nonce.len() - explicit.len());
        explicit.copy_from_slice(nonce_end);
        let (plain, tag) = sealed.split_at_mut(len);
        fill(plain);
        let data = additional_data(sequence, content as u8, [3, 3], len);
        encrypt(self.key, nonce, Aad::from(data), plain, tag);
    }

    /// See [`WriteHalf::sealed_len`](super::WriteHalf::sealed_len).
    pub(super) fn sealed_len(line: &Line, plain: usize) -> usize {
        let (suite, control) = (line.suite, |message: usize| overhead(line.suite) + message);
        let owed = if line.flags.has(Flags::UPDATE_OWED) { control(KEY_UPDATE.len()) } else { 0 };
        let refusal = if line.flags.has(Flags::NO_RENEGOTIATION_OWED) { control(2) } else { 0 };
        // An answer changes the key already.
        let records = line.write_sequence().saturating_add(plain.div_ceil(MAX_PLAINTEXT) as u64);
        let is_due = owed == 0 && suite.version == Version::Tls13 && records > suite.records_per_key();
        sealed_len(suite, plain) + owed + refusal + if is_due { control(KEY_UPDATE.len()) } else { 0 }
    }
}

#[allow(clippy::expect_used, reason = "ring refuses plaintext of 2^36 bytes only")]
fn encrypt<A: AsRef<[u8]>>(key: &Key, nonce: [u8; 12], data: Aad<A>, plain: &mut [u8], tag: &mut [u8]) {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let sealed = key.aead.seal_in_place_separate_tag(nonce, data, plain).expect("a record is short enough");
    tag.copy_from_slice(sealed.as_ref());
}

//! Batches: sends of messages that many clients are sent. The bytes belong to the messages, not to an outbox.
//!
//! A connection that *follows* has no queue of its own for what is published. When its outbox is empty its service is
//! asked for what comes next, and fills a [`Batch`]: messages, counted, each in the form of the client's transport. The
//! batch is in flight while the kernel reads from it, and its own counts keep the messages in memory. Such a send does
//! not wait for the socket: what the socket does not take at once is copied into the outbox and waits there, so that a
//! slow client holds copies of its own, and nothing that others share.

use crate::engine::{GATHER, Piece};
use crate::mesh::{Form, Message};
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

/// The most bytes that go into one send, but for a message that is larger by itself. A slow client may have to keep as
/// many in its outbox.
const BATCH_BYTES: usize = 64 << 10;

/// Bytes of heads in one batch, but for one that is larger by itself.
const HEAD_BYTES: usize = 2 << 10;

/// A message as one shard counts it: cheaper than the count that all shards share.
pub type Payload = Rc<Arc<Message>>;

/// What one send takes along.
#[derive(Default)]
pub struct Batch {
    held: Vec<Payload>,
    /// Bytes that no message holds.
    own: Vec<Vec<u8>>,
    /// What stands in front of messages for one client, one head behind the other; never grows beyond its capacity.
    heads: Vec<u8>,
    pieces: Vec<Piece>,
    messages: usize,
    len: usize,
    most: usize,
}

impl Batch {
    /// No message is added behind so many bytes, for a client that may keep less waiting than a batch.
    pub fn limit(&mut self, bytes: u64) {
        self.most = BATCH_BYTES.min(bytes as usize);
    }

    /// Another message may be added.
    pub fn has_room(&self) -> bool {
        self.is_empty() || self.pieces.len() + 1 < GATHER && self.len < self.most && self.has_head_room()
    }

    /// Nothing was added.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Messages in it.
    pub fn count(&self) -> usize {
        self.messages
    }

    fn has_head_room(&self) -> bool {
        self.heads.len() < HEAD_BYTES - HEAD_BYTES / 8
    }

    /// Adds a message for one client, if there is room: a head of its own, and of the payload, which all share, what is
    /// behind the first `from` bytes.
    pub fn push_headed(&mut self, head: &[u8], payload: &Payload, from: usize) {
        if !self.has_room() {
            return;
        }
        let head = self.keep_head(head);
        let tail = payload.payload().get(from..).unwrap_or_default();
        self.add(head);
        if !tail.is_empty() {
            self.add(Piece { start: tail.as_ptr(), len: tail.len() });
            self.held.push(payload.clone());
        }
        self.messages += 1;
    }

    /// Adds bytes for one client that are not shared at all, if there is room.
    pub fn push_own(&mut self, bytes: Vec<u8>) {
        if self.has_room() && !bytes.is_empty() {
            self.add(Piece { start: bytes.as_ptr(), len: bytes.len() });
            self.own.push(bytes);
            self.messages += 1;
        }
    }

    /// Where a head lies from now on: none that is there already may move.
    fn keep_head(&mut self, head: &[u8]) -> Piece {
        if self.heads.capacity() == 0 {
            self.heads.reserve_exact(HEAD_BYTES);
        }
        if self.heads.capacity() - self.heads.len() < head.len() {
            let own = head.to_vec();
            let piece = Piece { start: own.as_ptr(), len: own.len() };
            self.own.push(own);
            return piece;
        }
        let at = self.heads.len();
        self.heads.extend_from_slice(head);
        Piece { start: self.heads[at..].as_ptr(), len: head.len() }
    }

    fn add(&mut self, piece: Piece) {
        self.len += piece.len;
        self.pieces.push(piece);
    }

    /// Adds a message, if there is room. `deflate` makes the deflated form where it was not made yet.
    pub fn push(&mut self, payload: &Payload, form: Form, deflate: impl FnOnce(&[u8], &mut Vec<u8>)) {
        if !self.has_room() {
            return;
        }
        let bytes = payload.form(form, deflate);
        if bytes.is_empty() {
            // An empty payload as it is: the kernel is never asked to send nothing.
            return;
        }
        self.add(Piece { start: bytes.as_ptr(), len: bytes.len() });
        self.held.push(payload.clone());
        self.messages += 1;
    }

    /// Adds a message that is only kept for those who come back: its form is not kept, unless it is there already.
    pub fn push_old(&mut self, payload: &Payload, form: Form) {
        if !self.has_room() {
            return;
        }
        let bytes = payload.form_once(form);
        if bytes.is_empty() {
            return;
        }
        (self.len, self.messages) = (self.len + bytes.len(), self.messages + 1);
        match bytes {
            Cow::Borrowed(bytes) => {
                self.pieces.push(Piece { start: bytes.as_ptr(), len: bytes.len() });
                self.held.push(payload.clone());
            }
            Cow::Owned(bytes) => {
                self.pieces.push(Piece { start: bytes.as_ptr(), len: bytes.len() });
                self.own.push(bytes);
            }
        }
    }

    /// Bytes in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// For the send. The bytes stay in place as long as the batch does: it holds the messages, whose forms
    /// never move, and what was made for it alone.
    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Hands what is left behind the first `sent` bytes to a queue.
    pub(super) fn keep_rest<T>(&self, sent: usize, queue: impl FnOnce(&[u8]) -> T) -> T {
        let mut skip = sent;
        let mut rest = Vec::with_capacity(self.len - sent);
        for piece in &self.pieces {
            let from = skip.min(piece.len);
            // SAFETY: the piece lies in a message or a vector that the batch holds.
            rest.extend_from_slice(unsafe { std::slice::from_raw_parts(piece.start.add(from), piece.len - from) });
            skip -= from;
        }
        queue(&rest)
    }

    fn clear(&mut self) {
        self.held.clear();
        self.own.clear();
        self.heads.clear();
        self.pieces.clear();
        (self.len, self.most, self.messages) = (0, 0, 0);
    }
}

/// The batches of a shard: those in flight by number, and those that wait to be used again.
#[derive(Default)]
pub struct Batches {
    in_flight: Vec<Option<Box<Batch>>>,
    free: Vec<u32>,
    #[allow(clippy::vec_box, reason = "a batch is handed around by a pointer: it is 144 bytes")]
    spare: Vec<Box<Batch>>,
}

#[expect(clippy::unnecessary_box_returns, reason = "a batch is handed around by a pointer")]
impl Batches {
    /// An empty batch.
    pub fn batch(&mut self) -> Box<Batch> {
        self.spare.pop().unwrap_or_default()
    }

    /// The batch is in flight under this number.
    pub fn begin(&mut self, batch: Box<Batch>) -> u32 {
        let number = self.free.pop().unwrap_or(self.in_flight.len() as u32);
        if number as usize == self.in_flight.len() {
            self.in_flight.push(None);
        }
        self.in_flight[number as usize] = Some(batch);
        number
    }

    /// The batch in flight.
    pub fn get(&self, number: u32) -> &Batch {
        self.in_flight[number as usize].as_ref().expect("a batch is in flight once")
    }

    /// The kernel has let go of it.
    pub fn end(&mut self, number: u32) -> Box<Batch> {
        self.free.push(number);
        self.in_flight[number as usize].take().expect("a batch is in flight once")
    }

    /// What is in flight stays where it is for as long as the process lives: the kernel may still read it.
    pub fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.in_flight));
    }

    /// Takes the batch back; the messages are let go.
    pub fn put_back(&mut self, mut batch: Box<Batch>) {
        batch.clear();
        self.spare.push(batch);
    }
}

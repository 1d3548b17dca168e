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

/// A message as one shard counts it: cheaper than the count that all shards share.
pub type Payload = Rc<Arc<Message>>;

/// What one send takes along.
#[derive(Default)]
pub struct Batch {
    held: Vec<Payload>,
    /// Bytes that no message holds.
    own: Vec<Vec<u8>>,
    pieces: Vec<Piece>,
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
        self.is_empty() || self.pieces.len() < GATHER && self.len < self.most
    }

    /// Nothing was added.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Messages in it.
    pub fn count(&self) -> usize {
        self.pieces.len()
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
        self.pieces.push(Piece { start: bytes.as_ptr(), len: bytes.len() });
        self.len += bytes.len();
        self.held.push(payload.clone());
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
        self.len += bytes.len();
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
        self.pieces.clear();
        (self.len, self.most) = (0, 0);
    }
}

/// The batches of a shard: those in flight by number, and those that wait to be used again.
#[derive(Default)]
pub struct Batches {
    in_flight: Vec<Option<Box<Batch>>>,
    free: Vec<u32>,
    #[allow(clippy::vec_box, reason = "a batch is handed around by a pointer: it is 112 bytes")]
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

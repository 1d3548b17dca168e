//! What is queued for a peer, and the memory it is queued in.
//!
//! An [`Outbox`] is a chain of chunks of the shard's [`Pool`], named by index. Bytes are written behind what
//! is queued, and a send takes from the front; a chunk goes back to the pool when the kernel has taken all of
//! it, never sooner. A message whose end is not known yet is written into a second chain, the *draft*, with
//! room for its header in front; [`Pool::commit_draft`] appends it to the queue,
//! [`Pool::discard_draft`] drops it.

mod sealed;

use super::chunks::{Blocks, Chunks, Meta, NONE};
use crate::engine::{GATHER, Piece};
pub use sealed::Unsealed;
use std::ptr::NonNull;

/// Room that a draft leaves in front for its header.
pub const HEAD_ROOM: usize = 10;

/// Bytes that control frames and refusals may take beyond the pool's limit, so that an overloaded shard can
/// still send their ends.
const RESERVE: u64 = 1 << 20;

/// The largest draft that is copied rather than linked.
const SMALL_DRAFT: usize = 256;

const LARGE: u32 = 1 << 31;

/// The pool's limit is reached; nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// A connection's queue: 32 bytes, and nothing else while nothing is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outbox {
    first: u32,
    last: u32,
    draft_first: u32,
    draft_last: u32,
    pending: u32,
    draft: u32,
    sending: u32,
    held: u32,
}

impl Default for Outbox {
    fn default() -> Self {
        Outbox::EMPTY
    }
}

impl Outbox {
    /// Nothing queued.
    pub const EMPTY: Outbox = Outbox {
        first: NONE,
        last: NONE,
        draft_first: NONE,
        draft_last: NONE,
        pending: 0,
        draft: 0,
        sending: 0,
        held: 0,
    };

    /// Bytes queued and not yet taken by the kernel; a draft does not count.
    pub fn pending(&self) -> usize {
        self.pending as usize
    }

    /// Bytes in the draft, its header not counted.
    pub fn draft(&self) -> usize {
        self.draft as usize
    }

    /// Bytes of the chunks that the queue and the draft lie in: what they cost.
    pub fn held(&self) -> usize {
        self.held as usize
    }

    /// A draft has been begun.
    pub fn has_draft(&self) -> bool {
        self.draft_first != NONE
    }
}

/// The memory of a shard's outboxes, of at most so many bytes in use.
pub struct Pool {
    blocks: Blocks,
    small: Chunks,
    large: Chunks,
    limit: u64,
    in_use: u64,
    pending: u64,
}

impl Pool {
    /// An empty pool of at most `limit` bytes.
    pub fn new(limit: u64) -> Pool {
        let (small, large) = (Chunks::new(512), Chunks::new(16 << 10));
        Pool { blocks: Blocks::default(), small, large, limit, in_use: 0, pending: 0 }
    }

    /// Bytes that the pool has of the kernel: those in use, the free chunks between them, and a few spare ones.
    pub fn resident(&self) -> u64 {
        self.blocks.bytes()
    }

    /// The memory of the pool stays where it is for as long as the process lives: the kernel may still read it.
    pub fn leak(&mut self) {
        std::mem::forget(std::mem::replace(self, Pool::new(0)));
    }

    /// Bytes of chunks in use.
    pub fn in_use(&self) -> u64 {
        self.in_use
    }

    /// Bytes queued in all outboxes.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// The most that may be in use.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Queues the parts, one behind the other.
    ///
    /// # Errors
    /// [`Exhausted`]: none of it was queued.
    pub fn append(&mut self, out: &mut Outbox, parts: [&[u8]; 2]) -> Result<(), Exhausted> {
        let len = parts[0].len() + parts[1].len();
        self.reserve(out.last, len, 0)?;
        self.append_reserved(out, parts, len);
        Ok(())
    }

    /// Queues what must be sent even by an overloaded shard: it may dip into a small reserve.
    ///
    /// # Errors
    /// [`Exhausted`]: even the reserve is gone.
    pub fn append_urgent(&mut self, out: &mut Outbox, parts: [&[u8]; 2]) -> Result<(), Exhausted> {
        let len = parts[0].len() + parts[1].len();
        self.reserve(out.last, len, RESERVE)?;
        self.append_reserved(out, parts, len);
        Ok(())
    }

    fn append_reserved(&mut self, out: &mut Outbox, parts: [&[u8]; 2], len: usize) {
        let before = self.in_use;
        let mut chain = (out.first, out.last);
        parts.iter().for_each(|part| self.extend(&mut chain, part, len));
        (out.first, out.last) = chain;
        out.pending += len as u32;
        self.pending += len as u64;
        self.charge(out, before);
    }

    /// Who holds what was taken or given back since.
    fn charge(&self, out: &mut Outbox, before: u64) {
        out.held = (u64::from(out.held) + self.in_use - before) as u32;
    }

    /// Queues the bytes in front of everything else. Only while the kernel holds no send of this outbox.
    ///
    /// # Errors
    /// [`Exhausted`]: none of it was queued.
    pub fn prepend(&mut self, out: &mut Outbox, bytes: &[u8]) -> Result<(), Exhausted> {
        self.reserve(NONE, bytes.len(), 0)?;
        let before = self.in_use;
        let mut chain = (NONE, NONE);
        self.extend(&mut chain, bytes, bytes.len());
        self.charge(out, before);
        if chain.1 == NONE {
            return Ok(());
        }
        self.meta(chain.1).next = out.first;
        if out.last == NONE {
            out.last = chain.1;
        }
        out.first = chain.0;
        out.pending += bytes.len() as u32;
        self.pending += bytes.len() as u64;
        Ok(())
    }

    /// Writes more of the message whose end is not known yet.
    ///
    /// # Errors
    /// [`Exhausted`]: nothing was written; the draft so far stands.
    pub fn draft(&mut self, out: &mut Outbox, bytes: &[u8]) -> Result<(), Exhausted> {
        self.reserve(out.draft_last, bytes.len() + HEAD_ROOM, 0)?;
        let before = self.in_use;
        if !out.has_draft() {
            let chunk = self.take(bytes.len() + HEAD_ROOM);
            let meta = self.meta(chunk);
            (meta.start, meta.end) = (HEAD_ROOM as u32, HEAD_ROOM as u32);
            (out.draft_first, out.draft_last) = (chunk, chunk);
        }
        let mut chain = (out.draft_first, out.draft_last);
        self.extend(&mut chain, bytes, bytes.len());
        (out.draft_first, out.draft_last) = chain;
        out.draft += bytes.len() as u32;
        self.charge(out, before);
        Ok(())
    }

    /// Queues the draft behind `head`, at most [`HEAD_ROOM`] bytes. Without a draft nothing happens.
    pub fn commit_draft(&mut self, out: &mut Outbox, head: &[u8]) {
        if !out.has_draft() {
            return;
        }
        if self.commit_small(out, head) {
            return;
        }
        let first = out.draft_first;
        let start = HEAD_ROOM - head.len();
        self.write_at(first, start, head);
        self.meta(first).start = start as u32;
        match out.last {
            NONE => out.first = first,
            last => self.meta(last).next = first,
        }
        out.last = out.draft_last;
        let len = out.draft + head.len() as u32;
        out.pending += len;
        self.pending += u64::from(len);
        (out.draft_first, out.draft_last, out.draft) = (NONE, NONE, 0);
    }

    /// A small draft is copied behind what is queued, if there is room in the last chunk: else many short messages
    /// would take a chunk each.
    fn commit_small(&mut self, out: &mut Outbox, head: &[u8]) -> bool {
        let len = out.draft();
        if len > SMALL_DRAFT || self.room(out.last) < len + head.len() {
            return false;
        }
        let mut copy = [0; SMALL_DRAFT];
        // SAFETY: a draft this small lies in one chunk, written behind the head's room; nobody else reads or writes it.
        unsafe {
            self.address(out.draft_first, HEAD_ROOM).copy_to_nonoverlapping(NonNull::from(&mut copy).cast(), len);
        };
        self.discard_draft(out);
        self.append_reserved(out, [head, &copy[..len]], head.len() + len);
        true
    }

    /// Chunks for `len` bytes that the kernel is to write, with room for `front` bytes before them; together at most
    /// what [`GATHER`] large chunks hold. They are in use until they are queued ([`Pool::append_filled`]) or given back
    /// ([`Pool::clear`]), and nobody's until then.
    ///
    /// # Errors
    /// [`Exhausted`]: none was taken.
    pub fn blank(&mut self, front: usize, len: usize) -> Result<Outbox, Exhausted> {
        let len = front + len;
        self.reserve(NONE, len, 0)?;
        let (mut out, before) = (Outbox::EMPTY, self.in_use);
        let mut room = 0;
        while room < len {
            let chunk = self.take(len);
            room += self.class(chunk).size();
            match out.last {
                NONE => out.first = chunk,
                last => self.meta(last).next = chunk,
            }
            out.last = chunk;
        }
        let meta = self.meta(out.first);
        (meta.start, meta.end) = (front as u32, front as u32);
        self.charge(&mut out, before);
        Ok(out)
    }

    /// Where the first `len` bytes of blank chunks are to be written. They stay in place until the chunks are queued or
    /// given back.
    pub fn places(&self, blank: &Outbox, len: usize) -> ([Piece; GATHER], usize) {
        let mut pieces = [Piece { start: std::ptr::null(), len: 0 }; GATHER];
        let (mut chunk, mut count, mut left) = (blank.first, 0, len);
        while chunk != NONE && count < GATHER && left > 0 {
            let start = self.peek(chunk).start as usize;
            let len = left.min(self.class(chunk).size() - start);
            pieces[count] = Piece { start: self.address(chunk, start).as_ptr(), len };
            (count, left, chunk) = (count + 1, left - len, self.peek(chunk).next);
        }
        (pieces, count)
    }

    /// Queues the first `len` bytes of blank chunks, which the kernel has written, behind `head`, for which there is
    /// room in front of them. What is behind them is given back.
    ///
    /// # Panics
    /// There is no such room.
    pub fn append_filled(&mut self, out: &mut Outbox, mut blank: Outbox, head: &[u8], len: usize) {
        let (before, mut left) = (self.in_use, len);
        let (mut chunk, mut last) = (blank.first, NONE);
        while chunk != NONE && left > 0 {
            let start = self.peek(chunk).start as usize;
            let filled = left.min(self.class(chunk).size() - start);
            self.meta(chunk).end = (start + filled) as u32;
            left -= filled;
            (last, chunk) = (chunk, self.peek(chunk).next);
        }
        self.release_chain(chunk);
        self.charge(&mut blank, before);
        if last == NONE {
            return;
        }
        self.meta(last).next = NONE;
        let start = self.peek(blank.first).start as usize - head.len();
        self.write_at(blank.first, start, head);
        self.meta(blank.first).start = start as u32;
        match out.last {
            NONE => out.first = blank.first,
            end => self.meta(end).next = blank.first,
        }
        (out.last, out.held) = (last, out.held + blank.held);
        out.pending += (head.len() + len) as u32;
        self.pending += (head.len() + len) as u64;
    }

    /// Copies the draft behind what is in `into`.
    pub fn read_draft(&self, out: &Outbox, into: &mut Vec<u8>) {
        into.reserve_exact(out.draft());
        self.read_draft_front(out, usize::MAX, into);
    }

    /// Copies the first bytes of the draft, as many chunks as begin before `most` bytes, behind what is in `into`.
    pub fn read_draft_front(&self, out: &Outbox, most: usize, into: &mut Vec<u8>) {
        let (mut chunk, until) = (out.draft_first, into.len().saturating_add(most));
        while chunk != NONE && into.len() < until {
            let meta = self.peek(chunk);
            let (start, len) = (self.address(chunk, meta.start as usize), (meta.end - meta.start) as usize);
            // SAFETY: these bytes of the chunk were written by `draft`; a draft is written only through the pool.
            into.extend_from_slice(unsafe { std::slice::from_raw_parts(start.as_ptr(), len) });
            chunk = meta.next;
        }
    }

    /// Forgets the first `len` bytes of the draft, which has as many.
    pub fn skip_draft(&mut self, out: &mut Outbox, len: usize) {
        let (before, mut left) = (self.in_use, len as u32);
        out.draft -= left;
        if out.draft == 0 {
            return self.discard_draft(out);
        }
        while left > 0 {
            let first = out.draft_first;
            let meta = self.meta(first);
            let step = left.min(meta.end - meta.start);
            (meta.start, left) = (meta.start + step, left - step);
            if meta.start == meta.end {
                out.draft_first = meta.next;
                self.release(first);
            }
        }
        self.charge(out, before);
    }

    /// Throws the draft away.
    pub fn discard_draft(&mut self, out: &mut Outbox) {
        let before = self.in_use;
        self.release_chain(out.draft_first);
        self.charge(out, before);
        (out.draft_first, out.draft_last, out.draft) = (NONE, NONE, 0);
    }

    /// The front of the queue as pieces for one send. They stay in place until [`Pool::sent`] or
    /// [`Pool::clear`]: the kernel's promise to report the send's end is what keeps them.
    pub fn gather(&self, out: &mut Outbox) -> ([Piece; GATHER], usize) {
        self.gather_front(out, usize::MAX)
    }

    /// As [`Pool::gather`], of the first `most` bytes.
    pub fn gather_front(&self, out: &mut Outbox, most: usize) -> ([Piece; GATHER], usize) {
        let (pieces, count) = self.front(out, most);
        out.sending = pieces[..count].iter().map(|it| it.len as u32).sum();
        (pieces, count)
    }

    fn front(&self, out: &Outbox, most: usize) -> ([Piece; GATHER], usize) {
        let mut pieces = [Piece { start: std::ptr::null(), len: 0 }; GATHER];
        let (mut chunk, mut count, mut left) = (out.first, 0, most);
        while chunk != NONE && count < GATHER && left > 0 {
            let meta = self.peek(chunk);
            let len = left.min((meta.end - meta.start) as usize);
            if len > 0 {
                pieces[count] = Piece { start: self.address(chunk, meta.start as usize).as_ptr(), len };
                count += 1;
            }
            (chunk, left) = (meta.next, left - len);
        }
        (pieces, count)
    }

    /// The kernel has taken `len` bytes from the front.
    pub fn sent(&mut self, out: &mut Outbox, len: usize) {
        debug_assert!(len <= out.sending as usize, "the kernel took more than it was given");
        out.sending = 0;
        self.drop_front(out, len);
    }

    fn drop_front(&mut self, out: &mut Outbox, len: usize) {
        out.pending -= len as u32;
        self.pending -= len as u64;
        let mut left = len as u32;
        while out.first != NONE {
            let meta = self.meta(out.first);
            let step = left.min(meta.end - meta.start);
            meta.start += step;
            left -= step;
            if meta.start < meta.end {
                return;
            }
            self.drop_first(out);
        }
    }

    /// Gives everything back. Only when the kernel holds no send of this outbox.
    pub fn clear(&mut self, out: &mut Outbox) {
        self.discard_draft(out);
        self.release_chain(out.first);
        self.pending -= u64::from(out.pending);
        *out = Outbox::EMPTY;
    }

    /// Gives back what the kernel was not asked to send: the draft, and the queue behind the send in flight.
    pub fn shed(&mut self, out: &mut Outbox) {
        self.discard_draft(out);
        let (mut chunk, mut left, mut last) = (out.first, out.sending, NONE);
        while chunk != NONE && left > 0 {
            let meta = self.meta(chunk);
            // What was written behind it since goes too.
            meta.end = meta.end.min(meta.start + left);
            left -= meta.end - meta.start;
            (last, chunk) = (chunk, meta.next);
        }
        match last {
            NONE => out.first = NONE,
            last => self.meta(last).next = NONE,
        }
        let before = self.in_use;
        self.release_chain(chunk);
        self.charge(out, before);
        self.pending -= u64::from(out.pending - out.sending);
        (out.last, out.pending) = (last, out.sending);
    }

    fn drop_first(&mut self, out: &mut Outbox) {
        let (next, before) = (self.peek(out.first).next, self.in_use);
        self.release(out.first);
        self.charge(out, before);
        out.first = next;
        if next == NONE {
            out.last = NONE;
        }
    }

    /// Writes behind the chain's end, taking chunks as needed; `expected` bytes in all help to choose a size.
    fn extend(&mut self, chain: &mut (u32, u32), mut bytes: &[u8], expected: usize) {
        while !bytes.is_empty() {
            if self.room(chain.1) == 0 {
                let chunk = self.take(expected.max(bytes.len()));
                match chain.1 {
                    NONE => chain.0 = chunk,
                    last => self.meta(last).next = chunk,
                }
                chain.1 = chunk;
            }
            let end = self.peek(chain.1).end as usize;
            let (now, later) = bytes.split_at(bytes.len().min(self.room(chain.1)));
            self.write_at(chain.1, end, now);
            self.meta(chain.1).end += now.len() as u32;
            bytes = later;
        }
    }

    /// Whether `len` more bytes behind chunk `last` stay within the limit.
    fn reserve(&self, last: u32, len: usize, beyond: u64) -> Result<(), Exhausted> {
        let more = len.saturating_sub(self.room(last));
        let chunks = if more == 0 { 0 } else { more.div_ceil(self.class_for(len).size()) * self.class_for(len).size() };
        if self.in_use + chunks as u64 <= self.limit + beyond { Ok(()) } else { Err(Exhausted) }
    }

    fn class_for(&self, len: usize) -> &Chunks {
        if len > self.small.size() { &self.large } else { &self.small }
    }

    /// # Panics
    /// The kernel has no memory, though it was reserved.
    fn take(&mut self, len: usize) -> u32 {
        let large = len > self.small.size();
        let class = if large { &mut self.large } else { &mut self.small };
        self.in_use += class.size() as u64;
        class.take(&mut self.blocks).expect("memory for a chunk") | if large { LARGE } else { 0 }
    }

    fn release(&mut self, chunk: u32) {
        let class = if chunk & LARGE != 0 { &mut self.large } else { &mut self.small };
        self.in_use -= class.size() as u64;
        class.release(chunk & !LARGE, &mut self.blocks);
    }

    fn release_chain(&mut self, mut chunk: u32) {
        while chunk != NONE {
            let next = self.peek(chunk).next;
            self.release(chunk);
            chunk = next;
        }
    }

    fn room(&self, chunk: u32) -> usize {
        if chunk == NONE { 0 } else { self.class(chunk).size() - self.peek(chunk).end as usize }
    }

    fn class(&self, chunk: u32) -> &Chunks {
        if chunk & LARGE != 0 { &self.large } else { &self.small }
    }

    fn class_mut(&mut self, chunk: u32) -> &mut Chunks {
        if chunk & LARGE != 0 { &mut self.large } else { &mut self.small }
    }

    fn peek(&self, chunk: u32) -> Meta {
        self.class(chunk).peek(chunk & !LARGE)
    }

    fn meta(&mut self, chunk: u32) -> &mut Meta {
        self.class_mut(chunk).meta(chunk & !LARGE)
    }

    fn address(&self, chunk: u32, at: usize) -> NonNull<u8> {
        self.class(chunk).address(chunk & !LARGE, at)
    }

    fn write_at(&mut self, chunk: u32, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.class(chunk).size(), "a write beyond the chunk");
        // SAFETY: within the chunk by the assertion; `at` is at or behind the chunk's end, or in a draft that
        // was never sent, so the kernel reads none of these bytes.
        unsafe { self.address(chunk, at).copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pool: &mut Pool, out: &mut Outbox, most: usize) -> Vec<u8> {
        let (pieces, count) = pool.gather(out);
        let mut bytes = Vec::new();
        for piece in &pieces[..count] {
            // SAFETY: a piece of the pool, which is not written here.
            bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(piece.start, piece.len) });
        }
        bytes.truncate(most);
        pool.sent(out, bytes.len());
        bytes
    }

    fn everything(pool: &mut Pool, out: &mut Outbox, step: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while out.pending() > 0 {
            bytes.extend(taken(pool, out, step));
        }
        bytes
    }

    #[test]
    fn what_is_queued_is_sent_in_order_and_all_memory_comes_back() {
        for step in [1, 7, 511, 512, 513, 20_000, 1_000_000] {
            let (mut pool, mut out, mut model) = (Pool::new(1 << 24), Outbox::EMPTY, Vec::new());
            for n in 0..300usize {
                let bytes: Vec<u8> = (0..n * n % 3000).map(|i| (i * n) as u8).collect();
                pool.append(&mut out, [&[n as u8], &bytes]).unwrap();
                model.push(n as u8);
                model.extend(bytes);
            }
            assert_eq!(out.pending(), model.len());
            assert_eq!(everything(&mut pool, &mut out, step), model);
            assert_eq!((pool.in_use(), pool.pending(), out), (0, 0, Outbox::EMPTY));
        }
    }

    #[test]
    fn a_draft_waits_and_then_stands_behind_its_head() {
        let (mut pool, mut out) = (Pool::new(1 << 24), Outbox::EMPTY);
        let long = vec![b'x'; 40_000];
        pool.draft(&mut out, b"").unwrap();
        pool.draft(&mut out, b"de").unwrap();
        pool.draft(&mut out, &long).unwrap();
        pool.append(&mut out, [b"a", b"b"]).unwrap();
        assert_eq!((out.pending(), out.draft()), (2, 40_002));
        let mut read = b"so far ".to_vec();
        pool.read_draft(&out, &mut read);
        assert_eq!(read, [b"so far de", &long[..]].concat());
        pool.commit_draft(&mut out, b"C");
        pool.append(&mut out, [b"z", b""]).unwrap();
        assert_eq!(everything(&mut pool, &mut out, 999), [b"abCde", &long[..], b"z"].concat());
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn what_is_prepended_goes_first() {
        let (mut pool, mut out) = (Pool::new(1 << 24), Outbox::EMPTY);
        pool.prepend(&mut out, b"").unwrap();
        pool.append(&mut out, [b"second", b""]).unwrap();
        pool.prepend(&mut out, &[b'f'; 700]).unwrap();
        pool.append(&mut out, [b"third", b""]).unwrap();
        assert_eq!(everything(&mut pool, &mut out, 500), [&[b'f'; 700][..], b"secondthird"].concat());
        pool.prepend(&mut out, b"alone").unwrap();
        pool.append(&mut out, [b" no more", b""]).unwrap();
        assert_eq!(everything(&mut pool, &mut out, 3), b"alone no more");
        assert_eq!((pool.in_use(), out), (0, Outbox::EMPTY));
    }

    #[test]
    fn a_draft_can_be_read_from_its_front() {
        let (mut pool, mut out) = (Pool::new(1 << 24), Outbox::EMPTY);
        let whole: Vec<u8> = (0..100_000u32).map(|it| it as u8).collect();
        whole.chunks(700).for_each(|piece| pool.draft(&mut out, piece).unwrap());
        let (mut read, mut front) = (Vec::new(), Vec::new());
        while out.draft() > 0 {
            front.clear();
            pool.read_draft_front(&out, 3000, &mut front);
            assert!(front.len() >= out.draft().min(3000));
            let used = front.len().min(777);
            read.extend_from_slice(&front[..used]);
            pool.skip_draft(&mut out, used);
            assert_eq!(out.held() as u64, pool.in_use());
        }
        assert_eq!((read, pool.in_use(), out), (whole, 0, Outbox::EMPTY));
    }

    #[test]
    fn what_is_shed_is_all_but_what_is_being_sent() {
        let (mut pool, mut out) = (Pool::new(1 << 24), Outbox::EMPTY);
        pool.append(&mut out, [b"in flight", b""]).unwrap();
        pool.gather(&mut out);
        pool.append(&mut out, [b" and more", &vec![b'x'; 100_000]]).unwrap();
        pool.draft(&mut out, &[1; 5000]).unwrap();
        assert_eq!(out.held() as u64, pool.in_use());
        pool.shed(&mut out);
        assert_eq!((out.pending(), pool.pending(), out.draft(), out.held()), (9, 9, 0, 512));
        pool.sent(&mut out, 9);
        assert_eq!((pool.in_use(), out), (0, Outbox::EMPTY));
        pool.append(&mut out, [b"nothing is in flight", b""]).unwrap();
        pool.shed(&mut out);
        assert_eq!((pool.in_use(), pool.pending(), out), (0, 0, Outbox::EMPTY));
    }

    #[test]
    fn what_the_kernel_has_written_stands_behind_what_was_queued() {
        for (room, len) in [(1, 1), (505, 505), (512, 100), (513, 513), (100_000, 99_999), (100_000, 1), (100_000, 0)] {
            let (mut pool, mut out) = (Pool::new(1 << 24), Outbox::EMPTY);
            pool.append(&mut out, [b"head", b""]).unwrap();
            let blank = pool.blank(7, room).unwrap();
            let (places, count) = pool.places(&blank, room);
            let written: Vec<u8> = (0..room).map(|at| (at % 251) as u8).collect();
            let mut left = &written[..];
            for place in &places[..count] {
                let (now, later) = left.split_at(place.len);
                // SAFETY: a place of the pool that nobody reads before it is queued.
                unsafe { place.start.cast_mut().copy_from_nonoverlapping(now.as_ptr(), now.len()) };
                left = later;
            }
            assert!(left.is_empty());
            let body = if len > 0 { &b"body: "[..] } else { b"" };
            pool.append_filled(&mut out, blank, body, len);
            assert_eq!((out.held() as u64, out.pending()), (pool.in_use(), 4 + body.len() + len));
            pool.append(&mut out, [b"tail", b""]).unwrap();
            assert_eq!(everything(&mut pool, &mut out, 999), [b"head", body, &written[..len], b"tail"].concat());
            assert_eq!((pool.in_use(), pool.pending(), out), (0, 0, Outbox::EMPTY));
        }
        let mut pool = Pool::new(16 << 10);
        assert_eq!(pool.blank(1, 16 << 10), Err(Exhausted));
        let mut blank = pool.blank(0, 16 << 10).unwrap();
        pool.clear(&mut blank);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn a_torn_draft_leaves_nothing() {
        let (mut pool, mut out) = (Pool::new(1 << 24), Outbox::EMPTY);
        pool.draft(&mut out, &[1; 5000]).unwrap();
        pool.discard_draft(&mut out);
        pool.commit_draft(&mut out, b"never");
        assert_eq!((pool.in_use(), out), (0, Outbox::EMPTY));
    }

    #[test]
    fn an_exhausted_pool_takes_nothing_but_the_urgent() {
        let (mut pool, mut out) = (Pool::new(16 << 10), Outbox::EMPTY);
        pool.append(&mut out, [&[0; 16 << 10], b""]).unwrap();
        assert_eq!(pool.append(&mut out, [b"x", b""]), Err(Exhausted));
        assert_eq!(pool.draft(&mut out, b"x"), Err(Exhausted));
        assert_eq!(out.pending(), 16 << 10);
        pool.append_urgent(&mut out, [b"bye", b""]).unwrap();
        pool.clear(&mut out);
        assert_eq!((pool.in_use(), pool.pending()), (0, 0));
    }
}

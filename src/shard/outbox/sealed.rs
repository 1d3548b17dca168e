//! A queue that goes out encrypted (TLS): plaintext at its front is exchanged for ciphertext, as much as one send
//! takes.
//!
//! Ciphertext lies in chunks of the same pool, in front of the plaintext that waits, and is charged to the same
//! connection. How many bytes of it there are the connection remembers (`Sending::Sealed`).

use super::{Exhausted, NONE, Outbox, Pool, RESERVE};
use crate::engine::{GATHER, Piece};
use edgehold_wire::tls::{MAX_CONTROL, Plain, Refused};

/// Bytes of plaintext that are sealed at a time: about as many as one send takes.
const SEALED: usize = 64 << 10;

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsealed {
    /// There is no memory for it.
    Exhausted,
    /// The record layer seals no more.
    Refused(Refused),
}

impl From<Exhausted> for Unsealed {
    fn from(_: Exhausted) -> Unsealed {
        Unsealed::Exhausted
    }
}

impl Pool {
    /// Exchanges the front of a queue that has no ciphertext for what `seal` makes of it; how many bytes that is. Only
    /// while the kernel holds no send of this outbox.
    ///
    /// # Errors
    /// [`Unsealed`]: the queue is as it was.
    pub fn seal_front(
        &mut self,
        out: &mut Outbox,
        seal: impl FnMut(&mut Plain<'_>, &mut [u8]) -> Result<usize, Refused>,
    ) -> Result<u32, Unsealed> {
        let (pieces, count) = self.front(out, SEALED);
        let mut parts: [&[u8]; GATHER] = [&[]; GATHER];
        for (part, piece) in parts.iter_mut().zip(&pieces[..count]) {
            // SAFETY: written bytes of chunks of this queue, which are neither written nor released before
            // `drop_front`, behind the last use of the parts.
            *part = unsafe { std::slice::from_raw_parts(piece.start, piece.len) };
        }
        let mut plain = Plain::new(&parts[..count]);
        let len = plain.len();
        let sealed = self.fill(&mut plain, seal)?;
        let taken = len - plain.len();
        self.drop_front(out, taken);
        self.put_front(out, sealed);
        Ok(sealed.pending)
    }

    /// Queues what `seal` makes of these bytes, behind what is queued, and behind that what the record layer has
    /// refused in between; how many bytes were sealed.
    ///
    /// # Errors
    /// [`Unsealed`]: nothing was queued.
    pub fn append_sealed(
        &mut self,
        out: &mut Outbox,
        pieces: &[Piece],
        seal: impl FnMut(&mut Plain<'_>, &mut [u8]) -> Result<usize, Refused>,
    ) -> Result<u32, Unsealed> {
        let mut parts: [&[u8]; GATHER] = [&[]; GATHER];
        for (part, piece) in parts.iter_mut().zip(pieces) {
            // SAFETY: a batch holds what its pieces lie in, and the caller holds the batch.
            *part = unsafe { std::slice::from_raw_parts(piece.start, piece.len) };
        }
        let mut plain = Plain::new(&parts[..pieces.len()]);
        let sealed = self.fill(&mut plain, seal)?;
        self.put_back(out, sealed);
        if !plain.is_empty() {
            let mut rest = vec![0; plain.len()];
            plain.take(&mut rest);
            self.append_urgent(out, [&rest, b""])?;
        }
        Ok(sealed.pending)
    }

    /// Chunks filled with all of the plaintext, sealed. Records that were sealed must go out, so the memory for all of
    /// them is made sure of first, and where the record layer refuses in between, some of the plaintext is left.
    fn fill(
        &mut self,
        plain: &mut Plain<'_>,
        mut seal: impl FnMut(&mut Plain<'_>, &mut [u8]) -> Result<usize, Refused>,
    ) -> Result<Outbox, Unsealed> {
        let (large, own) = (self.large.size(), 3 * MAX_CONTROL);
        self.reserve(NONE, plain.len() + own * (1 + plain.len() / (large - own)), RESERVE)?;
        let (mut sealed, before) = (Outbox::EMPTY, self.in_use);
        while !plain.is_empty() {
            let chunk = self.take(plain.len() + own);
            let size = self.class(chunk).size();
            // SAFETY: a chunk that was just taken is nobody else's, and its bytes are as the kernel or a former user
            // has left them: initialized.
            let room = unsafe { std::slice::from_raw_parts_mut(self.address(chunk, 0).as_ptr(), size) };
            match seal(plain, room) {
                Ok(len) => self.link(&mut sealed, chunk, len),
                Err(refused) => {
                    self.release(chunk);
                    if sealed.first == NONE {
                        return Err(Unsealed::Refused(refused));
                    }
                    break;
                }
            }
        }
        self.charge(&mut sealed, before);
        Ok(sealed)
    }

    fn link(&mut self, sealed: &mut Outbox, chunk: u32, len: usize) {
        let meta = self.meta(chunk);
        (meta.start, meta.end) = (0, len as u32);
        match sealed.last {
            NONE => sealed.first = chunk,
            last => self.meta(last).next = chunk,
        }
        sealed.last = chunk;
        sealed.pending += len as u32;
    }

    fn put_front(&mut self, out: &mut Outbox, sealed: Outbox) {
        if sealed.last == NONE {
            return;
        }
        self.meta(sealed.last).next = out.first;
        out.first = sealed.first;
        if out.last == NONE {
            out.last = sealed.last;
        }
        self.count(out, sealed);
    }

    fn put_back(&mut self, out: &mut Outbox, sealed: Outbox) {
        match out.last {
            NONE => out.first = sealed.first,
            last => self.meta(last).next = sealed.first,
        }
        out.last = sealed.last;
        self.count(out, sealed);
    }

    fn count(&mut self, out: &mut Outbox, sealed: Outbox) {
        (out.pending, out.held) = (out.pending + sealed.pending, out.held + sealed.held);
        self.pending += u64::from(sealed.pending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as the record layer's")]
    /// A cipher that adds a byte in front of up to 100 bytes, and turns these over.
    fn seal(plain: &mut Plain<'_>, room: &mut [u8]) -> Result<usize, Refused> {
        let mut used = 0;
        while !plain.is_empty() && used + 2 <= room.len() {
            let len = plain.len().min(100).min(room.len() - used - 1);
            room[used] = len as u8;
            plain.take(&mut room[used + 1..][..len]);
            room[used + 1..][..len].iter_mut().for_each(|byte| *byte = !*byte);
            used += 1 + len;
        }
        Ok(used)
    }

    fn open(mut bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        while let [len, rest @ ..] = bytes {
            let (record, behind) = rest.split_at(usize::from(*len));
            plain.extend(record.iter().map(|byte| !byte));
            bytes = behind;
        }
        plain
    }

    #[test]
    fn what_is_queued_goes_out_sealed_and_all_memory_comes_back() {
        for step in [1usize, 90, 511, 20_000, 100_000] {
            let (mut pool, mut out, mut model) = (Pool::new(1 << 24), Outbox::EMPTY, Vec::new());
            let (mut sealed, mut received) = (0, Vec::new());
            for n in 0..60usize {
                let bytes: Vec<u8> = (0..n * n * 31 % 40_000).map(|i| (i * n) as u8).collect();
                pool.append(&mut out, [&bytes, b""]).unwrap();
                model.extend(bytes);
                while sealed > 0 || out.pending() > 0 && n % 3 == 0 {
                    if sealed == 0 {
                        sealed = pool.seal_front(&mut out, seal).unwrap() as usize;
                    }
                    let (pieces, count) = pool.gather_front(&mut out, sealed);
                    let mut sent = Vec::new();
                    for piece in &pieces[..count] {
                        // SAFETY: a piece of the pool, which is not written here.
                        sent.extend_from_slice(unsafe { std::slice::from_raw_parts(piece.start, piece.len) });
                    }
                    sent.truncate(step);
                    pool.sent(&mut out, sent.len());
                    sealed -= sent.len();
                    received.extend(sent);
                }
            }
            assert_eq!(open(&received)[..], model[..open(&received).len()]);
            assert_eq!(open(&received).len() + out.pending(), model.len());
            pool.clear(&mut out);
            assert_eq!((pool.in_use(), pool.pending()), (0, 0));
        }
    }

    #[test]
    fn a_cipher_that_refuses_in_between_leaves_the_rest_queued() {
        let plain = vec![7; 20_000];
        for batch in [false, true] {
            let (mut pool, mut out, mut chunks) = (Pool::new(1 << 20), Outbox::EMPTY, 0);
            let once = |plain: &mut Plain<'_>, room: &mut [u8]| {
                chunks += 1;
                if chunks == 1 { seal(plain, room) } else { Err(Refused::Exhausted) }
            };
            let sealed = if batch {
                pool.append_sealed(&mut out, &[Piece { start: plain.as_ptr(), len: plain.len() }], once).unwrap()
            } else {
                pool.append(&mut out, [&plain, b""]).unwrap();
                pool.seal_front(&mut out, once).unwrap()
            };
            let (sealed, gone) = (sealed as usize, (sealed as usize * 100).div_ceil(101) / 100 * 100);
            assert!((16_000..=16_384).contains(&sealed) && out.pending() > sealed, "batch {batch}");
            assert!((out.pending() - sealed).abs_diff(plain.len() - gone) <= 100);
            pool.clear(&mut out);
            assert_eq!((pool.in_use(), pool.pending()), (0, 0));
        }
    }

    #[test]
    fn a_cipher_that_refuses_leaves_the_queue_as_it_was() {
        let (mut pool, mut out) = (Pool::new(1 << 20), Outbox::EMPTY);
        pool.append(&mut out, [b"plain", b""]).unwrap();
        let (before, held) = (out, pool.in_use());
        let refused = pool.seal_front(&mut out, |_, _| Err(Refused::Closed));
        assert_eq!(refused, Err(Unsealed::Refused(Refused::Closed)));
        assert_eq!((out, pool.in_use()), (before, held));
    }
}

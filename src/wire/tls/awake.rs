//! Connections with expanded keys: one half for a moment, where the state lies, or both for as long as it is busy.
//!
//! | type | state | for |
//! |---|---|---|
//! | [`WriteHalf`] | borrowed | a push: one key is expanded, then dropped |
//! | [`ReadHalf`] | borrowed | a receive that is not answered |
//! | [`Awake`] | owned | a busy connection: each key is expanded at its first use and stays, for halves that are lent |
//!
//! What a receive owes the peer (the answer to a KeyUpdate, the refusal of a renegotiation) is noted in the state. The
//! write half sends it: at the latest in front of the next data, as RFC 8446 section 4.6.3 demands, or at once by
//! `answer`.

use super::keys::Key;
use super::open::{Opened, Opener};
use super::parked::{Lent, Line, Parked};
use super::seal::{Plain, Refused, Sealer};
use super::{Alert, Fault, Suite};

/// The key of a half.
#[expect(clippy::large_enum_variant, reason = "a half lives for a few calls, on the stack")]
enum HalfKey<'a> {
    /// Expanded for this half, dropped with it.
    Own(Key),
    /// Of a connection that is awake.
    Lent(&'a mut Key),
}

impl HalfKey<'_> {
    fn get(&mut self) -> &mut Key {
        match self {
            HalfKey::Own(key) => key,
            HalfKey::Lent(key) => key,
        }
    }
}

/// The direction that this end writes, its key expanded. The state is changed where it lies, so there is nothing to
/// write back: this can be dropped, or leaked, at any time.
pub struct WriteHalf<'a> {
    line: &'a mut Line,
    secret: &'a mut [u8],
    key: HalfKey<'a>,
}

impl<'a> WriteHalf<'a> {
    pub(super) fn new(line: &'a mut Line, secret: &'a mut [u8]) -> WriteHalf<'a> {
        let key = HalfKey::Own(Key::new(line.suite, secret));
        WriteHalf { line, secret, key }
    }

    fn sealer(&mut self) -> Sealer<'_> {
        Sealer { line: self.line, secret: self.secret, key: self.key.get() }
    }

    /// Seals `plain` as application data into the front of `out`, in records of at most 2^14 bytes, for as long as
    /// there is room, and returns how many bytes were written; `plain` is then that much shorter. A record can be cut
    /// to the room there is, so that a chunk of a queue is filled to its end. What is owed to the peer and a KeyUpdate
    /// that is due go in front. Whatever is written must be sent, all of it and in this order: a record that is dropped
    /// makes all that follow it undecipherable.
    ///
    /// 0 where `plain` is empty or `out` has no room for the next record; [`MAX_CONTROL`](super::MAX_CONTROL) bytes are
    /// room for one, with at least one byte of `plain` or with what goes in front.
    ///
    /// # Errors
    /// [`Refused`], where nothing was written.
    pub fn seal(&mut self, plain: &mut Plain<'_>, out: &mut [u8]) -> Result<usize, Refused> {
        self.sealer().seal(plain, out)
    }

    /// Seals what is owed to the peer, if anything, and returns how many bytes were written: up to two records of
    /// [`MAX_CONTROL`](super::MAX_CONTROL). What has no room stays owed.
    pub fn answer(&mut self, out: &mut [u8]) -> usize {
        self.sealer().answer(out)
    }

    /// Seals close_notify: this end sends no more (RFC 8446 section 6.1). Returns how many bytes were written: 0 where
    /// it, or a fatal alert, was sealed before, or where `out` is below [`MAX_CONTROL`](super::MAX_CONTROL).
    pub fn close_notify(&mut self, out: &mut [u8]) -> usize {
        self.sealer().close(Alert::CLOSE_NOTIFY, out)
    }

    /// Seals an alert of level fatal, such as [`Fault::alert`]; otherwise like [`close_notify`](Self::close_notify).
    pub fn fail(&mut self, alert: Alert, out: &mut [u8]) -> usize {
        self.sealer().close(alert, out)
    }

    /// Seals a KeyUpdate and writes with the next key from then on (RFC 8446 section 4.6.3); [`seal`](Self::seal) does
    /// so by itself before a key has served too long. Returns how many bytes were written: 0 in TLS 1.2, after
    /// close_notify or a fatal alert, or where `out` is below [`MAX_CONTROL`](super::MAX_CONTROL).
    pub fn update_key(&mut self, out: &mut [u8]) -> usize {
        self.sealer().update_key(out)
    }

    /// Bytes that [`seal`](Self::seal) writes for `plain` bytes, when it has room for all of them in one call.
    pub fn sealed_len(&self, plain: usize) -> usize {
        Sealer::sealed_len(self.line, plain)
    }
}

/// The direction that this end reads, its key expanded. The state is changed where it lies.
pub struct ReadHalf<'a> {
    line: &'a mut Line,
    secret: &'a mut [u8],
    key: HalfKey<'a>,
}

impl<'a> ReadHalf<'a> {
    pub(super) fn new(line: &'a mut Line, secret: &'a mut [u8]) -> ReadHalf<'a> {
        let key = HalfKey::Own(Key::new(line.suite, secret));
        ReadHalf { line, secret, key }
    }

    /// Opens a whole record, header included, in place; [`record_len`](super::record_len) says where it ends. Behind
    /// close_notify or a fault, records are ignored.
    ///
    /// # Errors
    /// What the peer did wrong. The connection is to be failed: [`Fault::alert`] goes to [`WriteHalf::fail`].
    pub fn open<'r>(&mut self, record: &'r mut [u8]) -> Result<Opened<'r>, Fault> {
        Opener { line: self.line, secret: self.secret, key: self.key.get() }.open(record)
    }

    /// The peer is owed an answer: [`WriteHalf::answer`].
    pub fn owes(&self) -> bool {
        super::parked::owes(self.line)
    }
}

/// A busy connection: its state, owned, and its keys, expanded at their first use. About 1.2 kB.
pub struct Awake {
    parked: Parked,
    write: Option<Key>,
    read: Option<Key>,
}

impl Awake {
    pub(super) fn new(parked: Parked) -> Awake {
        Awake { parked, write: None, read: None }
    }

    /// Drops the keys. A connection can be parked after any record.
    pub fn park(self) -> Parked {
        self.parked
    }

    /// The half that writes; its key stays expanded.
    pub fn write(&mut self) -> WriteHalf<'_> {
        let Lent { line, write: secret, .. } = self.parked.lend();
        let key = self.write.get_or_insert_with(|| Key::new(line.suite, secret));
        WriteHalf { line, secret, key: HalfKey::Lent(key) }
    }

    /// The half that reads; its key stays expanded.
    pub fn read(&mut self) -> ReadHalf<'_> {
        let Lent { line, read: secret, .. } = self.parked.lend();
        let key = self.read.get_or_insert_with(|| Key::new(line.suite, secret));
        ReadHalf { line, secret, key: HalfKey::Lent(key) }
    }

    /// What can be asked of the state without a key.
    pub fn lend(&mut self) -> Lent<'_> {
        self.parked.lend()
    }

    /// The version and algorithm.
    pub fn suite(&self) -> Suite {
        self.parked.suite()
    }
}

//! What is kept of a connection while it is idle: 88 bytes, or 120 with a suite of longer secrets.
//!
//! This state is the only place where a sequence number and the secrets that keys are derived from live. It cannot be
//! copied ([`Idle`] is neither `Clone` nor `Copy`), it is lent to one user at a time, and whoever uses it changes it
//! where it lies: a sequence number is taken, and the state counts one more, before the record is sealed. So no two
//! records can be sealed under one nonce, whatever becomes of the one who has borrowed it.
//!
//! A connection can be parked at the end of any record: of a handshake message that is cut the state keeps what is
//! needed to go on.

use super::awake::{Awake, ReadHalf, WriteHalf};
use super::fault::Fault;
use super::keys::{Suite, Version};
use super::messages::{Expected, Partial};
use super::record;
use zeroize::Zeroize;

/// Bytes of a secret or key of one direction that fit in [`Parked::Small`].
pub const SMALL: usize = 32;
/// Likewise, [`Parked::Large`].
pub const LARGE: usize = 48;

/// What records without data may weigh, in sum, since the last one with data. A KeyUpdate, a ticket and a record
/// without content weigh 1, a warning [`WARNING_WEIGHT`], an attempt to renegotiate [`RENEGOTIATION_WEIGHT`]. rustls
/// has a count of each: 32 KeyUpdates, 32 empty records, 4 warnings, 1 renegotiation.
pub const MAX_FRUITLESS: u8 = 32;
/// What a warning weighs: four are taken, the fifth is a fault.
pub const WARNING_WEIGHT: u8 = 8;
/// What an attempt to renegotiate weighs: one is answered, the second is a fault.
pub const RENEGOTIATION_WEIGHT: u8 = 17;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// The peer is a client.
    Server,
    /// The peer is a server.
    Client,
}

/// What is true of a connection, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u8);

impl Flags {
    /// This end is the client.
    const CLIENT: Flags = Flags(1);
    /// The peer has asked for a KeyUpdate and has not got it.
    pub(super) const UPDATE_OWED: Flags = Flags(1 << 1);
    /// The peer wants to renegotiate and has not been told no.
    pub(super) const NO_RENEGOTIATION_OWED: Flags = Flags(1 << 2);
    /// The peer has sent close_notify, or something that fails the connection: what follows is ignored.
    pub(super) const READ_CLOSED: Flags = Flags(1 << 3);
    /// close_notify or a fatal alert has been sealed: nothing may follow.
    pub(super) const WRITE_CLOSED: Flags = Flags(1 << 4);

    pub(super) const fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    pub(super) const fn set(&mut self, flag: Flags) {
        self.0 |= flag.0;
    }

    pub(super) const fn clear(&mut self, flag: Flags) {
        self.0 &= !flag.0;
    }
}

/// The part of the state that has the same size for every suite: 24 bytes.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) suite: Suite,
    pub(super) flags: Flags,
    /// What records without data weigh since the last one with data; at most [`MAX_FRUITLESS`].
    fruitless: u8,
    pub(super) partial: Partial,
    write_sequence: u64,
    read_sequence: u64,
}

impl Line {
    pub(super) fn role(&self) -> Role {
        if self.flags.has(Flags::CLIENT) { Role::Client } else { Role::Server }
    }

    pub(super) fn expected(&self) -> Expected {
        Expected { role: self.role(), version: self.suite.version }
    }

    /// The number of the record that is sealed next.
    pub(super) fn write_sequence(&self) -> u64 {
        self.write_sequence
    }

    /// Gives the number of a record to be sealed, once. Limits stop long before the number wraps.
    pub(super) fn take_write_sequence(&mut self) -> u64 {
        let sequence = self.write_sequence;
        self.write_sequence += 1;
        sequence
    }

    /// The number of the record that is opened next.
    pub(super) fn read_sequence(&self) -> u64 {
        self.read_sequence
    }

    /// A record has been opened.
    pub(super) fn count_read(&mut self) -> Result<(), Fault> {
        self.read_sequence = self.read_sequence.checked_add(1).ok_or(Fault::Sequence)?;
        Ok(())
    }

    /// The key that is written with has changed (RFC 8446 section 5.3).
    pub(super) fn restart_write(&mut self) {
        self.write_sequence = 0;
    }

    /// The key that is read with has changed.
    pub(super) fn restart_read(&mut self) {
        self.read_sequence = 0;
    }

    /// Data has come.
    pub(super) fn forgive(&mut self) {
        self.fruitless = 0;
    }

    /// A record without data has come.
    pub(super) fn weigh(&mut self, weight: u8, fault: Fault) -> Result<(), Fault> {
        self.fruitless = self.fruitless.saturating_add(weight);
        if self.fruitless > MAX_FRUITLESS { Err(fault) } else { Ok(()) }
    }
}

/// An idle connection whose directions have up to `S` bytes of secret each: [`SMALL`] or [`LARGE`]. Overwritten when it
/// is dropped. A move leaves the bytes where they were, as every move does; state that stays in its place in a slab and
/// is [lent](Idle::lend) there leaves none.
pub struct Idle<const S: usize> {
    line: Line,
    write: [u8; S],
    read: [u8; S],
}

/// The state of an idle connection, in two sizes, so that each can have a slab of its own.
///
/// Two live copies of one state do not compile:
///
/// ```compile_fail,E0599
/// fn copy(parked: edgehold_wire::tls::Parked) -> [edgehold_wire::tls::Parked; 2] {
///     [parked.clone(), parked]
/// }
/// ```
///
/// ```compile_fail,E0382
/// fn wake_twice(parked: edgehold_wire::tls::Parked) -> [edgehold_wire::tls::Awake; 2] {
///     [parked.wake(), parked.wake()]
/// }
/// ```
///
/// ```compile_fail,E0499
/// fn write_twice(parked: &mut edgehold_wire::tls::Parked, out: &mut [u8]) {
///     let (mut one, mut other) = (parked.wake_write(), parked.wake_write());
///     one.close_notify(out);
///     other.close_notify(out);
/// }
/// ```
///
/// One after the other does:
///
/// ```
/// fn write_twice(parked: &mut edgehold_wire::tls::Parked, out: &mut [u8]) {
///     parked.wake_write().update_key(out);
///     parked.wake_write().close_notify(out);
/// }
/// ```
#[allow(clippy::large_enum_variant, reason = "the sizes are the point; this is what carries them to their slab")]
pub enum Parked {
    /// TLS 1.3 with SHA-256, and TLS 1.2 with AES-128-GCM: 88 bytes.
    Small(Idle<SMALL>),
    /// TLS 1.3 with SHA-384, and TLS 1.2 with keys of 256 bits: 120 bytes.
    Large(Idle<LARGE>),
}

const _: () = assert!(size_of::<Idle<SMALL>>() == 88 && size_of::<Idle<LARGE>>() == 120);

/// One direction as the handshake leaves it.
#[derive(Clone, Copy)]
pub struct Direction<'m> {
    /// The number of the next record.
    pub sequence: u64,
    /// TLS 1.3: the traffic secret. TLS 1.2: the key, then the IV of 12 bytes.
    pub material: &'m [u8],
}

impl<const S: usize> Idle<S> {
    /// `None` where `write` or `read` is not as long as the suite says, or longer than `S`.
    fn new(suite: Suite, role: Role, write: Direction<'_>, read: Direction<'_>) -> Option<Idle<S>> {
        let mut flags = Flags::default();
        if role == Role::Client {
            flags.set(Flags::CLIENT);
        }
        let (write_sequence, read_sequence) = (write.sequence, read.sequence);
        let line = Line { suite, flags, fruitless: 0, partial: Partial::default(), write_sequence, read_sequence };
        let mut idle = Idle { line, write: [0; S], read: [0; S] };
        for (to, from) in [(&mut idle.write, write.material), (&mut idle.read, read.material)] {
            let fits = from.len() == suite.material_len();
            to.get_mut(..from.len()).filter(|_| fits)?.copy_from_slice(from);
        }
        Some(idle)
    }

    /// The state, whatever its size, for one user at a time.
    pub fn lend(&mut self) -> Lent<'_> {
        let len = self.line.suite.material_len().min(S);
        Lent { line: &mut self.line, write: self.write.split_at_mut(len).0, read: self.read.split_at_mut(len).0 }
    }

    /// The version and algorithm.
    pub fn suite(&self) -> Suite {
        self.line.suite
    }
}

impl<const S: usize> Drop for Idle<S> {
    fn drop(&mut self) {
        self.write.zeroize();
        self.read.zeroize();
    }
}

impl Parked {
    /// The state of a connection whose handshake is over. The handshake drivers make it; a caller that makes it of
    /// secrets which are in use elsewhere too breaks what this module stands for.
    ///
    /// `None` where a direction's material is not `suite.material_len()` bytes.
    pub fn new(suite: Suite, role: Role, write: Direction<'_>, read: Direction<'_>) -> Option<Parked> {
        if suite.material_len() <= SMALL {
            Idle::new(suite, role, write, read).map(Parked::Small)
        } else {
            Idle::new(suite, role, write, read).map(Parked::Large)
        }
    }

    /// See [`Idle::lend`].
    pub fn lend(&mut self) -> Lent<'_> {
        match self {
            Parked::Small(idle) => idle.lend(),
            Parked::Large(idle) => idle.lend(),
        }
    }

    /// The version and algorithm.
    pub fn suite(&self) -> Suite {
        match self {
            Parked::Small(idle) => idle.suite(),
            Parked::Large(idle) => idle.suite(),
        }
    }

    /// For a connection that is busy: the state together with keys that stay expanded, each from its first use on.
    pub fn wake(self) -> Awake {
        Awake::new(self)
    }

    /// For a push: see [`Lent::wake_write`].
    pub fn wake_write(&mut self) -> WriteHalf<'_> {
        self.lend().wake_write()
    }

    /// For a receive: see [`Lent::wake_read`].
    pub fn wake_read(&mut self) -> ReadHalf<'_> {
        self.lend().wake_read()
    }
}

/// A connection's state, lent from where it lies. It is there for one user at a time: nobody else can reach it before
/// this borrow ends.
pub struct Lent<'a> {
    pub(super) line: &'a mut Line,
    pub(super) write: &'a mut [u8],
    pub(super) read: &'a mut [u8],
}

impl<'a> Lent<'a> {
    /// Expands the key that this end writes with.
    pub fn wake_write(self) -> WriteHalf<'a> {
        WriteHalf::new(self.line, self.write)
    }

    /// Expands the key that this end reads with.
    pub fn wake_read(self) -> ReadHalf<'a> {
        ReadHalf::new(self.line, self.read)
    }

    /// The version and algorithm.
    pub fn suite(&self) -> Suite {
        self.line.suite
    }

    /// How many bytes the record at the front of `bytes` has; see [`record_len`](record::record_len).
    ///
    /// # Errors
    /// A header that no record has; the connection is to be failed with it, and nothing is read any more.
    pub fn record_len(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let len = record::record_len(bytes, self.line.suite.version);
        if len.is_err() {
            self.line.flags.set(Flags::READ_CLOSED);
        }
        len
    }

    /// The write half owes the peer a message: [`WriteHalf::answer`].
    pub fn owes(&self) -> bool {
        owes(self.line)
    }

    /// The peer has sent close_notify, or a record that failed the connection.
    pub fn is_read_closed(&self) -> bool {
        self.line.flags.has(Flags::READ_CLOSED)
    }

    /// close_notify or a fatal alert has been sealed; nothing more can be.
    pub fn is_write_closed(&self) -> bool {
        self.line.flags.has(Flags::WRITE_CLOSED)
    }

    /// Whether this is TLS 1.3, for a log.
    pub fn is_tls13(&self) -> bool {
        self.line.suite.version == Version::Tls13
    }
}

pub(super) fn owes(line: &Line) -> bool {
    let flags = line.flags;
    let owed = flags.has(Flags::UPDATE_OWED) || flags.has(Flags::NO_RENEGOTIATION_OWED);
    owed && !flags.has(Flags::WRITE_CLOSED)
}

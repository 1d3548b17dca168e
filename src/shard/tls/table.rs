//! What the shard keeps of each connection with TLS: a handshake, a parked record layer of 88 or 120 bytes, or one that
//! is awake.
//!
//! Record layers of idle connections stay in their place in a slab of their size and are lent from there; each place is
//! found by the connection's slot. Address space for all slots is reserved at the start, so that no secret is left
//! behind by a slab that grows. One that is awake has memory of its own, which goes back when it is parked.

use super::signer::{Fed, Signer, Taken};
use super::under_way::{Stage, UnderWay};
use crate::mesh::{Counters, HandshakeStage, ListenerTls, UpstreamTls};
use crate::shard::slab::Handle;
use edgehold_wire::tls::{
    Awake, ClientHandshake, Established, Failure, Fault, Handshake, Idle, LARGE, Lent, Opened, Parked, ReadHalf,
    Reason, SMALL, Version, WriteHalf,
};
use slab::Slab;

/// Bits of a [`Place`] that say which table it is in.
const KIND: u32 = 29;

/// Where a connection's TLS is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It has none, or has it no more.
    None,
    /// Its handshake, at the listener of this number, has not begun: nothing has come.
    Expected(u32),
    Handshake(u32),
    /// The connect to the upstream of this number has not completed.
    Called(u32),
    Calling(u32),
    Small(u32),
    Large(u32),
    Awake(u32),
}

impl Place {
    fn pack(self) -> u32 {
        let (kind, number) = match self {
            Place::None => (0, 0),
            Place::Handshake(number) => (1, number),
            Place::Small(number) => (2, number),
            Place::Large(number) => (3, number),
            Place::Awake(number) => (4, number),
            Place::Expected(listener) => (5, listener),
            Place::Called(upstream) => (6, upstream),
            Place::Calling(number) => (7, number),
        };
        kind << KIND | number
    }

    fn of(packed: u32) -> Place {
        let number = packed & ((1 << KIND) - 1);
        match packed >> KIND {
            1 => Place::Handshake(number),
            2 => Place::Small(number),
            3 => Place::Large(number),
            4 => Place::Awake(number),
            5 => Place::Expected(number),
            6 => Place::Called(number),
            7 => Place::Calling(number),
            _ => Place::None,
        }
    }
}

/// TLS of all connections of a shard.
#[derive(Default)]
pub struct TlsTable {
    /// By listener; `None`: it speaks clear text.
    listeners: Vec<Option<ListenerTls>>,
    /// By number, as they were called last; `None`: without TLS so far.
    upstreams: Vec<Option<UpstreamTls>>,
    slots: usize,
    /// By slot: 4 bytes each, touched only for connections with TLS; empty where there was none so far.
    places: Vec<u32>,
    under_way: UnderWay,
    /// `None`: slow signatures are made by the shard itself.
    signer: Option<Signer>,
    calls: Slab<Box<ClientHandshake>>,
    small: Slab<Idle<SMALL>>,
    large: Slab<Idle<LARGE>>,
    awake: Slab<Box<Awake>>,
}

impl TlsTable {
    /// For so many slots; `listeners` by their numbers. Handshakes with clients may hold so many bytes.
    pub fn new(listeners: &[Option<ListenerTls>], slots: u32, handshake_bytes: u64) -> TlsTable {
        let mut table = TlsTable { listeners: listeners.to_vec(), slots: slots as usize, ..TlsTable::default() };
        if listeners.iter().any(Option::is_some) {
            table.under_way = UnderWay::new(handshake_bytes);
            table.reserve();
        }
        table
    }

    /// Memory for all slots, which is touched only where it is used.
    pub(super) fn reserve(&mut self) {
        if self.places.is_empty() {
            self.places = vec![0; self.slots];
            (self.small, self.large) = (Slab::with_capacity(self.slots), Slab::with_capacity(self.slots));
        }
    }

    /// Sets the gauges: handshakes under way and what they hold, and record layers whose keys are expanded.
    pub fn gauge(&self, counters: &mut Counters) {
        counters.tls_awake = self.awake.len() as u64;
        (counters.tls_handshake_bytes, counters.tls_handshake_limit) = self.under_way.bytes();
        counters.tls_handshaking = [0; HandshakeStage::COUNT];
        for stage in [Stage::Hello, Stage::Queued, Stage::Begun, Stage::Due, Stage::Away] {
            counters.tls_handshaking[label(stage) as usize] += self.under_way.count(stage);
        }
    }

    /// Whether a listener's clients speak TLS.
    pub fn has_listener(&self, listener: usize) -> bool {
        self.listeners.get(listener).is_some_and(Option::is_some)
    }

    /// A client of this listener has come. Who sends nothing costs no memory.
    pub fn expect(&mut self, slot: u32, listener: u16) {
        self.put(slot, Place::Expected(u32::from(listener)));
    }

    /// An upstream is called. The handshake begins with the first [`feed`](Self::feed), without bytes, which makes the
    /// hello.
    pub fn call(&mut self, slot: u32, upstream: u16, tls: UpstreamTls) {
        self.reserve();
        let number = usize::from(upstream);
        self.upstreams.resize(self.upstreams.len().max(number + 1), None);
        self.upstreams[number] = Some(tls);
        self.put(slot, Place::Called(u32::from(upstream)));
    }

    /// TLS towards an upstream that was called.
    pub fn upstream(&self, number: usize) -> Option<&UpstreamTls> {
        self.upstreams.get(number)?.as_ref()
    }

    fn begin_call(&mut self, slot: u32, upstream: u32) -> Result<(), Failure> {
        let Some(tls) = self.upstream(upstream as usize) else { return Ok(()) };
        let number = self.calls.insert(Box::new(tls.begin()?));
        self.put(slot, Place::Calling(number as u32));
        Ok(())
    }

    /// The version that is spoken, as OpenSSL calls it; `None`: none, or the handshake is not over.
    pub fn version(&self, slot: u32) -> Option<&'static str> {
        let suite = match self.place(slot) {
            Place::Small(number) => self.small.get(number as usize)?.suite(),
            Place::Large(number) => self.large.get(number as usize)?.suite(),
            Place::Awake(number) => self.awake.get(number as usize)?.suite(),
            _ => return None,
        };
        Some(if suite.version == Version::Tls13 { "TLSv1.3" } else { "TLSv1.2" })
    }

    /// Whether the connection's handshake is under way.
    pub fn is_handshaking(&self, slot: u32) -> bool {
        use Place::{Called, Calling, Expected, Handshake};
        matches!(self.place(slot), Handshake(_) | Expected(_) | Called(_) | Calling(_))
    }

    /// Keeps what has come for the handshake. Whether it waits for its turn now.
    pub fn keep(&mut self, slot: u32, bytes: &[u8]) -> bool {
        if let Place::Expected(listener) = self.place(slot) {
            let is_slow = self.listeners.get(listener as usize).is_some_and(|it| signs_slowly(it.as_ref()));
            let number = self.under_way.add(slot, listener, is_slow);
            self.put(slot, Place::Handshake(number));
        }
        let Place::Handshake(number) = self.place(slot) else { return false };
        self.under_way.keep(number, bytes);
        self.under_way.is_due(number)
    }

    /// The slot of the handshake whose turn is next.
    pub fn next_handshake(&self) -> Option<u32> {
        self.under_way.next_due(self.signer().is_none_or(Signer::has_room))
    }

    /// Steps that may take long are made by this thread from now on.
    pub fn set_signer(&mut self, signer: Signer) {
        self.signer = Some(signer);
    }

    /// A step has come back from the signer.
    pub fn has_taken(&self) -> bool {
        self.signer.as_ref().is_some_and(Signer::has_taken)
    }

    /// The next step that has come back.
    pub fn take_back(&mut self) -> Option<Taken> {
        self.signer.as_mut()?.take()
    }

    /// Hands the handshake whose turn has come to the signer; `None`: it is to be fed here.
    ///
    /// # Errors
    /// It could not be begun.
    pub fn hand_over(&mut self, who: Handle) -> Option<Result<(), Failure>> {
        let Place::Handshake(number) = self.place(who.slot) else { return None };
        if !self.under_way.is_slow(number) || self.signer().is_none() {
            return None;
        }
        let listeners = &self.listeners;
        let taken = self.under_way.take_away(number, |listener| begin(listeners, listener));
        Some(match (taken, &mut self.signer) {
            (Ok((handshake, kept)), Some(signer)) => {
                signer.hand_over(who, number, handshake, kept);
                Ok(())
            }
            (Err(failure), _) => {
                self.drop_session(who.slot);
                Err(failure)
            }
            (Ok(_), None) => Ok(()),
        })
    }

    /// A handshake has come back with this outcome, with which its place may be empty. `false`: nobody waits for it.
    pub fn give_back(&mut self, slot: u32, number: u32, handshake: Box<Handshake>, fed: &Fed) -> bool {
        let waited_for =
            self.place(slot) == Place::Handshake(number) && self.under_way.give_back(slot, number, handshake);
        if waited_for && !matches!(fed, Ok(None)) {
            self.drop_session(slot);
        }
        waited_for
    }

    /// It makes steps.
    fn signer(&self) -> Option<&Signer> {
        self.signer.as_ref().filter(|it| !it.has_failed())
    }

    /// The slot of a handshake that gives way, and its stage; `None`: there is room for all.
    pub fn excess(&self) -> Option<(u32, HandshakeStage)> {
        let (slot, stage) = self.under_way.excess()?;
        Some((slot, label(stage)))
    }

    /// Feeds the handshake what was kept; see [`Handshake::feed`]. It begins with what the listener's certificates are
    /// now. When it is over or has failed, its place is empty.
    ///
    /// # Errors
    /// It has failed.
    pub fn feed(&mut self, slot: u32, out: &mut Vec<u8>) -> Result<Option<Established>, Failure> {
        let Place::Handshake(number) = self.place(slot) else { return Ok(None) };
        let listeners = &self.listeners;
        let fed = self.under_way.feed(number, |listener| begin(listeners, listener), out);
        if !matches!(fed, Ok(None)) {
            self.drop_session(slot);
        }
        fed
    }

    /// Feeds the handshake with an upstream; see [`ClientHandshake::feed`] and, for its end, [`feed`](Self::feed).
    ///
    /// # Errors
    /// It has failed.
    pub fn feed_call(&mut self, slot: u32, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<Established>, Failure> {
        if let Place::Called(upstream) = self.place(slot) {
            self.begin_call(slot, upstream)?;
        }
        let Place::Calling(number) = self.place(slot) else { return Ok(None) };
        let fed = self.calls[number as usize].feed(bytes, out);
        if !matches!(fed, Ok(None)) {
            self.drop_session(slot);
        }
        fed
    }

    /// What the handshake has answered took a signature that takes long: see [`Handshake::has_signed_slowly`].
    pub fn has_signed_slowly(&self, slot: u32) -> bool {
        matches!(self.place(slot), Place::Handshake(number) if self.under_way.has_signed_slowly(number))
    }

    /// The record layer of a handshake that is over.
    pub fn establish(&mut self, slot: u32, parked: Parked) {
        let place = match parked {
            Parked::Small(idle) => Place::Small(self.small.insert(idle) as u32),
            Parked::Large(idle) => Place::Large(self.large.insert(idle) as u32),
        };
        self.put(slot, place);
    }

    /// Expanded keys stay from now on: the connection is busy.
    pub fn wake(&mut self, slot: u32) {
        let parked = match self.place(slot) {
            Place::Small(number) => Parked::Small(self.small.remove(number as usize)),
            Place::Large(number) => Parked::Large(self.large.remove(number as usize)),
            _ => return,
        };
        let number = self.awake.insert(Box::new(parked.wake()));
        self.put(slot, Place::Awake(number as u32));
    }

    /// Keys are dropped: the connection is quiet.
    pub fn park(&mut self, slot: u32) {
        if let Place::Awake(number) = self.place(slot) {
            let parked = self.awake.remove(number as usize).park();
            self.establish(slot, parked);
        }
    }

    /// Nothing is kept of the connection.
    pub fn drop_session(&mut self, slot: u32) {
        match self.place(slot) {
            Place::None => return,
            Place::Expected(_) | Place::Called(_) => {}
            Place::Calling(number) => drop(self.calls.remove(number as usize)),
            Place::Handshake(number) => self.under_way.remove(number),
            Place::Small(number) => drop(self.small.remove(number as usize)),
            Place::Large(number) => drop(self.large.remove(number as usize)),
            Place::Awake(number) => drop(self.awake.remove(number as usize)),
        }
        self.put(slot, Place::None);
    }

    /// How many bytes the record at the front has: see [`Lent::record_len`]. Without a record layer there is none.
    ///
    /// # Errors
    /// As there.
    pub fn record_len(&mut self, slot: u32, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        self.lend(slot).map_or(Ok(None), |mut lent| lent.record_len(bytes))
    }

    /// Opens a record: see [`ReadHalf::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open<'r>(&mut self, slot: u32, record: &'r mut [u8]) -> Result<Opened<'r>, Fault> {
        match self.place(slot) {
            Place::Awake(number) => self.awake[number as usize].read().open(record),
            _ => self
                .lend(slot)
                .map(Lent::wake_read)
                .map_or(Ok(Opened::Nothing), |mut half: ReadHalf<'_>| half.open(record)),
        }
    }

    /// The peer is owed an answer.
    pub fn owes(&mut self, slot: u32) -> bool {
        self.lend(slot).is_some_and(|lent| lent.owes())
    }

    /// Nothing that comes is read any more, or ever was.
    pub fn is_read_closed(&mut self, slot: u32) -> bool {
        self.lend(slot).is_none_or(|lent| lent.is_read_closed())
    }

    /// No record can be sealed any more, or none ever could.
    pub fn is_write_closed(&mut self, slot: u32) -> bool {
        self.lend(slot).is_none_or(|lent| lent.is_write_closed())
    }

    /// The half that writes; `None` where there is no record layer.
    pub fn writer(&mut self, slot: u32) -> Option<WriteHalf<'_>> {
        match self.place(slot) {
            Place::Awake(number) => Some(self.awake[number as usize].write()),
            _ => self.lend(slot).map(Lent::wake_write),
        }
    }

    fn lend(&mut self, slot: u32) -> Option<Lent<'_>> {
        match self.place(slot) {
            Place::None | Place::Expected(_) | Place::Handshake(_) | Place::Called(_) | Place::Calling(_) => None,
            Place::Small(number) => Some(self.small[number as usize].lend()),
            Place::Large(number) => Some(self.large[number as usize].lend()),
            Place::Awake(number) => Some(self.awake[number as usize].lend()),
        }
    }

    fn place(&self, slot: u32) -> Place {
        self.places.get(slot as usize).map_or(Place::None, |&packed| Place::of(packed))
    }

    fn put(&mut self, slot: u32, place: Place) {
        self.places[slot as usize] = place.pack();
    }
}

/// A handshake with what the listener's certificates are now.
fn begin(listeners: &[Option<ListenerTls>], listener: u32) -> Result<Handshake, Failure> {
    let internal = |detail| Failure { reason: Reason::Internal, alert: None, detail };
    let listener = listeners.get(listener as usize).and_then(Option::as_ref).ok_or_else(|| internal(None))?;
    Handshake::new(&listener.current()).map_err(|error| internal(Some(error)))
}

fn signs_slowly(listener: Option<&ListenerTls>) -> bool {
    listener.is_some_and(ListenerTls::signs_slowly)
}

/// How a stage is counted.
fn label(stage: Stage) -> HandshakeStage {
    match stage {
        Stage::Hello => HandshakeStage::Hello,
        Stage::Queued => HandshakeStage::Queued,
        Stage::Away => HandshakeStage::Signing,
        Stage::Begun | Stage::Due => HandshakeStage::Begun,
    }
}

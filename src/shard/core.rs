//! The core of a shard: its slots, its pool, its time and its counters, and what is done with them whoever asks.
//!
//! Nothing here calls the kernel or a service. What a service may ask for stands above, at its desk (`desk`).

use super::addresses::AddressTable;
use super::admission::AdmissionTable;
use super::batches::{Batch, Batches};
use super::clock::{Clock, ticks};
use super::compression::Compression;
use super::conn::{Conn, Flags, Hold, State, StateEvent};
use super::desk::{Backpressure, Desk};
use super::due;
use super::files::FileTable;
use super::identities::Identities;
use super::limits::{LimitsTable, RouteLimits, ShardSettings};
use super::outbox::{Exhausted, Pool};
use super::side_table::SideTable;
use super::slab::{Handle, Slab};
use super::tls::TlsTable;
use super::work::Work;
use crate::mesh::{Cause, Counters, Credentials, Identity, PeerSenders, Sender, ToControl};
use edgehold_wire::ws::{self, CloseCode, Opcode};
use std::collections::VecDeque;
use std::sync::Arc;

/// The chains of the pool in which bytes of a connection may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Chain {
    /// Behind what is queued.
    Queue,
    /// Behind what is queued, out of the reserve if need be.
    Urgent,
    /// In front of what is queued.
    Front,
    /// The message that is being written.
    Draft,
    /// The pieces of a deflated message that is not whole.
    Gathered,
    /// What was received and cannot be read yet.
    Spill,
    /// The beginning of a TLS record.
    CutRecord,
}

/// What a shard has.
pub struct Core {
    pub(super) slab: Slab,
    pub(super) pool: Pool,
    pub(super) side: SideTable,
    pub(super) clock: Clock,
    pub(super) counters: Counters,
    pub(super) limits: LimitsTable,
    pub(super) park_ticks: u32,
    /// Ticks that a TLS handshake may take.
    pub(super) handshake_ticks: u32,
    pub(super) listed: Vec<u32>,
    pub(super) draining: bool,
    pub(super) batches: Batches,
    pub(super) files: FileTable,
    pub(super) admission: AdmissionTable,
    pub(super) compression: Compression,
    pub(super) tls: TlsTable,
    /// Who clients are, by slot.
    pub(super) identities: Identities,
    pub(super) addresses: AddressTable,
    /// Where a flight of a TLS handshake is written.
    pub(super) flight: Vec<u8>,
    /// Where a TLS record that was cut is put together.
    pub(super) joined: Vec<u8>,
    /// What services are to be told.
    pub(super) due: Due,
    /// Connections whose receive found no buffer, in the order in which they are armed again.
    pub(super) starved: VecDeque<Handle>,
    /// Connections whose spill is read on in a later turn, in that order, and the work that each has to sit out before.
    pub(super) later: VecDeque<(Handle, u64)>,
    /// What this turn has cost.
    pub(super) work: Work,
    /// Where a spill lies while it is read.
    pub(super) spilled: Vec<u8>,
    /// Connections that hold much, and some that did.
    pub(super) heavy: Vec<Handle>,
    pub(super) shard: usize,
    pub(super) slots: u32,
    pub(super) to_control: Sender<ToControl>,
    /// The listeners at which no HTTP is spoken.
    pub(super) bare: Vec<bool>,
    /// Letters to other shards.
    pub(super) peers: PeerSenders,
    /// Where the text of a head is written.
    pub(super) scratch: Vec<u8>,
}

/// What services are to be told before the turn ends.
#[derive(Default)]
pub(super) struct Due {
    /// Streams for which `Event::KeepAlive` is due.
    pub(super) quiet: Vec<u32>,
    /// Streams whose client's credentials have ended.
    pub(super) ended: Vec<u32>,
    /// Credentials that clients have shown on open connections.
    pub(super) presented: Vec<(Handle, Credentials)>,
}

impl Core {
    pub(super) fn new(settings: &ShardSettings, to_control: Sender<ToControl>) -> Core {
        let capacity = settings.slots + settings.spare_slots + settings.accepts_in_flight * settings.listeners as u32;
        Core {
            slab: Slab::new(capacity),
            pool: Pool::new(settings.outbox_bytes),
            side: SideTable::default(),
            clock: Clock::new(capacity),
            counters: Counters::new(u64::from(settings.slots), settings.listeners, settings.upstreams),
            limits: LimitsTable::new(&settings.limits),
            park_ticks: ticks(settings.park_after),
            handshake_ticks: ticks(settings.tls_handshake_timeout),
            listed: Vec::new(),
            draining: false,
            batches: Batches::default(),
            files: FileTable::default(),
            admission: AdmissionTable::new(capacity),
            compression: Compression::new(settings.deflate_window_bytes),
            addresses: AddressTable::new(&settings.addresses),
            tls: TlsTable::new(&settings.tls, capacity, settings.tls_handshake_bytes),
            identities: Identities::new(capacity),
            flight: Vec::new(),
            joined: Vec::new(),
            due: Due::default(),
            starved: VecDeque::new(),
            later: VecDeque::new(),
            work: Work::new(settings.turn_events),
            spilled: Vec::new(),
            heavy: Vec::new(),
            shard: settings.shard,
            slots: settings.slots,
            to_control,
            bare: settings.bare.clone(),
            peers: PeerSenders::default(),
            scratch: Vec::new(),
        }
    }

    /// For a call of a service, or of what a service may call.
    pub(super) fn desk(&mut self) -> Desk<'_> {
        Desk { core: self }
    }

    /// The tick of this turn.
    pub(super) fn now(&self) -> u32 {
        self.clock.now()
    }

    /// The limits that hold for a connection; for one that is gone those for all.
    pub(super) fn limits_of(&self, who: Handle) -> &RouteLimits {
        &self.limits[self.slab.get(who).map_or(0, |conn| conn.limits)]
    }

    /// A connection goes by limits of this number from now on.
    pub(super) fn set_limits(&mut self, slot: u32, number: u16) {
        let before = std::mem::replace(&mut self.slab[slot].limits, number);
        self.limits.pass(before, number);
    }

    /// Who the client in this slot is; `None`: nobody knows.
    pub(super) fn identify(&mut self, slot: u32, identity: Option<Arc<Identity>>) {
        let end = identity.as_ref().and_then(|it| it.expires).map(|end| self.clock.tick_of(end));
        self.identities.set(slot, identity, end);
        self.counters.identified = self.identities.len();
    }

    // ---- what is to be done before the turn ends ----

    /// The connection is looked at before the turn ends.
    pub(super) fn list(&mut self, slot: u32) {
        list(&mut self.listed, &mut self.slab[slot], slot);
    }

    /// Sets the slot's deadline by its state.
    pub(super) fn watch(&mut self, slot: u32) {
        let conn = &self.slab[slot];
        let limits = &self.limits[conn.limits];
        let spilled = self.side.spilled(conn.side);
        let first_ticks = match conn.state {
            State::Preface => self.addresses.header_ticks(conn.origin),
            _ => self.handshake_ticks,
        };
        let ticks = (self.park_ticks, first_ticks);
        let end = self.identities.end(slot);
        match due::next(conn, limits, (spilled, end), ticks, self.clock.now()) {
            Some(at) => self.clock.set_timer(slot, at.min(self.admission.waits.end(conn, slot))),
            None => self.clock.forget(slot),
        }
    }

    /// All slots are taken: no client and no upstream can be added.
    pub(in crate::shard) fn is_full(&self) -> bool {
        self.counters.used >= u64::from(self.slots)
    }

    // ---- what is sent ----

    pub(in crate::shard) fn write_parts(&mut self, who: Handle, parts: [&[u8]; 2]) -> Backpressure {
        let Some(conn) = self.slab.get(who) else { return Backpressure::Gone };
        if matches!(conn.state, State::Closing | State::Leaving) {
            return Backpressure::Gone;
        }
        self.queue(who, Chain::Queue, parts)
    }

    pub(super) fn write_urgent(&mut self, who: Handle, parts: [&[u8]; 2]) {
        if self.slab.get(who).is_some() {
            self.queue(who, Chain::Urgent, parts);
        }
    }

    /// Puts the parts into a chain of a connection that is there, and says what became of them.
    pub(in crate::shard) fn queue(&mut self, who: Handle, chain: Chain, parts: [&[u8]; 2]) -> Backpressure {
        let queued = self.put(who, chain, parts);
        self.room(who, queued)
    }

    /// What became of it. A connection for which there is no memory left ends: it cannot be served, and
    /// pretending otherwise would lose messages silently.
    pub(in crate::shard) fn room(&mut self, who: Handle, queued: Result<(), Exhausted>) -> Backpressure {
        if queued.is_err() {
            self.overloaded(who);
            return Backpressure::Gone;
        }
        let conn = &mut self.slab[who.slot];
        let max_pending = self.limits[conn.limits].max_pending;
        if conn.out.pending() > max_pending {
            conn.flags.insert(Flags::FULL);
        }
        list(&mut self.listed, conn, who.slot);
        if conn.flags.contains(Flags::FULL) { Backpressure::Full } else { Backpressure::Ready }
    }

    /// A batch that was not sent at once: behind what the service has queued for this peer alone, if anything.
    pub(super) fn queue_batch(&mut self, who: Handle, batch: Box<Batch>) {
        if !batch.is_empty() && self.slab[who.slot].can_send() {
            batch.keep_rest(0, |bytes| self.queue(who, Chain::Queue, [bytes, b""]));
        }
        self.batches.put_back(batch);
    }

    /// The batch in flight has come back: what the socket had no room for waits in the outbox, in front of whatever was
    /// queued meanwhile. Returns how many bytes were taken; `None`: the connection has failed.
    pub(super) fn batch_done(&mut self, slot: u32, batch: u32, result: Result<u32, i32>) -> Option<usize> {
        let who = self.slab.handle(slot);
        let batch = self.batches.end(batch);
        let taken = match result {
            Ok(len) => Some(len as usize),
            Err(libc::EAGAIN) => Some(0),
            Err(_) => None,
        };
        let kept = match taken {
            Some(len) if len < batch.len() => batch.keep_rest(len, |rest| self.put(who, Chain::Front, [rest, b""])),
            _ => Ok(()),
        };
        self.batches.put_back(batch);
        if kept.is_err() {
            // Part of a message is gone, and with it the order of the stream.
            self.cut(who, Cause::Overload);
        }
        taken
    }

    // ---- ends ----

    /// A Close frame behind what is queued (RFC 6455 section 7.1.2), then FIN. Without effect where one was sent.
    pub(super) fn close_websocket(&mut self, who: Handle, code: CloseCode, reason: &str) {
        let Some(conn) = sendable(&mut self.slab, who) else { return };
        self.pool.discard_draft(&mut conn.out);
        conn.flags.insert(Flags::CLOSE_SENT);
        let body = ws::close_body(code, reason);
        let head = ws::head(Opcode::Close, true, body.as_bytes().len() as u64, None);
        self.write_urgent(who, [head.as_bytes(), body.as_bytes()]);
        self.step_finish(who);
    }

    /// As [`Core::close_websocket`], and whatever the peer still sends is thrown away.
    pub(super) fn close_discarding(&mut self, who: Handle, code: CloseCode, reason: &str) {
        self.close_websocket(who, code, reason);
        if let Some(conn) = self.slab.get_mut(who) {
            conn.flags.insert(Flags::DISCARDS);
        }
    }

    /// Nothing more is sent behind what is queued, and what is received is thrown away.
    pub(super) fn finish(&mut self, who: Handle) {
        let Some(conn) = self.slab.get_mut(who) else { return };
        conn.flags.insert(Flags::DISCARDS);
        self.step_finish(who);
    }

    /// A connection between requests, or before its first one, is over. Over TLS close_notify is sent, without which
    /// the peer could not know that nothing is missing (RFC 8446 section 6.1).
    pub(super) fn leave(&mut self, who: Handle, cause: Cause) {
        let Some(conn) = self.slab.get_mut(who) else { return };
        if conn.state == State::Head && (conn.flags.contains(Flags::TLS) || conn.has_unsent()) {
            conn.set_cause(cause);
            self.finish(who);
        } else {
            self.cut(who, cause);
        }
    }

    pub(in crate::shard) fn step_finish(&mut self, who: Handle) {
        let now = self.clock.now();
        let Some(conn) = self.slab.get_mut(who) else { return };
        if matches!(conn.state, State::Handshake | State::Head | State::Open) {
            conn.step(StateEvent::Finish);
            conn.since = now;
            // The end must be received even from a peer that was held back.
            conn.hold.remove(Hold::SERVICE | Hold::RATE);
            conn.flags.insert(Flags::UNREAD);
            self.watch(who.slot);
            self.list(who.slot);
        }
    }

    /// The connection ends now; what is queued is lost.
    pub(in crate::shard) fn cut(&mut self, who: Handle, cause: Cause) {
        let Some(conn) = self.slab.get_mut(who) else { return };
        if matches!(conn.state, State::Free | State::Accept | State::Leaving) {
            return;
        }
        conn.set_cause(cause);
        conn.step(StateEvent::Cut);
        self.clock.forget(who.slot);
        list(&mut self.listed, conn, who.slot);
    }
}

/// Puts the connection in this slot on the list of those that are looked at before the turn ends, once.
pub(super) fn list(listed: &mut Vec<u32>, conn: &mut Conn, slot: u32) {
    if !conn.flags.contains(Flags::LISTED) {
        conn.flags.insert(Flags::LISTED);
        listed.push(slot);
    }
}

/// The connection, if more may be sent on it.
pub(super) fn sendable(slab: &mut Slab, who: Handle) -> Option<&mut Conn> {
    slab.get_mut(who).filter(|conn| conn.can_send())
}

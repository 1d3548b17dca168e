//! The desk: all that a service sees of a shard.
//!
//! What a service asks here is written down in the connection, in its outbox and on the list of connections to be
//! settled before the turn ends. Nothing at the desk waits, and nothing here calls the kernel or the service.

use super::batches::{Batch, Batches};
use super::clock::{Clock, ticks};
use super::compression::Compression;
use super::conn::{Conn, Event, Flags, State};
use super::limits::{RouteLimits, ShardSettings};
use super::outbox::{Exhausted, Pool};
use super::side_table::SideTable;
use super::slab::{Handle, Slab};
use super::work::{RECORD, Work};
use super::{counters, due};
use crate::engine::Address;
use crate::mesh::{Cause, Counters, Sender, ServiceKind, ToControl};
use edgehold_wire::http1::ResponseHead;
use edgehold_wire::status::Status;
use edgehold_wire::upgrade::{self, Opening};
use edgehold_wire::ws::{self, CloseCode, Opcode};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Seconds after which a client that found no slot may come again.
const RETRY_AFTER: &str = "5";

/// What became of something that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backpressure {
    /// Queued.
    Ready,
    /// Queued, and more than `max_pending` now is: say no more until `Service::writable`.
    Full,
    /// Thrown away: the connection is ending.
    Gone,
}

/// What becomes of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The service is asked in this turn.
    Asked,
    /// A batch is in flight: to be offered again in the next turn.
    InFlight,
    /// The peer has not taken what it was sent: the service is asked when it has.
    Queued,
}

/// The chains of the pool in which bytes of a connection may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chain {
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
    /// What the peer has said and what could not be read yet.
    Spill,
}

/// All that a service sees of a shard.
pub struct Desk {
    pub(super) slab: Slab,
    pub(super) pool: Pool,
    pub(super) side: SideTable,
    pub(super) clock: Clock,
    pub(super) counters: Counters,
    pub(super) limits: Vec<RouteLimits>,
    pub(super) park_ticks: u32,
    pub(super) listed: Vec<u32>,
    pub(super) draining: bool,
    pub(super) batches: Batches,
    pub(super) compression: Compression,
    /// Streams for which `Service::quiet` is due.
    pub(super) quiet: Vec<u32>,
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
    shard: usize,
    slots: u32,
    to_control: Sender<ToControl>,
    scratch: Vec<u8>,
}

impl Desk {
    pub(super) fn new(settings: &ShardSettings, to_control: Sender<ToControl>) -> Desk {
        let capacity = settings.slots + settings.spare_slots + settings.accepts_in_flight * settings.listeners as u32;
        Desk {
            slab: Slab::new(capacity),
            pool: Pool::new(settings.outbox_bytes),
            side: SideTable::default(),
            clock: Clock::new(capacity),
            counters: Counters::new(u64::from(settings.slots), settings.listeners, settings.upstreams),
            limits: settings.limits.clone(),
            park_ticks: ticks(settings.park_after),
            listed: Vec::new(),
            draining: false,
            batches: Batches::default(),
            compression: Compression::new(settings.deflate_window_bytes),
            quiet: Vec::new(),
            starved: VecDeque::new(),
            later: VecDeque::new(),
            work: Work::new(settings.turn_events),
            spilled: Vec::new(),
            heavy: Vec::new(),
            shard: settings.shard,
            slots: settings.slots,
            to_control,
            scratch: Vec::new(),
        }
    }

    // ---- what is known ----

    /// Number of the listener that the client came through.
    pub fn listener(&self, who: Handle) -> usize {
        usize::from(self.slab[who.slot].origin)
    }

    /// Who serves this connection.
    pub fn kind(&self, who: Handle) -> ServiceKind {
        self.slab[who.slot].service
    }

    /// The tick of this turn.
    pub fn now(&self) -> u32 {
        self.clock.now()
    }

    /// What the service knows this connection by, while it is the service's.
    pub fn token(&mut self, who: Handle) -> Option<u32> {
        self.slab.get(who).filter(|conn| conn.flags.contains(Flags::OWNED)).map(|conn| conn.token)
    }

    /// The client's address.
    pub fn peer(&self, who: Handle) -> SocketAddr {
        self.slab[who.slot].peer.address()
    }

    /// Connections that the shard may hold.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Which shard this is.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// The limits of this connection's route.
    pub fn limits(&self, who: Handle) -> &RouteLimits {
        &self.limits[usize::from(self.slab[who.slot].limits)]
    }

    /// Bytes of the message that is being drafted for this peer.
    pub fn drafted(&self, who: Handle) -> usize {
        self.slab[who.slot].out.draft()
    }

    /// The shard's counters.
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// The server is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    // ---- requests ----

    /// The request goes to this service, under these limits.
    pub fn route(&mut self, who: Handle, service: ServiceKind, limits: u16) {
        let Some(conn) = self.slab.get(who) else { return };
        conn.service = service;
        conn.limits = limits;
        self.list(who.slot);
    }

    /// The connection is the service's from now on, which answers the request later or opens a WebSocket.
    pub fn take(&mut self, who: Handle, token: u32) {
        let Some(conn) = self.slab.get(who) else { return };
        conn.step(Event::Opened);
        conn.token = token;
        conn.flags.insert(Flags::OWNED);
        self.watch(who.slot);
        self.list(who.slot);
    }

    /// The connection is the service's no longer: its token means nothing from now on. Due before the answer to a
    /// request that was taken; a connection that is still owned when it ends is reported by `Service::closed`.
    pub fn release(&mut self, who: Handle) {
        if let Some(conn) = self.slab.get(who) {
            conn.flags.remove(Flags::OWNED);
        }
    }

    /// Writes the 101 and keeps it back until [`Desk::upgrade`].
    pub fn prepare_upgrade(&mut self, who: Handle, opening: &Opening, protocol: Option<&str>) {
        let deflate = self.agree(who, opening.deflate);
        let mut answer = std::mem::take(&mut self.scratch);
        answer.clear();
        upgrade::answer(&mut answer, opening, protocol, deflate);
        self.draft(who, &answer);
        self.scratch = answer;
    }

    /// The 101 goes out; the connection, taken before, speaks WebSocket.
    pub fn upgrade(&mut self, who: Handle) {
        let Some(conn) = self.slab.get(who) else { return };
        if conn.state != State::Open {
            return;
        }
        if conn.flags.contains(Flags::EOF) {
            // It ended its side while it waited: no WebSocket can be spoken with it.
            return self.cut(who, Cause::Gone);
        }
        if self.draining {
            return self.refuse_last(who, Status::SERVICE_UNAVAILABLE, "the server is stopping");
        }
        self.pool.commit_draft(&mut conn.out, &[]);
        conn.flags.insert(Flags::WEBSOCKET | Flags::UNREAD);
        self.resume(who);
        self.watch(who.slot);
        self.list(who.slot);
    }

    /// A whole response. `fields` come after Date and before Content-Length.
    pub fn answer(&mut self, who: Handle, status: Status, fields: &[(&str, &str)], body: &[u8]) {
        self.begin_answer(who, status, fields, Some(body.len() as u64));
        if !self.is_head_only(who) {
            self.write(who, body);
        }
        self.finish_answer(who);
    }

    /// Refuses the request: a response of one line that says why, counted by its status.
    pub fn refuse(&mut self, who: Handle, status: Status, fields: &[(&str, &str)], words: &str) {
        self.count_refusal(status);
        self.tell(who, status, fields, words);
    }

    /// A response of one line.
    fn tell(&mut self, who: Handle, status: Status, fields: &[(&str, &str)], words: &str) {
        if let Some(conn) = self.slab.get(who) {
            self.pool.discard_draft(&mut conn.out);
            let line = format!("{status}: {words}\n");
            let fields = [&[("Content-Type", "text/plain; charset=utf-8")], fields].concat();
            self.answer(who, status, &fields, line.as_bytes());
        }
    }

    /// Counts the request among the refused ones, if the status says so.
    pub fn count_refusal(&mut self, status: Status) {
        counters::refused(&mut self.counters, status);
    }

    /// Refuses and closes: nothing after this request can be trusted, or read.
    pub fn refuse_last(&mut self, who: Handle, status: Status, words: &str) {
        if let Some(conn) = self.slab.get(who) {
            conn.flags.insert(Flags::LAST);
            conn.set_cause(Cause::Refused);
            self.refuse(who, status, &[], words);
        }
    }

    /// Tells a client that came to a full or stopping shard, from a spare slot. Who turns it away counts it.
    pub(super) fn turn_away(&mut self, who: Handle, words: &str) {
        if let Some(conn) = self.slab.get(who) {
            conn.flags.insert(Flags::LAST | Flags::SPARE);
            conn.set_cause(Cause::Refused);
            self.tell(who, Status::SERVICE_UNAVAILABLE, &[("Retry-After", RETRY_AFTER)], words);
        }
    }

    /// The response's head. `length`: of the body; `None` where the status has none.
    pub fn begin_answer(&mut self, who: Handle, status: Status, fields: &[(&str, &str)], length: Option<u64>) {
        let Some(conn) = self.slab.get(who) else { return };
        conn.flags.insert(Flags::ANSWERING);
        // A stopping server answers, and waits for no further request.
        conn.flags.set(Flags::LAST, self.draining || conn.flags.contains(Flags::LAST));
        let (last, http10) = (conn.flags.contains(Flags::LAST), conn.flags.contains(Flags::HTTP10));
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        let mut head = ResponseHead::begin(&mut text, status).header("Date", self.clock.date());
        for (name, value) in fields {
            head = head.header(name, value);
        }
        if let Some(length) = length {
            head = head.number("Content-Length", length);
        }
        match (last, http10) {
            (true, _) => head.header("Connection", "close").end(),
            (false, true) => head.header("Connection", "keep-alive").end(),
            (false, false) => head.end(),
        }
        self.write_urgent(who, [&text, b""]);
        self.scratch = text;
    }

    /// The response is complete: another request may follow, or the connection ends.
    pub fn finish_answer(&mut self, who: Handle) {
        let Some(conn) = self.slab.get(who) else { return };
        self.counters.messages_in[conn.service as usize] += 1;
        self.counters.messages_out[conn.service as usize] += 1;
        conn.flags.remove(Flags::HEAD_ONLY | Flags::ANSWERING);
        if conn.flags.contains(Flags::LAST) {
            conn.set_cause(Cause::Closed);
            self.finish(who);
            return;
        }
        if conn.state == State::Open {
            conn.step(Event::Answered);
        }
        conn.flags.insert(Flags::REUSED | Flags::UNREAD);
        // The next head is read under the limits for all: its route is not known yet.
        conn.limits = 0;
        (conn.since, conn.last_received) = (self.clock.now(), self.clock.now());
        self.resume(who);
        self.watch(who.slot);
        self.list(who.slot);
    }

    /// The request was a HEAD: the response has no body.
    pub fn is_head_only(&mut self, who: Handle) -> bool {
        self.slab.get(who).is_some_and(|conn| conn.flags.contains(Flags::HEAD_ONLY))
    }

    // ---- messages ----

    /// A whole message to a WebSocket client.
    pub fn send(&mut self, who: Handle, opcode: Opcode, payload: &[u8]) -> Backpressure {
        let Some(conn) = sendable(&mut self.slab, who) else { return Backpressure::Gone };
        let service = conn.service;
        let room = match self.deflated(who, payload) {
            Some(deflated) => self.send_deflated(who, opcode, deflated),
            None => {
                let head = ws::head(opcode, true, payload.len() as u64, None);
                self.write_parts(who, [head.as_bytes(), payload])
            }
        };
        self.counters.messages_out[service as usize] += u64::from(room != Backpressure::Gone);
        room
    }

    /// More of a message whose end is not known yet; nothing of it goes out before [`Desk::send_draft`].
    pub fn draft(&mut self, who: Handle, piece: &[u8]) -> Backpressure {
        if sendable(&mut self.slab, who).is_none() {
            return Backpressure::Gone;
        }
        let queued = self.put(who, Chain::Draft, [piece, b""]);
        self.room(who, queued)
    }

    fn send_deflated(&mut self, who: Handle, opcode: Opcode, deflated: Vec<u8>) -> Backpressure {
        let head = ws::deflated_head(opcode, deflated.len() as u64);
        let room = self.write_parts(who, [head.as_bytes(), &deflated]);
        self.compression.put_back(deflated);
        room
    }

    /// The drafted message is whole.
    pub fn send_draft(&mut self, who: Handle, opcode: Opcode) -> Backpressure {
        let Some(conn) = sendable(&mut self.slab, who) else { return Backpressure::Gone };
        let service = conn.service;
        if let Some(deflated) = self.deflated_draft(who) {
            self.pool.discard_draft(&mut self.slab[who.slot].out);
            let room = self.send_deflated(who, opcode, deflated);
            self.counters.messages_out[service as usize] += u64::from(room != Backpressure::Gone);
            return room;
        }
        let conn = &mut self.slab[who.slot];
        let head = ws::head(opcode, true, conn.out.draft() as u64, None);
        self.pool.commit_draft(&mut conn.out, head.as_bytes());
        self.counters.messages_out[service as usize] += 1;
        self.room(who, Ok(()))
    }

    /// Bytes to an upstream, or of a response's body.
    pub fn write(&mut self, who: Handle, bytes: &[u8]) -> Backpressure {
        self.write_parts(who, [bytes, b""])
    }

    fn write_parts(&mut self, who: Handle, parts: [&[u8]; 2]) -> Backpressure {
        let Some(conn) = self.slab.get(who) else { return Backpressure::Gone };
        if matches!(conn.state, State::Closing | State::Leaving) {
            return Backpressure::Gone;
        }
        let queued = self.put(who, Chain::Queue, parts);
        self.room(who, queued)
    }

    pub(super) fn write_urgent(&mut self, who: Handle, parts: [&[u8]; 2]) {
        if self.slab.get(who).is_some() {
            let queued = self.put(who, Chain::Urgent, parts);
            self.room(who, queued);
        }
    }

    /// What became of it. A connection for which there is no memory left ends: it cannot be served, and
    /// pretending otherwise would lose messages silently.
    fn room(&mut self, who: Handle, queued: Result<(), Exhausted>) -> Backpressure {
        if queued.is_err() {
            self.overloaded(who);
            return Backpressure::Gone;
        }
        let conn = &mut self.slab[who.slot];
        let max_pending = self.limits[usize::from(conn.limits)].max_pending;
        if conn.out.pending() > max_pending {
            conn.flags.insert(Flags::FULL);
        }
        let full = conn.flags.contains(Flags::FULL);
        self.list(who.slot);
        if full { Backpressure::Full } else { Backpressure::Ready }
    }

    // ---- what many hear ----

    /// From now on the service is asked for more ([`Service::more`](super::door::Service)): now, and whenever it says
    /// that there is something ([`Desk::offer`]). Not whenever a send is done: what a feed says all the time would keep
    /// every follower's completions in the queue, and all others waiting behind them.
    pub fn follow(&mut self, who: Handle) {
        if let Some(conn) = self.slab.get(who) {
            conn.flags.insert(Flags::FOLLOWS | Flags::OFFERED);
            // The client of a stream has nothing more to say: it costs least on a poll.
            if conn.is_stream() && !conn.flags.contains(Flags::PARKED) {
                conn.flags.insert(Flags::PARKED);
                self.counters.parks += 1;
            }
            self.watch(who.slot);
            self.list(who.slot);
        }
    }

    /// No longer.
    pub fn unfollow(&mut self, who: Handle) {
        if let Some(conn) = self.slab.get(who) {
            conn.flags.remove(Flags::FOLLOWS);
            self.watch(who.slot);
        }
    }

    /// There is something for a connection that follows. It will be asked for in this turn, if nothing is on its way to
    /// the peer, or when what waits has been taken; not behind a batch in flight, for which the service offers again.
    pub fn offer(&mut self, who: Handle) -> Offer {
        let Some(conn) = self.slab.get(who) else { return Offer::Asked };
        if conn.flags.contains(Flags::IN_FLIGHT) && conn.out.pending() == 0 {
            return Offer::InFlight;
        }
        conn.flags.insert(Flags::OFFERED);
        if conn.has_unsent() {
            return Offer::Queued;
        }
        self.list(who.slot);
        Offer::Asked
    }

    /// Bytes that wait to be taken by this peer, shared ones not counted.
    pub fn pending(&self, who: Handle) -> usize {
        self.slab[who.slot].out.pending()
    }

    /// A batch that did not fly: behind what the service has said to this peer alone, if anything.
    pub(super) fn queue_batch(&mut self, who: Handle, batch: Box<Batch>) {
        if !batch.is_empty() && self.slab[who.slot].can_send() {
            let queued = batch.keep_rest(0, |bytes| self.put(who, Chain::Queue, [bytes, b""]));
            self.room(who, queued);
        }
        self.batches.put_back(batch);
    }

    /// The batch in flight has come back: what the socket had no room for waits in the outbox, in front of whatever was
    /// said meanwhile. Says how many bytes were taken; `None`: the connection has failed.
    pub(super) fn batch_done(&mut self, slot: u32, result: Result<u32, i32>) -> Option<usize> {
        let who = self.slab.handle(slot);
        let conn = &mut self.slab[slot];
        conn.flags.remove(Flags::IN_FLIGHT);
        let batch = self.batches.end(conn.batch);
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

    /// The head of a response whose end is not known: chunked (RFC 9112 section 7.1), or ended by the end of the
    /// connection where the client speaks HTTP/1.0. Says whether the body is to be chunked.
    pub fn begin_stream(&mut self, who: Handle, fields: &[(&str, &str)]) -> bool {
        let Some(conn) = self.slab.get(who) else { return false };
        let chunked = !conn.flags.contains(Flags::HTTP10);
        conn.flags.set(Flags::LAST, !chunked || conn.flags.contains(Flags::LAST));
        let chunks: &[_] = if chunked { &[("Transfer-Encoding", "chunked")] } else { &[] };
        self.begin_answer(who, Status::OK, &[fields, chunks].concat(), None);
        chunked
    }

    /// A stream ends with these bytes, and the connection with it.
    pub fn end_stream(&mut self, who: Handle, tail: &[u8]) {
        self.unfollow(who);
        self.release(who);
        self.write(who, tail);
        if let Some(conn) = self.slab.get(who) {
            conn.flags.insert(Flags::LAST);
            self.finish_answer(who);
        }
    }

    /// What became of what was queued last.
    pub fn backpressure_of(&mut self, who: Handle) -> Backpressure {
        match sendable(&mut self.slab, who) {
            None => Backpressure::Gone,
            Some(conn) if conn.flags.contains(Flags::FULL) => Backpressure::Full,
            Some(_) => Backpressure::Ready,
        }
    }

    // ---- flow ----

    /// Nothing more of this peer is wanted for now.
    pub fn pause(&mut self, who: Handle) {
        let Some(conn) = self.slab.get(who) else { return };
        if !conn.flags.contains(Flags::PAUSED) {
            conn.flags.insert(Flags::PAUSED);
            self.counters.held_back += 1;
            self.watch(who.slot);
            self.list(who.slot);
        }
    }

    /// More of this peer is wanted again: first of all what waits in its spill.
    pub fn resume(&mut self, who: Handle) {
        let now = self.clock.now();
        let Some(conn) = self.slab.get(who) else { return };
        if conn.flags.contains(Flags::PAUSED) {
            conn.flags.remove(Flags::PAUSED);
            conn.flags.insert(Flags::UNREAD);
            conn.last_received = now;
            self.watch(who.slot);
            self.list(who.slot);
        }
    }

    // ---- upstreams ----

    /// Calls an upstream. The connection is the service's at once; it is told `Service::dialed` or
    /// `Service::closed`. What is written meanwhile is queued. `None`: all slots are taken.
    pub fn dial(&mut self, to: Address, upstream: u16, token: u32, limits: u16, timeout: u32) -> Option<Handle> {
        if self.is_full() {
            return None;
        }
        let slot = self.slab.take()?;
        let now = self.clock.now();
        let conn = &mut self.slab[slot];
        conn.step(Event::Dial);
        conn.flags.insert(Flags::UPSTREAM | Flags::OWNED);
        (conn.token, conn.limits, conn.origin) = (token, limits, upstream);
        (conn.service, conn.last_received) = (ServiceKind::Proxy, now);
        conn.since = now + timeout;
        self.side.make(&mut conn.side).dial = Some(to);
        self.counters.used += 1;
        self.watch(slot);
        self.list(slot);
        Some(self.slab.handle(slot))
    }

    /// All slots are taken: no client and no upstream can be added.
    pub fn is_full(&self) -> bool {
        self.counters.used >= u64::from(self.slots)
    }

    /// FIN to an upstream behind what is queued. It may go on speaking for `close_timeout`.
    pub fn end(&mut self, who: Handle) {
        let now = self.clock.now();
        let Some(conn) = self.slab.get(who) else { return };
        if conn.state == State::Dial {
            self.cut(who, Cause::ClientLeft);
        } else if !conn.flags.contains(Flags::FIN_WANTED) {
            conn.flags.insert(Flags::FIN_WANTED);
            conn.since = now;
            self.watch(who.slot);
            self.list(who.slot);
        }
    }

    // ---- ends ----

    /// A Close frame behind what is queued, then the end. A client that waits for its 101 is told 503.
    pub fn close(&mut self, who: Handle, code: CloseCode, reason: &str) {
        let Some(conn) = self.slab.get(who) else { return };
        if !conn.flags.contains(Flags::WEBSOCKET) {
            return self.refuse_last(who, Status::SERVICE_UNAVAILABLE, reason);
        }
        if !conn.can_send() {
            return;
        }
        self.pool.discard_draft(&mut conn.out);
        conn.flags.insert(Flags::CLOSE_SENT);
        let body = ws::close_body(code, reason);
        let head = ws::head(Opcode::Close, true, body.as_bytes().len() as u64, None);
        self.write_urgent(who, [head.as_bytes(), body.as_bytes()]);
        self.step_finish(who);
    }

    /// As [`Desk::close`], with the cause that the connection is counted under.
    pub fn close_because(&mut self, who: Handle, code: CloseCode, reason: &str, cause: Cause) {
        if let Some(conn) = self.slab.get(who) {
            conn.set_cause(cause);
            self.close(who, code, reason);
        }
    }

    /// As [`Desk::close`], and whatever the peer still says is thrown away.
    pub(super) fn close_discarding(&mut self, who: Handle, code: CloseCode, reason: &str) {
        self.close(who, code, reason);
        if let Some(conn) = self.slab.get(who) {
            conn.flags.insert(Flags::DISCARDS);
        }
    }

    /// Nothing more will be said, nothing more is heard.
    pub(super) fn finish(&mut self, who: Handle) {
        let Some(conn) = self.slab.get(who) else { return };
        conn.flags.insert(Flags::DISCARDS);
        self.step_finish(who);
    }

    fn step_finish(&mut self, who: Handle) {
        let now = self.clock.now();
        let Some(conn) = self.slab.get(who) else { return };
        if matches!(conn.state, State::Head | State::Open) {
            conn.step(Event::Finish);
            conn.since = now;
            // The goodbye must be heard even from a peer that was held back.
            conn.flags.remove(Flags::PAUSED);
            conn.flags.insert(Flags::UNREAD);
            self.watch(who.slot);
            self.list(who.slot);
        }
    }

    /// The connection ends now; what is queued is lost.
    pub fn cut(&mut self, who: Handle, cause: Cause) {
        let Some(conn) = self.slab.get(who) else { return };
        if matches!(conn.state, State::Free | State::Accept | State::Leaving) {
            return;
        }
        conn.set_cause(cause);
        conn.step(Event::Cut);
        self.clock.forget(who.slot);
        self.list(who.slot);
    }

    /// Charges the turn for so many records of a service that were looked at, beyond the weight of a letter.
    pub fn charge(&mut self, records: usize) {
        self.work.add(RECORD * records as u64);
    }

    // ---- letters ----

    /// Posts a letter to the control thread.
    ///
    /// # Errors
    /// The box is full: the letter comes back, to be tried again.
    pub fn try_post(&mut self, letter: ToControl) -> Result<(), ToControl> {
        self.to_control.post(letter)
    }

    /// Posts a letter to the control thread. `false`: the box is full.
    pub fn post(&mut self, letter: ToControl) -> bool {
        let posted = self.to_control.post(letter).is_ok();
        self.counters.letters_refused += u64::from(!posted);
        posted
    }

    // ---- the shard's own ----

    /// The connection is looked at before the turn ends.
    pub(super) fn list(&mut self, slot: u32) {
        let conn = &mut self.slab[slot];
        if !conn.flags.contains(Flags::LISTED) {
            conn.flags.insert(Flags::LISTED);
            self.listed.push(slot);
        }
    }

    /// Sets the slot's deadline by its state.
    pub(super) fn watch(&mut self, slot: u32) {
        let conn = &self.slab[slot];
        let limits = &self.limits[usize::from(conn.limits)];
        let spilled = self.side.spilled(conn.side);
        match due::next(conn, limits, spilled, self.park_ticks, self.clock.now()) {
            Some(at) => self.clock.set_timer(slot, at),
            None => self.clock.forget(slot),
        }
    }
}

/// The connection, if something may still be said to it.
fn sendable(slab: &mut Slab, who: Handle) -> Option<&mut Conn> {
    slab.get(who).filter(|conn| conn.can_send())
}

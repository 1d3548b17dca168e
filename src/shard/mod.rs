//! A shard: one core's loop over its own sockets.
//!
//! [`Shard::turn`] is the whole of it: letters, completions, deadlines, and then every connection that
//! something happened to is settled with the kernel. A turn has a budget and never waits; `pump.rs` calls it
//! again and again, and sleeps when there was nothing to do.

pub mod annex;
pub mod clock;
pub mod conn;
mod deadline;
mod desk;
pub mod door;
mod inbox;
mod limits;
pub mod outbox;
mod overdue;
pub mod pump;
mod settle;
pub mod slab;
mod tally;

use crate::engine::{Completion, Operation, Ring, Tag};
use crate::mesh::{Cause, Receiver, Report, Sender, ToControl, ToShard};
use clock::{Now, TICK};
use conn::{Event, Flags, Held, Peer, State};
use door::{Desk, Service, Settings};
use slab::Handle;
use std::io;

/// Slots that are bidden farewell in one turn of a stopping shard.
const FAREWELLS: u32 = 1024;

/// One core's loop.
///
/// Built by [`Shard::new`], driven by [`Shard::turn`] until [`Shard::is_done`].
pub struct Shard<R: Ring, S: Service> {
    // The ring is dropped first: with it go the sends that point into the desk's pool.
    ring: R,
    desk: Desk,
    service: S,
    letters: Receiver<ToShard>,
    accepts: Accepts,
    due: Vec<u32>,
    turn_events: u32,
    farewells: Option<u32>,
    left: bool,
}

/// Clients waited for.
struct Accepts {
    wanted: u32,
    armed: Vec<u32>,
    /// The kernel is short of something: no accept is armed before the next tick.
    rests: bool,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Something: another turn is due at once.
    Worked,
    /// Nothing: the shard may sleep until its bell rings.
    Idle,
}

impl<R: Ring, S: Service> Shard<R, S> {
    /// A shard that accepts at its first turn.
    pub fn new(
        mut ring: R,
        service: S,
        settings: &Settings,
        letters: Receiver<ToShard>,
        to_control: Sender<ToControl>,
    ) -> Self {
        ring.tick(TICK);
        Shard {
            ring,
            desk: Desk::new(settings, to_control),
            service,
            letters,
            accepts: Accepts { wanted: settings.accepts_in_flight, armed: vec![0; settings.listeners], rests: false },
            due: Vec::new(),
            turn_events: settings.turn_events,
            farewells: None,
            left: false,
        }
    }

    /// One turn: everything that is ready, within the budget.
    ///
    /// # Errors
    /// The ring failed; the shard cannot go on.
    pub fn turn(&mut self, now: Now) -> io::Result<Turn> {
        self.desk.clock.set(now);
        self.desk.tally.turns += 1;
        let mut worked = self.take_letters() + self.bid_farewell() + self.arm_accepts();
        self.ring.turn()?;
        worked += self.take_completions();
        worked += self.look_at_deadlines();
        worked += self.settle_all();
        Ok(if worked > 0 { Turn::Worked } else { Turn::Idle })
    }

    /// The shard was told to stop, and nobody is left.
    pub fn is_done(&self) -> bool {
        self.left || self.farewells.is_some() && self.desk.slab.taken() == 0
    }

    /// The ring.
    pub fn ring(&mut self) -> &mut R {
        &mut self.ring
    }

    /// Letters wait to be read.
    pub fn has_letters(&self) -> bool {
        !self.letters.is_empty()
    }

    /// The shard's counters as they are now.
    pub fn report(&mut self) -> Report {
        let (ring, shard) = (self.ring.counts(), self.desk.shard());
        let tally = &mut self.desk.tally;
        (tally.cq_overflows, tally.enters) = (ring.cq_overflow, ring.enters);
        (tally.outbox_bytes, tally.outbox_limit) = (self.desk.pool.in_use(), self.desk.pool.limit());
        (tally.pending_bytes, tally.quiescing) = (self.desk.pool.pending(), self.desk.quiescing);
        Report { shard, tally: tally.clone() }
    }

    // ---- letters ----

    fn take_letters(&mut self) -> u32 {
        let mut taken = 0;
        while let Some(letter) = self.letters.take() {
            taken += 1;
            match letter {
                ToShard::Report => self.send_report(),
                ToShard::Quiesce => self.quiesce(),
                ToShard::Leave => self.left = true,
                letter => self.service.letter(&mut self.desk, letter),
            }
        }
        taken
    }

    fn send_report(&mut self) {
        let report = Box::new(self.report());
        self.desk.post(ToControl::Report(report));
    }

    fn quiesce(&mut self) {
        if self.farewells.is_none() {
            self.desk.quiescing = true;
            self.ring.close_listeners();
            self.farewells = Some(0);
        }
    }

    /// Goes over the slots once, some of them a turn.
    fn bid_farewell(&mut self) -> u32 {
        let Some(from) = self.farewells else { return 0 };
        let to = (from + FAREWELLS).min(self.desk.slab.touched());
        (from..to).for_each(|slot| self.farewell(slot));
        self.farewells = Some(to);
        to - from
    }

    fn farewell(&mut self, slot: u32) {
        let who = self.desk.slab.handle(slot);
        let conn = &mut self.desk.slab[slot];
        let (state, token) = (conn.state, conn.token);
        if conn.flags.contains(Flags::UPSTREAM) {
            return;
        }
        match state {
            State::Head if conn.has_to_say() => {
                conn.blame(Cause::Quiesced);
                self.desk.finish(who);
            }
            State::Head => self.desk.cut(who, Cause::Quiesced),
            State::Open if conn.flags.contains(Flags::WEBSOCKET) => {
                conn.blame(Cause::Quiesced);
                self.service.quiesce(&mut self.desk, who, token);
            }
            State::Open => conn.flags.insert(Flags::LAST),
            _ => {}
        }
    }

    // ---- clients to come ----

    /// Keeps accepts in flight at every listener, as long as there are slots to accept into.
    fn arm_accepts(&mut self) -> u32 {
        let mut armed = 0;
        if self.desk.quiescing || self.accepts.rests {
            return 0;
        }
        for listener in 0..self.accepts.armed.len() {
            while self.accepts.armed[listener] < self.accepts.wanted {
                let Some(slot) = self.desk.slab.take() else { return armed };
                self.accept(slot, listener);
                armed += 1;
            }
        }
        armed
    }

    fn accept(&mut self, slot: u32, listener: usize) {
        let conn = &mut self.desk.slab[slot];
        conn.step(Event::Reserve);
        conn.held.insert(Held::ACCEPT);
        conn.origin = listener as u16;
        self.accepts.armed[listener] += 1;
        self.ring.accept(Tag::new(slot, conn.generation, Operation::Accept), listener);
    }

    fn accepted(&mut self, slot: u32, completion: Completion) {
        let listener = usize::from(self.desk.slab[slot].origin);
        self.accepts.armed[listener] -= 1;
        match completion.result {
            Ok(_) => self.welcome(slot, listener, completion.tag),
            Err(errno) => {
                self.accept_failed(errno);
                self.release(slot);
            }
        }
    }

    fn accept_failed(&mut self, errno: i32) {
        if self.desk.quiescing {
            return;
        }
        self.desk.tally.accept_errors += 1;
        // A client that gave up while it waited is no reason to rest.
        self.accepts.rests |= errno != libc::ECONNABORTED;
        let error = io::Error::from_raw_os_error(errno);
        tracing::warn!(%error, "accept failed");
    }

    fn welcome(&mut self, slot: u32, listener: usize, tag: Tag) {
        let (full, now) = (self.desk.is_full(), self.desk.now());
        let who = self.desk.slab.handle(slot);
        let conn = &mut self.desk.slab[slot];
        conn.step(Event::Accepted);
        conn.peer = Peer::new(self.ring.peer(tag));
        (conn.since, conn.heard) = (now, now);
        self.desk.tally.accepts[listener] += 1;
        if self.desk.quiescing || full {
            self.turn_away(who);
        } else {
            self.desk.tally.used += 1;
            self.desk.watch(slot);
            self.desk.list(slot);
        }
    }

    /// There is no slot for the client, and it is told so from a spare one.
    fn turn_away(&mut self, who: Handle) {
        if self.desk.quiescing {
            return self.desk.turn_away(who, "the server is stopping");
        }
        tally::refused_full(&mut self.desk.tally);
        self.desk.turn_away(who, "all slots of this shard are taken");
    }

    // ---- completions ----

    fn take_completions(&mut self) -> u32 {
        let mut taken = 0;
        while taken < self.turn_events {
            let Some(completion) = self.ring.next() else { break };
            taken += 1;
            self.completed(completion);
        }
        self.desk.tally.completions += u64::from(taken);
        self.desk.tally.budgets_used_up += u64::from(taken == self.turn_events);
        taken
    }

    fn completed(&mut self, completion: Completion) {
        let (tag, slot) = (completion.tag, completion.tag.slot());
        match tag.operation() {
            Some(Operation::Tick) => self.ticked(),
            Some(Operation::Cancel) | None => {}
            Some(operation) if self.is_current(tag) => self.dispatch(slot, operation, completion),
            Some(_) => self.late(completion),
        }
    }

    fn is_current(&self, tag: Tag) -> bool {
        tag.slot() < self.desk.slab.touched() && self.desk.slab[tag.slot()].generation == tag.generation()
    }

    /// A slot's former connection: dropped by rule.
    fn late(&mut self, completion: Completion) {
        self.desk.tally.late_completions += 1;
        if let Some(buffer) = completion.buffer {
            self.ring.give_back(buffer);
        }
    }

    fn ticked(&mut self) {
        self.accepts.rests = false;
        self.ring.tick(TICK);
    }

    fn dispatch(&mut self, slot: u32, operation: Operation, completion: Completion) {
        let held = match operation {
            Operation::Accept => Held::ACCEPT,
            Operation::Connect => Held::CONNECT,
            Operation::Recv => Held::RECV,
            Operation::RecvOnce => Held::ONCE,
            Operation::Poll => Held::POLL,
            Operation::Send => Held::SEND,
            Operation::Shutdown => Held::SHUTDOWN,
            Operation::Close | Operation::Cancel | Operation::Tick => Held::CLOSE,
        };
        if !completion.more {
            let conn = &mut self.desk.slab[slot];
            conn.held.remove(held);
            conn.cancelled.remove(held);
        }
        self.desk.list(slot);
        match operation {
            Operation::Accept => self.accepted(slot, completion),
            Operation::Connect => self.connected(slot, completion.result),
            Operation::Recv => self.received(slot, completion),
            Operation::RecvOnce => self.received_once(slot, completion),
            Operation::Poll => self.polled(slot, completion.result),
            Operation::Send => self.sent(slot, completion.result),
            Operation::Close => self.release(slot),
            Operation::Shutdown | Operation::Cancel | Operation::Tick => {}
        }
    }

    fn connected(&mut self, slot: u32, result: Result<u32, i32>) {
        let who = self.desk.slab.handle(slot);
        let conn = &mut self.desk.slab[slot];
        match (conn.state, result) {
            (State::Dial, Ok(_)) => {
                conn.step(Event::Connected);
                conn.heard = self.desk.clock.now();
                let token = conn.token;
                self.desk.watch(slot);
                self.service.dialed(&mut self.desk, who, token);
            }
            (State::Dial, Err(_)) => self.desk.cut(who, Cause::UpstreamLost),
            _ => {}
        }
    }

    fn received(&mut self, slot: u32, completion: Completion) {
        if completion.result == Err(libc::ENOBUFS) {
            self.desk.tally.no_buffers += 1;
        } else {
            self.take_in(slot, completion);
        }
        let conn = &self.desk.slab[slot];
        self.desk.tally.rearms += u64::from(!completion.more && conn.wants_to_hear());
    }

    /// What a parked connection had to say. It is read until there is nothing left, since the poll speaks only
    /// when something new comes; after a hang-up, until the end has been read.
    fn received_once(&mut self, slot: u32, completion: Completion) {
        let filled = completion.result.is_ok_and(|len| len as usize == self.ring.lent_size());
        let hung_up = self.desk.slab[slot].flags.contains(Flags::HUNG_UP);
        let more = match completion.result {
            Err(libc::EAGAIN) => false,
            Err(libc::ENOBUFS) => true,
            _ => hung_up || filled || completion.nonempty,
        };
        match completion.result {
            Err(libc::EAGAIN) => {}
            Err(libc::ENOBUFS) => self.desk.tally.no_buffers += 1,
            _ => self.take_in(slot, completion),
        }
        if more {
            self.desk.slab[slot].flags.insert(Flags::SPOKEN);
        }
    }

    fn polled(&mut self, slot: u32, result: Result<u32, i32>) {
        let Ok(events) = result else { return };
        let hung_up = events & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as u32 != 0;
        let conn = &mut self.desk.slab[slot];
        conn.flags.set(Flags::HUNG_UP, hung_up);
        conn.flags.insert(Flags::SPOKEN);
    }

    /// Bytes, the end, or a failure: what a receive brought.
    fn take_in(&mut self, slot: u32, completion: Completion) {
        let who = self.desk.slab.handle(slot);
        let conn = &mut self.desk.slab[slot];
        let hears = matches!(conn.state, State::Head | State::Open | State::Closing);
        match (completion.result, completion.buffer) {
            (Ok(len), Some(buffer)) => {
                if hears && len > 0 {
                    self.unpark(slot);
                    let bytes = self.ring.lent(buffer, len as usize);
                    inbox::heard(&mut self.desk, &mut self.service, slot, bytes);
                } else if hears {
                    inbox::ended(&mut self.desk, &mut self.service, slot);
                }
                self.ring.give_back(buffer);
            }
            (Ok(_), None) if hears => inbox::ended(&mut self.desk, &mut self.service, slot),
            (Err(libc::ECANCELED), _) => {}
            (Err(_), _) => self.desk.cut(who, Cause::Reset),
            _ => {}
        }
    }

    fn unpark(&mut self, slot: u32) {
        let (now, park_ticks) = (self.desk.clock.now(), self.desk.park_ticks);
        let conn = &mut self.desk.slab[slot];
        let busy = now.saturating_sub(conn.heard) < park_ticks || conn.held.contains(Held::RECV);
        if conn.flags.contains(Flags::PARKED) && busy {
            conn.flags.remove(Flags::PARKED);
            self.desk.tally.promotions += 1;
            self.desk.watch(slot);
        }
    }

    fn sent(&mut self, slot: u32, result: Result<u32, i32>) {
        let who = self.desk.slab.handle(slot);
        match result {
            Ok(len) => self.took(slot, len as usize),
            Err(libc::ECANCELED) if self.desk.slab[slot].state == State::Leaving => {}
            Err(_) => self.desk.cut(who, Cause::Reset),
        }
    }

    /// The kernel has taken bytes for the peer.
    fn took(&mut self, slot: u32, len: usize) {
        let (who, now) = (self.desk.slab.handle(slot), self.desk.now());
        let conn = &mut self.desk.slab[slot];
        self.desk.pool.sent(&mut conn.out, len);
        let max_pending = self.desk.limits[usize::from(conn.limits)].max_pending;
        if conn.flags.contains(Flags::UPSTREAM) {
            self.desk.tally.upstream_bytes_out += len as u64;
        } else {
            self.desk.tally.bytes_out += len as u64;
        }
        // A WebSocket client that takes all it is sent may still be dead beyond the next hop: then only what it says
        // counts. One with a backlog lives as long as that shrinks.
        if !conn.flags.contains(Flags::WEBSOCKET) || conn.flags.contains(Flags::PAUSED) || conn.out.pending() > 0 {
            conn.heard = now;
        }
        // A goodbye takes as long as the peer goes on taking what is before it.
        if conn.is_parting() {
            conn.since = now;
        }
        if conn.flags.contains(Flags::FULL) && conn.out.pending() <= max_pending / 2 {
            self.drained(who);
        }
    }

    /// Below half of `max_pending` again.
    fn drained(&mut self, who: Handle) {
        let now = self.desk.now();
        let conn = &mut self.desk.slab[who.slot];
        conn.flags.remove(Flags::FULL);
        let (state, token) = (conn.state, conn.token);
        match state {
            State::Open => {
                let owned = conn.flags.contains(Flags::OWNED);
                inbox::pay_pong(&mut self.desk, who);
                if owned {
                    self.service.drained(&mut self.desk, who, token);
                }
            }
            // Requests that came meanwhile wait in the spill.
            State::Head => {
                conn.flags.insert(Flags::UNREAD);
                conn.since = now;
                self.desk.resume(who);
            }
            _ => {}
        }
    }

    // ---- deadlines ----

    fn look_at_deadlines(&mut self) -> u32 {
        self.desk.clock.sweep(&mut self.due);
        let looked = self.due.len().min(self.turn_events as usize);
        for slot in self.due.drain(..looked) {
            overdue::look(&mut self.desk, slot);
        }
        looked as u32
    }

    // ---- the end of the turn ----

    fn settle_all(&mut self) -> u32 {
        let mut settled = 0;
        while let Some(slot) = self.desk.listed.pop() {
            settled += 1;
            self.settle(slot);
        }
        settled
    }

    fn settle(&mut self, slot: u32) {
        let conn = &mut self.desk.slab[slot];
        conn.flags.remove(Flags::LISTED);
        if conn.flags.contains(Flags::UNREAD) && matches!(conn.state, State::Head | State::Open) {
            conn.flags.remove(Flags::UNREAD);
            inbox::reread(&mut self.desk, &mut self.service, slot);
        }
        inbox::end_requests(&mut self.desk, slot);
        if self.desk.slab[slot].state == State::Leaving {
            self.tell_end(slot);
        }
        settle::settle(&mut self.ring, &mut self.desk, slot);
        let conn = &mut self.desk.slab[slot];
        tally::census(&mut self.desk.tally, conn);
    }

    /// The service hears of the end once, whoever brought it about.
    fn tell_end(&mut self, slot: u32) {
        let who = self.desk.slab.handle(slot);
        let conn = &mut self.desk.slab[slot];
        let (token, cause) = (conn.token, conn.cause.unwrap_or(Cause::Closed));
        if conn.flags.contains(Flags::OWNED) {
            conn.flags.remove(Flags::OWNED);
            self.service.closed(&mut self.desk, who, token, cause);
        }
    }

    /// The kernel holds nothing of the slot any more.
    fn release(&mut self, slot: u32) {
        let conn = &mut self.desk.slab[slot];
        if conn.state == State::Leaving {
            self.count_end(slot);
        }
        let conn = &mut self.desk.slab[slot];
        conn.step(Event::Release);
        tally::census(&mut self.desk.tally, conn);
        self.desk.pool.clear(&mut conn.out);
        self.desk.annex.drop(&mut conn.annex);
        self.desk.clock.forget(slot);
        self.desk.slab.give_back(slot);
    }

    fn count_end(&mut self, slot: u32) {
        let conn = &self.desk.slab[slot];
        let cause = conn.cause.unwrap_or(Cause::Closed);
        let upstream = conn.flags.contains(Flags::UPSTREAM);
        tracing::debug!(
            peer = %conn.peer.address(),
            upstream,
            service = conn.service.word(),
            cause = cause.word(),
            "connection ended"
        );
        if !upstream {
            self.desk.tally.closes[cause as usize] += 1;
        }
        if !conn.flags.contains(Flags::SPARE) {
            self.desk.tally.used -= 1;
        }
    }
}

//! What the kernel has done, told to the connection that it was done for.

use super::clock::TICK;
use super::conn::{Flags, Held, Hold, ReadEnd, ReadEvent, Sending, State};
use super::core::list;
use super::service::{Event, Services};
use super::slab::Handle;
use super::work::COMPLETION;
use super::{Shard, preface, read, tls, upstream};
use crate::engine::{Completion, Lent, Operation, Ring};
use crate::mesh::Cause;

impl<R: Ring, S: Services> Shard<R, S> {
    pub(super) fn take_completions(&mut self) -> u32 {
        let (begun, mut taken) = (self.core.work.done(), 0);
        while self.core.work.has_room_since(begun) {
            let Some(completion) = self.ring.next() else {
                self.core.counters.completions += u64::from(taken);
                return taken;
            };
            taken += 1;
            self.core.work.add(COMPLETION);
            // A request about a file has a number of its own.
            let slot = (completion.tag.operation() != Some(Operation::File)).then_some(completion.tag.slot());
            self.guarded(slot, |shard| shard.completed(completion));
        }
        self.core.counters.completions += u64::from(taken);
        self.core.counters.budgets_used_up += 1;
        taken
    }

    fn completed(&mut self, completion: Completion) {
        match completion.tag.operation() {
            Some(Operation::Tick) => self.ticked(),
            Some(Operation::Cancel) | None => {}
            Some(Operation::File) => self.file_done(&completion),
            Some(operation) => self.dispatch(operation, completion),
        }
    }

    fn ticked(&mut self) {
        self.accepts.rests = false;
        self.look_at_troubles();
        self.ring.tick(TICK);
    }

    fn dispatch(&mut self, operation: Operation, completion: Completion) {
        let (slot, generation) = (completion.tag.slot(), completion.tag.generation());
        let Some(conn) = self.core.slab.get_mut(Handle { slot, generation }) else {
            // A slot's former connection: dropped by rule.
            self.core.counters.late_completions += 1;
            return;
        };
        if !completion.more {
            conn.held.remove(held(operation));
            conn.cancelled.remove(held(operation));
        }
        list(&mut self.core.listed, conn, slot);
        match operation {
            Operation::Accept => self.accepted(slot, &completion),
            Operation::Connect => self.connected(slot, completion.result),
            Operation::Recv => self.received(slot, completion),
            Operation::RecvOnce => self.received_once(slot, completion),
            Operation::Poll => self.polled(slot, completion.result),
            Operation::Send => self.sent(slot, completion.result),
            Operation::Close => self.release(slot),
            Operation::Shutdown | Operation::Cancel | Operation::Tick | Operation::Waker | Operation::File => {}
        }
    }

    fn connected(&mut self, slot: u32, result: Result<u32, i32>) {
        let who = self.core.slab.handle(slot);
        let conn = &mut self.core.slab[slot];
        match (conn.state, result) {
            (State::Dial, Ok(_)) if conn.flags.contains(Flags::TLS) => {
                tls::say_hello(&mut self.core, &mut self.service, who);
            }
            (State::Dial, Ok(_)) => upstream::connected(&mut self.core, &mut self.service, who),
            (State::Dial, Err(_)) => self.core.cut(who, Cause::UpstreamLost),
            _ => {}
        }
    }

    fn received(&mut self, slot: u32, completion: Completion) {
        let more = completion.more;
        if completion.result == Err(libc::ENOBUFS) {
            self.starves(slot);
        } else {
            self.take_in(slot, completion);
        }
        self.core.counters.rearms += u64::from(!more && self.core.slab[slot].wants_input());
    }

    /// A receive found no buffer. All of them are back when this turn ends, but as many as there are can be filled in
    /// the next, and no more: those who wait are armed again in their order, as many a turn as there are buffers.
    fn starves(&mut self, slot: u32) {
        self.core.counters.no_buffers += 1;
        let conn = &mut self.core.slab[slot];
        if !conn.hold.contains(Hold::BUFFER) {
            conn.hold.insert(Hold::BUFFER);
            self.core.starved.push_back(self.core.slab.handle(slot));
        }
    }

    /// The receives that found no buffer are armed again, as many as there are buffers.
    pub(super) fn feed_the_starved(&mut self) -> u32 {
        let count = self.core.starved.len().min(self.ring.buffers());
        for who in self.core.starved.drain(..count).collect::<Vec<_>>() {
            if let Some(conn) = self.core.slab.get_mut(who) {
                conn.hold.remove(Hold::BUFFER);
                self.core.list(who.slot);
            }
        }
        count as u32
    }

    /// A receive of a parked connection. It is read until there is nothing left, since the poll completes only
    /// when something new comes; after a hang-up, until the end has been read.
    fn received_once(&mut self, slot: u32, completion: Completion) {
        let filled = completion.buffer.as_ref().is_some_and(Lent::is_full);
        // What was reported while this receive was in flight: it may be unparked and parked again by what has come.
        let reported = match self.core.slab[slot].read {
            ReadEnd::Readable => Some(ReadEvent::Ready),
            ReadEnd::HungUp => Some(ReadEvent::HangUp),
            _ => None,
        };
        let after = match completion.result {
            Err(libc::EAGAIN) => Some(ReadEvent::Nothing),
            Err(libc::ENOBUFS) => Some(ReadEvent::More),
            _ => (filled || completion.nonempty).then_some(ReadEvent::More),
        };
        match completion.result {
            Err(libc::EAGAIN) => {}
            Err(libc::ENOBUFS) => self.starves(slot),
            _ => self.take_in(slot, completion),
        }
        let conn = &mut self.core.slab[slot];
        if let Some(event) = after {
            conn.step_read(event);
        }
        match reported {
            // What is held back is not read: a poll is armed anew before long, and reports it again (`polled`). Who
            // only waits for a buffer has one in the next turn.
            Some(_) if conn.is_held_back() && conn.hold != Hold::BUFFER => {
                conn.step_read(ReadEvent::Unpark);
                self.core.watch(slot);
            }
            Some(event) => {
                conn.step_read(event);
            }
            None => {}
        }
    }

    fn polled(&mut self, slot: u32, result: Result<u32, i32>) {
        let Ok(events) = result else { return };
        let broken = events & (libc::POLLHUP | libc::POLLERR) as u32 != 0;
        let hung_up = broken || events & libc::POLLRDHUP as u32 != 0;
        let conn = &mut self.core.slab[slot];
        conn.step_read(if hung_up { ReadEvent::HangUp } else { ReadEvent::Ready });
        // The end is behind the bytes in front of it, which are not received while the connection is held. Where they
        // never are, or change nothing, what the poll reports is taken for the end.
        let follows = conn.flags.contains(Flags::FOLLOWS);
        let waits = conn.state == State::Open || conn.hold.contains(Hold::VERDICT);
        let is_never_read = waits && (follows || !conn.protocol.is_carried());
        if conn.is_held_back() && is_never_read && (broken || hung_up && follows) {
            self.core.cut(self.core.slab.handle(slot), if broken { Cause::Reset } else { Cause::Gone });
        }
    }

    /// Bytes, the end, or a failure: what a receive brought.
    fn take_in(&mut self, slot: u32, completion: Completion) {
        let conn = &self.core.slab[slot];
        let (who, reads, parked) = (Handle::of(slot, conn), conn.reads(), conn.read.is_parked());
        let (tls, begins) = (conn.flags.contains(Flags::TLS), conn.state == State::Preface);
        match (completion.result, completion.buffer) {
            (Ok(1..), Some(mut bytes)) if reads => {
                if parked {
                    self.unpark(slot);
                }
                let receive = match tls {
                    _ if begins => preface::received,
                    true => tls::received,
                    false => read::received,
                };
                receive(&mut self.core, &mut self.service, who, &mut bytes);
            }
            (Ok(0), _) if reads && tls => tls::ended(&mut self.core, &mut self.service, who),
            (Ok(0), _) if reads => read::ended(&mut self.core, &mut self.service, slot),
            (Err(libc::ECANCELED), _) => {}
            (Err(_), _) => tls::lost(&mut self.core, who, Cause::Reset),
            _ => {}
        }
    }

    fn unpark(&mut self, slot: u32) {
        let (now, park_ticks) = (self.core.clock.now(), self.core.park_ticks);
        let conn = &mut self.core.slab[slot];
        let busy = now.saturating_sub(conn.last_received) < park_ticks || conn.held.contains(Held::RECV);
        if busy && conn.step_read(ReadEvent::Unpark) {
            self.core.counters.promotions += 1;
            self.core.watch(slot);
        }
    }

    fn sent(&mut self, slot: u32, result: Result<u32, i32>) {
        let conn = &mut self.core.slab[slot];
        let who = Handle::of(slot, conn);
        match (std::mem::take(&mut conn.sending), result) {
            (Sending::Batch(batch), result) => self.batch_sent(slot, batch, result),
            (Sending::Sealed(sealed), Ok(len)) => {
                conn.sending = if sealed > len { Sending::Sealed(sealed - len) } else { Sending::Idle };
                self.took(who, len as usize);
            }
            (_, Ok(len)) => self.took(who, len as usize),
            (_, Err(libc::ECANCELED)) if conn.state == State::Leaving => {}
            (_, Err(_)) => self.core.cut(who, Cause::Reset),
        }
    }

    /// A batch has come back.
    fn batch_sent(&mut self, slot: u32, batch: u32, result: Result<u32, i32>) {
        let now = self.core.now();
        match self.core.batch_done(slot, batch, result) {
            Some(len) => {
                self.core.counters.bytes_out += len as u64;
                let conn = &mut self.core.slab[slot];
                if len > 0 && !conn.is_websocket() {
                    conn.last_received = now;
                }
            }
            None if self.core.slab[slot].state == State::Leaving => {}
            None => self.core.cut(self.core.slab.handle(slot), Cause::Reset),
        }
    }

    /// The kernel has taken bytes for the peer.
    fn took(&mut self, who: Handle, len: usize) {
        let now = self.core.now();
        let conn = &mut self.core.slab[who.slot];
        self.core.pool.sent(&mut conn.out, len);
        let max_pending = self.core.limits[conn.limits].max_pending;
        if conn.is_upstream() {
            self.core.counters.upstream_bytes_out += len as u64;
        } else {
            self.core.counters.bytes_out += len as u64;
        }
        // A WebSocket client that takes all it is sent may still be dead beyond the next hop: then only what it sends
        // counts. One with a backlog lives as long as that shrinks.
        if !conn.is_websocket() || conn.hold.contains(Hold::SERVICE) || conn.out.pending() > 0 {
            conn.last_received = now;
        }
        // A closing handshake takes as long as the peer goes on taking what is queued before it.
        if conn.state == State::Closing || conn.is_ending() {
            conn.since = now;
        }
        if conn.flags.contains(Flags::FULL) && conn.out.pending() <= max_pending / 2 {
            self.writable(who);
        }
    }

    /// Below half of `max_pending` again.
    fn writable(&mut self, who: Handle) {
        let now = self.core.now();
        let conn = &mut self.core.slab[who.slot];
        conn.flags.remove(Flags::FULL);
        let (state, token) = (conn.state, conn.token);
        match state {
            State::Open => {
                let owned = conn.flags.contains(Flags::OWNED);
                read::pay_pong(&mut self.core, who);
                if owned {
                    self.service.event(&mut self.core.desk(), who, token, Event::Writable);
                }
            }
            // Requests that came meanwhile wait in the spill.
            State::Head => {
                conn.flags.insert(Flags::UNREAD);
                conn.since = now;
            }
            _ => {}
        }
    }
}

/// What the kernel holds no longer when such an operation has completed.
fn held(operation: Operation) -> Held {
    match operation {
        Operation::Accept => Held::ACCEPT,
        Operation::Connect => Held::CONNECT,
        Operation::Recv => Held::RECV,
        Operation::RecvOnce => Held::ONCE,
        Operation::Poll => Held::POLL,
        Operation::Send => Held::SEND,
        Operation::Shutdown => Held::SHUTDOWN,
        Operation::Close | Operation::Cancel | Operation::Tick | Operation::Waker | Operation::File => Held::CLOSE,
    }
}

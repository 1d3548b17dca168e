//! What a connection wants, held against what the kernel holds of it: the only caller of recv, poll, send,
//! shutdown and close.
//!
//! Nothing here remembers a step to be taken. Each connection that something happened to is settled once
//! before the turn ends, from its state alone, so that a receive that ended, a full queue or a lost race mend
//! themselves the next time.

use super::conn::{Flags, Held, ReadEvent, Sending, State, WriteEnd};
use super::desk::Desk;
use super::service::{Event, Services};
use crate::engine::{Operation, Ring, Tag};
use crate::mesh::Cause;

/// Asks of the kernel what this connection wants now.
pub fn reconcile<R: Ring, S: Services>(ring: &mut R, desk: &mut Desk, service: &mut S, slot: u32) {
    match desk.slab[slot].state {
        State::Free | State::Accept | State::Leaving => {}
        State::Dial => dial(ring, desk, slot),
        State::Head | State::Open => {
            arm_read(ring, desk, slot);
            write(ring, desk, service, slot);
        }
        State::Closing => {
            arm_read(ring, desk, slot);
            write(ring, desk, service, slot);
            part(desk, slot);
        }
    }
    if desk.slab[slot].state == State::Leaving {
        leave(ring, desk, slot);
    }
}

fn tag(desk: &Desk, slot: u32, operation: Operation) -> Tag {
    Tag::new(slot, desk.slab[slot].generation, operation)
}

fn dial<R: Ring>(ring: &mut R, desk: &mut Desk, slot: u32) {
    let tag = tag(desk, slot, Operation::Connect);
    let conn = &mut desk.slab[slot];
    let to = desk.side.get(conn.side).and_then(|cold| cold.dial.take());
    desk.side.tidy(&mut conn.side);
    let Some(to) = to else { return };
    match ring.connect(tag, &to) {
        Ok(()) => conn.held.insert(Held::CONNECT),
        Err(error) => {
            tracing::warn!(%error, upstream = ?to, "no socket for an upstream");
            desk.cut(desk.slab.handle(slot), Cause::UpstreamLost);
        }
    }
}

/// A busy connection is heard by a recv (multishot where frames or an upstream's bytes come), a parked one by a
/// multishot poll, one that is held back not at all until it is parked, soon after. So whoever is held back for longer
/// is still heard to leave. To go from one to another, the first is cancelled, and its last completion lets the second
/// begin.
fn arm_read<R: Ring>(ring: &mut R, desk: &mut Desk, slot: u32) {
    let conn = &desk.slab[slot];
    let parked = conn.read.is_parked();
    let wanted = match () {
        () if !conn.accepts_input() => Held::empty(),
        () if parked => Held::POLL,
        () if conn.is_held_back() => Held::empty(),
        () => Held::RECV,
    };
    let armed = conn.held & (Held::RECV | Held::POLL);
    cancel(ring, desk, slot, armed - wanted);
    if armed.is_empty() && !wanted.is_empty() {
        arm(ring, desk, slot, wanted);
    }
    read_once(ring, desk, slot);
}

fn arm<R: Ring>(ring: &mut R, desk: &mut Desk, slot: u32, wanted: Held) {
    match wanted {
        Held::RECV if desk.slab[slot].protocol.is_carried() => ring.recv(tag(desk, slot, Operation::Recv)),
        Held::RECV => ring.recv_next(tag(desk, slot, Operation::Recv)),
        _ => ring.poll(tag(desk, slot, Operation::Poll)),
    }
    desk.slab[slot].held.insert(wanted);
}

fn cancel<R: Ring>(ring: &mut R, desk: &mut Desk, slot: u32, what: Held) {
    let what = what - desk.slab[slot].cancelled;
    for one in what.iter() {
        ring.cancel(tag(desk, slot, operation(one)));
    }
    desk.slab[slot].cancelled.insert(what);
}

fn operation(held: Held) -> Operation {
    match held {
        Held::ACCEPT => Operation::Accept,
        Held::CONNECT => Operation::Connect,
        Held::RECV => Operation::Recv,
        Held::ONCE => Operation::RecvOnce,
        Held::POLL => Operation::Poll,
        Held::SEND => Operation::Send,
        Held::SHUTDOWN => Operation::Shutdown,
        _ => Operation::Close,
    }
}

/// A poll has spoken: what came is read without waiting. A paused connection remembers it.
fn read_once<R: Ring>(ring: &mut R, desk: &mut Desk, slot: u32) {
    let conn = &desk.slab[slot];
    let possible = conn.wants_input() && !conn.held.intersects(Held::ONCE | Held::RECV);
    if !conn.read.is_readable() || !possible {
        return;
    }
    ring.recv_once(tag(desk, slot, Operation::RecvOnce));
    let conn = &mut desk.slab[slot];
    conn.step_read(ReadEvent::Submit);
    conn.held.insert(Held::ONCE);
}

/// One send at a time; each takes what has queued since the last. FIN follows the last byte.
fn write<R: Ring, S: Services>(ring: &mut R, desk: &mut Desk, service: &mut S, slot: u32) {
    let conn = &desk.slab[slot];
    if conn.held.contains(Held::SEND) {
        return;
    }
    let offered = Flags::FOLLOWS | Flags::OFFERED;
    let follows = conn.flags.contains(offered) && conn.out.pending() == 0 && conn.can_send();
    if follows && send_batch(ring, desk, service, slot) {
        return;
    }
    let conn = &mut desk.slab[slot];
    if conn.out.pending() > 0 {
        let (pieces, count) = desk.pool.gather(&mut conn.out);
        conn.held.insert(Held::SEND);
        conn.sending = Sending::Queue;
        let send = tag(desk, slot, Operation::Send);
        // SAFETY: the pool keeps the pieces in place until `Pool::sent` or `Pool::clear`, which are called
        // only for the completion of this send or after it.
        unsafe { ring.send(send, &pieces[..count]) };
    } else {
        end_speech(ring, desk, slot);
    }
}

/// A connection that follows is sent what its service has for it, as far as the socket has room; see `batches.rs`.
fn send_batch<R: Ring, S: Services>(ring: &mut R, desk: &mut Desk, service: &mut S, slot: u32) -> bool {
    let (who, token) = (desk.slab.handle(slot), desk.slab[slot].token);
    let mut batch = desk.batches.batch();
    desk.slab[slot].flags.remove(Flags::OFFERED);
    service.event(desk, who, token, Event::Fill(&mut batch));
    let conn = &desk.slab[slot];
    if batch.is_empty() || !conn.can_send() || conn.out.pending() > 0 {
        desk.queue_batch(who, batch);
        return false;
    }
    let send = tag(desk, slot, Operation::Send);
    let batch = desk.batches.begin(batch);
    let conn = &mut desk.slab[slot];
    conn.held.insert(Held::SEND);
    conn.sending = Sending::Batch(batch);
    // SAFETY: the batch holds the messages that the pieces lie in, until the completion of this send ends the flight.
    unsafe { ring.send_now(send, desk.batches.get(batch).pieces()) };
    true
}

fn end_speech<R: Ring>(ring: &mut R, desk: &mut Desk, slot: u32) {
    let shutdown = tag(desk, slot, Operation::Shutdown);
    let conn = &mut desk.slab[slot];
    if conn.write == WriteEnd::FinWanted {
        conn.write = WriteEnd::FinSent;
        conn.held.insert(Held::SHUTDOWN);
        ring.shutdown(shutdown);
    } else if conn.write == WriteEnd::FinSent && conn.read.has_ended() && !conn.held.contains(Held::SHUTDOWN) {
        desk.cut(desk.slab.handle(slot), Cause::Closed);
    }
}

/// Both sides have said all: FIN goes out, and the peer's FIN is waited for, so that the last bytes are not
/// overtaken by a reset.
fn part(desk: &mut Desk, slot: u32) {
    let conn = &mut desk.slab[slot];
    let all_sent = conn.out.pending() == 0 && !conn.held.contains(Held::SEND);
    if !all_sent || !conn.flags.intersects(Flags::DISCARDS | Flags::CLOSE_RECEIVED) {
    } else if conn.read.has_ended() && !conn.held.contains(Held::SHUTDOWN) {
        desk.cut(desk.slab.handle(slot), Cause::Closed);
    } else if conn.write == WriteEnd::Open {
        conn.write = WriteEnd::FinWanted;
        desk.list(slot);
    }
}

/// Everything armed is cancelled; after the last completion the descriptor is closed; after that the slot is
/// free.
fn leave<R: Ring>(ring: &mut R, desk: &mut Desk, slot: u32) {
    let held = desk.slab[slot].held;
    if held.contains(Held::CLOSE) {
    } else if held.is_empty() {
        let close = tag(desk, slot, Operation::Close);
        desk.slab[slot].held.insert(Held::CLOSE);
        ring.close(close);
    } else {
        cancel(ring, desk, slot, held - Held::SHUTDOWN);
    }
}

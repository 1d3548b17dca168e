//! What a connection wants, held against what the kernel holds of it: the only caller of recv, poll, send,
//! shutdown and close.
//!
//! Nothing here remembers a step to be taken. Each connection that something happened to is settled once
//! before the turn ends, from its state alone, so that a receive that ended, a full queue or a lost race mend
//! themselves the next time.

use super::conn::{Flags, Held, ReadEvent, Sending, State, WriteEnd};
use super::core::Core;
use super::service::{Event, Services};
use crate::engine::{Operation, Ring, Tag};
use crate::mesh::Cause;

/// Asks of the kernel what this connection wants now.
pub fn reconcile<R: Ring, S: Services>(ring: &mut R, core: &mut Core, service: &mut S, slot: u32) {
    match core.slab[slot].state {
        State::Free | State::Accept | State::Leaving => {}
        State::Dial => dial(ring, core, slot),
        State::Head | State::Open => {
            arm_read(ring, core, slot);
            write(ring, core, service, slot);
        }
        State::Closing => {
            arm_read(ring, core, slot);
            write(ring, core, service, slot);
            part(core, slot);
        }
    }
    if core.slab[slot].state == State::Leaving {
        leave(ring, core, slot);
    }
}

fn tag(core: &Core, slot: u32, operation: Operation) -> Tag {
    Tag::new(slot, core.slab[slot].generation, operation)
}

fn dial<R: Ring>(ring: &mut R, core: &mut Core, slot: u32) {
    let tag = tag(core, slot, Operation::Connect);
    let conn = &mut core.slab[slot];
    let to = core.side.get_mut(conn.side).and_then(|cold| cold.dial.take());
    core.side.tidy(&mut conn.side);
    let Some(to) = to else { return };
    match ring.connect(tag, &to) {
        Ok(()) => conn.held.insert(Held::CONNECT),
        Err(error) => {
            tracing::warn!(%error, upstream = ?to, "no socket for an upstream");
            core.cut(core.slab.handle(slot), Cause::UpstreamLost);
        }
    }
}

/// A busy connection is read by a recv (multishot where frames or an upstream's bytes come), a parked one by a
/// multishot poll, one that is held back not at all until it is parked, soon after. So whoever is held back for longer
/// is still known to leave. To go from one to another, the first is cancelled, and its last completion lets the second
/// begin.
fn arm_read<R: Ring>(ring: &mut R, core: &mut Core, slot: u32) {
    let conn = &core.slab[slot];
    let parked = conn.read.is_parked();
    let wanted = match () {
        () if !conn.accepts_input() => Held::empty(),
        () if parked => Held::POLL,
        () if conn.is_held_back() => Held::empty(),
        () => Held::RECV,
    };
    let armed = conn.held & (Held::RECV | Held::POLL);
    cancel(ring, core, slot, armed - wanted);
    if armed.is_empty() && !wanted.is_empty() {
        arm(ring, core, slot, wanted);
    }
    read_once(ring, core, slot);
}

fn arm<R: Ring>(ring: &mut R, core: &mut Core, slot: u32, wanted: Held) {
    match wanted {
        Held::RECV if core.slab[slot].protocol.is_carried() => ring.recv(tag(core, slot, Operation::Recv)),
        Held::RECV => ring.recv_next(tag(core, slot, Operation::Recv)),
        _ => ring.poll(tag(core, slot, Operation::Poll)),
    }
    core.slab[slot].held.insert(wanted);
}

fn cancel<R: Ring>(ring: &mut R, core: &mut Core, slot: u32, what: Held) {
    let what = what - core.slab[slot].cancelled;
    for one in what.iter() {
        ring.cancel(tag(core, slot, operation(one)));
    }
    core.slab[slot].cancelled.insert(what);
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
fn read_once<R: Ring>(ring: &mut R, core: &mut Core, slot: u32) {
    let conn = &core.slab[slot];
    let possible = conn.wants_input() && !conn.held.intersects(Held::ONCE | Held::RECV);
    if !conn.read.is_readable() || !possible {
        return;
    }
    ring.recv_once(tag(core, slot, Operation::RecvOnce));
    let conn = &mut core.slab[slot];
    conn.step_read(ReadEvent::Submit);
    conn.held.insert(Held::ONCE);
}

/// One send at a time; each takes what has queued since the last. FIN follows the last byte.
fn write<R: Ring, S: Services>(ring: &mut R, core: &mut Core, service: &mut S, slot: u32) {
    let conn = &core.slab[slot];
    if conn.held.contains(Held::SEND) {
        return;
    }
    let offered = Flags::FOLLOWS | Flags::OFFERED;
    let follows = conn.flags.contains(offered) && conn.out.pending() == 0 && conn.can_send();
    if follows && send_batch(ring, core, service, slot) {
        return;
    }
    let conn = &mut core.slab[slot];
    if conn.out.pending() > 0 {
        let (pieces, count) = core.pool.gather(&mut conn.out);
        conn.held.insert(Held::SEND);
        conn.sending = Sending::Queue;
        let send = tag(core, slot, Operation::Send);
        // SAFETY: the pool keeps the pieces in place until `Pool::sent` or `Pool::clear`, which are called
        // only for the completion of this send or after it.
        unsafe { ring.send(send, &pieces[..count]) };
    } else {
        end_speech(ring, core, slot);
    }
}

/// A connection that follows is sent what its service has for it, as far as the socket has room; see `batches.rs`.
fn send_batch<R: Ring, S: Services>(ring: &mut R, core: &mut Core, service: &mut S, slot: u32) -> bool {
    let (who, token) = (core.slab.handle(slot), core.slab[slot].token);
    let mut batch = core.batches.batch();
    core.slab[slot].flags.remove(Flags::OFFERED);
    service.event(&mut core.desk(), who, token, Event::Fill(&mut batch));
    let conn = &core.slab[slot];
    if batch.is_empty() || !conn.can_send() || conn.out.pending() > 0 {
        core.queue_batch(who, batch);
        return false;
    }
    let send = tag(core, slot, Operation::Send);
    let batch = core.batches.begin(batch);
    let conn = &mut core.slab[slot];
    conn.held.insert(Held::SEND);
    conn.sending = Sending::Batch(batch);
    // SAFETY: the batch holds the messages that the pieces lie in, until the completion of this send ends the flight.
    unsafe { ring.send_now(send, core.batches.get(batch).pieces()) };
    true
}

fn end_speech<R: Ring>(ring: &mut R, core: &mut Core, slot: u32) {
    let shutdown = tag(core, slot, Operation::Shutdown);
    let conn = &mut core.slab[slot];
    if conn.write == WriteEnd::FinWanted {
        conn.write = WriteEnd::FinSent;
        conn.held.insert(Held::SHUTDOWN);
        ring.shutdown(shutdown);
    } else if conn.write == WriteEnd::FinSent && conn.read.has_ended() && !conn.held.contains(Held::SHUTDOWN) {
        core.cut(core.slab.handle(slot), Cause::Closed);
    }
}

/// Both sides have sent all: FIN goes out, and the peer's FIN is waited for, so that the last bytes are not
/// overtaken by a reset.
fn part(core: &mut Core, slot: u32) {
    let conn = &mut core.slab[slot];
    let all_sent = conn.out.pending() == 0 && !conn.held.contains(Held::SEND);
    if !all_sent || !conn.flags.intersects(Flags::DISCARDS | Flags::CLOSE_RECEIVED) {
    } else if conn.read.has_ended() && !conn.held.contains(Held::SHUTDOWN) {
        core.cut(core.slab.handle(slot), Cause::Closed);
    } else if conn.write == WriteEnd::Open {
        conn.write = WriteEnd::FinWanted;
        core.list(slot);
    }
}

/// Everything armed is cancelled; after the last completion the descriptor is closed; after that the slot is
/// free.
fn leave<R: Ring>(ring: &mut R, core: &mut Core, slot: u32) {
    let held = core.slab[slot].held;
    if held.contains(Held::CLOSE) {
    } else if held.is_empty() {
        let close = tag(core, slot, Operation::Close);
        core.slab[slot].held.insert(Held::CLOSE);
        ring.close(close);
    } else {
        cancel(ring, core, slot, held - Held::SHUTDOWN);
    }
}

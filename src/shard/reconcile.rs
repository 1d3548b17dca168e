//! What a connection wants, held against what the kernel holds of it: the only caller of recv, poll, send,
//! shutdown and close.
//!
//! Nothing here remembers a step to be taken. Each connection that something happened to is settled once
//! before the turn ends, from its state alone, so that a receive that ended, a full queue or a lost race mend
//! themselves the next time.

use super::conn::{Conn, Flags, Held, ReadEvent, Sending, State, WriteEnd};
use super::core::{Core, list};
use super::counters;
use super::outbox::Pool;
use super::service::{Event, Services};
use super::slab::Handle;
use super::tls;
use crate::engine::{Operation, Ring, Tag};
use crate::mesh::Cause;

/// Asks of the kernel what this connection wants now, and counts the stage that it has come to.
pub fn reconcile<R: Ring, S: Services>(ring: &mut R, core: &mut Core, service: &mut S, slot: u32) {
    let conn = &mut core.slab[slot];
    match conn.state {
        State::Free | State::Accept | State::Leaving => {}
        State::Dial => dial(ring, core, slot),
        State::Preface | State::Handshake | State::Head | State::Open | State::Closing => {
            arm_read(ring, conn, slot);
            if wants_batch(conn) {
                send_batch(ring, core, service, slot);
            } else if conn.flags.contains(Flags::TLS) {
                seal_and_write(ring, core, slot);
            } else {
                write(ring, &core.pool, conn, slot);
            }
            part(core, slot);
        }
    }
    let conn = &mut core.slab[slot];
    if conn.state == State::Leaving {
        leave(ring, conn, slot);
    }
    counters::gauge_stage(&mut core.counters, conn);
}

fn tag(conn: &Conn, slot: u32, operation: Operation) -> Tag {
    Tag::new(slot, conn.generation, operation)
}

fn dial<R: Ring>(ring: &mut R, core: &mut Core, slot: u32) {
    let conn = &mut core.slab[slot];
    let to = core.side.get_mut(conn.side).and_then(|cold| cold.dial.take());
    core.side.tidy(&mut conn.side);
    let Some(to) = to else { return };
    match ring.connect(tag(conn, slot, Operation::Connect), &to) {
        Ok(()) => conn.held.insert(Held::CONNECT),
        Err(error) => {
            tracing::warn!(%error, upstream = ?to, "no socket for an upstream");
            let who = Handle::of(slot, conn);
            core.cut(who, Cause::UpstreamLost);
        }
    }
}

/// A busy connection is read by a recv (multishot where frames or an upstream's bytes come), a parked one by a
/// multishot poll, one that is held back not at all until it is parked, soon after. So whoever is held back for longer
/// is still known to leave. To go from one to another, the first is cancelled, and its last completion lets the second
/// begin.
fn arm_read<R: Ring>(ring: &mut R, conn: &mut Conn, slot: u32) {
    let wanted = match () {
        () if !conn.accepts_input() => Held::empty(),
        () if conn.read.is_parked() => Held::POLL,
        () if conn.is_held_back() => Held::empty(),
        () => Held::RECV,
    };
    let armed = conn.held & (Held::RECV | Held::POLL);
    cancel(ring, conn, slot, armed - wanted);
    if armed.is_empty() && !wanted.is_empty() {
        arm(ring, conn, slot, wanted);
    }
    read_once(ring, conn, slot);
}

fn arm<R: Ring>(ring: &mut R, conn: &mut Conn, slot: u32, wanted: Held) {
    match wanted {
        Held::RECV if conn.protocol.is_carried() => ring.recv(tag(conn, slot, Operation::Recv)),
        Held::RECV => ring.recv_next(tag(conn, slot, Operation::Recv)),
        _ => ring.poll(tag(conn, slot, Operation::Poll)),
    }
    conn.held.insert(wanted);
}

fn cancel<R: Ring>(ring: &mut R, conn: &mut Conn, slot: u32, what: Held) {
    let what = what - conn.cancelled;
    for one in what.iter() {
        ring.cancel(tag(conn, slot, operation(one)));
    }
    conn.cancelled.insert(what);
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
fn read_once<R: Ring>(ring: &mut R, conn: &mut Conn, slot: u32) {
    let possible = conn.wants_input() && !conn.held.intersects(Held::ONCE | Held::RECV);
    if conn.read.is_readable() && possible {
        ring.recv_once(tag(conn, slot, Operation::RecvOnce));
        conn.step_read(ReadEvent::Submit);
        conn.held.insert(Held::ONCE);
    }
}

/// What goes out to a peer with TLS is sealed first.
fn seal_and_write<R: Ring>(ring: &mut R, core: &mut Core, slot: u32) {
    if core.slab[slot].flags.contains(Flags::TLS) {
        tls::seal(core, slot);
    }
    write(ring, &core.pool, &mut core.slab[slot], slot);
}

/// One send at a time; each takes what has queued since the last. FIN follows the last byte.
fn write<R: Ring>(ring: &mut R, pool: &Pool, conn: &mut Conn, slot: u32) {
    let sealed = if let Sending::Sealed(len) = conn.sending { Some(len as usize) } else { None };
    if conn.held.contains(Held::SEND) {
    } else if conn.out.pending() > 0 {
        let most = match sealed {
            // Never a byte in clear text.
            None if conn.flags.contains(Flags::TLS) => return,
            None => usize::MAX,
            Some(sealed) => sealed,
        };
        let (pieces, count) = pool.gather_front(&mut conn.out, most);
        conn.held.insert(Held::SEND);
        if sealed.is_none() {
            conn.sending = Sending::Queue;
        }
        // SAFETY: the pool keeps the pieces in place until `Pool::sent` or `Pool::clear`, which are called
        // only for the completion of this send or after it.
        unsafe { ring.send(tag(conn, slot, Operation::Send), &pieces[..count]) };
    } else if conn.write == WriteEnd::FinWanted {
        conn.write = WriteEnd::FinSent;
        conn.held.insert(Held::SHUTDOWN);
        ring.shutdown(tag(conn, slot, Operation::Shutdown));
    }
}

/// It follows, there is something for it, and nothing stands before that.
fn wants_batch(conn: &Conn) -> bool {
    let nothing_before = conn.out.pending() == 0 && !conn.held.contains(Held::SEND);
    conn.flags.contains(Flags::FOLLOWS | Flags::OFFERED) && nothing_before && conn.can_send()
}

/// A connection that follows is sent what its service has for it, as far as the socket has room; see `batches.rs`.
/// Where the service has queued something for it alone, that goes first.
fn send_batch<R: Ring, S: Services>(ring: &mut R, core: &mut Core, service: &mut S, slot: u32) {
    let mut batch = core.batches.batch();
    let conn = &mut core.slab[slot];
    conn.flags.remove(Flags::OFFERED);
    let (who, token) = (Handle::of(slot, conn), conn.token);
    service.event(&mut core.desk(), who, token, Event::Fill(&mut batch));
    let conn = &mut core.slab[slot];
    if batch.is_empty() || !conn.can_send() || conn.out.pending() > 0 {
        core.queue_batch(who, batch);
        return seal_and_write(ring, core, slot);
    }
    if conn.flags.contains(Flags::TLS) {
        tls::seal_batch(core, slot, &batch);
        core.batches.put_back(batch);
        return write(ring, &core.pool, &mut core.slab[slot], slot);
    }
    let batch = core.batches.begin(batch);
    conn.held.insert(Held::SEND);
    conn.sending = Sending::Batch(batch);
    // SAFETY: the batch holds the messages that the pieces lie in, until the completion of this send ends the flight.
    unsafe { ring.send_now(tag(conn, slot, Operation::Send), core.batches.get(batch).pieces()) };
}

/// The connection is over when both sides have sent all. Where we have, FIN goes out and the peer's FIN is waited for,
/// so that the last bytes are not overtaken by a reset.
fn part(core: &mut Core, slot: u32) {
    let conn = &mut core.slab[slot];
    let all_sent = conn.out.pending() == 0 && !conn.held.intersects(Held::SEND | Held::SHUTDOWN);
    let parts = conn.state == State::Closing && conn.flags.intersects(Flags::DISCARDS | Flags::CLOSE_RECEIVED);
    if !all_sent {
    } else if conn.read.has_ended() && (parts || conn.write == WriteEnd::FinSent) {
        let who = Handle::of(slot, conn);
        core.cut(who, Cause::Closed);
    } else if parts && conn.write == WriteEnd::Open {
        conn.write = WriteEnd::FinWanted;
        list(&mut core.listed, conn, slot);
    }
}

/// Everything armed is cancelled; after the last completion the descriptor is closed; after that the slot is
/// free.
fn leave<R: Ring>(ring: &mut R, conn: &mut Conn, slot: u32) {
    let held = conn.held;
    if held.contains(Held::CLOSE) {
    } else if held.is_empty() {
        conn.held.insert(Held::CLOSE);
        ring.close(tag(conn, slot, Operation::Close));
    } else {
        cancel(ring, conn, slot, held - Held::SHUTDOWN);
    }
}

//! What is done when a deadline has come.

use super::conn::{Exchange, Flags, Hold, ReadEvent, State};
use super::desk::Desk;
use super::due;
use crate::mesh::Cause;
use edgehold_wire::status::Status;
use edgehold_wire::ws::{self, CloseCode, Opcode};

/// Does what is due and sets the next deadline.
pub(super) fn look(desk: &mut Desk, slot: u32) {
    if due::is_unheard(&desk.slab[slot]) {
        park_it(desk, slot);
    }
    match desk.slab[slot].state {
        State::Free | State::Accept | State::Leaving => return,
        State::Dial => expired_dial(desk, slot),
        State::Head => expired_head(desk, slot),
        State::Closing => expired_closing(desk, slot),
        State::Open => expired_open(desk, slot),
    }
    desk.watch(slot);
}

fn expired_dial(desk: &mut Desk, slot: u32) {
    if desk.now() >= desk.slab[slot].since {
        desk.cut(desk.slab.handle(slot), Cause::UpstreamLost);
    }
}

fn expired_head(desk: &mut Desk, slot: u32) {
    let conn = &desk.slab[slot];
    let who = desk.slab.handle(slot);
    let spilled = desk.side.spilled(conn.side);
    if desk.now() < due::head(conn, &desk.limits[usize::from(conn.limits)], spilled) {
    } else if conn.hold.contains(Hold::VERDICT) {
        let conn = &mut desk.slab[slot];
        conn.hold.remove(Hold::VERDICT);
        conn.set_cause(Cause::IdleTimeout);
        desk.refuse_last(who, Status::GATEWAY_TIMEOUT, "no verdict on this request came within idle_timeout");
    } else if conn.flags.contains(Flags::FULL) {
        desk.cut(who, Cause::Stalled);
    } else if spilled > 0 {
        desk.slab[slot].set_cause(Cause::HeadTimeout);
        desk.refuse_last(who, Status::REQUEST_TIMEOUT, "no whole request head came within head_timeout");
    } else {
        let reused = conn.exchange.contains(Exchange::REUSED);
        desk.cut(who, if reused { Cause::IdleTimeout } else { Cause::HeadTimeout });
    }
}

/// The last bytes, or the peer's goodbye, did not come: it is cut off.
fn expired_closing(desk: &mut Desk, slot: u32) {
    let conn = &desk.slab[slot];
    if desk.now() >= conn.since + due::closing(conn, &desk.limits[usize::from(conn.limits)]) {
        let who = desk.slab.handle(slot);
        if conn.out.pending() > 0 {
            // What was to be the last word did not arrive: that is how the connection ended.
            desk.slab[slot].cause = Some(Cause::CloseTimeout);
        }
        desk.cut(who, Cause::CloseTimeout);
    }
}

fn expired_open(desk: &mut Desk, slot: u32) {
    let now = desk.now();
    let conn = &desk.slab[slot];
    let limits = &desk.limits[usize::from(conn.limits)];
    let quiet = now.saturating_sub(conn.last_received);
    let (idle, park) = (limits.idle_ticks, desk.park_ticks);
    if due::is_closing(conn) {
        // Whoever has said goodbye is not asked whether it is there.
        if now >= conn.since + limits.close_ticks {
            close_is_late(desk, slot);
        }
    } else if conn.is_stream() && !conn.has_unsent() {
        if quiet >= limits.keep_alive_ticks {
            desk.slab[slot].last_received = now;
            desk.quiet.push(slot);
        }
        if quiet >= park {
            park_it(desk, slot);
        }
    } else if quiet >= idle {
        silence_is_over(desk, slot);
    } else {
        if quiet >= idle / 2 {
            ping(desk, slot);
        }
        if quiet >= park {
            park_it(desk, slot);
        }
    }
}

/// A client's Close was not answered by the service, or an upstream goes on after our FIN.
fn close_is_late(desk: &mut Desk, slot: u32) {
    let who = desk.slab.handle(slot);
    if desk.slab[slot].is_upstream() {
        desk.cut(who, Cause::ClientLeft);
    } else {
        desk.close(who, CloseCode::NORMAL, "");
    }
}

/// Nothing was heard, or nothing taken, for all of `idle_timeout`.
fn silence_is_over(desk: &mut Desk, slot: u32) {
    let who = desk.slab.handle(slot);
    let conn = &mut desk.slab[slot];
    if conn.out.pending() > 0 {
        desk.cut(who, Cause::Stalled);
    } else if conn.is_upstream() || conn.is_held_back() {
        // An upstream may be silent for as long as its client is there; a paused peer cannot be heard.
        conn.last_received = desk.clock.now();
        park_it(desk, slot);
    } else if conn.exchange.contains(Exchange::ANSWERING) {
        // The head of a response is out: nothing but its body can follow.
        desk.cut(who, Cause::UpstreamLost);
    } else if conn.is_websocket() {
        conn.set_cause(Cause::IdleTimeout);
        desk.close(who, CloseCode::GOING_AWAY, "idle_timeout");
    } else {
        conn.set_cause(Cause::IdleTimeout);
        desk.refuse_last(who, Status::GATEWAY_TIMEOUT, "the service did not answer within idle_timeout");
    }
}

fn ping(desk: &mut Desk, slot: u32) {
    let conn = &mut desk.slab[slot];
    if !conn.is_websocket() || conn.flags.intersects(Flags::PINGED | Flags::CLOSE_SENT) {
        return;
    }
    conn.flags.insert(Flags::PINGED);
    let head = ws::head(Opcode::Ping, true, 0, None);
    desk.write_urgent(desk.slab.handle(slot), [head.as_bytes(), b""]);
}

/// From a multishot recv to a poll: see `reconcile.rs`.
fn park_it(desk: &mut Desk, slot: u32) {
    let conn = &mut desk.slab[slot];
    if conn.accepts_input() && conn.step_read(ReadEvent::Park) {
        desk.counters.parks += 1;
        desk.list(slot);
    }
}

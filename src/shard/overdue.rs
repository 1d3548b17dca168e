//! What is done when a deadline has come.

use super::conn::{Flags, State};
use super::deadline;
use super::desk::Desk;
use crate::mesh::Cause;
use edgehold_wire::status::Status;
use edgehold_wire::ws::{self, CloseCode, Opcode};

/// Does what is due and sets the next deadline.
pub(super) fn look(desk: &mut Desk, slot: u32) {
    if deadline::is_unheard(&desk.slab[slot]) {
        park_it(desk, slot);
    }
    match desk.slab[slot].state {
        State::Free | State::Accept | State::Leaving => return,
        State::Dial => look_at_dial(desk, slot),
        State::Head => look_at_head(desk, slot),
        State::Closing => look_at_closing(desk, slot),
        State::Open => look_at_open(desk, slot),
    }
    desk.watch(slot);
}

fn look_at_dial(desk: &mut Desk, slot: u32) {
    if desk.now() >= desk.slab[slot].since {
        desk.cut(desk.slab.handle(slot), Cause::UpstreamLost);
    }
}

fn look_at_head(desk: &mut Desk, slot: u32) {
    let conn = &desk.slab[slot];
    let who = desk.slab.handle(slot);
    let spilled = desk.annex.spilled(conn.annex);
    if desk.now() < deadline::head(conn, &desk.limits[usize::from(conn.limits)], spilled) {
    } else if conn.flags.contains(Flags::FULL) {
        desk.cut(who, Cause::Stalled);
    } else if spilled > 0 {
        desk.slab[slot].blame(Cause::HeadTimeout);
        desk.refuse_last(who, Status::REQUEST_TIMEOUT, "no whole request head came within head_timeout");
    } else {
        let reused = conn.flags.contains(Flags::REUSED);
        desk.cut(who, if reused { Cause::IdleTimeout } else { Cause::HeadTimeout });
    }
}

/// The last bytes, or the peer's goodbye, did not come: it is cut off.
fn look_at_closing(desk: &mut Desk, slot: u32) {
    let conn = &desk.slab[slot];
    if desk.now() >= conn.since + deadline::closing(conn, &desk.limits[usize::from(conn.limits)]) {
        let who = desk.slab.handle(slot);
        if conn.out.pending() > 0 {
            // What was to be the last word did not arrive: that is how the connection ended.
            desk.slab[slot].cause = Some(Cause::CloseTimeout);
        }
        desk.cut(who, Cause::CloseTimeout);
    }
}

fn look_at_open(desk: &mut Desk, slot: u32) {
    let now = desk.now();
    let conn = &desk.slab[slot];
    let limits = &desk.limits[usize::from(conn.limits)];
    let quiet = now.saturating_sub(conn.heard);
    let (idle, park) = (limits.idle_ticks, desk.park_ticks);
    if deadline::says_goodbye(conn) {
        // Whoever has said goodbye is not asked whether it is there.
        if now >= conn.since + limits.close_ticks {
            goodbye_is_late(desk, slot);
        }
    } else if conn.is_stream() && !conn.has_to_say() {
        if quiet >= limits.keep_alive_ticks {
            desk.slab[slot].heard = now;
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
fn goodbye_is_late(desk: &mut Desk, slot: u32) {
    let who = desk.slab.handle(slot);
    if desk.slab[slot].flags.contains(Flags::UPSTREAM) {
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
    } else if conn.flags.contains(Flags::UPSTREAM) || conn.is_held_back() {
        // An upstream may be silent for as long as its client is there; a paused peer cannot be heard.
        conn.heard = desk.clock.now();
        park_it(desk, slot);
    } else if conn.flags.contains(Flags::ANSWERING) {
        // The head of a response is out: nothing but its body can follow.
        desk.cut(who, Cause::UpstreamLost);
    } else if conn.flags.contains(Flags::WEBSOCKET) {
        conn.blame(Cause::IdleTimeout);
        desk.close(who, CloseCode::GOING_AWAY, "idle_timeout");
    } else {
        conn.blame(Cause::IdleTimeout);
        desk.refuse_last(who, Status::GATEWAY_TIMEOUT, "the service did not answer within idle_timeout");
    }
}

fn ping(desk: &mut Desk, slot: u32) {
    let conn = &mut desk.slab[slot];
    if !conn.flags.contains(Flags::WEBSOCKET) || conn.flags.intersects(Flags::PINGED | Flags::CLOSE_SAID) {
        return;
    }
    conn.flags.insert(Flags::PINGED);
    let head = ws::head(Opcode::Ping, true, 0, None);
    desk.write_urgent(desk.slab.handle(slot), [head.as_bytes(), b""]);
}

/// From a multishot recv to a poll: see `settle.rs`.
fn park_it(desk: &mut Desk, slot: u32) {
    let conn = &mut desk.slab[slot];
    if conn.listens() && !conn.flags.contains(Flags::PARKED) {
        conn.flags.insert(Flags::PARKED);
        desk.tally.parks += 1;
        desk.list(slot);
    }
}

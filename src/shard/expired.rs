//! What is done when a deadline has come.

use super::conn::{Exchange, Flags, Held, Hold, Protocol, ReadEnd, ReadEvent, State};
use super::core::Core;
use super::due;
use super::slab::Handle;
use super::tls;
use crate::mesh::{Cause, ServiceKind};
use edgehold_wire::status::Status;
use edgehold_wire::ws::{self, CloseCode, Opcode};

/// Does what is due and sets the next deadline.
pub(super) fn look(core: &mut Core, slot: u32) {
    core.lift_rate(slot);
    if due::is_unheard(&core.slab[slot]) {
        park_it(core, slot);
    }
    match core.slab[slot].state {
        State::Free | State::Accept | State::Leaving => return,
        State::Dial => expired_dial(core, slot),
        State::Preface => expired_preface(core, slot),
        State::Handshake => expired_handshake(core, slot),
        State::Head => expired_head(core, slot),
        State::Closing => expired_closing(core, slot),
        State::Open => expired_open(core, slot),
    }
    core.watch(slot);
}

fn expired_dial(core: &mut Core, slot: u32) {
    if core.now() >= core.slab[slot].since {
        tls::lost(core, core.slab.handle(slot), Cause::UpstreamLost);
    }
}

fn expired_preface(core: &mut Core, slot: u32) {
    let conn = &core.slab[slot];
    if core.now() >= conn.since + core.addresses.header_ticks(conn.origin) {
        core.cut(core.slab.handle(slot), Cause::ProxyTimeout);
    }
}

fn expired_handshake(core: &mut Core, slot: u32) {
    if core.slab[slot].is_upstream() {
        return expired_dial(core, slot);
    }
    if core.now() >= core.slab[slot].since + core.handshake_ticks {
        core.cut(core.slab.handle(slot), Cause::HandshakeTimeout);
    }
}

fn expired_head(core: &mut Core, slot: u32) {
    let conn = &core.slab[slot];
    let who = core.slab.handle(slot);
    let spilled = core.side.spilled(conn.side);
    if core.now() < due::head(conn, &core.limits[conn.limits], spilled) {
    } else if conn.hold.contains(Hold::VERDICT) {
        core.slab[slot].hold.remove(Hold::VERDICT);
        no_verdict(core, who);
    } else if conn.flags.contains(Flags::FULL) {
        core.cut(who, Cause::Stalled);
    } else if spilled > 0 {
        core.slab[slot].set_cause(Cause::HeadTimeout);
        core.desk().refuse_last(who, Status::REQUEST_TIMEOUT, "no whole request head came within head_timeout");
    } else {
        let reused = conn.exchange.contains(Exchange::REUSED);
        core.leave(who, if reused { Cause::IdleTimeout } else { Cause::HeadTimeout });
    }
}

/// Nobody has said in time what is to become of a request: at the gate who its client is, else its service.
fn no_verdict(core: &mut Core, who: Handle) {
    let conn = &mut core.slab[who.slot];
    if conn.service == ServiceKind::None {
        conn.set_cause(Cause::AuthTimeout);
        core.desk().refuse_last(who, Status::SERVICE_UNAVAILABLE, "nobody has said in time who you are");
    } else {
        conn.set_cause(Cause::IdleTimeout);
        core.desk().refuse_last(who, Status::GATEWAY_TIMEOUT, "no verdict on this request came within idle_timeout");
    }
}

/// The last bytes were not taken, or the peer's FIN did not come: it is cut off.
fn expired_closing(core: &mut Core, slot: u32) {
    let conn = &core.slab[slot];
    if core.now() >= conn.since + due::closing(conn, &core.limits[conn.limits]) {
        let who = core.slab.handle(slot);
        if conn.out.pending() > 0 {
            // What was to be the last word did not arrive: that is how the connection ended.
            core.slab[slot].cause = Some(Cause::CloseTimeout);
        }
        core.cut(who, Cause::CloseTimeout);
    }
}

fn expired_open(core: &mut Core, slot: u32) {
    let now = core.now();
    let is_over = now >= core.identities.end(slot) && !due::is_closing(&core.slab[slot]);
    if is_over && identity_is_over(core, slot) {
        return;
    }
    let conn = &core.slab[slot];
    let limits = &core.limits[conn.limits];
    let quiet = now.saturating_sub(conn.last_received);
    let (idle, park) = (limits.idle_ticks, core.park_ticks);
    if due::is_closing(conn) {
        // A peer whose end is under way is not pinged.
        if now >= conn.since + limits.close_ticks {
            close_is_late(core, slot);
        }
    } else if conn.is_stream() && !conn.has_unsent() {
        if quiet >= limits.keep_alive_ticks {
            core.slab[slot].last_received = now;
            core.due.quiet.push(slot);
        }
        if quiet >= park {
            park_it(core, slot);
        }
    } else if quiet >= idle {
        silence_is_over(core, slot);
    } else {
        if quiet >= idle / 2 {
            ping(core, slot);
        }
        if quiet >= park {
            park_it(core, slot);
        }
    }
}

/// What the client has shown of itself has ended: a response is the last, a WebSocket is closed, a stream ends. Whether
/// that is all there is to it; a request whose upstream has not answered yet may still become a WebSocket, and a
/// response has its other deadlines.
fn identity_is_over(core: &mut Core, slot: u32) -> bool {
    let who = core.slab.handle(slot);
    let conn = &mut core.slab[slot];
    conn.exchange.insert(Exchange::LAST);
    if !conn.is_websocket() && !conn.lasts() {
        return false;
    }
    conn.set_cause(Cause::Expired);
    let (code, is_stream) = (core.limits[conn.limits].expired_code, conn.lasts());
    core.identities.forget_end(slot);
    core.counters.auth_expired += 1;
    if is_stream {
        core.due.ended.push(slot);
    } else {
        core.desk().close(who, code, "the credentials have ended");
    }
    true
}

/// A client's Close was not answered by the service, or an upstream goes on after our FIN.
fn close_is_late(core: &mut Core, slot: u32) {
    let who = core.slab.handle(slot);
    if core.slab[slot].is_upstream() {
        core.cut(who, Cause::ClientLeft);
    } else {
        core.desk().close(who, CloseCode::NORMAL, "");
    }
}

/// Nothing was received, or nothing taken, for all of `idle_timeout`.
fn silence_is_over(core: &mut Core, slot: u32) {
    let who = core.slab.handle(slot);
    let conn = &mut core.slab[slot];
    if conn.out.pending() > 0 {
        core.cut(who, Cause::Stalled);
    } else if conn.is_upstream() || conn.is_held_back() || conn.protocol == Protocol::Raw {
        // An upstream may be silent for as long as its client is there; nothing is received from a paused peer; how
        // silent a client without HTTP may be is agreed on in its own protocol, which its service speaks.
        conn.last_received = core.clock.now();
        park_it(core, slot);
    } else if conn.exchange.contains(Exchange::ANSWERING) {
        // The head of a response is out: nothing but its body can follow.
        core.cut(who, Cause::UpstreamLost);
    } else if conn.is_websocket() {
        conn.set_cause(Cause::IdleTimeout);
        core.desk().close(who, CloseCode::GOING_AWAY, "idle_timeout");
    } else {
        conn.set_cause(Cause::IdleTimeout);
        core.desk().refuse_last(who, Status::GATEWAY_TIMEOUT, "the service did not answer within idle_timeout");
    }
}

fn ping(core: &mut Core, slot: u32) {
    let conn = &mut core.slab[slot];
    if !conn.is_websocket() || conn.flags.intersects(Flags::PINGED | Flags::CLOSE_SENT) {
        return;
    }
    conn.flags.insert(Flags::PINGED);
    let head = ws::head(Opcode::Ping, true, 0, None);
    core.write_urgent(core.slab.handle(slot), [head.as_bytes(), b""]);
}

/// From a multishot recv to a poll: see `reconcile.rs`.
fn park_it(core: &mut Core, slot: u32) {
    let conn = &mut core.slab[slot];
    // A poll that has reported something and is not cancelled yet would report it to nobody again.
    let has_poll = conn.read == ReadEnd::Receiving && (conn.held - conn.cancelled).contains(Held::POLL);
    if has_poll {
        core.list(slot);
    } else if conn.accepts_input() && conn.step_read(ReadEvent::Park) {
        core.counters.parks += 1;
        core.list(slot);
    }
}

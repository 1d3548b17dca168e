//! When a connection is to be looked at: every timeout, by state, as plain sums.
//!
//! Receiving only notes the tick in `Conn::last_received`; `expired.rs` looks when the time has come, and finds
//! out whether anything is due.

use super::conn::{Conn, Exchange, Flags, Hold, State};
use super::limits::RouteLimits;
use crate::mesh::ServiceKind;

/// Ticks that a connection in a spare slot stays when all was sent to it.
const SPARE_TICKS: u32 = 4;

/// The tick in which the connection is to be looked at; `None` where nothing can become due. The ticks are those after
/// which it is parked, and those that what comes before a head may take (a PROXY header, a handshake); `end` is that in
/// which it is no longer known who the client is.
pub(super) fn next(
    conn: &Conn,
    limits: &RouteLimits,
    (spilled, end): (usize, u32),
    (park_ticks, first_ticks): (u32, u32),
    now: u32,
) -> Option<u32> {
    let due = match conn.state {
        State::Free | State::Accept | State::Leaving => return None,
        // Both together have `connect_timeout`.
        State::Dial => return Some(conn.since),
        State::Handshake if conn.is_upstream() => return Some(conn.since),
        State::Preface | State::Handshake => conn.since + first_ticks,
        State::Head => head(conn, limits, spilled),
        State::Closing => conn.since + closing(conn, limits),
        State::Open => open(conn, limits, park_ticks, now).min(end),
    };
    Some(if is_unheard(conn) { due.min(now + 1) } else { due })
}

/// Ticks that the peer's FIN may take. Where others wait for that to be over it gets no more than the time to read what
/// it was told: a client in a spare slot 503, an upstream whose TLS has failed an alert.
pub(super) fn closing(conn: &Conn, limits: &RouteLimits) -> u32 {
    let told = conn.flags.intersects(Flags::SPARE | Flags::UPSTREAM) && !conn.has_unsent();
    if told { limits.close_ticks.min(SPARE_TICKS) } else { limits.close_ticks }
}

/// It is held back and nothing is armed that would tell of its end: it is parked within a tick.
pub(super) fn is_unheard(conn: &Conn) -> bool {
    conn.accepts_input() && conn.is_held_back() && !conn.read.is_parked()
}

/// A first head has `head_timeout` from the accept, or from the end of the handshake; a later one from its first byte,
/// before which the connection may be quiet for `idle_timeout`.
pub(super) fn head(conn: &Conn, limits: &RouteLimits, spilled: usize) -> u32 {
    let between = conn.exchange.contains(Exchange::REUSED) && spilled == 0;
    // What a client has sent behind requests whose responses it does not take is not looked at: no head is late.
    let waits_between = between || conn.flags.contains(Flags::FULL) || conn.hold.intersects(Hold::VERDICT | Hold::RATE);
    match (conn.hold.contains(Hold::VERDICT) && conn.service == ServiceKind::None, waits_between) {
        // It waits at the gate.
        (true, _) => conn.last_received + limits.auth_ticks,
        (false, true) => conn.last_received + limits.idle_ticks,
        (false, false) => conn.since + limits.head_ticks,
    }
}

fn open(conn: &Conn, limits: &RouteLimits, park_ticks: u32, now: u32) -> u32 {
    if is_closing(conn) {
        return conn.since + limits.close_ticks;
    }
    let mut due = conn.last_received + limits.idle_ticks;
    if conn.is_websocket() && !conn.flags.contains(Flags::PINGED) {
        due = due.min(conn.last_received + limits.idle_ticks / 2);
    }
    if conn.is_stream() {
        // What is on its way now may be gone soon, and nobody looks again before.
        let keep_alive = limits.keep_alive_ticks;
        due = if conn.has_unsent() { due.min(now + keep_alive) } else { conn.last_received + keep_alive };
    }
    if conn.wants_input() && !conn.read.is_parked() {
        due = due.min((conn.last_received + park_ticks).max(now + 1));
    }
    due
}

/// One side of an open connection has sent its end and waits for the other.
pub(super) fn is_closing(conn: &Conn) -> bool {
    conn.is_ending()
}

//! What connections hold of the pool, and who gives way when it is short.
//!
//! Every byte of the pool is charged to the connection whose chain it lies in (law 14: nobody pays for another). A
//! connection has a bound of its own over all that it holds, `connection_bytes`. Where the shard's memory is used up,
//! the connection that holds the most loses what it holds, not the next one that asks: whoever holds less than
//! [`HEAVY`] never gives way to another.

use super::conn::{Conn, State};
use super::core::{Chain, Core};
use super::outbox::{Exhausted, Outbox, Pool};
use super::side_table::{Cold, SideTable};
use super::slab::Handle;
use crate::mesh::Cause;
use edgehold_wire::ws::CloseCode;

/// Bytes from which a connection may have to give way.
const HEAVY: usize = 64 << 10;

/// Bytes of a chain that its 32-bit counts hold.
const CHAIN: usize = u32::MAX as usize;

impl Core {
    /// Bytes of the pool that a connection holds.
    pub(super) fn held(&self, slot: u32) -> usize {
        held(&self.slab[slot], &self.side)
    }

    /// Puts the parts into a chain of a connection, whoever has to give way for it.
    ///
    /// # Errors
    /// The connection holds too much already, or nobody holds more than it: nothing was put.
    pub(super) fn put(&mut self, who: Handle, chain: Chain, parts: [&[u8]; 2]) -> Result<(), Exhausted> {
        loop {
            match self.try_put(who, chain, parts) {
                Ok(()) => return Ok(()),
                Err(Refusal::PoolEmpty) if self.make_room(who) => {}
                Err(_) => return Err(Exhausted),
            }
        }
    }

    /// Room for bytes that the kernel is to write for a connection, whoever has to give way for it. It is charged to
    /// the connection when it is queued.
    ///
    /// # Errors
    /// As for [`Desk::put`]; or the connection is gone.
    pub(super) fn blank(&mut self, who: Handle, front: usize, len: usize) -> Result<Outbox, Exhausted> {
        let limits = self.slab.get(who).ok_or(Exhausted)?.limits;
        if self.held(who.slot) > self.limits[limits].connection_bytes {
            self.counters.connection_bytes_passed += 1;
            return Err(Exhausted);
        }
        loop {
            match self.pool.blank(front, len) {
                Ok(blank) => return Ok(blank),
                Err(Exhausted) if self.make_room(who) => {}
                Err(Exhausted) => return Err(Exhausted),
            }
        }
    }

    /// Queues what the kernel has written for a connection, behind a head for which room was left.
    pub(super) fn put_filled(&mut self, who: Handle, blank: Outbox, head: &[u8], len: usize) {
        let before = self.held(who.slot);
        self.pool.append_filled(&mut self.slab[who.slot].out, blank, head, len);
        if before < HEAVY && self.held(who.slot) >= HEAVY {
            self.note_heavy(who);
        }
    }

    fn try_put(&mut self, who: Handle, chain: Chain, parts: [&[u8]; 2]) -> Result<(), Refusal> {
        let Core { slab, side, pool, .. } = self;
        let conn = &mut slab[who.slot];
        let before = held(conn, side);
        let most = self.limits[conn.limits].connection_bytes;
        let bounded = !matches!(chain, Chain::Urgent | Chain::Front);
        if bounded && before > most || before + parts[0].len() + parts[1].len() > CHAIN {
            self.counters.connection_bytes_passed += 1;
            return Err(Refusal::HoldsTooMuch);
        }
        append(conn, side, pool, chain, parts).map_err(|Exhausted| Refusal::PoolEmpty)?;
        if before < HEAVY && held(conn, side) >= HEAVY {
            self.note_heavy(who);
        }
        Ok(())
    }

    /// Remembers whom to look at when memory is short. Those who hold less by now are forgotten from time to time, so
    /// that the list is no longer than what the pool can make heavy.
    fn note_heavy(&mut self, who: Handle) {
        if self.heavy.len() >= 64 + (self.pool.limit() as usize / HEAVY) {
            self.forget_light();
        }
        self.heavy.push(who);
    }

    fn forget_light(&mut self) {
        let mut heavy = std::mem::take(&mut self.heavy);
        heavy.sort_unstable_by_key(|who| who.to_raw());
        heavy.dedup();
        heavy.retain(|&who| self.slab.get_mut(who).is_some() && self.held(who.slot) >= HEAVY);
        self.heavy = heavy;
    }

    /// Takes from the one that holds the most what it holds, if that is more than what `who` does. `false`: nobody
    /// does.
    fn make_room(&mut self, who: Handle) -> bool {
        self.forget_light();
        let own = self.held(who.slot);
        let gives = |it: &&Handle| **it != who && gives_way(&self.slab[it.slot]);
        let largest = self.heavy.iter().filter(gives).max_by_key(|it| self.held(it.slot)).copied();
        let Some(largest) = largest.filter(|it| self.held(it.slot) > own) else { return false };
        self.give_up(largest);
        true
    }

    fn give_up(&mut self, who: Handle) {
        self.counters.evictions += 1;
        let (peer, held) = (self.slab[who.slot].peer.address(), self.held(who.slot));
        tracing::debug!(%peer, held, "a connection gives way: memory is short");
        self.overloaded(who);
    }

    /// A connection for which there is no memory left ends: it cannot be served, and pretending otherwise would lose
    /// messages silently. It loses at once what the kernel does not hold.
    pub(super) fn overloaded(&mut self, who: Handle) {
        let conn = &mut self.slab[who.slot];
        conn.set_cause(Cause::Overload);
        let Core { side, pool, .. } = self;
        if let Some(Cold { spill, gathered, .. }) = side.get_mut(conn.side) {
            pool.clear(spill);
            pool.clear(gathered);
        }
        // Behind a queue that is shed a Close frame would be taken for the rest of a message.
        if conn.is_websocket() && conn.can_send() && conn.out.pending() < HEAVY {
            self.close_discarding(who, CloseCode::TRY_AGAIN_LATER, "the edge is out of buffer memory");
        } else {
            self.cut(who, Cause::Overload);
            self.pool.shed(&mut self.slab[who.slot].out);
        }
    }
}

/// Why something could not be put.
enum Refusal {
    /// The connection holds more than it may.
    HoldsTooMuch,
    /// The pool has no room for it, unless somebody gives way.
    PoolEmpty,
}

fn held(conn: &Conn, side: &SideTable) -> usize {
    conn.out.held() + side.held(conn.side)
}

fn append(
    conn: &mut Conn,
    side: &mut SideTable,
    pool: &mut Pool,
    chain: Chain,
    parts: [&[u8]; 2],
) -> Result<(), Exhausted> {
    match chain {
        Chain::Queue => pool.append(&mut conn.out, parts),
        Chain::Urgent => pool.append_urgent(&mut conn.out, parts),
        Chain::Front => pool.prepend(&mut conn.out, parts[0]),
        Chain::Draft => pool.draft(&mut conn.out, parts[0]),
        Chain::Gathered => pool.draft(&mut side.make(&mut conn.side).gathered, parts[0]),
        Chain::CutRecord => pool.draft(&mut side.make(&mut conn.side).cut_record, parts[0]),
        Chain::Spill => pool.draft(&mut side.make(&mut conn.side).spill, parts[0]),
    }
}

/// One that is ending already has nothing left to give.
fn gives_way(conn: &Conn) -> bool {
    matches!(conn.state, State::Dial | State::Handshake | State::Head | State::Open)
        || conn.state == State::Closing && conn.out.held() >= HEAVY
}

//! What a client takes of a route: connections of all its clients and of each, and how fast each may send.
//!
//! It is counted in the table that all shards share, from the moment in which a request has passed the gate until it
//! is answered, or the WebSocket or stream that it opened has ended. What a receive has brought is charged once, behind
//! it:
//! who sends too fast is held back until the tick in which it is within its rate again ([`Hold::RATE`]), or closed.

use super::admission::count;
use super::conn::{Conn, Flags, Hold, State};
use super::core::{Core, list};
use super::slab::Handle;
use crate::mesh::{Cause, Entry, Meter, Most, Place, Rate, Refused};
use edgehold_wire::status::Status;
use edgehold_wire::ws::CloseCode;
use std::net::IpAddr;

/// Nanoseconds of a tick.
const TICK_NANOS: u64 = super::clock::TICK.as_nanos() as u64;

/// What clients of a route may have of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Connections of all clients; `None`: any number.
    pub connections: Option<u32>,
    /// What each client may have; `None`: whatever it takes.
    pub each: Option<Share>,
}

/// What one client may have of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Connections; `None`: any number.
    pub connections: Option<u32>,
    /// Whole messages and requests.
    pub messages: Option<Rate>,
    /// Bytes that are received.
    pub bytes: Option<Rate>,
    /// Who sends faster is closed, not held back.
    pub closes: bool,
}

/// Ticks in which those who are held back are read again, by slot; they are there when they were written.
#[derive(Default)]
pub(super) struct Waits(Vec<u32>);

impl Waits {
    fn set(&mut self, slot: u32, tick: u32) {
        if self.0.len() <= slot as usize {
            self.0.resize(slot as usize + 1, 0);
        }
        self.0[slot as usize] = tick;
    }

    /// The tick in which the connection in a slot is read again that is held to its rate; of others there is none.
    pub(super) fn end(&self, conn: &Conn, slot: u32) -> u32 {
        match self.0.get(slot as usize) {
            Some(tick) if conn.hold.contains(Hold::RATE) => *tick,
            _ => u32::MAX,
        }
    }
}

impl Core {
    /// A request has passed the gate of its route: it is counted under the route and under its client.
    ///
    /// # Errors
    /// One of them has as many connections as it may have; the connection is counted under neither then.
    pub(in crate::shard) fn share(&mut self, slot: u32) -> Result<(), Refused> {
        let again = self.unshare(slot);
        let Shares { connections, each } = self.limits[self.slab[slot].limits].shares;
        if let Some(most) = connections {
            let key = self.admission.tallies().key((1_u8, self.slab[slot].limits));
            let (place, is_full) = self.enter_share(key, most);
            if is_full {
                return Err(Refused::RouteConnections);
            }
            place.into_iter().for_each(|place| self.admission.routes.set(slot, place, false));
        }
        let Some(each) = each else { return Ok(()) };
        let Some(key) = self.client_key(slot) else { return Ok(()) };
        let (place, is_full) = self.enter_share(key, each.connections.unwrap_or(Most::ALL.connections));
        if is_full {
            self.unshare(slot);
            return Err(Refused::IdentityConnections);
        }
        place.into_iter().for_each(|place| self.admission.clients.set(slot, place, false));
        if !again {
            self.charge(self.slab.handle(slot), 1, 0);
        }
        Ok(())
    }

    /// The prefix of a client's address that is counted as one; `None`: it has none, behind a unix socket.
    pub(in crate::shard) fn prefix_of(&self, slot: u32) -> Option<IpAddr> {
        let conn = &self.slab[slot];
        let address = conn.peer.address().ip();
        (!address.is_unspecified()).then(|| self.admission.prefix(conn.origin, address))
    }

    /// By who it is, else by its address; `None`: it has none.
    fn client_key(&self, slot: u32) -> Option<crate::mesh::Key> {
        let (conn, tallies) = (&self.slab[slot], self.admission.tallies());
        if let Some(identity) = self.identities.get(slot) {
            return Some(tallies.key((2_u8, conn.limits, &*identity.name)));
        }
        self.prefix_of(slot).map(|prefix| tallies.key((3_u8, conn.limits, prefix)))
    }

    /// Where it is counted, and whether there are too many.
    fn enter_share(&mut self, key: crate::mesh::Key, connections: u32) -> (Option<Place>, bool) {
        let most = Most { connections, ..Most::ALL };
        let entry = Entry { key, most: &most, guest: false, forced: false };
        let entered = self.admission.tallies().enter(&entry, self.clock.nanos());
        count(&mut self.counters, &entered);
        (entered.place, entered.excess.is_some())
    }

    /// It is counted under no route and no client of one any more. Whether it was.
    pub(in crate::shard) fn unshare(&mut self, slot: u32) -> bool {
        let marks = [self.admission.routes.take(slot), self.admission.clients.take(slot)];
        for (place, _) in marks.into_iter().flatten() {
            self.counters.tallies_left += u64::from(self.admission.tallies().leave(place, false));
        }
        marks.iter().any(Option::is_some)
    }

    /// A client has sent so much more: it goes on, is held back, or is closed.
    pub(super) fn charge(&mut self, who: Handle, messages: u64, bytes: u64) {
        let Some(conn) = self.slab.get(who) else { return };
        let Some(share) = self.limits[conn.limits].shares.each else { return };
        let Some(place) = self.admission.clients.get(who.slot) else { return };
        let (now, tallies) = (self.clock.nanos(), self.admission.tallies());
        let charge = |meter, rate: Option<Rate>, units| match rate {
            Some(rate) if units > 0 => tallies.charge(place, meter, rate, units, now),
            _ => 0,
        };
        let wait = charge(Meter::First, share.messages, messages).max(charge(Meter::Second, share.bytes, bytes));
        if wait == 0 {
        } else if share.closes {
            self.close_too_fast(who);
        } else {
            let ticks = u32::try_from(wait.div_ceil(TICK_NANOS)).unwrap_or(u32::MAX);
            self.hold_to_rate(who.slot, ticks);
        }
    }

    fn close_too_fast(&mut self, who: Handle) {
        let words = "you send faster than one client may";
        let conn = &mut self.slab[who.slot];
        let (state, websocket) = (conn.state, conn.is_websocket());
        if !matches!(state, State::Head | State::Open) || conn.is_ending() {
            return;
        }
        self.counters.rate_closed += 1;
        conn.set_cause(Cause::Rate);
        match state {
            State::Head => self.desk().refuse_last(who, Status::TOO_MANY_REQUESTS, words),
            _ if websocket => self.close_discarding(who, CloseCode::POLICY_VIOLATION, words),
            _ => self.cut(who, Cause::Rate),
        }
    }

    fn hold_to_rate(&mut self, slot: u32, ticks: u32) {
        self.admission.waits.set(slot, self.clock.now().saturating_add(ticks));
        let conn = &mut self.slab[slot];
        if !conn.hold.contains(Hold::RATE) {
            conn.hold.insert(Hold::RATE);
            self.counters.rate_held += 1;
        }
        self.watch(slot);
        self.list(slot);
    }

    /// Its time has come: it is read again.
    pub(super) fn lift_rate(&mut self, slot: u32) {
        let (now, conn) = (self.clock.now(), &mut self.slab[slot]);
        if now < self.admission.waits.end(conn, slot) {
            return;
        }
        conn.hold.remove(Hold::RATE);
        conn.flags.insert(Flags::UNREAD);
        conn.last_received = now;
        list(&mut self.listed, conn, slot);
    }
}

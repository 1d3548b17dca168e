//! At the desk: connections to upstreams.

use super::Desk;
use crate::engine::Address;
use crate::mesh::{Cause, ServiceKind, UpstreamTls};
use crate::shard::conn::{Flags, Protocol, State, StateEvent, WriteEnd};
use crate::shard::slab::Handle;
use crate::shard::tls;

/// A call to an upstream.
#[derive(Debug)]
pub struct Dial {
    /// Where it is.
    pub to: Address,
    /// Bytes that are sent in front of everything else, as they are, TLS or not.
    pub first: Vec<u8>,
    /// TLS towards it; `None`: clear text.
    pub tls: Option<UpstreamTls>,
    /// Its number.
    pub upstream: u16,
    /// Whose connection it is.
    pub service: ServiceKind,
    /// Number of the limits that hold for it.
    pub limits: u16,
    /// Ticks that the connect may take, with the TLS handshake.
    pub timeout: u32,
    /// It may have one of the spare slots, where all others are taken: many clients need it.
    pub spare: bool,
}

impl Desk<'_> {
    /// Calls an upstream. The connection is the service's at once, by this token; it is told `Event::Connected` or
    /// `Event::Closed`. What is written meanwhile is queued. `None`: all slots are taken.
    pub fn dial(&mut self, dial: Dial, token: u32) -> Option<Handle> {
        if self.core.is_full() && !dial.spare {
            return None;
        }
        let slot = self.core.slab.take()?;
        let now = self.core.clock.now();
        let conn = &mut self.core.slab[slot];
        conn.step(StateEvent::Dial);
        conn.protocol = Protocol::Raw;
        conn.flags.insert(Flags::UPSTREAM | Flags::OWNED);
        (conn.token, conn.origin) = (token, dial.upstream);
        (conn.service, conn.last_received) = (dial.service, now);
        conn.since = now + dial.timeout;
        conn.flags.set(Flags::TLS, dial.tls.is_some());
        self.core.side.make(&mut conn.side).dial = Some(dial.to);
        if let Some(tls) = dial.tls {
            self.core.tls.call(slot, dial.upstream, tls);
        }
        self.core.set_limits(slot, dial.limits);
        self.core.counters.used += 1;
        self.core.watch(slot);
        self.core.list(slot);
        let who = self.core.slab.handle(slot);
        if self.core.slab[slot].flags.contains(Flags::TLS) {
            tls::queue_sealed(self.core, who, &dial.first);
        } else if !dial.first.is_empty() {
            self.core.write_urgent(who, [&dial.first, b""]);
        }
        Some(who)
    }

    /// FIN to an upstream behind what is queued. It may go on speaking for `close_timeout`.
    pub fn end(&mut self, who: Handle) {
        let now = self.core.clock.now();
        let Some(conn) = self.core.slab.get_mut(who) else { return };
        if matches!(conn.state, State::Dial | State::Handshake) {
            self.core.cut(who, Cause::ClientLeft);
        } else if conn.write == WriteEnd::Open {
            conn.write = WriteEnd::FinWanted;
            conn.since = now;
            self.core.watch(who.slot);
            self.core.list(who.slot);
        }
    }
}

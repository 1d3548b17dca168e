//! At the desk: what many clients are sent (`batches.rs`).

use super::Desk;
use crate::shard::conn::{Flags, Protocol, ReadEvent, Sending};
use crate::shard::slab::Handle;

/// What becomes of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The service is asked in this turn.
    Asked,
    /// A batch is in flight: to be offered again in the next turn.
    InFlight,
    /// The peer has not taken what it was sent: the service is asked when it has.
    Queued,
}

impl Desk<'_> {
    /// From now on the service is asked for what comes next (`Event::Fill`): now, and whenever it says that there is
    /// something ([`Desk::offer`]). Not whenever a send has completed: a busy feed would keep every follower's
    /// completions in the queue, and all others waiting behind them.
    pub fn follow(&mut self, who: Handle) {
        if let Some(conn) = self.core.slab.get_mut(who) {
            conn.flags.insert(Flags::FOLLOWS | Flags::OFFERED);
            // Nothing that the client of a stream sends matters: it costs least on a poll.
            if conn.protocol == Protocol::Http1 {
                conn.protocol = Protocol::Stream;
                self.core.counters.parks += u64::from(conn.step_read(ReadEvent::Park));
            }
            self.core.watch(who.slot);
            self.core.list(who.slot);
        }
    }

    /// No longer.
    pub fn unfollow(&mut self, who: Handle) {
        if let Some(conn) = self.core.slab.get_mut(who) {
            conn.flags.remove(Flags::FOLLOWS);
            if conn.is_stream() {
                conn.protocol = Protocol::Http1;
            }
            self.core.watch(who.slot);
        }
    }

    /// There is something for a connection that follows. It will be asked for in this turn, if nothing is on its way to
    /// the peer, or when what waits has been taken; not behind a batch in flight, for which the service offers again.
    pub fn offer(&mut self, who: Handle) -> Offer {
        let Some(conn) = self.core.slab.get_mut(who) else { return Offer::Asked };
        if matches!(conn.sending, Sending::Batch(_)) && conn.out.pending() == 0 {
            return Offer::InFlight;
        }
        conn.flags.insert(Flags::OFFERED);
        if conn.has_unsent() {
            return Offer::Queued;
        }
        self.core.list(who.slot);
        Offer::Asked
    }

    /// Bytes that wait to be taken by this peer, shared ones not counted.
    pub fn pending(&self, who: Handle) -> usize {
        self.core.slab.get(who).map_or(0, |conn| conn.out.pending())
    }
}

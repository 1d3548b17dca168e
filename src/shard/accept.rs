//! Clients to come: accepts are kept in flight, each with its slot, and whoever comes is made welcome or told that
//! there is no room.

use super::conn::{Flags, Held, Peer, StateEvent};
use super::counters;
use super::service::Services;
use super::slab::Handle;
use super::{Shard, preface, tls};
use crate::engine::{Completion, Operation, Ring, Tag};
use crate::mesh::Cause;
use std::io;

impl<R: Ring, S: Services> Shard<R, S> {
    /// Keeps accepts in flight at every listener, as long as there are slots to accept into.
    pub(super) fn arm_accepts(&mut self) -> u32 {
        let mut armed = 0;
        if self.core.draining || self.accepts.rests {
            return 0;
        }
        for listener in 0..self.accepts.armed.len() {
            while self.accepts.armed[listener] < self.accepts.wanted {
                let Some(slot) = self.core.slab.take() else { return armed };
                self.accept(slot, listener);
                armed += 1;
            }
        }
        armed
    }

    fn accept(&mut self, slot: u32, listener: usize) {
        let conn = &mut self.core.slab[slot];
        conn.step(StateEvent::Reserve);
        conn.held.insert(Held::ACCEPT);
        conn.origin = listener as u16;
        self.accepts.armed[listener] += 1;
        self.ring.accept(Tag::new(slot, conn.generation, Operation::Accept), listener);
    }

    pub(super) fn accepted(&mut self, slot: u32, completion: &Completion) {
        let listener = usize::from(self.core.slab[slot].origin);
        self.accepts.armed[listener] -= 1;
        match completion.result {
            Ok(_) => self.welcome(slot, listener, completion.tag),
            Err(errno) => {
                self.accept_failed(errno);
                self.release(slot);
            }
        }
    }

    fn accept_failed(&mut self, errno: i32) {
        if self.core.draining {
            return;
        }
        self.core.counters.accept_errors += 1;
        // A client that gave up while it waited is no reason to rest.
        self.accepts.rests |= errno != libc::ECONNABORTED;
        let (error, now) = (io::Error::from_raw_os_error(errno), self.core.now());
        if errno != libc::ECONNABORTED && self.accepts.refused.meet(now) {
            tracing::warn!(%error, shard = self.core.shard, "accepts fail; more of them are only counted");
        }
    }

    fn welcome(&mut self, slot: u32, listener: usize, tag: Tag) {
        let (full, now) = (self.core.is_full(), self.core.now());
        let who = self.core.slab.handle(slot);
        let conn = &mut self.core.slab[slot];
        conn.peer = Peer::new(self.ring.peer(tag));
        (conn.since, conn.last_received) = (now, now);
        self.core.counters.accepts[listener] += 1;
        if !self.core.draining && !self.admits(who) {
            return;
        }
        if self.core.draining || full {
            preface::admit(&mut self.core, who);
            return self.turn_away(who);
        }
        self.core.counters.used += 1;
        preface::begin(&mut self.core, who);
    }

    /// Whether its address may come in. Where not it is closed, without a word and before anything is read: that is the
    /// cheapest. Who may speak for others is held to nothing here; its clients are when it has named them.
    fn admits(&mut self, who: Handle) -> bool {
        let conn = &self.core.slab[who.slot];
        let (listener, peer) = (conn.origin, conn.peer);
        if self.core.addresses.speaks_for_others(listener, peer) || self.core.admit(who, peer.address().ip()).is_ok() {
            return true;
        }
        preface::admit(&mut self.core, who);
        // None of the slots that clients may have.
        self.core.slab[who.slot].flags.insert(Flags::SPARE);
        self.core.cut(who, Cause::Admission);
        false
    }

    /// What clients met and meet no longer.
    pub(super) fn look_at_troubles(&mut self) {
        let (shard, now) = (self.core.shard, self.core.now());
        if let Some(times) = self.accepts.full.over(now) {
            tracing::info!(shard, times, "the shard has free slots again");
        }
        if let Some(times) = self.accepts.refused.over(now) {
            tracing::info!(shard, times, "accepts succeed again");
        }
        if let Some(times) = self.core.addresses.refused.over(now) {
            tracing::info!(shard, times, "no connection is cut for its PROXY header any more");
        }
        self.core.admission.look_at_troubles(shard, now);
    }

    /// There is no slot for the client, and it is told so from a spare one.
    fn turn_away(&mut self, who: Handle) {
        if self.core.draining {
            return self.tell(who, "the server is stopping");
        }
        counters::refused_full(&mut self.core.counters);
        let now = self.core.now();
        if self.accepts.full.meet(now) {
            let (shard, slots) = (self.core.shard, self.core.slots);
            tracing::warn!(
                shard,
                slots,
                "all slots of a shard are taken: clients are sent away; more are only counted"
            );
        }
        self.tell(who, "all slots of this shard are taken");
    }

    /// With TLS there is no way to say it without a handshake, which a full shard does not make.
    fn tell(&mut self, who: Handle, words: &str) {
        if self.core.slab[who.slot].flags.contains(Flags::TLS) {
            tls::turn_away(&mut self.core, who);
        } else {
            self.core.desk().turn_away(who, words);
        }
    }
}

//! A shard: one core's loop over its own sockets.
//!
//! [`Shard::turn`] is the whole of it: letters, completions, deadlines, what was left over, and then every connection
//! that something happened to is settled with the kernel. A turn has a budget of work (`work.rs`) and never waits;
//! `pump.rs` calls it again and again, and sleeps when there was nothing to do.

mod accept;
mod addresses;
mod admission;
mod batches;
mod chunks;
pub mod clock;
mod completions;
mod compression;
pub mod conn;
mod core;
mod counters;
mod desk;
mod due;
mod expired;
mod files;
mod guard;
mod holdings;
mod identities;
mod limits;
pub mod outbox;
mod preface;
pub mod pump;
mod read;
mod reconcile;
pub mod service;
mod shares;
pub mod side_table;
pub mod slab;
mod tls;
mod trouble;
mod upstream;
mod work;

use self::core::Core;
use crate::engine::Ring;
use crate::mesh::{Cause, Peers, Receiver, Report, Sender, ShardLetters, ToControl, ToShard};
use clock::{Now, TICK};
use conn::{Exchange, Flags, Hold, State, StateEvent};
use service::Admission;
use service::{Event, Generation, Services, ShardSettings};
use slab::Handle;
use std::any::Any;
use std::io;
use std::time::Instant;
pub use tls::Signer;
use trouble::Trouble;
use work::{END, LETTER, LOOK};

/// Slots that are drained in one turn of a stopping shard.
const DRAINED_PER_TURN: u32 = 1024;

/// One core's loop.
///
/// Built by [`Shard::new`], driven by [`Shard::turn`] until [`Shard::is_done`].
pub struct Shard<R: Ring, S: Services> {
    ring: R,
    core: Core,
    service: S,
    letters: ShardLetters,
    accepts: Accepts,
    due: Vec<u32>,
    /// How often settings were exchanged.
    generation: u32,
    drain_position: Option<u32>,
    left: bool,
    /// Faults of ours end the process: see `guard.rs`.
    rethrows: bool,
}

/// Clients waited for.
struct Accepts {
    wanted: u32,
    armed: Vec<u32>,
    /// The kernel is short of something: no accept is armed before the next tick.
    rests: bool,
    /// Accepts that fail.
    refused: Trouble,
    /// Clients that find no slot.
    full: Trouble,
}

impl Accepts {
    fn new(settings: &ShardSettings) -> Accepts {
        let (wanted, armed) = (settings.accepts_in_flight, vec![0; settings.listeners]);
        Accepts { wanted, armed, rests: false, refused: Trouble::default(), full: Trouble::default() }
    }
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Something: another turn is due at once.
    Worked,
    /// Nothing: the shard may sleep until its waker rings.
    Idle,
}

/// What sends point to outlives them: the ring lets go of everything first, and where it does not within a bound the
/// memory is left to the kernel.
impl<R: Ring, S: Services> Drop for Shard<R, S> {
    fn drop(&mut self) {
        if !self.ring.end() {
            tracing::error!(shard = self.core.shard, "the kernel does not let go of sends: their memory is left to it");
            self.core.pool.leak();
            self.core.batches.leak();
            self.core.files.leak();
        }
    }
}

impl<R: Ring, S: Services> Shard<R, S> {
    /// A shard that accepts at its first turn.
    pub fn new(
        mut ring: R,
        service: S,
        settings: &ShardSettings,
        letters: Receiver<ToShard>,
        to_control: Sender<ToControl>,
    ) -> Self {
        ring.tick(TICK);
        Shard {
            ring,
            core: Core::new(settings, to_control),
            service,
            letters: ShardLetters::new(letters),
            accepts: Accepts::new(settings),
            due: Vec::new(),
            generation: 0,
            drain_position: None,
            left: false,
            rethrows: cfg!(debug_assertions),
        }
    }

    /// With mailboxes to and from the other shards; without, a shard has none.
    #[must_use]
    pub fn with_peers(mut self, peers: Peers) -> Self {
        self.core.peers = peers.to;
        self.letters.set_peers(peers.from);
        self
    }

    /// With a thread for steps of TLS handshakes that take long; without, the shard makes them itself.
    #[must_use]
    pub fn with_signer(mut self, signer: Option<Signer>) -> Self {
        signer.into_iter().for_each(|signer| self.core.tls.set_signer(signer));
        self
    }

    /// With limits by address, and what all shards count in; without, everybody may come in.
    #[must_use]
    pub fn with_admission(mut self, admission: Admission) -> Self {
        self.core.admission.set(admission);
        self
    }

    /// One turn: everything that is ready, within the budget.
    ///
    /// # Errors
    /// The ring failed; the shard cannot go on.
    pub fn turn(&mut self, now: Now) -> io::Result<Turn> {
        self.core.clock.set(now);
        self.core.counters.turns += 1;
        self.core.work.begin();
        let mut worked = self.take_letters() + self.drain_some() + self.arm_accepts() + self.feed_the_starved();
        self.ring.turn()?;
        worked += self.take_completions();
        worked += self.expire_timers();
        worked += self.read_on();
        worked += self.go_on();
        worked += self.do_files();
        worked += self.shake_hands();
        worked += self.reconcile_all();
        Ok(if worked > 0 || !self.core.later.is_empty() || self.core.files.has_wanted() {
            Turn::Worked
        } else {
            Turn::Idle
        })
    }

    /// The shard was told to stop, and nobody is left.
    pub fn is_done(&self) -> bool {
        self.left || self.drain_position.is_some() && self.core.slab.taken() == 0
    }

    /// The ring.
    pub fn ring(&mut self) -> &mut R {
        &mut self.ring
    }

    /// When the server began.
    pub fn begun(&self) -> Instant {
        self.core.admission.begun()
    }

    /// The services.
    pub fn services(&mut self) -> &mut S {
        &mut self.service
    }

    /// Letters wait to be read, or steps of handshakes that were made elsewhere.
    pub fn has_letters(&self) -> bool {
        !self.letters.is_empty() || self.core.tls.has_taken()
    }

    /// The shard's counters as they are now.
    pub fn report(&mut self) -> Report {
        let (ring, shard) = (self.ring.counts(), self.core.shard);
        let counters = &mut self.core.counters;
        (counters.cq_overflows, counters.enters, counters.wakes) = (ring.cq_overflow, ring.enters, ring.wakes);
        (counters.outbox_bytes, counters.outbox_limit) = (self.core.pool.in_use(), self.core.pool.limit());
        counters.outbox_resident = self.core.pool.resident();
        (counters.deflate_window_bytes, counters.deflate_window_limit) =
            (self.core.compression.window_bytes(), self.core.compression.window_limit());
        self.core.tls.gauge(counters);
        (counters.pending_bytes, counters.draining) = (self.core.pool.pending(), self.core.draining);
        let (counters, generation) = (counters.clone(), self.generation);
        Report { shard, generation, held: self.core.limits.held() + self.service.held(), counters }
    }

    // ---- letters ----

    /// As many as there are, or as a quarter of a turn has room for: the rest waits in the box.
    fn take_letters(&mut self) -> u32 {
        let mut taken = 0;
        while self.core.work.done() < self.core.work.floor() {
            let Some(letter) = self.letters.take() else { break };
            taken += 1;
            self.core.work.add(LETTER * letter.weight());
            self.guarded(None, |shard| shard.take_letter(letter));
        }
        taken
    }

    fn take_letter(&mut self, letter: ToShard) {
        match letter {
            ToShard::Report => self.send_report(),
            ToShard::Drain => self.drain(),
            ToShard::Leave => self.left = true,
            ToShard::Exchange(next) => self.exchange(&*next),
            letter => self.service.letter(&mut self.core.desk(), letter),
        }
    }

    fn exchange(&mut self, next: &dyn Any) {
        let Some(next) = next.downcast_ref::<Generation<S::Settings>>() else {
            debug_assert!(false, "settings of other services");
            return;
        };
        self.generation = next.number;
        self.core.limits.exchange(&next.limits);
        self.service.exchange(&mut self.core.desk(), &next.services);
    }

    fn send_report(&mut self) {
        let report = Box::new(self.report());
        self.core.desk().post(ToControl::Report(report));
    }

    fn drain(&mut self) {
        if self.drain_position.is_none() {
            self.core.draining = true;
            self.ring.close_listeners();
            self.drain_position = Some(0);
        }
    }

    /// Goes over the slots once, some of them a turn.
    fn drain_some(&mut self) -> u32 {
        let Some(from) = self.drain_position else { return 0 };
        let to = (from + DRAINED_PER_TURN).min(self.core.slab.touched());
        (from..to).for_each(|slot| self.drain_one(slot));
        self.drain_position = Some(to);
        to - from
    }

    fn drain_one(&mut self, slot: u32) {
        let who = self.core.slab.handle(slot);
        let conn = &mut self.core.slab[slot];
        let (state, token) = (conn.state, conn.token);
        if conn.is_upstream() {
            return;
        }
        match state {
            State::Head if conn.hold.contains(Hold::VERDICT) => conn.exchange.insert(Exchange::LAST),
            State::Preface | State::Handshake | State::Head => self.core.leave(who, Cause::Drained),
            State::Open if conn.is_websocket() || conn.lasts() => {
                conn.set_cause(Cause::Drained);
                self.service.event(&mut self.core.desk(), who, token, Event::Drain);
            }
            State::Open => conn.exchange.insert(Exchange::LAST),
            _ => {}
        }
    }

    // ---- deadlines ----

    fn expire_timers(&mut self) -> u32 {
        self.core.clock.sweep(&mut self.due);
        let (begun, mut looked) = (self.core.work.done(), 0);
        // Thousands may be due in one tick.
        while looked < self.due.len() && self.core.work.has_room_since(begun) {
            let slot = self.due[looked];
            looked += 1;
            self.guarded(Some(slot), |shard| shard.look_at(slot));
        }
        self.due.drain(..looked);
        while let Some(slot) = self.core.due.quiet.pop() {
            let (who, token) = (self.core.slab.handle(slot), self.core.slab[slot].token);
            self.guarded(Some(slot), |shard| shard.service.event(&mut shard.core.desk(), who, token, Event::KeepAlive));
        }
        while let Some(slot) = self.core.due.ended.pop() {
            let (who, token) = (self.core.slab.handle(slot), self.core.slab[slot].token);
            self.guarded(Some(slot), |shard| shard.service.event(&mut shard.core.desk(), who, token, Event::Drain));
        }
        looked as u32
    }

    fn look_at(&mut self, slot: u32) {
        let before = self.core.slab[slot].state;
        expired::look(&mut self.core, slot);
        let after = self.core.slab[slot].state;
        let ends = after != before && matches!(after, State::Closing | State::Leaving);
        self.core.work.add(if ends { END } else { LOOK });
    }

    // ---- what is left over ----

    /// What was received and what the last turn had no time for. What has come goes first, and each of these goes on
    /// once a turn; a quarter of a turn is theirs whatever has come.
    fn read_on(&mut self) -> u32 {
        let (begun, count) = (self.core.work.done(), self.core.later.len());
        for read in 0..count {
            if self.core.work.is_over() && self.core.work.done() >= begun + self.core.work.floor() {
                return read as u32;
            }
            let Some((who, debt)) = self.core.later.pop_front() else { break };
            self.guarded(Some(who.slot), |shard| shard.read_one(who, debt));
        }
        count as u32
    }

    fn read_one(&mut self, who: Handle, debt: u64) {
        let Some(conn) = self.core.slab.get_mut(who) else { return };
        if debt > 0 && conn.reads() {
            return self.core.later.push_back((who, self.core.work.pay(debt)));
        }
        conn.hold.remove(Hold::TURN);
        self.core.list(who.slot);
        read::reread(&mut self.core, &mut self.service, who);
    }

    /// What services have begun and not finished. What has come goes first, or its completions would stand before
    /// everything for ever; a quarter of a turn is the services' whatever has come, or they would never finish.
    fn go_on(&mut self) -> u32 {
        let mut done = 0;
        let budget = self.core.work.steps_left();
        self.guarded(None, |shard| done = shard.service.poll(&mut shard.core.desk(), budget));
        done
    }

    /// TLS handshakes whose turn has come: those inside go first, whatever clients want to come in, and a quarter of a
    /// turn is the handshakes' whatever there is to do for those inside.
    fn shake_hands(&mut self) -> u32 {
        let (begun, mut shaken) = (self.core.work.done(), 0);
        while let Some(taken) = self.core.tls.take_back() {
            shaken += 1;
            self.guarded(Some(taken.slot()), |shard| tls::returned(&mut shard.core, &mut shard.service, taken));
        }
        while self.core.work.has_room_since(begun) {
            let Some(slot) = self.core.tls.next_handshake() else { break };
            shaken += 1;
            self.guarded(Some(slot), |shard| tls::shake(&mut shard.core, &mut shard.service, slot));
        }
        shaken
    }

    // ---- the end of the turn ----

    fn reconcile_all(&mut self) -> u32 {
        let mut reconciled = 0;
        while let Some(slot) = self.core.listed.pop() {
            reconciled += 1;
            self.guarded(Some(slot), |shard| shard.reconcile(slot));
        }
        reconciled
    }

    fn reconcile(&mut self, slot: u32) {
        let mut conn = &mut self.core.slab[slot];
        conn.flags.remove(Flags::LISTED);
        if conn.reads() && (conn.flags.contains(Flags::UNREAD) || conn.read.has_ended()) {
            read::catch_up(&mut self.core, &mut self.service, slot);
            conn = &mut self.core.slab[slot];
        }
        if conn.state == State::Leaving {
            self.tell_end(slot);
        }
        reconcile::reconcile(&mut self.ring, &mut self.core, &mut self.service, slot);
    }

    /// The service is told of the end once, whoever brought it about.
    fn tell_end(&mut self, slot: u32) {
        let who = self.core.slab.handle(slot);
        let conn = &mut self.core.slab[slot];
        let (token, cause) = (conn.token, conn.cause.unwrap_or(Cause::Closed));
        if conn.flags.contains(Flags::OWNED) {
            conn.flags.remove(Flags::OWNED);
            self.service.event(&mut self.core.desk(), who, token, Event::Closed(cause));
        }
    }

    /// The kernel holds nothing of the slot any more.
    fn release(&mut self, slot: u32) {
        let conn = &mut self.core.slab[slot];
        if conn.state == State::Leaving {
            self.count_end(slot);
        }
        let conn = &mut self.core.slab[slot];
        conn.step(StateEvent::Release);
        counters::gauge_stage(&mut self.core.counters, conn);
        self.core.pool.clear(&mut conn.out);
        self.core.side.clear(conn.side, &mut self.core.pool);
        self.core.side.drop(&mut conn.side);
        self.core.clock.forget(slot);
        self.core.set_limits(slot, 0);
        self.core.forget(slot);
        self.core.unshare(slot);
        self.core.tls.drop_session(slot);
        self.core.identify(slot, None);
        self.core.slab.give_back(slot);
    }

    fn count_end(&mut self, slot: u32) {
        let conn = &self.core.slab[slot];
        let cause = conn.cause.unwrap_or(Cause::Closed);
        let upstream = conn.is_upstream();
        let subject = self.core.side.certificate(conn.side).map(|it| &*it.subject);
        let identity = self.core.identities.get(slot).map(|it| &*it.name);
        tracing::debug!(
            peer = %conn.peer.address(),
            upstream,
            service = conn.service.word(),
            cause = cause.word(),
            subject,
            identity,
            "connection ended"
        );
        if !upstream {
            self.core.counters.closes[cause as usize] += 1;
        }
        if !conn.flags.contains(Flags::SPARE) {
            self.core.counters.used -= 1;
        }
    }
}

//! TLS handshakes under way: what has come of each, which of them are due, what they hold, and who gives way.
//!
//! A hello is kept as it came until it is whole; then it waits for its turn, and when that has come the handshake
//! begins. Whatever the client sends later waits for its turn as well, and goes first. So what a signature takes is
//! charged to the shard's turn and never stands in front of those inside.
//!
//! Each stage has a share of `tls_handshake_bytes`: hellos that are not whole a quarter, those that wait a quarter,
//! handshakes that have begun a half. Where a share is used up the oldest goes of those whose clients are waited for:
//! it has had the longest time, and a client that answers at once is never the oldest. Of hellos that wait for the
//! shard the newest goes: the others have waited longer.

use edgehold_wire::tls::{Established, Failure, Handshake, has_record};
use slab::Slab;
use std::collections::BTreeMap;

/// What each takes beside what has come, in bytes: its places in the tables.
const ENTRY_BYTES: u64 = 128;

/// What one that has begun takes beside that, in bytes: docs/decisions/tls.md.
const HANDSHAKE_BYTES: u64 = 4 << 10;

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its hello is not whole: the client is waited for.
    Hello,
    /// Its hello is whole and waits for its turn.
    Queued,
    /// It has begun: the client is waited for.
    Begun,
    /// It has begun, and what has come waits for its turn.
    Due,
    /// A step of it is made by the signer.
    Away,
}

impl Stage {
    const COUNT: usize = 5;
}

/// One handshake.
struct Shaking {
    slot: u32,
    listener: u32,
    /// Its steps may take long, and are the signer's where there is one.
    is_slow: bool,
    stage: Stage,
    /// Counts those that have come; the lowest is the oldest.
    age: u64,
    /// What has come and was not fed.
    kept: Vec<u8>,
    /// How many bytes have come in all.
    received: u64,
    handshake: Option<Box<Handshake>>,
}

impl Shaking {
    /// What it holds. Once begun, what has come is counted on: part of it is kept as certificates.
    fn bytes(&self) -> u64 {
        let begun = if self.handshake.is_some() || self.stage == Stage::Away { HANDSHAKE_BYTES } else { 0 };
        ENTRY_BYTES + self.received + begun
    }
}

/// Those of one stage.
#[derive(Default)]
struct Share {
    bytes: u64,
    /// Slots by age.
    slots: BTreeMap<u64, u32>,
}

/// All handshakes under way of a shard.
#[derive(Default)]
pub(super) struct UnderWay {
    all: Slab<Shaking>,
    /// By stage; those that are slow have shares of their own.
    shares: [[Share; Stage::COUNT]; 2],
    /// `tls_handshake_bytes`.
    limit: u64,
    come: u64,
}

impl UnderWay {
    /// They may hold so many bytes.
    pub(super) fn new(limit: u64) -> UnderWay {
        UnderWay { limit, ..UnderWay::default() }
    }

    /// The first bytes are about to come. The number of the handshake.
    pub(super) fn add(&mut self, slot: u32, listener: u32, is_slow: bool) -> u32 {
        self.come += 1;
        let (stage, age, kept) = (Stage::Hello, self.come, Vec::new());
        let number =
            self.all.insert(Shaking { slot, listener, is_slow, stage, age, kept, received: 0, handshake: None });
        self.enter(number as u32);
        number as u32
    }

    /// Keeps what has come.
    pub(super) fn keep(&mut self, number: u32, bytes: &[u8]) {
        self.change(number, |it| {
            it.kept.extend_from_slice(bytes);
            it.received += bytes.len() as u64;
            it.stage = match it.stage {
                Stage::Hello if !has_record(&it.kept) => Stage::Hello,
                Stage::Hello | Stage::Queued => Stage::Queued,
                Stage::Begun | Stage::Due => Stage::Due,
                Stage::Away => Stage::Away,
            };
        });
    }

    /// It waits for its turn.
    pub(super) fn is_due(&self, number: u32) -> bool {
        matches!(self.all[number as usize].stage, Stage::Queued | Stage::Due)
    }

    /// The slot whose turn is next: handshakes that have begun are brought to their end first, which gives back what
    /// they hold. Slow ones are passed over unless `takes_slow`.
    pub(super) fn next_due(&self, takes_slow: bool) -> Option<u32> {
        let kinds = if takes_slow { &self.shares[..] } else { &self.shares[..1] };
        let oldest = |stage: Stage| {
            let first = kinds.iter().filter_map(|shares| shares[stage as usize].slots.first_key_value());
            first.min().map(|(_, &slot)| slot)
        };
        oldest(Stage::Due).or_else(|| oldest(Stage::Queued))
    }

    /// Feeds what was kept: see [`Handshake::feed`]. Where none has begun, `make` makes it for the number of its
    /// listener.
    ///
    /// # Errors
    /// It has failed, or `make` has.
    pub(super) fn feed(
        &mut self,
        number: u32,
        make: impl FnOnce(u32) -> Result<Handshake, Failure>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Established>, Failure> {
        let mut fed = Ok(None);
        self.change(number, |it| {
            let kept = std::mem::take(&mut it.kept);
            it.stage = Stage::Begun;
            let made = it.handshake.take().map_or_else(|| make(it.listener).map(Box::new), Ok);
            fed = made.and_then(|made| it.handshake.insert(made).feed(&kept, out));
        });
        fed
    }

    /// Its steps may take long.
    pub(super) fn is_slow(&self, number: u32) -> bool {
        self.all[number as usize].is_slow
    }

    /// Takes a handshake away with what was kept for it, until [`give_back`](Self::give_back). `make` as for
    /// [`feed`](Self::feed).
    ///
    /// # Errors
    /// That of `make`.
    pub(super) fn take_away(
        &mut self,
        number: u32,
        make: impl FnOnce(u32) -> Result<Handshake, Failure>,
    ) -> Result<(Box<Handshake>, Vec<u8>), Failure> {
        let mut kept = Vec::new();
        self.change(number, |it| {
            kept = std::mem::take(&mut it.kept);
            it.stage = Stage::Away;
        });
        let it = &mut self.all[number as usize];
        let handshake = it.handshake.take().map_or_else(|| make(it.listener).map(Box::new), Ok)?;
        Ok((handshake, kept))
    }

    /// A handshake of this slot has come back. `false`: nobody waits for it any more, and the number may be another's.
    pub(super) fn give_back(&mut self, slot: u32, number: u32, handshake: Box<Handshake>) -> bool {
        let is_its = |it: &Shaking| it.slot == slot && it.stage == Stage::Away;
        let waited_for = self.all.get(number as usize).is_some_and(is_its);
        if waited_for {
            self.change(number, |it| {
                it.stage = if it.kept.is_empty() { Stage::Begun } else { Stage::Due };
                it.handshake = Some(handshake);
            });
        }
        waited_for
    }

    /// What was answered took a signature that takes long: see [`Handshake::has_signed_slowly`].
    pub(super) fn has_signed_slowly(&self, number: u32) -> bool {
        self.all[number as usize].handshake.as_ref().is_some_and(|it| it.has_signed_slowly())
    }

    /// It is over, or its client has left.
    pub(super) fn remove(&mut self, number: u32) {
        self.leave(number);
        self.all.remove(number as usize);
    }

    /// Who gives way, and in which stage; `None`: no share is used up.
    pub(super) fn excess(&self) -> Option<(u32, Stage)> {
        let bytes = |stage: Stage| self.of_stage(stage).map(|it| it.bytes).sum::<u64>();
        if bytes(Stage::Hello) > self.limit / 4 {
            self.oldest(Stage::Hello)
        } else if bytes(Stage::Queued) > self.limit / 4 {
            self.newest(Stage::Queued)
        } else if bytes(Stage::Begun) + bytes(Stage::Due) + bytes(Stage::Away) > self.limit / 2 {
            self.oldest(Stage::Begun).or_else(|| self.newest(Stage::Due))
        } else {
            None
        }
    }

    /// How many there are in a stage.
    pub(super) fn count(&self, stage: Stage) -> u64 {
        self.of_stage(stage).map(|it| it.slots.len() as u64).sum()
    }

    /// What all of them hold, and may hold, in bytes.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.shares.iter().flatten().map(|it| it.bytes).sum(), self.limit)
    }

    // ---- shares ----

    fn of_stage(&self, stage: Stage) -> impl Iterator<Item = &Share> {
        self.shares.iter().map(move |shares| &shares[stage as usize])
    }

    fn oldest(&self, stage: Stage) -> Option<(u32, Stage)> {
        let first = self.of_stage(stage).filter_map(|it| it.slots.first_key_value());
        first.min().map(|(_, &slot)| (slot, stage))
    }

    fn newest(&self, stage: Stage) -> Option<(u32, Stage)> {
        let last = self.of_stage(stage).filter_map(|it| it.slots.last_key_value());
        last.max().map(|(_, &slot)| (slot, stage))
    }

    /// Whatever is changed, it is counted in the share of its stage.
    fn change(&mut self, number: u32, change: impl FnOnce(&mut Shaking)) {
        self.leave(number);
        change(&mut self.all[number as usize]);
        self.enter(number);
    }

    fn leave(&mut self, number: u32) {
        let it = &self.all[number as usize];
        let share = &mut self.shares[usize::from(it.is_slow)][it.stage as usize];
        share.bytes -= it.bytes();
        share.slots.remove(&it.age);
    }

    fn enter(&mut self, number: u32) {
        let it = &self.all[number as usize];
        let share = &mut self.shares[usize::from(it.is_slow)][it.stage as usize];
        share.bytes += it.bytes();
        share.slots.insert(it.age, it.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgehold_wire::tls::Reason;

    const LIMIT: u64 = 40_000;

    /// A hello with this number in its place of the slot. `whole`: it can be begun.
    fn with(under_way: &mut UnderWay, slot: u32, whole: bool) -> u32 {
        let number = under_way.add(slot, 0, false);
        let mut record = vec![22, 3, 1, 0, 200];
        record.resize(if whole { 205 } else { 204 }, 1);
        under_way.keep(number, &record);
        number
    }

    #[test]
    fn a_hello_is_due_when_it_is_whole_and_in_the_order_in_which_clients_came() {
        let mut under_way = UnderWay::new(LIMIT);
        let first = with(&mut under_way, 1, false);
        let second = with(&mut under_way, 2, true);
        assert_eq!(
            (under_way.is_due(first), under_way.is_due(second), under_way.next_due(true)),
            (false, true, Some(2))
        );
        under_way.keep(first, &[1]);
        assert_eq!((under_way.is_due(first), under_way.next_due(true)), (true, Some(1)));
        under_way.remove(first);
        assert_eq!(under_way.next_due(true), Some(2));
        under_way.remove(second);
        assert_eq!((under_way.next_due(true), under_way.bytes()), (None, (0, LIMIT)));
    }

    #[test]
    fn the_oldest_hello_that_is_not_whole_gives_way_and_the_newest_that_is() {
        let mut under_way = UnderWay::new(LIMIT);
        let each = ENTRY_BYTES + 205;
        let most = (LIMIT / 4 / each) as u32;
        for slot in 0..most {
            with(&mut under_way, slot, false);
            with(&mut under_way, 1000 + slot, true);
        }
        assert_eq!(under_way.excess(), None);
        let late = with(&mut under_way, 999, false);
        with(&mut under_way, 1999, true);
        assert_eq!(under_way.excess(), Some((0, Stage::Hello)));
        under_way.remove(late);
        assert_eq!(under_way.excess(), Some((1999, Stage::Queued)));
        assert_eq!([Stage::Hello, Stage::Queued].map(|stage| under_way.count(stage)), [most, most + 1].map(u64::from));
    }

    #[test]
    fn slow_ones_are_passed_over_while_their_thread_is_busy() {
        let mut under_way = UnderWay::new(LIMIT);
        let slow = under_way.add(1, 0, true);
        under_way.keep(slow, &[[22, 3, 1, 0, 1].as_slice(), &[1]].concat());
        let fast = with(&mut under_way, 2, true);
        assert_eq!((under_way.next_due(false), under_way.next_due(true)), (Some(2), Some(1)));
        under_way.remove(fast);
        assert_eq!((under_way.next_due(false), under_way.is_slow(slow)), (None, true));
        let gone = under_way.take_away(slow, |_| Err(Failure { reason: Reason::Internal, alert: None, detail: None }));
        assert!(gone.is_err());
        assert_eq!((under_way.next_due(true), under_way.count(Stage::Away)), (None, 1));
        under_way.remove(slow);
        assert_eq!(under_way.bytes(), (0, LIMIT));
    }
}

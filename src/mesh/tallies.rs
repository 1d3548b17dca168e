//! How many connections each client has, and how much it did lately: one table of counts and rates by key, for the
//! whole server.
//!
//! Like [`Health`](super::Health) it is shared memory and not a letter: a limit that holds for the whole server cannot
//! wait for an answer of other shards at each accept. Nobody waits here for anybody: each step is a compare-and-swap
//! that is tried [`TRIES`] times at most, and what the table cannot count it says so.
//!
//! A key has two *buckets* of [`WAYS`] entries, chosen by its hash, which is keyed anew in each process: nobody outside
//! can aim at a bucket. An *entry* is four words: the key's hash, its counts, and two theoretical arrival times (GCRA,
//! as in ITU-T I.371: the time at which all that was done would have been done at the rate). An entry stands for as
//! long as something is counted in it, at its *place*, which whoever was counted keeps: undoing is one addition there.
//! It may be *claimed* for another key when its counts are zero and its times have come: then it says no more than a
//! fresh one. So nothing that matters is ever forgotten; where no entry of the two buckets can be claimed, a key is not
//! counted ([`Entered::place`]).
//!
//! **No key has two entries.** Who claims one writes the key into it, and then looks for another entry of the key: of
//! two who claim for one key at the same time one at least sees the other and gives its claim up (Dekker's order:
//! store, fence, load). So the sums are exact: a limit is never passed. What is not exact is when a rate refuses: for a
//! moment the refused connection is counted, and another one may be refused for it. ci/loom plays two who come at once.

use super::atomic::{AtomicU64, Ordering, fence};
use super::zeroed::zeroed;
use std::hash::{BuildHasher as _, Hash, RandomState};

/// Entries of a bucket: their hashes are one cache line, and so is each other of their words.
const WAYS: usize = 8;

/// Words of a bucket: hashes, counts, and two lines of arrival times.
const BUCKET: usize = 4 * WAYS;

/// How often what others have changed in between is tried again.
const TRIES: usize = 16;

/// Most connections that an entry counts.
pub const CONNECTIONS_MAX: u32 = (1 << 24) - 1;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// What is counted under: a hash that nobody outside can foresee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

/// The place of an entry: it is that of one key for as long as something is counted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    /// As a number below 2³⁰.
    pub fn to_raw(self) -> u32 {
        self.0
    }

    /// From that number.
    pub fn from_raw(raw: u32) -> Place {
        Place(raw)
    }
}

/// So many a second, and so many at once; both at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In a second, on the long run.
    pub rate: u64,
    /// At once, by those who did nothing for long enough.
    pub burst: u64,
}

impl Rate {
    /// Nanoseconds that so many take at the rate, rounded up.
    fn time_of(self, units: u64) -> u64 {
        units.saturating_mul(SECOND).div_ceil(self.rate)
    }
}

/// Which of the two rates of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meter {
    /// Connections, or messages.
    First,
    /// Bytes.
    Second,
}

/// What a key may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// Connections at once, 1 to [`CONNECTIONS_MAX`].
    pub connections: u32,
    /// Of these, guests, 1 to [`CONNECTIONS_MAX`].
    pub guests: u32,
    /// New ones, by [`Meter::First`]; `None`: as fast as they come.
    pub connects: Option<Rate>,
}

impl Most {
    /// No limit but that of the table.
    pub const ALL: Most = Most { connections: CONNECTIONS_MAX, guests: CONNECTIONS_MAX, connects: None };
}

/// What a connection would be too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Connections at once.
    Connections,
    /// Guests.
    Guests,
    /// New ones by time.
    Rate,
}

/// What became of a connection that wanted to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// Where it is counted, until [`Tallies::leave`]; `None`: it is not, it was too much or the table has no room.
    pub place: Option<Place>,
    /// What it is too much of.
    pub excess: Option<Excess>,
    /// It is the first of its key.
    pub first: bool,
    /// The entry was that of another key before.
    pub forgotten: bool,
}

impl Entered {
    const NOWHERE: Entered = Entered { place: None, excess: None, first: false, forgotten: false };
}

/// A connection that wants to be counted.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'m> {
    /// Under what.
    pub key: Key,
    /// What the key may have.
    pub most: &'m Most,
    /// It is a guest until [`Tallies::is_no_guest`].
    pub guest: bool,
    /// It is counted even where it is too much.
    pub forced: bool,
}

/// The counts of an entry, in one word: connections and guests, 24 bits each; whether it is claimed; and a version,
/// which changes whenever it is claimed or left, so that a word that is the same says that nothing has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts(u64);

impl Counts {
    const CONNECTION: u64 = 1;
    const GUEST: u64 = 1 << 24;
    const CLAIMED: u64 = 1 << 48;
    const VERSION: u64 = 1 << 49;

    fn connections(self) -> u32 {
        self.0 as u32 & CONNECTIONS_MAX
    }

    fn guests(self) -> u32 {
        (self.0 >> 24) as u32 & CONNECTIONS_MAX
    }

    fn is_claimed(self) -> bool {
        self.0 & Self::CLAIMED != 0
    }

    /// With one connection more.
    fn with(self, guest: bool) -> Counts {
        Counts(self.0 + Self::CONNECTION + if guest { Self::GUEST } else { 0 })
    }

    /// Of nobody, under another version.
    fn emptied(self) -> Counts {
        Counts((self.0 & !(Self::VERSION - 1)).wrapping_add(Self::VERSION))
    }

    fn claimed(self) -> Counts {
        Counts(self.0 | Self::CLAIMED)
    }

    /// What it would be too much of.
    fn excess(self, entry: &Entry<'_>) -> Option<Excess> {
        if self.connections() >= entry.most.connections {
            Some(Excess::Connections)
        } else if entry.guest && self.guests() >= entry.most.guests {
            Some(Excess::Guests)
        } else {
            None
        }
    }
}

/// What a search for a key has found.
enum Found {
    /// Its entry, as it is counted now.
    At(Place, Counts),
    /// Somebody makes an entry for it just now.
    Claimed,
    /// None.
    Nowhere,
}

/// What became of a claim.
enum Claim {
    /// The key has this entry, with one connection in it; it was another key's before.
    Made(Place, bool),
    /// Somebody else was there as well.
    Lost,
    /// No entry can be claimed.
    Full,
}

/// The table.
#[derive(Debug)]
pub struct Tallies {
    words: Box<[AtomicU64]>,
    /// The first word that begins a cache line.
    base: usize,
    buckets: u32,
    hash: RandomState,
}

impl Tallies {
    /// Room for `entries`, 32 bytes each, whose memory is there when it is written.
    pub fn new(entries: u64) -> Tallies {
        let buckets = entries.div_ceil(WAYS as u64).clamp(1, 1 << 27) as u32;
        let words = zeroed((buckets as usize + 1) * BUCKET);
        let base = words.as_ptr().align_offset(64).min(BUCKET);
        Tallies { words, base, buckets, hash: RandomState::new() }
    }

    /// Entries that there is room for.
    pub fn capacity(&self) -> u64 {
        u64::from(self.buckets) * WAYS as u64
    }

    /// What is counted under the hash of something. Two things have one key once in 2⁶⁴.
    pub fn key(&self, of: impl Hash) -> Key {
        Key(self.hash.hash_one(of).max(1))
    }

    /// Counts a connection, `now` being nanoseconds on a clock that all callers share. Where it is too much it is not
    /// counted, nor its rate charged, unless it is forced.
    pub fn enter(&self, entry: &Entry<'_>, now: u64) -> Entered {
        for _ in 0..TRIES {
            let entered = match self.find(entry.key) {
                Found::At(place, counts) => self.count(place, counts, entry, now),
                Found::Nowhere => self.make(entry, now),
                Found::Claimed => None,
            };
            if let Some(entered) = entered {
                return entered;
            }
            std::hint::spin_loop();
        }
        Entered::NOWHERE
    }

    /// A connection that was counted at `place` is gone; `guest`: it still was one. Whether it was the last one there.
    pub fn leave(&self, place: Place, guest: bool) -> bool {
        let less = Counts::CONNECTION + if guest { Counts::GUEST } else { 0 };
        // Release: what was done to the rates before comes before.
        let before = Counts(self.counts(place).fetch_add(Counts::VERSION.wrapping_sub(less), Ordering::AcqRel));
        debug_assert!(before.connections() > 0 && before.guests() >= u32::from(guest), "{before:?} is left");
        before.connections() == 1
    }

    /// A connection that was counted at `place` as a guest is none any more.
    pub fn is_no_guest(&self, place: Place) {
        let before = Counts(self.counts(place).fetch_sub(Counts::GUEST, Ordering::AcqRel));
        debug_assert!(before.guests() > 0, "{before:?} has no guest");
    }

    /// Charges what was done by a connection that is counted at `place`. Returns the nanoseconds until the key is
    /// within its rate again: zero while it is.
    pub fn charge(&self, place: Place, meter: Meter, rate: Rate, units: u64, now: u64) -> u64 {
        let cell = self.time(place, meter);
        let add = |time: u64| Some(time.max(now).saturating_add(rate.time_of(units)));
        let before = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).unwrap_or(0);
        let after = before.max(now).saturating_add(rate.time_of(units));
        after.saturating_sub(now.saturating_add(rate.time_of(rate.burst)))
    }

    // ---- an entry that is there ----

    /// `None`: it is not what it was any more.
    fn count(&self, place: Place, counts: Counts, entry: &Entry<'_>, now: u64) -> Option<Entered> {
        let excess = counts.excess(entry);
        let is_full = counts.connections() == CONNECTIONS_MAX;
        if is_full || excess.is_some() && !entry.forced {
            return Some(Entered { excess, ..Entered::NOWHERE });
        }
        let swap = self.counts(place).compare_exchange(
            counts.0,
            counts.with(entry.guest).0,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        swap.ok()?;
        let entered = Entered { place: Some(place), excess, first: counts.connections() == 0, forgotten: false };
        Some(self.held_to_rate(entered, entry, now))
    }

    /// Its rate, where nothing else is too much. It is counted already, so that the entry stays what it is.
    fn held_to_rate(&self, entered: Entered, entry: &Entry<'_>, now: u64) -> Entered {
        let (Some(place), None, Some(rate)) = (entered.place, entered.excess, entry.most.connects) else {
            return entered;
        };
        if self.take_one(place, rate, now) {
            return entered;
        }
        let excess = Some(Excess::Rate);
        if entry.forced {
            return Entered { excess, ..entered };
        }
        self.leave(place, entry.guest);
        Entered { excess, ..Entered::NOWHERE }
    }

    fn take_one(&self, place: Place, rate: Rate, now: u64) -> bool {
        let latest = now.saturating_add(rate.time_of(rate.burst));
        let next = |time: u64| Some(time.max(now) + rate.time_of(1)).filter(|next| *next <= latest);
        self.time(place, Meter::First).fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    // ---- an entry to be made ----

    fn make(&self, entry: &Entry<'_>, now: u64) -> Option<Entered> {
        match self.claim(entry, now) {
            Claim::Made(place, forgotten) => {
                let entered = Entered { place: Some(place), excess: None, first: true, forgotten };
                Some(self.held_to_rate(entered, entry, now))
            }
            Claim::Lost => None,
            Claim::Full => Some(Entered::NOWHERE),
        }
    }

    fn claim(&self, entry: &Entry<'_>, now: u64) -> Claim {
        let Some((place, counts)) = self.claimable(entry.key, now) else { return Claim::Full };
        let claimed = counts.emptied().claimed();
        let cell = self.counts(place);
        if cell.compare_exchange(counts.0, claimed.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Claim::Lost;
        }
        let forgotten = self.hash_at(place).load(Ordering::Relaxed) != 0;
        for meter in [Meter::First, Meter::Second] {
            self.time(place, meter).store(0, Ordering::Relaxed);
        }
        self.hash_at(place).store(entry.key.0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.stands_elsewhere(entry.key, place) {
            self.hash_at(place).store(0, Ordering::Relaxed);
            cell.store(claimed.emptied().0, Ordering::Release);
            return Claim::Lost;
        }
        cell.store(claimed.emptied().with(entry.guest).0, Ordering::Release);
        Claim::Made(place, forgotten)
    }

    /// An entry that says nothing: in the emptier of the two buckets, which keeps them even; there one that never was
    /// a key's before one that was.
    fn claimable(&self, key: Key, now: u64) -> Option<(Place, Counts)> {
        let [first, second] = self.buckets(key).map(|bucket| self.claimable_in(bucket, now));
        let (_, found) = if second.0 > first.0 { second } else { first };
        found
    }

    /// How many there are, and the one to take.
    fn claimable_in(&self, bucket: usize, now: u64) -> (usize, Option<(Place, Counts)>) {
        let (mut count, mut found, mut is_new) = (0, None, false);
        for place in places(bucket) {
            let counts = Counts(self.counts(place).load(Ordering::Acquire));
            let is_blank = self.hash_at(place).load(Ordering::Relaxed) == 0;
            if counts.is_claimed() || counts.connections() > 0 || !(is_blank || self.has_recovered(place, now)) {
                continue;
            }
            count += 1;
            if found.is_none() || is_blank && !is_new {
                (found, is_new) = (Some((place, counts)), is_blank);
            }
        }
        (count, found)
    }

    fn has_recovered(&self, place: Place, now: u64) -> bool {
        [Meter::First, Meter::Second].iter().all(|meter| self.time(place, *meter).load(Ordering::Relaxed) <= now)
    }

    fn stands_elsewhere(&self, key: Key, here: Place) -> bool {
        let places = self.buckets(key).into_iter().flat_map(places);
        places.filter(|place| *place != here).any(|place| self.hash_at(place).load(Ordering::Relaxed) == key.0)
    }

    // ---- the words ----

    /// The counts are read before the hash is: where a swap finds the counts unchanged, the hash was the entry's.
    fn find(&self, key: Key) -> Found {
        for place in self.buckets(key).into_iter().flat_map(places) {
            if self.hash_at(place).load(Ordering::Relaxed) != key.0 {
                continue;
            }
            let counts = Counts(self.counts(place).load(Ordering::Acquire));
            if counts.is_claimed() {
                return Found::Claimed;
            }
            if self.hash_at(place).load(Ordering::Relaxed) == key.0 {
                return Found::At(place, counts);
            }
        }
        Found::Nowhere
    }

    fn buckets(&self, Key(hash): Key) -> [usize; 2] {
        [hash & u64::from(u32::MAX), hash >> 32].map(|half| ((half * u64::from(self.buckets)) >> 32) as usize)
    }

    fn hash_at(&self, place: Place) -> &AtomicU64 {
        self.word(place, 0)
    }

    fn counts(&self, place: Place) -> &AtomicU64 {
        self.word(place, 1)
    }

    fn time(&self, place: Place, meter: Meter) -> &AtomicU64 {
        self.word(place, 2 + meter as usize)
    }

    fn word(&self, Place(place): Place, line: usize) -> &AtomicU64 {
        let (bucket, way) = (place as usize / WAYS, place as usize % WAYS);
        &self.words[self.base + bucket * BUCKET + line * WAYS + way]
    }
}

fn places(bucket: usize) -> impl Iterator<Item = Place> {
    (0..WAYS).map(move |way| Place((bucket * WAYS + way) as u32))
}

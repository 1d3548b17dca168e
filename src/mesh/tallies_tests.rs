//! The table of tallies against a model, and under threads.

use super::{Entered, Entry, Excess, Meter, Most, Place, Rate, Tallies};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

const SECOND: u64 = 1_000_000_000;

fn enter(tallies: &Tallies, name: u64, most: &Most, now: u64) -> Entered {
    tallies.enter(&Entry { key: tallies.key(name), most, guest: false, forced: false }, now)
}

fn most(connections: u32) -> Most {
    Most { connections, ..Most::ALL }
}

#[test]
fn a_limit_is_met_exactly_and_undone() {
    let tallies = Tallies::new(1000);
    let places: Vec<Place> = (0..3).map(|_| enter(&tallies, 1, &most(3), 0).place.unwrap()).collect();
    assert_eq!(enter(&tallies, 1, &most(3), 0).excess, Some(Excess::Connections));
    assert!(enter(&tallies, 2, &most(3), 0).first);
    assert_eq!(places.iter().map(|it| tallies.leave(*it, false)).collect::<Vec<_>>(), [false, false, true]);
    assert!(enter(&tallies, 1, &most(3), 0).first);
}

#[test]
fn guests_are_counted_until_they_are_known() {
    let (tallies, most) = (Tallies::new(100), Most { guests: 1, ..Most::ALL });
    let entry = |guest, forced| Entry { key: tallies.key(7), most: &most, guest, forced };
    let first = tallies.enter(&entry(true, false), 0).place.unwrap();
    assert_eq!(tallies.enter(&entry(true, false), 0).excess, Some(Excess::Guests));
    let forced = tallies.enter(&entry(true, true), 0);
    assert_eq!((forced.excess, forced.place), (Some(Excess::Guests), Some(first)));
    tallies.is_no_guest(first);
    tallies.leave(first, true);
    assert_eq!(tallies.enter(&entry(true, false), 0).excess, None);
}

#[test]
fn a_rate_lets_its_burst_in_and_then_one_at_a_time() {
    let tallies = Tallies::new(100);
    let most = Most { connects: Some(Rate { rate: 4, burst: 3 }), ..Most::ALL };
    let comes = |now| {
        let entered = enter(&tallies, 1, &most, now);
        entered.place.into_iter().for_each(|it| assert!(tallies.leave(it, false)));
        entered.excess
    };
    assert_eq!([0; 4].map(comes), [None, None, None, Some(Excess::Rate)]);
    assert_eq!([SECOND / 4 - 1, SECOND / 4, SECOND / 4].map(comes), [Some(Excess::Rate), None, Some(Excess::Rate)]);
    assert_eq!([9 * SECOND; 4].map(comes), [None, None, None, Some(Excess::Rate)]);
}

/// What was done is charged whole; how long it is too much is told.
#[test]
fn a_charge_beyond_the_burst_says_when_it_is_over() {
    let tallies = Tallies::new(100);
    let place = enter(&tallies, 1, &Most::ALL, 0).place.unwrap();
    let rate = Rate { rate: 1000, burst: 500 };
    let charge = |units, now| tallies.charge(place, Meter::Second, rate, units, now);
    assert_eq!([charge(500, 0), charge(100, 0), charge(0, SECOND / 20)], [0, SECOND / 10, SECOND / 20]);
    assert_eq!([charge(0, SECOND), charge(1500, SECOND)], [0, SECOND]);
    assert!(charge(u64::MAX, SECOND) > 1_000_000 * SECOND, "no overflow");
}

/// An entry whose rate has not recovered is not given to another key, nor is one in which something is counted.
#[test]
fn only_what_says_nothing_is_forgotten() {
    let tallies = Tallies::new(8);
    assert_eq!(tallies.capacity(), 8);
    let most = Most { connects: Some(Rate { rate: 1, burst: 2 }), ..Most::ALL };
    let places: Vec<Place> = (0..8).map(|name| enter(&tallies, name, &most, 0).place.unwrap()).collect();
    assert_eq!(enter(&tallies, 8, &most, 0), Entered { place: None, excess: None, first: false, forgotten: false });
    assert!(tallies.leave(places[3], false));
    assert_eq!(enter(&tallies, 8, &most, SECOND - 1).place, None, "it has not recovered");
    let entered = enter(&tallies, 8, &most, SECOND);
    assert_eq!((entered.place, entered.forgotten), (Some(places[3]), true));
}

/// Twice as much room as there are connections is room for all of them, though each has an address of its own.
#[test]
fn a_table_that_is_half_full_counts_everybody() {
    const CONNECTIONS: u64 = 100_000;
    let tallies = Tallies::new(2 * CONNECTIONS);
    let uncounted = (0..CONNECTIONS).filter(|name| enter(&tallies, *name, &Most::ALL, 0).place.is_none()).count();
    assert_eq!(uncounted, 0);
    let again = (0..CONNECTIONS).filter(|name| enter(&tallies, *name, &Most::ALL, 0).first).count();
    assert_eq!(again, 0, "each finds its entry");
}

#[test]
fn memory_that_nobody_has_touched_is_not_there() {
    let before = resident();
    let tallies = Tallies::new(1 << 23);
    (0..100).for_each(|name| assert!(enter(&tallies, name, &Most::ALL, 0).first));
    assert!(resident() < before + (16 << 20), "256 MiB are mapped, and a few pages used");
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// What clients do, one after the other.
#[derive(Clone, Copy, Debug)]
enum Step {
    Come { name: u64, guest: bool, forced: bool },
    Leave { which: usize },
    BeKnown { which: usize },
    Wait { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12_u64, any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(name, guest, forced)| Step::Come { name, guest, forced }),
        2 => any::<usize>().prop_map(|which| Step::Leave { which }),
        1 => any::<usize>().prop_map(|which| Step::BeKnown { which }),
        1 => (1..2000_u64).prop_map(|millis| Step::Wait { millis }),
    ]
}

/// A client that is counted.
struct Counted {
    name: u64,
    place: Place,
    guest: bool,
}

/// What the table should say: clients by name, guests among them, and when each name's rate has recovered.
#[derive(Default)]
struct Model {
    inside: Vec<Counted>,
    times: HashMap<u64, u64>,
    now: u64,
}

const RATE: Rate = Rate { rate: 2, burst: 4 };
const MOST: Most = Most { connections: 5, guests: 2, connects: Some(RATE) };

impl Model {
    fn excess(&self, name: u64, guest: bool) -> Option<Excess> {
        let of = self.inside.iter().filter(|it| it.name == name);
        let time = self.times.get(&name).copied().unwrap_or(0).max(self.now) + SECOND / 2;
        if of.clone().count() >= 5 {
            Some(Excess::Connections)
        } else if guest && of.filter(|it| it.guest).count() >= 2 {
            Some(Excess::Guests)
        } else {
            (time > self.now + 2 * SECOND).then_some(Excess::Rate)
        }
    }

    /// Of how many names there is something to be remembered.
    fn names(&self) -> usize {
        let late = self.times.iter().filter(|(_, time)| **time > self.now).map(|(name, _)| *name);
        self.inside.iter().map(|it| it.name).chain(late).collect::<HashSet<u64>>().len()
    }

    fn come(&mut self, tallies: &Tallies, name: u64, guest: bool, forced: bool) {
        let expected = self.excess(name, guest);
        let entry = Entry { key: tallies.key(name), most: &MOST, guest, forced };
        let Entered { place, excess, .. } = tallies.enter(&entry, self.now);
        assert_eq!(excess, expected);
        if place.is_none() && (forced || expected.is_none()) {
            // By chance most names have one bucket: it has no room for another, who is let in and not counted.
            return assert!(self.names() >= 8, "no room, and {} names", self.names());
        }
        assert_eq!(place.is_some(), forced || expected.is_none());
        if expected.is_none() {
            let time = self.times.entry(name).or_default();
            *time = (*time).max(self.now) + SECOND / 2;
        }
        self.inside.extend(place.map(|place| Counted { name, place, guest }));
    }

    fn step(&mut self, tallies: &Tallies, step: Step) {
        let count = self.inside.len();
        match step {
            Step::Come { name, guest, forced } => self.come(tallies, name, guest, forced),
            Step::Wait { millis } => self.now += millis * 1_000_000,
            Step::Leave { .. } | Step::BeKnown { .. } if count == 0 => {}
            Step::Leave { which } => {
                let Counted { name, place, guest } = self.inside.swap_remove(which % count);
                assert_eq!(tallies.leave(place, guest), self.inside.iter().all(|it| it.name != name));
            }
            Step::BeKnown { which } => {
                let it = &mut self.inside[which % count];
                if std::mem::take(&mut it.guest) {
                    tallies.is_no_guest(it.place);
                }
            }
        }
    }
}

proptest! {
    /// More names than a bucket has entries, in a table of two buckets, so that entries change hands.
    #[test]
    fn the_table_counts_as_the_model_does(steps in prop::collection::vec(step(), 0..200)) {
        let (tallies, mut model) = (Tallies::new(16), Model::default());
        for one in steps {
            model.step(&tallies, one);
        }
    }
}

/// Keys of which threads come and go, in a table that is so small that entries change hands all the time.
struct Crowd {
    tallies: Tallies,
    /// By name, who is inside: never more than the table has counted.
    inside: Vec<AtomicI64>,
    counted: AtomicU64,
    forgotten: AtomicU64,
}

const LIMIT: i64 = 3;
const NAMES: u64 = 24;
const ROUNDS: u64 = 100_000;

impl Crowd {
    fn come(&self, name: u64, now: u64) -> Option<(u64, Place)> {
        let entered = enter(&self.tallies, name, &most(LIMIT as u32), now);
        let place = entered.place?;
        assert!(self.inside[name as usize].fetch_add(1, Ordering::SeqCst) < LIMIT, "above the limit");
        self.counted.fetch_add(1, Ordering::Relaxed);
        self.forgotten.fetch_add(entered.forgotten.into(), Ordering::Relaxed);
        Some((name, place))
    }

    fn go(&self, (name, place): (u64, Place)) {
        self.inside[name as usize].fetch_sub(1, Ordering::SeqCst);
        self.tallies.leave(place, false);
    }

    fn work(&self, thread: u64) {
        let mut held = Vec::new();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(thread + 1);
        for now in 0..ROUNDS {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            held.extend(self.come((random >> 33) % NAMES, now));
            while held.len() > (random >> 60) as usize % 4 {
                self.go(held.swap_remove((random >> 50) as usize % held.len()));
            }
        }
        held.into_iter().for_each(|one| self.go(one));
    }
}

/// Nobody is ever above the limit, and when all have left, all counts are zero.
#[test]
fn under_threads_no_limit_is_passed_and_nothing_is_left_behind() {
    let inside = (0..NAMES).map(|_| AtomicI64::new(0)).collect();
    let crowd = Crowd { tallies: Tallies::new(16), inside, counted: 0.into(), forgotten: 0.into() };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let crowd = &crowd;
            scope.spawn(move || crowd.work(thread));
        }
    });
    let (counted, forgotten) = (crowd.counted.into_inner(), crowd.forgotten.into_inner());
    assert!(counted > ROUNDS && forgotten > ROUNDS / 100, "{counted} counted, {forgotten} entries forgotten");
    for name in 0..NAMES {
        let entered = enter(&crowd.tallies, name, &Most::ALL, ROUNDS);
        assert!(entered.first && entered.place.is_some_and(|it| crowd.tallies.leave(it, false)));
    }
}

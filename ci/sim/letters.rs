//! Shards that write to each other: scripted shards, each with a service that posts numbered letters to all others, as
//! fast as their mailboxes take them.
//!
//! Each seed chooses how many shards there are, how small their mailboxes, how much a turn may cost, and which shard
//! has its next turn. A shard that has nothing to do sleeps, as in `pump.rs`, until its waker's eventfd is written: a
//! wake-up that is lost ends the play as stuck. Every letter must arrive once, in order, from whom it says.

use crate::play;
use crate::stage::{KIND, settings};
use edgehold::engine::script::{Dice, Script};
use edgehold::mesh::{Asleep, Peers, ServiceKind, ShardLetter, ToControl, ToShard, Waker, mailbox, peers};
use edgehold::mesh::{Receiver, Sender};
use edgehold::shard::clock::Now;
use edgehold::shard::service::{Desk, Event, Services, ShardSettings, Verdict};
use edgehold::shard::slab::Handle;
use edgehold::shard::{Shard, Turn};
use edgehold_wire::http1::Head;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Steps after which a play that has not ended is stuck.
const MOST_STEPS: u64 = 100_000;

/// What the services of a play have posted and got.
#[derive(Default)]
struct Ledger {
    /// Keys of letters by who wrote and who read them.
    arrived: Vec<Vec<Vec<u64>>>,
    /// Letters still to be posted, by who writes and who reads them.
    to_post: Vec<Vec<VecDeque<ShardLetter>>>,
    refused: u64,
    fault: Option<String>,
}

impl Ledger {
    /// So many letters for each ordered pair. A key says who writes, to whom, and which of them it is.
    fn new(shards: usize, letters: u64) -> Ledger {
        let pair = |from: usize, to: usize| {
            let count = if from == to { 0 } else { letters };
            (0..count).map(|number| letter(key(from, to, number))).collect()
        };
        let to_post = (0..shards).map(|from| (0..shards).map(|to| pair(from, to)).collect()).collect();
        Ledger { arrived: vec![vec![Vec::new(); shards]; shards], to_post, ..Ledger::default() }
    }

    fn is_over(&self, letters: u64) -> bool {
        let count: usize = self.arrived.iter().flatten().map(Vec::len).sum();
        let shards = self.arrived.len();
        count as u64 >= (shards * (shards - 1)) as u64 * letters
    }

    fn judge(&self, letters: u64) -> Option<String> {
        let shards = self.arrived.len();
        let pairs = (0..shards).flat_map(|from| (0..shards).map(move |to| (from, to)));
        let wrong = |&(from, to): &(usize, usize)| {
            let due = if from == to { 0 } else { letters };
            self.arrived[from][to] != (0..due).map(|number| key(from, to, number)).collect::<Vec<_>>()
        };
        let fault =
            pairs.filter(wrong).map(|(from, to)| format!("{from} to {to}: {:?}", self.arrived[from][to])).next();
        self.fault.clone().or(fault)
    }
}

fn key(from: usize, to: usize, number: u64) -> u64 {
    (from as u64) << 48 | (to as u64) << 32 | number
}

fn letter(key: u64) -> ShardLetter {
    ShardLetter::new(ServiceKind::Echo, key, key.to_le_bytes().to_vec())
}

/// The service of one shard.
struct Correspondent {
    shard: usize,
    ledger: Rc<RefCell<Ledger>>,
    dice: Dice,
    /// In percent of the letters: how many it posts twice.
    doubles: usize,
}

impl Correspondent {
    /// Posts some letters to a shard; how many. The one that finds no room is the next to be posted.
    fn post(&mut self, desk: &mut Desk<'_>, to: usize) -> u32 {
        let mut ledger = self.ledger.borrow_mut();
        let mut posted = 0;
        for _ in 0..self.dice.below(6) {
            let Some(letter) = ledger.to_post[self.shard][to].pop_front() else { break };
            let again = self.dice.chance(self.doubles).then(|| letter.clone());
            if let Err(letter) = desk.post_to_shard(to, letter) {
                ledger.refused += 1;
                ledger.to_post[self.shard][to].push_front(letter);
                break;
            }
            again.into_iter().for_each(|letter| ledger.to_post[self.shard][to].push_front(letter));
            posted += 1;
        }
        posted
    }
}

impl Services for Correspondent {
    type Settings = ();

    fn exchange(&mut self, _: &mut Desk<'_>, (): &()) {}

    fn held(&self) -> usize {
        0
    }

    fn request(&mut self, _: &mut Desk<'_>, _: Handle, _: &Head<'_, '_>) -> Verdict {
        Verdict::Served
    }

    fn event(&mut self, _: &mut Desk<'_>, _: Handle, _: u32, _: Event<'_>) {}

    fn letter(&mut self, _: &mut Desk<'_>, letter: ToShard) {
        let mut ledger = self.ledger.borrow_mut();
        match letter {
            ToShard::Shard { from, letter } if letter.0.bytes == letter.0.key.to_le_bytes() => {
                ledger.arrived[from][self.shard].push(letter.0.key);
            }
            other => ledger.fault = Some(format!("nobody wrote {other:?}")),
        }
    }

    /// Where letters are left, something is left to do: nobody says when a mailbox has room again.
    fn poll(&mut self, desk: &mut Desk<'_>, _: u32) -> u32 {
        let shards = self.ledger.borrow().arrived.len();
        let posted: u32 = (0..shards).map(|to| self.post(desk, to)).sum();
        let left = self.ledger.borrow().to_post[self.shard].iter().any(|it| !it.is_empty());
        posted + u32::from(left)
    }
}

/// A shard, and whether it sleeps.
struct Seat<'w> {
    shard: Shard<Script, Correspondent>,
    waker: &'w Waker,
    asleep: Option<Asleep<'w>>,
    slept: u64,
    // What the control thread would hold.
    _control: (Sender<ToShard>, Receiver<ToControl>),
}

impl<'w> Seat<'w> {
    fn new(service: Correspondent, peers: Peers, waker: &'w Arc<Waker>, settings: &ShardSettings) -> Seat<'w> {
        let (to, letters) = mailbox(4, waker.clone());
        let (to_control, from) = mailbox(4, Arc::new(Waker::new().expect("an eventfd")));
        let shard = Shard::new(Script::new(1, KIND), service, settings, letters, to_control).with_peers(peers);
        Seat { shard, waker, asleep: None, slept: 0, _control: (to, from) }
    }

    /// What `pump.rs` does until it would wait.
    fn step(&mut self) {
        if self.asleep.is_some() && self.waker.clear() == 0 {
            return;
        }
        self.asleep = None;
        // No time passes: nothing but letters gives a shard something to do.
        let turn =
            self.shard.turn(Now { since_start: Duration::ZERO, unix: 0 }).expect("the scripted ring never fails");
        if turn == Turn::Idle {
            let asleep = self.waker.fall_asleep();
            self.asleep = (!self.shard.has_letters()).then_some(asleep);
            self.slept += u64::from(self.asleep.is_some());
        }
    }
}

/// What a play has tried.
#[derive(Default)]
struct Tried {
    refused: u64,
    slept: u64,
}

fn play(seed: u64, doubles: usize) -> (play::Verdict, Tried) {
    let mut dice = Dice::new(seed ^ 0x001e_77e4);
    let (shards, letters) = (2 + dice.below(3), 1 + dice.below(100) as u64);
    let ledger = Rc::new(RefCell::new(Ledger::new(shards, letters)));
    let wakers: Vec<_> = (0..shards).map(|_| Arc::new(Waker::new().expect("an eventfd"))).collect();
    let ends = peers([1, 2, 7, 64][dice.below(4)], &wakers);
    let mut seats: Vec<Seat<'_>> = (0..)
        .zip(ends.into_iter().zip(&wakers))
        .map(|(shard, (peers, waker))| {
            let settings = ShardSettings { shard, turn_events: [2, 4, 64][dice.below(3)], ..settings() };
            let service = Correspondent { shard, ledger: ledger.clone(), dice: Dice::new(dice.roll()), doubles };
            Seat::new(service, peers, waker, &settings)
        })
        .collect();
    let mut steps = 0;
    // One shard may have many turns before another has its next.
    let favour = dice.below(100);
    while !ledger.borrow().is_over(letters) && steps < MOST_STEPS {
        steps += 1;
        let whose = if dice.chance(favour) { 0 } else { dice.below(shards) };
        seats[whose].step();
    }
    // Whatever is too much would come now.
    (0..10).for_each(|_| seats.iter_mut().for_each(Seat::step));
    let counted: u64 = seats.iter_mut().map(|it| it.shard.report().counters.shard_letters_refused).sum();
    let ledger = ledger.borrow();
    let miscounted =
        (counted != ledger.refused).then(|| format!("{counted} refusals of {} were counted", ledger.refused));
    let tried = Tried { refused: ledger.refused, slept: seats.iter().map(|it| it.slept).sum() };
    (play::Verdict { steps, fault: ledger.judge(letters).or(miscounted) }, tried)
}

/// One play; what it has tried is left out.
pub fn verdict(seed: u64) -> play::Verdict {
    play(seed, 0).0
}

/// The plays of an ordinary run do meet full mailboxes and shards that sleep.
#[test]
fn mailboxes_are_full_and_shards_sleep_in_these_plays() {
    let tried: Vec<Tried> = (0..50).map(|seed| play(seed, 0).1).collect();
    let full = tried.iter().filter(|it| it.refused > 0).count();
    let slept = tried.iter().filter(|it| it.slept > 1).count();
    assert!(full >= 25 && slept >= 25, "of 50 plays {full} met a full mailbox, {slept} a shard that slept");
}

/// The judge must be able to find a fault: letters that are posted twice are.
#[test]
fn a_doubled_letter_is_found() {
    let found = (0..30).filter(|&seed| play(seed, 20).0.fault.is_some()).count();
    assert!(found >= 25, "only {found} of 30 were found");
}

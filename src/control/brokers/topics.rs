//! Which shards want which topics of a broker, and what has become of that.

use crate::mesh::ShardNumber;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The topics of a broker.
#[derive(Default)]
pub(super) struct Topics {
    known: HashMap<Arc<str>, Topic>,
    /// By the numbers of their subscriptions.
    numbers: HashMap<u64, Arc<str>>,
    /// Those that are to be subscribed to, in the order in which they were wanted.
    due: VecDeque<Arc<str>>,
    last_number: u64,
}

/// A topic that is wanted, or was.
#[derive(Default)]
struct Topic {
    shards: BTreeSet<ShardNumber>,
    /// Who is to be told when it is confirmed.
    waiting: BTreeSet<ShardNumber>,
    /// The number of its subscription in this session.
    number: Option<u64>,
    confirmed: bool,
    /// Nobody wants it: it is ended then.
    leaves: Option<Instant>,
}

/// What becomes of a wish.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The broker has confirmed the topic.
    Confirmed,
    /// It is to be tried, or subscribed to.
    New,
    /// It is under way.
    Waits,
    /// There are as many as there may be.
    TooMany,
}

impl Topics {
    /// A shard wants a topic.
    pub(super) fn want(&mut self, topic: &Arc<str>, shard: ShardNumber, most: usize) -> Wish {
        let is_new = !self.known.contains_key(topic);
        if is_new && self.known.len() >= most {
            return Wish::TooMany;
        }
        let its = self.known.entry(topic.clone()).or_default();
        its.shards.insert(shard);
        its.leaves = None;
        if its.confirmed {
            return Wish::Confirmed;
        }
        its.waiting.insert(shard);
        if is_new { Wish::New } else { Wish::Waits }
    }

    /// A shard wants it no more.
    pub(super) fn leave(&mut self, topic: &str, shard: ShardNumber, now: Instant, linger: Duration) {
        let Some(its) = self.known.get_mut(topic) else { return };
        its.shards.remove(&shard);
        its.waiting.remove(&shard);
        if its.shards.is_empty() {
            its.leaves = Some(now + linger);
        }
    }

    /// Topics that nobody has wanted for long enough, and the numbers of their subscriptions.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(Arc<str>, Option<u64>)> {
        let is_over = |its: &Topic| its.leaves.is_some_and(|at| at <= now);
        let over: Vec<Arc<str>> = self.known.iter().filter(|it| is_over(it.1)).map(|it| it.0.clone()).collect();
        let end = |topic: Arc<str>| {
            let number = self.known.remove(&topic).and_then(|its| its.number);
            number.map(|number| self.numbers.remove(&number));
            (topic, number)
        };
        over.into_iter().map(end).collect()
    }

    /// It may be subscribed to.
    pub(super) fn set_due(&mut self, topic: &Arc<str>) {
        if self.known.get(topic).is_some_and(|its| its.number.is_none()) {
            self.due.push_back(topic.clone());
        }
    }

    /// The next that is to be subscribed to, and the number of its subscription.
    pub(super) fn next_due(&mut self) -> Option<(Arc<str>, u64)> {
        loop {
            let topic = self.due.pop_front()?;
            let Some(its) = self.known.get_mut(&topic).filter(|its| its.number.is_none()) else { continue };
            self.last_number += 1;
            its.number = Some(self.last_number);
            self.numbers.insert(self.last_number, topic.clone());
            return Some((topic, self.last_number));
        }
    }

    /// The topic of a subscription.
    pub(super) fn of(&self, number: u64) -> Option<&Arc<str>> {
        self.numbers.get(&number)
    }

    /// The broker has confirmed a subscription: its topic, and who is to be told.
    pub(super) fn confirm(&mut self, number: u64) -> Option<(Arc<str>, BTreeSet<ShardNumber>)> {
        let topic = self.numbers.get(&number)?.clone();
        let its = self.known.get_mut(&topic)?;
        its.confirmed = true;
        Some((topic, std::mem::take(&mut its.waiting)))
    }

    /// It is refused: who wants it.
    pub(super) fn refuse(&mut self, topic: &str) -> BTreeSet<ShardNumber> {
        let Some(its) = self.known.remove(topic) else { return BTreeSet::new() };
        its.number.map(|number| self.numbers.remove(&number));
        its.shards
    }

    /// The session is lost: all are to be subscribed to again.
    pub(super) fn lost(&mut self) {
        self.numbers.clear();
        self.due.clear();
        for (topic, its) in &mut self.known {
            (its.number, its.confirmed) = (None, false);
            self.due.push_back(topic.clone());
        }
    }

    /// How many there are, and how many of them are confirmed.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.known.len(), self.known.values().filter(|its| its.confirmed).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wish_subscribes_and_the_last_one_leaving_ends_it_later() {
        let (mut topics, topic, now) = (Topics::default(), Arc::<str>::from("a"), Instant::now());
        let linger = Duration::from_secs(30);
        assert_eq!([topics.want(&topic, 0, 9), topics.want(&topic, 1, 9)], [Wish::New, Wish::Waits]);
        topics.set_due(&topic);
        let (_, number) = topics.next_due().unwrap();
        assert_eq!((topics.next_due(), topics.of(number)), (None, Some(&topic)));
        assert_eq!(topics.confirm(number).unwrap().1, [0, 1].into());
        assert_eq!(topics.want(&topic, 2, 9), Wish::Confirmed);
        (0..3).for_each(|shard| topics.leave("a", shard, now, linger));
        assert_eq!(topics.expire(now), []);
        assert_eq!(topics.want(&topic, 0, 9), Wish::Confirmed, "who comes back in time finds it there");
        topics.leave("a", 0, now, linger);
        assert_eq!(topics.expire(now + linger), [(topic, Some(number))]);
        assert_eq!(topics.counts(), (0, 0));
    }

    #[test]
    fn what_was_lost_is_made_again_and_too_many_are_refused() {
        let (mut topics, one, other) = (Topics::default(), Arc::<str>::from("a"), Arc::<str>::from("b"));
        topics.want(&one, 0, 1);
        assert_eq!(topics.want(&other, 0, 1), Wish::TooMany);
        topics.set_due(&one);
        let (_, number) = topics.next_due().unwrap();
        topics.confirm(number);
        topics.lost();
        let (topic, again) = topics.next_due().unwrap();
        assert_eq!((&topic, topics.of(number)), (&one, None));
        assert_eq!(topics.want(&one, 1, 1), Wish::Waits);
        assert_eq!(topics.confirm(again).unwrap().1, [1].into());
    }
}

//! Which shards want which topics of a broker, and what has become of that.

use crate::mesh::ShardNumber;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// The topics of a broker. A topic is *due* when it is to be subscribed to; what its session takes of them, one by one
/// ([`Topics::next_due`]), it begins ([`Topics::begin`]) or puts aside, and it is told of what becomes of them.
#[derive(Default)]
pub(super) struct Topics {
    known: HashMap<Arc<str>, Topic>,
    /// By the numbers of their subscriptions.
    numbers: HashMap<u32, Arc<str>>,
    /// Those that are to be subscribed to, in the order in which they were wanted.
    due: VecDeque<Arc<str>>,
    /// Those that nobody wants, by the time at which they end.
    leaving: BTreeSet<(Instant, Arc<str>)>,
    confirmed: usize,
    last_number: u32,
}

/// A topic that is wanted, or was.
#[derive(Default)]
struct Topic {
    /// By whom.
    shards: BTreeSet<ShardNumber>,
    is_due: bool,
    /// The number of its subscription in this session.
    number: Option<u32>,
    /// The broker has not answered yet.
    under_way: bool,
    /// The quality of service that the broker has confirmed.
    granted: Option<u8>,
    /// Where the subscription stands, for a broker that keeps what it has published.
    place: Option<Place>,
    /// Nobody wants it: it is ended then.
    leaves: Option<Instant>,
}

/// Where the subscription to a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// No message has come since it was confirmed.
    Since(SystemTime),
    /// The offset of the last message that has come.
    Behind(u64),
}

/// What becomes of a wish.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The broker has confirmed the topic, with this quality of service.
    Confirmed(u8),
    /// So it has, and this shard has said it before: it asks for what the broker keeps of the topic.
    Again(u8),
    /// It is due, or under way.
    Waits,
}

/// A topic that is no more, and the number of its subscription.
pub(super) type Gone = (Arc<str>, Option<u32>);

impl Topics {
    /// A shard wants a topic.
    pub(super) fn want(&mut self, topic: &Arc<str>, shard: ShardNumber) -> Wish {
        let its = self.known.entry(topic.clone()).or_default();
        let is_new = its.shards.insert(shard);
        if let Some(at) = its.leaves.take() {
            self.leaving.remove(&(at, topic.clone()));
        }
        match its.granted {
            Some(granted) if is_new => return Wish::Confirmed(granted),
            Some(granted) => return Wish::Again(granted),
            None if its.under_way => {}
            None => self.set_due(topic),
        }
        Wish::Waits
    }

    /// A shard wants it no more.
    pub(super) fn leave(&mut self, topic: &Arc<str>, shard: ShardNumber, now: Instant, linger: Duration) {
        let Some(its) = self.known.get_mut(topic) else { return };
        its.shards.remove(&shard);
        if its.shards.is_empty() && its.leaves.is_none() {
            its.leaves = Some(now + linger);
            self.leaving.insert((now + linger, topic.clone()));
        }
    }

    /// Topics that nobody has wanted for long enough.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Gone> {
        let mut gone = Vec::new();
        while self.leaving.first().is_some_and(|(at, _)| *at <= now) {
            gone.extend(self.evict());
        }
        gone
    }

    /// Ends the topic that nobody has wanted for the longest time.
    pub(super) fn evict(&mut self) -> Option<Gone> {
        let (_, topic) = self.leaving.pop_first()?;
        let number = self.remove(&topic).and_then(|its| its.number);
        Some((topic, number))
    }

    fn remove(&mut self, topic: &Arc<str>) -> Option<Topic> {
        let its = self.known.remove(topic)?;
        its.number.map(|number| self.numbers.remove(&number));
        its.leaves.map(|at| self.leaving.remove(&(at, topic.clone())));
        self.confirmed -= usize::from(its.granted.is_some());
        Some(its)
    }

    /// It is to be subscribed to, or subscribed to anew.
    pub(super) fn set_due(&mut self, topic: &Arc<str>) {
        if let Some(its) = self.known.get_mut(topic)
            && !std::mem::replace(&mut its.is_due, true)
        {
            self.due.push_back(topic.clone());
        }
        // Of those that end before a session takes them, places are left.
        if self.due.len() > 2 * self.known.len() + 64 {
            let mut seen = HashSet::new();
            self.due.retain(|topic| self.known.get(topic).is_some_and(|its| its.is_due) && seen.insert(topic.clone()));
        }
    }

    /// Takes the next one that is due.
    pub(super) fn next_due(&mut self) -> Option<Arc<str>> {
        loop {
            let topic = self.due.pop_front()?;
            // One that has ended meanwhile, and come again, stands there once more.
            if let Some(its) = self.known.get_mut(&topic)
                && std::mem::take(&mut its.is_due)
            {
                return Some(topic);
            }
        }
    }

    /// The broker is asked for it: the number of its subscription.
    pub(super) fn begin(&mut self, topic: &Arc<str>) -> Option<u32> {
        let its = self.known.get_mut(topic)?;
        its.under_way = true;
        Some(*its.number.get_or_insert_with(|| {
            self.last_number += 1;
            self.numbers.insert(self.last_number, topic.clone());
            self.last_number
        }))
    }

    /// The topic of a subscription.
    pub(super) fn of(&self, number: u32) -> Option<&Arc<str>> {
        self.numbers.get(&number)
    }

    /// Where a stream is to be gone on with; `None`: it was never confirmed.
    pub(super) fn place(&self, topic: &str) -> Option<Place> {
        self.known.get(topic)?.place
    }

    /// A message of a stream has come.
    pub(super) fn advance(&mut self, topic: &str, offset: u64) {
        if let Some(its) = self.known.get_mut(topic) {
            its.place = Some(Place::Behind(offset));
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<str>> {
        self.known.keys()
    }

    /// The number of a topic's subscription.
    pub(super) fn number_of(&self, topic: &str) -> Option<u32> {
        self.known.get(topic)?.number
    }

    /// The broker has confirmed a subscription: its topic.
    pub(super) fn confirm(&mut self, number: u32, granted: u8) -> Option<Arc<str>> {
        let topic = self.numbers.get(&number)?.clone();
        let its = self.known.get_mut(&topic)?;
        its.under_way = false;
        its.place.get_or_insert_with(|| Place::Since(SystemTime::now()));
        self.confirmed += usize::from(its.granted.replace(granted).is_none());
        Some(topic)
    }

    /// It is refused: who wants it.
    pub(super) fn refuse(&mut self, topic: &Arc<str>) -> Vec<ShardNumber> {
        self.remove(topic).map_or_else(Vec::new, |its| its.shards.into_iter().collect())
    }

    /// The broker's answer will not come: it is to be asked again.
    pub(super) fn ask_again(&mut self, topic: &Arc<str>) {
        if let Some(its) = self.known.get_mut(topic) {
            its.under_way = false;
        }
        self.set_due(topic);
    }

    /// The last number that was given to a subscription.
    pub(super) fn last_number(&self) -> u32 {
        self.last_number
    }

    /// Those of which the broker has said nothing yet.
    pub(super) fn under_way(&self) -> Vec<Arc<str>> {
        self.known.iter().filter(|(_, its)| its.under_way).map(|(topic, _)| topic.clone()).collect()
    }

    /// The session is lost: all are to be subscribed to again, in their order, but those that nobody wants: they have
    /// ended.
    pub(super) fn lost(&mut self) -> Vec<Arc<str>> {
        let gone = std::iter::from_fn(|| self.evict()).map(|(topic, _)| topic).collect();
        let place = |its: &Topic| its.number.unwrap_or(u32::MAX);
        let mut topics: Vec<_> = self.known.iter().map(|(topic, its)| (place(its), topic.clone())).collect();
        topics.sort_unstable();
        self.numbers.clear();
        (self.confirmed, self.last_number) = (0, 0);
        for (_, topic) in topics {
            if let Some(its) = self.known.get_mut(&topic) {
                (its.number, its.granted, its.under_way) = (None, None, false);
            }
            self.set_due(&topic);
        }
        gone
    }

    /// Whether some are due, or were.
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// How many there are, and how many of them are confirmed.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.known.len(), self.confirmed)
    }

    /// Whether a topic is among them.
    pub(super) fn has(&self, topic: &str) -> bool {
        self.known.contains_key(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(30);

    fn begin(topics: &mut Topics) -> (Arc<str>, u32) {
        let topic = topics.next_due().unwrap();
        let number = topics.begin(&topic).unwrap();
        (topic, number)
    }

    #[test]
    fn the_first_wish_subscribes_and_the_last_one_leaving_ends_it_later() {
        let (mut topics, topic, now) = (Topics::default(), Arc::<str>::from("a"), Instant::now());
        assert_eq!([topics.want(&topic, 0), topics.want(&topic, 1)], [Wish::Waits, Wish::Waits]);
        let (_, number) = begin(&mut topics);
        assert_eq!((topics.next_due(), topics.of(number)), (None, Some(&topic)));
        assert_eq!(topics.want(&topic, 1), Wish::Waits, "who asks again before has one answer");
        assert_eq!((topics.confirm(number, 1).as_ref(), topics.next_due()), (Some(&topic), None));
        assert_eq!((topics.want(&topic, 2), topics.counts()), (Wish::Confirmed(1), (1, 1)));
        assert_eq!(topics.want(&topic, 2), Wish::Again(1));
        (0..3).for_each(|shard| topics.leave(&topic, shard, now, LINGER));
        assert_eq!(topics.expire(now), []);
        assert_eq!(topics.want(&topic, 0), Wish::Confirmed(1), "who comes back in time finds it there");
        assert_eq!(topics.expire(now + LINGER), []);
        topics.leave(&topic, 0, now, LINGER);
        assert_eq!(topics.expire(now + LINGER), [(topic, Some(number))]);
        assert_eq!((topics.counts(), topics.evict()), ((0, 0), None));
    }

    #[test]
    fn what_was_lost_is_made_again_in_order_and_what_nobody_wants_is_not() {
        let (mut topics, now) = (Topics::default(), Instant::now());
        let names: Vec<Arc<str>> = (0..20).map(|at| format!("t{at}").into()).collect();
        for name in &names {
            topics.want(name, 0);
            let (_, number) = begin(&mut topics);
            topics.confirm(number, 1);
        }
        topics.leave(&names[3], 0, now, LINGER);
        assert_eq!((topics.lost(), topics.counts()), (vec![names[3].clone()], (19, 0)));
        assert_eq!(topics.want(&names[0], 1), Wish::Waits);
        let made: Vec<_> = std::iter::from_fn(|| topics.next_due()).collect();
        assert_eq!(made, [&names[..3], &names[4..]].concat());
        assert_eq!(topics.begin(&names[0]), topics.number_of(&names[0]));
    }

    #[test]
    fn one_that_was_refused_is_forgotten_and_one_that_ended_is_not_due() {
        let (mut topics, topic, now) = (Topics::default(), Arc::<str>::from("a"), Instant::now());
        topics.want(&topic, 0);
        topics.leave(&topic, 0, now, LINGER);
        assert_eq!((topics.evict(), topics.next_due()), (Some((topic.clone(), None)), None));
        topics.want(&topic, 4);
        let (_, number) = begin(&mut topics);
        assert_eq!((topics.refuse(&topic), topics.of(number), topics.counts()), (vec![4], None, (0, 0)));
    }
}

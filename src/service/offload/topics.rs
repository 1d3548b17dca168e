//! What the clients of a shard want of a broker's shared topics, and what has become of it.
//!
//! The control thread is told when the first one subscribes, and when the last one leaves; and of a topic of which the
//! broker does not tell how what it keeps changes, whenever one subscribes. Letters that its mailbox has no room for
//! wait here, in order.

use crate::mesh::{FeedNumber, Granted, ToControl, TopicNews, TopicRequest, TopicState};
use crate::shard::service::Desk;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The topics of all brokers that clients of this shard want, or have wanted.
#[derive(Default)]
pub(in crate::service) struct Topics {
    wanted: HashMap<(FeedNumber, Arc<str>), Topic>,
    unposted: VecDeque<TopicRequest>,
}

/// A topic that is wanted.
#[derive(Default)]
struct Topic {
    subscribers: u32,
    /// The broker has refused it: who wants it all the same asks once more.
    is_refused: bool,
    /// What the broker has confirmed; `None`: nothing yet.
    confirmed: Option<Granted>,
    /// It has, though it is asked again for what it keeps.
    was_confirmed: bool,
    /// Who is to be told: what the service knows them by.
    waiting: Vec<u64>,
}

/// What becomes of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Wanted {
    /// The broker has confirmed it, with this quality of service.
    Confirmed(u8),
    /// Who has asked is to be told when it has.
    Waits,
}

impl Topics {
    /// A client has subscribed. `waiter`: what the service knows it by, if it is to be told.
    pub(in crate::service) fn want(
        &mut self,
        desk: &mut Desk<'_>,
        (feed, topic): (FeedNumber, &str),
        waiter: Option<u64>,
    ) -> Wanted {
        let name: Arc<str> = topic.into();
        let its = self.wanted.entry((feed, name.clone())).or_default();
        let is_first = its.subscribers == 0;
        its.subscribers += 1;
        if let Some(confirmed) = its.confirmed.filter(|it| it.is_followed) {
            return Wanted::Confirmed(confirmed.quality);
        }
        its.waiting.extend(waiter);
        let was_refused = std::mem::take(&mut its.is_refused);
        if is_first || was_refused || its.confirmed.take().is_some() {
            self.post(desk, TopicRequest { shard: desk.shard(), feed, topic: name, is_wanted: true });
        }
        Wanted::Waits
    }

    /// Whether a topic is subscribed to, as far as this shard knows.
    pub(in crate::service) fn is_confirmed(&self, feed: FeedNumber, topic: &str) -> bool {
        self.wanted.get(&(feed, topic.into())).is_some_and(|its| its.was_confirmed)
    }

    /// The broker's session was lost: all its topics are to be confirmed anew. Where this shard alone has lost
    /// something (`None`: of every broker) it asks for that itself.
    pub(in crate::service) fn doubt(&mut self, desk: &mut Desk<'_>, feed: Option<FeedNumber>) {
        let mut lost = Vec::new();
        for ((of, topic), its) in self.wanted.iter_mut().filter(|it| feed.is_none_or(|feed| feed == it.0.0)) {
            its.was_confirmed = false;
            if its.confirmed.take().is_some() && feed.is_none() {
                lost.push(TopicRequest { shard: desk.shard(), feed: *of, topic: topic.clone(), is_wanted: true });
            }
        }
        desk.charge(lost.len());
        // In an order that a simulated shard has every time.
        lost.sort_by(|one, other| (one.feed, &one.topic).cmp(&(other.feed, &other.topic)));
        self.unposted.extend(lost);
        self.poll(desk);
    }

    /// A client has left a topic. `waiter`: what it was to be told by, if it has not been.
    pub(in crate::service) fn leave(&mut self, desk: &mut Desk<'_>, (feed, topic): (FeedNumber, &str)) {
        let key = (feed, Arc::<str>::from(topic));
        let Some(its) = self.wanted.get_mut(&key) else { return };
        its.subscribers -= 1;
        if its.subscribers == 0 {
            self.wanted.remove(&key);
            self.post(desk, TopicRequest { shard: desk.shard(), feed, topic: key.1, is_wanted: false });
        }
    }

    /// News of a topic: who has waited for them.
    pub(in crate::service) fn news(&mut self, news: &TopicNews) -> Vec<u64> {
        let Some(its) = self.wanted.get_mut(&(news.feed, news.topic.clone())) else { return Vec::new() };
        match news.state {
            TopicState::Subscribed(granted) => (its.confirmed, its.was_confirmed) = (Some(granted), true),
            TopicState::Refused(..) => (its.confirmed, its.was_confirmed, its.is_refused) = (None, false, true),
            TopicState::Ended => return Vec::new(),
        }
        std::mem::take(&mut its.waiting)
    }

    /// Posts what its mailbox had no room for.
    pub(in crate::service) fn poll(&mut self, desk: &mut Desk<'_>) {
        while let Some(request) = self.unposted.pop_front() {
            if !desk.post(ToControl::Topic(Box::new(request.clone()))) {
                return self.unposted.push_front(request);
            }
        }
    }

    fn post(&mut self, desk: &mut Desk<'_>, request: TopicRequest) {
        self.unposted.push_back(request);
        self.poll(desk);
    }
}

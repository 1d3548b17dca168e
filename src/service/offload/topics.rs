//! What the clients of a shard want of a broker's shared topics, and what has become of it.
//!
//! The control thread is told when the first one subscribes, when one asks for a higher quality of service than the
//! others, and when the last one leaves. Letters that its mailbox has no room for wait here, in order.

use crate::mesh::{FeedNumber, ToControl, TopicNews, TopicRequest, TopicState};
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
struct Topic {
    subscribers: u32,
    /// The highest quality of service that was asked for.
    quality: u8,
    /// The broker has refused it: who wants it all the same asks once more.
    is_refused: bool,
    /// What the broker has confirmed; `None`: nothing yet.
    confirmed: Option<u8>,
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
        quality: u8,
        waiter: Option<u64>,
    ) -> Wanted {
        let name: Arc<str> = topic.into();
        let new = || Topic { subscribers: 0, quality, is_refused: false, confirmed: None, waiting: Vec::new() };
        let is_new = !self.wanted.contains_key(&(feed, name.clone()));
        let its = self.wanted.entry((feed, name.clone())).or_insert_with(new);
        its.subscribers += 1;
        let rises = quality > its.quality;
        its.quality = its.quality.max(quality);
        if let Some(confirmed) = its.confirmed.filter(|_| !rises) {
            return Wanted::Confirmed(confirmed.min(quality));
        }
        its.waiting.extend(waiter);
        let was_refused = std::mem::take(&mut its.is_refused);
        if is_new || rises || was_refused {
            let quality = Some(its.quality);
            self.post(desk, TopicRequest { shard: desk.shard(), feed, topic: name, quality });
        }
        Wanted::Waits
    }

    /// A client has left a topic. `waiter`: what it was to be told by, if it has not been.
    pub(in crate::service) fn leave(&mut self, desk: &mut Desk<'_>, (feed, topic): (FeedNumber, &str)) {
        let key = (feed, Arc::<str>::from(topic));
        let Some(its) = self.wanted.get_mut(&key) else { return };
        its.subscribers -= 1;
        if its.subscribers == 0 {
            self.wanted.remove(&key);
            self.post(desk, TopicRequest { shard: desk.shard(), feed, topic: key.1, quality: None });
        }
    }

    /// News of a topic: who has waited for them.
    pub(in crate::service) fn news(&mut self, news: &TopicNews) -> Vec<u64> {
        let Some(its) = self.wanted.get_mut(&(news.feed, news.topic.clone())) else { return Vec::new() };
        match news.state {
            TopicState::Subscribed(quality) => its.confirmed = Some(quality),
            TopicState::Refused(..) => (its.confirmed, its.is_refused) = (None, true),
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

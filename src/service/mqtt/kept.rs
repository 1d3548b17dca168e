//! Retained messages (MQTT 5, 3.3.1.3): the last one of each topic of the filters that the edge has subscribed to.
//!
//! The broker sends what it has kept when the edge subscribes, and all that is published to be retained afterwards: so
//! what a shard remembers is what the broker has, for as long as the subscription is there. Who subscribes late is sent
//! it from here. What the broker sends because of a subscription (`KEPT`) is only for those who wait for it: they are
//! *fresh* for a while.

use super::Mqtt;
use super::client::Owner;
use super::deliver::Terms;
use crate::mesh::{FeedNumber, Message, TopicNews, TopicState};
use crate::service::fanout::Filters;
use crate::shard::service::{Backpressure, Desk};
use crate::shard::slab::Handle;
use edgehold_wire::mqtt::shared::{KEPT, of_mark, read_shared};
use edgehold_wire::mqtt::topic;
use slab::Slab;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

/// Ticks for which a subscription waits for what the broker has kept.
const FRESH_TICKS: u32 = 120;

/// Ticks of a second.
const SECOND: u32 = 4;

/// What is kept.
#[derive(Default)]
pub struct Kept {
    topics: BTreeMap<(FeedNumber, Box<str>), Item>,
    /// Their bytes, by feeds; all shards have the same ones.
    bytes: HashMap<FeedNumber, u64>,
    /// Filters that the edge has subscribed to, as far as this shard knows.
    filters: HashMap<FeedNumber, Filters>,
}

/// What became of a message that was published to be retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It is kept; or nothing is any more, since it was empty.
    New,
    /// It was known.
    Known,
    /// There is no room for it (`retained_bytes`): who subscribes later is not sent it.
    NoRoom,
}

struct Item {
    message: Arc<Message>,
    tick: u32,
}

/// Subscriptions that wait for what the broker has kept.
#[derive(Default)]
pub struct Fresh {
    feeds: HashMap<FeedNumber, Filters>,
    lists: Slab<List>,
    /// When the lists are dropped.
    due: VecDeque<(u32, u32)>,
}

struct List {
    feed: FeedNumber,
    filter: Rc<str>,
    until: u32,
    /// Whose, and the tags of their subscriptions.
    owners: Vec<(Owner, u32)>,
}

impl Kept {
    /// Bytes of all that is kept.
    pub fn bytes(&self) -> u64 {
        self.bytes.values().sum()
    }

    /// A message was published to be retained, of which no more than so many bytes are kept of its feed. `Known`: it is
    /// known already, just so.
    pub fn enter(&mut self, message: &Arc<Message>, tick: u32, most: u64) -> Entered {
        let key = (message.feed, Box::from(&*message.channel));
        let is_end = read_shared(message.payload()).is_none_or(|it| it.payload.is_empty());
        let cost = message.payload().len() as u64;
        let before = self.topics.get(&key).map(|it| it.message.clone());
        let is_same = before.as_ref().is_some_and(|it| it.payload() == message.payload());
        let bytes = self.bytes.entry(message.feed).or_default();
        *bytes -= before.as_ref().map_or(0, |it| it.payload().len() as u64);
        let is_full = !is_end && *bytes + cost > most;
        if is_end || is_full {
            self.topics.remove(&key);
        } else {
            *bytes += cost;
            self.topics.insert(key, Item { message: message.clone(), tick });
        }
        match (is_full, is_same) {
            (true, _) => Entered::NoRoom,
            (_, true) => Entered::Known,
            _ => Entered::New,
        }
    }

    /// What is kept of the topics that a filter matches, in the order of their names.
    pub fn matching(&self, feed: FeedNumber, filter: &str) -> Vec<Arc<Message>> {
        let literal = filter.split(['+', '#']).next().unwrap_or_default();
        // `a/#` matches `a`, too.
        let from = literal.strip_suffix('/').unwrap_or(literal);
        let range = (Bound::Included((feed, Box::from(from))), Bound::Unbounded);
        let near = self.topics.range(range).take_while(|it| it.0.0 == feed && it.0.1.starts_with(from));
        near.filter(|it| topic::matches(filter, &it.0.1)).map(|it| it.1.message.clone()).collect()
    }

    /// Whether this message is still the last one, and when it came.
    fn tick_of(&self, message: &Arc<Message>) -> Option<u32> {
        let item = self.topics.get(&(message.feed, Box::from(&*message.channel)))?;
        Arc::ptr_eq(&item.message, message).then_some(item.tick)
    }

    /// A filter was subscribed to, or is no more: what no other matches is not kept any longer.
    pub fn heed(&mut self, news: &TopicNews) {
        let filters = self.filters.entry(news.feed).or_default();
        match news.state {
            TopicState::Subscribed(_) => filters.insert(&Rc::from(&*news.topic), 0),
            TopicState::Refused(..) | TopicState::Ended => {
                filters.remove(&news.topic);
                let all = self.matching(news.feed, &news.topic);
                for message in all {
                    if !self.is_wanted(&message) {
                        self.forget(&message);
                    }
                }
            }
        }
    }

    /// Whether some filter matches it.
    fn is_wanted(&self, message: &Message) -> bool {
        let mut found = Vec::new();
        let filters = self.filters.get(&message.feed).into_iter();
        filters.for_each(|filters| filters.matching(&message.channel, &mut found));
        !found.is_empty()
    }

    fn forget(&mut self, message: &Arc<Message>) {
        if let Some(item) = self.topics.remove(&(message.feed, Box::from(&*message.channel))) {
            let bytes = self.bytes.entry(message.feed).or_default();
            *bytes -= item.message.payload().len() as u64;
        }
    }

    /// Messages were lost: what is kept may not be the last any more.
    pub fn doubt(&mut self, feed: Option<FeedNumber>) {
        self.topics.retain(|key, _| feed.is_some_and(|feed| feed != key.0));
        self.bytes.clear();
        for (key, it) in &self.topics {
            *self.bytes.entry(key.0).or_default() += it.message.payload().len() as u64;
        }
    }
}

impl Fresh {
    /// A subscription waits.
    pub fn enter(&mut self, now: u32, owner: Owner, feed: FeedNumber, (filter, tag): (&str, u32)) {
        let filters = self.feeds.entry(feed).or_default();
        let number = filters.find(filter).unwrap_or_else(|| {
            let filter: Rc<str> = filter.into();
            let list = List { feed, filter: filter.clone(), until: 0, owners: Vec::new() };
            let number = self.lists.insert(list) as u32;
            filters.insert(&filter, number);
            number
        });
        let list = &mut self.lists[number as usize];
        list.owners.push((owner, tag));
        if list.until == 0 {
            list.until = now + FRESH_TICKS;
            self.due.push_back((list.until, number));
        }
    }

    /// Who waits for this topic, with the tags of their subscriptions.
    fn waiting(&self, feed: FeedNumber, topic: &str) -> Vec<(Owner, u32)> {
        let mut numbers = Vec::new();
        self.feeds.get(&feed).into_iter().for_each(|filters| filters.matching(topic, &mut numbers));
        numbers.iter().flat_map(|number| self.lists[*number as usize].owners.iter().copied()).collect()
    }

    /// Drops those who have waited long enough.
    pub fn expire(&mut self, now: u32) {
        while let Some(&(until, number)) = self.due.front() {
            if until > now {
                return;
            }
            self.due.pop_front();
            let list = self.lists.remove(number as usize);
            if let Some(filters) = self.feeds.get_mut(&list.feed) {
                filters.remove(&list.filter);
            }
        }
    }
}

impl Mqtt {
    /// A message that is retained has come. `false`: it is for nobody but those who wait for it.
    pub(super) fn note_retained(&mut self, desk: &mut Desk<'_>, message: &Arc<Message>) -> bool {
        let (_, is_retained) = of_mark(message.mark);
        let is_kept = message.mark & KEPT != 0;
        if !is_retained && !is_kept {
            return true;
        }
        let most = self.retained_bytes(message.feed);
        let entered = self.kept.enter(message, desk.now(), most);
        desk.counters().offload_unkept += u64::from(entered == Entered::NoRoom);
        let is_news = entered != Entered::Known;
        if is_kept && is_news {
            for (owner, tag) in self.fresh.waiting(message.feed, &message.channel) {
                // It may have unsubscribed since.
                let is_its = |it: (u32, u32, &str)| it.1 == tag && topic::matches(it.2, &message.channel);
                if !self.fanout.tagged(owner.token).any(is_its) {
                    continue;
                }
                let Some((who, client)) = self.owned(owner) else { continue };
                client.busy().kept.push_back((message.clone(), tag));
                self.send_kept(desk, who, owner.token);
            }
        }
        !is_kept
    }

    /// What may be kept of a broker: two routes may have the same one.
    fn retained_bytes(&self, feed: FeedNumber) -> u64 {
        let plans = (0..self.peers.plans.len()).map(|number| &self.peers.plans[number]);
        plans.filter(|plan| plan.feed == feed).map(|plan| plan.bounds.retained_bytes).max().unwrap_or(0)
    }

    /// A client is to be sent what is kept of filters.
    pub(super) fn owe_kept(
        &mut self,
        desk: &mut Desk<'_>,
        who: Handle,
        token: u32,
        feed: FeedNumber,
        filters: Vec<(Box<str>, u32)>,
    ) {
        for (filter, tag) in filters {
            let messages = self.kept.matching(feed, &filter);
            desk.charge(messages.len());
            let owed = messages.into_iter().map(|message| (message, tag));
            self.peers.clients[token as usize].busy().kept.extend(owed);
        }
        self.send_kept(desk, who, token);
    }

    /// Sends a client what it is owed, as far as it takes it.
    pub(super) fn send_kept(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32) {
        let now = desk.now();
        loop {
            let Some(busy) = self.peers.clients[token as usize].busy.as_mut() else { return };
            let Some((message, tag)) = busy.kept.pop_front() else { break };
            // One that was published since has come to it as all others do.
            let Some(tick) = self.kept.tick_of(&message) else { continue };
            let terms = Terms { tags: &[tag], waited: now.saturating_sub(tick) / SECOND, kept: true };
            match self.peers.whole(token, &message, &terms) {
                Ok(None) => {}
                Ok(Some(packet)) => {
                    if self.peers.clients[token as usize].send(desk, who, &packet) == Backpressure::Full {
                        break;
                    }
                }
                Err(()) => {
                    self.peers.clients[token as usize].busy().kept.push_front((message, tag));
                    break;
                }
            }
        }
        self.peers.clients[token as usize].tidy();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{NewMessage, PlainFrame};
    use edgehold_wire::mqtt::shared::write_shared;
    use edgehold_wire::mqtt::{Properties, Publish, QoS};

    const FEED: FeedNumber = 3;

    fn news(topic: &str, state: TopicState) -> TopicNews {
        TopicNews { feed: FEED, topic: topic.into(), state }
    }

    fn retained(topic: &str, payload: &[u8]) -> Arc<Message> {
        let (qos, properties) = (QoS::AtMostOnce, Properties::default());
        let publish = Publish { dup: false, qos, retain: true, topic, packet_id: None, properties, payload };
        let mut shared = Vec::new();
        write_shared(&mut shared, &publish);
        let new = NewMessage {
            feed: FEED,
            channel: topic.into(),
            payload: PlainFrame::binary(&shared),
            ..NewMessage::default()
        };
        Arc::new(Message::new(new, 1, 1))
    }

    fn enter(kept: &mut Kept, topic: &str, payload: &[u8]) -> Entered {
        kept.enter(&retained(topic, payload), 0, 90)
    }

    fn topics(kept: &Kept, filter: &str) -> Vec<String> {
        kept.matching(FEED, filter).iter().map(|it| it.channel.to_string()).collect()
    }

    #[test]
    fn it_is_kept_for_as_long_as_a_filter_matches() {
        let mut kept = Kept::default();
        ["a/+", "a/b", "#"].iter().for_each(|filter| kept.heed(&news(filter, TopicState::Subscribed(1))));
        ["a/b", "a/c", "d"].iter().for_each(|topic| assert_eq!(enter(&mut kept, topic, b"x"), Entered::New));
        kept.heed(&news("#", TopicState::Ended));
        assert_eq!(topics(&kept, "#"), ["a/b", "a/c"]);
        kept.heed(&news("a/+", TopicState::Ended));
        assert_eq!(topics(&kept, "#"), ["a/b"]);
        assert_eq!(enter(&mut kept, "a/b", b"x"), Entered::Known);
        assert_eq!(enter(&mut kept, "a/b", b""), Entered::New);
        assert_eq!(topics(&kept, "#"), [""; 0]);
        enter(&mut kept, "a/b", b"y");
        assert_eq!(enter(&mut kept, "a/b/long", &[7; 100]), Entered::NoRoom);
        kept.heed(&news("a/b", TopicState::Refused(0x87, "not any more".into())));
        assert_eq!((topics(&kept, "#"), kept.bytes()), (vec![], 0));
    }
}

//! Retained messages (MQTT 5, 3.3.1.3): the last one of each topic of the filters that the edge has subscribed to.
//!
//! The control thread asks the broker for what it has kept when a filter is subscribed to (`KEPT`), and afterwards all
//! that is published to be retained comes live: so what a shard remembers is what the broker has, for as long as the
//! subscription is there. Whoever subscribes is sent it from here, behind SUBACK, but for what has come to it live by
//! then.

use super::Mqtt;
use super::deliver::Terms;
use crate::mesh::{FeedNumber, Message, TopicNews, TopicState};
use crate::service::fanout::Filters;
use crate::shard::service::{Backpressure, Desk};
use crate::shard::slab::Handle;
use edgehold_wire::mqtt::shared::{EXPIRY_BYTES, KEPT, Shared, of_mark, read_shared};
use edgehold_wire::mqtt::topic;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

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

struct Item {
    message: Arc<Message>,
    tick: u32,
    /// The broker keeps it as of this sequence.
    seen: u64,
}

impl Kept {
    /// Bytes of all that is kept.
    pub fn bytes(&self) -> u64 {
        self.bytes.values().sum()
    }

    /// A message was published to be retained, or the broker has kept it; no more than so many bytes are kept of its
    /// feed. One that was heard live stays that one when the broker says that it has it. `false`: there is no room for
    /// it, and who subscribes later is not sent it.
    pub fn enter(&mut self, message: &Arc<Message>, tick: u32, most: u64) -> bool {
        let key = (message.feed, Box::from(&*message.channel));
        let is_end = read_shared(message.payload()).is_none_or(|it| it.payload.is_empty());
        let cost = message.payload().len() as u64;
        let bytes = self.bytes.entry(message.feed).or_default();
        if let Some(item) = self.topics.get_mut(&key) {
            if message.mark & KEPT != 0 && is_same(&item.message, message) {
                item.seen = message.sequence;
                return true;
            }
            *bytes -= item.message.payload().len() as u64;
        }
        let is_full = !is_end && *bytes + cost > most;
        if is_end || is_full {
            self.topics.remove(&key);
        } else {
            *bytes += cost;
            self.topics.insert(key, Item { message: message.clone(), tick, seen: message.sequence });
        }
        !is_full
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

    /// A filter was subscribed to: what the broker has not kept of it is forgotten. Or it is no more: so is what no
    /// other matches. Returns how many messages were looked at.
    pub fn heed(&mut self, news: &TopicNews) -> usize {
        let filters = self.filters.entry(news.feed).or_default();
        let since = match news.state {
            TopicState::Subscribed(granted) => {
                filters.insert(&Rc::from(&*news.topic), 0);
                Some(granted.kept_since).filter(|since| *since > 0)
            }
            TopicState::Refused(..) | TopicState::Ended => {
                filters.remove(&news.topic);
                None
            }
        };
        if since.is_none() && matches!(news.state, TopicState::Subscribed(_)) {
            return 0;
        }
        let all = self.matching(news.feed, &news.topic);
        for message in &all {
            if since.map_or_else(|| !self.is_wanted(message), |since| !self.is_kept_beyond(message, since)) {
                self.forget(message);
            }
        }
        all.len()
    }

    /// Whether the broker has it still, or had it beyond this sequence.
    fn is_kept_beyond(&self, message: &Message, since: u64) -> bool {
        let item = self.topics.get(&(message.feed, Box::from(&*message.channel)));
        item.is_some_and(|item| item.seen > since)
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
}

impl Mqtt {
    /// A message that is retained may have come. `false`: it is for those alone who subscribe.
    pub(super) fn note_retained(&mut self, desk: &mut Desk<'_>, message: &Arc<Message>) -> bool {
        let is_kept = message.mark & KEPT != 0;
        if is_kept || of_mark(message.mark).1 {
            let most = self.retained_bytes(message.feed);
            let has_room = self.kept.enter(message, desk.now(), most);
            desk.counters().offload_unkept += u64::from(!has_room);
        }
        !is_kept
    }

    /// What may be kept of a broker: two routes may have the same one.
    fn retained_bytes(&self, feed: FeedNumber) -> u64 {
        let plans = (0..self.peers.plans.len()).map(|number| &self.peers.plans[number]);
        plans.filter(|plan| plan.feed == feed).map(|plan| plan.bounds.retained_bytes).max().unwrap_or(0)
    }

    /// A client is to be sent what is kept of a filter, but for what has come live since this sequence.
    pub(super) fn owe_kept(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        feed: FeedNumber,
        (filter, tag, since): (&str, u32, u64),
    ) {
        let messages = self.kept.matching(feed, filter);
        desk.charge(messages.len());
        let is_owed = |it: &Arc<Message>| it.mark & KEPT != 0 || it.sequence <= since;
        let owed = messages.into_iter().filter(is_owed).map(|message| (message, tag));
        self.peers.clients[token as usize].busy().kept.extend(owed);
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

/// Whether they are one, but for the time that is left of them: a broker tells that anew.
fn is_same(one: &Message, other: &Message) -> bool {
    let (Some(its), Some(others)) = (read_shared(one.payload()), read_shared(other.payload())) else { return false };
    let behind = |it: &Shared<'_>| if it.expiry.is_some() { EXPIRY_BYTES } else { 0 };
    let properties = |it: &Shared<'_>| it.properties.raw().get(behind(it)..).map(Vec::from);
    of_mark(one.mark).0 == of_mark(other.mark).0
        && its.payload == others.payload
        && properties(&its) == properties(&others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Granted, NewMessage, PlainFrame};
    use edgehold_wire::mqtt::shared::write_shared;
    use edgehold_wire::mqtt::{Properties, Publish, QoS};

    const FEED: FeedNumber = 3;
    const MOST: u64 = 90;

    fn news(topic: &str, state: TopicState) -> TopicNews {
        TopicNews { feed: FEED, topic: topic.into(), state, after: 0 }
    }

    /// The broker has said what it keeps, beyond this sequence.
    fn subscribed(topic: &str, kept_since: u64) -> TopicNews {
        news(topic, TopicState::Subscribed(Granted { quality: 2, kept_since, is_followed: true }))
    }

    fn retained(topic: &str, payload: &[u8], (bits, sequence): (u8, u64)) -> Arc<Message> {
        let (qos, properties) = (QoS::AtMostOnce, Properties::default());
        let publish = Publish { dup: false, qos, retain: true, topic, packet_id: None, properties, payload };
        let mut shared = Vec::new();
        write_shared(&mut shared, &publish);
        let new = NewMessage {
            feed: FEED,
            channel: topic.into(),
            mark: bits,
            payload: PlainFrame::binary(&shared),
            ..NewMessage::default()
        };
        Arc::new(Message::new(new, 1, sequence))
    }

    fn topics(kept: &Kept, filter: &str) -> Vec<String> {
        kept.matching(FEED, filter).iter().map(|it| it.channel.to_string()).collect()
    }

    #[test]
    fn it_is_kept_for_as_long_as_a_filter_matches() {
        let mut kept = Kept::default();
        ["a/+", "a/b", "#"].iter().for_each(|filter| assert_eq!(kept.heed(&subscribed(filter, 0)), 0));
        ["a/b", "a/c", "d"].iter().for_each(|topic| assert!(kept.enter(&retained(topic, b"x", (4, 1)), 0, MOST)));
        assert_eq!(
            (kept.heed(&news("#", TopicState::Ended)), topics(&kept, "#")),
            (3, vec!["a/b".into(), "a/c".into()])
        );
        kept.heed(&news("a/+", TopicState::Ended));
        assert_eq!(topics(&kept, "#"), ["a/b"]);
        kept.enter(&retained("a/b", b"", (4, 2)), 1, MOST);
        assert_eq!(topics(&kept, "#"), [""; 0]);
        kept.enter(&retained("a/b", b"y", (4, 3)), 2, MOST);
        assert!(!kept.enter(&retained("a/b/long", &[7; 100], (4, 4)), 2, MOST));
        kept.heed(&news("a/b", TopicState::Refused(0x87, "not any more".into())));
        assert_eq!((topics(&kept, "#"), kept.bytes()), (vec![], 0));
    }

    #[test]
    fn what_the_broker_does_not_keep_any_more_is_forgotten() {
        let mut kept = Kept::default();
        kept.enter(&retained("a/old", b"x", (4, 1)), 0, MOST);
        kept.enter(&retained("a/same", b"x", (4, 2)), 0, MOST);
        kept.enter(&retained("a/live", b"x", (4, 9)), 0, MOST);
        kept.enter(&retained("other", b"x", (4, 3)), 0, MOST);
        // What was heard live stays that one: its client has had it as such.
        kept.enter(&retained("a/same", b"x", (4 | KEPT, 7)), 0, MOST);
        kept.enter(&retained("a/new", b"x", (4 | KEPT, 8)), 0, MOST);
        kept.heed(&subscribed("a/+", 5));
        assert_eq!(topics(&kept, "#"), ["a/live", "a/new", "a/same", "other"]);
        assert_eq!(kept.matching(FEED, "a/same")[0].sequence, 2);
        kept.enter(&retained("a/same", b"y", (4 | KEPT, 10)), 0, MOST);
        assert_eq!((kept.matching(FEED, "a/same")[0].sequence, kept.bytes()), (10, 4 * 2));
    }
}

//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5, 3.8 to 3.11).
//!
//! A shared filter is a cursor in the fan-out's log of that filter. SUBACK waits until the broker has confirmed all
//! filters of its SUBSCRIBE to the edge.

use super::Mqtt;
use super::client::{Owner, Unanswered, Waiting, count, counted};
use super::deliver::Tag;
use crate::mesh::{OffloadRefused, TopicNews, TopicState};
use crate::service::fanout::Traits;
use crate::service::offload::{OffloadPlan, Wanted, any, may};
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::mqtt::{self, Options, Properties, Property, QoS, SubAck, Subscribe, UnsubAck, Unsubscribe, topic};
use std::sync::Arc;

/// What comes of one filter.
pub(super) enum Outcome {
    /// This code; and it is to be sent what is kept.
    Known(u8, bool),
    /// The broker has to say.
    Waits(bool),
}

impl Mqtt {
    pub(super) fn subscribe(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, packet: &Subscribe<'_>) {
        let plan = self.plan_of(token);
        let identifier = packet.properties.iter().find_map(|it| match it {
            Property::SubscriptionId(identifier) => Some(identifier),
            _ => None,
        });
        let mut answer = Unanswered { id: packet.packet_id, codes: Vec::new(), waits: Vec::new() };
        let mut kept = Vec::new();
        for (place, (filter, options)) in packet.filters.iter().enumerate() {
            let tag = Tag::new(identifier.unwrap_or(0), options);
            match self.subscribe_one(desk, who, token, &plan, (filter, options, tag)) {
                Outcome::Known(code, wants_kept) => {
                    if code >= 0x80 {
                        count(desk, counted(code));
                    }
                    answer.codes.push(Some(code));
                    kept.extend(Some((Box::<str>::from(filter), tag.0)).filter(|_| wants_kept));
                }
                Outcome::Waits(wants_kept) => {
                    answer.codes.push(None);
                    let (tag, since) = (tag.0, self.seen);
                    answer.waits.push(Waiting { place, filter: filter.into(), tag, wants_kept, since });
                }
            }
        }
        self.peers.clients[token as usize].busy().unanswered.push(answer);
        self.answer(desk, who, token);
        kept.into_iter().for_each(|(filter, tag)| self.owe_kept(desk, token, plan.feed, (&filter, tag, self.seen)));
        self.send_kept(desk, who, token);
    }

    fn subscribe_one(
        &mut self,
        desk: &mut Desk<'_>,
        who: Handle,
        token: u32,
        plan: &Arc<OffloadPlan>,
        (filter, options, tag): (&str, Options, Tag),
    ) -> Outcome {
        if filter.len() > plan.bounds.name_bytes {
            return Outcome::Known(0x97, false);
        }
        let group = topic::shared(filter);
        let bare = group.map_or(filter, |(_, bare)| bare);
        let client = desk.identity(who).map(|it| &**it);
        if !may(&plan.rules, bare, client, false) {
            return Outcome::Known(0x87, false);
        }
        if group.is_some() {
            return self.join_group(desk, token, plan, (filter, tag));
        }
        let is_shared = any(&plan.share, filter, client) && !any(&plan.private, filter, client);
        if options.no_local || !is_shared {
            return Outcome::Known(0x83, false);
        }
        self.listen(desk, token, plan, (filter, options, tag))
    }

    /// Subscribes to a filter that all share.
    fn listen(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        plan: &Arc<OffloadPlan>,
        (filter, options, tag): (&str, Options, Tag),
    ) -> Outcome {
        let known = self.fanout.tagged(token).find(|it| it.2 == filter).map(|it| it.0);
        if known.is_none() && self.subscriptions(token) >= plan.subscriptions_max {
            return Outcome::Known(0x97, false);
        }
        self.share(desk, token, plan, (filter, tag, known));
        let waiter = Some(self.owner(token).to_word());
        let wanted = self.topics.want(desk, (plan.feed, filter), waiter);
        if known.is_some() {
            self.topics.leave(desk, (plan.feed, filter));
        }
        let wants_kept = options.retain_handling == 0 || options.retain_handling == 1 && known.is_none();
        match wanted {
            Wanted::Confirmed(qos) => Outcome::Known(qos.min(options.qos.level()), wants_kept),
            Wanted::Waits => Outcome::Waits(wants_kept),
        }
    }

    /// How many a client has.
    pub(super) fn subscriptions(&self, token: u32) -> u32 {
        let groups = self.peers.clients[token as usize].busy.as_ref().map_or(0, |busy| busy.groups.len());
        self.fanout.client(token).map_or(0, |it| it.count) + groups as u32
    }

    /// A subscription in the fan-out, in place of one that there is (3.8.4).
    fn share(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        plan: &OffloadPlan,
        (filter, tag, known): (&str, Tag, Option<u32>),
    ) {
        match known {
            Some(number) => self.fanout.retag(number, tag.0),
            None => drop(self.fanout.subscribe_tagged(desk, token, filter, tag.0)),
        }
        debug_assert!(plan.feed == self.plan_of(token).feed, "a client has one broker");
        if let Some(client) = self.fanout.client_mut(token).filter(|_| tag.qos() != QoS::AtMostOnce) {
            client.traits.insert(Traits::RELIABLE);
        }
    }

    /// Sends every SUBACK of which all is known, in their order.
    pub(super) fn answer(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32) {
        let client = &mut self.peers.clients[token as usize];
        let unanswered = &mut client.busy().unanswered;
        let known = unanswered.iter().take_while(|it| it.codes.iter().all(Option::is_some)).count();
        let answers: Vec<Unanswered> = unanswered.drain(..known).collect();
        for it in answers {
            let codes: Vec<u8> = it.codes.into_iter().flatten().collect();
            let suback = SubAck { packet_id: it.id, properties: Properties::default(), codes: &codes };
            let mut out = Vec::with_capacity(codes.len() + 8);
            mqtt::write_suback(&mut out, client.version, &suback);
            client.send(desk, who, &out);
        }
        client.tidy();
    }

    /// News of a filter. They hold for who has had what was published before.
    pub(super) fn take_news(&mut self, desk: &mut Desk<'_>, news: TopicNews) {
        self.early.push_back(news);
        self.heed_news(desk);
    }

    /// Heeds the news for which it is time.
    pub(super) fn heed_news(&mut self, desk: &mut Desk<'_>) {
        while self.early.front().is_some_and(|news| news.after <= self.seen)
            && let Some(news) = self.early.pop_front()
        {
            // What was subscribed to before a loss is subscribed to anew.
            let lost = self.lost.get(&news.feed).copied().unwrap_or(0);
            if news.after >= lost || !matches!(news.state, TopicState::Subscribed(_)) {
                self.heed(desk, &news);
            }
        }
    }

    /// Who waits for news is told.
    fn heed(&mut self, desk: &mut Desk<'_>, news: &TopicNews) {
        let looked_at = self.kept.heed(news);
        desk.charge(looked_at);
        for word in self.topics.news(news) {
            let owner = Owner::of_word(word);
            let Some((who, client)) = self.owned(owner) else { continue };
            let waits = client.take_waiting(&news.topic, |tag| match &news.state {
                TopicState::Subscribed(granted) => granted.quality.min(tag.qos().level()),
                TopicState::Refused(code, _) => *code,
                TopicState::Ended => 0x80,
            });
            let is_refused = matches!(news.state, TopicState::Refused(..));
            if is_refused {
                waits.iter().for_each(|_| count(desk, OffloadRefused::Broker));
            }
            self.answer(desk, who, owner.token);
            if is_refused {
                self.end_filter(desk, owner.token, &news.topic);
                continue;
            }
            for it in waits.into_iter().filter(|it| it.wants_kept) {
                self.owe_kept(desk, owner.token, news.feed, (&it.filter, it.tag, it.since));
            }
            self.send_kept(desk, who, owner.token);
        }
    }

    // ---- ends ----

    pub(super) fn unsubscribe(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, packet: &Unsubscribe<'_>) {
        let mut codes = Vec::new();
        for (filter, _) in packet.filters.iter() {
            // Who asks for both at once has an answer to both.
            self.peers.clients[token as usize].take_waiting(filter, |tag| tag.qos().level());
            let ended = self.end_filter(desk, token, filter) || self.leave_group(desk, token, filter);
            codes.push(if ended { 0 } else { 0x11 });
        }
        self.answer(desk, who, token);
        let client = &mut self.peers.clients[token as usize];
        let unsuback = UnsubAck { packet_id: packet.packet_id, properties: Properties::default(), codes: &codes };
        let mut out = Vec::with_capacity(codes.len() + 8);
        mqtt::write_unsuback(&mut out, client.version, &unsuback);
        client.send(desk, who, &out);
    }

    fn end_filter(&mut self, desk: &mut Desk<'_>, token: u32, filter: &str) -> bool {
        let found = self.fanout.tagged(token).find(|it| it.2 == filter).map(|it| it.0);
        let Some(number) = found else { return false };
        self.fanout.unsubscribe(desk, number);
        let feed = self.plan_of(token).feed;
        self.topics.leave(desk, (feed, filter));
        true
    }

    /// The client has left.
    pub(super) fn leave_topics(&mut self, desk: &mut Desk<'_>, token: u32) {
        let feed = self.plan_of(token).feed;
        let all: Vec<String> = self.fanout.tagged(token).map(|it| it.2.into()).collect();
        all.iter().for_each(|filter| self.topics.leave(desk, (feed, filter)));
    }
}

impl super::client::Client {
    /// Takes what waits for a filter out of all that is not answered, and enters its code.
    pub(super) fn take_waiting(&mut self, filter: &str, code: impl Fn(Tag) -> u8) -> Vec<Waiting> {
        let mut taken = Vec::new();
        for answer in self.busy.iter_mut().flat_map(|busy| busy.unanswered.iter_mut()) {
            let Some(at) = answer.waits.iter().position(|it| *it.filter == *filter) else { continue };
            let waiting = answer.waits.swap_remove(at);
            if let Some(known) = answer.codes.get_mut(waiting.place) {
                *known = Some(code(Tag(waiting.tag)));
            }
            taken.push(waiting);
        }
        taken
    }
}

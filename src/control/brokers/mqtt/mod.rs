//! A session that speaks MQTT: version 5, where each filter has an identifier that comes back with its messages, or
//! 3.1.1 with a broker that has no more.
//!
//! Without identifiers it cannot be told for which filter a message came. So no two filters are subscribed to that
//! overlap: one that another covers is had by that one ([`overlap`]).
//!
//! The broker is always asked for QoS 2: a message comes as it was published, and each client is sent it as it has
//! asked.
//! What the broker keeps is asked for over a session of its own ([`kept`]); here come live messages alone.

mod connect;
mod filters;
mod kept;
mod overlap;

use super::keeper::{Dialect, Keeper, Next, nonsense, take_received, within};
use super::link::Link;
use super::pace::Pace;
use super::refusals::Refusal;
use super::settings::{BrokerAddress, BrokerSettings};
use super::stats::Refused;
use crate::mesh::{NewMessage, PlainFrame};
use connect::Opened;
pub(super) use connect::Spoken;
use edgehold_wire::mqtt::shared::{self, write_shared};
use edgehold_wire::mqtt::{
    self, Ack, AckKind, Limits, Options, Packet, Properties, Property, Publish, QoS, Read, Role, SubAck, Version,
    topic, write_ack, write_subscribe, write_unsubscribe,
};
use filters::{Filters, LEVELS};
use kept::Fetcher;
use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use tokio::time::{Instant, sleep};

/// Subscriptions and their ends that may wait for an answer.
const UNDER_WAY: usize = 256;

/// The greatest subscription identifier (MQTT version 5 section 3.8.2.1.2).
const LAST_NUMBER: u32 = 268_435_455;

/// The reason code of a filter that is none, or too deep (MQTT version 5, SUBACK).
const BAD_FILTER: u8 = 0x8f;

/// The reason code of a filter that cannot be had (MQTT version 5, SUBACK: unspecified error).
const CANNOT: u8 = 0x80;

/// DISCONNECT.
const DISCONNECT: &[u8] = &[0xe0, 0];

/// Suspects that are remembered; beyond, all are forgotten.
const SUSPECTS: usize = 65_536;

/// What is known of an MQTT broker.
pub(super) struct Mqtt {
    spoken: Spoken,
    /// Messages come with the identifiers of their filters.
    has_ids: bool,
    /// The broker keeps the session while there is no connection.
    is_kept: bool,
    /// The broker keeps retained messages.
    retains: bool,
    /// Asks for those.
    fetcher: Fetcher,
    /// What it has of the edge.
    filters: Filters,
    /// Filters that another has for them, by their numbers.
    covered: HashMap<u32, Arc<str>>,
    /// Messages of QoS 2 that were published, and are not to be again (section 4.3.3).
    published: HashSet<u16>,
    /// Filters that are being ended, by their numbers: messages come for them until the broker confirms.
    leaving: HashMap<u32, Arc<str>>,
    /// Filters that are wanted again before that.
    aside: HashSet<Arc<str>>,
    /// Filters that were under way when a session ended: there are brokers that end one for what they do not like.
    suspects: HashSet<Arc<str>>,
    /// Those of them that are due: the broker is asked for one at a time.
    alone: VecDeque<Arc<str>>,
}

/// A session that is up.
struct Session {
    link: Link,
    pace: Pace,
    /// What waits for an answer, by the packet identifiers.
    under_way: HashMap<u16, Asked>,
    last_id: u16,
    /// PINGRESPs that have come.
    pongs: u64,
    /// Messages that were acknowledged.
    acknowledged: u64,
    /// Bytes that must have come before it is worth another look.
    least: usize,
}

/// What the broker was asked for, and the number of the filter.
enum Asked {
    Subscribe(u32),
    Unsubscribe(u32),
}

impl Dialect for Mqtt {
    async fn session(&mut self, keeper: &mut Keeper, address: &BrokerAddress) -> Result<Infallible, io::Error> {
        let Err(error) = self.go_on(keeper, address).await;
        self.fetcher.reset();
        keeper.tell_ended();
        self.suspect(keeper);
        Err(error)
    }

    fn is_kept(&self) -> bool {
        self.is_kept
    }
}

impl Mqtt {
    async fn go_on(&mut self, keeper: &mut Keeper, address: &BrokerAddress) -> Result<Infallible, io::Error> {
        let settings = keeper.settings.clone();
        let opened = self.open(address, &settings).await?;
        let mut session = self.begin(keeper, address, opened).await;
        // What has come with CONNACK.
        self.read(keeper, &mut session).await?;
        loop {
            self.subscribe(keeper, &mut session)?;
            self.ask_for_kept(keeper, address);
            tokio::select! {
                has_come = session.link.go_on() => if has_come? {
                    self.read(keeper, &mut session).await?;
                    self.fence(keeper, &mut session).await;
                },
                happened = self.fetcher.happens() => self.fetch(keeper, &mut session, happened).await,
                next = keeper.next() => if next == Next::Tick {
                    let now = Instant::now();
                    session.link.beat(now);
                    session.link.check_silence(now)?;
                    self.tick_kept(keeper, &mut session, now).await;
                },
                () = sleep(session.pace.wait()), if self.may_ask(keeper, &session) => {}
            }
        }
    }

    pub(super) fn new() -> Mqtt {
        Mqtt {
            spoken: Spoken::new(),
            has_ids: true,
            is_kept: false,
            retains: true,
            fetcher: Fetcher::default(),
            filters: Filters::default(),
            covered: HashMap::new(),
            published: HashSet::new(),
            leaving: HashMap::new(),
            aside: HashSet::new(),
            suspects: HashSet::new(),
            alone: VecDeque::new(),
        }
    }

    /// The session has ended. If it was at a filter that was asked for alone, then because of it.
    fn suspect(&mut self, keeper: &mut Keeper) {
        let mut filters = keeper.topics.under_way();
        // What the broker has confirmed, and is asked for what it keeps of, is above suspicion.
        filters.retain(|it| keeper.topics.number_of(it).is_none_or(|number| self.filters.granted(number).is_none()));
        match &filters[..] {
            [filter] if self.suspects.remove(filter) => {
                let number = self.filters.iter().find(|(_, known)| known.filter == *filter).map(|(number, _)| number);
                number.map(|number| self.filters.remove(number));
                let words = "the broker ends the session when it is asked for this";
                keeper.refuse(filter, Refused::Broker, (CANNOT, words.into()));
            }
            _ if self.suspects.len() + filters.len() > SUSPECTS => self.suspects.clear(),
            _ => self.suspects.extend(filters),
        }
        self.alone.drain(..).for_each(|filter| keeper.topics.set_due(&filter));
    }

    /// A session that the broker is to keep is begun anew, and then gone on with: Mosquitto 2.0 forgets one when it
    /// ends whose last connection had Clean Start.
    async fn open(&mut self, address: &BrokerAddress, settings: &BrokerSettings) -> io::Result<Opened> {
        let opened = self.spoken.open(address, settings, !self.is_kept).await??;
        if self.is_kept || !opened.is_kept {
            return Ok(opened);
        }
        let mut connection = opened.connection;
        connection.unsent.extend_from_slice(DISCONNECT);
        within(settings.connect_timeout, connection.write()).await?;
        drop(connection);
        Ok(self.spoken.open(address, settings, false).await??)
    }

    /// The session is there: the one that the broker has kept, or a new one.
    async fn begin(&mut self, keeper: &mut Keeper, address: &BrokerAddress, opened: Opened) -> Session {
        let was_kept = std::mem::replace(&mut self.is_kept, opened.is_kept);
        (self.has_ids, self.retains) = (opened.has_ids, opened.retains);
        keeper.is_followed = self.spoken.version() == Version::V5;
        if opened.is_present && was_kept {
            self.resume(keeper);
        } else {
            if was_kept {
                let route = &keeper.settings.name;
                tracing::warn!(route, %address, "the broker has not kept the session: messages may be missed");
                keeper.lost().await;
            }
            (self.filters, self.covered) = (Filters::default(), HashMap::new());
            self.published.clear();
            self.leaving.clear();
            self.aside.clear();
        }
        keeper.up(address, if self.spoken.version() == Version::V5 { "MQTT 5" } else { "MQTT 3.1.1" });
        let pace = Pace::new(keeper.settings.subscribe_rate, Instant::now());
        let link = Link::new(opened.connection, opened.beats);
        Session { link, pace, under_way: HashMap::new(), last_id: 0, pongs: 0, acknowledged: 0, least: 0 }
    }

    /// What the broker had not confirmed it is asked for again; of the others, what it keeps: it has not told of
    /// messages with QoS 0.
    fn resume(&mut self, keeper: &mut Keeper) {
        for topic in keeper.topics.under_way() {
            keeper.topics.ask_again(&topic);
        }
        let granted: Vec<_> = self.filters.iter().filter_map(|(number, it)| Some((number, it.granted?))).collect();
        granted.into_iter().for_each(|(number, quality)| self.confirm(keeper, number, quality));
        keeper.gone.extend(self.leaving.drain().map(|(number, topic)| (topic, number)));
    }

    // ---- subscriptions ----

    /// Ends the subscriptions of topics that have ended, and subscribes to what is due, in paced order.
    fn subscribe(&mut self, keeper: &mut Keeper, session: &mut Session) -> io::Result<()> {
        while session.may_ask()
            && let Some((filter, number)) = keeper.gone.pop()
        {
            self.unsubscribe(keeper, session, filter, number);
        }
        while self.may_ask(keeper, session) && session.pace.take(Instant::now()) {
            let Some(filter) = keeper.topics.next_due() else { break };
            if self.leaving.values().any(|it| *it == filter) {
                self.aside.insert(filter);
            } else if let Some(refusal) = refusal(&filter) {
                keeper.refuse(&filter, Refused::Broker, refusal);
            } else if self.suspects.contains(&filter) {
                self.alone.push_back(filter);
            } else {
                self.ask(keeper, session, &filter);
            }
        }
        if session.under_way.is_empty()
            && !keeper.topics.has_due()
            && let Some(filter) = self.alone.pop_front()
        {
            self.ask(keeper, session, &filter);
        }
        if keeper.topics.last_number() >= LAST_NUMBER {
            return Err(io::Error::other("there are no more subscription identifiers: the session begins anew"));
        }
        Ok(())
    }

    /// Nothing is asked for beside a suspect.
    fn may_ask(&self, keeper: &Keeper, session: &Session) -> bool {
        let is_suspect = |filter: Option<&Arc<str>>| filter.is_some_and(|it| self.suspects.contains(it));
        let is_alone = |asked: &Asked| match asked {
            Asked::Subscribe(number) => is_suspect(keeper.topics.of(*number)),
            Asked::Unsubscribe(_) => false,
        };
        (self.suspects.is_empty() || !session.under_way.values().any(is_alone))
            && session.may_ask()
            && keeper.topics.has_due()
    }

    fn ask(&mut self, keeper: &mut Keeper, session: &mut Session, filter: &Arc<str>) {
        let Some(number) = keeper.topics.begin(filter) else { return };
        if self.has_ids || self.may_ask_alone(keeper, session, filter, number) {
            self.send(session, filter, number);
        }
    }

    /// SUBSCRIBE to what is live.
    fn send(&mut self, session: &mut Session, filter: &Arc<str>, number: u32) {
        self.filters.ask(filter, number);
        let qos = QoS::ExactlyOnce;
        let options = Options { qos, no_local: false, retain_as_published: true, retain_handling: 2 };
        let mut block = Vec::new();
        if self.has_ids {
            Property::SubscriptionId(number).write(&mut block);
        }
        let id = session.id(Asked::Subscribe(number));
        let filters = [(&**filter, options)].into_iter();
        write_subscribe(
            &mut session.link.connection.unsent,
            self.spoken.version(),
            id,
            Properties::written(&block),
            filters,
        );
    }

    /// UNSUBSCRIBE, where the broker has the filter.
    fn unsubscribe(&mut self, keeper: &mut Keeper, session: &mut Session, filter: Arc<str>, number: u32) {
        if self.covered.remove(&number).is_some() || !self.filters.has(number) {
            return;
        }
        if !self.has_ids {
            self.uncover(keeper, session, number, &filter);
        }
        self.send_unsubscribe(session, filter, number);
    }

    fn send_unsubscribe(&mut self, session: &mut Session, filter: Arc<str>, number: u32) {
        let id = session.id(Asked::Unsubscribe(number));
        let (filters, block) = ([&*filter].into_iter(), Properties::default());
        write_unsubscribe(&mut session.link.connection.unsent, self.spoken.version(), id, block, filters);
        self.leaving.insert(number, filter);
    }

    fn unsubscribed(&mut self, keeper: &mut Keeper, number: u32) {
        self.filters.remove(number);
        if let Some(filter) = self.leaving.remove(&number)
            && self.aside.remove(&filter)
        {
            keeper.topics.set_due(&filter);
        }
    }

    fn subscribed(&mut self, keeper: &mut Keeper, number: u32, answer: &SubAck<'_>) {
        match answer.codes.first().copied().unwrap_or(0x80) {
            quality @ 0..=2 => {
                self.filters.confirm(number, quality);
                keeper.topics.of(number).map(|filter| self.suspects.remove(filter));
                self.confirm(keeper, number, quality);
                self.confirm_covered(keeper, number, quality);
            }
            code => {
                let filter = self.filters.remove(number);
                filter.iter().for_each(|filter| self.ask_again_covered(keeper, filter));
                let words = reason(answer.properties).unwrap_or("the broker has refused the subscription");
                // One that has ended meanwhile is nobody's any more.
                let is_wanted = |filter: &Arc<str>| keeper.topics.of(number) == Some(filter);
                if let Some(filter) = filter.filter(is_wanted) {
                    keeper.refuse(&filter, Refused::Broker, (code, words.into()));
                }
            }
        }
    }

    /// The broker has a subscription. Shards are told when it has said what it keeps.
    fn confirm(&mut self, keeper: &mut Keeper, number: u32, quality: u8) {
        if self.retains {
            self.fetcher.want(number, quality);
        } else {
            keeper.confirm(number, quality, 0);
        }
    }

    // ---- what the broker says ----

    async fn read(&mut self, keeper: &mut Keeper, session: &mut Session) -> io::Result<()> {
        if session.link.connection.received.len() < session.least {
            return Ok(());
        }
        let (mut received, mut at) = (take_received(&mut session.link.connection), 0);
        let limits = Limits { packet_bytes: u32::try_from(keeper.settings.message_bytes).unwrap_or(u32::MAX) };
        session.least = 0;
        loop {
            match mqtt::read(&received[at..], &limits, Some(self.spoken.version()), Role::Client) {
                Ok(Read::Packet { packet, used }) => {
                    self.packet(keeper, session, &packet).await?;
                    at += used;
                }
                Ok(Read::More { least }) => {
                    session.least = least;
                    break;
                }
                Err(fault) => return Err(nonsense("MQTT", fault.words())),
            }
        }
        received.drain(..at);
        session.link.connection.received = received;
        Ok(())
    }

    async fn packet(&mut self, keeper: &mut Keeper, session: &mut Session, packet: &Packet<'_>) -> io::Result<()> {
        match packet {
            Packet::Publish(publish) => self.message(keeper, session, publish).await?,
            Packet::PubRel(ack) => {
                self.published.remove(&ack.packet_id);
                self.acknowledge(session, AckKind::PubComp, ack.packet_id);
            }
            Packet::SubAck(answer) => match session.under_way.remove(&answer.packet_id) {
                Some(Asked::Subscribe(number)) => self.subscribed(keeper, number, answer),
                _ => return Err(nonsense("MQTT", "SUBACK without SUBSCRIBE")),
            },
            Packet::UnsubAck(answer) => match session.under_way.remove(&answer.packet_id) {
                Some(Asked::Unsubscribe(number)) => self.unsubscribed(keeper, number),
                _ => return Err(nonsense("MQTT", "UNSUBACK without UNSUBSCRIBE")),
            },
            Packet::PingResp => session.pongs += 1,
            Packet::Disconnect(it) => {
                let words = reason(it.properties).unwrap_or_default();
                return Err(io::Error::other(format!("the broker ends it: reason {:#04x} {words}", it.reason)));
            }
            _ => return Err(nonsense("MQTT", "a packet that nobody has asked for")),
        }
        Ok(())
    }

    /// Each message is published before it is acknowledged.
    async fn message(&mut self, keeper: &mut Keeper, session: &mut Session, it: &Publish<'_>) -> io::Result<()> {
        if it.properties.iter().any(|property| matches!(property, Property::TopicAlias(_))) {
            return Err(nonsense("MQTT", "a topic alias, where none was offered"));
        }
        let is_new = it.packet_id.is_none_or(|id| it.qos != QoS::ExactlyOnce || self.published.insert(id));
        if is_new {
            self.publish(keeper, session, it).await?;
        }
        match (it.qos, it.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => self.acknowledge(session, AckKind::PubAck, id),
            (QoS::ExactlyOnce, Some(id)) => self.acknowledge(session, AckKind::PubRec, id),
            _ => {}
        }
        Ok(())
    }

    async fn publish(&mut self, keeper: &mut Keeper, session: &mut Session, it: &Publish<'_>) -> io::Result<()> {
        let Some(pick) = self.filters.pick(it.topic) else { return Ok(()) };
        let mut ids = it.properties.iter().filter_map(|property| match property {
            Property::SubscriptionId(id) => Some(id),
            _ => None,
        });
        let is_for_it = ids.clone().next().is_none() || ids.any(|id| id == pick);
        if self.has_ids && !is_for_it {
            keeper.stats.duplicates.add();
            return Ok(());
        }
        let is_old = self.spoken.version() != Version::V5;
        // A broker of MQTT 3.1.1 sends what it keeps here, too, and nothing else has RETAIN (section 3.3.1.3 there).
        if is_old && it.retain {
            return Ok(());
        }
        if is_old || it.retain {
            self.fetcher.hear(it);
        }
        let mark = shared::mark(it.qos, it.retain);
        let mut payload = Vec::new();
        write_shared(&mut payload, it);
        let payload = PlainFrame::binary(&payload);
        let feed = keeper.settings.feed;
        let new = NewMessage { feed, channel: it.topic.into(), mark, payload, ..NewMessage::default() };
        keeper.publish(&mut session.link, new).await
    }

    fn acknowledge(&self, session: &mut Session, kind: AckKind, packet_id: u16) {
        session.acknowledged += 1;
        let ack = Ack { packet_id, reason: 0, properties: Properties::default() };
        write_ack(&mut session.link.connection.unsent, self.spoken.version(), kind, &ack);
    }
}

impl Session {
    fn may_ask(&self) -> bool {
        self.under_way.len() < UNDER_WAY
    }

    /// A packet identifier that is free.
    fn id(&mut self, asked: Asked) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.under_way.contains_key(&self.last_id) {
                self.under_way.insert(self.last_id, asked);
                return self.last_id;
            }
        }
    }
}

/// Why the broker is not even asked.
fn refusal(filter: &str) -> Option<Refusal> {
    let is_deep = filter.split('/').count() > LEVELS;
    let is_none = !topic::is_filter(filter) || topic::shared(filter).is_some();
    let words = match (is_none, is_deep) {
        (true, _) => "this is no topic filter that can be shared",
        (_, true) => "the topic filter has more than 128 levels",
        _ => return None,
    };
    Some((BAD_FILTER, words.into()))
}

/// A broker's own words.
fn reason(properties: Properties<'_>) -> Option<&str> {
    properties.iter().find_map(|it| if let Property::Reason(words) = it { Some(words) } else { None })
}

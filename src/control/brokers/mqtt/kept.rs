//! What the broker keeps of filters (retained messages, MQTT version 5 section 3.3.1.3): asked for in *rounds*, over a
//! clean session of its own, which is there for as long as it is needed.
//!
//! The session for shared topics hears live messages alone (retain handling 2), so RETAIN says there that a message was
//! published to be kept. Here RETAIN says that it was kept (retain as published 0), and what comes without is passed
//! over. One round after the other:
//!
//! 1. SUBSCRIBE to filters that the other session has already. Nothing behind the first sign that the broker has heeded
//!    it is looked at, until
//! 2. the other session has heard all that was published before (PINGREQ, PINGRESP). So whatever was published to be
//!    kept on both sides of SUBSCRIBE is known to be live, and is left out here.
//! 3. What is kept is published, until a PINGRESP comes before any more of it, and nothing for a moment more: there are
//!    brokers that look for it while they do something else. Then the subscriptions are confirmed to the shards.
//! 4. UNSUBSCRIBE.

use super::connect::{Opened, Spoken};
use super::{DISCONNECT, Mqtt, Session};
use crate::control::brokers::connection::Connection;
use crate::control::brokers::keeper::{Keeper, nonsense, take_received};
use crate::control::brokers::link::Link;
use crate::control::brokers::settings::{BrokerAddress, BrokerSettings};
use crate::mesh::{NewMessage, PlainFrame};
use edgehold_wire::mqtt::shared::{self, write_shared};
use edgehold_wire::mqtt::{
    self, Ack, AckKind, Limits, Options, Packet, Properties, Property, Publish, QoS, Read, Role, Version, write_ack,
    write_subscribe, write_unsubscribe,
};
use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Filters of a round.
const ROUND: usize = 64;

/// For so long nothing that is kept may come before a round is over.
const QUIET: Duration = Duration::from_millis(20);

/// A round that takes longer is over, whatever else would come.
const LONGEST: Duration = Duration::from_secs(30);

/// The session is ended when nothing was asked for so long.
const IDLE: Duration = Duration::from_secs(30);

/// Attempts, one after the other, after which subscriptions are confirmed without what is kept.
const ATTEMPTS: u32 = 3;

/// How long the first attempt that fails holds back the next, and how long the last one does.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How often the other session is asked for a quiet round trip, at most.
const FENCES: u32 = 8;

/// The packet identifiers of SUBSCRIBE and UNSUBSCRIBE: there is one of each at a time.
const SUBSCRIBE: u16 = 1;
const UNSUBSCRIBE: u16 = 2;

/// Asks a broker for what it keeps.
#[derive(Default)]
pub(super) struct Fetcher {
    /// The numbers of subscriptions that are to be asked for, and the quality of service that is confirmed of them.
    wanted: BTreeMap<u32, u8>,
    state: State,
    round: Option<Round>,
    /// Topics on which messages came live since the round began; of a broker of MQTT 3.1.1, which does not say that
    /// they are kept, with a hash of the last one.
    heard: HashMap<Box<str>, u64>,
    hasher: RandomState,
    /// Attempts that have failed since one has not, and until when there is to be no other.
    failures: u32,
    rests_until: Option<Instant>,
    /// Since when there is nothing to do.
    idle_since: Option<Instant>,
    last_round: Option<Instant>,
}

#[derive(Default)]
enum State {
    #[default]
    Closed,
    Opening(JoinHandle<io::Result<Opened>>),
    Open(Box<Wire>),
}

/// A session that is there.
struct Wire {
    link: Link,
    version: Version,
    /// PINGRESPs that have come.
    pongs: u64,
    /// Messages of QoS 2 that were published, and are not to be again; whether they were kept.
    open: HashMap<u16, bool>,
    least: usize,
}

struct Round {
    filters: Vec<(u32, u8)>,
    stage: Stage,
    /// What was published last when it began.
    since: u64,
    began: Instant,
    /// When something has come last.
    moved: Instant,
}

enum Stage {
    /// SUBSCRIBE is sent.
    Asked,
    /// The broker has heeded it; the other session is to hear this PINGRESP.
    Fenced { ping: u64, acknowledged: u64, left: u32 },
    /// What is kept comes.
    Comes(Comes),
    /// UNSUBSCRIBE is sent.
    Ends,
}

#[derive(Default)]
struct Comes {
    is_confirmed: bool,
    /// The PINGRESP that is waited for.
    ping: Option<u64>,
    /// Nothing that is kept has come since PINGREQ.
    is_clean: bool,
    /// The round is over then.
    until: Option<Instant>,
}

/// What has happened to the session.
pub(super) enum Happened {
    Opened(io::Result<Opened>),
    /// Something has come or gone.
    Moved,
    Lost(io::Error),
    /// It is time to look.
    Time,
}

impl Fetcher {
    /// Of this subscription the broker is to be asked.
    pub(super) fn want(&mut self, number: u32, quality: u8) {
        self.wanted.insert(number, quality);
    }

    /// Whether it is time to ask for what late subscribers need: once in a while for all that have come.
    pub(super) fn may_repeat(&self, now: Instant) -> bool {
        const PAUSE: Duration = Duration::from_millis(200);
        self.round.is_none() && self.last_round.is_none_or(|at| now.duration_since(at) >= PAUSE)
    }

    /// The other session is lost: nothing of this one counts any more.
    pub(super) fn reset(&mut self) {
        if let State::Opening(task) = &self.state {
            task.abort();
        }
        *self = Fetcher::default();
    }

    /// A message has come live that may be kept now.
    pub(super) fn hear(&mut self, publish: &Publish<'_>) {
        if self.round.is_some() {
            let hash = self.hasher.hash_one(publish.payload);
            self.heard.insert(publish.topic.into(), hash);
        }
    }

    /// Whether what is kept of a topic is known by a live message.
    fn has_heard(&self, publish: &Publish<'_>, version: Version) -> bool {
        let hash = || self.hasher.hash_one(publish.payload);
        self.heard.get(publish.topic).is_some_and(|it| version == Version::V5 || *it == hash())
    }

    /// Waits for what happens next. Cancellation-safe.
    pub(super) async fn happens(&mut self) -> Happened {
        let until = self.wake_at();
        let reads = self.reads();
        tokio::select! {
            happened = async {
                match &mut self.state {
                    State::Opening(task) => Happened::Opened(task.await.unwrap_or_else(|error| Err(error.into()))),
                    State::Open(wire) if reads => match wire.link.go_on().await {
                        Ok(_) => Happened::Moved,
                        Err(error) => Happened::Lost(error),
                    },
                    _ => pending().await,
                }
            } => happened,
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => Happened::Time,
        }
    }

    /// What comes in a round waits until the other session has heard what came before.
    fn reads(&self) -> bool {
        !matches!(&self.round, Some(Round { stage: Stage::Fenced { .. }, .. }))
    }

    fn wake_at(&self) -> Option<Instant> {
        let rests = self.rests_until.filter(|_| !self.wanted.is_empty() && matches!(self.state, State::Closed));
        let quiet = match &self.round {
            Some(Round { stage: Stage::Comes(comes), .. }) => comes.until,
            _ => None,
        };
        rests.or(quiet)
    }

    fn wire(&mut self) -> Option<&mut Wire> {
        if let State::Open(wire) = &mut self.state { Some(wire) } else { None }
    }

    /// Begins to connect where something is wanted.
    fn open(&mut self, address: &BrokerAddress, settings: &BrokerSettings, mut spoken: Spoken) {
        let now = Instant::now();
        let rests = self.rests_until.is_some_and(|until| until > now);
        if self.wanted.is_empty() || rests || !matches!(self.state, State::Closed) {
            return;
        }
        let mut its = settings.clone();
        its.client_id.push_str("-kept");
        its.persistent = false;
        let address = address.clone();
        self.state = State::Opening(tokio::spawn(async move { Ok(spoken.open(&address, &its, true).await??) }));
    }

    /// The session could not be had, or is lost: it is tried again in a while.
    fn fail(&mut self, error: &io::Error, route: &str) {
        self.failures += 1;
        let wait = if self.failures >= ATTEMPTS { RETRY.1 } else { RETRY.0 * 2_u32.pow(self.failures) };
        tracing::debug!(route, %error, "the broker could not be asked for what it keeps; it is tried again");
        self.rests_until = Some(Instant::now() + wait);
        self.state = State::Closed;
        if let Some(Round { filters, stage, .. }) = self.round.take()
            && !matches!(stage, Stage::Ends)
        {
            self.wanted.extend(filters);
        }
    }

    /// Ends a session that nobody needs.
    fn rest(&mut self, now: Instant) {
        let is_idle = self.round.is_none() && self.wanted.is_empty();
        let since = *self.idle_since.get_or_insert(now);
        self.idle_since = is_idle.then_some(since);
        if is_idle
            && now.duration_since(since) >= IDLE
            && let State::Open(wire) = std::mem::take(&mut self.state)
        {
            let mut connection = wire.link.connection;
            connection.unsent.extend_from_slice(DISCONNECT);
            // The broker forgets a clean session as well when it is not told.
            tokio::spawn(async move { connection.write().await });
        }
    }
}

impl Round {
    fn new(filters: Vec<(u32, u8)>, since: u64) -> Round {
        let now = Instant::now();
        Round { filters, stage: Stage::Asked, since, began: now, moved: now }
    }
}

impl Mqtt {
    /// What is to be done for the session that asks for what is kept.
    pub(super) async fn fetch(&mut self, keeper: &mut Keeper, session: &mut Session, happened: Happened) {
        let done = match happened {
            Happened::Opened(opened) => opened.map(|opened| self.enter(opened)),
            Happened::Moved => self.read_kept(keeper, session).await,
            Happened::Lost(error) => Err(error),
            Happened::Time => Ok(()),
        };
        if let Err(error) = done.and_then(|()| self.check(keeper)) {
            self.fetcher.fail(&error, &keeper.settings.name);
        }
    }

    /// Begins what is to be begun: a session, or a round.
    pub(super) fn ask_for_kept(&mut self, keeper: &mut Keeper, address: &BrokerAddress) {
        if self.fetcher.round.is_none() {
            keeper.tell_ended();
            self.fetcher.open(address, &keeper.settings, self.spoken);
            self.do_without(keeper);
            self.begin_round(keeper);
        }
    }

    fn enter(&mut self, opened: Opened) {
        let link = Link::new(opened.connection, opened.beats);
        let wire = Wire { link, version: self.spoken.version(), pongs: 0, open: HashMap::new(), least: 0 };
        self.fetcher.state = State::Open(Box::new(wire));
    }

    /// Time has passed.
    pub(super) async fn tick_kept(&mut self, keeper: &mut Keeper, session: &mut Session, now: Instant) {
        if let Some(wire) = self.fetcher.wire() {
            wire.link.beat(now);
        }
        if self.fetcher.may_repeat(now) {
            keeper.again.drain(..).for_each(|(number, quality)| self.fetcher.want(number, quality));
        }
        self.fetcher.rest(now);
        self.fetch(keeper, session, Happened::Time).await;
    }

    /// After several attempts subscriptions are confirmed all the same: it is better to hear what is live than nothing.
    fn do_without(&mut self, keeper: &mut Keeper) {
        if self.fetcher.failures < ATTEMPTS || !matches!(self.fetcher.state, State::Closed) {
            return;
        }
        for (number, quality) in std::mem::take(&mut self.fetcher.wanted) {
            keeper.stats.kept_unknown.add();
            keeper.confirm(number, quality, 0);
        }
    }

    fn begin_round(&mut self, keeper: &mut Keeper) {
        if !matches!(self.fetcher.state, State::Open(_)) {
            return;
        }
        let mut names = Vec::new();
        while names.len() < ROUND
            && let Some((number, quality)) = self.fetcher.wanted.pop_first()
        {
            // One that has ended meanwhile is nobody's.
            names.extend(keeper.topics.of(number).cloned().map(|name| (name, (number, quality))));
        }
        keeper.is_fetching = !names.is_empty();
        let Some(wire) = self.fetcher.wire().filter(|_| !names.is_empty()) else { return };
        let options = Options { qos: QoS::ExactlyOnce, ..Options::default() };
        let filters = names.iter().map(|(name, _)| (&**name, options));
        write_subscribe(&mut wire.link.connection.unsent, wire.version, SUBSCRIBE, Properties::default(), filters);
        self.fetcher.heard.clear();
        self.fetcher.round = Some(Round::new(names.into_iter().map(|it| it.1).collect(), keeper.sequence()));
    }

    /// A round that is over ends, and one that goes on for too long does.
    fn check(&mut self, keeper: &mut Keeper) -> io::Result<()> {
        let Some(round) = &mut self.fetcher.round else { return Ok(()) };
        let (now, patience) = (Instant::now(), keeper.settings.connect_timeout);
        let is_over = match &round.stage {
            Stage::Comes(comes) => comes.until.is_some_and(|at| at <= now) || now.duration_since(round.began) > LONGEST,
            _ => false,
        };
        if is_over {
            self.end_round(keeper);
        } else if now.duration_since(round.moved) > patience {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer in time"));
        }
        Ok(())
    }

    /// Shards are told, in front of what has ended meanwhile: what was kept for one filter stays for another.
    fn end_round(&mut self, keeper: &mut Keeper) {
        let Some(round) = &mut self.fetcher.round else { return };
        (round.stage, round.moved) = (Stage::Ends, Instant::now());
        let (filters, since) = (std::mem::take(&mut round.filters), round.since);
        let names: Vec<Arc<str>> = filters.iter().filter_map(|it| keeper.topics.of(it.0).cloned()).collect();
        filters.into_iter().for_each(|(number, quality)| drop(keeper.confirm(number, quality, since)));
        keeper.tell_ended();
        self.fetcher.failures = 0;
        self.fetcher.last_round = Some(Instant::now());
        let Some(wire) = self.fetcher.wire() else { return };
        let unsent = &mut wire.link.connection.unsent;
        // Where all have ended there is something else to confirm that the broker has come so far.
        let names: Vec<&str> =
            if names.is_empty() { vec!["edgehold/none"] } else { names.iter().map(|it| &**it).collect() };
        write_unsubscribe(unsent, wire.version, UNSUBSCRIBE, Properties::default(), names.into_iter());
    }

    /// The session for shared topics has had a PINGRESP.
    pub(super) async fn fence(&mut self, keeper: &mut Keeper, session: &mut Session) {
        let Some(round) = &mut self.fetcher.round else { return };
        let Stage::Fenced { ping, acknowledged, left } = &mut round.stage else { return };
        if session.pongs < *ping {
            return;
        }
        round.moved = Instant::now();
        // A broker that waits for acknowledgements may have held something back.
        if *acknowledged != session.acknowledged && *left > 0 {
            (*ping, *acknowledged, *left) = (session.link.ping(), session.acknowledged, *left - 1);
            return;
        }
        round.stage = Stage::Comes(Comes::default());
        self.fetch(keeper, session, Happened::Moved).await;
    }

    // ---- what the broker says ----

    async fn read_kept(&mut self, keeper: &mut Keeper, session: &mut Session) -> io::Result<()> {
        let Some(wire) = self.fetcher.wire().filter(|it| it.link.connection.received.len() >= it.least) else {
            return Ok(());
        };
        let (mut received, mut at, version) = (take_received(&mut wire.link.connection), 0, wire.version);
        let limits = Limits { packet_bytes: u32::try_from(keeper.settings.message_bytes).unwrap_or(u32::MAX) };
        let mut least = 0;
        while self.fetcher.reads() {
            match mqtt::read(&received[at..], &limits, Some(version), Role::Client) {
                Ok(Read::Packet { packet, .. }) if self.is_sign(&packet) => self.begin_fence(session),
                Ok(Read::Packet { packet, used }) => {
                    self.kept_packet(keeper, session, &packet).await?;
                    at += used;
                }
                Ok(Read::More { least: more }) => {
                    least = more;
                    break;
                }
                Err(fault) => return Err(nonsense("MQTT", fault.words())),
            }
        }
        received.drain(..at);
        if let Some(wire) = self.fetcher.wire() {
            (wire.link.connection.received, wire.least) = (received, least);
        }
        Ok(())
    }

    /// The first sign that the broker has heeded SUBSCRIBE.
    fn is_sign(&self, packet: &Packet<'_>) -> bool {
        let is_asked = matches!(&self.fetcher.round, Some(Round { stage: Stage::Asked, .. }));
        is_asked && matches!(packet, Packet::SubAck(_) | Packet::Publish(Publish { retain: true, .. }))
    }

    fn begin_fence(&mut self, session: &mut Session) {
        if let Some(round) = &mut self.fetcher.round {
            let ping = session.link.ping();
            round.stage = Stage::Fenced { ping, acknowledged: session.acknowledged, left: FENCES };
            round.moved = Instant::now();
        }
    }

    async fn kept_packet(&mut self, keeper: &mut Keeper, session: &mut Session, packet: &Packet<'_>) -> io::Result<()> {
        match packet {
            Packet::Publish(publish) => self.kept_message(keeper, session, publish).await?,
            Packet::PubRel(ack) => {
                let Some(wire) = self.fetcher.wire() else { return Ok(()) };
                let was_kept = wire.open.remove(&ack.packet_id).unwrap_or(false);
                wire.acknowledge(AckKind::PubComp, ack.packet_id);
                self.fetcher.note(was_kept);
            }
            Packet::SubAck(_) => self.fetcher.is_confirmed(),
            Packet::UnsubAck(_) => {
                self.fetcher.round.take_if(|round| matches!(round.stage, Stage::Ends));
            }
            Packet::PingResp => self.fetcher.pong(),
            _ => return Err(nonsense("MQTT", "a packet that nobody has asked for")),
        }
        Ok(())
    }

    /// Each message is published before it is acknowledged.
    async fn kept_message(&mut self, keeper: &mut Keeper, session: &mut Session, it: &Publish<'_>) -> io::Result<()> {
        if it.properties.iter().any(|property| matches!(property, Property::TopicAlias(_))) {
            return Err(nonsense("MQTT", "a topic alias, where none was offered"));
        }
        let is_wanted = it.retain && self.filters.pick(it.topic).is_some();
        let Some(wire) = self.fetcher.wire() else { return Ok(()) };
        let is_new =
            it.packet_id.is_none_or(|id| it.qos != QoS::ExactlyOnce || wire.open.insert(id, it.retain).is_none());
        let version = wire.version;
        if is_new && is_wanted && !self.fetcher.has_heard(it, version) {
            let mut payload = Vec::new();
            write_shared(&mut payload, it);
            let (feed, payload) = (keeper.settings.feed, PlainFrame::binary(&payload));
            let mark = shared::mark(it.qos, true) | shared::KEPT;
            let new = NewMessage { feed, channel: it.topic.into(), mark, payload, ..NewMessage::default() };
            // Where the other session is lost meanwhile, it finds that out itself.
            let _lost = keeper.publish(&mut session.link, new).await;
        }
        self.fetcher.note(it.retain);
        let Some(wire) = self.fetcher.wire() else { return Ok(()) };
        match (it.qos, it.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => wire.acknowledge(AckKind::PubAck, id),
            (QoS::ExactlyOnce, Some(id)) => wire.acknowledge(AckKind::PubRec, id),
            _ => {}
        }
        Ok(())
    }
}

impl Fetcher {
    fn comes(&mut self) -> Option<(&mut Comes, &mut Wire)> {
        let (Some(round), State::Open(wire)) = (&mut self.round, &mut self.state) else { return None };
        round.moved = Instant::now();
        if let Stage::Comes(comes) = &mut round.stage { Some((comes, wire)) } else { None }
    }

    /// Something has come; `is_kept`: it was kept, or belongs to what was.
    fn note(&mut self, is_kept: bool) {
        let Some((comes, wire)) = self.comes().filter(|_| is_kept) else { return };
        comes.is_clean = false;
        if comes.until.take().is_some() {
            comes.ask(wire);
        }
    }

    fn is_confirmed(&mut self) {
        if let Some((comes, wire)) = self.comes() {
            comes.is_confirmed = true;
            comes.ask(wire);
        }
    }

    fn pong(&mut self) {
        if let State::Open(wire) = &mut self.state {
            wire.pongs += 1;
        }
        let Some((comes, wire)) = self.comes() else { return };
        if comes.ping.is_none_or(|ping| wire.pongs < ping) {
            return;
        }
        comes.ping = None;
        if comes.is_clean && !wire.open.values().any(|is_kept| *is_kept) {
            comes.until = Some(Instant::now() + QUIET);
        } else {
            comes.ask(wire);
        }
    }
}

impl Comes {
    /// Asks the broker to say when it has come so far.
    fn ask(&mut self, wire: &mut Wire) {
        if self.is_confirmed && self.ping.is_none() {
            (self.ping, self.is_clean) = (Some(wire.link.ping()), true);
        }
    }
}

impl Wire {
    fn acknowledge(&mut self, kind: AckKind, packet_id: u16) {
        let ack = Ack { packet_id, reason: 0, properties: Properties::default() };
        let connection: &mut Connection = &mut self.link.connection;
        write_ack(&mut connection.unsent, self.version, kind, &ack);
    }
}

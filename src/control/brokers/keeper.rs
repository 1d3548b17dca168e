//! The task of a broker: it hears what shards want, keeps a session for as long as the server runs, and publishes what
//! comes. What a session says to the broker is up to the protocol that it speaks ([`Dialect`]).

use super::Addressed;
use super::connection::Connection;
use super::link::Link;
use super::refusals::{Refusal, Refusals};
use super::settings::{BrokerAddress, BrokerSettings};
use super::stats::{BrokerStats, Refused};
use super::topics::{Gone, Topics, Wish};
use crate::control::backoff::Backoff;
use crate::control::publishing::Publisher;
use crate::mesh::{Granted, NewMessage, ShardNumber, TopicNews, TopicRequest, TopicState};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(50);

/// After a session that was up for so long the next wait is a first one again.
const STEADY: Duration = Duration::from_secs(5);

/// The reason code of a subscription beyond a limit (MQTT version 5, SUBACK).
const QUOTA_EXCEEDED: u8 = 0x97;

/// What a session speaks.
pub(super) trait Dialect {
    /// Connects to an address, and goes on until the session is lost. Calls [`Keeper::up`] when it is there.
    async fn session(&mut self, keeper: &mut Keeper, address: &BrokerAddress) -> Result<Infallible, io::Error>;

    /// Whether the broker keeps the session until there is a connection again; then [`Keeper::lost`] is the session's
    /// to call, if it has not.
    fn is_kept(&self) -> bool {
        false
    }
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A shard has said what it wants.
    Wish,
    /// Time has passed.
    Tick,
}

/// The state of a broker's task.
pub(super) struct Keeper {
    pub(super) settings: Arc<BrokerSettings>,
    pub(super) stats: Arc<BrokerStats>,
    pub(super) topics: Topics,
    /// Topics that have ended, which the session is to end at the broker.
    pub(super) gone: Vec<(Arc<str>, u32)>,
    /// Topics that are confirmed, of which the session is to ask the broker for what it keeps.
    pub(super) again: VecDeque<(u32, u8)>,
    /// The broker tells when what it keeps changes.
    pub(super) is_followed: bool,
    /// The session asks the broker for what it keeps: what ends meanwhile is told when it has.
    pub(super) is_fetching: bool,
    ended: Vec<Arc<str>>,
    ticker: Interval,
    wishes: UnboundedReceiver<TopicRequest>,
    news: UnboundedSender<Addressed>,
    publisher: Publisher,
    refusals: Refusals,
    up_since: Option<Instant>,
    /// The shards have closed the queue of wishes.
    over: bool,
}

impl Keeper {
    pub(super) fn new(
        (settings, stats): (Arc<BrokerSettings>, Arc<BrokerStats>),
        publisher: Publisher,
        wishes: UnboundedReceiver<TopicRequest>,
        news: UnboundedSender<Addressed>,
    ) -> Keeper {
        let mut ticker = interval(TICK);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Keeper {
            settings,
            stats,
            topics: Topics::default(),
            gone: Vec::new(),
            again: VecDeque::new(),
            is_followed: true,
            is_fetching: false,
            ended: Vec::new(),
            ticker,
            wishes,
            news,
            publisher,
            refusals: Refusals::default(),
            up_since: None,
            over: false,
        }
    }

    /// Runs for as long as the server does. Addresses are tried one after the other; the one that has answered is the
    /// first to be tried again.
    pub(super) async fn run(mut self, mut dialect: impl Dialect) {
        let (mut backoff, mut place, mut is_told) = (Backoff::new(), 0, false);
        while !self.over {
            let settings = self.settings.clone();
            let Some(address) = settings.addresses.get(place % settings.addresses.len().max(1)) else { return };
            let Err(error) = dialect.session(&mut self, address).await;
            let was_up = self.up_since.is_some();
            if self.up_since.is_some_and(|since| since.elapsed() >= STEADY) {
                backoff.reset();
            }
            place += usize::from(!was_up);
            self.down(&error, address, std::mem::replace(&mut is_told, true) && !was_up);
            if was_up && !dialect.is_kept() {
                self.lost().await;
            }
            self.wait(Instant::now() + backoff.wait()).await;
        }
    }

    /// Until then wishes are heeded, and topics end that nobody wants.
    async fn wait(&mut self, until: Instant) {
        while !self.over {
            tokio::select! {
                _ = self.next() => {}
                () = sleep_until(until) => return,
            }
        }
    }

    /// A session is there.
    pub(super) fn up(&mut self, address: &BrokerAddress, protocol: &str) {
        tracing::info!(route = self.settings.name, %address, protocol, "the session for shared topics is up");
        if self.stats.sessions.get() > 0 {
            self.stats.reconnects.add();
        }
        self.stats.sessions.add();
        self.stats.up.set(1);
        self.up_since = Some(Instant::now());
    }

    fn down(&mut self, error: &io::Error, address: &BrokerAddress, is_known: bool) {
        let route = &self.settings.name;
        if error.kind() == io::ErrorKind::InvalidData {
            self.stats.nonsense.add();
        }
        if is_known {
            return tracing::debug!(route, %address, %error, "there is still no session for shared topics");
        }
        if self.up_since.take().is_some() {
            self.stats.lost.add();
            self.stats.up.set(0);
        }
        tracing::warn!(route, %address, %error, "there is no session for shared topics; it is tried again");
    }

    /// What the broker had of the session is gone: subscribers are told a gap, but those of streams, and all topics are
    /// due again.
    pub(super) async fn lost(&mut self) {
        self.gone.clear();
        self.again.clear();
        self.tell_ended();
        for topic in self.topics.lost() {
            self.tell(None, &topic, TopicState::Ended);
        }
        self.show();
        if self.settings.streams.is_empty() {
            return self.tell_gap(None).await;
        }
        let forgotten: Vec<_> = self.topics.all().filter(|topic| !self.settings.is_stream(topic)).cloned().collect();
        for topic in forgotten {
            self.tell_gap(Some(&topic)).await;
        }
    }

    /// Messages of a topic were lost, or of all of them.
    pub(super) async fn tell_gap(&self, topic: Option<&str>) {
        // A server that is stopping tells its clients of no gaps.
        let _stopping = self.publisher.publish_loss(self.settings.feed, topic).await;
    }

    // ---- what shards want ----

    /// Waits for a wish, which it heeds, or until it is time to look at the time. Cancellation-safe.
    pub(super) async fn next(&mut self) -> Next {
        tokio::select! {
            wish = self.wishes.recv(), if !self.over => {
                self.over = wish.is_none();
                wish.into_iter().for_each(|wish| self.heed(wish));
                Next::Wish
            }
            _ = self.ticker.tick() => {
                self.tick();
                Next::Tick
            }
        }
    }

    fn heed(&mut self, TopicRequest { shard, topic, is_wanted, .. }: TopicRequest) {
        let now = Instant::now();
        if !is_wanted {
            return self.topics.leave(&topic, shard, now, self.settings.linger);
        }
        if let Some((code, words)) = self.refusals.of(&topic, now) {
            return self.tell(Some(shard), &topic, TopicState::Refused(code, (&*words).into()));
        }
        if !self.make_room(&topic) {
            self.stats.refuse(Refused::TopicsMax);
            let words = "the edge is subscribed to as many topics as it may be (topics_max)".into();
            return self.tell(Some(shard), &topic, TopicState::Refused(QUOTA_EXCEEDED, words));
        }
        match self.topics.want(&topic, shard) {
            Wish::Confirmed(quality) if self.is_followed => {
                let granted = Granted { quality, kept_since: 0, is_followed: true };
                self.tell(Some(shard), &topic, TopicState::Subscribed(granted));
            }
            Wish::Confirmed(quality) | Wish::Again(quality) => {
                let number = self.topics.number_of(&topic);
                self.again.extend(number.map(|number| (number, quality)));
            }
            Wish::Waits => {}
        }
        self.show();
    }

    /// Where there are as many topics as there may be, one gives way that nobody wants.
    fn make_room(&mut self, topic: &str) -> bool {
        if self.topics.has(topic) || self.topics.counts().0 < self.settings.topics_max {
            return true;
        }
        let evicted = self.topics.evict();
        evicted.map(|gone| self.end(gone)).is_some()
    }

    /// Topics that nobody has wanted for long enough are ended.
    fn tick(&mut self) {
        for gone in self.topics.expire(Instant::now()) {
            self.end(gone);
        }
        self.show();
    }

    fn end(&mut self, (topic, number): Gone) {
        self.ended.push(topic.clone());
        if !self.is_fetching {
            self.tell_ended();
        }
        self.gone.extend(number.map(|number| (topic, number)));
    }

    /// The broker has confirmed a subscription, and what it keeps of the topic was published with sequences beyond
    /// `kept_since`; zero: that was not asked. All shards are told: those that want the topic later have what is kept.
    pub(super) fn confirm(&mut self, number: u32, quality: u8, kept_since: u64) -> Option<Arc<str>> {
        let topic = self.topics.confirm(number, quality)?;
        let granted = Granted { quality, kept_since, is_followed: self.is_followed };
        self.tell(None, &topic, TopicState::Subscribed(granted));
        self.show();
        Some(topic)
    }

    /// Tells what has ended while the session was asking for what is kept.
    pub(super) fn tell_ended(&mut self) {
        self.is_fetching = false;
        let ended = std::mem::take(&mut self.ended);
        ended.iter().for_each(|topic| self.tell(None, topic, TopicState::Ended));
    }

    /// The sequence of what was published last, of any feed.
    pub(super) fn sequence(&self) -> u64 {
        self.publisher.sequence()
    }

    /// A topic is refused, for all who want it.
    pub(super) fn refuse(&mut self, topic: &Arc<str>, why: Refused, (code, words): Refusal) {
        self.stats.refuse(why);
        tracing::debug!(route = self.settings.name, %topic, code, %words, "a shared topic is refused");
        for shard in self.topics.refuse(topic) {
            self.tell(Some(shard), topic, TopicState::Refused(code, (&*words).into()));
        }
        self.refusals.remember(topic.clone(), (code, words), Instant::now());
        self.show();
    }

    fn tell(&self, shard: Option<ShardNumber>, topic: &Arc<str>, state: TopicState) {
        let news = TopicNews { feed: self.settings.feed, topic: topic.clone(), state, after: self.sequence() };
        // The dispatcher outlives all tasks but when the process ends.
        let _gone = self.news.send((shard, news));
    }

    fn show(&self) {
        let (wanted, subscribed) = self.topics.counts();
        self.stats.wanted.set(wanted);
        self.stats.subscribed.set(subscribed);
    }

    // ---- what the broker publishes ----

    /// Publishes a message. While the shards are behind it waits, and so is the broker held back: it is not read, but
    /// hears that this end is there.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn publish(&mut self, link: &mut Link, new: NewMessage) -> io::Result<()> {
        self.stats.messages.add();
        self.stats.bytes.add_many(new.payload.payload().len() as u64);
        let publisher = self.publisher.clone();
        let mut publishing = pin!(publisher.publish(new));
        loop {
            tokio::select! {
                biased;
                // A server that is stopping needs no more messages.
                _stopping = &mut publishing => return Ok(()),
                written = link.connection.write(), if !link.connection.unsent.is_empty() => written?,
                _ = self.next() => {
                    let now = Instant::now();
                    link.beat(now);
                    link.excuse(now);
                }
            }
        }
    }
}

/// A connection within the time that an address has.
pub(super) async fn within<T>(limit: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(limit, what).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer in time")),
    }
}

/// What a broker says that its protocol does not have.
pub(super) fn nonsense(protocol: &str, words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the broker has sent what is no {protocol}: {words}"))
}

/// Takes what has come, for as long as it is read.
pub(super) fn take_received(connection: &mut Connection) -> Vec<u8> {
    std::mem::take(&mut connection.received)
}

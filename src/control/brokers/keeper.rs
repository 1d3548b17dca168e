//! The task of a broker: it hears what shards want, keeps a session for as long as the server runs, and publishes what
//! comes.

use super::connection::Connection;
use super::settings::BrokerSettings;
use super::stats::BrokerStats;
use super::topics::{Topics, Wish};
use super::trial::{self, Tried};
use super::{Addressed, stomp};
use crate::control::backoff::Backoff;
use crate::control::publishing::Publisher;
use crate::mesh::{NewMessage, PlainFrame, ShardNumber, TopicNews, TopicRequest, TopicState};
use edgehold_wire::stomp::{Command, Frame, HeartBeat, Read};
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(50);

/// For how long a topic that was refused is refused without asking again.
const REFUSED: Duration = Duration::from_secs(10);

/// Topics that are remembered as proven or refused; beyond, all are forgotten.
const REMEMBERED: usize = 65_536;

/// Subscriptions that may wait for their receipts.
const UNDER_WAY: usize = 256;

/// After a session that was up for so long the next wait is a first one again.
const STEADY: Duration = Duration::from_secs(5);

/// The reason code of a subscription that is refused (MQTT version 5, SUBACK).
const NOT_AUTHORIZED: u8 = 0x87;

/// The reason code of one beyond a limit.
const QUOTA_EXCEEDED: u8 = 0x97;

/// The state of a broker's task.
pub(super) struct Keeper {
    settings: Arc<BrokerSettings>,
    publisher: Publisher,
    news: UnboundedSender<Addressed>,
    stats: Arc<BrokerStats>,
    topics: Topics,
    /// Topics that the broker has confirmed once.
    proven: HashSet<Arc<str>>,
    /// Topics that it has refused, until when, and its words.
    refused: HashMap<Arc<str>, (Instant, String)>,
    trials: UnboundedSender<Arc<str>>,
    tried: UnboundedReceiver<Tried>,
    /// The place of the address that is tried next.
    address: usize,
}

/// A session that is up.
struct Session {
    connection: Connection,
    /// How often it is to be sent something, and how long it may be silent; zero: for ever.
    beats: (Duration, Duration),
    heard: Instant,
    spoke: Instant,
    /// Subscriptions without a receipt yet.
    under_way: usize,
    /// Subscriptions that may be made now.
    allowance: f64,
}

impl Keeper {
    pub(super) fn new(
        settings: BrokerSettings,
        publisher: Publisher,
        news: UnboundedSender<Addressed>,
        stats: Arc<BrokerStats>,
    ) -> Keeper {
        let settings = Arc::new(settings);
        let (trials, wanted) = unbounded_channel();
        let (results, tried) = unbounded_channel();
        tokio::spawn(trial::run(settings.clone(), wanted, results));
        Keeper {
            settings,
            publisher,
            news,
            stats,
            topics: Topics::default(),
            proven: HashSet::new(),
            refused: HashMap::new(),
            trials,
            tried,
            address: 0,
        }
    }

    /// Runs for as long as the server does.
    pub(super) async fn run(mut self, mut wishes: UnboundedReceiver<TopicRequest>) {
        let mut backoff = Backoff::new();
        loop {
            let begun = Instant::now();
            let Err(error) = self.session(&mut wishes).await;
            if self.stats.up.get() == 1 && begun.elapsed() >= STEADY {
                backoff.reset();
            }
            self.down(&error).await;
            let until = Instant::now() + backoff.wait();
            loop {
                tokio::select! {
                    wish = wishes.recv() => match wish {
                        Some(wish) => self.heed(wish, None),
                        None => return,
                    },
                    Some(tried) = self.tried.recv() => self.judge(tried),
                    () = sleep_until(until) => break,
                }
            }
        }
    }

    async fn down(&mut self, error: &io::Error) {
        let name = &self.settings.name;
        if self.stats.up.get() == 0 {
            tracing::debug!(route = name, %error, "the broker does not answer");
            return;
        }
        tracing::warn!(route = name, %error, "the session for shared topics is lost");
        self.stats.up.set(0);
        self.stats.lost.add();
        self.topics.lost();
        self.show();
        // A server that is stopping tells its clients of no gaps.
        let _stopping = self.publisher.publish_loss(self.settings.feed, None).await;
    }

    /// Connects, and goes on until the session is lost.
    async fn session(&mut self, wishes: &mut UnboundedReceiver<TopicRequest>) -> Result<Infallible, io::Error> {
        let place = self.address % self.settings.addresses.len().max(1);
        self.address += 1;
        let address = self.settings.addresses.get(place).ok_or(io::ErrorKind::NotFound)?;
        let connecting = timeout(self.settings.connect_timeout, stomp::connect(address, &self.settings));
        let (connection, theirs) = connecting.await??;
        self.address = place;
        tracing::info!(route = self.settings.name, %address, "the session for shared topics is up");
        self.stats.up.set(1);
        let mut session = Session::new(connection, self.beats(theirs));
        let mut ticker = interval(TICK);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                went = session.connection.go_on() => {
                    went?;
                    session.heard = Instant::now();
                    self.read(&mut session).await?;
                }
                Some(wish) = wishes.recv() => self.heed(wish, Some(&mut session)),
                Some(tried) = self.tried.recv() => self.judge(tried),
                _ = ticker.tick() => self.tick(&mut session)?,
            }
            self.subscribe(&mut session);
        }
    }

    /// STOMP 1.2, Heart-beating: the longer of what one side can and the other wants.
    fn beats(&self, theirs: HeartBeat) -> (Duration, Duration) {
        let own = u32::try_from(self.settings.heart_beat.as_millis()).unwrap_or(u32::MAX);
        let agreed = |theirs: u32| if own == 0 || theirs == 0 { 0 } else { own.max(theirs) };
        (Duration::from_millis(agreed(theirs.wants).into()), Duration::from_millis(agreed(theirs.can).into()))
    }

    fn tick(&mut self, session: &mut Session) -> io::Result<()> {
        let now = Instant::now();
        session.keep_alive(now)?;
        let rate = f64::from(self.settings.subscribe_rate);
        session.allowance = (session.allowance + rate * TICK.as_secs_f64()).min(rate.max(1.0));
        for (topic, number) in self.topics.expire(now) {
            if let Some(number) = number {
                stomp::unsubscribe(&mut session.connection, number);
            }
            self.tell(None, &topic, TopicState::Ended);
        }
        self.show();
        Ok(())
    }

    fn show(&self) {
        let (wanted, subscribed) = self.topics.counts();
        self.stats.wanted.set(wanted);
        self.stats.subscribed.set(subscribed);
    }

    fn tell(&self, shard: Option<ShardNumber>, topic: &Arc<str>, state: TopicState) {
        let news = TopicNews { feed: self.settings.feed, topic: topic.clone(), state };
        // The dispatcher outlives all tasks but when the process ends.
        let _gone = self.news.send((shard, news));
    }

    // ---- what shards want ----

    fn heed(&mut self, wish: TopicRequest, session: Option<&mut Session>) {
        let TopicRequest { shard, topic, quality, .. } = wish;
        let now = Instant::now();
        if quality.is_none() {
            return self.topics.leave(&topic, shard, now, self.settings.linger);
        }
        if let Some((until, words)) = self.refused.get(&topic)
            && *until > now
        {
            return self.tell(Some(shard), &topic, TopicState::Refused(NOT_AUTHORIZED, words.as_str().into()));
        }
        match self.topics.want(&topic, shard, self.settings.topics_max) {
            Wish::Confirmed => self.tell(Some(shard), &topic, TopicState::Subscribed(1)),
            Wish::Waits => {}
            Wish::New if self.proven.contains(&topic) || is_safe(&topic) => {
                self.topics.set_due(&topic);
                if let Some(session) = session {
                    // Of what is wanted one by one there is no storm to be held back.
                    session.allowance = session.allowance.max(1.0);
                }
            }
            Wish::New => drop(self.trials.send(topic)),
            Wish::TooMany => {
                self.stats.refused.add();
                let words = "more destinations than topics_max".into();
                self.tell(Some(shard), &topic, TopicState::Refused(QUOTA_EXCEEDED, words));
            }
        }
    }

    /// A trial is over.
    fn judge(&mut self, (topic, result): Tried) {
        match result {
            Ok(Ok(())) => {
                self.prove(topic.clone());
                self.topics.set_due(&topic);
            }
            Ok(Err(words)) => self.refuse(&topic, &words),
            // Nobody could be asked: when the session is back it is wanted as all others are.
            Err(error) => {
                tracing::debug!(route = self.settings.name, %error, "a topic could not be tried");
                drop(self.trials.send(topic));
            }
        }
    }

    fn prove(&mut self, topic: Arc<str>) {
        if self.proven.len() >= REMEMBERED {
            self.proven.clear();
        }
        self.proven.insert(topic);
    }

    fn refuse(&mut self, topic: &Arc<str>, words: &str) {
        self.stats.refused.add();
        self.proven.remove(topic);
        if self.refused.len() >= REMEMBERED {
            self.refused.clear();
        }
        self.refused.insert(topic.clone(), (Instant::now() + REFUSED, words.into()));
        for shard in self.topics.refuse(topic) {
            self.tell(Some(shard), topic, TopicState::Refused(NOT_AUTHORIZED, words.into()));
        }
    }

    /// Subscribes to what is due, in paced order.
    fn subscribe(&mut self, session: &mut Session) {
        while session.allowance >= 1.0 && session.under_way < UNDER_WAY {
            let Some((topic, number)) = self.topics.next_due() else { break };
            stomp::subscribe(&mut session.connection, &topic, number);
            session.allowance -= 1.0;
            session.under_way += 1;
            session.spoke = Instant::now();
        }
    }

    // ---- what the broker says ----

    async fn read(&mut self, session: &mut Session) -> io::Result<()> {
        let received = std::mem::take(&mut session.connection.received);
        let mut at = 0;
        while at < received.len() {
            match stomp::next(&received[at..]) {
                Ok(Read::Frame { frame, used }) => {
                    at += used;
                    self.frame(session, &frame).await?;
                }
                Ok(Read::Beat { used }) => at += used,
                Ok(Read::More { .. }) => break,
                Err(fault) => {
                    let words = format!("the broker has sent what is no STOMP: {}", fault.words());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, words));
                }
            }
        }
        session.connection.received.extend_from_slice(&received[at..]);
        Ok(())
    }

    async fn frame(&mut self, session: &mut Session, frame: &Frame<'_>) -> io::Result<()> {
        let number = |name: &str| frame.get(name).and_then(|text| text.parse::<u64>().ok());
        match frame.command {
            Command::Message => {
                let topic = number("subscription").and_then(|number| self.topics.of(number)).cloned();
                if let Some(topic) = topic {
                    self.publish(&topic, frame).await;
                }
            }
            Command::Receipt => {
                session.under_way = session.under_way.saturating_sub(1);
                if let Some((topic, waiting)) = number("receipt-id").and_then(|it| self.topics.confirm(it)) {
                    waiting.into_iter().for_each(|shard| self.tell(Some(shard), &topic, TopicState::Subscribed(1)));
                    self.prove(topic);
                }
            }
            Command::Error => {
                let words = frame.get("message").unwrap_or_default();
                if let Some(topic) = number("receipt-id").and_then(|it| self.topics.of(it)).cloned() {
                    self.refuse(&topic, &words);
                }
                return Err(io::Error::other(format!("the broker has said: {words}")));
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits while the shards are behind: so is the broker held back.
    async fn publish(&mut self, topic: &str, frame: &Frame<'_>) {
        let (tail, escaped) = stomp::tail(frame);
        self.stats.messages.add();
        self.stats.bytes.add_many(tail.len() as u64);
        let new = NewMessage {
            feed: self.settings.feed,
            channel: topic.into(),
            mark: u8::from(escaped),
            payload: PlainFrame::text_or_binary(&tail),
            ..NewMessage::default()
        };
        // A server that is stopping needs no more messages.
        let _stopping = self.publisher.publish(new).await;
    }
}

impl Session {
    fn new(connection: Connection, beats: (Duration, Duration)) -> Session {
        let now = Instant::now();
        Session { connection, beats, heard: now, spoke: now, under_way: 0, allowance: 1.0 }
    }

    /// # Errors
    /// The broker was silent for more than twice the time in which it has promised to say something.
    fn keep_alive(&mut self, now: Instant) -> io::Result<()> {
        let (out, silence) = self.beats;
        if !silence.is_zero() && now.duration_since(self.heard) > silence * 2 + Duration::from_secs(1) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the broker's heart-beats have stopped"));
        }
        if !out.is_zero() && now.duration_since(self.spoke) >= out {
            self.connection.unsent.push(b'\n');
            self.spoke = now;
        }
        Ok(())
    }
}

/// A topic to which brokers let everybody subscribe whom they let in.
fn is_safe(topic: &str) -> bool {
    let name = topic.strip_prefix("/topic/");
    name.is_some_and(|name| !name.is_empty() && !name.contains(['/', '?', '>', ',']))
}

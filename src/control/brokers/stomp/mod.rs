//! A session that speaks STOMP. An ERROR ends a session (STOMP 1.2, ERROR), so a destination that the broker has never
//! confirmed is tried on a connection of its own first; one that brokers let everybody have whom they let in, only
//! where an ERROR has come while it was under way.

pub(super) mod frames;
mod streams;
mod trial;

use super::keeper::{Dialect, Keeper, Next, nonsense, take_received, within};
use super::link::{Beats, Link};
use super::pace::Pace;
use super::settings::{BrokerAddress, BrokerSettings};
use super::stats::Refused;
use crate::mesh::{NewMessage, PlainFrame};
use edgehold_wire::stomp::{Command, Frame, HeartBeat, Read, Until};
use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep};
use trial::Tried;

/// Topics that are remembered as proven or suspected; beyond, all are forgotten.
const REMEMBERED: usize = 65_536;

/// Subscriptions that may wait for their receipts.
const UNDER_WAY: usize = 256;

/// How long a trial waits that nobody could be asked about.
const RETRY: Duration = Duration::from_secs(1);

/// The reason code of a subscription that the broker refuses (MQTT version 5, SUBACK).
const NOT_AUTHORIZED: u8 = 0x87;

/// What is known of a STOMP broker.
pub(super) struct Stomp {
    trials: UnboundedSender<Arc<str>>,
    tried: UnboundedReceiver<Tried>,
    /// Those that are being tried.
    trying: HashSet<Arc<str>>,
    /// Topics that the broker has confirmed once.
    proven: HashSet<Arc<str>>,
    /// Topics that were under way when the broker has ended a session by ERROR.
    suspects: HashSet<Arc<str>>,
    /// Nobody could be asked about them; until when they wait.
    untried: (Vec<Arc<str>>, Option<Instant>),
}

/// A session that is up.
struct Session {
    link: Link,
    pace: Pace,
    /// Subscriptions without a receipt yet.
    under_way: usize,
    /// Bytes that must have come before it is worth another look.
    least: usize,
    /// What must be among those that come.
    until: Until,
    /// How many were looked at.
    seen: usize,
}

impl Dialect for Stomp {
    async fn session(&mut self, keeper: &mut Keeper, address: &BrokerAddress) -> Result<Infallible, io::Error> {
        let settings = keeper.settings.clone();
        let (connection, theirs) =
            within(settings.connect_timeout, frames::connect(address, &settings, settings.heart_beat)).await??;
        keeper.up(address, "STOMP");
        let pace = Pace::new(settings.subscribe_rate, Instant::now());
        let link = Link::new(connection, beats(settings.heart_beat, theirs));
        let mut session = Session { link, pace, under_way: 0, least: 0, until: Until::Any, seen: 0 };
        loop {
            self.subscribe(keeper, &mut session);
            tokio::select! {
                has_come = session.link.go_on() => if has_come? {
                    self.read(keeper, &mut session).await?;
                },
                next = keeper.next() => self.tick(keeper, &mut session, next)?,
                Some(tried) = self.tried.recv() => self.judge(keeper, tried),
                () = sleep(session.pace.wait()), if session.may_subscribe() && keeper.topics.has_due() => {}
            }
        }
    }
}

impl Stomp {
    /// Starts the task that tries topics.
    pub(super) fn start(settings: &Arc<BrokerSettings>) -> Stomp {
        let (trials, wanted) = unbounded_channel();
        let (results, tried) = unbounded_channel();
        tokio::spawn(trial::run(settings.clone(), wanted, results));
        Stomp {
            trials,
            tried,
            trying: HashSet::new(),
            proven: HashSet::new(),
            suspects: HashSet::new(),
            untried: (Vec::new(), None),
        }
    }

    fn tick(&mut self, keeper: &mut Keeper, session: &mut Session, next: Next) -> io::Result<()> {
        if next == Next::Wish {
            return Ok(());
        }
        let now = Instant::now();
        session.link.beat(now);
        if self.untried.1.is_some_and(|at| at <= now) {
            self.untried.1 = None;
            self.untried.0.drain(..).for_each(|topic| keeper.topics.set_due(&topic));
        }
        session.link.check_silence(now)
    }

    // ---- subscriptions ----

    /// Ends the subscriptions of topics that have ended, and subscribes to what is due, in paced order.
    fn subscribe(&mut self, keeper: &mut Keeper, session: &mut Session) {
        for (_, number) in keeper.gone.drain(..) {
            frames::unsubscribe(&mut session.link.connection, number);
        }
        while session.may_subscribe() && keeper.topics.has_due() && session.pace.take(Instant::now()) {
            let Some(topic) = keeper.topics.next_due() else { break };
            if self.needs_trial(&topic) {
                self.attempt(topic);
            } else if let Some(number) = keeper.topics.begin(&topic) {
                let kind = streams::kind(&keeper.settings, &topic, keeper.topics.place(&topic));
                frames::subscribe(&mut session.link.connection, &topic, kind, number);
                session.under_way += 1;
            }
        }
    }

    fn needs_trial(&self, topic: &str) -> bool {
        !self.proven.contains(topic) && (!is_plain(topic) || self.suspects.contains(topic))
    }

    fn attempt(&mut self, topic: Arc<str>) {
        if self.trying.insert(topic.clone()) {
            // The other end lives as long as this one.
            let _gone = self.trials.send(topic);
        }
    }

    /// A trial is over. Nobody may want the topic any more.
    fn judge(&mut self, keeper: &mut Keeper, (topic, result): Tried) {
        self.trying.remove(&topic);
        match result {
            Ok(Ok(())) => {
                remember(&mut self.proven, topic.clone());
                keeper.topics.set_due(&topic);
            }
            Ok(Err(words)) => keeper.refuse(&topic, Refused::Broker, (NOT_AUTHORIZED, words.into())),
            Err(error) => {
                tracing::debug!(route = keeper.settings.name, %topic, %error, "a topic could not be tried");
                self.untried.0.push(topic);
                self.untried.1.get_or_insert(Instant::now() + RETRY);
            }
        }
    }

    // ---- what the broker says ----

    async fn read(&mut self, keeper: &mut Keeper, session: &mut Session) -> io::Result<()> {
        let (received, len) = (&session.link.connection.received, session.link.connection.received.len());
        let new = received.get(session.seen..).unwrap_or_default();
        let is_met = len >= session.least && session.until.is_met(len, new);
        session.seen = len;
        if !is_met {
            return Ok(());
        }
        let (mut received, mut at) = (take_received(&mut session.link.connection), 0);
        (session.least, session.until, session.seen) = (0, Until::Any, 0);
        while at < received.len() {
            match frames::next(&received[at..], keeper.settings.message_bytes) {
                Ok(Read::Frame { frame, used }) => {
                    self.frame(keeper, session, &frame).await?;
                    at += used;
                }
                Ok(Read::Beat { used }) => at += used,
                Ok(Read::More { least, until }) => {
                    (session.least, session.until, session.seen) = (least, until, received.len() - at);
                    break;
                }
                Err(fault) => return Err(nonsense("STOMP", fault.words())),
            }
        }
        received.drain(..at);
        session.link.connection.received = received;
        Ok(())
    }

    async fn frame(&mut self, keeper: &mut Keeper, session: &mut Session, frame: &Frame<'_>) -> io::Result<()> {
        match frame.command {
            Command::Message => self.message(keeper, session, frame).await,
            Command::Receipt => {
                session.under_way = session.under_way.saturating_sub(1);
                let topic = number(frame, "receipt-id").and_then(|number| keeper.confirm(number, 1, 0));
                topic.into_iter().for_each(|topic| remember(&mut self.proven, topic));
                Ok(())
            }
            Command::Error => Err(self.error(keeper, frame)),
            _ => Err(nonsense("STOMP", "a frame of clients")),
        }
    }

    /// Whether it came for a subscription that has just ended, or for one that the broker has made up, cannot be told:
    /// it is nobody's.
    async fn message(&mut self, keeper: &mut Keeper, session: &mut Session, frame: &Frame<'_>) -> io::Result<()> {
        let topic = number(frame, "subscription").and_then(|number| keeper.topics.of(number)).cloned();
        let Some(topic) = topic else { return Ok(()) };
        if keeper.settings.is_stream(&topic) && !streams::take(keeper, &mut session.link, &topic, frame).await {
            return Ok(());
        }
        let (tail, escaped) = frames::tail(frame);
        let new = NewMessage {
            feed: keeper.settings.feed,
            channel: (*topic).into(),
            mark: u8::from(escaped),
            payload: PlainFrame::text_or_binary(&tail),
            ..NewMessage::default()
        };
        keeper.publish(&mut session.link, new).await
    }

    /// The broker ends the session. Where it does not say what for, all topics that were under way are to be tried.
    fn error(&mut self, keeper: &mut Keeper, frame: &Frame<'_>) -> io::Error {
        let words = frame.get("message").unwrap_or_default();
        let named = number(frame, "receipt-id").and_then(|number| keeper.topics.of(number)).cloned();
        if let Some(topic) = named {
            self.proven.remove(&topic);
            keeper.refuse(&topic, Refused::Broker, (NOT_AUTHORIZED, (&*words).into()));
        } else {
            for topic in keeper.topics.under_way() {
                self.proven.remove(&topic);
                remember(&mut self.suspects, topic);
            }
        }
        io::Error::other(format!("the broker has said: {words}"))
    }
}

impl Session {
    fn may_subscribe(&self) -> bool {
        self.under_way < UNDER_WAY
    }
}

fn remember(topics: &mut HashSet<Arc<str>>, topic: Arc<str>) {
    if topics.len() >= REMEMBERED {
        topics.clear();
    }
    topics.insert(topic);
}

fn number(frame: &Frame<'_>, name: &str) -> Option<u32> {
    frame.get(name).and_then(|text| text.parse().ok())
}

/// STOMP 1.2, Heart-beating: the longer of what one side can and the other wants. Twice the time, and a second for the
/// network, may pass without anything.
fn beats(own: Duration, theirs: HeartBeat) -> Beats {
    let own = u32::try_from(own.as_millis()).unwrap_or(u32::MAX);
    let agreed = |theirs: u32| if own == 0 || theirs == 0 { 0 } else { own.max(theirs) };
    let (every, hears) = (agreed(theirs.wants), agreed(theirs.can));
    let silence = if hears == 0 { 0 } else { u64::from(hears) * 2 + 1000 };
    Beats { beat: b"\n", every: Duration::from_millis(every.into()), silence: Duration::from_millis(silence) }
}

/// A topic to which brokers let everybody subscribe whom they let in, as a rule.
fn is_plain(topic: &str) -> bool {
    let name = topic.strip_prefix("/topic/");
    name.is_some_and(|name| !name.is_empty() && !name.contains(['/', '?', '>', ',']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heart_beats_are_agreed_on() {
        let millis = Duration::from_millis;
        let agreed = |own, can, wants| {
            let beats = beats(millis(own), HeartBeat { can, wants });
            (beats.every, beats.silence)
        };
        assert_eq!(agreed(10_000, 0, 0), (millis(0), millis(0)));
        assert_eq!(agreed(10_000, 5000, 20_000), (millis(20_000), millis(21_000)));
        assert_eq!(agreed(0, 5000, 5000), (millis(0), millis(0)));
    }
}

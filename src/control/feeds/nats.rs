//! `nats://`: subjects of a NATS server, and streams of its JetStream.
//!
//! A lost connection ends the session; the library's own reconnecting is switched off, so that one place decides when
//! to try again. Core NATS forgets what nobody heard. A JetStream consumer is made anew for each session, behind the
//! last sequence that was passed on: nothing comes twice, and what the stream has dropped meanwhile is told.
//!
//! The id of a JetStream message is the time at which its stream was made, in hexadecimal milliseconds, and its
//! sequence: `19353a7c1d0-42`. A stream that is made anew counts from one again, and must not be taken for the old one.

use super::Start;
use super::broker::{Broker, Parts};
use super::decoder::Said;
use super::feed::{Fault, Feed, Session};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{Config, Info};
use async_nats::{Client, ConnectOptions, Event, jetstream};
use futures_util::StreamExt;
use futures_util::stream::select_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

/// The port of a URL that names none.
const PORT: u16 = 4222;

/// How long a connection may take, and an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that does not answer two pings in a row is gone.
const PING: Duration = Duration::from_secs(15);

/// Messages of a subscription that wait for us. The library drops what comes beyond.
const WAITING: usize = 1024;

/// Messages asked of JetStream at once: far fewer than may wait.
const BATCH: usize = 64;

/// How often JetStream says that it is there when there is nothing to say.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A consumer that nobody asks goes after this time.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Reasons for the end of a session that wait: the first one ends it.
const FAULTS: usize = 4;

/// How often clients are told of messages that the library has dropped, at most.
const TELLING: Duration = Duration::from_secs(1);

/// What the library says of a connection besides messages.
struct Line {
    client: Client,
    faults: mpsc::Receiver<Fault>,
    /// Messages that it has dropped because too many wait for us, and that nobody was told of yet.
    dropped: Arc<AtomicU64>,
}

async fn connect(feed: &Feed, broker: &Broker) -> Result<Line, Fault> {
    let parts = broker.parts(PORT)?;
    let (sender, faults) = mpsc::channel(FAULTS);
    let dropped = Arc::new(AtomicU64::new(0));
    let count = dropped.clone();
    let options = options(&feed.settings.name, &parts).event_callback(move |event| {
        if matches!(event, Event::SlowConsumer(_)) {
            count.fetch_add(1, Relaxed);
        } else if let Some(fault) = fault_of(event) {
            let _ = sender.try_send(fault);
        }
        async {}
    });
    let client = options.connect(format!("nats://{}", parts.authority())).await.map_err(words)?;
    Ok(Line { client, faults, dropped })
}

fn options(name: &str, parts: &Parts) -> ConnectOptions {
    let options = ConnectOptions::new()
        .name(format!("edgehold {name}"))
        // One attempt for the first connection, none worth mentioning for another.
        .max_reconnects(1)
        .reconnect_delay_callback(|_| Duration::ZERO)
        .ignore_discovered_servers()
        .connection_timeout(PATIENCE)
        .request_timeout(Some(PATIENCE))
        .ping_interval(PING)
        .subscription_capacity(WAITING);
    match (&parts.user, &parts.password) {
        (Some(token), None) => options.token(token.clone()),
        (user, Some(password)) => options.user_and_password(user.clone().unwrap_or_default(), password.clone()),
        (None, None) => options,
    }
}

fn fault_of(event: Event) -> Option<Fault> {
    match event {
        Event::Disconnected | Event::Closed => Some("the server has closed the connection".into()),
        Event::ServerError(error) => Some(error.to_string()),
        Event::ClientError(error) => Some(error.to_string()),
        Event::Connected | Event::LameDuckMode | Event::Draining | Event::SlowConsumer(_) => None,
    }
}

fn words(error: impl std::fmt::Display) -> Fault {
    error.to_string()
}

// ---- core ----

/// Listens to subjects.
pub(super) struct Subjects(pub(super) Broker);

impl Session for Subjects {
    async fn run(&mut self, feed: &Feed) -> Fault {
        let Err(fault) = self.listen(feed).await;
        fault
    }
}

impl Subjects {
    async fn listen(&self, feed: &Feed) -> Result<std::convert::Infallible, Fault> {
        let Line { client, mut faults, dropped } = connect(feed, &self.0).await?;
        let topics = feed.settings.topics();
        let mut heard = Vec::new();
        for (number, subject) in topics.iter().cloned().enumerate() {
            heard.push(client.subscribe(subject).await.map_err(words)?.map(move |message| (number, message)));
        }
        let mut heard = select_all(heard);
        // Behind it the server knows the subscriptions.
        client.flush().await.map_err(words)?;
        feed.up();
        let mut beat = interval(TELLING);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(fault) = faults.recv() => return Err(fault),
                message = heard.next() => match message {
                    Some((number, message)) if is_first(&topics, number, &message.subject) => {
                        feed.take(&message.payload, said(&message.subject, None)).await;
                    }
                    Some(_) => {}
                    None => return Err("the subscriptions have ended".into()),
                },
                _ = beat.tick() => match dropped.swap(0, Relaxed) {
                    0 => {}
                    count => feed.lost(None, Some(count), "they came faster than the shards read").await,
                },
            }
        }
    }
}

/// Whether this is the first of the topics that cover a subject: the server sends a message to each of them.
fn is_first(topics: &[String], number: usize, subject: &str) -> bool {
    topics.iter().position(|topic| covers(topic, subject)).is_none_or(|first| first == number)
}

fn said<'s>(subject: &'s str, id: Option<&'s str>) -> Said<'s> {
    Said { channel: Some(subject), id, ..Said::default() }
}

// ---- JetStream ----

/// Reads a stream.
pub(super) struct Stream {
    broker: Broker,
    name: String,
    place: Option<Place>,
}

/// How far a stream was read.
#[derive(Debug, PartialEq)]
struct Place {
    /// When the stream was made: one of the same name may be another.
    created: i128,
    /// The last sequence that was passed on, or is not wanted.
    last: u64,
    /// Holes up to this sequence were there before we were.
    begun: u64,
}

impl Stream {
    pub(super) fn new(broker: Broker, name: String) -> Stream {
        Stream { broker, name, place: None }
    }

    async fn read(&mut self, feed: &Feed) -> Result<std::convert::Infallible, Fault> {
        let Line { client, mut faults, .. } = connect(feed, &self.broker).await?;
        let stream = jetstream::new(client).get_stream(&self.name).await.map_err(words)?;
        let (place, missed) = place(self.place.take(), stream.cached_info(), feed.settings.start);
        let place = self.place.insert(place);
        if let Some(missed) = missed {
            feed.lost(None, missed.count(), missed.words()).await;
        }
        let subjects = feed.settings.topics.clone();
        let whole = is_whole(&stream.cached_info().config, &subjects);
        let consumer = stream.create_consumer(consumer(place.last, &subjects)).await.map_err(words)?;
        let asked = consumer.stream().max_messages_per_batch(BATCH).heartbeat(HEARTBEAT);
        let mut messages = asked.messages().await.map_err(words)?;
        feed.up();
        let mut next = 1;
        loop {
            let message = tokio::select! {
                Some(fault) = faults.recv() => return Err(fault),
                message = messages.next() => message.ok_or("the consumer has ended")?.map_err(words)?,
            };
            let info = message.info().map_err(words)?;
            if info.consumer_sequence != next {
                return Err("a message of the consumer was lost on its way".into());
            }
            next += 1;
            let (sequence, wanted) = (info.stream_sequence, is_wanted(&subjects, &message.subject));
            if let Some(missed) = place.hole(sequence).filter(|_| whole && sequence > place.begun) {
                feed.lost(None, missed.count(), missed.words()).await;
            }
            if wanted && sequence > place.last {
                feed.take(&message.payload, said(&message.subject, Some(&place.id(sequence)))).await;
            }
            place.last = place.last.max(sequence);
        }
    }
}

impl Session for Stream {
    async fn run(&mut self, feed: &Feed) -> Fault {
        let Err(fault) = self.read(feed).await;
        fault
    }
}

/// Why messages of a stream are not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MissedOf {
    /// It has dropped so many that were not read.
    Dropped(u64),
    /// It is another one; the end of the old one is not known.
    Anew,
}

impl MissedOf {
    fn count(self) -> Option<u64> {
        if let MissedOf::Dropped(count) = self { Some(count) } else { None }
    }

    fn words(self) -> &'static str {
        match self {
            MissedOf::Dropped(_) => "the stream has dropped what was not read yet",
            MissedOf::Anew => "the stream was made anew, and is read from its beginning",
        }
    }
}

impl Place {
    fn id(&self, sequence: u64) -> String {
        format!("{:x}-{sequence}", self.created / 1_000_000)
    }

    /// What lies between the last message and this one.
    fn hole(&self, sequence: u64) -> Option<MissedOf> {
        let count = sequence.saturating_sub(self.last + 1);
        (count > 0).then_some(MissedOf::Dropped(count))
    }
}

/// Where to go on, and what is missing before that; at first, where to begin.
fn place(known: Option<Place>, info: &Info, start: Start) -> (Place, Option<MissedOf>) {
    let created = info.created.unix_timestamp_nanos();
    let (first, end) = (info.state.first_sequence, info.state.last_sequence);
    match known {
        Some(known) if known.created == created && known.last <= end => {
            // An empty stream begins behind its end.
            let missed = known.hole(first);
            let last = if missed.is_some() { first - 1 } else { known.last };
            (Place { last, ..known }, missed)
        }
        Some(_) => (Place { created, last: first.saturating_sub(1), begun: 0 }, Some(MissedOf::Anew)),
        None => {
            let last = match start {
                Start::New => end,
                Start::First => 0,
                Start::Sequence(first) => first.saturating_sub(1),
            };
            (Place { created, last, begun: end }, None)
        }
    }
}

/// Whether all that the stream gets is wanted, so that a hole between two sequences is a loss.
fn is_whole(config: &Config, subjects: &[String]) -> bool {
    let wanted = |of: &String| subjects.is_empty() || subjects.iter().any(|it| covers(it, of));
    config.max_messages_per_subject <= 0 && !config.subjects.is_empty() && config.subjects.iter().all(wanted)
}

/// The server filters one subject; servers before 2.10 know no more, and so several are filtered here.
fn consumer(last: u64, subjects: &[String]) -> pull::Config {
    pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: last + 1 },
        ack_policy: AckPolicy::None,
        filter_subject: if let [subject] = subjects { subject.clone() } else { String::new() },
        inactive_threshold: FORGOTTEN,
        ..pull::Config::default()
    }
}

fn is_wanted(subjects: &[String], subject: &str) -> bool {
    subjects.is_empty() || subjects.iter().any(|it| covers(it, subject))
}

/// `*` stands for one token, `>` at the end for one or more.
fn covers(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            // Of two patterns, one word does not cover the rest.
            (Some("*"), Some(other)) if other != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server says of a stream.
    fn info(created: &str, first: u64, last: u64) -> Info {
        let text = format!(
            r#"{{"config":{{"name":"S","subjects":["a.>"],"retention":"limits","max_consumers":-1,"max_msgs":-1,
                "max_bytes":-1,"discard":"old","max_age":0,"storage":"file","num_replicas":1}},
                "created":"2026-01-01T00:00:{created}Z","cluster":null,"mirror":null,"sources":[],
                "state":{{"messages":0,"bytes":0,"first_seq":{first},"first_ts":"2026-01-01T00:00:00Z",
                "last_seq":{last},"last_ts":"2026-01-01T00:00:00Z","consumer_count":0}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn begun(start: Start) -> Place {
        place(None, &info("00", 5, 9), start).0
    }

    #[test]
    fn a_stream_is_begun_where_it_is_told() {
        let last = [Start::New, Start::First, Start::Sequence(7)].map(|it| begun(it).last);
        assert_eq!(last, [9, 0, 6]);
    }

    #[test]
    fn what_a_stream_has_dropped_meanwhile_is_missed() {
        for (first, last, expected, from) in [
            (5, 9, None, 9),
            (10, 12, None, 9),
            (11, 12, Some(MissedOf::Dropped(1)), 10),
            // Empty: all of it was dropped, or purged.
            (21, 20, Some(MissedOf::Dropped(11)), 20),
            (1, 8, Some(MissedOf::Anew), 0),
        ] {
            let (place, missed) = place(Some(begun(Start::New)), &info("00", first, last), Start::New);
            assert_eq!((place.last, missed), (from, expected), "{first} to {last}");
        }
        let (place, missed) = place(Some(begun(Start::New)), &info("01", 3, 30), Start::New);
        assert_eq!((place.last, missed), (2, Some(MissedOf::Anew)));
    }

    #[test]
    fn the_same_sequence_of_another_stream_has_another_id() {
        let other = place(None, &info("00.001", 1, 1), Start::New).0;
        assert_eq!(begun(Start::New).id(7), format!("{:x}-7", 1_767_225_600_000u64));
        assert_ne!(begun(Start::New).id(7), other.id(7));
    }

    #[test]
    fn holes_are_losses_where_all_of_the_stream_is_wanted() {
        let config = info("00", 1, 1).config;
        let whole = |topics: &[&str]| is_whole(&config, &topics.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        assert_eq!([whole(&[]), whole(&["a.>"]), whole(&["a.*"]), whole(&["x", ">"])], [true, true, false, true]);
        assert_eq!(begun(Start::New).hole(10), None);
        assert_eq!(begun(Start::New).hole(12), Some(MissedOf::Dropped(2)));
    }

    #[test]
    fn a_message_of_several_topics_is_taken_once() {
        let topics = ["a.b".to_owned(), "a.*".into(), ">".into()];
        let taken = |subject| [0, 1, 2].map(|number| is_first(&topics, number, subject));
        assert_eq!(taken("a.b"), [true, false, false]);
        assert_eq!(taken("a.c"), [false, true, false]);
        assert_eq!(taken("x"), [false, false, true]);
    }

    #[test]
    fn wildcards_cover_tokens() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("*.b", "a.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("a.*", "a.>", false),
            ("a.>", "a.*", true),
        ] {
            assert_eq!(covers(pattern, subject), expected, "{pattern} {subject}");
        }
    }
}

//! `nats://`, `tls://`: subjects of a NATS server, and streams of its JetStream.
//!
//! A lost connection ends the session; the library's own reconnecting is switched off, so that one place decides when
//! to connect again. Core NATS keeps nothing for a subscriber that is away. A JetStream consumer is created for each
//! session, behind the last sequence that was published: nothing comes twice, and clients are told a gap for what the
//! stream has dropped meanwhile.
//!
//! The id of a JetStream message is the time at which its stream was created, in hexadecimal milliseconds, and its
//! sequence: `19353a7c1d0-42`. A stream that is created again counts from one again, and must not be taken for the old
//! one.

use crate::control::feeds::broker::{Broker, Parts};
use crate::control::feeds::decoder::Metadata;
use crate::control::feeds::feed::Feed;
use crate::control::feeds::session::{Fault, Loss, Session, fault, ticker};
use crate::control::feeds::settings::Start;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{Config, Info};
use async_nats::rustls::ClientConfig;
use async_nats::{Client, ConnectOptions, Event, jetstream};
use futures_util::StreamExt;
use futures_util::stream::select_all;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;

/// The port of a URL that names none.
const PORT: u16 = 4222;

/// How long connecting may take, and the reply to a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time from one PING to the next. The library gives up a server that leaves two of them without a PONG.
const PING: Duration = Duration::from_secs(15);

/// Messages of a subscription that may wait in the library. It drops what comes beyond.
const WAITING: usize = 1024;

/// Messages that a pull request asks of JetStream: far fewer than [`WAITING`].
const BATCH: usize = 64;

/// How often JetStream sends an idle heartbeat while there are no messages.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// JetStream deletes the consumer when it has got no pull request for so long.
const INACTIVE: Duration = Duration::from_secs(60);

/// Faults of a connection that may wait: the first one ends the session.
const FAULTS: usize = 4;

/// How often clients are told a gap for messages that the library has dropped, at most.
const LOSS_PERIOD: Duration = Duration::from_secs(1);

/// A connection, and what the library reports of it besides messages.
struct Connection {
    client: Client,
    faults: mpsc::Receiver<Fault>,
    /// Messages that the library has dropped because more than [`WAITING`] waited, and that are not reported yet.
    dropped: Arc<AtomicU64>,
}

/// # Errors
/// The URL names no host, or the server cannot be connected to, or refuses the user; or TLS fails.
async fn connect(feed: &Feed, broker: &Broker) -> Result<Connection, Fault> {
    let parts = broker.parts(PORT)?;
    let (sender, faults) = mpsc::channel(FAULTS);
    let dropped = Arc::new(AtomicU64::new(0));
    let count = dropped.clone();
    let options = options(&feed.settings.name, &parts);
    let (scheme, options) = match feed.tls().await? {
        Some(tls) => ("tls", options.tls_client_config(ClientConfig::clone(&tls.config()))),
        None => ("nats", options),
    };
    let options = options.event_callback(move |event| {
        if matches!(event, Event::SlowConsumer(_)) {
            count.fetch_add(1, Relaxed);
        } else if let Some(fault) = fault_of(event) {
            let _ = sender.try_send(fault);
        }
        async {}
    });
    let client = options.connect(format!("{scheme}://{}", parts.authority())).await.map_err(fault)?;
    Ok(Connection { client, faults, dropped })
}

fn options(name: &str, parts: &Parts) -> ConnectOptions {
    let options = ConnectOptions::new()
        .name(format!("edgehold {name}"))
        // The session ends with the first disconnection; 0 would mean no limit.
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

// ---- core ----

/// Subscribes to subjects.
pub(in crate::control::feeds) struct Subjects(pub(in crate::control::feeds) Broker);

impl Session for Subjects {
    async fn run(&mut self, feed: &Feed) -> Result<Infallible, Fault> {
        let Connection { client, mut faults, dropped } = connect(feed, &self.0).await?;
        let topics = feed.settings.topics();
        let mut subscriptions = Vec::new();
        for (number, subject) in topics.iter().cloned().enumerate() {
            let messages = client.subscribe(subject).await.map_err(fault)?;
            subscriptions.push(messages.map(move |message| (number, message)));
        }
        let mut messages = select_all(subscriptions);
        // The server answers it when it has the subscriptions.
        client.flush().await.map_err(fault)?;
        feed.up();
        let mut ticker = ticker(LOSS_PERIOD);
        loop {
            tokio::select! {
                Some(fault) = faults.recv() => return Err(fault),
                message = messages.next() => match message {
                    Some((number, message)) if is_first(&topics, number, &message.subject) => {
                        feed.receive(&message.payload, metadata(&message.subject, None)).await;
                    }
                    Some(_) => {}
                    None => return Err("the subscriptions have ended".into()),
                },
                _ = ticker.tick() => match dropped.swap(0, Relaxed) {
                    0 => {}
                    count => feed.lost(None, Some(count), "they came faster than the shards read").await,
                },
            }
        }
    }
}

/// Whether this is the first of the topics that cover a subject: the server sends a message once for each of them.
fn is_first(topics: &[String], number: usize, subject: &str) -> bool {
    topics.iter().position(|topic| covers(topic, subject)).is_none_or(|first| first == number)
}

fn metadata<'s>(subject: &'s str, id: Option<&'s str>) -> Metadata<'s> {
    Metadata { channel: Some(subject), id, ..Metadata::default() }
}

// ---- JetStream ----

/// Reads a stream of JetStream.
pub(in crate::control::feeds) struct JetStream {
    broker: Broker,
    name: String,
    position: Option<Position>,
}

/// How far a stream was read.
#[derive(Debug, PartialEq)]
struct Position {
    /// When the stream was created, in nanoseconds since 1970: one of the same name may be another.
    created: i128,
    /// The last sequence that was published, or is not wanted.
    last: u64,
    /// The last sequence of the stream when it was read first. Up to it, missing sequences are no losses.
    begun: u64,
}

impl JetStream {
    pub(in crate::control::feeds) fn new(broker: Broker, name: String) -> JetStream {
        JetStream { broker, name, position: None }
    }
}

impl Session for JetStream {
    async fn run(&mut self, feed: &Feed) -> Result<Infallible, Fault> {
        let Connection { client, mut faults, .. } = connect(feed, &self.broker).await?;
        let stream = jetstream::new(client).get_stream(&self.name).await.map_err(fault)?;
        let (position, loss) = resume(self.position.take(), stream.cached_info(), feed.settings.start);
        let position = self.position.insert(position);
        report(feed, loss).await;
        let subjects = feed.settings.topics.clone();
        let whole = is_whole(&stream.cached_info().config, &subjects);
        let consumer = stream.create_consumer(consumer(position.last, &subjects)).await.map_err(fault)?;
        let pulls = consumer.stream().max_messages_per_batch(BATCH).heartbeat(HEARTBEAT);
        let mut messages = pulls.messages().await.map_err(fault)?;
        feed.up();
        let mut next = 1;
        loop {
            let message = tokio::select! {
                Some(fault) = faults.recv() => return Err(fault),
                message = messages.next() => message.ok_or("the consumer has ended")?.map_err(fault)?,
            };
            let info = message.info().map_err(|error| error.to_string())?;
            if info.consumer_sequence != next {
                return Err("a message of the consumer was lost on its way".into());
            }
            next += 1;
            let (sequence, wanted) = (info.stream_sequence, is_wanted(&subjects, &message.subject));
            report(feed, position.hole(sequence).filter(|_| whole && sequence > position.begun)).await;
            if wanted && sequence > position.last {
                let id = position.id(sequence);
                feed.receive(&message.payload, metadata(&message.subject, Some(&id))).await;
            }
            position.last = position.last.max(sequence);
        }
    }
}

/// Reports a loss to the clients, where there is one.
async fn report(feed: &Feed, loss: Option<Loss>) {
    let Some(loss) = loss else { return };
    let why = match loss {
        Loss::Dropped(_) => "the stream has dropped what was not read yet",
        Loss::Recreated => "the stream was made anew, and is read from its beginning",
    };
    feed.lost(None, loss.count(), why).await;
}

impl Position {
    fn id(&self, sequence: u64) -> String {
        format!("{:x}-{sequence}", self.created / 1_000_000)
    }

    /// What is missing between the last message and this one.
    fn hole(&self, sequence: u64) -> Option<Loss> {
        let count = sequence.saturating_sub(self.last + 1);
        (count > 0).then_some(Loss::Dropped(Some(count)))
    }
}

/// Where to read on in a stream, and what is missing before that. `known` is how far it was read, `None` where it is
/// read first: then `start` says where to begin.
fn resume(known: Option<Position>, info: &Info, start: Start) -> (Position, Option<Loss>) {
    let created = info.created.unix_timestamp_nanos();
    let (first, end) = (info.state.first_sequence, info.state.last_sequence);
    match known {
        Some(known) if known.created == created && known.last <= end => {
            // The first sequence of an empty stream is one behind its last.
            let loss = known.hole(first);
            let last = if loss.is_some() { first - 1 } else { known.last };
            (Position { last, ..known }, loss)
        }
        Some(_) => (Position { created, last: first.saturating_sub(1), begun: 0 }, Some(Loss::Recreated)),
        None => {
            let last = match start {
                Start::New => end,
                Start::First => 0,
                Start::Sequence(first) => first.saturating_sub(1),
            };
            (Position { created, last, begun: end }, None)
        }
    }
}

/// Whether all messages of the stream are wanted and none is replaced, so that a missing sequence is a loss.
fn is_whole(config: &Config, subjects: &[String]) -> bool {
    let wanted = |of: &String| subjects.is_empty() || subjects.iter().any(|it| covers(it, of));
    config.max_messages_per_subject <= 0 && !config.subjects.is_empty() && config.subjects.iter().all(wanted)
}

/// A consumer that begins behind the sequence `last`. The server filters one subject; servers before 2.10 can filter no
/// more, and so several are filtered here.
fn consumer(last: u64, subjects: &[String]) -> pull::Config {
    pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: last + 1 },
        ack_policy: AckPolicy::None,
        filter_subject: if let [subject] = subjects { subject.clone() } else { String::new() },
        inactive_threshold: INACTIVE,
        ..pull::Config::default()
    }
}

fn is_wanted(subjects: &[String], subject: &str) -> bool {
    subjects.is_empty() || subjects.iter().any(|it| covers(it, subject))
}

/// Whether a subject, or a pattern, matches a pattern: `*` stands for one token, `>` at the end for one or more.
fn covers(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            // One token does not match the several that `>` stands for.
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

    fn begun(start: Start) -> Position {
        resume(None, &info("00", 5, 9), start).0
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
            (11, 12, Some(Loss::Dropped(Some(1))), 10),
            // Empty: all of it was dropped, or purged.
            (21, 20, Some(Loss::Dropped(Some(11))), 20),
            (1, 8, Some(Loss::Recreated), 0),
        ] {
            let (position, loss) = resume(Some(begun(Start::New)), &info("00", first, last), Start::New);
            assert_eq!((position.last, loss), (from, expected), "{first} to {last}");
        }
        let (position, loss) = resume(Some(begun(Start::New)), &info("01", 3, 30), Start::New);
        assert_eq!((position.last, loss), (2, Some(Loss::Recreated)));
    }

    #[test]
    fn the_same_sequence_of_another_stream_has_another_id() {
        let other = resume(None, &info("00.001", 1, 1), Start::New).0;
        assert_eq!(begun(Start::New).id(7), format!("{:x}-7", 1_767_225_600_000u64));
        assert_ne!(begun(Start::New).id(7), other.id(7));
    }

    #[test]
    fn holes_are_losses_where_all_of_the_stream_is_wanted() {
        let config = info("00", 1, 1).config;
        let whole = |topics: &[&str]| is_whole(&config, &topics.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        assert_eq!([whole(&[]), whole(&["a.>"]), whole(&["a.*"]), whole(&["x", ">"])], [true, true, false, true]);
        assert_eq!(begun(Start::New).hole(10), None);
        assert_eq!(begun(Start::New).hole(12), Some(Loss::Dropped(Some(2))));
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

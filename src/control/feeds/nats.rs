//! `nats://`: subjects of a NATS server, and streams of its JetStream.
//!
//! A lost connection ends the session; the library's own reconnecting is switched off, so that one place decides when
//! to try again. Core NATS forgets what nobody heard. A JetStream consumer is made anew for each session, behind the
//! last sequence that was passed on: nothing is missing, nothing comes twice.

use super::Start;
use super::broker::{Broker, Parts};
use super::feed::{Fault, Feed, Session};
use super::reading::Said;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::Info;
use async_nats::{Client, ConnectOptions, Event, jetstream};
use futures_util::StreamExt;
use futures_util::stream::select_all;
use std::time::Duration;
use tokio::sync::mpsc;

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

/// What ends a session.
type Lost = mpsc::UnboundedReceiver<Fault>;

async fn connect(feed: &Feed, broker: &Broker) -> Result<(Client, Lost), Fault> {
    let parts = broker.parts(PORT)?;
    let (sender, lost) = mpsc::unbounded_channel();
    let options = options(&feed.settings.name, &parts).event_callback(move |event| {
        if let Some(fault) = fault_of(event) {
            let _ = sender.send(fault);
        }
        async {}
    });
    let client = options.connect(format!("nats://{}", parts.authority())).await.map_err(words)?;
    Ok((client, lost))
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
        Event::SlowConsumer(_) => {
            tracing::debug!("messages of NATS are dropped: the shards are behind");
            None
        }
        Event::Connected | Event::LameDuckMode | Event::Draining => None,
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
        let (client, mut lost) = connect(feed, &self.0).await?;
        let mut heard = Vec::new();
        for subject in feed.settings.topics() {
            heard.push(client.subscribe(subject).await.map_err(words)?);
        }
        let mut heard = select_all(heard);
        // Behind it the server knows the subscriptions.
        client.flush().await.map_err(words)?;
        feed.up();
        loop {
            tokio::select! {
                Some(fault) = lost.recv() => return Err(fault),
                message = heard.next() => match message {
                    Some(message) => feed.take(&message.payload, said(&message.subject, None)).await,
                    None => return Err("the subscriptions have ended".into()),
                },
            }
        }
    }
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
    created: String,
    /// The last sequence that was passed on, or is not wanted.
    last: u64,
}

impl Stream {
    pub(super) fn new(broker: Broker, name: String) -> Stream {
        Stream { broker, name, place: None }
    }

    async fn read(&mut self, feed: &Feed) -> Result<std::convert::Infallible, Fault> {
        let (client, mut lost) = connect(feed, &self.broker).await?;
        let stream = jetstream::new(client).get_stream(&self.name).await.map_err(words)?;
        let place = place(self.place.take(), stream.cached_info(), feed);
        let place = self.place.insert(place);
        let subjects = feed.settings.topics.clone();
        let consumer = stream.create_consumer(consumer(place.last, &subjects)).await.map_err(words)?;
        let asked = consumer.stream().max_messages_per_batch(BATCH).heartbeat(HEARTBEAT);
        let mut messages = asked.messages().await.map_err(words)?;
        feed.up();
        let mut next = 1;
        loop {
            let message = tokio::select! {
                Some(fault) = lost.recv() => return Err(fault),
                message = messages.next() => message.ok_or("the consumer has ended")?.map_err(words)?,
            };
            let info = message.info().map_err(words)?;
            if info.consumer_sequence != next {
                return Err("a message of the consumer was lost on its way".into());
            }
            next += 1;
            let (sequence, wanted) = (info.stream_sequence, is_wanted(&subjects, &message.subject));
            if wanted && sequence > place.last {
                feed.take(&message.payload, said(&message.subject, Some(&sequence.to_string()))).await;
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

/// Where to go on; at first, where to begin.
fn place(known: Option<Place>, info: &Info, feed: &Feed) -> Place {
    let created = info.created.to_string();
    let (first, end) = (info.state.first_sequence, info.state.last_sequence);
    let last = match known {
        Some(known) if known.created == created && known.last <= end => {
            if first > known.last + 1 && end > known.last {
                tracing::warn!(feed = feed.settings.name, first, "the stream has dropped messages that were not read");
            }
            known.last
        }
        Some(_) => {
            tracing::warn!(feed = feed.settings.name, "the stream was made anew: it is read from its beginning");
            0
        }
        None => match feed.settings.start {
            Start::New => end,
            Start::First => 0,
            Start::Sequence(first) => first.saturating_sub(1),
        },
    };
    Place { created, last }
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
            (Some("*"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

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
        ] {
            assert_eq!(covers(pattern, subject), expected, "{pattern} {subject}");
        }
    }
}

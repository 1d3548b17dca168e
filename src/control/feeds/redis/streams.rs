//! Streams of Redis, read behind the last id that was passed on: nothing is missing after a reconnect, nothing comes
//! twice.

use super::super::Start;
use super::super::broker::Broker;
use super::super::feed::{Fault, Feed, Session};
use super::super::reading::{Reason, Said};
use super::{Line, bytes, items};
use redis::{Cmd, Value};
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;
use tokio::time::timeout;

/// How long Redis waits for an entry before it says that there is none.
const BLOCK: Duration = Duration::from_secs(5);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Entries of one answer.
const COUNT: usize = 64;

/// Reads streams.
pub(crate) struct Streams {
    broker: Broker,
    places: Vec<Place>,
}

/// How far a stream was read.
struct Place {
    stream: String,
    last: Option<Id>,
}

/// An entry's id: milliseconds, and a count within them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Id(u64, u64);

impl Streams {
    pub(crate) fn new(broker: Broker) -> Streams {
        Streams { broker, places: Vec::new() }
    }

    async fn read(&mut self, feed: &Feed) -> Result<Infallible, Fault> {
        let mut line = Line::open(&self.broker).await?;
        if self.places.is_empty() {
            self.places = feed.settings.topics().into_iter().map(|stream| Place { stream, last: None }).collect();
        }
        for place in &mut self.places {
            let newest = newest(&mut line, &place.stream).await?;
            place.last = Some(place.last_of(newest, feed));
        }
        feed.up();
        loop {
            let answer = timeout(PATIENCE, line.ask(&self.command())).await;
            let answer = answer.map_err(|_| "the server does not answer")??;
            for stream in items(&answer) {
                self.take_all(feed, stream).await?;
            }
        }
    }

    fn command(&self) -> Cmd {
        let mut command = redis::cmd("XREAD");
        command.arg("BLOCK").arg(BLOCK.as_millis() as u64).arg("COUNT").arg(COUNT).arg("STREAMS");
        let (streams, last): (Vec<_>, Vec<_>) =
            self.places.iter().map(|it| (&it.stream, it.last.unwrap_or_default().to_string())).unzip();
        command.arg(streams).arg(last);
        command
    }

    /// All entries of one stream in an answer.
    async fn take_all(&mut self, feed: &Feed, stream: &Value) -> Result<(), Fault> {
        let [name, entries] = items(stream) else { return Err("an answer that is not understood".into()) };
        let place = self.places.iter_mut().find(|it| it.stream.as_bytes() == bytes(name));
        let place = place.ok_or("an answer for another stream")?;
        for entry in items(entries) {
            let [id, fields] = items(entry) else { return Err("an entry that is not understood".into()) };
            let id = Id::read(bytes(id)).ok_or("an id that is not understood")?;
            take(feed, &place.stream, id, items(fields)).await;
            place.last = Some(id);
        }
        Ok(())
    }
}

impl Session for Streams {
    async fn run(&mut self, feed: &Feed) -> Fault {
        let Err(fault) = self.read(feed).await;
        fault
    }
}

impl Place {
    /// Where to go on; at first, where to begin.
    fn last_of(&self, newest: Option<Id>, feed: &Feed) -> Id {
        match (self.last, newest) {
            (Some(last), Some(newest)) if newest < last => {
                let stream = &self.stream;
                tracing::warn!(
                    feed = feed.settings.name,
                    stream,
                    "the stream was made anew: it is read from its beginning"
                );
                Id::default()
            }
            (Some(last), _) => last,
            (None, newest) => match feed.settings.start {
                Start::New => newest.unwrap_or_default(),
                Start::First | Start::Sequence(0) => Id::default(),
                Start::Sequence(first) => Id(first - 1, u64::MAX),
            },
        }
    }
}

async fn newest(line: &mut Line, stream: &str) -> Result<Option<Id>, Fault> {
    let mut command = redis::cmd("XREVRANGE");
    command.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
    let answer = timeout(PATIENCE, line.ask(&command)).await.map_err(|_| "the server does not answer")??;
    let entry = items(&answer).first().map_or(&[][..], items);
    Ok(entry.first().and_then(|id| Id::read(bytes(id))))
}

/// Key and event come from the fields of these names, the payload from `data` or from the only other field.
async fn take(feed: &Feed, stream: &str, id: Id, fields: &[Value]) {
    let pairs = || fields.chunks_exact(2).map(|pair| (bytes(&pair[0]), bytes(&pair[1])));
    let named = |name: &str| pairs().find(|(it, _)| *it == name.as_bytes()).map(|(_, value)| value);
    let mut others = pairs().filter(|(name, _)| *name != b"key" && *name != b"event").map(|(_, value)| value);
    let only = others.next().filter(|_| others.next().is_none());
    let Some(payload) = named("data").or(only) else { return feed.refuse(Reason::BadJson) };
    let (Ok(key), Ok(event)) = (text(named("key")), text(named("event"))) else { return feed.refuse(Reason::BadId) };
    let id = id.to_string();
    feed.take(payload, Said { channel: Some(stream), id: Some(&id), event, key }).await;
}

fn text(bytes: Option<&[u8]>) -> Result<Option<&str>, std::str::Utf8Error> {
    bytes.map(str::from_utf8).transpose()
}

impl Id {
    fn read(text: &[u8]) -> Option<Id> {
        let (millis, count) = str::from_utf8(text).ok()?.split_once('-')?;
        Some(Id(millis.parse().ok()?, count.parse().ok()?))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::Id;

    #[test]
    fn ids_are_read_and_ordered() {
        assert_eq!(Id::read(b"1700000000000-3").map(|it| it.to_string()).as_deref(), Some("1700000000000-3"));
        assert!(Id::read(b"17-10") > Id::read(b"17-9"));
        assert_eq!([Id::read(b"17"), Id::read(b"a-1"), Id::read(b"")], [None; 3]);
    }
}

//! Streams of Redis, read behind the last id that was passed on: nothing comes twice after a reconnect.
//!
//! Redis says nothing of entries that it has dropped (MAXLEN) before they were read, and where a stream is deleted
//! and begun again with lower ids, XREAD waits for higher ones for ever. So every few seconds, and at the beginning,
//! XINFO is asked for what each stream has: what is missing is told, and a stream that is another one is read from its
//! beginning.
//!
//! The id of a message is that of its entry. Behind it stands the stream (`1700000000000-0-5f3a01bc`), where several
//! are read, since two of them may have an entry of one id; and `.1`, where the stream was begun again once.

use super::super::Start;
use super::super::broker::Broker;
use super::super::decoder::{Reason, Said};
use super::super::feed::{Fault, Feed, Session};
use super::super::stable_hash;
use super::{Line, bytes, items};
use redis::{Cmd, Value};
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long Redis waits for an entry before it says that there is none; how often it is asked what the streams have.
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
#[derive(Debug)]
struct Place {
    stream: String,
    /// What stands in ids of several streams.
    suffix: Option<u32>,
    /// The last entry that was read. `None`: it was not begun yet.
    last: Option<Id>,
    /// The last entry that had been read when the stream was looked at.
    looked: Id,
    /// Entries of the stream that were read, or are gone, of all that were ever added; `None`: not known.
    read: Option<u64>,
    /// How often it was begun again.
    begun_again: u32,
}

/// An entry's id: milliseconds, and a count within them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Id(u64, u64);

/// What Redis says of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Info {
    length: u64,
    first: Option<Id>,
    newest: Id,
    /// All entries that were ever added; from Redis 7 on.
    added: Option<u64>,
}

/// Why entries are not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missed {
    /// So many that Redis has dropped.
    Dropped(Option<u64>),
    /// The stream is another one.
    Anew,
}

impl Streams {
    pub(crate) fn new(broker: Broker) -> Streams {
        Streams { broker, places: Vec::new() }
    }

    async fn read(&mut self, feed: &Feed) -> Result<Infallible, Fault> {
        let mut line = Line::open(&self.broker).await?;
        if self.places.is_empty() {
            self.places = places(feed.settings.topics());
        }
        self.look(&mut line, feed, Moment::Back).await?;
        feed.up();
        let mut looked = Instant::now();
        loop {
            let answer = timeout(PATIENCE, line.ask(&self.command())).await;
            let answer = answer.map_err(|_| "the server does not answer")??;
            for stream in items(&answer) {
                self.take_all(feed, stream).await?;
            }
            if looked.elapsed() >= BLOCK {
                self.look(&mut line, feed, Moment::Decoder).await?;
                looked = Instant::now();
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

    /// Holds all places against what the streams have.
    async fn look(&mut self, line: &mut Line, feed: &Feed, moment: Moment) -> Result<(), Fault> {
        for place in &mut self.places {
            let info =
                timeout(PATIENCE, info(line, &place.stream)).await.map_err(|_| "the server does not answer")??;
            match place.look(info, moment, feed.settings.start) {
                Some(Missed::Dropped(count)) => {
                    feed.lost(Some(&place.stream), count, "Redis has dropped entries that were not read yet").await;
                }
                Some(Missed::Anew) => {
                    let why = "the stream was deleted or made anew, and is read from its beginning";
                    feed.lost(Some(&place.stream), None, why).await;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// All entries of one stream in an answer.
    async fn take_all(&mut self, feed: &Feed, stream: &Value) -> Result<(), Fault> {
        let [name, entries] = items(stream) else { return Err("an answer that is not understood".into()) };
        let place = self.places.iter_mut().find(|it| it.stream.as_bytes() == bytes(name));
        let place = place.ok_or("an answer for another stream")?;
        for entry in items(entries) {
            let [id, fields] = items(entry) else { return Err("an entry that is not understood".into()) };
            let id = Id::read(bytes(id)).ok_or("an id that is not understood")?;
            take(feed, place, id, items(fields)).await;
            place.last = Some(id);
            place.read = place.read.map(|read| read + 1);
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

/// When a stream is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The connection is new.
    Back,
    /// Between two answers.
    Decoder,
}

fn places(streams: Vec<String>) -> Vec<Place> {
    let several = streams.len() > 1;
    let place = |stream: String| Place {
        suffix: several.then(|| stable_hash(stream.as_bytes()) as u32),
        stream,
        last: None,
        looked: Id::default(),
        read: None,
        begun_again: 0,
    };
    streams.into_iter().map(place).collect()
}

impl Place {
    /// Where to go on; says what is missing before that. `None` for the info: there is no such stream.
    fn look(&mut self, info: Option<Info>, moment: Moment, start: Start) -> Option<Missed> {
        let Some(last) = self.last else {
            self.begin(info.unwrap_or_default(), start);
            return None;
        };
        let missed = match info {
            None => (last > Id::default()).then(|| self.begin_again(Info::default())),
            Some(info) if self.is_another(&info) => Some(self.begin_again(info)),
            Some(info) => self.count(&info, moment),
        };
        self.looked = self.last.unwrap_or_default();
        missed
    }

    fn begin(&mut self, info: Info, start: Start) {
        let (last, read) = match start {
            Start::New => (info.newest, info.added),
            Start::First | Start::Sequence(0) => (Id::default(), info.added.map(|added| added - info.length)),
            Start::Sequence(first) => (Id(first - 1, u64::MAX), None),
        };
        (self.last, self.looked, self.read) = (Some(last), last, read);
    }

    /// Its ids go only up, and so does the count of what was added.
    fn is_another(&self, info: &Info) -> bool {
        let fewer = info.added.zip(self.read).is_some_and(|(added, read)| added < read);
        self.last.is_some_and(|last| info.newest < last) || fewer
    }

    /// From its beginning. Where all of the new stream is younger than what was read when it was last looked at, it was
    /// read already, or will be.
    fn begin_again(&mut self, info: Info) -> Missed {
        let looked = self.looked;
        if info.newest < self.last.unwrap_or_default() || info.first.is_none_or(|first| first <= looked) {
            self.last = Some(Id::default());
        }
        self.begun_again += 1;
        self.read = None;
        self.calibrate(&info);
        Missed::Anew
    }

    /// Entries that are neither read nor there any more.
    fn count(&mut self, info: &Info, moment: Moment) -> Option<Missed> {
        let known = self.read;
        self.calibrate(info);
        match (known, self.read) {
            (Some(before), Some(now)) => (now > before).then(|| Missed::Dropped(Some(now - before))),
            // Redis before version 7 does not count; after a while away, what was read last should still be there.
            _ if info.added.is_none() && moment == Moment::Back => {
                let last = self.last.unwrap_or_default();
                let gone = info.first.map_or(info.newest > last, |first| first > last && last > Id::default());
                gone.then_some(Missed::Dropped(None))
            }
            _ => None,
        }
    }

    /// Where nothing that was read is left, all that is left is still to be read.
    fn calibrate(&mut self, info: &Info) {
        let last = self.last.unwrap_or_default();
        if info.first.is_none_or(|first| first > last) {
            self.read = info.added.map(|added| added.saturating_sub(info.length));
        } else if info.newest == last {
            self.read = info.added;
        }
    }

    fn id(&self, id: Id) -> String {
        let stream = self.suffix.map_or_else(String::new, |suffix| format!("-{suffix:08x}"));
        let again = if self.begun_again == 0 { String::new() } else { format!(".{}", self.begun_again) };
        format!("{id}{stream}{again}")
    }
}

/// What Redis says of a stream; `None`: there is none of this name. Who may not ask for it is told of the newest entry.
async fn info(line: &mut Line, stream: &str) -> Result<Option<Info>, Fault> {
    match line.ask_for(redis::cmd("XINFO").arg("STREAM").arg(stream)).await? {
        Ok(answer) => read_info(&answer).map(Some).ok_or_else(|| "a stream that is not understood".into()),
        Err(words) if words.contains("no such key") => Ok(None),
        Err(_) => newest(line, stream).await,
    }
}

fn read_info(answer: &Value) -> Option<Info> {
    let named =
        |name: &str| items(answer).chunks_exact(2).find(|pair| bytes(&pair[0]) == name.as_bytes()).map(|pair| &pair[1]);
    let number = |name: &str| named(name).and_then(|it| if let Value::Int(it) = it { Some(*it as u64) } else { None });
    Some(Info {
        length: number("length")?,
        first: named("first-entry").and_then(|entry| items(entry).first()).and_then(|id| Id::read(bytes(id))),
        newest: Id::read(bytes(named("last-generated-id")?))?,
        added: number("entries-added"),
    })
}

async fn newest(line: &mut Line, stream: &str) -> Result<Option<Info>, Fault> {
    let mut command = redis::cmd("XREVRANGE");
    command.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
    let answer = line.ask(&command).await?;
    let entry = items(&answer).first().map_or(&[][..], items);
    let newest = entry.first().and_then(|id| Id::read(bytes(id)));
    // The oldest may be anything: what was read is held to be there.
    Ok(newest.map(|newest| Info { length: 1, first: Some(Id::default()), newest, added: None }))
}

/// Key and event come from the fields of these names, the payload from `data`, from the only other field, or from all
/// others as a JSON object.
async fn take(feed: &Feed, place: &Place, id: Id, fields: &[Value]) {
    let pairs = || fields.chunks_exact(2).map(|pair| (bytes(&pair[0]), bytes(&pair[1])));
    let named = |name: &str| pairs().find(|(it, _)| *it == name.as_bytes()).map(|(_, value)| value);
    let others: Vec<_> = pairs().filter(|(name, _)| *name != b"key" && *name != b"event").collect();
    let object;
    let payload = match (named("data"), others.as_slice()) {
        (Some(data), _) => data,
        (None, [(_, only)]) => only,
        (None, []) => return feed.refuse(Reason::BadJson),
        (None, others) => {
            let Some(text) = as_object(others) else { return feed.refuse(Reason::NotUtf8) };
            object = text;
            object.as_bytes()
        }
    };
    let (Ok(key), Ok(event)) = (text(named("key")), text(named("event"))) else { return feed.refuse(Reason::BadId) };
    let id = place.id(id);
    feed.take(payload, Said { channel: Some(&place.stream), id: Some(&id), event, key }).await;
}

/// The fields in their order, all of them strings. `None`: not UTF-8.
fn as_object(fields: &[(&[u8], &[u8])]) -> Option<String> {
    let quoted = |bytes: &[u8]| str::from_utf8(bytes).ok().and_then(|text| serde_json::to_string(text).ok());
    let members: Option<Vec<String>> =
        fields.iter().map(|(name, value)| Some(format!("{}:{}", quoted(name)?, quoted(value)?))).collect();
    Some(format!("{{{}}}", members?.join(",")))
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
    use super::*;

    fn info(first: u64, newest: u64, added: u64) -> Option<Info> {
        let length = if first == 0 { 0 } else { newest - first + 1 };
        let first = (first > 0).then_some(Id(first, 0));
        Some(Info { length, first, newest: Id(newest, 0), added: Some(added) })
    }

    /// One stream, begun when entries 1 to 10 had been added.
    fn begun(start: Start) -> Place {
        let mut place = places(vec!["s".into()]).remove(0);
        assert_eq!(place.look(info(5, 10, 10), Moment::Back, start), None);
        place
    }

    fn read_to(place: &mut Place, newest: u64) {
        for id in place.last.unwrap().0 + 1..=newest {
            (place.last, place.read) = (Some(Id(id, 0)), place.read.map(|read| read + 1));
        }
    }

    fn looks(place: &mut Place, info: Option<Info>) -> Option<Missed> {
        place.look(info, Moment::Decoder, Start::New)
    }

    #[test]
    fn ids_are_read_and_ordered() {
        assert_eq!(Id::read(b"1700000000000-3").map(|it| it.to_string()).as_deref(), Some("1700000000000-3"));
        assert!(Id::read(b"17-10") > Id::read(b"17-9"));
        assert_eq!([Id::read(b"17"), Id::read(b"a-1"), Id::read(b"")], [None; 3]);
    }

    #[test]
    fn what_was_dropped_before_it_was_read_is_counted_once() {
        let mut place = begun(Start::New);
        assert_eq!(looks(&mut place, info(5, 12, 12)), None, "two are still to be read");
        assert_eq!(looks(&mut place, info(11, 14, 14)), None, "all that is gone was read");
        assert_eq!(looks(&mut place, info(13, 16, 16)), Some(Missed::Dropped(Some(2))));
        assert_eq!(looks(&mut place, info(13, 16, 16)), None);
        assert_eq!(looks(&mut place, info(0, 16, 16)), Some(Missed::Dropped(Some(4))), "trimmed to nothing");
        let mut place = begun(Start::First);
        assert_eq!(looks(&mut place, info(5, 10, 10)), None, "what was gone before it began is not missed");
        (place.last, place.read) = (Some(Id(10, 0)), place.read.map(|read| read + 6));
        assert_eq!((place.read, looks(&mut place, info(12, 13, 13))), (Some(10), Some(Missed::Dropped(Some(1)))));
    }

    #[test]
    fn a_stream_that_is_begun_again_is_read_from_its_beginning() {
        let mut place = begun(Start::New);
        let before = place.id(Id(3, 0));
        assert_eq!(looks(&mut place, info(1, 3, 3)), Some(Missed::Anew));
        assert_eq!((place.last, looks(&mut place, info(1, 3, 3))), (Some(Id::default()), None));
        assert_ne!(place.id(Id(3, 0)), before);
        read_to(&mut place, 3);
        assert_eq!(looks(&mut place, info(1, 3, 3)), None);
        // It has grown beyond what was read before anybody looked.
        assert_eq!(looks(&mut place, info(1, 9, 2)), Some(Missed::Anew));
        assert_eq!(place.last, Some(Id::default()));
    }

    #[test]
    fn a_stream_that_is_deleted_is_waited_for() {
        let mut place = begun(Start::New);
        assert_eq!(looks(&mut place, None), Some(Missed::Anew));
        assert_eq!((place.last, looks(&mut place, None)), (Some(Id::default()), None));
        // Times as ids: what came since was read already, and does not come twice.
        let mut place = begun(Start::New);
        read_to(&mut place, 21);
        place.read = Some(11);
        assert_eq!(looks(&mut place, info(21, 21, 1)), Some(Missed::Anew));
        assert_eq!((place.last, place.read), (Some(Id(21, 0)), Some(1)));
    }

    #[test]
    fn before_redis_7_a_place_that_is_gone_is_a_loss() {
        let old = |first: u64, newest: u64| info(first, newest, 0).map(|it| Info { added: None, ..it });
        for (first, expected) in [(9, None), (12, Some(Missed::Dropped(None)))] {
            let mut place = places(vec!["s".into()]).remove(0);
            place.look(old(5, 10), Moment::Back, Start::New);
            assert_eq!(place.look(old(first, 14), Moment::Decoder, Start::New), None);
            assert_eq!(place.look(old(first, 14), Moment::Back, Start::New), expected);
        }
    }

    #[test]
    fn one_id_in_two_streams_is_two_ids() {
        let places = places(vec!["a".into(), "b".into()]);
        assert_ne!(places[0].id(Id(1, 0)), places[1].id(Id(1, 0)));
        assert!(places[0].id(Id(1, 0)).starts_with("1-0-"));
        assert_eq!(begun(Start::New).id(Id(1, 0)), "1-0");
    }

    #[test]
    fn several_fields_are_an_object() {
        let fields: [(&[u8], &[u8]); 2] = [(b"bid", b"1.08"), (b"a\"b", "ü".as_bytes())];
        assert_eq!(as_object(&fields).as_deref(), Some(r#"{"bid":"1.08","a\"b":"ü"}"#));
        assert_eq!(as_object(&[(b"a", b"\xff"), (b"b", b"")]), None);
    }

    #[test]
    fn what_redis_says_of_a_stream_is_read() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let entry = Value::Array(vec![text("7-1"), Value::Array(vec![text("data"), text("x")])]);
        let answer = vec![
            text("length"),
            Value::Int(2),
            text("last-generated-id"),
            text("9-0"),
            text("entries-added"),
            Value::Int(5),
            text("first-entry"),
            entry,
        ];
        let expected = Info { length: 2, first: Some(Id(7, 1)), newest: Id(9, 0), added: Some(5) };
        assert_eq!(read_info(&Value::Array(answer)), Some(expected));
        assert_eq!(read_info(&Value::Array(vec![])), None);
    }
}

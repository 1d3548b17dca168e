//! Streams of Redis, read behind the last id that was published: nothing comes twice after a reconnect.
//!
//! Redis reports no entries that it has dropped (MAXLEN) before they were read, and where a stream is deleted and begun
//! again with lower ids, XREAD waits for higher ones for ever. So every few seconds, and at the beginning, XINFO is
//! asked for the state of each stream: clients are told a gap for what is missing, and a stream that is another one is
//! read from its beginning.
//!
//! The id of a message is that of its entry. Behind it stands the stream (`1700000000000-0-5f3a01bc`), where several
//! are read, since two of them may have an entry of one id; and `.1`, where the stream was begun again once.

use super::connection::{Connection, bytes, items};
use crate::control::feeds::broker::Broker;
use crate::control::feeds::decoder::{Metadata, Reason};
use crate::control::feeds::feed::Feed;
use crate::control::feeds::hash::fnv1a;
use crate::control::feeds::session::{Fault, Loss, Session};
use crate::control::feeds::settings::Start;
use redis::{Cmd, Value};
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long XREAD blocks where there is no entry; how often the streams are checked.
const BLOCK: Duration = Duration::from_secs(5);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Entries of each stream in an answer, at most.
const COUNT: usize = 64;

/// Reads streams.
pub(in crate::control::feeds) struct Streams {
    broker: Broker,
    positions: Vec<Position>,
}

/// How far a stream was read.
#[derive(Debug)]
struct Position {
    stream: String,
    /// What ids have of the stream's name, where several are read.
    suffix: Option<u32>,
    /// The last entry that was read. `None`: the stream was not begun yet.
    last: Option<Id>,
    /// The last entry that had been read when the stream was checked last.
    checked: Id,
    /// Entries that were read, or are gone, of all that were ever added to the stream; `None`: not known.
    read: Option<u64>,
    /// How often the stream was begun again.
    begun_again: u32,
}

/// An entry's id: milliseconds, and a count within them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Id(u64, u64);

/// The state of a stream, from XINFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Info {
    /// Entries in it.
    length: u64,
    /// The oldest of them.
    first: Option<Id>,
    /// The newest entry that was ever added.
    newest: Id,
    /// All entries that were ever added; from Redis 7 on.
    added: Option<u64>,
}

/// When a stream is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The connection is new.
    Connected,
    /// Between two answers.
    Reading,
}

impl Streams {
    pub(in crate::control::feeds) fn new(broker: Broker) -> Streams {
        Streams { broker, positions: Vec::new() }
    }

    /// XREAD of all streams from their positions.
    fn command(&self) -> Cmd {
        let mut command = redis::cmd("XREAD");
        command.arg("BLOCK").arg(BLOCK.as_millis() as u64).arg("COUNT").arg(COUNT).arg("STREAMS");
        let (streams, last): (Vec<_>, Vec<_>) =
            self.positions.iter().map(|it| (&it.stream, it.last.unwrap_or_default().to_string())).unzip();
        command.arg(streams).arg(last);
        command
    }

    /// Compares all positions with the state of their streams, and reports what is lost.
    ///
    /// # Errors
    /// The connection is lost, or the server does not answer in time, or not as expected.
    async fn check(&mut self, connection: &mut Connection, feed: &Feed, moment: Moment) -> Result<(), Fault> {
        for position in &mut self.positions {
            let info = timeout(PATIENCE, info(connection, &position.stream)).await;
            let info = info.map_err(|_| "the server does not answer")??;
            let Some(loss) = position.check(info, moment, feed.settings.start) else { continue };
            let why = match loss {
                Loss::Dropped(_) => "Redis has dropped entries that were not read yet",
                Loss::Recreated => "the stream was deleted or made anew, and is read from its beginning",
            };
            feed.lost(Some(&position.stream), loss.count(), why).await;
        }
        Ok(())
    }

    /// Publishes all entries of one stream in an answer.
    ///
    /// # Errors
    /// It is not what XREAD answers.
    async fn receive(&mut self, feed: &Feed, stream: &Value) -> Result<(), Fault> {
        let [name, entries] = items(stream) else { return Err("an answer that is not understood".into()) };
        let position = self.positions.iter_mut().find(|it| it.stream.as_bytes() == bytes(name));
        let position = position.ok_or("an answer for another stream")?;
        for entry in items(entries) {
            let [id, fields] = items(entry) else { return Err("an entry that is not understood".into()) };
            let id = Id::parse(bytes(id)).ok_or("an id that is not understood")?;
            receive_entry(feed, position, id, items(fields)).await;
            position.last = Some(id);
            position.read = position.read.map(|read| read + 1);
        }
        Ok(())
    }
}

impl Session for Streams {
    async fn run(&mut self, feed: &Feed) -> Result<Infallible, Fault> {
        let mut connection = Connection::open(feed, &self.broker).await?;
        if self.positions.is_empty() {
            self.positions = positions(feed.settings.topics());
        }
        self.check(&mut connection, feed, Moment::Connected).await?;
        feed.up();
        let mut checked = Instant::now();
        loop {
            let answer = timeout(PATIENCE, connection.request(&self.command())).await;
            let answer = answer.map_err(|_| "the server does not answer")???;
            for stream in items(&answer) {
                self.receive(feed, stream).await?;
            }
            if checked.elapsed() >= BLOCK {
                self.check(&mut connection, feed, Moment::Reading).await?;
                checked = Instant::now();
            }
        }
    }
}

/// Positions in streams that were not begun yet.
fn positions(streams: Vec<String>) -> Vec<Position> {
    let several = streams.len() > 1;
    let position = |stream: String| Position {
        suffix: several.then(|| fnv1a(stream.as_bytes()) as u32),
        stream,
        last: None,
        checked: Id::default(),
        read: None,
        begun_again: 0,
    };
    streams.into_iter().map(position).collect()
}

impl Position {
    /// Moves to where to read on; says what is missing before that. `info` is `None` where there is no such stream;
    /// `start` says where to begin it.
    fn check(&mut self, info: Option<Info>, moment: Moment, start: Start) -> Option<Loss> {
        let Some(last) = self.last else {
            self.begin(info.unwrap_or_default(), start);
            return None;
        };
        let loss = match info {
            None => (last > Id::default()).then(|| self.begin_again(Info::default())),
            Some(info) if self.is_another(&info) => Some(self.begin_again(info)),
            Some(info) => self.count(&info, moment),
        };
        self.checked = self.last.unwrap_or_default();
        loss
    }

    fn begin(&mut self, info: Info, start: Start) {
        let (last, read) = match start {
            Start::New => (info.newest, info.added),
            Start::First | Start::Sequence(0) => (Id::default(), info.added.map(|added| added - info.length)),
            Start::Sequence(first) => (Id(first - 1, u64::MAX), None),
        };
        (self.last, self.checked, self.read) = (Some(last), last, read);
    }

    /// Whether it is another stream than before: ids of one only grow, and so does the count of what was added.
    fn is_another(&self, info: &Info) -> bool {
        let fewer = info.added.zip(self.read).is_some_and(|(added, read)| added < read);
        self.last.is_some_and(|last| info.newest < last) || fewer
    }

    /// Moves to the beginning of another stream. Where all of it is younger than what had been read at the last check,
    /// it was read already, or will be.
    fn begin_again(&mut self, info: Info) -> Loss {
        let checked = self.checked;
        if info.newest < self.last.unwrap_or_default() || info.first.is_none_or(|first| first <= checked) {
            self.last = Some(Id::default());
        }
        self.begun_again += 1;
        self.read = None;
        self.calibrate(&info);
        Loss::Recreated
    }

    /// Counts the entries that are neither read nor there any more.
    fn count(&mut self, info: &Info, moment: Moment) -> Option<Loss> {
        let known = self.read;
        self.calibrate(info);
        match (known, self.read) {
            (Some(before), Some(now)) => (now > before).then(|| Loss::Dropped(Some(now - before))),
            // Redis before version 7 does not count what was added: after a reconnect, what was read last should be
            // there.
            _ if info.added.is_none() && moment == Moment::Connected => {
                let last = self.last.unwrap_or_default();
                let gone = info.first.map_or(info.newest > last, |first| first > last && last > Id::default());
                gone.then_some(Loss::Dropped(None))
            }
            _ => None,
        }
    }

    /// Sets `read` where it can be known: nothing that was read is left, and so all that is left is still to be read;
    /// or all was read.
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

/// The state of a stream; `None`: there is none of this name. A user who may not call XINFO gets what the newest entry
/// tells.
///
/// # Errors
/// The connection is lost, or the answer is not as expected.
async fn info(connection: &mut Connection, stream: &str) -> Result<Option<Info>, Fault> {
    match connection.request(redis::cmd("XINFO").arg("STREAM").arg(stream)).await? {
        Ok(answer) => parse_info(&answer).map(Some).ok_or_else(|| "a stream that is not understood".into()),
        Err(words) if words.contains("no such key") => Ok(None),
        Err(_) => newest(connection, stream).await,
    }
}

/// What XINFO STREAM answers; `None`: it is not as expected.
fn parse_info(answer: &Value) -> Option<Info> {
    let named =
        |name: &str| items(answer).chunks_exact(2).find(|pair| bytes(&pair[0]) == name.as_bytes()).map(|pair| &pair[1]);
    let number =
        |name: &str| named(name).and_then(|it| if let Value::Int(it) = it { u64::try_from(*it).ok() } else { None });
    Some(Info {
        length: number("length")?,
        first: named("first-entry").and_then(|entry| items(entry).first()).and_then(|id| Id::parse(bytes(id))),
        newest: Id::parse(bytes(named("last-generated-id")?))?,
        added: number("entries-added"),
    })
}

/// # Errors
/// The connection is lost, or Redis refuses XREVRANGE.
async fn newest(connection: &mut Connection, stream: &str) -> Result<Option<Info>, Fault> {
    let mut command = redis::cmd("XREVRANGE");
    command.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
    let answer = connection.request(&command).await??;
    let entry = items(&answer).first().map_or(&[][..], items);
    let newest = entry.first().and_then(|id| Id::parse(bytes(id)));
    // The oldest entry is not known: what was read is held to be there.
    Ok(newest.map(|newest| Info { length: 1, first: Some(Id::default()), newest, added: None }))
}

/// Publishes an entry. Key and event come from the fields of these names, the payload from `data`, from the only other
/// field, or from all others as a JSON object.
async fn receive_entry(feed: &Feed, position: &Position, id: Id, fields: &[Value]) {
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
    let id = position.id(id);
    let metadata = Metadata { channel: Some(&position.stream), id: Some(&id), event, key };
    feed.receive(payload, metadata).await;
}

/// The fields as a JSON object, in their order, all of them strings; `None`: one is not UTF-8.
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
    fn parse(text: &[u8]) -> Option<Id> {
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

    #[expect(clippy::unnecessary_wraps, reason = "what a server answers that has the stream")]
    fn info(first: u64, newest: u64, added: u64) -> Option<Info> {
        let length = if first == 0 { 0 } else { newest - first + 1 };
        let first = (first > 0).then_some(Id(first, 0));
        Some(Info { length, first, newest: Id(newest, 0), added: Some(added) })
    }

    /// One stream, begun when entries 1 to 10 had been added.
    fn begun(start: Start) -> Position {
        let mut position = positions(vec!["s".into()]).remove(0);
        assert_eq!(position.check(info(5, 10, 10), Moment::Connected, start), None);
        position
    }

    fn read_to(position: &mut Position, newest: u64) {
        for id in position.last.unwrap().0 + 1..=newest {
            (position.last, position.read) = (Some(Id(id, 0)), position.read.map(|read| read + 1));
        }
    }

    fn checks(position: &mut Position, info: Option<Info>) -> Option<Loss> {
        position.check(info, Moment::Reading, Start::New)
    }

    #[test]
    fn ids_are_read_and_ordered() {
        assert_eq!(Id::parse(b"1700000000000-3").map(|it| it.to_string()).as_deref(), Some("1700000000000-3"));
        assert!(Id::parse(b"17-10") > Id::parse(b"17-9"));
        assert_eq!([Id::parse(b"17"), Id::parse(b"a-1"), Id::parse(b"")], [None; 3]);
    }

    #[test]
    fn what_was_dropped_before_it_was_read_is_counted_once() {
        let mut position = begun(Start::New);
        assert_eq!(checks(&mut position, info(5, 12, 12)), None, "two are still to be read");
        assert_eq!(checks(&mut position, info(11, 14, 14)), None, "all that is gone was read");
        assert_eq!(checks(&mut position, info(13, 16, 16)), Some(Loss::Dropped(Some(2))));
        assert_eq!(checks(&mut position, info(13, 16, 16)), None);
        assert_eq!(checks(&mut position, info(0, 16, 16)), Some(Loss::Dropped(Some(4))), "trimmed to nothing");
        let mut position = begun(Start::First);
        assert_eq!(checks(&mut position, info(5, 10, 10)), None, "what was gone before it began is not missed");
        (position.last, position.read) = (Some(Id(10, 0)), position.read.map(|read| read + 6));
        assert_eq!((position.read, checks(&mut position, info(12, 13, 13))), (Some(10), Some(Loss::Dropped(Some(1)))));
    }

    #[test]
    fn a_stream_that_is_begun_again_is_read_from_its_beginning() {
        let mut position = begun(Start::New);
        let before = position.id(Id(3, 0));
        assert_eq!(checks(&mut position, info(1, 3, 3)), Some(Loss::Recreated));
        assert_eq!((position.last, checks(&mut position, info(1, 3, 3))), (Some(Id::default()), None));
        assert_ne!(position.id(Id(3, 0)), before);
        read_to(&mut position, 3);
        assert_eq!(checks(&mut position, info(1, 3, 3)), None);
        // It has grown beyond what was read before anybody looked.
        assert_eq!(checks(&mut position, info(1, 9, 2)), Some(Loss::Recreated));
        assert_eq!(position.last, Some(Id::default()));
    }

    #[test]
    fn a_stream_that_is_deleted_is_waited_for() {
        let mut position = begun(Start::New);
        assert_eq!(checks(&mut position, None), Some(Loss::Recreated));
        assert_eq!((position.last, checks(&mut position, None)), (Some(Id::default()), None));
        // Times as ids: what came since was read already, and does not come twice.
        let mut position = begun(Start::New);
        read_to(&mut position, 21);
        position.read = Some(11);
        assert_eq!(checks(&mut position, info(21, 21, 1)), Some(Loss::Recreated));
        assert_eq!((position.last, position.read), (Some(Id(21, 0)), Some(1)));
    }

    #[test]
    fn before_redis_7_a_place_that_is_gone_is_a_loss() {
        let old = |first: u64, newest: u64| info(first, newest, 0).map(|it| Info { added: None, ..it });
        for (first, expected) in [(9, None), (12, Some(Loss::Dropped(None)))] {
            let mut position = positions(vec!["s".into()]).remove(0);
            position.check(old(5, 10), Moment::Connected, Start::New);
            assert_eq!(position.check(old(first, 14), Moment::Reading, Start::New), None);
            assert_eq!(position.check(old(first, 14), Moment::Connected, Start::New), expected);
        }
    }

    #[test]
    fn one_id_in_two_streams_is_two_ids() {
        let positions = positions(vec!["a".into(), "b".into()]);
        assert_ne!(positions[0].id(Id(1, 0)), positions[1].id(Id(1, 0)));
        assert!(positions[0].id(Id(1, 0)).starts_with("1-0-"));
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
        assert_eq!(parse_info(&Value::Array(answer)), Some(expected));
        assert_eq!(parse_info(&Value::Array(vec![])), None);
    }
}

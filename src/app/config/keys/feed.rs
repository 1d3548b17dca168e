//! The keys of `[[feed]]`.

use std::path::PathBuf;
use std::time::Duration;

use super::super::forms::{self, Parsed};
use super::super::model::{Format, Framing, InvalidText, LastValues, Replay, Source, Start};
use super::super::sources;
use super::{DAY, Field, GIB, KIB, Key, MIB, Preset, Rule, push_new, put};

/// A `[[feed]]` as it is read: what is missing or wrong is absent, the keys of all sources stand side by side.
pub(crate) struct FeedDraft {
    /// The name as it was written, good or not: routes are held against it.
    pub(crate) written: String,
    pub(crate) name: Option<String>,
    pub(crate) source: Option<Source>,
    pub(crate) tls: ClientTlsDraft,
    pub(crate) channel: Option<String>,
    pub(crate) topics: Vec<String>,
    pub(crate) stream: Option<String>,
    pub(crate) redis_streams: bool,
    pub(crate) start: Start,
    pub(crate) framing: Framing,
    pub(crate) format: Format,
    pub(crate) text: bool,
    pub(crate) invalid_text: InvalidText,
    pub(crate) message_bytes: u64,
    pub(crate) replay: Replay,
    pub(crate) last_values: LastValues,
    pub(crate) channels_max: u32,
    pub(crate) prefix_linger: Duration,
    pub(crate) prefixes_idle: u32,
}

/// The value of `tls` as it is read: files as they are written, relative to the configuration file.
#[derive(Default)]
pub(crate) struct ClientTlsDraft {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

impl FeedDraft {
    pub(crate) fn new() -> Self {
        FeedDraft {
            written: String::new(),
            name: None,
            source: None,
            tls: ClientTlsDraft::default(),
            channel: None,
            topics: Vec::new(),
            stream: None,
            redis_streams: false,
            start: Start::New,
            framing: Framing::Lines,
            format: Format::Raw,
            text: false,
            invalid_text: InvalidText::Drop,
            message_bytes: 0,
            replay: Replay { messages: 0, bytes: 0, age: Duration::ZERO },
            last_values: LastValues { keys: 0, bytes: 0, age: Duration::ZERO },
            channels_max: 0,
            prefix_linger: Duration::ZERO,
            prefixes_idle: 0,
        }
    }
}

/// Sources that are asked for topics.
const BROKERS: [&str; 3] = ["nats", "redis", "mqtt"];
/// Sources of bytes without ends of messages.
const STREAMS: [&str; 3] = ["tcp", "tcp-listen", "unix"];
/// Sources whose messages come from outside and say nothing of their form.
const PLAIN: [&str; 7] = ["udp", "tcp", "tcp-listen", "unix", "nats", "redis", "mqtt"];
/// Sources that bring what others wrote.
const FOREIGN: [&str; 8] = ["udp", "tcp", "tcp-listen", "unix", "nats", "redis", "mqtt", "http"];

/// The keys of `[[feed]]`.
pub(crate) static FEED: [Key<FeedDraft>; 18] = [
    Key {
        name: "name",
        field: Field::Text { form: "1 to 32 letters, digits, `_` or `-`", store: store_name },
        default: Preset::Required,
        words: "What the feed is called by routes, in logs and in metrics; no two share a name.",
        example: "\"ticker\"",
        see: &["feeds"],
        ..Key::PLAIN
    },
    Key {
        name: "source",
        field: Field::Text {
            form: sources::FORM,
            store: |f, text| sources::source(text).map(|source| put(&mut f.source, source)),
        },
        default: Preset::Required,
        words: "Where the messages come from: `udp://ADDRESS:PORT`, `tcp://HOST:PORT`, `tcp-listen://ADDRESS:PORT`, \
                `unix:///PATH`, `nats://HOST`, `redis://HOST`, `mqtt://HOST`, `http` or `demo`; `tls://HOST` (NATS), \
                `rediss://HOST` and `mqtts://HOST` by TLS.",
        note: "edgehold opens `udp`, `tcp-listen` and `unix` itself (a multicast address is joined) and connects to \
               the others. What reaches an open port is sent to every client: keep it on the loopback or on a network \
               of its own. `http` is published to at the admin address. Of a broker, user and password may stand \
               before the host (`nats://user:password@host`); they are shown nowhere. Where its port is left out, it \
               is 4222, 6379 or 1883, and 8883 with `mqtts`. Behind it may stand the number of a Redis database \
               (`/2`) or an MQTT client identifier (`?client_id=edge-1`), which no two servers may share. `demo` \
               counts, ten times a second.",
        example: "\"udp://127.0.0.1:9999\"",
        see: &["topics", "channel", "admin", "feed.tls"],
        ..Key::PLAIN
    },
    Key {
        name: "tls",
        field: Field::Table { form: "a table, { ca = \"brokers.pem\" }", keys: &TLS },
        default: Preset::Absent("the authorities of the system are believed, and no certificate is shown"),
        owners: &BROKERS,
        words: "With `tls://`, `rediss://` and `mqtts://`: who must have issued the broker's certificate, and what it \
                is shown.",
        note: "The certificate must be for the host of `source`, and is always verified. Files are read anew for each \
               connection: one that is replaced is used by the next.",
        example: "{ ca = \"brokers.pem\" }",
        see: &["feed.tls.ca", "feed.tls.certificate", "feed.tls.key"],
    },
    Key {
        name: "channel",
        field: Field::Text {
            form: "1 to 255 bytes without control characters",
            store: |f, text| forms::channel(text).map(|channel| put(&mut f.channel, channel)),
        },
        default: Preset::Absent(
            "it is taken from the message: NATS subject, Redis channel or stream, MQTT topic, JSON",
        ),
        words: "The channel of all messages of the feed.",
        note: "Where it is left out, `udp`, `tcp`, `tcp-listen` and `unix` need `format = \"json\"`. With `http` it \
               says what may be published to, a `*` at its end for all that begins so; left out: every channel.",
        example: "\"ticker\"",
        see: &["channels", "format"],
        ..Key::PLAIN
    },
    Key {
        name: "topics",
        field: Field::List {
            form: "a topic, or a list of topics",
            single: true,
            most: 256,
            store: |f, text| push_new(&mut f.topics, forms::topic(text)?, text),
        },
        default: Preset::Required,
        owners: &BROKERS,
        words: "What is asked of the broker: NATS subjects, Redis channels, patterns or streams, MQTT topic filters.",
        note: "Wildcards are the broker's own: `prices.>` for NATS, `prices.*` for Redis, `prices/#` for MQTT. What \
               several topics match is published once; filters of MQTT that may match one topic are refused.",
        example: "[\"prices.>\", \"news\"]",
        see: &["stream", "redis_streams"],
    },
    Key {
        name: "stream",
        field: Field::Text {
            form: "the name of a JetStream stream",
            store: |f, text| forms::stream(text).map(|stream| put(&mut f.stream, stream)),
        },
        default: Preset::Absent("core NATS"),
        owners: &["nats"],
        words: "The JetStream stream that the topics are read from.",
        note: "With it nothing is lost or doubled while the connection to the broker was gone; what the stream has \
               dropped by then is told as a gap. What core NATS says meanwhile is not heard.",
        example: "\"PRICES\"",
        see: &["topics", "start"],
    },
    Key {
        name: "redis_streams",
        field: Field::Flag { store: |f, on| f.redis_streams = on },
        default: Preset::Is("false"),
        owners: &["redis"],
        words: "Whether the topics are Redis streams, not channels.",
        note: "With it nothing is lost or doubled while the connection to Redis was gone; what Redis has dropped by \
               then (MAXLEN) is told as a gap. What is published to a channel meanwhile is not heard.",
        example: "true",
        see: &["topics", "start"],
    },
    Key {
        name: "start",
        field: Field::TextOrCount {
            form: "\"new\", \"first\" or a whole number from 1",
            store: |f, text| forms::start(text).map(|start| f.start = start),
        },
        default: Preset::Is("new"),
        owners: &["nats", "redis"],
        words: "Where a stream is begun when edgehold starts: with what comes from now on, with the oldest that the \
                broker has, or with this sequence of a JetStream stream.",
        note: "Only with `stream` or `redis_streams`; a number only with `stream`. After a lost connection it goes on \
               where it was.",
        example: "\"first\"",
        see: &["stream", "redis_streams"],
    },
    Key {
        name: "framing",
        field: choice!(framing: "lines" => Framing::Lines, "length" => Framing::Length),
        default: Preset::Is("lines"),
        owners: &STREAMS,
        words: "How the bytes are cut into messages: a line each (LF or CRLF), or each behind its length in four \
                bytes, most significant first.",
        see: &["format"],
        ..Key::PLAIN
    },
    Key {
        name: "format",
        field: choice!(format: "raw" => Format::Raw, "json" => Format::Json),
        default: Preset::Is("raw"),
        owners: &PLAIN,
        words: "How a message is read: all of it is the payload, or it is a JSON object with `channel`, `id`, \
                `event`, `key`, and `data` or `base64`.",
        see: &["channel", "text"],
        ..Key::PLAIN
    },
    Key {
        name: "text",
        field: Field::Flag { store: |f, on| f.text = on },
        default: Preset::Is("true"),
        owners: &PLAIN,
        words: "Whether payloads are text; else they are binary.",
        note: "WebSocket clients get text or binary frames by it.",
        see: &["invalid_text"],
        ..Key::PLAIN
    },
    Key {
        name: "invalid_text",
        field: choice!(invalid_text: "drop" => InvalidText::Drop, "binary" => InvalidText::Binary),
        default: Preset::Is("drop"),
        owners: &FOREIGN,
        words: "What becomes of a text message that is not UTF-8: it is dropped and counted, or sent as binary.",
        note: "What is published over HTTP is refused with 400 instead of dropped.",
        see: &["text"],
        ..Key::PLAIN
    },
    Key {
        name: "message_bytes",
        field: Field::bytes(Rule::Range(1, 64 * MIB), |f| &mut f.message_bytes),
        default: Preset::Is("1MiB"),
        owners: &FOREIGN,
        words: "The largest payload; a larger one is dropped and counted, over HTTP it is refused with 413.",
        see: &["replay", "slow_client"],
        ..Key::PLAIN
    },
    Key {
        name: "replay",
        field: Field::Table { form: "a table, { messages = 1000, age = \"10m\", bytes = \"16MiB\" }", keys: &REPLAY },
        default: Preset::Inner,
        words: "What is kept of each channel for clients that come back, as long as none of the three is passed.",
        note: "Kept for each channel that the feed was heard to name: a feed without `channel` may keep `bytes` many \
               times over.",
        example: "{ messages = 1000, age = \"10m\", bytes = \"16MiB\" }",
        see: &["replay.messages", "replay.bytes", "replay.age"],
        ..Key::PLAIN
    },
    Key {
        name: "last_values",
        field: Field::Table {
            form: "a table, { keys = 65536, bytes = \"16MiB\", age = \"168h\" }",
            keys: &LAST_VALUES,
        },
        default: Preset::Inner,
        words: "What is kept of each channel for `snapshot` and `conflate`, beyond `replay`: the last message of each \
                key, as long as none of the three is passed.",
        note: "Nothing, where no route of the feed has `snapshot` or `conflate`.",
        example: "{ keys = 1000, bytes = \"1MiB\", age = \"24h\" }",
        see: &["snapshot", "last_values.keys", "last_values.bytes", "last_values.age"],
        ..Key::PLAIN
    },
    Key {
        name: "channels_max",
        field: Field::count(Rule::Range(1, 16_777_216), |f| &mut f.channels_max),
        default: Preset::Is("1048576"),
        words: "How many channels of the feed something is kept of.",
        note: "Messages of others are sent to those who listen, and kept for nobody: \
               `edgehold_channels_refused_total` counts them.",
        see: &["replay"],
        ..Key::PLAIN
    },
    Key {
        name: "prefix_linger",
        field: Field::millis(Rule::Range(1000, DAY), |f| &mut f.prefix_linger),
        default: Preset::Is("30s"),
        words: "How long a prefix (`news.*`) stays that nobody listens to any more.",
        note: "Who comes back to one that is still there costs no look at the channels that it covers.",
        see: &["prefixes_idle"],
        ..Key::PLAIN
    },
    Key {
        name: "prefixes_idle",
        field: Field::count(Rule::Range(1, 1_000_000), |f| &mut f.prefixes_idle),
        default: Preset::Is("1024"),
        words: "How many prefixes stay so; beyond, the one goes first that was left first.",
        see: &["prefix_linger"],
        ..Key::PLAIN
    },
];

/// A field for the name of a file.
macro_rules! file {
    ($form:literal, $place:ident) => {
        Field::Text { form: $form, store: |feed, text| forms::file(text).map(|file| put(&mut feed.tls.$place, file)) }
    };
}

/// The keys inside of `tls`.
static TLS: [Key<FeedDraft>; 3] = [
    Key {
        name: "ca",
        field: file!("a file with certificates of authorities in PEM", ca),
        default: Preset::Absent("those that the system believes"),
        words: "The authorities of which the broker's certificate must be; those of the system count no more.",
        note: "Those of the system are read where `SSL_CERT_FILE` or `SSL_CERT_DIR` say, or where distributions keep \
               them.",
        example: "\"brokers.pem\"",
        see: &["feed.tls.certificate"],
        ..Key::PLAIN
    },
    Key {
        name: "certificate",
        field: file!("a file with a certificate in PEM and its chain behind it", certificate),
        default: Preset::Absent("none is shown"),
        words: "The certificate that a broker is shown that asks for one.",
        example: "\"edge-client.pem\"",
        see: &["feed.tls.key"],
        ..Key::PLAIN
    },
    Key {
        name: "key",
        field: file!("a file with a private key in PEM", key),
        default: Preset::Absent("none is shown"),
        words: "The private key of `certificate`, without a passphrase.",
        note: "Nobody but the user that runs edgehold should be able to read it: mode 0600.",
        example: "\"edge-client.key\"",
        see: &["feed.tls.certificate"],
        ..Key::PLAIN
    },
];

/// The keys inside of `last_values`.
static LAST_VALUES: [Key<FeedDraft>; 3] = [
    Key {
        name: "keys",
        field: Field::count(Rule::Range(1, 16_777_216), |f| &mut f.last_values.keys),
        default: Preset::Is("65536"),
        words: "Of how many keys; beyond, the one goes first that was quiet for longest.",
        see: &["snapshot"],
        ..Key::PLAIN
    },
    Key {
        name: "bytes",
        field: Field::bytes(Rule::Range(4 * KIB, 64 * GIB), |f| &mut f.last_values.bytes),
        default: Preset::Is("16MiB"),
        words: "How many bytes of messages that `replay` does not keep any more.",
        see: &["replay.bytes"],
        ..Key::PLAIN
    },
    Key {
        name: "age",
        field: Field::millis(Rule::Range(1000, 366 * DAY), |f| &mut f.last_values.age),
        default: Preset::Is("168h"),
        words: "For how long, without another message of the key.",
        see: &["replay.age"],
        ..Key::PLAIN
    },
];

/// The keys inside of `replay`.
static REPLAY: [Key<FeedDraft>; 3] = [
    Key {
        name: "messages",
        field: Field::count(Rule::ZeroOr("nothing is kept", 1, 1_000_000), |f| &mut f.replay.messages),
        default: Preset::Is("0"),
        words: "How many messages are kept.",
        note: "A client that comes back after more than these were said is told that some are gone.",
        example: "1000",
        see: &["poll_gap", "snapshot"],
        ..Key::PLAIN
    },
    Key {
        name: "bytes",
        field: Field::bytes(Rule::Range(4 * KIB, 64 * GIB), |f| &mut f.replay.bytes),
        default: Preset::Is("16MiB"),
        words: "How many bytes are kept.",
        see: &["feed.message_bytes"],
        ..Key::PLAIN
    },
    Key {
        name: "age",
        field: Field::millis(Rule::Range(1000, DAY), |f| &mut f.replay.age),
        default: Preset::Is("10m"),
        words: "For how long a message is kept.",
        see: &["replay.messages"],
        ..Key::PLAIN
    },
];

fn store_name(feed: &mut FeedDraft, text: &str) -> Parsed<()> {
    feed.written = text.into();
    forms::name(text).map(|name| put(&mut feed.name, name))
}

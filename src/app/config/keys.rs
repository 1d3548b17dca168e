//! The one table of all keys, and the reference page that grows from it.
//!
//! An entry holds all there is to a key: its name, the form and bounds of its value,
//! what it is when left out, the words for the reference, and the function that
//! stores it. `read` walks files along the table and knows no key by name; defaults
//! travel the same road as values from a file, so a default outside its own bounds
//! cannot be written here without a test failing.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Address, Frames, Level, Limits, LogFormat, Server, Upstream, forms};

/// One key of a table that is read into a `T`.
pub(super) struct Key<T: 'static> {
    pub(super) name: &'static str,
    pub(super) field: Field<T>,
    pub(super) default: Preset,
    /// The services a key of a route belongs to; empty where it belongs to all.
    pub(super) services: &'static [&'static str],
    /// What it does, in one sentence.
    pub(super) words: &'static str,
    /// What it costs and where it hurts.
    pub(super) note: &'static str,
    /// A value as it would stand in a file, where the default does not show the form.
    pub(super) example: &'static str,
    pub(super) see: &'static [&'static str],
}

/// What a key is when it is left out.
pub(super) enum Preset {
    /// This value, written without quotes.
    Is(&'static str),
    /// Nothing; the words say what that means.
    Absent(&'static str),
    /// It must be written (where its service is chosen).
    Required,
}

/// The form of a value and where it goes.
pub(super) enum Field<T> {
    Number {
        unit: Unit,
        rule: Rule,
        store: fn(&mut T, u64),
    },
    /// One of a few words; stored by its place among them.
    Choice {
        names: &'static [&'static str],
        store: fn(&mut T, usize),
    },
    Text {
        form: &'static str,
        store: fn(&mut T, &str) -> Result<(), String>,
    },
    /// A list of strings, stored one by one; a lone string is taken where `single` says so.
    List {
        form: &'static str,
        single: bool,
        most: usize,
        store: fn(&mut T, &str) -> Result<(), String>,
    },
}

/// How a number is written.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Unit {
    /// A TOML integer.
    Count,
    /// A string such as "64KiB".
    Bytes,
    /// A string such as "30s", counted in milliseconds.
    Millis,
}

/// Which numbers are taken, bounds included.
pub(super) enum Rule {
    Range(u64, u64),
    /// Zero with a meaning of its own, or a range.
    ZeroOr(&'static str, u64, u64),
    PowerOfTwo(u64, u64),
    OneOf(&'static [u64]),
}

impl Rule {
    pub(super) fn allows(&self, value: u64) -> bool {
        match *self {
            Rule::Range(min, max) => (min..=max).contains(&value),
            Rule::ZeroOr(_, min, max) => value == 0 || (min..=max).contains(&value),
            Rule::PowerOfTwo(min, max) => (min..=max).contains(&value) && value.is_power_of_two(),
            Rule::OneOf(codes) => codes.contains(&value),
        }
    }

    fn words(&self, unit: Unit) -> String {
        match *self {
            Rule::Range(min, max) => range(unit, min, max),
            Rule::ZeroOr(means, min, max) => {
                format!("{} ({means}) or {}", unit.show(0), range(unit, min, max))
            }
            Rule::PowerOfTwo(min, max) => format!("a power of two from {} to {}", unit.show(min), unit.show(max)),
            Rule::OneOf(codes) => format!("one of {}", join(codes.iter().map(u64::to_string))),
        }
    }
}

fn range(unit: Unit, min: u64, max: u64) -> String {
    format!("{} from {} to {}", unit.noun(), unit.show(min), unit.show(max))
}

fn join(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

impl Unit {
    fn noun(self) -> &'static str {
        match self {
            Unit::Count => "a whole number",
            Unit::Bytes => "a size",
            Unit::Millis => "a duration",
        }
    }

    /// The number as it stands in a file, with its quotes.
    fn show(self, value: u64) -> String {
        match self {
            Unit::Count => value.to_string(),
            Unit::Bytes => format!("\"{}\"", forms::show_bytes(value)),
            Unit::Millis => format!("\"{}\"", forms::show_millis(value)),
        }
    }

    /// The number of a text without quotes.
    pub(super) fn parse(self, text: &str) -> Option<u64> {
        match self {
            Unit::Count => text.parse().ok(),
            Unit::Bytes => forms::bytes(text),
            Unit::Millis => forms::millis(text),
        }
    }
}

impl<T> Field<T> {
    /// What may be written, as words for a problem and for the reference.
    pub(super) fn expected(&self) -> String {
        match self {
            Field::Number { unit, rule, .. } => rule.words(*unit),
            Field::Choice { names, .. } => {
                format!("one of {}", join(names.iter().map(|n| format!("\"{n}\""))))
            }
            Field::Text { form, .. } => (*form).into(),
            Field::List { form, most, .. } => format!("{form}, {most} at most"),
        }
    }

    /// Whether the value stands without quotes.
    fn bare(&self) -> bool {
        matches!(self, Field::Number { unit: Unit::Count, .. } | Field::List { .. })
    }
}

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Close codes that tell a client something true when its upstream is gone
/// (RFC 6455 section 7.4.1 and the registry it opens).
const END_CODES: [u64; 5] = [1000, 1001, 1011, 1012, 1013];

/// The names of the services, as `service` takes them.
pub(super) const SERVICES: [&str; 4] = ["echo", "page", "files", "proxy"];

/// A `Server` before its defaults are laid in; every field has a key with a default.
pub(super) const BLANK_SERVER: Server = Server {
    shards: 0,
    slots_per_shard: 0,
    admin: None,
    admin_allow_origin: Vec::new(),
    log: Level::Info,
    log_format: LogFormat::Text,
    shutdown_grace: Duration::ZERO,
    park_after: Duration::ZERO,
    accepts_in_flight: 0,
    recv_buffers: 0,
    recv_buffer_bytes: 0,
    unsent_bytes: 0,
    outbox_bytes: 0,
    turn_events: 0,
    resolve_ttl: Duration::ZERO,
};

/// `Limits` before their defaults are laid in.
pub(super) const BLANK_LIMITS: Limits = Limits {
    head_bytes: 0,
    head_count: 0,
    message_bytes: 0,
    head_timeout: Duration::ZERO,
    idle_timeout: Duration::ZERO,
    max_pending: 0,
    close_timeout: Duration::ZERO,
};

/// A `[[listener]]` as it is read: what is missing or wrong is absent.
#[derive(Default)]
pub(super) struct ListenerDraft {
    pub(super) name: Option<String>,
    pub(super) address: Option<Address>,
    pub(super) backlog: u32,
}

/// A `[[route]]` as it is read: the keys of all services side by side.
pub(super) struct RouteDraft {
    pub(super) path: Option<String>,
    pub(super) host: Option<String>,
    /// A place in [`SERVICES`].
    pub(super) service: Option<usize>,
    pub(super) limits: Limits,
    pub(super) subprotocols: Vec<String>,
    pub(super) root: Option<PathBuf>,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) frames: Frames,
    pub(super) connect_timeout: Duration,
    pub(super) end_code: u16,
}

impl RouteDraft {
    pub(super) fn new(limits: Limits) -> Self {
        RouteDraft {
            path: None,
            host: None,
            service: None,
            limits,
            subprotocols: Vec::new(),
            root: None,
            upstreams: Vec::new(),
            frames: Frames::Binary,
            connect_timeout: Duration::ZERO,
            end_code: 0,
        }
    }
}

/// Adds to a list in which each thing may stand once.
fn push_new<V: PartialEq>(list: &mut Vec<V>, value: V, text: &str) -> Result<(), String> {
    if list.contains(&value) {
        return Err(format!("{} stands here twice — write it once", forms::quote(text)));
    }
    list.push(value);
    Ok(())
}

fn put<V>(slot: &mut Option<V>, value: V) {
    *slot = Some(value);
}

/// The keys of `[server]`.
pub(super) static SERVER: [Key<Server>; 15] = [
    Key {
        name: "shards",
        field: Field::Number {
            unit: Unit::Count,
            rule: Rule::ZeroOr("one per core", 1, 1024),
            store: |s, n| s.shards = n as usize,
        },
        default: Preset::Is("0"),
        services: &[],
        words: "How many shards serve clients, each a thread with its own ring, sockets and table of connections.",
        note: "More shards than cores help only where a shard's table may not hold enough connections: \
               RLIMIT_NOFILE bounds each ring, not the process. A busy machine loses by them.",
        example: "",
        see: &["slots_per_shard"],
    },
    Key {
        name: "slots_per_shard",
        field: Field::Number {
            unit: Unit::Count,
            rule: Rule::ZeroOr("derived from the machine", 1, 1 << 20),
            store: |s, n| s.slots_per_shard = n as u32,
        },
        default: Preset::Is("0"),
        services: &[],
        words: "How many connections one shard may hold; those beyond are answered 503.",
        note: "A proxied client takes two slots, its own and its upstream's. An idle connection costs the \
               kernel about 4.2 kB and edgehold about 200 B; derived, the slots take three quarters of the \
               memory that is available at start, or what RLIMIT_NOFILE allows, whichever is less. \
               `edgehold doctor` shows the sum.",
        example: "100000",
        see: &["shards", "outbox_bytes"],
    },
    Key {
        name: "admin",
        field: Field::Text {
            form: "an IP address with a port, \"127.0.0.1:9180\", or \"off\"",
            store: |s, text| forms::admin(text).map(|address: Option<SocketAddr>| s.admin = address),
        },
        default: Preset::Is("127.0.0.1:9180"),
        services: &[],
        words: "Where metrics and the admin API answer.",
        note: "It asks for no password: whoever reaches the address may use all of it. Keep it on the \
               loopback or on a network of its own.",
        example: "",
        see: &["admin_allow_origin"],
    },
    Key {
        name: "admin_allow_origin",
        field: Field::List {
            form: "a list of origins, \"http://localhost:8080\"",
            single: false,
            most: 64,
            store: |s, text| push_new(&mut s.admin_allow_origin, forms::origin(text)?, text),
        },
        default: Preset::Is("[]"),
        services: &[],
        words: "Origins whose web pages may read the admin API from a browser (CORS).",
        note: "A page of such an origin can do all that the admin API can, in the browser of anyone who \
               reaches its address.",
        example: "[\"http://localhost:8080\"]",
        see: &["admin"],
    },
    Key {
        name: "log",
        field: Field::Choice {
            names: &["error", "warn", "info", "debug"],
            store: |s, i| s.log = [Level::Error, Level::Warn, Level::Info, Level::Debug][i],
        },
        default: Preset::Is("info"),
        services: &[],
        words: "The least important message that is still logged.",
        note: "`debug` writes several lines per connection. There is no `trace`: release builds leave that \
               level out, so asking for it would be asking for nothing.",
        example: "",
        see: &["log_format"],
    },
    Key {
        name: "log_format",
        field: Field::Choice {
            names: &["text", "json"],
            store: |s, i| s.log_format = [LogFormat::Text, LogFormat::Json][i],
        },
        default: Preset::Is("text"),
        services: &[],
        words: "How a log line is written: for eyes, or as one JSON object a line for a collector.",
        note: "",
        example: "",
        see: &["log"],
    },
    Key {
        name: "shutdown_grace",
        field: Field::Number {
            unit: Unit::Millis,
            rule: Rule::ZeroOr("at once", 1, HOUR),
            store: |s, n| s.shutdown_grace = Duration::from_millis(n),
        },
        default: Preset::Is("10s"),
        services: &[],
        words: "How long connections are given to end when the server is told to stop.",
        note: "Clients come back all at once where it is short. Give the service manager a longer limit of \
               its own (`TimeoutStopSec`), or it will not wait this long.",
        example: "",
        see: &["close_timeout"],
    },
    Key {
        name: "park_after",
        field: Field::Number {
            unit: Unit::Millis,
            rule: Rule::Range(10, DAY),
            store: |s, n| s.park_after = Duration::from_millis(n),
        },
        default: Preset::Is("5s"),
        services: &[],
        words: "Quiet time after which a connection is parked: its armed receive becomes an armed poll.",
        note: "Parking saves the kernel about 610 B per connection and costs two ring operations when the \
               connection speaks again. Set it above the usual pause between two messages.",
        example: "",
        see: &["idle_timeout"],
    },
    Key {
        name: "accepts_in_flight",
        field: Field::Number {
            unit: Unit::Count,
            rule: Rule::Range(1, 256),
            store: |s, n| s.accepts_in_flight = n as u16,
        },
        default: Preset::Is("16"),
        services: &[],
        words: "How many accepts each shard keeps waiting in the kernel, per listener.",
        note: "Each takes a place in the ring's table. More of them take a reconnect storm in larger bites.",
        example: "",
        see: &["backlog", "slots_per_shard"],
    },
    Key {
        name: "recv_buffers",
        field: Field::Number {
            unit: Unit::Count,
            rule: Rule::PowerOfTwo(16, 32768),
            store: |s, n| s.recv_buffers = n as u16,
        },
        default: Preset::Is("128"),
        services: &[],
        words: "How many receive buffers a shard lends to the kernel, for all of its connections together.",
        note: "A connection that finds none waits and is armed again, which the metrics count. Costs \
               `recv_buffers` × `recv_buffer_bytes` of memory per shard.",
        example: "",
        see: &["recv_buffer_bytes"],
    },
    Key {
        name: "recv_buffer_bytes",
        field: Field::Number {
            unit: Unit::Bytes,
            rule: Rule::Range(512, 64 * KIB),
            store: |s, n| s.recv_buffer_bytes = n as u32,
        },
        default: Preset::Is("20KiB"),
        services: &[],
        words: "The size of one receive buffer: the most that one completion brings.",
        note: "Small buffers cut large messages into many completions: at 4KiB an echo of 16 KiB takes 30 % more \
               CPU than at 20KiB, into which it fits with its frame head. Of large ones only the pages that were \
               written to take memory. What one turn brings may go beyond `max_pending` by as much as all of them \
               hold.",
        example: "",
        see: &["recv_buffers"],
    },
    Key {
        name: "unsent_bytes",
        field: Field::Number {
            unit: Unit::Bytes,
            rule: Rule::ZeroOr("as much as the kernel likes", 4 * KIB, 64 * MIB),
            store: |s, n| s.unsent_bytes = n as u32,
        },
        default: Preset::Is("16KiB"),
        services: &[],
        words: "How many bytes the kernel takes for a TCP peer beyond those that are on their way to it.",
        note: "Without it the kernel takes up to net.ipv4.tcp_wmem, 4 MiB by default, for each peer that does not \
               read, and what is said last (a ping, a Close) waits behind all of it.",
        example: "",
        see: &["max_pending"],
    },
    Key {
        name: "outbox_bytes",
        field: Field::Number {
            unit: Unit::Bytes,
            rule: Rule::ZeroOr("derived from memory", MIB, 64 * GIB),
            store: |s, n| s.outbox_bytes = n,
        },
        default: Preset::Is("0"),
        services: &[],
        words: "How many bytes may wait to be sent in one shard, for all of its connections together.",
        note: "Derived, the shards share an eighth of the memory that is available at start, 8 MiB to 4 GiB \
               each. It must hold what one peer may have pending, `max_pending`. A peer for which there is \
               no room is closed with 1013.",
        example: "\"256MiB\"",
        see: &["max_pending"],
    },
    Key {
        name: "turn_events",
        field: Field::Number { unit: Unit::Count, rule: Rule::Range(16, 4096), store: |s, n| s.turn_events = n as u32 },
        default: Preset::Is("256"),
        services: &[],
        words: "How many completions a shard handles before the other tasks of its thread may run.",
        note: "High values favour throughput, low ones the shard's housekeeping and the answer to letters.",
        example: "",
        see: &[],
    },
    Key {
        name: "resolve_ttl",
        field: Field::Number {
            unit: Unit::Millis,
            rule: Rule::Range(1000, DAY),
            store: |s, n| s.resolve_ttl = Duration::from_millis(n),
        },
        default: Preset::Is("30s"),
        services: &[],
        words: "How long the addresses of an upstream's name are used before the name is resolved again.",
        note: "The resolver of the system tells no time to live, so this stands in its place. Connections \
               that are open stay where they are.",
        example: "",
        see: &["upstream"],
    },
];

/// The keys of `[[listener]]`.
pub(super) static LISTENER: [Key<ListenerDraft>; 3] = [
    Key {
        name: "name",
        field: Field::Text {
            form: "1 to 32 letters, digits, `_` or `-`",
            store: |l, text| forms::name(text).map(|name| put(&mut l.name, name)),
        },
        default: Preset::Required,
        services: &[],
        words: "What the listener is called in logs and metrics; no two share a name.",
        note: "",
        example: "\"public\"",
        see: &["address"],
    },
    Key {
        name: "address",
        field: Field::Text {
            form: "an IP address with a port, \"0.0.0.0:8080\" or \"[::]:8080\", or \"unix:/path\"",
            store: |l, text| forms::address(text).map(|address| put(&mut l.address, address)),
        },
        default: Preset::Required,
        services: &[],
        words: "Where clients connect; no two listeners share an address.",
        note: "Port 0 lets the kernel choose one. A Unix socket takes an absolute path of 107 bytes at most.",
        example: "\"0.0.0.0:8080\"",
        see: &["admin"],
    },
    Key {
        name: "backlog",
        field: Field::Number { unit: Unit::Count, rule: Rule::Range(1, 1 << 20), store: |l, n| l.backlog = n as u32 },
        default: Preset::Is("4096"),
        services: &[],
        words: "How many connections the kernel holds for each shard until they are accepted.",
        note: "The kernel cuts it to `net.core.somaxconn` without a word; `edgehold doctor` says so.",
        example: "",
        see: &["accepts_in_flight"],
    },
];

/// The keys of `[limits]`, which may each stand on a route as well.
pub(super) static LIMITS: [Key<Limits>; 7] = [
    Key {
        name: "head_bytes",
        field: Field::Number {
            unit: Unit::Bytes,
            rule: Rule::Range(256, 256 * KIB),
            store: |l, n| l.head_bytes = n as u32,
        },
        default: Preset::Is("16KiB"),
        services: &[],
        words: "The largest request head: request line and field lines together. Beyond it, 431.",
        note: "A client may make the server keep this much until its head is whole. Cookies make heads \
               large. A route may only tighten it, since the head is read before the route is known.",
        example: "",
        see: &["head_count", "head_timeout"],
    },
    Key {
        name: "head_count",
        field: Field::Number { unit: Unit::Count, rule: Rule::Range(1, 256), store: |l, n| l.head_count = n as u16 },
        default: Preset::Is("100"),
        services: &[],
        words: "The most field lines a request head may have. Beyond it, 431.",
        note: "A route may only tighten it, since the head is read before the route is known.",
        example: "",
        see: &["head_bytes"],
    },
    Key {
        name: "message_bytes",
        field: Field::Number { unit: Unit::Bytes, rule: Rule::Range(125, GIB), store: |l, n| l.message_bytes = n },
        default: Preset::Is("1MiB"),
        services: &[],
        words: "The largest WebSocket message taken from a client, its fragments joined. Beyond it, close code 1009.",
        note: "Where a service needs whole messages, a client may make the server keep this much.",
        example: "",
        see: &["max_pending"],
    },
    Key {
        name: "head_timeout",
        field: Field::Number {
            unit: Unit::Millis,
            rule: Rule::Range(100, HOUR),
            store: |l, n| l.head_timeout = Duration::from_millis(n),
        },
        default: Preset::Is("10s"),
        services: &[],
        words: "How long a client may take to send a whole request head.",
        note: "It is what ends clients that send a byte a minute. A route may only tighten it, since the \
               head is read before the route is known.",
        example: "",
        see: &["head_bytes", "idle_timeout"],
    },
    Key {
        name: "idle_timeout",
        field: Field::Number {
            unit: Unit::Millis,
            rule: Rule::Range(100, DAY),
            store: |l, n| l.idle_timeout = Duration::from_millis(n),
        },
        default: Preset::Is("120s"),
        services: &[],
        words: "How long a client may be silent: after half of it a ping is sent, after all of it the connection ends.",
        note: "Halving it doubles the pings, and with a million idle clients pings are the load. Beyond the \
               patience of the networks between, connections die unseen.",
        example: "",
        see: &["park_after", "close_timeout"],
    },
    Key {
        name: "max_pending",
        field: Field::Number {
            unit: Unit::Bytes,
            rule: Rule::Range(4 * KIB, GIB),
            store: |l, n| l.max_pending = n as u32,
        },
        default: Preset::Is("64KiB"),
        services: &[],
        words: "How many bytes may wait to be sent to one peer before what feeds it is held back, until half are gone.",
        note: "This is what a slow reader can make the server keep. Slow readers times this value is the \
               memory they hold.",
        example: "",
        see: &["outbox_bytes", "message_bytes"],
    },
    Key {
        name: "close_timeout",
        field: Field::Number {
            unit: Unit::Millis,
            rule: Rule::Range(10, HOUR),
            store: |l, n| l.close_timeout = Duration::from_millis(n),
        },
        default: Preset::Is("5s"),
        services: &[],
        words: "How long a closing handshake, or the reading out of a connection that is being closed, may take.",
        note: "Too short, and a client may lose the last bytes it was sent to a reset.",
        example: "",
        see: &["shutdown_grace"],
    },
];

/// The keys of `[[route]]`, apart from those of [`LIMITS`].
pub(super) static ROUTE: [Key<RouteDraft>; 9] = [
    Key {
        name: "path",
        field: Field::Text {
            form: "a path that begins with a slash",
            store: |r, text| forms::path(text).map(|path| put(&mut r.path, path)),
        },
        default: Preset::Required,
        services: &[],
        words: "The path that is matched, byte for byte; with a slash at its end, all that lies below it too.",
        note: "`/` alone matches only itself, except with `service = \"files\"`, where it is the whole site. \
               Among the routes that match, one with a host goes before one without, then the longer path \
               before the shorter.",
        example: "\"/stomp\"",
        see: &["host", "service"],
    },
    Key {
        name: "host",
        field: Field::Text {
            form: "a host without a port",
            store: |r, text| forms::host(text).map(|host| put(&mut r.host, host)),
        },
        default: Preset::Absent("every host"),
        services: &[],
        words: "The host that is matched, without regard to case or port.",
        note: "",
        example: "\"chat.example.org\"",
        see: &["path"],
    },
    Key {
        name: "service",
        field: Field::Choice { names: &SERVICES, store: |r, i| put(&mut r.service, i) },
        default: Preset::Required,
        services: &[],
        words: "What is done for clients of this route.",
        note: "`echo` sends every message back, `page` is the built-in demo page, `files` serves a folder, \
               `proxy` carries each client to a back end over a connection of its own.",
        example: "\"proxy\"",
        see: &["upstream", "root"],
    },
    Key {
        name: "subprotocols",
        field: Field::List {
            form: "a list of tokens (RFC 9110, section 5.6.2), \"v12.stomp\"",
            single: false,
            most: 32,
            store: |r, text| push_new(&mut r.subprotocols, forms::token(text)?, text),
        },
        default: Preset::Is("[]"),
        services: &["echo", "proxy"],
        words: "The WebSocket subprotocols this route speaks, the preferred one first.",
        note: "Browsers refuse a connection for which they asked a subprotocol and got none.",
        example: "[\"v12.stomp\", \"v11.stomp\"]",
        see: &["service"],
    },
    Key {
        name: "upstream",
        field: Field::List {
            form: "\"tcp://host:port\" or \"unix:///path\", or a list of those",
            single: true,
            most: 64,
            store: |r, text| push_new(&mut r.upstreams, forms::upstream(text)?, text),
        },
        default: Preset::Required,
        services: &["proxy"],
        words: "The back end, or several among which clients are spread.",
        note: "Each client takes a connection to it. Over TCP the local ports to one address and port are \
               bounded by `net.ipv4.ip_local_port_range`; a Unix socket knows no such bound.",
        example: "[\"tcp://broker-1:61613\", \"tcp://broker-2:61613\"]",
        see: &["connect_timeout", "resolve_ttl", "frames"],
    },
    Key {
        name: "frames",
        field: Field::Choice {
            names: &["binary", "text", "lines"],
            store: |r, i| r.frames = [Frames::Binary, Frames::Text, Frames::Lines][i],
        },
        default: Preset::Is("binary"),
        services: &["proxy"],
        words: "How the upstream's bytes become messages: binary or text as the bytes come, or a text message a line.",
        note: "`text` takes UTF-8 only: an upstream that sends anything else ends the connection with 1011. A line \
               that is not UTF-8 goes out as a binary frame. With `lines` a client's message is a line too: CRLF is \
               added where it has no line end, and a line of the upstream longer than `message_bytes` ends the \
               connection.",
        example: "",
        see: &["upstream", "end_code"],
    },
    Key {
        name: "connect_timeout",
        field: Field::Number {
            unit: Unit::Millis,
            rule: Rule::Range(10, HOUR),
            store: |r, n| r.connect_timeout = Duration::from_millis(n),
        },
        default: Preset::Is("5s"),
        services: &["proxy"],
        words: "How long reaching the upstream may take.",
        note: "The client waits as long, and holds its two slots.",
        example: "",
        see: &["upstream"],
    },
    Key {
        name: "end_code",
        field: Field::Number { unit: Unit::Count, rule: Rule::OneOf(&END_CODES), store: |r, n| r.end_code = n as u16 },
        default: Preset::Is("1012"),
        services: &["proxy"],
        words: "The close code a client gets when the upstream ends the stream first.",
        note: "1012 (service restart) and 1013 (try again later) ask clients to come back; 1000 (normal) and \
               1001 (going away) tell them it is over; 1011 (internal error) blames the server.",
        example: "",
        see: &["frames"],
    },
    Key {
        name: "root",
        field: Field::Text {
            form: "a folder, relative to that of the configuration file",
            store: |r, text| folder(text).map(|root| put(&mut r.root, root)),
        },
        default: Preset::Required,
        services: &["files"],
        words: "The folder whose files are served.",
        note: "It must be there when the server starts. All that is readable below it is public.",
        example: "\"www\"",
        see: &["path"],
    },
];

fn folder(text: &str) -> Result<PathBuf, String> {
    match text.is_empty() || text.contains('\0') {
        true => Err(format!("{} is no folder — write its name", forms::quote(text))),
        false => Ok(text.into()),
    }
}

/// A table of the file, as the reference and the reader name it.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// Whether it may stand several times, in double brackets.
    pub(super) many: bool,
    /// Its keys, for the search of a misplaced one.
    pub(super) keys: fn() -> Vec<&'static str>,
    words: &'static str,
}

impl Table {
    /// The table's head as it stands in a file.
    pub(super) fn head(&self) -> String {
        if self.many { format!("[[{}]]", self.name) } else { format!("[{}]", self.name) }
    }
}

/// All tables, in the order of the reference.
pub(super) static TABLES: [Table; 4] = [
    Table { name: "server", many: false, keys: || names(&SERVER), words: "What concerns the process as a whole." },
    Table {
        name: "listener",
        many: true,
        keys: || names(&LISTENER),
        words: "Where clients come in: 1 to 64 of these.",
    },
    Table {
        name: "limits",
        many: false,
        keys: || names(&LIMITS),
        words: "What one client may cost. Each of these keys can also stand on a route and then holds for the \
                clients of that route.",
    },
    Table {
        name: "route",
        many: true,
        keys: || [names(&ROUTE), names(&LIMITS)].concat(),
        words: "Where clients go: 1 to 4096 of these, no two with the same host and path. The keys of `[limits]` \
                can stand here too.",
    },
];

/// The names of the keys of one section.
pub(super) fn names<T>(keys: &[Key<T>]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

const PREFACE: &str = "\
# Configuration

<!-- Written by `cargo run -- reference > docs/configuration.md` from src/app/config/keys.rs; change it there. -->

One file in [TOML](https://toml.io) says all. `edgehold check --config FILE` reads it and prints every problem at
once, each with its line and what to write instead; `edgehold doctor --config FILE` compares what it asks for with
what the machine gives. Without a file, `edgehold serve` uses a built-in demo.

- Durations are strings of a whole number and a unit: `\"250ms\"`, `\"30s\"`, `\"5m\"`, `\"1h\"`.
- Sizes are strings in bytes or in powers of 1024: `\"512\"`, `\"64KiB\"`, `\"1MiB\"`, `\"2GiB\"`.
- Counts are plain integers.
- Relative paths start from the folder of the configuration file.
- Problems count tables from 1: `route[2].path` is the path of the second `[[route]]`.
- A key that is not on this page is an error, and so is a key of one service on a route of another.

The smallest file that serves:

```toml
[[listener]]
name = \"public\"
address = \"0.0.0.0:8080\"

[[route]]
path = \"/echo\"
service = \"echo\"
```
";

/// The reference of the configuration as Markdown: docs/configuration.md, a card per key.
pub fn reference() -> String {
    let mut page = String::from(PREFACE);
    section(&mut page, &TABLES[0], &SERVER);
    section(&mut page, &TABLES[1], &LISTENER);
    section(&mut page, &TABLES[2], &LIMITS);
    section(&mut page, &TABLES[3], &ROUTE);
    page
}

fn section<T>(page: &mut String, table: &Table, keys: &[Key<T>]) {
    let Table { words, .. } = table;
    let _ = write!(page, "\n## {}\n\n{words}\n", table.head());
    keys.iter().for_each(|key| card(page, key));
}

fn card<T>(page: &mut String, key: &Key<T>) {
    let _ = write!(page, "\n### {}\n\n{}\n\n", key.name, key.words);
    let _ = writeln!(page, "- Value: {}", key.field.expected());
    let _ = writeln!(page, "- Default: {}", default_words(key));
    bullet(page, "Of services", &codes(key.services));
    bullet(page, "Cost and danger", key.note);
    bullet(page, "Example", &example(key));
    bullet(page, "See also", &links(key.see));
}

fn bullet(page: &mut String, head: &str, words: &str) {
    if !words.is_empty() {
        let _ = writeln!(page, "- {head}: {words}");
    }
}

fn default_words<T>(key: &Key<T>) -> String {
    match key.default {
        Preset::Is(text) if key.field.bare() => format!("`{text}`"),
        Preset::Is(text) => format!("`\"{text}\"`"),
        Preset::Absent(means) => format!("none ({means})"),
        Preset::Required => "none; it must be written".into(),
    }
}

fn codes(names: &[&str]) -> String {
    join(names.iter().map(|name| format!("`{name}`")))
}

fn example<T>(key: &Key<T>) -> String {
    match key.example {
        "" => String::new(),
        value => format!("`{} = {value}`", key.name),
    }
}

fn links(names: &[&str]) -> String {
    join(names.iter().map(|name| format!("[{name}](#{name})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<&'static str> {
        let mut all = names(&SERVER);
        all.extend([names(&LISTENER), names(&LIMITS), names(&ROUTE)].concat());
        all
    }

    /// A name means one thing wherever it stands: the links of the page rely on it.
    #[test]
    fn no_name_stands_twice() {
        let mut names = all();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    fn sees<T>(keys: &[Key<T>]) -> Vec<&'static str> {
        keys.iter().flat_map(|key| key.see.iter().copied()).collect()
    }

    #[test]
    fn every_see_also_leads_somewhere() {
        let sees = [sees(&SERVER), sees(&LISTENER), sees(&LIMITS), sees(&ROUTE)].concat();
        assert!(sees.len() > 20);
        for name in sees {
            assert!(all().contains(&name), "{name}");
        }
    }

    #[test]
    fn services_of_keys_exist() {
        for service in ROUTE.iter().flat_map(|key| key.services) {
            assert!(SERVICES.contains(service), "{service}");
        }
    }
}

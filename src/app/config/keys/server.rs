//! The keys of `[server]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::super::forms;
use super::super::model::{
    CertificateFiles, ClientCertificates, Level, LogFormat, MinVersion, Server, TicketSettings, TlsSettings,
};
use super::auth::{AUTH_LIMITS, BLANK_AUTH_LIMITS};
use super::privilege::{BLANK_PRIVILEGES, CORE_DUMPS, GROUP, SANDBOX, USER};
use super::{DAY, Field, GIB, HOUR, KIB, Key, MIB, Preset, Rule, push_new};

/// A `Server` before its defaults are laid in; every field has a key with a default.
pub(crate) const BLANK_SERVER: Server = Server {
    shards: 0,
    slots_per_shard: 0,
    admin: None,
    admin_tls: None,
    admin_allow_origin: Vec::new(),
    auth_limits: BLANK_AUTH_LIMITS,
    admin_hosts: Vec::new(),
    admin_connections: 0,
    admin_timeout: Duration::ZERO,
    admin_body_bytes: 0,
    admin_page_channels: 0,
    log: Level::Info,
    log_format: LogFormat::Text,
    log_queue: 0,
    shutdown_grace: Duration::ZERO,
    park_after: Duration::ZERO,
    accepts_in_flight: 0,
    recv_buffers: 0,
    recv_buffer_bytes: 0,
    unsent_bytes: 0,
    outbox_bytes: 0,
    turn_events: 0,
    resolve_ttl: Duration::ZERO,
    upstream_backoff: Duration::ZERO,
    upstream_backoff_max: Duration::ZERO,
    deflate_window_bytes: 0,
    tls_handshake_bytes: 0,
    tls_handshake_timeout: Duration::ZERO,
    open_files: 0,
    file_queue: 0,
    file_wait: Duration::ZERO,
    publish_backlog_bytes: 0,
    publish_patience: Duration::ZERO,
    privileges: BLANK_PRIVILEGES,
};

/// The keys of `[server]`.
pub(crate) static SERVER: [Key<Server>; 37] = [
    Key {
        name: "shards",
        field: Field::count(Rule::ZeroOr("one per core", 1, 1024), |s| &mut s.shards),
        default: Preset::Is("0"),
        words: "How many shards serve clients, each a thread with its own ring, sockets and table of connections.",
        note: "More shards than cores help only where a shard's table may not hold enough connections: \
               RLIMIT_NOFILE bounds each ring, not the process (from Linux 6.13 on). A busy machine loses by them.",
        see: &["slots_per_shard"],
        ..Key::PLAIN
    },
    Key {
        name: "slots_per_shard",
        field: Field::count(Rule::ZeroOr("derived from the machine", 1, 1 << 20), |s| &mut s.slots_per_shard),
        default: Preset::Is("0"),
        words: "How many connections one shard may hold; those beyond are answered 503.",
        note: "A proxied client takes two slots, its own and its upstream's. An idle connection costs the \
               kernel about 4.2 kB and edgehold about 200 B; derived, the slots take three quarters of the \
               memory that is available at start, or what RLIMIT_NOFILE allows, whichever is less. \
               `edgehold doctor` shows the sum.",
        example: "100000",
        see: &["shards", "outbox_bytes"],
        ..Key::PLAIN
    },
    Key {
        name: "admin",
        field: Field::Text {
            form: "an IP address with a port, \"127.0.0.1:9180\", or \"off\"",
            store: |s, text| forms::admin(text).map(|address: Option<SocketAddr>| s.admin = address),
        },
        default: Preset::Is("127.0.0.1:9180"),
        words: "Where metrics and the admin API answer.",
        note: "It asks for no password: whoever reaches the address may use all of it. Keep it on the \
               loopback or on a network of its own, or let `admin_tls` ask for certificates.",
        see: &["admin_allow_origin", "admin_tls"],
        ..Key::PLAIN
    },
    Key {
        name: "admin_tls",
        field: Field::Table { form: "a table, { certificate = \"admin.pem\", key = \"admin.key\" }", keys: &ADMIN_TLS },
        default: Preset::Absent("clear text"),
        words: "TLS for the admin address, versions 1.3 and 1.2.",
        note: "Files are watched and read again as those of a listener are, and shown in logs, metrics and \
               `/v1/status` under the name `server.admin`. What probes health or scrapes metrics must then ask by \
               `https`; a request in clear text is answered 400.",
        example: "{ certificate = \"admin.pem\", key = \"admin.key\" }",
        see: &["admin", "admin_tls.certificate", "admin_tls.key", "admin_tls.ca", "admin_tls.crl"],
        ..Key::PLAIN
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
        words: "Origins whose web pages may read the admin API from a browser (CORS).",
        note: "A page of such an origin can do all that the admin API can, in the browser of anyone who \
               reaches its address.",
        example: "[\"http://localhost:8080\"]",
        see: &["admin"],
        ..Key::PLAIN
    },
    Key {
        name: "admin_hosts",
        field: Field::List {
            form: "a list of hosts without ports, \"edge-1.internal\"",
            single: false,
            most: 64,
            store: |s, text| push_new(&mut s.admin_hosts, forms::host(text)?, text),
        },
        default: Preset::Is("[]"),
        words: "Names by which `/v1/...` of the admin address may be asked, beside IP addresses and `localhost`.",
        note: "A request whose Host is another name is answered 403: a web page could let a name of its own lead to \
               this address (DNS rebinding) and read what it says. Health and metrics may be asked by any name.",
        example: "[\"edge-1.internal\"]",
        see: &["admin", "admin_allow_origin"],
        ..Key::PLAIN
    },
    Key {
        name: "admin_connections",
        field: Field::count(Rule::Range(1, 4096), |s| &mut s.admin_connections),
        default: Preset::Is("64"),
        words: "How many connections the admin address serves at one time.",
        note: "Eight more are taken on which only health, readiness and metrics are answered, for five seconds at \
               most.",
        see: &["admin", "admin_timeout"],
        ..Key::PLAIN
    },
    Key {
        name: "admin_timeout",
        field: Field::millis(Rule::Range(1000, HOUR), |s| &mut s.admin_timeout),
        default: Preset::Is("30s"),
        words: "How long a TLS handshake, a request head, a body, or the taking of an answer may last at the admin \
                address.",
        note: "A connection that waits for its next request counts too.",
        see: &["admin_connections"],
        ..Key::PLAIN
    },
    Key {
        name: "admin_body_bytes",
        field: Field::bytes(Rule::Range(MIB, 4 * GIB - 1), |s| &mut s.admin_body_bytes),
        default: Preset::Is("64MiB"),
        words: "How many bytes of request bodies the admin address holds at one time, until they are published.",
        note: "A request whose body finds no room is answered 503. A body counts as it comes, and not before. A batch \
               has 16 MiB at most, a single message `feed.message_bytes`.",
        see: &["admin_connections", "publish_backlog_bytes", "feed.message_bytes"],
        ..Key::PLAIN
    },
    Key {
        name: "admin_page_channels",
        field: Field::count(Rule::Range(1, 100_000), |s| &mut s.admin_page_channels),
        default: Preset::Is("1000"),
        words: "How many channels a page of `/v1/channels` has at most.",
        note: "Each shard searches all of its channels for a page, whatever its length, while its clients wait.",
        see: &["admin"],
        ..Key::PLAIN
    },
    Key {
        name: "log",
        field: choice!(
            log: "error" => Level::Error, "warn" => Level::Warn, "info" => Level::Info, "debug" => Level::Debug
        ),
        default: Preset::Is("info"),
        words: "The least important message that is still logged.",
        note: "`debug` writes several lines per connection. There is no `trace`: release builds leave that \
               level out, so asking for it would be asking for nothing.",
        see: &["log_format"],
        ..Key::PLAIN
    },
    Key {
        name: "log_format",
        field: choice!(log_format: "text" => LogFormat::Text, "json" => LogFormat::Json),
        default: Preset::Is("text"),
        words: "How a log line is written: for eyes, or as one JSON object a line for a collector.",
        see: &["log"],
        ..Key::PLAIN
    },
    Key {
        name: "log_queue",
        field: Field::bytes(Rule::Range(4 * KIB, 64 * MIB), |s| &mut s.log_queue),
        default: Preset::Is("1MiB"),
        words: "How many bytes of log lines may wait until standard error takes them.",
        note: "Lines beyond that are dropped and counted, and one line says how many: nobody who is served ever waits \
               for the log. Twice as much is held while lines are being written.",
        see: &["log"],
        ..Key::PLAIN
    },
    Key {
        name: "shutdown_grace",
        field: Field::millis(Rule::ZeroOr("at once", 1, HOUR), |s| &mut s.shutdown_grace),
        default: Preset::Is("10s"),
        words: "How long connections are given to end when the server is told to stop.",
        note: "Clients come back all at once where it is short. Give the service manager a longer limit of \
               its own (`TimeoutStopSec`), or it will not wait this long.",
        see: &["close_timeout"],
        ..Key::PLAIN
    },
    Key {
        name: "park_after",
        field: Field::millis(Rule::Range(10, DAY), |s| &mut s.park_after),
        default: Preset::Is("5s"),
        words: "Quiet time after which a connection is parked: its armed receive becomes an armed poll.",
        note: "Parking saves the kernel about 610 B per connection and costs two ring operations when the \
               connection speaks again. Set it above the usual pause between two messages.",
        see: &["idle_timeout"],
        ..Key::PLAIN
    },
    Key {
        name: "accepts_in_flight",
        field: Field::count(Rule::Range(1, 256), |s| &mut s.accepts_in_flight),
        default: Preset::Is("16"),
        words: "How many accepts each shard keeps waiting in the kernel, per listener.",
        note: "Each takes a place in the ring's table. More of them take a reconnect storm in larger bites.",
        see: &["backlog", "slots_per_shard"],
        ..Key::PLAIN
    },
    Key {
        name: "recv_buffers",
        field: Field::count(Rule::PowerOfTwo(16, 32768), |s| &mut s.recv_buffers),
        default: Preset::Is("128"),
        words: "How many receive buffers a shard lends to the kernel, for all of its connections together.",
        note: "A connection that finds none waits and is armed again, which the metrics count. Costs \
               `recv_buffers` × `recv_buffer_bytes` of memory per shard.",
        see: &["recv_buffer_bytes"],
        ..Key::PLAIN
    },
    Key {
        name: "recv_buffer_bytes",
        field: Field::bytes(Rule::Range(512, 64 * KIB), |s| &mut s.recv_buffer_bytes),
        default: Preset::Is("20KiB"),
        words: "The size of one receive buffer: the most that one completion brings.",
        note: "Small buffers cut large messages into many completions: at 4KiB an echo of 16 KiB takes 30 % more \
               CPU than at 20KiB, into which it fits with its frame head. Of large ones only the pages that were \
               written to take memory. What one turn brings may go beyond `max_pending` by as much as all of them \
               hold.",
        see: &["recv_buffers"],
        ..Key::PLAIN
    },
    Key {
        name: "unsent_bytes",
        field: Field::bytes(Rule::ZeroOr("as much as the kernel likes", 4 * KIB, 64 * MIB), |s| &mut s.unsent_bytes),
        default: Preset::Is("16KiB"),
        words: "How many bytes the kernel takes for a TCP peer beyond those that are on their way to it.",
        note: "Without it the kernel takes up to net.ipv4.tcp_wmem, 4 MiB by default, for each peer that does not \
               read, and what is said last (a ping, a Close) waits behind all of it.",
        see: &["max_pending"],
        ..Key::PLAIN
    },
    Key {
        name: "outbox_bytes",
        field: Field::bytes(Rule::ZeroOr("derived from memory", MIB, 64 * GIB), |s| &mut s.outbox_bytes),
        default: Preset::Is("0"),
        words: "How many bytes may wait to be sent in one shard, for all of its connections together.",
        note: "Derived, the shards share an eighth of the memory that is available at start, 8 MiB to 4 GiB \
               each. It must hold what one peer may have pending, `max_pending`. A peer for which there is \
               no room is closed with 1013.",
        example: "\"256MiB\"",
        see: &["max_pending"],
        ..Key::PLAIN
    },
    Key {
        name: "turn_events",
        field: Field::count(Rule::Range(16, 4096), |s| &mut s.turn_events),
        default: Preset::Is("256"),
        words: "How many completions a shard handles before the other tasks of its thread may run.",
        note: "High values favour throughput, low ones the shard's housekeeping and the answer to letters.",
        ..Key::PLAIN
    },
    Key {
        name: "resolve_ttl",
        field: Field::millis(Rule::Range(1000, DAY), |s| &mut s.resolve_ttl),
        default: Preset::Is("30s"),
        words: "How long the addresses of an upstream's name are used before the name is resolved again.",
        note: "The resolver of the system tells no time to live, so this stands in its place. Connections \
               that are open stay where they are.",
        see: &["upstream"],
        ..Key::PLAIN
    },
    Key {
        name: "upstream_backoff",
        field: Field::millis(Rule::Range(100, HOUR), |s| &mut s.upstream_backoff),
        default: Preset::Is("500ms"),
        words: "How long clients are sent elsewhere after an upstream has failed; doubled with each further failure.",
        note: "Where nobody else is left, a route's only upstream for one, it is called all the same: by each shard \
               once in a quarter of a second, on behalf of a client; others are told 503 meanwhile. All shards know \
               what one of them has found out.",
        see: &["upstream", "upstream_backoff_max"],
        ..Key::PLAIN
    },
    Key {
        name: "upstream_backoff_max",
        field: Field::millis(Rule::Range(100, HOUR), |s| &mut s.upstream_backoff_max),
        default: Preset::Is("16s"),
        words: "The longest time for which clients are sent elsewhere.",
        note: "It also bounds `upstream_backoff`, where that is longer.",
        see: &["upstream_backoff"],
        ..Key::PLAIN
    },
    Key {
        name: "deflate_window_bytes",
        field: Field::bytes(Rule::ZeroOr("none", 64 * KIB, 64 * GIB), |s| &mut s.deflate_window_bytes),
        default: Preset::Is("16MiB"),
        words: "How many bytes of deflate windows the connections of one shard may hold together.",
        note: "Only routes with `deflate_takeover` ask for windows, up to 32 KiB for each direction of a client. A \
               client that finds none left is served without takeover.",
        see: &["deflate_takeover"],
        ..Key::PLAIN
    },
    Key {
        name: "tls_handshake_bytes",
        field: Field::bytes(Rule::Range(MIB, 64 * GIB), |s| &mut s.tls_handshake_bytes),
        default: Preset::Is("64MiB"),
        words: "How many bytes the TLS handshakes of one shard that are under way may hold together.",
        note: "One that has begun takes some 4 kB. A quarter is for hellos that are not whole, where the oldest goes \
               if it is used up; a quarter for those that wait for their turn, where the newest goes; the rest for \
               handshakes that were answered, where the oldest goes. So whoever answers at once comes in, however \
               many others do not.",
        see: &["tls_handshake_timeout", "tls"],
        ..Key::PLAIN
    },
    Key {
        name: "tls_handshake_timeout",
        field: Field::millis(Rule::Range(100, HOUR), |s| &mut s.tls_handshake_timeout),
        default: Preset::Is("10s"),
        words: "How long a TLS handshake may take, from the accept.",
        note: "It is what ends clients that send nothing, or half a hello. Behind the handshake a request head has \
               `head_timeout`.",
        see: &["tls_handshake_bytes", "head_timeout"],
        ..Key::PLAIN
    },
    Key {
        name: "open_files",
        field: Field::count(Rule::ZeroOr("derived from RLIMIT_NOFILE", 1, 1 << 20), |s| &mut s.open_files),
        default: Preset::Is("0"),
        words: "How many files are held open while clients take them.",
        note: "A download beyond that opens its file anew for each part of 128 KiB, and ends if the file has changed \
               meanwhile. Derived, it is half of what RLIMIT_NOFILE leaves, 4096 at most.",
        example: "1000",
        see: &["root", "file_queue"],
        ..Key::PLAIN
    },
    Key {
        name: "file_queue",
        field: Field::count(Rule::Range(1, 1 << 20), |s| &mut s.file_queue),
        default: Preset::Is("4096"),
        words: "How many requests for files may wait at one `root` in one shard; those beyond are answered 503.",
        note: "Downloads under way are not refused. Of each `root` four at a time are asked of the kernel, so that a \
               disk that hangs holds back only those who ask for what is on it.",
        see: &["file_wait", "root"],
        ..Key::PLAIN
    },
    Key {
        name: "file_wait",
        field: Field::millis(Rule::Range(100, HOUR), |s| &mut s.file_wait),
        default: Preset::Is("10s"),
        words: "How long a request for a file may wait for its turn before it is answered 503.",
        note: "A download whose next part waits longer ends. A read that has begun is not counted.",
        see: &["file_queue"],
        ..Key::PLAIN
    },
    Key {
        name: "publish_backlog_bytes",
        field: Field::bytes(Rule::Range(MIB, 4 * GIB - 1), |s| &mut s.publish_backlog_bytes),
        default: Preset::Is("32MiB"),
        words: "How many bytes of messages feeds may have said that some shard has still to read. Beyond it they wait.",
        note: "A message counts 256 bytes more than its payload. A shard that is left behind (`publish_patience`) may \
               hold as much again.",
        see: &["publish_patience", "feed.message_bytes"],
        ..Key::PLAIN
    },
    Key {
        name: "publish_patience",
        field: Field::millis(Rule::Range(10, HOUR), |s| &mut s.publish_patience),
        default: Preset::Is("500ms"),
        words: "How long feeds that have used up `publish_backlog_bytes` wait for a shard that has not read what \
                another has. Then they go on without it.",
        note: "When that shard reads again, those of its clients that listen are told a gap. Where all shards are \
               behind, the feeds wait for as long as it takes.",
        see: &["publish_backlog_bytes"],
        ..Key::PLAIN
    },
    USER,
    GROUP,
    SANDBOX,
    CORE_DUMPS,
    Key {
        name: "auth_limits",
        field: Field::Table { form: "a table, { password_threads = 2 }", keys: &AUTH_LIMITS },
        default: Preset::Inner,
        words: "How many passwords and tokens are verified at one time, for all routes together.",
        note: "Nothing of it is done by a shard.",
        example: "{ password_threads = 2 }",
        see: &["auth", "auth_limits.password_queue", "auth_limits.token_queue"],
        ..Key::PLAIN
    },
];

/// The TLS of the admin address that is being read, with nothing in it at first: that what must be written was written
/// is for `check` to see.
fn admin_tls(server: &mut Server) -> &mut TlsSettings {
    server.admin_tls.get_or_insert_with(|| TlsSettings {
        certificates: vec![CertificateFiles::default()],
        min_version: MinVersion::V12,
        clients: ClientCertificates::Off,
        tickets: TicketSettings { rotate: Duration::from_secs(12 * 3600), keys: None },
    })
}

/// The files by which clients are verified, likewise.
fn admin_clients(server: &mut Server) -> (&mut PathBuf, &mut Option<PathBuf>) {
    let clients = &mut admin_tls(server).clients;
    if *clients == ClientCertificates::Off {
        *clients = ClientCertificates::Verified { optional: false, ca: PathBuf::new(), crl: None };
    }
    match clients {
        ClientCertificates::Verified { ca, crl, .. } => (ca, crl),
        ClientCertificates::Off => unreachable!("it was just replaced"),
    }
}

/// The keys inside of `admin_tls`.
static ADMIN_TLS: [Key<Server>; 4] = [
    Key {
        name: "certificate",
        field: Field::Text {
            form: "a file with a certificate in PEM and its chain behind it",
            store: |s, text| forms::file(text).map(|file| admin_tls(s).certificates[0].certificate = file),
        },
        default: Preset::Required,
        words: "The certificate of the admin address, with the certificates of those that issued it behind it.",
        example: "\"admin.pem\"",
        see: &["admin_tls.key"],
        ..Key::PLAIN
    },
    Key {
        name: "key",
        field: Field::Text {
            form: "a file with a private key in PEM",
            store: |s, text| forms::file(text).map(|file| admin_tls(s).certificates[0].key = file),
        },
        default: Preset::Required,
        words: "The private key of `certificate`, without a passphrase.",
        example: "\"admin.key\"",
        see: &["admin_tls.certificate"],
        ..Key::PLAIN
    },
    Key {
        name: "ca",
        field: Field::Text {
            form: "a file with certificates of authorities in PEM",
            store: |s, text| forms::file(text).map(|file| *admin_clients(s).0 = file),
        },
        default: Preset::Absent("clients need no certificate"),
        words: "The authorities of which a client must show a certificate.",
        note: "Who has none is not let in, for health and metrics neither.",
        example: "\"operators.pem\"",
        see: &["admin_tls.crl"],
        ..Key::PLAIN
    },
    Key {
        name: "crl",
        field: Field::Text {
            form: "a file with revocation lists in PEM",
            store: |s, text| forms::file(text).map(|file| *admin_clients(s).1 = Some(file)),
        },
        default: Preset::Absent("no certificate is revoked"),
        words: "The revocation lists of those authorities, one of each.",
        example: "\"operators.crl\"",
        see: &["admin_tls.ca"],
        ..Key::PLAIN
    },
];

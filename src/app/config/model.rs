//! A configuration that was read and checked: plain data, every default filled in, nothing derived from the machine.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crate::control::auth::{
    Algorithm, AuthLimits, AuthSettings, BasicSettings, BrokerAuthSettings, CertificateName, CertificateSettings,
    ForwardSettings, HttpUrl, JwtSettings, KeySource, TokenPlaces,
};
pub use crate::control::certificates::{
    CertificateFiles, ClientCertificates, ClientFiles, MinVersion, TicketSettings, TlsSettings, UpstreamTlsSettings,
};
pub use crate::control::feeds::{Broker, Format, Framing, InvalidText, Source, Start};
pub use crate::engine::Address;
pub use crate::mesh::{Body, Network, Secret};
pub use crate::service::broadcast::Policy;
pub use crate::service::offload::{Missed, PrivateWhen, WhileDown};
pub use crate::service::proxy::{Frames, Tells};
pub use crate::shard::service::{Deflate, ProxyProtocol};
pub use edgehold_wire::forwarded::Field as ForwardedField;

/// A whole configuration, checked: at least one listener and one route.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What concerns the process as a whole.
    pub server: Server,
    /// Where clients come in: 1 to 64, names and addresses differ.
    pub listeners: Vec<Listener>,
    /// The limits of a connection whose route is not known yet.
    pub limits: Limits,
    /// Who may come in, and how many of each address.
    pub addresses: Addresses,
    /// What broadcast routes carry: 256 at most, names differ. A route names a feed by its place here.
    pub feeds: Vec<Feed>,
    /// Where clients go: 1 to 4096, host and path differ.
    pub routes: Vec<Route>,
}

/// The `[server]` table.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Shards; 0 means one per core.
    pub shards: usize,
    /// Connections a shard may hold; 0 means derived from the machine.
    pub slots_per_shard: u32,
    /// Where the admin API listens; `None` where it is off.
    pub admin: Option<SocketAddr>,
    /// TLS at the admin address; `None`: clear text.
    pub admin_tls: Option<TlsSettings>,
    /// Origins (RFC 6454 form, lower-cased) that may read the admin API from a browser.
    pub admin_allow_origin: Vec<String>,
    /// How much of the routes' `auth` is asked at one time.
    pub auth_limits: AuthLimits,
    /// Names by which the admin API may be asked, lower-cased.
    pub admin_hosts: Vec<String>,
    /// Connections to the admin address at one time.
    pub admin_connections: u32,
    /// Time for a head, a body, or the taking of an answer there.
    pub admin_timeout: Duration,
    /// Bytes of request bodies that the admin address holds at one time.
    pub admin_body_bytes: u64,
    /// Channels of a page of `/v1/channels`, at most.
    pub admin_page_channels: u32,
    /// The least important message that is still logged.
    pub log: Level,
    /// How a log line is written.
    pub log_format: LogFormat,
    /// Bytes of lines that may wait to be written.
    pub log_queue: u64,
    /// Time between the order to stop and the end of the last connection.
    pub shutdown_grace: Duration,
    /// Quiet time after which a connection gives up its armed receive.
    pub park_after: Duration,
    /// Accepts kept in flight per listener and shard, 1 to 256.
    pub accepts_in_flight: u16,
    /// Receive buffers per shard, a power of two from 16 to 32768.
    pub recv_buffers: u16,
    /// Bytes of one receive buffer, 512 to 65536.
    pub recv_buffer_bytes: u32,
    /// Bytes that the kernel takes for a TCP peer beyond those in flight; 0: no limit of ours.
    pub unsent_bytes: u32,
    /// Bytes all outboxes of a shard may hold together; 0 means derived from memory.
    pub outbox_bytes: u64,
    /// Completions handled in one turn before other tasks may run.
    pub turn_events: u32,
    /// How long the addresses of an upstream name are used.
    pub resolve_ttl: Duration,
    /// How long an upstream that failed is left alone while there are others; doubled with each further failure.
    pub upstream_backoff: Duration,
    /// At most so long.
    pub upstream_backoff_max: Duration,
    /// Bytes of deflate windows that all connections of a shard may hold together.
    pub deflate_window_bytes: u64,
    /// Bytes that TLS handshakes under way of a shard may hold together.
    pub tls_handshake_bytes: u64,
    /// How long a TLS handshake may take.
    pub tls_handshake_timeout: Duration,
    /// Files held open between two parts; 0 means derived from RLIMIT_NOFILE.
    pub open_files: u32,
    /// Requests for files that may wait at one root, and in one shard.
    pub file_queue: u32,
    /// How long they may.
    pub file_wait: Duration,
    /// Bytes of messages that some shard has still to read, above which feeds wait.
    pub publish_backlog_bytes: u64,
    /// How long feeds wait for one shard that has not read what another has.
    pub publish_patience: Duration,
    /// What the process may do to the machine.
    pub privileges: Privileges,
}

/// What the process may do to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// The user to change to, by name or number; `None`: none.
    pub user: Option<String>,
    /// The group, likewise; `None`: that of the user. Only beside a user.
    pub group: Option<String>,
    /// Whether the process locks itself in.
    pub sandbox: Sandbox,
    /// A crash may leave the memory of the process.
    pub core_dumps: bool,
}

/// Whether the process locks itself in, by Landlock and seccomp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// As far as the kernel can.
    Auto,
    /// No.
    Off,
    /// Wholly, or there is no server.
    Required,
}

/// How much is logged, from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the operator must mend.
    Error,
    /// What will need mending.
    Warn,
    /// Starts, stops, reloads.
    Info,
    /// Single connections.
    Debug,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For eyes.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// One `[[listener]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// 1 to 32 of `A-Z a-z 0-9 _ -`; a metric label.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// Connections the kernel queues until they are accepted, per shard.
    pub backlog: u32,
    /// Other servers may listen on the same TCP address, and take a part of its clients.
    pub reuse_port: bool,
    /// The mode of the file of a unix socket; `None`: what the umask leaves.
    pub mode: Option<u32>,
    /// The path at which a balancer is told whether the server takes clients.
    pub health: Option<String>,
    /// Requests are answered 308, to the same address under `https`.
    pub redirect_https: bool,
    /// What its clients speak.
    pub protocol: Protocol,
    /// Where `protocol` is not HTTP: the path of the route that its clients take.
    pub route: Option<String>,
    /// TLS for all its clients; `None`: clear text.
    pub tls: Option<TlsSettings>,
    /// Where its clients are.
    pub addresses: ClientAddresses,
    /// What takes the place of [`Config::addresses`] for its clients.
    pub admission: Option<Addresses>,
}

/// What the clients of a listener speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP, and what becomes of it.
    #[default]
    Http,
    /// STOMP from the first byte on.
    Stomp,
    /// MQTT from the first byte on.
    Mqtt,
}

impl Protocol {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Stomp => "stomp",
            Protocol::Mqtt => "mqtt",
        }
    }
}

/// How a listener finds out where its clients are.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientAddresses {
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
    /// Where those connect from whose headers are read; empty at a unix socket, where all are.
    pub from: Vec<Network>,
    /// Time in which a header must be whole.
    pub timeout: Duration,
    /// Proxies whose requests tell where they come from.
    pub trusted_proxies: Vec<Network>,
    /// By which field.
    pub field: ForwardedField,
}

/// Who may come in, and how many of each address prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Bits of an IPv4 address that are counted as one.
    pub ipv4_prefix: u16,
    /// Bits of an IPv6 address that are counted as one.
    pub ipv6_prefix: u16,
    /// Connections of a prefix at once; 0: no limit.
    pub connections: u32,
    /// New ones a second; 0: no limit.
    pub rate: u64,
    /// New ones at once; 0: as many as `rate`.
    pub burst: u64,
    /// Connections of which no request has passed the gate; 0: no limit.
    pub unauthenticated: u32,
    /// Who alone may come in; empty, with no files: everybody.
    pub allow: Vec<Network>,
    /// Who may not.
    pub deny: Vec<Network>,
    /// Files with more of `allow`, as they are from here.
    pub allow_files: Vec<PathBuf>,
    /// Files with more of `deny`.
    pub deny_files: Vec<PathBuf>,
    /// Nobody is refused.
    pub dry_run: bool,
}

/// What one connection may cost: the `[limits]` table, or a route's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of a request head: request line and all field lines (RFC 9112 section 2.1).
    pub head_bytes: u32,
    /// Field lines of a request head.
    pub head_count: u16,
    /// Bytes of a WebSocket message after its fragments are joined.
    pub message_bytes: u64,
    /// Time in which a request head must be whole.
    pub head_timeout: Duration,
    /// Quiet time after which an open connection ends; a ping goes out after half of it.
    pub idle_timeout: Duration,
    /// Bytes that may wait to be sent to one peer.
    pub max_pending: u32,
    /// Bytes of outbox memory that one connection may hold in all; 0: derived from the others.
    pub connection_bytes: u64,
    /// Time a closing handshake (RFC 6455 section 7) or a lingering close may take.
    pub close_timeout: Duration,
}

/// One `[[route]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The path to match, as sent; see [`Route::below`].
    pub path: String,
    /// The host to match, lower-cased and without a port, or `*.` and a name; `None` matches every host.
    pub host: Option<String>,
    /// The global limits with this route's own laid over them.
    pub limits: Limits,
    /// Compression of WebSocket messages (RFC 7692).
    pub deflate: Deflate,
    /// Pages of which origins may use it.
    pub cors: Cors,
    /// How its clients say who they are; `None`: nobody is asked.
    pub auth: Option<Box<AuthSettings>>,
    /// Roles of which a client must have one; empty: any client will do.
    pub roles: Vec<String>,
    /// What its clients may have of it.
    pub shares: Shares,
    /// What is done for a client that takes this route.
    pub service: Service,
}

/// Pages of which origins may use a route, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Origins that may, lower-cased: `https://a.example`, `https://*.example`, `same-host`, `*`. `None`: as
    /// `same-host` for a WebSocket and what changes something, and nobody is told that it may read.
    pub allow_origin: Option<Vec<String>>,
    /// Pages of the origins that are named may send cookies along.
    pub credentials: bool,
    /// Methods that preflights are told.
    pub methods: Vec<String>,
    /// Request fields that preflights are told.
    pub headers: Vec<String>,
    /// Response fields that pages may read.
    pub expose: Vec<String>,
    /// For how long a browser may remember the answer to a preflight.
    pub max_age: Duration,
}

impl Route {
    /// Whether the route also matches what lies below its path: the path ends in a
    /// slash. `/` alone would swallow the whole site, so it matches only itself,
    /// except where files are served or channels are named, where that is meant.
    pub fn below(&self) -> bool {
        let whole = match &self.service {
            Service::Files { .. } => true,
            Service::Broadcast(broadcast) => broadcast.channel_in_path,
            _ => false,
        };
        self.path.ends_with('/') && (whole || self.path.len() > 1)
    }
}

/// What clients of a route may have of it; 0 stands for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Connections of all of them.
    pub connections: u32,
    /// Connections of each.
    pub each_connections: u32,
    /// Messages of each, a second and at once; 0 at once: as many as in a second.
    pub messages: (u64, u64),
    /// Bytes of each, likewise.
    pub bytes: (u64, u64),
    /// What becomes of who sends faster.
    pub exceeding: Exceeding,
}

/// What becomes of a client that sends faster than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exceeding {
    /// It is not read for a while.
    #[default]
    Hold,
    /// Its connection is closed.
    Close,
}

/// What is done for a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Service {
    /// Every message goes back to its sender.
    Echo {
        /// Subprotocols spoken; which of them is for the client's order to say (RFC 6455 section 4.1).
        subprotocols: Vec<String>,
    },
    /// The built-in demo page.
    Page,
    /// Files of a folder.
    Files {
        /// The folder, joined to that of the configuration file; it existed when read.
        root: PathBuf,
        /// The Cache-Control of its files; empty: none.
        cache_control: String,
        /// The charset of its texts; empty: none is said.
        charset: String,
    },
    /// Each client is carried to a connection of its own to a back end.
    Proxy {
        /// Back ends, one at least.
        upstreams: Vec<Upstream>,
        /// How the upstream's byte stream is cut into messages.
        frames: Frames,
        /// Subprotocols spoken; which of them is for the client's order to say (RFC 6455 section 4.1).
        subprotocols: Vec<String>,
        /// Time in which the upstream must have been reached.
        connect_timeout: Duration,
        /// Close code (RFC 6455 section 7.4) a client gets when the upstream ends first.
        end_code: u16,
        /// The upstream is sent a PROXY header, which tells this beside addresses.
        proxy_protocol: Option<Tells>,
    },
    /// What feeds say goes to every client that listens.
    Broadcast(Box<Broadcast>),
    /// Clients of a STOMP broker, over a handful of sessions.
    Stomp(Box<Offload>),
    /// Clients of an MQTT broker, likewise.
    Mqtt(Box<Offload>),
}

impl Service {
    /// The folder of a route of files.
    pub fn root(&self) -> Option<&Path> {
        match self {
            Service::Files { root, .. } => Some(root),
            _ => None,
        }
    }

    /// The back ends of a route that has such.
    pub fn upstreams(&self) -> &[Upstream] {
        match self {
            Service::Proxy { upstreams, .. } => upstreams,
            Service::Stomp(offload) | Service::Mqtt(offload) => &offload.upstreams,
            _ => &[],
        }
    }
}

/// A route in front of a broker.
#[derive(Clone, Debug, PartialEq)]
pub struct Offload {
    /// Addresses of the broker, one at least.
    pub upstreams: Vec<Upstream>,
    /// Time in which one must have been reached.
    pub connect_timeout: Duration,
    /// As whom the edge logs in; `None`: as nobody.
    pub user: Option<String>,
    /// With which password.
    pub password: Option<Secret>,
    /// A new subscriber is sent the last message of its destination first.
    pub snapshot: bool,
    /// Subscriptions of one client.
    pub subscriptions_max: u32,
    /// What becomes of a client that does not take what it is sent.
    pub slow_client: SlowClient,
    /// What else is written.
    pub keys: OffloadDraft,
}

/// What is written of a broker alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffloadDraft {
    /// Sessions of a shard.
    pub sessions: u32,
    /// As whom the edge logs in.
    pub user: Option<String>,
    /// The file with the password, as it was written.
    pub password_file: Option<PathBuf>,
    /// The virtual host.
    pub host: String,
    /// Destinations of which all clients share one subscription; empty: the usual ones.
    pub share: Vec<String>,
    /// Those for which a client has a session of its own; empty: the usual ones.
    pub private: Vec<String>,
    /// Clients of a shard that may have one.
    pub private_max: u32,
    /// As whom that logs in.
    pub private_as: PrivateAs,
    /// Which clients of MQTT have one.
    pub private_when: PrivateWhen,
    /// Who may do what; empty: everybody everything.
    pub permissions: Vec<Permission>,
    /// Messages of a queue that one client has not acknowledged.
    pub prefetch: u32,
    /// Bytes of a session that the broker has not confirmed.
    pub unconfirmed_bytes: u32,
    /// What becomes of publishes while the broker does not answer.
    pub while_down: WhileDown,
    /// What becomes of clients that may have missed messages of QoS 1 and 2.
    pub missed: Missed,
    /// How many of them a shard ends in a second.
    pub missed_rate: u32,
    /// The shortest interval of heart-beats; zero: none.
    pub heart_beat: Duration,
    /// How long a shared subscription outlives its last subscriber.
    pub linger: Duration,
    /// Destinations that the edge may be subscribed to.
    pub topics_max: u32,
    /// Subscriptions that are made in a second.
    pub subscribe_rate: u32,
    /// Destinations that are streams of RabbitMQ.
    pub streams: Vec<String>,
    /// Subscribers are told where messages were lost.
    pub tell_gaps: bool,
    /// The longest keep alive of a client; zero: as it says.
    pub keep_alive: Duration,
    /// What the edge's sessions are called.
    pub client_id: String,
    /// The broker keeps the session for shared topics.
    pub persistent: bool,
    /// By which name the broker is told who has published something.
    pub stamp: Option<String>,
    /// Bytes that a shard keeps for all clients.
    pub held_bytes: u64,
    /// Bytes of a frame of the broker.
    pub broker_frame_bytes: u32,
    /// Bytes of last values of a destination.
    pub snapshot_bytes: u32,
    /// Bytes of a name that is remembered.
    pub name_bytes: u32,
    /// Transactions of a client.
    pub transactions_max: u16,
    /// Bytes of retained messages.
    pub retained_bytes: u64,
    /// Messages that a client may have under way.
    pub receive_max: u16,
    /// Messages that are under way to one.
    pub in_flight_max: u16,
    /// Topic aliases of a client.
    pub topic_aliases_max: u16,
}

/// Who may publish and subscribe where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permission {
    /// The destinations.
    pub destinations: Vec<String>,
    /// Roles of which a client must have one; empty: any client will do.
    pub roles: Vec<String>,
    /// It may publish there.
    pub publish: bool,
    /// It may subscribe there.
    pub subscribe: bool,
}

/// As whom a client's own session logs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrivateAs {
    /// As the edge does.
    #[default]
    Edge,
    /// As the client has.
    Client,
}

/// Channels, and the roles of which a client must have one for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelRoles {
    /// The channels, a `*` at the end for all that begin so.
    pub channels: Vec<String>,
    /// The roles.
    pub roles: Vec<String>,
}

/// A broadcast route: what a feed says goes to every client that listens.
#[allow(clippy::struct_excessive_bools, reason = "each is a key that is true or false")]
#[derive(Clone, Debug, PartialEq)]
pub struct Broadcast {
    /// Places of its feeds in [`Config::feeds`], one at least.
    pub feeds: Vec<usize>,
    /// The route's path ended with `{channel}`, which [`Route::path`] leaves out: the rest of a request's path is the
    /// channel. Otherwise channels come from the query (`?channel=a&channel=b*`) and from messages.
    pub channel_in_path: bool,
    /// Channels that a client may take, a `*` at the end for all that begin so; empty: all of the feeds.
    pub channels: Vec<String>,
    /// Channels for which a client must have a role.
    pub channel_roles: Vec<ChannelRoles>,
    /// A WebSocket client may subscribe and unsubscribe by messages.
    pub subscribe: bool,
    /// Channels and prefixes that one client may take.
    pub subscriptions_max: u32,
    /// Subscriptions that one client may begin and end by messages in a second.
    pub subscription_changes: u32,
    /// The longest message of a client.
    pub order_bytes: u32,
    /// A new client gets the last value of each key first.
    pub snapshot: bool,
    /// What clients get of a message: its payload, or a JSON object with channel and id.
    pub envelope: Body,
    /// How long a long poll waits.
    pub poll_timeout: Duration,
    /// A long poll that asks for messages that are gone is answered 410, with the id from which it goes on; else it
    /// gets what there is, with the gap told in it.
    pub poll_gone: bool,
    /// A comment goes to a quiet stream this often.
    pub keep_alive: Duration,
    /// How long an `EventSource` is told to wait before it comes again.
    pub retry: Duration,
    /// The event by which a gap is told on event streams.
    pub gap_event: String,
    /// What becomes of a client that does not take what it is sent.
    pub slow_client: SlowClient,
}

/// What becomes of a client that does not take what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowClient {
    /// What is done.
    pub policy: Policy,
    /// Bytes that may wait for one client.
    pub max_pending: u32,
    /// How old the oldest of them may become.
    pub max_age: Duration,
}

/// A source of messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Feed {
    /// 1 to 32 of `A-Z a-z 0-9 _ -`; a metric label.
    pub name: String,
    /// Where messages come from.
    pub source: Source,
    /// The files of TLS towards its broker; `None`: clear text, as the URL says.
    pub tls: Option<ClientFiles>,
    /// The channel of all its messages; for `http` with a `*` at its end: those that may be published to. `None`: from
    /// the message (topic, subject, key, JSON).
    pub channel: Option<String>,
    /// NATS subjects, Redis channels, patterns or streams, MQTT topic filters: what is asked of the broker.
    pub topics: Vec<String>,
    /// Where a stream of a broker (JetStream, Redis) is begun.
    pub start: Start,
    /// How a byte stream (`tcp`, `tcp-listen`, `unix`) is cut into messages.
    pub framing: Framing,
    /// How a message is read.
    pub format: Format,
    /// Payloads are text; else binary.
    pub text: bool,
    /// What becomes of a text message that is not UTF-8.
    pub invalid_text: InvalidText,
    /// The longest payload.
    pub message_bytes: u64,
    /// What is kept for clients that come back.
    pub replay: Replay,
    /// What is kept for snapshots and for `conflate`.
    pub last_values: LastValues,
    /// Channels of which a shard keeps messages.
    pub channels_max: u32,
    /// For how long a prefix stays that nobody listens to any more.
    pub prefix_linger: Duration,
    /// How many of them stay.
    pub prefixes_idle: u32,
}

/// How many last values are kept of each channel, as long as none of the three is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastValues {
    /// Of so many keys.
    pub keys: u32,
    /// So many bytes, of those that `replay` does not keep.
    pub bytes: u64,
    /// For so long.
    pub age: Duration,
}

/// What is kept of a channel: as long as none of the three is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// So many messages; 0: nothing is kept.
    pub messages: u32,
    /// So many bytes.
    pub bytes: u64,
    /// For so long.
    pub age: Duration,
}

/// A back end. Displayed as it is written in the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// A name or an IP address (IPv6 without brackets, names lower-cased), and a port from 1.
    Tcp {
        /// The name or the address.
        host: String,
        /// The port.
        port: u16,
        /// How TLS is spoken; `None`: clear text.
        tls: Option<Box<UpstreamTlsSettings>>,
    },
    /// The absolute path of a Unix stream socket, 107 bytes at most.
    Unix(PathBuf),
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Upstream::Tcp { host, port, tls } => {
                let scheme = if tls.is_some() { "tls" } else { "tcp" };
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                write!(f, "{scheme}://{open}{host}{close}:{port}")
            }
            Upstream::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

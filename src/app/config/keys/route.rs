//! The keys of `[[route]]`.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::super::forms::{self, Parsed};
use super::super::model::{
    Body, Broadcast, Cors, Deflate, Frames, Limits, OffloadDraft, Policy, Shares, SlowClient, Upstream,
};
use super::auth::{AUTH, AuthDraft, role};
use super::feed::ClientTlsDraft;
use super::shares;
use super::{Field, HOUR, KIB, Key, MIB, MINUTE, Preset, Rule, push_new, put};
use super::{addresses, channels, cors, offload, offload_limits, stamp};

/// Close codes that tell a client something true when its upstream is gone
/// (RFC 6455 section 7.4.1 and the registry it opens).
const END_CODES: [u64; 5] = [1000, 1001, 1011, 1012, 1013];

/// The names of the services, as `service` takes them.
pub(crate) const SERVICES: [&str; 7] = ["echo", "page", "files", "proxy", "broadcast", "stomp", "mqtt"];

/// Services that speak WebSocket.
const WEB_SOCKET: [&str; 3] = ["echo", "proxy", "broadcast"];
const BROADCAST: [&str; 1] = ["broadcast"];
/// Services with upstreams.
const UPSTREAMS: [&str; 3] = ["proxy", "stomp", "mqtt"];
/// Services with subscribers.
const SUBSCRIBERS: [&str; 3] = ["broadcast", "stomp", "mqtt"];

/// A `[[route]]` as it is read: the keys of all services side by side.
pub(crate) struct RouteDraft {
    /// Without the `{channel}` at its end.
    pub(crate) path: Option<String>,
    pub(crate) host: Option<String>,
    /// A place in [`SERVICES`].
    pub(crate) service: Option<usize>,
    pub(crate) limits: Limits,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) root: Option<PathBuf>,
    pub(crate) cache_control: String,
    pub(crate) charset: String,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) upstream_tls: UpstreamTlsDraft,
    pub(crate) frames: Frames,
    pub(crate) connect_timeout: Duration,
    pub(crate) end_code: u16,
    pub(crate) proxy_protocol: bool,
    /// Places among the words of the key.
    pub(crate) proxy_protocol_tells: Vec<usize>,
    pub(crate) deflate: Deflate,
    pub(crate) cors: Cors,
    pub(crate) auth: AuthDraft,
    pub(crate) roles: Vec<String>,
    pub(crate) shares: Shares,
    /// `None`: as the path says.
    pub(crate) subscribe: Option<bool>,
    pub(crate) broadcast: Broadcast,
    pub(crate) offload: OffloadDraft,
    /// The names of all feeds, for `feeds`; `None` where they cannot be known.
    known_feeds: Option<Rc<[String]>>,
}

/// The value of `upstream_tls` as it is read.
#[derive(Default)]
pub(crate) struct UpstreamTlsDraft {
    pub(crate) files: ClientTlsDraft,
    pub(crate) server_name: Option<String>,
    pub(crate) alpn: Vec<String>,
}

/// A `Broadcast` before its defaults are laid in.
const BLANK_BROADCAST: Broadcast = Broadcast {
    feeds: Vec::new(),
    channel_in_path: false,
    channels: Vec::new(),
    channel_roles: Vec::new(),
    subscribe: false,
    subscriptions_max: 0,
    subscription_changes: 0,
    order_bytes: 0,
    snapshot: false,
    envelope: Body::Plain,
    poll_timeout: Duration::ZERO,
    poll_gone: false,
    keep_alive: Duration::ZERO,
    retry: Duration::ZERO,
    gap_event: String::new(),
    slow_client: SlowClient { policy: Policy::Close, max_pending: 0, max_age: Duration::ZERO },
};

impl RouteDraft {
    /// `limits` are those of all routes; `known_feeds` the names of the feeds, or `None`: then every name will do.
    pub(crate) fn new(limits: Limits, known_feeds: Option<Rc<[String]>>) -> Self {
        RouteDraft {
            path: None,
            host: None,
            service: None,
            limits,
            subprotocols: Vec::new(),
            root: None,
            cache_control: String::new(),
            charset: String::new(),
            upstreams: Vec::new(),
            upstream_tls: UpstreamTlsDraft::default(),
            frames: Frames::Binary,
            connect_timeout: Duration::ZERO,
            end_code: 0,
            proxy_protocol: false,
            proxy_protocol_tells: Vec::new(),
            deflate: Deflate { on: false, takeover: false, min_bytes: 0 },
            cors: Cors::default(),
            auth: AuthDraft::default(),
            roles: Vec::new(),
            shares: Shares::default(),
            subscribe: None,
            broadcast: BLANK_BROADCAST,
            offload: OffloadDraft::default(),
            known_feeds,
        }
    }

    fn store_path(&mut self, text: &str) -> Parsed<()> {
        let (path, channel) = forms::route_path(text)?;
        self.broadcast.channel_in_path = channel;
        put(&mut self.path, path);
        Ok(())
    }

    /// Keeps the place of the feed. Of two with one name, which is a problem by itself, the first is meant.
    fn store_feed(&mut self, text: &str) -> Parsed<()> {
        let Some(known) = &self.known_feeds else { return Ok(()) };
        let place = known.iter().position(|name| name == text).ok_or_else(|| no_feed(text, known))?;
        push_new(&mut self.broadcast.feeds, place, text)
    }
}

fn no_feed(text: &str, known: &[String]) -> String {
    let names: Vec<&str> = known.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    let shown = forms::quote(text);
    match (forms::nearest(text, &names), names.is_empty()) {
        (Some(near), _) => format!("there is no feed {shown} — did you mean {}?", forms::quote(near)),
        (None, true) => format!("there is no feed {shown} — write a [[feed]] of this name"),
        (None, false) => format!("there is no feed {shown} — the feeds are {}", forms::quoted(&names)),
    }
}

/// The keys of `[[route]]`, apart from those of `[limits]`.
pub(crate) static ROUTE: [Key<RouteDraft>; 74] = [
    Key {
        name: "path",
        field: Field::Text { form: "a path that begins with a slash", store: RouteDraft::store_path },
        default: Preset::Required,
        words: "The path that is matched, byte for byte; with a slash at its end, all that lies below it too.",
        note: "`/` alone matches only itself, except with `service = \"files\"`, where it is the whole site. \
               Among the routes that match, one with a host goes before one without (see there), then the longer path \
               before the shorter. With `service = \"broadcast\"` it may end with `/{channel}`: what a client asks \
               for below is then its channel.",
        example: "\"/stomp\"",
        see: &["host", "service"],
        ..Key::PLAIN
    },
    Key {
        name: "host",
        field: Field::Text {
            form: "a host without a port, or `*.` and a name for all names below it",
            store: |r, text| forms::host(text).map(|host| put(&mut r.host, host)),
        },
        default: Preset::Absent("every host"),
        words: "The host that is matched, without regard to case, port, or a dot at its end.",
        note: "`\"*.example.org\"` matches `a.example.org` and `a.b.example.org`, and not `example.org`. A route for \
               exactly this host goes before those with a `*`, of these the longer before the shorter, and all of them \
               before routes without a host.",
        example: "\"chat.example.org\"",
        see: &["path"],
        ..Key::PLAIN
    },
    Key {
        name: "service",
        field: Field::Choice { names: &SERVICES, store: |r, i| put(&mut r.service, i) },
        default: Preset::Required,
        words: "What is done for clients of this route.",
        note: "`echo` sends every message back, `page` is the built-in demo page, `files` serves a folder, \
               `proxy` carries each client to a back end over a connection of its own, `broadcast` sends what feeds \
               say to every client that listens.",
        example: "\"proxy\"",
        see: &["upstream", "root", "feeds"],
        ..Key::PLAIN
    },
    Key {
        name: "auth",
        field: Field::Table { form: "a table, { basic = { users = \"users\" } }", keys: &AUTH },
        default: Preset::Absent("nobody is asked who it is"),
        words: "How clients say who they are: any of `client_certificate`, `jwt`, `basic`, `forward`, in this order.",
        note: "Who does not is answered 401 with what is asked for, a WebSocket before its opening. [gate.md](gate.md) \
               tells the rest.",
        example: "{ basic = { users = \"users\" } }",
        see: &["auth.basic", "auth.jwt", "auth.forward", "auth.client_certificate", "roles"],
        ..Key::PLAIN
    },
    Key {
        name: "roles",
        field: Field::List {
            form: "a role, or a list of roles",
            single: true,
            most: 64,
            store: |r, text| push_new(&mut r.roles, role(text)?, text),
        },
        default: Preset::Absent("whoever has said who it is comes in"),
        words: "Roles of which a client must have one; who has none is answered 403.",
        example: "[\"reader\"]",
        see: &["auth"],
        ..Key::PLAIN
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
        owners: &["echo", "proxy"],
        words: "The WebSocket subprotocols this route speaks.",
        note: "The client's order decides, not this one: the first that it offers and that stands here is spoken. Of \
               what a client offers, the first 64 are looked at. Browsers refuse a connection for which they asked a \
               subprotocol and got none.",
        example: "[\"v12.stomp\", \"v11.stomp\"]",
        see: &["service"],
    },
    Key {
        name: "upstream",
        field: Field::List {
            form: "\"tcp://host:port\", \"tls://host:port\" or \"unix:///path\", or a list of those",
            single: true,
            most: 64,
            store: |r, text| push_new(&mut r.upstreams, forms::upstream(text)?, text),
        },
        default: Preset::Required,
        owners: &UPSTREAMS,
        words: "The back end, or several among which clients are spread.",
        note: "Each client takes a connection to it. Over TCP the local ports to one address and port are \
               bounded by `net.ipv4.ip_local_port_range`; a Unix socket knows no such bound.",
        example: "[\"tcp://broker-1:61613\", \"tcp://broker-2:61613\"]",
        see: &["upstream_tls", "connect_timeout", "resolve_ttl", "frames"],
    },
    Key {
        name: "upstream_tls",
        field: Field::Table { form: "a table, { ca = \"brokers.pem\" }", keys: &UPSTREAM_TLS },
        default: Preset::Absent("the authorities of the system are believed, and no certificate is shown"),
        owners: &UPSTREAMS,
        words: "With `tls://`: who must have issued the upstreams' certificates, and what they are shown.",
        note: "A certificate must be for the host of `upstream`, and is always verified; where it is not, clients are \
               told 503 and the log says why. The files are watched: connections that are open are not touched.",
        example: "{ ca = \"brokers.pem\" }",
        see: &["upstream", "upstream_tls.ca", "upstream_tls.certificate", "upstream_tls.server_name"],
    },
    Key {
        name: "frames",
        field: choice!(frames: "binary" => Frames::Binary, "text" => Frames::Text, "lines" => Frames::Lines),
        default: Preset::Is("binary"),
        owners: &["proxy"],
        words: "How the upstream's bytes become messages: binary or text as the bytes come, or a text message a line.",
        note: "`text` takes UTF-8 only: an upstream that sends anything else ends the connection with 1011. A line \
               that is not UTF-8 goes out as a binary frame. With `lines` a client's message is a line too: CRLF is \
               added where it has no line end, and a line of the upstream longer than `message_bytes` ends the \
               connection.",
        see: &["upstream", "end_code"],
        ..Key::PLAIN
    },
    Key {
        name: "connect_timeout",
        field: Field::millis(Rule::Range(10, HOUR), |r| &mut r.connect_timeout),
        default: Preset::Is("5s"),
        owners: &UPSTREAMS,
        words: "How long reaching the upstream may take.",
        note: "The client waits as long, and holds its two slots.",
        see: &["upstream"],
        ..Key::PLAIN
    },
    Key {
        name: "end_code",
        field: Field::count(Rule::OneOf(&END_CODES), |r| &mut r.end_code),
        default: Preset::Is("1012"),
        owners: &["proxy"],
        words: "The close code a client gets when the upstream ends the stream first.",
        note: "1012 (service restart) and 1013 (try again later) ask clients to come back; 1000 (normal) and \
               1001 (going away) tell them it is over; 1011 (internal error) blames the server.",
        see: &["frames"],
        ..Key::PLAIN
    },
    addresses::ROUTE_PROXY_PROTOCOL,
    addresses::PROXY_PROTOCOL_TELLS,
    Key {
        name: "root",
        field: Field::Text {
            form: "a folder, relative to that of the configuration file",
            store: |r, text| folder(text).map(|root| put(&mut r.root, root)),
        },
        default: Preset::Required,
        owners: &["files"],
        words: "The folder whose files are served.",
        note: "It must be there when the server starts. All that is readable below it is public.",
        example: "\"www\"",
        see: &["path"],
    },
    Key {
        name: "cache_control",
        field: Field::Text {
            form: "the value of a Cache-Control field, \"max-age=3600\", or \"\" for none",
            store: |r, text| field_value(text).map(|value| r.cache_control = value),
        },
        default: Preset::Is("no-cache"),
        owners: &["files"],
        words: "The Cache-Control of the files (RFC 9111, section 5.2).",
        note: "`no-cache` lets caches keep a file and ask each time whether it has changed, which costs a round trip \
               and no content. Files whose names change with their content may say \"max-age=31536000, immutable\".",
        example: "\"max-age=3600\"",
        see: &["root"],
    },
    Key {
        name: "charset",
        field: Field::Text {
            form: "a token, \"utf-8\", or \"\" for none",
            store: |r, text| charset(text).map(|value| r.charset = value),
        },
        default: Preset::Is("utf-8"),
        owners: &["files"],
        words: "The charset that the Content-Type of texts names, among them JavaScript, JSON and XML.",
        note: "\"\" leaves it to what the files say of themselves.",
        example: "\"windows-1252\"",
        see: &["root"],
    },
    Key {
        name: "feeds",
        field: Field::List {
            form: "the name of a feed, or a list of names",
            single: true,
            most: 256,
            store: RouteDraft::store_feed,
        },
        default: Preset::Required,
        owners: &BROADCAST,
        words: "The feeds whose messages clients of this route may hear.",
        note: "A feed may stand on several routes. Each must stand on one at least.",
        example: "[\"ticker\"]",
        see: &["channels"],
    },
    channels::CHANNELS,
    channels::CHANNEL_ROLES,
    Key {
        name: "subscribe",
        field: Field::Flag { store: |r, on| put(&mut r.subscribe, on) },
        default: Preset::Follows("`true` where the path has no `{channel}`, else `false`"),
        owners: &BROADCAST,
        words: "Whether a WebSocket client may take channels and leave them by messages: `{\"subscribe\":[\"a\"]}`.",
        example: "true",
        see: &["channels", "subscriptions_max"],
        ..Key::PLAIN
    },
    Key {
        name: "subscriptions_max",
        field: Field::count(Rule::Range(1, 10_000), |r| &mut r.broadcast.subscriptions_max),
        default: Preset::Is("64"),
        owners: &SUBSCRIBERS,
        words: "How many channels and prefixes one client may take.",
        note: "A channel that several feeds may have counts once for each of them.",
        see: &["subscribe", "subscription_changes"],
        ..Key::PLAIN
    },
    Key {
        name: "subscription_changes",
        field: Field::count(Rule::Range(1, 100_000), |r| &mut r.broadcast.subscription_changes),
        default: Preset::Is("256"),
        owners: &BROADCAST,
        words: "How many subscriptions one client may begin and end by messages in a second.",
        note: "A message counts as one change at least. What is beyond is refused with an error; a client that goes \
               on within the second is closed with 1008.",
        see: &["subscribe", "subscriptions_max"],
        ..Key::PLAIN
    },
    Key {
        name: "order_bytes",
        field: Field::bytes(Rule::Range(256, MIB), |r| &mut r.broadcast.order_bytes),
        default: Preset::Is("64KiB"),
        owners: &BROADCAST,
        words: "The longest message of a client that subscribes.",
        note: "A longer one is refused with an error.",
        see: &["subscribe", "message_bytes"],
        ..Key::PLAIN
    },
    Key {
        name: "snapshot",
        field: Field::Flag { store: |r, on| r.broadcast.snapshot = on },
        default: Preset::Is("false"),
        owners: &SUBSCRIBERS,
        words: "Whether a new client gets the last value of each key first.",
        example: "true",
        see: &["replay"],
        ..Key::PLAIN
    },
    Key {
        name: "envelope",
        field: choice!(broadcast.envelope: "none" => Body::Plain, "json" => Body::Json),
        default: Preset::Is("none"),
        owners: &BROADCAST,
        words: "What stands around a payload: nothing, or a JSON object with channel and id.",
        note: "Where clients take several channels of one route, only an envelope tells them which one spoke.",
        see: &["channels"],
        ..Key::PLAIN
    },
    Key {
        name: "poll_timeout",
        field: Field::millis(Rule::Range(1000, 5 * MINUTE), |r| &mut r.broadcast.poll_timeout),
        default: Preset::Is("25s"),
        owners: &BROADCAST,
        words: "How long a long poll waits for a message before it is answered 204.",
        note: "Keep it below the patience of the proxies between: many give up after 30 or 60 seconds.",
        see: &["poll_gap"],
        ..Key::PLAIN
    },
    Key {
        name: "poll_gap",
        field: choice!(broadcast.poll_gone: "gone" => true, "tell" => false),
        default: Preset::Is("gone"),
        owners: &BROADCAST,
        words: "What a long poll is answered when messages that it asks for are gone: 410, or what there is with the \
                gap told in it.",
        see: &["replay", "poll_timeout"],
        ..Key::PLAIN
    },
    Key {
        name: "keep_alive",
        field: Field::millis(Rule::Range(1000, 10 * MINUTE), |r| &mut r.broadcast.keep_alive),
        default: Preset::Is("20s"),
        owners: &BROADCAST,
        words: "How often a quiet event stream gets a comment, which keeps proxies from closing it.",
        note: "Halving it doubles the comments, and with many idle streams they are the load.",
        see: &["idle_timeout", "retry"],
        ..Key::PLAIN
    },
    Key {
        name: "retry",
        field: Field::millis(Rule::Range(100, 5 * MINUTE), |r| &mut r.broadcast.retry),
        default: Preset::Is("3s"),
        owners: &BROADCAST,
        words: "How long an `EventSource` is told to wait before it comes again.",
        note: "Short waits make a storm of a restart.",
        see: &["keep_alive"],
        ..Key::PLAIN
    },
    shares::CONNECTIONS,
    shares::IDENTITY,
    cors::ALLOW_ORIGIN,
    cors::ALLOW_CREDENTIALS,
    cors::ALLOW_METHODS,
    cors::ALLOW_HEADERS,
    cors::EXPOSE_HEADERS,
    cors::PREFLIGHT_MAX_AGE,
    Key {
        name: "gap_event",
        field: Field::Text {
            form: "1 to 255 bytes without control characters",
            store: |r, text| event(text).map(|event| r.broadcast.gap_event = event),
        },
        default: Preset::Is("gap"),
        owners: &BROADCAST,
        words: "The name of the event by which an event stream tells that messages are gone.",
        note: "Another one is needed where messages of the feeds have this event name themselves.",
        example: "\"edgehold-gap\"",
        see: &["retry"],
    },
    Key {
        name: "slow_client",
        field: Field::Table {
            form: "a table, { policy = \"conflate\", max_pending = \"256KiB\", max_age = \"10s\" }",
            keys: &SLOW_CLIENT,
        },
        default: Preset::Inner,
        owners: &SUBSCRIBERS,
        words: "What becomes of a client that does not take what it is sent.",
        note: "Whatever it is, no other client waits for it.",
        example: "{ policy = \"conflate\", max_pending = \"256KiB\", max_age = \"10s\" }",
        see: &["slow_client.policy", "slow_client.max_pending", "slow_client.max_age"],
    },
    offload::SESSIONS,
    offload::CREDENTIALS,
    offload::SHARE,
    offload::STREAMS,
    offload::PRIVATE,
    offload::PRIVATE_MAX,
    offload::PRIVATE_AS,
    offload::PRIVATE_WHEN,
    offload::PERMISSIONS,
    stamp::STAMP,
    offload::PREFETCH,
    offload::UNCONFIRMED_BYTES,
    offload::WHILE_DOWN,
    offload::MISSED,
    offload::MISSED_RATE,
    offload::HEART_BEAT,
    offload::KEEP_ALIVE,
    offload::CLIENT_ID,
    offload::SESSION,
    offload::LINGER,
    offload::TOPICS_MAX,
    offload::SUBSCRIBE_RATE,
    offload::TELL_GAPS,
    offload_limits::HELD_BYTES,
    offload_limits::BROKER_FRAME_BYTES,
    offload_limits::SNAPSHOT_BYTES,
    offload_limits::NAME_BYTES,
    offload_limits::TRANSACTIONS_MAX,
    offload_limits::RETAINED_BYTES,
    offload_limits::RECEIVE_MAX,
    offload_limits::IN_FLIGHT_MAX,
    offload_limits::TOPIC_ALIASES_MAX,
    Key {
        name: "deflate",
        field: Field::Flag { store: |r, on| r.deflate.on = on },
        default: Preset::Is("true"),
        owners: &WEB_SOCKET,
        words: "Whether WebSocket messages are compressed where the client offers it (permessage-deflate, RFC 7692).",
        note: "Compressing costs CPU for each message; a message of a feed is compressed once for all its clients.",
        example: "false",
        see: &["deflate_min", "deflate_takeover"],
    },
    Key {
        name: "deflate_takeover",
        field: Field::Flag { store: |r, on| r.deflate.takeover = on },
        default: Preset::Is("false"),
        owners: &WEB_SOCKET,
        words: "Whether a connection keeps its windows from one message to the next where the client allows it.",
        note: "Small messages that are alike become much smaller, and each client costs up to two windows of 32 KiB.",
        example: "true",
        see: &["deflate", "deflate_window_bytes"],
    },
    Key {
        name: "deflate_min",
        field: Field::bytes(Rule::Range(0, MIB), |r| &mut r.deflate.min_bytes),
        default: Preset::Is("512"),
        owners: &WEB_SOCKET,
        words: "Messages smaller than this are sent as they are.",
        example: "\"1KiB\"",
        see: &["deflate"],
        ..Key::PLAIN
    },
];

/// The keys inside of `slow_client`.
static SLOW_CLIENT: [Key<RouteDraft>; 3] = [
    Key {
        name: "policy",
        field: choice!(
            broadcast.slow_client.policy: "drop_oldest" => Policy::DropOldest, "conflate" => Policy::Conflate,
            "close" => Policy::Close, "gap" => Policy::Gap
        ),
        default: Preset::Is("close"),
        words: "What is done when its backlog passes a limit: the oldest messages are left out, of each key only the \
                last value is sent, it is closed with 1013, or the backlog is left out and the client is told so.",
        note: "`conflate` is for feeds whose messages have keys.",
        example: "\"conflate\"",
        see: &["slow_client"],
        ..Key::PLAIN
    },
    Key {
        name: "max_pending",
        field: Field::bytes(Rule::Range(4 * KIB, 64 * MIB), |r| &mut r.broadcast.slow_client.max_pending),
        default: Preset::Is("256KiB"),
        words: "How many bytes of messages may wait for one client.",
        see: &["max_pending"],
        ..Key::PLAIN
    },
    Key {
        name: "max_age",
        field: Field::millis(Rule::Range(1000, HOUR), |r| &mut r.broadcast.slow_client.max_age),
        default: Preset::Is("10s"),
        words: "How old the oldest of them may become.",
        see: &["slow_client.policy"],
        ..Key::PLAIN
    },
];

fn event(text: &str) -> Parsed<String> {
    if (1..=255).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(text.into());
    }
    Err(format!("{} is no event name — write 1 to 255 bytes without control characters", forms::quote(text)))
}

fn folder(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        return Err(format!("{} is no folder — write its name", forms::quote(text)));
    }
    Ok(text.into())
}

/// What a field line can hold (RFC 9110 section 5.5), in ASCII.
fn field_value(text: &str) -> Parsed<String> {
    let good = text.len() <= 256 && text.trim() == text && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let words = || format!("{} is no value of a field — write a value such as \"max-age=3600\"", forms::quote(text));
    good.then(|| text.to_owned()).ok_or_else(words)
}

fn charset(text: &str) -> Parsed<String> {
    if text.is_empty() { Ok(String::new()) } else { forms::token(text) }
}

/// A field for the name of a file.
macro_rules! file {
    ($form:literal, $place:ident) => {
        Field::Text {
            form: $form,
            store: |route, text| forms::file(text).map(|file| put(&mut route.upstream_tls.files.$place, file)),
        }
    };
}

/// The keys inside of `upstream_tls`.
static UPSTREAM_TLS: [Key<RouteDraft>; 5] = [
    Key {
        name: "ca",
        field: file!("a file with certificates of authorities in PEM", ca),
        default: Preset::Absent("those that the system believes"),
        words: "The authorities of which the upstreams' certificates must be; those of the system count no more.",
        note: "Those of the system are read where `SSL_CERT_FILE` or `SSL_CERT_DIR` say, or where distributions keep \
               them.",
        example: "\"brokers.pem\"",
        see: &["upstream_tls.server_name"],
        ..Key::PLAIN
    },
    Key {
        name: "certificate",
        field: file!("a file with a certificate in PEM and its chain behind it", certificate),
        default: Preset::Absent("none is shown"),
        words: "The certificate that an upstream is shown that asks for one.",
        example: "\"edge-client.pem\"",
        see: &["upstream_tls.key"],
        ..Key::PLAIN
    },
    Key {
        name: "key",
        field: file!("a file with a private key in PEM", key),
        default: Preset::Absent("none is shown"),
        words: "The private key of `certificate`, without a passphrase.",
        note: "Nobody but the user that runs edgehold should be able to read it: mode 0600.",
        example: "\"edge-client.key\"",
        see: &["upstream_tls.certificate"],
        ..Key::PLAIN
    },
    Key {
        name: "server_name",
        field: Field::Text {
            form: "a name or an address",
            store: |route, text| {
                let name = forms::bare_host(text).ok_or_else(|| forms::no_host(text))?;
                put(&mut route.upstream_tls.server_name, name);
                Ok(())
            },
        },
        default: Preset::Absent("the host of each upstream"),
        words: "For which name the upstreams' certificates must be; it is what they are asked for (SNI) as well.",
        example: "\"broker.example\"",
        see: &["upstream"],
        ..Key::PLAIN
    },
    Key {
        name: "alpn",
        field: Field::List {
            form: "a list of names",
            single: true,
            most: 16,
            store: |route, text| push_new(&mut route.upstream_tls.alpn, forms::protocol(text)?, text),
        },
        default: Preset::Absent("none is offered"),
        words: "Application protocols that are offered to upstreams (ALPN, RFC 7301), the best first.",
        note: "An upstream that speaks none of them ends the handshake, or goes on without.",
        example: "[\"mqtt\"]",
        see: &["upstream"],
        ..Key::PLAIN
    },
];

//! A shard's counters and gauges, and the enums whose members are the values of a metric's label.
//!
//! They stand here and not in the shard's room because they travel: a report is a letter with a copy of them. They are
//! plain numbers: only the shard that owns a `Counters` writes to it.

use super::identity::Denied;
use super::services::ServiceKind;
use edgehold_wire::proxy_protocol;
use edgehold_wire::tls::Reason;

/// An enum whose members are the values of a metric's label: `Name { Member = "value" }`.
macro_rules! labels {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $member:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$doc])* $member,)* }

        impl $name {
            /// All members, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$member),*];
            /// How many there are.
            pub const COUNT: usize = $name::ALL.len();

            /// The label's value in metrics and logs.
            pub fn word(self) -> &'static str {
                match self { $($name::$member => $word),* }
            }
        }
    };
}

pub(super) use labels;

labels! {
    /// The state of a connection, as metrics show it.
    Stage {
        /// A request head is awaited.
        Head = "head",
        /// The connection to the upstream is being established.
        Dialing = "dialing",
        /// Open; bytes were received within `park_after`.
        Busy = "busy",
        /// Open and quiet: its receive was replaced by a poll, which costs the kernel less.
        Parked = "parked",
        /// The closing handshake, or FIN, is under way.
        Closing = "closing",
    }
}

labels! {
    /// Why a connection ended.
    Cause {
        /// The closing handshake is complete, or the last response was sent.
        Closed = "closed",
        /// The peer's FIN came without a Close frame.
        Gone = "gone",
        /// The connection was reset, or the network has failed it.
        Reset = "reset",
        /// The peer violated the protocol.
        Protocol = "protocol",
        /// The TLS handshake has failed, or a record was not what it should be.
        Tls = "tls",
        /// The request was refused.
        Refused = "refused",
        /// The TLS handshake has taken longer than `tls_handshake_timeout`.
        HandshakeTimeout = "handshake_timeout",
        /// No whole request head within `head_timeout`.
        HeadTimeout = "head_timeout",
        /// Nothing was received for `idle_timeout`, not even a pong.
        IdleTimeout = "idle_timeout",
        /// The peer's TCP has acknowledged nothing of what was sent for `idle_timeout`.
        Stalled = "stalled",
        /// Messages that it was to have may have been missed.
        Missed = "missed",
        /// The closing handshake took longer than `close_timeout`.
        CloseTimeout = "close_timeout",
        /// The upstream has ended the stream.
        UpstreamEnded = "upstream_ended",
        /// The upstream could not be connected to, or its connection was lost.
        UpstreamLost = "upstream_lost",
        /// Of an upstream's connection: its client has left.
        ClientLeft = "client_left",
        /// It held more than `connection_bytes`, or the most of all when `outbox_bytes` of the shard were used up; or
        /// its TLS handshake gave way when `tls_handshake_bytes` were.
        Overload = "overload",
        /// An error of edgehold itself: see the log.
        Fault = "fault",
        /// The server is stopping.
        Drained = "quiesced",
        /// No whole PROXY header within `proxy_protocol.timeout`.
        ProxyTimeout = "proxy_timeout",
        /// The PROXY header is malformed, or comes from somebody who may not send one.
        ProxyHeader = "proxy_header",
        /// A limit or a list of addresses has turned it away when it came.
        Admission = "admission",
        /// Nobody has said within the time of the route's `auth` who it is.
        AuthTimeout = "auth_timeout",
        /// What it has shown of itself is of the past.
        Expired = "expired",
        /// It has sent more than its rate.
        Rate = "rate",
    }
}

labels! {
    /// Why a client of a broker was sent an error, as metrics show it.
    OffloadRefused {
        /// A frame that is none, or that means nothing where it stands.
        Frame = "frame",
        /// What it may not do (`permissions`).
        Forbidden = "forbidden",
        /// More than it may have: subscriptions, sessions of their own, bytes of frames.
        Limit = "limit",
        /// The broker has refused it.
        Broker = "broker",
        /// The broker does not answer, or its session was lost.
        BrokerDown = "broker_down",
        /// It is not who it says, or does not say who it is.
        Credentials = "credentials",
        /// Nobody could say who it is.
        Unavailable = "unavailable",
        /// It has said nothing for too long.
        Silent = "silent",
        /// What cannot be carried for it.
        Unsupported = "unsupported",
    }
}

labels! {
    /// The services in front of brokers, as metrics show them.
    OffloadKind {
        /// `stomp`.
        Stomp = "stomp",
        /// `mqtt`.
        Mqtt = "mqtt",
    }
}

labels! {
    /// How far a TLS handshake is, as metrics show it.
    HandshakeStage {
        /// The hello is not whole.
        Hello = "hello",
        /// The hello is whole and waits for its turn.
        Queued = "queued",
        /// A step of it is made by the thread for slow signatures.
        Signing = "signing",
        /// It has begun, and its client is waited for.
        Begun = "begun",
    }
}

labels! {
    /// Why a request or a client was refused.
    Refused {
        /// All slots of the shard are taken (503).
        Full = "full",
        /// The request breaks RFC 9112 or RFC 6455 (400, 505).
        BadRequest = "bad_request",
        /// No route (404, 403).
        NotFound = "not_found",
        /// Wrong method (405).
        Method = "method",
        /// A condition or a range of the request does not hold (412, 416).
        Condition = "condition",
        /// No whole head in time (408).
        HeadTimeout = "head_timeout",
        /// The head or the target is too large (414, 431).
        HeadTooLarge = "head_too_large",
        /// The body is too large (413).
        BodyTooLarge = "body_too_large",
        /// A WebSocket opening handshake was expected (426).
        Upgrade = "upgrade",
        /// The request needs what is not implemented (501).
        NotImplemented = "not_implemented",
        /// No upstream, or a file that cannot be read (500, 502, 503, 504).
        Unavailable = "unavailable",
        /// Pages of its origin may not use the route (403).
        Origin = "origin",
        /// Its credentials are missing, or worth nothing (401, or what the server said that was asked).
        Credentials = "credentials",
        /// It is known, and has none of the roles of the route (403).
        Forbidden = "forbidden",
        /// Nobody could say who it is (503).
        AuthUnavailable = "auth_unavailable",
        /// Its network is denied, or none of those that are allowed.
        Network = "network",
        /// Its address has as many connections as one may have.
        AddressConnections = "address_connections",
        /// Its address connects more often than one may.
        AddressRate = "address_rate",
        /// Its address has as many connections of which nobody knows who they are as one may have.
        AddressUnauthenticated = "address_unauthenticated",
        /// Its PROXY header is malformed, or not its to send.
        ProxyHeader = "proxy_header",
        /// The route has as many connections as it may have (503).
        RouteConnections = "route_connections",
        /// Who it is has as many connections as one may have (429).
        IdentityConnections = "identity_connections",
    }
}

impl Refused {
    /// `dry_run` lets in who would be refused for this.
    pub fn may_be_spared(self) -> bool {
        use Refused::{AddressConnections, AddressRate, AddressUnauthenticated, Network};
        matches!(self, Network | AddressConnections | AddressRate | AddressUnauthenticated)
    }
}

/// Counters of one upstream, in one shard.
#[derive(Clone, Debug, Default)]
pub struct UpstreamCounters {
    /// Connections to it, being established or open.
    pub connections: u64,
    /// Times that a connection was begun.
    pub dials: u64,
    /// Times that no address of it could be connected to.
    pub failures: u64,
    /// TLS handshakes with it, full and resumed.
    pub tls_handshakes: [u64; 2],
    /// TLS handshakes with it that have failed.
    pub tls_failures: u64,
}

/// The counters and gauges of one shard. Counters begin at zero when the shard starts; gauges are marked so.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Gauge: connections that the shard can hold.
    pub slots: u64,
    /// Gauge: connections that it holds, clients and upstreams.
    pub used: u64,
    /// Gauge: connections by listener, then service and stage. The last listener stands for upstreams.
    pub stages: Vec<[[u32; Stage::COUNT]; ServiceKind::COUNT]>,
    /// Clients accepted, by listener.
    pub accepts: Vec<u64>,
    /// Accepts that the kernel failed, all listeners.
    pub accept_errors: u64,
    /// Requests and clients refused, by reason.
    pub refusals: [u64; Refused::COUNT],
    /// Clients that would have been refused, but for `dry_run`, by reason.
    pub refusals_spared: [u64; Refused::COUNT],
    /// Keys of tallies that have become somebody's: with `tallies_left` a gauge over all shards.
    pub tallies_entered: u64,
    /// Keys of tallies under which nobody is counted any more.
    pub tallies_left: u64,
    /// Entries of tallies that were given to another key.
    pub tallies_forgotten: u64,
    /// Connections for which there was no entry of tallies: they were let in.
    pub tallies_uncounted: u64,
    /// Times that a client was held back because it had sent faster than one may.
    pub rate_held: u64,
    /// Clients that were closed for that.
    pub rate_closed: u64,
    /// Client connections that have ended, by cause.
    pub closes: [u64; Cause::COUNT],
    /// Whole messages from clients, by service (HTTP: requests).
    pub messages_in: [u64; ServiceKind::COUNT],
    /// Whole messages to clients, by service (HTTP: responses).
    pub messages_out: [u64; ServiceKind::COUNT],
    /// Bytes received from clients.
    pub bytes_in: u64,
    /// Bytes to clients that the kernel has accepted.
    pub bytes_out: u64,
    /// Bytes received from upstreams.
    pub upstream_bytes_in: u64,
    /// Bytes to upstreams that the kernel has accepted.
    pub upstream_bytes_out: u64,
    /// Gauge: bytes queued that the kernel has not accepted yet.
    pub pending_bytes: u64,
    /// Gauge: bytes of outbox chunks in use.
    pub outbox_bytes: u64,
    /// Gauge: the most bytes that outbox chunks may take (`outbox_bytes`).
    pub outbox_limit: u64,
    /// Gauge: bytes of memory mapped for outbox chunks.
    pub outbox_resident: u64,
    /// Connections closed because `outbox_bytes` were used up and they held the most.
    pub evictions: u64,
    /// Times that a connection would have held more than `connection_bytes`.
    pub connection_bytes_passed: u64,
    /// Connections closed because of an error of edgehold itself.
    pub faults: u64,
    /// Times that receiving from a peer was paused because the other side had `max_pending` queued.
    pub held_back: u64,
    /// Lines from upstreams that were not UTF-8 and went out as binary frames.
    pub lines_not_utf8: u64,
    /// Deflated whole messages from clients.
    pub deflated_in: u64,
    /// Whole messages that were deflated for clients; one for many clients counts once.
    pub deflated_out: u64,
    /// Bytes saved by deflated messages from clients: their length inflated, less their length.
    pub deflate_saved_in: u64,
    /// Bytes saved by messages deflated for clients.
    pub deflate_saved_out: u64,
    /// Deflated messages that were corrupt, above `message_bytes`, or text that is not UTF-8.
    pub inflate_refusals: u64,
    /// Gauge: bytes of deflate windows in use.
    pub deflate_window_bytes: u64,
    /// Gauge: the most bytes that deflate windows may take (`deflate_window_bytes`).
    pub deflate_window_limit: u64,
    /// Gauge: subscriptions of clients to channels and prefixes.
    pub subscriptions: u64,
    /// Gauge: channels and prefixes that have subscribers or kept messages.
    pub channels: u64,
    /// Messages dropped for slow clients.
    pub slow_dropped: u64,
    /// Times that a slow client's backlog was conflated to the last values.
    pub slow_conflated: u64,
    /// Slow clients that were closed.
    pub slow_closed: u64,
    /// Gaps that clients were told of.
    pub gaps_told: u64,
    /// Gaps for clients that had received all that was sent: the shard was late, or the feed too fast.
    pub gaps_late: u64,
    /// Changes of subscriptions that were refused (`subscription_changes`).
    pub changes_refused: u64,
    /// Messages of channels beyond `channels_max` of their feed, which are not kept.
    pub channels_refused: u64,
    /// Channels and messages that were searched for clients that resume a prefix.
    pub prefix_steps: u64,
    /// Gauge: bytes of messages, about, that are kept.
    pub replay_bytes: u64,
    /// Connections put from a receive on a poll.
    pub parks: u64,
    /// Parked connections that went back to a multishot recv.
    pub promotions: u64,
    /// Multishot receives that had ended and were armed again.
    pub rearms: u64,
    /// Receives that ended because no provided buffer was free (ENOBUFS).
    pub no_buffers: u64,
    /// Times that the completion queue had overflowed.
    pub cq_overflows: u64,
    /// io_uring_enter calls.
    pub enters: u64,
    /// Times that a letter woke the shard out of its sleep.
    pub wakes: u64,
    /// Completions handled.
    pub completions: u64,
    /// Completions of a slot's former generation, dropped.
    pub late_completions: u64,
    /// Turns of the shard's loop.
    pub turns: u64,
    /// Turns that used up their budget (`turn_events`).
    pub budgets_used_up: u64,
    /// Gauge: requests for files, and parts of downloads, that wait for their turn.
    pub files_queued: u64,
    /// Those that found too many before them, or waited too long.
    pub files_refused: u64,
    /// Letters that could not be posted because the mailbox was full.
    pub letters_refused: u64,
    /// Times that a letter to another shard found its mailbox full.
    pub shard_letters_refused: u64,
    /// TLS handshakes that were completed: whole ones, and resumed ones.
    pub tls_handshakes: [u64; 2],
    /// TLS handshakes that have failed, by reason (`Reason::number`).
    pub tls_failures: [u64; Reason::WORDS.len()],
    /// Gauge: TLS handshakes under way.
    pub tls_handshaking: [u64; HandshakeStage::COUNT],
    /// TLS handshakes that were ended to make room for others (`tls_handshake_bytes`).
    pub tls_displaced: [u64; HandshakeStage::COUNT],
    /// Gauge: bytes that TLS handshakes hold, about.
    pub tls_handshake_bytes: u64,
    /// Gauge: the most bytes that they may hold (`tls_handshake_bytes`).
    pub tls_handshake_limit: u64,
    /// Gauge: TLS connections that are busy, whose keys stay expanded.
    pub tls_awake: u64,
    /// Certificates of clients of which not all names were kept: odd ones, or more than there is room for.
    pub tls_client_names_cut: u64,
    /// Requests whose credentials were remembered.
    pub auth_remembered: u64,
    /// Questions asked about credentials.
    pub auth_asked: u64,
    /// Requests that were let in by who they are.
    pub auth_admitted: u64,
    /// Requests that were not let in by who they are, by reason.
    pub auth_denied: [u64; Denied::COUNT],
    /// Gauge: questions about credentials under way.
    pub auth_questions: u64,
    /// Gauge: verdicts on credentials that are remembered.
    pub auth_verdicts: u64,
    /// Gauge: connections of which it is known who they are.
    pub identified: u64,
    /// Connections whose credentials have ended.
    pub auth_expired: u64,
    /// Connections that have shown new credentials in time: taken, and refused.
    pub auth_refreshes: [u64; 2],
    /// Connections that a TLS record has ended.
    pub tls_faults: u64,
    /// PROXY headers of clients that were taken: of version 1, and of version 2.
    pub proxy_headers: [u64; 2],
    /// Connections that were cut for what came in place of a PROXY header, by fault (`proxy_protocol::Fault::ALL`).
    pub proxy_faults: [u64; proxy_protocol::Fault::ALL.len()],
    /// Connections that were cut since a PROXY header is required and may not come from where they came from.
    pub proxy_strangers: u64,
    /// Requests whose client was told by a trusted proxy (Forwarded, X-Forwarded-For).
    pub forwarded_clients: u64,
    /// By upstream number.
    pub upstreams: Vec<UpstreamCounters>,
    /// Gauge: sessions with brokers that are up.
    pub offload_sessions: [u64; OffloadKind::COUNT],
    /// Gauge: clients that have one of their own.
    pub offload_private: [u64; OffloadKind::COUNT],
    /// Messages of clients that were handed to brokers.
    pub offload_published: [u64; OffloadKind::COUNT],
    /// Gauge: bytes that brokers have not confirmed.
    pub offload_unconfirmed_bytes: [u64; OffloadKind::COUNT],
    /// Gauge: bytes of cut frames, wills and topic aliases of clients.
    pub offload_held_bytes: [u64; OffloadKind::COUNT],
    /// Gauge: bytes of retained messages.
    pub offload_retained_bytes: u64,
    /// Retained messages that there was no room for.
    pub offload_unkept: u64,
    /// Times that a client was not read since its session was full.
    pub offload_held_back: [u64; OffloadKind::COUNT],
    /// Messages of queues, each for one client.
    pub offload_queue_messages: u64,
    /// Messages that clients had not acknowledged when they left, and that brokers have back.
    pub offload_given_back: u64,
    /// Sessions that were ended so that brokers have messages back.
    pub offload_retired: u64,
    /// Clients that were ended since messages may have been missed that they were to have.
    pub offload_missed: u64,
    /// Clients of brokers that were sent an error, by reason.
    pub offload_refused: [[u64; OffloadRefused::COUNT]; OffloadKind::COUNT],
    /// The shard accepts no new clients.
    pub draining: bool,
}

impl Counters {
    /// All zero, with room for that many listeners and upstreams.
    pub fn new(slots: u64, listeners: usize, upstreams: usize) -> Counters {
        Counters {
            slots,
            stages: vec![Default::default(); listeners + 1],
            accepts: vec![0; listeners],
            upstreams: vec![UpstreamCounters::default(); upstreams],
            ..Counters::default()
        }
    }

    /// Clients in a stage, over all listeners and services; connections to upstreams are not counted.
    pub fn clients_in(&self, stage: Stage) -> u64 {
        let clients = &self.stages[..self.stages.len() - 1];
        clients.iter().flatten().map(|stages| u64::from(stages[stage as usize])).sum()
    }
}

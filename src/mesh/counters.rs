//! A shard's plain counters, and the names under which they are seen from outside.
//!
//! They stand here and not in the shard's room because they travel: a report is a letter with a copy of
//! them. Only the shard that owns them counts.

use super::services::ServiceKind;

/// An enum whose members are the values of a metric's label.
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
    /// How far a connection has come, as an operator sees it.
    Stage {
        /// Waits for a request head.
        Head = "head",
        /// Waits for the back end to accept.
        Dialing = "dialing",
        /// Open, and heard not long ago.
        Busy = "busy",
        /// Open and quiet: costs the least that a connection can.
        Parked = "parked",
        /// Saying goodbye.
        Closing = "closing",
    }
}

labels! {
    /// Why a connection ended.
    Cause {
        /// Both sides said goodbye, or the last response was delivered.
        Closed = "closed",
        /// The peer ended the stream without a goodbye.
        Gone = "gone",
        /// The peer, or the network, broke the connection.
        Reset = "reset",
        /// The peer broke the protocol.
        Protocol = "protocol",
        /// The request was refused.
        Refused = "refused",
        /// No whole request head came in time.
        HeadTimeout = "head_timeout",
        /// Nothing was heard for `idle_timeout`, not even a pong.
        IdleTimeout = "idle_timeout",
        /// The peer took nothing of what it was sent for `idle_timeout`.
        Stalled = "stalled",
        /// The goodbye took longer than `close_timeout`.
        CloseTimeout = "close_timeout",
        /// The back end ended the stream.
        UpstreamEnded = "upstream_ended",
        /// The back end could not be reached, or was lost.
        UpstreamLost = "upstream_lost",
        /// The client on whose behalf it was open has left.
        ClientLeft = "client_left",
        /// It held more than `connection_bytes`, or the most when `outbox_bytes` of the shard were used up.
        Overload = "overload",
        /// A fault of ours: see the log.
        Fault = "fault",
        /// The server is stopping.
        Drained = "quiesced",
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
        /// A WebSocket opening was expected (426).
        Upgrade = "upgrade",
        /// Something not implemented was asked for (501).
        NotImplemented = "not_implemented",
        /// No back end, or a file that cannot be read (500, 502, 503, 504).
        Unavailable = "unavailable",
    }
}

/// Counters of one upstream, in one shard.
#[derive(Clone, Debug, Default)]
pub struct UpstreamCounters {
    /// Open connections to it.
    pub connections: u64,
    /// Connections asked for.
    pub dials: u64,
    /// Of those, failed ones.
    pub failures: u64,
}

/// Counters of one shard.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Connections that the shard can hold.
    pub slots: u64,
    /// Connections that it holds now, clients and upstreams.
    pub used: u64,
    /// Open connections by listener, then service and stage. The last listener stands for upstreams.
    pub stages: Vec<[[u32; Stage::COUNT]; ServiceKind::COUNT]>,
    /// Clients accepted, by listener.
    pub accepts: Vec<u64>,
    /// Accepts that failed, all listeners.
    pub accept_errors: u64,
    /// Refusals by reason.
    pub refusals: [u64; Refused::COUNT],
    /// Ends of client connections by cause.
    pub closes: [u64; Cause::COUNT],
    /// Whole messages from clients, by service (HTTP: requests).
    pub messages_in: [u64; ServiceKind::COUNT],
    /// Whole messages to clients, by service (HTTP: responses).
    pub messages_out: [u64; ServiceKind::COUNT],
    /// Bytes from clients, as they came from the kernel.
    pub bytes_in: u64,
    /// Bytes to clients, as the kernel took them.
    pub bytes_out: u64,
    /// Bytes from upstreams.
    pub upstream_bytes_in: u64,
    /// Bytes to upstreams.
    pub upstream_bytes_out: u64,
    /// Bytes queued and not yet taken by the kernel.
    pub pending_bytes: u64,
    /// Bytes of outbox chunks in use.
    pub outbox_bytes: u64,
    /// The most that outbox chunks may take.
    pub outbox_limit: u64,
    /// Bytes of memory that the outbox pool has of the kernel.
    pub outbox_resident: u64,
    /// Connections that had to give way because memory was short.
    pub evictions: u64,
    /// Times that a connection would have held more than `connection_bytes`.
    pub connection_bytes_passed: u64,
    /// Faults of ours that closed a connection: never, if all is well.
    pub faults: u64,
    /// Times that a peer was held back because the other side took nothing.
    pub held_back: u64,
    /// Lines from upstreams that were not UTF-8 and went out as binary frames.
    pub lines_not_utf8: u64,
    /// Whole messages from clients that were deflated.
    pub deflated_in: u64,
    /// Whole messages that were deflated for clients; one that goes to many counts once.
    pub deflated_out: u64,
    /// Bytes that deflated messages from clients are longer without it.
    pub deflate_saved_in: u64,
    /// Bytes that messages deflated for clients are longer without it.
    pub deflate_saved_out: u64,
    /// Deflated messages that could not be inflated, or not to what they must be.
    pub inflate_refusals: u64,
    /// Bytes of deflate windows in use.
    pub deflate_window_bytes: u64,
    /// The most that deflate windows may take.
    pub deflate_window_limit: u64,
    /// Subscriptions of clients to channels.
    pub subscriptions: u64,
    /// Channels and prefixes that somebody listens to or that are kept.
    pub channels: u64,
    /// Messages left out for clients that did not take them.
    pub slow_dropped: u64,
    /// Times that a client's backlog was conflated.
    pub slow_conflated: u64,
    /// Clients closed because they did not take what they were sent.
    pub slow_closed: u64,
    /// Gaps that clients were told of.
    pub gaps_told: u64,
    /// Gaps for clients that had taken all they were given: the shard was late, or the feed too fast.
    pub gaps_late: u64,
    /// Changes of subscriptions that were refused: too many in a second.
    pub changes_refused: u64,
    /// Messages of channels beyond those that a feed may have, which are kept for nobody.
    pub channels_refused: u64,
    /// Channels and messages that were looked at to begin prefixes.
    pub rows_searched: u64,
    /// Bytes of messages that are kept.
    pub replay_bytes: u64,
    /// Connections parked on a poll.
    pub parks: u64,
    /// Parked connections that went back to a multishot recv.
    pub promotions: u64,
    /// Receives that had ended and were armed again.
    pub rearms: u64,
    /// Receives that ended because no provided buffer was free.
    pub no_buffers: u64,
    /// Times that the completion queue was found full.
    pub cq_overflows: u64,
    /// io_uring_enter calls.
    pub enters: u64,
    /// Times that a letter woke the shard out of its sleep.
    pub wakes: u64,
    /// Completions handled.
    pub completions: u64,
    /// Completions of a slot's former generation.
    pub late_completions: u64,
    /// Turns of the shard's loop.
    pub turns: u64,
    /// Turns that ended because the budget was used up.
    pub budgets_used_up: u64,
    /// Wishes for files that wait for room in the control thread's box.
    pub files_waiting: u64,
    /// Letters that could not be posted because the box was full.
    pub letters_refused: u64,
    /// Times that a letter to another shard found its mailbox full.
    pub shard_letters_refused: u64,
    /// By upstream, in the order of the configuration.
    pub upstreams: Vec<UpstreamCounters>,
    /// The shard takes no new clients.
    pub draining: bool,
}

impl Counters {
    /// For so many listeners and upstreams.
    pub fn new(slots: u64, listeners: usize, upstreams: usize) -> Counters {
        Counters {
            slots,
            stages: vec![Default::default(); listeners + 1],
            accepts: vec![0; listeners],
            upstreams: vec![UpstreamCounters::default(); upstreams],
            ..Counters::default()
        }
    }

    /// Open connections in a stage, over all listeners and services, upstreams not counted.
    pub fn clients_in(&self, stage: Stage) -> u64 {
        let clients = &self.stages[..self.stages.len() - 1];
        clients.iter().flatten().map(|stages| u64::from(stages[stage as usize])).sum()
    }
}

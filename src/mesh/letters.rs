//! The letters themselves.

use super::{FeedNumber, Message, Tally};
use edgehold_wire::status::Status;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Which shard, counted from zero.
pub type ShardNumber = usize;

/// What the control thread tells a shard.
#[derive(Debug)]
pub enum ToShard {
    /// Send a [`Report`].
    Report,
    /// Take no new clients, and bid those that are here farewell.
    Quiesce,
    /// End now, with whatever is still open.
    Leave,
    /// Upstream `upstream` is at these addresses now. None: the name does not resolve.
    Addresses {
        /// Number of the upstream, in the order of the configuration.
        upstream: u32,
        /// What the name resolves to.
        addresses: Arc<[SocketAddr]>,
    },
    /// What was asked by [`FileAsk`].
    File(FileAnswer),
    /// Feeds have said this, in the order of their sequence. Every shard hears all of it.
    Publish(Arc<[Arc<Message>]>),
    /// Something that this shard would have heard is lost: those who listen to it are to be told. In its place among
    /// the letters of [`ToShard::Publish`].
    Missed(Missed),
    /// Send [`Listeners`]: of the channel of this name, or of all.
    Listeners {
        /// Which question this is: comes back in the answer.
        question: u64,
        /// The channel; `None`: all that anybody hears, or that are kept.
        channel: Option<Arc<str>>,
    },
}

impl ToShard {
    /// What it is counted for when a shard reads it: each message of a feed as one.
    pub fn weight(&self) -> u64 {
        if let ToShard::Publish(messages) = self { messages.len() as u64 } else { 1 }
    }
}

/// What is lost on the way to a shard's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Messages of this feed; `None`: of any.
    pub feed: Option<FeedNumber>,
    /// Messages of this channel; `None`: of any.
    pub channel: Option<Arc<str>>,
    /// They would have stood at this sequence or before it.
    pub sequence: u64,
}

/// What a shard tells the control thread.
#[derive(Debug)]
pub enum ToControl {
    /// How the shard is.
    Report(Box<Report>),
    /// A file, or its next part, is wanted.
    File(Box<FileAsk>),
    /// Who listens to what.
    Listeners(Box<Listeners>),
}

/// The channels of a shard at one moment.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// Whose.
    pub shard: ShardNumber,
    /// What was asked.
    pub question: u64,
    /// The channels, in no order; prefixes end with `*`.
    pub channels: Vec<ChannelState>,
}

/// A channel of a feed in one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelState {
    /// The feed.
    pub feed: FeedNumber,
    /// The channel, or a prefix with `*` at its end.
    pub channel: Box<str>,
    /// Clients that hear it.
    pub subscribers: u32,
    /// Messages kept for those that come back.
    pub kept: u32,
    /// Bytes that they cost, about.
    pub kept_bytes: u64,
}

/// A shard's counters at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whose.
    pub shard: ShardNumber,
    /// The counters.
    pub tally: Tally,
}

/// A wish for a file, or for the next part of one.
#[derive(Debug)]
pub struct FileAsk {
    /// Which shard asks.
    pub shard: ShardNumber,
    /// Who asks in that shard: comes back in the answer.
    pub asker: u64,
    /// What is wanted.
    pub part: FilePart,
}

/// The request's conditional fields (RFC 9110 sections 13.1 and 14.2), as sent; lines of one name joined by commas.
#[derive(Debug, Default)]
pub struct Conditions {
    /// If-Match.
    pub if_match: Option<String>,
    /// If-None-Match.
    pub if_none_match: Option<String>,
    /// If-Modified-Since.
    pub if_modified_since: Option<String>,
    /// If-Unmodified-Since.
    pub if_unmodified_since: Option<String>,
    /// If-Range.
    pub if_range: Option<String>,
    /// Range.
    pub range: Option<String>,
}

/// What is wanted of a file.
#[derive(Debug)]
pub enum FilePart {
    /// Its head, and the first part of its body.
    Open {
        /// Nothing above this folder is ever served.
        root: Arc<PathBuf>,
        /// Path below the root, percent-decoded, without a leading slash.
        path: String,
        /// Where to send a client that asks for a folder without a slash at its end.
        location: String,
        /// Only the head (a HEAD request).
        head_only: bool,
        /// Under which conditions, and which part of it.
        conditions: Conditions,
    },
    /// The part from `at` of a file opened before.
    Next {
        /// The open file.
        file: Arc<std::fs::File>,
        /// Where the part begins.
        at: u64,
        /// Bytes that are still to be sent, this part among them.
        left: u64,
    },
}

/// The answer to a [`FileAsk`].
#[derive(Debug)]
pub struct FileAnswer {
    /// Who asked.
    pub asker: u64,
    /// The head, in answer to [`FilePart::Open`].
    pub head: Option<FileHead>,
    /// A part of the body.
    pub bytes: Vec<u8>,
    /// The file and the place where the next part begins, while there is more.
    pub rest: Option<(Arc<std::fs::File>, u64, u64)>,
    /// Reading failed: the response cannot be completed.
    pub failed: bool,
}

/// A response head for a file.
#[derive(Debug)]
pub struct FileHead {
    /// 200, 206, 304, 404, 416, …
    pub status: Status,
    /// Content-Length, where the status has one.
    pub length: Option<u64>,
    /// Further fields, in order.
    pub fields: Vec<(&'static str, String)>,
}

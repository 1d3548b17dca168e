//! Letters about files: what a shard asks the control thread to read, and what it reads.

use super::ShardNumber;
use edgehold_wire::status::Status;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
        /// Where it lies.
        site: Arc<Site>,
        /// Path below the root, percent-decoded, without a leading slash.
        path: String,
        /// Where to send a client that asks for a folder without a slash at its end.
        location: String,
        /// Only the head (a HEAD request).
        head_only: bool,
        /// Under which conditions, and which part of it.
        conditions: Conditions,
    },
    /// The next part of a file that was found before.
    Next(Box<FileRest>),
    /// The client has left: the file is to be closed, which may wait for the disk too. There is no answer.
    Close(Box<FileRest>),
}

impl FilePart {
    /// Where the file lies.
    pub fn site(&self) -> &Arc<Site> {
        match self {
            FilePart::Open { site, .. } => site,
            FilePart::Next(rest) | FilePart::Close(rest) => &rest.site,
        }
    }
}

/// What has still to be sent of a file.
#[derive(Debug)]
pub struct FileRest {
    /// Where it lies.
    pub site: Arc<Site>,
    /// Its path below the root, as it was opened.
    pub name: Arc<str>,
    /// Which file it was, and which version of it.
    pub identity: FileIdentity,
    /// The file, held open. `None`: too many are, and it is opened anew for each part.
    pub held: Option<HeldFile>,
    /// Where the next part begins.
    pub at: u64,
    /// Bytes that are still to be sent.
    pub left: u64,
}

/// What tells that a file opened anew is the one that was opened before: device, inode, length, and the time of its
/// last change in seconds and nanoseconds.
pub type FileIdentity = (u64, u64, u64, i64, i64);

/// An open file that is counted for as long as it is open.
#[derive(Debug)]
pub struct HeldFile {
    file: File,
    count: Arc<AtomicU64>,
}

impl HeldFile {
    /// Holds the file, if then no more than `most` are.
    pub fn hold(file: File, count: &Arc<AtomicU64>, most: u64) -> Option<HeldFile> {
        let held = HeldFile { file, count: count.clone() };
        // The count is given back when the value is dropped, also here.
        (count.fetch_add(1, Ordering::Relaxed) < most).then_some(held)
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A folder whose files are served, and what is said of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Nothing above this folder is ever served.
    pub root: PathBuf,
    /// The Cache-Control of its files; empty: none.
    pub cache_control: String,
    /// The charset of its texts; empty: none is said.
    pub charset: String,
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
    /// What is still to be sent, while there is more.
    pub rest: Option<Box<FileRest>>,
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

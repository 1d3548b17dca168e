//! Reading files for the shards: conditions, ranges, parts (RFC 9110 sections 13 and 14).
//!
//! The kernel itself keeps to the root (openat2 with RESOLVE_BENEATH): neither `..` nor a symbolic link leads
//! out of it, whatever happens in the folder meanwhile.

use crate::mesh::{Conditions, FileAnswer, FileAsk, FileHead, FilePart, ShardNumber};
use edgehold_wire::status::Status;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of one part.
const PART: u64 = 64 << 10;

/// A request for a file, without the asker.
struct Wish {
    path: String,
    location: String,
    head_only: bool,
    conditions: Conditions,
}

/// An open file and what HTTP says of it.
struct Found {
    file: Arc<File>,
    length: u64,
    etag: String,
    modified: SystemTime,
    kind: String,
}

/// Bytes of a body: from, count.
type Span = (u64, u64);

/// Does what was asked. May wait for the disk.
pub(super) fn answer(ask: FileAsk) -> (ShardNumber, FileAnswer) {
    let asker = ask.asker;
    let answer = match ask.part {
        FilePart::Next { file, at, left } => read_part(asker, file, at, left),
        FilePart::Open { root, path, location, head_only, conditions } => {
            let wish = Wish { path, location, head_only, conditions };
            open(asker, &root, &wish)
        }
    };
    (ask.shard, answer)
}

fn open(asker: u64, root: &Path, wish: &Wish) -> FileAnswer {
    match find(root, &wish.path) {
        Ok(Some(found)) => respond(asker, &found, wish),
        Ok(None) => {
            plain(asker, Status::MOVED_PERMANENTLY, &[("Location", &wish.location)], "the folder is there\n", wish)
        }
        Err(error) => refuse(asker, &error, root, wish),
    }
}

/// The file, or `None` for a folder that was asked for without a slash at the end of its name.
fn find(root: &Path, path: &str) -> io::Result<Option<Found>> {
    let name = match path {
        path if path.is_empty() || path.ends_with('/') => format!("{path}index.html"),
        path => path.to_owned(),
    };
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // NONBLOCK: a pipe that nobody writes to must not hold the thread.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(root, &name, flags, Mode::empty(), resolve)?);
    let about = file.metadata()?;
    if about.is_dir() {
        return Ok(None);
    }
    if !about.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(Some(Found::new(file, &about, &name)))
}

impl Found {
    fn new(file: File, about: &Metadata, name: &str) -> Found {
        let kind = mime_guess::from_path(name).first_or_octet_stream();
        let text = kind.type_() == "text" || kind.subtype() == "javascript" || kind.subtype() == "json";
        Found {
            file: Arc::new(file),
            length: about.len(),
            etag: format!("\"{:x}-{:x}-{:x}\"", about.mtime(), about.mtime_nsec(), about.len()),
            // HTTP knows whole seconds.
            modified: UNIX_EPOCH + Duration::from_secs(u64::try_from(about.mtime()).unwrap_or(0)),
            kind: if text { format!("{kind}; charset=utf-8") } else { kind.to_string() },
        }
    }

    fn validators(&self) -> Vec<(&'static str, String)> {
        let modified = httpdate::fmt_http_date(self.modified);
        vec![("ETag", self.etag.clone()), ("Last-Modified", modified), ("Accept-Ranges", "bytes".into())]
    }
}

fn respond(asker: u64, found: &Found, wish: &Wish) -> FileAnswer {
    let conditions = &wish.conditions;
    if !is_as_expected(found, conditions) {
        return plain(asker, Status::PRECONDITION_FAILED, &[], "the file has changed\n", wish);
    }
    if is_unchanged(found, conditions) {
        return head_only(asker, Status::NOT_MODIFIED, None, found.validators());
    }
    let mut fields = found.validators();
    fields.push(("X-Content-Type-Options", "nosniff".into()));
    // RFC 9110 section 14.2: a range has a meaning for GET only.
    let range = conditions.range.as_deref().filter(|_| !wish.head_only && range_applies(found, conditions));
    let wanted = range.map(|range| span(range, found.length));
    let (status, (at, count)) = match wanted {
        Some(Ok(Some((at, count)))) => {
            fields.push(("Content-Range", format!("bytes {at}-{}/{}", at + count - 1, found.length)));
            (Status::PARTIAL_CONTENT, (at, count))
        }
        Some(Err(())) => {
            fields.push(("Content-Range", format!("bytes */{}", found.length)));
            return head_only(asker, Status::RANGE_NOT_SATISFIABLE, Some(0), fields);
        }
        Some(Ok(None)) | None => (Status::OK, (0, found.length)),
    };
    fields.push(("Content-Type", found.kind.clone()));
    let head = FileHead { status, length: Some(count), fields };
    if wish.head_only || count == 0 {
        return FileAnswer { asker, head: Some(head), bytes: Vec::new(), rest: None, failed: false };
    }
    FileAnswer { head: Some(head), ..read_part(asker, found.file.clone(), at, count) }
}

/// RFC 9110 section 13.2.2: If-Match goes before If-Unmodified-Since.
fn is_as_expected(found: &Found, conditions: &Conditions) -> bool {
    match (&conditions.if_match, &conditions.if_unmodified_since) {
        (Some(tags), _) => tags.split(',').map(str::trim).any(|tag| tag == "*" || tag == found.etag),
        (None, Some(date)) => httpdate::parse_http_date(date).map_or(true, |date| found.modified <= date),
        (None, None) => true,
    }
}

/// RFC 9110 section 13.2.2: If-None-Match goes before If-Modified-Since.
fn is_unchanged(found: &Found, conditions: &Conditions) -> bool {
    match (&conditions.if_none_match, &conditions.if_modified_since) {
        (Some(tags), _) => {
            tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == found.etag)
        }
        (None, Some(date)) => httpdate::parse_http_date(date).is_ok_and(|date| found.modified <= date),
        (None, None) => false,
    }
}

/// RFC 9110 section 13.1.5: a range of a file that has changed is not what the client means.
fn range_applies(found: &Found, conditions: &Conditions) -> bool {
    match conditions.if_range.as_deref() {
        None => true,
        Some(tag) if tag.starts_with('"') => tag == found.etag,
        Some(date) => httpdate::parse_http_date(date).is_ok_and(|date| date == found.modified),
    }
}

/// One range of bytes (RFC 9110 section 14.1.2). `Ok(None)`: not one that is understood, or several: the whole
/// is sent. `Err`: it lies outside.
fn span(range: &str, length: u64) -> Result<Option<Span>, ()> {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|it| it.trim().split_once('-')) else {
        return Ok(None);
    };
    let number =
        |text: &str| text.bytes().all(|it| it.is_ascii_digit()).then(|| text.parse::<u64>().unwrap_or(u64::MAX));
    match (first, last) {
        ("", "") => Ok(None),
        ("", last) => match number(last) {
            Some(0) => Err(()),
            Some(count) => within(length.saturating_sub(count), u64::MAX, length),
            None => Ok(None),
        },
        (first, "") => number(first).map_or(Ok(None), |first| within(first, u64::MAX, length)),
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => within(first, last, length),
            _ => Ok(None),
        },
    }
}

fn within(first: u64, last: u64, length: u64) -> Result<Option<Span>, ()> {
    if first < length { Ok(Some((first, last.min(length - 1) - first + 1))) } else { Err(()) }
}

fn read_part(asker: u64, file: Arc<File>, at: u64, left: u64) -> FileAnswer {
    let mut bytes = vec![0; left.min(PART) as usize];
    let failed = file.read_exact_at(&mut bytes, at).is_err();
    let (at, left) = (at + bytes.len() as u64, left - bytes.len() as u64);
    let rest = (left > 0 && !failed).then_some((file, at, left));
    FileAnswer { asker, head: None, bytes, rest, failed }
}

fn head_only(asker: u64, status: Status, length: Option<u64>, fields: Vec<(&'static str, String)>) -> FileAnswer {
    let head = FileHead { status, length, fields };
    FileAnswer { asker, head: Some(head), bytes: Vec::new(), rest: None, failed: false }
}

/// A way out of the root (EXDEV), a loop of links: not found, like what is not there.
fn refuse(asker: u64, error: &io::Error, root: &Path, wish: &Wish) -> FileAnswer {
    let not_found =
        [libc::ENOENT, libc::ENOTDIR, libc::EXDEV, libc::ELOOP, libc::ENAMETOOLONG, libc::ENXIO, libc::EINVAL];
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => plain(asker, Status::FORBIDDEN, &[], "this file may not be read\n", wish),
        None => plain(asker, Status::NOT_FOUND, &[], "no such file\n", wish),
        Some(number) if not_found.contains(&number) => plain(asker, Status::NOT_FOUND, &[], "no such file\n", wish),
        Some(_) => {
            tracing::warn!(%error, ?root, path = wish.path, "a file cannot be read");
            plain(asker, Status::INTERNAL_SERVER_ERROR, &[], "the file cannot be read\n", wish)
        }
    }
}

fn plain(asker: u64, status: Status, more: &[(&'static str, &str)], words: &str, wish: &Wish) -> FileAnswer {
    let mut fields = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
    fields.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let bytes = if wish.head_only { Vec::new() } else { words.as_bytes().to_vec() };
    let head = FileHead { status, length: Some(words.len() as u64), fields };
    FileAnswer { asker, head: Some(head), bytes, rest: None, failed: false }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn ranges_as_in_rfc_9110() {
        assert_eq!(span("bytes=0-499", 10_000), Ok(Some((0, 500))));
        assert_eq!(span("bytes=500-", 600), Ok(Some((500, 100))));
        assert_eq!(span("bytes=-500", 10_000), Ok(Some((9500, 500))));
        assert_eq!(span("bytes=-500", 100), Ok(Some((0, 100))));
        assert_eq!(span("bytes=0-99999999999999999999999", 10), Ok(Some((0, 10))));
        assert_eq!(span("bytes=10-", 10), Err(()));
        assert_eq!(span("bytes=-0", 10), Err(()));
        assert_eq!(span("bytes=-1", 0), Err(()));
        for whole in ["bytes=5-2", "bytes=0-1,3-4", "lines=1-2", "bytes=-", "bytes=a-b", "bytes"] {
            assert_eq!(span(whole, 10), Ok(None), "{whole}");
        }
    }
}

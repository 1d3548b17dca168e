//! Reading files for the shards: conditions, ranges, parts (RFC 9110 sections 13 and 14).
//!
//! The kernel itself keeps to the root (openat2 with RESOLVE_BENEATH): neither `..` nor a symbolic link leads
//! out of it, whatever happens in the folder meanwhile.

use crate::mesh::{Conditions, FileAnswer, FileAsk, FileHead, FileIdentity, FilePart, FileRest, HeldFile, Site};
use edgehold_wire::status::Status;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
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

/// How many files may be held open between two parts, and how many are.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub(super) count: Arc<AtomicU64>,
    pub(super) most: u64,
}

/// An open file and what HTTP says of it.
struct Found {
    file: File,
    name: String,
    identity: FileIdentity,
    length: u64,
    etag: String,
    modified: SystemTime,
    kind: String,
}

/// Bytes of a body: from, count.
type Span = (u64, u64);

/// Does what was asked. May wait for the disk.
pub(super) fn answer(ask: FileAsk, holding: &Holding) -> Option<FileAnswer> {
    let asker = ask.asker;
    match ask.part {
        FilePart::Open { site, path, location, head_only, conditions } => {
            let wish = Wish { path, location, head_only, conditions };
            Some(open(asker, &site, &wish, holding))
        }
        FilePart::Next(rest) => Some(go_on(asker, *rest)),
        FilePart::Close(rest) => {
            drop(rest);
            None
        }
    }
}

/// Too many wait for files of this folder, or have waited too long: a new client is told so, a download ends.
pub(super) fn busy(ask: &FileAsk) -> FileAnswer {
    match &ask.part {
        FilePart::Open { head_only, .. } => plain(ask.asker, *head_only, &BUSY),
        FilePart::Next(_) | FilePart::Close(_) => failed(ask.asker),
    }
}

/// The response cannot be completed.
pub(super) fn failed(asker: u64) -> FileAnswer {
    FileAnswer { asker, head: None, bytes: Vec::new(), rest: None, failed: true }
}

fn open(asker: u64, site: &Arc<Site>, wish: &Wish, holding: &Holding) -> FileAnswer {
    match find(site, &wish.path) {
        Ok(Some(found)) => respond(asker, found, wish, (site, holding)),
        Ok(None) => {
            let moved = Plain {
                status: Status::MOVED_PERMANENTLY,
                field: Some(("Location", &wish.location)),
                words: "the folder is there\n",
            };
            plain(asker, wish.head_only, &moved)
        }
        Err(error) => refuse(asker, &error, &site.root, wish),
    }
}

/// The file, or `None` for a folder that was asked for without a slash at the end of its name.
fn find(site: &Site, path: &str) -> io::Result<Option<Found>> {
    let is_index = path.is_empty() || path.ends_with('/');
    let name = if is_index { format!("{path}index.html") } else { path.to_owned() };
    let file = open_below(&site.root, &name)?;
    let about = file.metadata()?;
    // A folder that is called index.html would lead to itself for ever.
    if about.is_dir() && !is_index {
        return Ok(None);
    }
    if !about.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(Some(Found::new(file, &about, name, &site.charset)))
}

fn open_below(root: &Path, name: &str) -> io::Result<File> {
    let folder = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    match beneath(&folder, Path::new(name)) {
        Err(error) if error.raw_os_error() == Some(libc::EXDEV) => beneath(&folder, &inside(root, name)?),
        opened => opened,
    }
}

fn beneath(folder: &OwnedFd, name: &Path) -> io::Result<File> {
    // NONBLOCK: a pipe that nobody writes to must not hold the thread.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(File::from(rustix::fs::openat2(folder, name, flags, Mode::empty(), resolve)?))
}

/// The kernel takes every absolute link for a way out. Where one leads back into the root, this is the name without
/// links of what it leads to. The kernel looks at that name again, so that it does not matter what changes meanwhile.
fn inside(root: &Path, name: &str) -> io::Result<std::path::PathBuf> {
    let out = || io::Error::from_raw_os_error(libc::EXDEV);
    let target = root.join(name).canonicalize()?;
    target.strip_prefix(root.canonicalize()?).map(Path::to_owned).map_err(|_| out())
}

impl Found {
    fn new(file: File, about: &Metadata, name: String, charset: &str) -> Found {
        Found {
            file,
            identity: identity(about),
            length: about.len(),
            etag: format!("\"{:x}-{:x}-{:x}\"", about.mtime(), about.mtime_nsec(), about.len()),
            // HTTP knows whole seconds.
            modified: UNIX_EPOCH + Duration::from_secs(u64::try_from(about.mtime()).unwrap_or(0)),
            kind: media_type(&name, charset),
            name,
        }
    }

    fn validators(&self) -> Vec<(&'static str, String)> {
        let modified = httpdate::fmt_http_date(self.modified);
        vec![("ETag", self.etag.clone()), ("Last-Modified", modified), ("Accept-Ranges", "bytes".into())]
    }
}

fn identity(about: &Metadata) -> FileIdentity {
    (about.dev(), about.ino(), about.len(), about.mtime(), about.mtime_nsec())
}

/// By the name's ending. Of what is text, the charset is said.
fn media_type(name: &str, charset: &str) -> String {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    let kind = match ending.as_str() {
        // Source maps are JSON (ECMA-426).
        "map" => "application/json".to_owned(),
        // The ending has two owners. Only MPEG's has a registered type, and browsers never run TypeScript.
        "ts" => "video/mp2t".to_owned(),
        _ => mime_guess::from_path(name).first_or_octet_stream().essence_str().to_owned(),
    };
    let text = kind.starts_with("text/") || ["javascript", "json", "xml"].iter().any(|it| kind.ends_with(it));
    if text && !charset.is_empty() { format!("{kind}; charset={charset}") } else { kind }
}

fn respond(asker: u64, found: Found, wish: &Wish, place: (&Arc<Site>, &Holding)) -> FileAnswer {
    let (site, conditions) = (place.0, &wish.conditions);
    if !is_as_expected(&found, conditions) {
        return plain(asker, wish.head_only, &CHANGED);
    }
    let mut fields = found.validators();
    if !site.cache_control.is_empty() {
        fields.push(("Cache-Control", site.cache_control.clone()));
    }
    if is_unchanged(&found, conditions) {
        return head_only(asker, Status::NOT_MODIFIED, None, fields);
    }
    fields.push(("X-Content-Type-Options", "nosniff".into()));
    // RFC 9110 section 14.2: a range has a meaning for GET only.
    let range = conditions.range.as_deref().filter(|_| !wish.head_only && range_applies(&found, conditions));
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
    FileAnswer { head: Some(head), ..begin(asker, found, (at, count), place) }
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
    let ranges = range.split_once('=').filter(|(unit, _)| unit.eq_ignore_ascii_case("bytes"));
    let Some((first, last)) = ranges.and_then(|(_, ranges)| ranges.trim().split_once('-')) else {
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

/// The first part. A file that has more is held open while not too many are.
fn begin(asker: u64, found: Found, (at, left): Span, (site, holding): (&Arc<Site>, &Holding)) -> FileAnswer {
    let Some((bytes, (at, left))) = read_part(&found.file, (at, left)) else { return failed(asker) };
    let rest = (left > 0).then(|| {
        let held = HeldFile::hold(found.file, &holding.count, holding.most);
        let (site, name, identity) = (site.clone(), found.name.into(), found.identity);
        Box::new(FileRest { site, name, identity, held, at, left })
    });
    FileAnswer { asker, head: None, bytes, rest, failed: false }
}

/// A further part. A file that was not held open must be the one that it was.
fn go_on(asker: u64, rest: FileRest) -> FileAnswer {
    let span = (rest.at, rest.left);
    let read = match &rest.held {
        Some(held) => read_part(held.file(), span),
        None => open_again(&rest).and_then(|file| read_part(&file, span)),
    };
    let Some((bytes, (at, left))) = read else { return failed(asker) };
    let rest = (left > 0).then(|| Box::new(FileRest { at, left, ..rest }));
    FileAnswer { asker, head: None, bytes, rest, failed: false }
}

fn open_again(rest: &FileRest) -> Option<File> {
    let file = open_below(&rest.site.root, &rest.name).ok()?;
    (identity(&file.metadata().ok()?) == rest.identity).then_some(file)
}

/// What was read, and what is left.
fn read_part(file: &File, (at, left): Span) -> Option<(Vec<u8>, Span)> {
    let mut bytes = vec![0; left.min(PART) as usize];
    file.read_exact_at(&mut bytes, at).ok()?;
    let count = bytes.len() as u64;
    Some((bytes, (at + count, left - count)))
}

fn head_only(asker: u64, status: Status, length: Option<u64>, fields: Vec<(&'static str, String)>) -> FileAnswer {
    let head = FileHead { status, length, fields };
    FileAnswer { asker, head: Some(head), bytes: Vec::new(), rest: None, failed: false }
}

/// A way out of the root (EXDEV), a loop of links: not found, like what is not there.
fn refuse(asker: u64, error: &io::Error, root: &Path, wish: &Wish) -> FileAnswer {
    let not_found =
        [libc::ENOENT, libc::ENOTDIR, libc::EXDEV, libc::ELOOP, libc::ENAMETOOLONG, libc::ENXIO, libc::EINVAL];
    let answer = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => FORBIDDEN,
        // Descriptors come back.
        Some(libc::EMFILE | libc::ENFILE) => BUSY,
        None => NOT_FOUND,
        Some(number) if not_found.contains(&number) => NOT_FOUND,
        Some(_) => {
            tracing::warn!(%error, ?root, path = wish.path, "a file cannot be read");
            UNREADABLE
        }
    };
    plain(asker, wish.head_only, &answer)
}

/// An answer of one line.
struct Plain<'w> {
    status: Status,
    field: Option<(&'static str, &'w str)>,
    words: &'static str,
}

const CHANGED: Plain<'_> = Plain { status: Status::PRECONDITION_FAILED, field: None, words: "the file has changed\n" };
const FORBIDDEN: Plain<'_> = Plain { status: Status::FORBIDDEN, field: None, words: "this file may not be read\n" };
const NOT_FOUND: Plain<'_> = Plain { status: Status::NOT_FOUND, field: None, words: "no such file\n" };
const UNREADABLE: Plain<'_> =
    Plain { status: Status::INTERNAL_SERVER_ERROR, field: None, words: "the file cannot be read\n" };
const BUSY: Plain<'_> = Plain {
    status: Status::SERVICE_UNAVAILABLE,
    field: Some(("Retry-After", "1")),
    words: "too many files are being read\n",
};

fn plain(asker: u64, head_only: bool, about: &Plain<'_>) -> FileAnswer {
    let mut fields = vec![("Content-Type", "text/plain; charset=utf-8".to_owned())];
    fields.extend(about.field.map(|(name, value)| (name, value.to_owned())));
    let bytes = if head_only { Vec::new() } else { about.words.as_bytes().to_vec() };
    let head = FileHead { status: about.status, length: Some(about.words.len() as u64), fields };
    FileAnswer { asker, head: Some(head), bytes, rest: None, failed: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn download(holding: &Holding, root: &Path) -> FileAnswer {
        let (path, location, conditions) = ("f".into(), "/".into(), Conditions::default());
        let site = Arc::new(Site { root: root.into(), ..Site::default() });
        let part = FilePart::Open { site, path, location, head_only: false, conditions };
        answer(FileAsk { shard: 0, asker: 1, part }, holding).unwrap()
    }

    fn next(answered: FileAnswer, holding: &Holding) -> FileAnswer {
        let part = FilePart::Next(answered.rest.unwrap());
        answer(FileAsk { shard: 0, asker: 1, part }, holding).unwrap()
    }

    #[test]
    fn beyond_the_limit_a_file_is_opened_anew_for_each_part() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..3 * PART).map(|at| (at % 251) as u8).collect();
        std::fs::write(folder.path().join("f"), &content).unwrap();
        let holding = Holding { count: Arc::default(), most: 1 };
        let held = || holding.count.load(std::sync::atomic::Ordering::Relaxed);
        let (first, second) = (download(&holding, folder.path()), download(&holding, folder.path()));
        let is_held = |it: &FileAnswer| it.rest.as_ref().unwrap().held.is_some();
        assert_eq!((is_held(&first), is_held(&second), held()), (true, false, 1));
        let third = next(next(second, &holding), &holding);
        assert!(third.bytes == content[2 * PART as usize..] && third.rest.is_none());
        // Another file of this name is not what was begun, unless the first is held open.
        std::fs::write(folder.path().join("g"), &content).unwrap();
        let other = download(&holding, folder.path());
        std::fs::rename(folder.path().join("g"), folder.path().join("f")).unwrap();
        assert!(next(other, &holding).failed);
        let first = next(first, &holding);
        assert!(first.bytes == content[PART as usize..2 * PART as usize]);
        let close = FilePart::Close(first.rest.unwrap());
        assert!(answer(FileAsk { shard: 0, asker: 1, part: close }, &holding).is_none());
        assert_eq!(held(), 0);
    }

    #[test]
    fn endings_have_types() {
        let types = [("a.map", "application/json; charset=utf-8"), ("a.TS", "video/mp2t"), ("a", OCTETS)];
        let texts = [("a.svg", "image/svg+xml; charset=utf-8"), ("a.js", "text/javascript; charset=utf-8")];
        for (name, kind) in [&types[..], &texts].concat() {
            assert_eq!(media_type(name, "utf-8"), kind);
        }
        assert_eq!((media_type("a.css", ""), media_type("a.png", "x")), ("text/css".into(), "image/png".into()));
    }

    const OCTETS: &str = "application/octet-stream";

    #[test]
    fn ranges_as_in_rfc_9110() {
        assert_eq!(span("Bytes=0-1", 10), Ok(Some((0, 2))));
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

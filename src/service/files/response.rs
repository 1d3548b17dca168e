//! What is answered to a request for a file (RFC 9110 sections 13 and 14): from what the request says and what is known
//! of the file, without I/O.

use crate::shard::service::{FileKind, FileStat};
use edgehold_wire::http1::Head;
use edgehold_wire::status::Status;
use std::borrow::Cow;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A folder whose files are served, and what is said of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Nothing above this folder is ever served.
    pub root: PathBuf,
    /// The file system that it was on at start, if that is one of this machine: what is in its caches is read without
    /// a thread that may wait.
    pub device: Option<u64>,
    /// The Cache-Control of its files; empty: none.
    pub cache_control: String,
    /// The charset of its texts; empty: none is said.
    pub charset: String,
}

/// A request for a file.
#[derive(Debug, Default)]
pub struct FileQuery {
    /// Path below the root, percent-decoded, without a leading slash; of a folder's index its own.
    pub name: String,
    /// A folder was asked for.
    pub is_index: bool,
    /// Where to send a client that asks for a folder without a slash at its end.
    pub location: String,
    /// Only the head (a HEAD request).
    pub head_only: bool,
    /// Under which conditions, and which part of it.
    pub conditions: Conditions,
}

/// The request's conditional fields (RFC 9110 sections 13.1 and 14.2), as sent; lines of one name joined by commas.
#[derive(Debug, Default)]
pub struct Conditions {
    if_match: Option<String>,
    if_none_match: Option<String>,
    if_modified_since: Option<String>,
    if_unmodified_since: Option<String>,
    if_range: Option<String>,
    range: Option<String>,
}

/// A response: its head, and what its body is.
#[derive(Debug)]
pub struct Response {
    /// 200, 206, 304, 404, 416, …
    pub status: Status,
    /// Fields before Content-Length, in order.
    pub fields: Vec<(&'static str, Cow<'static, str>)>,
    /// Content-Length, where the status has one.
    pub length: Option<u64>,
    /// Its body.
    pub body: Body,
}

/// What a response's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// None.
    Empty,
    /// One line.
    Words(&'static str),
    /// Bytes of the file: the first, and how many; at least one.
    Span(u64, u64),
}

impl FileQuery {
    /// `None` for what no file can be called here.
    pub fn new(head: &Head<'_, '_>, below: &str) -> Option<FileQuery> {
        let path = decode(below)?;
        let is_index = path.is_empty() || path.ends_with('/');
        Some(FileQuery {
            name: if is_index { path + "index.html" } else { path },
            is_index,
            location: if is_index { String::new() } else { folder_location(head) },
            head_only: head.method == "HEAD",
            conditions: Conditions::new(head),
        })
    }
}

impl Conditions {
    fn new(head: &Head<'_, '_>) -> Conditions {
        Conditions {
            if_match: joined(head, "If-Match"),
            if_none_match: joined(head, "If-None-Match"),
            if_modified_since: joined(head, "If-Modified-Since"),
            if_unmodified_since: joined(head, "If-Unmodified-Since"),
            if_range: joined(head, "If-Range"),
            range: joined(head, "Range"),
        }
    }
}

/// RFC 9110 section 5.3: several lines of one name are one list.
fn joined(head: &Head<'_, '_>, name: &str) -> Option<String> {
    let mut lines = head.all(name).filter_map(|line| std::str::from_utf8(line).ok());
    let first = lines.next()?.to_owned();
    Some(lines.fold(first, |list, line| list + ", " + line))
}

/// Where a folder is really: its path with a slash at the end.
fn folder_location(head: &Head<'_, '_>) -> String {
    let query = head.query.map(|it| format!("?{it}")).unwrap_or_default();
    // Two slashes in front would name another host (RFC 3986 section 4.2).
    format!("/{}/{query}", head.path.trim_start_matches('/'))
}

/// The path below the root, percent-decoded. `None` for what no file can be called here: a step upwards,
/// however it is written, a NUL, an encoded slash, bytes that are not UTF-8.
fn decode(path: &str) -> Option<String> {
    // With room for the index of a folder, and for the end of the name as the kernel takes it.
    let mut decoded = Vec::with_capacity(path.len() + 12);
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => encoded(&mut bytes)?,
            byte => byte,
        });
    }
    let path = String::from_utf8(decoded).ok()?;
    let upwards = path.split('/').any(|step| matches!(step, ".." | "."));
    (!upwards && !path.contains('\0') && !path.starts_with('/')).then_some(path)
}

fn encoded(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let mut digit = || char::from(bytes.next()?).to_digit(16);
    let byte = (digit()? * 16 + digit()?) as u8;
    (byte != b'/').then_some(byte)
}

// ---- a file was found ----

/// What HTTP says of a file.
struct Found {
    length: u64,
    etag: String,
    modified: SystemTime,
}

impl Found {
    fn new(stat: &FileStat) -> Found {
        let (seconds, nanoseconds) = stat.modified;
        Found {
            length: stat.length,
            etag: format!("\"{seconds:x}-{nanoseconds:x}-{:x}\"", stat.length),
            // HTTP knows whole seconds.
            modified: UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        }
    }
}

/// The response for what was opened: a file, or a folder or pipe of the name that was asked for.
pub fn respond(site: &Site, query: &FileQuery, stat: &FileStat) -> Response {
    match stat.kind {
        FileKind::Regular => respond_file(site, query, &Found::new(stat)),
        // A folder that is called index.html would lead to itself for ever.
        FileKind::Folder if !query.is_index => moved(query),
        FileKind::Folder | FileKind::Other => plain(query, &NOT_FOUND),
    }
}

fn respond_file(site: &Site, query: &FileQuery, found: &Found) -> Response {
    let conditions = &query.conditions;
    if !is_as_expected(found, conditions) {
        return plain(query, &CHANGED);
    }
    let mut fields = Vec::with_capacity(8);
    fields.push(("ETag", found.etag.clone().into()));
    fields.push(("Last-Modified", httpdate::fmt_http_date(found.modified).into()));
    fields.push(("Accept-Ranges", "bytes".into()));
    if !site.cache_control.is_empty() {
        fields.push(("Cache-Control", site.cache_control.clone().into()));
    }
    if is_unchanged(found, conditions) {
        return Response { status: Status::NOT_MODIFIED, fields, length: None, body: Body::Empty };
    }
    fields.push(("X-Content-Type-Options", "nosniff".into()));
    let (status, (at, count)) = match wanted(query, found) {
        Some(Ok((at, count))) => {
            fields.push(("Content-Range", format!("bytes {at}-{}/{}", at + count - 1, found.length).into()));
            (Status::PARTIAL_CONTENT, (at, count))
        }
        Some(Err(())) => {
            fields.push(("Content-Range", format!("bytes */{}", found.length).into()));
            return Response { status: Status::RANGE_NOT_SATISFIABLE, fields, length: Some(0), body: Body::Empty };
        }
        None => (Status::OK, (0, found.length)),
    };
    fields.push(("Content-Type", media_type(&query.name, &site.charset)));
    let body = if query.head_only || count == 0 { Body::Empty } else { Body::Span(at, count) };
    Response { status, fields, length: Some(count), body }
}

/// The part that is asked for, if one is. `Err`: it lies outside.
fn wanted(query: &FileQuery, found: &Found) -> Option<Result<Span, ()>> {
    let conditions = &query.conditions;
    // RFC 9110 section 14.2: a range has a meaning for GET only.
    let range = conditions.range.as_deref().filter(|_| !query.head_only && range_applies(found, conditions))?;
    span(range, found.length).transpose()
}

/// By the name's ending. Of what is text, the charset is said.
fn media_type(name: &str, charset: &str) -> Cow<'static, str> {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let kind = match ending {
        // Source maps are JSON (ECMA-426).
        it if it.eq_ignore_ascii_case("map") => "application/json",
        // The ending has two owners. Only MPEG's has a registered type, and browsers never run TypeScript.
        it if it.eq_ignore_ascii_case("ts") => "video/mp2t",
        _ => mime_guess::from_path(name).first_raw().unwrap_or("application/octet-stream"),
    };
    let kind = kind.split_once(';').map_or(kind, |(kind, _)| kind.trim_end());
    let text = kind.starts_with("text/") || ["javascript", "json", "xml"].iter().any(|it| kind.ends_with(it));
    if text && !charset.is_empty() { format!("{kind}; charset={charset}").into() } else { kind.into() }
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

/// Bytes of a body: from, count.
type Span = (u64, u64);

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

// ---- no file was found ----

/// The response where the kernel refuses to open the name, or cannot read what was found. A way out of the root (EXDEV)
/// and a loop of links are answered like what is not there.
pub fn refuse(site: &Site, query: &FileQuery, errno: i32) -> Response {
    let answer = match errno {
        libc::EACCES | libc::EPERM => FORBIDDEN,
        // Descriptors come back.
        libc::EMFILE | libc::ENFILE => BUSY,
        libc::ENOENT | libc::ENOTDIR | libc::EXDEV | libc::ELOOP | libc::ENAMETOOLONG | libc::ENXIO | libc::EINVAL => {
            NOT_FOUND
        }
        _ => {
            let error = std::io::Error::from_raw_os_error(errno);
            tracing::warn!(%error, root = ?site.root, path = query.name, "a file cannot be read");
            UNREADABLE
        }
    };
    plain(query, &answer)
}

/// Too many wait for files, or this one has waited too long.
pub fn busy(query: &FileQuery) -> Response {
    plain(query, &BUSY)
}

fn moved(query: &FileQuery) -> Response {
    let words = "the folder is there\n";
    let moved = plain(query, &Plain { status: Status::MOVED_PERMANENTLY, field: None, words });
    with_field(moved, ("Location", query.location.clone().into()))
}

/// An answer of one line.
struct Plain {
    status: Status,
    field: Option<(&'static str, &'static str)>,
    words: &'static str,
}

const CHANGED: Plain = Plain { status: Status::PRECONDITION_FAILED, field: None, words: "the file has changed\n" };
const FORBIDDEN: Plain = Plain { status: Status::FORBIDDEN, field: None, words: "this file may not be read\n" };
const NOT_FOUND: Plain = Plain { status: Status::NOT_FOUND, field: None, words: "no such file\n" };
const UNREADABLE: Plain =
    Plain { status: Status::INTERNAL_SERVER_ERROR, field: None, words: "the file cannot be read\n" };
const BUSY: Plain = Plain {
    status: Status::SERVICE_UNAVAILABLE,
    field: Some(("Retry-After", "1")),
    words: "too many files are being read\n",
};

fn plain(query: &FileQuery, about: &Plain) -> Response {
    let body = if query.head_only { Body::Empty } else { Body::Words(about.words) };
    let fields = vec![("Content-Type", "text/plain; charset=utf-8".into())];
    let response = Response { status: about.status, fields, length: Some(about.words.len() as u64), body };
    match about.field {
        Some((name, value)) => with_field(response, (name, value.into())),
        None => response,
    }
}

fn with_field(mut response: Response, field: (&'static str, Cow<'static, str>)) -> Response {
    response.fields.push(field);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_and_ways_out_are_not_names() {
        assert_eq!(decode("a%20b/%C3%BC.txt").as_deref(), Some("a b/ü.txt"));
        assert_eq!(decode("").as_deref(), Some(""));
        assert_eq!(decode("..x/x..").as_deref(), Some("..x/x.."));
        for bad in ["..", "a/../b", "%2e%2e/x", ".%2E", "a%2fb", "a%00", "%ff", "%4", "%zz", "/etc/passwd", "./a"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
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

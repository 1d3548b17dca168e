//! Static files below a root.
//!
//! The shard never touches a file: it asks the control thread for the head and the first part, and for each
//! further part when the client has taken the one before.

use super::{Admits, Request, Service};
use crate::mesh::{Cause, Conditions, FileAnswer, FileAsk, FileHead, FilePart, FileRest, Site, ToControl, ToShard};
use crate::shard::service::{Backpressure, Desk, Event, Verdict};
use crate::shard::slab::Handle;
use edgehold_wire::http1::Head;
use edgehold_wire::status::Status;
use slab::Slab;
use std::collections::VecDeque;
use std::sync::Arc;

/// Wishes that wait in one shard unless the configuration says otherwise.
const QUEUE: usize = 1024;

/// What a files route says.
#[derive(Clone, Debug)]
pub struct FilesPlan {
    /// Where the files lie.
    pub site: Arc<Site>,
}

/// Responses on their way.
pub struct Files {
    downloads: Slab<Download>,
    /// Wishes for which the control thread's box had no room, in their order. Those for further parts are as many as
    /// there are downloads; a client that comes when `queue` wait is refused.
    waiting: VecDeque<Box<FileAsk>>,
    queue: usize,
}

/// A response that is not complete.
struct Download {
    client: Handle,
    /// What is to be asked for when the client has taken what is queued.
    rest: Option<Box<FileRest>>,
}

impl Default for Files {
    fn default() -> Files {
        Files::new(QUEUE)
    }
}

impl Service for Files {
    type Plan = FilesPlan;

    const ADMITS: Admits = Admits::Reading;

    fn request(&mut self, desk: &mut Desk<'_>, request: &Request<'_, '_>, plan: &FilesPlan) -> Verdict {
        self.open(desk, request.who, request.head, plan, request.path);
        Verdict::Served
    }

    fn event(&mut self, desk: &mut Desk<'_>, _who: Handle, token: u32, event: Event<'_>) {
        match event {
            Event::Writable => self.go_on(desk, token as usize),
            Event::Closed(_) => self.closed(desk, token),
            _ => {}
        }
    }

    fn letter(&mut self, desk: &mut Desk<'_>, letter: ToShard) -> Option<ToShard> {
        match letter {
            ToShard::File(answer) => self.answered(desk, *answer),
            other => return Some(other),
        }
        None
    }

    fn poll(&mut self, desk: &mut Desk<'_>, _budget: u32) -> u32 {
        self.turn(desk)
    }
}

impl Files {
    /// With room for so many wishes that wait.
    pub fn new(queue: usize) -> Files {
        Files { downloads: Slab::new(), waiting: VecDeque::new(), queue }
    }

    /// Asks for the file.
    fn open(&mut self, desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>, settings: &FilesPlan, route: &str) {
        let below = head.path.strip_prefix(route).unwrap_or("");
        let Some(path) = decode(below) else {
            return desk.refuse(who, Status::NOT_FOUND, &[], "no such file");
        };
        if self.waiting.len() >= self.queue {
            let later = [("Retry-After", "1")];
            return desk.refuse(who, Status::SERVICE_UNAVAILABLE, &later, "too many files are being read");
        }
        let part = FilePart::Open {
            site: settings.site.clone(),
            path,
            location: folder_location(head),
            head_only: head.method == "HEAD",
            conditions: conditions(head),
        };
        let token = self.downloads.insert(Download { client: who, rest: None });
        desk.take(who, token as u32);
        self.ask(desk, who, part);
    }

    /// The control thread has read something.
    fn answered(&mut self, desk: &mut Desk<'_>, answer: FileAnswer) {
        let who = Handle::from_raw(answer.asker);
        let Some(token) = desk.token(who).map(|it| it as usize) else {
            return self.give_back(desk, who, answer.rest);
        };
        if answer.failed {
            return desk.cut(who, Cause::UpstreamLost);
        }
        if let Some(head) = &answer.head {
            begin(desk, who, head);
        }
        let written = desk.write(who, &answer.bytes);
        match answer.rest {
            None => {
                self.downloads.remove(token);
                desk.release(who);
                desk.finish_answer(who);
            }
            Some(rest) => {
                self.downloads[token].rest = Some(rest);
                if written == Backpressure::Ready {
                    self.go_on(desk, token);
                }
            }
        }
    }

    /// The client has left.
    fn closed(&mut self, desk: &mut Desk<'_>, token: u32) {
        if let Some(download) = self.downloads.try_remove(token as usize) {
            self.give_back(desk, download.client, download.rest);
        }
    }

    /// Posts what had to wait, as far as there is room now. How many were posted.
    fn turn(&mut self, desk: &mut Desk<'_>) -> u32 {
        let mut posted = 0;
        while let Some(ask) = self.next_waiting(desk) {
            if let Err(ToControl::File(ask)) = desk.try_post(ToControl::File(ask)) {
                self.waiting.push_front(ask);
                break;
            }
            posted += 1;
        }
        desk.counters().files_waiting = self.waiting.len() as u64;
        posted
    }

    /// Who has left since then wants nothing but that its file is closed.
    fn next_waiting(&mut self, desk: &mut Desk<'_>) -> Option<Box<FileAsk>> {
        while let Some(mut ask) = self.waiting.pop_front() {
            if desk.token(Handle::from_raw(ask.asker)).is_some() {
                return Some(ask);
            }
            match ask.part {
                FilePart::Open { .. } => {}
                FilePart::Next(rest) | FilePart::Close(rest) => {
                    ask.part = FilePart::Close(rest);
                    return Some(ask);
                }
            }
        }
        None
    }

    fn go_on(&mut self, desk: &mut Desk<'_>, token: usize) {
        let Some(download) = self.downloads.get_mut(token) else { return };
        if let Some(rest) = download.rest.take() {
            let client = download.client;
            self.ask(desk, client, FilePart::Next(rest));
        }
    }

    /// A file is not closed here: that may wait for its disk.
    fn give_back(&mut self, desk: &mut Desk<'_>, who: Handle, rest: Option<Box<FileRest>>) {
        if let Some(rest) = rest.filter(|it| it.held.is_some()) {
            self.ask(desk, who, FilePart::Close(rest));
        }
    }

    /// Behind those that wait already.
    fn ask(&mut self, desk: &mut Desk<'_>, who: Handle, part: FilePart) {
        let shard = desk.shard();
        self.waiting.push_back(Box::new(FileAsk { shard, asker: who.to_raw(), part }));
        self.turn(desk);
    }
}

fn begin(desk: &mut Desk<'_>, who: Handle, head: &FileHead) {
    let fields: Vec<(&str, &str)> = head.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    desk.count_refusal(head.status);
    desk.begin_answer(who, head.status, &fields, head.length);
}

fn conditions(head: &Head<'_, '_>) -> Conditions {
    Conditions {
        if_match: joined(head, "If-Match"),
        if_none_match: joined(head, "If-None-Match"),
        if_modified_since: joined(head, "If-Modified-Since"),
        if_unmodified_since: joined(head, "If-Unmodified-Since"),
        if_range: joined(head, "If-Range"),
        range: joined(head, "Range"),
    }
}

/// RFC 9110 section 5.3: several lines of one name are one list.
fn joined(head: &Head<'_, '_>, name: &str) -> Option<String> {
    let lines: Vec<&str> = head.all(name).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
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
    let mut decoded = Vec::with_capacity(path.len());
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

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn names_are_decoded_and_ways_out_are_not_names() {
        assert_eq!(decode("a%20b/%C3%BC.txt").as_deref(), Some("a b/ü.txt"));
        assert_eq!(decode("").as_deref(), Some(""));
        assert_eq!(decode("..x/x..").as_deref(), Some("..x/x.."));
        for bad in ["..", "a/../b", "%2e%2e/x", ".%2E", "a%2fb", "a%00", "%ff", "%4", "%zz", "/etc/passwd", "./a"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}

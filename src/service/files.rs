//! Static files below a root.
//!
//! The shard never touches a file: it asks the control thread for the head and the first part, and for each
//! further part when the client has taken the one before.

use crate::mesh::{Cause, Conditions, FileAnswer, FileAsk, FileHead, FilePart, ToControl};
use crate::shard::door::{Desk, Room};
use crate::shard::slab::Handle;
use edgehold_wire::http1::Head;
use edgehold_wire::status::Status;
use slab::Slab;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// What a files route says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Nothing above this folder is ever served.
    pub root: Arc<PathBuf>,
}

/// Responses on their way.
#[derive(Default)]
pub struct Files(Slab<Download>);

/// A response that is not complete.
struct Download {
    client: Handle,
    /// What is to be asked for when the client has taken what is queued.
    rest: Option<(Arc<File>, u64, u64)>,
}

impl Files {
    /// Asks for the file.
    pub fn open(&mut self, desk: &mut Desk, who: Handle, head: &Head<'_, '_>, settings: &Settings, route: &str) {
        let below = head.path.strip_prefix(route).unwrap_or("");
        let Some(path) = decode(below) else {
            return desk.refuse(who, Status::NOT_FOUND, &[], "no such file");
        };
        let part = FilePart::Open {
            root: settings.root.clone(),
            path,
            location: folder_location(head),
            head_only: head.method == "HEAD",
            conditions: conditions(head),
        };
        let token = self.0.insert(Download { client: who, rest: None });
        desk.take(who, token as u32);
        if !ask(desk, who, part) {
            self.0.remove(token);
            desk.let_go(who);
            desk.refuse(who, Status::SERVICE_UNAVAILABLE, &[], "too many files are being read");
        }
    }

    /// The control thread has read something.
    pub fn answered(&mut self, desk: &mut Desk, answer: FileAnswer) {
        let who = Handle::from_raw(answer.asker);
        let Some(token) = desk.token(who).map(|it| it as usize) else { return };
        if answer.failed {
            return desk.cut(who, Cause::UpstreamLost);
        }
        if let Some(head) = &answer.head {
            begin(desk, who, head);
        }
        let room = desk.write(who, &answer.bytes);
        match answer.rest {
            None => {
                self.0.remove(token);
                desk.let_go(who);
                desk.finish_answer(who);
            }
            Some(rest) => {
                self.0[token].rest = Some(rest);
                if room == Room::Enough {
                    self.go_on(desk, token);
                }
            }
        }
    }

    /// The client has taken what was queued.
    pub fn drained(&mut self, desk: &mut Desk, _who: Handle, token: u32) {
        self.go_on(desk, token as usize);
    }

    /// The client has left.
    pub fn closed(&mut self, token: u32) {
        self.0.try_remove(token as usize);
    }

    fn go_on(&mut self, desk: &mut Desk, token: usize) {
        let Some(download) = self.0.get_mut(token) else { return };
        let Some((file, at, left)) = download.rest.take() else { return };
        if !ask(desk, download.client, FilePart::Next { file, at, left }) {
            desk.cut(download.client, Cause::Overload);
        }
    }
}

fn ask(desk: &mut Desk, who: Handle, part: FilePart) -> bool {
    let shard = desk.shard();
    desk.post(ToControl::File(Box::new(FileAsk { shard, asker: who.to_raw(), part })))
}

fn begin(desk: &mut Desk, who: Handle, head: &FileHead) {
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

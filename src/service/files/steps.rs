//! The steps of a download, one request at the desk each, and what their events lead to.
//!
//! ```text
//!   Queued ─▶ Folder ─▶ Opening ─▶ Refreshing ─▶ Reading ─▶ Paused ─▶ Queued
//!      │  once a tick    │   ▲         (other      │  ▲        ▲
//!      │                 ▼   │          machines)  ▼  │        │
//!      ├─ file held ─────┼───┼────────────────────▶ going on   │
//!      │            Linked─▶Named                  ▼           │
//!      └─▶ Closing                                Releasing ───┘  (too many are held open)
//! ```

use super::response::{self, Body};
use super::{Download, Files, Folder, Hold, answer, begin_with, fail, finish};
use crate::shard::service::{Backpressure, Desk, FileEvent, FileId, FileStat, Opening, Part, Span};
use std::ffi::CString;

/// Bytes of a part. A send takes 64 KiB less 53 bytes of loopback's segments: parts of 64 KiB would leave a short
/// send for each.
const PART: usize = 128 << 10;

/// Bytes that a response's head takes, at most, to be sent in one piece with what was read first.
const HEAD: usize = 1 << 10;

/// A token under which nobody waits for an event.
pub(super) const NOBODY: u32 = u32::MAX;

/// What a download waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its turn.
    Queued,
    /// The root's folder to be opened.
    Folder,
    /// Its file to be opened.
    Opening {
        /// By the name without links that the kernel has given it.
        resolved: bool,
    },
    /// The name to be resolved: for the kernel it leads out of the root, as every absolute link does.
    Linked,
    /// What was opened to be named as seen from the root.
    Named(FileId),
    /// What is known of the file to be asked anew.
    Refreshing,
    /// A part of the file.
    Reading,
    /// The client to take what is queued, or to leave; or the next turn.
    Paused,
    /// The file to be closed until the next part.
    Releasing,
    /// The file to be closed.
    Closing,
}

impl Files {
    /// What became of a download's request.
    pub(in crate::service) fn progress(&mut self, desk: &mut Desk<'_>, token: u32, event: FileEvent) {
        let token = token as usize;
        let Some(download) = self.downloads.get_mut(token) else { return };
        let root = download.root;
        match (download.step, event) {
            (Step::Folder, FileEvent::Opened(opened)) => self.folder_opened(desk, token, opened),
            (Step::Opening { resolved }, FileEvent::Opened(opened)) => self.opened(desk, token, opened, resolved),
            (Step::Linked, FileEvent::Opened(opened)) => self.link_opened(desk, token, opened),
            (Step::Named(file), FileEvent::Named(name)) => self.named(desk, token, file, name),
            (Step::Refreshing, FileEvent::Refreshed(stat)) => self.known(desk, token, stat),
            (Step::Reading, FileEvent::Read(part)) => self.has_read(desk, token, part),
            (Step::Releasing, FileEvent::Closed) => self.pause(desk, token),
            (Step::Closing, FileEvent::Closed) => self.end(desk, token),
            (step, event) => unreachable!("{event:?} in {step:?}"),
        }
        self.start_more(desk, root);
    }

    /// Its turn has come.
    pub(super) fn start(&mut self, desk: &mut Desk<'_>, token: usize) {
        let download = &self.downloads[token];
        if download.gone {
            return self.close(desk, token);
        }
        if download.file.is_some() {
            return self.read(desk, token);
        }
        let root = &self.roots[download.root];
        if root.folder.is_some_and(|it| it.checked == desk.now()) {
            return self.open_beneath(desk, token);
        }
        let (name, at_once) = (root.name.clone(), root.device.is_some());
        self.downloads[token].step = Step::Folder;
        desk.file_open(token as u32, (None, name), Opening::Folder, at_once);
    }

    // ---- the folder ----

    /// The folder at the root's place may have been exchanged. Whoever opens beneath the former one still may.
    fn folder_opened(&mut self, desk: &mut Desk<'_>, token: usize, opened: Result<(FileId, FileStat), i32>) {
        let root = &mut self.roots[self.downloads[token].root];
        let (file, stat) = match opened {
            Ok(opened) => opened,
            Err(errno) => {
                root.former.extend(root.folder.take().map(|it| it.file));
                return self.refuse(desk, token, errno);
            }
        };
        match &mut root.folder {
            Some(folder) if folder.place == stat.place => {
                folder.checked = desk.now();
                desk.file_close(NOBODY, file, true);
            }
            folder => {
                let local = root.device == Some(stat.place.0);
                let now = Folder { file, place: stat.place, local, checked: desk.now() };
                root.former.extend(folder.replace(now).map(|it| it.file));
            }
        }
        self.open_beneath(desk, token);
    }

    // ---- the file ----

    fn open_beneath(&mut self, desk: &mut Desk<'_>, token: usize) {
        let download = &self.downloads[token];
        let name = match (&download.query, &download.name) {
            (Some(query), _) => CString::new(query.name.as_str()).unwrap_or_default(),
            (None, name) => name.clone().unwrap_or_default(),
        };
        self.open_name(desk, token, name, false);
    }

    fn open_name(&mut self, desk: &mut Desk<'_>, token: usize, name: CString, resolved: bool) {
        let download = &mut self.downloads[token];
        let Some(folder) = self.roots[download.root].folder else { return self.refuse(desk, token, libc::ENOENT) };
        download.step = Step::Opening { resolved };
        desk.file_open(token as u32, (Some(folder.file), name), Opening::Beneath, folder.local);
    }

    fn opened(&mut self, desk: &mut Desk<'_>, token: usize, opened: Result<(FileId, FileStat), i32>, resolved: bool) {
        let download = &mut self.downloads[token];
        match opened {
            Ok((file, stat)) => {
                download.file = Some(file);
                download.local =
                    self.roots[download.root].folder.is_some_and(|it| it.local && it.place.0 == stat.place.0);
                if download.local {
                    return self.known(desk, token, Ok(stat));
                }
                download.step = Step::Refreshing;
                desk.file_refresh(token as u32, file);
            }
            Err(libc::EXDEV) if !resolved => self.follow_link(desk, token),
            Err(errno) => self.refuse(desk, token, errno),
        }
    }

    /// The kernel takes every absolute link for a way out. Where one leads back into the root, what it leads to is
    /// opened by its name without links. The kernel looks at that name again, so that it does not matter what changes
    /// meanwhile.
    fn follow_link(&mut self, desk: &mut Desk<'_>, token: usize) {
        let download = &mut self.downloads[token];
        let Some(folder) = self.roots[download.root].folder else { return self.refuse(desk, token, libc::ENOENT) };
        let name = match (&download.query, &download.name) {
            (Some(query), _) => CString::new(query.name.as_str()).unwrap_or_default(),
            (None, name) => name.clone().unwrap_or_default(),
        };
        download.step = Step::Linked;
        desk.file_open(token as u32, (Some(folder.file), name), Opening::Name, false);
    }

    fn link_opened(&mut self, desk: &mut Desk<'_>, token: usize, opened: Result<(FileId, FileStat), i32>) {
        let download = &mut self.downloads[token];
        match (opened, self.roots[download.root].folder) {
            (Ok((file, _)), Some(folder)) => {
                download.step = Step::Named(file);
                desk.file_name(token as u32, file, folder.file);
            }
            (Ok((file, _)), None) => {
                desk.file_close(NOBODY, file, true);
                self.refuse(desk, token, libc::ENOENT);
            }
            (Err(errno), _) => self.refuse(desk, token, errno),
        }
    }

    /// What was opened for its name only is closed without waiting: nothing was opened of the file itself.
    fn named(&mut self, desk: &mut Desk<'_>, token: usize, file: FileId, name: Option<CString>) {
        desk.file_close(NOBODY, file, true);
        match name {
            Some(name) if !self.downloads[token].gone => self.open_name(desk, token, name, true),
            _ => self.refuse(desk, token, libc::EXDEV),
        }
    }

    /// The file, and what is known of it.
    fn known(&mut self, desk: &mut Desk<'_>, token: usize, stat: Result<FileStat, i32>) {
        let download = &mut self.downloads[token];
        let stat = match stat {
            Ok(stat) => stat,
            Err(errno) => return self.refuse(desk, token, errno),
        };
        let identity = (stat.place, stat.length, stat.modified);
        if download.gone {
            return self.close(desk, token);
        }
        let Some(query) = download.query.take() else {
            // A file that was not held open must be the one that it was.
            return if identity == download.identity { self.read(desk, token) } else { self.fail(desk, token) };
        };
        let response = response::respond(&download.site, &query, &stat);
        let Body::Span(at, left) = response.body else {
            answer(desk, download.client, &response);
            download.gone = true;
            return self.close(desk, token);
        };
        (download.at, download.left, download.identity) = (at, left, identity);
        download.name = CString::new(query.name).ok();
        download.response = Some(Box::new(response));
        self.read(desk, token);
    }

    /// The name cannot be opened, or not be looked at.
    fn refuse(&mut self, desk: &mut Desk<'_>, token: usize, errno: i32) {
        let download = &mut self.downloads[token];
        match download.query.take().filter(|_| !download.gone) {
            Some(query) => {
                answer(desk, download.client, &response::refuse(&download.site, &query, errno));
                download.gone = true;
                self.close(desk, token);
            }
            None => self.fail(desk, token),
        }
    }

    // ---- parts ----

    fn read(&mut self, desk: &mut Desk<'_>, token: usize) {
        let download = &mut self.downloads[token];
        let Some(file) = download.file else { return self.fail(desk, token) };
        download.step = Step::Reading;
        let front = if download.response.is_some() { HEAD } else { 0 };
        let len = usize::try_from(download.left).map_or(PART, |left| left.min(PART - front));
        let span = Span { at: download.at, len, front };
        desk.file_read(token as u32, download.client, file, span, download.local);
    }

    fn has_read(&mut self, desk: &mut Desk<'_>, token: usize, part: Result<Part, i32>) {
        let download = &mut self.downloads[token];
        let Ok(part) = part else { return self.fail(desk, token) };
        if download.gone || part.is_empty() {
            desk.discard_part(part);
            return self.fail(desk, token);
        }
        let len = part.len() as u64;
        (download.at, download.left) = (download.at + len, download.left - len);
        let room = match download.response.take() {
            Some(response) => begin_with(desk, download.client, &response, part),
            None => desk.write_part(download.client, part),
        };
        download.full = room != Backpressure::Ready;
        if download.left > 0 {
            return self.hold(desk, token);
        }
        finish(desk, download.client);
        download.gone = true;
        self.close(desk, token);
    }

    /// Between two parts a file is held open while not too many are.
    fn hold(&mut self, desk: &mut Desk<'_>, token: usize) {
        let download = &mut self.downloads[token];
        if download.held.is_none() {
            download.held = Hold::new(&self.settings);
        }
        match download.file.take_if(|_| download.held.is_none()) {
            Some(file) => {
                download.step = Step::Releasing;
                desk.file_close(token as u32, file, download.local);
            }
            None => self.pause(desk, token),
        }
    }

    /// Until the client has taken what is queued, or until the next turn.
    fn pause(&mut self, desk: &mut Desk<'_>, token: usize) {
        self.rests(desk, token);
        let download = &mut self.downloads[token];
        download.step = Step::Paused;
        if download.gone {
            download.step = Step::Queued;
            self.roots[download.root].closing.push_back(token);
        } else if !download.full {
            download.step = Step::Queued;
            self.going_on.push(token);
        }
    }

    // ---- ends ----

    /// The response cannot be completed.
    fn fail(&mut self, desk: &mut Desk<'_>, token: usize) {
        let Download { client, gone, .. } = &mut self.downloads[token];
        if !std::mem::replace(gone, true) {
            fail(desk, *client);
        }
        self.close(desk, token);
    }

    /// Nobody waits for it: its file is closed, and that is its end.
    fn close(&mut self, desk: &mut Desk<'_>, token: usize) {
        let download = &mut self.downloads[token];
        match download.file.take() {
            Some(file) => {
                download.step = Step::Closing;
                desk.file_close(token as u32, file, download.local);
            }
            None => self.end(desk, token),
        }
    }

    fn end(&mut self, desk: &mut Desk<'_>, token: usize) {
        self.rests(desk, token);
        self.downloads.remove(token);
    }
}

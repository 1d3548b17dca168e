//! What services ask about files, and what the ring holds of it.
//!
//! A service asks at the desk, and is told of each request once, by its own token ([`Services::file`]). What a turn has
//! collected is asked of the kernel before the turn ends: first so that nothing is waited for, where the service says
//! that the file system is one of this machine, else, or where that would not do, through the ring. A read goes into
//! chunks of the pool, which are the kernel's until it is done, whatever becomes of the client meanwhile.

use super::Shard;
use super::conn::State;
use super::desk::{Backpressure, Desk};
use super::outbox::Outbox;
use super::service::Services;
use super::slab::Handle;
use super::work::FRAME;
use crate::engine::{Completion, FileId, FileRequest, FileStat, GATHER, Opening, Operation, Piece, Ring, Tag};
use edgehold_wire::status::Status;
use std::collections::VecDeque;
use std::ffi::{CStr, CString};

/// What became of a request about a file; an error is an errno.
#[derive(Debug)]
pub enum FileEvent {
    /// A file was opened, and this is what the kernel knows of it. It is the service's to close.
    Opened(Result<(FileId, FileStat), i32>),
    /// What is known of a file was asked anew.
    Refreshed(Result<FileStat, i32>),
    /// What a file is called beneath a folder; `None`: it does not lie there.
    Named(Option<CString>),
    /// Bytes were read; none: the file ends before them. They are the service's to queue or to discard.
    Read(Result<Part, i32>),
    /// A file is closed.
    Closed,
}

/// Bytes of a file in the memory of the shard.
#[derive(Debug)]
#[must_use = "its memory comes back when it is queued or discarded"]
pub struct Part {
    blank: Outbox,
    front: usize,
    len: usize,
}

impl Part {
    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The file ended before them.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Which bytes of a file, and room for the response's head before them. Both together are at most what a send takes.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The place of the first.
    pub at: u64,
    /// How many; at least one.
    pub len: usize,
    /// Bytes for the head; none where they are not the first of the body.
    pub front: usize,
}

/// Something a service has asked for.
pub struct Wanted {
    token: u32,
    at_once: bool,
    what: What,
}

enum What {
    Open { from: Option<FileId>, name: CString, opening: Opening },
    Refresh(FileId),
    Name { file: FileId, folder: FileId },
    Read { who: Handle, file: FileId, span: Span },
    Close(FileId),
}

/// A request that the ring has.
struct InFlight {
    token: u32,
    generation: u32,
    about: About,
}

/// What the kernel may read or write until the request completes.
enum About {
    Open(#[allow(dead_code, reason = "the kernel reads it")] CString),
    Refresh(FileId),
    Read(Outbox, usize),
    Close,
}

/// The requests of a shard: those that no one has looked at yet, and those that the ring has, by the slot of their tag.
#[derive(Default)]
pub struct FileTable {
    wanted: VecDeque<Wanted>,
    in_flight: Vec<Option<InFlight>>,
    free: Vec<u32>,
    /// Requests that the ring was ever given: the generation of the next.
    given: u32,
}

impl FileTable {
    /// Something is to be asked in the next turn.
    pub fn has_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Names that the kernel may still read stay where they are for as long as the process lives.
    pub fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.in_flight));
    }

    /// A tag for what is in flight from now on.
    fn begin(&mut self, token: u32, about: About) -> Tag {
        let slot = self.free.pop().unwrap_or(self.in_flight.len() as u32);
        if slot as usize == self.in_flight.len() {
            self.in_flight.push(None);
        }
        self.given = self.given.wrapping_add(1) & 0x00ff_ffff;
        self.in_flight[slot as usize] = Some(InFlight { token, generation: self.given, about });
        Tag::new(slot, self.given, Operation::File)
    }

    /// What has come back. `None`: the ring was never asked for it.
    fn end(&mut self, tag: Tag) -> Option<InFlight> {
        let place = self.in_flight.get_mut(tag.slot() as usize)?;
        let done = place.take_if(|it| it.generation == tag.generation())?;
        self.free.push(tag.slot());
        Some(done)
    }
}

/// What a service asks. `at_once`: the file system is known to answer from its caches without waiting for anybody.
impl Desk<'_> {
    /// Opens a name, from a folder on or (`None`) the whole name.
    pub fn file_open(&mut self, token: u32, (from, name): (Option<FileId>, CString), opening: Opening, at_once: bool) {
        self.want(token, at_once, What::Open { from, name, opening });
    }

    /// Asks whoever keeps the file what is known of it.
    pub fn file_refresh(&mut self, token: u32, file: FileId) {
        self.want(token, false, What::Refresh(file));
    }

    /// Asks what a file is called beneath a folder.
    pub fn file_name(&mut self, token: u32, file: FileId, folder: FileId) {
        self.want(token, true, What::Name { file, folder });
    }

    /// Reads bytes for a client, or fewer.
    pub fn file_read(&mut self, token: u32, who: Handle, file: FileId, span: Span, at_once: bool) {
        self.want(token, at_once, What::Read { who, file, span });
    }

    /// Closes a file that nothing is asked about.
    pub fn file_close(&mut self, token: u32, file: FileId, at_once: bool) {
        self.want(token, at_once, What::Close(file));
    }

    fn want(&mut self, token: u32, at_once: bool, what: What) {
        self.core.files.wanted.push_back(Wanted { token, at_once, what });
    }

    /// Bytes of a file, as part of a response's body.
    pub fn write_part(&mut self, who: Handle, part: Part) -> Backpressure {
        match self.core.slab.get(who) {
            Some(conn) if !matches!(conn.state, State::Closing | State::Leaving) => {
                self.core.put_filled(who, part.blank, &[], part.len);
                self.core.room(who, Ok(()))
            }
            _ => {
                self.discard_part(part);
                Backpressure::Gone
            }
        }
    }

    /// The head of a response, and the first bytes of its body. `length`: of the whole body.
    pub fn begin_answer_with(
        &mut self,
        who: Handle,
        (status, fields, length): (Status, &[(&str, &str)], Option<u64>),
        part: Part,
    ) -> Backpressure {
        let Some(head) = self.response_head(who, (status, fields, length)) else {
            self.discard_part(part);
            return Backpressure::Gone;
        };
        let fits = !part.is_empty() && head.len() <= part.front;
        let room = if fits && !matches!(self.core.slab[who.slot].state, State::Closing | State::Leaving) {
            self.core.put_filled(who, part.blank, &head, part.len);
            self.core.room(who, Ok(()))
        } else {
            self.core.write_urgent(who, [&head, b""]);
            self.write_part(who, part)
        };
        self.core.scratch = head;
        room
    }

    /// Nobody wants them.
    pub fn discard_part(&mut self, mut part: Part) {
        self.core.pool.clear(&mut part.blank);
    }
}

impl<R: Ring, S: Services> Shard<R, S> {
    /// What services have asked about files. A quarter of a turn is theirs whatever has come.
    pub(super) fn do_files(&mut self) -> u32 {
        let (begun, mut done) = (self.core.work.done(), 0);
        while self.core.work.has_room_since(begun) {
            let Some(wanted) = self.core.files.wanted.pop_front() else { break };
            done += 1;
            self.core.work.add(FRAME);
            self.guarded(None, |shard| shard.ask(wanted));
        }
        done
    }

    fn ask(&mut self, Wanted { token, at_once, what }: Wanted) {
        match what {
            What::Open { from, name, opening } => self.open_file(token, from, name, opening, at_once),
            What::Refresh(file) => {
                let tag = self.core.files.begin(token, About::Refresh(file));
                self.submit(tag, &FileRequest::Refresh(file));
            }
            What::Name { file, folder } => {
                let name = self.ring.file_name(file, folder);
                self.service.file(&mut self.core.desk(), token, FileEvent::Named(name));
            }
            What::Read { who, file, span } => self.read_file(token, who, file, span, at_once),
            What::Close(file) => self.close_file(token, file, at_once),
        }
    }

    fn open_file(&mut self, token: u32, from: Option<FileId>, name: CString, opening: Opening, at_once: bool) {
        let request = FileRequest::Open { from, name: &name, opening };
        if let Some(result) = self.at_once(at_once, &request) {
            return self.opened(token, result);
        }
        // The name lies on the heap, where it stays when its owner is moved.
        let place: *const CStr = name.as_c_str();
        let tag = self.core.files.begin(token, About::Open(name));
        // SAFETY: the table keeps the name until the request completes.
        let name = unsafe { &*place };
        self.submit(tag, &FileRequest::Open { from, name, opening });
    }

    fn read_file(&mut self, token: u32, who: Handle, file: FileId, span: Span, at_once: bool) {
        let Span { at, len, front } = span;
        let Ok(blank) = self.core.blank(who, front, len) else {
            if self.core.slab.get(who).is_some() {
                self.core.overloaded(who);
            }
            return self.service.file(&mut self.core.desk(), token, FileEvent::Read(Err(libc::ENOBUFS)));
        };
        let (pieces, count): ([Piece; GATHER], usize) = self.core.pool.places(&blank, len);
        let request = FileRequest::Read { file, at, into: &pieces[..count] };
        if let Some(result) = self.at_once(at_once, &request) {
            return self.file_read(token, (blank, front), result);
        }
        let tag = self.core.files.begin(token, About::Read(blank, front));
        self.submit(tag, &request);
    }

    fn close_file(&mut self, token: u32, file: FileId, at_once: bool) {
        let request = FileRequest::Close(file);
        if self.at_once(at_once, &request).is_some() {
            return self.service.file(&mut self.core.desk(), token, FileEvent::Closed);
        }
        let tag = self.core.files.begin(token, About::Close);
        self.submit(tag, &request);
    }

    /// What the kernel can do without waiting, if the service says that it can be asked so.
    fn at_once(&mut self, at_once: bool, request: &FileRequest<'_>) -> Option<Result<u32, i32>> {
        if !at_once {
            return None;
        }
        // SAFETY: a service names only files that it has opened and not closed, and the pieces of a read are chunks
        // that nobody else knows of.
        unsafe { self.ring.file_at_once(request) }
    }

    fn submit(&mut self, tag: Tag, request: &FileRequest<'_>) {
        // SAFETY: a service closes a file when nothing else is asked about it; what the request points to is kept in
        // the table of those in flight (chunks: `About::Read`) until its completion.
        unsafe { self.ring.file(tag, request) }
    }

    /// The ring has done what was asked about a file.
    pub(super) fn file_done(&mut self, completion: &Completion) {
        let Some(InFlight { token, about, .. }) = self.core.files.end(completion.tag) else {
            self.core.counters.late_completions += 1;
            return;
        };
        let result = completion.result;
        match about {
            About::Open(_) => self.opened(token, result),
            About::Read(blank, front) => self.file_read(token, (blank, front), result),
            About::Close => self.service.file(&mut self.core.desk(), token, FileEvent::Closed),
            About::Refresh(file) => {
                // SAFETY: the file of a request in flight is open.
                let stat = result.and_then(|_| unsafe { self.ring.file_stat(file) });
                self.service.file(&mut self.core.desk(), token, FileEvent::Refreshed(stat));
            }
        }
    }

    fn opened(&mut self, token: u32, result: Result<u32, i32>) {
        let opened = result.and_then(|number| {
            let file = FileId::from_result(number);
            // SAFETY: it was opened just now.
            let stat = unsafe { self.ring.file_stat(file) };
            stat.map(|stat| (file, stat)).inspect_err(|_| {
                // SAFETY: as above; nobody else knows of it.
                unsafe { self.ring.file_at_once(&FileRequest::Close(file)) };
            })
        });
        self.service.file(&mut self.core.desk(), token, FileEvent::Opened(opened));
    }

    fn file_read(&mut self, token: u32, (blank, front): (Outbox, usize), result: Result<u32, i32>) {
        let mut part = Part { blank, front, len: 0 };
        let read = match result {
            Ok(len) => {
                part.len = len as usize;
                self.core.work.add_copied(part.len);
                Ok(part)
            }
            Err(errno) => {
                self.core.desk().discard_part(part);
                Err(errno)
            }
        };
        self.service.file(&mut self.core.desk(), token, FileEvent::Read(read));
    }
}

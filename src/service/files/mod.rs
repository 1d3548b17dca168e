//! Static files below a root.
//!
//! A response is a `Download`: the name is opened beneath the root, what the kernel knows of the file decides what is
//! answered ([`response`]), and the body is read part by part, as the client takes it. Each step is one request at the
//! desk, and its event leads to the next (`steps.rs`). The kernel itself keeps to the root (openat2 with
//! RESOLVE_BENEATH): neither `..` nor a symbolic link leads out of it, whatever happens in the folder meanwhile.
//!
//! Of the downloads of one root only `AT_ONE_ROOT` have a request with the kernel at a time, the others wait in a
//! queue: so a disk that hangs holds nobody but those who ask for what lies on it.

pub mod response;
mod steps;

use super::{Admits, Request, Service};
use crate::mesh::Cause;
use crate::shard::clock::ticks;
use crate::shard::service::{Backpressure, Desk, Event, FileId, Part, Verdict};
use crate::shard::slab::Handle;
use edgehold_wire::http1::Head;
use edgehold_wire::status::Status;
pub use response::Site;
use response::{Body, FileQuery, Response};
use slab::Slab;
use std::collections::VecDeque;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use steps::Step;

/// Downloads of one root that may have a request with the kernel at a time.
const AT_ONE_ROOT: usize = 4;

/// Those of all roots: sixteen disks may hang before other roots are held up. A ring has as many threads for what must
/// be waited for.
pub const AT_A_TIME: usize = 16 * AT_ONE_ROOT;

/// What a files route says.
#[derive(Clone, Debug)]
pub struct FilesPlan {
    /// Where the files lie.
    pub site: Arc<Site>,
}

/// Limits of files, for all routes of a shard.
#[derive(Clone, Debug)]
pub struct FilesSettings {
    /// Requests that may wait at one root.
    pub queue: usize,
    /// How long one may.
    pub wait: Duration,
    /// Files that may be held open between two parts, over all shards.
    pub held_most: u64,
    /// How many are.
    pub held: Arc<AtomicU64>,
}

impl Default for FilesSettings {
    fn default() -> FilesSettings {
        FilesSettings { queue: 1024, wait: Duration::from_secs(10), held_most: 1024, held: Arc::default() }
    }
}

/// Responses on their way.
pub struct Files {
    downloads: Slab<Download>,
    roots: Vec<Root>,
    /// Downloads that have a request with the kernel.
    busy: usize,
    /// Downloads that go on with their next part in the next turn.
    going_on: Vec<usize>,
    settings: FilesSettings,
    /// The tick in which those who have waited too long were looked for.
    looked: u32,
}

/// A folder.
struct Root {
    /// Its name, as the kernel takes it.
    name: CString,
    /// The file system of [`Site::device`].
    device: Option<u64>,
    folder: Option<Folder>,
    /// Folders that were at its place before, until nobody opens anything beneath them.
    former: Vec<FileId>,
    /// Its downloads that have a request with the kernel.
    busy: usize,
    /// Downloads whose next step waits for its turn, with the tick until which it may.
    queue: VecDeque<(u32, usize)>,
    /// Downloads without a client, whose file is to be closed.
    closing: VecDeque<usize>,
}

/// The folder at a root's place, opened.
#[derive(Clone, Copy)]
struct Folder {
    file: FileId,
    place: (u64, u64),
    /// It is on a file system of this machine.
    local: bool,
    /// The tick in which the root was found to be this folder.
    checked: u32,
}

/// A response that is not complete, or a file that has still to be closed.
struct Download {
    client: Handle,
    /// Number of the root.
    root: usize,
    /// What is said of its files.
    site: Arc<Site>,
    step: Step,
    /// Nobody waits for it any more.
    gone: bool,
    /// The client has more to take before the next part is read.
    full: bool,
    /// What was asked, until it is known what is answered.
    query: Option<Box<FileQuery>>,
    /// What is answered, until the first part is read.
    response: Option<Box<Response>>,
    file: Option<FileId>,
    /// The file is on the root's own file system, one of this machine.
    local: bool,
    held: Option<Hold>,
    /// Its name below the root, from the first part on.
    name: Option<CString>,
    /// Which file it was, and which version of it: place, length, and the time of its last change.
    identity: Identity,
    /// Where the next part begins.
    at: u64,
    /// Bytes that are still to be read.
    left: u64,
}

/// What tells that a file opened anew is the one that was opened before.
type Identity = ((u64, u64), u64, (i64, u32));

/// A file that is counted for as long as it is held open between two parts.
struct Hold(Arc<AtomicU64>);

impl Hold {
    /// `None`: too many are.
    fn new(settings: &FilesSettings) -> Option<Hold> {
        let hold = Hold(settings.held.clone());
        // The count is given back when the value is dropped, also here.
        (settings.held.fetch_add(1, Ordering::Relaxed) < settings.held_most).then_some(hold)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service for Files {
    type Plan = FilesPlan;
    type Settings = FilesSettings;

    const ADMITS: Admits = Admits::Reading;

    fn new(settings: &FilesSettings) -> Files {
        let settings = settings.clone();
        Files { downloads: Slab::new(), roots: Vec::new(), busy: 0, going_on: Vec::new(), settings, looked: 0 }
    }

    fn exchange(&mut self, _desk: &mut Desk<'_>, settings: &FilesSettings) {
        self.settings = settings.clone();
    }

    fn request(&mut self, desk: &mut Desk<'_>, request: &Request<'_, '_>, plan: &FilesPlan) -> Verdict {
        self.open(desk, request.who, request.head, plan, request.path);
        Verdict::Served
    }

    fn event(&mut self, desk: &mut Desk<'_>, _who: Handle, token: u32, event: Event<'_>) {
        match event {
            Event::Writable => self.writable(desk, token),
            Event::Closed(_) => self.closed(desk, token),
            _ => {}
        }
    }

    fn poll(&mut self, desk: &mut Desk<'_>, _budget: u32) -> u32 {
        self.turn(desk)
    }
}

impl Files {
    /// Asks for the file.
    fn open(&mut self, desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>, settings: &FilesPlan, route: &str) {
        let below = head.path.strip_prefix(route).unwrap_or("");
        let Some(query) = FileQuery::new(head, below) else {
            return desk.refuse(who, Status::NOT_FOUND, &[], "no such file");
        };
        let root = self.root(&settings.site);
        if self.roots[root].queue.len() >= self.settings.queue {
            desk.counters().files_refused += 1;
            let later = [("Retry-After", "1")];
            return desk.refuse(who, Status::SERVICE_UNAVAILABLE, &later, "too many files are being read");
        }
        let token = self.downloads.insert(Download::new(who, root, settings.site.clone(), query));
        desk.take(who, token as u32);
        self.enqueue(desk, token);
    }

    /// The client has taken what was queued.
    fn writable(&mut self, desk: &mut Desk<'_>, token: u32) {
        let Some(download) = self.downloads.get_mut(token as usize) else { return };
        download.full = false;
        if download.step == Step::Paused {
            self.enqueue(desk, token as usize);
        }
    }

    /// The client has left. Its file is closed when nothing is asked about it.
    fn closed(&mut self, desk: &mut Desk<'_>, token: u32) {
        let token = token as usize;
        let Some(download) = self.downloads.get_mut(token) else { return };
        download.gone = true;
        if download.step == Step::Paused {
            download.step = Step::Queued;
            self.roots[download.root].closing.push_back(token);
            self.start_some(desk, self.downloads[token].root);
        }
    }

    /// Begins next parts, and tells those who have waited too long. How many.
    fn turn(&mut self, desk: &mut Desk<'_>) -> u32 {
        let going_on = std::mem::take(&mut self.going_on);
        let mut done = going_on.len() as u32;
        going_on.into_iter().for_each(|token| self.enqueue(desk, token));
        if self.looked != desk.now() {
            self.looked = desk.now();
            done += self.expire(desk);
        }
        desk.counters().files_queued = self.roots.iter().map(|it| it.queue.len() as u64).sum();
        done
    }

    fn root(&mut self, site: &Arc<Site>) -> usize {
        let known = self.roots.iter().position(|it| it.name.as_bytes() == site.root.as_os_str().as_bytes());
        known.unwrap_or_else(|| {
            self.roots.push(Root::new(site));
            self.roots.len() - 1
        })
    }

    /// Waits for its turn, behind those of its root that wait already.
    fn enqueue(&mut self, desk: &mut Desk<'_>, token: usize) {
        let download = &mut self.downloads[token];
        let root = download.root;
        download.step = Step::Queued;
        self.roots[root].queue.push_back((desk.now() + ticks(self.settings.wait), token));
        self.start_some(desk, root);
    }

    /// Those whose turn it is take their next step.
    fn start_some(&mut self, desk: &mut Desk<'_>, root: usize) {
        while self.roots[root].busy < AT_ONE_ROOT && self.busy < AT_A_TIME {
            let Some(token) = self.roots[root].take_next() else { return };
            self.roots[root].busy += 1;
            self.busy += 1;
            self.start(desk, token);
        }
    }

    /// Also those of other roots, where all were held up.
    fn start_more(&mut self, desk: &mut Desk<'_>, root: usize) {
        self.start_some(desk, root);
        if self.busy == AT_A_TIME - 1 {
            (0..self.roots.len()).for_each(|root| self.start_some(desk, root));
        }
    }

    /// The download has no request with the kernel any more.
    fn rests(&mut self, desk: &mut Desk<'_>, token: usize) {
        let root = &mut self.roots[self.downloads[token].root];
        root.busy -= 1;
        self.busy -= 1;
        if root.busy == 0 {
            root.former.drain(..).for_each(|folder| desk.file_close(steps::NOBODY, folder, true));
        }
    }

    fn expire(&mut self, desk: &mut Desk<'_>) -> u32 {
        let mut expired = 0;
        for root in 0..self.roots.len() {
            while let Some(token) = self.roots[root].take_late(desk.now()) {
                expired += 1;
                self.give_up(desk, token);
            }
            self.start_some(desk, root);
        }
        expired
    }

    /// It has waited too long. What it holds open has still to be closed, for which it is never too late.
    fn give_up(&mut self, desk: &mut Desk<'_>, token: usize) {
        let download = &mut self.downloads[token];
        if !download.gone {
            desk.counters().files_refused += 1;
            match download.query.take() {
                Some(query) => answer(desk, download.client, &response::busy(&query)),
                None => fail(desk, download.client),
            }
            download.gone = true;
        }
        if download.file.is_some() {
            self.roots[download.root].closing.push_back(token);
        } else {
            self.downloads.remove(token);
        }
    }
}

impl Root {
    fn new(site: &Site) -> Root {
        let name = CString::new(site.root.as_os_str().as_bytes()).unwrap_or_default();
        let (queue, closing) = (VecDeque::new(), VecDeque::new());
        Root { name, device: site.device, folder: None, former: Vec::new(), busy: 0, queue, closing }
    }

    fn take_next(&mut self) -> Option<usize> {
        self.closing.pop_front().or_else(|| self.queue.pop_front().map(|it| it.1))
    }

    /// All wait for the same time, so the first is the one that has waited the longest.
    fn take_late(&mut self, now: u32) -> Option<usize> {
        self.queue.front().is_some_and(|it| it.0 <= now).then(|| self.queue.pop_front()).flatten().map(|it| it.1)
    }
}

impl Download {
    fn new(client: Handle, root: usize, site: Arc<Site>, query: FileQuery) -> Download {
        Download {
            client,
            root,
            site,
            step: Step::Queued,
            gone: false,
            full: false,
            query: Some(Box::new(query)),
            response: None,
            file: None,
            local: false,
            held: None,
            name: None,
            identity: Identity::default(),
            at: 0,
            left: 0,
        }
    }
}

/// A response without bytes of a file. The connection is the service's no longer.
fn answer(desk: &mut Desk<'_>, who: Handle, response: &Response) {
    begin(desk, who, response);
    if let Body::Words(words) = response.body {
        desk.write(who, words.as_bytes());
    }
    finish(desk, who);
}

fn begin(desk: &mut Desk<'_>, who: Handle, response: &Response) {
    desk.count_refusal(response.status);
    desk.begin_answer(who, response.status, &fields(response), response.length);
}

/// With the first bytes of the file.
fn begin_with(desk: &mut Desk<'_>, who: Handle, response: &Response, part: Part) -> Backpressure {
    desk.count_refusal(response.status);
    desk.begin_answer_with(who, (response.status, &fields(response), response.length), part)
}

fn fields(response: &Response) -> Vec<(&str, &str)> {
    response.fields.iter().map(|(name, value)| (*name, value.as_ref())).collect()
}

fn finish(desk: &mut Desk<'_>, who: Handle) {
    desk.release(who);
    desk.finish_answer(who);
}

/// The response cannot be completed.
fn fail(desk: &mut Desk<'_>, who: Handle) {
    desk.release(who);
    desk.cut(who, Cause::UpstreamLost);
}

//! The scripted ring: the kernel and the far ends of its sockets, played from a seed.
//!
//! It keeps to what the real kernel promises and uses every freedom that the kernel has: it cuts what comes and
//! what goes anywhere, lets operations wait, ends multishots without a reason, runs out of buffers, and hands over
//! few completions at a time. And it holds the shard to its own promises: one operation of a kind at a time, no
//! close while the kernel holds something, bytes of a send unchanged until it completes, buffers given back once.
//! A broken promise panics, and the seed plays it again.

use super::buffers::{Lent, Memory};
use super::{
    Address, Completion, FileId, FileKind, FileRequest, FileStat, Opening, Operation, Piece, Ring, RingCounts, Tag,
};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CStr, CString};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// A small generator (xorshift64*): the same seed, the same play.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From any seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`, which is not zero.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.roll() >> 33) as usize) % n
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// How unkind the kernel is, in percent of the occasions.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    /// An operation that could go on waits for another turn.
    pub delay: usize,
    /// A multishot ends without a reason.
    pub end_multishot: usize,
    /// A connection breaks, in each turn, in 10 000 cases.
    pub reset: usize,
    /// An accept fails.
    pub accept_error: usize,
    /// Provided buffers, a power of two, and the bytes of each.
    pub buffers: (u16, u32),
    /// A receive that fails names a buffer all the same, and has used it up, as Linux 6.1 does it.
    pub buffer_with_error: usize,
    /// Completions handed over between two turns, at most.
    pub completions: usize,
    /// Bytes a socket takes that its peer has not read.
    pub window: usize,
}

/// The far end of a connection, by number.
pub type FarEnd = usize;

/// What a far end is to the shard.
#[derive(Clone, Debug)]
struct Socket {
    slot: Option<u32>,
    /// Of a client.
    address: Option<IpAddr>,
    to_shard: VecDeque<u8>,
    from_shard: VecDeque<u8>,
    /// The far end has sent FIN.
    ended: bool,
    /// The shard has sent FIN, or closed.
    shard_ended: bool,
    broken: bool,
    /// Something has come since the poll last spoke.
    edge: bool,
}

/// Operations in flight on one slot.
#[derive(Default)]
struct InFlight {
    socket: Option<FarEnd>,
    recv: Option<Tag>,
    /// The receive ends with what it brings.
    next_only: bool,
    once: Option<Tag>,
    poll: Option<Tag>,
    send: Option<Sending>,
    connect: Option<Tag>,
    shutdown: Option<Tag>,
}

impl InFlight {
    fn is_idle(&self) -> bool {
        let plain = [self.recv, self.once, self.poll, self.connect, self.shutdown];
        plain.iter().all(Option::is_none) && self.send.is_none()
    }
}

struct Sending {
    tag: Tag,
    pieces: Vec<Piece>,
    /// What the bytes were when they were handed over.
    copy: Vec<u8>,
    /// Done with whatever there is room for.
    now: bool,
}

/// A call of the shard to an upstream, which a far end has to answer.
#[derive(Clone, Debug)]
pub struct Call {
    /// To whom.
    pub to: Address,
    slot: u32,
}

/// A file of the play, or a folder. Every folder has all files in it.
#[derive(Clone)]
struct Played {
    place: u64,
    /// `None`: a folder.
    content: Option<Rc<[u8]>>,
    /// The folder that it was opened from.
    folder: Rc<str>,
}

/// What is asked about a file, until it is done.
enum Asked {
    Open(CString, Opening, Rc<str>),
    Refresh(FileId),
    Read(FileId, u64, Vec<Piece>),
    Close(FileId),
}

/// The scripted ring.
pub struct Script {
    dice: Dice,
    temper: Temper,
    slots: BTreeMap<u32, InFlight>,
    sockets: Vec<Socket>,
    accepts: Vec<(Tag, usize)>,
    arrivals: VecDeque<(FarEnd, usize)>,
    calls: VecDeque<Call>,
    memory: Rc<Memory>,
    /// Buffers that the shard has lent.
    buffers: VecDeque<u16>,
    ready: VecDeque<Completion>,
    handed_over: usize,
    now: Duration,
    ticks: Vec<Duration>,
    listening: bool,
    files: BTreeMap<String, (u64, Rc<[u8]>)>,
    places: u64,
    opened: BTreeMap<i32, Played>,
    numbers: i32,
    asked: Vec<(Tag, Asked)>,
    hung: Option<String>,
}

impl Script {
    /// A kernel with nothing in it.
    ///
    /// # Panics
    /// There is no memory for its buffers.
    pub fn new(seed: u64, temper: Temper) -> Script {
        Script {
            dice: Dice::new(seed),
            temper,
            slots: BTreeMap::new(),
            sockets: Vec::new(),
            accepts: Vec::new(),
            arrivals: VecDeque::new(),
            calls: VecDeque::new(),
            memory: Memory::new(temper.buffers.0, temper.buffers.1).expect("memory for a few buffers"),
            buffers: VecDeque::new(),
            ready: VecDeque::new(),
            handed_over: 0,
            now: Duration::ZERO,
            ticks: Vec::new(),
            listening: true,
            files: BTreeMap::new(),
            places: 0,
            opened: BTreeMap::new(),
            numbers: 1000,
            asked: Vec::new(),
            hung: None,
        }
    }

    // ---- what the far ends do ----

    /// A client knocks at a listener.
    pub fn arrive(&mut self, listener: usize) -> FarEnd {
        self.arrive_from(listener, IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// A client of this address has come to a listener.
    pub fn arrive_from(&mut self, listener: usize, address: IpAddr) -> FarEnd {
        let socket = self.new_socket(None);
        self.arrivals.push_back((socket, listener));
        self.sockets[socket].address = Some(address);
        socket
    }

    /// The next call that waits for an answer.
    pub fn next_call(&mut self) -> Option<Call> {
        let slots = &self.slots;
        self.calls.retain(|call| slots.get(&call.slot).is_some_and(|it| it.connect.is_some()));
        self.calls.pop_front()
    }

    /// The upstream answers the call, or refuses it (`None` is returned then, or when the caller has gone).
    pub fn answer(&mut self, call: &Call, accept: bool) -> Option<FarEnd> {
        let tag = self.slots.get_mut(&call.slot)?.connect.take()?;
        if !accept {
            self.complete(tag, Err(libc::ECONNREFUSED));
            return None;
        }
        let socket = self.new_socket(Some(call.slot));
        self.slots.entry(call.slot).or_default().socket = Some(socket);
        self.complete(tag, Ok(0));
        Some(socket)
    }

    /// The far end says something.
    pub fn say(&mut self, who: FarEnd, bytes: &[u8]) {
        let socket = &mut self.sockets[who];
        socket.to_shard.extend(bytes);
        socket.edge |= !bytes.is_empty();
    }

    /// The far end reads at most `most` bytes of what was sent to it.
    pub fn read(&mut self, who: FarEnd, most: usize) -> Vec<u8> {
        let socket = &mut self.sockets[who];
        let len = socket.from_shard.len().min(most);
        socket.from_shard.drain(..len).collect()
    }

    /// The far end sends FIN.
    pub fn end(&mut self, who: FarEnd) {
        let socket = &mut self.sockets[who];
        (socket.ended, socket.edge) = (true, true);
    }

    /// The far end breaks the connection.
    pub fn break_off(&mut self, who: FarEnd) {
        let socket = &mut self.sockets[who];
        (socket.broken, socket.edge) = (true, true);
        socket.to_shard.clear();
    }

    /// The shard has ended the stream and everything was read.
    pub fn is_ended(&self, who: FarEnd) -> bool {
        let socket = &self.sockets[who];
        socket.broken || socket.shard_ended && socket.from_shard.is_empty()
    }

    /// The connection was broken by either side.
    pub fn is_broken(&self, who: FarEnd) -> bool {
        self.sockets[who].broken
    }

    /// Bytes that the shard has not taken yet.
    pub fn unread(&self, who: FarEnd) -> usize {
        self.sockets[who].to_shard.len()
    }

    /// Nothing is in flight and every buffer is at home.
    pub fn is_at_rest(&self) -> bool {
        let home = self.buffers.len() + self.memory.free() == usize::from(self.temper.buffers.0);
        home && self.open_files() == 0
            && self.accepts.is_empty()
            && self.slots.values().all(|it| it.is_idle() && it.socket.is_none())
    }

    /// From now on a file of this name is in the folder, in the place of the one before.
    pub fn put_file(&mut self, name: &str, content: &[u8]) {
        self.places += 1;
        self.files.insert(name.into(), (self.places, content.into()));
    }

    /// The disk of this folder hangs: nothing that is asked about it is done. `None`: none does.
    pub fn hang(&mut self, folder: Option<&str>) {
        self.hung = folder.map(Into::into);
    }

    /// Files that are open, and requests about files that are not done.
    pub fn open_files(&self) -> usize {
        self.opened.values().filter(|it| it.content.is_some()).count() + self.asked.len()
    }

    /// Time goes on.
    pub fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    fn new_socket(&mut self, slot: Option<u32>) -> FarEnd {
        self.sockets.push(Socket {
            slot,
            address: None,
            to_shard: VecDeque::new(),
            from_shard: VecDeque::new(),
            ended: false,
            shard_ended: false,
            broken: false,
            edge: false,
        });
        self.sockets.len() - 1
    }

    // ---- what the kernel does ----

    fn complete(&mut self, tag: Tag, result: Result<u32, i32>) {
        self.ready.push_back(Completion { tag, result, more: false, buffer: None, nonempty: false });
    }

    /// A receive has failed, and may have used up a buffer for it.
    fn fail(&mut self, tag: Tag, errno: i32) {
        let names = self.temper.buffer_with_error > 0 && self.dice.chance(self.temper.buffer_with_error);
        let buffer = if names { self.take_buffer(0) } else { None };
        self.ready.push_back(Completion { tag, result: Err(errno), more: false, buffer, nonempty: false });
    }

    fn take_buffer(&mut self, len: usize) -> Option<Lent> {
        self.buffers.pop_front().map(|id| self.memory.take(id, len))
    }

    fn slot(&mut self, tag: Tag) -> &mut InFlight {
        self.slots.entry(tag.slot()).or_default()
    }

    fn do_ticks(&mut self) {
        let now = self.now;
        let due = self.ticks.extract_if(.., |at| *at <= now).count();
        (0..due).for_each(|_| self.complete(Tag::new(0, 0, Operation::Tick), Err(libc::ETIME)));
    }

    fn do_files(&mut self) {
        for (tag, asked) in std::mem::take(&mut self.asked) {
            let hangs = self.hung.as_deref() == Some(&*self.folder_of(&asked));
            if hangs || self.dice.chance(self.temper.delay) {
                self.asked.push((tag, asked));
                continue;
            }
            let result = match &asked {
                Asked::Open(name, opening, folder) => self.open(name, *opening, folder),
                Asked::Refresh(file) => {
                    self.played(*file);
                    Ok(0)
                }
                Asked::Read(file, at, into) => self.read_file(*file, *at, into),
                Asked::Close(file) => {
                    self.close_file(*file);
                    Ok(0)
                }
            };
            self.complete(tag, result);
        }
    }

    fn folder_of(&self, asked: &Asked) -> Rc<str> {
        match asked {
            Asked::Open(_, _, folder) => folder.clone(),
            Asked::Refresh(file) | Asked::Read(file, ..) | Asked::Close(file) => self.opened[&file.0].folder.clone(),
        }
    }

    fn asked(&self, request: &FileRequest<'_>) -> Asked {
        match *request {
            FileRequest::Open { from, name, opening } => {
                let own = || Rc::from(name.to_str().expect("names of the play are text"));
                Asked::Open(name.into(), opening, from.map_or_else(own, |it| self.opened[&it.0].folder.clone()))
            }
            FileRequest::Refresh(file) => Asked::Refresh(file),
            FileRequest::Read { file, at, into } => Asked::Read(file, at, into.to_vec()),
            FileRequest::Close(file) => Asked::Close(file),
        }
    }

    fn open(&mut self, name: &CStr, opening: Opening, folder: &Rc<str>) -> Result<u32, i32> {
        let name = name.to_str().expect("names of the play are text");
        let played = match opening {
            Opening::Folder => Played { place: 0, content: None, folder: folder.clone() },
            Opening::Beneath | Opening::Name => {
                let (place, content) = self.files.get(name).cloned().ok_or(libc::ENOENT)?;
                Played { place, content: Some(content), folder: folder.clone() }
            }
        };
        self.numbers += 1;
        self.opened.insert(self.numbers, played);
        Ok(self.numbers.cast_unsigned())
    }

    fn played(&self, file: FileId) -> Played {
        self.opened.get(&file.0).expect("the file is open").clone()
    }

    fn read_file(&mut self, file: FileId, at: u64, into: &[Piece]) -> Result<u32, i32> {
        let content = self.played(file).content.ok_or(libc::EISDIR)?;
        let rest = content.get(at as usize..).unwrap_or_default();
        let room: usize = into.iter().map(|it| it.len).sum();
        assert!(room > 0, "a read of nothing");
        let most = rest.len().min(room);
        let len = if most == 0 || self.dice.chance(50) { most } else { 1 + self.dice.below(most) };
        let mut rest = &rest[..len];
        for piece in into {
            let (now, later) = rest.split_at(piece.len.min(rest.len()));
            // SAFETY: the caller of `file` or `file_at_once` keeps the pieces in place for the kernel to write to.
            unsafe { piece.start.cast_mut().copy_from_nonoverlapping(now.as_ptr(), now.len()) };
            rest = later;
        }
        Ok(len as u32)
    }

    fn close_file(&mut self, file: FileId) {
        let uses = |asked: &Asked| match asked {
            Asked::Open(..) => false,
            Asked::Refresh(it) | Asked::Read(it, ..) | Asked::Close(it) => *it == file,
        };
        assert!(!self.asked.iter().any(|it| uses(&it.1)), "a file is closed while something is asked about it");
        assert!(self.opened.remove(&file.0).is_some(), "a file is closed twice");
    }

    fn do_accepts(&mut self) {
        while self.listening && !self.arrivals.is_empty() && !self.dice.chance(self.temper.delay) {
            let (socket, listener) = self.arrivals[0];
            let Some(place) = self.accepts.iter().position(|it| it.1 == listener) else { return };
            let (tag, _) = self.accepts.swap_remove(place);
            if self.dice.chance(self.temper.accept_error) {
                self.complete(tag, Err(libc::ECONNABORTED));
                continue;
            }
            self.arrivals.pop_front();
            let slot = self.slot(tag);
            assert!(slot.socket.is_none(), "accepted into a slot that is in use");
            slot.socket = Some(socket);
            self.sockets[socket].slot = Some(tag.slot());
            self.complete(tag, Ok(0));
        }
    }

    fn do_slots(&mut self) {
        let slots: Vec<u32> = self.slots.keys().copied().collect();
        let from = self.dice.below(slots.len().max(1));
        for slot in slots[from..].iter().chain(&slots[..from]) {
            self.do_once(*slot);
            self.do_send_now(*slot);
            if !self.dice.chance(self.temper.delay) {
                self.misfortune(*slot);
                self.do_recv(*slot);
                self.do_poll(*slot);
                self.do_send(*slot);
                self.do_shutdown(*slot);
            }
        }
    }

    fn misfortune(&mut self, slot: u32) {
        let strikes = self.dice.below(10_000) < self.temper.reset;
        if let Some(socket) = self.slots[&slot].socket.filter(|_| strikes) {
            self.break_off(socket);
        }
    }

    /// A recv that does not wait is done in the turn in which it is asked for.
    fn do_once(&mut self, slot: u32) {
        let Some(tag) = self.slots.get_mut(&slot).and_then(|it| it.once.take()) else { return };
        match self.bring(slot) {
            Some((Err(errno), _)) => self.fail(tag, errno),
            Some((result, buffer)) => {
                let nonempty = self.slots[&slot].socket.is_some_and(|it| !self.sockets[it].to_shard.is_empty());
                self.ready.push_back(Completion { tag, result, more: false, buffer, nonempty });
            }
            None => self.fail(tag, libc::EAGAIN),
        }
    }

    fn do_recv(&mut self, slot: u32) {
        let Some(tag) = self.slots[&slot].recv else { return };
        let Some((result, buffer)) = self.bring(slot) else { return };
        let next_only = self.slots[&slot].next_only;
        let goes_on = matches!(result, Ok(1..)) && !next_only && !self.dice.chance(self.temper.end_multishot);
        if !goes_on {
            self.slot(tag).recv = None;
        }
        if let Err(errno) = result {
            return self.fail(tag, errno);
        }
        self.ready.push_back(Completion { tag, result, more: goes_on, buffer, nonempty: false });
    }

    /// What a receive on this slot would bring now.
    fn bring(&mut self, slot: u32) -> Option<(Result<u32, i32>, Option<Lent>)> {
        let socket = &mut self.sockets[self.slots.get(&slot)?.socket?];
        if socket.broken {
            return Some((Err(libc::ECONNRESET), None));
        }
        if socket.to_shard.is_empty() {
            return socket.ended.then_some((Ok(0), None));
        }
        let most = socket.to_shard.len().min(self.memory.size() as usize);
        let len = if self.dice.chance(50) { most } else { 1 + self.dice.below(most) };
        let Some(id) = self.buffers.pop_front() else { return Some((Err(libc::ENOBUFS), None)) };
        let mut buffer = self.memory.take(id, len);
        buffer.iter_mut().zip(socket.to_shard.drain(..len)).for_each(|(to, from)| *to = from);
        Some((Ok(len as u32), Some(buffer)))
    }

    fn do_poll(&mut self, slot: u32) {
        let Some(tag) = self.slots[&slot].poll else { return };
        let Some(socket) = self.slots[&slot].socket else { return };
        if !std::mem::take(&mut self.sockets[socket].edge) {
            return;
        }
        let socket = &self.sockets[socket];
        let hung_up = if socket.ended || socket.broken { libc::POLLRDHUP } else { 0 };
        let more = !self.dice.chance(self.temper.end_multishot);
        if !more {
            self.slot(tag).poll = None;
        }
        let events = (libc::POLLIN | hung_up).cast_unsigned().into();
        self.ready.push_back(Completion { tag, result: Ok(events), more, buffer: None, nonempty: false });
    }

    /// A send that does not wait is done in the turn in which it is asked for.
    fn do_send_now(&mut self, slot: u32) {
        let Some(tag) = self.slots.get(&slot).and_then(|it| it.send.as_ref()).filter(|it| it.now).map(|it| it.tag)
        else {
            return;
        };
        self.do_send(slot);
        if self.slot(tag).send.take().is_some() {
            self.complete(tag, Err(libc::EAGAIN));
        }
    }

    fn do_send(&mut self, slot: u32) {
        let Some(sending) = &self.slots[&slot].send else { return };
        let Some(number) = self.slots[&slot].socket else { return };
        let bytes = gathered(&sending.pieces);
        assert_eq!(bytes, sending.copy, "the bytes of a send were changed while it was in flight");
        let (tag, socket) = (sending.tag, &mut self.sockets[number]);
        if socket.broken {
            self.slot(tag).send = None;
            return self.complete(tag, Err(libc::ECONNRESET));
        }
        let room = self.temper.window.saturating_sub(socket.from_shard.len()).min(bytes.len());
        if room > 0 {
            let len = if self.dice.chance(50) { room } else { 1 + self.dice.below(room) };
            self.sockets[number].from_shard.extend(&bytes[..len]);
            self.slot(tag).send = None;
            self.complete(tag, Ok(len as u32));
        }
    }

    fn begin_send(&mut self, tag: Tag, pieces: &[Piece], now: bool) {
        assert!(self.slot(tag).send.is_none(), "two sends in flight");
        let socket = self.slot(tag).socket.expect("a send on a slot that is not connected");
        assert!(!self.sockets[socket].shard_ended, "a send behind FIN");
        let copy = gathered(pieces);
        assert!(!copy.is_empty(), "a send of nothing");
        self.slot(tag).send = Some(Sending { tag, pieces: pieces.to_vec(), copy, now });
    }

    fn do_shutdown(&mut self, slot: u32) {
        let in_flight = self.slots.get_mut(&slot).expect("the slot is there");
        let Some(tag) = in_flight.shutdown.take() else { return };
        if let Some(socket) = in_flight.socket {
            self.sockets[socket].shard_ended = true;
        }
        self.complete(tag, Ok(0));
    }

    fn cancelled(&mut self, tag: Tag) {
        let slot = self.slot(tag);
        let place = match tag.operation() {
            Some(Operation::Recv) => &mut slot.recv,
            Some(Operation::Poll) => &mut slot.poll,
            Some(Operation::Connect) => &mut slot.connect,
            Some(Operation::RecvOnce) => &mut slot.once,
            Some(Operation::Send) => {
                if slot.send.take_if(|it| it.tag == tag).is_some() {
                    self.complete(tag, Err(libc::ECANCELED));
                }
                return;
            }
            _ => return,
        };
        if place.take_if(|it| *it == tag).is_some() {
            match tag.operation() {
                Some(Operation::Recv | Operation::RecvOnce) => self.fail(tag, libc::ECANCELED),
                _ => self.complete(tag, Err(libc::ECANCELED)),
            }
        }
    }
}

fn gathered(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        // SAFETY: the caller of `send` keeps the bytes in place until the completion, which is still to come.
        bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(piece.start, piece.len) });
    }
    bytes
}

/// Arms what must not be armed already.
fn arm(place: &mut Option<Tag>, tag: Tag) {
    assert!(place.is_none(), "{:?} was armed twice", tag.operation());
    *place = Some(tag);
}

impl Ring for Script {
    fn accept(&mut self, tag: Tag, listener: usize) {
        assert!(self.slot(tag).is_idle() && self.slot(tag).socket.is_none(), "an accept into a slot in use");
        self.accepts.push((tag, listener));
    }

    fn peer(&mut self, tag: Tag) -> Option<SocketAddr> {
        let socket = self.slot(tag).socket?;
        Some(SocketAddr::new(self.sockets[socket].address?, tag.slot() as u16))
    }

    fn connect(&mut self, tag: Tag, to: &Address) -> io::Result<()> {
        if self.dice.below(10_000) < self.temper.reset {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        assert!(self.slot(tag).socket.is_none(), "a connect from a slot in use");
        arm(&mut self.slot(tag).connect, tag);
        self.calls.push_back(Call { to: to.clone(), slot: tag.slot() });
        Ok(())
    }

    fn recv(&mut self, tag: Tag) {
        arm(&mut self.slot(tag).recv, tag);
        self.slot(tag).next_only = false;
    }

    fn recv_next(&mut self, tag: Tag) {
        arm(&mut self.slot(tag).recv, tag);
        self.slot(tag).next_only = true;
    }

    fn recv_once(&mut self, tag: Tag) {
        arm(&mut self.slot(tag).once, tag);
    }

    /// What is there when the poll is armed is said at once.
    fn poll(&mut self, tag: Tag) {
        arm(&mut self.slot(tag).poll, tag);
        if let Some(socket) = self.slot(tag).socket {
            let socket = &mut self.sockets[socket];
            socket.edge = !socket.to_shard.is_empty() || socket.ended || socket.broken;
        }
    }

    unsafe fn send(&mut self, tag: Tag, pieces: &[Piece]) {
        self.begin_send(tag, pieces, false);
    }

    unsafe fn send_now(&mut self, tag: Tag, pieces: &[Piece]) {
        self.begin_send(tag, pieces, true);
    }

    fn cancel(&mut self, tag: Tag) {
        self.cancelled(tag);
        if tag.operation() == Some(Operation::Accept)
            && let Some(place) = self.accepts.iter().position(|it| it.0 == tag)
        {
            self.accepts.swap_remove(place);
            self.complete(tag, Err(libc::ECANCELED));
        }
    }

    fn shutdown(&mut self, tag: Tag) {
        assert!(self.slot(tag).send.is_none(), "FIN asked for with a send in flight");
        arm(&mut self.slot(tag).shutdown, tag);
    }

    fn close(&mut self, tag: Tag) {
        let slot = self.slots.remove(&tag.slot()).unwrap_or_default();
        assert!(slot.is_idle(), "a close while the kernel holds something");
        if let Some(socket) = slot.socket {
            let socket = &mut self.sockets[socket];
            // Closed over bytes that nobody read: a reset, as TCP does it.
            socket.broken |= !socket.to_shard.is_empty();
            (socket.shard_ended, socket.slot) = (true, None);
        }
        self.complete(tag, Ok(0));
    }

    /// The cache of the play holds what the dice say.
    unsafe fn file_at_once(&mut self, request: &FileRequest<'_>) -> Option<Result<u32, i32>> {
        if let FileRequest::Close(file) = *request {
            self.close_file(file);
            return Some(Ok(0));
        }
        let asked = self.asked(request);
        if self.hung.as_deref() == Some(&*self.folder_of(&asked)) || self.dice.chance(self.temper.delay) {
            return None;
        }
        match asked {
            Asked::Open(name, opening, folder) => Some(self.open(&name, opening, &folder)),
            Asked::Read(file, at, into) => Some(self.read_file(file, at, &into)),
            Asked::Refresh(_) | Asked::Close(_) => None,
        }
    }

    unsafe fn file(&mut self, tag: Tag, request: &FileRequest<'_>) {
        let asked = self.asked(request);
        assert!(self.asked.iter().all(|it| it.0 != tag), "two requests about files with one tag");
        self.asked.push((tag, asked));
    }

    unsafe fn file_stat(&mut self, file: FileId) -> Result<FileStat, i32> {
        let Played { place, content, .. } = self.played(file);
        let kind = if content.is_some() { FileKind::Regular } else { FileKind::Folder };
        let length = content.map_or(0, |it| it.len() as u64);
        Ok(FileStat { place: (1, place), length, modified: (1_000_000_000, 0), kind })
    }

    fn file_name(&mut self, _file: FileId, _folder: FileId) -> Option<CString> {
        None
    }

    fn tick(&mut self, after: Duration) {
        self.ticks.push(self.now + after);
    }

    fn turn(&mut self) -> io::Result<()> {
        self.handed_over = 0;
        self.buffers.extend(std::iter::from_fn(|| self.memory.offer()));
        self.do_ticks();
        self.do_accepts();
        self.do_files();
        self.do_slots();
        Ok(())
    }

    fn next(&mut self) -> Option<Completion> {
        if self.handed_over == self.temper.completions {
            return None;
        }
        self.handed_over += 1;
        self.ready.pop_front()
    }

    fn buffers(&self) -> usize {
        self.temper.buffers.0.into()
    }

    /// Everything is ended at once: the bytes of each send must be there still.
    fn end(&mut self) -> bool {
        if std::thread::panicking() {
            return true;
        }
        for slot in self.slots.values_mut() {
            if let Some(sending) = slot.send.take() {
                assert_eq!(gathered(&sending.pieces), sending.copy, "the bytes of a send were gone before its ring");
            }
        }
        true
    }

    fn close_listeners(&mut self) {
        self.listening = false;
        for (tag, _) in std::mem::take(&mut self.accepts) {
            self.complete(tag, Err(libc::ECANCELED));
        }
    }

    fn counts(&self) -> RingCounts {
        RingCounts::default()
    }
}

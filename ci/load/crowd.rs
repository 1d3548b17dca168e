//! Thousands of plain WebSocket clients in one thread.
//!
//! Method: one epoll, non-blocking sockets, and the smallest framing that tells the truth (RFC 6455 section 5).
//! An idle client owns its socket and no heap. A client has a [`Habit`], which says how well it behaves, and a
//! [`Stage`]; the crowd counts how many stand in each stage, so that a test can wait for a number. Whatever a
//! server must never send (a masked frame, a wrong accept key, reserved bits) panics at once. A crowd may speak TLS
//! ([`Crowd::over_tls`]); its clients then have a session of rustls each.
//!
//! Order of calls: [`Crowd::join`], then `send`, `echo_each`, `close` and [`Crowd::until`] in any order; nothing
//! moves outside `turn`, `until`, `join` and `echo_each`, and a crowd left alone answers no ping.
#![allow(dead_code, reason = "each test program uses the part it needs")]

#[path = "tls_client.rs"]
pub(crate) mod tls_client;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::ClientConfig;
use socket2::{Domain, Socket, Type};
use tls_client::TlsClient;

/// Handshakes under way at once: well under any listen backlog, so that no SYN is dropped and retried.
const PENDING_MAX: usize = 256;
/// Clients are spread over this many addresses of 127.0.0.0/8, as one has only some 28 000 ports.
const SOURCES: usize = 4;
/// Socket buffers of a deaf client: small, so that it soon is full.
const DEAF_BUFFER_BYTES: usize = 16 * 1024;
/// Reads or frames a client may take in one turn before the next client has its turn.
const TURN_BUDGET: usize = 32;

/// How a client behaves once it is open.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Habit {
    /// Answers pings and Close.
    Polite,
    /// Reads, but answers neither pings nor Close, and never closes.
    Mute,
    /// Never reads; its socket buffers are small.
    Deaf,
}

/// Where a client stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Stage {
    /// TCP connect under way.
    Connecting,
    /// Request sent, response awaited.
    Upgrading,
    /// Upgraded; no Close seen or sent.
    Open,
    /// A Close was seen or sent; the end of the connection is awaited.
    Closing,
    /// The answer was not 101; its end is awaited.
    Refused,
    /// The connection is over.
    Ended,
}

const STAGES: usize = 6;

/// Whom to call, on which path, and how to behave.
#[derive(Clone)]
pub(crate) struct Invitation {
    /// The listener.
    pub(crate) address: SocketAddr,
    /// The request target.
    pub(crate) path: &'static str,
    /// How to behave once open.
    pub(crate) habit: Habit,
}

/// One client; the fields tell what it has seen.
pub(crate) struct Client {
    socket: Option<TcpStream>,
    tls: Option<Box<TlsClient>>,
    habit: Habit,
    stage: Stage,
    interest: EventFlags,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    partial: Vec<u8>,
    flood: Vec<u8>,
    /// Whole messages received and not yet taken.
    pub(crate) messages: Vec<Vec<u8>>,
    /// The code of the Close received: 1005 for one without (RFC 6455 section 7.1.5).
    pub(crate) close_code: Option<u16>,
    /// The status of the answer to the upgrade request; 0 before.
    pub(crate) status: u16,
    /// An answer other than 101, as it came.
    pub(crate) refusal: Vec<u8>,
    /// The connection ended by an error, not by the server's FIN.
    pub(crate) reset: bool,
    /// Pings received.
    pub(crate) pings: u32,
    /// Frames a flooding client has begun to send.
    pub(crate) flooded: u64,
}

/// The clients, in the order in which they joined.
pub(crate) struct Crowd {
    epoll: OwnedFd,
    clients: Vec<Client>,
    in_stage: [usize; STAGES],
    scratch: Box<[u8]>,
    /// By the order of clients, again and again; empty: they speak clear text.
    tls: Vec<Arc<ClientConfig>>,
    /// Handshakes under way at once.
    pub(crate) pending_max: usize,
}

impl Crowd {
    /// Nobody yet.
    pub(crate) fn new() -> Crowd {
        Crowd {
            epoll: epoll::create(CreateFlags::CLOEXEC).expect("an epoll"),
            clients: Vec::new(),
            in_stage: [0; STAGES],
            scratch: vec![0; 64 * 1024].into(),
            tls: Vec::new(),
            pending_max: PENDING_MAX,
        }
    }

    /// Nobody yet; the first client will offer the first of these, and so on, from the beginning again when all are
    /// offered.
    pub(crate) fn over_tls(offers: Vec<Arc<ClientConfig>>) -> Crowd {
        Crowd { tls: offers, ..Crowd::new() }
    }

    /// How many clients stand in `stage`.
    pub(crate) fn count(&self, stage: Stage) -> usize {
        self.in_stage[stage as usize]
    }

    /// What client `index` has seen.
    pub(crate) fn client(&self, index: usize) -> &Client {
        &self.clients[index]
    }

    /// All clients.
    pub(crate) fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// Connects `count` clients and sees each through to its answer. Panics when that takes longer than `limit`.
    pub(crate) fn join(&mut self, count: usize, whom: &Invitation, limit: Duration) -> Range<usize> {
        let first = self.clients.len();
        let all = first..first + count;
        self.until("all have an answer", limit, |crowd| {
            while crowd.clients.len() < all.end && crowd.pending() < crowd.pending_max {
                crowd.call(whom);
            }
            crowd.clients.len() == all.end && crowd.pending() == 0
        });
        all
    }

    fn pending(&self) -> usize {
        self.count(Stage::Connecting) + self.count(Stage::Upgrading)
    }

    fn call(&mut self, whom: &Invitation) {
        let index = self.clients.len();
        let offer = self.tls.get(index % self.tls.len().max(1));
        let client = Client::connect(index, whom, offer);
        let socket = client.socket.as_ref().expect("just made");
        let data = EventData::new_u64(index as u64);
        epoll::add(&self.epoll, socket, data, client.interest).expect("room in the epoll");
        self.in_stage[client.stage as usize] += 1;
        self.clients.push(client);
    }

    /// Takes what has happened; waits at most `timeout` for something to happen.
    pub(crate) fn turn(&mut self, timeout: Duration) {
        let timeout = Timespec::try_from(timeout).expect("a short wait");
        // Made anew each turn: an `Event` may hold a pointer, and would keep the crowd from moving to a thread.
        let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
        // An error here is EINTR: the next turn comes anyway.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout));
        for event in &events {
            let (index, flags) = (event.data.u64() as usize, event.flags);
            self.change(index, |client, scratch| client.happen(flags, scratch));
        }
    }

    /// Takes turns until `condition` holds. Panics, naming `what`, when it does not within `limit`.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, limit: Duration, mut condition: impl FnMut(&mut Crowd) -> bool) {
        let deadline = Instant::now() + limit;
        while !condition(self) {
            let stages = self.in_stage;
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not in {limit:?}: {what} {stages:?}");
            self.turn(left.min(Duration::from_millis(20)));
        }
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, index: usize, bytes: &[u8]) {
        self.change(index, |client, _| client.push(bytes));
    }

    /// Sends one binary message.
    pub(crate) fn send(&mut self, index: usize, payload: &[u8]) {
        self.send_raw(index, &frame(BINARY, payload, index as u32));
    }

    /// Sends Close; the client then waits for the server to answer and to end the connection.
    pub(crate) fn close(&mut self, index: usize, code: u16) {
        let bytes = frame(CLOSE, &code.to_be_bytes(), index as u32);
        self.change(index, |client, _| {
            client.stage = Stage::Closing;
            client.push(&bytes);
        });
    }

    /// From now on the client sends messages of `size` bytes for as long as its socket takes them.
    pub(crate) fn flood(&mut self, index: usize, size: usize) {
        let bytes = frame(BINARY, &vec![b'x'; size], index as u32);
        self.change(index, |client, _| {
            client.flood = bytes;
            client.write();
        });
    }

    /// Sends each of `indices` one message of `size` bytes and waits until as many bytes have come back; they
    /// must be the same. Returns how many messages they came in: one each from an echo, any number from a stream.
    pub(crate) fn echo_each(&mut self, indices: &[usize], size: usize, limit: Duration) -> usize {
        for &index in indices {
            self.send(index, &payload(index, size));
        }
        self.until("all echoes are back", limit, |crowd| {
            let mut all = indices.iter();
            all.all(|&index| crowd.clients[index].heard() >= size)
        });
        let mut check = |&index: &usize| self.take_echo(index, size);
        indices.iter().map(&mut check).sum()
    }

    /// The messages that a client has received, which it then forgets.
    pub(crate) fn take_messages(&mut self, index: usize) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.clients[index].messages)
    }

    fn take_echo(&mut self, index: usize, size: usize) -> usize {
        let messages = self.take_messages(index);
        let same = messages.concat() == payload(index, size);
        assert!(same, "client {index}: not what it sent");
        messages.len()
    }

    /// Lets `act` change a client, then brings the count of stages and the epoll up to date.
    fn change(&mut self, index: usize, act: impl FnOnce(&mut Client, &mut [u8])) {
        let client = &mut self.clients[index];
        self.in_stage[client.stage as usize] -= 1;
        act(client, &mut self.scratch);
        self.in_stage[client.stage as usize] += 1;
        client.subscribe(&self.epoll, index);
    }
}

impl Client {
    fn connect(index: usize, whom: &Invitation, offer: Option<&Arc<ClientConfig>>) -> Client {
        let mut client = Client::calling(index, whom);
        client.tls = offer.map(|offer| Box::new(TlsClient::new(offer)));
        client.outbox = client.sealed(&request(whom.address, whom.path));
        client
    }

    fn calling(index: usize, whom: &Invitation) -> Client {
        Client {
            socket: Some(dial(index, whom)),
            tls: None,
            habit: whom.habit,
            stage: Stage::Connecting,
            interest: EventFlags::OUT,
            inbox: Vec::new(),
            outbox: Vec::new(),
            partial: Vec::new(),
            flood: Vec::new(),
            messages: Vec::new(),
            close_code: None,
            status: 0,
            refusal: Vec::new(),
            reset: false,
            pings: 0,
            flooded: 0,
        }
    }

    /// Where the client stands.
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// It has resumed a session of TLS.
    pub(crate) fn is_resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_resumed())
    }

    /// The connection stands, and its socket takes nothing more.
    pub(crate) fn is_stuck(&self) -> bool {
        let at_once = Timespec::default();
        let writable = |socket| {
            let mut one = [PollFd::new(socket, PollFlags::OUT)];
            poll(&mut one, Some(&at_once)).expect("poll") > 0
        };
        self.socket.as_ref().is_some_and(|socket| !writable(socket))
    }

    fn heard(&self) -> usize {
        self.messages.iter().map(Vec::len).sum()
    }

    fn listens(&self) -> bool {
        self.habit != Habit::Deaf || self.stage != Stage::Open
    }

    fn wanted(&self) -> EventFlags {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, self.listens() && self.stage != Stage::Connecting);
        let has_words = !self.outbox.is_empty() || !self.flood.is_empty();
        wanted.set(EventFlags::OUT, has_words);
        wanted
    }

    fn subscribe(&mut self, epoll: &OwnedFd, index: usize) {
        let wanted = self.wanted();
        let Some(socket) = self.socket.as_ref().filter(|_| self.interest != wanted) else {
            return;
        };
        let data = EventData::new_u64(index as u64);
        epoll::modify(epoll, socket, data, wanted).expect("a socket of this epoll");
        self.interest = wanted;
    }

    fn happen(&mut self, flags: EventFlags, scratch: &mut [u8]) {
        if self.stage == Stage::Connecting {
            self.connected();
        }
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        if broken && !self.listens() {
            self.end(true);
        }
        if broken || flags.contains(EventFlags::IN) {
            self.read(scratch);
        }
        self.write();
    }

    fn connected(&mut self) {
        let socket = self.socket.as_ref().expect("connecting");
        let error = socket.take_error().expect("SO_ERROR");
        assert!(error.is_none(), "connect: {error:?}");
        self.stage = Stage::Upgrading;
    }

    fn end(&mut self, reset: bool) {
        self.reset |= reset;
        self.stage = Stage::Ended;
        self.refusal.append(&mut self.inbox);
        (self.socket, self.outbox, self.flood) = (None, Vec::new(), Vec::new());
    }

    fn push(&mut self, bytes: &[u8]) {
        let bytes = self.sealed(bytes);
        self.outbox.extend(bytes);
        self.write();
    }

    /// As it is sent.
    fn sealed(&mut self, plain: &[u8]) -> Vec<u8> {
        let Some(tls) = &mut self.tls else { return plain.to_vec() };
        tls.seal(plain);
        tls.outgoing()
    }

    /// What came, in clear text; what is to be answered at once is queued.
    fn opened(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(tls) = &mut self.tls else { return bytes.to_vec() };
        let plain = tls.open(bytes).expect("records of TLS");
        self.outbox.extend(tls.outgoing());
        plain
    }

    fn read(&mut self, scratch: &mut [u8]) {
        for _ in 0..TURN_BUDGET {
            let Some(socket) = self.socket.as_mut() else {
                return;
            };
            match socket.read(scratch) {
                Ok(0) => self.end(false),
                Ok(n) => self.take(&scratch[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.end(true),
            }
        }
    }

    fn write(&mut self) {
        for _ in 0..TURN_BUDGET {
            self.refill();
            let Some(socket) = self.socket.as_mut().filter(|_| !self.outbox.is_empty()) else {
                return;
            };
            match socket.write(&self.outbox) {
                Ok(n) => drop(self.outbox.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // What the server said before it closed is still to be read; the read then meets the end.
                Err(_) if self.listens() => return self.outbox.clear(),
                Err(_) => self.end(true),
            }
        }
    }

    fn refill(&mut self) {
        if self.outbox.is_empty() {
            // An idle client must not keep the room of its last frame.
            let flood = std::mem::take(&mut self.flood);
            self.outbox = if flood.is_empty() { Vec::new() } else { self.sealed(&flood) };
            self.flood = flood;
            self.flooded += u64::from(!self.flood.is_empty());
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let plain = self.opened(bytes);
        self.inbox.extend(plain);
        if self.stage == Stage::Upgrading {
            self.answer();
        }
        while matches!(self.stage, Stage::Open | Stage::Closing) && self.next_frame() {}
        if self.inbox.is_empty() {
            self.inbox = Vec::new();
        }
    }

    /// Reads the response head, if it is whole.
    fn answer(&mut self) {
        let Some(at) = find(&self.inbox, b"\r\n\r\n") else {
            return;
        };
        let head = String::from_utf8(self.inbox[..at].to_vec()).expect("an ASCII head");
        let status = head.get(9..12).and_then(|code| code.parse().ok());
        self.status = status.unwrap_or_else(|| panic!("no status line: {head}"));
        if self.status != 101 {
            self.stage = Stage::Refused;
            return;
        }
        assert!(head.contains(ACCEPT), "wrong accept key: {head}");
        self.inbox.drain(..at + 4);
        self.stage = Stage::Open;
    }

    /// Takes one frame from the inbox; false when there is no whole one.
    fn next_frame(&mut self) -> bool {
        let Some(Head { opcode, fin, body }) = Head::parse(&self.inbox) else {
            return false;
        };
        if self.inbox.len() < body.end {
            return false;
        }
        let payload = self.inbox[body.clone()].to_vec();
        self.inbox.drain(..body.end);
        self.receive(opcode, fin, payload);
        true
    }

    fn receive(&mut self, opcode: u8, fin: bool, payload: Vec<u8>) {
        match opcode {
            CONTINUATION | TEXT | BINARY => self.receive_data(fin, payload),
            CLOSE => self.receive_close(&payload),
            PING => self.receive_ping(&payload),
            PONG => {}
            other => panic!("reserved opcode {other}"),
        }
    }

    fn receive_data(&mut self, fin: bool, mut payload: Vec<u8>) {
        assert!(self.close_code.is_none(), "data after Close");
        self.partial.append(&mut payload);
        if fin {
            self.messages.push(std::mem::take(&mut self.partial));
        }
    }

    fn receive_close(&mut self, payload: &[u8]) {
        let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        self.close_code = Some(code.unwrap_or(1005));
        if self.stage == Stage::Open && self.habit == Habit::Polite {
            self.push(&frame(CLOSE, &payload[..payload.len().min(2)], 0));
        }
        self.stage = Stage::Closing;
    }

    fn receive_ping(&mut self, payload: &[u8]) {
        self.pings += 1;
        if self.stage == Stage::Open && self.habit == Habit::Polite {
            self.push(&frame(PONG, payload, self.pings));
        }
    }
}

/// The key of the example in RFC 6455 section 1.3, and what the server must make of it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A good opening request.
pub(crate) fn request(address: SocketAddr, path: &str) -> Vec<u8> {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{upgrade}\r\nSec-WebSocket-Key: {KEY}\r\n\r\n").into_bytes()
}

/// A socket on its way to `whom`, from one of the source addresses.
fn dial(index: usize, whom: &Invitation) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket: see ulimit -n");
    let source = Ipv4Addr::new(127, 0, 0, 2 + (index % SOURCES) as u8);
    let source = SocketAddr::from((source, 0));
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    socket.set_tcp_nodelay(true).expect("TCP_NODELAY");
    if whom.habit == Habit::Deaf {
        socket.set_recv_buffer_size(DEAF_BUFFER_BYTES).expect("SO_RCVBUF");
        socket.set_send_buffer_size(DEAF_BUFFER_BYTES).expect("SO_SNDBUF");
    }
    socket.bind(&source.into()).expect("a free source port");
    let under_way = socket.connect(&whom.address.into());
    let expected = |error: &std::io::Error| error.raw_os_error() == Some(libc::EINPROGRESS);
    assert!(under_way.as_ref().err().is_none_or(expected), "{under_way:?}");
    socket.into()
}

/// What client `index` says when it has `size` bytes to say.
fn payload(index: usize, size: usize) -> Vec<u8> {
    (0..size).map(|at| (index * 31 + at * 7) as u8).collect()
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

// What stands in the place of a length that takes 16 or 64 bits, RFC 6455 section 5.2.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

// Opcodes, RFC 6455 section 5.2.
const CONTINUATION: u8 = 0;
/// Opcode of a text frame.
pub(crate) const TEXT: u8 = 1;
/// Opcode of a binary frame.
pub(crate) const BINARY: u8 = 2;
/// Opcode of a Close frame.
pub(crate) const CLOSE: u8 = 8;
/// Opcode of a ping.
pub(crate) const PING: u8 = 9;
/// Opcode of a pong.
pub(crate) const PONG: u8 = 10;

/// A whole masked client frame with FIN set; the mask follows from `seed`.
pub(crate) fn frame(opcode: u8, payload: &[u8], seed: u32) -> Vec<u8> {
    let mask = (seed.wrapping_mul(0x9e37_79b1) ^ 0x5bd1_e995).to_be_bytes();
    let mut bytes = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..0x1_0000 => {
            bytes.push(0x80 | LENGTH_16);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | LENGTH_64);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The head of a server's frame and the range of its payload.
#[derive(Debug, PartialEq)]
pub(crate) struct Head {
    /// What kind of frame.
    pub(crate) opcode: u8,
    /// The last of its message.
    pub(crate) fin: bool,
    /// The payload, counted from the frame's first byte.
    pub(crate) body: Range<usize>,
}

impl Head {
    /// None when the head is not whole. Panics at what a server must not send without an extension.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Head> {
        let [first, second, ..] = *bytes else {
            return None;
        };
        assert_eq!((first & 0x70, second & 0x80), (0, 0), "RSV or mask set");
        let (start, len) = match second {
            126 => (4, u16::from_be_bytes(*bytes[2..].first_chunk()?) as usize),
            127 => (10, u64::from_be_bytes(*bytes[2..].first_chunk()?) as usize),
            len => (2, len as usize),
        };
        Some(Head { opcode: first & 0x0f, fin: first & 0x80 != 0, body: start..start + len })
    }
}

#[test]
fn frames_are_read_and_written() {
    for (len, head) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
        let mut sent = frame(BINARY, &payload(3, len), 7);
        assert_eq!(sent.len(), head + 4 + len);
        sent[1] &= 0x7f;
        assert!((0..head).all(|cut| Head::parse(&sent[..cut]).is_none()));
        let expected = Head { opcode: BINARY, fin: true, body: head..head + len };
        assert_eq!(Head::parse(&sent), Some(expected));
    }
}

//! Proxy: each client has a connection of its own to a back end, and bytes go between them.
//!
//! The upstream is called first and the client's 101 kept back until it answers, so that a client that cannot
//! be served hears 503 while it can still act on it. Client messages become bytes upstream; upstream bytes
//! become frames as the route says. Each side is held back while the other takes nothing; each side's end
//! reaches the other behind everything that was said before.

mod header;

pub use header::Tells;

use super::echo::opcode;
use super::upstreams::{self, Call, Places, Upstream};
use super::{Admits, Request, Service};
use crate::mesh::{Cause, Numbered, ServiceKind, ToShard, UpstreamCounters};
use crate::shard::service::{Address, Backpressure, Desk, Dial, Event, Verdict};
use crate::shard::slab::Handle;
use edgehold_wire::status::Status;
use edgehold_wire::upgrade;
use edgehold_wire::utf8::{self, Tail};
use edgehold_wire::ws::CloseCode;
use slab::Slab;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a proxy route says.
#[derive(Clone, Debug)]
pub struct ProxyPlan {
    /// Numbers of its upstreams; at most 64.
    pub upstreams: Vec<u32>,
    /// What upstream bytes become.
    pub frames: Frames,
    /// Subprotocols that are agreed to.
    pub subprotocols: Vec<String>,
    /// How long an upstream may take to answer, in ticks.
    pub connect_ticks: u32,
    /// What a client is told when its upstream has ended the stream.
    pub end_code: CloseCode,
    /// Each connection to an upstream begins with a PROXY header, which tells this beside addresses.
    pub proxy_protocol: Option<Tells>,
}

/// What upstream bytes become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// Binary frames, as they come.
    Binary,
    /// Text frames, never cut inside a character.
    Text,
    /// A text frame for each line, without its line end; and a client's message is a line.
    Lines,
}

/// The proxy service of one shard.
pub struct Proxy {
    sessions: Slab<Session>,
    /// By number.
    upstreams: Numbered<Upstream>,
    /// Where a cut character and the bytes behind it meet.
    scratch: Vec<u8>,
}

/// A client, its upstream, and what is between them.
struct Session {
    client: Option<Handle>,
    upstream: Option<Handle>,
    settings: Arc<ProxyPlan>,
    limits: u16,
    call: Call,
    /// What an upstream is sent first, until one has answered.
    header: Vec<u8>,
    /// The code of the client's Close frame.
    close_code: Option<CloseCode>,
    /// The last byte of the client's message so far (lines).
    last_byte: u8,
    /// Bytes that cannot be sent yet: a cut character (text), a CR that may belong to a line end (lines).
    held_back: Vec<u8>,
    /// Whether the line so far is UTF-8 (lines).
    line: Result<Tail, utf8::Invalid>,
}

impl Service for Proxy {
    type Plan = Arc<ProxyPlan>;
    type Settings = Places;

    const ADMITS: Admits = Admits::Opening;

    fn new(places: &Places) -> Proxy {
        let upstreams = places.upstreams.iter().flatten().map(|placed| Upstream::new(placed, places.backoff)).collect();
        Proxy { sessions: Slab::new(), upstreams, scratch: Vec::new() }
    }

    /// An upstream that is gone keeps its connections; who is still looking for one that answers does not call it.
    fn exchange(&mut self, desk: &mut Desk<'_>, places: &Places) {
        let counters = &mut desk.counters().upstreams;
        counters.resize(places.upstreams.len().max(counters.len()), UpstreamCounters::default());
        let kept = |upstream: &mut Upstream, _| upstream.backoff = places.backoff;
        self.upstreams.exchange(places.upstreams.iter().map(Option::as_ref), kept, |number, placed| {
            counters[number] = UpstreamCounters::default();
            Upstream::new(placed, places.backoff)
        });
        self.sessions
            .iter_mut()
            .for_each(|(_, session)| session.call.skip_older(&session.settings.upstreams, &self.upstreams));
    }

    /// Upstreams that are gone and have connections.
    fn held(&self) -> usize {
        self.upstreams.older().filter(|(_, upstream)| upstream.connections > 0).count()
    }

    /// Calls an upstream for the client.
    fn request(&mut self, desk: &mut Desk<'_>, request: &Request<'_, '_>, plan: &Arc<ProxyPlan>) -> Verdict {
        let Ok(opening) = upgrade::check(request.head) else { return Verdict::Served };
        let mut session = Session::new(request.who, plan.clone(), request.limits);
        session.header = plan.proxy_protocol.map(|tells| header::header(desk, request, tells)).unwrap_or_default();
        let token = self.sessions.insert(session);
        desk.take(request.who, token as u32);
        desk.prepare_upgrade(request.who, &opening, request.protocol(&plan.subprotocols));
        self.call(desk, token);
        Verdict::Served
    }

    fn event(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, event: Event<'_>) {
        if let Event::Closed(cause) = event {
            return self.closed(desk, who, token as usize, cause);
        }
        let Some(session) = self.sessions.get_mut(token as usize) else { return };
        match event {
            Event::Message { last, payload, .. } => session.carry_up(desk, payload, last),
            Event::Bytes(bytes) => session.carry_down(desk, bytes, &mut self.scratch),
            Event::Close(code) => session.client_ends(desk, code),
            Event::Fin => session.upstream_ends(desk),
            Event::Connected => self.connected(desk, token as usize),
            // One side takes more again: the other is read on.
            Event::Writable => session.other(who).into_iter().for_each(|other| desk.resume(other)),
            Event::Drain => desk.close(who, CloseCode::GOING_AWAY, "the server is stopping"),
            _ => {}
        }
    }

    fn letter(&mut self, _desk: &mut Desk<'_>, letter: ToShard) -> Option<ToShard> {
        match letter {
            ToShard::Addresses { upstream, addresses } => self.moved(upstream, &addresses),
            other => return Some(other),
        }
        None
    }
}

impl Proxy {
    /// The upstream has accepted: the client's 101 goes out.
    fn connected(&mut self, desk: &mut Desk<'_>, token: usize) {
        let Some(session) = self.sessions.get_mut(token) else { return };
        session.call.answered = true;
        session.header = Vec::new();
        let number = session.call.upstream;
        self.upstreams[number].answered(session.call.address);
        if let Some(client) = session.client {
            desk.upgrade(client);
        }
    }

    /// One side is gone.
    fn closed(&mut self, desk: &mut Desk<'_>, who: Handle, token: usize, cause: Cause) {
        let Some(session) = self.sessions.get_mut(token) else { return };
        if session.client == Some(who) {
            session.client = None;
            if let Some(upstream) = session.upstream {
                desk.resume(upstream);
                desk.end(upstream);
            }
        } else if session.upstream == Some(who) {
            session.upstream = None;
            self.upstream_gone(desk, token, cause);
        }
        let gone = |session: &Session| session.client.is_none() && session.upstream.is_none();
        if self.sessions.get(token).is_some_and(gone) {
            self.sessions.remove(token);
        }
    }

    /// A name leads elsewhere now.
    fn moved(&mut self, upstream: u32, addresses: &[SocketAddr]) {
        let Some(upstream) = self.upstreams.current_mut(upstream as usize) else { return };
        upstream.addresses = addresses.iter().copied().map(Address::Tcp).collect();
        upstream.preferred = 0;
    }

    fn upstream_gone(&mut self, desk: &mut Desk<'_>, token: usize, cause: Cause) {
        let session = &mut self.sessions[token];
        let number = session.call.upstream;
        self.upstreams[number].connections -= 1;
        counters(desk, number).connections -= 1;
        if session.call.answered {
            session.tell_client(desk, cause);
        } else if session.client.is_some() {
            self.call_failed(desk, token);
        }
    }

    // ---- calling ----

    /// The next address of this upstream, or else the next upstream.
    fn call_failed(&mut self, desk: &mut Desk<'_>, token: usize) {
        let call = &mut self.sessions[token].call;
        let upstream = &mut self.upstreams[call.upstream];
        if call.addresses_tried >= upstream.addresses.len() {
            upstream.failed(desk.now(), call.verdict);
            counters(desk, call.upstream).failures += 1;
            self.call(desk, token);
        } else {
            self.dial(desk, token);
        }
    }

    /// Calls an upstream, or gives up.
    fn call(&mut self, desk: &mut Desk<'_>, token: usize) {
        let (now, session) = (desk.now(), &mut self.sessions[token]);
        let (upstreams, call) = (&mut self.upstreams, &mut session.call);
        session.settings.upstreams.iter().for_each(|&number| upstreams[number as usize].heed(now));
        let Some((place, number)) = call.choose(&session.settings.upstreams, upstreams, now) else {
            return self.nobody_answers(desk, token);
        };
        let upstream = &mut upstreams[number as usize];
        call.tried |= 1 << place;
        (call.upstream, call.verdict) = (number as usize, upstream.verdict);
        (call.addresses_tried, call.address) = (0, upstream.preferred);
        upstream.is_called(now, session.settings.connect_ticks);
        self.dial(desk, token);
    }

    fn nobody_answers(&mut self, desk: &mut Desk<'_>, token: usize) {
        let numbers = &self.sessions[token].settings.upstreams;
        let retry_after = upstreams::retry_after(numbers.iter().map(|&it| &self.upstreams[it as usize]));
        self.give_up(desk, token, "no upstream answers", retry_after);
    }

    fn dial(&mut self, desk: &mut Desk<'_>, token: usize) {
        let session = &mut self.sessions[token];
        let call = &mut session.call;
        let upstream = &mut self.upstreams[call.upstream];
        call.address = (call.address + usize::from(call.addresses_tried > 0)) % upstream.addresses.len();
        call.addresses_tried += 1;
        let (to, tls) = (upstream.addresses[call.address].clone(), upstream.tls.clone());
        let timeout = session.settings.connect_ticks;
        let (upstream_number, limits) = (call.upstream as u16, session.limits);
        let first = session.header.clone();
        let service = ServiceKind::Proxy;
        let dial = Dial { to, first, tls, upstream: upstream_number, service, limits, timeout, spare: false };
        match desk.dial(dial, token as u32) {
            Some(handle) => {
                session.upstream = Some(handle);
                upstream.connections += 1;
                let counters = counters(desk, call.upstream);
                counters.connections += 1;
                counters.dials += 1;
            }
            None => self.give_up(desk, token, "all slots of this shard are taken", "1"),
        }
    }

    /// The client hears 503.
    fn give_up(&mut self, desk: &mut Desk<'_>, token: usize, words: &str, retry_after: &str) {
        if let Some(client) = self.sessions.remove(token).client {
            desk.release(client);
            desk.refuse(client, Status::SERVICE_UNAVAILABLE, &[("Retry-After", retry_after)], words);
        }
    }
}

impl Session {
    fn new(client: Handle, settings: Arc<ProxyPlan>, limits: u16) -> Session {
        Session {
            client: Some(client),
            upstream: None,
            settings,
            limits,
            call: Call::default(),
            header: Vec::new(),
            close_code: None,
            last_byte: 0,
            held_back: Vec::new(),
            line: Ok(Tail::new()),
        }
    }

    fn other(&self, who: Handle) -> Option<Handle> {
        if self.client == Some(who) { self.upstream } else { self.client }
    }

    // ---- from the client ----

    fn carry_up(&mut self, desk: &mut Desk<'_>, payload: &[u8], last: bool) {
        let Some(upstream) = self.upstream else { return };
        let mut written = desk.write(upstream, payload);
        if self.settings.frames == Frames::Lines {
            self.last_byte = payload.last().copied().unwrap_or(self.last_byte);
            if last && std::mem::take(&mut self.last_byte) != b'\n' {
                written = desk.write(upstream, b"\r\n");
            }
        }
        if let (Backpressure::Full, Some(client)) = (written, self.client) {
            desk.pause(client);
        }
    }

    /// The client's Close frame: the upstream hears the end behind everything else, and may still answer.
    fn client_ends(&mut self, desk: &mut Desk<'_>, code: Option<CloseCode>) {
        self.close_code = Some(code.unwrap_or(CloseCode::NORMAL));
        match self.upstream {
            Some(upstream) => desk.end(upstream),
            None => self.close_client(desk),
        }
    }

    // ---- from the upstream ----

    fn carry_down(&mut self, desk: &mut Desk<'_>, bytes: &[u8], scratch: &mut Vec<u8>) {
        let Some(client) = self.client else { return };
        let written = match self.settings.frames {
            Frames::Binary => desk.send(client, opcode(false), bytes),
            Frames::Text => self.text(desk, client, bytes, scratch),
            Frames::Lines => self.lines(desk, client, bytes),
        };
        if let (Backpressure::Full, Some(upstream)) = (written, self.upstream) {
            desk.pause(upstream);
        }
    }

    /// As much as ends with a whole character; the rest waits for its other bytes.
    fn text(&mut self, desk: &mut Desk<'_>, client: Handle, bytes: &[u8], scratch: &mut Vec<u8>) -> Backpressure {
        let bytes = if self.held_back.is_empty() {
            bytes
        } else {
            scratch.clear();
            scratch.append(&mut self.held_back);
            scratch.extend_from_slice(bytes);
            scratch
        };
        let Ok(whole) = utf8::whole(bytes) else {
            return self.fail(desk, client, "the upstream sent bytes that are not UTF-8");
        };
        self.held_back.extend_from_slice(&bytes[whole..]);
        if whole == 0 { Backpressure::Ready } else { desk.send(client, opcode(true), &bytes[..whole]) }
    }

    fn lines(&mut self, desk: &mut Desk<'_>, client: Handle, bytes: &[u8]) -> Backpressure {
        let (mut rest, mut written) = (bytes, Backpressure::Ready);
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            if self.is_between_lines(desk, client) {
                written = whole_line(desk, client, line);
                rest = &rest[end + 1..];
                continue;
            }
            // A CR held back belongs to this line's end if nothing has come between them.
            let came_between = end > 0;
            self.part_of_line(desk, client, line, came_between);
            self.held_back.clear();
            written = self.end_of_line(desk, client);
            rest = &rest[end + 1..];
        }
        let (line, cr) = rest.strip_suffix(b"\r").map_or((rest, false), |line| (line, true));
        self.part_of_line(desk, client, line, !rest.is_empty());
        if cr {
            self.held_back.push(b'\r');
        }
        if desk.drafted(client) as u64 > desk.limits(client).message_bytes {
            return self.fail(desk, client, "the upstream sent a line longer than message_bytes");
        }
        written
    }

    /// Nothing of the next line has come.
    fn is_between_lines(&self, desk: &Desk<'_>, client: Handle) -> bool {
        self.held_back.is_empty() && desk.drafted(client) == 0
    }

    fn part_of_line(&mut self, desk: &mut Desk<'_>, client: Handle, part: &[u8], with_held_back: bool) {
        if with_held_back && !self.held_back.is_empty() {
            self.held_back.clear();
            self.part_of_line(desk, client, b"\r", false);
        }
        if part.is_empty() {
            return;
        }
        if let Ok(tail) = &mut self.line {
            self.line = tail.feed(part).map(|()| *tail);
        }
        desk.draft(client, part);
    }

    /// A line that is not UTF-8 cannot be a text frame: it goes out as a binary one, so that nothing is lost.
    fn end_of_line(&mut self, desk: &mut Desk<'_>, client: Handle) -> Backpressure {
        let text = std::mem::replace(&mut self.line, Ok(Tail::new())).is_ok_and(|tail| tail.is_whole());
        desk.counters().lines_not_utf8 += u64::from(!text);
        if desk.drafted(client) == 0 {
            desk.send(client, opcode(true), b"")
        } else {
            desk.send_draft(client, opcode(text))
        }
    }

    /// The upstream's FIN.
    fn upstream_ends(&mut self, desk: &mut Desk<'_>) {
        let Some(client) = self.client else { return };
        if self.settings.frames == Frames::Lines {
            self.part_of_line(desk, client, b"", true);
            if desk.drafted(client) > 0 {
                self.end_of_line(desk, client);
            }
        } else if !self.held_back.is_empty() {
            self.fail(desk, client, "the upstream ended inside a character");
        }
        self.close_client(desk);
    }

    // ---- ends ----

    /// The client's own code back, or the news that the upstream has ended.
    fn close_client(&mut self, desk: &mut Desk<'_>) {
        let Some(client) = self.client else { return };
        match self.close_code {
            Some(code) => desk.close(client, code, ""),
            None => desk.close_because(client, self.settings.end_code, "the upstream has ended", Cause::UpstreamEnded),
        }
    }

    /// The connection to the upstream is gone for good.
    fn tell_client(&mut self, desk: &mut Desk<'_>, cause: Cause) {
        let Some(client) = self.client else { return };
        let words = match cause {
            Cause::Closed | Cause::ClientLeft => return self.close_client(desk),
            Cause::Stalled => "the upstream takes nothing",
            Cause::Overload => {
                let words = "the edge is out of buffer memory";
                return desk.close_because(client, CloseCode::TRY_AGAIN_LATER, words, Cause::Overload);
            }
            _ => "the connection to the upstream was lost",
        };
        desk.close_because(client, CloseCode::INTERNAL_ERROR, words, Cause::UpstreamLost);
    }

    /// The upstream broke what the route promises its clients.
    fn fail(&mut self, desk: &mut Desk<'_>, client: Handle, words: &str) -> Backpressure {
        desk.close_because(client, CloseCode::INTERNAL_ERROR, words, Cause::UpstreamLost);
        if let Some(upstream) = self.upstream {
            desk.cut(upstream, Cause::Protocol);
        }
        Backpressure::Gone
    }
}

/// The usual case: the line lies in one piece.
fn whole_line(desk: &mut Desk<'_>, client: Handle, line: &[u8]) -> Backpressure {
    let text = utf8::whole(line) == Ok(line.len());
    desk.counters().lines_not_utf8 += u64::from(!text);
    desk.send(client, opcode(text), line)
}

fn counters<'d>(desk: &'d mut Desk<'_>, number: usize) -> &'d mut UpstreamCounters {
    &mut desk.counters().upstreams[number]
}

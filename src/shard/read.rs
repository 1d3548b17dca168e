//! What peers say: the only caller of parsers.
//!
//! Bytes are parsed where the kernel wrote them. What cannot be used yet (a cut head, a cut frame head, a
//! request behind one that is not answered) goes into the connection's spill, and is put in front of what
//! comes next. So how bytes are cut changes nothing but the copying.

use super::conn::{Flags, State};
use super::desk::Chain;
use super::door::{Desk, Frame, Service};
use super::slab::Handle;
use super::work::FRAME;
use crate::mesh::Cause;
use edgehold_wire::http1::{self, Body, BodyEvent, BodyReader, Head, MAX_HEADERS, Version};
use edgehold_wire::status::Status;
use edgehold_wire::ws;
use edgehold_wire::ws::{CloseCode, Fault, FrameEvent, Opcode, ParserConfig, Role};

/// Bytes of a spill that are read at a time, if they make a head or a frame.
const PIECE: usize = 4 << 10;

/// Bytes that may wait in a spill, beyond one head, before the peer is held back.
const SPILL: usize = 16 << 10;

/// The peer has said something.
pub fn received<S: Service>(desk: &mut Desk, service: &mut S, slot: u32, bytes: &mut [u8]) {
    note(desk, slot, bytes.len());
    let before = desk.work.done();
    desk.work.add_copied(bytes.len());
    take_in(desk, service, slot, bytes);
    owe(desk, slot, before);
}

/// What the connection has cost since `before` beyond its share of a turn, it sits out.
fn owe(desk: &mut Desk, slot: u32, before: u64) {
    let (who, debt) = (desk.slab.handle(slot), desk.work.excuse(before));
    if debt > 0 && desk.slab[slot].reads() {
        read_later(desk, who);
        if let Some(last) = desk.later.iter_mut().rev().find(|it| it.0 == who) {
            last.1 += debt;
        }
    }
}

fn take_in<S: Service>(desk: &mut Desk, service: &mut S, slot: u32, bytes: &mut [u8]) {
    let conn = &desk.slab[slot];
    if conn.flags.intersects(Flags::PAUSED | Flags::LATER) {
        // Nothing is read before what the spill has, or will have.
        spill(desk, slot, bytes);
    } else if desk.side.spilled(conn.side) == 0 {
        let used = read(desk, service, slot, bytes);
        spill(desk, slot, &bytes[used..]);
    } else {
        spill(desk, slot, bytes);
        read_spill(desk, service, slot);
    }
}

/// The spill may be read now: the request before it has been answered, the other side takes more, another turn has
/// begun.
pub fn reread<S: Service>(desk: &mut Desk, service: &mut S, slot: u32) {
    let before = desk.work.done();
    read_spill(desk, service, slot);
    owe(desk, slot, before);
}

fn read_spill<S: Service>(desk: &mut Desk, service: &mut S, slot: u32) {
    desk.slab[slot].flags.remove(Flags::HELD);
    while read_piece(desk, service, slot, PIECE) {}
    let conn = &mut desk.slab[slot];
    if !conn.reads() {
        return;
    }
    desk.side.tidy(&mut conn.side);
    hold_back(desk, slot);
    desk.watch(slot);
    end_behind_spill(desk, service, slot);
}

/// Reads what the spill begins with, in the shard's one buffer for that. `true`: there may be more to be read.
fn read_piece<S: Service>(desk: &mut Desk, service: &mut S, slot: u32, most: usize) -> bool {
    let who = desk.slab.handle(slot);
    let all = desk.side.spilled(desk.slab[slot].side);
    if all == 0 || desk.slab[slot].flags.contains(Flags::LATER) {
        return false;
    }
    let mut piece = std::mem::take(&mut desk.spilled);
    if let Some(cold) = desk.side.get(desk.slab[slot].side) {
        desk.pool.read_draft_front(&cold.spill, most, &mut piece);
    }
    let (len, used) = (piece.len(), read(desk, service, slot, &mut piece));
    piece.clear();
    desk.spilled = piece;
    let Some(conn) = desk.slab.get(who) else { return false };
    if let Some(cold) = desk.side.get(conn.side) {
        let used = used.min(cold.spill.draft());
        desk.pool.skip_draft(&mut cold.spill, used);
    }
    match used {
        // What there is does not make a head or a frame: all of it may.
        0 if len < all && !conn.is_held_back() => read_piece(desk, service, slot, most * 8),
        0 => false,
        _ => true,
    }
}

/// The peer's end, once all that came before it has been read.
fn end_behind_spill<S: Service>(desk: &mut Desk, service: &mut S, slot: u32) {
    let conn = &mut desk.slab[slot];
    if conn.flags.contains(Flags::END) && !conn.must_be_read_first() {
        conn.flags.remove(Flags::END);
        ended(desk, service, slot);
    }
}

/// The peer will say nothing more.
pub fn ended<S: Service>(desk: &mut Desk, service: &mut S, slot: u32) {
    let who = desk.slab.handle(slot);
    let conn = &mut desk.slab[slot];
    conn.flags.insert(Flags::EOF);
    if conn.must_be_read_first() {
        conn.flags.insert(Flags::END);
        return;
    }
    desk.list(slot);
    let conn = &desk.slab[slot];
    let (state, flags, token) = (conn.state, conn.flags, conn.token);
    match state {
        State::Open if flags.contains(Flags::UPSTREAM) => service.frame(desk, who, token, Frame::End(None)),
        // Behind its Close frame a client may end its side: what is said before our Close still reaches it.
        State::Open if flags.contains(Flags::CLOSE_RECEIVED) => {}
        // Nobody waits for the end of a stream that has none: who ends his side has left.
        State::Open if flags.intersects(Flags::WEBSOCKET | Flags::FOLLOWS) => desk.cut(who, Cause::Gone),
        State::Closing if !flags.intersects(Flags::DISCARDS | Flags::CLOSE_RECEIVED) => desk.cut(who, Cause::Gone),
        _ => {}
    }
}

/// A client may end its side behind its requests and still wait for the responses: when the last request that it
/// sent is answered, the connection ends behind the answer.
pub fn end_requests(desk: &mut Desk, slot: u32) {
    let conn = &desk.slab[slot];
    let over = conn.state == State::Head && conn.flags.contains(Flags::EOF);
    if !over || conn.flags.intersects(Flags::FULL | Flags::UNREAD | Flags::LATER) {
        return;
    }
    let who = desk.slab.handle(slot);
    let answered = conn.flags.contains(Flags::REUSED) && desk.side.spilled(conn.side) == 0;
    let cause = if answered { Cause::Closed } else { Cause::Gone };
    if conn.has_unsent() {
        desk.slab[slot].set_cause(cause);
        desk.finish(who);
    } else {
        desk.cut(who, cause);
    }
}

fn note(desk: &mut Desk, slot: u32, len: usize) {
    let now = desk.clock.now();
    let conn = &mut desk.slab[slot];
    conn.last_received = now;
    conn.flags.remove(Flags::PINGED);
    if conn.flags.contains(Flags::UPSTREAM) {
        desk.counters.upstream_bytes_in += len as u64;
    } else {
        desk.counters.bytes_in += len as u64;
    }
}

/// Keeps what could not be used.
fn spill(desk: &mut Desk, slot: u32, rest: &[u8]) {
    let first = desk.side.spilled(desk.slab[slot].side) == 0;
    if rest.is_empty() || !keep(desk, slot, rest) {
        return;
    }
    let conn = &mut desk.slab[slot];
    if first && conn.state == State::Head {
        // The first byte of a head starts its clock.
        if conn.flags.contains(Flags::REUSED) {
            conn.since = desk.clock.now();
        }
        desk.watch(slot);
    }
    hold_back(desk, slot);
}

/// `false`: there is no memory for it, and the connection is ending.
fn keep(desk: &mut Desk, slot: u32, rest: &[u8]) -> bool {
    let who = desk.slab.handle(slot);
    let kept = desk.put(who, Chain::Spill, [rest, b""]).is_ok();
    if !kept {
        desk.overloaded(who);
    }
    kept
}

/// A peer that sends more requests than are answered waits.
fn hold_back(desk: &mut Desk, slot: u32) {
    let conn = &mut desk.slab[slot];
    let waits = match conn.state {
        State::Open => !conn.is_carried(),
        State::Head => conn.flags.contains(Flags::FULL),
        _ => false,
    };
    if waits && desk.side.spilled(conn.side) > SPILL && !conn.flags.contains(Flags::HELD) {
        conn.flags.insert(Flags::HELD);
        desk.counters.held_back += 1;
        desk.watch(slot);
        desk.list(slot);
    }
}

/// The turn's work is done: what else this peer has said is read in the next.
fn read_later(desk: &mut Desk, who: Handle) {
    let conn = &mut desk.slab[who.slot];
    if !conn.flags.contains(Flags::LATER) {
        conn.flags.insert(Flags::LATER);
        desk.later.push_back((who, 0));
        desk.list(who.slot);
    }
}

/// Reads as far as the connection's state allows; says how many bytes are used up.
fn read<S: Service>(desk: &mut Desk, service: &mut S, slot: u32, bytes: &mut [u8]) -> usize {
    let (len, begun) = (bytes.len(), desk.work.done());
    let who = desk.slab.handle(slot);
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(conn) = desk.slab.get(who) else { return len };
        conn.flags.remove(Flags::UNREAD);
        let (state, flags, token) = (conn.state, conn.flags, conn.token);
        let enough = desk.work.is_over() || desk.work.has_had_share(begun);
        if rest.len() < len && enough && !flags.contains(Flags::DISCARDS) {
            read_later(desk, who);
            break;
        }
        let went_on = match state {
            // A client that does not take its responses gets no more of them.
            State::Head if flags.contains(Flags::FULL) => false,
            State::Head if has_body(desk, slot) => skip_body(desk, slot, &mut rest),
            State::Head => head(desk, service, who, &mut rest),
            State::Open | State::Closing if flags.contains(Flags::DISCARDS) => return len,
            // The other side takes nothing for now.
            State::Open if flags.contains(Flags::PAUSED) => false,
            State::Open | State::Closing if flags.contains(Flags::WEBSOCKET) => frames(desk, service, who, &mut rest),
            State::Open if flags.contains(Flags::UPSTREAM) => {
                desk.work.add(FRAME);
                service.frame(desk, who, token, Frame::Bytes(rest));
                return len;
            }
            // A response is being made, or the upstream is being called: what follows waits.
            State::Open => false,
            _ => return len,
        };
        if !went_on {
            break;
        }
    }
    len - rest.len()
}

// ---- HTTP ----

/// A head that was cut is read from its beginning whenever more of it comes: that costs less than the packet that
/// brought it, and a limit is found passed at once.
fn head<S: Service>(desk: &mut Desk, service: &mut S, who: Handle, rest: &mut &mut [u8]) -> bool {
    let limits = desk.limits(who).head;
    let mut store = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let bytes = std::mem::take(rest);
    match http1::read(bytes, &limits, &mut store) {
        Ok(None) => {
            *rest = bytes;
            false
        }
        Ok(Some(head)) => {
            desk.work.add(FRAME);
            request(desk, service, who, &head);
            let len = head.len;
            *rest = &mut bytes[len..];
            true
        }
        Err(refusal) => {
            desk.refuse_last(who, refusal.status(), refusal.words());
            false
        }
    }
}

fn request<S: Service>(desk: &mut Desk, service: &mut S, who: Handle, head: &Head<'_, '_>) {
    let conn = &mut desk.slab[who.slot];
    conn.flags.set(Flags::LAST, !head.keep_alive || desk.draining);
    conn.flags.set(Flags::HEAD_ONLY, head.method == "HEAD");
    conn.flags.set(Flags::HTTP10, head.version == Version::Http10);
    if expect_body(desk, who, head) {
        service.open(desk, who, head);
    }
}

/// No service here takes a body: it is skipped behind the answer. One that is too large to be skipped, or whose
/// sender waits to be asked for it (Expect: 100-continue), ends the connection.
fn expect_body(desk: &mut Desk, who: Handle, head: &Head<'_, '_>) -> bool {
    let most = desk.limits(who).message_bytes;
    let conn = &mut desk.slab[who.slot];
    match head.body {
        Body::None | Body::Length(0) => return true,
        Body::Length(len) if len > most => {
            desk.refuse_last(who, Status::CONTENT_TOO_LARGE, "the body is larger than message_bytes");
            return false;
        }
        _ => {}
    }
    if head.get("Expect").is_some() {
        conn.flags.insert(Flags::LAST);
    } else {
        desk.side.make(&mut conn.side).body = Some((BodyReader::new(&head.body), most));
    }
    true
}

fn has_body(desk: &mut Desk, slot: u32) -> bool {
    let side = desk.slab[slot].side;
    desk.side.get(side).is_some_and(|cold| cold.body.is_some())
}

fn skip_body(desk: &mut Desk, slot: u32, rest: &mut &mut [u8]) -> bool {
    let who = desk.slab.handle(slot);
    let conn = &desk.slab[slot];
    let Some(cold) = desk.side.get(conn.side) else { return false };
    let Some((reader, left)) = &mut cold.body else { return false };
    let mut input: &[u8] = rest;
    let step = loop {
        match reader.next(&mut input) {
            Ok(BodyEvent::Piece(piece)) if piece.len() as u64 > *left => {
                break Err((Status::CONTENT_TOO_LARGE, "the body is larger than message_bytes"));
            }
            Ok(BodyEvent::Piece(piece)) => *left -= piece.len() as u64,
            Ok(BodyEvent::More) => break Ok(false),
            Ok(BodyEvent::End) => break Ok(true),
            Err(refusal) => break Err((refusal.status(), refusal.words())),
        }
    };
    let used = rest.len() - input.len();
    *rest = &mut std::mem::take(rest)[used..];
    match step {
        Ok(true) => cold.body = None,
        Ok(false) => return false,
        Err((status, words)) => desk.refuse_last(who, status, words),
    }
    true
}

// ---- WebSocket ----

fn frames<S: Service>(desk: &mut Desk, service: &mut S, who: Handle, rest: &mut &mut [u8]) -> bool {
    let deflate = desk.slab[who.slot].flags.contains(Flags::DEFLATE);
    let config = ParserConfig { role: Role::Server, message_bytes: desk.limits(who).message_bytes, deflate };
    let mut parser = desk.slab[who.slot].parser;
    let begun = desk.work.done();
    loop {
        let event = parser.next(rest, &config);
        let Some(conn) = desk.slab.get(who) else { return false };
        conn.parser = parser;
        match event {
            Ok(Some(event)) => {
                desk.work.add(FRAME);
                let goes_on = frame(desk, service, who, event);
                if !goes_on || desk.work.is_over() || desk.work.has_had_share(begun) {
                    return true;
                }
            }
            Ok(None) => return false,
            Err(fault) => {
                fail(desk, who, fault);
                return true;
            }
        }
    }
}

/// `false`: nothing more is to be parsed.
fn frame<S: Service>(desk: &mut Desk, service: &mut S, who: Handle, event: FrameEvent<'_>) -> bool {
    let conn = &mut desk.slab[who.slot];
    let (token, kind) = (conn.token, conn.service);
    match event {
        FrameEvent::Data { text, deflated: true, first, last, payload } => {
            deflated(desk, service, who, text, (first, last), payload);
        }
        FrameEvent::Data { text, first, last, payload, .. } => {
            desk.counters.messages_in[kind as usize] += u64::from(last);
            service.frame(desk, who, token, Frame::Piece { text, first, last, payload });
        }
        FrameEvent::Ping(payload) => pong(desk, who, payload),
        FrameEvent::Pong(_) | FrameEvent::Empty => {}
        FrameEvent::Close(close) => {
            peer_closes(desk, service, who, close.map(|(code, _)| code));
            return false;
        }
    }
    let conn = &desk.slab[who.slot];
    matches!(conn.state, State::Open | State::Closing) && !conn.flags.intersects(Flags::DISCARDS | Flags::PAUSED)
}

/// A deflated message is inflated when it is whole: from where it lies, if it came in one piece.
fn deflated<S: Service>(
    desk: &mut Desk,
    service: &mut S,
    who: Handle,
    text: bool,
    (first, last): (bool, bool),
    piece: &[u8],
) {
    if first && last {
        return inflate(desk, service, who, text, piece);
    }
    if !desk.gather(who, piece) {
        desk.overloaded(who);
        desk.slab[who.slot].flags.insert(Flags::DISCARDS);
        return;
    }
    if last {
        let message = desk.gathered(who);
        inflate(desk, service, who, text, &message);
        desk.compression.put_back(message);
    }
}

fn inflate<S: Service>(desk: &mut Desk, service: &mut S, who: Handle, text: bool, message: &[u8]) {
    match desk.inflated(who, text, message) {
        Ok(plain) => {
            let conn = &desk.slab[who.slot];
            let (token, kind) = (conn.token, conn.service);
            desk.counters.messages_in[kind as usize] += 1;
            service.frame(desk, who, token, Frame::Piece { text, first: true, last: true, payload: &plain });
            desk.compression.put_back(plain);
        }
        Err(fault) => fail(desk, who, fault),
    }
}

/// RFC 6455 section 5.5.3. A peer that pings and does not read is held to `max_pending` like any other: until it
/// reads, only its latest ping is remembered, which is all that has to be answered.
fn pong(desk: &mut Desk, who: Handle, payload: &[u8]) {
    let conn = &mut desk.slab[who.slot];
    if conn.flags.contains(Flags::FULL) {
        desk.side.make(&mut conn.side).owed_pong = Some(payload.into());
    } else if conn.can_send() {
        let head = ws::head(Opcode::Pong, true, payload.len() as u64, None);
        desk.write_urgent(who, [head.as_bytes(), payload]);
    }
}

/// The pong that was owed while the peer did not read.
pub fn pay_pong(desk: &mut Desk, who: Handle) {
    let conn = &mut desk.slab[who.slot];
    let owed = desk.side.get(conn.side).and_then(|cold| cold.owed_pong.take());
    desk.side.tidy(&mut conn.side);
    if let Some(payload) = owed {
        pong(desk, who, &payload);
    }
}

/// The peer's Close frame. Whoever has not said goodbye yet is asked to.
fn peer_closes<S: Service>(desk: &mut Desk, service: &mut S, who: Handle, code: Option<CloseCode>) {
    let now = desk.clock.now();
    let conn = &mut desk.slab[who.slot];
    conn.flags.insert(Flags::CLOSE_RECEIVED | Flags::DISCARDS);
    conn.set_cause(Cause::Closed);
    if !conn.flags.contains(Flags::CLOSE_SENT) {
        conn.since = now;
        let token = conn.token;
        desk.watch(who.slot);
        service.frame(desk, who, token, Frame::End(code));
    }
    desk.list(who.slot);
}

/// RFC 6455 section 7.1.7: the peer is told its fault, and is not listened to any more.
fn fail(desk: &mut Desk, who: Handle, fault: Fault) {
    desk.slab[who.slot].set_cause(Cause::Protocol);
    desk.close_discarding(who, fault.code(), fault.words());
}

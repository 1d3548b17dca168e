//! What peers say: the only caller of parsers.
//!
//! Bytes are parsed where the kernel wrote them. What cannot be used yet (a cut head, a cut frame head, a
//! request behind one that is not answered) goes into the connection's spill, and is put in front of what
//! comes next. So how bytes are cut changes nothing but the copying.

use super::conn::{Exchange, Flags, Hold, Protocol, ReadEnd, ReadEvent, State};
use super::desk::Chain;
use super::service::{Desk, Event, Services, Verdict};
use super::side_table::Cold;
use super::slab::Handle;
use super::work::FRAME;
use crate::mesh::Cause;
use edgehold_wire::http1::{self, Body, BodyEvent, BodyReader, Head, MAX_HEADERS, Version};
use edgehold_wire::status::Status;
use edgehold_wire::ws;
use edgehold_wire::ws::{CloseCode, Fault, Opcode, Role, Rules};

/// Bytes of a spill that are read at a time, if they make a head or a frame.
const PIECE: usize = 4 << 10;

/// Bytes that may wait in a spill, beyond one head, before the peer is held back.
const SPILL: usize = 16 << 10;

/// The peer has said something.
pub fn received<S: Services>(desk: &mut Desk, service: &mut S, slot: u32, bytes: &mut [u8]) {
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

fn take_in<S: Services>(desk: &mut Desk, service: &mut S, slot: u32, bytes: &mut [u8]) {
    let conn = &desk.slab[slot];
    if conn.hold.intersects(Hold::SERVICE | Hold::TURN | Hold::VERDICT) {
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
pub fn reread<S: Services>(desk: &mut Desk, service: &mut S, slot: u32) {
    let before = desk.work.done();
    read_spill(desk, service, slot);
    owe(desk, slot, before);
}

fn read_spill<S: Services>(desk: &mut Desk, service: &mut S, slot: u32) {
    desk.slab[slot].hold.remove(Hold::SPILL);
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
fn read_piece<S: Services>(desk: &mut Desk, service: &mut S, slot: u32, most: usize) -> bool {
    let who = desk.slab.handle(slot);
    let all = desk.side.spilled(desk.slab[slot].side);
    if all == 0 || desk.slab[slot].hold.contains(Hold::TURN) {
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
fn end_behind_spill<S: Services>(desk: &mut Desk, service: &mut S, slot: u32) {
    let conn = &mut desk.slab[slot];
    if conn.read == ReadEnd::Ending && !conn.must_be_read_first() {
        ended(desk, service, slot);
    }
}

/// The peer will say nothing more.
pub fn ended<S: Services>(desk: &mut Desk, service: &mut S, slot: u32) {
    let who = desk.slab.handle(slot);
    let conn = &mut desk.slab[slot];
    if conn.must_be_read_first() {
        conn.step_read(ReadEvent::FinBehind);
        return;
    }
    conn.step_read(ReadEvent::Fin);
    desk.list(slot);
    let conn = &desk.slab[slot];
    let (state, protocol, flags, token) = (conn.state, conn.protocol, conn.flags, conn.token);
    match (state, protocol) {
        (State::Open, Protocol::Raw) => service.event(desk, who, token, Event::Fin),
        // Behind its Close frame a client may end its side: what is said before our Close still reaches it.
        (State::Open, _) if flags.contains(Flags::CLOSE_RECEIVED) => {}
        // Nobody waits for the end of a stream that has none: who ends his side has left.
        (State::Open, Protocol::WebSocket(_) | Protocol::Stream) => desk.cut(who, Cause::Gone),
        // The rest of the body will not come.
        (State::Open, _) if conn.exchange.contains(Exchange::BODY_WANTED) => desk.cut(who, Cause::Gone),
        (State::Closing, _) if !flags.intersects(Flags::DISCARDS | Flags::CLOSE_RECEIVED) => desk.cut(who, Cause::Gone),
        _ => {}
    }
}

/// A client may end its side behind its requests and still wait for the responses: when the last request that it
/// sent is answered, the connection ends behind the answer.
pub fn end_requests(desk: &mut Desk, slot: u32) {
    let conn = &desk.slab[slot];
    let over = conn.state == State::Head && conn.read.has_ended();
    let goes_on = conn.hold.intersects(Hold::TURN | Hold::VERDICT);
    if !over || goes_on || conn.flags.intersects(Flags::FULL | Flags::UNREAD) {
        return;
    }
    let who = desk.slab.handle(slot);
    let answered = conn.exchange.contains(Exchange::REUSED) && desk.side.spilled(conn.side) == 0;
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
    if conn.is_upstream() {
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
        if conn.exchange.contains(Exchange::REUSED) {
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
        State::Open => !conn.protocol.is_carried(),
        State::Head => conn.flags.contains(Flags::FULL) || conn.hold.contains(Hold::VERDICT),
        _ => false,
    };
    if waits && desk.side.spilled(conn.side) > SPILL && !conn.hold.contains(Hold::SPILL) {
        conn.hold.insert(Hold::SPILL);
        desk.counters.held_back += 1;
        desk.watch(slot);
        desk.list(slot);
    }
}

/// The turn's work is done: what else this peer has said is read in the next.
fn read_later(desk: &mut Desk, who: Handle) {
    let conn = &mut desk.slab[who.slot];
    if !conn.hold.contains(Hold::TURN) {
        conn.hold.insert(Hold::TURN);
        desk.later.push_back((who, 0));
        desk.list(who.slot);
    }
}

/// Reads as far as the connection's state allows; says how many bytes are used up.
fn read<S: Services>(desk: &mut Desk, service: &mut S, slot: u32, bytes: &mut [u8]) -> usize {
    let (len, begun) = (bytes.len(), desk.work.done());
    let who = desk.slab.handle(slot);
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(conn) = desk.slab.get(who) else { return len };
        conn.flags.remove(Flags::UNREAD);
        let (state, token, protocol) = (conn.state, conn.token, conn.protocol);
        let (full, waits) = (conn.flags.contains(Flags::FULL), conn.hold.contains(Hold::VERDICT));
        let (paused, body) = (conn.hold.contains(Hold::SERVICE), conn.exchange.contains(Exchange::BODY_WANTED));
        let discards = matches!(state, State::Open | State::Closing) && conn.discards();
        let enough = desk.work.is_over() || desk.work.has_had_share(begun);
        if rest.len() < len && enough && !discards {
            read_later(desk, who);
            break;
        }
        let went_on = match state {
            // A client that does not take its responses gets no more of them.
            State::Head if full || waits => false,
            State::Head if has_body(desk, slot) => skip_body(desk, slot, &mut rest),
            State::Head => head(desk, service, who, &mut rest),
            State::Open | State::Closing if discards => return len,
            // The other side takes nothing for now.
            State::Open if paused => false,
            State::Open | State::Closing if matches!(protocol, Protocol::WebSocket(_)) => {
                frames(desk, service, who, &mut rest)
            }
            State::Open if protocol == Protocol::Raw => {
                desk.work.add(FRAME);
                service.event(desk, who, token, Event::Bytes(rest));
                return len;
            }
            State::Open if body && has_body(desk, slot) => take_body(desk, service, who, &mut rest),
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
fn head<S: Services>(desk: &mut Desk, service: &mut S, who: Handle, rest: &mut &mut [u8]) -> bool {
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
            let (len, verdict) = (head.len, request(desk, service, who, &head));
            if let Verdict::Wait(token) = verdict {
                wait(desk, who, token);
                *rest = bytes;
                return false;
            }
            *rest = &mut bytes[len..];
            true
        }
        Err(refusal) => {
            desk.refuse_last(who, refusal.status(), refusal.words());
            false
        }
    }
}

fn request<S: Services>(desk: &mut Desk, service: &mut S, who: Handle, head: &Head<'_, '_>) -> Verdict {
    let conn = &mut desk.slab[who.slot];
    conn.exchange.set(Exchange::LAST, !head.keep_alive || desk.draining);
    conn.exchange.set(Exchange::HEAD_ONLY, head.method == "HEAD");
    conn.exchange.set(Exchange::HTTP10, head.version == Version::Http10);
    if expect_body(desk, who, head) { service.request(desk, who, head) } else { Verdict::Served }
}

/// The head stays unread until the verdict has come.
fn wait(desk: &mut Desk, who: Handle, token: u32) {
    let now = desk.clock.now();
    forget_body(desk, who.slot);
    let Some(conn) = desk.slab.get(who) else { return };
    (conn.token, conn.last_received) = (token, now);
    conn.flags.insert(Flags::OWNED);
    conn.hold.insert(Hold::VERDICT);
    desk.watch(who.slot);
    desk.list(who.slot);
}

/// A body goes to the service that asks for it (`Desk::want_body`), and is skipped behind the response otherwise. One that
/// is too large is refused; where its sender waits to be asked for it (Expect: 100-continue, RFC 9110 section 10.1.1) and
/// is not, the connection ends behind the response.
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
    conn.exchange.set(Exchange::EXPECTS, head.get("Expect").is_some());
    desk.side.make(&mut conn.side).body = Some((BodyReader::new(&head.body), most));
    true
}

fn has_body(desk: &mut Desk, slot: u32) -> bool {
    let side = desk.slab[slot].side;
    desk.side.get(side).is_some_and(|cold| cold.body.is_some())
}

/// Skips a body that no service wants. `false`: there is more of it to come.
fn skip_body(desk: &mut Desk, slot: u32, rest: &mut &mut [u8]) -> bool {
    let who = desk.slab.handle(slot);
    loop {
        match next_of_body(desk, who, rest) {
            Ok(BodyEvent::Piece(_)) => {}
            Ok(BodyEvent::More) => return false,
            Ok(BodyEvent::End) => {
                forget_body(desk, slot);
                return true;
            }
            Err((status, words)) => {
                desk.refuse_last(who, status, words);
                return true;
            }
        }
    }
}

/// Hands the next piece of a body to its service, and its end with the last one. `false`: there is more of it to come.
fn take_body<S: Services>(desk: &mut Desk, service: &mut S, who: Handle, rest: &mut &mut [u8]) -> bool {
    let token = desk.slab[who.slot].token;
    desk.work.add(FRAME);
    match next_of_body(desk, who, rest) {
        Ok(BodyEvent::Piece(piece)) => service.event(desk, who, token, Event::Body(piece)),
        Ok(BodyEvent::More) => return false,
        Ok(BodyEvent::End) => {}
        Err((status, words)) => {
            fail_body(desk, who, status, words);
            return true;
        }
    }
    end_body(desk, service, who);
    true
}

/// The service is told of the end as soon as it is known, held back or not: it costs nobody anything.
fn end_body<S: Services>(desk: &mut Desk, service: &mut S, who: Handle) {
    let Some(conn) = desk.slab.get(who) else { return };
    let (token, wanted) = (conn.token, conn.exchange.contains(Exchange::BODY_WANTED));
    let is_over = |cold: &mut Cold| cold.body.as_ref().is_none_or(|(reader, _)| reader.is_done());
    if !wanted || !desk.side.get(conn.side).is_none_or(is_over) {
        return;
    }
    conn.exchange.remove(Exchange::BODY_WANTED);
    forget_body(desk, who.slot);
    service.event(desk, who, token, Event::BodyEnd);
}

/// A body that cannot be read on. Where the response has begun its end is all that can tell.
fn fail_body(desk: &mut Desk, who: Handle, status: Status, words: &str) {
    if desk.slab[who.slot].exchange.contains(Exchange::ANSWERING) {
        return desk.cut(who, Cause::Protocol);
    }
    desk.refuse_last(who, status, words);
}

/// Behind it the next request is read.
fn forget_body(desk: &mut Desk, slot: u32) {
    let conn = &mut desk.slab[slot];
    if let Some(cold) = desk.side.get(conn.side) {
        cold.body = None;
    }
    desk.side.tidy(&mut conn.side);
}

/// The next piece of the body, or its end.
///
/// # Errors
/// The body is malformed or larger than `message_bytes`: the status and the words for its sender.
fn next_of_body<'b>(
    desk: &mut Desk,
    who: Handle,
    rest: &mut &'b mut [u8],
) -> Result<BodyEvent<'b>, (Status, &'static str)> {
    let side = desk.slab[who.slot].side;
    let Some((reader, left)) = desk.side.get(side).and_then(|cold| cold.body.as_mut()) else {
        return Ok(BodyEvent::End);
    };
    let bytes = std::mem::take(rest);
    let mut input: &[u8] = bytes;
    let event = reader.next(&mut input).map_err(|refusal| (refusal.status(), refusal.words()))?;
    let len = if let BodyEvent::Piece(piece) = event { piece.len() } else { 0 };
    let is_end = event == BodyEvent::End;
    let used = bytes.len() - input.len();
    let (read, behind) = bytes.split_at_mut(used);
    *rest = behind;
    match len as u64 {
        0 if is_end => Ok(BodyEvent::End),
        0 => Ok(BodyEvent::More),
        len if len > *left => Err((Status::CONTENT_TOO_LARGE, "the body is larger than message_bytes")),
        long => {
            *left -= long;
            Ok(BodyEvent::Piece(&read[used - len..]))
        }
    }
}

// ---- WebSocket ----

fn frames<S: Services>(desk: &mut Desk, service: &mut S, who: Handle, rest: &mut &mut [u8]) -> bool {
    let deflate = desk.slab[who.slot].flags.contains(Flags::DEFLATE);
    let rules = Rules { role: Role::Server, message_bytes: desk.limits(who).message_bytes, deflate };
    let mut parser = desk.slab[who.slot].parser;
    let begun = desk.work.done();
    loop {
        let event = parser.next(rest, &rules);
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
fn frame<S: Services>(desk: &mut Desk, service: &mut S, who: Handle, event: ws::Event<'_>) -> bool {
    let conn = &mut desk.slab[who.slot];
    let (token, kind) = (conn.token, conn.service);
    match event {
        ws::Event::Data { text, deflated: true, first, last, payload } => {
            deflated(desk, service, who, text, (first, last), payload);
        }
        ws::Event::Data { text, first, last, payload, .. } => {
            desk.counters.messages_in[kind as usize] += u64::from(last);
            service.event(desk, who, token, Event::Message { text, first, last, payload });
        }
        ws::Event::Ping(payload) => pong(desk, who, payload),
        ws::Event::Pong(_) | ws::Event::Empty => {}
        ws::Event::Close(close) => {
            peer_closes(desk, service, who, close.map(|(code, _)| code));
            return false;
        }
    }
    let conn = &desk.slab[who.slot];
    matches!(conn.state, State::Open | State::Closing) && !conn.discards() && !conn.hold.contains(Hold::SERVICE)
}

/// A deflated message is inflated when it is whole: from where it lies, if it came in one piece.
fn deflated<S: Services>(
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

fn inflate<S: Services>(desk: &mut Desk, service: &mut S, who: Handle, text: bool, message: &[u8]) {
    match desk.inflated(who, text, message) {
        Ok(plain) => {
            let conn = &desk.slab[who.slot];
            let (token, kind) = (conn.token, conn.service);
            desk.counters.messages_in[kind as usize] += 1;
            service.event(desk, who, token, Event::Message { text, first: true, last: true, payload: &plain });
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
fn peer_closes<S: Services>(desk: &mut Desk, service: &mut S, who: Handle, code: Option<CloseCode>) {
    let now = desk.clock.now();
    let conn = &mut desk.slab[who.slot];
    conn.flags.insert(Flags::CLOSE_RECEIVED | Flags::DISCARDS);
    conn.set_cause(Cause::Closed);
    if !conn.flags.contains(Flags::CLOSE_SENT) {
        conn.since = now;
        let token = conn.token;
        desk.watch(who.slot);
        service.event(desk, who, token, Event::Close(code));
    }
    desk.list(who.slot);
}

/// RFC 6455 section 7.1.7: the peer is told its fault, and is not listened to any more.
fn fail(desk: &mut Desk, who: Handle, fault: Fault) {
    desk.slab[who.slot].set_cause(Cause::Protocol);
    desk.close_discarding(who, fault.code(), fault.words());
}

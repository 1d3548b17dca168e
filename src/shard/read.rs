//! Received bytes: the only caller of parsers.
//!
//! Bytes are parsed where the kernel wrote them. What cannot be used yet (a cut head, a cut frame head, a request
//! behind one that is not answered) is appended to the connection's spill, and is read in front of what is received
//! next. So how bytes are cut changes nothing but the copying.

use super::conn::{Exchange, Flags, Hold, Protocol, ReadEnd, ReadEvent, State};
use super::core::{Chain, Core};
use super::service::{Event, Services, Verdict};
use super::side_table::Cold;
use super::slab::Handle;
use super::work::FRAME;
use crate::mesh::Cause;
use edgehold_wire::http1::{self, Body, BodyEvent, BodyReader, Head, MAX_HEADERS, Version};
use edgehold_wire::status::Status;
use edgehold_wire::ws;
use edgehold_wire::ws::{CloseCode, Fault, Opcode, ParserConfig, Role};

/// Bytes of a spill that are read at a time, if they make a head or a frame.
const PIECE: usize = 4 << 10;

/// Bytes that may wait in a spill, beyond one head, before the peer is held back.
const SPILL: usize = 16 << 10;

/// Bytes were received.
pub fn received<S: Services>(core: &mut Core, service: &mut S, slot: u32, bytes: &mut [u8]) {
    note(core, slot, bytes.len());
    let before = core.work.done();
    core.work.add_copied(bytes.len());
    take_in(core, service, slot, bytes);
    owe(core, slot, before);
}

/// What the connection has cost since `before` beyond its share of a turn, it sits out.
fn owe(core: &mut Core, slot: u32, before: u64) {
    let (who, debt) = (core.slab.handle(slot), core.work.excuse(before));
    if debt > 0 && core.slab[slot].reads() {
        read_later(core, who);
        if let Some(last) = core.later.iter_mut().rev().find(|it| it.0 == who) {
            last.1 += debt;
        }
    }
}

fn take_in<S: Services>(core: &mut Core, service: &mut S, slot: u32, bytes: &mut [u8]) {
    let conn = &core.slab[slot];
    if conn.hold.intersects(Hold::SERVICE | Hold::TURN | Hold::VERDICT) {
        // Nothing is read before what the spill has, or will have.
        spill(core, slot, bytes);
    } else if core.side.spilled(conn.side) == 0 {
        let used = read(core, service, slot, bytes);
        spill(core, slot, &bytes[used..]);
    } else {
        spill(core, slot, bytes);
        read_spill(core, service, slot);
    }
}

/// The spill may be read now: the request before it has been answered, the other side takes more, another turn has
/// begun.
pub fn reread<S: Services>(core: &mut Core, service: &mut S, slot: u32) {
    let before = core.work.done();
    read_spill(core, service, slot);
    owe(core, slot, before);
}

fn read_spill<S: Services>(core: &mut Core, service: &mut S, slot: u32) {
    core.slab[slot].hold.remove(Hold::SPILL);
    while read_piece(core, service, slot, PIECE) {}
    let conn = &mut core.slab[slot];
    if !conn.reads() {
        return;
    }
    core.side.tidy(&mut conn.side);
    hold_back(core, slot);
    core.watch(slot);
    end_behind_spill(core, service, slot);
}

/// Reads what the spill begins with, in the shard's one buffer for that. `true`: there may be more to be read.
fn read_piece<S: Services>(core: &mut Core, service: &mut S, slot: u32, most: usize) -> bool {
    let who = core.slab.handle(slot);
    let all = core.side.spilled(core.slab[slot].side);
    if all == 0 || core.slab[slot].hold.contains(Hold::TURN) {
        return false;
    }
    let mut piece = std::mem::take(&mut core.spilled);
    if let Some(cold) = core.side.get_mut(core.slab[slot].side) {
        core.pool.read_draft_front(&cold.spill, most, &mut piece);
    }
    let (len, used) = (piece.len(), read(core, service, slot, &mut piece));
    piece.clear();
    core.spilled = piece;
    let Some(conn) = core.slab.get_mut(who) else { return false };
    if let Some(cold) = core.side.get_mut(conn.side) {
        let used = used.min(cold.spill.draft());
        core.pool.skip_draft(&mut cold.spill, used);
    }
    match used {
        // What there is does not make a head or a frame: all of it may.
        0 if len < all && !conn.is_held_back() => read_piece(core, service, slot, most * 8),
        0 => false,
        _ => true,
    }
}

/// The peer's end, once all that came before it has been read.
fn end_behind_spill<S: Services>(core: &mut Core, service: &mut S, slot: u32) {
    let conn = &mut core.slab[slot];
    // A body that was asked for only after the end had come will have no more pieces.
    let cut_short = conn.read == ReadEnd::Ended && conn.exchange.contains(Exchange::BODY_WANTED);
    if (conn.read == ReadEnd::Ending || cut_short) && !conn.must_be_read_first() {
        ended(core, service, slot);
    }
}

/// FIN was received.
pub fn ended<S: Services>(core: &mut Core, service: &mut S, slot: u32) {
    let who = core.slab.handle(slot);
    let conn = &mut core.slab[slot];
    if conn.must_be_read_first() {
        conn.step_read(ReadEvent::FinBehind);
        return;
    }
    conn.step_read(ReadEvent::Fin);
    core.list(slot);
    let conn = &core.slab[slot];
    let (state, protocol, flags, token) = (conn.state, conn.protocol, conn.flags, conn.token);
    match (state, protocol) {
        (State::Open, Protocol::Raw) => service.event(&mut core.desk(), who, token, Event::Fin),
        // Behind its Close frame a client may end its side: what is sent before our Close still reaches it.
        (State::Open, _) if flags.contains(Flags::CLOSE_RECEIVED) => {}
        // Nobody waits for the end of a stream that has none: who ends his side has left.
        (State::Open, Protocol::WebSocket(_) | Protocol::Stream) => core.cut(who, Cause::Gone),
        // The rest of the body will not come.
        (State::Open, _) if conn.exchange.contains(Exchange::BODY_WANTED) => core.cut(who, Cause::Gone),
        (State::Closing, _) if !flags.intersects(Flags::DISCARDS | Flags::CLOSE_RECEIVED) => core.cut(who, Cause::Gone),
        _ => {}
    }
}

/// A client may end its side behind its requests and still wait for the responses: when the last request that it
/// sent is answered, the connection ends behind the answer.
pub fn end_requests(core: &mut Core, slot: u32) {
    let conn = &core.slab[slot];
    let over = conn.state == State::Head && conn.read.has_ended();
    let goes_on = conn.hold.intersects(Hold::TURN | Hold::VERDICT);
    if !over || goes_on || conn.flags.intersects(Flags::FULL | Flags::UNREAD) {
        return;
    }
    let who = core.slab.handle(slot);
    let answered = conn.exchange.contains(Exchange::REUSED) && core.side.spilled(conn.side) == 0;
    let cause = if answered { Cause::Closed } else { Cause::Gone };
    if conn.has_unsent() {
        core.slab[slot].set_cause(cause);
        core.finish(who);
    } else {
        core.cut(who, cause);
    }
}

fn note(core: &mut Core, slot: u32, len: usize) {
    let now = core.clock.now();
    let conn = &mut core.slab[slot];
    conn.last_received = now;
    conn.flags.remove(Flags::PINGED);
    if conn.is_upstream() {
        core.counters.upstream_bytes_in += len as u64;
    } else {
        core.counters.bytes_in += len as u64;
    }
}

/// Keeps what could not be used.
fn spill(core: &mut Core, slot: u32, rest: &[u8]) {
    let first = core.side.spilled(core.slab[slot].side) == 0;
    if rest.is_empty() || !keep(core, slot, rest) {
        return;
    }
    let conn = &mut core.slab[slot];
    if first && conn.state == State::Head {
        // The first byte of a head starts its clock.
        if conn.exchange.contains(Exchange::REUSED) {
            conn.since = core.clock.now();
        }
        core.watch(slot);
    }
    hold_back(core, slot);
}

/// `false`: there is no memory for it, and the connection is ending.
fn keep(core: &mut Core, slot: u32, rest: &[u8]) -> bool {
    let who = core.slab.handle(slot);
    let kept = core.put(who, Chain::Spill, [rest, b""]).is_ok();
    if !kept {
        core.overloaded(who);
    }
    kept
}

/// A peer that sends more requests than are answered waits.
fn hold_back(core: &mut Core, slot: u32) {
    let conn = &mut core.slab[slot];
    let waits = match conn.state {
        State::Open => !conn.protocol.is_carried(),
        State::Head => conn.flags.contains(Flags::FULL) || conn.hold.contains(Hold::VERDICT),
        _ => false,
    };
    if waits && core.side.spilled(conn.side) > SPILL && !conn.hold.contains(Hold::SPILL) {
        conn.hold.insert(Hold::SPILL);
        core.counters.held_back += 1;
        core.watch(slot);
        core.list(slot);
    }
}

/// The turn's work is done: what else was received from this peer is read in the next.
fn read_later(core: &mut Core, who: Handle) {
    let conn = &mut core.slab[who.slot];
    if !conn.hold.contains(Hold::TURN) {
        conn.hold.insert(Hold::TURN);
        core.later.push_back((who, 0));
        core.list(who.slot);
    }
}

/// Who reads the next byte that was received.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Nobody for now: it stays in the spill.
    Nobody,
    /// It is thrown away.
    Discard,
    /// The body of a request that no service wants, or wants no longer.
    Skip,
    /// A request head.
    Head,
    /// The service that wants the request's body.
    Body,
    /// The parser of WebSocket frames.
    Frames,
    /// The service, as it is.
    Carry,
}

fn reader(core: &Core, slot: u32) -> Reader {
    let conn = &core.slab[slot];
    let has_body = || core.side.get(conn.side).is_some_and(|cold| cold.body.is_some());
    match (conn.state, conn.protocol) {
        // A client that does not take its responses gets no more of them, and one whose verdict is due no other one.
        (State::Head, _) if conn.flags.contains(Flags::FULL) || conn.hold.contains(Hold::VERDICT) => Reader::Nobody,
        (State::Head, _) if has_body() => Reader::Skip,
        (State::Head, _) => Reader::Head,
        (State::Open | State::Closing, _) if conn.discards() => Reader::Discard,
        (State::Open, _) if conn.hold.contains(Hold::SERVICE) => Reader::Nobody,
        (State::Open | State::Closing, Protocol::WebSocket(_)) => Reader::Frames,
        (State::Open, Protocol::Raw) => Reader::Carry,
        (State::Open, _) if conn.exchange.contains(Exchange::BODY_WANTED) && has_body() => Reader::Body,
        // A response is being made, or an upstream is being called.
        (State::Open, _) => Reader::Nobody,
        _ => Reader::Discard,
    }
}

/// Reads as far as the connection's state and its share of the turn allow; returns how many bytes are used up.
fn read<S: Services>(core: &mut Core, service: &mut S, slot: u32, bytes: &mut [u8]) -> usize {
    let (len, begun) = (bytes.len(), core.work.done());
    let who = core.slab.handle(slot);
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(conn) = core.slab.get_mut(who) else { return len };
        conn.flags.remove(Flags::UNREAD);
        let (token, reader) = (conn.token, reader(core, slot));
        let enough = core.work.is_over() || core.work.has_had_share(begun);
        if rest.len() < len && enough && reader != Reader::Discard {
            read_later(core, who);
            break;
        }
        let went_on = match reader {
            Reader::Nobody => false,
            Reader::Discard => return len,
            Reader::Skip => skip_body(core, slot, &mut rest),
            Reader::Head => head(core, service, who, &mut rest),
            Reader::Body => take_body(core, service, who, &mut rest),
            Reader::Frames => frames(core, service, who, &mut rest),
            Reader::Carry => {
                core.work.add(FRAME);
                service.event(&mut core.desk(), who, token, Event::Bytes(rest));
                return len;
            }
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
fn head<S: Services>(core: &mut Core, service: &mut S, who: Handle, rest: &mut &mut [u8]) -> bool {
    let limits = core.limits_of(who).head;
    let mut store = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let bytes = std::mem::take(rest);
    match http1::read(bytes, &limits, &mut store) {
        Ok(None) => {
            *rest = bytes;
            false
        }
        Ok(Some(head)) => {
            core.work.add(FRAME);
            let (len, verdict) = (head.len, request(core, service, who, &head));
            if let Verdict::Wait(token) = verdict {
                wait(core, who, token);
                *rest = bytes;
                return false;
            }
            *rest = &mut bytes[len..];
            true
        }
        Err(refusal) => {
            core.desk().refuse_last(who, refusal.status(), refusal.words());
            false
        }
    }
}

fn request<S: Services>(core: &mut Core, service: &mut S, who: Handle, head: &Head<'_, '_>) -> Verdict {
    let conn = &mut core.slab[who.slot];
    conn.exchange.set(Exchange::LAST, !head.keep_alive || core.draining);
    conn.exchange.set(Exchange::HEAD_ONLY, head.method == "HEAD");
    conn.exchange.set(Exchange::HTTP10, head.version == Version::Http10);
    if expect_body(core, who, head) { service.request(&mut core.desk(), who, head) } else { Verdict::Served }
}

/// The head stays unread until the verdict has come.
fn wait(core: &mut Core, who: Handle, token: u32) {
    let now = core.clock.now();
    forget_body(core, who.slot);
    let Some(conn) = core.slab.get_mut(who) else { return };
    (conn.token, conn.last_received) = (token, now);
    conn.flags.insert(Flags::OWNED);
    conn.hold.insert(Hold::VERDICT);
    core.watch(who.slot);
    core.list(who.slot);
}

/// A body goes to the service that asks for it (`Desk::want_body`), and is skipped behind the response otherwise. One
/// that is too large is refused; where its sender waits to be asked for it (Expect: 100-continue, RFC 9110 section
/// 10.1.1) and is not, the connection ends behind the response.
fn expect_body(core: &mut Core, who: Handle, head: &Head<'_, '_>) -> bool {
    let most = core.limits_of(who).message_bytes;
    let conn = &mut core.slab[who.slot];
    match head.body {
        Body::None | Body::Length(0) => return true,
        Body::Length(len) if len > most => {
            core.desk().refuse_last(who, Status::CONTENT_TOO_LARGE, "the body is larger than message_bytes");
            return false;
        }
        _ => {}
    }
    conn.exchange.set(Exchange::EXPECTS, head.get("Expect").is_some());
    core.side.make(&mut conn.side).body = Some((BodyReader::new(&head.body), most));
    true
}

/// Skips a body that no service wants. `false`: there is more of it to come.
fn skip_body(core: &mut Core, slot: u32, rest: &mut &mut [u8]) -> bool {
    let who = core.slab.handle(slot);
    loop {
        match next_of_body(core, who, rest) {
            Ok(BodyEvent::Piece(_)) => {}
            Ok(BodyEvent::More) => return false,
            Ok(BodyEvent::End) => {
                forget_body(core, slot);
                return true;
            }
            Err((status, words)) => {
                core.desk().refuse_last(who, status, words);
                return true;
            }
        }
    }
}

/// Hands the next piece of a body to its service, and its end with the last one. `false`: there is more of it to come.
fn take_body<S: Services>(core: &mut Core, service: &mut S, who: Handle, rest: &mut &mut [u8]) -> bool {
    let token = core.slab[who.slot].token;
    core.work.add(FRAME);
    match next_of_body(core, who, rest) {
        Ok(BodyEvent::Piece(piece)) => service.event(&mut core.desk(), who, token, Event::Body(piece)),
        Ok(BodyEvent::More) => return false,
        Ok(BodyEvent::End) => {}
        Err((status, words)) => {
            fail_body(core, who, status, words);
            return true;
        }
    }
    end_body(core, service, who);
    true
}

/// The service is told of the end as soon as it is known, held back or not: it costs nobody anything.
fn end_body<S: Services>(core: &mut Core, service: &mut S, who: Handle) {
    let Some(conn) = core.slab.get_mut(who) else { return };
    let (token, wanted) = (conn.token, conn.exchange.contains(Exchange::BODY_WANTED));
    let is_over = |cold: &mut Cold| cold.body.as_ref().is_none_or(|(reader, _)| reader.is_done());
    if !wanted || !core.side.get_mut(conn.side).is_none_or(is_over) {
        return;
    }
    conn.exchange.remove(Exchange::BODY_WANTED);
    forget_body(core, who.slot);
    service.event(&mut core.desk(), who, token, Event::BodyEnd);
}

/// A body that cannot be read on. Where the response has begun its end is all that can tell.
fn fail_body(core: &mut Core, who: Handle, status: Status, words: &str) {
    if core.slab[who.slot].exchange.contains(Exchange::ANSWERING) {
        return core.cut(who, Cause::Protocol);
    }
    core.desk().refuse_last(who, status, words);
}

/// Behind it the next request is read.
fn forget_body(core: &mut Core, slot: u32) {
    let conn = &mut core.slab[slot];
    if let Some(cold) = core.side.get_mut(conn.side) {
        cold.body = None;
    }
    core.side.tidy(&mut conn.side);
}

/// The next piece of the body, or its end.
///
/// # Errors
/// The body is malformed or larger than `message_bytes`: the status and the words for its sender.
fn next_of_body<'b>(
    core: &mut Core,
    who: Handle,
    rest: &mut &'b mut [u8],
) -> Result<BodyEvent<'b>, (Status, &'static str)> {
    let side = core.slab[who.slot].side;
    let Some((reader, left)) = core.side.get_mut(side).and_then(|cold| cold.body.as_mut()) else {
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

fn frames<S: Services>(core: &mut Core, service: &mut S, who: Handle, rest: &mut &mut [u8]) -> bool {
    let deflate = core.slab[who.slot].flags.contains(Flags::DEFLATE);
    let rules = ParserConfig { role: Role::Server, message_bytes: core.limits_of(who).message_bytes, deflate };
    let mut parser = core.slab[who.slot].parser;
    let begun = core.work.done();
    loop {
        let event = parser.next(rest, &rules);
        let Some(conn) = core.slab.get_mut(who) else { return false };
        conn.parser = parser;
        match event {
            Ok(Some(event)) => {
                core.work.add(FRAME);
                let goes_on = frame(core, service, who, event);
                if !goes_on || core.work.is_over() || core.work.has_had_share(begun) {
                    return true;
                }
            }
            Ok(None) => return false,
            Err(fault) => {
                fail(core, who, fault);
                return true;
            }
        }
    }
}

/// `false`: nothing more is to be parsed.
fn frame<S: Services>(core: &mut Core, service: &mut S, who: Handle, event: ws::FrameEvent<'_>) -> bool {
    let conn = &mut core.slab[who.slot];
    let (token, kind) = (conn.token, conn.service);
    match event {
        ws::FrameEvent::Data { text, deflated: true, first, last, payload } => {
            deflated(core, service, who, text, (first, last), payload);
        }
        ws::FrameEvent::Data { text, first, last, payload, .. } => {
            core.counters.messages_in[kind as usize] += u64::from(last);
            service.event(&mut core.desk(), who, token, Event::Message { text, first, last, payload });
        }
        ws::FrameEvent::Ping(payload) => pong(core, who, payload),
        ws::FrameEvent::Pong(_) | ws::FrameEvent::Empty => {}
        ws::FrameEvent::Close(close) => {
            peer_closes(core, service, who, close.map(|(code, _)| code));
            return false;
        }
    }
    let conn = &core.slab[who.slot];
    matches!(conn.state, State::Open | State::Closing) && !conn.discards() && !conn.hold.contains(Hold::SERVICE)
}

/// A deflated message is inflated when it is whole: from where it lies, if it came in one piece.
fn deflated<S: Services>(
    core: &mut Core,
    service: &mut S,
    who: Handle,
    text: bool,
    (first, last): (bool, bool),
    piece: &[u8],
) {
    if first && last {
        return inflate(core, service, who, text, piece);
    }
    if !core.gather(who, piece) {
        core.overloaded(who);
        core.slab[who.slot].flags.insert(Flags::DISCARDS);
        return;
    }
    if last {
        let message = core.gathered(who);
        inflate(core, service, who, text, &message);
        core.compression.put_back(message);
    }
}

fn inflate<S: Services>(core: &mut Core, service: &mut S, who: Handle, text: bool, message: &[u8]) {
    match core.inflated(who, text, message) {
        Ok(plain) => {
            let conn = &core.slab[who.slot];
            let (token, kind) = (conn.token, conn.service);
            core.counters.messages_in[kind as usize] += 1;
            service.event(
                &mut core.desk(),
                who,
                token,
                Event::Message { text, first: true, last: true, payload: &plain },
            );
            core.compression.put_back(plain);
        }
        Err(fault) => fail(core, who, fault),
    }
}

/// RFC 6455 section 5.5.3. A peer that pings and does not read is held to `max_pending` like any other: until it
/// reads, only its latest ping is remembered, which is all that has to be answered.
fn pong(core: &mut Core, who: Handle, payload: &[u8]) {
    let conn = &mut core.slab[who.slot];
    if conn.flags.contains(Flags::FULL) {
        core.side.make(&mut conn.side).owed_pong = Some(payload.into());
    } else if conn.can_send() {
        let head = ws::head(Opcode::Pong, true, payload.len() as u64, None);
        core.write_urgent(who, [head.as_bytes(), payload]);
    }
}

/// The pong that was owed while the peer did not read.
pub fn pay_pong(core: &mut Core, who: Handle) {
    let conn = &mut core.slab[who.slot];
    let owed = core.side.get_mut(conn.side).and_then(|cold| cold.owed_pong.take());
    core.side.tidy(&mut conn.side);
    if let Some(payload) = owed {
        pong(core, who, &payload);
    }
}

/// The peer's Close frame. A service that has not sent its own yet is asked to.
fn peer_closes<S: Services>(core: &mut Core, service: &mut S, who: Handle, code: Option<CloseCode>) {
    let now = core.clock.now();
    let conn = &mut core.slab[who.slot];
    conn.flags.insert(Flags::CLOSE_RECEIVED | Flags::DISCARDS);
    conn.set_cause(Cause::Closed);
    if !conn.flags.contains(Flags::CLOSE_SENT) {
        conn.since = now;
        let token = conn.token;
        core.watch(who.slot);
        service.event(&mut core.desk(), who, token, Event::Close(code));
    }
    core.list(who.slot);
}

/// RFC 6455 section 7.1.7: the peer is told its fault, and is not listened to any more.
fn fail(core: &mut Core, who: Handle, fault: Fault) {
    core.slab[who.slot].set_cause(Cause::Protocol);
    core.close_discarding(who, fault.code(), fault.words());
}

//! Received bytes: the only caller of parsers.
//!
//! Bytes are parsed where the kernel wrote them. What cannot be used yet (a cut head, a cut frame head, a request
//! behind one that is not answered) is appended to the connection's spill, and is read in front of what is received
//! next. So how bytes are cut changes nothing but the copying.

use super::conn::{Conn, Exchange, Flags, Hold, Protocol, ReadEnd, ReadEvent, State};
use super::core::{Chain, Core, list};
use super::limits::LimitsTable;
use super::service::{Event, Services, Verdict};
use super::side_table::{Cold, SideTable};
use super::slab::Handle;
use super::work::FRAME;
use crate::mesh::{Cause, Counters, ServiceKind};
use edgehold_wire::http1::{self, Body, BodyEvent, BodyReader, Head, MAX_HEADERS, Version};
use edgehold_wire::status::Status;
use edgehold_wire::ws;
use edgehold_wire::ws::{CloseCode, Fault, Opcode, ParserConfig, Role};

/// Bytes of a spill that are read at a time, if they make a head or a frame.
const PIECE: usize = 4 << 10;

/// Bytes that may wait in a spill, beyond one head, before the peer is held back.
const SPILL: usize = 16 << 10;

/// Bytes were received.
pub fn received<S: Services>(core: &mut Core, service: &mut S, who: Handle, bytes: &mut [u8]) {
    let before = core.work.done();
    let len = bytes.len();
    core.work.add_copied(len);
    let rated = take_in(core, service, who, bytes);
    owe(core, who, before);
    charge(core, who, rated, len);
}

/// What is read now of a client that has a rate: its service, and the messages that clients of it have said so far.
type Rated = Option<(ServiceKind, u64)>;

fn rated(limits: &LimitsTable, counters: &Counters, conn: &Conn) -> Rated {
    let (is_limited, service) = (limits[conn.limits].shares.each.is_some(), conn.service);
    (is_limited && !conn.is_upstream()).then(|| (service, counters.messages_in[service as usize]))
}

/// What was read is charged to the client, if it has a rate. Requests are, one by one, where they pass the gate.
fn charge(core: &mut Core, who: Handle, rated: Rated, bytes: usize) {
    let Some((service, before)) = rated else { return };
    let is_websocket = core.slab.get(who).is_some_and(Conn::is_websocket);
    let said = core.counters.messages_in[service as usize] - before;
    core.charge(who, if is_websocket { said } else { 0 }, bytes as u64);
}

/// What the connection has cost since `before` beyond its share of a turn, it sits out.
fn owe(core: &mut Core, who: Handle, before: u64) {
    let debt = core.work.excuse(before);
    if debt > 0 && core.slab[who.slot].reads() {
        read_later(core, who);
        if let Some(last) = core.later.iter_mut().rev().find(|it| it.0 == who) {
            last.1 += debt;
        }
    }
}

fn take_in<S: Services>(core: &mut Core, service: &mut S, who: Handle, bytes: &mut [u8]) -> Rated {
    let conn = &mut core.slab[who.slot];
    let rated = rated(&core.limits, &core.counters, conn);
    note(&mut core.counters, conn, core.clock.now(), bytes.len());
    if conn.hold.intersects(Hold::SERVICE | Hold::TURN | Hold::VERDICT | Hold::RATE) {
        // Nothing is read before what the spill has, or will have.
        spill(core, who, bytes);
    } else if core.side.spilled(conn.side) == 0 {
        let used = read(core, service, who, bytes);
        spill(core, who, &bytes[used..]);
    } else {
        spill(core, who, bytes);
        read_spill(core, service, who);
    }
    rated
}

/// What can be read now is read; where that was all, and its sender has ended, the connection ends.
pub fn catch_up<S: Services>(core: &mut Core, service: &mut S, slot: u32) {
    let conn = &mut core.slab[slot];
    if conn.flags.contains(Flags::UNREAD) {
        conn.flags.remove(Flags::UNREAD);
        let who = Handle::of(slot, conn);
        reread(core, service, who);
    }
    end_requests(core, slot);
}

/// The spill may be read now: the request before it has been answered, the other side takes more, another turn has
/// begun.
pub fn reread<S: Services>(core: &mut Core, service: &mut S, who: Handle) {
    let before = core.work.done();
    let rated = read_spill(core, service, who);
    owe(core, who, before);
    charge(core, who, rated, 0);
}

fn read_spill<S: Services>(core: &mut Core, service: &mut S, who: Handle) -> Rated {
    let conn = &mut core.slab[who.slot];
    let rated = rated(&core.limits, &core.counters, conn);
    conn.hold.remove(Hold::SPILL);
    while read_piece(core, service, who, PIECE) {}
    let conn = &mut core.slab[who.slot];
    if conn.reads() {
        core.side.tidy(&mut conn.side);
        hold_back(core, who.slot);
        core.watch(who.slot);
        end_behind_spill(core, service, who.slot);
    }
    rated
}

/// Reads what the spill begins with, in the shard's one buffer for that. `true`: there may be more to be read.
fn read_piece<S: Services>(core: &mut Core, service: &mut S, who: Handle, most: usize) -> bool {
    let conn = &core.slab[who.slot];
    let all = core.side.spilled(conn.side);
    if all == 0 || conn.hold.intersects(Hold::TURN | Hold::RATE) {
        return false;
    }
    let mut piece = std::mem::take(&mut core.spilled);
    if let Some(cold) = core.side.get(conn.side) {
        core.pool.read_draft_front(&cold.spill, most, &mut piece);
    }
    let (len, used) = (piece.len(), read(core, service, who, &mut piece));
    piece.clear();
    core.spilled = piece;
    let Some(conn) = core.slab.get_mut(who) else { return false };
    if let Some(cold) = core.side.get_mut(conn.side) {
        let used = used.min(cold.spill.draft());
        core.pool.skip_draft(&mut cold.spill, used);
    }
    match used {
        // What there is does not make a head or a frame: all of it may.
        0 if len < all && !conn.is_held_back() => read_piece(core, service, who, most * 8),
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
    let conn = &mut core.slab[slot];
    if conn.must_be_read_first() {
        conn.step_read(ReadEvent::FinBehind);
        return;
    }
    conn.step_read(ReadEvent::Fin);
    list(&mut core.listed, conn, slot);
    let who = Handle::of(slot, conn);
    let (state, protocol, flags, token) = (conn.state, conn.protocol, conn.flags, conn.token);
    match (state, protocol) {
        (State::Open, Protocol::Raw) => service.event(&mut core.desk(), who, token, Event::Fin),
        // Behind its Close frame a client may end its side: what is sent before our Close still reaches it.
        (State::Open, _) if flags.contains(Flags::CLOSE_RECEIVED) => {}
        // Nobody waits for the end of a stream that has none: who ends his side has left.
        (State::Preface | State::Handshake, _) | (State::Open, Protocol::WebSocket(_) | Protocol::Stream) => {
            core.cut(who, Cause::Gone);
        }
        // The rest of the body will not come.
        (State::Open, _) if conn.exchange.contains(Exchange::BODY_WANTED) => core.cut(who, Cause::Gone),
        (State::Closing, _) if !flags.intersects(Flags::DISCARDS | Flags::CLOSE_RECEIVED) => core.cut(who, Cause::Gone),
        _ => {}
    }
}

/// A client may end its side behind its requests and still wait for the responses: when the last request that it
/// sent is answered, the connection ends behind the answer.
fn end_requests(core: &mut Core, slot: u32) {
    let conn = &mut core.slab[slot];
    let over = conn.state == State::Head && conn.read.has_ended();
    let goes_on = conn.hold.intersects(Hold::TURN | Hold::VERDICT | Hold::RATE);
    if !over || goes_on || conn.flags.intersects(Flags::FULL | Flags::UNREAD) {
        return;
    }
    let who = Handle::of(slot, conn);
    let answered = conn.exchange.contains(Exchange::REUSED) && core.side.spilled(conn.side) == 0;
    let cause = if answered { Cause::Closed } else { Cause::Gone };
    core.leave(who, cause);
}

/// So many bytes have come from it now.
fn note(counters: &mut Counters, conn: &mut Conn, now: u32, len: usize) {
    conn.last_received = now;
    conn.flags.remove(Flags::PINGED);
    if conn.is_upstream() {
        counters.upstream_bytes_in += len as u64;
    } else {
        counters.bytes_in += len as u64;
    }
}

/// Keeps what could not be used.
fn spill(core: &mut Core, who: Handle, rest: &[u8]) {
    if rest.is_empty() {
        return;
    }
    let slot = who.slot;
    let first = core.side.spilled(core.slab[slot].side) == 0;
    if core.put(who, Chain::Spill, [rest, b""]).is_err() {
        // There is no memory for it.
        return core.overloaded(who);
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
        list(&mut core.listed, conn, who.slot);
    }
}

/// Where one of these holds, no further head is read.
const UNREAD_HEADS: Hold = Hold::VERDICT.union(Hold::RATE);

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
    /// A service, as it is: the first bytes of a client at a listener without HTTP.
    Begin,
    /// The service that wants the request's body.
    Body,
    /// The parser of WebSocket frames.
    Frames,
    /// The service, as it is.
    Carry,
}

fn reader(conn: &Conn, side: &SideTable) -> Reader {
    let has_body = || side.get(conn.side).is_some_and(|cold| cold.body.is_some());
    match (conn.state, conn.protocol) {
        // A client that does not take its responses gets no more of them, and one whose verdict is due no other one.
        (State::Head, _) if conn.flags.contains(Flags::FULL) || conn.hold.intersects(UNREAD_HEADS) => Reader::Nobody,
        (State::Head, Protocol::Raw) => Reader::Begin,
        (State::Head, _) if has_body() => Reader::Skip,
        (State::Head, _) => Reader::Head,
        (State::Open | State::Closing, _) if conn.discards() => Reader::Discard,
        (State::Open, _) if conn.hold.intersects(Hold::SERVICE | Hold::RATE) => Reader::Nobody,
        (State::Open | State::Closing, Protocol::WebSocket(_)) => Reader::Frames,
        (State::Open, Protocol::Raw) => Reader::Carry,
        (State::Open, _) if conn.exchange.contains(Exchange::BODY_WANTED) && has_body() => Reader::Body,
        // A response is being made, or an upstream is being called.
        (State::Open, _) => Reader::Nobody,
        _ => Reader::Discard,
    }
}

/// Reads as far as the connection's state and its share of the turn allow; returns how many bytes are used up.
fn read<S: Services>(core: &mut Core, service: &mut S, who: Handle, bytes: &mut [u8]) -> usize {
    let (len, begun) = (bytes.len(), core.work.done());
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some(conn) = core.slab.get_mut(who) else { return len };
        conn.flags.remove(Flags::UNREAD);
        let (token, reader) = (conn.token, reader(conn, &core.side));
        let enough = core.work.is_over() || core.work.has_had_share(begun);
        if rest.len() < len && enough && reader != Reader::Discard {
            read_later(core, who);
            break;
        }
        let went_on = match reader {
            Reader::Nobody => false,
            Reader::Discard => return len,
            Reader::Skip => skip_body(core, who, &mut rest),
            Reader::Head => head(core, service, who, &mut rest),
            Reader::Begin => begin(core, service, who),
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

/// A client at a listener without HTTP goes to its service. `false`: no service has taken it, and it is ending.
fn begin<S: Services>(core: &mut Core, service: &mut S, who: Handle) -> bool {
    core.work.add(FRAME);
    service.begin(&mut core.desk(), who);
    let is_taken = core.slab.get(who).is_some_and(|conn| conn.state == State::Open);
    if !is_taken {
        core.leave(who, Cause::Refused);
    }
    is_taken
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
    let is_named = core.locate(who.slot, head);
    if core.slab[who.slot].state != State::Head {
        // Whom it names may not come in.
        return Verdict::Served;
    }
    let conn = &mut core.slab[who.slot];
    conn.exchange.set(Exchange::LAST, !head.keep_alive || core.draining);
    conn.exchange.set(Exchange::HEAD_ONLY, head.method == "HEAD");
    conn.exchange.set(Exchange::HTTP10, head.version == Version::Http10);
    let is_taken = expect_body(core, who, head);
    let verdict = if is_taken { service.request(&mut core.desk(), who, head) } else { Verdict::Served };
    // One that waits comes again.
    core.counters.forwarded_clients += u64::from(is_named && verdict == Verdict::Served);
    verdict
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
fn skip_body(core: &mut Core, who: Handle, rest: &mut &mut [u8]) -> bool {
    loop {
        match next_of_body(core, who, rest) {
            Ok(BodyEvent::Piece(_)) => {}
            Ok(BodyEvent::More) => return false,
            Ok(BodyEvent::End) => {
                forget_body(core, who.slot);
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

/// A connection as its service knows it: that does not change while frames are read.
#[derive(Clone, Copy)]
struct Owned {
    who: Handle,
    token: u32,
    kind: ServiceKind,
}

fn frames<S: Services>(core: &mut Core, service: &mut S, who: Handle, rest: &mut &mut [u8]) -> bool {
    let Some(conn) = core.slab.get(who) else { return false };
    let owned = Owned { who, token: conn.token, kind: conn.service };
    let message_bytes = core.limits[conn.limits].message_bytes;
    let rules = ParserConfig { role: Role::Server, message_bytes, deflate: conn.flags.contains(Flags::DEFLATE) };
    let mut parser = conn.parser;
    let went_on = parse_frames(core, service, owned, rest, (&mut parser, &rules));
    if let Some(conn) = core.slab.get_mut(who) {
        conn.parser = parser;
    }
    went_on
}

/// Hands on one frame after the other. `false`: the next has to come first.
fn parse_frames<S: Services>(
    core: &mut Core,
    service: &mut S,
    owned: Owned,
    rest: &mut &mut [u8],
    (parser, rules): (&mut ws::Parser, &ParserConfig),
) -> bool {
    let begun = core.work.done();
    loop {
        match parser.next(rest, rules) {
            Ok(Some(event)) => {
                core.work.add(FRAME);
                frame(core, service, owned, &event);
                let goes_on = core.slab.get(owned.who).is_some_and(reads_frames);
                if !goes_on || core.work.is_over() || core.work.has_had_share(begun) {
                    return true;
                }
            }
            Ok(None) => return false,
            Err(fault) => {
                fail(core, owned.who, fault);
                return true;
            }
        }
    }
}

/// The next frame may be read.
fn reads_frames(conn: &Conn) -> bool {
    matches!(conn.state, State::Open | State::Closing) && !conn.discards() && !conn.hold.contains(Hold::SERVICE)
}

fn frame<S: Services>(core: &mut Core, service: &mut S, owned: Owned, event: &ws::FrameEvent<'_>) {
    let Owned { who, token, kind } = owned;
    match *event {
        ws::FrameEvent::Data { text, deflated: true, first, last, payload } => {
            deflated(core, service, owned, text, (first, last), payload);
        }
        ws::FrameEvent::Data { text, first, last, payload, .. } => {
            core.counters.messages_in[kind as usize] += u64::from(last);
            service.event(&mut core.desk(), who, token, Event::Message { text, first, last, payload });
        }
        ws::FrameEvent::Ping(payload) => pong(core, who, payload),
        ws::FrameEvent::Pong(_) | ws::FrameEvent::Empty => {}
        ws::FrameEvent::Close(close) => peer_closes(core, service, who, close.map(|(code, _)| code)),
    }
}

/// A deflated message is inflated when it is whole: from where it lies, if it came in one piece.
fn deflated<S: Services>(
    core: &mut Core,
    service: &mut S,
    owned: Owned,
    text: bool,
    (first, last): (bool, bool),
    piece: &[u8],
) {
    let who = owned.who;
    if first && last {
        return inflate(core, service, owned, text, piece);
    }
    if !core.gather(who, piece) {
        core.overloaded(who);
        core.slab[who.slot].flags.insert(Flags::DISCARDS);
        return;
    }
    if last {
        let message = core.gathered(who);
        inflate(core, service, owned, text, &message);
        core.compression.put_back(message);
    }
}

fn inflate<S: Services>(core: &mut Core, service: &mut S, owned: Owned, text: bool, message: &[u8]) {
    let Owned { who, token, kind } = owned;
    match core.inflated(who, text, message) {
        Ok(plain) => {
            core.counters.messages_in[kind as usize] += 1;
            let event = Event::Message { text, first: true, last: true, payload: &plain };
            service.event(&mut core.desk(), who, token, event);
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

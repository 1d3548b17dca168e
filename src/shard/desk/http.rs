//! At the desk: requests and their responses (RFC 9112).

use super::Desk;
use crate::mesh::{Cause, Refused, ServiceKind};
use crate::shard::conn::{Exchange, Flags, Hold, Protocol, State, StateEvent};
use crate::shard::counters;
use crate::shard::slab::Handle;
use edgehold_wire::http1::{self, ResponseHead};
use edgehold_wire::status::Status;

/// Seconds after which a client that found no slot may come again.
const RETRY_AFTER: &str = "5";

impl Desk<'_> {
    /// The request goes to this service, under these limits.
    pub fn route(&mut self, who: Handle, service: ServiceKind, limits: u16) {
        let Some(conn) = self.core.slab.get_mut(who) else { return };
        conn.service = service;
        self.core.set_limits(who.slot, limits);
        self.core.list(who.slot);
    }

    /// The request has passed the gate: the client's address is not charged for a stranger any more.
    pub fn authenticated(&mut self, who: Handle) {
        if self.core.slab.get(who).is_some() {
            self.core.authenticated(who.slot);
        }
    }

    /// The request is counted under its route and its client. `false`: one of them has as many connections as it may
    /// have, or sends too fast, and it was told so.
    pub fn admit_to_route(&mut self, who: Handle) -> bool {
        if self.core.slab.get(who).is_none() {
            return false;
        }
        let Err(reason) = self.core.share(who.slot) else {
            return self.core.slab.get(who).is_some_and(|conn| conn.state == State::Head);
        };
        let fields = [("Retry-After", RETRY_AFTER)];
        let (status, words) = match reason {
            Refused::RouteConnections => (Status::SERVICE_UNAVAILABLE, "this route has as many connections as it may"),
            _ => (Status::TOO_MANY_REQUESTS, "you have as many connections to this route as one client may have"),
        };
        self.refuse_as(who, reason, status, &fields, words);
        false
    }

    /// The connection is the service's from now on, which answers the request later or opens a WebSocket.
    pub fn take(&mut self, who: Handle, token: u32) {
        let Some(conn) = self.core.slab.get_mut(who) else { return };
        conn.step(StateEvent::Opened);
        conn.token = token;
        conn.flags.insert(Flags::OWNED);
        self.core.watch(who.slot);
        self.core.list(who.slot);
    }

    /// The verdict on a request that waits (`Verdict::Wait`) is known: the request comes to its service again. Without
    /// effect where the client has left meanwhile.
    pub fn decide(&mut self, who: Handle) {
        let now = self.core.clock.now();
        let Some(conn) = self.core.slab.get_mut(who).filter(|conn| conn.hold.contains(Hold::VERDICT)) else { return };
        conn.hold.remove(Hold::VERDICT);
        conn.flags.remove(Flags::OWNED);
        conn.flags.insert(Flags::UNREAD);
        (conn.since, conn.last_received) = (now, now);
        self.core.watch(who.slot);
        self.core.list(who.slot);
    }

    /// The service, which has taken the connection, takes the request's body: `Event::Body` for each piece, while it
    /// does not [`pause`](Desk::pause), and `Event::BodyEnd`. A client that waits to be asked for it is sent 100 (RFC
    /// 9110 section 15.2.1). `false`: there is no body, and no event will come.
    pub fn want_body(&mut self, who: Handle) -> bool {
        let Some(conn) = self.core.slab.get_mut(who).filter(|conn| conn.state == State::Open) else { return false };
        if self.core.side.get_mut(conn.side).is_none_or(|cold| cold.body.is_none()) {
            return false;
        }
        let expects = conn.exchange.contains(Exchange::EXPECTS);
        conn.exchange.remove(Exchange::EXPECTS);
        conn.exchange.insert(Exchange::BODY_WANTED);
        conn.flags.insert(Flags::UNREAD);
        self.core.list(who.slot);
        if expects {
            self.core.write_urgent(who, [http1::CONTINUE, b""]);
        }
        true
    }

    /// The connection is the service's no longer: its token means nothing from now on. Due before the answer to a
    /// request that was taken; a connection that is still owned when it ends is reported by `Event::Closed`.
    pub fn release(&mut self, who: Handle) {
        if let Some(conn) = self.core.slab.get_mut(who) {
            conn.flags.remove(Flags::OWNED);
        }
    }

    /// A whole response. `fields` come after Date and before Content-Length.
    pub fn answer(&mut self, who: Handle, status: Status, fields: &[(&str, &str)], body: &[u8]) {
        self.begin_answer(who, status, fields, Some(body.len() as u64));
        if !self.is_head_only(who) {
            self.write(who, body);
        }
        self.finish_answer(who);
    }

    /// Refuses the request: a response of one line that says why, counted by its status.
    pub fn refuse(&mut self, who: Handle, status: Status, fields: &[(&str, &str)], words: &str) {
        self.count_refusal(status);
        self.tell(who, status, fields, words);
    }

    /// As [`Desk::refuse`], counted for this reason.
    pub fn refuse_as(&mut self, who: Handle, reason: Refused, status: Status, fields: &[(&str, &str)], words: &str) {
        self.core.counters.refusals[reason as usize] += 1;
        self.tell(who, status, fields, words);
    }

    /// The head of the next response has these field lines as well, each written by [`http1::push_field`].
    pub fn add_fields(&mut self, who: Handle, lines: &[u8]) {
        if let Some(conn) = self.core.slab.get_mut(who) {
            self.core.side.make(&mut conn.side).fields = Some(lines.into());
        }
    }

    /// A response of one line. A client that does not speak HTTP is told nothing: its connection ends.
    fn tell(&mut self, who: Handle, status: Status, fields: &[(&str, &str)], words: &str) {
        if self.core.slab.get(who).is_some_and(|conn| conn.protocol == Protocol::Raw) {
            self.core.finish(who);
        } else if let Some(conn) = self.core.slab.get_mut(who) {
            self.core.pool.discard_draft(&mut conn.out);
            let line = format!("{status}: {words}\n");
            let fields = [&[("Content-Type", "text/plain; charset=utf-8")], fields].concat();
            self.answer(who, status, &fields, line.as_bytes());
        }
    }

    /// Counts the request among the refused ones, if the status says so.
    pub fn count_refusal(&mut self, status: Status) {
        counters::refused(&mut self.core.counters, status);
    }

    /// Refuses and closes: nothing after this request can be trusted, or read.
    pub fn refuse_last(&mut self, who: Handle, status: Status, words: &str) {
        if let Some(conn) = self.core.slab.get_mut(who) {
            conn.exchange.insert(Exchange::LAST);
            conn.set_cause(Cause::Refused);
            self.refuse(who, status, &[], words);
        }
    }

    /// Tells a client that came to a full or stopping shard, from a spare slot. Who turns it away counts it.
    pub(in crate::shard) fn turn_away(&mut self, who: Handle, words: &str) {
        if let Some(conn) = self.core.slab.get_mut(who) {
            conn.exchange.insert(Exchange::LAST);
            conn.flags.insert(Flags::SPARE);
            conn.set_cause(Cause::Refused);
            self.tell(who, Status::SERVICE_UNAVAILABLE, &[("Retry-After", RETRY_AFTER)], words);
        }
    }

    /// A client that speaks neither HTTP nor WebSocket is sent nothing behind what is queued, and its connection ends.
    pub fn finish(&mut self, who: Handle, cause: Cause) {
        if let Some(conn) = self.core.slab.get_mut(who) {
            conn.set_cause(cause);
            self.core.finish(who);
        }
    }

    /// The response's head. `length`: of the body; `None` where the status has none.
    pub fn begin_answer(&mut self, who: Handle, status: Status, fields: &[(&str, &str)], length: Option<u64>) {
        if let Some(text) = self.response_head(who, (status, fields, length)) {
            self.core.write_urgent(who, [&text, b""]);
            self.core.scratch = text;
        }
    }

    /// The text of a head that is to be queued now, in the memory of `scratch`. `None`: the connection is gone.
    pub(in crate::shard) fn response_head(
        &mut self,
        who: Handle,
        (status, fields, length): (Status, &[(&str, &str)], Option<u64>),
    ) -> Option<Vec<u8>> {
        let conn = self.core.slab.get_mut(who)?;
        conn.exchange.insert(Exchange::ANSWERING);
        // A stopping server answers, and waits for no further request. A client that was not asked for its body may
        // send it or not, so that nobody knows where the next request begins.
        let last = self.core.draining || conn.exchange.intersects(Exchange::LAST | Exchange::EXPECTS);
        conn.exchange.set(Exchange::LAST, last);
        let (last, http10) = (conn.exchange.contains(Exchange::LAST), conn.exchange.contains(Exchange::HTTP10));
        let mut text = std::mem::take(&mut self.core.scratch);
        text.clear();
        let mut head = ResponseHead::begin(&mut text, status).header("Date", self.core.clock.date());
        for (name, value) in fields {
            head = head.header(name, value);
        }
        if let Some(lines) = self.core.side.take_fields(&mut conn.side) {
            head = head.lines(&lines);
        }
        if let Some(length) = length {
            head = head.number("Content-Length", length);
        }
        match (last, http10) {
            (true, _) => head.header("Connection", "close").end(),
            (false, true) => head.header("Connection", "keep-alive").end(),
            (false, false) => head.end(),
        }
        Some(text)
    }

    /// The response is complete: another request may follow, or the connection ends.
    pub fn finish_answer(&mut self, who: Handle) {
        let Some(conn) = self.core.slab.get_mut(who) else { return };
        self.core.counters.messages_in[conn.service as usize] += 1;
        self.core.counters.messages_out[conn.service as usize] += 1;
        conn.exchange.remove(Exchange::HEAD_ONLY | Exchange::ANSWERING | Exchange::BODY_WANTED | Exchange::EXPECTS);
        if conn.exchange.contains(Exchange::LAST) {
            conn.set_cause(Cause::Closed);
            self.core.finish(who);
            return;
        }
        if conn.state == State::Open {
            conn.step(StateEvent::Answered);
        }
        conn.exchange.insert(Exchange::REUSED);
        conn.flags.insert(Flags::UNREAD);
        (conn.since, conn.last_received) = (self.core.clock.now(), self.core.clock.now());
        self.core.unshare(who.slot);
        // The next head is read under the limits for all: its route is not known yet.
        self.core.set_limits(who.slot, 0);
        self.resume(who);
        self.core.watch(who.slot);
        self.core.list(who.slot);
    }

    /// The request was a HEAD: the response has no body.
    pub fn is_head_only(&self, who: Handle) -> bool {
        self.core.slab.get(who).is_some_and(|conn| conn.exchange.contains(Exchange::HEAD_ONLY))
    }

    /// The head of a response whose end is not known: chunked (RFC 9112 section 7.1), or ended by the end of the
    /// connection where the client's version is HTTP/1.0. Returns whether the body is to be chunked.
    pub fn begin_stream(&mut self, who: Handle, fields: &[(&str, &str)]) -> bool {
        let Some(conn) = self.core.slab.get_mut(who) else { return false };
        let chunked = !conn.exchange.contains(Exchange::HTTP10);
        conn.exchange.set(Exchange::LAST, !chunked || conn.exchange.contains(Exchange::LAST));
        let chunks: &[_] = if chunked { &[("Transfer-Encoding", "chunked")] } else { &[] };
        self.begin_answer(who, Status::OK, &[fields, chunks].concat(), None);
        chunked
    }

    /// A stream ends with these bytes, and the connection with it.
    pub fn end_stream(&mut self, who: Handle, tail: &[u8]) {
        self.unfollow(who);
        self.release(who);
        self.write(who, tail);
        if let Some(conn) = self.core.slab.get_mut(who) {
            conn.exchange.insert(Exchange::LAST);
            self.finish_answer(who);
        }
    }
}

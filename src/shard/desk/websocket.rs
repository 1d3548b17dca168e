//! At the desk: WebSocket openings, messages and closing handshakes (RFC 6455).

use super::Backpressure;
use super::Desk;
use crate::mesh::Cause;
use crate::shard::conn::{Conn, Flags, Protocol, State};
use crate::shard::core::{Chain, sendable};
use crate::shard::slab::Handle;
use edgehold_wire::status::Status;
use edgehold_wire::upgrade::{self, Opening};
use edgehold_wire::ws::{self, CloseCode, Opcode, Role};

impl Desk<'_> {
    /// Writes the 101 and keeps it back until [`Desk::upgrade`].
    pub fn prepare_upgrade(&mut self, who: Handle, opening: &Opening, protocol: Option<&str>) {
        let deflate = self.core.agree(who, opening.deflate);
        let mut answer = std::mem::take(&mut self.core.scratch);
        answer.clear();
        upgrade::answer(&mut answer, opening, protocol, deflate);
        self.draft(who, &answer);
        self.core.scratch = answer;
    }

    /// The 101 goes out; the connection, taken before, speaks WebSocket.
    pub fn upgrade(&mut self, who: Handle) {
        let Some(conn) = self.core.slab.get_mut(who) else { return };
        if conn.state != State::Open {
            return;
        }
        if conn.read.has_ended() {
            // It ended its side while it waited: no WebSocket can be spoken with it.
            return self.core.cut(who, Cause::Gone);
        }
        if self.core.draining {
            return self.refuse_last(who, Status::SERVICE_UNAVAILABLE, "the server is stopping");
        }
        self.core.pool.commit_draft(&mut conn.out, &[]);
        conn.protocol = Protocol::WebSocket(Role::Server);
        conn.flags.insert(Flags::UNREAD);
        self.resume(who);
        self.core.watch(who.slot);
        self.core.list(who.slot);
    }

    /// A whole message to a WebSocket client.
    pub fn send(&mut self, who: Handle, opcode: Opcode, payload: &[u8]) -> Backpressure {
        let Some(conn) = sendable(&mut self.core.slab, who) else { return Backpressure::Gone };
        let service = conn.service;
        let room = if let Some(deflated) = self.core.deflated(who, payload) {
            self.send_deflated(who, opcode, deflated)
        } else {
            let head = ws::head(opcode, true, payload.len() as u64, None);
            self.core.queue(who, Chain::Queue, [head.as_bytes(), payload])
        };
        self.core.counters.messages_out[service as usize] += u64::from(room != Backpressure::Gone);
        room
    }

    /// More of a message whose end is not known yet; nothing of it goes out before [`Desk::send_draft`].
    pub fn draft(&mut self, who: Handle, piece: &[u8]) -> Backpressure {
        if sendable(&mut self.core.slab, who).is_none() {
            return Backpressure::Gone;
        }
        self.core.queue(who, Chain::Draft, [piece, b""])
    }

    fn send_deflated(&mut self, who: Handle, opcode: Opcode, deflated: Vec<u8>) -> Backpressure {
        let head = ws::deflated_head(opcode, deflated.len() as u64);
        let room = self.core.queue(who, Chain::Queue, [head.as_bytes(), &deflated]);
        self.core.compression.put_back(deflated);
        room
    }

    /// The drafted message is whole.
    pub fn send_draft(&mut self, who: Handle, opcode: Opcode) -> Backpressure {
        let Some(conn) = sendable(&mut self.core.slab, who) else { return Backpressure::Gone };
        let service = conn.service;
        if let Some(deflated) = self.core.deflated_draft(who) {
            self.core.pool.discard_draft(&mut self.core.slab[who.slot].out);
            let room = self.send_deflated(who, opcode, deflated);
            self.core.counters.messages_out[service as usize] += u64::from(room != Backpressure::Gone);
            return room;
        }
        let conn = &mut self.core.slab[who.slot];
        let head = ws::head(opcode, true, conn.out.draft() as u64, None);
        self.core.pool.commit_draft(&mut conn.out, head.as_bytes());
        self.core.counters.messages_out[service as usize] += 1;
        self.core.room(who, Ok(()))
    }

    /// A Close frame behind what is queued, then the end. A client that waits for its 101 is told 503.
    pub fn close(&mut self, who: Handle, code: CloseCode, reason: &str) {
        match self.core.slab.get(who).map(Conn::is_websocket) {
            Some(true) => self.core.close_websocket(who, code, reason),
            Some(false) => self.refuse_last(who, Status::SERVICE_UNAVAILABLE, reason),
            None => {}
        }
    }

    /// As [`Desk::close`], with the cause that the connection is counted under.
    pub fn close_because(&mut self, who: Handle, code: CloseCode, reason: &str, cause: Cause) {
        if let Some(conn) = self.core.slab.get_mut(who) {
            conn.set_cause(cause);
            self.close(who, code, reason);
        }
    }

    /// Bytes of the message that is being drafted for this peer.
    pub fn drafted(&self, who: Handle) -> usize {
        self.core.slab.get(who).map_or(0, |conn| conn.out.draft())
    }

    /// Whether messages to this client may be deflated once for all who are sent them: from how many bytes on.
    pub fn takes_deflated(&self, who: Handle) -> Option<usize> {
        self.core.takes_deflated(who)
    }

    /// Deflates a message that many are sent, behind what is in `out`; counted and charged to this turn.
    pub fn deflate(&mut self, message: &[u8], out: &mut Vec<u8>) {
        self.core.deflate(message, out);
    }
}

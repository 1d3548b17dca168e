//! How messages, notices and ends are sent, by the client's transport.

use super::Broadcast;
use super::protocol;
use super::requests::Transport;
use super::routes::Routes;
use crate::mesh::{Body, Cause, Form, Frame};
use crate::service::fanout::{Client, Delivery, Gap, Protocol, Traits};
use crate::shard::service::{Backpressure, Batch, Desk, Payload};
use crate::shard::slab::Handle;
use edgehold_wire::http1;
use edgehold_wire::sse;
use edgehold_wire::ws::{CloseCode, Opcode};

/// Sends by the form that a client has, with the names and limits of its route.
impl Protocol for Routes {
    const MERGES: bool = true;

    /// One that is not new is encoded for this client alone.
    fn push(&mut self, desk: &mut Desk<'_>, client: &Client, delivery: &Delivery<'_>, batch: &mut Batch) -> bool {
        let payload = delivery.payload;
        if delivery.is_new(desk.now()) {
            batch.push(payload, form(desk, client, payload), |it, out| desk.deflate(it, out));
        } else {
            batch.push_old(payload, client.form);
        }
        true
    }

    fn send_gap(&mut self, desk: &mut Desk<'_>, client: &Client, gap: &Gap) {
        let (json, event) = (gap_json(gap), &self[usize::from(client.route)].plan.gap_event);
        match (client.form.frame, client.form.body) {
            (Frame::WebSocket | Frame::Deflated, _) => drop(send_json(desk, client.who, &json)),
            (Frame::Event | Frame::EventChunk, _) => write(desk, client, &protocol::event(event, &json)),
            (Frame::Piece | Frame::PieceChunk, Body::Json) => write(desk, client, format!("{json}\n").as_bytes()),
            // Between payloads nothing can be sent that would not be taken for one.
            (Frame::Piece | Frame::PieceChunk, Body::Plain) => {}
        }
    }
}

/// The client's own form; a message below `min_bytes` is not deflated.
fn form(desk: &Desk<'_>, client: &Client, payload: &Payload) -> Form {
    let small =
        client.form.frame == Frame::Deflated && payload.payload().len() < desk.limits(client.who).deflate.min_bytes;
    if small { Form { frame: Frame::WebSocket, ..client.form } } else { client.form }
}

/// Sends a quiet stream something that is no message, so that nothing on the way takes it for dead.
pub(super) fn keep_alive(desk: &mut Desk<'_>, client: &Client) {
    match (client.form.frame, client.form.body) {
        _ if client.traits.contains(Traits::PULLS) => {}
        // Bytes are queued already: more of them would not be sent sooner.
        _ if desk.pending(client.who) > 0 => {}
        (Frame::Event | Frame::EventChunk, _) => write(desk, client, sse::COMMENT),
        (Frame::Piece | Frame::PieceChunk, Body::Json) => write(desk, client, b"\n"),
        _ => {}
    }
}

impl Broadcast {
    /// Closes a client that was too slow for the policy of its route.
    pub(super) fn close_slow(&self, desk: &mut Desk<'_>, token: u32) {
        let words = "this client does not take what it is sent";
        self.close(desk, token, CloseCode::TRY_AGAIN_LATER, words, Cause::Stalled);
    }

    /// Closes a WebSocket with a code and a reason; a stream is cut: its body has no other way to say that it is not
    /// complete.
    pub(super) fn close(&self, desk: &mut Desk<'_>, token: u32, code: CloseCode, reason: &str, cause: Cause) {
        let Some(client) = self.fanout.client(token) else { return };
        match client.form.frame {
            Frame::WebSocket | Frame::Deflated => desk.close_because(client.who, code, reason, cause),
            _ => desk.cut(client.who, cause),
        }
    }

    /// Ends a client in order: a poll is answered, a WebSocket closed with 1001, a stream's body completed.
    pub(super) fn end(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32) {
        let Some(client) = self.fanout.client(token) else { return };
        if client.traits.contains(Traits::PULLS) {
            return self.answer_poll(desk, token, &[]);
        }
        let tail = match client.form.frame {
            Frame::WebSocket | Frame::Deflated => {
                return desk.close(who, CloseCode::GOING_AWAY, "the server is stopping");
            }
            Frame::EventChunk | Frame::PieceChunk => http1::LAST_CHUNK,
            Frame::Event | Frame::Piece => b"",
        };
        self.closed(desk, token);
        desk.end_stream(who, tail);
    }
}

/// The notice of a gap.
pub(super) fn gap_json(gap: &Gap) -> String {
    protocol::gap(&gap.channel, gap.after.as_deref(), gap.next.as_deref())
}

/// Sends a JSON object to a WebSocket client.
pub(super) fn send_json(desk: &mut Desk<'_>, who: Handle, json: &str) -> Backpressure {
    desk.send(who, Opcode::Text, json.as_bytes())
}

/// Writes bytes into the body of a stream.
pub(super) fn write(desk: &mut Desk<'_>, client: &Client, bytes: &[u8]) {
    match client.form.frame {
        Frame::EventChunk | Frame::PieceChunk => desk.write(client.who, &http1::chunk(bytes)),
        _ => desk.write(client.who, bytes),
    };
}

/// The form of messages on a stream. `chunked`: its body is.
pub(super) fn stream_form(transport: Transport, body: Body, chunked: bool) -> Form {
    let frame = match (transport, chunked) {
        (Transport::Events, true) => Frame::EventChunk,
        (Transport::Events, false) => Frame::Event,
        (_, true) => Frame::PieceChunk,
        (_, false) => Frame::Piece,
    };
    let body = match transport {
        Transport::Lines => Body::Json,
        Transport::Raw => Body::Plain,
        _ => body,
    };
    Form { body, frame }
}

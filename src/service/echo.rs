//! Echo: each message comes back. The smallest service, and the one to read first.
//!
//! A message that is there whole is sent back from where it lies; one that comes in pieces is drafted until its end is
//! known. A client that does not take what is sent back is not read meanwhile.

use super::{Admits, Request, Service};
use crate::shard::service::{Backpressure, Desk, Event, Verdict};
use crate::shard::slab::Handle;
use edgehold_wire::upgrade;
use edgehold_wire::ws::{CloseCode, Opcode};

/// What an echo route says.
#[derive(Clone, Debug, Default)]
pub struct EchoPlan {
    /// Subprotocols that are agreed to.
    pub subprotocols: Vec<String>,
}

/// The echo service: it remembers nothing.
pub struct Echo;

impl Service for Echo {
    type Plan = EchoPlan;
    type Settings = ();

    const ADMITS: Admits = Admits::Opening;

    fn new((): &()) -> Echo {
        Echo
    }

    fn request(&mut self, desk: &mut Desk<'_>, request: &Request<'_, '_>, plan: &EchoPlan) -> Verdict {
        if let Ok(opening) = upgrade::check(request.head) {
            desk.take(request.who, 0);
            desk.prepare_upgrade(request.who, &opening, request.protocol(&plan.subprotocols));
            desk.upgrade(request.who);
        }
        Verdict::Served
    }

    fn event(&mut self, desk: &mut Desk<'_>, who: Handle, _token: u32, event: Event<'_>) {
        match event {
            Event::Message { text, first, last, payload } => echo(desk, who, text, (first, last), payload),
            Event::Writable => desk.resume(who),
            Event::Close(code) => desk.close(who, code.unwrap_or(CloseCode::NORMAL), ""),
            Event::Drain => desk.close(who, CloseCode::GOING_AWAY, "the server is stopping"),
            _ => {}
        }
    }
}

fn echo(desk: &mut Desk<'_>, who: Handle, text: bool, part: (bool, bool), payload: &[u8]) {
    let written = match part {
        (true, true) => desk.send(who, opcode(text), payload),
        (_, last) => match desk.draft(who, payload) {
            Backpressure::Gone => Backpressure::Gone,
            _ if last => desk.send_draft(who, opcode(text)),
            _ => Backpressure::Ready,
        },
    };
    if written == Backpressure::Full {
        desk.pause(who);
    }
}

/// The opcode that begins such a message.
pub(super) fn opcode(text: bool) -> Opcode {
    if text { Opcode::Text } else { Opcode::Binary }
}

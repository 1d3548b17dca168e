//! Echo: what a client says comes back. The smallest service, and the one to read first.
//!
//! A message that is there whole is sent back from where it lies; one that comes in pieces is drafted until
//! its end is known. A client that does not read what comes back is not listened to meanwhile.

use crate::shard::door::{Backpressure, Desk, Frame};
use crate::shard::slab::Handle;
use edgehold_wire::http1::Head;
use edgehold_wire::upgrade;
use edgehold_wire::ws::{CloseCode, Opcode};

/// What an echo route says.
#[derive(Clone, Debug, Default)]
pub struct EchoPlan {
    /// Subprotocols that are agreed to.
    pub subprotocols: Vec<String>,
}

/// Every client is welcome.
pub fn open(desk: &mut Desk, who: Handle, head: &Head<'_, '_>, settings: &EchoPlan) {
    if let Ok(opening) = upgrade::check(head) {
        desk.take(who, 0);
        desk.prepare_upgrade(who, &opening, upgrade::choose(head, &settings.subprotocols));
        desk.upgrade(who);
    }
}

/// Back it goes.
pub fn frame(desk: &mut Desk, who: Handle, frame: Frame<'_>) {
    let written = match frame {
        Frame::Piece { text, first: true, last: true, payload } => desk.send(who, opcode(text), payload),
        Frame::Piece { text, last, payload, .. } => match desk.draft(who, payload) {
            Backpressure::Gone => Backpressure::Gone,
            _ if last => desk.send_draft(who, opcode(text)),
            _ => Backpressure::Ready,
        },
        Frame::End(code) => return desk.close(who, code.unwrap_or(CloseCode::NORMAL), ""),
        Frame::Bytes(_) => return,
    };
    if written == Backpressure::Full {
        desk.pause(who);
    }
}

/// The opcode that begins such a message.
pub(super) fn opcode(text: bool) -> Opcode {
    if text { Opcode::Text } else { Opcode::Binary }
}

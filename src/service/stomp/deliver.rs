//! Messages of shared topics to clients: a head of its own for each, and what all share.

use super::client::{Client, Transport};
use super::ids::Ids;
use crate::mesh::Numbered;
use crate::service::fanout::{self, Delivery, Gap, Protocol};
use crate::service::offload::OffloadPlan;
use crate::shard::service::{Batch, Desk, Payload};
use edgehold_wire::stomp::{self, Command, Limits, Read, Version};
use edgehold_wire::ws::{self, Opcode};
use std::sync::Arc;

/// In a tag: the client acknowledges what it is sent.
pub const ACKNOWLEDGES: u32 = 1 << 31;

/// In a tag: the client has given no id (STOMP 1.0), and is told none.
pub const NAMELESS: u32 = 1 << 30;

/// In a mark: a header has an escape of STOMP 1.2 in it.
const ESCAPED: u8 = 1;

/// What a client gets in front of what all share: `MESSAGE` and this header.
const HEAD: &str = "MESSAGE\nsubscription:";

/// Clients, and what is needed to send them messages.
pub struct Peers {
    /// By their tokens.
    pub clients: Vec<Client>,
    /// The ids of their subscriptions.
    pub ids: Ids,
    /// Routes by their numbers.
    pub plans: Numbered<Arc<OffloadPlan>>,
    /// Scratch: the head of a message.
    pub head: Vec<u8>,
    /// Scratch: the head of the frame that it is in.
    pub framed: Vec<u8>,
}

impl Protocol for Peers {
    /// Two subscriptions of a client are two frames, also of one message.
    const MERGES: bool = false;

    fn push(&mut self, desk: &mut Desk<'_>, _client: &fanout::Client, it: &Delivery<'_>, batch: &mut Batch) -> bool {
        let Some(client) = self.clients.get_mut(it.token as usize) else { return true };
        client.spoke = desk.now();
        head(&mut self.head, &self.ids, it.tags[0], (client.version, it.payload.sequence));
        if it.payload.mark & ESCAPED != 0 && client.version != Version::V12 {
            let frame = rewritten(&self.head, it.payload, client.version);
            batch.push_own(framed(client.transport, it.payload.text, &frame));
            return true;
        }
        match client.transport {
            Transport::Bare => batch.push_headed(&self.head, it.payload, 0),
            Transport::WebSocket => {
                let opcode = if it.payload.text { Opcode::Text } else { Opcode::Binary };
                let len = self.head.len() + it.payload.payload().len();
                self.framed.clear();
                self.framed.extend_from_slice(ws::head(opcode, true, len as u64, None).as_bytes());
                self.framed.extend_from_slice(&self.head);
                batch.push_headed(&self.framed, it.payload, 0);
            }
        }
        true
    }

    fn send_gap(&mut self, desk: &mut Desk<'_>, client: &fanout::Client, gap: &Gap) {
        let Some(token) = desk.token(client.who) else { return };
        let tells = self.plans[usize::from(client.route)].tell_gaps;
        if let Some(it) = self.clients.get_mut(token as usize).filter(|_| tells) {
            let headers = [("destination", gap.channel.as_str()), ("message-id", "gap"), ("edgehold-gap", "true")];
            it.tell(desk, client.who, Command::Message, &headers, b"");
        }
    }
}

/// What is in front of the shared part.
fn head(out: &mut Vec<u8>, ids: &Ids, tag: u32, (version, sequence): (Version, u64)) {
    out.clear();
    if tag & NAMELESS == 0 {
        out.extend_from_slice(HEAD.as_bytes());
        stomp::escape(out, version, Command::Message, ids.text(tag & !(ACKNOWLEDGES | NAMELESS)));
    } else {
        out.extend_from_slice(b"MESSAGE");
    }
    if tag & ACKNOWLEDGES != 0 && version == Version::V12 {
        out.extend_from_slice(b"\nack:t");
        stomp::number(out, sequence);
    }
    out.push(b'\n');
}

/// The whole frame, as an older version writes it.
fn rewritten(head: &[u8], payload: &Payload, version: Version) -> Vec<u8> {
    let whole = [head, payload.payload()].concat();
    let limits = Limits { frame_bytes: whole.len() + 1, header_bytes: whole.len() + 1, header_count: usize::MAX };
    let Ok(Read::Frame { frame, .. }) = stomp::read(&whole, &limits, Version::V12) else { return whole };
    let headers: Vec<_> = frame.headers.iter().filter(|(name, _)| name != "content-length").collect();
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let mut out = Vec::with_capacity(whole.len());
    stomp::write(&mut out, version, Command::Message, &headers, frame.body);
    out
}

fn framed(transport: Transport, text: bool, frame: &[u8]) -> Vec<u8> {
    let opcode = if text { Opcode::Text } else { Opcode::Binary };
    match transport {
        Transport::Bare => frame.to_vec(),
        Transport::WebSocket => [ws::head(opcode, true, frame.len() as u64, None).as_bytes(), frame].concat(),
    }
}

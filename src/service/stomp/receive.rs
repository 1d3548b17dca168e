//! Bytes to frames: of clients, and of brokers. A frame that was cut is kept until it is whole.

use super::Stomp;
use super::client::{Stage, Told};
use super::session::SessionId;
use crate::mesh::OffloadRefused;
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::stomp::{self, Fault, Limits, Read, Version};

/// Bytes of cut frames that all clients of a shard may have, beyond which whoever makes it more is closed.
const REST_BYTES: usize = 64 << 20;

/// Bytes of a frame of a broker, at most.
const BROKER_BYTES: usize = 64 << 20;

impl Stomp {
    /// Bytes of a client.
    pub(super) fn receive(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, bytes: &[u8]) {
        let now = desk.now();
        let Some(client) = self.peers.clients.get_mut(token as usize) else { return };
        client.heard = now;
        let mut rest = client.busy.as_mut().map(|busy| std::mem::take(&mut busy.rest)).unwrap_or_default();
        if rest.is_empty() {
            let used = self.read(desk, who, token, bytes);
            return self.keep_rest(desk, who, token, &bytes[used..], Vec::new());
        }
        self.rest_bytes -= rest.len();
        rest.extend_from_slice(bytes);
        let least = self.client(token).map_or(0, |client| client.busy().least);
        let used = if rest.len() < least { 0 } else { self.read(desk, who, token, &rest) };
        match used {
            0 => self.keep_rest(desk, who, token, b"", rest),
            used => self.keep_rest(desk, who, token, &rest[used..], Vec::new()),
        }
    }

    /// Keeps what is cut: `whole`, or else a copy of `rest`.
    fn keep_rest(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, rest: &[u8], whole: Vec<u8>) {
        let Some(client) = self.peers.clients.get_mut(token as usize) else { return };
        if client.stage == Stage::Ended {
            return;
        }
        let kept = if whole.is_empty() { rest.to_vec() } else { whole };
        if kept.is_empty() {
            return client.tidy();
        }
        self.rest_bytes += kept.len();
        client.busy().rest = kept;
        if self.rest_bytes > REST_BYTES {
            client.fail(desk, who, &Told::new(OffloadRefused::Limit, "this server has no room for your frame"));
            self.forget_rest(token);
        }
    }

    /// What a client had of a cut frame is of no use any more.
    pub(super) fn forget_rest(&mut self, token: u32) {
        let busy = self.peers.clients.get_mut(token as usize).and_then(|client| client.busy.as_mut());
        self.rest_bytes -= busy.map_or(0, |busy| std::mem::take(&mut busy.rest).len());
    }

    /// Reads frames of a client; returns how many bytes are used up.
    fn read(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, bytes: &[u8]) -> usize {
        let plan = self.plan_of(token);
        let limits =
            Limits { frame_bytes: plan.frame_bytes, header_bytes: plan.header_bytes, header_count: plan.header_count };
        let mut at = 0;
        while at < bytes.len() {
            let client = &mut self.peers.clients[token as usize];
            match client.stage {
                Stage::Ended => return bytes.len(),
                // What is behind CONNECT is read when it is known who the client is.
                Stage::Asked => {
                    client.busy().least = 0;
                    break;
                }
                Stage::Silent | Stage::Connected => {}
            }
            match stomp::read(&bytes[at..], &limits, client.version) {
                Ok(Read::Frame { frame, used }) => {
                    at += used;
                    desk.charge(1);
                    self.command(desk, who, token, &frame);
                }
                Ok(Read::Beat { used }) => at += used,
                Ok(Read::More { least }) => {
                    client.busy().least = least;
                    break;
                }
                Err(fault) => {
                    client.fail(desk, who, &Told::new(counted(fault), fault.words()));
                    return bytes.len();
                }
            }
        }
        at
    }

    /// Bytes of a broker.
    pub(super) fn broker_says(&mut self, desk: &mut Desk<'_>, id: SessionId, bytes: &[u8]) {
        let now = desk.now();
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.heard = now;
        if session.rest.is_empty() {
            let used = self.read_broker(desk, id, bytes);
            if let Some(session) = self.sessions.get_mut(id) {
                session.rest.extend_from_slice(&bytes[used..]);
            }
            return;
        }
        session.rest.extend_from_slice(bytes);
        if session.rest.len() < session.least {
            return;
        }
        let mut rest = std::mem::take(&mut session.rest);
        let used = self.read_broker(desk, id, &rest);
        rest.drain(..used);
        if let Some(session) = self.sessions.get_mut(id) {
            session.rest = rest;
        }
    }

    fn read_broker(&mut self, desk: &mut Desk<'_>, id: SessionId, bytes: &[u8]) -> usize {
        let limits = Limits { frame_bytes: BROKER_BYTES, header_bytes: 1 << 20, header_count: 4096 };
        let mut at = 0;
        while at < bytes.len() {
            match stomp::read(&bytes[at..], &limits, Version::V12) {
                Ok(Read::Frame { frame, used }) => {
                    at += used;
                    desk.charge(1);
                    self.broker_frame(desk, id, &frame);
                }
                Ok(Read::Beat { used }) => at += used,
                Ok(Read::More { least }) => {
                    if let Some(session) = self.sessions.get_mut(id) {
                        session.least = least;
                    }
                    break;
                }
                Err(fault) => {
                    self.distrust(desk, id, fault.words());
                    return bytes.len();
                }
            }
        }
        at
    }
}

/// How a fault is counted.
fn counted(fault: Fault) -> OffloadRefused {
    match fault {
        Fault::TooLarge | Fault::HeadersTooLarge | Fault::TooManyHeaders => OffloadRefused::Limit,
        _ => OffloadRefused::Frame,
    }
}

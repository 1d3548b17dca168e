//! Bytes to frames: of clients, and of brokers. A frame that was cut is kept until it is whole.

use super::Stomp;
use super::client::{Client, Stage, Told};
use super::session::SessionId;
use crate::mesh::OffloadRefused;
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::stomp::{self, Fault, Limits, Read, Until, Version};

impl Stomp {
    /// Bytes of a client.
    pub(super) fn receive(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, bytes: &[u8]) {
        let now = desk.now();
        let Some(client) = self.peers.clients.get_mut(token as usize) else { return };
        client.heard = now;
        let mut rest = client.busy.as_mut().map(|busy| std::mem::take(&mut busy.rest)).unwrap_or_default();
        if rest.is_empty() {
            let used = self.read(desk, who, token, bytes);
            return self.keep_rest(desk, token, 0, bytes[used..].to_vec());
        }
        let before = rest.capacity();
        rest.extend_from_slice(bytes);
        let is_met = client.busy().is_met(rest.len(), bytes);
        let used = if is_met { self.read(desk, who, token, &rest) } else { 0 };
        let kept = if used == 0 { rest } else { rest[used..].to_vec() };
        self.keep_rest(desk, token, before, kept);
    }

    /// Keeps what is cut; what the client had of it before is not counted any more.
    fn keep_rest(&mut self, desk: &mut Desk<'_>, token: u32, before: usize, rest: Vec<u8>) {
        let Some(client) = self.peers.clients.get_mut(token as usize) else { return };
        let (route, is_over) = (client.route, client.stage == Stage::Ended);
        let kept = if is_over { Vec::new() } else { rest };
        self.held.change(route, before, kept.capacity());
        if kept.is_empty() {
            return client.tidy();
        }
        client.busy().rest = kept;
        self.make_room(desk, route);
    }

    /// Who has the most of cut frames is ended, where all together have too much.
    fn make_room(&mut self, desk: &mut Desk<'_>, route: u16) {
        let most = self.peers.plans[usize::from(route)].bounds.held_bytes;
        if self.held.of(route) <= most {
            return;
        }
        let clients = self.peers.clients.iter().enumerate().filter(|it| it.1.route == route);
        let bytes = |it: &Client| it.busy.as_ref().map_or(0, |busy| busy.rest.capacity());
        let gone = self.held.who_goes(route, most, clients.map(|(token, it)| (token as u32, bytes(it))));
        desk.charge(self.peers.clients.len() / 64);
        for token in gone {
            self.forget_rest(token);
            let Some(who) = self.fanout.client(token).map(|it| it.who) else { continue };
            let told = Told::new(OffloadRefused::Limit, "this server has no room for your frame");
            self.peers.clients[token as usize].fail(desk, who, &told);
        }
    }

    /// What a client had of a cut frame is of no use any more.
    pub(super) fn forget_rest(&mut self, token: u32) {
        let Some(client) = self.peers.clients.get_mut(token as usize) else { return };
        let rest = client.busy.as_mut().map(|busy| std::mem::take(&mut busy.rest)).unwrap_or_default();
        self.held.change(client.route, rest.capacity(), 0);
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
                    (client.busy().least, client.busy().until) = (0, Until::Any);
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
                Ok(Read::More { least, until }) => {
                    (client.busy().least, client.busy().until) = (least, until);
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
        if session.rest.len() < session.least || !session.until.is_met(session.rest.len(), bytes) {
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
        let Some(session) = self.sessions.get_mut(id) else { return bytes.len() };
        let frame_bytes = session.plan.bounds.broker_frame_bytes;
        let limits = Limits { frame_bytes, header_bytes: frame_bytes.min(1 << 20), header_count: 4096 };
        let mut at = 0;
        while at < bytes.len() {
            match stomp::read(&bytes[at..], &limits, Version::V12) {
                Ok(Read::Frame { frame, used }) => {
                    at += used;
                    desk.charge(1);
                    self.broker_frame(desk, id, &frame);
                }
                Ok(Read::Beat { used }) => at += used,
                Ok(Read::More { least, until }) => {
                    if let Some(session) = self.sessions.get_mut(id) {
                        (session.least, session.until) = (least, until);
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

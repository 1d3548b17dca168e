//! Bytes to packets: of clients, and of brokers. A packet that was cut is kept until it is whole.

use super::Mqtt;
use super::carry::Said;
use super::client::Stage;
use super::session::SessionId;
use crate::mesh::Cause;
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::mqtt::{self, Limits, Read, Role};

impl Mqtt {
    /// Bytes of a client.
    pub(super) fn receive(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, bytes: &[u8]) {
        let now = desk.now();
        let Some(client) = self.peers.clients.get_mut(token as usize) else { return };
        client.heard = now;
        let before = client.held();
        let mut rest = client.busy.as_mut().map(|busy| std::mem::take(&mut busy.rest)).unwrap_or_default();
        if rest.is_empty() {
            let used = self.read(desk, who, token, bytes);
            rest.extend_from_slice(&bytes[used..]);
        } else {
            rest.extend_from_slice(bytes);
            let least = client.busy.as_ref().map_or(0, |busy| busy.least);
            let used = if rest.len() < least { 0 } else { self.read(desk, who, token, &rest) };
            rest.drain(..used);
        }
        self.keep_rest(desk, token, before, rest);
    }

    /// Keeps what is cut, and counts what the client has a server keep.
    fn keep_rest(&mut self, desk: &mut Desk<'_>, token: u32, before: usize, rest: Vec<u8>) {
        let Some(client) = self.peers.clients.get_mut(token as usize) else { return };
        if !rest.is_empty() && client.stage != Stage::Ended {
            client.busy().rest = rest;
        }
        client.tidy();
        self.count_held(desk, token, before);
    }

    /// Counts what a client has a server keep, of which it had so much before; where all have too much, those with the
    /// most are ended.
    pub(super) fn count_held(&mut self, desk: &mut Desk<'_>, token: u32, before: usize) {
        let Some(client) = self.peers.clients.get(token as usize) else { return };
        let (route, after) = (client.route, client.held());
        self.held.change(route, before, after);
        let most = self.peers.plans[usize::from(route)].bounds.held_bytes;
        if after <= before || self.held.of(route) <= most {
            return;
        }
        let clients = self.peers.clients.iter().enumerate().filter(|it| it.1.route == route);
        let gone = self.held.who_goes(route, most, clients.map(|(token, it)| (token as u32, it.held())));
        desk.charge(self.peers.clients.len() / 64);
        for token in gone {
            let Some(who) = self.fanout.client(token).map(|it| it.who) else { continue };
            let client = &mut self.peers.clients[token as usize];
            let before = client.held();
            client.disconnect(desk, who, 0x97, "this server has no room for what you have it keep", Cause::Overload);
            client.busy.iter_mut().for_each(|busy| busy.let_go());
            self.held.change(route, before, self.peers.clients[token as usize].held());
        }
    }

    /// Reads packets of a client; returns how many bytes are used up.
    fn read(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, bytes: &[u8]) -> usize {
        let limits = Limits { packet_bytes: self.plan_of(token).frame_bytes.min(u32::MAX as usize) as u32 };
        let mut at = 0;
        while at < bytes.len() {
            let client = &mut self.peers.clients[token as usize];
            match client.stage {
                Stage::Ended => return bytes.len(),
                Stage::Asked | Stage::Calling | Stage::Moving => break,
                Stage::Silent | Stage::Connected | Stage::Proving | Stage::Carried => {}
            }
            match mqtt::read(&bytes[at..], &limits, client.spoken(), Role::Server) {
                Ok(Read::Packet { packet, used }) => {
                    if self.moves(desk, who, token, &packet) {
                        break;
                    }
                    let raw = &bytes[at..at + used];
                    at += used;
                    desk.charge(1);
                    self.heard(desk, &Said { who, token, packet: &packet, raw });
                }
                Ok(Read::More { least }) => {
                    client.busy().least = least;
                    break;
                }
                Err(fault) => {
                    client.fail(desk, who, fault);
                    return bytes.len();
                }
            }
        }
        at
    }

    fn heard(&mut self, desk: &mut Desk<'_>, said: &Said<'_>) {
        match self.peers.clients[said.token as usize].stage {
            Stage::Proving | Stage::Carried => self.carry_up(desk, said),
            _ => self.packet(desk, said.who, said.token, said.packet),
        }
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
        let mut at = 0;
        while at < bytes.len() {
            let Some(session) = self.sessions.get_mut(id) else { return bytes.len() };
            let limits = Limits { packet_bytes: session.plan.bounds.broker_frame_bytes.min(u32::MAX as usize) as u32 };
            match mqtt::read(&bytes[at..], &limits, Some(session.version), Role::Client) {
                Ok(Read::Packet { packet, used }) => {
                    at += used;
                    desk.charge(1);
                    self.broker_packet(desk, id, &packet);
                }
                Ok(Read::More { least }) => {
                    session.least = least;
                    break;
                }
                Err(fault) => {
                    // A broker that knows 3.1.1 alone says so in its own words.
                    if session.stage == super::session::Stage::Greeting {
                        session.speak(mqtt::Version::V311);
                    }
                    self.distrust(desk, id, fault.words());
                    return bytes.len();
                }
            }
        }
        at
    }
}

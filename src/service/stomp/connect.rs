//! How a client begins and ends: CONNECT, who it is, heart-beats (STOMP 1.2, Connecting and Heart-beating).

use super::client::{Client, Owner, Stage, Told, Transport};
use super::{Beat, SESSION, Stomp};
use crate::mesh::{Body, Cause, Credentials, Denied, Form, Frame, OffloadRefused, Secret};
use crate::service::fanout::Traits;
use crate::service::offload::{ASKED_TICKS, Holds, OffloadPlan};
use crate::shard::clock::TICK;
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::stomp::{self, Command, HeartBeat, Version};
use edgehold_wire::ws::CloseCode;
use std::sync::Arc;

impl Stomp {
    /// A client has come; its token.
    pub(super) fn welcome(
        &mut self,
        desk: &mut Desk<'_>,
        who: Handle,
        plan: &Arc<OffloadPlan>,
        transport: Transport,
    ) -> u32 {
        let frame = if transport == Transport::Bare { Frame::Piece } else { Frame::WebSocket };
        let form = Form { body: Body::Plain, frame };
        self.present += 1;
        let token = self.fanout.add_client(desk, who, plan.number, form, Traits::empty());
        debug_assert!(token & SESSION == 0, "fewer clients than a shard may have");
        if self.peers.clients.capacity() == 0 {
            self.peers.clients.reserve(desk.slots() as usize);
        }
        while self.peers.clients.len() <= token as usize {
            self.peers.clients.push(Client::none());
        }
        let client = &mut self.peers.clients[token as usize];
        let generation = client.generation.wrapping_add(1);
        let (heard, spoke) = (desk.now(), desk.now());
        *client = Client { generation, route: plan.number, transport, heard, spoke, ..Client::none() };
        client.stage = Stage::Silent;
        // Who says nothing is looked at, too.
        self.watch(desk, token, plan.connect_ticks.max(SILENT_TICKS));
        token
    }

    /// CONNECT or STOMP.
    pub(super) fn connect(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, frame: &stomp::Frame<'_>) {
        let plan = self.plan_of(token);
        let client = &mut self.peers.clients[token as usize];
        if client.stage != Stage::Silent {
            return client.fail(desk, who, &Told::new(OffloadRefused::Frame, "you are connected already"));
        }
        let versions = frame.get("accept-version");
        let Some(version) = Version::choose(versions.as_deref()) else {
            return client.fail(desk, who, &Told::new(OffloadRefused::Frame, "no version of yours is spoken here"));
        };
        let beats = frame.get("heart-beat").and_then(|text| HeartBeat::parse(&text));
        client.version = version;
        client.busy().asked = Some(beats.map_or((0, 0), |it| (it.can, it.wants)));
        let login = frame.get("login").unwrap_or_default();
        let passcode = frame.get("passcode").unwrap_or_default();
        if plan.private_as_client {
            client.busy().login = Some((login.as_ref().into(), Secret::new(&passcode)));
        }
        if !plan.auth || desk.identity(who).is_some() {
            return self.connected(desk, who, token);
        }
        client.stage = Stage::Asked;
        desk.pause(who);
        desk.present(who, Credentials::Basic { user: login.as_ref().into(), password: Secret::new(&passcode) });
    }

    /// What the client has shown was taken, or why not.
    pub(super) fn authenticated(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, said: Result<(), Denied>) {
        let Some(client) = self.client(token).filter(|client| client.stage == Stage::Asked) else { return };
        desk.resume(who);
        let Err(why) = said else {
            self.connected(desk, who, token);
            return self.receive(desk, who, token, b"");
        };
        client.stage = Stage::Connected;
        let (why, words) = if why.is_no_verdict() {
            (OffloadRefused::Unavailable, "nobody can say now who you are; try again")
        } else {
            (OffloadRefused::Credentials, "these credentials are worth nothing here")
        };
        client.fail(desk, who, &Told::new(why, words));
    }

    fn connected(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32) {
        let plan = self.plan_of(token);
        let client = &mut self.peers.clients[token as usize];
        client.stage = Stage::Connected;
        let (can, wants) = client.busy().asked.take().unwrap_or_default();
        let least = plan.heart_beat_millis;
        let agreed = |theirs: u32| if theirs == 0 || least == 0 { 0 } else { theirs.max(least) };
        let (outwards, inwards) = (agreed(wants), agreed(can));
        (client.beat_out, client.beat_in) = (ticks_of(outwards), ticks_of(inwards));
        let beats = format!("{least},{least}");
        let session = format!("{}-{token}-{}", desk.shard(), client.generation);
        let version = client.version.as_str();
        let headers = [("version", version), ("heart-beat", &beats), ("session", &session), ("server", "edgehold")];
        client.tell(desk, who, Command::Connected, &headers, b"");
        client.tidy();
        let first = client.next_beat();
        desk.follow(who);
        if let Some(ticks) = first {
            self.watch(desk, token, ticks);
        }
    }

    // ---- heart-beats ----

    /// The client is looked at in so many ticks.
    fn watch(&mut self, desk: &Desk<'_>, token: u32, ticks: u32) {
        let owner = self.owner(token);
        self.beats.set(desk.now(), ticks, Beat::Client(owner));
    }

    /// Looks at those whose heart-beats are due.
    pub(super) fn keep_beats(&mut self, desk: &mut Desk<'_>) {
        for beat in self.beats.due(desk.now()) {
            match beat {
                Beat::Client(owner) => self.look(desk, owner),
                Beat::Session(id) => self.look_at_session(desk, id),
            }
        }
    }

    fn look(&mut self, desk: &mut Desk<'_>, owner: Owner) {
        let now = desk.now();
        let Some((who, client)) = self.owned(owner) else { return };
        // Of one that is not read, since the broker takes no more, it is not known what it has said.
        if client.busy.as_ref().is_some_and(|busy| busy.holds.contains(Holds::SESSION)) {
            client.heard = now;
        }
        match client.stage {
            Stage::Silent if now.saturating_sub(client.heard) >= SILENT_TICKS => {
                return client.fail(desk, who, &Told::new(OffloadRefused::Silent, "no CONNECT has come"));
            }
            Stage::Asked if now.saturating_sub(client.heard) >= ASKED_TICKS => {
                return client.fail(desk, who, &Told::new(OffloadRefused::Unavailable, "nobody has said who you are"));
            }
            Stage::Asked => return self.watch(desk, owner.token, SILENT_TICKS),
            Stage::Ended => return,
            _ => {}
        }
        let patience = u32::from(client.beat_in) * 2 + GRACE_TICKS;
        if client.beat_in > 0 && now.saturating_sub(client.heard) > patience {
            if desk.pending(who) == 0 {
                return client.fail(desk, who, &Told::new(OffloadRefused::Silent, "your heart-beats have stopped"));
            }
            return desk.cut(who, Cause::IdleTimeout);
        }
        let quiet = now.saturating_sub(client.spoke);
        if client.beat_out > 0 && quiet >= u32::from(client.beat_out) && desk.pending(who) == 0 {
            client.send(desk, who, b"\n");
        }
        if let Some(ticks) = client.next_beat() {
            let due = client.spoke + u32::from(client.beat_out);
            let sooner = if client.beat_out > 0 { due.saturating_sub(now).max(1) } else { ticks };
            self.watch(desk, owner.token, sooner.min(ticks));
        }
    }

    // ---- ends ----

    /// The server stops, or the client's credentials have ended.
    pub(super) fn drain(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32) {
        let Some(client) = self.client(token).filter(|client| client.stage != Stage::Ended) else { return };
        if client.stage == Stage::Connected {
            client.tell(desk, who, Command::Error, &[("message", "the connection is ended by the server")], b"");
        }
        client.end(desk, who, CloseCode::GOING_AWAY, "the connection is ended by the server", Cause::Drained);
    }

    /// It is too slow; its subscriptions in the fan-out have ended.
    pub(super) fn close_slow(&mut self, desk: &mut Desk<'_>, token: u32) {
        let Some(who) = self.fanout.client(token).map(|it| it.who) else { return };
        let Some(client) = self.client(token).filter(|client| client.stage != Stage::Ended) else { return };
        client.end(
            desk,
            who,
            CloseCode::TRY_AGAIN_LATER,
            "slow: a backlog above max_pending or max_age",
            Cause::Stalled,
        );
    }

    /// Its connection is gone: what it has not acknowledged is given back, and what it has begun is ended.
    pub(super) fn closed(&mut self, desk: &mut Desk<'_>, token: u32) {
        if self.fanout.client(token).is_none() {
            return;
        }
        self.forget_rest(token);
        self.leave_topics(desk, token);
        let busy = self.client(token).and_then(|client| client.busy.take());
        if let Some(busy) = busy {
            self.give_up(desk, *busy);
        }
        self.present -= 1;
        self.peers.clients[token as usize].stage = Stage::Ended;
        self.fanout.remove_client(desk, token);
    }
}

impl Client {
    /// In how many ticks it is to be looked at; `None`: it has no heart-beats.
    fn next_beat(&self) -> Option<u32> {
        [self.beat_out, self.beat_in].into_iter().filter(|ticks| *ticks > 0).min().map(u32::from)
    }
}

/// Ticks in which CONNECT must come.
const SILENT_TICKS: u32 = 40;

/// Ticks that a heart-beat may be late on top of twice its interval: networks and other machines are busy at times.
const GRACE_TICKS: u32 = 4;

fn ticks_of(millis: u32) -> u16 {
    let ticks = millis / TICK.as_millis() as u32;
    if millis == 0 { 0 } else { ticks.clamp(1, u32::from(u16::MAX)) as u16 }
}

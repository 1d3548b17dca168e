//! Messages that a client has taken from a queue and not acknowledged are given back when it leaves.
//!
//! STOMP has no way to do that which all brokers follow. UNSUBSCRIBE is enough for ActiveMQ. RabbitMQ delivers what is
//! NACKed to the same subscription again, keeps behind UNSUBSCRIBE what was delivered, and takes no NACK for a
//! subscription that is gone; but it knows messages by the id of the subscription, and not by which one that was. So:
//!
//! 1. UNSUBSCRIBE with a receipt; what still comes is put to the rest;
//! 2. behind the receipt nothing more can come: a subscription of the same id is made, to a topic on which nothing is
//!    said, each message is NACKed, and that subscription ended. The messages are in their old places then.
//!
//! Of other brokers it is not known what they do: `retire.rs`.

use super::Stomp;
use super::client::{Owner, Queue};
use super::session::{Lane, Outgoing, Purpose, SessionId, Stage};
use crate::shard::service::Desk;
use edgehold_wire::stomp::{self, Command, Version};

/// A topic on which nothing is said.
const NOTHING: &str = "/topic/edgehold.nothing";

/// How a broker takes messages back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakesBack {
    /// By UNSUBSCRIBE.
    ByItself,
    /// By NACK under a subscription of the same id.
    ByName,
    /// When the session ends.
    WithTheSession,
}

impl TakesBack {
    /// By the header `server` of CONNECTED.
    pub fn of(server: &str) -> TakesBack {
        match server.split('/').next() {
            Some("ActiveMQ") => TakesBack::ByItself,
            Some("RabbitMQ") => TakesBack::ByName,
            _ => TakesBack::WithTheSession,
        }
    }
}

impl Stomp {
    /// A queue subscription ends.
    pub(super) fn leave_queue(&mut self, desk: &mut Desk<'_>, queue: Queue) {
        let (id, number) = (queue.session, queue.number);
        let (here, older): (Vec<_>, Vec<_>) = queue.pending.into_iter().partition(|it| it.session == id);
        for pending in &older {
            self.taint(desk, pending.session);
        }
        for pending in here.iter().chain(&older) {
            let session = self.sessions.get_mut(pending.session).into_iter();
            session.for_each(|it| it.unacknowledged = it.unacknowledged.saturating_sub(1));
        }
        // What was acknowledged in a transaction that is open is that one's.
        let here: Vec<_> = here.into_iter().filter(|it| it.transaction == 0).collect();
        let Some(session) = self.sessions.get_mut(id) else { return };
        let ended = session.subscriptions.remove(&number);
        if session.stage != Stage::Up {
            return;
        }
        if session.lane == Lane::Shared && session.takes_back != TakesBack::WithTheSession {
            session.leaving.insert(number, here.into_iter().map(|it| it.ack).collect());
            return session.leave(desk, number);
        }
        session.tell(desk, Command::Unsubscribe, &[("id", &format!("q{number}"))]);
        if !here.is_empty() || Stomp::is_in_flight(desk, ended.and_then(|it| it.delivered)) {
            self.taint(desk, id);
        }
    }

    /// Nothing more comes for a subscription: what its client has left is given back.
    pub(super) fn give_back(&mut self, desk: &mut Desk<'_>, id: SessionId, number: u32) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let acks = session.leaving.remove(&number).unwrap_or_default();
        desk.counters().offload_given_back += acks.len() as u64;
        if acks.is_empty() || session.takes_back != TakesBack::ByName {
            return;
        }
        let name = format!("q{number}");
        let mut frames = Vec::new();
        let again = [("id", name.as_str()), ("destination", NOTHING), ("ack", "client-individual")];
        stomp::write(&mut frames, Version::V12, Command::Subscribe, &again, b"");
        for ack in &acks {
            stomp::write(&mut frames, Version::V12, Command::Nack, &[("id", ack)], b"");
        }
        stomp::write(&mut frames, Version::V12, Command::Unsubscribe, &[("id", &name)], b"");
        session.write(desk, &frames);
    }
}

impl super::session::Session {
    /// UNSUBSCRIBE, with a receipt.
    fn leave(&mut self, desk: &mut Desk<'_>, number: u32) {
        let receipt = self.next_receipt();
        let (name, text) = (format!("q{number}"), receipt.to_string());
        let mut frame = Vec::new();
        stomp::write(&mut frame, Version::V12, Command::Unsubscribe, &[("id", &name), ("receipt", &text)], b"");
        let owner = Owner { token: u32::MAX, generation: 0 };
        let (purpose, frame) = (Purpose::Leave(number), frame.into());
        self.submit(desk, Outgoing { number: receipt, owner, receipt: None, purpose, frame, is_suspected: false });
    }
}

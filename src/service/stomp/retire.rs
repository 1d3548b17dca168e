//! Giving messages back to a broker of which no better way is known (`give_back.rs`): a session that is retired, and
//! the one that takes its place.
//!
//! Whatever a broker does, it has back what was not acknowledged when the session ends. So that is ended, in order: its
//! subscriptions move to another one, what its other clients have taken they may still acknowledge, and when they have,
//! or after a while, the broker is told DISCONNECT and has back whatever nobody has acknowledged. Clients that leave
//! within the same second share one such change.

use super::Stomp;
use super::client::Owner;
use super::session::{Lane, Outgoing, Purpose, Session, SessionId, Stage};
use crate::service::offload::Holds;
use crate::shard::service::Desk;
use edgehold_wire::stomp::{self, Command, Version};

/// Ticks for which clients may still acknowledge what they have of a session that is retired.
const PATIENCE_TICKS: u32 = 40;

/// Ticks between two sessions that are retired.
const PACE_TICKS: u32 = 4;

/// Ticks after a delivery for which another one may be on its way to a subscription.
const IN_FLIGHT_TICKS: u32 = 8;

impl Stomp {
    /// A subscription has ended for which something was delivered and not acknowledged, or may be on its way.
    pub(super) fn taint(&mut self, desk: &Desk<'_>, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.lane != Lane::Shared || session.stage != Stage::Up || session.tainted || session.retires.is_some() {
            return;
        }
        session.tainted = true;
        self.look_in(desk.now(), PACE_TICKS, id);
    }

    /// Whether something may be on its way to a subscription.
    pub(super) fn is_in_flight(desk: &Desk<'_>, delivered: Option<u32>) -> bool {
        delivered.is_some_and(|tick| desk.now().saturating_sub(tick) < IN_FLIGHT_TICKS)
    }

    /// Another session takes its place, and it ends as soon as nobody needs it.
    pub(super) fn retire(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let now = desk.now();
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.tainted = false;
        if session.stage != Stage::Up || session.retires.is_some() {
            return;
        }
        session.retires = Some(now + PATIENCE_TICKS);
        desk.counters().offload_retired += 1;
        let subscriptions = std::mem::take(&mut session.subscriptions);
        for number in subscriptions.keys() {
            session.tell(desk, Command::Unsubscribe, &[("id", &format!("q{number}"))]);
        }
        session.ask_whether_done(desk);
        let mut next = Session::new(session.plan.clone(), Lane::Shared);
        (next.last_subscription, next.receipts) = (session.last_subscription, session.receipts);
        (next.window, next.wary_until) = (session.window, session.wary_until);
        next.after = Some(id);
        let owners: Vec<(Owner, u32)> = subscriptions.iter().map(|(number, it)| (it.owner, *number)).collect();
        next.subscriptions = subscriptions;
        let successor = self.sessions.insert(next);
        if let Some(session) = self.sessions.get_mut(id) {
            session.successor = Some(successor);
        }
        self.shared.values_mut().filter(|it| **it == id).for_each(|it| *it = successor);
        for (owner, number) in owners {
            let Some((_, client)) = self.owned(owner) else { continue };
            let queues = client.busy().queues.iter_mut();
            queues.filter(|it| it.session == id && it.number == number).for_each(|it| it.session = successor);
        }
        self.look_in(now, 1, id);
        self.look_in(now, 1, successor);
    }

    /// A session that is retired ends when nobody needs it.
    pub(super) fn look_at_retired(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let now = desk.now();
        let Some(session) = self.sessions.get_mut(id) else { return };
        let is_late = session.retires.is_some_and(|at| now >= at);
        if !is_late && (session.unacknowledged > 0 || !session.outgoing.is_empty() || session.transactions > 0) {
            return self.look_in(now, 1, id);
        }
        session.tell(desk, Command::Disconnect, &[]);
        if let Some(handle) = session.handle {
            desk.end(handle);
        }
    }

    /// It is over: what it could not say its successor says.
    pub(super) fn retired(&mut self, desk: &mut Desk<'_>, id: SessionId) {
        let Some(session) = self.sessions.remove(id) else { return };
        self.forget_pending(id);
        if let Some(next) = session.successor.and_then(|next| self.sessions.get_mut(next)) {
            for outgoing in session.outgoing.into_iter().rev() {
                next.outgoing_bytes += outgoing.bytes();
                next.outgoing.push_front(outgoing);
            }
        }
        for owner in session.paused {
            if let Some((who, client)) = self.owned(owner) {
                client.release(desk, who, Holds::SESSION);
            }
        }
        if let Some(next) = session.successor {
            self.wake(desk, next);
        }
    }

    /// It may begin: nothing that was said before on the session whose place it takes is unconfirmed.
    pub(super) fn may_begin(&mut self, id: SessionId) -> bool {
        let Some(after) = self.sessions.get_mut(id).and_then(|session| session.after) else { return true };
        let waits = self.sessions.get_mut(after).is_some_and(|before| !before.outgoing.is_empty());
        if !waits && let Some(session) = self.sessions.get_mut(id) {
            session.after = None;
        }
        !waits
    }
}

impl Session {
    /// Something that the broker confirms when it has read all that was said before.
    fn ask_whether_done(&mut self, desk: &mut Desk<'_>) {
        let number = self.next_receipt();
        let (name, receipt) = (format!("done{number}"), number.to_string());
        let mut frame = Vec::new();
        let headers = [("transaction", name.as_str()), ("receipt", &receipt)];
        stomp::write(&mut frame, Version::V12, Command::Begin, &headers, b"");
        let owner = Owner { token: u32::MAX, generation: 0 };
        let (purpose, frame) = (Purpose::Barrier, frame.into());
        self.submit(desk, Outgoing { number, owner, receipt: None, purpose, frame, is_suspected: false });
    }
}

//! What clients say: SEND, transactions, DISCONNECT.

use super::Stomp;
use super::client::{Stage, Told};
use super::relay::{self, Route};
use super::session::{self, Outgoing, Purpose, SessionId, Submitted};
use crate::mesh::{Identity, OffloadKind, OffloadRefused};
use crate::service::offload::{Holds, OffloadPlan, Stamp, may};
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::stomp::{self, Command, Frame, Version};
use edgehold_wire::ws::CloseCode;
use std::borrow::Cow;

impl Stomp {
    /// A frame of a client.
    pub(super) fn command(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, frame: &Frame<'_>) {
        let stage = self.peers.clients[token as usize].stage;
        match frame.command {
            Command::Connect | Command::Stomp => self.connect(desk, who, token, frame),
            _ if stage != Stage::Connected => self.refuse(desk, token, "the first frame is CONNECT", frame),
            _ if self.has_long_name(token, frame) => {
                let words = "a destination, id, receipt or transaction is longer than this server takes";
                self.refuse_as(desk, token, (OffloadRefused::Limit, words), frame);
            }
            Command::Send => self.send(desk, token, frame),
            Command::Subscribe => self.subscribe(desk, token, frame),
            Command::Unsubscribe => self.unsubscribe(desk, token, frame),
            Command::Ack | Command::Nack => self.acknowledge(desk, token, frame),
            Command::Begin => self.begin_transaction(desk, token, frame),
            Command::Commit | Command::Abort => self.end_transaction(desk, token, frame),
            Command::Disconnect => self.disconnect(desk, token, frame),
            _ => self.refuse(desk, token, "a client does not send this frame", frame),
        }
    }

    /// What is remembered of a frame beside its body is bounded.
    fn has_long_name(&self, token: u32, frame: &Frame<'_>) -> bool {
        let route = usize::from(self.peers.clients[token as usize].route);
        let most = self.peers.plans[route].bounds.name_bytes;
        let is_name = |name: &str| matches!(name, "destination" | "id" | "receipt" | "transaction");
        frame.headers.iter().any(|(name, value)| value.len() > most && is_name(&name))
    }

    /// The client is sent ERROR for this frame, which is wrong, and is closed.
    pub(super) fn refuse(&mut self, desk: &mut Desk<'_>, token: u32, message: &str, frame: &Frame<'_>) {
        self.refuse_as(desk, token, (OffloadRefused::Frame, message), frame);
    }

    /// The client is sent ERROR for this frame, and is closed.
    pub(super) fn refuse_as(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        (why, message): (OffloadRefused, &str),
        frame: &Frame<'_>,
    ) {
        let Some(who) = self.fanout.client(token).map(|it| it.who) else { return };
        let receipt = frame.get("receipt");
        let told = Told { why, message, receipt: receipt.as_deref(), body: b"" };
        self.peers.clients[token as usize].fail(desk, who, &told);
    }

    /// What it has asked for is done.
    pub(super) fn confirm(&mut self, desk: &mut Desk<'_>, token: u32, receipt: Option<&str>) {
        let Some(who) = self.fanout.client(token).map(|it| it.who) else { return };
        self.peers.clients[token as usize].confirm(desk, who, receipt);
    }

    // ---- SEND ----

    fn send(&mut self, desk: &mut Desk<'_>, token: u32, frame: &Frame<'_>) {
        let Some(destination) = frame.get("destination").filter(|it| !it.is_empty()) else {
            return self.refuse(desk, token, "SEND needs a destination", frame);
        };
        let Some(who) = self.fanout.client(token).map(|it| it.who) else { return };
        let plan = self.plan_of(token);
        if let Some(refused) = not_sent(&plan, desk.identity(who).map(|it| &**it), (&destination, frame)) {
            return self.refuse_as(desk, token, refused, frame);
        }
        let transaction = match self.transaction_of(token, frame) {
            Ok(transaction) => transaction,
            Err(words) => return self.refuse(desk, token, words, frame),
        };
        if transaction.is_some_and(|it| self.is_risky(desk.now(), it.0, &destination)) {
            let words = "the broker knows this destination not yet: send to it outside of a transaction first";
            return self.refuse_as(desk, token, (OffloadRefused::Broker, words), frame);
        }
        let route = match transaction {
            Some((session, _)) => Ok(Route { session, trial: false }),
            None => self.route_of_send(desk, token, &plan, &destination, frame.get("reply-to").is_some()),
        };
        let Ok(Route { session, trial }) = route else {
            return self.refuse_as(desk, token, (OffloadRefused::Limit, relay::TOO_MANY), frame);
        };
        let trial = trial.then(|| destination.as_ref().into());
        let purpose = if transaction.is_some() { Purpose::Bound } else { Purpose::Send(trial) };
        self.relay(desk, token, session, frame, (transaction.map(|it| it.1), purpose));
    }

    /// Hands a frame of a client to a session, its receipt and its transaction by the names that they have there.
    pub(super) fn relay(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        id: SessionId,
        frame: &Frame<'_>,
        (transaction, purpose): (Option<u64>, Purpose),
    ) {
        let owner = self.owner(token);
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.refuses() {
            self.wake(desk, id);
            return self.refuse_as(desk, token, (OffloadRefused::BrokerDown, "the broker does not answer"), frame);
        }
        let receipt = frame.get("receipt").map(|it| it.as_ref().into());
        let wants = receipt.is_some() || session.must_confirm(desk.now(), frame.command, &purpose);
        let number = if wants { session.next_receipt() } else { 0 };
        let client = self.fanout.client(token).and_then(|it| desk.identity(it.who)).map(|it| &**it);
        let stamp = session.plan.stamp_of(client).filter(|_| frame.command == Command::Send);
        translated(&mut self.said, frame, number, transaction, stamp);
        let has_receipt = receipt.is_some();
        if let Purpose::Send(Some(destination)) = &purpose {
            self.trials.begin(session.plan.number, destination.clone());
        }
        let submitted = session.pass(desk, number, &self.said).unwrap_or_else(|| {
            let frame = self.said.as_slice().into();
            let outgoing = Outgoing { number, owner, receipt, purpose, frame, is_suspected: false };
            session.submit(desk, outgoing)
        });
        desk.counters().offload_published[OffloadKind::Stomp as usize] += u64::from(frame.command == Command::Send);
        self.relayed(desk, token, id, (has_receipt, submitted));
    }

    fn relayed(&mut self, desk: &mut Desk<'_>, token: u32, id: SessionId, (has_receipt, submitted): (bool, Submitted)) {
        if has_receipt {
            self.peers.clients[token as usize].busy().receipts += 1;
        }
        self.wake(desk, id);
        if submitted == Submitted::Full {
            self.hold_back(desk, token, id);
        }
    }

    /// The client is not read until the session has room.
    fn hold_back(&mut self, desk: &mut Desk<'_>, token: u32, id: SessionId) {
        let (owner, who) = (self.owner(token), self.fanout.client(token).map(|it| it.who));
        if let (Some(session), Some(who)) = (self.sessions.get_mut(id), who)
            && !session.paused.contains(&owner)
        {
            session.paused.push(owner);
            desk.counters().offload_held_back[OffloadKind::Stomp as usize] += 1;
            self.peers.clients[token as usize].busy().holds.insert(Holds::SESSION);
            desk.pause(who);
        }
    }

    // ---- transactions ----

    /// The session and the name there of the transaction that a frame names.
    ///
    /// # Errors
    /// The client has begun none of this name.
    pub(super) fn transaction_of(
        &mut self,
        token: u32,
        frame: &Frame<'_>,
    ) -> Result<Option<(SessionId, u64)>, &'static str> {
        let Some(name) = frame.get("transaction") else { return Ok(None) };
        let busy = self.peers.clients[token as usize].busy();
        let found = busy.transactions.iter().find(|it| *it.0 == *name);
        found.map(|it| Some((it.1, it.2))).ok_or("there is no transaction of this name")
    }

    fn begin_transaction(&mut self, desk: &mut Desk<'_>, token: u32, frame: &Frame<'_>) {
        let Some(name) = frame.get("transaction").filter(|it| !it.is_empty()) else {
            return self.refuse(desk, token, "BEGIN needs a transaction", frame);
        };
        let busy = self.peers.clients[token as usize].busy();
        if busy.transactions.iter().any(|it| *it.0 == *name) {
            return self.refuse(desk, token, "this transaction is begun already", frame);
        }
        let begun = busy.transactions.len();
        let plan = self.plan_of(token);
        if begun >= plan.bounds.transactions_max {
            return self.refuse_as(desk, token, (OffloadRefused::Limit, "too many transactions are begun"), frame);
        }
        let private = self.peers.clients[token as usize].busy().private;
        let id = private.unwrap_or_else(|| self.shared_session(&plan, token));
        let Some(number) = self.sessions.get_mut(id).map(session::Session::next_receipt) else { return };
        self.peers.clients[token as usize].busy().transactions.push((name.as_ref().into(), id, number));
        self.sessions.get_mut(id).into_iter().for_each(|session| session.transactions += 1);
        self.relay(desk, token, id, frame, (Some(number), Purpose::Bound));
    }

    fn end_transaction(&mut self, desk: &mut Desk<'_>, token: u32, frame: &Frame<'_>) {
        match self.transaction_of(token, frame) {
            Ok(Some((id, number))) => {
                self.peers.clients[token as usize].busy().transactions.retain(|it| it.1 != id || it.2 != number);
                let session = self.sessions.get_mut(id).into_iter();
                session.for_each(|it| it.transactions = it.transactions.saturating_sub(1));
                self.settle_transaction(token, (id, number), frame.command == Command::Commit);
                self.relay(desk, token, id, frame, (Some(number), Purpose::Bound));
            }
            _ => self.refuse(desk, token, "there is no transaction of this name", frame),
        }
    }

    // ---- the end ----

    /// RECEIPT comes when all that has a receipt is confirmed.
    fn disconnect(&mut self, desk: &mut Desk<'_>, token: u32, frame: &Frame<'_>) {
        let receipt = frame.get("receipt").map(|it| Box::from(it.as_ref()));
        self.peers.clients[token as usize].busy().leaving = Some(receipt.unwrap_or_default());
        self.leave_if_done(desk, token);
    }

    /// The client has said DISCONNECT, and nothing is left to be confirmed.
    pub(super) fn leave_if_done(&mut self, desk: &mut Desk<'_>, token: u32) {
        let Some(who) = self.fanout.client(token).map(|it| it.who) else { return };
        let client = &mut self.peers.clients[token as usize];
        let is_done = client.busy.as_ref().is_some_and(|busy| busy.receipts == 0 && busy.leaving.is_some());
        if !is_done {
            return;
        }
        let receipt = client.busy().leaving.take().filter(|it| !it.is_empty());
        client.confirm(desk, who, receipt.as_deref());
        client.end(desk, who, CloseCode::NORMAL, "", crate::mesh::Cause::Closed);
    }
}

/// Why a SEND is not handed on; `None`: it is.
fn not_sent(
    plan: &OffloadPlan,
    client: Option<&Identity>,
    (destination, frame): (&str, &Frame<'_>),
) -> Option<(OffloadRefused, &'static str)> {
    if !may(&plan.rules, destination, client, true) {
        return Some((OffloadRefused::Forbidden, "you may not send to this destination"));
    }
    // What the stamp replaces is not said.
    let is_said = |name: &str| plan.stamp_of(None).is_none_or(|stamp| !stamp.replaces(name));
    let harm = |(name, value): (Cow<'_, str>, Cow<'_, str>)| is_said(&name).then(|| relay::harm(&name, &value))?;
    frame.headers.iter().find_map(harm).map(|words| (OffloadRefused::Frame, words))
}

/// Writes a client's frame into `out`, as a session says it. `stamp`: what is said of who it is.
pub(super) fn translated(
    out: &mut Vec<u8>,
    frame: &Frame<'_>,
    receipt: u64,
    transaction: Option<u64>,
    stamp: Option<Stamp<'_>>,
) {
    let own = |name: &str| {
        matches!(name, "receipt" | "transaction" | "content-length") || stamp.is_some_and(|it| it.replaces(name))
    };
    out.clear();
    stomp::begin(out, frame.command);
    for (name, value) in frame.headers.iter().filter(|(name, _)| !own(name)) {
        stomp::line(out, Version::V12, frame.command, &name, &value);
    }
    for (name, number) in [("receipt:", Some(receipt).filter(|it| *it > 0)), ("transaction:x", transaction)] {
        if let Some(number) = number {
            out.extend_from_slice(name.as_bytes());
            stomp::number(out, number);
            out.push(b'\n');
        }
    }
    if let Some((name, value)) = stamp.and_then(|stamp| Some((stamp.name, stamp.value?))) {
        stomp::line(out, Version::V12, frame.command, name, value);
    }
    stomp::end(out, frame.command, frame.body, wants_length(frame));
}

/// Writes a frame with other headers.
pub(super) fn write_as(out: &mut Vec<u8>, frame: &Frame<'_>, (version, headers): (Version, &[(&str, &str)])) {
    let write = if wants_length(frame) { stomp::write } else { stomp::write_without_length };
    write(out, version, frame.command, headers, frame.body);
}

/// It has `content-length` where it has come with it, or cannot do without: to some brokers that is what tells bytes
/// from text.
fn wants_length(frame: &Frame<'_>) -> bool {
    !frame.body.is_empty() && (frame.get("content-length").is_some() || frame.body.contains(&0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgehold_wire::stomp::{Limits, Read};

    fn said(frame: &str, stamp: Option<Stamp<'_>>) -> String {
        let limits = Limits { frame_bytes: 1 << 16, header_bytes: 1 << 12, header_count: 32 };
        let Ok(Read::Frame { frame, .. }) = stomp::read(frame.as_bytes(), &limits, Version::V12) else {
            panic!("{frame}")
        };
        let mut out = Vec::new();
        translated(&mut out, &frame, 7, None, stamp);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn who_a_client_is_says_the_edge_and_nobody_else() {
        let forged = "SEND\ndestination:/queue/a\nx-user:root\nX-User:root\nx-users:all\nx-user:\n\nhi\0";
        let stamp = |value| Some(Stamp { name: "x-user", value });
        let head = "SEND\ndestination:/queue/a\nx-users:all\nreceipt:7\n";
        assert_eq!(said(forged, stamp(Some("ann:b"))), format!("{head}x-user:ann\\cb\n\nhi\0"));
        assert_eq!(said(forged, stamp(None)), format!("{head}\nhi\0"));
        assert!(said(forged, None).contains("\nx-user:root\nX-User:root\n"));
        // An escaped name is the same name.
        assert!(
            !said("SEND\ndestination:/q\nx-u\\cb:root\n\n\0", Some(Stamp { name: "X-U:B", value: None }))
                .contains("root")
        );
    }
}

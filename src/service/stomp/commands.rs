//! What clients say: SEND, transactions, DISCONNECT.

use super::Stomp;
use super::client::{Stage, Told};
use super::relay::{self, Route};
use super::session::{self, Outgoing, Purpose, SessionId, Submitted};
use crate::mesh::{OffloadKind, OffloadRefused};
use crate::service::offload::{Holds, may};
use crate::shard::service::Desk;
use crate::shard::slab::Handle;
use edgehold_wire::stomp::{self, Command, Frame, Version};
use edgehold_wire::ws::CloseCode;

impl Stomp {
    /// A frame of a client.
    pub(super) fn command(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, frame: &Frame<'_>) {
        let stage = self.peers.clients[token as usize].stage;
        match frame.command {
            Command::Connect | Command::Stomp => self.connect(desk, who, token, frame),
            _ if stage != Stage::Connected => self.refuse(desk, token, "the first frame is CONNECT", frame),
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
        if !may(&plan.rules, &destination, desk.identity(who).map(|it| &**it), true) {
            return self.refuse_as(
                desk,
                token,
                (OffloadRefused::Forbidden, "you may not send to this destination"),
                frame,
            );
        }
        if let Some(words) = frame.headers.iter().find_map(|(name, value)| relay::harm(&name, &value)) {
            return self.refuse(desk, token, words, frame);
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
        let bytes = translated(frame, number, transaction);
        let has_receipt = receipt.is_some();
        if let Purpose::Send(Some(destination)) = &purpose {
            self.trials.begin((session.plan.number, destination.clone()));
        }
        let outgoing = Outgoing { number, owner, receipt, purpose, frame: bytes.into(), is_suspected: false };
        let submitted = session.submit(desk, outgoing);
        desk.counters().offload_published[OffloadKind::Stomp as usize] += u64::from(frame.command == Command::Send);
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

/// A client's frame as a session says it.
pub(super) fn translated(frame: &Frame<'_>, receipt: u64, transaction: Option<u64>) -> Vec<u8> {
    let (receipt, transaction) = (receipt.to_string(), transaction.map(|it| format!("x{it}")));
    let own = |name: &str| matches!(name, "receipt" | "transaction" | "content-length");
    let kept: Vec<_> = frame.headers.iter().filter(|(name, _)| !own(name)).collect();
    let mut headers: Vec<(&str, &str)> = kept.iter().map(|(name, value)| (&**name, &**value)).collect();
    if receipt != "0" {
        headers.push(("receipt", &receipt));
    }
    headers.extend(transaction.as_deref().map(|it| ("transaction", it)));
    let mut out = Vec::with_capacity(frame.body.len() + 256);
    write_as(&mut out, frame, (Version::V12, &headers));
    out
}

/// Writes a frame with other headers. It has `content-length` where it has come with it, or cannot do without: to some
/// brokers that is what tells bytes from text.
pub(super) fn write_as(out: &mut Vec<u8>, frame: &Frame<'_>, (version, headers): (Version, &[(&str, &str)])) {
    let has_length = frame.get("content-length").is_some();
    let write = if has_length { stomp::write } else { stomp::write_without_length };
    write(out, version, frame.command, headers, frame.body);
}

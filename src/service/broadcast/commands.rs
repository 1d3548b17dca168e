//! Orders: what a WebSocket client says, to hear more or less.
//!
//! However much an order asks for, the answer is short: a few errors are told each by itself, the others counted in
//! one; what was begun is told once, and what was ended. What an order costs is charged to its client: each channel is
//! a change of its subscriptions, and so is each [`STEPS`] rows and messages that were looked at for it. Whoever has
//! used up the changes of a second is told so once, and closed if it goes on in that second.

use super::words::{self, Command};
use super::{Broadcast, BroadcastPlan};
use crate::mesh::Cause;
use crate::shard::clock::TICK;
use crate::shard::service::{Backpressure, Desk};
use crate::shard::slab::Handle;
use edgehold_wire::ws::{CloseCode, Opcode};
use std::collections::{HashMap, HashSet};

/// Errors of one order that are told each by itself.
const ERRORS: usize = 8;

/// Rows and messages that may be looked at for one change.
const STEPS: u64 = 1024;

/// Bytes of an id, at most.
pub(super) const ID_BYTES: usize = 255;

/// Ticks in which changes are counted.
const SECOND: u16 = (1000 / TICK.as_millis()) as u16;

/// In place of the changes of a second: the client was told that there were too many.
const TOLD: u32 = u32::MAX;

const TOO_MANY: &str = "more changes of subscriptions in a second than subscription_changes";

/// What is to be answered to an order.
#[derive(Default)]
struct Answer {
    parts: Vec<String>,
    errors: usize,
}

impl Answer {
    fn refuse(&mut self, words: &str, channel: Option<&str>) {
        self.errors += 1;
        if self.errors <= ERRORS {
            self.parts.push(words::error(words, channel));
        }
    }

    fn refuse_rest(&mut self, count: usize, words: &str) {
        if count > 0 {
            self.refuse(words, None);
            self.errors += count - 1;
        }
    }

    /// The errors that were not told each by itself.
    fn sum(&mut self) {
        if self.errors > ERRORS {
            self.parts.push(words::more_errors(self.errors - ERRORS));
        }
    }
}

impl Broadcast {
    /// A piece of a client's message: it is a command when it is whole.
    pub(super) fn received(
        &mut self,
        desk: &mut Desk<'_>,
        who: Handle,
        token: u32,
        (first, last): (bool, bool),
        piece: &[u8],
    ) {
        if first && last {
            return self.ordered(desk, who, token, piece);
        }
        let Some(client) = self.subscribers.clients.get(token as usize) else { return };
        let most = self.settings[usize::from(client.route)].order_bytes;
        let received = self.partial.entry(token).or_default();
        // One byte more than what is taken tells that it is too long.
        received.extend_from_slice(&piece[..piece.len().min(most + 1 - received.len())]);
        if let Some(whole) = last.then(|| self.partial.remove(&token)).flatten() {
            self.ordered(desk, who, token, &whole);
        }
    }

    fn ordered(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, said: &[u8]) {
        let Some(client) = self.subscribers.clients.get(token as usize) else { return };
        let settings = self.settings.clone();
        let settings = &settings[usize::from(client.route)];
        let mut answer = Answer::default();
        match self.allowance(desk, token, settings) {
            None => return self.close_busy(desk, token),
            Some(0) => self.refuse_busy(desk, token, &mut answer),
            Some(left) => self.read_order(desk, token, settings, said, left, &mut answer),
        }
        if answer.parts.iter().fold(Backpressure::Ready, |_, json| tell(desk, who, json)) == Backpressure::Full {
            desk.pause(who);
        }
        // What it was offered has to wait behind the answer.
        self.note_rest(token);
        desk.follow(who);
    }

    /// Changes that a client may still make in this second. `None`: it was told that it may not, and goes on.
    fn allowance(&mut self, desk: &Desk<'_>, token: u32, settings: &BroadcastPlan) -> Option<u32> {
        let client = &mut self.subscribers.clients[token as usize];
        let now = desk.now() as u16;
        if now.wrapping_sub(client.second) >= SECOND {
            (client.second, client.changes) = (now, 0);
        }
        (client.changes != TOLD).then(|| settings.changes_max.saturating_sub(client.changes))
    }

    fn refuse_busy(&mut self, desk: &mut Desk<'_>, token: u32, answer: &mut Answer) {
        self.subscribers.clients[token as usize].changes = TOLD;
        desk.counters().changes_refused += 1;
        answer.refuse(TOO_MANY, None);
    }

    fn close_busy(&mut self, desk: &mut Desk<'_>, token: u32) {
        desk.counters().changes_refused += 1;
        self.close(desk, token, CloseCode::POLICY_VIOLATION, TOO_MANY, Cause::Refused);
    }

    fn read_order(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        settings: &BroadcastPlan,
        said: &[u8],
        left: u32,
        answer: &mut Answer,
    ) {
        let mut spent = 1;
        match words::command(said) {
            _ if !settings.subscribe => answer.refuse("this route takes no messages", None),
            _ if said.len() > settings.order_bytes => answer.refuse("this message is too long", None),
            Ok(command) if command.after.as_ref().is_some_and(|after| after.len() > ID_BYTES) => {
                answer.refuse("an id is 255 bytes at most", None);
            }
            Ok(command) if command.subscribe.is_empty() && command.unsubscribe.is_empty() => {
                answer.refuse("nothing is asked for", None);
            }
            Ok(command) => spent = self.obey(desk, token, settings, &command, left, answer),
            Err(words) => answer.refuse(words, None),
        }
        let client = &mut self.subscribers.clients[token as usize];
        client.changes = client.changes.saturating_add(spent).min(TOLD - 1);
    }

    /// Does what is asked, as far as `left` changes go; says how many it took.
    fn obey(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        settings: &BroadcastPlan,
        command: &Command,
        left: u32,
        answer: &mut Answer,
    ) -> u32 {
        let ends = command.unsubscribe.len().min(left as usize);
        let begins = command.subscribe.len().min(left as usize - ends);
        self.end_all(desk, token, &command.unsubscribe[..ends], answer);
        let done = self.allowed(token, settings, &command.subscribe[..begins], answer);
        let (_, steps) = self.subscribe(desk, token, &done, command.after.as_deref());
        let rest = command.unsubscribe.len() + command.subscribe.len() - ends - begins;
        desk.counters().changes_refused += rest as u64;
        answer.refuse_rest(rest, TOO_MANY);
        answer.sum();
        if !done.is_empty() {
            answer.parts.push(words::subscribed(&done, &self.last_id()));
        }
        (ends + begins).max(1) as u32 + (steps / STEPS).min(u64::from(TOLD / 2)) as u32
    }

    /// Ends all subscriptions of a client to these channels.
    fn end_all(&mut self, desk: &mut Desk<'_>, token: u32, channels: &[String], answer: &mut Answer) {
        let mut held = self.held(token);
        let mut done = Vec::new();
        for channel in channels {
            let logs = self.feeds_of(token, channel).filter_map(|feed| self.feeds[usize::from(feed)].find(channel));
            let numbers: Vec<u32> = logs.filter_map(|log| held.remove(&log)).collect();
            match numbers.is_empty() {
                true => answer.refuse("this was not subscribed to", Some(channel)),
                false => done.push(channel.clone()),
            }
            numbers.into_iter().for_each(|number| self.leave(desk, number));
        }
        if !done.is_empty() {
            answer.parts.push(words::unsubscribed(&done));
        }
    }

    /// The subscriptions of a client, by their rows.
    fn held(&self, token: u32) -> HashMap<u32, u32> {
        self.subscribers.of(token).map(|number| (self.subscribers.get(number).log, number)).collect()
    }

    /// Of these channels, those that a client may subscribe to.
    fn allowed(&self, token: u32, settings: &BroadcastPlan, channels: &[String], answer: &mut Answer) -> Vec<String> {
        let (held, mut seen, mut done) = (self.held(token), HashSet::new(), Vec::new());
        let mut count = self.subscribers.clients[token as usize].count;
        for channel in channels {
            let logs = || self.feeds_of(token, channel).filter_map(|feed| self.feeds[usize::from(feed)].find(channel));
            let refusal = match () {
                () if !super::settings::is_channel(channel) => Some("this cannot be a channel"),
                () if seen.contains(channel) || logs().any(|log| held.contains_key(&log)) => {
                    Some("this is subscribed to already")
                }
                () if count >= settings.subscriptions_max => Some("more channels than subscriptions_max"),
                () => self.forbids(settings, channel),
            };
            if let Some(words) = refusal {
                answer.refuse(words, Some(channel));
                continue;
            }
            count += self.feeds_of(token, channel).count() as u32;
            seen.insert(channel);
            done.push(channel.clone());
        }
        done
    }
}

/// A word to one WebSocket client.
pub(super) fn tell(desk: &mut Desk<'_>, who: Handle, json: &str) -> Backpressure {
    desk.send(who, Opcode::Text, json.as_bytes())
}

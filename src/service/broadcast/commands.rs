//! Commands: messages of WebSocket clients that begin and end subscriptions.
//!
//! However much a command asks for, its answer is short: the first errors are sent each by itself, the others as a
//! count; all subscriptions that were begun are named in one answer, and all that were ended. A client is charged for
//! its commands: each channel is a change of subscriptions, and so is each [`STEPS`] logs and messages that were looked
//! at. A client that has used up the changes of a second is sent an error once, and closed with its next command in
//! that second.

use super::open::ID_BYTES;
use super::protocol::{self, Command};
use super::settings::is_channel;
use super::transport::send_json;
use super::{Broadcast, BroadcastPlan};
use crate::mesh::{Cause, Credentials, Identity, Secret};
use crate::shard::clock::TICK;
use crate::shard::service::{Backpressure, Desk};
use crate::shard::slab::Handle;
use edgehold_wire::ws::CloseCode;
use std::collections::HashSet;

/// Errors of one command that are sent each by itself.
const ERRORS: usize = 8;

/// Logs and messages that may be looked at for one change.
const STEPS: u64 = 1024;

/// Ticks in which changes are counted.
const SECOND: u16 = (1000 / TICK.as_millis()) as u16;

/// In place of a count of changes: the client was sent the error that there were too many.
const REFUSED: u32 = u32::MAX;

const NOT_TAKEN: &str = "these credentials are not taken: the connection ends with those before";

const TOO_MANY: &str = "more changes of subscriptions in a second than subscription_changes";

/// The answer to a command: JSON objects, each a message.
#[derive(Default)]
struct Answer {
    parts: Vec<String>,
    errors: usize,
}

impl Answer {
    fn refuse(&mut self, words: &str, channel: Option<&str>) {
        self.errors += 1;
        if self.errors <= ERRORS {
            self.parts.push(protocol::error(words, channel));
        }
    }

    fn refuse_rest(&mut self, count: usize, words: &str) {
        if count > 0 {
            self.refuse(words, None);
            self.errors += count - 1;
        }
    }

    /// Adds the count of the errors that have no part of their own.
    fn count_errors(&mut self) {
        if self.errors > ERRORS {
            self.parts.push(protocol::more_errors(self.errors - ERRORS));
        }
    }
}

impl Broadcast {
    /// Takes a piece of a WebSocket message; a whole message is a command.
    pub(super) fn receive(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, part: (bool, bool), piece: &[u8]) {
        let (first, last) = part;
        if first && last {
            return self.run(desk, who, token, piece);
        }
        let Some(client) = self.fanout.client(token) else { return };
        let most = self.route(client.route).plan.order_bytes;
        let text = self.fragments.entry(token).or_default();
        // One byte above the limit is kept, so that the command is known to be too long.
        text.extend_from_slice(&piece[..piece.len().min(most + 1 - text.len())]);
        if let Some(text) = last.then(|| self.fragments.remove(&token)).flatten() {
            self.run(desk, who, token, &text);
        }
    }

    fn run(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, text: &[u8]) {
        let Some(client) = self.fanout.client(token) else { return };
        let route = client.route;
        let its = self.route(route).clone();
        let plan = &its.plan;
        let mut answer = Answer::default();
        match self.changes_left(desk, token, plan) {
            None => return self.close_busy(desk, token),
            Some(0) => self.refuse_busy(desk, token, &mut answer),
            Some(left) => {
                let changes = self.read_command(desk, token, route, text, left, &mut answer);
                self.charge(token, changes);
            }
        }
        if answer.parts.iter().fold(Backpressure::Ready, |_, json| send_json(desk, who, json)) == Backpressure::Full {
            desk.pause(who);
        }
        // The shard asks for messages only when the answer was taken.
        self.fanout.offer_rest(token);
        desk.follow(who);
    }

    // ---- changes of a second ----

    /// Changes that a client may still make in this second. `None`: it was refused in it before, and goes on.
    fn changes_left(&mut self, desk: &Desk<'_>, token: u32, plan: &BroadcastPlan) -> Option<u32> {
        let client = self.fanout.client_mut(token)?;
        let now = desk.now() as u16;
        if now.wrapping_sub(client.second) >= SECOND {
            (client.second, client.changes) = (now, 0);
        }
        (client.changes != REFUSED).then(|| plan.changes_max.saturating_sub(client.changes))
    }

    fn charge(&mut self, token: u32, changes: u32) {
        if let Some(client) = self.fanout.client_mut(token) {
            client.changes = client.changes.saturating_add(changes).min(REFUSED - 1);
        }
    }

    fn refuse_busy(&mut self, desk: &mut Desk<'_>, token: u32, answer: &mut Answer) {
        if let Some(client) = self.fanout.client_mut(token) {
            client.changes = REFUSED;
        }
        desk.counters().changes_refused += 1;
        answer.refuse(TOO_MANY, None);
    }

    fn close_busy(&mut self, desk: &mut Desk<'_>, token: u32) {
        desk.counters().changes_refused += 1;
        self.close(desk, token, CloseCode::POLICY_VIOLATION, TOO_MANY, Cause::Refused);
    }

    // ---- what a command does ----

    /// Reads a command and does what it asks, as far as `left` changes go; returns how many it took.
    fn read_command(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        route: u16,
        text: &[u8],
        left: u32,
        answer: &mut Answer,
    ) -> u32 {
        let plan = &self.route(route).plan;
        let words = match protocol::command(text) {
            _ if !plan.subscribe => "this route takes no messages",
            _ if text.len() > plan.order_bytes => "this message is too long",
            Ok(command) if command.after.as_ref().is_some_and(|after| after.len() > ID_BYTES) => {
                "an id is 255 bytes at most"
            }
            Ok(command) if command.authenticate.is_some() => return self.authenticate(desk, token, &command, answer),
            Ok(command) if command.subscribe.is_empty() && command.unsubscribe.is_empty() => "nothing is asked for",
            Ok(command) => return self.obey(desk, token, route, &command, left, answer),
            Err(words) => words,
        };
        answer.refuse(words, None);
        1
    }

    /// A client shows new credentials. What became of them it is told when that is known.
    fn authenticate(&mut self, desk: &mut Desk<'_>, token: u32, command: &Command, answer: &mut Answer) -> u32 {
        let alone = command.subscribe.is_empty() && command.unsubscribe.is_empty();
        match (&command.authenticate, self.fanout.client(token)) {
            (Some(shown), Some(client)) if alone => {
                desk.present(client.who, Credentials::Token(Secret::new(shown)));
            }
            _ => answer.refuse("credentials come in a message of their own", None),
        }
        1
    }

    fn obey(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        route: u16,
        command: &Command,
        left: u32,
        answer: &mut Answer,
    ) -> u32 {
        let ends = command.unsubscribe.len().min(left as usize);
        let begins = command.subscribe.len().min(left as usize - ends);
        self.unsubscribe(desk, token, route, &command.unsubscribe[..ends], answer);
        let identity = self.fanout.client(token).and_then(|client| desk.identity(client.who)).cloned();
        let asked = &command.subscribe[..begins];
        let allowed = self.allowed(token, (route, identity.as_deref()), asked, answer);
        let steps = self.fanout.subscribe(desk, token, &allowed, command.after.as_deref()).steps;
        let rest = command.unsubscribe.len() + command.subscribe.len() - ends - begins;
        desk.counters().changes_refused += rest as u64;
        answer.refuse_rest(rest, TOO_MANY);
        answer.count_errors();
        if !allowed.is_empty() {
            answer.parts.push(protocol::subscribed(&allowed, &self.fanout.last_id()));
        }
        (ends + begins).max(1) as u32 + (steps / STEPS).min(u64::from(REFUSED / 2)) as u32
    }

    /// Ends all subscriptions of a client to these channels.
    fn unsubscribe(&mut self, desk: &mut Desk<'_>, token: u32, route: u16, channels: &[String], answer: &mut Answer) {
        let mut held = self.fanout.subscriptions(token);
        let mut done = Vec::new();
        for channel in channels {
            let logs = self.fanout.logs_of(route, channel);
            let numbers: Vec<u32> = logs.filter_map(|log| held.remove(&log)).collect();
            if numbers.is_empty() {
                answer.refuse("this was not subscribed to", Some(channel));
            } else {
                done.push(channel.clone());
            }
            numbers.into_iter().for_each(|number| self.fanout.unsubscribe(desk, number));
        }
        if !done.is_empty() {
            answer.parts.push(protocol::unsubscribed(&done));
        }
    }

    /// Of these channels, those that a client may subscribe to.
    fn allowed(
        &self,
        token: u32,
        (route, identity): (u16, Option<&Identity>),
        channels: &[String],
        answer: &mut Answer,
    ) -> Vec<String> {
        let plan = &self.route(route).plan;
        let (held, mut seen, mut allowed) = (self.fanout.subscriptions(token), HashSet::new(), Vec::new());
        let mut count = held.len();
        for channel in channels {
            let is_held = || self.fanout.logs_of(route, channel).any(|log| held.contains_key(&log));
            let refusal = match () {
                () if !is_channel(channel) => Some("this cannot be a channel"),
                () if seen.contains(channel) || is_held() => Some("this is subscribed to already"),
                () if count >= plan.subscriptions_max as usize => Some("more channels than subscriptions_max"),
                () => self.forbids(route, channel, identity),
            };
            if let Some(words) = refusal {
                answer.refuse(words, Some(channel));
                continue;
            }
            count += self.fanout.carriers(route, channel);
            seen.insert(channel);
            allowed.push(channel.clone());
        }
        allowed
    }
}

/// Tells a client what became of the credentials that it has shown.
pub(super) fn tell_authenticated(desk: &mut Desk<'_>, who: Handle, taken: bool) {
    send_json(desk, who, &if taken { protocol::authenticated() } else { protocol::error(NOT_TAKEN, None) });
}

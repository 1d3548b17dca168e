//! Rounds: how those who listen learn that there is something, and what becomes of those who do not take it.
//!
//! A message begins a round over the subscribers of its row, or lets the one under way go on until it has gone by all
//! of them once more. A visit offers the client to the shard, which asks for the messages when it sends. Each turn
//! makes so many visits and no more, so that a message for many does not keep the others waiting; a round that does not
//! keep up with its messages finds more of them at each client, and they go out in one send.

use super::Broadcast;
use super::settings::{Policy, Slow};
use super::subscribers::{NONE, Traits};
use crate::mesh::Cause;
use crate::shard::service::{Desk, Offer};
use edgehold_wire::ws::CloseCode;

/// Visits to one row before the next has its share of the turn.
const SHARE: u32 = 256;

/// Rows that are looked at in a tick whether something in them is too old.
const LOGS_PER_TICK: usize = 1024;

impl Broadcast {
    /// There is something new in the row.
    pub(super) fn begin_pass(&mut self, number: u32) {
        let log = &mut self.logs[number as usize];
        log.pass.remaining = log.subscribers.len() as u32;
        if log.subscribers.is_empty() {
            return;
        }
        if !std::mem::replace(&mut log.pass.active, true) {
            self.active.push_back(number);
        }
    }

    /// What is under way, at most `budget` visits of it; says how many were made.
    pub fn turn(&mut self, desk: &mut Desk<'_>, budget: u32) -> u32 {
        let mut left = budget - self.redeliver(desk, budget);
        while let Some(number) = self.finished.pop() {
            self.trim(desk, number);
        }
        if self.ticked != desk.now() {
            self.ticked = desk.now();
            self.tick(desk);
        }
        while left > 0 {
            let Some(number) = self.active.pop_front() else { break };
            left -= self.continue_pass(desk, number, left.min(SHARE)).clamp(1, left);
        }
        self.gauge(desk);
        budget - left
    }

    fn continue_pass(&mut self, desk: &mut Desk<'_>, number: u32, most: u32) -> u32 {
        let mut deliveries = 0;
        while deliveries < most {
            // A prefix may have been given up.
            let Some(log) = self.logs.get_mut(number as usize) else { return deliveries };
            if log.pass.remaining == 0 || log.subscribers.is_empty() {
                break;
            }
            log.pass.remaining -= 1;
            let at = log.pass.position % log.subscribers.len() as u32;
            // Around by now: behind a shorter list the one at its front would be passed by.
            log.pass.position = (at + 1) % log.subscribers.len() as u32;
            let subscription = log.subscribers[at as usize];
            deliveries += 1;
            self.deliver(desk, subscription);
        }
        self.end_pass(number);
        deliveries
    }

    fn end_pass(&mut self, number: u32) {
        let Some(log) = self.logs.get_mut(number as usize) else { return };
        if log.pass.remaining > 0 && !log.subscribers.is_empty() {
            self.active.push_back(number);
        } else {
            (log.pass.remaining, log.pass.active) = (0, false);
            self.finished.push(number);
        }
    }

    /// Those who are to be offered something again, as many as there were and as the budget allows.
    fn redeliver(&mut self, desk: &mut Desk<'_>, budget: u32) -> u32 {
        let count = self.redeliver.len().min(budget as usize);
        for _ in 0..count {
            let Some(number) = self.redeliver.pop_front() else { break };
            if self.subscribers.get(number).log != NONE {
                self.deliver(desk, number);
            }
        }
        count as u32
    }

    /// Somebody is to be visited in a later turn, and the row keeps what there is for it until then.
    pub(super) fn offer_again(&mut self, number: u32) {
        self.lags(number);
        self.redeliver.push_back(number);
    }

    fn trim(&mut self, desk: &Desk<'_>, number: u32) {
        if !self.logs.contains(number as usize) {
            return;
        }
        self.keeping(number, |log, feed| {
            let lagging = log.pass.active || !log.laggards.is_empty();
            log.trim(desk.now(), lagging, &feed.settings.keep, &mut feed.ids);
        });
        self.forget_idle(number);
    }

    /// Somebody who listens: there may be something.
    pub(super) fn deliver(&mut self, desk: &mut Desk<'_>, number: u32) {
        let subscription = self.subscribers.get(number);
        let log = &self.logs[subscription.log as usize];
        if !log.is_behind(subscription.cursor) {
            return;
        }
        let client = &self.subscribers.clients[subscription.client as usize];
        if client.traits.contains(Traits::POLLS) {
            return self.answer_poll(desk, subscription.client);
        }
        match desk.offer(client.who) {
            Offer::Asked => {}
            // The shard has still to hear what became of a send that does not wait: that is not the client's fault.
            Offer::InFlight => self.offer_again(number),
            Offer::Queued => {
                self.lags(number);
                self.judge(desk, number);
            }
        }
    }

    /// Somebody does not have all that has come: the row keeps it for a while.
    pub(super) fn lags(&mut self, number: u32) {
        let place = self.subscribers.get(number).log;
        self.logs[place as usize].laggards.push(number);
        self.lagging.insert(place);
    }

    // ---- those who are slow ----

    /// Somebody who has not taken what it was sent, and more to come: too much, or too old? Its age counts from when
    /// the client was first found so: what the shard was late with is not held against it.
    fn judge(&mut self, desk: &mut Desk<'_>, number: u32) {
        let subscription = self.subscribers.get(number);
        let client = &mut self.subscribers.clients[subscription.client as usize];
        if client.waits == NONE {
            client.waits = desk.now();
        }
        let log = &self.logs[subscription.log as usize];
        let caught_up = subscription.cursor.heard() >= log.last();
        if client.traits.contains(Traits::REPLAYS) || subscription.cursor.conflates() || caught_up {
            return;
        }
        let Slow { max_pending, max_age_ticks, .. } = self.settings[usize::from(client.route)].slow;
        let (bytes, ticks) = log.lag(subscription.cursor, desk.now());
        let ticks = ticks.min(desk.now() - client.waits);
        if bytes + desk.pending(client.who) as u64 > max_pending || ticks > max_age_ticks {
            self.too_slow(desk, number);
        }
    }

    /// The route's policy for somebody whose backlog is above its limit, or gone.
    pub(super) fn too_slow(&mut self, desk: &mut Desk<'_>, number: u32) {
        let subscription = self.subscribers.get(number);
        let (log, cursor) = (&self.logs[subscription.log as usize], subscription.cursor);
        let client = &self.subscribers.clients[subscription.client as usize];
        let slow = self.settings[usize::from(client.route)].slow;
        let who = client.who;
        let moved = match slow.policy {
            Policy::DropOldest => {
                let half = log.within(slow.max_pending / 2, slow.max_age_ticks / 2, desk.now());
                cursor.moved(half.max(cursor.heard()).max(log.gone()))
            }
            Policy::Gap => cursor.moved(log.last()).owing(false),
            Policy::Conflate => cursor.conflated(),
            Policy::Close => return self.close_slow(desk, subscription.client),
        };
        match slow.policy {
            Policy::Conflate => desk.counters().slow_conflated += 1,
            _ => desk.counters().slow_dropped += log.between(cursor.heard(), moved.heard()),
        }
        self.subscribers.set(number, moved);
        desk.offer(who);
    }

    fn close_slow(&mut self, desk: &mut Desk<'_>, client: u32) {
        desk.counters().slow_closed += 1;
        let words = "this client does not take what it is sent";
        self.close(desk, client, CloseCode::TRY_AGAIN_LATER, words, Cause::Stalled);
        // It hears nothing more: nothing is kept for it, and it is not found slow again.
        let numbers: Vec<u32> = self.subscribers.of(client).collect();
        numbers.into_iter().for_each(|number| self.leave(desk, number));
    }

    // ---- time ----

    fn tick(&mut self, desk: &mut Desk<'_>) {
        self.end_polls(desk);
        self.expire_prefixes(desk.now());
        // Before those who lag are offered something: until they have taken it they are not counted as lagging.
        self.sweep(desk);
        let lagging: Vec<u32> = self.lagging.iter().copied().collect();
        lagging.into_iter().for_each(|number| self.look_after(desk, number));
    }

    /// Those who were behind: some have caught up, others have become too old.
    fn look_after(&mut self, desk: &mut Desk<'_>, number: u32) {
        // A poll that was answered meanwhile may have been the last to listen.
        let Some(log) = self.logs.get_mut(number as usize) else { return };
        let mut laggards = std::mem::take(&mut log.laggards);
        laggards.sort_unstable();
        laggards.dedup();
        for subscription in laggards {
            let is_here = self.subscribers.get(subscription).log == number;
            if is_here {
                self.deliver(desk, subscription);
            }
            if !self.logs.contains(number as usize) {
                return;
            }
        }
        if self.logs[number as usize].laggards.is_empty() {
            self.lagging.remove(&number);
        }
        // Not yet: those who were offered something just now are asked at the end of this turn.
        self.finished.push(number);
    }

    /// What is too old goes, some rows a tick.
    fn sweep(&mut self, desk: &Desk<'_>) {
        let logs: Vec<usize> =
            self.logs.iter().map(|(number, _)| number).skip(self.swept).take(LOGS_PER_TICK).collect();
        self.swept = if logs.len() < LOGS_PER_TICK { 0 } else { self.swept + logs.len() };
        logs.into_iter().for_each(|number| self.trim(desk, number as u32));
    }
}

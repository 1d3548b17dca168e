//! Delivery passes: how subscribers are found for which there is something.
//!
//! A message begins a pass over the subscribers of its log, or lets the active one go around once more. A *delivery*
//! offers the client to the shard, which asks for its messages when it can send. A turn makes a bounded number of
//! deliveries, so that a message for many does not keep other connections waiting. A pass that is slower than the
//! messages finds several of them for each client, and they go out in one send.

use super::subscribers::{NONE, Traits};
use super::{Due, Fanout};
use crate::shard::service::{Desk, Offer};

/// Deliveries of one log before the next has its share of the turn.
const SHARE: u32 = 256;

/// Logs that are trimmed in a tick whatever happens to them: messages age.
const LOGS_PER_TICK: usize = 1024;

impl Fanout {
    /// Begins a delivery pass over the subscribers of a log, or lets the active one go around once more.
    pub(super) fn begin_pass(&mut self, number: u32) {
        let log = &mut self.logs[number as usize];
        log.pass.remaining = log.subscribers.len() as u32;
        if log.subscribers.is_empty() {
            return;
        }
        if !std::mem::replace(&mut log.pass.active, true) {
            self.passes.push_back(number);
        }
    }

    /// Goes on with delivery passes, at most `budget` deliveries; returns how many were made. [`Fanout::take_due`] is
    /// to be asked afterwards.
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
            let Some(number) = self.passes.pop_front() else { break };
            left -= self.continue_pass(desk, number, left.min(SHARE)).clamp(1, left);
        }
        self.gauge(desk);
        budget - left
    }

    fn continue_pass(&mut self, desk: &mut Desk<'_>, number: u32, most: u32) -> u32 {
        let mut deliveries = 0;
        while deliveries < most {
            // A delivery may end subscriptions, and the log of a prefix be dropped with the last of them.
            let Some(log) = self.logs.get_mut(number as usize) else { return deliveries };
            if log.pass.remaining == 0 || log.subscribers.is_empty() {
                break;
            }
            let (subscription, after_loss) = log.next_of_pass();
            deliveries += 1;
            if after_loss {
                self.mark_loss(subscription);
            }
            self.deliver(desk, subscription);
        }
        self.end_pass(number);
        deliveries
    }

    fn end_pass(&mut self, number: u32) {
        let Some(log) = self.logs.get_mut(number as usize) else { return };
        if log.pass.remaining > 0 && !log.subscribers.is_empty() {
            self.passes.push_back(number);
        } else {
            (log.pass.remaining, log.pass.active) = (0, false);
            self.finished.push(number);
        }
    }

    /// Delivers to subscriptions that are to be visited again: as many as there are now, within the budget.
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

    /// Delivers to a subscription in a later turn; until then its log keeps what there is for it.
    pub(super) fn deliver_later(&mut self, number: u32) {
        self.mark_lagging(number);
        self.redeliver.push_back(number);
    }

    /// Offers a subscription's client to the shard, if there is something for it.
    pub(super) fn deliver(&mut self, desk: &mut Desk<'_>, number: u32) {
        let subscription = self.subscribers.get(number);
        if !self.logs[subscription.log as usize].is_behind(subscription.cursor) {
            return;
        }
        let client = &self.subscribers.clients[subscription.client as usize];
        if client.traits.contains(Traits::PULLS) {
            return self.due.push(Due::Pull(subscription.client));
        }
        match desk.offer(client.who) {
            Offer::Asked => {}
            // The shard does not know yet what the socket took of the batch: not the client's fault.
            Offer::InFlight => self.deliver_later(number),
            Offer::Queued => {
                self.mark_lagging(number);
                self.enforce_limits(desk, number);
            }
        }
    }

    /// Counts a subscription among the laggards of its log, which keeps the backlog for it until a tick finds it caught
    /// up.
    pub(super) fn mark_lagging(&mut self, number: u32) {
        let log = self.subscribers.get(number).log;
        self.logs[log as usize].laggards.push(number);
        self.lagging.insert(log);
    }

    pub(super) fn trim(&mut self, desk: &Desk<'_>, number: u32) {
        if !self.logs.contains(number as usize) {
            return;
        }
        self.keeping(number, |log, feed| {
            let lagging = log.pass.active || !log.laggards.is_empty();
            log.trim(desk.now(), lagging, &feed.settings.keep, &mut feed.ids);
        });
        self.drop_if_unused(number);
    }

    // ---- time ----

    fn tick(&mut self, desk: &mut Desk<'_>) {
        self.expire_prefixes(desk.now());
        // Before laggards are visited: between the visit and what they take they are not counted as laggards.
        self.sweep(desk);
        let lagging: Vec<u32> = self.lagging.iter().copied().collect();
        lagging.into_iter().for_each(|number| self.visit_laggards(desk, number));
    }

    /// Delivers to the laggards of a log: some have caught up, others have been waiting for too long.
    fn visit_laggards(&mut self, desk: &mut Desk<'_>, number: u32) {
        let Some(log) = self.logs.get_mut(number as usize) else { return };
        let mut laggards = std::mem::take(&mut log.laggards);
        laggards.sort_unstable();
        laggards.dedup();
        for subscription in laggards {
            if self.subscribers.get(subscription).log == number {
                self.deliver(desk, subscription);
            }
            if !self.logs.contains(number as usize) {
                return;
            }
        }
        if self.logs[number as usize].laggards.is_empty() {
            self.lagging.remove(&number);
        }
        // To be trimmed, but not now: those that were offered something are asked at the end of this turn.
        self.finished.push(number);
    }

    /// Trims some logs, whether anything happens to them or not.
    fn sweep(&mut self, desk: &Desk<'_>) {
        let logs: Vec<usize> =
            self.logs.iter().map(|(number, _)| number).skip(self.swept).take(LOGS_PER_TICK).collect();
        self.swept = if logs.len() < LOGS_PER_TICK { 0 } else { self.swept + logs.len() };
        logs.into_iter().for_each(|number| self.trim(desk, number as u32));
    }
}

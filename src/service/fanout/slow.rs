//! Slow subscribers: a backlog beyond the limits of the route, and what its policy does about it.

use super::settings::{Policy, Slow};
use super::subscribers::{NONE, Traits};
use super::{Due, Fanout};
use crate::shard::service::Desk;

impl Fanout {
    /// Applies the policy to a subscription whose backlog is above a limit. Its client has bytes queued that it has not
    /// taken. The age of the backlog counts from when the client was first found so: what the shard was late with is
    /// not held against it, and neither is what it resumes or conflates.
    pub(super) fn enforce_limits(&mut self, desk: &mut Desk<'_>, number: u32) {
        let subscription = self.subscribers.get(number);
        let client = &mut self.subscribers.clients[subscription.client as usize];
        if client.waits == NONE {
            client.waits = desk.now();
        }
        let log = &self.logs[subscription.log as usize];
        let caught_up = subscription.cursor.sequence() >= log.last();
        if client.traits.contains(Traits::RESUMES) || subscription.cursor.conflates() || caught_up {
            return;
        }
        let Slow { max_pending, max_age_ticks, .. } = self.routes[usize::from(client.route)].slow;
        let (bytes, ticks) = log.lag(subscription.cursor, desk.now());
        let ticks = ticks.min(desk.now() - client.waits);
        if bytes + desk.pending(client.who) as u64 > max_pending || ticks > max_age_ticks {
            self.apply_policy(desk, number);
        }
    }

    /// Applies the policy of its route to a subscription whose backlog is above a limit, or evicted.
    pub(super) fn apply_policy(&mut self, desk: &mut Desk<'_>, number: u32) {
        let subscription = self.subscribers.get(number);
        let (log, cursor) = (&self.logs[subscription.log as usize], subscription.cursor);
        let client = &self.subscribers.clients[subscription.client as usize];
        let slow = self.routes[usize::from(client.route)].slow;
        let who = client.who;
        if client.traits.contains(Traits::RELIABLE) {
            return self.close_slow(desk, subscription.client);
        }
        let moved = match slow.policy {
            Policy::DropOldest => {
                let half = log.lagging_by(slow.max_pending / 2, slow.max_age_ticks / 2, desk.now());
                cursor.moved(half.max(cursor.sequence()).max(log.low_watermark()))
            }
            Policy::Gap => cursor.moved(log.last()).owing(false),
            Policy::Conflate => cursor.conflated(),
            Policy::Close => return self.close_slow(desk, subscription.client),
        };
        match slow.policy {
            Policy::Conflate => desk.counters().slow_conflated += 1,
            _ => desk.counters().slow_dropped += log.count_between(cursor.sequence(), moved.sequence()),
        }
        self.subscribers.set(number, moved);
        desk.offer(who);
    }

    /// Its subscriptions end at once: nothing is kept for it, and it is not found slow again.
    pub(super) fn close_slow(&mut self, desk: &mut Desk<'_>, client: u32) {
        desk.counters().slow_closed += 1;
        self.due.push(Due::Close(client));
        self.unsubscribe_all(desk, client);
    }
}

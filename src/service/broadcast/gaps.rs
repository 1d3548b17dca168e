//! Gaps: what a client is told of that it will not hear any more.
//!
//! A gap is not said when it comes about, but noted in the client's cursor, and told when all that was on its way to
//! the client has been taken, in front of what is sent next: one notice stands for all that was lost until then, and
//! what waits for a client does not grow by notices. Whose fault it is decides what happens: a client that was found
//! with something on its way since it last had nothing is slow, and its route's policy is followed; one that has taken
//! all that it was given has been kept waiting by the shard, or the feed was faster than a row may keep. That one is
//! told, and goes on with the oldest message that is still there, whatever the policy.

use super::Broadcast;
use super::channel_log::Next;
use super::words::Gap;
use crate::shard::service::Desk;

/// Notices to one client in a turn; each costs a look at all of its subscriptions.
const NOTICES: u32 = 16;

impl Broadcast {
    /// What has left the rows before a client has heard it. `waited`: the client was found slow. `false`: it hears
    /// nothing more.
    pub(super) fn settle_lost(&mut self, desk: &mut Desk<'_>, numbers: &[u32], waited: bool) -> bool {
        for &number in numbers {
            let subscription = self.subscribers.get(number);
            let log = &self.logs[subscription.log as usize];
            match log.ahead(subscription.cursor) {
                Next::Lost if waited && !log.never_came(subscription.cursor) => self.too_slow(desk, number),
                Next::Lost => {
                    desk.counters().gaps_late += 1;
                    self.subscribers.set(number, subscription.cursor.moved(log.gone()).owing(false));
                }
                _ => {}
            }
            if self.subscribers.clients[subscription.client as usize].count == 0 {
                return false;
            }
        }
        true
    }

    /// Tells a client of the gaps that it is owed. `false`: not of all of them yet.
    pub(super) fn tell_gaps(&mut self, desk: &mut Desk<'_>, token: u32, numbers: &[u32]) -> bool {
        let (who, route) =
            (self.subscribers.clients[token as usize].who, self.subscribers.clients[token as usize].route);
        let most = self.settings[usize::from(route)].slow.max_pending / 2;
        let mut told = 0;
        for &number in numbers {
            let subscription = self.subscribers.get(number);
            if !subscription.cursor.owes_gap() {
                continue;
            }
            if told == NOTICES || desk.pending(who) as u64 > most {
                return false;
            }
            let name = self.logs[subscription.log as usize].name.clone();
            let after = self.returns.get(&token).filter(|_| subscription.cursor.owes_return()).map(|it| it.to_string());
            let gap = self.gap(numbers, &name, after);
            self.tell_gap(desk, token, &gap);
            self.subscribers.set(number, subscription.cursor.told());
            told += 1;
        }
        if told > 0 {
            self.returns.remove(&token);
        }
        true
    }

    /// What the client of these subscriptions is told that has lost something of a channel.
    pub(super) fn gap(&self, numbers: &[u32], channel: &str, after: Option<String>) -> Gap {
        let next = |&number: &u32| {
            let subscription = self.subscribers.get(number);
            let log = &self.logs[subscription.log as usize];
            match log.ahead(subscription.cursor) {
                Next::Message(payload, ..) if *log.name == *channel => Some((payload.sequence, payload.id())),
                _ => None,
            }
        };
        let next = numbers.iter().filter_map(next).min();
        Gap { channel: channel.into(), after, next: next.map(|(_, id)| id) }
    }
}

//! Gaps: notices of messages that a client will not be sent.
//!
//! A gap is recorded in the cursor when it comes about, and its notice is sent when the client has taken all that was
//! queued for it, in front of what is sent next. So one notice stands for all that was lost until then, and what is
//! queued for a client does not grow by notices. Who is at fault decides what is done: a client that was found with
//! bytes queued since it last had none is slow, and its route's policy is applied. One that has taken all that it was
//! sent was kept waiting by the shard, or the feed published more at once than a log may keep; it is sent a notice and
//! goes on with the oldest message that is kept, whatever the policy.
//!
//! Messages that never reached this shard are nobody's fault: every subscriber below them is sent a notice, also one
//! that is sent last values only, since those may not be the last any more.

use super::log::Read;
use super::subscribers::Traits;
use super::{Fanout, Protocol};
use crate::shard::service::Desk;

/// Notices to one client in a turn; each costs a look at all of its subscriptions.
const NOTICES: u32 = 16;

/// A gap in what a client is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The channel or prefix that it subscribed to.
    pub channel: String,
    /// The gap begins behind this id, with which the client resumed; `None`: it did not resume, or lost messages since.
    pub after: Option<String>,
    /// The id of the next message, with which the gap ends; `None`: there is none yet.
    pub next: Option<String>,
}

impl Fanout {
    /// Moves those of a client's cursors on that are behind evicted messages. `waited`: the client was found slow.
    /// Returns `false` if the client has no subscriptions any more.
    pub(super) fn settle_lost(&mut self, desk: &mut Desk<'_>, numbers: &[u32], waited: bool) -> bool {
        for &number in numbers {
            let subscription = self.subscribers.get(number);
            let log = &self.logs[subscription.log as usize];
            match log.read(subscription.cursor) {
                Read::Lost if waited && !log.never_received(subscription.cursor) => self.apply_policy(desk, number),
                Read::Lost if self.is_reliable(subscription.client) && !log.never_received(subscription.cursor) => {
                    self.close_slow(desk, subscription.client);
                }
                Read::Lost => {
                    desk.counters().gaps_late += 1;
                    let cursor = subscription.cursor.moved(log.low_watermark()).owing(false);
                    self.subscribers.set(number, cursor);
                }
                _ => {}
            }
            if self.subscribers.clients[subscription.client as usize].count == 0 {
                return false;
            }
        }
        true
    }

    fn is_reliable(&self, token: u32) -> bool {
        self.subscribers.clients[token as usize].traits.contains(Traits::RELIABLE)
    }

    /// Marks a subscription that is at last values when messages of its log never reached this shard: one of them may
    /// have been the last value of its key, and a conflating cursor does not find them missing. A client that pulls was
    /// sent nothing yet.
    pub(super) fn mark_loss(&mut self, number: u32) {
        let subscription = self.subscribers.get(number);
        let pulls = self.subscribers.clients[subscription.client as usize].traits.contains(Traits::PULLS);
        let log = &self.logs[subscription.log as usize];
        if subscription.cursor.conflates() && log.never_received(subscription.cursor) && !pulls {
            self.subscribers.set(number, subscription.cursor.owing(false));
        }
    }

    /// Sends a client the notices that it is owed. `false`: some are left, for a later turn.
    pub(super) fn send_gaps(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        numbers: &[u32],
        protocol: &mut impl Protocol,
    ) -> bool {
        let (who, route) =
            (self.subscribers.clients[token as usize].who, self.subscribers.clients[token as usize].route);
        let most = self.routes[usize::from(route)].slow.max_pending / 2;
        let mut sent = 0;
        for &number in numbers {
            let subscription = self.subscribers.get(number);
            if !subscription.cursor.owes_gap() {
                continue;
            }
            if sent == NOTICES || desk.pending(who) as u64 > most {
                return false;
            }
            let name = self.logs[subscription.log as usize].name.clone();
            let resumed = self.resumed_from.get(&token).filter(|_| subscription.cursor.owes_resume_gap());
            let gap = self.gap_among(numbers, &name, resumed.map(ToString::to_string));
            desk.counters().gaps_told += 1;
            protocol.send_gap(desk, &self.subscribers.clients[token as usize], &gap);
            self.subscribers.set(number, subscription.cursor.notified());
            sent += 1;
        }
        if sent > 0 {
            self.resumed_from.remove(&token);
        }
        true
    }

    /// The gap of a client in a channel or prefix behind an id.
    pub fn gap(&self, token: u32, channel: &str, after: Option<String>) -> Gap {
        let numbers: Vec<u32> = self.subscribers.of(token).collect();
        self.gap_among(&numbers, channel, after)
    }

    fn gap_among(&self, numbers: &[u32], channel: &str, after: Option<String>) -> Gap {
        let next = |&number: &u32| match self.read(number) {
            Read::Message(payload, ..) if *self.logs[self.subscribers.get(number).log as usize].name == *channel => {
                Some((payload.sequence, payload.id()))
            }
            _ => None,
        };
        let next = numbers.iter().filter_map(next).min();
        Gap { channel: channel.into(), after, next: next.map(|(_, id)| id) }
    }
}

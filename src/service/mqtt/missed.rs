//! Clients that may have missed messages which they were to have.
//!
//! Where the broker's session was lost, or this shard was left behind, messages may be gone that a subscription with
//! QoS 1 or 2 was promised (MQTT 5, 4.3.2). MQTT has no word for a gap, so these clients are told by the end of their
//! connection: so many in a second that they can all come back.

use super::Mqtt;
use super::client::{Owner, Stage};
use super::deliver::Tag;
use crate::mesh::{Cause, Missed};
use crate::service::fanout::Traits;
use crate::service::offload::Missed as Policy;
use crate::shard::service::Desk;
use edgehold_wire::mqtt::{QoS, topic};
use std::collections::VecDeque;

/// DISCONNECT of MQTT 5: none of the other reasons applies.
const UNSPECIFIED: u8 = 0x80;

/// Ticks of a second.
const SECOND: u32 = 4;

/// Who is to be told.
#[derive(Default)]
pub struct Untold {
    queue: VecDeque<Owner>,
    /// The tick in which so many were told.
    told: (u32, u32),
}

impl Mqtt {
    /// Messages were lost that these clients were promised.
    pub(super) fn note_missed(&mut self, desk: &mut Desk<'_>, missed: &Missed) {
        let tokens = self.peers.clients.len() as u32;
        desk.charge(tokens as usize / 16);
        for token in 0..tokens {
            if self.was_promised(token, missed) {
                let owner = self.owner(token);
                self.untold.queue.push_back(owner);
            }
        }
    }

    /// Whether a client has a subscription with QoS 1 or 2 to some of it that was confirmed.
    fn was_promised(&self, token: u32, missed: &Missed) -> bool {
        let Some(client) = self.fanout.client(token).filter(|it| it.traits.contains(Traits::RELIABLE)) else {
            return false;
        };
        let plan = &self.peers.plans[usize::from(client.route)];
        let is_of = |filter: &str| missed.channel.as_deref().is_none_or(|it| topic::matches(filter, it));
        plan.missed == Policy::Close
            && missed.feed.is_none_or(|feed| feed == plan.feed)
            && self.peers.clients[token as usize].stage == Stage::Connected
            && self.fanout.tagged(token).any(|(_, tag, filter)| {
                Tag(tag).qos() != QoS::AtMostOnce && is_of(filter) && self.topics.is_confirmed(plan.feed, filter)
            })
    }

    /// Ends those who are to be told, as many as may be in this tick.
    pub(super) fn tell_missed(&mut self, desk: &mut Desk<'_>) {
        let now = desk.now();
        if self.untold.told.0 != now {
            self.untold.told = (now, 0);
        }
        while let Some(&owner) = self.untold.queue.front() {
            let Some((who, client)) = self.owned(owner) else {
                self.untold.queue.pop_front();
                continue;
            };
            let is_there = client.stage == Stage::Connected;
            if is_there && self.untold.told.1 >= self.plan_of(owner.token).missed_rate.div_ceil(SECOND) {
                return;
            }
            self.untold.queue.pop_front();
            if is_there {
                self.untold.told.1 += 1;
                desk.counters().offload_missed += 1;
                let words = "messages may have been missed: the broker was lost, or the server was too slow";
                self.peers.clients[owner.token as usize].disconnect(desk, who, UNSPECIFIED, words, Cause::Missed);
            }
        }
    }
}

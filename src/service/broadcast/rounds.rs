//! Rounds: how those who listen learn that there is something, and what becomes of those who do not take it.
//!
//! A message begins a round over the subscribers of its row, or lets the one under way go on until it has gone by all
//! of them once more. A visit offers the client to the shard, which asks for the messages when it sends. Each turn
//! makes so many visits and no more, so that a message for many does not keep the others waiting; a round that does not
//! keep up with its messages finds more of them at each client, and they go out in one send.

use super::roll::{NONE, Traits};
use super::settings::{Policy, Slow};
use super::{Broadcast, Cursor};
use crate::mesh::Cause;
use crate::shard::door::{Desk, Offer};
use edgehold_wire::ws::CloseCode;

/// Visits to one row before the next has its share of the turn.
const SHARE: u32 = 256;

/// Rows that are looked at in a tick whether something in them is too old.
const ROWS_PER_TICK: usize = 1024;

impl Broadcast {
    /// There is something new in the row.
    pub(super) fn begin_round(&mut self, number: u32) {
        let row = &mut self.rows[number as usize];
        row.round.remaining = row.subscribers.len() as u32;
        // A row without listeners ends its round at the next turn, and lets go of what is not kept.
        if !std::mem::replace(&mut row.round.active, true) {
            self.active.push_back(number);
        }
    }

    /// What is under way, at most `budget` visits of it; says how many were made.
    pub fn turn(&mut self, desk: &mut Desk, budget: u32) -> u32 {
        let mut left = budget - self.revisit(desk, budget);
        while let Some(number) = self.finished.pop() {
            self.trim(desk, number);
        }
        if self.ticked != desk.now() {
            self.ticked = desk.now();
            self.tick(desk);
        }
        while left > 0 {
            let Some(number) = self.active.pop_front() else { break };
            left -= self.go_round(desk, number, left.min(SHARE)).clamp(1, left);
        }
        self.gauge(desk);
        budget - left
    }

    fn go_round(&mut self, desk: &mut Desk, number: u32, most: u32) -> u32 {
        let mut visits = 0;
        while visits < most {
            let row = &mut self.rows[number as usize];
            if row.round.remaining == 0 || row.subscribers.is_empty() {
                break;
            }
            row.round.remaining -= 1;
            let at = row.round.position % row.subscribers.len() as u32;
            // Around by now: behind a shorter list the one at its front would be passed by.
            row.round.position = (at + 1) % row.subscribers.len() as u32;
            let subscription = row.subscribers[at as usize];
            visits += 1;
            self.visit(desk, subscription);
        }
        self.end_round(number);
        visits
    }

    fn end_round(&mut self, number: u32) {
        let row = &mut self.rows[number as usize];
        if row.round.remaining > 0 && !row.subscribers.is_empty() {
            self.active.push_back(number);
        } else {
            (row.round.remaining, row.round.active) = (0, false);
            self.finished.push(number);
        }
    }

    /// Those who are to be offered something again, as many as there were and as the budget allows.
    fn revisit(&mut self, desk: &mut Desk, budget: u32) -> u32 {
        let count = self.revisit.len().min(budget as usize);
        for _ in 0..count {
            let Some(number) = self.revisit.pop_front() else { break };
            if self.roll.get(number).row != NONE {
                self.visit(desk, number);
            }
        }
        count as u32
    }

    /// Somebody is to be visited in a later turn, and the row keeps what there is for it until then.
    pub(super) fn offer_again(&mut self, number: u32) {
        self.lags(number);
        self.revisit.push_back(number);
    }

    fn trim(&mut self, desk: &Desk, number: u32) {
        let Some(row) = self.rows.get_mut(number as usize) else { return };
        let keep = &self.feeds[usize::from(row.feed)].settings.keep;
        let lagging = row.round.active || !row.laggards.is_empty();
        row.trim(desk.now(), lagging, keep);
        self.forget_idle(number);
    }

    /// Somebody who listens: there may be something.
    pub(super) fn visit(&mut self, desk: &mut Desk, number: u32) {
        let subscription = self.roll.get(number);
        let row = &mut self.rows[subscription.row as usize];
        if subscription.cursor.place() >= row.end() {
            return;
        }
        let client = &self.roll.clients[subscription.client as usize];
        if client.traits.contains(Traits::POLLS) {
            return self.answer_poll(desk, subscription.client);
        }
        match desk.offer(client.who) {
            Offer::Asked => {}
            Offer::Flies => {
                self.offer_again(number);
                self.judge(desk, number);
            }
            Offer::Waits => {
                self.lags(number);
                self.judge(desk, number);
            }
        }
    }

    /// Somebody does not have all that has come: the row keeps it for a while.
    pub(super) fn lags(&mut self, number: u32) {
        let place = self.roll.get(number).row;
        self.rows[place as usize].laggards.push(number);
        self.lagging.insert(place);
    }

    // ---- those who are slow ----

    /// Somebody who has something on its way, and more to come: too much, or too old?
    fn judge(&mut self, desk: &mut Desk, number: u32) {
        let subscription = self.roll.get(number);
        let client = &self.roll.clients[subscription.client as usize];
        if client.traits.contains(Traits::REPLAYS) || subscription.cursor.conflates() {
            return;
        }
        let Slow { max_pending, max_age_ticks, .. } = self.settings[usize::from(client.route)].slow;
        let (bytes, ticks) = self.rows[subscription.row as usize].lag(subscription.cursor, desk.now());
        if bytes + desk.pending(client.who) as u64 > max_pending || ticks > max_age_ticks {
            self.too_slow(desk, number);
        }
    }

    /// The route's policy for somebody whose backlog is above its limit, or gone.
    pub(super) fn too_slow(&mut self, desk: &mut Desk, number: u32) {
        let subscription = self.roll.get(number);
        let row = &self.rows[subscription.row as usize];
        if let Some(behind) = row.behind_missed(subscription.cursor) {
            return self.tell_missed(desk, number, behind);
        }
        let client = &self.roll.clients[subscription.client as usize];
        let slow = self.settings[usize::from(client.route)].slow;
        let (who, place, end, name) = (client.who, subscription.cursor.place(), row.end(), row.name.clone());
        let half = row.within(slow.max_pending / 2, slow.max_age_ticks / 2, desk.now()).max(place);
        match slow.policy {
            Policy::DropOldest => {
                self.roll.set(number, Cursor::at(half));
                desk.tally().slow_dropped += half - place;
                desk.offer(who);
            }
            Policy::Conflate => {
                self.roll.set(number, Cursor::conflating(place));
                desk.tally().slow_conflated += 1;
                desk.offer(who);
            }
            Policy::Gap => {
                self.roll.set(number, Cursor::at(end));
                desk.tally().slow_dropped += end - place;
                let gap = self.gap(subscription.client, &name, None);
                self.tell_gap(desk, subscription.client, &gap);
            }
            Policy::Close => {
                desk.tally().slow_closed += 1;
                let words = "this client does not take what it is sent";
                self.close(desk, subscription.client, CloseCode::TRY_AGAIN_LATER, words, Cause::Stalled);
                // It hears nothing more: nothing is kept for it, and it is not found slow again.
                let numbers: Vec<u32> = self.roll.of(subscription.client).collect();
                numbers.into_iter().for_each(|number| self.leave(desk, number));
            }
        }
    }

    /// Something that never came to this shard, or to its feed: not the client's fault, whatever the policy. It goes on
    /// at this place.
    fn tell_missed(&mut self, desk: &mut Desk, number: u32, behind: Cursor) {
        let subscription = self.roll.get(number);
        let row = &self.rows[subscription.row as usize];
        let name = row.name.clone();
        self.roll.set(number, behind);
        let gap = self.gap(subscription.client, &name, None);
        self.tell_gap(desk, subscription.client, &gap);
        self.note_rest(subscription.client);
    }

    // ---- time ----

    fn tick(&mut self, desk: &mut Desk) {
        self.end_polls(desk);
        // Before those who lag are offered something: until they have taken it they are not counted as lagging.
        self.sweep(desk);
        let lagging: Vec<u32> = self.lagging.iter().copied().collect();
        lagging.into_iter().for_each(|number| self.look_after(desk, number));
    }

    /// Those who were behind: some have caught up, others have become too old.
    fn look_after(&mut self, desk: &mut Desk, number: u32) {
        // A poll that was answered meanwhile may have been the last to listen.
        let Some(row) = self.rows.get_mut(number as usize) else { return };
        let mut laggards = std::mem::take(&mut row.laggards);
        laggards.sort_unstable();
        laggards.dedup();
        for subscription in laggards {
            let is_here = self.roll.get(subscription).row == number;
            if is_here {
                self.visit(desk, subscription);
            }
            if !self.rows.contains(number as usize) {
                return;
            }
        }
        if self.rows[number as usize].laggards.is_empty() {
            self.lagging.remove(&number);
        }
        // Not yet: those who were offered something just now are asked at the end of this turn.
        self.finished.push(number);
    }

    /// What is too old goes, some rows a tick.
    fn sweep(&mut self, desk: &Desk) {
        let rows: Vec<usize> =
            self.rows.iter().map(|(number, _)| number).skip(self.swept).take(ROWS_PER_TICK).collect();
        self.swept = if rows.len() < ROWS_PER_TICK { 0 } else { self.swept + rows.len() };
        rows.into_iter().for_each(|number| self.trim(desk, number as u32));
    }
}

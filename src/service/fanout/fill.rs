//! Filling batches: what a client is sent when the shard can send to it.

use super::cursor::Cursor;
use super::log::{FORM_TICKS, Read};
use super::subscribers::{Client, NONE, Traits};
use super::{Fanout, Protocol};
use crate::shard::service::{Batch, Desk, Payload};
use std::cmp::Reverse;

impl Fanout {
    /// Fills a batch with the next messages of a client, in the order of sequence, as far as there is room; what is
    /// left is offered in a later turn. In front of them come the notices of gaps that it is owed. Called when nothing
    /// is queued for the client: it has taken all that it was sent.
    pub fn more(&mut self, desk: &mut Desk<'_>, token: u32, batch: &mut Batch, protocol: &impl Protocol) {
        let Some(client) = self.subscribers.clients.get_mut(token as usize) else { return };
        batch.limit(self.routes[usize::from(client.route)].slow.max_pending / 2);
        if client.traits.contains(Traits::PULLS) || client.count == 0 {
            return;
        }
        let waited = std::mem::replace(&mut client.waits, NONE) != NONE;
        let only = (client.count == 1).then_some(client.first);
        if !only.is_some_and(|only| self.fill_from_one(desk, token, only, batch, protocol)) {
            self.fill_from_all(desk, token, waited, batch, protocol);
        }
    }

    /// The ordinary case: one subscription, nothing of it is lost, and no notice is owed. `false`: it is another case,
    /// and nothing was done.
    fn fill_from_one(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        number: u32,
        batch: &mut Batch,
        protocol: &impl Protocol,
    ) -> bool {
        let subscription = self.subscribers.get(number);
        let log = &self.logs[subscription.log as usize];
        let Some(messages) = log.read_all(subscription.cursor) else { return false };
        let client = &mut self.subscribers.clients[token as usize];
        let mut sequence = subscription.cursor.sequence();
        for (payload, tick) in messages {
            if !batch.has_room() {
                break;
            }
            push(desk, client, payload, tick, batch, protocol);
            sequence = payload.sequence;
        }
        if sequence >= log.last() {
            client.traits.remove(Traits::RESUMES);
        }
        self.subscribers.set(number, Cursor::at(sequence));
        if !batch.has_room() {
            self.offer_rest(token);
        }
        true
    }

    fn fill_from_all(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        waited: bool,
        batch: &mut Batch,
        protocol: &impl Protocol,
    ) {
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers.clear();
        numbers.extend(self.subscribers.of(token));
        let ready = self.settle_lost(desk, &numbers, waited) && self.send_gaps(desk, token, &numbers, protocol);
        match numbers[..] {
            _ if !ready => {}
            [only] => while batch.has_room() && self.step(desk, token, only, batch, protocol) {},
            _ => self.merge(desk, token, &numbers, batch, protocol),
        }
        self.numbers = numbers;
        if !batch.has_room() || !ready {
            self.offer_rest(token);
        }
    }

    /// Adds the next message of a subscription. `false`: there is none for now.
    fn step(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        number: u32,
        batch: &mut Batch,
        protocol: &impl Protocol,
    ) -> bool {
        let subscription = self.subscribers.get(number);
        let client = &mut self.subscribers.clients[token as usize];
        match self.logs[subscription.log as usize].read(subscription.cursor) {
            Read::Message(payload, cursor, tick) => {
                push(desk, client, payload, tick, batch, protocol);
                self.subscribers.set(number, cursor);
                true
            }
            Read::End(cursor) => {
                client.traits.remove(Traits::RESUMES);
                self.subscribers.set(number, cursor);
                false
            }
            Read::Lost => false,
        }
    }

    /// Adds the next messages of all subscriptions of a client; one that several of them have is added once.
    fn merge(&mut self, desk: &mut Desk<'_>, token: u32, numbers: &[u32], batch: &mut Batch, protocol: &impl Protocol) {
        let mut heads = std::mem::take(&mut self.heads);
        heads.clear();
        heads.extend(numbers.iter().filter_map(|&number| Some(Reverse((self.peek(number)?, number)))));
        let mut added = 0;
        while let Some(&Reverse((sequence, number))) = heads.peek() {
            match sequence == added {
                true => self.skip(number),
                false if !batch.has_room() => break,
                false => drop(self.step(desk, token, number, batch, protocol)),
            }
            added = sequence;
            heads.pop();
            heads.extend(self.peek(number).map(|next| Reverse((next, number))));
        }
        if heads.is_empty() {
            numbers.iter().for_each(|&number| self.skip(number));
            self.subscribers.clients[token as usize].traits.remove(Traits::RESUMES);
        }
        self.heads = heads;
    }

    /// Offers a client in a later turn what did not go into a batch: behind a full one, or behind a gap.
    pub fn offer_rest(&mut self, token: u32) {
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers.clear();
        numbers.extend(self.subscribers.of(token));
        // A cursor that reached the end conflates no more, though the batch had no room left to find out.
        numbers.retain(|&number| {
            let behind = self.is_subscription_behind(number);
            if !behind {
                self.skip(number);
            }
            behind
        });
        numbers.iter().for_each(|&number| self.mark_lagging(number));
        // A delivery is to the client, by whichever of its subscriptions.
        self.redeliver.extend(numbers.first());
        self.numbers = numbers;
    }

    pub(super) fn is_subscription_behind(&self, number: u32) -> bool {
        let subscription = self.subscribers.get(number);
        self.logs[subscription.log as usize].is_behind(subscription.cursor)
    }

    /// The sequence of a subscription's next message.
    pub(super) fn peek(&self, number: u32) -> Option<u64> {
        match self.read(number) {
            Read::Message(payload, ..) => Some(payload.sequence),
            Read::End(_) | Read::Lost => None,
        }
    }

    pub(super) fn read(&self, number: u32) -> Read<'_> {
        let subscription = self.subscribers.get(number);
        self.logs[subscription.log as usize].read(subscription.cursor)
    }

    /// Moves a cursor over its next message, or to the end.
    fn skip(&mut self, number: u32) {
        if let Read::Message(_, cursor, _) | Read::End(cursor) = self.read(number) {
            self.subscribers.set(number, cursor);
        }
    }
}

/// Adds a message to a batch. One that is not new is encoded for this client alone: see [`FORM_TICKS`].
fn push(
    desk: &mut Desk<'_>,
    client: &Client,
    payload: &Payload,
    tick: u32,
    batch: &mut Batch,
    protocol: &impl Protocol,
) {
    if desk.now().saturating_sub(tick) <= FORM_TICKS {
        batch.push(payload, protocol.form(desk, client, payload), |it, out| desk.deflate(it, out));
    } else {
        batch.push_old(payload, client.form);
    }
}

//! Filling batches: what a client is sent when the shard can send to it.

use super::cursor::Cursor;
use super::log::Read;
use super::subscribers::{NONE, Traits};
use super::{Delivery, Fanout, Protocol};
use crate::shard::service::{Batch, Desk};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

impl Fanout {
    /// Fills a batch with the next messages of a client, in the order of sequence, as far as there is room; what is
    /// left is offered in a later turn. In front of them come the notices of gaps that it is owed. Called when nothing
    /// is queued for the client: it has taken all that it was sent.
    pub fn more(&mut self, desk: &mut Desk<'_>, token: u32, batch: &mut Batch, protocol: &mut impl Protocol) {
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
        protocol: &mut impl Protocol,
    ) -> bool {
        let subscription = self.subscribers.get(number);
        let log = &self.logs[subscription.log as usize];
        let Some(messages) = log.read_all(subscription.cursor) else { return false };
        let (tag, client) = (self.subscribers.tag(number), &mut self.subscribers.clients[token as usize]);
        let (mut sequence, mut refused) = (subscription.cursor.sequence(), false);
        for (payload, tick) in messages {
            if !batch.has_room() {
                break;
            }
            let delivery = Delivery { token, tags: &[tag], payload, tick };
            refused = !protocol.push(desk, client, &delivery, batch);
            if refused {
                break;
            }
            sequence = payload.sequence;
        }
        if sequence >= log.last() {
            client.traits.remove(Traits::RESUMES);
        }
        self.subscribers.set(number, Cursor::at(sequence));
        if refused {
            self.mark_lagging(number);
        } else if !batch.has_room() {
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
        protocol: &mut impl Protocol,
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
        protocol: &mut impl Protocol,
    ) -> bool {
        let (subscription, tag) = (self.subscribers.get(number), self.subscribers.tag(number));
        let client = &mut self.subscribers.clients[token as usize];
        match self.logs[subscription.log as usize].read(subscription.cursor) {
            Read::Message(payload, cursor, tick) => {
                let delivery = Delivery { token, tags: &[tag], payload, tick };
                let taken = protocol.push(desk, client, &delivery, batch);
                if taken {
                    self.subscribers.set(number, cursor);
                } else {
                    self.mark_lagging(number);
                }
                taken
            }
            Read::End(cursor) => {
                client.traits.remove(Traits::RESUMES);
                self.subscribers.set(number, cursor);
                false
            }
            Read::Lost => false,
        }
    }

    /// Adds the next messages of all subscriptions of a client, in the order of their sequences.
    fn merge<P: Protocol>(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        numbers: &[u32],
        batch: &mut Batch,
        protocol: &mut P,
    ) {
        let (mut heads, mut same) = (std::mem::take(&mut self.heads), std::mem::take(&mut self.same));
        heads.clear();
        heads.extend(numbers.iter().filter_map(|&number| Some(Reverse((self.peek(number)?, number)))));
        while batch.has_room() && self.take_same::<P>(&mut heads, &mut same) {
            if !self.push_same(desk, token, &same, batch, protocol) {
                same.0.iter().for_each(|&number| self.mark_lagging(number));
                heads.push(Reverse((0, NONE)));
                break;
            }
            heads.extend(same.0.iter().filter_map(|&number| Some(Reverse((self.peek(number)?, number)))));
        }
        if heads.is_empty() {
            numbers.iter().for_each(|&number| self.skip(number));
            self.subscribers.clients[token as usize].traits.remove(Traits::RESUMES);
        }
        (self.heads, self.same) = (heads, same);
    }

    /// Takes the subscriptions whose next message is the first of all, with their tags: all of them where a message is
    /// sent once for all, else one. `false`: there are none.
    fn take_same<P: Protocol>(
        &self,
        heads: &mut BinaryHeap<Reverse<(u64, u32)>>,
        (numbers, tags): &mut (Vec<u32>, Vec<u32>),
    ) -> bool {
        numbers.clear();
        tags.clear();
        let Some(&Reverse((first, _))) = heads.peek() else { return false };
        while let Some(&Reverse((sequence, number))) = heads.peek()
            && sequence == first
            && (P::MERGES || numbers.is_empty())
        {
            heads.pop();
            numbers.push(number);
            tags.push(self.subscribers.tag(number));
        }
        true
    }

    /// Adds the message that these subscriptions have next.
    fn push_same(
        &mut self,
        desk: &mut Desk<'_>,
        token: u32,
        (numbers, tags): &(Vec<u32>, Vec<u32>),
        batch: &mut Batch,
        protocol: &mut impl Protocol,
    ) -> bool {
        let Read::Message(payload, _, tick) = self.read(numbers[0]) else { return true };
        let delivery = Delivery { token, tags, payload, tick };
        let client = &self.subscribers.clients[token as usize];
        let taken = protocol.push(desk, client, &delivery, batch);
        if taken {
            numbers.iter().for_each(|&number| self.skip(number));
        }
        taken
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

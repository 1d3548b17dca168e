//! Pulling: a client's next messages for a layer above that asks for them, instead of a batch for the shard.

use super::log::Read;
use super::{Fanout, mesh};
use crate::shard::service::Payload;

impl Fanout {
    /// Hands out the next messages of a client, in the order of sequence, until `take` returns `false`. Ends where
    /// messages are lost: what is handed out must not lead past a gap.
    pub fn pull(&mut self, token: u32, mut take: impl FnMut(&Payload) -> bool) {
        let numbers: Vec<u32> = self.subscribers.of(token).collect();
        while self.take_next(&numbers).is_some_and(|payload| take(&payload)) {}
    }

    fn take_next(&mut self, numbers: &[u32]) -> Option<Payload> {
        if numbers.iter().any(|&number| matches!(self.read(number), Read::Lost)) {
            return None;
        }
        let first = numbers.iter().filter_map(|&number| self.peek(number)).min()?;
        let mut found = None;
        for &number in numbers {
            if let Read::Message(payload, cursor, _) = self.read(number)
                && payload.sequence == first
            {
                found = Some(payload.clone());
                self.subscribers.set(number, cursor);
            }
        }
        found
    }

    /// Whether there is anything for a client.
    pub fn is_behind(&self, token: u32) -> bool {
        self.subscribers.of(token).any(|number| self.is_subscription_behind(number))
    }

    /// The id with which a client would resume that was sent all up to its cursors.
    pub fn resume_id(&self, token: u32) -> String {
        let before = |number: u32| {
            let subscription = self.subscribers.get(number);
            self.logs[subscription.log as usize].sequence_before(subscription.cursor)
        };
        let sequence = self.subscribers.of(token).filter_map(before).min();
        // A client may resume with an id that this shard was not sent yet.
        let cursors = self.subscribers.of(token).map(|number| self.subscribers.get(number).cursor.sequence());
        mesh::id(self.epoch, sequence.unwrap_or(self.sequence.max(cursors.max().unwrap_or(0))))
    }

    /// Moves all cursors of a client behind everything that may be missing of any of its channels; returns the id with
    /// which it would resume there. From the oldest message of one channel it would find a gap in another again.
    pub fn skip_lost(&mut self, token: u32) -> String {
        let numbers: Vec<u32> = self.subscribers.of(token).collect();
        let log = |number: &u32| &self.logs[self.subscribers.get(*number).log as usize];
        let oldest = numbers.iter().filter_map(|it| log(it).sequence_before(self.subscribers.get(*it).cursor)).min();
        let low_watermark = numbers.iter().map(|it| log(it).low_watermark()).max().unwrap_or(0);
        let from = oldest.unwrap_or(self.sequence).max(low_watermark);
        for &number in &numbers {
            let cursor = self.logs[self.subscribers.get(number).log as usize].seek(from);
            self.subscribers.set(number, cursor.unwrap_or_else(|oldest| oldest));
        }
        mesh::id(self.epoch, from)
    }
}

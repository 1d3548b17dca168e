//! The ids that a feed's source gives, each with the sequences of the messages that bear it.
//!
//! One id tells what a client has heard of all channels of the feed, whichever of them it came by, so they are looked
//! up in one place. A source may use an id twice; of those in the channels that a client hears, nobody can say then
//! which one it means, and the earliest is taken: messages come again rather than not at all. An id stays as long as
//! its message is kept, and those of the last [`PAST`] messages that are not kept any more stay longer: who has heard
//! the last message of a quiet channel has missed nothing, though the message is gone.

use crate::mesh::Message;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

/// Messages that are not kept any more and whose ids are: about 64 bytes each.
const PAST: usize = 65_536;

/// Messages with one id that are looked at.
const SAME: usize = 64;

/// The ids of a feed, by their hashes: that of one id in 2^64 may be taken for another, which costs a repetition.
#[derive(Default)]
pub struct Ids {
    /// Where each has come: hash and sequence, and the channel.
    known: BTreeMap<(u64, u64), Rc<str>>,
    past: VecDeque<(u64, u64)>,
    hasher: RandomState,
}

impl Ids {
    /// The message is kept, in the row of this name.
    pub fn enter(&mut self, message: &Message, channel: &Rc<str>) {
        self.known.extend(self.entry(message).map(|entry| (entry, channel.clone())));
    }

    /// The message is not kept any more.
    pub fn leave(&mut self, message: &Message) {
        self.past.extend(self.entry(message));
        while self.past.len() > PAST {
            let oldest = self.past.pop_front();
            oldest.map(|oldest| self.known.remove(&oldest));
        }
    }

    /// The sequence of the first message that bears this id, in a channel that is heard if there is one.
    pub fn earliest(&self, id: &str, is_heard: impl Fn(&str) -> bool) -> Option<u64> {
        let hash = self.hasher.hash_one(id);
        let mut all = self.known.range((hash, 0)..=(hash, u64::MAX)).take(SAME).peekable();
        let first = all.peek()?.0.1;
        let heard = all.find(|(_, channel)| is_heard(channel)).map(|(&(_, sequence), _)| sequence);
        Some(heard.unwrap_or(first))
    }

    fn entry(&self, message: &Message) -> Option<(u64, u64)> {
        let id = message.own_id.as_deref()?;
        Some((self.hasher.hash_one(id), message.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::NewMessage;

    fn message(id: &str, sequence: u64) -> Message {
        Message::new(NewMessage { id: Some(id.into()), ..NewMessage::default() }, 1, sequence)
    }

    #[test]
    fn of_two_messages_with_one_id_the_earlier_is_meant() {
        let mut ids = Ids::default();
        let channels: [Rc<str>; 2] = ["x".into(), "y".into()];
        ids.enter(&message("a", 3), &channels[0]);
        ids.enter(&message("b", 4), &channels[0]);
        ids.enter(&message("a", 9), &channels[1]);
        ids.enter(&message("a", 12), &channels[1]);
        assert_eq!(["a", "b", "c"].map(|id| ids.earliest(id, |_| true)), [Some(3), Some(4), None]);
        assert_eq!(ids.earliest("a", |channel| channel == "y"), Some(9));
        assert_eq!(ids.earliest("a", |channel| channel == "z"), Some(3), "it was heard somewhere");
        ids.leave(&message("a", 3));
        assert_eq!(ids.earliest("a", |_| true), Some(3), "it is remembered for a while");
    }

    #[test]
    fn what_is_remembered_of_the_past_is_bounded() {
        let mut ids = Ids::default();
        for sequence in 1..=PAST as u64 + 2 {
            let message = message(&format!("{sequence}"), sequence);
            ids.enter(&message, &"c".into());
            ids.leave(&message);
        }
        assert_eq!(["1", "2", "3"].map(|id| ids.earliest(id, |_| true)), [None, None, Some(3)]);
        assert_eq!((ids.known.len(), ids.past.len()), (PAST, PAST));
    }
}

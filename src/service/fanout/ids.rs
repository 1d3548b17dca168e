//! The ids that a feed's source gives, each with the sequences of the messages that bear it.
//!
//! A client resumes all its channels of a feed with one id, so ids are looked up by feed. A source may use an id twice;
//! which of the messages is meant cannot be known then, and the earliest in the client's channels is taken: messages
//! are sent again rather than left out. An id is known as long as its message is kept, and those of the last [`PAST`]
//! messages that were evicted are known on: a client whose last message was the last of a quiet channel has lost
//! nothing, though the message was evicted.

use crate::mesh::Message;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

/// Evicted messages whose ids are still known: about 64 bytes each.
const PAST: usize = 65_536;

/// How many messages with the same id are looked at.
const SAME: usize = 64;

/// The ids of a feed, by hashes of 64 bits. Where two collide, messages are sent again that the client has.
#[derive(Default)]
pub struct Ids {
    /// Hash and sequence of each message, and its channel.
    known: BTreeMap<(u64, u64), Rc<str>>,
    /// Those of evicted messages, oldest first.
    past: VecDeque<(u64, u64)>,
    hasher: RandomState,
}

impl Ids {
    /// A message is kept, in the log of this channel.
    pub fn enter(&mut self, message: &Message, channel: &Rc<str>) {
        self.known.extend(self.entry(message).map(|entry| (entry, channel.clone())));
    }

    /// A message was evicted.
    pub fn leave(&mut self, message: &Message) {
        self.past.extend(self.entry(message));
        while self.past.len() > PAST {
            let oldest = self.past.pop_front();
            oldest.map(|oldest| self.known.remove(&oldest));
        }
    }

    /// The sequence of the first message with this id, of those whose channel `is_wanted` if there is one.
    pub fn earliest(&self, id: &str, is_wanted: impl Fn(&str) -> bool) -> Option<u64> {
        let hash = self.hasher.hash_one(id);
        let mut all = self.known.range((hash, 0)..=(hash, u64::MAX)).take(SAME).peekable();
        let first = all.peek()?.0.1;
        let wanted = all.find(|(_, channel)| is_wanted(channel)).map(|(&(_, sequence), _)| sequence);
        Some(wanted.unwrap_or(first))
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
        assert_eq!(ids.earliest("a", |channel| channel == "z"), Some(3), "it was sent in some channel");
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

//! What feeds have published, and what they publish next.

use super::reader::Received;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edgehold::engine::script::Dice;
use edgehold::mesh::{self, Message, NewMessage, PlainFrame};
use std::collections::HashMap;
use std::sync::Arc;

/// Few, so that prefixes cover several and a channel belongs to several feeds.
pub const CHANNELS: [&str; 5] = ["a.x", "a.y", "a.z", "b", "b.x"];
/// Of this run of the server.
pub const EPOCH: u32 = 0x5f3a_01bc;
/// The feed whose messages have ids of its own.
pub const OWN_IDS: u16 = 1;

/// A message as the model remembers it.
pub struct Published {
    pub feed: u16,
    pub channel: &'static str,
    pub id: String,
    pub event: Option<String>,
    pub text: bool,
    pub payload: Vec<u8>,
    pub cost: u64,
    pub tick: u32,
    /// A later one has the same feed, channel and key.
    pub superseded: bool,
}

/// All that was published: the first has the sequence one.
#[derive(Default)]
pub struct History {
    published: Vec<Published>,
    latest: HashMap<(u16, &'static str, Option<String>), usize>,
    by_id: HashMap<String, u64>,
}

impl History {
    pub fn len(&self) -> u64 {
        self.published.len() as u64
    }

    pub fn get(&self, sequence: u64) -> &Published {
        &self.published[sequence as usize - 1]
    }

    pub fn sequence_of(&self, id: &str) -> Option<u64> {
        self.by_id.get(id).copied()
    }

    /// The feed says something about that many bytes long.
    pub fn publish(&mut self, dice: &mut Dice, feed: u16, len: usize, tick: u32) -> Arc<Message> {
        let sequence = self.len() + 1;
        let channel = CHANNELS[dice.below(CHANNELS.len())];
        let text = dice.chance(60);
        let key = dice.chance(50).then(|| format!("k{}", dice.below(3)));
        // In the order in which the dice have always been thrown.
        let event = dice.chance(20).then(|| "tick".to_string());
        let payload = payload(dice, sequence, channel, text, len);
        let new = NewMessage {
            feed,
            channel: channel.into(),
            id: (feed == OWN_IDS).then(|| format!("own.{sequence}")),
            event: event.clone(),
            key: key.clone(),
            mark: 0,
            payload: if text { PlainFrame::text_or_binary(&payload) } else { PlainFrame::binary(&payload) },
        };
        let message = Message::new(new, EPOCH, sequence);
        if let Some(before) = self.latest.insert((feed, channel, key), self.published.len()) {
            self.published[before].superseded = true;
        }
        self.by_id.insert(message.id(), sequence);
        let (id, cost) = (message.id(), message.cost());
        self.published.push(Published { feed, channel, id, event, text, payload, cost, tick, superseded: false });
        Arc::new(message)
    }

    /// Which message was received, if it came as it was published; `None`: it is empty and has no id, and may be any.
    ///
    /// # Errors
    /// It is no message, or not as it was published.
    pub fn recognise(&self, received: &Received) -> Result<Option<u64>, String> {
        let by_id = received.id.as_ref().map(|id| self.sequence_of(id).ok_or(format!("nothing has the id {id}")));
        let sequence = match (received.sequence(), by_id) {
            (Some(sequence), _) => sequence,
            (None, Some(sequence)) => sequence?,
            (None, None) if received.body.is_empty() => return Ok(None),
            (None, None) => return Err(format!("nobody published this: {received:?}")),
        };
        if !(1..=self.len()).contains(&sequence) {
            return Err(format!("the sequence {sequence} was never published"));
        }
        match self.get(sequence).fault(received) {
            Some(fault) => Err(format!("message {sequence} came with another {fault}: {received:?}")),
            None => Ok(Some(sequence)),
        }
    }
}

impl Published {
    fn fault(&self, received: &Received) -> Option<&'static str> {
        let differs = |part: &Option<String>, whole: &str| part.as_ref().is_some_and(|part| part != whole);
        let body = match (received.folded, self.text) {
            (true, true) => fold(&self.payload),
            (true, false) => STANDARD.encode(&self.payload).into_bytes(),
            (false, _) => self.payload.clone(),
        };
        match () {
            () if differs(&received.id, &self.id) => Some("id"),
            () if differs(&received.channel, self.channel) => Some("channel"),
            () if received.event.as_ref().is_some_and(|event| *event != self.event) => Some("event"),
            () if received.text.is_some_and(|text| text != self.text) => Some("type"),
            () if received.body != body => Some("payload"),
            () => None,
        }
    }
}

/// What carries its own sequence, channel and length, but where it is empty.
fn payload(dice: &mut Dice, sequence: u64, channel: &str, text: bool, len: usize) -> Vec<u8> {
    if len == 0 {
        return Vec::new();
    }
    let filler: Vec<u8> = (0..len).flat_map(|_| if text { letter(dice) } else { vec![dice.roll() as u8] }).collect();
    [format!("#{sequence};{channel};{};", filler.len()).as_bytes(), &filler].concat()
}

/// Now and then what an event stream must take apart, or a cut could break.
fn letter(dice: &mut Dice) -> Vec<u8> {
    match dice.below(60) {
        0 => b"\n".to_vec(),
        1 => b"\r\n".to_vec(),
        2 => b"\r".to_vec(),
        3 => "ü".into(),
        other => vec![b'a' + (other % 26) as u8],
    }
}

/// Line ends as an event stream gives them back.
fn fold(payload: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(payload).replace("\r\n", "\n").replace('\r', "\n").into_bytes()
}

/// An id that this run gave to a sequence.
pub fn id(sequence: u64) -> String {
    mesh::id(EPOCH, sequence)
}

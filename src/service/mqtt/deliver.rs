//! Messages of shared filters to clients: a head of its own for each, and what all share.

use super::client::{Client, Transport};
use crate::mesh::{Message, Numbered};
use crate::service::fanout::{self, Delivery, Gap, Protocol};
use crate::service::offload::OffloadPlan;
use crate::shard::service::{Batch, Desk};
use edgehold_wire::mqtt::shared::{EXPIRY_BYTES, Shared, of_mark, read_shared};
use edgehold_wire::mqtt::{self, Options, Properties, Property, Publish, QoS, Version};
use edgehold_wire::ws::{self, Opcode};
use std::sync::Arc;

/// Ticks of a second.
const SECOND: u32 = 4;

/// What is remembered of a subscription, in one word.
///
/// The subscription identifier in the low 28 bits (zero: none), the QoS in the next two, then retain as published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u32);

impl Tag {
    /// From what SUBSCRIBE says.
    pub fn new(identifier: u32, options: Options) -> Tag {
        let flags = u32::from(options.qos.level()) << 28 | u32::from(options.retain_as_published) << 30;
        Tag(identifier & mqtt::MAX_LENGTH | flags)
    }

    fn identifier(self) -> Option<u32> {
        Some(self.0 & mqtt::MAX_LENGTH).filter(|it| *it > 0)
    }

    /// The most that is sent.
    pub fn qos(self) -> QoS {
        QoS::of((self.0 >> 28 & 3) as u8).unwrap_or_default()
    }

    /// The properties that a subscription adds to each message, of MQTT 5.
    pub fn properties(self, version: Version) -> Vec<u8> {
        let mut raw = Vec::new();
        let identifier = self.identifier().filter(|_| version == Version::V5);
        identifier.into_iter().for_each(|it| Property::SubscriptionId(it).write(&mut raw));
        raw
    }

    fn retain_as_published(self) -> bool {
        self.0 & 1 << 30 != 0
    }
}

/// Clients, and what is needed to send them messages.
pub struct Peers {
    /// By their tokens.
    pub clients: Vec<Client>,
    /// Routes by their numbers.
    pub plans: Numbered<Arc<OffloadPlan>>,
    /// Scratch: what is a client's own of a message.
    pub head: Vec<u8>,
    /// Scratch: its properties.
    pub raw: Vec<u8>,
}

/// What became of a message for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// Its head is written; the client is sent what is behind so many bytes of the shared part.
    Whole(usize),
    /// It is not for it: expired, or longer than it takes.
    Left,
    /// Its window is full.
    Blocked,
}

/// How a message is sent to a client.
pub struct Terms<'t> {
    /// The tags of its subscriptions that have it.
    pub tags: &'t [u32],
    /// Seconds that it has waited.
    pub waited: u32,
    /// It was kept: RETAIN is set (3.3.1.3).
    pub kept: bool,
}

impl Terms<'_> {
    /// QoS and RETAIN of a message with this mark.
    fn of(&self, mark: u8) -> (QoS, bool) {
        let granted = self.tags.iter().map(|it| Tag(*it).qos()).max().unwrap_or_default();
        let (qos, retained) = of_mark(mark);
        (qos.min(granted), self.kept || retained && self.tags.iter().any(|it| Tag(*it).retain_as_published()))
    }
}

impl Peers {
    /// Writes what is a client's own of a message into `head`, which is empty.
    pub fn encode(&mut self, token: u32, message: &Message, terms: &Terms<'_>) -> Encoded {
        let (Some(client), Some(shared)) = (self.clients.get_mut(token as usize), read_shared(message.payload()))
        else {
            return Encoded::Left;
        };
        let (qos, retain) = terms.of(message.mark);
        if shared.expiry.is_some_and(|seconds| terms.waited >= seconds) {
            return Encoded::Left;
        }
        let most = self.plans[usize::from(client.route)].bounds.in_flight_max;
        if qos != QoS::AtMostOnce && !client.has_window(most) {
            client.busy().is_blocked = true;
            return Encoded::Blocked;
        }
        let is_v5 = client.version == Version::V5;
        let skipped = own_properties(&mut self.raw, is_v5, &shared, terms);
        let rest = shared.properties.raw().len() - skipped;
        let packet_id = (qos != QoS::AtMostOnce).then(|| client.next_id(qos, 0));
        let (topic, payload, properties) = (&*message.channel, shared.payload, Properties::written(&self.raw));
        let publish = Publish { dup: false, qos, retain, topic, packet_id, properties, payload };
        let behind = if is_v5 { rest } else { 0 };
        mqtt::write_publish_split(&mut self.head, client.version, &publish, behind);
        if !client.takes(self.head.len() + behind + payload.len()) {
            packet_id.and_then(|_| client.busy().outbound.pop_back());
            return Encoded::Left;
        }
        Encoded::Whole(if is_v5 { shared.from + skipped } else { shared.from + shared.properties.raw().len() })
    }

    /// As [`Peers::encode`], into a packet of its own.
    pub fn whole(&mut self, token: u32, message: &Message, terms: &Terms<'_>) -> Result<Option<Vec<u8>>, ()> {
        self.head.clear();
        match self.encode(token, message, terms) {
            Encoded::Whole(from) => Ok(Some([&self.head, &message.payload()[from..]].concat())),
            Encoded::Left => Ok(None),
            Encoded::Blocked => Err(()),
        }
    }
}

/// Writes the properties that are a client's own: subscription identifiers, and the expiry by now. Returns how many
/// bytes of the shared ones it has in their place.
fn own_properties(raw: &mut Vec<u8>, is_v5: bool, shared: &Shared<'_>, terms: &Terms<'_>) -> usize {
    raw.clear();
    if !is_v5 {
        return 0;
    }
    for identifier in terms.tags.iter().filter_map(|tag| Tag(*tag).identifier()) {
        Property::SubscriptionId(identifier).write(raw);
    }
    match shared.expiry {
        Some(seconds) if terms.waited > 0 => {
            Property::MessageExpiry(seconds - terms.waited).write(raw);
            EXPIRY_BYTES
        }
        _ => 0,
    }
}

impl Protocol for Peers {
    /// Overlapping filters of a client are one message (MQTT 5, 3.3.4).
    const MERGES: bool = true;

    fn push(&mut self, desk: &mut Desk<'_>, _client: &fanout::Client, it: &Delivery<'_>, batch: &mut Batch) -> bool {
        let terms = Terms { tags: it.tags, waited: desk.now().saturating_sub(it.tick) / SECOND, kept: false };
        self.head.clear();
        let from = match self.encode(it.token, it.payload, &terms) {
            Encoded::Whole(from) => from,
            Encoded::Left => return true,
            Encoded::Blocked => return false,
        };
        if self.clients[it.token as usize].transport == Transport::WebSocket {
            let len = self.head.len() + it.payload.payload().len() - from;
            let head = ws::head(Opcode::Binary, true, len as u64, None);
            self.head.splice(..0, head.as_bytes().iter().copied());
        }
        batch.push_headed(&self.head, it.payload, from);
        true
    }

    /// MQTT has no word for a gap: who is to miss nothing is closed, and others never learn.
    fn send_gap(&mut self, _desk: &mut Desk<'_>, _client: &fanout::Client, _gap: &Gap) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_what_subscribe_has_said() {
        let options = Options { qos: QoS::ExactlyOnce, retain_as_published: true, ..Options::default() };
        let tag = Tag::new(mqtt::MAX_LENGTH, options);
        assert_eq!(
            (tag.identifier(), tag.qos(), tag.retain_as_published()),
            (Some(mqtt::MAX_LENGTH), options.qos, true)
        );
        let none = Tag::new(0, Options::default());
        assert_eq!((none.identifier(), none.qos(), none.retain_as_published()), (None, QoS::AtMostOnce, false));
    }
}

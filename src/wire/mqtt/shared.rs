//! A message as many clients share it: what of a PUBLISH is the same for all of them.
//!
//! ```text
//! length of the properties (1.5.5) │ properties, a message expiry in front │ payload
//! └────────── clients of 3.x are sent what is behind it ──────────────────┘
//! ```
//!
//! Topic aliases and subscription identifiers are the session's that they came by, and are not in it. The topic name
//! travels beside it, and so do QoS and RETAIN, in a [`mark`].

use super::reader::Reader;
use super::write::variable;
use super::{Properties, Property, Publish, QoS};
use alloc::vec::Vec;

/// In a mark: the message was kept by the broker, and is sent because a filter was subscribed to; who has had a
/// subscription before is not to be sent it (3.3.1.3).
pub const KEPT: u8 = 8;

/// QoS in the two lowest bits, RETAIN in the third, as it was published.
pub const fn mark(qos: QoS, retain: bool) -> u8 {
    qos.level() | (retain as u8) << 2
}

/// What a mark says.
pub const fn of_mark(mark: u8) -> (QoS, bool) {
    let qos = match QoS::of(mark & 3) {
        Some(qos) => qos,
        None => QoS::ExactlyOnce,
    };
    (qos, mark & 4 != 0)
}

/// Bytes of a message expiry with its identifier.
pub const EXPIRY_BYTES: usize = 5;

/// The shared part of a message, taken apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shared<'b> {
    /// Seconds for which the message was good when it came.
    pub expiry: Option<u32>,
    /// Its properties; the message expiry, if there is one, is the first of them.
    pub properties: Properties<'b>,
    /// Where they begin, behind their length.
    pub from: usize,
    /// The message itself.
    pub payload: &'b [u8],
}

/// Appends the shared part of a message.
pub fn write_shared(out: &mut Vec<u8>, publish: &Publish<'_>) {
    let own = |it: &Property<'_>| matches!(it, Property::TopicAlias(_) | Property::SubscriptionId(_));
    let is_expiry = |it: &Property<'_>| matches!(it, Property::MessageExpiry(_));
    let kept = || publish.properties.iter().filter(move |it| !own(it));
    let mut raw = Vec::with_capacity(publish.properties.raw().len());
    kept().filter(is_expiry).for_each(|it| it.write(&mut raw));
    kept().filter(|it| !is_expiry(it)).for_each(|it| it.write(&mut raw));
    out.reserve(4 + raw.len() + publish.payload.len());
    variable(out, raw.len() as u32);
    out.extend_from_slice(&raw);
    out.extend_from_slice(publish.payload);
}

/// Takes one apart that [`write_shared`] has written; `None`: it has not.
pub fn read_shared(bytes: &[u8]) -> Option<Shared<'_>> {
    let mut reader = Reader::new(bytes);
    let len = reader.variable().ok()? as usize;
    let raw = reader.take(len).ok()?;
    let payload = reader.rest();
    let properties = Properties::written(raw);
    let expiry = match properties.iter().next() {
        Some(Property::MessageExpiry(seconds)) => Some(seconds),
        _ => None,
    };
    Some(Shared { expiry, properties, from: bytes.len() - payload.len() - len, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_has_the_expiry_first_and_nothing_of_a_session() {
        let mut raw = Vec::new();
        for property in [
            Property::TopicAlias(3),
            Property::User("a", "b"),
            Property::SubscriptionId(9),
            Property::MessageExpiry(60),
            Property::ContentType("text"),
        ] {
            property.write(&mut raw);
        }
        let properties = Properties::written(&raw);
        let (qos, topic) = (QoS::AtLeastOnce, "t");
        let publish =
            Publish { dup: false, qos, retain: true, topic, packet_id: Some(1), properties, payload: b"hello" };
        let mut out = Vec::new();
        write_shared(&mut out, &publish);
        let shared = read_shared(&out).unwrap();
        let expected = [Property::MessageExpiry(60), Property::User("a", "b"), Property::ContentType("text")];
        assert!(shared.properties.iter().eq(expected));
        assert_eq!((shared.expiry, shared.payload, shared.from), (Some(60), &b"hello"[..], 1));
        assert_eq!(read_shared(b"\x05abc"), None);
        assert_eq!(of_mark(mark(QoS::ExactlyOnce, true)), (QoS::ExactlyOnce, true));
    }
}

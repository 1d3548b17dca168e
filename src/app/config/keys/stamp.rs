//! The key of `[[route]]` that says by which name the edge tells a broker who has published something.

use super::super::forms::{self, Parsed};
use super::{Field, Key, Preset, RouteDraft, put};

/// Headers of SEND and MESSAGE that mean something else (STOMP 1.2), in lower case.
const TAKEN: [&str; 12] = [
    "ack",
    "content-length",
    "content-type",
    "destination",
    "heart-beat",
    "host",
    "id",
    "message-id",
    "receipt",
    "reply-to",
    "subscription",
    "transaction",
];

pub(super) const STAMP: Key<RouteDraft> = Key {
    name: "stamp",
    field: Field::Text {
        form: "the name of a header, or of a user property",
        store: |r, text| stamp(text).map(|name| put(&mut r.offload.stamp, name)),
    },
    default: Preset::Absent("brokers are not told who has published what"),
    owners: &super::offload::BROKERS,
    words: "The STOMP header, or the user property of MQTT 5, in which the broker is told who has published a message: \
            the client's name, on every SEND, PUBLISH and will.",
    note: "What clients say under this name, in capitals or not, is left out; of a client that is nobody nothing is \
           said. A broker that speaks no MQTT 5 has no user properties, and is told nothing. RabbitMQ takes `user-id` \
           only from a user with the tag `impersonator`: `credentials` must be one.",
    example: "\"x-user\"",
    see: &["auth", "credentials"],
};

fn stamp(text: &str) -> Parsed<String> {
    let name = forms::token(text)?;
    if TAKEN.contains(&&*name.to_ascii_lowercase()) {
        return Err(format!(
            "{} means something else in STOMP — write a name of your own, \"x-user\"",
            forms::quote(text)
        ));
    }
    Ok(name)
}

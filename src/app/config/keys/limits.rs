//! The keys of `[limits]`, which may each stand on a route as well.

use std::time::Duration;

use super::super::model::Limits;
use super::{DAY, Field, GIB, HOUR, KIB, Key, Preset, Rule};

/// `Limits` before their defaults are laid in.
pub(crate) const BLANK_LIMITS: Limits = Limits {
    head_bytes: 0,
    head_count: 0,
    message_bytes: 0,
    head_timeout: Duration::ZERO,
    idle_timeout: Duration::ZERO,
    max_pending: 0,
    connection_bytes: 0,
    close_timeout: Duration::ZERO,
};

/// The keys of `[limits]`, which may each stand on a route as well.
pub(crate) static LIMITS: [Key<Limits>; 8] = [
    Key {
        name: "head_bytes",
        field: Field::bytes(Rule::Range(256, 256 * KIB), |l| &mut l.head_bytes),
        default: Preset::Is("16KiB"),
        words: "The largest request head: request line and field lines together. Beyond it, 431.",
        note: "A client may make the server keep this much until its head is whole. Cookies make heads \
               large. A route may only tighten it, since the head is read before the route is known.",
        see: &["head_count", "head_timeout"],
        ..Key::PLAIN
    },
    Key {
        name: "head_count",
        field: Field::count(Rule::Range(1, 256), |l| &mut l.head_count),
        default: Preset::Is("100"),
        words: "The most field lines a request head may have. Beyond it, 431.",
        note: "A route may only tighten it, since the head is read before the route is known.",
        see: &["head_bytes"],
        ..Key::PLAIN
    },
    Key {
        name: "message_bytes",
        field: Field::bytes(Rule::Range(125, GIB), |l| &mut l.message_bytes),
        default: Preset::Is("1MiB"),
        words: "The largest WebSocket message taken from a client, its fragments joined. Beyond it, close code 1009.",
        note: "Where a service needs whole messages, a client may make the server keep this much.",
        see: &["max_pending"],
        ..Key::PLAIN
    },
    Key {
        name: "head_timeout",
        field: Field::millis(Rule::Range(100, HOUR), |l| &mut l.head_timeout),
        default: Preset::Is("10s"),
        words: "How long a client may take to send a whole request head.",
        note: "It is what ends clients that send a byte a minute. A route may only tighten it, since the \
               head is read before the route is known.",
        see: &["head_bytes", "idle_timeout"],
        ..Key::PLAIN
    },
    Key {
        name: "idle_timeout",
        field: Field::millis(Rule::Range(100, DAY), |l| &mut l.idle_timeout),
        default: Preset::Is("120s"),
        words: "How long a client may be silent: after half of it a ping is sent, after all of it the connection ends.",
        note: "Halving it doubles the pings, and with a million idle clients pings are the load. Beyond the \
               patience of the networks between, connections die unseen.",
        see: &["park_after", "close_timeout"],
        ..Key::PLAIN
    },
    Key {
        name: "max_pending",
        field: Field::bytes(Rule::Range(4 * KIB, GIB), |l| &mut l.max_pending),
        default: Preset::Is("64KiB"),
        words: "How many bytes may wait to be sent to one peer before what feeds it is held back, until half are gone.",
        note: "This is what a slow reader can make the server keep. Slow readers times this value is the \
               memory they hold.",
        see: &["outbox_bytes", "message_bytes"],
        ..Key::PLAIN
    },
    Key {
        name: "connection_bytes",
        field: Field::bytes(Rule::ZeroOr("derived from the others", 64 * KIB, 3 * GIB), |l| &mut l.connection_bytes),
        default: Preset::Is("0"),
        words: "How many bytes of the outbox memory one connection may hold, wherever they lie: its queue, messages \
                that are not whole, what it has said and what could not be read yet. 0: twice `message_bytes` and \
                `max_pending`, and 2 MiB for what one wake may bring.",
        note: "A connection beyond it ends with close code 1013. Where `outbox_bytes` of a shard are used up, the \
               connection that holds the most gives way, not the next one that asks.",
        see: &["max_pending", "message_bytes", "outbox_bytes"],
        ..Key::PLAIN
    },
    Key {
        name: "close_timeout",
        field: Field::millis(Rule::Range(10, HOUR), |l| &mut l.close_timeout),
        default: Preset::Is("5s"),
        words: "How long a closing handshake, or the reading out of a connection that is being closed, may take.",
        note: "Too short, and a client may lose the last bytes it was sent to a reset.",
        see: &["shutdown_grace"],
        ..Key::PLAIN
    },
];

//! The keys of `[limits]`, which may each stand on a route as well.

use std::time::Duration;

use super::super::Limits;
use super::{DAY, Field, GIB, HOUR, KIB, Key, Preset, Rule, Unit};

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
        field: Field::Number {
            unit: Unit::Bytes,
            rule: Rule::Range(256, 256 * KIB),
            store: |l, n| l.head_bytes = n as u32,
        },
        default: Preset::Is("16KiB"),
        owners: &[],
        words: "The largest request head: request line and field lines together. Beyond it, 431.",
        note: "A client may make the server keep this much until its head is whole. Cookies make heads \
               large. A route may only tighten it, since the head is read before the route is known.",
        example: "",
        see: &["head_count", "head_timeout"],
    },
    Key {
        name: "head_count",
        field: Field::Number { unit: Unit::Count, rule: Rule::Range(1, 256), store: |l, n| l.head_count = n as u16 },
        default: Preset::Is("100"),
        owners: &[],
        words: "The most field lines a request head may have. Beyond it, 431.",
        note: "A route may only tighten it, since the head is read before the route is known.",
        example: "",
        see: &["head_bytes"],
    },
    Key {
        name: "message_bytes",
        field: Field::Number { unit: Unit::Bytes, rule: Rule::Range(125, GIB), store: |l, n| l.message_bytes = n },
        default: Preset::Is("1MiB"),
        owners: &[],
        words: "The largest WebSocket message taken from a client, its fragments joined. Beyond it, close code 1009.",
        note: "Where a service needs whole messages, a client may make the server keep this much.",
        example: "",
        see: &["max_pending"],
    },
    Key {
        name: "head_timeout",
        field: Field::Number {
            unit: Unit::Millis,
            rule: Rule::Range(100, HOUR),
            store: |l, n| l.head_timeout = Duration::from_millis(n),
        },
        default: Preset::Is("10s"),
        owners: &[],
        words: "How long a client may take to send a whole request head.",
        note: "It is what ends clients that send a byte a minute. A route may only tighten it, since the \
               head is read before the route is known.",
        example: "",
        see: &["head_bytes", "idle_timeout"],
    },
    Key {
        name: "idle_timeout",
        field: Field::Number {
            unit: Unit::Millis,
            rule: Rule::Range(100, DAY),
            store: |l, n| l.idle_timeout = Duration::from_millis(n),
        },
        default: Preset::Is("120s"),
        owners: &[],
        words: "How long a client may be silent: after half of it a ping is sent, after all of it the connection ends.",
        note: "Halving it doubles the pings, and with a million idle clients pings are the load. Beyond the \
               patience of the networks between, connections die unseen.",
        example: "",
        see: &["park_after", "close_timeout"],
    },
    Key {
        name: "max_pending",
        field: Field::Number {
            unit: Unit::Bytes,
            rule: Rule::Range(4 * KIB, GIB),
            store: |l, n| l.max_pending = n as u32,
        },
        default: Preset::Is("64KiB"),
        owners: &[],
        words: "How many bytes may wait to be sent to one peer before what feeds it is held back, until half are gone.",
        note: "This is what a slow reader can make the server keep. Slow readers times this value is the \
               memory they hold.",
        example: "",
        see: &["outbox_bytes", "message_bytes"],
    },
    Key {
        name: "connection_bytes",
        field: Field::Number {
            unit: Unit::Bytes,
            rule: Rule::ZeroOr("derived from the others", 64 * KIB, 3 * GIB),
            store: |l, n| l.connection_bytes = n,
        },
        default: Preset::Is("0"),
        owners: &[],
        words: "How many bytes of the outbox memory one connection may hold, wherever they lie: its queue, messages \
                that are not whole, what it has said and what could not be read yet. 0: twice `message_bytes` and \
                `max_pending`, and 2 MiB for what one wake may bring.",
        note: "A connection beyond it ends with close code 1013. Where `outbox_bytes` of a shard are used up, the \
               connection that holds the most gives way, not the next one that asks.",
        example: "",
        see: &["max_pending", "message_bytes", "outbox_bytes"],
    },
    Key {
        name: "close_timeout",
        field: Field::Number {
            unit: Unit::Millis,
            rule: Rule::Range(10, HOUR),
            store: |l, n| l.close_timeout = Duration::from_millis(n),
        },
        default: Preset::Is("5s"),
        owners: &[],
        words: "How long a closing handshake, or the reading out of a connection that is being closed, may take.",
        note: "Too short, and a client may lose the last bytes it was sent to a reset.",
        example: "",
        see: &["shutdown_grace"],
    },
];

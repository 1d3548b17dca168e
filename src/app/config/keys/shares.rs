//! The keys of `[[route]]` about how much its clients may have of it, together and each.

use super::super::model::Exceeding;
use super::{Field, GIB, KIB, Key, Preset, RouteDraft, Rule};
use crate::mesh::CONNECTIONS_MAX;

const MOST: u64 = CONNECTIONS_MAX as u64;

pub(super) const CONNECTIONS: Key<RouteDraft> = Key {
    name: "connections",
    field: Field::count(Rule::ZeroOr("no limit", 1, MOST), |r: &mut RouteDraft| &mut r.shares.connections),
    default: Preset::Is("0"),
    words: "Connections that all clients of this route may have at once, on all shards together. Beyond it, 503.",
    note: "A connection counts while a request of it is being answered, or for as long as its WebSocket or stream is \
           open.",
    example: "10000",
    see: &["identity.connections", "limits.addresses.connections"],
    ..Key::PLAIN
};

pub(super) const IDENTITY: Key<RouteDraft> = Key {
    name: "identity",
    field: Field::Table { form: "a table, { connections = 5, messages_per_second = { rate = 20 } }", keys: &KEYS },
    default: Preset::Inner,
    words: "What each client of this route may have and do, over all its connections and all shards: clients by who \
            they are, where the route asks that, else by their address prefix.",
    example: "{ connections = 5, messages_per_second = { rate = 20, burst = 100 } }",
    see: &["identity.exceeding"],
    ..Key::PLAIN
};

static KEYS: [Key<RouteDraft>; 4] = [
    Key {
        name: "connections",
        field: Field::count(Rule::ZeroOr("no limit", 1, MOST), |r: &mut RouteDraft| &mut r.shares.each_connections),
        default: Preset::Is("0"),
        words: "Connections that one client may have at once. Beyond it, 429.",
        example: "5",
        ..Key::PLAIN
    },
    Key {
        name: "messages_per_second",
        field: Field::Table { form: "a table, { rate = 20, burst = 100 }", keys: &MESSAGES },
        default: Preset::Inner,
        words: "Whole WebSocket messages and requests that one client may send.",
        note: "What one receive has brought is charged together, after it was handled.",
        example: "{ rate = 20, burst = 100 }",
        ..Key::PLAIN
    },
    Key {
        name: "bytes_per_second",
        field: Field::Table { form: "a table, { rate = \"64KiB\", burst = \"1MiB\" }", keys: &BYTES },
        default: Preset::Inner,
        words: "Bytes that one client may send, heads of frames and requests included.",
        note: "`burst` should be above `message_bytes`, or a message alone passes it.",
        example: "{ rate = \"64KiB\", burst = \"1MiB\" }",
        ..Key::PLAIN
    },
    Key {
        name: "exceeding",
        field: choice!(shares.exceeding: "hold" => Exceeding::Hold, "close" => Exceeding::Close),
        default: Preset::Is("hold"),
        words: "What becomes of a client that sends faster: it is not read until it is within its rate again, or its \
                connection is closed (1008).",
        note: "Who is held back waits in his own TCP; a rate is kept to a quarter of a second.",
        example: "\"close\"",
        ..Key::PLAIN
    },
];

static MESSAGES: [Key<RouteDraft>; 2] = [
    Key {
        name: "rate",
        field: Field::count(Rule::ZeroOr("no limit", 1, 10_000_000), |r: &mut RouteDraft| &mut r.shares.messages.0),
        default: Preset::Is("0"),
        words: "Messages a second, on the long run.",
        example: "20",
        ..Key::PLAIN
    },
    Key {
        name: "burst",
        field: Field::count(Rule::ZeroOr("as `rate`", 1, 100_000_000), |r: &mut RouteDraft| &mut r.shares.messages.1),
        default: Preset::Is("0"),
        words: "Messages at once.",
        example: "100",
        ..Key::PLAIN
    },
];

static BYTES: [Key<RouteDraft>; 2] = [
    Key {
        name: "rate",
        field: Field::bytes(Rule::ZeroOr("no limit", KIB, 8 * GIB), |r: &mut RouteDraft| &mut r.shares.bytes.0),
        default: Preset::Is("0"),
        words: "Bytes a second, on the long run.",
        example: "\"64KiB\"",
        ..Key::PLAIN
    },
    Key {
        name: "burst",
        field: Field::bytes(Rule::ZeroOr("as `rate`", KIB, 8 * GIB), |r: &mut RouteDraft| &mut r.shares.bytes.1),
        default: Preset::Is("0"),
        words: "Bytes at once.",
        example: "\"1MiB\"",
        ..Key::PLAIN
    },
];

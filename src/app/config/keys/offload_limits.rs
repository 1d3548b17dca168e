//! The keys of `[[route]]` that bound what clients of a broker, and the broker, may have a shard keep.

use super::offload::{BROKERS, MQTT, STOMP};
use super::{Field, GIB, KIB, Key, MIB, Preset, RouteDraft, Rule};

pub(super) const HELD_BYTES: Key<RouteDraft> = Key {
    name: "held_bytes",
    field: Field::bytes(Rule::Range(64 * KIB, 64 * GIB), |r| &mut r.offload.held_bytes),
    default: Preset::Is("64MiB"),
    owners: &BROKERS,
    words: "Bytes that each shard keeps for all clients of this route: frames and packets that are not whole yet; \
            MQTT: wills, topic aliases, and the lists of retained messages that are still to be sent.",
    note: "Beyond it, those clients are ended that have the most of it: ERROR, or reason 0x97.",
    example: "\"256MiB\"",
    see: &["message_bytes"],
};

pub(super) const BROKER_FRAME_BYTES: Key<RouteDraft> = Key {
    name: "broker_frame_bytes",
    field: Field::bytes(Rule::Range(4 * KIB, 1024 * MIB), |r| &mut r.offload.broker_frame_bytes),
    default: Preset::Is("64MiB"),
    owners: &BROKERS,
    words: "Bytes of one frame or packet of the broker. A session on which it sends a larger one is ended.",
    example: "\"8MiB\"",
    see: &["message_bytes"],
    ..Key::PLAIN
};

pub(super) const SNAPSHOT_BYTES: Key<RouteDraft> = Key {
    name: "snapshot_bytes",
    field: Field::bytes(Rule::Range(1, 1024 * MIB), |r| &mut r.offload.snapshot_bytes),
    default: Preset::Is("16MiB"),
    owners: &BROKERS,
    words: "Bytes of the last values of one destination that are kept for `snapshot` and for clients that are slow \
            (`conflate`). What is larger is not kept.",
    example: "\"64KiB\"",
    see: &["snapshot", "topics_max", "slow_client"],
    ..Key::PLAIN
};

pub(super) const NAME_BYTES: Key<RouteDraft> = Key {
    name: "name_bytes",
    field: Field::bytes(Rule::Range(64, 64 * KIB), |r| &mut r.offload.name_bytes),
    default: Preset::Is("1KiB"),
    owners: &BROKERS,
    words: "Bytes of a name that a client has a shard remember: a destination or topic filter, and in STOMP the id of \
            a subscription, a receipt, a transaction. Beyond it, ERROR, or reason 0x97.",
    example: "\"256\"",
    see: &["subscriptions_max", "held_bytes"],
    ..Key::PLAIN
};

pub(super) const TRANSACTIONS_MAX: Key<RouteDraft> = Key {
    name: "transactions_max",
    field: Field::count(Rule::Range(1, 65_535), |r| &mut r.offload.transactions_max),
    default: Preset::Is("16"),
    owners: &STOMP,
    words: "Transactions of one client that are open. Beyond it, ERROR.",
    example: "1",
    see: &["subscriptions_max"],
    ..Key::PLAIN
};

pub(super) const RETAINED_BYTES: Key<RouteDraft> = Key {
    name: "retained_bytes",
    field: Field::bytes(Rule::Range(4 * KIB, 64 * GIB), |r| &mut r.offload.retained_bytes),
    default: Preset::Is("64MiB"),
    owners: &MQTT,
    words: "Bytes of retained messages of the broker that are kept at the edge for those who subscribe later. All \
            shards share them.",
    note: "A message for which there is no room is not kept, and counted (`edgehold_offload_unkept_total`).",
    example: "\"1GiB\"",
    see: &["held_bytes"],
};

pub(super) const RECEIVE_MAX: Key<RouteDraft> = Key {
    name: "receive_max",
    field: Field::count(Rule::Range(1, 8192), |r| &mut r.offload.receive_max),
    default: Preset::Is("256"),
    owners: &MQTT,
    words: "Messages of QoS 1 and 2 that a client may publish before they are acknowledged (Receive Maximum). Beyond \
            it, a client is not read until the broker has acknowledged half of them; with QoS 2, DISCONNECT with \
            0x93, in MQTT 5.",
    note: "Many libraries publish with QoS 1 as fast as they can, whatever the maximum.",
    example: "16",
    see: &["in_flight_max", "unconfirmed_bytes"],
};

pub(super) const IN_FLIGHT_MAX: Key<RouteDraft> = Key {
    name: "in_flight_max",
    field: Field::count(Rule::Range(1, 8192), |r| &mut r.offload.in_flight_max),
    default: Preset::Is("1024"),
    owners: &MQTT,
    words: "Messages of QoS 1 and 2 that one client is sent before it acknowledges them, whatever it says that it \
            takes.",
    example: "16",
    see: &["receive_max", "slow_client"],
    ..Key::PLAIN
};

pub(super) const TOPIC_ALIASES_MAX: Key<RouteDraft> = Key {
    name: "topic_aliases_max",
    field: Field::count(Rule::Range(0, 65_535), |r| &mut r.offload.topic_aliases_max),
    default: Preset::Is("16"),
    owners: &MQTT,
    words: "Topic aliases that a client may use (Topic Alias Maximum). Beyond it, DISCONNECT with 0x94.",
    example: "0",
    see: &["held_bytes"],
    ..Key::PLAIN
};

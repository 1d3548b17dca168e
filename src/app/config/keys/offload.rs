//! The keys of `[[route]]` about what clients share of a broker.

use super::super::forms;
use super::super::model::{Missed, Permission, PrivateAs, PrivateWhen, WhileDown};
use super::{Field, HOUR, KIB, Key, MIB, Preset, RouteDraft, Rule, push_new, put};

/// Services that stand in front of a broker.
pub(super) const BROKERS: [&str; 2] = ["stomp", "mqtt"];
pub(super) const STOMP: [&str; 1] = ["stomp"];
pub(super) const MQTT: [&str; 1] = ["mqtt"];

const DESTINATIONS: &str = "a list of destinations, a `#` at the end for all that begins so, or of topic filters";

pub(super) const SESSIONS: Key<RouteDraft> = Key {
    name: "sessions",
    field: Field::count(Rule::Range(1, 16), |r| &mut r.offload.sessions),
    default: Preset::Is("1"),
    owners: &BROKERS,
    words: "Sessions with the broker that each shard has for what its clients publish and take from queues.",
    note: "A client always uses the same one, so that what it says stays in order. Shared subscriptions need none: the \
           whole edge has one for all of them.",
    example: "2",
    see: &["share", "private"],
};

pub(super) const CREDENTIALS: Key<RouteDraft> = Key {
    name: "credentials",
    field: Field::Table {
        form: "a table, { user = \"edge\", password_file = \"broker.pw\", host = \"/\" }",
        keys: &LOGIN,
    },
    default: Preset::Absent("the edge logs in as nobody"),
    owners: &BROKERS,
    words: "As whom the edge logs in at the broker.",
    note: "What clients have shown stays at the edge, but where `private_as` says otherwise.",
    example: "{ user = \"edge\", password_file = \"broker.pw\", host = \"/\" }",
    see: &["credentials.user", "credentials.password_file", "credentials.host", "private_as"],
};

static LOGIN: [Key<RouteDraft>; 3] = [
    Key {
        name: "user",
        field: Field::Text {
            form: "a name of 1 to 255 bytes without control characters",
            store: |r, text| forms::broker_name(text).map(|user| put(&mut r.offload.user, user)),
        },
        default: Preset::Absent("no name"),
        words: "The user: `login` of CONNECT, or User Name.",
        example: "\"edge\"",
        ..Key::PLAIN
    },
    Key {
        name: "password_file",
        field: Field::Text {
            form: "the name of a file",
            store: |r, text| forms::file(text).map(|file| put(&mut r.offload.password_file, file)),
        },
        default: Preset::Absent("no password"),
        words: "A file whose first line is the password: `passcode` of CONNECT, or Password.",
        note: "It is read when the server starts, before rights are given up.",
        example: "\"broker.pw\"",
        ..Key::PLAIN
    },
    Key {
        name: "host",
        field: Field::Text {
            form: "a name of 1 to 255 bytes without control characters",
            store: |r, text| {
                r.offload.host = forms::broker_name(text)?;
                Ok(())
            },
        },
        default: Preset::Is("/"),
        words: "STOMP: the virtual host, `host` of CONNECT.",
        note: "RabbitMQ takes it for the name of a virtual host; ActiveMQ does not mind.",
        example: "\"production\"",
        ..Key::PLAIN
    },
];

pub(super) const SHARE: Key<RouteDraft> = Key {
    name: "share",
    field: Field::List {
        form: DESTINATIONS,
        single: true,
        most: 256,
        store: |r, text| push_new(&mut r.offload.share, forms::topic(text)?, text),
    },
    default: Preset::Absent("stomp: `/topic/#` and `/exchange/#`; mqtt: `#`"),
    owners: &BROKERS,
    words: "Destinations, or topic filters, of which all clients of the edge share one subscription.",
    note: "What is published there must be for every subscriber: topics, not queues. SUBSCRIBE with headers beyond \
           `id`, `destination`, `ack` and `receipt` (a selector, a durable subscription) is not shared.",
    example: "[\"/topic/#\"]",
    see: &["private", "snapshot", "linger"],
};

pub(super) const STREAMS: Key<RouteDraft> = Key {
    name: "streams",
    field: Field::List {
        form: "a list of destinations, a `#` at the end for all that begins so",
        single: true,
        most: 256,
        store: |r, text| push_new(&mut r.offload.streams, forms::stream_destination(text)?, text),
    },
    default: Preset::Absent("none"),
    owners: &STOMP,
    words: "Destinations that are streams of RabbitMQ: shared as those of `share`, and where the session is lost, or \
            the server is away, gone on with behind the last message that has come.",
    note: "Their subscribers miss nothing and are told no gap, unless the stream keeps less than they have missed. A \
           stream must be there already: name it as `/amq/queue/NAME`. A client that gives an `x-stream-offset` has a \
           session of its own.",
    example: "[\"/amq/queue/trades\"]",
    see: &["share", "tell_gaps"],
};

pub(super) const PRIVATE: Key<RouteDraft> = Key {
    name: "private",
    field: Field::List {
        form: DESTINATIONS,
        single: true,
        most: 256,
        store: |r, text| push_new(&mut r.offload.private, forms::topic(text)?, text),
    },
    default: Preset::Absent("stomp: `/temp-queue/#`, `/temp-topic/#` and `/reply-queue/#`; mqtt: none"),
    owners: &BROKERS,
    words: "Destinations for which a client has a session of its own with the broker, when it first needs it.",
    note: "So have SEND with `reply-to`, SUBSCRIBE with headers that are not known, and subscriptions that are neither \
           shared nor to `/queue/NAME`.",
    example: "[\"/temp-queue/#\", \"/queue/orders.#\"]",
    see: &["share", "private_max", "private_as"],
};

pub(super) const PRIVATE_MAX: Key<RouteDraft> = Key {
    name: "private_max",
    field: Field::count(Rule::Range(0, 1 << 20), |r| &mut r.offload.private_max),
    default: Preset::Is("1024"),
    owners: &BROKERS,
    words: "Clients of each shard that may have a session of their own. Beyond it, ERROR, or CONNACK with 0x97 or 3.",
    example: "100",
    see: &["private"],
    ..Key::PLAIN
};

pub(super) const PRIVATE_AS: Key<RouteDraft> = Key {
    name: "private_as",
    field: choice!(offload.private_as: "edge" => PrivateAs::Edge, "client" => PrivateAs::Client),
    default: Preset::Is("edge"),
    owners: &BROKERS,
    words: "As whom a client's own session logs in: as the edge, or with the `login` and `passcode` that it has shown.",
    note: "As the edge, an MQTT client's identifier at the broker is `edgehold:`, the length of who the client is, \
           `:`, who it is, `:`, and its identifier, so that no user takes another's session; of a client of whom \
           nothing is known it is its own. As the client, it is the client's own, and the broker says who may have it.",
    example: "\"client\"",
    see: &["credentials", "private_when"],
};

pub(super) const PRIVATE_WHEN: Key<RouteDraft> = Key {
    name: "private_when",
    field: choice!(offload.private_when: "needed" => PrivateWhen::Needed, "always" => PrivateWhen::Always,
        "never" => PrivateWhen::Never),
    default: Preset::Is("needed"),
    owners: &MQTT,
    words: "Which clients have a session of their own with the broker: those that cannot be shared, all, or none.",
    note: "Needed by who wants state that lasts (a clean session or clean start of 0, a session expiry), by enhanced \
           authentication, and by who first of all subscribes to something that is not shared, or with No Local. With \
           `never` such a client gets a clean session, and CONNACK says so; the rest is refused.",
    example: "\"never\"",
    see: &["private", "private_max", "private_as"],
};

pub(super) const PERMISSIONS: Key<RouteDraft> = Key {
    name: "permissions",
    field: Field::Tables {
        form: "a list of tables, { destinations = [\"/topic/#\"], allow = [\"subscribe\"] }",
        most: 256,
        begin: |r| r.offload.permissions.push(Permission::default()),
        keys: &RULE,
    },
    default: Preset::Absent("every client may do everything"),
    owners: &BROKERS,
    words: "Who may publish and subscribe where: what some entry allows, for a role that the client has.",
    note: "Where there are entries, what none of them allows is refused. `{user}` in a destination \
           stands for who the client is, `{claim.x}` for what is said of it; one with a dot or a slash in it names \
           nothing.",
    example: "[{ destinations = [\"/queue/{user}\"], allow = [\"publish\", \"subscribe\"] }]",
    see: &["auth", "permissions.destinations", "permissions.roles", "permissions.allow"],
};

static RULE: [Key<RouteDraft>; 3] = [
    Key {
        name: "destinations",
        field: Field::List {
            form: DESTINATIONS,
            single: false,
            most: 256,
            store: |r, text| push_new(&mut last(r).destinations, forms::topic(text)?, text),
        },
        default: Preset::Required,
        words: "Which destinations.",
        example: "[\"/topic/#\"]",
        ..Key::PLAIN
    },
    Key {
        name: "roles",
        field: Field::List {
            form: "a list of roles, each of 1 to 255 bytes without control characters",
            single: false,
            most: 64,
            store: |r, text| push_new(&mut last(r).roles, forms::role(text)?, text),
        },
        default: Preset::Absent("any client will do"),
        words: "The roles of which a client must have one.",
        example: "[\"trader\"]",
        ..Key::PLAIN
    },
    Key {
        name: "allow",
        field: Field::List {
            form: "a list of \"publish\" and \"subscribe\"",
            single: false,
            most: 2,
            store: |r, text| match text {
                "publish" => {
                    last(r).publish = true;
                    Ok(())
                }
                "subscribe" => {
                    last(r).subscribe = true;
                    Ok(())
                }
                _ => Err(format!("{} is nothing to allow — write \"publish\" or \"subscribe\"", forms::quote(text))),
            },
        },
        default: Preset::Absent("nothing: neither may be done"),
        words: "What may be done there.",
        example: "[\"publish\", \"subscribe\"]",
        ..Key::PLAIN
    },
];

/// The table that is being read.
fn last(route: &mut RouteDraft) -> &mut Permission {
    route.offload.permissions.last_mut().expect("an item has begun before its keys are stored")
}

pub(super) const PREFETCH: Key<RouteDraft> = Key {
    name: "prefetch",
    field: Field::count(Rule::Range(1, 65_535), |r| &mut r.offload.prefetch),
    default: Preset::Is("32"),
    owners: &STOMP,
    words: "Messages of one queue subscription that its client has not acknowledged, or not taken, at most.",
    note: "A client that is slow so holds back no other's messages.",
    example: "1",
    see: &["sessions"],
};

pub(super) const UNCONFIRMED_BYTES: Key<RouteDraft> = Key {
    name: "unconfirmed_bytes",
    field: Field::bytes(Rule::Range(16 * KIB, 1024 * MIB), |r| &mut r.offload.unconfirmed_bytes),
    default: Preset::Is("1MiB"),
    owners: &BROKERS,
    words: "Bytes of one session that clients have published with a receipt and the broker has not confirmed, or that \
            wait for it to come back. Beyond it, whoever publishes more is not read.",
    example: "\"8MiB\"",
    see: &["while_down"],
    ..Key::PLAIN
};

pub(super) const WHILE_DOWN: Key<RouteDraft> = Key {
    name: "while_down",
    field: choice!(offload.while_down: "queue" => WhileDown::Queue, "refuse" => WhileDown::Refuse),
    default: Preset::Is("queue"),
    owners: &BROKERS,
    words: "What becomes of what is published while the broker does not answer: it waits, or is answered ERROR.",
    note: "A receipt is sent when the broker has confirmed, never before.",
    example: "\"refuse\"",
    see: &["unconfirmed_bytes"],
};

pub(super) const MISSED: Key<RouteDraft> = Key {
    name: "missed",
    field: choice!(offload.missed: "close" => Missed::Close, "stay" => Missed::Stay),
    default: Preset::Is("close"),
    owners: &MQTT,
    words: "What becomes of clients that have subscribed with QoS 1 or 2 where messages may have been missed: the \
            session for shared topics was lost at the broker. They are told so and closed, or stay and never learn.",
    note: "Subscribers with QoS 0 stay. `session = \"persistent\"` has the broker keep what comes while it cannot be \
           reached.",
    example: "\"stay\"",
    see: &["missed_rate", "session"],
};

pub(super) const MISSED_RATE: Key<RouteDraft> = Key {
    name: "missed_rate",
    field: Field::count(Rule::Range(4, 1_000_000), |r| &mut r.offload.missed_rate),
    default: Preset::Is("1000"),
    owners: &MQTT,
    words: "How many of them each shard closes in a second: all of them come back.",
    example: "200",
    see: &["missed"],
    ..Key::PLAIN
};

pub(super) const HEART_BEAT: Key<RouteDraft> = Key {
    name: "heart_beat",
    field: Field::millis(Rule::ZeroOr("no heart-beats", 250, HOUR), |r| &mut r.offload.heart_beat),
    default: Preset::Is("10s"),
    owners: &BROKERS,
    words: "The shortest interval of heart-beats that is agreed to, with clients and with the broker.",
    note: "They are answered at the edge: the broker sees those of the edge alone.",
    example: "\"30s\"",
    see: &["idle_timeout"],
};

pub(super) const KEEP_ALIVE: Key<RouteDraft> = Key {
    name: "keep_alive_max",
    field: Field::millis(Rule::ZeroOr("as the client says", 1000, HOUR), |r| &mut r.offload.keep_alive),
    default: Preset::Is("0s"),
    owners: &MQTT,
    words: "The longest keep alive of a client: MQTT 5 is told it (Server Keep Alive), and who says more, or none, is \
            held to it.",
    note: "A client is closed, and its will published, when it is silent for one and a half times as long.",
    example: "\"5m\"",
    see: &["heart_beat"],
};

pub(super) const CLIENT_ID: Key<RouteDraft> = Key {
    name: "client_id",
    field: Field::Text {
        form: "a name of 1 to 255 bytes without control characters",
        store: |r, text| {
            r.offload.client_id = forms::broker_name(text)?;
            Ok(())
        },
    },
    default: Preset::Is("edgehold"),
    owners: &MQTT,
    words: "What the edge's own sessions are called at the broker, each with numbers behind it.",
    note: "No other client of the broker may have these names, and no other edgehold: each would end the other's \
           session.",
    example: "\"edge-1\"",
    see: &["session"],
};

pub(super) const SESSION: Key<RouteDraft> = Key {
    name: "session",
    field: choice!(offload.persistent: "clean" => false, "persistent" => true),
    default: Preset::Is("clean"),
    owners: &MQTT,
    words: "Whether the broker keeps the session for shared topics while there is no connection, and what comes \
            meanwhile.",
    note: "`persistent` needs a broker of MQTT 5, and messages of QoS 1 or 2: what was missed is not lost then.",
    example: "\"persistent\"",
    see: &["client_id"],
};

pub(super) const LINGER: Key<RouteDraft> = Key {
    name: "linger",
    field: Field::millis(Rule::Range(0, HOUR), |r| &mut r.offload.linger),
    default: Preset::Is("30s"),
    owners: &BROKERS,
    words: "How long a shared subscription is kept when its last subscriber has left.",
    note: "Clients that all come back at once find it there: the broker notices nothing.",
    example: "\"5m\"",
    see: &["share"],
};

pub(super) const TOPICS_MAX: Key<RouteDraft> = Key {
    name: "topics_max",
    field: Field::count(Rule::Range(1, 10_000_000), |r| &mut r.offload.topics_max),
    default: Preset::Is("100000"),
    owners: &BROKERS,
    words: "Destinations that the edge may be subscribed to at the broker. Beyond it, ERROR.",
    example: "1000",
    see: &["subscriptions_max"],
    ..Key::PLAIN
};

pub(super) const SUBSCRIBE_RATE: Key<RouteDraft> = Key {
    name: "subscribe_rate",
    field: Field::count(Rule::Range(1, 1_000_000), |r| &mut r.offload.subscribe_rate),
    default: Preset::Is("1000"),
    owners: &BROKERS,
    words: "Shared subscriptions that are made in a second when a broker comes back.",
    example: "100",
    see: &["linger"],
    ..Key::PLAIN
};

pub(super) const TELL_GAPS: Key<RouteDraft> = Key {
    name: "tell_gaps",
    field: Field::Flag { store: |r, on| r.offload.tell_gaps = on },
    default: Preset::Is("false"),
    owners: &STOMP,
    words: "Whether subscribers of a shared destination are told where messages were lost, by a MESSAGE with the \
            header `edgehold-gap`.",
    note: "Clients that do not know this header take it for a message without a body.",
    example: "true",
    see: &["slow_client"],
};

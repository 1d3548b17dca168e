//! The keys of `[[listener]]`.

use super::super::forms;
use super::super::model::Address;
use super::{Field, Key, Preset, Rule, put};

/// A `[[listener]]` as it is read: what is missing or wrong is absent.
#[derive(Default)]
pub(crate) struct ListenerDraft {
    pub(crate) name: Option<String>,
    pub(crate) address: Option<Address>,
    pub(crate) backlog: u32,
    pub(crate) reuse_port: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) health: Option<String>,
}

/// The keys of `[[listener]]`.
pub(crate) static LISTENER: [Key<ListenerDraft>; 6] = [
    Key {
        name: "name",
        field: Field::Text {
            form: "1 to 32 letters, digits, `_` or `-`",
            store: |l, text| forms::name(text).map(|name| put(&mut l.name, name)),
        },
        default: Preset::Required,
        words: "What the listener is called in logs and metrics; no two share a name.",
        example: "\"public\"",
        see: &["address"],
        ..Key::PLAIN
    },
    Key {
        name: "address",
        field: Field::Text {
            form: "an IP address with a port, \"0.0.0.0:8080\" or \"[::]:8080\", or \"unix:/path\"",
            store: |l, text| forms::address(text).map(|address| put(&mut l.address, address)),
        },
        default: Preset::Required,
        words: "Where clients connect; no two listeners share an address.",
        note: "Port 0 lets the kernel choose one. A Unix socket takes an absolute path of 107 bytes at most.",
        example: "\"0.0.0.0:8080\"",
        see: &["admin"],
        ..Key::PLAIN
    },
    Key {
        name: "backlog",
        field: Field::count(Rule::Range(1, 1 << 20), |l| &mut l.backlog),
        default: Preset::Is("4096"),
        words: "How many connections the kernel holds for each shard until they are accepted.",
        note: "The kernel cuts it to `net.core.somaxconn` without a word; `edgehold doctor` says so.",
        see: &["accepts_in_flight"],
        ..Key::PLAIN
    },
    Key {
        name: "reuse_port",
        field: Field::Flag { store: |l, on| l.reuse_port = on },
        default: Preset::Is("false"),
        words: "Whether other servers may listen on the same TCP address, and the kernel spreads clients among them.",
        note: "All of them must write it, and run as the same user (SO_REUSEPORT): so a new server can take over \
               before the old one goes. Without it a second server on one address does not start.",
        example: "true",
        see: &["address"],
        ..Key::PLAIN
    },
    Key {
        name: "mode",
        field: Field::Text {
            form: "three or four octal digits, \"0660\"",
            store: |l, text| forms::mode(text).map(|mode| put(&mut l.mode, mode)),
        },
        default: Preset::Absent("what the umask leaves"),
        words: "The mode of the file of a Unix socket: who may connect is who may write it.",
        example: "\"0660\"",
        see: &["address"],
        ..Key::PLAIN
    },
    Key {
        name: "health",
        field: Field::Text {
            form: "a path, \"/healthz\"",
            store: |l, text| forms::path(text).map(|path| put(&mut l.health, path)),
        },
        default: Preset::Absent("no path"),
        words: "The path at which this listener itself answers a balancer: 200 while new clients are taken, 503 while \
                the server is stopping.",
        note: "It goes before all routes, whatever the host, and says nothing but `ready`: for balancers that do not \
               reach the admin address. The shard that has the connection answers; who finds it full gets its 503.",
        example: "\"/healthz\"",
        see: &["admin"],
        ..Key::PLAIN
    },
];

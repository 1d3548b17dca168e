//! The keys of `[[listener]]`.

use super::super::{Address, forms};
use super::{Field, Key, Preset, Rule, Unit, put};

/// A `[[listener]]` as it is read: what is missing or wrong is absent.
#[derive(Default)]
pub(crate) struct ListenerDraft {
    pub(crate) name: Option<String>,
    pub(crate) address: Option<Address>,
    pub(crate) backlog: u32,
}

/// The keys of `[[listener]]`.
pub(crate) static LISTENER: [Key<ListenerDraft>; 3] = [
    Key {
        name: "name",
        field: Field::Text {
            form: "1 to 32 letters, digits, `_` or `-`",
            store: |l, text| forms::name(text).map(|name| put(&mut l.name, name)),
        },
        default: Preset::Required,
        owners: &[],
        words: "What the listener is called in logs and metrics; no two share a name.",
        note: "",
        example: "\"public\"",
        see: &["address"],
    },
    Key {
        name: "address",
        field: Field::Text {
            form: "an IP address with a port, \"0.0.0.0:8080\" or \"[::]:8080\", or \"unix:/path\"",
            store: |l, text| forms::address(text).map(|address| put(&mut l.address, address)),
        },
        default: Preset::Required,
        owners: &[],
        words: "Where clients connect; no two listeners share an address.",
        note: "Port 0 lets the kernel choose one. A Unix socket takes an absolute path of 107 bytes at most.",
        example: "\"0.0.0.0:8080\"",
        see: &["admin"],
    },
    Key {
        name: "backlog",
        field: Field::Number { unit: Unit::Count, rule: Rule::Range(1, 1 << 20), store: |l, n| l.backlog = n as u32 },
        default: Preset::Is("4096"),
        owners: &[],
        words: "How many connections the kernel holds for each shard until they are accepted.",
        note: "The kernel cuts it to `net.core.somaxconn` without a word; `edgehold doctor` says so.",
        example: "",
        see: &["accepts_in_flight"],
    },
];

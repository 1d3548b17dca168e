//! The keys of `addresses`, which stand below `[limits]` for all listeners and on a listener for its own clients.

use super::super::forms::{self, Parsed};
use super::super::model::Addresses;
use super::{Field, Key, ListenerDraft, Preset, Rule, push_new};
use crate::mesh::{CONNECTIONS_MAX, Network};

/// What keys of `addresses` store into.
pub(crate) trait HasAddresses: 'static {
    /// The value of `addresses`.
    fn addresses(&mut self) -> &mut Addresses;
}

impl HasAddresses for Addresses {
    fn addresses(&mut self) -> &mut Addresses {
        self
    }
}

impl HasAddresses for ListenerDraft {
    fn addresses(&mut self) -> &mut Addresses {
        &mut self.admission
    }
}

/// The one key that stands in `[limits]` and on no route.
pub(crate) static LIMITS_ADDRESSES: [Key<Addresses>; 1] = [Key {
    words: "Who may come in at all, and how many of each address prefix, over all shards. It stands on no route.",
    ..addresses()
}];

/// The key `addresses`.
pub(super) const fn addresses<T: HasAddresses>() -> Key<T> {
    Key {
        name: "addresses",
        field: Field::Table {
            form: "a table, { connections = 2000, connects_per_second = { rate = 200, burst = 1000 } }",
            keys: const { &keys::<T>() },
        },
        default: Preset::Inner,
        words: "As [limits.addresses](#limitsaddresses), which it takes the place of for the clients of this listener.",
        note: "A client that is refused is closed at once: nothing is read of it and nothing sent, no TLS and no 503. \
               What is counted is counted before TLS, under the peer's address.",
        example: "{ connections = 2000, unauthenticated = 100 }",
        see: &["limits.addresses.connections", "limits.addresses.deny"],
        ..Key::PLAIN
    }
}

const MOST: u64 = CONNECTIONS_MAX as u64;

const fn keys<T: HasAddresses>() -> [Key<T>; 10] {
    [
        ipv4_prefix(),
        ipv6_prefix(),
        connections(),
        connects_per_second(),
        unauthenticated(),
        allow(),
        deny(),
        allow_files(),
        deny_files(),
        dry_run(),
    ]
}

const fn ipv4_prefix<T: HasAddresses>() -> Key<T> {
    Key {
        name: "ipv4_prefix",
        field: Field::count(Rule::Range(8, 32), |it: &mut T| &mut it.addresses().ipv4_prefix),
        default: Preset::Is("32"),
        words: "How many bits of an IPv4 address are counted as one client.",
        note: "Many share an address behind a NAT, and a company its /24: a limit must be wide enough for them.",
        ..Key::PLAIN
    }
}

const fn ipv6_prefix<T: HasAddresses>() -> Key<T> {
    Key {
        name: "ipv6_prefix",
        field: Field::count(Rule::Range(16, 128), |it: &mut T| &mut it.addresses().ipv6_prefix),
        default: Preset::Is("64"),
        words: "How many bits of an IPv6 address are counted as one client.",
        note: "One host may use every address of its /64, and many customers are given a /56.",
        ..Key::PLAIN
    }
}

const fn connections<T: HasAddresses>() -> Key<T> {
    Key {
        name: "connections",
        field: Field::count(Rule::ZeroOr("no limit", 1, MOST), |it: &mut T| &mut it.addresses().connections),
        default: Preset::Is("0"),
        words: "Connections that one prefix may have at once, on all shards together.",
        example: "2000",
        ..Key::PLAIN
    }
}

const fn connects_per_second<T: HasAddresses>() -> Key<T> {
    Key {
        name: "connects_per_second",
        field: Field::Table { form: "a table, { rate = 200, burst = 1000 }", keys: const { &rate::<T>() } },
        default: Preset::Inner,
        words: "Connections that one prefix may begin: so many a second, and so many at once after a pause.",
        note: "When a server starts anew all clients come at once: `burst` should have room for those of one prefix.",
        example: "{ rate = 200, burst = 1000 }",
        ..Key::PLAIN
    }
}

const fn unauthenticated<T: HasAddresses>() -> Key<T> {
    Key {
        name: "unauthenticated",
        field: Field::count(Rule::ZeroOr("no limit", 1, MOST), |it: &mut T| &mut it.addresses().unauthenticated),
        default: Preset::Is("0"),
        words: "Connections of one prefix at once of which no request has passed the gate of a route yet.",
        note: "It is what ends crowds that come and never say who they are, or say nothing at all. On a route without \
               `auth` each request that is well formed passes.",
        example: "100",
        ..Key::PLAIN
    }
}

const fn allow<T: HasAddresses>() -> Key<T> {
    Key {
        name: "allow",
        field: networks(|it, text| push(&mut it.addresses().allow, text)),
        default: Preset::Absent("everybody may come, if there is no `allow_files` either"),
        words: "The only networks whose clients may come in.",
        example: "[\"192.0.2.0/24\", \"2001:db8::/32\"]",
        ..Key::PLAIN
    }
}

const fn deny<T: HasAddresses>() -> Key<T> {
    Key {
        name: "deny",
        field: networks(|it, text| push(&mut it.addresses().deny, text)),
        default: Preset::Absent("nobody is denied"),
        words: "Networks whose clients may not come in, not even those that `allow` names.",
        example: "[\"198.51.100.7\"]",
        ..Key::PLAIN
    }
}

const fn allow_files<T: HasAddresses>() -> Key<T> {
    Key {
        name: "allow_files",
        field: files(|it, text| push_new(&mut it.addresses().allow_files, forms::file(text)?, text)),
        default: Preset::Absent("only `allow` counts"),
        words: "Files with more of `allow`: a network a line, `#` before a comment; SIGHUP reads them again.",
        note: "A file that has become unreadable or malformed changes nothing: the lists that were read last \
               stay, and the log says which line is wrong. Who is inside stays, whatever a new list says. An \
               empty file allows nobody.",
        example: "\"allow.list\"",
        ..Key::PLAIN
    }
}

const fn deny_files<T: HasAddresses>() -> Key<T> {
    Key {
        name: "deny_files",
        field: files(|it, text| push_new(&mut it.addresses().deny_files, forms::file(text)?, text)),
        default: Preset::Absent("only `deny` counts"),
        words: "Files with more of `deny`, as `allow_files`.",
        example: "[\"deny.list\", \"spamhaus.list\"]",
        ..Key::PLAIN
    }
}

const fn dry_run<T: HasAddresses>() -> Key<T> {
    Key {
        name: "dry_run",
        field: Field::Flag { store: |it: &mut T, on| it.addresses().dry_run = on },
        default: Preset::Is("false"),
        words: "Nobody is refused by any of these; who would be is counted.",
        note: "`edgehold_refusals_spared_total` says by reason how many clients would have been refused.",
        ..Key::PLAIN
    }
}

const fn rate<T: HasAddresses>() -> [Key<T>; 2] {
    [
        Key {
            name: "rate",
            field: Field::count(Rule::ZeroOr("no limit", 1, 1_000_000), |it: &mut T| &mut it.addresses().rate),
            default: Preset::Is("0"),
            words: "Connections a second, on the long run.",
            example: "200",
            ..Key::PLAIN
        },
        Key {
            name: "burst",
            field: Field::count(Rule::ZeroOr("as `rate`", 1, 10_000_000), |it: &mut T| &mut it.addresses().burst),
            default: Preset::Is("0"),
            words: "Connections at once.",
            example: "1000",
            ..Key::PLAIN
        },
    ]
}

const fn networks<T>(store: fn(&mut T, &str) -> Parsed<()>) -> Field<T> {
    let form = "a network or a list of networks, \"192.0.2.0/24\", \"2001:db8::/32\" or an address alone";
    Field::List { form, single: true, most: 4096, store }
}

const fn files<T>(store: fn(&mut T, &str) -> Parsed<()>) -> Field<T> {
    Field::List { form: "a file or a list of files with a network a line", single: true, most: 64, store }
}

fn push(list: &mut Vec<Network>, text: &str) -> Parsed<()> {
    push_new(list, text.parse()?, text)
}

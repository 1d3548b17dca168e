//! The keys that say where clients are: of `[[listener]]`, what is believed of proxies; of `[[route]]`, what upstreams
//! are told.

use super::super::forms;
use super::{Field, Key, ListenerDraft, MINUTE, Preset, RouteDraft, Rule, push_new};
use crate::app::config::model::ProxyProtocol;
use crate::mesh::Network;
use edgehold_wire::forwarded;
use std::time::Duration;

/// What is said of addresses, as it is read.
#[derive(Default)]
pub(crate) struct AddressesDraft {
    pub(crate) mode: ProxyProtocol,
    pub(crate) from: Vec<Network>,
    pub(crate) timeout: Duration,
    pub(crate) trusted_proxies: Vec<Network>,
    pub(crate) field: forwarded::Field,
}

pub(super) const PROXY_PROTOCOL: Key<ListenerDraft> = Key {
    name: "proxy_protocol",
    field: Field::Table {
        form: "a table, { mode = \"required\", from = [\"192.0.2.0/24\"] }",
        keys: &PROXY_PROTOCOL_KEYS,
    },
    default: Preset::Inner,
    words: "Whether connections begin with a PROXY header, versions 1 and 2, in which a balancer says where its client \
            is.",
    note: "It stands before TLS. The client's address is then the one that the header names, for logs, limits and \
           services; a header that names none (LOCAL, UNKNOWN) changes nothing. [gate.md](gate.md) tells the rest.",
    example: "{ mode = \"required\", from = [\"192.0.2.0/24\"] }",
    see: &["proxy_protocol.mode", "proxy_protocol.from", "proxy_protocol.timeout", "trusted_proxies"],
    ..Key::PLAIN
};

static PROXY_PROTOCOL_KEYS: [Key<ListenerDraft>; 3] = [
    Key {
        name: "mode",
        field: choice!(addresses.mode:
            "off" => ProxyProtocol::Off, "optional" => ProxyProtocol::Optional, "required" => ProxyProtocol::Required),
        default: Preset::Is("off"),
        words: "Whether there is a header: never, or with connections from `from` perhaps, or always.",
        note: "With `optional` a connection from elsewhere is a client's own, and its header is not read; with \
               `required` it is cut, and so is one without a header.",
        example: "\"required\"",
        see: &["proxy_protocol.from"],
        ..Key::PLAIN
    },
    Key {
        name: "from",
        field: Field::List {
            form: "a list of networks, \"192.0.2.0/24\", or addresses",
            single: false,
            most: 1024,
            store: |l, text| push_new(&mut l.addresses.from, forms::network(text)?, text),
        },
        default: Preset::Absent("needed where `mode` is not \"off\", but at a Unix socket, where all are believed"),
        words: "Where balancers connect from: whoever is there may name any address as that of its client.",
        example: "[\"192.0.2.0/24\"]",
        see: &["proxy_protocol.mode"],
        ..Key::PLAIN
    },
    Key {
        name: "timeout",
        field: Field::millis(Rule::Range(100, MINUTE), |l| &mut l.addresses.timeout),
        default: Preset::Is("5s"),
        words: "Time in which the header must be whole, from the accept.",
        note: "A connection without a whole header is then cut, with `optional` also one that has said nothing.",
        see: &["tls_handshake_timeout", "head_timeout"],
        ..Key::PLAIN
    },
];

pub(super) const TRUSTED_PROXIES: Key<ListenerDraft> = Key {
    name: "trusted_proxies",
    field: Field::List {
        form: "a list of networks, \"192.0.2.0/24\", or addresses",
        single: false,
        most: 1024,
        store: |l, text| push_new(&mut l.addresses.trusted_proxies, forms::network(text)?, text),
    },
    default: Preset::Absent("nobody is believed"),
    words: "Proxies whose requests say by `forwarded_field` where they come from.",
    note: "The field is read from its end, past those that are trusted, to the first address that is not: that is the \
           client's, for this request and for what it opens. Each request of a connection has its own. At a Unix \
           socket all are trusted where this is written. From anybody else the fields mean nothing.",
    example: "[\"192.0.2.0/24\", \"2001:db8::7\"]",
    see: &["forwarded_field", "proxy_protocol"],
    ..Key::PLAIN
};

pub(super) const FORWARDED_FIELD: Key<ListenerDraft> = Key {
    name: "forwarded_field",
    field: choice!(addresses.field:
        "x-forwarded-for" => forwarded::Field::XForwardedFor, "forwarded" => forwarded::Field::Forwarded),
    default: Preset::Is("x-forwarded-for"),
    words: "The field by which `trusted_proxies` tell where a request comes from; `forwarded` is that of RFC 7239.",
    note: "One only: a proxy that writes one of them lets the other pass as its client has sent it.",
    example: "\"forwarded\"",
    see: &["trusted_proxies"],
    ..Key::PLAIN
};

/// What a header towards upstreams tells beside addresses, as `proxy_protocol_tells` has it.
const TELLS: [&str; 4] = ["identity", "roles", "authority", "tls"];

pub(super) const ROUTE_PROXY_PROTOCOL: Key<RouteDraft> = Key {
    name: "proxy_protocol",
    field: Field::Flag { store: |r, on| r.proxy_protocol = on },
    default: Preset::Is("false"),
    owners: &["proxy"],
    words: "Whether each connection to the upstream begins with a PROXY header of version 2: where its client is.",
    note: "In front of everything else, TLS too. The upstream must expect it: others take it for a mistake. The \
           destination is where the client has come to as far as that is known, else the address of the listener.",
    example: "true",
    see: &["upstream", "proxy_protocol_tells"],
};

pub(super) const PROXY_PROTOCOL_TELLS: Key<RouteDraft> = Key {
    name: "proxy_protocol_tells",
    field: Field::List {
        form: "a list of \"identity\", \"roles\", \"authority\", \"tls\"",
        single: false,
        most: TELLS.len(),
        store: |r, text| {
            let word = TELLS.iter().position(|word| *word == text);
            let word = word
                .ok_or_else(|| format!("{} cannot be told — write one of {}", forms::quote(text), TELLS.join(", ")))?;
            push_new(&mut r.proxy_protocol_tells, word, text)
        },
    },
    default: Preset::Absent("all of them, as far as they are known"),
    owners: &["proxy"],
    words: "What that header tells beside addresses: who the client is found to be (TLV 0xE0) and its roles (0xE1, \
            comma-separated), the host that it has asked for, what is known of its TLS.",
    note: "What is longer than 1024 bytes is left out. Of TLS the common name of the client's certificate is told, \
           where one was verified.",
    example: "[\"identity\"]",
    see: &["proxy_protocol"],
};

impl RouteDraft {
    /// Whether the header tells this.
    pub(crate) fn tells(&self, word: &str) -> bool {
        let written = &self.proxy_protocol_tells;
        written.is_empty() || written.iter().any(|&place| TELLS[place] == word)
    }
}

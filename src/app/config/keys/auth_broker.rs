//! The keys inside of `auth` about the broker of the route, which is asked who a client is.

use super::super::model::BrokerAuthSettings;
use super::{DAY, Field, Key, Preset, RouteDraft, Rule};
use std::time::Duration;

/// What is read of them.
pub(crate) struct BrokerDraft {
    pub(crate) is_asked: bool,
    pub(crate) settings: BrokerAuthSettings,
}

impl Default for BrokerDraft {
    /// Before defaults are laid in.
    fn default() -> BrokerDraft {
        let (remember, refused_remember) = (Duration::ZERO, Duration::ZERO);
        let settings = BrokerAuthSettings { remember, refused_remember, parallel: 0, wrong_per_minute: 0 };
        BrokerDraft { is_asked: false, settings }
    }
}

pub(super) const BROKER: Key<RouteDraft> = Key {
    name: "broker",
    field: Field::Flag { store: |r, on| r.auth.broker.is_asked = on },
    default: Preset::Absent("the broker is not asked"),
    words: "Whether the broker of a route of stomp or mqtt is asked about the name and the password in CONNECT: by a \
            short session under the client's own name, which is its name here, too.",
    note: "It is asked once, for all who show the same, by way of `upstream`: what the broker allows by the address of \
           its clients, as RabbitMQ does for guest, holds for the edge's. A client that says no name is asked about as \
           well, and is nobody if it is let in. While the broker does not answer, clients are told to try again.",
    example: "true",
    see: &["auth.broker_remember", "auth.broker_parallel", "credentials", "private_as"],
    ..Key::PLAIN
};

pub(super) const REMEMBER: Key<RouteDraft> = Key {
    name: "broker_remember",
    field: Field::millis(Rule::ZeroOr("not at all", 1000, DAY), |r| &mut r.auth.broker.settings.remember),
    default: Preset::Is("1m"),
    words: "How long it is remembered that the broker lets a client in.",
    note: "A password that is changed at the broker, or a user that is deleted there, lets in so much longer.",
    see: &["auth.broker"],
    ..Key::PLAIN
};

pub(super) const REFUSED_REMEMBER: Key<RouteDraft> = Key {
    name: "broker_refused_remember",
    field: Field::millis(Rule::ZeroOr("not at all", 1000, DAY), |r| &mut r.auth.broker.settings.refused_remember),
    default: Preset::Is("10s"),
    words: "How long it is remembered that it does not.",
    see: &["auth.broker_remember"],
    ..Key::PLAIN
};

pub(super) const PARALLEL: Key<RouteDraft> = Key {
    name: "broker_parallel",
    field: Field::count(Rule::Range(1, 1024), |r| &mut r.auth.broker.settings.parallel),
    default: Preset::Is("8"),
    words: "How many sessions ask the broker at one time.",
    note: "Sixteen times as many questions wait, of one address prefix a quarter of them; those beyond are told to try \
           again.",
    see: &["auth.timeout"],
    ..Key::PLAIN
};

pub(super) const WRONG_PER_MINUTE: Key<RouteDraft> = Key {
    name: "broker_wrong_per_minute",
    field: Field::count(Rule::ZeroOr("as many as come", 1, 1_000_000), |r| {
        &mut r.auth.broker.settings.wrong_per_minute
    }),
    default: Preset::Is("60"),
    words: "How often in a minute the broker may refuse clients of one address prefix. Beyond it nothing new is asked \
            for these; who is remembered is let in.",
    note: "Who guesses passwords so has no more tries, and the broker no more work, whatever comes. Prefixes are those \
           of `limits.addresses`.",
    see: &["limits.addresses", "auth.broker_refused_remember"],
    ..Key::PLAIN
};

//! The keys of `[[route]]` about pages of other origins.

use super::super::forms;
use super::super::forms::Parsed;
use super::{DAY, Field, Key, Preset, RouteDraft, Rule, push_new};

pub(super) const ALLOW_ORIGIN: Key<RouteDraft> = Key {
    name: "allow_origin",
    field: Field::List {
        form: "an origin, \"https://example.org\", or a list of those, also \"https://*.example.org\" for those below \
               a name, \"same-host\", or \"*\" for all",
        single: true,
        most: 64,
        store: store_origin,
    },
    default: Preset::Absent("pages of the same host may open WebSockets, and no other page may read"),
    words: "Origins whose web pages may use this route.",
    note: "A browser's WebSocket names the origin of its page: one that does not stand here is refused with 403, and \
           so is a request that changes something. What only reads is answered, and the browser gives it to pages of \
           these origins only (CORS); they may ask before (preflight). Programs that are no browsers name no origin \
           and are let in. `same-host` is the host and port that the request asks for; it does not go without saying \
           once this key is written. The port is part of an origin.",
    example: "[\"https://example.org\", \"https://*.example.org\"]",
    see: &["allow_credentials", "allow_methods", "allow_headers", "expose_headers", "preflight_max_age"],
    ..Key::PLAIN
};

pub(super) const ALLOW_CREDENTIALS: Key<RouteDraft> = Key {
    name: "allow_credentials",
    field: Field::Flag { store: |r, on| r.cors.credentials = on },
    default: Preset::Is("false"),
    words: "Whether pages of the origins that `allow_origin` names may send cookies along (`withCredentials`).",
    note: "Not together with `\"*\"`: every page of the web could then read as the visitor.",
    example: "true",
    see: &["allow_origin"],
    ..Key::PLAIN
};

pub(super) const ALLOW_METHODS: Key<RouteDraft> = Key {
    name: "allow_methods",
    field: Field::List {
        form: "a list of methods, \"GET\"",
        single: false,
        most: 16,
        store: |r, text| push_new(&mut r.cors.methods, forms::token(text)?, text),
    },
    default: Preset::Absent("GET, HEAD and OPTIONS"),
    words: "The methods that a browser is told a page of `allow_origin` may use.",
    note: "What the service does not take it refuses all the same.",
    example: "[\"GET\", \"POST\"]",
    see: &["allow_origin"],
    ..Key::PLAIN
};

pub(super) const ALLOW_HEADERS: Key<RouteDraft> = Key {
    name: "allow_headers",
    field: Field::List {
        form: "a list of names of fields, \"Authorization\"",
        single: false,
        most: 64,
        store: |r, text| push_new(&mut r.cors.headers, forms::token(text)?, text),
    },
    default: Preset::Absent("Last-Event-ID, Cache-Control and Authorization"),
    words: "The request fields that a browser is told a page of `allow_origin` may send.",
    example: "[\"Authorization\", \"X-Request-ID\"]",
    see: &["allow_origin"],
    ..Key::PLAIN
};

pub(super) const EXPOSE_HEADERS: Key<RouteDraft> = Key {
    name: "expose_headers",
    field: Field::List {
        form: "a list of names of fields, \"ETag\"",
        single: false,
        most: 64,
        store: |r, text| push_new(&mut r.cors.expose, forms::token(text)?, text),
    },
    default: Preset::Absent("Last-Event-ID and Edgehold-Gap"),
    words: "The response fields that a browser gives to pages of `allow_origin`, beside those that need no leave.",
    example: "[\"ETag\"]",
    see: &["allow_origin"],
    ..Key::PLAIN
};

pub(super) const PREFLIGHT_MAX_AGE: Key<RouteDraft> = Key {
    name: "preflight_max_age",
    field: Field::millis(Rule::Range(0, DAY), |r| &mut r.cors.max_age),
    default: Preset::Is("10m"),
    words: "For how long a browser may remember what a page of `allow_origin` may do.",
    note: "Browsers have bounds of their own, of two hours or so.",
    see: &["allow_origin"],
    ..Key::PLAIN
};

fn store_origin(route: &mut RouteDraft, text: &str) -> Parsed<()> {
    let list = route.cors.allow_origin.get_or_insert_default();
    push_new(list, forms::origin_pattern(text)?, text)?;
    if list.len() > 1 && list.iter().any(|origin| origin == "*") {
        return Err("\"*\" lets all origins in — leave it out, or the others".into());
    }
    Ok(())
}

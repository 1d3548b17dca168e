//! Who may come in by a route, from what was written to what a shard works with.

use super::config;
use crate::service::gate::{CorsPlan, GatePlan, Origins};

/// The gate of a route.
pub(super) fn plan(route: &config::Route) -> GatePlan {
    GatePlan { cors: cors(route), auth: None, roles: Box::default() }
}

fn cors(route: &config::Route) -> CorsPlan {
    let written = &route.cors;
    CorsPlan {
        allow_origin: written.allow_origin.as_ref().map(|it| Origins::of(it.iter().map(String::as_str))),
        credentials: written.credentials,
        methods: listed(&written.methods, "GET, HEAD, OPTIONS"),
        headers: listed(&written.headers, "Last-Event-ID, Cache-Control, Authorization"),
        expose: listed(&written.expose, "Last-Event-ID, Edgehold-Gap"),
        max_age: u32::try_from(written.max_age.as_secs()).unwrap_or(u32::MAX),
    }
}

/// The list of a field; `usual` where nothing is written.
fn listed(words: &[String], usual: &str) -> Box<str> {
    if words.is_empty() { usual.into() } else { words.join(", ").into() }
}

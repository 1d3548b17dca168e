//! The checks no single key can make, and the merge of the draft into a `Config`.
//!
//! The room's one law: a problem is noted where the operator would change something,
//! and only once. What is missing because its value was refused has been noted by the
//! walk and is passed over here.

mod addresses;
mod admission;
mod auth;
mod client_tls;
mod feeds;
mod listeners;
mod routes;
mod rules;
mod tls;

use super::draft::Draft;
use super::keys::{FEED_TABLE, LISTENER_TABLE, ROUTE_TABLE};
use super::model::Config;
use super::report::Report;
use feeds::{check_feeds, feed};
use listeners::{check_admin, check_bare, check_listeners, listener};
use routes::{check_broadcast, check_pending, check_routes, route};
use rules::{Places, check_group, too_many};
use std::path::Path;
use tls::check_admin_tls;

/// Checks a draft; `None` where a part is missing, which has then been noted.
pub(super) fn check(draft: Draft, base: &Path, report: &mut Report<'_>) -> Option<Config> {
    let Draft { mut server, mut listeners, limits, addresses, feeds, routes } = draft;
    too_many(&listeners, &LISTENER_TABLE, report);
    too_many(&feeds, &FEED_TABLE, report);
    too_many(&routes, &ROUTE_TABLE, report);
    check_listeners(&listeners, report);
    check_admin(server.value.admin, &listeners, report);
    check_admin_tls(&mut server, base, report);
    check_group(&server, report);
    check_feeds(&feeds, &Places { admin: server.value.admin, listeners: &listeners }, report);
    check_routes(&routes, &limits, report);
    check_bare(&mut listeners, &routes, report);
    check_broadcast(&server.value, &feeds, &routes, report);
    check_pending(server.value.outbox_bytes, &limits, &routes, report);
    let addresses = admission::of_limits(&addresses, base, report);
    let listeners: Vec<_> = listeners.into_iter().map(|section| listener(section, base, report)).collect();
    let listeners: Option<Vec<_>> = listeners.into_iter().collect();
    let feeds: Vec<_> = feeds.into_iter().map(|section| feed(section, base, report)).collect();
    let feeds: Option<Vec<_>> = feeds.into_iter().collect();
    let routes: Vec<_> = routes.into_iter().map(|section| route(section, base, report)).collect();
    let routes: Option<Vec<_>> = routes.into_iter().collect();
    let (server, limits) = (server.value, limits.value);
    Some(Config { server, listeners: listeners?, limits, addresses, feeds: feeds?, routes: routes? })
}

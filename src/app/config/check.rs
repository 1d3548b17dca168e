//! The checks no single key can make, and the merge of the draft into a `Config`.
//!
//! The file's one law: a problem is noted where the operator would change something,
//! and only once. What is missing because its value was refused has been noted by the
//! walk and is passed over here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::feeds::{FEEDS_MAX, check_channels, check_feeds, check_heard, feed};
use super::keys::{FeedDraft, Key, LISTENER, ListenerDraft, Preset, ROUTE, RouteDraft, SERVICES};
use super::read::{Draft, Report, Section};
use super::{Address, Broadcast, Config, Limits, Listener, Route, Server, Service, forms};

const LISTENERS_MAX: usize = 64;
const ROUTES_MAX: usize = 4096;

/// Checks a draft; `None` where a part is missing, which has then been noted.
pub(super) fn check(draft: Draft, base: &Path, report: &mut Report<'_>) -> Option<Config> {
    let Draft { server, listeners, limits, feeds, routes } = draft;
    too_many(&listeners, LISTENERS_MAX, report);
    too_many(&feeds, FEEDS_MAX, report);
    too_many(&routes, ROUTES_MAX, report);
    check_listeners(&listeners, report);
    check_admin(server.value.admin, &listeners, report);
    check_feeds(&feeds, &Places { admin: server.value.admin, listeners: &listeners }, report);
    check_routes(&routes, &limits, report);
    check_broadcast(&server.value, &feeds, &routes, report);
    check_pending(server.value.outbox_bytes, &limits, &routes, report);
    let listeners: Option<Vec<_>> = listeners.into_iter().map(listener).collect();
    let feeds: Option<Vec<_>> = feeds.into_iter().map(feed).collect();
    let routes: Vec<_> = routes.into_iter().map(|section| route(section, base, report)).collect();
    let routes: Option<Vec<_>> = routes.into_iter().collect();
    let (server, limits) = (server.value, limits.value);
    Some(Config { server, listeners: listeners?, limits, feeds: feeds?, routes: routes? })
}

/// Where the process listens already.
pub(super) struct Places<'s> {
    pub(super) admin: Option<SocketAddr>,
    pub(super) listeners: &'s [Section<ListenerDraft>],
}

fn too_many<T>(sections: &[Section<T>], most: usize, report: &mut Report<'_>) {
    if let Some(first) = sections.get(most) {
        let words = format!("{} of these — {most} at most", sections.len());
        report.note(first.place(""), &first.label, words);
    }
}

/// Notes the keys that must be written and were not. `owner` is the service of a route, the source of a feed.
pub(super) fn require<T>(keys: &[Key<T>], section: &Section<T>, owner: Option<&str>, report: &mut Report<'_>) {
    let due = |key: &&Key<T>| matches!(key.default, Preset::Required) && !section.gives(key.name);
    let ours = |key: &&Key<T>| key.owners.is_empty() || owner.is_some_and(|owner| key.is_of(owner));
    for key in keys.iter().filter(due).filter(ours) {
        report.note_key(section, key.name, format!("is missing — write {}", key.field.expected()));
    }
}

fn check_listeners(listeners: &[Section<ListenerDraft>], report: &mut Report<'_>) {
    listeners.iter().for_each(|section| require(&LISTENER, section, None, report));
    twice(listeners, "name", |l| l.name.clone(), report);
    twice(listeners, "address", |l| l.address.clone().filter(is_fixed), report);
    listeners.iter().for_each(|section| check_kind(section, report));
}

/// Keys that an address of the other kind would never read.
fn check_kind(section: &Section<ListenerDraft>, report: &mut Report<'_>) {
    let (key, kind) = match &section.value.address {
        Some(Address::Tcp(_)) => ("mode", "a Unix socket"),
        Some(Address::Unix(_)) => ("reuse_port", "a TCP address"),
        None => return,
    };
    if section.gives(key) {
        report.note_key(section, key, format!("belongs to {kind}, which `address` is not — leave it out"));
    }
}

/// Port 0 is another port each time.
fn is_fixed(address: &Address) -> bool {
    !matches!(address, Address::Tcp(tcp) if tcp.port() == 0)
}

/// Notes a section whose value for `key` an earlier one has already.
pub(super) fn twice<T, V: Eq + std::hash::Hash>(
    sections: &[Section<T>],
    key: &str,
    value: impl Fn(&T) -> Option<V>,
    report: &mut Report<'_>,
) {
    let mut seen = HashMap::new();
    for section in sections {
        let Some(value) = value(&section.value) else {
            continue;
        };
        let first = seen.entry(value).or_insert(section);
        if first.label != section.label {
            let (line, _) = report.position(first.place(key));
            let words = format!("is the same as in {} (line {line}) — change one of them", first.label);
            report.note_key(section, key, words);
        }
    }
}

/// The admin address is bound once, without sharing: a listener there would keep it from starting.
fn check_admin(admin: Option<SocketAddr>, listeners: &[Section<ListenerDraft>], report: &mut Report<'_>) {
    let Some(admin) = admin else { return };
    for section in listeners {
        if matches!(section.value.address, Some(Address::Tcp(tcp)) if collide(tcp, admin)) {
            let words = format!("takes the admin address {admin} — choose another port, or change server.admin");
            report.note_key(section, "address", words);
        }
    }
}

pub(super) fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_port = a.port() == b.port() && a.port() != 0;
    let any = a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified());
    same_port && (any || a.ip() == b.ip())
}

fn check_routes(routes: &[Section<RouteDraft>], limits: &Section<Limits>, report: &mut Report<'_>) {
    for section in routes {
        require(&ROUTE, section, section.service(), report);
        foreign_keys(&ROUTE, section, ("route", "service"), section.service(), report);
        check_channel_part(section, report);
        only_tighter(section, limits, report);
    }
    twice(routes, "path", |r| r.path.clone().map(|path| (r.host.clone(), path)), report);
}

impl Section<RouteDraft> {
    /// The name of the route's service; `None` where it is missing or none.
    pub(super) fn service(&self) -> Option<&'static str> {
        self.value.service.map(|index| SERVICES[index])
    }
}

/// A key of another service or source is a mistake: nothing would ever read it. `kind` is what the section is and
/// what some of its keys belong to.
pub(super) fn foreign_keys<T>(
    keys: &[Key<T>],
    section: &Section<T>,
    kind: (&str, &str),
    owner: Option<&str>,
    report: &mut Report<'_>,
) {
    let (table, word) = kind;
    let Some(owner) = owner else { return };
    for key in keys.iter().filter(|key| !key.is_of(owner) && section.gives(key.name)) {
        let owners = listed(key.owners);
        let words =
            format!("`{}` belongs to {word} {owners}, this {table} has {word} {owner} — leave it out", key.name);
        report.note_key(section, key.name, words);
    }
}

/// Names as they stand in a sentence.
fn listed(names: &[&str]) -> String {
    match names {
        [front @ .., last] if !front.is_empty() => format!("{} and {last}", front.join(", ")),
        _ => names.concat(),
    }
}

fn check_channel_part(section: &Section<RouteDraft>, report: &mut Report<'_>) {
    if let Some(service) = section.service()
        && service != "broadcast"
        && section.value.broadcast.channel_in_path
    {
        let part = forms::CHANNEL_PART;
        let words = format!("`{part}` belongs to service broadcast, this route has service {service} — leave it out");
        report.note_key(section, "path", words);
    }
}

/// Routes and feeds against each other, and against the windows that there are.
fn check_broadcast(
    server: &Server,
    feeds: &[Section<FeedDraft>],
    routes: &[Section<RouteDraft>],
    report: &mut Report<'_>,
) {
    check_heard(feeds, routes, report);
    for section in routes {
        check_channels(feeds, section, report);
        if section.value.deflate.takeover && server.deflate_window_bytes == 0 {
            let words = "needs windows, and server.deflate_window_bytes is 0 — leave it out, or raise that";
            report.note_key(section, "deflate_takeover", words.into());
        }
        check_credentials(section, report);
    }
}

/// Cookies go to pages of origins that are named only.
fn check_credentials(section: &Section<RouteDraft>, report: &mut Report<'_>) {
    let route = &section.value.broadcast;
    let named = !route.allow_origin.is_empty() && route.allow_origin.iter().all(|it| it != "*");
    if route.allow_credentials && !named && !section.refuses("allow_origin") {
        let words = "is for pages of origins that are named — write them in `allow_origin`, without \"*\"";
        report.note_key(section, "allow_credentials", words.into());
    }
}

/// A head is read before its route is known, so the global limits have held for it already.
fn only_tighter(section: &Section<RouteDraft>, limits: &Section<Limits>, report: &mut Report<'_>) {
    let (own, global) = (&section.value.limits, &limits.value);
    note_looser("head_bytes", own.head_bytes, global.head_bytes, section, limits, report);
    note_looser("head_count", own.head_count, global.head_count, section, limits, report);
    note_looser("head_timeout", own.head_timeout, global.head_timeout, section, limits, report);
}

/// A route that does not write the key holds the global value and cannot be looser. Where
/// the global value was refused there is nothing to compare with.
fn note_looser<V: PartialOrd>(
    name: &str,
    own: V,
    global: V,
    section: &Section<RouteDraft>,
    limits: &Section<Limits>,
    report: &mut Report<'_>,
) {
    if own > global && !limits.refuses(name) {
        let words = format!(
            "is looser than limits.{name}, and the head is read before the route is known — \
             tighten it here or raise limits.{name}"
        );
        report.note_key(section, name, words);
    }
}

/// One peer must not be able to fill the outbox of its shard.
fn check_pending(outbox: u64, limits: &Section<Limits>, routes: &[Section<RouteDraft>], report: &mut Report<'_>) {
    let over = |limits: &Limits| outbox > 0 && u64::from(limits.max_pending) > outbox;
    let words = || format!("is more than server.outbox_bytes, {} — lower it or raise that", forms::show_bytes(outbox));
    if over(&limits.value) {
        report.note_key(limits, "max_pending", words());
    }
    for route in routes.iter().filter(|route| route.gives("max_pending") && over(&route.value.limits)) {
        report.note_key(route, "max_pending", words());
    }
}

fn listener(section: Section<ListenerDraft>) -> Option<Listener> {
    let ListenerDraft { name, address, backlog, reuse_port, mode, health } = section.value;
    Some(Listener { name: name?, address: address?, backlog, reuse_port, mode, health })
}

fn route(section: Section<RouteDraft>, base: &Path, report: &mut Report<'_>) -> Option<Route> {
    let service = service(&section, base, report)?;
    let RouteDraft { path, host, limits, deflate, .. } = section.value;
    Some(Route { path: path?, host, limits, deflate, service })
}

fn service(section: &Section<RouteDraft>, base: &Path, report: &mut Report<'_>) -> Option<Service> {
    let draft = &section.value;
    match section.service()? {
        "echo" => Some(Service::Echo { subprotocols: draft.subprotocols.clone() }),
        "page" => Some(Service::Page),
        "files" => files(section, base, report),
        "broadcast" => Some(Service::Broadcast(Box::new(broadcast(draft)))),
        _ => Some(proxy(draft)),
    }
}

fn proxy(draft: &RouteDraft) -> Service {
    Service::Proxy {
        upstreams: draft.upstreams.clone(),
        frames: draft.frames,
        subprotocols: draft.subprotocols.clone(),
        connect_timeout: draft.connect_timeout,
        end_code: draft.end_code,
    }
}

/// Whoever takes a channel by the path has said what it wants.
fn broadcast(draft: &RouteDraft) -> Broadcast {
    let subscribe = draft.subscribe.unwrap_or(!draft.broadcast.channel_in_path);
    Broadcast { subscribe, ..draft.broadcast.clone() }
}

fn files(section: &Section<RouteDraft>, base: &Path, report: &mut Report<'_>) -> Option<Service> {
    let written = section.value.root.as_ref()?;
    let root = base.join(written);
    if let Some(why) = no_folder(&root) {
        let shown = forms::quote(&written.to_string_lossy());
        let words = format!("{shown} {why} — write a folder, relative to that of the configuration file");
        report.note_key(section, "root", words);
    }
    let RouteDraft { cache_control, charset, .. } = &section.value;
    Some(Service::Files { root, cache_control: cache_control.clone(), charset: charset.clone() })
}

/// Why a path is no folder to serve; `None` where it is one.
fn no_folder(root: &PathBuf) -> Option<String> {
    match std::fs::metadata(root) {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some("is no folder".into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("is not there".into()),
        Err(error) => Some(format!("cannot be looked at ({error})")),
    }
}

//! The checks no single key can make, and the merge of the draft into a `Config`.
//!
//! The file's one law: a problem is noted where the operator would change something,
//! and only once. What is missing because its value was refused has been noted by the
//! walk and is passed over here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::keys::{Key, LISTENER, ListenerDraft, Preset, ROUTE, RouteDraft, SERVICES};
use super::read::{Draft, Report, Section};
use super::{Address, Config, Limits, Listener, Route, Service, forms};

const LISTENERS_MAX: usize = 64;
const ROUTES_MAX: usize = 4096;

/// Checks a draft; `None` where a part is missing, which has then been noted.
pub(super) fn check(draft: Draft, base: &Path, report: &mut Report<'_>) -> Option<Config> {
    let Draft { server, listeners, limits, routes } = draft;
    too_many(&listeners, LISTENERS_MAX, report);
    too_many(&routes, ROUTES_MAX, report);
    check_listeners(&listeners, report);
    check_admin(server.value.admin, &listeners, report);
    check_routes(&routes, &limits, report);
    check_pending(server.value.outbox_bytes, &limits, &routes, report);
    let listeners: Option<Vec<_>> = listeners.into_iter().map(listener).collect();
    let routes: Vec<_> = routes.into_iter().map(|section| route(section, base, report)).collect();
    let routes: Option<Vec<_>> = routes.into_iter().collect();
    Some(Config { server: server.value, listeners: listeners?, limits: limits.value, routes: routes? })
}

fn too_many<T>(sections: &[Section<T>], most: usize, report: &mut Report<'_>) {
    if let Some(first) = sections.get(most) {
        let words = format!("{} of these — {most} at most", sections.len());
        report.note(first.place(""), &first.label, words);
    }
}

/// Notes the keys that must be written and were not. `service` is that of a route.
fn require<T>(keys: &[Key<T>], section: &Section<T>, service: Option<&str>, report: &mut Report<'_>) {
    let due = |key: &&Key<T>| matches!(key.default, Preset::Required) && !section.gives(key.name);
    let ours = |key: &&Key<T>| key.services.is_empty() || service.is_some_and(|s| key.services.contains(&s));
    for key in keys.iter().filter(due).filter(ours) {
        report.note_key(section, key.name, format!("is missing — write {}", key.field.expected()));
    }
}

fn check_listeners(listeners: &[Section<ListenerDraft>], report: &mut Report<'_>) {
    listeners.iter().for_each(|section| require(&LISTENER, section, None, report));
    twice(listeners, "name", |l| l.name.clone(), report);
    twice(listeners, "address", |l| l.address.clone().filter(is_fixed), report);
}

/// Port 0 is another port each time.
fn is_fixed(address: &Address) -> bool {
    !matches!(address, Address::Tcp(tcp) if tcp.port() == 0)
}

/// Notes a section whose value for `key` an earlier one has already.
fn twice<T, V: Eq + std::hash::Hash>(
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

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_port = a.port() == b.port() && a.port() != 0;
    let any = a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified());
    same_port && (any || a.ip() == b.ip())
}

fn check_routes(routes: &[Section<RouteDraft>], limits: &Section<Limits>, report: &mut Report<'_>) {
    for section in routes {
        require(&ROUTE, section, service_name(section), report);
        foreign_keys(section, report);
        only_tighter(section, limits, report);
    }
    twice(routes, "path", |r| r.path.clone().map(|path| (r.host.clone(), path)), report);
}

fn service_name(section: &Section<RouteDraft>) -> Option<&'static str> {
    section.value.service.map(|index| SERVICES[index])
}

/// A key of another service is a mistake: nothing would ever read it.
fn foreign_keys(section: &Section<RouteDraft>, report: &mut Report<'_>) {
    let Some(service) = service_name(section) else {
        return;
    };
    let foreign = |key: &&Key<RouteDraft>| !key.services.is_empty() && !key.services.contains(&service);
    for key in ROUTE.iter().filter(foreign).filter(|key| section.gives(key.name)) {
        let owners = key.services.join(" and ");
        let words =
            format!("`{}` belongs to service {owners}, this route has service {service} — leave it out", key.name);
        report.note_key(section, key.name, words);
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
    let ListenerDraft { name, address, backlog } = section.value;
    Some(Listener { name: name?, address: address?, backlog })
}

fn route(section: Section<RouteDraft>, base: &Path, report: &mut Report<'_>) -> Option<Route> {
    let service = service(&section, base, report)?;
    let RouteDraft { path, host, limits, .. } = section.value;
    Some(Route { path: path?, host, limits, service })
}

fn service(section: &Section<RouteDraft>, base: &Path, report: &mut Report<'_>) -> Option<Service> {
    let draft = &section.value;
    let subprotocols = draft.subprotocols.clone();
    match service_name(section)? {
        "echo" => Some(Service::Echo { subprotocols }),
        "page" => Some(Service::Page),
        "files" => files(section, base, report),
        _ => Some(Service::Proxy {
            upstreams: draft.upstreams.clone(),
            frames: draft.frames,
            subprotocols,
            connect_timeout: draft.connect_timeout,
            end_code: draft.end_code,
        }),
    }
}

fn files(section: &Section<RouteDraft>, base: &Path, report: &mut Report<'_>) -> Option<Service> {
    let written = section.value.root.as_ref()?;
    let root = base.join(written);
    if let Some(why) = no_folder(&root) {
        let shown = forms::quote(&written.to_string_lossy());
        let words = format!("{shown} {why} — write a folder, relative to that of the configuration file");
        report.note_key(section, "root", words);
    }
    Some(Service::Files { root })
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

//! Routes: against each other, against the limits of all, against the feeds and windows that there are.

use super::super::draft::Section;
use super::super::forms;
use super::super::keys::{FeedDraft, ROUTE, RouteDraft, SERVICES, UpstreamTlsDraft};
use super::super::model::{
    Broadcast, Limits, Offload, Permission, Route, Server, Service, Tells, Upstream, UpstreamTlsSettings,
};
use super::super::report::Report;
use super::addresses::check_tells;
use super::auth::{auth, check_auth};
use super::client_tls;
use super::feeds::{check_channels, check_unused};
use super::rules::{foreign_keys, require, twice};
use crate::mesh::Secret;
use edgehold_wire::mqtt::topic;
use std::path::{Path, PathBuf};

impl Section<RouteDraft> {
    /// The name of the route's service; `None` where it is missing or none.
    pub(super) fn service(&self) -> Option<&'static str> {
        self.value.service.map(|index| SERVICES[index])
    }
}

pub(super) fn check_routes(routes: &[Section<RouteDraft>], limits: &Section<Limits>, report: &mut Report<'_>) {
    for section in routes {
        require(&ROUTE, section, section.service(), report);
        foreign_keys(&ROUTE, section, ("route", "service"), section.service(), report);
        check_channel_part(section, report);
        only_tighter(section, limits, report);
        check_upstream_tls(section, report);
        check_credentials(section, report);
        check_tells(section, report);
        check_auth(section, report);
        check_permissions(section, report);
        check_filters(section, report);
    }
    twice(routes, "path", |r| r.path.clone().map(|path| (r.host.clone(), path)), report);
}

/// Files without TLS are read for nobody, and a certificate needs its key.
fn check_upstream_tls(section: &Section<RouteDraft>, report: &mut Report<'_>) {
    let key = "upstream_tls";
    if !section.gives(key)
        || section.refused.iter().any(|it| it == key)
        || !section.service().is_some_and(|it| matches!(it, "proxy" | "stomp" | "mqtt"))
    {
        return;
    }
    let is_secure = |it: &Upstream| matches!(it, Upstream::Tcp { tls: Some(_), .. });
    if !section.refuses("upstream") && !section.value.upstreams.iter().any(is_secure) {
        let words = "is for TLS, and `upstream` is clear text — write \"tls://\" there, or leave it out";
        return report.note_key(section, key, words.into());
    }
    client_tls::check_pair(section, key, report);
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
pub(super) fn check_broadcast(
    server: &Server,
    feeds: &[Section<FeedDraft>],
    routes: &[Section<RouteDraft>],
    report: &mut Report<'_>,
) {
    check_unused(feeds, routes, report);
    for section in routes {
        check_channels(feeds, section, report);
        if section.value.deflate.takeover && server.deflate_window_bytes == 0 {
            let words = "needs windows, and server.deflate_window_bytes is 0 — leave it out, or raise that";
            report.note_key(section, "deflate_takeover", words.into());
        }
    }
}

/// An entry that names nothing would hold for nothing.
fn check_permissions(section: &Section<RouteDraft>, report: &mut Report<'_>) {
    let is_empty = |it: &Permission| it.destinations.is_empty();
    let refused = section.refuses("permissions");
    if !refused && section.value.offload.permissions.iter().any(is_empty) {
        let words = "has an entry without `destinations` — write which destinations it is for";
        report.note_key(section, "permissions", words.into());
    }
}

/// What is written for MQTT are topic filters (version 5, section 4.7), without a group.
fn check_filters(section: &Section<RouteDraft>, report: &mut Report<'_>) {
    if section.service() != Some("mqtt") {
        return;
    }
    let keys = &section.value.offload;
    let of_permissions = keys.permissions.iter().flat_map(|it| &it.destinations).collect();
    let lists: [(&str, Vec<&String>); 3] = [
        ("share", keys.share.iter().collect()),
        ("private", keys.private.iter().collect()),
        ("permissions", of_permissions),
    ];
    for (key, filters) in lists {
        let is_wrong = |it: &&String| !topic::is_filter(it) || topic::shared(it).is_some();
        if let Some(wrong) = filters.into_iter().find(is_wrong) {
            let shown = forms::quote(wrong);
            let words = format!("{shown} is no topic filter — write `+` and `#` as whole levels, `#` as the last one");
            report.note_key(section, key, words);
        }
    }
}

/// Cookies go to pages of origins that are named only.
fn check_credentials(section: &Section<RouteDraft>, report: &mut Report<'_>) {
    let cors = &section.value.cors;
    let named = cors.allow_origin.as_ref().is_some_and(|origins| origins.iter().all(|it| it != "*"));
    if cors.credentials && !named && !section.refuses("allow_origin") {
        let words = "is for pages of origins that are named — write them in `allow_origin`, without \"*\"";
        report.note_key(section, "allow_credentials", words.into());
    }
}

/// A head is read before its route is known, so the global limits have held for it already.
fn only_tighter(section: &Section<RouteDraft>, limits: &Section<Limits>, report: &mut Report<'_>) {
    let (own, global) = (&section.value.limits, &limits.value);
    note_looser("head_bytes", &own.head_bytes, &global.head_bytes, section, limits, report);
    note_looser("head_count", &own.head_count, &global.head_count, section, limits, report);
    note_looser("head_timeout", &own.head_timeout, &global.head_timeout, section, limits, report);
}

/// A route that does not write the key holds the global value and cannot be looser. Where
/// the global value was refused there is nothing to compare with.
fn note_looser<V: PartialOrd>(
    name: &str,
    own: &V,
    global: &V,
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
pub(super) fn check_pending(
    outbox: u64,
    limits: &Section<Limits>,
    routes: &[Section<RouteDraft>],
    report: &mut Report<'_>,
) {
    let over = |limits: &Limits| outbox > 0 && u64::from(limits.max_pending) > outbox;
    let words = || format!("is more than server.outbox_bytes, {} — lower it or raise that", forms::show_bytes(outbox));
    if over(&limits.value) {
        report.note_key(limits, "max_pending", words());
    }
    for route in routes.iter().filter(|route| route.gives("max_pending") && over(&route.value.limits)) {
        report.note_key(route, "max_pending", words());
    }
}

pub(super) fn route(section: Section<RouteDraft>, base: &Path, report: &mut Report<'_>) -> Option<Route> {
    let auth = auth(&section, base, report);
    let service = service(&section, base, report)?;
    let RouteDraft { path, host, limits, deflate, cors, roles, shares, .. } = section.value;
    Some(Route { path: path?, host, limits, deflate, cors, auth, roles, shares, service })
}

fn service(section: &Section<RouteDraft>, base: &Path, report: &mut Report<'_>) -> Option<Service> {
    let draft = &section.value;
    match section.service()? {
        "echo" => Some(Service::Echo { subprotocols: draft.subprotocols.clone() }),
        "page" => Some(Service::Page),
        "files" => files(section, base, report),
        "broadcast" => Some(Service::Broadcast(Box::new(broadcast(draft)))),
        "proxy" => Some(proxy(section, base, report)),
        "stomp" => Some(Service::Stomp(Box::new(offload(section, base, report)))),
        "mqtt" => Some(Service::Mqtt(Box::new(offload(section, base, report)))),
        word => unreachable!("{word} is a value of the key `service` without a service"),
    }
}

fn proxy(section: &Section<RouteDraft>, base: &Path, report: &mut Report<'_>) -> Service {
    let draft = &section.value;
    Service::Proxy {
        upstreams: upstreams(section, base, report),
        frames: draft.frames,
        subprotocols: draft.subprotocols.clone(),
        connect_timeout: draft.connect_timeout,
        end_code: draft.end_code,
        proxy_protocol: draft.proxy_protocol.then(|| tells(draft)),
    }
}

fn offload(section: &Section<RouteDraft>, base: &Path, report: &mut Report<'_>) -> Offload {
    let draft = &section.value;
    Offload {
        upstreams: upstreams(section, base, report),
        connect_timeout: draft.connect_timeout,
        user: draft.offload.user.clone(),
        password: password(section, base, report),
        snapshot: draft.broadcast.snapshot,
        subscriptions_max: draft.broadcast.subscriptions_max,
        slow_client: draft.broadcast.slow_client,
        keys: draft.offload.clone(),
    }
}

/// The first line of the file.
fn password(section: &Section<RouteDraft>, base: &Path, report: &mut Report<'_>) -> Option<Secret> {
    let file = section.value.offload.password_file.as_ref()?;
    match std::fs::read_to_string(base.join(file)) {
        Ok(text) => Some(Secret::new(text.lines().next().unwrap_or_default())),
        Err(error) => {
            let shown = forms::quote(&file.to_string_lossy());
            let words = format!("{shown} cannot be read ({error}) — write a file whose first line is the password");
            report.note_key(section, "credentials.password_file", words);
            None
        }
    }
}

/// What a PROXY header tells beside addresses.
fn tells(draft: &RouteDraft) -> Tells {
    Tells {
        identity: draft.tells("identity"),
        roles: draft.tells("roles"),
        authority: draft.tells("authority"),
        tls: draft.tells("tls"),
    }
}

/// Those with TLS speak it as the route says.
fn upstreams(section: &Section<RouteDraft>, base: &Path, report: &mut Report<'_>) -> Vec<Upstream> {
    let draft = &section.value;
    let files = client_tls::files((&draft.upstream_tls.files, "upstream_tls"), section, base, report);
    let UpstreamTlsDraft { server_name, alpn, .. } = &draft.upstream_tls;
    let settings = UpstreamTlsSettings { files, server_name: server_name.clone(), alpn: alpn.clone() };
    let mut upstreams = draft.upstreams.clone();
    for upstream in &mut upstreams {
        if let Upstream::Tcp { tls: Some(tls), .. } = upstream {
            tls.clone_from(&Box::new(settings.clone()));
        }
    }
    upstreams
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

//! What shards are told of a configuration, in their units: sizes at the start, and what may be exchanged later.

use super::config::{self, Config, Upstream};
use super::derive::Derived;
use super::generation::Generation;
use super::tls::UpstreamsTls;
use super::{broadcast, offload};
use crate::control::stats::Counts;
use crate::engine::Address;
use crate::engine::files::local_device;
use crate::mesh::{Health, ListenerTls, Rate, UpstreamTls};
use crate::service::files::{self, FilesSettings};
use crate::service::proxy;
use crate::service::upstreams::{Backoff, Place, Placed, Places};
use crate::service::{self, Route, Routes, Target, echo};
use crate::shard::clock::ticks;
use crate::shard::service::{self as shard, AddressRules, Deflate, RouteLimits, ShardSettings, Share, Shares};
use edgehold_wire::http1;
use edgehold_wire::ws::CloseCode;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The kernel takes at most 32 buffers for a multishot receive before it lets others go first (io_uring/net.c,
/// MULTISHOT_MAX_RETRY), of 64 KiB at most.
const WAKE_BYTES: usize = 32 * (64 << 10);

/// What a letter of the control thread may take on top of what it is about.
const LETTER: Duration = Duration::from_secs(1);

/// What is the same in all generations of a server, and for all of its shards.
pub struct Common {
    /// Of this run: part of the id of each message.
    pub epoch: u32,
    /// Counts that all shards share.
    pub counts: Counts,
}

/// What all shards share of the upstreams, by their numbers; `None`: of one that only older generations have.
pub type UpstreamTable = Vec<Option<SharedUpstream>>;

/// What all shards share of an upstream.
#[derive(Clone, Debug)]
pub struct SharedUpstream {
    /// Whether it answers.
    pub health: Arc<Health>,
    /// TLS towards it; `None`: clear text.
    pub tls: Option<UpstreamTls>,
}

/// The table of a generation. What is known of upstreams that were in the one `before` holds on; `tls` is for those
/// that are new.
pub fn upstream_table(generation: &Generation, before: &UpstreamTable, tls: &UpstreamsTls) -> UpstreamTable {
    let new = |it: &Upstream| SharedUpstream {
        health: Arc::new(Health::new(generation.upstream_name(it))),
        tls: tls.get(it).cloned(),
    };
    let shown = generation.by_upstream(new).into_iter().enumerate();
    let known = |number: usize| before.get(number).cloned().flatten();
    shown.map(|(number, new)| new.map(|new| known(number).unwrap_or(new))).collect()
}

/// What a shard is built with.
pub(super) fn at_start(
    generation: &Generation,
    derived: &Derived,
    (shard, tls): (usize, &[Option<ListenerTls>]),
) -> ShardSettings {
    let config = &*generation.config;
    ShardSettings {
        shard,
        slots: derived.slots_per_shard,
        spare_slots: derived.spare_slots,
        accepts_in_flight: u32::from(config.server.accepts_in_flight),
        listeners: config.listeners.len(),
        addresses: config.listeners.iter().map(address_rules).collect(),
        bare: config.listeners.iter().map(|it| it.protocol != config::Protocol::Http).collect(),
        tls: tls.to_vec(),
        upstreams: generation.by_upstream(|_| ()).len(),
        limits: limits_by_number(generation).into_iter().flatten().collect(),
        outbox_bytes: derived.outbox_bytes,
        deflate_window_bytes: config.server.deflate_window_bytes,
        tls_handshake_bytes: config.server.tls_handshake_bytes,
        tls_handshake_timeout: config.server.tls_handshake_timeout,
        turn_events: config.server.turn_events,
        park_after: config.server.park_after,
    }
}

fn address_rules(listener: &config::Listener) -> AddressRules {
    let config::ClientAddresses { proxy_protocol, from, timeout, trusted_proxies, field } = &listener.addresses;
    AddressRules {
        proxy_protocol: *proxy_protocol,
        from: from.iter().copied().collect(),
        header_ticks: ticks(*timeout),
        trusted_proxies: trusted_proxies.iter().copied().collect(),
        field: *field,
        address: match &listener.address {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        },
    }
}

/// What takes the place of a shard's settings while it runs ([`ToShard::Exchange`](crate::mesh::ToShard::Exchange)).
pub fn exchange(
    generation: &Generation,
    common: &Common,
    upstreams: &UpstreamTable,
) -> shard::Generation<service::Settings> {
    let services = services(generation, common, upstreams);
    shard::Generation { number: generation.number, limits: limits_by_number(generation), services }
}

/// What services are told.
pub fn services(generation: &Generation, common: &Common, upstreams: &UpstreamTable) -> service::Settings {
    let config = &*generation.config;
    service::Settings {
        routes: routes(generation),
        health: config.listeners.iter().map(|it| it.health.clone()).collect(),
        redirects: redirects(config),
        proxy: places(generation, upstreams),
        files: files_settings(config, &common.counts),
        broadcast: broadcast::settings(generation, common.epoch),
        stomp: offload::stomp(generation, common.epoch, upstreams),
        mqtt: offload::mqtt(generation, common.epoch, upstreams),
        bare: bare(config),
        ..service::Settings::default()
    }
}

/// The routes of listeners without HTTP: host and path.
fn bare(config: &Config) -> Vec<Option<(Option<String>, String)>> {
    let speaks = |protocol, service: &config::Service| match protocol {
        config::Protocol::Http => false,
        config::Protocol::Stomp => matches!(service, config::Service::Stomp(_)),
        config::Protocol::Mqtt => matches!(service, config::Service::Mqtt(_)),
    };
    let named = |listener: &config::Listener| {
        let path = listener.route.as_ref()?;
        let is_it = |it: &&config::Route| it.path == *path && speaks(listener.protocol, &it.service);
        config.routes.iter().find(is_it).map(|it| (it.host.clone(), it.path.clone()))
    };
    config.listeners.iter().map(named).collect()
}

/// A listener that redirects sends its clients to the first one with TLS; where another program has that, to its usual
/// port.
fn redirects(config: &Config) -> Vec<Option<u16>> {
    let secure = config.listeners.iter().find(|it| it.tls.is_some());
    let port = match secure.map(|it| &it.address) {
        Some(Address::Tcp(address)) => address.port(),
        _ => 443,
    };
    config.listeners.iter().map(|it| it.redirect_https.then_some(port)).collect()
}

// ---- limits ----

/// Number 0: the limits for all, until a route is known; number n + 1: those of route n.
fn limits_by_number(generation: &Generation) -> Vec<Option<RouteLimits>> {
    let unknown = limits(&generation.config.limits, u32::MAX / 4, (Deflate::default(), Shares::default()));
    let routes = generation.by_route(limits_of_route);
    std::iter::once(Some(unknown)).chain(routes).collect()
}

/// The control thread answers within `timeout`; its letter may take a little longer.
fn limits_of_route(route: &config::Route) -> RouteLimits {
    let of_all = limits(&route.limits, keep_alive_ticks(&route.service), (route.deflate, shares(route)));
    match route.auth.as_deref() {
        None => of_all,
        Some(auth) => RouteLimits {
            auth_ticks: ticks(auth.timeout + LETTER),
            expired_code: CloseCode(auth.expired_code),
            ..of_all
        },
    }
}

/// Only streams of broadcast routes are kept alive.
fn keep_alive_ticks(service: &config::Service) -> u32 {
    match service {
        config::Service::Broadcast(route) => ticks(route.keep_alive),
        _ => u32::MAX / 4,
    }
}

fn shares(route: &config::Route) -> Shares {
    let config::Shares { connections, each_connections, messages, bytes, exceeding } = route.shares;
    let some = |limit: u32| (limit > 0).then_some(limit);
    let rate = |(rate, burst)| (rate > 0).then_some(Rate { rate, burst: if burst == 0 { rate } else { burst } });
    let closes = exceeding == config::Exceeding::Close;
    let share = Share { connections: some(each_connections), messages: rate(messages), bytes: rate(bytes), closes };
    let is_limited = share.connections.is_some() || share.messages.is_some() || share.bytes.is_some();
    Shares { connections: some(connections), each: is_limited.then_some(share) }
}

fn limits(limits: &config::Limits, keep_alive_ticks: u32, (deflate, shares): (Deflate, Shares)) -> RouteLimits {
    let head_bytes = limits.head_bytes as usize;
    RouteLimits {
        head: http1::HeadLimits {
            head_bytes,
            head_count: usize::from(limits.head_count),
            target_bytes: head_bytes / 2,
        },
        message_bytes: limits.message_bytes,
        head_ticks: ticks(limits.head_timeout),
        idle_ticks: ticks(limits.idle_timeout),
        shares,
        auth_ticks: ticks(limits.idle_timeout),
        expired_code: CloseCode::POLICY_VIOLATION,
        keep_alive_ticks,
        close_ticks: ticks(limits.close_timeout),
        max_pending: limits.max_pending as usize,
        connection_bytes: connection_bytes(limits),
        deflate,
    }
}

/// Where it is not written: a message on its way out and the next one on its way in, what waits on both sides, and what
/// one wake of a receive may bring at most.
fn connection_bytes(limits: &config::Limits) -> usize {
    match limits.connection_bytes {
        0 => 2 * (limits.message_bytes as usize + limits.max_pending as usize) + WAKE_BYTES,
        bytes => bytes as usize,
    }
}

// ---- routes ----

fn routes(generation: &Generation) -> Arc<Routes> {
    let route = |route: &config::Route| Route {
        path: route.path.clone(),
        below: route.below(),
        host: route.host.clone(),
        limits: generation.route(route).map_or(0, |number| number + 1),
        gate: Arc::new(super::gate::plan(route)),
        target: target(generation, route),
    };
    Arc::new(generation.config.routes.iter().map(route).collect())
}

fn target(generation: &Generation, route: &config::Route) -> Target {
    match &route.service {
        config::Service::Echo { subprotocols } => Target::Echo(echo::EchoPlan { subprotocols: subprotocols.clone() }),
        config::Service::Page => Target::Page(()),
        config::Service::Stomp(written) => Target::Stomp(Arc::new(offload::plan(generation, route, written))),
        config::Service::Mqtt(written) => Target::Mqtt(Arc::new(offload::plan(generation, route, written))),
        config::Service::Broadcast(_) => Target::Broadcast(generation.broadcast(route).unwrap_or_default()),
        config::Service::Files { root, cache_control, charset } => {
            let (root, cache_control, charset) = (root.clone(), cache_control.clone(), charset.clone());
            let device = local_device(&root);
            Target::Files(files::FilesPlan { site: Arc::new(files::Site { root, device, cache_control, charset }) })
        }
        config::Service::Proxy { upstreams, frames, subprotocols, connect_timeout, end_code, proxy_protocol } => {
            Target::Proxy(Arc::new(proxy::ProxyPlan {
                upstreams: upstreams.iter().filter_map(|it| generation.upstream(it)).collect(),
                frames: *frames,
                subprotocols: subprotocols.clone(),
                connect_ticks: ticks(*connect_timeout),
                end_code: CloseCode(*end_code),
                proxy_protocol: *proxy_protocol,
            }))
        }
    }
}

// ---- services ----

/// The files of all shards are counted together.
fn files_settings(config: &Config, counts: &Counts) -> FilesSettings {
    FilesSettings {
        queue: config.server.file_queue as usize,
        wait: config.server.file_wait,
        held_most: counts.files_held_limit,
        held: counts.files_held.0.clone(),
    }
}

pub(super) fn places(generation: &Generation, upstreams: &UpstreamTable) -> Places {
    let places = generation.by_upstream(place).into_iter().zip(upstreams);
    let placed = |(place, shared): (Option<Place>, &Option<SharedUpstream>)| {
        let SharedUpstream { health, tls } = shared.clone()?;
        Some(Placed { place: place?, health, tls })
    };
    let server = &generation.config.server;
    let backoff = Backoff { first: server.upstream_backoff, max: server.upstream_backoff_max };
    Places { upstreams: places.map(placed).collect(), backoff }
}

fn place(upstream: &Upstream) -> Place {
    match upstream {
        Upstream::Tcp { host, port, .. } => match host.parse() {
            Ok(address) => Place::Known(SocketAddr::new(address, *port)),
            Err(_) => Place::Named,
        },
        Upstream::Unix(path) => Place::Unix(PathBuf::from(path)),
    }
}

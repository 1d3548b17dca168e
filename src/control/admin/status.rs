//! How the server is: for people, for Prometheus, for balancers, and as JSON.

use super::metrics::{self, Snapshot};
use super::state::{AdminState, going_down};
use crate::control::auth::SourceState;
use crate::control::certificates::{Shown, TlsState};
use crate::control::feeds::Feed;
use crate::control::reports::{Reports, Seen};
use crate::mesh::{Counters, Refused, ShardNumber, Stage};
use axum::extract::State as Extract;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

/// `GET /`: a page that links what there is.
pub(super) async fn show_root() -> Html<&'static str> {
    Html(include_str!("root.html"))
}

/// `GET /metrics`, for Prometheus.
pub(super) async fn show_metrics(Extract(state): Extract<Arc<AdminState>>) -> Response {
    let Some(reports) = state.reports().await else { return going_down() };
    let snapshot = Snapshot::new(reports.shards, &state.labels, state.started.elapsed())
        .with_feeds(&state.feeds, state.publisher.backlogs())
        .with_counts(&state.counts)
        .with_bodies(&state.bodies);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::render(&snapshot)).into_response()
}

/// `GET /healthz`: 200 where every shard has answered in time, else 503.
pub(super) async fn show_health(Extract(state): Extract<Arc<AdminState>>) -> Response {
    let Some(reports) = state.reports().await else { return going_down() };
    let silent = reports.shards.iter().filter(|it| it.late.is_some()).count();
    match silent {
        0 => "ok\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, format!("{silent} shards do not answer\n")).into_response(),
    }
}

/// `GET /readyz`: 200 where every shard has answered in time and new clients are accepted, else 503.
pub(super) async fn show_readiness(Extract(state): Extract<Arc<AdminState>>) -> Response {
    let Some(reports) = state.reports().await else { return going_down() };
    let is_open = |it: &Seen| it.report.as_ref().is_some_and(|report| !report.counters.draining);
    let ready = |it: &Seen| it.late.is_none() && is_open(it);
    let all_ready = !reports.stopping && reports.shards.iter().all(ready);
    if all_ready { "ready\n".into_response() } else { going_down() }
}

/// `GET /v1/status`: the server, its shards, upstreams and feeds as JSON.
pub(super) async fn show_status(Extract(state): Extract<Arc<AdminState>>, request: HeaderMap) -> Response {
    let Some(reports) = state.reports().await else { return going_down() };
    let mut response = axum::Json(status(&state, &reports)).into_response();
    state.allow_origin(&request, &mut response);
    response
}

fn status(state: &AdminState, reports: &Reports) -> Value {
    let shards = reports.shards.iter().enumerate().map(|(shard, seen)| shard_status(shard, seen));
    let upstreams = state.labels.upstreams.iter().enumerate();
    let upstreams = upstreams.map(|(number, name)| upstream_status((state, reports), number, name));
    let clients = |stage| sum(reports, |counters| counters.clients_in(stage));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": state.started.elapsed().as_secs(),
        "stopping": reports.stopping,
        "connections": Stage::ALL.iter().map(|&stage| clients(stage)).sum::<u64>(),
        "resident_memory_bytes": metrics::resident_bytes(),
        "clients_refused_full": sum(reports, |counters| counters.refusals[Refused::Full as usize]),
        "accept_errors": sum(reports, |counters| counters.accept_errors),
        "log_lines_dropped": state.counts.log_dropped.get(),
        "shards": shards.collect::<Vec<_>>(),
        "upstreams": upstreams.collect::<Vec<_>>(),
        "feeds": state.feeds.iter().map(|it| feed_status(it)).collect::<Vec<_>>(),
        "auth": state.counts.auth.sources.iter().map(|it| source_status(it)).collect::<Vec<_>>(),
        "tls": state.counts.tls.iter().map(|it| tls_status(it)).collect::<Vec<_>>(),
    })
}

/// The sum of a count over the last reports of all shards.
fn sum(reports: &Reports, count: impl Fn(&Counters) -> u64) -> u64 {
    reports.shards.iter().filter_map(|it| it.report.as_ref()).map(|report| count(&report.counters)).sum()
}

fn upstream_status((state, reports): (&AdminState, &Reports), number: usize, name: &str) -> Value {
    json!({
        "name": name,
        "up": state.labels.health.get(number).map(|health| health.is_up()),
        "connections": sum(reports, |counters| counters.upstreams[number].connections),
        "failures": sum(reports, |counters| counters.upstreams[number].failures),
        "tls_failure": state.labels.upstream_tls.get(number).and_then(|tls| tls.as_ref()?.failure()),
    })
}

fn feed_status(feed: &Feed) -> Value {
    json!({
        "name": feed.settings.name,
        "source": feed.settings.source.to_string(),
        "state": feed.stats.state().word(),
        "since": feed.stats.since(),
        "messages": feed.stats.messages(),
        "last_error": feed.stats.last_error(),
    })
}

fn source_status(source: &SourceState) -> Value {
    json!({
        "kind": source.kind,
        "source": source.name,
        "entries": source.entries.get(),
        "age_seconds": source.has_been_good().then(|| source.age()),
        "failures": source.failures.get(),
        "last_error": source.why().as_deref(),
    })
}

fn tls_status(tls: &TlsState) -> Value {
    let standing = tls.standing();
    let certificate = |it: &Shown| json!({ "file": it.file, "names": it.names, "expires": it.ends });
    json!({
        "listener": tls.listener,
        "certificates": standing.certificates.iter().map(certificate).collect::<Vec<_>>(),
        "crl_next_update": standing.lists_end,
        "reloads": tls.replaced.get(),
        "reloads_failed": tls.refused.get(),
        "refusal": standing.refusal,
    })
}

/// From the shard's last report, even if it is late.
fn shard_status(shard: ShardNumber, seen: &Seen) -> Value {
    let counters = seen.report.as_ref().map(|it| &it.counters);
    json!({
        "shard": shard,
        "answers": seen.late.is_none(),
        "slots": counters.map(|it| it.slots),
        "used": counters.map(|it| it.used),
        "full": counters.map(|it| it.used >= it.slots),
        "parked": counters.map(|it| it.clients_in(Stage::Parked)),
        "busy": counters.map(|it| it.clients_in(Stage::Busy)),
    })
}

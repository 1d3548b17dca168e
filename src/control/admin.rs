//! The admin address: what operators and their tools see.

use super::feeds::{Feed, Publisher};
use super::metrics::{self, Labels, Snapshot};
use super::switchboard::{Ask, Reports};
use super::{channels, publish};
use crate::mesh::{Listeners, Report, Stage};
use axum::Router;
use axum::extract::State as Extract;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// What the handlers share.
pub(super) struct State {
    asks: mpsc::UnboundedSender<Ask>,
    labels: Labels,
    allow_origin: Vec<String>,
    begun: Instant,
    pub(super) feeds: Arc<[Arc<Feed>]>,
    publisher: Publisher,
}

impl State {
    pub(super) fn new(
        asks: mpsc::UnboundedSender<Ask>,
        labels: Labels,
        allow_origin: Vec<String>,
        feeds: Arc<[Arc<Feed>]>,
        publisher: Publisher,
    ) -> Arc<State> {
        Arc::new(State { asks, labels, allow_origin, begun: Instant::now(), feeds, publisher })
    }

    /// Asks every shard how it is. `None` only while the server is going down.
    async fn reports(&self) -> Option<Reports> {
        let (reply, replied) = oneshot::channel();
        self.asks.send(Ask::Reports(reply)).ok()?;
        replied.await.ok()
    }

    /// Asks every shard who listens to a channel, or to any. `None` only while the server is going down.
    pub(super) async fn listeners(&self, channel: Option<Arc<str>>) -> Option<Vec<Option<Listeners>>> {
        let (reply, replied) = oneshot::channel();
        self.asks.send(Ask::Listeners(channel, reply)).ok()?;
        replied.await.ok()
    }

    /// Whether a page of this origin may use the address. Tools that are not browsers send no origin.
    pub(super) fn allows(&self, asked: &HeaderMap) -> bool {
        asked.get(header::ORIGIN).is_none_or(|origin| self.is_allowed(origin))
    }

    fn is_allowed(&self, origin: &HeaderValue) -> bool {
        self.allow_origin.iter().any(|it| it.as_bytes() == origin.as_bytes())
    }
}

/// Serves until the runtime ends.
pub(super) async fn serve(listener: TcpListener, state: Arc<State>) {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(show_health))
        .route("/readyz", get(show_readiness))
        .route("/v1/status", get(show_status))
        .route("/v1/channels", get(channels::show_all))
        .route("/v1/channels/{*channel}", get(channels::show_one))
        .route("/v1/publish", post(publish::lines))
        .route("/v1/publish/{*channel}", post(publish::one))
        .with_state(state);
    let served = async { axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await };
    if let Err(error) = served.await {
        tracing::error!(%error, "the admin address has failed");
    }
}

async fn show_metrics(Extract(state): Extract<Arc<State>>) -> Response {
    let Some(reports) = state.reports().await else { return going_down() };
    let snapshot = Snapshot::new(reports.shards, &state.labels, state.begun.elapsed());
    let snapshot = snapshot.with_feeds(&state.feeds, state.publisher.backlogs());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::render(&snapshot)).into_response()
}

/// Well: every shard answers.
async fn show_health(Extract(state): Extract<Arc<State>>) -> Response {
    let Some(reports) = state.reports().await else { return going_down() };
    let silent = reports.shards.iter().filter(|it| it.is_none()).count();
    match silent {
        0 => "ok\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, format!("{silent} shards do not answer\n")).into_response(),
    }
}

/// Ready: every shard answers, and new clients are taken.
async fn show_readiness(Extract(state): Extract<Arc<State>>) -> Response {
    let Some(reports) = state.reports().await else { return going_down() };
    let ready = |it: &Option<Report>| it.as_ref().is_some_and(|report| !report.tally.quiescing);
    match !reports.stopping && reports.shards.iter().all(ready) {
        true => "ready\n".into_response(),
        false => going_down(),
    }
}

pub(super) fn going_down() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "not taking clients\n").into_response()
}

async fn show_status(Extract(state): Extract<Arc<State>>, asked: HeaderMap) -> Response {
    let Some(reports) = state.reports().await else { return going_down() };
    let mut response = axum::Json(status(&state, &reports)).into_response();
    allow_origin(&state, &asked, &mut response);
    response
}

fn status(state: &State, reports: &Reports) -> serde_json::Value {
    let shards: Vec<_> = reports.shards.iter().enumerate().map(|(shard, report)| shard_status(shard, report)).collect();
    let clients = |stage| -> u64 { reports.shards.iter().flatten().map(|it| it.tally.clients_in(stage)).sum() };
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": state.begun.elapsed().as_secs(),
        "stopping": reports.stopping,
        "connections": Stage::ALL.iter().map(|&stage| clients(stage)).sum::<u64>(),
        "resident_memory_bytes": metrics::resident_bytes(),
        "shards": shards,
        "upstreams": upstreams_status(&state.labels),
        "feeds": state.feeds.iter().map(|it| feed_status(it)).collect::<Vec<_>>(),
    })
}

fn upstreams_status(labels: &Labels) -> Vec<serde_json::Value> {
    let named = labels.upstreams.iter().zip(labels.health.iter());
    named.map(|(name, health)| serde_json::json!({ "name": name, "up": health.is_up() })).collect()
}

fn feed_status(feed: &Feed) -> serde_json::Value {
    serde_json::json!({
        "name": feed.settings.name,
        "source": feed.settings.source.to_string(),
        "state": feed.figures.state().word(),
        "since": feed.figures.since(),
        "messages": feed.figures.messages(),
        "last_error": feed.figures.last_error(),
    })
}

fn shard_status(shard: usize, report: &Option<Report>) -> serde_json::Value {
    let Some(tally) = report.as_ref().map(|it| &it.tally) else {
        return serde_json::json!({ "shard": shard, "answers": false });
    };
    serde_json::json!({
        "shard": shard,
        "answers": true,
        "slots": tally.slots,
        "used": tally.used,
        "parked": tally.clients_in(Stage::Parked),
        "busy": tally.clients_in(Stage::Busy),
    })
}

/// The Fetch standard's CORS check, for the origins that the configuration names.
pub(super) fn allow_origin(state: &State, asked: &HeaderMap, response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = asked.get(header::ORIGIN) else { return };
    if state.is_allowed(origin) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

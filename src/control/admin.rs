//! The admin address: what operators and their tools see.

use super::dispatcher::Ask;
use super::doorkeeper::{self, Spare};
use super::feeds::{Feed, Publisher};
use super::metrics::{self, Labels, Snapshot};
use super::reports::{Reports, Seen};
use super::stats::{Count, Counts};
use super::{AdminRules, channels, publish};
use crate::mesh::{Counters, Refused, Stage, SubscriberCounts, Wanted};
use axum::extract::{Request, State as Extract};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio::time::{sleep, timeout};

/// Connections beyond `admin_connections`, on which only health and metrics are answered.
const SPARE: usize = 8;

/// How long such a connection may last.
const SPARE_TIME: Duration = Duration::from_secs(5);

/// Bytes of a request's head, at most; hyper takes no less.
const HEAD_BYTES: usize = 16 << 10;

/// Those who wait for their turn to look at the channels, at most.
const LOOKING: usize = 8;

/// When accepting is tried again where descriptors are short.
const REST: Duration = Duration::from_millis(100);

/// What the handlers share.
pub(super) struct AdminState {
    asks: mpsc::Sender<Ask>,
    labels: Labels,
    counts: Counts,
    pub(super) rules: AdminRules,
    begun: Instant,
    pub(super) feeds: Arc<[Arc<Feed>]>,
    publisher: Publisher,
    looking: Semaphore,
    look: Semaphore,
}

impl AdminState {
    pub(super) fn new(
        asks: mpsc::Sender<Ask>,
        (labels, counts): (Labels, Counts),
        rules: AdminRules,
        (feeds, publisher): (Arc<[Arc<Feed>]>, Publisher),
    ) -> Arc<AdminState> {
        let (looking, look) = (Semaphore::new(LOOKING), Semaphore::new(1));
        Arc::new(AdminState { asks, labels, counts, rules, begun: Instant::now(), feeds, publisher, looking, look })
    }

    /// Asks every shard how it is. `None` only while the server is going down.
    async fn reports(&self) -> Option<Reports> {
        let (reply, replied) = oneshot::channel();
        self.asks.send(Ask::Reports(reply)).await.ok()?;
        replied.await.ok()
    }

    /// Asks every shard who listens to these channels. `None` only while the server is going down.
    pub(super) async fn listeners(&self, wanted: Wanted) -> Option<Vec<Option<SubscriberCounts>>> {
        let (reply, replied) = oneshot::channel();
        self.asks.send(Ask::SubscriberCounts(wanted, reply)).await.ok()?;
        replied.await.ok()
    }

    /// Waits for the turn to look at the channels, where not too many wait.
    pub(super) async fn turn_of_channels(&self) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), ()> {
        let place = self.looking.try_acquire().map_err(|_| ())?;
        Ok((place, self.look.acquire().await.map_err(|_| ())?))
    }

    /// Whether a page of this origin may use the address. Tools that are not browsers send no origin.
    pub(super) fn allows(&self, asked: &HeaderMap) -> bool {
        asked.get(header::ORIGIN).is_none_or(|origin| doorkeeper::allows(&self.rules, origin))
    }
}

// ---- connections ----

/// Serves until the runtime ends.
pub(super) async fn serve(listener: TcpListener, state: Arc<AdminState>) {
    if let Err(error) = accept(listener, state).await {
        tracing::error!(%error, "the admin address has failed");
    }
}

async fn accept(listener: TcpListener, state: Arc<AdminState>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (places, spares) = (Arc::new(Semaphore::new(state.rules.connections)), Arc::new(Semaphore::new(SPARE)));
    let router = router(state.clone());
    let spare_router = router.clone().layer(Extension(Spare));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                sleep(REST).await;
                continue;
            }
        };
        let timeout = state.rules.timeout;
        if let Ok(place) = places.clone().try_acquire_owned() {
            spawn(&state, meet(stream, router.clone(), timeout), place);
        } else if let Ok(place) = spares.clone().try_acquire_owned() {
            state.counts.admin_refused.add();
            spawn(&state, meet_briefly(stream, spare_router.clone()), place);
        } else {
            state.counts.admin_refused.add();
        }
    }
}

fn spawn(state: &AdminState, connection: impl Future<Output = ()> + Send + 'static, place: OwnedSemaphorePermit) {
    let counted = Count::hold(&state.counts.admin_connections);
    tokio::spawn(async move {
        connection.await;
        drop((place, counted));
    });
}

/// A connection from its first head to its end. A head must come in time, also the next one; what is answered must be
/// taken in time.
async fn meet(stream: TcpStream, router: Router, patience: Duration) {
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(patience));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(HEAD_BYTES);
    // What is wrong with a connection concerns nobody but its peer, who has been told.
    let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}

async fn meet_briefly(stream: TcpStream, router: Router) {
    let _ = timeout(SPARE_TIME, meet(stream, router, SPARE_TIME)).await;
}

fn router(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/", get(show_root))
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(show_health))
        .route("/readyz", get(show_readiness))
        .route("/v1/status", get(show_status))
        .route("/v1/channels", get(channels::show_all))
        .route("/v1/channels/{*channel}", get(channels::show_one))
        .route("/v1/publish", post(publish::lines))
        .route("/v1/publish/{*channel}", post(publish::one))
        .layer(from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

async fn guard(Extract(state): Extract<Arc<AdminState>>, request: Request, next: Next) -> Response {
    match doorkeeper::refusal(&state.rules, &request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    }
}

// ---- what is shown ----

/// A page that links what there is.
async fn show_root() -> Html<&'static str> {
    Html(include_str!("root.html"))
}

async fn show_metrics(Extract(state): Extract<Arc<AdminState>>) -> Response {
    let Some(reports) = state.reports().await else { return going_down() };
    let snapshot = Snapshot::new(reports.shards, &state.labels, state.begun.elapsed())
        .with_feeds(&state.feeds, state.publisher.backlogs())
        .with_counts(&state.counts);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::render(&snapshot)).into_response()
}

/// Well: every shard answers.
async fn show_health(Extract(state): Extract<Arc<AdminState>>) -> Response {
    let Some(reports) = state.reports().await else { return going_down() };
    let silent = reports.shards.iter().filter(|it| it.late.is_some()).count();
    match silent {
        0 => "ok\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, format!("{silent} shards do not answer\n")).into_response(),
    }
}

/// Ready: every shard answers, and new clients are taken.
async fn show_readiness(Extract(state): Extract<Arc<AdminState>>) -> Response {
    let Some(reports) = state.reports().await else { return going_down() };
    let is_open = |it: &Seen| it.report.as_ref().is_some_and(|report| !report.counters.draining);
    let ready = |it: &Seen| it.late.is_none() && is_open(it);
    match !reports.stopping && reports.shards.iter().all(ready) {
        true => "ready\n".into_response(),
        false => going_down(),
    }
}

pub(super) fn going_down() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "not taking clients\n").into_response()
}

async fn show_status(Extract(state): Extract<Arc<AdminState>>, asked: HeaderMap) -> Response {
    let Some(reports) = state.reports().await else { return going_down() };
    let mut response = axum::Json(status(&state, &reports)).into_response();
    allow_origin(&state, &asked, &mut response);
    response
}

fn status(state: &AdminState, reports: &Reports) -> serde_json::Value {
    let shards: Vec<_> = reports.shards.iter().enumerate().map(|(shard, seen)| shard_status(shard, seen)).collect();
    let clients = |stage| sum(reports, |counters| counters.clients_in(stage));
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": state.begun.elapsed().as_secs(),
        "stopping": reports.stopping,
        "connections": Stage::ALL.iter().map(|&stage| clients(stage)).sum::<u64>(),
        "resident_memory_bytes": metrics::resident_bytes(),
        "clients_refused_full": sum(reports, |counters| counters.refusals[Refused::Full as usize]),
        "accept_errors": sum(reports, |counters| counters.accept_errors),
        "log_lines_dropped": state.counts.log_dropped.get(),
        "shards": shards,
        "upstreams": state.labels.upstreams.iter().enumerate()
            .map(|(number, name)| upstream_status((state, reports), number, name)).collect::<Vec<_>>(),
        "feeds": state.feeds.iter().map(|it| feed_status(it)).collect::<Vec<_>>(),
    })
}

fn sum(reports: &Reports, count: impl Fn(&Counters) -> u64) -> u64 {
    reports.shards.iter().filter_map(|it| it.report.as_ref()).map(|report| count(&report.counters)).sum()
}

fn upstream_status((state, reports): (&AdminState, &Reports), number: usize, name: &str) -> serde_json::Value {
    serde_json::json!({
        "name": name,
        "up": state.labels.health.get(number).map(|it| it.is_up()),
        "connections": sum(reports, |counters| counters.upstreams[number].connections),
        "failures": sum(reports, |counters| counters.upstreams[number].failures),
    })
}

fn feed_status(feed: &Feed) -> serde_json::Value {
    serde_json::json!({
        "name": feed.settings.name,
        "source": feed.settings.source.to_string(),
        "state": feed.stats.state().word(),
        "since": feed.stats.since(),
        "messages": feed.stats.messages(),
        "last_error": feed.stats.last_error(),
    })
}

/// What a shard has said last, even if it is late.
fn shard_status(shard: usize, seen: &Seen) -> serde_json::Value {
    let counters = seen.report.as_ref().map(|it| &it.counters);
    serde_json::json!({
        "shard": shard,
        "answers": seen.late.is_none(),
        "slots": counters.map(|it| it.slots),
        "used": counters.map(|it| it.used),
        "full": counters.map(|it| it.used >= it.slots),
        "parked": counters.map(|it| it.clients_in(Stage::Parked)),
        "busy": counters.map(|it| it.clients_in(Stage::Busy)),
    })
}

/// The Fetch standard's CORS check, for the origins that the configuration names.
pub(super) fn allow_origin(state: &AdminState, asked: &HeaderMap, response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = asked.get(header::ORIGIN) else { return };
    if doorkeeper::allows(&state.rules, origin) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

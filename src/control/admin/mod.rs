//! The admin address: what operators and their tools see and ask for.
//!
//! | file | what |
//! |---|---|
//! | `mod` | connections, and which path leads where |
//! | `status` | `/`, `/metrics`, `/healthz`, `/readyz`, `/v1/status` |
//! | `channels`, `publish` | `/v1/channels`, `/v1/publish` |
//! | `state` | what the handlers share |
//! | `access` | who may ask for what |
//! | `bodies` | reading request bodies |
//! | `metrics` | the table of metrics |

mod access;
mod bodies;
mod channels;
pub mod metrics;
mod publish;
mod state;
mod status;

pub use access::AdminRules;
pub(super) use state::AdminState;

use super::stats::Count;
use access::Spare;
use axum::extract::{Request, State as Extract};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

/// Connections beyond `admin_connections`, on which only health and metrics are answered.
const SPARE: usize = 8;

/// How long such a connection may last.
const SPARE_TIME: Duration = Duration::from_secs(5);

/// Bytes of a request head, at most; hyper takes no less.
const HEAD_BYTES: usize = 16 << 10;

/// When accept(2) is tried again after it has failed (EMFILE, ENFILE, ENOMEM).
const RETRY: Duration = Duration::from_millis(100);

// ---- connections ----

/// Serves until the runtime ends.
pub(super) async fn serve(listener: TcpListener, state: Arc<AdminState>) {
    if let Err(error) = accept(listener, state).await {
        tracing::error!(%error, "the admin address has failed");
    }
}

/// # Errors
/// The listener cannot be polled (epoll).
async fn accept(listener: TcpListener, state: Arc<AdminState>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (places, spares) = (Arc::new(Semaphore::new(state.rules.connections)), Arc::new(Semaphore::new(SPARE)));
    let router = router(state.clone());
    let spare_router = router.clone().layer(Extension(Spare));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(RETRY).await;
            continue;
        };
        let timeout = state.rules.timeout;
        if let Ok(place) = places.clone().try_acquire_owned() {
            spawn(&state, serve_connection(stream, router.clone(), timeout), place);
        } else if let Ok(place) = spares.clone().try_acquire_owned() {
            state.counts.admin_refused.add();
            spawn(&state, serve_spare(stream, spare_router.clone()), place);
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

/// Serves a connection to its end. Each head must come within `limit` of the answer before it, and what is answered
/// must be acknowledged within it (TCP_USER_TIMEOUT).
async fn serve_connection(stream: TcpStream, router: Router, limit: Duration) {
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(limit));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limit).max_buf_size(HEAD_BYTES);
    // An error of a connection concerns nobody but its peer, to whom hyper has answered where it could.
    let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}

async fn serve_spare(stream: TcpStream, router: Router) {
    let _ = timeout(SPARE_TIME, serve_connection(stream, router, SPARE_TIME)).await;
}

// ---- requests ----

fn router(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/", get(status::show_root))
        .route("/metrics", get(status::show_metrics))
        .route("/healthz", get(status::show_health))
        .route("/readyz", get(status::show_readiness))
        .route("/v1/status", get(status::show_status))
        .route("/v1/channels", get(channels::show_all))
        .route("/v1/channels/{*channel}", get(channels::show_one))
        .route("/v1/publish", post(publish::lines))
        .route("/v1/publish/{*channel}", post(publish::one))
        .layer(from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

async fn guard(Extract(state): Extract<Arc<AdminState>>, request: Request, next: Next) -> Response {
    match access::refusal(&state.rules, &request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    }
}

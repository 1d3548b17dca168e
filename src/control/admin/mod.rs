//! The admin address: what operators and their tools see and ask for.
//!
//! | file | what |
//! |---|---|
//! | `mod` | which path leads where |
//! | `connections` | connections, in clear text or by TLS |
//! | `status` | `/`, `/metrics`, `/healthz`, `/readyz`, `/v1/status` |
//! | `channels`, `publish` | `/v1/channels`, `/v1/publish` |
//! | `state` | what the handlers share |
//! | `access` | who may ask for what |
//! | `bodies` | reading request bodies |
//! | `metrics` | the table of metrics |

mod access;
mod bodies;
mod channels;
mod connections;
pub mod metrics;
mod publish;
mod state;
mod status;

pub use access::AdminRules;
pub(super) use connections::serve;
pub(super) use state::AdminState;

use axum::Router;
use axum::extract::{Request, State as Extract};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use std::sync::Arc;

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

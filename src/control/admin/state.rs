//! What the handlers of the admin address share: how they ask the shards, and how they answer a browser.

use super::access::{self, AdminRules};
use super::bodies::BodyRoom;
use super::metrics::Labels;
use crate::control::commands::Command;
use crate::control::feeds::Feed;
use crate::control::publishing::Publisher;
use crate::control::reports::Reports;
use crate::control::stats::Counts;
use crate::mesh::{SubscriberCounts, Wanted};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};

/// Requests for channels at one time, at most: one that is answered, and those that wait for their turn.
const CHANNEL_REQUESTS: usize = 8;

/// What the handlers share.
pub(in crate::control) struct AdminState {
    commands: mpsc::Sender<Command>,
    pub(super) labels: Labels,
    pub(super) counts: Counts,
    pub(super) rules: AdminRules,
    pub(super) started: Instant,
    pub(super) feeds: Arc<[Arc<Feed>]>,
    pub(super) publisher: Publisher,
    pub(super) bodies: BodyRoom,
    channel_requests: Semaphore,
    channel_turn: Semaphore,
}

impl AdminState {
    pub(in crate::control) fn new(
        commands: mpsc::Sender<Command>,
        (labels, counts): (Labels, Counts),
        rules: AdminRules,
        (feeds, publisher): (Arc<[Arc<Feed>]>, Publisher),
    ) -> Arc<AdminState> {
        Arc::new(AdminState {
            commands,
            labels,
            counts,
            bodies: BodyRoom::new(rules.body_bytes),
            rules,
            started: Instant::now(),
            feeds,
            publisher,
            channel_requests: Semaphore::new(CHANNEL_REQUESTS),
            channel_turn: Semaphore::new(1),
        })
    }

    /// Asks every shard for a report. `None` only while the server is going down.
    pub(super) async fn reports(&self) -> Option<Reports> {
        self.ask(Command::Reports).await
    }

    /// Asks every shard for the subscribers of these channels: the answers by shard, `None` for one that has not
    /// answered in time. `None` altogether only while the server is going down.
    pub(super) async fn subscribers(&self, wanted: Wanted) -> Option<Vec<Option<SubscriberCounts>>> {
        self.ask(|reply| Command::SubscriberCounts(wanted, reply)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, replied) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        replied.await.ok()
    }

    /// Waits for the turn to ask for channels; hold it while the answer is gathered. `None`: too many wait already.
    pub(super) async fn channel_turn(&self) -> Option<(SemaphorePermit<'_>, SemaphorePermit<'_>)> {
        let place = self.channel_requests.try_acquire().ok()?;
        Some((place, self.channel_turn.acquire().await.ok()?))
    }

    /// Whether the page that sent the request may use the address. Tools that are not browsers send no origin.
    pub(super) fn allows(&self, request: &HeaderMap) -> bool {
        request.get(header::ORIGIN).is_none_or(|origin| access::allows(&self.rules, origin))
    }

    /// The CORS check of the Fetch standard, for the origins that the configuration names.
    pub(super) fn allow_origin(&self, request: &HeaderMap, response: &mut Response) {
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = request.get(header::ORIGIN) else { return };
        if access::allows(&self.rules, origin) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
    }
}

/// The answer of a server that is stopping.
pub(super) fn going_down() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "not taking clients\n").into_response()
}

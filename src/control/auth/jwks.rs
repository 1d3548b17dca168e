//! A JWKS at a URL, kept fresh: fetched again and again, and at once when a token names a key that is not known.

use super::http::{self, Client};
use super::keys::KeySet;
use super::source::Source;
use http_body_util::Empty;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

/// Bytes of a JWKS, at most.
const BYTES_MAX: usize = 1 << 20;

/// How long fetching it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How soon after a fetch the next one comes because of a key that is not known: whoever makes up keys has it fetched
/// no more often.
const ON_DEMAND: Duration = Duration::from_secs(30);

/// How soon a fetch that has failed is tried again; doubled with each further one, up to the usual time.
const RETRY: Duration = Duration::from_secs(1);

/// A JWKS with what is known of it.
pub(super) struct Jwks {
    pub(super) source: Arc<Source<KeySet>>,
    pub(super) client: Client,
    pub(super) refresh: Duration,
    /// Notified where a token names a key that is not known.
    pub(super) unknown: Arc<Notify>,
}

/// What was fetched.
enum Fetched {
    Keys(KeySet, Option<HeaderValue>),
    /// What is known is still so (RFC 9110 section 15.4.5).
    Unchanged,
}

impl Jwks {
    /// Keeps it until the runtime ends.
    pub(super) async fn keep(self) {
        let (mut tag, mut failures) = (None, 0);
        loop {
            let fetched = timeout(PATIENCE, self.fetch(tag.as_ref())).await;
            let fetched = fetched.unwrap_or_else(|_| Err(format!("does not answer within {PATIENCE:?}")));
            failures = if fetched.is_ok() { 0 } else { failures + 1 };
            match fetched {
                Ok(Fetched::Keys(keys, its)) => {
                    tag = its;
                    let entries = keys.keys.len();
                    self.source.take(Ok((keys, entries)));
                }
                Ok(Fetched::Unchanged) => self.source.state.succeed(self.source.now().map_or(0, |it| it.keys.len())),
                Err(why) => self.source.take(Err(why)),
            }
            self.wait(failures).await;
        }
    }

    async fn fetch(&self, tag: Option<&HeaderValue>) -> Result<Fetched, String> {
        let url = &self.client.url;
        let request = Request::get(&url.target).header(header::HOST, url.authority());
        let request = request.header(header::ACCEPT, "application/jwk-set+json, application/json");
        let mut request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        if let Some(tag) = tag {
            request.headers_mut().insert(header::IF_NONE_MATCH, tag.clone());
        }
        let mut answered = self.client.send(request).await?;
        let status = answered.response.status();
        match status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if tag.is_some() => return Ok(Fetched::Unchanged),
            _ if status.is_redirection() => return Err(redirects(answered.response.headers().get(header::LOCATION))),
            _ => return Err(format!("answers {status}")),
        }
        let bytes = http::body(&mut answered.response, BYTES_MAX).await?;
        let keys = KeySet::of_fetched(&bytes)?;
        tracing::debug!(%url, keys = keys.keys.len(), left_out = keys.left_out, "auth: a JWKS was fetched");
        Ok(Fetched::Keys(keys, answered.response.headers().get(header::ETAG).cloned()))
    }

    /// Until it is to be fetched again.
    async fn wait(&self, failures: u32) {
        let now = Instant::now();
        let usual = now + shorter(self.refresh);
        let retry = now + RETRY.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(self.refresh);
        tokio::select! {
            () = sleep_until(if failures > 0 { retry } else { usual }) => {}
            () = self.on_demand(now + ON_DEMAND.min(self.refresh)) => {}
        }
    }

    async fn on_demand(&self, soonest: Instant) {
        self.unknown.notified().await;
        sleep_until(soonest).await;
    }
}

fn redirects(place: Option<&HeaderValue>) -> String {
    let place = place.and_then(|it| it.to_str().ok()).unwrap_or("somewhere");
    format!("redirects to {place}, which is not followed — write the URL where the keys are")
}

/// Up to a tenth less, so that many servers do not ask at one moment.
fn shorter(time: Duration) -> Duration {
    let mut byte = [0];
    let _ = SystemRandom::new().fill(&mut byte);
    time.saturating_sub(time / 10 * u32::from(byte[0]) / 255)
}

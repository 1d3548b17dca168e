//! Another server is asked about a request: 2xx lets in, and says who it is.

use super::asked::Asked;
use super::http::{Answered, Client};
use super::made;
use super::settings::ForwardSettings;
use super::stats::{AuthStats, SourceState};
use crate::mesh::{Denial, Denied, Identity, identity::AskedRequest};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

/// Bytes of a response's body that are read and thrown away; a longer one costs its connection.
const BODY_BYTES: usize = 64 << 10;

/// Questions that may wait for one of `parallel` requests, for each of these.
const QUEUE: usize = 16;

/// Fields that are about one connection (RFC 9110 section 7.6.1) or about a body that is not sent, and are never handed
/// on.
pub const NOT_HANDED_ON: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "forwarded",
];

/// What stands in front of the fields by which edgehold says what was asked for.
pub const SAID_BY_US: &str = "x-forwarded-";

/// A server that is asked.
pub(super) struct Forward {
    pub(super) settings: ForwardSettings,
    client: Client,
    permits: Semaphore,
    pub(super) state: Arc<SourceState>,
    stats: Arc<AuthStats>,
}

impl Forward {
    pub(super) fn new(settings: &ForwardSettings, state: Arc<SourceState>, stats: Arc<AuthStats>) -> Forward {
        let parallel = settings.parallel as usize;
        let client = Client::new(settings.url.clone(), settings.ca.clone(), parallel);
        Forward { settings: settings.clone(), client, permits: Semaphore::new(parallel), state, stats }
    }

    /// So many questions may wait.
    pub(super) fn most(&self) -> u64 {
        (self.settings.parallel as usize * QUEUE) as u64
    }

    /// Answers at once where too many wait, else when the server has answered.
    pub(super) fn ask(self: &Arc<Self>, asked: Asked, request: &AskedRequest) {
        let is_full = self.stats.waiting(asked.kind) >= self.most();
        match self.request(request) {
            _ if is_full => asked.deny(Denied::Busy),
            None => asked.deny(Denied::Malformed),
            Some(request) => drop(tokio::spawn(self.clone().forward(asked, request))),
        }
    }

    async fn forward(self: Arc<Self>, asked: Asked, request: Request<Empty<Bytes>>) {
        let (wait, deadline) = (self.stats.wait(asked.kind), asked.deadline());
        let Ok(Ok(_permit)) = timeout_at(deadline, self.permits.acquire()).await else {
            return asked.deny(Denied::Busy);
        };
        drop(wait);
        let _under_way = self.stats.work(asked.kind);
        let patience = self.settings.timeout.min(deadline.saturating_duration_since(tokio::time::Instant::now()));
        match tokio::time::timeout(patience, self.client.send(request)).await {
            Ok(Ok(answered)) => self.judge(asked, answered).await,
            Ok(Err(why)) => self.fail(asked, &why),
            Err(_) => self.fail(asked, &format!("does not answer within {patience:?}")),
        }
    }

    fn fail(&self, asked: Asked, why: &str) {
        self.state.fail(why);
        asked.deny(Denied::Unavailable);
    }

    /// By the head alone. The body is read behind it, while nobody waits any more but for the connection.
    async fn judge(&self, asked: Asked, answered: Answered) {
        let ForwardSettings { remember, refused_remember, .. } = self.settings;
        match self.verdict(answered.response.status(), answered.response.headers()) {
            Ok(verdict) => {
                self.state.succeed(0);
                let keep = if verdict.is_ok() { remember } else { refused_remember };
                asked.answer(verdict, keep);
            }
            Err(why) => self.fail(asked, &why),
        }
        let _ = tokio::time::timeout(self.settings.timeout, self.client.finish(answered, BODY_BYTES)).await;
    }

    /// # Errors
    /// It is no verdict; in words.
    fn verdict(&self, status: StatusCode, fields: &HeaderMap) -> Result<Result<Identity, Denial>, String> {
        match status {
            _ if status.is_success() => self.identity(fields).map(Ok),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Ok(Err(Denial { why: Denied::Forward, status: Some(status.as_u16()) }))
            }
            _ if status.is_redirection() => Err(format!("answers {status}: redirects are not followed")),
            _ => Err(format!("answers {status}")),
        }
    }

    fn identity(&self, fields: &HeaderMap) -> Result<Identity, String> {
        let settings = &self.settings;
        let name = text(fields, &settings.name_field)?;
        let name =
            name.ok_or_else(|| format!("lets a client in and does not say who it is ({})", settings.name_field))?;
        let roles = if settings.roles_field.is_empty() { None } else { text(fields, &settings.roles_field)? };
        let roles = roles.unwrap_or_default();
        let roles = roles.split([',', ' ']).filter(|it| !it.is_empty()).map(str::to_owned);
        let mut claims = Vec::new();
        for name in &settings.claims_fields {
            claims.extend(text(fields, name)?.map(|value| (name.clone(), value)));
        }
        made(&name, roles, claims, None).map_err(|_| "answers with a name, a role or a claim that can be none".into())
    }

    // ---- the request ----

    /// `None`: a field of it cannot be handed on.
    fn request(&self, asked: &AskedRequest) -> Option<Request<Empty<Bytes>>> {
        let url = &self.client.url;
        let mut request = Request::get(&url.target).header(header::HOST, url.authority()).body(Empty::new()).ok()?;
        let fields = request.headers_mut();
        for (name, value) in &asked.fields {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            if is_handed_on(name.as_str()) {
                fields.append(name, HeaderValue::from_bytes(value).ok()?);
            }
        }
        let said = [
            ("x-forwarded-method", &*asked.method),
            ("x-forwarded-uri", &*asked.target),
            ("x-forwarded-host", &*asked.host),
            ("x-forwarded-proto", if asked.secure { "https" } else { "http" }),
            ("x-forwarded-for", &asked.peer.ip().to_string()),
        ];
        for (name, value) in said {
            fields.insert(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).ok()?);
        }
        Some(request)
    }
}

/// Whether a field of a client, in lower case, may be handed on.
pub fn is_handed_on(name: &str) -> bool {
    !NOT_HANDED_ON.contains(&name) && !name.starts_with(SAID_BY_US)
}

/// The value of a field that must stand once; `None`: it does not.
///
/// # Errors
/// It stands twice, or is not text.
fn text(fields: &HeaderMap, name: &str) -> Result<Option<String>, String> {
    let mut values = fields.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|it| !it.is_empty())),
            Err(_) => Err(format!("answers with {name} that is not UTF-8")),
        },
        (Some(_), Some(_)) => Err(format!("answers with {name} twice")),
    }
}

/// How long a verdict may be kept where the settings have nothing for it.
pub(super) const BRIEFLY: Duration = Duration::from_secs(2);

//! `/v1/publish`: messages over HTTP, to feeds whose source is `http`.
//!
//! `POST /v1/publish/<channel>` publishes its body; `POST /v1/publish` a JSON message from each line of its body.
//! Both go to the first `http` feed that takes the channel, and wait while the shards are behind. Neither takes what
//! any web page could have sent from the browser of somebody who reaches this address.
//!
//! A batch is answered 200 where every line was published, else 400; either way the answer counts those that were and
//! tells of those that were not. A batch whose connection ends on the way has been published up to some line.

use super::bodies::{self, Refusal};
use super::state::{AdminState, going_down};
use crate::control::feeds::decoder::{self, Json, Metadata, Reason};
use crate::control::feeds::{Feed, Source};
use crate::control::publishing::Stopping;
use axum::body::Body;
use axum::extract::{Path, Query, State as Extract};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bytes of a batch, at most.
const BATCH_BYTES: usize = 16 << 20;

/// Refused lines that an answer lists; more are only counted.
const LISTED: usize = 100;

/// The query of a request to publish one message.
#[derive(Debug, Default, Deserialize)]
pub(super) struct About {
    id: Option<String>,
    event: Option<String>,
    key: Option<String>,
}

/// The answer to a batch.
#[derive(Debug, Default, Serialize)]
struct Batch {
    published: usize,
    refused: usize,
    lines: Vec<Line>,
}

/// A line that was refused.
#[derive(Debug, Serialize)]
struct Line {
    line: usize,
    reason: &'static str,
}

/// `POST /v1/publish/<channel>`: the body is the message.
pub(super) async fn one(
    Extract(state): Extract<Arc<AdminState>>,
    Path(channel): Path<String>,
    Query(about): Query<About>,
    request: HeaderMap,
    body: Body,
) -> Response {
    let answer = publish_one(&state, &channel, &about, &request, body).await;
    respond(&state, &request, answer)
}

/// `POST /v1/publish`: each line of the body is a message.
pub(super) async fn lines(Extract(state): Extract<Arc<AdminState>>, request: HeaderMap, body: Body) -> Response {
    let answer = publish_lines(&state, &request, body).await;
    respond(&state, &request, answer)
}

fn respond(state: &AdminState, request: &HeaderMap, answer: Result<Response, Refusal>) -> Response {
    let mut response = answer.unwrap_or_else(|(status, words)| (status, format!("{words}\n")).into_response());
    state.allow_origin(request, &mut response);
    response
}

/// # Errors
/// 400, 403, 404, 408, 413, 415 or 503, with words for whoever sent it.
async fn publish_one(
    state: &AdminState,
    channel: &str,
    about: &About,
    request: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    check_sender(state, request)?;
    if !decoder::is_channel(channel) {
        return Err(refusal(Reason::BadChannel));
    }
    let feed = feed_for(state, channel).ok_or_else(|| refusal(not_allowed(state)))?;
    let text = is_text(request)?;
    let payload = read(state, body, feed.settings.decoder.message_bytes).await.inspect_err(|refusal| {
        if refusal.0 == StatusCode::PAYLOAD_TOO_LARGE {
            feed.refuse(Reason::Oversized);
        }
    })?;
    let metadata = Metadata {
        channel: Some(channel),
        id: about.id.as_deref(),
        event: about.event.as_deref(),
        key: about.key.as_deref(),
    };
    let message = feed.decoder.raw(&payload, text, metadata).map_err(|reason| {
        feed.refuse(reason);
        refusal(reason)
    })?;
    match feed.publish(message).await {
        Ok(message) => Ok(axum::Json(serde_json::json!({ "id": message.id() })).into_response()),
        Err(Stopping) => Ok(going_down()),
    }
}

/// # Errors
/// 400, 403, 408, 413, 415 or 503, with words for whoever sent it. A line that is refused is no error.
async fn publish_lines(state: &AdminState, request: &HeaderMap, body: Body) -> Result<Response, Refusal> {
    check_sender(state, request)?;
    check_coding(request)?;
    if media_type(request).is_none_or(|it| it != "application/x-ndjson") {
        return Err((
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a batch is application/x-ndjson: a JSON message in each line",
        ));
    }
    let body = read(state, body, BATCH_BYTES).await?;
    let mut batch = Batch::default();
    for (number, line) in (1..).zip(body.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match publish_line(state, line).await {
            Ok(Ok(())) => batch.published += 1,
            Ok(Err(reason)) => batch.refuse(number, reason),
            Err(Stopping) => return Ok(going_down()),
        }
    }
    let status = if batch.refused == 0 { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    Ok((status, axum::Json(batch)).into_response())
}

impl Batch {
    fn refuse(&mut self, line: usize, reason: Reason) {
        self.refused += 1;
        if self.lines.len() < LISTED {
            self.lines.push(Line { line, reason: reason.word() });
        }
    }
}

/// The inner result: why the line is refused.
///
/// # Errors
/// The server is stopping.
async fn publish_line(state: &AdminState, line: &[u8]) -> Result<Result<(), Reason>, Stopping> {
    let json = match Json::parse(line) {
        Ok(json) => json,
        Err(reason) => return Ok(Err(reason)),
    };
    let Some(channel) = json.channel.as_deref() else { return Ok(Err(Reason::NoChannel)) };
    let Some(feed) = feed_for(state, channel) else { return Ok(Err(not_allowed(state))) };
    match feed.decoder.json(&json, Metadata::default()) {
        Ok(message) => feed.publish(message).await.map(|_| Ok(())),
        Err(reason) => {
            feed.refuse(reason);
            Ok(Err(reason))
        }
    }
}

/// The first http feed that may be published to on this channel.
fn feed_for<'s>(state: &'s AdminState, channel: &str) -> Option<&'s Feed> {
    http_feeds(state).find(|feed| feed.settings.allows(channel))
}

fn http_feeds(state: &AdminState) -> impl Iterator<Item = &Feed> {
    state.feeds.iter().map(|it| &**it).filter(|feed| feed.settings.source == Source::Http)
}

/// The reason, counted at the first http feed, where there is one.
fn not_allowed(state: &AdminState) -> Reason {
    if let Some(feed) = http_feeds(state).next() {
        feed.refuse(Reason::NotAllowed);
    }
    Reason::NotAllowed
}

/// A page of an origin that is not allowed can send a request, though it would not see the answer. Where there is no
/// Origin, as browsers once sent forms, the type must be one that a page sends only after a preflight.
///
/// # Errors
/// 403, or 415.
fn check_sender(state: &AdminState, request: &HeaderMap) -> Result<(), Refusal> {
    if !state.allows(request) {
        return Err((StatusCode::FORBIDDEN, "pages of this origin may not publish (admin_allow_origin)"));
    }
    if !request.contains_key(header::ORIGIN) && media_type(request).is_none_or(|it| is_simple(&it)) {
        let words = "any web page can send forms, text/plain, and what has no type: say another Content-Type, such as \
                     text/x-message, application/json or application/octet-stream";
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, words));
    }
    Ok(())
}

/// Whether a page may send this type to another origin without asking first (CORS-safelisted, Fetch section 2.2.2).
fn is_simple(media: &str) -> bool {
    ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"].contains(&media)
}

/// # Errors
/// 415: there is a Content-Encoding.
fn check_coding(request: &HeaderMap) -> Result<(), Refusal> {
    match request.get(header::CONTENT_ENCODING) {
        None => Ok(()),
        Some(_) => Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "no Content-Encoding is taken")),
    }
}

fn refusal(reason: Reason) -> Refusal {
    let status = match reason {
        Reason::Oversized => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::NotAllowed => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    };
    (status, reason.words())
}

/// Whether the body is text: of the types text, JSON and XML, and, from pages that may publish, of none and of forms.
///
/// # Errors
/// 415: there is a Content-Encoding.
fn is_text(request: &HeaderMap) -> Result<bool, Refusal> {
    check_coding(request)?;
    Ok(media_type(request).is_none_or(|it| is_text_type(&it)))
}

/// By the type, or by the structured syntax suffix behind a plus (RFC 6839).
fn is_text_type(media: &str) -> bool {
    const TEXT: [&str; 3] = ["application/json", "application/xml", "application/x-www-form-urlencoded"];
    media.starts_with("text/") || TEXT.contains(&media) || media.ends_with("+json") || media.ends_with("+xml")
}

/// The media type without its parameters, in lower case.
fn media_type(request: &HeaderMap) -> Option<String> {
    let text = String::from_utf8_lossy(request.get(header::CONTENT_TYPE)?.as_bytes()).to_ascii_lowercase();
    Some(text.split(';').next().unwrap_or_default().trim().to_owned()).filter(|it| !it.is_empty())
}

/// # Errors
/// As [`bodies::BodyRoom::read`].
async fn read(state: &AdminState, body: Body, limit: usize) -> Result<bodies::Whole<'_>, Refusal> {
    let read = state.bodies.read(body, limit, state.rules.timeout).await;
    read.map_err(|error| if error == bodies::TOO_LARGE { refusal(Reason::Oversized) } else { error })
}

#[cfg(test)]
mod tests {
    use super::{is_simple, is_text_type};

    #[test]
    fn what_a_page_sends_unasked_is_known() {
        for simple in ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"] {
            assert!(is_simple(simple), "{simple}");
        }
        assert!(!["text/x-message", "application/json", "application/x-ndjson"].into_iter().any(is_simple));
    }

    #[test]
    fn what_is_written_in_text_is_text() {
        for text in
            ["text/plain", "application/json", "application/cloudevents+json", "application/xml", "image/svg+xml"]
        {
            assert!(is_text_type(text), "{text}");
        }
        for binary in ["application/octet-stream", "application/cbor", "application/cloudevents+avro", "image/png"] {
            assert!(!is_text_type(binary), "{binary}");
        }
    }
}

//! `/v1/channels`: how many subscribers channels have, over all shards.
//!
//! A page has `admin_page_channels` at most; `next` is what `?after=` is to be for the page behind it. One page is
//! gathered at a time, as each shard searches all of its channels for it: a request that finds too many waiting is
//! answered 503.

use super::state::{AdminState, going_down};
use crate::mesh::{ChannelKey, ChannelState, SubscriberCounts, Wanted};
use axum::extract::{Path, Query, State as Extract};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The query of a request for a page.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    limit: Option<usize>,
    after: Option<String>,
}

/// `GET /v1/channels`: a page of the channels that have subscribers or kept messages, in the order of their names.
pub(super) async fn show_all(
    Extract(state): Extract<Arc<AdminState>>,
    Query(page): Query<Page>,
    request: HeaderMap,
) -> Response {
    let most = state.rules.page_channels;
    let limit = page.limit.unwrap_or(most).clamp(1, most);
    let after = page.after.as_deref().map(key);
    if after == Some(None) {
        return (StatusCode::BAD_REQUEST, "after is what the last page called next\n").into_response();
    }
    // One more than is shown tells whether there is a page behind this one.
    show(&state, &request, Wanted::Page { after: after.flatten(), most: limit + 1 }, limit).await
}

/// `GET /v1/channels/<channel>`: that channel of each feed; none where it has neither subscribers nor kept messages.
pub(super) async fn show_one(
    Extract(state): Extract<Arc<AdminState>>,
    Path(channel): Path<String>,
    request: HeaderMap,
) -> Response {
    show(&state, &request, Wanted::One(channel.into()), usize::MAX).await
}

async fn show(state: &AdminState, request: &HeaderMap, wanted: Wanted, limit: usize) -> Response {
    let Some(_turn) = state.channel_turn().await else { return busy() };
    let Some(shards) = state.subscribers(wanted).await else { return going_down() };
    let silent: Vec<usize> = shards.iter().enumerate().filter(|(_, it)| it.is_none()).map(|(shard, _)| shard).collect();
    let all = summed(&shards);
    let channels: Vec<_> = all.values().take(limit).map(|channel| shown(state, channel)).collect();
    let next = all.keys().nth(limit - 1).filter(|_| all.len() > limit).map(cursor);
    let answer = serde_json::json!({ "channels": channels, "next": next, "silent_shards": silent });
    let mut response = axum::Json(answer).into_response();
    state.allow_origin(request, &mut response);
    response
}

fn busy() -> Response {
    let words = "others are looking at the channels: come again in a second\n";
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], words).into_response()
}

/// What `?after=` is to be for the page behind this channel.
fn cursor((channel, feed): &ChannelKey) -> String {
    format!("{feed}/{channel}")
}

/// The channel of a cursor; `None`: it is not one.
fn key(cursor: &str) -> Option<ChannelKey> {
    let (feed, channel) = cursor.split_once('/')?;
    Some((channel.into(), feed.parse().ok()?))
}

fn shown(state: &AdminState, channel: &ChannelState) -> serde_json::Value {
    serde_json::json!({
        "feed": state.feeds.get(usize::from(channel.feed)).map(|it| it.settings.name.as_str()),
        "channel": channel.channel,
        "subscribers": channel.subscribers,
        "kept": channel.kept,
        "kept_bytes": channel.kept_bytes,
    })
}

/// The channels of all shards, each once. Subscribers are summed; of kept messages, which are the same in each shard,
/// it is the most of one shard.
fn summed(shards: &[Option<SubscriberCounts>]) -> BTreeMap<ChannelKey, ChannelState> {
    let mut all: BTreeMap<ChannelKey, ChannelState> = BTreeMap::new();
    for channel in shards.iter().flatten().flat_map(|it| &it.channels) {
        let sum = all
            .entry((channel.channel.clone(), channel.feed))
            .or_insert_with(|| ChannelState { subscribers: 0, ..channel.clone() });
        sum.subscribers = sum.subscribers.saturating_add(channel.subscribers);
        sum.kept = sum.kept.max(channel.kept);
        sum.kept_bytes = sum.kept_bytes.max(channel.kept_bytes);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::FeedNumber;

    fn channel(name: &str, feed: FeedNumber, subscribers: u32, kept: u32) -> ChannelState {
        ChannelState { feed, channel: name.into(), subscribers, kept, kept_bytes: 100 * u64::from(kept) }
    }

    #[test]
    fn a_cursor_leads_back_to_its_channel() {
        let keys = [("a/b".into(), 3), ("".into(), 0)];
        assert!(keys.iter().all(|it| key(&cursor(it)).as_ref() == Some(it)));
        assert_eq!((key("a"), key("x/a"), key("-1/a")), (None, None, None));
    }

    #[test]
    fn subscribers_are_summed_and_kept_messages_are_not() {
        let shard = |shard, channels| Some(SubscriberCounts { shard, question: 1, channels });
        let shards = [
            shard(0, vec![channel("b", 0, 2, 5), channel("a", 1, 1, 0)]),
            None,
            shard(2, vec![channel("b", 0, 3, 4), channel("b", 1, 1, 1)]),
        ];
        let sums: Vec<_> = summed(&shards).into_values().collect();
        assert_eq!(sums, [channel("a", 1, 1, 0), channel("b", 0, 5, 5), channel("b", 1, 1, 1)]);
    }
}

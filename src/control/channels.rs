//! `/v1/channels`: who listens to what, over all shards.

use super::admin::{State, allow_origin, going_down};
use crate::mesh::{ChannelState, FeedNumber, Listeners};
use axum::extract::{Path, State as Extract};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All channels that anybody hears, or of which messages are kept.
pub(super) async fn show_all(Extract(state): Extract<Arc<State>>, asked: HeaderMap) -> Response {
    show(&state, &asked, None).await
}

/// One channel; empty where nobody hears it and nothing is kept.
pub(super) async fn show_one(
    Extract(state): Extract<Arc<State>>,
    Path(channel): Path<String>,
    asked: HeaderMap,
) -> Response {
    show(&state, &asked, Some(channel.into())).await
}

async fn show(state: &State, asked: &HeaderMap, channel: Option<Arc<str>>) -> Response {
    let Some(shards) = state.listeners(channel).await else { return going_down() };
    let silent: Vec<usize> = shards.iter().enumerate().filter(|(_, it)| it.is_none()).map(|(shard, _)| shard).collect();
    let channels: Vec<_> = summed(&shards).values().map(|channel| shown(state, channel)).collect();
    let mut response = axum::Json(serde_json::json!({ "channels": channels, "silent_shards": silent })).into_response();
    allow_origin(state, asked, &mut response);
    response
}

fn shown(state: &State, channel: &ChannelState) -> serde_json::Value {
    serde_json::json!({
        "feed": state.feeds.get(usize::from(channel.feed)).map(|it| it.settings.name.as_str()),
        "channel": channel.channel,
        "subscribers": channel.subscribers,
        "kept": channel.kept,
        "kept_bytes": channel.kept_bytes,
    })
}

type Key = (Box<str>, FeedNumber);

/// Subscribers are those of all shards together. Each shard keeps the same messages: of what is kept, the most of one.
fn summed(shards: &[Option<Listeners>]) -> BTreeMap<Key, ChannelState> {
    let mut all: BTreeMap<Key, ChannelState> = BTreeMap::new();
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

    fn channel(name: &str, feed: FeedNumber, subscribers: u32, kept: u32) -> ChannelState {
        ChannelState { feed, channel: name.into(), subscribers, kept, kept_bytes: 100 * u64::from(kept) }
    }

    #[test]
    fn subscribers_are_summed_and_kept_messages_are_not() {
        let shard = |shard, channels| Some(Listeners { shard, question: 1, channels });
        let shards = [
            shard(0, vec![channel("b", 0, 2, 5), channel("a", 1, 1, 0)]),
            None,
            shard(2, vec![channel("b", 0, 3, 4), channel("b", 1, 1, 1)]),
        ];
        let sums: Vec<_> = summed(&shards).into_values().collect();
        assert_eq!(sums, [channel("a", 1, 1, 0), channel("b", 0, 5, 5), channel("b", 1, 1, 1)]);
    }
}

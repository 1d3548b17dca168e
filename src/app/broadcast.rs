//! Broadcast routes and feeds, from what was written to what a shard works with.

use super::config::{self, Config};
use super::generation::{Generation, broadcasts};
use crate::service::broadcast::{BroadcastPlan, BroadcastSettings, ChannelRoles, FeedSettings, Keep, Naming, Slow};
use crate::shard::clock::ticks;
use std::hash::{BuildHasher, RandomState};

/// A number for this run of the server, drawn at random: ids that a client has of another run must not be taken for ids
/// of this one.
pub(super) fn epoch() -> u32 {
    RandomState::new().hash_one(std::time::SystemTime::now()) as u32
}

/// What the broadcast service of a shard is told.
pub(super) fn settings(generation: &Generation, epoch: u32) -> BroadcastSettings {
    let plans = generation.by_broadcast(|written| route(generation, written));
    let feeds = generation.by_feed(|place, written| feed(&generation.config, place, written));
    BroadcastSettings { plans, feeds, epoch }
}

fn route(generation: &Generation, written: &config::Broadcast) -> BroadcastPlan {
    let number = |&feed: &usize| generation.feed(&generation.config.feeds[feed].name);
    BroadcastPlan {
        feeds: written.feeds.iter().filter_map(number).collect(),
        channel_in_path: written.channel_in_path,
        channels: written.channels.clone(),
        roles: written.channel_roles.iter().map(channel_roles).collect(),
        subscribe: written.subscribe,
        subscriptions_max: written.subscriptions_max,
        changes_max: written.subscription_changes,
        order_bytes: written.order_bytes as usize,
        snapshot: written.snapshot,
        body: written.envelope,
        poll_ticks: ticks(written.poll_timeout),
        poll_gone: written.poll_gone,
        retry_millis: u64::try_from(written.retry.as_millis()).unwrap_or(u64::MAX),
        gap_event: written.gap_event.clone(),
        slow: slow(&written.slow_client),
    }
}

fn channel_roles(written: &config::ChannelRoles) -> ChannelRoles {
    let boxed = |texts: &[String]| texts.iter().map(|it| it.as_str().into()).collect();
    ChannelRoles { channels: boxed(&written.channels), roles: boxed(&written.roles) }
}

fn slow(written: &config::SlowClient) -> Slow {
    Slow { policy: written.policy, max_pending: u64::from(written.max_pending), max_age_ticks: ticks(written.max_age) }
}

/// The log of a channel keeps as many bytes for subscribers that lag as the most generous of its routes allows, and
/// last values where a route asks for them.
fn feed(config: &Config, place: usize, written: &config::Feed) -> FeedSettings {
    let its_routes = || broadcasts(config).map(|(_, it)| it).filter(|route| route.feeds.contains(&place));
    let conflates = |route: &config::Broadcast| route.slow_client.policy == config::Policy::Conflate;
    FeedSettings {
        naming: Naming::Prefixes,
        channel: written.channel.clone(),
        keep: Keep {
            messages: written.replay.messages,
            bytes: written.replay.bytes,
            age_ticks: ticks(written.replay.age),
            backlog: its_routes().map(|route| u64::from(route.slow_client.max_pending)).max().unwrap_or(0),
            values: its_routes().any(|route| route.snapshot || conflates(route)),
            values_max: written.last_values.keys,
            value_bytes: written.last_values.bytes,
            value_age_ticks: ticks(written.last_values.age),
        },
        channels_max: written.channels_max as usize,
        linger_ticks: ticks(written.prefix_linger),
        idle_prefixes_max: written.prefixes_idle as usize,
    }
}

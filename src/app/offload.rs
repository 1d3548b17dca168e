//! Routes in front of brokers, from what was written to what shards and the control thread work with.

use super::config::{self, Offload, Route};
use super::generation::{Generation, mqtts, stomps};
use super::shard_settings::{UpstreamTable, places};
use crate::control::brokers::{BrokerAddress, BrokerSettings, Protocol};
use crate::service::broadcast::{FeedSettings, Keep, Naming, Policy, Slow};
use crate::service::offload::{Bounds, BrokerCredentials, OffloadPlan, OffloadSettings, Pattern, Rule, Syntax};
use crate::shard::clock::ticks;
use std::sync::Arc;
use std::time::Duration;

/// Destinations that are shared where nothing is written: RabbitMQ's and ActiveMQ's topics, and RabbitMQ's exchanges.
const SHARE: [&str; 2] = ["/topic/#", "/exchange/#"];

/// What of MQTT is shared where nothing is written.
const EVERYTHING: [&str; 1] = ["#"];

/// Destinations of one client where nothing is written: what is made for a session and ends with it.
const PRIVATE: [&str; 3] = ["/temp-queue/#", "/temp-topic/#", "/reply-queue/#"];

/// What the service `stomp` of a shard is told.
pub(super) fn stomp(generation: &Generation, epoch: u32, upstreams: &UpstreamTable) -> OffloadSettings {
    OffloadSettings {
        plans: generation.by_stomp(|route, written| Arc::new(plan(generation, route, written))),
        feeds: generation.by_stomp_feed(|written| feed(written, Naming::Exact)),
        places: places(generation, upstreams),
        epoch,
    }
}

/// What the service `mqtt` of a shard is told.
pub(super) fn mqtt(generation: &Generation, epoch: u32, upstreams: &UpstreamTable) -> OffloadSettings {
    OffloadSettings {
        plans: generation.by_mqtt(|route, written| Arc::new(plan(generation, route, written))),
        feeds: generation.by_mqtt_feed(|written| feed(written, Naming::Filters)),
        places: places(generation, upstreams),
        epoch,
    }
}

/// The plan of a route.
pub(super) fn plan(generation: &Generation, route: &Route, written: &Offload) -> OffloadPlan {
    let keys = &written.keys;
    let is_mqtt = matches!(route.service, config::Service::Mqtt(_));
    let syntax = if is_mqtt { Syntax::Mqtt } else { Syntax::Stomp };
    let (share, private) = if is_mqtt { (&EVERYTHING[..], &[][..]) } else { (&SHARE[..], &PRIVATE[..]) };
    let patterns = |texts: &[String], usual: &[&str]| match texts {
        [] => usual.iter().map(|text| Pattern::new(syntax, text)).collect(),
        texts => texts.iter().map(|text| Pattern::new(syntax, text)).collect(),
    };
    OffloadPlan {
        number: generation.offload(route).unwrap_or_default(),
        limits: generation.route(route).map_or(0, |number| number + 1),
        feed: generation.broker(route).unwrap_or_default(),
        upstreams: written.upstreams.iter().filter_map(|it| generation.upstream(it)).collect(),
        connect_ticks: ticks(written.connect_timeout),
        connections: keys.sessions,
        credentials: BrokerCredentials {
            user: written.user.as_deref().map(Box::from),
            password: written.password.clone(),
            host: keys.host.as_str().into(),
        },
        auth: route.auth.is_some(),
        share: [patterns(&keys.share, share), patterns(&keys.streams, &[])].concat(),
        private: patterns(&keys.private, private),
        rules: keys.permissions.iter().map(|it| rule(syntax, it)).collect(),
        snapshot: written.snapshot,
        tell_gaps: keys.tell_gaps,
        slow: slow(written),
        subscriptions_max: written.subscriptions_max,
        frame_bytes: usize::try_from(route.limits.message_bytes).unwrap_or(usize::MAX),
        header_bytes: route.limits.head_bytes as usize,
        header_count: usize::from(route.limits.head_count),
        prefetch: keys.prefetch,
        unconfirmed_bytes: keys.unconfirmed_bytes as usize,
        while_down: keys.while_down,
        missed: keys.missed,
        missed_rate: keys.missed_rate,
        heart_beat_millis: millis(keys.heart_beat),
        keep_alive_millis: millis(keys.keep_alive),
        client_id: keys.client_id.as_str().into(),
        private_when: keys.private_when,
        private_as_client: keys.private_as == config::PrivateAs::Client,
        private_max: keys.private_max,
        stamp: keys.stamp.as_deref().map(Box::from),
        bounds: bounds(keys),
    }
}

fn bounds(keys: &config::OffloadDraft) -> Bounds {
    Bounds {
        held_bytes: usize::try_from(keys.held_bytes).unwrap_or(usize::MAX),
        broker_frame_bytes: keys.broker_frame_bytes as usize,
        name_bytes: keys.name_bytes as usize,
        transactions_max: usize::from(keys.transactions_max),
        retained_bytes: keys.retained_bytes,
        receive_max: keys.receive_max,
        in_flight_max: keys.in_flight_max,
        topic_aliases_max: keys.topic_aliases_max,
    }
}

fn rule(syntax: Syntax, written: &config::Permission) -> Rule {
    Rule {
        patterns: written.destinations.iter().map(|text| Pattern::new(syntax, text)).collect(),
        roles: written.roles.iter().map(|role| role.as_str().into()).collect(),
        publish: written.publish,
        subscribe: written.subscribe,
    }
}

fn slow(written: &Offload) -> Slow {
    let config::SlowClient { policy, max_pending, max_age } = written.slow_client;
    Slow { policy, max_pending: u64::from(max_pending), max_age_ticks: ticks(max_age) }
}

/// The last value of a destination is kept where somebody may be sent it alone.
fn feed(written: &Offload, naming: Naming) -> FeedSettings {
    let keep = Keep {
        backlog: u64::from(written.slow_client.max_pending),
        values: written.snapshot || written.slow_client.policy == Policy::Conflate,
        value_bytes: written.keys.snapshot_bytes.into(),
        ..Keep::NOTHING
    };
    let channels_max = written.keys.topics_max as usize;
    FeedSettings { naming, channels_max, ..FeedSettings::new(None, keep) }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// The brokers of all routes, for the control thread.
pub(super) fn brokers(generation: &Generation, upstreams: &UpstreamTable) -> Vec<BrokerSettings> {
    let address = |it: &config::Upstream| {
        let number = generation.upstream(it)? as usize;
        let tls = upstreams.get(number).and_then(Option::as_ref).and_then(|shared| shared.tls.clone());
        Some(match it {
            config::Upstream::Tcp { host, port, .. } => BrokerAddress::Tcp { host: host.clone(), port: *port, tls },
            config::Upstream::Unix(path) => BrokerAddress::Unix(path.clone()),
        })
    };
    let broker = |(route, written): (&Route, &Offload)| BrokerSettings {
        name: format!("{}{}", route.host.as_deref().unwrap_or_default(), route.path),
        protocol: if matches!(route.service, config::Service::Mqtt(_)) { Protocol::Mqtt } else { Protocol::Stomp },
        route: generation.route(route).map_or(0, |number| number + 1),
        feed: generation.broker(route).unwrap_or_default(),
        addresses: written.upstreams.iter().filter_map(address).collect(),
        user: written.user.clone(),
        password: written.password.clone(),
        host: written.keys.host.clone(),
        // Two routes may have one broker.
        client_id: format!("{}-{}", written.keys.client_id, generation.broker(route).unwrap_or_default()),
        persistent: written.keys.persistent,
        streams: written.keys.streams.clone(),
        linger: written.keys.linger,
        heart_beat: written.keys.heart_beat,
        connect_timeout: written.connect_timeout,
        topics_max: written.keys.topics_max as usize,
        subscribe_rate: written.keys.subscribe_rate,
        message_bytes: written.keys.broker_frame_bytes as usize,
    };
    stomps(&generation.config).chain(mqtts(&generation.config)).map(broker).collect()
}

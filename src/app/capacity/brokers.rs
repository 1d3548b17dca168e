//! What routes in front of brokers take beside their clients: sessions, and what clients and brokers have shards keep.

use crate::app::config::{Config, Offload, Service};

/// A session of a shard beside those that are configured: for trials (STOMP), for groups (MQTT).
const MORE_SESSIONS: u64 = 1;

fn routes(config: &Config) -> impl Iterator<Item = (&Offload, bool)> {
    config.routes.iter().filter_map(|route| match &route.service {
        Service::Stomp(offload) => Some((&**offload, false)),
        Service::Mqtt(offload) => Some((&**offload, true)),
        _ => None,
    })
}

fn sessions(offload: &Offload) -> u64 {
    u64::from(offload.keys.sessions) + MORE_SESSIONS
}

/// Slots of each shard for its sessions with brokers, where it has so many clients: each of those may have one of its
/// own, as far as `private_max` goes.
pub fn slots(config: &Config, clients: u64) -> u64 {
    routes(config).map(|(offload, _)| sessions(offload) + u64::from(offload.keys.private_max).min(clients)).sum()
}

/// Bytes that so many shards keep, at most: what is not whole yet (`held_bytes`), what brokers have not confirmed
/// (`unconfirmed_bytes`), and retained messages, which shards share. How many routes there are.
pub fn kept(config: &Config, shards: u64) -> (u64, u64) {
    let of_one = |(offload, is_mqtt): (&Offload, bool)| {
        let keys = &offload.keys;
        let unconfirmed = sessions(offload) * u64::from(keys.unconfirmed_bytes);
        shards * (keys.held_bytes + unconfirmed) + if is_mqtt { keys.retained_bytes } else { 0 }
    };
    (routes(config).count() as u64, routes(config).map(of_one).fold(0, u64::saturating_add))
}

//! What the admin address shows of a broker.

use crate::control::stats::Count;

/// Counters and gauges of one broker.
#[derive(Debug, Default)]
pub struct BrokerStats {
    /// The route's path.
    pub name: String,
    /// Gauge: 1 while the session for shared topics is there.
    pub up: Count,
    /// Sessions that were lost.
    pub lost: Count,
    /// Gauge: topics that shards want.
    pub wanted: Count,
    /// Gauge: topics that the broker has confirmed.
    pub subscribed: Count,
    /// Subscriptions that the broker has refused, or that were more than `topics_max`.
    pub refused: Count,
    /// Messages that were published to the shards.
    pub messages: Count,
    /// Their bytes.
    pub bytes: Count,
}

impl BrokerStats {
    pub(super) fn new(name: String) -> BrokerStats {
        BrokerStats { name, ..BrokerStats::default() }
    }
}

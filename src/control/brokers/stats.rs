//! What the admin address shows of a broker.

use crate::control::stats::Count;

/// Counters and gauges of one broker.
#[derive(Debug, Default)]
pub struct BrokerStats {
    /// The route's path.
    pub name: String,
    /// Gauge: 1 while the session for shared topics is there.
    pub up: Count,
    /// Sessions that there were.
    pub sessions: Count,
    /// Those that were not the first.
    pub reconnects: Count,
    /// Sessions that were lost.
    pub lost: Count,
    /// Times that the broker has sent what its protocol does not have.
    pub nonsense: Count,
    /// Gauge: topics that shards want, or wanted a while ago.
    pub wanted: Count,
    /// Gauge: topics that the broker has confirmed.
    pub subscribed: Count,
    /// Messages that were published to the shards.
    pub messages: Count,
    /// Their bytes.
    pub bytes: Count,
    /// MQTT: copies of a message that came once more, for another filter.
    pub duplicates: Count,
    /// MQTT: subscriptions that were confirmed though the broker could not be asked for what it keeps.
    pub kept_unknown: Count,
    refused: [Count; Refused::ALL.len()],
}

/// Why a subscription is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The broker does not want it.
    Broker,
    /// `topics_max`.
    TopicsMax,
    /// MQTT 3.1.1: the filter overlaps with another, and a message would come for both.
    Overlap,
}

impl Refused {
    /// All of them.
    pub const ALL: [Refused; 3] = [Refused::Broker, Refused::TopicsMax, Refused::Overlap];

    /// As a label has it.
    pub fn word(self) -> &'static str {
        match self {
            Refused::Broker => "broker",
            Refused::TopicsMax => "topics_max",
            Refused::Overlap => "overlap",
        }
    }
}

impl BrokerStats {
    pub(super) fn new(name: String) -> BrokerStats {
        BrokerStats { name, ..BrokerStats::default() }
    }

    pub(super) fn refuse(&self, why: Refused) {
        self.refused[why as usize].add();
    }

    /// Subscriptions that were refused for this reason.
    pub fn refused(&self, why: Refused) -> u64 {
        self.refused[why as usize].get()
    }
}

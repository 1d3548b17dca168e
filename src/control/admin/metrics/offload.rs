//! The metrics of routes in front of brokers.

use super::{Kind, Metric, Samples, Snapshot};
use crate::control::brokers::{BrokerStats, Refused};
use crate::mesh::{Counters, OffloadKind, OffloadRefused};

pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "edgehold_broker_up",
        kind: Kind::Gauge,
        help: "1 while the session is there by which the whole edge shares topics of a route's broker.",
        labels: &["route"],
        samples: |snapshot, samples| brokers(snapshot, samples, |it| it.up.get()),
    },
    Metric {
        name: "edgehold_broker_lost_total",
        kind: Kind::Counter,
        help: "Such sessions that were lost; subscribers are told a gap (`tell_gaps`).",
        labels: &["route"],
        samples: |snapshot, samples| brokers(snapshot, samples, |it| it.lost.get()),
    },
    Metric {
        name: "edgehold_broker_reconnects_total",
        kind: Kind::Counter,
        help: "Such sessions that were made again.",
        labels: &["route"],
        samples: |snapshot, samples| brokers(snapshot, samples, |it| it.reconnects.get()),
    },
    Metric {
        name: "edgehold_broker_nonsense_total",
        kind: Kind::Counter,
        help: "Such sessions that were ended since the broker has sent what its protocol does not have.",
        labels: &["route"],
        samples: |snapshot, samples| brokers(snapshot, samples, |it| it.nonsense.get()),
    },
    Metric {
        name: "edgehold_broker_topics_wanted",
        kind: Kind::Gauge,
        help: "Destinations that clients subscribe to, or did until `linger` ago (`topics_max`).",
        labels: &["route"],
        samples: |snapshot, samples| brokers(snapshot, samples, |it| it.wanted.get()),
    },
    Metric {
        name: "edgehold_broker_topics_subscribed",
        kind: Kind::Gauge,
        help: "Those that the broker has confirmed.",
        labels: &["route"],
        samples: |snapshot, samples| brokers(snapshot, samples, |it| it.subscribed.get()),
    },
    Metric {
        name: "edgehold_broker_topics_refused_total",
        kind: Kind::Counter,
        help: "Destinations that the broker has refused (`broker`), more than `topics_max`, or that overlap with \
               another where the broker's MQTT cannot tell their messages apart (`overlap`).",
        labels: &["route", "reason"],
        samples: |snapshot, samples| {
            for broker in snapshot.counts.brokers.iter() {
                for why in Refused::ALL {
                    samples.add(&[&broker.name, why.word()], broker.refused(why));
                }
            }
        },
    },
    Metric {
        name: "edgehold_broker_messages_total",
        kind: Kind::Counter,
        help: "Messages of shared destinations, each counted once however many clients are sent it.",
        labels: &["route"],
        samples: |snapshot, samples| brokers(snapshot, samples, |it| it.messages.get()),
    },
    Metric {
        name: "edgehold_broker_bytes_total",
        kind: Kind::Counter,
        help: "Bytes of these messages.",
        labels: &["route"],
        samples: |snapshot, samples| brokers(snapshot, samples, |it| it.bytes.get()),
    },
    Metric {
        name: "edgehold_broker_kept_unknown_total",
        kind: Kind::Counter,
        help: "MQTT filters that were confirmed though the broker could not be asked what it keeps of them.",
        labels: &["route"],
        samples: |snapshot, samples| brokers(snapshot, samples, |it| it.kept_unknown.get()),
    },
    Metric {
        name: "edgehold_broker_duplicates_total",
        kind: Kind::Counter,
        help: "Copies of messages that MQTT brokers have sent once more, for another filter; nobody is sent them.",
        labels: &["route"],
        samples: |snapshot, samples| brokers(snapshot, samples, |it| it.duplicates.get()),
    },
    Metric {
        name: "edgehold_offload_sessions",
        kind: Kind::Gauge,
        help: "Sessions of shards with brokers that are up.",
        labels: &["service"],
        samples: |snapshot, samples| by_service(snapshot, samples, |counters| &counters.offload_sessions),
    },
    Metric {
        name: "edgehold_offload_private_sessions",
        kind: Kind::Gauge,
        help: "Clients that have a session of their own with a broker (`private_max`).",
        labels: &["service"],
        samples: |snapshot, samples| by_service(snapshot, samples, |counters| &counters.offload_private),
    },
    Metric {
        name: "edgehold_offload_published_total",
        kind: Kind::Counter,
        help: "Messages of clients that were handed to brokers.",
        labels: &["service"],
        samples: |snapshot, samples| by_service(snapshot, samples, |counters| &counters.offload_published),
    },
    Metric {
        name: "edgehold_offload_unconfirmed_bytes",
        kind: Kind::Gauge,
        help: "Bytes that brokers have not confirmed (`unconfirmed_bytes`).",
        labels: &["service"],
        samples: |snapshot, samples| by_service(snapshot, samples, |counters| &counters.offload_unconfirmed_bytes),
    },
    Metric {
        name: "edgehold_offload_held_bytes",
        kind: Kind::Gauge,
        help: "Bytes of cut frames, wills and topic aliases of clients (`held_bytes`).",
        labels: &["service"],
        samples: |snapshot, samples| by_service(snapshot, samples, |counters| &counters.offload_held_bytes),
    },
    summed!(
        "edgehold_offload_retained_bytes",
        Gauge,
        "Bytes of retained messages of MQTT, in each shard; summed. Shards share them (`retained_bytes`).",
        offload_retained_bytes
    ),
    summed!(
        "edgehold_offload_unkept_total",
        Counter,
        "Retained messages that there was no room for, in each shard; summed.",
        offload_unkept
    ),
    Metric {
        name: "edgehold_offload_held_back_total",
        kind: Kind::Counter,
        help: "Times that a client was not read since its session with the broker was full.",
        labels: &["service"],
        samples: |snapshot, samples| by_service(snapshot, samples, |counters| &counters.offload_held_back),
    },
    summed!(
        "edgehold_offload_queue_messages_total",
        Counter,
        "Messages of destinations that are not shared, each for one client.",
        offload_queue_messages
    ),
    summed!(
        "edgehold_offload_given_back_total",
        Counter,
        "Messages that clients had not acknowledged when they left, and that brokers were given back.",
        offload_given_back
    ),
    summed!(
        "edgehold_offload_retired_total",
        Counter,
        "Sessions that were ended so that brokers have back what clients that left had not acknowledged.",
        offload_retired
    ),
    summed!(
        "edgehold_offload_missed_total",
        Counter,
        "Clients of MQTT that were ended since messages of QoS 1 or 2 may have been missed (`missed`).",
        offload_missed
    ),
    Metric {
        name: "edgehold_offload_refused_total",
        kind: Kind::Counter,
        help: "What clients of brokers were refused, by reason: ERROR, or a reason code, or the end of the connection.",
        labels: &["service", "reason"],
        samples: |snapshot, samples| {
            for kind in OffloadKind::ALL {
                for reason in OffloadRefused::ALL {
                    let count = |counters: &Counters| counters.offload_refused[*kind as usize][*reason as usize];
                    samples.add(&[kind.word(), reason.word()], snapshot.sum(count));
                }
            }
        },
    },
];

fn brokers(snapshot: &Snapshot<'_>, samples: &mut Samples<'_>, count: fn(&BrokerStats) -> u64) {
    for broker in snapshot.counts.brokers.iter() {
        samples.add(&[&broker.name], count(broker));
    }
}

fn by_service(snapshot: &Snapshot<'_>, samples: &mut Samples<'_>, count: fn(&Counters) -> &[u64; OffloadKind::COUNT]) {
    for kind in OffloadKind::ALL {
        samples.add(&[kind.word()], snapshot.sum(|counters| count(counters)[*kind as usize]));
    }
}

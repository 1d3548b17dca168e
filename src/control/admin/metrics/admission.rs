//! The metrics of who may come in, and how many at once.

use super::{Counts, Kind, Metric};
use crate::mesh::{Networks, Refused};
use std::sync::atomic::Ordering;

pub(super) const ADMISSION: &[Metric] = &[
    Metric {
        name: "edgehold_refusals_spared_total",
        kind: Kind::Counter,
        help: "Clients that would have been refused, but for `dry_run`.",
        labels: &["reason"],
        samples: |snapshot, samples| {
            for reason in Refused::ALL.iter().filter(|it| it.may_be_spared()) {
                samples.add(&[reason.word()], snapshot.sum(|counters| counters.refusals_spared[*reason as usize]));
            }
        },
    },
    Metric {
        name: "edgehold_tallies",
        kind: Kind::Gauge,
        help: "Addresses, routes and identities under which connections are counted (`limits.addresses`).",
        labels: &[],
        samples: |snapshot, samples| {
            // Who is entered by one shard may be left by another, which has reported before.
            let (entered, left) = (snapshot.sum(|it| it.tallies_entered), snapshot.sum(|it| it.tallies_left));
            samples.add(&[], entered.saturating_sub(left));
        },
    },
    counted!("edgehold_tallies_limit", Gauge, "The most that there is room for.", |it| it.tallies_limit),
    summed!(
        "edgehold_tallies_forgotten_total",
        Counter,
        "Entries that were given to another key: nobody was counted there, and their rates had recovered.",
        tallies_forgotten
    ),
    summed!(
        "edgehold_tallies_uncounted_total",
        Counter,
        "Connections that were let in uncounted, since there was no entry for them.",
        tallies_uncounted
    ),
    summed!(
        "edgehold_rate_held_total",
        Counter,
        "Times that a client was not read since it had sent faster than one may (`identity`).",
        rate_held
    ),
    summed!(
        "edgehold_rate_closed_total",
        Counter,
        "Clients that were closed for that (`identity.exceeding`).",
        rate_closed
    ),
    Metric {
        name: "edgehold_networks",
        kind: Kind::Gauge,
        help: "Ranges of addresses of the lists in force (`allow`, `deny` and their files), those that touch joined; \
               listener `*`: those of `[limits]`.",
        labels: &["listener", "list"],
        samples: |snapshot, samples| {
            for kept in snapshot.counts.lists.iter() {
                let listed = kept.lists.listed();
                let allow = listed.allow.as_ref().map_or(0, Networks::len);
                samples.add(&[&kept.listener, "allow"], allow as u64);
                samples.add(&[&kept.listener, "deny"], listed.deny.len() as u64);
            }
        },
    },
    Metric {
        name: "edgehold_networks_reads_total",
        kind: Kind::Counter,
        help: "Times that files of these lists were read: they were taken (`ok`), or those before kept (`failed`).",
        labels: &["listener", "result"],
        samples: |snapshot, samples| {
            for kept in snapshot.counts.lists.iter() {
                samples.add(&[&kept.listener, "ok"], kept.read.get());
                samples.add(&[&kept.listener, "failed"], kept.failed.get());
            }
        },
    },
    Metric {
        name: "edgehold_networks_read_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When the lists in force were read, in seconds since 1970.",
        labels: &["listener"],
        samples: |snapshot, samples| {
            for kept in snapshot.counts.lists.iter() {
                samples.add(&[&kept.listener], kept.last.get());
            }
        },
    },
    Metric {
        name: "edgehold_networks_refused",
        kind: Kind::Gauge,
        help: "1 while the files of these lists are others than those in use, since one cannot be used: see the log.",
        labels: &["listener"],
        samples: |snapshot, samples| {
            for kept in snapshot.counts.lists.iter() {
                samples.add(&[&kept.listener], kept.refused.load(Ordering::Relaxed).into());
            }
        },
    },
];

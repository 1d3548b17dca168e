//! The metrics of `auth`.

use super::{Kind, Metric, Samples, Snapshot};
use crate::control::auth::{AuthStats, Kind as AuthKind, SourceState};

pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "edgehold_auth_questions_total",
        kind: Kind::Counter,
        help: "Credentials that shards have asked about: seen for the first time, or not remembered any more.",
        labels: &["kind"],
        samples: |snapshot, samples| by_kind(snapshot, samples, AuthStats::asked),
    },
    Metric {
        name: "edgehold_auth_verdicts_total",
        kind: Kind::Counter,
        help: "Answers to them: `admitted`, or why not.",
        labels: &["kind", "verdict"],
        samples: |snapshot, samples| {
            for kind in AuthKind::ALL {
                for (verdict, count) in snapshot.counts.auth.verdicts(kind) {
                    samples.add(&[kind.word(), verdict], count);
                }
            }
        },
    },
    Metric {
        name: "edgehold_auth_waiting",
        kind: Kind::Gauge,
        help: "Credentials that wait for their turn (`auth_limits`, `auth.forward.parallel`).",
        labels: &["kind"],
        samples: |snapshot, samples| by_kind(snapshot, samples, AuthStats::waiting),
    },
    Metric {
        name: "edgehold_auth_under_way",
        kind: Kind::Gauge,
        help: "Credentials that are being verified.",
        labels: &["kind"],
        samples: |snapshot, samples| by_kind(snapshot, samples, AuthStats::under_way),
    },
    Metric {
        name: "edgehold_auth_seconds_total",
        kind: Kind::Counter,
        help: "Whole seconds that all answers have taken together, waiting included.",
        labels: &["kind"],
        samples: |snapshot, samples| by_kind(snapshot, samples, AuthStats::seconds),
    },
    Metric {
        name: "edgehold_auth_source_up",
        kind: Kind::Gauge,
        help: "1 where a file of users or of keys, a JWKS, or a server that is asked was good the last time; else the \
               log and `/v1/status` say why.",
        labels: &["kind", "source"],
        samples: |snapshot, samples| {
            by_source(snapshot, samples, |it| u64::from(it.has_been_good() && it.why().is_none()));
        },
    },
    Metric {
        name: "edgehold_auth_source_entries",
        kind: Kind::Gauge,
        help: "Users or keys of it that are in use.",
        labels: &["kind", "source"],
        samples: |snapshot, samples| by_source(snapshot, samples, |it| it.entries.get()),
    },
    Metric {
        name: "edgehold_auth_source_age_seconds",
        kind: Kind::Gauge,
        help: "Time since it was good last; 0 where it never was.",
        labels: &["kind", "source"],
        samples: |snapshot, samples| by_source(snapshot, samples, SourceState::age),
    },
    Metric {
        name: "edgehold_auth_source_good_total",
        kind: Kind::Counter,
        help: "Times that it was read, fetched or asked, and was good.",
        labels: &["kind", "source"],
        samples: |snapshot, samples| by_source(snapshot, samples, |it| it.good.get()),
    },
    Metric {
        name: "edgehold_auth_source_failures_total",
        kind: Kind::Counter,
        help: "Times that it was not; what was good last stays in use.",
        labels: &["kind", "source"],
        samples: |snapshot, samples| by_source(snapshot, samples, |it| it.failures.get()),
    },
];

fn by_kind(snapshot: &Snapshot<'_>, samples: &mut Samples<'_>, count: fn(&AuthStats, AuthKind) -> u64) {
    for kind in AuthKind::ALL {
        samples.add(&[kind.word()], count(&snapshot.counts.auth, kind));
    }
}

fn by_source(snapshot: &Snapshot<'_>, samples: &mut Samples<'_>, value: fn(&SourceState) -> u64) {
    for source in &snapshot.counts.auth.sources {
        samples.add(&[source.kind, &source.name], value(source));
    }
}

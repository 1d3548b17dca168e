//! The metrics: one table, from which `/metrics` and docs/metrics.md are both written.

mod auth;

use super::bodies::BodyRoom;
use crate::control::certificates::{Standing, TlsState};
use crate::control::feeds::{Feed, FeedState, Reason, Stats};
use crate::control::publishing::{Backlogs, ShardBacklog};
use crate::control::reports::Seen;
use crate::control::stats::Counts;
use crate::mesh::{
    Cause, Counters, Denied, HandshakeStage, Health, OffloadRefused, Refused, ServiceKind, Stage, UpstreamTls,
};
use edgehold_wire::{proxy_protocol, tls};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The values of labels that come from the configuration.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// The listeners' names, by number.
    pub listeners: Vec<String>,
    /// The upstreams, by number.
    pub upstreams: Vec<String>,
    /// The upstreams' health, by number.
    pub health: Arc<[Arc<Health>]>,
    /// TLS towards the upstreams, by number; `None`: clear text.
    pub upstream_tls: Vec<Option<UpstreamTls>>,
}

/// The state of the server at one moment.
pub struct Snapshot<'l> {
    shards: Vec<Seen>,
    counts: Counts,
    labels: &'l Labels,
    feeds: &'l [Arc<Feed>],
    backlogs: Option<Arc<Backlogs>>,
    /// Bytes of request bodies, and the most that there may be.
    bodies: (u64, u64),
    uptime: Duration,
    resident: u64,
}

impl<'l> Snapshot<'l> {
    /// From the shards' reports; reads the process's memory.
    pub fn new(shards: Vec<Seen>, labels: &'l Labels, uptime: Duration) -> Snapshot<'l> {
        let counts = Counts::default();
        Snapshot {
            shards,
            counts,
            labels,
            feeds: &[],
            backlogs: None,
            bodies: (0, 0),
            uptime,
            resident: resident_bytes(),
        }
    }

    /// With what the control thread counts.
    #[must_use]
    pub fn with_counts(self, counts: &Counts) -> Snapshot<'l> {
        Snapshot { counts: counts.clone(), ..self }
    }

    /// With the feeds, and what shards have still to read of their messages.
    #[must_use]
    pub fn with_feeds(self, feeds: &'l [Arc<Feed>], backlogs: Arc<Backlogs>) -> Snapshot<'l> {
        Snapshot { feeds, backlogs: Some(backlogs), ..self }
    }

    /// With the room of the admin address for request bodies.
    pub(super) fn with_bodies(self, bodies: &BodyRoom) -> Snapshot<'l> {
        Snapshot { bodies: (bodies.used(), bodies.limit()), ..self }
    }

    fn all_counters(&self) -> impl Iterator<Item = &Counters> {
        self.shards.iter().filter_map(|it| it.report.as_ref()).map(|report| &report.counters)
    }

    fn sum(&self, count: impl Fn(&Counters) -> u64) -> u64 {
        self.all_counters().map(count).sum()
    }
}

/// Resident memory of this process in bytes; zero where /proc cannot be read.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

/// One metric: what docs/metrics.md says of it, and how its samples are taken.
struct Metric {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    labels: &'static [&'static str],
    samples: fn(&Snapshot<'_>, &mut Samples<'_>),
}

/// The output for the samples of one metric.
struct Samples<'o> {
    out: &'o mut String,
    metric: &'o Metric,
}

impl Samples<'_> {
    fn add(&mut self, values: &[&str], value: u64) {
        self.out.push_str(self.metric.name);
        for (place, (label, label_value)) in self.metric.labels.iter().zip(values).enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{before}{label}=\"{}\"", escaped(label_value));
        }
        let after = if values.is_empty() { "" } else { "}" };
        let _ = writeln!(self.out, "{after} {value}");
    }
}

/// A label value with the escapes of the text format.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The snapshot in the text format of Prometheus, version 0.0.4.
pub fn render(snapshot: &Snapshot<'_>) -> String {
    let mut out = String::new();
    for metric in all() {
        let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {}", metric.name, metric.help, metric.name, metric.kind.word());
        (metric.samples)(snapshot, &mut Samples { out: &mut out, metric });
    }
    out
}

/// The page docs/metrics.md.
pub fn reference() -> String {
    let mut page = String::from(REFERENCE_HEAD);
    for metric in all() {
        let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let labels = if labels.is_empty() { "–".into() } else { labels };
        let _ = writeln!(page, "| `{}` | {} | {} | {} |", metric.name, metric.kind.word(), labels, metric.help);
    }
    for (label, values) in label_values() {
        let _ = writeln!(page, "\n## Values of {label}\n\n{}", values.join(", "));
    }
    page
}

const REFERENCE_HEAD: &str = "\
# Metrics

Written by `edgehold reference metrics` from the table in src/control/admin/metrics.rs; do not edit.

`GET /metrics` on the admin address answers in the text format of Prometheus. Every label takes its values from the
configuration or from a fixed list, so that the number of series does not grow with the number of clients. Counters
begin at zero when the server starts. A shard that does not answer within a second shows as `edgehold_shard_up 0`; the
sums have what it said last.

| metric | type | labels | meaning |
|---|---|---|---|
";

fn label_values() -> [(&'static str, Vec<&'static str>); 8] {
    [
        ("`state`", Stage::ALL.iter().map(|it| it.word()).collect()),
        ("`service`", ServiceKind::ALL.iter().map(|it| it.word()).collect()),
        ("`cause`", Cause::ALL.iter().map(|it| it.word()).collect()),
        ("`reason` of `edgehold_refusals_total`", Refused::ALL.iter().map(|it| it.word()).collect()),
        ("`reason` of `edgehold_auth_denied_total`", Denied::ALL.iter().map(|it| it.word()).collect()),
        ("`reason` of `edgehold_offload_refused_total`", OffloadRefused::ALL.iter().map(|it| it.word()).collect()),
        ("`reason` of `edgehold_feed_refused_total`", Reason::ALL.iter().map(|it| it.word()).collect()),
        ("`reason` of `edgehold_tls_handshake_failures_total`", tls::Reason::WORDS.to_vec()),
    ]
}

/// A metric without labels that is the sum of one count over all shards.
macro_rules! summed {
    ($name:literal, $kind:ident, $help:literal, $field:ident) => {
        Metric {
            name: $name,
            kind: Kind::$kind,
            help: $help,
            labels: &[],
            samples: |snapshot, samples| samples.add(&[], snapshot.sum(|counters| counters.$field)),
        }
    };
}

/// A metric without labels from the control thread's own counters.
macro_rules! counted {
    ($name:literal, $kind:ident, $help:literal, $count:expr) => {
        Metric {
            name: $name,
            kind: Kind::$kind,
            help: $help,
            labels: &[],
            samples: |snapshot, samples| {
                let count: fn(&Counts) -> u64 = $count;
                samples.add(&[], count(&snapshot.counts));
            },
        }
    };
}

mod admission;
mod offload;

/// All of them, in the order of the page.
fn all() -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().chain(auth::METRICS).chain(admission::ADMISSION).chain(offload::METRICS)
}

const METRICS: &[Metric] = &[
    Metric {
        name: "edgehold_connections",
        kind: Kind::Gauge,
        help: "Open connections. The listener `upstream` stands for connections to back ends.",
        labels: &["listener", "service", "state"],
        samples: connections,
    },
    Metric {
        name: "edgehold_accepts_total",
        kind: Kind::Counter,
        help: "Clients accepted.",
        labels: &["listener"],
        samples: |snapshot, samples| {
            for (number, name) in snapshot.labels.listeners.iter().enumerate() {
                samples.add(&[name], snapshot.sum(|counters| counters.accepts[number]));
            }
        },
    },
    summed!("edgehold_accept_errors_total", Counter, "Accepts that the kernel failed.", accept_errors),
    Metric {
        name: "edgehold_refusals_total",
        kind: Kind::Counter,
        help: "Requests and clients refused.",
        labels: &["reason"],
        samples: |snapshot, samples| {
            for reason in Refused::ALL {
                samples.add(&[reason.word()], snapshot.sum(|counters| counters.refusals[*reason as usize]));
            }
        },
    },
    Metric {
        name: "edgehold_closes_total",
        kind: Kind::Counter,
        help: "Client connections that have ended.",
        labels: &["cause"],
        samples: |snapshot, samples| {
            for cause in Cause::ALL {
                samples.add(&[cause.word()], snapshot.sum(|counters| counters.closes[*cause as usize]));
            }
        },
    },
    Metric {
        name: "edgehold_messages_total",
        kind: Kind::Counter,
        help: "Whole messages from (`in`) and to (`out`) clients. Over HTTP, requests answered and their responses; \
               a WebSocket opening is neither.",
        labels: &["service", "direction"],
        samples: |snapshot, samples| {
            for service in ServiceKind::ALL {
                let number = *service as usize;
                samples.add(&[service.word(), "in"], snapshot.sum(|counters| counters.messages_in[number]));
                samples.add(&[service.word(), "out"], snapshot.sum(|counters| counters.messages_out[number]));
            }
        },
    },
    Metric {
        name: "edgehold_bytes_total",
        kind: Kind::Counter,
        help: "Bytes from (`in`) and to (`out`) clients and upstreams (`peer`).",
        labels: &["peer", "direction"],
        samples: |snapshot, samples| {
            samples.add(&["client", "in"], snapshot.sum(|counters| counters.bytes_in));
            samples.add(&["client", "out"], snapshot.sum(|counters| counters.bytes_out));
            samples.add(&["upstream", "in"], snapshot.sum(|counters| counters.upstream_bytes_in));
            samples.add(&["upstream", "out"], snapshot.sum(|counters| counters.upstream_bytes_out));
        },
    },
    summed!("edgehold_pending_bytes", Gauge, "Bytes queued and not yet taken by the kernel.", pending_bytes),
    summed!("edgehold_outbox_bytes", Gauge, "Memory of outbox chunks in use.", outbox_bytes),
    summed!(
        "edgehold_outbox_limit_bytes",
        Gauge,
        "The most that outbox chunks may take (`outbox_bytes`).",
        outbox_limit
    ),
    summed!(
        "edgehold_outbox_resident_bytes",
        Gauge,
        "Memory that the outboxes have of the kernel: chunks in use, free ones between them, a few spare blocks.",
        outbox_resident
    ),
    summed!(
        "edgehold_outbox_evictions_total",
        Counter,
        "Connections that gave way because `outbox_bytes` were used up and they held the most.",
        evictions
    ),
    summed!(
        "edgehold_connection_bytes_passed_total",
        Counter,
        "Times that a connection would have held more than `connection_bytes`.",
        connection_bytes_passed
    ),
    summed!(
        "edgehold_faults_total",
        Counter,
        "Faults of edgehold itself that closed a connection: see the log.",
        faults
    ),
    summed!(
        "edgehold_held_back_total",
        Counter,
        "Times that a peer was not listened to because the other side took nothing (`max_pending`).",
        held_back
    ),
    summed!(
        "edgehold_lines_not_utf8_total",
        Counter,
        "Upstream lines that were not UTF-8 and went out as binary frames.",
        lines_not_utf8
    ),
    summed!("edgehold_subscriptions", Gauge, "Subscriptions of clients to channels and prefixes.", subscriptions),
    summed!(
        "edgehold_channels",
        Gauge,
        "Channels and prefixes that somebody hears or that are kept, in each shard; summed.",
        channels
    ),
    summed!(
        "edgehold_slow_messages_dropped_total",
        Counter,
        "Messages left out for clients above `slow_client` (`drop_oldest`, `gap`).",
        slow_dropped
    ),
    summed!(
        "edgehold_slow_conflations_total",
        Counter,
        "Times that a client above `slow_client` was left only the last values (`conflate`).",
        slow_conflated
    ),
    summed!(
        "edgehold_slow_closes_total",
        Counter,
        "Clients above `slow_client` that were closed (`close`).",
        slow_closed
    ),
    summed!("edgehold_gaps_told_total", Counter, "Gaps that clients were told of.", gaps_told),
    summed!(
        "edgehold_gaps_late_total",
        Counter,
        "Gaps for clients that had taken all they were given: the shard was late, or the feed too fast.",
        gaps_late
    ),
    summed!(
        "edgehold_subscription_changes_refused_total",
        Counter,
        "Changes of subscriptions that were refused (`subscription_changes`).",
        changes_refused
    ),
    summed!(
        "edgehold_channels_refused_total",
        Counter,
        "Messages of channels beyond `channels_max` of their feed, which are kept for nobody, in each shard; summed.",
        channels_refused
    ),
    summed!(
        "edgehold_prefix_steps_total",
        Counter,
        "Channels and messages that were looked at for clients that came back to a prefix.",
        prefix_steps
    ),
    summed!(
        "edgehold_replay_bytes",
        Gauge,
        "Bytes of messages, about, that are kept (`replay`, `last_values`), in each shard; summed. Shards share them.",
        replay_bytes
    ),
    Metric {
        name: "edgehold_deflated_messages_total",
        kind: Kind::Counter,
        help: "Messages that came deflated, or were deflated; one that goes to many counts once.",
        labels: &["direction"],
        samples: |snapshot, samples| {
            samples.add(&["in"], snapshot.sum(|counters| counters.deflated_in));
            samples.add(&["out"], snapshot.sum(|counters| counters.deflated_out));
        },
    },
    Metric {
        name: "edgehold_deflate_saved_bytes_total",
        kind: Kind::Counter,
        help: "Bytes by which deflated messages were shorter than what they say.",
        labels: &["direction"],
        samples: |snapshot, samples| {
            samples.add(&["in"], snapshot.sum(|counters| counters.deflate_saved_in));
            samples.add(&["out"], snapshot.sum(|counters| counters.deflate_saved_out));
        },
    },
    summed!(
        "edgehold_inflate_refusals_total",
        Counter,
        "Deflated messages that were corrupt, above `message_bytes`, or text that is not UTF-8.",
        inflate_refusals
    ),
    summed!("edgehold_deflate_window_bytes", Gauge, "Memory of deflate windows in use.", deflate_window_bytes),
    summed!(
        "edgehold_deflate_window_limit_bytes",
        Gauge,
        "The most that deflate windows may take (`deflate_window_bytes`).",
        deflate_window_limit
    ),
    Metric {
        name: "edgehold_upstream_connections",
        kind: Kind::Gauge,
        help: "Connections to an upstream, being called or open.",
        labels: &["upstream"],
        samples: |snapshot, samples| {
            upstreams(snapshot, samples, |counters, number| counters.upstreams[number].connections);
        },
    },
    Metric {
        name: "edgehold_upstream_dials_total",
        kind: Kind::Counter,
        help: "Calls to an upstream.",
        labels: &["upstream"],
        samples: |snapshot, samples| upstreams(snapshot, samples, |counters, number| counters.upstreams[number].dials),
    },
    Metric {
        name: "edgehold_upstream_failures_total",
        kind: Kind::Counter,
        help: "Times that no address of an upstream answered.",
        labels: &["upstream"],
        samples: |snapshot, samples| {
            upstreams(snapshot, samples, |counters, number| counters.upstreams[number].failures);
        },
    },
    Metric {
        name: "edgehold_upstream_tls_handshakes_total",
        kind: Kind::Counter,
        help: "TLS handshakes with an upstream, `full` or `resumed`.",
        labels: &["upstream", "kind"],
        samples: |snapshot, samples| {
            for (number, name) in snapshot.labels.upstreams.iter().enumerate() {
                for (kind, word) in ["full", "resumed"].into_iter().enumerate() {
                    samples.add(&[name, word], snapshot.sum(|it| it.upstreams[number].tls_handshakes[kind]));
                }
            }
        },
    },
    Metric {
        name: "edgehold_upstream_tls_failures_total",
        kind: Kind::Counter,
        help: "TLS handshakes with an upstream that have failed; the log and `/v1/status` say why.",
        labels: &["upstream"],
        samples: |snapshot, samples| {
            upstreams(snapshot, samples, |counters, number| counters.upstreams[number].tls_failures);
        },
    },
    Metric {
        name: "edgehold_upstream_tls_files_refused",
        kind: Kind::Gauge,
        help: "1 while the files of `upstream_tls` are others than those in use, since they cannot be used.",
        labels: &["upstream"],
        samples: |snapshot, samples| {
            for (name, tls) in snapshot.labels.upstreams.iter().zip(&snapshot.labels.upstream_tls) {
                if let Some(tls) = tls {
                    samples.add(&[name], u64::from(tls.is_refused()));
                }
            }
        },
    },
    Metric {
        name: "edgehold_upstream_up",
        kind: Kind::Gauge,
        help: "0 from the moment when no address of an upstream answers to the next answer.",
        labels: &["upstream"],
        samples: |snapshot, samples| {
            for (name, health) in snapshot.labels.upstreams.iter().zip(snapshot.labels.health.iter()) {
                samples.add(&[name], u64::from(health.is_up()));
            }
        },
    },
    Metric {
        name: "edgehold_feed_up",
        kind: Kind::Gauge,
        help: "1 while the feed is connected, or listens.",
        labels: &["feed"],
        samples: |snapshot, samples| feeds(snapshot, samples, |stats| u64::from(stats.state() == FeedState::Up)),
    },
    Metric {
        name: "edgehold_feed_messages_total",
        kind: Kind::Counter,
        help: "Messages of a feed that were handed over to the shards.",
        labels: &["feed"],
        samples: |snapshot, samples| feeds(snapshot, samples, Stats::messages),
    },
    Metric {
        name: "edgehold_feed_bytes_total",
        kind: Kind::Counter,
        help: "Bytes of their payloads.",
        labels: &["feed"],
        samples: |snapshot, samples| feeds(snapshot, samples, Stats::bytes),
    },
    Metric {
        name: "edgehold_feed_refused_total",
        kind: Kind::Counter,
        help: "Messages of a feed that were dropped.",
        labels: &["feed", "reason"],
        samples: |snapshot, samples| {
            for feed in snapshot.feeds {
                for reason in Reason::ALL {
                    samples.add(&[&feed.settings.name, reason.word()], feed.stats.refused(reason));
                }
            }
        },
    },
    Metric {
        name: "edgehold_feed_reconnects_total",
        kind: Kind::Counter,
        help: "Times that a feed was up again after it was lost.",
        labels: &["feed"],
        samples: |snapshot, samples| feeds(snapshot, samples, Stats::reconnects),
    },
    Metric {
        name: "edgehold_feed_lost_total",
        kind: Kind::Counter,
        help: "Messages that the source of a feed lost before they were read; one a time where their number is \
               unknown. Clients were told a gap.",
        labels: &["feed"],
        samples: |snapshot, samples| feeds(snapshot, samples, Stats::lost),
    },
    Metric {
        name: "edgehold_publish_queue_bytes",
        kind: Kind::Gauge,
        help: "Bytes of messages, about, that some shard has still to read, those left behind not counted.",
        labels: &[],
        samples: |snapshot, samples| samples.add(&[], snapshot.backlogs.as_ref().map_or(0, |it| it.unread_bytes())),
    },
    Metric {
        name: "edgehold_publish_queue_limit_bytes",
        kind: Kind::Gauge,
        help: "Where feeds wait (`publish_backlog_bytes`).",
        labels: &[],
        samples: |snapshot, samples| samples.add(&[], snapshot.backlogs.as_ref().map_or(0, |it| it.limit_bytes())),
    },
    Metric {
        name: "edgehold_publish_backlog_bytes",
        kind: Kind::Gauge,
        help: "Bytes of messages, about, that a shard has still to read.",
        labels: &["shard"],
        samples: |snapshot, samples| backlogs(snapshot, samples, |it| it.bytes),
    },
    Metric {
        name: "edgehold_publish_left_behind",
        kind: Kind::Gauge,
        help: "1 while feeds go on without a shard that does not read (`publish_patience`).",
        labels: &["shard"],
        samples: |snapshot, samples| backlogs(snapshot, samples, |it| u64::from(it.left_behind)),
    },
    Metric {
        name: "edgehold_publish_left_behind_total",
        kind: Kind::Counter,
        help: "Times that feeds went on without a shard; its clients were told a gap.",
        labels: &["shard"],
        samples: |snapshot, samples| backlogs(snapshot, samples, |it| it.times),
    },
    Metric {
        name: "edgehold_shard_up",
        kind: Kind::Gauge,
        help: "1 where the shard answers.",
        labels: &["shard"],
        samples: |snapshot, samples| {
            for (number, seen) in snapshot.shards.iter().enumerate() {
                samples.add(&[&number.to_string()], u64::from(seen.late.is_none()));
            }
        },
    },
    Metric {
        name: "edgehold_shard_late_seconds",
        kind: Kind::Gauge,
        help: "How old the values of a shard are that does not answer; 0 where it does.",
        labels: &["shard"],
        samples: |snapshot, samples| {
            for (number, seen) in snapshot.shards.iter().enumerate() {
                samples.add(&[&number.to_string()], seen.late.map_or(0, |it| it.as_secs().max(1)));
            }
        },
    },
    Metric {
        name: "edgehold_slots",
        kind: Kind::Gauge,
        help: "Connections that a shard can hold.",
        labels: &["shard"],
        samples: |snapshot, samples| by_shard(snapshot, samples, |counters| counters.slots),
    },
    Metric {
        name: "edgehold_slots_used",
        kind: Kind::Gauge,
        help: "Connections that a shard holds, clients and upstreams.",
        labels: &["shard"],
        samples: |snapshot, samples| by_shard(snapshot, samples, |counters| counters.used),
    },
    summed!("edgehold_parks_total", Counter, "Connections put on a poll after `park_after` of quiet.", parks),
    summed!("edgehold_promotions_total", Counter, "Parked connections that went back to a receive.", promotions),
    summed!("edgehold_ring_rearms_total", Counter, "Receives that had ended and were armed again.", rearms),
    summed!(
        "edgehold_ring_no_buffers_total",
        Counter,
        "Receives that found no provided buffer (`recv_buffers`).",
        no_buffers
    ),
    summed!(
        "edgehold_ring_cq_overflows_total",
        Counter,
        "Times that the completion queue was found full.",
        cq_overflows
    ),
    summed!("edgehold_ring_enters_total", Counter, "Calls of io_uring_enter.", enters),
    summed!("edgehold_ring_completions_total", Counter, "Completions handled.", completions),
    summed!(
        "edgehold_ring_late_completions_total",
        Counter,
        "Completions for a slot's former connection, dropped.",
        late_completions
    ),
    summed!("edgehold_turns_total", Counter, "Turns of the shards' loops.", turns),
    summed!("edgehold_shard_wakes_total", Counter, "Times that a letter woke a shard that slept.", wakes),
    summed!(
        "edgehold_turns_cut_short_total",
        Counter,
        "Turns that used up their budget (`turn_events`).",
        budgets_used_up
    ),
    summed!(
        "edgehold_letters_refused_total",
        Counter,
        "Letters to the control thread for which there was no room.",
        letters_refused
    ),
    summed!(
        "edgehold_shard_letters_refused_total",
        Counter,
        "Times that a letter from a shard to another found its mailbox full.",
        shard_letters_refused
    ),
    summed!(
        "edgehold_files_queued",
        Gauge,
        "Requests for files, and parts of downloads, that wait for their turn (`file_queue`, `file_wait`).",
        files_queued
    ),
    summed!(
        "edgehold_files_refused_total",
        Counter,
        "Requests for files and downloads that found too many before them, or waited for more than `file_wait`.",
        files_refused
    ),
    counted!("edgehold_files_held", Gauge, "Files held open between two parts.", |it| it.files_held.get()),
    counted!(
        "edgehold_files_held_limit",
        Gauge,
        "The most that may be held open (`open_files`); beyond, each part opens its file anew.",
        |it| it.files_held_limit
    ),
    counted!(
        "edgehold_admin_connections",
        Gauge,
        "Open connections to the admin address (`admin_connections`).",
        |it| it.admin_connections.get()
    ),
    counted!(
        "edgehold_admin_refused_total",
        Counter,
        "Connections to the admin address that found all places taken.",
        |it| it.admin_refused.get()
    ),
    counted!(
        "edgehold_admin_tls_failures_total",
        Counter,
        "TLS handshakes at the admin address that have failed (`admin_tls`).",
        |it| it.admin_tls_failures.get()
    ),
    summed!(
        "edgehold_auth_remembered_total",
        Counter,
        "Requests whose credentials a shard had heard of before: no question was asked.",
        auth_remembered
    ),
    summed!(
        "edgehold_auth_questions_total",
        Counter,
        "Questions that shards have asked about credentials.",
        auth_asked
    ),
    summed!("edgehold_auth_admitted_total", Counter, "Requests that were let in by who they are.", auth_admitted),
    Metric {
        name: "edgehold_auth_denied_total",
        kind: Kind::Counter,
        help: "Requests that were not let in by who they are.",
        labels: &["reason"],
        samples: |snapshot, samples| {
            for reason in Denied::ALL {
                samples.add(&[reason.word()], snapshot.sum(|counters| counters.auth_denied[*reason as usize]));
            }
        },
    },
    summed!("edgehold_auth_questions", Gauge, "Questions about credentials under way.", auth_questions),
    summed!("edgehold_auth_verdicts", Gauge, "Verdicts on credentials that shards remember.", auth_verdicts),
    summed!("edgehold_identified", Gauge, "Connections of which it is known who they are.", identified),
    summed!("edgehold_auth_expired_total", Counter, "Connections whose credentials have ended.", auth_expired),
    Metric {
        name: "edgehold_auth_refreshes_total",
        kind: Kind::Counter,
        help: "New credentials that clients have shown on open connections, `taken` or `refused`.",
        labels: &["result"],
        samples: |snapshot, samples| {
            for (result, word) in ["taken", "refused"].into_iter().enumerate() {
                samples.add(&[word], snapshot.sum(|counters| counters.auth_refreshes[result]));
            }
        },
    },
    Metric {
        name: "edgehold_proxy_headers_total",
        kind: Kind::Counter,
        help: "PROXY headers of clients that were taken, by version.",
        labels: &["version"],
        samples: |snapshot, samples| {
            for (place, version) in ["1", "2"].into_iter().enumerate() {
                samples.add(&[version], snapshot.sum(|counters| counters.proxy_headers[place]));
            }
        },
    },
    Metric {
        name: "edgehold_proxy_header_faults_total",
        kind: Kind::Counter,
        help: "Connections that were cut for what came in place of a PROXY header, or since it may not come from there \
               (`stranger`).",
        labels: &["reason"],
        samples: |snapshot, samples| {
            for fault in proxy_protocol::Fault::ALL {
                samples.add(&[fault.word()], snapshot.sum(|counters| counters.proxy_faults[*fault as usize]));
            }
            samples.add(&["stranger"], snapshot.sum(|counters| counters.proxy_strangers));
        },
    },
    summed!(
        "edgehold_forwarded_requests_total",
        Counter,
        "Requests of trusted proxies that have named their client (`trusted_proxies`).",
        forwarded_clients
    ),
    Metric {
        name: "edgehold_tls_handshakes_total",
        kind: Kind::Counter,
        help: "TLS handshakes of clients that were completed: with a signature (`full`), or with a ticket (`resumed`).",
        labels: &["kind"],
        samples: |snapshot, samples| {
            for (kind, word) in ["full", "resumed"].into_iter().enumerate() {
                samples.add(&[word], snapshot.sum(|counters| counters.tls_handshakes[kind]));
            }
        },
    },
    Metric {
        name: "edgehold_tls_handshake_failures_total",
        kind: Kind::Counter,
        help: "TLS handshakes of clients that have failed.",
        labels: &["reason"],
        samples: |snapshot, samples| {
            for (reason, word) in tls::Reason::WORDS.into_iter().enumerate() {
                samples.add(&[word], snapshot.sum(|counters| counters.tls_failures[reason]));
            }
        },
    },
    Metric {
        name: "edgehold_tls_handshakes_under_way",
        kind: Kind::Gauge,
        help: "TLS handshakes of clients: whose hello is not whole (`hello`), is and waits for its turn (`queued`), \
               takes a slow signature (`signing`), or was answered (`begun`).",
        labels: &["stage"],
        samples: |snapshot, samples| {
            for stage in HandshakeStage::ALL {
                samples.add(&[stage.word()], snapshot.sum(|counters| counters.tls_handshaking[*stage as usize]));
            }
        },
    },
    Metric {
        name: "edgehold_tls_handshakes_displaced_total",
        kind: Kind::Counter,
        help: "TLS handshakes that were ended because `tls_handshake_bytes` were used up: the oldest of those whose \
               hello was not whole (`hello`) or was answered (`begun`), and the newest of those that waited for their \
               turn (`queued`).",
        labels: &["stage"],
        samples: |snapshot, samples| {
            for stage in HandshakeStage::ALL {
                samples.add(&[stage.word()], snapshot.sum(|counters| counters.tls_displaced[*stage as usize]));
            }
        },
    },
    summed!("edgehold_tls_handshake_bytes", Gauge, "Memory of TLS handshakes under way, about.", tls_handshake_bytes),
    summed!(
        "edgehold_tls_handshake_limit_bytes",
        Gauge,
        "The most that TLS handshakes may take (`tls_handshake_bytes`).",
        tls_handshake_limit
    ),
    summed!(
        "edgehold_tls_awake",
        Gauge,
        "TLS connections that are not parked: their keys stay expanded, 1.2 kB each.",
        tls_awake
    ),
    summed!(
        "edgehold_tls_client_names_cut_total",
        Counter,
        "Certificates of clients of which not all names were kept: odd ones, or more than 4 KiB.",
        tls_client_names_cut
    ),
    summed!(
        "edgehold_tls_record_faults_total",
        Counter,
        "Clients sent away for a TLS record that was not what it should be.",
        tls_faults
    ),
    Metric {
        name: "edgehold_tls_certificate_seconds_left",
        kind: Kind::Gauge,
        help: "Seconds until a certificate that is shown expires; 0: it has.",
        labels: &["listener", "certificate"],
        samples: |snapshot, samples| {
            for (listener, standing) in tls_listeners(snapshot) {
                for shown in &standing.certificates {
                    samples.add(&[&listener.listener, &shown.file], seconds_left(shown.ends));
                }
            }
        },
    },
    Metric {
        name: "edgehold_tls_crl_seconds_left",
        kind: Kind::Gauge,
        help: "Seconds until the first revocation list of `tls.client.crl` is to be replaced; 0: it was, and no client \
               with a certificate is let in.",
        labels: &["listener"],
        samples: |snapshot, samples| {
            for (listener, standing) in tls_listeners(snapshot) {
                standing.lists_end.iter().for_each(|end| samples.add(&[&listener.listener], seconds_left(*end)));
            }
        },
    },
    Metric {
        name: "edgehold_tls_reloads_total",
        kind: Kind::Counter,
        help: "Times that files of `tls` had changed: they were taken (`ok`), or those before were kept (`failed`).",
        labels: &["listener", "result"],
        samples: |snapshot, samples| {
            for listener in snapshot.counts.tls.iter() {
                samples.add(&[&listener.listener, "ok"], listener.replaced.get());
                samples.add(&[&listener.listener, "failed"], listener.refused.get());
            }
        },
    },
    Metric {
        name: "edgehold_tls_files_refused",
        kind: Kind::Gauge,
        help: "1 while the files of `tls` are others than those in use, since they cannot be used: see the log.",
        labels: &["listener"],
        samples: |snapshot, samples| {
            for (listener, standing) in tls_listeners(snapshot) {
                samples.add(&[&listener.listener], u64::from(standing.refusal.is_some()));
            }
        },
    },
    Metric {
        name: "edgehold_tls_ticket_rotations_total",
        kind: Kind::Counter,
        help: "Times that session tickets got new keys because their time was over (`tls.tickets.rotate`).",
        labels: &["listener"],
        samples: |snapshot, samples| {
            for listener in snapshot.counts.tls.iter() {
                samples.add(&[&listener.listener], listener.rotations.get());
            }
        },
    },
    Metric {
        name: "edgehold_admin_body_bytes",
        kind: Kind::Gauge,
        help: "Bytes of request bodies that the admin address holds until they are published.",
        labels: &[],
        samples: |snapshot, samples| samples.add(&[], snapshot.bodies.0),
    },
    Metric {
        name: "edgehold_admin_body_limit_bytes",
        kind: Kind::Gauge,
        help: "The most that they may be (`admin_body_bytes`).",
        labels: &[],
        samples: |snapshot, samples| samples.add(&[], snapshot.bodies.1),
    },
    counted!(
        "edgehold_log_dropped_total",
        Counter,
        "Lines of the log that were dropped because nobody read them (`log_queue`).",
        |it| it.log_dropped.get()
    ),
    Metric {
        name: "edgehold_resident_memory_bytes",
        kind: Kind::Gauge,
        help: "Resident memory of the process.",
        labels: &[],
        samples: |snapshot, samples| samples.add(&[], snapshot.resident),
    },
    Metric {
        name: "edgehold_uptime_seconds",
        kind: Kind::Gauge,
        help: "Time since the server began.",
        labels: &[],
        samples: |snapshot, samples| samples.add(&[], snapshot.uptime.as_secs()),
    },
    Metric {
        name: "edgehold_build_info",
        kind: Kind::Gauge,
        help: "Always 1; the version is in the label.",
        labels: &["version"],
        samples: |_, samples| samples.add(&[env!("CARGO_PKG_VERSION")], 1),
    },
];

fn connections(snapshot: &Snapshot<'_>, samples: &mut Samples<'_>) {
    let listeners = snapshot.labels.listeners.iter().map(String::as_str).chain(["upstream"]);
    for (number, listener) in listeners.enumerate() {
        for service in ServiceKind::ALL {
            for stage in Stage::ALL {
                let count =
                    |counters: &Counters| u64::from(counters.stages[number][*service as usize][*stage as usize]);
                samples.add(&[listener, service.word(), stage.word()], snapshot.sum(count));
            }
        }
    }
}

/// The TLS of listeners with what holds of it now.
fn tls_listeners<'s>(snapshot: &'s Snapshot<'_>) -> impl Iterator<Item = (&'s TlsState, Arc<Standing>)> {
    snapshot.counts.tls.iter().map(|it| (&**it, it.standing()))
}

/// Until a moment in seconds since 1970.
fn seconds_left(end: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    u64::try_from(end).unwrap_or(0).saturating_sub(now)
}

fn upstreams(snapshot: &Snapshot<'_>, samples: &mut Samples<'_>, count: fn(&Counters, usize) -> u64) {
    for (number, name) in snapshot.labels.upstreams.iter().enumerate() {
        samples.add(&[name], snapshot.sum(|counters| count(counters, number)));
    }
}

fn backlogs(snapshot: &Snapshot<'_>, samples: &mut Samples<'_>, value: fn(ShardBacklog) -> u64) {
    for (number, shard) in snapshot.backlogs.iter().flat_map(|it| it.by_shard()).enumerate() {
        samples.add(&[&number.to_string()], value(shard));
    }
}

fn feeds(snapshot: &Snapshot<'_>, samples: &mut Samples<'_>, count: fn(&Stats) -> u64) {
    for feed in snapshot.feeds {
        samples.add(&[&feed.settings.name], count(&feed.stats));
    }
}

fn by_shard(snapshot: &Snapshot<'_>, samples: &mut Samples<'_>, count: fn(&Counters) -> u64) {
    for report in snapshot.shards.iter().filter_map(|it| it.report.as_ref()) {
        samples.add(&[&report.shard.to_string()], count(&report.counters));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Report;

    #[test]
    fn every_metric_has_its_head_and_its_labels() {
        let labels =
            Labels { listeners: vec!["pub\"lic".into()], upstreams: vec!["tcp://b:1".into()], ..Labels::default() };
        let report = Some(Arc::new(Report { shard: 0, generation: 0, held: 0, counters: Counters::new(10, 1, 1) }));
        let shards = vec![Seen { report, late: None }, Seen { report: None, late: Some(Duration::from_secs(9)) }];
        let text = render(&Snapshot::new(shards, &labels, Duration::from_secs(3)));
        for metric in all() {
            assert!(text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind.word())));
        }
        assert!(text.contains("edgehold_accepts_total{listener=\"pub\\\"lic\"} 0\n"), "{text}");
        assert!(text.contains("edgehold_shard_up{shard=\"1\"} 0\n"));
        assert!(text.contains("edgehold_shard_late_seconds{shard=\"1\"} 9\n"));
        assert!(text.contains("edgehold_uptime_seconds 3\n"));
        assert!(text.contains("edgehold_upstream_dials_total{upstream=\"tcp://b:1\"} 0\n"));
    }

    #[test]
    fn the_reference_page_is_fresh() {
        let page = include_str!("../../../docs/metrics.md");
        assert_eq!(page, reference(), "run: cargo run -- reference metrics > docs/metrics.md");
    }
}

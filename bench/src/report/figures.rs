//! Every figure of a run under one name with one unit: what the tables list and the bars compare.
//!
//! A name is the key by which rounds of one server meet; the bars ask by the names below.

use super::units::Unit;
use crate::result::{Connect, Fanout, Handshakes, Latency, Load, Memory, Reading, Storm};
use std::collections::BTreeMap;

pub(super) const MESSAGES: &str = "Messages per second";
pub(super) const MESSAGE_CPU: &str = "Server CPU per message";
pub(super) const BACK_END_CPU: &str = "Back end's CPU per message";
pub(super) const P50: &str = "Latency p50";
pub(super) const P99: &str = "Latency p99";
pub(super) const P999: &str = "Latency p99.9";
pub(super) const LAST_P99: &str = "Last receiver p99";
pub(super) const USER_BYTES: &str = "User memory per connection (RSS)";
pub(super) const USER_BYTES_PSS: &str = "User memory per connection (PSS)";
pub(super) const PAIR_BYTES: &str = "Kernel memory per connection, both ends";
pub(super) const SERVER_BYTES: &str = "Server's memory per connection, user and kernel";
pub(super) const MACHINE_BYTES: &str = "Whole machine's memory per connection, both ends";
pub(super) const HANDSHAKES: &str = "Handshakes per second";
pub(super) const HANDSHAKE_CPU: &str = "Server CPU per 1,000 handshakes";
pub(super) const DELIVERIES: &str = "Deliveries per second";
pub(super) const DELIVERY_CPU: &str = "Server CPU per delivery";
pub(super) const RECOVERY: &str = "Time until all were back";
pub(super) const PEAK: &str = "Most handshakes within one second";

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    /// What it is, without the unit.
    pub(super) name: String,
    /// Its value.
    pub(super) value: f64,
    /// What the value counts.
    pub(super) unit: Unit,
}

/// A list that grows by what is there: absent values and such that are no numbers stay out.
#[derive(Default)]
struct List(Vec<Figure>);

impl List {
    fn add(mut self, name: &str, unit: Unit, value: impl Into<Option<f64>>) -> List {
        let value = value.into().filter(|value| value.is_finite());
        self.0.extend(value.map(|value| Figure { name: name.to_owned(), value, unit }));
        self
    }

    fn count(self, name: &str, value: u64) -> List {
        self.add(name, Unit::Count, value as f64)
    }

    /// Nothing without TLS.
    fn tls(self, handshakes: Option<&Handshakes>) -> List {
        let Some(it) = handshakes else { return self };
        self.count("Full TLS handshakes", it.full)
            .count("Resumed TLS handshakes", it.resumed)
            .add("Full TLS handshakes per second of server CPU", Unit::Count, it.full_per_server_cpu_second)
            .add("Resumed TLS handshakes per second of server CPU", Unit::Count, it.resumed_per_server_cpu_second)
    }

    fn faults(self, name: &str, value: u64) -> List {
        self.add(name, Unit::Faults, value as f64)
    }

    fn causes(self, causes: &BTreeMap<String, u64>) -> List {
        let all = self.faults("Failed", causes.values().sum());
        causes.iter().fold(all, |list, (cause, &count)| list.faults(&format!("Failed: {cause}"), count))
    }

    /// A distribution without values says nothing.
    fn latency(self, what: &str, latency: &Latency) -> List {
        if latency.count == 0 {
            return self;
        }
        let values = [
            ("p50", latency.p50_us),
            ("p90", latency.p90_us),
            ("p99", latency.p99_us),
            ("p99.9", latency.p999_us),
            ("p99.99", latency.p9999_us),
            ("largest", latency.max_us),
            ("mean", latency.mean_us),
        ];
        values.into_iter().fold(self, |list, (name, value)| list.add(&format!("{what} {name}"), Unit::Micros, value))
    }
}

/// What connections cost at rest.
pub(super) fn memory(memory: &Memory) -> Vec<Figure> {
    let list = List::default()
        .add(USER_BYTES, Unit::BytesEach, memory.user_rss_bytes)
        .add(USER_BYTES_PSS, Unit::BytesEach, memory.user_pss_bytes)
        .add("Kernel memory per connection, server's end", Unit::BytesEach, memory.kernel_server_bytes)
        .add("Kernel memory per connection, tool's end", Unit::BytesEach, memory.kernel_client_bytes)
        .add("Kernel memory of a bare end, the floor", Unit::BytesEach, memory.kernel_bare_bytes)
        .add(PAIR_BYTES, Unit::BytesEach, memory.kernel_pair_bytes)
        .add(SERVER_BYTES, Unit::BytesEach, memory.server_bytes)
        .add(MACHINE_BYTES, Unit::BytesEach, memory.machine_pair_bytes)
        .add("Server CPU per 1,000 idle connections, in cores", Unit::Cores, memory.idle_cpu_cores_per_thousand);
    memory.counts.iter().fold(list, at_count).0
}

fn at_count(list: List, reading: &Reading) -> List {
    readings(list, reading, &|what| reading_at(what, reading.connections))
}

/// The name of a reading.
pub(super) fn reading_at(what: &str, connections: u64) -> String {
    format!("{what} at {}", Unit::Count.show(connections as f64))
}

fn readings(list: List, reading: &Reading, name: &dyn Fn(&str) -> String) -> List {
    list.add(&name("RSS"), Unit::Bytes, reading.rss_bytes.map(|bytes| bytes as f64))
        .add(&name("PSS"), Unit::Bytes, reading.pss_bytes.map(|bytes| bytes as f64))
        .add(&name("Slab"), Unit::Bytes, reading.slab_bytes as f64)
        .add(&name("TCP's pages"), Unit::Bytes, reading.tcp_mem_bytes as f64)
        .add(&name("MemAvailable"), Unit::Bytes, reading.available_bytes as f64)
}

/// Memory as `slow` reads it: first with all readers well, last with some of them stopped.
pub(super) fn memory_around(memory: &Memory) -> Vec<Figure> {
    let list = List::default();
    match memory.counts.as_slice() {
        [] => list.0,
        [only] => readings(list, only, &|what| format!("{what} before")).0,
        [first, .., last] => {
            let list = readings(list, first, &|what| format!("{what} before"));
            readings(list, last, &|what| format!("{what} after")).0
        }
    }
}

/// How connections came about.
pub(super) fn connect(connect: &Connect) -> Vec<Figure> {
    List::default()
        .add(HANDSHAKES, Unit::PerSecond, connect.per_second)
        .add(HANDSHAKE_CPU, Unit::Millis, connect.server_cpu_ms_per_thousand)
        .count("Tried", connect.asked)
        .count("Connected", connect.connected)
        .causes(&connect.failed)
        .tls(connect.tls.as_ref())
        .latency("Latency", &connect.latency)
        .add("Time for all", Unit::Seconds, connect.seconds)
        .add("Server CPU", Unit::Seconds, connect.server_cpu_seconds)
        .add("Client's busiest thread", Unit::Share, connect.client_cpu_share)
        .0
}

/// Messages there and back.
pub(super) fn load(load: &Load) -> Vec<Figure> {
    List::default()
        .add(MESSAGES, Unit::PerSecond, load.per_second)
        .add(MESSAGE_CPU, Unit::Micros, load.server_cpu_us_per_message)
        .add(BACK_END_CPU, Unit::Micros, load.back_end_cpu_us_per_message)
        .latency("Latency", &load.latency)
        .count("Sent", load.sent)
        .count("Received", load.received)
        .faults("Missing", load.missing)
        .faults("Changed", load.changed)
        .add("Measured", Unit::Seconds, load.seconds)
        .add("Server CPU", Unit::Seconds, load.server_cpu_seconds)
        .add("Client's busiest thread", Unit::Share, load.client_cpu_share)
        .0
}

/// One message to many.
pub(super) fn fanout(fanout: &Fanout) -> Vec<Figure> {
    List::default()
        .add(DELIVERIES, Unit::PerSecond, fanout.per_second)
        .add(DELIVERY_CPU, Unit::Micros, fanout.server_cpu_us_per_delivery)
        .latency("Latency", &fanout.latency)
        .latency("Last receiver", &fanout.last)
        .count("Published", fanout.published)
        .count("Subscribers", fanout.subscribers)
        .count("Delivered", fanout.delivered)
        .faults("Missing", fanout.missing)
        .faults("Doubled", fanout.doubled)
        .faults("Out of order", fanout.disordered)
        .faults("Of another topic, or changed", fanout.strange)
        .add("Measured", Unit::Seconds, fanout.seconds)
        .add("Server CPU", Unit::Seconds, fanout.server_cpu_seconds)
        .add("Client's busiest thread", Unit::Share, fanout.client_cpu_share)
        .0
}

/// All cut, all back. The time of recovery is one only if all came back.
pub(super) fn storm(storm: &Storm) -> Vec<Figure> {
    let recovered = storm.back >= storm.cut;
    let until = if recovered { RECOVERY } else { "Time until the last that came was back" };
    List::default()
        .add(until, Unit::Seconds, storm.seconds)
        .add("Time until half were back", Unit::Seconds, storm.half_seconds)
        .add(PEAK, Unit::PerSecond, storm.peak_per_second)
        .count("Cut", storm.cut)
        .count("Back", storm.back)
        .faults("Never back", storm.cut.saturating_sub(storm.back))
        .count("Connects tried", storm.attempts)
        .causes(&storm.failed)
        .tls(storm.tls.as_ref())
        .latency("One client's way back", &storm.latency)
        .add("Server CPU", Unit::Seconds, storm.server_cpu_seconds)
        .add("Client's busiest thread", Unit::Share, storm.client_cpu_share)
        .0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(figures: &[Figure], name: &str) -> Option<f64> {
        figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    #[test]
    fn absent_values_and_empty_distributions_stay_out() {
        let figures = load(&Load { per_second: 5.0, ..Load::default() });
        assert_eq!(value(&figures, MESSAGES), Some(5.0));
        assert_eq!((value(&figures, MESSAGE_CPU), value(&figures, P50)), (None, None));
        let figures = load(&Load { per_second: f64::NAN, ..Load::default() });
        assert_eq!(value(&figures, MESSAGES), None);
    }

    #[test]
    fn tls_handshakes_have_a_rate_where_they_are_of_one_kind() {
        let of = |full, resumed| {
            let tls = Handshakes { full, resumed, ..Handshakes::default() }.with_rates(Some(2.0));
            let figures = connect(&Connect { tls: Some(tls), ..Connect::default() });
            ["Full", "Resumed"].map(|kind| value(&figures, &format!("{kind} TLS handshakes per second of server CPU")))
        };
        assert_eq!((of(10, 0), of(0, 8), of(9, 1)), ([Some(5.0), None], [None, Some(4.0)], [None, None]));
    }

    #[test]
    fn failures_are_listed_by_cause() {
        let failed = BTreeMap::from([("refused".to_owned(), 2), ("timeout".to_owned(), 3)]);
        let figures = connect(&Connect { failed, ..Connect::default() });
        let listed = ["Failed", "Failed: refused", "Failed: timeout"].map(|name| value(&figures, name));
        assert_eq!(listed, [Some(5.0), Some(2.0), Some(3.0)]);
    }

    #[test]
    fn a_storm_that_did_not_end_has_no_recovery() {
        let partial = storm(&Storm { cut: 10, back: 9, seconds: 4.0, ..Storm::default() });
        assert_eq!((value(&partial, RECOVERY), value(&partial, "Never back")), (None, Some(1.0)));
        let full = storm(&Storm { cut: 10, back: 10, seconds: 4.0, ..Storm::default() });
        assert_eq!(value(&full, RECOVERY), Some(4.0));
    }

    #[test]
    fn slow_readers_have_a_before_and_an_after() {
        let reading = |rss| Reading { rss_bytes: Some(rss), ..Reading::default() };
        let figures = memory_around(&Memory { counts: vec![reading(1), reading(2), reading(3)], ..Memory::default() });
        assert_eq!((value(&figures, "RSS before"), value(&figures, "RSS after")), (Some(1.0), Some(3.0)));
    }
}

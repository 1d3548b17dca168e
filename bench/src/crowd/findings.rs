//! What a worker has seen: counters that others may read at any time, and findings that it hands over when asked.

use crate::result::{Handshakes, Latency};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Longer times than this count as this.
const LONGEST_NS: u64 = 120_000_000_000;

/// Numbers that the conductor reads while the worker works.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// The worker's thread, for its CPU.
    pub thread: AtomicU32,
    /// Clients that stand.
    pub open: AtomicU64,
    /// Clients among them that read no more.
    pub deaf: AtomicU64,
    /// Clients that came to stand, since the beginning.
    pub joined: AtomicU64,
    /// Connects that failed, since the beginning.
    pub failed: AtomicU64,
    /// Messages (and pings) that were due, those of the deaf left out; since the beginning.
    pub due: AtomicU64,
    /// Messages that came back whole, or were received, or pongs; since the beginning.
    pub received: AtomicU64,
    /// Messages handed to the kernel, since the beginning.
    pub sent: AtomicU64,
}

impl Counters {
    /// Adds one or several.
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    /// One less.
    pub fn less(counter: &AtomicU64) {
        counter.store(counter.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }
}

/// What is handed over; a new one begins then.
#[derive(Clone, Debug)]
pub struct Findings {
    /// Messages, from the intended time to the last byte back; nanoseconds.
    pub latency: Histogram<u64>,
    /// Connects, from the intended time (in a storm: from the cut) to the end of the handshake; nanoseconds.
    pub connects: Histogram<u64>,
    /// Connects that failed, by cause.
    pub failed: BTreeMap<String, u64>,
    /// Clients that stood and were lost, by cause.
    pub lost: BTreeMap<String, u64>,
    /// Messages that were due in this stretch, those of the deaf left out.
    pub due: u64,
    /// Messages handed to the kernel.
    pub sent: u64,
    /// Messages back before the stretch was over.
    pub received: u64,
    /// Messages back after it.
    pub late: u64,
    /// Messages that came back changed.
    pub changed: u64,
    /// Published messages that came twice.
    pub doubled: u64,
    /// Published messages that came behind a later one; with brokers only.
    pub disordered: u64,
    /// The latest hand-over of a message to the kernel after its intended time; nanoseconds.
    pub behind: u64,
    /// Connects that were tried.
    pub attempts: u64,
    /// TLS handshakes with a certificate.
    pub full: u64,
    /// TLS handshakes that resumed a session.
    pub resumed: u64,
    /// The version and the cipher suite of the latest of them.
    pub suite: Option<(&'static str, &'static str)>,
    /// For each published message: how many have it, and when the last of them got it.
    pub receipts: Vec<(u32, u64)>,
}

impl Default for Findings {
    fn default() -> Self {
        Findings {
            latency: histogram(),
            connects: histogram(),
            failed: BTreeMap::new(),
            lost: BTreeMap::new(),
            due: 0,
            sent: 0,
            received: 0,
            late: 0,
            changed: 0,
            doubled: 0,
            disordered: 0,
            behind: 0,
            attempts: 0,
            full: 0,
            resumed: 0,
            suite: None,
            receipts: Vec::new(),
        }
    }
}

/// For times in nanoseconds, to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds that hold together")
}

/// Notes a time.
pub fn note(histogram: &mut Histogram<u64>, nanos: u64) {
    histogram.saturating_record(nanos.max(1));
}

/// Counts a cause.
pub fn cause(causes: &mut BTreeMap<String, u64>, words: &str) {
    match causes.get_mut(words) {
        Some(count) => *count += 1,
        None => _ = causes.insert(words.to_owned(), 1),
    }
}

impl Findings {
    /// Adds another worker's.
    pub fn merge(&mut self, other: &Findings) {
        self.latency.add(&other.latency).expect("the same bounds");
        self.connects.add(&other.connects).expect("the same bounds");
        add_causes(&mut self.failed, &other.failed);
        add_causes(&mut self.lost, &other.lost);
        self.due += other.due;
        self.sent += other.sent;
        self.received += other.received;
        self.late += other.late;
        self.changed += other.changed;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.behind = self.behind.max(other.behind);
        self.attempts += other.attempts;
        (self.full, self.resumed) = (self.full + other.full, self.resumed + other.resumed);
        self.suite = self.suite.or(other.suite);
        self.merge_receipts(&other.receipts);
    }

    /// The TLS handshakes, and what they took of the server's CPU; `None` where there were none.
    pub fn handshakes(&self, server_cpu: Option<f64>) -> Option<Handshakes> {
        let (version, cipher_suite) = self.suite?;
        let (full, resumed) = (self.full, self.resumed);
        let counts = Handshakes {
            version: version.into(),
            cipher_suite: cipher_suite.into(),
            full,
            resumed,
            ..Handshakes::default()
        };
        Some(counts.with_rates(server_cpu))
    }

    fn merge_receipts(&mut self, other: &[(u32, u64)]) {
        if self.receipts.len() < other.len() {
            self.receipts.resize(other.len(), (0, 0));
        }
        for (mine, theirs) in self.receipts.iter_mut().zip(other) {
            *mine = (mine.0 + theirs.0, mine.1.max(theirs.1));
        }
    }
}

fn add_causes(to: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    from.iter().for_each(|(words, count)| *to.entry(words.clone()).or_default() += count);
}

/// A distribution in microseconds, with a curve for plots.
pub fn latency(histogram: &Histogram<u64>) -> Latency {
    if histogram.is_empty() {
        return Latency::default();
    }
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Latency {
        count: histogram.len(),
        mean_us: histogram.mean() / 1e3,
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        p9999_us: at(0.9999),
        max_us: histogram.max() as f64 / 1e3,
        curve: quantiles(histogram.len()).map(|quantile| (quantile, at(quantile))).collect(),
    }
}

/// From 0 towards 1, ever finer, as far as that many values bear.
fn quantiles(count: u64) -> impl Iterator<Item = f64> {
    let decades = count.saturating_sub(1).checked_ilog10().map_or(1, |whole| whole + 1);
    let within = [0.0, 0.3, 0.5, 0.7, 0.8];
    let fine = (0..decades.min(6)).flat_map(move |decade| {
        let share = 0.1f64.powi(decade.cast_signed());
        within.into_iter().map(move |it| 1.0 - share * (1.0 - it))
    });
    fine.chain([1.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_rise_to_one() {
        let all: Vec<f64> = quantiles(1000).collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
        assert_eq!((all[0], all[all.len() - 1]), (0.0, 1.0));
    }

    #[test]
    fn findings_add_up() {
        let mut one = Findings { sent: 1, behind: 9, receipts: vec![(1, 5)], ..Findings::default() };
        let mut other = Findings { sent: 2, behind: 3, receipts: vec![(1, 9), (1, 2)], ..Findings::default() };
        cause(&mut other.failed, "refused");
        note(&mut other.latency, 2_000_000);
        one.merge(&other);
        assert_eq!((one.sent, one.behind, one.failed["refused"]), (3, 9, 1));
        assert_eq!(one.receipts, [(2, 9), (1, 2)]);
        assert!((latency(&one.latency).p50_us - 2000.0).abs() < 2.0);
    }
}

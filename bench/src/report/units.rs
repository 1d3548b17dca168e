//! Figures as people read them: separators of thousands in full figures, k and M at axes, bytes and times in fitting
//! units.
//!
//! Counts have decimal prefixes, sizes binary ones (1 KiB is 1 024 bytes); three digits at least.

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Things.
    Count,
    /// Things that should not have happened; anything but 0 is marked.
    Faults,
    /// Things per second: all that a client can be the limit of.
    PerSecond,
    /// Bytes in all.
    Bytes,
    /// Bytes for one connection: always in full, as the comparison is in the last digits.
    BytesEach,
    /// Microseconds.
    Micros,
    /// Milliseconds of CPU.
    Millis,
    /// Seconds.
    Seconds,
    /// A part of 1.
    Share,
    /// Cores of CPU.
    Cores,
}

impl Unit {
    /// A figure in full, with its unit.
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Unit::Count | Unit::Faults => thousands(value),
            Unit::PerSecond | Unit::Cores => number(value),
            Unit::Bytes => scaled(value, &BYTES, number),
            Unit::BytesEach => format!("{} B", number(value)),
            Unit::Micros => scaled(value, &MICROS, number),
            Unit::Millis => format!("{} ms", number(value)),
            Unit::Seconds => format!("{} s", number(value)),
            Unit::Share => format!("{} %", number(value * 100.0)),
        }
    }

    /// A step of an axis that is about so long: nice in the unit in which it will be written.
    pub(super) fn step(self, nice: fn(f64) -> f64, about: f64) -> f64 {
        let fits = |step: &&Step| about >= step.0;
        let size = match self {
            Unit::Bytes | Unit::BytesEach => BYTES.iter().rev().find(fits).map_or(1.0, |step| step.0),
            _ => 1.0,
        };
        size * nice(about / size)
    }

    /// A figure at an axis: as short as it can be said.
    pub(super) fn tick(self, value: f64) -> String {
        match self {
            _ if value == 0.0 => "0".to_owned(),
            Unit::Count | Unit::Faults | Unit::PerSecond => scaled(value, &PLAIN, trimmed),
            Unit::Bytes | Unit::BytesEach => scaled(value, &BYTES, trimmed),
            Unit::Micros => scaled(value, &MICROS, trimmed),
            Unit::Millis => format!("{} ms", trimmed(value)),
            Unit::Seconds => format!("{} s", trimmed(value)),
            Unit::Share => format!("{} %", trimmed(value * 100.0)),
            Unit::Cores => trimmed(value),
        }
    }
}

/// A unit's name, and how many of the base unit it is.
type Step = (f64, &'static str);

const PLAIN: [Step; 4] = [(1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G")];
/// As the tool's flags and the server's configuration count them.
const BYTES: [Step; 5] =
    [(1.0, " B"), (1024.0, " KiB"), (1_048_576.0, " MiB"), (1_073_741_824.0, " GiB"), (1_099_511_627_776.0, " TiB")];
const MICROS: [Step; 3] = [(1.0, " µs"), (1e3, " ms"), (1e6, " s")];

/// In the largest unit that leaves a digit before the point.
fn scaled(value: f64, steps: &[Step], digits: fn(f64) -> String) -> String {
    let fits = |step: &&Step| value.abs() >= step.0;
    let (size, name) = steps.iter().rev().find(fits).unwrap_or(&steps[0]);
    format!("{}{name}", digits(value / size))
}

/// Three digits, or all of them before the point.
pub(super) fn number(value: f64) -> String {
    let decimals = decimals(value);
    if decimals == 0 { thousands(value) } else { format!("{value:.decimals$}") }
}

/// Digits behind the point that make three in all.
fn decimals(value: f64) -> usize {
    match value.abs() {
        0.0 => 0,
        size if size >= 99.95 => 0,
        size => (2.0 - size.log10().floor()).clamp(0.0, 6.0) as usize,
    }
}

fn trimmed(value: f64) -> String {
    let text = number(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Rounded, with a comma between groups of three digits.
pub(super) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let grouped: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|three| std::str::from_utf8(three).unwrap_or("")).collect();
    let sign = if value <= -0.5 { "-" } else { "" };
    format!("{sign}{}", grouped.join(","))
}

/// A number of things with its noun: "1 round", "3 rounds".
pub(super) fn plural(count: usize, noun: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{} {noun}{end}", thousands(count as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_figures_have_separators_and_three_digits() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(thousands(-1_000.0), "-1,000");
        assert_eq!(thousands(-0.2), "0");
        assert_eq!([number(0.0), number(4.5), number(45.06), number(99.99)], ["0", "4.50", "45.1", "100"]);
        assert_eq!(number(0.01234), "0.0123");
    }

    #[test]
    fn units_fit_the_size() {
        assert_eq!(Unit::Micros.show(49.0), "49.0 µs");
        assert_eq!(Unit::Micros.show(1_200.0), "1.20 ms");
        assert_eq!(Unit::Micros.show(2_500_000.0), "2.50 s");
        assert_eq!(Unit::Bytes.show(1.5 * 1024.0 * 1024.0), "1.50 MiB");
        assert_eq!(Unit::BytesEach.show(18_123.4), "18,123 B");
        assert_eq!(Unit::Share.show(0.815), "81.5 %");
    }

    #[test]
    fn ticks_are_short() {
        assert_eq!(Unit::PerSecond.tick(20_000.0), "20k");
        assert_eq!(Unit::Count.tick(1_000_000.0), "1M");
        assert_eq!(Unit::Count.tick(0.0), "0");
        assert_eq!(Unit::Micros.tick(50.0), "50 µs");
        assert_eq!(Unit::Bytes.tick(2.5 * 1024.0), "2.5 KiB");
        assert_eq!(Unit::Seconds.tick(0.1 + 0.2), "0.3 s");
    }

    #[test]
    fn nouns_follow_their_number() {
        assert_eq!((plural(1, "round"), plural(1_000, "round")), ("1 round".into(), "1,000 rounds".into()));
    }
}

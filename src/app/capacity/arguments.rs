//! What may be typed behind `edgehold plan`, and the written forms of its values.
//!
//! Numbers may be cut by `_` and have a fraction; each form has its own units. A size or a duration that a
//! configuration file takes is taken here too.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::app::coefficients::whole;

/// More connections than any machine holds: sums stay far below the largest number.
const COUNT_MAX: f64 = 1e9;
/// Messages or connections per second.
const RATE_MAX: f64 = 1e9;
/// The largest message.
const SIZE_MAX: f64 = (1u64 << 30) as f64;
/// The largest memory of a machine.
const MEMORY_MAX: f64 = (1u64 << 50) as f64;
const DAY: f64 = 86_400.0;

const COUNTS: [(&str, f64); 3] = [("M", 1e6), ("k", 1e3), ("", 1.0)];
const BYTES: [(&str, f64); 5] =
    [("TiB", (1u64 << 40) as f64), ("GiB", (1 << 30) as f64), ("MiB", (1 << 20) as f64), ("KiB", 1024.0), ("", 1.0)];
const SECONDS: [(&str, f64); 4] = [("h", 3600.0), ("m", 60.0), ("ms", 0.001), ("s", 1.0)];
const PLAIN: [(&str, f64); 1] = [("", 1.0)];

/// The load to plan for, and the machine that is to carry it.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Clients connected at once, e.g. 250000 or 1M
    #[arg(long, value_name = "N", default_value = "100k", value_parser = count)]
    pub connections: u64,
    /// Share of the clients that use TLS, 0 to 1 or in percent
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub tls_share: f64,
    /// Share of the clients that have an upstream connection each
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub proxied_share: f64,
    /// Share of the clients that do not read, each behind by `max_pending`
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub slow_share: f64,
    /// Messages per second from all clients together; each is answered by one of the same size
    #[arg(long, value_name = "PER_SECOND", default_value = "0", value_parser = rate)]
    pub rate: f64,
    /// Payload of such a message, e.g. 200 or 16KiB
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = size)]
    pub size: u64,
    /// Messages per second that are published, each to all its subscribers
    #[arg(long, value_name = "PER_SECOND", default_value = "0", value_parser = rate)]
    pub fanout_rate: f64,
    /// Clients that receive each published message; without it, all of them
    #[arg(long, value_name = "N", value_parser = count)]
    pub subscribers: Option<u64>,
    /// Payload of a published message
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = size)]
    pub fanout_size: u64,
    /// Channels that messages are published to; each keeps what its feed's `replay` says
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    pub channels: u64,
    /// Forms in which kept messages are asked for: WebSocket, event stream, lines, … (1 to 6)
    #[arg(long, value_name = "N", default_value = "1", value_parser = forms)]
    pub forms: u64,
    /// New connections per second at the peak
    #[arg(long, value_name = "PER_SECOND", default_value = "0", value_parser = rate)]
    pub connect_rate: f64,
    /// Time in which all clients come back after they were cut off, e.g. 60s; raises the connect rate
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub reconnect_time: Option<f64>,
    /// Time from a sending to its acknowledgement, in which the kernel keeps what was sent
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = duration)]
    pub round_trip: f64,
    /// TCP addresses that the upstream connections go to; with --config, those of its routes
    #[arg(long, value_name = "N", value_parser = count, conflicts_with = "config")]
    pub upstreams: Option<u64>,
    /// The configuration file whose limits are held against the load; without it, the built-in demo's
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Memory of the machine, e.g. 64GiB; without it, what is available on this one
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<u64>,
    /// Cores of the machine; without it, those of this one
    #[arg(long, value_name = "N", value_parser = cores)]
    pub cores: Option<u64>,
    /// RLIMIT_NOFILE of the machine; without it, the hard limit here
    #[arg(long, value_name = "N", value_parser = count)]
    pub nofile: Option<u64>,
    /// Print JSON: sizes in bytes, times in seconds
    #[arg(long)]
    pub json: bool,
}

/// A number and its unit; `None` where the text is not that.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = units.iter().find(|(name, _)| *name == unit)?.1;
    let number: f64 = number.replace('_', "").parse().ok()?;
    Some(number * scale)
}

fn within(text: &str, units: &[(&str, f64)], least: f64, most: f64, words: &str) -> Result<f64, String> {
    let value = scaled(text, units).filter(|value| (least..=most).contains(value));
    value.ok_or_else(|| format!("write {words}"))
}

fn count(text: &str) -> Result<u64, String> {
    within(text, &COUNTS, 1.0, COUNT_MAX, "1 to 1000M, as in 250000, 250k or 1M").map(|value| whole(value.round()))
}

fn cores(text: &str) -> Result<u64, String> {
    within(text, &PLAIN, 1.0, 4096.0, "1 to 4096").map(|value| whole(value.round()))
}

fn forms(text: &str) -> Result<u64, String> {
    within(text, &PLAIN, 1.0, 6.0, "1 to 6").map(|value| whole(value.round()))
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, &COUNTS, 0.0, RATE_MAX, "0 to 1000M per second, as in 0.5, 20000 or 20k")
}

fn share(text: &str) -> Result<f64, String> {
    let words = "0 to 1, or 0% to 100%, as in 0.35 or 35%";
    match text.strip_suffix('%') {
        Some(percent) => within(percent, &PLAIN, 0.0, 100.0, words).map(|value| value / 100.0),
        None => within(text, &PLAIN, 0.0, 1.0, words),
    }
}

fn size(text: &str) -> Result<u64, String> {
    within(text, &BYTES, 0.0, SIZE_MAX, "0 to 1GiB, as in 200 or 16KiB").map(|value| whole(value.round()))
}

fn memory(text: &str) -> Result<u64, String> {
    let least = (64u64 << 20) as f64;
    within(text, &BYTES, least, MEMORY_MAX, "64MiB to 1024TiB, as in 64GiB").map(|value| whole(value.round()))
}

fn duration(text: &str) -> Result<f64, String> {
    within(text, &SECONDS, 0.001, DAY, "1ms to 24h, as in 100ms, 30s or 5m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_units() {
        assert_eq!((count("1M"), count("250_000"), count("1.5k")), (Ok(1_000_000), Ok(250_000), Ok(1500)));
        assert_eq!((share("35%"), share("0.35"), share("100%")), (Ok(0.35), Ok(0.35), Ok(1.0)));
        assert_eq!((size("16KiB"), size("0"), memory("1.5GiB")), (Ok(16 << 10), Ok(0), Ok(3 << 29)));
        assert_eq!((duration("100ms"), duration("2m"), duration("1h")), (Ok(0.1), Ok(120.0), Ok(3600.0)));
        assert_eq!((rate("20k"), rate("0.5")), (Ok(20_000.0), Ok(0.5)));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in ["", "x", "-1", "1 k", "1..2", ".", "nan", "inf", "1e9", "2000M", "0", "_", "k"] {
            assert!(count(text).is_err(), "{text:?}");
        }
        for text in ["1.01", "101%", "-0.1", "%", "0.5 %"] {
            assert!(share(text).is_err(), "{text:?}");
        }
        assert!(duration("5").is_err() && duration("0s").is_err() && duration("25h").is_err());
        assert!(size("2GiB").is_err() && size("1KB").is_err() && memory("1MiB").is_err() && cores("0").is_err());
    }
}

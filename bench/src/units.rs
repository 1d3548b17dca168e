//! Counts, sizes, times, cores and addresses as people write them, and figures as people read them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Cores by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(pub Vec<usize>);

/// Addresses in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses(pub Vec<IpAddr>);

/// A count: `1500`, `10k`, `1M`.
///
/// # Errors
/// What is wrong with it, in words; so do the others here.
pub fn count(text: &str) -> Result<u64, String> {
    let (digits, factor) = split(text, &[("k", 1_000), ("M", 1_000_000), ("", 1)])?;
    scaled(text, digits, factor).filter(|&it| it > 0 || text == "0").ok_or_else(|| format!("{text} is no count"))
}

/// A size in bytes: `64`, `16KiB`, `1MiB`.
pub fn bytes(text: &str) -> Result<usize, String> {
    let (digits, factor) = split(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("B", 1), ("", 1)])?;
    let size = scaled(text, digits, factor).ok_or_else(|| format!("{text} is no size"))?;
    usize::try_from(size).ok().filter(|&it| it <= 16 << 20).ok_or_else(|| format!("{text} is above 16MiB"))
}

/// A time: `500ms`, `10s`, `2m`.
pub fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{text}: {error}; write 500ms, 10s or 2m"))
}

fn split<'t>(text: &'t str, units: &[(&str, u64)]) -> Result<(&'t str, u64), String> {
    let unit = units.iter().find(|(name, _)| text.ends_with(name) && text.len() > name.len());
    unit.map(|(name, factor)| (&text[..text.len() - name.len()], *factor)).ok_or_else(|| "a number is missing".into())
}

/// Digits, perhaps with a fraction (1.5M).
fn scaled(_text: &str, digits: &str, factor: u64) -> Option<u64> {
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let value = digits.parse::<f64>().ok().filter(|it| it.is_finite() && *it >= 0.0)? * factor as f64;
    (value.fract() == 0.0).then_some(value as u64)
}

/// Cores: `1`, `1,3`, `4-7`.
pub fn cores(text: &str) -> Result<Cores, String> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| format!("{text} is no core's number"));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last > 4095 {
            return Err(format!("{part} is no range of cores"));
        }
        all.extend(first..=last);
    }
    Ok(Cores(all))
}

/// The most addresses that one list may have.
const ADDRESSES_MAX: usize = 4096;

/// Addresses: `10.0.0.1`, `10.0.0.1,10.0.0.9`, `10.0.0.1-10.0.0.40`, `::1`.
pub fn addresses(text: &str) -> Result<Addresses, String> {
    let mut all = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => all.extend(range(address(first)?, address(last)?)?),
            None => all.push(address(part)?),
        }
    }
    if all.len() > ADDRESSES_MAX { Err(format!("more than {ADDRESSES_MAX} addresses")) } else { Ok(Addresses(all)) }
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.trim().parse().map_err(|_| format!("{text} is no IP address"))
}

fn range(first: IpAddr, last: IpAddr) -> Result<Vec<IpAddr>, String> {
    let (IpAddr::V4(first), IpAddr::V4(last)) = (first, last) else {
        return Err("a range is of IPv4 addresses".into());
    };
    let (low, high) = (u32::from(first), u32::from(last));
    if low > high || (high - low) as usize >= ADDRESSES_MAX {
        return Err(format!("{first}-{last} is no range of at most {ADDRESSES_MAX} addresses"));
    }
    Ok((low..=high).map(|it| IpAddr::V4(Ipv4Addr::from(it))).collect())
}

/// A number with its thousands apart: 1 000 000.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|it| str::from_utf8(it).unwrap_or("")).collect();
    groups.join(" ")
}

/// Microseconds in the unit that reads best.
pub fn micros(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} s", v / 1e6),
        v if v >= 1e4 => format!("{:.1} ms", v / 1e3),
        v if v >= 1e3 => format!("{:.2} ms", v / 1e3),
        v => format!("{v:.0} µs"),
    }
}

/// Bytes in the unit that reads best.
pub fn size(value: u64) -> String {
    match value {
        v if v >= 10 << 30 => format!("{:.1} GiB", v as f64 / (1u64 << 30) as f64),
        v if v >= 1 << 20 => format!("{:.1} MiB", v as f64 / (1u64 << 20) as f64),
        v if v >= 1 << 10 => format!("{:.1} KiB", v as f64 / 1024.0),
        v => format!("{v} B"),
    }
}

/// A process with a name of its own: `broker=1234`.
///
/// # Errors
/// It is none.
pub fn process(text: &str) -> Result<(String, u32), String> {
    let read = |(name, pid): (&str, &str)| Some((name.to_owned(), pid.parse().ok()?));
    text.split_once('=').and_then(read).ok_or_else(|| "write NAME=PID, as in broker=1234".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_written() {
        assert_eq!(count("1500"), Ok(1500));
        assert_eq!(count("10k"), Ok(10_000));
        assert_eq!(count("1.5M"), Ok(1_500_000));
        assert_eq!(bytes("16KiB"), Ok(16_384));
        assert_eq!(span("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(cores("0,2-3"), Ok(Cores(vec![0, 2, 3])));
        assert_eq!(addresses("127.0.0.1-127.0.0.3").map(|it| it.0.len()), Ok(3));
        assert_eq!(grouped(1_234_567), "1 234 567");
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(["", "k", "-1", "1e9x", "1.5"].iter().all(|text| count(text).is_err()));
        assert!(["", "17MiB", "1GiB"].iter().all(|text| bytes(text).is_err()));
        assert!(["3-1", "x", "1,"].iter().all(|text| cores(text).is_err()));
        assert!(["127.0.0.9-127.0.0.1", "a.b", "::1-::2"].iter().all(|text| addresses(text).is_err()));
    }
}

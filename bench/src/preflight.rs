//! What would stop a run, looked at before it begins; each finding comes with the command that changes it.

use crate::cli::Common;
use crate::failure::{Failure, mistaken};
use crate::target::{Speech, Target};
use crate::tls::Stream;
use crate::units::Addresses;
use crate::watch::sysctl;
use edgehold::engine::probe::Kernel;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

/// A ring's table has at most so many entries.
const TABLE_MAX: u64 = 1 << 20;
/// Of the kernel's ports towards one destination, this share is used before another source address is taken: connect(2)
/// searches one half of them in order before it looks at the other, and the search is long where few are free.
const PORTS_USED: f64 = 0.25;
/// Kernel and user memory of a pair of idle ends, generously; for a warning only.
const PAIR_BYTES: u64 = 10_000;
/// Descriptors beside those of the rings: standard streams, the admin address, /proc, the publisher.
const OWN_FILES: u64 = 32;
/// A limit of files with which any run fits.
const FILES_ENOUGH: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found to be there.
#[derive(Debug)]
pub struct Ground {
    /// RLIMIT_NOFILE, raised as far as it goes.
    pub nofile: u64,
    /// Entries that one ring's table may have.
    pub table: u64,
    /// Source addresses, in turn; empty: the kernel's choice.
    pub from: Vec<IpAddr>,
    /// What will run, but perhaps not well.
    pub advice: Vec<String>,
}

/// Looks at the machine for this many connections to this server.
///
/// # Errors
/// The first thing that would stop the run.
pub fn look(common: &Common, target: &Target) -> Result<Ground, Failure> {
    kernel()?;
    writable(common.json.as_deref())?;
    let nofile = raise_nofile();
    files(common, nofile)?;
    let from = sources(common, target)?;
    let advice = [backlog(common), memory(common, target), file_max(common, target), tcp_mem(common)];
    Ok(Ground { nofile, table: nofile.min(TABLE_MAX), from, advice: advice.into_iter().flatten().collect() })
}

fn kernel() -> Result<(), Failure> {
    match Kernel::look().refusals().first() {
        None => Ok(()),
        Some(finding) => mistaken(format!("{}: {}; {}", finding.what, finding.is, finding.command)),
    }
}

/// The output must not fail after an hour of measuring.
fn writable(json: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = json else { return Ok(()) };
    match OpenOptions::new().append(true).create(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) => mistaken(format!("--json {}: {error}", path.display())),
    }
}

fn raise_nofile() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Each ring takes two descriptors; the clients themselves are in its table, which may be as long as the limit.
fn files(common: &Common, nofile: u64) -> Result<(), Failure> {
    let rings = common.connections.div_ceil(nofile.min(TABLE_MAX)).max(common.threads as u64);
    match OWN_FILES + 2 * rings {
        wanted if nofile < wanted => mistaken(format!(
            "{} connections take {rings} rings and {wanted} files under a limit of {nofile}: ulimit -n {FILES_ENOUGH}",
            common.connections
        )),
        _ => Ok(()),
    }
}

/// Ports towards one destination address and port from one source address.
fn ports() -> u64 {
    let range = sysctl("net.ipv4.ip_local_port_range").unwrap_or_else(|| "32768 60999".into());
    let ends: Vec<u64> = range.split(' ').filter_map(|it| it.parse().ok()).collect();
    match ends[..] {
        [first, last] => (last + 1).saturating_sub(first),
        _ => 28_232,
    }
}

/// The source addresses that were given; towards 127/8 as many of 127/8 as the ports want.
fn sources(common: &Common, target: &Target) -> Result<Vec<IpAddr>, Failure> {
    let wanted = pairs_wanted(common.connections);
    let destinations = common.to.as_ref().map_or(target.addresses.len(), |it| it.0.len()) as u64;
    match &common.from {
        Some(Addresses(given)) if given.len() as u64 * destinations < wanted => few_ports(common, given.len(), wanted),
        Some(Addresses(given)) => Ok(given.clone()),
        None if destinations >= wanted => Ok(Vec::new()),
        None if target.addresses[0].is_ipv4() && target.is_loopback() => Ok(loopback(wanted.div_ceil(destinations))),
        None => few_ports(common, 1, wanted),
    }
}

/// Pairs of a source and a destination address for so many connections.
fn pairs_wanted(connections: u64) -> u64 {
    connections.div_ceil(((ports() as f64 * PORTS_USED) as u64).max(1))
}

fn few_ports(common: &Common, given: usize, wanted: u64) -> Result<Vec<IpAddr>, Failure> {
    mistaken(format!(
        "{} connections want {wanted} pairs of source and destination address with {} ports each; there are {given} \
         sources: give more with --from or --to, or sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"",
        common.connections,
        ports()
    ))
}

/// 127.0.1.1, 127.0.1.2, …: any address of 127/8 is this machine's.
fn loopback(count: u64) -> Vec<IpAddr> {
    let first = u32::from(Ipv4Addr::new(127, 0, 1, 1));
    (0..count as u32).map(|it| Ipv4Addr::from(first + it / 250 * 256 + it % 250).into()).collect()
}

fn number(name: &str) -> Option<u64> {
    sysctl(name)?.split(' ').next()?.parse().ok()
}

/// Whether a firewall that tracks connections has room for these. To be asked after [`knock`], whose connection is then
/// among those it tracks: where there is none, nothing is tracked.
///
/// # Errors
/// It has not.
pub fn conntrack(connections: u64) -> Result<(), Failure> {
    let tracks = number("net.netfilter.nf_conntrack_count").is_some_and(|count| count > 0);
    match number("net.netfilter.nf_conntrack_max").filter(|_| tracks) {
        Some(max) if max < connections + connections / 8 => mistaken(format!(
            "connection tracking holds {max} connections at most: sysctl -w net.netfilter.nf_conntrack_max={}",
            connections * 2
        )),
        _ => Ok(()),
    }
}

fn backlog(common: &Common) -> Option<String> {
    let is = number("net.core.somaxconn")?;
    let short = common.rate.unwrap_or(common.connect_rate) > 1000 && is < 4096;
    short.then(|| format!("a backlog of {is} overflows at this rate: sysctl -w net.core.somaxconn=4096"))
}

fn memory(common: &Common, target: &Target) -> Option<String> {
    let wanted = common.connections * PAIR_BYTES;
    let is = crate::watch::reading(0, None).available_bytes;
    let short = target.is_loopback() && is < wanted;
    let words =
        || format!("{} of memory for both ends, and {} free", crate::units::size(wanted), crate::units::size(is));
    short.then(words)
}

fn file_max(common: &Common, target: &Target) -> Option<String> {
    let ends = if target.is_loopback() { 2 } else { 1 };
    let (is, wanted) = (number("fs.file-max")?, common.connections * ends + 10_000);
    (is < wanted).then(|| format!("fewer files than ends: sysctl -w fs.file-max={wanted}"))
}

/// A page for each connection that has something under way.
fn tcp_mem(common: &Common) -> Option<String> {
    let pressure: u64 = sysctl("net.ipv4.tcp_mem")?.split(' ').nth(1)?.parse().ok()?;
    let wanted = 2 * common.connections;
    let words = || {
        let (low, high) = (wanted, wanted * 2);
        format!(
            "a message to all at once would press TCP's memory: sysctl -w net.ipv4.tcp_mem=\"{low} {wanted} {high}\""
        )
    };
    (pressure < wanted).then(words)
}

/// Whether the server answers one client as it should.
///
/// # Errors
/// Nobody listens, or the answer is another one.
pub fn knock(target: &Target, request: &[u8]) -> Result<(), Failure> {
    let url = &target.url;
    let answer = greet(target, request);
    match answer {
        Err(error) => mistaken(format!("{url}: {}: {error}", target.addresses[0])),
        Ok(_) if target.speech == Speech::Bytes => Ok(()),
        Ok(text) if text.is_empty() => mistaken(format!("{url}: the server ends the connection without an answer")),
        Ok(text) => {
            let first = text.lines().next().unwrap_or("").trim();
            let wanted = if target.speech == Speech::WebSocket { " 101" } else { " 200" };
            let well = first.starts_with("HTTP/1.") && first.get(8..).is_some_and(|rest| rest.starts_with(wanted));
            if well { Ok(()) } else { mistaken(format!("{url}: the server answers \"{first}\", not{wanted}")) }
        }
    }
}

fn greet(target: &Target, request: &[u8]) -> std::io::Result<String> {
    let mut stream = Stream::connect(target, PATIENCE)?;
    if request.is_empty() {
        return Ok(String::new());
    }
    stream.write_all(request)?;
    let mut answer = vec![0; 4096];
    let len = read(&mut stream, &mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..len]).into_owned())
}

/// Work that a ring of this thread left behind may interrupt a read.
fn read(stream: &mut Stream, into: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_sources_are_all_different_hosts() {
        let all = loopback(600);
        assert_eq!(all[0], IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1)));
        assert_eq!(all[250], IpAddr::V4(Ipv4Addr::new(127, 0, 2, 1)));
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), 600);
    }

    #[test]
    fn an_output_that_cannot_be_written_is_refused_at_once() {
        let refused = writable(Some(Path::new("/proc/none/x.json")));
        assert!(matches!(refused, Err(Failure::Mistaken(words)) if words.starts_with("--json /proc/none/x.json")));
    }
}

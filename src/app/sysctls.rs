//! Sysctls held against what a server, or a planned load, needs of them. `None` where the machine does not tell, or
//! where nothing is needed.

use super::config::{Config, Upstream};
use super::derive::Machine;
use super::findings::{bytes, limit};
use crate::engine::finding::{Finding, Verdict};
use std::collections::HashSet;

/// RLIMIT_NOFILE cannot be set above this; a limit that is set already stays.
pub(super) fn nr_open(machine: &Machine, should: u64) -> Option<Finding> {
    let is = machine.nr_open?;
    let command = format!("sysctl -w fs.nr_open={should}");
    let words = format!("at least {should}");
    Some(Finding::new("fs.nr_open", is.to_string(), words, Verdict::advise(is >= should), command))
}

/// Room for the tables of all shards, `descriptors` in all.
pub(super) fn file_max(machine: &Machine, descriptors: u64) -> Option<Finding> {
    let is = machine.file_max?;
    let should = machine.file_used.saturating_add(descriptors);
    let command = format!("sysctl -w fs.file-max={should}");
    let words = format!("at least {should}, all tables beside {} open files", machine.file_used);
    Some(Finding::new("fs.file-max", limit(is), words, Verdict::advise(is >= should), command))
}

/// The kernel accounts for what is not acknowledged in pages. Above `pressure` it throttles, above `high` it drops.
pub(super) fn tcp_mem(machine: &Machine, should: u64, occasion: &str) -> Option<Finding> {
    let [low, pressure, high] = machine.tcp_mem?;
    let is = format!("{low} {pressure} {high}");
    let size = bytes(should.saturating_mul(machine.page_bytes));
    let words = format!("pressure at {should} pages or more, {size}{occasion}");
    let more = [should, should.saturating_add(should / 4), should.saturating_add(should / 2)];
    let command = format!("sysctl -w net.ipv4.tcp_mem=\"{} {} {}\"", more[0], more[1], more[2]);
    Some(Finding::new("net.ipv4.tcp_mem", is, words, Verdict::advise(pressure >= should), command))
}

/// Each proxied client takes a local port towards its upstream, and a port serves once per
/// address and port on the other side. `None` where there is no TCP upstream.
pub(super) fn local_ports(machine: &Machine, clients: u64, upstreams: u64) -> Option<Finding> {
    if upstreams == 0 {
        return None;
    }
    let (first, last) = machine.port_range;
    let ports = local_ports_of(machine.port_range).saturating_mul(upstreams);
    let is = format!("{first} {last}, {ports} connections");
    let should = format!("{clients} connections to {upstreams} TCP upstreams");
    let command = "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"; beyond that, more upstreams or a unix:// one";
    Some(Finding::new("net.ipv4.ip_local_port_range", is, should, Verdict::advise(ports >= clients), command.into()))
}

/// How many ports a range has, both ends included.
pub(super) fn local_ports_of((first, last): (u16, u16)) -> u64 {
    (u64::from(last) + 1).saturating_sub(first.into())
}

/// How many different ones there are: a port serves once for each of them.
pub(super) fn tcp_upstreams(config: &Config) -> u64 {
    let all = config.routes.iter().flat_map(|route| route.service.upstreams());
    let tcp = all.filter(|upstream| matches!(upstream, Upstream::Tcp { .. }));
    tcp.collect::<HashSet<_>>().len() as u64
}

/// The kernel cuts a longer backlog without a word, listen(2).
pub(super) fn backlog(config: &Config, machine: &Machine) -> Option<Finding> {
    let is = machine.somaxconn?;
    let should = config.listeners.iter().map(|listener| u64::from(listener.backlog)).max()?;
    let command = format!("sysctl -w net.core.somaxconn={should}");
    let words = format!("at least {should}, the largest backlog");
    Some(Finding::new("net.core.somaxconn", is.to_string(), words, Verdict::advise(is >= should), command))
}

//! Limits: files and ports that a load needs, and what of all this the machine or the configuration does not give.
//!
//! A finding fails where clients would be refused or cut off, and is advice where they would merely be served less
//! well. The rows about sysctls are those of `doctor`, with the plan's numbers.

use serde::Serialize;

use super::Sums;
use super::arguments::Arguments;
use super::brokers;
use super::cpu::hundredths;
use super::load::Load;
use crate::app::coefficients::{CONNECTION_BYTES, whole};
use crate::app::config::{Config, Service};
use crate::app::derive::{
    Machine, TABLE_ENTRIES_MAX, accepts, derive, entries_room, nofile_for, outbox_bytes, plain_descriptors,
    raise_nofile, shards, spare_of, tables,
};
use crate::app::findings::{bytes, limit};
use crate::app::memory::{connections_room, message_pages};
use crate::app::sysctls;
use crate::engine::finding::{Finding, Verdict};

/// A shard whose core is busier than this has no room for bursts; edgehold-bench, too, trusts no
/// side that is busier.
const BUSY: f64 = 0.8;
/// Standard deviations above the mean that a shard has slots for.
const DEVIATIONS: f64 = 4.0;

/// Descriptors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Files {
    /// Shards, each with a table of its own.
    pub shards: u64,
    /// Slots of a shard that suffice.
    pub slots_per_shard: u64,
    /// Entries of a shard's table: slots, spare ones, accepts in flight. RLIMIT_NOFILE must allow as many;
    /// before Linux 6.13, as many for all shards together.
    pub table_entries: u64,
    /// Entries of all tables; `fs.file-max` must allow as many beside the files of everything else.
    pub total_entries: u64,
}

impl Files {
    /// The descriptors of a load on a server with this configuration.
    pub fn of(load: &Load, config: &Config, machine: &Machine) -> Files {
        let shards = shards(config, machine) as u64;
        let slots_per_shard = slots_of_one(load, config, shards);
        let table_entries = table_entries(slots_per_shard, config);
        Files { shards, slots_per_shard, table_entries, total_entries: shards * table_entries }
    }
}

/// Local ports towards upstreams.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ports {
    /// Connections to upstreams.
    pub connections: u64,
    /// Different TCP addresses that they go to.
    pub upstreams: u64,
    /// Ports that suffice: one serves once per address.
    pub ports: u64,
}

impl Ports {
    /// The ports of a load. Without a TCP upstream none are needed.
    pub fn of(load: &Load, upstreams: u64) -> Ports {
        let connections = load.proxied_connections;
        let ports = connections.checked_div(upstreams).map_or(0, |_| connections.div_ceil(upstreams));
        Ports { connections, upstreams, ports }
    }
}

/// The TCP addresses that proxied clients go to: those of the configuration where one was named.
pub fn upstreams(asked: &Arguments, config: &Config) -> u64 {
    match asked.config {
        Some(_) => sysctls::tcp_upstreams(config),
        None => asked.upstreams.unwrap_or(1),
    }
}

/// The kernel deals connections to shards by a hash, so that some get more than their part. The number of one
/// shard is binomial; a proxied client is a lump of two slots, whose square counts. Beside them stand the sessions with
/// brokers.
fn slots_of_one(load: &Load, config: &Config, shards: u64) -> u64 {
    let chance = 1.0 / shards as f64;
    let squares = (load.connections + 3 * load.proxied_connections) as f64;
    let deviation = (squares * chance * (1.0 - chance)).sqrt();
    let slots = load.slots() as f64 * chance + DEVIATIONS * deviation;
    let clients = whole(slots.ceil()).min(load.slots());
    clients + brokers::slots(config, clients)
}

fn table_entries(slots: u64, config: &Config) -> u64 {
    let spare = spare_of(u32::try_from(slots).unwrap_or(u32::MAX));
    slots + u64::from(spare) + u64::from(accepts(config))
}

/// The fewest shards whose tables have room within RLIMIT_NOFILE. `None` where more shards do not help: each
/// opens files of its own, too.
fn shards_that_fit(load: &Load, config: &Config, machine: &Machine) -> Option<u64> {
    const MOST: u64 = 1024;
    let entries = |shards| table_entries(slots_of_one(load, config, shards), config);
    let shards = (1..=MOST).find(|&shards| entries(shards) <= entries_room(config, machine, shards));
    shards.filter(|&shards| plain_descriptors(config, shards) <= machine.nofile())
}

/// What is held against the load: all but the sysctls.
pub fn findings(load: &Load, sums: &Sums, asked: &Arguments, config: &Config, machine: &Machine) -> Vec<Finding> {
    let mut rows = vec![memory(sums, machine), cores(sums, machine), table(load, sums, config, machine)];
    rows.extend(slots(sums, config));
    rows.extend(outbox(load, sums, config, machine));
    rows.extend(message_bytes(load, config));
    rows.extend(route(load, asked, config));
    rows.extend(refused(&rows, config, machine));
    rows
}

/// The connections alone must fit into their share of the memory, as when the server starts.
fn memory(sums: &Sums, machine: &Machine) -> Finding {
    let Files { shards, slots_per_shard, .. } = sums.files;
    let room = connections_room(machine.memory_available, shards);
    let share = (shards * slots_per_shard * CONNECTION_BYTES).div_ceil(3) * 4;
    let total = sums.memory.total_bytes;
    let well = total <= machine.memory_available && slots_per_shard <= room;
    let why = if share > total { "; slots get three quarters of it" } else { "" };
    let should = format!("at least {}{why}", bytes(total.max(share)));
    let command = "give the machine or its control group more memory, or share the clients among machines";
    let is = format!("{} available", bytes(machine.memory_available));
    Finding::new("memory", is, should, Verdict::insist(well), command.into())
}

/// A shard is one thread: more cores than shards are of no use.
fn cores(sums: &Sums, machine: &Machine) -> Finding {
    let wanted = sums.cpu.cores;
    let usable = sums.files.shards.min(machine.cores as u64) as f64;
    let verdict = if wanted > usable { Verdict::Fails } else { Verdict::advise(wanted <= usable * BUSY) };
    let enough = (wanted / BUSY).ceil().max(1.0);
    let is = format!("{} cores, {} shards", machine.cores, sums.files.shards);
    let should = format!("{} at the peak; {enough} leave a fifth free", hundredths(wanted));
    let command = if machine.cores as f64 >= enough {
        format!("write server.shards = {enough} or more")
    } else {
        "give the machine more cores, or share the load among machines".into()
    };
    Finding::new("cores", is, should, verdict, command)
}

/// Each shard's table within RLIMIT_NOFILE and the kernel's bound.
fn table(load: &Load, sums: &Sums, config: &Config, machine: &Machine) -> Finding {
    let Files { shards, table_entries: entries, .. } = sums.files;
    let room = entries_room(config, machine, shards);
    let nofile = nofile_for(entries, config, machine, shards);
    let more = shards_that_fit(load, config, machine).map(|shards| format!("write server.shards = {shards}"));
    let raise = (entries <= TABLE_ENTRIES_MAX).then(|| raise_nofile(nofile, machine));
    let ways: Vec<String> = raise.into_iter().chain(more).collect();
    let command = if ways.is_empty() { "share the clients among machines".into() } else { ways.join(", or ") };
    let should = format!("at least {nofile}, {}", tables(entries, machine, shards));
    let is = format!("{} (hard limit)", limit(machine.nofile()));
    Finding::new("RLIMIT_NOFILE", is, should, Verdict::insist(entries <= room), command)
}

fn slots(sums: &Sums, config: &Config) -> Option<Finding> {
    let is = u64::from(config.server.slots_per_shard);
    let Files { shards, slots_per_shard: should, .. } = sums.files;
    let command = format!("write server.slots_per_shard = {should}, or more server.shards");
    let words = format!("at least {should}, as {shards} shards are dealt them by chance");
    let verdict = Verdict::insist(is >= should);
    (is > 0).then(|| Finding::new("server.slots_per_shard", is.to_string(), words, verdict, command))
}

/// Those who do not read, evenly among the shards.
fn outbox(load: &Load, sums: &Sums, config: &Config, machine: &Machine) -> Option<Finding> {
    if load.slow_connections == 0 {
        return None;
    }
    let shards = sums.files.shards;
    let is = outbox_bytes(config, machine, shards as usize);
    let should = load.slow_connections.div_ceil(shards) * load.pending_bytes;
    let command = format!("write server.outbox_bytes = \"{}MiB\", or a smaller max_pending", should.div_ceil(1 << 20));
    let words = format!("at least {} per shard, for clients that do not read", bytes(should));
    let verdict = Verdict::insist(is >= should);
    Some(Finding::new("server.outbox_bytes", format!("{} per shard", bytes(is)), words, verdict, command))
}

/// Whether routes that take messages take such large ones: a failure where none does.
fn message_bytes(load: &Load, config: &Config) -> Option<Finding> {
    let takes = |service: &Service| matches!(service, Service::Echo { .. } | Service::Proxy { .. });
    let routes = config.routes.iter().filter(|route| takes(&route.service));
    let limits: Vec<u64> = routes.map(|route| route.limits.message_bytes).collect();
    let (least, most) = (limits.iter().min()?, limits.iter().max()?);
    let should = load.message_bytes;
    let verdict = if *most < should { Verdict::Fails } else { Verdict::advise(*least >= should) };
    let command = format!("write message_bytes = {should} or more in [limits], or in the route");
    let found = Finding::new("limits.message_bytes", least.to_string(), format!("at least {should}"), verdict, command);
    (load.message_rate > 0.0).then_some(found)
}

fn route(load: &Load, asked: &Arguments, config: &Config) -> Option<Finding> {
    let proxied = config.routes.iter().any(|route| matches!(route.service, Service::Proxy { .. }));
    let missing = asked.config.is_some() && load.proxied_connections > 0 && !proxied;
    let should = format!("one for {} proxied clients", load.proxied_connections);
    let command = "write a [[route]] with service = \"proxy\" and its upstream";
    missing.then(|| Finding::failure("route", "no service = \"proxy\"".into(), should, command.into()))
}

/// What keeps a server with this configuration from starting, whatever its load. Where a row says so of the
/// same limit already, once is enough.
fn refused(rows: &[Finding], config: &Config, machine: &Machine) -> Vec<Finding> {
    let said = |what: &str| rows.iter().any(|row| row.what == what && row.fails());
    let shortfalls = derive(config, machine).err().unwrap_or_default();
    shortfalls.into_iter().filter(|short| !said(&short.what)).collect()
}

/// A sysctl and where it is explained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sysctl {
    /// How it is and should be.
    #[serde(flatten)]
    pub row: Finding,
    /// The page of the repository that says why.
    pub page: &'static str,
}

/// The page about sysctls.
pub const SYSCTL_PAGE: &str = "tuning/sysctl.d/README.md";
/// The page about RLIMIT_NOFILE.
pub const NOFILE_PAGE: &str = "tuning/limits.d/README.md";
/// The page about queues and interrupts of network cards.
pub const NIC_PAGE: &str = "tuning/nic/README.md";
/// The page about firewalls that track connections.
pub const TRACKING_PAGE: &str = "tuning/conntrack/README.md";

/// The sysctls that the load needs. What the machine does not tell is left out.
pub fn sysctls(load: &Load, sums: &Sums, config: &Config, machine: &Machine) -> Vec<Sysctl> {
    let pages = tcp_pages(load, machine);
    let rows = [
        sysctls::nr_open(machine, nofile_for(sums.files.table_entries, config, machine, sums.files.shards)),
        sysctls::file_max(machine, sums.files.total_entries).map(insistent),
        sysctls::tcp_mem(machine, pages, "").filter(|_| pages > 0).map(|row| dropping(row, pages, machine)),
        ports(sums, machine).map(insistent),
        sysctls::backlog(config, machine),
    ];
    rows.into_iter().flatten().map(|row| Sysctl { row, page: SYSCTL_PAGE }).collect()
}

fn ports(sums: &Sums, machine: &Machine) -> Option<Finding> {
    let Ports { connections, upstreams, .. } = sums.ports;
    sysctls::local_ports(machine, connections, upstreams).filter(|_| connections > 0)
}

/// Without it clients of the load would be refused, which the doctor cannot know.
fn insistent(row: Finding) -> Finding {
    let verdict = if row.verdict == Verdict::Advice { Verdict::Fails } else { row.verdict };
    Finding { verdict, ..row }
}

/// Above the pressure the kernel slows down; above the last number it drops.
fn dropping(row: Finding, pages: u64, machine: &Machine) -> Finding {
    let dropped = machine.tcp_mem.is_some_and(|[_, _, high]| pages > high);
    if dropped { insistent(row) } else { row }
}

/// Pages of all that waits for an acknowledgement at the peak, or for a client that does not read.
fn tcp_pages(load: &Load, machine: &Machine) -> u64 {
    let page = machine.page_bytes;
    let messages = message_pages(load.messages_in_flight(), load.message_bytes, page);
    let deliveries = message_pages(load.deliveries_in_flight(), load.publish_bytes, page);
    let pings = message_pages(load.pings_in_flight(), 0, page);
    let slow = message_pages(load.slow_connections, load.unsent_bytes, page);
    [messages, deliveries, pings, slow].into_iter().fold(0, u64::saturating_add)
}

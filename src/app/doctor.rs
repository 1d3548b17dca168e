//! The doctor: what the machine gives beside what the configuration asks for.
//!
//! A row says `fails` only where serving would truly fail; what would merely hold fewer
//! clients, or hold them less well, is advice. Every row that is not well names the
//! command that mends it. The rows are pure: they follow from their arguments alone. The
//! sums are those of `plan`, which has the rows about sysctls from here.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde::Serialize;

use super::capacity::memory::{buffers_bytes, connections_bytes, connections_room, message_pages};
use super::config::{Config, Service, Upstream};
use super::derive::{
    Derived, Machine, Shortfall, TABLE_ENTRIES_MAX, derive, entries_room, memlock_bytes, nofile_for, raise_memlock,
    raise_nofile, shards, tables,
};

/// The oldest kernel whose io_uring has all that the engine uses.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// One line of the doctor's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The limit that was looked at.
    pub what: String,
    /// How it is.
    pub is: String,
    /// How it should be.
    pub should: String,
    /// What follows from the two.
    pub verdict: Verdict,
    /// What mends it; empty where nothing needs mending.
    pub command: String,
}

/// What follows from a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to do.
    Ok,
    /// The server runs, but with less than it could or was asked to.
    Advice,
    /// The server would not run.
    Fails,
}

/// A finding of the engine's probe about this kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRow {
    /// What was tried.
    pub what: String,
    /// What came of it.
    pub is: String,
    /// What was hoped for.
    pub should: String,
    /// Whether the server cannot run without it.
    pub fails: bool,
    /// What would change it; empty where all is well.
    pub command: String,
}

/// All rows: the kernel first, then the limits in the order in which connections meet them.
pub fn rows(config: &Config, machine: &Machine, kernel: &[KernelRow]) -> Vec<Row> {
    let mut rows = vec![kernel_version(machine), io_uring_open(machine)];
    rows.extend(kernel.iter().map(probed));
    rows.push(memlock(config, machine));
    match derive(config, machine) {
        Ok(derived) => rows.extend(sized(config, machine, &derived)),
        Err(shortfalls) => rows.extend(shortfalls.into_iter().map(short)),
    }
    rows.extend(backlog(config, machine));
    rows
}

/// Whether one of the rows means that the server would not run.
pub fn fails(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.verdict == Verdict::Fails)
}

/// The rows that need the sizes of a server that fits.
fn sized(config: &Config, machine: &Machine, derived: &Derived) -> Vec<Row> {
    let wanted = Wanted::of(derived);
    let mut rows = vec![sizes(derived), table(config, machine, derived)];
    rows.extend(nr_open(machine, nofile_for(derived.table_entries.into(), config, machine, derived.shards as u64)));
    rows.extend(file_max(machine, wanted.descriptors));
    rows.push(memory(config, machine, derived));
    // A broadcast leaves one small message unacknowledged with every client for a moment.
    let pages = message_pages(wanted.connections, 0, machine.page_bytes);
    rows.extend(tcp_mem(machine, pages, ", for a message to all"));
    // Clients with an upstream take two slots, so half of all can be proxied.
    rows.extend(local_ports(machine, wanted.connections / 2, tcp_upstreams(config)));
    rows
}

/// What the server would hold when full, over all shards.
struct Wanted {
    connections: u64,
    descriptors: u64,
}

impl Wanted {
    fn of(derived: &Derived) -> Wanted {
        let shards = derived.shards as u64;
        Wanted {
            connections: shards * u64::from(derived.slots_per_shard),
            descriptors: shards * u64::from(derived.table_entries),
        }
    }
}

pub(super) fn row(what: &str, is: String, should: String, verdict: Verdict, command: String) -> Row {
    let command = if verdict == Verdict::Ok { String::new() } else { command };
    Row { what: what.into(), is, should, verdict, command }
}

pub(super) fn advise(well: bool) -> Verdict {
    if well { Verdict::Ok } else { Verdict::Advice }
}

pub(super) fn insist(well: bool) -> Verdict {
    if well { Verdict::Ok } else { Verdict::Fails }
}

fn probed(found: &KernelRow) -> Row {
    let verdict = match (found.fails, found.command.is_empty()) {
        (true, _) => Verdict::Fails,
        (false, true) => Verdict::Ok,
        (false, false) => Verdict::Advice,
    };
    Row {
        what: found.what.clone(),
        is: found.is.clone(),
        should: found.should.clone(),
        verdict,
        command: found.command.clone(),
    }
}

pub(super) fn short(shortfall: Shortfall) -> Row {
    let Shortfall { what, is, should, command } = shortfall;
    Row { what, is, should, verdict: Verdict::Fails, command }
}

fn kernel_version(machine: &Machine) -> Row {
    let (major, minor) = machine.kernel;
    let (is, verdict) = match machine.kernel {
        (0, 0) => ("unknown".into(), Verdict::Advice),
        known => (format!("{major}.{minor}"), insist(known >= KERNEL_MIN)),
    };
    let command = "boot a kernel from 6.1 on";
    row("kernel", is, "6.1 or newer".into(), verdict, command.into())
}

fn io_uring_open(machine: &Machine) -> Row {
    let open = match machine.io_uring_disabled {
        None | Some(0) => true,
        Some(1) => machine.io_uring_exempt,
        Some(_) => false,
    };
    let is = machine.io_uring_disabled.map_or("absent".into(), |value| value.to_string());
    let should = if open && machine.io_uring_disabled == Some(1) { "0, or 1 with privilege" } else { "0" };
    row("kernel.io_uring_disabled", is, should.into(), insist(open), "sysctl -w kernel.io_uring_disabled=0".into())
}

/// In KiB, the unit of the command. Rings of other processes of the same user count, too, but are not known here.
fn memlock(config: &Config, machine: &Machine) -> Row {
    let least = memlock_bytes(config, machine);
    let is = match machine.memlock_soft {
        u64::MAX => "unlimited".into(),
        bytes => format!("{} KiB", bytes / 1024),
    };
    let should = match machine.memlock_exempt {
        true => format!("at least {} KiB; CAP_IPC_LOCK lifts the rest", least / 1024),
        false => format!("at least {} KiB for {} shards", least / 1024, shards(config, machine)),
    };
    row("RLIMIT_MEMLOCK", is, should, insist(machine.memlock_soft >= least), raise_memlock(least))
}

/// Not a judgement: what the other rows reckon with.
fn sizes(derived: &Derived) -> Row {
    let Derived { shards, slots_per_shard, spare_slots, .. } = derived;
    let is = format!("{shards} × {slots_per_shard}");
    let should = format!("shards × connections, {spare_slots} spare; a proxied client takes two");
    row("slots", is, should, Verdict::Ok, String::new())
}

/// The table fits, or there would have been a shortfall; advice where descriptors, not
/// memory, are what keeps derived slots few.
fn table(config: &Config, machine: &Machine, derived: &Derived) -> Row {
    let shards = derived.shards as u64;
    let room = entries_room(config, machine, shards);
    let full = u64::from(derived.table_entries) >= room && room < TABLE_ENTRIES_MAX;
    let bound = config.server.slots_per_shard == 0 && full;
    let is = format!("soft {}, hard {}", limit(machine.nofile_soft), limit(machine.nofile()));
    let nofile = |entries| nofile_for(entries, config, machine, shards);
    let least = nofile(derived.table_entries.into());
    let should = match bound {
        true => format!("more than {least} would let memory decide the slots"),
        false => format!("at least {least}, {}", tables(derived.table_entries.into(), machine, shards)),
    };
    let command = raise_nofile(nofile(table_by_memory(machine, derived)), machine);
    row("RLIMIT_NOFILE", is, should, advise(!bound), command)
}

/// The entries a shard's table would have if memory alone bounded it.
fn table_by_memory(machine: &Machine, derived: &Derived) -> u64 {
    let slots = connections_room(machine.memory_available, derived.shards as u64);
    let rest = u64::from(derived.table_entries - derived.slots_per_shard);
    (slots + rest).min(TABLE_ENTRIES_MAX)
}

/// RLIMIT_NOFILE cannot be set above this; a limit that is set already stays.
pub(super) fn nr_open(machine: &Machine, should: u64) -> Option<Row> {
    let is = machine.nr_open?;
    let command = format!("sysctl -w fs.nr_open={should}");
    Some(row("fs.nr_open", is.to_string(), format!("at least {should}"), advise(is >= should), command))
}

/// Room for the tables of all shards, `descriptors` in all.
pub(super) fn file_max(machine: &Machine, descriptors: u64) -> Option<Row> {
    let is = machine.file_max?;
    let should = machine.file_used.saturating_add(descriptors);
    let command = format!("sysctl -w fs.file-max={should}");
    let words = format!("at least {should}, all tables beside {} open files", machine.file_used);
    Some(row("fs.file-max", limit(is), words, advise(is >= should), command))
}

fn memory(config: &Config, machine: &Machine, derived: &Derived) -> Row {
    let wanted = full_bytes(config, derived);
    let is = format!("{} of {}", bytes(machine.memory_available), bytes(machine.memory_total));
    let should = format!("{} when all is full", bytes(wanted));
    let command = "write a smaller server.slots_per_shard or server.outbox_bytes, or give more memory";
    row("memory available", is, should, advise(wanted <= machine.memory_available), command.into())
}

/// What all shards take when every slot is taken, every buffer lent, every outbox full, every window in use, as
/// much kept as may be, and every mailbox full.
fn full_bytes(config: &Config, derived: &Derived) -> u64 {
    let shards = derived.shards as u64;
    let slots = shards * u64::from(derived.slots_per_shard);
    let shared = buffers_bytes(config, shards) + windows_bytes(config, shards) + replay_bytes(config);
    connections_bytes(slots) + shared + shards * derived.outbox_bytes + derived.mailboxes.bytes(derived.shards)
}

/// The deflate windows of so many shards; none where no route asks for them.
fn windows_bytes(config: &Config, shards: u64) -> u64 {
    let asked = config.routes.iter().any(|route| route.deflate.on && route.deflate.takeover);
    if asked { shards * config.server.deflate_window_bytes } else { 0 }
}

/// What feeds keep, all shards together, if each names one channel. How many a feed without `channel` names is not
/// known here.
fn replay_bytes(config: &Config) -> u64 {
    let kept = config.feeds.iter().filter(|feed| feed.replay.messages > 0);
    kept.map(|feed| feed.replay.bytes).sum()
}

/// The kernel accounts for what is not acknowledged in pages. Above `pressure` it throttles, above `high` it drops.
pub(super) fn tcp_mem(machine: &Machine, should: u64, occasion: &str) -> Option<Row> {
    let [low, pressure, high] = machine.tcp_mem?;
    let is = format!("{low} {pressure} {high}");
    let size = bytes(should.saturating_mul(machine.page_bytes));
    let words = format!("pressure at {should} pages or more, {size}{occasion}");
    let more = [should, should.saturating_add(should / 4), should.saturating_add(should / 2)];
    let command = format!("sysctl -w net.ipv4.tcp_mem=\"{} {} {}\"", more[0], more[1], more[2]);
    Some(row("net.ipv4.tcp_mem", is, words, advise(pressure >= should), command))
}

/// Each proxied client takes a local port towards its upstream, and a port serves once per
/// address and port on the other side. `None` where there is no TCP upstream.
pub(super) fn local_ports(machine: &Machine, clients: u64, upstreams: u64) -> Option<Row> {
    if upstreams == 0 {
        return None;
    }
    let (first, last) = machine.port_range;
    let ports = local_ports_of(machine.port_range).saturating_mul(upstreams);
    let is = format!("{first} {last}, {ports} connections");
    let should = format!("{clients} connections to {upstreams} TCP upstreams");
    let command = "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"; beyond that, more upstreams or a unix:// one";
    Some(row("net.ipv4.ip_local_port_range", is, should, advise(ports >= clients), command.into()))
}

/// How many ports a range has, both ends included.
pub(super) fn local_ports_of((first, last): (u16, u16)) -> u64 {
    (u64::from(last) + 1).saturating_sub(first.into())
}

/// How many different ones there are: a port serves once for each of them.
pub(super) fn tcp_upstreams(config: &Config) -> u64 {
    let all = config.routes.iter().flat_map(|route| upstreams(&route.service));
    let tcp = all.filter(|upstream| matches!(upstream, Upstream::Tcp { .. }));
    tcp.collect::<HashSet<_>>().len() as u64
}

fn upstreams(service: &Service) -> &[Upstream] {
    match service {
        Service::Proxy { upstreams, .. } => upstreams,
        _ => &[],
    }
}

pub(super) fn backlog(config: &Config, machine: &Machine) -> Option<Row> {
    let is = machine.somaxconn?;
    let should = config.listeners.iter().map(|listener| u64::from(listener.backlog)).max()?;
    let command = format!("sysctl -w net.core.somaxconn={should}");
    let words = format!("at least {should}, the largest backlog");
    Some(row("net.core.somaxconn", is.to_string(), words, advise(is >= should), command))
}

pub(super) fn limit(value: u64) -> String {
    if value >= i64::MAX as u64 { "unlimited".into() } else { value.to_string() }
}

/// A size for eyes, in the largest unit that leaves at least one.
pub(super) fn bytes(value: u64) -> String {
    match value {
        u64::MAX => "unlimited".into(),
        GIB.. => format!("{:.1} GiB", value as f64 / GIB as f64),
        MIB.. => format!("{:.1} MiB", value as f64 / MIB as f64),
        _ => format!("{} KiB", value / 1024),
    }
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The rows as plain text: aligned columns, and below each row that is not well its remedy.
pub fn table_text(rows: &[Row]) -> String {
    let width = |cell: fn(&Row) -> &str| rows.iter().map(|row| cell(row).chars().count()).max().unwrap_or(0);
    let (what, is) = (width(|row| &row.what), width(|row| &row.is));
    let mut text = String::new();
    for row in rows {
        let Row { what: name, is: value, should, verdict, command } = row;
        let _ = writeln!(text, "{:<6}  {name:<what$}  {value:<is$}  {should}", verdict.word());
        if !command.is_empty() {
            let _ = writeln!(text, "{:<6}  → {command}", "");
        }
    }
    text
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Advice => "advice",
            Verdict::Fails => "FAILS",
        }
    }
}

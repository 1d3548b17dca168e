//! The doctor: what the machine gives beside what the configuration asks for.
//!
//! A row says `fails` only where serving would truly fail; what would merely hold fewer
//! clients, or hold them less well, is advice. Every row that is not well names the
//! command that mends it. The rows are pure: they follow from their arguments alone. The
//! sums (`memory`) and the rows about sysctls (`sysctls`) are those of `plan`.

use super::config::Config;
use super::derive::{
    Derived, Machine, TABLE_ENTRIES_MAX, derive, entries_room, memlock_bytes, nofile_for, raise_memlock, raise_nofile,
    shards, tables,
};
use super::findings::{bytes, limit};
use super::memory::{buffers_bytes, connections_bytes, connections_room, message_pages};
use super::sysctls::{backlog, file_max, local_ports, nr_open, tcp_mem, tcp_upstreams};
use crate::engine::finding::{Finding, Verdict};
use crate::engine::probe::OLDEST;

/// All rows: the kernel first, then the limits in the order in which connections meet them.
pub fn rows(config: &Config, machine: &Machine, kernel: &[Finding]) -> Vec<Finding> {
    let mut rows = vec![kernel_version(machine), io_uring_open(machine)];
    rows.extend_from_slice(kernel);
    rows.push(memlock(config, machine));
    match derive(config, machine) {
        Ok(derived) => rows.extend(sized(config, machine, &derived)),
        Err(shortfalls) => rows.extend(shortfalls),
    }
    rows.extend(backlog(config, machine));
    rows
}

/// The rows that need the sizes of a server that fits.
fn sized(config: &Config, machine: &Machine, derived: &Derived) -> Vec<Finding> {
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

fn kernel_version(machine: &Machine) -> Finding {
    let (major, minor) = machine.kernel;
    let (is, verdict) = match machine.kernel {
        (0, 0) => ("unknown".into(), Verdict::Advice),
        known => (format!("{major}.{minor}"), Verdict::insist(known >= OLDEST)),
    };
    let command = "boot a kernel from 6.1 on";
    Finding::new("kernel", is, "6.1 or newer".into(), verdict, command.into())
}

fn io_uring_open(machine: &Machine) -> Finding {
    let open = match machine.io_uring_disabled {
        None | Some(0) => true,
        Some(1) => machine.io_uring_exempt,
        Some(_) => false,
    };
    let is = machine.io_uring_disabled.map_or("absent".into(), |value| value.to_string());
    let should = if open && machine.io_uring_disabled == Some(1) { "0, or 1 with privilege" } else { "0" };
    let command = "sysctl -w kernel.io_uring_disabled=0";
    Finding::new("kernel.io_uring_disabled", is, should.into(), Verdict::insist(open), command.into())
}

/// In KiB, the unit of the command. Rings of other processes of the same user count, too, but are not known here.
fn memlock(config: &Config, machine: &Machine) -> Finding {
    let least = memlock_bytes(config, machine);
    let is = match machine.memlock_soft {
        u64::MAX => "unlimited".into(),
        bytes => format!("{} KiB", bytes / 1024),
    };
    let should = if machine.memlock_exempt {
        format!("at least {} KiB; CAP_IPC_LOCK lifts the rest", least / 1024)
    } else {
        format!("at least {} KiB for {} shards", least / 1024, shards(config, machine))
    };
    Finding::new("RLIMIT_MEMLOCK", is, should, Verdict::insist(machine.memlock_soft >= least), raise_memlock(least))
}

/// Not a judgement: what the other rows reckon with.
fn sizes(derived: &Derived) -> Finding {
    let Derived { shards, slots_per_shard, spare_slots, .. } = derived;
    let is = format!("{shards} × {slots_per_shard}");
    let should = format!("shards × connections, {spare_slots} spare; a proxied client takes two");
    Finding::new("slots", is, should, Verdict::Ok, String::new())
}

/// The table fits, or there would have been a shortfall; advice where descriptors, not
/// memory, are what keeps derived slots few.
fn table(config: &Config, machine: &Machine, derived: &Derived) -> Finding {
    let shards = derived.shards as u64;
    let room = entries_room(config, machine, shards);
    let full = u64::from(derived.table_entries) >= room && room < TABLE_ENTRIES_MAX;
    let bound = config.server.slots_per_shard == 0 && full;
    let is = format!("soft {}, hard {}", limit(machine.nofile_soft), limit(machine.nofile()));
    let nofile = |entries| nofile_for(entries, config, machine, shards);
    let least = nofile(derived.table_entries.into());
    let should = if bound {
        format!("more than {least} would let memory decide the slots")
    } else {
        format!("at least {least}, {}", tables(derived.table_entries.into(), machine, shards))
    };
    let command = raise_nofile(nofile(table_by_memory(machine, derived)), machine);
    Finding::new("RLIMIT_NOFILE", is, should, Verdict::advise(!bound), command)
}

/// The entries a shard's table would have if memory alone bounded it.
fn table_by_memory(machine: &Machine, derived: &Derived) -> u64 {
    let slots = connections_room(machine.memory_available, derived.shards as u64);
    let rest = u64::from(derived.table_entries - derived.slots_per_shard);
    (slots + rest).min(TABLE_ENTRIES_MAX)
}

fn memory(config: &Config, machine: &Machine, derived: &Derived) -> Finding {
    let wanted = full_bytes(config, derived);
    let is = format!("{} of {}", bytes(machine.memory_available), bytes(machine.memory_total));
    let should = format!("{} when all is full", bytes(wanted));
    let command = "write a smaller server.slots_per_shard or server.outbox_bytes, or give more memory";
    Finding::new("memory available", is, should, Verdict::advise(wanted <= machine.memory_available), command.into())
}

/// What all shards take when every slot is taken, every buffer lent, every outbox full, every window in use, as
/// much kept as may be, every mailbox full, and handshakes hold as much as they may.
fn full_bytes(config: &Config, derived: &Derived) -> u64 {
    let shards = derived.shards as u64;
    let slots = shards * u64::from(derived.slots_per_shard);
    let shared = buffers_bytes(config, shards) + windows_bytes(config, shards) + replay_bytes(config);
    let shared = shared + handshakes_bytes(config, shards);
    connections_bytes(slots) + shared + shards * derived.outbox_bytes + derived.mailboxes.bytes(derived.shards)
}

/// The deflate windows of so many shards; none where no route asks for them.
fn windows_bytes(config: &Config, shards: u64) -> u64 {
    let asked = config.routes.iter().any(|route| route.deflate.on && route.deflate.takeover);
    if asked { shards * config.server.deflate_window_bytes } else { 0 }
}

/// The TLS handshakes of so many shards; none where no listener has TLS.
fn handshakes_bytes(config: &Config, shards: u64) -> u64 {
    let asked = config.listeners.iter().any(|listener| listener.tls.is_some());
    if asked { shards * config.server.tls_handshake_bytes } else { 0 }
}

/// What feeds keep, all shards together, if each names one channel. How many a feed without `channel` names is not
/// known here.
fn replay_bytes(config: &Config) -> u64 {
    let kept = config.feeds.iter().filter(|feed| feed.replay.messages > 0);
    kept.map(|feed| feed.replay.bytes).sum()
}

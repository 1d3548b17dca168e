//! The limits that follow from the configuration and the machine, each with its reason.
//!
//! [`Machine::read`] asks the kernel what it gives; [`derive()`] turns that and a
//! configuration into the sizes a shard allocates at start. Nothing grows afterwards:
//! a server that starts has room for what it promises, and one that has not says what
//! to change. A memory figure here is of the kernel's and edgehold's memory together.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getgroups, getrlimit};

pub use super::coefficients::CONNECTION_BYTES;
use super::config::{Config, Feed, Route, Service, Source};
use super::memory::connections_room;
use crate::engine::descriptors::DIRECT_SINCE;
use crate::engine::finding::Finding;
use crate::mesh::{ToControl, ToShard, mailbox_bytes, peers_bytes};

/// A ring's table of direct descriptors has at most this many entries, whatever RLIMIT_NOFILE says.
pub const TABLE_ENTRIES_MAX: u64 = 1 << 20;
/// Slots kept back so that a full shard can still take a connection to answer it 503.
const SPARE_SLOTS: u32 = 64;
const OUTBOX_MIN: u64 = 8 << 20;
const OUTBOX_MAX: u64 = 4 << 30;
/// Plain descriptors a shard opens besides its listeners: its ring, its waker, and the
/// rings, events and timers of its executor. Counted generously.
const SHARD_DESCRIPTORS: u64 = 24;
/// Plain descriptors of a feed: its connection, one that is being made anew, name resolution.
const FEED_DESCRIPTORS: u64 = 4;
/// Plain descriptors of a route in front of a broker: the session for shared topics, one that is made anew, a trial of
/// a topic, name resolution.
const BROKER_DESCRIPTORS: u64 = 4;
/// Those of a feed that is connected to.
const LISTENING_FEED_DESCRIPTORS: u64 = FEED_DESCRIPTORS + 64;
/// Plain descriptors of the process: standard streams, spare admin connections, files being opened.
const PROCESS_DESCRIPTORS: u64 = 64;
/// Files that are held open between two parts, at most, where the configuration does not say.
const OPEN_FILES_MAX: u64 = 4096;
/// From this kernel on, rings are charged to the user's locked memory (Linux commits 8078486e1d53 and 81a4058e0cd0).
const RINGS_ARE_LOCKED: (u32, u32) = (6, 14);
/// The executor asks for this much before it makes a ring, whoever the user is.
pub const MEMLOCK_MIN: u64 = 512 << 10;
/// Locked memory of a shard: 136 KiB for its ring of 1024 submissions and 4096 completions, 24 KiB for the executor's
/// three rings, and 64 KiB that the executor registers with each of those. Measured on Linux 6.18 as the step from
/// shard to shard, with the 4 KiB of 256 receive buffers.
const SHARD_LOCKED_BYTES: u64 = 352 << 10;
/// Locked memory of the look at the kernel before the start, which the kernel gives back late. Measured likewise.
const PROBE_LOCKED_BYTES: u64 = 24 << 10;
/// The ring that lends receive buffers to the kernel: `struct io_uring_buf`, one for each.
const BUFFER_ENTRY_BYTES: u64 = 16;

/// Letters that may wait for a shard, from the control thread: several thousand messages of feeds, which come many to a
/// letter. What finds no room waits on the control thread, which bounds it (`publish_backlog_bytes`).
const LETTERS_TO_SHARD: usize = 1024;
/// Letters that may wait for the control thread, from one shard: requests for files, a report, subscriber counts. What
/// finds no room is asked for again in the shard's next turn (`file_queue`), or counted as refused.
const LETTERS_TO_CONTROL: usize = 1024;
/// Letters that may wait for a shard, from all other shards together, as long as each pair of shards has its least.
/// There is a mailbox for each ordered pair, so what one shard has must fall as their number grows: the mailboxes of N
/// shards take N·(N-1) times some 400 bytes and 8 bytes a letter, which is 4 KiB for 2 shards, 136 KiB for 8, 3.7 MiB
/// for 64, and 35 MiB for 256.
const LETTERS_FROM_SHARDS: usize = 4096;
/// The least and the most letters that may wait from one shard to another.
const LETTERS_BETWEEN_SHARDS: (usize, usize) = (16, 256);

/// What the machine gives this process.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Cores the process may use (affinity and CPU quota considered); 1 where unknown.
    pub cores: usize,
    /// RLIMIT_NOFILE, the limit in force; `u64::MAX` where there is none.
    pub nofile_soft: u64,
    /// RLIMIT_NOFILE, up to where the process may raise it; `u64::MAX` where there is none.
    pub nofile_hard: u64,
    /// RLIMIT_MEMLOCK in bytes, the limit in force; `u64::MAX` where there is none.
    pub memlock_soft: u64,
    /// Whether RLIMIT_MEMLOCK does not concern this process: it has CAP_IPC_LOCK.
    pub memlock_exempt: bool,
    /// `fs.file-max`: open files of the whole machine; `None` where unknown.
    pub file_max: Option<u64>,
    /// Open files of the whole machine at the moment; 0 where unknown.
    pub file_used: u64,
    /// `fs.nr_open`: the highest RLIMIT_NOFILE that can be set; `None` where unknown.
    pub nr_open: Option<u64>,
    /// `net.core.somaxconn`; `None` where unknown.
    pub somaxconn: Option<u64>,
    /// `net.ipv4.tcp_mem` in pages: low, pressure, high; `None` where unknown.
    pub tcp_mem: Option<[u64; 3]>,
    /// `net.ipv4.ip_local_port_range`, both ends included; the kernel's default, (32768, 60999), where unknown.
    pub port_range: (u16, u16),
    /// Bytes that can be had without swapping: MemAvailable, or what the control group
    /// leaves where that is less; 256 MiB where unknown, so that little is promised.
    pub memory_available: u64,
    /// Bytes of the machine; as `memory_available` where unknown.
    pub memory_total: u64,
    /// Bytes of a page, the unit of `tcp_mem`.
    pub page_bytes: u64,
    /// Kernel version, major and minor; (0, 0) where unknown.
    pub kernel: (u32, u32),
    /// `kernel.io_uring_disabled`: 0 open, 1 for the privileged, 2 for nobody; `None` before 6.6.
    pub io_uring_disabled: Option<u32>,
    /// Whether `io_uring_disabled = 1` does not concern this process: it has CAP_SYS_ADMIN
    /// or belongs to `kernel.io_uring_group`.
    pub io_uring_exempt: bool,
}

impl Machine {
    /// Asks the kernel: getrlimit(2), /proc and the control group. Never fails; what is
    /// not told is as the fields say.
    pub fn read() -> Machine {
        Machine::read_below(Path::new("/"))
    }

    /// As [`Machine::read`], with the files of /proc and /sys looked up below `root`.
    pub fn read_below(root: &Path) -> Machine {
        let files = Files { root };
        let nofile = getrlimit(Resource::Nofile);
        let available = files.memory("MemAvailable:").unwrap_or(256 << 20);
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            nofile_soft: nofile.current.unwrap_or(u64::MAX),
            nofile_hard: nofile.maximum.unwrap_or(u64::MAX),
            memlock_soft: getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX),
            memlock_exempt: files.capable(CAP_IPC_LOCK),
            file_max: files.number("proc/sys/fs/file-max"),
            file_used: files.number("proc/sys/fs/file-nr").unwrap_or(0),
            nr_open: files.number("proc/sys/fs/nr_open"),
            somaxconn: files.number("proc/sys/net/core/somaxconn"),
            tcp_mem: files.numbers("proc/sys/net/ipv4/tcp_mem"),
            port_range: files.numbers("proc/sys/net/ipv4/ip_local_port_range").map_or((32768, 60999), |[a, b]| (a, b)),
            memory_available: available.min(files.group_rest().unwrap_or(u64::MAX)),
            memory_total: files.memory("MemTotal:").unwrap_or(available),
            page_bytes: rustix::param::page_size() as u64,
            kernel: files.kernel().unwrap_or((0, 0)),
            io_uring_disabled: files.number("proc/sys/kernel/io_uring_disabled"),
            io_uring_exempt: files.capable(CAP_SYS_ADMIN) || files.in_uring_group(),
        }
    }

    /// RLIMIT_NOFILE as it will be: serving raises the soft limit to the hard one.
    pub fn nofile(&self) -> u64 {
        self.nofile_hard.max(self.nofile_soft)
    }

    /// Connections are direct descriptors: RLIMIT_NOFILE bounds each shard's table by itself. Without, they are
    /// descriptors of the process, and it bounds all of them together.
    pub fn has_direct_descriptors(&self) -> bool {
        self.kernel >= DIRECT_SINCE
    }
}

/// Numbers of capabilities (linux/capability.h).
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;

/// The small files the kernel answers in.
struct Files<'a> {
    root: &'a Path,
}

impl Files<'_> {
    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    /// The first number of a file.
    fn number<N: std::str::FromStr>(&self, path: &str) -> Option<N> {
        self.text(path)?.split_whitespace().next()?.parse().ok()
    }

    /// The first numbers of a file, all of them or none.
    fn numbers<N: std::str::FromStr, const COUNT: usize>(&self, path: &str) -> Option<[N; COUNT]> {
        let text = self.text(path)?;
        let numbers: Vec<N> = text.split_whitespace().take(COUNT).filter_map(|word| word.parse().ok()).collect();
        numbers.try_into().ok()
    }

    /// Bytes of a line of meminfo, which counts in KiB.
    fn memory(&self, line: &str) -> Option<u64> {
        let text = self.text("proc/meminfo")?;
        let rest = text.lines().find_map(|l| l.strip_prefix(line))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    }

    fn kernel(&self) -> Option<(u32, u32)> {
        let release = self.text("proc/sys/kernel/osrelease")?;
        let mut parts = release.split(|c: char| !c.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// What is left below the memory limits of the control group and those above it
    /// (version 2), the least of them. Inside a container the group's own files stand at the top.
    fn group_rest(&self) -> Option<u64> {
        let groups = self.text("proc/self/cgroup").unwrap_or_default();
        let own = groups.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/").trim_matches('/');
        Path::new(own).ancestors().filter_map(|group| self.rest_of(group)).min()
    }

    fn rest_of(&self, group: &Path) -> Option<u64> {
        let folder = Path::new("sys/fs/cgroup").join(group);
        let read = |name: &str| self.number::<u64>(folder.join(name).to_str()?);
        // "max" is no number: no limit here.
        Some(read("memory.max")?.saturating_sub(read("memory.current").unwrap_or(0)))
    }

    /// Whether the process has a capability, a bit of its effective ones. What the kernel asks for here it asks for in
    /// the first user namespace, whose map is whole: root of a container with users of its own does not have it.
    fn capable(&self, bit: u32) -> bool {
        let users = self.numbers::<u32, 3>("proc/self/uid_map");
        if users.is_some_and(|users| users != [0, 0, u32::MAX]) {
            return false;
        }
        let status = self.text("proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|l| l.strip_prefix("CapEff:")).map(str::trim);
        mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask & (1 << bit) != 0)
    }

    /// The group is -1, no number here, where none is set.
    fn in_uring_group(&self) -> bool {
        let Some(group) = self.number::<u32>("proc/sys/kernel/io_uring_group") else {
            return false;
        };
        let own = rustix::process::getegid().as_raw();
        own == group || getgroups().is_ok_and(|groups| groups.iter().any(|gid| gid.as_raw() == group))
    }
}

/// What a server allocates at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derived {
    /// Shards, at least one.
    pub shards: usize,
    /// Connections a shard may hold.
    pub slots_per_shard: u32,
    /// Slots beyond those, kept back so that a full shard can still answer 503.
    pub spare_slots: u32,
    /// Entries of a ring's table of direct descriptors: slots, spare slots, and the
    /// accepts in flight, whose descriptors the kernel takes before a slot is known.
    pub table_entries: u32,
    /// Bytes that may wait to be sent in one shard.
    pub outbox_bytes: u64,
    /// Letters that may wait between two threads.
    pub mailboxes: Mailboxes,
}

/// Capacities of the mailboxes between threads, in letters. They are allocated at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mailboxes {
    /// From the control thread to a shard.
    pub to_shard: usize,
    /// From a shard to the control thread.
    pub to_control: usize,
    /// From a shard to another shard.
    pub between_shards: usize,
}

impl Mailboxes {
    /// Those of a server with so many shards, at least one.
    pub fn of(shards: usize) -> Mailboxes {
        let (least, most) = LETTERS_BETWEEN_SHARDS;
        let between_shards = (LETTERS_FROM_SHARDS / shards.saturating_sub(1).max(1)).clamp(least, most);
        Mailboxes { to_shard: LETTERS_TO_SHARD, to_control: LETTERS_TO_CONTROL, between_shards }
    }

    /// The bytes of all mailboxes of so many shards, without what their letters point to.
    pub fn bytes(&self, shards: usize) -> u64 {
        let control = mailbox_bytes::<ToShard>(self.to_shard) + mailbox_bytes::<ToControl>(self.to_control);
        (shards * control) as u64 + self.between_shards_bytes(shards)
    }

    /// The bytes of the mailboxes between so many shards alone.
    pub fn between_shards_bytes(&self, shards: usize) -> u64 {
        peers_bytes(self.between_shards, shards) as u64
    }
}

/// Derives the sizes of a server. RLIMIT_NOFILE is taken at its hard limit.
///
/// # Errors
/// Every limit that does not suffice, never an empty list.
pub fn derive(config: &Config, machine: &Machine) -> Result<Derived, Vec<Finding>> {
    let shards = shards(config, machine);
    let accepts = accepts(config);
    let room = Room::of(config, machine, shards, accepts);
    let configured = config.server.slots_per_shard;
    let (slots, spare) = if configured == 0 { largest_fit(&room) } else { (configured, spare_of(configured)) };
    let entries = u64::from(slots) + u64::from(spare) + u64::from(accepts);
    let outbox = outbox_bytes(config, machine, shards);
    let shortfalls: Vec<Finding> = [
        table_shortfall(entries, &room, config, machine, shards),
        memory_shortfall(configured, &room),
        descriptor_shortfall(config, machine, shards),
        outbox_shortfall(config, outbox),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !shortfalls.is_empty() {
        return Err(shortfalls);
    }
    // No shortfall: the entries are within TABLE_ENTRIES_MAX.
    let table_entries = entries as u32;
    Ok(Derived {
        shards,
        slots_per_shard: slots,
        spare_slots: spare,
        table_entries,
        outbox_bytes: outbox,
        mailboxes: Mailboxes::of(shards),
    })
}

/// The shards of a server: as configured, or one per core.
pub(super) fn shards(config: &Config, machine: &Machine) -> usize {
    if config.server.shards == 0 { machine.cores.max(1) } else { config.server.shards }
}

/// Accepts in flight in one shard: each may become a descriptor at any moment.
pub(super) fn accepts(config: &Config) -> u32 {
    u32::from(config.server.accepts_in_flight) * config.listeners.len() as u32
}

/// How much one shard may hold.
struct Room {
    /// Entries its ring's table may have.
    entries: u64,
    /// Of those, entries that accepts in flight need.
    accepts: u64,
    /// Connections its share of the memory holds.
    memory: u64,
}

impl Room {
    /// Memory is one for all shards; a quarter of it stays free for messages on their way
    /// and for everything else that runs on the machine.
    fn of(config: &Config, machine: &Machine, shards: usize, accepts: u32) -> Room {
        Room {
            entries: entries_room(config, machine, shards as u64),
            accepts: accepts.into(),
            memory: connections_room(machine.memory_available, shards as u64),
        }
    }
}

/// Entries that the table of each of so many shards may have. Direct descriptors: each ring registers its table by
/// itself, so RLIMIT_NOFILE holds per shard. Plain ones: it holds for all tables together, beside the process's own.
pub(super) fn entries_room(config: &Config, machine: &Machine, shards: u64) -> u64 {
    let room = if machine.has_direct_descriptors() {
        machine.nofile()
    } else {
        (spare_descriptors(config, machine, shards) - files_share(config, machine, shards)) / shards
    };
    room.min(TABLE_ENTRIES_MAX)
}

/// The RLIMIT_NOFILE with which the table of each of so many shards may have these entries.
pub(super) fn nofile_for(entries: u64, config: &Config, machine: &Machine, shards: u64) -> u64 {
    if machine.has_direct_descriptors() {
        entries
    } else {
        let own = plain_descriptors(config, shards) + shards * entries;
        // Derived, files have as much again at most, and a bound of their own.
        own + if config.server.open_files == 0 { OPEN_FILES_MAX.min(shards * entries) } else { 0 }
    }
}

/// What RLIMIT_NOFILE leaves beside the descriptors that are no connections.
fn spare_descriptors(config: &Config, machine: &Machine, shards: u64) -> u64 {
    machine.nofile().saturating_sub(plain_descriptors(config, shards))
}

/// Of that, what is for files where the configuration does not say.
fn files_share(config: &Config, machine: &Machine, shards: u64) -> u64 {
    let derived = config.server.open_files == 0;
    if derived { (spare_descriptors(config, machine, shards) / 2).min(OPEN_FILES_MAX) } else { 0 }
}

/// The most slots that fit, and their spare ones: a fifth of a tiny table, 64 of a large one.
/// Rounded up, so that these slots written into a configuration ask for no more than this.
fn largest_fit(room: &Room) -> (u32, u32) {
    let entries = room.entries.saturating_sub(room.accepts) as u32;
    let spare = entries.div_ceil(5).clamp(1, SPARE_SLOTS);
    let slots = u64::from(entries.saturating_sub(spare)).min(room.memory);
    // At least one: that it does not fit is for the shortfalls to say.
    (slots.max(1) as u32, spare)
}

/// Spare slots beside a configured number of slots, in the same proportion.
pub(super) fn spare_of(slots: u32) -> u32 {
    (slots / 4).clamp(1, SPARE_SLOTS)
}

fn table_shortfall(entries: u64, room: &Room, config: &Config, machine: &Machine, shards: usize) -> Option<Finding> {
    if entries <= room.entries {
        return None;
    }
    let (slots, _) = largest_fit(room);
    if entries > TABLE_ENTRIES_MAX {
        let is = format!("a table of {entries} entries");
        let should = format!("{TABLE_ENTRIES_MAX} entries at most, the kernel's bound");
        let command = "write a smaller server.slots_per_shard, and more server.shards to make up for it";
        return Some(Finding::failure("server.slots_per_shard", is, should, command.into()));
    }
    let nofile = nofile_for(entries, config, machine, shards as u64);
    let is = format!("{} (hard limit)", machine.nofile());
    let should = format!("at least {nofile}, {}", tables(entries, machine, shards as u64));
    let command = format!("{}, or write server.slots_per_shard = {slots}", raise_nofile(nofile, machine));
    Some(Finding::failure("RLIMIT_NOFILE", is, should, command))
}

/// What RLIMIT_NOFILE has to be so large for.
pub(super) fn tables(entries: u64, machine: &Machine, shards: u64) -> String {
    if machine.has_direct_descriptors() {
        "the entries of a shard's table".into()
    } else {
        let (major, minor) = DIRECT_SINCE;
        format!("{entries} for each of {shards} shards and the rest; before Linux {major}.{minor} all count together")
    }
}

/// How RLIMIT_NOFILE is raised: in the shell of an administrator, or for a service. A
/// process cannot raise its own hard limit, and nobody can above `fs.nr_open`.
pub(super) fn raise_nofile(entries: u64, machine: &Machine) -> String {
    let first = match machine.nr_open {
        Some(most) if most < entries => format!("sysctl -w fs.nr_open={entries}; "),
        _ => String::new(),
    };
    format!("as root: {first}ulimit -n {entries} (under systemd: LimitNOFILE={entries})")
}

/// The RLIMIT_MEMLOCK, in bytes, with which a server starts if its user has no other rings.
pub fn memlock_bytes(config: &Config, machine: &Machine) -> u64 {
    if machine.memlock_exempt || machine.kernel < RINGS_ARE_LOCKED {
        return MEMLOCK_MIN;
    }
    let entries = u64::from(config.server.recv_buffers) * BUFFER_ENTRY_BYTES;
    let shard = SHARD_LOCKED_BYTES + entries.next_multiple_of(machine.page_bytes);
    MEMLOCK_MIN.max(PROBE_LOCKED_BYTES + shards(config, machine) as u64 * shard)
}

/// How RLIMIT_MEMLOCK is raised, as [`raise_nofile`]; both count in KiB.
pub(super) fn raise_memlock(bytes: u64) -> String {
    let kib = bytes.div_ceil(1024);
    format!("as root: ulimit -l {kib} (under systemd: LimitMEMLOCK={kib}K)")
}

fn memory_shortfall(configured: u32, room: &Room) -> Option<Finding> {
    let wanted = u64::from(configured.max(1));
    if wanted <= room.memory {
        return None;
    }
    let is = format!("room for {} connections per shard", room.memory);
    let should = format!("room for {wanted}, at {CONNECTION_BYTES} B each");
    let command = match configured {
        0 => "give the machine or its control group more memory, or write fewer server.shards".into(),
        _ => format!("write server.slots_per_shard = {}, or give more memory", room.memory.max(1)),
    };
    Some(Finding::failure("memory", is, should, command))
}

/// Descriptors that are no connections: they are opened the plain way and count against RLIMIT_NOFILE of the process.
pub(super) fn plain_descriptors(config: &Config, shards: u64) -> u64 {
    let feeds: u64 = config.feeds.iter().map(feed_descriptors).sum();
    let admin = if config.server.admin.is_some() { u64::from(config.server.admin_connections) } else { 0 };
    let files = u64::from(config.server.open_files);
    let is_broker = |route: &&Route| matches!(route.service, Service::Stomp(_) | Service::Mqtt(_));
    let brokers = config.routes.iter().filter(is_broker).count() as u64 * BROKER_DESCRIPTORS;
    PROCESS_DESCRIPTORS + admin + files + feeds + brokers + shards * (SHARD_DESCRIPTORS + config.listeners.len() as u64)
}

/// Files that are held open between two parts: as configured, or half of what is left of RLIMIT_NOFILE.
pub(super) fn open_files(config: &Config, machine: &Machine, derived: &Derived) -> u64 {
    let shards = derived.shards as u64;
    let tables = if machine.has_direct_descriptors() { 0 } else { shards * u64::from(derived.table_entries) };
    match config.server.open_files {
        0 => {
            files_share(config, machine, shards).min(spare_descriptors(config, machine, shards).saturating_sub(tables))
        }
        files => files.into(),
    }
}

fn feed_descriptors(feed: &Feed) -> u64 {
    match feed.source {
        Source::TcpListen(_) | Source::Unix(_) => LISTENING_FEED_DESCRIPTORS,
        _ => FEED_DESCRIPTORS,
    }
}

fn descriptor_shortfall(config: &Config, machine: &Machine, shards: usize) -> Option<Finding> {
    let wanted = plain_descriptors(config, shards as u64);
    let is = format!("{} (hard limit)", machine.nofile());
    let should = format!("at least {wanted} for the shards' own descriptors");
    let command = format!("{}, or write fewer server.shards", raise_nofile(wanted, machine));
    (machine.nofile() < wanted).then(|| Finding::failure("RLIMIT_NOFILE", is, should, command))
}

/// An eighth of the memory for all outboxes: beside three quarters for connections, an
/// eighth stays for the rest. Less than the least would stall one busy peer; more than the
/// most would let a burst grow for seconds before anything is held back.
pub(super) fn outbox_bytes(config: &Config, machine: &Machine, shards: usize) -> u64 {
    match config.server.outbox_bytes {
        0 => (machine.memory_available / 8 / shards as u64).clamp(OUTBOX_MIN, OUTBOX_MAX),
        bytes => bytes,
    }
}

/// A peer's share larger than the whole could never be used, and one peer could fill it.
fn outbox_shortfall(config: &Config, outbox: u64) -> Option<Finding> {
    let routes = config.routes.iter().map(|route| route.limits.max_pending);
    let most = routes.chain([config.limits.max_pending]).max()?;
    let is = format!("{outbox} B per shard, derived from memory");
    let should = format!("at least {most} B, the largest max_pending");
    let command = "lower max_pending, or write server.outbox_bytes";
    (u64::from(most) > outbox).then(|| Finding::failure("server.outbox_bytes", is, should, command.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_between_shards_stay_small_however_many_there_are() {
        let capacity = |shards| Mailboxes::of(shards).between_shards;
        assert_eq!([1, 2, 17, 18, 64, 256, 4096].map(capacity), [256, 256, 256, 240, 65, 16, 16]);
        let kib = |shards| Mailboxes::of(shards).between_shards_bytes(shards) / 1024;
        assert_eq!([1, 2, 8, 64, 256].map(kib), [0, 4, 136, 3780, 36210]);
    }
}

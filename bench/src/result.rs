//! What a run found, as it is written by `--json` and read by `report`.
//!
//! Units stand in the names. A field that could not be measured is absent; nothing is guessed. Older files stay
//! readable as long as [`SCHEMA`] is the same.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The form of these files.
pub const SCHEMA: u32 = 1;

/// One run of one mode.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name and version of the tool.
    pub tool: String,
    /// idle, echo, fanout, storm, slow, offload or proxy.
    pub mode: String,
    /// What the server is called in tables and plots (`--label`).
    pub label: String,
    /// The command line.
    pub command: Vec<String>,
    /// When it began: RFC 3339, UTC.
    pub started: String,
    /// Where it ran.
    pub machine: Machine,
    /// What was asked for.
    pub asked: Asked,
    /// How the connections came about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Connect>,
    /// What connections cost (`idle`; `slow` and `fanout` have counts before and after).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Messages there and back, one entry for each measured stretch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub load: Vec<Load>,
    /// One message to many (`fanout`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fanout: Option<Fanout>,
    /// The same while some receivers had stopped reading (`fanout --slow-percent`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fanout_slow: Option<Fanout>,
    /// The same after all clients had come back (`offload --storm`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fanout_again: Option<Fanout>,
    /// What the processes that were named took (`offload --pid`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
    /// All cut, all back (`storm`, `offload --storm`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm: Option<Storm>,
    /// The load generator itself.
    pub client: Client,
    /// It was ended by Ctrl-C; the figures are those of the part that ran.
    pub interrupted: bool,
    /// What a reader must know before using the figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The machine that the tool ran on (and the server too, where `server_pid` was given).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's model.
    pub cpu: String,
    /// Cores that may be used.
    pub cores: usize,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// RLIMIT_NOFILE in force.
    pub nofile: u64,
    /// The settings that bear on the figures.
    pub sysctls: BTreeMap<String, String>,
}

/// The flags that all modes share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// Where the server is.
    pub url: String,
    /// How many connections.
    pub connections: u64,
    /// Per second, what the mode counts by: connections or messages. Absent: as fast as it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Bytes of a message.
    pub size: usize,
    /// The measured stretch.
    pub duration_s: f64,
    /// How long connections were held idle.
    pub hold_s: f64,
    /// Threads of the tool, each with a ring of its own.
    pub threads: usize,
    /// The process that was watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_pid: Option<u32>,
}

/// How connections came about, from connect(2) to the end of the handshake.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Connect {
    /// How many were tried.
    pub asked: u64,
    /// How many stood in the end.
    pub connected: u64,
    /// The others, by cause.
    pub failed: BTreeMap<String, u64>,
    /// From the first connect to the last handshake.
    pub seconds: f64,
    /// Handshakes per second over that time.
    pub per_second: f64,
    /// CPU of the server over that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_seconds: Option<f64>,
    /// The same for a thousand handshakes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_ms_per_thousand: Option<f64>,
    /// CPU of the busiest thread of the tool, 1 being a core.
    pub client_cpu_share: f64,
    /// From the intended time of the connect to the end of the handshake.
    pub latency: Latency,
    /// The TLS handshakes among that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Handshakes>,
}

/// TLS handshakes. What they took of the server's CPU is that of the whole connection: its accept and, where there is
/// one, the HTTP request that follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Handshakes {
    /// TLS 1.2 or TLS 1.3.
    pub version: String,
    /// The cipher suite by its name at IANA.
    pub cipher_suite: String,
    /// With a certificate and a signature.
    pub full: u64,
    /// Of a session that was resumed by a ticket.
    pub resumed: u64,
    /// How many with a certificate the server makes in a second of its CPU; absent where there were others too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_per_server_cpu_second: Option<f64>,
    /// How many resumed ones; absent where there were others too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed_per_server_cpu_second: Option<f64>,
}

impl Handshakes {
    /// With the rates that follow from what they took, where they were of one kind.
    pub fn with_rates(mut self, server_cpu: Option<f64>) -> Handshakes {
        let rate =
            |count: u64, others: u64| server_cpu.filter(|&cpu| cpu > 0.0 && others == 0).map(|cpu| count as f64 / cpu);
        self.full_per_server_cpu_second = rate(self.full, self.resumed).filter(|_| self.full > 0);
        self.resumed_per_server_cpu_second = rate(self.resumed, self.full).filter(|_| self.resumed > 0);
        self
    }

    /// Those of two crowds, in so much CPU.
    pub fn and(mut self, other: &Handshakes, server_cpu: Option<f64>) -> Handshakes {
        (self.full, self.resumed) = (self.full + other.full, self.resumed + other.resumed);
        self.with_rates(server_cpu)
    }
}

/// What connections cost in memory: readings at several counts, and the slopes through them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// The readings, in the order in which they were taken.
    pub counts: Vec<Reading>,
    /// Slope of the server's resident memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_rss_bytes: Option<f64>,
    /// Slope of its proportional share of resident memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_pss_bytes: Option<f64>,
    /// Slope of the kernel's slab: both ends, where both are on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_pair_bytes: Option<f64>,
    /// The tool's own end of that, as calibrated before the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_client_bytes: Option<f64>,
    /// What one end costs that has a descriptor and nothing armed on it, as calibrated: the floor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_bare_bytes: Option<f64>,
    /// The server's end: the pair without the tool's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_server_bytes: Option<f64>,
    /// The server's end in user space (RSS) and in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_bytes: Option<f64>,
    /// Slope of what the whole machine has less of (MemAvailable): server, tool and kernel together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_pair_bytes: Option<f64>,
    /// CPU of the server while all were idle, in cores per 1 000 connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_cpu_cores_per_thousand: Option<f64>,
}

/// One reading.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reading {
    /// Connections that stood.
    pub connections: u64,
    /// Resident memory of the server and its children.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    /// Proportional share of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pss_bytes: Option<u64>,
    /// The kernel's slab: its objects (/proc/slabinfo), or its pages (/proc/meminfo) where only those can be read.
    pub slab_bytes: u64,
    /// Pages that TCP accounts for (/proc/net/sockstat, mem).
    pub tcp_mem_bytes: u64,
    /// /proc/meminfo, MemAvailable.
    pub available_bytes: u64,
}

/// Messages there and back, in one measured stretch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// What the stretch was: echo, ping, before, slow, direct or edge.
    pub name: String,
    /// Connections that took part.
    pub connections: u64,
    /// Bytes of a message.
    pub size: usize,
    /// Messages per second that were intended; absent in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// How long it was.
    pub seconds: f64,
    /// Messages handed to the kernel.
    pub sent: u64,
    /// Messages that came back.
    pub received: u64,
    /// Messages that were intended and not back when the stretch was over.
    pub missing: u64,
    /// Messages that came back changed.
    pub changed: u64,
    /// Messages back per second.
    pub per_second: f64,
    /// CPU of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_seconds: Option<f64>,
    /// The same for one message there and back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_message: Option<f64>,
    /// CPU of the back end for one message, where a server passed it on (`proxy`, stretch edge).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_end_cpu_us_per_message: Option<f64>,
    /// CPU of the busiest thread of the tool, 1 being a core.
    pub client_cpu_share: f64,
    /// From the intended time of sending to the last byte back.
    pub latency: Latency,
}

/// One message to many receivers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Fanout {
    /// Messages published.
    pub published: u64,
    /// The rate at which they went out.
    pub published_per_second: f64,
    /// The latest hand-over of a message to the kernel after its intended time.
    pub publisher_late_us: f64,
    /// Receivers that stood and read.
    pub subscribers: u64,
    /// Receivers that had stopped reading; nothing below counts them.
    pub slow: u64,
    /// Messages received, over all receivers.
    pub delivered: u64,
    /// Messages that should have been received and were not.
    pub missing: u64,
    /// Messages that a receiver got more often than once.
    pub doubled: u64,
    /// Topics, each with a part of the receivers (`offload`).
    #[serde(skip_serializing_if = "is_zero")]
    pub topics: u64,
    /// Messages that a receiver got behind a later one (`offload`); they are delivered, too.
    pub disordered: u64,
    /// Messages that were no message of the receiver's topic, or not whole (`offload`).
    pub strange: u64,
    /// Deliveries per second, from the first publish to the last receipt.
    pub per_second: f64,
    /// How long that was.
    pub seconds: f64,
    /// CPU of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_seconds: Option<f64>,
    /// The same for one delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_delivery: Option<f64>,
    /// CPU of the busiest thread of the tool, 1 being a core.
    pub client_cpu_share: f64,
    /// From the intended time of publishing to each receipt.
    pub latency: Latency,
    /// From the intended time of publishing to the last receiver's receipt, one value for each message.
    pub last: Latency,
}

/// Nothing to tell.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A process with its children, in the order of what it went through. CPU is that of the part which ended there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// As `--pid` has it.
    pub name: String,
    /// Its number.
    pub pid: u32,
    /// before (no client), joined (all are subscribed), fanout, storm, again.
    pub parts: Vec<Part>,
}

/// What a process had and took at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Part {
    /// What has ended.
    pub name: String,
    /// CPU that it took.
    pub cpu_seconds: f64,
    /// Resident memory at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
}

/// All clients cut at once, and all back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Storm {
    /// Clients that were cut.
    pub cut: u64,
    /// Clients that stood again in the end.
    pub back: u64,
    /// From the cut until the last was back.
    pub seconds: f64,
    /// From the cut until half of them were back.
    pub half_seconds: f64,
    /// The most handshakes within one second.
    pub peak_per_second: f64,
    /// Connects that were tried, repetitions included.
    pub attempts: u64,
    /// Those that failed, by cause.
    pub failed: BTreeMap<String, u64>,
    /// Clients that stood, by seconds since the cut.
    pub timeline: Vec<(f64, u64)>,
    /// CPU of the server from the cut to the recovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_seconds: Option<f64>,
    /// CPU of the busiest thread of the tool, 1 being a core.
    pub client_cpu_share: f64,
    /// Time of a single client from the cut until it stood again.
    pub latency: Latency,
    /// The TLS handshakes of those who came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Handshakes>,
}

/// A distribution of times.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// Values.
    pub count: u64,
    /// Their mean, in microseconds; so are the others.
    pub mean_us: f64,
    /// Half of the values are at most this.
    pub p50_us: f64,
    /// Nine of ten.
    pub p90_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// 999 of 1 000.
    pub p999_us: f64,
    /// 9 999 of 10 000.
    pub p9999_us: f64,
    /// The largest.
    pub max_us: f64,
    /// (quantile from 0 to 1, microseconds), rising.
    pub curve: Vec<(f64, f64)>,
}

/// The load generator's own state: whether it, and not the server, was the limit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Client {
    /// CPU of its busiest thread in the busiest stretch, 1 being a core.
    pub cpu_share: f64,
    /// It was busier than 0.8: the figures are no result of the server, but at best a lower bound.
    pub bottleneck: bool,
    /// How late it was itself at the worst: intended time of a send against its hand-over to the kernel.
    pub late_us: f64,
    /// The most memory that the tool itself had resident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss_bytes: Option<u64>,
}

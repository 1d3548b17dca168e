//! The command line: flags are the same in every mode, and a mode adds few of its own.

use crate::broker::Protocol;
use crate::tls;
use crate::units::{Addresses, Cores, bytes, count, span};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

const EXIT_CODES: &str = "\
Exit codes: 0 measured; 1 something failed while it ran (what was measured until then is printed and written); \
2 the command line, the machine's limits or the server's address do not allow the run.";

/// What a server of WebSocket, SSE or TCP clients costs, measured from outside.
#[derive(Parser, Debug)]
#[command(name = "edgehold-bench", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub mode: Mode,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Mode {
    /// Hold idle connections: what each costs in user memory, kernel memory and CPU
    Idle(Idle),
    /// Messages there and back: throughput, latency, CPU per message
    Echo(Echo),
    /// One message to every subscriber: deliveries, latency, the last receiver
    Fanout(Fanout),
    /// All clients are cut at once, and all come back: time to recovery, peak rates, failures
    Storm(Storm),
    /// Some readers stop: what the others feel, and what the server's memory does
    Slow(Slow),
    /// Echo through an edge against the same without it: the added latency and CPU
    Proxy(Proxy),
    /// Subscribers of a broker, or of an edge before it: numbered messages on topics, each client's checked
    Offload(Offload),
    /// One HTML page with plots from the files that --json wrote
    Report(Report),
}

/// The flags of every mode that meets a server.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The server: ws://HOST:PORT/PATH, http://HOST:PORT/PATH (an event stream) or tcp://HOST:PORT (plain bytes);
    /// over TLS wss://, https:// or tls://
    #[arg(long)]
    pub url: String,
    /// How many connections (also 10k, 1M)
    #[arg(long, value_parser = count, default_value = "1000")]
    pub connections: u64,
    /// Per second: connections in idle and storm, messages in the other modes; without it as fast as it goes
    #[arg(long, value_parser = count)]
    pub rate: Option<u64>,
    /// Connections per second while the crowd of the other modes assembles
    #[arg(long, value_parser = count, default_value = "20000")]
    pub connect_rate: u64,
    /// Bytes of a message (also 16KiB)
    #[arg(long, value_parser = bytes, default_value = "64")]
    pub size: usize,
    /// How long is measured
    #[arg(long, value_parser = span, default_value = "10s")]
    pub duration: Duration,
    /// How long connections are held idle once they stand
    #[arg(long, value_parser = span, default_value = "5s")]
    pub hold: Duration,
    /// Threads, each with a ring of its own; more are started where a ring cannot hold the connections
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Cores for these threads (1 or 1,3 or 4-7), taken in turn; without it the kernel chooses
    #[arg(long, value_parser = crate::units::cores)]
    pub cores: Option<Cores>,
    /// The server's process on this machine (its children count too): for its CPU and memory
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// The server's admin address (http://127.0.0.1:9180): its own counters beside the tool's, and its memory
    #[arg(long)]
    pub admin: Option<String>,
    /// Source addresses, in turn (10.0.0.1,10.0.0.2 or 10.0.0.1-10.0.0.40); for a server in 127/8 enough of 127/8
    #[arg(long, value_parser = crate::units::addresses)]
    pub from: Option<Addresses>,
    /// Destination addresses instead of the URL's, in turn
    #[arg(long, value_parser = crate::units::addresses)]
    pub to: Option<Addresses>,
    /// The name of the server in tables and plots
    #[arg(long)]
    pub label: Option<String>,
    /// Write what was found as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// A header line for the request, as often as needed ("Authorization: Bearer TOKEN")
    #[arg(long, value_name = "LINE")]
    pub header: Vec<String>,
    /// Offer permessage-deflate (RFC 7692), and inflate what comes deflated
    #[arg(long)]
    pub deflate: bool,
    /// TLS.
    #[command(flatten)]
    pub tls: tls::Flags,
}

/// The flags of modes whose clients may be those of a broker.
#[derive(Args, Clone, Debug)]
pub struct Speaking {
    /// What the broker speaks, on TCP or in a WebSocket
    #[arg(long, value_enum)]
    pub protocol: Option<Protocol>,
    /// How many topics; client n subscribes to topic n modulo that
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub topics: u32,
    /// The destination or topic, {} being its number [default: /topic/bench-{} in STOMP, bench/{} in MQTT]
    #[arg(long)]
    pub topic: Option<String>,
    /// The name of all clients, with --password
    #[arg(long, requires = "password")]
    pub user: Option<String>,
    /// Their password
    #[arg(long, requires = "user")]
    pub password: Option<String>,
    /// The host that STOMP's CONNECT names: RabbitMQ's virtual host
    #[arg(long, default_value = "/")]
    pub host: String,
}

/// Flags of `idle`.
#[derive(Args, Clone, Debug)]
pub struct Idle {
    /// The flags of every mode.
    #[command(flatten)]
    pub common: Common,
    /// What the clients say, where they are a broker's: each stands when it is subscribed.
    #[command(flatten)]
    pub speaking: Speaking,
    /// At how many counts memory is read, up to all connections
    #[arg(long, default_value_t = 3)]
    pub counts: u64,
    /// How long to wait at most, at each count, until memory stands still; with --admin, until all are parked as well
    #[arg(long, value_parser = span, default_value = "60s")]
    pub settle: Duration,
    /// Ping each connection once after the hold, and wait for the pongs
    #[arg(long)]
    pub ping: bool,
    /// Then let so many of them echo messages at --talk-rate for --duration, while the others stay
    #[arg(long, value_parser = count, default_value = "0")]
    pub talk: u64,
    /// Messages per second of those that talk
    #[arg(long, value_parser = count, default_value = "10000")]
    pub talk_rate: u64,
}

/// Flags of `echo`.
#[derive(Args, Clone, Debug)]
pub struct Echo {
    /// The flags of every mode.
    #[command(flatten)]
    pub common: Common,
    /// Load before the measured stretch, so that caches and the server's parking are as they will be
    #[arg(long, value_parser = span, default_value = "1s")]
    pub warm_up: Duration,
}

/// Flags of `fanout`.
#[derive(Args, Clone, Debug)]
pub struct Fanout {
    /// The flags of every mode.
    #[command(flatten)]
    pub common: Common,
    /// How to publish: http://HOST:PORT/PATH (POST, the message is the body) or ws://HOST:PORT/PATH (a text message)
    #[arg(long, value_name = "URL")]
    pub publish: String,
    /// What is published, {} being the message
    #[arg(long, default_value = "{}")]
    pub publish_as: String,
    /// The first message of each subscriber, where the server wants one (\r and \n are understood)
    #[arg(long)]
    pub subscribe: Option<String>,
    /// Then once more for --duration, while so many of a hundred have stopped reading
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99))]
    pub slow_percent: Option<u8>,
}

/// Flags of `storm`.
#[derive(Args, Clone, Debug)]
pub struct Storm {
    /// The flags of every mode.
    #[command(flatten)]
    pub common: Common,
    /// The first wait of a client that was cut or refused; it doubles with each failure
    #[arg(long, value_parser = span, default_value = "0s")]
    pub backoff: Duration,
    /// The longest wait
    #[arg(long, value_parser = span, default_value = "30s")]
    pub backoff_max: Duration,
    /// Each wait is drawn at random from zero to its length
    #[arg(long)]
    pub jitter: bool,
    /// So many others stay, and echo messages: for --duration before the cut, and for as long from the cut on
    #[arg(long, value_parser = count, default_value = "0")]
    pub inside: u64,
    /// Messages per second of those that stay
    #[arg(long, value_parser = count, default_value = "2000")]
    pub inside_rate: u64,
}

/// Flags of `slow`.
#[derive(Args, Clone, Debug)]
pub struct Slow {
    /// The flags of every mode.
    #[command(flatten)]
    pub common: Common,
    /// How many of a hundred stop reading while they go on sending
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=99))]
    pub percent: u8,
}

/// Flags of `proxy`.
#[derive(Args, Clone, Debug)]
pub struct Proxy {
    /// The flags of every mode.
    #[command(flatten)]
    pub common: Common,
    /// The same back end without the edge
    #[arg(long, value_name = "URL")]
    pub direct: String,
    /// The process of the back end, to tell its CPU from the edge's
    #[arg(long)]
    pub direct_pid: Option<u32>,
    /// How often the two are measured in turns
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
}

/// Flags of `offload`.
#[derive(Args, Clone, Debug)]
pub struct Offload {
    /// The flags of every mode; `--rate`: messages per second on each topic.
    #[command(flatten)]
    pub common: Common,
    /// What the clients say.
    #[command(flatten)]
    pub speaking: Speaking,
    /// Where messages are published, if not at --url: ws://, wss://, tcp:// or tls://
    #[arg(long, value_name = "URL")]
    pub publish: Option<String>,
    /// How many publish; the topics are dealt among them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub publishers: u32,
    /// Messages are acknowledged: QoS 1 both ways in MQTT, receipts of what is published in STOMP
    #[arg(long)]
    pub acknowledged: bool,
    /// A process whose CPU and memory are told (broker=PID), its children with it; as often as needed
    #[arg(long, value_name = "NAME=PID", value_parser = crate::units::process)]
    pub pid: Vec<(String, u32)>,
    /// Then all are cut, come back and subscribe again, and the messages begin anew for --duration
    #[arg(long)]
    pub storm: bool,
    /// The first wait of a client that was cut or refused; it doubles with each failure
    #[arg(long, value_parser = span, default_value = "0s")]
    pub backoff: Duration,
    /// The longest wait
    #[arg(long, value_parser = span, default_value = "30s")]
    pub backoff_max: Duration,
    /// Each wait is drawn at random from zero to its length
    #[arg(long)]
    pub jitter: bool,
}

/// Flags of `report`.
#[derive(Args, Clone, Debug)]
pub struct Report {
    /// Files that --json wrote
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Where the page goes
    #[arg(long, short, default_value = "report.html")]
    pub output: PathBuf,
    /// The headline of the page
    #[arg(long, default_value = "edgehold-bench")]
    pub title: String,
}

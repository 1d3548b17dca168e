//! What a TLS 1.3 connection costs a server that uses rustls: heap while it is idle, and processor time per handshake.
//!
//! Both ends live in this process and pass bytes through a buffer that is allocated beforehand. An allocator counts
//! what is allocated and freed while the server's end is at work, and only that; the thread's processor clock is read
//! around the same stretches. All connections are kept until the end, then dropped under the same count: what they give
//! back must be what they took, or the program fails.
//!
//! A full handshake and a resumed one (PSK with ephemeral keys) are counted apart; then what it costs to open a record
//! and to seal another, small and large. The certificate is a single
//! self-signed one for ECDSA P-256. Output: one `name value unit` per line.

use clap::Parser;
use edgehold_micro::processor_ns;
use rustls::client::Resumption;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection};
use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

/// Measures rustls server connections in memory.
#[derive(Parser)]
struct Arguments {
    /// Connections of each kind.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let count = Arguments::parse().connections as usize;
    let (server, client) = configure()?;
    let mut full = client.clone();
    full.resumption = Resumption::disabled();
    let (server, full, resuming) = (Arc::new(server), Arc::new(full), Arc::new(client));
    // What is made once for all, and the first ticket.
    Connection::open(&server, &full)?;
    Connection::open(&server, &resuming)?;

    println!("server_struct {} bytes", size_of::<ServerConnection>());
    println!("connections {count} count");
    Figures::take(&server, &full, HandshakeKind::Full, count)?.print("full");
    Figures::take(&server, &resuming, HandshakeKind::Resumed, count)?.print("resumed");
    for bytes in [64, 16 << 10] {
        let ns = records_ns(&server, &full, bytes, 20 * count)?;
        println!("records_{bytes}_processor_median {:.2} us", ns as f64 / 1000.0);
    }
    Ok(())
}

/// A server with stateless tickets, and a client that trusts it.
fn configure() -> Result<(ServerConfig, ClientConfig), Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13])?;
    let mut server = server.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key)?;
    server.ticketer = Ticketer::new()?;
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    Ok((server, client.with_root_certificates(roots).with_no_client_auth()))
}

// ---- counting ----

/// The system's allocator, which counts while the server's end is at work.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Whether the server's end is at work. There is one thread, so nothing here orders anything.
static COUNTS: AtomicBool = AtomicBool::new(false);
/// Bytes asked for and not yet freed.
static LIVE: AtomicI64 = AtomicI64::new(0);
/// The same with what the allocator adds: rounding up, and eight bytes in front of each block.
static LIVE_BLOCKS: AtomicI64 = AtomicI64::new(0);
/// The most that `LIVE` has been since it was last set.
static PEAK: AtomicI64 = AtomicI64::new(0);

/// glibc keeps the size of a block in the word in front of it.
const BLOCK_HEAD: i64 = 8;

/// Adds a block, or takes one away where `sign` is -1.
///
/// # Safety
/// `at` must be null or a block of the system's allocator.
unsafe fn count(at: *mut u8, bytes: usize, sign: i64) {
    if at.is_null() || !COUNTS.load(Relaxed) {
        return;
    }
    // SAFETY: a block of the system's allocator, as the caller promises.
    let usable = unsafe { libc::malloc_usable_size(at.cast()) };
    let [bytes, usable] = [bytes, usable].map(|it| it.cast_signed() as i64);
    let live = LIVE.fetch_add(sign * bytes, Relaxed) + sign * bytes;
    LIVE_BLOCKS.fetch_add(sign * (usable + BLOCK_HEAD), Relaxed);
    PEAK.fetch_max(live, Relaxed);
}

// SAFETY: every call goes to the system's allocator with the same arguments; counting touches no block.
unsafe impl GlobalAlloc for Counting {
    /// # Safety
    /// As the trait asks.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise; `count` gets what was just allocated.
        unsafe {
            let at = System.alloc(layout);
            count(at, layout.size(), 1);
            at
        }
    }

    /// # Safety
    /// As the trait asks.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise; `count` gets what was just allocated.
        unsafe {
            let at = System.alloc_zeroed(layout);
            count(at, layout.size(), 1);
            at
        }
    }

    /// # Safety
    /// As the trait asks.
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; the block is still there when it is counted.
        unsafe {
            count(at, layout.size(), -1);
            System.dealloc(at, layout);
        }
    }

    /// # Safety
    /// As the trait asks.
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promise; the old block is counted while it is there, the new one when it is. Where there
        // is no new one the process ends, so the count does not matter.
        unsafe {
            count(at, layout.size(), -1);
            let at = System.realloc(at, layout, bytes);
            count(at, bytes, 1);
            at
        }
    }
}

/// Lets the server's end work: counts its blocks, and gives the processor time beside the result.
fn serve<T>(work: impl FnOnce() -> T) -> (T, i64) {
    let start = processor_ns();
    COUNTS.store(true, Relaxed);
    let result = work();
    COUNTS.store(false, Relaxed);
    (result, processor_ns() - start)
}

/// What reading the clock costs a stretch without work; the median of many.
fn stretch_ns() -> i64 {
    median((0..10_001).map(|_| serve(|| ()).1).collect())
}

fn median(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    values[values.len() / 2]
}

// ---- connections ----

/// More than a flight of a handshake here, so that no buffer grows while the count is on.
const FLIGHT_BYTES: usize = 64 << 10;

/// Both ends, and what the server's end took.
struct Connection {
    client: ClientConnection,
    server: ServerConnection,
    /// Processor time of the server's end.
    server_ns: i64,
    /// Stretches in which it worked.
    stretches: i64,
}

impl Connection {
    /// Shakes hands, and passes on what comes after it (the tickets), until neither end has anything to write.
    fn open(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Result<Connection, Box<dyn Error>> {
        let client = ClientConnection::new(client.clone(), ServerName::try_from("localhost")?)?;
        let (server, server_ns) = serve(|| ServerConnection::new(server.clone()));
        let mut connection = Connection { client, server: server?, server_ns, stretches: 1 };
        let mut flight = Vec::with_capacity(FLIGHT_BYTES);
        while connection.client.wants_write() || connection.server.wants_write() {
            connection.exchange(&mut flight)?;
        }
        let open = !connection.client.is_handshaking() && !connection.server.is_handshaking();
        if open { Ok(connection) } else { Err("the handshake stopped".into()) }
    }

    /// One flight to the server, and its answer.
    fn exchange(&mut self, flight: &mut Vec<u8>) -> Result<(), Box<dyn Error>> {
        flight.clear();
        while self.client.wants_write() {
            self.client.write_tls(flight)?;
        }
        let (result, ns) = serve(|| answer(&mut self.server, flight));
        self.server_ns += ns;
        self.stretches += 1;
        result?;
        let mut rest = &flight[..];
        while !rest.is_empty() {
            self.client.read_tls(&mut rest)?;
            self.client.process_new_packets()?;
        }
        Ok(())
    }

    /// A message of 100 bytes each way, so that both directions have been in use.
    fn talk(&mut self) -> Result<(), Box<dyn Error>> {
        self.client.writer().write_all(&[1; 100])?;
        let mut flight = Vec::with_capacity(FLIGHT_BYTES);
        self.exchange(&mut flight)?;
        let (mut came, mut back) = ([0; 100], [0; 100]);
        let (result, _) = serve(|| {
            self.server.reader().read_exact(&mut came)?;
            self.server.writer().write_all(&came)
        });
        result?;
        self.exchange(&mut flight)?;
        self.client.reader().read_exact(&mut back)?;
        if back == [1; 100] { Ok(()) } else { Err("another message came back".into()) }
    }
}

/// Feeds the server what is in `flight`, and puts there what it writes.
fn answer(server: &mut ServerConnection, flight: &mut Vec<u8>) -> Result<(), Box<dyn Error>> {
    let mut rest = &flight[..];
    while !rest.is_empty() {
        server.read_tls(&mut rest)?;
        server.process_new_packets()?;
    }
    flight.clear();
    while server.wants_write() {
        server.write_tls(flight)?;
    }
    Ok(())
}

/// Opening a record with so many bytes in it, and sealing another: the server's end, the median of many; nanoseconds.
fn records_ns(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    bytes: usize,
    rounds: usize,
) -> Result<i64, Box<dyn Error>> {
    let mut connection = Connection::open(server, client)?;
    let (said, mut heard, stretch) = (vec![1; bytes], vec![0; bytes], stretch_ns());
    let mut flight = Vec::with_capacity(FLIGHT_BYTES);
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        connection.client.writer().write_all(&said)?;
        flight.clear();
        while connection.client.wants_write() {
            connection.client.write_tls(&mut flight)?;
        }
        let (result, ns) = serve(|| echo(&mut connection.server, &mut flight, &mut heard));
        result?;
        times.push(ns - stretch);
        let mut rest = &flight[..];
        while !rest.is_empty() {
            connection.client.read_tls(&mut rest)?;
            connection.client.process_new_packets()?;
        }
        connection.client.reader().read_exact(&mut heard)?;
        if heard != said {
            return Err("another message came back".into());
        }
    }
    Ok(median(times))
}

/// Opens what is in `flight`, and leaves the same there, sealed anew.
fn echo(server: &mut ServerConnection, flight: &mut Vec<u8>, room: &mut [u8]) -> Result<(), Box<dyn Error>> {
    let mut rest = &flight[..];
    while !rest.is_empty() {
        server.read_tls(&mut rest)?;
        server.process_new_packets()?;
    }
    server.reader().read_exact(room)?;
    server.writer().write_all(room)?;
    flight.clear();
    while server.wants_write() {
        server.write_tls(flight)?;
    }
    Ok(())
}

// ---- figures ----

/// Of one kind of handshake; heap in bytes per connection, time in nanoseconds per handshake.
struct Figures {
    heap_idle: f64,
    heap_idle_blocks: f64,
    heap_used: f64,
    heap_peak: f64,
    processor_median: i64,
    processor_mean: f64,
}

impl Figures {
    fn take(
        server: &Arc<ServerConfig>,
        client: &Arc<ClientConfig>,
        kind: HandshakeKind,
        count: usize,
    ) -> Result<Figures, Box<dyn Error>> {
        let (mut connections, mut peaks, mut times) = (Vec::with_capacity(count), 0, Vec::with_capacity(count));
        let (live, blocks, stretch) = (LIVE.load(Relaxed), LIVE_BLOCKS.load(Relaxed), stretch_ns());
        for _ in 0..count {
            let before = LIVE.load(Relaxed);
            PEAK.store(before, Relaxed);
            let connection = Connection::open(server, client)?;
            if connection.server.handshake_kind() != Some(kind) {
                return Err(format!("not a handshake of the kind {kind:?}").into());
            }
            peaks += PEAK.load(Relaxed) - before;
            times.push(connection.server_ns - connection.stretches * stretch);
            connections.push(connection);
        }
        let each = |bytes: i64| bytes as f64 / count as f64;
        let (heap_idle, heap_idle_blocks) = (LIVE.load(Relaxed) - live, LIVE_BLOCKS.load(Relaxed) - blocks);
        connections.iter_mut().try_for_each(Connection::talk)?;
        let heap_used = LIVE.load(Relaxed) - live;
        drop_servers(connections);
        if LIVE.load(Relaxed) != live {
            return Err(format!("{} bytes were not given back", LIVE.load(Relaxed) - live).into());
        }
        Ok(Figures {
            heap_idle: each(heap_idle),
            heap_idle_blocks: each(heap_idle_blocks),
            heap_used: each(heap_used),
            heap_peak: each(peaks),
            processor_mean: each(times.iter().sum()),
            processor_median: median(times),
        })
    }

    fn print(&self, kind: &str) {
        println!("{kind}_heap_idle {:.1} bytes/connection", self.heap_idle);
        println!("{kind}_heap_idle_blocks {:.1} bytes/connection", self.heap_idle_blocks);
        println!("{kind}_heap_after_messages {:.1} bytes/connection", self.heap_used);
        println!("{kind}_heap_peak_in_handshake {:.1} bytes/connection", self.heap_peak);
        println!("{kind}_handshake_processor_median {:.2} us", self.processor_median as f64 / 1000.0);
        println!("{kind}_handshake_processor_mean {:.2} us", self.processor_mean / 1000.0);
    }
}

/// The servers' ends under the count, the clients' not.
fn drop_servers(connections: Vec<Connection>) {
    for Connection { client, server, .. } in connections {
        serve(|| drop(server));
        drop(client);
    }
}

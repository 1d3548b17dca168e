//! What an idle connection costs the server in user space.
//!
//! Method: the server holds 2 000 connections, then 12 000; each has carried one message and is parked. The
//! cost of one is the slope between the two readings of its resident memory. A first crowd of 2 000 comes and
//! goes before the first reading, so that what grows once (buffers, tables, code) is not counted. At the end
//! 10 000 leave and 10 000 others come: that must cost nothing, or something leaks.

#[path = "../load/crowd.rs"]
mod crowd;
#[path = "../load/peer.rs"]
mod peer;

use std::fs;

use crowd::{Crowd, Habit, Invitation, Stage};
use peer::{Memory, Server, kilobytes, patience, raise_file_limit};

const FEW: usize = 2_000;
const MORE: usize = 10_000;
/// The most an idle connection may cost, in bytes of RSS.
const BYTES_MAX: i64 = 512;
/// The most a connection that took the slot of another may add: nothing, but for the grain of pages.
const LEAK_BYTES_MAX: i64 = 64;
/// The one message each connection has carried before it is idle.
const MESSAGE_BYTES: usize = 512;

const CONFIG: &str = r#"
[server]
shards = 2
slots_per_shard = 14000
admin = "{admin}"
park_after = "1s"
[[listener]]
name = "public"
address = "{address}"
[[route]]
path = "/echo"
service = "echo"
"#;

/// One reading, all in bytes.
#[derive(Clone, Copy)]
struct Reading {
    server: Memory,
    /// SUnreclaim of the whole machine: both ends of every connection, and whatever else runs.
    slab: u64,
}

#[test]
fn idle_connection() {
    let needed = (FEW + MORE + 100) as u64;
    assert!(raise_file_limit() >= needed, "ulimit -n must allow {needed}");
    let server = Server::start(CONFIG);
    let mut crowd = Crowd::new();

    join(&mut crowd, &server, FEW);
    leave(&mut crowd, &server, FEW);
    join(&mut crowd, &server, FEW);
    let few = parked(&mut crowd, &server, FEW);
    join(&mut crowd, &server, MORE);
    let all = parked(&mut crowd, &server, FEW + MORE);
    leave(&mut crowd, &server, MORE);
    join(&mut crowd, &server, MORE);
    let again = parked(&mut crowd, &server, FEW + MORE);

    let slab = slope(few.slab, all.slab);
    println!("kernel slab, both ends: {slab} bytes per connection (for information)");
    let pss = slope(few.server.pss, all.server.pss);
    let rss = slope(few.server.rss, all.server.rss);
    println!("idle connection: {rss} bytes of RSS, {pss} of PSS; limit {BYTES_MAX}");
    let leak = slope(all.server.rss, again.server.rss);
    println!("connection in a used slot: {leak} bytes of RSS; limit {LEAK_BYTES_MAX}");
    assert!(rss <= BYTES_MAX, "an idle connection costs {rss} bytes");
    assert!(leak <= LEAK_BYTES_MAX, "a used slot costs {leak} bytes");
}

/// `count` clients join, and each has one message echoed.
fn join(crowd: &mut Crowd, server: &Server, count: usize) {
    let whom = Invitation { address: server.address, path: "/echo", habit: Habit::Polite };
    let joined: Vec<usize> = crowd.join(count, &whom, patience(30)).collect();
    let open = |&&index: &&usize| crowd.client(index).stage() == Stage::Open;
    assert_eq!(joined.iter().filter(open).count(), count);
    let echoes = crowd.echo_each(&joined, MESSAGE_BYTES, patience(30));
    assert_eq!(echoes, count);
}

/// The `count` clients that joined last leave; returns when the server has let go of them.
fn leave(crowd: &mut Crowd, server: &Server, count: usize) {
    let stay = crowd.count(Stage::Open) - count;
    let all = crowd.clients().len();
    for index in all - count..all {
        crowd.close(index, 1000);
    }
    crowd.until("the leavers are let go", patience(30), |crowd| {
        crowd.count(Stage::Closing) == 0 && server.connections() == stay as u64
    });
}

/// Waits until `count` connections are parked, and reads.
fn parked(crowd: &mut Crowd, server: &Server, count: usize) -> Reading {
    crowd.until("all are parked", patience(30), |_| server.parked() == count as u64);
    let reading = Reading { server: server.memory(), slab: unreclaimable_slab() };
    let Memory { rss, pss } = reading.server;
    println!("{count} parked: RSS {} KiB, PSS {} KiB", rss >> 10, pss >> 10);
    reading
}

fn unreclaimable_slab() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    kilobytes(&text, "SUnreclaim:")
}

/// Bytes for each of `MORE` connections.
fn slope(before: u64, after: u64) -> i64 {
    (after as i64 - before as i64) / MORE as i64
}

//! `edgehold plan` against the bench: what a load takes, said before and measured then, on this machine.
//!
//! Each kind of load is measured at three sizes. The coefficients are of the machine of the committed runs, and another
//! is faster or slower as a whole; so is one that others use meanwhile. What all sizes of a kind have in common is
//! therefore taken off first, within bounds, and the rest is held to a quarter: a price that does not follow the rate
//! is wrong by more than twice between these sizes. Where the server had to wait for its core, messages gathered
//! meanwhile and each cost less than at its rate: such a round is no measurement. On a machine without a quiet round
//! the test says `skip`, and why.

use std::process::Command;

use serde_json::Value;

use crate::peer::{patience, wait_for};
use crate::stage::{self, Server};
use crate::tool::found;

/// How far what was measured may be from what was said.
const TOLERANCE: f64 = 0.25;
/// How much faster or slower a machine may be than that of the runs, before the test says that it measures nothing.
const SPEED: std::ops::RangeInclusive<f64> = 0.2..=5.0;
/// Rounds, of which one must hold: what others do comes and goes.
const ROUNDS: usize = 4;
/// The share of a measurement in which the server may have waited for a core.
const WAITED: f64 = 0.05;

/// A load in the words of both: how many clients, and how many messages in a second.
#[derive(Clone, Copy)]
struct Size {
    connections: u32,
    rate: u32,
}

const fn size(connections: u32, rate: u32) -> Size {
    Size { connections, rate }
}

/// What the plan says of flags, for one shard on one core.
fn plan(flags: &str) -> Value {
    let mut command = Command::new(stage::binary());
    let output = command.arg("plan").args(flags.split_whitespace()).args(["--cores", "1", "--json"]).output();
    serde_json::from_slice(&output.expect("the plan runs").stdout).expect("JSON")
}

fn number(plan: &Value, pointer: &str) -> f64 {
    plan.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {plan:#}"))
}

/// Cores that a run took, and the share of its time in which the server waited for one.
type Measured = (f64, f64);

/// Holds measured cores against planned ones at three sizes, in one quiet round at least.
fn hold(what: &str, sizes: [Size; 3], flags: fn(Size) -> String, measure: fn(Size) -> Measured) {
    let mut said = Vec::new();
    for _ in 0..ROUNDS {
        let measured = sizes.map(measure);
        let planned = sizes.map(|size| number(&plan(&flags(size)), "/cpu/cores"));
        let ratios = [0, 1, 2].map(|at| measured[at].0 / planned[at]);
        let waited = measured.iter().map(|one| one.1).fold(0.0, f64::max);
        println!("{what}: measured over planned {ratios:.2?}, waited for a core {:.0} % of the time", waited * 100.0);
        if waited <= WAITED {
            said.push(ratios);
            if alike(ratios) {
                return;
            }
        }
    }
    if said.is_empty() {
        return println!("skip: {what} against the plan: others had the server's core in all {ROUNDS} rounds");
    }
    panic!("{what}: measured over planned {said:.2?}, which is not alike to {TOLERANCE}");
}

/// Whether all are as far from the plan as the middle one, which is the speed of the machine.
fn alike(mut ratios: [f64; 3]) -> bool {
    ratios.sort_by(f64::total_cmp);
    let [least, speed, most] = ratios;
    SPEED.contains(&speed) && 1.0 - least / speed <= TOLERANCE && most / speed - 1.0 <= TOLERANCE
}

/// A price that is the same at all rates fails: 11 µs where 23.5, 19.5 and 11.1 were seen.
#[test]
fn a_flat_price_is_not_alike() {
    assert!(!alike([23.5 / 11.0, 19.5 / 11.0, 11.1 / 11.0]) && alike([1.1, 0.95, 1.0]) && !alike([1.0, 1.3, 1.0]));
}

/// The last core, so that the server's shard has the first for itself where there are two.
fn last_core() -> String {
    std::thread::available_parallelism().map_or(0, |count| count.get() - 1).to_string()
}

#[test]
fn cores_of_an_echo_are_what_the_plan_says() {
    let _alone = crate::alone();
    let flags = |size: Size| format!("--connections {} --rate {} --size 64", size.connections, size.rate);
    let measure = |size: Size| {
        let server = Server::start();
        let (count, rate) = (size.connections.to_string(), size.rate.to_string());
        let flags = ["--url", &server.ws("/echo"), "--server-pid", &server.pid(), "--size", "64", "--duration", "2s"];
        let more = ["--connections", &count, "--rate", &rate, "--cores", &last_core()];
        let found = found("echo", &[&flags[..], &more].concat());
        let seconds = found.figure("/load/0/seconds");
        (found.figure("/load/0/server_cpu_seconds") / seconds, server.kept_waiting() / seconds)
    };
    hold("echo", [size(500, 2_000), size(1_000, 10_000), size(1_000, 40_000)], flags, measure);
}

#[test]
fn cores_of_a_broadcast_are_what_the_plan_says() {
    let _alone = crate::alone();
    let flags = |size: Size| format!("--connections {} --fanout-rate {} --fanout-size 64", size.connections, size.rate);
    let measure = |size: Size| {
        let server = Server::start();
        let (count, rate) = (size.connections.to_string(), size.rate.to_string());
        let publish = format!("{}/v1/publish/bench", server.admin());
        let flags = ["--url", &server.ws("/feed/bench"), "--server-pid", &server.pid(), "--size", "64"];
        let more = ["--publish", &publish, "--connections", &count, "--rate", &rate, "--cores", &last_core()];
        let found = found("fanout", &[&flags[..], &more, &["--duration", "2s"]].concat());
        let seconds = found.figure("/fanout/seconds");
        (found.figure("/fanout/server_cpu_seconds") / seconds, server.kept_waiting() / seconds)
    };
    hold("broadcast", [size(1_000, 20), size(2_000, 40), size(5_000, 20)], flags, measure);
}

/// Memory is no matter of speed: it is as it was said.
#[test]
fn memory_is_what_the_plan_says() {
    let _alone = crate::alone();
    for count in [2_000, 4_500, 7_000] {
        let server = Server::start();
        let count = count.to_string();
        // Messages as large as receive buffers, so that these are used.
        let flags = ["--url", &server.ws("/echo"), "--connections", &count, "--size", "16KiB", "--rate", "300"];
        found("echo", &[&flags[..], &["--duration", "1s"]].concat());
        let rss = || server.resident() as f64;
        let planned = number(&plan(&format!("--connections {count}")), "/memory/user_bytes");
        println!("{count} clients: {:.0} bytes of {planned:.0}", rss());
        wait_for("memory as planned", patience(2), || (rss() / planned - 1.0).abs() <= TOLERANCE);
    }
}

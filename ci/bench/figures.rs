//! idle, echo, storm, slow and proxy: what the tool counts is what the server counted.

use crate::back_ends;
use crate::peer::{patience, wait_for};
use crate::stage::Server;
use crate::tool::{Found, found};

/// User memory of one idle connection, in bytes: between what its slot must take and what ci/memory allows at most.
const IDLE_BYTES: std::ops::RangeInclusive<f64> = 64.0..=512.0;
/// The first client of each run, which asks whether the server answers at all.
const KNOCK: u64 = 1;

#[test]
fn idle() {
    let _alone = crate::alone();
    let server = Server::start();
    let (url, pid, admin) = (server.ws("/echo"), server.pid(), server.admin());
    let before = server.counts("echo");
    let flags = ["--url", &url, "--server-pid", &pid, "--admin", &admin, "--connections", "2000", "--rate", "4000"];
    let more = ["--settle", "4s", "--hold", "1s", "--ping", "--talk", "200", "--talk-rate", "2000", "--duration", "1s"];
    let found = found("idle", &[&flags[..], &more[..]].concat());
    let counts = server.counts("echo").since(before);

    assert_eq!((found.whole("/connect/asked"), found.whole("/connect/connected")), (2000, 2000));
    assert_eq!(found.fields("/connect/failed"), 0);
    assert_eq!(counts.accepts, 2000 + KNOCK);
    memory_of(&found);
    assert_eq!((found.len("/load"), found.words("/load/0/name")), (2, "ping"));
    assert_eq!((found.whole("/load/0/received"), found.whole("/load/0/missing")), (2000, 0));
    all_back(&found, 1, 2000);
    assert_eq!((counts.heard, counts.said), (2000, 2000), "pings are no messages");
}

/// Three counts, and a slope through them.
fn memory_of(found: &Found) {
    let counts = [0, 1, 2].map(|at| found.whole(&format!("/memory/counts/{at}/connections")));
    assert_eq!((found.len("/memory/counts"), counts), (3, [666, 1333, 2000]));
    let slope = found.figure("/memory/user_rss_bytes");
    assert!(IDLE_BYTES.contains(&slope), "{slope} bytes of RSS for one idle connection");
    let [pair, own] = ["kernel_pair_bytes", "kernel_client_bytes"].map(|it| found.figure(&format!("/memory/{it}")));
    let server = found.figure("/memory/kernel_server_bytes");
    assert!(
        (pair - own - server).abs() < 0.01,
        "{pair} for both ends, {own} for the tool's, {server} for the server's"
    );
    let sum = found.figure("/memory/server_bytes");
    assert!((server + slope - sum).abs() < 0.01, "{server} in the kernel and {slope} in user space are not {sum}");
}

/// `due` messages of stretch `at` went out and came back as they were, each with a time.
#[track_caller]
fn all_back(found: &Found, at: usize, due: u64) {
    let of = |name: &str| found.whole(&format!("/load/{at}/{name}"));
    assert_eq!((of("sent"), of("missing"), of("changed")), (due, 0, 0));
    assert_eq!(of("latency/count"), due);
    assert!(of("received") <= due, "{} received of {due}", of("received"));
}

#[test]
fn echo_at_a_rate() {
    let _alone = crate::alone();
    let server = Server::start();
    let (url, pid) = (server.ws("/echo"), server.pid());
    let before = server.counts("echo");
    let flags = ["--url", &url, "--server-pid", &pid, "--connections", "100", "--rate", "2000", "--size", "200"];
    let found = found("echo", &[&flags[..], &["--duration", "2s", "--warm-up", "500ms"][..]].concat());
    let counts = server.counts("echo").since(before);

    all_back(&found, 0, 4000);
    assert_eq!(counts.accepts, 100 + KNOCK);
    assert_eq!((counts.heard, counts.said), (1000 + 4000, 1000 + 4000), "warm-up and stretch");
    let rate = found.figure("/load/0/per_second");
    assert!((1800.0..=2200.0).contains(&rate), "{rate} messages per second, and 2000 were asked for");
    quantiles_rise(&found);
    assert!(found.figure("/load/0/server_cpu_us_per_message") > 0.0);
}

fn quantiles_rise(found: &Found) {
    let names = ["p50_us", "p90_us", "p99_us", "p999_us", "p9999_us", "max_us"];
    let all = names.map(|name| found.figure(&format!("/load/0/latency/{name}")));
    assert!(all[0] > 0.0 && all.is_sorted(), "{all:?}");
}

#[test]
fn echo_in_a_closed_loop() {
    let _alone = crate::alone();
    let server = Server::start();
    let url = server.ws("/echo");
    let before = server.counts("echo");
    let flags = ["--url", &url, "--connections", "50", "--size", "16KiB", "--duration", "1500ms", "--warm-up", "0s"];
    let found = found("echo", &flags);
    let counts = server.counts("echo").since(before);

    let sent = found.whole("/load/0/sent");
    assert!(sent >= 50, "{sent} messages of 50 clients");
    all_back(&found, 0, sent);
    assert_eq!((counts.accepts, counts.heard, counts.said), (50 + KNOCK, sent, sent));
    let (received, seconds) = (found.figure("/load/0/received"), found.figure("/load/0/seconds"));
    assert!((found.figure("/load/0/per_second") - received / seconds).abs() < 0.01);
}

#[test]
fn storm() {
    let _alone = crate::alone();
    let server = Server::start();
    let (url, pid) = (server.ws("/echo"), server.pid());
    let before = server.counts("echo");
    let flags = ["--url", &url, "--server-pid", &pid, "--connections", "1000", "--hold", "300ms"];
    let found = found("storm", &[&flags[..], &["--backoff", "100ms", "--jitter"][..]].concat());
    let counts = || server.counts("echo").since(before);

    assert_eq!((found.whole("/storm/cut"), found.whole("/storm/back")), (1000, 1000));
    assert_eq!((found.whole("/storm/latency/count"), found.fields("/storm/failed")), (1000, 0));
    assert_eq!(found.whole("/storm/attempts"), 1000);
    assert_eq!(counts().accepts, 1000 + 1000 + KNOCK);
    wait_for("the server has seen those who were cut", patience(5), || counts().resets >= 1000);
    let last = found.len("/storm/timeline") - 1;
    assert_eq!(found.whole(&format!("/storm/timeline/{last}/1")), 1000);
    assert!(found.figure("/storm/half_seconds") <= found.figure("/storm/seconds"));
}

/// Those who stay are not cut, and are measured by their echoes: before the cut, and from it on.
#[test]
fn storm_beside_those_who_stay() {
    let _alone = crate::alone();
    let server = Server::start();
    let (url, pid) = (server.ws("/echo"), server.pid());
    let before = server.counts("echo");
    let flags = ["--url", &url, "--server-pid", &pid, "--connections", "1000", "--hold", "100ms"];
    let inside = ["--inside", "50", "--inside-rate", "500", "--duration", "500ms"];
    let found = found("storm", &[&flags[..], &inside[..]].concat());
    let counts = server.counts("echo").since(before);

    assert_eq!((found.whole("/storm/cut"), found.whole("/storm/back")), (1000, 1000));
    assert_eq!((found.words("/load/0/name"), found.words("/load/1/name")), ("quiet", "during"));
    [0, 1].iter().for_each(|&place| all_back(&found, place, 250));
    assert_eq!(counts.accepts, 1000 + 1000 + 50 + KNOCK);
    assert_eq!(counts.heard, counts.said);
    assert!(counts.heard > 500, "{} messages, those of the warming up among them", counts.heard);
    assert!(found.figure("/client/peak_rss_bytes") > 1e6);
}

/// A broadcast hears what its clients say and answers nothing: no result, and no NaN.
#[test]
fn slow_wants_an_echo() {
    let _alone = crate::alone();
    let server = Server::start();
    let url = server.ws("/feed/bench");
    let flags = ["--url", &url, "--connections", "20", "--rate", "200", "--duration", "1s"];
    for mode in ["slow", "echo"] {
        let ran = crate::tool::run(mode, &flags);
        let said = ran.complaints().concat();
        assert!(ran.code == Some(2) && said.contains("a service that echoes"), "{:?} {said}", ran.code);
        assert!(!ran.out.contains("NaN"), "{}", ran.out);
    }
}

#[test]
fn slow() {
    let _alone = crate::alone();
    let server = Server::start();
    let (url, pid) = (server.ws("/echo"), server.pid());
    let before = server.counts("echo");
    let flags = ["--url", &url, "--server-pid", &pid, "--connections", "100", "--percent", "20"];
    let found = found("slow", &[&flags[..], &["--rate", "4000", "--size", "4KiB", "--duration", "3s"][..]].concat());
    let counts = server.counts("echo").since(before);

    all_back(&found, 0, 6000);
    assert_eq!(found.words("/load/1/name"), "slow");
    assert_eq!((found.whole("/load/1/missing"), found.whole("/load/1/changed")), (0, 0));
    // 80 of 100 are heard of.
    assert_eq!(found.whole("/load/1/latency/count"), 4800);
    assert_eq!(found.len("/memory/counts"), 3);
    // The warm-up, the stretch before, and those who read; the server may hold the others back.
    let heard = 6000 + 6000 + 4800..=6000 + 6000 + 6000;
    assert!(heard.contains(&counts.heard), "{} messages heard by the server", counts.heard);
    assert_eq!(counts.accepts, 100 + KNOCK);
}

#[test]
fn proxy() {
    let _alone = crate::alone();
    let back_end = back_ends::echo();
    let server = Server::before(back_end);
    let (url, pid, direct) = (server.ws("/back"), server.pid(), format!("tcp://{back_end}"));
    let before = server.counts("proxy");
    let flags = ["--url", &url, "--server-pid", &pid, "--direct", &direct, "--connections", "50", "--rate", "1000"];
    let found = found("proxy", &[&flags[..], &["--duration", "1s", "--rounds", "2"][..]].concat());
    let counts = server.counts("proxy").since(before);

    let names = [0, 1, 2, 3].map(|at| found.words(&format!("/load/{at}/name")));
    assert_eq!((found.len("/load"), names), (4, ["direct", "edge", "direct", "edge"]));
    (0..4).for_each(|at| all_back(&found, at, 1000));
    // Each round has a warm-up of half a second; what goes to the back end directly does not touch the edge.
    assert_eq!((counts.accepts, counts.heard), (50 + KNOCK, 2 * (500 + 1000)));
}

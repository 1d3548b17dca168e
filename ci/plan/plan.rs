//! `edgehold plan` from the outside: what it prints, what it refuses, and how it ends.
//!
//! Every case names the machine by flags where its figures matter. What flags do not name (sysctls) is that of
//! the machine the tests run on, so no case relies on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A machine with more than enough, as far as flags can say.
const LARGE: &str = "--cores 16 --memory 256GiB --nofile 1048576";

fn run(words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edgehold")).arg("plan").args(words.split_whitespace()).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The plan as JSON; the exit code says whether it fits.
fn json(words: &str) -> Value {
    let output = run(&format!("{words} --json"));
    let plan: Value = serde_json::from_slice(&output.stdout).expect(words);
    assert_eq!(output.status.code(), Some(i32::from(plan["fits"] != true)), "{words}");
    assert_eq!(text(&output.stderr), "");
    plan
}

fn number(plan: &Value, pointer: &str) -> f64 {
    plan.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {pointer}"))
}

/// The sum of a key over the parts of a list.
fn sum(plan: &Value, list: &str, key: &str) -> f64 {
    let parts = plan.pointer(list).and_then(Value::as_array).expect(list);
    parts.iter().map(|part| number(part, &format!("/{key}"))).sum()
}

/// The finding about a limit.
fn finding<'a>(plan: &'a Value, what: &str) -> &'a Value {
    let rows = plan["findings"].as_array().expect("findings");
    rows.iter().find(|row| row["what"] == what).unwrap_or_else(|| panic!("{what} in {rows:#?}"))
}

/// A configuration file in a folder of its own.
fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("edge.toml");
    let listener = "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:8080\"\n";
    fs::write(&path, format!("{text}\n{listener}")).expect("a file");
    (folder, path)
}

fn with_file(path: &Path, words: &str) -> Value {
    json(&format!("{words} --config {}", path.display()))
}

const EVERYTHING: &str = "--connections 1M --tls-share 35% --proxied-share 10% --slow-share 0.1% --upstreams 4 \
                          --rate 10k --size 1KiB --fanout-rate 0.1 --fanout-size 200 --channels 10 --forms 2 \
                          --reconnect-time 60s";

#[test]
fn totals_are_sums() {
    let plan = json(&format!("{EVERYTHING} {LARGE}"));
    let kinds = ["user", "kernel", "tls", "transient"].map(|kind| number(&plan, &format!("/memory/{kind}_bytes")));
    assert_eq!(kinds.iter().sum::<f64>(), number(&plan, "/memory/total_bytes"));
    assert_eq!(sum(&plan, "/memory/parts", "bytes"), number(&plan, "/memory/total_bytes"));
    assert!(kinds.iter().all(|bytes| *bytes > 0.0));
    assert!((sum(&plan, "/cpu/parts", "cores") - number(&plan, "/cpu/cores")).abs() < 1e-9);
    for way in ["in", "out"] {
        let of = |side: &str| number(&plan, &format!("/network/{side}/{way}/bits_per_second"));
        assert_eq!(of("clients") + of("upstreams"), of("total"));
    }
    let entries = number(&plan, "/files/shards") * number(&plan, "/files/table_entries");
    assert_eq!(entries, number(&plan, "/files/total_entries"));
}

/// Orders of magnitude that hold whatever the next run measures.
#[test]
fn a_million_connections_take_gigabytes() {
    let plan = json(&format!("--connections 1M {LARGE}"));
    let gib = |pointer: &str| number(&plan, pointer) / f64::from(1 << 30);
    assert!((3.0..6.0).contains(&gib("/memory/kernel_bytes")));
    assert!((0.1..0.3).contains(&gib("/memory/user_bytes")));
    assert_eq!(number(&plan, "/memory/tls_bytes"), 0.0);
    assert!(number(&plan, "/cpu/cores") < 1.0);
    assert!((1.0e6..1.1e6).contains(&number(&plan, "/files/total_entries")));
    let tls = json(&format!("--connections 1M --tls-share 1 {LARGE}"));
    // 64 MiB of them are what handshakes of each shard may hold.
    assert!((1.2e9..1.6e9).contains(&number(&tls, "/memory/tls_bytes")));
}

/// Sessions of all who use TLS; of those who speak the keys are expanded: so much more each, no more than there are.
#[test]
fn sessions_of_tls_are_counted_idle_and_awake() {
    let of = |words: &str| {
        let plan = json(&format!("--connections 100k {words} {LARGE}"));
        let parts = plan["memory"]["parts"].as_array().expect("parts").clone();
        let part = |what: &str| parts.iter().find(|one| one["what"] == what).map_or(0.0, |one| number(one, "/bytes"));
        let list = plan["coefficients"].as_array().expect("coefficients").clone();
        let value = |name: &str| list.iter().find(|one| one["name"] == name).map_or(0.0, |one| number(one, "/value"));
        let values = ["tls_connection", "tls_awake"].map(value);
        (part("TLS sessions"), part("TLS keys of connections that are not parked"), values)
    };
    assert_eq!(of("--rate 10M"), (0.0, 0.0, [0.0; 2]));
    let (sessions, keys, [session, awake]) = of("--tls-share 50% --rate 10M");
    assert!((100.0..=192.0).contains(&session) && awake > session, "{session} and {awake}");
    assert_eq!((sessions, keys), (50_000.0 * session, 50_000.0 * (awake - session)));
    let (_, some, _) = of("--tls-share 50% --rate 1k");
    assert!(some > 0.0 && some < keys, "{some} of {keys}");
}

/// Whatever a part names stands in the list with a value, a unit and a run.
#[test]
fn every_coefficient_names_its_run() {
    let plan = json(&format!("{EVERYTHING} {LARGE}"));
    let list = plan["coefficients"].as_array().expect("coefficients");
    let named = |name: &str| list.iter().find(|one| one["name"] == name).expect(name);
    for part in ["/memory/parts", "/cpu/parts"].iter().flat_map(|list| plan.pointer(list).unwrap().as_array().unwrap())
    {
        for name in part["coefficients"].as_array().expect("names") {
            let one = named(name.as_str().expect("a name"));
            assert!(number(one, "/value") > 0.0 && !one["unit"].as_str().unwrap().is_empty());
            assert!(one["source"].as_str().unwrap().starts_with("bench/runs/"), "{one}");
        }
    }
}

#[test]
fn the_report_has_its_parts_in_order() {
    let report = text(&run(&format!("{EVERYTHING} {LARGE}")).stdout);
    let heads: Vec<&str> = report.lines().filter(|line| !line.starts_with(' ') && !line.is_empty()).collect();
    let (last, heads) = heads.split_last().expect("lines");
    let expected = [
        "load",
        "memory",
        "cores",
        "network",
        "files",
        "ports",
        "sysctls",
        "this load on this machine",
        "what the figures do not show",
        "from",
    ];
    assert_eq!(heads, expected);
    assert!(last.starts_with("1000000 connections, "), "{last}");
    assert!(report.contains("bench/runs/") && report.contains("tuning/"));
}

#[test]
fn what_is_not_asked_for_is_left_out() {
    let report = text(&run(&format!("--connections 1000 {LARGE}")).stdout);
    for word in ["TLS", "upstream", "published", "do not read", "ports", "new connections", "messages of"] {
        assert!(!report.contains(word), "{word} in:\n{report}");
    }
}

#[test]
fn a_small_load_fits_and_a_large_one_does_not() {
    let small = run("--connections 100 --cores 1 --memory 1GiB");
    assert_eq!(small.status.code(), Some(0), "{}", text(&small.stdout));
    assert!(text(&small.stdout).ends_with("cores: it fits\n"));
    let large = run("--connections 1M --cores 1 --memory 1GiB --nofile 20000");
    assert_eq!(large.status.code(), Some(1));
    let report = text(&large.stdout);
    assert!(
        report.contains("cores: it does not fit: ") && report.contains("memory") && report.contains("RLIMIT_NOFILE")
    );
}

#[test]
fn flags_stand_for_another_machine() {
    let plan = json("--connections 1000 --cores 7 --memory 3GiB --nofile 5000");
    let machine = serde_json::json!({ "cores": 7, "memory_bytes": 3u64 << 30, "nofile": 5000 });
    assert_eq!(plan["machine"], machine);
    assert_eq!(number(&plan, "/files/shards"), 7.0);
}

#[test]
fn limits_of_a_file_that_are_too_small_are_named() {
    let echo = "[[route]]\npath = \"/\"\nservice = \"echo\"\nmessage_bytes = \"1KiB\"\n";
    let server = "[server]\nshards = 2\nslots_per_shard = 100\noutbox_bytes = \"1MiB\"\n";
    let (_folder, path) = file(&format!("{server}{echo}"));
    let load = "--connections 1000 --proxied-share 10% --slow-share 10% --rate 1 --size 2KiB";
    let plan = with_file(&path, &format!("{load} {LARGE}"));
    assert_eq!(plan["fits"], false);
    for what in ["server.slots_per_shard", "server.outbox_bytes", "limits.message_bytes", "route"] {
        let row = finding(&plan, what);
        assert_eq!(row["verdict"], "fails", "{row}");
        assert!(row["command"].as_str().unwrap().starts_with("write "), "{row}");
    }
    assert_eq!(finding(&plan, "server.slots_per_shard")["is"], "100");
}

#[test]
fn a_file_with_room_fits() {
    let route = "[[route]]\npath = \"/\"\nservice = \"proxy\"\nupstream = \"unix:///run/back\"\n";
    let (_folder, path) = file(&format!("[server]\nshards = 1\nslots_per_shard = 2000\n{route}"));
    let plan = with_file(&path, &format!("--connections 1000 --proxied-share 1 {LARGE}"));
    let slots = finding(&plan, "server.slots_per_shard");
    assert_eq!((&slots["verdict"], &slots["command"]), (&Value::from("ok"), &Value::from("")));
    assert_eq!(number(&plan, "/ports/upstreams"), 0.0);
}

/// What a refusal says first, and that there is no report with it.
fn refusal(words: &str) -> String {
    let output = run(words);
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert_eq!(text(&output.stdout), "");
    text(&output.stderr).lines().next().unwrap_or_default().to_string()
}

#[test]
fn wrong_values_are_refused_in_one_line() {
    let cases = [
        ("--connections 0", "'0' for '--connections <N>': write 1 to 1000M, as in 250000, 250k or 1M"),
        ("--tls-share 2", "'2' for '--tls-share <SHARE>': write 0 to 1, or 0% to 100%, as in 0.35 or 35%"),
        ("--rate fast", "'fast' for '--rate <PER_SECOND>': write 0 to 1000M per second, as in 0.5, 20000 or 20k"),
        ("--size 16KB", "'16KB' for '--size <SIZE>': write 0 to 1GiB, as in 200 or 16KiB"),
        ("--reconnect-time 60", "'60' for '--reconnect-time <DURATION>': write 1ms to 24h, as in 100ms, 30s or 5m"),
        ("--memory 1KiB", "'1KiB' for '--memory <SIZE>': write 64MiB to 1024TiB, as in 64GiB"),
        ("--cores 0", "'0' for '--cores <N>': write 1 to 4096"),
    ];
    for (words, expected) in cases {
        assert_eq!(refusal(words), format!("error: invalid value {expected}"));
    }
}

#[test]
fn contradictions_are_refused_in_one_line() {
    let more = "edgehold: --subscribers 50 is more than --connections 10 — write 10 or fewer";
    assert_eq!(refusal("--connections 10 --subscribers 50 --fanout-rate 1"), more);
    let silent = "edgehold: --subscribers without --fanout-rate: nothing is published — add --fanout-rate PER_SECOND";
    assert_eq!(refusal("--subscribers 5"), silent);
    let both = "error: the argument '--upstreams <N>' cannot be used with '--config <FILE>'";
    assert_eq!(refusal("--upstreams 2 --config x"), both);
}

#[test]
fn a_wrong_file_is_refused_with_its_problems() {
    let (_folder, path) = file("[server]\nshard = 2\n[[route]]\npath = \"/\"\nservice = \"echo\"\n");
    let line = refusal(&format!("--config {}", path.display()));
    assert!(line.starts_with(&format!("{}:2:", path.display())) && line.contains("shard"), "{line}");
}

#[test]
fn help_names_every_flag() {
    let help = text(&run("--help").stdout);
    for word in EVERYTHING.split_whitespace().chain(LARGE.split_whitespace()).filter(|word| word.starts_with("--")) {
        assert!(help.contains(word), "{word}");
    }
}

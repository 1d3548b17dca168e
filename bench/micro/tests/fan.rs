//! The bare fan-out must deliver, or it would be no limit: every subscriber gets every byte of every round, with
//! messages below, at and above the size of a receive buffer, and says how it went in lines that can be read.

use std::collections::BTreeMap;
use std::process::{Command, Output};

fn fan(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fan_limit"));
    command.args(["--core", "0", "--sink-core", "0"]).args(arguments).output().unwrap()
}

/// What a run that must succeed printed: the value by name and unit.
fn values(arguments: &[&str]) -> BTreeMap<String, f64> {
    let output = fan(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.map(|words| (format!("{} {}", words[0], words[2]), words[1].parse().unwrap())).collect()
}

#[test]
fn everyone_gets_every_message() {
    // More than one batch and more than one pack of plain descriptors, neither of them full.
    let values = values(&["--subscribers", "600", "--rounds", "30"]);
    assert_eq!(values["sent messages"], 18_000.0);
    assert_eq!(values["received messages"], 18_000.0);
    for name in ["sender_processor us/delivery", "sink_processor us/delivery", "deliveries deliveries/s"] {
        assert!(values[name] > 0.0, "{name}");
    }
}

#[test]
fn messages_of_any_size_arrive_whole() {
    for bytes in ["1", "511", "512", "513", "4096"] {
        let values = values(&["--subscribers", "20", "--rounds", "50", "--bytes", bytes]);
        assert_eq!(values["received messages"], 1_000.0, "{bytes} bytes");
    }
}

#[test]
fn a_rate_is_kept() {
    let values = values(&["--subscribers", "10", "--rounds", "6", "--rate", "50"]);
    assert_eq!(values["received messages"], 60.0);
    // The sixth round is due after a tenth of a second; nothing bounds how late a busy machine is.
    assert!(values["deliveries deliveries/s"] <= 600.0, "{values:?}");
}

#[test]
fn what_lay_undelivered_is_taken_afterwards() {
    for bytes in ["64", "1500"] {
        let values = values(&["--memory", "--subscribers", "300", "--rounds", "2", "--bytes", bytes]);
        assert_eq!(values["received messages"], 600.0, "{bytes} bytes");
        assert!(values["slab_least bytes/message"] <= values["slab_most bytes/message"]);
        assert!(values.contains_key("slab bytes/message") && values.contains_key("tcp_memory pages/socket"));
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let mistakes = [["--subscribers", "0"], ["--bytes", "4097"], ["--rate", "0"], ["--rate=20", "--memory"]];
    for arguments in mistakes {
        let output = fan(&arguments);
        assert!(!output.status.success() && output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_core_that_is_not_there_is_refused() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fan_limit"));
    let output = command.args(["--core", "0", "--sink-core", "100000", "--subscribers", "3"]).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot run on core 100000"));
}

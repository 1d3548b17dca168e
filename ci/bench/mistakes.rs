//! What cannot be measured is refused before it begins: one clear line, exit code 2, nothing written.

use std::net::SocketAddr;

use crate::back_ends;
use crate::peer::free_port;
use crate::stage::{Bystander, Server};
use crate::tool::{self, Ran};

/// One more than the largest process number that Linux gives (PID_MAX_LIMIT, proc_pid_max(5)).
const NO_PROCESS: &str = "4194305";

/// Refused with one line, which says all of `words`; no file is left.
#[track_caller]
fn refused(ran: &Ran, words: &[&str]) {
    let lines = ran.complaints();
    assert_eq!(ran.code, Some(2), "{lines:?}");
    assert_eq!((lines.len(), ran.out.as_str()), (1, ""), "{lines:?}");
    assert!(lines[0].starts_with("edgehold-bench: "), "{lines:?}");
    words.iter().for_each(|word| assert!(lines[0].contains(word), "no \"{word}\" in {lines:?}"));
    assert!(!ran.file().exists(), "a file was written: {lines:?}");
}

/// The argument parser says more than a line; the first says what is wrong.
#[track_caller]
fn misspelt(ran: &Ran, words: &[&str]) {
    let lines = ran.complaints();
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{lines:?}");
    words.iter().for_each(|word| assert!(lines[0].contains(word), "no \"{word}\" in {lines:?}"));
}

fn echo(url: &str, more: &[&str]) -> Ran {
    tool::run("echo", &[&["--url", url, "--connections", "10", "--duration", "1s"], more].concat())
}

#[test]
fn addresses() {
    refused(&echo("gopher://127.0.0.1/", &[]), &["gopher://127.0.0.1/ is no URL", "ws://HOST:PORT/PATH"]);
    refused(&echo("127.0.0.1:80", &[]), &["127.0.0.1:80 is no URL"]);
    refused(&echo("ws://", &[]), &["ws://HOST:PORT/PATH"]);
    refused(&echo("ws://127.0.0.1:99999/", &[]), &["ws://127.0.0.1:99999/"]);
    refused(&echo("ws://nobody.invalid/", &[]), &["nobody.invalid"]);
    refused(&echo("wss://127.0.0.1/", &[]), &["wss://127.0.0.1/", "--ca FILE", "--insecure"]);
    misspelt(&tool::run("echo", &[]), &["required"]);
}

#[test]
fn servers_that_do_not_answer() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    refused(&echo(&format!("ws://{nobody}/"), &[]), &[&nobody.to_string(), "Connection refused"]);
    let silent = back_ends::silent();
    refused(&echo(&format!("ws://{silent}/"), &[]), &["ends the connection without an answer"]);
    let server = Server::start();
    refused(&echo(&server.ws("/nowhere"), &[]), &["/nowhere", "404 Not Found", "not 101"]);
}

#[test]
fn processes_that_are_not_the_server() {
    let server = Server::start();
    let (url, other) = (server.ws("/echo"), Bystander::start());
    refused(&echo(&url, &["--server-pid", &other.pid()]), &["--server-pid", &other.pid(), "listens on port"]);
    refused(&echo(&url, &["--server-pid", NO_PROCESS]), &["--server-pid", "no such process"]);
}

#[test]
fn admin_addresses() {
    let server = Server::start();
    let (url, nobody) = (server.ws("/echo"), format!("http://127.0.0.1:{}", free_port()));
    refused(&echo(&url, &["--admin", &nobody]), &["--admin", &nobody, "Connection refused"]);
    refused(&echo(&url, &["--admin", "127.0.0.1:9180"]), &["--admin 127.0.0.1:9180", "write http://HOST:PORT"]);
    let public = server.ws("").replace("ws://", "http://");
    refused(&echo(&url, &["--admin", &public]), &["--admin", "404"]);
}

#[test]
fn machines_that_are_too_small() {
    let server = Server::start();
    let few = ["--url", &server.ws("/echo"), "--connections", "1M", "--from", "127.0.0.1"];
    refused(
        &tool::run("idle", &few),
        &["1000000 connections", "--from or --to", "sysctl -w net.ipv4.ip_local_port_range"],
    );
}

/// The limit that remains for one ring is not enough for the many that so short tables would take.
#[test]
fn limits_of_files() {
    let server = Server::start();
    let flags = ["--url", &server.ws("/echo"), "--connections", "400", "--duration", "1s"];
    refused(&tool::run_within(24, "echo", &flags), &["400 connections", "files under a limit of 24", "ulimit -n"]);
}

#[test]
fn outputs_that_cannot_be_written() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("none/out.json");
    let file = file.to_str().expect("a path in UTF-8");
    let flags = ["--url", &server.ws("/echo"), "--connections", "10", "--json", file];
    refused(&tool::run_bare("echo", &flags), &["--json", file, "No such file or directory"]);
}

#[test]
fn flags() {
    let server = Server::start();
    let url = server.ws("/echo");
    misspelt(&echo(&url, &["--size", "17MiB"]), &["17MiB is above 16MiB", "--size"]);
    misspelt(&echo(&url, &["--rate", "fast"]), &["--rate", "fast"]);
    misspelt(&tool::run("slow", &["--url", &url, "--percent", "100"]), &["--percent", "100"]);
    refused(&tool::run("slow", &["--url", &url]), &["--rate"]);
    refused(&tool::run("fanout", &["--url", &url, "--publish", &url]), &["--rate"]);
    let fanout = ["--url", &url, "--publish", &url, "--rate", "1"];
    refused(&tool::run("fanout", &[&fanout[..], &["--publish-as", "x"]].concat()), &["--publish-as x", "{}"]);
}

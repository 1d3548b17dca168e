//! The same over TLS: handshakes full and resumed, messages to and fro, one message to many.

use crate::back_ends;
use crate::stage::Server;
use crate::tool::{self, Found, found};

/// The first client of each run, which asks whether the server answers at all.
const KNOCK: u64 = 1;

/// `version`, and so many handshakes of each kind among those who connected.
#[track_caller]
fn shook(found: &Found, part: &str, version: &str, full: u64, resumed: u64) {
    let of = |name: &str| format!("/{part}/tls/{name}");
    assert_eq!(found.words(&of("version")), version);
    assert_eq!((found.whole(&of("full")), found.whole(&of("resumed"))), (full, resumed));
    let kind = if full > 0 { "full" } else { "resumed" };
    assert!(found.figure(&of(&format!("{kind}_per_server_cpu_second"))) > 10.0);
}

/// `due` messages went out and came back as they were.
#[track_caller]
fn all_back(found: &Found, due: u64) {
    let of = |name: &str| found.whole(&format!("/load/0/{name}"));
    assert_eq!((of("sent"), of("missing"), of("changed"), of("latency/count")), (due, 0, 0, due));
}

#[test]
fn echo_over_tls() {
    let _alone = crate::alone();
    let server = Server::start();
    let (url, pid, ca) = (server.wss("/echo"), server.pid(), server.ca());
    let flags = ["--url", &url, "--server-pid", &pid, "--ca", &ca, "--connections", "50", "--warm-up", "0s"];
    for (version, size) in [("1.3", "64"), ("1.2", "64"), ("1.3", "40KiB")] {
        let before = server.counts("echo");
        let more = ["--tls-version", version, "--size", size, "--rate", "500", "--duration", "1s"];
        let found = found("echo", &[&flags[..], &more[..]].concat());
        let counts = server.counts("echo").since(before);
        all_back(&found, 500);
        shook(&found, "connect", &format!("TLS {version}"), 50, 0);
        assert_eq!((counts.accepts, counts.heard, counts.said), (50 + KNOCK, 500, 500));
    }
}

/// Clients offer the suites of one cipher, and so the server has no choice.
#[test]
fn one_cipher_only() {
    let _alone = crate::alone();
    let server = Server::start();
    let url = server.wss("/echo");
    let suite = |version: &str, cipher: &str| {
        let flags = ["--url", &url, "--insecure", "--connections", "5", "--rate", "50", "--duration", "100ms"];
        let found = found("echo", &[&flags[..], &["--tls-version", version, "--tls-cipher", cipher]].concat());
        found.words("/connect/tls/cipher_suite").to_owned()
    };
    assert_eq!(suite("1.3", "aes-128"), "TLS13_AES_128_GCM_SHA256");
    assert_eq!(suite("1.3", "aes-256"), "TLS13_AES_256_GCM_SHA384");
    assert_eq!(suite("1.3", "chacha20"), "TLS13_CHACHA20_POLY1305_SHA256");
    assert_eq!(suite("1.2", "aes-256"), "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
}

/// The clients of a crowd resume the session of the first; and those who were cut, again.
#[test]
fn a_crowd_resumes() {
    let _alone = crate::alone();
    let server = Server::start();
    let (url, pid, ca) = (server.wss("/echo"), server.pid(), server.ca());
    let flags = ["--url", &url, "--server-pid", &pid, "--ca", &ca, "--connections", "200", "--hold", "100ms"];
    for version in ["1.3", "1.2"] {
        let found = found("storm", &[&flags[..], &["--resume", "--tls-version", version]].concat());
        ["connect", "storm"].iter().for_each(|part| shook(&found, part, &format!("TLS {version}"), 0, 200));
        assert_eq!((found.whole("/storm/back"), found.fields("/storm/failed")), (200, 0));
    }
}

/// Subscribers and the publisher, all over TLS.
#[test]
fn fanout_over_tls() {
    let _alone = crate::alone();
    let server = Server::before(back_ends::echo());
    let (url, pid) = (server.wss("/feed/bench"), server.pid());
    let publish = format!("{}/v1/publish/bench", server.admin());
    let flags = ["--url", &url, "--publish", &publish, "--server-pid", &pid, "--insecure", "--connections", "200"];
    let found = found("fanout", &[&flags[..], &["--rate", "50", "--duration", "2s"]].concat());
    let of = |name: &str| found.whole(&format!("/fanout/{name}"));
    assert_eq!((of("published"), of("subscribers")), (100, 200));
    assert_eq!((of("delivered"), of("missing"), of("doubled")), (100 * 200, 0, 0));
    shook(&found, "connect", "TLS 1.3", 200, 0);
}

/// A certificate of nobody that was named, and a server that speaks no TLS.
#[test]
fn handshakes_that_fail() {
    let _alone = crate::alone();
    let (server, other) = (Server::start(), Server::start());
    let refused = |url: &str, ca: &str, word: &str| {
        let ran = tool::run("echo", &["--url", url, "--ca", ca, "--connections", "5", "--duration", "1s"]);
        let said = ran.complaints().concat();
        assert!(ran.code == Some(2) && said.contains(word), "{:?} {said}", ran.code);
    };
    refused(&server.wss("/echo"), &other.ca(), "invalid peer certificate");
    refused(&server.ws("/echo").replace("ws:", "wss:"), &server.ca(), "TLS");
    refused(&server.wss("/echo"), "/nowhere/ca.pem", "--ca /nowhere/ca.pem");
}

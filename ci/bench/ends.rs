//! Runs that end before their time: what was measured until then is printed and written.

use crate::back_ends;
use crate::peer::{patience, wait_for};
use crate::stage::Server;
use crate::tool::{self, Ran, Tool};

/// Longer than any of these runs may last.
const LONG: &str = "30s";

/// Starts an echo of 50 clients, and waits until the server has heard some of it.
fn under_way(server: &Server, more: &[&str]) -> Tool {
    let url = server.ws("/echo");
    let flags = ["--url", &url, "--connections", "50", "--duration", LONG, "--warm-up", "0s"];
    let tool = tool::start("echo", &[&flags[..], more].concat());
    wait_for("messages go to and fro", patience(20), || server.counts("echo").said >= 500);
    tool
}

/// What was measured is there: 50 came to stand, and some hundred messages came back.
#[track_caller]
fn measured(ran: &Ran) {
    let found = ran.json.as_ref().unwrap_or_else(|| panic!("no JSON: {}{}", ran.out, ran.err));
    assert_eq!(found.whole("/connect/connected"), 50);
    assert!(found.whole("/load/0/received") >= 400, "{}", ran.out);
    assert!(ran.out.contains("echo") && ran.out.contains("latency"), "{}", ran.out);
}

#[test]
fn interrupted() {
    let _alone = crate::alone();
    let server = Server::start();
    let before = server.counts("echo");
    let tool = under_way(&server, &["--rate", "2000"]);
    tool.interrupt();
    let ran = tool.wait();
    let counts = server.counts("echo").since(before);

    measured(&ran);
    let found = ran.json.as_ref().expect("measured");
    assert_eq!((ran.code, found.is_interrupted()), (Some(0), true), "{}", ran.err);
    assert!(ran.out.contains("interrupted"), "{}", ran.out);
    assert!(found.figure("/load/0/seconds") < 25.0, "it went on after Ctrl-C");
    assert_eq!(found.whole("/load/0/sent"), counts.heard);
}

/// Before the first client has come.
#[test]
fn interrupted_while_calibrating() {
    let _alone = crate::alone();
    let server = Server::start();
    let (url, before) = (server.ws("/echo"), server.counts("echo").accepts);
    let tool = tool::start("idle", &["--url", &url, "--connections", "2000"]);
    wait_for("the tool has knocked", patience(20), || server.counts("echo").accepts > before);
    tool.interrupt();
    let ran = tool.wait();

    assert_eq!((ran.code, ran.complaints().len()), (Some(0), 0), "{}{}", ran.out, ran.err);
    assert!(!ran.out.contains("NaN"), "{}", ran.out);
}

/// While clients come: those who have come are counted, and so are those who have not.
#[test]
fn interrupted_while_connecting() {
    let _alone = crate::alone();
    let server = Server::start();
    let url = server.ws("/echo");
    let tool = tool::start("idle", &["--url", &url, "--connections", "3000", "--rate", "200"]);
    wait_for("some stand", patience(20), || server.echoing() >= 50);
    tool.interrupt();
    let ran = tool.wait();

    assert_eq!((ran.code, ran.complaints().len()), (Some(0), 0), "{}{}", ran.out, ran.err);
    let found = ran.json.as_ref().expect("what was measured");
    let [asked, connected] = ["asked", "connected"].map(|it| found.whole(&format!("/connect/{it}")));
    assert!(found.is_interrupted() && (50..1000).contains(&connected), "{connected} came to stand");
    // One may have been on its way.
    let not_begun = found.whole("/connect/failed/not begun");
    assert_eq!((asked, found.sum("/connect/failed")), (1000, 1000 - connected));
    assert!(not_begun + 10 >= 1000 - connected, "{not_begun} were not begun");
}

/// More than the server has slots for: each that was refused is counted, with its cause.
#[test]
fn more_than_fit() {
    let _alone = crate::alone();
    let server = Server::small(40);
    let (url, before) = (server.ws("/echo"), server.counts("echo"));
    let ran = tool::run("echo", &["--url", &url, "--connections", "100", "--duration", "1s"]);
    let counts = server.counts("echo").since(before);

    assert_eq!((ran.code, ran.complaints().len()), (Some(1), 1), "{}{}", ran.out, ran.err);
    let found = ran.json.as_ref().expect("what was measured");
    let [asked, connected] = ["asked", "connected"].map(|it| found.whole(&format!("/connect/{it}")));
    assert_eq!((asked, connected + counts.refused), (100, 100));
    assert_eq!(found.whole("/connect/failed/answered 503"), counts.refused);
}

#[test]
fn killed() {
    let _alone = crate::alone();
    let mut server = Server::start();
    let tool = under_way(&server, &["--rate", "2000"]);
    server.kill();
    let ran = tool.wait();

    measured(&ran);
    let found = ran.json.as_ref().expect("measured");
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    assert_eq!((ran.complaints().len(), found.is_interrupted()), (1, false), "{}", ran.err);
    assert!(found.figure("/load/0/seconds") < 25.0, "it went on without a server");
}

/// Killed while all are held idle.
#[test]
fn killed_while_idle() {
    let _alone = crate::alone();
    let mut server = Server::start();
    let url = server.ws("/echo");
    let flags = ["--url", &url, "--connections", "300", "--hold", LONG, "--settle", "0s", "--counts", "1"];
    let tool = tool::start("idle", &flags);
    wait_for("all stand", patience(20), || server.echoing() == 300);
    server.kill();
    let ran = tool.wait();

    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    assert_eq!(ran.complaints().len(), 1, "{}", ran.err);
    let found = ran.json.as_ref().expect("what was measured");
    assert_eq!(found.whole("/connect/asked"), 300);
}

/// Half of the clients are let go while they talk: the others' figures are there, and the loss is said.
#[test]
fn half_are_lost() {
    let _alone = crate::alone();
    let url = format!("tcp://{}", back_ends::fickle());
    let flags = ["--url", &url, "--connections", "50", "--rate", "1000", "--duration", "1s", "--warm-up", "0s"];
    let ran = tool::run("echo", &flags);

    measured(&ran);
    let lines = ran.complaints();
    assert_eq!((ran.code, lines.len()), (Some(1), 1), "{}{}", ran.out, ran.err);
    assert!(lines[0].contains("25 clients were lost"), "{lines:?}");
}

//! A log that nobody reads: the server goes on, counts what is lost, says so, and ends when it is told to.

use std::io::{BufRead, BufReader, PipeReader};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use crate::by_hand::Caller;
use crate::peer::{Server, patience, wait_for};

const CONFIG: &str = r#"
[server]
shards = 1
slots_per_shard = 200
admin = "{admin}"
log = "debug"
log_queue = "4KiB"
shutdown_grace = "1s"
[[listener]]
name = "public"
address = "{address}"
[[route]]
path = "/echo"
service = "echo"
"#;

/// The lines of this many clients fill the pipe and the queue several times.
const CLIENTS: usize = 3000;

#[test]
fn a_log_that_nobody_reads_stops_nobody() {
    let _together = crate::together();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let unread = |command: &mut Command| {
        command.stderr(OwnedFd::from(writer));
    };
    let mut server = Server::start_with(CONFIG, unread, |_| {});
    for _ in 0..CLIENTS {
        Caller::new(server.address).say_and_end(b"");
    }
    let dropped = || server.metrics().sum("edgehold_log_dropped_total", &[]);
    wait_for("lines are dropped", patience(20), || dropped() > 0);
    let mut echo = Caller::new(server.address).open("/echo");
    echo.say(&crate::crowd::frame(crate::crowd::BINARY, b"hello", 1));
    assert_eq!(echo.frame().1, b"hello");
    let (tell, told) = mpsc::channel();
    thread::spawn(move || read_until_told(reader, &tell));
    told.recv_timeout(patience(20)).expect("the log says what it has lost");
    server.terminate();
    assert_eq!(server.wait_end(patience(20)).code(), Some(0));
}

/// Reads the log, and goes on reading, so that the pipe stays open.
fn read_until_told(reader: PipeReader, tell: &mpsc::Sender<()>) {
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        if line.contains("log lines were dropped") {
            let _ = tell.send(());
        }
    }
}

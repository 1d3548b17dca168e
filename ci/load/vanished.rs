//! A network that vanishes, without a FIN or a reset: streams on which nothing is said end soon after `idle_timeout`.
//!
//! Server and clients are in a network of their own (a namespace), whose loopback is then switched off. Without root
//! that needs user namespaces.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::peer::{binary, log_of, patience, serve_command, wait_for};

/// Quiet: keep-alive comments would come later than the test ends.
const CONFIG: &str = r#"
[server]
shards = 1
slots_per_shard = 100
log = "debug"
admin = "127.0.0.1:9180"
[[listener]]
name = "public"
address = "127.0.0.1:8080"
[[feed]]
name = "quiet"
source = "http"
channel = "quiet"
[[route]]
path = "/quiet"
service = "broadcast"
feeds = "quiet"
idle_timeout = "2s"
keep_alive = "5m"
"#;

/// What each client asks for.
const STREAMS: [&str; 3] = ["text/event-stream", "*/*", "application/octet-stream"];

/// A process in the other network; it ends with the test.
struct Inmate(Child);

impl Drop for Inmate {
    fn drop(&mut self) {
        // Both fail only for a child that has ended, which is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_quiet_stream_whose_network_vanishes_ends_after_idle_timeout() {
    let _together = crate::together();
    let folder = tempfile::tempdir().expect("a folder");
    let server = serve(folder.path());
    let _clients = STREAMS.map(|stream| listen(&server, folder.path(), stream));
    let ended = || log_of(folder.path()).matches("connection ended").count();
    assert_eq!(ended(), 0, "{}", log_of(folder.path()));
    let off = inside(&server, "ip").args(["link", "set", "lo", "down"]).status();
    assert!(off.expect("nsenter").success());
    // Two seconds, a quarter more, and a second between two probes; the kernel alone would take a quarter of an hour.
    wait_for("all streams have ended", patience(10), || ended() == STREAMS.len());
}

/// Its process is the server, since neither program forks.
fn serve(folder: &Path) -> Inmate {
    let server = serve_command(folder, CONFIG);
    let mut command = Command::new("unshare");
    command.arg(if is_root() { "-n" } else { "-rn" }).args(["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    command.arg(binary()).args(server.get_args()).stdin(Stdio::null());
    let log = fs::File::options().append(true).open(folder.join("log")).expect("the log");
    command.stdout(log.try_clone().expect("the same file")).stderr(log);
    let mut inmate = Inmate(command.spawn().expect("unshare"));
    wait_for("it serves", patience(20), || {
        assert_eq!(inmate.0.try_wait().expect("our own child"), None, "{}", log_of(folder));
        log_of(folder).contains("INFO serving")
    });
    inmate
}

/// A client that has its response, up to the head.
fn listen(server: &Inmate, folder: &Path, stream: &str) -> Inmate {
    let head = folder.join(stream.replace(['/', '*'], "-"));
    let mut command = inside(server, "curl");
    command.args(["-sN", "-o", "/dev/null", "-D"]).arg(&head).arg("-H").arg(format!("Accept: {stream}"));
    let client = command.arg("http://127.0.0.1:8080/quiet?channel=quiet").stdin(Stdio::null()).spawn();
    wait_for("a stream", patience(10), || fs::read_to_string(&head).is_ok_and(|it| it.starts_with("HTTP/1.1 200")));
    Inmate(client.expect("nsenter"))
}

/// A program in the server's network.
fn inside(server: &Inmate, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg("-t").arg(server.0.id().to_string()).arg("-n");
    if !is_root() {
        command.args(["-U", "--preserve-credentials"]);
    }
    command.arg(program);
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

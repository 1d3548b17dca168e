//! Addresses that are taken, or cannot be had: doctor says it before, the server says it in the same words and ends;
//! and what an old server leaves to a new one.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};

use crate::by_hand::Caller;
use crate::peer::{Server, binary, free_port, log_of, patience, serve_command, wait_for};

const CONFIG: &str = r#"
[server]
shards = 2
slots_per_shard = 100
admin = "off"
[[listener]]
name = "public"
address = "{address}"
{more}
[[route]]
path = "/echo"
service = "echo"
"#;

fn config(address: &str, more: &str) -> String {
    CONFIG.replace("{address}", address).replace("{more}", more)
}

/// What doctor says: its exit code and its words.
fn doctor(folder: &Path, config: &str) -> (Option<i32>, String) {
    let file = folder.join("doctor.toml");
    fs::write(&file, config).expect("a configuration file");
    let said = Command::new(binary()).arg("doctor").arg("--config").arg(file).output().expect("the server binary");
    (said.status.code(), String::from_utf8_lossy(&said.stdout).into_owned())
}

/// A server that is not asked through its admin address. Dropping it kills it.
struct Plain(Child);

impl Plain {
    fn start(folder: &Path, config: &str) -> Plain {
        Plain(serve_command(folder, config).spawn().expect("the server binary"))
    }

    fn serving(folder: &Path, config: &str) -> Plain {
        let mut plain = Plain::start(folder, config);
        wait_for("it serves", patience(20), || {
            assert_eq!(plain.0.try_wait().expect("our own child"), None, "{}", log_of(folder));
            log_of(folder).contains("INFO serving")
        });
        plain
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("our own child takes a signal");
    }

    fn code(&mut self, limit: u64) -> Option<i32> {
        let mut status = None;
        wait_for("it has ended", patience(limit), || {
            status = self.0.try_wait().expect("our own child");
            status.is_some()
        });
        status.expect("the condition held").code()
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // Both fail only for a child that has ended, which is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn doctor_and_server_say_the_same_of_an_address_that_cannot_be_had() {
    let _together = crate::together();
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| format!("unix:{}", folder.path().join(name).display());
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let _living = UnixListener::bind(folder.path().join("living")).expect("a socket");
    fs::write(folder.path().join("plain"), "").expect("a file");
    let cases = [
        (taken.local_addr().expect("its address").to_string(), "another process listens there"),
        // TEST-NET-1 (RFC 5737) is nobody's.
        ("192.0.2.1:8080".into(), "no interface of this machine has this address"),
        (path("living"), "another process listens there"),
        (path("plain"), "there is a file that is no socket"),
        (path("nowhere/socket"), "there is no folder"),
    ];
    for (address, words) in cases {
        let config = config(&address, "");
        let (code, said) = doctor(folder.path(), &config);
        assert!(code == Some(1) && said.contains("FAILS   listener public") && said.contains(words), "{code:?} {said}");
        let mut server = Plain::start(folder.path(), &config);
        let (code, said) = (server.code(10), log_of(folder.path()));
        assert!(code == Some(1) && said.contains(words), "{address}: {code:?} {said}");
    }
}

/// Doctor leaves no trace, and finds nothing wrong with what is free.
#[test]
fn doctor_lets_a_free_address_be() {
    let _together = crate::together();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    for address in [format!("127.0.0.1:{}", free_port()), format!("unix:{}", path.display())] {
        let (_, said) = doctor(folder.path(), &config(&address, ""));
        assert!(said.contains("ok      listener public"), "{said}");
    }
    assert!(!path.exists());
    drop(UnixListener::bind(&path).expect("a socket"));
    let (_, said) = doctor(folder.path(), &config(&format!("unix:{}", path.display()), ""));
    assert!(said.contains("ok      listener public") && path.exists(), "{said}");
}

#[test]
fn a_second_server_on_one_address_has_to_ask_and_be_asked() {
    let _together = crate::together();
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let address = format!("127.0.0.1:{}", free_port());
    let (alone, shared) = (config(&address, ""), config(&address, "reuse_port = true"));
    let first = Plain::serving(folders[0].path(), &alone);
    let mut second = Plain::start(folders[1].path(), &alone);
    assert_eq!(second.code(10), Some(1), "it has taken a part of the first one's clients");
    drop(first);
    let mut first = Plain::serving(folders[0].path(), &shared);
    let _second = Plain::serving(folders[1].path(), &shared);
    first.signal(Signal::TERM);
    assert_eq!(first.code(20), Some(0));
    for _ in 0..20 {
        Caller::new(address.parse().expect("an address")).open("/echo");
    }
}

#[test]
fn an_old_server_leaves_the_new_ones_socket_alone() {
    let _together = crate::together();
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let path = folders[0].path().join("socket");
    let config = config(&format!("unix:{}", path.display()), "mode = \"0660\"");
    let mut old = Plain::serving(folders[0].path(), &config);
    assert_eq!(fs::metadata(&path).expect("a socket").permissions().mode() & 0o777, 0o660);
    fs::remove_file(&path).expect("our own folder");
    let mut new = Plain::serving(folders[1].path(), &config);
    old.signal(Signal::TERM);
    assert_eq!(old.code(20), Some(0));
    assert!(path.exists(), "the old server took the new one's file away");
    new.signal(Signal::TERM);
    assert_eq!(new.code(20), Some(0));
    assert!(!path.exists(), "its own it takes away");
}

/// As a supervisor does that does not wait: the kernel may still be at work at the dead one's rings.
#[test]
fn a_server_starts_where_one_was_just_killed() {
    let _alone = crate::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    for address in [format!("unix:{}", path.display()), format!("127.0.0.1:{}", free_port())] {
        let config = config(&address, "");
        for _ in 0..5 {
            let mut killed = Plain::serving(folder.path(), &config);
            killed.signal(Signal::KILL);
            let _next = Plain::serving(folder.path(), &config);
            killed.code(10);
        }
    }
}

/// Started again on its own port, which clients of before still hold in TIME_WAIT or FIN_WAIT.
#[test]
fn connections_of_before_are_not_in_the_way() {
    let _together = crate::together();
    let server = Server::start(&CONFIG.replace("\"off\"", "\"{admin}\"").replace("{more}", ""));
    let address = server.address;
    let _clients: Vec<Caller> = (0..10).map(|_| Caller::new(address).open("/echo")).collect();
    drop(server);
    let folder = tempfile::tempdir().expect("a folder");
    let _next = Plain::serving(folder.path(), &config(&address.to_string(), ""));
}

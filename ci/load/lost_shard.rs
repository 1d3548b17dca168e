//! A shard is lost in the midst of work: the others bid farewell, and the process ends with 1, soon, and says why.
//!
//! The fault comes from outside. A seccomp filter hands every io_uring_enter(2) of the server to this test (user
//! notification, seccomp_unotify(2)), which lets all of them pass until it is armed; then the next one of one shard's
//! thread fails with EBADF.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::crowd::{Crowd, Habit, Invitation, Stage};
use crate::peer::{Server, patience};
use crate::refusal::{check, load_number, set_filter, step};

const CONFIG: &str = r#"
[server]
shards = 2
slots_per_shard = 300
admin = "{admin}"
shutdown_grace = "60s"
[[listener]]
name = "public"
address = "{address}"
[[route]]
path = "/echo"
service = "echo"
"#;

/// Where the filter's descriptor lies in the server, whose own begin at 3.
const FILTER: RawFd = 900;

/// Clients of both shards; those of the living one are told 1001.
const GUESTS: usize = 100;

#[test]
fn a_lost_shard_ends_the_server() {
    let _alone = crate::alone();
    let (mut server, fault) = start();
    let mut crowd = guests(&server);
    fault.arm();
    crowd.until("all have ended", patience(10), |crowd| crowd.count(Stage::Ended) == GUESTS);
    let status = server.wait_end(patience(5));
    assert_eq!(status.code(), Some(1), "{}", server.log());
    let told = crowd.clients().iter().filter(|client| client.close_code == Some(1001)).count();
    assert!((1..GUESTS).contains(&told), "{told} of {GUESTS} were told: one shard's clients, not the other's");
    let log = server.log();
    assert!(log.contains("a shard has ended by itself") && log.contains("Bad file descriptor"), "{log}");
}

/// Whoever does not answer the farewell holds the end for two seconds; a signal does not even wait for that.
#[test]
fn a_signal_ends_what_a_lost_shard_has_left() {
    let _alone = crate::alone();
    let (mut server, fault) = start();
    let mut crowd = Crowd::new();
    crowd.join(GUESTS, &Invitation { address: server.address, path: "/echo", habit: Habit::Mute }, patience(20));
    fault.arm();
    crowd.until("the living shard says farewell", patience(10), |crowd| {
        crowd.clients().iter().any(|client| client.close_code == Some(1001))
    });
    server.terminate();
    assert_eq!(server.wait_end(patience(5)).code(), Some(1), "{}", server.log());
}

fn guests(server: &Server) -> Crowd {
    let mut crowd = Crowd::new();
    crowd.join(GUESTS, &Invitation { address: server.address, path: "/echo", habit: Habit::Polite }, patience(20));
    assert_eq!(crowd.count(Stage::Open), GUESTS);
    crowd
}

fn start() -> (Server, Fault) {
    let mut fault = None;
    let server = Server::start_with(CONFIG, filtered, |child| fault = Some(Fault::of(child)));
    (server, fault.expect("the server has started"))
}

// ---- in the server, before it begins ----

fn filtered(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes system calls and touches no memory but its own stack: it takes
    // no lock and allocates nothing.
    unsafe { command.pre_exec(install_filter) };
}

fn install_filter() -> io::Result<()> {
    let mut program = [
        load_number(),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, libc::SYS_io_uring_enter as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_USER_NOTIF),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let listener = set_filter(&mut program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    // SAFETY: a plain duplicate, which outlives exec where the first one is closed by it.
    check(unsafe { libc::dup2(listener, FILTER) }).map(drop)
}

// ---- the one who decides ----

/// Decides about every io_uring_enter of the server.
struct Fault {
    armed: Arc<AtomicBool>,
}

impl Fault {
    fn of(child: u32) -> Fault {
        let armed = Arc::new(AtomicBool::new(false));
        let (listener, switch) = (filter_of(child), armed.clone());
        // It ends with the server, when there is nobody left whom the filter holds up.
        thread::spawn(move || while decide(&listener, child, &switch).is_ok() || !is_over(&listener) {});
        Fault { armed }
    }

    fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
    }
}

/// The filter's descriptor, fetched out of the server as soon as it is there.
fn filter_of(child: u32) -> OwnedFd {
    // SAFETY: a plain call; the number that it answers with is ours alone.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, child, 0) } as RawFd;
    assert!(process >= 0, "pidfd_open: {}", io::Error::last_os_error());
    // SAFETY: as above.
    let process = unsafe { OwnedFd::from_raw_fd(process) };
    let mut found = -1;
    crate::peer::wait_for("the server has its filter", patience(10), || {
        // SAFETY: a plain call; the number that it answers with is ours alone.
        found = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), FILTER, 0) } as RawFd;
        found >= 0
    });
    // SAFETY: as above.
    unsafe { OwnedFd::from_raw_fd(found) }
}

/// Waits for one call and lets it pass; or, once armed, lets one of shard 1 fail.
fn decide(listener: &OwnedFd, child: u32, armed: &AtomicBool) -> io::Result<()> {
    // SAFETY: plain numbers, for which zero is valid; the kernel insists on zeros.
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one seccomp_notif.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) })?;
    let is_victim =
        || fs::read_to_string(format!("/proc/{child}/task/{}/comm", call.pid)).is_ok_and(|it| is_shard_1(&it));
    let fails = armed.load(Ordering::Relaxed) && is_victim() && armed.swap(false, Ordering::Relaxed);
    let (error, flags) = if fails { (-libc::EBADF, 0) } else { (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32) };
    let mut answer = libc::seccomp_notif_resp { id: call.id, val: 0, error, flags };
    // SAFETY: the kernel reads one seccomp_notif_resp. A thread that is gone needs no answer (ENOENT).
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
    Ok(())
}

/// Nobody is left who has the filter. That a call was not there any more when it was asked for says nothing: one that
/// is interrupted by work of its thread's own rings is made again (ENOENT, seccomp_unotify(2)), and is let pass then.
fn is_over(listener: &OwnedFd) -> bool {
    let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the kernel reads and writes one pollfd.
    unsafe { libc::poll(&raw mut poll, 1, 0) };
    poll.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
}

fn is_shard_1(name: &str) -> bool {
    name.starts_with("shard-1-")
}

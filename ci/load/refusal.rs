//! Where the kernel offers no io_uring the server must not start, and must say what is in the way.
//!
//! Here: a seccomp profile as containers have it, which answers io_uring_setup(2) with EPERM. The other reason,
//! `kernel.io_uring_disabled`, is a setting of the whole machine: `ci/kernels/run` tries it inside its own.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::peer::{free_port, log_of, patience, serve_command, wait_for};

const CONFIG: &str = r#"
[server]
shards = 1
slots_per_shard = 100
admin = "off"
[[listener]]
name = "public"
address = "127.0.0.1:{port}"
[[route]]
path = "/echo"
service = "echo"
"#;

#[test]
fn refused_by_seccomp() {
    let _alone = crate::alone();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = CONFIG.replace("{port}", &free_port().to_string());
    let mut command = serve_command(folder.path(), &config);
    forbid_io_uring(&mut command);
    let mut child = command.spawn().expect("the server binary");
    let mut status = None;
    let limit = patience(10);
    wait_for("the server has given up", limit, || {
        status = child.try_wait().expect("our own child");
        status.is_some()
    });
    let words = log_of(folder.path());
    assert_eq!(status.and_then(|s| s.code()), Some(1), "{words}");
    assert!(words.contains("seccomp"), "no word of seccomp: {words}");
    assert!(!words.contains("panicked"), "{words}");
}

/// Gives the child a seccomp filter: io_uring_setup fails with EPERM, all else is allowed.
fn forbid_io_uring(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes two system calls and touches no memory but its own
    // stack: it takes no lock and allocates nothing.
    unsafe { command.pre_exec(install_filter) };
}

fn install_filter() -> io::Result<()> {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut program = [
        step(LOAD_NUMBER, 0, 0),
        step(IF_EQUAL, 1, libc::SYS_io_uring_setup as u32),
        step(ANSWER, 0, refuse),
        step(ANSWER, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: plain integers; it changes nothing but this process, which is about to exec.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: `filter` and the program it points to live until the call returns; the kernel copies both.
    check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) })
}

/// One instruction; where it compares, inequality skips `skip` instructions.
fn step(code: u16, skip: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: skip, k }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

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
    let mut program = [
        load_number(),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, libc::SYS_io_uring_setup as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    set_filter(&mut program, 0).map(drop)
}

/// Filters this process, which is about to exec; with SECCOMP_FILTER_FLAG_NEW_LISTENER a descriptor comes of it.
pub(crate) fn set_filter(program: &mut [libc::sock_filter], flags: libc::c_ulong) -> io::Result<libc::c_int> {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: plain integers; it changes nothing but this process, which is about to exec.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: `filter` and the program it points to live until the call returns; the kernel copies both.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &filter) } as libc::c_int)
}

/// The instruction that loads the number of the system call.
pub(crate) fn load_number() -> libc::sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)
}

/// One instruction; where it compares, inequality skips `skip` instructions.
pub(crate) fn step(code: u32, skip: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: skip, k }
}

pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

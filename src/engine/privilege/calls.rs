//! System calls that the server never makes, refused by a seccomp filter (seccomp(2)) with EPERM.
//!
//! A list of what is denied, not of what is allowed: what is allowed would be the calls of glibc, of the name service's
//! modules and of every library as they are today on one architecture, and an update of any of them would end the
//! server at some later time, on a path that no test takes. And EPERM, not a signal: a library that tries something and
//! can do without goes on. The list is for what somebody would do next who has got the server to run their code: start
//! a program, look into other processes, load something into the kernel, change mounts, users, modes and clocks. Files
//! are Landlock's matter ([`super::landlock`]). What an io_uring is asked for passes no filter: of what is denied here
//! it can change extended attributes, and make sockets of other families.
//!
//! Of calls that the filter allows whatever their arguments the kernel keeps a map (from Linux 5.11 on), and does not
//! run it for them.

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, apply_filter_all_threads, sock_filter,
};
use std::collections::BTreeMap;
use std::fmt::Display;

/// The numbers of calls by their names.
macro_rules! calls {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name)),*] };
}

/// Calls that are denied whatever their arguments, on all architectures.
const DENIED: &[(&str, c_long)] = calls! {
    // Programs.
    SYS_execve SYS_execveat
    // Other processes.
    SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_process_madvise SYS_pidfd_getfd SYS_kcmp SYS_setns
    SYS_unshare SYS_move_pages SYS_migrate_pages
    // Mounts and roots.
    SYS_mount SYS_umount2 SYS_pivot_root SYS_chroot SYS_open_tree SYS_move_mount SYS_fsopen SYS_fsconfig SYS_fsmount
    SYS_fspick SYS_mount_setattr SYS_open_by_handle_at SYS_quotactl SYS_quotactl_fd SYS_swapon SYS_swapoff
    // The kernel.
    SYS_bpf SYS_perf_event_open SYS_userfaultfd SYS_init_module SYS_finit_module SYS_delete_module SYS_kexec_load
    SYS_keyctl SYS_add_key SYS_request_key SYS_fanotify_init SYS_syslog SYS_reboot SYS_acct SYS_personality
    SYS_vhangup
    // Clocks and names.
    SYS_settimeofday SYS_clock_settime SYS_clock_adjtime SYS_adjtimex SYS_sethostname SYS_setdomainname
    // Users, owners, modes and attributes.
    SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setfsuid SYS_setfsgid
    SYS_setgroups SYS_capset SYS_fchmod SYS_fchmodat SYS_fchmodat2 SYS_fchown SYS_fchownat SYS_mknodat SYS_utimensat
    SYS_setxattr SYS_lsetxattr SYS_fsetxattr SYS_removexattr SYS_lremovexattr SYS_fremovexattr
};

/// Those that x86-64 has beside them.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[(&str, c_long)] = calls! {
    SYS_fork SYS_vfork SYS_kexec_file_load SYS_iopl SYS_ioperm SYS_modify_ldt SYS_uselib SYS_chmod SYS_chown SYS_lchown
    SYS_mknod SYS_utime SYS_utimes SYS_futimesat
};
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[(&str, c_long)] = &[];

/// Families of sockets that may be made. getaddrinfo(3) asks netlink for the addresses of this machine.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// From this number on calls are those of x32, the second table of x86-64 (`__X32_SYSCALL_BIT`), in which all that is
/// denied could be had by other numbers. Other architectures have no such numbers.
const X32: u32 = 0x4000_0000;

/// Filters all threads of the process, for good, and sets no_new_privs for all of them.
///
/// # Errors
/// The kernel has no such filter, or there is none for this architecture, in words.
pub fn deny() -> Result<(), String> {
    apply_filter_all_threads(&program()?).map_err(words)
}

/// The same for the calling thread alone, and those that it starts afterwards.
///
/// # Errors
/// As [`deny`].
pub fn deny_on_thread() -> Result<(), String> {
    apply_filter(&program()?).map_err(words)
}

fn words(error: impl Display) -> String {
    format!("seccomp: {error}")
}

/// # Errors
/// There is no filter for this architecture, in words.
fn program() -> Result<BpfProgram, String> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(words)?;
    let denied = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules()?, SeccompAction::Allow, denied, architecture).map_err(words)?;
    let rest = BpfProgram::try_from(filter).map_err(words)?;
    // Jumps are relative: what stands in front moves nothing.
    Ok(head().into_iter().chain(rest).collect())
}

/// # Errors
/// Never, as the conditions are constants.
fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, String> {
    let always = DENIED.iter().chain(DENIED_HERE).map(|(_, number)| (*number, Vec::new()));
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = always.collect();
    let thread = SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64);
    rules.insert(libc::SYS_clone, vec![rule(vec![condition(SeccompCmpArgLen::Qword, thread, 0)?])?]);
    let other =
        |family: libc::c_int| condition(SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(family.cast_unsigned()));
    let none_of_ours = FAMILIES.into_iter().map(other).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_socket, vec![rule(none_of_ours)?]);
    Ok(rules)
}

/// Of the call's first argument.
fn condition(length: SeccompCmpArgLen, operation: SeccompCmpOp, value: u64) -> Result<SeccompCondition, String> {
    SeccompCondition::new(0, length, operation, value).map_err(words)
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, String> {
    SeccompRule::new(conditions).map_err(words)
}

/// What the library has no words for: numbers of x32 are denied, and clone3(2), whose flags lie in memory where a
/// filter cannot read them, is said not to exist (ENOSYS), so that glibc makes threads by clone(2).
fn head() -> [sock_filter; 5] {
    let step = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let errno = |errno: i32| step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned());
    [
        // The number of the call stands at the beginning of `struct seccomp_data`.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
        errno(libc::EPERM),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_clone3 as u32),
        errno(libc::ENOSYS),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The errno of a call whose arguments are all zero; 0 where it succeeds.
    fn errno_of(number: c_long, first: c_long) -> i32 {
        // SAFETY: the calls that are made here are denied before the kernel looks at an argument, or are sockets whose
        // descriptors are left to the end of the process.
        let result = unsafe { libc::syscall(number, first, 0, 0, 0, 0, 0) };
        if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 }
    }

    /// Runs on a thread of its own, which alone has the filter.
    fn filtered<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(|| {
            deny_on_thread().expect("a filter");
            task()
        });
        thread.join().expect("the thread")
    }

    /// Ends at the first that is not: what comes behind it must not be tried without a filter.
    #[test]
    fn what_is_denied_is_denied() {
        let denied = || DENIED.iter().chain(DENIED_HERE).map(|(name, number)| (*name, errno_of(*number, 0)));
        assert_eq!(filtered(move || denied().find(|it| it.1 != libc::EPERM)), None);
    }

    #[test]
    fn processes_are_not_made_and_threads_are() {
        let results = filtered(|| {
            let thread = std::thread::spawn(|| 7).join().expect("a thread of a filtered one");
            let program = std::process::Command::new("/bin/true").status().map_err(|error| error.raw_os_error());
            (thread, program.is_err(), errno_of(libc::SYS_clone, libc::SIGCHLD.into()), errno_of(libc::SYS_clone3, 0))
        });
        assert_eq!(results, (7, true, libc::EPERM, libc::ENOSYS));
    }

    #[test]
    fn only_sockets_of_four_families_are_made() {
        let socket = |family: libc::c_int| {
            filtered(move || socket2::Socket::new(family.into(), socket2::Type::DGRAM, None).map(drop))
                .map_err(|error| error.raw_os_error())
        };
        for family in [libc::AF_UNIX, libc::AF_INET] {
            assert_eq!(socket(family), Ok(()), "{family}");
        }
        for family in [libc::AF_PACKET, libc::AF_ALG, libc::AF_VSOCK] {
            assert_eq!(socket(family), Err(Some(libc::EPERM)), "{family}");
        }
    }

    /// 520 is execve(2) of x32; without the filter a kernel that does not have the table says ENOSYS.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_other_table_of_calls_is_closed() {
        assert_eq!(filtered(|| errno_of(c_long::from(X32) + 520, 0)), libc::EPERM);
    }
}

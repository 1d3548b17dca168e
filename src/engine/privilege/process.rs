//! no_new_privs and core dumps: what holds for the process as a whole.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use std::io;

/// No execve(2) gives the process more than it has (PR_SET_NO_NEW_PRIVS). Of the calling thread, and of those that it
/// starts afterwards; the filter of system calls ([`super::calls`]) brings it to all.
///
/// # Errors
/// As prctl(2).
pub fn forbid_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Neither a crash nor another process of the same user gets at the memory of this one: RLIMIT_CORE is 0, and the
/// process is not dumpable (PR_SET_DUMPABLE), so that ptrace(2) is refused to all but root, and /proc/PID/mem is
/// root's. What /proc/self says to the process itself is not changed by it.
///
/// # Errors
/// As prctl(2).
pub fn forbid_dumps() -> io::Result<()> {
    // A filter may refuse it (SystemCallFilter=~@resources); of what is not dumpable no core file is written either.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// The opposite: a change of the user has made the process undumpable (PR_SET_DUMPABLE in prctl(2)).
///
/// # Errors
/// As prctl(2).
pub fn allow_dumps() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?)
}

/// What is locked in memory has no limit any more (RLIMIT_MEMLOCK): the rings of root are not counted, those of the
/// user to change to would be. Only root can.
///
/// # Errors
/// As setrlimit(2).
pub fn lift_memlock() -> io::Result<()> {
    Ok(setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None })?)
}

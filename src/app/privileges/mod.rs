//! What the process may do to the machine: the user that it becomes, and the sandbox that it locks itself in, when all
//! addresses are bound and all files are read, before a shard or the control thread exists.
//!
//! | file | what |
//! |---|---|
//! | `reach` | what is needed later: files, folders, sockets, ports |
//! | `refusals` | what of that the user may not do |
//! | `rows` | what the doctor says of all of it |

mod reach;
mod refusals;
mod rows;

use super::config::{Config, Sandbox, Server};
use super::failure::Failure;
use super::log;
use crate::engine::Address;
use crate::engine::finding::Finding;
use crate::engine::privilege::account::{self, Account};
use crate::engine::privilege::landlock::{Prepared, Strength};
use crate::engine::privilege::{calls, process};
use reach::Reach;
pub use rows::{advice, rows, trial};
use std::fmt;

/// The account to change to; `None`: the process stays who it is.
///
/// # Errors
/// There is no such user or group, or the process may not change to it.
pub(super) fn account(server: &Server) -> Result<Option<Account>, Failure> {
    let Some(user) = &server.privileges.user else { return Ok(None) };
    let account = Account::find(user, server.privileges.group.as_deref());
    let account = account.map_err(|words| Failure::Privileges(vec![unknown(&words)]))?;
    match (account::is_root(), account.is_mine()) {
        (_, true) => Ok(None),
        (true, false) => Ok(Some(account)),
        (false, false) => Err(Failure::Privileges(vec![not_root(&account)])),
    }
}

/// The problem of an account that is not there.
fn unknown(words: &str) -> Finding {
    let (is, command) = words.split_once(": ").unwrap_or((words, "write another"));
    Finding::failure("server.user", is.into(), "a user of this machine".into(), command.into())
}

fn not_root(account: &Account) -> Finding {
    let is = format!("{} ({}:{}), and this process is another user", account.user, account.uid, account.gid);
    let command = "start edgehold as root, or as this user and group, or leave server.user and server.group out";
    Finding::failure("server.user", is, "the process is root, which alone may change to it".into(), command.into())
}

/// Gives up all that a configuration does not need. Call it on the thread that starts all others.
///
/// # Errors
/// The account cannot do later what it will have to, a part of the sandbox is required and cannot be had, or the kernel
/// refuses: the process must not go on.
pub(super) fn give_up(config: &Config, account: Option<&Account>) -> Result<(), Failure> {
    let needs = Reach::of(config);
    if let Some(account) = account {
        become_account(config, account)?;
        let (refused, advice) = refusals::of(&needs, account);
        advice.iter().for_each(|it| tracing::warn!("{}: {}: {}", it.what, it.is, it.command));
        if !refused.is_empty() {
            return Err(Failure::Privileges(refused));
        }
    }
    let dumps = config.server.privileges.core_dumps;
    if dumps { process::allow_dumps() } else { process::forbid_dumps() }
        .map_err(|error| kernel("core dumps", &error))?;
    process::forbid_new_privileges().map_err(|error| kernel("no_new_privs", &error))?;
    let [landlock, seccomp] = lock(config.server.privileges.sandbox, &needs)?.map(|it| it.to_string());
    let user = rustix::process::geteuid().as_raw();
    tracing::info!(user, no_new_privs = true, landlock, seccomp, core_dumps = dumps, "privileges");
    Ok(())
}

/// # Errors
/// The kernel refuses a part of it.
fn become_account(config: &Config, account: &Account) -> Result<(), Failure> {
    for listener in &config.listeners {
        if let Address::Unix(path) = &listener.address {
            account::give(path, account).map_err(|error| kernel(&format!("listener {}", listener.name), &error))?;
        }
    }
    // Root without CAP_SYS_RESOURCE may not; then the limit is what it is, and a ring that finds it too low says so.
    let _ = process::lift_memlock();
    account.take().map_err(|error| kernel("server.user", &error))
}

/// What the kernel has refused that no configuration decides.
fn kernel(what: &str, error: &dyn fmt::Display) -> Failure {
    let command =
        "start it without `user`, as that user, or see what restricts this process (seccomp, user namespaces)";
    Failure::Privileges(vec![Finding::failure(what, error.to_string(), "allowed".into(), command.into())])
}

/// How far a part of the sandbox is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// It is not wanted.
    Off,
    /// It holds; of Landlock, the version of its interface.
    Holds(Option<i32>),
    /// Why it does not.
    Missing(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Off => write!(f, "off"),
            Part::Holds(None) => write!(f, "on"),
            Part::Holds(Some(version)) => write!(f, "version {version}"),
            Part::Missing(why) => write!(f, "{why}"),
        }
    }
}

/// Locks the process in: by Landlock and by seccomp.
///
/// # Errors
/// A part is required and cannot be had.
fn lock(sandbox: Sandbox, needs: &Reach) -> Result<[Part; 2], Failure> {
    if sandbox == Sandbox::Off {
        return Ok([Part::Off, Part::Off]);
    }
    let parts = [landlock_all(needs), seccomp(calls::deny())];
    let lacking = rows::lacking(sandbox, &parts);
    if lacking.iter().any(Finding::fails) { Err(Failure::Privileges(lacking)) } else { Ok(parts) }
}

/// This thread, and all that it starts; and that of the log, which is there already.
fn landlock_all(needs: &Reach) -> Part {
    let prepared = needs.rules().prepare();
    let other = prepared.as_ref().map_err(Clone::clone).and_then(Prepared::another);
    let part = landlock(prepared);
    if let (Part::Holds(_), Ok(other)) = (&part, other) {
        log::on_its_thread(move || {
            if let Err(words) = other.restrict_thread() {
                tracing::warn!("the log's thread is not in the sandbox: {words}");
            }
        });
    }
    part
}

fn landlock(prepared: Result<Prepared, String>) -> Part {
    match prepared.and_then(Prepared::restrict_thread) {
        Ok(Strength::Version(version)) => Part::Holds(Some(version)),
        Ok(Strength::Absent) => Part::Missing("not in this kernel, or not switched on".into()),
        Err(words) => Part::Missing(words),
    }
}

fn seccomp(denied: Result<(), String>) -> Part {
    denied.map_or_else(Part::Missing, |()| Part::Holds(None))
}

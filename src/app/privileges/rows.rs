//! What the doctor says: the account, what it may not do, and the sandbox, tried on threads that end with the trial.

use super::reach::Reach;
use super::{Part, account, landlock, refusals, seccomp};
use crate::app::config::{Config, Sandbox};
use crate::app::failure::Failure;
use crate::engine::finding::{Finding, Verdict};
use crate::engine::privilege::account::{Account, is_root};
use crate::engine::privilege::calls;

/// The rows: the account first, then what it lacks, then what it is locked in by.
pub fn rows(config: &Config) -> Vec<Finding> {
    let mut rows = match account(&config.server) {
        Err(Failure::Privileges(found)) => found,
        Err(_) => Vec::new(),
        Ok(account) => of_account(config, account),
    };
    rows.extend(sandbox(config));
    rows.push(core_dumps(config.server.privileges.core_dumps));
    rows
}

/// What stands in the way of changing to the account, a line each; empty where nothing does.
pub fn advice(config: &Config) -> String {
    let Some(user) = &config.server.privileges.user else { return String::new() };
    let found = Account::find(user, config.server.privileges.group.as_deref());
    found.err().map(|words| format!("server.user: {words}\n")).unwrap_or_default()
}

/// Runs on a thread with the account that the server would have, where this process can have it; else as it is.
///
/// # Panics
/// The task panics.
pub fn trial<T: Send>(config: &Config, task: impl FnOnce() -> T + Send) -> T {
    let account = account(&config.server).ok().flatten();
    on_thread(account.as_ref(), task)
}

fn on_thread<T: Send>(account: Option<&Account>, task: impl FnOnce() -> T + Send) -> T {
    let as_account = || {
        // A thread that keeps its own account is refused less.
        let _ = account.map(Account::try_on_thread);
        task()
    };
    std::thread::scope(|scope| scope.spawn(as_account).join()).expect("a trial does not panic")
}

fn of_account(config: &Config, account: Option<Account>) -> Vec<Finding> {
    let Some(account) = account else { return vec![stays()] };
    let (refused, advice) = on_thread(Some(&account), || refusals::of(&Reach::of(config), &account));
    let is = format!("root, then {} ({}:{})", account.user, account.uid, account.gid);
    let row = Finding::new("server.user", is, "not root before the first client".into(), Verdict::Ok, String::new());
    std::iter::once(row).chain(refused).chain(advice).collect()
}

/// Of a process that stays who it is.
fn stays() -> Finding {
    let user = rustix::process::geteuid().as_raw();
    let is = if is_root() { "root, to the end".into() } else { format!("user {user}, who starts it") };
    let command = "write server.user, such as \"edgehold\", or let systemd start it as a user of its own";
    Finding::new("server.user", is, "not root".into(), Verdict::advise(!is_root()), command.into())
}

fn sandbox(config: &Config) -> Vec<Finding> {
    let sandbox = config.server.privileges.sandbox;
    let nnp = Finding::new("no_new_privs", "set at start".into(), "set".into(), Verdict::Ok, String::new());
    if sandbox == Sandbox::Off {
        let off = Finding::new(
            "server.sandbox",
            "off".into(),
            "\"auto\" or \"required\"".into(),
            Verdict::Advice,
            "write server.sandbox = \"auto\"".into(),
        );
        return vec![nnp, off];
    }
    let parts = on_thread(None, || [landlock(Reach::of(config).rules().prepare()), seccomp(calls::deny_on_thread())]);
    let held = parts.iter().zip(NAMES).filter(|(part, _)| matches!(part, Part::Holds(_))).map(|(part, name)| {
        Finding::new(name, part.to_string(), "in force at start".into(), Verdict::Ok, String::new())
    });
    std::iter::once(nnp).chain(held).chain(lacking(sandbox, &parts)).collect()
}

/// What the parts of the sandbox are called, in their order.
const NAMES: [&str; 2] = ["Landlock", "seccomp"];

/// A finding for each part that does not hold.
pub(super) fn lacking(sandbox: Sandbox, parts: &[Part; 2]) -> Vec<Finding> {
    let commands = [
        "boot with `landlock` in lsm= (Linux 5.13 on, CONFIG_SECURITY_LANDLOCK); under systemd or in a container allow \
         landlock_create_ruleset, landlock_add_rule and landlock_restrict_self",
        "run a kernel with CONFIG_SECCOMP_FILTER; under systemd or in a container allow seccomp",
    ];
    let lacking = |((part, name), command): ((&Part, &str), &str)| match part {
        Part::Missing(why) => {
            let (should, verdict) = match sandbox {
                Sandbox::Required => ("in force: server.sandbox = \"required\"", Verdict::Fails),
                Sandbox::Auto | Sandbox::Off => ("in force", Verdict::Advice),
            };
            Some(Finding::new(name, why.clone(), should.into(), verdict, command.into()))
        }
        Part::Off | Part::Holds(_) => None,
    };
    parts.iter().zip(NAMES).zip(commands).filter_map(lacking).collect()
}

fn core_dumps(allowed: bool) -> Finding {
    let is = if allowed { "may be written, with private keys in them" } else { "off, and no debugger but root's" };
    let command = "leave server.core_dumps out";
    Finding::new("core dumps", is.into(), "off".into(), Verdict::advise(!allowed), command.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_and_missing_is_why_there_is_no_server() {
        let parts = [Part::Missing("not in this kernel".into()), Part::Holds(None)];
        let verdicts = |sandbox| lacking(sandbox, &parts).iter().map(|it| it.verdict).collect::<Vec<_>>();
        assert_eq!(verdicts(Sandbox::Auto), [Verdict::Advice]);
        assert_eq!(verdicts(Sandbox::Required), [Verdict::Fails]);
        assert_eq!(lacking(Sandbox::Required, &[Part::Holds(Some(2)), Part::Holds(None)]), []);
        assert!(lacking(Sandbox::Required, &parts)[0].command.contains("lsm="));
    }
}

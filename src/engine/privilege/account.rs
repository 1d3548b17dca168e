//! The user and the group to change to (setgroups(2), setresgid(2), setresuid(2)).
//!
//! glibc makes every thread of the process change (nptl(7)); the kernel alone would change the calling one, which is
//! what [`Account::try_on_thread`] is for.

use nix::unistd::{self, Group, User};
use rustix::process::{Gid, Uid};
use std::io;

/// A user and a group of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user as it was written: a name or a number.
    pub user: String,
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl Account {
    /// Finds a user, by its name or its number, and a group (`None`: that of the user). Asks the name service (NSS).
    ///
    /// # Errors
    /// What there is not, and what to change, in words.
    pub fn find(user: &str, group: Option<&str>) -> Result<Account, String> {
        let found = find_user(user)?;
        let gid = group.map(find_group).transpose()?.or(found.1);
        let gid =
            gid.ok_or_else(|| format!("user {user} has no entry, and so no group of its own: write server.group"))?;
        Ok(Account { user: user.into(), uid: found.0, gid })
    }

    /// Whether the process has this user and this group already, and no way back to others.
    pub fn is_mine(&self) -> bool {
        let users = unistd::getresuid().map(|it| [it.real, it.effective, it.saved]);
        let groups = unistd::getresgid().map(|it| [it.real, it.effective, it.saved]);
        users.is_ok_and(|it| it.map(unistd::Uid::as_raw) == [self.uid; 3])
            && groups.is_ok_and(|it| it.map(unistd::Gid::as_raw) == [self.gid; 3])
    }

    /// Changes all threads to it, for good: no group besides, no capability, no way back. Only root can.
    ///
    /// # Errors
    /// The kernel refuses a part of it, or root could be had again afterwards: the process must not go on.
    pub fn take(&self) -> io::Result<()> {
        let (user, group) = (unistd::Uid::from_raw(self.uid), unistd::Gid::from_raw(self.gid));
        unistd::setgroups(&[])?;
        unistd::setresgid(group, group, group)?;
        unistd::setresuid(user, user, user)?;
        let back =
            unistd::seteuid(unistd::Uid::from_raw(0)).is_ok() || unistd::setegid(unistd::Gid::from_raw(0)).is_ok();
        let back = back && self.uid != 0 || has_capabilities();
        if back || !self.is_mine() { Err(io::Error::other("root can be had again")) } else { Ok(()) }
    }

    /// Changes the calling thread alone, to try what this account may do. The thread must do nothing else.
    ///
    /// # Errors
    /// As [`Account::take`], but for the way back, which is not looked at.
    pub fn try_on_thread(&self) -> io::Result<()> {
        let (user, group) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(group, group, group)?;
        Ok(rustix::thread::set_thread_res_uid(user, user, user)?)
    }
}

/// Whether this process is root, as far as files and users go.
pub fn is_root() -> bool {
    unistd::geteuid().is_root()
}

/// Makes a file the account's: the file of a socket that root has bound.
///
/// # Errors
/// As lchown(2).
pub fn give(file: &std::path::Path, account: &Account) -> io::Result<()> {
    std::os::unix::fs::lchown(file, Some(account.uid), Some(account.gid))
}

/// Whether the process keeps capabilities in spite of its user (capabilities(7), SECBIT_NO_SETUID_FIXUP).
fn has_capabilities() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|it| !it.permitted.is_empty() || !it.effective.is_empty())
}

/// The number of a user, and that of its group, where it has an entry.
///
/// # Errors
/// There is no such user, in words.
fn find_user(user: &str) -> Result<(u32, Option<u32>), String> {
    let number: Option<u32> = user.parse().ok();
    let entry = match number {
        Some(number) => User::from_uid(unistd::Uid::from_raw(number)),
        None => User::from_name(user),
    };
    let entry = entry.map_err(|error| format!("user {user} cannot be looked up: {error}"))?;
    let found = entry.map(|it| (it.uid.as_raw(), Some(it.gid.as_raw()))).or(number.map(|number| (number, None)));
    found.ok_or_else(|| format!("there is no user {user} on this machine: useradd --system {user}"))
}

/// # Errors
/// There is no such group, in words.
fn find_group(group: &str) -> Result<u32, String> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let entry = Group::from_name(group).map_err(|error| format!("group {group} cannot be looked up: {error}"))?;
    let found = entry.map(|it| it.gid.as_raw());
    found.ok_or_else(|| format!("there is no group {group} on this machine: groupadd --system {group}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let root = Account::find("root", None).expect("root");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(Account::find("0", None).map(|it| (it.uid, it.gid)), Ok((0, 0)));
        assert_eq!(Account::find("4000000000", Some("7")).map(|it| (it.uid, it.gid)), Ok((4_000_000_000, 7)));
        assert!(Account::find("4000000000", None).unwrap_err().contains("server.group"));
        assert!(Account::find("nobody-of-this-name", None).unwrap_err().contains("useradd"));
        assert!(Account::find("root", Some("nobody-of-this-name")).unwrap_err().contains("groupadd"));
    }

    /// Of a thread alone, so that the other tests go on as they are.
    #[test]
    fn an_account_is_tried_on_a_thread() {
        if !is_root() {
            return println!("skip: only root can change to another user");
        }
        let account = Account::find("4000000000", Some("4000000001")).unwrap();
        let tried = std::thread::spawn(move || {
            account.try_on_thread().expect("root may");
            (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
                std::fs::File::open("/etc/shadow"),
            )
        });
        let (user, group, shadow) = tried.join().expect("the thread");
        assert_eq!((user, group), (4_000_000_000, 4_000_000_001));
        assert!(shadow.is_err());
        assert!(is_root());
    }
}

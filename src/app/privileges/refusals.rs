//! What an account may not do that it will have to: asked of the kernel by a thread that has the account already.

use super::reach::{Reach, folder};
use crate::engine::finding::{Finding, Verdict};
use crate::engine::privilege::account::Account;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use std::path::Path;

/// Ports below this are for those with CAP_NET_BIND_SERVICE.
const FIRST_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// What it is where it cannot be read.
const FIRST_PORT_DEFAULT: u16 = 1024;

/// What stands in the way of serving, and what should be known. The calling thread must have changed to the account.
pub(super) fn of(reach: &Reach, account: &Account) -> (Vec<Finding>, Vec<Finding>) {
    let files = reach.files.iter().filter(|it| is_refused(it, Access::READ_OK)).map(|it| file(it, account));
    let roots = reach.roots.iter().filter(|it| is_refused(it, Access::EXEC_OK)).map(|it| root(it, account));
    let feeds = reach.feeds.iter().filter(|it| is_refused(&folder(it), WRITE)).map(|it| feed(it, account));
    let first = first_port();
    let low = reach.ports.iter().filter(|(_, address)| (1..first).contains(&address.port()));
    let ports = low.map(|(name, address)| port(name, &address.to_string(), first));
    let listeners = reach.listeners.iter().filter(|it| is_refused(&folder(it), WRITE)).map(|it| stays(it, account));
    let upstreams = reach.upstreams.iter().filter(|it| is_refused(it, Access::WRITE_OK));
    let upstreams = upstreams.map(|it| upstream(it, account));
    (files.chain(roots).chain(feeds).chain(ports).collect(), listeners.chain(upstreams).collect())
}

/// To make and remove files in a folder.
const WRITE: Access = Access::WRITE_OK.union(Access::EXEC_OK);

/// Other errors than a lack of permission are those of whoever comes to it.
fn is_refused(path: &Path, how: Access) -> bool {
    matches!(access(path, how), Err(Errno::ACCESS | Errno::PERM | Errno::ROFS))
}

fn first_port() -> u16 {
    let text = std::fs::read_to_string(FIRST_PORT).unwrap_or_default();
    text.trim().parse().unwrap_or(FIRST_PORT_DEFAULT)
}

fn file(path: &Path, account: &Account) -> Finding {
    let (path, user, gid) = (path.display(), &account.user, account.gid);
    let is = format!("may not be read by user {user}");
    let should = "readable: it is read again when it changes".into();
    let command = format!(
        "chgrp {gid} {path} && chmod g+r {path}, and leave to pass on the way (`namei -l {path}` shows each step)"
    );
    Finding::failure(&path.to_string(), is, should, command)
}

fn root(path: &Path, account: &Account) -> Finding {
    let (path, user) = (path.display(), &account.user);
    let is = format!("may not be entered by user {user}");
    let should = "open to that user: files below it are served".into();
    let command = format!("chmod o+x {path}, and likewise on the way (`namei -l {path}` shows each step)");
    Finding::failure(&path.to_string(), is, should, command)
}

fn feed(path: &Path, account: &Account) -> Finding {
    let (place, user, gid) = (folder(path), &account.user, account.gid);
    let is = format!("user {user} may make no socket there");
    let place = place.display();
    let command = format!("chgrp {gid} {place} && chmod g+wx {place}, or choose another folder");
    Finding::failure(&path.display().to_string(), is, "a folder that may be written by that user".into(), command)
}

fn port(name: &str, address: &str, first: u16) -> Finding {
    let is = format!("{address}, which is bound after the change of the user");
    let command = "choose a higher port, or sysctl -w net.ipv4.ip_unprivileged_port_start=PORT, or let systemd start \
                   edgehold as that user with CAP_NET_BIND_SERVICE";
    Finding::failure(name, is, format!("a port from {first} on"), command.into())
}

fn stays(path: &Path, account: &Account) -> Finding {
    let place = folder(path);
    let is = format!(
        "user {} may not remove it: it stays when the server ends, and the next start takes it over",
        account.user
    );
    let command = format!("chgrp {} {place} && chmod g+wx {place}", account.gid, place = place.display());
    Finding::new(&path.display().to_string(), is, "removed at the end".into(), Verdict::Advice, command)
}

fn upstream(path: &Path, account: &Account) -> Finding {
    let is = format!("user {} may not connect to it", account.user);
    let command = format!(
        "give that user leave to write to it: chgrp {gid} {path} && chmod g+w {path}",
        gid = account.gid,
        path = path.display()
    );
    Finding::new(&path.display().to_string(), is, "open to that user".into(), Verdict::Advice, command)
}

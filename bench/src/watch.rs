//! What the server and the machine spend, read from /proc.

use crate::failure::{Failure, mistaken};
use crate::result::{Machine, Reading};
use rustix::net::sockopt::socket_acceptconn;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::fs;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;

/// A server's process on this machine, with its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    pid: u32,
}

impl Server {
    /// The process `pid`, which must be listening on `port`.
    ///
    /// # Errors
    /// There is no such process, it may not be looked at, or neither it nor a child of it listens there.
    pub fn find(pid: u32, port: u16) -> Result<Server, Failure> {
        let server = Server::of("--server-pid", pid)?;
        if !server.listens_on(port) {
            let words = format!("neither it nor a child of it listens on port {port}");
            return mistaken(format!("--server-pid {pid}: {words}; `ss -ltnp 'sport = :{port}'` names the process"));
        }
        Ok(server)
    }

    /// The process `pid`, whatever it does; `flag` has named it.
    ///
    /// # Errors
    /// There is no such process, or it may not be looked at.
    pub fn of(flag: &str, pid: u32) -> Result<Server, Failure> {
        if !Path::new(&format!("/proc/{pid}")).exists() {
            return mistaken(format!("{flag} {pid}: there is no such process"));
        }
        if fs::read_dir(format!("/proc/{pid}/fd")).is_err() {
            return mistaken(format!("{flag} {pid}: not allowed to look at it; run as its user, or as root"));
        }
        Ok(Server { pid })
    }

    /// CPU time of all its threads; seconds.
    pub fn cpu(self) -> f64 {
        let of = |pid: &u32| entries(&format!("/proc/{pid}/task")).map(|task| on_cpu(&task)).sum::<u64>();
        self.tree().iter().map(of).sum::<u64>() as f64 / 1e9
    }

    /// Resident memory, and its proportional share; bytes. `None` when it has gone.
    pub fn memory(self) -> Option<(u64, u64)> {
        let of = |pid: &u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            Some((kilobytes(&text, "Rss:")?, kilobytes(&text, "Pss:")?))
        };
        let all: Vec<(u64, u64)> = self.tree().iter().filter_map(of).collect();
        (!all.is_empty()).then(|| all.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)))
    }

    /// Whether it is still there.
    pub fn lives(self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| !stat.contains(") Z "))
    }

    fn listens_on(self, port: u16) -> bool {
        self.tree().iter().any(|pid| has_listener(*pid, port))
    }

    /// The process and its descendants.
    fn tree(self) -> Vec<u32> {
        let mut all = vec![self.pid];
        let mut at = 0;
        while at < all.len() {
            let children: Vec<u32> = entries(&format!("/proc/{}/task", all[at])).flat_map(|it| children(&it)).collect();
            all.extend(children);
            at += 1;
        }
        all
    }
}

fn entries(folder: &str) -> impl Iterator<Item = String> {
    let all = fs::read_dir(folder).into_iter().flatten().flatten();
    all.map(|entry| entry.path().to_string_lossy().into_owned())
}

fn children(task: &str) -> Vec<u32> {
    let text = fs::read_to_string(format!("{task}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Nanoseconds that a task was on a CPU.
fn on_cpu(task: &str) -> u64 {
    let text = fs::read_to_string(format!("{task}/schedstat")).unwrap_or_default();
    text.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// CPU time of one of the tool's own threads; seconds.
pub fn own_thread(thread: u32) -> f64 {
    on_cpu(&format!("/proc/self/task/{thread}")) as f64 / 1e9
}

/// The most memory that the tool itself has had resident so far; bytes.
pub fn own_peak() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Whether one of the process's sockets listens on the port. Each socket is asked itself: /proc/net/tcp is one line for
/// every connection of the machine, and takes minutes where there are many.
fn has_listener(pid: u32, port: u16) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(process) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return false };
    let pid = pid.map_or(0, |it| it.as_raw_nonzero().get());
    let socket = |fd: RawFd| pidfd_getfd(&process, fd, PidfdGetfdFlags::empty()).ok();
    sockets_of(pid).filter_map(socket).any(|socket| listens(&socket, port))
}

fn listens(socket: &OwnedFd, port: u16) -> bool {
    let address = || rustix::net::getsockname(socket).ok().and_then(|it| SocketAddr::try_from(it).ok());
    socket_acceptconn(socket).unwrap_or(false) && address().is_some_and(|it| it.port() == port)
}

/// Descriptors of a process that are sockets.
fn sockets_of(pid: i32) -> impl Iterator<Item = RawFd> {
    let folder = format!("/proc/{pid}/fd");
    let is_socket = |path: &String| fs::read_link(path).is_ok_and(|link| link.to_string_lossy().starts_with("socket:"));
    let all: Vec<String> = entries(&folder).filter(is_socket).collect();
    all.into_iter().filter_map(|path| path.rsplit('/').next()?.parse().ok())
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|it| it * 1024)
}

/// What the kernel and the machine have used, beside `connections` that stand.
pub fn reading(connections: u64, server: Option<Server>) -> Reading {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = server.and_then(Server::memory);
    Reading {
        connections,
        rss_bytes: memory.map(|it| it.0),
        pss_bytes: memory.map(|it| it.1),
        slab_bytes: slab_objects().or_else(|| kilobytes(&text, "Slab:")).unwrap_or(0),
        tcp_mem_bytes: tcp_pages() * 4096,
        available_bytes: kilobytes(&text, "MemAvailable:").unwrap_or(0),
    }
}

/// Objects in the kernel's slab (/proc/slabinfo, which only root may read), not its pages: what one crowd has left half
/// empty, the next one fills, and pages would not grow by it. `None` where it cannot be read.
fn slab_objects() -> Option<u64> {
    Some(connections_objects(&fs::read_to_string("/proc/slabinfo").ok()?))
}

/// Bytes of the objects that connections may have a part in. The files and the processes of others have caches of their
/// own, which are left out; of the cache of directory entries a socket has one entry, and paths that others look up
/// the rest.
fn connections_objects(slabinfo: &str) -> u64 {
    let caches = slabinfo.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (name, active, _, bytes) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some((name, active.parse::<u64>().ok()?, bytes.parse::<u64>().ok()?))
    });
    let caches: Vec<(&str, u64, u64)> = caches.filter(|(name, ..)| !is_of_others(name)).collect();
    let sockets = caches.iter().find(|(name, ..)| *name == SOCKETS).map(|(_, active, _)| *active);
    let part = |(name, active, bytes): &(&str, u64, u64)| {
        let objects = if *name == ENTRIES { sockets.unwrap_or(*active) } else { *active };
        objects * bytes
    };
    caches.iter().map(part).sum()
}

/// The cache of sockets' inodes, and the one of directory entries.
const SOCKETS: &str = "sock_inode_cache";
const ENTRIES: &str = "dentry";

/// A cache of file systems, of the page cache, of processes or of their memory.
fn is_of_others(name: &str) -> bool {
    const WHOLE: [&str; 18] = [
        "anon_vma",
        "anon_vma_chain",
        "buffer_head",
        "cred_jar",
        "extent_status",
        "files_cache",
        "fs_cache",
        "inode_cache",
        "kernfs_node_cache",
        "maple_node",
        "mm_struct",
        "pid",
        "radix_tree_node",
        "sighand_cache",
        "signal_cache",
        "task_struct",
        "vm_area_struct",
        "vma_lock",
    ];
    const BEGINNINGS: [&str; 8] = ["bio", "btrfs_", "ext4_", "fuse_", "jbd2_", "ovl_", "proc_", "xfs_"];
    let inodes = name.ends_with("_inode_cache") && ![SOCKETS, "lsm_inode_cache"].contains(&name);
    inodes || WHOLE.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

fn tcp_pages() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: "));
    let mut words = line.unwrap_or("").split_whitespace().skip_while(|word| *word != "mem");
    words.nth(1).and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// The settings that bear on the figures.
const SYSCTLS: [&str; 10] = [
    "fs.file-max",
    "fs.nr_open",
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
    "kernel.io_uring_disabled",
];

/// A setting, its words apart by one space.
pub fn sysctl(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// This machine.
pub fn machine(nofile: u64) -> Machine {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|it| it.1.to_owned()));
    Machine {
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        cpu: model.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory_bytes: kilobytes(&text, "MemTotal:").unwrap_or(0),
        nofile,
        sysctls: SYSCTLS.iter().filter_map(|name| Some(((*name).to_owned(), sysctl(name)?))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_is_told_from_another_process() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let port = listener.local_addr().expect("its address").port();
        assert!(Server::find(std::process::id(), port).is_ok());
        let other = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let free = other.local_addr().expect("its address").port();
        drop(other);
        assert!(
            matches!(Server::find(std::process::id(), free), Err(Failure::Mistaken(words)) if words.contains("listens"))
        );
        assert!(Server::find(u32::MAX, port).is_err());
    }

    #[test]
    fn what_others_hold_is_not_counted() {
        let quiet = "slabinfo - version: 2.1\nTCP 10 10 2000 8\nsock_inode_cache 20 24 800 4\ndentry 20 21 192 21\n";
        let busy =
            quiet.replace("dentry 20", "dentry 9020") + "buffer_head 5 5 104 39\next4_inode_cache 900 900 1000 8\n";
        assert_eq!(connections_objects(quiet), 20_000 + 16_000 + 20 * 192);
        assert_eq!(connections_objects(&busy), connections_objects(quiet));
    }

    #[test]
    fn own_memory_and_cpu_are_there() {
        let own = Server { pid: std::process::id() };
        let (rss, pss) = own.memory().expect("own memory");
        assert!(rss >= pss && pss > 0);
        assert!(own.cpu() > 0.0 && own.lives());
    }
}

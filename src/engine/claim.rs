//! Addresses that somebody may have already: who has them, and whether it is a process that lives.
//!
//! A socket outlives its process for a while when requests of an io_uring hold it: the kernel takes the ring down
//! behind the process's back, and until then the address answers, and nobody accepts (docs/decisions/ring.md). Such a
//! socket is listed under /proc/net, and no process has it. For a unix socket that is as good as free; a TCP address
//! must be waited for.

use super::Address;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// TCP_LISTEN, as /proc/net/tcp writes it.
const LISTENS: &str = "0A";

/// SO_ACCEPTCON, as /proc/net/unix writes the flags of a socket that listens.
const ACCEPTS: &str = "00010000";

/// Who has an address that cannot be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process listens there. Where not all processes may be looked at, it is taken to be one of them.
    Process,
    /// Somebody listened there who is dead; the kernel has not taken the socket down yet.
    Dead,
    /// Nobody listens: the port is the local end of connections, or bound to no purpose.
    Connections,
    /// A file that is no socket.
    File,
}

/// Who is in the way of a listener at this address.
pub fn holder(address: &Address) -> Holder {
    let listening = match address {
        Address::Tcp(address) => tcp_listeners(*address),
        Address::Unix(path) if is_socket(path) => unix_listeners(path),
        Address::Unix(_) => return Holder::File,
    };
    match (listening.is_empty(), address) {
        (true, Address::Tcp(_)) => Holder::Connections,
        // Not known in this network namespace, and yet there.
        (true, Address::Unix(_)) => Holder::Process,
        (false, _) if is_anyones(&listening) => Holder::Process,
        (false, _) => Holder::Dead,
    }
}

/// Takes away what is left at the path of a socket that nobody listens on any more. A living one stays, and so does any
/// other file; bind(2) then says so.
///
/// # Errors
/// The folder may not be written.
pub fn remove_stale(path: &Path) -> io::Result<()> {
    if is_socket(path) && (is_deserted(path) || holder(&Address::Unix(path.into())) == Holder::Dead) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Whether there is a socket at this path.
pub fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket())
}

/// Whether there is a socket on which nobody listens.
pub fn is_deserted(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The file of a unix socket, taken away when this is dropped, if it is still the same: whoever came meanwhile keeps
/// theirs.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64, i64, i64),
}

impl SocketFile {
    /// Of a socket that was just bound.
    ///
    /// # Errors
    /// There is none.
    pub fn of(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.into(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Numbers of inodes are given out again; with the time of birth, which for a socket is that of its last change, they
/// are not.
fn identity(path: &Path) -> io::Result<(u64, u64, i64, i64)> {
    fs::symlink_metadata(path).map(|it| (it.dev(), it.ino(), it.mtime(), it.mtime_nsec()))
}

// ---- /proc ----

/// Inodes of the sockets that listen on this port, at this address or at any.
fn tcp_listeners(address: SocketAddr) -> Vec<u64> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines()).filter_map(|line| tcp_listener(line, address)).collect()
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`
fn tcp_listener(line: &str, address: SocketAddr) -> Option<u64> {
    let mut fields = line.split_whitespace();
    let (ip, port) = fields.nth(1)?.rsplit_once(':')?;
    let fits = address.ip().is_unspecified() || ip.trim_start_matches('0').is_empty() || is_ip(ip, address);
    let is_it = u16::from_str_radix(port, 16) == Ok(address.port()) && fits;
    (fields.nth(1)? == LISTENS && is_it).then(|| fields.nth(5)?.parse().ok()).flatten()
}

/// Whether these are the words of the address, each as a number of this machine. An IPv4 address may stand in an IPv6
/// one.
fn is_ip(written: &str, address: SocketAddr) -> bool {
    let octets: Vec<u8> = match address {
        SocketAddr::V4(it) => it.ip().octets().into(),
        SocketAddr::V6(it) => it.ip().octets().into(),
    };
    let word = |it: &[u8]| format!("{:08X}", u32::from_ne_bytes([it[0], it[1], it[2], it[3]]));
    written.ends_with(&octets.chunks_exact(4).map(word).collect::<String>())
}

/// `Num RefCount Protocol Flags Type St Inode Path`
fn unix_listeners(path: &Path) -> Vec<u64> {
    let table = fs::read("/proc/net/unix").unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    let listener = |line: &str| {
        let accepts = line.split_whitespace().nth(3)? == ACCEPTS;
        let rest = line.trim_end().strip_suffix(path.to_str()?)?;
        let inode = rest.split_whitespace().next_back()?;
        (accepts && rest.ends_with(' ')).then(|| inode.parse().ok()).flatten()
    };
    table.lines().filter_map(listener).collect()
}

/// Whether some process has one of these sockets open, or one that may not be looked at might.
fn is_anyones(inodes: &[u64]) -> bool {
    let names: Vec<PathBuf> = inodes.iter().map(|it| format!("socket:[{it}]").into()).collect();
    let is_one = |entry: io::Result<fs::DirEntry>| {
        entry.and_then(|it| fs::read_link(it.path())).is_ok_and(|target| names.contains(&target))
    };
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let mut tables = processes.flatten().map(|it| it.path().join("fd")).filter(|it| is_of_process(it));
    tables.any(|table| match fs::read_dir(table) {
        Ok(mut entries) => entries.any(is_one),
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    })
}

fn is_of_process(table: &Path) -> bool {
    let process = table.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    process.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_listener_is_told_from_connections_that_have_the_port() {
        for ip in [Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()] {
            let listener = TcpListener::bind((ip.as_str(), 0)).expect("a port");
            let taken = listener.local_addr().expect("its address");
            let caller = TcpStream::connect(taken).expect("a connection");
            assert_eq!(holder(&Address::Tcp(taken)), Holder::Process);
            let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), taken.port());
            assert_eq!(holder(&Address::Tcp(everywhere)), Holder::Process);
            let local = caller.local_addr().expect("its address");
            assert_eq!(holder(&Address::Tcp(local)), Holder::Connections);
        }
    }

    #[test]
    fn a_line_of_the_kernels_table_is_read_to_the_inode() {
        let words = u32::from_ne_bytes([127, 0, 0, 1]);
        let line =
            format!("   0: {words:08X}:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4711 1 0");
        let found = |address: &str| tcp_listener(&line, address.parse().expect("an address"));
        assert_eq!(found("127.0.0.1:8080"), Some(4711));
        assert_eq!(found("0.0.0.0:8080"), Some(4711));
        assert_eq!([found("127.0.0.2:8080"), found("127.0.0.1:8081")], [None; 2]);
    }

    #[test]
    fn an_open_socket_is_somebodys_and_no_other_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("with a space");
        let living = UnixListener::bind(&path).expect("a socket");
        assert_eq!(unix_listeners(&path).len(), 1);
        assert_eq!(holder(&Address::Unix(path.clone())), Holder::Process);
        remove_stale(&path).expect("nothing to remove");
        assert!(is_socket(&path), "a living one stays");
        drop(living);
        assert!(unix_listeners(&path).is_empty());
        remove_stale(&path).expect("a folder of ours");
        assert!(!is_socket(&path));
        fs::write(&path, "").expect("a plain file");
        assert_eq!(holder(&Address::Unix(path)), Holder::File);
    }

    #[test]
    fn whoever_came_meanwhile_keeps_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let bind = || (UnixListener::bind(&path).expect("a socket"), SocketFile::of(&path).expect("its file"));
        let (old, old_file) = bind();
        drop(old);
        remove_stale(&path).expect("a folder of ours");
        let (_new, new_file) = bind();
        drop(old_file);
        assert!(is_socket(&path), "the old one took the new one's file away");
        drop(new_file);
        assert!(!is_socket(&path));
    }
}

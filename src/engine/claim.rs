//! Addresses that cannot be bound: whether a process has them, or only the kernel still.
//!
//! A listener outlives its process for a while when operations of an io_uring hold it: the kernel ends the ring after
//! the process, and until then the address takes connections that nobody accepts (docs/decisions/ring.md). Such a
//! listener stands in /proc/net, and no process has it open. The path of a unix socket can be taken over then; a TCP
//! address must be waited for.

use super::Address;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// TCP_LISTEN in column `st` of /proc/net/tcp.
const LISTENS: &str = "0A";

/// __SO_ACCEPTCON in column `Flags` of /proc/net/unix: the socket listens.
const ACCEPTS: &str = "00010000";

/// Who has an address that cannot be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process listens there, or may: not all descriptors of all processes can be read.
    Process,
    /// A listener of a process that has ended; the kernel has not closed it yet.
    Dead,
    /// No listener: the port is the local end of connections, or bound and not listening.
    Connections,
    /// A file that is not a socket.
    File,
}

/// What keeps a listener from being bound to this address. Call it after EADDRINUSE: what is free is not told apart.
pub fn holder(address: &Address) -> Holder {
    let listening = match address {
        Address::Tcp(address) => tcp_listeners(*address),
        Address::Unix(path) if is_socket(path) => unix_listeners(path),
        Address::Unix(_) => return Holder::File,
    };
    match (listening.is_empty(), address) {
        (true, Address::Tcp(_)) => Holder::Connections,
        // A listener of another network namespace.
        (true, Address::Unix(_)) => Holder::Process,
        (false, _) if is_anyones(&listening) => Holder::Process,
        (false, _) => Holder::Dead,
    }
}

/// Removes the file at `path` if it is a unix socket on which no process listens. Any other file stays, and bind(2)
/// fails with EADDRINUSE.
///
/// # Errors
/// As unlink(2).
pub fn remove_stale(path: &Path) -> io::Result<()> {
    if is_socket(path) && (is_deserted(path) || holder(&Address::Unix(path.into())) == Holder::Dead) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Whether the file at this path is a socket.
pub fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket())
}

/// Whether there is a socket on which nobody listens: connect(2) is refused. Connects for a moment where somebody does.
pub fn is_deserted(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The file of a unix socket. It is removed when this is dropped, unless another socket was bound to the path
/// meanwhile.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64, i64, i64),
}

impl SocketFile {
    /// The file of a socket that was just bound.
    ///
    /// # Errors
    /// As lstat(2).
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

/// Device, inode, and modification time, which for a socket is that of bind(2): inode numbers alone are used again.
fn identity(path: &Path) -> io::Result<(u64, u64, i64, i64)> {
    fs::symlink_metadata(path).map(|it| (it.dev(), it.ino(), it.mtime(), it.mtime_nsec()))
}

// ---- /proc ----

/// Inodes of the sockets that listen on this port, at this address or at the unspecified one.
fn tcp_listeners(address: SocketAddr) -> Vec<u64> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines()).filter_map(|line| tcp_listener(line, address)).collect()
}

/// The inode, if a line of /proc/net/tcp or tcp6 is such a socket's:
/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`
fn tcp_listener(line: &str, address: SocketAddr) -> Option<u64> {
    let mut fields = line.split_whitespace();
    let (ip, port) = fields.nth(1)?.rsplit_once(':')?;
    let fits = address.ip().is_unspecified() || ip.trim_start_matches('0').is_empty() || is_ip(ip, address);
    let is_it = u16::from_str_radix(port, 16) == Ok(address.port()) && fits;
    (fields.nth(1)? == LISTENS && is_it).then(|| fields.nth(5)?.parse().ok()).flatten()
}

/// Whether `written` is the address: words of 32 bits in this machine's byte order, in hexadecimal. An IPv4 address may
/// be mapped into an IPv6 one (RFC 4291 section 2.5.5.2).
fn is_ip(written: &str, address: SocketAddr) -> bool {
    let octets: Vec<u8> = match address {
        SocketAddr::V4(it) => it.ip().octets().into(),
        SocketAddr::V6(it) => it.ip().octets().into(),
    };
    let word = |it: &[u8]| format!("{:08X}", u32::from_ne_bytes([it[0], it[1], it[2], it[3]]));
    written.ends_with(&octets.chunks_exact(4).map(word).collect::<String>())
}

/// Inodes of the sockets that listen at this path, from the lines of /proc/net/unix:
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

/// Whether some process has one of these sockets open, or may: its descriptors cannot be read (EACCES, EPERM).
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

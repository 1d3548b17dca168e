//! Sockets before they are in a ring's table: listeners, sockets for upstreams, and their options.

use super::{Address, claim};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The first keep-alive probe is sent after a minute of silence at the latest, so that NAT and firewalls on the path
/// keep the connection.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The longest time between two keep-alive probes. TCP_KEEPINTVL is at most 32 767 s.
const PROBES: Duration = Duration::from_secs(75);

/// Options of a listener.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Connections that may wait to be accepted (listen(2)); the kernel lowers it to net.core.somaxconn.
    pub backlog: u32,
    /// See [`for_connect`].
    pub unsent_bytes: u32,
    /// See [`for_connect`].
    pub silence: Duration,
    /// The mode of a unix socket's file; `None`: 0777 without the bits of the umask.
    pub mode: Option<u32>,
    /// Other sockets of this user may listen on the same TCP address (SO_REUSEPORT).
    pub shared: bool,
}

/// Opens a listener. It takes over the path of a unix socket on which nobody listens ([`claim::remove_stale`]).
///
/// TCP_NODELAY, TCP_NOTSENT_LOWAT, keep-alive and TCP_USER_TIMEOUT are set here because accepted sockets inherit them:
/// a direct descriptor has no setsockopt before Linux 6.7.
///
/// # Errors
/// As socket(2), setsockopt(2), bind(2) and listen(2): EADDRINUSE, EADDRNOTAVAIL, EACCES above all.
pub fn listen(address: &Address, options: Options) -> io::Result<Socket> {
    let socket = bind(address, options)?;
    socket.listen(options.backlog.try_into().unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// Opens `count` listeners, at least one, on one TCP address, among which the kernel spreads connections; where it
/// has port 0, all have the port that the first got. Unless `options` say that the address is shared, the first listens
/// without SO_REUSEPORT before the others join it, so of two servers that start at the same time one fails. A unix path
/// cannot be bound twice: there the others are duplicates (dup(2)) of the first.
///
/// # Errors
/// As [`listen`].
pub fn listen_many(address: &Address, options: Options, count: usize) -> io::Result<Vec<Socket>> {
    let first = listen(address, options)?;
    let another = match first.local_addr()?.as_socket() {
        Some(bound) => {
            first.set_reuse_port(true)?;
            Some(Address::Tcp(bound))
        }
        None => None,
    };
    let one_more = |_| match &another {
        Some(bound) => listen(bound, Options { shared: true, ..options }),
        None => first.try_clone(),
    };
    let others: io::Result<Vec<Socket>> = (1..count).map(one_more).collect();
    Ok(std::iter::once(first).chain(others?).collect())
}

/// Tries whether a listener could be opened here, without listen(2), so that nobody can connect meanwhile.
///
/// # Errors
/// As [`listen`].
pub fn try_listen(address: &Address, options: Options) -> io::Result<()> {
    match address {
        Address::Unix(path) if claim::is_socket(path) => {
            if claim::is_deserted(path) {
                Ok(rustix::fs::access(path.parent().unwrap_or(path), rustix::fs::Access::WRITE_OK)?)
            } else {
                Err(io::ErrorKind::AddrInUse.into())
            }
        }
        _ => bind(address, options).and_then(|_| match address {
            Address::Unix(path) => claim::SocketFile::of(path).map(drop),
            Address::Tcp(_) => Ok(()),
        }),
    }
}

fn bind(address: &Address, options: Options) -> io::Result<Socket> {
    let socket = Socket::new(domain(address), Type::STREAM, None)?;
    match address {
        Address::Tcp(_) => {
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(options.shared)?;
            stream_options(&socket, options.unsent_bytes, options.silence)?;
        }
        Address::Unix(path) => claim::remove_stale(path)?,
    }
    socket.bind(&to_kernel(address)?)?;
    if let (Address::Unix(path), Some(mode)) = (address, options.mode) {
        // Before listen(2), so that nobody connects under another mode.
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    }
    Ok(socket)
}

/// A socket for a connection to `address`, not yet connected, and the address for connect(2). It is blocking: with
/// O_NONBLOCK, operations of the ring would complete with EAGAIN instead of waiting.
///
/// The kernel queues at most `unsent_bytes` beyond what is in flight (TCP_NOTSENT_LOWAT; 0:
/// net.ipv4.tcp_notsent_lowat), so that a peer that does not read takes little of the kernel's memory, and what is sent
/// next is not far behind.
///
/// A peer that sends nothing for `silence`, not even an acknowledgement, is given up within a quarter of that time
/// more: by keep-alive probes where nothing is in flight to it, by TCP_USER_TIMEOUT where something is. The latter also
/// ends a connection whose peer keeps its window at zero for so long. Zero: the kernel's defaults, about a quarter of
/// an hour.
///
/// # Errors
/// As socket(2) and setsockopt(2), or the path of a unix socket is too long.
pub fn for_connect(address: &Address, unsent_bytes: u32, silence: Duration) -> io::Result<(Socket, SockAddr)> {
    let protocol = matches!(address, Address::Tcp(_)).then_some(Protocol::TCP);
    let socket = Socket::new(domain(address), Type::STREAM, protocol)?;
    if matches!(address, Address::Tcp(_)) {
        stream_options(&socket, unsent_bytes, silence)?;
    }
    Ok((socket, to_kernel(address)?))
}

/// Binds a socket that is not connected yet to a source address and leaves the port to connect(2), which can then use
/// one port towards several destinations (IP_BIND_ADDRESS_NO_PORT, Linux 4.2).
///
/// # Errors
/// As setsockopt(2) and bind(2): EADDRNOTAVAIL where this machine does not have the address.
pub fn bind_source(socket: &Socket, source: IpAddr) -> io::Result<()> {
    let (yes, len) = (1 as libc::c_int, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the option takes an int, and the kernel reads it before the call returns.
    let set = unsafe {
        let value = (&raw const yes).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, value, len)
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    socket.bind(&SocketAddr::new(source, 0).into())
}

fn stream_options(socket: &Socket, unsent_bytes: u32, silence: Duration) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    if unsent_bytes > 0 {
        socket.set_tcp_notsent_lowat(unsent_bytes)?;
    }
    if silence.is_zero() {
        return socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
    }
    let second = Duration::from_secs(1);
    let (first, between) = ((silence / 2).clamp(second, KEEPALIVE), (silence / 8).clamp(second, PROBES));
    // Later than the shard's own timeouts of the same length, which report a more exact cause.
    socket.set_tcp_user_timeout(Some(silence + silence / 8))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(first).with_interval(between))
}

fn domain(address: &Address) -> Domain {
    match address {
        Address::Tcp(address) => Domain::for_address(*address),
        Address::Unix(_) => Domain::UNIX,
    }
}

fn to_kernel(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Tcp(address) => Ok((*address).into()),
        Address::Unix(path) => SockAddr::unix(path),
    }
}

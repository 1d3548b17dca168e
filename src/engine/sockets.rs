//! Sockets before they are on a ring: listeners and the options that both ends want.

use super::Address;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

/// Probes after a minute of silence, so that a peer whose host has vanished is found by the kernel.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// What a listener is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Clients that may wait to be accepted; net.core.somaxconn cuts it.
    pub backlog: u32,
    /// See [`for_connect`].
    pub unsent_bytes: u32,
}

/// Opens a listener. Each shard opens its own on the same TCP address (SO_REUSEPORT: the kernel spreads the
/// clients); a unix listener cannot be opened twice, shards share duplicates of one.
///
/// TCP_NODELAY, TCP_NOTSENT_LOWAT and keep-alive are set here because accepted sockets inherit them: a direct
/// descriptor has no setsockopt before Linux 6.7.
///
/// # Errors
/// The address is in use, not ours, or not allowed.
pub fn listen(address: &Address, options: Options) -> io::Result<Socket> {
    let socket = Socket::new(domain(address), Type::STREAM, None)?;
    match address {
        Address::Tcp(_) => {
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            stream_options(&socket, options.unsent_bytes)?;
        }
        Address::Unix(path) => remove_stale(path)?,
    }
    socket.bind(&to_kernel(address)?)?;
    socket.listen(options.backlog.try_into().unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// A socket for a connection to `address`, not yet connected. It blocks, as io_uring wants it: a socket with
/// O_NONBLOCK makes the ring answer EAGAIN instead of waiting.
///
/// The kernel takes at most `unsent_bytes` beyond what is in flight (TCP_NOTSENT_LOWAT; 0: as it likes), so that a peer
/// that does not read holds little of the kernel's memory, and what is said last is not far behind.
///
/// # Errors
/// No descriptor free, or no such address family.
pub fn for_connect(address: &Address, unsent_bytes: u32) -> io::Result<(Socket, SockAddr)> {
    let protocol = matches!(address, Address::Tcp(_)).then_some(Protocol::TCP);
    let socket = Socket::new(domain(address), Type::STREAM, protocol)?;
    if matches!(address, Address::Tcp(_)) {
        stream_options(&socket, unsent_bytes)?;
    }
    Ok((socket, to_kernel(address)?))
}

/// Gives a socket that is not connected yet its source address and leaves the port to connect(2), which can then use
/// one port towards several destinations (IP_BIND_ADDRESS_NO_PORT, Linux 4.2).
///
/// # Errors
/// The address is not this machine's.
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

fn stream_options(socket: &Socket, unsent_bytes: u32) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    if unsent_bytes > 0 {
        socket.set_tcp_notsent_lowat(unsent_bytes)?;
    }
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
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

/// A socket file that nobody listens on is left over from a server that was killed: it goes. A living one
/// stays, and bind says so.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket =
        std::fs::symlink_metadata(path).is_ok_and(|it| std::os::unix::fs::FileTypeExt::is_socket(&it.file_type()));
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err_and(|error| refused(&error)) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

//! `udp://`: one datagram, one message. What comes while the shards are behind is dropped by the kernel.

use super::decoder::Said;
use super::feed::{Fault, Feed, Session};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::UdpSocket;

/// What is asked of the kernel for datagrams that wait; net.core.rmem_max cuts it.
const WAITING_BYTES: usize = 4 << 20;

/// No datagram is longer: its length has sixteen bits.
const LONGEST: usize = 1 << 16;

/// Listens on an address; a multicast address is joined.
pub(super) struct Udp(pub(super) SocketAddr);

impl Session for Udp {
    async fn run(&mut self, feed: &Feed) -> Fault {
        match open(self.0) {
            Ok(socket) => {
                feed.up();
                pass_on(feed, socket).await.to_string()
            }
            Err(error) => error.to_string(),
        }
    }
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(WAITING_BYTES)?;
    if address.ip().is_multicast() {
        // Others of this machine may want the same group.
        socket.set_reuse_address(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    join(&socket, address)?;
    UdpSocket::from_std(socket.into())
}

/// On the interface that the routes choose, or, with IPv6, on that of the address (`[ff02::1%2]`).
fn join(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let interface = if let SocketAddr::V6(address) = address { address.scope_id() } else { 0 };
    match address.ip() {
        IpAddr::V4(group) if group.is_multicast() => socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(group) if group.is_multicast() => socket.join_multicast_v6(&group, interface),
        _ => Ok(()),
    }
}

/// One byte more than the longest message shows that a datagram was longer.
async fn pass_on(feed: &Feed, socket: UdpSocket) -> io::Error {
    let mut buffer = vec![0; LONGEST.min(feed.rules.raw_bytes_max().saturating_add(1))];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(count) => feed.take(&buffer[..count], Said::default()).await,
            Err(error) => return error,
        }
    }
}

//! `udp://`: a datagram is a message. What comes while the shards are behind is dropped by the kernel when its buffer
//! is full.

use crate::control::feeds::decoder::Metadata;
use crate::control::feeds::feed::Feed;
use crate::control::feeds::session::{Fault, Session, fault};
use socket2::{Domain, Protocol, Socket, Type};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::UdpSocket;

/// SO_RCVBUF: bytes of datagrams that may wait; net.core.rmem_max bounds it.
const WAITING_BYTES: usize = 4 << 20;

/// Bytes of a datagram, at most: its length has sixteen bits (RFC 768).
const LONGEST: usize = 1 << 16;

/// Receives at an address; a multicast address is joined.
pub(in crate::control::feeds) struct Udp(pub(in crate::control::feeds) SocketAddr);

impl Session for Udp {
    async fn run(&mut self, feed: &Feed) -> Result<Infallible, Fault> {
        let socket = open(self.0).map_err(fault)?;
        feed.up();
        Err(fault(receive_all(feed, socket).await))
    }
}

/// # Errors
/// The address cannot be bound, or the group not joined.
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

/// Joins the group of a multicast address, on the interface that the routes choose, or, with IPv6, on that of the
/// address (`[ff02::1%2]`).
///
/// # Errors
/// There is no such interface, or it cannot join (IP_ADD_MEMBERSHIP).
fn join(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let interface = if let SocketAddr::V6(address) = address { address.scope_id() } else { 0 };
    match address.ip() {
        IpAddr::V4(group) if group.is_multicast() => socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(group) if group.is_multicast() => socket.join_multicast_v6(&group, interface),
        _ => Ok(()),
    }
}

/// Publishes datagrams until receiving fails. The buffer has one byte more than the longest message, which shows that a
/// datagram was longer.
async fn receive_all(feed: &Feed, socket: UdpSocket) -> io::Error {
    let mut buffer = vec![0; LONGEST.min(feed.decoder.raw_bytes_max().saturating_add(1))];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(count) => feed.receive(&buffer[..count], Metadata::default()).await,
            Err(error) => return error,
        }
    }
}

//! Ports of 127.0.0.1 for tests: no two tests are given the same one, in whatever process they run.
//!
//! A port that is bound, looked at and let go again belongs to nobody until a server binds it: the kernel gives it to
//! the next who asks for any, or to an outgoing connection. So ports come from below the ephemeral range, from which
//! the kernel gives nobody any, and each is claimed by a unix socket of its name in the abstract namespace. That is
//! kept by network namespace, as ports are, and ends with the process, however it ends.

use std::fs;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The first port that is given.
const LOWEST: u16 = 10_000;
/// Fewer ports than these below the ephemeral range are too few to choose from.
const ROOM_MIN: u16 = 1_000;
const TRIES: usize = 2_000;

/// A port of 127.0.0.1 that nobody listens on, for TCP and for UDP; it is this process's as long as that runs.
pub(crate) fn free_port() -> u16 {
    let claimed = (0..TRIES).map(|_| candidate()).find_map(|port| claim(port).map(|claim| (port, claim)));
    let (port, claim) = claimed.unwrap_or_else(|| panic!("no free port of 127.0.0.1 in {TRIES} tries"));
    // Ends with the process.
    std::mem::forget(claim);
    port
}

/// A claim of the port; `None` where somebody has it, or listens on it.
fn claim(port: u16) -> Option<UnixDatagram> {
    let name = SocketAddr::from_abstract_name(format!("edgehold-test-port-{port}")).expect("a short name");
    let claim = UnixDatagram::bind_addr(&name).ok()?;
    let door = (Ipv4Addr::LOCALHOST, port);
    (TcpListener::bind(door).is_ok() && UdpSocket::bind(door).is_ok()).then_some(claim)
}

/// By chance, from below the ephemeral range; where that leaves no room, the kernel's choice.
fn candidate() -> u16 {
    let room = ephemeral_start().saturating_sub(LOWEST);
    if room >= ROOM_MIN { LOWEST + (RandomState::new().hash_one(()) % u64::from(room)) as u16 } else { any() }
}

fn ephemeral_start() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

fn any() -> u16 {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    probe.local_addr().expect("a bound address").port()
}

#[test]
fn no_port_is_given_twice() {
    // Of so many that a kernel chose and let go again, some are the same in nine of ten tries.
    let ports: Vec<u16> = (0..300).map(|_| free_port()).collect();
    let different: std::collections::HashSet<&u16> = ports.iter().collect();
    assert_eq!(different.len(), ports.len());
    assert!(ports.iter().all(|port| claim(*port).is_none()), "a claim lasts");
}

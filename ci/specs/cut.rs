//! Where bytes are cut on their way to edgehold, and how we know that a piece has arrived on its own.
//!
//! A cut means nothing if the next piece catches up with the one before. So after each piece the kernel is asked how
//! many bytes lie unread in edgehold's own socket (sock_diag(7), the exact look-up by both addresses), and the next
//! piece goes out when there are none.

use std::io::{self, Read, Write};
use std::net::SocketAddrV4;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// Where flights are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cutting {
    /// Nowhere.
    Whole,
    /// Between all bytes.
    Bytes,
    /// At places drawn from this seed.
    Random(u64),
}

/// So many bytes at either end of a flight are cut one from the other, whatever its length.
const EDGE: usize = 1024;
/// Between them, bytes come in pieces of so many: a prime, to meet every place of a masking key and of a buffer.
const STRIDE: usize = 131;

impl Cutting {
    /// The places where `len` bytes are cut, ascending, without both ends.
    pub(crate) fn places(&mut self, len: usize) -> Vec<usize> {
        match self {
            Cutting::Whole => Vec::new(),
            Cutting::Bytes => (1..len).filter(|at| *at < EDGE || len - at < EDGE || at % STRIDE == 0).collect(),
            Cutting::Random(seed) => random_places(seed, len),
        }
    }
}

fn random_places(seed: &mut u64, len: usize) -> Vec<usize> {
    let count = 1 + next(seed) as usize % 8;
    let mut places: Vec<usize> = (0..count).map(|_| next(seed) as usize % len.max(1)).filter(|at| *at > 0).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// The next number of a SplitMix64 sequence.
pub(crate) fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE_WAIT: u8 = 8;
/// A netlink header, then an inet_diag_req_v2.
const REQUEST_LEN: usize = 16 + 56;
/// The state in the inet_diag_msg behind the netlink header, and its count of unread bytes.
const STATE_AT: usize = 16 + 1;
const UNREAD_AT: usize = 16 + 56;

/// Asks the kernel about the other end of a connection.
pub(crate) struct Gauge(Socket);

impl Gauge {
    /// A socket to ask through.
    pub(crate) fn new() -> io::Result<Gauge> {
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_SOCK_DIAG)))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(Gauge(socket))
    }

    /// Waits until the socket with the addresses `there` (its own) and `here` has been read empty, or is gone.
    /// `false`: `limit` has passed first.
    pub(crate) fn wait_until_read(&mut self, there: SocketAddrV4, here: SocketAddrV4, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.unread(there, here).is_ok_and(|unread| unread > 0) {
            if Instant::now() >= deadline {
                return false;
            }
            thread::yield_now();
        }
        true
    }

    fn unread(&mut self, there: SocketAddrV4, here: SocketAddrV4) -> io::Result<u32> {
        self.0.write_all(&request(there, here))?;
        let mut answer = [0; 1024];
        let len = self.0.read(&mut answer)?;
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        // Without such a connection the kernel answers with an error, or with the listener of that port.
        let is_connection = matches!(answer[STATE_AT], TCP_ESTABLISHED | TCP_CLOSE_WAIT);
        if kind != SOCK_DIAG_BY_FAMILY || len < UNREAD_AT + 4 || !is_connection {
            return Ok(0);
        }
        Ok(u32::from_ne_bytes(*answer[UNREAD_AT..].first_chunk().unwrap_or(&[0; 4])))
    }
}

fn request(there: SocketAddrV4, here: SocketAddrV4) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(REQUEST_LEN);
    bytes.extend((REQUEST_LEN as u32).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and port.
    bytes.extend([0; 8]);
    bytes.extend([libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    // All states.
    bytes.extend([0xff; 4]);
    bytes.extend(there.port().to_be_bytes());
    bytes.extend(here.port().to_be_bytes());
    for address in [there.ip(), here.ip()] {
        bytes.extend(address.octets());
        bytes.extend([0; 12]);
    }
    // Any interface; no cookie.
    bytes.extend([0; 4]);
    bytes.extend([0xff; 8]);
    bytes
}

#[test]
fn places_are_inside_and_ascend() {
    for mut cutting in [Cutting::Whole, Cutting::Bytes, Cutting::Random(7)] {
        for len in [0, 1, 2, 5, 5000] {
            let places = cutting.places(len);
            assert!(places.is_sorted_by(|a, b| a < b) && places.iter().all(|at| (1..len).contains(at)), "{places:?}");
        }
    }
    assert_eq!(Cutting::Bytes.places(4), [1, 2, 3]);
    assert!(!Cutting::Random(7).places(5000).is_empty());
}

#[test]
fn the_kernel_tells_what_is_unread() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let v4 = |address| match address {
        std::net::SocketAddr::V4(it) => it,
        it @ std::net::SocketAddr::V6(_) => panic!("{it} is not IPv4"),
    };
    let there = v4(listener.local_addr().expect("a bound address"));
    let mut client = std::net::TcpStream::connect(there).expect("a connection");
    let here = v4(client.local_addr().expect("a bound address"));
    let mut gauge = Gauge::new().expect("sock_diag");
    client.write_all(b"hello").expect("room");
    assert_eq!(gauge.unread(there, here).expect("an answer"), 5);
    assert!(!gauge.wait_until_read(there, here, Duration::ZERO));
    let (mut server, _) = listener.accept().expect("the connection");
    server.read_exact(&mut [0; 5]).expect("five bytes");
    assert!(gauge.wait_until_read(there, here, Duration::from_secs(5)));
    drop((client, server));
    assert!(gauge.wait_until_read(there, here, Duration::ZERO));
}

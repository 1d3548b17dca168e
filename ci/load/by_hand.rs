//! Peers one at a time, over blocking sockets: clients that call the server, and doors that it calls.
//!
//! Where the crowd shows what many do, these do a single thing exactly: words and FIN in one segment, a reader that
//! sips, a door that nobody opens. A read that brings nothing for ten seconds (times patience) is an error.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::crowd::{Head, request};
use crate::peer::patience;

/// SO_RCVBUF of a narrow peer: what it has not read stays with the server.
const NARROW_BYTES: usize = 4096;
/// A sip, and the rest behind it: at most 200 kB/s. The rest is the slowness under test; nothing is waited for.
const SIP_BYTES: usize = 4096;
const SIP_REST: Duration = Duration::from_millis(20);

/// A client.
pub(crate) struct Caller {
    stream: TcpStream,
    came: Vec<u8>,
    /// The rest behind a sip.
    pub(crate) rest: Duration,
}

impl Caller {
    /// Connects.
    pub(crate) fn new(address: SocketAddr) -> Caller {
        Caller::with(address, |_| {})
    }

    /// Connects with a small receive buffer.
    pub(crate) fn narrow(address: SocketAddr) -> Caller {
        Caller::with(address, narrow)
    }

    fn with(address: SocketAddr, prepare: impl FnOnce(&Socket)) -> Caller {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        prepare(&socket);
        socket.set_read_timeout(Some(patience(10))).expect("a read timeout");
        socket.connect(&address.into()).expect("the server accepts");
        Caller { stream: socket.into(), came: Vec::new(), rest: SIP_REST }
    }

    /// An opened WebSocket.
    #[track_caller]
    pub(crate) fn open(mut self, path: &str) -> Caller {
        self.say(&self.opening(path));
        assert_eq!(self.status(), 101);
        self
    }

    /// An opening request for this server.
    pub(crate) fn opening(&self, path: &str) -> Vec<u8> {
        request(self.stream.peer_addr().expect("connected"), path)
    }

    /// Says all of it.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server listens");
    }

    /// Says it and ends its side; FIN comes with the last byte, in the same segment.
    pub(crate) fn say_and_end(&mut self, bytes: &[u8]) {
        let said = SockRef::from(&self.stream).send_with_flags(bytes, libc::MSG_MORE);
        assert_eq!(said.expect("the server listens"), bytes.len());
        self.stream.shutdown(Shutdown::Write).expect("FIN");
    }

    /// A second handle, to speak from another thread.
    pub(crate) fn mouth(&self) -> TcpStream {
        self.stream.try_clone().expect("a descriptor")
    }

    /// The next response's status; its head is then read.
    #[track_caller]
    pub(crate) fn status(&mut self) -> u16 {
        self.response_head().0
    }

    /// Status and Content-Length of the next response's head.
    #[track_caller]
    fn response_head(&mut self) -> (u16, usize) {
        let end = loop {
            match self.came.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => assert!(self.hear(), "the end instead of a head: {:?}", String::from_utf8_lossy(&self.came)),
            }
        };
        let head = String::from_utf8(self.came.drain(..end).collect()).expect("an ASCII head");
        let status = head.get(9..12).and_then(|code| code.parse().ok());
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        (status.expect("a status"), length.map_or(0, |length| length.parse().expect("a length")))
    }

    /// Status and content of the next response, whole, in sips.
    #[track_caller]
    pub(crate) fn response(&mut self) -> (u16, Vec<u8>) {
        let (status, length) = self.response_head();
        while self.came.len() < length {
            assert!(self.sip(), "{} of {length} bytes, then the end", self.came.len());
        }
        (status, self.came.drain(..length).collect())
    }

    /// The next frame: opcode and payload.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some(head) = Head::parse(&self.came).filter(|head| head.body.end <= self.came.len()) {
                let frame = self.came.drain(..head.body.end).collect::<Vec<u8>>();
                return (head.opcode, frame[head.body].to_vec());
            }
            assert!(self.hear(), "the end instead of a frame");
        }
    }

    /// Nothing comes any more but FIN. Panics at RST.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let more = self.hear();
        assert!(!more && self.came.is_empty(), "it goes on: {:?}", String::from_utf8_lossy(&self.came));
    }

    /// Takes a little of what there is, and rests; `false` at FIN. Panics at RST.
    pub(crate) fn sip(&mut self) -> bool {
        let mut sip = [0; SIP_BYTES];
        let len = self.stream.read(&mut sip).expect("bytes or FIN");
        self.came.extend_from_slice(&sip[..len]);
        thread::sleep(self.rest);
        len > 0
    }

    /// How many bytes have come and were not looked at; they are forgotten.
    pub(crate) fn swallow(&mut self) -> usize {
        std::mem::take(&mut self.came).len()
    }

    fn hear(&mut self) -> bool {
        let mut bytes = [0; 16 << 10];
        let len = self.stream.read(&mut bytes).expect("bytes or FIN");
        self.came.extend_from_slice(&bytes[..len]);
        len > 0
    }
}

fn narrow(socket: &Socket) {
    socket.set_recv_buffer_size(NARROW_BYTES).expect("SO_RCVBUF");
}

/// All that `stream` brings, in sips, up to FIN.
pub(crate) fn sip_all(mut stream: impl Read) -> Vec<u8> {
    let (mut all, mut sip) = (Vec::new(), [0; SIP_BYTES]);
    loop {
        match stream.read(&mut sip).expect("bytes or FIN") {
            0 => return all,
            len => all.extend_from_slice(&sip[..len]),
        }
        thread::sleep(SIP_REST);
    }
}

/// A back end's door on 127.0.0.1 that opens to everybody.
pub(crate) fn open_door() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")
}

/// The same, and what comes through it has a small receive buffer.
pub(crate) fn narrow_door() -> TcpListener {
    let door = open_door();
    // Inherited by what is accepted.
    SockRef::from(&door).set_recv_buffer_size(NARROW_BYTES).expect("SO_RCVBUF");
    door
}

/// A back end's door that lets nobody in: its queue has one place, and that is taken.
pub(crate) struct ShutDoor {
    door: Socket,
    /// As `upstream` names it.
    pub(crate) url: String,
    /// Who takes the only place.
    in_the_way: Box<dyn Debug + Send>,
}

impl ShutDoor {
    /// On 127.0.0.1: who calls is not answered at all.
    pub(crate) fn tcp() -> ShutDoor {
        let door = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        door.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        door.listen(0).expect("a listener");
        let address = door.local_addr().ok().and_then(|address| address.as_socket()).expect("a bound address");
        let in_the_way = Box::new(TcpStream::connect(address).expect("the only place"));
        ShutDoor { door, url: format!("tcp://{address}"), in_the_way }
    }

    /// A unix socket in `folder`: who calls waits, and is through as soon as there is room.
    pub(crate) fn unix(folder: &Path) -> ShutDoor {
        let path = folder.join("door");
        let door = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        door.bind(&SockAddr::unix(&path).expect("a short path")).expect("a free path");
        door.listen(0).expect("a listener");
        let in_the_way = Box::new(UnixStream::connect(&path).expect("the only place"));
        ShutDoor { door, url: format!("unix://{}", path.display()), in_the_way }
    }

    /// Lets in all who call from now on, each served by `serve` on a thread of its own; ends with the test program.
    pub(crate) fn open(self, serve: impl Fn(Socket) + Clone + Send + 'static) {
        thread::spawn(move || {
            self.door.accept().map(drop).expect("who was in the way");
            drop(self.in_the_way);
            while let Ok((caller, _)) = self.door.accept() {
                let serve = serve.clone();
                thread::spawn(move || serve(caller));
            }
        });
    }
}

/// Reads until FIN or RST and throws it away.
pub(crate) fn listen_to(mut caller: Socket) {
    // RST is as good an end as FIN to whoever only listens.
    let _ = io::copy(&mut caller, &mut io::sink());
}

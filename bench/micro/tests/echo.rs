//! The bare echo must be an echo, or it would be no limit: what goes in comes out, byte for byte and in order, per
//! connection, however the writes are cut and however few buffers there are.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// No measure of speed but the end of a test that hangs: a machine on which others build has kept a connection waiting
/// for half a minute, and then bytes came.
const PATIENCE: Duration = Duration::from_secs(300);

struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(arguments: &[&str]) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echo_limit"));
        let mut process = command.arg("127.0.0.1:0").args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        Server { process, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn stop(mut self, signal: &str) -> ExitStatus {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it goes on after {signal}");
            thread::yield_now();
        }
    }
}

impl Drop for Server {
    /// Where a test fails before `stop`.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Numbers that look random and are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Writes `sent` in pieces of 1 to `piece_max` bytes, then shuts its side; gives what came back until the end.
fn round_trip(mut stream: TcpStream, sent: &[u8], piece_max: usize, numbers: &mut Numbers) -> Vec<u8> {
    let mut reading = stream.try_clone().unwrap();
    let reader = thread::spawn(move || {
        let mut came = Vec::new();
        reading.read_to_end(&mut came).map(|_| came)
    });
    let mut rest = sent;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rest.len().min(1 + numbers.next() as usize % piece_max));
        stream.write_all(piece).unwrap();
        rest = behind;
    }
    stream.shutdown(Shutdown::Write).unwrap();
    reader.join().unwrap().unwrap()
}

/// `connections` at once, each with bytes of its own.
fn all_come_back(server: &Server, connections: u64, len: usize, piece_max: usize) {
    thread::scope(|scope| {
        for seed in 1..=connections {
            let stream = server.connect();
            scope.spawn(move || {
                let mut numbers = Numbers(seed * 0x9e37_79b9);
                let sent = numbers.bytes(len);
                let came = round_trip(stream, &sent, piece_max, &mut numbers);
                assert!(came == sent, "connection {seed}: {} bytes came back of {len}", came.len());
            });
        }
    });
}

#[test]
fn bytes_come_back_in_order() {
    let server = Server::start(&[]);
    all_come_back(&server, 8, 3_000_000, 100_000);
    assert!(server.stop("-TERM").success());
}

#[test]
fn few_small_buffers_are_enough() {
    let server = Server::start(&["--buffers", "4", "--buffer-bytes", "100"]);
    all_come_back(&server, 12, 100_000, 1_000);
    assert!(server.stop("-INT").success());
}

#[test]
fn one_too_many_is_cut_off_and_slots_are_used_again() {
    let server = Server::start(&["--connections", "2"]);
    (0..20).for_each(|_| two_fit_and_no_third(&server));
    assert!(server.stop("-TERM").success());
}

/// Those of the round before leave when the server has seen their end; until then the two may be cut off as well.
fn two_fit_and_no_third(server: &Server) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (mut one, mut two) = (server.connect(), server.connect());
        if echoes(&mut one) && echoes(&mut two) {
            return assert!(!echoes(&mut server.connect()));
        }
        assert!(Instant::now() < deadline, "no slot became free");
    }
}

fn echoes(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    stream.write_all(&[7]).and_then(|()| stream.read_exact(&mut byte)).is_ok() && byte == [7]
}

#[test]
fn a_peer_that_breaks_off_harms_nobody() {
    let server = Server::start(&["--buffers", "8", "--buffer-bytes", "64"]);
    for _ in 0..50 {
        let mut stream = server.connect();
        // It closes with its echo unread, which the kernel turns into a reset.
        stream.write_all(&[7; 2_000]).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    all_come_back(&server, 4, 50_000, 5_000);
    assert!(server.stop("-TERM").success());
}

#[test]
fn wrong_arguments_are_refused() {
    let mistakes = [["127.0.0.1", "--core=0"], ["127.0.0.1:0", "--buffers=3"], ["127.0.0.1:0", "--core=100000"]];
    for arguments in mistakes {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echo_limit"));
        let output = command.args(arguments).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

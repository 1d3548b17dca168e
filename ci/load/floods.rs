//! Floods against a listener that speaks TLS, beside two hundred who are inside and echo: thousands who open TCP and
//! say nothing, who say half a hello, random bytes, or a hello byte by byte.
//!
//! The attackers come at a steady rate, as many at once as `tls_handshake_timeout` lets them stay. All of them are
//! ended in time and counted by reason, nothing of them stays, and the innocents hardly wait longer than without them.
//! How long they wait is also a matter of who else uses the machine: so the quiet value is that of the same run, and a
//! flood whose innocents have waited too long is tried again. What a busy machine does by chance does not come three
//! times; what the server does, does.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::crowd::tls_client::{Issued, TLS13, TlsClient, offers, without_tickets};
use crate::peer::{names, patience, raise_file_limit, scaled, wait_for};
use crate::secured::{Dice, Innocents, Secured};

const INNOCENTS: usize = 200;
/// The p99 of the innocents in a flood, in their quiet ones.
const TIMES_QUIET: u32 = 5;
/// A quiet p99 below this (a tenth of it is usual) is that of a machine with nothing else to do, and the attackers are
/// something else, on the cores of the innocents.
const QUIET_MIN: Duration = Duration::from_millis(2);
const TRIES: usize = 3;
/// Attackers who come in a second.
const RATE: usize = 1_500;
/// How often some come, and some of those who are there are looked at: of so many portions one.
const TICK: Duration = Duration::from_millis(2);
const PORTIONS: usize = 100;
/// How long an attacker may stay: `tls_handshake_timeout` (two seconds), the grain of deadlines, and what a busy
/// machine adds.
const STAY: Duration = Duration::from_secs(5);

/// What an attacker says when.
trait Attack {
    /// What it says as soon as it is there.
    fn at_once(&self, number: usize) -> Vec<u8>;
    /// What it says a second later, and another second later, and so on.
    fn each_second(&self, _seconds: usize) -> &[u8] {
        &[]
    }
}

struct Attacker {
    stream: TcpStream,
    came: Instant,
    /// Seconds in which it has spoken.
    spoken: usize,
}

impl Attacker {
    fn new(address: SocketAddr, words: &[u8]) -> Attacker {
        let mut stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nonblocking(true).expect("O_NONBLOCK");
        stream.write_all(words).expect("the buffer of a new socket is empty");
        Attacker { stream, came: Instant::now(), spoken: 0 }
    }

    /// Says what is due. `false`: the server has ended it. Panics where it has not and should have.
    fn is_there(&mut self, attack: &impl Attack) -> bool {
        let here = self.came.elapsed();
        assert!(here < STAY * patience(1).as_secs() as u32, "an attacker is still there after {here:?}");
        if here.as_secs() as usize > self.spoken {
            let words = attack.each_second(self.spoken);
            self.spoken += 1;
            let _ = self.stream.write(words);
        }
        let mut waste = [0; 4096];
        loop {
            match self.stream.read(&mut waste) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Ok(0) | Err(_) => return false,
            }
        }
    }
}

/// As many attackers; returns when the server has ended all of them. They come and are looked at in small portions, so
/// that it is the server that keeps innocents waiting and not the work on the attackers' side.
fn flood(address: SocketAddr, attack: &impl Attack, count: usize) {
    let (begun, mut come) = (Instant::now(), 0);
    let mut here: VecDeque<Attacker> = VecDeque::new();
    while come < count || !here.is_empty() {
        let due = (begun.elapsed().as_micros() as usize * RATE / 1_000_000).min(count);
        here.extend((come..due).map(|number| Attacker::new(address, &attack.at_once(number))));
        come = due;
        for mut attacker in here.drain(..here.len().div_ceil(PORTIONS)).collect::<Vec<_>>() {
            if attacker.is_there(attack) {
                here.push_back(attacker);
            }
        }
        // The rate of the attack, not a wait for something.
        thread::sleep(TICK);
    }
}

/// Floods, and looks at the innocents; `counted` is told how many attackers there were.
fn survived(attack: &impl Attack, counted: impl Fn(&Secured, u64)) {
    let _alone = crate::alone();
    raise_file_limit();
    let issued = Issued::new();
    let secured = Secured::start(&issued, 1, 9_000, "2s");
    let offer = without_tickets(&offers(&TLS13, None, &[&issued]));
    let innocents = Innocents::start(&secured, vec![offer], INNOCENTS);
    let count = scaled(3_000, 15_000);
    let withstood = (1..=TRIES).any(|turn| {
        let _since_then = innocents.p99();
        innocents.go_on(10);
        let quiet = innocents.p99();
        flood(secured.server.address, attack, count);
        let flooded = innocents.p99();
        wait_for("nothing of the attackers stays", patience(10), || secured.left(INNOCENTS as u64)[..2] == [0; 2]);
        counted(&secured, (turn * count) as u64);
        println!("p99 of the innocents: {quiet:?} quiet, {flooded:?} in the flood");
        flooded < quiet.max(QUIET_MIN) * TIMES_QUIET
    });
    innocents.finish();
    wait_for("no byte of a queue stays", patience(10), || secured.left(0) == [0; 4]);
    assert!(withstood, "{TRIES} times the innocents have waited more than {TIMES_QUIET} times as long as before");
}

fn ended_by_handshake_timeout(secured: &Secured, count: u64) {
    assert_eq!((secured.closes("handshake_timeout"), secured.sum(names::CLOSES)), (count, count));
    assert_eq!(secured.sum(names::TLS_FAILURES), 0);
}

struct Silence;

impl Attack for Silence {
    fn at_once(&self, _: usize) -> Vec<u8> {
        Vec::new()
    }
}

#[test]
fn a_flood_that_says_nothing() {
    survived(&Silence, ended_by_handshake_timeout);
}

/// A whole hello, of which attackers say a part.
struct Hello(Vec<u8>);

impl Hello {
    fn new() -> Hello {
        let issued = Issued::new();
        Hello(TlsClient::new(&without_tickets(&offers(&TLS13, None, &[&issued]))).outgoing())
    }
}

impl Attack for Hello {
    fn at_once(&self, number: usize) -> Vec<u8> {
        self.0[..=number % (self.0.len() - 1)].to_vec()
    }
}

#[test]
fn a_flood_of_parts_of_a_hello() {
    survived(&Hello::new(), ended_by_handshake_timeout);
}

struct ByteByByte(Hello);

impl Attack for ByteByByte {
    fn at_once(&self, _: usize) -> Vec<u8> {
        self.0.0[..1].to_vec()
    }

    fn each_second(&self, seconds: usize) -> &[u8] {
        &self.0.0[seconds + 1..][..1]
    }
}

#[test]
fn a_flood_of_hellos_byte_by_byte() {
    survived(&ByteByByte(Hello::new()), ended_by_handshake_timeout);
}

/// Half of it does not look like TLS at all, half is a record with a hello that is none.
struct Junk;

const JUNK: usize = 200;

impl Attack for Junk {
    fn at_once(&self, number: usize) -> Vec<u8> {
        let mut dice = Dice(number as u64 + 1);
        let mut junk: Vec<u8> = (0..JUNK).map(|_| dice.roll() as u8).collect();
        if number.is_multiple_of(2) {
            // Above all content types of TLS, and no letter of a method of HTTP.
            junk[0] |= 0x80;
        } else {
            junk[..9].copy_from_slice(&[22, 3, 1, 0, (JUNK - 5) as u8, 1, 0, 0, (JUNK - 9) as u8]);
        }
        junk
    }
}

#[test]
fn a_flood_of_random_bytes() {
    survived(&Junk, |secured, count| {
        let reasons = ["not_tls", "malformed"];
        let failures = secured.server.metrics();
        let by_reason = reasons.map(|reason| failures.sum(names::TLS_FAILURES, &[("reason", reason)]));
        assert_eq!(by_reason, [count / 2; 2], "{} failures", secured.sum(names::TLS_FAILURES));
        assert_eq!((secured.closes("tls"), secured.sum(names::CLOSES)), (count, count));
    });
}

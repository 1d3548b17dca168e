//! Limits by address over real sockets, on two shards: two hundred addresses that come as fast as they can, and
//! fifteen thousand that come and never say a word, beside two hundred innocents who are inside and echo over TLS.
//!
//! Whoever is above the limit of its address is closed before TLS; whoever is below it and says nothing is ended by its
//! timeout. Nobody is forgotten: those who came are those who were refused, by reason, and those who were ended. How
//! long the innocents wait is compared with what they waited before, in the same run ([`crate::floods`] says why).

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::crowd::tls_client::{Issued, TLS13, offers, without_tickets};
use crate::crowd::{Crowd, Habit, Invitation, Stage};
use crate::peer::{Server, names, patience, raise_file_limit, wait_for};
use crate::secured::{Innocents, Secured};

const INNOCENTS: usize = 200;
const SHARDS: usize = 2;
/// Addresses that attack, 127.1.0.1 and on.
const ADDRESSES: u32 = 200;
/// `unauthenticated`: what each of them may have at once.
const STRANGERS: u64 = 20;
const LIMITS: &str = "{ connections = 100, connects_per_second = { rate = 20, burst = 60 }, unauthenticated = 20 }";
/// Attackers whose sockets stay open on their side at one time.
const HELD: usize = 10_000;
/// How long they come as fast as they can.
const STORM: Duration = Duration::from_secs(4);
/// Those who come and say nothing.
const SILENT: u32 = 15_000;
/// Memory that may come on top: attackers who are let in are in a handshake, and each address has its entry.
const MEMORY: u64 = 64 << 20;
/// As in [`crate::floods`].
const TIMES_QUIET: u32 = 5;
const QUIET_MIN: Duration = Duration::from_millis(2);
const TRIES: usize = 3;

const REFUSED: [&str; 3] = ["address_connections", "address_rate", "address_unauthenticated"];

/// One that connects from the address of this number.
fn connect(to: SocketAddr, number: u32) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let from = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + number % ADDRESSES);
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("an address of the loopback");
    socket.connect(&to.into()).ok()?;
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    Some(socket.into())
}

/// The server has ended it.
fn is_over(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 64]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// As many as come in this time, the oldest given up where too many are open. How many came.
fn storm(to: SocketAddr) -> u64 {
    let (begun, mut came) = (Instant::now(), 0);
    let mut held: VecDeque<TcpStream> = VecDeque::new();
    while begun.elapsed() < STORM {
        held.extend(connect(to, came));
        came += 1;
        if held.len() > HELD {
            held.pop_front();
        }
    }
    u64::from(came)
}

/// All of them stay until the server ends them.
fn silence(to: SocketAddr) -> u64 {
    let mut held: Vec<TcpStream> = (0..SILENT).map(|number| connect(to, number).expect("the server accepts")).collect();
    wait_for("all of them are ended", patience(20), || {
        held.retain_mut(|stream| !is_over(stream));
        held.is_empty()
    });
    u64::from(SILENT)
}

/// Clients that came, and what became of them: refused at the accept, and ended by time or by themselves.
fn counted(secured: &Secured) -> [u64; 3] {
    let metrics = secured.server.metrics();
    let refused = REFUSED.map(|reason| metrics.sum(names::REFUSALS, &[("reason", reason)]));
    let turned_away = metrics.sum(names::CLOSES, &[("cause", "admission")]);
    assert_eq!(refused.iter().sum::<u64>(), metrics.sum(names::REFUSALS, &[]), "no other reason");
    assert!(turned_away <= metrics.sum(names::REFUSALS, &[]));
    [metrics.sum(names::ACCEPTS, &[]), turned_away, metrics.sum(names::CLOSES, &[])]
}

/// An attack, while it is looked at how many are inside; says how the innocents fared before and in it.
fn attacked(secured: &Secured, innocents: &Innocents, attack: fn(SocketAddr) -> u64) -> (Duration, Duration) {
    let _since_then = innocents.p99();
    innocents.go_on(10);
    let quiet = innocents.p99();
    let ([before, ..], memory) = (counted(secured), secured.server.memory().rss);
    let address = secured.server.address;
    let attackers = thread::spawn(move || attack(address));
    let (mut most, mut most_memory) = (0, 0);
    while !attackers.is_finished() {
        most = most.max(secured.server.connections());
        most_memory = most_memory.max(secured.server.memory().rss);
    }
    let (came, flooded) = (attackers.join().expect("the attackers"), innocents.p99());
    wait_for("nothing of the attackers stays", patience(10), || secured.left(INNOCENTS as u64)[..2] == [0; 2]);
    let [accepts, refused, closes] = counted(secured);
    let grown = most_memory.saturating_sub(memory) >> 20;
    println!(
        "{came} came, {refused} of all refused, {most} inside at most, {grown} MiB more, p99 {quiet:?} {flooded:?}"
    );
    // Slots of attackers that are being closed are seen too.
    assert!(most <= INNOCENTS as u64 + u64::from(ADDRESSES) * STRANGERS + 2000, "{most} inside");
    assert!(most_memory < memory + MEMORY, "{grown} MiB more");
    assert!(accepts - before <= came && accepts - before > came / 2);
    assert_eq!(closes, accepts - INNOCENTS as u64, "each is ended, for some reason");
    (quiet, flooded)
}

fn withstands(attack: fn(SocketAddr) -> u64) {
    let _alone = crate::alone();
    raise_file_limit();
    let issued = Issued::new();
    let secured = Secured::start_limited(&issued, (SHARDS, 9_000), "2s", LIMITS);
    let offer = without_tickets(&offers(&TLS13, None, &[&issued]));
    let innocents = Innocents::start(&secured, vec![offer], INNOCENTS);
    let withstood = (0..TRIES).any(|_| {
        let (quiet, flooded) = attacked(&secured, &innocents, attack);
        flooded < quiet.max(QUIET_MIN) * TIMES_QUIET
    });
    innocents.finish();
    wait_for("nobody is counted any more", patience(10), || secured.sum("edgehold_tallies") == 0);
    assert_eq!(secured.sum("edgehold_tallies_uncounted_total"), 0);
    let log = secured.server.log();
    assert!(log.matches("a client is refused at the accept").count() <= SHARDS * TRIES, "one line for all of them");
    assert!(withstood, "{TRIES} times the innocents have waited more than {TIMES_QUIET} times as long as before");
}

#[test]
fn a_storm_of_connects_above_the_limit() {
    withstands(storm);
}

#[test]
fn a_crowd_that_comes_and_never_says_who_it_is() {
    withstands(silence);
}

const LISTS: &str = r#"
[server]
shards = 2
slots_per_shard = 50
admin = "{admin}"
[limits.addresses]
deny_files = "{folder}/deny.list"
[[listener]]
name = "public"
address = "{address}"
[[route]]
path = "/echo"
service = "echo"
"#;

/// Whether a client is let in now.
fn is_let_in(server: &Server) -> bool {
    let mut crowd = Crowd::new();
    let guest = Invitation { address: server.address, path: "/echo", habit: Habit::Polite };
    crowd.join(1, &guest, patience(10));
    crowd.count(Stage::Open) == 1
}

/// SIGHUP reads the lists again; a malformed one changes nothing, and the log says which line it is. Whoever is inside
/// stays, and whatever is denied and however full the shards are, the admin address answers.
#[test]
fn lists_are_read_again_and_admin_is_never_shut_out() {
    let _alone = crate::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let write = |text: &str| fs::write(folder.path().join("deny.list"), text).expect("a file");
    write("192.0.2.0/24\n");
    let server = Server::start(&LISTS.replace("{folder}", &folder.path().display().to_string()));
    let mut crowd = Crowd::new();
    let guest = Invitation { address: server.address, path: "/echo", habit: Habit::Polite };
    crowd.join(150, &guest, patience(10));
    crowd.until("those without a slot are let go", patience(10), |crowd| crowd.count(Stage::Refused) == 0);
    let inside = crowd.count(Stage::Open);
    assert!(inside >= 50, "one shard at least is full");
    let reads = |result| server.metrics().sum("edgehold_networks_reads_total", &[("result", result)]);
    write("127.0.0.0/8 # everybody\n");
    server.signal(Signal::HUP);
    wait_for("the list is read", patience(10), || reads("ok") == 2);
    assert!(!is_let_in(&server));
    assert_eq!(server.metrics().sum(names::REFUSALS, &[("reason", "network")]), 1);
    write("192.0.2.0/24\n127.0.0.1/8\n");
    server.signal(Signal::HUP);
    wait_for("the list is refused", patience(10), || reads("failed") == 1);
    assert!(server.log().contains("has in line 2: `127.0.0.1/8` has bits behind its prefix"), "{}", server.log());
    assert!(!is_let_in(&server), "the list before stays");
    assert_eq!(server.metrics().sum("edgehold_networks_refused", &[]), 1);
    let all: Vec<usize> = (0..150).filter(|&index| crowd.client(index).stage() == Stage::Open).collect();
    assert_eq!(crowd.echo_each(&all, 100, patience(10)), inside, "who is inside stays");
    assert_eq!(server.get("/readyz").expect("the admin address").status, 200);
    write("");
    server.signal(Signal::HUP);
    wait_for("the list is read", patience(10), || reads("ok") == 3);
    crowd.close(all[0], 1000);
    crowd.until("it has left", patience(10), |crowd| crowd.count(Stage::Open) == inside - 1);
    wait_for("a client is let in", patience(10), || is_let_in(&server));
}

//! Peers that are late, slow, or gone: what they were promised reaches them, and nothing of them stays behind.
//!
//! Method: a few clients by hand ([`crate::by_hand`]) and doors that open late or never. The timeouts of the server are
//! a second or two, so that a slow peer outlasts them several times, and its share of the kernel's memory is small, so
//! that what it does not take waits in the server.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

use crate::by_hand::{Caller, ShutDoor, listen_to, narrow_door, open_door, sip_all};
use crate::crowd::{BINARY, CLOSE, PING, PONG, frame};
use crate::peer::{Server, names, patience, wait_for};

const CONFIG: &str = r#"
[server]
shards = 1
slots_per_shard = 200
admin = "{admin}"
log = "warn"
unsent_bytes = "16KiB"
shutdown_grace = "60s"
[[listener]]
name = "public"
address = "{address}"
[limits]
"#;

/// A third of it is more than is kept of what a client says before it is answered; all of it is below `max_pending`,
/// so that it is not the upstream who is waited for.
const EARLY_BYTES: usize = 60_000;
/// More than four seconds of sips: twice the timeouts that must not strike.
const LONG_BYTES: usize = 900_000;
/// A file that is read in one piece.
const MEDIUM_BYTES: usize = 60_000;
const MAX_PENDING: u64 = 64 << 10;

/// Of a route where all that is said is queued at once, so that its end is known long before it is read.
const WHOLE: &str = "max_pending = \"1MiB\"";

/// A server with these limits and routes.
fn start(limits: &str, routes: &str) -> Server {
    Server::start(&[CONFIG, limits, routes].concat())
}

/// A proxy route for `path`, and further keys of it.
fn route_to(path: &str, upstream: &str, keys: &str) -> String {
    format!("\n[[route]]\npath = \"{path}\"\nservice = \"proxy\"\nupstream = \"{upstream}\"\n{keys}\n")
}

fn tcp_route(path: &str, door: &TcpListener, keys: &str) -> String {
    route_to(path, &format!("tcp://{}", door.local_addr().expect("a bound address")), keys)
}

/// Files for `path`, which ends with a slash, and further keys of the route.
fn files_route(path: &str, root: &Path, keys: &str) -> String {
    format!("\n[[route]]\npath = \"{path}\"\nservice = \"files\"\nroot = \"{}\"\n{keys}\n", root.display())
}

/// Three files for such a route.
fn site() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, content) in [("long", &long()[..]), ("medium", &long()[..MEDIUM_BYTES]), ("short", b"short\n")] {
        std::fs::write(folder.path().join(name), content).expect("a file");
    }
    folder
}

fn long() -> Vec<u8> {
    (0..LONG_BYTES).map(|at| (at % 251) as u8).collect()
}

fn gauge(server: &Server, name: &str) -> u64 {
    server.metrics().sum(name, &[])
}

fn in_state(server: &Server, state: &str, service: &str) -> u64 {
    server.metrics().sum(names::CONNECTIONS, &[("listener", "public"), ("state", state), ("service", service)])
}

/// Waits until `count` clients wait for their upstream.
fn until_called(server: &Server, count: u64) {
    wait_for("the upstream is called", patience(5), || gauge(server, names::UPSTREAM_CONNECTIONS) == count);
}

fn until_empty(server: &Server, limit: Duration) {
    wait_for("no client and no upstream is left", limit, || {
        gauge(server, names::SLOTS_USED) == 0 && gauge(server, names::UPSTREAM_CONNECTIONS) == 0
    });
}

fn until_held_back(server: &Server) {
    wait_for("somebody is held back", patience(10), || gauge(server, names::HELD_BACK) > 0);
}

// ---- before the upstream has answered ----

#[test]
fn words_before_the_answer_arrive() {
    let _together = crate::together();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let door = ShutDoor::unix(folder.path());
    let server = start("idle_timeout = \"20s\"", &route_to("/p", &door.url, "connect_timeout = \"20s\""));
    let mut caller = Caller::new(server.address);
    let words = &long()[..EARLY_BYTES];
    let said = [caller.opening("/p"), frame(BINARY, words, 1)].concat();
    let (kept, rest) = said.split_at(said.len() / 3);
    caller.say(kept);
    until_held_back(&server);
    caller.say(rest);
    let (tell, hear) = mpsc::channel();
    door.open(move |mut upstream| {
        let mut heard = vec![0; EARLY_BYTES];
        upstream.read_exact(&mut heard).expect("all of it");
        tell.send(heard).expect("the test listens");
        listen_to(upstream);
    });
    assert_eq!(caller.status(), 101);
    assert!(hear.recv_timeout(patience(5)).expect("all words arrive") == words);
}

/// Ten leave before the answer, ten behind it.
#[test]
fn who_leaves_behind_early_words_leaves_nothing() {
    let _together = crate::together();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let door = ShutDoor::unix(folder.path());
    let server = start("idle_timeout = \"2s\"", &route_to("/p", &door.url, "connect_timeout = \"20s\""));
    let call = |_| {
        let mut caller = Caller::new(server.address);
        caller.say(&[caller.opening("/p"), frame(BINARY, &vec![7; EARLY_BYTES], 1)].concat());
        caller
    };
    let mut callers: Vec<Caller> = (0..20).map(call).collect();
    until_called(&server, 20);
    callers.truncate(10);
    door.open(listen_to);
    assert!(callers.iter_mut().all(|caller| caller.status() == 101));
    drop(callers);
    until_empty(&server, patience(5));
}

/// The client's patience is over before the upstream's: neither of the two connections stays.
#[test]
fn idle_timeout_strikes_while_an_upstream_is_called() {
    let _together = crate::together();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for door in [ShutDoor::tcp(), ShutDoor::unix(folder.path())] {
        let route = route_to("/p", &door.url, "connect_timeout = \"60s\"");
        let server = start("idle_timeout = \"1s\"\nclose_timeout = \"1s\"", &route);
        let mut caller = Caller::new(server.address);
        caller.say(&caller.opening("/p"));
        until_called(&server, 1);
        let (status, words) = caller.response();
        assert!(matches!(status, 503 | 504), "{status} {}", String::from_utf8_lossy(&words));
        drop(caller);
        until_empty(&server, patience(5));
    }
}

#[test]
fn stop_while_an_upstream_is_called_that_answers_later() {
    let _together = crate::together();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for door in [ShutDoor::tcp(), ShutDoor::unix(folder.path())] {
        let mut server = start("", &route_to("/p", &door.url, "connect_timeout = \"60s\""));
        let mut caller = Caller::new(server.address);
        caller.say(&caller.opening("/p"));
        until_called(&server, 1);
        server.terminate();
        until_stopping(&server);
        door.open(listen_to);
        assert_eq!(caller.status(), 503);
        drop(caller);
        assert_eq!(server.wait_end(patience(10)).code(), Some(0));
    }
}

#[test]
fn stop_while_an_upstream_is_called_that_never_answers() {
    let _together = crate::together();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for door in [ShutDoor::tcp(), ShutDoor::unix(folder.path())] {
        let mut server = start("", &route_to("/p", &door.url, "connect_timeout = \"1s\""));
        let mut caller = Caller::new(server.address);
        caller.say(&caller.opening("/p"));
        until_called(&server, 1);
        server.terminate();
        assert_eq!(caller.status(), 503);
        drop(caller);
        assert_eq!(server.wait_end(patience(10)).code(), Some(0));
    }
}

/// A server that stops takes no new clients.
fn until_stopping(server: &Server) {
    wait_for("the listener is closed", patience(5), || TcpStream::connect(server.address).is_err());
}

/// Fifty failures together are one: a single delay follows, not the longest, which is sixteen seconds. Both doors of
/// the route are shut until all stand before them, so that the failures are together on however slow a machine.
#[test]
fn a_burst_of_refused_calls_counts_once() {
    let _together = crate::together();
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    let doors = [0, 1].map(|at| ShutDoor::unix(folders[at].path()));
    let [first, second] = [0, 1].map(|at| doors[at].url.clone());
    let route = "\n[[route]]\npath = \"/p\"\nservice = \"proxy\"\nconnect_timeout = \"60s\"\n";
    let server = start("", &format!("{route}upstream = [\"{first}\", \"{second}\"]\n"));
    let mut callers: Vec<Caller> = (0..50).map(|_| Caller::new(server.address)).collect();
    callers.iter_mut().for_each(|caller| caller.say(&caller.opening("/p")));
    let [door, last] = doors;
    wait_for("all stand before a door", patience(10), || called(&server, &first) + called(&server, &second) == 50);
    drop(door);
    wait_for("all stand before the last", patience(10), || called(&server, &second) == 50);
    drop(last);
    assert!(callers.iter_mut().all(|caller| caller.status() == 503));
    let _doors = folders.each_ref().map(|folder| open_again(folder.path()));
    wait_for("a new client is served", patience(8), || {
        let mut caller = Caller::new(server.address);
        caller.say(&caller.opening("/p"));
        caller.status() == 101
    });
}

/// Clients for whom this upstream is being called.
fn called(server: &Server, url: &str) -> u64 {
    server.metrics().sum(names::UPSTREAM_CONNECTIONS, &[("upstream", url)])
}

/// A door where a shut one was.
fn open_again(folder: &Path) -> UnixListener {
    let path = folder.join("door");
    std::fs::remove_file(&path).expect("what the shut door has left");
    UnixListener::bind(path).expect("a free path")
}

// ---- the end comes with the words ----

/// Somebody idle has been waited for since before: what a kernel lets go only behind that is heard by nobody
/// (src/engine/descriptors.rs).
#[test]
fn requests_and_fin_in_one_segment() {
    let _together = crate::together();
    let site = site();
    let page = "\n[[route]]\npath = \"/\"\nservice = \"page\"\n";
    let server = start("", &[page, &files_route("/files/", site.path(), "")].concat());
    let _idle = Caller::new(server.address);
    wait_for("the idle one is in", patience(5), || server.connections() == 1);
    for (path, status) in [("/", 200), ("/files/short", 200), ("/files/nothing", 404), ("/nothing", 404)] {
        for count in [1, 3].repeat(10) {
            let mut caller = Caller::new(server.address);
            let requests = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(count);
            caller.say_and_end(requests.as_bytes());
            (0..count).for_each(|_| assert_eq!(caller.response().0, status, "{path}"));
            caller.expect_end();
        }
    }
}

// ---- slow and steady ----

/// They take what they are sent for several times as long as any timeout, a little at a time, and get all of it.
#[test]
fn slow_and_steady() {
    let _together = crate::together();
    let (site, slow, endless) = (site(), narrow_door(), open_door());
    let limits = "close_timeout = \"2s\"\nidle_timeout = \"2s\"";
    // Its client has said all that it will: that it is silent is another matter.
    let slow_keys = format!("{WHOLE}\nidle_timeout = \"60s\"");
    let proxies = tcp_route("/slow", &slow, &slow_keys) + &tcp_route("/endless", &endless, "");
    let server = start(limits, &[files_route("/whole/", site.path(), WHOLE), proxies].concat());
    let address = server.address;
    thread::scope(|scope| {
        scope.spawn(|| the_last_response(address));
        scope.spawn(|| the_last_message(address, &slow));
        scope.spawn(|| an_endless_stream(address, &endless));
    });
}

#[track_caller]
fn expect_file(caller: &mut Caller, content: &[u8]) {
    let (status, came) = caller.response();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&came));
    assert!(came == content, "not what the file holds");
}

/// `close_timeout` does not strike at a client that reads.
fn the_last_response(address: SocketAddr) {
    let mut caller = Caller::narrow(address);
    caller.say(b"GET /whole/long HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    expect_file(&mut caller, &long());
    caller.expect_end();
}

/// Neither does it strike at an upstream that reads; the client hears its Close in any case.
fn the_last_message(address: SocketAddr, door: &TcpListener) {
    let mut caller = Caller::new(address).open("/slow");
    let (upstream, _) = door.accept().expect("the server calls");
    let mut mouth = caller.mouth();
    let words = [frame(BINARY, &long(), 5), frame(CLOSE, &1000_u16.to_be_bytes(), 6)].concat();
    let speaker = thread::spawn(move || mouth.write_all(&words).expect("the server listens"));
    let came = sip_all(&upstream);
    assert!(came == long(), "{} of {LONG_BYTES} bytes, or other ones", came.len());
    drop(upstream);
    speaker.join().expect("all is said");
    assert_eq!(caller.frame(), (CLOSE, 1000_u16.to_be_bytes().to_vec()));
    caller.expect_end();
}

/// `idle_timeout` does not strike at a client that reads and says nothing, not even a pong.
fn an_endless_stream(address: SocketAddr, door: &TcpListener) {
    let mut caller = Caller::narrow(address).open("/endless");
    let (mut upstream, _) = door.accept().expect("the server calls");
    let speaker = thread::spawn(move || while upstream.write_all(&[b'z'; 4096]).is_ok() {});
    let mut heard = 0;
    while heard < LONG_BYTES {
        assert!(caller.sip(), "{heard} bytes, then the end");
        heard += caller.swallow();
    }
    drop(caller);
    speaker.join().expect("the upstream is told");
}

/// `head_timeout` does not strike at requests that the server does not read because their client does not read.
#[test]
fn requests_behind_responses_that_are_not_read() {
    let _together = crate::together();
    let site = site();
    let limits = "head_timeout = \"1s\"\nmax_pending = \"128KiB\"";
    let server = start(limits, &files_route("/files/", site.path(), ""));
    let mut caller = Caller::narrow(server.address);
    caller.say("GET /files/medium HTTP/1.1\r\nHost: a\r\n\r\n".repeat(6).as_bytes());
    // It takes half of max_pending before the next request is read: more than two seconds at this rate.
    caller.rest *= 8;
    expect_file(&mut caller, &long()[..MEDIUM_BYTES]);
    caller.rest = Duration::ZERO;
    for _ in 1..6 {
        expect_file(&mut caller, &long()[..MEDIUM_BYTES]);
    }
}

/// A response that is queued when the server is told to stop is read to its end.
#[test]
fn stop_behind_a_queued_response() {
    let _together = crate::together();
    let site = site();
    let mut server = start("close_timeout = \"2s\"", &files_route("/whole/", site.path(), WHOLE));
    let mut caller = Caller::narrow(server.address);
    caller.say(b"GET /whole/long HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for("all of it is queued", patience(5), || in_state(&server, "head", "files") == 1);
    server.terminate();
    expect_file(&mut caller, &long());
    caller.expect_end();
    drop(caller);
    assert_eq!(server.wait_end(patience(10)).code(), Some(0));
}

// ---- who does not read ----

/// Lines of one byte take no more memory than `max_pending` and what was on its way.
#[test]
fn short_lines_for_a_client_that_does_not_read() {
    let _together = crate::together();
    let door = open_door();
    let route = tcp_route("/lines", &door, "frames = \"lines\"");
    // One turn may bring all receive buffers on top of `max_pending`, and each two bytes become three: few buffers, and
    // small ones, so that the bound is tight.
    let config = CONFIG.replace("shards = 1\n", "shards = 1\nrecv_buffers = 16\nrecv_buffer_bytes = \"4KiB\"\n");
    let server = Server::start(&[&config, "max_pending = \"64KiB\"", &route].concat());
    let _caller = Caller::narrow(server.address).open("/lines");
    let (mut upstream, _) = door.accept().expect("the server calls");
    upstream.set_nonblocking(true).expect("O_NONBLOCK");
    wait_for("the upstream is made to wait", patience(10), || {
        let outbox = gauge(&server, names::OUTBOX);
        assert!(outbox < 4 * MAX_PENDING, "{outbox} bytes of outbox for one client");
        pour(&mut upstream, &b"a\n".repeat(2000));
        gauge(&server, names::HELD_BACK) > 0 && is_full(&upstream)
    });
    let outbox = gauge(&server, names::OUTBOX);
    assert!(outbox < 4 * MAX_PENDING, "{outbox} bytes of outbox for one client");
}

/// Says it again and again, as long as there is room.
fn pour(stream: &mut TcpStream, words: &[u8]) {
    let refused = loop {
        if let Err(error) = stream.write(words) {
            break error;
        }
    };
    assert_eq!(refused.kind(), ErrorKind::WouldBlock, "{refused}");
}

fn is_full(stream: &TcpStream) -> bool {
    let mut one = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::OUT)];
    poll(&mut one, Some(&Timespec::default())).expect("poll") == 0
}

/// RFC 6455 section 5.5.3: of several pings at least the latest is answered, once the client reads again.
#[test]
fn the_latest_ping_behind_an_echo() {
    let _together = crate::together();
    let server = start("max_pending = \"64KiB\"", "\n[[route]]\npath = \"/echo\"\nservice = \"echo\"\n");
    let mut caller = Caller::narrow(server.address).open("/echo");
    let message = long();
    caller.say(&[frame(BINARY, &message, 1), frame(PING, b"first", 2), frame(PING, b"latest", 3)].concat());
    until_held_back(&server);
    assert!(caller.frame() == (BINARY, message));
    until_latest_pong(&mut caller);
}

#[test]
fn the_latest_ping_beside_an_endless_stream() {
    let _together = crate::together();
    let door = open_door();
    let server = start("max_pending = \"64KiB\"", &tcp_route("/endless", &door, ""));
    let mut caller = Caller::narrow(server.address).open("/endless");
    let (mut upstream, _) = door.accept().expect("the server calls");
    let speaker = thread::spawn(move || while upstream.write_all(&[b'z'; 4096]).is_ok() {});
    until_held_back(&server);
    let heard = || server.metrics().sum(names::BYTES, &[("peer", "client"), ("direction", "in")]);
    let (before, pings) = (heard(), [frame(PING, b"first", 2), frame(PING, b"latest", 3)].concat());
    caller.say(&pings);
    wait_for("the pings are heard", patience(5), || heard() == before + pings.len() as u64);
    until_latest_pong(&mut caller);
    drop(caller);
    speaker.join().expect("the upstream is told");
}

/// Reads until the latest ping is answered.
fn until_latest_pong(caller: &mut Caller) {
    let deadline = Instant::now() + patience(10);
    while caller.frame() != (PONG, b"latest".to_vec()) {
        assert!(Instant::now() < deadline, "the latest ping is not answered");
    }
}

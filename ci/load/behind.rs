//! What clients say behind a request that is not answered yet: little of it is kept, and none of it is lost.
//!
//! Method: each client polls a channel on which nothing comes, and says requests behind it until its kernel takes no
//! more, which it does when the server has stopped to read. Then something comes, and every request is answered.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::peer::{Server, names, patience, wait_for};

const CLIENTS: usize = 50;
/// What each would say if it were let.
const EAGER_BYTES: usize = 1 << 20;
/// What the server may keep of each: what is kept before a client is held back, and what one wake brings.
const KEPT_BYTES: u64 = 128 << 10;
/// What else may move in the server's memory meanwhile.
const SLACK_BYTES: u64 = 8 << 20;
/// SO_SNDBUF: what does not leave is not counted as said.
const SEND_BYTES: usize = 16 << 10;
/// Of one request.
const REQUEST_BYTES: usize = 1024;

const CONFIG: &str = r#"
[server]
shards = 1
slots_per_shard = 100
admin = "{admin}"
[[listener]]
name = "public"
address = "{address}"
[limits]
head_timeout = "5m"
idle_timeout = "5m"
[[feed]]
name = "http"
source = "http"
[[route]]
path = "/feed/{channel}"
service = "broadcast"
feeds = ["http"]
poll_timeout = "5m"
"#;

/// A client that has polled.
struct Eager {
    stream: TcpStream,
    said: usize,
}

impl Eager {
    fn new(server: &Server) -> Eager {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_send_buffer_size(SEND_BYTES).expect("SO_SNDBUF");
        socket.set_read_timeout(Some(patience(10))).expect("a read timeout");
        socket.connect(&server.address.into()).expect("the server accepts");
        let mut stream = TcpStream::from(socket);
        stream.write_all(b"GET /feed/quiet?after= HTTP/1.1\r\nHost: a\r\n\r\n").expect("the server listens");
        stream.set_nonblocking(true).expect("a socket that does not block");
        Eager { stream, said: 0 }
    }

    /// Says requests for nothing until no more is taken.
    fn say_more(&mut self) {
        let request = request();
        while self.said < EAGER_BYTES {
            match self.stream.write(&request[self.said % REQUEST_BYTES..]) {
                Ok(len) => self.said += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the server listens: {error}"),
            }
        }
    }

    /// Ends what it has begun, and its side; the answers to all that it has said.
    fn hear_all(mut self) -> String {
        self.stream.set_nonblocking(false).expect("a socket that blocks");
        let rest = &request()[self.said % REQUEST_BYTES..];
        self.stream.write_all(rest).expect("the server listens again");
        self.said += rest.len();
        self.stream.shutdown(Shutdown::Write).expect("FIN");
        let mut came = String::new();
        self.stream.read_to_string(&mut came).expect("answers, and FIN");
        let answers = came.matches("HTTP/1.1 404 ").count();
        assert_eq!(answers, self.said / REQUEST_BYTES, "answers to {} bytes", self.said);
        came
    }
}

fn request() -> Vec<u8> {
    let (front, end) = ("GET /nothing HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n");
    [front, &"x".repeat(REQUEST_BYTES - front.len() - end.len()), end].concat().into_bytes()
}

fn publish(server: &Server) {
    let mut stream = TcpStream::connect(server.admin).expect("the admin address");
    let (target, host) = ("/v1/publish/quiet", server.admin);
    let head =
        format!("POST {target} HTTP/1.0\r\nHost: {host}\r\nContent-Type: text/x-message\r\nContent-Length: 2\r\n\r\n");
    stream.write_all([&head, "hi"].concat().as_bytes()).expect("the admin address listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer.get(9..12), Some("200"), "{answer}");
}

fn gauge(server: &Server, name: &str) -> u64 {
    server.metrics().sum(name, &[])
}

#[test]
fn bytes_behind_an_unanswered_request_are_held_back_and_not_lost() {
    let _together = crate::together();
    let server = Server::start(CONFIG);
    let mut clients: Vec<Eager> = (0..CLIENTS).map(|_| Eager::new(&server)).collect();
    let before = server.memory().rss;
    wait_for("all are held back", patience(20), || {
        clients.iter_mut().for_each(Eager::say_more);
        gauge(&server, names::HELD_BACK) >= CLIENTS as u64
    });
    let mut said = 0;
    wait_for("no more is taken", patience(20), || {
        clients.iter_mut().for_each(Eager::say_more);
        // The scrape is answered by the same shard: it has had its turns in between.
        let kept = gauge(&server, names::OUTBOX);
        assert!(kept <= CLIENTS as u64 * KEPT_BYTES, "{kept} bytes are kept of {CLIENTS} clients");
        let so_far: usize = clients.iter().map(|client| client.said).sum();
        std::mem::replace(&mut said, so_far) == so_far
    });
    assert!(clients.iter().all(|client| client.said < EAGER_BYTES), "{said} bytes were taken");
    let grown = server.memory().rss.saturating_sub(before);
    assert!(grown <= CLIENTS as u64 * KEPT_BYTES + SLACK_BYTES, "{grown} bytes of memory for {said} bytes said");
    publish(&server);
    for client in clients {
        let came = client.hear_all();
        assert!(came.starts_with("HTTP/1.1 200 ") && came.contains("\"data\":\"hi\""), "{:?}", came.get(..300));
    }
    wait_for("nothing of them is left", patience(10), || {
        gauge(&server, names::SLOTS_USED) == 0 && gauge(&server, names::OUTBOX) == 0
    });
}

//! Several clients that hear one feed at the same time, which the scripts cannot tell: each in its own form, and each
//! with its own goodbye.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::feed::Feed;
use crate::peer::{Server, patience, wait_for};
use crate::voice::{Act, Heard, Party, Saying, hear};
use crate::words::{Part, Variables};

const SECONDS: u64 = 10;

const ROUTE: &str = "\n[[route]]\npath = \"/feed/{channel}\"\nservice = \"broadcast\"\nfeeds = [\"http\"]\n";

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A client that has asked for `/feed/a`.
struct Client(TcpStream);

impl Client {
    /// Waits until the server has counted it as the subscriber number `count`.
    fn new(server: &Server, query: &str, fields: &str, count: u32) -> Client {
        let mut stream = TcpStream::connect(server.address).expect("the server accepts");
        stream.set_read_timeout(Some(patience(SECONDS))).expect("a socket takes a timeout");
        let request = format!("GET /feed/a{query} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        stream.write_all(request.as_bytes()).expect("room for a request");
        wait_for("the client listens", patience(SECONDS), || {
            let reply = server.get("/v1/channels/a").expect("an answer");
            reply.body.contains(&format!("\"subscribers\":{count}"))
        });
        Client(stream)
    }

    /// Hears this behind the head of the answer.
    fn hears(&mut self, act: &Act) {
        let mut came = Vec::new();
        loop {
            let head = came.windows(4).position(|it| it == b"\r\n\r\n").map(|at| at + 4);
            match head.map(|head| hear(act, Party::Edge, &came[head..], &mut Variables::new())) {
                Some(Heard::Whole(..)) => return,
                Some(Heard::Wrong(problem)) => panic!("{problem}"),
                Some(Heard::More) | None => self.hear_more(&mut came),
            }
        }
    }

    fn hear_more(&mut self, came: &mut Vec<u8>) {
        let mut bytes = [0; 4096];
        let len = self.0.read(&mut bytes).expect("more comes");
        assert!(len > 0, "the end, behind {}", String::from_utf8_lossy(came));
        came.extend_from_slice(&bytes[..len]);
    }

    /// Hears a close frame with 1001 and answers it, masked with zeros; then the server ends the connection.
    fn hear_goodbye(mut self) {
        let mut came = Vec::new();
        let is_close = |it: &[u8]| it[0] == 0x88 && it[2..4] == 1001_u16.to_be_bytes();
        while !came.windows(4).any(is_close) {
            self.hear_more(&mut came);
        }
        self.0.write_all(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xe9]).expect("room for a close frame");
        self.rest();
    }

    /// All that comes until the end.
    fn rest(mut self) -> Vec<u8> {
        let mut came = Vec::new();
        self.0.read_to_end(&mut came).expect("the server ends the connection");
        came
    }
}

fn start() -> Server {
    let config = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/ci/specs/broadcast.toml"));
    Server::start(&(config.expect("a configuration") + ROUTE))
}

/// One message goes deflated to the client that takes it so, plain to the others.
#[test]
fn each_client_hears_its_own_form() {
    let server = start();
    let offer = format!("{UPGRADE}Sec-WebSocket-Extensions: permessage-deflate\r\n");
    let mut deflated = Client::new(&server, "", &offer, 1);
    let mut plain = Client::new(&server, "", UPGRADE, 2);
    let mut raw = Client::new(&server, "?transport=raw", "", 3);
    let payload = b"{\"symbol\":\"EURUSD\"},".repeat(100);
    let saying = Saying { variable: "id".into(), times: 1, payload: payload.clone(), ..Saying::default() };
    let mut variables = Variables::from([("channel".to_owned(), b"a".to_vec())]);
    Feed::of(&server).say(&saying, &mut variables).expect("a message is published");
    deflated.hears(&Act::Deflated { text: true, payload: payload.clone() });
    plain.hears(&Act::Stream { text: true, payload: payload.clone() });
    raw.hears(&Act::Chunks(vec![Part::Bytes(payload)]));
}

/// Streams end whole, WebSocket clients hear 1001, polls are answered.
#[test]
fn a_server_that_stops_says_goodbye() {
    let mut server = start();
    let events = Client::new(&server, "", "Accept: text/event-stream\r\n", 1);
    let lines = Client::new(&server, "", "", 2);
    let poll = Client::new(&server, "?after=", "", 3);
    let socket = Client::new(&server, "", UPGRADE, 4);
    server.terminate();
    assert!(events.rest().ends_with(b"\r\nretry: 3000\n\n\r\n0\r\n\r\n"), "the event stream ends whole");
    assert!(lines.rest().ends_with(b"\r\n\r\n0\r\n\r\n"), "the lines end whole");
    assert!(poll.rest().starts_with(b"HTTP/1.1 204 No Content\r\n"), "the poll is answered");
    socket.hear_goodbye();
    assert!(server.wait_end(patience(SECONDS)).success());
}

//! A server that is told to stop says goodbye to those who hear a feed, each in its own way.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::peer::{Server, patience, wait_for};

const SECONDS: u64 = 10;

const ROUTE: &str = "\n[[route]]\npath = \"/feed/{channel}\"\nservice = \"broadcast\"\nfeeds = [\"http\"]\n";

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

    /// Hears a close frame with 1001 and answers it, masked with zeros.
    fn hear_goodbye(&mut self) {
        let mut came = Vec::new();
        let is_close = |it: &[u8]| it[0] == 0x88 && it[2..4] == 1001_u16.to_be_bytes();
        while !came.windows(4).any(is_close) {
            let mut bytes = [0; 1024];
            let len = self.0.read(&mut bytes).expect("a close frame");
            assert!(len > 0, "the end without a close frame: {came:02x?}");
            came.extend_from_slice(&bytes[..len]);
        }
        self.0.write_all(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xe9]).expect("room for a close frame");
    }

    /// All that comes until the end.
    fn rest(mut self) -> Vec<u8> {
        let mut came = Vec::new();
        self.0.read_to_end(&mut came).expect("the server ends the connection");
        came
    }
}

/// Streams end whole, WebSocket clients hear 1001, polls are answered.
#[test]
fn a_server_that_stops_says_goodbye() {
    let config = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/ci/specs/broadcast.toml"));
    let mut server = Server::start(&(config.expect("a configuration") + ROUTE));
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let events = Client::new(&server, "", "Accept: text/event-stream\r\n", 1);
    let lines = Client::new(&server, "", "", 2);
    let poll = Client::new(&server, "?after=", "", 3);
    let mut socket = Client::new(&server, "", upgrade, 4);
    server.terminate();
    assert!(events.rest().ends_with(b"\r\nretry: 3000\n\n\r\n0\r\n\r\n"), "the event stream ends whole");
    assert!(lines.rest().ends_with(b"\r\n\r\n0\r\n\r\n"), "the lines end whole");
    assert!(poll.rest().starts_with(b"HTTP/1.1 204 No Content\r\n"), "the poll is answered");
    socket.hear_goodbye();
    assert!(server.wait_end(patience(SECONDS)).success());
}

//! What is spoken with the peer.

use bitflags::bitflags;
use edgehold_wire::ws::Role;

/// What is spoken with the peer. It changes with the 101 of a WebSocket opening and where a response begins and ends to
/// follow a feed; a connection begins with that of its listener or its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.x: requests and responses in turn (RFC 9112).
    Http1,
    /// WebSocket frames since the 101 (RFC 6455); the role is ours.
    WebSocket(Role),
    /// HTTP/1.x, while a response is made of what is published (`Desk::follow`): a stream without an end, or a long
    /// poll. What the client sends meanwhile is not read.
    Stream,
    /// Bytes both ways, as they come: an upstream over TCP or a unix socket.
    Raw,
}

impl Protocol {
    /// Frames, or bytes to be carried: many receives in a row. HTTP is requests, one at a time, and what is behind one
    /// that is not answered stays with the kernel.
    pub fn is_carried(self) -> bool {
        matches!(self, Protocol::WebSocket(_) | Protocol::Raw)
    }
}

bitflags! {
    /// The request that is being answered, and the responses before it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Exchange: u8 {
        /// The connection ends with the response that is being written.
        const LAST = 1;
        /// The request was a HEAD: the response has no body.
        const HEAD_ONLY = 1 << 1;
        /// HTTP/1.0: no persistent connection unless asked for.
        const HTTP10 = 1 << 2;
        /// The head of a response is queued and its end is not.
        const ANSWERING = 1 << 3;
        /// At least one request was answered on this connection.
        const REUSED = 1 << 4;
        /// The service takes the request's body; without it the body is skipped behind the response.
        const BODY_WANTED = 1 << 5;
        /// The client waits for 100 before it sends the body (RFC 9110 section 10.1.1).
        const EXPECTS = 1 << 6;
    }
}

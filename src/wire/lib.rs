//! The formats of what is sent and received: bytes into meaning and back, no I/O.
//!
//! A parser takes a slice and its own small state and returns what the bytes mean; a writer appends bytes to a buffer
//! of the caller's. There is no descriptor, clock, task or randomness here; time and keys are arguments (of a TLS
//! handshake, they come with its configuration).
//!
//! The one law: *same bytes, same result, however they are cut*. A parser may return "not whole yet" for a prefix, but
//! any other result for a prefix is also its result for the whole. No input makes it panic; nothing is allocated for a
//! frame.
//!
//! | module | format |
//! |---|---|
//! | [`status`] | HTTP status codes and their phrases |
//! | [`http1`] | request heads, content, response heads (RFC 9112) |
//! | [`forwarded`] | who a request comes from, as proxies tell it (RFC 7239, X-Forwarded-For) |
//! | [`proxy_protocol`] | the header in front of a connection, versions 1 and 2 |
//! | [`upgrade`] | the WebSocket opening handshake, both ends (RFC 6455 section 4) |
//! | [`ws`] | WebSocket frames (RFC 6455 sections 5 and 7) |
//! | [`mqtt`] | packets of MQTT 3.1, 3.1.1 and 5, both ends; topic filters |
//! | [`stomp`] | frames of STOMP 1.0, 1.1 and 1.2, both ends |
//! | [`sse`] | event streams (WHATWG HTML section 9.2) |
//! | [`deflate`] | permessage-deflate: its negotiation, messages deflated and inflated (RFC 7692) |
//! | [`tls`] | TLS records from a small state, and the handshake driven (RFC 8446, RFC 5246) |
//! | [`mask`] | masking of frame payloads (RFC 6455 section 5.3) |
//! | [`utf8`] | UTF-8 text that comes in pieces (RFC 3629) |
#![no_std]
#![deny(missing_docs)]
// No index comes from a peer's bytes unchecked: what is not there is an error of the parser, not a panic.
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::string_slice, clippy::unwrap_used, clippy::expect_used))]

extern crate alloc;

pub mod deflate;
pub mod forwarded;
pub mod http1;
pub mod mask;
pub mod mqtt;
pub mod proxy_protocol;
pub mod sse;
pub mod status;
pub mod stomp;
pub mod tls;
pub mod upgrade;
pub mod utf8;
pub mod ws;

/// One field line as [`http1::read`] fills it in, and the empty one to make its scratch of.
pub use httparse::{EMPTY_HEADER, Header};

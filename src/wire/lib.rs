//! Bytes and meaning, no I/O.
//!
//! Every module takes a slice and its own small state and says what the bytes mean, or writes bytes that mean
//! something. There is no descriptor, clock, task or randomness here; time and keys are arguments.
//!
//! The one law: *same bytes, same answer, however they are cut*. A parser may say "not yet" on a prefix, but whatever
//! it decides on a prefix it also decides on the whole. Nothing panics on any input; nothing allocates per frame.
//!
//! | module | format |
//! |---|---|
//! | [`status`] | HTTP status codes and their phrases |
//! | [`http1`] | request heads, request bodies, response heads (RFC 9112) |
//! | [`upgrade`] | the WebSocket opening, both sides (RFC 6455 section 4) |
//! | [`ws`] | WebSocket frames (RFC 6455 sections 5 and 7) |
//! | [`sse`] | event streams (WHATWG HTML section 9.2) |
//! | [`deflate`] | deflated messages (RFC 7692) |
//! | [`mask`] | masking of frame payloads (RFC 6455 section 5.3) |
//! | [`utf8`] | text that comes in pieces (RFC 3629) |
#![no_std]
#![deny(missing_docs)]
// What comes from a peer never says where to look: what is not there is an error of the parser, not a panic.
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::string_slice, clippy::unwrap_used, clippy::expect_used))]

extern crate alloc;

pub mod deflate;
pub mod http1;
pub mod mask;
pub mod sse;
pub mod status;
pub mod upgrade;
pub mod utf8;
pub mod ws;

/// One header line as [`http1::read`] fills it in, and the empty one for the caller's scratch.
pub use httparse::{EMPTY_HEADER, Header};

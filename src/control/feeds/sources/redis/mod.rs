//! `redis://`, `rediss://`: channels and streams of a Redis server.

mod channels;
mod connection;
mod streams;

pub(in crate::control::feeds) use channels::Channels;
pub(in crate::control::feeds) use streams::Streams;

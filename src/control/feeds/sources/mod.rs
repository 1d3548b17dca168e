//! The kinds of sources: byte streams (`tcp`, `listen`, with what they share in `stream`), datagrams (`udp`), brokers
//! (`nats`, `mqtt`, `redis`), and the built-in `demo`. Requests to the admin address are no task: see `admin::publish`.

pub(super) mod demo;
pub(super) mod listen;
pub(super) mod mqtt;
pub(super) mod nats;
pub(super) mod redis;
mod stream;
pub(super) mod tcp;
pub(super) mod udp;

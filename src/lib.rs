//! edgehold holds WebSocket clients at the edge and carries them to a real back end.
//!
//! The rooms, from the ground up; a room imports only rooms below it:
//!
//! - [`edgehold_wire`]: bytes and meaning, no I/O (its own package, `src/wire`)
//! - [`engine`]: the kernel, no meaning
//! - [`mesh`]: letters, all that shards and the control thread say to each other
//! - [`shard`]: one core's loop: slots, connections, outboxes, deadlines
//! - [`service`]: what the edge does for a client, on the shard
//! - [`control`]: the few slow things, on one thread
//! - [`app`]: configuration, command line, start and stop

pub mod app;
pub mod control;
pub mod engine;
pub mod mesh;
pub mod service;
pub mod shard;

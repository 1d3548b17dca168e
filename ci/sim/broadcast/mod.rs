//! The broadcast service of a whole shard under the scripted kernel, held against a model of what each listener is
//! due.
//!
//! A play has a *house* (feeds that keep this much, routes of every policy), a *history* (all that was published,
//! in its order) and listeners of every transport that come, read at their own pace, stall, leave in every manner
//! and come back with an id. Each connection has an *ear*, the model: which messages it may hear, which it must,
//! and what excuses a missing one. Messages carry their own sequence, so that the ear need not believe the
//! envelope.
//!
//! The play publishes only as long as those who never stall keep up, for the scripted network may be slower than
//! any limit. So whoever never stalled may lose nothing and may not be closed, whatever the seed.

mod feeds;
mod house;
mod judge;
mod listener;
mod play;
mod reader;
mod request;

pub use play::Play;

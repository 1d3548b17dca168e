//! The broadcast service of a whole shard under the scripted kernel, held against a model of what each subscriber is
//! due.
//!
//! A play has a *setup* (feeds that keep this much, routes of every policy), a *history* (all that was published,
//! in order of sequence) and subscribers of every transport that connect, read at their own pace, stall, disconnect in
//! every manner and resume with an id. Each connection has a *model*: which messages it may receive, which it must, and
//! what excuses a missing one. Messages carry their own sequence, so that the model need not believe the envelope.
//!
//! The play publishes only as long as subscribers that never stall keep up, for the scripted network may be slower than
//! any limit. So a subscriber that never stalled may lose nothing and may not be closed, whatever the seed.

mod feeds;
mod model;
mod play;
mod reader;
mod request;
mod setup;
mod subscriber;

pub use play::Play;

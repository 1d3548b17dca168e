//! Letters: all that shards and the control thread tell each other.
//!
//! A letter is plain data. Each ordered pair of threads that talk has a mailbox (`mailbox.rs`, `peers.rs`); a reader
//! that sleeps is woken by an eventfd (`waker.rs`). What is shared without a letter is here as well: whether upstreams
//! answer (`health.rs`), how many connections each client has (`tallies.rs`; `networks.rs` says which may come at all),
//! messages that go to many clients (`message.rs`), who clients are (`identity.rs`) and how that is remembered
//! (`memory.rs`), and TLS (`tls.rs`; `tls_errors.rs` says why it failed, `x509` what certificates say).

mod counters;
mod health;
pub mod identity;
mod letters;
mod mailbox;
mod memory;
mod message;
mod networks;
mod numbered;
mod peers;
mod services;
mod tallies;
#[cfg(test)]
mod tallies_tests;
mod tls;
pub(crate) mod tls_errors;
mod waker;
pub mod x509;
mod zeroed;

// The atomics of the waker and the tallies: ci/loom gives them others.
use std::sync::atomic;

pub use counters::{Cause, Counters, HandshakeStage, OffloadKind, OffloadRefused, Refused, Stage, UpstreamCounters};
pub use health::{Health, is_up};
pub use identity::{Answer, Credentials, Denial, Denied, Identity, Question, Secret, WORD_BYTES, WORDS};
pub use letters::{
    ChannelKey, ChannelState, Granted, Missed, Report, ShardLetter, ShardNote, ShardNumber, SubscriberCounts,
    SubscribersQuery, ToControl, ToShard, TopicNews, TopicRequest, TopicState, Wanted,
};
pub use mailbox::{Receiver, Sender, mailbox, mailbox_bytes};
pub use memory::{Fingerprint, Memory, keyed_hasher};
pub use message::{Body, FeedNumber, Form, Frame, Message, NewMessage, PlainFrame, epoch_of, id, sequence_of};
pub use networks::{LineFault, Listed, Lists, Network, Networks, lowest, read_list};
pub use numbered::Numbered;
pub use peers::{PeerReceivers, PeerSenders, Peers, ShardLetters, peers, peers_bytes};
pub use services::ServiceKind;
pub(crate) use services::services;
pub use tallies::{CONNECTIONS_MAX, Entered, Entry, Excess, Key, Meter, Most, Place, Rate, Tallies};
pub use tls::{ListenerTls, UpstreamTls};
pub use waker::{Asleep, Waker};

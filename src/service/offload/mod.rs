//! What the services `stomp` and `mqtt` have in common: many clients, a handful of sessions with a broker.
//!
//! ```text
//!              subscribe                first, last       subscription
//!   client ──────────────▶ fan-out log ────────────▶ topics ──letter──▶ control ──────────▶ broker
//!   client ◀── shared bytes ── fan-out ◀───────────── letter ◀── publishing ◀── message ◀──┘
//!   client ──publish, queues──▶ session of the shard (callers) ──────────────────────────▶ broker
//! ```
//!
//! Shared topics: `topics.rs` counts what a shard's clients want, and asks the control thread, which has one session
//! for the whole edge. Everything else goes over sessions of the shard itself, whose connections `callers.rs` makes.
//! `plan.rs` is what a route says of both, `bounds.rs` its limits, `patterns.rs` what its patterns mean, `stamp.rs`
//! what brokers are told of publishers; `held.rs` counts what clients have a shard keep, `holds.rs` is why one is not
//! read; `sessions.rs` is what sessions of both protocols have in common, `attempts.rs` and `beats.rs` when they are
//! looked at, and tried again.

mod attempts;
mod beats;
mod bounds;
mod callers;
mod held;
mod holds;
mod patterns;
mod plan;
mod sessions;
mod stamp;
mod topics;

pub use attempts::Attempts;
pub use beats::Beats;
pub use bounds::Bounds;
pub(super) use callers::Callee;
pub use callers::Callers;
pub(super) use held::Held;
pub use holds::Holds;
pub use patterns::{Pattern, Rule, Syntax};
pub(super) use patterns::{any, may};
pub use plan::{ASKED_TICKS, BrokerCredentials, Missed, OffloadPlan, OffloadSettings, PrivateWhen, WhileDown};
pub use sessions::{SessionId, Sessions, Stage, Submitted};
pub use stamp::Stamp;
pub(super) use topics::{Topics, Wanted};

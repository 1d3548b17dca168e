//! The door between a shard and its services: the trait that a service is, and the desk that it is handed.
//!
//! A service is told what happens to its connections and answers through the desk. Nothing at the desk waits,
//! and nothing calls back into the service: what is asked is written down and done before the turn ends.

use super::slab::Handle;
use crate::mesh::{Cause, ToShard};
use edgehold_wire::http1::Head;
use edgehold_wire::ws::CloseCode;

pub use super::batches::{Batch, Payload};
pub use super::desk::{Backpressure, Desk, Offer};
pub use super::limits::{Deflate, RouteLimits, ShardSettings};
pub use crate::engine::Address;

/// What an edge does for a client, on the shard.
///
/// A connection is the service's from [`Desk::take`] until [`Service::closed`]; between them the service
/// knows it by its own token.
pub trait Service {
    /// A request head has come. The service answers, or takes the connection and answers later.
    fn open(&mut self, desk: &mut Desk, who: Handle, head: &Head<'_, '_>);
    /// The peer has said something.
    fn frame(&mut self, desk: &mut Desk, who: Handle, token: u32, frame: Frame<'_>);
    /// The upstream has answered the call.
    fn dialed(&mut self, desk: &mut Desk, who: Handle, token: u32);
    /// Less than half of `max_pending` is queued, after [`Backpressure::Full`].
    fn writable(&mut self, desk: &mut Desk, who: Handle, token: u32);
    /// The connection is gone; its handle and its token mean nothing from now on.
    fn closed(&mut self, desk: &mut Desk, who: Handle, token: u32, cause: Cause);
    /// A letter from the control thread.
    fn letter(&mut self, desk: &mut Desk, letter: ToShard);
    /// The connection follows ([`Desk::follow`]) and nothing is queued for it: what comes next, if anything.
    fn more(&mut self, desk: &mut Desk, who: Handle, token: u32, batch: &mut Batch);
    /// A stream was quiet for `keep_alive`: something may be said that keeps the road open.
    fn quiet(&mut self, desk: &mut Desk, who: Handle, token: u32);
    /// Once a turn, behind the completions: what the service has begun and not finished, at most `budget` steps of it.
    /// How many steps were done; none: there is nothing left.
    fn turn(&mut self, desk: &mut Desk, budget: u32) -> u32;
    /// The server is stopping: the client is to be bidden farewell.
    fn drain(&mut self, desk: &mut Desk, who: Handle, token: u32);
}

/// What a peer says.
#[derive(Debug)]
pub enum Frame<'b> {
    /// A piece of a WebSocket message.
    Piece {
        /// Text, checked to be UTF-8 so far; else binary.
        text: bool,
        /// The message begins here.
        first: bool,
        /// The message ends here.
        last: bool,
        /// The bytes.
        payload: &'b [u8],
    },
    /// Bytes of an upstream.
    Bytes(&'b [u8]),
    /// Nothing more will come: a client's Close frame with its code, an upstream's FIN.
    End(Option<CloseCode>),
}

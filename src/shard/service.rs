//! What a shard asks of its services, and what it tells them.
//!
//! A service is told what happens to its connections and answers through the desk. Nothing at the desk waits, and
//! nothing there calls back into a service: what is asked is written down and done before the turn ends.

use super::slab::Handle;
use crate::mesh::{Cause, Denied, ToShard};
use edgehold_wire::http1::Head;
use edgehold_wire::ws::CloseCode;

pub use super::addresses::{AddressRules, ProxyProtocol};
pub use super::admission::{AddressLimits, Admission};
pub use super::batches::{Batch, Payload};
pub use super::desk::{Backpressure, Desk, Dial, Offer};
pub use super::files::{FileEvent, Part, Span};
pub use super::limits::{Deflate, Generation, RouteLimits, ShardSettings};
pub use super::shares::{Share, Shares};
pub use crate::engine::{Address, FileId, FileKind, FileStat, Opening};

/// All services of a shard, behind one door.
///
/// A connection is a service's from [`Desk::take`] (or [`Verdict::Wait`]) until [`Event::Closed`]; between them the
/// service knows it by its own token.
pub trait Services {
    /// What is exchanged of their settings while they run, for all shards alike.
    type Settings: Send + Sync + 'static;
    /// A request head has come, and nothing of its body. A service answers it, or takes the connection and answers
    /// later. Called again with the same head after [`Verdict::Wait`].
    fn request(&mut self, desk: &mut Desk<'_>, who: Handle, head: &Head<'_, '_>) -> Verdict;
    /// The first bytes have come of a client at a listener without HTTP ([`ShardSettings::bare`]). A service takes it
    /// ([`Desk::take`]), and is told [`Event::Bytes`]; where none does, it is cut.
    fn begin(&mut self, _desk: &mut Desk<'_>, _who: Handle) {}
    /// Something has happened to a connection that is owned.
    fn event(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, event: Event<'_>);
    /// What became of something that a service asked about a file, under its token. Nobody's connection need be there
    /// any more. None of those who ask nothing.
    fn file(&mut self, _desk: &mut Desk<'_>, _token: u32, _event: FileEvent) {}
    /// These settings are in force from now on. A connection keeps the numbers that it goes by.
    fn exchange(&mut self, desk: &mut Desk<'_>, settings: &Self::Settings);
    /// How many things are held that these settings do not have any more.
    fn held(&self) -> usize;
    /// A letter of the control thread has come, or of a service of another shard ([`ToShard::Shard`]).
    fn letter(&mut self, desk: &mut Desk<'_>, letter: ToShard);
    /// Once a turn, behind the completions: what services have begun and not finished, at most `budget` steps of it.
    /// How many steps were done; none: there is nothing left.
    fn poll(&mut self, desk: &mut Desk<'_>, budget: u32) -> u32;
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It was answered, or its connection was taken.
    Served,
    /// What is to become of it is not known yet. The head is kept, nothing behind it is read, and the service owns the
    /// connection by this token until it calls [`Desk::decide`]; then the request comes again. Where it does not within
    /// `idle_timeout` the client is told 504.
    Wait(u32),
}

/// What happens to a connection of a service.
pub enum Event<'b> {
    /// A piece of a WebSocket message.
    Message {
        /// Text, checked to be UTF-8 so far; else binary.
        text: bool,
        /// The message begins here.
        first: bool,
        /// The message ends here.
        last: bool,
        /// The bytes.
        payload: &'b [u8],
    },
    /// A piece of the request's body, never empty: after [`Desk::want_body`].
    Body(&'b [u8]),
    /// The body has ended.
    BodyEnd,
    /// Bytes of an upstream, or of a client without HTTP, whose protocol is
    /// [`Protocol::Raw`](super::conn::Protocol::Raw).
    Bytes(&'b [u8]),
    /// The upstream that was called has accepted ([`Desk::dial`]).
    Connected,
    /// Less than half of `max_pending` is queued, after [`Backpressure::Full`].
    Writable,
    /// The connection follows ([`Desk::follow`]) and nothing is queued for it: what comes next, if anything.
    Fill(&'b mut Batch),
    /// Nothing was sent on a stream for `keep_alive`: something may be sent that keeps the connection open in between.
    KeepAlive,
    /// The client's Close frame, with its code.
    Close(Option<CloseCode>),
    /// The FIN of an upstream, or of a client without HTTP.
    Fin,
    /// Credentials that the client has shown on its open connection ([`Desk::present`]) were taken, or why not.
    Authenticated(Result<(), Denied>),
    /// The server is stopping: the client is to be sent away.
    Drain,
    /// The connection is gone; its handle and its token mean nothing from now on.
    Closed(Cause),
}

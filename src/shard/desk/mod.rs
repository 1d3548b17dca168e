//! The desk: all that a service may ask of its shard, in a file for each concern.
//!
//! What is asked here is written down in the connection, in its outbox and on the list of connections to be reconciled
//! before the turn ends. Nothing at the desk waits, and nothing here calls the kernel or a service.

mod follow;
mod http;
mod upstream;
mod websocket;

pub use follow::Offer;
pub use upstream::Dial;

use super::conn::{Flags, Hold, Peer};
use super::core::Core;
use super::limits::RouteLimits;
use super::slab::Handle;
use super::work::RECORD;
use crate::mesh::x509::ClientCertificate;
use crate::mesh::{Cause, Counters, Credentials, Identity, ServiceKind, ShardLetter, ShardNumber, ToControl};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What became of something that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backpressure {
    /// Queued.
    Ready,
    /// Queued, and more than `max_pending` now is: queue no more until `Event::Writable`.
    Full,
    /// Thrown away: the connection is ending.
    Gone,
}

/// All that a service sees of a shard: borrowed for one call.
///
/// A handle of a connection that is gone is never an error: what is asked for it has no effect, and what is read of it
/// is what holds for none.
pub struct Desk<'c> {
    pub(super) core: &'c mut Core,
}

impl Desk<'_> {
    // ---- what is known ----

    /// Number of the listener that the client came through.
    pub fn listener(&self, who: Handle) -> usize {
        self.core.slab.get(who).map_or(0, |conn| usize::from(conn.origin))
    }

    /// Who serves this connection.
    pub fn kind(&self, who: Handle) -> ServiceKind {
        self.core.slab.get(who).map_or(ServiceKind::None, |conn| conn.service)
    }

    /// The tick of this turn: quarters of a second since the shard began.
    pub fn now(&self) -> u32 {
        self.core.clock.now()
    }

    /// The time of day of this turn, in seconds since 1970.
    pub fn unix(&self) -> u64 {
        self.core.clock.unix()
    }

    /// What the service knows this connection by, while it is the service's.
    pub fn token(&self, who: Handle) -> Option<u32> {
        self.core.slab.get(who).filter(|conn| conn.flags.contains(Flags::OWNED)).map(|conn| conn.token)
    }

    /// The client's address: as a trusted proxy has told for its latest request (`trusted_proxies`), else as its PROXY
    /// header has, else that of its socket; of one that is gone, and at a unix socket, `[::]:0`.
    pub fn peer(&self, who: Handle) -> SocketAddr {
        self.core.slab.get(who).map_or_else(Peer::default, |conn| conn.peer).address()
    }

    /// The other end of the client's socket: where that is a proxy, not the client.
    pub fn socket_peer(&self, who: Handle) -> SocketAddr {
        let Some(conn) = self.core.slab.get(who) else { return Peer::default().address() };
        self.core.side.told(conn.side).map_or(conn.peer, |told| told.socket).address()
    }

    /// Where the client has connected to: as its PROXY header says, else the address of its listener, which may be one
    /// that stands for all (`0.0.0.0`). `None`: a unix socket, or a client that is gone.
    pub fn destination(&self, who: Handle) -> Option<SocketAddr> {
        let conn = self.core.slab.get(who)?;
        let told = self.core.side.told(conn.side).and_then(|told| told.destination);
        told.or_else(|| self.core.addresses.rules(conn.origin)?.address)
    }

    /// The prefix of the client's address that is counted as one (`addresses.ipv4_prefix`, `ipv6_prefix`); `None`: it
    /// has no address.
    pub fn peer_prefix(&self, who: Handle) -> Option<IpAddr> {
        self.core.slab.get(who).and_then(|_| self.core.prefix_of(who.slot))
    }

    /// Whom the client's certificate names, which was verified in the handshake; `None`: it has shown none, or one that
    /// cannot be read, or its listener asks for none (`tls.client`). It is the same for as long as the connection is
    /// there. Where [`ClientCertificate::is_whole`] is false some of its names are not known.
    pub fn client_certificate(&self, who: Handle) -> Option<&ClientCertificate> {
        self.core.side.certificate(self.core.slab.get(who)?.side)
    }

    /// Who the client is; `None`: nobody was asked.
    pub fn identity(&self, who: Handle) -> Option<&Arc<Identity>> {
        self.core.slab.get(who).and_then(|_| self.core.identities.get(who.slot))
    }

    /// Who the client is, from now on and until its connection ends or this is called again. A connection that lasts
    /// ends with the identity ([`Identity::expires`]).
    pub fn identify(&mut self, who: Handle, identity: Option<Arc<Identity>>) {
        if self.core.slab.get(who).is_none() {
            return;
        }
        let lasts = identity.is_some();
        self.core.identify(who.slot, identity);
        if lasts {
            self.core.watch(who.slot);
        }
    }

    /// The client has shown credentials on its open connection, its first ones or new ones: what becomes of them its
    /// service is told by [`Event::Authenticated`](crate::shard::service::Event::Authenticated).
    pub fn present(&mut self, who: Handle, credentials: Credentials) {
        self.core.due.presented.push((who, credentials));
    }

    /// Credentials that were shown and not seen to yet.
    pub fn take_presented(&mut self) -> Option<(Handle, Credentials)> {
        self.core.due.presented.pop()
    }

    /// The number of the limits that a connection goes by.
    pub fn limits_number(&self, who: Handle) -> Option<u16> {
        self.core.slab.get(who).map(|conn| conn.limits)
    }

    /// The client has come by TLS.
    pub fn is_secure(&self, who: Handle) -> bool {
        self.core.slab.get(who).is_some_and(|conn| conn.flags.contains(Flags::TLS))
    }

    /// The version of TLS that the client speaks, `TLSv1.3`; `None`: none.
    pub fn tls_version(&self, who: Handle) -> Option<&'static str> {
        self.core.slab.get(who).and_then(|_| self.core.tls.version(who.slot))
    }

    /// Connections that the shard may hold.
    pub fn slots(&self) -> u32 {
        self.core.slots
    }

    /// Which shard this is.
    pub fn shard(&self) -> usize {
        self.core.shard
    }

    /// The limits of this connection's route.
    pub fn limits(&self, who: Handle) -> &RouteLimits {
        self.core.limits_of(who)
    }

    /// The shard's counters.
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.core.counters
    }

    /// The server is stopping.
    pub fn is_draining(&self) -> bool {
        self.core.draining
    }

    // ---- flow ----

    /// Nothing more of this peer is wanted for now.
    pub fn pause(&mut self, who: Handle) {
        let Some(conn) = self.core.slab.get_mut(who) else { return };
        if !conn.hold.contains(Hold::SERVICE) {
            conn.hold.insert(Hold::SERVICE);
            self.core.counters.held_back += 1;
            self.core.watch(who.slot);
            self.core.list(who.slot);
        }
    }

    /// More of this peer is wanted again: first of all what waits in its spill.
    pub fn resume(&mut self, who: Handle) {
        let now = self.core.clock.now();
        let Some(conn) = self.core.slab.get_mut(who) else { return };
        if conn.hold.contains(Hold::SERVICE) {
            conn.hold.remove(Hold::SERVICE);
            conn.flags.insert(Flags::UNREAD);
            conn.last_received = now;
            self.core.watch(who.slot);
            self.core.list(who.slot);
        }
    }

    /// What became of what was queued last.
    pub fn backpressure_of(&self, who: Handle) -> Backpressure {
        match self.core.slab.get(who).filter(|conn| conn.can_send()) {
            None => Backpressure::Gone,
            Some(conn) if conn.flags.contains(Flags::FULL) => Backpressure::Full,
            Some(_) => Backpressure::Ready,
        }
    }

    /// Bytes to an upstream, or of a response's body.
    pub fn write(&mut self, who: Handle, bytes: &[u8]) -> Backpressure {
        self.core.write_parts(who, [bytes, b""])
    }

    /// Charges the turn for so many records of a service that were looked at, beyond the weight of a letter.
    pub fn charge(&mut self, records: usize) {
        self.core.work.add(RECORD * records as u64);
    }

    /// Posts a letter to another shard, whose service of that kind gets it by `Services::letter`. Letters to one shard
    /// arrive in the order in which they were posted, each once.
    ///
    /// # Errors
    /// The mailbox is full, or there is no other shard of that number: the letter comes back, to be tried again in a
    /// later turn.
    pub fn post_to_shard(&mut self, to: ShardNumber, letter: ShardLetter) -> Result<(), ShardLetter> {
        let posted = self.core.peers.post(to, letter);
        self.core.counters.shard_letters_refused += u64::from(posted.is_err());
        posted
    }

    /// Posts a letter to the control thread. `false`: the box is full.
    pub fn post(&mut self, letter: ToControl) -> bool {
        let posted = self.core.to_control.post(letter).is_ok();
        self.core.counters.letters_refused += u64::from(!posted);
        posted
    }

    /// The connection ends now; what is queued is lost.
    pub fn cut(&mut self, who: Handle, cause: Cause) {
        self.core.cut(who, cause);
    }
}

//! A connection: one fixed-size record in the slab.
//!
//! What it waits for is its [`State`], what is spoken with the peer its [`Protocol`], what has become of either
//! direction its [`ReadEnd`] and [`WriteEnd`], why nothing is received for now its [`Hold`], what is being sent its
//! [`Sending`]; [`Held`] is what the kernel holds. `reconcile.rs` asks the kernel for the difference.

mod io;
mod protocol;
mod state;

pub use io::{Hold, ReadEnd, ReadEvent, Sending, WriteEnd};
pub use protocol::{Exchange, Protocol};
pub use state::{State, StateEvent};

use super::outbox::Outbox;
use crate::mesh::{Cause, ServiceKind, Stage};
use bitflags::bitflags;
use edgehold_wire::ws;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

bitflags! {
    /// Operations that the kernel holds of a slot: set when the submission is queued, cleared by the last
    /// completion that bears its tag.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Held: u8 {
        /// An accept into the slot.
        const ACCEPT = 1;
        /// A connect.
        const CONNECT = 1 << 1;
        /// A multishot recv.
        const RECV = 1 << 2;
        /// A recv that does not wait.
        const ONCE = 1 << 3;
        /// A multishot poll.
        const POLL = 1 << 4;
        /// A send.
        const SEND = 1 << 5;
        /// A shutdown.
        const SHUTDOWN = 1 << 6;
        /// A close.
        const CLOSE = 1 << 7;
    }
}

bitflags! {
    /// What else is true of a connection.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Flags: u16 {
        /// We connected: an upstream. Without it, a client that was accepted.
        const UPSTREAM = 1;
        /// On the shard's list of connections to be reconciled before the turn ends.
        const LISTED = 1 << 1;
        /// More than `max_pending` is queued; the service is to be told when it is below half.
        const FULL = 1 << 2;
        /// A Close frame is queued or sent.
        const CLOSE_SENT = 1 << 3;
        /// The peer's Close frame was received.
        const CLOSE_RECEIVED = 1 << 4;
        /// What the peer sends is read and thrown away.
        const DISCARDS = 1 << 5;
        /// A ping is out and nothing was received since.
        const PINGED = 1 << 6;
        /// In a spare slot: it is told 503 and closed.
        const SPARE = 1 << 7;
        /// The spill holds bytes that can be read now.
        const UNREAD = 1 << 8;
        /// A service holds a token for this connection and is to be told of its end.
        const OWNED = 1 << 9;
        /// Counted in the gauges as `stage`.
        const COUNTED = 1 << 10;
        /// When nothing is queued its service is asked for what comes next.
        const FOLLOWS = 1 << 11;
        /// It follows, and there is something for it that it has not been sent.
        const OFFERED = 1 << 12;
        /// permessage-deflate was agreed on; what is not usual about it is a `Kept` in the side table.
        const DEFLATE = 1 << 13;
        /// TLS is spoken: what the kernel has is ciphertext.
        const TLS = 1 << 14;
    }
}

/// The address of a client, IPv4 mapped into IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    address: [u8; 16],
    port: u16,
}

impl Peer {
    /// `None`: a unix socket, which has no address worth showing.
    pub fn new(address: Option<SocketAddr>) -> Peer {
        let Some(address) = address else { return Peer::default() };
        let octets = match address.ip() {
            IpAddr::V4(it) => it.to_ipv6_mapped().octets(),
            IpAddr::V6(it) => it.octets(),
        };
        Peer { address: octets, port: address.port() }
    }

    /// It has none: a unix socket.
    pub fn is_unnamed(&self) -> bool {
        *self == Peer::default()
    }

    /// The address again; IPv4 as IPv4.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::from(self.address)).to_canonical(), self.port)
    }
}

/// One connection. The first cache line is what every frame touches.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Conn {
    /// Counts the uses of the slot, modulo 2²⁴.
    pub generation: u32,
    /// What else is true.
    pub flags: Flags,
    /// The request that is being answered.
    pub exchange: Exchange,
    /// Why nothing is received for now.
    pub hold: Hold,
    /// What it waits for.
    pub state: State,
    /// What the kernel holds.
    pub held: Held,
    /// Of that, what was asked to end.
    pub cancelled: Held,
    /// Who serves it.
    pub service: ServiceKind,
    /// What is spoken.
    pub protocol: Protocol,
    /// What the peer sends.
    pub read: ReadEnd,
    /// What we send.
    pub write: WriteEnd,
    /// Why it ends, once that is known.
    pub cause: Option<Cause>,
    /// The tick in which something was last received.
    pub last_received: u32,
    /// What the service knows it by; the next free slot while it is free.
    pub token: u32,
    /// Cold state beside the slab; [`NO_SIDE`] for most.
    pub side: u32,
    /// Number of the limits that hold for it.
    pub limits: u16,
    /// Number of the listener that it came by, or of the upstream that it goes to.
    pub origin: u16,
    /// Where the peer's frames stand.
    pub parser: ws::Parser,

    /// What is queued for the peer.
    pub out: Outbox,
    /// The tick from which the state's own deadline counts.
    pub since: u32,
    /// What is being sent.
    pub sending: Sending,
    /// Who it is.
    pub peer: Peer,
    /// How it is counted in the gauges.
    pub stage: Stage,
    /// How the gauges know its service.
    pub counted_service: ServiceKind,
}

/// No cold state.
pub const NO_SIDE: u32 = u32::MAX;

const _: () = assert!(size_of::<Conn>() <= 128, "Conn must fit two cache lines");
const _: () = assert!(std::mem::offset_of!(Conn, out) <= 64, "what every frame touches must fit one cache line");

impl Conn {
    /// A slot's first state, and the state to which it returns. The generation is kept.
    pub fn free(generation: u32) -> Conn {
        Conn {
            generation,
            flags: Flags::empty(),
            exchange: Exchange::empty(),
            hold: Hold::empty(),
            state: State::Free,
            held: Held::empty(),
            cancelled: Held::empty(),
            service: ServiceKind::None,
            protocol: Protocol::Http1,
            read: ReadEnd::Receiving,
            write: WriteEnd::Open,
            cause: None,
            last_received: 0,
            token: 0,
            side: NO_SIDE,
            limits: 0,
            origin: 0,
            parser: ws::Parser::new(),
            out: Outbox::EMPTY,
            since: 0,
            sending: Sending::Idle,
            peer: Peer::default(),
            stage: Stage::Head,
            counted_service: ServiceKind::None,
        }
    }

    /// Follows the table of states.
    ///
    /// # Panics
    /// The table does not know the event in this state: a fault of ours, for which the connection is closed
    /// (`guard.rs`).
    pub fn step(&mut self, event: StateEvent) {
        match self.state.after(event) {
            Some(state) => self.state = state,
            None => panic!("{event:?} in {:?}", self.state),
        }
    }

    /// Follows the table of read ends. Whether anything changed.
    pub fn step_read(&mut self, event: ReadEvent) -> bool {
        let after = self.read.after(event);
        std::mem::replace(&mut self.read, after) != after
    }

    /// Remembers why it ends; the first cause counts.
    pub fn set_cause(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
    }

    // ---- what is spoken ----

    /// WebSocket frames are spoken.
    pub fn is_websocket(&self) -> bool {
        matches!(self.protocol, Protocol::WebSocket(_))
    }

    /// A response is made of what is published.
    pub fn is_stream(&self) -> bool {
        self.protocol == Protocol::Stream
    }

    /// A client is served on it without an end of its own: a stream, or bytes from the first on.
    pub fn lasts(&self) -> bool {
        self.is_stream() || self.protocol == Protocol::Raw && !self.is_upstream()
    }

    /// We connected.
    pub fn is_upstream(&self) -> bool {
        self.flags.contains(Flags::UPSTREAM)
    }

    // ---- the write end ----

    /// More may be queued for the peer.
    pub fn can_send(&self) -> bool {
        self.state == State::Open && !self.flags.contains(Flags::CLOSE_SENT)
    }

    /// Something is queued or being sent.
    pub fn has_unsent(&self) -> bool {
        self.out.pending() > 0 || self.sending != Sending::Idle
    }

    /// One side at least has sent its end: a Close frame was received, or FIN is due.
    pub fn is_ending(&self) -> bool {
        self.flags.contains(Flags::CLOSE_RECEIVED) || self.write != WriteEnd::Open
    }

    // ---- the read end ----

    /// What comes from the peer is wanted, now or later.
    pub fn accepts_input(&self) -> bool {
        self.reads() && !self.read.has_ended()
    }

    /// What was received may still be read.
    pub fn reads(&self) -> bool {
        matches!(self.state, State::Preface | State::Handshake | State::Head | State::Open | State::Closing)
    }

    /// What comes from the peer is not wanted for now.
    pub fn is_held_back(&self) -> bool {
        !self.hold.is_empty()
    }

    /// What comes from the peer is wanted now.
    pub fn wants_input(&self) -> bool {
        self.accepts_input() && !self.is_held_back()
    }

    /// What is received is thrown away.
    pub fn discards(&self) -> bool {
        self.flags.contains(Flags::DISCARDS)
    }

    /// Its end, when it comes, changes nothing before what is in the spill has been read.
    pub fn must_be_read_first(&self) -> bool {
        let carried = self.protocol.is_carried() && !self.flags.contains(Flags::FOLLOWS);
        let is_read = carried || self.exchange.contains(Exchange::BODY_WANTED);
        is_read && self.hold.intersects(Hold::SERVICE | Hold::TURN | Hold::RATE)
    }

    /// The stage as an operator sees it.
    pub fn stage_now(&self) -> Stage {
        match self.state {
            State::Dial => Stage::Dialing,
            State::Open if self.read.is_parked() => Stage::Parked,
            State::Open => Stage::Busy,
            State::Closing | State::Leaving => Stage::Closing,
            State::Free | State::Accept | State::Preface | State::Handshake | State::Head => Stage::Head,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_keeps_its_address() {
        for address in ["192.0.2.7:80", "[2001:db8::1]:443"] {
            assert_eq!(Peer::new(Some(address.parse().unwrap())).address().to_string(), address);
        }
    }
}

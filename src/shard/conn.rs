//! A connection: one fixed-size record in the slab, and the one table of its states.
//!
//! ```text
//!            reserve               accepted             opened
//!   Free ────────────▶ Accept ────────────▶ Head ◀───────────────▶ Open
//!    ▲ │                 │ release           │      answered        │
//!    │ │ dial            ▼                   │ finish               │ finish
//!    │ └─▶ Dial ───────┬──▶ Free             ├────────▶ Closing ◀───┤
//!    │      │ connected│ cut                 │            │         │
//!    │      └──▶ Open  │                     │ cut        │ cut     │ cut
//!    │                 ▼                     ▼            ▼         ▼
//!    └──────────────── Leaving ◀────────────────────────────────────┘
//!        release (the kernel holds nothing any more)
//! ```

use super::outbox::Outbox;
use crate::mesh::{Cause, ServiceKind, Stage};
use bitflags::bitflags;
use edgehold_wire::ws;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum State {
    /// To be used.
    #[default]
    Free,
    /// A client.
    Accept,
    /// An upstream's yes.
    Dial,
    /// A request head.
    Head,
    /// Whatever the service and the peer have to say.
    Open,
    /// The last bytes to leave, and the peer's goodbye.
    Closing,
    /// The kernel to let go of everything.
    Leaving,
}

/// What changes a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The slot is set aside for the next client.
    Reserve,
    /// A client has come.
    Accepted,
    /// An upstream is called.
    Dial,
    /// The upstream has answered.
    Connected,
    /// A service has taken the request.
    Opened,
    /// The response is complete, another request may follow.
    Answered,
    /// Nothing more will be said to the peer than what is queued.
    Finish,
    /// Nothing more is wanted of the peer.
    Cut,
    /// The kernel holds nothing of the slot.
    Release,
}

impl State {
    /// All states.
    pub const ALL: [State; 7] =
        [State::Free, State::Accept, State::Dial, State::Head, State::Open, State::Closing, State::Leaving];

    /// The one table of transitions. `None`: the event cannot happen in this state.
    pub fn after(self, event: Event) -> Option<State> {
        match (self, event) {
            (State::Free, Event::Reserve) => Some(State::Accept),
            (State::Free, Event::Dial) => Some(State::Dial),
            (State::Accept, Event::Accepted) => Some(State::Head),
            (State::Accept, Event::Release) => Some(State::Free),
            (State::Dial, Event::Connected) => Some(State::Open),
            (State::Head, Event::Opened) => Some(State::Open),
            (State::Open, Event::Answered) => Some(State::Head),
            (State::Head | State::Open, Event::Finish) => Some(State::Closing),
            (State::Dial | State::Head | State::Open | State::Closing, Event::Cut) => Some(State::Leaving),
            (State::Leaving, Event::Release) => Some(State::Free),
            _ => None,
        }
    }
}

impl Event {
    /// All events.
    pub const ALL: [Event; 9] = [
        Event::Reserve,
        Event::Accepted,
        Event::Dial,
        Event::Connected,
        Event::Opened,
        Event::Answered,
        Event::Finish,
        Event::Cut,
        Event::Release,
    ];
}

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
    /// What is true of a connection besides its state.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Flags: u32 {
        /// We called the peer: an upstream. Without it, a client.
        const UPSTREAM = 1;
        /// The peer speaks WebSocket since the 101.
        const WEBSOCKET = 1 << 1;
        /// On the shard's list of connections to look at before the turn ends.
        const LISTED = 1 << 2;
        /// The service does not want to hear more for now. Only the service lifts it.
        const PAUSED = 1 << 3;
        /// More than `max_pending` is queued; the service is to be told when it is below half.
        const FULL = 1 << 4;
        /// The peer has sent FIN.
        const EOF = 1 << 5;
        /// FIN is to be sent when everything queued is sent.
        const FIN_WANTED = 1 << 6;
        /// FIN was asked of the kernel.
        const FIN_ASKED = 1 << 7;
        /// A Close frame is queued or sent.
        const CLOSE_SENT = 1 << 8;
        /// The peer's Close frame has come.
        const CLOSE_RECEIVED = 1 << 9;
        /// What the peer says is thrown away.
        const DISCARDS = 1 << 10;
        /// A ping is out and nothing was heard since.
        const PINGED = 1 << 11;
        /// Quiet for `park_after`: held by a poll rather than a recv.
        const PARKED = 1 << 12;
        /// A poll has spoken, and what it spoke of has not been read.
        const READABLE = 1 << 13;
        /// The connection ends with the response that is being written.
        const LAST = 1 << 14;
        /// The request was a HEAD: the response has no body.
        const HEAD_ONLY = 1 << 15;
        /// HTTP/1.0: no persistent connection unless asked for.
        const HTTP10 = 1 << 16;
        /// In a spare slot: it is told 503 and goes.
        const SPARE = 1 << 17;
        /// The spill holds bytes that can be read now.
        const UNREAD = 1 << 18;
        /// A service holds a token for this connection and is to be told of its end.
        const OWNED = 1 << 19;
        /// At least one request was answered on this connection.
        const REUSED = 1 << 20;
        /// Counted in the stages as `stage`.
        const COUNTED = 1 << 21;
        /// A poll has said that the peer ended its side: there is an end to be read.
        const HUNG_UP = 1 << 22;
        /// A response has begun and is not complete.
        const ANSWERING = 1 << 23;
        /// When nothing is queued its service is asked for what comes next.
        const FOLLOWS = 1 << 24;
        /// It follows, and there is something for it that it has not been sent.
        const OFFERED = 1 << 27;
        /// The send in flight is a batch of shared messages: see `batches.rs`.
        const IN_FLIGHT = 1 << 25;
        /// permessage-deflate was agreed on; what is not usual about it is a `Kept` in the side.
        const DEFLATE = 1 << 26;
        /// A receive found no buffer: it is armed again when it is its turn.
        const STARVED = 1 << 28;
        /// So much waits in the spill that the peer is not listened to before that has been read.
        const HELD = 1 << 29;
        /// Its spill is read on in the next turn: in this one the work is done.
        const LATER = 1 << 30;
        /// The peer's end has come, behind what waits in the spill.
        const END = 1 << 31;
    }
}

/// The address of a client, IPv4 mapped into IPv6.
#[derive(Clone, Copy, Debug, Default)]
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
    /// What is true besides the state.
    pub flags: Flags,
    /// What it waits for.
    pub state: State,
    /// What the kernel holds.
    pub held: Held,
    /// Of that, what was asked to end.
    pub cancelled: Held,
    /// Who serves it.
    pub service: ServiceKind,
    /// The tick in which the peer was last heard.
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
    /// Why it ends, once that is known.
    pub cause: Option<Cause>,
    /// How it is counted in the stages.
    pub stage: Stage,
    /// How the stages knows its service.
    pub counted_service: ServiceKind,
    /// Who it is.
    pub peer: Peer,
    /// Number of the batch in flight, while there is one.
    pub batch: u32,
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
            state: State::Free,
            held: Held::empty(),
            cancelled: Held::empty(),
            service: ServiceKind::None,
            last_received: 0,
            token: 0,
            side: NO_SIDE,
            limits: 0,
            origin: 0,
            parser: ws::Parser::new(),
            out: Outbox::EMPTY,
            since: 0,
            cause: None,
            stage: Stage::Head,
            counted_service: ServiceKind::None,
            peer: Peer::default(),
            batch: 0,
        }
    }

    /// Follows the table.
    ///
    /// # Panics
    /// The table does not know the event in this state: a fault of ours, for which the connection is closed
    /// (`guard.rs`).
    pub fn step(&mut self, event: Event) {
        match self.state.after(event) {
            Some(state) => self.state = state,
            None => panic!("{event:?} in {:?}", self.state),
        }
    }

    /// Remembers why it ends; the first reason counts.
    pub fn set_cause(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
    }

    /// Something may still be said to the peer.
    pub fn can_send(&self) -> bool {
        self.state == State::Open && !self.flags.contains(Flags::CLOSE_SENT)
    }

    /// What it hears is shared, and nothing can be asked of it but whether it still takes that.
    pub fn is_stream(&self) -> bool {
        self.flags.contains(Flags::FOLLOWS) && !self.flags.contains(Flags::WEBSOCKET)
    }

    /// Something is on its way to the peer.
    pub fn has_unsent(&self) -> bool {
        self.out.pending() > 0 || self.held.contains(Held::SEND)
    }

    /// One side at least has said its last word.
    pub fn is_parting(&self) -> bool {
        self.state == State::Closing || self.flags.intersects(Flags::CLOSE_RECEIVED | Flags::FIN_WANTED)
    }

    /// What comes from the peer is wanted, now or later.
    pub fn accepts_input(&self) -> bool {
        self.reads() && !self.flags.contains(Flags::EOF)
    }

    /// What the peer has said may still be read.
    pub fn reads(&self) -> bool {
        matches!(self.state, State::Head | State::Open | State::Closing)
    }

    /// What comes from the peer is not wanted for now, for one reason or another.
    pub fn is_held_back(&self) -> bool {
        self.flags.intersects(Flags::PAUSED | Flags::HELD | Flags::LATER | Flags::STARVED)
    }

    /// What comes from the peer is wanted now.
    pub fn wants_input(&self) -> bool {
        self.accepts_input() && !self.is_held_back()
    }

    /// The peer speaks frames, or bytes to be carried: many receives in a row. Before that it speaks requests, one at a
    /// time, and what is behind one that is not answered shall stay with the kernel.
    pub fn is_carried(&self) -> bool {
        self.flags.intersects(Flags::WEBSOCKET | Flags::UPSTREAM)
    }

    /// Its end, when it comes, changes nothing before what is in the spill has been read.
    pub fn must_be_read_first(&self) -> bool {
        self.is_carried() && !self.flags.contains(Flags::FOLLOWS) && self.flags.intersects(Flags::PAUSED | Flags::LATER)
    }

    /// The stage as an operator sees it.
    pub fn stage_now(&self) -> Stage {
        match self.state {
            State::Dial => Stage::Dialing,
            State::Open if self.flags.contains(Flags::PARKED) => Stage::Parked,
            State::Open => Stage::Busy,
            State::Closing | State::Leaving => Stage::Closing,
            State::Free | State::Accept | State::Head => Stage::Head,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table, as docs/ARCHITECTURE.md shows it.
    fn printed() -> String {
        let mut lines = String::new();
        for state in State::ALL {
            for event in Event::ALL {
                if let Some(next) = state.after(event) {
                    lines += &format!("{state:?} + {event:?} -> {next:?}\n");
                }
            }
        }
        lines
    }

    #[test]
    fn the_table_is_the_one_in_the_architecture_page() {
        let page = include_str!("../../docs/ARCHITECTURE.md");
        assert!(page.contains(&printed()), "docs/ARCHITECTURE.md should hold:\n{}", printed());
    }

    #[test]
    fn every_state_can_be_left_and_ends_free() {
        for state in State::ALL {
            assert!(Event::ALL.iter().any(|&event| state.after(event).is_some()), "{state:?} is a trap");
        }
        assert_eq!(State::Leaving.after(Event::Release), Some(State::Free));
    }

    #[test]
    fn a_peer_keeps_its_address() {
        for address in ["192.0.2.7:80", "[2001:db8::1]:443"] {
            assert_eq!(Peer::new(Some(address.parse().unwrap())).address().to_string(), address);
        }
    }
}

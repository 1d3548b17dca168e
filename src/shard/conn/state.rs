//! What a connection waits for: the one table of its states.
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
//!
//! At a listener with PROXY protocol a `Preface` may stand behind `Accept` (announced), and is left as `Accept` is; it
//! can be cut. At a listener with TLS a `Handshake` stands between these and `Head` (greeted, then secured); like
//! `Head` it can be finished and cut. Towards an upstream with TLS it stands between `Dial` and `Open` (greeted, then
//! connected); a client's opening towards an upstream will stand there as well.
//! What is spoken in `Open` and `Closing` is the connection's [`Protocol`](super::Protocol).

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum State {
    /// Nothing: the slot is free.
    #[default]
    Free,
    /// The completion of an accept.
    Accept,
    /// The completion of a connect.
    Dial,
    /// A PROXY header, in front of everything else.
    Preface,
    /// The end of a TLS handshake (RFC 8446 section 4).
    Handshake,
    /// A request head (RFC 9112 section 2.1), or the rest of the body of the request before.
    Head,
    /// The end of a response, or of what its [`Protocol`](super::Protocol) carries.
    Open,
    /// The last bytes to be sent, and the peer's FIN.
    Closing,
    /// The last completion of what the kernel holds.
    Leaving,
}

/// What changes a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateEvent {
    /// The slot is set aside for the next client.
    Reserve,
    /// An accept has completed, and a PROXY header is to come.
    Announced,
    /// An accept has completed, and the PROXY header where there is one.
    Accepted,
    /// An accept or a connect has completed, with the PROXY header where there is one, and a TLS handshake is to come.
    Greeted,
    /// The TLS handshake with a client is over.
    Secured,
    /// A connection to an upstream is asked for.
    Dial,
    /// The connect has completed, and the TLS handshake where there is one.
    Connected,
    /// A service has taken the request.
    Opened,
    /// The response is complete, another request may follow.
    Answered,
    /// Nothing will be sent behind what is queued.
    Finish,
    /// The connection is to end now.
    Cut,
    /// The kernel holds nothing of the slot.
    Release,
}

impl State {
    /// All states.
    pub const ALL: [State; 9] = [
        State::Free,
        State::Accept,
        State::Dial,
        State::Preface,
        State::Handshake,
        State::Head,
        State::Open,
        State::Closing,
        State::Leaving,
    ];

    /// The one table of transitions. `None`: the event cannot happen in this state.
    #[expect(clippy::match_same_arms, reason = "a line for each transition")]
    pub fn after(self, event: StateEvent) -> Option<State> {
        match (self, event) {
            (State::Free, StateEvent::Reserve) => Some(State::Accept),
            (State::Free, StateEvent::Dial) => Some(State::Dial),
            (State::Accept, StateEvent::Announced) => Some(State::Preface),
            (State::Accept | State::Preface, StateEvent::Accepted) => Some(State::Head),
            (State::Accept | State::Preface, StateEvent::Greeted) => Some(State::Handshake),
            (State::Accept, StateEvent::Release) => Some(State::Free),
            (State::Handshake, StateEvent::Secured) => Some(State::Head),
            (State::Dial, StateEvent::Greeted) => Some(State::Handshake),
            (State::Dial | State::Handshake, StateEvent::Connected) => Some(State::Open),
            (State::Head, StateEvent::Opened) => Some(State::Open),
            (State::Open, StateEvent::Answered) => Some(State::Head),
            (State::Handshake | State::Head | State::Open, StateEvent::Finish) => Some(State::Closing),
            (State::Dial | State::Preface | State::Handshake, StateEvent::Cut) => Some(State::Leaving),
            (State::Head | State::Open | State::Closing, StateEvent::Cut) => Some(State::Leaving),
            (State::Leaving, StateEvent::Release) => Some(State::Free),
            _ => None,
        }
    }
}

impl StateEvent {
    /// All events.
    pub const ALL: [StateEvent; 12] = [
        StateEvent::Reserve,
        StateEvent::Announced,
        StateEvent::Accepted,
        StateEvent::Greeted,
        StateEvent::Secured,
        StateEvent::Dial,
        StateEvent::Connected,
        StateEvent::Opened,
        StateEvent::Answered,
        StateEvent::Finish,
        StateEvent::Cut,
        StateEvent::Release,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table, as docs/ARCHITECTURE.md shows it.
    fn printed() -> String {
        let mut lines = String::new();
        for state in State::ALL {
            for event in StateEvent::ALL {
                if let Some(next) = state.after(event) {
                    lines += &format!("{state:?} + {event:?} -> {next:?}\n");
                }
            }
        }
        lines
    }

    #[test]
    fn the_table_is_the_one_in_the_architecture_page() {
        let page = include_str!("../../../docs/ARCHITECTURE.md");
        assert!(page.contains(&printed()), "docs/ARCHITECTURE.md should hold:\n{}", printed());
    }

    #[test]
    fn every_state_can_be_left_and_ends_free() {
        for state in State::ALL {
            assert!(StateEvent::ALL.iter().any(|&event| state.after(event).is_some()), "{state:?} is a trap");
        }
        assert_eq!(State::Leaving.after(StateEvent::Release), Some(State::Free));
    }
}

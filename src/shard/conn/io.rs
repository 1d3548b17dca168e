//! The two ends of a connection as small state machines, why its read end is held, and what is being sent.

use bitflags::bitflags;

/// How the kernel is asked for what the peer sends.
///
/// A connection receives while it is busy and is polled when it was quiet for `park_after` (a multishot poll costs the
/// kernel 610 bytes less than a multishot recv). A poll that has completed reports that something can be read; that is
/// read by receives that do not wait, until there is nothing left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum ReadEnd {
    /// A recv is armed, or will be as soon as nothing holds the connection.
    #[default]
    Receiving,
    /// A multishot poll is armed: the connection is parked.
    Polled,
    /// Parked; the poll has completed, and what it reported has not been read.
    Readable,
    /// Parked; the poll has reported the peer's FIN or an error, which has not been read.
    HungUp,
    /// The peer's FIN was received; bytes before it wait in the spill and must be read first.
    Ending,
    /// The peer's FIN was received.
    Ended,
}

/// What changes a [`ReadEnd`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEvent {
    /// The connection was quiet for long enough.
    Park,
    /// It is busy again.
    Unpark,
    /// A poll has completed.
    Ready,
    /// A poll has completed with POLLRDHUP, POLLHUP or POLLERR.
    HangUp,
    /// A receive that does not wait was submitted.
    Submit,
    /// It has completed, and there is more to be read.
    More,
    /// It has completed: there was nothing to be read (EAGAIN).
    Nothing,
    /// FIN was received, behind bytes that must be read first.
    FinBehind,
    /// FIN was received, or what was before it has been read.
    Fin,
}

impl ReadEnd {
    /// All of them.
    pub const ALL: [ReadEnd; 6] =
        [ReadEnd::Receiving, ReadEnd::Polled, ReadEnd::Readable, ReadEnd::HungUp, ReadEnd::Ending, ReadEnd::Ended];

    /// The one table of transitions. What is not in it changes nothing. A poll that is still armed may report something
    /// after the connection has gone back to receiving: that is not forgotten, since the connection may be parked again
    /// before the poll has been cancelled, and a poll reports nothing twice.
    #[must_use]
    #[expect(clippy::match_same_arms, reason = "a line for each transition")]
    pub fn after(self, event: ReadEvent) -> ReadEnd {
        use ReadEnd::{Ended, Ending, HungUp, Polled, Readable, Receiving};
        match (self, event) {
            (Receiving, ReadEvent::Park) => Polled,
            (Polled | Readable | HungUp, ReadEvent::Unpark) => Receiving,
            (Receiving | Polled | Readable, ReadEvent::Ready) => Readable,
            (Receiving | Polled | Readable | HungUp, ReadEvent::HangUp) => HungUp,
            // After a hang-up it is read until the end has been received; a receive that found nothing began before it.
            (HungUp, ReadEvent::Ready) => Readable,
            (Readable, ReadEvent::Submit) => Polled,
            (Polled, ReadEvent::More) => Readable,
            (Ended, ReadEvent::FinBehind) => Ended,
            (_, ReadEvent::FinBehind) => Ending,
            (_, ReadEvent::Fin) => Ended,
            (unchanged, _) => unchanged,
        }
    }

    /// It is held by a poll.
    pub fn is_parked(self) -> bool {
        matches!(self, ReadEnd::Polled | ReadEnd::Readable | ReadEnd::HungUp)
    }

    /// A poll has reported something that has not been read.
    pub fn is_readable(self) -> bool {
        matches!(self, ReadEnd::Readable | ReadEnd::HungUp)
    }

    /// The peer's FIN was received.
    pub fn has_ended(self) -> bool {
        matches!(self, ReadEnd::Ending | ReadEnd::Ended)
    }
}

/// What becomes of our side of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum WriteEnd {
    /// More may be queued.
    #[default]
    Open,
    /// FIN is due behind what is queued.
    FinWanted,
    /// shutdown(2) was submitted.
    FinSent,
}

bitflags! {
    /// Why nothing is received for now: each reason has one owner, who alone takes it away.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Hold: u8 {
        /// The service does not want more: it lifts this itself (`Desk::resume`).
        const SERVICE = 1;
        /// More than `SPILL` bytes wait to be read: lifted when they are read (`read.rs`).
        const SPILL = 1 << 1;
        /// The turn's work is done, or the connection has had its share: lifted in a later turn (`Shard::read_on`).
        const TURN = 1 << 2;
        /// A receive found no provided buffer (ENOBUFS): lifted when it is armed again in its order.
        const BUFFER = 1 << 3;
        /// A verdict on its request is waited for: lifted when it has come (`Desk::decide`).
        const VERDICT = 1 << 4;
        /// Its TLS handshake waits for its turn: lifted when that has come (`Shard::shake_hands`).
        const HANDSHAKE = 1 << 5;
        /// It has sent faster than its client may: lifted when it is within the rate again (`Core::lift_rate`).
        const RATE = 1 << 6;
    }
}

/// What is being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sending {
    /// Nothing.
    #[default]
    Idle,
    /// The front of the connection's own queue.
    Queue,
    /// The shared messages of this batch (`batches.rs`).
    Batch(u32),
    /// Ciphertext, of which so many bytes are at the front of the queue; also between two sends (TLS).
    Sealed(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [ReadEvent; 9] = [
        ReadEvent::Park,
        ReadEvent::Unpark,
        ReadEvent::Ready,
        ReadEvent::HangUp,
        ReadEvent::Submit,
        ReadEvent::More,
        ReadEvent::Nothing,
        ReadEvent::FinBehind,
        ReadEvent::Fin,
    ];

    /// The whole table, as docs/ARCHITECTURE.md shows it.
    fn printed() -> String {
        let mut lines = String::new();
        for end in ReadEnd::ALL {
            for event in EVENTS {
                let next = end.after(event);
                if next != end {
                    lines += &format!("{end:?} + {event:?} -> {next:?}\n");
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

    /// A poll that completes while a receive is in flight is not forgotten when that finds nothing.
    #[test]
    fn what_a_poll_reports_is_read_after_it() {
        let submitted = ReadEnd::Readable.after(ReadEvent::Submit);
        let reported = submitted.after(ReadEvent::Ready);
        assert!(reported.after(ReadEvent::Nothing).is_readable());
        assert!(!submitted.after(ReadEvent::Nothing).is_readable());
        assert!(submitted.after(ReadEvent::HangUp).after(ReadEvent::Nothing).is_readable());
    }

    /// Nor is it where the connection was busy for a moment and is parked again by the same poll.
    #[test]
    fn what_a_poll_reports_in_between_is_read() {
        let reported = ReadEnd::Readable.after(ReadEvent::Unpark).after(ReadEvent::HangUp);
        assert_eq!(reported.after(ReadEvent::Park), ReadEnd::HungUp);
    }

    #[test]
    fn an_end_is_final() {
        assert!(EVENTS.iter().all(|&event| ReadEnd::Ended.after(event) == ReadEnd::Ended));
        assert!(EVENTS.iter().all(|&event| ReadEnd::Ending.after(event).has_ended()));
    }
}

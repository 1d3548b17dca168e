//! One client: what it waits for, what the kernel holds of it, what it has said and heard.

use edgehold_wire::ws;

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Nothing: not begun, or its turn to try again has not come.
    Away,
    /// The TCP connection.
    Connecting,
    /// The end of the TLS handshake.
    Securing,
    /// The server's answer to its opening.
    Opening,
    /// Nothing in particular: it stands.
    Open,
    /// The kernel's last completion, and then the end of its descriptor.
    Leaving,
}

/// What the kernel holds of it; also what it has on its mind. Bits.
pub mod held {
    /// A connect.
    pub const CONNECT: u16 = 1;
    /// A multishot recv.
    pub const RECV: u16 = 1 << 1;
    /// A multishot poll.
    pub const POLL: u16 = 1 << 2;
    /// A single recv.
    pub const ONCE: u16 = 1 << 3;
    /// A send.
    pub const SEND: u16 = 1 << 4;
    /// The close of its descriptor.
    pub const CLOSE: u16 = 1 << 5;
    /// What ends by a cancel.
    pub const ARMED: u16 = CONNECT | RECV | POLL;
    /// All of it but the close.
    pub const ANY: u16 = ARMED | ONCE | SEND;
    /// A cancel is under way (not held by the kernel beyond the submission).
    pub const CANCELLED: u16 = 1 << 8;
    /// The poll has spoken: there may be something to read.
    pub const READABLE: u16 = 1 << 9;
    /// It reads no more.
    pub const DEAF: u16 = 1 << 10;
    /// It has a ping to send.
    pub const PING: u16 = 1 << 11;
    /// Its pong is waited for.
    pub const PINGED: u16 = 1 << 12;
    /// It comes back after it has left.
    pub const RETURNS: u16 = 1 << 13;
}

/// How far a client of a broker is, behind its opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// It has said nothing yet, or there is no broker.
    Outside,
    /// Its login was said.
    LogsIn,
    /// Its subscription was said.
    Subscribes,
    /// It is subscribed.
    Subscribed,
}

/// What a numbered message of a topic is to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Newer than all before.
    Next,
    /// One that was missing, out of order.
    Late,
    /// One that has come before.
    Again,
}

/// What its send in flight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outgoing {
    /// None.
    Nothing,
    /// The request that opens.
    Opening,
    /// Messages of the current stretch.
    Words,
    /// A ping.
    Ping,
    /// A pong, or a close.
    Reply,
}

/// A client. All are in one table; its number is the number of its direct descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Frames from the server.
    pub parser: ws::Parser,
    /// The intended time of what it waits for: connect, pong, or a closed loop's message.
    pub asked: u64,
    /// Of the last messages of its topic, the newest lowest: which have come.
    pub seen: u64,
    /// Messages that were due in this stretch.
    pub due: u32,
    /// Messages handed to the kernel whole.
    pub sent: u32,
    /// Messages that came back; with published ones, the number that comes next.
    pub back: u32,
    /// Bytes of the message that is coming back.
    pub got: u32,
    /// Bytes already sent of what is going out.
    pub offset: u32,
    /// Its place among those who take part in the stretch.
    pub place: u32,
    /// Of its slot: a completion of an older one is none of its business.
    pub generation: u32,
    /// [`held`].
    pub held: u16,
    /// Connects that failed in a row.
    pub failures: u8,
    /// What it waits for.
    pub state: State,
    /// What is going out.
    pub outgoing: Outgoing,
    /// How far it is with its broker.
    pub stage: Stage,
    /// The message that is coming back differs from what was sent.
    pub changed: bool,
}

const _: () = assert!(size_of::<Client>() <= 88);

impl Client {
    /// Not begun.
    pub const fn new() -> Client {
        Client {
            parser: ws::Parser::new(),
            asked: 0,
            seen: 0,
            due: 0,
            sent: 0,
            back: 0,
            got: 0,
            offset: 0,
            place: 0,
            generation: 0,
            held: 0,
            failures: 0,
            state: State::Away,
            outgoing: Outgoing::Nothing,
            stage: Stage::Outside,
            changed: false,
        }
    }

    /// Whether one of these bits is set.
    pub fn is(&self, bits: u16) -> bool {
        self.held & bits != 0
    }

    /// Sets bits.
    pub fn set(&mut self, bits: u16) {
        self.held |= bits;
    }

    /// Takes bits away.
    pub fn unset(&mut self, bits: u16) {
        self.held &= !bits;
    }

    /// Message `turn` of its topic has come. Of those that are older than the last 64 all count as late.
    pub fn take(&mut self, turn: u32) -> Turn {
        if turn >= self.back {
            let newer = turn + 1 - self.back;
            self.seen = self.seen.checked_shl(newer).unwrap_or(0) | 1;
            self.back = turn + 1;
            return Turn::Next;
        }
        let bit = 1u64.checked_shl(self.back - 1 - turn).unwrap_or(0);
        if self.seen & bit != 0 {
            return Turn::Again;
        }
        self.seen |= bit;
        Turn::Late
    }

    /// A new stretch, with its place in it or without it: nothing due, nothing said.
    pub fn begin_stretch(&mut self, place: Option<u32>) {
        (self.due, self.sent, self.back, self.got, self.seen) = (0, 0, 0, 0, 0);
        self.changed = false;
        self.place = place.unwrap_or(0);
    }

    /// It has left for good, or until it comes back.
    pub fn leave(&mut self) {
        *self = Client {
            asked: self.asked,
            generation: self.generation.wrapping_add(1),
            failures: self.failures,
            held: self.held & (held::RETURNS | held::DEAF),
            ..Client::new()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::Turn::{Again, Late, Next};
    use super::*;

    #[test]
    fn a_message_is_next_late_or_there_again() {
        let mut client = Client::new();
        let turns = [0, 1, 1, 4, 3, 3, 2, 0, 104, 40, 41, 41].map(|turn| client.take(turn));
        assert_eq!(turns, [Next, Next, Again, Next, Late, Again, Late, Again, Next, Late, Late, Again]);
        assert_eq!(client.take(u32::MAX - 1), Next);
    }
}

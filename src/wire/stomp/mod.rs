//! STOMP 1.0, 1.1 and 1.2: frames, as both ends read and write them.
//!
//! A frame is a command, header lines, an empty line, a body and NUL (STOMP 1.2, STOMP Frames). [`read`] takes what has
//! come and borrows from it; [`write()`] and its parts append. Nobody here knows whether a command is in its place, or
//! which headers it needs: that is for whoever serves or asks.
//!
//! | | 1.0 | 1.1 | 1.2 |
//! |---|---|---|---|
//! | escapes in headers | none | `\n` `\c` `\\` | `\r` too |
//! | white space around names and values | is not part of them | is | is |
//! | a body where there is none | is passed over | a fault | a fault |
//! | a line ends with | LF | LF | LF or CR LF |
//!
//! CR LF is taken in all three: who writes 1.0 and 1.1 that way means nothing else by it. CONNECT and CONNECTED have no
//! escapes in any version, and come before one is agreed on: without `accept-version` or `version` they are of 1.0.
//! STOMP is of 1.2 whatever was agreed on, as clients that send it write it.

mod fault;
mod headers;
mod heart_beat;
mod read;
mod write;

pub use fault::Fault;
pub use headers::{Frame, Headers};
pub use heart_beat::HeartBeat;
pub use read::{Limits, Read, Until, read};
pub use write::{begin, end, escape, line, number, write, write_without_length};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// STOMP 1.0.
    V10,
    /// STOMP 1.1.
    V11,
    /// STOMP 1.2.
    V12,
}

impl Version {
    /// All, the oldest first.
    pub const ALL: [Version; 3] = [Version::V10, Version::V11, Version::V12];

    /// As headers have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::V10 => "1.0",
            Version::V11 => "1.1",
            Version::V12 => "1.2",
        }
    }

    /// From a header, with or without spaces around it; `None`: another version.
    pub fn parse(text: &str) -> Option<Version> {
        let text = text.trim_matches([' ', '\t']);
        Version::ALL.into_iter().find(|it| it.as_str() == text)
    }

    /// The highest version of a client's `accept-version`, a comma list; 1.0 where there is none (STOMP 1.2, Protocol
    /// Negotiation). `None`: the two ends have none in common.
    pub fn choose(accept_version: Option<&str>) -> Option<Version> {
        let Some(list) = accept_version else { return Some(Version::V10) };
        list.split(',').filter_map(Version::parse).max()
    }
}

macro_rules! commands {
    ($($name:ident $word:literal)*) => {
        /// What a frame is. Commands are written in capitals (STOMP 1.2, STOMP Frames).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Command { $(#[doc = $word] $name,)* }

        impl Command {
            /// All.
            pub const ALL: &[Command] = &[$(Command::$name,)*];

            /// As it is written.
            pub const fn as_str(self) -> &'static str {
                match self { $(Command::$name => $word,)* }
            }

            fn parse(word: &[u8]) -> Option<Command> {
                $(if word == $word.as_bytes() { return Some(Command::$name); })*
                None
            }
        }
    };
}

commands! {
    Connect "CONNECT" Stomp "STOMP" Send "SEND" Subscribe "SUBSCRIBE" Unsubscribe "UNSUBSCRIBE" Begin "BEGIN"
    Commit "COMMIT" Abort "ABORT" Ack "ACK" Nack "NACK" Disconnect "DISCONNECT" Connected "CONNECTED"
    Message "MESSAGE" Receipt "RECEIPT" Error "ERROR"
}

impl Command {
    /// Whether a frame of this command may have a body (STOMP 1.2, Body).
    pub const fn has_body(self) -> bool {
        matches!(self, Command::Send | Command::Message | Command::Error)
    }

    /// Whether a server sends it; a client sends all others.
    pub const fn of_server(self) -> bool {
        matches!(self, Command::Connected | Command::Message | Command::Receipt | Command::Error)
    }
}

/// How names and values stand in the header lines of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// White space around them is not theirs: 1.0.
    Trimmed,
    /// As they are: CONNECT and CONNECTED from 1.1 on.
    Plain,
    /// With the escapes of 1.1.
    Escaped11,
    /// With those of 1.2.
    Escaped12,
}

impl Coding {
    /// That of frames of this command which are written.
    const fn of(command: Command, version: Version) -> Coding {
        match (command, version) {
            (Command::Connect | Command::Connected, _) => Coding::Plain,
            (Command::Stomp, _) | (_, Version::V12) => Coding::Escaped12,
            (_, Version::V11) => Coding::Escaped11,
            (_, Version::V10) => Coding::Trimmed,
        }
    }

    const fn has_escapes(self) -> bool {
        matches!(self, Coding::Escaped11 | Coding::Escaped12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_chosen() {
        assert_eq!(Version::choose(Some("1.0,1.2, 1.1,2.0")), Some(Version::V12));
        assert_eq!(Version::choose(Some("1.0,1.1")), Some(Version::V11));
        let none = ["2.0", "", "1.20", "1", ",,", "1.1.0"].map(|list| Version::choose(Some(list)));
        assert_eq!((Version::choose(None), none), (Some(Version::V10), [None; 6]));
    }

    #[test]
    fn commands_are_read_as_they_are_written() {
        for &command in Command::ALL {
            assert_eq!(Command::parse(command.as_str().as_bytes()), Some(command));
        }
        assert_eq!([&b"send"[..], b"SENDX", b"SEN", b""].map(Command::parse), [None; 4]);
        assert_eq!(Command::ALL.iter().filter(|it| it.of_server()).count(), 4);
    }
}

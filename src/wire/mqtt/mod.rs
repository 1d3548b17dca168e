//! Packets of MQTT 3.1 (protocol level 3), 3.1.1 (4) and 5 (5), both ends; and what topic filters match.
//!
//! [`read`] takes what has come so far and borrows from it; a packet is only read when it is whole. The writers of
//! [`write_connect`] and its like append to a buffer of the caller's. Sections are those of the OASIS standard MQTT
//! Version 5.0; where 3.1.1 says it otherwise, its clause is named.

mod fault;
mod packet;
mod properties;
mod reader;
mod scan;
pub mod shared;
pub mod topic;
mod write;

pub use fault::Fault;
pub use packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Filters, Options, Packet, Publish, SubAck, Subscribe, UnsubAck,
    Unsubscribe, Will,
};
pub use properties::{Properties, Property};
pub use scan::{Scan, Seen};
pub use write::{
    AckKind, MAX_HEAD, write, write_ack, write_auth, write_connack, write_connect, write_disconnect, write_ping,
    write_pong, write_publish, write_publish_head, write_publish_split, write_suback, write_subscribe, write_unsuback,
    write_unsubscribe,
};

use reader::Reader;

/// The longest content of a packet, its fixed header not counted, in bytes: what four bytes of length can say (1.5.5).
pub const MAX_LENGTH: u32 = 268_435_455;

/// What a session speaks: it is chosen by CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 3.1: "MQIsdp", level 3.
    V31,
    /// 3.1.1: "MQTT", level 4.
    V311,
    /// 5.0: "MQTT", level 5.
    V5,
}

impl Version {
    /// Protocol name and level, as CONNECT has them (3.1.2.1, 3.1.2.2).
    pub const fn wire(self) -> (&'static str, u8) {
        match self {
            Version::V31 => ("MQIsdp", 3),
            Version::V311 => ("MQTT", 4),
            Version::V5 => ("MQTT", 5),
        }
    }
}

/// Which end reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What clients send is read.
    Server,
    /// What brokers send is read.
    Client,
}

/// How surely a message is delivered (4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum QoS {
    /// At most once.
    #[default]
    AtMostOnce,
    /// At least once.
    AtLeastOnce,
    /// Exactly once.
    ExactlyOnce,
}

impl QoS {
    /// 0, 1 or 2; `None` for all else.
    pub const fn of(level: u8) -> Option<QoS> {
        match level {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }

    /// 0, 1 or 2.
    pub const fn level(self) -> u8 {
        match self {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => 1,
            QoS::ExactlyOnce => 2,
        }
    }
}

/// What a reader takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a packet, its fixed header counted.
    pub packet_bytes: u32,
}

/// What stands at the front of the bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Read<'b> {
    /// A packet, in so many bytes.
    Packet {
        /// What it says.
        packet: Packet<'b>,
        /// Bytes that it takes.
        used: usize,
    },
    /// It is not whole; nothing more can be said before this many bytes have come, counted from the first.
    More {
        /// More than there are.
        least: usize,
    },
}

/// Reads the packet that `bytes` begin with. `version` is what CONNECT has chosen; `None` before it: then only CONNECT
/// is read, and later none is. A client knows its version from the start.
///
/// # Errors
/// What the other end did wrong. Nothing behind it can be read.
pub fn read<'b>(bytes: &'b [u8], limits: &Limits, version: Option<Version>, role: Role) -> Result<Read<'b>, Fault> {
    let Some(&first) = bytes.first() else { return Ok(Read::More { least: 2 }) };
    packet::check_first(first, version, role)?;
    let (length, head) = match remaining_length(bytes.get(1..).unwrap_or_default())? {
        Some((length, bytes)) => (length as usize, 1 + bytes),
        None => return Ok(Read::More { least: bytes.len() + 1 }),
    };
    let used = head + length;
    if used > limits.packet_bytes as usize {
        return Err(Fault::TooLarge);
    }
    match bytes.get(head..used) {
        None => Ok(Read::More { least: used }),
        Some(content) => Ok(Read::Packet { packet: packet::read(first, Reader::new(content), version, role)?, used }),
    }
}

/// The variable byte integer at the front of `bytes`, and how many bytes it takes (1.5.5). `None`: it is cut.
fn remaining_length(bytes: &[u8]) -> Result<Option<(u32, usize)>, Fault> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            // "The encoded value MUST use the minimum number of bytes necessary."
            return if byte == 0 && at > 0 { Err(Fault::Length) } else { Ok(Some((value, at + 1))) };
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Fault::Length) }
}

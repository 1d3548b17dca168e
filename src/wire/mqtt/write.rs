//! Packets written behind what is in a buffer. Strings and data are cut at 65535 bytes, which is all that their length
//! can say; a packet must not be longer than [`MAX_LENGTH`](super::MAX_LENGTH).

use super::packet::kind;
use super::{
    Ack, Auth, ConnAck, Connect, Disconnect, Options, Packet, Properties, Publish, QoS, SubAck, UnsubAck, Version,
};
use alloc::vec::Vec;

/// The longest fixed header, in bytes.
pub const MAX_HEAD: usize = 5;

/// Which acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckKind {
    /// PUBACK.
    PubAck,
    /// PUBREC.
    PubRec,
    /// PUBREL.
    PubRel,
    /// PUBCOMP.
    PubComp,
}

impl AckKind {
    const fn first(self) -> u8 {
        match self {
            AckKind::PubAck => 0x40,
            AckKind::PubRec => 0x50,
            AckKind::PubRel => 0x62,
            AckKind::PubComp => 0x70,
        }
    }
}

/// Any packet that was read, as this version writes it.
pub fn write(out: &mut Vec<u8>, version: Version, packet: &Packet<'_>) {
    match packet {
        Packet::Connect(it) => write_connect(out, it),
        Packet::ConnAck(it) => write_connack(out, version, it),
        Packet::Publish(it) => write_publish(out, version, it),
        Packet::PubAck(it) => write_ack(out, version, AckKind::PubAck, it),
        Packet::PubRec(it) => write_ack(out, version, AckKind::PubRec, it),
        Packet::PubRel(it) => write_ack(out, version, AckKind::PubRel, it),
        Packet::PubComp(it) => write_ack(out, version, AckKind::PubComp, it),
        Packet::Subscribe(it) => write_subscribe(out, version, it.packet_id, it.properties, it.filters.iter()),
        Packet::SubAck(it) => write_suback(out, version, it),
        Packet::Unsubscribe(it) => {
            let names = it.filters.iter().map(|(filter, _)| filter);
            write_unsubscribe(out, version, it.packet_id, it.properties, names);
        }
        Packet::UnsubAck(it) => write_unsuback(out, version, it),
        Packet::PingReq => write_ping(out),
        Packet::PingResp => write_pong(out),
        Packet::Disconnect(it) => write_disconnect(out, version, it),
        Packet::Auth(it) => write_auth(out, it),
    }
}

/// CONNECT, in its own version. A will's and a password's flags follow from what there is.
pub fn write_connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    let (name, level) = connect.version.wire();
    let will = connect.will.map_or(0, |will| 4 | will.qos.level() << 3 | u8::from(will.retain) << 5);
    let who = u8::from(connect.password.is_some()) << 6 | u8::from(connect.user.is_some()) << 7;
    framed(out, kind::CONNECT << 4, |out| {
        binary(out, name.as_bytes());
        out.extend([level, u8::from(connect.clean_start) << 1 | will | who]);
        out.extend(connect.keep_alive.to_be_bytes());
        properties(out, connect.version, connect.properties);
        binary(out, connect.client_id.as_bytes());
        if let Some(will) = connect.will {
            properties(out, connect.version, will.properties);
            binary(out, will.topic.as_bytes());
            binary(out, will.payload);
        }
        connect.user.into_iter().for_each(|user| binary(out, user.as_bytes()));
        connect.password.into_iter().for_each(|password| binary(out, password));
    });
}

/// CONNACK: its reason is that of the version.
pub fn write_connack(out: &mut Vec<u8>, version: Version, connack: &ConnAck<'_>) {
    framed(out, kind::CONNACK << 4, |out| {
        out.extend([u8::from(connack.session_present && version != Version::V31), connack.reason]);
        properties(out, version, connack.properties);
    });
}

/// PUBLISH, its payload included.
pub fn write_publish(out: &mut Vec<u8>, version: Version, publish: &Publish<'_>) {
    write_publish_head(out, version, publish);
    out.extend_from_slice(publish.payload);
}

/// PUBLISH up to its payload, which is to stand behind it.
pub fn write_publish_head(out: &mut Vec<u8>, version: Version, publish: &Publish<'_>) {
    write_publish_split(out, version, publish, 0);
}

/// PUBLISH up to the last `behind` bytes of its properties, which are not in `publish`: those and the payload are to
/// stand behind it.
pub fn write_publish_split(out: &mut Vec<u8>, version: Version, publish: &Publish<'_>, behind: usize) {
    let id = publish.packet_id.filter(|_| publish.qos != QoS::AtMostOnce);
    let flags = u8::from(publish.dup) << 3 | publish.qos.level() << 1 | u8::from(publish.retain);
    let raw = publish.properties.raw();
    let block = raw.len() + behind;
    let before = if version == Version::V5 { variable_len(block) + block } else { 0 };
    let length = 2 + publish.topic.len().min(MOST) + id.map_or(0, |_| 2) + before + publish.payload.len();
    out.push(kind::PUBLISH << 4 | flags);
    variable(out, length as u32);
    binary(out, publish.topic.as_bytes());
    id.into_iter().for_each(|id| out.extend(id.to_be_bytes()));
    if version == Version::V5 {
        variable(out, block as u32);
        out.extend_from_slice(raw);
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP: before MQTT 5 without a reason.
pub fn write_ack(out: &mut Vec<u8>, version: Version, kind: AckKind, ack: &Ack<'_>) {
    framed(out, kind.first(), |out| {
        out.extend(ack.packet_id.to_be_bytes());
        reason(out, version, ack.reason, ack.properties);
    });
}

/// SUBSCRIBE for these filters, at least one.
pub fn write_subscribe<'f>(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    block: Properties<'_>,
    filters: impl Iterator<Item = (&'f str, Options)>,
) {
    framed(out, kind::SUBSCRIBE << 4 | 2, |out| {
        out.extend(packet_id.to_be_bytes());
        properties(out, version, block);
        for (filter, options) in filters {
            binary(out, filter.as_bytes());
            out.push(if version == Version::V5 { options.byte() } else { options.qos.level() });
        }
    });
}

/// SUBACK: before MQTT 5 every reason from 0x80 on is 0x80, and 3.1 has none, so it is said all the same.
pub fn write_suback(out: &mut Vec<u8>, version: Version, suback: &SubAck<'_>) {
    framed(out, kind::SUBACK << 4, |out| {
        out.extend(suback.packet_id.to_be_bytes());
        properties(out, version, suback.properties);
        let most = if version == Version::V5 { u8::MAX } else { 0x80 };
        out.extend(suback.codes.iter().map(|code| (*code).min(most)));
    });
}

/// UNSUBSCRIBE of these filters, at least one.
pub fn write_unsubscribe<'f>(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    block: Properties<'_>,
    filters: impl Iterator<Item = &'f str>,
) {
    framed(out, kind::UNSUBSCRIBE << 4 | 2, |out| {
        out.extend(packet_id.to_be_bytes());
        properties(out, version, block);
        filters.for_each(|filter| binary(out, filter.as_bytes()));
    });
}

/// UNSUBACK: before MQTT 5 without codes.
pub fn write_unsuback(out: &mut Vec<u8>, version: Version, unsuback: &UnsubAck<'_>) {
    framed(out, kind::UNSUBACK << 4, |out| {
        out.extend(unsuback.packet_id.to_be_bytes());
        properties(out, version, unsuback.properties);
        if version == Version::V5 {
            out.extend_from_slice(unsuback.codes);
        }
    });
}

/// PINGREQ.
pub fn write_ping(out: &mut Vec<u8>) {
    out.extend([kind::PINGREQ << 4, 0]);
}

/// PINGRESP.
pub fn write_pong(out: &mut Vec<u8>) {
    out.extend([kind::PINGRESP << 4, 0]);
}

/// DISCONNECT: before MQTT 5 without a reason, and only a client sends it.
pub fn write_disconnect(out: &mut Vec<u8>, version: Version, disconnect: &Disconnect<'_>) {
    framed(out, kind::DISCONNECT << 4, |out| reason(out, version, disconnect.reason, disconnect.properties));
}

/// AUTH, of MQTT 5.
pub fn write_auth(out: &mut Vec<u8>, auth: &Auth<'_>) {
    framed(out, kind::AUTH << 4, |out| reason(out, Version::V5, auth.reason, auth.properties));
}

// ---- fields ----

/// What a length of two bytes can say.
const MOST: usize = u16::MAX as usize;

/// First byte, length, and what `content` writes. The length is known last, so that the content is moved behind it.
fn framed(out: &mut Vec<u8>, first: u8, content: impl FnOnce(&mut Vec<u8>)) {
    out.push(first);
    let from = out.len();
    content(out);
    let end = out.len();
    variable(out, (end - from) as u32);
    let bytes = out.len() - end;
    if let Some(moved) = out.get_mut(from..) {
        moved.rotate_right(bytes);
    }
}

/// Reason and properties, as short as they can be (3.4.2.1, 3.14.2.1).
fn reason(out: &mut Vec<u8>, version: Version, reason: u8, block: Properties<'_>) {
    if version != Version::V5 || reason == 0 && block.is_empty() {
        return;
    }
    out.push(reason);
    if !block.is_empty() {
        properties(out, version, block);
    }
}

/// Length and properties, in MQTT 5.
fn properties(out: &mut Vec<u8>, version: Version, block: Properties<'_>) {
    if version == Version::V5 {
        variable(out, block.raw().len() as u32);
        out.extend_from_slice(block.raw());
    }
}

/// Binary Data (1.5.6), and a string (1.5.4).
pub(super) fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.get(..MOST).unwrap_or(bytes);
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Variable Byte Integer (1.5.5): of more than 28 bits the lower ones.
pub(super) fn variable(out: &mut Vec<u8>, value: u32) {
    let mut rest = value & super::MAX_LENGTH;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes that [`variable`] takes.
const fn variable_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

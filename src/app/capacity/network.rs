//! Network: packets and bits a second, both ways, as the wire carries them.
//!
//! Each message is taken to travel alone, in segments of its own, and to be acknowledged by packets of their own, one
//! for two segments. Where answers carry acknowledgements or messages share a segment, it is less. Connections that
//! come and go are not counted.

use std::ops::{Add, Mul};

use serde::Serialize;

use super::load::Load;

/// Around each packet: Ethernet header and checksum (18), preamble and gap (20; IEEE 802.3), IPv4
/// header (20; RFC 791), TCP header (20; RFC 9293) with timestamps (12; RFC 7323).
const PACKET_OVERHEAD: u64 = 18 + 20 + 20 + 20 + 12;
/// Payload of a TCP segment with timestamps in an Ethernet frame of 1500 bytes.
const SEGMENT_BYTES: u64 = 1500 - 20 - 20 - 12;
/// Segments that one acknowledgement may answer (RFC 9293 section 3.8.6.3).
const ACKNOWLEDGED_SEGMENTS: u64 = 2;
/// Payload of a TLS 1.3 record, and what is around it: header, type and tag (RFC 8446 section 5.2).
const RECORD_BYTES: u64 = 16 << 10;
const RECORD_OVERHEAD: u64 = 5 + 1 + 16;
/// A mask of a WebSocket frame (RFC 6455 section 5.3).
const MASK_BYTES: u64 = 4;

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Flow {
    /// Packets.
    pub packets_per_second: f64,
    /// Bits on the wire, headers and gaps included.
    pub bits_per_second: f64,
}

impl Add for Flow {
    type Output = Flow;

    fn add(self, other: Flow) -> Flow {
        Flow {
            packets_per_second: self.packets_per_second + other.packets_per_second,
            bits_per_second: self.bits_per_second + other.bits_per_second,
        }
    }
}

impl Mul<f64> for Flow {
    type Output = Flow;

    fn mul(self, times: f64) -> Flow {
        Flow { packets_per_second: self.packets_per_second * times, bits_per_second: self.bits_per_second * times }
    }
}

/// Both directions of one side, seen from the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Side {
    /// What the server receives.
    #[serde(rename = "in")]
    pub inward: Flow,
    /// What the server sends.
    #[serde(rename = "out")]
    pub outward: Flow,
}

impl Add for Side {
    type Output = Side;

    fn add(self, other: Side) -> Side {
        Side { inward: self.inward + other.inward, outward: self.outward + other.outward }
    }
}

impl Mul<f64> for Side {
    type Output = Side;

    fn mul(self, times: f64) -> Side {
        Side { inward: self.inward * times, outward: self.outward * times }
    }
}

impl Side {
    /// One message from the server and its acknowledgements.
    fn sent(bytes: u64) -> Side {
        Side { inward: acknowledgements(bytes), outward: data(bytes) }
    }

    /// One message to the server and its acknowledgements.
    fn received(bytes: u64) -> Side {
        Side { inward: data(bytes), outward: acknowledgements(bytes) }
    }
}

/// All traffic. The total is the sum of the two sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Network {
    /// Between clients and the server.
    pub clients: Side,
    /// Between the server and its upstreams.
    pub upstreams: Side,
    /// Both.
    pub total: Side,
}

impl Network {
    /// The traffic of a load.
    pub fn of(load: &Load) -> Network {
        let (clients, upstreams) = (clients(load), upstreams(load));
        Network { clients, upstreams, total: clients + upstreams }
    }
}

fn clients(load: &Load) -> Side {
    let sides = |tls| of_clients(load, |payload, masked| wrapped(frame_bytes(payload, masked), tls));
    sides(true) * load.tls_share + sides(false) * (1.0 - load.tls_share)
}

/// The same for all clients with or all without TLS; `wire` are the bytes of a payload, masked or not.
fn of_clients(load: &Load, wire: impl Fn(u64, bool) -> u64) -> Side {
    let pair = |payload| Side::received(wire(payload, true)) + Side::sent(wire(payload, false));
    pair(load.message_bytes) * load.message_rate
        + pair(0) * load.ping_rate
        + Side::sent(wire(load.publish_bytes, false)) * load.delivery_rate()
}

/// Payloads without frames, out and back.
fn upstreams(load: &Load) -> Side {
    let bytes = load.message_bytes;
    (Side::sent(bytes) + Side::received(bytes)) * load.proxied_rate()
}

/// A WebSocket frame of a whole message (RFC 6455 section 5.2).
fn frame_bytes(payload: u64, masked: bool) -> u64 {
    let header = match payload {
        ..126 => 2,
        126..65536 => 4,
        _ => 10,
    };
    payload + header + if masked { MASK_BYTES } else { 0 }
}

fn wrapped(bytes: u64, tls: bool) -> u64 {
    if tls { bytes + bytes.div_ceil(RECORD_BYTES) * RECORD_OVERHEAD } else { bytes }
}

fn segments(bytes: u64) -> u64 {
    bytes.div_ceil(SEGMENT_BYTES)
}

fn data(bytes: u64) -> Flow {
    flow(segments(bytes), bytes)
}

fn acknowledgements(bytes: u64) -> Flow {
    flow(segments(bytes).div_ceil(ACKNOWLEDGED_SEGMENTS), 0)
}

fn flow(packets: u64, payload: u64) -> Flow {
    let bytes = payload + packets * PACKET_OVERHEAD;
    Flow { packets_per_second: packets as f64, bits_per_second: 8.0 * bytes as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_their_headers() {
        assert_eq!([0, 125, 126, 65535, 65536].map(|n| frame_bytes(n, false) - n), [2, 2, 4, 4, 10]);
        assert_eq!(frame_bytes(64, true), 70);
        assert_eq!([1, 16384, 16385].map(|n| wrapped(n, true) - n), [22, 22, 44]);
    }

    /// 64 bytes in a frame of 66: a packet of 156 bytes on the wire, answered by one of 90.
    #[test]
    fn a_small_message_is_one_packet_and_its_acknowledgement() {
        let Side { inward, outward } = Side::sent(66);
        assert_eq!((outward.packets_per_second, outward.bits_per_second), (1.0, 8.0 * 156.0));
        assert_eq!((inward.packets_per_second, inward.bits_per_second), (1.0, 8.0 * 90.0));
    }

    /// 16 KiB and a header of 4: 12 segments of 1448 bytes at most, 6 acknowledgements.
    #[test]
    fn a_large_message_is_cut_into_segments() {
        let Side { inward, outward } = Side::received(16388);
        assert_eq!((inward.packets_per_second, outward.packets_per_second), (12.0, 6.0));
        assert_eq!(inward.bits_per_second, 8.0 * f64::from(16388 + 12 * 90));
    }
}

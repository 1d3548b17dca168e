//! MQTT 3.1.1, as much of it as a subscriber and a publisher with QoS 0 or 1 need.

use super::{Dialect, Heard};

/// Packet types (section 2.2.1).
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const PINGRESP: u8 = 0xd0;

/// A packet with the length of its rest in front (2.2.3).
fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
    let (mut out, mut len) = (vec![first], rest.len());
    loop {
        let more = if len > 127 { 0x80 } else { 0 };
        out.push((len % 128) as u8 | more);
        len /= 128;
        if len == 0 {
            break;
        }
    }
    out.extend_from_slice(rest);
    out
}

/// UTF-8 with its length in front (1.5.3).
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A clean session without keep alive: pings would be traffic of the tool's own.
pub fn connect(dialect: &Dialect, name: &str) -> Vec<u8> {
    const CLEAN: u8 = 0x02;
    const NAME_AND_PASSWORD: u8 = 0xc0;
    let mut rest = Vec::new();
    text(&mut rest, "MQTT");
    let flags = if dialect.login.is_some() { CLEAN | NAME_AND_PASSWORD } else { CLEAN };
    rest.extend_from_slice(&[4, flags, 0, 0]);
    text(&mut rest, name);
    if let Some((name, password)) = &dialect.login {
        text(&mut rest, name);
        text(&mut rest, password);
    }
    packet(CONNECT, &rest)
}

pub fn subscribe(topic: &str, acknowledged: bool) -> Vec<u8> {
    let mut rest = vec![0, 1];
    text(&mut rest, topic);
    rest.push(acknowledged.into());
    packet(SUBSCRIBE, &rest)
}

/// Packet ids go round; a publisher has far fewer unacknowledged than there are.
pub fn publish(topic: &str, number: Option<u32>, message: &str) -> Vec<u8> {
    let mut rest = Vec::new();
    text(&mut rest, topic);
    if let Some(number) = number {
        rest.extend_from_slice(&((number % 65_535) as u16 + 1).to_be_bytes());
    }
    rest.extend_from_slice(message.as_bytes());
    packet(if number.is_some() { PUBLISH | 0x02 } else { PUBLISH }, &rest)
}

pub fn acknowledgement(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [PUBACK, 2, high, low]
}

pub fn hear(bytes: &[u8]) -> Result<Option<(Heard<'_>, usize)>, String> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    // Only PUBLISH has flags (2.2.2).
    if !matches!(first, CONNACK | PUBACK | SUBACK | PINGRESP) && first & 0xf0 != PUBLISH {
        return Err(format!("the broker broke MQTT: a packet that begins with {first:#x}"));
    }
    let Some((len, at)) = length(bytes)? else { return Ok(None) };
    let Some(rest) = bytes.get(at..at + len) else { return Ok(None) };
    meaning(first, rest).map(|heard| Some((heard, at + len)))
}

/// The length of the rest, and where it begins.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut len = 0;
    for (at, &byte) in (1..).zip(bytes.iter().skip(1).take(4)) {
        len |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return Ok(Some((len, at + 1)));
        }
    }
    if bytes.len() > 4 { Err("the broker broke MQTT: a length of five bytes".into()) } else { Ok(None) }
}

fn meaning(first: u8, rest: &[u8]) -> Result<Heard<'_>, String> {
    match (first & 0xf0, rest) {
        (CONNACK, [_, 0]) => Ok(Heard::Welcome),
        (CONNACK, [_, code]) => Err(format!("the broker refuses the login ({code})")),
        (SUBACK, [_, _, 0x80]) => Err("the broker refuses the subscription".into()),
        (SUBACK | PUBACK, _) => Ok(Heard::Done),
        (PUBLISH, _) => message(first, rest).ok_or_else(|| "the broker broke MQTT: a PUBLISH that is cut".into()),
        _ => Ok(Heard::Nothing),
    }
}

fn message(first: u8, rest: &[u8]) -> Option<Heard<'_>> {
    let (len, rest) = rest.split_first_chunk()?;
    let rest = rest.get(usize::from(u16::from_be_bytes(*len))..)?;
    if first & 0x06 == 0 {
        return Some(Heard::Message { body: rest, id: None });
    }
    let (id, body) = rest.split_first_chunk()?;
    Some(Heard::Message { body, id: Some(u16::from_be_bytes(*id)) })
}

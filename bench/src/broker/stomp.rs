//! STOMP 1.2.

use super::{Dialect, Heard};
use edgehold_wire::stomp::{Command, Frame, Limits, Read, Version, read, write};

/// No broker's frame is above that here.
const LIMITS: Limits = Limits { frame_bytes: 64 << 20, header_bytes: 64 << 10, header_count: 256 };

fn frame(command: Command, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, Version::V12, command, headers, body);
    out
}

/// Without heart-beats: they would be traffic of the tool's own.
pub fn connect(dialect: &Dialect) -> Vec<u8> {
    let mut headers = vec![("accept-version", "1.2"), ("host", dialect.host.as_str())];
    if let Some((name, password)) = &dialect.login {
        headers.extend([("login", name.as_str()), ("passcode", password.as_str())]);
    }
    frame(Command::Connect, &headers, b"")
}

pub fn subscribe(topic: &str) -> Vec<u8> {
    frame(Command::Subscribe, &[("id", "0"), ("destination", topic), ("receipt", "subscribed")], b"")
}

pub fn publish(topic: &str, receipt: Option<u32>, message: &str) -> Vec<u8> {
    let number = receipt.map(|it| it.to_string());
    let mut headers = vec![("destination", topic)];
    headers.extend(number.as_deref().map(|it| ("receipt", it)));
    frame(Command::Send, &headers, message.as_bytes())
}

pub fn hear(bytes: &[u8]) -> Result<Option<(Heard<'_>, usize)>, String> {
    match read(bytes, &LIMITS, Version::V12) {
        Ok(Read::More { .. }) => Ok(None),
        Ok(Read::Beat { used }) => Ok(Some((Heard::Nothing, used))),
        Ok(Read::Frame { frame, used }) => meaning(&frame).map(|heard| Some((heard, used))),
        Err(fault) => Err(format!("the broker broke STOMP: {}", fault.words())),
    }
}

fn meaning<'b>(frame: &Frame<'b>) -> Result<Heard<'b>, String> {
    match frame.command {
        Command::Connected => Ok(Heard::Welcome),
        Command::Receipt => Ok(Heard::Done),
        Command::Message => Ok(Heard::Message { body: frame.body, id: None }),
        Command::Error => Err(format!("the broker says: {}", frame.get("message").unwrap_or_default())),
        other => Err(format!("the broker says {}", other.as_str())),
    }
}

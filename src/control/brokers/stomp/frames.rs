//! STOMP as a client of a broker speaks it: logging in, subscriptions, and what comes.

use crate::control::brokers::connection::Connection;
use crate::control::brokers::keeper::nonsense;
use crate::control::brokers::login::Denial;
use crate::control::brokers::settings::{BrokerAddress, BrokerSettings};
use crate::control::brokers::topics::Place;
use edgehold_wire::stomp::{self, Command, Fault, Frame, HeartBeat, Limits, Read, Version};
use std::io;
use std::time::{Duration, UNIX_EPOCH};

/// Bytes of the headers of a broker's frame, and their number, at most.
const HEADER_BYTES: usize = 1 << 20;
const HEADER_COUNT: usize = 4096;

/// Bytes that are said before CONNECTED, at most: that frame, or an ERROR.
const GREETING_BYTES: usize = 64 << 10;

/// A connection that is logged in, and what the broker says of heart-beats. `heart_beat`: those that are offered to it,
/// and asked of it.
///
/// # Errors
/// It cannot be reached, or speaks no STOMP. `Ok(Err(_))`: it does not let in who logs in.
pub(in crate::control::brokers) async fn connect(
    address: &BrokerAddress,
    settings: &BrokerSettings,
    heart_beat: Duration,
) -> io::Result<Result<(Connection, HeartBeat), Denial>> {
    let mut connection = Connection::open(address).await?;
    let beats = format!("{0},{0}", heart_beat.as_millis());
    let mut headers = vec![("accept-version", "1.1,1.2"), ("heart-beat", &beats), ("host", &settings.host)];
    headers.extend(settings.user.as_deref().map(|user| ("login", user)));
    headers.extend(settings.password.as_ref().map(|password| ("passcode", password.reveal())));
    write(&mut connection, Command::Connect, &headers);
    let mut answer = None;
    loop {
        read(&mut connection, GREETING_BYTES, |frame| answer = answer.take().or_else(|| Some(welcome(frame))))?;
        match answer.take() {
            Some(answer) => return Ok(answer.map(|beats| (connection, beats))),
            None => drop(connection.go_on().await?),
        }
    }
}

/// ERROR has no code: in answer to CONNECT it is taken to be about who logs in. No broker is known that speaks neither
/// of the versions that are asked for.
fn welcome(frame: &Frame<'_>) -> Result<HeartBeat, Denial> {
    if frame.command == Command::Connected {
        return Ok(frame.get("heart-beat").and_then(|it| HeartBeat::parse(&it)).unwrap_or_default());
    }
    let words = frame.get("message").unwrap_or_default().into_owned();
    Err(Denial { words, by_credentials: frame.command == Command::Error })
}

/// Says that the session ends.
pub(in crate::control::brokers) fn disconnect(connection: &mut Connection) {
    write(connection, Command::Disconnect, &[]);
}

/// What is subscribed to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A topic.
    Topic,
    /// A stream, from there on; `None`: from now on.
    Stream(Option<Place>),
}

/// Messages of a stream that may come before they are acknowledged: RabbitMQ wants a bound.
const PREFETCH: &str = "500";

/// Subscribes by this number, which the receipt has, too.
pub(super) fn subscribe(connection: &mut Connection, topic: &str, kind: Kind, number: u32) {
    let number = number.to_string();
    let mut headers = vec![("id", number.as_str()), ("destination", topic), ("receipt", &number)];
    let from;
    match kind {
        Kind::Topic => headers.push(("ack", "auto")),
        Kind::Stream(place) => {
            from = offset(place);
            headers.extend([("ack", "client"), ("prefetch-count", PREFETCH), ("x-stream-offset", &*from)]);
        }
    }
    write(connection, Command::Subscribe, &headers);
}

/// Where a stream is begun with (RabbitMQ, `x-stream-offset`). By time it may begin up to a second too early.
fn offset(place: Option<Place>) -> String {
    match place {
        None => "next".into(),
        Some(Place::Behind(last)) => format!("offset={}", last + 1),
        Some(Place::Since(time)) => {
            let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            format!("timestamp={seconds}")
        }
    }
}

/// Acknowledges a message, and those before it.
pub(super) fn acknowledge(connection: &mut Connection, message: &Frame<'_>) {
    // 1.2 names it by `id`, 1.1 by the other two.
    let names = [("id", "ack"), ("message-id", "message-id"), ("subscription", "subscription")];
    let values = names.map(|(name, its)| (name, message.get(its)));
    let headers: Vec<_> = values.iter().filter_map(|(name, its)| Some((*name, its.as_deref()?))).collect();
    write(connection, Command::Ack, &headers);
}

/// Ends the subscription of this number.
pub(super) fn unsubscribe(connection: &mut Connection, number: u32) {
    write(connection, Command::Unsubscribe, &[("id", &number.to_string())]);
}

fn write(connection: &mut Connection, command: Command, headers: &[(&str, &str)]) {
    stomp::write(&mut connection.unsent, Version::V12, command, headers, b"");
}

/// Header lines that concern nobody but two.
const OWN: [&str; 4] = ["subscription:", "ack:", "receipt:", "transaction:"];

/// Hands on all frames that have come, and forgets them.
///
/// # Errors
/// What has come is no STOMP.
pub(super) fn read(connection: &mut Connection, most: usize, mut each: impl FnMut(&Frame<'_>)) -> io::Result<()> {
    let mut at = 0;
    while at < connection.received.len() {
        match next(&connection.received[at..], most) {
            Ok(Read::Frame { frame, used }) => {
                each(&frame);
                at += used;
            }
            Ok(Read::Beat { used }) => at += used,
            Ok(Read::More { .. }) => break,
            Err(fault) => return Err(nonsense("STOMP", fault.words())),
        }
    }
    connection.received.drain(..at);
    Ok(())
}

/// The next frame, of so many bytes at most.
///
/// # Errors
/// It is none.
pub(super) fn next(bytes: &[u8], most: usize) -> Result<Read<'_>, Fault> {
    let limits = Limits { frame_bytes: most, header_bytes: HEADER_BYTES.min(most), header_count: HEADER_COUNT };
    stomp::read(bytes, &limits, Version::V12)
}

/// What shards send on of a MESSAGE: its header lines but for those that a client gets of its own and those of what its
/// publisher has agreed on with the broker, which some brokers hand on; the empty line, the body and NUL. And whether a
/// header has an escape, which older versions write otherwise.
pub(super) fn tail(frame: &Frame<'_>) -> (Vec<u8>, bool) {
    let own = |line: &&str| !OWN.iter().any(|name| line.starts_with(name));
    let mut tail = Vec::with_capacity(frame.headers.raw().len() + frame.body.len() + 2);
    for line in frame.headers.raw().lines().filter(own) {
        tail.extend_from_slice(line.as_bytes());
        tail.push(b'\n');
    }
    let escaped = tail.contains(&b'\\');
    tail.push(b'\n');
    tail.extend_from_slice(frame.body);
    tail.push(0);
    (tail, escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_part_has_what_no_client_has_of_its_own() {
        let bytes = b"MESSAGE\nsubscription:7\nmessage-id:a\nack:x\ndestination:/topic/a\ncontent-length:2\n\nhi\0";
        let Ok(Read::Frame { frame, .. }) = next(bytes, 1000) else { panic!("a frame") };
        let (shared, escaped) = tail(&frame);
        assert_eq!(shared, b"message-id:a\ndestination:/topic/a\ncontent-length:2\n\nhi\0");
        assert!(!escaped);
    }
}

//! The laws of STOMP.

use super::pieces;
use edgehold_wire::stomp::{self, Command, Fault, Frame, Limits, Read, Until, Version};

/// A frame as it was read: command, headers, body, and the bytes that it takes with all line ends in front of it.
pub(crate) type Told = (Command, Vec<(String, String)>, Vec<u8>, usize);

fn told(frame: &Frame<'_>, used: usize) -> Told {
    let headers = frame.headers.iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    (frame.command, headers, frame.body.to_vec(), used)
}

/// The first frame; `Err`: how many bytes must be there.
fn first(bytes: &[u8], limits: &Limits, version: Version) -> Result<Result<Told, usize>, Fault> {
    let mut at = 0;
    loop {
        match stomp::read(&bytes[at..], limits, version)? {
            Read::Beat { used } => at += used,
            Read::More { least, .. } => return Ok(Err(at + least)),
            Read::Frame { frame, used } => return Ok(Ok(told(&frame, at + used))),
        }
    }
}

/// On every prefix the result is "not whole yet", which asks for no byte that is not needed, or the result on the
/// whole.
pub(crate) fn prefixes(bytes: &[u8], limits: &Limits, version: Version) {
    let whole = first(bytes, limits, version);
    for len in 0..bytes.len() {
        let prefix = first(&bytes[..len], limits, version);
        let Ok(Err(least)) = prefix else {
            assert_eq!(prefix, whole, "at {len}");
            continue;
        };
        assert!(least > len && !matches!(&whole, Ok(Ok((.., used))) if least > *used), "at {len}: {least}, {whole:?}");
        if let Ok(Read::More { until, .. }) = stomp::read(&bytes[..len], limits, version) {
            let next = stomp::read(&bytes[..=len], limits, version);
            let is_cut = matches!(next, Ok(Read::More { .. }));
            assert!(is_cut || until.is_met(len + 1, &bytes[len..=len]), "at {len}: {until:?}, {next:?}");
        }
    }
}

/// What is read of a stream that comes in pieces, looked at no sooner than [`Read::More`] asks for.
pub(crate) fn stream(bytes: &[u8], limits: &Limits, version: Version, cuts: &[u8]) -> (Vec<Told>, Option<Fault>) {
    let (mut frames, mut buffer, mut wanted) = (Vec::new(), Vec::new(), (0, Until::Any));
    for piece in pieces(bytes, cuts) {
        buffer.extend_from_slice(piece);
        let is_met = wanted.1.is_met(buffer.len(), piece);
        while buffer.len() >= wanted.0.max(1) && is_met {
            let used = match stomp::read(&buffer, limits, version) {
                Err(fault) => return (frames, Some(fault)),
                Ok(Read::More { least, until }) => {
                    wanted = (least, until);
                    break;
                }
                Ok(Read::Beat { used }) => used,
                Ok(Read::Frame { frame, used }) => {
                    // Line ends in front may have been told before it.
                    frames.push(told(&frame, 0));
                    used
                }
            };
            buffer.drain(..used);
            wanted = (0, Until::Any);
        }
    }
    (frames, None)
}

/// Same bytes, same frames, same fault, however they are cut; what was read is read again from what is written of it.
pub(crate) fn frames(bytes: &[u8], limits: &Limits, version: Version, cuts: &[u8]) {
    prefixes(bytes, limits, version);
    let whole = stream(bytes, limits, version, &[]);
    assert_eq!(stream(bytes, limits, version, cuts), whole);
    assert_eq!(stream(bytes, limits, version, &[1]), whole);
    for frame in whole.0 {
        again(&frame, version);
    }
}

/// Writes a frame that was read, and reads it once more. Lone CRs are what some versions can read and not write.
fn again((command, headers, body, _): &Told, version: Version) {
    let plain =
        |text: &str| if version == Version::V12 { text.to_owned() } else { text.replace('\r', " ").trim().into() };
    let is_first = matches!(command, Command::Connect | Command::Connected);
    if is_first && headers.iter().any(|(name, value)| name.contains('\r') || value.contains('\r')) {
        return;
    }
    let lent: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    stomp::write(&mut with, version, *command, &lent, body);
    stomp::write_without_length(&mut without, version, *command, &lent, body);
    let limits = Limits { frame_bytes: usize::MAX, header_bytes: usize::MAX, header_count: usize::MAX };
    let listed = |headers: &[(String, String)]| -> Vec<(String, String)> {
        let others = headers.iter().filter(|(name, _)| name != "content-length");
        others.map(|(name, value)| (plain(name), plain(value))).collect()
    };
    for bytes in [with, without] {
        let Ok(Ok((its, read, content, used))) = first(&bytes, &limits, version) else { panic!("{bytes:?}") };
        assert_eq!((its, listed(&read), &content, used), (*command, listed(headers), body, bytes.len()));
    }
}

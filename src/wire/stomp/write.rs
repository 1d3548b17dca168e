//! Bytes out of frames. All functions append.

use super::{Coding, Command, Version};
use alloc::vec::Vec;
use memchr::memchr;

/// A frame. A body in a frame that may have none ([`Command::has_body`]) is left out. `content-length` is added where
/// there is a body; one among the headers is left out.
///
/// What the version has no way to say in a header becomes a space: NUL, in 1.1 CR, in 1.0 and in CONNECT and CONNECTED
/// line ends, and there in names a colon.
pub fn write(out: &mut Vec<u8>, version: Version, command: Command, headers: &[(&str, &str)], body: &[u8]) {
    frame(out, version, command, headers, body, !body.is_empty());
}

/// As [`write()`], without `content-length` where it can be done without: the body has no NUL. To some brokers the
/// header is what tells bytes from text.
pub fn write_without_length(
    out: &mut Vec<u8>,
    version: Version,
    command: Command,
    headers: &[(&str, &str)],
    body: &[u8],
) {
    frame(out, version, command, headers, body, memchr(0, body).is_some());
}

fn frame(
    out: &mut Vec<u8>,
    version: Version,
    command: Command,
    headers: &[(&str, &str)],
    body: &[u8],
    with_length: bool,
) {
    begin(out, command);
    for (name, value) in headers.iter().filter(|(name, _)| *name != "content-length") {
        line(out, version, command, name, value);
    }
    end(out, command, body, with_length);
}

/// The line of the command: header lines ([`line()`]) and [`end()`] make a frame of it.
pub fn begin(out: &mut Vec<u8>, command: Command) {
    out.extend_from_slice(command.as_str().as_bytes());
    out.push(b'\n');
}

/// What is behind the header lines: `content-length` where it is wanted, the empty line, the body, and NUL.
pub fn end(out: &mut Vec<u8>, command: Command, body: &[u8], with_length: bool) {
    let body = if command.has_body() { body } else { &[] };
    if with_length && command.has_body() {
        out.extend_from_slice(b"content-length:");
        number(out, body.len() as u64);
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(body);
    out.push(0);
}

/// One header line, with its end.
pub fn line(out: &mut Vec<u8>, version: Version, command: Command, name: &str, value: &str) {
    let from = out.len();
    escape(out, version, command, name);
    if !Coding::of(command, version).has_escapes() {
        let name = out.get_mut(from..).unwrap_or_default();
        name.iter_mut().filter(|byte| **byte == b':').for_each(|byte| *byte = b' ');
    }
    out.push(b':');
    escape(out, version, command, value);
    out.push(b'\n');
}

/// A number in decimal digits.
pub fn number(out: &mut Vec<u8>, number: u64) {
    let (from, mut rest) = (out.len(), number);
    loop {
        out.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.get_mut(from..).unwrap_or_default().reverse();
}

/// A header's value as this version writes it in frames of this command. [`line()`] writes names.
pub fn escape(out: &mut Vec<u8>, version: Version, command: Command, text: &str) {
    let coding = Coding::of(command, version);
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r' | b':' | b'\\' | 0)) {
        return out.extend_from_slice(bytes);
    }
    for &byte in bytes {
        match (byte, coding) {
            (b'\n', Coding::Escaped11 | Coding::Escaped12) => out.extend_from_slice(b"\\n"),
            (b':', Coding::Escaped11 | Coding::Escaped12) => out.extend_from_slice(b"\\c"),
            (b'\\', Coding::Escaped11 | Coding::Escaped12) => out.extend_from_slice(b"\\\\"),
            (b'\r', Coding::Escaped12) => out.extend_from_slice(b"\\r"),
            (b'\n' | b'\r' | 0, _) => out.push(b' '),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn written(version: Version, command: Command, headers: &[(&str, &str)], body: &[u8]) -> String {
        let mut out = Vec::new();
        write(&mut out, version, command, headers, body);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn headers_are_escaped_by_version() {
        let header = [("a:b", "\r\n:\\\0")];
        assert_eq!(written(Version::V12, Command::Send, &header, b""), "SEND\na\\cb:\\r\\n\\c\\\\ \n\n\0");
        assert_eq!(written(Version::V11, Command::Send, &header, b""), "SEND\na\\cb: \\n\\c\\\\ \n\n\0");
        assert_eq!(written(Version::V10, Command::Send, &header, b""), "SEND\na b:  :\\ \n\n\0");
        assert_eq!(written(Version::V12, Command::Connect, &header, b""), "CONNECT\na b:  :\\ \n\n\0");
        assert_eq!(written(Version::V10, Command::Stomp, &header, b""), "STOMP\na\\cb:\\r\\n\\c\\\\ \n\n\0");
    }

    #[test]
    fn a_body_has_its_length_and_only_where_there_may_be_one() {
        let length = [("content-length", "9"), ("x", "y")];
        assert_eq!(written(Version::V12, Command::Send, &length, b"hi\0"), "SEND\nx:y\ncontent-length:3\n\nhi\0\0");
        assert_eq!(written(Version::V12, Command::Send, &length, b""), "SEND\nx:y\n\n\0");
        assert_eq!(written(Version::V12, Command::Receipt, &length, b"hi"), "RECEIPT\nx:y\n\n\0");
        assert!(written(Version::V12, Command::Error, &[], &[b'x'; 1050]).contains("\ncontent-length:1050\n\n"));
    }

    #[test]
    fn a_length_is_left_out_where_it_can_be() {
        let mut out = Vec::new();
        write_without_length(&mut out, Version::V12, Command::Send, &[("content-length", "2")], b"hi");
        write_without_length(&mut out, Version::V12, Command::Send, &[], b"h\0");
        assert_eq!(out, b"SEND\n\nhi\0SEND\ncontent-length:2\n\nh\0\0");
    }
}

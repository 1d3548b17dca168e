//! Record headers (RFC 8446 section 5.1, RFC 5246 section 6.2): what they say, and how long a record may be.

use super::keys::TAG;
use super::{Fault, Suite, Version};

/// Bytes of a record header.
pub const HEADER: usize = 5;
/// Bytes of plaintext that a record may hold (RFC 8446 section 5.1).
pub const MAX_PLAINTEXT: usize = 1 << 14;
/// Bytes of the longest record that may be received, its header included: TLS 1.2's (RFC 5246 section 6.2.3).
pub const MAX_RECORD: usize = HEADER + MAX_PLAINTEXT + 2048;

/// The version in a record header, of TLS 1.2; 1.3 says the same (RFC 8446 section 5.1).
const LEGACY_VERSION: [u8; 2] = [3, 3];

/// What a record holds (RFC 8446 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Content {
    Alert = 21,
    Handshake = 22,
    ApplicationData = 23,
}

impl Content {
    pub(super) const fn from_byte(byte: u8) -> Option<Content> {
        Some(match byte {
            21 => Content::Alert,
            22 => Content::Handshake,
            23 => Content::ApplicationData,
            _ => return None,
        })
    }
}

/// A record header.
pub(super) struct Header {
    /// The outer type: in TLS 1.3, application data whatever the record holds (RFC 8446 section 5.2).
    pub(super) content: Content,
    /// Bytes behind the header.
    len: usize,
}

impl Header {
    /// Checks each byte as it is there: the type, the version, the length.
    fn read(bytes: &[u8], version: Version) -> Result<Option<Header>, Fault> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let content = Content::from_byte(first).filter(|&content| is_allowed(content, version));
        let content = content.ok_or(Fault::RecordType)?;
        // The lower byte is ignored in 1.3 (RFC 8446 section 5.1); in 1.2 it is authenticated with the record.
        if bytes.get(1).is_some_and(|&major| major != 3) {
            return Err(Fault::Version);
        }
        let Some(&[high, low]) = bytes.get(3..HEADER) else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes([high, low]));
        if len > max_ciphertext(version) {
            return Err(Fault::Oversized);
        }
        Ok(Some(Header { content, len }))
    }

    /// Of a whole record, which is as long as it says.
    pub(super) fn of_whole(record: &[u8], version: Version) -> Result<Header, Fault> {
        let header = Header::read(record, version)?.filter(|header| HEADER + header.len == record.len());
        header.ok_or(Fault::Truncated)
    }
}

/// After the handshake: TLS 1.3 has one outer type; change_cipher_spec comes in neither version.
fn is_allowed(content: Content, version: Version) -> bool {
    version == Version::Tls12 || content == Content::ApplicationData
}

const fn max_ciphertext(version: Version) -> usize {
    match version {
        Version::Tls12 => MAX_PLAINTEXT + 2048,
        Version::Tls13 => MAX_PLAINTEXT + 256,
    }
}

/// How many bytes the record at the front of `bytes` has, its header included: [`HEADER`] to [`MAX_RECORD`]. `None`
/// while its header is not whole. It is whole when `bytes` has as many.
///
/// # Errors
/// A header that no record has after the handshake of a connection of this version.
pub fn record_len(bytes: &[u8], version: Version) -> Result<Option<usize>, Fault> {
    Ok(Header::read(bytes, version)?.map(|header| HEADER + header.len))
}

/// The header of a record to be sent, with `len` bytes behind it.
pub(super) fn header(content: u8, len: usize) -> [u8; HEADER] {
    let [high, low] = (len as u16).to_be_bytes();
    [content, LEGACY_VERSION[0], LEGACY_VERSION[1], high, low]
}

/// The additional data of a TLS 1.2 record (RFC 5246 section 6.2.3.3): `plain` is the length of its plaintext. In 1.3
/// it is the header as it is sent.
pub(super) fn additional_data(sequence: u64, content: u8, version: [u8; 2], plain: usize) -> [u8; 13] {
    let mut data = [0; 13];
    let [high, low] = (plain as u16).to_be_bytes();
    let tail = [content, version[0], version[1], high, low];
    data.iter_mut().zip(sequence.to_be_bytes().into_iter().chain(tail)).for_each(|(to, byte)| *to = byte);
    data
}

/// Bytes that a record of this suite has beside its plaintext: 22 in TLS 1.3 (header, content type, tag), 29 in 1.2
/// with AES-GCM (header, nonce, tag), 21 with ChaCha20-Poly1305.
pub const fn overhead(suite: Suite) -> usize {
    match suite.version {
        Version::Tls13 => HEADER + 1 + TAG,
        Version::Tls12 => HEADER + suite.explicit_len() + TAG,
    }
}

/// Where the data of a record begins that was opened in place: behind the header and, in TLS 1.2 with AES-GCM, the
/// nonce. With the length of [`Opened::Data`](super::Opened::Data) that is the range in which it lies.
pub const fn data_offset(suite: Suite) -> usize {
    HEADER + suite.explicit_len()
}

/// Bytes that `plain` bytes of application data take when they are sealed into records that are as long as they may be.
pub const fn sealed_len(suite: Suite, plain: usize) -> usize {
    plain + plain.div_ceil(MAX_PLAINTEXT) * overhead(suite)
}

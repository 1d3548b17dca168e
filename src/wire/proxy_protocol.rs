//! The PROXY protocol, versions 1 and 2 (proxy-protocol.txt of HAProxy, 2020/03/05): a header in front of everything
//! else on a connection, in which a proxy says where its client is.
//!
//! [`read`] takes what has come so far; [`Writer`] writes version 2.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str;
use crc::{CRC_32_ISCSI, Crc};

/// The longest header of version 1, its line end included (section 2.1).
pub const MAX_V1: usize = 107;

/// The longest header of version 2 that is read. The format allows 65551 bytes, the specification asks of receivers for
/// 536 (section 2.2); there is room here for a client's certificate among the TLVs.
pub const MAX_V2: usize = 4096;

/// The longest value that [`Writer::tlv`] takes, in bytes.
pub const MAX_VALUE: usize = 1024;

/// Bytes of version 2 before the addresses.
const FIXED: usize = 16;

/// What version 2 begins with (section 2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 begins with (section 2.1).
const WORD: &[u8] = b"PROXY ";

/// CRC-32c (RFC 3720 appendix B.4), over the header with the checksum's own bytes zero (section 2.2.4).
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Types of TLVs (section 2.2.6).
pub mod kind {
    /// The protocol above, as in ALPN (RFC 7301).
    pub const ALPN: u8 = 0x01;
    /// The host name that the client asked for.
    pub const AUTHORITY: u8 = 0x02;
    /// The checksum of the header.
    pub const CRC32C: u8 = 0x03;
    /// Nothing: for alignment.
    pub const NOOP: u8 = 0x04;
    /// A name of the connection that a log can be searched for, 128 bytes at most.
    pub const UNIQUE_ID: u8 = 0x05;
    /// What is known of the client's TLS.
    pub const SSL: u8 = 0x20;
    /// Inside of [`SSL`]: the version of TLS, as text.
    pub const SSL_VERSION: u8 = 0x21;
    /// Inside of [`SSL`]: the common name of the client's certificate, UTF-8.
    pub const SSL_CN: u8 = 0x22;
    /// The first of those that are free for anybody (PP2_TYPE_MIN_CUSTOM). Edgehold's: whom the client was found to be,
    /// UTF-8.
    pub const IDENTITY: u8 = 0xe0;
    /// Edgehold's: the roles of that identity, UTF-8, comma-separated.
    pub const ROLES: u8 = 0xe1;
}

/// Which version a header has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// The ends of the connection that a proxy speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Where its client is.
    pub source: SocketAddr,
    /// Where the client has connected to.
    pub destination: SocketAddr,
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its version.
    pub version: Version,
    /// Its bytes: what follows is for whoever is behind it.
    pub len: usize,
    /// `None`: the proxy speaks for itself (LOCAL: a health check), or for a client without an internet address
    /// (UNKNOWN, AF_UNSPEC, AF_UNIX). The addresses of the socket stay in force.
    pub addresses: Option<Addresses>,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident $word:literal $words:literal,)+) => {
        /// Why bytes are no header that is taken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $(
                $(#[$doc])*
                #[doc = concat!($words, ".")]
                $name,
            )+
        }

        impl Fault {
            /// Every fault, in the order of the table.
            pub const ALL: &'static [Fault] = &[$(Fault::$name),+];

            /// One word for it, for a metric's label.
            pub const fn word(self) -> &'static str {
                match self { $(Fault::$name => $word,)+ }
            }

            /// What is wrong: one line in lower case without a period, for the log.
            pub const fn words(self) -> &'static str {
                match self { $(Fault::$name => $words,)+ }
            }
        }
    };
}

faults! {
    /// Nothing of the protocol.
    Absent "absent" "the connection does not begin with a PROXY header",
    /// Section 2.1.
    Line "line" "a PROXY header of version 1 is malformed",
    /// Section 2.1.
    LongLine "long_line" "a PROXY header of version 1 does not end within 107 bytes",
    /// Section 2.2.
    Version "version" "a PROXY header has a version or a command other than version 2 has",
    /// Section 2.2.
    Family "family" "a PROXY header names an address family or a transport that does not exist",
    /// Section 2.2.
    Datagram "datagram" "a PROXY header says that a stream carries datagrams (UDP)",
    /// Section 2.2.
    Long "long" "a PROXY header of version 2 is longer than 4096 bytes",
    /// Section 2.2.
    Short "short" "a PROXY header of version 2 is shorter than its addresses",
    /// Section 2.2.
    Tlv "tlv" "a TLV of a PROXY header goes beyond its end",
    /// Section 2.2.4.
    Checksum "checksum" "the checksum of a PROXY header is wrong",
}

/// The header that these bytes begin with; `None`: more of them are needed, at most [`MAX_V2`] in all.
///
/// TLVs are skipped; a checksum among them is verified. In version 1 addresses and ports have one form only, as the
/// specification demands: no leading zeros, one space between them.
///
/// # Errors
/// The bytes are no header, whatever follows. [`Fault::Absent`]: no byte of them was meant to be.
pub fn read(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    if begins(bytes, &SIGNATURE) {
        v2(bytes)
    } else if begins(bytes, WORD) {
        v1(bytes)
    } else {
        Err(Fault::Absent)
    }
}

/// Whether all bytes that there are agree with this beginning.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    bytes.iter().zip(with).all(|(one, other)| one == other)
}

// ---- version 1 ----

fn v1(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    let bytes = bytes.get(..MAX_V1).unwrap_or(bytes);
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return if bytes.len() == MAX_V1 { Err(Fault::LongLine) } else { Ok(None) };
    };
    let line = bytes.get(WORD.len()..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(Fault::Line)?;
    let line = str::from_utf8(line).map_err(|_| Fault::Line)?;
    Ok(Some(Header { version: Version::V1, len: end + 1, addresses: line_addresses(line)? }))
}

/// What stands behind `PROXY `. Behind UNKNOWN anything may.
fn line_addresses(line: &str) -> Result<Option<Addresses>, Fault> {
    let mut words = line.split(' ');
    let is_v4 = match words.next() {
        Some("UNKNOWN") => return Ok(None),
        Some("TCP4") => true,
        Some("TCP6") => false,
        _ => return Err(Fault::Line),
    };
    let mut next = || words.next().ok_or(Fault::Line);
    let (source, destination) = (ip(next()?, is_v4)?, ip(next()?, is_v4)?);
    let (source_port, destination_port) = (port(next()?)?, port(next()?)?);
    match words.next() {
        Some(_) => Err(Fault::Line),
        None => Ok(Some(Addresses {
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
        })),
    }
}

fn ip(text: &str, is_v4: bool) -> Result<IpAddr, Fault> {
    let parsed =
        if is_v4 { text.parse::<Ipv4Addr>().map(IpAddr::V4) } else { text.parse::<Ipv6Addr>().map(IpAddr::V6) };
    parsed.map_err(|_| Fault::Line)
}

/// A decimal number of one form: `u16` would take `+1` and `01` as well.
fn port(text: &str) -> Result<u16, Fault> {
    let is_one_form = text == "0" || text.starts_with(|first: char| ('1'..='9').contains(&first));
    text.parse().ok().filter(|_| is_one_form).ok_or(Fault::Line)
}

// ---- version 2 ----

fn v2(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    let Some(&[command, family, high, low]) = bytes.get(SIGNATURE.len()..FIXED) else { return Ok(None) };
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Fault::Version),
    };
    // Of LOCAL the family is not looked at.
    let kind = if is_local { Family::Other(0) } else { family_of(family)? };
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    match len {
        len if len > MAX_V2 => return Err(Fault::Long),
        len if len < FIXED + kind.len() => return Err(Fault::Short),
        _ => {}
    }
    let Some(header) = bytes.get(..len) else { return Ok(None) };
    let (block, tlvs) = header.split_at_checked(FIXED + kind.len()).ok_or(Fault::Short)?;
    // What stands behind a family that is not known may be addresses of it.
    if kind.len() > 0 {
        check_tlvs(header, tlvs)?;
    }
    Ok(Some(Header { version: Version::V2, len, addresses: kind.addresses(block.get(FIXED..).unwrap_or_default()) }))
}

/// What a block of addresses has.
#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
    /// So many bytes that say nothing of the internet.
    Other(usize),
}

/// The second half of byte 13 is the transport: 1 a stream, 2 datagrams. AF_UNSPEC has none.
fn family_of(byte: u8) -> Result<Family, Fault> {
    match byte {
        0x00 => Ok(Family::Other(0)),
        0x11 => Ok(Family::V4),
        0x21 => Ok(Family::V6),
        0x31 => Ok(Family::Other(216)),
        0x12 | 0x22 | 0x32 => Err(Fault::Datagram),
        _ => Err(Fault::Family),
    }
}

impl Family {
    fn len(self) -> usize {
        match self {
            Family::V4 => 12,
            Family::V6 => 36,
            Family::Other(len) => len,
        }
    }

    fn addresses(self, block: &[u8]) -> Option<Addresses> {
        let ([source, destination], [source_port, destination_port]) = match self {
            Family::V4 => two::<4>(block)?,
            Family::V6 => two::<16>(block)?,
            Family::Other(_) => return None,
        };
        let source = SocketAddr::new(source, source_port);
        Some(Addresses { source, destination: SocketAddr::new(destination, destination_port) })
    }
}

/// Two addresses of N bytes, then two ports.
fn two<const N: usize>(block: &[u8]) -> Option<([IpAddr; 2], [u16; 2])>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (destination, ports) = rest.split_first_chunk::<N>()?;
    let &[a, b, c, d] = ports else { return None };
    let ports = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    Some(([IpAddr::from(*source), IpAddr::from(*destination)], ports))
}

/// Goes over the TLVs behind the addresses, and verifies the checksum where there is one.
fn check_tlvs(header: &[u8], tlvs: &[u8]) -> Result<(), Fault> {
    let mut rest = tlvs;
    while !rest.is_empty() {
        let (&[kind, high, low], behind) = rest.split_first_chunk::<3>().ok_or(Fault::Tlv)?;
        let (value, next) = behind.split_at_checked(usize::from(u16::from_be_bytes([high, low]))).ok_or(Fault::Tlv)?;
        if kind == self::kind::CRC32C {
            check_sum(header, header.len() - behind.len(), value)?;
        }
        rest = next;
    }
    Ok(())
}

/// `at` is where the four bytes of the checksum begin, which count as zero.
fn check_sum(header: &[u8], at: usize, value: &[u8]) -> Result<(), Fault> {
    let sum: [u8; 4] = value.try_into().map_err(|_| Fault::Tlv)?;
    let mut digest = CRC.digest();
    digest.update(header.get(..at).unwrap_or_default());
    digest.update(&[0; 4]);
    digest.update(header.get(at + 4..).unwrap_or_default());
    if digest.finalize() == u32::from_be_bytes(sum) { Ok(()) } else { Err(Fault::Checksum) }
}

// ---- writing ----

/// Writes a header of version 2 behind what is in a buffer: [`Writer::begin`], TLVs in any order, [`Writer::end`].
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// Where the header begins.
    from: usize,
}

/// What is known of a client's TLS, for [`Writer::tls`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Tls<'t> {
    /// The version, `TLSv1.3`; empty where it is not known.
    pub version: &'t str,
    /// The client has shown a certificate, and it was verified.
    pub is_certified: bool,
    /// The common name of that certificate.
    pub common_name: Option<&'t str>,
}

impl<'o> Writer<'o> {
    /// The command PROXY with these addresses. Where one of them is IPv4 and the other is not, both are IPv6, one of
    /// them mapped. `None`: AF_UNSPEC, for a client that has no internet address; TLVs are good for it all the same.
    pub fn begin(out: &'o mut Vec<u8>, addresses: Option<Addresses>) -> Writer<'o> {
        let from = out.len();
        out.extend_from_slice(&SIGNATURE);
        out.push(0x21);
        match addresses.map(|it| (it, it.source.ip(), it.destination.ip())) {
            None => out.extend_from_slice(&[0x00, 0, 0]),
            Some((it, IpAddr::V4(source), IpAddr::V4(destination))) => {
                out.extend_from_slice(&[0x11, 0, 0]);
                block(out, &source.octets(), &destination.octets(), it);
            }
            Some((it, source, destination)) => {
                out.extend_from_slice(&[0x21, 0, 0]);
                block(out, &v6(source).octets(), &v6(destination).octets(), it);
            }
        }
        Writer { out, from }
    }

    /// A TLV of this type; see [`kind`]. `false`: the value is longer than [`MAX_VALUE`] (of a unique id: than 128), or
    /// the header would be longer than [`MAX_V2`], and nothing is written: a name that was cut would be another's.
    pub fn tlv(&mut self, kind: u8, value: &[u8]) -> bool {
        let most = if kind == self::kind::UNIQUE_ID { 128 } else { MAX_VALUE };
        let fits = value.len() <= most && self.out.len() - self.from + 3 + value.len() <= MAX_V2;
        if fits {
            self.out.push(kind);
            self.out.extend_from_slice(&(value.len() as u16).to_be_bytes());
            self.out.extend_from_slice(value);
        }
        fits
    }

    /// The TLV that says that the client speaks TLS, and what is known of it (section 2.2.5). A common name that is
    /// too long is left out. `false`: as [`Writer::tlv`].
    pub fn tls(&mut self, tls: Tls<'_>) -> bool {
        // PP2_CLIENT_SSL; PP2_CLIENT_CERT_CONN and PP2_CLIENT_CERT_SESS.
        let client = 0x01 | if tls.is_certified { 0x06 } else { 0 };
        // Zero: a certificate was shown and holds.
        let verify = u32::from(!tls.is_certified);
        let mut value = Vec::new();
        value.push(client);
        value.extend_from_slice(&verify.to_be_bytes());
        for (kind, text) in [(kind::SSL_VERSION, tls.version), (kind::SSL_CN, tls.common_name.unwrap_or(""))] {
            if !text.is_empty() && text.len() <= MAX_VALUE / 2 {
                value.push(kind);
                value.extend_from_slice(&(text.len() as u16).to_be_bytes());
                value.extend_from_slice(text.as_bytes());
            }
        }
        self.tlv(kind::SSL, &value)
    }

    /// Writes the length of what has come behind the first sixteen bytes.
    pub fn end(self) {
        let len = (self.out.len() - self.from - FIXED) as u16;
        if let Some(place) = self.out.get_mut(self.from + FIXED - 2..self.from + FIXED) {
            place.copy_from_slice(&len.to_be_bytes());
        }
    }
}

fn block(out: &mut Vec<u8>, source: &[u8], destination: &[u8], addresses: Addresses) {
    out.extend_from_slice(source);
    out.extend_from_slice(destination);
    out.extend_from_slice(&addresses.source.port().to_be_bytes());
    out.extend_from_slice(&addresses.destination.port().to_be_bytes());
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(it) => it.to_ipv6_mapped(),
        IpAddr::V6(it) => it,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn whole(bytes: &[u8]) -> Result<Header, Fault> {
        Ok(read(bytes)?.expect("whole"))
    }

    fn addresses(source: &str, destination: &str) -> Addresses {
        Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    /// A header of version 2 with this byte 12 and 13, and what follows the length.
    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        [&SIGNATURE[..], &[command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
    }

    #[test]
    fn a_line_of_version_1_says_where_a_client_is() {
        for (line, source, destination) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.2 0 65535\r\n", "192.0.2.1:0", "198.51.100.2:65535"),
            ("PROXY TCP6 2001:db8::1 ::1 56324 443\r\n", "[2001:db8::1]:56324", "[::1]:443"),
        ] {
            let header = whole(format!("{line}GET").as_bytes()).unwrap();
            assert_eq!((header.version, header.len), (Version::V1, line.len()));
            assert_eq!(header.addresses, Some(addresses(source, destination)));
        }
        for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN \0 what ever\r\n"] {
            assert_eq!(whole(line.as_bytes()).unwrap().addresses, None);
        }
        let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let longest = format!("PROXY UNKNOWN {full} {full} 65535 65535\r\n");
        assert_eq!(longest.len(), MAX_V1);
        assert_eq!(whole(longest.as_bytes()).unwrap().len, MAX_V1);
    }

    #[test]
    fn a_line_of_version_1_has_one_form() {
        for line in [
            "TCP4 192.0.2.1 192.0.2.2 1 2\n",
            "TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
            "TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
            "TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
            "TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
            "TCP4 ::1 ::2 1 2\r\n",
            "TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
            "TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
            "tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
            "UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "UNKNOWN\n",
            "\r\n",
        ] {
            assert_eq!(read(format!("PROXY {line}").as_bytes()), Err(Fault::Line), "{line:?}");
        }
        assert_eq!(read(b"aaa"), Err(Fault::Absent));
        let long = [b"PROXY UNKNOWN ", &[b'a'; MAX_V1][..]].concat();
        assert_eq!(read(&long), Err(Fault::LongLine));
        assert_eq!(read(&long[..MAX_V1 - 1]), Ok(None));
    }

    #[test]
    fn a_binary_header_says_where_a_client_is_or_that_there_is_none() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 4, 1, 187];
        let header = whole(&binary(0x21, 0x11, &v4)).unwrap();
        assert_eq!(header.addresses, Some(addresses("192.0.2.1:56324", "198.51.100.2:443")));
        assert_eq!((header.version, header.len), (Version::V2, 28));
        for (command, family, rest) in
            [(0x20, 0x00, &[][..]), (0x20, 0x11, &v4), (0x20, 0xff, &[9]), (0x21, 0x00, &[]), (0x21, 0x31, &[7; 216])]
        {
            let header = whole(&binary(command, family, rest)).unwrap();
            assert_eq!((header.addresses, header.len), (None, FIXED + rest.len()), "{command:x} {family:x}");
        }
    }

    #[test]
    fn a_binary_header_keeps_to_its_law() {
        let v4 = [1; 12];
        for (bytes, fault) in [
            (binary(0x11, 0x11, &v4), Fault::Version),
            (binary(0x22, 0x11, &v4), Fault::Version),
            (binary(0x21, 0x12, &v4), Fault::Datagram),
            (binary(0x21, 0x22, &[1; 36]), Fault::Datagram),
            (binary(0x21, 0x41, &v4), Fault::Family),
            (binary(0x21, 0x10, &v4), Fault::Family),
            (binary(0x21, 0x01, &v4), Fault::Family),
            (binary(0x21, 0x11, &v4[1..]), Fault::Short),
            (binary(0x21, 0x21, &[1; 35]), Fault::Short),
            (binary(0x21, 0x31, &[1; 215]), Fault::Short),
            (binary(0x21, 0x11, &[1; 14]), Fault::Tlv),
            (binary(0x21, 0x11, &[&v4[..], &[4, 0, 2, 0]].concat()), Fault::Tlv),
            (binary(0x21, 0x11, &[&v4[..], &[3, 0, 3, 0, 0, 0]].concat()), Fault::Tlv),
            (binary(0x21, 0x11, &[&v4[..], &[3, 0, 4, 0, 0, 0, 0]].concat()), Fault::Checksum),
            (binary(0x21, 0x11, &[1; MAX_V2 - FIXED + 1]), Fault::Long),
        ] {
            assert_eq!(read(&bytes), Err(fault));
        }
        let longest = [&v4[..], &[4, 0x0f, 0xe1], &[0; MAX_V2 - FIXED - 15]].concat();
        assert_eq!(whole(&binary(0x21, 0x11, &longest)).unwrap().len, MAX_V2);
    }

    #[test]
    fn a_checksum_is_verified_wherever_it_stands() {
        let v4 = [1; 12];
        let mut bytes = binary(0x21, 0x11, &[&v4[..], &[4, 0, 1, 9], &[3, 0, 4, 0, 0, 0, 0], &[5, 0, 1, 65]].concat());
        let at = FIXED + 12 + 4 + 3;
        let sum = CRC.checksum(&bytes);
        bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
        assert!(whole(&bytes).is_ok());
        for at in [FIXED, at, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(read(&other), Err(Fault::Checksum), "{at}");
        }
        // RFC 3720 appendix B.4.
        assert_eq!(CRC.checksum(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn what_is_written_is_what_the_specification_shows() {
        let mut out = b"before".to_vec();
        let mut writer = Writer::begin(&mut out, Some(addresses("192.0.2.1:56324", "198.51.100.2:443")));
        assert!(writer.tlv(kind::AUTHORITY, b"edge.example"));
        assert!(writer.tls(Tls { version: "TLSv1.3", is_certified: true, common_name: Some("anna") }));
        assert!(!writer.tlv(kind::UNIQUE_ID, &[b'a'; 129]) && !writer.tlv(kind::IDENTITY, &[b'a'; MAX_VALUE + 1]));
        writer.end();
        let expected = [
            &b"before\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x34"[..],
            &[192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 4, 1, 187],
            b"\x02\0\x0cedge.example",
            b"\x20\0\x16\x07\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x04anna",
        ]
        .concat();
        assert_eq!(out, expected);
        let mut plain = Vec::new();
        let mut writer = Writer::begin(&mut plain, None);
        assert!(writer.tls(Tls::default()));
        writer.end();
        assert_eq!(plain, b"\r\n\r\n\0\r\nQUIT\n\x21\x00\0\x08\x20\0\x05\x01\0\0\0\x01");
    }

    #[test]
    fn addresses_of_two_families_are_both_ipv6() {
        let mut out = Vec::new();
        Writer::begin(&mut out, Some(addresses("192.0.2.1:1", "[2001:db8::1]:2"))).end();
        assert_eq!(whole(&out).unwrap().addresses, Some(addresses("[::ffff:192.0.2.1]:1", "[2001:db8::1]:2")));
    }

    #[test]
    fn every_fault_has_words_of_its_own() {
        for (at, fault) in Fault::ALL.iter().enumerate() {
            let others = Fault::ALL.iter().skip(at + 1);
            assert!(others.clone().all(|other| other.words() != fault.words() && other.word() != fault.word()));
        }
    }
}

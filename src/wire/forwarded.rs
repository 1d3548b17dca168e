//! Who a request comes from, as the proxies on its way have told: Forwarded (RFC 7239) or X-Forwarded-For.
//!
//! Each proxy appends where it has the request from, so that what stands last is told by the one that is connected. Any
//! client can write such a field itself: an element is believed only if whoever has appended it is trusted.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::str;
use httparse::Header;

/// Elements that are looked at, from the last one on; the way of a request that has passed more proxies is told to
/// there.
pub const MAX_HOPS: usize = 16;

/// Which field a request is judged by: proxies that write one of them let the other pass as the client has sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field {
    /// X-Forwarded-For: addresses, comma-separated.
    #[default]
    XForwardedFor,
    /// Forwarded (RFC 7239): the parameter `for`.
    Forwarded,
}

impl Field {
    /// Its name, for comparing without regard to case.
    pub const fn name(self) -> &'static str {
        match self {
            Field::XForwardedFor => "X-Forwarded-For",
            Field::Forwarded => "Forwarded",
        }
    }
}

/// Where the request comes from, of whoever is connected and trusted: goes from the last element to the first, past
/// those that `is_trusted`, to the first that is not. Its port is 0 where none is told. Addresses are compared and
/// returned in their own family: IPv4 mapped into IPv6 is IPv4.
///
/// The walk stops early at what is no address (`unknown`, an obfuscated name, anything malformed; of Forwarded all of a
/// line in which anything is), and behind [`MAX_HOPS`] elements: the answer is then the last address that was trusted.
/// `None`: that is the one that is connected.
pub fn client(headers: &[Header<'_>], field: Field, is_trusted: impl Fn(IpAddr) -> bool) -> Option<SocketAddr> {
    let (mut found, mut left) = (None, MAX_HOPS);
    let lines = headers.iter().rev().filter(|line| line.name.eq_ignore_ascii_case(field.name()));
    for line in lines {
        let mut goes_on = |address: Option<SocketAddr>| {
            left = left.saturating_sub(1);
            found = address.or(found);
            address.is_some_and(|it| is_trusted(it.ip())) && left > 0
        };
        let went_on = match field {
            Field::XForwardedFor => last_to_first(line.value, &mut goes_on),
            Field::Forwarded => last_elements(line.value, &mut goes_on),
        };
        if !went_on {
            break;
        }
    }
    found
}

/// The elements of a line of X-Forwarded-For, the last one first, until one does not go on. An element that is no
/// address is `None`; empty ones say nothing.
fn last_to_first(value: &[u8], goes_on: &mut impl FnMut(Option<SocketAddr>) -> bool) -> bool {
    value.rsplit(|&byte| byte == b',').all(|element| match element.trim_ascii() {
        [] => true,
        element => goes_on(str::from_utf8(element).ok().and_then(address)),
    })
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = match text.strip_prefix('[').map(|text| text.split_once(']')) {
        Some(None) => return None,
        Some(Some((ip, port))) => (IpAddr::V6(ip.parse::<Ipv6Addr>().ok()?), port),
        None => match text.split_once(':') {
            Some((_, more)) if more.contains(':') => (text.parse().ok()?, ""),
            Some((ip, _)) => (IpAddr::V4(ip.parse().ok()?), text.get(ip.len()..)?),
            None => (IpAddr::V4(text.parse().ok()?), ""),
        },
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => 0,
        None => return None,
        Some(port) => self::port(port)?,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// A port, or an obfuscated one (RFC 7239 section 6.3), which is none.
fn port(text: &str) -> Option<u16> {
    let is_number = !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.strip_prefix('_') {
        Some(name) if !name.is_empty() && name.bytes().all(is_obfuscated) => Some(0),
        Some(_) => None,
        None => text.parse().ok().filter(|_| is_number),
    }
}

fn is_obfuscated(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

// ---- RFC 7239 ----

/// As [`last_to_first`] of a line of Forwarded. A quote may stand anywhere, so that the line is read from its
/// beginning; one that is malformed is one element that is no address.
fn last_elements(value: &[u8], goes_on: &mut impl FnMut(Option<SocketAddr>) -> bool) -> bool {
    let (mut last, mut count) = ([None; MAX_HOPS], 0);
    let mut rest = value;
    while !rest.is_empty() {
        match element(&mut rest) {
            Ok(Element::Empty) => {}
            Ok(Element::For(address)) => {
                if let Some(place) = last.get_mut(count % MAX_HOPS) {
                    *place = address;
                }
                count += 1;
            }
            Err(Malformed) => return goes_on(None),
        }
    }
    let from = count.saturating_sub(MAX_HOPS);
    (from..count).rev().all(|at| goes_on(last.get(at % MAX_HOPS).copied().flatten()))
}

/// A line breaks RFC 7239 section 4.
struct Malformed;

/// What an element of Forwarded tells.
enum Element {
    /// Nothing at all.
    Empty,
    /// Where the request comes from; `None`: nothing that is an address.
    For(Option<SocketAddr>),
}

/// Reads an element (`name=value` pairs between semicolons) and the comma behind it. White space is let pass around
/// each of them, as many write it.
fn element(rest: &mut &[u8]) -> Result<Element, Malformed> {
    let (mut found, mut pairs) = (None, 0);
    loop {
        let name = take(rest, is_token);
        if !name.is_empty() {
            pairs += 1;
            let value = value(rest)?;
            if name.eq_ignore_ascii_case(b"for") {
                // Once in an element.
                found = if found.is_none() { Some(value) } else { return Err(Malformed) };
            }
        }
        skip_space(rest);
        match rest.split_first() {
            None => break,
            Some((b',', behind)) => {
                *rest = behind;
                break;
            }
            Some((b';', behind)) => *rest = behind,
            Some(_) => return Err(Malformed),
        }
    }
    Ok(if pairs == 0 { Element::Empty } else { Element::For(found.flatten().and_then(address)) })
}

/// `=` and a token or a quoted string. `None`: one with an escaped character, which no address needs. Colons and
/// brackets are let pass outside of quotes, since some proxies forget those.
fn value<'v>(rest: &mut &'v [u8]) -> Result<Option<&'v str>, Malformed> {
    *rest = rest.strip_prefix(b"=").ok_or(Malformed)?;
    let Some(quoted) = rest.strip_prefix(b"\"") else {
        let token = take_exact(rest, |byte| is_token(byte) || b":[]".contains(&byte));
        return if token.is_empty() { Err(Malformed) } else { Ok(str::from_utf8(token).ok()) };
    };
    let (mut escapes, mut escaped) = (false, false);
    let end = quoted.iter().position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        escapes |= escaped;
        ends
    });
    let (text, behind) = quoted.split_at_checked(end.ok_or(Malformed)?).ok_or(Malformed)?;
    *rest = behind.strip_prefix(b"\"").ok_or(Malformed)?;
    Ok(str::from_utf8(text).ok().filter(|_| !escapes))
}

fn skip_space(rest: &mut &[u8]) {
    take_exact(rest, |byte| byte == b' ' || byte == b'\t');
}

/// As [`take_exact`], behind white space.
fn take<'v>(rest: &mut &'v [u8], is_part: impl Fn(u8) -> bool) -> &'v [u8] {
    skip_space(rest);
    take_exact(rest, is_part)
}

/// The bytes at the front that are part of it.
fn take_exact<'v>(rest: &mut &'v [u8], is_part: impl Fn(u8) -> bool) -> &'v [u8] {
    let len = rest.iter().position(|&byte| !is_part(byte)).unwrap_or(rest.len());
    let (taken, behind) = rest.split_at_checked(len).unwrap_or((rest, b""));
    *rest = behind;
    taken
}

/// A character of a token (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    /// 10.0.0.0/8 and fd00::/8.
    fn is_trusted(ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(it) => it.octets()[0] == 10,
            IpAddr::V6(it) => it.octets()[0] == 0xfd,
        }
    }

    fn found(field: Field, lines: &[&str]) -> Option<String> {
        let headers: Vec<_> = lines.iter().map(|it| Header { name: field.name(), value: it.as_bytes() }).collect();
        client(&headers, field, is_trusted).map(|it| it.to_string())
    }

    #[test]
    fn the_walk_goes_from_the_right_past_those_that_are_trusted() {
        for (lines, expected) in [
            (&["192.0.2.1"][..], Some("192.0.2.1:0")),
            (&["6.6.6.6, 192.0.2.1, 10.0.0.2"], Some("192.0.2.1:0")),
            (&["6.6.6.6", "192.0.2.1,10.0.0.3", "10.0.0.2"], Some("192.0.2.1:0")),
            (&["10.0.0.9, 10.0.0.2"], Some("10.0.0.9:0")),
            (&["192.0.2.1:77"], Some("192.0.2.1:77")),
            (&["2001:db8::1"], Some("[2001:db8::1]:0")),
            (&["[2001:db8::1]"], Some("[2001:db8::1]:0")),
            (&["[2001:db8::1]:77, fd00::1, [fd00::2]:9"], Some("[2001:db8::1]:77")),
            (&["::ffff:192.0.2.1, ::ffff:10.0.0.1"], Some("192.0.2.1:0")),
            (&[", 192.0.2.1,, 10.0.0.1 ,", ""], Some("192.0.2.1:0")),
            // What is no address hides what stands before it.
            (&["192.0.2.1, unknown"], None),
            (&["192.0.2.1, _hidden, 10.0.0.1"], Some("10.0.0.1:0")),
            (&["192.0.2.1", "10.0.0.300"], None),
            (&["6.6.6.6", "192.0.2.1,,,,,,,,,,,,,,,,,,,,,"], Some("192.0.2.1:0")),
            (&[], None),
            (&[""], None),
        ] {
            assert_eq!(found(Field::XForwardedFor, lines).as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in [
            "192.0.2.1:",
            "192.0.2.1:x",
            "192.0.2.1:65536",
            "192.0.2.1:+1",
            "192.0.2",
            "[192.0.2.1]",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]77",
            "[2001:db8::1]:",
            "fe80::1%eth0",
            "192.0.2.1 x",
            "\"192.0.2.1\"",
            "a",
        ] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn forwarded_is_read_as_its_rfc_has_it() {
        for (lines, expected) in [
            (&["for=192.0.2.60;proto=http;by=203.0.113.43"][..], Some("192.0.2.60:0")),
            (&["For=\"[2001:db8:cafe::17]:4711\""], Some("[2001:db8:cafe::17]:4711")),
            (&["for=6.6.6.6, for=192.0.2.43, for=\"10.1.2.3:_gazonk\""], Some("192.0.2.43:0")),
            (&["for=192.0.2.43", "proto=https;FOR=10.0.0.1;host=\"a,b;c\\\"d\""], Some("192.0.2.43:0")),
            (&["proto=https; for=\"192.0.2.1:80\" ; by=_x , for=10.0.0.1"], Some("192.0.2.1:80")),
            (&["for=192.0.2.1:80, for=[fd00::1]"], Some("192.0.2.1:80")),
            (&[" , for=192.0.2.1,, "], Some("192.0.2.1:0")),
            (&["for=192.0.2.1, for=unknown"], None),
            (&["for=192.0.2.1, for=_SEVKISEK, for=10.0.0.1"], Some("10.0.0.1:0")),
            (&["for=192.0.2.1, proto=http, for=10.0.0.1"], Some("10.0.0.1:0")),
            (&["for=192.0.2.1, for=\"10.0.0\\.1\""], None),
            (&["for=192.0.2.1;for=192.0.2.2"], None),
            (&["for=192.0.2.1;", "for=10.0.0.1"], Some("192.0.2.1:0")),
        ] {
            assert_eq!(found(Field::Forwarded, lines).as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn nothing_of_a_line_that_is_malformed_is_believed() {
        for line in [
            // A client's quote, and what the proxy has appended to it.
            "for=6.6.6.6;x=\", for=192.0.2.1",
            "for=6.6.6.6;x=\", for=\"[2001:db8::1]\"",
            "for=192.0.2.1 for=6.6.6.6",
            "for = 192.0.2.1",
            "for",
            "=192.0.2.1",
            "for=",
            "for=\"192.0.2.1\"x",
            "for=192.0.2.1, \u{e9}",
        ] {
            assert_eq!(found(Field::Forwarded, &[line]), None, "{line}");
            assert_eq!(found(Field::Forwarded, &[line, "for=10.0.0.7"]).as_deref(), Some("10.0.0.7:0"), "{line}");
        }
    }

    #[test]
    fn the_walk_is_bounded() {
        for (field, hop, evil) in
            [(Field::XForwardedFor, "10.0.0.1", "192.0.2.1"), (Field::Forwarded, "for=10.0.0.1", "for=192.0.2.1")]
        {
            let way = |hops| format!("{evil}{}", format!(",{hop}").repeat(hops));
            assert_eq!(found(field, &[&way(MAX_HOPS - 1)]).as_deref(), Some("192.0.2.1:0"));
            assert_eq!(found(field, &[&way(MAX_HOPS)]).as_deref(), Some("10.0.0.1:0"));
            let lines = [[evil].as_slice(), &[hop; MAX_HOPS]].concat();
            assert_eq!(found(field, &lines).as_deref(), Some("10.0.0.1:0"));
        }
    }
}

//! The written forms of values: durations, sizes, addresses, names, paths.
//!
//! Each function takes what was written and gives the value, or the words of a
//! problem ([`Parsed`]). What is not listed here is not accepted: whoever relied on
//! leniency would be surprised by a later version.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::model::{Address, Network, Start, Upstream};
use crate::service::broadcast::Template;
use toml::de::DeValue;

/// A value in the form that it is kept in; or the words of a problem: what is wrong with what was written, a dash, what
/// to write instead.
pub(super) type Parsed<T> = Result<T, String>;

/// `sun_path` holds 108 bytes and a closing zero, unix(7).
const UNIX_PATH_MAX: usize = 107;
/// Bytes of a name.
const NAME_MAX: usize = 32;
/// Bytes of a route's path: less than a request head may have where `head_bytes` is 2 KiB or more.
const PATH_MAX: usize = 1024;
/// Bytes of a channel, a topic, the name of a stream.
const CHANNEL_MAX: usize = 255;
/// What stands at the end of a route's path for the channel.
pub(super) const CHANNEL_PART: &str = "{channel}";
/// Bytes of a host name (RFC 1035 section 2.3.4).
const HOST_MAX: usize = 253;

const MILLIS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const BYTES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];

/// A value as it is shown in a problem: quoted, escaped onto one line, cut after 60 characters.
pub(super) fn quote(text: &str) -> String {
    let shown: String = text.chars().take(60).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", shown.escape_debug())
}

/// Several values as they are shown in a problem.
pub(super) fn quoted(values: &[&str]) -> String {
    values.iter().map(|value| quote(value)).collect::<Vec<_>>().join(", ")
}

/// A name from a file as it is shown in a problem: as [`quote`], without the quotes.
pub(super) fn plain(text: &str) -> String {
    quote(text).trim_matches('"').into()
}

/// What a value is, with the value where it is short.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {}", quote(text)),
        DeValue::Integer(number) => format!("the integer {}", plain(&number.to_string())),
        DeValue::Float(number) => format!("the number {}", plain(&number.to_string())),
        DeValue::Boolean(flag) => format!("the boolean {flag}"),
        DeValue::Datetime(date) => format!("the date {date}"),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// The known name closest to a written one by optimal string alignment; `None` where they differ in more than one
/// place, and one more in four characters.
pub(super) fn nearest<'n>(text: &str, names: &[&'n str]) -> Option<&'n str> {
    // The distance costs the product of the lengths, and no name is this long.
    if text.len() > 40 {
        return None;
    }
    let far = |name: &&&str| strsim::osa_distance(text, name);
    let near = names.iter().min_by_key(far)?;
    (far(&near) <= 1 + text.chars().count() / 4).then_some(*near)
}

/// Milliseconds of a duration such as "30s"; `None` where it is not one.
pub(super) fn millis(text: &str) -> Option<u64> {
    scaled(text, &MILLIS)
}

/// Bytes of a size such as "64KiB" or "512"; `None` where it is not one.
pub(super) fn bytes(text: &str) -> Option<u64> {
    scaled(text, &BYTES)
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// A duration as it would be written, in the largest unit that leaves no rest.
pub(super) fn show_millis(value: u64) -> String {
    show(value, &MILLIS, "0s")
}

/// A size as it would be written, in the largest unit that leaves no rest.
pub(super) fn show_bytes(value: u64) -> String {
    show(value, &BYTES, "0")
}

fn show(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    let whole = |scale: u64| value >= scale && value.is_multiple_of(scale);
    match units.iter().find(|(_, scale)| whole(*scale)) {
        Some((name, scale)) => format!("{}{name}", value / scale),
        None => zero.into(),
    }
}

/// The name of a listener or a feed. It becomes a metric label, hence the small alphabet.
pub(super) fn name(text: &str) -> Parsed<String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let fits = (1..=NAME_MAX).contains(&text.len());
    if fits && text.bytes().all(good) {
        return Ok(text.into());
    }
    Err(format!("{} is no name — write 1 to {NAME_MAX} letters, digits, `_` or `-`", quote(text)))
}

/// A network, or an address alone.
pub(super) fn network(text: &str) -> Parsed<Network> {
    // Its own words show what was written as it is.
    let is_plain = text.len() <= 60 && text.bytes().all(|byte| byte.is_ascii_graphic());
    let unlike = || format!("{} is no network — write an address, or one with a prefix: \"192.0.2.0/24\"", quote(text));
    text.parse().map_err(|words| if is_plain { words } else { unlike() })
}

/// A user or a group: a name as useradd(8) takes it, or a number (4294967295 is none: chown(2)).
pub(super) fn account(text: &str) -> Parsed<String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_name = begins && text.len() <= NAME_MAX && text.trim_end_matches('$').bytes().all(good);
    let is_number = text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u32>().is_ok_and(|it| it != u32::MAX);
    if is_name || is_number {
        return Ok(text.into());
    }
    Err(format!("{} is no user or group — write its name, \"edgehold\", or its number", quote(text)))
}

/// Where a listener listens.
pub(super) fn address(text: &str) -> Parsed<Address> {
    match text.strip_prefix("unix:") {
        Some(path) => unix_path(text, path).map(Address::Unix),
        None => socket_address(text).map(Address::Tcp),
    }
}

/// The permissions of a file, in octal.
pub(super) fn mode(text: &str) -> Parsed<u32> {
    let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777);
    mode.ok_or_else(|| format!("{} is no mode — write three octal digits, \"0660\"", quote(text)))
}

fn socket_address(text: &str) -> Parsed<SocketAddr> {
    let instead = "write \"0.0.0.0:8080\", \"[::]:8080\" or \"unix:/run/edgehold.sock\"";
    text.parse().map_err(|_| format!("{} is no IP address with a port — {instead}", quote(text)))
}

/// Where the admin API listens, or "off". TCP only: what reads it is a browser or a collector.
pub(super) fn admin(text: &str) -> Parsed<Option<SocketAddr>> {
    let instead = "write \"127.0.0.1:9180\", \"[::1]:9180\" or \"off\"";
    let refusal = || format!("{} is no IP address with a port — {instead}", quote(text));
    match text {
        "off" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| refusal()),
    }
}

/// The path of `text` after `unix:`; slashes in front are one slash, so that the URL form
/// (`unix:///run/x`) and the short one name the same thing.
pub(super) fn unix_path(text: &str, path: &str) -> Parsed<PathBuf> {
    let refuse = || {
        let instead = "write \"unix:/run/edgehold.sock\"";
        format!("{} names no absolute path of a socket — {instead}", quote(text))
    };
    let rest = path.trim_start_matches('/');
    if path.len() == rest.len() || rest.is_empty() || rest.ends_with('/') || rest.contains('\0') {
        return Err(refuse());
    }
    let path = format!("/{rest}");
    if path.len() > UNIX_PATH_MAX {
        let bytes = path.len();
        return Err(format!(
            "the path has {bytes} bytes, a Unix socket's has {UNIX_PATH_MAX} at most — write a shorter one"
        ));
    }
    Ok(path.into())
}

/// A back end: `tcp://host:port`, `tls://host:port` or `unix:///path`.
pub(super) fn upstream(text: &str) -> Parsed<Upstream> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(text, path).map(Upstream::Unix);
    }
    let (place, tls) = match text.strip_prefix("tls://") {
        Some(place) => (place, Some(Box::default())),
        None => (text.strip_prefix("tcp://").ok_or_else(|| no_upstream(text))?, None),
    };
    let (host, port) = place.rsplit_once(':').ok_or_else(|| no_upstream(text))?;
    let port = port_number(port).ok_or_else(|| no_upstream(text))?;
    let host = bare_host(host).ok_or_else(|| no_upstream(text))?;
    Ok(Upstream::Tcp { host, port, tls })
}

fn no_upstream(text: &str) -> String {
    format!("{} is no upstream — write \"tcp://host:port\", \"tls://host:port\" or \"unix:///path\"", quote(text))
}

/// A port from 1. Digits only: `u16::from_str` alone would take "+80".
pub(super) fn port_number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// A host of an authority without its brackets: a name or an IP address.
pub(super) fn bare_host(text: &str) -> Option<String> {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().ok().map(|ip| ip.to_string()),
        None => is_name(text).then(|| text.to_ascii_lowercase()),
    }
}

/// Whether a host is a name or an IPv4 address (RFC 1123 section 2.1, and `_`, which names inside
/// private networks carry). Empty labels are refused, a dot at the end too: the same name is written without it.
fn is_name(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |l: &str| (1..=63).contains(&l.len()) && l.bytes().all(good);
    text.len() <= HOST_MAX && text.split('.').all(label)
}

/// What is wrong with a host.
pub(super) fn no_host(text: &str) -> String {
    format!("{} is no host — write \"example.org\"", quote(text))
}

/// The name of an application protocol (RFC 7301 section 3.1).
pub(super) fn protocol(text: &str) -> Parsed<String> {
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    let refuse = || format!("{} is no protocol — write a registered name, such as \"mqtt\"", quote(text));
    fits.then(|| text.into()).ok_or_else(refuse)
}

/// The host of a route, as the Host field will be compared: lower-cased, IPv6 in brackets, `*.` in front of a name for
/// all names below it.
pub(super) fn host(text: &str) -> Parsed<String> {
    match text.strip_prefix("*.") {
        Some(name) if is_name(name) => return Ok(text.to_ascii_lowercase()),
        None if !text.contains('*') => {}
        _ => return Err(format!("{} is no host — a `*` stands in front of a name, \"*.example.org\"", quote(text))),
    }
    if let Some((front, port)) = text.rsplit_once(':')
        && port_number(port).is_some()
        && bare_host(front).is_some()
    {
        return Err(format!("{} has a port — write the host alone, {}", quote(text), quote(front)));
    }
    let plain = bare_host(text).ok_or_else(|| no_host(text))?;
    let v6 = plain.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
    Ok(if v6 { format!("[{plain}]") } else { plain })
}

/// The name of a file; relative ones start from the folder of the configuration file.
pub(super) fn file(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() || text.ends_with('/') || text.contains('\0') {
        return Err(format!("{} is no file — write its name", quote(text)));
    }
    Ok(text.into())
}

/// A name that clients ask for (RFC 6066 section 3), lower-cased; `*.` in front stands for one label.
pub(super) fn server_name(text: &str) -> Parsed<String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    if name.parse::<IpAddr>().is_ok() {
        let words = "is an address, and clients ask for names only — leave it out";
        return Err(format!("{} {words}", quote(text)));
    }
    if is_name(name) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!(
        "{} is no name — write \"example.org\" or, for all names with one label more, \"*.example.org\"",
        quote(text)
    ))
}

/// The path of a route, and whether `{channel}`, which is cut off, stood at its end.
pub(super) fn route_path(text: &str) -> Parsed<(String, bool)> {
    let front = text.strip_suffix(CHANNEL_PART).filter(|front| front.ends_with('/'));
    if front.unwrap_or(text).contains(['{', '}']) {
        let instead = "of braces there is only `{channel}`, at the end behind a slash: write \"/feed/{channel}\"";
        return Err(format!("{} has braces where none can be — {instead}", quote(text)));
    }
    path(front.unwrap_or(text)).map(|path| (path, front.is_some()))
}

/// The path of a route: what a request target can hold before its query (RFC 3986 section 3.3).
pub(super) fn path(text: &str) -> Parsed<String> {
    let refuse = |why: &str| Err(format!("{} {why}", quote(text)));
    if !text.starts_with('/') {
        return refuse("does not begin with a slash — write \"/chat\" or, with all below it, \"/chat/\"");
    }
    if text.len() > PATH_MAX {
        return refuse("is longer than 1024 bytes — write a shorter path");
    }
    if text.contains(['?', '#']) {
        return refuse("has a query or a fragment — routes are chosen by the path alone");
    }
    if !is_path(text) {
        return refuse("has characters no path is sent with — write them as %XX");
    }
    // Clients resolve these before they send (RFC 3986 section 5.2.4).
    if text.split('/').any(|segment| segment == "." || segment == "..") {
        return refuse("has a `.` or `..` segment, which clients never send — write the path they lead to");
    }
    Ok(text.into())
}

/// Only pchar and slashes, and each `%` with its two hex digits.
fn is_path(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&b);
    text.bytes().all(plain) && escapes(text)
}

/// Whether each `%` has its two hex digits (RFC 3986 section 2.1).
pub(super) fn escapes(text: &str) -> bool {
    let escape = |at: usize| text.as_bytes()[at + 1..].iter().take(2).filter(|b| b.is_ascii_hexdigit()).count() == 2;
    text.bytes().enumerate().all(|(at, b)| b != b'%' || escape(at))
}

/// A channel, or all channels that begin so: with a `*` at its end.
pub(super) fn channel(text: &str) -> Parsed<String> {
    let named = label(text, "channel")?;
    if text.find('*').is_some_and(|at| at + 1 < text.len()) {
        return Err(format!("{} has a `*` before its end — write it last, for all that begins so", quote(text)));
    }
    Ok(named)
}

/// As [`channel`], with names in it (`{user}`, `{claim.x}`).
pub(super) fn channel_pattern(text: &str) -> Parsed<String> {
    if Template::names(text).is_some() {
        return channel(text);
    }
    let shown = quote(text);
    Err(format!("{shown} has a brace that is no `{{user}}` and no `{{claim.name}}` — write one of these"))
}

/// The name of a role.
pub(super) fn role(text: &str) -> Parsed<String> {
    label(text, "role")
}

/// A user of a broker, or a virtual host there.
pub(super) fn broker_name(text: &str) -> Parsed<String> {
    label(text, "name")
}

/// What a broker is asked for. What it may look like is for the kind of broker to say.
pub(super) fn topic(text: &str) -> Parsed<String> {
    label(text, "topic")
}

/// A destination that is a stream at the broker: all clients of the edge share it, whoever they are.
pub(super) fn stream_destination(text: &str) -> Parsed<String> {
    if text.contains('{') {
        return Err(format!("{} names a client, and a stream is everybody's — write it without braces", quote(text)));
    }
    topic(text)
}

fn label(text: &str, what: &str) -> Parsed<String> {
    let fits = (1..=CHANNEL_MAX).contains(&text.len());
    if fits && !text.contains(char::is_control) {
        return Ok(text.into());
    }
    Err(format!("{} is no {what} — write 1 to {CHANNEL_MAX} bytes without control characters", quote(text)))
}

/// The name of a JetStream stream: NATS refuses what would be a wildcard, part a subject or leave a folder.
pub(super) fn stream(text: &str) -> Parsed<String> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c);
    if (1..=CHANNEL_MAX).contains(&text.len()) && !text.contains(bad) {
        return Ok(text.into());
    }
    let instead = "write a name without spaces and without any of `. * > / \\`";
    Err(format!("{} is no name of a stream — {instead}", quote(text)))
}

/// Where a stream is begun. A whole number comes as its digits.
pub(super) fn start(text: &str) -> Parsed<Start> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text {
        "new" => Ok(Start::New),
        "first" => Ok(Start::First),
        _ => text.parse().ok().filter(|n| digits && *n > 0).map(Start::Sequence).ok_or_else(|| no_start(text)),
    }
}

fn no_start(text: &str) -> String {
    format!("{} will not do — write \"new\", \"first\" or a whole number from 1", quote(text))
}

/// A subprotocol: a token (RFC 6455 section 4.1, RFC 9110 section 5.6.2).
pub(super) fn token(text: &str) -> Parsed<String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.is_empty() && text.len() <= 128 && text.bytes().all(good) {
        return Ok(text.into());
    }
    Err(format!("{} is no token (RFC 9110, section 5.6.2) — write a name such as \"v12.stomp\"", quote(text)))
}

/// An origin as browsers send it: scheme, host, and a port that is not the scheme's own.
pub(super) fn origin(text: &str) -> Parsed<String> {
    if text == "*" {
        return Err("\"*\" would let every web page read the admin API — write the origins that may".into());
    }
    let lower = text.to_ascii_lowercase();
    let (scheme, place) = lower.split_once("://").ok_or_else(|| no_origin(text))?;
    let usual = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return Err(no_origin(text)),
    };
    if let Some(front) = place.strip_suffix(usual) {
        let better = format!("{scheme}://{front}");
        return Err(format!("browsers leave the usual port out of an origin — write {}", quote(&better)));
    }
    if is_authority(place) { Ok(lower) } else { Err(no_origin(text)) }
}

/// An origin, those below a name (`https://*.example.org`), `same-host`, or `*`.
pub(super) fn origin_pattern(text: &str) -> Parsed<String> {
    if matches!(text, "*" | "same-host") {
        return Ok(text.into());
    }
    match text.split_once("://*.") {
        None => origin(text),
        Some((scheme, name)) => origin(&format!("{scheme}://{name}")).map(|it| it.replacen("://", "://*.", 1)),
    }
}

fn no_origin(text: &str) -> String {
    format!("{} is no origin — write scheme, host and port, \"http://localhost:8080\"", quote(text))
}

fn is_authority(text: &str) -> bool {
    let with_port =
        text.rsplit_once(':').is_some_and(|(host, port)| bare_host(host).is_some() && port_number(port).is_some());
    with_port || bare_host(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_written() {
        for text in ["0s", "250ms", "30s", "5m", "24h"] {
            assert_eq!(show_millis(millis(text).unwrap()), text);
        }
        for text in ["0", "512", "64KiB", "1MiB", "2GiB"] {
            assert_eq!(show_bytes(bytes(text).unwrap()), text);
        }
    }

    #[test]
    fn numbers_that_are_none() {
        for text in ["", "s", "30", "1.5s", "-1s", "+1s", "1 s", "1S", "99999999999999999999s", "9999999999999999999h"]
        {
            assert_eq!(millis(text), None, "{text}");
        }
        for text in ["", "KiB", "64k", "64KB", "-1", "+1", "1 KiB", "٣", "99999999999999999999GiB"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn unix_forms_name_one_path() {
        for text in ["unix:/run/x", "unix:///run/x"] {
            assert_eq!(address(text).unwrap().to_string(), "unix:/run/x");
            assert_eq!(upstream(text).unwrap().to_string(), "unix:///run/x");
        }
        for text in ["unix:run/x", "unix:@x", "unix:", "unix:/", "unix:/run/"] {
            assert!(address(text).is_err(), "{text}");
        }
        let long = |n: usize| format!("unix:/{}", "x".repeat(n - 1));
        assert!(address(&long(UNIX_PATH_MAX)).is_ok());
        assert!(address(&long(UNIX_PATH_MAX + 1)).is_err());
    }

    #[test]
    fn upstreams_come_back_as_written() {
        for text in ["tcp://broker:61613", "tcp://10.0.0.1:1", "tcp://[::1]:65535"] {
            assert_eq!(upstream(text).unwrap().to_string(), text);
        }
        for text in [
            "broker:1",
            "tcp://broker",
            "tcp://:1",
            "tcp://b:0",
            "tcp://b:+1",
            "tcp://b:65536",
            "tcp://::1:5",
            "tcp://b:1/",
        ] {
            assert!(upstream(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts() {
        assert_eq!(host("Example.ORG").unwrap(), "example.org");
        assert_eq!(host("[0:0::1]").unwrap(), "[::1]");
        assert_eq!(host("*.Example.ORG").unwrap(), "*.example.org");
        assert_eq!(host("*.localhost").unwrap(), "*.localhost");
        for text in ["", "a.b:80", "[::1]:80", "::1", "a..b", "a.", "a/b", "[a]", "é.example"] {
            assert!(host(text).is_err(), "{text}");
        }
        for text in ["*", "*.", "*a", "a.*", "*.*.a", "**.a", "*.a:80", "*.[::1]", "*.a."] {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths() {
        for text in ["/", "/a", "/a/", "/a%20b", "/~x;v=1/@:"] {
            assert_eq!(path(text).unwrap(), text);
        }
        for text in ["", "a", "/a b", "/é", "/a?b", "/a#b", "/%", "/%2", "/%zz", "/./a", "/a/..", "/\u{0}"] {
            assert!(path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn near_names() {
        let names = ["upstream", "root"];
        assert_eq!(nearest("upstrem", &names), Some("upstream"));
        assert_eq!(nearest("rott", &names), Some("root"));
        assert_eq!(nearest("banana", &names), None);
    }

    #[test]
    fn paths_of_channels() {
        for (text, path, channel) in [
            ("/feed/{channel}", "/feed/", true),
            ("/{channel}", "/", true),
            ("/feed/", "/feed/", false),
            ("/feed", "/feed", false),
        ] {
            assert_eq!(route_path(text).unwrap(), (path.into(), channel));
        }
        for text in ["/feed{channel}", "/{channel}/x", "/{chanel}", "{channel}", "/{channel}/{channel}", "/{channel}}"]
        {
            assert!(route_path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn channels() {
        let long = |bytes: usize| "x".repeat(bytes);
        for text in ["a", "é ü", "news.*", "*", &long(CHANNEL_MAX)] {
            assert_eq!(channel(text).unwrap(), text);
        }
        for text in ["", "a*b", "**", "a\nb", "\u{7f}", "\u{85}", &long(CHANNEL_MAX + 1)] {
            assert!(channel(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn starts_of_streams() {
        assert_eq!(start("new"), Ok(Start::New));
        assert_eq!(start("first"), Ok(Start::First));
        assert_eq!(start("18446744073709551615"), Ok(Start::Sequence(u64::MAX)));
        for text in ["", "0", "-1", "+1", "last", "18446744073709551616"] {
            assert!(start(text).is_err(), "{text}");
        }
        for text in ["", "a.b", "a b", "a*", ">", "a/b"] {
            assert!(stream(text).is_err(), "{text}");
        }
    }

    #[test]
    fn origins() {
        assert_eq!(origin("HTTP://LocalHost:8080").unwrap(), "http://localhost:8080");
        for text in
            ["*", "localhost", "http://", "http://a:80", "https://a:443", "http://a/", "ws://a", "null", "http://a:b"]
        {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}

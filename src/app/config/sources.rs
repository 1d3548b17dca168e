//! The written forms of a feed's source: `udp://127.0.0.1:9999`, `nats://broker:4222`, `http`.
//!
//! What goes in is what the operator wrote; what comes out is a [`Source`], or words about what is wrong and
//! what to write. A password never stands in those words.

use std::net::{Ipv6Addr, SocketAddr};

use super::forms::{self, Parsed};
use super::model::{Broker, Source};

/// What may be written, as words for a problem and for the reference.
pub(super) const FORM: &str = "\"udp://127.0.0.1:9999\", \"tcp://host:port\", \"tcp-listen://127.0.0.1:9999\", \
    \"unix:///path\", \"nats://host\", \"redis://host\", \"mqtt://host\", \"http\" or \"demo\"";

/// Schemes of brokers by TLS, beside those of [`KINDS`].
const TLS_SCHEMES: [&str; 3] = ["tls", "rediss", "mqtts"];

/// Ports of brokers where none is written: those that NATS, Redis and MQTT (IANA) have for themselves.
const NATS_PORT: u16 = 4222;
const REDIS_PORT: u16 = 6379;
const MQTT_PORT: u16 = 1883;
const MQTTS_PORT: u16 = 8883;

/// How the form of each kind of source begins: what [`kind`] may say, and what keys of a feed belong to.
pub(super) const KINDS: [&str; 9] = ["udp", "tcp", "tcp-listen", "unix", "nats", "redis", "mqtt", "http", "demo"];

/// What kind a source is, one of [`KINDS`].
pub(super) fn kind(source: &Source) -> &'static str {
    match source {
        Source::Udp(_) => "udp",
        Source::Tcp { .. } => "tcp",
        Source::TcpListen(_) => "tcp-listen",
        Source::Unix(_) => "unix",
        Source::Nats(_) | Source::JetStream(..) => "nats",
        Source::RedisChannels(_) | Source::RedisStreams(_) => "redis",
        Source::Mqtt(_) => "mqtt",
        Source::Http => "http",
        Source::Demo => "demo",
    }
}

/// The source with what other keys say of it: `stream` makes JetStream of NATS, `redis_streams` streams of channels.
pub(super) fn streaming(source: Source, stream: Option<String>, redis_streams: bool) -> Source {
    match (source, stream) {
        (Source::Nats(broker), Some(stream)) => Source::JetStream(broker, stream),
        (Source::RedisChannels(broker), _) if redis_streams => Source::RedisStreams(broker),
        (source, _) => source,
    }
}

/// A URL with `***` for its password, or for all of its userinfo where that has no colon: NATS takes a token there.
fn hide(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let Some(end) = url.rfind('@').filter(|end| *end >= start) else {
        return url.into();
    };
    let user = &url[start..end];
    let shown = user.find(':').map_or(0, |colon| colon + 1);
    format!("{}{}***{}", &url[..start], &user[..shown], &url[end..])
}

/// A source as it is shown in a problem.
fn shown(text: &str) -> String {
    forms::quote(&hide(text))
}

/// Where the messages of a feed come from.
pub(super) fn source(text: &str) -> Parsed<Source> {
    if let Some(path) = text.strip_prefix("unix:") {
        return forms::unix_path(text, path).map(Source::Unix);
    }
    match text {
        "http" => return Ok(Source::Http),
        "demo" => return Ok(Source::Demo),
        _ => {}
    }
    let (scheme, place) = text.split_once("://").ok_or_else(|| no_source(text))?;
    match scheme {
        "udp" => address(text, scheme, place).map(Source::Udp),
        "tcp-listen" => address(text, scheme, place).map(Source::TcpListen),
        "tcp" => peer(text, place),
        "nats" | "tls" => broker(text, scheme, place, NATS_PORT).map(Source::Nats),
        "redis" | "rediss" => broker(text, scheme, place, REDIS_PORT).map(Source::RedisChannels),
        "mqtt" => broker(text, scheme, place, MQTT_PORT).map(Source::Mqtt),
        "mqtts" => broker(text, scheme, place, MQTTS_PORT).map(Source::Mqtt),
        _ => Err(no_scheme(text, scheme)),
    }
}

fn no_source(text: &str) -> String {
    match forms::nearest(text, &["http", "demo"]) {
        Some(near) => format!("{} is no source — did you mean \"{near}\"?", shown(text)),
        None => format!("{} is no source — write {FORM}", shown(text)),
    }
}

/// A scheme that is none of ours: a slip, another name for one, or a stranger.
fn no_scheme(text: &str, scheme: &str) -> String {
    if matches!(scheme, "http" | "https") {
        return format!("{} is an address, and edgehold is published to — write \"http\"", shown(text));
    }
    let known = match scheme {
        // As other clients of these brokers have it.
        "nats+tls" | "natss" => Some("tls"),
        "redis+tls" | "redis+ssl" => Some("rediss"),
        "ssl" | "mqtt+ssl" | "mqtt+tls" => Some("mqtts"),
        _ => forms::nearest(scheme, &[&KINDS[..7], &TLS_SCHEMES].concat()),
    };
    match known {
        Some(near) => format!("{} has an unknown scheme — did you mean \"{near}://\"?", shown(text)),
        None => format!("{} has an unknown scheme — write {FORM}", shown(text)),
    }
}

/// An address that is opened here: no name, and a port that those who send can know.
fn address(text: &str, scheme: &str, place: &str) -> Parsed<SocketAddr> {
    if let Ok(address) = place.parse::<SocketAddr>()
        && address.port() > 0
    {
        return Ok(address);
    }
    let (host, port) = split(place);
    let (words, better) = match (bare_v6(place), host, forms::port_number(port)) {
        (Some(place), _, _) => ("has an IPv6 address without brackets", place),
        (None, _, None) => ("has no port from 1 to 65535", "127.0.0.1:9999".into()),
        (None, "", Some(port)) => ("has no address", format!("0.0.0.0:{port}")),
        (None, _, Some(port)) => {
            ("has a name where an IP address of this machine is needed", format!("127.0.0.1:{port}"))
        }
    };
    Err(format!("{} {words} — write \"{scheme}://{better}\"", shown(text)))
}

/// Host and port; no port where there is no colon.
fn split(place: &str) -> (&str, &str) {
    place.rsplit_once(':').unwrap_or((place, ""))
}

/// An IPv6 address without brackets, as it would have to be written; what follows its last colon is taken for a port
/// where both would do.
fn bare_v6(place: &str) -> Option<String> {
    let is_v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    let (host, port) = split(place);
    match forms::port_number(port) {
        Some(port) if is_v6(host) => Some(format!("[{host}]:{port}")),
        _ => is_v6(place).then(|| format!("[{place}]:9999")),
    }
}

/// Host and port that edgehold connects to.
fn peer(text: &str, place: &str) -> Parsed<Source> {
    let (host, port) = host_and_port(text, "tcp", place)?;
    let port = port.ok_or_else(|| format!("{} has no port — write \"tcp://host:port\"", shown(text)))?;
    Ok(Source::Tcp { host, port })
}

/// The URL of a broker with its port filled in.
fn broker(text: &str, scheme: &str, place: &str, usual: u16) -> Parsed<Broker> {
    let instead = |words: &str| format!("{} {words} — write \"{scheme}://host:{usual}\"", shown(text));
    let (authority, path) = place.find(['/', '?', '#']).map_or((place, ""), |at| place.split_at(at));
    let (user, place) = authority.rsplit_once('@').map_or(("", authority), |(user, place)| (user, place));
    if !is_user(user) || path.contains('@') {
        return Err(instead("has characters in its user or password that must be written as %XX"));
    }
    if !goes_on(scheme, path) {
        return Err(instead("goes on behind host and port"));
    }
    let (host, port) = host_and_port(text, scheme, place)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    let port = port.unwrap_or(usual);
    Ok(Broker::new(format!("{scheme}://{user}{host}:{port}{}", path.trim_end_matches('/'))))
}

/// What may stand behind host and port: the number of a Redis database, the client identifier of an MQTT session.
fn goes_on(scheme: &str, path: &str) -> bool {
    let known = match scheme {
        "redis" | "rediss" => path.strip_prefix('/').is_some_and(|number| number.parse::<u8>().is_ok()),
        "mqtt" | "mqtts" => path.trim_start_matches('/').strip_prefix("?client_id=").is_some_and(is_client),
        _ => false,
    };
    known || matches!(path, "" | "/")
}

/// Characters that need no escape in a URL, as many as every broker must take (MQTT 3.1.1 section 3.1.3.1).
fn is_client(text: &str) -> bool {
    (1..=23).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

/// User and password of a URL (RFC 3986 section 3.2.1).
fn is_user(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:%".contains(&b);
    text.bytes().all(plain) && forms::escapes(text)
}

/// A host, and a port where one is written.
fn host_and_port(text: &str, scheme: &str, place: &str) -> Parsed<(String, Option<u16>)> {
    if let Some(host) = forms::bare_host(place) {
        return Ok((host, None));
    }
    let better = bare_v6(place).unwrap_or_else(|| "host:port".into());
    let refuse = |words: &str| format!("{} {words} — write \"{scheme}://{better}\"", shown(text));
    let (host, port) = split(place);
    let host = forms::bare_host(host).ok_or_else(|| refuse("has no host name or IP address"))?;
    let port = forms::port_number(port).ok_or_else(|| refuse("has no port from 1 to 65535"))?;
    Ok((host, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_come_back_as_written() {
        for text in [
            "udp://127.0.0.1:9999",
            "udp://[ff02::1]:9999",
            "udp://239.1.2.3:5000",
            "tcp://ticker:9999",
            "tcp://[::1]:1",
            "tcp-listen://0.0.0.0:9999",
            "unix:///run/feed.sock",
            "nats://broker:4222",
            "redis://10.0.0.1:6379/2",
            "mqtt://[::1]:1883",
            "rediss://10.0.0.1:6379/2",
            "mqtts://[::1]:8883",
            "http",
            "demo",
        ] {
            assert_eq!(source(text).unwrap().to_string(), text);
            assert!(text.starts_with(kind(&source(text).unwrap())));
        }
    }

    #[test]
    fn brokers_have_a_port() {
        for (text, full) in [
            ("nats://Broker", "nats://broker:4222"),
            ("nats://broker/", "nats://broker:4222"),
            ("redis://[::1]/0", "redis://[::1]:6379/0"),
            ("mqtt://10.0.0.1", "mqtt://10.0.0.1:1883"),
            ("tls://broker", "tls://broker:4222"),
            ("rediss://broker/1", "rediss://broker:6379/1"),
            ("mqtts://broker", "mqtts://broker:8883"),
        ] {
            assert_eq!(source(text).unwrap().to_string(), full);
        }
        for (text, full) in [
            ("nats://u:p@b", "nats://u:p@b:4222"),
            ("mqtt://broker?client_id=edge-1", "mqtt://broker:1883?client_id=edge-1"),
            ("mqtt://broker:1883/?client_id=edge-1", "mqtt://broker:1883/?client_id=edge-1"),
        ] {
            let broker = Broker::new(full);
            assert!([Source::Nats(broker.clone()), Source::Mqtt(broker)].contains(&source(text).unwrap()));
        }
    }

    #[test]
    fn the_scheme_says_whether_it_is_tls() {
        for (text, of) in [("tls://b", "nats"), ("rediss://b", "redis"), ("mqtts://b", "mqtt")] {
            let source = source(text).unwrap();
            assert!(source.is_tls() && kind(&source) == of, "{text}");
        }
        for text in ["nats://b", "redis://b", "mqtt://b", "demo", "tcp://b:1"] {
            assert!(!source(text).unwrap().is_tls(), "{text}");
        }
        for (text, better) in [("nats+tls://b", "tls"), ("ssl://b", "mqtts"), ("redis+tls://b", "rediss")] {
            assert!(source(text).unwrap_err().contains(&format!("\"{better}://\"")), "{text}");
        }
    }

    /// Neither shown, nor printed for a search, nor in a problem, wherever it stands.
    #[test]
    fn passwords_are_hidden() {
        for text in ["redis://user:secret@host:1", "redis://:secret@host:1", "nats://secret@host:1"] {
            let source = source(text).unwrap();
            assert!(!format!("{source} {source:?}").contains("secret"));
        }
        for (text, hidden) in [
            ("redis://user:secret@host:1", "redis://user:***@host:1"),
            ("redis://:secret@host:1", "redis://:***@host:1"),
            ("nats://secret@host:1", "nats://***@host:1"),
        ] {
            assert_eq!(hide(text), hidden);
        }
        for text in [
            "redis://user:secret@host:x",
            "redis://user:sec/secret@host",
            "redis://user:sec@secret@host",
            "rediss://user:secret@host/x",
            "foo://user:secret@host",
            "tcp://user:secret@host:1",
            "udp://user:secret@host:1",
            "user:secret@host",
            "mqtt://user:secret@host/x",
            "nats://secret@host@host:x",
        ] {
            let words = source(text).unwrap_err();
            assert!(!words.contains("secret"), "{words}");
        }
    }

    #[test]
    fn what_is_no_source() {
        for text in [
            "",
            "udp",
            "udp://",
            "udp://127.0.0.1",
            "udp://127.0.0.1:0",
            "udp://localhost:9999",
            "udp://:9999",
            "udp://::1:9999",
            "tcp://host",
            "tcp://host:0",
            "tcp://::1:1",
            "tcp://host:1/x",
            "unix:run/x",
            "nats://",
            "nats://host:99999",
            "nats://a,b",
            "nats://host/x",
            "nats://host?client_id=a",
            "redis://host/x",
            "redis://host?x=1",
            "redis://host/256",
            "mqtt://host?client_id=",
            "mqtt://host?client_id=a&b=c",
            "mqtt://host/x?client_id=a",
            "mqtt://us er@host",
            "mqtt://%zz@host",
            "HTTP",
            "kafka://host",
        ] {
            let words = source(text).expect_err(text);
            assert!(words.contains(" — "), "{words}");
        }
    }
}

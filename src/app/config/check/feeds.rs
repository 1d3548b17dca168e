//! The checks of feeds: against each other, against the listeners and the admin address, against the routes.
//!
//! As in `check`: a problem is noted where the operator would change something, and only once.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;

use super::super::draft::Section;
use super::super::keys::{FEED, FEED_TABLE, FeedDraft, ListenerDraft, RouteDraft};
use super::super::model::{Address, ClientFiles, Feed, Format, Source, Start};
use super::super::report::Report;
use super::super::{forms, sources};
use super::client_tls;
use super::rules::{Places, collide, foreign_keys, require, twice};

type Sections<T> = [Section<T>];

/// Notes what is wrong with feeds that are well by themselves.
pub(super) fn check_feeds(feeds: &Sections<FeedDraft>, places: &Places<'_>, report: &mut Report<'_>) {
    for section in feeds {
        let kind = kind(section);
        require(&FEED, section, kind, report);
        foreign_keys(&FEED, section, ("feed", "source"), kind, report);
        check_channel(section, report);
        check_topics(section, report);
        check_start(section, report);
        check_text(section, report);
        check_replay(section, report);
        check_tls(section, report);
        check_admin(section, places, report);
    }
    twice(feeds, "name", |feed| feed.name.clone(), report);
    check_sockets(feeds, places, report);
}

/// The kind of the feed's source; `None` where it is missing or refused.
fn kind(section: &Section<FeedDraft>) -> Option<&'static str> {
    section.value.source.as_ref().map(sources::kind)
}

/// A message gets its channel from the feed or brings it along, and only an `http` feed may have a family of channels.
fn check_channel(section: &Section<FeedDraft>, report: &mut Report<'_>) {
    let feed = &section.value;
    let Some(kind) = kind(section) else { return };
    let silent = matches!(kind, "udp" | "tcp" | "tcp-listen" | "unix");
    if silent && feed.format == Format::Raw && !section.gives("channel") && !section.refuses("format") {
        let words = "is missing — write it, or `format = \"json\"` to take it from the message";
        report.note_key(section, "channel", words.into());
    }
    if kind == "demo" && !section.gives("channel") {
        report.note_key(section, "channel", "is missing — write one, \"ticker\"".into());
    }
    if kind != "http" && feed.channel.as_ref().is_some_and(|channel| channel.ends_with('*')) {
        let words = "ends with a `*`, and only `http` may take several channels — write one, or leave it out";
        report.note_key(section, "channel", words.into());
    }
}

/// Topics are held against the grammar of their broker where all of them could be read.
fn check_topics(section: &Section<FeedDraft>, report: &mut Report<'_>) {
    let fault = match kind(section) {
        Some("nats") => nats_fault,
        Some("mqtt") => mqtt_fault,
        _ => return,
    };
    if section.refuses("topics") {
        return;
    }
    for (index, topic) in section.value.topics.iter().enumerate() {
        if let Some(words) = fault(topic) {
            let item = format!("topics[{}]", index + 1);
            let name = if section.gives(&item) { &item } else { "topics" };
            report.note_key(section, name, format!("{} {words}", forms::quote(topic)));
        }
    }
    if kind(section) == Some("mqtt") {
        check_overlap(section, report);
    }
}

/// A broker may send a message for each filter that it matches (MQTT 3.1.1 section 3.3.5), and does not say for which.
/// NATS and Redis say it, and such a message is published once.
fn check_overlap(section: &Section<FeedDraft>, report: &mut Report<'_>) {
    let topics = &section.value.topics;
    for (index, topic) in topics.iter().enumerate() {
        let Some(other) = topics[..index].iter().position(|other| filters_overlap(other, topic)) else { continue };
        let (item, before) = (format!("topics[{}]", index + 1), format!("topics[{}]", other + 1));
        let line = report.position(section.place(&before)).0;
        let words = format!(
            "{} and {} (line {line}) have topics in common, whose messages may come twice — leave one of them out, or \
             write a feed for each",
            forms::quote(topic),
            forms::quote(&topics[other])
        );
        report.note_key(section, if section.gives(&item) { &item } else { "topics" }, words);
    }
}

/// Whether a topic can match both filters; one of a shared subscription is taken for what it filters.
fn filters_overlap(one: &str, other: &str) -> bool {
    let (one, other) = (without_share(one), without_share(other));
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            // The rest may be no level at all (section 4.7.1.2).
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
            _ => return false,
        }
    }
}

fn without_share(filter: &str) -> &str {
    let shared = filter.strip_prefix("$share/").and_then(|it| it.split_once('/'));
    shared.map_or(filter, |(_, filter)| filter)
}

/// NATS: tokens with dots between, `*` for one of them, `>` for the rest.
fn nats_fault(subject: &str) -> Option<&'static str> {
    let tokens: Vec<&str> = subject.split('.').collect();
    let rest = tokens.iter().position(|token| *token == ">");
    if tokens.iter().any(|token| token.is_empty() || token.contains(char::is_whitespace)) {
        return Some("is no NATS subject — write words with a dot between, \"prices.eu\"");
    }
    if tokens.iter().any(|token| token.len() > 1 && token.contains(['*', '>'])) {
        return Some("has a wildcard inside of a word — write `*` for a whole word, or `>` for the rest");
    }
    rest.is_some_and(|at| at + 1 < tokens.len()).then_some("has a `>` before its end — write `*`, or end there")
}

/// MQTT 3.1.1 section 4.7: levels with slashes between, `+` for one of them, `#` for the rest.
fn mqtt_fault(filter: &str) -> Option<&'static str> {
    let levels: Vec<&str> = filter.split('/').collect();
    let rest = levels.iter().position(|level| *level == "#");
    if levels.iter().any(|level| level.len() > 1 && level.contains(['+', '#'])) {
        return Some("has a wildcard inside of a level — write `+` for a whole level, or `#` for the rest");
    }
    rest.is_some_and(|at| at + 1 < levels.len()).then_some("has a `#` before its end — write `+`, or end there")
}

fn check_start(section: &Section<FeedDraft>, report: &mut Report<'_>) {
    let feed = &section.value;
    if !section.gives("start") || section.refuses("start") {
        return;
    }
    let words = match (kind(section), feed.start) {
        (Some("nats"), _) if !section.gives("stream") => "is for a stream — write `stream`, or leave `start` out",
        (Some("redis"), _) if !feed.redis_streams && !section.refuses("redis_streams") => {
            "is for streams — write `redis_streams = true`, or leave `start` out"
        }
        (Some("redis"), Start::Sequence(_)) => "is a sequence of JetStream — for Redis write \"new\" or \"first\"",
        _ => return,
    };
    report.note_key(section, "start", words.into());
}

fn check_text(section: &Section<FeedDraft>, report: &mut Report<'_>) {
    if section.gives("invalid_text") && section.gives("text") && !section.value.text && !section.refuses("text") {
        let words = "is about text, and `text` is false — leave it out, or leave `text` out";
        report.note_key(section, "invalid_text", words.into());
    }
}

/// Without a number of messages nothing is kept, whatever else is written.
fn check_replay(section: &Section<FeedDraft>, report: &mut Report<'_>) {
    let bounded = section.gives("replay.bytes") || section.gives("replay.age");
    if bounded && !section.gives("replay.messages") && !section.refuses("replay") {
        let words = "keeps nothing without `messages` — write `messages = 1000`, or leave `replay` out";
        report.note_key(section, "replay", words.into());
    }
}

/// Files without TLS are read for nobody, and a certificate needs its key.
fn check_tls(section: &Section<FeedDraft>, report: &mut Report<'_>) {
    if !section.gives("tls") || section.refused.iter().any(|key| key == "tls") {
        return;
    }
    let secure = match kind(section) {
        Some("nats") => "tls",
        Some("redis") => "rediss",
        Some("mqtt") => "mqtts",
        _ => return,
    };
    if section.value.source.as_ref().is_some_and(|source| !source.is_tls()) {
        let words = format!("is for TLS, and `source` is clear text — write \"{secure}://\" there, or leave it out");
        return report.note_key(section, "tls", words);
    }
    client_tls::check_pair(section, "tls", report);
}

/// The files of a feed's TLS, and what is wrong with them; `None`: clear text.
fn tls(section: &Section<FeedDraft>, base: &Path, report: &mut Report<'_>) -> Option<ClientFiles> {
    let FeedDraft { source, tls, .. } = &section.value;
    let is_tls = source.as_ref().is_some_and(Source::is_tls);
    is_tls.then(|| client_tls::files((tls, "tls"), section, base, report))
}

fn check_admin(section: &Section<FeedDraft>, places: &Places<'_>, report: &mut Report<'_>) {
    if kind(section) == Some("http") && places.admin.is_none() {
        let words = "is published to at the admin address, and server.admin is \"off\" — write an address there";
        report.note_key(section, "source", words.into());
    }
}

/// What a feed opens itself.
#[derive(Clone, Copy)]
enum Socket<'s> {
    Udp(SocketAddr),
    Tcp(SocketAddr),
    Unix(&'s Path),
}

impl Socket<'_> {
    fn of_source(source: &Source) -> Option<Socket<'_>> {
        match source {
            Source::Udp(address) => Some(Socket::Udp(*address)),
            Source::TcpListen(address) => Some(Socket::Tcp(*address)),
            Source::Unix(path) => Some(Socket::Unix(path)),
            _ => None,
        }
    }

    fn of_listener(address: &Address) -> Socket<'_> {
        match address {
            Address::Tcp(address) => Socket::Tcp(*address),
            Address::Unix(path) => Socket::Unix(path),
        }
    }

    fn is_in_the_way(self, other: Socket<'_>) -> bool {
        match (self, other) {
            (Socket::Udp(a), Socket::Udp(b)) | (Socket::Tcp(a), Socket::Tcp(b)) => collide(a, b),
            (Socket::Unix(a), Socket::Unix(b)) => a == b,
            _ => false,
        }
    }
}

/// Each address can be opened once: by a feed, by a listener, or by the admin API.
fn check_sockets(feeds: &Sections<FeedDraft>, places: &Places<'_>, report: &mut Report<'_>) {
    let mut taken: Vec<(String, Socket<'_>)> = Vec::new();
    taken.extend(places.admin.map(|admin| ("server.admin".into(), Socket::Tcp(admin))));
    taken.extend(places.listeners.iter().filter_map(|listener| of_listener(listener, report)));
    for section in feeds.iter().take(FEED_TABLE.most) {
        let Some(socket) = section.value.source.as_ref().and_then(Socket::of_source) else { continue };
        match taken.iter().find(|(_, other)| socket.is_in_the_way(*other)) {
            Some((owner, _)) => {
                let words = format!("takes the address of {owner} — change one of them");
                report.note_key(section, "source", words);
            }
            None => taken.push((called(section, "source", report), socket)),
        }
    }
}

fn of_listener<'s>(listener: &'s Section<ListenerDraft>, report: &Report<'_>) -> Option<(String, Socket<'s>)> {
    let address = listener.value.address.as_ref()?;
    Some((called(listener, "address", report), Socket::of_listener(address)))
}

fn called<T>(section: &Section<T>, key: &str, report: &Report<'_>) -> String {
    format!("{} (line {})", section.label, report.position(section.place(key)).0)
}

/// A feed that no route names would be read for nobody. Nothing is noted where a route's `feeds` could not be read:
/// they may name it.
pub(super) fn check_unused(feeds: &Sections<FeedDraft>, routes: &Sections<RouteDraft>, report: &mut Report<'_>) {
    let unsure = |route: &Section<RouteDraft>| route.refuses("feeds") || lacks_feeds(route);
    if feeds.len() > FEED_TABLE.most || routes.is_empty() || routes.iter().any(unsure) {
        return;
    }
    let named: HashSet<usize> = routes.iter().flat_map(|route| route.value.broadcast.feeds.iter().copied()).collect();
    // Of two feeds with one name, which is a problem by itself, a route means both.
    let used: HashSet<&str> = named.iter().map(|place| feeds[*place].value.written.as_str()).collect();
    for section in feeds.iter().filter(|feed| feed.gives("name") && !used.contains(feed.value.written.as_str())) {
        let words = "is on no route, so that nobody would hear it — write it into `feeds` of a route";
        report.note_key(section, "name", words.into());
    }
}

fn lacks_feeds(route: &Section<RouteDraft>) -> bool {
    route.service() == Some("broadcast") && !route.gives("feeds")
}

/// Notes the channels of a route that none of its feeds has.
pub(super) fn check_channels(feeds: &Sections<FeedDraft>, route: &Section<RouteDraft>, report: &mut Report<'_>) {
    let broadcast = &route.value.broadcast;
    let known: Option<Vec<&str>> = broadcast.feeds.iter().map(|place| feeds[*place].value.channel.as_deref()).collect();
    let Some(known) = known.filter(|known| !known.is_empty()) else { return };
    if route.refuses("channels") || route.refuses("feeds") {
        return;
    }
    for (index, channel) in broadcast.channels.iter().enumerate() {
        if !known.iter().any(|known| channels_overlap(known, &widest(channel))) {
            let item = format!("channels[{}]", index + 1);
            let name = if route.gives(&item) { &item } else { "channels" };
            let words =
                format!("{} is no channel of its feeds — they have {}", forms::quote(channel), forms::quoted(&known));
            report.note_key(route, name, words);
        }
    }
}

/// All that a pattern with names in it may become.
fn widest(pattern: &str) -> Cow<'_, str> {
    pattern.split_once('{').map_or(pattern.into(), |(head, _)| format!("{head}*").into())
}

/// Whether two channels, or families of channels, have one in common.
fn channels_overlap(one: &str, other: &str) -> bool {
    match (one.strip_suffix('*'), other.strip_suffix('*')) {
        (None, None) => one == other,
        (Some(front), None) => other.starts_with(front),
        (None, Some(front)) => one.starts_with(front),
        (Some(one), Some(other)) => one.starts_with(other) || other.starts_with(one),
    }
}

/// The feed of a draft; `None` where a part is missing, which has been noted.
pub(super) fn feed(section: Section<FeedDraft>, base: &Path, report: &mut Report<'_>) -> Option<Feed> {
    let tls = tls(&section, base, report);
    let draft = section.value;
    Some(Feed {
        name: draft.name?,
        source: sources::streaming(draft.source?, draft.stream, draft.redis_streams),
        tls,
        channel: draft.channel,
        topics: draft.topics,
        start: draft.start,
        framing: draft.framing,
        format: draft.format,
        text: draft.text,
        invalid_text: draft.invalid_text,
        message_bytes: draft.message_bytes,
        replay: draft.replay,
        last_values: draft.last_values,
        channels_max: draft.channels_max,
        prefix_linger: draft.prefix_linger,
        prefixes_idle: draft.prefixes_idle,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_of_nats() {
        for text in ["a", "prices.eu", "prices.*", "*.eu", "prices.>", ">"] {
            assert_eq!(nats_fault(text), None, "{text}");
        }
        for text in ["a..b", ".a", "a.", "a b", "a*", "a.>b", ">.a"] {
            assert!(nats_fault(text).is_some(), "{text}");
        }
    }

    #[test]
    fn filters_of_mqtt() {
        for text in ["a", "a/b c", "+/b", "a/#", "#", "/a", "a//b"] {
            assert_eq!(mqtt_fault(text), None, "{text}");
        }
        for text in ["a#", "a/b+", "#/a"] {
            assert!(mqtt_fault(text).is_some(), "{text}");
        }
    }

    #[test]
    fn filters_that_overlap() {
        for (one, other, met) in [
            ("a/b", "a/b/c", false),
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("a/+", "+/b", true),
            ("a/+", "b/#", false),
            ("$share/g/a/+", "a/x", true),
        ] {
            assert_eq!(filters_overlap(one, other), met, "{one} {other}");
            assert_eq!(filters_overlap(other, one), met, "{other} {one}");
        }
    }

    #[test]
    fn channels_that_overlap() {
        for (one, other, met) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a*", "ab", true),
            ("ab", "a*", true),
            ("*", "x", true),
            ("a*", "ab*", true),
            ("a*", "b*", false),
        ] {
            assert_eq!(channels_overlap(one, other), met, "{one} {other}");
        }
    }
}

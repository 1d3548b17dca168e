//! What subscribers ask for: requests of every transport, and the channels of commands.

use super::feeds::CHANNELS;
use super::reader::{KEY, Transport};
use super::setup::Setup;
use edgehold::engine::script::Dice;
use edgehold_wire::upgrade::{self, Offer};

/// Prefixes that cover several channels, and each other.
const PREFIXES: [&str; 4] = ["a.*", "b*", "*", "a*"];

/// What a request says.
pub struct Request<'r> {
    pub route: usize,
    pub transport: Transport,
    pub patterns: &'r [String],
    pub last: Option<&'r str>,
    pub http10: bool,
    pub offer: Offer<'static>,
    pub origin: bool,
}

/// A channel or prefix, allowed or not.
pub fn pattern(dice: &mut Dice) -> String {
    if dice.chance(40) {
        PREFIXES[dice.below(PREFIXES.len())].into()
    } else {
        CHANNELS[dice.below(CHANNELS.len())].into()
    }
}

/// Whether the messages of a channel are received by those who asked for this.
pub fn covers(pattern: &str, channel: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == channel, |prefix| channel.starts_with(prefix))
}

/// What a route lets its clients have.
pub fn is_allowed(setup: &Setup, route: usize, pattern: &str) -> bool {
    let settings = &setup.routes[route];
    !pattern.contains(char::is_control) && settings.allows(pattern) && setup.feeds_of(route, pattern).next().is_some()
}

/// Some that are allowed, none twice; at least one.
pub fn patterns(dice: &mut Dice, setup: &Setup, route: usize) -> Vec<String> {
    let mut some = Vec::new();
    let wanted = if dice.chance(60) { 1 } else { 2 + dice.below(2) };
    while some.len() < wanted {
        let one = pattern(dice);
        if is_allowed(setup, route, &one) && !some.contains(&one) {
            some.push(one);
        } else if dice.chance(10) && !some.is_empty() {
            break;
        }
    }
    some.sort_unstable();
    some
}

impl Request<'_> {
    pub fn write(&self, dice: &mut Dice, setup: &Setup, out: &mut Vec<u8>) {
        let mut query: Vec<String> = Vec::new();
        let mut path = format!("/feed{}", self.route);
        let mut rest = self.patterns;
        if setup.routes[self.route].channel_in_path {
            path = format!("{path}/{}", rest[0]);
            rest = &rest[1..];
        }
        query.extend(rest.iter().map(|pattern| format!("channel={pattern}")));
        let by_header = self.transport != Transport::Socket && dice.chance(50);
        let accept = self.choose_transport(dice, &mut query, by_header);
        if let Some(last) = self.last.filter(|_| !by_header) {
            query.push(format!("{}={last}", if self.transport == Transport::Poll { "after" } else { "lastEventId" }));
        }
        let target = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
        if self.transport == Transport::Socket {
            return upgrade::request(out, "sim", &target, KEY, self.offer);
        }
        let version = if self.http10 { "1.0" } else { "1.1" };
        let mut head = format!("GET {target} HTTP/{version}\r\nHost: sim\r\n{accept}");
        if let Some(last) = self.last.filter(|_| by_header) {
            head += &format!("Last-Event-ID: {last}\r\n");
        }
        if self.origin {
            head += "Origin: https://page\r\n";
        }
        out.extend_from_slice((head + "\r\n").as_bytes());
    }

    /// By the query or by `Accept`.
    fn choose_transport(&self, dice: &mut Dice, query: &mut Vec<String>, by_header: bool) -> &'static str {
        let (name, accept) = match self.transport {
            Transport::Socket => return "",
            Transport::Events => ("sse", "Accept: text/html, text/event-stream\r\n"),
            Transport::Lines => ("lines", ""),
            Transport::Raw => ("raw", "Accept: application/octet-stream\r\n"),
            // With `?after=` nothing else is needed.
            Transport::Poll if !by_header && self.last.is_some() => return "",
            Transport::Poll => ("poll", "Accept: application/json\r\n"),
        };
        if dice.chance(50) {
            return accept;
        }
        query.push(format!("transport={name}"));
        ""
    }
}

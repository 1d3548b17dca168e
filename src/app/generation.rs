//! Numbers that stay: what routes, feeds and upstreams are called by in the rooms below, from one reading of the
//! configuration to the next.
//!
//! The rooms know them by small numbers, which index their tables, and connections hold such numbers for as long as
//! they last. So a number belongs to what a thing is (the host and path of a route, the name of a feed, the address of
//! an upstream), not to its place in the file: what is in two generations has one number in both, what is new takes a
//! free one, and the number of what is gone is free only when nothing of an older generation is held any more. In the
//! first generation numbers are places in the file.

use super::config::{Broadcast, Config, Feed, Offload, Route, Service, Upstream};
use crate::mesh::FeedNumber;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

/// Numbers of things that are told apart by a key: dense from 0, but for those that are free again.
#[derive(Clone, Debug)]
struct Numbers<K> {
    known: HashMap<K, u32>,
    /// Numbers below the highest that belong to nothing.
    free: BTreeSet<u32>,
}

impl<K: Eq + Hash> Numbers<K> {
    fn new() -> Self {
        Numbers { known: HashMap::new(), free: BTreeSet::new() }
    }

    /// Gives numbers to those of the keys that have none: the lowest that are free, in the order of the keys.
    fn assign(&mut self, keys: impl IntoIterator<Item = K>) {
        for key in keys {
            let next = self.free.first().copied().unwrap_or(self.table_len());
            self.known.entry(key).or_insert_with(|| {
                self.free.remove(&next);
                next
            });
        }
    }

    /// Frees the numbers of all other keys.
    fn keep(&mut self, keys: impl IntoIterator<Item = K>) {
        let kept: HashMap<K, u32> =
            keys.into_iter().filter_map(|key| self.known.get(&key).map(|number| (key, *number))).collect();
        let len = kept.values().max().map_or(0, |highest| highest + 1);
        let taken: BTreeSet<u32> = kept.values().copied().collect();
        self.free = (0..len).filter(|number| !taken.contains(number)).collect();
        self.known = kept;
    }

    /// The table that these numbers index, with the values of some of the keys.
    fn table<T>(&self, values: impl Iterator<Item = (K, T)>) -> Vec<Option<T>> {
        let mut table: Vec<Option<T>> = (0..self.table_len()).map(|_| None).collect();
        for (key, value) in values {
            if let Some(&number) = self.known.get(&key) {
                table[number as usize] = Some(value);
            }
        }
        table
    }

    /// Entries of a table that these numbers index.
    fn table_len(&self) -> u32 {
        u32::try_from(self.known.len() + self.free.len()).expect("fewer things than addresses")
    }
}

/// What tells a route from others: its host and its path.
type RouteKey = (Option<String>, String);

fn route_key(route: &Route) -> RouteKey {
    (route.host.clone(), route.path.clone())
}

/// A configuration with the numbers of what is in it, and of what older generations had that may still be held.
#[derive(Clone, Debug)]
pub struct Generation {
    /// What was read.
    pub config: Arc<Config>,
    /// How often the configuration was exchanged before.
    pub number: u32,
    routes: Numbers<RouteKey>,
    /// Broadcast routes once more: their plans are a table of their own.
    broadcasts: Numbers<RouteKey>,
    /// So are those of stomp.
    stomps: Numbers<RouteKey>,
    /// And those of mqtt.
    mqtts: Numbers<RouteKey>,
    feeds: Numbers<String>,
    upstreams: Numbers<Upstream>,
}

impl Generation {
    /// The generation that a server starts with: numbers are places in the file, of an upstream the first.
    pub fn first(config: Arc<Config>) -> Generation {
        let (routes, broadcasts) = (Numbers::new(), Numbers::new());
        let (stomps, mqtts) = (Numbers::new(), Numbers::new());
        let (feeds, upstreams) = (Numbers::new(), Numbers::new());
        let mut generation = Generation { config, number: 0, routes, broadcasts, stomps, mqtts, feeds, upstreams };
        generation.assign();
        generation
    }

    /// The generation that follows when this configuration takes the place of the present one.
    #[must_use]
    pub fn next(&self, config: Arc<Config>) -> Generation {
        let mut generation = Generation { config, number: self.number + 1, ..self.clone() };
        generation.assign();
        generation
    }

    /// Nothing of an older generation is held any more: the numbers of what this one has not are free.
    pub fn forget_older(&mut self) {
        let config = self.config.clone();
        self.routes.keep(config.routes.iter().map(route_key));
        self.broadcasts.keep(broadcasts(&config).map(|(route, _)| route_key(route)));
        self.stomps.keep(stomps(&config).map(|(route, _)| route_key(route)));
        self.mqtts.keep(mqtts(&config).map(|(route, _)| route_key(route)));
        self.feeds.keep(feed_keys(&config));
        self.upstreams.keep(upstreams(&config).cloned());
    }

    fn assign(&mut self) {
        let config = self.config.clone();
        self.routes.assign(config.routes.iter().map(route_key));
        self.broadcasts.assign(broadcasts(&config).map(|(route, _)| route_key(route)));
        self.stomps.assign(stomps(&config).map(|(route, _)| route_key(route)));
        self.mqtts.assign(mqtts(&config).map(|(route, _)| route_key(route)));
        self.feeds.assign(feed_keys(&config));
        self.upstreams.assign(upstreams(&config).cloned());
    }

    /// The number of a route; `None` if this generation has no such route.
    pub fn route(&self, route: &Route) -> Option<u16> {
        self.routes.known.get(&route_key(route)).map(|&number| short(number))
    }

    /// The number of a route among those of broadcast; `None` if this generation has no such route there.
    pub fn broadcast(&self, route: &Route) -> Option<u16> {
        self.broadcasts.known.get(&route_key(route)).map(|&number| short(number))
    }

    /// The number of a route among those of stomp, or of mqtt; `None` if this generation has no such route there.
    pub fn offload(&self, route: &Route) -> Option<u16> {
        let key = route_key(route);
        self.stomps.known.get(&key).or_else(|| self.mqtts.known.get(&key)).map(|&number| short(number))
    }

    /// The number of the feed of a route's broker; `None` if it has none.
    pub fn broker(&self, route: &Route) -> Option<FeedNumber> {
        self.feeds.known.get(&broker_key(route)).map(|&number| short(number))
    }

    /// The number of a feed; `None` if this generation has no feed of this name.
    pub fn feed(&self, name: &str) -> Option<FeedNumber> {
        self.feeds.known.get(name).map(|&number| short(number))
    }

    /// The number of an upstream; `None` if no route of this generation has it.
    pub fn upstream(&self, upstream: &Upstream) -> Option<u32> {
        self.upstreams.known.get(upstream).copied()
    }

    /// What an upstream of this generation is called in logs and metrics. Two with other TLS at one address differ by a
    /// number.
    pub fn upstream_name(&self, upstream: &Upstream) -> String {
        let (name, number) = (upstream.to_string(), self.upstream(upstream));
        if !matches!(upstream, Upstream::Tcp { tls: Some(_), .. }) {
            return name;
        }
        let is_same = |(it, its): &(&Upstream, &u32)| Some(**its) < number && it.to_string() == name;
        match self.upstreams.known.iter().filter(is_same).count() {
            0 => name,
            before => format!("{name}#{}", before + 1),
        }
    }

    /// What the routes become, by their numbers; `None`: of one that only older generations have. So the next three.
    pub fn by_route<T>(&self, make: impl Fn(&Route) -> T) -> Vec<Option<T>> {
        self.routes.table(self.config.routes.iter().map(|route| (route_key(route), make(route))))
    }

    /// What the routes of broadcast become, by their numbers there.
    pub fn by_broadcast<T>(&self, make: impl Fn(&Broadcast) -> T) -> Vec<Option<T>> {
        self.broadcasts.table(broadcasts(&self.config).map(|(route, its)| (route_key(route), make(its))))
    }

    /// What the routes of stomp become, by their numbers there.
    pub fn by_stomp<T>(&self, make: impl Fn(&Route, &Offload) -> T) -> Vec<Option<T>> {
        self.stomps.table(stomps(&self.config).map(|(route, its)| (route_key(route), make(route, its))))
    }

    /// What the routes of mqtt become, by their numbers there.
    pub fn by_mqtt<T>(&self, make: impl Fn(&Route, &Offload) -> T) -> Vec<Option<T>> {
        self.mqtts.table(mqtts(&self.config).map(|(route, its)| (route_key(route), make(route, its))))
    }

    /// What the feeds of the brokers of stomp become, by their numbers.
    pub fn by_stomp_feed<T>(&self, make: impl Fn(&Offload) -> T) -> Vec<Option<T>> {
        self.feeds.table(stomps(&self.config).map(|(route, its)| (broker_key(route), make(its))))
    }

    /// What those of mqtt become.
    pub fn by_mqtt_feed<T>(&self, make: impl Fn(&Offload) -> T) -> Vec<Option<T>> {
        self.feeds.table(mqtts(&self.config).map(|(route, its)| (broker_key(route), make(its))))
    }

    /// What the feeds become, by their numbers. `make` is told the place of each in the configuration.
    pub fn by_feed<T>(&self, make: impl Fn(usize, &Feed) -> T) -> Vec<Option<T>> {
        let feeds = self.config.feeds.iter().enumerate();
        self.feeds.table(feeds.map(|(place, feed)| (feed.name.clone(), make(place, feed))))
    }

    /// What the upstreams become, by their numbers.
    pub fn by_upstream<'c, T>(&'c self, make: impl Fn(&'c Upstream) -> T) -> Vec<Option<T>> {
        self.upstreams.table(upstreams(&self.config).map(|upstream| (upstream.clone(), make(upstream))))
    }
}

/// A number in the 16 bits that rooms have for it.
///
/// # Panics
/// More than 65536 routes are held: those of 16 generations that have none in common.
fn short(number: u32) -> u16 {
    u16::try_from(number).expect("fewer than 16 generations are held")
}

/// The routes of broadcast, with what they say for it.
pub(super) fn broadcasts(config: &Config) -> impl Iterator<Item = (&Route, &Broadcast)> {
    config.routes.iter().filter_map(|route| match &route.service {
        Service::Broadcast(broadcast) => Some((route, &**broadcast)),
        _ => None,
    })
}

/// The routes of stomp, with what they say for it.
pub(super) fn stomps(config: &Config) -> impl Iterator<Item = (&Route, &Offload)> {
    config.routes.iter().filter_map(|route| match &route.service {
        Service::Stomp(offload) => Some((route, &**offload)),
        _ => None,
    })
}

/// The routes of mqtt, likewise.
pub(super) fn mqtts(config: &Config) -> impl Iterator<Item = (&Route, &Offload)> {
    config.routes.iter().filter_map(|route| match &route.service {
        Service::Mqtt(offload) => Some((route, &**offload)),
        _ => None,
    })
}

/// By what feeds are told apart: their names, and behind them the brokers of routes.
fn feed_keys(config: &Config) -> impl Iterator<Item = String> {
    let brokers = stomps(config).chain(mqtts(config)).map(|(route, _)| broker_key(route));
    config.feeds.iter().map(|feed| feed.name.clone()).chain(brokers)
}

/// No feed has such a name.
fn broker_key(route: &Route) -> String {
    format!("{} {}", route.host.as_deref().unwrap_or(""), route.path)
}

/// The upstreams of all routes, some more than once.
fn upstreams(config: &Config) -> impl Iterator<Item = &Upstream> {
    config.routes.iter().flat_map(|route| route.service.upstreams())
}

#[cfg(test)]
mod tests {
    use super::super::config;
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    /// A proxy route for each path, to the upstream beside it, and a feed for each name.
    fn written(routes: &[(&str, &str)], feeds: &[&str]) -> Arc<Config> {
        let feed = |name: &&str| {
            let route = format!("[[route]]\npath = \"/of/{name}\"\nservice = \"broadcast\"\nfeeds = \"{name}\"\n");
            format!("[[feed]]\nname = \"{name}\"\nsource = \"demo\"\nchannel = \"c\"\n{route}")
        };
        let route = |(path, upstream): &(&str, &str)| {
            format!("[[route]]\npath = \"{path}\"\nservice = \"proxy\"\nupstream = \"tcp://{upstream}:1\"\n")
        };
        let listener = "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n".to_string();
        let text =
            listener + &routes.iter().map(route).collect::<String>() + &feeds.iter().map(feed).collect::<String>();
        Arc::new(config::read(&text, "x", Path::new("")).expect("a configuration"))
    }

    fn routes(generation: &Generation) -> Vec<Option<u16>> {
        generation.config.routes.iter().map(|route| generation.route(route)).collect()
    }

    /// The upstreams by their numbers.
    fn shown(generation: &Generation) -> Vec<String> {
        generation.by_upstream(ToString::to_string).into_iter().map(Option::unwrap_or_default).collect()
    }

    #[test]
    fn the_first_numbers_are_places_in_the_file() {
        let first = Generation::first(written(&[("/a", "x"), ("/b", "y"), ("/c", "x"), ("/d", "z")], &["f", "g"]));
        assert_eq!(routes(&first), (0..6).map(Some).collect::<Vec<_>>());
        let broadcasts: Vec<_> = first.config.routes.iter().map(|route| first.broadcast(route)).collect();
        assert_eq!(broadcasts, [None, None, None, None, Some(0), Some(1)]);
        assert_eq!([first.feed("f"), first.feed("g"), first.feed("h")], [Some(0), Some(1), None]);
        assert_eq!(shown(&first), ["tcp://x:1", "tcp://y:1", "tcp://z:1"]);
    }

    #[test]
    fn what_is_in_both_keeps_its_number_and_what_is_gone_gives_it_up_late() {
        let first = Generation::first(written(&[("/a", "x"), ("/b", "y")], &["f"]));
        let mut second = first.next(written(&[("/new", "z"), ("/b", "y")], &["g", "f"]));
        assert_eq!((second.number, routes(&second)), (1, vec![Some(3), Some(1), Some(4), Some(2)]));
        assert_eq!([second.feed("f"), second.feed("g")], [Some(0), Some(1)]);
        second.forget_older();
        assert_eq!(routes(&second), [Some(3), Some(1), Some(4), Some(2)]);
        // `/a` had 0, and its upstream too.
        let third = second.next(written(&[("/other", "w"), ("/b", "y")], &["f"]));
        assert_eq!(routes(&third), [Some(0), Some(1), Some(2)]);
        assert_eq!([shown(&second), shown(&third)], [["", "tcp://y:1", "tcp://z:1"], ["tcp://w:1", "tcp://y:1", ""]]);
        assert_eq!(third.by_feed(|place, _| place), [Some(0), None]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However generations follow each other: no two keys have one number, known keys keep theirs, and the table
        /// is no longer than what was held at one time.
        #[test]
        fn numbers_are_stable_and_few(
            steps in prop::collection::vec((prop::collection::btree_set(0u8..20, 0..12), any::<bool>()), 1..20),
        ) {
            let mut numbers: Numbers<u8> = Numbers::new();
            let mut most = 0;
            for (keys, forget) in steps {
                let before = numbers.known.clone();
                numbers.assign(keys.iter().copied());
                prop_assert!(before.iter().all(|(key, number)| numbers.known[key] == *number));
                let taken: BTreeSet<u32> = numbers.known.values().copied().collect();
                prop_assert_eq!(taken.len(), numbers.known.len());
                most = most.max(numbers.known.len() as u32);
                prop_assert!(numbers.table_len() <= most);
                prop_assert!(taken.iter().all(|number| *number < numbers.table_len()));
                if forget {
                    numbers.keep(keys.iter().copied());
                    prop_assert_eq!(numbers.known.len(), keys.len());
                }
            }
        }
    }
}

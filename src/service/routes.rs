//! Which route a request goes to: found by searching, not by trying each.
//!
//! Hosts and paths are both found in a [`Prefixes`]: keys in order, each knowing the longest other key that it begins
//! with. The key of a host is its name from the end, so that `*.example.org` is the prefix `gro.elpmaxe.` and the
//! routes for all hosts stand below the empty one. A search costs a binary search over the keys and a walk along
//! prefixes by their lengths alone: it grows with the logarithm of the routes and the length of what is asked.

use super::Route;
use std::net::Ipv6Addr;

/// The longest host that a route can have, in bytes: a name of 253 (RFC 1035 section 2.3.4), an address in brackets.
const HOST: usize = 253;

/// What stands before a host whose names below are all meant.
const WILDCARD: &str = "*.";

/// All routes of the server in one generation of its settings, shared by its shards.
pub struct Routes {
    routes: Box<[Route]>,
    /// The paths of each host, and for each path its place in `routes`.
    hosts: Prefixes<Prefixes<usize>>,
}

impl Default for Routes {
    /// None.
    fn default() -> Routes {
        Routes::from_iter([])
    }
}

impl FromIterator<Route> for Routes {
    /// Of two with the same host and path the later one is meant.
    fn from_iter<I: IntoIterator<Item = Route>>(routes: I) -> Routes {
        let routes: Box<[Route]> = routes.into_iter().collect();
        let mut places: Vec<usize> = (0..routes.len()).rev().collect();
        places.sort_by_key(|&place| &routes[place].host);
        let sites = places.chunk_by(|&one, &other| routes[one].host == routes[other].host);
        let hosts = Prefixes::new(sites.map(|places| (host_key(&routes[places[0]]), paths(&routes, places))));
        Routes { routes, hosts }
    }
}

fn paths(routes: &[Route], places: &[usize]) -> Prefixes<usize> {
    Prefixes::new(places.iter().map(|&place| {
        let Route { path, below, .. } = &routes[place];
        (Key { bytes: path.as_bytes().into(), below: *below }, place)
    }))
}

fn host_key(route: &Route) -> Key {
    let host = route.host.as_deref().unwrap_or("");
    let name = host.strip_prefix('*').unwrap_or(host);
    let bytes = name.bytes().rev().map(|byte| byte.to_ascii_lowercase()).collect();
    Key { bytes, below: host.is_empty() || host.starts_with(WILDCARD) }
}

impl Routes {
    /// The route that matches best. `authority`: host and port as they were asked for; empty where none was.
    ///
    /// A route for this host goes before one for the names below another, of those the longer before the shorter, and
    /// both before one for all hosts; then an exact path before what lies below, and the longer before the shorter.
    pub fn find(&self, authority: &str, path: &str) -> Option<&Route> {
        let host = without_port(authority);
        let mut written = [0; HOST];
        let sites = match same_address(host) {
            Some(address) => self.hosts.covering(reversed(&address, &mut written)),
            None => self.hosts.covering(reversed(host, &mut written)),
        };
        let mut found = sites.filter_map(|site| site.covering(path.as_bytes()).next());
        found.next().and_then(|&place| self.routes.get(place))
    }
}

impl Routes {
    /// The route whose limits have this number.
    pub fn by_limits(&self, number: u16) -> Option<&Route> {
        self.routes.iter().find(|route| route.limits == number)
    }
}

/// The host of an authority, without its port.
pub(super) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    }
}

/// An IPv6 address as the configuration writes it (RFC 5952), since there are many ways to write one.
fn same_address(host: &str) -> Option<String> {
    let literal = host.strip_prefix('[')?.strip_suffix(']')?;
    literal.parse::<Ipv6Addr>().ok().map(|address| format!("[{address}]"))
}

/// The key of a host. The root that may stand behind a name (RFC 3986 section 3.2.2) is no other name. One that is
/// longer than any that a route can have is as good as none.
fn reversed<'r>(host: &str, written: &'r mut [u8; HOST]) -> &'r [u8] {
    let host = host.strip_suffix('.').unwrap_or(host);
    let Some(key) = written.get_mut(..host.len()) else { return &[] };
    key.iter_mut().zip(host.bytes().rev()).for_each(|(to, from)| *to = from.to_ascii_lowercase());
    key
}

/// What a key stands for: itself, or all that begins with it too.
struct Key {
    bytes: Box<[u8]>,
    below: bool,
}

/// Values by key, to be found by what the key is or begins.
struct Prefixes<T>(Box<[Entry<T>]>);

struct Entry<T> {
    key: Key,
    /// The longest other key that is `below` and that this one begins with.
    up: Option<usize>,
    value: T,
}

impl<T> Prefixes<T> {
    /// Of equal keys the first is meant.
    fn new(values: impl Iterator<Item = (Key, T)>) -> Prefixes<T> {
        let mut entries: Vec<Entry<T>> = values.map(|(key, value)| Entry { key, up: None, value }).collect();
        entries.sort_by(|one, other| one.key.bytes.cmp(&other.key.bytes));
        entries.dedup_by(|later, first| later.key.bytes == first.key.bytes);
        let mut above: Vec<usize> = Vec::new();
        for at in 0..entries.len() {
            let begins = |&up: &usize| entries[at].key.bytes.starts_with(&entries[up].key.bytes);
            above.truncate(above.iter().rposition(begins).map_or(0, |last| last + 1));
            entries[at].up = above.last().copied();
            above.extend(entries[at].key.below.then_some(at));
        }
        Prefixes(entries.into_boxed_slice())
    }

    /// The values whose keys are `key`, or a beginning of it and `below`; the longest first.
    ///
    /// A beginning of `key` stands before it, and so does every key between the two begin with it: all of them are on
    /// the way up from the key that stands nearest before.
    fn covering(&self, key: &[u8]) -> impl Iterator<Item = &T> + use<'_, T> {
        let nearest = self.0.partition_point(|entry| entry.is_not_behind(key)).checked_sub(1);
        let shared = nearest.map_or(0, |at| self.0[at].key.bytes.iter().zip(key).take_while(|(a, b)| a == b).count());
        let len = key.len();
        let way = std::iter::successors(nearest, |&at| self.0[at].up).map(|at| &self.0[at]);
        way.filter(move |entry| entry.covers(len, shared)).map(|entry| &entry.value)
    }
}

impl<T> Entry<T> {
    fn is_not_behind(&self, key: &[u8]) -> bool {
        looked_at();
        *self.key.bytes <= *key
    }

    /// Whether it is meant by a key of `len` bytes that has its first `shared` bytes in common with an entry of which
    /// this one is a beginning.
    fn covers(&self, len: usize, shared: usize) -> bool {
        looked_at();
        let its = self.key.bytes.len();
        its <= shared && (self.key.below || its == len)
    }
}

/// An entry is looked at; tests count how often.
#[inline]
fn looked_at() {
    #[cfg(test)]
    tests::LOOKS.with(|looks| looks.set(looks.get() + 1));
}

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::sync::Arc;

    thread_local! {
        pub(super) static LOOKS: Cell<u32> = const { Cell::new(0) };
    }

    fn route(host: Option<&str>, path: &str) -> Route {
        let (path, below) = (path.into(), path.ends_with('/'));
        Route { path, below, host: host.map(Into::into), limits: 0, gate: Arc::default(), target: Target::Page(()) }
    }

    /// Where the route that is found stands in the configuration: its limits say so.
    fn found(routes: &Routes, authority: &str, path: &str) -> Option<u16> {
        routes.find(authority, path).map(|route| route.limits)
    }

    fn numbered(routes: impl IntoIterator<Item = Route>) -> Routes {
        (0..).zip(routes).map(|(limits, route)| Route { limits, ..route }).collect()
    }

    /// The definition: each route is tried.
    fn tried(routes: &[Route], host: &str, path: &str) -> Option<u16> {
        let for_host = |route: &Route| match route.host.as_deref() {
            None => true,
            Some(own) => match own.strip_prefix('*') {
                Some(end) => host.ends_with(end),
                None => host == own,
            },
        };
        let for_path = |route: &Route| route.path == path || route.below && path.starts_with(&route.path);
        let rank = |route: &Route| {
            let host = route.host.as_deref().unwrap_or("");
            (!host.is_empty() && !host.starts_with('*'), host.len(), route.path.len())
        };
        let fits = (0..).zip(routes).filter(|(_, route)| for_host(route) && for_path(route));
        fits.max_by_key(|(_, route)| rank(route)).map(|(number, _)| number)
    }

    #[test]
    fn host_goes_before_path_exact_before_below_longer_before_shorter() {
        let all = [
            route(None, "/"),
            route(None, "/a"),
            route(None, "/a/"),
            route(Some("edge.example"), "/"),
            route(None, "/a/b"),
        ];
        let routes = numbered(all.clone());
        assert_eq!(found(&routes, "x", "/"), Some(0));
        assert_eq!(found(&routes, "x", "/a"), Some(1));
        assert_eq!(found(&routes, "x", "/a/"), Some(2));
        assert_eq!(found(&routes, "x", "/a/b"), Some(4));
        assert_eq!(found(&routes, "x", "/a/c"), Some(2));
        assert_eq!(found(&routes, "EDGE.example", "/a"), Some(3));
        assert_eq!(found(&numbered(all[1..].to_vec()), "x", "/elsewhere"), None);
        assert_eq!(found(&numbered([]), "x", "/"), None);
    }

    #[test]
    fn a_name_goes_before_the_names_below_another_and_those_before_all() {
        let routes = numbered([
            route(None, "/"),
            route(Some("*.example"), "/"),
            route(Some("*.b.example"), "/"),
            route(Some("a.b.example"), "/only"),
        ]);
        for (host, path, wanted) in [
            ("a.b.example", "/only", 3),
            ("a.b.example", "/other", 2),
            ("b.example", "/", 1),
            ("c.b.example", "/only", 2),
            ("x.c.b.example", "/", 2),
            ("ab.example", "/", 1),
            ("example", "/", 0),
            ("xexample", "/", 0),
            ("", "/", 0),
        ] {
            assert_eq!(found(&routes, host, path), Some(wanted), "{host}{path}");
        }
    }

    #[test]
    fn port_root_case_and_spelling_of_an_address_are_no_part_of_the_host() {
        let routes = numbered([route(Some("h.example"), "/"), route(Some("[::1]"), "/"), route(Some("*.h"), "/")]);
        for (authority, wanted) in [
            ("h.example:80", Some(0)),
            ("h.example:", Some(0)),
            ("H.Example.", Some(0)),
            ("h.example.:80", Some(0)),
            ("h.example..", None),
            ("[::1]", Some(1)),
            ("[::1]:80", Some(1)),
            ("[0:0::0001]:80", Some(1)),
            ("[::2]", None),
            ("A.H.:1", Some(2)),
            (".", None),
            ("", None),
        ] {
            assert_eq!(found(&routes, authority, "/"), wanted, "{authority}");
        }
    }

    #[test]
    fn a_host_longer_than_any_name_is_one_of_all() {
        let routes = numbered([route(Some("*.example"), "/"), route(None, "/")]);
        let host = |len: usize| "a".repeat(len - ".example".len()) + ".example";
        assert_eq!(found(&routes, &host(HOST), "/"), Some(0));
        assert_eq!(found(&routes, &host(HOST + 1), "/"), Some(1));
    }

    #[test]
    fn a_search_looks_at_few_of_many_routes() {
        let host = |n: usize| {
            [None, Some(format!("h{}.example", n % 100)), Some(format!("*.d{}.example", n % 50))][n % 3].clone()
        };
        let path = |n: usize| format!("/{}/{n}{}", n % 7, ["", "/"][n % 2]);
        let routes = numbered((0..4096).map(|n| route(host(n).as_deref(), &path(n))));
        for (authority, path) in [
            ("h7.example", "/3/1207"),
            ("a.b.c.d49.example", "/1/1/1/1/1"),
            ("nobody", "/6/4095/x/"),
            (&"a.".repeat(120), &"/".repeat(8000)),
        ] {
            LOOKS.set(0);
            found(&routes, authority, path);
            assert!(LOOKS.get() <= 40, "{} looks for {authority} {path}", LOOKS.get());
        }
    }

    fn host() -> impl Strategy<Value = String> {
        "(a|b|ab)(\\.(a|b)){0,3}"
    }

    fn path() -> impl Strategy<Value = String> {
        "(/(a|b|ab)?){1,5}"
    }

    fn routes() -> impl Strategy<Value = Vec<Route>> {
        let host = prop_oneof![Just(None), host().prop_map(Some), host().prop_map(|host| Some(format!("*.{host}")))];
        let route = (host, path(), any::<bool>()).prop_map(|(host, path, below)| Route {
            below: below && path.ends_with('/'),
            ..route(host.as_deref(), &path)
        });
        prop::collection::vec(route, 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_found_is_what_trying_each_would_find(
            routes in routes(), asked in prop::collection::vec((host(), path()), 1..8),
        ) {
            // As the configuration has it, there are no two of one host and path.
            let mut routes = routes;
            routes.sort_by(|a, b| (&a.host, &a.path).cmp(&(&b.host, &b.path)));
            routes.dedup_by(|a, b| (&a.host, &a.path) == (&b.host, &b.path));
            let index = numbered(routes.clone());
            for (host, path) in asked {
                prop_assert_eq!(found(&index, &host, &path), tried(&routes, &host, &path), "{}{}", host, path);
            }
        }
    }
}

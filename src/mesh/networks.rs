//! Sets of networks: who is allowed, denied, trusted.
//!
//! A set is two sorted lists of ranges that neither touch nor overlap, one for each version of IP, searched by halves:
//! a million networks cost twenty steps. IPv4 mapped into IPv6 (RFC 4291 section 2.5.5.2) is IPv4 wherever it comes
//! from, and no network of IPv6 holds an address of IPv4, `::/0` neither.

use arc_swap::ArcSwap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// Bits of the prefix `::ffff:0:0`, behind which IPv4 is mapped into IPv6.
const MAPPED_BITS: u8 = 96;

/// A network: an address whose first bits it shares with all others in it (RFC 4632, RFC 4291 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The lowest address; never one of IPv4 mapped into IPv6.
    first: IpAddr,
    /// Bits in common, at most 32 or 128.
    bits: u8,
}

impl FromStr for Network {
    type Err = String;

    /// `192.0.2.0/24`, `2001:db8::/32`, or an address alone.
    ///
    /// # Errors
    /// Words for the operator: what is wrong, and what to write.
    fn from_str(text: &str) -> Result<Network, String> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| invalid(text))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| count(bits).filter(|bits| *bits <= most));
        Network::checked(address, bits.ok_or_else(|| invalid(text))?, text)
    }
}

impl Network {
    fn checked(address: IpAddr, bits: u8, text: &str) -> Result<Network, String> {
        let first = lowest(address, bits);
        if first != address {
            let text = shown(text);
            return Err(format!("{text} has bits behind its prefix — write {first}/{bits}, or {address} alone"));
        }
        Ok(match first.to_canonical() {
            canonical if canonical != first && bits >= MAPPED_BITS => {
                Network { first: canonical, bits: bits - MAPPED_BITS }
            }
            _ => Network { first, bits },
        })
    }
}

fn invalid(text: &str) -> String {
    let text = shown(text);
    format!("{text} is no network — write an address, or one with a prefix: \"192.0.2.0/24\", \"2001:db8::/32\"")
}

/// On one line, and not longer than any network is.
fn shown(text: &str) -> String {
    format!("`{}`", text.chars().take(50).collect::<String>().escape_debug())
}

/// Digits only: `u8::from_str` takes a plus sign as well.
fn count(text: &str) -> Option<u8> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The address with all bits behind the first `bits` zero.
pub fn lowest(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(it) => Ipv4Addr::from(it.to_bits() & !behind_v4(bits)).into(),
        IpAddr::V6(it) => Ipv6Addr::from(it.to_bits() & !behind_v6(bits)).into(),
    }
}

fn behind_v4(bits: u8) -> u32 {
    u32::MAX.checked_shr(bits.into()).unwrap_or(0)
}

fn behind_v6(bits: u8) -> u128 {
    u128::MAX.checked_shr(bits.into()).unwrap_or(0)
}

/// A set of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Networks {
    /// Whether the address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(it) => within(&self.v4, it.to_bits()),
            IpAddr::V6(it) => within(&self.v6, it.to_bits()),
        }
    }

    /// No address is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ranges of addresses, after those that touch were joined.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Networks {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for Network { first, bits } in networks {
            match first {
                IpAddr::V4(it) => v4.push((it.to_bits(), it.to_bits() | behind_v4(bits))),
                IpAddr::V6(it) => v6.push((it.to_bits(), it.to_bits() | behind_v6(bits))),
            }
        }
        Networks { v4: joined(v4, |last| last.checked_add(1)), v6: joined(v6, |last| last.checked_add(1)) }
    }
}

fn within<N: Ord + Copy>(ranges: &[(N, N)], it: N) -> bool {
    let above = ranges.partition_point(|(first, _)| *first <= it);
    above.checked_sub(1).is_some_and(|place| it <= ranges[place].1)
}

/// Sorted, with those joined that overlap or touch.
fn joined<N: Ord + Copy>(mut ranges: Vec<(N, N)>, next: fn(N) -> Option<N>) -> Box<[(N, N)]> {
    ranges.sort_unstable();
    let mut joined: Vec<(N, N)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if next(before.1).is_none_or(|next| first <= next) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined.into()
}

/// Who may come: those of `allow` that are not of `deny`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Who may; `None`: everybody.
    pub allow: Option<Networks>,
    /// Who may not.
    pub deny: Networks,
}

/// The lists of a listener, shared by all shards, which may be exchanged while the server runs.
#[derive(Debug, Default)]
pub struct Lists(ArcSwap<Listed>);

impl Lists {
    /// With these.
    pub fn new(listed: Listed) -> Lists {
        Lists(ArcSwap::from_pointee(listed))
    }

    /// Whether a client of this address may come.
    pub fn admit(&self, address: IpAddr) -> bool {
        let listed = self.0.load();
        listed.allow.as_ref().is_none_or(|it| it.contains(address)) && !listed.deny.contains(address)
    }

    /// These are in force from now on. Who is inside stays.
    pub fn replace(&self, listed: Listed) {
        self.0.store(Arc::new(listed));
    }

    /// Those in force.
    pub fn listed(&self) -> Arc<Listed> {
        self.0.load_full()
    }
}

/// A line of a list that is no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFault {
    /// Which, from one on.
    pub line: usize,
    /// What is wrong, and what to write.
    pub words: String,
}

/// The networks of a list: one a line; what follows a `#` is a comment, and lines may be empty.
///
/// # Errors
/// The first line that is no network.
pub fn read_list(text: &str) -> Result<Vec<Network>, LineFault> {
    let networks = (1..).zip(text.lines()).filter_map(|(line, text)| {
        let text = text.split('#').next().unwrap_or_default().trim();
        let fault = |words| LineFault { line, words };
        (!text.is_empty()).then(|| text.parse().map_err(fault))
    });
    networks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(networks: &[&str]) -> Networks {
        networks.iter().map(|it| it.parse::<Network>().unwrap()).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_in_its_network_and_not_beside_it() {
        let set = set(&["192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "::1"]);
        let inside = ["192.0.2.0", "192.0.2.255", "198.51.100.7", "2001:db8::1", "2001:db8:ffff::", "::1"];
        let outside = ["192.0.1.255", "192.0.3.0", "198.51.100.6", "198.51.100.8", "2001:db7:ffff::", "::", "::2"];
        assert!(inside.iter().all(|it| set.contains(ip(it))));
        assert!(outside.iter().all(|it| !set.contains(ip(it))));
    }

    #[test]
    fn mapped_ipv4_is_ipv4_on_both_sides() {
        assert!(set(&["192.0.2.0/24"]).contains(ip("::ffff:192.0.2.1")));
        assert!(set(&["::ffff:192.0.2.0/120"]).contains(ip("192.0.2.1")));
        assert!(!set(&["::ffff:192.0.2.0/120"]).contains(ip("192.0.3.1")));
        assert!(!set(&["::/0"]).contains(ip("192.0.2.1")) && set(&["::/0"]).contains(ip("2001:db8::1")));
        assert!(set(&["0.0.0.0/0"]).contains(ip("255.255.255.255")) && !set(&["0.0.0.0/0"]).contains(ip("::1")));
    }

    #[test]
    fn deny_wins_over_allow_and_lists_may_be_exchanged() {
        let lists = Lists::new(Listed { allow: None, deny: set(&["10.1.0.0/16"]) });
        let admits = || ["10.0.0.1", "10.1.0.1", "192.0.2.1"].map(|it| lists.admit(ip(it)));
        assert_eq!(admits(), [true, false, true]);
        lists.replace(Listed { allow: Some(set(&["10.0.0.0/8"])), deny: set(&["10.1.0.0/16"]) });
        assert_eq!(admits(), [true, false, false]);
        lists.replace(Listed { allow: Some(set(&[])), deny: set(&[]) });
        assert_eq!(admits(), [false; 3], "an allow list that is empty allows nobody");
    }

    #[test]
    fn networks_that_touch_or_overlap_are_one_range() {
        let joined = set(&["10.0.0.0/25", "10.0.0.128/25", "10.0.0.0/30", "10.0.2.0/24", "0.0.0.0/1", "128.0.0.0/1"]);
        assert_eq!(joined, set(&["0.0.0.0/0"]));
        assert_eq!((joined.len(), set(&["10.0.0.0/24", "10.0.2.0/24"]).len()), (1, 2));
        assert_eq!((set(&[]).is_empty(), set(&["::/0", "8000::/1"]).len()), (true, 1));
    }

    #[test]
    fn what_is_no_network_says_what_to_write() {
        let bad = ["", "192.0.2", "192.0.2.0/33", "::/129", "::/+1", "192.0.2.0/", "a.example", "10.0.0.0/8 ", "[::1]"];
        for text in bad {
            assert!(text.parse::<Network>().unwrap_err().contains("is no network"), "{text}");
        }
        let words = "192.0.2.9/24".parse::<Network>().unwrap_err();
        assert!(words.contains("write 192.0.2.0/24, or 192.0.2.9 alone"), "{words}");
    }

    #[test]
    fn a_list_has_comments_and_a_fault_its_line() {
        let list = "# spam\n\n192.0.2.0/24 # TEST-NET-1\n  ::1\r\n";
        assert_eq!(read_list(list).unwrap().len(), 2);
        let fault = read_list("192.0.2.0/24\n\n192.0.2.1/24 # x\nnonsense").unwrap_err();
        assert_eq!((fault.line, fault.words.contains("bits behind")), (3, true));
    }

    fn network() -> impl Strategy<Value = Network> {
        let v4 = (any::<u32>(), 0..=32u8).prop_map(|(it, bits)| (IpAddr::from(Ipv4Addr::from(it & 0xff00_ffff)), bits));
        let v6 = (any::<u128>(), 0..=128u8).prop_map(|(it, bits)| (IpAddr::from(Ipv6Addr::from(it)), bits));
        prop_oneof![v4, v6].prop_map(|(it, bits)| Network { first: lowest(it, bits), bits })
    }

    proptest! {
        /// The set answers as a walk over its networks does.
        #[test]
        fn a_set_is_the_sum_of_its_networks(
            networks in proptest::collection::vec(network(), 0..20),
            strangers in proptest::collection::vec(any::<u32>(), 20),
        ) {
            let set: Networks = networks.iter().copied().collect();
            let edges = networks.iter().flat_map(|it| edges(*it));
            for address in edges.chain(strangers.into_iter().map(|it| Ipv4Addr::from(it).into())) {
                let expected = networks.iter().any(|it| is_in(address, *it));
                prop_assert_eq!(set.contains(address), expected, "{}", address);
            }
        }
    }

    fn is_in(address: IpAddr, network: Network) -> bool {
        address.is_ipv4() == network.first.is_ipv4() && lowest(address, network.bits) == network.first
    }

    /// Its first and last address and those beside them, without the few that are IPv4 in IPv6.
    fn edges(Network { first, bits }: Network) -> Vec<IpAddr> {
        let edges: [IpAddr; 4] = match first {
            IpAddr::V4(it) => {
                let (low, high) = (it.to_bits(), it.to_bits() | behind_v4(bits));
                [low, high, low.wrapping_sub(1), high.wrapping_add(1)].map(|it| Ipv4Addr::from(it).into())
            }
            IpAddr::V6(it) => {
                let (low, high) = (it.to_bits(), it.to_bits() | behind_v6(bits));
                [low, high, low.wrapping_sub(1), high.wrapping_add(1)].map(|it| Ipv6Addr::from(it).into())
            }
        };
        edges.into_iter().filter(|it| it.to_canonical() == *it).collect()
    }
}

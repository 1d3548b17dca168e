//! An upstream as one shard knows it: where it is, and when it may be called.
//!
//! One that failed is left alone, longer with each further failure, so that clients go where somebody answers. Where
//! there is nobody else to go to, leaving it alone helps no one: then it is called as a last resort, once in a
//! `RESORT` for each shard, so that whoever comes when it is back is served, and a crowd does not hammer it while it
//! is not. What one shard finds out, all know ([`Health`]).

use crate::mesh::{Health, Numbered, UpstreamTls, is_up};
use crate::shard::clock::ticks;
use crate::shard::service::Address;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often the last resort is called that does not answer; clients between two calls are told 503.
const RESORT: Duration = Duration::from_millis(250);

/// How soon a name that does not resolve is looked up again, in seconds.
const LOOKUP: &str = "2";

/// Where an upstream is.
#[derive(Clone, Debug)]
pub enum Place {
    /// Wherever its name leads; letters tell.
    Named,
    /// An address that needs no name.
    Known(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// How long an upstream that failed is left alone while there are others.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After its first failure; doubled with each further one.
    pub first: Duration,
    /// At most.
    pub max: Duration,
}

impl Backoff {
    /// In ticks, behind so many failures.
    fn ticks(self, failures: u32) -> u32 {
        ticks(self.first.saturating_mul(1 << failures.min(16)).min(self.max))
    }
}

/// All upstreams of the configuration.
#[derive(Clone, Debug)]
pub struct Places {
    /// By their numbers; `None`: that of one that is gone.
    pub upstreams: Vec<Option<Placed>>,
    /// How long one that failed is left alone.
    pub backoff: Backoff,
}

/// Where an upstream is, and how: the same for all shards, and for all generations that have it.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Where it is.
    pub place: Place,
    /// Whether it answers.
    pub health: Arc<Health>,
    /// TLS towards it; `None`: clear text.
    pub tls: Option<UpstreamTls>,
}

impl Default for Places {
    /// None.
    fn default() -> Places {
        let backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(16) };
        Places { upstreams: Vec::new(), backoff }
    }
}

impl FromIterator<Place> for Places {
    /// Known to one shard only, for those who have no other.
    fn from_iter<I: IntoIterator<Item = Place>>(places: I) -> Places {
        let placed = |place| Some(Placed { place, health: Arc::default(), tls: None });
        Places { upstreams: places.into_iter().map(placed).collect(), ..Places::default() }
    }
}

/// One upstream, as this shard knows it.
pub(super) struct Upstream {
    pub(super) addresses: Vec<Address>,
    pub(super) tls: Option<UpstreamTls>,
    /// The address that answered last.
    pub(super) preferred: usize,
    pub(super) connections: u32,
    /// Counts the times that it was found to answer or to fail. Of many calls that were on their way together, the
    /// first one speaks for all.
    pub(super) verdict: u32,
    failures: u32,
    /// When it is called again although there are others.
    retry_at: u32,
    /// When it is called again because there is no other.
    resort_at: u32,
    /// How long it is left alone when it has failed.
    pub(super) backoff: Backoff,
    shared: Shared,
}

/// What all shards know of it.
struct Shared {
    health: Arc<Health>,
    /// The changes that this shard has heeded.
    heeded: u32,
}

impl Upstream {
    pub(super) fn new(Placed { place, health, tls }: &Placed, backoff: Backoff) -> Upstream {
        let shared = Shared { health: health.clone(), heeded: 0 };
        let addresses = match place {
            Place::Named => Vec::new(),
            Place::Known(address) => vec![Address::Tcp(*address)],
            Place::Unix(path) => vec![Address::Unix(path.clone())],
        };
        let tls = tls.clone();
        let (preferred, connections, verdict) = (0, 0, 0);
        let (failures, retry_at, resort_at) = (0, 0, 0);
        Upstream { addresses, tls, preferred, connections, verdict, failures, retry_at, resort_at, backoff, shared }
    }

    /// Heeds what other shards have found out.
    pub(super) fn heed(&mut self, now: u32) {
        let changes = self.shared.health.changes();
        if changes == self.shared.heeded {
            return;
        }
        self.shared.heeded = changes;
        self.verdict = self.verdict.wrapping_add(1);
        match (is_up(changes), self.failures) {
            (true, _) => self.failures = 0,
            (false, 0) => self.leave_alone(now),
            (false, _) => {}
        }
    }

    pub(super) fn may_be_called(&self, now: u32) -> bool {
        !self.addresses.is_empty() && (self.failures == 0 || now >= self.retry_at)
    }

    /// Where there is no other.
    pub(super) fn may_be_last_resort(&self, now: u32) -> bool {
        !self.addresses.is_empty() && now >= self.resort_at
    }

    /// One call at a time finds out whether a failed upstream is back; as a last resort, one in a while.
    pub(super) fn is_called(&mut self, now: u32, connect_ticks: u32) {
        if self.failures > 0 {
            self.retry_at = now + connect_ticks;
            self.resort_at = now + ticks(RESORT);
        }
    }

    /// The address that answered is the first to be tried from now on.
    pub(super) fn answered(&mut self, address: usize) {
        self.failures = 0;
        self.verdict = self.verdict.wrapping_add(1);
        self.preferred = address;
        self.shared.health.answered();
        self.shared.heeded = self.shared.health.changes();
    }

    /// A call that began before the last verdict says nothing new.
    pub(super) fn failed(&mut self, now: u32, verdict: u32) {
        self.heed(now);
        if verdict == self.verdict {
            self.verdict = self.verdict.wrapping_add(1);
            self.leave_alone(now);
            self.shared.health.failed();
            self.shared.heeded = self.shared.health.changes();
        }
    }

    fn leave_alone(&mut self, now: u32) {
        self.retry_at = now + self.backoff.ticks(self.failures);
        self.resort_at = now + ticks(RESORT);
        self.failures += 1;
    }
}

/// The search for an upstream that answers.
#[derive(Default)]
pub(super) struct Call {
    /// It may have a spare slot.
    pub(super) spare: bool,
    /// Places in the route's list that were tried, as bits.
    pub(super) tried: u64,
    /// The number of the upstream that is being called, or is connected.
    pub(super) upstream: usize,
    /// Addresses of it that were tried, and the one that was tried last.
    pub(super) addresses_tried: usize,
    pub(super) address: usize,
    /// The upstream's verdict when the call began: only one call can change it.
    pub(super) verdict: u32,
    pub(super) answered: bool,
}

impl Call {
    /// Of these upstreams those that are gone count as tried.
    pub(super) fn skip_older(&mut self, numbers: &[u32], upstreams: &Numbered<Upstream>) {
        let older = |number: &u32| upstreams.current(*number as usize).is_none();
        let places = numbers.iter().enumerate().filter(|(_, number)| older(number));
        self.tried |= places.fold(0, |places, (place, _)| places | 1 << place);
    }

    /// The place and number of the upstream with the fewest connections among those that were not tried and are not
    /// left alone; where there is none, the last resort.
    pub(super) fn choose(&self, numbers: &[u32], upstreams: &Numbered<Upstream>, now: u32) -> Option<(usize, u32)> {
        let all = numbers.iter().copied().enumerate();
        let fresh = all.filter(|(place, _)| self.tried & 1 << place == 0);
        let is_open = |(_, number): &(usize, u32)| upstreams[*number as usize].may_be_called(now);
        let is_resort = |(_, number): &(usize, u32)| upstreams[*number as usize].may_be_last_resort(now);
        let connections = |(_, number): &(usize, u32)| upstreams[*number as usize].connections;
        let open = fresh.clone().filter(is_open).min_by_key(connections);
        open.or_else(|| fresh.filter(is_resort).min_by_key(connections))
    }
}

/// When a client that was told that nobody answers may come again, in seconds: Retry-After.
pub(super) fn retry_after<'u>(mut tried: impl Iterator<Item = &'u Upstream>) -> &'static str {
    if tried.any(|it| !it.addresses.is_empty()) { "1" } else { LOOKUP }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: u32 = 20;

    fn backoff() -> Backoff {
        Backoff { first: Duration::from_millis(500), max: Duration::from_secs(4) }
    }

    /// The same upstream in two shards.
    fn two() -> [Upstream; 2] {
        let place = Place::Known(([127, 0, 0, 1], 7).into());
        let placed = Placed { place, health: Arc::default(), tls: None };
        [(); 2].map(|()| Upstream::new(&placed, backoff()))
    }

    #[test]
    fn it_is_left_alone_longer_and_longer_up_to_a_bound() {
        let [mut upstream, _] = two();
        let mut now = 0;
        for expected in [2, 4, 8, 16, 16, 16] {
            upstream.failed(now, upstream.verdict);
            assert!(!upstream.may_be_called(now + expected - 1) && upstream.may_be_called(now + expected));
            now += expected;
        }
        upstream.answered(0);
        assert!(upstream.may_be_called(now));
    }

    #[test]
    fn the_last_resort_is_called_once_a_tick_however_often_it_failed() {
        let [mut upstream, _] = two();
        for now in 0..100 {
            assert!(upstream.may_be_last_resort(now));
            upstream.is_called(now, CONNECT);
            assert!(now == 0 || !upstream.may_be_last_resort(now), "one call in flight is enough for a while");
            upstream.failed(now, upstream.verdict);
            assert!(!upstream.may_be_last_resort(now) && upstream.may_be_last_resort(now + 1));
        }
    }

    #[test]
    fn what_one_shard_finds_out_the_other_knows() {
        let [mut one, mut other] = two();
        let before = other.verdict;
        one.failed(0, one.verdict);
        other.heed(0);
        assert!(!other.may_be_called(1));
        // Its own call, begun before, tells it nothing that it does not know.
        other.failed(1, before);
        assert_eq!(other.failures, 1);
        one.answered(0);
        other.heed(1);
        assert!(other.may_be_called(1) && other.shared.health.is_up());
    }
}

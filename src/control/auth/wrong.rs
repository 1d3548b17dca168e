//! How many wrong credentials one client may have asked about: of those of one address prefix so many are wrong in a
//! minute, and nothing of it is asked about any more until some time has passed. Whoever is known already is let in
//! meanwhile.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// What the limit is counted over.
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that are remembered, at most. Beyond it wrong answers are not counted: what is asked at one time is
/// bounded all the same.
const ADDRESSES: usize = 65_536;

/// Wrong answers by address: a leaky bucket each, as the moment at which it will be empty.
pub(super) struct Wrong {
    /// The time that one wrong answer takes to be forgotten; zero: there is no limit.
    each: Duration,
    empty_at: HashMap<IpAddr, Instant>,
    most: usize,
}

impl Wrong {
    /// So many in a minute; zero: as many as come.
    pub(super) fn new(per_minute: u32) -> Wrong {
        let each = WINDOW.checked_div(per_minute).unwrap_or_default();
        Wrong { each, empty_at: HashMap::new(), most: ADDRESSES }
    }

    /// An address has caused as many as it may. Who has none, behind a unix socket, is not told from others.
    pub(super) fn is_over(&self, client: Option<IpAddr>, now: Instant) -> bool {
        let empty_at = client.and_then(|client| self.empty_at.get(&client));
        empty_at.is_some_and(|at| *at + self.each > now + WINDOW)
    }

    /// An address has caused one.
    pub(super) fn count(&mut self, client: Option<IpAddr>, now: Instant) {
        let Some(client) = client.filter(|_| !self.each.is_zero()) else { return };
        if self.empty_at.len() >= self.most && !self.empty_at.contains_key(&client) {
            self.empty_at.retain(|_, at| *at > now);
            if self.empty_at.len() >= self.most {
                return;
            }
        }
        let at = self.empty_at.entry(client).or_insert(now);
        *at = (*at).max(now) + self.each;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: impl Into<Option<u8>>) -> Option<IpAddr> {
        last.into().map(|last| [192, 0, 2, last].into())
    }

    #[test]
    fn so_many_are_wrong_in_a_minute_and_no_other_pays_for_it() {
        let (mut wrong, now) = (Wrong::new(3), Instant::now());
        for count in 0..3 {
            assert!(!wrong.is_over(client(1), now), "{count}");
            wrong.count(client(1), now);
        }
        assert!(wrong.is_over(client(1), now) && !wrong.is_over(client(2), now) && !wrong.is_over(client(None), now));
        let later = |seconds| now + Duration::from_secs(seconds);
        assert!(wrong.is_over(client(1), later(19)) && !wrong.is_over(client(1), later(20)));
        wrong.count(client(1), later(20));
        assert!(wrong.is_over(client(1), later(21)) && !wrong.is_over(client(1), later(80)));
    }

    #[test]
    fn no_limit_counts_nothing_and_what_is_counted_has_a_bound() {
        let (mut none, now) = (Wrong::new(0), Instant::now());
        none.count(client(1), now);
        assert!(none.empty_at.is_empty() && !none.is_over(client(1), now));
        let mut few = Wrong { most: 2, ..Wrong::new(1) };
        (1..9).for_each(|last| few.count(client(last), now));
        assert_eq!(few.empty_at.len(), 2);
        few.count(client(9), now + WINDOW);
        assert_eq!(few.empty_at.len(), 1);
        assert!(few.is_over(client(9), now + WINDOW));
    }
}

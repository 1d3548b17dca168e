//! What clients have a shard keep that is not whole yet, or not over: cut frames, wills, topic aliases.
//!
//! It is charged to the client. Where the clients of a route together have more than `held_bytes`, those go that have
//! the most, not the next one that asks; and some more than need be, so that not every byte has all looked at.

/// The part of the limit that is made free at once.
const SHARE: usize = 8;

/// Bytes of all clients of a shard, by the numbers of their routes.
#[derive(Default)]
pub(in crate::service) struct Held {
    routes: Vec<usize>,
}

impl Held {
    /// A client has so many bytes now, and had others before.
    pub fn change(&mut self, route: u16, before: usize, after: usize) {
        let route = usize::from(route);
        if self.routes.len() <= route {
            self.routes.resize(route + 1, 0);
        }
        self.routes[route] = self.routes[route] + after - before;
    }

    /// Of one route.
    pub fn of(&self, route: u16) -> usize {
        self.routes.get(usize::from(route)).copied().unwrap_or(0)
    }

    /// Of all.
    pub fn all(&self) -> u64 {
        self.routes.iter().map(|bytes| *bytes as u64).sum()
    }

    /// The clients that have to go so that a route has no more than `most` bytes, out of its clients and what they
    /// have: those with the most first.
    pub fn who_goes(&self, route: u16, most: usize, holders: impl Iterator<Item = (u32, usize)>) -> Vec<u32> {
        let mut rest = self.of(route);
        let mut holders: Vec<(u32, usize)> = holders.filter(|it| it.1 > 0).collect();
        holders.sort_unstable_by_key(|it| (std::cmp::Reverse(it.1), it.0));
        let goes = holders.into_iter().take_while(|it| {
            let is_too_much = rest > most - most / SHARE;
            rest = rest.saturating_sub(it.1);
            is_too_much
        });
        goes.map(|it| it.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_go_that_have_the_most() {
        let mut held = Held::default();
        let holders = [(1, 10), (2, 500), (3, 30), (4, 0), (5, 400), (6, 60)];
        holders.iter().for_each(|it| held.change(1, 0, it.1));
        assert_eq!((held.of(0), held.of(1), held.of(7), held.all()), (0, 1000, 0, 1000));
        assert_eq!(held.who_goes(1, 800, holders.into_iter()), [2]);
        assert_eq!(held.who_goes(1, 480, holders.into_iter()), [2, 5], "an eighth more than need be");
        held.change(1, 500, 0);
        assert_eq!(held.of(1), 500);
    }
}

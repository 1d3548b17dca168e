//! The channels that a route lets its clients subscribe to, as an index: a command may name many channels, and a route
//! may have many patterns.

use super::settings::BroadcastPlan;
use std::collections::HashSet;

/// The patterns of a route. A channel costs one look-up, and one for each length that its prefixes have: 255 at most.
pub struct Patterns {
    /// Every channel is allowed.
    all: bool,
    exact: HashSet<Box<str>>,
    /// Without their `*`.
    prefixes: HashSet<Box<str>>,
    /// The lengths of the prefixes, each once.
    lengths: Vec<usize>,
}

impl Patterns {
    /// The patterns of a route; as [`BroadcastPlan::allows`] understands them.
    pub fn new(plan: &BroadcastPlan) -> Patterns {
        let prefixes: HashSet<Box<str>> =
            plan.channels.iter().filter_map(|it| it.strip_suffix('*')).map(Into::into).collect();
        let exact = plan.channels.iter().filter(|it| !it.ends_with('*')).map(|it| it.as_str().into()).collect();
        let mut lengths: Vec<usize> = prefixes.iter().map(|it| it.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Patterns { all: plan.channels.is_empty(), exact, prefixes, lengths }
    }

    /// Whether clients may subscribe to this channel or prefix.
    pub fn allow(&self, channel: &str) -> bool {
        let mut heads = self.lengths.iter().filter_map(|&len| channel.get(..len));
        self.all || self.exact.contains(channel) || heads.any(|head| self.prefixes.contains(head))
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::settings;
    use super::*;

    #[test]
    fn the_index_allows_what_trying_each_pattern_does() {
        let names = ["a", "ab", "b", "b.", "b.c", "b.c*", "b*", "*", "ü", "ü.x", "", "c.d.e"];
        let patterns = ["a", "b.*", "b.c", "ü*", "c.*", "c.d.*", "*", "b*"];
        for chosen in 0..1u32 << patterns.len() {
            let some = patterns.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1);
            let plan = BroadcastPlan { channels: some.map(|(_, it)| (*it).into()).collect(), ..settings() };
            let index = Patterns::new(&plan);
            for name in names {
                assert_eq!(index.allow(name), plan.allows(name), "{name:?} by {:?}", plan.channels);
            }
        }
    }

    #[test]
    fn a_channel_costs_a_look_for_each_length_and_not_for_each_pattern() {
        let many = (0..10_000).map(|number| format!("{number:08}.*")).collect();
        let index = Patterns::new(&BroadcastPlan { channels: many, ..settings() });
        assert_eq!(index.lengths, [9]);
        assert!(index.allow("00009999.x") && !index.allow("10000000.x"));
    }
}

//! The channels that a route lets its clients subscribe to, as an index: a command may name many channels, and a route
//! may have many patterns. And the roles that some of them need.

use super::settings::{BroadcastPlan, ChannelRoles};
use super::template::Template;
use crate::mesh::Identity;
use crate::service::fanout::matches;
use std::collections::HashSet;

/// The patterns of a route. A channel costs one look-up, one for each length that its prefixes have (255 at most), and
/// one for each pattern that names the client and each that needs a role.
pub struct Patterns {
    /// Every channel is allowed.
    all: bool,
    exact: HashSet<Box<str>>,
    /// Without their `*`.
    prefixes: HashSet<Box<str>>,
    /// The lengths of the prefixes, each once.
    lengths: Vec<usize>,
    /// Those that are others for every client.
    templates: Vec<Template>,
    roles: Box<[ChannelRoles]>,
}

/// Whether a client may have a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It may.
    Given,
    /// Nobody may, or not this one.
    NotOfRoute,
    /// Not without a role.
    NeedsRole,
}

impl Patterns {
    /// The patterns of a route; as [`BroadcastPlan::allows`] understands them.
    pub fn new(plan: &BroadcastPlan) -> Patterns {
        let (templates, plain): (Vec<&String>, Vec<&String>) =
            plan.channels.iter().partition(|it| Template::is_one(it));
        let prefixes: HashSet<Box<str>> = plain.iter().filter_map(|it| it.strip_suffix('*')).map(Into::into).collect();
        let exact = plain.iter().filter(|it| !it.ends_with('*')).map(|it| it.as_str().into()).collect();
        let mut lengths: Vec<usize> = prefixes.iter().map(|it| it.len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let templates = templates.into_iter().map(|it| Template::new(it)).collect();
        Patterns { all: plan.channels.is_empty(), exact, prefixes, lengths, templates, roles: plan.roles.clone() }
    }

    /// Whether a client may subscribe to this channel or prefix.
    pub fn leave(&self, channel: &str, identity: Option<&Identity>) -> Leave {
        let by_name = || identity.is_some_and(|who| self.templates.iter().any(|it| it.covers(channel, who)));
        let mut needed = self.roles.iter().filter(|it| it.concerns(channel));
        match self.allow(channel) || by_name() {
            false => Leave::NotOfRoute,
            true if needed.all(|it| identity.is_some_and(|who| who.has_any(&it.roles))) => Leave::Given,
            true => Leave::NeedsRole,
        }
    }

    /// Whether every client may subscribe to it that has the roles.
    fn allow(&self, channel: &str) -> bool {
        let mut heads = self.lengths.iter().filter_map(|&len| channel.get(..len));
        self.all || self.exact.contains(channel) || heads.any(|head| self.prefixes.contains(head))
    }
}

impl ChannelRoles {
    /// Whether one of its channels is this one, or would come with this prefix.
    fn concerns(&self, channel: &str) -> bool {
        let within = |pattern: &str| channel.strip_suffix('*').is_some_and(|prefix| pattern.starts_with(prefix));
        self.channels.iter().any(|pattern| matches(pattern, channel) || within(pattern))
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

    fn identity(name: &str, roles: &[&str]) -> Identity {
        let roles = roles.iter().map(|it| (*it).into()).collect();
        Identity { name: name.into(), roles, claims: Box::default(), expires: None }
    }

    #[test]
    fn a_channel_of_a_client_is_no_others() {
        let channels = vec!["news".into(), "user.{user}.*".into()];
        let patterns = Patterns::new(&BroadcastPlan { channels, ..settings() });
        let (ann, bob) = (identity("ann", &[]), identity("bob", &[]));
        for channel in ["news", "user.ann.a", "user.ann.*"] {
            assert_eq!(patterns.leave(channel, Some(&ann)), Leave::Given, "{channel}");
        }
        for (channel, who) in [
            ("user.ann.a", Some(&bob)),
            ("user.ann.a", None),
            ("user.*", Some(&ann)),
            ("user.ann*", Some(&ann)),
            ("user.{user}.a", Some(&ann)),
        ] {
            assert_eq!(patterns.leave(channel, who), Leave::NotOfRoute, "{channel}");
        }
    }

    #[test]
    fn a_prefix_needs_the_roles_of_all_that_comes_with_it() {
        let roles =
            Box::new([ChannelRoles { channels: Box::new(["b.admin.*".into()]), roles: Box::new(["boss".into()]) }]);
        let patterns = Patterns::new(&BroadcastPlan { roles, ..settings() });
        let (boss, clerk) = (identity("ann", &["boss"]), identity("bob", &["clerk"]));
        for channel in ["b.admin.x", "b.admin.*", "b.*", "b*", "*", "b.admin.a.*"] {
            assert_eq!(patterns.leave(channel, Some(&boss)), Leave::Given, "{channel}");
            assert_eq!(patterns.leave(channel, Some(&clerk)), Leave::NeedsRole, "{channel}");
            assert_eq!(patterns.leave(channel, None), Leave::NeedsRole, "{channel}");
        }
        for channel in ["b.admin", "b.a", "b.b*", "c*"] {
            assert_eq!(patterns.leave(channel, Some(&clerk)), Leave::Given, "{channel}");
        }
    }
}

//! Patterns of channels that name the client: `user.{user}`, `tenant.{claim.tenant}.*`.
//!
//! What stands for a name may not change what the pattern is a pattern of. So a value with a `*` in it, which would
//! make a prefix, fits nowhere, and neither does one with the character that ends its place in the pattern: with
//! `user.{user}.*` somebody called `a.b` has no channels, or `a` would be sent what is meant for him.

use crate::mesh::Identity;

/// A pattern with names in it.
#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
    /// It is a prefix.
    star: bool,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Box<str>),
    User,
    Claim(Box<str>),
}

impl Template {
    /// Whether a pattern has names in it.
    pub fn is_one(pattern: &str) -> bool {
        pattern.contains('{')
    }

    /// Of a pattern that [`names`](Template::names) takes; what it does not is text.
    pub fn new(pattern: &str) -> Template {
        let (body, star) = pattern.strip_suffix('*').map_or((pattern, false), |body| (body, true));
        let mut parts = Vec::new();
        let mut rest = body;
        while let Some((text, name, after)) = next_name(rest) {
            parts.push(Part::Text(text.into()));
            parts.push(if name == "user" { Part::User } else { Part::Claim(name["claim.".len()..].into()) });
            rest = after;
        }
        parts.push(Part::Text(rest.into()));
        Template { parts, star }
    }

    /// The claims that a pattern names; `None`: it has a brace that belongs to no `{user}` and no `{claim.x}`.
    pub fn names(pattern: &str) -> Option<Vec<&str>> {
        let (mut claims, mut rest) = (Vec::new(), pattern);
        while let Some((text, name, after)) = next_name(rest) {
            if text.contains(['{', '}']) {
                return None;
            }
            claims.extend(name.strip_prefix("claim."));
            rest = after;
        }
        (!rest.contains(['{', '}'])).then_some(claims)
    }

    /// The channel or prefix that it is for a client; `None`: it has none.
    pub fn of(&self, who: &Identity) -> Option<String> {
        let mut channel = String::new();
        for (place, part) in self.parts.iter().enumerate() {
            let value = match part {
                Part::Text(text) => {
                    channel.push_str(text);
                    continue;
                }
                Part::User => &*who.name,
                Part::Claim(name) => who.claim(name)?,
            };
            let ends = match self.parts.get(place + 1) {
                Some(Part::Text(text)) => text.chars().next(),
                _ => None,
            };
            let breaks = |it: char| it == '*' || it.is_control() || Some(it) == ends;
            if value.is_empty() || value.contains(breaks) {
                return None;
            }
            channel.push_str(value);
        }
        channel.extend(self.star.then_some('*'));
        Some(channel)
    }

    /// Whether it is, for this client, a pattern of a channel or prefix.
    pub fn covers(&self, channel: &str, who: &Identity) -> bool {
        self.of(who).is_some_and(|pattern| crate::service::fanout::matches(&pattern, channel))
    }
}

/// What stands before the first name of a pattern, that name without its braces, and what follows it.
fn next_name(pattern: &str) -> Option<(&str, &str, &str)> {
    pattern.match_indices('{').find_map(|(at, _)| {
        let (name, after) = pattern[at + 1..].split_once('}')?;
        let is_claim = name.strip_prefix("claim.").is_some_and(|claim| !claim.is_empty() && !claim.contains('{'));
        (name == "user" || is_claim).then_some((&pattern[..at], name, after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str, name: &str, tenant: &str) -> Option<String> {
        let claims = Box::new([("tenant".into(), tenant.into())]);
        Template::new(pattern).of(&Identity { name: name.into(), roles: Box::default(), claims, expires: None })
    }

    #[test]
    fn names_become_what_they_stand_for() {
        assert_eq!(of("user.{user}", "ann", "").as_deref(), Some("user.ann"));
        assert_eq!(of("user.{user}.*", "ann", "").as_deref(), Some("user.ann.*"));
        assert_eq!(of("{claim.tenant}/{user}", "ann", "t").as_deref(), Some("t/ann"));
        assert_eq!(of("{claim.other}", "ann", "t"), None);
    }

    #[test]
    fn no_name_reaches_beyond_its_place() {
        for (pattern, name) in [("u.{user}", "a*"), ("u.{user}.*", "a.b"), ("u.{user}", ""), ("{user}", "a\n")] {
            assert_eq!(of(pattern, name, ""), None, "{pattern} {name:?}");
        }
        assert_eq!(of("u.{user}", "a.b", "").as_deref(), Some("u.a.b"));
    }

    #[test]
    fn what_a_pattern_may_name() {
        assert_eq!(Template::names("a.{claim.x}.{user}.*"), Some(vec!["x"]));
        assert_eq!(Template::names("a.*"), Some(vec![]));
        for wrong in ["{", "}", "{users}", "{claim.}", "a{user}}", "{{user}", "{claim}"] {
            assert_eq!(Template::names(wrong), None, "{wrong}");
        }
    }
}

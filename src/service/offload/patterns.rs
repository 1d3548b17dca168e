//! Patterns of destinations and topics, and rules about them.

use crate::mesh::Identity;

/// How a pattern is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// Destinations of STOMP: literally, or, where `#` or `*` ends it, all that begin so.
    Stomp,
    /// Topic filters of MQTT.
    Mqtt,
}

/// A pattern of destinations or topics, which may name the client: `{user}` and `{claim.x}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    syntax: Syntax,
    text: Box<str>,
    has_names: bool,
}

/// What holds for some destinations or topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which.
    pub patterns: Box<[Pattern]>,
    /// Roles of which a client must have one; none: any client will do.
    pub roles: Box<[Box<str>]>,
    /// Clients may publish there.
    pub publish: bool,
    /// Clients may subscribe there.
    pub subscribe: bool,
}

impl Pattern {
    /// From its text.
    pub fn new(syntax: Syntax, text: &str) -> Pattern {
        Pattern { syntax, text: text.into(), has_names: text.contains('{') }
    }

    /// Whether it covers a destination, a topic, or all that a topic filter matches.
    pub fn covers(&self, name: &str, client: Option<&Identity>) -> bool {
        if !self.has_names {
            return covers(self.syntax, &self.text, name);
        }
        filled(&self.text, client).is_some_and(|text| covers(self.syntax, &text, name))
    }
}

fn covers(syntax: Syntax, pattern: &str, name: &str) -> bool {
    match syntax {
        Syntax::Stomp => match pattern.strip_suffix(['#', '*']) {
            Some(prefix) => name.starts_with(prefix),
            None => pattern == name,
        },
        Syntax::Mqtt => covers_filter(pattern, name),
    }
}

/// Level by level: `#` covers the rest, `+` a level that is no `#`. Wildcards in the first level cover nothing that
/// begins with `$` (MQTT version 5 section 4.7.2).
fn covers_filter(pattern: &str, name: &str) -> bool {
    if name.starts_with('$') && pattern.starts_with(['+', '#']) {
        return false;
    }
    let (mut wanted, mut levels) = (pattern.split('/'), name.split('/'));
    loop {
        match (wanted.next(), levels.next()) {
            (Some("#"), _) => return wanted.next().is_none(),
            (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(word), Some(level)) if word == level => {}
            _ => return false,
        }
    }
}

/// The pattern with what it names of the client in its place; `None`: the client has none of that name, or one in which
/// something would be read as more than a word.
fn filled(pattern: &str, client: Option<&Identity>) -> Option<String> {
    let client = client?;
    let (mut text, mut rest) = (String::new(), pattern);
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, behind) = behind.split_once('}')?;
        let value = match name.strip_prefix("claim.") {
            Some(claim) => client.claim(claim)?,
            None if name == "user" => &client.name,
            None => return None,
        };
        if value.is_empty() || value.contains(['/', '.', '#', '*', '+', '>', '\0']) {
            return None;
        }
        text.push_str(before);
        text.push_str(value);
        rest = behind;
    }
    text.push_str(rest);
    Some(text)
}

/// Whether some pattern covers a name, for this client.
pub fn any(patterns: &[Pattern], name: &str, client: Option<&Identity>) -> bool {
    patterns.iter().any(|pattern| pattern.covers(name, client))
}

/// Whether a client may publish to, or subscribe to, a destination: some rule that names it, for a role that it has,
/// must allow that. Without any rule everybody may do all.
pub fn may(rules: &[Rule], name: &str, client: Option<&Identity>, publish: bool) -> bool {
    let allows = |rule: &Rule| {
        let has_role = rule.roles.is_empty() || client.is_some_and(|it| it.has_any(&rule.roles));
        let is_allowed = if publish { rule.publish } else { rule.subscribe };
        is_allowed && has_role && any(&rule.patterns, name, client)
    };
    rules.is_empty() || rules.iter().any(allows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Identity {
        Identity { name: "ann".into(), roles: ["ops".into()].into(), claims: [].into(), expires: None }
    }

    #[test]
    fn a_pattern_covers_what_it_says() {
        let stomp = |pattern: &str, name: &str| Pattern::new(Syntax::Stomp, pattern).covers(name, Some(&client()));
        assert!(stomp("/topic/#", "/topic/a.b") && stomp("/topic/a", "/topic/a") && stomp("/q/{user}.#", "/q/ann.x"));
        assert!(!stomp("/topic/#", "/queue/a") && !stomp("/topic/a", "/topic/ab") && !stomp("/q/{user}", "/q/bob"));
        let mqtt = |pattern: &str, name: &str| Pattern::new(Syntax::Mqtt, pattern).covers(name, Some(&client()));
        for (pattern, name) in [("#", "a/b"), ("a/+", "a/+"), ("a/#", "a"), ("a/#", "a/+/#"), ("+/b", "a/b")] {
            assert!(mqtt(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("#", "$SYS/x"),
            ("a/+", "a/#"),
            ("a/+", "a"),
            ("a/b", "a/+"),
            ("+", "a/b"),
            ("#/c", "x/y"),
            ("a/#/b", "a/c"),
        ] {
            assert!(!mqtt(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_name_with_a_wildcard_in_it_fills_nothing() {
        let odd = Identity { name: "#".into(), ..client() };
        assert!(!Pattern::new(Syntax::Mqtt, "{user}").covers("a/b", Some(&odd)));
        assert!(!Pattern::new(Syntax::Mqtt, "{user}").covers("a", None));
    }

    #[test]
    fn what_some_rule_allows_may_be_done() {
        let rule = |pattern: &str, role: Option<&str>, publish, subscribe| Rule {
            patterns: [Pattern::new(Syntax::Stomp, pattern)].into(),
            roles: role.into_iter().map(Box::from).collect(),
            publish,
            subscribe,
        };
        let rules = [rule("/topic/a", Some("ops"), true, true), rule("/topic/#", None, false, true)];
        let ann = client();
        let may = |name, client, publish| may(&rules, name, client, publish);
        assert!(may("/topic/a", Some(&ann), true) && may("/topic/a", None, false) && may("/topic/b", None, false));
        assert!(!may("/topic/a", None, true) && !may("/topic/b", Some(&ann), true) && !may("/queue/a", None, false));
    }
}

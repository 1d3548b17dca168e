//! Topic names and topic filters (4.7), and shared subscriptions (4.8.2).

/// Whether it names a topic: not empty, no wildcard, no null character, at most 65535 bytes.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && u16::try_from(name.len()).is_ok() && !name.contains(['+', '#', '\0'])
}

/// Whether it is a filter: not empty, `+` only as a whole level, `#` only as the last one; and where it begins with
/// `$share/`, a shared one with a group and a filter.
pub fn is_filter(filter: &str) -> bool {
    if filter.starts_with(SHARE) { shared(filter).is_some() } else { is_plain(filter) }
}

/// What shared filters begin with.
const SHARE: &str = "$share/";

fn is_plain(filter: &str) -> bool {
    let fits = !filter.is_empty() && u16::try_from(filter.len()).is_ok() && !filter.contains('\0');
    let mut levels = filter.split('/').peekable();
    let mut is_well = fits;
    while let Some(level) = levels.next() {
        is_well &= match level {
            "+" => true,
            "#" => levels.peek().is_none(),
            _ => !level.contains(['+', '#']),
        };
    }
    is_well
}

/// Group and filter of `$share/GROUP/FILTER`; `None`: it is not shared, or not a filter.
pub fn shared(filter: &str) -> Option<(&str, &str)> {
    let (group, plain) = filter.strip_prefix(SHARE)?.split_once('/')?;
    // "The ShareName MUST NOT contain the characters "/", "+" or "#"" (MQTT-4.8.2-2).
    let is_well = !group.is_empty() && !group.contains(['+', '#', '\0']);
    (is_well && is_plain(plain) && u16::try_from(filter.len()).is_ok()).then_some((group, plain))
}

/// Whether `filter`, which is not shared, matches the topic `name`. A wildcard at its first level matches no topic that
/// begins with `$` (MQTT-4.7.2-1).
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filters, mut names) = (filter.split('/'), name.split('/'));
    loop {
        match (filters.next(), names.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some(filter), Some(name)) if filter == "+" || filter == name => {}
            _ => return false,
        }
    }
}

/// Whether every topic that `other` matches is matched by `filter`. Neither is shared.
pub fn covers(filter: &str, other: &str) -> bool {
    if other.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    // Every topic has a first level, so that these two match the same.
    if other == "#" {
        return matches!(filter, "#" | "+/#");
    }
    let (mut filters, mut others) = (filter.split('/'), other.split('/'));
    loop {
        match (filters.next(), others.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(other)) if other != "#" => {}
            (Some(filter), Some(other)) if filter == other => {}
            _ => return false,
        }
    }
}

/// Whether there is a topic that both match. Neither is shared.
pub fn overlaps(one: &str, other: &str) -> bool {
    let is_hidden = |filter: &str, from: &str| from.starts_with('$') && filter.starts_with(['+', '#']);
    if is_hidden(one, other) || is_hidden(other, one) {
        return false;
    }
    let (mut ones, mut others) = (one.split('/'), other.split('/'));
    loop {
        match (ones.next(), others.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(one), Some(other)) if one == other || one == "+" || other == "+" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    #[test]
    fn names_and_filters_are_told_from_what_is_neither() {
        for name in ["a", "/", "a//b", "$SYS/x", " ", "a/ b"] {
            assert!(is_name(name) && is_filter(name), "{name}");
        }
        for filter in ["+", "#", "/#", "+/+", "a/+/b", "a/#", "$share/g/a/#", "$share/g/+", "$sharex/#", "/+"] {
            assert!(is_filter(filter), "{filter}");
        }
        for filter in
            ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "a\0", "$share/g", "$share//a", "$share/g/", "$share/+/a"]
        {
            assert!(!is_filter(filter), "{filter}");
        }
        assert!(!is_name("") && !is_name("+") && !is_name("a/#") && !is_name("a\0"));
        assert!(is_name(&"a".repeat(65535)) && !is_name(&"a".repeat(65536)) && !is_filter(&"a".repeat(65536)));
        assert_eq!(shared("$share/group/a/b"), Some(("group", "a/b")));
        assert_eq!(shared("$share/g//finance"), Some(("g", "/finance")));
        assert_eq!(shared("a/b"), None);
    }

    #[test]
    fn the_examples_of_the_standard_hold() {
        let player = "sport/tennis/player1";
        for (filter, name, does) in [
            ("sport/tennis/player1/#", player, true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("sport/tennis/+", player, true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/x", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/x", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a", "A", false),
        ] {
            assert_eq!(matches(filter, name), does, "{filter} {name}");
        }
    }

    /// All that can be made of these levels, up to three of them.
    fn paths(levels: &[&str]) -> Vec<String> {
        let mut paths: Vec<String> = levels.iter().map(|level| String::from(*level)).collect();
        for _ in 0..2 {
            let longer = paths.iter().flat_map(|path| levels.iter().map(move |level| format!("{path}/{level}")));
            let longer: Vec<String> = longer.collect();
            paths.extend(longer);
        }
        paths
    }

    #[test]
    fn covering_and_overlapping_are_what_they_are_for_every_topic() {
        let names: Vec<String> = paths(&["a", "b", "", "$s"]).into_iter().filter(|name| is_name(name)).collect();
        let filters: Vec<String> = paths(&["a", "+", "#", "$s"]).into_iter().filter(|it| is_filter(it)).collect();
        let found: Vec<Vec<bool>> =
            filters.iter().map(|filter| names.iter().map(|name| matches(filter, name)).collect()).collect();
        for (one, ones) in filters.iter().zip(&found) {
            for (other, others) in filters.iter().zip(&found) {
                let both = || ones.iter().zip(others);
                assert_eq!(overlaps(one, other), both().any(|(one, other)| *one && *other), "{one} {other}");
                // Filters of three levels tell more apart than names of three levels do.
                let within = both().all(|(one, other)| *one || !*other);
                let is_short = other.split('/').count() < 3 && one.split('/').count() < 3;
                assert!(!covers(one, other) || within, "{one} {other}");
                assert!(!is_short || covers(one, other) == within, "{one} {other}");
            }
        }
    }
}

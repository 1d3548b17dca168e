//! Origins of pages (RFC 6454), and the patterns of them that routes allow.

/// What stands in a pattern for one or more labels of a host.
const STAR: &str = "://*.";

/// Which origins are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Every origin.
    any: bool,
    /// The origin of the host that the request asks for.
    same_host: bool,
    /// Origins: `https://app.example`, `http://localhost:3000`.
    exact: Box<[Box<str>]>,
    /// What stands before and behind the star: `https://*.example` is (`https://`, `.example`).
    below: Box<[(Box<str>, Box<str>)]>,
}

/// Why an origin is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// By its name, or as the host's own.
    Named,
    /// As every other.
    Any,
}

impl Origins {
    /// These: origins as browsers write them, those below a name (`https://*.example`), `same-host`, and `*` for all.
    pub fn of<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Origins {
        let (mut origins, mut exact, mut below) = (Origins::default(), Vec::new(), Vec::new());
        for pattern in patterns {
            match (pattern, pattern.split_once(STAR)) {
                ("*", _) => origins.any = true,
                ("same-host", _) => origins.same_host = true,
                (_, Some((scheme, name))) => below.push((format!("{scheme}://").into(), format!(".{name}").into())),
                _ => exact.push(pattern.into()),
            }
        }
        (origins.exact, origins.below) = (exact.into(), below.into());
        origins
    }

    /// That of the host that a request asks for.
    pub fn same_host() -> Origins {
        Origins::of(["same-host"])
    }

    /// Whether pages of an origin are allowed. `host`: the authority that their request asks for.
    pub fn leave(&self, origin: &str, host: Option<&str>) -> Option<Leave> {
        let named = self.same_host && host.is_some_and(|host| is_own(origin, host))
            || self.exact.iter().any(|it| it.eq_ignore_ascii_case(origin))
            || self.below.iter().any(|(scheme, name)| is_below(origin, scheme, name));
        match (named, self.any) {
            (true, _) => Some(Leave::Named),
            (false, true) => Some(Leave::Any),
            (false, false) => None,
        }
    }
}

/// Whether an origin is one of a scheme and of a host below a name. The labels in front of the name are letters, digits
/// and hyphens: nothing in them can end the host before.
fn is_below(origin: &str, scheme: &str, name: &str) -> bool {
    let Some(labels) = origin.len().checked_sub(scheme.len() + name.len()) else { return false };
    let (Some(begin), Some(end)) = (origin.get(..scheme.len()), origin.get(scheme.len() + labels..)) else {
        return false;
    };
    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' || byte == b'_';
    labels > 0
        && begin.eq_ignore_ascii_case(scheme)
        && end.eq_ignore_ascii_case(name)
        && !origin[scheme.len()..].starts_with('.')
        && origin[scheme.len()..scheme.len() + labels].bytes().all(is_label)
}

/// Whether an origin is that of an authority, whose port is the usual one of the origin's scheme where it has none.
/// The scheme itself is not compared: what is in front of this server may speak TLS for it.
fn is_own(origin: &str, authority: &str) -> bool {
    let Some((scheme, place)) = origin.split_once("://") else { return false };
    let usual = if scheme.eq_ignore_ascii_case("https") { "443" } else { "80" };
    let ((host, port), (asked, asked_port)) = (parts(place, usual), parts(authority, usual));
    !host.is_empty() && host.eq_ignore_ascii_case(asked.strip_suffix('.').unwrap_or(asked)) && port == asked_port
}

/// Host and port of an authority.
fn parts<'a>(authority: &'a str, usual: &'a str) -> (&'a str, &'a str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, if port.is_empty() { usual } else { port }),
        _ => (authority, usual),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leave(patterns: &[&str], origin: &str, host: &str) -> Option<Leave> {
        Origins::of(patterns.iter().copied()).leave(origin, Some(host))
    }

    #[test]
    fn an_origin_is_named_as_a_whole() {
        let allowed = |origin| leave(&["https://app.example", "http://localhost:3000"], origin, "h").is_some();
        for origin in ["https://app.example", "HTTPS://App.Example", "http://localhost:3000"] {
            assert!(allowed(origin), "{origin}");
        }
        for origin in [
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil.example",
            "https://xapp.example",
            "https://localhost:3000",
            "null",
            "",
        ] {
            assert!(!allowed(origin), "{origin}");
        }
    }

    #[test]
    fn below_a_name_are_whole_labels_and_nothing_else() {
        let allowed = |origin| leave(&["https://*.app.example"], origin, "h").is_some();
        for origin in ["https://a.app.example", "https://a.b.app.example", "https://A.APP.example"] {
            assert!(allowed(origin), "{origin}");
        }
        for origin in [
            "https://app.example",
            "https://.app.example",
            "https://..app.example",
            "https://xapp.example",
            "http://a.app.example",
            "https://a.app.example:1",
            "https://evil.example/.app.example",
            "https://evil.example:1.app.example",
            "https://u@a.app.example",
            "https://evil.example#.app.example",
            "https://ü.app.example",
        ] {
            assert!(!allowed(origin), "{origin}");
        }
    }

    #[test]
    fn the_hosts_own_pages() {
        for (origin, host, wanted) in [
            ("http://edge.example", "edge.example", true),
            ("https://edge.example", "Edge.example:443", true),
            ("https://edge.example", "edge.example.", true),
            ("http://edge.example", "edge.example:80", true),
            ("http://127.0.0.1:8080", "127.0.0.1:8080", true),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("https://[::1]", "[::1]", true),
            ("http://edge.example:8080", "edge.example", false),
            ("http://edge.example", "edge.example:8080", false),
            ("http://edge.example.evil.example", "edge.example", false),
            ("null", "null", false),
            ("http://", "", false),
        ] {
            assert_eq!(leave(&["same-host"], origin, host).is_some(), wanted, "{origin} {host}");
        }
        assert_eq!(Origins::same_host().leave("http://a", None), None);
    }

    #[test]
    fn all_are_allowed_and_those_that_are_named_by_their_names() {
        assert_eq!(leave(&["*", "https://a"], "https://a", "h"), Some(Leave::Named));
        assert_eq!(leave(&["*"], "null", "h"), Some(Leave::Any));
    }
}

//! What a request is for: the forms of its target (RFC 9112 section 3.2) and its host.

use core::str;

use httparse::Header;

use super::fields::values;
use super::{Refusal, Version};

/// A target taken apart (RFC 9112 section 3.2); `authority` only where the target has one.
pub(super) struct Form<'b> {
    pub(super) authority: Option<&'b str>,
    pub(super) path: &'b str,
    pub(super) query: Option<&'b str>,
}

impl<'b> Form<'b> {
    pub(super) fn of(method: &str, target: &'b str) -> Result<Form<'b>, Refusal> {
        match target {
            // 3.2.4: the asterisk is for OPTIONS alone.
            "*" if method == "OPTIONS" => Ok(Form { authority: None, path: "*", query: None }),
            _ if target.starts_with('/') => Ok(Form::origin(None, target)),
            _ => Form::absolute(method, target),
        }
    }

    fn origin(authority: Option<&'b str>, target: &'b str) -> Form<'b> {
        match target.split_once('?') {
            Some((path, query)) => Form { authority, path, query: Some(query) },
            None => Form { authority, path: target, query: None },
        }
    }

    /// 3.2.2: a server must accept the absolute form, though clients send it only to proxies.
    fn absolute(method: &str, target: &'b str) -> Result<Form<'b>, Refusal> {
        let (scheme, rest) = target.split_once("://").ok_or(Refusal::BadTarget)?;
        if !["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(Refusal::BadTarget);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).ok_or(Refusal::BadTarget)?;
        // RFC 9110 section 4.2.4: user information in a target is to be treated as an error; is_host refuses its `@`.
        if !is_host(authority) {
            return Err(Refusal::BadHost);
        }
        let mut form = Form::origin(Some(authority), rest);
        if form.path.is_empty() {
            // 3.2.4: without path and query, OPTIONS means the server as a whole.
            form.path = if method == "OPTIONS" && form.query.is_none() { "*" } else { "/" };
        }
        Ok(form)
    }
}

/// The value of Host (RFC 9112 section 3.2): exactly one line with a valid value in HTTP/1.1, at most one in HTTP/1.0.
pub(super) fn host<'b>(headers: &[Header<'b>], version: Version) -> Result<Option<&'b str>, Refusal> {
    let mut hosts = values(headers, "Host");
    let Some(host) = hosts.next() else {
        return if version == Version::Http10 { Ok(None) } else { Err(Refusal::NoHost) };
    };
    if hosts.next().is_some() {
        return Err(Refusal::TwoHosts);
    }
    let host = str::from_utf8(host).map_err(|_| Refusal::BadHost)?;
    if is_host(host) { Ok(Some(host)) } else { Err(Refusal::BadHost) }
}

/// `uri-host [ ":" port ]` with a host that is not empty (RFC 9110 sections 4.2.1 and 7.2, RFC 3986 section 3.2).
fn is_host(authority: &str) -> bool {
    let (name, port) = match authority.strip_prefix('[') {
        Some(literal) => match literal.split_once(']') {
            Some((literal, port)) if is_ip_literal(literal) => (literal, port),
            _ => return false,
        },
        None => authority.split_at_checked(authority.find(':').unwrap_or(authority.len())).unwrap_or_default(),
    };
    !name.is_empty() && (authority.starts_with('[') || is_reg_name(name.as_bytes())) && is_port(port)
}

/// The inside of `[...]` by its characters (RFC 3986 section 3.2.2): the form of an address is not checked, since
/// nothing here connects to it. `IPvFuture` is refused.
fn is_ip_literal(literal: &str) -> bool {
    literal.contains(':') && literal.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
}

/// `reg-name` (RFC 3986 section 3.2.2): unreserved, sub-delims, `%` with two hexadecimal digits.
fn is_reg_name(mut name: &[u8]) -> bool {
    loop {
        name = match name {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if is_reg_name_byte(*byte) => rest,
            _ => return false,
        }
    }
}

fn is_reg_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

/// Empty, or a colon and a decimal number of 16 bits, or a colon alone (RFC 3986 section 3.2.3).
fn is_port(port: &str) -> bool {
    match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => digits.is_empty() || is_port_number(digits),
    }
}

fn is_port_number(digits: &str) -> bool {
    digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{refusal, with};
    use super::*;
    use alloc::format;
    use alloc::string::String;

    fn target_parts(line: &str) -> (String, Option<String>, Option<String>) {
        with(&format!("{line} HTTP/1.1\r\nHost: h:1\r\n\r\n"), |head| {
            (head.path.into(), head.query.map(Into::into), head.host.map(Into::into))
        })
    }

    #[test]
    fn targets_have_four_forms() {
        let some = |text: &str| Some(String::from(text));
        assert_eq!(target_parts("GET /?"), ("/".into(), some(""), some("h:1")));
        assert_eq!(target_parts("GET HTTP://x:2/a?b"), ("/a".into(), some("b"), some("x:2")));
        assert_eq!(target_parts("GET ws://x?b"), ("/".into(), some("b"), some("x")));
        assert_eq!(target_parts("OPTIONS http://x"), ("*".into(), None, some("x")));
        assert_eq!(target_parts("OPTIONS *"), ("*".into(), None, some("h:1")));
        for line in ["GET *", "GET a", "GET ftp://x/", "GET /a#b", "GET  /", "GET /\u{e9}", "GET"] {
            assert_eq!(refusal(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n")), Some(Refusal::BadTarget), "{line}");
        }
        assert_eq!(refusal("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"), Some(Refusal::Connect));
        assert_eq!(refusal("GET http://u@x/ HTTP/1.1\r\nHost: a\r\n\r\n"), Some(Refusal::BadHost));
    }

    #[test]
    fn hosts_are_strict() {
        let judged = |host: &str| refusal(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        for host in ["a", "a.b:1", "[::1]", "[::ffff:1.2.3.4]:65535", "1.2.3.4", "a:", "a_b~%41"] {
            assert_eq!(judged(host), None, "{host}");
        }
        for host in
            ["", ":1", "a b", "a/b", "u@a", "a:b", "a:65536", "a:+1", "[::1", "[a]", "[::1]a", "a%4", "\u{e9}", "a:1:2"]
        {
            assert_eq!(judged(host), Some(Refusal::BadHost), "{host}");
        }
        assert_eq!(refusal("GET / HTTP/1.1\r\n\r\n"), Some(Refusal::NoHost));
        assert_eq!(refusal("GET / HTTP/1.0\r\n\r\n"), None);
        assert_eq!(refusal("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"), Some(Refusal::TwoHosts));
    }
}

//! Field values of a head (RFC 9110 section 5): lines by name, comma lists, quoted strings, weights.

use core::str;

use httparse::Header;

/// How many elements of one comma list are looked at, empty ones included: a head has room for thousands, each of which
/// costs a comparison, and RFC 9110 section 5.6.1.2 warns of many empty ones as a denial of service.
pub const MAX_ELEMENTS: usize = 64;

/// The values of all lines of this name, in their order.
pub(super) fn values<'s, 'b>(headers: &'s [Header<'b>], name: &'s str) -> impl Iterator<Item = &'b [u8]> + 's {
    headers.iter().filter(move |line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value)
}

/// See [`Head::list`](super::Head::list).
pub(super) fn list<'s, 'b>(headers: &'s [Header<'b>], name: &'s str) -> impl Iterator<Item = &'b str> + 's {
    values(headers, name).flat_map(elements).take(MAX_ELEMENTS).filter(|element| !element.is_empty())
}

/// The elements of one line, empty ones included, without the white space around them.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &str> {
    str::from_utf8(value).unwrap_or("").split(',').map(|element| element.trim_matches([' ', '\t']))
}

/// The parts of a text between separators that do not stand in a quoted string (RFC 9110 section 5.6.4).
fn unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |it| {
        let ends = !quoted && it == separator;
        quoted ^= it == '"' && !escaped;
        escaped = quoted && it == '\\' && !escaped;
        ends
    })
}

/// See [`Head::quality`](super::Head::quality).
pub(super) fn quality(headers: &[Header<'_>], media_type: &str) -> u16 {
    let lines = values(headers, "Accept").filter_map(|line| str::from_utf8(line).ok());
    let elements = lines.flat_map(|line| unquoted(line, ','));
    let ranges = elements.take(MAX_ELEMENTS).filter_map(|element| quality_of(element, media_type));
    ranges.max().unwrap_or(0)
}

/// The weight of a media range in thousandths; `None` where it does not name this type.
fn quality_of(range: &str, media_type: &str) -> Option<u16> {
    let mut parts = unquoted(range, ';').map(|part| part.trim_matches([' ', '\t']));
    let is_it = parts.next().is_some_and(|named| named.eq_ignore_ascii_case(media_type));
    let weight =
        |part: &str| part.split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case("q")).map(|it| weight(it.1));
    is_it.then(|| parts.find_map(weight).unwrap_or(1000))
}

/// A weight (RFC 9110 section 12.4.2) in thousandths. One that is malformed, or has more than three digits behind the
/// point, counts as 1000: the type is acceptable.
fn weight(value: &str) -> u16 {
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    let digits = part.bytes().all(|byte| byte.is_ascii_digit()) && part.len() <= 3;
    match (whole, digits) {
        ("0", true) => {
            (0..3).fold(0, |so_far, at| so_far * 10 + part.as_bytes().get(at).map_or(0, |byte| u16::from(byte - b'0')))
        }
        _ => 1000,
    }
}

/// A token character (RFC 9110 section 5.6.2).
pub(crate) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// What a field value or a quoted string may have (RFC 9110 section 5.5): no control character but the tab.
pub(super) const fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

#[cfg(test)]
mod tests {
    use super::super::sample::{LIMITS, with};
    use super::*;
    use alloc::format;

    #[test]
    fn of_a_list_with_thousands_of_elements_the_first_are_looked_at() {
        let listed = |before: &str, count: usize, last: &str| {
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}{last}\r\n\r\n", before.repeat(count));
            with(&request, |head| (head.list("X").count(), head.has_token("X", "last")))
        };
        assert_eq!(listed("x,", MAX_ELEMENTS - 1, "last"), (MAX_ELEMENTS, true));
        assert_eq!(listed("x,", MAX_ELEMENTS, "last"), (MAX_ELEMENTS, false));
        assert_eq!(listed(" ,", MAX_ELEMENTS - 1, "last"), (1, true));
        assert_eq!(listed(" ,", MAX_ELEMENTS, "last"), (0, false));
        assert_eq!(listed("x\r\nX: ", LIMITS.head_count - 2, "last"), (LIMITS.head_count - 1, true));
    }

    /// The weight of `text/x` by these field lines.
    fn quality(lines: &str) -> u16 {
        with(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"), |head| head.quality("text/x"))
    }

    #[test]
    fn a_media_type_is_as_good_as_the_best_line_that_names_it() {
        for (accept, wanted) in [
            ("text/x", 1000),
            ("TEXT/X", 1000),
            ("text/x;q=0", 0),
            ("text/x;q=0.000", 0),
            ("text/x ; Q=0.5", 500),
            ("text/x;q=0.001", 1),
            ("text/x;q=0.25;a=b", 250),
            ("text/x;charset=utf-8;q=0.7", 700),
            ("text/x;q=1.000", 1000),
            ("a/b, text/x;q=0.9 ,c/d", 900),
            ("text/x;q=0, text/x;q=0.3", 300),
            ("text/x;v=\"a, b;q=0\";q=0.2", 200),
            ("a/b;v=\"x\\\", text/x\"", 0),
            ("a/b;v=\", text/x", 0),
            // A weight that is none.
            ("text/x;q=", 1000),
            ("text/x;q=no", 1000),
            ("text/x;q=0.0000", 1000),
            ("text/x;q=-1", 1000),
            ("*/*", 0),
            ("text/*", 0),
            ("text/xy, a/text/x", 0),
            ("", 0),
            (";q=1", 0),
        ] {
            assert_eq!(quality(&format!("Accept: {accept}\r\n")), wanted, "{accept}");
        }
    }

    #[test]
    fn media_types_are_listed_over_several_lines() {
        assert_eq!(quality("Accept: text/x;q=0.1\r\naccept: text/x;q=0.2\r\n"), 200);
        assert_eq!(quality("Accept: text/x;q=\u{e9}\r\n"), 1000);
        assert_eq!(quality(""), 0);
        let behind = |others: usize| quality(&format!("Accept: {}text/x\r\n", "a/b,".repeat(others)));
        assert_eq!((behind(MAX_ELEMENTS - 1), behind(MAX_ELEMENTS)), (1000, 0));
    }
}

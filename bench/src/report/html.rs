//! Words for a page: escaped, joined, quoted.

/// Text as it may stand in an element or in an attribute's quotes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// What `part` makes of each item, one after the other.
pub(super) fn each<T>(items: impl IntoIterator<Item = T>, part: impl FnMut(T) -> String) -> String {
    items.into_iter().map(part).collect()
}

/// A command line as a shell would take it.
pub(super) fn shell(command: &[String]) -> String {
    command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes_from_text_or_attribute() {
        assert_eq!(escape("<a b='c'>&\"é"), "&lt;a b=&#39;c&#39;&gt;&amp;&quot;é");
    }

    #[test]
    fn commands_are_quoted_where_a_shell_needs_it() {
        let command = ["bench", "--url=ws://h:1/", "a b", "it's", ""].map(str::to_owned);
        assert_eq!(shell(&command), r"bench --url=ws://h:1/ 'a b' 'it'\''s' ''");
    }
}

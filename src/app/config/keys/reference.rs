//! The reference page: docs/configuration.md, a card per key.

use std::fmt::Write as _;

use super::{
    FEED, FEED_TABLE, Key, LIMITS, LIMITS_ADDRESSES, LIMITS_TABLE, LISTENER, LISTENER_TABLE, Preset, ROUTE,
    ROUTE_TABLE, SERVER, SERVER_TABLE, Table, join,
};

const PREFACE: &str = "\
# Configuration

<!-- Written by `cargo run -- reference > docs/configuration.md` from src/app/config/keys; change it there. -->

One file in [TOML](https://toml.io) says all. `edgehold check --config FILE` reads it and prints every problem at
once, each with its line and what to write instead; `edgehold doctor --config FILE` compares what it asks for with
what the machine gives. Without a file, `edgehold serve` uses a built-in demo.

- Durations are strings of a whole number and a unit: `\"250ms\"`, `\"30s\"`, `\"5m\"`, `\"1h\"`.
- Sizes are strings in bytes or in powers of 1024: `\"512\"`, `\"64KiB\"`, `\"1MiB\"`, `\"2GiB\"`.
- Counts are plain integers; `true` and `false` stand without quotes.
- A value in braces is a table on one line; `[route.slow_client]` below its route says the same on several.
- Relative paths start from the folder of the configuration file.
- Problems count tables from 1: `route[2].path` is the path of the second `[[route]]`.
- A key that is not on this page is an error, and so is a key of one service on a route of another.
- A key of which several tables know the name is headed here with the table, a key inside another with that key.

The smallest file that serves:

```toml
[[listener]]
name = \"public\"
address = \"0.0.0.0:8080\"

[[route]]
path = \"/echo\"
service = \"echo\"
```
";

/// The reference of the configuration as Markdown: docs/configuration.md, a card per key.
pub fn reference() -> String {
    let mut page = Page { text: String::from(PREFACE), seen: Vec::new() };
    page.section(&SERVER_TABLE, &SERVER);
    page.section(&LISTENER_TABLE, &LISTENER);
    page.section(&LIMITS_TABLE, &LIMITS);
    page.cards(&LIMITS_TABLE, &LIMITS_ADDRESSES);
    page.section(&FEED_TABLE, &FEED);
    page.section(&ROUTE_TABLE, &ROUTE);
    page.text
}

/// The page as far as it is written.
struct Page {
    text: String,
    /// The names of the keys so far. A second card of a name is headed with its table, or links would miss it.
    seen: Vec<&'static str>,
}

impl Page {
    fn section<T>(&mut self, table: &Table, keys: &'static [Key<T>]) {
        let _ = write!(self.text, "\n## {}\n\n{}\n", table.head(), table.words);
        self.cards(table, keys);
    }

    fn cards<T>(&mut self, table: &Table, keys: &'static [Key<T>]) {
        let owner = table.owner;
        for key in keys {
            let head = self.head(table, key.name);
            self.card(&format!("### {head}"), owner, key);
            self.inner_cards(&head, owner, key);
        }
    }

    fn inner_cards<T>(&mut self, head: &str, owner: &str, key: &'static Key<T>) {
        for inner in key.inner() {
            let head = format!("{head}.{}", inner.name);
            self.card(&format!("#### {head}"), owner, inner);
            self.inner_cards(&head, owner, inner);
        }
    }

    fn head(&mut self, table: &Table, name: &'static str) -> String {
        if self.seen.contains(&name) {
            return format!("{}.{name}", table.name);
        }
        self.seen.push(name);
        name.into()
    }

    fn card<T>(&mut self, head: &str, owner: &str, key: &Key<T>) {
        let page = &mut self.text;
        let _ = write!(page, "\n{head}\n\n{}\n\n", key.words);
        let _ = writeln!(page, "- Value: {}", key.field.expected());
        let _ = writeln!(page, "- Default: {}", default_words(key));
        bullet(page, &format!("Of {owner}s"), &codes(key.owners));
        bullet(page, "Cost and danger", key.note);
        bullet(page, "Example", &example(key));
        bullet(page, "See also", &links(key.see));
    }
}

fn bullet(page: &mut String, head: &str, words: &str) {
    if !words.is_empty() {
        let _ = writeln!(page, "- {head}: {words}");
    }
}

fn default_words<T>(key: &Key<T>) -> String {
    match key.default {
        Preset::Is(text) => format!("`{}`", default_value(key, text)),
        Preset::Absent(means) => format!("none ({means})"),
        Preset::Follows(words) => words.into(),
        Preset::Inner => format!("`{{ {} }}`", join(key.inner().iter().filter_map(pair))),
        Preset::Required => "none; it must be written".into(),
    }
}

/// A default as it would stand in a file.
fn default_value<T>(key: &Key<T>, text: &str) -> String {
    if key.field.bare() { text.into() } else { format!("\"{text}\"") }
}

fn pair<T>(key: &Key<T>) -> Option<String> {
    match key.default {
        Preset::Is(text) => Some(format!("{} = {}", key.name, default_value(key, text))),
        _ => None,
    }
}

fn codes(names: &[&str]) -> String {
    join(names.iter().map(|name| format!("`{name}`")))
}

fn example<T>(key: &Key<T>) -> String {
    match key.example {
        "" => String::new(),
        value => format!("`{} = {value}`", key.name),
    }
}

/// The anchor of a heading has no dots.
fn links(names: &[&str]) -> String {
    join(names.iter().map(|name| format!("[{name}](#{})", name.replace('.', ""))))
}

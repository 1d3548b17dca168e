//! Words for names that stand where they do not belong: misspelt, strange, or of another table.

use super::forms::{self, describe, plain};
use super::keys::{TABLES, Table};
use super::report::Report;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Whether some name at the top of the file is a slip of this table's: [`note_stray`] has noted it.
pub(super) fn is_misspelt(root: &DeTable<'_>, table: &Table) -> bool {
    root.keys().any(|name| forms::nearest(name.get_ref(), &[table.name]).is_some())
}

/// The words for a value that stands where a table is meant, or for a table in the wrong brackets.
pub(super) fn no_table(found: &DeValue<'_>, table: &Table) -> String {
    let found = match (found, table.may_repeat()) {
        (DeValue::Table(_), true) => "stands in single brackets".into(),
        (DeValue::Array(_), false) => "may stand only once".into(),
        _ => format!("is {}, not a table", describe(found)),
    };
    format!("`{}` {found} — write {}", table.name, table.head())
}

/// Notes a name at the top of the file that is no table: a table that is misspelt, or a key.
pub(super) fn note_stray(name: &Spanned<toml::de::DeString<'_>>, value: &DeValue<'_>, report: &mut Report<'_>) {
    let text: &str = name.get_ref();
    if TABLES.iter().any(|table| table.name == text) {
        return;
    }
    let words = match tables_with(text).as_slice() {
        tables if tables.is_empty() || (is_table(value) && near_table(text).is_some()) => unknown_table(text),
        tables => format!("`{text}` stands outside of its table — write it below {}", tables.join(" or ")),
    };
    report.note(name.span().start, "", words);
}

/// Whether a value was written with a head of its own, in single brackets or in double ones.
fn is_table(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Array(items) => items.first().is_some_and(|item| item.get_ref().is_table()),
        value => value.is_table(),
    }
}

/// The table whose name is nearest to a text, if it can be meant.
fn near_table(text: &str) -> Option<&'static Table> {
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    forms::nearest(text, &names).and_then(|near| TABLES.iter().find(|table| table.name == near))
}

fn unknown_table(text: &str) -> String {
    let heads = || TABLES.iter().map(Table::head).collect::<Vec<_>>().join(", ");
    match near_table(text) {
        Some(table) => format!("unknown table `{}` — did you mean {}?", plain(text), table.head()),
        None => format!("unknown table `{}` — the tables are {}", plain(text), heads()),
    }
}

/// The words for a key that the table called `head`, which has the keys `names`, does not know.
pub(super) fn unknown_key(name: &str, head: &str, names: &[&str]) -> String {
    let tables = tables_with(name);
    if !tables.is_empty() {
        return format!("`{name}` is no key of {head} — it belongs to {}", tables.join(" or "));
    }
    match forms::nearest(name, names) {
        Some(near) => format!("unknown key `{}` — did you mean `{near}`?", plain(name)),
        None => format!("unknown key `{}` — the keys of {head} are {}", plain(name), names.join(", ")),
    }
}

/// The tables that know a key, by their heads; those inside of a key by its name.
fn tables_with(name: &str) -> Vec<String> {
    let heads = TABLES.iter().filter(|table| (table.keys)().contains(&name)).map(Table::head);
    heads.chain(TABLES.iter().flat_map(|table| inner_tables_with(name, table))).collect()
}

fn inner_tables_with(name: &str, table: &Table) -> Vec<String> {
    let outer = (table.inner)().into_iter().filter(|(_, inner)| *inner == name);
    outer.map(|(outer, _)| format!("`{outer}` of {}", table.head())).collect()
}

//! The value of one key: stored where its field says, or refused with words.

use super::draft::Section;
use super::forms::{self, Parsed, describe};
use super::keys::{Field, Key, Preset, Unit, names};
use super::misplaced::unknown_key;
use super::report::Report;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// Lays every default of a table in.
pub(super) fn lay_defaults<T>(keys: &[Key<T>], into: &mut T) {
    for key in keys {
        lay_default(key, into);
    }
}

/// Stores the value of a key, remembers that it was written, and notes what is wrong with it. `part` is the part of the
/// section's value that the key stores into.
pub(super) fn store<T, P>(
    key: &Key<P>,
    value: &Spanned<DeValue<'_>>,
    section: &mut Section<T>,
    part: fn(&mut T) -> &mut P,
    report: &mut Report<'_>,
) {
    let mut found = Found::default();
    take(key, key.name, part(&mut section.value), value, &mut found);
    section.given.append(&mut found.given);
    for Fault { at, place, words } in found.faults {
        report.note(at, &format!("{}.{place}", section.label), words);
        section.refused.push(place);
    }
}

/// What the value of a key turned out to be.
#[derive(Default)]
struct Found {
    /// As in [`Section`].
    given: Vec<(String, usize)>,
    faults: Vec<Fault>,
}

/// Something wrong at a byte of the text; `place` is what [`Section`] calls it.
struct Fault {
    at: usize,
    place: String,
    words: String,
}

impl Found {
    /// Remembers that a key, or an item of it, was written.
    fn give(&mut self, place: &str, at: usize) {
        self.given.push((place.into(), at));
    }

    /// Remembers what is wrong with it.
    fn note(&mut self, place: &str, at: usize, stored: Parsed<()>) {
        let fault = |words| Fault { at, place: place.into(), words };
        self.faults.extend(stored.err().map(fault));
    }
}

/// Lays a default in.
///
/// # Panics
/// The default is not within the bounds beside it: every start, and so every test, would tell.
fn lay_default<T>(key: &Key<T>, into: &mut T) {
    key.inner().iter().for_each(|inner| lay_default(inner, into));
    let Preset::Is(text) = key.default else {
        return;
    };
    if !matches!(key.field, Field::List { .. }) {
        store_text(&key.field, into, text).expect("a default keeps to the bounds beside it");
    }
}

/// Stores the value of a key that stands at `place` in its section.
fn take<T>(key: &Key<T>, place: &str, into: &mut T, value: &Spanned<DeValue<'_>>, found: &mut Found) {
    let at = value.span().start;
    found.give(place, at);
    match (&key.field, value.get_ref()) {
        (Field::List { .. }, DeValue::Array(items)) => take_items(key, place, into, items, at, found),
        (Field::Tables { .. }, DeValue::Array(items)) => take_tables(key, place, into, items, at, found),
        (Field::Table { keys, .. }, DeValue::Table(entries)) => take_table(keys, place, into, entries, found),
        (field, value) => found.note(place, at, take_one(field, into, value)),
    }
}

/// Stores a value that is neither a list nor a table.
fn take_one<T>(field: &Field<T>, into: &mut T, value: &DeValue<'_>) -> Parsed<()> {
    match (field, value) {
        (Field::List { single: true, store, .. }, DeValue::String(text)) => store(into, text),
        (Field::Flag { store }, DeValue::Boolean(flag)) => {
            store(into, *flag);
            Ok(())
        }
        (Field::Number { unit: Unit::Count, .. } | Field::TextOrCount { .. }, DeValue::Integer(number)) => {
            store_text(field, into, &decimal(number))
        }
        (
            Field::Number { unit: Unit::Count, .. }
            | Field::Flag { .. }
            | Field::List { .. }
            | Field::Table { .. }
            | Field::Tables { .. },
            other,
        ) => Err(wrong_type(field, other)),
        (field, DeValue::String(text)) => store_text(field, into, text),
        (field, other) => Err(wrong_type(field, other)),
    }
}

/// Stores the keys of a table that is the value of a key.
fn take_table<T>(keys: &[Key<T>], place: &str, into: &mut T, entries: &DeTable<'_>, found: &mut Found) {
    for (name, value) in entries {
        if let Some(key) = keys.iter().find(|key| key.name == &**name.get_ref()) {
            take(key, &format!("{place}.{}", key.name), into, value, found);
        } else {
            let words = unknown_key(name.get_ref(), &format!("`{place}`"), &names(keys));
            found.note(place, name.span().start, Err(words));
        }
    }
}

/// An integer in plain digits where it is one that counts; as written where it is not.
fn decimal(number: &toml::de::DeInteger<'_>) -> String {
    u64::from_str_radix(number.as_str(), number.radix()).map_or_else(|_| number.to_string(), |n| n.to_string())
}

/// Stores the value of any field but a list from its text without quotes.
fn store_text<T>(field: &Field<T>, into: &mut T, text: &str) -> Parsed<()> {
    let shown = || {
        if matches!(field, Field::Number { unit: Unit::Count, .. }) { text.into() } else { forms::quote(text) }
    };
    let refuse = || format!("{} will not do — write {}", shown(), field.expected());
    match field {
        Field::Number { unit, rule, place } => {
            let value = unit.parse(text).filter(|value| rule.allows(*value)).ok_or_else(refuse)?;
            place(into).store(value);
        }
        Field::Choice { names, store } => {
            store(into, names.iter().position(|name| *name == text).ok_or_else(refuse)?);
        }
        Field::Flag { store } => store(into, text.parse().map_err(|_| refuse())?),
        Field::Text { store, .. } | Field::TextOrCount { store, .. } | Field::List { store, .. } => store(into, text)?,
        Field::Table { .. } | Field::Tables { .. } => return Err(refuse()),
    }
    Ok(())
}

/// Stores the tables of a list, each as [`take_table`] does.
fn take_tables<T>(key: &Key<T>, place: &str, into: &mut T, items: &DeArray<'_>, at: usize, found: &mut Found) {
    let Field::Tables { most, begin, keys, .. } = key.field else {
        return;
    };
    found.note(place, at, list_fault(key, items.len(), most).map_or(Ok(()), Err));
    for (index, value) in items.iter().enumerate().take(most) {
        let (place, at) = (format!("{place}[{}]", index + 1), value.span().start);
        begin(into);
        found.give(&place, at);
        match value.get_ref() {
            DeValue::Table(entries) => take_table(keys, &place, into, entries, found),
            other => found.note(&place, at, Err(format!("found {} — write tables only", describe(other)))),
        }
    }
}

fn take_items<T>(key: &Key<T>, place: &str, into: &mut T, items: &DeArray<'_>, at: usize, found: &mut Found) {
    let Field::List { most, store, .. } = key.field else {
        return;
    };
    found.note(place, at, list_fault(key, items.len(), most).map_or(Ok(()), Err));
    for (index, value) in items.iter().enumerate().take(most) {
        let stored = match value.get_ref() {
            DeValue::String(text) => store(into, text),
            other => Err(format!("found {} — write strings only", describe(other))),
        };
        let (place, at) = (format!("{place}[{}]", index + 1), value.span().start);
        found.give(&place, at);
        found.note(&place, at, stored);
    }
}

/// What is wrong with a list whatever stands in it.
fn list_fault<T>(key: &Key<T>, len: usize, most: usize) -> Option<String> {
    if len > most {
        return Some(format!("{len} values — {most} at most"));
    }
    let due = matches!(key.default, Preset::Required) || matches!(key.field, Field::Tables { .. });
    let empty = len == 0 && due;
    empty.then(|| format!("is empty — write {}", key.field.expected()))
}

fn wrong_type<T>(field: &Field<T>, found: &DeValue<'_>) -> String {
    format!("found {} — write {}", describe(found), field.expected())
}

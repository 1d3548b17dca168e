//! The walk: from the text of a file to a draft, along the table of `keys`.
//!
//! The TOML parser goes on after an error, and so does the walk: it stores what it
//! can, notes what it cannot with its place, and leaves judgements that need more
//! than one key to `check`. A text with errors of syntax is walked as well, but only
//! what those errors cannot have caused is kept of what the walk finds.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::path::Path;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::feeds::FEEDS_MAX;
use super::keys::{
    BLANK_LIMITS, BLANK_SERVER, FEED, FEED_TABLE, FeedDraft, Field, Key, LIMITS, LIMITS_TABLE, LISTENER,
    LISTENER_TABLE, ListenerDraft, Preset, ROUTE, ROUTE_TABLE, RouteDraft, SERVER, SERVER_TABLE, TABLES, Table, Unit,
    names,
};
use super::{FILE_BYTES_MAX, Limits, Problem, Server, forms};

/// A table of the file as it was read.
pub(super) struct Section<T> {
    pub(super) value: T,
    /// Its name in problems: `server`, `route[2]`.
    pub(super) label: String,
    /// Where its head stands, in bytes from the start of the text.
    at: usize,
    /// The keys that were written, rightly or not, and where their values stand: `feeds`, each `feeds[1]` of its
    /// list, `replay`, each `replay.age` inside of it.
    given: Vec<(String, usize)>,
    /// Those of them whose value would not do: what is stored is the default.
    refused: Vec<String>,
}

impl<T> Section<T> {
    /// A section with every default laid in.
    fn new(value: T, label: String, at: usize, keys: &[Key<T>]) -> Self {
        let mut section = Section { value, label, at, given: Vec::new(), refused: Vec::new() };
        keys.iter().for_each(|key| lay_default(key, &mut section.value));
        section
    }

    pub(super) fn gives(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| given == name)
    }

    /// Whether the value of a key would not do, or a part of it.
    pub(super) fn refuses(&self, name: &str) -> bool {
        let part = |refused: &String| refused.strip_prefix(name).is_some_and(|rest| !rest.starts_with(is_of_name));
        self.refused.iter().any(part)
    }

    /// Stores a key, remembers that it was written, and notes what is wrong with it. `part` is the part of the
    /// section's value that the key stores into.
    fn settle<P>(&mut self, key: &Key<P>, pair: &Pair<'_, '_>, part: fn(&mut T) -> &mut P, report: &mut Report<'_>) {
        let mut found = Found::default();
        take(key, key.name, part(&mut self.value), pair.value, &mut found);
        self.given.append(&mut found.given);
        for Fault { at, place, words } in found.faults {
            report.note(at, &format!("{}.{place}", self.label), words);
            self.refused.push(place);
        }
    }

    /// Where the value of a key stands; the table itself where the key was left out.
    pub(super) fn place(&self, name: &str) -> usize {
        self.given.iter().find(|(given, _)| given == name).map_or(self.at, |(_, at)| *at)
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// All that a file says, before it is known to make sense together.
pub(super) struct Draft {
    pub(super) server: Section<Server>,
    pub(super) listeners: Vec<Section<ListenerDraft>>,
    pub(super) limits: Section<Limits>,
    pub(super) feeds: Vec<Section<FeedDraft>>,
    pub(super) routes: Vec<Section<RouteDraft>>,
}

/// The problems found so far, and what is needed to place them.
pub(super) struct Report<'a> {
    file: &'a str,
    text: &'a str,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
    problems: Vec<Problem>,
}

impl<'a> Report<'a> {
    fn new(file: &'a str, text: &'a str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        Report { file, text, lines: std::iter::once(0).chain(after).collect(), problems: Vec::new() }
    }

    /// Notes a problem at a byte of the text.
    pub(super) fn note(&mut self, at: usize, key: &str, words: String) {
        let (line, column) = self.position(at);
        let (file, key) = (self.file.into(), key.into());
        self.problems.push(Problem { file, line, column, key, words });
    }

    /// Notes a problem of a key of a section, where that key stands.
    pub(super) fn note_key<T>(&mut self, section: &Section<T>, name: &str, words: String) {
        self.note(section.place(name), &format!("{}.{name}", section.label), words);
    }

    /// Notes something that stands nowhere: it is missing.
    fn note_whole(&mut self, key: &str, words: String) {
        let (file, key) = (self.file.into(), key.into());
        self.problems.push(Problem { file, line: 0, column: 0, key, words });
    }

    /// Line and column from 1 of a byte; columns count characters.
    pub(super) fn position(&self, at: usize) -> (usize, usize) {
        let at = at.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= at);
        let front = &self.text.as_bytes()[self.lines[line - 1]..at];
        // A byte of the form 10xxxxxx continues a character.
        (line, 1 + front.iter().filter(|b| **b & 0xC0 != 0x80).count())
    }

    /// Puts the parser's errors in, and drops what may be no more than their consequence:
    /// findings on a broken line, and all that follows a broken head of a table,
    /// since keys below it ended up in a table they were not written for.
    fn mix_in(&mut self, errors: &[toml::de::Error]) {
        let broken: BTreeSet<usize> = errors.iter().map(|e| self.position(start(e)).0).collect();
        let head = broken.iter().copied().filter(|line| self.is_head(*line)).min();
        let sound = |line: usize| line > 0 && !broken.contains(&line) && head.is_none_or(|head| line < head);
        self.problems.retain(|problem| sound(problem.line));
        for error in errors {
            let words = format!("{} — this is no TOML as it stands", one_line(error.message()));
            self.note(start(error), "", words);
        }
    }

    fn is_head(&self, line: usize) -> bool {
        self.text[self.lines[line - 1]..].trim_start_matches([' ', '\t']).starts_with('[')
    }

    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems.dedup();
        self.problems
    }
}

fn start(error: &toml::de::Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

fn one_line(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The draft and what is wrong with it so far.
///
/// # Errors
/// The text is no TOML: nothing that needs more than one key can be judged.
pub(super) fn read<'t>(text: &'t str, file: &'t str) -> Result<(Draft, Report<'t>), Vec<Problem>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut report = Report::new(file, text);
    let draft = walk(root.get_ref(), &mut report);
    if errors.is_empty() {
        return Ok((draft, report));
    }
    report.mix_in(&errors);
    Err(report.finish())
}

/// The text of a file.
///
/// # Errors
/// It is absent, unreadable, too large or not UTF-8.
pub(super) fn text_of(path: &Path) -> Result<String, Problem> {
    let file = path.display().to_string();
    let bytes = slurp(path).map_err(|error| whole(&file, no_file(&error)))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(whole(&file, "is larger than 4 MiB — name a configuration file".into()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        no_text(&file, &error.as_bytes()[..good])
    })
}

/// One byte more than is allowed, so that the caller can tell; a device has no end.
fn slurp(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn whole(file: &str, words: String) -> Problem {
    Problem { file: file.into(), line: 0, column: 0, key: String::new(), words }
}

fn no_file(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file — name one with --config FILE".into(),
        io::ErrorKind::PermissionDenied => "may not be read — give the user that runs edgehold leave to read it".into(),
        _ => format!("cannot be read ({error}) — name a configuration file"),
    }
}

/// The byte after `good` is not UTF-8.
fn no_text(file: &str, good: &[u8]) -> Problem {
    let good = String::from_utf8_lossy(good);
    let (line, column) = Report::new(file, &good).position(good.len());
    let words = "is not UTF-8 from here on — save the file as UTF-8".into();
    Problem { file: file.into(), line, column, key: String::new(), words }
}

fn walk(root: &DeTable<'_>, report: &mut Report<'_>) -> Draft {
    root.iter().for_each(|(name, value)| meet(name, value.get_ref(), report));
    let mut server = Section::new(BLANK_SERVER, "server".into(), 0, &SERVER);
    let mut limits = Section::new(BLANK_LIMITS, "limits".into(), 0, &LIMITS);
    one(root, &SERVER_TABLE, &mut server, report, |key, into, report| fill(&SERVER, key, into, report));
    one(root, &LIMITS_TABLE, &mut limits, report, |key, into, report| fill(&LIMITS, key, into, report));
    let listeners = listeners(root, report);
    let feeds = feeds(root, report);
    let routes = routes(root, &limits.value, known_feeds(root, &feeds), report);
    Draft { server, listeners, limits, feeds, routes }
}

fn listeners(root: &DeTable<'_>, report: &mut Report<'_>) -> Vec<Section<ListenerDraft>> {
    let mut sections = Vec::new();
    for entry in many(root, &LISTENER_TABLE, report) {
        let mut section = Section::new(ListenerDraft::default(), entry.label, entry.at, &LISTENER);
        let fill = |pair: &Pair<'_, '_>, into: &mut _, report: &mut Report<'_>| fill(&LISTENER, pair, into, report);
        each(entry.table, &LISTENER_TABLE, &mut section, report, fill);
        sections.push(section);
    }
    sections
}

fn feeds(root: &DeTable<'_>, report: &mut Report<'_>) -> Vec<Section<FeedDraft>> {
    let mut sections = Vec::new();
    for entry in many(root, &FEED_TABLE, report) {
        let mut section = Section::new(FeedDraft::new(), entry.label, entry.at, &FEED);
        let fill = |pair: &Pair<'_, '_>, into: &mut _, report: &mut Report<'_>| fill(&FEED, pair, into, report);
        each(entry.table, &FEED_TABLE, &mut section, report, fill);
        sections.push(section);
    }
    sections
}

/// The names that routes may name; `None` where they cannot be known: the table of feeds is misspelt, which has been
/// noted, or there are too many.
fn known_feeds(root: &DeTable<'_>, feeds: &[Section<FeedDraft>]) -> Option<Rc<[String]>> {
    let lost = !root.contains_key(FEED_TABLE.name) && misspelt(root, &FEED_TABLE);
    // Too many have been noted as that, and to search all of them for each name would take long.
    (!lost && feeds.len() <= FEEDS_MAX).then(|| feeds.iter().map(|feed| feed.value.written.clone()).collect())
}

/// A route starts from the global limits, which are whole by now, and lays its own over them.
fn routes(
    root: &DeTable<'_>,
    limits: &Limits,
    known_feeds: Option<Rc<[String]>>,
    report: &mut Report<'_>,
) -> Vec<Section<RouteDraft>> {
    let mut sections = Vec::new();
    for entry in many(root, &ROUTE_TABLE, report) {
        let draft = RouteDraft::new(limits.clone(), known_feeds.clone());
        let mut section = Section::new(draft, entry.label, entry.at, &ROUTE);
        each(entry.table, &ROUTE_TABLE, &mut section, report, fill_route);
        sections.push(section);
    }
    sections
}

/// A key of a route: one of its own, or one of the limits.
fn fill_route(pair: &Pair<'_, '_>, section: &mut Section<RouteDraft>, report: &mut Report<'_>) -> bool {
    let Some(key) = LIMITS.iter().find(|key| key.name == pair.name()) else {
        return fill(&ROUTE, pair, section, report);
    };
    section.settle(key, pair, |route| &mut route.limits, report);
    true
}

/// A key of a table with its value.
struct Pair<'t, 'i> {
    key: &'t Spanned<toml::de::DeString<'i>>,
    value: &'t Spanned<DeValue<'i>>,
}

impl Pair<'_, '_> {
    fn name(&self) -> &str {
        self.key.get_ref()
    }
}

/// Stores a key if the section knows it; says whether it does.
fn fill<T>(keys: &[Key<T>], pair: &Pair<'_, '_>, section: &mut Section<T>, report: &mut Report<'_>) -> bool {
    let Some(key) = keys.iter().find(|key| key.name == pair.name()) else {
        return false;
    };
    section.settle(key, pair, |value| value, report);
    true
}

/// Hands every pair of a table to `fill`, and notes those it does not know.
fn each<T>(
    entries: &DeTable<'_>,
    table: &Table,
    section: &mut Section<T>,
    report: &mut Report<'_>,
    mut fill: impl FnMut(&Pair<'_, '_>, &mut Section<T>, &mut Report<'_>) -> bool,
) {
    for (key, value) in entries {
        let pair = Pair { key, value };
        if !fill(&pair, section, report) {
            report.note(key.span().start, &section.label, stranger(pair.name(), &table.head(), &(table.keys)()));
        }
    }
}

/// Reads a table that may stand once.
fn one<T>(
    root: &DeTable<'_>,
    table: &Table,
    section: &mut Section<T>,
    report: &mut Report<'_>,
    fill: impl FnMut(&Pair<'_, '_>, &mut Section<T>, &mut Report<'_>) -> bool,
) {
    let Some(value) = root.get(table.name) else {
        return;
    };
    section.at = value.span().start;
    match value.get_ref() {
        DeValue::Table(entries) => each(entries, table, section, report, fill),
        other => report.note(section.at, table.name, no_table(other, table)),
    }
}

/// One of the tables of an array.
struct Entry<'t, 'i> {
    table: &'t DeTable<'i>,
    label: String,
    at: usize,
}

/// The entries of a table that may stand many times. One in single brackets is read too:
/// what is wrong inside it is wrong all the same.
fn many<'t, 'i>(root: &'t DeTable<'i>, table: &Table, report: &mut Report<'_>) -> Vec<Entry<'t, 'i>> {
    let none = || format!("there is none — write {} and its keys, one at least", table.head());
    let Some(value) = root.get(table.name) else {
        if table.needed && !misspelt(root, table) {
            report.note_whole(table.name, none());
        }
        return Vec::new();
    };
    let at = value.span().start;
    match value.get_ref() {
        DeValue::Array(array) if table.needed && array.is_empty() => report.note(at, table.name, none()),
        DeValue::Array(array) => return entries(array, table, report),
        other => report.note(at, table.name, no_table(other, table)),
    }
    let lone = value.get_ref().as_table().map(|inner| entry(inner, table, 1, at));
    lone.into_iter().collect()
}

/// Whether a name at the top was meant for a table: it has been noted as that.
fn misspelt(root: &DeTable<'_>, table: &Table) -> bool {
    root.keys().any(|name| forms::nearest(name.get_ref(), &[table.name]).is_some())
}

fn entries<'t, 'i>(array: &'t DeArray<'i>, table: &Table, report: &mut Report<'_>) -> Vec<Entry<'t, 'i>> {
    let mut found = Vec::new();
    for (index, value) in array.iter().enumerate() {
        let at = value.span().start;
        match value.get_ref() {
            DeValue::Table(inner) => found.push(entry(inner, table, index + 1, at)),
            other => report.note(at, table.name, no_table(other, table)),
        }
    }
    found
}

fn entry<'t, 'i>(table: &'t DeTable<'i>, of: &Table, number: usize, at: usize) -> Entry<'t, 'i> {
    Entry { table, label: format!("{}[{number}]", of.name), at }
}

fn no_table(found: &DeValue<'_>, table: &Table) -> String {
    let found = match (found, table.many) {
        (DeValue::Table(_), true) => "stands in single brackets".into(),
        (DeValue::Array(_), false) => "may stand only once".into(),
        _ => format!("is {}, not a table", describe(found)),
    };
    format!("`{}` {found} — write {}", table.name, table.head())
}

/// Notes a name at the top of the file that is no table: a table that is misspelt, or a key.
fn meet(name: &Spanned<toml::de::DeString<'_>>, value: &DeValue<'_>, report: &mut Report<'_>) {
    let text: &str = name.get_ref();
    if TABLES.iter().any(|table| table.name == text) {
        return;
    }
    let words = match homes(text).as_slice() {
        homes if homes.is_empty() || (is_table(value) && near_table(text).is_some()) => unknown_table(text),
        homes => format!("`{text}` stands outside of its table — write it below {}", homes.join(" or ")),
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
fn stranger(name: &str, head: &str, names: &[&str]) -> String {
    let homes = homes(name);
    if !homes.is_empty() {
        return format!("`{name}` is no key of {head} — it belongs to {}", homes.join(" or "));
    }
    match forms::nearest(name, names) {
        Some(near) => format!("unknown key `{}` — did you mean `{near}`?", plain(name)),
        None => format!("unknown key `{}` — the keys of {head} are {}", plain(name), names.join(", ")),
    }
}

/// The tables that know a key, by their heads; those inside of a key by its name.
fn homes(name: &str) -> Vec<String> {
    let heads = TABLES.iter().filter(|table| (table.keys)().contains(&name)).map(Table::head);
    heads.chain(TABLES.iter().flat_map(|table| inner_homes(name, table))).collect()
}

fn inner_homes(name: &str, table: &Table) -> Vec<String> {
    let outer = (table.inner)().into_iter().filter(|(_, inner)| *inner == name);
    outer.map(|(outer, _)| format!("`{outer}` of {}", table.head())).collect()
}

/// A name from a file inside a problem: on one line, not endless.
fn plain(text: &str) -> String {
    forms::quote(text).trim_matches('"').into()
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
    fn give(&mut self, place: &str, at: usize) {
        self.given.push((place.into(), at));
    }

    fn judge(&mut self, place: &str, at: usize, stored: Result<(), String>) {
        let fault = |words| Fault { at, place: place.into(), words };
        self.faults.extend(stored.err().map(fault));
    }
}

/// Lays a default in. It was written beside its bounds, and every start reads all of them.
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
        (Field::List { .. }, DeValue::Array(items)) => take_items(key, into, items, at, found),
        (Field::Table { keys, .. }, DeValue::Table(entries)) => take_table(keys, place, into, entries, found),
        (field, value) => found.judge(place, at, take_one(field, into, value)),
    }
}

/// Stores a value that is neither a list nor a table.
fn take_one<T>(field: &Field<T>, into: &mut T, value: &DeValue<'_>) -> Result<(), String> {
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
            Field::Number { unit: Unit::Count, .. } | Field::Flag { .. } | Field::List { .. } | Field::Table { .. },
            other,
        ) => Err(wrong_type(field, other)),
        (field, DeValue::String(text)) => store_text(field, into, text),
        (field, other) => Err(wrong_type(field, other)),
    }
}

/// Stores the keys of a table that is the value of a key.
fn take_table<T>(keys: &[Key<T>], place: &str, into: &mut T, entries: &DeTable<'_>, found: &mut Found) {
    for (name, value) in entries {
        match keys.iter().find(|key| key.name == &**name.get_ref()) {
            Some(key) => take(key, &format!("{place}.{}", key.name), into, value, found),
            None => {
                let words = stranger(name.get_ref(), &format!("`{place}`"), &names(keys));
                found.judge(place, name.span().start, Err(words));
            }
        }
    }
}

/// An integer in plain digits where it is one that counts; as written where it is not.
fn decimal(number: &toml::de::DeInteger<'_>) -> String {
    u64::from_str_radix(number.as_str(), number.radix()).map_or_else(|_| number.to_string(), |n| n.to_string())
}

/// Stores the value of any field but a list from its text without quotes.
fn store_text<T>(field: &Field<T>, into: &mut T, text: &str) -> Result<(), String> {
    let shown = || {
        if matches!(field, Field::Number { unit: Unit::Count, .. }) { text.into() } else { forms::quote(text) }
    };
    let refuse = || format!("{} will not do — write {}", shown(), field.expected());
    match field {
        Field::Number { unit, rule, store } => {
            let value = unit.parse(text).filter(|value| rule.allows(*value)).ok_or_else(refuse)?;
            store(into, value);
        }
        Field::Choice { names, store } => {
            store(into, names.iter().position(|name| *name == text).ok_or_else(refuse)?);
        }
        Field::Flag { store } => store(into, text.parse().map_err(|_| refuse())?),
        Field::Text { store, .. } | Field::TextOrCount { store, .. } | Field::List { store, .. } => store(into, text)?,
        Field::Table { .. } => return Err(refuse()),
    }
    Ok(())
}

fn take_items<T>(key: &Key<T>, into: &mut T, items: &DeArray<'_>, at: usize, found: &mut Found) {
    let Field::List { most, store, .. } = key.field else {
        return;
    };
    found.judge(key.name, at, list_fault(key, items.len(), most).map_or(Ok(()), Err));
    for (index, value) in items.iter().enumerate().take(most) {
        let stored = match value.get_ref() {
            DeValue::String(text) => store(into, text),
            other => Err(format!("found {} — write strings only", describe(other))),
        };
        let (place, at) = (format!("{}[{}]", key.name, index + 1), value.span().start);
        found.give(&place, at);
        found.judge(&place, at, stored);
    }
}

/// What is wrong with a list whatever stands in it.
fn list_fault<T>(key: &Key<T>, len: usize, most: usize) -> Option<String> {
    if len > most {
        return Some(format!("{len} values — {most} at most"));
    }
    let empty = len == 0 && matches!(key.default, Preset::Required);
    empty.then(|| format!("is empty — write {}", key.field.expected()))
}

fn wrong_type<T>(field: &Field<T>, found: &DeValue<'_>) -> String {
    format!("found {} — write {}", describe(found), field.expected())
}

/// What a value is, with the value where it is short.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {}", forms::quote(text)),
        DeValue::Integer(number) => format!("the integer {}", plain(&number.to_string())),
        DeValue::Float(number) => format!("the number {}", plain(&number.to_string())),
        DeValue::Boolean(flag) => format!("the boolean {flag}"),
        DeValue::Datetime(date) => format!("the date {date}"),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let report = Report::new("x", "äb\n\nc");
        assert_eq!(report.position(0), (1, 1));
        assert_eq!(report.position(2), (1, 2));
        assert_eq!(report.position(4), (2, 1));
        assert_eq!(report.position(5), (3, 1));
        assert_eq!(report.position(99), (3, 2));
    }
}

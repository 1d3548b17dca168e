//! The walk: from the text of a file to a draft, along the table of `keys`.
//!
//! The TOML parser goes on after an error, and so does the walk: it stores what it
//! can, notes what it cannot with its place, and leaves judgements that need more
//! than one key to `check`. A text with errors of syntax is walked as well, but only
//! what those errors cannot have caused is kept of what the walk finds.

use super::draft::{Draft, Section};
use super::keys::{
    BLANK_LIMITS, BLANK_SERVER, FEED, FEED_TABLE, FeedDraft, Key, LIMITS, LIMITS_ADDRESSES, LIMITS_TABLE, LISTENER,
    LISTENER_TABLE, ListenerDraft, ROUTE, ROUTE_TABLE, RouteDraft, SERVER, SERVER_TABLE, Table,
};
use super::misplaced::{is_misspelt, no_table, note_stray, unknown_key};
use super::model::{Addresses, Limits};
use super::report::{Problem, Report};
use super::values::{lay_defaults, store};
use std::io::{self, Read as _};
use std::path::Path;
use std::rc::Rc;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// The largest configuration file that is read, in bytes. Thousands of routes fit;
/// a device or a log given by mistake does not.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

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
    report.add_syntax_errors(&errors);
    Err(report.finish())
}

/// The text of a file.
///
/// # Errors
/// It is absent, unreadable, too large or not UTF-8.
pub(super) fn text_of(path: &Path) -> Result<String, Problem> {
    let file = path.display().to_string();
    let bytes = read_capped(path).map_err(|error| Problem::of_file(&file, no_file(&error)))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Problem::of_file(&file, "is larger than 4 MiB — name a configuration file".into()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        no_text(&file, &error.as_bytes()[..good])
    })
}

/// One byte more than is allowed, so that the caller can tell; a device has no end.
fn read_capped(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
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
    Problem { line, column, ..Problem::of_file(file, words) }
}

fn walk(root: &DeTable<'_>, report: &mut Report<'_>) -> Draft {
    root.iter().for_each(|(name, value)| note_stray(name, value.get_ref(), report));
    let mut server = section(BLANK_SERVER, "server".into(), 0, &SERVER);
    let mut limits = section(BLANK_LIMITS, "limits".into(), 0, &LIMITS);
    one(root, &SERVER_TABLE, &mut server, report, |key, into, report| fill(&SERVER, key, into, report));
    let mut addresses = section(Addresses::default(), "limits".into(), 0, &LIMITS_ADDRESSES);
    one(root, &LIMITS_TABLE, &mut limits, report, |key, into, report| {
        fill(&LIMITS, key, into, report) || fill(&LIMITS_ADDRESSES, key, &mut addresses, report)
    });
    let listeners = listeners(root, report);
    let feeds = feeds(root, report);
    let routes = routes(root, &limits.value, known_feeds(root, &feeds).as_ref(), report);
    Draft { server, listeners, limits, addresses, feeds, routes }
}

fn listeners(root: &DeTable<'_>, report: &mut Report<'_>) -> Vec<Section<ListenerDraft>> {
    let mut sections = Vec::new();
    for entry in many(root, &LISTENER_TABLE, report) {
        let mut section = section(ListenerDraft::default(), entry.label, entry.at, &LISTENER);
        let fill = |pair: &Pair<'_, '_>, into: &mut _, report: &mut Report<'_>| fill(&LISTENER, pair, into, report);
        each(entry.table, &LISTENER_TABLE, &mut section, report, fill);
        sections.push(section);
    }
    sections
}

fn feeds(root: &DeTable<'_>, report: &mut Report<'_>) -> Vec<Section<FeedDraft>> {
    let mut sections = Vec::new();
    for entry in many(root, &FEED_TABLE, report) {
        let mut section = section(FeedDraft::new(), entry.label, entry.at, &FEED);
        let fill = |pair: &Pair<'_, '_>, into: &mut _, report: &mut Report<'_>| fill(&FEED, pair, into, report);
        each(entry.table, &FEED_TABLE, &mut section, report, fill);
        sections.push(section);
    }
    sections
}

/// A section with every default laid in.
fn section<T>(mut value: T, label: String, at: usize, keys: &[Key<T>]) -> Section<T> {
    lay_defaults(keys, &mut value);
    Section::new(value, label, at)
}

/// The names that routes may name; `None` where they cannot be known: the table of feeds is misspelt, which has been
/// noted, or there are too many.
fn known_feeds(root: &DeTable<'_>, feeds: &[Section<FeedDraft>]) -> Option<Rc<[String]>> {
    let lost = !root.contains_key(FEED_TABLE.name) && is_misspelt(root, &FEED_TABLE);
    // Too many have been noted as that, and to search all of them for each name would take long.
    (!lost && feeds.len() <= FEED_TABLE.most).then(|| feeds.iter().map(|feed| feed.value.written.clone()).collect())
}

/// A route starts from the global limits, which are whole by now, and lays its own over them.
fn routes(
    root: &DeTable<'_>,
    limits: &Limits,
    known_feeds: Option<&Rc<[String]>>,
    report: &mut Report<'_>,
) -> Vec<Section<RouteDraft>> {
    let mut sections = Vec::new();
    for entry in many(root, &ROUTE_TABLE, report) {
        let draft = RouteDraft::new(limits.clone(), known_feeds.cloned());
        let mut section = section(draft, entry.label, entry.at, &ROUTE);
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
    store(key, pair.value, section, |route| &mut route.limits, report);
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
    store(key, pair.value, section, |value| value, report);
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
            report.note(key.span().start, &section.label, unknown_key(pair.name(), &table.head(), &(table.keys)()));
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
        if table.needed && !is_misspelt(root, table) {
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

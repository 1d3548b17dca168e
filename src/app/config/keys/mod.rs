//! The table of all keys, a file for each table of the configuration, and the reference page that grows from it.
//!
//! An entry holds all there is to a key: its name, the form and bounds of its value,
//! what it is when left out, the words for the reference, and the function that
//! stores it. `read` walks files along the table and knows no key by name; defaults
//! travel the same road as values from a file, so a default outside its own bounds
//! cannot be written here without a test failing.

/// A field that takes one of a few words, each beside the value that it stands for.
macro_rules! choice {
    ($($place:ident).+ : $($word:literal => $value:expr),+ $(,)?) => {
        Field::Choice { names: &[$($word),+], store: |it, index| it.$($place).+ = [$($value),+][index] }
    };
}

mod addresses;
mod admission;
mod auth;
mod auth_broker;
mod channels;
mod cors;
mod feed;
mod limits;
mod listener;
mod offload;
mod offload_limits;
mod privilege;
mod reference;
mod route;
mod server;
mod shares;
mod stamp;

use super::forms::{self, Parsed};
use std::time::Duration;

pub(super) use addresses::AddressesDraft;
pub(super) use admission::LIMITS_ADDRESSES;
pub(super) use auth::{AuthDraft, ForwardDraft, JwtDraft, REQUEST_PARTS};
pub(super) use feed::{ClientTlsDraft, FEED, FeedDraft};
pub(super) use limits::{BLANK_LIMITS, LIMITS};
pub(super) use listener::{CertificateDraft, LISTENER, ListenerDraft, TlsDraft, VerifyDraft};
pub use reference::reference;
pub(super) use route::{ROUTE, RouteDraft, SERVICES, UpstreamTlsDraft};
pub(super) use server::{BLANK_SERVER, SERVER};

/// One key of a table that is read into a `T`.
pub(super) struct Key<T: 'static> {
    pub(super) name: &'static str,
    pub(super) field: Field<T>,
    pub(super) default: Preset,
    /// The services that a key of a route belongs to, or the sources that one of a feed does; empty where it
    /// belongs to all.
    pub(super) owners: &'static [&'static str],
    /// What it does, in one sentence.
    pub(super) words: &'static str,
    /// What it costs and where it hurts.
    pub(super) note: &'static str,
    /// A value as it would stand in a file, where the default does not show the form.
    pub(super) example: &'static str,
    /// Keys to read next, as their cards are headed.
    pub(super) see: &'static [&'static str],
}

impl<T> Key<T> {
    /// What an entry need not write: it belongs to all, and its default shows its form.
    const PLAIN: Key<T> = Key {
        name: "",
        field: Field::Flag { store: |_, _| {} },
        default: Preset::Required,
        owners: &[],
        words: "",
        note: "",
        example: "",
        see: &[],
    };

    /// Whether it has a meaning for this service or source.
    pub(super) fn is_of(&self, owner: &str) -> bool {
        self.owners.is_empty() || self.owners.contains(&owner)
    }

    /// The keys inside its value; none where it is no table.
    pub(super) fn inner(&self) -> &'static [Key<T>] {
        match self.field {
            Field::Table { keys, .. } | Field::Tables { keys, .. } => keys,
            _ => &[],
        }
    }
}

/// What a key is when it is left out.
pub(super) enum Preset {
    /// This value, written without quotes.
    Is(&'static str),
    /// Nothing; the words say what that means.
    Absent(&'static str),
    /// A value that other keys decide; the words say which.
    Follows(&'static str),
    /// A table whose keys have their own.
    Inner,
    /// It must be written (where its service or source is chosen).
    Required,
}

/// The form of a value and where it goes.
pub(super) enum Field<T: 'static> {
    Number {
        unit: Unit,
        rule: Rule,
        place: fn(&mut T) -> &mut dyn Number,
    },
    /// True or false.
    Flag {
        store: fn(&mut T, bool),
    },
    /// One of a few words; stored by its place among them.
    Choice {
        names: &'static [&'static str],
        store: fn(&mut T, usize),
    },
    Text {
        form: &'static str,
        store: fn(&mut T, &str) -> Parsed<()>,
    },
    /// A string, or a whole number, which is stored by its digits.
    TextOrCount {
        form: &'static str,
        store: fn(&mut T, &str) -> Parsed<()>,
    },
    /// A list of strings, stored one by one; a lone string is taken where `single` says so.
    List {
        form: &'static str,
        single: bool,
        most: usize,
        store: fn(&mut T, &str) -> Parsed<()>,
    },
    /// An inline table. Its keys store into the same `T`.
    Table {
        form: &'static str,
        keys: &'static [Key<T>],
    },
    /// A list of inline tables. `begin` makes room for one more in `T`, and the keys store into the last of them: none
    /// of them has a default.
    Tables {
        form: &'static str,
        most: usize,
        begin: fn(&mut T),
        keys: &'static [Key<T>],
    },
}

/// How a number is written.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Unit {
    /// A TOML integer.
    Count,
    /// A string such as "64KiB".
    Bytes,
    /// A string such as "30s", counted in milliseconds.
    Millis,
}

/// Which numbers are taken, bounds included.
pub(super) enum Rule {
    Range(u64, u64),
    /// Zero with a meaning of its own, or a range.
    ZeroOr(&'static str, u64, u64),
    /// One number, or a range.
    Or(u64, u64, u64),
    PowerOfTwo(u64, u64),
    OneOf(&'static [u64]),
}

impl Rule {
    pub(super) fn allows(&self, value: u64) -> bool {
        match *self {
            Rule::Range(min, max) => (min..=max).contains(&value),
            Rule::ZeroOr(_, min, max) => value == 0 || (min..=max).contains(&value),
            Rule::Or(one, min, max) => value == one || (min..=max).contains(&value),
            Rule::PowerOfTwo(min, max) => (min..=max).contains(&value) && value.is_power_of_two(),
            Rule::OneOf(codes) => codes.contains(&value),
        }
    }

    #[cfg(test)]
    fn largest(&self) -> u64 {
        match *self {
            Rule::Range(_, max) | Rule::ZeroOr(_, _, max) | Rule::Or(_, _, max) | Rule::PowerOfTwo(_, max) => max,
            Rule::OneOf(codes) => codes.iter().copied().max().unwrap_or(0),
        }
    }

    fn words(&self, unit: Unit) -> String {
        match *self {
            Rule::Range(min, max) => range(unit, min, max),
            Rule::ZeroOr(means, min, max) => {
                format!("{} ({means}) or {}", unit.show(0), range(unit, min, max))
            }
            Rule::Or(one, min, max) => format!("{} or {}", unit.show(one), range(unit, min, max)),
            Rule::PowerOfTwo(min, max) => format!("a power of two from {} to {}", unit.show(min), unit.show(max)),
            Rule::OneOf(codes) => format!("one of {}", join(codes.iter().map(u64::to_string))),
        }
    }
}

fn range(unit: Unit, min: u64, max: u64) -> String {
    format!("{} from {} to {}", unit.noun(), unit.show(min), unit.show(max))
}

fn join(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

impl Unit {
    fn noun(self) -> &'static str {
        match self {
            Unit::Count => "a whole number",
            Unit::Bytes => "a size",
            Unit::Millis => "a duration",
        }
    }

    /// The number as it stands in a file, with its quotes.
    fn show(self, value: u64) -> String {
        match self {
            Unit::Count => value.to_string(),
            Unit::Bytes => format!("\"{}\"", forms::show_bytes(value)),
            Unit::Millis => format!("\"{}\"", forms::show_millis(value)),
        }
    }

    /// The number of a text without quotes.
    pub(super) fn parse(self, text: &str) -> Option<u64> {
        match self {
            Unit::Count => text.parse().ok(),
            Unit::Bytes => forms::bytes(text),
            Unit::Millis => forms::millis(text),
        }
    }
}

/// What a number is stored in: an integer wide enough for its rule, or a duration in milliseconds.
pub(super) trait Number {
    /// # Panics
    /// The value is too large: the rule beside the place is wrong, which a test would have told.
    fn store(&mut self, value: u64);
}

macro_rules! number {
    ($($integer:ty)+) => {$(
        impl Number for $integer {
            fn store(&mut self, value: u64) {
                *self = value.try_into().expect("a rule keeps to what its place can hold");
            }
        }
    )+};
}

number!(u16 u32 u64 usize);

impl Number for Duration {
    fn store(&mut self, value: u64) {
        *self = Duration::from_millis(value);
    }
}

impl<T> Field<T> {
    /// A whole number.
    const fn count(rule: Rule, place: fn(&mut T) -> &mut dyn Number) -> Field<T> {
        Field::Number { unit: Unit::Count, rule, place }
    }

    /// A size in bytes.
    const fn bytes(rule: Rule, place: fn(&mut T) -> &mut dyn Number) -> Field<T> {
        Field::Number { unit: Unit::Bytes, rule, place }
    }

    /// A duration; its rule counts milliseconds.
    const fn millis(rule: Rule, place: fn(&mut T) -> &mut dyn Number) -> Field<T> {
        Field::Number { unit: Unit::Millis, rule, place }
    }

    /// What may be written, as words for a problem and for the reference.
    pub(super) fn expected(&self) -> String {
        match self {
            Field::Number { unit, rule, .. } => rule.words(*unit),
            Field::Flag { .. } => "true or false".into(),
            Field::Choice { names, .. } => {
                format!("one of {}", join(names.iter().map(|n| format!("\"{n}\""))))
            }
            Field::Text { form, .. } | Field::TextOrCount { form, .. } | Field::Table { form, .. } => (*form).into(),
            Field::List { form, most, .. } | Field::Tables { form, most, .. } => format!("{form}, {most} at most"),
        }
    }

    /// Whether the value stands without quotes.
    fn bare(&self) -> bool {
        matches!(
            self,
            Field::Number { unit: Unit::Count, .. } | Field::Flag { .. } | Field::List { .. } | Field::Tables { .. }
        )
    }
}

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Adds to a list in which each thing may stand once.
fn push_new<V: PartialEq>(list: &mut Vec<V>, value: V, text: &str) -> Parsed<()> {
    if list.contains(&value) {
        return Err(format!("{} stands here twice — write it once", forms::quote(text)));
    }
    list.push(value);
    Ok(())
}

fn put<V>(slot: &mut Option<V>, value: V) {
    *slot = Some(value);
}

/// A table of the file, as the reference and the reader name it.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// How often it may stand; where that is more than once, in double brackets.
    pub(super) most: usize,
    /// Whether it must stand at least once, where it may stand several times.
    pub(super) needed: bool,
    /// Its keys, for the search of a misplaced one.
    pub(super) keys: fn() -> Vec<&'static str>,
    /// The keys inside its keys, however deep, each behind the name of the outer one (`tls`, `tls.client`).
    pub(super) inner: fn() -> Vec<(String, &'static str)>,
    /// What some of its keys belong to.
    owner: &'static str,
    words: &'static str,
}

impl Table {
    /// Whether it may stand several times.
    pub(super) fn may_repeat(&self) -> bool {
        self.most > 1
    }

    /// The table's head as it stands in a file.
    pub(super) fn head(&self) -> String {
        if self.may_repeat() { format!("[[{}]]", self.name) } else { format!("[{}]", self.name) }
    }
}

/// All tables, in the order of the reference.
pub(super) static TABLES: [Table; 5] = [SERVER_TABLE, LISTENER_TABLE, LIMITS_TABLE, FEED_TABLE, ROUTE_TABLE];

/// `[server]`.
pub(super) const SERVER_TABLE: Table = Table {
    name: "server",
    most: 1,
    needed: false,
    keys: || names(&SERVER),
    inner: || inner_names(&SERVER),
    owner: "",
    words: "What concerns the process as a whole.",
};

/// `[[listener]]`.
pub(super) const LISTENER_TABLE: Table = Table {
    name: "listener",
    most: 64,
    needed: true,
    keys: || names(&LISTENER),
    inner: || inner_names(&LISTENER),
    owner: "",
    words: "Where clients come in: 1 to 64 of these.",
};

/// `[limits]`.
pub(super) const LIMITS_TABLE: Table = Table {
    name: "limits",
    most: 1,
    needed: false,
    keys: || [names(&LIMITS), names(&LIMITS_ADDRESSES)].concat(),
    inner: || [inner_names(&LIMITS), inner_names(&LIMITS_ADDRESSES)].concat(),
    owner: "",
    words: "What one client may cost. Each of these keys but `addresses` can also stand on a route and then holds for \
            the clients of that route.",
};

/// `[[feed]]`.
pub(super) const FEED_TABLE: Table = Table {
    name: "feed",
    most: 256,
    needed: false,
    keys: || names(&FEED),
    inner: || inner_names(&FEED),
    owner: "source",
    words: "Where the messages of broadcast routes come from: none to 256 of these. Each has its connection to its \
            source, and comes back by itself when that was gone.",
};

/// `[[route]]`.
pub(super) const ROUTE_TABLE: Table = Table {
    name: "route",
    most: 4096,
    needed: true,
    keys: || [names(&ROUTE), names(&LIMITS)].concat(),
    inner: || inner_names(&ROUTE),
    owner: "service",
    words: "Where clients go: 1 to 4096 of these, no two with the same host and path. The keys of `[limits]` can \
            stand here too.",
};

/// The names of the keys of one section.
pub(super) fn names<T>(keys: &[Key<T>]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

fn inner_names<T>(keys: &'static [Key<T>]) -> Vec<(String, &'static str)> {
    keys.iter().flat_map(|key| names_inside(key.name, key)).collect()
}

fn names_inside<T>(outer: &str, key: &'static Key<T>) -> Vec<(String, &'static str)> {
    let deeper = |inner: &'static Key<T>| names_inside(&format!("{outer}.{}", inner.name), inner);
    let names = key.inner().iter().map(|inner| (outer.to_owned(), inner.name));
    names.chain(key.inner().iter().flat_map(deeper)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::model::Addresses;
    use super::super::sources::KINDS;
    use super::*;

    /// The cards of the page by their headings.
    fn cards() -> Vec<String> {
        let page = reference();
        let heads = page.lines().filter_map(|line| line.strip_prefix("### ").or_else(|| line.strip_prefix("#### ")));
        heads.map(str::to_owned).collect()
    }

    /// The links of the page rely on it.
    #[test]
    fn no_card_stands_twice() {
        let mut cards = cards();
        cards.sort_unstable();
        let count = cards.len();
        cards.dedup();
        assert_eq!(cards.len(), count);
    }

    fn sees<T>(keys: &'static [Key<T>]) -> Vec<&'static str> {
        all_keys(keys).flat_map(|key| key.see.iter().copied()).collect()
    }

    #[test]
    fn every_see_also_leads_somewhere() {
        let cards = cards();
        let sees = [sees(&SERVER), sees(&LISTENER), sees(&LIMITS), sees(&LIMITS_ADDRESSES), sees(&FEED), sees(&ROUTE)]
            .concat();
        assert!(sees.len() > 40);
        for name in sees {
            assert!(cards.iter().any(|card| card == name), "{name}");
        }
    }

    fn all_keys<T>(keys: &'static [Key<T>]) -> Box<dyn Iterator<Item = &'static Key<T>>> {
        Box::new(keys.iter().flat_map(|key| std::iter::once(key).chain(all_keys(key.inner()))))
    }

    /// [`Key::PLAIN`] has neither; a key that is left out must have an example or show its form by its default.
    fn is_told<T>(key: &Key<T>) -> bool {
        let shown = matches!(key.default, Preset::Is(_) | Preset::Inner) || !key.example.is_empty();
        !key.name.is_empty() && !key.words.is_empty() && shown
    }

    #[test]
    fn every_key_is_named_told_and_shown() {
        let told = [
            all_keys(&SERVER).all(is_told),
            all_keys(&LISTENER).all(is_told),
            all_keys(&LIMITS).all(is_told),
            all_keys(&LIMITS_ADDRESSES).all(is_told),
            all_keys(&FEED).all(is_told),
            all_keys(&ROUTE).all(is_told),
        ];
        assert_eq!(told, [true; 6]);
    }

    #[test]
    fn owners_of_keys_exist() {
        for service in ROUTE.iter().flat_map(|key| key.owners) {
            assert!(SERVICES.contains(service), "{service}");
        }
        for source in FEED.iter().flat_map(|key| key.owners) {
            assert!(KINDS.contains(source), "{source}");
        }
    }

    fn store_largest<T>(keys: &[Key<T>], into: &mut T) {
        for key in keys {
            store_largest(key.inner(), into);
            if let Field::Number { rule, place, .. } = &key.field {
                place(into).store(rule.largest());
            }
        }
    }

    #[test]
    fn every_number_has_room_for_the_largest_that_is_taken() {
        store_largest(&SERVER, &mut { BLANK_SERVER });
        store_largest(&LIMITS, &mut { BLANK_LIMITS });
        store_largest(&LIMITS_ADDRESSES, &mut Addresses::default());
        store_largest(&LISTENER, &mut ListenerDraft::default());
        store_largest(&FEED, &mut FeedDraft::new());
        store_largest(&ROUTE, &mut RouteDraft::new(BLANK_LIMITS, None));
    }

    #[test]
    fn the_page_says_how_often_a_table_may_stand() {
        for table in TABLES.iter().filter(|table| table.may_repeat()) {
            assert!(table.words.contains(&format!(" to {} of these", table.most)), "{}", table.words);
        }
    }

    /// A key inside a key is found by its own name.
    #[test]
    fn no_name_stands_twice_in_a_table() {
        for table in &TABLES {
            let mut names = (table.keys)();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{}", table.name);
        }
    }
}

//! A file as it was read, key by key, before its keys are held against each other.

use super::keys::{FeedDraft, ListenerDraft, RouteDraft};
use super::model::{Addresses, Limits, Server};

/// All tables of a file, with defaults in place of what was left out or refused.
pub(super) struct Draft {
    pub(super) server: Section<Server>,
    pub(super) listeners: Vec<Section<ListenerDraft>>,
    pub(super) limits: Section<Limits>,
    /// What stands in `limits.addresses`.
    pub(super) addresses: Section<Addresses>,
    pub(super) feeds: Vec<Section<FeedDraft>>,
    pub(super) routes: Vec<Section<RouteDraft>>,
}

/// A table of the file as it was read.
pub(super) struct Section<T> {
    pub(super) value: T,
    /// Its name in problems: `server`, `route[2]`.
    pub(super) label: String,
    /// Where its head stands, in bytes from the start of the text.
    pub(super) at: usize,
    /// The keys that were written, rightly or not, and where their values stand: `feeds`, each `feeds[1]` of its
    /// list, `replay`, each `replay.age` inside of it.
    pub(super) given: Vec<(String, usize)>,
    /// Those of them whose value was refused: what is stored is the default.
    pub(super) refused: Vec<String>,
}

impl<T> Section<T> {
    /// A section of which no key was written yet.
    pub(super) fn new(value: T, label: String, at: usize) -> Self {
        Section { value, label, at, given: Vec::new(), refused: Vec::new() }
    }

    /// Whether a key was written, rightly or not.
    pub(super) fn gives(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| given == name)
    }

    /// Whether the value of a key, or an item or an inner key of it, was refused.
    pub(super) fn refuses(&self, name: &str) -> bool {
        let part = |refused: &String| refused.strip_prefix(name).is_some_and(|rest| !rest.starts_with(is_of_name));
        self.refused.iter().any(part)
    }

    /// Where the value of a key stands; the table itself where the key was left out.
    pub(super) fn place(&self, name: &str) -> usize {
        self.given.iter().find(|(given, _)| given == name).map_or(self.at, |(_, at)| *at)
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

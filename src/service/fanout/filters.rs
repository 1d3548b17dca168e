//! Topic filters of MQTT (version 5, section 4.7) and the logs that they have, as a tree of their levels.
//!
//! A topic's levels lead to each filter that matches it, and past no node twice. How deep the tree is, and so how deep
//! a search goes, is up to those who enter filters.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// Filters with `+` or `#`, and their logs.
#[derive(Default)]
pub struct Filters {
    root: Level,
    /// In order, so that a simulated shard is deterministic.
    names: BTreeMap<Rc<str>, u32>,
}

/// What filters have at one level.
#[derive(Default)]
struct Level {
    /// Behind a word.
    words: HashMap<Box<str>, Level>,
    /// Behind `+`.
    any: Option<Box<Level>>,
    /// The log of the filter that ends here.
    end: Option<u32>,
    /// The log of the filter that ends here with `#`.
    rest: Option<u32>,
}

impl Filters {
    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The log of a filter.
    pub fn find(&self, filter: &str) -> Option<u32> {
        self.names.get(filter).copied()
    }

    /// All logs.
    pub fn all(&self) -> impl Iterator<Item = u32> {
        self.names.values().copied()
    }

    /// Enters the log of a filter.
    pub fn insert(&mut self, filter: &Rc<str>, log: u32) {
        self.names.insert(filter.clone(), log);
        *self.root.place(filter.split('/')) = Some(log);
    }

    /// Removes the log of a filter.
    pub fn remove(&mut self, filter: &str) {
        if self.names.remove(filter).is_some() {
            self.root.remove(filter.split('/'));
        }
    }

    /// Appends the logs of all filters that match a topic. A wildcard in the first level matches no topic that begins
    /// with `$` (section 4.7.2).
    pub fn matching(&self, topic: &str, logs: &mut Vec<u32>) {
        if topic.starts_with('$') {
            let mut levels = topic.split('/');
            let first = levels.next().and_then(|word| self.root.words.get(word));
            return first.into_iter().for_each(|level| level.matching(levels.clone(), logs));
        }
        self.root.matching(topic.split('/'), logs);
    }
}

impl Level {
    /// Where the log of a filter with these levels stands.
    fn place<'f>(&mut self, mut levels: impl Iterator<Item = &'f str>) -> &mut Option<u32> {
        let mut at = self;
        loop {
            at = match levels.next() {
                None => return &mut at.end,
                Some("#") => return &mut at.rest,
                Some("+") => at.any.get_or_insert_default(),
                Some(word) => at.words.entry(word.into()).or_default(),
            };
        }
    }

    /// Removes it, and what leads to nothing any more. Whether this level does not.
    fn remove<'f>(&mut self, mut levels: impl Iterator<Item = &'f str>) -> bool {
        match levels.next() {
            None => self.end = None,
            Some("#") => self.rest = None,
            Some("+") => drop(self.any.take_if(|level| level.remove(levels))),
            Some(word) => {
                if self.words.get_mut(word).is_some_and(|level| level.remove(levels)) {
                    self.words.remove(word);
                }
            }
        }
        self.words.is_empty() && self.any.is_none() && self.end.is_none() && self.rest.is_none()
    }

    /// `a/#` matches `a`, too (section 4.7.1.2).
    fn matching<'t>(&self, mut levels: impl Iterator<Item = &'t str> + Clone, logs: &mut Vec<u32>) {
        logs.extend(self.rest);
        let Some(word) = levels.next() else { return logs.extend(self.end) };
        if let Some(any) = &self.any {
            any.matching(levels.clone(), logs);
        }
        if let Some(level) = self.words.get(word) {
            level.matching(levels, logs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(filters: &Filters, topic: &str) -> Vec<u32> {
        let mut logs = Vec::new();
        filters.matching(topic, &mut logs);
        logs.sort_unstable();
        logs
    }

    #[test]
    fn a_topic_finds_each_filter_that_matches_it() {
        let mut filters = Filters::default();
        let names = ["#", "+", "a/#", "a/+", "+/b", "a/+/c", "/+", "$SYS/#", "+/+/+"];
        (0..).zip(names).for_each(|(log, name)| filters.insert(&name.into(), log));
        assert_eq!(matching(&filters, "a"), [0, 1, 2]);
        assert_eq!(matching(&filters, "a/b"), [0, 2, 3, 4]);
        assert_eq!(matching(&filters, "a/b/c"), [0, 2, 5, 8]);
        assert_eq!(matching(&filters, "/b"), [0, 4, 6]);
        assert_eq!(matching(&filters, "$SYS/x"), [7]);
        assert_eq!(matching(&filters, "$x"), [0_u32; 0]);
        assert_eq!((filters.find("+/b"), filters.find("b")), (Some(4), None));
        names.iter().for_each(|name| filters.remove(name));
        assert!(filters.is_empty() && filters.root.words.is_empty() && filters.root.any.is_none());
    }
}

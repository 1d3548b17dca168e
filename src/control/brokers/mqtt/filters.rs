//! The filters of a session, and which of them a message is taken for.
//!
//! A message that several filters match comes once for each of them, or once with the identifiers of all (MQTT version
//! 5 section 3.3.4). One of these copies is published: that of the oldest filter. What is oldest only changes where the
//! broker's own order of packets says so: a filter counts from its SUBACK on, for as long as others do, and to its
//! UNSUBACK. So no message is published twice, and none never.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Levels of a filter, at most: so deep is the tree.
pub(super) const LEVELS: usize = 128;

/// Filters that the broker has, or was asked for, by their numbers.
#[derive(Default)]
pub(super) struct Filters {
    root: Level,
    known: BTreeMap<u32, Known>,
}

/// What is known of one.
pub(super) struct Known {
    /// It.
    pub(super) filter: Arc<str>,
    /// The quality of service that was confirmed.
    pub(super) granted: Option<u8>,
}

/// What filters have at one level.
#[derive(Default)]
struct Level {
    /// Behind a word.
    words: HashMap<Box<str>, Level>,
    /// Behind `+`.
    any: Option<Box<Level>>,
    /// The filter that ends here.
    end: Option<u32>,
    /// The filter that ends here with `#`.
    rest: Option<u32>,
}

impl Filters {
    /// The broker is asked for it.
    pub(super) fn ask(&mut self, filter: &Arc<str>, number: u32) {
        *self.root.place(filter.split('/')) = Some(number);
        self.known.entry(number).or_insert_with(|| Known { filter: filter.clone(), granted: None });
    }

    /// The broker has confirmed it.
    pub(super) fn confirm(&mut self, number: u32, quality: u8) {
        if let Some(known) = self.known.get_mut(&number) {
            known.granted = Some(quality);
        }
    }

    /// What the broker has confirmed of it.
    pub(super) fn granted(&self, number: u32) -> Option<u8> {
        self.known.get(&number)?.granted
    }

    /// The broker has it no more.
    pub(super) fn remove(&mut self, number: u32) -> Option<Arc<str>> {
        let known = self.known.remove(&number)?;
        self.root.remove(known.filter.split('/'));
        Some(known.filter)
    }

    /// Whether the broker was asked for it.
    pub(super) fn has(&self, number: u32) -> bool {
        self.known.contains_key(&number)
    }

    /// All of them, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Known)> {
        self.known.iter().map(|(number, known)| (*number, known))
    }

    /// The filter of which the copy of a message on this topic is taken; `None`: none matches.
    pub(super) fn pick(&self, name: &str) -> Option<u32> {
        let mut numbers = Vec::new();
        self.root.find(name, &mut numbers);
        let candidates = numbers.into_iter().filter_map(|number| Some((self.known.get(&number)?, number)));
        candidates.map(|(known, number)| (known.granted.is_none(), number)).min().map(|(_, number)| number)
    }
}

impl Level {
    fn place<'f>(&mut self, levels: impl Iterator<Item = &'f str>) -> &mut Option<u32> {
        let mut at = self;
        for level in levels {
            at = match level {
                "#" => return &mut at.rest,
                "+" => at.any.get_or_insert_default(),
                word => at.words.entry(word.into()).or_default(),
            };
        }
        &mut at.end
    }

    /// Removes what stands there, and what leads to nothing any more. Whether this level does not.
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

    /// A wildcard in the first level matches no topic that begins with `$` (section 4.7.2).
    fn find(&self, name: &str, numbers: &mut Vec<u32>) {
        let mut levels = name.split('/');
        if !name.starts_with('$') {
            return self.matching(levels, numbers);
        }
        let first = levels.next().and_then(|word| self.words.get(word));
        first.into_iter().for_each(|level| level.matching(levels.clone(), numbers));
    }

    /// `a/#` matches `a`, too (section 4.7.1.2).
    fn matching<'t>(&self, mut levels: impl Iterator<Item = &'t str> + Clone, numbers: &mut Vec<u32>) {
        numbers.extend(self.rest);
        let Some(word) = levels.next() else { return numbers.extend(self.end) };
        if let Some(any) = &self.any {
            any.matching(levels.clone(), numbers);
        }
        if let Some(level) = self.words.get(word) {
            level.matching(levels, numbers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_of_the_oldest_confirmed_filter_is_taken() {
        let mut filters = Filters::default();
        for (number, filter) in [(1, "a/+"), (2, "a/#"), (3, "+/b"), (4, "$SYS/#"), (5, "#")] {
            filters.ask(&filter.into(), number);
        }
        let picks = |filters: &Filters| ["a/b", "a", "c/b", "$SYS/x", "c"].map(|name| filters.pick(name));
        assert_eq!(picks(&filters), [Some(1), Some(2), Some(3), Some(4), Some(5)]);
        filters.confirm(3, 0);
        assert_eq!(picks(&filters), [Some(3), Some(2), Some(3), Some(4), Some(5)]);
        (1..=5).for_each(|number| filters.confirm(number, 0));
        assert_eq!((filters.pick("a/b"), filters.granted(1)), (Some(1), Some(0)));
        (1..=4).for_each(|number| drop(filters.remove(number)));
        assert_eq!(picks(&filters), [Some(5), Some(5), Some(5), None, Some(5)]);
        filters.remove(5);
        assert!(filters.root.words.is_empty() && filters.root.any.is_none());
    }
}

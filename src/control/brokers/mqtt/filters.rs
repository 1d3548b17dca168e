//! The filters of a session, and which of them a message is taken for.
//!
//! A message that several filters match comes once for each of them, or once with the identifiers of all (MQTT version
//! 5 section 3.3.4). One of these copies is published: that of the oldest filter. What is oldest only changes where the
//! broker's own order of packets says so: a filter counts from its SUBACK on, for as long as others do, and to its
//! UNSUBACK. So no message is published twice, and none never.

use edgehold_wire::mqtt::topic;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Levels of a filter, at most: so deep is the tree.
pub(super) const LEVELS: usize = 128;

/// For so long after its SUBACK a filter's retained messages may come because it is new.
const FRESH: Duration = Duration::from_secs(2);

/// Filters that the broker has, or was asked for, by their numbers.
#[derive(Default)]
pub(super) struct Filters {
    root: Level,
    known: BTreeMap<u32, Known>,
    /// How many were asked for with each quality of service.
    asked: [usize; 3],
}

/// What is known of one.
pub(super) struct Known {
    /// It.
    pub(super) filter: Arc<str>,
    /// The quality of service that was asked for.
    pub(super) asked: u8,
    /// What was confirmed, and when.
    pub(super) granted: Option<(u8, Instant)>,
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

/// The filter that a message is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pick {
    /// Its number.
    pub(super) number: u32,
    /// It is so new that a retained message may come because of that.
    pub(super) is_fresh: bool,
}

impl Filters {
    /// The broker is asked for it, or asked again with another quality of service. Says whether it has confirmed it
    /// before.
    pub(super) fn ask(&mut self, filter: &Arc<str>, number: u32, asked: u8) -> bool {
        self.asked[usize::from(asked.min(2))] += 1;
        *self.root.place(filter.split('/')) = Some(number);
        if let Some(known) = self.known.get_mut(&number) {
            self.asked[usize::from(known.asked.min(2))] -= 1;
            known.asked = asked;
            return known.granted.is_some();
        }
        self.known.insert(number, Known { filter: filter.clone(), asked, granted: None });
        false
    }

    /// The broker has confirmed it.
    pub(super) fn confirm(&mut self, number: u32, quality: u8) {
        if let Some(known) = self.known.get_mut(&number) {
            let since = known.granted.map_or_else(Instant::now, |(_, since)| since);
            known.granted = Some((quality, since));
        }
    }

    /// The broker has it no more.
    pub(super) fn remove(&mut self, number: u32) -> Option<Arc<str>> {
        let known = self.known.remove(&number)?;
        self.asked[usize::from(known.asked.min(2))] -= 1;
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
    pub(super) fn pick(&self, name: &str, now: Instant) -> Option<Pick> {
        let mut numbers = Vec::new();
        self.root.find(name, &mut numbers);
        let candidates = numbers.into_iter().filter_map(|number| Some((number, self.known.get(&number)?)));
        let (number, known) = candidates.min_by_key(|(number, known)| (known.granted.is_none(), *number))?;
        let is_fresh = known.granted.is_none_or(|(_, since)| now.duration_since(since) < FRESH);
        Some(Pick { number, is_fresh })
    }

    /// Older filters that overlap with this one, and were asked for with a lower quality of service: it is their copies
    /// that are taken.
    pub(super) fn humbler(&self, filter: &str, number: u32, quality: u8) -> Vec<(u32, Arc<str>)> {
        if self.asked.iter().take(usize::from(quality)).sum::<usize>() == 0 {
            return Vec::new();
        }
        let older = self.known.range(..number).filter(|(_, known)| known.asked < quality);
        let overlapping = older.filter(|(_, known)| topic::overlaps(&known.filter, filter));
        overlapping.map(|(number, known)| (*number, known.filter.clone())).collect()
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
        let (mut filters, now) = (Filters::default(), Instant::now());
        for (number, filter) in [(1, "a/+"), (2, "a/#"), (3, "+/b"), (4, "$SYS/#"), (5, "#")] {
            assert!(!filters.ask(&filter.into(), number, 0));
        }
        let number = |filters: &Filters, name| filters.pick(name, now).map(|it| it.number);
        let picks = |filters: &Filters| ["a/b", "a", "c/b", "$SYS/x", "c"].map(|name| number(filters, name));
        assert_eq!(picks(&filters), [Some(1), Some(2), Some(3), Some(4), Some(5)]);
        filters.confirm(3, 0);
        assert_eq!(picks(&filters), [Some(3), Some(2), Some(3), Some(4), Some(5)]);
        (1..=5).for_each(|number| filters.confirm(number, 0));
        assert_eq!(number(&filters, "a/b"), Some(1));
        assert!(filters.pick("a/b", now).unwrap().is_fresh && !filters.pick("a/b", now + FRESH * 2).unwrap().is_fresh);
        (1..=4).for_each(|number| drop(filters.remove(number)));
        assert_eq!(picks(&filters), [Some(5), Some(5), Some(5), None, Some(5)]);
        filters.remove(5);
        assert!(filters.root.words.is_empty() && filters.root.any.is_none() && filters.asked == [0; 3]);
    }

    #[test]
    fn older_filters_that_would_lower_the_quality_are_found() {
        let mut filters = Filters::default();
        for (number, filter, asked) in [(1, "a/+", 0), (2, "b", 0), (3, "a/b", 1), (4, "a/b/c", 0)] {
            filters.ask(&filter.into(), number, asked);
        }
        assert_eq!(filters.humbler("a/#", 9, 1), [(1, "a/+".into()), (4, "a/b/c".into())]);
        assert_eq!(filters.humbler("a/#", 9, 0), []);
        filters.confirm(1, 0);
        assert!(filters.ask(&"a/+".into(), 1, 2) && !filters.ask(&"a/b/c".into(), 4, 2));
        assert_eq!(filters.humbler("a/#", 9, 2), [(3, "a/b".into())]);
    }
}

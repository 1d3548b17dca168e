//! The channels of a shard, a page at a time: the answer to a [`SubscribersQuery`].

use super::log::ChannelLog;
use crate::mesh::{ChannelState, SubscribersQuery, Wanted};
use std::collections::BinaryHeap;

/// The channels that a query asks for. A channel beyond the page costs a comparison, and no memory.
pub(super) fn listing<'r>(logs: impl Iterator<Item = &'r ChannelLog>, ask: &SubscribersQuery) -> Vec<ChannelState> {
    match &ask.wanted {
        Wanted::One(name) => logs.filter(|log| *log.name == **name).map(state).collect(),
        Wanted::Page { after, most } => {
            let after = after.as_ref().map(|(name, feed)| (&**name, *feed));
            page(logs, after, *most)
        }
    }
}

/// By what channels are ordered: name and feed.
type Key<'r> = (&'r str, u16);

fn page<'r>(logs: impl Iterator<Item = &'r ChannelLog>, after: Option<Key<'_>>, most: usize) -> Vec<ChannelState> {
    let mut first = BinaryHeap::new();
    for log in logs.filter(|log| after.is_none_or(|after| key(log) > after)) {
        if first.len() < most || first.peek().is_some_and(|last: &ByKey<'_>| key(log) < key(last.0)) {
            first.push(ByKey(log));
        }
        if first.len() > most {
            first.pop();
        }
    }
    first.into_sorted_vec().into_iter().map(|it| state(it.0)).collect()
}

fn key(log: &ChannelLog) -> Key<'_> {
    (&log.name, log.feed)
}

/// A log, ordered by its key.
struct ByKey<'r>(&'r ChannelLog);

impl PartialEq for ByKey<'_> {
    fn eq(&self, other: &Self) -> bool {
        key(self.0) == key(other.0)
    }
}

impl Eq for ByKey<'_> {}

impl PartialOrd for ByKey<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        key(self.0).cmp(&key(other.0))
    }
}

fn state(log: &ChannelLog) -> ChannelState {
    ChannelState {
        feed: log.feed,
        channel: (*log.name).into(),
        subscribers: log.subscribers.len() as u32,
        kept: log.kept() as u32,
        kept_bytes: log.kept_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Keep, Naming};
    use super::*;

    fn names(logs: &[ChannelLog], after: Option<(&str, u16)>, most: usize) -> Vec<String> {
        let after = after.map(|(name, feed)| (name.into(), feed));
        let ask = SubscribersQuery { question: 1, wanted: Wanted::Page { after, most } };
        listing(logs.iter(), &ask).into_iter().map(|it| format!("{}/{}", it.channel, it.feed)).collect()
    }

    #[test]
    fn a_page_has_the_first_behind_its_cursor_in_order() {
        let names_of = [(0, "d"), (0, "b"), (1, "a"), (1, "b"), (0, "c*")];
        let logs: Vec<ChannelLog> = names_of
            .map(|(feed, name)| ChannelLog::new(feed, (name, Naming::Prefixes.covers(name)), 0, &Keep::NOTHING))
            .into();
        assert_eq!(names(&logs, None, 9), ["a/1", "b/0", "b/1", "c*/0", "d/0"]);
        assert_eq!(names(&logs, None, 2), ["a/1", "b/0"]);
        assert_eq!(names(&logs, Some(("b", 0)), 2), ["b/1", "c*/0"]);
        assert_eq!(names(&logs, Some(("d", 0)), 2), [""; 0]);
        let one = SubscribersQuery { question: 1, wanted: Wanted::One("b".into()) };
        assert_eq!(listing(logs.iter(), &one).len(), 2);
    }
}

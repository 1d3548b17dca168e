//! Filters of a session without subscription identifiers: those that the broker has do not overlap, since of a message
//! that comes twice it could not be told from two that are alike.

use super::{CANNOT, Mqtt, Session};
use crate::control::brokers::keeper::Keeper;
use crate::control::brokers::stats::Refused;
use edgehold_wire::mqtt::topic;
use std::sync::Arc;

impl Mqtt {
    /// Whether the broker is to be asked for a filter. Another filter may have it, or be in its way. Of filters that it
    /// covers the subscriptions end behind its own, so that nothing is missed.
    pub(super) fn may_ask_alone(
        &mut self,
        keeper: &mut Keeper,
        session: &mut Session,
        filter: &Arc<str>,
        number: u32,
    ) -> bool {
        if self.filters.has(number) {
            return true;
        }
        if let Some(cover) = self.cover(filter) {
            self.covered.insert(number, filter.clone());
            self.be_covered(keeper, number, cover);
            return false;
        }
        let others = self.filters.iter().filter(|(other, _)| !self.leaving.contains_key(other));
        let overlapping = others.filter(|(_, known)| topic::overlaps(&known.filter, filter));
        let overlapping: Vec<_> = overlapping.map(|(number, known)| (number, known.filter.clone())).collect();
        if overlapping.iter().any(|(_, other)| !topic::covers(filter, other)) {
            let words = "this filter and another one's match the same topics: the broker's version of MQTT cannot tell \
                         their messages apart";
            keeper.refuse(filter, Refused::Overlap, (CANNOT, words.into()));
            return false;
        }
        self.send(session, filter, number);
        for (other, covered) in overlapping {
            self.covered.insert(other, covered.clone());
            self.send_unsubscribe(session, covered, other);
        }
        false
    }

    /// The filter that has all that this one matches.
    fn cover(&self, filter: &str) -> Option<u32> {
        let covers = |(number, known): &(u32, &super::filters::Known)| {
            !self.leaving.contains_key(number) && topic::covers(&known.filter, filter)
        };
        self.filters.iter().find(covers).map(|(number, _)| number)
    }

    /// One is had by another: it is confirmed when that one is.
    fn be_covered(&mut self, keeper: &mut Keeper, number: u32, cover: u32) {
        if let Some(granted) = self.filters.granted(cover) {
            self.confirm(keeper, number, granted);
        }
    }

    /// A filter is confirmed: so are those that it covers.
    pub(super) fn confirm_covered(&mut self, keeper: &mut Keeper, cover: u32, quality: u8) {
        let Some(filter) = keeper.topics.of(cover).cloned() else { return };
        let covered = self.covered.iter().filter(|(_, it)| topic::covers(&filter, it));
        let covered: Vec<u32> = covered.map(|(number, _)| *number).collect();
        covered.into_iter().for_each(|number| self.confirm(keeper, number, quality));
    }

    /// A filter is refused: those that it would have had are asked for by themselves.
    pub(super) fn ask_again_covered(&mut self, keeper: &mut Keeper, filter: &Arc<str>) {
        let covered = self.covered.iter().filter(|(_, it)| topic::covers(filter, it));
        let covered: Vec<(u32, Arc<str>)> = covered.map(|(number, it)| (*number, it.clone())).collect();
        for (number, topic) in covered {
            self.covered.remove(&number);
            keeper.topics.ask_again(&topic);
        }
    }

    /// A filter ends: those that it covers are subscribed to first, where no other covers them.
    pub(super) fn uncover(&mut self, keeper: &mut Keeper, session: &mut Session, cover: u32, filter: &Arc<str>) {
        self.leaving.insert(cover, filter.clone());
        let covered = self.covered.iter().filter(|(_, it)| topic::covers(filter, it));
        let mut covered: Vec<(u32, Arc<str>)> = covered.map(|(number, it)| (*number, it.clone())).collect();
        // Those that cover others come first.
        covered.sort_by_key(|(_, it)| !it.contains(['+', '#']));
        for (number, filter) in covered {
            self.covered.remove(&number);
            if keeper.topics.begin(&filter).is_some() && self.may_ask_alone(keeper, session, &filter, number) {
                self.send(session, &filter, number);
            }
        }
    }
}

//! The exchange of settings: routes and feeds by their numbers, while their subscribers stay.
//!
//! A feed that stays keeps its logs, and what is kept of them follows from its new settings as they are trimmed. The
//! subscribers of a route that stays follow its new limits and policy at once; their subscriptions to feeds that it has
//! no more end. Those of a route that is gone keep what they have: their feeds may be gone as well, and are silent
//! then.

use super::Fanout;
use super::feed::Feed;
use super::settings::{FeedSettings, Policy, RouteTerms};
use crate::mesh::FeedNumber;
use crate::shard::service::Desk;

impl Fanout {
    /// These routes and feeds, by their numbers, are in force from now on; `None`: gone.
    pub fn exchange(&mut self, desk: &mut Desk<'_>, routes: &[Option<RouteTerms>], feeds: &[Option<FeedSettings>]) {
        let lost: Vec<(u16, FeedNumber)> =
            (0..).zip(routes).flat_map(|(number, next)| self.lost(number, next.as_ref())).collect();
        self.routes.replace(routes.iter().cloned());
        let sequence = self.sequence;
        let kept = |feed: &mut Feed, settings: &FeedSettings| feed.settings = settings.clone();
        let foreign = FeedSettings::foreign();
        // Behind the end no feed can be gone: what is none of ours is another service's.
        let known = self.feeds.len();
        let next = feeds.iter().enumerate().map(|(at, it)| it.as_ref().or((at >= known).then_some(&foreign)));
        self.feeds.exchange(next, kept, |_, settings| Feed::begun(settings, sequence));
        (0..self.feeds.len()).for_each(|feed| self.keep_for_older(feed));
        lost.into_iter().for_each(|(route, feed)| self.end_subscriptions(desk, route, feed));
        (0..self.feeds.len()).for_each(|feed| self.adjust_logs(desk, feed));
        self.gauge(desk);
    }

    /// Feeds that are gone and still have logs, which somebody subscribes to.
    pub fn held(&self) -> usize {
        self.feeds.older().filter(|(_, feed)| feed.has_logs()).count()
    }

    /// The feeds that a route has now and will not have, if it stays.
    fn lost(&self, number: u16, next: Option<&RouteTerms>) -> Vec<(u16, FeedNumber)> {
        let (Some(now), Some(next)) = (self.routes.current(usize::from(number)), next) else { return Vec::new() };
        now.feeds.iter().filter(|feed| !next.feeds.contains(feed)).map(|&feed| (number, feed)).collect()
    }

    /// What the configuration wants kept of a feed is meant for the routes that it has. For the subscribers of those
    /// that are gone no less is kept than before; of a feed that is gone itself, nothing for those who are yet to come.
    fn keep_for_older(&mut self, number: usize) {
        let older = self.routes.older().map(|(_, terms)| terms);
        let older = older.filter(|terms| terms.feeds.iter().any(|&feed| usize::from(feed) == number));
        let (mut backlog, mut values) = (0, false);
        for RouteTerms { slow, snapshot, .. } in older {
            backlog = slow.max_pending.max(backlog);
            values |= *snapshot || slow.policy == Policy::Conflate;
        }
        let is_gone = self.feeds.current(number).is_none();
        let FeedSettings { keep, linger_ticks, .. } = &mut self.feeds[number].settings;
        if is_gone {
            (keep.messages, keep.bytes, keep.age_ticks, *linger_ticks) = (0, 0, 0, 0);
        }
        (keep.backlog, keep.values) = (keep.backlog.max(backlog), keep.values || values);
    }

    /// Ends the subscriptions of a route's clients to a feed.
    fn end_subscriptions(&mut self, desk: &mut Desk<'_>, route: u16, feed: FeedNumber) {
        let logs = self.feeds[usize::from(feed)].logs(None).into_iter();
        let all: Vec<u32> = logs.flat_map(|log| self.logs[log as usize].subscribers.clone()).collect();
        desk.charge(all.len());
        let its = |number: &u32| {
            let client = self.subscribers.get(*number).client;
            self.subscribers.clients[client as usize].route == route
        };
        let its: Vec<u32> = all.into_iter().filter(its).collect();
        its.into_iter().for_each(|number| self.unsubscribe(desk, number));
    }

    /// Last values are kept in its logs, where they were not before; logs of a feed that is gone are trimmed, which
    /// leaves those that have subscribers.
    fn adjust_logs(&mut self, desk: &mut Desk<'_>, number: usize) {
        let (is_gone, feed) = (self.feeds.current(number).is_none(), &self.feeds[number]);
        let keeps_values = feed.settings.keep.values;
        let logs = if is_gone || keeps_values { feed.logs(None) } else { Vec::new() };
        desk.charge(logs.len());
        for log in logs {
            if keeps_values {
                self.logs[log as usize].keep_values();
            }
            if is_gone {
                self.trim(desk, log);
            }
        }
    }
}

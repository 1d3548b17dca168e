//! The setup of a play: what its feeds keep, and the plans of its routes.

use super::feeds::EPOCH;
use edgehold::engine::script::Dice;
use edgehold::mesh::Body;
use edgehold::service::broadcast::Keep;
use edgehold::service::broadcast::{BroadcastPlan, BroadcastSettings, FeedSettings, Policy, Slow};
use edgehold::service::gate::{CorsPlan, GatePlan, Origins};
use edgehold::service::{Route, Routes, Settings, Target};
use std::sync::Arc;

/// Of feeds; the first keeps nothing.
pub const FEEDS: u16 = 3;

pub struct Setup {
    pub feeds: Vec<FeedSettings>,
    pub routes: Arc<[BroadcastPlan]>,
    /// The largest filler of a message.
    pub largest: usize,
    /// Bytes and ticks that may be due to somebody who keeps up.
    pub slack: (u64, u32),
}

impl Setup {
    /// `narrow`: the network takes only little at a time.
    pub fn new(dice: &mut Dice, narrow: bool) -> Setup {
        let largest = if narrow { 1500 } else { [300, 4000, 20_000][dice.below(3)] };
        let max_pending = if largest < 5000 { 150_000 } else { 300_000 };
        let max_age_ticks = [8, 40][dice.below(2)];
        let policies = [Policy::DropOldest, Policy::Conflate, Policy::Close, Policy::Gap];
        let slow = |policy| Slow { policy, max_pending, max_age_ticks };
        let routes: Arc<[BroadcastPlan]> = policies.into_iter().map(|policy| route(dice, slow(policy))).collect();
        let feeds = (0..FEEDS).map(|number| feed(dice, number, &routes, max_pending)).collect();
        Setup { feeds, routes, largest, slack: (max_pending / 5, max_age_ticks / 4) }
    }

    /// What the services are told.
    pub fn services(&self) -> Settings {
        let plans = self.routes.iter().cloned().map(Some).collect();
        let feeds = self.feeds.iter().cloned().map(Some).collect();
        let broadcast = BroadcastSettings { plans, feeds, epoch: EPOCH };
        Settings { routes: self.paths(), broadcast, ..Settings::default() }
    }

    /// Below which path which settings stand.
    fn paths(&self) -> Arc<Routes> {
        let path = |number: usize| {
            if self.routes[number].channel_in_path { format!("/feed{number}/") } else { format!("/feed{number}") }
        };
        let route = |number: usize| Route {
            path: path(number),
            below: self.routes[number].channel_in_path,
            host: None,
            limits: 0,
            gate: Arc::new(Setup::gate(number)),
            target: Target::Broadcast(number as u16),
        };
        Arc::new((0..self.routes.len()).map(route).collect())
    }

    /// Of every other route pages of one origin may read.
    fn gate(number: usize) -> GatePlan {
        let allow_origin = Setup::is_shared(number).then(|| Origins::of(["https://page"]));
        GatePlan { cors: CorsPlan { allow_origin, ..CorsPlan::default() }, ..GatePlan::default() }
    }

    /// Whether pages of that origin may read a route.
    pub fn is_shared(route: usize) -> bool {
        route.is_multiple_of(2)
    }

    /// The feeds that a channel or prefix of a route may come from.
    pub fn feeds_of(&self, route: usize, pattern: &str) -> impl Iterator<Item = u16> {
        let feeds = self.routes[route].feeds.iter().copied();
        feeds.filter(move |&feed| self.feeds[usize::from(feed)].may_carry(pattern))
    }
}

fn route(dice: &mut Dice, slow: Slow) -> BroadcastPlan {
    let mut feeds: Vec<u16> = (0..FEEDS).filter(|_| dice.chance(60)).collect();
    if feeds.is_empty() {
        feeds.push(dice.below(usize::from(FEEDS)) as u16);
    }
    let some = ["a.*", "b*"].map(String::from).to_vec();
    BroadcastPlan {
        feeds,
        channel_in_path: dice.chance(50),
        channels: if dice.chance(30) { some } else { Vec::new() },
        roles: Box::default(),
        subscribe: dice.chance(80),
        changes_max: 10_000,
        order_bytes: 64 << 10,
        subscriptions_max: [4, 64][dice.below(2)],
        snapshot: dice.chance(40),
        body: if dice.chance(50) { Body::Json } else { Body::Plain },
        poll_ticks: [8, 100][dice.below(2)],
        poll_gone: dice.chance(50),
        retry_millis: 3000,
        gap_event: "gap".into(),
        slow,
    }
}

/// Last values are kept where a route may ask for them, and a backlog as large as a route allows.
fn feed(dice: &mut Dice, number: u16, routes: &[BroadcastPlan], backlog: u64) -> FeedSettings {
    let wants = |route: &BroadcastPlan| route.snapshot || route.slow.policy == Policy::Conflate;
    let values = routes.iter().any(|route| route.feeds.contains(&number) && wants(route));
    let messages = if number == 0 { 0 } else { [3, 20, 1000][dice.below(3)] };
    let bytes = [20_000, 1 << 30][dice.below(2)];
    let age_ticks = [20, 200, 1 << 30][dice.below(3)];
    // The last feed has only channels that begin so; nobody can subscribe to its others.
    let channel = (number == 2 && dice.chance(30)).then(|| "b*".to_string());
    let keep = Keep { messages, bytes, age_ticks, backlog, values, ..Keep::NOTHING };
    // Prefixes go soon, so that they are made anew over what their channels keep.
    FeedSettings { linger_ticks: [0, 4, 40][dice.below(3)], ..FeedSettings::new(channel, keep) }
}

//! The broadcast routes of a shard, by their numbers.

use super::patterns::Patterns;
use super::settings::BroadcastPlan;
use crate::mesh::Numbered;
use std::rc::Rc;

/// All of them; each is counted, so that it outlasts what is done for a client meanwhile.
pub type Routes = Numbered<Rc<Route>>;

/// A route.
pub struct Route {
    /// What the configuration says.
    pub plan: BroadcastPlan,
    /// The channels that it allows.
    pub patterns: Patterns,
}

impl Route {
    /// With its patterns in order.
    pub fn new(plan: &BroadcastPlan) -> Rc<Route> {
        Rc::new(Route { patterns: Patterns::new(plan), plan: plan.clone() })
    }
}

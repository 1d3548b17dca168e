//! MQTT 3.1, 3.1.1 and 5: many clients, a handful of sessions with a broker.

use super::offload::{OffloadPlan, OffloadSettings};
use super::{Admits, Request, Service};
use crate::mesh::{Message, Missed};
use crate::shard::service::{Desk, Event, Verdict};
use crate::shard::slab::Handle;
use std::sync::Arc;

/// The service `mqtt` of one shard.
pub struct Mqtt;

impl Service for Mqtt {
    type Plan = Arc<OffloadPlan>;
    type Settings = OffloadSettings;

    const ADMITS: Admits = Admits::Opening;

    fn new(_settings: &OffloadSettings) -> Mqtt {
        Mqtt
    }

    fn request(&mut self, _desk: &mut Desk<'_>, _request: &Request<'_, '_>, _plan: &Arc<OffloadPlan>) -> Verdict {
        Verdict::Served
    }

    fn event(&mut self, _desk: &mut Desk<'_>, _who: Handle, _token: u32, _event: Event<'_>) {}
}

impl Mqtt {
    /// Messages were published, in the order of their sequences.
    pub(super) fn publish(&mut self, _desk: &mut Desk<'_>, _messages: &[Arc<Message>]) {}

    /// Messages were lost on the way to this shard.
    pub(super) fn missed(&mut self, _desk: &mut Desk<'_>, _missed: &Missed) {}
}

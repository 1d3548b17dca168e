//! Broadcast as a service of the shard: what happens to a connection, handed to whom it concerns.

use super::commands::tell_authenticated;
use super::{Broadcast, BroadcastSettings};
use crate::mesh::ToShard;
use crate::service::{Admits, Request, Service};
use crate::shard::service::{Desk, Event, Verdict};
use crate::shard::slab::Handle;
use edgehold_wire::ws::CloseCode;

impl Service for Broadcast {
    /// The number of the route among those of this service.
    type Plan = u16;
    type Settings = BroadcastSettings;

    // By what transport a client comes is part of what it asks for.
    const ADMITS: Admits = Admits::Anything;

    fn new(settings: &BroadcastSettings) -> Broadcast {
        Broadcast::begin(settings)
    }

    fn exchange(&mut self, desk: &mut Desk<'_>, settings: &BroadcastSettings) {
        self.take_settings(desk, settings);
    }

    /// Feeds that are gone and have subscribers.
    fn held(&self) -> usize {
        self.fanout.held()
    }

    fn request(&mut self, desk: &mut Desk<'_>, request: &Request<'_, '_>, plan: &u16) -> Verdict {
        self.answer_request(desk, request, *plan);
        Verdict::Served
    }

    fn event(&mut self, desk: &mut Desk<'_>, who: Handle, token: u32, event: Event<'_>) {
        match event {
            Event::Fill(batch) => self.more(desk, token, batch),
            Event::Message { first, last, payload, .. } => self.receive(desk, who, token, (first, last), payload),
            Event::Writable => desk.resume(who),
            Event::Authenticated(taken) => tell_authenticated(desk, who, taken.is_ok()),
            Event::KeepAlive => self.quiet(desk, token),
            Event::Close(code) => desk.close(who, code.unwrap_or(CloseCode::NORMAL), ""),
            Event::Drain => self.drain(desk, who, token),
            Event::Closed(_) => self.closed(desk, token),
            _ => {}
        }
    }

    fn letter(&mut self, desk: &mut Desk<'_>, letter: ToShard) -> Option<ToShard> {
        match letter {
            ToShard::Publish(messages) => self.publish(desk, &messages),
            ToShard::SubscriberCounts(query) => self.count_subscribers(desk, &query),
            ToShard::Missed(missed) => self.missed(desk, &missed),
            other => return Some(other),
        }
        None
    }

    fn poll(&mut self, desk: &mut Desk<'_>, budget: u32) -> u32 {
        self.turn(desk, budget)
    }
}

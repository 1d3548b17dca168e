//! Connections to upstreams, up to the first byte.

use super::conn::StateEvent;
use super::core::Core;
use super::service::{Event, Services};
use super::slab::Handle;

/// The connection is open: its service hears so.
pub(super) fn connected<S: Services>(core: &mut Core, service: &mut S, who: Handle) {
    let conn = &mut core.slab[who.slot];
    conn.step(StateEvent::Connected);
    conn.last_received = core.clock.now();
    let token = conn.token;
    core.watch(who.slot);
    service.event(&mut core.desk(), who, token, Event::Connected);
}

//! PROXY headers: in front of everything else on a connection, TLS too.
//!
//! A header that was cut waits in the spill, which has nothing else before a request head, and at most
//! [`MAX_V2`] bytes of it. What is behind it goes on as if it had just come.

use super::addresses::{Beginning, ProxyProtocol};
use super::conn::{Flags, Protocol, StateEvent};
use super::core::{Chain, Core};
use super::service::Services;
use super::slab::Handle;
use super::work::FRAME;
use super::{read, tls};
use crate::mesh::{Cause, Refused};
use edgehold_wire::proxy_protocol::{self, Fault, Header, MAX_V2, Version};

/// A client has come, and has a slot: what is it to say first?
pub(super) fn begin(core: &mut Core, who: Handle) {
    let conn = &mut core.slab[who.slot];
    match core.addresses.beginning(conn.origin, conn.peer) {
        Beginning::Plain => go_on(core, who),
        Beginning::Header => {
            conn.step(StateEvent::Announced);
            core.watch(who.slot);
            core.list(who.slot);
        }
        Beginning::Stranger => {
            core.counters.proxy_strangers += 1;
            conn.step(StateEvent::Accepted);
            refuse(core, who, "a PROXY header is required, and this address is not in `proxy_protocol.from`");
        }
    }
}

/// What comes now is for TLS, or a request head.
fn go_on(core: &mut Core, who: Handle) {
    let is_secure = admit(core, who);
    core.slab[who.slot].since = core.clock.now();
    core.watch(who.slot);
    core.list(who.slot);
    if is_secure {
        tls::greet(core, who);
    }
}

/// Into the state in which a client is heard. Whether it speaks TLS.
pub(super) fn admit(core: &mut Core, who: Handle) -> bool {
    let conn = &mut core.slab[who.slot];
    let is_secure = core.tls.has_listener(usize::from(conn.origin));
    conn.step(if is_secure { StateEvent::Greeted } else { StateEvent::Accepted });
    conn.flags.set(Flags::TLS, is_secure);
    if core.bare.get(usize::from(conn.origin)) == Some(&true) {
        conn.protocol = Protocol::Raw;
    }
    is_secure
}

/// Bytes have come of a connection whose header is awaited. They are counted once, whoever reads them.
pub(super) fn received<S: Services>(core: &mut Core, service: &mut S, who: Handle, bytes: &mut [u8]) {
    let counted = core.counters.bytes_in + bytes.len() as u64;
    core.slab[who.slot].last_received = core.clock.now();
    core.work.add(FRAME);
    core.work.add_copied(bytes.len());
    if core.side.spilled(core.slab[who.slot].side) > 0 {
        joined(core, service, who, bytes);
    } else if let Some(len) = header(core, who, bytes) {
        hand_on(core, service, who, &mut bytes[len..]);
    } else {
        keep(core, who, bytes);
    }
    core.counters.bytes_in = counted;
}

/// As [`received`], behind what had come before.
fn joined<S: Services>(core: &mut Core, service: &mut S, who: Handle, bytes: &mut [u8]) {
    let mut all = Vec::new();
    let side = core.slab[who.slot].side;
    if let Some(cold) = core.side.get(side) {
        core.pool.read_draft_front(&cold.spill, MAX_V2, &mut all);
    }
    let kept = all.len();
    // All of it is looked at again, however little has come.
    core.work.add_copied(kept);
    all.extend_from_slice(bytes);
    let Some(len) = header(core, who, &all) else { return keep(core, who, bytes) };
    if let Some(cold) = core.side.get_mut(side) {
        core.pool.skip_draft(&mut cold.spill, kept);
    }
    core.side.tidy(&mut core.slab[who.slot].side);
    hand_on(core, service, who, &mut all[len..]);
}

/// What is behind the header.
fn hand_on<S: Services>(core: &mut Core, service: &mut S, who: Handle, bytes: &mut [u8]) {
    let conn = &core.slab[who.slot];
    let (listener, peer) = (conn.origin, conn.peer);
    // Now its client is known, unless that is another proxy.
    if !core.addresses.is_trusted(listener, peer) && !core.admit_or_cut(who, peer.address().ip()) {
        return;
    }
    go_on(core, who);
    match core.slab[who.slot].flags.contains(Flags::TLS) {
        _ if bytes.is_empty() => {}
        true => tls::received(core, service, who, bytes),
        false => read::received(core, service, who, bytes),
    }
}

/// Keeps the beginning of a header, unless the connection is ending.
fn keep(core: &mut Core, who: Handle, bytes: &[u8]) {
    let is_awaited = core.slab[who.slot].reads();
    if is_awaited && core.put(who, Chain::Spill, [bytes, b""]).is_err() {
        core.overloaded(who);
    }
}

/// Takes the header that these bytes begin with. How many bytes it has: none where it may be missing, and is. `None`:
/// it is not whole, or the connection is cut for it.
fn header(core: &mut Core, who: Handle, bytes: &[u8]) -> Option<usize> {
    let rules = core.addresses.rules(core.slab[who.slot].origin);
    let may_be_missing = rules.is_none_or(|it| it.proxy_protocol != ProxyProtocol::Required);
    match proxy_protocol::read(bytes) {
        Ok(None) => None,
        Ok(Some(header)) => {
            take(core, who, &header);
            Some(header.len)
        }
        Err(Fault::Absent) if may_be_missing => Some(0),
        Err(fault) => {
            core.counters.proxy_faults[fault as usize] += 1;
            refuse(core, who, fault.words());
            None
        }
    }
}

fn take(core: &mut Core, who: Handle, header: &Header) {
    core.counters.proxy_headers[usize::from(header.version == Version::V2)] += 1;
    if let Some(addresses) = header.addresses {
        core.take_addresses(who.slot, addresses);
    }
}

/// Nothing can be said to somebody whose protocol is not known.
fn refuse(core: &mut Core, who: Handle, words: &str) {
    core.counters.refusals[Refused::ProxyHeader as usize] += 1;
    let (now, peer) = (core.clock.now(), core.slab[who.slot].peer.address());
    if core.addresses.refused.meet(now) {
        tracing::warn!(shard = core.shard, %peer, "a connection is cut: {words}; more of them are only counted");
    }
    core.cut(who, Cause::ProxyHeader);
}

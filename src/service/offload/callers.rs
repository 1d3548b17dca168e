//! Connections of a shard to brokers: which address is called next, and when.

use crate::mesh::{Numbered, ServiceKind, UpstreamCounters};
use crate::service::upstreams::{Call, Places, Upstream};
use crate::shard::service::{Address, Desk, Dial};
use crate::shard::slab::Handle;
use std::net::SocketAddr;

/// The addresses of brokers, as one service of a shard knows them.
pub struct Callers {
    upstreams: Numbered<Upstream>,
}

/// What a call is for.
pub(in crate::service) struct Callee<'p> {
    /// Numbers of the addresses.
    pub upstreams: &'p [u32],
    /// How long one may take to answer, in ticks.
    pub connect_ticks: u32,
    /// Number of the limits that hold for the connection.
    pub limits: u16,
    /// Whose connection it is.
    pub service: ServiceKind,
}

/// Nobody was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum NotCalled {
    /// No address may be called for now: all have failed, or none is known yet.
    Nobody,
    /// All slots of the shard are taken.
    Full,
}

impl Callers {
    pub(in crate::service) fn new(places: &Places) -> Callers {
        let upstreams = places.upstreams.iter().flatten().map(|placed| Upstream::new(placed, places.backoff)).collect();
        Callers { upstreams }
    }

    /// Other addresses are in force.
    pub(in crate::service) fn exchange(&mut self, desk: &mut Desk<'_>, places: &Places) {
        let counters = &mut desk.counters().upstreams;
        counters.resize(places.upstreams.len().max(counters.len()), UpstreamCounters::default());
        let kept = |upstream: &mut Upstream, _| upstream.backoff = places.backoff;
        self.upstreams.exchange(places.upstreams.iter().map(Option::as_ref), kept, |_, placed| {
            Upstream::new(placed, places.backoff)
        });
    }

    /// A name leads elsewhere now.
    pub(in crate::service) fn moved(&mut self, upstream: u32, addresses: &[SocketAddr]) {
        if let Some(upstream) = self.upstreams.current_mut(upstream as usize) {
            upstream.addresses = addresses.iter().copied().map(Address::Tcp).collect();
            upstream.preferred = 0;
        }
    }

    /// Calls the next address that may be called: of the upstream that was called last, or of another one. The
    /// connection is the service's by this token.
    pub(in crate::service) fn call(
        &mut self,
        desk: &mut Desk<'_>,
        call: &mut Call,
        to: &Callee<'_>,
        token: u32,
    ) -> Result<Handle, NotCalled> {
        let has_next = call.addresses_tried > 0
            && self.upstreams.current(call.upstream).is_some_and(|it| call.addresses_tried < it.addresses.len());
        if !has_next {
            self.choose(desk, call, to)?;
        }
        self.dial(desk, call, to, token)
    }

    fn choose(&mut self, desk: &Desk<'_>, call: &mut Call, to: &Callee<'_>) -> Result<(), NotCalled> {
        let now = desk.now();
        to.upstreams.iter().for_each(|&number| self.upstreams[number as usize].heed(now));
        call.skip_older(to.upstreams, &self.upstreams);
        let Some((place, number)) = call.choose(to.upstreams, &self.upstreams, now) else {
            call.tried = 0;
            return Err(NotCalled::Nobody);
        };
        let upstream = &mut self.upstreams[number as usize];
        call.tried |= 1 << place;
        (call.upstream, call.verdict, call.answered) = (number as usize, upstream.verdict, false);
        (call.addresses_tried, call.address) = (0, upstream.preferred);
        upstream.is_called(now, to.connect_ticks);
        Ok(())
    }

    fn dial(&mut self, desk: &mut Desk<'_>, call: &mut Call, to: &Callee<'_>, token: u32) -> Result<Handle, NotCalled> {
        let upstream = &mut self.upstreams[call.upstream];
        if upstream.addresses.is_empty() {
            return Err(NotCalled::Nobody);
        }
        call.address = (call.address + usize::from(call.addresses_tried > 0)) % upstream.addresses.len();
        call.addresses_tried += 1;
        let dial = Dial {
            to: upstream.addresses[call.address].clone(),
            first: Vec::new(),
            tls: upstream.tls.clone(),
            upstream: call.upstream as u16,
            service: to.service,
            limits: to.limits,
            timeout: to.connect_ticks,
            spare: call.spare,
        };
        let handle = desk.dial(dial, token).ok_or(NotCalled::Full)?;
        upstream.connections += 1;
        if let Some(counters) = desk.counters().upstreams.get_mut(call.upstream) {
            counters.connections += 1;
            counters.dials += 1;
        }
        Ok(handle)
    }

    /// The broker has answered, and has let the edge in.
    pub(in crate::service) fn answered(&mut self, call: &mut Call) {
        (call.answered, call.tried) = (true, 0);
        self.upstreams[call.upstream].answered(call.address);
    }

    /// The connection is gone.
    pub(in crate::service) fn closed(&mut self, desk: &mut Desk<'_>, call: &mut Call) {
        let upstream = &mut self.upstreams[call.upstream];
        upstream.connections -= 1;
        let failed = !call.answered && call.addresses_tried >= upstream.addresses.len();
        if failed {
            upstream.failed(desk.now(), call.verdict);
        }
        if let Some(counters) = desk.counters().upstreams.get_mut(call.upstream) {
            counters.connections -= 1;
            counters.failures += u64::from(failed);
        }
        if call.answered {
            *call = Call::default();
        }
    }
}

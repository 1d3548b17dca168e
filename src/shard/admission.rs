//! How many at once: what a client is counted under, from the accept until its slot is free again.
//!
//! The table of counts is one for the whole server (`mesh::Tallies`). A shard remembers by slot at which places of it a
//! connection is counted, and undoes that once, when it releases the slot. Nothing is read of who is refused here, and
//! nothing is sent to it: whoever comes too often is to cost an accept and a close, and no more.

use super::core::Core;
use super::shares::Waits;
use super::slab::Handle;
use super::trouble::Trouble;
use crate::mesh::{Cause, Counters, Entered, Entry, Excess, Lists, Most, Place, Refused, Tallies, lowest};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// What shards share of who may come in, and how many.
#[derive(Clone, Debug)]
pub struct Admission {
    /// What all shards count in.
    pub tallies: Arc<Tallies>,
    /// When the server began: the clock of the rates.
    pub begun: Instant,
    /// By listener; `None`, and those behind the end: everybody may.
    pub addresses: Vec<Option<AddressLimits>>,
}

/// Who may come to a listener, and how many of each address prefix.
#[derive(Clone, Debug)]
pub struct AddressLimits {
    /// Bits of an IPv4 address that are counted as one.
    pub ipv4_prefix: u8,
    /// Bits of an IPv6 address that are counted as one.
    pub ipv6_prefix: u8,
    /// What a prefix may have; guests are those of which no request has passed the gate yet.
    pub most: Most,
    /// Who may come at all.
    pub lists: Arc<Lists>,
    /// Listeners with the same number count together.
    pub scope: u16,
    /// Nobody is refused; who would be is counted.
    pub dry_run: bool,
}

impl AddressLimits {
    /// The prefix that an address is counted under.
    fn prefix(&self, address: IpAddr) -> IpAddr {
        let address = address.to_canonical();
        lowest(address, if address.is_ipv4() { self.ipv4_prefix } else { self.ipv6_prefix })
    }
}

/// What a shard has of it.
pub(super) struct AdmissionTable {
    shared: Admission,
    /// By slot, where its address is counted.
    addresses: Marks,
    /// By slot, where its route is.
    pub(super) routes: Marks,
    /// By slot, where it is counted as a client of its route.
    pub(super) clients: Marks,
    /// When those are read again who have sent too fast.
    pub(super) waits: Waits,
    /// Clients that are refused.
    refused: Trouble,
    /// Clients that would be.
    spared: Trouble,
}

impl AdmissionTable {
    /// One that lets everybody in.
    pub(super) fn new(capacity: u32) -> AdmissionTable {
        let shared = Admission { tallies: Arc::new(Tallies::new(1)), begun: Instant::now(), addresses: Vec::new() };
        let [addresses, routes, clients] = [(); 3].map(|()| Marks::new(capacity));
        let (refused, spared, waits) = Default::default();
        AdmissionTable { shared, addresses, routes, clients, waits, refused, spared }
    }

    /// With these limits, before the first client.
    pub(super) fn set(&mut self, shared: Admission) {
        self.shared = shared;
    }

    /// When the server began.
    pub(super) fn begun(&self) -> Instant {
        self.shared.begun
    }

    /// What all shards count in.
    pub(super) fn tallies(&self) -> &Tallies {
        &self.shared.tallies
    }

    /// What an address is counted under at a listener.
    pub(super) fn prefix(&self, listener: u16, address: IpAddr) -> IpAddr {
        let usual = || lowest(address.to_canonical(), if address.to_canonical().is_ipv4() { 32 } else { 64 });
        self.limits(listener).map_or_else(usual, |limits| limits.prefix(address))
    }

    fn limits(&self, listener: u16) -> Option<&AddressLimits> {
        self.shared.addresses.get(usize::from(listener))?.as_ref()
    }

    /// Tells of the first one that is refused, and of none after it while others follow.
    fn tell(&mut self, shard: usize, (address, refused): (IpAddr, Refused), dry_run: bool, now: u32) {
        let reason = refused.word();
        if dry_run && self.spared.meet(now) {
            let words = "a client would be refused, but for dry_run; more are only counted";
            tracing::warn!(shard, %address, reason, "{words}");
        } else if !dry_run && self.refused.meet(now) {
            tracing::warn!(shard, %address, reason, "a client is refused at the accept; more are only counted");
        }
    }

    /// What clients met and meet no longer.
    pub(super) fn look_at_troubles(&mut self, shard: usize, now: u32) {
        if let Some(times) = self.refused.over(now) {
            tracing::info!(shard, times, "no client is refused at the accept any more");
        }
        if let Some(times) = self.spared.over(now) {
            tracing::info!(shard, times, "no client would be refused at the accept any more");
        }
    }
}

/// The places at which the connections of a shard are counted, by slot: four bytes each, which are there when they were
/// written.
pub(super) struct Marks(Vec<u32>);

/// In a mark: the connection is a guest there.
const GUEST: u32 = 1 << 31;

impl Marks {
    fn new(capacity: u32) -> Marks {
        Marks(Vec::with_capacity(capacity as usize))
    }

    pub(super) fn set(&mut self, slot: u32, place: Place, guest: bool) {
        if self.0.len() <= slot as usize {
            self.0.resize(slot as usize + 1, 0);
        }
        self.0[slot as usize] = (place.to_raw() + 1) | if guest { GUEST } else { 0 };
    }

    /// The mark of a slot, which has none any more: its place, and whether it is a guest there.
    pub(super) fn take(&mut self, slot: u32) -> Option<(Place, bool)> {
        let mark = std::mem::take(self.0.get_mut(slot as usize)?);
        (mark != 0).then(|| (Place::from_raw((mark & !GUEST) - 1), mark & GUEST != 0))
    }

    /// The place of a slot that has a mark.
    pub(super) fn get(&self, slot: u32) -> Option<Place> {
        let mark = *self.0.get(slot as usize)?;
        (mark != 0).then(|| Place::from_raw((mark & !GUEST) - 1))
    }

    /// The slot's connection is no guest any more. `None`: it was none.
    fn take_guest(&mut self, slot: u32) -> Option<Place> {
        let mark = self.0.get_mut(slot as usize).filter(|mark| **mark & GUEST != 0)?;
        *mark &= !GUEST;
        Some(Place::from_raw(*mark - 1))
    }
}

impl Core {
    /// A client's address is known: it is held against the lists and limits of its listener and counted, under this
    /// address alone from now on. Who has none, behind a unix socket, always may.
    ///
    /// # Errors
    /// It may not come in, which has been counted; what it was counted under before it is not any more.
    pub(super) fn admit(&mut self, who: Handle, address: IpAddr) -> Result<(), Refused> {
        self.forget(who.slot);
        let listener = self.slab[who.slot].origin;
        let Some(limits) = self.admission.limits(listener).filter(|_| !address.is_unspecified()) else { return Ok(()) };
        let dry_run = limits.dry_run;
        let refused = self.refusal_of(who.slot, address);
        let Some(refused) = refused else { return Ok(()) };
        let row = if dry_run { &mut self.counters.refusals_spared } else { &mut self.counters.refusals };
        row[refused as usize] += 1;
        self.admission.tell(self.shard, (address, refused), dry_run, self.clock.now());
        if dry_run { Ok(()) } else { Err(refused) }
    }

    /// As [`Core::admit`], and the connection ends where it may not come in; whether it may.
    pub(super) fn admit_or_cut(&mut self, who: Handle, address: IpAddr) -> bool {
        let admitted = self.admit(who, address).is_ok();
        if !admitted {
            self.cut(who, Cause::Admission);
        }
        admitted
    }

    fn refusal_of(&mut self, slot: u32, address: IpAddr) -> Option<Refused> {
        let listener = self.slab[slot].origin;
        let limits = self.admission.limits(listener)?;
        let stranger = !limits.lists.admit(address);
        if stranger && !limits.dry_run {
            return Some(Refused::Network);
        }
        let excess = if limits.most == Most::ALL { None } else { self.count_address(slot, address) };
        if stranger { Some(Refused::Network) } else { excess.map(reason) }
    }

    /// Counts the connection under its address; what it is too much of.
    fn count_address(&mut self, slot: u32, address: IpAddr) -> Option<Excess> {
        let limits = self.admission.limits(self.slab[slot].origin)?;
        let tallies = &self.admission.shared.tallies;
        let key = tallies.key((limits.scope, limits.prefix(address)));
        let entry = Entry { key, most: &limits.most, guest: true, forced: limits.dry_run };
        let entered = tallies.enter(&entry, self.clock.nanos());
        count(&mut self.counters, &entered);
        entered.place.into_iter().for_each(|place| self.admission.addresses.set(slot, place, true));
        entered.excess
    }

    /// A request of the connection has passed the gate: its client is no stranger any more.
    pub(in crate::shard) fn authenticated(&mut self, slot: u32) {
        if let Some(place) = self.admission.addresses.take_guest(slot) {
            self.admission.shared.tallies.is_no_guest(place);
        }
    }

    /// The connection is counted nowhere any more.
    pub(super) fn forget(&mut self, slot: u32) {
        if let Some((place, guest)) = self.admission.addresses.take(slot) {
            self.counters.tallies_left += u64::from(self.admission.shared.tallies.leave(place, guest));
        }
    }
}

fn reason(excess: Excess) -> Refused {
    match excess {
        Excess::Connections => Refused::AddressConnections,
        Excess::Guests => Refused::AddressUnauthenticated,
        Excess::Rate => Refused::AddressRate,
    }
}

/// Counts what became of a connection that was to be counted.
pub(super) fn count(counters: &mut Counters, entered: &Entered) {
    counters.tallies_entered += u64::from(entered.first);
    counters.tallies_forgotten += u64::from(entered.forgotten);
    counters.tallies_uncounted += u64::from(entered.place.is_none() && entered.excess.is_none());
}

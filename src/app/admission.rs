//! Who may come in, and how many: from what was written to what shards share.

use super::config::{Addresses, Config, Shares};
use super::derive::Derived;
use super::failure::Failure;
use crate::control::lists::{KeptLists, ListSources};
use crate::mesh::{CONNECTIONS_MAX, Most, Rate, Tallies};
use crate::shard::service::{AddressLimits, Admission};
use std::sync::Arc;
use std::time::Instant;

/// Entries of the table of tallies for each slot: where each client has an address of its own the table is half full,
/// which leaves room in one of two buckets for all but nobody (mesh::tallies_tests).
const ENTRIES_PER_SLOT: u64 = 2;

/// What shards share of it, and the lists whose files are read again.
pub(super) struct Admitting {
    pub(super) shared: Admission,
    pub(super) lists: Arc<[Arc<KeptLists>]>,
}

impl Admitting {
    /// Reads the files of the lists.
    ///
    /// # Errors
    /// One of them cannot be used any more.
    pub(super) fn new(config: &Config, derived: &Derived) -> Result<Admitting, Failure> {
        let mut lists = Vec::new();
        let common = limits(&config.addresses, ("*", 0), &mut lists)?;
        let mut addresses = Vec::new();
        for (scope, listener) in (1..).zip(&config.listeners) {
            let own = listener.admission.as_ref().map(|it| limits(it, (&listener.name, scope), &mut lists));
            addresses.push(own.unwrap_or_else(|| Ok(common.clone()))?);
        }
        let by_address = addresses.iter().flatten().any(|it| it.most != Most::ALL);
        let slots = derived.shards as u64 * u64::from(derived.slots_per_shard + derived.spare_slots);
        let by_client = config.routes.iter().any(|it| it.shares != Shares::default());
        let kinds = u64::from(by_address) + u64::from(by_client);
        let tallies = Tallies::new(kinds * ENTRIES_PER_SLOT * slots);
        let shared = Admission { tallies: Arc::new(tallies), begun: Instant::now(), addresses };
        Ok(Admitting { shared, lists: lists.into() })
    }
}

/// `None`: everybody may come in.
fn limits(
    written: &Addresses,
    (listener, scope): (&str, u16),
    lists: &mut Vec<Arc<KeptLists>>,
) -> Result<Option<AddressLimits>, Failure> {
    let (sources, most) = (sources(written), most(written));
    let is_listed = sources != ListSources::default();
    if !is_listed && most == Most::ALL {
        return Ok(None);
    }
    let kept = Arc::new(KeptLists::new(listener, sources).map_err(Failure::List)?);
    let limits = AddressLimits {
        ipv4_prefix: written.ipv4_prefix as u8,
        ipv6_prefix: written.ipv6_prefix as u8,
        most,
        lists: kept.lists.clone(),
        scope,
        dry_run: written.dry_run,
    };
    lists.extend(is_listed.then_some(kept));
    Ok(Some(limits))
}

fn sources(written: &Addresses) -> ListSources {
    ListSources {
        allow: written.allow.clone(),
        deny: written.deny.clone(),
        allow_files: written.allow_files.clone(),
        deny_files: written.deny_files.clone(),
    }
}

fn most(written: &Addresses) -> Most {
    let or_all = |limit: u32| if limit == 0 { CONNECTIONS_MAX } else { limit };
    let burst = if written.burst == 0 { written.rate } else { written.burst };
    Most {
        connections: or_all(written.connections),
        guests: or_all(written.unauthenticated),
        connects: (written.rate > 0).then_some(Rate { rate: written.rate, burst }),
    }
}

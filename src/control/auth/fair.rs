//! No client fills a queue for all others: of the questions of a kind that wait or are under way, those of one address
//! prefix may be a part only.

use super::stats::Kind;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Of what may wait, one client may have one in so many.
const PART: u64 = 4;

/// How many questions of each kind clients have.
#[derive(Clone, Default)]
pub(super) struct Fair(Arc<Mutex<Held>>);

type Held = HashMap<(Kind, IpAddr), u64>;

impl Fair {
    /// A client asks one more where `most` of all clients may wait. `None`: it has its part of them. Who has no
    /// address, behind a unix socket, is not told from others.
    pub(super) fn take(&self, kind: Kind, client: Option<IpAddr>, most: u64) -> Option<Taken> {
        let Some(client) = client else { return Some(Taken { fair: self.clone(), key: None }) };
        let mut held = self.lock();
        let its = held.entry((kind, client)).or_default();
        if *its >= (most / PART).max(1) {
            return None;
        }
        *its += 1;
        drop(held);
        Some(Taken { fair: self.clone(), key: Some((kind, client)) })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's question, until it is dropped.
pub(super) struct Taken {
    fair: Fair,
    key: Option<(Kind, IpAddr)>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut held = self.fair.lock();
        if let Some(its) = held.get_mut(&key) {
            *its -= 1;
            if *its == 0 {
                held.remove(&key);
            }
        }
    }
}

//! A fault of ours costs the connection in which it showed, not the process.
//!
//! An event that the table of states does not know, an index out of range or a failed expectation panics. Where that
//! happens for one connection it is counted and told, the connection is closed, and the shard goes on: safe code leaves
//! memory whole, however wrong its numbers. What concerns the ring and its buffers is not guarded (`Ring::turn`,
//! `Ring::next`): where the kernel's word cannot be trusted the shard ends, and the server with it.
//!
//! In builds with debug assertions nothing is caught, since a test must see its panic, unless it asks for it
//! ([`Shard::survive_faults`]).

use super::Shard;
use super::conn::{Flags, State};
use super::service::Services;
use crate::engine::Ring;
use crate::mesh::Cause;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

impl<R: Ring, S: Services> Shard<R, S> {
    /// Catches faults as a release build does, whatever this build is.
    pub fn survive_faults(&mut self) {
        self.rethrows = false;
    }

    /// Does what is to be done for a connection, or, without one, for a service.
    pub(super) fn guarded(&mut self, slot: Option<u32>, work: impl FnOnce(&mut Self)) {
        // What is half done when it unwinds belongs to the connection, which ends, or is counted anew by the next
        // settling.
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) else { return };
        if self.rethrows {
            resume_unwind(panic);
        }
        self.core.counters.faults += 1;
        if let Some(slot) = slot.filter(|&slot| slot < self.core.slab.touched()) {
            self.close_faulty(slot);
        } else {
            tracing::error!("a fault of edgehold itself: please report it with the lines above");
        }
    }

    fn close_faulty(&mut self, slot: u32) {
        let conn = &mut self.core.slab[slot];
        tracing::error!(
            peer = %conn.peer.address(),
            service = conn.service.word(),
            state = ?conn.state,
            "a fault of edgehold itself closes this connection: please report it with the lines above"
        );
        if !matches!(conn.state, State::Free | State::Accept | State::Leaving) {
            conn.cause = Some(Cause::Fault);
            self.core.cut(self.core.slab.handle(slot), Cause::Fault);
        }
        // It may have been taken off the list without having been settled.
        self.core.slab[slot].flags.remove(Flags::LISTED);
        self.core.list(slot);
    }
}

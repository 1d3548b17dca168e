//! Questions under way, and who waits for their answers.
//!
//! Clients that show the same wait for one answer. Both those who wait and the questions have a bound; a question whose
//! answer never comes is forgotten after a while, so that no fault elsewhere uses the bound up.

use crate::mesh::Fingerprint;
use crate::shard::slab::Handle;
use slab::Slab;
use std::collections::{HashMap, HashSet};

/// Ticks after which an answer is not waited for any more: ten times as long as any route's `auth.timeout` may be.
const FORGOTTEN: u32 = 4 * 600;

/// A client that waits.
struct Waiter {
    caller: Waiting,
    question: u32,
}

/// Who waits, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// With a request.
    Request(Handle),
    /// With new credentials on an open connection, which may end meanwhile without a word.
    Connection(Handle),
}

/// What is asked.
struct Asked {
    of: Fingerprint,
    waiters: Vec<u32>,
    since: u32,
}

/// All questions of a shard.
pub(super) struct Questions {
    waiters: Slab<Waiter>,
    asked: HashMap<u32, Asked>,
    by_fingerprint: HashMap<Fingerprint, u32>,
    /// Open connections that wait: each for one answer at a time.
    connections: HashSet<(u32, u32)>,
    next: u32,
    most: usize,
}

impl Questions {
    /// At most so many at one time.
    pub(super) fn new(most: usize) -> Questions {
        let (waiters, asked, by_fingerprint) = (Slab::new(), HashMap::new(), HashMap::new());
        Questions { waiters, asked, by_fingerprint, connections: HashSet::new(), next: 0, most }
    }

    /// A client waits for the answer to a question that is under way: by this token. `None`: there is none such.
    pub(super) fn join(&mut self, caller: Waiting, of: Fingerprint) -> Option<u32> {
        let question = *self.by_fingerprint.get(&of)?;
        let token = self.wait(caller, question);
        self.asked.get_mut(&question)?.waiters.push(token);
        Some(token)
    }

    fn wait(&mut self, caller: Waiting, question: u32) -> u32 {
        if let Waiting::Connection(who) = caller {
            self.connections.insert((who.slot, who.generation));
        }
        self.waiters.insert(Waiter { caller, question }) as u32
    }

    /// Whether an open connection waits for an answer already.
    pub(super) fn has(&self, who: Handle) -> bool {
        self.connections.contains(&(who.slot, who.generation))
    }

    /// Whether there is room for one more question.
    pub(super) fn has_room(&mut self, now: u32) -> bool {
        if self.asked.len() >= self.most {
            self.forget_old(now);
        }
        self.asked.len() < self.most
    }

    /// The number of the next question.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// The next question was asked, for this client; returns the token by which it waits.
    pub(super) fn begin(&mut self, caller: Waiting, of: Fingerprint, now: u32) -> u32 {
        let question = self.next;
        self.next = self.next.wrapping_add(1);
        let token = self.wait(caller, question);
        self.asked.insert(question, Asked { of, waiters: vec![token], since: now });
        self.by_fingerprint.insert(of, question);
        token
    }

    /// The answer to a question has come: of what it is, and who has waited. `None`: it was forgotten.
    pub(super) fn answered(&mut self, question: u32) -> Option<(Fingerprint, Vec<Waiting>)> {
        let asked = self.asked.remove(&question)?;
        self.by_fingerprint.remove(&asked.of);
        let waiters: Vec<Waiting> =
            asked.waiters.into_iter().map(|token| self.waiters.remove(token as usize).caller).collect();
        for caller in &waiters {
            if let Waiting::Connection(who) = caller {
                self.connections.remove(&(who.slot, who.generation));
            }
        }
        Some((asked.of, waiters))
    }

    /// A client waits no longer.
    pub(super) fn leave(&mut self, token: u32) {
        let Some(waiter) = self.waiters.try_remove(token as usize) else { return };
        if let Some(asked) = self.asked.get_mut(&waiter.question)
            && let Some(place) = asked.waiters.iter().position(|&it| it == token)
        {
            asked.waiters.swap_remove(place);
        }
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    fn forget_old(&mut self, now: u32) {
        let is_old = |asked: &Asked| now.saturating_sub(asked.since) > FORGOTTEN;
        let old: Vec<u32> = self.asked.iter().filter(|(_, asked)| is_old(asked)).map(|(number, _)| *number).collect();
        old.into_iter().for_each(|question| drop(self.answered(question)));
    }
}

//! The model of a connection: what it may receive, what it must, and what excuses a missing message.
//!
//! A subscription begins somewhere in a span of sequences, since the model does not see when the shard reads a
//! request: nothing up to `after` may come, all behind `before` must, and what lies between may be missing only in
//! front of the first that came. A notice of a gap excuses what lies between the messages around it. What a
//! policy may leave out is excused only for a subscriber that has stalled.

use super::feeds::{History, Published};
use super::reader::Transport;
use super::request;
use super::setup::Setup;
use edgehold::mesh::Body;
use edgehold::service::broadcast::Policy;
use std::collections::HashSet;

/// How far a subscriber must have received.
#[derive(Clone, Copy)]
pub enum Upto {
    /// All that there is.
    Now,
    /// What came before the last that it received.
    Received,
    /// This sequence.
    Sequence(u64),
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what comes.
    Live,
    /// Behind this sequence.
    Behind(u64),
    /// Behind this sequence, if its id, which is the feed's own, is still known; else as `Unknown`.
    Own(u64),
    /// With what comes or with all that is kept, and with a gap: the id means nothing.
    Unknown,
}

struct Sub {
    feed: u16,
    pattern: String,
    start: Start,
    after: u64,
    before: u64,
    /// What had been published when the subscriber learnt that it is subscribed.
    known: u64,
    /// Last values come first, until the subscriber was seen to have all of them.
    values: bool,
    values_end: u64,
    active: bool,
    first: Option<u64>,
    last: u64,
    received: HashSet<u64>,
    gaps: Vec<Excuse>,
    /// A notice of a gap came.
    notified: bool,
    /// The next message by a notice of a gap, and the last that had been published before it.
    next: Option<(Option<u64>, u64)>,
}

/// Messages behind `from` and before `to` are missed for a reason.
struct Excuse {
    from: u64,
    to: u64,
    open: bool,
}

/// The model of one connection.
pub struct Model {
    pub route: usize,
    policy: Policy,
    snapshot: bool,
    transport: Transport,
    /// It is sent payloads and nothing else: an empty one could be any.
    unnamed: bool,
    subs: Vec<Sub>,
    received: HashSet<u64>,
    newest: u64,
    /// Everything up to here was looked at and is not missing.
    looked: u64,
    /// It did not read for a while.
    pub stalled: bool,
    /// It may have been found slow before it learnt that it is subscribed, and has not caught up since.
    may_be_behind: bool,
    /// The id that it came with.
    given: Option<String>,
    /// The last that came.
    pub last: Option<u64>,
    open: bool,
    /// What had been published when it came.
    came: u64,
}

impl Sub {
    fn covers(&self, published: &Published) -> bool {
        self.feed == published.feed && request::covers(&self.pattern, published.channel)
    }

    /// The sequence behind which all must come.
    fn begin(&self) -> u64 {
        match self.first {
            _ if self.values && self.start == Start::Live => 0,
            Some(first) => (first - 1).min(self.before),
            None => self.before,
        }
    }

    fn is_due(&self, sequence: u64, upto: Upto) -> bool {
        let to = match upto {
            Upto::Now if self.active => u64::MAX,
            Upto::Sequence(sequence) => sequence,
            _ => self.last,
        };
        let excused = self.gaps.iter().any(|gap| (gap.from + 1..gap.to).contains(&sequence));
        sequence > self.begin() && sequence <= to && !excused
    }

    /// This message came, and could come by no other subscription.
    fn came(&mut self, sequence: u64, strict: bool) -> Option<String> {
        if sequence > self.after && sequence <= self.before {
            self.first = Some(self.first.map_or(sequence, |first| first.min(sequence)));
        }
        self.last = self.last.max(sequence);
        for gap in self.gaps.iter_mut().filter(|gap| gap.open) {
            (gap.to, gap.open) = (gap.to.min(sequence), false);
        }
        let (next, published) = self.next.take().filter(|_| strict && !self.values)?;
        let fits = next.map_or(sequence > published, |next| sequence == next);
        (!fits).then(|| format!("a gap before {next:?} was notified, and {sequence} came next"))
    }
}

impl Model {
    pub fn new(setup: &Setup, route: usize, transport: Transport, given: Option<String>) -> Model {
        Model {
            route,
            policy: setup.routes[route].slow.policy,
            snapshot: setup.routes[route].snapshot,
            transport,
            unnamed: transport == Transport::Raw
                || transport == Transport::Socket && setup.routes[route].body == Body::Plain,
            subs: Vec::new(),
            received: HashSet::new(),
            newest: 0,
            looked: 0,
            stalled: false,
            may_be_behind: false,
            given,
            last: None,
            open: false,
            came: u64::MAX,
        }
    }

    /// Subscribed, behind a sequence in this span at the latest.
    /// `known`: what had been published when the subscriber learnt of it, if it has.
    pub fn subscribe(&mut self, setup: &Setup, pattern: &str, start: Start, span: (u64, u64), known: Option<u64>) {
        let values = self.snapshot && matches!(start, Start::Live | Start::Unknown);
        let (after, before) = match start {
            Start::Live if values => (0, span.1),
            Start::Live => span,
            Start::Behind(sequence) | Start::Own(sequence) => (sequence, sequence),
            Start::Unknown => (0, span.1),
        };
        self.came = self.came.min(span.0);
        for feed in setup.feeds_of(self.route, pattern) {
            let pattern = pattern.to_string();
            self.subs.push(Sub {
                feed,
                pattern,
                start,
                after,
                before,
                known: known.unwrap_or(u64::MAX),
                values,
                values_end: u64::MAX,
                active: true,
                first: None,
                last: 0,
                received: HashSet::new(),
                gaps: Vec::new(),
                notified: false,
                next: None,
            });
        }
        if after < span.0 || matches!(start, Start::Own(_)) {
            (self.newest, self.looked) = (0, 0);
        }
    }

    pub fn unsubscribe(&mut self, pattern: &str) {
        self.subs.iter_mut().filter(|sub| sub.pattern == pattern).for_each(|sub| sub.active = false);
    }

    pub fn is_subscribed(&self, pattern: &str) -> bool {
        self.subs.iter().any(|sub| sub.active && sub.pattern == pattern)
    }

    pub fn patterns(&self) -> Vec<String> {
        let active = self.subs.iter().filter(|sub| sub.active);
        active.map(|sub| sub.pattern.clone()).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// What becomes of it when it is slow.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The response has come: whoever began live has begun by now.
    pub fn opened(&mut self, history: &History, gap: bool) -> Result<(), String> {
        self.open = true;
        for sub in &mut self.subs {
            sub.known = history.len();
            if matches!(sub.start, Start::Live | Start::Unknown) {
                sub.before = history.len();
            }
        }
        // Where only payloads are sent the head tells of gaps, and does not say of which channel.
        if gap && self.transport == Transport::Raw {
            let patterns = self.patterns();
            patterns.iter().for_each(|pattern| self.excuse(history, pattern, self.subs_from(pattern)));
        }
        if gap && self.given.is_none() { Err("a gap for somebody without an id".into()) } else { Ok(()) }
    }

    fn subs_from(&self, pattern: &str) -> u64 {
        self.subs.iter().filter(|sub| sub.pattern == pattern).map(|sub| sub.last.max(sub.after)).min().unwrap_or(0)
    }

    fn excuse(&mut self, history: &History, pattern: &str, from: u64) {
        for sub in self.subs.iter_mut().filter(|sub| sub.active && sub.pattern == pattern) {
            if matches!(sub.start, Start::Own(_)) && !sub.notified {
                (sub.start, sub.after, sub.before) = (Start::Unknown, 0, history.len());
                (sub.values, self.looked) = (self.snapshot, 0);
            }
            sub.notified = true;
            let from = if sub.last > 0 { sub.last } else { from };
            sub.gaps.push(Excuse { from, to: history.len() + 1, open: true });
        }
    }

    // ---- what comes ----

    /// An empty message has come that does not say which it is.
    ///
    /// # Errors
    /// All messages of its subscriptions have ids.
    pub fn empty(&self) -> Result<(), String> {
        if self.unnamed { Ok(()) } else { Err("an empty message without an id".into()) }
    }

    fn may_receive(&self, published: &Published, sequence: u64) -> bool {
        self.subs.iter().any(|sub| sub.active && sub.covers(published) && sequence > sub.after)
    }

    /// A message has come.
    ///
    /// # Errors
    /// It should not have.
    pub fn message(&mut self, history: &History, sequence: u64) -> Result<(), String> {
        let published = history.get(sequence);
        let name = || format!("{sequence} of {} (feed {})", published.channel, published.feed);
        if !self.may_receive(published, sequence) {
            return Err(format!("{} is not for it", name()));
        }
        if sequence <= self.newest {
            return Err(format!("{} came behind {}", name(), self.newest));
        }
        let covers = |sub: &&mut Sub| sub.active && sub.covers(published);
        let again =
            self.subs.iter_mut().filter(covers).all(|sub| sub.received.contains(&sequence) || sequence <= sub.after);
        if again {
            return Err(format!("{} came twice", name()));
        }
        if self
            .subs
            .iter()
            .any(|sub| sub.active && sub.covers(published) && sub.start == Start::Unknown && !sub.notified)
        {
            return Err(format!("{} came, and no gap was notified", name()));
        }
        (self.newest, self.last) = (sequence, Some(sequence));
        self.received.insert(sequence);
        let strict = !self.stalled;
        let mut covering: Vec<&mut Sub> = self.subs.iter_mut().filter(covers).collect();
        for sub in &mut covering {
            sub.received.insert(sequence);
        }
        let fault = match &mut covering[..] {
            [only] => only.came(sequence, strict),
            _ => None,
        };
        fault.map_or(Ok(()), Err)
    }

    /// A notice of a gap came.
    ///
    /// # Errors
    /// There was no gap.
    pub fn gap(
        &mut self,
        setup: &Setup,
        history: &History,
        gap: (&str, Option<&str>, Option<&str>),
    ) -> Result<(), String> {
        let (pattern, after, next) = gap;
        let next =
            next.map(|id| history.sequence_of(id).ok_or(format!("a gap before the unknown {id}"))).transpose()?;
        if !self.is_subscribed(pattern) {
            return Err(format!("a gap in {pattern}, which it does not receive"));
        }
        match after {
            None if self.policy == Policy::Gap && self.may_be_slow(history) => {}
            None => return Err(format!("a gap in {pattern} for one who keeps up")),
            Some(after) if self.given.as_deref() != Some(after) => return Err(format!("a gap behind {after}")),
            // A poll that is refused is sent notices of all its channels.
            Some(_) if self.transport != Transport::Poll && self.is_kept(setup, history, pattern) => {
                return Err(format!("a gap in {pattern} in vain"));
            }
            Some(_) => {}
        }
        self.excuse(history, pattern, self.subs_from(pattern));
        let patterns = self.patterns().len();
        let hidden = next.is_some_and(|next| self.unnamed && history.get(next).payload.is_empty());
        let alone = patterns == 1 && !hidden;
        for sub in self.subs.iter_mut().filter(|sub| sub.pattern == pattern && alone) {
            sub.next = Some((next, sub.last.max(sub.after)));
        }
        if patterns == 1 && after.is_some() {
            self.share_next(pattern);
        }
        Ok(())
    }

    /// What comes next may come from any feed: the word holds for the one that it comes from.
    fn share_next(&mut self, pattern: &str) {
        let feeds = self.subs.iter().filter(|sub| sub.active && sub.pattern == pattern).count();
        if feeds > 1 {
            self.subs.iter_mut().for_each(|sub| sub.next = None);
        }
    }

    /// All that was published behind the id is kept without doubt.
    fn is_kept(&self, setup: &Setup, history: &History, pattern: &str) -> bool {
        let kept = |sub: &Sub| {
            let keep = &setup.feeds[usize::from(sub.feed)].keep;
            let Start::Behind(from) = sub.start else { return false };
            let behind = (from + 1..=history.len()).filter(|&it| sub.covers(history.get(it)));
            let forever = keep.messages > 0 && keep.bytes == 1 << 30 && keep.age_ticks == 1 << 30;
            forever && behind.count() <= keep.messages as usize
        };
        self.subs.iter().filter(|sub| sub.active && sub.pattern == pattern).all(kept)
    }

    /// Sets the id of a command; one that means nothing must be answered with a notice of a gap.
    pub fn give(&mut self, id: Option<String>) {
        self.given = id;
    }

    // ---- what is missing ----

    /// The first message that should have come.
    pub fn missing(&mut self, history: &History, upto: Upto) -> Option<u64> {
        let is_known = |sub: &Sub| matches!(sub.start, Start::Behind(_));
        if !self.open && matches!(upto, Upto::Now) && !self.subs.iter().all(is_known) {
            return None;
        }
        let found = (self.looked + 1..=history.len()).find(|&sequence| self.is_missing(history, sequence, upto));
        if matches!(upto, Upto::Now) {
            self.looked = found.map_or(history.len(), |found| found - 1);
        }
        found
    }

    fn is_missing(&self, history: &History, sequence: u64, upto: Upto) -> bool {
        if self.received.contains(&sequence) {
            return false;
        }
        let published = history.get(sequence);
        let excused = self.is_excused(published);
        let due = |sub: &Sub| {
            let value = published.superseded && sub.values && sequence <= sub.values_end;
            sub.covers(published) && sub.is_due(sequence, upto) && !value
        };
        !excused && self.subs.iter().any(due)
    }

    /// It stalled; or it has still to receive what was published before it learnt that it is subscribed. The model did
    /// not know that this is due, so time did not wait for it, and to the shard it may be a client that takes nothing.
    pub fn may_be_slow(&self, history: &History) -> bool {
        let awaits = |sub: &Sub| {
            let unsure = sub.after + 1..=sub.known.min(history.len());
            let is_due = |it| sub.covers(history.get(it)) && !self.received.contains(&it);
            sub.active && self.newest <= sub.known && unsure.into_iter().any(is_due)
        };
        self.stalled || self.subs.iter().any(awaits)
    }

    /// Once a step: who may be slow may be sent less than all from then on, until it has caught up.
    pub fn look(&mut self, history: &History) {
        if self.stalled {
        } else if self.may_be_slow(history) {
            self.may_be_behind = true;
        } else if self.may_be_behind && self.missing(history, Upto::Now).is_none() {
            let skipped: Vec<u64> = (1..=history.len()).filter(|&it| self.is_skipped(history, it)).collect();
            self.received.extend(skipped);
            self.may_be_behind = false;
        }
    }

    /// It was not received, and is excused since the subscriber may have been slow.
    fn is_skipped(&self, history: &History, sequence: u64) -> bool {
        let published = history.get(sequence);
        let is_for_it = self.subs.iter().any(|sub| sub.active && sub.covers(published) && sequence > sub.after);
        is_for_it && !self.received.contains(&sequence) && self.is_excused(published)
    }

    fn is_excused(&self, published: &Published) -> bool {
        let untold = self.policy == Policy::Gap && self.transport == Transport::Raw;
        let unseen = self.unnamed && published.payload.is_empty();
        let slow = match self.policy {
            Policy::DropOldest => true,
            Policy::Conflate => published.superseded,
            Policy::Gap => untold,
            Policy::Close => false,
        };
        unseen || (self.stalled || self.may_be_behind) && slow
    }

    /// What is due to it: bytes, and the tick of the oldest.
    pub fn behind(&mut self, history: &History) -> (u64, Option<u32>) {
        if !self.open && self.transport != Transport::Poll && self.came < history.len() {
            // Its head is in flight, and with it what was published since.
            let due =
                (self.came + 1..=history.len()).filter(|&it| self.subs.iter().any(|sub| sub.covers(history.get(it))));
            return (due.map(|it| history.get(it).cost).sum(), Some(history.get(self.came + 1).tick));
        }
        let Some(first) = self.missing(history, Upto::Now) else { return (0, None) };
        let due = (first..=history.len()).filter(|&it| self.is_missing(history, it, Upto::Now));
        (due.map(|it| history.get(it).cost).sum(), Some(history.get(first).tick))
    }

    /// All that is due has come: last values do not excuse anything from now on. What was published before a subscriber
    /// came is not due, and may still be on its way: a subscriber has caught up when it has received the last message.
    pub fn settled(&mut self, history: &History) {
        if !self.open {
            return;
        }
        let received = &self.received;
        let newest = |sub: &Sub| (1..=history.len()).rev().find(|&it| sub.covers(history.get(it)));
        let has_caught_up = |sub: &&mut Sub| newest(sub).is_none_or(|newest| received.contains(&newest));
        self.subs.iter_mut().filter(has_caught_up).for_each(|sub| sub.values_end = sub.values_end.min(history.len()));
    }

    /// Describes a subscription that should have received a message.
    pub fn story(&self, history: &History, sequence: u64) -> String {
        let published = history.get(sequence);
        let sub = |sub: &Sub| {
            format!(
                "{} of feed {}: {:?}, {}..{}, first {:?}, last {}, active {}",
                sub.pattern, sub.feed, sub.start, sub.after, sub.before, sub.first, sub.last, sub.active
            )
        };
        let subs: Vec<String> = self.subs.iter().filter(|it| it.covers(published)).map(sub).collect();
        format!(
            "{sequence} of {} (feed {}) is missing of {}; {subs:?}",
            published.channel,
            published.feed,
            history.len()
        )
    }
}

//! The ear: what one connection may hear, what it must, and what excuses a missing message.
//!
//! A subscription begins somewhere in a span of sequences, since the model does not see when the shard reads a
//! request: nothing up to `after` may come, all behind `before` must, and what lies between may be missing only in
//! front of the first that came. A gap that was told excuses what lies between the messages around it. What a
//! policy may leave out is excused only for a listener that has stalled.

use super::feeds::{History, Said};
use super::house::House;
use super::reader::Way;
use super::request;
use edgehold::mesh::Body;
use edgehold::service::broadcast::Policy;
use std::collections::HashSet;

/// How far a listener must have heard.
#[derive(Clone, Copy)]
pub enum Upto {
    /// All that there is.
    Now,
    /// What came before the last that it heard.
    Heard,
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
    /// What had been said when the listener learnt that it is subscribed.
    known: u64,
    /// Last values come first, until the listener was seen to have all of them.
    values: bool,
    values_end: u64,
    active: bool,
    first: Option<u64>,
    last: u64,
    heard: HashSet<u64>,
    gaps: Vec<Excuse>,
    /// A gap was told.
    told: bool,
    /// What a gap said would come next, and what had been said when it was told.
    next: Option<(Option<u64>, u64)>,
}

/// Messages behind `from` and before `to` are missed for a reason.
struct Excuse {
    from: u64,
    to: u64,
    open: bool,
}

/// The model of one connection.
pub struct Ear {
    pub route: usize,
    policy: Policy,
    snapshot: bool,
    way: Way,
    /// It hears payloads and nothing else: an empty one could be any.
    unnamed: bool,
    subs: Vec<Sub>,
    heard: HashSet<u64>,
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
    /// What had been said when it came.
    came: u64,
}

impl Sub {
    fn covers(&self, said: &Said) -> bool {
        self.feed == said.feed && request::covers(&self.pattern, said.channel)
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
        let (next, said) = self.next.take().filter(|_| strict && !self.values)?;
        let fits = next.map_or(sequence > said, |next| sequence == next);
        (!fits).then(|| format!("a gap before {next:?} was told, and {sequence} came next"))
    }
}

impl Ear {
    pub fn new(house: &House, route: usize, way: Way, given: Option<String>) -> Ear {
        Ear {
            route,
            policy: house.routes[route].slow.policy,
            snapshot: house.routes[route].snapshot,
            way,
            unnamed: way == Way::Raw || way == Way::Socket && house.routes[route].body == Body::Plain,
            subs: Vec::new(),
            heard: HashSet::new(),
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

    /// Subscribed, behind a sequence in this span at the latest. `known`: what had been said when it learnt of that, if it
    /// has.
    pub fn subscribe(&mut self, house: &House, pattern: &str, start: Start, span: (u64, u64), known: Option<u64>) {
        let values = self.snapshot && matches!(start, Start::Live | Start::Unknown);
        let (after, before) = match start {
            Start::Live if values => (0, span.1),
            Start::Live => span,
            Start::Behind(sequence) | Start::Own(sequence) => (sequence, sequence),
            Start::Unknown => (0, span.1),
        };
        self.came = self.came.min(span.0);
        for feed in house.feeds_of(self.route, pattern) {
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
                heard: HashSet::new(),
                gaps: Vec::new(),
                told: false,
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
        if gap && self.way == Way::Raw {
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
            if matches!(sub.start, Start::Own(_)) && !sub.told {
                (sub.start, sub.after, sub.before) = (Start::Unknown, 0, history.len());
                (sub.values, self.looked) = (self.snapshot, 0);
            }
            sub.told = true;
            let from = if sub.last > 0 { sub.last } else { from };
            sub.gaps.push(Excuse { from, to: history.len() + 1, open: true });
        }
    }

    // ---- what comes ----

    /// An empty message has come that does not say which it is.
    ///
    /// # Errors
    /// All that it hears have ids.
    pub fn empty(&self) -> Result<(), String> {
        if self.unnamed { Ok(()) } else { Err("an empty message without an id".into()) }
    }

    fn hears(&self, said: &Said, sequence: u64) -> bool {
        self.subs.iter().any(|sub| sub.active && sub.covers(said) && sequence > sub.after)
    }

    /// A message has come.
    ///
    /// # Errors
    /// It should not have.
    pub fn message(&mut self, history: &History, sequence: u64) -> Result<(), String> {
        let said = history.get(sequence);
        let name = || format!("{sequence} of {} (feed {})", said.channel, said.feed);
        if !self.hears(said, sequence) {
            return Err(format!("{} is not for it", name()));
        }
        if sequence <= self.newest {
            return Err(format!("{} came behind {}", name(), self.newest));
        }
        let covers = |sub: &&mut Sub| sub.active && sub.covers(said);
        let again =
            self.subs.iter_mut().filter(covers).all(|sub| sub.heard.contains(&sequence) || sequence <= sub.after);
        if again {
            return Err(format!("{} came twice", name()));
        }
        if self.subs.iter().any(|sub| sub.active && sub.covers(said) && sub.start == Start::Unknown && !sub.told) {
            return Err(format!("{} came, and no gap was told", name()));
        }
        (self.newest, self.last) = (sequence, Some(sequence));
        self.heard.insert(sequence);
        let strict = !self.stalled;
        let mut covering: Vec<&mut Sub> = self.subs.iter_mut().filter(covers).collect();
        for sub in &mut covering {
            sub.heard.insert(sequence);
        }
        let fault = match &mut covering[..] {
            [only] => only.came(sequence, strict),
            _ => None,
        };
        fault.map_or(Ok(()), Err)
    }

    /// A gap was told.
    ///
    /// # Errors
    /// There was none to tell.
    pub fn gap(
        &mut self,
        house: &House,
        history: &History,
        gap: (&str, Option<&str>, Option<&str>),
    ) -> Result<(), String> {
        let (pattern, after, next) = gap;
        let next =
            next.map(|id| history.sequence_of(id).ok_or(format!("a gap before the unknown {id}"))).transpose()?;
        if !self.is_subscribed(pattern) {
            return Err(format!("a gap in {pattern}, which it does not hear"));
        }
        match after {
            None if self.policy == Policy::Gap && self.may_be_slow(history) => {}
            None => return Err(format!("a gap in {pattern} for one who keeps up")),
            Some(after) if self.given.as_deref() != Some(after) => return Err(format!("a gap behind {after}")),
            // A poll that is refused is told of all its channels.
            Some(_) if self.way != Way::Poll && self.is_kept(house, history, pattern) => {
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

    /// It stalled; or it has still to hear of what was said before it learnt that it is subscribed. The judge did not know
    /// that this is due, so time did not wait for it, and to the shard it may be a client that takes nothing.
    pub fn may_be_slow(&self, history: &History) -> bool {
        let awaits = |sub: &Sub| {
            let unsure = sub.after + 1..=sub.known.min(history.len());
            sub.active
                && self.newest <= sub.known
                && unsure.into_iter().any(|it| sub.covers(history.get(it)) && !self.heard.contains(&it))
        };
        self.stalled || self.subs.iter().any(awaits)
    }

    /// Once a step: who may be slow may be given less than all from then on, until it has caught up.
    pub fn look(&mut self, history: &History) {
        if self.stalled {
        } else if self.may_be_slow(history) {
            self.may_be_behind = true;
        } else if self.may_be_behind && self.missing(history, Upto::Now).is_none() {
            let skipped = (1..=history.len()).filter(|&it| self.is_skipped(history, it));
            let skipped: Vec<u64> = skipped.collect();
            self.heard.extend(skipped);
            self.may_be_behind = false;
        }
    }

    /// It was not heard and is excused for no other reason than that the listener may have been slow.
    fn is_skipped(&self, history: &History, sequence: u64) -> bool {
        let said = history.get(sequence);
        let is_for_it = self.subs.iter().any(|sub| sub.active && sub.covers(said) && sequence > sub.after);
        is_for_it && !self.heard.contains(&sequence) && self.is_excused(said)
    }

    /// All that was said behind the id is kept without doubt.
    fn is_kept(&self, house: &House, history: &History, pattern: &str) -> bool {
        let kept = |sub: &Sub| {
            let keep = &house.feeds[usize::from(sub.feed)].keep;
            let Start::Behind(from) = sub.start else { return false };
            let behind = (from + 1..=history.len()).filter(|&it| sub.covers(history.get(it)));
            let forever = keep.messages > 0 && keep.bytes == 1 << 30 && keep.age_ticks == 1 << 30;
            forever && behind.count() <= keep.messages as usize
        };
        self.subs.iter().filter(|sub| sub.active && sub.pattern == pattern).all(kept)
    }

    /// A gap must be told to one whose id means nothing.
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
        if self.heard.contains(&sequence) {
            return false;
        }
        let said = history.get(sequence);
        let excused = self.is_excused(said);
        let due = |sub: &Sub| {
            let value = said.superseded && sub.values && sequence <= sub.values_end;
            sub.covers(said) && sub.is_due(sequence, upto) && !value
        };
        !excused && self.subs.iter().any(due)
    }

    fn is_excused(&self, said: &Said) -> bool {
        let untold = self.policy == Policy::Gap && self.way == Way::Raw;
        let unseen = self.unnamed && said.payload.is_empty();
        let slow = match self.policy {
            Policy::DropOldest => true,
            Policy::Conflate => said.superseded,
            Policy::Gap => untold,
            Policy::Close => false,
        };
        unseen || (self.stalled || self.may_be_behind) && slow
    }

    /// What is due to it: bytes, and the tick of the oldest.
    pub fn behind(&mut self, history: &History) -> (u64, Option<u32>) {
        if !self.open && self.way != Way::Poll && self.came < history.len() {
            // Its head is on the way, and with it what was said since.
            let due =
                (self.came + 1..=history.len()).filter(|&it| self.subs.iter().any(|sub| sub.covers(history.get(it))));
            return (due.map(|it| history.get(it).cost).sum(), Some(history.get(self.came + 1).tick));
        }
        let Some(first) = self.missing(history, Upto::Now) else { return (0, None) };
        let due = (first..=history.len()).filter(|&it| self.is_missing(history, it, Upto::Now));
        (due.map(|it| history.get(it).cost).sum(), Some(history.get(first).tick))
    }

    /// All that is due has come: last values do not excuse anything from now on. What was said before a listener came
    /// is not due, and it may still be on its way through it: who has caught up has heard the last that there is.
    pub fn settled(&mut self, history: &History) {
        if !self.open {
            return;
        }
        let heard = &self.heard;
        let newest = |sub: &Sub| (1..=history.len()).rev().find(|&it| sub.covers(history.get(it)));
        let has_caught_up = |sub: &&mut Sub| newest(sub).is_none_or(|newest| heard.contains(&newest));
        self.subs.iter_mut().filter(has_caught_up).for_each(|sub| sub.values_end = sub.values_end.min(history.len()));
    }

    /// Who it is that should have heard a message.
    pub fn story(&self, history: &History, sequence: u64) -> String {
        let said = history.get(sequence);
        let sub = |sub: &Sub| {
            format!(
                "{} of feed {}: {:?}, {}..{}, first {:?}, last {}, active {}",
                sub.pattern, sub.feed, sub.start, sub.after, sub.before, sub.first, sub.last, sub.active
            )
        };
        let subs: Vec<String> = self.subs.iter().filter(|it| it.covers(said)).map(sub).collect();
        format!("{sequence} of {} (feed {}) is missing of {}; {subs:?}", said.channel, said.feed, history.len())
    }
}

//! What is counted of questions and of the sources of verdicts.

use crate::control::stats::{Count, Held};
use crate::mesh::Denied;
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A name and a password.
    Basic,
    /// A token.
    Jwt,
    /// A request, for another server.
    Forward,
    /// A name and a password, for a broker.
    Broker,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; KINDS] = [Kind::Basic, Kind::Jwt, Kind::Forward, Kind::Broker];

    /// As metrics show it.
    pub fn word(self) -> &'static str {
        ["basic", "jwt", "forward", "broker"][self as usize]
    }
}

/// How many kinds there are.
const KINDS: usize = 4;

/// Verdicts: one that lets in, and one for each reason.
const VERDICTS: usize = Denied::ALL.len() + 1;

/// What a verdict is called that lets in.
pub const ADMITTED: &str = "admitted";

/// Counters of questions by their kind.
#[derive(Debug, Default)]
pub struct AuthStats {
    asked: [Count; KINDS],
    verdicts: [[Count; VERDICTS]; KINDS],
    waiting: [Count; KINDS],
    under_way: [Count; KINDS],
    micros: [Count; KINDS],
    /// Users, keys, other servers, brokers, in the order of the configuration.
    pub sources: Vec<Arc<SourceState>>,
}

impl AuthStats {
    /// With these sources.
    pub(super) fn new(sources: Vec<Arc<SourceState>>) -> AuthStats {
        AuthStats { sources, ..AuthStats::default() }
    }

    pub(super) fn ask(&self, kind: Kind) {
        self.asked[kind as usize].add();
    }

    /// `None`: it lets in.
    pub(super) fn answer(&self, kind: Kind, denied: Option<Denied>, took: Duration) {
        self.verdicts[kind as usize][denied.map_or(0, |why| why as usize + 1)].add();
        self.micros[kind as usize].add_many(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// A question waits for its turn for as long as this lives.
    pub(super) fn wait(&self, kind: Kind) -> Held {
        self.waiting[kind as usize].hold()
    }

    /// A question is under way for as long as this lives.
    pub(super) fn work(&self, kind: Kind) -> Held {
        self.under_way[kind as usize].hold()
    }

    /// Questions that were asked.
    pub fn asked(&self, kind: Kind) -> u64 {
        self.asked[kind as usize].get()
    }

    /// Answers with their names.
    pub fn verdicts(&self, kind: Kind) -> impl Iterator<Item = (&'static str, u64)> {
        let names = std::iter::once(ADMITTED).chain(Denied::ALL.iter().map(|it| it.word()));
        names.zip(self.verdicts[kind as usize].iter().map(Count::get))
    }

    /// Gauge: questions that wait.
    pub fn waiting(&self, kind: Kind) -> u64 {
        self.waiting[kind as usize].get()
    }

    /// Gauge: questions under way.
    pub fn under_way(&self, kind: Kind) -> u64 {
        self.under_way[kind as usize].get()
    }

    /// Whole seconds that all answers have taken together.
    pub fn seconds(&self, kind: Kind) -> u64 {
        self.micros[kind as usize].get() / 1_000_000
    }
}

/// How a source of verdicts is: a file, a JWKS, another server.
#[derive(Debug, Default)]
pub struct SourceState {
    /// `users`, `keys`, `jwks`, `forward`, `broker`.
    pub kind: &'static str,
    /// The file or the URL.
    pub name: String,
    /// Users or keys that are in use.
    pub entries: Count,
    /// Times that it was read or asked, and was good.
    pub good: Count,
    /// Times that it was not.
    pub failures: Count,
    /// The second since 1970 in which it was good last; 0: never.
    good_at: Count,
    why: ArcSwapOption<String>,
}

impl SourceState {
    pub(super) fn new(kind: &'static str, name: String) -> Arc<SourceState> {
        Arc::new(SourceState { kind, name, ..SourceState::default() })
    }

    /// It is good, with so many entries.
    pub(super) fn succeed(&self, entries: usize) {
        self.good.add();
        self.entries.set(entries);
        self.good_at.set(unix() as usize);
        if self.why.swap(None).is_some() {
            tracing::info!(source = self.name, "auth: {} can be used again", self.kind);
        }
    }

    /// It is not, for this reason; what was good last stays in use. The first of several equal ones is logged.
    pub(super) fn fail(&self, why: &str) {
        self.failures.add();
        let before = self.why.swap(Some(Arc::new(why.to_owned())));
        if before.is_none_or(|before| *before != why) {
            let stays = if self.good_at.get() > 0 { "what was read before stays" } else { "nobody is let in by it" };
            tracing::warn!(source = self.name, why, "auth: {} cannot be used; {stays}", self.kind);
        }
    }

    /// Why it is not good now; `None`: it is.
    pub fn why(&self) -> Option<Arc<String>> {
        self.why.load_full()
    }

    /// It was good at some time.
    pub fn has_been_good(&self) -> bool {
        self.good_at.get() > 0
    }

    /// Seconds since it was good last; 0 where it never was.
    pub fn age(&self) -> u64 {
        if self.has_been_good() { unix().saturating_sub(self.good_at.get()) } else { 0 }
    }
}

/// Seconds since 1970.
pub(super) fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

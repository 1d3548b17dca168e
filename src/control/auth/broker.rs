//! The broker of the route is asked whether it lets in whoever has shown a name and a password, by a short session of
//! theirs ([`Logins`]). Of equal questions under way one is asked, whichever shards they are of, and both yes and no
//! are remembered; a broker that does not answer is neither.

use super::asked::Asked;
use super::fair::Fair;
use super::settings::BrokerAuthSettings;
use super::stats::{AuthStats, Kind, SourceState};
use super::wrong::Wrong;
use crate::control::brokers::Logins;
use crate::control::stats::Held;
use crate::mesh::{Denial, Denied, Fingerprint, Identity, Memory, Secret, WORD_BYTES, keyed_hasher};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::collections::HashMap;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Questions that may wait for one of `parallel` sessions, for each of these.
const QUEUE: u64 = 16;

/// Verdicts that are remembered of either kind, at most.
const VERDICTS: usize = 65_536;

/// A broker that is asked.
pub(super) struct Broker {
    settings: BrokerAuthSettings,
    logins: Logins,
    permits: Semaphore,
    state: Arc<SourceState>,
    stats: Arc<AuthStats>,
    begun: Instant,
    /// What credentials are known by.
    hasher: SipHasher24,
    known: Mutex<Known>,
}

/// What is known of credentials.
struct Known {
    good: Memory<Identity>,
    bad: Memory<()>,
    /// Questions that are asked, and who waits for each: of every shard once, at most.
    asked: HashMap<Fingerprint, Vec<Asked>>,
    wrong: Wrong,
}

/// Who has shown what.
struct Shown {
    user: Box<str>,
    password: Secret,
    client: Option<IpAddr>,
    of: Fingerprint,
    deadline: Instant,
}

impl Broker {
    pub(super) fn new(
        settings: BrokerAuthSettings,
        (logins, state): (Logins, Arc<SourceState>),
        stats: Arc<AuthStats>,
    ) -> Broker {
        let wrong = Wrong::new(settings.wrong_per_minute);
        let (good, bad) = (Memory::new(VERDICTS), Memory::new(VERDICTS));
        let known = Mutex::new(Known { good, bad, asked: HashMap::new(), wrong });
        let permits = Semaphore::new(settings.parallel as usize);
        Broker { settings, logins, permits, state, stats, begun: Instant::now(), hasher: keyed_hasher(), known }
    }

    /// So many questions may wait.
    pub(super) fn most(&self) -> u64 {
        u64::from(self.settings.parallel) * QUEUE
    }

    /// Answers at once what is known, what is nobody's name, and where too many wait; else when the broker has.
    pub(super) fn ask(
        self: &Arc<Self>,
        mut asked: Asked,
        (user, password): (&str, &Secret),
        client: Option<IpAddr>,
        (fair, most): (&Fair, u64),
    ) {
        let is_name = user.len() <= WORD_BYTES && !user.contains(char::is_control);
        if !is_name || !self.logins.can_say(user, password.reveal()) {
            return asked.deny(Denied::Malformed);
        }
        let (of, mut known) = (self.fingerprint(user, password), self.known());
        if let Some((verdict, keep)) = known.get(of, self.now()) {
            return asked.answer(verdict, keep);
        }
        if let Some(others) = known.asked.get_mut(&of) {
            return others.push(asked);
        }
        if known.wrong.is_over(client, Instant::now()) {
            return asked.deny(Denied::Rate);
        }
        asked.taken = fair.take(asked.kind, client, most);
        if asked.taken.is_none() || self.stats.waiting(asked.kind) >= most {
            return asked.deny(Denied::Busy);
        }
        let deadline = asked.deadline();
        let shown = Shown { user: user.into(), password: password.clone(), client, of, deadline };
        let turn = Turn { broker: self.clone(), shown, verdict: Err(Denied::Unavailable) };
        let wait = self.stats.wait(asked.kind);
        known.asked.insert(of, vec![asked]);
        drop(known);
        tokio::spawn(turn.run(wait));
    }

    /// # Errors
    /// Nobody has said yes or no.
    async fn verdict(&self, shown: &Shown, wait: Held) -> Result<bool, Denied> {
        let Ok(Ok(_permit)) = timeout_at(shown.deadline, self.permits.acquire()).await else {
            return Err(Denied::Busy);
        };
        drop(wait);
        let _under_way = self.stats.work(Kind::Broker);
        match self.logins.ask(&shown.user, &shown.password, shown.deadline).await {
            Ok(lets_in) => {
                self.state.succeed(0);
                Ok(lets_in)
            }
            Err(why) => {
                self.state.fail(&why.to_string());
                Err(Denied::Unavailable)
            }
        }
    }

    /// Remembers a verdict, and answers all who wait for it.
    fn settle(&self, shown: &Shown, verdict: Result<bool, Denied>) {
        let BrokerAuthSettings { remember, refused_remember, .. } = self.settings;
        let mut known = self.known();
        let (said, keep) = match verdict {
            Ok(true) => {
                let identity = identity(&shown.user);
                known.good.put(shown.of, identity.clone(), self.until(remember));
                (Ok(identity), remember)
            }
            Ok(false) => {
                known.wrong.count(shown.client, Instant::now());
                known.bad.put(shown.of, (), self.until(refused_remember));
                (Err(Denied::Password), refused_remember)
            }
            Err(why) => (Err(why), Duration::ZERO),
        };
        let asked = known.asked.remove(&shown.of).unwrap_or_default();
        drop(known);
        asked.into_iter().for_each(|it| it.answer(said.clone().map_err(Denial::new), keep));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fingerprint(&self, user: &str, password: &Secret) -> Fingerprint {
        let mut hasher = self.hasher;
        hasher.write_usize(user.len());
        hasher.write(user.as_bytes());
        hasher.write(password.reveal().as_bytes());
        hasher.finish128().as_u128()
    }

    /// Whole seconds since the start.
    fn now(&self) -> u32 {
        u32::try_from(self.begun.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    fn until(&self, keep: Duration) -> u32 {
        self.now().saturating_add(u32::try_from(keep.as_secs()).unwrap_or(u32::MAX))
    }
}

impl Known {
    /// A verdict that is remembered, and for how long it still holds.
    fn get(&self, of: Fingerprint, now: u32) -> Option<(Result<Identity, Denial>, Duration)> {
        let left = |until: u32| Duration::from_secs(u64::from(until - now));
        if let Some((identity, until)) = self.good.get(of, now) {
            return Some((Ok(identity.clone()), left(until)));
        }
        self.bad.get(of, now).map(|it| (Err(Denial::new(Denied::Password)), left(it.1)))
    }
}

/// A question on its way to the broker. Whatever becomes of it, those who wait for it are answered when it is dropped.
struct Turn {
    broker: Arc<Broker>,
    shown: Shown,
    verdict: Result<bool, Denied>,
}

impl Turn {
    async fn run(mut self, wait: Held) {
        self.verdict = self.broker.verdict(&self.shown, wait).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.broker.settle(&self.shown, self.verdict);
    }
}

/// The login is the name; a client without one is nobody.
fn identity(user: &str) -> Identity {
    Identity { name: user.into(), roles: [].into(), claims: [].into(), expires: None }
}

//! Who answers the shards' questions, by route: each is handed to a thread or a task, and answered exactly once.

use super::asked::{Answers, Asked};
use super::broker::Broker;
use super::fair::Fair;
use super::forward::{BRIEFLY, Forward};
use super::http::Client;
use super::jwks::Jwks;
use super::keys::KeySet;
use super::pool::Pool;
use super::settings::{AuthLimits, AuthSettings, JwtSettings, KeySource};
use super::signature;
use super::source::{FileSource, Reread, Source};
use super::stats::{AuthStats, Kind, SourceState, unix};
use super::token;
use super::users::Users;
use crate::control::brokers::{BrokerSettings, Logins};
use crate::mesh::{Credentials, Denial, Denied, Identity, Question, Secret, ShardNumber};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// For how long it is remembered that a password or a token is wrong. A user that is new, or a key that is, is let in
/// so much later at most.
const WRONG: Duration = Duration::from_secs(5);

/// All that can be asked, by the numbers of routes.
pub(in crate::control) struct Verifiers {
    routes: Vec<Option<Route>>,
    passwords: Pool,
    tokens: Pool,
    answers: Answers,
    stats: Arc<AuthStats>,
    fair: Fair,
}

/// What a route's `auth` asks.
struct Route {
    timeout: Duration,
    basic: Option<(Arc<Source<Users>>, Duration)>,
    jwt: Option<Arc<Tokens>>,
    forward: Option<Arc<Forward>>,
    broker: Option<Arc<Broker>>,
}

/// What verifies a route's tokens.
struct Tokens {
    settings: JwtSettings,
    keys: Arc<Source<KeySet>>,
    unknown: Arc<Notify>,
}

/// What has to go on beside the verifiers.
#[derive(Default)]
pub(in crate::control) struct Upkeep {
    files: Vec<Arc<dyn Reread>>,
    fetched: Vec<Jwks>,
}

impl Upkeep {
    /// Nothing has to.
    pub(in crate::control) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.fetched.is_empty()
    }

    /// Fetches what is fetched, and reads files again for each order, until the runtime ends.
    pub(in crate::control) async fn keep(self, orders: Arc<Notify>) {
        for jwks in self.fetched {
            tokio::spawn(jwks.keep());
        }
        loop {
            orders.notified().await;
            let files = self.files.clone();
            // The disk may be slow, and the thread has other work.
            let _ = tokio::task::spawn_blocking(move || files.iter().for_each(|it| it.reread())).await;
        }
    }
}

impl Verifiers {
    /// Of the routes by the numbers of their limits, and of all brokers. Reads files, and waits for the disk.
    ///
    /// # Errors
    /// As pthread_create(3).
    pub(in crate::control) fn start(
        (settings, brokers): (&[Option<AuthSettings>], &[BrokerSettings]),
        limits: AuthLimits,
        answers: Answers,
    ) -> io::Result<(Verifiers, Upkeep)> {
        signature::install();
        let mut sources = Sources::default();
        let mut of = |(number, it): (usize, &Option<AuthSettings>)| {
            let broker = brokers.iter().find(|it| usize::from(it.route) == number);
            it.as_ref().map(|it| sources.of(it, broker))
        };
        let found: Vec<_> = settings.iter().enumerate().map(&mut of).collect();
        sources.upkeep.files.iter().for_each(|it| it.reread());
        let stats = Arc::new(AuthStats::new(std::mem::take(&mut sources.states)));
        let route =
            |(settings, found): (&Option<AuthSettings>, Option<Found>)| Some(found?.route(settings.as_ref()?, &stats));
        let routes = settings.iter().zip(found).map(route).collect();
        // A server that asks nobody has no threads for it.
        let has = |kind: fn(&AuthSettings) -> bool| settings.iter().flatten().any(kind);
        let threads = |wanted: bool, threads: u32| if wanted { threads } else { 0 };
        let passwords = threads(has(|it| it.basic.is_some()), limits.password_threads);
        let passwords = Pool::start(Kind::Basic, passwords, limits.password_queue, &stats)?;
        let tokens = threads(has(|it| it.jwt.is_some()), limits.token_threads);
        let tokens = Pool::start(Kind::Jwt, tokens, limits.token_queue, &stats)?;
        let fair = Fair::default();
        Ok((Verifiers { routes, passwords, tokens, answers, stats, fair }, sources.upkeep))
    }

    /// What is counted.
    pub(in crate::control) fn stats(&self) -> Arc<AuthStats> {
        self.stats.clone()
    }

    /// Sees to it that a question is answered, once, about when its route's time is over at the latest.
    pub(in crate::control) fn ask(&self, shard: ShardNumber, question: Question) {
        let route = self.routes.get(usize::from(question.route)).and_then(Option::as_ref);
        let kind = match question.credentials {
            Credentials::Basic { .. } if route.is_some_and(|it| it.broker.is_some()) => Kind::Broker,
            Credentials::Basic { .. } => Kind::Basic,
            Credentials::Token(_) => Kind::Jwt,
            Credentials::Request(_) => Kind::Forward,
        };
        let timeout = route.map_or(Duration::ZERO, |it| it.timeout);
        let out = (self.answers.clone(), self.stats.clone());
        let mut asked = Asked::new((shard, question.number), kind, timeout, out);
        let Some(route) = route else { return };
        if let (Some(broker), Credentials::Basic { user, password }) = (&route.broker, &question.credentials) {
            let most = (&self.fair, broker.most());
            return broker.ask(asked, (user, password), question.client, most);
        }
        let Some(taken) = self.fair.take(kind, question.client, self.most(route, kind)) else {
            return asked.deny(Denied::Busy);
        };
        asked.taken = Some(taken);
        match question.credentials {
            Credentials::Basic { user, password } => self.ask_password(route, asked, user, password),
            Credentials::Token(token) => self.ask_token(route, asked, token),
            Credentials::Request(request) => {
                if let Some(forward) = &route.forward {
                    forward.ask(asked, &request);
                }
            }
        }
    }

    /// How many questions of a kind may wait.
    fn most(&self, route: &Route, kind: Kind) -> u64 {
        match kind {
            Kind::Basic => self.passwords.most(),
            Kind::Jwt => self.tokens.most(),
            Kind::Forward => route.forward.as_ref().map_or(0, |it| it.most()),
            Kind::Broker => 0,
        }
    }

    fn ask_password(&self, route: &Route, asked: Asked, user: Box<str>, password: Secret) {
        let Some((users, remember)) = route.basic.clone() else { return };
        if !self.passwords.has_room() {
            return asked.deny(Denied::Busy);
        }
        self.passwords.hand_over(move || {
            let users = users.now().filter(|_| !asked.is_late());
            match users.map(|users| users.identity(&user, password.reveal())) {
                None => asked.deny(Denied::Unavailable),
                Some(verdict) => answer(asked, verdict, remember, WRONG),
            }
        });
    }

    fn ask_token(&self, route: &Route, asked: Asked, token: Secret) {
        let Some(tokens) = route.jwt.clone() else { return };
        if !self.tokens.has_room() {
            return asked.deny(Denied::Busy);
        }
        self.tokens.hand_over(move || {
            let keys = tokens.keys.now().filter(|_| !asked.is_late());
            match keys.map(|keys| token::identity(token.reveal(), &keys, &tokens.settings, unix())) {
                None => asked.deny(Denied::Unavailable),
                Some(verdict) => tokens.answer(asked, verdict),
            }
        });
    }
}

impl Tokens {
    fn answer(&self, asked: Asked, verdict: Result<Identity, Denied>) {
        if matches!(verdict, Err(Denied::Key)) {
            self.unknown.notify_one();
        }
        let expires = verdict.as_ref().ok().and_then(|it| it.expires);
        let left = expires.map(|end| Duration::from_secs(end.saturating_sub(unix())));
        let keep = left.map_or(self.settings.remember, |left| left.min(self.settings.remember));
        // What the clock or a new key changes soon.
        let soon = matches!(verdict, Err(Denied::Key | Denied::NotYetValid));
        answer(asked, verdict, keep, if soon { BRIEFLY } else { WRONG });
    }
}

fn answer(asked: Asked, verdict: Result<Identity, Denied>, good: Duration, bad: Duration) {
    let keep = if verdict.is_ok() { good } else { bad };
    asked.answer(verdict.map_err(Denial::new), keep);
}

// ---- sources ----

/// Sources as they are found, each once, however many routes have it.
#[derive(Default)]
struct Sources {
    users: Vec<Arc<FileSource<Users>>>,
    files: Vec<Arc<FileSource<KeySet>>>,
    fetched: Vec<(JwtSettings, Arc<Source<KeySet>>, Arc<Notify>)>,
    states: Vec<Arc<SourceState>>,
    upkeep: Upkeep,
}

/// The sources of a route.
struct Found {
    users: Option<Arc<Source<Users>>>,
    keys: Option<(Arc<Source<KeySet>>, Arc<Notify>)>,
    forward: Option<Arc<SourceState>>,
    broker: Option<(Logins, Arc<SourceState>)>,
}

impl Found {
    fn route(self, settings: &AuthSettings, stats: &Arc<AuthStats>) -> Route {
        let tokens = |((keys, unknown), settings): ((Arc<_>, Arc<_>), &JwtSettings)| {
            Arc::new(Tokens { settings: settings.clone(), keys, unknown })
        };
        let forward = self.forward.zip(settings.forward.as_ref());
        let broker = self.broker.zip(settings.broker);
        Route {
            timeout: settings.timeout,
            basic: self.users.zip(settings.basic.as_ref().map(|it| it.remember)),
            jwt: self.keys.zip(settings.jwt.as_ref()).map(tokens),
            forward: forward.map(|(state, its)| Arc::new(Forward::new(its, state, stats.clone()))),
            broker: broker.map(|(of, its)| Arc::new(Broker::new(its, of, stats.clone()))),
        }
    }
}

impl Sources {
    fn of(&mut self, settings: &AuthSettings, broker: Option<&BrokerSettings>) -> Found {
        let forward = settings.forward.as_ref().map(|it| SourceState::new("forward", it.url.to_string()));
        let broker = settings.broker.and(broker).map(|it| {
            let logins = Logins::new(it);
            let state = SourceState::new("broker", logins.name());
            (logins, state)
        });
        let found = Found {
            users: settings.basic.as_ref().map(|it| self.users(&it.users)),
            keys: settings.jwt.as_ref().map(|it| self.keys(it)),
            forward: forward.clone(),
            broker,
        };
        self.states.extend(forward);
        self.states.extend(found.broker.as_ref().map(|it| it.1.clone()));
        found
    }

    fn users(&mut self, file: &std::path::Path) -> Arc<Source<Users>> {
        if let Some(known) = self.users.iter().find(|it| it.file == file) {
            return known.source.clone();
        }
        let new = Arc::new(FileSource::users(file.to_owned()));
        self.users.push(new.clone());
        self.upkeep.files.push(new.clone());
        self.states.push(new.source.state.clone());
        new.source.clone()
    }

    fn keys(&mut self, settings: &JwtSettings) -> (Arc<Source<KeySet>>, Arc<Notify>) {
        match &settings.keys {
            KeySource::File(file) => (self.key_file(file), Arc::default()),
            KeySource::Url(_) => self.jwks(settings),
        }
    }

    fn key_file(&mut self, file: &std::path::Path) -> Arc<Source<KeySet>> {
        if let Some(known) = self.files.iter().find(|it| it.file == file) {
            return known.source.clone();
        }
        let new = Arc::new(FileSource::keys(file.to_owned()));
        self.files.push(new.clone());
        self.upkeep.files.push(new.clone());
        self.states.push(new.source.state.clone());
        new.source.clone()
    }

    fn jwks(&mut self, settings: &JwtSettings) -> (Arc<Source<KeySet>>, Arc<Notify>) {
        let is_same = |it: &JwtSettings| it.keys == settings.keys && it.ca == settings.ca;
        if let Some((_, source, unknown)) = self.fetched.iter().find(|(it, ..)| is_same(it)) {
            return (source.clone(), unknown.clone());
        }
        let KeySource::Url(url) = &settings.keys else { unreachable!("a file was looked for before") };
        let (source, unknown) = (Source::new("jwks", url.to_string()), Arc::<Notify>::default());
        let client = Client::new(url.clone(), settings.ca.clone(), 0);
        let jwks = Jwks { source: source.clone(), client, refresh: settings.refresh, unknown: unknown.clone() };
        self.upkeep.fetched.push(jwks);
        self.states.push(source.state.clone());
        self.fetched.push((settings.clone(), source.clone(), unknown.clone()));
        (source, unknown)
    }
}
